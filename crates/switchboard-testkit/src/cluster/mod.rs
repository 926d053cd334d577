//! Several nodes, the Redis that they share, faults between them, and the proof that nothing was lost. For tests only.
//!
//! - [`RedisServer`], [`RedisCluster`]: a real `redis-server`, or six of them.
//! - [`FaultProxy`]: delay, cuts, silence and narrowness between them.
//! - [`Recorder`], [`History`]: what clients wrote down, and what must hold of it.
//! - [`RespClient`]: asks Redis.
//!
//! Everything blocks, in threads of the standard library. Whatever waits has a deadline, [`DEADLINE`] if it names no other, and
//! panics with what it saw. What was started ends when it is dropped, and with the test's process, however that ends.

mod history;
mod ports;
mod process;
mod proxy;
mod redis;
mod redis_cluster;
mod resp;

pub use history::{Entry, Event, History, Name, Recorder, Violation};
pub use proxy::{Direction, FaultProxy};
pub use redis::{Data, RedisOptions, RedisServer};
pub use redis_cluster::RedisCluster;
pub use resp::{Reply, RespClient};

use std::thread;
use std::time::{Duration, Instant};

/// The longest wait for anything that must happen. Far above what it takes on a busy machine.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// Waits until `condition` holds.
///
/// # Panics
///
/// When it does not within [`DEADLINE`].
#[track_caller]
pub fn eventually(what: &str, condition: impl FnMut() -> bool) {
    assert!(within(DEADLINE, condition), "in vain: {what}");
}

/// Whether `condition` holds within this time.
pub fn within(time: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + time;
    loop {
        if condition() {
            return true;
        }
        if Instant::now() >= end {
            return false;
        }
        // What is waited for makes no sound, so it is looked at now and then.
        thread::park_timeout(Duration::from_millis(2));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_never_holds_is_waited_for_in_vain() {
        assert!(!within(Duration::ZERO, || false) && within(Duration::ZERO, || true));
        let mut looks = 0;
        eventually("the third look", || {
            looks += 1;
            looks == 3
        });
    }
}
