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
/// Guarantees: what a node notes of its members only that node takes back, unless it is dead. A member of a dead node
/// stays noted until the node that cleans up has announced that it left: its row is the record of what is left to
/// announce, so that the next survivor goes on when the cleaning node dies. What a node holds is known to it without
/// asking, so that it can be noted again when it was forgotten.
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

    /// Reads a part of the members that a dead node still has in a room, from a cursor on; the first part is at `None`.
    fn left_by(&self, node: &NodeEntry, room: &RoomName, cursor: Option<String>) -> Op<Result<Remains, BackendError>>;

    /// Removes members that [`SharedDirectory::left_by`] found, once it was announced that they left. Removing them
    /// twice changes nothing, nor does it change those that another node has noted since.
    fn remove_left(&self, room: &RoomName, left: &[LeftRow]) -> Op<Result<(), BackendError>>;

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

/// A part of the members that a dead node has in a room.
#[derive(Debug, Default)]
pub struct Remains {
    /// These members.
    pub left: Vec<LeftRow>,
    /// Where the next part begins; `None`: this was the last one.
    pub next: Option<String>,
}

/// A member of a dead node, and the row by which it is noted.
#[derive(Clone, Debug)]
pub struct LeftRow {
    /// The member.
    pub departed: Departed,
    /// Name and text of the row.
    pub(super) row: (Vec<u8>, Vec<u8>),
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
