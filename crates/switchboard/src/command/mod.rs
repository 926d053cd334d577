//! Client commands: what the server asks a client to do, from the order to the one outcome that its sender is told.
//!
//! This is the model alone: no clock, no lock, no randomness and no runtime. Time and ids are arguments, and what should be
//! done comes back in [`Out`]. The node drives it.
//!
//! What it promises: a command is handed to a connection at most once; commands to one user leave in the order of
//! acceptance, save that one which found all sessions full or gone leaves for another session later; every order that was
//! accepted is reported exactly once, no later than its deadline; only who was addressed can reply, and once.

mod outcome;

mod order;
mod request;

mod limits;

mod engine;

mod pending;
mod rows;

mod client;
mod client_data;

mod described;
mod follower;

mod figures;
mod history;
mod idempotency;

#[cfg(test)]
mod tests;

pub use client::{Client, ClientView, Health, Home, Paused, Status};
pub use client_data::{BadClientData, Capabilities, ClientData, HEARTBEAT, PAUSE, RESUME};
pub use described::{Described, Taking};
pub use engine::Engine;
pub use figures::{COUNTED_KEYS, Ended, Figures, LATENCY_BUCKETS_MS};
pub use follower::{AskPart, Follower, PartHead};
pub use history::{PendingCommand, SettledCommand};
pub use limits::CommandLimits;
pub use order::{
    Accepted, Aim, Clock, Dispatch, Idempotency, Obeyed, Order, Out, Outgoing, Refusal, Reply, ReplyTooLarge, Settling,
    TargetKind, TargetName,
};
pub use outcome::{Counts, Mode, Outcome, Report, Row};
pub use request::{ClientCommand, CommandFailure, CommandOptions, CommandRefusal, SentCommand, Target};
