//! Connections that take commands, or said something about themselves.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::hub::mail::Address;
use crate::proto::id::ConnId;
use crate::proto::json::RawJson;
use crate::proto::user::User;

use super::client_data::{Capabilities, ClientData};
use super::described::{Described, Taking};
use super::order::{Aim, Clock};

/// Where a connection lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Home {
    /// On another node, the one with this number: it says what its connection does, and hands over what is for it.
    Elsewhere(u16),
    /// With a worker of this node.
    Here(Address),
}

impl Home {
    /// Whether it is another node.
    pub const fn is_elsewhere(&self) -> bool {
        matches!(self, Self::Elsewhere(_))
    }
}

/// A connection, as the node knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Client {
    /// Its id.
    pub connection: ConnId,
    /// Where it lives.
    pub home: Home,
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

/// What the engine keeps of a connection.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) client: Client,
    /// Whether it takes commands.
    pub(super) session: Option<Session>,
    pub(super) data: Option<ClientData>,
    pub(super) paused: Option<Paused>,
    /// When it was resumed after a pause.
    pub(super) resumed_unix_ms: Option<u64>,
    /// Its place among all connections by activity; no two have the same.
    pub(super) rank: u64,
    /// The latest time of a command that it was sent.
    pub(super) latest_ts: u64,
    pub(super) health: Health,
    /// Pending commands that have a row for it.
    pub(super) addressed: BTreeSet<u64>,
}

/// A connection that takes commands.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) generation: u64,
    pub(super) since_unix_ms: u64,
    /// It may not listen yet.
    pub(super) is_settling: bool,
}

/// What its answers say about a client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// Round trip of its latest answered heartbeat.
    pub ping_ms: Option<u64>,
    /// When it last answered anything, in milliseconds since 1970.
    pub heard_unix_ms: Option<u64>,
    /// It left the latest heartbeat unanswered.
    pub is_unresponsive: bool,
}

impl Record {
    pub(super) fn new(client: Client, rank: u64) -> Self {
        Self {
            client,
            session: None,
            data: None,
            paused: None,
            resumed_unix_ms: None,
            rank,
            latest_ts: 0,
            health: Health::default(),
            addressed: BTreeSet::new(),
        }
    }

    pub(super) fn user_id(&self) -> Option<&str> {
        self.client.user.as_ref().map(User::id)
    }

    pub(super) fn is_elsewhere(&self) -> bool {
        self.client.home.is_elsewhere()
    }

    pub(super) fn is_ready(&self) -> bool {
        self.session.as_ref().is_some_and(|session| !session.is_settling)
    }

    pub(super) fn is_settling(&self) -> bool {
        self.session.as_ref().is_some_and(|session| session.is_settling)
    }

    /// A time for what it is sent now: this one, unless it was sent something later. Nodes agree on the times of a user, but what
    /// two of them send does not always arrive in the order of its times.
    pub(super) fn later(&mut self, ts: u64) -> u64 {
        if self.is_elsewhere() {
            return ts;
        }
        self.latest_ts = ts.max(self.latest_ts + 1);
        self.latest_ts
    }

    /// Whether this is whom, or one of those whom, a command waits for.
    pub(super) fn is_awaited_by(&self, aim: &Aim) -> bool {
        match aim {
            Aim::User(user) => self.user_id() == Some(user.id()),
            Aim::Connection { id, user } => {
                *id == self.client.connection && user.as_ref().is_none_or(|user| self.user_id() == Some(user.id()))
            }
            Aim::Everybody | Aim::Sessions(_) => false,
        }
    }

    pub(super) fn announces(&self, key: &str) -> bool {
        self.data.as_ref().is_some_and(|data| data.capabilities().announce(key))
    }

    pub(super) fn taking(&self) -> Option<Taking> {
        let session = self.session.as_ref()?;
        Some(Taking { since_unix_ms: session.since_unix_ms, is_settling: session.is_settling })
    }

    pub(super) fn described(&self) -> Described {
        Described {
            connection: self.client.connection,
            user: self.client.user.clone(),
            taking: self.taking(),
            data: self.data.clone(),
            paused: self.paused.clone(),
            resumed_unix_ms: self.resumed_unix_ms,
            health: self.health,
        }
    }

    pub(super) fn view(&self) -> ClientView {
        let status = if self.health.is_unresponsive {
            Status::Unresponsive
        } else if self.paused.is_some() {
            Status::Busy
        } else {
            Status::Online
        };
        ClientView {
            takes_commands_since_unix_ms: self.session.as_ref().map(|session| session.since_unix_ms),
            is_settling: self.is_settling(),
            data: self.data.as_ref().map(|data| data.shown(self.paused.is_some(), self.resumed_unix_ms)),
            capabilities: self.data.as_ref().map(|data| data.capabilities().clone()).unwrap_or_default(),
            paused: self.paused.clone(),
            status,
            ping_ms: self.health.ping_ms,
            heard_unix_ms: self.health.heard_unix_ms,
            is_silent_from_start: self.health.is_unresponsive && self.health.heard_unix_ms.is_none(),
        }
    }
}

/// What is kept of everybody who has a session or a pending command.
#[derive(Debug, Default)]
pub(super) struct Parties(HashMap<Clock, Party>);

/// A user, or a connection as a target.
#[derive(Debug, Default)]
pub(super) struct Party {
    /// A user's sessions by their rank.
    pub(super) sessions: BTreeMap<u64, ConnId>,
    /// Of these, how many are settling.
    pub(super) settling: usize,
    /// Commands that wait for a session.
    pub(super) held: BTreeSet<u64>,
    /// Commands that count against the limit of this party.
    pub(super) pending: usize,
}

impl Parties {
    pub(super) fn get(&self, who: &Clock) -> Option<&Party> {
        self.0.get(who)
    }

    /// Changes a party, which begins with the first change and ends when nothing is left of it.
    pub(super) fn change(&mut self, who: Clock, change: impl FnOnce(&mut Party)) {
        let mut entry = match self.0.entry(who) {
            std::collections::hash_map::Entry::Occupied(entry) => entry,
            std::collections::hash_map::Entry::Vacant(entry) => entry.insert_entry(Party::default()),
        };
        let party = entry.get_mut();
        change(party);
        if party.sessions.is_empty() && party.held.is_empty() && party.pending == 0 {
            entry.remove();
        }
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Aim {
    /// Who is waited for, if anybody is.
    pub(super) fn awaited(&self) -> Option<Clock> {
        match self {
            Self::User(user) => Some(Clock::User(user.shared_id())),
            Self::Connection { id, .. } => Some(Clock::Connection(*id)),
            Self::Everybody | Self::Sessions(_) => None,
        }
    }

    /// Against whose limit it counts, if against anybody's.
    pub(super) fn counted(&self) -> Option<Clock> {
        match self {
            Self::Connection { user: Some(user), .. } => Some(Clock::User(user.shared_id())),
            _ => self.awaited(),
        }
    }
}
