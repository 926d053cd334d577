//! What follows from a look around: who has come, who is gone, whom to bury. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::backend::cluster::NodeEntry;

/// What this node knows of the others.
#[derive(Debug, Default)]
pub(super) struct Watch {
    known: BTreeMap<u16, NodeEntry>,
    /// Since when, on the monotonic clock, every look has succeeded.
    since_ms: Option<u64>,
}

/// What has changed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Changes {
    pub(super) joined: Vec<NodeEntry>,
    pub(super) left: Vec<NodeEntry>,
    /// Those who seem to be dead, and graves that nobody digs.
    pub(super) to_bury: Vec<NodeEntry>,
}

impl Watch {
    /// A look at `now_ms`. `own` is this node's incarnation.
    pub(super) fn look(
        &mut self,
        now_ms: u64,
        own: u64,
        lease: Duration,
        nodes: Vec<NodeEntry>,
        graves: Vec<NodeEntry>,
    ) -> Changes {
        let lease_ms = u64::try_from(lease.as_millis()).unwrap_or(u64::MAX);
        let since_ms = *self.since_ms.get_or_insert(now_ms);
        // Whoever could not look for a while does not know whether the others could say anything.
        let may_judge = now_ms.saturating_sub(since_ms) >= lease_ms;
        let mut changes = Changes::default();
        let before = std::mem::take(&mut self.known);
        for node in nodes.into_iter().filter(|node| node.incarnation != own) {
            if node.silent_ms > lease_ms && may_judge {
                changes.to_bury.push(node.clone());
            }
            self.known.insert(node.slot, node);
        }
        let is_in = |nodes: &BTreeMap<u16, NodeEntry>, node: &NodeEntry| {
            nodes.get(&node.slot).is_some_and(|other| other.incarnation == node.incarnation)
        };
        changes.joined = self.known.values().filter(|node| !is_in(&before, node)).cloned().collect();
        changes.left = before.into_values().filter(|node| !is_in(&self.known, node)).collect();
        changes.to_bury.extend(graves);
        changes
    }

    /// A node is gone. Whether it was known until now.
    pub(super) fn forget(&mut self, node: &NodeEntry) -> bool {
        let is_it = self.known.get(&node.slot).is_some_and(|known| known.incarnation == node.incarnation);
        is_it && self.known.remove(&node.slot).is_some()
    }

    /// A look has failed.
    pub(super) fn interrupt(&mut self) {
        self.since_ms = None;
    }

    /// The others.
    pub(super) fn known(&self) -> impl Iterator<Item = &NodeEntry> {
        self.known.values()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: Duration = Duration::from_secs(5);

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

    fn slots(nodes: &[NodeEntry]) -> Vec<u16> {
        nodes.iter().map(|node| node.slot).collect()
    }

    #[test]
    fn whoever_comes_and_goes_is_told_once() {
        let mut watch = Watch::default();
        let changes = watch.look(0, 1, LEASE, vec![node(1, 1, 0), node(2, 2, 0)], vec![]);
        assert_eq!((slots(&changes.joined), changes.left.len()), (vec![2], 0));
        assert_eq!(watch.look(1, 1, LEASE, vec![node(1, 1, 0), node(2, 2, 0)], vec![]), Changes::default());
        // Another life of it, under the same number.
        let changes = watch.look(2, 1, LEASE, vec![node(1, 1, 0), node(2, 3, 0)], vec![]);
        assert_eq!((slots(&changes.joined), changes.left[0].incarnation), (vec![2], 2));
        assert!(!watch.forget(&node(2, 2, 0)) && watch.forget(&node(2, 3, 0)));
        assert_eq!(watch.look(3, 1, LEASE, vec![node(1, 1, 0)], vec![]), Changes::default(), "it was told already");
    }

    #[test]
    fn nobody_is_buried_by_whoever_could_not_look_for_a_whole_lease() {
        let mut watch = Watch::default();
        let bury = |watch: &mut Watch, now_ms, silent_ms| {
            slots(&watch.look(now_ms, 1, LEASE, vec![node(2, 2, silent_ms)], vec![]).to_bury)
        };
        assert_eq!(bury(&mut watch, 0, 60_000), [0; 0], "perhaps nobody could say anything");
        assert_eq!(bury(&mut watch, 4_999, 60_000), [0; 0]);
        assert_eq!(bury(&mut watch, 5_000, 5_000), [0; 0], "its lease is not over");
        assert_eq!(bury(&mut watch, 5_000, 5_001), [2]);
        watch.interrupt();
        assert_eq!(bury(&mut watch, 9_000, 60_000), [0; 0]);
        assert_eq!(bury(&mut watch, 14_000, 60_000), [2]);
        let grave = node(3, 3, 0);
        assert_eq!(slots(&watch.look(14_001, 1, LEASE, vec![], vec![grave]).to_bury), [3]);
    }
}
