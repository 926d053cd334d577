//! Hearing rooms without being a member.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use switchboard_proto::call::{CallError, RoomKind, Wants};
use switchboard_proto::id::RoomName;

use crate::backend::{Enter, RoomInfo};
use crate::hub::Entrance;
use crate::hub::mail::{Ask, EnteringListeners, ListenedRoom, Mail};
use crate::worker::calls::{Caller, Offer};

use super::Node;
use super::chat::{kind_of, unavailable};

/// Pauses before a failed offer is repeated. An outage is usually over in half a minute, and each try costs every
/// worker with listeners a request to the store.
const OFFER_PAUSES_MS: [u64; 7] = [250, 500, 1000, 2000, 4000, 8000, 16_000];

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
                entered.push(ListenedRoom { room, entrance });
            }
        }
        entered
    }

    /// Subscribes the worker of a connection to a room. Returns `None` if the room is missing or not public.
    async fn begin_listening(&self, caller: &Caller, room: &RoomName) -> Option<Entrance> {
        let after = self.0.broker.subscribe(room, caller.address.worker).await.map_err(unavailable).ok()??;
        // Read after the subscription: a change of the pattern from now on finds the listener.
        if !matches!(self.public_room(room).await, Ok(Some(_))) {
            if let Err(error) = self.0.broker.unsubscribe(room, caller.address.worker).await {
                unavailable(error);
            }
            return None;
        }
        Some(Entrance { after, kind: RoomKind::Public })
    }

    /// Has connections of a worker listen to a room that was offered; to a new one from its first message. Returns
    /// `false` if the store failed.
    pub(super) async fn listen(&self, offer: Offer) -> bool {
        let Offer { room, worker, connections, began, is_new } = offer;
        // The worker has numbered the offer before: a pattern that is set after this look closes the room to the offer too.
        let info = match self.public_room(&room).await {
            Ok(Some(info)) => info,
            Ok(None) => return true,
            Err(_) => return false,
        };
        // Messages from a time when the room had another pattern may not be for these connections.
        let from_start = is_new && info.has_first_pattern;
        let listeners = connections.len() as u32;
        let listened = room.clone();
        let enter: Enter = Box::new(move |after, said| {
            let entrance = Entrance { after, kind: RoomKind::Public };
            let (room, connections) = (listened.clone(), Arc::clone(&connections));
            Mail::Listen(Box::new(EnteringListeners { room, connections, began, entrance, said }))
        });
        self.0.broker.listen(&room, worker, listeners, from_start, enter).await.map_err(unavailable).is_ok()
    }

    /// Offers a room to the connections of this node that want to listen to it. If the store fails, this returns after the
    /// first try, and the node repeats the offer later.
    pub(super) async fn offer(&self, room: &RoomName, is_new: bool) {
        if self.try_offer(room, is_new).await {
            return;
        }
        let (node, room) = (self.clone(), room.clone());
        self.spawn(Box::pin(async move {
            for pause_ms in OFFER_PAUSES_MS {
                tokio::time::sleep(Duration::from_millis(pause_ms)).await;
                if node.try_offer(&room, is_new).await {
                    return;
                }
            }
            tracing::error!(%room, "store failed; clients that want to listen to the room do not receive its messages");
        }));
    }

    /// Connections that listen already stay as they are. Returns `false` if the store failed.
    async fn try_offer(&self, room: &RoomName, is_new: bool) -> bool {
        let answers = self.ask_all(|reply| Ask::Offer(room.clone(), is_new, reply)).await;
        answers.into_iter().all(|is_done| is_done)
    }

    /// Returns `None` if the room is missing or not public.
    async fn public_room(&self, room: &RoomName) -> Result<Option<RoomInfo>, CallError> {
        let info = self.0.directory.room(room).await.map_err(unavailable)?;
        Ok(info.filter(|info| kind_of(room, &info.pattern) == RoomKind::Public))
    }
}
