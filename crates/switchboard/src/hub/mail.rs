//! What reaches a worker: the closed list of its mail.

use std::fmt;
use std::io;
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use serde_json::Value;
use switchboard_proto::call::{CallError, Outcome, Piece, RoomKind};
use switchboard_proto::command::CommandDelivery;
use switchboard_proto::event::{Event, RoomMessage};
use switchboard_proto::face::{ConnFacts, Fingerprint, Remote};
use switchboard_proto::id::{ConnId, RoomName, Token};
use switchboard_proto::json::RawJson;
use switchboard_proto::peer::PeerKind;
use switchboard_proto::shard::ShardEvent;
use switchboard_proto::wire::Encoded;

use super::Entrance;

/// Where in its worker a connection lives. Keys are not used again: a slot's next connection has another generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConnKey {
    /// Which place in the worker's list.
    pub slot: u32,
    /// How many connections had that place before.
    pub generation: u32,
}

/// Where on this node a connection lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Address {
    /// With which worker.
    pub worker: u16,
    /// Where there.
    pub key: ConnKey,
}

/// Something for a worker.
#[derive(Debug)]
pub enum Mail {
    /// A connection that was set up elsewhere and now belongs to this worker.
    Adopt(Box<Adopted>),
    /// A request of the node.
    Ask(Ask),
    /// A room message for this worker's members.
    Deliver(Delivery),
    /// Listeners enter a room that was offered to this worker.
    Listen(Box<EnteringListeners>),
    /// The node's part of an offer is done. The number is that of [`EnteringListeners::began`].
    ListenDone(u64),
    /// What a connection waited for.
    Settled(ConnKey, Box<Settled>),
}

impl Mail {
    /// Bytes that a request of the node counts. What it carries besides is shared, or small.
    pub const ASK_BYTES: usize = 256;

    /// Bytes that it counts in an inbox.
    pub fn weight(&self) -> usize {
        match self {
            Self::Adopt(adopted) => 512 + adopted.received.len(),
            Self::Ask(_) | Self::ListenDone(_) => Self::ASK_BYTES,
            Self::Listen(listeners) => listeners.weight(),
            Self::Deliver(delivery) => delivery.weight(),
            Self::Settled(_, settled) => 256 + settled.bytes(),
        }
    }
}

/// A room message on its way to one worker's members.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// The message, with its encodings.
    pub message: Arc<Encoded>,
    /// The connection that said it, if it is one of this node.
    pub origin: Option<Address>,
    /// Whether that connection hears it too.
    pub echo: bool,
}

impl Delivery {
    /// Bytes that it counts.
    pub fn weight(&self) -> usize {
        Self::weight_of_message(self.message.message())
    }

    fn weight_of_message(message: &RoomMessage) -> usize {
        Self::weight_of(&message.body, message.attachment())
    }

    /// Bytes that a message with this body counts, and with what its sender put beside it.
    pub fn weight_of(body: &RawJson, attachment: Option<&RawJson>) -> usize {
        256 + body.as_str().len() + attachment.map_or(0, |json| json.as_str().len())
    }

    /// Whether a member of `worker` that joined after number `after` hears it.
    pub(super) fn is_for(&self, worker: u16, key: ConnKey, after: u64) -> bool {
        let number = self.message.message().number;
        (number == 0 || number > after) && (self.echo || self.origin != Some(Address { worker, key }))
    }
}

/// A connection that was set up elsewhere.
pub struct Adopted {
    /// Its socket, not blocking.
    pub socket: Socket,
    /// Its TLS state after the handshake.
    pub tls: Option<Box<rustls::ServerConnection>>,
    /// Bytes that were received and not yet looked at.
    pub received: Vec<u8>,
    /// What it speaks.
    pub kind: PeerKind,
    /// Its id: known before it belongs to a worker, so that whoever set it up can have asked about it.
    pub id: ConnId,
    /// What it presented as its fingerprint, if anything; else its kind decides.
    pub fingerprint: Option<Fingerprint>,
    /// Where it comes from.
    pub remote: Remote,
    /// What was decided of it already; without, the node is asked before it is welcomed.
    pub admission: Option<Admission>,
}

impl fmt::Debug for Adopted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Adopted").field("kind", &self.kind).field("remote", &self.remote).finish_non_exhaustive()
    }
}

/// A connected socket.
#[derive(Debug)]
pub enum Socket {
    /// TCP.
    Tcp(TcpStream),
    /// A Unix socket.
    Unix(UnixStream),
}

/// Who waits for an outcome.
pub enum Asker {
    /// The connection's face, which asked under this token.
    Face(Token),
    /// Server code.
    Node(Reply<Outcome>),
}

impl fmt::Debug for Asker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Face(token) => f.debug_tuple("Face").field(token).finish(),
            Self::Node(_) => f.write_str("Node"),
        }
    }
}

/// Where an answer to server code goes. Dropped unused when the connection or the worker is gone.
pub type Reply<T> = Box<dyn FnOnce(T) + Send>;

/// What a connection begins with, decided before it is welcomed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Admission {
    /// Its server-only state: names and values that state may hold.
    pub state: Vec<(String, Value)>,
}

/// What a connection waited for.
#[derive(Debug)]
pub enum Settled {
    /// Whether it is let in.
    Admission(Result<Admission, CallError>),
    /// The next piece of the content being sent.
    Content(io::Result<Piece>),
    /// The node's part of a join.
    Join {
        /// Of which room.
        room: RoomName,
        /// Who asked.
        asker: Asker,
        /// How it comes in.
        result: Result<Entrance, CallError>,
    },
    /// The node's part of listening to rooms.
    Listening {
        /// Who asked.
        asker: Asker,
        /// When the worker asked, on its own count.
        began: u64,
        /// What the node found.
        attended: Attended,
    },
    /// Any other call.
    Outcome(Asker, Outcome),
}

/// The node's part of listening to rooms.
#[derive(Debug, Default)]
pub struct Attended {
    /// The rooms that the connection may listen to.
    pub rooms: Vec<ListenedRoom>,
    /// The store failed. The node offers the rooms that are missing from `rooms` later.
    pub failed: Option<CallError>,
}

/// A room that a connection begins to listen to.
#[derive(Debug)]
pub struct ListenedRoom {
    /// The room.
    pub room: RoomName,
    /// After which number it hears the room.
    pub entrance: Entrance,
}

/// Messages of a room's log, with encodings that all recipients share.
pub type Earlier = Arc<[Arc<Encoded>]>;

/// Connections that begin to listen to one room together.
#[derive(Debug)]
pub struct EnteringListeners {
    /// The room.
    pub room: RoomName,
    /// The connections.
    pub connections: Arc<[ConnKey]>,
    /// When the worker asked, on its own count.
    pub began: u64,
    /// After which number they hear the room.
    pub entrance: Entrance,
    /// Messages that the connections receive first: all that the room's log has up to `entrance.after`. `None`: they
    /// hear the room only from now on.
    pub said: Option<Earlier>,
}

impl EnteringListeners {
    fn weight(&self) -> usize {
        let said = self.said.as_deref().unwrap_or_default();
        let said: usize = said.iter().map(|message| Delivery::weight_of_message(message.message())).sum();
        Mail::ASK_BYTES + size_of::<ConnKey>() * self.connections.len() + said
    }
}

impl Settled {
    fn bytes(&self) -> usize {
        match self {
            Self::Content(Ok(piece)) => piece.bytes.len(),
            _ => 0,
        }
    }
}

/// A request of the node.
pub enum Ask {
    /// Hand a client command to a connection; what became of it is told by `Calls::command_fate`.
    Command(ConnKey, CommandDelivery),
    /// Stop as planned: every face closes in its own way.
    Drain,
    /// Whose part of a room: remove every member. The room is being destroyed.
    Evict(RoomName, Reply<usize>),
    /// Messages of a room are missing: whoever hears it is told behind what came before.
    Gap(RoomName, Missed),
    /// End every connection: whatever they have was given to other nodes.
    Expel,
    /// What is known of a connection.
    Inspect(ConnKey, Reply<Inspection>),
    /// Make a connection a member of a room.
    Join(ConnKey, RoomName, Reply<Outcome>),
    /// End a membership.
    Leave(ConnKey, RoomName, Reply<Outcome>),
    /// Whether a connection hears nothing of its rooms from now on, or all that it asks for.
    Mute(ConnKey, bool),
    /// Who is in these rooms, or is about to be, with this worker.
    Occupants(Arc<[RoomName]>, Reply<Vec<(RoomName, ConnId)>>),
    /// Any connection may enter a room from now on: those that want to listen to it do. `true`: the room is new, and they
    /// receive the messages since its creation. The reply is `false` if the store failed: the offer must be repeated.
    Offer(RoomName, bool, Reply<bool>),
    /// Note who may enter a room, and remove the members that fail the check. Unless everybody may enter, nobody listens.
    Recheck(RoomName, RoomKind, MemberCheck, Reply<usize>),
    /// End a connection.
    Remove(ConnKey, Reply<()>),
    /// Tell a connection something. `false`: its client cannot be told of that.
    Send(ConnKey, Event, Reply<bool>),
    /// Something has become of the session that a connection carries.
    Shard(ConnKey, ShardEvent),
    /// End everything at once.
    Stop,
}

impl fmt::Debug for Ask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Command(..) => "Command",
            Self::Drain => "Drain",
            Self::Evict(..) => "Evict",
            Self::Gap(..) => "Gap",
            Self::Expel => "Expel",
            Self::Inspect(..) => "Inspect",
            Self::Join(..) => "Join",
            Self::Leave(..) => "Leave",
            Self::Mute(..) => "Mute",
            Self::Occupants(..) => "Occupants",
            Self::Offer(..) => "Offer",
            Self::Recheck(..) => "Recheck",
            Self::Remove(..) => "Remove",
            Self::Send(..) => "Send",
            Self::Shard(..) => "Shard",
            Self::Stop => "Stop",
        })
    }
}

/// Messages of a room that never came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Missed {
    /// Number of the first one; there may be none with this number, if nobody knows the last one.
    pub first: u64,
    /// Number of the last one. None: nobody knows.
    pub last: Option<u64>,
    /// Numbers behind it may be lower than those before it.
    pub restarts: bool,
}

/// What became of a client command that was handed to a connection's worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommandFate {
    /// It waits in the connection's outbox, or is written.
    Delivered,
    /// Too much waits for the connection already; the command was not kept.
    Overflow,
    /// The connection has ended, or takes no commands.
    Gone,
}

/// Whether a member may stay.
pub type MemberCheck = Arc<dyn Fn(&ConnFacts) -> bool + Send + Sync>;

/// What is known of a connection.
#[derive(Clone, Debug)]
pub struct Inspection {
    /// What was fixed at accept.
    pub facts: ConnFacts,
    /// Its rooms, in the order of joining.
    pub rooms: Vec<RoomName>,
    /// Rooms that it is joining: it is no member yet.
    pub joining: Vec<RoomName>,
    /// Bytes that wait to be written to it.
    pub outbox_bytes: usize,
}
