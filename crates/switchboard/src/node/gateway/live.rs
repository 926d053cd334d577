//! Sessions that connections of this node carry.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use switchboard_proto::face::ConnFacts;
use switchboard_proto::id::ConnId;
use switchboard_proto::shard::{ShardCounters, ShardCounts};
use tokio::sync::Notify;

use crate::backend::sessions::shards::{Fleet, ShardNote};
use crate::hub::mail::Address;

use super::applications::Application;

/// A session that a connection of this node carries, and what this node knows of it before the store does.
#[derive(Debug)]
pub(in crate::node) struct Live {
    /// Which session.
    pub(in crate::node) session: ConnId,
    /// What this node holds of it.
    pub(in crate::node) generation: u64,
    /// Whose it is.
    pub(in crate::node) application: Arc<Application>,
    /// The fleet that it is part of.
    pub(in crate::node) fleet: Fleet,
    /// The connection.
    pub(in crate::node) facts: ConnFacts,
    /// Where that lives.
    pub(in crate::node) address: Address,
    /// What its face counts.
    pub(in crate::node) counters: Arc<ShardCounters>,
    /// The face knows that the log has grown, and has not read since.
    is_told: AtomicBool,
    /// The newest event that is known to be in the log.
    last: AtomicU64,
    /// The last event that the face has read.
    read: AtomicU64,
    /// The last event that the client's host is known to have received.
    received: AtomicU64,
    /// How long the latest ping took, in microseconds.
    round_trip_us: AtomicU64,
    /// A publication has waited for it in vain: it reads too slowly to be waited for again before it has read on.
    is_slow: AtomicBool,
    /// It has read.
    has_read: Notify,
    noted: Mutex<(ShardCounts, u64)>,
}

impl Live {
    const NEVER: u64 = u64::MAX;

    pub(super) fn new(parts: Parts) -> Self {
        let Parts { session, generation, application, fleet, facts, address, counts, after, last, received } = parts;
        Self {
            session,
            generation,
            application,
            fleet,
            facts,
            address,
            counters: Arc::new(ShardCounters::new(counts)),
            is_told: AtomicBool::new(false),
            last: last.into(),
            read: after.into(),
            received: received.into(),
            round_trip_us: Self::NEVER.into(),
            is_slow: AtomicBool::new(false),
            has_read: Notify::new(),
            noted: Mutex::new((counts, received)),
        }
    }

    /// The log has grown up to this event. Whether the face has to be told.
    pub(super) fn has_grown(&self, last: u64) -> bool {
        self.last.fetch_max(last, Ordering::AcqRel);
        !self.is_told.swap(true, Ordering::AcqRel)
    }

    /// The face is about to read. What is appended from now on is told it anew.
    pub(super) fn begins_to_read(&self) {
        self.is_told.store(false, Ordering::Release);
    }

    /// The face has read up to this event.
    pub(super) fn has_read_up_to(&self, seq: u64) {
        self.read.fetch_max(seq, Ordering::AcqRel);
        self.is_slow.store(false, Ordering::Relaxed);
        self.has_read.notify_waiters();
    }

    /// How many events wait in the log to be read.
    fn backlog(&self) -> u64 {
        self.last.load(Ordering::Acquire).saturating_sub(self.read.load(Ordering::Acquire))
    }

    /// Whether a publication should wait for it.
    pub(super) fn lags(&self, most: u64) -> bool {
        self.backlog() > most && !self.is_slow.load(Ordering::Relaxed)
    }

    /// Waits until no more than `most` events wait to be read.
    pub(super) async fn catches_up(&self, most: u64) {
        loop {
            let reading = self.has_read.notified();
            if self.backlog() <= most {
                return;
            }
            reading.await;
        }
    }

    /// It was waited for in vain.
    pub(super) fn note_slow(&self) {
        self.is_slow.store(true, Ordering::Relaxed);
    }

    /// The client's host has received everything up to this event.
    pub(super) fn note_received(&self, seq: u64, round_trip_us: u64) {
        self.received.fetch_max(seq, Ordering::Relaxed);
        self.round_trip_us.store(round_trip_us.min(Self::NEVER - 1), Ordering::Relaxed);
    }

    /// How long the latest ping took, in microseconds.
    pub(super) fn round_trip_us(&self) -> Option<u64> {
        Some(self.round_trip_us.load(Ordering::Relaxed)).filter(|us| *us != Self::NEVER)
    }

    /// What the store is to keep.
    pub(super) fn note(&self) -> ShardNote {
        let received = self.received.load(Ordering::Relaxed);
        ShardNote { id: self.session, generation: self.generation, counts: self.counters.counts(), received }
    }

    /// The same, unless it was asked for before and nothing has changed since.
    pub(super) fn new_note(&self) -> Option<ShardNote> {
        let note = self.note();
        let now = (note.counts, note.received);
        let mut noted = lock(&self.noted);
        (std::mem::replace(&mut *noted, now) != now).then_some(note)
    }
}

/// What is known of a session that a connection begins to carry.
pub(super) struct Parts {
    pub(super) session: ConnId,
    pub(super) generation: u64,
    pub(super) application: Arc<Application>,
    pub(super) fleet: Fleet,
    pub(super) facts: ConnFacts,
    pub(super) address: Address,
    pub(super) counts: ShardCounts,
    pub(super) after: u64,
    pub(super) last: u64,
    pub(super) received: u64,
}

/// All of them.
#[derive(Debug, Default)]
pub(in crate::node) struct Lives(Mutex<Index>);

#[derive(Debug, Default)]
struct Index {
    by_session: HashMap<ConnId, Arc<Live>>,
    by_connection: HashMap<ConnId, Arc<Live>>,
}

impl Lives {
    fn index(&self) -> MutexGuard<'_, Index> {
        lock(&self.0)
    }

    /// A connection carries a session from now on, unless a later generation of it is here already. The result are those that no
    /// connection carries any more: who carried it, and what the connection carried.
    pub(super) fn insert(&self, live: Arc<Live>) -> Vec<Arc<Live>> {
        let mut index = self.index();
        let mut before = Vec::new();
        if index.by_session.get(&live.session).is_some_and(|other| other.generation > live.generation) {
            return before;
        }
        if let Some(other) = index.by_session.insert(live.session, Arc::clone(&live)) {
            index.by_connection.remove(&other.facts.id);
            before.push(other);
        }
        if let Some(other) = index.by_connection.insert(live.facts.id, live) {
            index.by_session.remove(&other.session);
            before.push(other);
        }
        before
    }

    pub(in crate::node) fn of_session(&self, session: ConnId) -> Option<Arc<Live>> {
        self.index().by_session.get(&session).cloned()
    }

    pub(in crate::node) fn of_connection(&self, connection: ConnId) -> Option<Arc<Live>> {
        self.index().by_connection.get(&connection).cloned()
    }

    /// The connection carries nothing any more.
    pub(super) fn remove_connection(&self, connection: ConnId) -> Option<Arc<Live>> {
        let mut index = self.index();
        let live = index.by_connection.remove(&connection)?;
        index.by_session.remove(&live.session);
        Some(live)
    }

    /// Nobody carries the session any more.
    pub(super) fn remove_session(&self, session: ConnId) -> Option<Arc<Live>> {
        let mut index = self.index();
        let live = index.by_session.remove(&session)?;
        index.by_connection.remove(&live.facts.id);
        Some(live)
    }

    pub(super) fn all(&self) -> Vec<Arc<Live>> {
        self.index().by_session.values().cloned().collect()
    }

    pub(in crate::node) fn len(&self) -> usize {
        self.index().by_session.len()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing under these locks can panic half way.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
