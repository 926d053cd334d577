//! A small blocking client, a server in this process for it to talk to, and waiting with a deadline.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Once};
use std::time::{Duration, Instant};

use serde_json::Value;
use socket2::{Domain, Socket, Type};
use switchboard::action::{Action, ActionResult, ActionSpec, Reply, Request};
use switchboard::config::{Config, Secret};
use switchboard::net::listen::ListenAddress;
use switchboard::proto::close::CloseReason;
use switchboard::proto::id::ConnId;
use switchboard::server::{ServerBuilder, raise_file_limit};
use switchboard::{Node, Server};
use tokio::runtime::Runtime;

/// Longest wait for anything that must come.
pub(crate) const DEADLINE: Duration = Duration::from_secs(10);

/// Waits until `condition` holds.
#[track_caller]
pub(crate) fn eventually(what: &str, condition: impl FnMut() -> bool) {
    assert!(within(DEADLINE, condition), "in vain: {what}");
}

/// Whether `condition` holds within this time.
pub(crate) fn within(time: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + time;
    loop {
        if condition() {
            return true;
        }
        if Instant::now() >= end {
            return false;
        }
        // What is waited for makes no sound, so it is looked at now and then.
        std::thread::park_timeout(Duration::from_millis(2));
    }
}

/// A socket whose kernel takes very little that the client has not read.
pub(crate) fn narrow_socket(address: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    socket.connect(&address.into()).unwrap();
    TcpStream::from(socket)
}

/// A configuration for tests: free ports of the loopback, two workers.
pub(crate) fn config() -> Config {
    let mut config = Config::default();
    config.servers.socket.bind = "127.0.0.1".to_owned();
    config.servers.socket.port = 0;
    config.servers.web.bind = "127.0.0.1".to_owned();
    config.servers.web.port = 0;
    config.admin.enabled = false;
    config.node.workers = 2;
    config
}

/// The same with the admin API, which takes this token.
pub(crate) fn config_with_admin(token: &str) -> Config {
    let mut config = config();
    config.admin.enabled = true;
    config.admin.bind = "127.0.0.1".to_owned();
    config.admin.port = 0;
    config.admin.token = Secret::new(token);
    config
}

/// A server in this process, ended when it is dropped.
pub(crate) struct Running {
    runtime: Runtime,
    pub(crate) server: Option<Server>,
}

impl Running {
    pub(crate) fn start(config: Config) -> Self {
        Self::start_with(config, |builder| builder)
    }

    pub(crate) fn start_with(config: Config, adjust: impl FnOnce(ServerBuilder) -> ServerBuilder) -> Self {
        static LIMIT: Once = Once::new();
        LIMIT.call_once(raise_file_limit);
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let server = runtime.block_on(adjust(Server::builder(config)).start()).unwrap();
        Self { runtime, server: Some(server) }
    }

    pub(crate) fn node(&self) -> &Node {
        self.server.as_ref().unwrap().node()
    }

    pub(crate) fn address(&self) -> SocketAddr {
        match &self.server.as_ref().unwrap().addresses().socket {
            Some(ListenAddress::Tcp(address)) => *address,
            other => panic!("no TCP listener but {other:?}"),
        }
    }

    /// Where it speaks HTTP.
    pub(crate) fn web(&self) -> SocketAddr {
        self.server.as_ref().unwrap().web_addr().unwrap()
    }

    /// Where the admin API listens.
    pub(crate) fn admin(&self) -> SocketAddr {
        self.server.as_ref().unwrap().addresses().admin.unwrap()
    }

    pub(crate) fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }

    /// Begins the planned stop. What is returned waits for its end.
    pub(crate) fn stop(&mut self) -> tokio::task::JoinHandle<()> {
        self.runtime.spawn(self.server.take().unwrap().stop())
    }

    /// A connected client that has read its welcome.
    pub(crate) fn connect(&self) -> Peer<TcpStream> {
        let mut peer = self.connect_raw();
        peer.welcome();
        peer
    }

    pub(crate) fn connect_raw(&self) -> Peer<TcpStream> {
        Peer::over(TcpStream::connect(self.address()).unwrap())
    }

    /// A client whose kernel takes very little that it has not read.
    pub(crate) fn connect_narrow(&self) -> Peer<TcpStream> {
        let mut peer = Peer::over(narrow_socket(self.address()));
        peer.welcome();
        peer
    }

    pub(crate) fn connections(&self) -> usize {
        self.node().figures().connections
    }

    pub(crate) fn closed(&self, reason: CloseReason) -> u64 {
        self.node().figures().closed[reason.index()]
    }

    /// Waits until no connection is left and nothing of one is.
    #[track_caller]
    pub(crate) fn assert_empties(&self) {
        eventually("no connection is left", || self.connections() == 0);
        assert_eq!(self.node().connection_ids(), []);
    }

    /// What waits for a client; `None` when it is gone.
    pub(crate) fn outbox_bytes(&self, id: ConnId) -> Option<usize> {
        self.block_on(self.node().connection(id)).ok().map(|info| info.outbox_bytes)
    }
}

/// A socket that a [`Peer`] can be made over.
pub(crate) trait Wire: Read + Write {
    fn shutdown_write(&self);
}

impl Wire for TcpStream {
    fn shutdown_write(&self) {
        match self.shutdown(Shutdown::Write) {
            // The server was quicker.
            Err(error) if error.kind() == io::ErrorKind::NotConnected => {}
            result => result.unwrap(),
        }
    }
}

impl Wire for UnixStream {
    fn shutdown_write(&self) {
        self.shutdown(Shutdown::Write).unwrap();
    }
}

/// A blocking client of the line protocol. Whatever it waits for must come within [`DEADLINE`].
pub(crate) struct Peer<S> {
    pub(crate) wire: BufReader<S>,
}

impl Peer<TcpStream> {
    pub(crate) fn over(socket: TcpStream) -> Self {
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        socket.set_write_timeout(Some(DEADLINE)).unwrap();
        socket.set_nodelay(true).unwrap();
        Self { wire: BufReader::with_capacity(64 * 1024, socket) }
    }

    /// Ends the connection without a goodbye of TCP: the server gets a reset.
    pub(crate) fn reset(self) {
        let socket = Socket::from(self.wire.into_inner());
        socket.set_linger(Some(Duration::ZERO)).unwrap();
    }

    /// Writes what the server takes until it takes no more for a while, and returns how much it was.
    pub(crate) fn send_until_blocked(&mut self, bytes: &[u8], most: usize) -> usize {
        let socket = self.wire.get_mut();
        socket.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
        let mut sent = 0;
        while sent < most {
            // Goes on where it was cut, so that the server sees whole lines.
            match socket.write(&bytes[sent % bytes.len()..]) {
                Ok(written) => sent += written,
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => break,
                Err(error) => panic!("after {sent} bytes: {error}"),
            }
        }
        socket.set_write_timeout(Some(DEADLINE)).unwrap();
        sent
    }
}

impl Peer<UnixStream> {
    pub(crate) fn over_unix(socket: UnixStream) -> Self {
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        Self { wire: BufReader::new(socket) }
    }
}

impl<S: Read> Peer<S> {
    pub(crate) fn stream(stream: S) -> Self {
        Self { wire: BufReader::new(stream) }
    }
}

impl<S: Wire> Peer<S> {
    pub(crate) fn shutdown_write(&mut self) {
        self.wire.get_ref().shutdown_write();
    }
}

impl<S: Read + Write> Peer<S> {
    #[track_caller]
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let wire = self.wire.get_mut();
        wire.write_all(bytes.as_ref()).and_then(|()| wire.flush()).unwrap();
    }

    /// Sends one line.
    #[track_caller]
    pub(crate) fn say(&mut self, line: &str) {
        self.send(format!("{line}\r\n"));
    }

    /// The next line without its end; `None` when the server has closed.
    #[track_caller]
    pub(crate) fn try_line(&mut self) -> Option<String> {
        let mut line = Vec::new();
        match self.wire.read_until(b'\n', &mut line) {
            Ok(0) => None,
            Ok(_) => {
                let line = String::from_utf8(line).unwrap();
                Some(line.strip_suffix("\r\n").unwrap_or_else(|| panic!("a line without its end: {line:?}")).to_owned())
            }
            Err(error) if is_end(&error) => None,
            Err(error) => panic!("instead of a line: {error}"),
        }
    }

    #[track_caller]
    pub(crate) fn line(&mut self) -> String {
        self.try_line().unwrap_or_else(|| panic!("the server closed instead of sending a line"))
    }

    #[track_caller]
    pub(crate) fn json(&mut self) -> Value {
        let line = self.line();
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error} in {line:?}"))
    }

    /// Sends a line and reads one.
    #[track_caller]
    pub(crate) fn ask(&mut self, line: &str) -> Value {
        self.say(line);
        self.json()
    }

    /// Sends a verb that must be answered with OK, and returns its data.
    #[track_caller]
    pub(crate) fn ok(&mut self, line: &str) -> Value {
        let answer = self.ask(line);
        assert_eq!(answer["status"], "OK", "{line}: {answer}");
        answer["data"].clone()
    }

    #[track_caller]
    pub(crate) fn id(&mut self) -> ConnId {
        ConnId::parse(self.ok("detailsView")["id"].as_str().unwrap()).unwrap()
    }

    #[track_caller]
    pub(crate) fn welcome(&mut self) {
        assert_eq!(self.line(), r#"{"welcome":"Hello! Welcome to the actionhero api","context":"api"}"#);
    }

    #[track_caller]
    pub(crate) fn goodbye(&mut self) {
        assert_eq!(self.line(), r#"{"status":"Bye!","context":"api"}"#);
        self.end();
    }

    /// Exactly this many bytes.
    #[track_caller]
    pub(crate) fn raw(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        self.wire.read_exact(&mut bytes).unwrap();
        bytes
    }

    /// The server has closed, and said nothing more.
    #[track_caller]
    pub(crate) fn end(&mut self) {
        assert_eq!(self.try_line(), None);
    }

    /// All lines up to the server's end.
    #[track_caller]
    pub(crate) fn rest(&mut self) -> Vec<String> {
        std::iter::from_fn(|| self.try_line()).collect()
    }
}

fn is_end(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), ConnectionReset | BrokenPipe | UnexpectedEof)
}

/// A folder of one test, removed with everything in it.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("switchboard-it-{}-{count}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What cannot be removed stays in the system's folder for such things.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Memory of a process that is its own and in use, in bytes.
pub(crate) fn resident_bytes(pid: u32) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").trim().parse::<usize>().unwrap() * 1024
}

/// Blocks its worker until the test lets go.
pub(super) struct Block(pub(super) Arc<Mutex<()>>, pub(super) Arc<AtomicBool>);

impl Action for Block {
    fn spec(&self) -> ActionSpec {
        ActionSpec::new("block")
    }

    async fn run(&self, _: &mut Request) -> ActionResult {
        self.1.store(true, Ordering::Relaxed);
        drop(self.0.lock());
        Ok(Reply::new())
    }
}
