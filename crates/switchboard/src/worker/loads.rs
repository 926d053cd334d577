//! How many connections there are, and with whom, and the ids of new ones.

use std::sync::atomic::{AtomicUsize, Ordering};

use switchboard_proto::id::ConnId;

use crate::hub::ids::Ids;

/// Counts of connections: one for each worker, and one for those that no worker has yet because they still speak HTTP.
#[derive(Debug)]
pub(crate) struct Loads {
    ids: Ids,
    workers: Box<[AtomicUsize]>,
    http: AtomicUsize,
    /// The highest total since [`Loads::take_peak`].
    peak: AtomicUsize,
}

impl Loads {
    /// Nobody is there yet.
    pub(crate) fn new(workers: usize, ids: Ids) -> Self {
        Self {
            ids,
            workers: (0..workers).map(|_| AtomicUsize::new(0)).collect(),
            http: AtomicUsize::new(0),
            peak: AtomicUsize::new(0),
        }
    }

    /// The id of a connection that nobody knew of before.
    pub(crate) fn new_id(&self) -> ConnId {
        self.ids.fresh()
    }

    /// A worker's count.
    pub(crate) fn of(&self, worker: usize) -> &AtomicUsize {
        &self.workers[worker]
    }

    /// The count of those that speak HTTP.
    pub(crate) fn http(&self) -> &AtomicUsize {
        &self.http
    }

    /// All of them (`limits.max_connections`). Asked before each connection is accepted, which makes the peak exact but for
    /// that connection.
    pub(crate) fn total(&self) -> usize {
        let total = self.workers.iter().chain([&self.http]).map(|load| load.load(Ordering::Relaxed)).sum();
        if total > self.peak.load(Ordering::Relaxed) {
            self.peak.fetch_max(total, Ordering::Relaxed);
        }
        total
    }

    /// Returns the highest total since the last call, however short it lasted.
    pub(crate) fn take_peak(&self) -> usize {
        self.peak.swap(0, Ordering::Relaxed)
    }

    /// The worker that has the fewest, and how many that is.
    pub(crate) fn least(&self) -> (usize, usize) {
        let loads = self.workers.iter().map(|load| load.load(Ordering::Relaxed)).enumerate();
        loads.min_by_key(|(_, load)| *load).unwrap_or_default()
    }
}
