//! Nodes that share a directory: who sees whom, and what becomes of members when their node dies, sleeps, or Redis forgets.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use switchboard::proto::id::ConnId;
use switchboard::{Config, Server};
use switchboard_testkit::client::LineClient;
use switchboard_testkit::cluster::{
    Cluster, ClusterOptions, Data, Direction, FaultProxy, RedisServer, eventually, within,
};

use super::support::{TestServer, config};

/// Short, so that a test need not wait long for a death; long enough for a busy machine.
const LEASE: &str = "backend.redis.lease=2s";
const ROOM: &str = "lobby";

/// Who left which room, as a node was told.
type Leaves = Arc<Mutex<Vec<(ConnId, String, Option<String>)>>>;

fn settings<'a>(redis: &str, name: &'a str, more: &[&'a str]) -> Vec<String> {
    let mut settings = vec![
        "backend.kind=redis".to_owned(),
        format!("backend.redis.url={redis}"),
        format!("node.name={name}"),
        LEASE.to_owned(),
        "backend.redis.audit_interval=1s".to_owned(),
        "rooms.starting=[{ name = \"lobby\" }, { name = \"vip\", auth = { plan = \"gold\" } }]".to_owned(),
    ];
    settings.extend(more.iter().map(|&setting| setting.to_owned()));
    settings
}

/// A node that writes down whom it tells to have left.
fn node(redis: &str, name: &str) -> (TestServer, Leaves) {
    let (settings, leaves) = (settings(redis, name, &[]), Leaves::default());
    let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
    let noted = Arc::clone(&leaves);
    let server = TestServer::build(&settings, |builder| {
        builder.setup(move |node| {
            node.add_leave_callback(100, move |change| {
                let connection = change.connection();
                let user = connection.user().map(|user| user.id().to_owned());
                noted.lock().unwrap().push((connection.id(), connection.remote().to_string(), user));
            });
        })
    });
    (server, leaves)
}

fn members(server: &TestServer) -> Vec<ConnId> {
    let status = server.wait(server.node().room_status(ROOM));
    status.map(|status| status.members.iter().map(|member| member.id).collect()).unwrap_or_default()
}

/// How often each of these is noted to have left.
fn told(leaves: &Leaves) -> HashMap<ConnId, usize> {
    let mut told = HashMap::new();
    leaves.lock().unwrap().iter().for_each(|(id, ..)| *told.entry(*id).or_default() += 1);
    told
}

#[test]
fn joins_and_leaves_are_seen_at_every_node_at_once_and_told_where_the_connection_is() {
    let redis = RedisServer::start();
    let [(a, left_a), (b, left_b)] = ["a", "b"].map(|name| node(&redis.url(), name));
    let mut clients = a.connect_into(2, &[ROOM]);
    clients.extend(b.connect_into(1, &[ROOM]));
    let began = Instant::now();
    eventually("all see all", || members(&a).len() == 3 && members(&a) == members(&b));
    let status = clients[2].ask("roomView lobby");
    assert_eq!(status["data"]["membersCount"], 3, "{status}");
    assert!(began.elapsed() < Duration::from_millis(500), "{:?}", began.elapsed());
    let leaver = a.id_of(&clients[0]);
    clients[0].ask("roomLeave lobby");
    eventually("nobody sees it any more", || members(&b).len() == 2);
    assert_eq!((told(&left_a), told(&left_b).len()), (HashMap::from([(leaver, 1)]), 0));
    let size = b.wait(b.node().directory_size()).unwrap();
    assert_eq!(size.rooms, 2);
    eventually("each knows how many the others have", || b.wait(b.node().directory_size()).unwrap().members == 2);
    let nodes: Vec<String> = a.node().nodes().into_iter().map(|node| node.name).collect();
    assert_eq!(nodes, ["a", "b"]);
}

#[test]
fn a_node_that_starts_finds_the_rooms_with_the_patterns_that_they_have() {
    let redis = RedisServer::start();
    let (a, _) = node(&redis.url(), "a");
    assert!(a.wait(a.node().add_room("made")).unwrap());
    a.wait(a.node().set_authentication_pattern("made", "plan", "silver")).unwrap();
    a.wait(a.node().clear_authentication_pattern("vip")).unwrap();
    let (b, _) = node(&redis.url(), "b");
    let client = b.connect();
    let stranger = b.id_of(&client);
    let may = |server: &TestServer, room: &str| server.wait(server.node().authorize(stranger, room));
    // The operator has opened the starting room "vip", and neither node closes it again when it starts.
    assert_eq!((may(&b, "made").ok(), may(&b, "vip").ok(), may(&b, ROOM).ok()), (Some(false), Some(true), Some(true)));
    assert_eq!(b.wait(b.node().rooms()).unwrap().len(), 3);
    drop(a);
    let (a, _) = node(&redis.url(), "a");
    assert_eq!((may(&a, "made").ok(), may(&a, "vip").ok(), may(&a, ROOM).ok()), (Some(false), Some(true), Some(true)));
}

#[test]
fn fault_row_33_members_of_a_node_that_dies_leave_at_one_survivor_once() {
    let redis = RedisServer::start();
    let [(a, _), (b, left_b), (c, left_c)] = ["a", "b", "c"].map(|name| node(&redis.url(), name));
    let clients = a.connect_into(5, &[ROOM]);
    let _others = [b.connect_into(1, &[ROOM]), c.connect_into(1, &[ROOM])];
    let user = "somebody";
    let known = a.id_of(&clients[0]);
    a.node().set_connection_user(known, a.node().user_named(user).ok()).unwrap();
    let mut again = clients;
    again[0].ask("roomLeave lobby");
    again[0].ask("roomAdd lobby");
    let mut dead: Vec<ConnId> = again.iter().map(|client| a.id_of(client)).collect();
    eventually("all are there", || members(&b).len() == 7);
    drop(a);
    eventually("the dead are gone", || members(&b).len() == 2 && members(&c).len() == 2);
    eventually("all are told", || told(&left_b).len() + told(&left_c).len() == 5);
    let mut all: Vec<(ConnId, String, Option<String>)> = left_b.lock().unwrap().clone();
    all.extend(left_c.lock().unwrap().clone());
    dead.sort_unstable();
    let mut ids: Vec<ConnId> = all.iter().map(|(id, ..)| *id).collect();
    ids.sort_unstable();
    assert_eq!(ids, dead, "each once");
    for (id, remote, told_user) in all {
        assert_eq!(remote, "127.0.0.1");
        assert_eq!(told_user.as_deref(), (id == known).then_some(user));
    }
    let buried: u64 = [&b, &c].map(|node| node.node().cluster_figures().unwrap().buried_members).iter().sum();
    assert_eq!(buried, 5);
}

/// A survivor loses Redis at the moment when it announces the first leave, and dies.
#[test]
fn fault_row_33_each_leave_is_announced_by_a_living_node_when_the_node_that_cleans_up_dies() {
    let redis = RedisServer::start();
    let (a, _) = node(&redis.url(), "a");
    let way = Arc::new(FaultProxy::start(redis.address()));
    let (cut, begun) = (Arc::clone(&way), Arc::new(AtomicBool::new(false)));
    let noted = Arc::clone(&begun);
    let settings = settings(&redis.url_through(way.address()), "b", &["backend.redis.timeout=500ms"]);
    let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
    let b = TestServer::build(&settings, |builder| {
        builder.setup(move |node| {
            node.add_leave_callback(100, move |_| {
                cut.sever();
                noted.store(true, Ordering::Release);
            });
        })
    });
    let clients = a.connect_into(5, &[ROOM]);
    let mut dead: Vec<ConnId> = clients.iter().map(|client| a.id_of(client)).collect();
    eventually("all are there", || members(&b).len() == 5);
    drop(a);
    eventually("b cleans up", || begun.load(Ordering::Acquire));
    drop(b);
    let (c, left_c) = node(&redis.url(), "c");
    eventually("the dead are gone", || members(&c).is_empty() && told(&left_c).len() == 5);
    eventually("both dead nodes are cleaned up after", || c.node().cluster_figures().unwrap().buried_nodes == 2);
    let mut ids: Vec<ConnId> = left_c.lock().unwrap().iter().map(|(id, ..)| *id).collect();
    ids.sort_unstable();
    dead.sort_unstable();
    assert_eq!(ids, dead, "each once");
}

/// The store refuses to remove the members whose leave was announced, so that the node has to try again.
#[test]
fn a_leave_is_announced_once_although_its_member_is_removed_at_a_later_attempt() {
    let redis = Arc::new(RedisServer::start());
    let (a, _) = node(&redis.url(), "a");
    let settings = settings(&redis.url(), "b", &[]);
    let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
    let leaves = Leaves::default();
    let (noted, store) = (Arc::clone(&leaves), Arc::clone(&redis));
    let b = TestServer::build(&settings, |builder| {
        builder.setup(move |node| {
            node.add_leave_callback(100, move |change| {
                let mut noted = noted.lock().unwrap();
                if noted.is_empty() {
                    store.command(&["ACL", "SETUSER", "default", "-hdel"]);
                }
                noted.push((change.connection().id(), String::new(), None));
            });
        })
    });
    let _clients = a.connect_into(3, &[ROOM]);
    eventually("all are there", || members(&b).len() == 3);
    drop(a);
    eventually("a removal is refused", || redis.command(&["ACL", "LOG"]).contains("hdel"));
    redis.command(&["ACL", "SETUSER", "default", "+@all"]);
    eventually("the dead node is cleaned up after", || b.node().cluster_figures().unwrap().buried_nodes == 1);
    assert!(members(&b).is_empty());
    let told = told(&leaves);
    assert!(told.len() == 3 && told.values().all(|times| *times == 1), "{told:?}");
}

#[test]
fn a_planned_stop_is_told_and_nobody_leaves_twice() {
    let redis = RedisServer::start();
    let [(a, left_a), (b, left_b)] = ["a", "b"].map(|name| node(&redis.url(), name));
    let _clients = a.connect_into(3, &[ROOM]);
    eventually("all are there", || members(&b).len() == 3);
    a.stop();
    eventually("they are gone", || members(&b).is_empty() && b.node().nodes().len() == 1);
    eventually("the grave is closed", || b.node().cluster_figures().unwrap().buried_nodes == 1);
    assert_eq!((told(&left_a).len(), told(&left_b).len()), (3, 0));
}

#[test]
fn fault_row_48_a_redis_that_forgets_everything_is_told_again_who_is_where() {
    let mut redis = RedisServer::start();
    let [(a, left_a), (b, left_b)] = ["a", "b"].map(|name| node(&redis.url(), name));
    let _clients = [a.connect_into(3, &[ROOM]), b.connect_into(2, &[ROOM])];
    a.wait(a.node().set_pattern(ROOM, switchboard::backend::Pattern::new().with("type", "socket"))).unwrap();
    let before = members(&a);
    for forget in [
        |redis: &mut RedisServer| drop(redis.command(&["FLUSHALL"])),
        |redis: &mut RedisServer| redis.restart(Data::Deleted),
    ] {
        forget(&mut redis);
        let began = Instant::now();
        eventually("everybody is there again", || members(&a) == before && members(&b) == before);
        assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
        eventually("rooms of the configuration too", || a.wait(a.node().room_exists("vip")).unwrap_or(false));
        let client = b.connect();
        let stranger = b.id_of(&client);
        assert_eq!(b.wait(b.node().authorize(stranger, "vip")).ok(), Some(false), "with their patterns");
        eventually("the nodes know each other", || a.node().nodes().len() == 2);
    }
    assert_eq!((told(&left_a).len(), told(&left_b).len()), (0, 0));
}

#[test]
fn two_nodes_of_one_name_do_not_throw_each_other_out_again_and_again() {
    let redis = RedisServer::start();
    let [(first, _), (second, _)] = ["a"; 2].map(|name| node(&redis.url(), name));
    let figures = |server: &TestServer| server.node().cluster_figures().unwrap();
    let refused = || figures(&first).store.errors.into_iter().find(|(reason, _)| *reason == "fenced").unwrap().1;
    // Thrown out, and then refused twice.
    eventually("the first one has tried", || figures(&first).fenced == 1 && refused() >= 3);
    assert_eq!((figures(&first).is_up, figures(&second).is_up, figures(&second).fenced), (false, true, 0));
    drop(second);
    eventually("the name is free", || figures(&first).is_up);
    assert_eq!(figures(&first).fenced, 1);
}

#[test]
fn fault_row_53_rows_of_nobody_vanish_from_a_room_and_nobody_notices() {
    let redis = RedisServer::start();
    let (a, left) = node(&redis.url(), "a");
    let mut clients = a.connect_into(1, &[ROOM]);
    let rows = "switchboard:{r:lobby}:members";
    redis.command(&["HSET", rows, "garbage", "garbage", &"0".repeat(32), "1\t900\t900\t5\t{}"]);
    redis.command(&["SADD", "switchboard:{nodes}:rooms", "nowhere"]);
    eventually("they are gone", || redis.command(&["HLEN", rows]) == "1");
    eventually("so is the name", || !redis.command(&["SMEMBERS", "switchboard:{nodes}:rooms"]).contains("nowhere"));
    let corrected =
        || -> HashMap<_, _> { a.node().cluster_figures().unwrap().corrections.by_what().into_iter().collect() };
    eventually("it is counted", || ["garbage", "foreign"].iter().all(|what| corrected()[what] > 0));
    assert_eq!((corrected()["garbage"], corrected()["foreign"]), (1, 1));
    // Whoever it was, nobody had told that it left.
    eventually("it has left", || left.lock().unwrap().len() == 1);
    assert_eq!(clients[0].ask("roomView lobby")["data"]["membersCount"], 1);
}

#[test]
fn fault_row_54_another_cluster_or_another_format_under_the_same_prefix_is_refused_at_the_start() {
    let redis = RedisServer::start();
    let (_a, _) = node(&redis.url(), "a");
    let refused = |more: &[&str]| {
        let settings = settings(&redis.url(), "b", more);
        let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let config: Config = config(&settings);
        runtime.block_on(Server::builder(config).start()).expect_err("it must not start").to_string()
    };
    let other = refused(&["backend.redis.cluster=another"]);
    assert!(other.contains("\"switchboard\"") && other.contains("\"another\""), "{other}");
    redis.command(&["HSET", "switchboard:{nodes}:meta", "format", "0"]);
    let format = refused(&[]);
    assert!(format.contains("format 0"), "{format}");
}

/// Processes, for what cannot be done to a part of one.
fn processes(redis: &RedisServer, nodes: usize) -> Cluster {
    let options = ClusterOptions::new(env!("CARGO_BIN_EXE_switchboard"), nodes).redis(redis);
    let options = options.set("rooms.starting=[{ name = \"lobby\" }]").set(LEASE);
    options.set("backend.redis.audit_interval=1s").start()
}

fn joined(cluster: &Cluster, node: usize) -> LineClient {
    let mut client = LineClient::tcp(cluster.socket_addr(node)).unwrap();
    client.read_json();
    assert_eq!(client.ask("roomAdd lobby")["data"], true);
    client
}

fn figure(cluster: &Cluster, node: usize, name: &str) -> f64 {
    let mut page = String::new();
    eventually("figures", || {
        let answer = cluster.admin(node).ask("GET", "/metrics");
        page = answer.body;
        answer.status == 200
    });
    let line = page.lines().find(|line| line.split(' ').next() == Some(name));
    line.and_then(|line| line.rsplit(' ').next()).unwrap_or_else(|| panic!("no {name} in {page}")).parse().unwrap()
}

#[test]
fn fault_row_34_a_node_that_slept_shortly_goes_on_and_one_that_slept_for_long_begins_anew() {
    let redis = RedisServer::start();
    let cluster = processes(&redis, 2);
    let (mut sleeper, mut other) = (joined(&cluster, 0), joined(&cluster, 1));
    cluster.pause(0);
    assert!(!within(Duration::from_millis(500), || cluster.members(1, ROOM).len() < 2), "it is not dead yet");
    cluster.cont(0);
    assert_eq!(sleeper.ask("roomView lobby")["data"]["membersCount"], 2);

    cluster.pause(0);
    eventually("its members are gone", || cluster.members(1, ROOM).len() == 1);
    cluster.cont(0);
    // As after a planned stop, so that it comes back.
    let goodbye: Value = sleeper.read_json();
    assert_eq!(goodbye, json!({"status": "Bye!", "context": "api"}));
    sleeper.expect_fin();
    eventually("it is part of the cluster again", || cluster.admin(0).ask("GET", "/readyz").status == 200);
    assert_eq!(figure(&cluster, 0, "switchboard_cluster_fenced_total"), 1.0);
    assert_eq!(figure(&cluster, 0, "switchboard_connections_closed_total{reason=\"fenced\"}"), 1.0);
    let _back = joined(&cluster, 0);
    eventually("all see all", || cluster.members(0, ROOM).len() == 2 && cluster.members(1, ROOM).len() == 2);
    assert_eq!(other.ask("roomView lobby")["data"]["membersCount"], 2);
}

/// A node that reads figures of Redis at this interval.
fn node_with_figures(redis: &RedisServer, interval: &str) -> Cluster {
    let options = ClusterOptions::new(env!("CARGO_BIN_EXE_switchboard"), 1).redis(redis);
    let options = options.set("rooms.starting=[{ name = \"lobby\" }]").set(LEASE);
    options.set(&format!("backend.redis.figures_interval={interval}")).start()
}

#[test]
fn figures_are_answered_while_redis_is_silent_without_those_that_it_holds() {
    let redis = RedisServer::start();
    let cluster = node_with_figures(&redis, "100ms");
    let _client = joined(&cluster, 0);
    let figures = || cluster.admin(0).ask("GET", "/v1/node").expect(200);
    let is_known = |known: f64| figure(&cluster, 0, "switchboard_cluster_figures_known") == known;
    eventually("the figures are read", || figures()["members"] == 1);
    assert!(is_known(1.0));
    assert_eq!((&figures()["rooms"], figure(&cluster, 0, "switchboard_members")), (&json!(1), 1.0));

    redis.pause();
    eventually("the node notices", || cluster.admin(0).ask("GET", "/readyz").status == 503);
    // What was read last is not shown although it is not old yet.
    assert!(is_known(0.0));
    eventually("the log says what to do", || cluster.log(0).contains("check that Redis runs at backend.redis.url"));
    let shown = figures();
    assert_eq!((&shown["rooms"], &shown["members"], &shown["connections"]), (&Value::Null, &Value::Null, &json!(1)));
    let answer = cluster.admin(0).ask("GET", "/metrics");
    assert_eq!(answer.status, 200);
    let has = |sample: &str| answer.body.lines().any(|line| line.starts_with(sample));
    assert!(has("switchboard_connections{type=\"socket\"}"), "{}", answer.body);
    assert!(has("switchboard_gateway_sessions{state=\"attached\"} 0"), "{}", answer.body);
    for absent in ["switchboard_rooms", "switchboard_members", "switchboard_gateway_log_", "state=\"detached\""] {
        assert!(!answer.body.contains(absent), "{absent} in {}", answer.body);
    }
    redis.cont();
    eventually("the figures are read again", || is_known(1.0));
}

#[test]
fn a_scrape_asks_redis_nothing() {
    let redis = RedisServer::start();
    let cluster = node_with_figures(&redis, "20s");
    eventually("the figures are read", || figure(&cluster, 0, "switchboard_cluster_figures_known") == 1.0);
    // Only the figures ask for the number of rooms.
    let asked = || {
        redis
            .command(&["info", "commandstats"])
            .lines()
            .find(|line| line.starts_with("cmdstat_scard:"))
            .map(str::to_owned)
    };
    let before = asked();
    assert!(before.is_some());
    for _ in 0..20 {
        assert_eq!(cluster.admin(0).ask("GET", "/metrics").status, 200);
        cluster.admin(0).ask("GET", "/v1/node").expect(200);
    }
    let calls = |line: Option<String>| line.and_then(|line| Some(line.split(',').next()?.to_owned()));
    assert_eq!(calls(asked()), calls(before));
}

/// Has a node taken for dead, as another one would have. Its slot stays taken.
fn take_for_dead(redis: &RedisServer, slot: &str) {
    let key = |what: &str| format!("switchboard:{{nodes}}:{what}");
    let entry = redis.command(&["HGET", &key("list"), slot]);
    let incarnation = entry.split('\t').next().unwrap().to_owned();
    redis.command(&["HSET", &key("dead"), &incarnation, "1"]);
    redis.command(&["HSET", &key("graves"), slot, &entry]);
    redis.command(&["HSET", &key("diggers"), slot, "1"]);
    redis.command(&["HDEL", &key("list"), slot]);
    redis.command(&["ZREM", &key("seen"), slot]);
}

#[test]
fn fault_row_34_a_node_whose_channels_are_not_confirmed_after_it_rejoined_serves_once_they_are() {
    let (redis, pubsub) = (RedisServer::start(), RedisServer::start());
    let options = ClusterOptions::new(env!("CARGO_BIN_EXE_switchboard"), 1).redis(&redis).pubsub(&pubsub);
    // Long enough that listening is not begun again for another reason.
    let options = options.proxied().prefix("switchboard");
    let options = options.set("backend.redis.beacon_timeout=60s").set("backend.redis.timeout=1s");
    let cluster = options.set("rooms.starting=[{ name = \"lobby\" }]").set(LEASE).start();
    let mut client = joined(&cluster, 0);
    let timeouts = || figure(&cluster, 0, "switchboard_redis_errors_total{reason=\"timeout\"}");
    cluster.pubsub_proxy(0).hold(&Direction::BOTH);
    take_for_dead(&redis, "1");
    let goodbye: Value = client.read_json();
    assert_eq!(goodbye, json!({"status": "Bye!", "context": "api"}));
    eventually("it has another slot", || redis.command(&["HKEYS", "switchboard:{nodes}:list"]).contains('2'));
    let before = timeouts();
    eventually("its channels are not confirmed in time", || timeouts() >= before + 3.0);
    assert_eq!(cluster.admin(0).ask("GET", "/readyz").status, 503);
    // A lost membership is noticed while the channels are not confirmed.
    take_for_dead(&redis, "2");
    eventually("it is fenced again", || figure(&cluster, 0, "switchboard_cluster_fenced_total") == 2.0);
    cluster.pubsub_proxy(0).heal();
    eventually("it serves", || cluster.admin(0).ask("GET", "/readyz").status == 200);
    let _back = joined(&cluster, 0);
}

#[test]
fn a_node_that_cannot_reach_redis_is_not_ready_and_says_why() {
    let mut redis = RedisServer::start();
    let cluster = processes(&redis, 1);
    redis.kill();
    eventually("it is not ready", || cluster.admin(0).ask("GET", "/readyz").status == 503);
    let told = cluster.admin(0).ask("GET", "/readyz").expect(503);
    assert_eq!(told["reasons"], json!(["store"]));
    redis.restart(Data::Deleted);
    eventually("it is ready", || cluster.admin(0).ask("GET", "/readyz").status == 200);
    assert!(figure(&cluster, 0, "switchboard_redis_reconnects_total") >= 1.0);
    assert_eq!(figure(&cluster, 0, "switchboard_cluster_up"), 1.0);
    let nodes = cluster.admin(0).ask("GET", "/v1/nodes").expect(200);
    let node = &nodes["items"][0];
    assert_eq!((&node["slot"], &node["state"], &node["silentMs"]), (&json!(1), &json!("running"), &json!(0)));
}
