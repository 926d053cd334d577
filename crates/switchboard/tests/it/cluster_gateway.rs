//! Bots of the gateway in a cluster: whatever node they are with, and when it is killed.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use switchboard_testkit::client::PATIENCE;
use switchboard_testkit::cluster::{Cluster, ClusterOptions, Place, RedisServer, eventually};
use switchboard_testkit::gateway::{GatewayClient, News, Pace, ResumingBot};

use super::gateway_kills::{Ledger, PUBLISHERS, credentials, keep_publishing, kills, next_event, publish};
use super::gateway_support::stats;

const NODES: usize = 3;

fn start(redis: &RedisServer) -> Cluster {
    let options = ClusterOptions::new(env!("CARGO_BIN_EXE_switchboard"), NODES).redis(redis);
    let options = options.set("rooms.starting=[{ name = \"lobby\" }]").set("servers.gateway.replay_max_events=100000");
    let options = options.set("servers.gateway.replay_max_bytes=64MiB").set("servers.gateway.rate_messages=0");
    let applications = "[[gateway.applications]]\nid = \"822\"\npublic_key = \"3f0c\"\nsecret = \"correct-horse\"\n";
    options.config(applications).start()
}

/// Where one can go: another of the nodes that run each time.
fn anywhere(cluster: &Cluster) -> impl Fn() -> Option<SocketAddr> + Send + Clone + 'static {
    let places: Vec<Place> = (0..NODES).map(|node| cluster.place(node)).collect();
    let next = Arc::new(AtomicUsize::new(0));
    move || {
        let from = next.fetch_add(1, Ordering::Relaxed);
        (0..NODES).find_map(|step| places[(from + step) % NODES].find()).map(|addresses| addresses.web)
    }
}

fn bot(cluster: &Cluster, seed: u64) -> ResumingBot {
    let pace = Pace { heartbeat: Duration::from_millis(500), ..Pace::quick() };
    ResumingBot::new(credentials(), pace, seed, anywhere(cluster))
}

#[test]
fn fault_row_36_nothing_is_lost_doubled_or_reordered_when_nodes_are_killed() {
    let (redis, mut random) = (RedisServer::start(), fastrand::Rng::with_seed(7));
    let cluster = start(&redis);
    let mut bot = bot(&cluster, 7);
    assert_eq!(bot.next(PATIENCE).unwrap(), News::Ready);
    let session = bot.session().unwrap().id.clone();
    let stop = Arc::new(AtomicBool::new(false));
    let publishers: Vec<_> =
        (0..PUBLISHERS).map(|publisher| keep_publishing(anywhere(&cluster), publisher, &stop)).collect();
    let mut ledger = Ledger::default();
    for _ in 0..kills() {
        let wanted = ledger.sum() + random.u64(0..200);
        while ledger.sum() < wanted {
            ledger.book(&next_event(&mut bot));
        }
        let node = random.usize(0..NODES);
        cluster.kill(node);
        ledger.book(&next_event(&mut bot));
        cluster.restart(node);
    }
    stop.store(true, Ordering::Relaxed);
    let published: Vec<u64> = publishers.into_iter().map(|publisher| publisher.join().unwrap()).collect();
    while ledger.sum() < published.iter().sum() {
        ledger.book(&next_event(&mut bot));
    }
    assert_eq!(ledger.0.as_slice(), published);
    assert_eq!(bot.session().unwrap().id, session, "one session throughout");
    assert_eq!(bot.figures().invalid, 0);
}

/// The number of the latest message of a room that a bot was told.
fn told(client: &mut GatewayClient) -> (u64, Value) {
    let event = client.expect("GATEWAY_ROOM_MESSAGE");
    (event["data"]["number"].as_u64().unwrap(), event["data"]["message"].clone())
}

fn join(cluster: &Cluster, node: usize, session: &str) {
    cluster.admin(node).ask("PUT", &format!("/v1/rooms/lobby/members/{session}")).expect(201);
}

fn broadcast(cluster: &Cluster, node: usize, text: &str) {
    let said = cluster.admin(node).send("POST", "/v1/rooms/lobby/broadcast", &json!({ "message": text }));
    said.expect(200);
}

#[test]
fn what_a_room_says_reaches_a_bot_that_was_put_into_it_through_another_node() {
    let redis = RedisServer::start();
    let cluster = start(&redis);
    let mut client = GatewayClient::connect(cluster.web_addr(0)).unwrap();
    let ready = client.register(&credentials()).unwrap();
    let hash = stats(&ready)[0]["shard_hash"].as_str().unwrap().to_owned();
    join(&cluster, 1, &hash);
    broadcast(&cluster, 2, "from another node");
    assert_eq!(told(&mut client).1, "from another node");
    for node in 0..NODES {
        assert_eq!(cluster.members(node, "lobby"), std::slice::from_ref(&hash), "as node {node} sees it");
    }
    // Told what only it is to know, and ended, by whichever node.
    let message =
        cluster.admin(2).send("POST", &format!("/v1/connections/{hash}/message"), &json!({"message": "psst"}));
    message.expect(200);
    assert_eq!(client.expect("GATEWAY_MESSAGE")["data"], "psst");
    cluster.admin(1).ask("DELETE", &format!("/v1/gateway/sessions/{hash}")).expect(200);
    assert_eq!(client.expect("GATEWAY_ERROR")["data"]["code"], 4027);
    assert_eq!(client.closed(), Some(4027));
    eventually("it has left", || cluster.members(2, "lobby").is_empty());
}

#[test]
fn fault_row_33_a_bot_of_a_killed_node_is_told_in_order_what_its_rooms_said_meanwhile() {
    let redis = RedisServer::start();
    let cluster = start(&redis);
    let mut client = GatewayClient::connect(cluster.web_addr(0)).unwrap();
    let ready = client.register(&credentials()).unwrap();
    let (session, hash) = (ready["session_id"].as_str().unwrap(), &stats(&ready)[0]["shard_hash"]);
    join(&cluster, 0, hash.as_str().unwrap());
    broadcast(&cluster, 1, "before");
    assert_eq!(told(&mut client).1, "before");
    cluster.kill(0);
    for number in 0..5 {
        broadcast(&cluster, 1, &format!("meanwhile {number}"));
    }
    // It stays a member, whoever writes for it.
    eventually("somebody has adopted it", || {
        let sessions = cluster.admin(2).ask("GET", "/v1/gateway/sessions").expect(200);
        sessions["items"][0]["attached"] == false && cluster.members(2, "lobby").len() == 1
    });
    broadcast(&cluster, 2, "later");
    let mut client = GatewayClient::connect(cluster.web_addr(2)).unwrap();
    client.resume(&credentials(), session, Some(1)).unwrap();
    broadcast(&cluster, 1, "after");
    let expected = (0..5).map(|number| format!("meanwhile {number}")).chain(["later".into(), "after".into()]);
    for (number, text) in (2..).zip(expected) {
        assert_eq!(told(&mut client), (number, json!(text)));
    }
    client.expect_silence();
}

#[test]
fn a_bot_that_resumes_elsewhere_is_closed_where_it_was() {
    let redis = RedisServer::start();
    let cluster = start(&redis);
    let mut first = GatewayClient::connect(cluster.web_addr(0)).unwrap();
    let ready = first.register(&credentials()).unwrap();
    let session = ready["session_id"].as_str().unwrap();
    let find = || Some(cluster.web_addr(1));
    publish(&find, "one", &json!(1));
    assert_eq!(first.expect("COUNTED")["s"], 1);
    let mut second = GatewayClient::connect(cluster.web_addr(2)).unwrap();
    second.resume(&credentials(), session, Some(1)).unwrap();
    assert_eq!(first.expect("GATEWAY_ERROR")["data"]["code"], 4020);
    assert_eq!(first.closed(), Some(4020));
    publish(&find, "two", &json!(2));
    assert_eq!(second.expect("COUNTED")["s"], 2);
}
