//! Everything at once, in random order: nobody may be forgotten.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]
#![allow(clippy::print_stderr, reason = "the seed of a storm that failed")]

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use fastrand::Rng;
use rustls::pki_types::ServerName;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use serde_json::Value;
use socket2::{Domain, Socket, Type};
use switchboard::config::{Config, SlowConsumer};
use switchboard_testkit::certs::{Authority, SERVER_NAME};

use super::peer::{DEADLINE, Folder, Peer, Running, config};

const CLIENTS: u64 = 16;
const BURSTS: usize = 25;
/// A file of lines, so that its bytes can be told from answers.
const FILE_LINE: &str = "{\"f\":1}\r\n";
const FILE_LINES: usize = 20_000;

/// A server with small limits everywhere, so that every kind of waiting happens.
fn small_limits(folder: &Folder) -> Config {
    folder.write("public/lines", FILE_LINE.repeat(FILE_LINES));
    let mut config = config();
    config.files.root = Some(folder.join("public"));
    config.files.chunk_bytes = 3000;
    config.limits.read_pause_bytes = 2000;
    config.limits.read_buffer_bytes = 1024;
    config.limits.batch_bytes = 1024;
    config.limits.inbox_bytes = 1 << 20;
    config.limits.slow_consumer = SlowConsumer::DropOldest;
    config.actions.pending_max = 0;
    config
}

/// One request, and whether a numbered answer, and how many lines of a file, come for it.
fn request(rng: &mut Rng) -> (String, bool, usize) {
    let line = match rng.u8(..20) {
        0..4 => "detailsView".to_owned(),
        4..6 => format!("paramAdd big={}", "b".repeat(rng.usize(..3000))),
        6..8 => "paramsView".to_owned(),
        8 => "roomAdd defaultRoom".to_owned(),
        9 => "roomLeave defaultRoom".to_owned(),
        10..13 => format!("say defaultRoom {}", "s".repeat(rng.usize(1..500))),
        13 => "roomView defaultRoom".to_owned(),
        14..16 => "randomNumber".to_owned(),
        16 => format!(r#"{{"action":"sleepTest","params":{{"sleepDuration":{}}}}}"#, rng.u8(..20)),
        17 => "documentation".to_owned(),
        18 => "file missing".to_owned(),
        _ => return ("file lines".to_owned(), false, FILE_LINES),
    };
    (line, true, 0)
}

/// Sends bursts of requests in pieces of any size, and reads until each is answered once. A burst is written before
/// anything is read, so it has to fit what server and kernel take meanwhile.
fn talk<S: Read + Write>(mut peer: Peer<S>, seed: u64) {
    let mut rng = Rng::with_seed(seed);
    peer.welcome();
    let mut number = 0;
    for burst in 0..BURSTS {
        let mut bytes = Vec::new();
        let mut due = BTreeSet::new();
        let mut file_lines = 0;
        for _ in 0..rng.usize(1..60) {
            let (line, is_numbered, lines) = request(&mut rng);
            // Few files, since each is as long as hundreds of other answers.
            if lines > 0 && file_lines > 0 {
                continue;
            }
            number += 1;
            if is_numbered {
                due.insert(number);
            }
            file_lines += lines;
            bytes.extend_from_slice(line.as_bytes());
            bytes.extend_from_slice(b"\r\n");
        }
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let (piece, others) = rest.split_at(rng.usize(1..=rest.len().min(4000)));
            peer.send(piece);
            rest = others;
        }
        while !due.is_empty() || file_lines > 0 {
            let line =
                peer.try_line().unwrap_or_else(|| panic!("seed {seed}, burst {burst}: {due:?} were not answered"));
            let line: Value = serde_json::from_str(&line).unwrap();
            if line.get("f").is_some() {
                file_lines -= 1;
            } else if let Some(answered) = line.get("messageCount") {
                assert!(due.remove(&answered.as_u64().unwrap()), "seed {seed}: answered twice or never asked: {line}");
            }
        }
    }
    peer.say("quit");
    while peer.try_line().is_some() {}
}

fn narrow(running: &Running) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    socket.connect(&running.address().into()).unwrap();
    let socket = TcpStream::from(socket);
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    socket.set_write_timeout(Some(DEADLINE)).unwrap();
    socket
}

/// Lets many clients talk at once. The seed is printed; with `STORM_SEED` it is given.
fn storm<S: Read + Write>(running: &Running, connect: impl Fn() -> Peer<S> + Sync) {
    let seed = std::env::var("STORM_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(|| fastrand::u64(..));
    eprintln!("STORM_SEED={seed}");
    std::thread::scope(|scope| {
        for client in 0..CLIENTS {
            let connect = &connect;
            scope.spawn(move || talk(connect(), seed.wrapping_add(client)));
        }
    });
    running.assert_empties();
    let status = running.block_on(running.node().room_status("defaultRoom")).unwrap();
    assert_eq!(status.members, []);
}

#[test]
fn in_a_storm_every_request_is_answered_once() {
    let folder = Folder::new();
    let running = Running::start(small_limits(&folder));
    storm(&running, || Peer::over(narrow(&running)));
}

#[test]
fn in_a_storm_under_tls_every_request_is_answered_once() {
    let folder = Folder::new();
    let authority = Authority::new("test authority").unwrap();
    let (cert, key) = authority.issue_server().unwrap().write(folder.path()).unwrap();
    let mut config = small_limits(&folder);
    // Pieces as large as what TLS itself may hold back.
    config.files.chunk_bytes = 64 << 10;
    config.limits.read_pause_bytes = 64 << 10;
    config.servers.socket.secure = true;
    config.servers.socket.tls.cert = Some(cert);
    config.servers.socket.tls.key = Some(key);
    let running = Running::start(config);
    let client: Arc<ClientConfig> = authority.client(None, &[&TLS12, &TLS13]).unwrap();
    storm(&running, || {
        let session = ClientConnection::new(Arc::clone(&client), ServerName::try_from(SERVER_NAME).unwrap()).unwrap();
        Peer::stream(StreamOwned::new(session, narrow(&running)))
    });
}
