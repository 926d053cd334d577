//! Hearing rooms without being a member, and not hearing them for a while.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};

use switchboard_proto::call::{Answer, Wants};
use switchboard_proto::event::Event;
use switchboard_proto::id::RoomName;
use switchboard_proto::shard::ShardEvent;

use crate::hub::mail::{Asker, ConnKey, Settled};
use crate::hub::{Entrance, Role};
use crate::op::Op;
use crate::visits::visit;

use super::{Link, Worker};

/// Connections by the rooms that they want to hear without being members, so that only those are asked about a new
/// room.
#[derive(Default)]
pub(super) struct Listeners {
    /// Connections that want to hear every public room.
    all: HashSet<ConnKey>,
    rooms: HashMap<RoomName, HashSet<ConnKey>>,
    /// The rooms under which a connection is listed in `rooms`.
    listed: HashMap<ConnKey, Vec<RoomName>>,
}

impl Listeners {
    /// Replaces what a connection wants.
    fn set(&mut self, key: ConnKey, wants: &Wants) {
        self.remove(key);
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

    /// The connections that want to hear a room, if everyone may.
    fn of(&self, room: &RoomName) -> HashSet<ConnKey> {
        let by_name = self.rooms.get(room).into_iter().flatten();
        self.all.iter().chain(by_name).inspect(|_| visit()).copied().collect()
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty() && self.rooms.is_empty() && self.listed.is_empty()
    }
}

impl Worker {
    /// What a connection wants from now on, in place of what it wanted before.
    pub(super) fn attend(&mut self, key: ConnKey, wants: Wants, asker: Asker) {
        let mut listened = self.hub.listened_by(key);
        if !wants.public_rooms {
            let wanted: HashSet<&RoomName> = wants.rooms.iter().collect();
            listened.retain(|room| {
                let stays = wanted.contains(room);
                if !stays {
                    self.stop_listening(key, room);
                }
                stays
            });
        }
        let Some(caller) = self.caller(key) else { return };
        self.wanting.set(key, &wants);
        match self.calls.attend(caller, wants, listened) {
            Op::Ready(rooms) => self.finish_listening(key, asker, rooms),
            Op::Wait(future) => {
                self.settle_later(key, async move { Settled::Listening { asker, rooms: future.await } });
            }
        }
    }

    /// The node's part of listening is done.
    pub(super) fn finish_listening(&mut self, key: ConnKey, asker: Asker, rooms: Vec<(RoomName, Entrance)>) {
        for (room, entrance) in rooms {
            self.listen(key, &room, entrance);
        }
        self.settle(key, asker, Ok(Answer::Attending));
    }

    fn listen(&mut self, key: ConnKey, room: &RoomName, entrance: Entrance) {
        let is_member = self.hub.is_member(key, room);
        let alive = self.hub.get(key).filter(|connection| connection.link.closing.is_none());
        let hears = alive.map(|connection| connection.link.hears(room, is_member));
        let is_new = hears.is_some_and(|hears| self.hub.enter(key, room, Role::Listener, entrance, hears));
        if !is_new {
            // It has ended meanwhile, or listened already.
            self.detach(self.calls.unlisten(self.index, room.clone()));
        }
    }

    pub(super) fn stop_listening(&mut self, key: ConnKey, room: &RoomName) {
        let hears = self.hub.get(key).map(|connection| connection.link.hears(room, true)).unwrap_or_default();
        if self.hub.leave(key, room, Role::Listener, hears) {
            self.detach(self.calls.unlisten(self.index, room.clone()));
        }
    }

    /// A room became public: the connections that want to hear it begin to listen.
    pub(super) fn offer(&mut self, room: &RoomName) {
        self.hub.set_kind(room, Default::default());
        for key in self.wanting.of(room) {
            let wants =
                self.hub.get(key).is_some_and(|connection| !connection.link.peer.hears(room, false).is_nothing());
            if !wants || self.hub.has_role(key, room, Role::Listener) {
                continue;
            }
            let Some(caller) = self.caller(key) else { continue };
            match self.calls.listen(caller, room.clone()) {
                Op::Ready(Some(entrance)) => self.listen(key, room, entrance),
                Op::Ready(None) => {}
                Op::Wait(future) => {
                    let room = room.clone();
                    self.settle_later(key, async move {
                        let rooms = future.await.map(|entrance| (room, entrance)).into_iter().collect();
                        Settled::Listening { asker: Asker::Nobody, rooms }
                    });
                }
            }
        }
    }

    /// Nobody listens to a room any more.
    pub(super) fn silence(&mut self, room: &RoomName) {
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
        listeners.set(key(2), &rooms(&["b", "c"]));
        listeners.set(key(1), &rooms(&["c"]));
        assert_eq!(["a", "b", "c"].map(|name| found(&listeners, name)), [vec![], vec![2], vec![1, 2]]);
        (1..4).for_each(|slot| listeners.remove(key(slot)));
        assert!(listeners.is_empty());
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
