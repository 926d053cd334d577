//! Redis servers of tests: one single server and one that is a whole Redis Cluster, for as long as the process of the tests runs.
//!
//! Each test has a prefix of its own.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;
use tokio::sync::mpsc;

use super::directory::RedisDirectory;
use super::keys::Keys;
use super::link::{Link, LinkSettings, OnPush};
use super::nodes::{NodeSettings, Nodes};
use super::sessions::{Clock, Notify, RedisSessions};
use super::store::Store;
use crate::backend::cluster::ClusterEvent;
use crate::backend::contract::block_on;
use crate::backend::sessions::shards::ShardLimits;
use crate::config::RedisServers;
use crate::hub::ids::Ids;

/// How long a server may take until it answers.
const PATIENCE: Duration = Duration::from_secs(30);

/// A server that ends with this process, however that ends: a shell waits for its standard input to be closed.
#[derive(Debug)]
pub(crate) struct Server {
    port: u16,
    _shell: Child,
    /// What it says about itself, since it cannot say so while it is stopped.
    pid: OnceLock<String>,
}

impl Server {
    const SCRIPT: &str = r#"folder=$(mktemp -d) || exit 1
redis-server --port "$0" --bind 127.0.0.1 --dir "$folder" --save '' --appendonly no "$@" >"$folder/log" 2>&1 &
read -r _
kill -9 $!
wait
rm -rf "$folder""#;

    /// Starts one, with these arguments besides.
    pub(crate) fn start(arguments: &[&str]) -> Self {
        let has_server = Command::new("redis-server").arg("--version").stdout(Stdio::null()).status();
        assert!(
            has_server.is_ok_and(|status| status.success()),
            "redis-server is not installed: run `cargo xtask test`, or apt-get install redis-server"
        );
        let deadline = Instant::now() + PATIENCE;
        loop {
            let port = free_port();
            let mut shell = Command::new("sh");
            shell.args(["-c", Self::SCRIPT, &port.to_string()]).args(arguments).stdin(Stdio::piped());
            let server = Self { port, _shell: shell.spawn().unwrap(), pid: OnceLock::new() };
            // Somebody else may have taken the port meanwhile.
            if server.is_up() {
                return server;
            }
            assert!(Instant::now() < deadline, "redis-server does not start");
        }
    }

    fn is_up(&self) -> bool {
        let deadline = Instant::now() + PATIENCE / 6;
        while Instant::now() < deadline {
            if self.ask("PING").is_some_and(|answer| answer.starts_with("+PONG")) {
                return true;
            }
            std::thread::yield_now();
        }
        false
    }

    /// Where it is.
    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/0", self.port)
    }

    /// Sends its process a signal.
    pub(crate) fn signal(&self, name: &str) {
        let info = self.pid.get_or_init(|| self.ask("INFO server").unwrap());
        let process = info.lines().find_map(|line| line.strip_prefix("process_id:")).unwrap();
        assert!(Command::new("kill").args([&format!("-{name}"), process]).status().unwrap().success());
    }

    /// Asks one thing on a connection of its own.
    pub(crate) fn ask(&self, line: &str) -> Option<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).ok()?;
        stream.write_all(format!("{line}\r\nQUIT\r\n").as_bytes()).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        Some(answer)
    }
}

/// A port whose neighbour ten thousand further is free too: a Redis Cluster wants both.
fn free_port() -> u16 {
    loop {
        let port = fastrand::u16(20_000..30_000);
        let is_free = |port| TcpListener::bind(("127.0.0.1", port)).is_ok();
        if is_free(port) && is_free(port + 10_000) {
            return port;
        }
    }
}

fn settings(port: u16) -> LinkSettings {
    let servers = RedisServers::parse(&format!("redis://127.0.0.1:{port}/0")).unwrap();
    LinkSettings { servers, timeout: PATIENCE, in_flight_max: 10_000, queue_max: 10_000 }
}

/// The runtime of all connections: stores outlive what made them.
pub(crate) fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap())
}

/// A store on a server of tests, as one node has it. The first node of a test has number 0, as where there is only one.
pub(crate) struct TestStore {
    pub(crate) store: Store,
    prefix: String,
    /// Of the next node of a test.
    slots: Arc<AtomicU16>,
    port: u16,
}

/// On a single server, under a prefix that nobody else has.
pub(crate) fn single() -> TestStore {
    TestStore::begin(single_server().port)
}

/// The single server that all tests share.
pub(crate) fn single_server() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(|| Server::start(&[]))
}

/// On a Redis Cluster, under a prefix that nobody else has.
pub(crate) fn cluster() -> TestStore {
    TestStore::begin(cluster_server().port)
}

/// The server that is a whole Redis Cluster, which all tests share.
pub(crate) fn cluster_server() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(|| {
        let server = Server::start(&["--cluster-enabled", "yes"]);
        server.ask("CLUSTER ADDSLOTSRANGE 0 16383").unwrap();
        let deadline = Instant::now() + PATIENCE;
        while !server.ask("CLUSTER INFO").is_some_and(|info| info.contains("cluster_state:ok")) {
            assert!(Instant::now() < deadline, "the Redis Cluster does not come up");
            std::thread::yield_now();
        }
        server
    })
}

impl TestStore {
    /// On this server, under a prefix that no other test has.
    pub(crate) fn on(server: &Server) -> Self {
        Self::begin(server.port)
    }

    fn begin(port: u16) -> Self {
        let prefix = format!("test-{}", uuid::Uuid::new_v4());
        Self::open(prefix, Arc::default(), port)
    }

    fn open(prefix: String, slots: Arc<AtomicU16>, port: u16) -> Self {
        let link = runtime().block_on(Link::open(settings(port), None)).unwrap();
        let store = Store::new(link, Keys::new(&prefix));
        store.standing.set(store.link.serial().unwrap(), 1, slots.fetch_add(1, Ordering::Relaxed), fastrand::u64(..));
        store.standing.hold_until(u64::MAX);
        Self { store, prefix, slots, port }
    }

    /// Another node of the same cluster.
    pub(crate) fn another_node(&self) -> Self {
        Self::open(self.prefix.clone(), Arc::clone(&self.slots), self.port)
    }

    /// The node's number.
    pub(crate) fn slot(&self) -> u16 {
        self.store.standing.slot()
    }

    /// The session store of this node, which knows the applications of the contract and tells other nodes in scripts.
    /// Tests step its clock.
    pub(crate) fn sessions(&self, max_user_rooms: usize, limits: ShardLimits) -> RedisSessions {
        self.sessions_by(Clock::CALLER, max_user_rooms, limits)
    }

    /// The same by another clock.
    pub(crate) fn sessions_by(&self, clock: Clock, max_user_rooms: usize, limits: ShardLimits) -> RedisSessions {
        let _context = runtime().enter();
        let notify = Notify { in_script: true, channel_prefix: format!("{}:node:", self.prefix) };
        let applications = vec!["app".into(), "other".into()];
        RedisSessions::new(self.store.clone(), max_user_rooms, limits, applications, notify, clock)
    }

    /// The directory of a node of its own, which takes part in the cluster for as long as there is this.
    pub(crate) fn directory(&self, name: &str, lease: Duration) -> (RedisDirectory, mpsc::Receiver<ClusterEvent>) {
        let store = Self::open(self.prefix.clone(), Arc::clone(&self.slots), self.port).store;
        let settings = NodeSettings { name: name.to_owned(), cluster: "test".to_owned(), lease, started_ms: 0 };
        let (events, received) = mpsc::channel(64);
        let nodes = runtime().block_on(Nodes::join(store.clone(), settings, Ids::default(), events)).unwrap();
        (RedisDirectory::new(store, nodes), received)
    }

    /// Another connection, which listens to these channels.
    pub(crate) fn listen(&self, on_push: OnPush, channels: &[String]) -> Link {
        let (settings, channels) = (settings(self.port), channels.to_vec());
        runtime().block_on(async move {
            let link = Link::open(settings, Some(on_push)).await.unwrap();
            link.listen(&channels, true, false).await.unwrap();
            link
        })
    }

    /// Asks anything.
    pub(crate) fn ask(&self, words: &[&str]) -> redis::Value {
        let (command, arguments) = words.split_first().unwrap();
        let mut question = redis::cmd(command);
        question.arg(arguments);
        let asked = runtime().spawn({
            let link = self.store.link.clone();
            async move { link.query(question).await }
        });
        block_on(asked).unwrap().unwrap()
    }

    /// The names that are there, of this test.
    pub(crate) fn keys(&self) -> Vec<String> {
        let answer = self.ask(&["KEYS", &format!("{}:*", self.prefix)]);
        let mut keys: Vec<String> = redis::from_redis_value(answer).unwrap();
        keys.sort();
        keys
    }
}
