//! Each row of the table of errors.

use std::io::Write as _;
use std::ops::RangeInclusive;

use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};

use super::*;
use crate::command::{CommandDocument, CommandId};
use crate::user::User;

/// What a client sees of an error.
fn error(code: u16, reason: &str, request_type: &str, retry_after_ms: &str) -> String {
    format!(
        r#""data":{{"code":{code},"reason":"{reason}","request_type":{request_type},"retry_after_ms":{retry_after_ms}}}}}"#
    )
}

/// Whether the client was told this, and whether the connection was closed so; nothing else came.
#[track_caller]
fn is_told(talk: &mut Talk, shown: &str, closes: Option<(&str, CloseReason)>) {
    let received = talk.received();
    let lines: Vec<&str> = received.lines().collect();
    let rate_limit = ["4008", "4024", "4025"].iter().any(|code| shown.contains(&format!("\"code\":{code}")));
    assert!(lines[0].contains(shown), "{received}");
    assert!(lines[0].contains(&format!("\"rate_limit\":{rate_limit},")), "{received}");
    assert!(
        lines[0]
            .starts_with(r#"{"type":2,"service":"gateway","event":"GATEWAY_ERROR","possible_error":true,"message":""#)
    );
    let (words, reason) = match closes {
        Some((words, reason)) => (vec![words], Some(reason)),
        None => (vec![], None),
    };
    assert_eq!((&lines[1..], talk.fx.close), (&words[..], reason), "{received}");
}

fn say(talk: &mut Talk, message: &str) {
    talk.send(&client_frame(0x81, message.as_bytes()));
}

fn gzip(json: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(json).unwrap();
    encoder.finish().unwrap()
}

fn zlib(json: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(json).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn row_4000_an_unexpected_failure_closes() {
    let closes = Some(("(close 4000 internal_error)", CloseReason::Internal));
    for message in [
        r#"{"type":1,"d":{"public_key":"k"}}"#,
        r#"{"type":5,"d":{"public_key":"k","session_id":"s"}}"#,
        r#"{"type":3,"d":{"shard_id":1,"public_key":"k"}}"#,
    ] {
        let mut talk = open();
        say(&mut talk, message);
        talk.outcome(Err(CallError::Unavailable));
        is_told(&mut talk, &error(4000, "internal_error", &message[8..9], "null"), closes);
    }
    let mut talk = registered();
    event(&mut talk, ShardEvent::Grown);
    talk.outcome(Err(CallError::Unavailable));
    is_told(&mut talk, &error(4000, "internal_error", "null", "null"), closes);
    let mut talk = open_with(header_mode(), |_| {});
    talk.outcome(Err(CallError::Unavailable));
    assert!(talk.received().ends_with("(close 4000 internal_error)\n"));
}

#[test]
fn row_4001_and_4002_what_is_not_understood_changes_nothing() {
    for mut talk in [open(), registered()] {
        for (message, shown) in [
            (r#"{"type":42}"#, error(4001, "unknown_type", "42", "null")),
            (r#"{"type":-1}"#, error(4001, "unknown_type", "-1", "null")),
            ("{bad", error(4002, "decode_error", "null", "null")),
            ("[1]", error(4002, "decode_error", "null", "null")),
            (r#"{"type":"1"}"#, error(4002, "decode_error", "null", "null")),
            (r#"{"type":1}"#, error(4002, "decode_error", "1", "null")),
            (r#"{"type":9,"d":{}}"#, error(4002, "decode_error", "9", "null")),
        ] {
            say(&mut talk, message);
            is_told(&mut talk, &shown, None);
        }
        for binary in [&b"\x1f\x8bnot gzip"[..], b"\x78\x9cnot zlib", b"\xff\xfe", b""] {
            talk.now.monotonic_ms += 60_000;
            talk.send(&client_frame(0x82, binary));
            is_told(&mut talk, &error(4002, "decode_error", "null", "null"), None);
        }
    }
    for mut talk in [open(), registered()] {
        let deep =
            format!(r#"{{"type":10,"d":{{"op":"say","room":"r","message":{}1{}}}}}"#, "[".repeat(64), "]".repeat(64));
        say(&mut talk, &deep);
        let received = talk.received();
        assert!(received.contains(r#""message":"JSON is nested deeper than 64 levels""#), "{received}");
        assert!(received.contains(&error(4002, "decode_error", "10", "null")), "{received}");
        say(&mut talk, r#"{"type":1,"d":{"shard_in":"0"}}"#);
        let received = talk.received();
        assert!(received.contains(r#""message":"d.shard_in must be a whole number, 0 or more""#), "{received}");
    }
    let mut talk = open();
    say(&mut talk, r#"{"type":1,"d":{"public_key":"k\ud83d","client":{}}}"#);
    talk.outcome(Err(CallError::BadClientData));
    is_told(&mut talk, &error(4002, "decode_error", "1", "null"), None);
}

#[test]
fn row_4002_control_messages_have_a_length_of_their_own() {
    let closes = Some(("(close 4002 payload_too_large)", CloseReason::TooLarge));
    let long = |number: u32, len: usize| {
        let head = format!(r#"{{"type":{number},"x":""#);
        format!("{head}{}\"}}", "x".repeat(len - head.len() - 2))
    };
    for number in [1, 2, 3, 5, 6, 89] {
        let mut talk = registered();
        say(&mut talk, &long(number, 4097));
        is_told(&mut talk, &error(4002, "payload_too_large", &number.to_string(), "null"), closes);
        // Packed, it is as long as when it is not.
        let mut talk = registered();
        talk.send(&client_frame(0x82, &gzip(long(number, 4097).as_bytes())));
        is_told(&mut talk, &error(4002, "payload_too_large", &number.to_string(), "null"), closes);
    }
    let mut talk = registered();
    say(&mut talk, &long(3, 4096));
    assert_eq!(talk.received(), format!("{}\n", answer::PING));
    talk.send(&client_frame(
        0x82,
        &gzip(format!(r#"{{"type":9,"d":{{"_id":"i","reply":{{"x":"{}"}}}}}}"#, "x".repeat(60_000)).as_bytes()),
    ));
    assert_eq!((talk.calls.len(), talk.received().as_str()), (1, ""));
}

#[test]
fn fault_row_3_a_bomb_ends_the_connection_before_and_after_registration() {
    let bomb = gzip(&vec![b' '; 10_000_000]);
    assert!(bomb.len() < 60_000);
    for mut talk in [open(), registered()] {
        talk.send(&client_frame(0x82, &bomb));
        assert_eq!(talk.received(), "(close 1009 message is too big)\n");
        assert_eq!(talk.fx.close, Some(CloseReason::TooLarge));
    }
    // Before it is registered a client has nothing to say that is longer than what controls its session.
    let mut talk = open();
    talk.send(&client_frame(0x82, &zlib(&[b' '; 4097])));
    let closes = Some(("(close 4002 payload_too_large)", CloseReason::TooLarge));
    is_told(&mut talk, &error(4002, "payload_too_large", "null", "null"), closes);
}

#[test]
fn row_4003_nothing_but_registering_can_be_done_without_a_session() {
    let mut talk = open();
    for (number, rest) in [
        ("2", ""),
        ("3", ""),
        ("3", r#","d":{"seq":1}"#),
        ("4", r#","id":"i","data":{}"#),
        ("9", r#","d":{"_id":"i","reply":{}}"#),
        ("10", r#","d":{"op":"join","room":"r"}"#),
        ("89", ""),
    ] {
        say(&mut talk, &format!(r#"{{"type":{number}{rest}}}"#));
        is_told(&mut talk, &error(4003, "not_registered", number, "null"), None);
        assert!(talk.calls.is_empty());
    }
}

#[test]
fn row_4007_who_acknowledges_too_much_is_told_so_in_place_of_the_answer() {
    let mut talk = registered();
    say(&mut talk, r#"{"type":3,"d":{"seq":9}}"#);
    assert_eq!(talk.calls[0].1, "Shard(Acknowledge { seq: 9 })");
    talk.outcome(outcome("ahead").unwrap());
    is_told(&mut talk, &error(4007, "invalid_seq", "3", "null"), None);
}

#[test]
fn row_4008_too_many_messages_close() {
    let mut talk = registered();
    // One was the registration.
    for _ in 0..119 {
        say(&mut talk, r#"{"type":89}"#);
    }
    assert_eq!(talk.received(), "");
    // Pings of the WebSocket are no messages.
    talk.send(&client_frame(0x89, b"x"));
    assert_eq!(talk.received(), "(pong x)\n");
    say(&mut talk, r#"{"type":89}"#);
    let closes = Some(("(close 4008 rate_limited)", CloseReason::Limit));
    is_told(&mut talk, &error(4008, "rate_limited", "null", "null"), closes);
}

/// The command with this number, as the application's shard is sent it.
fn command(number: u128) -> (String, Event) {
    let id = CommandId::from_random(number);
    let document = CommandDocument { id, key: "k".into(), data: None, command: RawJson::from_parsed(r#"{"key":"k"}"#) };
    let to = Recipient::User(User::new("100").unwrap());
    (id.to_string(), Event::Command(CommandDelivery { document: Arc::new(document), to, ts: 0, ttl_ms: 5000 }))
}

/// Log events that are interactions with the ids of the range, numbered alike.
fn interactions(ids: RangeInclusive<u64>) -> Outcome {
    let event = |seq| {
        let body = RawJson::from_parsed(&format!(r#"{{"type":2,"id":"{seq}"}}"#));
        LoggedEvent { seq, item: items::interaction(0, 1, 2, &body) }
    };
    Ok(Answer::Shard(ShardAnswer::Events(LogPart { events: ids.map(event).collect(), has_more: false })))
}

/// Ends all calls that wait.
fn settle(talk: &mut Talk) {
    while !talk.calls.is_empty() {
        talk.outcome(outcome("done").unwrap());
    }
}

/// A session that takes commands. Its client may send three messages, and has sent one: its registration. This was read
/// from its log.
fn hurried(log: Outcome) -> Talk {
    let mut talk = open_with(Opening::default(), |settings| settings.rate_messages = 3);
    say(&mut talk, r#"{"type":1,"d":{"public_key":"k"}}"#);
    talk.outcome(answer_of(Began { takes_commands: true, ..began(0, 1) }));
    talk.outcome(log);
    settle(&mut talk);
    talk
}

/// Sends a message as often as the rate permits, and expects the next one to be refused.
#[track_caller]
fn only_admits(talk: &mut Talk, count: usize, message: &str) {
    for _ in 0..count {
        say(talk, message);
        settle(talk);
        assert_eq!(talk.fx.close, None, "{message} was admitted");
    }
    say(talk, message);
    assert_eq!(talk.fx.close, Some(CloseReason::Limit), "{message} was refused");
}

#[test]
fn answers_to_commands_do_not_count_against_the_rate_and_repeated_or_invented_ones_do() {
    let reply = |id: &str| format!(r#"{{"type":9,"d":{{"_id":"{id}","reply":{{}}}}}}"#);
    let mut talk = hurried(events([], false));
    for number in 0..10 {
        let (id, command) = command(number);
        talk.with(|peer, cx| peer.on_event(&command, cx));
        say(&mut talk, &reply(&id));
        settle(&mut talk);
        assert_eq!(talk.fx.close, None, "the answer to command {number} was admitted");
    }
    only_admits(&mut talk, 2, &reply(&command(0).0));
    only_admits(&mut hurried(events([], false)), 2, &reply(&command(0).0));
}

#[test]
fn answers_to_interactions_do_not_count_against_the_rate_and_repeated_or_invented_ones_do() {
    let answer = |id: u64| format!(r#"{{"type":4,"id":"{id}","data":{{}}}}"#);
    let mut talk = hurried(interactions(1..=10));
    for id in 1..=10 {
        say(&mut talk, &answer(id));
        settle(&mut talk);
        assert_eq!(talk.fx.close, None, "the answer to interaction {id} was admitted");
    }
    only_admits(&mut talk, 2, &answer(3));
    only_admits(&mut hurried(events([], false)), 2, &answer(3));
}

#[test]
fn acknowledgements_do_not_count_against_the_rate_unless_they_say_nothing_new() {
    let acknowledge = |seq: u64| format!(r#"{{"type":3,"d":{{"seq":{seq}}}}}"#);
    let mut talk = hurried(events(1..=10, false));
    for seq in 1..=10 {
        say(&mut talk, &acknowledge(seq));
        settle(&mut talk);
        assert_eq!(talk.fx.close, None, "event {seq} was acknowledged");
    }
    only_admits(&mut talk, 2, &acknowledge(10));
    // Events that were not sent cannot be acknowledged.
    only_admits(&mut hurried(events([], false)), 2, &acknowledge(1));
}

#[test]
fn an_open_question_lets_nothing_else_exceed_the_rate() {
    let mut talk = hurried(interactions(1..=10));
    only_admits(&mut talk, 2, r#"{"type":89}"#);
    let received = talk.received();
    assert!(
        received.contains(r#""reason":"rate_limited""#) && received.ends_with("(close 4008 rate_limited)\n"),
        "{received}"
    );
}

#[test]
fn an_answer_is_admitted_after_other_messages_have_used_up_the_rate() {
    let mut talk = hurried(interactions(1..=1));
    let other = r#"{"type":89}"#;
    for message in [other, other, r#"{"type":4,"id":"1","data":{}}"#] {
        say(&mut talk, message);
        settle(&mut talk);
        assert_eq!(talk.fx.close, None, "{message} was admitted");
    }
    only_admits(&mut talk, 0, other);
}

#[test]
fn fault_row_3_who_sends_too_much_is_not_inflated_any_more() {
    let mut talk = open_with(Opening::default(), |settings| settings.rate_messages = 1);
    let bomb = gzip(&vec![b' '; 10_000_000]);
    say(&mut talk, r#"{"type":3}"#);
    talk.received();
    talk.send(&client_frame(0x82, &bomb));
    let closes = Some(("(close 4008 rate_limited)", CloseReason::Limit));
    is_told(&mut talk, &error(4008, "rate_limited", "null", "null"), closes);
}

#[test]
fn rows_4010_and_4023_to_4025_registrations_are_refused() {
    for (words, shown, closes) in [
        ("no shard", (4010, "invalid_shard", "null"), Some(("(close 4010 invalid_shard)", CloseReason::Refused))),
        ("master 500", (4023, "shard_master_required", "500"), None),
        ("no development", (4023, "development_not_allowed", "null"), None),
        ("too many at once 700", (4024, "start_concurrency", "700"), None),
        ("too many today 900", (4025, "start_limit", "900"), Some(("(close 4025 start_limit)", CloseReason::Limit))),
        ("taken", (4020, "session_replaced", "null"), None),
    ] {
        for (number, message) in
            [("1", r#"{"type":1,"d":{"public_key":"k"}}"#), ("3", r#"{"type":3,"d":{"public_key":"k","shard_id":0}}"#)]
        {
            let mut talk = open();
            say(&mut talk, message);
            talk.outcome(outcome(words).unwrap());
            is_told(&mut talk, &error(shown.0, shown.1, number, shown.2), closes);
        }
    }
}

#[test]
fn no_more_clients_than_may_have_a_compressor_of_their_own() {
    let streams = Streams::new(1);
    let open = || open_with(plain(Compress::ZlibStream), |settings| settings.streams = streams.clone());
    let first = open();
    assert_eq!(first.fx.close, None);
    let mut second = open();
    let told = "(close 1013 too many compressed connections, try again later)\n";
    assert_eq!((second.received().as_str(), second.fx.close), (told, Some(CloseReason::Limit)));
    drop(first);
    assert_eq!(open().fx.close, None, "its place is free again");
}

#[test]
fn a_refused_handshake_or_registration_names_the_rule() {
    let mut talk = open_with(Opening { is_unsupported: true, ..Opening::default() }, |_| {});
    let received = talk.received();
    assert!(received.contains("v must be 1, and compress none"), "{received}");
    let mut talk = open();
    say(&mut talk, r#"{"type":1,"d":{"public_key":"k"}}"#);
    talk.outcome(outcome("no shard").unwrap());
    let received = talk.received();
    assert!(received.contains("a whole number below the total") && received.contains("GET /gateway/bot"), "{received}");
}

#[test]
fn row_4012_another_version_or_compression_closes() {
    let closes = Some(("(close 4012 unsupported)", CloseReason::Refused));
    let mut talk = open_with(Opening { is_unsupported: true, ..Opening::default() }, |_| {});
    is_told(&mut talk, &error(4012, "unsupported", "null", "null"), closes);
    for compress in [Compress::ZlibStream, Compress::ZstdStream] {
        let mut talk = open_with(plain(compress), |settings| settings.streams = Streams::new(0));
        is_told(&mut talk, &error(4012, "unsupported", "null", "null"), closes);
    }
    // In header mode it is told in the way of that.
    let mut talk = open_with(Opening { is_unsupported: true, ..header_mode() }, |_| {});
    assert!(talk.received().starts_with("(zlib) {\"type\":2"));
    assert!(talk.calls.is_empty());
}

#[test]
fn rows_4020_4022_and_4027_a_session_that_is_over_is_told_and_closed() {
    for (what, code, reason) in [
        (ShardEvent::Replaced(shard(0).hash), 4020, "session_replaced"),
        (ShardEvent::Resharded(shard(0).hash), 4022, "resharded"),
        (ShardEvent::Ended(shard(0).hash), 4027, "session_ended"),
    ] {
        let mut talk = registered();
        assert!(event(&mut talk, what));
        let closed = format!("(close {code} {reason})");
        is_told(&mut talk, &error(code, reason, "null", "null"), Some((&closed, CloseReason::Removed)));
    }
}

#[test]
fn fault_row_18_the_loser_of_two_resumes_is_told_on_whatever_he_asks() {
    let mut talk = registered();
    say(&mut talk, r#"{"type":3,"d":{"seq":0}}"#);
    talk.outcome(outcome("replaced").unwrap());
    is_told(
        &mut talk,
        &error(4020, "session_replaced", "3", "null"),
        Some(("(close 4020 session_replaced)", CloseReason::Removed)),
    );
    let mut talk = registered();
    say(&mut talk, r#"{"type":10,"d":{"op":"join","room":"r"}}"#);
    talk.outcome(outcome("replaced").unwrap());
    is_told(
        &mut talk,
        &error(4020, "session_replaced", "10", "null"),
        Some(("(close 4020 session_replaced)", CloseReason::Removed)),
    );
}

#[test]
fn reasons_of_closes_over_the_faces_head_have_codes_of_the_protocol() {
    for (reason, code) in [
        (CloseReason::SlowConsumer, 4026),
        (CloseReason::Silence, 4021),
        (CloseReason::Shutdown, 1012),
        (CloseReason::Internal, 1011),
        (CloseReason::Protocol, 1002),
        (CloseReason::TooLarge, 1009),
    ] {
        assert_eq!(GatewayFace::close_code(reason), code);
    }
}

#[test]
fn after_ten_errors_in_a_minute_the_next_one_closes() {
    let mut talk = open();
    for at_ms in 0..10 {
        talk.now.monotonic_ms = at_ms * 1000;
        say(&mut talk, r#"{"type":3}"#);
        assert_eq!(talk.fx.close, None);
    }
    talk.received();
    talk.now.monotonic_ms = 59_999;
    say(&mut talk, "x");
    is_told(
        &mut talk,
        &error(4002, "decode_error", "null", "null"),
        Some(("(close 4002 decode_error)", CloseReason::Limit)),
    );

    // One a minute is borne for ever.
    let mut talk = open_with(Opening::default(), |settings| settings.heartbeat_ms = 0);
    for at_ms in 0..100 {
        talk.now.monotonic_ms = at_ms * 6000;
        say(&mut talk, r#"{"type":3}"#);
    }
    assert_eq!(talk.fx.close, None);
}

#[test]
fn fault_row_16_after_ten_sessions_that_do_not_exist_the_next_one_closes() {
    let mut talk = open();
    for _ in 0..11 {
        assert_eq!(talk.fx.close, None);
        talk.received();
        say(&mut talk, r#"{"type":5,"d":{"public_key":"k","session_id":"guess"}}"#);
        talk.outcome(outcome("invalid").unwrap());
    }
    assert_eq!(talk.received(), format!("{}\n(close 4003)\n", answer::INVALID));
    assert_eq!(talk.fx.close, Some(CloseReason::Limit));
}

#[test]
fn who_is_told_to_wait_is_not_closed_for_that() {
    let mut talk = open();
    for _ in 0..30 {
        say(&mut talk, r#"{"type":1,"d":{"public_key":"k"}}"#);
        talk.outcome(outcome("too many at once 5").unwrap());
    }
    assert_eq!(talk.fx.close, None);
}

#[test]
fn errors_never_repeat_what_the_client_wrote() {
    for message in [
        r#"{"type":77,"canary":"canary"}"#,
        r#"{"type":10,"d":{"op":"canary","room":"canary"}}"#,
        "canary",
        r#"{"type":1,"d":{"public_key":["canary"]}}"#,
    ] {
        let mut talk = open();
        say(&mut talk, message);
        let received = talk.received();
        assert!(received.contains("GATEWAY_ERROR") && !received.contains("canary"), "{received}");
    }
}
