//! How often an application has begun sessions.

use std::collections::VecDeque;

use switchboard_proto::shard::ShardRefusal;

use crate::backend::sessions::shards::{StartLimits, StartsLeft};

/// How long beginnings are counted for [`StartLimits::total`], from the first of them.
const DAY_MS: u64 = 24 * 3600 * 1000;

/// How long a beginning counts for [`StartLimits::concurrency`].
pub(in crate::backend) const AT_ONCE_MS: u64 = 5000;

/// What an application has begun.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::backend) struct Starts {
    /// The first of those that are counted.
    pub(in crate::backend) began_ms: u64,
    /// None: nothing is counted.
    pub(in crate::backend) count: u32,
    /// When the latest were, at most as many as may be at once. A store that is opened again does not know them.
    latest_ms: VecDeque<u64>,
}

impl Starts {
    /// What a store kept.
    pub(in crate::backend) fn restore(began_ms: u64, count: u32) -> Self {
        Self { began_ms, count, latest_ms: VecDeque::new() }
    }

    /// Whether nothing of it counts any more.
    pub(super) fn is_over(&self, now_ms: u64) -> bool {
        self.count == 0 || now_ms.saturating_sub(self.began_ms) >= DAY_MS
    }

    /// Whether there may be another one.
    pub(super) fn check(&self, limits: StartLimits, now_ms: u64) -> Result<(), ShardRefusal> {
        let left = self.left(limits, now_ms);
        if left.remaining == 0 {
            return Err(ShardRefusal::StartLimit { retry_ms: left.reset_after_ms });
        }
        let Some(nth) = (limits.concurrency as usize).checked_sub(1) else { return Ok(()) };
        let over_ms = self.latest_ms.iter().rev().nth(nth).map_or(0, |latest| latest.saturating_add(AT_ONCE_MS));
        if over_ms > now_ms { Err(ShardRefusal::StartConcurrency { retry_ms: over_ms - now_ms }) } else { Ok(()) }
    }

    /// Counts one.
    pub(super) fn add(&mut self, limits: StartLimits, now_ms: u64) {
        if self.is_over(now_ms) {
            (self.began_ms, self.count) = (now_ms, 0);
        }
        self.count = self.count.saturating_add(1);
        self.latest_ms.push_back(now_ms);
        while self.latest_ms.len() > limits.concurrency as usize {
            self.latest_ms.pop_front();
        }
    }

    /// How many there may be.
    pub(in crate::backend) fn left(&self, limits: StartLimits, now_ms: u64) -> StartsLeft {
        let (count, reset_after_ms) = if self.is_over(now_ms) {
            (0, 0)
        } else {
            (self.count, self.began_ms.saturating_add(DAY_MS).saturating_sub(now_ms))
        };
        let total = if limits.total == 0 { u32::MAX } else { limits.total };
        StartsLeft { remaining: total.saturating_sub(count), reset_after_ms }
    }
}
