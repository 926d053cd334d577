//! Hearing rooms without being a member.

use std::collections::HashSet;

use switchboard_proto::call::{RoomKind, Wants};
use switchboard_proto::id::RoomName;

use crate::backend::{Enter, RoomInfo};
use crate::hub::Entrance;
use crate::hub::mail::{Address, Asker, ListenedRoom, Mail, Settled};
use crate::worker::calls::Caller;

use super::Node;
use super::chat::{kind_of, unavailable};

impl Node {
    /// Of the rooms that a connection wants to hear those that everybody may enter, without those that it hears already.
    pub(super) async fn begin_attending(
        &self,
        caller: &Caller,
        wants: Wants,
        already: Vec<RoomName>,
    ) -> Vec<ListenedRoom> {
        let mut rooms = wants.rooms;
        if wants.public_rooms {
            rooms.extend(self.rooms().await.unwrap_or_default());
        }
        // A client may be in a thousand, and want another one again and again.
        let mut seen: HashSet<RoomName> = already.into_iter().collect();
        let mut entered = Vec::new();
        for room in rooms {
            if !seen.insert(room.clone()) {
                continue;
            }
            if let Some(entrance) = self.begin_listening(caller, &room).await {
                entered.push(ListenedRoom { room, entrance, said: None });
            }
        }
        entered
    }

    /// Subscribes the worker of a connection to a room. Returns `None` if the room is missing or not public.
    async fn begin_listening(&self, caller: &Caller, room: &RoomName) -> Option<Entrance> {
        let after = self.0.broker.subscribe(room, caller.address.worker).await.map_err(unavailable).ok()??;
        // Read after the subscription: a change of the pattern from now on finds the listener.
        if self.public_room(room).await.is_none() {
            if let Err(error) = self.0.broker.unsubscribe(room, caller.address.worker).await {
                unavailable(error);
            }
            return None;
        }
        Some(Entrance { after, kind: RoomKind::Public })
    }

    /// Has a connection listen to a room that was offered; to a new one from its first message.
    pub(super) async fn listen(&self, caller: &Caller, room: RoomName, began: u64, is_new: bool) {
        let Address { worker, key } = caller.address;
        let mail = move |rooms| Mail::Settled(key, Box::new(Settled::Listening { asker: Asker::Nobody, began, rooms }));
        let mut is_listening = false;
        // A pattern that is set after this look closes the room to this request too, at the worker.
        if let Some(info) = self.public_room(&room).await {
            // Messages from a time when the room had another pattern may not be for this connection.
            let from_start = is_new && info.has_first_pattern;
            let listened = room.clone();
            let enter: Enter = Box::new(move |after, said| {
                let entrance = Entrance { after, kind: RoomKind::Public };
                mail(vec![ListenedRoom { room: listened.clone(), entrance, said }])
            });
            is_listening =
                self.0.broker.listen(&room, worker, from_start, enter).await.map_err(unavailable).unwrap_or(false);
        }
        if !is_listening {
            self.0.workers[usize::from(worker)].push(mail(Vec::new())).await;
        }
    }

    async fn public_room(&self, room: &RoomName) -> Option<RoomInfo> {
        let info = self.0.directory.room(room).await.map_err(unavailable).ok()??;
        (kind_of(room, &info.pattern) == RoomKind::Public).then_some(info)
    }
}
