//! What nodes share: messages on their way ([`Broker`]), who is where ([`Directory`]), and what outlives connections
//! ([`sessions::SessionStore`]).
//!
//! Each is a small `dyn` trait with its guarantees. [`memory`] serves one node; [`mod@file`] keeps sessions when the process ends.
//! The same contract holds for every backend: what must hold for sessions is in `contract`, and is run against each.

pub mod cluster;
#[cfg(test)]
mod contract;
pub mod file;
mod lease;
mod log;
pub mod memory;
pub mod redis;
pub mod sessions;
pub mod shared;

use std::fmt;
use std::sync::Arc;

use serde_json::Value;
use switchboard_proto::call::{HistoryRange, Member};
use switchboard_proto::event::{MessageExtra, RoomMessage, Sender};
use switchboard_proto::face::ConnFacts;
use switchboard_proto::id::{ConnId, RoomName};
use switchboard_proto::json::RawJson;
use switchboard_proto::user::User;
use switchboard_proto::wire::Encoded;
use thiserror::Error;

use crate::hub::mail::{Address, Earlier, Mail};
use crate::op::Op;

pub use log::LogLimits;
pub use shared::SharedDirectory;

/// The backend failed; the log has the cause.
#[derive(Debug, Error)]
#[error("the backend is unavailable: {0}")]
pub struct BackendError(pub String);

/// A room message before it has its number.
#[derive(Clone, Debug)]
pub struct Draft {
    /// Where.
    pub room: RoomName,
    /// By whom.
    pub sender: Sender,
    /// What.
    pub body: RawJson,
    /// When, in milliseconds since 1970.
    pub sent_at: u64,
    /// The connection that says it, if it is one of this node.
    pub origin: Option<Address>,
    /// Whether that connection hears it too.
    pub echo: bool,
    /// The user who says it, if the sender has one.
    pub user: Option<User>,
    /// What the sender's protocol adds.
    pub extra: Option<Box<MessageExtra>>,
}

/// What became of a message.
#[derive(Debug)]
pub enum Published {
    /// Numbered and handed over; number 0: without a store, only to members on this node.
    Now(Arc<Encoded>),
    /// The same user said it before, under the same id; nothing was published.
    Before(Box<RoomMessage>),
    /// Somebody else used its id; nothing was published.
    IdTaken,
}

/// What is remembered of a room.
#[derive(Clone, Debug, Default)]
pub struct RoomHistory {
    /// The latest messages of the range, the newest first.
    pub messages: Vec<RoomMessage>,
    /// How many unread ones are older than these.
    pub unread_not_loaded: usize,
}

/// Makes the mail by which listeners enter, see [`Broker::listen`]. The broker may call it more than once.
pub type Enter = Box<dyn Fn(u64, Option<Earlier>) -> Mail + Send + Sync>;

/// Numbers room messages and hands them to the workers that have members.
///
/// Guarantees: the numbers of a room are 1, 2, 3, … without gaps; every worker receives them rising, each once. Whatever a worker
/// subscribed to before a publish began reaches it, or it is told that it does not ([`crate::hub::mail::Ask::Gap`]). In one process a
/// message is numbered only when every worker that has members takes it, so none is lost in between, and a publish that is ready has
/// been handed over. Over Redis a publish that is ready is numbered and kept, and on its way to every node; what is missing on its
/// way is looked up, and if it cannot be had any more, told.
pub trait Broker: fmt::Debug + Send + Sync {
    /// Begins to keep a room's sequence. Opening twice changes nothing.
    fn open(&self, room: &RoomName) -> Op<Result<(), BackendError>>;

    /// Forgets a room's sequence.
    fn close(&self, room: &RoomName) -> Op<Result<(), BackendError>>;

    /// Numbers a message and hands it over. `None`: there is no such room, and nobody hears it.
    fn publish(&self, draft: Draft) -> Op<Result<Option<Published>, BackendError>>;

    /// What is remembered of a range. `None`: there is no such room.
    fn history(&self, range: HistoryRange) -> Op<Result<Option<RoomHistory>, BackendError>>;

    /// Adds one to those that `worker` has in a room, members and listeners. The result is the latest number: everything above it
    /// reaches the worker from now on. `None`: there is no such room.
    fn subscribe(&self, room: &RoomName, worker: u16) -> Op<Result<Option<u64>, BackendError>>;

    /// As [`Broker::subscribe`] for `listeners` more listeners of `worker`. They enter by one mail, which `enter` makes of
    /// the latest number and, with `from_start`, of the messages that the room's log has up to that number. The mail has
    /// its place among the deliveries: messages with higher numbers reach the worker after it. Returns `false`, and sends
    /// no mail, if there is no such room.
    fn listen(
        &self,
        room: &RoomName,
        worker: u16,
        listeners: u32,
        from_start: bool,
        enter: Enter,
    ) -> Op<Result<bool, BackendError>>;

    /// Takes one from those that `worker` has in a room.
    fn unsubscribe(&self, room: &RoomName, worker: u16) -> Op<Result<(), BackendError>>;
}

/// Knows rooms, their authentication patterns and their members.
///
/// Guarantees: what one call changed, the next call of anybody sees.
pub trait Directory: fmt::Debug + Send + Sync {
    /// Makes a room with this pattern. `false`: it existed, and nothing has changed.
    fn add_room(&self, room: &RoomName, pattern: Pattern, max_rooms: usize) -> Op<Result<bool, AddRoomError>>;

    /// Begins to destroy a room: from now on nobody joins it. `false`: there is no such room, or it is being destroyed.
    fn begin_destroy(&self, room: &RoomName) -> Op<Result<bool, BackendError>>;

    /// Forgets a room, its pattern and its members.
    fn forget(&self, room: &RoomName) -> Op<Result<(), BackendError>>;

    /// How much there is.
    fn size(&self) -> Op<Result<DirectorySize, BackendError>>;

    /// The same, if this process keeps count of it: costs the same however much there is, and never waits for a store.
    fn counted(&self) -> Option<DirectorySize> {
        None
    }

    /// A room's pattern and its number of members, if there is such a room.
    fn room(&self, room: &RoomName) -> Op<Result<Option<RoomInfo>, BackendError>>;

    /// Every room, sorted by name.
    fn rooms(&self) -> Op<Result<Vec<RoomName>, BackendError>>;

    /// At most `limit` rooms that are not of two users, in the order of their names, beginning after `after`. What it
    /// costs does not depend on how many rooms there are.
    fn page(&self, after: Option<&RoomName>, limit: usize) -> Op<Result<RoomPage, BackendError>>;

    /// Replaces a room's pattern. `false`: there is no such room.
    fn set_pattern(&self, room: &RoomName, pattern: Pattern) -> Op<Result<bool, BackendError>>;

    /// Notes a member of this node. `false`: there is no such room.
    fn add_member(&self, room: &RoomName, member: NewMember) -> Op<Result<bool, BackendError>>;

    /// Forgets a member, if it is one of this node.
    fn remove_member(&self, room: &RoomName, id: ConnId) -> Op<Result<(), BackendError>>;

    /// Who is in a room, in the order of joining. `None`: there is no such room.
    fn members(&self, room: &RoomName) -> Op<Result<Option<Vec<Member>>, BackendError>>;

    /// What there is besides if several nodes share it.
    fn shared(&self) -> Option<&dyn SharedDirectory> {
        None
    }
}

/// Somebody who becomes a member.
#[derive(Clone, Debug)]
pub struct NewMember {
    /// Who: what others need to know when its node cannot tell them any more.
    pub facts: ConnFacts,
    /// Who it is to the application, if anybody.
    pub user: Option<User>,
    /// When it joins, in milliseconds since 1970.
    pub joined_at: u64,
    /// The version of the pattern that it was found to match: see [`RoomInfo::version`].
    pub checked: u64,
}

/// Why a room was not made.
#[derive(Debug, Error)]
pub enum AddRoomError {
    /// There are `limits.max_rooms` already.
    #[error("too many rooms")]
    TooMany,
    /// The backend failed.
    #[error(transparent)]
    Backend(#[from] BackendError),
}

/// How much a directory holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DirectorySize {
    /// Rooms.
    pub rooms: usize,
    /// Members of all rooms together; who is in two rooms counts twice.
    pub members: usize,
}

/// What is known of a room besides who its members are.
#[derive(Clone, Debug)]
pub struct RoomInfo {
    /// How many members it has.
    pub members_count: usize,
    /// Who may join.
    pub pattern: Arc<Pattern>,
    /// Which of its patterns that is, in a directory that several nodes share: every later one has a higher number, over the
    /// destruction of the room too. Else 0.
    pub version: u64,
    /// Whether the pattern is the one that the room was made with, and never was another one.
    pub has_first_pattern: bool,
}

/// Part of the list of rooms.
#[derive(Clone, Debug, Default)]
pub struct RoomPage {
    /// These rooms, without those that were destroyed while the page was read.
    pub rooms: Vec<(RoomName, RoomInfo)>,
    /// The name after which the next page begins; `None`: there are no more rooms.
    pub next: Option<RoomName>,
}

impl RoomPage {
    /// The names of a page, of at most `limit` + 1 names that follow its beginning, and the name after which the next
    /// one begins.
    fn cut(mut names: Vec<RoomName>, limit: usize) -> (Vec<RoomName>, Option<RoomName>) {
        let has_more = names.len() > limit;
        names.truncate(limit);
        let next = if has_more { names.last().cloned() } else { None };
        (names, next)
    }
}

/// Who may join a room: attributes of the connection and the values they must have, all of them. Empty: everybody.
///
/// Values are texts, numbers and booleans, equal only to the same type: `true` is not `"true"`; `1` is `1.0`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Pattern(pub Vec<(String, Value)>);

impl Pattern {
    /// A pattern that everybody matches.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// Demands one more attribute.
    #[must_use]
    pub fn with(mut self, key: impl Into<String>, value: impl Into<Value>) -> Self {
        self.0.push((key.into(), value.into()));
        self
    }

    /// Whether `attribute`, which looks one up by its name, matches all pairs. What is absent or null never matches.
    pub fn matches(&self, mut attribute: impl FnMut(&str) -> Option<Value>) -> bool {
        self.0.iter().all(|(key, wanted)| attribute(key).is_some_and(|value| is_same(&value, wanted)))
    }
}

fn is_same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Null, _) | (_, Value::Null) => false,
        (Value::Number(a), Value::Number(b)) => a == b || (a.as_f64() == b.as_f64() && (a.is_f64() || b.is_f64())),
        (a, b) => a == b,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_pattern_matches_on_type_and_value_and_needs_every_pair() {
        let pattern = Pattern(vec![("a".into(), json!(true)), ("n".into(), json!(1))]);
        let with = |a: Value, n: Value| pattern.matches(|key| Some(if key == "a" { a.clone() } else { n.clone() }));
        assert!(with(json!(true), json!(1)));
        assert!(with(json!(true), json!(1.0)));
        assert!(!with(json!("true"), json!(1)));
        assert!(!with(json!(true), json!("1")));
        assert!(!with(json!(true), json!(true)));
        assert!(!with(json!(null), json!(1)));
        assert!(!pattern.matches(|key| (key == "a").then(|| json!(true))));
        assert!(!Pattern(vec![("a".into(), json!(null))]).matches(|_| Some(json!(null))));
        assert!(Pattern::default().matches(|_| None));
    }

    #[test]
    fn large_whole_numbers_are_not_mixed_up() {
        let (a, b) = (json!(u64::MAX), json!(u64::MAX - 1));
        assert!(!is_same(&a, &b));
        assert!(is_same(&a, &a));
    }
}
