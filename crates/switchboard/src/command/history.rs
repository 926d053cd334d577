//! Commands for people to look at: pending ones, and those that were settled lately.

use crate::proto::command::CommandId;

use super::order::TargetName;
use super::outcome::{Counts, Mode, Outcome};

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
