//! Several nodes, the Redis that they share, faults between them, and the proof that nothing was lost. For tests only.
//!
//! - [`Cluster`]: server processes that are killed, stopped, paused and started again.
//! - [`RedisServer`], [`RedisCluster`]: a real `redis-server`, or six of them.
//! - [`FaultProxy`]: delay, cuts, silence and narrowness between them.
//! - [`RoomClient`], [`Crowd`]: members that write down what they do and hear.
//! - [`Recorder`], [`History`]: what was written down, and what must hold of it.
//! - [`RespClient`]: asks Redis.
//!
//! Everything blocks, in threads of the standard library. Whatever waits has a deadline, [`DEADLINE`] if it names no other, and
//! panics with what it saw. What was started ends when it is dropped, and with the test's process, however that ends. How to
//! write a test and how to read its failure: docs/internals/cluster-tests.md.

mod crowd;
mod history;
mod member;
mod nodes;
mod ports;
mod process;
mod proxy;
mod redis;
mod redis_cluster;
mod resp;

pub use crowd::{Absence, Crowd, PAUSE};
pub use history::{Entry, Event, History, Name, Recorder, Violation};
pub use member::{RoomClient, Said};
pub use nodes::{ADMIN_TOKEN, Addresses, Cluster, ClusterOptions, Place};
pub use proxy::{Direction, FaultProxy};
pub use redis::{Data, RedisOptions, RedisServer};
pub use redis_cluster::RedisCluster;
pub use resp::{Reply, RespClient};

use std::env;
use std::ops::Range;
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

/// Runs a test with random faults under each of its seeds: 0 up to `few`, or up to `SWITCHBOARD_KILLS` if that is set, or only
/// `SWITCHBOARD_SEED`. If it fails, the seed is printed.
///
/// # Panics
///
/// When the test does, or one of the variables is no number.
pub fn each_seed(few: u64, mut test: impl FnMut(u64)) {
    let variable = |name: &str| {
        let text = env::var(name).ok()?;
        Some(text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text:?}")))
    };
    for seed in seeds(few, variable("SWITCHBOARD_KILLS"), variable("SWITCHBOARD_SEED")) {
        let told = TellSeed(seed);
        test(seed);
        drop(told);
    }
}

fn seeds(few: u64, many: Option<u64>, one: Option<u64>) -> Range<u64> {
    one.map_or(0..many.unwrap_or(few), |seed| seed..seed + 1)
}

/// Prints a seed when it is dropped by a panic.
struct TellSeed(u64);

impl Drop for TellSeed {
    #[allow(clippy::print_stderr, reason = "a test that fails shows how to repeat it")]
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("== failed with seed {0}; again: SWITCHBOARD_SEED={0}", self.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_are_few_or_many_or_one() {
        assert_eq!(
            (seeds(3, None, None), seeds(3, Some(100), None), seeds(3, Some(100), Some(17))),
            (0..3, 0..100, 17..18)
        );
    }

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
