//! What is refused: credentials, sessions that cannot be resumed, and how alike these answers are.

use serde_json::{Value, json};
use switchboard_testkit::gateway::{Credentials, GatewayClient};

use super::gateway_support::{
    APP, credentials, expect_error, expect_events, expect_replaced, foreign, raw_frame, register, serving, text,
};
use super::peer::eventually;
use super::support::TestServer;

const TEXT: u8 = 0x81;
const CLOSE: u8 = 0x88;

/// The frame of GATEWAY_INVALID, as this server writes it.
const INVALID: &str = r#"{"type":1,"service":"gateway","event":"GATEWAY_INVALID","data":{"session_id":null,"application_bot":null,"shards_config":[],"shards_stats":[]}}"#;

/// Sends a request that is answered by GATEWAY_INVALID, to the byte.
#[track_caller]
fn assert_invalid(client: &mut GatewayClient, request: &Value) {
    client.send(request);
    let (first, payload) = raw_frame(client);
    assert_eq!((first, String::from_utf8(payload).unwrap().as_str()), (TEXT, INVALID), "{request}");
}

/// The same, and the connection ends with 4004.
#[track_caller]
fn assert_nobody(server: &TestServer, request: &Value) {
    let mut client = server.shard();
    assert_invalid(&mut client, request);
    let (first, payload) = raw_frame(&client);
    assert_eq!((first, &payload[..2]), (CLOSE, &4004_u16.to_be_bytes()[..]), "{request}");
}

#[test]
fn fault_row_17_a_session_that_is_not_there_for_whoever_asks_is_refused_in_the_same_bytes_whyever() {
    let server = serving(&["servers.gateway.replay_max_events=10"]);
    let (mut owner, session) = server.registered();
    server.publish(1..=3);
    expect_events(&mut owner, 1, 1..=3);
    owner.ping(Some(2));
    let shard_1 = register(&mut server.shard(), &credentials().of_shard(1));
    let development = Credentials { flags: 1, ..credentials() };
    let mut ended = server.shard();
    let ended_session = register(&mut ended, &development);
    ended.send_close(4100).unwrap();
    assert_eq!(ended.closed(), Some(4100));
    let mut first = server.shard();
    let replaced = register(&mut first, &development);
    let mut second = server.shard();
    register(&mut second, &development);
    expect_replaced(&mut first);
    for (credentials, session, seq) in [
        (credentials(), "", None),
        (credentials(), "0", Some(0)),
        (credentials(), &*"A".repeat(64), None),
        (credentials(), &"A".repeat(3000), None),
        (credentials(), &session.to_ascii_lowercase(), None),
        (credentials(), &session[..63], None),
        (credentials(), &format!("{session}="), None),
        // The handle, which is public, resumes nothing.
        (credentials(), &server.fleet(APP)[0].id.to_string(), None),
        // Somebody else's, who has proved who he is.
        (foreign(), &session, None),
        (foreign(), &session, Some(3)),
        // Another shard's.
        (credentials(), &shard_1, None),
        (credentials().of_shard(1), &session, Some(3)),
        (credentials().of_shard(u32::MAX), &session, None),
        (development.clone(), &ended_session, None),
        (development, &replaced, None),
        // Ahead of the log, and behind what was acknowledged.
        (credentials(), &session, Some(4)),
        (credentials(), &session, Some(u64::MAX)),
        (credentials(), &session, Some(1)),
        (credentials(), &session, Some(0)),
    ] {
        let mut client = server.shard();
        for _ in 0..2 {
            assert_invalid(&mut client, &credentials.resumption(session, seq));
        }
    }
    // Its owner has noticed nothing.
    server.publish([4]);
    expect_events(&mut owner, 4, [4]);
    owner.expect_silence();
}

#[test]
fn fault_row_17_an_expired_session_and_one_whose_events_are_lost_are_refused_as_an_unknown_one() {
    let server = serving(&["servers.gateway.replay_max_events=2"]);
    let (owner, session) = server.registered();
    owner.hang_up();
    server.publish(1..=5);
    for seq in [None, Some(0), Some(2)] {
        assert_invalid(&mut server.shard(), &credentials().resumption(&session, seq));
    }
    let mut back = server.resumed(&session, 3);
    expect_events(&mut back, 4, [4, 5]);
    let server = serving(&["servers.gateway.resume_window=50ms"]);
    let (owner, session) = server.registered();
    owner.hang_up();
    eventually("it has expired", || server.fleet(APP).is_empty());
    for seq in [None, Some(0)] {
        assert_invalid(&mut server.shard(), &credentials().resumption(&session, seq));
    }
}

#[test]
fn fault_row_16_credentials_are_looked_at_before_the_session_and_refused_alike_with_and_without_one() {
    let server = serving(&[]);
    let (mut owner, session) = server.registered();
    let with = |public_key: &str, secret: Option<&str>| Credentials {
        public_key: public_key.to_owned(),
        secret: secret.map(str::to_owned),
        ..credentials()
    };
    for wrong in [
        with("3f0d", Some("correct-horse")),
        with("", Some("correct-horse")),
        with("3f0c", None),
        with("3f0c", Some("")),
        with("3f0c", Some("correct-horsf")),
        with("3f0c", Some("correct-horse ")),
        with("3f0c 3f0c", Some("correct-horse")),
        with("beef", Some("correct-horse")),
    ] {
        assert_nobody(&server, &wrong.registration());
        for session in [&session, "unknown"] {
            assert_nobody(&server, &wrong.resumption(session, None));
        }
    }
    // Whoever has a session and presents wrong credentials later is nobody either, and the session stays.
    assert_invalid(&mut owner, &with("3f0c", None).registration());
    assert_eq!(owner.closed(), Some(4004));
    server.resumed(&session, 0).expect_silence();
}

#[test]
fn headers_and_messages_must_not_contradict_and_headers_alone_suffice() {
    let server = serving(&[]);
    let headers = Credentials { id: Some(APP.to_owned()), ..credentials() };
    let greeted = || {
        let mut client = GatewayClient::with_headers(server.web_address(), &headers).unwrap();
        assert_eq!(client.expect("GATEWAY_HELLO")["data"]["starting_shards"], true);
        client
    };
    let mut client = greeted();
    client.send(&json!({"type": 1, "d": {}}));
    let session = text(&client.expect("GATEWAY_READY")["data"]["session_id"]);
    client.hang_up();
    let mut client = greeted();
    client.send(&json!({"type": 5, "d": {"session_id": session, "public_key": "3f0c"}}));
    assert_eq!(client.expect("GATEWAY_RESUMED")["data"]["session_id"], session);
    assert_eq!(client.expect("GATEWAY_REPLAYED")["data"], json!({"from": 0, "to": 0, "count": 0}));
    for d in [
        json!({"session_id": session, "public_key": "beef"}),
        json!({"session_id": session, "secret": "wrong"}),
        json!({"session_id": session, "shard_in": 1}),
    ] {
        let mut client = greeted();
        client.send(&json!({"type": 5, "d": d}));
        client.expect("GATEWAY_INVALID");
        assert_eq!(client.closed(), Some(4004), "{d}");
    }
    for wrong in [
        Credentials { id: Some("900".to_owned()), ..credentials() },
        Credentials { secret: Some("wrong".to_owned()), ..headers.clone() },
        Credentials { public_key: "beef".to_owned(), ..headers.clone() },
    ] {
        let mut client = GatewayClient::with_headers(server.web_address(), &wrong).unwrap();
        client.expect("GATEWAY_INVALID");
        assert_eq!(client.closed(), Some(4004), "{wrong:?}");
    }
    // What is absent is not wrong yet: the message may bring it.
    let without = Credentials { secret: None, ..headers.clone() };
    for (d, event) in [(json!({"secret": "correct-horse"}), "GATEWAY_READY"), (json!({}), "GATEWAY_INVALID")] {
        let mut client = GatewayClient::with_headers(server.web_address(), &without).unwrap();
        client.expect("GATEWAY_HELLO");
        client.send(&json!({"type": 1, "d": d}));
        client.expect(event);
    }
}

#[test]
fn a_shard_that_no_fleet_has_is_refused_at_the_handshake_or_by_the_registration() {
    let server = serving(&["servers.gateway.max_shards=4"]);
    for (shard, total) in
        [("one", "1"), ("-1", "1"), ("0", "2.5"), ("2", "2"), ("0", "0"), ("0", "5"), ("4", "4"), ("9", "")]
    {
        let mut all = Credentials { id: Some(APP.to_owned()), ..credentials() }.headers();
        all.retain(|header| !header.0.starts_with("Shard-"));
        all.extend([("Shard-In", shard), ("Shard-Total", total)].map(|(name, value)| (name, value.to_owned())));
        all.retain(|header| !header.1.is_empty());
        let mut client = GatewayClient::open(server.web_address(), "/gateway", &all).unwrap();
        client.expect("GATEWAY_HELLO");
        expect_error(&mut client, 4010, "invalid_shard");
        assert_eq!(client.closed(), Some(4010), "{shard} of {total}");
    }
    for (shard, total) in [(2, 2), (0, 0), (0, 5), (4, 4), (9, 99)] {
        let mut client = server.shard();
        let d = json!({"public_key": "3f0c", "secret": "correct-horse", "shard_in": shard, "shard_total": total});
        client.send(&json!({"type": 1, "d": d}));
        expect_error(&mut client, 4010, "invalid_shard");
        assert_eq!(client.closed(), Some(4010), "{shard} of {total}");
    }
}

#[test]
fn fault_row_16_whoever_guesses_sessions_is_closed_after_ten() {
    let server = serving(&[]);
    let mut client = server.shard();
    let request = credentials().resumption("a guess", None);
    for _ in 0..11 {
        client.send(&request);
        client.expect("GATEWAY_INVALID");
    }
    assert_eq!(client.closed(), Some(4003));
}
