//! A blocking client of the line protocol, for tests. It speaks over a WebSocket too: a line is a message then.
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
    /// Over a WebSocket: frames that have not come whole.
    frames: Option<Vec<u8>>,
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

    /// Connects over a WebSocket. Each line that is sent becomes a text message, each message that comes a line; a close frame
    /// comes as the line `{"closed":CODE}`.
    ///
    /// # Errors
    ///
    /// Those of the system, and the server's head when it is no upgrade.
    pub fn web(address: SocketAddr, path: &str) -> io::Result<Self> {
        Self::tcp(address)?.upgraded(path)
    }

    /// The same over a socket that is connected, whatever its options are.
    ///
    /// # Errors
    ///
    /// As [`LineClient::web`].
    pub fn web_over(stream: TcpStream, path: &str) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        Self::new(Stream::Tcp(stream)).upgraded(path)
    }

    fn upgraded(mut self, path: &str) -> io::Result<Self> {
        let address = match &self.stream {
            Stream::Tcp(stream) => stream.peer_addr()?.to_string(),
            Stream::Unix(_) => "localhost".to_owned(),
        };
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
        );
        self.try_send_raw(request.as_bytes())?;
        let find_end = |received: &[u8]| received.windows(4).position(|bytes| bytes == b"\r\n\r\n").map(|at| at + 4);
        let end = self.receive_until(find_end).map_err(|missed| io::Error::other(missed.to_string()))?;
        let head: Vec<u8> = self.received.drain(..end).collect();
        if !head.starts_with(b"HTTP/1.1 101 ") {
            return Err(io::Error::other(String::from_utf8_lossy(&head).into_owned()));
        }
        self.frames = Some(Vec::new());
        let early = std::mem::take(&mut self.received);
        self.take(&early);
        Ok(self)
    }

    fn new(stream: Stream) -> Self {
        Self { stream, received: Vec::new(), frames: None, patience: PATIENCE, sentinels: 0 }
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

    /// Another hold on the same connection, to send while this one receives.
    ///
    /// # Errors
    ///
    /// Those of the system.
    pub fn try_clone(&self) -> io::Result<Self> {
        let stream = match &self.stream {
            Stream::Tcp(stream) => Stream::Tcp(stream.try_clone()?),
            Stream::Unix(stream) => Stream::Unix(stream.try_clone()?),
        };
        Ok(Self { frames: self.frames.as_ref().map(|_| Vec::new()), ..Self::new(stream) })
    }

    /// The socket, if it is one of TCP.
    pub fn into_tcp(self) -> Option<TcpStream> {
        match self.stream {
            Stream::Tcp(stream) => Some(stream),
            Stream::Unix(_) => None,
        }
    }

    /// Sends bytes as they are, in one write; over a WebSocket, its lines as text messages.
    ///
    /// # Errors
    ///
    /// Those of the system.
    pub fn try_send_raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.frames.is_none() {
            return each!(&mut self.stream, socket => socket.write_all(bytes));
        }
        let mut frames = Vec::new();
        for line in bytes.split_inclusive(|&byte| byte == b'\n') {
            write_frame(&mut frames, 0x81, line.strip_suffix(b"\r\n").unwrap_or(line));
        }
        each!(&mut self.stream, socket => socket.write_all(&frames))
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
            self.try_send_view(&name).map_err(|error| error.to_string())?;
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

    /// Sends a frame of any kind over a WebSocket. The mask is of zeros, so that the payload stays readable on the wire.
    ///
    /// # Errors
    ///
    /// Those of the system.
    pub fn try_send_frame(&mut self, first: u8, payload: &[u8]) -> io::Result<()> {
        let mut frame = Vec::new();
        write_frame(&mut frame, first, payload);
        each!(&mut self.stream, socket => socket.write_all(&frame))
    }

    /// Asks for the view of a room in the words of this wire.
    pub(crate) fn try_send_view(&mut self, room: &str) -> io::Result<()> {
        let view = match self.frames {
            None => format!("roomView {room}\r\n"),
            Some(_) => format!("{{\"event\":\"roomView\",\"room\":\"{room}\"}}\r\n"),
        };
        self.try_send_raw(view.as_bytes())
    }

    /// Takes what was read; over a WebSocket, message by message.
    fn take(&mut self, bytes: &[u8]) {
        let Some(frames) = &mut self.frames else { return self.received.extend_from_slice(bytes) };
        frames.extend_from_slice(bytes);
        while let Some((first, payload, length)) = whole_frame(frames) {
            match first & 0x0f {
                0x8 => {
                    let code = payload.first_chunk().map_or(1005, |code| u16::from_be_bytes(*code));
                    self.received.extend_from_slice(format!("{{\"closed\":{code}}}\r\n").as_bytes());
                }
                0x9 | 0xa => {}
                _ => {
                    self.received.extend_from_slice(payload);
                    if first & 0x80 != 0 {
                        self.received.extend_from_slice(b"\r\n");
                    }
                }
            }
            frames.drain(..length);
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
                Ok(count) => self.take(&piece[..count]),
                Err(error) if is_early_return(&error) => {}
                Err(error) => return Err(Missed::Lost(error)),
            }
        }
    }
}

/// Writes a frame of a WebSocket as clients do, under a mask of zeros.
pub fn write_frame(out: &mut Vec<u8>, first: u8, payload: &[u8]) {
    out.push(first);
    match payload.len() {
        short @ 0..126 => out.push(0x80 | short as u8),
        medium @ 126..65_536 => {
            out.push(0x80 | 126);
            out.extend_from_slice(&(medium as u16).to_be_bytes());
        }
        long => {
            out.push(0x80 | 127);
            out.extend_from_slice(&(long as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(payload);
}

/// The first frame of `bytes`, if it has come whole: its first byte, its payload, and how many bytes it takes.
pub(crate) fn whole_frame(bytes: &[u8]) -> Option<(u8, &[u8], usize)> {
    let (head, length) = match *bytes.get(1)? {
        126 => (4, usize::from(u16::from_be_bytes(*bytes.get(2..)?.first_chunk()?))),
        127 => (10, usize::try_from(u64::from_be_bytes(*bytes.get(2..)?.first_chunk()?)).ok()?),
        short => (2, usize::from(short)),
    };
    Some((bytes[0], bytes.get(head..head + length)?, head + length))
}

/// The read ended without a result; whether time is up is looked at elsewhere.
pub(crate) fn is_early_return(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted)
}
