//! Facts for connections.

use crate::id::{ConnId, RoomName};
use crate::json::RawJson;

/// A fact that concerns one connection. What a room says is not among these: it is encoded once for all members, see
/// [`crate::wire`].
#[derive(Clone, Debug)]
pub enum Event {
    /// Server code sends this client a message of its own (`connection.sendMessage`).
    Message(RawJson),
}

/// Something said in a room, numbered.
#[derive(Clone, Debug)]
pub struct RoomMessage {
    /// Where.
    pub room: RoomName,
    /// Its number in the room: 1, 2, 3, … without gaps.
    pub number: u64,
    /// By whom.
    pub sender: Sender,
    /// What. Never `null` or `""`.
    pub body: RawJson,
    /// When, in milliseconds since 1970, on the sender's node.
    pub sent_at: u64,
}

/// Who said something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sender {
    /// A connection.
    Connection(ConnId),
    /// The server, under a name of its choice.
    Named(Box<str>),
    /// The server.
    Server,
}
