//! A real `redis-server`, which tests kill, pause and start again.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::Signal;

use super::process::{Folder, Process, tail};
use super::resp::{Reply, RespClient};
use super::{DEADLINE, ports, within};

/// How a [`RedisServer`] is started. The default: no persistence, no password, master of nobody.
#[derive(Clone, Debug, Default)]
pub struct RedisOptions {
    append_only: bool,
    password: Option<String>,
    master: Option<SocketAddr>,
    pub(super) is_cluster: bool,
    settings: Vec<(String, String)>,
}

impl RedisOptions {
    /// Every write is in a file before it is answered, so that a server that is killed comes back with its data.
    #[must_use]
    pub fn append_only(self) -> Self {
        Self { append_only: true, ..self }.setting("appendfsync", "always")
    }

    /// Clients need this password, replicas too.
    #[must_use]
    pub fn password(self, password: &str) -> Self {
        Self { password: Some(password.to_owned()), ..self }
    }

    /// It begins as a replica of this server.
    #[must_use]
    pub fn replica_of(self, master: SocketAddr) -> Self {
        Self { master: Some(master), ..self }
    }

    /// It is a node of a Redis Cluster; see [`RedisCluster`](super::RedisCluster), which joins six of them.
    #[must_use]
    pub fn cluster(self) -> Self {
        Self { is_cluster: true, ..self }
    }

    /// Any other setting of redis.conf.
    #[must_use]
    pub fn setting(mut self, name: &str, value: &str) -> Self {
        self.settings.push((name.to_owned(), value.to_owned()));
        self
    }

    fn arguments(&self, port: u16) -> Vec<String> {
        let yes_no = |on: bool| if on { "yes" } else { "no" };
        let port = port.to_string();
        let mut pairs = vec![
            ("bind", "127.0.0.1".to_owned()),
            ("port", port),
            ("save", String::new()),
            ("daemonize", "no".to_owned()),
            ("appendonly", yes_no(self.append_only).to_owned()),
            ("cluster-enabled", yes_no(self.is_cluster).to_owned()),
            // A replica and its master need not wait for more of them before they copy.
            ("repl-diskless-sync-delay", "0".to_owned()),
        ];
        if let Some(password) = &self.password {
            pairs.extend([("requirepass", password.clone()), ("masterauth", password.clone())]);
        }
        if let Some(master) = self.master {
            pairs.push(("replicaof", format!("{} {}", master.ip(), master.port())));
        }
        pairs.extend(self.settings.iter().map(|(name, value)| (name.as_str(), value.clone())));
        pairs.into_iter().flat_map(|(name, value)| [format!("--{name}"), value]).collect()
    }
}

/// Whether a server that starts again finds what it had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Data {
    /// What it had written; without [`RedisOptions::append_only`] that is nothing.
    Kept,
    /// Its files are deleted first.
    Deleted,
}

/// A `redis-server` of Debian on a free port of the loopback, in a folder of its own. Dropping it kills it.
///
/// Methods that wait end within [`DEADLINE`], and panic otherwise.
#[derive(Debug)]
pub struct RedisServer {
    options: RedisOptions,
    port: u16,
    process: Option<Process>,
    /// After the process: it ends before its folder goes.
    folder: Folder,
}

impl RedisServer {
    /// Starts one without persistence, and waits until it answers.
    ///
    /// # Panics
    ///
    /// When `redis-server` is not installed, or does not start.
    #[track_caller]
    pub fn start() -> Self {
        Self::start_with(RedisOptions::default())
    }

    /// Starts one, and waits until it answers.
    ///
    /// # Panics
    ///
    /// As [`RedisServer::start`].
    #[track_caller]
    pub fn start_with(options: RedisOptions) -> Self {
        for _ in 0..TRIES {
            let folder = Folder::new("redis");
            let port = ports::free();
            folder.log(&format!("redis-{port}"));
            let mut server = Self { options: options.clone(), port, process: None, folder };
            if server.launch() {
                return server;
            }
            // Somebody else took the port in the meantime.
        }
        panic!("redis-server does not start; its arguments: {:?}", options.arguments(0));
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// The same as a URL, with the password if it needs one.
    pub fn url(&self) -> String {
        self.url_through(self.address())
    }

    /// A URL that leads to it by another address, such as that of a [`FaultProxy`](super::FaultProxy).
    pub fn url_through(&self, address: SocketAddr) -> String {
        match &self.options.password {
            Some(password) => format!("redis://:{password}@{address}"),
            None => format!("redis://{address}"),
        }
    }

    /// Kills it (SIGKILL), if it runs.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill();
        }
    }

    /// Starts it again on the same port, killing it first if it runs, and waits until it answers.
    ///
    /// # Panics
    ///
    /// When it does not start.
    #[track_caller]
    pub fn restart(&mut self, data: Data) {
        self.kill();
        if data == Data::Deleted {
            self.delete_data();
        }
        // Its old connections may hold the port for a moment.
        let is_up = within(DEADLINE, || self.launch());
        assert!(is_up, "redis-server does not start again on port {}", self.port);
    }

    /// Stops it in the middle of whatever it does (SIGSTOP): it keeps its connections and answers nothing.
    #[track_caller]
    pub fn pause(&self) {
        self.running().pause();
    }

    /// Lets it go on (SIGCONT).
    #[track_caller]
    pub fn cont(&self) {
        self.running().signal(Signal::CONT);
    }

    /// Asks it over a connection of its own, and returns the answer as `redis-cli` shows it in a pipe.
    ///
    /// # Panics
    ///
    /// When it refuses, or cannot be reached.
    #[track_caller]
    pub fn command(&self, words: &[&str]) -> String {
        match self.try_command(words) {
            Ok(Reply::Refused(reason)) => panic!("redis-server refuses {words:?}: {reason}"),
            Ok(reply) => reply.to_string(),
            Err(error) => panic!("asking redis-server {words:?}: {error}"),
        }
    }

    /// Asks it over a connection of its own.
    ///
    /// # Errors
    ///
    /// When it cannot be reached or does not answer within [`DEADLINE`].
    pub fn try_command(&self, words: &[&str]) -> io::Result<Reply> {
        self.connect(DEADLINE)?.ask(words)
    }

    /// A connection to it that has presented the password; each wait on it ends after `patience`.
    ///
    /// # Errors
    ///
    /// Those of the system.
    pub fn connect(&self, patience: Duration) -> io::Result<RespClient> {
        let mut client = RespClient::connect(self.address(), patience)?;
        if let Some(password) = &self.options.password {
            client.ask(&["AUTH", password])?;
        }
        Ok(client)
    }

    /// Makes a replica a master (`REPLICAOF NO ONE`). What the old master had not sent yet is lost.
    #[track_caller]
    pub fn promote(&self) {
        self.command(&["REPLICAOF", "NO", "ONE"]);
    }

    /// Waits until this replica has a working link to its master.
    #[track_caller]
    pub fn await_replication(&self) {
        self.await_info("replication", "master_link_status:up");
    }

    /// Waits until a section of `INFO` has this line.
    #[track_caller]
    pub fn await_info(&self, section: &str, line: &str) {
        let has_line = || self.command(&["INFO", section]).lines().any(|other| other == line);
        assert!(within(DEADLINE, has_line), "redis-server on port {} never says {line}", self.port);
    }

    #[track_caller]
    fn running(&self) -> &Process {
        self.process.as_ref().unwrap_or_else(|| panic!("the redis-server of port {} was killed", self.port))
    }

    fn log(&self) -> PathBuf {
        self.folder.join(&format!("redis-{}.log", self.port))
    }

    /// Starts it. `false`: it ended at once.
    fn launch(&mut self) -> bool {
        let log = self.log();
        let output = File::options().create(true).append(true).open(&log);
        let output = output.unwrap_or_else(|error| panic!("opening {}: {error}", log.display()));
        let mut command = Command::new("redis-server");
        command.args(self.options.arguments(self.port)).current_dir(self.folder.path()).stdout(Stdio::from(output));
        let mut process = match Process::start(command, &log) {
            Ok(process) => process,
            Err(error) if error.kind() == ErrorKind::NotFound => panic!("{MISSING}"),
            Err(error) => panic!("starting redis-server: {error}"),
        };
        let mut has_ended = false;
        let is_up = within(DEADLINE, || {
            has_ended = process.ended().is_some();
            has_ended || self.is_ready(process.id())
        });
        if !is_up {
            let log = fs::read_to_string(log).unwrap_or_default();
            panic!("redis-server does not answer on port {}: {}", self.port, tail(&log, 20));
        }
        self.process = Some(process).filter(|_| !has_ended);
        !has_ended
    }

    /// Whether this process answers: somebody else's may have the port.
    fn is_ready(&self, process: u32) -> bool {
        let Ok(mut client) = self.connect(READY_PATIENCE) else { return false };
        let mut ask = |words: &[&str]| client.ask(words).map(|reply| reply.to_string()).unwrap_or_default();
        let process = format!("process_id:{process}");
        ask(&["PING"]) == "PONG" && ask(&["INFO", "server"]).lines().any(|line| line == process)
    }

    fn delete_data(&self) {
        for entry in fs::read_dir(self.folder.path()).into_iter().flatten().flatten() {
            let path = entry.path();
            let result = match path.is_dir() {
                true => fs::remove_dir_all(&path),
                false if path == self.log() => Ok(()),
                false => fs::remove_file(&path),
            };
            result.unwrap_or_else(|error| panic!("deleting {}: {error}", path.display()));
        }
    }
}

/// What a test says that cannot run.
const MISSING: &str = "redis-server is not installed: run `cargo xtask test`, or apt-get install redis-server";

/// Ports that are tried.
const TRIES: usize = 5;

/// Longer than a server that is well takes to answer a ping.
const READY_PATIENCE: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_answers_and_forgets_when_it_is_killed() {
        let mut redis = RedisServer::start();
        assert_ne!(redis.address().port(), 6379);
        assert_eq!(redis.command(&["SET", "key", "value"]), "OK");
        assert_eq!(redis.command(&["GET", "key"]), "value");
        redis.kill();
        assert!(redis.try_command(&["PING"]).is_err());
        let address = redis.address();
        redis.restart(Data::Kept);
        assert_eq!((redis.address(), redis.command(&["EXISTS", "key"]).as_str()), (address, "0"));
    }

    #[test]
    fn a_server_with_an_append_only_file_comes_back_with_its_data_unless_they_are_deleted() {
        let mut redis = RedisServer::start_with(RedisOptions::default().append_only());
        redis.command(&["SET", "key", "value"]);
        redis.restart(Data::Kept);
        assert_eq!(redis.command(&["GET", "key"]), "value");
        redis.restart(Data::Deleted);
        assert_eq!(redis.command(&["EXISTS", "key"]), "0");
    }

    #[test]
    fn a_replica_follows_and_can_be_promoted() {
        let options = RedisOptions::default().password("canary");
        let master = RedisServer::start_with(options.clone());
        let replica = RedisServer::start_with(options.replica_of(master.address()));
        replica.await_replication();
        master.command(&["SET", "key", "value"]);
        assert_eq!(master.command(&["WAIT", "1", "10000"]), "1");
        assert_eq!(replica.command(&["GET", "key"]), "value");
        assert!(
            matches!(replica.try_command(&["SET", "key", "x"]), Ok(Reply::Refused(reason)) if reason.starts_with("READONLY"))
        );
        replica.promote();
        assert_eq!(replica.command(&["SET", "key", "x"]), "OK");
        assert!(replica.url().starts_with("redis://:canary@127.0.0.1:"));
        let mut stranger = RespClient::connect(master.address(), DEADLINE).unwrap();
        assert!(matches!(stranger.ask(&["PING"]), Ok(Reply::Refused(reason)) if reason.starts_with("NOAUTH")));
    }

    #[test]
    fn a_paused_server_keeps_its_connections_and_answers_later() {
        let redis = RedisServer::start();
        let mut client = redis.connect(Duration::from_millis(50)).unwrap();
        redis.pause();
        assert!(client.ask(&["PING"]).is_err(), "nobody answers");
        redis.cont();
        let mut answer = None;
        assert!(within(DEADLINE, || {
            answer = client.read().ok();
            answer.is_some()
        }));
        assert_eq!(answer, Some(Reply::Text("PONG".to_owned())));
    }
}
