//! One direction of one connection: a thread that reads, a bounded queue, a thread that writes when it is time.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::{Direction, Link, Shared, Way};

/// What was read at once, and when.
type Piece = (Instant, Vec<u8>);

/// Starts both threads. The one that is returned ends after the other.
pub(super) fn start(shared: Arc<Shared>, link: Arc<Link>, direction: Direction) -> JoinHandle<()> {
    let (pieces, to_write) = sync_channel(PIECES_MAX);
    thread::spawn(move || {
        let reading = (Arc::clone(&shared), Arc::clone(&link));
        let reader = thread::spawn(move || read(&reading.0, &reading.1, direction, &pieces));
        let (_, to) = ends(&link, direction);
        match write(&shared, &link, direction, &to_write) {
            // The end of the stream goes on like what came before it.
            Ok(()) => drop(to.shutdown(Shutdown::Write)),
            Err(_) => shared.end(&link),
        }
        // The reader may wait for space in the queue.
        drop(to_write);
        // A reader that panicked has printed why.
        let _ = reader.join();
    })
}

fn ends(link: &Link, direction: Direction) -> (&TcpStream, &TcpStream) {
    match direction {
        Direction::ToServer => (&link.client, &link.server),
        Direction::ToClient => (&link.server, &link.client),
    }
}

fn read(shared: &Shared, link: &Link, direction: Direction, pieces: &SyncSender<Piece>) {
    let (mut from, _) = ends(link, direction);
    let mut buffer = vec![0; PIECE_BYTES];
    loop {
        let count = match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(_) => return shared.end(link),
        };
        // Under the lock, so that whoever sets a fault knows that everything behind it is subject to it.
        let is_swallowed = {
            let state = shared.lock();
            let is_swallowed = state.faults.way(direction) == Way::Swallowing;
            link.has_hole.fetch_or(is_swallowed, Ordering::Relaxed);
            is_swallowed
        };
        if !is_swallowed && pieces.send((Instant::now(), buffer[..count].to_vec())).is_err() {
            break;
        }
    }
}

/// Writes until the stream ends; an error when the connection does.
fn write(shared: &Shared, link: &Link, direction: Direction, pieces: &Receiver<Piece>) -> io::Result<()> {
    let (_, mut to) = ends(link, direction);
    // When the bytes that were written have gone through a narrow connection.
    let mut free_at = Instant::now();
    for (read_at, bytes) in pieces {
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let Some(rate) = wait_until_due(shared, link, direction, read_at, free_at) else { return Err(gone()) };
            let most = rate.map_or(rest.len(), |rate| (rate / STEPS_PER_SECOND).max(1) as usize);
            let part = &rest[..most.min(rest.len())];
            let count = match to.write(part) {
                Ok(count) => count,
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => 0,
                Err(error) => return Err(error),
            };
            if let Some(rate) = rate {
                free_at = free_at.max(Instant::now()) + Duration::from_secs(1).mul_f64(count as f64 / rate as f64);
            }
            rest = &rest[count..];
        }
    }
    wait_until_open(shared, link, direction)
}

/// Waits until the end of the stream may go on: nobody hears of it where nobody hears anything.
fn wait_until_open(shared: &Shared, link: &Link, direction: Direction) -> io::Result<()> {
    let mut state = shared.lock();
    while !link.has_ended.load(Ordering::Relaxed) {
        match state.faults.way(direction) {
            Way::Open => return Ok(()),
            Way::Swallowing => link.has_hole.store(true, Ordering::Relaxed),
            Way::Holding => {}
        }
        state = shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
    }
    Err(gone())
}

/// Waits until what was read at `read_at` may be written; returns the rate in bytes per second, if there is one. `None`: the
/// connection has ended.
fn wait_until_due(
    shared: &Shared,
    link: &Link,
    direction: Direction,
    read_at: Instant,
    free_at: Instant,
) -> Option<Option<u64>> {
    let mut state = shared.lock();
    loop {
        if link.has_ended.load(Ordering::Relaxed) {
            return None;
        }
        let faults = &state.faults;
        let rate = faults.bytes_per_second.map(u64::from);
        let due = if rate.is_some() { free_at.max(read_at + faults.delay) } else { read_at + faults.delay };
        let wait = due.saturating_duration_since(Instant::now());
        state = match faults.way(direction) {
            Way::Holding => shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
            _ if wait.is_zero() => return Some(rate),
            _ => shared.changed.wait_timeout(state, wait).unwrap_or_else(PoisonError::into_inner).0,
        };
    }
}

fn gone() -> io::Error {
    ErrorKind::ConnectionReset.into()
}

const PIECE_BYTES: usize = 16 * 1024;
/// With [`PIECE_BYTES`] what one direction holds at most, 4 MiB; further bytes wait in the sender's kernel.
const PIECES_MAX: usize = 256;
/// How finely a narrow connection is fed.
const STEPS_PER_SECOND: u64 = 50;
