//! Running a program and keeping its output.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use crate::repository::{repository, target};

use super::Outcome;
use super::progress::Progress;
use super::runners::{Runner, Tests};

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

    /// Runs it and keeps what it writes, to standard output and standard error in the order of writing.
    pub(super) fn run(self) -> Outcome {
        self.run_with(|_| {})
    }

    /// Runs it, shows how far it is, and counts its tests.
    pub(super) fn follow(self, mut runner: impl Runner) -> Outcome {
        let mut progress = Progress::stdout();
        let outcome = self.run_with(|lines| {
            for line in lines.lines().filter_map(|line| runner.line(line)) {
                progress.line(&line);
            }
            progress.status(&runner.status(), Instant::now());
        });
        progress.clear();
        Outcome { tests: runner.tests(), ..outcome }
    }

    fn run_with(mut self, seen: impl FnMut(&str)) -> Outcome {
        let (output, result) = match self.run_into_file(seen) {
            Ok((status, output)) if status.success() => (output, Ok(())),
            Ok((status, output)) => (output, Err(format!("{} ended with {status}", self.name))),
            Err(error) => (String::new(), Err(format!("{} could not be run: {error}", self.name))),
        };
        Outcome { output, result, tests: Tests::default() }
    }

    /// Gives `seen` the whole lines that were written since it was called last, now and then and at the end.
    ///
    /// A file, because a pipe stays open as long as any process that the program has left running.
    fn run_into_file(&mut self, mut seen: impl FnMut(&str)) -> io::Result<(ExitStatus, String)> {
        let folder = target().join("xtask");
        fs::create_dir_all(&folder)?;
        let path = folder.join(format!("{}-{}.log", self.name, std::process::id()));
        let file = File::create(&path)?;
        let mut written = File::open(&path)?;
        fs::remove_file(&path)?;
        let mut child = self.command.stdout(file.try_clone()?).stderr(file).spawn()?;
        let (mut output, mut given) = (Vec::new(), 0);
        loop {
            let status = child.try_wait()?;
            written.read_to_end(&mut output)?;
            let whole = output[given..].iter().rposition(|byte| *byte == b'\n').map_or(given, |at| given + at + 1);
            seen(&String::from_utf8_lossy(&output[given..whole]));
            given = whole;
            match status {
                Some(status) => return Ok((status, String::from_utf8_lossy(&output).into_owned())),
                None => std::thread::sleep(LOOK),
            }
        }
    }
}

/// How often the output of a running program is read.
const LOOK: Duration = Duration::from_millis(100);

fn command(name: &OsStr) -> Command {
    let mut command = Command::new(name);
    command.current_dir(repository()).stdin(Stdio::null());
    command
}
