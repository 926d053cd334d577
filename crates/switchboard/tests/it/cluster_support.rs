//! Servers in this process that share a Redis, and their operators.

use switchboard_testkit::cluster::RedisServer;
use switchboard_testkit::http::HttpClient;

use super::admin::{TOKEN, anybody};
use super::peer::eventually;
use super::support::TestServer;

/// Nodes that know each other. They end when this is dropped.
pub(crate) struct Nodes {
    /// `None`: it was ended.
    servers: Vec<Option<TestServer>>,
    operators: Vec<HttpClient>,
    settings: Vec<String>,
    /// Behind the servers: it is there as long as they are.
    redis: RedisServer,
}

impl Nodes {
    /// So many of them, with an admin API each, a, b, c, and with these settings.
    pub(crate) fn start(count: usize, settings: &[&str]) -> Self {
        let redis = RedisServer::start();
        let mut all = vec![
            "backend.kind=redis".to_owned(),
            format!("backend.redis.url={}", redis.url()),
            // Nothing of it is waited for in vain but by tests that say so, and machines of tests are busy.
            "backend.redis.timeout=10s".to_owned(),
            "admin.enabled=true".to_owned(),
            "admin.port=0".to_owned(),
            format!("admin.token={TOKEN}"),
        ];
        all.extend(settings.iter().map(|&setting| setting.to_owned()));
        let mut nodes = Self { servers: Vec::new(), operators: Vec::new(), settings: all, redis };
        for _ in 0..count {
            nodes.add();
        }
        nodes
    }

    /// Starts one more.
    pub(crate) fn add(&mut self) {
        let name = format!("node.name={}", char::from(b'a' + u8::try_from(self.servers.len()).expect("few nodes")));
        let settings: Vec<&str> = self.settings.iter().map(String::as_str).chain([name.as_str()]).collect();
        let server = TestServer::with(&settings);
        self.operators.push(anybody(&server).with_token(TOKEN));
        self.servers.push(Some(server));
        self.until_they_know_each_other();
    }

    /// Waits until each node that runs knows exactly those that run.
    pub(crate) fn until_they_know_each_other(&self) {
        let running: Vec<_> = self.servers.iter().flatten().collect();
        let knows_all = || running.iter().all(|server| server.node().nodes().len() == running.len());
        eventually("all nodes know each other", knows_all);
    }

    /// One of them.
    #[track_caller]
    pub(crate) fn node(&self, index: usize) -> &TestServer {
        self.servers[index].as_ref().expect("it has not been ended")
    }

    /// The Redis of all of them.
    pub(crate) fn redis(&self) -> &RedisServer {
        &self.redis
    }

    /// Who asks that one.
    pub(crate) fn operator(&self, index: usize) -> &HttpClient {
        &self.operators[index]
    }

    /// Ends one as if its process was killed: nothing of it says goodbye.
    pub(crate) fn kill(&mut self, index: usize) {
        drop(self.servers[index].take());
    }
}
