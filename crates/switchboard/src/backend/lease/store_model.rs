//! A model of what the store keeps of nodes: the scripts in `redis/nodes`, line by line, without a server.

use std::collections::{BTreeMap, BTreeSet};

use super::{Attach, Attached, Renewed};
use crate::backend::cluster::NodeEntry;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Row {
    pub(super) incarnation: u64,
    name: u64,
    seen_ms: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct StoreModel {
    pub(super) generation: u64,
    /// The servers have changed, and no node has attached since.
    has_changed: bool,
    pub(super) list: BTreeMap<u16, Row>,
    pub(super) dead: BTreeSet<u64>,
    pub(super) tombstones: BTreeMap<u16, Row>,
    pub(super) reapers: BTreeMap<u16, u64>,
}

impl StoreModel {
    /// Another server takes over with this content, which may be older.
    pub(super) fn fail_over(&mut self, content: Self) {
        *self = Self { generation: content.generation, has_changed: true, ..content };
    }

    /// `attach.lua`. `None`: a node of the same name is spared.
    pub(super) fn attach(&mut self, now_ms: u64, name: u64, attach: &Attach) -> Option<Attached> {
        if std::mem::take(&mut self.has_changed) || self.generation == 0 {
            self.generation = (self.generation + 1).max(now_ms);
        }
        let Attach { mut slot, incarnation, generation, spares_ms } = *attach;
        if self.dead.contains(&incarnation) {
            return Some(Attached::Fenced);
        }
        if slot > 0 {
            match self.list.get(&slot) {
                Some(row) if row.incarnation != incarnation => return Some(Attached::Fenced),
                None if generation == self.generation => return Some(Attached::Fenced),
                _ => {}
            }
        } else {
            let mut taken: BTreeSet<u16> = self.tombstones.keys().copied().collect();
            for (other, row) in self.list.clone() {
                if row.incarnation == incarnation {
                    slot = other;
                } else if row.name == name {
                    if now_ms - row.seen_ms < spares_ms {
                        return None;
                    }
                    self.entomb(other, row);
                }
                taken.insert(other);
            }
            if slot == 0 {
                slot = (1..).find(|slot| !taken.contains(slot))?;
            }
        }
        self.list.insert(slot, Row { incarnation, name, seen_ms: now_ms });
        Some(Attached::Ok { slot, generation: self.generation })
    }

    /// `beat.lua`.
    pub(super) fn renew(&mut self, now_ms: u64, slot: u16, incarnation: u64) -> Renewed {
        if self.dead.contains(&incarnation) {
            return Renewed::Fenced;
        }
        match self.list.get_mut(&slot) {
            None => return Renewed::Unknown,
            Some(row) if row.incarnation != incarnation => return Renewed::Fenced,
            Some(row) => row.seen_ms = now_ms,
        }
        let nodes = self.list.iter().map(|(slot, row)| entry(*slot, row, now_ms - row.seen_ms)).collect();
        let is_free = |slot: &u16| self.reapers.get(slot).is_none_or(|reaper| self.dead.contains(reaper));
        let tombstones = self.tombstones.iter().filter(|(slot, _)| is_free(slot));
        let tombstones = tombstones.map(|(slot, row)| entry(*slot, row, 0)).collect();
        Renewed::Ok { generation: self.generation, nodes, tombstones }
    }

    /// `bury.lua`.
    pub(super) fn claim(&mut self, now_ms: u64, dead: &NodeEntry, own: u64, lease_ms: u64) -> bool {
        if self.dead.contains(&own) {
            return false;
        }
        if let Some(row) = self.list.get(&dead.slot).filter(|row| row.incarnation == dead.incarnation).cloned() {
            if now_ms - row.seen_ms <= lease_ms {
                return false;
            }
            self.entomb(dead.slot, row);
        }
        if self.tombstones.get(&dead.slot).is_none_or(|row| row.incarnation != dead.incarnation) {
            return false;
        }
        let reaper = self.reapers.get(&dead.slot);
        if reaper.is_some_and(|reaper| *reaper != own && !self.dead.contains(reaper)) {
            return false;
        }
        self.reapers.insert(dead.slot, own);
        true
    }

    /// `buried.lua`. Returns whether the tombstone was removed.
    pub(super) fn reaped(&mut self, slot: u16, own: u64) -> bool {
        let is_reaper = self.reapers.get(&slot) == Some(&own);
        if is_reaper {
            self.tombstones.remove(&slot);
            self.reapers.remove(&slot);
        }
        is_reaper
    }

    fn entomb(&mut self, slot: u16, row: Row) {
        self.dead.insert(row.incarnation);
        self.tombstones.insert(slot, row);
        self.list.remove(&slot);
    }
}

fn entry(slot: u16, row: &Row, silent_ms: u64) -> NodeEntry {
    NodeEntry {
        name: String::new(),
        slot,
        incarnation: row.incarnation,
        started_ms: 0,
        version: String::new(),
        connections: 0,
        members: 0,
        is_draining: false,
        silent_ms,
    }
}
