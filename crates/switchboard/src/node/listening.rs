//! Hearing rooms without being a member.

use std::collections::HashSet;

use switchboard_proto::call::{RoomKind, Wants};
use switchboard_proto::id::RoomName;

use crate::hub::Entrance;
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
    ) -> Vec<(RoomName, Entrance)> {
        let mut rooms = wants.rooms;
        if wants.public_rooms {
            rooms.extend(self.rooms().await.unwrap_or_default());
        }
        // A client may be in a thousand, and want another one again and again.
        let mut seen: HashSet<RoomName> = already.into_iter().collect();
        let mut entered: Vec<(RoomName, Entrance)> = Vec::new();
        for room in rooms {
            if !seen.insert(room.clone()) {
                continue;
            }
            if let Some(entrance) = self.begin_listening(caller, &room).await {
                entered.push((room, entrance));
            }
        }
        entered
    }

    /// The node's part of listening to one room. None: not everybody may enter it, or there is no such room.
    pub(super) async fn begin_listening(&self, caller: &Caller, room: &RoomName) -> Option<Entrance> {
        let after = self.0.broker.subscribe(room, caller.address.worker).await.map_err(unavailable).ok()??;
        // Looked at behind the subscription: whoever closes the room from now on finds the listener.
        let info = self.0.directory.room(room).await.map_err(unavailable).ok().flatten();
        let kind = info.map(|info| kind_of(room, &info.pattern));
        if kind != Some(RoomKind::Public) {
            if let Err(error) = self.0.broker.unsubscribe(room, caller.address.worker).await {
                unavailable(error);
            }
            return None;
        }
        Some(Entrance { after, kind: RoomKind::Public })
    }
}
