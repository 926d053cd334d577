//! A blocking client of DDP, for tests: [`LineClient`] over a WebSocket, and the words of methods and subscriptions.
//!
//! Frames that come while an answer is awaited are kept in their order, and [`DdpClient::frame`] has them first. Pings of the
//! server are answered and not shown.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};

use crate::client::{LineClient, Missed};

/// One client.
#[derive(Debug)]
pub struct DdpClient {
    line: LineClient,
    /// Came while something else was awaited.
    kept: VecDeque<Value>,
    /// Ids that it has given so far.
    ids: u64,
}

impl DdpClient {
    /// Connects and says nothing yet. The greeting has been read.
    ///
    /// # Errors
    ///
    /// Those of the system, and the server's head when it is no upgrade.
    pub fn silent(address: SocketAddr) -> io::Result<Self> {
        Self::greeted(LineClient::web(address, "/websocket")?)
    }

    /// Over a WebSocket that has been opened.
    ///
    /// # Errors
    ///
    /// When the greeting does not come first.
    pub fn greeted(line: LineClient) -> io::Result<Self> {
        let mut client = Self { line, kept: VecDeque::new(), ids: 0 };
        match client.line.try_read_line() {
            Ok(greeting) if greeting == r#"{"server_id":"0"}"# => Ok(client),
            Ok(other) => Err(io::Error::other(other)),
            Err(missed) => Err(io::Error::other(missed.to_string())),
        }
    }

    /// Connects and opens a session.
    ///
    /// # Errors
    ///
    /// As [`DdpClient::silent`].
    #[track_caller]
    pub fn connect(address: SocketAddr) -> io::Result<Self> {
        let mut client = Self::silent(address)?;
        client.open();
        Ok(client)
    }

    /// Opens the session.
    #[track_caller]
    pub fn open(&mut self) {
        self.send(&json!({"msg": "connect", "version": "1", "support": ["1"]}));
        let connected = self.frame();
        assert_eq!(connected["msg"], "connected", "{connected}");
    }

    /// The client below, for what is no message.
    pub fn line(&mut self) -> &mut LineClient {
        &mut self.line
    }

    /// Changes how long it waits for anything.
    pub fn set_patience(&mut self, patience: Duration) {
        self.line.set_patience(patience);
    }

    /// Sends a message.
    #[track_caller]
    pub fn send(&mut self, message: &Value) {
        self.line.send(&message.to_string());
    }

    /// Sends a text that may be no message.
    #[track_caller]
    pub fn send_text(&mut self, text: &str) {
        self.line.send(text);
    }

    /// The next frame, those first that came while something else was awaited. The server's close is `{"closed":CODE}`.
    #[track_caller]
    pub fn frame(&mut self) -> Value {
        match self.kept.pop_front() {
            Some(frame) => frame,
            None => self.read(),
        }
    }

    /// Whether frames came while something else was awaited, and nobody has taken them.
    pub fn has_kept(&self) -> bool {
        !self.kept.is_empty()
    }

    /// The next `count` frames.
    #[track_caller]
    pub fn frames(&mut self, count: usize) -> Vec<Value> {
        (0..count).map(|_| self.frame()).collect()
    }

    /// The arguments of the next frame, which must be `changed` of this stream.
    #[track_caller]
    pub fn heard(&mut self, stream: &str) -> Value {
        let mut frame = self.frame();
        assert_eq!((&frame["msg"], &frame["collection"]), (&json!("changed"), &json!(stream)), "{frame}");
        frame["fields"]["args"].take()
    }

    /// The close code of the server, with which everything ends.
    #[track_caller]
    pub fn closed(&mut self) -> u64 {
        let frame = self.frame();
        let code = frame["closed"].as_u64().unwrap_or_else(|| panic!("expected a close, received {frame}"));
        self.line.expect_fin();
        code
    }

    /// Calls a method and waits for what it returns: its result (`null` without one), or its error.
    #[track_caller]
    #[allow(clippy::missing_errors_doc, reason = "the server's own error")]
    pub fn call(&mut self, method: &str, params: Value) -> Result<Value, Value> {
        let id = self.begin(method, params);
        self.finish(&id)
    }

    /// Calls a method; the result is the id of the call.
    #[track_caller]
    pub fn begin(&mut self, method: &str, params: Value) -> String {
        let id = self.next_id();
        self.send(&json!({"msg": "method", "id": id, "method": method, "params": params}));
        id
    }

    /// Waits for what a call returns, and that it has been done.
    #[track_caller]
    #[allow(clippy::missing_errors_doc, reason = "the server's own error")]
    pub fn finish(&mut self, id: &str) -> Result<Value, Value> {
        let mut result = self.await_frame(|frame| frame["msg"] == "result" && frame["id"] == id);
        self.await_frame(|frame| frame["msg"] == "updated" && frame["methods"] == json!([id]));
        match result.get_mut("error") {
            Some(error) => Err(error.take()),
            None => Ok(result["result"].take()),
        }
    }

    /// Subscribes and waits until it is ready; the result is the subscription's id.
    #[track_caller]
    #[allow(clippy::missing_errors_doc, reason = "the server's own error")]
    pub fn sub(&mut self, name: &str, params: Value) -> Result<String, Value> {
        let id = self.next_id();
        self.send(&json!({"msg": "sub", "id": id, "name": name, "params": params}));
        let mut answer = self.await_frame(|frame| {
            frame["msg"] == "ready" && frame["subs"] == json!([id]) || frame["msg"] == "nosub" && frame["id"] == id
        });
        if answer["msg"] == "ready" { Ok(id) } else { Err(answer["error"].take()) }
    }

    /// Ends a subscription and waits until it has ended.
    #[track_caller]
    pub fn unsub(&mut self, id: &str) {
        self.send(&json!({"msg": "unsub", "id": id}));
        self.await_frame(|frame| frame["msg"] == "nosub" && frame["id"] == id);
    }

    /// Logs in with a name and a plain password, and returns the token.
    #[track_caller]
    pub fn log_in(&mut self, name: &str, password: &str) -> String {
        let result = self.call("login", json!([{"user": {"username": name}, "password": password}]));
        self.logged_in(result)
    }

    /// Logs in with the token of an earlier log-in.
    #[track_caller]
    pub fn resume(&mut self, token: &str) {
        let result = self.call("login", json!([{"resume": token}]));
        let same = self.logged_in(result);
        assert_eq!(same, token);
    }

    /// Takes the document of the user, which comes before the result.
    #[track_caller]
    fn logged_in(&mut self, result: Result<Value, Value>) -> String {
        let result = result.unwrap_or_else(|error| panic!("login: {error}"));
        let at = self.kept.iter().position(|frame| frame["msg"] == "added" && frame["collection"] == "users");
        let added = at.and_then(|at| self.kept.remove(at)).unwrap_or_default();
        assert_eq!(added["id"], result["id"], "{added} {result}");
        result["token"].as_str().unwrap_or_else(|| panic!("no token: {result}")).to_owned()
    }

    /// Shows that nothing has come and that nothing is on its way that the server already knew of: two subscriptions, one
    /// after the other, to rooms that are not there. Each is refused by whoever knows the rooms.
    #[track_caller]
    pub fn expect_silence(&mut self) {
        for _ in 0..2 {
            let refused = self.sub("stream-room-messages", json!([format!("sentinel-{}", self.ids)]));
            assert_eq!(refused.err().map(|error| error["error"].clone()), Some("not-allowed".into()));
        }
        assert!(self.kept.is_empty(), "expected nothing, received {:?}", self.kept);
    }

    fn next_id(&mut self) -> String {
        self.ids += 1;
        self.ids.to_string()
    }

    /// The first frame that is wanted; others are kept.
    #[track_caller]
    fn await_frame(&mut self, is_wanted: impl Fn(&Value) -> bool) -> Value {
        loop {
            let frame = self.read();
            if is_wanted(&frame) {
                return frame;
            }
            assert!(frame.get("closed").is_none(), "the server closed: {frame}, before it {:?}", self.kept);
            self.kept.push_back(frame);
        }
    }

    /// The next frame from the wire.
    #[track_caller]
    fn read(&mut self) -> Value {
        loop {
            let text = match self.line.try_read_line() {
                Ok(text) => text,
                // However it is closed, a close is a close.
                Err(Missed::Closed { rest }) if rest.is_empty() => return json!({"closed": null}),
                Err(missed) => panic!("waiting for a frame: {missed}; kept: {:?}", self.kept),
            };
            let frame: Value =
                serde_json::from_str(&text).unwrap_or_else(|error| panic!("not JSON: {error}: {text:?}"));
            if frame["msg"] != "ping" {
                return frame;
            }
            self.send(&json!({"msg": "pong"}));
        }
    }
}
