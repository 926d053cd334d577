//! Registering, resuming, pinging, commands, rooms, the end.

use std::fmt::Write as _;

use super::*;
use crate::command::{CommandDocument, CommandId};
use crate::user::User;

const READ_NOTHING: &str = "? Shard(Read { after: 0 })\n! events\n";

/// What is shown of a fresh shard.
fn stats(shard: u32) -> String {
    let hash = ConnId::session_from_random(shard.into());
    format!(
        r#"{{"development":false,"disconnected":false,"receibe_ping":0,"received":0,"send_ping":0,"sending":0,"shard_hash":"{hash}","shard_id":{shard}}}"#
    )
}

/// GATEWAY_READY, or under another name GATEWAY_RESUMED, of these shards.
fn ready(event: &str, fleet: std::ops::RangeInclusive<u32>, total: u32) -> String {
    let list = |item: &dyn Fn(u32) -> String| fleet.clone().map(item).collect::<Vec<_>>().join(",");
    let config = list(&|shard| format!("[{shard},{total}]"));
    let stats = list(&stats);
    format!(
        r#"{{"type":1,"service":"gateway","event":"{event}","data":{{"application_bot":{{"flags":1,"id":"100","public_key":"[REDACTED]"}},"session_id":"s1","shards_config":[[[{config}]]],"shards_stats":[[[[[[[{stats}]]]]]]]}}}}"#
    )
}

fn shard_info(fleet: std::ops::RangeInclusive<u32>) -> String {
    let stats = fleet.map(stats).collect::<Vec<_>>().join(",");
    format!(r#"{{"type":1,"service":"gateway","event":"GATEWAY_SHARD_INFO","data":[[[[{stats}]]]],"session_id":"s1"}}"#)
}

fn hello(is_starting: bool) -> String {
    format!(
        r#"{{"type":1,"service":"gateway","event":"GATEWAY_HELLO","possible_error":false,"message":"","rate_limit":true,"data":{{"starting_shards":{is_starting},"heartbeat_interval":30000}}}}"#
    )
}

/// The call that registers.
fn registration(id: &str, shard: u64, total: &str, rest: &str) -> String {
    format!(
        "? Shard(Register(Registration {{ credentials: AppCredentials {{ id: {id}, .. }}, shard: {shard}, total: {total}, {rest} }}))"
    )
}

const PLAIN: &str = "flags: 0, client: None";

#[test]
fn the_document_is_followed_to_the_letter() {
    // The scene of a client that was written from the document alone: register, ping, two events; the connection is lost, three
    // events come meanwhile, and it resumes.
    let mut talk = open();
    assert_eq!(talk.received(), "");
    check(
        &mut talk,
        &[
            r#"> {"type":1,"d":{"public_key":"k","shard_in":0,"flags":0,"secret":"s"}}"#,
            &registration("None", 0, "None", PLAIN),
            "! began 0 of 1",
            &format!("< {}", ready("GATEWAY_READY", 0..=0, 1)),
            "? Shard(Read { after: 0 })",
            "! events",
            r#"> {"type":3}"#,
            r#"< {"type":3,"service":"gateway","event":"GATEWAY_PING","data":{}}"#,
        ]
        .join("\n"),
    );
    assert!(event(&mut talk, ShardEvent::Grown));
    talk.outcome(events(1..=2, false));
    assert_eq!(talk.received(), written(1..=2));

    let mut talk = open();
    let events: String = written(3..=5).lines().fold(String::new(), |mut all, line| {
        let _ = writeln!(all, "< {line}");
        all
    });
    check(
        &mut talk,
        &[
            r#"> {"type":5,"d":{"public_key":"k","session_id":"s1","shard_in":0,"flags":0,"seq":2,"secret":"s"}}"#,
            "? Shard(Resume(Resumption { credentials: AppCredentials { id: None, .. }, session: ShardSessionId, shard: 0, seq: Some(2), client: None }))",
            "! began 0 of 1 behind 2 of 5",
            &format!("< {}", ready("GATEWAY_RESUMED", 0..=0, 1)),
            "? Shard(Read { after: 2 })",
            "! events 3 5",
            &events,
        ]
        .join("\n"),
    );

    check(
        &mut open(),
        r#"
        > {"type":3}
        < {"type":2,"service":"gateway","event":"GATEWAY_ERROR","possible_error":true,"message":"register first","rate_limit":false,"data":{"code":4003,"reason":"not_registered","request_type":3,"retry_after_ms":null}}
        > {"type":5,"d":{"public_key":"k","session_id":"none","shard_in":0,"flags":0}}
        ? Shard(Resume(Resumption { credentials: AppCredentials { id: None, .. }, session: ShardSessionId, shard: 0, seq: None, client: None }))
        ! invalid
        < {"type":1,"service":"gateway","event":"GATEWAY_INVALID","data":{"session_id":null,"application_bot":null,"shards_config":[],"shards_stats":[]}}
        "#,
    );
}

#[test]
fn the_old_client_is_greeted_and_answered_in_zlib() {
    let mut talk = open_with(header_mode(), |_| {});
    check(
        &mut talk,
        &[
            "! checked",
            &format!("< (zlib) {}", hello(true)),
            r#"> {"type":1,"d":{"public_key":"k","shard_id":0,"flags":0}}"#,
            &registration("Some(\"100\")", 0, "Some(1)", PLAIN),
            "! began 0 of 1",
            &format!("< (zlib) {}", ready("GATEWAY_READY", 0..=0, 1)),
            READ_NOTHING,
            r#"> {"type":3,"d":{"public_key":"k","shard_id":0}}"#,
            r#"? Shard(Fleet(AppCredentials { id: Some("100"), .. }))"#,
            "! fleet 1",
            &format!("< (zlib) {}", shard_info(0..=0)),
            r#"> {"type":89,"message":""}"#,
        ]
        .join("\n"),
    );

    // The second shard registers in the other way only.
    let opening = Opening { shard: HeaderNumber::Number(1), total: HeaderNumber::Number(2), ..header_mode() };
    let mut talk = open_with(opening, |_| {});
    check(
        &mut talk,
        &[
            "! checked",
            &format!("< (zlib) {}", hello(false)),
            r#"> {"type":3,"d":{"public_key":"k","shard_id":1}}"#,
            &registration("Some(\"100\")", 1, "Some(2)", PLAIN),
            "! began 1 of 2",
            &format!("< (zlib) {}", shard_info(0..=1)),
            READ_NOTHING,
        ]
        .join("\n"),
    );
}

#[test]
fn what_comes_before_the_greeting_waits_for_it() {
    let mut talk = unopened(header_mode(), |_| {});
    talk.with(|peer, cx| peer.on_open(cx));
    let mut input = &client_frame(0x81, br#"{"type":3}"#)[..];
    assert_eq!(talk.with(|peer, cx| peer.feed(&mut input, cx)), crate::peer::Step::Waiting);
    talk.outcome(outcome("checked").unwrap());
    talk.with(|peer, cx| peer.feed(&mut input, cx));
    let received = talk.received();
    let lines: Vec<&str> = received.lines().collect();
    assert!(lines.len() == 2 && lines[0].contains("HELLO") && lines[1].contains("4003"), "{received}");
}

#[test]
fn a_plain_client_is_greeted_if_it_asks_for_that() {
    let mut talk = open_with(Opening { wants_hello: true, ..Opening::default() }, |_| {});
    assert_eq!(talk.received(), hello(true) + "\n");
}

#[test]
fn lists_of_shards_are_as_deep_for_many_as_for_one() {
    check(
        &mut open(),
        &[
            r#"> {"type":1,"d":{"public_key":"k","shard_in":2,"shard_total":3}}"#,
            &registration("None", 2, "Some(3)", PLAIN),
            "! began 2 of 3",
            &format!("< {}", ready("GATEWAY_READY", 0..=2, 3)),
            READ_NOTHING,
        ]
        .join("\n"),
    );
    assert!(ready("", 0..=2, 3).contains("[[[[0,3],[1,3],[2,3]]]]"));
}

#[test]
fn a_shard_is_shown_with_what_it_has_done() {
    let mut talk = open();
    talk.send(&client_frame(0x81, br#"{"type":1,"d":{"public_key":"k"}}"#));
    let shard = FleetShard {
        development: true,
        disconnected: true,
        counts: ShardCounts { received: 1, sent: 2, pings: 3, pongs: 4 },
        ..shard(0)
    };
    talk.outcome(answer_of(Began { fleet: vec![shard], ..began(0, 1) }));
    let received = talk.received();
    let hash = shard.hash;
    let shown = format!(
        r#"{{"development":true,"disconnected":true,"receibe_ping":3,"received":1,"send_ping":4,"sending":2,"shard_hash":"{hash}","shard_id":0}}"#
    );
    assert!(received.contains(&shown), "{received}");
}

#[test]
fn flags_come_back_as_the_origin_gave_them_back() {
    for (flags, shown) in [(0, 1), (1, 3), (2, 5), (3, 7), (4, 1), (5, 3), (7, 7), (8, 1), (15, 7), (u64::MAX, 7)] {
        let mut talk = open();
        talk.send(&client_frame(0x81, format!(r#"{{"type":1,"d":{{"public_key":"k","flags":{flags}}}}}"#).as_bytes()));
        assert!(talk.calls[0].1.contains(&format!("flags: {flags},")), "{}", talk.calls[0].1);
        talk.outcome(answer_of(Began { flags, ..began(0, 1) }));
        let received = talk.received();
        assert!(received.contains(&format!(r#""application_bot":{{"flags":{shown},"id""#)), "{flags} {received}");
    }
}

#[test]
fn whoever_registers_a_shard_that_he_has_is_shown_it_again() {
    let mut talk = registered();
    check(
        &mut talk,
        &[
            r#"> {"type":3,"d":{"public_key":"k","shard_id":0,"flags":2}}"#,
            "? Shard(Fleet(AppCredentials { id: None, .. }))",
            "! fleet 1",
            &format!("< {}", shard_info(0..=0)),
            // A shard of the other fleet, or another shard, is another session.
            r#"> {"type":3,"d":{"public_key":"k","shard_id":0,"flags":1}}"#,
            &registration("None", 0, "None", "flags: 1, client: None"),
            "! unavailable",
        ]
        .join("\n")
        .replace("! unavailable", "! no development\n< ERROR")
        .replace(
            "ERROR",
            r#"{"type":2,"service":"gateway","event":"GATEWAY_ERROR","possible_error":true,"message":"this application has no development shards","rate_limit":false,"data":{"code":4023,"reason":"development_not_allowed","request_type":3,"retry_after_ms":null}}"#,
        ),
    );
    check(
        &mut talk,
        &[
            r#"> {"type":3,"d":{"public_key":"k","shard_id":1}}"#,
            &registration("None", 1, "None", PLAIN),
            "! began 1 of 2",
            &format!("< {}", shard_info(0..=1)),
            READ_NOTHING,
        ]
        .join("\n"),
    );
    // Somebody else's credentials are refused here as well.
    talk.send(&client_frame(0x81, br#"{"type":3,"d":{"public_key":"z","shard_id":1}}"#));
    talk.outcome(outcome("bad credentials").unwrap());
    assert_eq!(talk.received(), format!("{}\n(close 4004)\n", answer::INVALID));
}

#[test]
fn who_registers_again_has_a_new_session() {
    let mut talk = open();
    let [before, after] = [(); 2].map(|()| Arc::new(ShardCounters::default()));
    for counters in [&before, &after] {
        talk.send(&client_frame(0x81, br#"{"type":1,"d":{"public_key":"k"}}"#));
        talk.outcome(answer_of(Began { counters: Arc::clone(counters), ..began(0, 1) }));
        talk.outcome(outcome("events").unwrap());
        talk.send(&client_frame(0x81, br#"{"type":3}"#));
    }
    talk.send(&client_frame(0x81, br#"{"type":89}"#));
    assert_eq!(before.counts(), ShardCounts { received: 1, sent: 1, pings: 1, pongs: 1 });
    assert_eq!(after.counts(), ShardCounts { received: 2, sent: 1, pings: 2, pongs: 1 });
}

#[test]
fn the_session_stays_when_another_one_is_refused() {
    let mut talk = registered();
    talk.send(&client_frame(0x81, br#"{"type":1,"d":{"public_key":"k","shard_in":1}}"#));
    // What comes meanwhile is read afterwards.
    event(&mut talk, ShardEvent::Grown);
    assert_eq!(talk.calls.len(), 1);
    talk.outcome(outcome("taken").unwrap());
    assert!(talk.received().contains(r#""code":4020"#));
    assert_eq!((talk.fx.close, talk.calls[0].1.as_str()), (None, "Shard(Read { after: 0 })"));
    talk.outcome(events(1..=1, false));
    assert_eq!(talk.received(), written(1..=1));
}

#[test]
fn a_session_is_resumed_on_a_connection_without_one_only() {
    let mut talk = registered();
    check(
        &mut talk,
        r#"
        > {"type":6,"d":{"public_key":"k","session_id":"s1"}}
        ? Shard(Check(AppCredentials { id: None, .. }))
        ! checked
        < {"type":2,"service":"gateway","event":"GATEWAY_ERROR","possible_error":true,"message":"this connection has a session already","rate_limit":false,"data":{"code":4005,"reason":"already_registered","request_type":6,"retry_after_ms":null}}
        > {"type":3}
        < {"type":3,"service":"gateway","event":"GATEWAY_PING","data":{}}
        > {"type":5,"d":{"public_key":"z","session_id":"s1"}}
        ? Shard(Check(AppCredentials { id: None, .. }))
        ! bad credentials
        < {"type":1,"service":"gateway","event":"GATEWAY_INVALID","data":{"session_id":null,"application_bot":null,"shards_config":[],"shards_stats":[]}}
        < (close 4004)
        "#,
    );
}

#[test]
fn fault_row_17_every_resume_that_cannot_be_is_answered_with_the_same_bytes() {
    let mut talk = open();
    for _ in 0..3 {
        talk.send(&client_frame(0x81, br#"{"type":5,"d":{"public_key":"k","session_id":"stolen"}}"#));
        talk.outcome(outcome("invalid").unwrap());
        assert_eq!(
            talk.received(),
            r#"{"type":1,"service":"gateway","event":"GATEWAY_INVALID","data":{"session_id":null,"application_bot":null,"shards_config":[],"shards_stats":[]}}"#
                .to_owned()
                + "\n"
        );
    }
    assert_eq!(talk.fx.close, None);
    register(&mut talk);
    assert_eq!(talk.fx.close, None);
}

#[test]
fn headers_and_messages_are_put_together_and_must_agree() {
    let asked = |opening: Opening, message: &str| {
        let mut talk = unopened(opening, |_| {});
        talk.with(|peer, cx| peer.on_open(cx));
        if !talk.calls.is_empty() {
            talk.outcome(outcome("checked").unwrap());
        }
        talk.received();
        talk.send(&client_frame(0x81, message.as_bytes()));
        let call = talk.calls.first().map(|(_, call)| call.clone());
        (call, talk.received())
    };
    let credentials = |id: Option<&str>, public_key: Option<&str>, secret: Option<&str>| {
        let [id, public_key, secret] = [id, public_key, secret].map(|text| text.map(str::to_owned));
        AppCredentials { id, public_key, secret, is_forwarded: false }
    };
    let refused = || (None, format!("{}\n(close 4004)\n", answer::INVALID));
    let plain =
        |public_key, secret| Opening { credentials: credentials(None, public_key, secret), ..Opening::default() };

    for (opening, message) in [
        (plain(Some("k"), None), r#"{"type":1,"d":{}}"#),
        (plain(Some("k"), None), r#"{"type":1,"d":{"public_key":"k"}}"#),
        (plain(None, Some("s")), r#"{"type":1,"d":{"public_key":"k","secret":"s"}}"#),
        (header_mode(), r#"{"type":1,"d":{"shard_in":0,"shard_total":1}}"#),
    ] {
        let (call, received) = asked(opening, message);
        assert!(call.is_some_and(|call| call.starts_with("Shard(Register")) && received.is_empty(), "{message}");
    }
    for (opening, message) in [
        (plain(Some("k"), None), r#"{"type":1,"d":{"public_key":"z"}}"#),
        (plain(None, Some("s")), r#"{"type":1,"d":{"public_key":"k","secret":"z"}}"#),
        (header_mode(), r#"{"type":1,"d":{"shard_in":1}}"#),
        (header_mode(), r#"{"type":1,"d":{"shard_total":2}}"#),
        (header_mode(), r#"{"type":3,"d":{"shard_id":1}}"#),
        (header_mode(), r#"{"type":5,"d":{"session_id":"s1","public_key":"z"}}"#),
        (Opening::default(), r#"{"type":1,"d":{"public_key":"k","shard_in":0,"shard_id":1}}"#),
        (Opening { is_contradictory: true, ..Opening::default() }, r#"{"type":1,"d":{"public_key":"k"}}"#),
    ] {
        let (call, received) = asked(opening, message);
        let received = received.replace("(zlib) ", "");
        assert_eq!((call, received), refused(), "{message}");
    }
    // Nobody is named at all.
    let (call, received) = asked(Opening::default(), r#"{"type":1,"d":{}}"#);
    assert!(
        call.is_none() && received.contains(r#""code":4002,"reason":"decode_error","request_type":1"#),
        "{received}"
    );
}

#[test]
fn wrong_headers_are_refused_at_once_in_header_mode() {
    let mut talk = open_with(header_mode(), |_| {});
    assert_eq!(
        talk.calls[0].1,
        r#"Shard(CheckPart { credentials: AppCredentials { id: Some("100"), .. }, shard: Some(0), total: Some(1) })"#
    );
    talk.outcome(outcome("bad credentials").unwrap());
    assert_eq!(talk.received(), format!("(zlib) {}\n(close 4004)\n", answer::INVALID));
    assert_eq!(talk.fx.close, Some(CloseReason::Refused));

    let mut talk = open_with(Opening { is_contradictory: true, ..header_mode() }, |_| {});
    assert!(talk.calls.is_empty());
    assert_eq!(talk.received(), format!("(zlib) {}\n(close 4004)\n", answer::INVALID));
}

#[test]
fn a_shard_that_no_fleet_has_is_refused_at_the_handshake_in_header_mode() {
    for (shard, total, asked) in [
        (HeaderNumber::Bad, HeaderNumber::Number(1), "Some(18446744073709551615), total: Some(1)"),
        (HeaderNumber::Number(0), HeaderNumber::Bad, "Some(18446744073709551615), total: None"),
        (HeaderNumber::Number(2), HeaderNumber::Number(2), "Some(2), total: Some(2)"),
        (HeaderNumber::Absent, HeaderNumber::Number(0), "None, total: Some(0)"),
    ] {
        let mut talk = open_with(Opening { shard, total, ..header_mode() }, |_| {});
        assert!(talk.calls[0].1.contains(&format!("shard: {asked} }}")), "{}", talk.calls[0].1);
        talk.outcome(outcome("no shard").unwrap());
        let received = talk.received();
        assert!(received.contains("HELLO") && received.contains(r#""code":4010"#), "{received}");
        assert!(received.ends_with("(close 4010 invalid_shard)\n"), "{received}");
    }
    // In plain mode it is found out when the credentials are known to be good.
    let mut talk = open_with(Opening { total: HeaderNumber::Bad, ..Opening::default() }, |_| {});
    talk.send(&client_frame(0x81, br#"{"type":1,"d":{"public_key":"k","shard_in":0}}"#));
    assert!(talk.calls[0].1.contains("shard: 18446744073709551615,"), "{}", talk.calls[0].1);
}

#[test]
fn only_one_code_of_a_client_ends_its_session() {
    for (code, ends) in [(4100_u16, true), (1000, false), (1001, false), (4000, false)] {
        let mut talk = registered();
        talk.send(&client_frame(0x88, &code.to_be_bytes()));
        assert_eq!(talk.received(), format!("(close {code})\n"));
        assert_eq!(talk.fx.close, Some(CloseReason::ClientLeft));
        assert_eq!(
            talk.calls.iter().map(|(_, call)| call == "Shard(End)").collect::<Vec<_>>(),
            vec![true; ends.into()]
        );
    }
    let mut talk = open();
    talk.send(&client_frame(0x88, &4100_u16.to_be_bytes()));
    assert!(talk.calls.is_empty());
    assert_eq!(talk.received(), "(close 4100)\n");
}

fn command(to: &str) -> Event {
    Event::Command(CommandDelivery {
        document: Arc::new(CommandDocument {
            id: CommandId::from_random(0),
            key: "clearCache".into(),
            data: Some("x".into()),
            command: RawJson::from_parsed(r#"{"key":"clearCache","data":"x"}"#),
        }),
        to: Recipient::User(User::new(to).unwrap()),
        ts: 1_795_289_702_430,
        ttl_ms: 5000,
    })
}

#[test]
fn a_command_cannot_be_left_out_where_what_follows_builds_on_it() {
    for (compress, is_indispensable) in
        [(Compress::None, false), (Compress::Zlib, false), (Compress::ZlibStream, true), (Compress::ZstdStream, true)]
    {
        let mut talk = open_with(plain(compress), |_| {});
        talk.send(&client_frame(0x81, br#"{"type":1,"d":{"public_key":"k"}}"#));
        talk.outcome(answer_of(Began { takes_commands: true, ..began(0, 1) }));
        assert!(!talk.fx.indispensable);
        talk.with(|peer, cx| peer.on_event(&command("100"), cx));
        assert_eq!(talk.fx.indispensable, is_indispensable, "{compress:?}");
    }
}

#[test]
fn commands_reach_the_application_that_takes_them() {
    let mut talk = open();
    assert!(!talk.with(|peer, cx| peer.on_event(&command("100"), cx)));
    talk.send(&client_frame(0x81, br#"{"type":1,"d":{"public_key":"k","client":{"commands": true,"n":1.0}}}"#));
    assert!(talk.calls[0].1.contains(r#"client: Some({"commands":true,"n":1.0})"#), "{}", talk.calls[0].1);
    talk.outcome(answer_of(Began { takes_commands: true, ..began(0, 1) }));
    talk.outcome(outcome("events").unwrap());
    talk.received();
    assert!(!talk.with(|peer, cx| peer.on_event(&command("200"), cx)), "it is somebody else's");
    assert!(talk.with(|peer, cx| peer.on_event(&command("100"), cx)));
    assert_eq!(
        talk.received(),
        r#"{"type":9,"service":"gateway","event":"GATEWAY_COMMAND","data":{"_id":"22222222222222222","key":"clearCache","cmd":{"key":"clearCache","data":"x"},"ts":1795289702430,"ttl_ms":5000}}"#
            .to_owned()
            + "\n"
    );
    // No reply is answered, whether it counts or not.
    for outcome in ["in time", "late", "large reply"] {
        check(
            &mut talk,
            &format!(
                r#"
                > {{"type":9,"d":{{"_id":"22222222222222222","reply":{{"success":true}}}}}}
                ? reply 22222222222222222 {{"success":true}}
                ! {outcome}
                "#
            ),
        );
    }
}

#[test]
fn who_does_not_take_commands_is_sent_none() {
    let mut talk = registered();
    assert!(!talk.with(|peer, cx| peer.on_event(&command("100"), cx)));
    assert!(!talk.with(|peer, cx| peer.on_event(&Event::Message("x".into()), cx)));
    assert_eq!(talk.received(), "");
}

#[test]
fn rooms_are_answered_in_order() {
    let failed = |op: &str, reason: &str| {
        format!(
            r#"< {{"type":10,"service":"gateway","event":"GATEWAY_ROOM","data":{{"op":"{op}","room":"r","ok":false,"reason":"{reason}"}}}}"#
        )
    };
    let mut talk = registered();
    check(
        &mut talk,
        r#"
        > {"type":10,"d":{"op":"join","room":"r"}}
        ? Shard(Join { room: "r" })
        ! done
        < {"type":10,"service":"gateway","event":"GATEWAY_ROOM","data":{"op":"join","room":"r","ok":true,"reason":null}}
        > {"type":10,"d":{"op":"say","room":"r","message":{"a": 1.0},"id":"i"}}
        ? Shard(Say { room: "r", body: {"a":1.0}, id: Some("i") })
        ! numbered 7
        < {"type":10,"service":"gateway","event":"GATEWAY_ROOM","data":{"op":"say","room":"r","ok":true,"reason":null,"number":7}}
        > {"type":10,"d":{"op":"leave","room":"r"}}
        ? Shard(Leave { room: "r" })
        ! done
        < {"type":10,"service":"gateway","event":"GATEWAY_ROOM","data":{"op":"leave","room":"r","ok":true,"reason":null}}
        "#,
    );
    for (outcome, reason) in [
        ("no room", "room_not_found"),
        ("bad name", "room_not_found"),
        ("inside", "already_member"),
        ("outside", "not_member"),
        ("not authorized", "not_authorized"),
        ("said no", "not_authorized"),
        ("too many", "too_many_rooms"),
        ("unavailable", "unavailable"),
    ] {
        let asked = r#"> {"type":10,"d":{"op":"join","room":"r"}}"#;
        let called = r#"? Shard(Join { room: "r" })"#;
        check(&mut talk, &format!("{asked}\n{called}\n! {outcome}\n{}", failed("join", reason)));
    }
    for message in ["", r#","message":null"#, r#","message":"""#] {
        let asked = format!(r#"> {{"type":10,"d":{{"op":"say","room":"r"{message}}}}}"#);
        check(&mut talk, &format!("{asked}\n{}", failed("say", "message_required")));
    }
    check(
        &mut talk,
        r#"
        > {"type":10,"d":{"op":"join","room":""}}
        < {"type":10,"service":"gateway","event":"GATEWAY_ROOM","data":{"op":"join","room":"","ok":false,"reason":"room_not_found"}}
        "#,
    );
    assert_eq!(talk.fx.close, None);
    assert!(talk.peer.hears(&room("r"), true).is_nothing());
}

#[test]
fn an_answer_to_an_interaction_is_passed_on_and_not_answered() {
    let mut talk = registered();
    check(
        &mut talk,
        r#"
        > {"type":4,"id":"i","data":{"type": 4,"n":1.0}}
        ? Shard(Interaction { id: "i", data: {"type":4,"n":1.0} })
        "#,
    );
    // Nobody waits for what comes of it.
    check(&mut talk, "> {\"type\":89}\n");
    talk.outcome(Err(CallError::Unavailable));
    assert_eq!((talk.received().as_str(), talk.fx.close), ("", None));
}

#[test]
fn a_planned_stop_is_told_and_the_connection_closes_at_a_moment_of_its_own() {
    let mut talk = registered();
    talk.now.monotonic_ms = 500;
    talk.random = 4210;
    talk.with(|peer, cx| peer.on_shutdown(cx));
    assert_eq!(
        talk.received(),
        r#"{"type":7,"service":"gateway","event":"GATEWAY_RECONNECT","data":{"reconnect_after_ms":4210}}"#.to_owned()
            + "\n"
    );
    assert_eq!((talk.fx.wake_at_ms, talk.fx.close), (Some(4710), None));
    check(&mut talk, "> {\"type\":3}\n< {\"type\":3,\"service\":\"gateway\",\"event\":\"GATEWAY_PING\",\"data\":{}}");
    wait_until(&mut talk, 4710);
    assert_eq!((talk.received().as_str(), talk.fx.close), ("(close 1012)\n", Some(CloseReason::Shutdown)));

    // Who is not registered is not told, and never waits longer than the server does.
    let mut talk = open_with(Opening::default(), |settings| settings.drain_grace_ms = 100);
    talk.random = 10_000;
    talk.with(|peer, cx| peer.on_shutdown(cx));
    assert_eq!(talk.received(), "");
    assert!(talk.fx.wake_at_ms.is_some_and(|at_ms| at_ms <= 100), "{:?}", talk.fx.wake_at_ms);
    wait_until(&mut talk, 100);
    assert_eq!(talk.received(), "(close 1012)\n");
}

#[test]
fn who_registers_while_the_server_stops_is_told_so_at_once() {
    let mut talk = open();
    talk.random = 1000;
    talk.send(&client_frame(0x81, br#"{"type":1,"d":{"public_key":"k"}}"#));
    talk.with(|peer, cx| peer.on_shutdown(cx));
    assert_eq!(talk.received(), "");
    talk.now.monotonic_ms = 300;
    talk.outcome(outcome("began 0 of 1").unwrap());
    let received = talk.received();
    assert!(received.contains("READY") && received.ends_with("{\"reconnect_after_ms\":700}}\n"), "{received}");
}

#[test]
fn a_connection_that_is_removed_or_not_let_in_is_closed() {
    let mut talk = registered();
    talk.with(|peer, cx| peer.on_removed(cx));
    assert_eq!((talk.received().as_str(), talk.fx.close), ("(close 1000)\n", Some(CloseReason::Removed)));
    for (reason, words) in [
        (CallError::Refused("not today".into()), "(close 1008 not today)\n"),
        (CallError::Unavailable, "(close 1013 try again later)\n"),
    ] {
        let mut talk = unopened(header_mode(), |_| {});
        talk.with(|peer, cx| peer.on_refused(&reason, cx));
        assert_eq!((talk.received().as_str(), talk.fx.close), (words, Some(CloseReason::Refused)));
    }
}
