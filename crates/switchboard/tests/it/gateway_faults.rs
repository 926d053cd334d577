//! Clients of the gateway that are silent, too loud, too large or broken, each of which costs nobody else anything.

use std::io::Read;
use std::thread;
use std::time::{Duration, Instant};

use flate2::Compression;
use flate2::read::{GzEncoder, ZlibEncoder};
use serde_json::json;

use super::gateway_support::{
    assert_refused, credentials, expect_error, expect_events, open, register, serving, to_the_end,
};

const TEXT: u8 = 0x81;
const BINARY: u8 = 0x82;

/// The same bytes, deflated as zlib or gzip.
fn packed(bytes: &[u8], is_gzip: bool) -> Vec<u8> {
    let (mut out, level) = (Vec::new(), Compression::best());
    if is_gzip {
        GzEncoder::new(bytes, level).read_to_end(&mut out).unwrap();
    } else {
        ZlibEncoder::new(bytes, level).read_to_end(&mut out).unwrap();
    }
    out
}

#[test]
fn fault_row_41_a_shard_that_hangs_is_closed_and_its_session_stays_and_others_live_on() {
    let server = serving(&["servers.gateway.heartbeat_interval=100ms"]);
    let begun = Instant::now();
    let (mut hanging, session) = server.registered();
    let mut alive = server.shard();
    register(&mut alive, &credentials().of_shard(1));
    hanging.set_deaf(true);
    let (came, code) = thread::scope(|scope| {
        let hanging = scope.spawn(|| to_the_end(&mut hanging));
        // The other one answers pings only while somebody reads what comes to it.
        while !hanging.is_finished() {
            let heard = alive.next_until(Instant::now() + Duration::from_millis(5)).unwrap();
            assert_eq!(heard, None, "it lives");
        }
        hanging.join().unwrap()
    });
    assert!((came.len(), code) == (0, Some(4021)), "{came:?} {code:?}");
    assert!(begun.elapsed() >= Duration::from_millis(240), "{:?}", begun.elapsed());
    server.publish([1]);
    expect_events(&mut server.resumed(&session, 0), 1, [1]);
    alive.expect_silence();
}

#[test]
fn fault_row_12_whoever_does_not_register_in_time_is_closed_and_a_refused_attempt_is_none() {
    let server = serving(&["servers.gateway.register_timeout=150ms"]);
    let mut registered = server.registered().0;
    let mut silent = server.shard();
    let mut greeted = open(server.web_address(), "/gateway?hello=1");
    let mut refused = server.shard();
    refused.resume(&credentials(), "unknown", None).unwrap_err();
    greeted.expect("GATEWAY_HELLO");
    for client in [&mut silent, &mut greeted, &mut refused] {
        expect_error(client, 4003, "register_timeout");
        assert_eq!(client.closed(), Some(4003));
    }
    registered.expect_silence();
}

#[test]
fn whoever_sends_too_many_messages_is_closed_and_resumes() {
    let server = serving(&["servers.gateway.rate_messages=10", "servers.gateway.rate_period=60s"]);
    let (mut client, session) = server.registered();
    for _ in 1..10 {
        client.ping(None);
    }
    client.send(&json!({"type": 3}));
    let told = expect_error(&mut client, 4008, "rate_limited");
    assert_eq!(told["rate_limit"], true);
    assert_eq!(client.closed(), Some(4008));
    server.resumed(&session, 0).expect_silence();
}

#[test]
fn a_client_that_is_wrong_again_and_again_is_closed_with_its_last_error() {
    let server = serving(&[]);
    let (mut client, session) = server.registered();
    for _ in 0..11 {
        assert_refused(&mut client, &json!({"type": 0}), 4001, "unknown_type");
    }
    assert_eq!(client.closed(), Some(4001));
    server.resumed(&session, 0).expect_silence();
}

#[test]
fn control_messages_have_a_limit_of_their_own_and_others_are_larger() {
    let server = serving(&[]);
    let padding = |bytes: usize| "x".repeat(bytes);
    let (mut client, session) = server.registered();
    // As long as may be: what is around the padding counts.
    let of_length = |bytes: usize| {
        let around = json!({"type": 3, "x": ""}).to_string().len();
        json!({"type": 3, "x": padding(bytes - around)})
    };
    client.send(&of_length(4096));
    client.expect("GATEWAY_PING");
    let interaction = json!({"type": 4, "id": "1", "data": {"x": padding(60_000)}});
    client.send(&interaction);
    client.ping(None);
    client.send(&of_length(4097));
    expect_error(&mut client, 4002, "payload_too_large");
    assert_eq!(client.closed(), Some(4002));
    // The same when it was packed.
    let mut client = server.resumed(&session, 0);
    client.send_frame(BINARY, &packed(of_length(4096).to_string().as_bytes(), false)).unwrap();
    client.expect("GATEWAY_PING");
    client.send_frame(BINARY, &packed(of_length(4097).to_string().as_bytes(), true)).unwrap();
    expect_error(&mut client, 4002, "payload_too_large");
    assert_eq!(client.closed(), Some(4002));
    // Longer than any message.
    let mut client = server.resumed(&session, 0);
    client.send(&json!({"type": 4, "id": "1", "data": {"x": padding(65_536)}}));
    assert_eq!(client.closed(), Some(1009));
    server.resumed(&session, 0).expect_silence();
}

#[test]
fn fault_row_3_a_bomb_is_stopped_at_the_limit_before_and_after_registration() {
    let server = serving(&[]);
    let bomb = vec![b' '; 16 << 20];
    for is_gzip in [false, true] {
        let bomb = packed(&bomb, is_gzip);
        assert!(bomb.len() < 20_000, "{}", bomb.len());
        let mut stranger = server.shard();
        stranger.send_frame(BINARY, &bomb).unwrap();
        let (came, code) = to_the_end(&mut stranger);
        assert!(matches!(code, Some(1009 | 4002)), "{code:?} {came:?}");
        let (mut client, session) = server.registered();
        client.send_frame(BINARY, &bomb).unwrap();
        assert_eq!(client.closed(), Some(1009));
        server.resumed(&session, 0).expect_silence();
    }
}

#[test]
fn fault_row_1_what_is_no_message_is_told_and_what_is_no_frame_ends_the_connection_alone() {
    let server = serving(&["servers.gateway.rate_messages=0"]);
    let (mut other, _) = server.registered();
    let mut random = fastrand::Rng::with_seed(7);
    for round in 0..300 {
        let mut client = server.shard();
        if round % 2 == 0 {
            client.send(&credentials().of_shard(1 + round % 5).registration());
        }
        let first = if random.bool() { [TEXT, BINARY][random.usize(..2)] } else { random.u8(..) };
        let mut payload: Vec<u8> = (0..random.usize(..200)).map(|_| random.u8(..)).collect();
        if let (BINARY, [a, b, ..], true) = (first, &mut *payload, random.bool()) {
            // As if it were packed.
            [*a, *b] = if random.bool() { [0x1f, 0x8b] } else { [0x78, 0x9c] };
        }
        // It may be closed in the middle.
        let _ = client.send_frame(first, &payload);
        let _ = client.send_close(1000);
        let (came, _) = to_the_end(&mut client);
        assert!(came.len() <= 2, "one answer each: {came:?}");
    }
    server.publish([1]);
    expect_events(&mut other, 1, [1]);
    other.expect_silence();
}
