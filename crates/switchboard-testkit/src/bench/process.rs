//! A server as a child process: its core, its ready line, its end.

use std::fmt;
use std::io::{self, BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use super::probe::Probe;
use super::sys;

/// A running server. Dropping it kills it.
#[derive(Debug)]
pub struct Server {
    child: Child,
    address: SocketAddr,
}

impl Server {
    /// Starts `command`, on `core` if one is named, and waits for the line in which it says that it is ready and where
    /// it listens with `listener`: `socket` or `web`.
    ///
    /// Whatever it prints later is read and dropped, so that it never waits for us.
    pub fn start(mut command: Command, core: Option<usize>, listener: &'static str) -> Result<Self, StartError> {
        sys::confine(&mut command, core);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().map_err(StartError::Spawn)?;
        let Some(output) = child.stdout.take() else { unreachable!("standard output was just asked to be a pipe") };
        let (ready, is_ready) = mpsc::sync_channel(1);
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if let Some(address) = address_in_ready_line(&line, listener) {
                    // Nobody listens any more if the server took too long; its output is drained all the same.
                    let _ = ready.try_send(address);
                }
            }
        });
        match is_ready.recv_timeout(START_TIMEOUT) {
            Ok(address) => Ok(Self { child, address }),
            Err(_) => {
                let _ = child.kill();
                Err(StartError::NotReady(child.wait().map(|status| status.to_string()).unwrap_or_default()))
            }
        }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Reads what it has used.
    pub fn probe(&self) -> Probe {
        Probe::new(self.child.id())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Why a server could not be started.
#[derive(Debug)]
pub enum StartError {
    /// It ended or stayed silent instead of saying that it is ready; with its exit status.
    NotReady(String),
    /// The program could not be run.
    Spawn(io::Error),
}

impl fmt::Display for StartError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotReady(status) => {
                write!(out, "the server printed no line that it is ready where it was asked for ({status})")
            }
            Self::Spawn(error) => write!(out, "the server could not be run: {error}"),
        }
    }
}

impl std::error::Error for StartError {}

/// The address of a listener, `socket` or `web`, in a line like
/// `switchboard ready socket=127.0.0.1:5000 web=127.0.0.1:8080`.
///
/// The words are in no particular order, and more may follow in later versions.
pub fn address_in_ready_line(line: &str, listener: &str) -> Option<SocketAddr> {
    let mut words = line.split_whitespace();
    words.nth(1).filter(|&word| word == "ready")?;
    words.find_map(|word| word.strip_prefix(listener)?.strip_prefix('='))?.parse().ok()
}

/// Generous, as a machine may be busy with other things; a server is ready within milliseconds.
const START_TIMEOUT: Duration = Duration::from_secs(20);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_is_found_wherever_it_stands_in_a_ready_line() {
        let address = Some("127.0.0.1:5000".parse().unwrap());
        assert_eq!(address_in_ready_line("floor ready socket=127.0.0.1:5000", "socket"), address);
        let line = "switchboard ready web=127.0.0.1:1 socket=127.0.0.1:5000 admin=x";
        assert_eq!(address_in_ready_line(line, "socket"), address);
        assert_eq!(address_in_ready_line(line, "web"), Some("127.0.0.1:1".parse().unwrap()));
        assert_eq!(address_in_ready_line("a ready socket=[::1]:80\r", "socket"), Some("[::1]:80".parse().unwrap()));
    }

    #[test]
    fn other_lines_are_not_taken_for_a_ready_line() {
        for line in ["", "ready", "ready socket=127.0.0.1:1", "a steady socket=127.0.0.1:1", "a ready socket=here"] {
            assert_eq!(address_in_ready_line(line, "socket"), None, "{line:?}");
        }
        assert_eq!(address_in_ready_line("a ready sockets=127.0.0.1:1", "socket"), None);
    }

    #[test]
    fn a_program_that_ends_without_a_ready_line_is_an_error() {
        assert!(matches!(Server::start(Command::new("true"), None, "socket"), Err(StartError::NotReady(_))));
    }
}
