//! The broker of several nodes.
//!
//! A publish is one step inside of Redis, in which the message gets its number, is kept in the room's log and goes to every node that
//! listens. There is no other way to a member: the node of the speaker, too, gets the message from Redis. What
//! each node knows of a room, and what follows from what comes, is in its [`Feed`]; here it meets Redis and the workers.

mod audit;
mod room;
mod steps;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use switchboard_proto::call::HistoryRange;
use switchboard_proto::event::RoomMessage;
use switchboard_proto::id::RoomName;
use switchboard_proto::wire::Encoded;
use tokio::sync::{Notify, Semaphore, watch};

use crate::backend::{BackendError, Broker, Draft, Enter, LogLimits, Published, RoomHistory};
use crate::config::Degraded;
use crate::hub::mailbox::Mailbox;
use crate::op::{BoxFuture, Op};

use super::cluster::{Redis, RoomListener};
use super::envelope;
use super::feed::{Mark, Place};
use super::link::LinkState;
use super::nodes::{Membership, Nodes};
use super::store::Store;
use super::subscriber::Subscriber;
use super::trouble::Trouble;
use room::{Room, Visit};
use steps::Publication;

/// How many rooms look things up in their logs at once.
const FILLS: usize = 32;

/// What a broker needs to know.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BrokerSettings {
    /// How much is remembered of each room; `total_bytes` does not count here.
    pub(crate) limits: LogLimits,
    /// `backend.degraded`.
    pub(crate) degraded: Degraded,
    /// `backend.redis.audit_interval`.
    pub(crate) audit_interval: Duration,
}

/// Numbers messages in Redis and hands on what all nodes publish. Cloning shares it.
#[derive(Clone)]
pub(crate) struct RedisBroker(Arc<Inner>);

struct Inner {
    store: Store,
    nodes: Nodes,
    subscriber: Subscriber,
    /// What is published is published by the store itself.
    publishes_in_store: bool,
    settings: BrokerSettings,
    /// In the order of their numbers.
    workers: Vec<Mailbox>,
    /// Those that somebody on this node hears, or is about to.
    rooms: Mutex<HashMap<RoomName, Arc<Room>>>,
    /// All rooms are to be compared with the store now.
    audit_due: Arc<Notify>,
    fills: Semaphore,
    figures: Figures,
}

/// What has happened so far.
#[derive(Debug, Default)]
struct Figures {
    /// Messages that no node wrote.
    malformed: AtomicU64,
    /// Messages that only members on this node heard.
    local: AtomicU64,
    /// Messages that were handed on after a look into a log.
    filled: AtomicU64,
    /// Gaps that were told.
    gaps: AtomicU64,
}

impl fmt::Debug for RedisBroker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisBroker").field("figures", &self.0.figures).finish_non_exhaustive()
    }
}

impl RedisBroker {
    /// A broker for these workers, in the order of their numbers.
    pub(crate) fn new(redis: &Redis, workers: Vec<Mailbox>, settings: BrokerSettings) -> Self {
        let broker = Self(Arc::new(Inner {
            store: redis.store.clone(),
            nodes: redis.nodes.clone(),
            subscriber: redis.subscriber.clone(),
            publishes_in_store: redis.publishes_in_store,
            settings,
            workers,
            rooms: Mutex::default(),
            audit_due: Arc::default(),
            fills: Semaphore::new(FILLS),
            figures: Figures::default(),
        }));
        let membership: watch::Receiver<Membership> = redis.nodes.membership();
        tokio::spawn(audit::keep_comparing(Arc::downgrade(&broker.0), membership));
        broker
    }
}

impl Inner {
    fn rooms(&self) -> MutexGuard<'_, HashMap<RoomName, Arc<Room>>> {
        // Nothing under this lock can panic half way.
        self.rooms.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn find(&self, room: &str) -> Option<Arc<Room>> {
        self.rooms().get(room).cloned()
    }

    /// A message of nobody has come: it is dropped.
    fn note_malformed(&self, room: &RoomName) {
        self.figures.malformed.fetch_add(1, Ordering::Relaxed);
        // What it says is counted with the link's troubles.
        drop(self.store.link.trouble(Trouble::Reply, format_args!("nobody wrote what {room} says")));
    }

    fn is_up(&self) -> bool {
        self.store.standing.is_valid() && matches!(*self.store.link.state().borrow(), LinkState::Up { .. })
    }

    async fn publish(self: Arc<Self>, draft: Draft) -> Result<Option<Published>, BackendError> {
        if self.settings.degraded == Degraded::Local && !self.is_up() {
            return self.say_here(draft).await.map(Some);
        }
        let mark = Mark(fastrand::u64(1..));
        let envelope = envelope::write(&draft, mark, self.store.standing.incarnation());
        let known = self.find(draft.room.as_str()).and_then(|room| room.known()).map_or(0, |known| known.place.number);
        // A stale draft was not published: it is tried again under the same mark.
        let deadline = Instant::now() + self.store.link.timeout();
        let publication = loop {
            let generation = self.store.standing.generation();
            match self.number(&draft, mark, &envelope, known).await? {
                Publication::Stale if self.learn_generation(generation, deadline).await => {}
                publication => break publication,
            }
        };
        let place = match publication {
            Publication::Done { place, before } => {
                if !self.publishes_in_store {
                    let channel = self.store.keys.room_channel(draft.room.as_str());
                    let payload = envelope::write_head(place, &before, &envelope);
                    // It has its number and is in the log: whoever does not hear it finds it there.
                    drop(self.subscriber.publish(&channel, &payload).await);
                }
                place
            }
            Publication::Before(said) => {
                let message = self.read_said(&said, &draft.room);
                return match message {
                    Some(message) => Ok(Some(Published::Before(Box::new(message)))),
                    None => Err(BackendError("what was said before under this id cannot be read".to_owned())),
                };
            }
            Publication::IdTaken => return Ok(Some(Published::IdTaken)),
            Publication::NoRoom => return Ok(None),
            Publication::Stale => return Err(steps::stale()),
        };
        Ok(Some(Published::Now(Arc::new(Encoded::new(numbered(draft, place))))))
    }

    /// What stands under an id: place, user and envelope.
    fn read_said(&self, said: &[u8], room: &RoomName) -> Option<RoomMessage> {
        let (place, rest) = envelope::read_place(said)?;
        let end = memchr::memchr(b'\n', rest)?;
        let message = envelope::read_envelope(&rest[end + 1..], place, None, room, 0);
        if message.is_none() {
            self.note_malformed(room);
        }
        Some(message?.message)
    }

    /// Has members on this node hear what the store cannot number.
    async fn say_here(&self, draft: Draft) -> Result<Published, BackendError> {
        let Some(room) = self.find(draft.room.as_str()) else {
            return Err(self.store.link.trouble(Trouble::Connection, "nobody on this node hears the room"));
        };
        let (origin, echo) = (draft.origin, draft.echo);
        // No two of them may have the same id, which is made of room, epoch and number.
        let place = Place { epoch: fastrand::u64(..), number: 0 };
        let message = Arc::new(Encoded::new(numbered(draft, place)));
        // Behind what is being delivered.
        let _feed = room.feed.lock().await;
        room.hall().local += 1;
        self.figures.local.fetch_add(1, Ordering::Relaxed);
        self.deliver(&room, &message, origin, echo).await;
        Ok(Published::Now(message))
    }

    async fn subscribe(self: Arc<Self>, name: RoomName, worker: u16) -> Result<Option<u64>, BackendError> {
        let room = Visit::begin(&self, &name);
        if !self.open_feed(&room).await? {
            return Ok(None);
        }
        let feed = room.feed.lock().await;
        let mut hall = room.hall();
        Ok(feed.heard().filter(|_| !hall.is_over).map(|heard| {
            hall.take_seats(worker, 1);
            heard.place.number
        }))
    }

    /// See [`Broker::listen`]. The lock of the feed is held from reading the log until the worker has the mail: what is
    /// published during this time is handed on after it.
    async fn listen(
        self: Arc<Self>,
        name: RoomName,
        worker: u16,
        listeners: u32,
        from_start: bool,
        enter: Enter,
    ) -> Result<bool, BackendError> {
        let room = Visit::begin(&self, &name);
        if !self.open_feed(&room).await? {
            return Ok(false);
        }
        let feed = room.feed.lock().await;
        let Some(heard) = feed.heard() else { return Ok(false) };
        let said = match from_start {
            true => Some(self.read_up_to(&name, heard.place).await?.into()),
            false => None,
        };
        {
            let mut hall = room.hall();
            if hall.is_over {
                return Ok(false);
            }
            hall.take_seats(worker, listeners);
        }
        if let Some(mailbox) = self.workers.get(usize::from(worker)) {
            mailbox.push(enter(heard.place.number, said)).await;
        }
        Ok(true)
    }

    /// Has the node hear a room. Returns `false` if there is no such room.
    async fn open_feed(self: &Arc<Self>, room: &Visit<'_>) -> Result<bool, BackendError> {
        let attending = room.opening.get_or_try_init(|| self.attend(room));
        let within = self.store.link.timeout() * 2;
        match tokio::time::timeout(within, attending).await {
            Ok(Ok(())) => Ok(true),
            Ok(Err(Unattended::NoRoom)) => Ok(false),
            Ok(Err(Unattended::Failed(error))) => Err(error),
            Err(_) => Err(self.store.link.trouble(Trouble::Timeout, format_args!("{} is not heard", room.name))),
        }
    }

    /// Begins to hear a room.
    async fn attend(self: &Arc<Self>, room: &Arc<Room>) -> Result<(), Unattended> {
        self.subscriber.listen(&self.store.keys.room_channel(room.name.as_str())).await?;
        let generation = self.store.standing.generation();
        let head = self.head(&room.name, 0, false).await?.ok_or(Unattended::NoRoom)?;
        room.hall().generation = generation;
        // Of a room of which nothing was known nothing can be lost.
        let _ = self.take_head(room, None, head).await;
        Ok(())
    }

    async fn close(self: Arc<Self>, name: RoomName) -> Result<(), BackendError> {
        if let Some(room) = self.find(name.as_str()) {
            self.catch_up(&room).await;
        }
        self.forget_sequence(&name).await?;
        let mut rooms = self.rooms();
        if let Some(room) = rooms.remove(&name) {
            room.hall().is_over = true;
            self.subscriber.unsubscribe(&self.store.keys.room_channel(name.as_str()));
        }
        Ok(())
    }

    async fn history(self: Arc<Self>, range: HistoryRange) -> Result<Option<RoomHistory>, BackendError> {
        let has_bounds = range.before_ms.is_some() || range.unread_since_ms.is_some();
        let most = (!has_bounds).then_some(range.limit);
        let Some(messages) = self.read_latest(&range.room, most).await? else { return Ok(None) };
        let before = |message: &RoomMessage| range.before_ms.is_none_or(|before_ms| message.sent_at < before_ms);
        let mut found = messages.into_iter().filter(before);
        let messages = found.by_ref().take(range.limit).collect();
        let unread = |message: &RoomMessage| range.unread_since_ms.is_some_and(|since| message.sent_at > since);
        Ok(Some(RoomHistory { messages, unread_not_loaded: found.filter(unread).count() }))
    }
}

/// Why a room is not heard.
enum Unattended {
    NoRoom,
    Failed(BackendError),
}

impl From<BackendError> for Unattended {
    fn from(error: BackendError) -> Self {
        Self::Failed(error)
    }
}

/// A draft in its place.
fn numbered(draft: Draft, place: Place) -> RoomMessage {
    let Draft { room, sender, body, sent_at, user, extra, .. } = draft;
    RoomMessage { room, number: place.number, sender, body, sent_at, epoch: place.epoch, user, extra }
}

impl Broker for RedisBroker {
    fn open(&self, room: &RoomName) -> Op<Result<(), BackendError>> {
        let (inner, room) = (Arc::clone(&self.0), room.clone());
        Op::Wait(Box::pin(async move { inner.begin_sequence(&room, None).await }))
    }

    fn close(&self, room: &RoomName) -> Op<Result<(), BackendError>> {
        Op::Wait(Box::pin(Arc::clone(&self.0).close(room.clone())))
    }

    fn publish(&self, draft: Draft) -> Op<Result<Option<Published>, BackendError>> {
        Op::Wait(Box::pin(Arc::clone(&self.0).publish(draft)))
    }

    fn history(&self, range: HistoryRange) -> Op<Result<Option<RoomHistory>, BackendError>> {
        Op::Wait(Box::pin(Arc::clone(&self.0).history(range)))
    }

    fn subscribe(&self, room: &RoomName, worker: u16) -> Op<Result<Option<u64>, BackendError>> {
        if let Some(present) = self.0.find(room.as_str())
            && let Ok(feed) = present.feed.try_lock()
            && let Some(heard) = feed.heard()
            && present.hall().sit_down_beside(worker)
        {
            return Op::Ready(Ok(Some(heard.place.number)));
        }
        Op::Wait(Box::pin(Arc::clone(&self.0).subscribe(room.clone(), worker)))
    }

    fn listen(
        &self,
        room: &RoomName,
        worker: u16,
        listeners: u32,
        from_start: bool,
        enter: Enter,
    ) -> Op<Result<bool, BackendError>> {
        Op::Wait(Box::pin(Arc::clone(&self.0).listen(room.clone(), worker, listeners, from_start, enter)))
    }

    fn unsubscribe(&self, room: &RoomName, worker: u16) -> Op<Result<(), BackendError>> {
        let mut rooms = self.0.rooms();
        if let Some(present) = rooms.get(room).cloned() {
            present.hall().leave_seat(worker);
            self.0.forget_if_empty(&mut rooms, &present);
        }
        Op::Ready(Ok(()))
    }
}

impl RoomListener for RedisBroker {
    fn said(&self, room: &str, payload: Vec<u8>) -> BoxFuture<'static, ()> {
        let Some(room) = self.0.find(room) else { return Box::pin(std::future::ready(())) };
        let inner = Arc::clone(&self.0);
        Box::pin(async move {
            let incarnation = inner.store.standing.incarnation();
            match envelope::read(&payload, &room.name, incarnation) {
                Some(numbered) => inner.take_said(&room, numbered, payload.len()).await,
                None => inner.note_malformed(&room.name),
            }
        })
    }

    fn must_wait(&self, room: &str) -> bool {
        self.0.find(room).is_some_and(|room| self.0.must_wait(&room))
    }

    fn space(&self, room: &str) -> BoxFuture<'static, ()> {
        let (inner, room) = (Arc::clone(&self.0), self.0.find(room));
        Box::pin(async move {
            if let Some(room) = room {
                inner.space(&room).await;
            }
        })
    }

    fn compare(&self, room: &str) -> BoxFuture<'static, ()> {
        let (inner, room) = (Arc::clone(&self.0), self.0.find(room));
        Box::pin(async move {
            if let Some(room) = room
                && inner.compare(&room).await.is_err()
            {
                // Compared again with all others until the store answers.
                inner.audit_due.notify_one();
            }
        })
    }

    fn on_resubscribed(&self) {
        self.0.audit_due.notify_one();
    }
}
