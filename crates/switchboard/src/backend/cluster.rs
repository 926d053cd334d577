//! Several nodes: who they are, and what they tell each other.

use std::fmt;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use switchboard_proto::id::ConnId;
use tokio::sync::watch;

use super::BackendError;
use super::redis::trouble::Trouble;
use crate::op::Op;

/// A node of the cluster, as the others know it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
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
    /// Milliseconds since its latest renewal of the lease that this node knows of. Grows while the store is away.
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
    /// A node is dead, and this one removes what it left: see [`Cluster::buried`].
    Reap {
        /// The dead node.
        dead: NodeEntry,
        /// The incarnation of this node that claimed it. Another incarnation does nothing: the dead node was offered
        /// to other nodes.
        reaper: u64,
    },
}

/// State of this node in its cluster. A [`watch`] channel holds the latest one: a reader that is late misses earlier
/// states, and never the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ClusterState {
    /// The node is a member, reaches the store, and hears the other nodes.
    Up {
        /// Life of the store. With another one the store may have lost what it had confirmed.
        generation: u64,
        /// Number of this uninterrupted period. With another one messages of other nodes may be lost.
        period: u64,
    },
    /// The node does not reach the store, or does not hear the other nodes.
    Down,
    /// The other nodes took this incarnation for dead and gave away what it had. The node must close everything and
    /// then call [`Cluster::rejoin`]. Afterwards it is [`ClusterState::Up`], or fenced as another incarnation.
    Fenced {
        /// The incarnation that was taken for dead.
        incarnation: u64,
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
/// Guarantees: what one node sends to another arrives in order and at most once, or not at all; a sender that
/// needs to know asks for an answer. Of a dead node each survivor gets [`ClusterEvent::Left`], and one of them
/// [`ClusterEvent::Reap`]; should that one die too, another one gets it.
pub trait Cluster: fmt::Debug + Send + Sync {
    /// This node's number; 0 while it has none.
    fn slot(&self) -> u16;

    /// The living nodes, this one included, by their numbers.
    fn nodes(&self) -> Vec<NodeEntry>;

    /// This node's incarnation, which changes whenever it rejoins.
    fn incarnation(&self) -> u64;

    /// The state of this node.
    fn state(&self) -> watch::Receiver<ClusterState>;

    /// Whether the state is [`ClusterState::Up`] and this node's lease has not ended.
    fn is_up(&self) -> bool;

    /// Says something to other nodes.
    fn send(&self, to: To, bytes: Bytes) -> Op<Result<(), BackendError>>;

    /// Says something to other nodes that is written when its turn comes, in order with all that is sent. As with
    /// [`Cluster::send`], it may get lost.
    fn send_later(&self, to: To, write: Box<dyn FnOnce() -> Option<Bytes> + Send>);

    /// What the others are shown of this node.
    fn report(&self, report: Report);

    /// What there was trouble with so far.
    fn figures(&self) -> ClusterFigures;

    /// The affairs of a dead node are in order.
    fn buried(&self, node: &NodeEntry) -> Op<Result<(), BackendError>>;

    /// Everything that this node held as the fenced `incarnation` is closed: it may rejoin.
    fn rejoin(&self, incarnation: u64);

    /// This node stops as planned; whatever it leaves is put in order by others.
    fn leave(&self) -> Op<()>;
}
