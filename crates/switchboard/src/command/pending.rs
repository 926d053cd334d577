//! One pending command: what happened to it, and what that means.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::proto::command::CommandId;
use crate::proto::id::ConnId;
use crate::proto::json::RawJson;
use crate::proto::time::Now;
use crate::proto::user::User;

use super::history::PendingCommand;
use super::order::{Aim, Clock, Order};
use super::outcome::{Counts, Mode, Outcome, Report, Row};
use super::rows::{Rows, Stage};

#[derive(Debug)]
pub(super) struct Pending<W> {
    pub(super) order: Order,
    pub(super) accepted: Now,
    pub(super) waiters: Vec<W>,
    pub(super) idempotency_key: Option<Arc<str>>,
    pub(super) rows: Rows,
    /// In mode `one`, of the sessions of a list: those that were not tried yet, the most recently active last.
    pub(super) candidates: Vec<ConnId>,
    /// It waits for somebody to whom it can be sent.
    pub(super) is_held: bool,
    /// How many parts of it were put into the queue.
    pub(super) parts: u32,
    /// Connections whose reply filled a row.
    pub(super) repliers: HashSet<ConnId>,
    /// Bytes of collected replies.
    pub(super) reply_bytes: usize,
    pub(super) replied: usize,
    pub(super) client_errors: usize,
}

impl<W> Pending<W> {
    pub(super) fn new(order: Order, waiter: W, idempotency_key: Option<Arc<str>>, accepted: Now) -> Self {
        Self {
            order,
            accepted,
            waiters: vec![waiter],
            idempotency_key,
            rows: Rows::default(),
            candidates: Vec::new(),
            is_held: false,
            parts: 0,
            repliers: HashSet::new(),
            reply_bytes: 0,
            replied: 0,
            client_errors: 0,
        }
    }

    pub(super) fn id(&self) -> CommandId {
        self.order.document.id
    }

    pub(super) fn collects(&self) -> bool {
        self.order.mode == Mode::All
    }

    /// Whether this connection, which is this user's, is one of those that it was sent to, or another one of their users.
    pub(super) fn is_addressed_to(&self, from: ConnId, user: Option<&User>) -> bool {
        let is = |other: &User| user.is_some_and(|user| user.id() == other.id());
        match &self.order.aim {
            Aim::User(user) | Aim::Connection { user: Some(user), .. } => is(user),
            Aim::Connection { id, user: None } => *id == from,
            Aim::Everybody | Aim::Sessions(_) => {
                self.own_row(from, user).is_some() || user.is_some_and(|user| self.rows.has_user(user.id()))
            }
        }
    }

    /// The row of this connection, unless it has become somebody else's since.
    pub(super) fn own_row(&self, from: ConnId, user: Option<&User>) -> Option<usize> {
        self.rows.find(from).filter(|at| self.rows.get(*at).is_for(user))
    }

    /// The row that a reply fills in mode `all`: the session's own, else one of its user's.
    pub(super) fn row_for(&mut self, from: ConnId, user: Option<&User>) -> Option<usize> {
        if self.repliers.contains(&from) {
            return None;
        }
        let own = self.own_row(from, user).filter(|at| self.rows.get(*at).outcome.is_none());
        own.or_else(|| user.and_then(|user| self.rows.open_of(user.id())))
    }

    /// Returns the row of a connection whose session ended before it was sent the command, if the connection's next
    /// session may be sent it.
    pub(super) fn missed_by(&self, connection: ConnId, user: Option<&User>) -> Option<usize> {
        let at = self.own_row(connection, user)?;
        let row = self.rows.get(at);
        let was_missed = row.stage == Stage::Gone && row.sent_ms.is_none() && row.outcome.is_none();
        let is_free = self.order.mode != Mode::One || self.rows.under_way() + self.rows.delivered() == 0;
        (was_missed && is_free).then_some(at)
    }

    /// Notes how far it came with a session. `may_return`: if the session has gone, its connection is still open and its
    /// user the same, so it may take commands again.
    pub(super) fn advance(&mut self, at: usize, stage: Stage, may_return: bool) {
        self.rows.set_stage(at, stage);
        let row = self.rows.get(at);
        if !self.collects() || row.outcome.is_some() {
            return;
        }
        let fail_fast = self.order.fail_fast;
        match stage {
            Stage::Overflow => self.rows.end(at, Outcome::Overflow),
            // Else another connection of the user may answer what this one was sent.
            Stage::Left if fail_fast || row.user.is_none() => self.rows.end(at, Outcome::Disconnected),
            // Else the connection's next session is sent it.
            Stage::Gone if fail_fast || !may_return => self.rows.end(at, Outcome::Disconnected),
            _ => {}
        }
    }

    /// Whether as many replied as were asked for.
    pub(super) fn has_enough(&self) -> bool {
        self.order.min_replies.is_some_and(|enough| self.replied >= enough.max(1))
    }

    /// How it ends if nobody is waited for any more.
    pub(super) fn outcome_at_once(&self) -> Outcome {
        if self.rows.is_empty() {
            Outcome::NoRecipient
        } else if self.rows.overflowed() == self.rows.len() {
            Outcome::Overflow
        } else {
            Outcome::Disconnected
        }
    }

    /// How it ends when its limit has passed.
    pub(super) fn outcome_at_limit(&self) -> Outcome {
        if self.collects() {
            self.outcome_of_rows()
        } else if self.rows.are_guests_that_left() {
            Outcome::Disconnected
        } else if self.rows.delivered() > 0 || self.rows.under_way() > 0 {
            Outcome::Timeout
        } else if self.rows.overflowed() > 0 {
            Outcome::Overflow
        } else {
            Outcome::NoRecipient
        }
    }

    /// How a collection ends, by its rows.
    pub(super) fn outcome_of_rows(&self) -> Outcome {
        if self.replied > 0 {
            return Outcome::Replied;
        }
        let ends = || self.rows.iter().map(|row| row.outcome.unwrap_or_else(|| unanswered(row.stage)));
        let befell = |outcome: &Outcome| ends().any(|end| end == *outcome);
        let mildest = [Outcome::Timeout, Outcome::Disconnected, Outcome::Overflow].into_iter().find(befell);
        mildest.unwrap_or(Outcome::NoRecipient)
    }

    pub(super) fn counts(&self) -> Counts {
        Counts { sessions: self.rows.len(), delivered: self.rows.delivered(), replied: self.replied }
    }

    /// What those who wait are told, and the waiters.
    pub(super) fn into_report(self, outcome: Outcome, reply: Option<RawJson>, now: Now) -> (Report, Vec<W>) {
        let counts = self.counts();
        let row_outcome = |stage| match outcome {
            Outcome::Cancelled | Outcome::Shutdown => outcome,
            _ => unanswered(stage),
        };
        let rows = self.collects().then(|| {
            let rows = self.rows.into_rows().into_iter().map(|row| Row {
                user: row.user,
                connection: row.connection,
                outcome: row.outcome.unwrap_or_else(|| row_outcome(row.stage)),
                latency_ms: row.latency_ms,
                reply: row.reply,
            });
            rows.collect()
        });
        let report = Report {
            id: self.order.document.id,
            key: self.order.document.key.clone(),
            outcome,
            latency_ms: now.monotonic_ms.saturating_sub(self.accepted.monotonic_ms),
            counts,
            reply,
            rows,
            fail_fast: self.order.fail_fast,
        };
        (report, self.waiters)
    }

    /// As people see it.
    pub(super) fn shown(&self, number: u64, now: Now) -> PendingCommand {
        PendingCommand {
            number,
            id: self.id(),
            key: self.order.document.key.clone(),
            target: self.order.target.clone(),
            mode: self.order.mode,
            sender: self.order.sender.clone(),
            accepted_unix_ms: self.accepted.unix_ms,
            left_ms: self.order.deadline_ms.saturating_sub(now.monotonic_ms),
            counts: self.counts(),
            is_held: self.is_held,
        }
    }

    /// Sorts places of rows by whose clock tells when they leave, in the order of their first rows.
    pub(super) fn by_clock(&self, places: &[usize]) -> Vec<(Clock, Vec<usize>)> {
        let clock = |at: usize| Clock::of(self.rows.get(at).connection, self.rows.get(at).user.as_ref());
        if let [at] = *places {
            return vec![(clock(at), vec![at])];
        }
        let mut parts: Vec<(Clock, Vec<usize>)> = Vec::new();
        let mut known: HashMap<Clock, usize> = HashMap::new();
        for &at in places {
            let part = *known.entry(clock(at)).or_insert(parts.len());
            match parts.get_mut(part) {
                Some((_, rows)) => rows.push(at),
                None => parts.push((clock(at), vec![at])),
            }
        }
        parts
    }
}

/// How a row ends that nobody answered.
fn unanswered(stage: Stage) -> Outcome {
    if stage.is_absent() { Outcome::Disconnected } else { Outcome::Timeout }
}
