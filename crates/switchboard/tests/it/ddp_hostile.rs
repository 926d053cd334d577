//! Hostile and broken clients of DDP: what each does to itself, and that a neighbour notices nothing.

use std::io::Write;
use std::net::TcpStream;
use std::time::Duration;

use serde_json::{Value, json};
use switchboard::proto::close::CloseReason;
use switchboard_testkit::client::{LineClient, write_frame};
use switchboard_testkit::ddp::DdpClient;
use switchboard_testkit::raw_http::RawHttp;

use super::ddp_support::{COMMANDS, MINE, ROOMS, refused, serving, words};
use super::peer::eventually;
use super::support::TestServer;

#[test]
fn fault_row_68_a_long_message_is_read_only_of_users() {
    let server = serving(&["servers.ddp.max_login_message_bytes=2KiB"]);
    let long = json!({"msg": "method", "id": "1", "method": "nothing", "params": ["x".repeat(4000)]}).to_string();
    let mut stranger = server.ddp();
    stranger.send_text(&long);
    assert_eq!(stranger.closed(), 1009);
    let mut ann = server.ddp_as("ann");
    ann.send_text(&long);
    assert_eq!(ann.frame()["error"]["error"], 404);
    assert_eq!(ann.frame()["msg"], "updated");
    // JSON of very many values is refused under its id, before they are read.
    let values = format!(r#"{{"msg":"method","id":"2","method":"nothing","params":[{}[]]}}"#, "[],".repeat(20_000));
    ann.send_text(&values);
    let refused = ann.frame();
    assert_eq!((&refused["msg"], &refused["id"]), (&json!("result"), &json!("2")), "{refused}");
    assert!(refused["error"]["reason"].as_str().unwrap().contains("more than 10000 values"), "{refused}");
}

/// A neighbour in a room, on each worker one.
struct Neighbours(Vec<DdpClient>);

impl Neighbours {
    fn new(server: &TestServer) -> Self {
        Self((0..4).map(|_| server.ddp_in("ann", &["defaultRoom"])).collect())
    }

    /// They are there, hear one another, and have heard nothing else.
    #[track_caller]
    fn are_well(&mut self) {
        let sent = self.0[0].call("sendMessage", json!([{"rid": "defaultRoom", "msg": "all well"}])).unwrap();
        for client in &mut self.0 {
            assert_eq!(client.heard(ROOMS)[0]["_id"], sent["_id"]);
            client.expect_silence();
        }
    }
}

#[track_caller]
fn error(client: &mut DdpClient, text: &str) -> Value {
    client.send_text(text);
    client.frame()
}

fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    write_frame(&mut frame, first, payload);
    frame
}

fn closed(server: &TestServer, reason: CloseReason) -> u64 {
    server.node().figures().closed[reason.index()]
}

#[test]
fn fault_row_6_what_is_wrong_in_itself_is_answered_and_the_session_goes_on() {
    let server = serving(&[]);
    let mut neighbours = Neighbours::new(&server);
    let mut client = server.ddp_as("bot");
    let parse_error = "Parse error";
    let twice = "a JSON object names a member twice";
    let too_deep = "JSON is nested deeper than 64 levels";
    let too_wide = "a JSON object has more than 1000 members";
    let nested = |levels: usize| {
        format!(
            r#"{{"msg":"method","id":"n","method":"sendMessage","params":[{{"rid":"x","deep":{}{}}}]}}"#,
            "[".repeat(levels - 3),
            "]".repeat(levels - 3)
        )
    };
    let keys = |count: usize| (0..count).map(|key| format!("\"k{key}\":1")).collect::<Vec<_>>().join(",");
    for (wrong, reason) in [
        ("".to_owned(), parse_error),
        ("{not json".to_owned(), parse_error),
        (r#"{"msg":"ping"} {"msg":"ping"}"#.to_owned(), parse_error),
        (r#"{"msg":"ping","msg":"connect"}"#.to_owned(), twice),
        (r#"{"msg":"ping","x":1e999}"#.to_owned(), "a number in JSON is out of range"),
        ("[".repeat(60_000), parse_error),
        // The rest of a long text is not read, so its first fault is named.
        ("[".repeat(100_000), too_deep),
        (format!("{}{}", "[".repeat(100_000), "]".repeat(100_000)), too_deep),
        ("{\"a\":".repeat(10_000), parse_error),
        (format!("{{\"msg\":\"ping\",{}}}", keys(1001)), too_wide),
    ] {
        assert_eq!(error(&mut client, &wrong), json!({"msg": "error", "reason": reason}), "{wrong:.100}");
    }
    // A call has an id, and ends under it.
    for (wrong, id, reason) in [
        (r#"{"msg":"method","id":"1","method":"logout","method":"login"}"#.to_owned(), "1", twice),
        (r#"{"msg":"method","id":"1","method":"logout","params":[{"a":1,"\u0061":2}]}"#.to_owned(), "1", twice),
        (nested(65), "n", too_deep),
        (
            format!("{{\"msg\":\"method\",\"id\":\"1\",\"method\":\"x\",\"params\":[{{{}}}]}}", keys(60_000)),
            "1",
            too_wide,
        ),
    ] {
        client.send_text(&wrong);
        let refusal = client.finish(id).unwrap_err();
        assert_eq!((&refusal["error"], &refusal["reason"]), (&json!(400), &json!(reason)), "{wrong:.100}");
    }
    client.send_text(r#"{"msg":"ping","id":"x\ud800"}"#);
    assert_eq!(client.frame(), json!({"msg": "pong", "id": "x\u{fffd}"}));
    client.send_text(&nested(64));
    assert_eq!(refused(client.finish("n")), words("error-not-allowed", "Not allowed"));
    for (wrong, reason) in [
        ("5", "Bad request"),
        ("{}", "Bad request"),
        (r#"{"msg":"fly"}"#, "Bad request"),
        (r#"{"msg":"connect","version":"1","support":["1"]}"#, "Already connected"),
        (r#"{"msg":"method","id":1,"method":"logout"}"#, "Malformed method invocation"),
        (r#"{"msg":"method","id":"1","method":"logout","params":{}}"#, "Malformed method invocation"),
        (r#"{"msg":"sub","id":"1","name":null}"#, "Malformed subscription"),
    ] {
        let offending: Value = serde_json::from_str(wrong).unwrap();
        assert_eq!(error(&mut client, wrong), json!({"msg": "error", "reason": reason, "offendingMessage": offending}));
    }
    // What is long is not sent back.
    let long = format!(r#"{{"msg":"fly","x":"{}"}}"#, "x".repeat(5000));
    assert_eq!(error(&mut client, &long), json!({"msg": "error", "reason": "Bad request"}));
    client.expect_silence();
    neighbours.are_well();
}

#[test]
fn nothing_is_done_before_the_session_is_open() {
    let server = serving(&[]);
    let mut client = DdpClient::silent(server.web_address()).unwrap();
    for early in [
        json!({"msg": "method", "id": "1", "method": "login", "params": [{"user": {"username": "bot"}, "password": "secret"}]}),
        json!({"msg": "sub", "id": "1", "name": COMMANDS, "params": ["b1"]}),
        json!({"msg": "ping"}),
        json!({"msg": "fly"}),
    ] {
        client.send(&early);
        let answer = json!({"msg": "error", "reason": "Must connect first", "offendingMessage": early});
        assert_eq!(client.frame(), answer);
    }
    client.open();
    client.expect_silence();
    for versions in [
        json!({"version": "2", "support": ["2"]}),
        json!({"version": "pre2", "support": ["1", "pre2"]}),
        json!({"version": 1, "support": ["1"]}),
        json!({"version": "1", "support": ["pre2"]}),
        json!({}),
    ] {
        let mut client = DdpClient::silent(server.web_address()).unwrap();
        let mut connect = versions.clone();
        connect["msg"] = json!("connect");
        client.send(&connect);
        assert_eq!(client.frame(), json!({"msg": "failed", "version": "1"}), "{versions}");
        client.closed();
    }
}

#[test]
fn fault_row_12_a_client_that_never_opens_its_session_is_closed() {
    let server = serving(&["servers.ddp.connect_timeout=200ms"]);
    let mut neighbours = Neighbours::new(&server);
    let mut silent = DdpClient::silent(server.web_address()).unwrap();
    let mut busy = DdpClient::silent(server.web_address()).unwrap();
    busy.send(&json!({"msg": "ping"}));
    assert_eq!(busy.frame()["reason"], "Must connect first");
    for client in [&mut silent, &mut busy] {
        assert_eq!(client.closed(), 1001);
    }
    eventually("both are gone", || closed(&server, CloseReason::Silence) == 2);
    neighbours.are_well();
}

#[test]
fn fault_row_41_a_session_that_answers_no_ping_is_closed_and_one_that_does_stays() {
    let server = serving(&["servers.ddp.heartbeat_interval=150ms", "servers.ddp.heartbeat_timeout=300ms"]);
    let connect = r#"{"msg":"connect","version":"1","support":["1"]}"#;
    let mut deaf = LineClient::web(server.web_address(), "/websocket").unwrap();
    deaf.send(connect);
    let mut alive = server.ddp();
    // For twice as long as the other one may be silent.
    for _ in 0..6 {
        assert_eq!(alive.line().read_json(), json!({"msg": "ping"}));
        alive.send(&json!({"msg": "pong"}));
    }
    alive.expect_silence();
    assert_eq!(deaf.read_json(), json!({"server_id": "0"}));
    assert_eq!(deaf.read_json()["msg"], "connected");
    let mut frame = deaf.read_json();
    assert_eq!(frame, json!({"msg": "ping"}));
    while frame == json!({"msg": "ping"}) {
        frame = deaf.read_json();
    }
    assert_eq!(frame, json!({"closed": 1001}));
}

#[test]
fn fault_row_14_pages_of_other_hosts_open_no_session() {
    let own = |server: &TestServer| format!("Origin: http://{}", server.web_address());
    let server = serving(&["servers.web.allowed_origins=[\"https://app.example.org\"]"]);
    for (origin, status) in [
        (own(&server), 101),
        ("X-Nothing: here".to_owned(), 101),
        ("Origin: https://app.example.org".to_owned(), 101),
        ("Origin: http://app.example.org".to_owned(), 403),
        ("Origin: https://app.example.org.evil.net".to_owned(), 403),
        ("Origin: null".to_owned(), 403),
        ("Origin: http://evil.example.org".to_owned(), 403),
        (format!("{0}\r\n{0}", own(&server)), 403),
    ] {
        let mut http = RawHttp::connect(server.web_address()).unwrap();
        let answer = http.upgrade("/websocket", &[&origin, "Cookie: rc_token=abc; rc_uid=b1"]);
        assert_eq!(answer.status, status, "{origin}");
    }
}

#[test]
fn frames_that_do_not_belong_here_end_their_connection_with_the_code_that_says_why() {
    let server = serving(&["servers.ddp.max_message_bytes=4KiB"]);
    let mut neighbours = Neighbours::new(&server);
    let longest = format!(r#"{{"msg":"fly","x":"{}"}}"#, "x".repeat(4096 - 20));
    assert_eq!(longest.len(), 4096);
    let mut client = server.ddp();
    assert_eq!(error(&mut client, &longest)["reason"], "Bad request");
    client.send_text(&format!("{longest} "));
    assert_eq!(client.closed(), 1009);
    for (first, payload, code) in [
        (0x82, &b"\x00\x01"[..], 1003),
        (0x81, b"{\"msg\":\"ping\",\"x\":\"\xff\"}", 1007),
        (0xc1, b"{}", 1002),
        (0x83, b"", 1002),
        (0x80, b"", 1002),
    ] {
        let mut client = server.ddp_as("bot");
        client.line().try_send_frame(first, payload).unwrap();
        assert_eq!(client.closed(), code, "{first:x}");
    }
    // A head that announces more than there is memory costs none.
    let mut http = RawHttp::connect(server.web_address()).unwrap();
    assert_eq!(http.upgrade("/websocket", &[]).status, 101);
    http.stream().write_all(&[0x81, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0]).unwrap();
    let rest = http.rest().unwrap();
    assert!(
        rest.ends_with(&1009u16.to_be_bytes()) || rest.windows(2).any(|bytes| bytes == 1009u16.to_be_bytes()),
        "{rest:?}"
    );
    neighbours.are_well();
}

#[test]
fn fault_row_30_subscriptions_and_their_ids_are_limited() {
    let server = serving(&["servers.ddp.max_subscriptions=1000"]);
    let mut neighbours = Neighbours::new(&server);
    let mut client = server.ddp_as("bot");
    let subs: Vec<String> =
        (0..1000).map(|number| client.sub("stream-notify-all", json!([format!("event {number}")])).unwrap()).collect();
    let too_many =
        |client: &mut DdpClient, name: &str, event: &str| client.sub(name, json!([event])).unwrap_err()["error"].take();
    for (name, event) in [("stream-notify-all", "x"), (COMMANDS, "b1"), (ROOMS, MINE), (ROOMS, "defaultRoom")] {
        assert_eq!(too_many(&mut client, name, event), "too-many-subscriptions", "{name} {event}");
    }
    client.unsub(&subs[500]);
    client.sub(COMMANDS, json!(["b1"])).unwrap();
    assert_eq!(too_many(&mut client, ROOMS, MINE), "too-many-subscriptions");
    // One that is live is not made twice, and says nothing.
    client.send(&json!({"msg": "sub", "id": subs[0], "name": "stream-notify-all", "params": ["x"]}));
    client.send(&json!({"msg": "ping", "id": "behind it"}));
    assert_eq!(client.frame(), json!({"msg": "pong", "id": "behind it"}));
    // Ids have their length.
    for (kind, reason) in
        [("sub", "Malformed subscription"), ("method", "Malformed method invocation"), ("unsub", "Bad request")]
    {
        let frame = json!({"msg": kind, "id": "i".repeat(257), "name": "x", "method": "x"});
        client.send(&frame);
        assert_eq!(client.frame()["reason"], reason);
    }
    client.send(&json!({"msg": "method", "id": "i".repeat(256), "method": "x"}));
    assert_eq!(refused(client.finish(&"i".repeat(256))), (json!(404), json!("Method 'x' not found")));
    neighbours.are_well();
}

#[test]
fn a_hundred_thousand_ends_of_nothing_are_answered_one_by_one() {
    const COUNT: usize = 100_000;
    let server = serving(&[]);
    let mut neighbours = Neighbours::new(&server);
    let mut client = server.ddp_as("bot");
    let address = client.line().local_address().unwrap();
    // Written beside the reading, or both sides would wait for each other.
    let mut writing = client.line().try_clone().unwrap();
    let writer = std::thread::spawn(move || {
        for number in 0..COUNT {
            writing.send(&format!(r#"{{"msg":"unsub","id":"{number}"}}"#));
        }
    });
    for number in 0..COUNT {
        assert_eq!(client.frame(), json!({"msg": "nosub", "id": number.to_string()}));
    }
    writer.join().unwrap();
    client.expect_silence();
    assert!(server.find(address).is_some());
    neighbours.are_well();
}

#[test]
fn fault_row_24_a_flood_of_pings_whose_answers_nobody_reads_costs_what_an_outbox_may() {
    let server = serving(&["limits.max_outbox_bytes=256KiB"]);
    let mut neighbours = Neighbours::new(&server);
    let mut client = server.ddp();
    let id = server.id_of_ddp(&mut client);
    let address = client.line().local_address().unwrap();
    let ping = format!(r#"{{"msg":"ping","id":"{}"}}"#, "p".repeat(200));
    let burst = frame(0x81, ping.as_bytes()).repeat(1000);
    let mut stream: TcpStream = client.line().try_clone().unwrap().into_tcp().unwrap();
    stream.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
    let mut most = 0;
    let mut bursts = 0;
    // Until the server reads no more, or has had enough.
    while bursts < 200 && stream.write_all(&burst).is_ok() {
        bursts += 1;
        if let Ok(info) = server.wait(server.node().connection(id)) {
            most = most.max(info.outbox_bytes);
        }
    }
    assert!(bursts < 200, "it took everything, {most} bytes wait");
    assert!(most <= 2 * 256 * 1024, "{most} bytes waited");
    neighbours.are_well();
    drop((stream, client));
    eventually("it is gone", || server.find(address).is_none());
}

#[test]
fn fault_row_4_a_flood_of_websocket_pings_is_closed() {
    let server = serving(&["servers.ddp.max_control_frames=16"]);
    let mut neighbours = Neighbours::new(&server);
    let mut client = server.ddp();
    let flood = frame(0x89, b"x").repeat(1000);
    let mut stream = client.line().try_clone().unwrap().into_tcp().unwrap();
    // It may close before all is written.
    let _ = stream.write_all(&flood);
    let code = std::iter::repeat_with(|| client.frame()).find_map(|frame| frame.get("closed").cloned()).unwrap();
    assert!(code == 1008 || code.is_null(), "{code}");
    eventually("it is gone", || closed(&server, CloseReason::Limit) == 1);
    neighbours.are_well();
}

#[test]
fn fault_row_35_a_callback_that_panics_changes_nothing_for_whoever_joins() {
    let server = serving(&[]);
    server.node().add_join_callback(100, |_| panic!("as asked for"));
    server.node().add_leave_callback(100, |_| panic!("as asked for"));
    let mut client = server.ddp_in("bot", &["defaultRoom"]);
    client.call("sendMessage", json!([{"rid": "defaultRoom", "msg": "still here"}])).unwrap();
    assert_eq!(client.heard(ROOMS)[0]["msg"], "still here");
    assert_eq!(client.call("leaveRoom", json!(["defaultRoom"])), Ok(Value::Null));
    assert_eq!(server.member_count("defaultRoom"), 0);
}

#[test]
fn fault_row_16_storms_of_log_ins_leave_a_session_that_works_working() {
    let server = serving(&["servers.ddp.max_failed_logins=0"]);
    let mut neighbours = Neighbours::new(&server);
    let mut others: Vec<_> = (0..20).map(|_| server.ddp()).collect();
    for round in 0..20 {
        let form = json!([{"user": {"username": format!("user {round}")}, "password": "guess"}]);
        let calls: Vec<_> = others.iter_mut().map(|other| other.begin("login", form.clone())).collect();
        for (other, call) in others.iter_mut().zip(calls) {
            assert_eq!(refused(other.finish(&call)), (json!(403), json!("User not found")));
        }
    }
    neighbours.are_well();
}
