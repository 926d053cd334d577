//! The planned stop and what comes after it: shards are told when to come back, and find their sessions.

use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;
use switchboard::Config;
use switchboard::backend::sessions::shards::ShardTarget;
use switchboard::config::BackendKind;
use switchboard_testkit::client::PATIENCE;
use switchboard_testkit::gateway::{Credentials, GatewayClient};

use super::gateway_support::{
    APPLICATIONS, assert_gone, credentials, expect_events, numbered, publish_to, register, serving, to_the_end,
};
use super::peer::{Folder, Running};
use super::support;

/// A configuration of applications whose sessions outlive the process.
fn in_a_file(folder: &Folder, settings: &[&str]) -> Config {
    let mut config = support::config(&[&[APPLICATIONS], settings].concat());
    config.backend.kind = BackendKind::File;
    config.node.data_dir = folder.join("data");
    config
}

#[test]
fn fault_row_37_a_planned_stop_tells_shards_when_to_come_back_spreads_that_and_keeps_sessions() {
    const SHARDS: u32 = 60;
    let folder = Folder::new();
    let settings = ["servers.gateway.drain_spread=600ms", "servers.gateway.drain_grace=5s", "node.drain_timeout=6s"];
    let mut running = Running::start(in_a_file(&folder, &settings));
    let connect = |running: &Running| GatewayClient::connect(running.web()).unwrap();
    let mut shards: Vec<_> = (0..SHARDS)
        .map(|shard| {
            let mut client = connect(&running);
            let session = register(&mut client, &credentials().of_shard(shard));
            (client, session)
        })
        .collect();
    running.block_on(publish_to(running.node(), 1..=3));
    expect_events(&mut shards[0].0, 1, 1..=3);
    let mut stranger = connect(&running);
    let (begun, stopping) = (Instant::now(), running.stop());
    let mut delays: Vec<u64> = Vec::new();
    for (client, _) in &mut shards {
        let told = client.expect("GATEWAY_RECONNECT");
        assert_eq!((&told["type"], &told["service"]), (&json!(7), &json!("gateway")));
        delays.push(told["data"]["reconnect_after_ms"].as_u64().unwrap());
    }
    assert!(delays.iter().all(|ms| *ms <= 600), "{delays:?}");
    // Spread evenly: each third has at least a few.
    for third in 0..3 {
        let count = delays.iter().filter(|ms| (third * 200..(third + 1) * 200).contains(*ms)).count();
        assert!(count >= 5, "{count} of {SHARDS} in third {third}: {delays:?}");
    }
    // Until then they are served.
    shards[1].0.send(&json!({"type": 3}));
    assert!(to_the_end(&mut stranger).0.is_empty(), "it was never registered");
    stranger.hang_up();
    let sessions: Vec<String> = shards
        .into_iter()
        .map(|(mut client, session)| {
            let (came, code) = to_the_end(&mut client);
            assert!(came.len() <= 1 && code == Some(1012), "{code:?} {came:?}");
            session
        })
        .collect();
    running.block_on(stopping).unwrap();
    assert!(begun.elapsed() < Duration::from_secs(5), "nobody holds it up: {:?}", begun.elapsed());

    let running = Running::start(in_a_file(&folder, &settings));
    running.block_on(publish_to(running.node(), 4..=5));
    // In any order, shard 0 last.
    for (shard, session) in sessions.iter().enumerate().rev() {
        let mut client = connect(&running);
        let credentials = credentials().of_shard(u32::try_from(shard).unwrap());
        let resumed = client.resume(&credentials, session, (shard == 0).then_some(2)).unwrap();
        assert_eq!(resumed["session_id"], *session);
        if shard == 0 {
            expect_events(&mut client, 3, 3..=5);
        }
    }
}

#[test]
fn fault_row_37_a_shard_that_does_not_go_does_not_hold_the_stop_up() {
    let mut server =
        serving(&["servers.gateway.drain_spread=60s", "servers.gateway.drain_grace=200ms", "node.drain_timeout=10s"]);
    let (mut client, _) = server.registered();
    let (begun, stopping) = (Instant::now(), server.begin_stop());
    let told = client.expect("GATEWAY_RECONNECT");
    assert!(told["data"]["reconnect_after_ms"].as_u64().unwrap() <= 200, "{told}");
    assert_eq!(client.closed(), Some(1012));
    client.hang_up();
    server.wait(stopping).unwrap();
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
}

#[test]
fn sessions_in_memory_end_with_the_process_and_are_refused_as_unknown_ones() {
    let server = serving(&["servers.gateway.drain_spread=0ms"]);
    let (client, session) = server.registered();
    client.hang_up();
    server.stop();
    let server = serving(&[]);
    assert_gone(&server, &session);
}

/// Applications of so many shards each: the credentials of them all.
fn crowd(applications: u32, shards: u32) -> Vec<Credentials> {
    let of = |application| Credentials::new(&format!("key{application}"), "secret");
    (0..applications).flat_map(|application| (0..shards).map(move |shard| of(application).of_shard(shard))).collect()
}

#[test]
fn fault_row_32_hundreds_of_shards_that_come_back_at_once_find_their_sessions_and_what_they_missed() {
    const APPLICATIONS: u32 = 20;
    const SHARDS: u32 = 25;
    const THREADS: usize = 4;
    let applications: String = (0..APPLICATIONS)
        .map(|number| format!(r#"{{id="app{number}",public_key="key{number}",secret="secret"}},"#))
        .collect();
    let applications = format!("gateway.applications=[{applications}]");
    let folder = Folder::new();
    let start = || {
        let mut config = support::config(&[&applications, "servers.gateway.drain_spread=50ms"]);
        config.backend.kind = BackendKind::File;
        config.node.data_dir = folder.join("data");
        Running::start(config)
    };
    let mut running = start();
    let mut clients = Vec::new();
    let sessions: Vec<(Credentials, String)> = crowd(APPLICATIONS, SHARDS)
        .into_iter()
        .map(|credentials| {
            let mut client = GatewayClient::connect(running.web()).unwrap();
            let session = register(&mut client, &credentials);
            clients.push(client);
            (credentials, session)
        })
        .collect();
    for application in 0..APPLICATIONS {
        let all = numbered(ShardTarget::All, 1);
        let id = format!("app{application}");
        let published = running.block_on(running.node().publish_event(&id, all)).unwrap();
        assert_eq!(published.deliveries.len(), SHARDS as usize);
    }
    let stopping = running.stop();
    drop(clients);
    running.block_on(stopping).unwrap();

    let running = start();
    let (address, begun) = (running.web(), Instant::now());
    let back: usize = thread::scope(|scope| {
        let coming: Vec<_> = sessions
            .chunks(sessions.len().div_ceil(THREADS))
            .map(|mine| {
                scope.spawn(move || {
                    // All are there before the first one asks.
                    let mut clients: Vec<_> = mine.iter().map(|_| GatewayClient::connect(address).unwrap()).collect();
                    for (client, (credentials, session)) in clients.iter_mut().zip(mine) {
                        client.send(&credentials.resumption(session, Some(0)));
                    }
                    for client in &mut clients {
                        client.expect("GATEWAY_RESUMED");
                        expect_events(client, 1, [1]);
                    }
                    clients
                })
            })
            .collect();
        coming.into_iter().map(|coming| coming.join().unwrap().len()).sum()
    });
    assert_eq!(back, (APPLICATIONS * SHARDS) as usize);
    assert!(begun.elapsed() < PATIENCE, "{:?}", begun.elapsed());
    let sessions = running.block_on(running.node().shard_sessions()).unwrap();
    assert!(sessions.len() == back && sessions.iter().all(|session| session.record.last == 1));
}
