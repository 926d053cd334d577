//! One session.

use std::mem;

use switchboard_proto::id::{ConnId, RoomName};
use switchboard_proto::shard::ShardCounts;

use super::{Log, ShardRow};
use crate::backend::sessions::shards::{Fleet, Owner, SessionHash, ShardNote, ShardRecord};

/// A session, as it is kept. See [`ShardRecord`] for most of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::backend) struct Session {
    pub(in crate::backend) id: ConnId,
    pub(in crate::backend) hash: SessionHash,
    /// Of the store, when the session began.
    pub(in crate::backend) epoch: u64,
    pub(in crate::backend) fleet: Fleet,
    pub(in crate::backend) shard: u32,
    pub(in crate::backend) total: Option<u32>,
    pub(in crate::backend) flags: u64,
    pub(in crate::backend) created_ms: u64,
    pub(in crate::backend) generation: u64,
    pub(in crate::backend) held: Held,
    pub(in crate::backend) received: u64,
    pub(in crate::backend) counts: ShardCounts,
    pub(in crate::backend) log: Log,
    /// In the order of joining.
    pub(in crate::backend) rooms: Vec<JoinedRoom>,
}

/// Who carries a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::backend) enum Held {
    By(Owner),
    ByNobody { since_ms: u64 },
}

/// How much of a log was forgotten.
#[derive(Clone, Copy, Debug)]
pub(super) struct Forgotten {
    pub(super) events: u64,
    pub(super) bytes: usize,
}

/// A room that a session is in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::backend) struct JoinedRoom {
    pub(in crate::backend) room: RoomName,
    /// Rises with every room that the session joins.
    pub(in crate::backend) order: u64,
    /// Up to here the session has heard the room.
    pub(in crate::backend) number: u64,
}

impl Held {
    pub(super) fn into_owner(self) -> Option<Owner> {
        match self {
            Self::By(owner) => Some(owner),
            Self::ByNobody { .. } => None,
        }
    }
}

impl Session {
    /// Whether whoever holds this generation carries it.
    pub(super) fn is_carried(&self, generation: u64) -> bool {
        self.generation == generation && matches!(self.held, Held::By(_))
    }

    /// Returns whether no connection carries it.
    pub(super) fn is_detached(&self) -> bool {
        matches!(self.held, Held::ByNobody { .. })
    }

    /// Gives it to `owner`, and returns who had it.
    pub(super) fn hold(&mut self, owner: Owner) -> Option<Owner> {
        self.generation += 1;
        mem::replace(&mut self.held, Held::By(owner)).into_owner()
    }

    /// Keeps figures and position. `false`: they are known.
    pub(super) fn take_note(&mut self, note: &ShardNote) -> bool {
        let received = self.received.max(note.received.min(self.log.last()));
        let is_new = (received, note.counts) != (self.received, self.counts);
        (self.received, self.counts) = (received, note.counts);
        is_new
    }

    /// Forgets the events up to `seq`, and returns how many those were.
    pub(super) fn forget_events(&mut self, seq: u64, note: &mut dyn FnMut(ShardRow<'_>)) -> Forgotten {
        let (floor, bytes) = (self.log.floor(), self.log.bytes());
        self.log.forget(seq);
        if self.log.floor() > floor {
            note(ShardRow::NoEvents { session: self.id, first: floor + 1, last: self.log.floor() });
        }
        Forgotten { events: self.log.floor() - floor, bytes: bytes - self.log.bytes() }
    }

    pub(super) fn record(&self, fleet_total: u32) -> ShardRecord {
        let (owner, detached_ms) = match &self.held {
            Held::By(owner) => (Some(owner.clone()), None),
            Held::ByNobody { since_ms } => (None, Some(*since_ms)),
        };
        ShardRecord {
            id: self.id,
            fleet: self.fleet.clone(),
            shard: self.shard,
            total: self.total,
            fleet_total,
            flags: self.flags,
            created_ms: self.created_ms,
            generation: self.generation,
            owner,
            detached_ms,
            last: self.log.last(),
            floor: self.log.floor(),
            received: self.received,
            log_bytes: self.log.bytes(),
            counts: self.counts,
            home: 0,
        }
    }
}
