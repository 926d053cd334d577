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
    /// Bytes of the events that it has not read, about.
    unread_bytes: AtomicU64,
    /// The last event that the client's host is known to have received.
    received: AtomicU64,
    /// How long the latest ping took, in microseconds.
    round_trip_us: AtomicU64,
    /// A publication has waited for it in vain: it reads too slowly to be waited for again before it has read on.
    is_slow: AtomicBool,
    /// How long rooms wait for it.
    pub(super) rooms_patience: Patience,
    /// It has read.
    has_read: Notify,
    noted: Mutex<(ShardCounts, u64)>,
}

impl Live {
    const NEVER: u64 = u64::MAX;

    pub(super) fn new(parts: Parts) -> Self {
        let Parts { session, generation, application, fleet, facts, address, counts, after, last, received, log_bytes } =
            parts;
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
            unread_bytes: if after < last { log_bytes as u64 } else { 0 }.into(),
            received: received.into(),
            round_trip_us: Self::NEVER.into(),
            is_slow: AtomicBool::new(false),
            rooms_patience: Patience::default(),
            has_read: Notify::new(),
            noted: Mutex::new((counts, received)),
        }
    }

    /// The log has grown up to this event, by so many bytes. Whether the face has to be told.
    pub(super) fn has_grown(&self, last: u64, bytes: usize) -> bool {
        self.last.fetch_max(last, Ordering::AcqRel);
        // The face may have read it before this is told.
        if last > self.read.load(Ordering::Acquire) {
            self.unread_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        }
        !self.is_told.swap(true, Ordering::AcqRel)
    }

    /// The face is about to read. What is appended from now on is told it anew.
    pub(super) fn begins_to_read(&self) {
        self.is_told.store(false, Ordering::Release);
    }

    /// The face has read up to this event, so many bytes.
    pub(super) fn has_read_up_to(&self, seq: u64, bytes: usize) {
        self.read.fetch_max(seq, Ordering::AcqRel);
        let left = |unread: u64| Some(unread.saturating_sub(bytes as u64));
        // It always gives a number.
        let _ = self.unread_bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, left);
        if self.is_up_to_date() {
            // What was told late was counted after it had been read.
            self.unread_bytes.store(0, Ordering::Relaxed);
        }
        self.is_slow.store(false, Ordering::Relaxed);
        self.has_read.notify_waiters();
    }

    /// The newest event that is known to be in the log.
    pub(super) fn last(&self) -> u64 {
        self.last.load(Ordering::Acquire)
    }

    fn is_up_to_date(&self) -> bool {
        self.read() >= self.last()
    }

    /// Whether more waits in the log to be read than should.
    pub(super) fn is_behind(&self, most: Backlog) -> bool {
        self.is_behind_at(self.last(), most)
    }

    /// Whether more waits to be read up to this event than should.
    pub(super) fn is_behind_at(&self, seq: u64, most: Backlog) -> bool {
        let unread = seq.saturating_sub(self.read());
        unread > most.events || (unread > 0 && self.unread_bytes.load(Ordering::Relaxed) > most.bytes)
    }

    /// The last event that the face has read.
    pub(super) fn read(&self) -> u64 {
        self.read.load(Ordering::Acquire)
    }

    /// Whether it has been waited for in vain since it last read.
    pub(super) fn is_slow(&self) -> bool {
        self.is_slow.load(Ordering::Relaxed)
    }

    /// Waits until no more than that waits to be read up to this event. What comes behind it does not count, or whoever waits could
    /// be passed by for ever.
    pub(super) async fn catches_up(&self, seq: u64, most: Backlog) {
        loop {
            let reading = self.has_read.notified();
            if !self.is_behind_at(seq, most) {
                return;
            }
            reading.await;
        }
    }

    /// Nobody carries it on this connection any more: whoever waits for its client goes on.
    fn let_go(&self) {
        self.has_read_up_to(u64::MAX, 0);
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

/// Whether whoever is slow is waited for: not for a while after it was in vain.
#[derive(Debug, Default)]
pub(super) struct Patience {
    /// In milliseconds of [`Node::uptime_ms`].
    ///
    /// [`Node::uptime_ms`]: super::super::Node::uptime_ms
    gone_until_ms: AtomicU64,
}

impl Patience {
    /// Whether there is any at this time.
    pub(super) fn is_left(&self, now_ms: u64) -> bool {
        now_ms >= self.gone_until_ms.load(Ordering::Relaxed)
    }

    /// It was in vain: there is none for so long.
    pub(super) fn lose(&self, now_ms: u64, for_ms: u64) {
        self.gone_until_ms.store(now_ms.saturating_add(for_ms), Ordering::Relaxed);
    }
}

/// How much may wait in a log to be read before whoever adds to it waits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Backlog {
    pub(super) events: u64,
    pub(super) bytes: u64,
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
    pub(super) log_bytes: usize,
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
            other.let_go();
            before.push(other);
        }
        if let Some(other) = index.by_connection.insert(live.facts.id, live) {
            index.by_session.remove(&other.session);
            other.let_go();
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
        live.let_go();
        Some(live)
    }

    /// Nobody carries the session any more.
    pub(super) fn remove_session(&self, session: ConnId) -> Option<Arc<Live>> {
        let mut index = self.index();
        let live = index.by_session.remove(&session)?;
        index.by_connection.remove(&live.facts.id);
        live.let_go();
        Some(live)
    }

    /// This connection carries the session no more. `false`: it did not, or a later generation is here.
    pub(in crate::node) fn remove(&self, live: &Live) -> bool {
        let mut index = self.index();
        let here = index.by_session.get(&live.session).filter(|here| here.generation == live.generation);
        let Some(here) = here.cloned() else { return false };
        index.by_session.remove(&here.session);
        index.by_connection.remove(&here.facts.id);
        here.let_go();
        true
    }

    pub(in crate::node) fn count(&self) -> usize {
        self.index().by_session.len()
    }

    pub(in crate::node) fn all(&self) -> Vec<Arc<Live>> {
        self.index().by_session.values().cloned().collect()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing under these locks can panic half way.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Waker};

    use switchboard_proto::call::ConnectionType;
    use switchboard_proto::face::Remote;

    use super::*;
    use crate::hub::mail::ConnKey;

    fn live(session: u128, generation: u64, connection: u128) -> Arc<Live> {
        let application = Application::named("app", "key", None);
        Arc::new(Live::new(Parts {
            session: ConnId::session_from_random(session),
            generation,
            fleet: Fleet { application: application.user.shared_id(), development: false },
            application: Arc::new(application),
            facts: ConnFacts {
                id: ConnId::from_random(connection),
                kind: ConnectionType::Gateway,
                remote: Remote::Unix,
                connected_at: 0,
                fingerprint: None,
            },
            address: Address { worker: 0, key: ConnKey { slot: 0, generation: 0 } },
            counts: ShardCounts::default(),
            after: 5,
            last: 5,
            received: 5,
            log_bytes: 100,
        }))
    }

    #[test]
    fn a_face_is_told_once_of_whatever_comes_before_it_reads() {
        let live = live(1, 1, 1);
        assert_eq!([6, 7].map(|seq| live.has_grown(seq, 10)), [true, false]);
        live.begins_to_read();
        assert!(live.has_grown(8, 10));
    }

    #[test]
    fn what_is_unread_is_counted_in_events_and_in_bytes() {
        let live = live(1, 1, 1);
        let [few, many] = [1, 100].map(|events| Backlog { events, bytes: 50 });
        assert!(!live.is_behind(few));
        live.has_grown(6, 20);
        live.has_grown(7, 20);
        assert_eq!([few, many].map(|most| live.is_behind(most)), [true, false]);
        live.has_grown(8, 20);
        assert!(live.is_behind(many), "60 bytes wait");
        live.has_read_up_to(6, 20);
        assert!(!live.is_behind(many));
        live.has_read_up_to(8, 0);
        assert!(!live.is_behind(Backlog { events: 0, bytes: 0 }), "whoever has read everything is not behind");
    }

    #[test]
    fn whoever_was_waited_for_in_vain_is_not_waited_for_again_for_a_while() {
        let patience = Patience::default();
        assert!(patience.is_left(0));
        patience.lose(100, 50);
        assert_eq!([100, 149, 150].map(|now_ms| patience.is_left(now_ms)), [false, false, true]);
    }

    #[test]
    fn what_was_read_before_it_was_told_does_not_wait() {
        let live = live(1, 1, 1);
        live.has_read_up_to(6, 40);
        live.has_grown(6, 40);
        let most = Backlog { events: 100, bytes: 50 };
        live.has_grown(7, 20);
        assert!(!live.is_behind(most), "20 bytes wait");
        live.has_grown(8, 40);
        assert!(live.is_behind(most), "60 bytes wait");
    }

    #[test]
    fn whoever_waits_is_not_passed_by_for_what_comes_behind_him() {
        let (live, most) = (live(1, 1, 1), Backlog { events: 1, bytes: 1000 });
        (6..=8).for_each(|seq| assert_eq!(live.has_grown(seq, 10), seq == 6));
        let (mut waiting, mut cx) = (pin!(live.catches_up(7, most)), Context::from_waker(Waker::noop()));
        assert!(waiting.as_mut().poll(&mut cx).is_pending(), "two wait up to the seventh");
        (9..=10).for_each(|seq| assert!(!live.has_grown(seq, 10)));
        live.has_read_up_to(6, 10);
        assert!(waiting.as_mut().poll(&mut cx).is_ready());
        assert!(live.is_behind(most));
    }

    #[test]
    fn nobody_waits_for_a_client_that_is_gone() {
        let most = Backlog { events: 0, bytes: 0 };
        for go in [
            |lives: &Lives, live: &Live| drop(lives.remove_connection(live.facts.id)),
            |lives: &Lives, live: &Live| drop(lives.remove_session(live.session)),
            |lives: &Lives, live: &Live| assert!(lives.remove(live)),
            |lives: &Lives, _: &Live| drop(lives.insert(self::live(1, 2, 2))),
            |lives: &Lives, _: &Live| drop(lives.insert(self::live(2, 1, 1))),
        ] {
            let (lives, live) = (Lives::default(), live(1, 1, 1));
            lives.insert(Arc::clone(&live));
            live.has_grown(6, 10);
            let (mut waiting, mut cx) = (pin!(live.catches_up(6, most)), Context::from_waker(Waker::noop()));
            assert!(waiting.as_mut().poll(&mut cx).is_pending(), "it has not read");
            go(&lives, &live);
            assert!(waiting.as_mut().poll(&mut cx).is_ready());
        }
    }

    #[test]
    fn whoever_begins_later_in_vain_takes_nothing_from_whoever_came_after_him() {
        let lives = Lives::default();
        let [first, second, third] = [(1, 1, 1), (1, 2, 2), (1, 3, 3)].map(|(s, g, c)| live(s, g, c));
        assert!(lives.insert(Arc::clone(&first)).is_empty());
        assert_eq!(lives.insert(Arc::clone(&third)).len(), 1, "the first is told");
        assert!(lives.insert(second).is_empty());
        assert_eq!(lives.of_session(first.session).map(|live| live.generation), Some(3));
        assert!(lives.of_connection(ConnId::from_random(2)).is_none());
        assert!(lives.remove_connection(first.facts.id).is_none());
        let other = live(2, 1, 3);
        assert_eq!(lives.insert(other)[0].session, third.session, "a connection carries one session");
        assert_eq!(lives.all().len(), 1);
    }

    #[test]
    fn the_store_is_told_what_has_changed() {
        let live = live(1, 1, 1);
        assert_eq!(live.new_note(), None);
        live.counters.count_ping();
        live.note_received(7, 350);
        let note = live.new_note().unwrap();
        assert_eq!((note.counts.pings, note.received, live.round_trip_us()), (1, 7, Some(350)));
        assert_eq!(live.new_note(), None);
    }
}
