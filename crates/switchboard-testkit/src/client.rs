//! A blocking client of the line protocol, for tests.
//!
//! Every wait has a deadline and every method that waits panics with what it had received until then. Nothing here sleeps:
//! that nothing comes is shown with requests whose answers must be next ([`LineClient::expect_silence`]).

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;

/// How long a client waits for anything.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// One client.
#[derive(Debug)]
pub struct LineClient {
    stream: Stream,
    /// Received and not taken yet.
    received: Vec<u8>,
    patience: Duration,
    sentinels: u32,
}

#[derive(Debug)]
enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// Calls a method that both kinds of socket have.
macro_rules! each {
    ($stream:expr, $socket:ident => $call:expr) => {
        match $stream {
            Stream::Tcp($socket) => $call,
            Stream::Unix($socket) => $call,
        }
    };
}

/// Why what was waited for did not come.
#[derive(Debug)]
pub enum Missed {
    /// The server closed its side.
    Closed {
        /// What had come and is not a whole line.
        rest: Vec<u8>,
    },
    /// The deadline passed.
    Late {
        /// What had come and is not a whole line.
        rest: Vec<u8>,
    },
    /// The connection broke.
    Lost(io::Error),
    /// A line that is not UTF-8 or does not end with CR LF.
    Malformed(Vec<u8>),
}

impl fmt::Display for Missed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed { rest } => write!(f, "the server closed; received before: \"{}\"", rest.escape_ascii()),
            Self::Late { rest } => write!(f, "nothing came in time; received so far: \"{}\"", rest.escape_ascii()),
            Self::Lost(error) => write!(f, "the connection broke: {error}"),
            Self::Malformed(line) => write!(f, "not a line of UTF-8 ended by CR LF: \"{}\"", line.escape_ascii()),
        }
    }
}

impl LineClient {
    /// Connects over TCP.
    ///
    /// # Errors
    ///
    /// Those of the system.
    pub fn tcp(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_nodelay(true)?;
        Ok(Self::new(Stream::Tcp(stream)))
    }

    /// Connects to a Unix socket.
    ///
    /// # Errors
    ///
    /// Those of the system.
    pub fn unix(path: &Path) -> io::Result<Self> {
        Ok(Self::new(Stream::Unix(UnixStream::connect(path)?)))
    }

    fn new(stream: Stream) -> Self {
        Self { stream, received: Vec::new(), patience: PATIENCE, sentinels: 0 }
    }

    /// Changes how long it waits for anything.
    pub fn set_patience(&mut self, patience: Duration) {
        self.patience = patience;
    }

    /// Its own address, if it came over TCP.
    pub fn local_address(&self) -> Option<SocketAddr> {
        match &self.stream {
            Stream::Tcp(stream) => stream.local_addr().ok(),
            Stream::Unix(_) => None,
        }
    }

    /// Sends bytes as they are, in one write.
    ///
    /// # Errors
    ///
    /// Those of the system.
    pub fn try_send_raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        each!(&mut self.stream, socket => socket.write_all(bytes))
    }

    /// Sends bytes as they are, in one write.
    #[track_caller]
    pub fn send_raw(&mut self, bytes: &[u8]) {
        if let Err(error) = self.try_send_raw(bytes) {
            panic!("sending \"{}\": {error}", bytes.escape_ascii());
        }
    }

    /// Sends one line.
    #[track_caller]
    pub fn send(&mut self, line: &str) {
        self.send_raw(format!("{line}\r\n").as_bytes());
    }

    /// Sends several lines in one write.
    #[track_caller]
    pub fn send_together(&mut self, lines: &[&str]) {
        let text: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
        self.send_raw(text.as_bytes());
    }

    /// Closes its own side: the server reads the end.
    ///
    /// # Errors
    ///
    /// Those of the system.
    pub fn half_close(&mut self) -> io::Result<()> {
        each!(&self.stream, socket => socket.shutdown(Shutdown::Write))
    }

    /// The next line, without its end.
    ///
    /// # Errors
    ///
    /// See [`Missed`].
    pub fn try_read_line(&mut self) -> Result<String, Missed> {
        let end = self.receive_until(|received| received.iter().position(|&byte| byte == b'\n').map(|at| at + 1))?;
        let line: Vec<u8> = self.received.drain(..end).collect();
        let text = line.strip_suffix(b"\r\n").map(<[u8]>::to_vec).and_then(|text| String::from_utf8(text).ok());
        text.ok_or(Missed::Malformed(line))
    }

    /// The next line, without its end.
    #[track_caller]
    pub fn read_line(&mut self) -> String {
        self.try_read_line().unwrap_or_else(|missed| panic!("waiting for a line: {missed}"))
    }

    /// The next line as JSON.
    #[track_caller]
    pub fn read_json(&mut self) -> Value {
        let line = self.read_line();
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("not JSON: {error}: {line:?}"))
    }

    /// Sends a line and returns the next answer.
    #[track_caller]
    pub fn ask(&mut self, line: &str) -> Value {
        self.send(line);
        self.read_json()
    }

    /// The next `count` bytes, whatever they are.
    ///
    /// # Errors
    ///
    /// See [`Missed`].
    pub fn try_read_exact(&mut self, count: usize) -> Result<Vec<u8>, Missed> {
        self.receive_until(|received| (received.len() >= count).then_some(count))?;
        Ok(self.received.drain(..count).collect())
    }

    /// The next `count` bytes, whatever they are.
    #[track_caller]
    pub fn read_exact(&mut self, count: usize) -> Vec<u8> {
        self.try_read_exact(count).unwrap_or_else(|missed| panic!("waiting for {count} bytes: {missed}"))
    }

    /// Waits for the server to close its side; nothing else may come before.
    ///
    /// # Errors
    ///
    /// What came instead.
    pub fn try_expect_fin(&mut self) -> Result<(), String> {
        match self.receive_until(|received| (!received.is_empty()).then_some(())) {
            Ok(()) => Err(format!("expected the end, received \"{}\"", self.received.escape_ascii())),
            Err(Missed::Closed { rest }) if rest.is_empty() => Ok(()),
            Err(missed) => Err(format!("expected the end: {missed}")),
        }
    }

    /// Waits for the server to close its side; nothing else may come before.
    #[track_caller]
    pub fn expect_fin(&mut self) {
        if let Err(reason) = self.try_expect_fin() {
            panic!("{reason}");
        }
    }

    /// Shows that nothing has come and that nothing is on its way that the server already knew of.
    ///
    /// Two requests, one after the other: whoever answers the first may not have looked yet at what others had said before
    /// it; having answered the second, it has. Each is a view of a room that no one is in, named after the request, so that
    /// its answer is told from all others. They count as lines.
    ///
    /// # Errors
    ///
    /// What came instead.
    pub fn try_expect_silence(&mut self) -> Result<(), String> {
        for _ in 0..2 {
            self.sentinels += 1;
            let name = format!("sentinel-{}", self.sentinels);
            self.try_send_raw(format!("roomView {name}\r\n").as_bytes()).map_err(|error| error.to_string())?;
            match self.try_read_line() {
                Ok(line) if line.contains(&name) => {}
                Ok(line) => return Err(format!("expected nothing, received {line}")),
                Err(missed) => return Err(format!("expected the answer to a sentinel: {missed}")),
            }
        }
        Ok(())
    }

    /// See [`LineClient::try_expect_silence`].
    #[track_caller]
    pub fn expect_silence(&mut self) {
        if let Err(reason) = self.try_expect_silence() {
            panic!("{reason}");
        }
    }

    /// Receives until `found` finds something.
    fn receive_until<T>(&mut self, found: impl Fn(&[u8]) -> Option<T>) -> Result<T, Missed> {
        let deadline = Instant::now() + self.patience;
        let mut piece = [0; 16 * 1024];
        loop {
            if let Some(found) = found(&self.received) {
                return Ok(found);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Missed::Late { rest: self.received.clone() });
            }
            each!(&self.stream, socket => socket.set_read_timeout(Some(left))).map_err(Missed::Lost)?;
            match each!(&mut self.stream, socket => socket.read(&mut piece)) {
                Ok(0) => return Err(Missed::Closed { rest: self.received.clone() }),
                Ok(count) => self.received.extend_from_slice(&piece[..count]),
                Err(error) if is_early_return(&error) => {}
                Err(error) => return Err(Missed::Lost(error)),
            }
        }
    }
}

/// The read ended without a result; whether time is up is looked at elsewhere.
fn is_early_return(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted)
}
