//! The other nodes: who has joined, who has left, and which of them are dead.

use std::collections::{BTreeMap, VecDeque};

use crate::backend::cluster::NodeEntry;

/// The other nodes as the store lists them, and as this node's owner knows them from events.
///
/// Events are the difference between both, so none is lost while the owner takes none, and they need no more space
/// than the nodes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Peers {
    known: BTreeMap<u16, NodeEntry>,
    told: BTreeMap<u16, NodeEntry>,
    /// Dead nodes that this one reaps, and its incarnation when it claimed them.
    claimed: VecDeque<(NodeEntry, u64)>,
    /// Time since which every read of the list has succeeded.
    since_ms: Option<u64>,
}

/// A change of the other nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PeerEvent {
    Left(NodeEntry),
    /// This node is to remove the members of a dead one, as the incarnation that claimed it.
    Reap {
        dead: NodeEntry,
        reaper: u64,
    },
    Joined(NodeEntry),
}

impl Peers {
    /// Takes the list of nodes as it was read at `now_ms`, in which `own` is this node's incarnation. Returns those
    /// that are dead.
    pub(super) fn read(&mut self, now_ms: u64, own: u64, lease_ms: u64, nodes: Vec<NodeEntry>) -> Vec<NodeEntry> {
        let since_ms = *self.since_ms.get_or_insert(now_ms);
        // While this node could not read the list, perhaps no node could renew.
        let may_judge = now_ms.saturating_sub(since_ms) >= lease_ms;
        let others = nodes.into_iter().filter(|node| node.incarnation != own);
        self.known = others.map(|node| (node.slot, node)).collect();
        self.known.values().filter(|node| may_judge && node.silent_ms > lease_ms).cloned().collect()
    }

    /// Notes that this node reaps a dead one.
    pub(super) fn claimed(&mut self, dead: NodeEntry, reaper: u64) {
        if has(&self.known, &dead) {
            self.known.remove(&dead.slot);
        }
        self.claimed.push_back((dead, reaper));
    }

    /// A read of the list has failed.
    pub(super) fn interrupt(&mut self) {
        self.since_ms = None;
    }

    /// This node was fenced: others reap what it had claimed.
    pub(super) fn fence(&mut self) {
        self.interrupt();
        self.claimed.clear();
    }

    /// The others.
    pub(super) fn known(&self) -> impl Iterator<Item = &NodeEntry> {
        self.known.values()
    }

    fn departed(&self) -> Option<u16> {
        // A store that has lost something may list a dead node again that this one has claimed.
        let is_claimed = |node: &NodeEntry| self.claimed.iter().any(|(dead, _)| dead.incarnation == node.incarnation);
        let mut departed = self.told.iter().filter(|(_, node)| !has(&self.known, node) || is_claimed(node));
        departed.next().map(|(slot, _)| *slot)
    }

    fn arrived(&self) -> Option<&NodeEntry> {
        self.known.values().find(|node| !has(&self.told, node))
    }

    pub(super) fn has_event(&self) -> bool {
        !self.claimed.is_empty() || self.departed().is_some() || self.arrived().is_some()
    }

    /// Takes the next event. A dead node has left before it is reaped, and its slot is free before another node joins
    /// with it.
    pub(super) fn next_event(&mut self) -> Option<PeerEvent> {
        if let Some(slot) = self.departed() {
            return self.told.remove(&slot).map(PeerEvent::Left);
        }
        if let Some((dead, reaper)) = self.claimed.pop_front() {
            return Some(PeerEvent::Reap { dead, reaper });
        }
        let node = self.arrived()?.clone();
        self.told.insert(node.slot, node.clone());
        Some(PeerEvent::Joined(node))
    }
}

fn has(nodes: &BTreeMap<u16, NodeEntry>, node: &NodeEntry) -> bool {
    nodes.get(&node.slot).is_some_and(|other| other.incarnation == node.incarnation)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE_MS: u64 = 5000;

    fn node(slot: u16, incarnation: u64, silent_ms: u64) -> NodeEntry {
        NodeEntry {
            name: format!("n{slot}"),
            slot,
            incarnation,
            started_ms: 0,
            version: String::new(),
            connections: 0,
            members: 0,
            is_draining: false,
            silent_ms,
        }
    }

    fn events(peers: &mut Peers) -> Vec<PeerEvent> {
        std::iter::from_fn(|| peers.next_event()).collect()
    }

    #[test]
    fn each_join_and_leave_is_returned_once_also_to_an_owner_that_is_late() {
        let mut peers = Peers::default();
        let read = |peers: &mut Peers, nodes| peers.read(0, 1, LEASE_MS, nodes);
        read(&mut peers, vec![node(1, 1, 0), node(2, 2, 0)]);
        assert_eq!(events(&mut peers), [PeerEvent::Joined(node(2, 2, 0))]);
        read(&mut peers, vec![node(1, 1, 0), node(2, 2, 0)]);
        assert!(!peers.has_event());
        // Before the owner takes an event, slot 2 changes its node twice, and another node joins and leaves.
        read(&mut peers, vec![node(2, 3, 0), node(3, 4, 0)]);
        read(&mut peers, vec![node(2, 5, 0)]);
        assert_eq!(events(&mut peers), [PeerEvent::Left(node(2, 2, 0)), PeerEvent::Joined(node(2, 5, 0))]);
        peers.claimed(node(2, 5, 0), 1);
        assert_eq!(
            events(&mut peers),
            [PeerEvent::Left(node(2, 5, 0)), PeerEvent::Reap { dead: node(2, 5, 0), reaper: 1 }]
        );
        read(&mut peers, vec![]);
        assert!(!peers.has_event());
    }

    #[test]
    fn a_node_that_could_not_read_the_list_for_a_whole_lease_takes_no_other_for_dead() {
        let mut peers = Peers::default();
        let dead =
            |peers: &mut Peers, now_ms, silent_ms| peers.read(now_ms, 1, LEASE_MS, vec![node(2, 2, silent_ms)]).len();
        assert_eq!(dead(&mut peers, 0, 60_000), 0, "perhaps no node could renew");
        assert_eq!(dead(&mut peers, 4_999, 60_000), 0);
        assert_eq!(dead(&mut peers, 5_000, 5_000), 0, "its lease has not ended");
        assert_eq!(dead(&mut peers, 5_000, 5_001), 1);
        peers.interrupt();
        assert_eq!(dead(&mut peers, 9_000, 60_000), 0);
        assert_eq!(dead(&mut peers, 14_000, 60_000), 1);
    }
}
