//! What a directory that several nodes share offers besides: what this node has in it, what dead nodes leave in it, and the
//! comparison of what is noted with what is.

use std::fmt;
use std::sync::Arc;

use switchboard_proto::face::ConnFacts;
use switchboard_proto::id::{ConnId, RoomName};
use switchboard_proto::user::User;

use super::cluster::NodeEntry;
use super::{BackendError, Pattern};
use crate::op::Op;

/// A directory that several nodes share.
///
/// Guarantees: what a node notes of its members only that node takes back, unless it is dead. A member of a dead node is removed
/// in one step that says who it was, to one caller: whoever is told announces that it left, and nobody else does. What a node
/// holds is known to it without asking, so that it can be noted again when it was forgotten.
pub trait SharedDirectory: fmt::Debug + Send + Sync {
    /// Memberships of this node.
    fn held(&self) -> u64;

    /// Who of this node is noted as a member of a room, each with a number that no other membership has.
    fn held_in(&self, room: &RoomName) -> Vec<(ConnId, u64)>;

    /// The rooms that this node has members in, in no order.
    fn held_rooms(&self) -> Vec<RoomName>;

    /// Forgets what this node holds, and changes nothing for others: they have taken it for dead.
    fn let_go(&self);

    /// Forgets a membership that another node has noted for itself, or is about to.
    fn release(&self, room: &RoomName, id: ConnId);

    /// Forgets a membership that turned out to be nobody's. `false`: it has ended already, or is another one by now.
    fn end_orphan(&self, room: &RoomName, id: ConnId, number: u64) -> Op<Result<bool, BackendError>>;

    /// The members of this node were found to match the pattern of this version.
    fn note_checked(&self, room: &RoomName, version: u64);

    /// All rooms that there are traces of, sorted by name: those that are being destroyed too, and those that only this node knows.
    fn all_rooms(&self) -> Op<Result<Vec<RoomName>, BackendError>>;

    /// Makes a room again that this node has members in, with its pattern, and notes its members again, as far as the store has
    /// forgotten them. One without members of this node is made with the pattern `otherwise`, if there is one. Whoever knows a later
    /// pattern changes it. `false`: the room was destroyed, or nothing is known of it.
    fn restore(&self, room: &RoomName, otherwise: Option<Pattern>) -> Op<Result<bool, BackendError>>;

    /// Removes whoever a dead node still has in a room.
    fn bury(&self, node: &NodeEntry, room: &RoomName) -> Op<Result<Burial, BackendError>>;

    /// Compares what is noted of a room with what this node holds and with the nodes that live, and mends it.
    fn compare(&self, room: &RoomName) -> Op<Result<Comparison, BackendError>>;
}

/// Somebody who was a member, by a connection of a node that does not live any more.
#[derive(Clone, Debug)]
pub struct Departed {
    /// What was known when it joined.
    pub facts: ConnFacts,
    /// Who it was to the application then.
    pub user: Option<User>,
}

/// What came of removing the members of a dead node from a room.
#[derive(Debug, Default)]
pub struct Burial {
    /// Who was removed: they leave now.
    pub departed: Vec<Departed>,
    /// Whether nobody is left. If not, the store has failed on the way.
    pub is_done: bool,
}

/// What a comparison found, as far as it is not mended already.
#[derive(Debug, Default)]
pub struct Comparison {
    /// What was mended.
    pub mended: Mended,
    /// Members of dead nodes that nobody had removed: they leave now.
    pub departed: Vec<Departed>,
    /// What is left to do for the node.
    pub left: Left,
}

/// What a comparison leaves to the node.
#[derive(Debug, Default)]
pub enum Left {
    /// Nothing.
    #[default]
    Nothing,
    /// The room was destroyed, or destroyed and made again: this node's members are to be removed.
    Evict,
    /// The node that began to destroy the room is dead: it has to be destroyed to the end.
    Destroy,
    /// It was made again after the store had forgotten it: the broker has to know it too.
    Reopen,
    /// This node's members were not looked at since the pattern changed.
    Recheck {
        /// Which pattern it is.
        version: u64,
        /// The pattern.
        pattern: Arc<Pattern>,
    },
}

/// How much was found to be wrong and put right, by what it was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mended {
    /// Members of this node that were not noted.
    pub missing: u64,
    /// Members noted for this node that are not there.
    pub stale: u64,
    /// Members of nodes that are not there.
    pub foreign: u64,
    /// What nobody can read.
    pub garbage: u64,
    /// Rooms that were listed and not there, or there and not listed.
    pub rooms: u64,
}
