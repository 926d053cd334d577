//! A server inside this process, and clients of it.

use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;

use switchboard::config::LoadOptions;
use switchboard::proto::face::Remote;
use switchboard::proto::id::ConnId;
use switchboard::server::ServerBuilder;
use switchboard::{Config, Node, Server};
use switchboard_testkit::client::{LineClient, PATIENCE};
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

/// A running server. It ends when this is dropped.
pub(crate) struct TestServer {
    server: Option<Server>,
    runtime: Option<Runtime>,
}

impl TestServer {
    /// Two workers, a free port, the default actions and rooms; no admin API.
    pub(crate) fn start() -> Self {
        Self::with(&[])
    }

    /// The same with other settings, each `key=value`.
    pub(crate) fn with(settings: &[&str]) -> Self {
        Self::build(settings, |builder| builder)
    }

    /// The same with actions, middleware and callbacks.
    pub(crate) fn build(settings: &[&str], build: impl FnOnce(ServerBuilder) -> ServerBuilder) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
        let start = build(Server::builder(config(settings))).start();
        let started = runtime.block_on(async { tokio::time::timeout(PATIENCE, start).await });
        let server = started.expect("a server starts in time").expect("a server starts");
        Self { server: Some(server), runtime: Some(runtime) }
    }

    pub(crate) fn server(&self) -> &Server {
        self.server.as_ref().expect("it runs until it is dropped")
    }

    /// Begins the planned stop. What is returned waits for its end.
    pub(crate) fn begin_stop(&mut self) -> JoinHandle<()> {
        let server = self.server.take().expect("it has not been stopped before");
        self.spawn(server.stop())
    }

    pub(crate) fn node(&self) -> &Node {
        self.server().node()
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.server().addresses().socket.as_ref().and_then(|address| address.tcp()).expect("it listens on TCP")
    }

    /// Where browsers connect.
    pub(crate) fn web_address(&self) -> SocketAddr {
        self.server().addresses().web.as_ref().and_then(|address| address.tcp()).expect("it listens on TCP")
    }

    /// Waits for a future, not for ever.
    #[track_caller]
    pub(crate) fn wait<F: Future>(&self, future: F) -> F::Output {
        let runtime = self.runtime.as_ref().expect("it runs until it is dropped");
        runtime.block_on(async { tokio::time::timeout(PATIENCE, future).await }).expect("nothing came in time")
    }

    /// Runs a future beside the test.
    pub(crate) fn spawn<T: Send + 'static>(&self, future: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
        self.runtime.as_ref().expect("it runs until it is dropped").spawn(future)
    }

    /// Stops as planned.
    #[track_caller]
    pub(crate) fn stop(mut self) {
        let server = self.server.take().expect("it runs until it is dropped");
        self.wait(server.stop());
    }

    /// A client that has read the welcome line.
    #[track_caller]
    pub(crate) fn connect(&self) -> LineClient {
        let mut client = LineClient::tcp(self.address()).expect("it listens");
        let welcome = client.read_json();
        assert_eq!(welcome["context"], "api", "{welcome}");
        client
    }

    /// So many of them, in rooms that they have joined.
    #[track_caller]
    pub(crate) fn connect_into(&self, count: usize, rooms: &[&str]) -> Vec<LineClient> {
        let join = |mut client: LineClient| {
            for room in rooms {
                let answer = client.ask(&format!("roomAdd {room}"));
                assert_eq!(answer["data"], true, "{answer}");
            }
            client
        };
        (0..count).map(|_| join(self.connect())).collect()
    }

    /// The id of a client's connection.
    #[track_caller]
    pub(crate) fn id_of(&self, client: &LineClient) -> ConnId {
        let address = client.local_address().expect("it came over TCP");
        self.find(address).expect("it is connected")
    }

    /// The connection that comes from this address.
    pub(crate) fn find(&self, address: SocketAddr) -> Option<ConnId> {
        let node = self.node();
        node.connection_ids()
            .into_iter()
            .find(|id| self.wait(node.connection(*id)).is_ok_and(|info| info.handle.remote() == Remote::from(address)))
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        drop(self.server.take());
        if let Some(runtime) = self.runtime.take() {
            // Actions of the test may still sleep.
            runtime.shutdown_background();
        }
    }
}

/// The configuration that tests start from, and settings, each `key=value`.
pub(crate) fn config(settings: &[&str]) -> Config {
    let mut set = vec![
        "node.workers=2".to_owned(),
        "servers.socket.bind=127.0.0.1".to_owned(),
        "servers.socket.port=0".to_owned(),
        "servers.web.bind=127.0.0.1".to_owned(),
        "servers.web.port=0".to_owned(),
        "admin.enabled=false".to_owned(),
        format!("files.root={}", public_folder().display()),
    ];
    set.extend(settings.iter().map(|&setting| setting.to_owned()));
    let options =
        LoadOptions { set, cwd: PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests"), ..Default::default() };
    Config::load(&options).expect("settings of a test are sound").config
}

/// The public folder of the tests.
pub(crate) fn public_folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/it/public")
}
