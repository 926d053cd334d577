//! How each server is started and spoken to.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use switchboard_testkit::bench::load::{Protocol, Trust};
use switchboard_testkit::bench::scenario::{self, Application, Bot, Scenario, Transport};
use switchboard_testkit::certs::Authority;

use crate::repository::{repository, target};

/// A server that the bench can start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Bun,
    FloorBatch,
    FloorEach,
    Peer { name: String, command: String },
    SocketIo,
    Switchboard,
}

/// All but the peers, in the order of the table.
pub(super) const OURS: [Kind; 3] = [Kind::FloorEach, Kind::FloorBatch, Kind::Switchboard];

/// The peers that come with the bench.
pub(super) const KNOWN_PEERS: [Kind; 2] = [Kind::Bun, Kind::SocketIo];

/// The folder of the known peers in the repository.
pub(super) const PEERS: &str = "xtask/peers";

impl Kind {
    /// Its name in the table.
    pub(super) fn name(&self) -> &str {
        match self {
            Self::Bun => "bun",
            Self::FloorBatch => "floor-batch",
            Self::FloorEach => "floor-each",
            Self::Peer { name, .. } => name,
            Self::SocketIo => "socketio",
            Self::Switchboard => "switchboard",
        }
    }

    /// Whether npm must install it.
    pub(super) fn is_from_npm(&self) -> bool {
        KNOWN_PEERS.contains(self)
    }

    /// What it speaks in a scenario; `None` if it has nothing to say there.
    pub(super) fn protocol(&self, scenario: &Scenario) -> Option<Protocol> {
        let is_line = scenario.transport == Transport::Line;
        let (is_of_commands, is_ddp) = (scenario.is_of_commands(), scenario.transport == Transport::Ddp);
        if scenario.transport == Transport::Gateway {
            return (*self == Self::Switchboard).then_some(Protocol::Gateway);
        }
        match self {
            Self::Bun | Self::FloorBatch | Self::FloorEach | Self::Peer { .. } if is_of_commands => None,
            Self::Switchboard if is_ddp => Some(Protocol::Ddp),
            Self::Bun | Self::Peer { .. } | Self::SocketIo if is_ddp => None,
            Self::FloorBatch | Self::FloorEach => Some(Protocol::Line),
            Self::Bun | Self::SocketIo if is_line => None,
            Self::SocketIo => Some(Protocol::SocketIo),
            Self::Peer { .. } | Self::Switchboard if is_line => Some(Protocol::Line),
            Self::Bun | Self::Peer { .. } | Self::Switchboard => Some(Protocol::WebSocket),
        }
    }

    /// Whether it speaks TLS in a scenario.
    pub(super) fn is_secure(&self, scenario: &Scenario) -> bool {
        scenario.transport == Transport::SecureWebSocket && !matches!(self, Self::FloorBatch | Self::FloorEach)
    }

    /// The command that starts it for a scenario.
    pub(super) fn command(&self, scenario: &Scenario, tls: &Tls) -> io::Result<Command> {
        let peers = repository().join(PEERS);
        let mut command = match self {
            Self::Bun => program(peers.join("node_modules/.bin/bun"), peers.join("bun.js")),
            Self::FloorBatch => floor("batch")?,
            Self::FloorEach => floor("each")?,
            Self::Peer { command: line, .. } => {
                // The shell must become the server, or its own CPU time would be measured.
                let mut command = program("sh", "-c");
                command.arg(format!("exec {line}"));
                command
            }
            Self::SocketIo => program("node", peers.join("socketio.js")),
            Self::Switchboard => switchboard(scenario, tls)?,
        };
        if self.is_secure(scenario) {
            command.env("BENCH_TLS_CERT", &tls.certificate).env("BENCH_TLS_KEY", &tls.key);
        }
        command.stderr(Stdio::from(File::create(self.log_path()?)?));
        Ok(command)
    }

    /// What it wrote to standard error last, for the report of a failure; nothing if it wrote nothing.
    pub(super) fn last_words(&self) -> String {
        let log = self.log_path().and_then(fs::read_to_string).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(LINES_OF_LAST_WORDS)..].iter().map(|line| format!("\n    {line}")).collect()
    }

    fn log_path(&self) -> io::Result<PathBuf> {
        Ok(scratch()?.join(format!("{}.log", self.name())))
    }
}

/// The word for the listener where a protocol is spoken, in the line with which a server says that it is ready.
pub(super) fn listener(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Line => "socket",
        Protocol::Ddp | Protocol::Gateway | Protocol::SocketIo | Protocol::WebSocket => "web",
    }
}

/// A certificate for the servers, and clients that trust it.
pub(super) struct Tls {
    certificate: PathBuf,
    key: PathBuf,
    pub(super) trust: Trust,
}

impl Tls {
    /// Makes an authority, which nobody will need again, and writes what it issues.
    pub(super) fn write() -> Result<Self, Box<dyn std::error::Error>> {
        let authority = Authority::new("switchboard-bench")?;
        let (certificate, key) = authority.issue_server()?.write(&scratch()?)?;
        Ok(Self { certificate, key, trust: Trust::new(&authority)? })
    }
}

fn program(name: impl AsRef<OsStr>, word: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(name);
    command.arg(word);
    command
}

fn floor(mode: &str) -> io::Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args([super::FLOOR_CHORE, mode]);
    Ok(command)
}

/// The same command, for a node of a cluster whose Redis is there.
pub(super) fn through(mut command: Command, redis: Option<String>) -> Command {
    if let Some(url) = redis {
        command.args(["--set", "backend.kind=redis", "--set"]).arg(format!("backend.redis.url={url}"));
    }
    command
}

/// One worker, as the floor has one thread, one listener, and no limit that a scenario would meet.
fn switchboard(scenario: &Scenario, tls: &Tls) -> io::Result<Command> {
    let config = scratch()?.join("switchboard.toml");
    let users: String = scenario::bots(scenario).iter().map(Bot::toml).collect();
    let applications: String = scenario::applications(&scenario.load).iter().map(Application::toml).collect();
    fs::write(&config, rooms_as_toml(scenario) + &users + &applications)?;
    let release = target().join("release");
    let mut command = Command::new(match example(scenario) {
        Some(example) => release.join("examples").join(example),
        None => release.join("switchboard"),
    });
    command.arg("serve").arg("--config").arg(config);
    for setting in SETTINGS {
        command.args(["--set", setting]);
    }
    if scenario.is_durable() {
        let data = scratch()?.join("data");
        if data.exists() {
            fs::remove_dir_all(&data)?;
        }
        command.args(["--set", "backend.kind=file", "--set"]).arg(format!("node.data_dir={}", data.display()));
    }
    let (listener, other) = match scenario.transport {
        Transport::Line => ("socket", "web"),
        Transport::Ddp | Transport::Gateway | Transport::SecureWebSocket | Transport::WebSocket => ("web", "socket"),
    };
    for setting in ["enabled=true", "bind=127.0.0.1", "port=0"] {
        command.arg("--set").arg(format!("servers.{listener}.{setting}"));
    }
    command.arg("--set").arg(format!("servers.{other}.enabled=false"));
    if scenario.transport == Transport::SecureWebSocket {
        let (certificate, key) = (tls.certificate.display(), tls.key.display());
        for setting in ["secure=true".to_owned(), format!("tls.cert={certificate}"), format!("tls.key={key}")] {
            command.arg("--set").arg(format!("servers.{listener}.{setting}"));
        }
    }
    Ok(command)
}

/// Only the server makes rooms, so it must have them from the start.
fn rooms_as_toml(scenario: &Scenario) -> String {
    scenario::rooms(&scenario.load).iter().map(|room| format!("[[rooms.starting]]\nname = \"{room}\"\n\n")).collect()
}

fn scratch() -> io::Result<PathBuf> {
    let path = target().join("bench");
    fs::create_dir_all(&path)?;
    Ok(path)
}

const SETTINGS: [&str; 8] = [
    "admin.enabled=false",
    "node.workers=1",
    "limits.max_outbox_bytes=4194304",
    "actions.pending_max=64",
    "log.level=warn",
    "servers.gateway.rate_messages=0",
    "servers.gateway.start_concurrency=0",
    "servers.gateway.start_total=0",
];

/// The example of the package that serves in a scenario, with the actions by which it is told what to do; if it is not the program.
pub(super) fn example(scenario: &Scenario) -> Option<&'static str> {
    match scenario {
        scenario if scenario.is_of_commands() => Some("bench_commands"),
        scenario if scenario.is_of_events() => Some("bench_gateway"),
        _ => None,
    }
}

const LINES_OF_LAST_WORDS: usize = 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_config_file_has_a_table_per_room() {
        let toml = rooms_as_toml(scenario::named("c").unwrap());
        assert!(toml.starts_with("[[rooms.starting]]\nname = \"bench-0000\"\n\n[[rooms.starting]]\n"));
        assert_eq!(toml.matches("name = ").count(), 1000);
        assert_eq!(rooms_as_toml(scenario::named("e1").unwrap()), "");
    }

    #[test]
    fn everybody_speaks_what_is_asked_in_a_scenario() {
        let of = |scenario: &str| {
            let scenario = scenario::named(scenario).unwrap();
            [Kind::FloorEach, Kind::Switchboard, Kind::Bun, Kind::SocketIo].map(|kind| kind.protocol(scenario))
        };
        assert_eq!(of("a1"), [Some(Protocol::Line), Some(Protocol::Line), None, None]);
        let over_web_socket = [Protocol::Line, Protocol::WebSocket, Protocol::WebSocket, Protocol::SocketIo].map(Some);
        assert_eq!(of("ws-a1"), over_web_socket);
        assert_eq!(of("ws-tls-idle"), over_web_socket);
        assert_eq!(of("cmd-1"), [None, Some(Protocol::WebSocket), None, Some(Protocol::SocketIo)]);
        assert_eq!(of("cmd-storm"), [None, Some(Protocol::Line), None, None]);
        assert_eq!(of("gw-ping"), [None, Some(Protocol::Gateway), None, None]);
        assert_eq!(of("ddp-idle"), [Some(Protocol::Line), Some(Protocol::Ddp), None, None]);
    }
}
