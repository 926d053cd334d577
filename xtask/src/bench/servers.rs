//! How each server is started.

use std::fs::{self, File};
use std::io;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use switchboard_testkit::bench::scenario::{self, Scenario};

use crate::repository::target;

/// A server that the bench can start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    FloorBatch,
    FloorEach,
    Peer { name: String, command: String },
    Switchboard,
}

/// All but the peers, in the order of the table.
pub(super) const OURS: [Kind; 3] = [Kind::FloorEach, Kind::FloorBatch, Kind::Switchboard];

impl Kind {
    /// Its name in the table.
    pub(super) fn name(&self) -> &str {
        match self {
            Self::FloorBatch => "floor-batch",
            Self::FloorEach => "floor-each",
            Self::Peer { name, .. } => name,
            Self::Switchboard => "switchboard",
        }
    }

    /// The command that starts it for a scenario.
    pub(super) fn command(&self, scenario: &Scenario) -> io::Result<Command> {
        let mut command = match self {
            Self::FloorBatch => floor("batch")?,
            Self::FloorEach => floor("each")?,
            Self::Peer { command: line, .. } => {
                // The shell must become the server, or its own CPU time would be measured.
                let mut command = Command::new("sh");
                command.arg("-c").arg(format!("exec {line}"));
                command
            }
            Self::Switchboard => switchboard(scenario)?,
        };
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

fn floor(mode: &str) -> io::Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args([super::FLOOR_CHORE, mode]);
    Ok(command)
}

/// One worker, as the floor has one thread, and no limit that a scenario would meet.
fn switchboard(scenario: &Scenario) -> io::Result<Command> {
    let config = scratch()?.join("switchboard.toml");
    fs::write(&config, rooms_as_toml(scenario))?;
    let mut command = Command::new(target().join("release").join("switchboard"));
    command.arg("serve").arg("--config").arg(config);
    for setting in SETTINGS {
        command.args(["--set", setting]);
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

const SETTINGS: [&str; 9] = [
    "admin.enabled=false",
    "servers.socket.bind=127.0.0.1",
    "servers.socket.port=0",
    "servers.web.bind=127.0.0.1",
    "servers.web.port=0",
    "node.workers=1",
    "limits.max_outbox_bytes=4194304",
    "actions.pending_max=64",
    "log.level=warn",
];

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
}
