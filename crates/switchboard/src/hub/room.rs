//! One worker's part of a room.

use switchboard_proto::call::RoomKind;
use switchboard_proto::id::RoomName;
use switchboard_proto::wire::Hears;

use super::mail::{ConnKey, Delivery};

/// One worker's part of a room: who hears it there, and what the turn has brought so far.
#[derive(Debug)]
pub(super) struct Room {
    pub(super) name: RoomName,
    pub(super) kind: RoomKind,
    pub(super) seats: Vec<Seat>,
    /// The highest number gathered, or the one after which the first one took a seat.
    pub(super) last: u64,
    /// Those for whom older messages may still arrive, and the last number before they took their seat.
    pub(super) newcomers: Vec<(ConnKey, u64)>,
    /// What the turn has brought, in rising order.
    pub(super) batch: Vec<Delivery>,
}

/// One connection's place in a room.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seat {
    pub(super) slot: u32,
    /// How it hears the room: here and not in the connection, because one connection may hear its rooms differently.
    pub(super) hears: Hears,
    pub(super) roles: Roles,
}

/// As what a connection is in a room; it may be there as both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// As a member, who may speak and whom others see.
    Member,
    /// As somebody who hears and is not seen.
    Listener,
}

/// A set of [`Role`]s.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Roles(u8);

impl Roles {
    pub(super) fn has(self, role: Role) -> bool {
        self.0 & 1 << role as u8 != 0
    }

    pub(super) fn add(&mut self, role: Role) {
        self.0 |= 1 << role as u8;
    }

    pub(super) fn remove(&mut self, role: Role) {
        self.0 &= !(1 << role as u8);
    }

    pub(super) fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl Room {
    /// Most deliveries whose list is kept for the next turn.
    const KEPT_BATCH: usize = 64;

    pub(super) fn new(name: RoomName, kind: RoomKind, last: u64) -> Self {
        Self { name, kind, last, seats: Vec::new(), newcomers: Vec::new(), batch: Vec::new() }
    }

    /// Frees what an empty room holds.
    pub(super) fn reclaim(&mut self) {
        self.seats = Vec::new();
        self.newcomers = Vec::new();
        self.batch = Vec::new();
    }

    /// Takes the batch's memory back, unless a burst made it large.
    pub(super) fn give_back(&mut self, mut batch: Vec<Delivery>) {
        if batch.capacity() <= Self::KEPT_BATCH {
            batch.clear();
            self.batch = batch;
        }
    }
}
