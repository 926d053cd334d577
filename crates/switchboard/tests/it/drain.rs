//! The planned stop: who is told what, and that nobody can hold it up.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use switchboard::config::Config;
use switchboard::node::Speaker;
use switchboard::proto::close::CloseReason;

use super::peer::{Block, DEADLINE, Folder, Peer, Running, config, eventually, within};

fn slow_stop() -> Config {
    let mut config = config();
    config.servers.socket.shutdown_wait = Duration::from_secs(60);
    config.node.drain_timeout = Duration::from_secs(60);
    config.servers.socket.close_linger = Duration::from_millis(300);
    config
}

/// A client with an action under way that takes this long.
fn busy(running: &Running, sleep_ms: u64) -> Peer<TcpStream> {
    let mut peer = running.connect();
    peer.ok(&format!("paramAdd sleepDuration={sleep_ms}"));
    peer.say("sleepTest");
    peer.ok("paramsView");
    peer
}

#[test]
fn fault_row_37_the_idle_go_at_once_and_the_busy_when_they_are_answered() {
    let mut running = Running::start(slow_stop());
    let mut idle: Vec<_> = (0..20).map(|_| running.connect()).collect();
    let mut busy: Vec<_> = (0..5).map(|_| busy(&running, 700)).collect();
    let address = running.address();
    let begun = Instant::now();
    let stopping = running.stop();
    idle.iter_mut().for_each(Peer::goodbye);
    assert!(begun.elapsed() < Duration::from_millis(600), "{:?}", begun.elapsed());
    eventually("nobody is accepted any more", || TcpStream::connect(address).is_err());

    // Meanwhile verbs are answered and new actions are not begun.
    let waiting = &mut busy[0];
    assert_eq!(waiting.ok("detailsView")["pendingActions"], 1);
    waiting.ok("roomAdd defaultRoom");
    waiting.ok("say defaultRoom hello");
    let refused = waiting.ask("randomNumber");
    assert_eq!(refused["error"], "Error: the server is shutting down");
    for peer in &mut busy {
        assert_eq!(peer.json()["sleepDuration"], "700".parse::<u64>().unwrap());
        peer.goodbye();
    }
    drop((idle, busy));
    running.block_on(stopping).unwrap();
}

#[test]
fn fault_row_37_an_action_that_takes_too_long_is_given_up() {
    let mut config = slow_stop();
    config.servers.socket.shutdown_wait = Duration::from_millis(300);
    let mut running = Running::start(config);
    let mut peer = busy(&running, 60_000);
    let begun = Instant::now();
    let stopping = running.stop();
    peer.goodbye();
    assert!((300..2000).contains(&begun.elapsed().as_millis()), "{:?}", begun.elapsed());
    drop(peer);
    running.block_on(stopping).unwrap();
}

#[test]
fn fault_row_37_the_drain_timeout_ends_whatever_is_left() {
    let mut config = slow_stop();
    config.node.drain_timeout = Duration::from_millis(400);
    let mut running = Running::start(config);
    let mut peer = busy(&running, 60_000);
    let begun = Instant::now();
    let stopping = running.stop();
    running.block_on(stopping).unwrap();
    assert!((400..2400).contains(&begun.elapsed().as_millis()), "{:?}", begun.elapsed());
    peer.end();
}

/// Its welcome was due in the middle of the stop, and was taken for the end of all patience.
#[test]
fn an_action_of_a_client_that_waits_for_its_welcome_is_answered_before_the_goodbye() {
    let mut config = slow_stop();
    config.servers.socket.welcome_delay = Duration::from_millis(500);
    let mut running = Running::start(config);
    let mut peer = running.connect_raw();
    peer.say(r#"{"action":"sleepTest","params":{"sleepDuration":900}}"#);
    peer.ok("paramsView");
    let stopping = running.stop();
    peer.welcome();
    assert_eq!(peer.json()["sleepDuration"], 900);
    peer.goodbye();
    drop(peer);
    running.block_on(stopping).unwrap();
}

#[test]
fn without_a_drain_timeout_everything_ends_at_once() {
    let mut config = slow_stop();
    config.node.drain_timeout = Duration::ZERO;
    let mut running = Running::start(config);
    let mut peers = [busy(&running, 60_000), running.connect()];
    let begun = Instant::now();
    let stopping = running.stop();
    running.block_on(stopping).unwrap();
    assert!(begun.elapsed() < Duration::from_secs(2));
    peers.iter_mut().for_each(|peer| drop(peer.rest()));
}

#[test]
fn fault_row_37_clients_that_do_not_read_do_not_hold_up_the_stop() {
    let folder = Folder::new();
    folder.write("large", vec![b'x'; 20 << 20]);
    let mut config = slow_stop();
    config.files.root = Some(folder.path().to_owned());
    let mut running = Running::start(config);
    // One in the middle of a file, one with an outbox full of answers, one with room messages, one that reads nothing and
    // never closes its side.
    let mut file = running.connect_narrow();
    file.say("file large");
    let mut answers = running.connect_narrow();
    let padding = "x".repeat(1000);
    answers.ok(&format!("paramAdd big={}", "b".repeat(8000)));
    answers.send_until_blocked(format!("paramView big {padding}\r\n").as_bytes(), 64 << 20);
    let mut room = running.connect_narrow();
    let id = room.id();
    room.ok("roomAdd defaultRoom");
    let text = "x".repeat(30_000);
    eventually("its outbox fills", || {
        running.block_on(running.node().broadcast(Speaker::server(), "defaultRoom", text.as_str())).unwrap();
        running.outbox_bytes(id).unwrap() > 64 << 10
    });
    let idle = running.connect();
    let begun = Instant::now();
    let node = running.node().clone();
    let stopping = running.stop();
    assert!(within(DEADLINE, || stopping.is_finished()));
    running.block_on(stopping).unwrap();
    // Each had its linger to begin reading, and none used it.
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    let figures = node.figures();
    assert_eq!((figures.connections, figures.closed[CloseReason::Shutdown.index()]), (0, 4));
    drop((file, answers, room, idle));
}

#[test]
fn a_client_that_reads_gets_its_file_to_the_end_before_the_goodbye() {
    let folder = Folder::new();
    let content: Vec<u8> = (0..8_000_000u32).map(|index| (index / 3) as u8).collect();
    folder.write("large", &content);
    let mut config = slow_stop();
    config.files.root = Some(folder.path().to_owned());
    let mut running = Running::start(config);
    let mut peer = running.connect_narrow();
    peer.say("file large");
    let begin = peer.raw(1000);
    let stopping = running.stop();
    let rest = peer.raw(content.len() - 1000);
    assert!([begin, rest].concat() == content);
    peer.goodbye();
    drop(peer);
    running.block_on(stopping).unwrap();
}

#[test]
fn dropping_a_server_ends_everything() {
    let mut running = Running::start(slow_stop());
    let address = running.address();
    let mut peers = [running.connect(), busy(&running, 60_000)];
    let node = running.node().clone();
    drop(running.server.take());
    peers.iter_mut().for_each(|peer| drop(peer.rest()));
    eventually("nobody listens any more", || TcpStream::connect(address).is_err());
    let id = running.block_on(async { node.add_room("after").await });
    assert!(id.is_ok(), "what is left of the node still answers");
}

/// The request to end found no space with a busy worker, and was lost: worker and listener lived on without a server.
#[test]
fn dropping_a_server_whose_inbox_is_full_ends_it_too() {
    let mut config = slow_stop();
    config.limits.inbox_bytes = 1 << 20;
    config.node.workers = 1;
    let (gate, is_blocked) = (Arc::new(Mutex::new(())), Arc::new(AtomicBool::new(false)));
    let block = Block(Arc::clone(&gate), Arc::clone(&is_blocked));
    let mut running = Running::start_with(config, |builder| builder.action(block));
    let address = running.address();
    let mut peer = running.connect();
    peer.ok("roomAdd defaultRoom");
    let held = gate.lock().unwrap();
    peer.say("block");
    eventually("the worker is blocked", || is_blocked.load(Ordering::Relaxed));
    let text = "x".repeat(60_000);
    let node = running.node().clone();
    running.block_on(async {
        let publish = || node.broadcast(Speaker::server(), "defaultRoom", text.as_str());
        while tokio::time::timeout(Duration::from_millis(200), publish()).await.is_ok() {}
        // And the small space that is left.
        while tokio::time::timeout(Duration::from_millis(200), node.broadcast(Speaker::server(), "defaultRoom", "x"))
            .await
            .is_ok()
        {}
    });
    drop(running.server.take());
    drop(held);
    eventually("nobody listens any more", || TcpStream::connect(address).is_err());
    peer.rest();
}
