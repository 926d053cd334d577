//! What bounds the engine.

/// The limits of client commands. None can be exceeded by what clients do; what happens at each is said there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommandLimits {
    /// Pending commands of one user, or of one connection without a user. Further ones are refused.
    pub max_pending_per_user: usize,
    /// Pending commands in total. Further ones are refused.
    pub max_pending: usize,
    /// Bytes of the documents of all pending commands together. Commands that would need more are refused.
    pub max_pending_bytes: usize,
    /// Addressed sessions of all pending commands together. Commands that would need more are refused.
    pub max_pending_rows: usize,
    /// Bytes of one reply. Longer ones are refused, and the command stays pending.
    pub max_reply_bytes: usize,
    /// Bytes of replies that are kept: those of unfinished collections, which make further replies be refused when it is
    /// reached, and those of remembered outcomes, of which the oldest are forgotten for the former.
    pub max_held_bytes: usize,
    /// Settled commands that are remembered, for showing them and for telling late replies from unknown ones. The oldest
    /// are forgotten first.
    pub history_max: usize,
    /// For how long after its outcome an idempotency key is remembered, in milliseconds.
    pub idempotency_ms: u64,
    /// Idempotency keys of settled commands that are remembered. The oldest are forgotten first.
    pub idempotency_max: usize,
}

impl Default for CommandLimits {
    fn default() -> Self {
        Self {
            max_pending_per_user: 100,
            max_pending: 10_000,
            max_pending_bytes: 64 * 1024 * 1024,
            max_pending_rows: 1_000_000,
            max_reply_bytes: 512 * 1024,
            max_held_bytes: 64 * 1024 * 1024,
            history_max: 1000,
            idempotency_ms: 600_000,
            idempotency_max: 10_000,
        }
    }
}
