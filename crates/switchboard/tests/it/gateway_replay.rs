//! What a shard is sent that was away, that reads slowly, or not at all: nothing is lost in silence, doubled or reordered.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use switchboard::backend::sessions::shards::ShardTarget;
use switchboard_testkit::client::PATIENCE;
use switchboard_testkit::gateway::{News, Pace, ResumingBot};
use tokio::task::JoinHandle;

use super::gateway_support::{
    APP, assert_gone, assert_refused, credentials, event, expect_events, hash_of, open, publish_to, register, reset,
    serving, stats, to_the_end,
};
use super::peer::eventually;
use super::support::TestServer;

/// Acknowledges in vain.
fn acknowledgement(seq: u64) -> Value {
    json!({"type": 3, "d": {"seq": seq}})
}

#[test]
fn a_replay_begins_behind_the_number_that_the_client_names_or_behind_what_it_acknowledged() {
    let server = serving(&[]);
    let (mut client, session) = server.registered();
    server.publish(1..=6);
    expect_events(&mut client, 1, 1..=6);
    client.ping(Some(2));
    client.hang_up();
    for (seq, first) in [(Some(2), 3), (Some(5), 6), (Some(5), 6), (None, 6), (Some(6), 7)] {
        let mut client = server.resumed(&session, seq);
        expect_events(&mut client, first, first..=6);
        client.expect_silence();
        client.hang_up();
    }
    // A number at a resume acknowledges as well.
    let refusal = server.shard().resume(&credentials(), &session, Some(5)).unwrap_err();
    assert_eq!(refusal["event"], "GATEWAY_INVALID");
}

#[test]
fn an_acknowledgement_of_what_has_not_been_is_an_error_and_changes_nothing() {
    let server = serving(&[]);
    let (mut client, session) = server.registered();
    assert_refused(&mut client, &acknowledgement(1), 4007, "invalid_seq");
    server.publish([1, 2]);
    expect_events(&mut client, 1, [1, 2]);
    assert_refused(&mut client, &acknowledgement(3), 4007, "invalid_seq");
    assert_refused(&mut client, &acknowledgement(u64::MAX), 4007, "invalid_seq");
    // Nothing, less than before, and all.
    for seq in [0, 1, 0, 1, 2] {
        client.ping(Some(seq));
    }
    assert_eq!(server.fleet(APP)[0].floor, 2);
    client.hang_up();
    server.resumed(&session, None).expect_silence();
}

#[test]
fn a_client_that_was_greeted_is_told_what_a_replay_was_and_where_it_ends() {
    let server = serving(&[]);
    let (mut client, session) = server.registered();
    server.publish(1..=400);
    expect_events(&mut client, 1, 1..=400);
    client.hang_up();
    for (seq, data) in [
        (0, json!({"from": 1, "to": 400, "count": 400})),
        (399, json!({"from": 400, "to": 400, "count": 1})),
        (400, json!({"from": 400, "to": 400, "count": 0})),
    ] {
        let mut client = open(server.web_address(), "/gateway?hello=1");
        client.expect("GATEWAY_HELLO");
        client.resume(&credentials(), &session, Some(seq)).unwrap();
        expect_events(&mut client, seq + 1, seq + 1..=400);
        assert_eq!(client.expect("GATEWAY_REPLAYED")["data"], data);
        client.expect_silence();
        client.hang_up();
    }
}

#[test]
fn what_is_published_during_a_replay_comes_behind_it() {
    let server = serving(&["servers.gateway.replay_max_events=10000"]);
    let (client, session) = server.registered();
    client.hang_up();
    server.publish(1..=3000);
    let node = server.node().clone();
    let publishing = server.spawn(async move { publish_to(&node, 3001..=5000).await });
    let mut client = open(server.web_address(), "/gateway?hello=1");
    client.expect("GATEWAY_HELLO");
    client.resume(&credentials(), &session, Some(0)).unwrap();
    let mut replayed = None;
    for s in 1..=5000 {
        let mut message = client.hear();
        if message["event"] == "GATEWAY_REPLAYED" {
            assert_eq!(replayed.replace(message["data"]["to"].take()), None, "told once");
            assert_eq!(replayed, Some(json!(s - 1)), "right behind the last one that was missed");
            message = client.hear();
        }
        assert_eq!((&message["s"], &message["data"]["n"]), (&json!(s), &json!(s)));
    }
    if replayed.is_none() {
        client.expect("GATEWAY_REPLAYED");
    }
    server.wait(publishing).unwrap();
    client.expect_silence();
}

#[test]
fn a_replay_that_is_broken_off_again_and_again_brings_everything_once() {
    const EVENTS: u64 = 3000;
    let server = serving(&["servers.gateway.replay_max_events=10000", "servers.gateway.rate_messages=0"]);
    let address = server.web_address();
    let mut bot = ResumingBot::new(credentials(), Pace::quick(), 11, move || Some(address));
    assert!(matches!(bot.next(PATIENCE), Ok(News::Ready)));
    let node = server.node().clone();
    let publishing = server.spawn(async move { publish_to(&node, 1..=EVENTS).await });
    let mut random = fastrand::Rng::with_seed(5);
    let mut until_cut = 1;
    for number in 1..=EVENTS {
        let event = bot.next_event(PATIENCE).unwrap_or_else(|error| panic!("{error}; {bot:?}"));
        assert_eq!(event["data"]["n"], number);
        until_cut -= 1;
        if until_cut == 0 {
            bot.cut();
            until_cut = random.u64(1..200);
        }
    }
    server.wait(publishing).unwrap();
    let figures = bot.figures();
    assert!(figures.resumed > 10 && figures.invalid == 0, "{figures:?}");
}

#[test]
fn a_log_that_has_lost_what_was_missed_is_told_and_never_passed_over() {
    let server = serving(&["servers.gateway.replay_max_events=10"]);
    let (client, session) = server.registered();
    client.hang_up();
    server.publish(1..=25);
    assert_gone(&server, &session);
    for (seq, is_there) in [(14, false), (15, true), (24, true)] {
        let mut client = server.shard();
        assert_eq!(client.resume(&credentials(), &session, Some(seq)).is_ok(), is_there, "{seq}");
        if is_there {
            expect_events(&mut client, seq + 1, seq + 1..=25);
        }
    }
    let (client, session) = server.registered();
    client.hang_up();
    // Bytes are counted too.
    let server_of_bytes = serving(&["servers.gateway.replay_max_bytes=1KiB"]);
    let (client, small) = server_of_bytes.registered();
    client.hang_up();
    server_of_bytes.publish(1..=100);
    let record = server_of_bytes.fleet(APP).remove(0);
    assert!(record.floor > 80 && record.log_bytes <= 1024, "{record:?}");
    assert_gone(&server_of_bytes, &small);
    expect_events(&mut server_of_bytes.resumed(&small, record.floor), record.floor + 1, record.floor + 1..=100);
    server.resumed(&session, 0).expect_silence();
}

#[test]
fn a_client_that_reads_loses_nothing_however_often_its_log_wraps() {
    const PUBLISHERS: u64 = 4;
    const EACH: u64 = 2500;
    // However busy the machine is: what is read slowly is waited for.
    let server = serving(&["servers.gateway.replay_max_events=100", "servers.gateway.publish_wait=60s"]);
    let (mut client, session) = server.registered();
    let publishing: Vec<_> = (0..PUBLISHERS)
        .map(|publisher| {
            let node = server.node().clone();
            let numbers = (0..EACH).map(move |number| publisher * EACH + number);
            server.spawn(async move { publish_to(&node, numbers).await })
        })
        .collect();
    let mut next = [0; PUBLISHERS as usize];
    for s in 1..=PUBLISHERS * EACH {
        let message = client.hear();
        assert_eq!(message["s"], s, "{message}");
        let number = message["data"]["n"].as_u64().unwrap();
        let expected = &mut next[(number / EACH) as usize];
        assert_eq!(number % EACH, *expected, "each publisher's in its order");
        *expected += 1;
    }
    publishing.into_iter().for_each(|publishing| server.wait(publishing).unwrap());
    client.ping(Some(PUBLISHERS * EACH));
    client.hang_up();
    server.resumed(&session, None).expect_silence();
}

#[test]
fn fault_row_24_a_shard_that_does_not_read_costs_nobody_else_anything_and_is_told_at_its_resume() {
    const KIB: usize = 1 << 10;
    let server = serving(&[
        "servers.gateway.replay_max_events=200",
        "servers.gateway.publish_wait=20ms",
        "servers.gateway.heartbeat_interval=500ms",
        "servers.socket.close_linger=100ms",
    ]);
    let (mut reading, _) = server.registered();
    let mut stuck = server.shard();
    let session = register(&mut stuck, &credentials().of_shard(1));
    let connection = server.fleet(APP)[1].owner.as_ref().unwrap().connection;
    let padding = "x".repeat(16 * KIB);
    let (mut number, mut most) = (0, 0);
    // Shard 0 hears each event at once, whatever becomes of the other one.
    let mut publish = || {
        number += 1;
        let deliveries = server.publish_as(APP, event(ShardTarget::All, &json!([number, padding]))).unwrap();
        assert_eq!(deliveries.len(), 2);
        let heard = reading.hear();
        assert_eq!((&heard["s"], &heard["data"][0]), (&json!(number), &json!(number)));
    };
    while server.fleet(APP)[1].owner.is_some() {
        (0..20).for_each(|_| publish());
        if let Ok(info) = server.wait(server.node().connection(connection)) {
            most = most.max(info.outbox_bytes);
        }
    }
    // One part of the log and what stood before it, and the rest is in the log, which has its own bound.
    assert!((64 * KIB..=400 * KIB).contains(&most), "{most} bytes waited");
    // What it had been sent is a beginning.
    let (mut came, code) = to_the_end(&mut stuck);
    assert!(matches!(code, None | Some(4021 | 4026)), "{code:?}");
    came.retain(|message| message["type"] == 8);
    assert!(came.iter().zip(1..).all(|(message, s)| message["s"] == s as u64), "in order and once");
    // And the end of what it is sent later is not hidden.
    (0..250).for_each(|_| publish());
    let (last, record) = (came.len() as u64, server.fleet(APP).remove(1));
    assert!(record.last - record.floor <= 200 && record.floor > last, "{last} events came: {record:?}");
    let of_shard_1 = credentials().of_shard(1);
    let refusal = server.shard().resume(&of_shard_1, &session, Some(last)).unwrap_err();
    assert_eq!(refusal["event"], "GATEWAY_INVALID");
    server.shard().resume(&of_shard_1, &session, Some(record.floor)).unwrap();
    reading.expect_silence();
}

#[test]
fn a_client_that_stops_reading_for_a_while_and_whose_log_wraps_is_told_and_closed() {
    const KIB: usize = 1 << 10;
    let server = serving(&[
        "servers.gateway.replay_max_events=50",
        "servers.gateway.publish_wait=0ms",
        "servers.gateway.heartbeat_interval=60s",
    ]);
    let (mut stuck, session) = server.registered();
    let padding = "x".repeat(16 * KIB);
    // More than kernels and the connection hold.
    for number in 0..2000 {
        server.publish_as(APP, event(ShardTarget::Shard(0), &json!([number, padding]))).unwrap();
    }
    let (came, code) = to_the_end(&mut stuck);
    let (told, events) = came.split_last().unwrap();
    assert_eq!(
        (&told["data"]["code"], &told["data"]["reason"]),
        (&json!(4026), &json!("slow_consumer")),
        "{told:.200}"
    );
    assert_eq!(code, Some(4026));
    assert!(events.iter().zip(1..).all(|(message, s)| message["s"] == s as u64));
    let last = events.len() as u64;
    assert!(last < 1950, "{last} of 2000 came");
    let refusal = server.shard().resume(&credentials(), &session, Some(last)).unwrap_err();
    assert_eq!(refusal["event"], "GATEWAY_INVALID");
}

/// Publishes more than a client that does not read is sent, and returns when the publisher waits for it.
#[track_caller]
fn publish_until_held_up(server: &TestServer, events: u64) -> JoinHandle<()> {
    let (node, is_done) = (server.node().clone(), Arc::new(AtomicBool::new(false)));
    let done = Arc::clone(&is_done);
    let publishing = server.spawn(async move {
        let padding = "x".repeat(8 << 10);
        for number in 1..=events {
            node.publish_event(APP, event(ShardTarget::Shard(0), &json!([number, padding]))).await.unwrap();
        }
        done.store(true, Ordering::Relaxed);
    });
    let (mut before, mut same) = (0, 0);
    eventually("the publisher waits", || {
        let last = server.fleet(APP)[0].last;
        same = if std::mem::replace(&mut before, last) == last && last > 100 { same + 1 } else { 0 };
        same == 20
    });
    assert!(!is_done.load(Ordering::Relaxed) && before < events);
    publishing
}

const SLOW: [&str; 2] = ["servers.gateway.replay_max_events=100", "servers.gateway.publish_wait=60s"];

#[test]
fn a_publisher_waits_for_a_client_that_reads_slowly_before_events_are_lost() {
    const EVENTS: u64 = 2000;
    let server = serving(&SLOW);
    let (mut client, _) = server.registered();
    let publishing = publish_until_held_up(&server, EVENTS);
    for s in 1..=EVENTS {
        assert_eq!(client.hear()["s"], s);
    }
    server.wait(publishing).unwrap();
}

#[test]
fn a_publisher_does_not_wait_for_a_client_that_is_gone() {
    let server = serving(&SLOW);
    let (client, _) = server.registered();
    let publishing = publish_until_held_up(&server, 2000);
    reset(client);
    server.wait(publishing).unwrap();
    assert_eq!(server.fleet(APP)[0].last, 2000);
}

#[test]
fn a_client_without_numbers_of_its_own_is_sent_again_what_its_host_may_not_have_read() {
    let server = serving(&["servers.gateway.heartbeat_interval=50ms", "servers.gateway.rate_messages=0"]);
    let (mut client, session) = server.registered();
    server.publish(1..=300);
    expect_events(&mut client, 1, 1..=300);
    // Its host answers a ping that was sent behind them.
    eventually("it is known what was received", || {
        client.ping(None);
        thread::park_timeout(Duration::from_millis(10));
        let shards = server.wait(server.node().shards_of(APP, false)).unwrap();
        shards[0].record.received == 300 && shards[0].round_trip_us.is_some()
    });
    client.set_deaf(true);
    server.publish(301..=305);
    expect_events(&mut client, 301, 301..=305);
    client.hang_up();
    server.until_detached();
    let mut client = server.shard();
    let resumed = client.resume(&credentials(), &session, None).unwrap();
    assert_eq!(hash_of(&stats(&resumed)[0]), server.fleet(APP)[0].id);
    expect_events(&mut client, 301, 301..=305);
    client.expect_silence();
}
