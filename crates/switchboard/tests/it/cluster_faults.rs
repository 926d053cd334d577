//! What members of rooms notice when a node dies, or Redis does, or the way between them: nothing, or what they are told.
//!
//! Three server processes, two members at each, one of whom speaks without a pause; a fault; and at the end everybody must agree
//! about everything that was said.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, ScopedJoinHandle};
use std::time::{Duration, Instant};

use switchboard_testkit::cluster::{
    Cluster, ClusterOptions, DEADLINE, Data, Direction, Recorder, RedisCluster, RedisOptions, RedisServer, RoomClient,
    Said, eventually, within,
};

const NODES: usize = 3;
const ROOM: &str = "lobby";

/// How long Redis may be gone until nodes are not ready any more, with a margin for a busy machine.
const NOTICED: Duration = Duration::from_secs(6);

/// Three nodes, and what is told of their members.
struct Trial {
    cluster: Cluster,
    redis: RedisServer,
    recorder: Recorder,
    /// Two at each node.
    clients: Vec<RoomClient>,
}

/// Clients that speak without a pause.
struct Talk<'a> {
    trial: &'a Trial,
    said: &'a AtomicU64,
}

impl Trial {
    fn start() -> Self {
        Self::over(RedisServer::start(), &[])
    }

    fn over(redis: RedisServer, settings: &[&str]) -> Self {
        let options = ClusterOptions::new(env!("CARGO_BIN_EXE_switchboard"), NODES).redis(&redis).proxied();
        Self::of(redis, options, settings)
    }

    fn of(redis: RedisServer, options: ClusterOptions, settings: &[&str]) -> Self {
        let mut options = options.set("rooms.starting=[{ name = \"lobby\" }]").set("rooms.history_messages=100000");
        for setting in ["rooms.history_bytes=64MiB", "backend.redis.audit_interval=2s"].iter().chain(settings) {
            options = options.set(setting);
        }
        let (cluster, recorder) = (options.start(), Recorder::new());
        let clients =
            (0..2 * NODES).map(|index| RoomClient::join_at(&recorder, cluster.socket_addr(index % NODES), &[ROOM]));
        let clients = clients.collect();
        Self { cluster, redis, recorder, clients }
    }

    fn of_node(&self, node: usize) -> impl Iterator<Item = &RoomClient> {
        self.clients.iter().skip(node).step_by(NODES)
    }

    /// Has one client of each node speak while `fault` is done, and until all is well again.
    fn while_all_speak(&mut self, fault: impl FnOnce(&mut Talk<'_>)) {
        let (is_over, said) = (AtomicBool::new(false), AtomicU64::new(0));
        let this = &*self;
        thread::scope(|scope| {
            let speaking: Vec<ScopedJoinHandle<'_, ()>> = this.clients[..NODES]
                .iter()
                .map(|client| {
                    let (is_over, said) = (&is_over, &said);
                    scope.spawn(move || {
                        while !is_over.load(Ordering::Relaxed) {
                            match client.say(ROOM) {
                                Said::Acknowledged(_) => drop(said.fetch_add(1, Ordering::Relaxed)),
                                // Refused while nothing can be said, or the connection is gone: not as fast as it can be.
                                _ => thread::park_timeout(Duration::from_millis(20)),
                            }
                        }
                    })
                })
                .collect();
            let mut talk = Talk { trial: this, said: &said };
            talk.goes_on();
            fault(&mut talk);
            talk.goes_on();
            is_over.store(true, Ordering::Relaxed);
            speaking.into_iter().for_each(|speaker| speaker.join().unwrap());
        });
    }

    /// Everybody hears the last word, everybody is seen alike, and nothing was lost, doubled or out of order.
    fn ends_well(&self, what: &str) {
        let last = self.last_word();
        for client in self.clients.iter().filter(|client| client.is_connected()).skip(1) {
            client.await_number(ROOM, last);
        }
        let inside = self.clients.iter().filter(|client| client.is_connected()).count();
        for node in (0..NODES).filter(|node| self.cluster.place(*node).find().is_some()) {
            eventually("all are seen", || self.cluster.members(node, ROOM).len() == inside);
            self.cluster.record_presence(&self.recorder, node, ROOM);
        }
        self.recorder.history().assert_ok(what);
    }

    fn last_word(&self) -> u64 {
        let mut last = None;
        eventually("the last word is said", || {
            let speaker = self.clients.iter().find(|client| client.is_connected()).expect("somebody is there");
            last = match speaker.say(ROOM) {
                Said::Acknowledged(number) => number,
                _ => None,
            };
            last.is_some()
        });
        last.unwrap()
    }

    /// Clients whose connection has ended go to another node, or come back to theirs.
    fn all_come_back(&self, to: usize) {
        for client in &self.clients {
            if !client.is_connected() {
                eventually("it is let in again", || client.move_to(self.cluster.socket_addr(to)).is_ok());
            }
        }
    }

    fn is_ready(&self, node: usize) -> bool {
        self.cluster.admin(node).ask("GET", "/readyz").status == 200
    }
}

impl Talk<'_> {
    /// Until a good deal more has been said.
    fn goes_on(&mut self) {
        let wanted = self.said.load(Ordering::Relaxed) + 60;
        eventually("it goes on", || self.said.load(Ordering::Relaxed) >= wanted);
    }

    /// So long: how long something lasts is the subject here.
    fn for_a_while(&self, time: Duration) {
        let end = Instant::now() + time;
        while let Some(left) = end.checked_duration_since(Instant::now()) {
            thread::park_timeout(left);
        }
    }

    fn nobody_is_ready(&self) {
        let since = Instant::now();
        let noticed = within(NOTICED, || (0..NODES).all(|node| !self.trial.is_ready(node)));
        assert!(noticed, "nobody noticed within {:?}", since.elapsed());
    }

    fn all_are_ready(&self) {
        eventually("all are ready", || (0..NODES).all(|node| self.trial.is_ready(node)));
    }
}

#[test]
fn fault_row_33_when_a_node_is_killed_its_members_are_gone_and_nobody_else_misses_anything() {
    let mut trial = Trial::start();
    trial.while_all_speak(|talk| {
        talk.trial.cluster.kill(1);
        let is_exact = || [0, 2].iter().all(|node| talk.trial.cluster.members(*node, ROOM).len() == 4);
        assert!(within(Duration::from_secs(10), is_exact), "its members are still there");
        talk.trial.of_node(1).for_each(|client| assert!(client.await_end(DEADLINE)));
        talk.trial.all_come_back(2);
    });
    trial.ends_well("a node was killed");
}

#[test]
fn fault_row_34_a_node_that_stood_still_for_a_moment_goes_on() {
    let mut trial = Trial::start();
    trial.while_all_speak(|talk| {
        talk.trial.cluster.pause(1);
        talk.for_a_while(Duration::from_secs(3));
        talk.trial.cluster.cont(1);
    });
    assert!(trial.clients.iter().all(RoomClient::is_connected));
    trial.ends_well("a node stood still for three seconds");
}

#[test]
fn fault_row_34_a_node_that_was_taken_for_dead_closes_everything_and_begins_anew() {
    let mut trial = Trial::start();
    trial.while_all_speak(|talk| {
        talk.trial.cluster.pause(1);
        let is_gone = || [0, 2].iter().all(|node| talk.trial.cluster.members(*node, ROOM).len() == 4);
        eventually("it is taken for dead", is_gone);
        talk.trial.cluster.cont(1);
        talk.trial.of_node(1).for_each(|client| assert!(client.await_end(DEADLINE), "it is closed"));
        talk.all_are_ready();
        talk.trial.all_come_back(1);
    });
    trial.ends_well("a node was taken for dead");
}

#[test]
fn fault_row_43_a_node_that_cannot_reach_redis_says_so_and_fills_what_it_missed() {
    let mut trial = Trial::start();
    trial.while_all_speak(|talk| {
        talk.trial.cluster.proxy(1).cut();
        assert!(within(NOTICED, || !talk.trial.is_ready(1)), "it does not notice");
        talk.trial.cluster.proxy(1).heal();
        talk.all_are_ready();
    });
    assert!(trial.clients.iter().all(RoomClient::is_connected));
    trial.ends_well("a node was cut off for a moment");
}

#[test]
fn fault_row_44_a_link_that_delivers_nothing_is_noticed_and_made_anew() {
    for directions in [&[Direction::ToClient][..], &[Direction::ToServer][..]] {
        let mut trial = Trial::start();
        trial.while_all_speak(|talk| {
            talk.trial.cluster.proxy(1).half_open(directions);
            assert!(within(NOTICED, || !talk.trial.is_ready(1)), "it does not notice");
            talk.trial.cluster.proxy(1).heal();
            talk.all_are_ready();
        });
        trial.all_come_back(1);
        trial.ends_well("a link delivered nothing");
    }
}

#[test]
fn fault_row_46_a_link_that_breaks_again_and_again_costs_nobody_anything() {
    let mut trial = Trial::start();
    trial.while_all_speak(|talk| {
        for _ in 0..5 {
            talk.trial.cluster.proxy(2).sever();
            talk.goes_on();
        }
        talk.all_are_ready();
    });
    assert!(trial.clients.iter().all(RoomClient::is_connected));
    trial.ends_well("a link broke five times");
}

#[test]
fn fault_row_48_after_a_restart_without_data_all_goes_on_and_everybody_is_told() {
    redis_restarts(RedisServer::start(), Data::Deleted);
}

#[test]
fn fault_row_49_after_a_restart_with_data_nothing_is_missing_or_it_is_told() {
    redis_restarts(RedisServer::start_with(RedisOptions::default().append_only()), Data::Kept);
}

fn redis_restarts(redis: RedisServer, data: Data) {
    let mut trial = Trial::over(redis, &[]);
    // The server is not part of what the speakers share.
    let mut redis = std::mem::replace(&mut trial.redis, RedisServer::start());
    trial.while_all_speak(|talk| {
        redis.kill();
        talk.nobody_is_ready();
        redis.restart(data);
        talk.all_are_ready();
    });
    assert!(trial.clients.iter().all(RoomClient::is_connected));
    trial.ends_well("Redis was started anew");
    drop(trial);
}

#[test]
fn fault_row_48_when_the_redis_that_publishes_is_another_one_and_restarts_what_it_lost_is_filled() {
    let (redis, mut pubsub) = (RedisServer::start(), RedisServer::start());
    let options = ClusterOptions::new(env!("CARGO_BIN_EXE_switchboard"), NODES).redis(&redis).pubsub(&pubsub);
    let mut trial = Trial::of(redis, options, &[]);
    assert_eq!(trial.redis.command(&["PUBSUB", "CHANNELS"]).trim(), "", "nobody listens to the store");
    trial.while_all_speak(|talk| {
        pubsub.kill();
        talk.nobody_is_ready();
        pubsub.restart(Data::Deleted);
        talk.all_are_ready();
    });
    assert!(trial.clients.iter().all(RoomClient::is_connected));
    trial.ends_well("the Redis that publishes was started anew");
    drop(trial);
}

#[test]
fn fault_row_49_when_a_replica_takes_over_nothing_is_missing_or_it_is_told() {
    let mut master = RedisServer::start();
    let replica = RedisServer::start_with(RedisOptions::default().replica_of(master.address()));
    replica.await_replication();
    let options = ClusterOptions::new(env!("CARGO_BIN_EXE_switchboard"), NODES).redis(&master);
    let both = format!("backend.redis.url={},{}", master.url(), replica.url());
    let mut trial = Trial::of(replica, options, &[&both]);
    trial.while_all_speak(|talk| {
        master.kill();
        talk.nobody_is_ready();
        talk.trial.redis.promote();
        talk.all_are_ready();
    });
    assert!(trial.clients.iter().all(RoomClient::is_connected));
    trial.ends_well("a replica took over");
}

#[test]
fn fault_row_51_when_a_master_of_a_redis_cluster_dies_all_goes_on_with_its_replica() {
    let mut servers = RedisCluster::start();
    let options = ClusterOptions::new(env!("CARGO_BIN_EXE_switchboard"), NODES).redis_cluster(&servers);
    let mut trial = Trial::of(RedisServer::start(), options, &[]);
    trial.while_all_speak(|talk| {
        servers.kill_master_of_slot(servers.slot_of("switchboard:{r:lobby}:room"));
        servers.await_ok();
        talk.all_are_ready();
    });
    trial.ends_well("a master of the Redis Cluster died");
    drop(trial);
}

#[test]
fn fault_row_50_subscriptions_that_redis_has_ended_are_made_again_and_what_was_missed_is_filled() {
    let mut trial = Trial::start();
    trial.while_all_speak(|talk| {
        for _ in 0..3 {
            talk.trial.redis.command(&["CLIENT", "KILL", "TYPE", "pubsub"]);
            talk.goes_on();
        }
    });
    assert!(trial.clients.iter().all(RoomClient::is_connected));
    trial.ends_well("subscriptions were ended");
}

#[test]
fn fault_row_51_while_redis_answers_nobody_nothing_hangs_and_all_goes_on_behind_it() {
    let mut trial = Trial::start();
    trial.while_all_speak(|talk| {
        talk.trial.redis.pause();
        talk.nobody_is_ready();
        talk.trial.redis.cont();
        talk.all_are_ready();
    });
    trial.all_come_back(0);
    trial.ends_well("Redis stood still");
}

#[test]
fn fault_row_52_what_is_lost_with_an_output_buffer_is_filled() {
    let redis =
        RedisServer::start_with(RedisOptions::default().setting("client-output-buffer-limit", "pubsub 64kb 64kb 1"));
    let mut trial = Trial::over(redis, &[]);
    trial.while_all_speak(|talk| {
        talk.trial.cluster.pause(2);
        talk.goes_on();
        // What waits for the node goes beyond what Redis keeps.
        for _ in 0..200 {
            let text = serde_json::json!({ "message": "x".repeat(16 * 1024) });
            let said = talk.trial.cluster.admin(0).send("POST", "/v1/rooms/lobby/broadcast", &text);
            assert_eq!(said.status, 200);
        }
        talk.trial.cluster.cont(2);
    });
    assert!(trial.clients.iter().all(RoomClient::is_connected));
    trial.ends_well("Redis has cut off a subscriber");
}
