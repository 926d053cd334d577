//! Deadlines of every listener and path, each proven on a socket: the client sends a part and waits for the cut.
//!
//! The line protocol has no deadline for a line: an idle telnet session is a session.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use switchboard::config::Config;
use switchboard::proto::close::CloseReason;
use switchboard_testkit::raw_http::RawHttp;

use super::http::{JSON, connect};
use super::https::Setting;
use super::peer::{Running, config, config_with_admin, eventually, narrow_socket};

const SHORT: Duration = Duration::from_millis(300);
const PATHS: [&str; 3] = ["/primus", "/websocket", "/gateway"];

/// Every message deadline is short, and the other deadlines of a WebSocket are off.
fn short_messages() -> Config {
    let mut config = config();
    config.servers.gateway.enabled = true;
    config.servers.websocket.message_timeout = SHORT;
    config.servers.ddp.message_timeout = SHORT;
    config.servers.ddp.connect_timeout = Duration::ZERO;
    config.servers.gateway.message_timeout = SHORT;
    config.servers.gateway.register_timeout = Duration::ZERO;
    config
}

fn open(running: &Running, path: &str) -> RawHttp {
    let mut client = connect(running);
    assert_eq!(client.upgrade(path, &[]).status, 101, "{path}");
    client
}

/// The head of a text frame of 60,000 bytes, masked with zeros.
const LONG_FRAME: [u8; 8] = [0x81, 0xfe, 0xea, 0x60, 0, 0, 0, 0];

/// A close frame with code 1008.
const CUT: &[u8] = b"\x88\x18\x03\xf0message takes too long";

#[test]
fn fault_row_12_a_message_without_an_end_is_cut_on_every_websocket_path() {
    let running = Running::start(short_messages());
    let parts: [(&str, &[u8]); 4] = [
        ("a part of a head", &LONG_FRAME[..1]),
        ("a head without its payload", &LONG_FRAME),
        ("a fragment without its end", b"\x01\x83\0\0\0\0{\"a"),
        ("a fragment, then a ping and a part of the next", b"\x01\x81\0\0\0\0{\x89\x80\0\0\0\0\x80"),
    ];
    let mut cut = 0;
    for path in PATHS {
        for (what, part) in parts {
            let mut client = open(&running, path);
            client.send(part);
            let received = client.rest().unwrap();
            assert!(received.ends_with(CUT), "{path}, {what}: {}", received.escape_ascii());
            cut += 1;
            drop(client);
            eventually("the reason is counted", || running.closed(CloseReason::Limit) == cut);
        }
    }
    running.assert_empties();
}

#[test]
fn fault_row_12_a_frame_that_comes_byte_by_byte_is_cut_on_every_websocket_path() {
    let running = Running::start(short_messages());
    for path in PATHS {
        let mut client = open(&running, path);
        client.send(LONG_FRAME);
        let stream: &mut TcpStream = client.stream();
        stream.set_nonblocking(true).unwrap();
        let mut received = Vec::new();
        eventually("the client that drips is cut", || {
            // Fewer bytes than the frame has, in all the time that this is tried.
            let _ = stream.write(b"x");
            let mut piece = [0; 1024];
            match stream.read(&mut piece) {
                Ok(count) => received.extend_from_slice(&piece[..count]),
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock, "{path}"),
            }
            received.ends_with(CUT)
        });
    }
    eventually("the reasons are counted", || running.closed(CloseReason::Limit) == PATHS.len() as u64);
    running.assert_empties();
}

#[test]
fn fault_row_12_after_whole_messages_in_fragments_one_without_an_end_is_cut() {
    let running = Running::start(short_messages());
    let mut client = open(&running, "/primus");
    // Their deadlines are asked for, and not needed.
    for _ in 0..2 {
        client.send(b"\x01\x81\0\0\0\0{");
        client.send(b"\x80\x81\0\0\0\0}");
    }
    let mut received = Vec::new();
    while !received.ends_with(b"\"messageCount\":2}") {
        received.extend(client.exact(1).unwrap());
    }
    client.send(b"\x01\x81\0\0\0\0{");
    assert!(client.rest().unwrap().ends_with(CUT));
}

#[test]
fn fault_row_12_clients_that_say_nothing_are_closed_with_the_code_of_their_path() {
    let mut config = config();
    config.servers.gateway.enabled = true;
    config.servers.websocket.silence_timeout = SHORT;
    config.servers.ddp.connect_timeout = SHORT;
    config.servers.gateway.register_timeout = SHORT;
    let running = Running::start(config);
    for (path, end) in [
        ("/primus", &b"\x88\x02\x03\xe9"[..]),
        ("/websocket", b"\x88\x02\x03\xe9"),
        ("/gateway", b"\x0f\xa3register_timeout"),
    ] {
        let received = open(&running, path).rest().unwrap();
        assert!(received.ends_with(end), "{path}: {}", received.escape_ascii());
    }
    eventually("the reasons are counted", || running.closed(CloseReason::Silence) == 3);
}

#[test]
fn fault_row_12_parts_of_a_request_are_cut_on_every_path() {
    let mut config = config();
    config.servers.gateway.enabled = true;
    config.servers.web.header_timeout = SHORT;
    config.servers.web.body_timeout = SHORT;
    config.servers.web.idle_timeout = SHORT;
    let running = Running::start(config);
    for path in ["/primus", "/websocket", "/gateway", "/gateway/events", "/interaction", "/api/status", "/index.html"] {
        let mut client = connect(&running);
        client.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\nUpgr"));
        client.end();
    }
    // A connection without a request, and one after its first.
    connect(&running).end();
    let mut client = connect(&running);
    assert_eq!(client.get("/api/status").status, 200);
    client.end();
    let identified = format!("{JSON}\r\nContent-Length: 9");
    let mut client = connect(&running);
    client.send(format!("POST /api/status HTTP/1.1\r\nHost: a\r\n{identified}\r\n\r\n{{"));
    assert_eq!(client.answer().status, 408);
    client.end();
}

#[test]
fn fault_row_12_a_tls_handshake_without_an_end_is_cut_on_every_listener() {
    let mut setting = Setting::new();
    setting.config.limits.tls_handshake_timeout = SHORT;
    let running = setting.start();
    for address in [running.address(), running.web()] {
        for part in [&[][..], &[22, 3, 1, 2, 0, 1]] {
            let mut client = RawHttp::connect(address).unwrap();
            client.send(part);
            // A handshake that has begun may be ended by an alert.
            let received = client.rest().unwrap();
            assert!(received.is_empty() || received[0] == 21, "{address}: {}", received.escape_ascii());
        }
    }
    assert_eq!(setting.connect(&running).get("/api/status").status, 200);
}

const TOKEN: &str = "correct-horse-battery-staple";

/// The admin API has one place, and only the named deadline is short.
fn one_admin_place(shorten: impl FnOnce(&mut Config)) -> Running {
    let mut config = config_with_admin(TOKEN);
    config.admin.max_connections = 1;
    config.admin.header_timeout = Duration::ZERO;
    config.admin.body_timeout = Duration::ZERO;
    config.admin.write_timeout = Duration::ZERO;
    shorten(&mut config);
    Running::start(config)
}

fn admin(running: &Running) -> RawHttp {
    RawHttp::connect(running.admin()).unwrap()
}

/// The place is free again.
#[track_caller]
fn assert_admin_answers(running: &Running) {
    assert_eq!(admin(running).get("/livez").status, 200);
}

#[test]
fn fault_row_12_a_head_without_an_end_is_cut_on_the_admin_listener() {
    let running = one_admin_place(|config| config.admin.header_timeout = SHORT);
    for part in ["", "GET /li", "GET /livez HTTP/1.1\r\nHost: a\r\nX: "] {
        let mut client = admin(&running);
        client.send(part);
        client.end();
    }
    let mut client = admin(&running);
    assert_eq!(client.get("/livez").status, 200);
    client.end();
    assert_admin_answers(&running);
}

#[test]
fn fault_row_12_a_body_without_an_end_is_cut_on_the_admin_listener() {
    let running = one_admin_place(|config| config.admin.body_timeout = SHORT);
    let identified = format!("Host: a\r\nAuthorization: Bearer {TOKEN}\r\n{JSON}\r\n");
    for (framing, part) in [("Content-Length: 9", "{"), ("Transfer-Encoding: chunked", "1\r\n{\r\n")] {
        let mut client = admin(&running);
        client.send(format!("POST /v1/rooms HTTP/1.1\r\n{identified}{framing}\r\n\r\n{part}"));
        let answer = client.answer();
        assert_eq!((answer.status, answer.json()["error"]["code"].as_str()), (408, Some("timed_out")), "{framing}");
        client.end();
    }
    assert_admin_answers(&running);
}

#[test]
fn fault_row_12_a_client_that_reads_no_answer_is_cut_on_the_admin_listener() {
    const ANSWERS: usize = 500;
    let running = one_admin_place(|config| config.admin.write_timeout = SHORT);
    let request = format!("GET /v1/openapi.json HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {TOKEN}\r\n\r\n");
    let mut client = admin(&running);
    client.send(&request);
    let answer_bytes = client.answer().body.len();
    drop(client);
    let mut stuck = RawHttp::over(narrow_socket(running.admin()), "a");
    stuck.send(request.repeat(ANSWERS));
    // It waits for the only place.
    assert_admin_answers(&running);
    let mut received = 0;
    let mut piece = vec![0; 1 << 16];
    while let Ok(count @ 1..) = stuck.stream().read(&mut piece) {
        received += count;
    }
    assert!(received < ANSWERS * answer_bytes, "{received} bytes of answers of {answer_bytes} bytes");
}

#[test]
fn a_request_that_waits_for_its_outcome_is_not_cut_by_the_deadlines_of_the_admin_listener() {
    let running = one_admin_place(|config| {
        config.admin.header_timeout = SHORT;
        config.admin.body_timeout = SHORT;
        config.admin.write_timeout = SHORT;
    });
    let mut client = admin(&running);
    let authorization = format!("Authorization: Bearer {TOKEN}");
    let answer = client.request("GET", "/v1/commands?state=settled&wait_ms=700", &[&authorization], b"");
    assert_eq!(answer.status, 200, "{answer:?}");
}
