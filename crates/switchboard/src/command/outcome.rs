//! How a command ends, and what its sender is told.

use crate::proto::command::CommandId;
use crate::proto::id::ConnId;
use crate::proto::json::RawJson;
use crate::proto::user::User;

/// Whose reply counts, where a target has several sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mode {
    /// All sessions are sent the command, and the reply of each is collected.
    All,
    /// All sessions are sent the command, and the first reply settles it.
    First,
    /// One session is sent the command, the most recently active; the next one if it leaves before delivery or is full.
    One,
}

impl Mode {
    /// Every mode.
    pub const ALL: [Self; 3] = [Self::All, Self::First, Self::One];

    /// The name in answers and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::First => "first",
            Self::One => "one",
        }
    }

    /// Reads the name.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mode| mode.as_str() == text)
    }
}

/// How a command ended, or one row of it. Nothing but [`Outcome::Replied`] says that the command had an effect, and none of
/// the others says that it had none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The sender took it back, or went away.
    Cancelled,
    /// Whoever was addressed left, and nobody is waited for.
    Disconnected,
    /// Nobody took commands within the limit, or, with `fail_fast`, at the moment of sending.
    NoRecipient,
    /// The output queue of every addressed session was full.
    Overflow,
    /// Somebody answered: with whatever, `success: false` is an answer too.
    Replied,
    /// The server stopped.
    Shutdown,
    /// The limit passed without an answer.
    Timeout,
}

impl Outcome {
    /// Every outcome, in the order of [`Outcome::index`].
    pub const ALL: [Self; 7] = [
        Self::Cancelled,
        Self::Disconnected,
        Self::NoRecipient,
        Self::Overflow,
        Self::Replied,
        Self::Shutdown,
        Self::Timeout,
    ];

    /// The name in answers, logs and figures.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Cancelled => "cancelled",
            Self::Disconnected => "disconnected",
            Self::NoRecipient => "no_recipient",
            Self::Overflow => "overflow",
            Self::Replied => "replied",
            Self::Shutdown => "shutdown",
            Self::Timeout => "timeout",
        }
    }

    /// Its place in [`Outcome::ALL`].
    pub const fn index(self) -> usize {
        self as usize
    }
}

/// How far a command came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Sessions that were addressed.
    pub sessions: usize,
    /// Of these, to how many it was handed over.
    pub delivered: usize,
    /// Replies that counted.
    pub replied: usize,
}

/// What became of one addressed session, in mode `all`.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Whose session it was when it was addressed.
    pub user: Option<User>,
    /// The session. The reply may have come over another one of the same user.
    pub connection: ConnId,
    /// How it ended: `replied`, `timeout`, `disconnected`, `overflow`, or what ended the whole command before.
    pub outcome: Outcome,
    /// Milliseconds from handing over to the reply, if there is one.
    pub latency_ms: Option<u64>,
    /// The reply as it came.
    pub reply: Option<RawJson>,
}

/// The one thing that a sender is told about a command.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// Its id.
    pub id: CommandId,
    /// What was asked.
    pub key: Box<str>,
    /// How it ended. In mode `all` it is [`Outcome::Replied`] as soon as one session replied, however the collection ended:
    /// a part of the replies at the limit is a normal result, and the rows tell who is missing. Without any reply it is the
    /// mildest thing that befell a row: `timeout` before `disconnected` before `overflow`.
    pub outcome: Outcome,
    /// Milliseconds from acceptance to the outcome.
    pub latency_ms: u64,
    /// How far it came.
    pub counts: Counts,
    /// The reply that settled it; in mode `all` there is none.
    pub reply: Option<RawJson>,
    /// In mode `all`, what became of every addressed session, in the order of addressing.
    pub rows: Option<Vec<Row>>,
    /// Whether the sender had asked not to wait for absent, vanished and full sessions.
    pub fail_fast: bool,
}

impl Report {
    /// Report of a command that was dropped without one.
    pub(crate) fn of_lost(id: CommandId, key: &str) -> Self {
        Self {
            id,
            key: key.into(),
            outcome: Outcome::Shutdown,
            latency_ms: 0,
            counts: Counts::default(),
            reply: None,
            rows: None,
            fail_fast: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_outcome_has_its_own_name_and_place() {
        for (index, outcome) in Outcome::ALL.into_iter().enumerate() {
            assert_eq!(outcome.index(), index);
            assert!(Outcome::ALL.iter().all(|other| *other == outcome || other.as_str() != outcome.as_str()));
        }
        for mode in Mode::ALL {
            assert_eq!(Mode::parse(mode.as_str()), Some(mode));
        }
        assert_eq!(Mode::parse("some"), None);
    }
}
