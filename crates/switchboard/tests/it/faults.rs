//! Hostile and broken clients: what each does to itself, and what it does not do to anybody else.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::sync::Once;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use switchboard::action::{Action, ActionResult, ActionSpec, Input, Reply, Request};
use switchboard::node::hooks::{SayMiddleware, Saying};
use switchboard::proto::close::CloseReason;

use super::peer::{DEADLINE, Folder, Peer, Running, config, eventually, resident_bytes, within};
use super::program::Program;

pub(crate) const KIB: usize = 1024;
const UNKNOWN: &str = "Error: unknown action or invalid apiVersion";

fn small_lines() -> Running {
    let mut config = config();
    config.servers.socket.max_line_bytes = KIB;
    Running::start(config)
}

#[test]
fn fault_row_7_a_line_that_is_too_long_is_answered_once_with_the_last_number() {
    let running = small_lines();
    let mut peer = running.connect();
    peer.ok("paramsView");
    for piece in [1025, 500, 100] {
        // Byte for byte the same, however it is cut.
        for part in vec![b'x'; 1025].chunks(piece) {
            peer.send(part);
        }
        peer.send("\r\n");
        assert_eq!(
            peer.line(),
            r#"{"status":"error","error":"data length is too big (1024 received/1025 max)","context":"response","messageCount":1}"#
        );
    }
    let mut longest = "x".repeat(1000);
    longest.insert_str(0, "paramAdd k=");
    longest.push_str(&"x".repeat(KIB - longest.len()));
    assert_eq!(peer.ask(&longest)["messageCount"], 2);
}

#[test]
fn fault_row_7_a_line_without_an_end_closes_at_16_times_the_limit() {
    let running = small_lines();
    let mut peer = running.connect();
    peer.send(vec![b'x'; 16 * KIB]);
    // Nothing is said as long as the line could still end.
    assert_eq!(running.closed(CloseReason::TooLarge), 0);
    peer.send("x");
    assert_eq!(peer.json()["error"], "data length is too big (1024 received/16385 max)");
    peer.end();
    running.assert_empties();
    assert_eq!(running.closed(CloseReason::TooLarge), 1);
}

#[test]
fn fault_row_7_a_gigabyte_without_a_line_end_costs_the_server_nothing() {
    let program = Program::start(&[]);
    let before = resident_bytes(program.pid());
    let mut peer = program.connect();
    let block = vec![b'x'; 64 * KIB];
    let mut sent = 0;
    // Whatever follows the refusal is dropped until the connection has had its time to end.
    while sent < 1 << 30 && std::io::Write::write_all(peer.wire.get_mut(), &block).is_ok() {
        sent += block.len();
    }
    assert!(sent >= 1 << 20);
    let grown = resident_bytes(program.pid()).saturating_sub(before);
    assert!(grown < 2 << 20, "{grown} bytes more");
    program.connect().ok("paramsView");
}

#[test]
fn fault_row_64_a_page_that_has_a_browser_post_here_says_nothing() {
    let running = Running::start(config());
    let mut hearer = running.connect();
    hearer.ok("roomAdd defaultRoom");
    let long = format!("/{}", "x".repeat(70_000));
    for path in ["/", &long] {
        let mut browser = running.connect();
        browser.send(format!(
            "POST {path} HTTP/1.1\r\nHost: localhost:5000\r\nContent-Length: 50\r\n\r\n\r\nroomAdd defaultRoom\r\nsay defaultRoom x\r\n"
        ));
        eventually("it is closed", || running.node().figures().connections == 1);
    }
    assert_eq!(hearer.ask("roomView defaultRoom")["data"]["membersCount"], 1);
    assert_eq!(running.node().figures().published, 0);
}

#[test]
fn fault_row_5_what_is_not_utf_8_is_refused_under_its_own_number() {
    let running = Running::start(config());
    let mut peer = running.connect();
    for (number, bad) in
        [&b"\xc3\x28"[..], b"say defaultRoom \xed\xa0\x80", b"paramAdd k=\xf0\x9f\x98", b"\x80"].iter().enumerate()
    {
        peer.send([bad, &b"\r\n"[..]].concat());
        assert_eq!(
            peer.line(),
            format!(
                r#"{{"status":"error","error":"line is not valid UTF-8","context":"response","messageCount":{}}}"#,
                number + 1
            )
        );
    }
    // Nothing was run, and a character that is cut in two is whole again.
    assert_eq!(peer.ok("paramsView"), json!({}));
    for part in [&b"paramAdd k=\xf0\x9f"[..], b"\x98\x80\r\n"] {
        peer.send(part);
        peer.wire.get_ref().set_nodelay(true).unwrap();
    }
    assert_eq!(peer.json()["status"], "OK");
    assert_eq!(peer.ok("paramView k"), "😀");
}

#[test]
fn fault_row_7_nul_telnet_sequences_and_bare_cr_do_no_harm() {
    let running = Running::start(config());
    let mut peer = running.connect();
    peer.send(b"paramAdd k=a\0b\r\n");
    assert_eq!(peer.json()["status"], "OK");
    assert_eq!(peer.ok("paramView k"), "a\0b");
    // WILL ECHO, a subnegotiation with a line end inside, and "go ahead", all inside one verb.
    peer.send(b"param\xff\xfb\x01View\xff\xfa\x1f\r\n\xff\xf0 \xff\xf9k\r\n");
    assert_eq!(peer.json()["data"], "a\0b");
    peer.send(b"paramsDelete\rparamsView\r\0paramView k\r");
    assert_eq!((peer.json()["messageCount"].clone(), peer.json()["data"].clone()), (json!(4), json!({})));
    assert_eq!(peer.json()["messageCount"], 6);
    // A break in the middle of other bytes means nothing, and a NUL alone is a line of its own.
    peer.send(b"paramView\x04 k\r\n");
    assert_eq!(peer.json()["messageCount"], 7);
    peer.send(b"\0\r\n");
    assert_eq!(peer.json()["messageCount"], 8);
    // An unfinished sequence ends with its connection.
    peer.send(b"\xff\xfa");
    drop(peer);
    running.assert_empties();
}

#[test]
fn fault_row_6_monstrous_json_is_refused_under_its_number_and_the_connection_goes_on() {
    let mut config = config();
    config.servers.socket.max_line_bytes = 8 << 20;
    config.limits.max_params_bytes = 16 << 20;
    let running = Running::start(config);
    let mut peer = running.connect();
    let keys: Vec<String> = (0..100_000).map(|key| format!("\"k{key}\":0")).collect();
    let too_deep = "Error: JSON is nested deeper than 32 levels";
    let too_wide = "Error: a JSON object has more than 1000 members";
    let twice = "Error: a JSON object names a member twice";
    let out_of_range = "Error: a number in JSON is out of range";
    let monsters = [
        ("[".repeat(60_000), UNKNOWN),
        ("{\"params\":".repeat(6000), UNKNOWN),
        // The rest of a long text is not read, so its first fault is named.
        ("[".repeat(100_000), too_deep),
        (format!("{}{}", "[".repeat(33), "]".repeat(33)), too_deep),
        (format!("{}{}", "[".repeat(100_000), "]".repeat(100_000)), too_deep),
        (format!("{{{}}}", keys.join(",")), too_wide),
        (format!("{{\"params\":{{{}}}}}", keys.join(",")), too_wide),
        (r#"{"action":"status","action":"status"}"#.to_owned(), twice),
        (r#"{"action":"status","\u0061ction":"status"}"#.to_owned(), twice),
        (r#"{"action":"status","params":{"a":1,"a":2}}"#.to_owned(), twice),
        (r#"{"action":"status","params":{"n":1e999}}"#.to_owned(), out_of_range),
        (format!(r#"{{"action":"status","params":{{"n":{}}}}}"#, "9".repeat(100_000)), out_of_range),
        // Text that is not JSON is the name of an action, as on the real servers.
        (r#"{"action":"status"}}"#.to_owned(), UNKNOWN),
        (r#"{"action":"status""#.to_owned(), UNKNOWN),
        (r#"{"action":"status"} {"action":"status"}"#.to_owned(), UNKNOWN),
        // Half a surrogate pair is read as U+FFFD, which is the name of no action.
        (r#"{"action":"\ud800"}"#.to_owned(), UNKNOWN),
    ];
    for (number, (monster, error)) in monsters.iter().enumerate() {
        let answer = peer.ask(monster);
        assert!(answer["error"] == *error, "{:.60} is answered with {:.200}", monster, answer.to_string());
        assert_eq!(answer["messageCount"], number + 1);
    }
    for fine in [
        r#"{"action":"cacheTest","params":{"key":"k","value":1e300}}"#,
        r#"{"action":"cacheTest","params":{"key":"k","value":18446744073709551615}}"#,
        r#"{"action":"cacheTest","params":{"key":"k","value":-0.0000000000000000000000000001}}"#,
    ] {
        assert!(peer.ask(fine).get("error").is_none(), "{fine}");
    }
}

#[test]
fn fault_row_6_with_the_default_limits_a_monster_is_refused_too() {
    let running = Running::start(config());
    let mut peer = running.connect();
    // Almost a line's worth of nesting. It is not JSON, and is not kept.
    assert_eq!(peer.ask(&"[".repeat(65_530))["error"], UNKNOWN);
    assert_eq!(peer.ask(&"[".repeat(100_000))["status"], "error");
    assert_eq!(peer.ask("randomNumber")["messageCount"], 2);
}

#[test]
fn unknown_and_incomplete_requests_are_refused_by_name() {
    let running = Running::start(config());
    let mut peer = running.connect();
    for name in ["nothing", "ROOMADD", "quit2", "päramAdd", "randomnumber"] {
        assert_eq!(peer.ask(name)["error"], UNKNOWN);
    }
    assert_eq!(peer.ask(r#"{"action":"nothing"}"#)["error"], UNKNOWN);
    assert_eq!(peer.ask("cacheTest")["error"], "Error: key is a required parameter for this action");
    peer.ok("paramAdd key=k");
    assert_eq!(peer.ask("cacheTest")["error"], "Error: value is a required parameter for this action");
    for (line, status) in [
        ("roomAdd", "room does not exist"),
        ("roomAdd nowhere", "room does not exist"),
        ("roomLeave", "connection not in this room"),
        ("roomLeave nowhere", "connection not in this room"),
        ("roomView", "not member of room undefined"),
        ("say", "both room and message are required"),
        ("say defaultRoom", "both room and message are required"),
        ("say defaultRoom hello", "connection not in this room"),
    ] {
        assert_eq!(peer.ask(line)["status"], status, "{line}");
    }
    let long = format!("roomAdd {}", "r".repeat(129));
    assert_eq!(peer.ask(&long)["status"], "room does not exist");
    for line in ["paramAdd", "paramAdd =", "paramDelete", "paramView"] {
        assert_eq!(peer.ask(line)["status"], "OK", "{line}");
    }
}

#[test]
fn params_beyond_the_limits_are_refused_and_the_kept_ones_stay() {
    let running = Running::start(config());
    let mut peer = running.connect();
    for index in 0..64 {
        peer.ok(&format!("paramAdd k{index}=v"));
    }
    assert_eq!(peer.ask("paramAdd k64=v")["status"], "too many params");
    assert_eq!(peer.ask("status")["error"], "Error: too many params");
    assert_eq!(peer.ok("paramsView").as_object().unwrap().len(), 64);
    peer.ok("paramsDelete");
    let large = "v".repeat(60_000);
    peer.ok(&format!("paramAdd a={large}"));
    assert_eq!(peer.ask(&format!("paramAdd b={large}"))["status"], "too many params");
    assert_eq!(peer.ask(&format!(r#"{{"action":"status","params":{{"a":"{large}"}}}}"#))["id"], running.node().name());
    let many: Vec<String> = (0..65).map(|index| format!("\"p{index}\":1")).collect();
    let answer = peer.ask(&format!(r#"{{"action":"status","params":{{{}}}}}"#, many.join(",")));
    assert_eq!(answer["error"], "Error: too many params");
    assert_eq!(peer.ok("paramView a").as_str().map(str::len), Some(60_000));
}

#[test]
fn more_pending_actions_than_allowed_are_refused_and_the_others_are_answered() {
    let running = Running::start(config());
    let mut peer = running.connect();
    peer.ok("paramAdd sleepDuration=300");
    peer.send("sleepTest\r\n".repeat(8));
    let refused: Vec<Value> = (0..3).map(|_| peer.json()).collect();
    assert!(refused.iter().all(|answer| answer["error"] == "Error: you have too many pending requests"));
    let mut numbers: Vec<u64> = (0..5).map(|_| peer.json()["messageCount"].as_u64().unwrap()).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, [2, 3, 4, 5, 6]);
    assert_eq!(peer.ok("detailsView")["pendingActions"], 0);
}

/// The client's end arrives together with its last bytes. Readiness tells of both at once and never again.
#[test]
fn what_a_client_asked_for_before_closing_its_side_is_answered_and_then_it_is_closed() {
    let running = Running::start(config());
    for _ in 0..300 {
        let mut peer = running.connect_raw();
        peer.send("detailsView\r\nparamsView\r\n");
        peer.shutdown_write();
        assert_eq!(peer.rest().len(), 3);
    }
    running.assert_empties();
    assert_eq!(running.closed(CloseReason::ClientLeft), 300);
}

#[test]
fn a_client_that_ends_in_the_middle_of_a_line_leaves_nothing() {
    let running = Running::start(config());
    for _ in 0..300 {
        let mut peer = running.connect();
        peer.send("paramAdd k=");
    }
    running.assert_empties();
}

#[test]
fn answers_still_pending_when_the_client_closes_its_side_are_dropped_and_files_under_way_are_not() {
    let folder = Folder::new();
    let content: Vec<u8> = (0..3_000_000u32).map(|index| index as u8).collect();
    folder.write("large", &content);
    let mut config = config();
    config.files.root = Some(folder.path().to_owned());
    let running = Running::start(config);

    let mut peer = running.connect();
    peer.send("paramAdd sleepDuration=60000\r\nsleepTest\r\nparamsView\r\n");
    peer.shutdown_write();
    let answers = peer.rest();
    assert_eq!(answers.len(), 2, "{answers:?}");

    let mut peer = running.connect();
    peer.send("file large\r\nparamsView\r\n");
    peer.shutdown_write();
    assert!(peer.raw(content.len()) == content);
    assert_eq!(peer.json()["messageCount"], 2);
    peer.end();
    running.assert_empties();
}

#[test]
fn a_reset_in_the_middle_of_anything_leaves_nothing() {
    let folder = Folder::new();
    folder.write("large", vec![b'x'; 4 << 20]);
    let mut config = config();
    config.files.root = Some(folder.path().to_owned());
    let running = Running::start(config);
    for round in 0..10 {
        for middle in
            ["file large\r\n", "sleepTest\r\n", "paramAdd k=", "detailsView\r\n", "file large\r\nsay defaultRoom x\r\n"]
        {
            let mut peer = running.connect_narrow();
            peer.ok("roomAdd defaultRoom");
            peer.send(middle);
            if round % 2 == 0 && middle.starts_with("file") {
                peer.raw(1000);
            }
            peer.reset();
        }
    }
    running.assert_empties();
    assert_eq!(running.block_on(running.node().room_status("defaultRoom")).unwrap().members, []);
    running.connect().ok("roomAdd defaultRoom");
}

#[test]
fn fault_row_30_a_million_names_of_rooms_leave_nothing_behind() {
    const NAMES: usize = 500_000;
    const BATCH: usize = 1000;
    let program = Program::start(&[]);
    let mut peer = program.connect();
    peer.ok("roomAdd defaultRoom");
    let before = resident_bytes(program.pid());
    let mut answers = 0;
    let mut line = Vec::new();
    for batch in 0..NAMES / BATCH {
        let mut requests = String::new();
        for name in batch * BATCH..(batch + 1) * BATCH {
            // Two names each: one to join, one to speak in.
            requests.push_str(&format!("roomAdd x{name}\r\nsay y{name} hello\r\n"));
        }
        peer.send(requests);
        for index in 0..2 * BATCH {
            line.clear();
            std::io::BufRead::read_until(&mut peer.wire, b'\n', &mut line).unwrap();
            let expected = if index % 2 == 0 { &b"room does not exist"[..] } else { b"connection not in this room" };
            assert!(line.windows(expected.len()).any(|part| part == expected), "{}", String::from_utf8_lossy(&line));
            answers += 1;
        }
    }
    assert_eq!(answers, 1_000_000);
    let grown = resident_bytes(program.pid()).saturating_sub(before);
    assert!(grown <= 8 << 20, "{grown} bytes more");
    assert_eq!(peer.ok("detailsView")["rooms"], json!(["defaultRoom"]));
}

#[test]
fn fault_row_30_a_connection_enters_only_so_many_rooms() {
    let mut config = config();
    config.limits.max_rooms_per_connection = 3;
    let running = Running::start(config);
    for room in ["a", "b", "c", "d"] {
        running.block_on(running.node().add_room(room)).unwrap();
    }
    let mut peer = running.connect();
    for room in ["a", "b", "c"] {
        peer.ok(&format!("roomAdd {room}"));
    }
    assert_eq!(peer.ask("roomAdd d")["status"], "too many rooms");
    peer.ok("roomLeave b");
    peer.ok("roomAdd d");
}

/// Panics in every way that user code can.
struct Boom;

impl Action for Boom {
    fn spec(&self) -> ActionSpec {
        let explosive = Input::optional("when").validator(|when| match when.as_str() {
            Some("validator") => panic!("injected: validator"),
            _ => Ok(()),
        });
        ActionSpec::new("boom").input(explosive)
    }

    async fn run(&self, request: &mut Request) -> ActionResult {
        match request.text("when")? {
            "once" => panic!("injected: at once"),
            "later" => {
                tokio::task::yield_now().await;
                panic!("injected: later");
            }
            _ => Ok(Reply::new()),
        }
    }
}

struct Censor;

impl SayMiddleware for Censor {
    async fn say(&self, saying: &mut Saying) -> Result<(), String> {
        if saying.body().as_str().contains("boom") { panic!("injected: say") } else { Ok(()) }
    }
}

/// Keeps what is injected out of the log of the tests.
fn quiet_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let loud = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let text = info.payload().downcast_ref::<&str>().copied().unwrap_or_default();
            if !text.starts_with("injected") {
                loud(info);
            }
        }));
    });
}

#[test]
fn fault_row_35_ten_thousand_panics_of_user_code_fail_their_requests_and_nothing_else() {
    const ROUNDS: usize = 1500;
    quiet_panics();
    let running = Running::start_with(config(), |builder| {
        builder.action(Boom).setup(|node| {
            node.add_join_callback(1, |_| panic!("injected: join"));
            node.add_leave_callback(1, |_| panic!("injected: leave"));
            node.add_say_middleware(1, Censor);
        })
    });
    let mut peer = running.connect();
    let mut witness = running.connect();
    witness.ok("roomAdd defaultRoom");
    for _ in 0..ROUNDS {
        for when in ["validator", "once", "later"] {
            let answer = peer.ask(&format!(r#"{{"action":"boom","params":{{"when":"{when}"}}}}"#));
            assert!(answer["error"].is_string(), "{answer}");
        }
        peer.ok("roomAdd defaultRoom");
        assert_eq!(peer.ask("say defaultRoom boom")["status"], "unavailable");
        peer.ok("roomLeave defaultRoom");
    }
    const { assert!(ROUNDS * 6 + 1000 >= 10_000) };
    // Again while the connection ends, when callbacks run without anybody waiting.
    for _ in 0..500 {
        let mut peer = running.connect();
        peer.send("roomAdd defaultRoom\r\n");
        peer.json();
    }
    eventually("only two are left", || running.connections() == 2);
    assert_eq!(peer.ok("detailsView")["pendingActions"], 0);
    peer.ok("roomAdd defaultRoom");
    peer.ok("say defaultRoom hello");
    assert_eq!(witness.json()["message"], "hello");
}

#[test]
fn fault_row_27_three_thousand_connects_at_once_are_all_welcomed() {
    const FLOOD: usize = 3000;
    let running = Running::start(config());
    let mut old = running.connect();
    let mut flood: Vec<_> = (0..FLOOD).map(|_| running.connect_raw()).collect();
    flood.iter_mut().for_each(Peer::welcome);
    old.ok("paramsView");
    assert_eq!(running.connections(), FLOOD + 1);
    drop(flood);
    eventually("the flood is over", || running.connections() == 1);
    assert_eq!(running.node().figures().accepted, FLOOD as u64 + 1);
    old.ok("paramsView");
    drop(old);
    running.assert_empties();
}

#[test]
fn connections_beyond_the_limit_are_told_and_closed() {
    let mut config = config();
    config.limits.max_connections = 3;
    let running = Running::start(config);
    let mut inside: Vec<_> = (0..3).map(|_| running.connect()).collect();
    for round in 0..200 {
        let mut refused = running.connect_raw();
        if round % 2 == 0 {
            // A client that does not wait for the welcome.
            refused.send("paramsView\r\n");
        }
        assert_eq!(refused.line(), r#"{"error":"too many connections, try again later","context":"api"}"#);
        refused.end();
    }
    inside.iter_mut().for_each(|peer| drop(peer.ok("paramsView")));
    // The refused have left no trace in the count.
    inside.pop();
    eventually("one has left", || running.connections() == 2);
    inside.push(running.connect());
    assert_eq!(running.node().figures().accepted, 4);
}

#[test]
fn fault_row_26_without_file_descriptors_existing_connections_live_and_new_ones_wait() {
    let program = Program::start_limited(64, &["--set", "limits.max_connections=1000", "--set", "node.workers=2"]);
    let mut welcomed = Vec::new();
    let mut waiting = loop {
        let mut peer = program.connect_raw();
        peer.wire.get_ref().set_read_timeout(Some(Duration::from_millis(700))).unwrap();
        let mut first = [0];
        // Looked at without taking it.
        match peer.wire.get_ref().peek(&mut first) {
            Ok(1) => {
                peer.wire.get_ref().set_read_timeout(Some(DEADLINE)).unwrap();
                peer.welcome();
                welcomed.push(peer);
            }
            Ok(_) => panic!("refused after {}", welcomed.len()),
            Err(_) => break vec![peer],
        }
        assert!(welcomed.len() < 64);
    };
    assert!(welcomed.len() > 20, "only {}", welcomed.len());
    for _ in 0..4 {
        waiting.push(program.connect_raw());
    }
    welcomed.iter_mut().for_each(|peer| drop(peer.ok("roomAdd defaultRoom")));
    welcomed[0].ok("say defaultRoom hello");
    welcomed[1..].iter_mut().for_each(|peer| assert_eq!(peer.json()["message"], "hello"));

    let room_for = waiting.len();
    welcomed.truncate(welcomed.len() - room_for);
    let closed = Instant::now();
    for peer in &mut waiting {
        peer.wire.get_ref().set_read_timeout(Some(DEADLINE)).unwrap();
        peer.welcome();
    }
    assert!(closed.elapsed() < Duration::from_secs(1), "recovering took {:?}", closed.elapsed());
    welcomed.iter_mut().chain(&mut waiting).for_each(|peer| drop(peer.ok("paramsView")));
}

#[test]
fn fault_row_41_the_kernel_watches_every_connection() {
    let running = Running::start(config());
    let peer = running.connect();
    let client_port = peer.wire.get_ref().local_addr().unwrap().port();
    let pair = format!(":{:04X} 0100007F:{client_port:04X}", running.address().port());
    let watched = || {
        let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
        let line =
            table.lines().find(|line| line.contains(&pair)).expect("the server's end is in the table").to_owned();
        // Column 6: which timer runs (2 is keep-alive), and in how many hundredths of a second it is due.
        let timer = line.split_whitespace().nth(5).unwrap().to_owned();
        let (kind, due) = timer.split_once(':').unwrap();
        kind == "02" && u64::from_str_radix(due, 16).unwrap() <= 3000
    };
    assert!(within(DEADLINE, watched), "no keep-alive within 30 s");
}

#[test]
fn a_connection_that_is_ended_twice_is_told_once() {
    let running = Running::start(config());
    for _ in 0..100 {
        let mut peer = running.connect();
        let id = peer.id();
        running.block_on(async {
            let node = running.node();
            let (first, _) = tokio::join!(node.disconnect(id), node.disconnect(id));
            first.unwrap();
        });
        peer.goodbye();
    }
    running.assert_empties();
    assert_eq!(running.closed(CloseReason::Removed), 100);
}

#[test]
fn without_a_linger_the_goodbye_is_sent_all_the_same() {
    let mut config = config();
    config.servers.socket.close_linger = Duration::ZERO;
    let running = Running::start(config);
    for _ in 0..20 {
        let mut peer = running.connect();
        peer.say("quit");
        peer.goodbye();
    }
    running.assert_empties();
}

/// 0 turns the limit off, and no sum with it may overflow.
#[test]
fn without_a_limit_for_lines_any_delimiter_still_works() {
    for delimiter in ["\n", "|", "END"] {
        let mut config = config();
        config.servers.socket.max_line_bytes = 0;
        config.servers.socket.delimiter = delimiter.to_owned();
        let running = Running::start(config);
        let mut peer = running.connect();
        let long = "x".repeat(70_000);
        peer.send(format!("{delimiter}{delimiter}paramsView{delimiter}{delimiter}paramView {long}{delimiter}"));
        assert_eq!((peer.json()["messageCount"].clone(), peer.json()["messageCount"].clone()), (json!(1), json!(2)));
    }
}
