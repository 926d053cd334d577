//! HTTP: actions, the way to a WebSocket, and what both have to do with connections.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::io::{ErrorKind, Read, Write};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use switchboard::action::{Action, ActionResult, ActionSpec, ConnectionType, Reply, Request};
use switchboard::node::Speaker;
use switchboard::proto::close::CloseReason;
use switchboard::proto::id::ConnId;
use switchboard::{CallError, Node};
use switchboard_testkit::client::LineClient;
use switchboard_testkit::raw_http::{RawAnswer, RawHttp};

use super::http_backend::{Backend, Reaction, SECRET};
use super::peer::{Running, config, eventually};
use super::support::TestServer;

pub(super) const JSON: &str = "Content-Type: application/json";
const FORM: &str = "Content-Type: application/x-www-form-urlencoded";

pub(super) fn connect(running: &Running) -> RawHttp {
    RawHttp::connect(running.web()).unwrap()
}

/// The error and the status of an answer.
fn refusal(answer: &RawAnswer) -> (u16, String) {
    (answer.status, answer.json()["error"].as_str().unwrap_or_default().to_owned())
}

/// Answers with its params.
struct Echo;

impl Action for Echo {
    fn spec(&self) -> ActionSpec {
        ActionSpec::new("echo")
    }

    async fn run(&self, request: &mut Request) -> ActionResult {
        let params = request.params().iter().map(|(name, value)| (name.to_owned(), value.clone()));
        Ok(Reply::new().with("params", params.collect::<serde_json::Map<_, _>>()))
    }
}

#[test]
fn an_action_is_answered_as_on_the_real_servers() {
    let running = Running::start(config());
    let mut client = connect(&running);
    let answer = client.get("/api/randomNumber");
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("content-type"), Some("application/json; charset=utf-8"));
    assert_eq!(answer.header("x-powered-by"), Some("Switchboard"));
    assert_eq!(answer.header("access-control-allow-origin"), None);
    let body = answer.json();
    assert!(body["randomNumber"].is_f64() && body.get("messageCount").is_none() && body.get("context").is_none());
    let server = &body["serverInformation"];
    assert_eq!(server["serverName"], "Switchboard");
    assert_eq!(server["apiVersion"], env!("CARGO_PKG_VERSION"));
    assert!(server["requestDuration"].is_u64() && server["currentTime"].is_u64());
    let requester = &body["requesterInformation"];
    assert!(ConnId::parse(requester["id"].as_str().unwrap()).is_some());
    assert_eq!(requester["remoteIP"], "127.0.0.1");
    assert_eq!(requester["receivedParams"], json!({"action": "randomNumber"}));
    assert_eq!(answer.cookie(), Some(&*format!("sessionID={}", requester["fingerprint"].as_str().unwrap())));
    // On the same connection, and yet another one for the node.
    let again = client.get("/api?action=randomNumber").json();
    assert_ne!(again["requesterInformation"]["id"], requester["id"]);
    assert!(again["randomNumber"].is_f64());
}

#[test]
fn the_status_tells_what_went_wrong() {
    let running = Running::start(config());
    let mut client = connect(&running);
    for (target, status, error) in [
        ("/api/cacheTest", 422, "Error: key is a required parameter for this action"),
        ("/api/sleepTest?sleepDuration=x", 422, "Error: sleepDuration must be a number of milliseconds, at most a day"),
        ("/api/nope", 404, "Error: unknown action or invalid apiVersion"),
        ("/api/randomNumber?apiVersion=7", 404, "Error: unknown action or invalid apiVersion"),
        ("/api/randomNumber/more", 404, "Error: unknown action or invalid apiVersion"),
        ("/api/", 404, "Error: unknown action or invalid apiVersion"),
        ("/api", 404, "Error: unknown action or invalid apiVersion"),
        ("/api/%zz", 400, "Error: the params are not well-formed"),
        ("/api/randomNumber?a=%c0%af", 400, "Error: the params are not well-formed"),
        ("/api/randomNumber?a=1&a=2", 400, "Error: the params are not well-formed"),
    ] {
        assert_eq!(refusal(&client.get(target)), (status, error.to_owned()), "{target}");
    }
    let mut modern = config();
    modern.servers.web.compat = switchboard::config::Compat::Modern;
    let running = Running::start(modern);
    let answer = connect(&running).get("/api/nope");
    assert_eq!(refusal(&answer), (404, "unknown action or invalid apiVersion".to_owned()));
}

#[test]
fn params_come_from_the_query_then_the_body_then_the_path() {
    let running = Running::start_with(config(), |builder| builder.action(Echo));
    let mut client = connect(&running);
    let mut echo = |method: &str, target: &str, headers: &[&str], body: &str| {
        client.request(method, target, headers, body.as_bytes()).json()["params"].clone()
    };
    assert_eq!(echo("GET", "/api/echo?a=1+2&b=%C3%A9", &[], ""), json!({"a": "1 2", "b": "é", "action": "echo"}));
    assert_eq!(
        echo("POST", "/api/echo?a=query&action=other", &[JSON], r#"{"a":{"b":[1,true]},"action":"third"}"#),
        json!({"a": {"b": [1, true]}, "action": "echo"})
    );
    assert_eq!(
        echo("PUT", "/api?a=query&action=other", &[FORM], "a=f%26rm&action=echo"),
        json!({"a": "f&rm", "action": "echo"})
    );
    assert_eq!(echo("DELETE", "/api/echo/", &[], ""), json!({"action": "echo"}));
    assert_eq!(echo("POST", "/api/ech%6f", &["Content-Length: 0"], ""), json!({"action": "echo"}));
    // Nothing sticks to the connection.
    assert_eq!(echo("GET", "/api/echo", &[], ""), json!({"action": "echo"}));
    let chunked = format!(
        "POST /api/echo HTTP/1.1\r\nHost: {}\r\n{JSON}; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n\
         5\r\n{{\"a\":\r\n3;x=y\r\n12}}\r\n0\r\nX-Trailer: t\r\n\r\n",
        client.host()
    );
    client.send(chunked);
    assert_eq!(client.answer().json()["params"], json!({"a": 12, "action": "echo"}));
}

#[test]
fn fault_row_6_a_body_that_is_no_object_within_the_limits_is_refused() {
    let running = Running::start(config());
    let mut client = connect(&running);
    let deep = format!("{{\"a\":{}1{}}}", "[".repeat(100_000), "]".repeat(100_000));
    let keys: Vec<String> = (0..1001).map(|index| format!("\"k{index}\":1")).collect();
    let wide = format!("{{\"a\":{{{}}}}}", keys.join(","));
    for body in ["", "x", "[1]", "null", "\"a\"", "{\"a\":1,\"a\":2}", "{\"a\":1} ", "{\"a\":1}{}", &deep, &wide] {
        let expected = if body.is_empty() || body == "{\"a\":1} " { 200 } else { 400 };
        let answer = client.request("POST", "/api/randomNumber", &[JSON], body.as_bytes());
        assert_eq!(answer.status, expected, "{:?}", &body[..body.len().min(40)]);
    }
    for (body, words) in [
        (&b"{\"a\":\"\xff\"}"[..], "not UTF-8"),
        (b"[1]", "not a JSON object"),
        (b"{\"a\":1,\"a\":2}", "a JSON object names a member twice"),
        (b"{\"a\":", "not JSON: EOF while parsing a value at line 1 column 5"),
    ] {
        let answer = client.request("POST", "/api/randomNumber", &[JSON], body);
        assert_eq!(refusal(&answer), (400, format!("Error: the body is refused: {words}")));
    }
    let answer = client.request("POST", "/api/randomNumber", &[JSON], br#"{"a":"x\ud83d"}"#);
    assert_eq!(answer.json()["requesterInformation"]["receivedParams"]["a"], "x\u{fffd}");
    let many: Vec<String> = (0..65).map(|index| format!("p{index}=1")).collect();
    let answer = client.get(&format!("/api/randomNumber?{}", many.join("&")));
    assert_eq!(refusal(&answer), (400, "Error: too many params".to_owned()));
    // All of this on one connection, which is still a good one.
    assert_eq!(client.get("/api/randomNumber").status, 200);
}

#[test]
fn a_body_that_is_too_large_or_of_another_type_is_refused_before_it_is_sent() {
    let mut config = config();
    config.servers.web.max_body_bytes = 1000;
    let running = Running::start(config);
    let expecting = |headers: &str| {
        let mut client = connect(&running);
        let host = client.host().to_owned();
        client.send(format!("POST /api/status HTTP/1.1\r\nHost: {host}\r\n{headers}\r\n\r\n"));
        client
    };
    let mut client = expecting(&format!("{JSON}\r\nExpect: 100-continue\r\nContent-Length: 1001"));
    assert_eq!(refusal(&client.answer()), (413, "Error: the body is too large".to_owned()));
    client.end();
    let mut client = expecting(&format!("{JSON}\r\nTransfer-Encoding: chunked"));
    client.send(format!("3e9\r\n{}\r\n", "x".repeat(1001)));
    assert_eq!(refusal(&client.answer()).0, 413);
    client.end();
    let mut client = expecting("Content-Type: text/plain\r\nContent-Length: 5");
    assert_eq!(client.answer().status, 415);
    client.end();
    // One that is not too large is asked for.
    let mut client = expecting(&format!("{JSON}\r\nExpect: 100-continue\r\nContent-Length: 2"));
    assert_eq!(client.exact(25).unwrap(), b"HTTP/1.1 100 Continue\r\n\r\n");
    client.send("{}");
    assert_eq!(client.answer().status, 200);
}

#[test]
fn a_cookie_labels_the_requests_and_connections_of_a_browser() {
    let running = Running::start(config());
    let mut client = connect(&running);
    let first = client.get("/api/status");
    let cookie = first.header("set-cookie").unwrap();
    assert!(cookie.ends_with("; Path=/; HttpOnly; SameSite=Lax"), "{cookie}");
    let cookie = format!("Cookie: other=1; {}", first.cookie().unwrap());
    let fingerprint = first.json()["requesterInformation"]["fingerprint"].clone();
    let second = client.request("GET", "/api/status", &[&cookie], b"");
    assert_eq!(second.json()["requesterInformation"]["fingerprint"], fingerprint);
    assert_eq!(second.header("set-cookie"), None);
    // A page gets it before its scripts run.
    assert!(client.get("/nothing.html").cookie().is_some());

    let mut socket = Socket::open(client, &[&cookie]);
    let details = socket.ask(&json!({"event": "detailsView"}));
    assert_eq!(details["data"]["fingerprint"], fingerprint);
    let mut bare = Socket::open(connect(&running), &[]);
    assert_eq!(bare.ask(&json!({"event": "detailsView"}))["data"]["fingerprint"], Value::Null);
}

/// Keeps the id of its connection, and waits.
struct Hold(Arc<Mutex<Option<ConnId>>>, Arc<tokio::sync::Notify>);

impl Action for Hold {
    fn spec(&self) -> ActionSpec {
        ActionSpec::new("hold").only_for([ConnectionType::Web])
    }

    async fn run(&self, request: &mut Request) -> ActionResult {
        let connection = request.connection();
        connection.set("held", true)?;
        *self.0.lock().unwrap() = Some(connection.id());
        self.1.notified().await;
        Ok(Reply::new().with("held", connection.get("held")).with("type", connection.connection_type().as_str()))
    }
}

#[test]
fn a_request_is_a_connection_for_as_long_as_it_takes() {
    let held = Arc::new(Mutex::new(None));
    let go = Arc::new(tokio::sync::Notify::new());
    let action = Hold(Arc::clone(&held), Arc::clone(&go));
    let running = Running::start_with(config(), |builder| builder.action(action));
    let node: &Node = running.node();
    let mut client = connect(&running);
    client.send(format!("GET /api/hold HTTP/1.1\r\nHost: {}\r\n\r\n", client.host()));
    eventually("it runs", || held.lock().unwrap().is_some());
    let id = held.lock().unwrap().unwrap();
    assert_eq!((running.connections(), node.connection_ids()), (1, vec![id]));
    running.block_on(async {
        let info = node.connection(id).await.unwrap();
        assert_eq!((info.handle.connection_type(), info.rooms.len()), (ConnectionType::Web, 0));
        assert_eq!(info.handle.attribute("type"), Some(json!("web")));
        assert_eq!(info.handle.get("held"), Some(json!(true)));
        for refused in [
            node.send_message(id, json!({})).await,
            node.disconnect(id).await,
            node.add_member(id, "defaultRoom").await,
            node.remove_member(id, "defaultRoom").await,
        ] {
            assert!(matches!(refused, Err(CallError::NotSupported)), "{refused:?}");
        }
        assert!(node.reauthenticate(id).await.unwrap().removed.is_empty());
    });
    go.notify_one();
    let answer = client.answer().json();
    assert_eq!((&answer["held"], &answer["type"]), (&json!(true), &json!("web")));
    assert_eq!(answer["requesterInformation"]["id"], id.to_string());
    running.assert_empties();
    // Other kinds of connections may not.
    let refused = running.connect().ask("hold");
    assert_eq!(refused["error"], "Error: this action does not support the socket connection type");
}

#[test]
fn an_action_that_takes_too_long_is_dropped() {
    let mut config = config();
    config.servers.web.request_timeout = Duration::from_millis(50);
    let running = Running::start(config);
    let mut client = connect(&running);
    let answer = client.get("/api/sleepTest?sleepDuration=60000");
    assert_eq!(refusal(&answer), (503, "Error: the action took too long".to_owned()));
    running.assert_empties();
    assert_eq!(client.get("/api/status").status, 200);
}

/// A WebSocket of few words.
pub(super) struct Socket<S> {
    client: RawHttp<S>,
}

impl<S: Read + Write> Socket<S> {
    /// Opens it and reads the welcome.
    #[track_caller]
    pub(super) fn open(mut client: RawHttp<S>, headers: &[&str]) -> Self {
        let answer = client.upgrade("/primus", headers);
        assert_eq!(answer.status, 101, "{answer:?}");
        assert_eq!(answer.header("sec-websocket-accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
        Self::opened(client)
    }

    /// Reads the welcome of one that was opened.
    #[track_caller]
    pub(super) fn opened(client: RawHttp<S>) -> Self {
        let mut socket = Self { client };
        assert_eq!(socket.message()["context"], "api");
        socket
    }

    pub(super) fn ask(&mut self, message: &Value) -> Value {
        self.client.send(masked(&message.to_string()));
        self.message()
    }

    /// The next text message, of less than 64 KiB.
    #[track_caller]
    pub(super) fn message(&mut self) -> Value {
        let head = self.client.exact(2).unwrap();
        assert_eq!(head[0], 0x81, "{head:?}");
        let length = match head[1] {
            126 => self.client.exact(2).map(|length| usize::from(length[0]) << 8 | usize::from(length[1])).unwrap(),
            length => usize::from(length),
        };
        serde_json::from_slice(&self.client.exact(length).unwrap()).unwrap()
    }

    pub(super) fn client(&mut self) -> &mut RawHttp<S> {
        &mut self.client
    }
}

/// A text frame of a client, of less than 126 bytes.
pub(super) fn masked(text: &str) -> Vec<u8> {
    const KEY: [u8; 4] = [1, 2, 3, 4];
    assert!(text.len() < 126);
    let payload = text.bytes().zip(KEY.iter().cycle()).map(|(byte, key)| byte ^ key);
    [0x81, 0x80 | text.len() as u8].into_iter().chain(KEY).chain(payload).collect()
}

#[test]
fn a_request_for_a_websocket_becomes_one() {
    let running = Running::start(config());
    let mut client = connect(&running);
    // Behind other requests on the same connection, too.
    assert_eq!(client.get("/api/status").status, 200);
    let mut socket = Socket::open(client, &[]);
    assert_eq!(running.connections(), 1);
    assert_eq!(socket.ask(&json!({"event": "roomAdd", "room": "defaultRoom"}))["status"], "OK");
    let mut line = running.connect();
    line.ok("roomAdd defaultRoom");
    line.ok("say defaultRoom hello");
    assert_eq!(socket.message()["message"], "hello");
    let said = running.node().broadcast(Speaker::server(), "defaultRoom", "both");
    running.block_on(said).unwrap();
    assert_eq!((socket.message()["message"].clone(), line.json()["message"].clone()), (json!("both"), json!("both")));
    let id = ConnId::parse(socket.ask(&json!({"event": "detailsView"}))["data"]["id"].as_str().unwrap()).unwrap();
    running.block_on(running.node().send_message(id, json!({"direct": 1}))).unwrap();
    assert_eq!(socket.message()["direct"], 1);
    drop((socket, line));
    running.assert_empties();
}

#[test]
fn frames_that_come_together_with_the_request_are_not_lost() {
    let running = Running::start(config());
    for path in ["/primus", "/primus/", "/primus/?_primuscb=abc", "/primusX"] {
        let mut client = connect(&running);
        let host = client.host().to_owned();
        let head = format!(
            "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        let frames = [masked(r#"{"event":"detailsView"}"#), masked(r#"{"event":"roomView","room":"x"}"#)].concat();
        client.send([head.as_bytes(), &frames].concat());
        assert_eq!(client.answer().status, 101, "{path}");
        let mut socket = Socket::opened(client);
        assert_eq!(
            (socket.message()["messageCount"].clone(), socket.message()["messageCount"].clone()),
            (1.into(), 2.into())
        );
    }
}

/// Chromium and npm's `ws` fail a connection that answers none of their sub-protocols.
#[test]
fn every_websocket_path_answers_with_the_first_sub_protocol_offered() {
    let mut config = config();
    config.servers.gateway.enabled = true;
    let running = Running::start(config);
    for path in ["/primus", "/websocket", "/gateway", "/ws_interaction"] {
        let answer = connect(&running).upgrade(path, &["Sec-WebSocket-Protocol: chat.v2, chat"]);
        assert_eq!((answer.status, answer.header("sec-websocket-protocol")), (101, Some("chat.v2")), "{path}");
        let answer = connect(&running).upgrade(path, &[]);
        assert_eq!((answer.status, answer.header("sec-websocket-protocol")), (101, None), "{path}");
        assert_eq!(connect(&running).upgrade(path, &["Sec-WebSocket-Protocol: a/b"]).status, 400, "{path}");
    }
}

#[test]
fn what_is_no_request_for_a_websocket_is_told_so() {
    let running = Running::start(config());
    for (method, headers, status) in [
        ("GET", &["Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13"][..], 400),
        (
            "GET",
            &[
                "Connection: Upgrade",
                "Upgrade: websocket",
                "Sec-WebSocket-Version: 8",
                "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
            ],
            426,
        ),
        (
            "GET",
            &["Upgrade: websocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="],
            400,
        ),
        ("GET", &["Connection: Upgrade", "Upgrade: h2c"], 426),
        (
            "POST",
            &[
                "Connection: Upgrade",
                "Upgrade: websocket",
                "Sec-WebSocket-Version: 13",
                "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
            ],
            400,
        ),
        ("POST", &[], 400),
    ] {
        let mut client = connect(&running);
        let answer = client.request(method, "/primus", headers, b"");
        assert_eq!(answer.status, status, "{method} {headers:?}");
        client.end();
    }
    let mut client = connect(&running);
    let answer = client.get("/primus");
    assert_eq!((answer.status, answer.header("content-type")), (426, Some("text/plain; charset=utf-8")));
    assert_eq!(answer.text(), "Upgrade Required");
    let spec = client.get("/primus/spec").json();
    for (name, value) in [
        ("pathname", json!("/primus")),
        ("timeout", json!(35000)),
        ("pingInterval", json!(30000)),
        ("parser", json!("json")),
        ("transformer", json!("websockets")),
    ] {
        assert_eq!(spec[name], value, "{spec}");
    }
    assert_eq!(client.get("/primus/primus.js").status, 404);
    assert_eq!(running.node().figures().accepted, 0);
    let mut config = config();
    config.servers.websocket.enabled = false;
    assert_eq!(connect(&Running::start(config)).upgrade("/primus", &[]).status, 404);
}

#[test]
fn a_request_for_a_websocket_is_answered_alike_however_it_comes() {
    let running = Running::start(config());
    let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    for (headers, status) in [
        (format!("Sec-WebSocket-Version: 13\r\n{key}"), 101),
        (format!("Sec-WebSocket-Version: 13\r\n{key}Cookie: sessionID=mine\r\n"), 101),
        (format!("Sec-WebSocket-Version: 8\r\n{key}"), 426),
        ("Sec-WebSocket-Version: 13\r\n".to_owned(), 400),
        (format!("Sec-WebSocket-Version: 13\r\n{key}Origin: http://elsewhere.example\r\n"), 403),
        (format!("Sec-WebSocket-Version: 13\r\n{key}Origin: null\r\nOrigin: null\r\n"), 403),
        (format!("Sec-WebSocket-Version: 13\r\n{key}Host: twice\r\n"), 400),
        (format!("Sec-WebSocket-Version: 13\r\n{key}Bad Name: x\r\n"), 400),
        (format!("Sec-WebSocket-Version: 13\r\n{key}Sec-WebSocket-Protocol: v2.chat, chat\r\n"), 101),
        (format!("Sec-WebSocket-Version: 13\r\n{key}Sec-WebSocket-Protocol: chat, a b\r\n"), 400),
    ] {
        // Whole, in two pieces, and behind another request on the same connection.
        let answers = [0, 1, 2].map(|way| {
            let mut client = connect(&running);
            let head = format!(
                "GET /primus/ HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n{headers}\r\n",
                client.host()
            );
            match way {
                0 => client.send(&head),
                1 => {
                    client.send(&head[..head.len() - 1]);
                    // Gives the server time to read the first piece alone; the answer does not depend on it.
                    assert_eq!(connect(&running).get("/missing").status, 404);
                    client.send(&head[head.len() - 1..]);
                }
                _ => {
                    assert_eq!(client.get("/missing").status, 404);
                    client.send(&head);
                }
            }
            let answer = client.answer();
            let named = |name| answer.header(name).map(str::to_owned);
            let protocol = answer.header("sec-websocket-protocol");
            assert_eq!(protocol, (status == 101 && headers.contains("v2.chat")).then_some("v2.chat"), "{headers}");
            let shown =
                ["connection", "upgrade", "sec-websocket-accept", "sec-websocket-version", "content-type"].map(named);
            (answer.status, shown, if status == 101 { String::new() } else { answer.text().to_owned() })
        });
        assert_eq!(answers[0].0, status, "{headers}");
        assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:#?}");
    }
}

/// With a backend that decides who may connect.
fn start_with_hook(backend: &Backend, more: &str) -> TestServer {
    let secret = format!("hooks.secret={SECRET}");
    TestServer::with(&[&secret, "hooks.timeout=5s", &backend.setting("hooks.connect"), more])
}

#[test]
fn a_backend_decides_about_requests_and_websockets_before_anything_is_said() {
    let backend = Backend::start(|asked| match asked.json["connection"]["fingerprint"].as_str() {
        Some("friend") => Reaction::Json(200, json!({"state": {"name": "Ada"}})),
        _ => Reaction::Json(200, json!({"allow": false, "reason": "not today"})),
    });
    let server = start_with_hook(&backend, "servers.web.compat=modern");
    let connect = || RawHttp::connect(server.server().web_addr().unwrap()).unwrap();
    let friend = "Cookie: sessionID=friend";
    for (headers, expected) in [(&[][..], (403, "not today")), (&[friend], (200, ""))] {
        let answer = connect().request("GET", "/api/status", headers, b"");
        assert_eq!(refusal(&answer), (expected.0, expected.1.to_owned()));
        assert_eq!(backend.next().json["connection"]["type"], "web");
    }
    let mut refused = connect();
    let answer = refused.upgrade("/primus", &[]);
    assert_eq!((answer.status, answer.text()), (403, "not today"));
    refused.end();
    assert_eq!(backend.next().json["connection"]["type"], "websocket");
    let mut socket = Socket::open(connect(), &[friend]);
    let id = ConnId::parse(socket.ask(&json!({"event": "detailsView"}))["data"]["id"].as_str().unwrap()).unwrap();
    let asked = backend.next();
    assert_eq!(asked.json["connection"]["id"], id.to_string());
    let info = server.wait(server.node().connection(id)).unwrap();
    assert_eq!(info.handle.get("name"), Some(json!("Ada")));
    assert_eq!(server.node().figures().closed[CloseReason::Refused.index()], 2);
    // Files are for everybody.
    assert_eq!(connect().get("/missing").status, 404);
}

#[test]
fn a_backend_that_fails_is_neither_yes_nor_no() {
    let backend = Backend::start(|_| Reaction::Json(500, json!({})));
    let server = start_with_hook(&backend, "hooks.connect.on_failure=refuse");
    let connect = || RawHttp::connect(server.server().web_addr().unwrap()).unwrap();
    assert_eq!(refusal(&connect().get("/api/status")), (503, "Error: unavailable".to_owned()));
    assert_eq!(connect().upgrade("/primus", &[]).status, 503);
}

#[test]
fn compression_is_agreed_upon_where_it_is_switched_on() {
    for (compression, expected) in [(false, None), (true, Some("permessage-deflate"))] {
        let mut config = config();
        config.servers.websocket.compression = compression;
        let running = Running::start(config);
        let answer = connect(&running).upgrade("/primus", &["Sec-WebSocket-Extensions: permessage-deflate"]);
        let agreed = answer.header("sec-websocket-extensions").and_then(|agreed| agreed.split(';').next());
        assert_eq!((answer.status, agreed), (101, expected));
    }
}

#[test]
fn the_test_client_for_lines_speaks_to_the_real_listener_too() {
    let running = Running::start(config());
    let mut client = LineClient::web(running.web(), "/primus").unwrap();
    assert_eq!(client.read_json()["context"], "api");
    assert_eq!(client.ask(r#"{"event":"detailsView"}"#)["messageCount"], 1);
}

#[test]
fn a_client_that_closes_its_side_still_gets_its_answer() {
    let running = Running::start(config());
    let mut client = connect(&running);
    client.send(format!("GET /api/sleepTest?sleepDuration=100 HTTP/1.1\r\nHost: {}\r\n\r\n", client.host()));
    client.half_close().unwrap();
    assert_eq!(client.answer().status, 200);
    client.end();
}

#[test]
fn requests_in_one_segment_are_answered_in_order() {
    let running = Running::start(config());
    let mut client = connect(&running);
    let host = client.host().to_owned();
    let get = |target: &str| format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n");
    client.send([get("/api/sleepTest?sleepDuration=50"), get("/api/nope"), get("/missing")].concat());
    assert_eq!(client.answer().status, 200);
    assert_eq!(client.answer().status, 404);
    assert_eq!(client.answer().text(), "Sorry, that file is not found :(");
}

#[test]
fn fault_row_37_a_planned_stop_answers_what_is_under_way_and_refuses_what_is_new() {
    let mut running = Running::start(config());
    let mut busy = connect(&running);
    let host = busy.host().to_owned();
    let get = |target: &str| format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n");
    busy.send(get("/api/sleepTest?sleepDuration=400"));
    let mut half = connect(&running);
    half.send(&get("/api/status")[..20]);
    let mut idle = connect(&running);
    assert_eq!(idle.get("/api/status").status, 200);
    eventually("it runs", || running.connections() == 1);
    let address = running.web();
    let stopping = running.stop();
    idle.end();
    eventually("nobody is accepted", || RawHttp::connect(address).is_err());
    half.send(&get("/api/status")[20..]);
    let refused = half.answer();
    assert_eq!(refusal(&refused), (503, "Error: the server is shutting down".to_owned()));
    assert!(matches!(refused.retry_seconds(), Some(1..=9)));
    half.end();
    assert_eq!(busy.answer().status, 200);
    busy.end();
    drop((busy, half, idle));
    running.block_on(stopping).unwrap();
}

#[test]
fn fault_row_37_what_takes_longer_than_the_drain_time_is_cut() {
    let mut config = config();
    config.node.drain_timeout = Duration::from_millis(200);
    let mut running = Running::start(config);
    let mut busy = connect(&running);
    busy.send(format!("GET /api/sleepTest?sleepDuration=60000 HTTP/1.1\r\nHost: {}\r\n\r\n", busy.host()));
    eventually("it runs", || running.connections() == 1);
    let stopping = running.stop();
    running.block_on(stopping).unwrap();
    let cut = busy.try_answer("GET");
    assert!(matches!(&cut, Ok(None)) || cut.is_err_and(|error| error.kind() == ErrorKind::UnexpectedEof));
}

#[test]
fn methods_that_mean_nothing_are_refused_and_options_tells_those_that_do() {
    let running = Running::start(config());
    let mut client = connect(&running);
    for (method, target, status, allow) in [
        ("PATCH", "/api/status", 405, Some("GET, HEAD, POST, PUT, DELETE, OPTIONS")),
        ("TRACE", "/api/status", 405, Some("GET, HEAD, POST, PUT, DELETE, OPTIONS")),
        ("POST", "/index.html", 405, Some("GET, HEAD, OPTIONS")),
        ("DELETE", "/index.html", 405, Some("GET, HEAD, OPTIONS")),
        ("OPTIONS", "/api/status", 204, Some("GET, HEAD, POST, PUT, DELETE, OPTIONS")),
        ("OPTIONS", "/index.html", 204, Some("GET, HEAD, OPTIONS")),
        ("HEAD", "/api/status", 200, None),
    ] {
        let answer = client.request(method, target, &[], b"");
        assert_eq!((answer.status, answer.header("allow")), (status, allow), "{method} {target}");
    }
}
