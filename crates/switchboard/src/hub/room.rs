//! One worker's part of a room.

use switchboard_proto::id::RoomName;

use super::mail::{ConnKey, Delivery};

/// One worker's part of a room: its members there, and what the turn has brought so far.
#[derive(Debug)]
pub(super) struct Room {
    pub(super) name: RoomName,
    /// Slots of the members.
    pub(super) members: Vec<u32>,
    /// The highest number gathered, or the one after which the first member joined.
    pub(super) last: u64,
    /// Members for whom older messages may still arrive, and the last number before they joined.
    pub(super) newcomers: Vec<(ConnKey, u64)>,
    /// What the turn has brought, in rising order.
    pub(super) batch: Vec<Delivery>,
}

impl Room {
    /// Most deliveries whose list is kept for the next turn.
    const KEPT_BATCH: usize = 64;

    pub(super) fn new(name: RoomName, last: u64) -> Self {
        Self { name, last, members: Vec::new(), newcomers: Vec::new(), batch: Vec::new() }
    }

    /// Frees what an empty room holds.
    pub(super) fn reclaim(&mut self) {
        self.members = Vec::new();
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
