//! A blocking HTTP client that sends exactly the bytes it is told to, for tests.
//!
//! It understands as much of an answer as is needed to know where it ends. Whatever it waits for must come in
//! [`PATIENCE`].

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};

use serde_json::Value;

use crate::client::PATIENCE;

/// A connection that speaks HTTP/1.1.
#[derive(Debug)]
pub struct RawHttp<S = TcpStream> {
    stream: S,
    /// Received and not taken yet.
    received: Vec<u8>,
    host: String,
}

/// An answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RawAnswer {
    /// Its status, such as 200.
    pub status: u16,
    /// Names in lower case, and values.
    pub headers: Vec<(String, String)>,
    /// What came behind the head.
    pub body: Vec<u8>,
}

impl RawAnswer {
    /// A header's value; the first, if there are several.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }

    /// The body as text.
    #[track_caller]
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap_or_else(|error| panic!("{error} in {:?}", self.body.escape_ascii()))
    }

    /// The body as JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error} in {self:?}"))
    }

    /// In how many seconds it may be asked again, if it says so.
    pub fn retry_seconds(&self) -> Option<u64> {
        self.header("retry-after")?.parse().ok()
    }

    /// What the server calls this browser from now on, as a `Cookie`.
    pub fn cookie(&self) -> Option<&str> {
        self.header("set-cookie")?.split(';').next()
    }
}

impl RawHttp {
    /// Connects.
    ///
    /// # Errors
    ///
    /// Those of the system.
    pub fn connect(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self::over(stream, address.to_string()))
    }

    /// Closes its own side: the server reads the end.
    ///
    /// # Errors
    ///
    /// Those of the system.
    pub fn half_close(&self) -> io::Result<()> {
        self.stream.shutdown(Shutdown::Write)
    }
}

impl<S: Read + Write> RawHttp<S> {
    /// Speaks over a connected stream, with this `Host`.
    pub fn over(stream: S, host: impl Into<String>) -> Self {
        Self { stream, received: Vec::new(), host: host.into() }
    }

    /// What it calls the server.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The stream itself.
    pub fn stream(&mut self) -> &mut S {
        &mut self.stream
    }

    /// Sends bytes as they are, in one write.
    ///
    /// # Errors
    ///
    /// Those of the system.
    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.stream.write_all(bytes.as_ref()).and_then(|()| self.stream.flush())
    }

    /// Sends bytes as they are, in one write.
    #[track_caller]
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes).unwrap_or_else(|error| panic!("sending: {error}"));
    }

    /// Sends a request with these lines of headers beside `Host`, and the length of its body if there is one.
    #[track_caller]
    pub fn request(&mut self, method: &str, target: &str, headers: &[&str], body: &[u8]) -> RawAnswer {
        let mut request = format!("{method} {target} HTTP/1.1\r\nHost: {}\r\n", self.host);
        for header in headers {
            request.push_str(&format!("{header}\r\n"));
        }
        if !body.is_empty() {
            request.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        self.send([request.as_bytes(), b"\r\n", body].concat());
        self.answer_to(method)
    }

    /// Gets a target.
    #[track_caller]
    pub fn get(&mut self, target: &str) -> RawAnswer {
        self.request("GET", target, &[], b"")
    }

    /// Asks for a WebSocket, with these lines of headers beside those that it needs.
    #[track_caller]
    pub fn upgrade(&mut self, target: &str, headers: &[&str]) -> RawAnswer {
        let needed = [
            "Connection: Upgrade",
            "Upgrade: websocket",
            "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        ];
        self.request("GET", target, &[&needed[..], headers].concat(), b"")
    }

    /// The next answer, which must come.
    #[track_caller]
    pub fn answer(&mut self) -> RawAnswer {
        self.answer_to("GET")
    }

    /// The next answer, which must come, to a request of this method.
    #[track_caller]
    pub fn answer_to(&mut self, method: &str) -> RawAnswer {
        match self.try_answer(method) {
            Ok(Some(answer)) => answer,
            Ok(None) => panic!("the server closed instead of answering"),
            Err(error) => panic!("instead of an answer: {error}; received: {}", self.received.escape_ascii()),
        }
    }

    /// The next answer to a request of this method; `None` when the server has closed.
    ///
    /// # Errors
    ///
    /// When it does not come in time, ends early, or is not HTTP.
    pub fn try_answer(&mut self, method: &str) -> io::Result<Option<RawAnswer>> {
        let end = loop {
            if let Some(at) = self.received.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                break at + 4;
            }
            match self.receive() {
                Ok(0) if self.received.is_empty() => return Ok(None),
                Err(error) if is_end(&error) && self.received.is_empty() => return Ok(None),
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(_) => {}
                Err(error) => return Err(error),
            }
        };
        let head: Vec<u8> = self.received.drain(..end).collect();
        let mut answer = parse_head(&head).ok_or_else(|| io::Error::other(head.escape_ascii().to_string()))?;
        let has_body = method != "HEAD" && !matches!(answer.status, 101 | 204 | 304);
        if has_body {
            answer.body = match answer.header("content-length") {
                Some(length) => {
                    let length = length.parse().map_err(io::Error::other)?;
                    self.exact(length)?
                }
                None if answer.header("transfer-encoding") == Some("chunked") => self.chunks()?,
                None => return Err(io::Error::other("an answer without a length")),
            };
        }
        Ok(Some(answer))
    }

    /// The next `count` bytes, whatever they are.
    ///
    /// # Errors
    ///
    /// When they do not come.
    pub fn exact(&mut self, count: usize) -> io::Result<Vec<u8>> {
        while self.received.len() < count {
            if self.receive()? == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(self.received.drain(..count).collect())
    }

    /// Everything up to the server's end.
    ///
    /// # Errors
    ///
    /// When that does not come in time.
    pub fn rest(&mut self) -> io::Result<Vec<u8>> {
        loop {
            match self.receive() {
                Ok(0) => return Ok(std::mem::take(&mut self.received)),
                Ok(_) => {}
                Err(error) if is_end(&error) => return Ok(std::mem::take(&mut self.received)),
                Err(error) => return Err(error),
            }
        }
    }

    /// The server has closed, and said nothing more.
    #[track_caller]
    pub fn end(&mut self) {
        match self.rest() {
            Ok(rest) => assert!(rest.is_empty(), "instead of the end: {}", rest.escape_ascii()),
            Err(error) => panic!("instead of the end: {error}"),
        }
    }

    /// The same where bytes of this client may have crossed with the end: then the kernel resets.
    #[track_caller]
    pub fn end_or_reset(&mut self) {
        match self.rest() {
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {}
            Ok(rest) => assert!(rest.is_empty(), "instead of the end: {}", rest.escape_ascii()),
            Err(error) => panic!("instead of the end: {error}"),
        }
    }

    fn chunks(&mut self) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let line = self.line()?;
            let size = usize::from_str_radix(&line, 16).map_err(io::Error::other)?;
            body.extend(self.exact(size)?);
            self.line()?;
            if size == 0 {
                return Ok(body);
            }
        }
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            line.extend(self.exact(1)?);
        }
        line.truncate(line.len() - 2);
        String::from_utf8(line).map_err(io::Error::other)
    }

    fn receive(&mut self) -> io::Result<usize> {
        let mut piece = [0; 16 * 1024];
        let count = self.stream.read(&mut piece)?;
        self.received.extend_from_slice(&piece[..count]);
        Ok(count)
    }
}

fn parse_head(head: &[u8]) -> Option<RawAnswer> {
    let head = std::str::from_utf8(head).ok()?;
    let mut lines = head.trim_end().split("\r\n");
    let status = lines.next()?.strip_prefix("HTTP/1.")?.get(2..5)?.parse().ok()?;
    let headers = lines.map(|line| {
        let (name, value) = line.split_once(':')?;
        Some((name.to_ascii_lowercase(), value.trim().to_owned()))
    });
    Some(RawAnswer { status, headers: headers.collect::<Option<_>>()?, body: Vec::new() })
}

/// The server was quicker with closing than with reading.
fn is_end(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::UnexpectedEof)
}
