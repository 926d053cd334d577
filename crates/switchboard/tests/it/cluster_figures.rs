//! Many members: a node of theirs is killed, Redis is killed, all nodes are started anew one after the other.
//!
//! Few members and one round, unless `SWITCHBOARD_MEMBERS` and `SWITCHBOARD_KILLS` say how many there are to be; what was measured is
//! printed then.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use switchboard_testkit::cluster::{
    ClusterOptions, Crowd, Data, Place, Recorder, RedisServer, RoomClient, Said, each_seed, eventually, within,
};

use super::http_backend::{Backend, yes};

const ROOM: &str = "lobby";

fn members(few: usize) -> usize {
    std::env::var("SWITCHBOARD_MEMBERS")
        .map_or(few, |members| members.parse().expect("SWITCHBOARD_MEMBERS is a number"))
}

#[allow(clippy::print_stderr, reason = "figures are for people")]
fn measured(what: &str, time: Duration) {
    if std::env::var_os("SWITCHBOARD_MEMBERS").is_some() {
        eprintln!("{what}: {:.2} s", time.as_secs_f64());
    }
}

fn options(nodes: usize, redis: &RedisServer) -> ClusterOptions {
    let options = ClusterOptions::new(env!("CARGO_BIN_EXE_switchboard"), nodes).redis(redis);
    options.set("rooms.starting=[{ name = \"lobby\" }]").set("rooms.history_messages=10000").set("node.drain_spread=3s")
}

/// Somebody who says something ten times a second until he is told to stop.
fn speak<'scope>(
    scope: &'scope thread::Scope<'scope, '_>,
    speaker: &'scope RoomClient,
    is_over: &'scope AtomicBool,
) -> thread::ScopedJoinHandle<'scope, ()> {
    scope.spawn(|| {
        while !is_over.load(Ordering::Relaxed) {
            speaker.say(ROOM);
            thread::park_timeout(Duration::from_millis(100));
        }
    })
}

/// Waits until everybody has heard a last word.
fn last_word(speaker: &RoomClient, crowd: &Crowd, inside: usize) {
    let before = crowd.heard();
    assert!(matches!(speaker.say(ROOM), Said::Acknowledged(Some(_))));
    crowd.await_heard(before + inside as u64);
}

#[test]
fn fault_row_33_the_members_of_a_killed_node_leave_once_and_come_back() {
    each_seed(1, |_| {
        let at_each = members(100);
        // Who left, and how often it was told.
        let left: Arc<Mutex<HashMap<String, usize>>> = Arc::default();
        let noted = Arc::clone(&left);
        let hooks = Backend::start(move |asked| {
            for leave in asked.json["leaves"].as_array().into_iter().flatten() {
                let id = leave["connection"]["id"].as_str().unwrap_or_default().to_owned();
                *noted.lock().unwrap().entry(id).or_default() += 1;
            }
            yes()
        });
        let (redis, recorder) = (RedisServer::start(), Recorder::new());
        let mut options = options(2, &redis).set(&hooks.setting("hooks.leave")).set("hooks.leave.interval=50ms");
        options = options.set("hooks.secret=a secret that nobody guesses");
        let cluster = options.start();
        let places: Vec<Place> = (0..2).map(|node| cluster.place(node)).collect();
        let crowd = Crowd::join(&recorder, ROOM, 2 * at_each, places);
        crowd.await_inside();
        let speaker = RoomClient::join_at(&recorder, cluster.socket_addr(1), &[ROOM]);
        eventually("all are seen", || cluster.members(1, ROOM).len() == 2 * at_each + 1);
        // The last digits of an id are the number of its node.
        let here = speaker.member().unwrap().to_string();
        let of_dead = |ids: Vec<String>| ids.into_iter().filter(|id| id[32..] != here[32..]).collect::<Vec<_>>();
        let dead = of_dead(cluster.members(1, ROOM));
        assert_eq!(dead.len(), at_each);
        let is_over = AtomicBool::new(false);
        thread::scope(|scope| {
            let speaking = speak(scope, &speaker, &is_over);
            let since = Instant::now();
            cluster.kill(0);
            let is_exact = within(Duration::from_secs(10), || of_dead(cluster.members(1, ROOM)).is_empty());
            assert!(is_exact, "{} of the dead node's members are still there", of_dead(cluster.members(1, ROOM)).len());
            measured("presence is exact after", since.elapsed());
            crowd.await_absences(at_each);
            crowd.await_inside();
            measured("all are back after", crowd.longest_absence());
            is_over.store(true, Ordering::Relaxed);
            speaking.join().unwrap();
        });
        eventually("all leaves are told", || left.lock().unwrap().len() == at_each);
        last_word(&speaker, &crowd, 2 * at_each);
        let left = left.lock().unwrap();
        assert!(dead.iter().all(|id| left.get(id) == Some(&1)) && left.len() == at_each, "leaves are told once");
        recorder.history().assert_ok("a node was killed");
    });
}

#[test]
fn fault_row_48_redis_is_killed_and_everybody_goes_on() {
    each_seed(1, |_| {
        let count = members(100).min(1000);
        let (mut redis, recorder) = (RedisServer::start(), Recorder::new());
        let cluster = options(2, &redis).start();
        let crowd = Crowd::join(&recorder, ROOM, count, (0..2).map(|node| cluster.place(node)).collect());
        crowd.await_inside();
        let speaker = RoomClient::join_at(&recorder, cluster.socket_addr(1), &[ROOM]);
        last_word(&speaker, &crowd, count);
        let is_ready = |node: usize| cluster.admin(node).ask("GET", "/readyz").status == 200;
        let since = Instant::now();
        redis.kill();
        assert!(within(Duration::from_secs(6), || !is_ready(0) && !is_ready(1)), "nobody has noticed");
        measured("noticed after", since.elapsed());
        redis.restart(Data::Kept);
        let since = Instant::now();
        eventually("it goes on", || matches!(speaker.say(ROOM), Said::Acknowledged(_)));
        eventually("both are ready", || is_ready(0) && is_ready(1));
        measured("healed after", since.elapsed());
        let all_are_seen = || (0..2).all(|node| cluster.members(node, ROOM).len() == count + 1);
        eventually("all are members again", all_are_seen);
        measured("presence is exact after", since.elapsed());
        last_word(&speaker, &crowd, count);
        assert_eq!(crowd.absences().len(), 0, "connections are kept");
        recorder.history().assert_ok("Redis was killed");
        drop((crowd, cluster));
    });
}

#[test]
fn fault_row_37_nodes_that_are_started_anew_one_after_the_other_lose_nothing() {
    let count = members(90).min(3000);
    let (redis, recorder) = (RedisServer::start(), Recorder::new());
    let cluster = options(3, &redis).start();
    let crowd = Crowd::join(&recorder, ROOM, count, (0..3).map(|node| cluster.place(node)).collect());
    crowd.await_inside();
    let speaker = RoomClient::join_at(&recorder, cluster.socket_addr(0), &[ROOM]);
    for node in (0..3).rev() {
        let is_over = AtomicBool::new(false);
        thread::scope(|scope| {
            let speaking = speak(scope, &speaker, &is_over);
            assert_eq!(cluster.stop(node).code(), Some(0));
            cluster.restart(node);
            is_over.store(true, Ordering::Relaxed);
            speaking.join().unwrap();
        });
        crowd.await_inside();
        if !speaker.is_connected() {
            speaker.move_to(cluster.socket_addr(1)).unwrap();
        }
        last_word(&speaker, &crowd, count);
    }
    assert!(crowd.longest_absence() < Duration::from_secs(15));
    measured("the longest absence", crowd.longest_absence());
    for node in 0..3 {
        eventually("all are seen", || cluster.members(node, ROOM).len() == count + 1);
    }
    recorder.history().assert_ok("all nodes were started anew");
    let nodes: Value = cluster.admin(0).ask("GET", "/v1/nodes").expect(200);
    assert_eq!(nodes["items"].as_array().map(Vec::len), Some(3));
}
