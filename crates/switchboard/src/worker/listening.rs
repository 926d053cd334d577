//! Hearing rooms without being a member, and not hearing them for a while.

use std::collections::HashSet;

use switchboard_proto::call::{Answer, Wants};
use switchboard_proto::event::Event;
use switchboard_proto::id::RoomName;
use switchboard_proto::shard::ShardEvent;

use crate::hub::mail::{Asker, ConnKey, Settled};
use crate::hub::{Entrance, Role};
use crate::op::Op;

use super::{Link, Worker};

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

    /// Everybody may enter a room from now on: those listen that want to.
    pub(super) fn offer(&mut self, room: &RoomName) {
        self.hub.set_kind(room, Default::default());
        for key in self.hub.keys() {
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
