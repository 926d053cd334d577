//! Sessions that do not read what they are sent: what each policy does to them, and that others do not notice.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use socket2::{Domain, Socket, Type};
use switchboard::command::{CommandOptions, Mode, Outcome, Target};
use switchboard::node::Speaker;
use switchboard::proto::close::CloseReason;
use switchboard::proto::id::ConnId;
use switchboard_testkit::client::{LineClient, PATIENCE};
use switchboard_testkit::ddp::DdpClient;

use super::ddp_support::{COMMANDS, MINE, PASSWORD, ROOMS, refused, serving, words};
use super::peer::eventually;
use super::support::TestServer;

const KIB: usize = 1024;

/// A session of the bot in the room, whose kernel takes very little that it has not read.
fn narrow(server: &TestServer) -> DdpClient {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    socket.connect(&server.web_address().into()).unwrap();
    let line = LineClient::web_over(TcpStream::from(socket), "/websocket").unwrap();
    let mut client = DdpClient::greeted(line).unwrap();
    client.open();
    client.log_in("bot", PASSWORD);
    client.call("joinRoom", json!(["defaultRoom"])).unwrap();
    client.sub(ROOMS, json!([MINE])).unwrap();
    client
}

/// What waits for a session; none when it is gone.
fn waiting(server: &TestServer, id: ConnId) -> Option<usize> {
    server.wait(server.node().connection(id)).ok().map(|info| info.outbox_bytes)
}

/// Says things until `stop` says so, while others hear all of it in order; how much was said.
fn fill_the_room(server: &TestServer, mut stop: impl FnMut() -> bool) -> u64 {
    let mut others: Vec<_> = (0..2).map(|_| server.ddp_in("ann", &["defaultRoom"])).collect();
    let text = "x".repeat(4 * KIB);
    let end = Instant::now() + 2 * PATIENCE;
    let mut last = 0;
    while !stop() {
        assert!(Instant::now() < end, "after {last} messages nothing has happened");
        for _ in 0..20 {
            last =
                server.wait(server.node().broadcast(Speaker::server(), "defaultRoom", text.clone())).unwrap().unwrap();
        }
        for other in &mut others {
            for number in last - 19..=last {
                assert_eq!(other.heard(ROOMS)[0]["number"], number);
            }
        }
    }
    last
}

/// Until what waits is full and as much again has been said.
fn fill_twice(server: &TestServer, id: ConnId, limit: usize) -> u64 {
    let mut rounds_left = None;
    fill_the_room(server, || {
        let bytes = waiting(server, id).expect("it stays");
        assert!(bytes <= limit + 16 * KIB, "{bytes} bytes wait");
        match &mut rounds_left {
            None if bytes > limit - 16 * KIB => rounds_left = Some(20),
            None => {}
            Some(0) => return true,
            Some(left) => *left -= 1,
        }
        false
    })
}

/// Numbers that rise, none of them a notice; how many are missing between them.
fn hear(client: &mut DdpClient, last: u64, until: u64) -> (u64, u64) {
    let (mut last, mut missing) = (last, 0);
    while last < until {
        let args = client.heard(ROOMS);
        let number = args[0]["number"].as_u64().unwrap();
        assert!(number > last && args[1]["roomType"] == "c", "{number} behind {last}");
        missing += number - last - 1;
        last = number;
    }
    (last, missing)
}

#[test]
fn fault_row_24_a_session_that_does_not_read_is_closed_and_nobody_else_notices() {
    let server = serving(&["limits.max_outbox_bytes=256KiB"]);
    let mut stuck = narrow(&server);
    let id = server.id_of_ddp(&mut stuck);
    fill_the_room(&server, || waiting(&server, id).is_none());
    assert_eq!(server.node().figures().closed[CloseReason::SlowConsumer.index()], 1);
    // It is told with the code that says why, behind what it was sent.
    let mut last = 0;
    let end = loop {
        let frame = stuck.frame();
        match frame["fields"]["args"][0]["number"].as_u64() {
            Some(number) => {
                assert_eq!(number, last + 1);
                last = number;
            }
            None => break frame,
        }
    };
    assert!(end == json!({"closed": 1013}) || end == json!({"closed": null}), "{end}");
}

fn a_stuck_session_sees_the_gap_in_the_numbers(policy: &str) {
    let server = serving(&["limits.max_outbox_bytes=256KiB", &format!("limits.slow_consumer={policy}")]);
    let mut stuck = narrow(&server);
    let id = server.id_of_ddp(&mut stuck);
    let last = fill_twice(&server, id, 256 * KIB);
    // Something that is heard for certain once there is space again.
    let mut call = None;
    let (mut heard, mut missing) = (0, 0);
    loop {
        let frame = stuck.frame();
        if frame["msg"] == "result" {
            assert_eq!(Some(frame["id"].as_str().unwrap()), call.as_deref());
            break;
        }
        if frame["msg"] == "changed" {
            let number = frame["fields"]["args"][0]["number"].as_u64().unwrap();
            assert!(number > heard, "{number} behind {heard}");
            missing += number - heard - 1;
            heard = number;
        }
        // Once only, and behind the first that it reads, so that nothing is dropped any more.
        if call.is_none() && (heard == last || waiting(&server, id).is_some_and(|bytes| bytes == 0)) {
            call = Some(stuck.begin("UserPresence:online", json!([])));
        }
    }
    assert_eq!(stuck.frame()["msg"], "updated");
    if policy == "drop-oldest" {
        assert_eq!(heard, last);
    }
    // Caught up, it misses nothing more, and shows the number behind the gap. Of the newest, too, some may have fitted
    // behind a gap: the kernel takes a little more of a stuck session whenever it likes.
    server.wait(server.node().broadcast(Speaker::server(), "defaultRoom", "the end")).unwrap();
    let (heard, still_missing) = hear(&mut stuck, heard, last + 1);
    assert_eq!(heard, last + 1);
    assert!(missing + still_missing > 0, "all of {last} were heard");
    stuck.expect_silence();
    assert_eq!(server.node().figures().closed[CloseReason::SlowConsumer.index()], 0);
}

#[test]
fn fault_row_24_dropping_the_oldest_leaves_nothing_but_a_jump_in_the_numbers() {
    a_stuck_session_sees_the_gap_in_the_numbers("drop-oldest");
}

#[test]
fn fault_row_24_dropping_the_newest_leaves_nothing_but_a_jump_in_the_numbers() {
    a_stuck_session_sees_the_gap_in_the_numbers("drop-newest");
}

#[test]
fn fault_row_24_no_message_of_a_client_is_so_large_that_it_closes_whoever_reads() {
    let server = serving(&[]);
    let mut ann = server.ddp_in("ann", &["defaultRoom"]);
    let mut bot = server.ddp_in("bot", &["defaultRoom"]);
    let message =
        |bytes: usize| json!([{"rid": "defaultRoom", "_id": format!("{bytes}"), "attachments": ["x".repeat(bytes)]}]);
    let too_large = words("error-message-size-exceeded", "Message size exceeds the limit");
    for bytes in [1_048_000, 100_000, 65_536] {
        assert_eq!(refused(bot.call("sendMessage", message(bytes))), too_large, "{bytes}");
    }
    for bytes in 65_000..65_050 {
        bot.call("sendMessage", message(bytes)).unwrap();
        for client in [&mut bot, &mut ann] {
            assert_eq!(client.heard(ROOMS)[0]["_id"], bytes.to_string());
        }
    }
    // The latest ids are remembered, the oldest have made room.
    assert_eq!(bot.call("sendMessage", message(65_049)).unwrap()["number"], 50);
    assert_eq!(bot.call("sendMessage", message(65_000)).unwrap()["number"], 51);
}

#[test]
fn a_command_that_does_not_fit_skips_its_session_and_reaches_the_others() {
    let server = serving(&["limits.max_outbox_bytes=256KiB", "limits.slow_consumer=drop-newest"]);
    let mut stuck = narrow(&server);
    server.take_commands(&mut stuck);
    let id = server.id_of_ddp(&mut stuck);
    fill_twice(&server, id, 256 * KIB);
    let command = json!({"key": "large", "data": "x".repeat(60 * KIB)});
    let bot = || Target::User("b1".into());
    let options = CommandOptions { fail_fast: true, timeout: Some(PATIENCE), ..Default::default() };
    let sent = server.command(bot(), &command, options);
    let sent = server.wait(sent).unwrap();
    assert_eq!((sent.report().outcome, sent.failure().code), (Outcome::Overflow, "error-client-command-overflow"));

    let mut other = server.ddp_as("bot");
    server.take_commands(&mut other);
    let options = CommandOptions { mode: Some(Mode::All), timeout: Some(PATIENCE), ..Default::default() };
    let sent = server.command(bot(), &command, options);
    let document = other.heard(COMMANDS)[0].take();
    assert_eq!(other.call("replyClientCommand", json!([document["_id"], {"success": true}])), Ok(json!(true)));
    let sent = server.wait(sent).unwrap();
    let rows = sent.report().rows.as_ref().unwrap();
    assert_eq!(rows.len(), 2);
    for row in rows {
        let expected = if row.connection == id { Outcome::Overflow } else { Outcome::Replied };
        assert_eq!(row.outcome, expected, "{row:?}");
    }
    assert_eq!(server.node().client_command_figures().overflowed, 2);
    // Whoever was skipped is not sent it later either.
    let ends = json!({"msg": "pong", "id": "behind"});
    stuck.send(&json!({"msg": "ping", "id": "behind"}));
    let rest: Vec<Value> = std::iter::repeat_with(|| stuck.frame()).take_while(|frame| *frame != ends).collect();
    assert!(rest.iter().all(|frame| frame["collection"] == ROOMS), "{:?}", rest.last());
}

#[test]
fn whoever_ends_while_much_waits_for_him_is_gone() {
    let server = serving(&["limits.max_outbox_bytes=256KiB", "limits.slow_consumer=drop-oldest"]);
    let mut stuck = narrow(&server);
    let id = server.id_of_ddp(&mut stuck);
    fill_twice(&server, id, 256 * KIB);
    drop(stuck);
    let begun = Instant::now();
    eventually("it is gone", || waiting(&server, id).is_none());
    assert!(begun.elapsed() < Duration::from_secs(5));
    // The user leaves after the connection has ended.
    eventually("its user has left", || server.member_count("defaultRoom") == 0);
}
