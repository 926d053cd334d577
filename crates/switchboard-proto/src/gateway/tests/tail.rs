//! The log: live, replayed, paused, with gaps.

use super::*;

fn drain(talk: &mut Talk) {
    assert!(std::mem::take(&mut talk.fx.more));
    talk.with(|peer, cx| peer.on_drained(cx));
}

fn reads(talk: &Talk) -> Vec<&str> {
    talk.calls.iter().map(|(_, call)| call.as_str()).collect()
}

#[test]
fn more_is_read_when_the_client_has_taken_what_was_written() {
    let mut talk = registered();
    talk.now.monotonic_ms = 500;
    event(&mut talk, ShardEvent::Grown);
    assert_eq!(reads(&talk), ["Shard(Read { after: 0 })"]);
    // While a part is being read nothing else is.
    event(&mut talk, ShardEvent::Grown);
    assert_eq!(talk.calls.len(), 1);
    talk.outcome(events(1..=256, true));
    assert_eq!(talk.received(), written(1..=256) + "(ping 256)\n");
    event(&mut talk, ShardEvent::Grown);
    assert_eq!(reads(&talk), [""; 0]);
    drain(&mut talk);
    assert_eq!(reads(&talk), ["Shard(Read { after: 256 })"]);
    talk.outcome(events(257..=300, false));
    assert_eq!(talk.received(), written(257..=300));
    drain(&mut talk);
    assert_eq!(reads(&talk), [""; 0]);
}

#[test]
fn what_grows_while_a_part_is_read_or_written_is_not_forgotten() {
    let mut talk = registered();
    event(&mut talk, ShardEvent::Grown);
    event(&mut talk, ShardEvent::Grown);
    talk.outcome(events(1..=1, false));
    drain(&mut talk);
    // The second time it may have been for an event that the part did not have.
    assert_eq!(reads(&talk), ["Shard(Read { after: 1 })"]);
    event(&mut talk, ShardEvent::Grown);
    talk.outcome(outcome("events").unwrap());
    assert_eq!(reads(&talk), ["Shard(Read { after: 1 })"]);
}

#[test]
fn every_length_of_an_event_is_framed_well() {
    for len in [0, 40, 60, 64, 65, 66, 67, 70, 200, 65_400, 65_460, 65_470, 65_480, 65_490, 65_500, 70_000] {
        let mut talk = open();
        talk.send(&client_frame(0x81, br#"{"type":1,"d":{"public_key":"k"}}"#));
        talk.outcome(answer_of(Began { after: 8, last: 8, ..began(0, 1) }));
        talk.received();
        let data = RawJson::from_text(&"x".repeat(len));
        let item = items::application("E", &data);
        let events = [9, 10].map(|seq| LoggedEvent { seq, item: item.clone() }).to_vec();
        talk.outcome(Ok(Answer::Shard(ShardAnswer::Events(LogPart { events, has_more: false }))));
        let shown = |seq| {
            format!("{{\"type\":8,\"service\":\"gateway\",\"event\":\"E\",\"data\":{},\"s\":{seq}}}\n", data.as_str())
        };
        assert_eq!(talk.received(), shown(9) + &shown(10), "{len}");
    }
}

#[test]
fn a_pause_leaves_events_in_the_log() {
    let mut talk = registered();
    assert!(event(&mut talk, ShardEvent::Paused(true)));
    event(&mut talk, ShardEvent::Grown);
    assert_eq!(reads(&talk), [""; 0]);
    // Everything else goes on.
    check(&mut talk, "> {\"type\":3}\n< {\"type\":3,\"service\":\"gateway\",\"event\":\"GATEWAY_PING\",\"data\":{}}");
    event(&mut talk, ShardEvent::Paused(false));
    assert_eq!(reads(&talk), ["Shard(Read { after: 0 })"]);
    talk.outcome(events(1..=2, true));
    // It may begin in the midst of much.
    event(&mut talk, ShardEvent::Paused(true));
    drain(&mut talk);
    assert_eq!(reads(&talk), [""; 0]);
    event(&mut talk, ShardEvent::Paused(false));
    assert_eq!(reads(&talk), ["Shard(Read { after: 2 })"]);
}

#[test]
fn what_was_missed_comes_behind_the_answer_and_then_what_is_new() {
    let mut talk = resumed(Opening::default());
    assert!(talk.received().contains("GATEWAY_RESUMED"));
    assert_eq!(reads(&talk), ["Shard(Read { after: 5 })"]);
    talk.outcome(events(6..=8, false));
    assert_eq!(talk.received(), written(6..=8));
}

#[test]
fn who_was_greeted_is_told_where_the_replay_ends() {
    let replayed = |from: u64, to: u64, count: u64| {
        format!(
            "{{\"type\":8,\"service\":\"gateway\",\"event\":\"GATEWAY_REPLAYED\",\"data\":{{\"from\":{from},\"to\":{to},\"count\":{count}}}}}\n"
        )
    };
    let greeted = || Opening { wants_hello: true, ..Opening::default() };
    // In the midst of a part.
    let mut talk = resumed(greeted());
    talk.received();
    talk.outcome(events(6..=9, false));
    assert_eq!(talk.received(), written(6..=7) + &replayed(6, 7, 2) + &written(8..=9));
    // At its end, and after several.
    let mut talk = resumed(greeted());
    talk.received();
    talk.outcome(events(6..=6, true));
    assert_eq!(talk.received(), written(6..=6));
    drain(&mut talk);
    talk.outcome(events(7..=7, false));
    assert_eq!(talk.received(), written(7..=7) + &replayed(6, 7, 2));
    drain(&mut talk);
    event(&mut talk, ShardEvent::Grown);
    talk.outcome(events(8..=8, false));
    assert_eq!(talk.received(), written(8..=8));
    // Nothing was missed.
    let mut talk = open_with(greeted(), |_| {});
    talk.send(&client_frame(0x81, br#"{"type":5,"d":{"public_key":"k","session_id":"s1"}}"#));
    talk.outcome(outcome("began 0 of 1 behind 7 of 7").unwrap());
    let received = talk.received();
    assert!(received.contains("RESUMED") && received.ends_with(&replayed(7, 7, 0)), "{received}");
    // A new session has nothing to replay.
    let mut talk = open_with(greeted(), |_| {});
    talk.send(&client_frame(0x81, br#"{"type":1,"d":{"public_key":"k"}}"#));
    talk.outcome(outcome("began 0 of 1").unwrap());
    assert!(!talk.received().contains("REPLAYED"));
}

#[test]
fn a_gap_is_never_hidden() {
    let closed = r#"{"type":2,"service":"gateway","event":"GATEWAY_ERROR","possible_error":true,"message":"events were lost before they could be sent, reconnect","rate_limit":false,"data":{"code":4026,"reason":"slow_consumer","request_type":null,"retry_after_ms":null}}
(close 4026 slow_consumer)
"#;
    for missing in [outcome("trimmed").unwrap(), events(2..=3, false)] {
        let mut talk = registered();
        event(&mut talk, ShardEvent::Grown);
        talk.outcome(missing);
        assert_eq!((talk.received().as_str(), talk.fx.close), (closed, Some(CloseReason::SlowConsumer)));
    }
}

#[test]
fn who_is_replaced_is_told_when_he_reads() {
    let mut talk = registered();
    event(&mut talk, ShardEvent::Grown);
    talk.outcome(outcome("replaced").unwrap());
    let received = talk.received();
    assert!(received.contains(r#""code":4020,"reason":"session_replaced""#), "{received}");
    assert!(received.ends_with("(close 4020 session_replaced)\n"), "{received}");
    assert_eq!(talk.fx.close, Some(CloseReason::Removed));
}

#[test]
fn a_read_of_the_session_before_says_nothing_about_the_next_one() {
    let mut talk = registered();
    event(&mut talk, ShardEvent::Grown);
    talk.send(&client_frame(0x81, br#"{"type":1,"d":{"public_key":"k"}}"#));
    let (read, register) = (talk.calls.remove(0), talk.calls.remove(0));
    let mut end = |(token, _): (Token, String), outcome| talk.with(|peer, cx| peer.on_outcome(token, outcome, cx));
    end(register, outcome("began 0 of 1").unwrap());
    end(read, events(1..=5, false));
    let received = talk.received();
    assert!(received.contains("READY") && !received.contains("\"s\":"), "{received}");
    assert_eq!(reads(&talk), ["Shard(Read { after: 0 })"]);

    // It may be refused before the next one begins.
    let mut talk = registered();
    event(&mut talk, ShardEvent::Grown);
    talk.send(&client_frame(0x81, br#"{"type":1,"d":{"public_key":"k"}}"#));
    talk.outcome(outcome("replaced").unwrap());
    talk.outcome(outcome("began 0 of 1").unwrap());
    assert!(talk.received().contains("READY"));
    assert_eq!(talk.fx.close, None);
}

#[test]
fn all_that_is_written_in_a_session_is_counted() {
    let counters = Arc::new(ShardCounters::default());
    let mut talk = open();
    talk.send(&client_frame(0x81, br#"{"type":3}"#));
    talk.send(&client_frame(0x81, br#"{"type":1,"d":{"public_key":"k"}}"#));
    talk.outcome(answer_of(Began { counters: Arc::clone(&counters), ..began(0, 1) }));
    assert_eq!(counters.counts(), ShardCounts::default());
    talk.outcome(events(1..=5, false));
    for message in [r#"{"type":3}"#, r#"{"type":2}"#, r#"{"type":89}"#, r#"{"type":77}"#, "nonsense"] {
        talk.send(&client_frame(0x81, message.as_bytes()));
    }
    talk.send(&client_frame(0x81, br#"{"type":3,"d":{"seq":9}}"#));
    talk.outcome(outcome("ahead").unwrap());
    // Five events, two answers, three errors; four pings were accepted, and nothing else.
    assert_eq!(counters.counts(), ShardCounts { received: 4, sent: 10, pings: 4, pongs: 2 });
}

#[test]
fn whoever_begins_another_session_does_not_leave_with_the_one_before() {
    let over = ShardEvent::Replaced(shard(0).hash);
    let mut talk = registered();
    talk.send(&client_frame(0x81, br#"{"type":1,"d":{"public_key":"k"}}"#));
    // It is resumed elsewhere in the same moment.
    assert!(event(&mut talk, over));
    assert_eq!((talk.received().as_str(), talk.fx.close), ("", None));
    talk.outcome(outcome("began 1 of 2").unwrap());
    assert!(talk.received().contains("GATEWAY_READY"));
    assert_eq!(talk.fx.close, None);

    let mut talk = registered();
    talk.send(&client_frame(0x81, br#"{"type":1,"d":{"public_key":"k","shard_in":1}}"#));
    event(&mut talk, over);
    talk.outcome(outcome("master 1000").unwrap());
    assert_eq!(reads(&talk), ["Shard(Read { after: 0 })"], "it has no other: he is told that this is gone");
    talk.outcome(outcome("replaced").unwrap());
    assert!(talk.received().contains("4020"));
    assert!(talk.fx.close.is_some());
}

#[test]
fn nobody_is_told_of_a_session_that_he_does_not_carry() {
    let over =
        |session: ConnId| [ShardEvent::Replaced(session), ShardEvent::Resharded(session), ShardEvent::Ended(session)];
    let mut registered = registered();
    for what in over(shard(1).hash) {
        assert!(!event(&mut registered, what), "{what:?} was meant for an earlier session");
    }
    assert_eq!((registered.received().as_str(), registered.fx.close), ("", None));
    let mut talk = open();
    for what in over(shard(0).hash) {
        assert!(!event(&mut talk, what), "{what:?}");
    }
    event(&mut talk, ShardEvent::Grown);
    assert_eq!((talk.received().as_str(), talk.fx.close, talk.calls.len()), ("", None, 0));
}
