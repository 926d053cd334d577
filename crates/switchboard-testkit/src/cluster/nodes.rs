//! Several server processes that share a store.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use rustix::process::Signal;

use super::DEADLINE;
use super::history::{Event, Recorder};
use super::process::{Folder, Process, tail};
use super::proxy::FaultProxy;
use super::redis::RedisServer;
use super::redis_cluster::RedisCluster;
use crate::bench::probe::Probe;
use crate::bench::process::address_in_ready_line;
use crate::http::HttpClient;

/// The token of every node's admin API.
pub const ADMIN_TOKEN: &str = "token-of-the-tests";

/// How the nodes of a [`Cluster`] are started.
#[derive(Clone, Debug)]
pub struct ClusterOptions {
    program: PathBuf,
    nodes: usize,
    store: Option<Store>,
    pubsub: Option<Store>,
    prefix: String,
    is_proxied: bool,
    config: String,
    settings: Vec<String>,
}

/// A store as nodes are told of it.
#[derive(Clone, Debug)]
struct Store {
    /// What is before the address in its URL; the whole URL if it has none of its own.
    head: String,
    /// Where it is, if it is one server, which a proxy can stand in front of.
    address: Option<SocketAddr>,
}

impl Store {
    fn of_server(server: &RedisServer) -> Self {
        let head = server.url().strip_suffix(&server.address().to_string()).unwrap_or_default().to_owned();
        Self { head, address: Some(server.address()) }
    }

    /// A proxy in front of it, if it can have one and `is_proxied`.
    #[track_caller]
    fn proxy(&self, is_proxied: bool) -> Option<FaultProxy> {
        is_proxied.then(|| match self.address {
            Some(address) => FaultProxy::start(address),
            None => panic!("the servers of a Redis Cluster name each other: no proxy can stand in front of them"),
        })
    }

    fn url(&self, proxy: Option<&FaultProxy>) -> String {
        let address = proxy.map(FaultProxy::address).or(self.address);
        format!("{}{}", self.head, address.map(|address| address.to_string()).unwrap_or_default())
    }
}

impl ClusterOptions {
    /// So many nodes, named `a`, `b` and so on, that share nothing yet. `program` is `env!("CARGO_BIN_EXE_switchboard")`.
    pub fn new(program: &str, nodes: usize) -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let prefix = format!("test-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        Self {
            program: program.into(),
            nodes,
            store: None,
            pubsub: None,
            prefix,
            is_proxied: false,
            config: String::new(),
            settings: Vec::new(),
        }
    }

    /// They share this Redis.
    #[must_use]
    pub fn redis(self, server: &RedisServer) -> Self {
        Self { store: Some(Store::of_server(server)), ..self }
    }

    /// They share this Redis Cluster.
    #[must_use]
    pub fn redis_cluster(self, cluster: &RedisCluster) -> Self {
        Self { store: Some(Store { head: cluster.url(), address: None }), ..self }
    }

    /// What is published goes by this Redis instead.
    #[must_use]
    pub fn pubsub(self, server: &RedisServer) -> Self {
        Self { pubsub: Some(Store::of_server(server)), ..self }
    }

    /// What names in Redis begin with; every cluster of a test has its own unless two are to meet.
    #[must_use]
    pub fn prefix(self, prefix: &str) -> Self {
        Self { prefix: prefix.to_owned(), ..self }
    }

    /// Each node reaches Redis through a [`FaultProxy`] of its own, and that for what is published, if it is another one,
    /// through a second.
    #[must_use]
    pub fn proxied(self) -> Self {
        Self { is_proxied: true, ..self }
    }

    /// A setting of all nodes, as behind `--set`: `limits.slow_consumer=drop-oldest`.
    #[must_use]
    pub fn set(mut self, setting: &str) -> Self {
        self.settings.push(setting.to_owned());
        self
    }

    /// More of the configuration file of all nodes, such as `[[gateway.applications]]`.
    #[must_use]
    pub fn config(mut self, toml: &str) -> Self {
        self.config.push_str(toml);
        self.config.push('\n');
        self
    }

    /// Starts the nodes, and waits until all are ready.
    ///
    /// # Panics
    ///
    /// When one does not become ready within [`DEADLINE`].
    #[track_caller]
    pub fn start(self) -> Cluster {
        let cluster = self.prepare();
        for node in 0..cluster.len() {
            cluster.restart(node);
        }
        cluster
    }

    /// The nodes, none of which runs yet: [`Cluster::restart`] starts one.
    #[track_caller]
    pub fn prepare(self) -> Cluster {
        let folder = Folder::new("cluster");
        let nodes = (0..self.nodes).map(|index| self.node(index, &folder)).collect();
        Cluster { program: self.program, settings: self.settings, nodes, folder }
    }

    /// A node that does not run yet.
    #[track_caller]
    fn node(&self, index: usize, folder: &Folder) -> Node {
        let name = char::from(b'a' + index as u8).to_string();
        let [store, pubsub] = [&self.store, &self.pubsub].map(|store| {
            store.as_ref().map(|store| {
                let proxy = store.proxy(self.is_proxied);
                (store.url(proxy.as_ref()), proxy)
            })
        });
        let mut text = format!(
            "[node]\nname = \"{name}\"\nworkers = 2\ndata_dir = \"data-{name}\"\n\
             [servers.socket]\nbind = \"127.0.0.1\"\nport = 0\n[servers.web]\nbind = \"127.0.0.1\"\nport = 0\n\
             [admin]\nport = 0\ntoken = \"{ADMIN_TOKEN}\"\n"
        );
        if let Some((url, _)) = &store {
            text.push_str("[backend]\nkind = \"redis\"\n[backend.redis]\n");
            text.push_str(&format!("url = \"{url}\"\nprefix = \"{}\"\n", self.prefix));
        }
        if let Some((url, _)) = &pubsub {
            text.push_str(&format!("pubsub_url = \"{url}\"\n"));
        }
        text.push_str(&self.config);
        Node {
            config: folder.write(&format!("{name}.toml"), &text),
            log: folder.log(&format!("node-{name}")),
            name,
            place: Place::default(),
            process: Mutex::new(None),
            proxy: store.and_then(|(_, proxy)| proxy),
            pubsub_proxy: pubsub.and_then(|(_, proxy)| proxy),
        }
    }
}

/// Where a node listens at the moment: it has other ports each time that it is started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// For the line protocol.
    pub socket: SocketAddr,
    /// For HTTP, WebSockets and the gateway.
    pub web: SocketAddr,
    /// For the admin API.
    pub admin: SocketAddr,
}

/// Where a node listens, for clients that come back: shared by all clones, and empty while the node does not run.
#[derive(Clone, Debug, Default)]
pub struct Place(Arc<Mutex<Option<Addresses>>>);

impl Place {
    /// Its addresses, if it runs; a node that is paused does.
    pub fn find(&self) -> Option<Addresses> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, addresses: Option<Addresses>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = addresses;
    }
}

#[derive(Debug)]
struct Node {
    name: String,
    config: PathBuf,
    log: PathBuf,
    place: Place,
    process: Mutex<Option<Process>>,
    proxy: Option<FaultProxy>,
    pubsub_proxy: Option<FaultProxy>,
}

impl Node {
    fn process(&self) -> MutexGuard<'_, Option<Process>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Several server processes. Dropping it kills them; if the test fails, the ends of their logs are printed and the folder with
/// logs and configurations stays.
///
/// Nodes are named by their index. Methods may be called by any thread; those that wait end within [`DEADLINE`], and panic
/// otherwise.
#[derive(Debug)]
pub struct Cluster {
    program: PathBuf,
    settings: Vec<String>,
    nodes: Vec<Node>,
    /// Behind the nodes: they end before it goes.
    folder: Folder,
}

impl Cluster {
    /// How many nodes it has, running or not.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// The name of a node: `a`, `b` and so on.
    pub fn name(&self, node: usize) -> &str {
        &self.nodes[node].name
    }

    /// Where a node listens, to be looked up again whenever a client connects.
    pub fn place(&self, node: usize) -> Place {
        self.nodes[node].place.clone()
    }

    /// Where a node listens now.
    ///
    /// # Panics
    ///
    /// When it does not run.
    #[track_caller]
    pub fn addresses(&self, node: usize) -> Addresses {
        let found = self.nodes[node].place.find();
        found.unwrap_or_else(|| panic!("node {} does not run", self.name(node)))
    }

    /// Where a node listens for the line protocol.
    #[track_caller]
    pub fn socket_addr(&self, node: usize) -> SocketAddr {
        self.addresses(node).socket
    }

    /// Where a node listens for HTTP, WebSockets and the gateway.
    #[track_caller]
    pub fn web_addr(&self, node: usize) -> SocketAddr {
        self.addresses(node).web
    }

    /// Where a node's admin API is.
    #[track_caller]
    pub fn admin_addr(&self, node: usize) -> SocketAddr {
        self.addresses(node).admin
    }

    /// A client of a node's admin API that presents the token.
    #[track_caller]
    pub fn admin(&self, node: usize) -> HttpClient {
        HttpClient::new(self.admin_addr(node)).with_token(ADMIN_TOKEN)
    }

    /// The ids of a room's members as a node shows them; none if it knows no such room.
    ///
    /// # Panics
    ///
    /// When the node does not run, or answers with something else.
    #[track_caller]
    pub fn members(&self, node: usize, room: &str) -> Vec<String> {
        let answer = self.admin(node).ask("GET", &format!("/v1/rooms/{room}"));
        if answer.status == 404 {
            return Vec::new();
        }
        let room = answer.expect(200);
        room["members"].as_object().into_iter().flat_map(|members| members.keys().cloned()).collect()
    }

    /// Records the members of a room as a node shows them, for [`History::check_presence`](super::History::check_presence).
    #[track_caller]
    pub fn record_presence(&self, recorder: &Recorder, node: usize, room: &str) {
        let members = self.members(node, room).iter().map(|member| recorder.name(member)).collect();
        let (seen_by, room) = (recorder.name(self.name(node)), recorder.name(room));
        recorder.record(Event::Presence { seen_by, room, members });
    }

    /// What stands between a node and Redis.
    ///
    /// # Panics
    ///
    /// Without [`ClusterOptions::proxied`].
    #[track_caller]
    pub fn proxy(&self, node: usize) -> &FaultProxy {
        self.nodes[node].proxy.as_ref().unwrap_or_else(|| panic!("the cluster was started without proxies"))
    }

    /// What stands between a node and the Redis for what is published.
    ///
    /// # Panics
    ///
    /// Without [`ClusterOptions::proxied`] and [`ClusterOptions::pubsub`].
    #[track_caller]
    pub fn pubsub_proxy(&self, node: usize) -> &FaultProxy {
        self.nodes[node].pubsub_proxy.as_ref().unwrap_or_else(|| panic!("the cluster has no proxies for pub/sub"))
    }

    /// Kills a node (SIGKILL), if it runs, and waits until it is gone.
    pub fn kill(&self, node: usize) {
        let node = &self.nodes[node];
        node.place.set(None);
        if let Some(mut process) = node.process().take() {
            process.kill();
        }
    }

    /// Asks a node to stop as planned (SIGTERM).
    #[track_caller]
    pub fn begin_stop(&self, node: usize) {
        self.signal(node, Signal::TERM);
    }

    /// Waits until a node has stopped by itself, and returns how it ended.
    #[track_caller]
    pub fn await_stop(&self, node: usize) -> ExitStatus {
        let mut process = self.nodes[node].process();
        let Some(running) = process.as_mut() else { panic!("node {} does not run", self.name(node)) };
        let status = running.await_end();
        self.nodes[node].place.set(None);
        *process = None;
        status
    }

    /// Stops a node as planned (SIGTERM), waits until it has ended, and returns how.
    #[track_caller]
    pub fn stop(&self, node: usize) -> ExitStatus {
        self.begin_stop(node);
        self.await_stop(node)
    }

    /// Stops a node in the middle of whatever it does (SIGSTOP).
    #[track_caller]
    pub fn pause(&self, node: usize) {
        match &*self.nodes[node].process() {
            Some(process) => process.pause(),
            None => panic!("node {} does not run", self.name(node)),
        }
    }

    /// Lets a node go on (SIGCONT).
    #[track_caller]
    pub fn cont(&self, node: usize) {
        self.signal(node, Signal::CONT);
    }

    /// Starts a node, killing it first if it runs, and waits until it is ready. It has other ports then.
    #[track_caller]
    pub fn restart(&self, node: usize) {
        if let Err(reason) = self.try_restart(node) {
            panic!("node {} does not start: {reason}", self.name(node));
        }
    }

    /// The same where the node may refuse to start.
    ///
    /// # Errors
    ///
    /// With the end of its log, when it ended or stayed silent instead.
    pub fn try_restart(&self, node: usize) -> Result<(), String> {
        self.kill(node);
        let node = &self.nodes[node];
        let mut command = Command::new(&self.program);
        command.arg("--config").arg(&node.config).current_dir(self.folder.path()).stdout(Stdio::piped());
        for setting in &self.settings {
            command.args(["--set", setting]);
        }
        let mut process = Process::start(command, &node.log).map_err(|error| error.to_string())?;
        match await_ready(&mut process) {
            Some(addresses) => {
                *node.process() = Some(process);
                node.place.set(Some(addresses));
                Ok(())
            }
            None => {
                process.kill();
                Err(tail(&read(&node.log), 20).to_owned())
            }
        }
    }

    /// Whether a node's process is there; one that is paused is.
    pub fn is_running(&self, node: usize) -> bool {
        self.nodes[node].process().as_mut().is_some_and(|process| process.ended().is_none())
    }

    /// What a node has used of memory and time.
    ///
    /// # Panics
    ///
    /// When it does not run.
    #[track_caller]
    pub fn probe(&self, node: usize) -> Probe {
        match &*self.nodes[node].process() {
            Some(process) => Probe::new(process.id()),
            None => panic!("node {} does not run", self.name(node)),
        }
    }

    /// Everything that a node has logged, over all its starts.
    pub fn log(&self, node: usize) -> String {
        read(&self.nodes[node].log)
    }

    #[track_caller]
    fn signal(&self, node: usize, signal: Signal) {
        match &*self.nodes[node].process() {
            Some(process) => process.signal(signal),
            None => panic!("node {} does not run", self.name(node)),
        }
    }
}

/// Waits for the ready line of a node. `None`: it ended or stays silent. What it prints later is read and dropped.
fn await_ready(process: &mut Process) -> Option<Addresses> {
    let output = process.child().stdout.take()?;
    let (ready, is_ready) = sync_channel(1);
    thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            let [socket, web, admin] = ["socket", "web", "admin"].map(|name| address_in_ready_line(&line, name));
            if let (Some(socket), Some(web), Some(admin)) = (socket, web, admin) {
                // Nobody listens any more if it took too long; its output is drained all the same.
                let _ = ready.try_send(Addresses { socket, web, admin });
            }
        }
    });
    is_ready.recv_timeout(DEADLINE).ok()
}

fn read(log: &Path) -> String {
    fs::read_to_string(log).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::super::redis::RedisOptions;
    use super::*;

    fn config(cluster: &Cluster, node: usize) -> String {
        fs::read_to_string(&cluster.nodes[node].config).unwrap()
    }

    #[test]
    fn nodes_are_told_of_their_redis_by_way_of_their_proxies() {
        let store = RedisServer::start_with(RedisOptions::default().password("canary"));
        let pubsub = RedisServer::start();
        let options = || ClusterOptions::new("true", 2).redis(&store).config("[log]\nlevel = \"warn\"");
        let plain = options().prefix("here").prepare();
        for (node, name) in ["a", "b"].into_iter().enumerate() {
            let text = config(&plain, node);
            for expected in [
                &format!("name = \"{name}\"\n"),
                &format!("[backend.redis]\nurl = \"redis://:canary@{}\"\nprefix = \"here\"\n", store.address()),
                "[log]\nlevel = \"warn\"\n",
            ] {
                assert!(text.contains(expected), "{expected:?} is missing in {text}");
            }
        }
        let proxied = options().pubsub(&pubsub).proxied().prepare();
        for node in 0..2 {
            let (text, [proxy, other]) = (config(&proxied, node), [proxied.proxy(node), proxied.pubsub_proxy(node)]);
            assert!(text.contains(&format!("\nurl = \"redis://:canary@{}\"\n", proxy.address())), "{text}");
            assert!(text.contains(&format!("\npubsub_url = \"redis://{}\"\n", other.address())), "{text}");
        }
        assert_ne!(proxied.proxy(0).address(), proxied.proxy(1).address());
        assert!(!config(&ClusterOptions::new("true", 1).prepare(), 0).contains("[backend"));
    }

    #[test]
    fn a_program_that_is_never_ready_does_not_start() {
        let cluster = ClusterOptions::new("true", 1).prepare();
        assert!(cluster.try_restart(0).is_err() && !cluster.is_running(0) && cluster.place(0).find().is_none());
        assert!(ClusterOptions::new("/no/such/program", 1).prepare().try_restart(0).is_err());
    }
}
