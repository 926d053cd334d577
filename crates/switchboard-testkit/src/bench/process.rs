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
    /// Starts `command`, on `core` if one is named, and waits for the line in which it says that it is ready.
    ///
    /// Whatever it prints later is read and dropped, so that it never waits for us.
    pub fn start(mut command: Command, core: Option<usize>) -> Result<Self, StartError> {
        sys::confine(&mut command, core);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().map_err(StartError::Spawn)?;
        let Some(output) = child.stdout.take() else { unreachable!("standard output was just asked to be a pipe") };
        let (ready, is_ready) = mpsc::sync_channel(1);
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if let Some(address) = socket_in_ready_line(&line) {
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

    /// Where it listens for the line protocol.
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
            Self::NotReady(status) => write!(out, "the server printed no ready line ({status})"),
            Self::Spawn(error) => write!(out, "the server could not be run: {error}"),
        }
    }
}

impl std::error::Error for StartError {}

/// The address behind `socket=` in a line like `switchboard ready socket=127.0.0.1:5000 web=127.0.0.1:8080`.
///
/// The words are in no particular order, and more may follow in later versions.
pub fn socket_in_ready_line(line: &str) -> Option<SocketAddr> {
    let mut words = line.split_whitespace();
    words.nth(1).filter(|&word| word == "ready")?;
    words.find_map(|word| word.strip_prefix("socket="))?.parse().ok()
}

/// Generous, as a machine may be busy with other things; a server is ready within milliseconds.
const START_TIMEOUT: Duration = Duration::from_secs(20);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_socket_is_found_wherever_it_stands_in_a_ready_line() {
        let address = Some("127.0.0.1:5000".parse().unwrap());
        assert_eq!(socket_in_ready_line("floor ready socket=127.0.0.1:5000"), address);
        assert_eq!(socket_in_ready_line("switchboard ready web=127.0.0.1:1 socket=127.0.0.1:5000 admin=x"), address);
        assert_eq!(socket_in_ready_line("a ready socket=[::1]:80\r"), Some("[::1]:80".parse().unwrap()));
    }

    #[test]
    fn other_lines_are_not_taken_for_a_ready_line() {
        for line in ["", "ready", "ready socket=127.0.0.1:1", "a steady socket=127.0.0.1:1", "a ready socket=here"] {
            assert_eq!(socket_in_ready_line(line), None, "{line:?}");
        }
    }

    #[test]
    fn a_program_that_ends_without_a_ready_line_is_an_error() {
        assert!(matches!(Server::start(Command::new("true"), None), Err(StartError::NotReady(_))));
    }
}
