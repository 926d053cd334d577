//! What one node tells another about a connection of its own.

use crate::proto::id::ConnId;
use crate::proto::user::User;

use super::client::{Health, Paused};
use super::client_data::ClientData;

/// All that other nodes know of a connection which takes commands or said something about itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Described {
    /// Which it is.
    pub connection: ConnId,
    /// Whose it is.
    pub user: Option<User>,
    /// Whether it takes commands.
    pub taking: Option<Taking>,
    /// What it said about itself.
    pub data: Option<ClientData>,
    /// Whether it is paused.
    pub paused: Option<Paused>,
    /// When it was resumed after a pause, in milliseconds since 1970.
    pub resumed_unix_ms: Option<u64>,
    /// How it is doing.
    pub health: Health,
}

/// How a connection takes commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taking {
    /// Since when, in milliseconds since 1970.
    pub since_unix_ms: u64,
    /// It may not listen yet.
    pub is_settling: bool,
}
