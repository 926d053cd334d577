//! One worker's part of the world: its connections, its part of every room, and what waits to be written.
//!
//! Plain data, synchronous, without a clock, a socket or a runtime. Nothing here is shared, so nothing here is locked.
//! The worker says what happened ([`Hub::enter`], [`Hub::gather`], [`Hub::send`]) and, once a turn, asks for the
//! consequences: [`Hub::fan_out`] walks each room that something was said in once, however much was said, and
//! [`Hub::take_dirty`] names each connection that has something to write once, however much it is.
//!
//! What is shared between workers stands beside it: [`mailbox`] is how anything reaches a worker.

pub(crate) mod ids;
mod joiner;
pub mod mail;
pub mod mailbox;
pub mod outbox;
mod room;

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use smallvec::SmallVec;
use switchboard_proto::call::RoomKind;
use switchboard_proto::id::RoomName;
use switchboard_proto::time::Stamps;
use switchboard_proto::wire::{Encoded, Hears, WireFormat};

use crate::visits::visit;
use joiner::Joiner;
use mail::{ConnKey, Delivery, Missed};
use outbox::{Outbox, Pushed};
pub use room::Role;
use room::{Roles, Room, Seat};

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

/// How somebody comes into a room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Entrance {
    /// The latest number before; what is numbered higher is heard.
    pub after: u64,
    /// Who may enter the room.
    pub kind: RoomKind,
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
    stamps: Rc<Stamps>,
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
    /// In which it is told of gaps.
    format: WireFormat,
    dirty: bool,
    /// Takes not all of the room being walked: see [`Hub::walk`] and [`Hub::miss`].
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
    pub fn new(worker: u16, limits: HubLimits, stamps: Rc<Stamps>) -> Self {
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
            stamps,
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
            self.vacate(key, membership.room);
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

    /// Gives a connection a seat in this worker's part of a room, as a member or as a listener. It hears what is numbered
    /// higher than `entry.after`, and nothing that was gathered before; who has a seat already hears on. Returns whether the
    /// connection was not there in this role.
    pub fn enter(&mut self, key: ConnKey, room: &RoomName, role: Role, entry: Entrance, hears: Hears) -> bool {
        if self.get(key).is_none() {
            return false;
        }
        let room_key = match self.room_keys.get(room) {
            Some(&room_key) => room_key,
            None => self.add_room(room, entry),
        };
        // Whatever was gathered belongs to those who were there then.
        self.walk(room_key);
        if let Some(membership) = self.membership(key, room_key) {
            let seat = &mut self.rooms[room_key as usize].seats[membership.position as usize];
            let is_new = !seat.roles.has(role);
            seat.roles.add(role);
            seat.hears = hears;
            return is_new;
        }
        let mut roles = Roles::default();
        roles.add(role);
        let room = &mut self.rooms[room_key as usize];
        let position = room.seats.len() as u32;
        room.seats.push(Seat { slot: key.slot, hears, roles });
        if entry.after > room.last {
            room.newcomers.push((key, entry.after));
        }
        if let Some(connection) = self.get_mut(key) {
            connection.rooms.push(Membership { room: room_key, position });
        }
        true
    }

    /// Ends one role of a connection in a room; in the other, if it has that one, it hears on as `hears` says. Returns whether
    /// it had the role.
    pub fn leave(&mut self, key: ConnKey, room: &RoomName, role: Role, hears: Hears) -> bool {
        let Some(&room_key) = self.room_keys.get(room) else { return false };
        let Some(membership) = self.membership(key, room_key) else { return false };
        self.walk(room_key);
        let seat = &mut self.rooms[room_key as usize].seats[membership.position as usize];
        if !seat.roles.has(role) {
            return false;
        }
        seat.roles.remove(role);
        seat.hears = hears;
        if seat.roles.is_empty() {
            self.vacate(key, room_key);
        }
        true
    }

    /// Changes how a connection hears its rooms: `hears` says it for each, for a member or for a listener. What was gathered
    /// before is heard as before.
    pub fn rehear(&mut self, key: ConnKey, mut hears: impl FnMut(&L, &RoomName, bool) -> Hears) {
        self.walk_rooms_of(key);
        let Some(connection) = self.get(key) else { return };
        let changes: Vec<(Membership, Hears)> = connection
            .rooms
            .iter()
            .map(|membership| {
                let room = &self.rooms[membership.room as usize];
                let is_member = room.seats[membership.position as usize].roles.has(Role::Member);
                (*membership, hears(&connection.link, &room.name, is_member))
            })
            .collect();
        for (membership, hears) in changes {
            self.rooms[membership.room as usize].seats[membership.position as usize].hears = hears;
        }
    }

    /// Hands connections that have just begun to listen the earlier messages of the room, up to the number `after`. The
    /// messages are joined once for all of them. They get a gap for the earliest ones if these are missing.
    pub fn catch_up(&mut self, keys: &[ConnKey], room: &RoomName, after: u64, said: &[Arc<Encoded>]) {
        let Some(&room_key) = self.room_keys.get(room) else { return };
        if after == 0 {
            return;
        }
        let first = said.first().map_or(after + 1, |message| message.message().number);
        let delivery = |message: &Arc<Encoded>| Delivery { message: Arc::clone(message), origin: None, echo: true };
        let batch: Vec<Delivery> = said.iter().map(delivery).collect();
        let (limits, stamps) = (self.limits, Rc::clone(&self.stamps));
        let mut joiner = Joiner::new(room, self.rooms[room_key as usize].kind, &batch, &stamps);
        for &key in keys {
            let Some(membership) = self.membership(key, room_key) else { continue };
            let hears = self.rooms[room_key as usize].seats[membership.position as usize].hears;
            let Some(connection) = self.get_mut(key).filter(|_| !hears.is_nothing()) else { continue };
            let mut overflows =
                first > 1 && connection.outbox.push_gap(room, 1, Some(first - 1), limits) == Pushed::Overflow;
            if !batch.is_empty() {
                for format in hears.formats() {
                    overflows |= connection.outbox.push_room(joiner.all(format), limits) == Pushed::Overflow;
                }
            }
            if overflows {
                self.overflowed.push(key);
            }
            self.delivered += batch.len() as u64;
            self.mark_dirty(key.slot);
        }
    }

    /// Notes who may enter a room from now on.
    pub fn set_kind(&mut self, room: &RoomName, kind: RoomKind) {
        if let Some(&room_key) = self.room_keys.get(room) {
            self.walk(room_key);
            self.rooms[room_key as usize].kind = kind;
        }
    }

    fn membership(&self, key: ConnKey, room_key: u32) -> Option<Membership> {
        self.get(key)?.rooms.iter().find(|membership| membership.room == room_key).copied()
    }

    /// Takes a connection's seat away.
    fn vacate(&mut self, key: ConnKey, room_key: u32) {
        self.walk(room_key);
        let Some(connection) = self.get_mut(key) else { return };
        let Some(at) = connection.rooms.iter().position(|membership| membership.room == room_key) else { return };
        let membership = connection.rooms.remove(at);
        let room = &mut self.rooms[room_key as usize];
        room.newcomers.retain(|(newcomer, _)| *newcomer != key);
        room.seats.swap_remove(membership.position as usize);
        if let Some(&moved) = room.seats.get(membership.position as usize)
            && let Some(connection) = self.entries[moved.slot as usize].connection.as_mut()
            && let Some(moved) = connection.rooms.iter_mut().find(|membership| membership.room == room_key)
        {
            moved.position = membership.position;
        }
        if self.rooms[room_key as usize].seats.is_empty() {
            self.reclaim_room(room_key);
        }
    }

    fn add_room(&mut self, name: &RoomName, entry: Entrance) -> u32 {
        let room = Room::new(name.clone(), entry.kind, entry.after);
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

    /// Whether a connection is a member of a room.
    pub fn is_member(&self, key: ConnKey, room: &RoomName) -> bool {
        self.has_role(key, room, Role::Member)
    }

    /// Whether a connection is in a room in this role.
    pub fn has_role(&self, key: ConnKey, room: &RoomName, role: Role) -> bool {
        let Some(&room_key) = self.room_keys.get(room) else { return false };
        let seat = |membership: Membership| self.rooms[room_key as usize].seats[membership.position as usize];
        self.membership(key, room_key).is_some_and(|membership| seat(membership).roles.has(role))
    }

    /// The rooms that a connection is a member of, in the order of joining.
    pub fn rooms_of(&self, key: ConnKey) -> Vec<RoomName> {
        self.rooms_in_role(key, Role::Member).map(|room| room.name.clone()).collect()
    }

    /// The rooms that a connection listens to.
    pub fn listened_by(&self, key: ConnKey) -> Vec<RoomName> {
        self.rooms_in_role(key, Role::Listener).map(|room| room.name.clone()).collect()
    }

    fn rooms_in_role(&self, key: ConnKey, role: Role) -> impl Iterator<Item = &Room> {
        let memberships = self.get(key).map(|connection| connection.rooms.as_slice()).unwrap_or_default();
        memberships.iter().filter_map(move |membership| {
            let room = &self.rooms[membership.room as usize];
            room.seats[membership.position as usize].roles.has(role).then_some(room)
        })
    }

    /// How many rooms a connection is a member of.
    pub fn room_count(&self, key: ConnKey) -> usize {
        self.rooms_in_role(key, Role::Member).count()
    }

    /// Those that are in this worker's part of a room in this role.
    pub fn occupants(&self, room: &RoomName, role: Role) -> Vec<ConnKey> {
        let Some(room_key) = self.room_keys.get(room) else { return Vec::new() };
        let seats = self.rooms[*room_key as usize].seats.iter();
        seats.filter(|seat| seat.roles.has(role)).filter_map(|seat| self.key_at(seat.slot)).collect()
    }

    /// Queues bytes that the client asked for. They count against nothing: who does not read them is not read either.
    pub fn send(&mut self, key: ConnKey, bytes: &[u8]) {
        if let Some(connection) = self.get_mut(key) {
            connection.outbox.push_own(bytes);
            self.mark_dirty(key.slot);
        }
    }

    /// Queues bytes that the client did not ask for, if there is room for them; else nothing happens.
    pub fn try_push(&mut self, key: ConnKey, bytes: &[u8]) -> bool {
        let limits = self.limits;
        let Some(connection) = self.get_mut(key) else { return false };
        let queued = connection.outbox.push_direct(bytes, limits) == Pushed::Queued;
        if queued {
            self.mark_dirty(key.slot);
        }
        queued
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
        // What has no number is for whoever is there.
        if number != 0 && number <= room.last {
            return;
        }
        room.last = room.last.max(number);
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

    /// Walks one room: joins what was gathered into one chunk per wire format and shares it with all who hear it.
    ///
    /// One that takes only some of it (it said one of the messages and does not hear itself, or came after one was
    /// numbered) is marked before the walk, passed over by it, and served on its own behind it.
    fn walk(&mut self, room_key: u32) {
        let room = &mut self.rooms[room_key as usize];
        if room.batch.is_empty() {
            return;
        }
        let batch = std::mem::take(&mut room.batch);
        let name = room.name.clone();
        let kind = room.kind;
        let newcomers = std::mem::take(&mut room.newcomers);
        let seats = std::mem::take(&mut room.seats);

        let mut specials: SmallVec<[(ConnKey, u64, Hears); 8]> = SmallVec::new();
        let unhearing = batch.iter().filter(|delivery| !delivery.echo).filter_map(|delivery| delivery.origin);
        let worker = self.worker;
        let unhearing = unhearing.filter(|origin| origin.worker == worker).map(|origin| (origin.key, 0));
        for (key, after) in newcomers.iter().copied().chain(unhearing) {
            if let Some(connection) = self.get_mut(key)
                && !connection.special
                && let Some(membership) = connection.rooms.iter().find(|membership| membership.room == room_key)
            {
                connection.special = true;
                specials.push((key, after, seats[membership.position as usize].hears));
            }
        }

        let stamps = Rc::clone(&self.stamps);
        let mut joiner = Joiner::new(&name, kind, &batch, &stamps);
        let mut heard = 0;
        for seat in &seats {
            let Some(connection) = self.entries[seat.slot as usize].connection.as_mut() else { continue };
            if connection.special || seat.hears.is_nothing() {
                continue;
            }
            for format in seat.hears.formats() {
                if connection.outbox.push_room(joiner.all(format), self.limits) == Pushed::Overflow {
                    let generation = self.entries[seat.slot as usize].generation;
                    self.overflowed.push(ConnKey { slot: seat.slot, generation });
                    break;
                }
            }
            heard += batch.len();
            self.mark_dirty(seat.slot);
        }

        for (key, after, hears) in specials {
            let limits = self.limits;
            let Some(connection) = self.get_mut(key) else { continue };
            connection.special = false;
            let is_for = |delivery: &Delivery| delivery.is_for(worker, key, after);
            let count = batch.iter().filter(|delivery| is_for(delivery)).count();
            if count == 0 || hears.is_nothing() {
                continue;
            }
            let mut overflows = false;
            for format in hears.formats() {
                overflows |= connection.outbox.push_room(joiner.some(format, is_for), limits) == Pushed::Overflow;
            }
            if overflows {
                self.overflowed.push(key);
            }
            heard += count;
            self.mark_dirty(key.slot);
        }
        self.delivered += heard as u64;

        let last = batch.iter().map(|delivery| delivery.message.message().number).max().unwrap_or_default();
        let room = &mut self.rooms[room_key as usize];
        room.seats = seats;
        // Numbers rise, so nothing old can follow for those.
        room.newcomers = newcomers;
        room.newcomers.retain(|(_, after)| *after > last);
        room.give_back(batch);
    }

    /// Tells whoever hears a room that messages are missing, behind all that was gathered before.
    pub fn miss(&mut self, room: &RoomName, missed: Missed) {
        let Some(&room_key) = self.room_keys.get(room) else { return };
        self.walk(room_key);
        let room = &mut self.rooms[room_key as usize];
        if missed.restarts {
            room.last = 0;
        }
        let newcomers = std::mem::take(&mut room.newcomers);
        let name = room.name.clone();
        let seats = std::mem::take(&mut room.seats);
        // A connection that came after the missing messages misses nothing.
        let came_later = |after: &u64| missed.last.is_some_and(|last| last <= *after);
        for (key, _) in newcomers.iter().inspect(|_| visit()).filter(|(_, after)| came_later(after)) {
            if let Some(connection) = self.get_mut(*key) {
                connection.special = true;
            }
        }
        for seat in &seats {
            visit();
            let entry = &mut self.entries[seat.slot as usize];
            let key = ConnKey { slot: seat.slot, generation: entry.generation };
            let Some(connection) = entry.connection.as_mut() else { continue };
            if std::mem::take(&mut connection.special) || seat.hears.is_nothing() {
                continue;
            }
            if connection.outbox.push_gap(&name, missed.first, missed.last, self.limits) == Pushed::Overflow {
                self.overflowed.push(key);
            }
            self.mark_dirty(seat.slot);
        }
        let room = &mut self.rooms[room_key as usize];
        room.seats = seats;
        if !missed.restarts {
            room.newcomers = newcomers;
        }
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
    /// In which format it is told of gaps.
    pub fn format(&self) -> WireFormat {
        self.format
    }
}

#[cfg(test)]
mod tests;
