//! What a worker asks of the node, in the worker's own words.

use std::io;
use std::sync::Arc;

use switchboard_proto::call::{Call, CallError, Content, Outcome, Piece, Wants};
use switchboard_proto::close::CloseReason;
use switchboard_proto::command::CommandId;
use switchboard_proto::face::ConnFacts;
use switchboard_proto::id::{ConnId, RoomName};
use switchboard_proto::time::Now;

use crate::hub::Entrance;
use crate::hub::mail::{Address, Admission, Attended, CommandFate, ConnKey};
use crate::op::{BoxFuture, Op};

/// Who asks.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    /// The connection's facts.
    pub(crate) facts: ConnFacts,
    /// Where it lives.
    pub(crate) address: Address,
    /// When it asks.
    pub(crate) now: Now,
}

/// A room that connections of one worker want to listen to.
#[derive(Clone, Debug)]
pub(crate) struct Offer {
    /// The room.
    pub(crate) room: RoomName,
    /// The worker.
    pub(crate) worker: u16,
    /// The connections.
    pub(crate) connections: Arc<[ConnKey]>,
    /// When the worker asks, on its own count.
    pub(crate) began: u64,
    /// The room is new: they listen from its first message.
    pub(crate) is_new: bool,
}

/// What a worker asks of the node.
///
/// Nothing here blocks. An operation that is not ready is spawned by the worker, and its outcome comes back by mail.
/// User code that runs inside never unwinds into the worker.
pub(crate) trait Calls: Send + Sync {
    /// Whether a connection is let in. Until this is decided nothing is said to it and nothing of it is read.
    fn admit(&self, caller: &Caller) -> Op<Result<Admission, CallError>>;

    /// A connection has been let in and is about to be welcomed.
    fn opened(&self, caller: &Caller, admission: Admission);

    /// A connection has ended; it is in no room any more.
    fn closed(&self, caller: &Caller, reason: CloseReason);

    /// A connection has ended that was never let in.
    fn turned_away(&self, caller: &Caller, reason: CloseReason);

    /// So many room messages were queued for members, one for each message and member, since this was last said.
    fn delivered(&self, count: u64);

    /// The node's part of a join: the room exists, the connection may, the backend knows.
    fn join(&self, caller: Caller, room: RoomName) -> Op<Result<Entrance, CallError>>;

    /// What a connection wants from now on. The result has the rooms that it listens to in addition to those that it
    /// listens to `already`: any client may enter them, and their messages reach the worker.
    fn attend(&self, caller: Caller, wants: Wants, already: Vec<RoomName>) -> Op<Attended>;

    /// The node's part of an offer. If connections may listen to the room, the node sends one mail for all of them
    /// ([`Mail::Listen`](crate::hub::mail::Mail::Listen)), in its place among the room's messages: all that follow
    /// `entrance.after` come later. Returns `false` if the store failed; no mail was sent then.
    fn listen(&self, offer: Offer) -> Op<bool>;

    /// Whether a hook decides for each connection if it may listen to a room.
    fn has_join_hook(&self) -> bool {
        false
    }

    /// Undoes the node's part of listening to a room.
    fn unlisten(&self, worker: u16, room: RoomName) -> Op<()>;

    /// What became of a client command.
    fn command_fate(&self, id: CommandId, connection: ConnId, fate: CommandFate);

    /// The connection is a member now: join callbacks run.
    fn joined(&self, caller: &Caller, room: &RoomName);

    /// The node's part of a leave: leave callbacks run while the connection still is a member, then the backend knows.
    fn leave(&self, caller: Caller, room: RoomName) -> Op<()>;

    /// Undoes the node's part of a join that came too late.
    fn unjoin(&self, caller: Caller, room: RoomName) -> Op<()>;

    /// Any other call. The worker has checked membership where the call needs it.
    fn call(&self, caller: Caller, call: Call) -> Op<Outcome>;

    /// Reads a piece of a content, where reading may block.
    fn read(&self, content: Arc<dyn Content>, offset: u64) -> BoxFuture<'static, io::Result<Piece>>;

    /// Runs `future` on the control plane.
    fn spawn(&self, future: BoxFuture<'static, ()>);
}
