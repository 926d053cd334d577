//! Hearing rooms without being a member, and not hearing them for a while.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use switchboard_proto::call::{Answer, Wants};
use switchboard_proto::event::Event;
use switchboard_proto::id::RoomName;
use switchboard_proto::shard::ShardEvent;

use crate::hub::mail::{Asker, Attended, ConnKey, EnteringListeners, Mail, Reply, Settled};
use crate::hub::{Entrance, Role};
use crate::op::Op;
use crate::visits::visit;

use super::calls::Offer;
use super::{Link, Worker};

/// Requests to listen whose node part is still under way, and the rooms that were closed to listeners in the meantime.
///
/// Both are numbered on one count: a room that was closed after a request began must not be listened to because of it.
#[derive(Default)]
pub(super) struct PendingListens {
    count: u64,
    pending: BTreeSet<u64>,
    closed: HashMap<RoomName, u64>,
    /// The rooms in `closed`, the earliest closed first.
    by_time: BTreeMap<u64, RoomName>,
}

impl PendingListens {
    /// Begins a request. Returns its number.
    pub(super) fn begin(&mut self) -> u64 {
        self.count += 1;
        self.pending.insert(self.count);
        self.count
    }

    /// Whether nothing is kept.
    #[cfg(test)]
    pub(super) fn is_idle(&self) -> bool {
        self.pending.is_empty() && self.closed.is_empty() && self.by_time.is_empty()
    }

    fn close(&mut self, room: &RoomName) {
        if !self.pending.is_empty() {
            self.count += 1;
            if let Some(earlier) = self.closed.insert(room.clone(), self.count) {
                self.by_time.remove(&earlier);
            }
            self.by_time.insert(self.count, room.clone());
        }
    }

    /// Whether a request that began then may still open a room.
    fn is_open(&self, room: &RoomName, began: u64) -> bool {
        self.closed.get(room).is_none_or(|closed| *closed < began)
    }

    /// Ends a request, and forgets the rooms that were closed before all others that are pending.
    pub(super) fn finish(&mut self, began: u64) {
        self.pending.remove(&began);
        let oldest = self.pending.first().copied().unwrap_or(u64::MAX);
        while let Some(earliest) = self.by_time.first_entry().filter(|earliest| *earliest.key() < oldest) {
            visit();
            self.closed.remove(&earliest.remove());
        }
    }
}

/// Connections by the rooms that they want to hear without being members, so that only those are asked about a new
/// room.
#[derive(Default)]
pub(super) struct Listeners {
    /// Connections that want to hear every public room.
    all: HashSet<ConnKey>,
    rooms: HashMap<RoomName, HashSet<ConnKey>>,
    /// The rooms under which a connection is listed in `rooms`.
    listed: HashMap<ConnKey, Vec<RoomName>>,
    /// Requests of a connection that began earlier were decided for another user.
    decided_from: HashMap<ConnKey, u64>,
}

impl Listeners {
    /// Replaces what a connection wants.
    pub(super) fn set(&mut self, key: ConnKey, wants: &Wants) {
        let decided_from = self.decided_from.remove(&key);
        self.remove(key);
        self.decided_from.extend(decided_from.map(|began| (key, began)));
        if wants.public_rooms {
            self.all.insert(key);
        }
        for room in &wants.rooms {
            self.rooms.entry(room.clone()).or_default().insert(key);
        }
        if !wants.rooms.is_empty() {
            self.listed.insert(key, wants.rooms.clone());
        }
    }

    /// Forgets a connection.
    pub(super) fn remove(&mut self, key: ConnKey) {
        self.all.remove(&key);
        self.decided_from.remove(&key);
        for room in self.listed.remove(&key).unwrap_or_default() {
            // A room may be listed twice.
            if let Entry::Occupied(mut connections) = self.rooms.entry(room) {
                connections.get_mut().remove(&key);
                if connections.get().is_empty() {
                    connections.remove();
                }
            }
        }
    }

    /// Whether a request that began then was decided for the user that a connection has now.
    fn is_for_user(&self, key: ConnKey, began: u64) -> bool {
        self.decided_from.get(&key).is_none_or(|first| *first <= began)
    }

    /// Whether a connection wants to hear a room.
    fn wants(&self, key: ConnKey, room: &RoomName) -> bool {
        self.all.contains(&key) || self.rooms.get(room).is_some_and(|connections| connections.contains(&key))
    }

    /// The connections that want to hear a room, if everyone may.
    fn of(&self, room: &RoomName) -> HashSet<ConnKey> {
        let by_name = self.rooms.get(room).into_iter().flatten();
        self.all.iter().chain(by_name).inspect(|_| visit()).copied().collect()
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty() && self.rooms.is_empty() && self.listed.is_empty() && self.decided_from.is_empty()
    }
}

impl Worker {
    /// What a connection wants from now on, in place of what it wanted before.
    pub(super) fn attend(&mut self, key: ConnKey, wants: Wants, asker: Asker) {
        let mut listened = self.hub.listened_by(key);
        if !wants.public_rooms || wants.is_new_user {
            let wanted: HashSet<&RoomName> = wants.rooms.iter().filter(|_| !wants.is_new_user).collect();
            listened.retain(|room| {
                let stays = wanted.contains(room);
                if !stays {
                    self.stop_listening(key, room);
                }
                stays
            });
        }
        let Some(caller) = self.caller(key) else { return };
        let began = self.listens.begin();
        self.wanting.set(key, &wants);
        if wants.is_new_user {
            self.wanting.decided_from.insert(key, began);
        }
        match self.calls.attend(caller, wants, listened) {
            Op::Ready(attended) => self.finish_listening(key, asker, began, attended),
            Op::Wait(future) => {
                self.settle_later(key, async move { Settled::Listening { asker, began, attended: future.await } });
            }
        }
    }

    /// The node's part of listening is done.
    pub(super) fn finish_listening(&mut self, key: ConnKey, asker: Asker, began: u64, attended: Attended) {
        for room in attended.rooms {
            self.listen(key, began, &room.room, room.entrance);
        }
        self.listens.finish(began);
        self.settle(key, asker, attended.failed.map_or(Ok(Answer::Attending), Err));
    }

    /// Makes a connection a listener. Returns `false`, and ends its subscription, if it has ended, listens already or no
    /// longer wants the room, or if the room was closed to listeners since the request began.
    fn listen(&mut self, key: ConnKey, began: u64, room: &RoomName, entrance: Entrance) -> bool {
        let is_member = self.hub.is_member(key, room);
        let alive = self.hub.get(key).filter(|connection| connection.link.closing.is_none());
        let hears = alive.map(|connection| connection.link.hears(room, is_member));
        let hears = hears.filter(|_| {
            self.wanting.wants(key, room) && self.wanting.is_for_user(key, began) && self.listens.is_open(room, began)
        });
        let is_new = hears.is_some_and(|hears| self.hub.enter(key, room, Role::Listener, entrance, hears));
        if !is_new {
            self.detach(self.calls.unlisten(self.index, room.clone()));
        }
        is_new
    }

    /// Listeners enter a room that was offered to this worker.
    pub(super) fn enter_listeners(&mut self, entering: &EnteringListeners) {
        let EnteringListeners { room, connections, began, entrance, said } = entering;
        let mut late = Vec::new();
        for &key in &**connections {
            // A member has heard some of the earlier messages.
            if self.listen(key, *began, room, *entrance) && !self.hub.is_member(key, room) {
                late.push(key);
            }
        }
        if let Some(said) = said {
            self.hub.catch_up(&late, room, entrance.after, said);
        }
    }

    pub(super) fn stop_listening(&mut self, key: ConnKey, room: &RoomName) {
        let hears = self.hub.get(key).map(|connection| connection.link.hears(room, true)).unwrap_or_default();
        if self.hub.leave(key, room, Role::Listener, hears) {
            self.detach(self.calls.unlisten(self.index, room.clone()));
        }
    }

    /// A room became public: the connections that want to hear it begin to listen, to a new room from its first message.
    /// The reply follows when all of them receive the next message, or when the store failed.
    pub(super) fn offer(&mut self, room: &RoomName, is_new: bool, reply: Reply<bool>) {
        self.hub.set_kind(room, Default::default());
        // Those that hear nothing yet are among them: a subscription that is not ready, and one that pauses.
        let listens = |key: &ConnKey| self.hub.has_role(*key, room, Role::Listener);
        let connections: Arc<[ConnKey]> = self.wanting.of(room).into_iter().filter(|key| !listens(key)).collect();
        if connections.is_empty() {
            return reply(true);
        }
        self.begin_listening(room, connections, is_new, reply);
    }

    /// Has the node let these connections listen, with one request for all of them.
    pub(super) fn begin_listening(
        &mut self,
        room: &RoomName,
        connections: Arc<[ConnKey]>,
        is_new: bool,
        reply: Reply<bool>,
    ) {
        let began = self.listens.begin();
        let listening = self.calls.listen(Offer { room: room.clone(), worker: self.index, connections, began, is_new });
        let mailbox = self.mailboxes[usize::from(self.index)].clone();
        self.calls.spawn(Box::pin(async move {
            let is_done = listening.await;
            // Queued after the mail of the listeners, and sent also if the node's part failed or panicked.
            mailbox.push(Mail::ListenDone(began)).await;
            reply(is_done);
        }));
    }

    /// Closes a room to listeners.
    pub(super) fn silence(&mut self, room: &RoomName) {
        self.listens.close(room);
        for key in self.hub.occupants(room, Role::Listener) {
            self.stop_listening(key, room);
        }
    }

    /// A connection hears nothing of its rooms from now on, or all that it asks for.
    pub(super) fn mute(&mut self, key: ConnKey, muted: bool) {
        if let Some(connection) = self.hub.get_mut(key)
            && connection.link.muted != muted
        {
            connection.link.muted = muted;
            self.hub.rehear(key, Link::hears);
            self.step(key, |peer, cx| {
                // Only what is kept for a client waits for the end of the pause.
                peer.on_event(&Event::Shard(ShardEvent::Paused(muted)), cx);
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::visits::{assert_no_growth, visits_of};

    fn key(slot: u32) -> ConnKey {
        ConnKey { slot, generation: 0 }
    }

    fn room(name: &str) -> RoomName {
        RoomName::parse(name).unwrap()
    }

    fn rooms(names: &[&str]) -> Wants {
        Wants { rooms: names.iter().copied().map(room).collect(), ..Wants::default() }
    }

    #[test]
    fn a_new_room_is_offered_to_the_connections_that_want_it_and_to_no_other() {
        let mut listeners = Listeners::default();
        listeners.set(key(1), &Wants { public_rooms: true, ..Wants::default() });
        listeners.set(key(2), &rooms(&["a", "b", "a"]));
        listeners.set(key(3), &Wants { commands: true, ..Wants::default() });
        let found = |listeners: &Listeners, name| {
            let mut slots: Vec<_> = listeners.of(&room(name)).into_iter().map(|key| key.slot).collect();
            slots.sort_unstable();
            slots
        };
        assert_eq!([found(&listeners, "a"), found(&listeners, "c")], [vec![1, 2], vec![1]]);
        let wants = |slot| ["a", "c"].map(|name| listeners.wants(key(slot), &room(name)));
        assert_eq!([1, 2, 3].map(wants), [[true, true], [true, false], [false, false]]);
        listeners.set(key(2), &rooms(&["b", "c"]));
        listeners.set(key(1), &rooms(&["c"]));
        assert_eq!(["a", "b", "c"].map(|name| found(&listeners, name)), [vec![], vec![2], vec![1, 2]]);
        (1..4).for_each(|slot| listeners.remove(key(slot)));
        assert!(listeners.is_empty());
    }

    #[test]
    fn a_request_that_is_not_the_oldest_ends_without_a_look_at_the_closed_rooms() {
        let mut listens = PendingListens::default();
        let slow = listens.begin();
        let closed = |number: u32| room(&format!("room-{number}"));
        (0..1000).for_each(|number| listens.close(&closed(number % 500)));
        let others = visits_of(|| {
            (0..1000).for_each(|_| {
                let other = listens.begin();
                listens.finish(other);
            });
        });
        assert_eq!((others, listens.closed.len(), listens.by_time.len()), (0, 500, 500));
        assert!(!listens.is_open(&closed(7), slow));
        let next = listens.begin();
        assert!(listens.is_open(&closed(7), next));
        listens.close(&closed(7));
        assert_eq!(visits_of(|| listens.finish(slow)), 499);
        assert!(!listens.is_open(&closed(7), next), "it was closed after that request began");
        listens.finish(next);
        assert!(listens.is_idle());
    }

    #[test]
    fn offering_a_room_costs_the_same_however_many_connections_want_others() {
        let [few, many] = [1000, 20_000].map(|count| {
            let mut listeners = Listeners::default();
            (0..10).for_each(|slot| listeners.set(key(slot), &Wants { public_rooms: true, ..Wants::default() }));
            (10..count).for_each(|slot| listeners.set(key(slot), &rooms(&[&format!("room-{slot}")])));
            visits_of(|| assert_eq!(listeners.of(&room("new")).len(), 10))
        });
        assert_no_growth(few, many);
    }
}
