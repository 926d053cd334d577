//! One connection to a gateway.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use flate2::Compression;
use flate2::read::{GzEncoder, ZlibDecoder};
use serde_json::{Value, json};

use super::Credentials;
use crate::client::{PATIENCE, is_early_return, whole_frame, write_frame};

/// One connection. Pings of the WebSocket are answered and not shown, unless it is [deaf](GatewayClient::set_deaf).
#[derive(Debug)]
pub struct GatewayClient {
    stream: TcpStream,
    /// Received, and not a whole frame.
    received: Vec<u8>,
    /// Came while something else was awaited.
    kept: VecDeque<Value>,
    /// What it sends is gzip in binary frames, as the existing client of header mode does.
    zips: bool,
    is_deaf: bool,
    patience: Duration,
}

/// What comes next on a connection.
#[derive(Clone, Debug, PartialEq)]
pub enum Heard {
    /// A message.
    Message(Value),
    /// The end: the code of the server's close frame, 1005 for one without; `None` if there was no frame.
    Closed(Option<u16>),
}

impl GatewayClient {
    /// Connects in plain mode.
    ///
    /// # Errors
    ///
    /// Those of the system, and the server's head when it is no upgrade.
    pub fn connect(address: SocketAddr) -> io::Result<Self> {
        Self::open(address, "/gateway", &[])
    }

    /// Connects in header mode. The greeting has not been read.
    ///
    /// # Errors
    ///
    /// As [`GatewayClient::connect`].
    pub fn with_headers(address: SocketAddr, credentials: &Credentials) -> io::Result<Self> {
        let mut client = Self::open(address, "/gateway", &credentials.headers())?;
        client.zips = true;
        Ok(client)
    }

    /// Connects to this path, with any headers.
    ///
    /// # Errors
    ///
    /// As [`GatewayClient::connect`].
    pub fn open(address: SocketAddr, path: &str, headers: &[(&str, String)]) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_nodelay(true)?;
        let mut client = Self {
            stream,
            received: Vec::new(),
            kept: VecDeque::new(),
            zips: false,
            is_deaf: false,
            patience: PATIENCE,
        };
        let more: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n{more}\r\n"
        );
        client.stream.write_all(request.as_bytes())?;
        let deadline = Instant::now() + PATIENCE;
        let end = loop {
            if let Some(at) = client.received.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                break at + 4;
            }
            if !client.receive(deadline)? {
                return Err(io::Error::other(String::from_utf8_lossy(&client.received).into_owned()));
            }
        };
        let head: Vec<u8> = client.received.drain(..end).collect();
        if !head.starts_with(b"HTTP/1.1 101 ") {
            return Err(io::Error::other(String::from_utf8_lossy(&head).into_owned()));
        }
        Ok(client)
    }

    /// Changes how long it waits for anything.
    pub fn set_patience(&mut self, patience: Duration) {
        self.patience = patience;
    }

    /// Whether pings of the WebSocket are left unanswered, as by a peer that hangs.
    pub fn set_deaf(&mut self, is_deaf: bool) {
        self.is_deaf = is_deaf;
    }

    /// The socket below.
    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Sends a message.
    ///
    /// # Errors
    ///
    /// Those of the system.
    pub fn try_send(&mut self, message: &Value) -> io::Result<()> {
        let text = message.to_string();
        if !self.zips {
            return self.send_frame(TEXT, text.as_bytes());
        }
        let mut zipped = Vec::new();
        GzEncoder::new(text.as_bytes(), Compression::default()).read_to_end(&mut zipped)?;
        self.send_frame(BINARY, &zipped)
    }

    /// Sends a message.
    #[track_caller]
    pub fn send(&mut self, message: &Value) {
        self.try_send(message).unwrap_or_else(|error| panic!("sending {message}: {error}"));
    }

    /// Sends a frame with this first byte, whatever it holds.
    ///
    /// # Errors
    ///
    /// Those of the system.
    pub fn send_frame(&mut self, first: u8, payload: &[u8]) -> io::Result<()> {
        let mut frame = Vec::new();
        write_frame(&mut frame, first, payload);
        self.stream.write_all(&frame)
    }

    /// Sends a close frame with this code.
    ///
    /// # Errors
    ///
    /// Those of the system.
    pub fn send_close(&mut self, code: u16) -> io::Result<()> {
        self.send_frame(CLOSE, &code.to_be_bytes())
    }

    /// Ends the connection without a word.
    pub fn hang_up(self) {
        // It may be gone already.
        let _ = self.stream.shutdown(Shutdown::Both);
    }

    /// What comes next; `None` if nothing has come until then.
    ///
    /// # Errors
    ///
    /// For what no gateway sends: frames that are no JSON.
    pub fn next_until(&mut self, deadline: Instant) -> io::Result<Option<Heard>> {
        if let Some(message) = self.kept.pop_front() {
            return Ok(Some(Heard::Message(message)));
        }
        self.read_until(deadline)
    }

    /// The next message, those first that came while something else was awaited.
    #[track_caller]
    pub fn hear(&mut self) -> Value {
        match self.next_until(Instant::now() + self.patience) {
            Ok(Some(Heard::Message(message))) => message,
            other => panic!("waiting for a message: {other:?}"),
        }
    }

    /// The next message, which must be this event.
    #[track_caller]
    pub fn expect(&mut self, event: &str) -> Value {
        let message = self.hear();
        assert_eq!(message["event"], event, "{message}");
        message
    }

    /// Waits for the end, before which nothing else may come; the result is its code.
    #[track_caller]
    pub fn closed(&mut self) -> Option<u16> {
        match self.next_until(Instant::now() + self.patience) {
            Ok(Some(Heard::Closed(code))) => code,
            other => panic!("waiting for the close: {other:?}"),
        }
    }

    /// Registers, and returns the `data` of the answer.
    #[track_caller]
    #[allow(clippy::missing_errors_doc, reason = "the server's own refusal, whole")]
    pub fn register(&mut self, credentials: &Credentials) -> Result<Value, Value> {
        self.begin(&credentials.registration(), "GATEWAY_READY")
    }

    /// Resumes, and returns the `data` of the answer. The events that were missed come behind it.
    #[track_caller]
    #[allow(clippy::missing_errors_doc, reason = "the server's own refusal, whole")]
    pub fn resume(&mut self, credentials: &Credentials, session_id: &str, seq: Option<u64>) -> Result<Value, Value> {
        self.begin(&credentials.resumption(session_id, seq), "GATEWAY_RESUMED")
    }

    /// Pings, acknowledges events up to `seq` if there is one, and waits for the answer. Events that come first are kept.
    #[track_caller]
    pub fn ping(&mut self, seq: Option<u64>) {
        self.send(&ping(seq));
        let answer = self.await_message(|message| message["type"] == 3 || message["type"] == 2);
        assert_eq!(answer, json!({"type": 3, "service": "gateway", "event": "GATEWAY_PING", "data": {}}));
    }

    /// Shows that nothing has come, by two pings whose answers must be next.
    #[track_caller]
    pub fn expect_silence(&mut self) {
        for _ in 0..2 {
            self.ping(None);
        }
        assert!(self.kept.is_empty(), "expected nothing, received {:?}", self.kept);
    }

    #[track_caller]
    fn begin(&mut self, request: &Value, success: &str) -> Result<Value, Value> {
        self.send(request);
        // The greeting of header mode has type 1 too, and may not have been read.
        let is_answer =
            |message: &Value| message["type"] == 2 || message["type"] == 1 && message["event"] != "GATEWAY_HELLO";
        let mut answer = self.await_message(is_answer);
        if answer["event"] == success { Ok(answer["data"].take()) } else { Err(answer) }
    }

    /// The first message that is wanted; others are kept.
    #[track_caller]
    fn await_message(&mut self, is_wanted: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + self.patience;
        loop {
            match self.read_until(deadline) {
                Ok(Some(Heard::Message(message))) if is_wanted(&message) => return message,
                Ok(Some(Heard::Message(message))) => self.kept.push_back(message),
                other => panic!("waiting for an answer: {other:?}; before it {:?}", self.kept),
            }
        }
    }

    fn read_until(&mut self, deadline: Instant) -> io::Result<Option<Heard>> {
        loop {
            while let Some((first, payload, length)) = whole_frame(&self.received) {
                let payload = payload.to_vec();
                self.received.drain(..length);
                match first {
                    TEXT => return message(&payload).map(Some),
                    BINARY => {
                        let mut text = Vec::new();
                        ZlibDecoder::new(&payload[..]).read_to_end(&mut text)?;
                        return message(&text).map(Some);
                    }
                    // A server that is gone needs no pong and no echo.
                    PING if !self.is_deaf => drop(self.send_frame(PONG, &payload)),
                    PING | PONG => {}
                    CLOSE => {
                        drop(self.send_frame(CLOSE, &payload[..payload.len().min(2)]));
                        let code = payload.first_chunk().map_or(1005, |code| u16::from_be_bytes(*code));
                        return Ok(Some(Heard::Closed(Some(code))));
                    }
                    _ => return Err(io::Error::other(format!("a frame that begins with {first:#04x}"))),
                }
            }
            match self.receive(deadline) {
                Ok(true) => {}
                Ok(false) => return Ok(Some(Heard::Closed(None))),
                Err(error) if error.kind() == io::ErrorKind::TimedOut => return Ok(None),
                Err(_) => return Ok(Some(Heard::Closed(None))),
            }
        }
    }

    /// Receives something. `false`: the server has closed its side. An error of the kind `TimedOut`: nothing came in time.
    fn receive(&mut self, deadline: Instant) -> io::Result<bool> {
        let mut piece = [0; 64 * 1024];
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(io::ErrorKind::TimedOut.into());
            }
            self.stream.set_read_timeout(Some(left))?;
            match self.stream.read(&mut piece) {
                Ok(count) => {
                    self.received.extend_from_slice(&piece[..count]);
                    return Ok(count > 0);
                }
                Err(error) if is_early_return(&error) => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// The message that pings.
pub(super) fn ping(seq: Option<u64>) -> Value {
    match seq {
        Some(seq) => json!({"type": 3, "d": {"seq": seq}}),
        None => json!({"type": 3}),
    }
}

fn message(text: &[u8]) -> io::Result<Heard> {
    Ok(Heard::Message(serde_json::from_slice(text)?))
}

const TEXT: u8 = 0x81;
const BINARY: u8 = 0x82;
const CLOSE: u8 = 0x88;
const PING: u8 = 0x89;
const PONG: u8 = 0x8a;
