//! Running a program and keeping what it says.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};

use crate::repository::{repository, target};

use super::Outcome;

/// A program to run in the repository's root.
pub(super) struct Program {
    name: String,
    command: Command,
}

/// The cargo that called us.
pub(super) fn cargo() -> Program {
    let path = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut program = Program { name: "cargo".to_owned(), command: command(&path) };
    // What cargo has told this program about itself is not true of others, and makes some of them be built again.
    for (name, _) in std::env::vars_os() {
        if ["CARGO_PKG_", "CARGO_MANIFEST_"].iter().any(|prefix| name.as_encoded_bytes().starts_with(prefix.as_bytes()))
        {
            program.command.env_remove(name);
        }
    }
    program
}

impl Program {
    pub(super) fn new(name: &str) -> Self {
        Self { name: name.to_owned(), command: command(name.as_ref()) }
    }

    pub(super) fn words(mut self, words: &[&str]) -> Self {
        self.command.args(words);
        self
    }

    pub(super) fn folder(mut self, folder: PathBuf) -> Self {
        self.command.current_dir(folder);
        self
    }

    pub(super) fn variable(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Runs it to its end and keeps what it writes, to both places in the order in which it was written.
    pub(super) fn run(mut self) -> Outcome {
        match self.run_into_file() {
            Ok((status, output)) if status.success() => Outcome { output, result: Ok(()) },
            Ok((status, output)) => Outcome { output, result: Err(format!("{} ended with {status}", self.name)) },
            Err(error) => {
                Outcome { output: String::new(), result: Err(format!("{} could not be run: {error}", self.name)) }
            }
        }
    }

    fn run_into_file(&mut self) -> io::Result<(ExitStatus, String)> {
        let folder = target().join("xtask");
        fs::create_dir_all(&folder)?;
        let path = folder.join(format!("{}-{}.log", self.name, std::process::id()));
        let file = File::create(&path)?;
        self.command.stdout(Stdio::from(file.try_clone()?)).stderr(Stdio::from(file));
        let status = self.command.status();
        let output = fs::read(&path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        fs::remove_file(&path)?;
        Ok((status?, output?))
    }
}

fn command(name: &OsStr) -> Command {
    let mut command = Command::new(name);
    command.current_dir(repository()).stdin(Stdio::null());
    command
}
