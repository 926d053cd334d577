//! What is wrong with a configuration, and where each value came from.

use std::fmt;
use std::path::PathBuf;

/// A configuration that cannot be used. Its text is what the operator reads: one line for each problem.
///
/// ```text
/// switchboard.toml:12: servers.socket.prot: unknown key; did you mean servers.socket.port?
/// --set: limits.slow_consumer: expected "close" or "drop-oldest" or "drop-newest", found "wait"
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", lines(problems))]
pub struct ConfigError {
    problems: Vec<Problem>,
}

impl ConfigError {
    /// An error if there are problems.
    pub(super) fn check(problems: Vec<Problem>) -> Result<(), Self> {
        if problems.is_empty() { Ok(()) } else { Err(Self { problems }) }
    }

    /// All problems, those of the file first and in the order of its lines, then environment, command line, and
    /// values that do not go together. There is at least one.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }
}

/// One problem of a configuration. Its text is one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where the value is, as in `switchboard.toml:12`, `environment NAME` or `--set`; empty for a configuration that
    /// was made in code.
    pub place: String,
    /// The key, with the part of a structured value, as in `rooms.starting[1].name`; empty if no key is concerned.
    pub key: String,
    /// What is wrong and, where that is known, what to write instead.
    pub text: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for part in [&self.place, &self.key] {
            if !part.is_empty() {
                write!(f, "{part}: ")?;
            }
        }
        f.write_str(&self.text)
    }
}

/// Where the value of a key comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// `--set` on the command line.
    CommandLine,
    /// The built-in default.
    Default,
    /// A variable of the environment; with the suffix `_FILE`, the file that it names.
    Environment {
        /// The variable as it was spelt.
        name: String,
    },
    /// The configuration file.
    File {
        /// The file as it was named.
        path: PathBuf,
        /// The line of the key, from 1.
        line: usize,
    },
}

impl Origin {
    /// The place as problems name it; empty for defaults, which have none.
    pub(super) fn place(&self) -> String {
        match self {
            Self::Default => String::new(),
            Self::File { path, line } => format!("{}:{line}", path.display()),
            other => other.to_string(),
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CommandLine => f.write_str("--set"),
            Self::Default => f.write_str("default"),
            Self::Environment { name } => write!(f, "environment {name}"),
            Self::File { path, line } => write!(f, "file {}:{line}", path.display()),
        }
    }
}

fn lines(problems: &[Problem]) -> String {
    problems.iter().map(Problem::to_string).collect::<Vec<_>>().join("\n")
}
