//! Pings of the WebSocket, patience, round trips.

use super::*;

/// The ping that came, as it is to come back.
fn pinged(talk: &mut Talk) -> Vec<u8> {
    let bytes = std::mem::take(&mut talk.fx.bytes);
    let mut pings = crate::talk::server_frames(&bytes).into_iter().filter(|(first, _)| *first == 0x89);
    let (_, payload) = pings.next().expect("a ping came");
    assert!(pings.next().is_none());
    payload
}

fn pong(talk: &mut Talk, payload: &[u8]) {
    talk.send(&client_frame(0x8a, payload));
}

#[test]
fn a_client_is_pinged_in_every_interval() {
    let mut talk = registered();
    for at in 1..5 {
        wait_until(&mut talk, at * 30_000);
        assert_eq!(talk.received(), "(ping 0)\n");
        assert_eq!(talk.fx.wake_at_ms, Some((at + 1) * 30_000));
        talk.now.monotonic_ms += 10;
        talk.send(&client_frame(0x8a, b"whatever"));
        assert_eq!(talk.fx.wake_at_ms, None, "life is noted and nothing else");
    }
}

#[test]
fn silence_of_two_and_a_half_intervals_closes_with_the_close_frame_alone() {
    for mut talk in [open_with(Opening::default(), |settings| settings.register_timeout_ms = 0), registered()] {
        for (at_ms, wake_at_ms) in [(30_000, Some(60_000)), (60_000, Some(75_000)), (74_999, None)] {
            wait_until(&mut talk, at_ms);
            assert_eq!((talk.fx.close, talk.fx.wake_at_ms), (None, wake_at_ms));
        }
        talk.received();
        wait_until(&mut talk, 75_000);
        assert_eq!(talk.received(), "(close 4021 heartbeat_missed)\n");
        assert_eq!(talk.fx.close, Some(CloseReason::Silence));
    }
}

#[test]
fn whatever_comes_is_a_sign_of_life() {
    for frame in [
        client_frame(0x81, br#"{"type":89}"#),
        client_frame(0x82, b"{}"),
        client_frame(0x89, b""),
        client_frame(0x8a, b""),
    ] {
        let mut talk = registered();
        for at in 1..10 {
            talk.now.monotonic_ms = at * 70_000;
            talk.send(&frame);
            wait_until(&mut talk, at * 70_000);
        }
        assert_eq!(talk.fx.close, None);
    }
}

#[test]
fn who_is_not_listened_to_is_not_silent() {
    let mut talk = registered();
    talk.send(&client_frame(0x81, br#"{"type":3,"d":{"seq":0}}"#));
    for at in 1..10 {
        wait_until(&mut talk, at * 30_000);
    }
    assert_eq!(talk.fx.close, None);
}

#[test]
fn fault_row_41_what_the_network_takes_is_no_sign_of_life() {
    let mut talk = registered();
    talk.now.monotonic_ms = 74_000;
    talk.with(|peer, cx| peer.on_drained(cx));
    wait_until(&mut talk, 75_000);
    assert_eq!(talk.fx.close, Some(CloseReason::Silence));
}

#[test]
fn fault_row_12_who_does_not_register_in_time_is_closed() {
    let mut talk = open();
    assert_eq!(talk.fx.wake_at_ms, Some(30_000));
    wait_until(&mut talk, 30_000);
    assert_eq!((talk.received().as_str(), talk.fx.wake_at_ms), ("(ping 0)\n", Some(60_000)));
    talk.now.monotonic_ms = 59_000;
    talk.send(&client_frame(0x81, br#"{"type":5,"d":{"public_key":"k","session_id":"s"}}"#));
    talk.outcome(outcome("invalid").unwrap());
    talk.received();
    wait_until(&mut talk, 60_000);
    assert_eq!(
        talk.received(),
        r#"{"type":2,"service":"gateway","event":"GATEWAY_ERROR","possible_error":true,"message":"not registered in time","rate_limit":false,"data":{"code":4003,"reason":"register_timeout","request_type":null,"retry_after_ms":null}}
(close 4003 register_timeout)
"#
    );
    assert_eq!(talk.fx.close, Some(CloseReason::Silence));
}

#[test]
fn a_registration_that_is_being_made_is_waited_for() {
    let mut talk = open_with(Opening::default(), |settings| settings.heartbeat_ms = 0);
    talk.send(&client_frame(0x81, br#"{"type":1,"d":{"public_key":"k"}}"#));
    wait_until(&mut talk, 60_000);
    assert_eq!((talk.fx.close, talk.fx.wake_at_ms), (None, Some(61_000)));
    talk.outcome(outcome("began 0 of 1").unwrap());
    talk.outcome(outcome("events").unwrap());
    wait_until(&mut talk, 61_000);
    assert_eq!((talk.fx.close, talk.fx.wake_at_ms), (None, None));
}

#[test]
fn a_pong_says_what_was_read_and_how_long_it_took() {
    let mut talk = registered();
    event(&mut talk, ShardEvent::Grown);
    talk.now = crate::time::Now { monotonic_ms: 2000, micros: 250, ..talk.now };
    talk.outcome(events(1..=3, false));
    let payload = pinged(&mut talk);
    talk.now = crate::time::Now { monotonic_ms: 2001, micros: 50, ..talk.now };
    pong(&mut talk, &payload);
    assert_eq!(talk.calls.remove(0).1, "Shard(Received { seq: 3, round_trip_us: 800 })");
    // Nothing that is made up counts.
    let mut ahead = payload.clone();
    ahead[7] = 4;
    let mut later = payload.clone();
    later[12] = 1;
    for made_up in [&ahead[..], &later, b"", b"x", &payload[1..], &[0xff; 16], &[payload.as_slice(), b"x"].concat()] {
        talk.now.monotonic_ms += 1000;
        pong(&mut talk, made_up);
        assert!(talk.calls.is_empty(), "{made_up:?}");
    }
}

#[test]
fn a_pong_says_nothing_about_a_later_session() {
    let mut talk = registered();
    wait_until(&mut talk, 30_000);
    let payload = pinged(&mut talk);
    register(&mut talk);
    pong(&mut talk, &payload);
    assert!(talk.calls.is_empty());
    // Nor before there is one.
    let mut talk = open();
    wait_until(&mut talk, 30_000);
    let payload = pinged(&mut talk);
    pong(&mut talk, &payload);
    assert!(talk.calls.is_empty());
}

#[test]
fn while_events_flow_a_ping_goes_out_every_second() {
    let mut talk = registered();
    let mut seq = 0;
    let mut flow = |talk: &mut Talk, at_ms: u64| {
        talk.now.monotonic_ms = at_ms;
        event(talk, ShardEvent::Grown);
        seq += 1;
        talk.outcome(events([seq], false));
        talk.with(|peer, cx| peer.on_drained(cx));
        let wake_at_ms = talk.fx.wake_at_ms;
        (talk.received().replace(&written([seq]), ""), wake_at_ms)
    };
    // Long after the last ping the first event takes one along.
    assert_eq!(flow(&mut talk, 5000).0, "(ping 1)\n");
    assert_eq!(flow(&mut talk, 5400).0, "");
    assert_eq!(flow(&mut talk, 5999).0, "");
    assert_eq!(flow(&mut talk, 6000).0, "(ping 4)\n");
    assert_eq!(flow(&mut talk, 6500).0, "");
    // The last ones are not forgotten when the flow ends.
    wait_until(&mut talk, 7000);
    assert_eq!(talk.received(), "(ping 5)\n");
    // The moment that was asked for before all this is outstanding, and nothing is asked for in its place.
    assert_eq!(talk.fx.wake_at_ms, None);
    wait_until(&mut talk, 30_000);
    assert_eq!((talk.received().as_str(), talk.fx.wake_at_ms), ("", Some(37_000)));
}

#[test]
fn many_events_take_more_pings_along_but_never_more_than_may_be_answered() {
    let mut talk = registered();
    talk.now.monotonic_ms = 1000;
    let mut pings = 0;
    event(&mut talk, ShardEvent::Grown);
    for part in 0..64 {
        talk.outcome(events(part * 256 + 1..=part * 256 + 256, true));
        pings += talk.received().matches("(ping ").count();
        talk.now.monotonic_ms += 25;
        talk.with(|peer, cx| peer.on_drained(cx));
    }
    // Within 1.6 seconds; a client may answer 16 in one.
    assert_eq!(pings, 13);
}
