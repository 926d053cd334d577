//! A blocking HTTP client for tests: one connection for each request, so that nothing of one reaches the next.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};

use serde_json::Value;

use crate::client::PATIENCE;

/// Where requests go, and the token that they present.
#[derive(Clone, Debug)]
pub struct HttpClient {
    address: SocketAddr,
    token: Option<String>,
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpAnswer {
    /// The status code.
    pub status: u16,
    /// Names in lower case, in their order.
    pub headers: Vec<(String, String)>,
    /// The body as text.
    pub body: String,
}

impl HttpClient {
    /// A client that presents no token.
    pub fn new(address: SocketAddr) -> Self {
        Self { address, token: None }
    }

    /// The same with `Authorization: Bearer TOKEN`.
    #[must_use]
    pub fn with_token(self, token: &str) -> Self {
        Self { token: Some(token.to_owned()), ..self }
    }

    /// Asks without a body.
    #[track_caller]
    pub fn ask(&self, method: &str, path: &str) -> HttpAnswer {
        self.ask_with(method, path, &[], "")
    }

    /// Asks with a JSON body.
    #[track_caller]
    pub fn send(&self, method: &str, path: &str, body: &Value) -> HttpAnswer {
        self.ask_with(method, path, &[("Content-Type", "application/json")], &body.to_string())
    }

    /// Asks with these headers besides `Host`, `Connection`, the token's and, with a body, `Content-Length`.
    #[track_caller]
    pub fn ask_with(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> HttpAnswer {
        let mut request = format!("{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n", self.address);
        if let Some(token) = &self.token {
            request.push_str(&format!("Authorization: Bearer {token}\r\n"));
        }
        for (name, value) in headers {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        if !body.is_empty() {
            request.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        request.push_str("\r\n");
        request.push_str(body);
        let received = self.exchange(request.as_bytes());
        HttpAnswer::parse(&received).unwrap_or_else(|| panic!("{method} {path}: no answer but {received:?}"))
    }

    /// Sends bytes as they are and returns everything that comes until the server closes its side.
    #[track_caller]
    pub fn exchange(&self, bytes: &[u8]) -> String {
        let mut stream = self.connect();
        // A server may refuse before it has read everything; what it says counts.
        let sent = stream.write_all(bytes);
        let mut received = Vec::new();
        match stream.read_to_end(&mut received) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset && !received.is_empty() => {}
            Err(error) => panic!("{error} (sent: {sent:?}), received \"{}\"", received.escape_ascii()),
        }
        String::from_utf8_lossy(&received).into_owned()
    }

    /// A connection for whoever wants to speak by itself; every read has a deadline.
    #[track_caller]
    pub fn connect(&self) -> TcpStream {
        let connected = TcpStream::connect_timeout(&self.address, PATIENCE).and_then(|stream| {
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.set_nodelay(true)?;
            Ok(stream)
        });
        connected.unwrap_or_else(|error| panic!("connecting to {}: {error}", self.address))
    }
}

impl HttpAnswer {
    /// Reads an answer that ends with its connection.
    pub fn parse(text: &str) -> Option<Self> {
        let (head, body) = text.split_once("\r\n\r\n")?;
        let mut lines = head.split("\r\n");
        let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
        let headers = lines
            .map(|line| line.split_once(':').map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned())));
        Some(Self { status, headers: headers.collect::<Option<_>>()?, body: body.to_owned() })
    }

    /// A header's value, if there is one.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }

    /// The body as JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("not JSON: {error}: {self:?}"))
    }

    /// The JSON body of an answer with this status.
    #[track_caller]
    pub fn expect(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{self:?}");
        self.json()
    }

    /// Checks that it is an error of this status and code, in the one shape that errors have.
    #[track_caller]
    pub fn expect_error(&self, status: u16, code: &str) -> String {
        let body = self.expect(status);
        let message = body["error"]["message"].as_str().unwrap_or_default();
        assert!(!message.is_empty(), "{body}");
        assert_eq!(body, serde_json::json!({"error": {"code": code, "message": message}}));
        message.to_owned()
    }
}
