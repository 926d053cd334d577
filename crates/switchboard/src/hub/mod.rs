//! One worker's part of the world: its connections, its part of every room, and what waits to be written.
//!
//! Plain data, synchronous, without a clock, a socket or a runtime. Nothing here is shared, so nothing here is locked.
//! The worker says what happened ([`Hub::join`], [`Hub::gather`], [`Hub::send`]) and, once a turn, asks for the
//! consequences: [`Hub::fan_out`] walks each room that something was said in once, however much was said, and
//! [`Hub::take_dirty`] names each connection that has something to write once, however much it is.
//!
//! What is shared between workers stands beside it: [`mailbox`] is how anything reaches a worker.

pub mod mail;
pub mod mailbox;
pub mod outbox;
mod room;

use std::collections::HashMap;
use std::rc::Rc;

use smallvec::SmallVec;
use switchboard_proto::id::RoomName;
use switchboard_proto::wire::WireFormat;

use mail::{ConnKey, Delivery};
use outbox::{Chunk, Outbox, Pushed};
use room::Room;

/// What to do with a client that does not read what it is sent (`limits.slow_consumer`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SlowConsumer {
    /// End its connection.
    #[default]
    Close,
    /// Drop the room messages that have waited longest, and tell the gap.
    DropOldest,
    /// Drop the room messages that arrive, and tell the gap.
    DropNewest,
}

/// Limits of what a hub keeps for one connection.
#[derive(Clone, Copy, Debug)]
pub struct HubLimits {
    /// Most bytes that may wait for one connection without having been asked for (`limits.max_outbox_bytes`).
    pub max_outbox_bytes: usize,
    /// What happens beyond.
    pub slow_consumer: SlowConsumer,
}

/// One worker's connections and its part of every room. `L` is what the worker itself keeps for a connection.
#[derive(Debug)]
pub struct Hub<L> {
    worker: u16,
    limits: HubLimits,
    entries: Vec<Entry<L>>,
    free: Vec<u32>,
    live: usize,
    rooms: Vec<Room>,
    free_rooms: Vec<u32>,
    room_keys: HashMap<RoomName, u32>,
    /// Rooms with gathered messages.
    touched: Vec<u32>,
    gathered_bytes: usize,
    /// Room messages queued for members since [`Hub::take_delivered`].
    delivered: u64,
    /// Connections with something to write.
    dirty: Vec<u32>,
    overflowed: Vec<ConnKey>,
}

/// Begins at a cache line, so that what a delivery touches lies together: see [`Connection`].
#[derive(Debug)]
#[repr(C, align(64))]
struct Entry<L> {
    connection: Option<Connection<L>>,
    generation: u32,
}

/// One connection as its hub sees it.
///
/// Fields stand in the order of how often a delivery touches them: with thousands of connections each cache line more
/// costs more than all instructions of a delivery.
#[derive(Debug)]
#[repr(C)]
pub struct Connection<L> {
    /// What waits to be written to it.
    pub outbox: Outbox,
    format: WireFormat,
    dirty: bool,
    /// Takes not all of the room being walked: see [`Hub::walk`].
    special: bool,
    /// What the worker keeps for it.
    pub link: L,
    rooms: SmallVec<[Membership; 2]>,
}

/// One room of a connection, and where in that room's list the connection stands.
#[derive(Clone, Copy, Debug)]
struct Membership {
    room: u32,
    position: u32,
}

impl<L> Hub<L> {
    /// An empty hub of the given worker.
    pub fn new(worker: u16, limits: HubLimits) -> Self {
        Self {
            worker,
            limits,
            entries: Vec::new(),
            free: Vec::new(),
            live: 0,
            rooms: Vec::new(),
            free_rooms: Vec::new(),
            room_keys: HashMap::new(),
            touched: Vec::new(),
            gathered_bytes: 0,
            delivered: 0,
            dirty: Vec::new(),
            overflowed: Vec::new(),
        }
    }

    /// Adds a connection.
    pub fn insert(&mut self, format: WireFormat, link: L) -> ConnKey {
        let connection = Connection {
            outbox: Outbox::default(),
            rooms: SmallVec::new(),
            format,
            dirty: false,
            special: false,
            link,
        };
        self.live += 1;
        if let Some(slot) = self.free.pop() {
            let entry = &mut self.entries[slot as usize];
            entry.connection = Some(connection);
            ConnKey { slot, generation: entry.generation }
        } else {
            let slot = self.entries.len() as u32;
            self.entries.push(Entry { generation: 0, connection: Some(connection) });
            ConnKey { slot, generation: 0 }
        }
    }

    /// Removes a connection, from its rooms too.
    pub fn remove(&mut self, key: ConnKey) -> Option<L> {
        self.get(key)?;
        while let Some(membership) = self.get(key).and_then(|connection| connection.rooms.last().copied()) {
            self.leave_room(key, membership.room);
        }
        let entry = &mut self.entries[key.slot as usize];
        let connection = entry.connection.take()?;
        entry.generation = entry.generation.wrapping_add(1);
        self.free.push(key.slot);
        self.live -= 1;
        Some(connection.link)
    }

    /// How many connections there are.
    pub fn len(&self) -> usize {
        self.live
    }

    /// Whether there are no connections.
    pub fn is_empty(&self) -> bool {
        self.live == 0
    }

    /// A connection.
    pub fn get(&self, key: ConnKey) -> Option<&Connection<L>> {
        let entry = self.entries.get(key.slot as usize)?;
        if entry.generation == key.generation { entry.connection.as_ref() } else { None }
    }

    /// A connection.
    pub fn get_mut(&mut self, key: ConnKey) -> Option<&mut Connection<L>> {
        let entry = self.entries.get_mut(key.slot as usize)?;
        if entry.generation == key.generation { entry.connection.as_mut() } else { None }
    }

    /// The connection that occupies a slot at the moment.
    pub fn key_at(&self, slot: u32) -> Option<ConnKey> {
        let entry = self.entries.get(slot as usize)?;
        entry.connection.as_ref().map(|_| ConnKey { slot, generation: entry.generation })
    }

    /// Every connection.
    pub fn keys(&self) -> Vec<ConnKey> {
        (0..self.entries.len() as u32).filter_map(|slot| self.key_at(slot)).collect()
    }

    /// Makes a connection a member of this worker's part of a room. It hears what is numbered higher than `after`, and
    /// nothing that was gathered before. Returns whether the room had no member here until now; joining twice changes
    /// nothing.
    pub fn join(&mut self, key: ConnKey, room: &RoomName, after: u64) -> bool {
        if self.get(key).is_none() || self.is_member(key, room) {
            return false;
        }
        let (room_key, is_new) = match self.room_keys.get(room) {
            Some(&room_key) => (room_key, false),
            None => (self.add_room(room, after), true),
        };
        // Whatever was gathered belongs to those who were members then.
        self.walk(room_key);
        let room = &mut self.rooms[room_key as usize];
        let position = room.members.len() as u32;
        room.members.push(key.slot);
        if after > room.last {
            room.newcomers.push((key, after));
        }
        if let Some(connection) = self.get_mut(key) {
            connection.rooms.push(Membership { room: room_key, position });
        }
        is_new
    }

    /// Ends a membership. Returns whether the room has no member here any more; `None` when it was no member.
    pub fn leave(&mut self, key: ConnKey, room: &RoomName) -> Option<bool> {
        let room_key = *self.room_keys.get(room)?;
        self.leave_room(key, room_key)
    }

    fn leave_room(&mut self, key: ConnKey, room_key: u32) -> Option<bool> {
        let at = self.get(key)?.rooms.iter().position(|membership| membership.room == room_key)?;
        self.walk(room_key);
        let membership = self.get_mut(key)?.rooms.remove(at);
        let room = &mut self.rooms[room_key as usize];
        room.newcomers.retain(|(newcomer, _)| *newcomer != key);
        room.members.swap_remove(membership.position as usize);
        if let Some(&moved) = room.members.get(membership.position as usize)
            && let Some(connection) = self.entries[moved as usize].connection.as_mut()
            && let Some(moved) = connection.rooms.iter_mut().find(|membership| membership.room == room_key)
        {
            moved.position = membership.position;
        }
        let is_empty = self.rooms[room_key as usize].members.is_empty();
        if is_empty {
            self.reclaim_room(room_key);
        }
        Some(is_empty)
    }

    fn add_room(&mut self, name: &RoomName, last: u64) -> u32 {
        let room = Room::new(name.clone(), last);
        let room_key = match self.free_rooms.pop() {
            Some(room_key) => {
                self.rooms[room_key as usize] = room;
                room_key
            }
            None => {
                self.rooms.push(room);
                self.rooms.len() as u32 - 1
            }
        };
        self.room_keys.insert(name.clone(), room_key);
        room_key
    }

    fn reclaim_room(&mut self, room_key: u32) {
        let room = &mut self.rooms[room_key as usize];
        self.room_keys.remove(&room.name);
        room.reclaim();
        self.free_rooms.push(room_key);
    }

    /// Whether a connection is in a room.
    pub fn is_member(&self, key: ConnKey, room: &RoomName) -> bool {
        match (self.get(key), self.room_keys.get(room)) {
            (Some(connection), Some(room_key)) => {
                connection.rooms.iter().any(|membership| membership.room == *room_key)
            }
            _ => false,
        }
    }

    /// A connection's rooms, in the order of joining.
    pub fn rooms_of(&self, key: ConnKey) -> Vec<RoomName> {
        let Some(connection) = self.get(key) else { return Vec::new() };
        connection.rooms.iter().map(|membership| self.rooms[membership.room as usize].name.clone()).collect()
    }

    /// How many rooms a connection is in.
    pub fn room_count(&self, key: ConnKey) -> usize {
        self.get(key).map_or(0, |connection| connection.rooms.len())
    }

    /// This worker's members of a room.
    pub fn members(&self, room: &RoomName) -> Vec<ConnKey> {
        let Some(room_key) = self.room_keys.get(room) else { return Vec::new() };
        self.rooms[*room_key as usize].members.iter().filter_map(|slot| self.key_at(*slot)).collect()
    }

    /// Queues bytes that the client asked for. They count against nothing: who does not read them is not read either.
    pub fn send(&mut self, key: ConnKey, bytes: &[u8]) {
        if let Some(connection) = self.get_mut(key) {
            connection.outbox.push_own(bytes);
            self.mark_dirty(key.slot);
        }
    }

    /// Queues bytes that the client did not ask for.
    pub fn push(&mut self, key: ConnKey, bytes: &[u8]) {
        let limits = self.limits;
        if let Some(connection) = self.get_mut(key) {
            if connection.outbox.push_direct(bytes, limits) == Pushed::Overflow {
                self.overflowed.push(key);
            }
            self.mark_dirty(key.slot);
        }
    }

    /// Says that a connection has something to write.
    pub fn mark_dirty(&mut self, slot: u32) {
        if let Some(connection) = self.entries[slot as usize].connection.as_mut()
            && !connection.dirty
        {
            connection.dirty = true;
            self.dirty.push(slot);
        }
    }

    /// Adds a delivery to what this turn brought to its room. One that is older than every member here, or was gathered
    /// before, is for nobody.
    pub fn gather(&mut self, delivery: Delivery) {
        let Some(&room_key) = self.room_keys.get(&delivery.message.message().room) else { return };
        let room = &mut self.rooms[room_key as usize];
        let number = delivery.message.message().number;
        if number <= room.last {
            return;
        }
        room.last = number;
        self.gathered_bytes += delivery.weight();
        if room.batch.is_empty() {
            self.touched.push(room_key);
        }
        room.batch.push(delivery);
    }

    /// Bytes gathered since the last [`Hub::fan_out`].
    pub fn gathered_bytes(&self) -> usize {
        self.gathered_bytes
    }

    /// Hands everything gathered to the members' outboxes.
    pub fn fan_out(&mut self) {
        let mut touched = std::mem::take(&mut self.touched);
        for room_key in touched.drain(..) {
            self.walk(room_key);
        }
        // Walking gathers nothing, so the list that was taken is put back for its memory alone.
        self.touched = touched;
        self.gathered_bytes = 0;
    }

    /// How many room messages were queued for members since this was last asked, one for each message and member. What a
    /// slow consumer's policy drops is among them.
    pub fn take_delivered(&mut self) -> u64 {
        std::mem::take(&mut self.delivered)
    }

    /// Hands what was gathered for the rooms of one connection to their members now, so that what is queued for it next
    /// keeps its place.
    pub fn walk_rooms_of(&mut self, key: ConnKey) {
        let Some(connection) = self.get(key) else { return };
        for membership in connection.rooms.clone() {
            self.walk(membership.room);
        }
    }

    /// Walks one room: joins what was gathered into one chunk per wire format and shares it with all members.
    ///
    /// A member that takes only some of it (it said one of the messages and does not hear itself, or joined after one
    /// was numbered) is marked before the walk, passed over by it, and served on its own behind it.
    fn walk(&mut self, room_key: u32) {
        let room = &mut self.rooms[room_key as usize];
        if room.batch.is_empty() {
            return;
        }
        let batch = std::mem::take(&mut room.batch);
        let name = room.name.clone();
        let newcomers = std::mem::take(&mut room.newcomers);
        let members = std::mem::take(&mut room.members);

        let mut specials: SmallVec<[(ConnKey, u64); 8]> = SmallVec::new();
        let unhearing = batch.iter().filter(|delivery| !delivery.echo).filter_map(|delivery| delivery.origin);
        let worker = self.worker;
        let unhearing = unhearing.filter(|origin| origin.worker == worker).map(|origin| (origin.key, 0));
        for (key, after) in newcomers.iter().copied().chain(unhearing) {
            if let Some(connection) = self.get_mut(key)
                && !connection.special
                && connection.rooms.iter().any(|membership| membership.room == room_key)
            {
                connection.special = true;
                specials.push((key, after));
            }
        }

        let mut chunks: [Option<Rc<Chunk>>; WireFormat::COUNT] = [const { None }; WireFormat::COUNT];
        for &slot in &members {
            let Some(connection) = self.entries[slot as usize].connection.as_mut() else { continue };
            if connection.special {
                continue;
            }
            let chunk = chunks[connection.format.index()]
                .get_or_insert_with(|| Rc::new(Chunk::join(&name, &batch, connection.format)));
            if connection.outbox.push_room(Rc::clone(chunk), self.limits) == Pushed::Overflow {
                self.overflowed.push(ConnKey { slot, generation: self.entries[slot as usize].generation });
            }
            self.mark_dirty(slot);
        }

        self.delivered += (batch.len() * (members.len() - specials.len())) as u64;

        for (key, after) in specials {
            let heard: Vec<Delivery> =
                batch.iter().filter(|delivery| delivery.is_for(worker, key, after)).cloned().collect();
            let limits = self.limits;
            let Some(connection) = self.get_mut(key) else { continue };
            connection.special = false;
            if heard.is_empty() {
                continue;
            }
            let chunk = Rc::new(Chunk::join(&name, &heard, connection.format));
            let heard = heard.len() as u64;
            if connection.outbox.push_room(chunk, limits) == Pushed::Overflow {
                self.overflowed.push(key);
            }
            self.delivered += heard;
            self.mark_dirty(key.slot);
        }

        let last = batch.last().map_or(0, |delivery| delivery.message.message().number);
        let room = &mut self.rooms[room_key as usize];
        room.members = members;
        // Numbers rise, so nothing old can follow for those.
        room.newcomers = newcomers;
        room.newcomers.retain(|(_, after)| *after > last);
        room.give_back(batch);
    }

    /// The connections that have something to write; each is named once.
    pub fn take_dirty(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.dirty)
    }

    /// Returns the list of [`Hub::take_dirty`], for its memory.
    pub fn give_back_dirty(&mut self, mut dirty: Vec<u32>) {
        if self.dirty.is_empty() {
            dirty.clear();
            self.dirty = dirty;
        }
    }

    /// The connection in a slot that [`Hub::take_dirty`] named, now clean.
    pub fn clean(&mut self, slot: u32) -> Option<(ConnKey, &mut Connection<L>)> {
        let entry = &mut self.entries[slot as usize];
        let connection = entry.connection.as_mut()?;
        connection.dirty = false;
        Some((ConnKey { slot, generation: entry.generation }, connection))
    }

    /// Connections for which more waits than may, under [`SlowConsumer::Close`].
    pub fn take_overflowed(&mut self) -> Vec<ConnKey> {
        std::mem::take(&mut self.overflowed)
    }
}

impl<L> Connection<L> {
    /// How room messages are encoded for it.
    pub fn format(&self) -> WireFormat {
        self.format
    }
}

#[cfg(test)]
mod tests;
