//! Membership of this node in its cluster, as pure decisions: no clock, no store, no runtime.
//!
//! [`Lease`] keeps the node in the list of nodes: it attaches, renews, claims dead nodes, and after it was fenced it
//! rejoins. [`service::Service`] decides from that, and from what the node hears, whether the node may serve its
//! clients. [`peers::Peers`] is the node's view of the other nodes. Each says what to do next; its caller does that
//! and reports the result.
//!
//! Times are milliseconds on a monotonic clock of the caller.

pub(crate) mod peers;
pub(crate) mod service;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod small_scope;
#[cfg(test)]
mod store_model;

use std::time::Duration;

use super::cluster::NodeEntry;
use peers::{PeerEvent, Peers};

/// The node renews this often in one lease.
const RENEWALS: u64 = 5;

/// State of this node's membership.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Membership {
    /// The node has just started and has no slot.
    Joining,
    /// The latest renewal reached the store.
    Member { slot: u16, generation: u64 },
    /// The store does not answer. The other nodes may take this one for dead when its lease has ended.
    Away,
    /// The other nodes took this incarnation for dead: the node must close everything that it holds.
    Fenced { incarnation: u64 },
    /// Everything is closed, and the node asks for a slot under a new incarnation.
    Rejoining,
}

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum LeaseStep {
    /// Enter the list of nodes, or prove to be in it. The answer goes to [`Lease::attached`].
    Attach(Attach),
    /// Renew the lease and read the list of nodes. The answer goes to [`Lease::renewed`].
    Renew,
    /// Claim a dead node, so that this node removes its members. The answer goes to [`Lease::claimed`].
    Claim(NodeEntry),
    /// Nothing before this time, unless the caller has something to report.
    WaitUntil(u64),
}

/// Arguments of an attach.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Attach {
    /// The slot that the node has; 0: it needs one.
    pub(crate) slot: u16,
    pub(crate) incarnation: u64,
    /// The generation of the store that the node knows.
    pub(crate) generation: u64,
    /// A node of the same name keeps its slot if it was seen less than this time ago. A new process replaces its
    /// predecessor at once; a node that was fenced must not replace the one that took its name.
    pub(crate) spares_ms: u64,
}

/// Answer of the store to an attach.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Attached {
    Ok { slot: u16, generation: u64 },
    Fenced,
}

/// Answer of the store to a renewal.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Renewed {
    /// The lease is renewed. `tombstones` are dead nodes without a living reaper.
    Ok {
        generation: u64,
        nodes: Vec<NodeEntry>,
        tombstones: Vec<NodeEntry>,
    },
    /// The store does not know the slot: it may have lost the list.
    Unknown,
    Fenced,
}

/// See the [module](self).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Lease {
    length_ms: u64,
    membership: Membership,
    incarnation: u64,
    /// 0 before the first attach and after a fencing.
    slot: u16,
    generation: u64,
    /// Number of the present connection to the store.
    connection: Option<u64>,
    /// The store may not know this node: nothing may be renewed before an attach.
    must_attach: bool,
    /// When to renew or attach next.
    due_ms: u64,
    /// The node may change the store before this time; 0: it may not.
    valid_until_ms: u64,
    /// When the list of nodes was read.
    read_ms: u64,
    peers: Peers,
    /// Dead nodes that no living node is known to reap.
    to_claim: Vec<NodeEntry>,
}

impl Lease {
    /// A node that has just started.
    pub(crate) fn new(length: Duration, incarnation: u64) -> Self {
        Self {
            length_ms: u64::try_from(length.as_millis()).unwrap_or(u64::MAX),
            membership: Membership::Joining,
            incarnation,
            slot: 0,
            generation: 0,
            connection: None,
            must_attach: true,
            due_ms: 0,
            valid_until_ms: 0,
            read_ms: 0,
            peers: Peers::default(),
            to_claim: Vec::new(),
        }
    }

    /// Returns what to do at `now_ms`.
    pub(crate) fn next(&self, now_ms: u64) -> LeaseStep {
        let is_member = matches!(self.membership, Membership::Member { .. });
        if is_member
            && !self.must_attach
            && let Some(dead) = self.to_claim.last()
        {
            return LeaseStep::Claim(dead.clone());
        }
        if self.connection.is_none() || matches!(self.membership, Membership::Fenced { .. }) {
            return LeaseStep::WaitUntil(now_ms.saturating_add(self.renewal_ms()));
        }
        if now_ms < self.due_ms {
            return LeaseStep::WaitUntil(self.due_ms);
        }
        if !self.must_attach {
            return LeaseStep::Renew;
        }
        let spares_ms = if self.membership == Membership::Rejoining { self.length_ms } else { 0 };
        let Self { slot, incarnation, generation, .. } = *self;
        LeaseStep::Attach(Attach { slot, incarnation, generation, spares_ms })
    }

    /// The connection to the store has this number; `None`: there is no connection. Another connection may lead to a
    /// store that does not know this node.
    pub(crate) fn connected(&mut self, connection: Option<u64>) {
        if connection == self.connection {
            return;
        }
        self.connection = connection;
        if connection.is_some() {
            self.reattach();
        } else {
            self.lose_store();
        }
    }

    /// The servers of the store have changed: they may have lost what they had confirmed.
    pub(crate) fn reattach(&mut self) {
        self.must_attach = true;
        self.due_ms = 0;
    }

    /// Another node has joined: the list of nodes is to be read at once.
    pub(crate) fn hurry(&mut self) {
        self.due_ms = 0;
    }

    /// An attach that was sent at `sent_ms` over this connection was answered.
    pub(crate) fn attached(&mut self, sent_ms: u64, connection: u64, answer: Attached) {
        match answer {
            Attached::Ok { slot, generation } => {
                self.must_attach = self.connection != Some(connection);
                self.due_ms = sent_ms;
                if generation != self.generation {
                    // The store may have lost renewals of other nodes, which are alive all the same.
                    self.peers.interrupt();
                }
                (self.slot, self.generation) = (slot, generation);
                self.valid_until_ms = sent_ms.saturating_add(self.length_ms);
            }
            Attached::Fenced => self.fence(),
        }
    }

    /// A renewal that was sent at `sent_ms` was answered.
    pub(crate) fn renewed(&mut self, sent_ms: u64, answer: Renewed) {
        match answer {
            Renewed::Ok { generation, nodes, tombstones } if generation == self.generation => {
                self.valid_until_ms = sent_ms.saturating_add(self.length_ms);
                self.due_ms = sent_ms.saturating_add(self.renewal_ms());
                self.membership = Membership::Member { slot: self.slot, generation };
                self.read_ms = sent_ms;
                let dead = self.peers.read(sent_ms, self.incarnation, self.length_ms, nodes);
                for node in dead.into_iter().chain(tombstones) {
                    if self.to_claim.iter().all(|other| other.incarnation != node.incarnation) {
                        self.to_claim.push(node);
                    }
                }
            }
            // Another node has found out that the store lost something, or this one has to.
            Renewed::Ok { .. } | Renewed::Unknown => self.reattach(),
            Renewed::Fenced => self.fence(),
        }
    }

    /// A claim was answered: this node reaps `dead`, or another one does.
    pub(crate) fn claimed(&mut self, dead: &NodeEntry, is_claimed: bool) {
        self.to_claim.retain(|node| node.incarnation != dead.incarnation);
        if is_claimed {
            self.peers.claimed(dead.clone(), self.incarnation);
        }
    }

    /// A request that was sent at `sent_ms` got no answer, or an error. The store may have done it.
    pub(crate) fn failed(&mut self, sent_ms: u64) {
        self.due_ms = sent_ms.saturating_add(self.renewal_ms());
        self.lose_store();
    }

    /// The node has closed everything that it held as this incarnation: it rejoins as `next`.
    pub(crate) fn released(&mut self, incarnation: u64, next: u64) {
        if self.membership == (Membership::Fenced { incarnation }) {
            self.membership = Membership::Rejoining;
            (self.slot, self.incarnation) = (0, next);
            self.reattach();
        }
    }

    fn fence(&mut self) {
        self.membership = Membership::Fenced { incarnation: self.incarnation };
        self.valid_until_ms = 0;
        // The store offers them to the others: this incarnation is dead.
        self.to_claim.clear();
        self.peers.fence();
    }

    fn lose_store(&mut self) {
        // A node that could not read the list does not know whether the others could renew.
        self.peers.interrupt();
        if matches!(self.membership, Membership::Member { .. }) {
            self.membership = Membership::Away;
        }
    }

    fn renewal_ms(&self) -> u64 {
        self.length_ms / RENEWALS
    }

    /// State of the membership.
    pub(crate) fn membership(&self) -> Membership {
        self.membership
    }

    /// The life of this node that the store knows, or is about to.
    pub(crate) fn incarnation(&self) -> u64 {
        self.incarnation
    }

    /// The other nodes.
    pub(crate) fn peers(&self) -> impl Iterator<Item = &NodeEntry> {
        self.peers.known()
    }

    /// When the other nodes were read: how long each was silent is counted to this moment.
    pub(crate) fn read_ms(&self) -> u64 {
        self.read_ms
    }

    /// Whether [`Lease::next_event`] has one.
    pub(crate) fn has_event(&self) -> bool {
        self.peers.has_event()
    }

    /// Takes the next change of the other nodes. Each is returned once.
    pub(crate) fn next_event(&mut self) -> Option<PeerEvent> {
        self.peers.next_event()
    }

    /// The end of the time in which the node may change the store; 0: it may not.
    pub(crate) fn valid_until_ms(&self) -> u64 {
        self.valid_until_ms
    }
}
