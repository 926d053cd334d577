//! What becomes of rooms when something is wrong with Redis.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::testing::{RoomNode, config};
use super::*;
use crate::backend::cluster::{ClusterEvent, To};
use crate::backend::contract::room;
use crate::backend::contract::rooms::{Heard, Hearing, PATIENCE, draft, say, try_wait, wait};
use crate::backend::redis::testing::{Server, runtime};
use crate::hub::mail::Missed;

/// A server of the test's own, and nodes with one worker each.
struct Stage {
    server: Server,
    nodes: Vec<RoomNode>,
    workers: Vec<Hearing>,
}

impl Stage {
    fn new(nodes: usize, degraded: Degraded, limits: LogLimits) -> Self {
        let server = Server::start(&[]);
        let url = server.url();
        let mut stage = Self { server, nodes: Vec::new(), workers: Vec::new() };
        for name in 0..nodes {
            let mut config = config(&url, "test", name);
            config.backend.redis.timeout = Duration::from_secs(1);
            config.backend.redis.lease = Duration::from_secs(3);
            let settings = BrokerSettings { limits, degraded, audit_interval: Duration::from_millis(500) };
            let (mailbox, worker) = Hearing::new(1 << 20);
            stage.nodes.push(RoomNode::join(&config, settings, vec![mailbox]));
            stage.workers.push(worker);
        }
        wait(stage.broker(0).open(&room("lobby")));
        for node in 0..nodes {
            assert_eq!(wait(stage.broker(node).subscribe(&room("lobby"), 0)), Some(0));
        }
        stage
    }

    fn broker(&self, node: usize) -> &RedisBroker {
        &self.nodes[node].broker
    }

    /// Says something as soon as that succeeds.
    fn say_at_last(&self, node: usize, text: &str) -> u64 {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match try_wait(self.broker(node).publish(draft(text))) {
                Ok(Some(Published::Now(message))) if message.message().number > 0 => return message.message().number,
                other => assert!(Instant::now() < deadline, "{other:?}"),
            }
            std::thread::yield_now();
        }
    }
}

const LONG: LogLimits =
    LogLimits { messages: 100_000, bytes: 64 << 20, total_bytes: 0, ids: 10, id_bytes: 1000, id_ms: 1000 };

/// Has messages said until `trouble` has been made, and gives how many there are.
fn under_load(stage: &Stage, trouble: impl FnOnce()) -> u64 {
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let (over, broker) = (&is_over, stage.broker(0));
        let speaking = scope.spawn(move || {
            let mut last = 0;
            while !over.load(Ordering::Relaxed) {
                last = say(broker, draft("x"));
            }
            last
        });
        trouble();
        is_over.store(true, Ordering::Relaxed);
        speaking.join().unwrap()
    })
}

#[test]
fn fault_row_50_what_was_said_while_nobody_listened_is_looked_up() {
    let mut stage = Stage::new(2, Degraded::Refuse, LONG);
    let last = under_load(&stage, || {
        for _ in 0..3 {
            assert!(stage.server.ask("CLIENT KILL TYPE pubsub").unwrap().starts_with(":"));
            // Until they listen again.
            let deadline = Instant::now() + PATIENCE;
            let channel = "PUBSUB NUMSUB test:{r:lobby}:said";
            while !stage.server.ask(channel).unwrap().contains("\r\n:2\r\n") {
                assert!(Instant::now() < deadline);
            }
        }
    });
    for worker in &mut stage.workers {
        for number in 1..=last {
            assert_eq!(worker.number(), number);
        }
    }
}

#[test]
fn fault_row_50_what_nobody_can_look_up_any_more_is_told() {
    let mut stage = Stage::new(1, Degraded::Refuse, LogLimits { messages: 3, ..LONG });
    assert_eq!(say(stage.broker(0), draft("heard")), 1);
    assert_eq!(stage.workers[0].number(), 1);
    // As if they had been published while the node did not listen. The node must not look them up before the last one is
    // published: it would find those that the log is about to forget.
    let broker = stage.broker(0).0.clone();
    let lobby = broker.find("lobby").unwrap();
    let feed = runtime().block_on(lobby.feed.lock());
    let said: Vec<u64> = (0..5)
        .map(|_| {
            let (draft, mark) = (draft("x"), Mark(fastrand::u64(1..)));
            let envelope = envelope::write(&draft, mark, 0);
            let quiet = Inner { publishes_in_store: false, ..quiet(&broker) };
            match runtime().block_on(quiet.number(&draft, mark, &envelope, 0)).unwrap() {
                Publication::Done { place, .. } => place.number,
                _ => panic!("it is said"),
            }
        })
        .collect();
    assert_eq!(said, [2, 3, 4, 5, 6]);
    drop(feed);
    assert_eq!(stage.workers[0].next(), Heard::Gap(Missed { first: 2, last: Some(3), restarts: false }));
    assert_eq!([4, 5, 6].map(|_| stage.workers[0].number()), [4, 5, 6]);
}

/// Two nodes with two workers each, in whose rooms "stuck" and "lobby" the first one has its workers 0 and 1.
struct TwoRooms {
    server: Server,
    speaker: RoomNode,
    node: RoomNode,
    stuck: Hearing,
    free: Hearing,
}

impl TwoRooms {
    fn new(limits: LogLimits, inbox_bytes: usize) -> Self {
        let server = Server::start(&[]);
        let join = |name, workers| {
            let mut config = config(&server.url(), "test", name);
            // Nothing here may depend on how busy the machine is.
            config.backend.redis.timeout = PATIENCE;
            config.backend.redis.lease = PATIENCE;
            config.backend.redis.beacon_timeout = PATIENCE * 2;
            config.backend.redis.inbox_bytes = inbox_bytes;
            let settings =
                BrokerSettings { limits, degraded: Degraded::Refuse, audit_interval: Duration::from_millis(500) };
            RoomNode::join(&config, settings, workers)
        };
        let (narrow, stuck) = Hearing::new(2 << 10);
        let (wide, free) = Hearing::new(1 << 20);
        let (speaker, node) = (join(0, Vec::new()), join(1, vec![narrow, wide]));
        for (name, worker) in [("stuck", 0), ("lobby", 1)] {
            wait(speaker.broker.open(&room(name)));
            assert_eq!(wait(node.broker.subscribe(&room(name), worker)), Some(0));
        }
        Self { server, speaker, node, stuck, free }
    }

    fn say(&self, name: &str, text: &str) -> u64 {
        say(&self.speaker.broker, Draft { room: room(name), ..draft(text) })
    }

    /// Says more than the stuck worker takes.
    fn fill_stuck(&self, count: u64) {
        (1..=count).for_each(|number| assert_eq!(self.say("stuck", "x"), number));
    }

    /// Waits until the node has its beacon back that was sent after this was called.
    fn await_beacon(&self) {
        let beacon_ms = || self.node.broker.0.subscriber.beacon_ms();
        for _ in 0..2 {
            let (before, deadline) = (beacon_ms(), Instant::now() + PATIENCE);
            while beacon_ms() == before {
                assert!(Instant::now() < deadline, "the beacon does not come back");
                std::thread::yield_now();
            }
        }
    }

    /// Checks that another room, a message of a node and the beacon get through.
    fn check_others(&mut self) {
        let number = self.say("lobby", "others go on");
        assert_eq!(self.free.next(), Heard::Said(number, "others go on".to_owned()));
        let slot = self.node.cluster.slot();
        wait(self.speaker.cluster.send(To::Node(slot), "a command".into()));
        let event = async {
            loop {
                match self.node.events.recv().await {
                    Some(ClusterEvent::Message { bytes, .. }) => break bytes,
                    Some(_) => {}
                    None => panic!("the node has ended"),
                }
            }
        };
        let message = runtime().block_on(async { tokio::time::timeout(PATIENCE, event).await.unwrap() });
        assert_eq!(message, "a command");
        self.await_beacon();
        assert_eq!(self.node.cluster.figures().relistens, 0);
    }
}

#[test]
fn a_stuck_worker_delays_only_its_own_room() {
    let mut rooms = TwoRooms::new(LONG, 16 << 20);
    rooms.fill_stuck(100);
    rooms.check_others();
    for number in 1..=100 {
        assert_eq!(rooms.stuck.number(), number, "in order");
    }
}

#[test]
fn messages_beyond_the_lane_of_a_stuck_worker_are_read_from_the_log() {
    let mut rooms = TwoRooms::new(LONG, 64 << 10);
    rooms.fill_stuck(1000);
    rooms.check_others();
    for number in 1..=1000 {
        assert_eq!(rooms.stuck.number(), number, "in order");
    }
    assert!(rooms.node.broker.0.figures.filled.load(Ordering::Relaxed) > 0);
}

#[test]
fn messages_beyond_the_lane_of_a_stuck_worker_that_the_log_has_lost_are_told() {
    let mut rooms = TwoRooms::new(LogLimits { messages: 3, ..LONG }, 64 << 10);
    rooms.fill_stuck(1000);
    rooms.check_others();
    let (mut next, mut gaps) = (1, 0);
    while next <= 1000 {
        next = match rooms.stuck.next() {
            Heard::Said(number, _) if number == next => number + 1,
            Heard::Gap(Missed { first, last: Some(last), restarts: false }) if first == next => {
                gaps += 1;
                last + 1
            }
            other => panic!("{other:?} where {next} is expected"),
        };
    }
    assert!(gaps > 0);
}

#[test]
fn a_store_that_has_forgotten_everything_is_noticed_beside_a_stuck_worker() {
    let mut rooms = TwoRooms::new(LONG, 16 << 20);
    rooms.fill_stuck(100);
    rooms.check_others();
    assert!(rooms.server.ask("FLUSHALL").unwrap().starts_with("+OK"));
    assert!(matches!(rooms.free.next(), Heard::Gap(Missed { first: 2, last: None, restarts: true })));
    for number in 1..=100 {
        assert_eq!(rooms.stuck.number(), number, "in order");
    }
    assert!(matches!(rooms.stuck.next(), Heard::Gap(Missed { first: 101, last: None, restarts: true })));
}

/// The same broker without anybody who hears it.
fn quiet(inner: &Inner) -> Inner {
    Inner {
        store: inner.store.clone(),
        nodes: inner.nodes.clone(),
        subscriber: inner.subscriber.clone(),
        publishes_in_store: inner.publishes_in_store,
        settings: inner.settings,
        workers: Vec::new(),
        rooms: Mutex::default(),
        audit_due: Arc::default(),
        fills: Semaphore::new(1),
        figures: Figures::default(),
    }
}

#[test]
fn fault_row_48_a_store_that_has_forgotten_everything_is_begun_anew_and_that_is_told() {
    let mut stage = Stage::new(2, Degraded::Refuse, LONG);
    for number in 1..=3 {
        assert_eq!(say(stage.broker(1), draft("x")), number);
    }
    for worker in &mut stage.workers {
        assert_eq!([1, 2, 3].map(|_| worker.number()), [1, 2, 3]);
    }
    assert!(stage.server.ask("FLUSHALL").unwrap().starts_with("+OK"));
    for worker in &mut stage.workers {
        assert_eq!(worker.next(), Heard::Gap(Missed { first: 4, last: None, restarts: true }));
    }
    let number = stage.say_at_last(0, "after");
    assert!(number > 3, "what was heard is not numbered again");
    for worker in &mut stage.workers {
        assert_eq!(worker.next(), Heard::Said(number, "after".to_owned()));
    }
}

#[test]
fn a_listener_that_begins_while_its_room_is_closed_leaves_no_subscription() {
    let stage = Stage::new(1, Degraded::Refuse, LONG);
    let inner = stage.broker(0).0.clone();
    let (name, channel) = (room("brief"), "test:{r:brief}:said");
    wait(stage.broker(0).open(&name));
    let visit = Visit::begin(&inner, &name);
    wait(stage.broker(0).close(&name));
    assert!(matches!(runtime().block_on(inner.open_feed(&visit)), Ok(false)));
    let subscribers = |count: u8| {
        let (deadline, answer) = (Instant::now() + PATIENCE, format!("\r\n:{count}\r\n"));
        while !stage.server.ask(&format!("PUBSUB NUMSUB {channel}")).unwrap().contains(&answer) {
            assert!(Instant::now() < deadline, "timed out waiting for {count} subscribers");
            std::thread::yield_now();
        }
    };
    subscribers(1);
    drop(visit);
    subscribers(0);
}

#[test]
fn a_listener_of_a_closed_room_leaves_the_subscription_to_a_new_room_of_that_name() {
    let stage = Stage::new(1, Degraded::Refuse, LONG);
    let inner = stage.broker(0).0.clone();
    let name = room("brief");
    wait(stage.broker(0).open(&name));
    let old = Visit::begin(&inner, &name);
    wait(stage.broker(0).close(&name));
    wait(stage.broker(0).open(&name));
    let new = Visit::begin(&inner, &name);
    for visit in [&old, &new] {
        assert!(matches!(runtime().block_on(inner.open_feed(visit)), Ok(true)));
    }
    drop(old);
    // A request to unsubscribe would be carried out before the second one of these is confirmed.
    for other in ["one", "two"] {
        runtime().block_on(inner.subscriber.listen(other)).unwrap();
    }
    let answer = stage.server.ask("PUBSUB NUMSUB test:{r:brief}:said").unwrap();
    assert!(answer.contains("\r\n:1\r\n"), "{answer}");
}

/// As if another node had found out that the store may have lost something, and had said something since.
fn begin_generation(stage: &Stage) {
    let generation = stage.broker(0).0.store.standing.generation() + 1;
    for key in ["test:{nodes}:meta", "test:{r:lobby}:sequence"] {
        assert_eq!(stage.server.ask(&format!("HSET {key} generation {generation}")).unwrap(), ":0\r\n+OK\r\n");
    }
}

#[test]
fn a_message_that_meets_a_generation_that_its_node_does_not_know_is_published_once() {
    let mut stage = Stage::new(1, Degraded::Refuse, LONG);
    for number in 1..=5 {
        begin_generation(&stage);
        assert_eq!(say(stage.broker(0), draft("x")), number);
    }
    let mut heard = Vec::new();
    while heard.last() != Some(&5) {
        match stage.workers[0].next() {
            Heard::Said(number, _) => heard.push(number),
            // Of a new generation no node knows what was lost.
            Heard::Gap(missed) => assert_eq!(missed.last, None),
        }
    }
    assert_eq!(heard, [1, 2, 3, 4, 5]);
}

#[test]
fn a_room_that_meets_a_generation_that_its_node_does_not_know_is_joined() {
    let stage = Stage::new(1, Degraded::Refuse, LONG);
    for _ in 0..5 {
        wait(stage.broker(0).unsubscribe(&room("lobby"), 0));
        begin_generation(&stage);
        assert!(wait(stage.broker(0).subscribe(&room("lobby"), 0)).is_some());
    }
}

#[test]
fn fault_row_51_a_redis_that_does_not_answer_is_not_waited_for_long() {
    let mut stage = Stage::new(1, Degraded::Refuse, LONG);
    assert_eq!(say(stage.broker(0), draft("before")), 1);
    stage.server.signal("STOP");
    let began = Instant::now();
    for _ in 0..3 {
        assert!(try_wait(stage.broker(0).publish(draft("refused"))).is_err());
    }
    let took = began.elapsed();
    stage.server.signal("CONT");
    assert!(took < Duration::from_secs(10), "{took:?}");
    let number = stage.say_at_last(0, "after");
    // What was refused may have been said after all: nobody knows while there is no answer.
    let mut heard = Vec::new();
    while heard.last() != Some(&number) {
        heard.push(stage.workers[0].number());
    }
    assert!(heard.into_iter().eq(1..=number));
}

#[test]
fn fault_row_13_what_no_node_wrote_is_dropped_wherever_it_stands() {
    let mut stage = Stage::new(1, Degraded::Refuse, LONG);
    for payload in ["nonsense", "1-1", "99999999999999-1\\n", "{}"] {
        stage.server.ask(&format!("PUBLISH test:{{r:lobby}}:said {payload}")).unwrap();
    }
    assert_eq!(say(stage.broker(0), draft("one")), 1);
    assert_eq!(stage.workers[0].number(), 1);
    // In the log, in the place of the next one, which nobody hears.
    let epoch = stage.broker(0).0.find("lobby").unwrap().known().unwrap().place.epoch;
    stage.server.ask(&format!("XADD test:{{r:lobby}}:log {epoch}-2 m rubbish")).unwrap();
    stage.server.ask("HSET test:{r:lobby}:sequence last 2 mark 12345678").unwrap();
    assert_eq!(stage.workers[0].next(), Heard::Gap(Missed { first: 2, last: Some(2), restarts: false }));
    assert_eq!(say(stage.broker(0), draft("three")), 3);
    assert_eq!(stage.workers[0].number(), 3);
    assert!(stage.broker(0).0.figures.malformed.load(Ordering::Relaxed) >= 5);
}

#[test]
fn fault_row_43_without_a_store_members_on_the_same_node_hear_each_other_if_so_configured() {
    let mut stage = Stage::new(2, Degraded::Local, LONG);
    assert_eq!(say(stage.broker(0), draft("before")), 1);
    assert_eq!([0, 1].map(|node| stage.workers[node].number()), [1, 1]);
    stage.server.signal("STOP");
    // Refused as long as it may still be said, then only here.
    let deadline = Instant::now() + PATIENCE;
    while try_wait(stage.broker(0).publish(draft("here"))).is_err() {
        assert!(Instant::now() < deadline);
    }
    assert_eq!(say(stage.broker(0), draft("here too")), 0);
    stage.server.signal("CONT");
    let mut heard = Vec::new();
    while !matches!(heard.last(), Some(Heard::Gap(_))) {
        heard.push(stage.workers[0].next());
    }
    assert!(
        heard.contains(&Heard::Said(0, "here".to_owned())) && heard.contains(&Heard::Said(0, "here too".to_owned()))
    );
    let number = stage.say_at_last(1, "after");
    let mut gaps = 0;
    loop {
        match stage.workers[1].next() {
            Heard::Gap(Missed { last: None, .. }) => gaps += 1,
            Heard::Said(heard, text) if heard == number => break assert_eq!(text, "after"),
            Heard::Said(heard, _) => assert!(heard > 1),
            other @ Heard::Gap(_) => panic!("{other:?}"),
        }
    }
    assert!(gaps > 0, "members elsewhere are told what they have not heard");
}

#[test]
fn a_room_goes_on_after_one_of_its_keys_had_a_wrong_type() {
    for what in ["sequence", "log"] {
        let mut stage = Stage::new(1, Degraded::Refuse, LONG);
        assert_eq!(say(stage.broker(0), draft("before")), 1);
        assert_eq!(stage.workers[0].number(), 1);
        let key = format!("test:{{r:lobby}}:{what}");
        for command in ["DEL", "SADD"] {
            assert!(stage.server.ask(&format!("{command} {key} x")).unwrap().starts_with(':'));
        }
        let number = stage.say_at_last(0, "after");
        assert!(number > 1, "{what}: a number is not given twice");
        while stage.workers[0].next() != Heard::Said(number, "after".to_owned()) {}
        assert_eq!(stage.server.ask(&format!("TYPE {key}:damaged")).unwrap().lines().next(), Some("+set"), "{what}");
    }
}
