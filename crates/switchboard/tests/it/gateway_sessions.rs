//! Sessions of shards from their beginning to their end: over how many connections, and however those ended.

use std::io::Write;
use std::net::Shutdown;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;
use socket2::SockRef;
use switchboard::backend::sessions::shards::ShardTarget;
use switchboard_testkit::client::PATIENCE;
use switchboard_testkit::gateway::{GatewayClient, Heard};

use super::gateway_support::{
    APP, assert_gone, assert_refused, credentials, event, expect_error, expect_events, expect_replaced, numbered,
    publish_to, register, reset, serving, stats, text, to_the_end,
};
use super::peer::eventually;

#[test]
fn the_conversation_of_a_client_that_knows_the_document_alone() {
    let server = serving(&[]);
    let mut client = server.shard();
    client.send(&credentials().registration());
    let ready = client.hear();
    let (session, hash) = (text(&ready["data"]["session_id"]), text(&stats(&ready["data"])[0]["shard_hash"]));
    assert_eq!((session.len(), hash.len()), (64, 35));
    let began = |event: &str, [pings, received, sent]: [u64; 3]| {
        let shard = json!({"development": false, "disconnected": false, "receibe_ping": pings, "received": received,
            "send_ping": pings, "sending": sent, "shard_hash": hash, "shard_id": 0});
        json!({"type": 1, "service": "gateway", "event": event, "data": {
            "application_bot": {"flags": 1, "id": APP, "public_key": "[REDACTED]"},
            "session_id": session,
            "shards_config": [[[[0, 1]]]],
            "shards_stats": [[[[[[[shard]]]]]]],
        }})
    };
    assert_eq!(ready, began("GATEWAY_READY", [0; 3]));
    client.ping(None);
    server.publish([1, 2]);
    expect_events(&mut client, 1, [1, 2]);
    reset(client);
    server.until_detached();
    server.publish([3, 4, 5]);

    let mut client = server.shard();
    client.send(&credentials().resumption(&session, Some(2)));
    assert_eq!(client.hear(), began("GATEWAY_RESUMED", [1, 1, 3]));
    expect_events(&mut client, 3, [3, 4, 5]);
    client.expect_silence();

    let mut stranger = server.shard();
    stranger.send(&json!({"type": 3}));
    assert_eq!(
        stranger.hear(),
        json!({"type": 2, "service": "gateway", "event": "GATEWAY_ERROR", "possible_error": true,
            "message": "register first", "rate_limit": false,
            "data": {"code": 4003, "reason": "not_registered", "request_type": 3, "retry_after_ms": null}})
    );
    stranger.send(&credentials().resumption(&"A".repeat(64), None));
    assert_eq!(
        stranger.hear(),
        json!({"type": 1, "service": "gateway", "event": "GATEWAY_INVALID", "data":
            {"session_id": null, "application_bot": null, "shards_config": [], "shards_stats": []}})
    );
    // The connection is as good as a new one.
    register(&mut stranger, &credentials());
    expect_replaced(&mut client);
}

/// Ways to end a connection, and the code that the server closes with if it does.
type Ending = (&'static str, fn(&mut GatewayClient), Option<u16>);

const ENDINGS: [Ending; 12] = [
    ("a reset", |client| drop(SockRef::from(client.stream()).set_linger(Some(Duration::ZERO))), None),
    ("the end of its stream", |client| drop(client.stream().shutdown(Shutdown::Write)), None),
    (
        "half a frame",
        |client| {
            client.stream().write_all(&[0x81]).unwrap();
            client.stream().shutdown(Shutdown::Write).unwrap();
        },
        None,
    ),
    ("no code", |client| client.send_frame(0x88, &[]).unwrap(), Some(1005)),
    ("1000", |client| client.send_close(1000).unwrap(), Some(1000)),
    ("1001", |client| client.send_close(1001).unwrap(), Some(1001)),
    ("1011", |client| client.send_close(1011).unwrap(), Some(1011)),
    ("4000", |client| client.send_close(4000).unwrap(), Some(4000)),
    ("4099", |client| client.send_close(4099).unwrap(), Some(4099)),
    ("a frame that is none", |client| client.send_frame(0x83, b"x").unwrap(), Some(1002)),
    ("a text that is none", |client| client.send_frame(0x81, b"\xff").unwrap(), Some(1007)),
    ("a message that is too long", |client| client.send_frame(0x82, &[b' '; 70_000]).unwrap(), Some(1009)),
];

#[test]
fn a_session_is_resumed_whatever_ended_its_connection() {
    let server = serving(&["servers.gateway.rate_messages=0"]);
    let (mut client, session) = server.registered();
    for (round, (name, end, code)) in (1..).zip(ENDINGS) {
        client.ping(None);
        end(&mut client);
        if name != "a reset" {
            assert_eq!(client.closed(), code, "{name}");
        }
        drop(client);
        server.until_detached();
        server.publish([round]);
        client = server.shard();
        let resumed = client.resume(&credentials(), &session, Some(round - 1)).unwrap_or_else(|_| panic!("{name}"));
        assert_eq!(resumed["session_id"], session, "{name}");
        // Figures go on where they were.
        let figures = &stats(&resumed)[0];
        assert_eq!((&figures["receibe_ping"], &figures["send_ping"]), (&json!(round), &json!(round)), "{name}");
        expect_events(&mut client, round, [round]);
    }
    client.expect_silence();
}

#[test]
fn a_session_without_events_is_resumed_again_and_again() {
    let server = serving(&[]);
    let (client, session) = server.registered();
    let hash = server.fleet(APP)[0].id;
    reset(client);
    for seq in [None, Some(0), None, Some(0)] {
        let mut client = server.shard();
        let resumed = client.resume(&credentials(), &session, seq).unwrap();
        assert_eq!(text(&stats(&resumed)[0]["shard_hash"]), hash.to_string());
        client.expect_silence();
        client.hang_up();
    }
    server.publish([1]);
    expect_events(&mut server.resumed(&session, 0), 1, [1]);
}

#[test]
fn a_client_that_closes_with_4100_ends_its_session_and_frees_its_place() {
    let server = serving(&["servers.gateway.duplicate_shard=reject"]);
    let (mut client, session) = server.registered();
    client.send_close(4100).unwrap();
    assert_eq!(client.closed(), Some(4100));
    eventually("the session is over", || server.fleet(APP).is_empty());
    assert_gone(&server, &session);
    assert!(server.publish_as(APP, numbered(ShardTarget::Shard(0), 1)).is_err());
    // Numbers begin anew.
    let (mut client, other) = server.registered();
    assert_ne!(other, session);
    server.publish([7]);
    expect_events(&mut client, 1, [7]);
}

#[test]
fn the_newest_registration_of_a_shard_has_it_and_the_other_is_told() {
    let server = serving(&[]);
    let (mut old, old_session) = server.registered();
    server.publish([1]);
    expect_events(&mut old, 1, [1]);
    let (mut new, new_session) = server.registered();
    assert_ne!(new_session, old_session);
    expect_replaced(&mut old);
    assert_gone(&server, &old_session);
    server.publish([2]);
    expect_events(&mut new, 1, [2]);
    new.expect_silence();
}

#[test]
fn registering_again_on_the_same_connection_begins_another_session_of_this_or_another_shard() {
    let server = serving(&[]);
    let (mut client, first) = server.registered();
    server.publish([1]);
    expect_events(&mut client, 1, [1]);
    let second = register(&mut client, &credentials());
    assert_gone(&server, &first);
    server.publish([2]);
    expect_events(&mut client, 1, [2]);
    let third = register(&mut client, &credentials().of_shard(1));
    assert_gone(&server, &second);
    let of_shard_1 = numbered(ShardTarget::Shard(1), 3);
    assert_eq!(server.publish_as(APP, of_shard_1).unwrap(), [(1, 1)]);
    expect_events(&mut client, 1, [3]);
    assert!(server.publish_as(APP, numbered(ShardTarget::Shard(0), 4)).is_err(), "nobody is shard 0");
    client.expect_silence();
    client.hang_up();
    server.shard().resume(&credentials().of_shard(1), &third, Some(1)).unwrap();
}

#[test]
fn what_was_published_while_a_connection_registered_again_is_in_one_of_its_sessions() {
    const ROUNDS: usize = 60;
    let server = serving(&["servers.gateway.rate_messages=0"]);
    let (mut client, _) = server.registered();
    let node = server.node().clone();
    let publishing = server.spawn(async move { publish_to(&node, 0..2000).await });
    // Of each session a beginning: numbers one after the other, and none that another one had.
    let (mut ready, mut s, mut last) = (0, 0, None);
    for _ in 0..ROUNDS {
        client.send(&credentials().registration());
    }
    server.wait(publishing).unwrap();
    let end = event(ShardTarget::Shard(0), &json!("end"));
    server.publish_as(APP, end).unwrap();
    loop {
        let message = client.hear();
        match message["event"].as_str().unwrap() {
            "GATEWAY_READY" => (ready, s) = (ready + 1, 0),
            _ if message["data"] == "end" => break,
            _ => {
                s += 1;
                let number = message["data"]["n"].as_u64();
                assert!(message["s"] == s && number > last, "{message} behind {last:?}");
                last = number;
            }
        }
    }
    // The last one had all that was published since it began.
    assert_eq!(ready, ROUNDS);
    client.expect_silence();
}

#[test]
fn whoever_resumes_a_session_that_is_carried_has_it_and_the_other_is_told() {
    let server = serving(&["servers.gateway.duplicate_shard=reject"]);
    let (mut old, session) = server.registered();
    server.publish([1]);
    expect_events(&mut old, 1, [1]);
    let mut new = server.resumed(&session, 0);
    expect_events(&mut new, 1, [1]);
    expect_replaced(&mut old);
    server.publish([2]);
    expect_events(&mut new, 2, [2]);
    // Whoever has a session cannot take one up, be it his own.
    for session in [session.as_str(), "unknown"] {
        assert_refused(&mut new, &credentials().resumption(session, None), 4005, "already_registered");
    }
    server.publish([3]);
    expect_events(&mut new, 3, [3]);
    new.expect_silence();
}

/// What became of a rival.
enum Fate {
    /// Another one had the session.
    Lost,
    /// It heard the end.
    Won(GatewayClient),
}

const END: u64 = u64::MAX;

/// Resumes behind `seq`, and hears events until another one takes the session or the end comes.
fn compete(mut client: GatewayClient, session: &str, mut seq: u64, start: &Barrier, fates: &SyncSender<Fate>) {
    let request = credentials().resumption(session, Some(seq));
    start.wait();
    client.send(&request);
    assert_eq!(client.hear()["event"], "GATEWAY_RESUMED");
    loop {
        match client.next_until(Instant::now() + PATIENCE).unwrap() {
            Some(Heard::Message(message)) if message["type"] == 8 => {
                assert_eq!(message["s"], seq + 1, "in order and once");
                seq += 1;
                if message["data"]["n"] == END {
                    fates.send(Fate::Won(client)).unwrap();
                    return;
                }
            }
            Some(Heard::Message(message)) => {
                assert_eq!(message["data"]["code"], 4020, "{message}");
                assert_eq!(client.closed(), Some(4020));
                fates.send(Fate::Lost).unwrap();
                return;
            }
            other => panic!("it has won or lost, but {other:?}"),
        }
    }
}

#[test]
fn fault_row_18_of_many_that_resume_at_once_one_has_the_session_and_all_others_are_told() {
    const RIVALS: usize = 12;
    const ROUNDS: u64 = 20;
    let server = serving(&["servers.gateway.rate_messages=0"]);
    let (mut owner, session) = server.registered();
    for round in 0..ROUNDS {
        let seq = server.fleet(APP)[0].last;
        let (start, (fates, ended)) = (Arc::new(Barrier::new(RIVALS + 1)), sync_channel(RIVALS));
        let rivals: Vec<_> = (0..RIVALS)
            .map(|_| {
                let (client, session, start, fates) =
                    (server.shard(), session.clone(), Arc::clone(&start), fates.clone());
                thread::spawn(move || compete(client, &session, seq, &start, &fates))
            })
            .collect();
        start.wait();
        // Some events are missed, some come in the middle.
        server.publish(0..20);
        for _ in 1..RIVALS {
            assert!(matches!(ended.recv_timeout(PATIENCE), Ok(Fate::Lost)), "in round {round} all but one have lost");
        }
        expect_replaced_after_events(&mut owner);
        server.publish([END]);
        let Ok(Fate::Won(winner)) = ended.recv_timeout(PATIENCE) else { panic!("in round {round} nobody has won") };
        owner = winner;
        owner.ping(None);
        rivals.into_iter().for_each(|rival| rival.join().unwrap());
    }
    assert_eq!(server.fleet(APP)[0].last, 21 * ROUNDS);
}

/// Whoever had it before hears what was published meanwhile, and is told.
#[track_caller]
fn expect_replaced_after_events(client: &mut GatewayClient) {
    let (came, code) = to_the_end(client);
    let (told, events) = came.split_last().expect("it is told");
    assert!(events.iter().all(|message| message["type"] == 8), "{events:?}");
    assert_eq!((&told["data"]["code"], code), (&json!(4020), Some(4020)));
}

#[test]
fn a_session_that_nobody_resumes_in_time_is_over() {
    let server = serving(&["servers.gateway.resume_window=100ms"]);
    let (client, session) = server.registered();
    client.hang_up();
    eventually("it has expired", || server.fleet(APP).is_empty());
    assert_gone(&server, &session);
    assert!(server.publish_as(APP, numbered(ShardTarget::Shard(0), 1)).is_err());
}

#[test]
fn an_operator_ends_a_session_and_its_client_is_told() {
    let server = serving(&[]);
    let (mut client, session) = server.registered();
    let id = server.fleet(APP)[0].id;
    assert!(server.wait(server.node().end_shard_session(id)).unwrap());
    expect_error(&mut client, 4027, "session_ended");
    assert_eq!(client.closed(), Some(4027));
    assert_gone(&server, &session);
}
