//! Keys by which a repeated request finds the first one.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use super::limits::CommandLimits;
use super::order::Idempotency;
use super::outcome::Report;

/// Keys of pending commands, and of settled ones for some time.
#[derive(Debug, Default)]
pub(super) struct Keys {
    known: HashMap<Arc<str>, Known>,
    /// Keys of settled commands, the oldest first, with when they are forgotten.
    settled: VecDeque<(u64, Arc<str>)>,
    /// Weight of their reports.
    bytes: usize,
}

#[derive(Debug)]
struct Known {
    fingerprint: [u8; 32],
    progress: Progress,
}

/// How far the first request came.
#[derive(Clone, Debug)]
pub(super) enum Progress {
    /// It is the command with this number.
    Pending(u64),
    /// It ended.
    Settled(Arc<Report>),
}

impl Keys {
    /// The first request with this key: `Err` if it was another one.
    pub(super) fn find(&mut self, asked: &Idempotency, now_ms: u64) -> Option<Result<Progress, ()>> {
        while self.settled.front().is_some_and(|(until_ms, _)| *until_ms <= now_ms) {
            self.forget_oldest();
        }
        let known = self.known.get(&*asked.key)?;
        Some(if known.fingerprint == asked.fingerprint { Ok(known.progress.clone()) } else { Err(()) })
    }

    /// Remembers a key for as long as its command is pending, and says how it is to be named later.
    pub(super) fn begin(&mut self, asked: Idempotency, number: u64) -> Arc<str> {
        let key: Arc<str> = asked.key.into();
        let known = Known { fingerprint: asked.fingerprint, progress: Progress::Pending(number) };
        self.known.insert(Arc::clone(&key), known);
        key
    }

    /// Remembers the outcome, and forgets the oldest ones that go beyond the limits.
    pub(super) fn settle(&mut self, key: Arc<str>, report: &Arc<Report>, now_ms: u64, limits: &CommandLimits) {
        if let Some(known) = self.known.get_mut(&key) {
            known.progress = Progress::Settled(Arc::clone(report));
            self.bytes += weight(report);
            self.settled.push_back((now_ms.saturating_add(limits.idempotency_ms), key));
        }
        while self.settled.len() > limits.idempotency_max {
            self.forget_oldest();
        }
    }

    /// Forgets the oldest ones until the others weigh no more than this.
    pub(super) fn shrink(&mut self, max_bytes: usize) {
        while self.bytes > max_bytes && !self.settled.is_empty() {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        if let Some((_, key)) = self.settled.pop_front()
            && let Some(Known { progress: Progress::Settled(report), .. }) = self.known.remove(&key)
        {
            self.bytes -= weight(&report);
        }
    }

    /// Whether all keys are those of settled commands.
    #[cfg(test)]
    pub(super) fn are_settled(&self) -> bool {
        self.known.len() == self.settled.len()
    }
}

/// About how many bytes a report takes.
fn weight(report: &Report) -> usize {
    const FIXED: usize = 256;
    const ROW: usize = 128;
    let reply =
        |reply: &Option<_>| reply.as_ref().map_or(0, |reply: &crate::proto::json::RawJson| reply.as_str().len());
    let rows = report.rows.iter().flatten().map(|row| ROW + reply(&row.reply));
    FIXED + reply(&report.reply) + rows.sum::<usize>()
}
