//! HTTP under attack: requests that two readers read differently, too much of everything, and clients that take their time.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::io::Read;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::json;
use switchboard_testkit::raw_http::RawHttp;

use super::http::{JSON, Socket, connect, masked};
use super::peer::{DEADLINE, Folder, Running, config, config_with_admin, eventually, narrow_socket, resident_bytes};
use super::program::Program;

/// The statuses of all answers up to the server's end.
#[track_caller]
fn statuses(client: &mut RawHttp) -> Vec<u16> {
    let mut statuses = Vec::new();
    loop {
        match client.try_answer("GET") {
            Ok(Some(answer)) => statuses.push(answer.status),
            Ok(None) => return statuses,
            Err(error) => panic!("behind {statuses:?}: {error}"),
        }
    }
}

const TOKEN: &str = "correct-horse-battery-staple";

/// A listener that speaks HTTP, and how a request for the web listener is put to it.
type Listener = (&'static str, SocketAddr, fn(&str) -> String);

fn listeners(running: &Running) -> [Listener; 2] {
    [("web", running.web(), str::to_owned), ("admin", running.admin(), to_admin)]
}

/// The same request for the admin API: another path, and the token beside each host.
fn to_admin(request: &str) -> String {
    let host = format!("Host: a\r\nAuthorization: Bearer {TOKEN}\r\n");
    request.replace("/api/status", "/v1/rooms").replace("Host: a\r\n", &host)
}

/// Each of these ends with its connection. What stands behind it would be a request of its own for somebody who reads it
/// otherwise, and is never answered.
#[test]
fn fault_row_10_requests_that_two_readers_read_differently_are_refused() {
    let running = Running::start(config_with_admin(TOKEN));
    let get = "GET /api/status HTTP/1.1\r\nHost: a\r\n";
    let post = "POST /api/status HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n";
    let chunked = format!("{post}Transfer-Encoding: chunked\r\n\r\n");
    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                   Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let cases: Vec<String> = [
        // Two lengths, or a length and chunks.
        format!("{post}Content-Length: 2\r\nContent-Length: 2\r\n\r\n{{}}"),
        format!("{post}Content-Length: 2\r\nContent-Length: 40\r\n\r\n{{}}"),
        format!("{post}Content-Length: 40\r\nContent-Length: 2\r\n\r\n{{}}"),
        format!("{post}Content-Length: 2, 2\r\n\r\n{{}}"),
        format!("{post}Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        format!("{post}Transfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n0\r\n\r\n"),
        format!("{post}Content-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{{}}\r\n0\r\n\r\n"),
        format!("{post}Transfer-Encoding: chunked\r\nCONTENT-LENGTH: 2\r\n\r\n0\r\n\r\n"),
        // Lengths that are not numbers.
        format!("{post}Content-Length: +2\r\n\r\n{{}}"),
        format!("{post}Content-Length: -2\r\n\r\n{{}}"),
        format!("{post}Content-Length: 0x2\r\n\r\n{{}}"),
        format!("{post}Content-Length: 2.0\r\n\r\n{{}}"),
        format!("{post}Content-Length: 2 0\r\n\r\n{{}}"),
        format!("{post}Content-Length: two\r\n\r\n{{}}"),
        format!("{post}Content-Length:\r\n\r\n{{}}"),
        format!("{post}Content-Length: \"2\"\r\n\r\n{{}}"),
        format!("{post}Content-Length: 18446744073709551618\r\n\r\n{{}}"),
        format!("{post}Content-Length: 2;x\r\n\r\n{{}}"),
        // Encodings that are not chunks alone.
        format!("{post}Transfer-Encoding: identity\r\n\r\n"),
        format!("{post}Transfer-Encoding: gzip\r\n\r\n"),
        format!("{post}Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
        format!("{post}Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n"),
        format!("{post}Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n"),
        format!("{post}Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n"),
        format!("{post}Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        format!("{post}Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n"),
        format!("{post}Transfer-Encoding: chunked;q=1\r\n\r\n0\r\n\r\n"),
        format!("{post}Transfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n"),
        format!("{post}Transfer-Encoding:\r\n\r\n0\r\n\r\n"),
        format!("{post}Transfer-Encoding: \u{b}chunked\r\n\r\n0\r\n\r\n"),
        "POST /api/status HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".to_owned(),
        // Names and lines that some readers mend.
        format!("{post}Content-Length : 2\r\n\r\n{{}}"),
        format!("{post}Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n"),
        format!("{post} Content-Length: 2\r\n\r\n{{}}"),
        format!("{get}X: a\r\n b\r\n\r\n"),
        format!("{get}X: a\r\n\tb\r\n\r\n"),
        format!("{get}X:\r\n Content-Length: 5\r\n\r\n"),
        format!("{get}no colon\r\n\r\n"),
        format!("{get}: no name\r\n\r\n"),
        format!("{get}X\0: a\r\n\r\n"),
        format!("{get}X: a\0b\r\n\r\n"),
        format!("{get}X: a\rb\r\n\r\n"),
        format!("{get}X: a\n\r\n"),
        format!("{get}X: a\r\r\n\r\n"),
        format!("{get}X: a\r\n\n"),
        format!("{get}X(: a\r\n\r\n"),
        format!("{get}\u{e9}: a\r\n\r\n"),
        "GET /api/status HTTP/1.1\nHost: a\n\n".to_owned(),
        "GET /api/status HTTP/1.1\rHost: a\r\r".to_owned(),
        // First lines that are none.
        "GET  /api/status HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
        "GET /api/status  HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
        "GET\t/api/status\tHTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
        " GET /api/status HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
        "GET /api/status\r\nHost: a\r\n\r\n".to_owned(),
        "GET /api/status HTTP/1.1 \r\nHost: a\r\n\r\n".to_owned(),
        "GET /api/status HTTP/9.9\r\nHost: a\r\n\r\n".to_owned(),
        "GET /api/status http/1.1\r\nHost: a\r\n\r\n".to_owned(),
        "GET /api/status HTTP/2.0\r\nHost: a\r\n\r\n".to_owned(),
        "GET /api/\u{1}status HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
        "G\u{0}T /api/status HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
        "\r\n\r\nGET /api/status HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
        // Hosts.
        "GET /api/status HTTP/1.1\r\n\r\n".to_owned(),
        "GET /api/status HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n".to_owned(),
        "GET /api/status HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n".to_owned(),
        "GET http://b/api/status HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
        "GET http://user@a/api/status HTTP/1.1\r\nHost: user@a\r\n\r\n".to_owned(),
        "GET /api/status HTTP/1.1\r\nHost: a b\r\n\r\n".to_owned(),
        "GET /api/status HTTP/1.1\r\nHost: a/b\r\n\r\n".to_owned(),
        "GET /api/status HTTP/1.1\r\nHost: user@a\r\n\r\n".to_owned(),
        "GET /api/status HTTP/1.1\r\nHost: a:b\r\n\r\n".to_owned(),
        "GET /index.html HTTP/1.1\r\nHost: [a\r\n\r\n".to_owned(),
        "GET /api/status HTTP/1.0\r\nHost: a b\r\n\r\n".to_owned(),
        format!("GET /primus HTTP/1.1\r\nHost: a b\r\n{upgrade}\r\n"),
        format!("GET /websocket HTTP/1.1\r\nHost: user@a\r\n{upgrade}\r\n"),
        format!("GET /gateway HTTP/1.1\r\n{upgrade}\r\n"),
        // Chunks.
        format!("{chunked}2\n{{}}\r\n0\r\n\r\n"),
        format!("{chunked}2\r\n{{}}\n0\r\n\r\n"),
        format!("{chunked}2\r\n{{}}0\r\n\r\n"),
        format!("{chunked}2\r\n{{}}x\r\n0\r\n\r\n"),
        format!("{chunked}0x2\r\n{{}}\r\n0\r\n\r\n"),
        format!("{chunked}+2\r\n{{}}\r\n0\r\n\r\n"),
        format!("{chunked}-2\r\n{{}}\r\n0\r\n\r\n"),
        format!("{chunked} 2\r\n{{}}\r\n0\r\n\r\n"),
        format!("{chunked}2 \r\n{{}}\r\n0\r\n\r\n"),
        format!("{chunked}\r\n{{}}\r\n0\r\n\r\n"),
        format!("{chunked}g\r\n{{}}\r\n0\r\n\r\n"),
        format!("{chunked}2;a\nb\r\n{{}}\r\n0\r\n\r\n"),
        format!("{chunked}10000000000000002\r\n{{}}\r\n0\r\n\r\n"),
        format!("{chunked}2\r\n{{}}\r\n0\r\nX: y\n\r\n"),
        format!("{chunked}2\r\n{{}}\r\n0\r\n X: y\r\n\r\n"),
        format!("{chunked}2\r\n{{}}\r\n0\r\n\n"),
        // An upgrade with a body: nobody could tell where the frames begin.
        format!("GET /primus HTTP/1.1\r\nHost: a\r\n{upgrade}Transfer-Encoding: gzip\r\n\r\n"),
        format!("GET /primus HTTP/1.1\r\nHost: a\r\n{upgrade}Content-Length: 5\r\nContent-Length: 5\r\n\r\nabcde"),
        format!("GET /primus HTTP/1.1\r\nHost: a\r\n{upgrade}Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    ]
    .into();
    assert!(cases.len() >= 60, "only {} cases", cases.len());
    for (listener, address, put) in listeners(&running) {
        for case in &cases {
            for pieces in [usize::MAX, 1, 7] {
                let mut client = RawHttp::connect(address).unwrap();
                let request = put(&format!("{case}GET /api/randomNumber HTTP/1.1\r\nHost: a\r\n\r\n"));
                for piece in request.as_bytes().chunks(pieces.min(request.len())) {
                    // It may have seen enough already.
                    if client.try_send(piece).is_err() {
                        break;
                    }
                }
                let _ = client.half_close();
                assert_eq!(statuses(&mut client), [400], "{listener}: {case:?} in pieces of {pieces}");
            }
            // After a good request the good request is answered.
            let mut client = RawHttp::connect(address).unwrap();
            client.send(put(&format!("{get}\r\n{case}GET /api/randomNumber HTTP/1.1\r\nHost: a\r\n\r\n")));
            let _ = client.half_close();
            assert_eq!(statuses(&mut client), [200, 400], "{listener}, behind another: {case:?}");
        }
    }
    eventually("nothing is left", || running.connections() == 0);
}

#[test]
fn fault_row_10_what_stands_behind_an_upgrade_is_never_a_request() {
    let running = Running::start(config());
    let smuggled = "GET /api/randomNumber HTTP/1.1\r\nHost: a\r\n\r\n";
    let upgrade = |version: &str| {
        format!(
            "GET /primus HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: {version}\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
    };
    // Accepted: it is taken for frames, which it is none of.
    let mut client = connect(&running);
    client.send([upgrade("13"), smuggled.to_owned()].concat());
    assert_eq!(client.answer().status, 101);
    let rest = client.rest().unwrap();
    assert!(!rest.windows(5).any(|bytes| bytes == b"HTTP/"), "{}", rest.escape_ascii());
    // Refused, or not asked for at a place where it could be had: the connection ends.
    let elsewhere = upgrade("13").replace("/primus", "/api/status");
    let with_body = upgrade("13").replace("\r\n\r\n", &format!("\r\nContent-Length: {}\r\n\r\n", smuggled.len()));
    for (request, expected) in [
        (upgrade("8"), &[426][..]),
        (elsewhere, &[200]),
        (upgrade("13").replace("websocket", "h2c"), &[426]),
        ("GET /a HTTP/1.1\r\nHost: a\r\nUpgrade: h2c\r\n\r\n".to_owned(), &[404]),
        ("CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n".to_owned(), &[405]),
        (with_body, &[400]),
    ] {
        for smuggled in [smuggled, &smuggled.repeat(3), "\x01\x02\x03\r\n\r\n"] {
            let mut client = connect(&running);
            client.send([&request, smuggled].concat());
            let _ = client.half_close();
            assert_eq!(statuses(&mut client), expected, "{request:?}");
        }
    }
}

#[test]
fn fault_row_10_after_a_request_for_another_protocol_the_admin_listener_reads_no_request() {
    let running = Running::start(config_with_admin(TOKEN));
    let upgrade = "Connection: Upgrade\r\nUpgrade: h2c\r\n";
    let send = |request: &str| {
        let mut client = RawHttp::connect(running.admin()).unwrap();
        client.send(format!("{request}GET /livez HTTP/1.1\r\nHost: a\r\n\r\n"));
        statuses(&mut client)
    };
    for (request, expected) in [
        (format!("GET /livez HTTP/1.1\r\nHost: a\r\n{upgrade}\r\n"), 200),
        (format!("GET /nowhere HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {TOKEN}\r\n{upgrade}\r\n"), 404),
        ("CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n".to_owned(), 401),
    ] {
        assert_eq!(send(&request), [expected], "{request:?}");
    }
    // Bytes after a body may end the connection before its answer is written.
    let answered = send(&format!("GET /livez HTTP/1.1\r\nHost: a\r\n{upgrade}Content-Length: 2\r\n\r\nab"));
    assert!(answered.is_empty() || answered == [200], "{answered:?}");
}

#[test]
fn fault_row_10_an_end_inside_a_body_is_no_end_of_a_request() {
    let running = Running::start(config_with_admin(TOKEN));
    let post = format!("POST /api/status HTTP/1.1\r\nHost: a\r\n{JSON}\r\n");
    for (listener, address, put) in listeners(&running) {
        for body in ["Content-Length: 5\r\n\r\n{}", "Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n"] {
            let mut client = RawHttp::connect(address).unwrap();
            client.send(put(&format!("{post}{body}")));
            client.half_close().unwrap();
            assert_eq!(statuses(&mut client), [400], "{listener}: {body}");
        }
    }
}

#[test]
fn fault_row_11_heads_that_are_too_large_are_refused() {
    let running = Running::start(config());
    let host = "Host: a\r\n";
    let headers = |count: usize| (0..count).map(|index| format!("X-{index}: a\r\n")).collect::<String>();
    for (head, expected) in [
        (format!("GET /api/status HTTP/1.1\r\n{host}{}\r\n", headers(63)), 200),
        (format!("GET /api/status HTTP/1.1\r\n{host}{}\r\n", headers(64)), 431),
        (format!("GET /api/status HTTP/1.1\r\n{host}{}\r\n", headers(1000)), 431),
        (format!("GET /api/status HTTP/1.1\r\n{host}X: {}\r\n\r\n", "a".repeat(15 << 10)), 200),
        (format!("GET /api/status HTTP/1.1\r\n{host}X: {}\r\n\r\n", "a".repeat(16 << 10)), 431),
        (format!("GET /api/status HTTP/1.1\r\n{host}{}: a\r\n\r\n", "a".repeat(17 << 10)), 431),
        (format!("GET /api/status?{} HTTP/1.1\r\n{host}\r\n", "a".repeat(17 << 10)), 431),
        (format!("{} / HTTP/1.1\r\n{host}\r\n", "A".repeat(17 << 10)), 431),
    ] {
        let mut client = connect(&running);
        // It may be refused before all of it was sent.
        let _ = client.try_send(&head);
        assert_eq!(client.answer().status, expected, "{} bytes: {}", head.len(), &head[..30]);
        if expected != 200 {
            client.end();
        }
    }
    // One that never ends costs no more than one that does.
    let mut client = connect(&running);
    let mut sent = 0;
    while sent < 64 << 20 && client.try_send(vec![b'a'; 64 << 10]).is_ok() {
        sent += 64 << 10;
    }
    assert!(sent < 64 << 20);
}

#[test]
fn fault_row_11_heads_that_take_too_long_are_cut_and_disturb_nobody() {
    const SLOW: usize = 500;
    let mut config = config();
    config.servers.web.header_timeout = Duration::from_secs(1);
    let running = Running::start(config);
    let begun = Instant::now();
    let mut slow: Vec<RawHttp> = (0..SLOW).map(|_| connect(&running)).collect();
    for (index, client) in slow.iter_mut().enumerate() {
        client.send(["", "G", "GET / HTTP/1.1\r\n", "GET / HTTP/1.1\r\nHost: a\r\nX: "][index % 4]);
    }
    let mut honest = connect(&running);
    let mut trickled = 0;
    while begun.elapsed() < Duration::from_millis(900) {
        assert_eq!(honest.get("/api/status").status, 200);
        // A byte now and then does not help.
        trickled += usize::from(slow[3].try_send("x").is_ok());
    }
    assert!(trickled > 0);
    slow.iter_mut().for_each(RawHttp::end_or_reset);
    assert_eq!(honest.get("/api/status").status, 200);
}

#[test]
fn fault_row_12_bodies_answers_and_silence_have_their_deadlines() {
    let mut config = config();
    config.servers.web.body_timeout = Duration::from_millis(300);
    config.servers.web.idle_timeout = Duration::from_millis(300);
    let running = Running::start(config);
    let begun = Instant::now();
    let mut slow = connect(&running);
    slow.send(format!("POST /api/status HTTP/1.1\r\nHost: a\r\n{JSON}\r\nContent-Length: 100\r\n\r\n"));
    let mut idle = connect(&running);
    assert_eq!(idle.get("/api/status").status, 200);
    for _ in 0..10 {
        // Progress alone is not enough.
        let _ = slow.try_send(" ");
    }
    let answer = slow.answer();
    assert_eq!((answer.status, answer.json()["error"].as_str()), (408, Some("Error: the body did not come in time")));
    slow.end();
    idle.end();
    assert!(begun.elapsed() >= Duration::from_millis(300) && begun.elapsed() < Duration::from_secs(3));
    running.assert_empties();
    // An action may take longer than all of these.
    assert_eq!(connect(&running).get("/api/sleepTest?sleepDuration=700").status, 200);
}

#[test]
fn fault_row_12_who_does_not_read_his_answer_is_cut() {
    let folder = Folder::new();
    folder.write("public/large", vec![b'x'; 32 << 20]);
    let mut config = config();
    config.files.root = Some(folder.join("public"));
    config.servers.web.write_timeout = Duration::from_millis(300);
    config.limits.max_connections = 2;
    let running = Running::start(config);
    let mut stuck = RawHttp::over(narrow_socket(running.web()), "a");
    stuck.send("GET /large HTTP/1.1\r\nHost: a\r\n\r\n");
    // While it is there one more may come, and afterwards two.
    let mut one = connect(&running);
    assert_eq!(one.get("/api/status").status, 200);
    eventually("there is room again", || {
        connect(&running).try_send("").is_ok() && {
            let mut two = connect(&running);
            two.request("GET", "/api/status", &["Connection: close"], b"").status == 200
        }
    });
    let mut received = 0;
    let mut piece = vec![0; 1 << 20];
    while let Ok(count @ 1..) = stuck.stream().read(&mut piece) {
        received += count;
    }
    assert!(received < 32 << 20, "{received}");
}

#[test]
fn fault_row_26_who_finds_no_room_is_told_when_to_come_again() {
    for listener in [0, 1] {
        let mut config = config();
        match listener {
            0 => config.limits.max_connections = 2,
            _ => config.servers.web.max_connections = 2,
        }
        let running = Running::start(config);
        let mut inside: Vec<RawHttp> = (0..2).map(|_| connect(&running)).collect();
        inside.iter_mut().for_each(|client| assert_eq!(client.get("/api/status").status, 200));
        let mut refused = connect(&running);
        let answer = refused.get("/api/status");
        assert!(matches!((answer.status, answer.retry_seconds()), (503, Some(1..=9))));
        assert_eq!(answer.text(), "too many connections, try again later\n");
        refused.end();
        assert_eq!(inside[0].get("/api/status").status, 200);
        drop(inside.pop());
        eventually("there is room", || connect(&running).get("/api/status").status == 200);
    }
}

#[test]
fn fault_row_26_websockets_count_for_the_server_and_no_longer_for_http() {
    let mut config = config();
    config.servers.web.max_connections = 1;
    let running = Running::start(config);
    let mut sockets = Vec::new();
    for _ in 0..5 {
        let mut opened = None;
        // The one before may be on its way to its worker.
        eventually("there is room for one", || {
            let mut client = connect(&running);
            if client.upgrade("/primus", &[]).status == 101 {
                opened = Some(Socket::opened(client));
            }
            opened.is_some()
        });
        sockets.extend(opened);
    }
    assert_eq!(running.connections(), 5);
    assert_eq!(sockets[0].ask(&json!({"event": "detailsView"}))["messageCount"], 1);
}

#[test]
fn fault_row_26_without_files_left_the_web_listener_says_so_and_recovers() {
    // More than the limit of connections, which follows the files; so the files run out first.
    let program = Program::start_limited(80, &["--set", "limits.max_connections=1000"]);
    let address = program.web().parse().unwrap();
    let mut inside = RawHttp::connect(address).unwrap();
    assert_eq!(inside.get("/api/status").status, 200);
    let mut held = Vec::new();
    let mut told = 0;
    let end = Instant::now() + DEADLINE;
    while told == 0 {
        assert!(Instant::now() < end, "nobody was told");
        let mut client = RawHttp::connect(address).unwrap();
        client.stream().set_read_timeout(Some(Duration::from_millis(400))).unwrap();
        let sent = client.try_send("GET /api/status HTTP/1.1\r\nHost: a\r\n\r\n");
        match client.try_answer("GET") {
            Ok(Some(answer)) if answer.status == 200 && sent.is_ok() => held.push(client),
            Ok(Some(answer)) => {
                assert_eq!(answer.status, 503);
                told += 1;
            }
            // It waits in the kernel, or the close overtook the words.
            _ => held.push(client),
        }
    }
    assert_eq!(inside.get("/api/status").status, 200);
    held.clear();
    let again = || {
        let mut client = RawHttp::connect(address).ok()?;
        client.try_send("GET /api/status HTTP/1.1\r\nHost: a\r\n\r\n").ok()?;
        client.try_answer("GET").ok()?.map(|answer| answer.status)
    };
    eventually("it recovers", || again() == Some(200));
}

#[test]
fn fault_row_27_one_address_may_be_held_to_so_many_connections_a_second() {
    let mut config = config();
    config.limits.accepts_per_address = 3;
    let running = Running::start(config);
    let mut answered = 0;
    for _ in 0..20 {
        let mut client = connect(&running);
        let sent = client.try_send("GET /api/status HTTP/1.1\r\nHost: a\r\n\r\n");
        answered += usize::from(sent.is_ok() && matches!(client.try_answer("GET"), Ok(Some(_))));
    }
    assert!((3..20).contains(&answered), "{answered}");
}

#[test]
fn large_bodies_of_many_cost_no_more_than_their_limit() {
    let program = Program::start(&["--set", "servers.web.max_body_bytes=64KiB"]);
    let address = program.web().parse().unwrap();
    let mut clients: Vec<RawHttp> = (0..50).map(|_| RawHttp::connect(address).unwrap()).collect();
    assert_eq!(clients[0].get("/api/status").status, 200);
    let before = resident_bytes(program.pid());
    for client in &mut clients {
        let chunked = format!("POST /api/status HTTP/1.1\r\nHost: a\r\n{JSON}\r\nTransfer-Encoding: chunked\r\n\r\n");
        client.send(chunked);
        // Each is refused as soon as it has passed the limit, whatever else it sends.
        for _ in 0..64 {
            if client.try_send(format!("4000\r\n{}\r\n", " ".repeat(0x4000))).is_err() {
                break;
            }
        }
    }
    let grown = resident_bytes(program.pid()).saturating_sub(before);
    assert!(grown < 50 * (200 << 10), "{grown} bytes more");
}

#[test]
fn garbage_of_any_kind_ends_its_own_connection_only() {
    let running = Running::start(config());
    let mut other = Socket::open(connect(&running), &[]);
    let mut random = fastrand_like(7);
    for _ in 0..200 {
        let mut client = connect(&running);
        let length = random() as usize % 2000;
        let garbage: Vec<u8> = (0..length).map(|_| random() as u8).collect();
        let _ = client.try_send(&garbage);
        let _ = client.half_close();
        let rest = client.rest().unwrap();
        assert!(rest.is_empty() || rest.starts_with(b"HTTP/1.1 4"), "{}", rest.escape_ascii());
    }
    assert_eq!(other.ask(&json!({"event": "detailsView"}))["messageCount"], 1);
    other.client().send(masked(r#"{"event":"quit"}"#));
}

/// Numbers that look random and are the same each time.
fn fastrand_like(mut state: u64) -> impl FnMut() -> u64 {
    move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state >> 11
    }
}

/// Kept here because the kernel resets what is closed with unread bytes.
#[test]
fn an_answer_to_a_client_that_still_sends_is_not_lost() {
    let running = Running::start(config_with_admin(TOKEN));
    let head = format!("POST /api/status HTTP/1.1\r\nHost: a\r\n{JSON}\r\nContent-Length: 9999999\r\n\r\n");
    for (listener, address, put) in listeners(&running) {
        for _ in 0..20 {
            let mut client = RawHttp::connect(address).unwrap();
            client.send(put(&head));
            let _ = client.try_send(vec![b' '; 100_000]);
            match client.try_answer("POST") {
                Ok(Some(answer)) => assert_eq!(answer.status, 413, "{listener}"),
                other => panic!("{listener}: {other:?}"),
            }
        }
    }
}
