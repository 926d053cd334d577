//! Hearing rooms without being a member.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, PoisonError, Weak};
use std::time::Duration;
use std::{iter, mem};

use switchboard_proto::call::{CallError, RoomKind, Wants};
use switchboard_proto::id::RoomName;

use crate::backend::{Enter, RoomInfo};
use crate::hub::Entrance;
use crate::hub::mail::{Address, Ask, Attended, ConnKey, EnteringListeners, ListenedRoom, Mail};
use crate::op::all;
use crate::worker::calls::{Caller, Offer};

use super::chat::{kind_of, unavailable};
use super::gate::Purpose;
use super::{Inner, Node};

/// Pauses before failed offers are repeated; the last one is used again and again. Each try costs every worker with
/// listeners a request to the store, for each room.
const OFFER_PAUSES_MS: [u64; 7] = [250, 500, 1000, 2000, 4000, 8000, 16_000];

/// Rooms that a connection begins to listen to at the same time, and connections that the hook of joins is asked about at the
/// same time.
const TOGETHER: usize = 16;

/// Rooms that could not be offered to listeners because the store failed. One task offers them again until it succeeds.
#[derive(Debug, Default)]
pub(super) struct MissedOffers {
    /// The list of public rooms could not be read for connections that want all of them.
    public_rooms: bool,
    /// Whether a room was new: its listeners receive the messages since its creation.
    rooms: HashMap<RoomName, bool>,
    is_repeating: bool,
}

impl MissedOffers {
    fn add(&mut self, room: RoomName, is_new: bool) {
        *self.rooms.entry(room).or_default() |= is_new;
    }
}

impl Node {
    /// Of the rooms that a connection wants to hear those that everybody may enter, without those that it hears already.
    /// If the store fails, the node offers the missing rooms later.
    pub(super) async fn begin_attending(&self, caller: &Caller, wants: Wants, already: Vec<RoomName>) -> Attended {
        let mut attended = Attended::default();
        let mut rooms = wants.rooms;
        if wants.public_rooms {
            match self.rooms().await {
                Ok(public) => rooms.extend(public),
                Err(error) => {
                    attended.failed = Some(error);
                    self.repeat_offers(|missed| missed.public_rooms = true);
                }
            }
        }
        // A client may be in a thousand, and want another one again and again.
        let mut seen: HashSet<RoomName> = already.into_iter().collect();
        rooms.retain(|room| seen.insert(room.clone()));
        for rooms in rooms.chunks(TOGETHER) {
            let begun = match attended.failed {
                None => all(rooms.iter().map(|room| self.begin_listening(caller, room))).await,
                // Each of them might wait for the store until the request times out, so they are not tried now.
                Some(_) => rooms.iter().map(|_| Err(CallError::Unavailable)).collect(),
            };
            for (room, entrance) in rooms.iter().zip(begun) {
                match entrance {
                    Ok(Some(entrance)) => attended.rooms.push(ListenedRoom { room: room.clone(), entrance }),
                    Ok(None) => {}
                    Err(error) => {
                        attended.failed = Some(error);
                        self.repeat_offers(|missed| missed.add(room.clone(), false));
                    }
                }
            }
        }
        attended
    }

    /// Subscribes the worker of a connection to a room. Returns `None` if the room is missing or not public, or the hook of
    /// joins does not let the connection in.
    async fn begin_listening(&self, caller: &Caller, room: &RoomName) -> Result<Option<Entrance>, CallError> {
        let worker = caller.address.worker;
        if self.has_join_hook() {
            if self.public_room(room).await?.is_none() {
                return Ok(None);
            }
            match self.may_see(&caller.facts, caller.address, room, Purpose::Listen).await {
                Ok(()) => {}
                Err(CallError::Unavailable) => return Err(CallError::Unavailable),
                Err(_) => return Ok(None),
            }
        }
        let Some(after) = self.0.broker.subscribe(room, worker).await.map_err(unavailable)? else { return Ok(None) };
        // Read after the subscription: a change of the pattern from now on finds the listener.
        let found = self.public_room(room).await;
        if !matches!(found, Ok(Some(_)))
            && let Err(error) = self.0.broker.unsubscribe(room, worker).await
        {
            unavailable(error);
        }
        Ok(found?.map(|_| Entrance { after, kind: RoomKind::Public }))
    }

    /// Asks the hook of joins which of these connections of a worker may listen to a room. Returns them, and whether the hook
    /// has decided about all.
    async fn those_that_may_listen(
        &self,
        worker: u16,
        connections: Arc<[ConnKey]>,
        room: &RoomName,
    ) -> (Arc<[ConnKey]>, bool) {
        if !self.has_join_hook() {
            return (connections, true);
        }
        let mut allowed = Vec::new();
        let mut is_decided = true;
        for keys in connections.chunks(TOGETHER) {
            let asked = keys.iter().map(async |&key| {
                let address = Address { worker, key };
                let found = self.ask(address, Ask::Inspect).await.map_err(|_| CallError::NoSuchConnection)?;
                self.may_see(&found.facts, address, room, Purpose::Listen).await.map(|()| key)
            });
            for decision in all(asked).await {
                is_decided &= !matches!(decision, Err(CallError::Unavailable));
                allowed.extend(decision.ok());
            }
        }
        (allowed.into(), is_decided)
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
        let (connections, is_decided) = self.those_that_may_listen(worker, connections, &room).await;
        if connections.is_empty() {
            return is_decided;
        }
        // Messages from a time when the room had another pattern may not be for these connections.
        let from_start = is_new && info.has_first_pattern;
        let listeners = connections.len() as u32;
        let listened = room.clone();
        let enter: Enter = Box::new(move |after, said| {
            let entrance = Entrance { after, kind: RoomKind::Public };
            let (room, connections) = (listened.clone(), Arc::clone(&connections));
            Mail::Listen(Box::new(EnteringListeners { room, connections, began, entrance, said }))
        });
        let listening = self.0.broker.listen(&room, worker, listeners, from_start, enter).await.map_err(unavailable);
        listening.is_ok() && is_decided
    }

    /// Offers a room to the connections of this node that want to listen to it. If the store fails, this returns after the
    /// first try, and the node repeats the offer later.
    ///
    /// With a hook of joins this returns at once: the hook is asked about each connection, which may take long, and the maker
    /// of a room must not wait for that.
    pub(super) async fn offer(&self, room: &RoomName, is_new: bool) {
        if self.has_join_hook() {
            let (node, room) = (self.clone(), room.clone());
            self.spawn(Box::pin(async move { node.offer_now(&room, is_new).await }));
        } else {
            self.offer_now(room, is_new).await;
        }
    }

    async fn offer_now(&self, room: &RoomName, is_new: bool) {
        if !self.try_offer(room, is_new).await {
            self.repeat_offers(|missed| missed.add(room.clone(), is_new));
        }
    }

    /// Notes offers that failed, and has them repeated until the store answers.
    fn repeat_offers(&self, note: impl FnOnce(&mut MissedOffers)) {
        let mut missed = self.0.missed_offers.lock().unwrap_or_else(PoisonError::into_inner);
        note(&mut missed);
        if !mem::replace(&mut missed.is_repeating, true) {
            tracing::warn!("store failed; clients that listen to rooms may miss messages until the store answers");
            self.spawn(Box::pin(Self::repeat_until_offered(Arc::downgrade(&self.0))));
        }
    }

    async fn repeat_until_offered(node: Weak<Inner>) {
        let [.., longest] = OFFER_PAUSES_MS;
        for pause_ms in OFFER_PAUSES_MS.into_iter().chain(iter::repeat(longest)) {
            tokio::time::sleep(Duration::from_millis(pause_ms)).await;
            let Some(node) = node.upgrade().map(Self) else { return };
            node.offer_missed().await;
            let mut missed = node.0.missed_offers.lock().unwrap_or_else(PoisonError::into_inner);
            if !missed.public_rooms && missed.rooms.is_empty() {
                missed.is_repeating = false;
                return;
            }
        }
    }

    /// Tries once to offer the rooms that were missed. Those that fail are noted again.
    async fn offer_missed(&self) {
        let (public_rooms, mut rooms) = {
            let mut missed = self.0.missed_offers.lock().unwrap_or_else(PoisonError::into_inner);
            (mem::take(&mut missed.public_rooms), mem::take(&mut missed.rooms))
        };
        if public_rooms {
            match self.rooms().await {
                Ok(public) => public.into_iter().for_each(|room| {
                    rooms.entry(room).or_default();
                }),
                Err(_) => self.repeat_offers(|missed| missed.public_rooms = true),
            }
        }
        let mut rooms = rooms.into_iter();
        while let Some((room, is_new)) = rooms.next() {
            if !self.try_offer(&room, is_new).await {
                self.repeat_offers(|missed| {
                    iter::once((room, is_new)).chain(rooms).for_each(|(room, is_new)| missed.add(room, is_new));
                });
                return;
            }
        }
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
