//! One room as this node hears it, and who sits in it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::{collections::HashMap, ops::Deref};

use switchboard_proto::event::RoomMessage;
use switchboard_proto::id::RoomName;
use switchboard_proto::wire::Encoded;
use tokio::sync::OnceCell;

use crate::hub::mail::{Address, Ask, Delivery, Mail};
use crate::hub::mailbox::Mailbox;

use super::super::envelope::Numbered;
use super::super::feed::{Arrival, Feed, Point, Step};
use super::Inner;

/// What members of a room are handed.
pub(super) struct Said {
    pub(super) message: RoomMessage,
    origin: Option<Address>,
    echo: bool,
}

/// A room that somebody on this node hears, or is about to.
pub(super) struct Room {
    pub(super) name: RoomName,
    /// Whoever holds it delivers: so all workers see one order.
    pub(super) feed: tokio::sync::Mutex<Feed<Said>>,
    /// Its channel is heard and its place is known.
    pub(super) opening: OnceCell<()>,
    hall: Mutex<Hall>,
}

/// Who is in a room.
#[derive(Debug, Default)]
pub(super) struct Hall {
    /// How many members and listeners each worker has.
    seats: Vec<u32>,
    /// Subscriptions under way.
    visits: usize,
    /// Up to where the room was heard, so that nobody has to wait for the feed.
    known: Option<Point>,
    /// The generation of the store in which it was compared last.
    pub(super) generation: u64,
    /// Since the store has no sequence of it: by when a new sign of life must have reached the store.
    pub(super) lost_until_ms: Option<u64>,
    /// How many messages members on this node have heard of which other nodes do not know yet.
    pub(super) local: u64,
    /// Something is being looked up.
    pub(super) is_filling: bool,
    /// It is not heard any more.
    pub(super) is_over: bool,
}

impl Hall {
    /// Counts new members or listeners of a worker.
    pub(super) fn take_seats(&mut self, worker: u16, count: u32) {
        let worker = usize::from(worker);
        if self.seats.len() <= worker {
            self.seats.resize(worker + 1, 0);
        }
        self.seats[worker] += count;
    }

    /// Adds a seat where others are. `false`: nobody is there, and perhaps nobody hears the room.
    pub(super) fn sit_down_beside(&mut self, worker: u16) -> bool {
        let is_heard = !self.is_over && self.seats.iter().any(|count| *count > 0);
        if is_heard {
            self.take_seats(worker, 1);
        }
        is_heard
    }

    /// Takes a seat away.
    pub(super) fn leave_seat(&mut self, worker: u16) {
        if let Some(count) = self.seats.get_mut(usize::from(worker)) {
            *count = count.saturating_sub(1);
        }
    }

    fn is_empty(&self) -> bool {
        self.visits == 0 && self.seats.iter().all(|count| *count == 0)
    }
}

impl Room {
    fn new(name: RoomName, most_bytes: usize) -> Self {
        let feed = tokio::sync::Mutex::new(Feed::new(most_bytes));
        Self { name, feed, opening: OnceCell::new(), hall: Mutex::default() }
    }

    pub(super) fn hall(&self) -> MutexGuard<'_, Hall> {
        // Nothing under this lock can panic half way.
        self.hall.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Up to where it was heard.
    pub(super) fn known(&self) -> Option<Point> {
        self.hall().known
    }

    /// The workers that have somebody in it.
    fn workers(&self) -> Vec<usize> {
        let hall = self.hall();
        hall.seats.iter().enumerate().filter(|(_, count)| **count > 0).map(|(worker, _)| worker).collect()
    }
}

/// Somebody is about to hear a room: it stays as long as this.
pub(super) struct Visit<'a> {
    inner: &'a Inner,
    room: Arc<Room>,
}

impl<'a> Visit<'a> {
    pub(super) fn begin(inner: &'a Inner, name: &RoomName) -> Self {
        // What the log could give again need not wait as well.
        let most_bytes = inner.settings.limits.bytes.clamp(64 << 10, 16 << 20);
        let mut rooms = inner.rooms();
        let room = rooms.entry(name.clone()).or_insert_with(|| Arc::new(Room::new(name.clone(), most_bytes)));
        room.hall().visits += 1;
        Self { inner, room: Arc::clone(room) }
    }
}

impl Deref for Visit<'_> {
    type Target = Arc<Room>;

    fn deref(&self) -> &Arc<Room> {
        &self.room
    }
}

impl Drop for Visit<'_> {
    fn drop(&mut self) {
        let mut rooms = self.inner.rooms();
        let is_closed = {
            let mut hall = self.room.hall();
            hall.visits -= 1;
            hall.is_over && hall.visits == 0
        };
        if !is_closed {
            self.inner.forget_if_empty(&mut rooms, &self.room);
        } else if !rooms.contains_key(&self.room.name) {
            // The visit may have subscribed after the room was closed. A new room of this name needs the channel.
            self.inner.subscriber.unsubscribe(&self.inner.store.keys.room_channel(self.room.name.as_str()));
        }
    }
}

impl Inner {
    /// Nobody hears a room any more: neither does this node.
    pub(super) fn forget_if_empty(&self, rooms: &mut HashMap<RoomName, Arc<Room>>, room: &Arc<Room>) {
        let is_empty = {
            let mut hall = room.hall();
            let is_empty = hall.is_empty() && !hall.is_over;
            hall.is_over |= is_empty;
            is_empty
        };
        if is_empty {
            rooms.remove(&room.name);
            self.subscriber.unsubscribe(&self.store.keys.room_channel(room.name.as_str()));
        }
    }

    /// A message of a room has come.
    pub(super) async fn take_said(self: &Arc<Self>, room: &Arc<Room>, numbered: Numbered, bytes: usize) {
        let mut feed = room.feed.lock().await;
        let mut steps = Vec::with_capacity(1);
        feed.said(arrival(numbered, bytes), &mut steps);
        self.go(room, &feed, steps).await;
    }

    /// The store has said where a room stands. `false`: it has lost what was heard, see [`Feed::head`].
    pub(super) async fn take_head(self: &Arc<Self>, room: &Arc<Room>, asked: Option<Point>, head: Point) -> bool {
        let mut feed = room.feed.lock().await;
        let mut steps = Vec::new();
        let is_whole = feed.head(asked, head, &mut steps);
        self.go(room, &feed, steps).await;
        is_whole
    }

    /// Does what a feed says.
    pub(super) async fn go(self: &Arc<Self>, room: &Arc<Room>, feed: &Feed<Said>, steps: Vec<Step<Said>>) {
        for step in steps {
            match step {
                Step::Deliver(Said { message, origin, echo }) => {
                    let message = Arc::new(Encoded::new(message));
                    self.deliver(room, &message, origin, echo).await;
                }
                Step::Gap(missed) => {
                    self.figures.gaps.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    tracing::warn!(
                        room = %room.name,
                        first = missed.first,
                        last = missed.last,
                        "messages of a room were lost; its members get a gap notice"
                    );
                    for worker in room.workers() {
                        if let Some(mailbox) = self.workers.get(worker) {
                            mailbox.push(Mail::Ask(Ask::Gap(room.name.clone(), missed))).await;
                        }
                    }
                }
            }
        }
        let is_wanted = feed.wanted().is_some();
        let mut hall = room.hall();
        hall.known = feed.heard();
        if is_wanted && !hall.is_over && !std::mem::replace(&mut hall.is_filling, true) {
            tokio::spawn(Arc::clone(self).fill(Arc::clone(room)));
        }
    }

    /// Returns whether mail waits for space with a worker that has members.
    pub(super) fn must_wait(&self, room: &Room) -> bool {
        room.workers().into_iter().filter_map(|worker| self.workers.get(worker)).any(Mailbox::is_waited_for)
    }

    /// Waits until the workers that have members have space.
    pub(super) async fn space(&self, room: &Room) {
        for worker in room.workers() {
            if let Some(mailbox) = self.workers.get(worker) {
                mailbox.wait_for_space(Mail::ASK_BYTES).await;
            }
        }
    }

    /// Hands a message to the workers that have members, and waits for space where there is none.
    pub(super) async fn deliver(&self, room: &Room, message: &Arc<Encoded>, origin: Option<Address>, echo: bool) {
        for worker in room.workers() {
            if let Some(mailbox) = self.workers.get(worker) {
                mailbox.push(Mail::Deliver(Delivery { message: Arc::clone(message), origin, echo })).await;
            }
        }
    }
}

/// What a feed takes of a message.
pub(super) fn arrival(numbered: Numbered, bytes: usize) -> Arrival<Said> {
    let Numbered { place, before, mark, message, origin, echo } = numbered;
    Arrival { place, before, mark, bytes, message: Said { message, origin, echo } }
}
