//! Writes what rooms say into the logs of the sessions that are in them.
//!
//! To the broker the scribe is one more worker: it has a mailbox with a bound, hears the rooms in which it has members, and
//! what it does not take holds up whoever speaks. Appends are begun in the order of the numbers, which is the order in which the
//! store makes them; they overlap, since each may wait for a disk. What the store refuses is told as a gap.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use switchboard_proto::event::Sender;
use switchboard_proto::gateway::items;
use switchboard_proto::id::{ConnId, RoomName};
use switchboard_proto::shard::LogItem;
use tokio::sync::{Notify, Semaphore};
use tokio::time::Instant;

use crate::backend::BackendError;
use crate::hub::mail::{Ask, Delivery, Mail};
use crate::hub::mailbox::{Inbox, Mailbox, inbox};
use crate::op::{BoxFuture, Op};

use super::seats::{Gap, Seats, Untold};

/// How many appends may wait for the store. Beyond it messages wait in the inbox.
const APPENDS: u32 = 256;

/// How long until a gap is tried to be told again, if nothing is said in its room before.
const GAP_RETRY: Duration = Duration::from_secs(1);

/// How messages reach the scribe.
#[derive(Debug)]
pub(crate) struct ScribeInbox {
    /// Where they are put.
    pub(crate) mailbox: Mailbox,
    inbox: Inbox,
    /// Wakes the scribe.
    pub(super) awake: Arc<Notify>,
}

impl ScribeInbox {
    /// An inbox that holds so many bytes (`limits.inbox_bytes`).
    pub(crate) fn new(capacity_bytes: usize) -> Self {
        let awake = Arc::new(Notify::new());
        let waking = Arc::clone(&awake);
        let (mailbox, inbox) = inbox(capacity_bytes, move || waking.notify_one());
        Self { mailbox, inbox, awake }
    }
}

/// Seats that the scribe and the node share.
#[derive(Clone, Debug, Default)]
pub(super) struct SharedSeats(Arc<Mutex<Seats>>);

impl SharedSeats {
    pub(super) fn lock(&self) -> MutexGuard<'_, Seats> {
        // Nothing under this lock can panic half way.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the scribe needs of the node.
pub(super) trait Logs: Send + Sync + 'static {
    /// Appends something of a room to the log of a session, and notes that the session has heard the room up to this number. What
    /// is begun first is made first. A message that it has heard is not appended again; that messages are missing is.
    fn append(
        &self,
        session: ConnId,
        item: LogItem,
        room: RoomName,
        number: u64,
        is_gap: bool,
    ) -> Op<Result<Option<u64>, BackendError>>;

    /// The session that a connection carries, else the same.
    fn member_meant(&self, id: ConnId) -> ConnId;

    /// The log of a session ends with this event of so many bytes now.
    fn has_grown(&self, session: ConnId, last: u64, bytes: usize);

    /// Whoever carries a session may read more slowly than its log grows: waits for him a little. `None`: he does not.
    fn catch_up(&self, session: ConnId) -> Option<BoxFuture<'_, ()>>;

    /// A session was evicted from a room: what there is to do besides.
    fn evicted<'a>(&'a self, session: ConnId, room: &'a RoomName) -> BoxFuture<'a, ()>;
}

/// Something to append.
struct Entry {
    session: ConnId,
    item: LogItem,
    room: RoomName,
    number: u64,
    /// What is missing if it cannot be appended.
    gap: Gap,
    /// It tells that gap.
    is_gap: bool,
}

/// Takes messages from its inbox, one after the other.
pub(super) struct Scribe<L> {
    logs: Arc<L>,
    seats: SharedSeats,
    places: Arc<Semaphore>,
    awake: Arc<Notify>,
}

impl<L: Logs> Scribe<L> {
    /// Takes what comes until it is told to stop; then everything before that has been appended, or could not be.
    pub(super) async fn run(logs: L, seats: SharedSeats, from: ScribeInbox) {
        let ScribeInbox { mailbox, inbox, awake } = from;
        // Whoever sends has his own.
        drop(mailbox);
        let scribe = Self { logs: Arc::new(logs), seats, places: Arc::new(Semaphore::new(APPENDS as usize)), awake };
        let mut mail = VecDeque::new();
        let mut retry_at = None;
        loop {
            inbox.take(&mut mail);
            for mail in mail.drain(..) {
                match mail {
                    Mail::Deliver(delivery) => scribe.deliver(&delivery).await,
                    Mail::Ask(Ask::Gap(room, missed)) => scribe.seats.lock().miss_all(&room, missed),
                    Mail::Ask(Ask::Evict(room, reply)) => reply(scribe.evict(&room).await),
                    Mail::Ask(Ask::Stop) => {
                        scribe.all_appended().await;
                        scribe.tell_gaps().await;
                        scribe.all_appended().await;
                        return;
                    }
                    // Meant for workers.
                    Mail::Adopt(_) | Mail::Ask(_) | Mail::Listen(_) | Mail::ListenDone(_) | Mail::Settled(..) => {}
                }
            }
            let (has_gaps, is_due) = scribe.seats.lock().gaps_wait();
            if is_due || retry_at.is_some_and(|at| at <= Instant::now()) {
                retry_at = None;
                scribe.tell_gaps().await;
            } else if !has_gaps {
                retry_at = None;
            } else if retry_at.is_none() {
                retry_at = Some(Instant::now() + GAP_RETRY);
            }
            if !inbox.may_sleep() {
                continue;
            }
            let woken = scribe.awake.notified();
            match retry_at {
                Some(at) => drop(tokio::time::timeout_at(at, woken).await),
                None => woken.await,
            }
        }
    }

    async fn deliver(&self, delivery: &Delivery) {
        let message = delivery.message.message();
        let speaker = match &message.sender {
            _ if delivery.echo => None,
            Sender::Connection(id) => Some(*id),
            // Whoever is spoken for does not hear it.
            Sender::Named(name) => ConnId::parse(name).map(|id| self.logs.member_meant(id)),
            Sender::Server => None,
        };
        let hearers = self.seats.lock().hear(&message.room, message.number, speaker);
        if hearers.is_empty() {
            return;
        }
        let item = items::room_message(message);
        for (session, untold) in hearers {
            if let Some(untold) = untold {
                self.tell(&message.room, untold).await;
            }
            let (number, gap) = match message.number {
                0 => {
                    let heard = self.seats.lock().heard(session, &message.room);
                    (heard, Gap { first: heard + 1, last: None })
                }
                number => (number, Gap::one(number)),
            };
            let room = message.room.clone();
            self.append(Entry { session, item: item.clone(), room, number, gap, is_gap: false }).await;
            if let Some(catching_up) = self.logs.catch_up(session) {
                catching_up.await;
            }
        }
    }

    async fn tell_gaps(&self) {
        let gaps = self.seats.lock().take_gaps();
        for (room, untold) in gaps {
            self.tell(&room, untold).await;
        }
    }

    async fn tell(&self, room: &RoomName, untold: Untold) {
        let Untold { session, gap, heard } = untold;
        let item = items::room_gap(room, gap.first, gap.last);
        self.append(Entry { session, item, room: room.clone(), number: heard, gap, is_gap: true }).await;
    }

    /// Begins to append something, once few enough appends wait.
    async fn append(&self, entry: Entry) {
        // Never closed.
        let Ok(place) = Arc::clone(&self.places).acquire_owned().await else { return };
        match self.logs.append(entry.session, entry.item.clone(), entry.room.clone(), entry.number, entry.is_gap) {
            Op::Ready(result) => self.appended(&entry, result),
            Op::Wait(future) => {
                let scribe = self.clone();
                // It ends with the store's answer; the place tells when.
                drop(tokio::spawn(async move {
                    scribe.appended(&entry, future.await);
                    drop(place);
                }));
            }
        }
    }

    fn appended(&self, entry: &Entry, result: Result<Option<u64>, BackendError>) {
        let session = entry.session;
        match result {
            Ok(Some(last)) => self.logs.has_grown(session, last, entry.item.as_str().len()),
            // It is over, has left, or heard it from another node.
            Ok(None) => {}
            Err(error) => {
                let is_first = self.seats.lock().miss(session, &entry.room, entry.gap);
                if is_first && !entry.is_gap {
                    tracing::error!(%error, %session, "messages of rooms do not reach the logs of gateway sessions");
                }
                self.awake.notify_one();
            }
        }
    }

    /// Removes every session from a room that is being destroyed, once all that was said in it is in their logs.
    async fn evict(&self, room: &RoomName) -> usize {
        self.all_appended().await;
        let evicted = self.seats.lock().evict(room);
        for session in &evicted {
            self.logs.evicted(*session, room).await;
        }
        evicted.len()
    }

    async fn all_appended(&self) {
        drop(self.places.acquire_many(APPENDS).await);
    }
}

impl<L> Clone for Scribe<L> {
    fn clone(&self) -> Self {
        Self {
            logs: Arc::clone(&self.logs),
            seats: self.seats.clone(),
            places: Arc::clone(&self.places),
            awake: Arc::clone(&self.awake),
        }
    }
}

#[cfg(test)]
mod tests;
