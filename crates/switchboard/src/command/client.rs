//! Connections that take commands, or said something about themselves.

use crate::hub::mail::Address;
use crate::proto::id::ConnId;
use crate::proto::json::RawJson;
use crate::proto::user::User;

use super::client_data::Capabilities;

/// A connection, as the node knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Client {
    /// Its id.
    pub connection: ConnId,
    /// Where it lives.
    pub address: Address,
    /// Whose it is.
    pub user: Option<User>,
}

/// Since when room messages are withheld from a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paused {
    /// Milliseconds since 1970.
    pub since_unix_ms: u64,
    /// Who sent the command, if that is known.
    pub by: Option<Box<str>>,
}

/// How a client is doing, by its answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It is paused.
    Busy,
    /// Nothing speaks against it.
    Online,
    /// It left the latest heartbeat unanswered.
    Unresponsive,
}

impl Status {
    /// The name in answers.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Busy => "busy",
            Self::Online => "online",
            Self::Unresponsive => "unresponsive",
        }
    }
}

/// What is known of a connection that takes commands, or said something about itself.
#[derive(Clone, Debug, PartialEq)]
pub struct ClientView {
    /// Which it is, where and whose.
    pub client: Client,
    /// Whether it takes commands, and since when (milliseconds since 1970).
    pub takes_commands_since_unix_ms: Option<u64>,
    /// Whether it takes commands, but may not listen yet.
    pub is_settling: bool,
    /// Its client data with what the server adds.
    pub data: Option<RawJson>,
    /// What it said that it can do.
    pub capabilities: Capabilities,
    /// Whether it is paused.
    pub paused: Option<Paused>,
    /// How it is doing.
    pub status: Status,
    /// Round trip of its latest answered heartbeat.
    pub ping_ms: Option<u64>,
    /// When it last answered anything, in milliseconds since 1970.
    pub heard_unix_ms: Option<u64>,
    /// It is asked and has never answered. Clients of the JS SDK do that when their clock is ahead of the server's: see
    /// `commands.ts_offset`.
    pub is_silent_from_start: bool,
}
