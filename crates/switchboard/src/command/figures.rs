//! What is counted.

use super::outcome::{Outcome, Report};

/// Keys that are counted by themselves, those that clients of Rocket.Chat's SDK know; all others are `other`, since senders
/// could make up any number of them.
pub const COUNTED_KEYS: [&str; 6] =
    ["heartbeat", "getLogs", "getStatistics", "pauseMessageStream", "resumeMessageStream", "other"];

/// Commands that ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ended {
    /// By [`Outcome::index`].
    pub outcomes: [u64; Outcome::ALL.len()],
    /// Those that ended with a reply, by the time from acceptance to the end: one more than [`LATENCY_BUCKETS_MS`], the last
    /// for those that took longer. Each is counted once, in the lowest bucket that holds it.
    pub latency: [u64; LATENCY_BUCKETS_MS.len() + 1],
    /// Sum of these times, in milliseconds.
    pub latency_sum_ms: u64,
}

/// Counters since the start, and two gauges.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Commands that ended, by key, in the order of [`COUNTED_KEYS`].
    pub ended: [Ended; COUNTED_KEYS.len()],
    /// Handed to connections.
    pub delivered: u64,
    /// Not handed over because an output queue was full.
    pub overflowed: u64,
    /// Replies that counted.
    pub replies: u64,
    /// Of these, those with `success: false`.
    pub client_errors: u64,
    /// Replies after another one had settled the command or filled the row.
    pub duplicate_replies: u64,
    /// Replies by somebody who was not addressed.
    pub foreign_replies: u64,
    /// Replies after the command had ended without them.
    pub late_replies: u64,
    /// Replies that were refused for their size.
    pub too_large_replies: u64,
    /// Replies to ids that are not known, or not any more.
    pub unknown_replies: u64,
    /// Commands that were refused, because of any limit or because the server stops.
    pub refused: u64,
    /// Commands that are pending now.
    pub pending: usize,
    /// Connections that take commands now.
    pub sessions: usize,
}

/// Upper bounds of the buckets of [`Ended::latency`], in milliseconds.
pub const LATENCY_BUCKETS_MS: [u64; 12] = [1, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 30_000];

impl Figures {
    /// Commands that ended in this way, whatever their key.
    pub fn ended_with(&self, outcome: Outcome) -> u64 {
        self.ended.iter().map(|ended| ended.outcomes[outcome.index()]).sum()
    }

    /// Counts a command that ended.
    pub(super) fn settle(&mut self, report: &Report) {
        let other = COUNTED_KEYS.len() - 1;
        let key = COUNTED_KEYS[..other].iter().position(|key| **key == *report.key).unwrap_or(other);
        let ended = &mut self.ended[key];
        ended.outcomes[report.outcome.index()] += 1;
        if report.outcome == Outcome::Replied {
            let bucket = LATENCY_BUCKETS_MS.partition_point(|bound| *bound < report.latency_ms);
            ended.latency[bucket] += 1;
            ended.latency_sum_ms += report.latency_ms;
        }
    }
}
