//! The steps, and what each runs.

use std::net::TcpListener;

use crate::repository::{repository, target};
use crate::tidy;

use super::Outcome;
use super::run::{Program, cargo};
use super::runners::{Cargo, Node, Tests};

/// One part of the tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Format,
    Lint,
    Tidy,
    Test,
    Doc,
    Conformance,
}

impl Step {
    /// In the order in which they are run: quick ones first.
    pub(super) const ALL: [Self; 6] = [Self::Format, Self::Lint, Self::Tidy, Self::Test, Self::Doc, Self::Conformance];

    pub(super) fn named(name: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|step| step.name() == name)
            .ok_or_else(|| format!("there is no step {name:?}; there are {}", Self::ALL.map(Self::name).join(", ")))
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Format => "format",
            Self::Lint => "lint",
            Self::Tidy => "tidy",
            Self::Test => "test",
            Self::Doc => "doc",
            Self::Conformance => "conformance",
        }
    }

    /// What it does, in one line.
    pub(super) fn what(self) -> &'static str {
        match self {
            Self::Format => "cargo fmt --all --check",
            Self::Lint => "cargo clippy --workspace --all-targets -- -D warnings",
            Self::Tidy => "cargo xtask tidy",
            Self::Test => "cargo test --workspace --no-fail-fast, which builds the examples too",
            Self::Doc => "cargo doc --no-deps --workspace, warnings denied",
            Self::Conformance => "node --test in conformance/, against the server's debug build",
        }
    }

    /// Runs it. At length, tests that kill something at random moments do so more often.
    pub(super) fn run(self, is_long: bool) -> Outcome {
        match self {
            Self::Format => cargo().words(&["fmt", "--all", "--check"]).run(),
            Self::Lint => {
                let lint = cargo().words(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]);
                lint.follow(Cargo::default())
            }
            Self::Tidy => {
                let report = tidy::check_repository();
                let result = match report.problems.len() {
                    0 => Ok(()),
                    count => Err(format!("{count} things to put in order")),
                };
                // Printed here, because its notes are worth reading when it passes too.
                print!("{report}");
                Outcome { output: String::new(), result, tests: Tests::default() }
            }
            Self::Test => {
                let _held = hold_default_ports();
                let tests = cargo().words(&["test", "--workspace", "--no-fail-fast"]);
                let tests = if is_long { tests.variable("SWITCHBOARD_KILLS", KILLS_AT_LENGTH) } else { tests };
                tests.follow(Cargo::default())
            }
            Self::Doc => {
                let doc = cargo().words(&["doc", "--no-deps", "--workspace"]).variable("RUSTDOCFLAGS", "-D warnings");
                doc.follow(Cargo::default())
            }
            Self::Conformance => conformance(),
        }
    }
}

/// How often the program is killed in each test of that kind, at length.
const KILLS_AT_LENGTH: &str = "100";

fn conformance() -> Outcome {
    let built = cargo().words(&["build", "--package", "switchboard"]).follow(Cargo::default());
    if built.result.is_err() {
        return built;
    }
    let _held = hold_default_ports();
    let server = target().join("debug/switchboard");
    Program::new("node")
        // One of the files waits most of the time.
        .words(&["--test", "--test-concurrency=4", "--test-reporter=spec"])
        .folder(repository().join("conformance"))
        .variable("SWITCHBOARD_BIN", &server)
        .follow(Node::new(server))
}

/// The ports of a server without configuration, of the example in `examples/hooks`, and of a Redis.
const DEFAULT_PORTS: [u16; 5] = [5000, 8080, 9090, 8000, 6379];

/// Holds the default ports, so that a test that needs one of them fails here too, and not only beside a running server.
fn hold_default_ports() -> Vec<TcpListener> {
    // A port that cannot be bound is held by another program already.
    DEFAULT_PORTS.iter().filter_map(|port| TcpListener::bind(("0.0.0.0", *port)).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn while_the_default_ports_are_held_no_program_can_listen_there() {
        let _held = hold_default_ports();
        for port in DEFAULT_PORTS {
            assert!(TcpListener::bind(("127.0.0.1", port)).is_err(), "{port}");
        }
    }
}
