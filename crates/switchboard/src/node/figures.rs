//! Figures of what the store holds: counted in this process, or, where nodes share the store, read from time to time.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior};

use crate::backend::DirectorySize;
use crate::backend::sessions::shards::ShardTotals;

use super::Node;

/// Figures that were read from the store and are older are not shown: better none than wrong ones.
const LIFE: Duration = Duration::from_secs(30);

/// Figures of what the store holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreFigures {
    /// Rooms and members, in a cluster those of all nodes.
    pub size: DirectorySize,
    /// Gateway sessions that no connection carries, in a cluster those of all nodes.
    pub detached_sessions: usize,
    /// Events that are kept for a replay, in a cluster those of all nodes.
    pub log_events: u64,
    /// Bytes of those events.
    pub log_bytes: usize,
}

impl StoreFigures {
    fn new(size: DirectorySize, totals: ShardTotals) -> Self {
        let ShardTotals { sessions: _, detached, log_events, log_bytes } = totals;
        Self { size, detached_sessions: detached, log_events, log_bytes }
    }
}

/// The figures that were read last, and when.
#[derive(Debug, Default)]
pub(super) struct Sample(Mutex<Option<(Instant, StoreFigures)>>);

impl Sample {
    fn put(&self, figures: StoreFigures, now: Instant) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((now, figures));
    }

    fn at(&self, now: Instant) -> Option<StoreFigures> {
        let (read, figures) = (*self.0.lock().unwrap_or_else(PoisonError::into_inner))?;
        (now.duration_since(read) <= LIFE).then_some(figures)
    }
}

impl Node {
    /// Returns what the store holds, without asking a store that is not in this process. `None` while the store cannot be
    /// reached, and while the latest figures are older than 30 s.
    pub fn store_figures(&self) -> Option<StoreFigures> {
        match (self.0.directory.counted(), self.0.sessions.totals()) {
            (Some(size), Some(totals)) => Some(StoreFigures::new(size, totals)),
            _ if self.cut_off().is_some() => None,
            _ => self.0.store_sample.at(Instant::now()),
        }
    }

    /// How many gateway sessions connections of this node carry.
    pub fn attached_sessions(&self) -> usize {
        self.0.gateway.lives.count()
    }

    /// Reads the figures of the shared store for as long as there is a node.
    pub(super) fn keep_store_figures(&self) {
        let Some(interval) = self.peers().map(|peers| peers.figures_interval()) else { return };
        let inner = Arc::downgrade(&self.0);
        self.spawn(Box::pin(async move {
            let mut ticks = tokio::time::interval(interval);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                let Some(node) = inner.upgrade().map(Node) else { return };
                if node.cut_off().is_none() {
                    node.read_store_figures().await;
                }
            }
        }));
    }

    async fn read_store_figures(&self) {
        let begun = Instant::now();
        // A failure is counted where it happens, and shows here as figures that grow old.
        let Ok(size) = self.0.directory.size().await else { return };
        let Ok(totals) = self.0.sessions.read_totals().await else { return };
        self.0.store_sample.put(StoreFigures::new(size, totals), begun);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_of_the_store_are_shown_for_thirty_seconds() {
        let sample = Sample::default();
        let read = Instant::now();
        assert_eq!(sample.at(read), None);
        let figures = StoreFigures { log_bytes: 7, ..StoreFigures::default() };
        sample.put(figures, read);
        assert_eq!(sample.at(read + LIFE), Some(figures));
        assert_eq!(sample.at(read + LIFE + Duration::from_millis(1)), None);
    }
}
