//! What goes into the engine and what comes out of it.

use std::fmt;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::value::RawValue;
use thiserror::Error;

use crate::hub::mail::Address;
use crate::proto::command::{CommandDelivery, CommandDocument, CommandId};
use crate::proto::id::ConnId;
use crate::proto::json::RawJson;
use crate::proto::user::User;

use super::client::{Home, Paused};
use super::outcome::{Mode, Report};

/// Who is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Aim {
    /// One connection. It is waited for until it takes commands. With a user, any of his sessions may reply; without, only
    /// the connection itself.
    Connection {
        /// Which.
        id: ConnId,
        /// Whose it is at the moment of sending.
        user: Option<User>,
    },
    /// Every session of the moment of sending.
    Everybody,
    /// Those of these connections that are sessions at the moment of sending: a room's, or a tag's.
    Sessions(Vec<ConnId>),
    /// A user, who is waited for if he is absent.
    User(User),
}

/// What kind of target a sender named.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TargetKind {
    /// Everybody.
    All,
    /// One connection.
    Connection,
    /// The members of a room.
    Room,
    /// The connections with a tag.
    Tag,
    /// A user.
    User,
}

impl TargetKind {
    /// The name in answers and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Connection => "connection",
            Self::Room => "room",
            Self::Tag => "tag",
            Self::User => "user",
        }
    }
}

/// The target as its sender named it, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetName {
    /// Of which kind it is.
    pub kind: TargetKind,
    /// Its name or id; empty for everybody.
    pub name: Box<str>,
}

/// A command that somebody wants to send. It was checked already: key and size, limit, rights, that the target exists.
#[derive(Clone, Debug)]
pub struct Order {
    /// What is sent. Its id comes from a good random source.
    pub document: Arc<CommandDocument>,
    /// Who is asked.
    pub aim: Aim,
    /// How the sender named them.
    pub target: TargetName,
    /// Whose reply counts.
    pub mode: Mode,
    /// Absent, vanished and full sessions end it at once; else its limit is waited for.
    pub fail_fast: bool,
    /// In mode `all`: so many replies are enough. 0 counts as 1.
    pub min_replies: Option<usize>,
    /// Only sessions that announced the key are asked.
    pub require_capability: bool,
    /// When it is over, on the monotonic clock.
    pub deadline_ms: u64,
    /// Who sent it, as shown beside a pause and in lists.
    pub sender: Option<Box<str>>,
}

impl Order {
    /// Bytes of what is kept of its document.
    pub(super) fn bytes(&self) -> usize {
        let CommandDocument { key, command, data, .. } = &*self.document;
        key.len() + command.as_str().len() + data.as_ref().map_or(0, |data| data.as_str().len())
    }
}

/// Makes a second request with the same key find the first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Idempotency {
    /// What the sender chose.
    pub key: Box<str>,
    /// A digest of the request: the same key with another request is a mistake of the sender.
    pub fingerprint: [u8; 32],
}

/// What became of an order that was not refused.
#[derive(Clone, Debug, PartialEq)]
pub enum Accepted {
    /// The idempotency key was used for another request. Nothing is sent, and nobody is waiting.
    Conflict,
    /// The same request was settled before. Nothing is sent, and nobody is waiting.
    Finished(Arc<Report>),
    /// The same request is pending, under this id: the waiter is told its outcome too.
    Joined(CommandId),
    /// It is pending, or settled already: then the report is in [`Out::settled`].
    New,
}

/// A command that is not sent, and never was one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Refusal {
    /// The server is stopping.
    #[error("the server is stopping")]
    Draining,
    /// Another command with this id is pending.
    #[error("a command with this id is pending")]
    IdInUse,
    /// [`CommandLimits::max_pending`](super::CommandLimits::max_pending) is reached.
    #[error("too many commands are pending")]
    TooMany,
    /// [`CommandLimits::max_pending_per_user`](super::CommandLimits::max_pending_per_user) is reached.
    #[error("too many commands are pending for this target")]
    TooManyOfUser,
    /// [`CommandLimits::max_pending_bytes`](super::CommandLimits::max_pending_bytes) would be exceeded.
    #[error("pending commands have too many bytes")]
    TooManyBytes,
    /// [`CommandLimits::max_pending_rows`](super::CommandLimits::max_pending_rows) would be exceeded.
    #[error("pending commands address too many sessions")]
    TooManyRows,
}

/// What a client answered, looked at once: to be made before anything is locked, as it takes longer the longer the reply is.
#[derive(Clone, Debug, PartialEq)]
pub struct Reply {
    json: RawJson,
    success: Option<bool>,
}

impl Reply {
    /// Looks at an answer, which is a JSON object.
    pub fn new(json: RawJson) -> Self {
        #[derive(Deserialize)]
        struct Members<'a> {
            #[serde(borrow)]
            success: Option<&'a RawValue>,
        }

        // An array would pass for the members in their order.
        let members = json.as_str().starts_with('{').then(|| serde_json::from_str::<Members<'_>>(json.as_str()).ok());
        let success = match members.flatten().and_then(|members| members.success).map(RawValue::get) {
            Some("true") => Some(true),
            Some("false") => Some(false),
            _ => None,
        };
        Self { json, success }
    }

    /// The answer as it came.
    pub fn json(&self) -> &RawJson {
        &self.json
    }

    /// Its member `success`, if that is a boolean.
    pub fn success(&self) -> Option<bool> {
        self.success
    }

    pub(super) fn bytes(&self) -> usize {
        self.json.as_str().len()
    }

    pub(super) fn into_json(self) -> RawJson {
        self.json
    }
}

/// The reply is longer than [`CommandLimits::max_reply_bytes`](super::CommandLimits::max_reply_bytes), or collections hold
/// [`CommandLimits::max_held_bytes`](super::CommandLimits::max_held_bytes) already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the reply is too large")]
pub struct ReplyTooLarge;

/// Somebody's strictly rising time: one for each user, and one for each connection without a user.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Clock {
    /// Of a connection without a user.
    Connection(ConnId),
    /// Of the user with this id.
    User(Arc<str>),
}

impl Clock {
    /// Of whoever has this connection.
    pub fn of(connection: ConnId, user: Option<&User>) -> Self {
        user.map_or(Self::Connection(connection), |user| Self::User(user.shared_id()))
    }
}

impl fmt::Display for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connection(id) => fmt::Display::fmt(id, f),
            Self::User(id) => f.pad(id),
        }
    }
}

/// What leaves next, once its time is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// The command.
    pub id: CommandId,
    /// Whose clock says when it leaves.
    pub clock: Clock,
    /// Where it goes.
    pub to: Vec<Home>,
}

/// A command for one connection, to be handed over now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dispatch {
    /// Where the connection lives.
    pub home: Home,
    /// Which it is.
    pub connection: ConnId,
    /// What is handed over.
    pub delivery: CommandDelivery,
}

/// A session that may not listen yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settling {
    /// Which connection it is.
    pub connection: ConnId,
    /// Which of its waits it is: an earlier one counts no more.
    pub generation: u64,
    /// It has said what it can do, and listens as soon as it has read that this was understood.
    pub has_data: bool,
}

/// What the engine wants done. Every method adds to it, nothing is ever taken away.
#[derive(Debug)]
pub struct Out<W> {
    /// Outcomes, each with all who wait for it.
    pub settled: Vec<(Vec<W>, Arc<Report>)>,
    /// Connections of this node from which room messages are withheld from now on (`true`), or no more.
    pub paused: Vec<(Address, bool)>,
    /// The first reply that counted, of each command that got one.
    pub responded: Vec<(CommandId, RawJson)>,
    /// Sessions that may not listen yet: [`Engine::ready`](super::Engine::ready) is to be called when their time is over.
    pub settling: Vec<Settling>,
    /// In a cluster, connections of this node of which something has changed that other nodes know, or that have ended: see
    /// [`Engine::described`](super::Engine::described).
    pub changed: Vec<ConnId>,
    /// What connections of other nodes did that concerns those: see [`Engine::obeyed`](super::Engine::obeyed).
    pub obeyed: Vec<(ConnId, Obeyed)>,
}

/// What a client did that concerns the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Obeyed {
    /// It listens to no rooms, from now on.
    Pause(Paused),
    /// It listens again, since this time (milliseconds since 1970).
    Resume(u64),
}

impl<W> Default for Out<W> {
    fn default() -> Self {
        Self {
            settled: Vec::new(),
            paused: Vec::new(),
            responded: Vec::new(),
            settling: Vec::new(),
            changed: Vec::new(),
            obeyed: Vec::new(),
        }
    }
}
