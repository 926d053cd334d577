//! Commands for people to look at: pending ones, and those that were settled lately.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use crate::proto::command::CommandId;
use crate::proto::id::ConnId;
use crate::proto::user::User;

use super::order::{Aim, TargetName};
use super::outcome::{Counts, Mode, Outcome};
use super::rows::Rows;

/// A command that is pending.
#[derive(Clone, Debug, PartialEq)]
pub struct PendingCommand {
    /// Rises with every command that is accepted.
    pub number: u64,
    /// Its id.
    pub id: CommandId,
    /// What is asked.
    pub key: Box<str>,
    /// Who is asked.
    pub target: TargetName,
    /// Whose reply counts.
    pub mode: Mode,
    /// Who sent it.
    pub sender: Option<Box<str>>,
    /// When it was accepted, in milliseconds since 1970.
    pub accepted_unix_ms: u64,
    /// What is left of its limit.
    pub left_ms: u64,
    /// How far it came.
    pub counts: Counts,
    /// Whether it waits for somebody to whom it can be sent.
    pub is_held: bool,
}

/// A command that was settled.
#[derive(Clone, Debug, PartialEq)]
pub struct SettledCommand {
    /// Rises with every command that is settled.
    pub number: u64,
    /// Its id.
    pub id: CommandId,
    /// What was asked.
    pub key: Box<str>,
    /// Who was asked.
    pub target: TargetName,
    /// Whose reply counted.
    pub mode: Mode,
    /// Who sent it.
    pub sender: Option<Box<str>>,
    /// When it was accepted, in milliseconds since 1970.
    pub accepted_unix_ms: u64,
    /// How it ended.
    pub outcome: Outcome,
    /// Milliseconds from acceptance to the outcome.
    pub latency_ms: u64,
    /// How far it came.
    pub counts: Counts,
    /// Replies that counted and had `success: false`.
    pub client_errors: usize,
}

/// Settled commands, the oldest first.
#[derive(Debug, Default)]
pub(super) struct History {
    entries: VecDeque<Entry>,
    numbers: HashMap<CommandId, u64>,
    settled: u64,
    /// Addressed sessions of lists that are remembered.
    listed: usize,
}

#[derive(Debug)]
struct Entry {
    shown: Arc<SettledCommand>,
    audience: Audience,
}

/// Who was addressed.
#[derive(Debug)]
pub(super) enum Audience {
    Connection(ConnId),
    /// Both sorted.
    Listed(Box<[ConnId]>, Box<[Arc<str>]>),
    User(Arc<str>),
}

impl Audience {
    pub(super) fn new(aim: &Aim, rows: &Rows) -> Self {
        match aim {
            Aim::User(user) | Aim::Connection { user: Some(user), .. } => Self::User(user.shared_id()),
            Aim::Connection { id, user: None } => Self::Connection(*id),
            Aim::Everybody | Aim::Sessions(_) => {
                let guests = rows.iter().filter(|row| row.user.is_none());
                let mut guests: Box<[ConnId]> = guests.map(|row| row.connection).collect();
                guests.sort_unstable();
                let mut users: Vec<Arc<str>> =
                    rows.iter().filter_map(|row| row.user.as_ref()).map(User::shared_id).collect();
                users.sort_unstable();
                users.dedup();
                Self::Listed(guests, users.into())
            }
        }
    }

    fn includes(&self, from: ConnId, user: Option<&User>) -> bool {
        match self {
            Self::Connection(id) => *id == from,
            Self::Listed(guests, users) => {
                let is_user = |user: &User| users.binary_search_by(|id| (**id).cmp(user.id())).is_ok();
                guests.binary_search(&from).is_ok() || user.is_some_and(is_user)
            }
            Self::User(id) => user.is_some_and(|user| user.id() == &**id),
        }
    }

    fn listed(&self) -> usize {
        match self {
            Self::Listed(guests, users) => guests.len() + users.len(),
            _ => 0,
        }
    }
}

impl History {
    /// Remembers a command, and forgets the oldest while there are more than `max`, or while they list more sessions than
    /// `max_listed`.
    pub(super) fn push(&mut self, mut shown: SettledCommand, audience: Audience, max: usize, max_listed: usize) {
        self.settled += 1;
        shown.number = self.settled;
        self.numbers.insert(shown.id, self.settled);
        self.listed += audience.listed();
        self.entries.push_back(Entry { shown: Arc::new(shown), audience });
        while self.entries.len() > max || self.listed > max_listed {
            let Some(oldest) = self.entries.pop_front() else { break };
            // The id may have been used again since.
            if self.numbers.get(&oldest.shown.id) == Some(&oldest.shown.number) {
                self.numbers.remove(&oldest.shown.id);
            }
            self.listed -= oldest.audience.listed();
        }
    }

    /// A settled command, and whether this connection, which is this user's, was addressed by it.
    pub(super) fn find(&self, id: CommandId, from: ConnId, user: Option<&User>) -> Option<(Arc<SettledCommand>, bool)> {
        let first = self.entries.front()?.shown.number;
        let at = self.numbers.get(&id)?.checked_sub(first)?;
        let entry = self.entries.get(usize::try_from(at).ok()?)?;
        Some((Arc::clone(&entry.shown), entry.audience.includes(from, user)))
    }

    /// Whether a command is remembered.
    pub(super) fn knows(&self, id: CommandId) -> bool {
        self.numbers.contains_key(&id)
    }

    /// The number of the latest.
    pub(super) fn end(&self) -> u64 {
        self.settled
    }

    /// Those after this number, the oldest first.
    pub(super) fn after(&self, number: u64, limit: usize) -> Vec<Arc<SettledCommand>> {
        let at = self.entries.partition_point(|entry| entry.shown.number <= number);
        self.entries.range(at..).take(limit).map(|entry| Arc::clone(&entry.shown)).collect()
    }
}
