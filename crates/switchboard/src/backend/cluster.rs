//! Several nodes: who they are, and what they tell each other.

use std::fmt;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use switchboard_proto::id::ConnId;

use super::BackendError;
use super::redis::trouble::Trouble;
use crate::op::Op;

/// A node of the cluster, as the others know it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeEntry {
    /// `node.name`.
    pub name: String,
    /// Its number while it lives, which is in the ids of its connections. Never 0.
    pub slot: u16,
    /// Which life of it: random.
    pub incarnation: u64,
    /// When it started, in milliseconds since 1970.
    pub started_ms: u64,
    /// Its version.
    pub version: String,
    /// Its connections, as it said last.
    pub connections: u64,
    /// Memberships of its connections and sessions, as it said last.
    pub members: u64,
    /// Whether it stops as planned.
    #[serde(default)]
    pub is_draining: bool,
    /// Milliseconds since it last said that it lives, at the moment of the latest look.
    #[serde(skip)]
    pub silent_ms: u64,
}

/// Whom something is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum To {
    /// The node with this number.
    Node(u16),
    /// All nodes but the sender.
    Others,
}

/// What a node is told by its cluster, in the order in which it happened.
#[derive(Debug)]
pub enum ClusterEvent {
    /// Another node says something.
    Message {
        /// Which.
        from: u16,
        /// What.
        bytes: Bytes,
    },
    /// The log of a session that this node carries has grown.
    Grown {
        /// Whose.
        session: ConnId,
        /// Up to which event.
        last: u64,
        /// By so many bytes.
        bytes: usize,
    },
    /// Another node is there.
    Joined(NodeEntry),
    /// Another node is not there any more: it stopped, or it is dead.
    Left(NodeEntry),
    /// A node is dead, and it is up to this one to put its affairs in order: see [`Cluster::buried`].
    Bury(NodeEntry),
    /// This node was taken for dead. Whatever it has was given to others: it must close everything, and then [`Cluster::rejoin`].
    Fenced,
    /// The store cannot be reached, or this node cannot be told anything.
    Down,
    /// Both are so again. What others said meanwhile is lost.
    Up {
        /// The store may have lost what it had confirmed.
        is_new: bool,
    },
}

/// What a node shows others of itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Its connections.
    pub connections: u64,
    /// Memberships of its connections and sessions.
    pub members: u64,
    /// Whether it stops as planned.
    pub is_draining: bool,
}

/// Figures of a cluster's store since the start, as this node met it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterFigures {
    /// What was not done, by the reason.
    pub errors: Vec<(&'static str, u64)>,
    /// How often a connection to the store was made anew.
    pub reconnects: u64,
    /// How often it was not certain that what is published is heard, so that listening began anew.
    pub relistens: u64,
    /// How many requests waited because `backend.redis.in_flight_max` others were in flight.
    pub queued: u64,
}

/// Those of a node without a cluster.
impl Default for ClusterFigures {
    fn default() -> Self {
        let errors = Trouble::ALL.iter().map(|trouble| (trouble.as_str(), 0)).collect();
        Self { errors, reconnects: 0, relistens: 0, queued: 0 }
    }
}

/// The other nodes, and this one among them.
///
/// Guarantees: what one node sends to another arrives in order and at most once, or not at all; whoever needs to know asks, and is
/// answered. Of a dead node each survivor is told [`ClusterEvent::Left`], and one of them [`ClusterEvent::Bury`]; should that one die too,
/// another one is told.
pub trait Cluster: fmt::Debug + Send + Sync {
    /// This node's number; 0 while it has none.
    fn slot(&self) -> u16;

    /// The living nodes, this one included, by their numbers.
    fn nodes(&self) -> Vec<NodeEntry>;

    /// Whether the store can be reached and this node is part of the cluster.
    fn is_up(&self) -> bool;

    /// Says something to other nodes.
    fn send(&self, to: To, bytes: Bytes) -> Op<Result<(), BackendError>>;

    /// What the others are shown of this node.
    fn report(&self, report: Report);

    /// What there was trouble with so far.
    fn figures(&self) -> ClusterFigures;

    /// The affairs of a dead node are in order.
    fn buried(&self, node: &NodeEntry) -> Op<Result<(), BackendError>>;

    /// Everything was closed after [`ClusterEvent::Fenced`]: this node begins anew.
    fn rejoin(&self);

    /// This node stops as planned; whatever it leaves is put in order by others.
    fn leave(&self) -> Op<()>;
}
