//! Finding out what did not come, and looking it up.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::watch;

use crate::backend::BackendError;
use crate::op::{BoxFuture, all};

use super::super::nodes::Membership;
use super::Inner;
use super::room::Room;

/// Rooms about which the store is asked at once.
const BATCH: usize = 128;

/// Shortest and longest pause until something that failed is tried again.
const PAUSES: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(1)];

/// How long a message may take whose successor has come, where both are published over a connection of their own and may pass each other.
const PASSING: Duration = Duration::from_millis(20);

/// Compares all rooms with the store from time to time, whenever they may not have been heard, and whenever the store has begun anew.
pub(super) async fn keep_comparing(inner: Weak<Inner>, mut membership: watch::Receiver<Membership>) {
    let Some((due, interval)) =
        inner.upgrade().map(|broker| (Arc::clone(&broker.audit_due), broker.settings.audit_interval))
    else {
        return;
    };
    let mut is_whole = true;
    loop {
        let pause = if is_whole { interval } else { PAUSES[0] };
        tokio::select! {
            () = due.notified() => {}
            () = tokio::time::sleep(pause) => {}
            changed = membership.changed() => if changed.is_err() { return },
        }
        let is_member = matches!(*membership.borrow_and_update(), Membership::Member { .. });
        let Some(broker) = inner.upgrade() else { return };
        // Without a membership it is told when there is one.
        is_whole = !is_member || broker.compare_all().await;
    }
}

impl Inner {
    /// Compares all rooms with the store. `false`: not all could be.
    async fn compare_all(self: &Arc<Self>) -> bool {
        let rooms: Vec<Arc<Room>> = self.rooms().values().cloned().collect();
        let mut is_whole = true;
        for batch in rooms.chunks(BATCH) {
            let compared = all(batch.iter().map(|room| self.compare_with_others(room))).await;
            for result in compared {
                if let Err(error) = result {
                    tracing::debug!(%error, "a room could not be compared with the store");
                    is_whole = false;
                }
            }
        }
        is_whole
    }

    /// Returns whether the store has lost this room's sequence and nothing else. If it had lost everything, this node
    /// would have heard of a new generation since the first time that the sequence was missing.
    fn is_lost_alone(&self, room: &Room) -> bool {
        let standing = &self.store.standing;
        let until_ms = *room.hall().lost_until_ms.get_or_insert(standing.valid_until_ms());
        until_ms <= standing.now_ms()
    }

    /// Compares a room; a room whose worker is full is compared later, so that the other rooms do not wait for it.
    async fn compare_with_others(self: &Arc<Self>, room: &Arc<Room>) -> Result<(), BackendError> {
        if !self.must_wait(room) {
            let within = self.store.link.timeout() * 2;
            if let Ok(compared) = tokio::time::timeout(within, self.compare(room)).await {
                return compared;
            }
        }
        self.subscriber.compare_later(&self.store.keys.room_channel(room.name.as_str()));
        Ok(())
    }

    /// Compares a room with the store. Waits while a message of the room waits for a worker.
    pub(super) async fn compare(self: &Arc<Self>, room: &Arc<Room>) -> Result<(), BackendError> {
        // Nothing is known of a room that somebody is about to hear for the first time.
        let Some(asked) = room.known() else { return Ok(()) };
        let generation = self.store.standing.generation();
        let (is_new, local) = {
            let hall = room.hall();
            (hall.generation != generation, hall.local)
        };
        let mut head = self.head(&room.name, asked.place.number, local > 0).await?;
        if head.is_none() && (is_new || self.is_lost_alone(room)) {
            // The store has lost it, unless it was destroyed: that is remembered, and then nothing begins.
            self.begin_sequence(&room.name, Some(asked)).await?;
            head = self.head(&room.name, asked.place.number, false).await?;
        }
        let Some(head) = head else { return Ok(()) };
        {
            let mut hall = room.hall();
            hall.generation = generation;
            hall.lost_until_ms = None;
            // What was said meanwhile is told another time.
            hall.local = hall.local.saturating_sub(local);
        }
        if !self.take_head(room, Some(asked), head).await
            && let Some(renewed) = self.head(&room.name, asked.place.number, true).await?
        {
            // Nobody can have heard of an epoch that has just begun.
            let _ = self.take_head(room, None, renewed).await;
        }
        Ok(())
    }

    /// Looks up what a room misses until nothing is missing.
    pub(super) fn fill(self: Arc<Self>, room: Arc<Room>) -> BoxFuture<'static, ()> {
        Box::pin(self.fill_all(room))
    }

    async fn fill_all(self: Arc<Self>, room: Arc<Room>) {
        let mut pause = PAUSES[0];
        if !self.publishes_in_store {
            tokio::time::sleep(PASSING).await;
        }
        loop {
            let (from, to) = {
                let feed = room.feed.lock().await;
                let mut hall = room.hall();
                match feed.wanted() {
                    Some(wanted) if !hall.is_over => wanted,
                    _ => {
                        hall.is_filling = false;
                        return;
                    }
                }
            };
            // Messages that no worker can take must not wait in memory, nor hold one of the places.
            self.space(&room).await;
            let read = {
                // Never closed.
                let Ok(_place) = self.fills.acquire().await else { return };
                self.read_log(&room.name, from, to).await
            };
            match read {
                Ok(part) => {
                    pause = PAUSES[0];
                    let mut feed = room.feed.lock().await;
                    let mut steps = Vec::new();
                    feed.filled(part.entries, part.to, &mut steps);
                    let filled = steps.iter().filter(|step| step.is_message()).count();
                    self.figures.filled.fetch_add(filled as u64, Ordering::Relaxed);
                    self.go(&room, &feed, steps).await;
                }
                Err(error) => {
                    tracing::debug!(%error, room = %room.name, "what a room misses could not be looked up");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(PAUSES[1]);
                }
            }
        }
    }

    /// Waits until this node has heard all that the store has of a room, for as long as Redis has for an answer.
    pub(super) async fn catch_up(self: &Arc<Self>, room: &Arc<Room>) {
        let catching_up = async {
            if self.compare(room).await.is_err() {
                return;
            }
            loop {
                if room.feed.lock().await.wanted().is_none() {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        // Whoever is about to be removed anyway cannot be told more.
        drop(tokio::time::timeout(self.store.link.timeout(), catching_up).await);
    }
}
