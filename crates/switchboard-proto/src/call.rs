//! Requests to the node in neutral words, and their results.
//!
//! A face makes a [`Call`] of whatever its wire says and words the [`Outcome`] in whatever way its wire wants. No wire
//! shape passes through here.

use std::borrow::Cow;
use std::fmt;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::Value;
use thiserror::Error;

use crate::event::RoomMessage;
use crate::id::{BadRoomName, ConnId, RoomName};
use crate::json::RawJson;
use crate::params::Params;

pub use crate::shard::{ShardAnswer, ShardCall, ShardRefusal};

pub use crate::login::{Credentials, LoggedIn, LoginMethod, LoginRefusal, PasswordProof, Who};

/// A request to the node.
#[derive(Debug)]
pub enum Call {
    /// Run an action.
    Action(ActionCall),
    /// What the hub knows of this connection.
    Details,
    /// Describe every action.
    Documentation,
    /// Open a file below the public folder.
    File {
        /// Its name as the client wrote it; empty when nothing was named.
        name: String,
    },
    /// Become a member of a room.
    Join {
        /// Which.
        room: RoomName,
    },
    /// Stop being a member of a room.
    Leave {
        /// Which.
        room: RoomName,
    },
    /// Who is in a room; for members only.
    RoomStatus {
        /// Which.
        room: RoomName,
    },
    /// Say something to a room's members.
    Say {
        /// Which.
        room: RoomName,
        /// What.
        body: RawJson,
    },
    /// Say who this client is.
    LogIn(Credentials),
    /// Be nobody again; the token that was used is worth nothing from now on.
    LogOut,
    /// End all other logins of this client's user; this one goes on with a new token.
    LogOutOthers,
    /// What the client says about itself and what it can do: a JSON object.
    SetClientData {
        /// What it says.
        data: RawJson,
    },
    /// The answer to a client command.
    ReplyCommand {
        /// The command's id, as the client wrote it.
        id: String,
        /// A JSON object.
        reply: RawJson,
    },
    /// What the connection wants to be sent from now on, all of it, in place of what it wanted before.
    Attend(Wants),
    /// The first of these rooms that there is and that the user may see.
    FindRoom {
        /// Rooms that may be meant, the likeliest first.
        names: Vec<RoomName>,
    },
    /// Become a member of a room with all connections of the user.
    JoinAsUser {
        /// Which.
        room: RoomName,
    },
    /// Stop being a member of a room with all connections of the user.
    LeaveAsUser {
        /// Which.
        room: RoomName,
    },
    /// The room of two users; it is made if need be.
    OpenDirect {
        /// Name or id of the other one.
        with: String,
    },
    /// Say something to a room's members as a user.
    Publish(Publication),
    /// What was said in a room lately.
    History(HistoryRange),
    /// What a bot's shard asks.
    Shard(Box<ShardCall>),
}

/// What a connection wants to be sent without being a member of anything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wants {
    /// Client commands.
    pub commands: bool,
    /// What is said in these rooms, as far as everybody may hear it.
    pub rooms: Vec<RoomName>,
    /// What is said in every room that everybody may hear.
    pub public_rooms: bool,
    /// The connection has another user: rooms that it listens to were decided for the earlier one.
    pub is_new_user: bool,
}

/// Something that a user says.
#[derive(Clone, Debug)]
pub struct Publication {
    /// Where.
    pub room: RoomName,
    /// What everybody reads.
    pub body: RawJson,
    /// The message as the sender's protocol has it, which only that protocol reads: a JSON object.
    pub attachment: Option<RawJson>,
    /// The id that the sender chose. The same one from the same user within five minutes publishes nothing again.
    pub id: Option<String>,
    /// When the sender says he said it, in milliseconds since 1970.
    pub claimed_at: Option<i64>,
}

/// Which messages of a room are asked for: the latest of those in the range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryRange {
    /// Which room.
    pub room: RoomName,
    /// Said before this, in milliseconds since 1970.
    pub before_ms: Option<u64>,
    /// At most so many.
    pub limit: usize,
    /// Those said after this, in milliseconds since 1970, are counted as unread.
    pub unread_since_ms: Option<u64>,
}

/// Whether replies may overtake one another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// The connection's next frame waits for this outcome.
    Sequential,
    /// Other requests go on meanwhile.
    Overtaking,
}

impl Call {
    /// Actions overtake; everything else takes its turn, so that what is pipelined behind a join finds it done.
    pub const fn order(&self) -> Order {
        match self {
            Self::Action(_) => Order::Overtaking,
            Self::Shard(call) => match **call {
                ShardCall::Read { .. } | ShardCall::Received { .. } | ShardCall::Interaction { .. } => {
                    Order::Overtaking
                }
                _ => Order::Sequential,
            },
            _ => Order::Sequential,
        }
    }
}

/// An action to run. Its name and version are the params `action` and `apiVersion`, as on each of ActionHero's wires.
#[derive(Debug)]
pub struct ActionCall {
    /// The params, shared with the connection until either side changes them.
    pub params: Arc<Params>,
    /// Which values count as missing.
    pub missing: Missing,
}

/// Which values of a required input count as missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// Absent, `null` and `""` (ActionHero 12 and later).
    Empty,
    /// These, and `0`, `false`, `[]` (ActionHero 9).
    Falsy,
}

impl Missing {
    /// Whether `value` counts as missing.
    pub fn includes(self, value: Option<&Value>) -> bool {
        match (self, value) {
            (_, None | Some(Value::Null)) => true,
            (_, Some(Value::String(text))) => text.is_empty(),
            (Self::Empty, Some(_)) => false,
            (Self::Falsy, Some(Value::Bool(value))) => !value,
            (Self::Falsy, Some(Value::Number(number))) => number.as_f64() == Some(0.0),
            (Self::Falsy, Some(Value::Array(values))) => values.is_empty(),
            (Self::Falsy, Some(Value::Object(_))) => false,
        }
    }
}

/// The result of a [`Call`].
pub type Outcome = Result<Answer, CallError>;

/// What a call brought.
#[derive(Debug)]
pub enum Answer {
    /// An action's reply.
    Action(Reply),
    /// What the hub knows of this connection.
    Details {
        /// Its rooms, in the order of joining.
        rooms: Vec<RoomName>,
    },
    /// The description of every action: a JSON object, name to version to description.
    Documentation(RawJson),
    /// A file, opened.
    File(Arc<dyn Content>),
    /// Now a member.
    Joined,
    /// No longer a member.
    Left,
    /// Who is in a room.
    Room(RoomStatus),
    /// Numbered and on its way.
    Said {
        /// The message's number in its room; 0: it has none.
        number: u64,
    },
    /// Known from now on.
    LoggedIn(LoggedIn),
    /// Nobody from now on.
    LoggedOut,
    /// All other logins of the user ended; this one has this token.
    OthersLoggedOut(LoggedIn),
    /// Kept.
    ClientDataSet,
    /// Whether the reply was the one that the command waited for.
    CommandReplied(bool),
    /// Sent from now on.
    Attending,
    /// A room, and who may enter.
    RoomFound {
        /// Which.
        room: RoomName,
        /// Who may enter.
        kind: RoomKind,
    },
    /// Numbered and on its way, or said before under the same id: the message as it was published.
    Published(Box<RoomMessage>),
    /// What was said lately.
    History {
        /// The newest first.
        messages: Vec<RoomMessage>,
        /// How many unread ones are older than these.
        unread_not_loaded: usize,
    },
    /// What a shard's call brought.
    Shard(ShardAnswer),
}

/// Who may enter a room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RoomKind {
    /// Everybody.
    #[default]
    Public,
    /// Whoever matches its authentication pattern.
    Restricted,
    /// Two users.
    Direct,
}

/// Who is in a room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoomStatus {
    /// Which room.
    pub room: RoomName,
    /// Its members in the order of joining.
    pub members: Vec<Member>,
}

/// One member of a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// Which connection.
    pub id: ConnId,
    /// When it joined, in milliseconds since 1970.
    pub joined_at: u64,
}

/// An expected "no". Each face words it for its own wire; the texts here are for operators and embedders.
#[derive(Debug, Error)]
pub enum CallError {
    /// An action was refused or failed.
    #[error(transparent)]
    Action(ActionError),
    /// No room can have that name.
    #[error(transparent)]
    BadRoomName(#[from] BadRoomName),
    /// The connection is in that room already.
    #[error("connection already in this room ({0})")]
    AlreadyMember(RoomName),
    /// The file does not exist, is not a regular file, or is outside the public folder.
    #[error("that file is not found")]
    FileNotFound,
    /// A message that is `null` or empty.
    #[error("both room and message are required")]
    MessageRequired,
    /// No such connection, or not any more.
    #[error("no such connection")]
    NoSuchConnection,
    /// No such room.
    #[error("room does not exist")]
    NoSuchRoom,
    /// The room's authentication pattern does not match the connection.
    #[error("not authorized to join room")]
    NotAuthorized,
    /// The connection is not in that room.
    #[error("connection not in this room ({0})")]
    NotMember(RoomName),
    /// Say middleware refused the message, or a hook the connection, the join or the message, for this reason.
    #[error("{0}")]
    Refused(String),
    /// The node may hold no more rooms (`limits.max_rooms`).
    #[error("too many rooms")]
    TooManyRooms,
    /// The connection is a request over HTTP: it is in no room, and nothing but its answer can be sent to it.
    #[error("not supported by this kind of connection")]
    NotSupported,
    /// The connection may join no more rooms (`limits.max_rooms_per_connection`).
    #[error("too many rooms")]
    TooManyRoomsOfConnection,
    /// Something behind us failed; the log has the cause.
    #[error("unavailable")]
    Unavailable,
    /// Only users may, and this connection has none.
    #[error("not logged in")]
    NotLoggedIn,
    /// No such user.
    #[error("no such user")]
    NoSuchUser,
    /// Nobody is known by these credentials.
    #[error(transparent)]
    LoginRefused(#[from] LoginRefusal),
    /// Too often in too short a time.
    #[error("too many requests")]
    TooManyRequests {
        /// When it may be tried again, in milliseconds.
        retry_ms: u64,
    },
    /// The reply to a client command is longer than may be (`commands.max_reply_bytes`), or than there is room for.
    #[error("the reply is too large")]
    ReplyTooLarge,
    /// The message is longer than may be.
    #[error("the message is too long")]
    MessageTooLarge,
    /// Not what client data can be, or longer than may be (`commands.max_client_data_bytes`).
    #[error("client data is a JSON object of limited size")]
    BadClientData,
    /// Somebody else used this message id a short time ago.
    #[error("this message id is taken")]
    MessageIdTaken,
    /// The sender's clock is too far off.
    #[error("the time of the message is out of sync")]
    OutOfSync,
    /// A shard is told no.
    #[error(transparent)]
    Shard(#[from] ShardRefusal),
}

/// Why an action brought no reply.
#[derive(Debug, Error)]
pub enum ActionError {
    /// Too many long-running actions run already (`actions.long_running_max`).
    #[error("the server is busy, try again later")]
    Busy,
    /// It panicked; the log has the cause.
    #[error("The server experienced an internal error")]
    Crashed,
    /// It said so itself.
    #[error("{text}")]
    Failed {
        /// Its words.
        text: String,
        /// Members it had set before.
        reply: Reply,
    },
    /// An input has a value that its validator refuses.
    #[error("{0}")]
    Invalid(String),
    /// A required input is missing.
    #[error("{0} is a required parameter for this action")]
    Missing(String),
    /// There is no action of that name and version.
    #[error("unknown action or invalid apiVersion")]
    Unknown,
    /// It is not offered to connections of this type.
    #[error("this action does not support the {0} connection type")]
    WrongType(ConnectionType),
}

/// The members of an action's answer, in the order in which they were set.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reply {
    members: Vec<(Cow<'static, str>, Value)>,
    http: Option<Box<HttpReply>>,
}

/// How an answer over HTTP differs from the usual one.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HttpReply {
    /// Status code in place of the usual one.
    pub status: Option<u16>,
    /// Further headers, or other values of the usual ones.
    pub headers: Vec<(Cow<'static, str>, String)>,
    /// Body in place of the JSON document.
    pub body: Option<Bytes>,
}

impl Reply {
    /// A reply without members.
    pub const fn new() -> Self {
        Self { members: Vec::new(), http: None }
    }

    /// Sets a member, replacing one of the same name.
    ///
    /// `context`, `messageCount` and `messageId` belong to the envelope on ActionHero's wires: there the envelope wins.
    pub fn set(&mut self, name: impl Into<Cow<'static, str>>, value: impl Into<Value>) {
        let name = name.into();
        let value = value.into();
        match self.members.iter_mut().find(|(member, _)| *member == name) {
            Some((_, old)) => *old = value,
            None => {
                // Most replies have one member; four is what a list would begin with by itself.
                if self.members.capacity() == 0 {
                    self.members = Vec::with_capacity(1);
                }
                self.members.push((name, value));
            }
        }
    }

    /// [`Reply::set`], for building in one expression.
    #[must_use]
    pub fn with(mut self, name: impl Into<Cow<'static, str>>, value: impl Into<Value>) -> Self {
        self.set(name, value);
        self
    }

    /// Sets the status of an answer over HTTP, from 200 to 599. Other protocols ignore it.
    #[must_use]
    pub fn with_status(mut self, status: u16) -> Self {
        self.http_mut().status = Some(status);
        self
    }

    /// Adds a header to an answer over HTTP. A name that the server sets too, such as `Cache-Control`, replaces the
    /// server's value. Headers that frame the message (`Content-Length`, `Connection` …) are left out. Other protocols
    /// ignore it.
    #[must_use]
    pub fn with_header(mut self, name: impl Into<Cow<'static, str>>, value: impl Into<String>) -> Self {
        self.http_mut().headers.push((name.into(), value.into()));
        self
    }

    /// Sets the whole body of an answer over HTTP, in place of the JSON document. Its media type is the header
    /// `content-type`, or `application/octet-stream` without one. Other protocols ignore it and show the members.
    #[must_use]
    pub fn with_body(mut self, body: impl Into<Bytes>) -> Self {
        self.http_mut().body = Some(body.into());
        self
    }

    /// How the answer over HTTP differs from the usual one.
    pub fn http(&self) -> Option<&HttpReply> {
        self.http.as_deref()
    }

    fn http_mut(&mut self) -> &mut HttpReply {
        self.http.get_or_insert_default()
    }

    /// A member's value.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.members.iter().find(|(member, _)| member == name).map(|(_, value)| value)
    }

    /// Removes a member and returns its value.
    pub fn remove(&mut self, name: &str) -> Option<Value> {
        let at = self.members.iter().position(|(member, _)| member == name)?;
        Some(self.members.remove(at).1)
    }

    /// The members in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.members.iter().map(|(name, value)| (&**name, value))
    }
}

/// What kind of client a connection is, as in ActionHero's `connection.type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ConnectionType {
    /// The line protocol over TCP, TLS or a Unix socket.
    Socket,
    /// One HTTP request; the connection lives as long as the request.
    Web,
    /// ActionHero's browser protocol over a WebSocket.
    WebSocket,
    /// DDP over a WebSocket.
    Ddp,
    /// The gateway of bots over a WebSocket.
    Gateway,
}

impl ConnectionType {
    /// Every type, in the order of [`ConnectionType::index`].
    pub const ALL: [Self; 5] = [Self::Socket, Self::Web, Self::WebSocket, Self::Ddp, Self::Gateway];

    /// Position in [`ConnectionType::ALL`], for counters.
    pub const fn index(self) -> usize {
        self as usize
    }

    /// The word on the wire and in authentication patterns.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Socket => "socket",
            Self::Web => "web",
            Self::WebSocket => "websocket",
            Self::Ddp => "ddp",
            Self::Gateway => "gateway",
        }
    }
}

impl fmt::Display for ConnectionType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Content that is read elsewhere, piece by piece, while it is sent. Protocols pass it on without looking inside.
pub trait Content: fmt::Debug + Send + Sync {
    /// How many bytes there are in all.
    fn length(&self) -> u64;

    /// Fills `piece` from `offset` on and returns how much came; 0 only at the end. May block: never called on a worker.
    fn read_at(&self, offset: u64, piece: &mut [u8]) -> io::Result<usize>;

    /// What kind of content it is, as in HTTP's `Content-Type`.
    fn media_type(&self) -> &str {
        "application/octet-stream"
    }

    /// When it was last changed, in milliseconds since 1970.
    fn modified_ms(&self) -> Option<u64> {
        None
    }

    /// What goes onto the wire for at most `most_bytes` from `offset` on: the bytes themselves, unless a protocol wraps
    /// them. May block.
    fn piece(&self, offset: u64, most_bytes: usize) -> io::Result<Piece> {
        let left = usize::try_from(self.length().saturating_sub(offset)).unwrap_or(usize::MAX);
        let mut bytes = vec![0; left.min(most_bytes)];
        let read = self.read_at(offset, &mut bytes)?;
        bytes.truncate(read);
        Ok(Piece { consumed: read as u64, bytes })
    }
}

/// A piece of a [`Content`], as it is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// How many bytes of the content it stands for; 0 only at the end.
    pub consumed: u64,
    /// What is sent.
    pub bytes: Vec<u8>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_counts_as_missing_depends_on_the_generation() {
        for (value, falsy, empty) in [
            (json!(null), true, true),
            (json!(""), true, true),
            (json!(0), true, false),
            (json!(-0.0), true, false),
            (json!(false), true, false),
            (json!([]), true, false),
            (json!({}), false, false),
            (json!("0"), false, false),
            (json!(1), false, false),
        ] {
            assert_eq!(Missing::Falsy.includes(Some(&value)), falsy, "{value}");
            assert_eq!(Missing::Empty.includes(Some(&value)), empty, "{value}");
        }
        assert!(Missing::Empty.includes(None));
    }
}
