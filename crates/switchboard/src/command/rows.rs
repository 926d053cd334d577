//! The sessions that a command was addressed to.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use crate::proto::id::ConnId;
use crate::proto::json::RawJson;
use crate::proto::user::User;

use super::outcome::Outcome;

/// How far a command came with one session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// It is handed over once the session listens.
    Waiting,
    /// It leaves as soon as its time is known.
    Queued,
    /// On its way to the session's output queue.
    Sent,
    /// In the session's output queue, or further.
    Delivered,
    /// The session left after that.
    Left,
    /// The session left before that.
    Gone,
    /// The output queue was full.
    Overflow,
}

impl Stage {
    const COUNT: usize = 7;

    /// Returns whether the session has left.
    pub(super) const fn is_absent(self) -> bool {
        matches!(self, Self::Left | Self::Gone)
    }
}

/// One addressed session.
#[derive(Clone, Debug)]
pub(super) struct Addressed {
    pub(super) connection: ConnId,
    /// Whose it was then.
    pub(super) user: Option<User>,
    pub(super) stage: Stage,
    /// When it left for the session, on the monotonic clock.
    pub(super) sent_ms: Option<u64>,
    /// In mode `all`: how it ended.
    pub(super) outcome: Option<Outcome>,
    pub(super) latency_ms: Option<u64>,
    pub(super) reply: Option<RawJson>,
}

impl Addressed {
    /// Returns whether the command is still for its connection when that has this user. If it had none, any user will do.
    pub(super) fn is_for(&self, user: Option<&User>) -> bool {
        self.user.as_ref().is_none_or(|then| user.is_some_and(|user| user.id() == then.id()))
    }
}

/// All addressed sessions of a command, in the order of addressing. Nothing here takes longer the more of them there are.
#[derive(Debug, Default)]
pub(super) struct Rows {
    rows: Vec<Addressed>,
    /// Only of more than [`Rows::FEW`].
    by_connection: HashMap<ConnId, usize>,
    by_user: HashMap<Arc<str>, OfUser>,
    stages: [usize; Stage::COUNT],
    /// Rows without an outcome.
    open: usize,
    /// Of these, how many of sessions that left.
    open_left: usize,
}

/// One user's part of many rows.
#[derive(Debug, Default)]
struct OfUser {
    /// Ascending; those that were found settled are taken off in front.
    open: VecDeque<usize>,
    /// Those whose session left.
    left: VecDeque<usize>,
}

impl Rows {
    /// So many rows are searched one by one.
    const FEW: usize = 8;

    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    pub(super) fn iter(&self) -> std::slice::Iter<'_, Addressed> {
        self.rows.iter()
    }

    pub(super) fn get(&self, at: usize) -> &Addressed {
        &self.rows[at]
    }

    pub(super) fn into_rows(self) -> Vec<Addressed> {
        self.rows
    }

    /// Adds a session that has no row yet, and says at which place.
    pub(super) fn push(&mut self, connection: ConnId, user: Option<User>, stage: Stage) -> usize {
        let at = self.rows.len();
        self.stages[stage as usize] += 1;
        self.open += 1;
        self.rows.push(Addressed {
            connection,
            user,
            stage,
            sent_ms: None,
            outcome: None,
            latency_ms: None,
            reply: None,
        });
        if at == Self::FEW {
            (0..=at).for_each(|at| self.index(at));
        } else if at > Self::FEW {
            self.index(at);
        }
        at
    }

    fn index(&mut self, at: usize) {
        let row = &self.rows[at];
        self.by_connection.insert(row.connection, at);
        if let Some(user) = &row.user {
            let mine = self.by_user.entry(user.shared_id()).or_default();
            mine.open.push_back(at);
            if row.stage == Stage::Left {
                mine.left.push_back(at);
            }
        }
    }

    pub(super) fn find(&self, connection: ConnId) -> Option<usize> {
        if self.rows.len() > Self::FEW {
            self.by_connection.get(&connection).copied()
        } else {
            self.rows.iter().position(|row| row.connection == connection)
        }
    }

    /// Whether any session of this user was addressed.
    pub(super) fn has_user(&self, id: &str) -> bool {
        if self.rows.len() > Self::FEW {
            self.by_user.contains_key(id)
        } else {
            self.rows.iter().any(|row| is_of(row, id))
        }
    }

    /// The row without an outcome that another session of this user may fill: the first whose session left, else the first.
    pub(super) fn open_of(&mut self, id: &str) -> Option<usize> {
        let rows = &self.rows;
        let is_open = |at: &usize| rows[*at].outcome.is_none();
        if rows.len() > Self::FEW {
            let mine = self.by_user.get_mut(id)?;
            let OfUser { open, left } = mine;
            // A row that has left may turn out not to have been reached.
            while left.front().is_some_and(|at| !is_open(at) || rows[*at].stage != Stage::Left) {
                left.pop_front();
            }
            while open.front().is_some_and(|at| !is_open(at)) {
                open.pop_front();
            }
            return left.front().or(open.front()).copied();
        }
        let mut open = (0..rows.len()).filter(|at| is_open(at) && is_of(&rows[*at], id));
        open.clone().find(|at| rows[*at].stage == Stage::Left).or_else(|| open.next())
    }

    pub(super) fn set_sent(&mut self, at: usize, now_ms: u64) {
        self.rows[at].sent_ms = Some(now_ms);
        self.set_stage(at, Stage::Sent);
    }

    /// Notes that it was not handed over, so that it may be sent again.
    pub(super) fn set_unsent(&mut self, at: usize) {
        self.rows[at].sent_ms = None;
    }

    pub(super) fn set_stage(&mut self, at: usize, stage: Stage) {
        let row = &mut self.rows[at];
        self.stages[row.stage as usize] -= 1;
        self.stages[stage as usize] += 1;
        if row.outcome.is_none() {
            self.open_left -= usize::from(row.stage.is_absent());
            self.open_left += usize::from(stage.is_absent());
        }
        row.stage = stage;
        if stage == Stage::Left
            && row.outcome.is_none()
            && let Some(mine) = row.user.as_ref().and_then(|user| self.by_user.get_mut(user.id()))
        {
            mine.left.push_back(at);
        }
    }

    /// Ends a row that has no outcome yet.
    pub(super) fn end(&mut self, at: usize, outcome: Outcome) {
        let row = &mut self.rows[at];
        self.open -= 1;
        self.open_left -= usize::from(row.stage.is_absent());
        row.outcome = Some(outcome);
    }

    /// Ends a row with a reply.
    pub(super) fn fill(&mut self, at: usize, reply: RawJson, now_ms: u64) {
        self.end(at, Outcome::Replied);
        let row = &mut self.rows[at];
        row.latency_ms = row.sent_ms.map(|sent_ms| now_ms.saturating_sub(sent_ms));
        row.reply = Some(reply);
    }

    fn count(&self, stage: Stage) -> usize {
        self.stages[stage as usize]
    }

    /// Sessions to which it may still be handed over, without anything else happening.
    pub(super) fn under_way(&self) -> usize {
        self.count(Stage::Waiting) + self.count(Stage::Queued) + self.count(Stage::Sent)
    }

    /// Sessions that have it and are still there.
    pub(super) fn present(&self) -> usize {
        self.count(Stage::Delivered)
    }

    /// Sessions to which it was handed over.
    pub(super) fn delivered(&self) -> usize {
        self.count(Stage::Delivered) + self.count(Stage::Left)
    }

    /// Sessions whose output queue was full.
    pub(super) fn overflowed(&self) -> usize {
        self.count(Stage::Overflow)
    }

    /// Rows without an outcome.
    pub(super) fn open(&self) -> usize {
        self.open
    }

    /// Rows without an outcome whose sessions are still there.
    pub(super) fn open_present(&self) -> usize {
        self.open - self.open_left
    }

    /// Whether everybody addressed was a connection without a user, and left.
    pub(super) fn are_guests_that_left(&self) -> bool {
        let left = self.count(Stage::Left) + self.count(Stage::Gone);
        !self.rows.is_empty() && left == self.rows.len() && self.rows.iter().all(|row| row.user.is_none())
    }
}

fn is_of(row: &Addressed, id: &str) -> bool {
    row.user.as_ref().is_some_and(|user| user.id() == id)
}
