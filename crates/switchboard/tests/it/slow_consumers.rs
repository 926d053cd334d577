//! Clients that do not read what they are sent: what each policy does to them, and that others do not notice.

use std::io::Read;
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use serde_json::{Value, json};
use switchboard::config::SlowConsumer;
use switchboard::node::Speaker;
use switchboard::proto::close::CloseReason;

use super::peer::{Block, DEADLINE, Peer, Running, config, eventually};

use super::faults::KIB;

/// What a member of a room received, as numbers of messages; gaps count as told.
#[derive(Default)]
struct Heard {
    messages: usize,
    gaps: usize,
    /// The highest number that was received or told as missing.
    last: u64,
}

impl Heard {
    /// Takes one line, which must go on exactly where the last one ended.
    #[track_caller]
    fn hear(&mut self, line: &Value) {
        let (first, last) = match line.get("gap") {
            Some(gap) => {
                self.gaps += 1;
                assert_eq!((&line["room"], &line["context"]), (&json!("defaultRoom"), &json!("api")));
                (gap["first"].as_u64().unwrap(), gap["last"].as_u64().unwrap())
            }
            None => {
                self.messages += 1;
                let number = line["message"]["n"].as_u64().unwrap();
                (number, number)
            }
        };
        assert_eq!(first, self.last + 1, "after {}: {line:.80}", self.last);
        assert!(last >= first);
        self.last = last;
    }
}

/// Fills a room in which one client never reads while three others do, until `stop` says so, and returns how many
/// messages there were. The others hear all of them in order, and stay.
fn fill_a_room(running: &Running, stop: impl Fn(u64) -> bool) -> (u64, Vec<Peer<TcpStream>>) {
    const BURST: u64 = 20;
    let padding = "x".repeat(4 * KIB);
    let mut others: Vec<_> = (0..3).map(|_| running.connect()).collect();
    for other in &mut others {
        other.ok("roomAdd defaultRoom");
    }
    let mut heard: Vec<Heard> = others.iter().map(|_| Heard::default()).collect();
    let end = Instant::now() + 2 * DEADLINE;
    let mut number = 0;
    while !stop(number) {
        assert!(Instant::now() < end, "after {number} messages nothing has happened");
        for _ in 0..BURST {
            number += 1;
            let message = json!({"n": number, "padding": padding});
            let said = running.block_on(running.node().broadcast(Speaker::server(), "defaultRoom", message));
            assert_eq!(said.unwrap(), Some(number));
        }
        for (other, heard) in others.iter_mut().zip(&mut heard) {
            (0..BURST).for_each(|_| heard.hear(&other.json()));
        }
    }
    for (other, heard) in others.iter_mut().zip(&heard) {
        assert_eq!((heard.last, heard.gaps), (number, 0));
        other.ok("paramsView");
    }
    (number, others)
}

#[test]
fn fault_row_24_a_member_that_does_not_read_is_closed_and_nobody_else_notices() {
    let running = Running::start(config());
    let mut stuck = running.connect_narrow();
    let id = stuck.id();
    stuck.ok("roomAdd defaultRoom");
    let most = AtomicUsize::new(0);
    let (_, others) = fill_a_room(&running, |_| match running.outbox_bytes(id) {
        Some(bytes) => {
            most.fetch_max(bytes, Ordering::Relaxed);
            false
        }
        None => true,
    });
    let most = most.into_inner();
    assert!((512 * KIB..=KIB * KIB).contains(&most), "{most} bytes waited");
    let figures = running.node().figures();
    assert_eq!((running.closed(CloseReason::SlowConsumer), figures.closed.iter().sum::<u64>()), (1, 1));
    assert_eq!(running.block_on(running.node().room_status("defaultRoom")).unwrap().members.len(), 3);
    // What was on its way is still read, then the end, in the middle of a line.
    let mut rest = Vec::new();
    let _ = stuck.wire.read_to_end(&mut rest);
    assert!(!rest.is_empty());
    drop(others);
}

fn a_stuck_member_hears_what_was_dropped(policy: SlowConsumer) {
    let mut config = config();
    config.limits.max_outbox_bytes = 256 * KIB;
    config.limits.slow_consumer = policy;
    let running = Running::start(config);
    let mut stuck = running.connect_narrow();
    let id = stuck.id();
    stuck.ok("roomAdd defaultRoom");
    // Goes on for as long again after the outbox is full.
    let full_at = AtomicUsize::new(0);
    let (number, others) = fill_a_room(&running, |number| {
        let number = number as usize;
        let bytes = running.outbox_bytes(id).unwrap();
        assert!(bytes <= 256 * KIB + 200, "{bytes} bytes wait");
        if full_at.load(Ordering::Relaxed) == 0 && bytes > 240 * KIB {
            full_at.store(number, Ordering::Relaxed);
        }
        let full_at = full_at.load(Ordering::Relaxed);
        full_at > 0 && number > 2 * full_at + 200
    });
    let mut heard = Heard::default();
    while heard.last < number {
        heard.hear(&stuck.json());
    }
    assert!(heard.gaps > 0 && heard.messages > 0 && heard.last == number);
    // Caught up, it misses nothing more, and its own requests were never dropped.
    stuck.ok("paramsView");
    let message = json!({"n": number + 1});
    running.block_on(running.node().broadcast(Speaker::server(), "defaultRoom", message)).unwrap();
    heard.hear(&stuck.json());
    assert_eq!(running.closed(CloseReason::SlowConsumer), 0);
    drop(others);
}

#[test]
fn fault_row_24_dropping_the_oldest_tells_the_gap_in_its_place() {
    a_stuck_member_hears_what_was_dropped(SlowConsumer::DropOldest);
}

#[test]
fn fault_row_24_dropping_the_newest_tells_the_gap_at_the_end() {
    a_stuck_member_hears_what_was_dropped(SlowConsumer::DropNewest);
}

/// What a busy worker finds in its inbox was joined into one chunk, however little may wait for a member.
#[test]
fn fault_row_24_a_burst_does_not_cut_members_that_read() {
    const MESSAGES: usize = 75;
    let mut config = config();
    config.node.workers = 1;
    config.limits.max_outbox_bytes = 32 * KIB;
    let (gate, is_blocked) = (Arc::new(Mutex::new(())), Arc::new(AtomicBool::new(false)));
    let block = Block(Arc::clone(&gate), Arc::clone(&is_blocked));
    let running = Running::start_with(config, |builder| builder.action(block));
    let mut members: Vec<_> = (0..3).map(|_| running.connect()).collect();
    for member in &mut members {
        member.ok("roomAdd defaultRoom");
    }
    let mut blocking = running.connect();
    let held = gate.lock().unwrap();
    blocking.say("block");
    eventually("the worker is blocked", || is_blocked.load(Ordering::Relaxed));
    let padding = "x".repeat(2 * KIB);
    for number in 0..MESSAGES {
        let message = json!({"n": number, "padding": padding});
        running.block_on(running.node().broadcast(Speaker::server(), "defaultRoom", message)).unwrap();
    }
    drop(held);
    std::thread::scope(|scope| {
        for member in &mut members {
            scope.spawn(move || (0..MESSAGES).for_each(|number| assert_eq!(member.json()["message"]["n"], number)));
        }
    });
    assert_eq!(running.closed(CloseReason::SlowConsumer), 0);
}

#[test]
fn fault_row_24_who_does_not_read_answers_is_not_read_either() {
    let running = Running::start(config());
    let mut greedy = running.connect_narrow();
    let id = greedy.id();
    greedy.ok(&format!("paramAdd big={}", "b".repeat(8 * KIB)));
    // Long requests and longer answers, so that few of them fill every buffer on the way.
    let request = format!("paramView big {}\r\n", "x".repeat(1000));
    let sent = greedy.send_until_blocked(request.as_bytes(), 64 << 20);
    assert!(sent < 64 << 20, "the server went on reading");
    let waiting = running.outbox_bytes(id).unwrap();
    // The limit for reading on, and one answer beyond it.
    assert!((KIB..=64 * KIB + 9 * KIB).contains(&waiting), "{waiting} bytes wait");
    let mut other = running.connect();
    for _ in 0..100 {
        other.ok("paramsView");
    }
    // Read at last, every request is answered, in order.
    let whole = sent / request.len();
    for number in 0..whole {
        let answer = greedy.json();
        assert_eq!((&answer["messageCount"], answer["data"].as_str().unwrap().len()), (&json!(number + 3), 8 * KIB));
    }
    assert!(whole > 100);
}

#[test]
fn fault_row_25_a_hundred_stuck_of_three_hundred_end_alone() {
    const STUCK: usize = 100;
    const BURST: u64 = 5;
    let mut config = config();
    config.limits.max_outbox_bytes = 128 * KIB;
    let running = Running::start(config);
    let mut stuck: Vec<_> = (0..STUCK).map(|_| running.connect_narrow()).collect();
    let mut others: Vec<_> = (0..2 * STUCK).map(|_| running.connect()).collect();
    for member in stuck.iter_mut().chain(&mut others) {
        member.ok("roomAdd defaultRoom");
    }
    let padding = "x".repeat(16 * KIB);
    let mut heard: Vec<Heard> = others.iter().map(|_| Heard::default()).collect();
    let end = Instant::now() + 2 * DEADLINE;
    let mut number = 0;
    while running.closed(CloseReason::SlowConsumer) < STUCK as u64 {
        assert!(Instant::now() < end, "{number} messages closed {}", running.closed(CloseReason::SlowConsumer));
        for _ in 0..BURST {
            number += 1;
            let message = json!({"n": number, "padding": padding});
            running.block_on(running.node().broadcast(Speaker::server(), "defaultRoom", message)).unwrap();
        }
        for (other, heard) in others.iter_mut().zip(&mut heard) {
            (0..BURST).for_each(|_| heard.hear(&other.json()));
        }
    }
    assert_eq!(running.connections(), 2 * STUCK);
    assert_eq!(running.block_on(running.node().room_status("defaultRoom")).unwrap().members.len(), 2 * STUCK);
    assert_eq!(running.node().figures().closed.iter().sum::<u64>(), STUCK as u64);
    others.iter_mut().for_each(|other| drop(other.ok("paramsView")));
}
