//! Why a connection ended.

use std::fmt;

/// Why a connection ended: one word for logs, figures and the admin API, and what the wire says at the end.
///
/// What each wire sends for each reason is in the protocol pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CloseReason {
    /// The client left: it said so, or closed its side.
    ClientLeft,
    /// The network or the client's host failed.
    ConnectionLost,
    /// Server code removed it.
    Removed,
    /// The server is stopping as planned.
    Shutdown,
    /// It did not read what was sent to it: more than `limits.max_outbox_bytes` waited.
    SlowConsumer,
    /// A frame was larger than any reading of the limits allows.
    TooLarge,
    /// Our fault.
    Internal,
}

impl CloseReason {
    /// Every reason, in the order of [`CloseReason::index`].
    pub const ALL: [Self; 7] = [
        Self::ClientLeft,
        Self::ConnectionLost,
        Self::Removed,
        Self::Shutdown,
        Self::SlowConsumer,
        Self::TooLarge,
        Self::Internal,
    ];

    /// Position in [`CloseReason::ALL`], for counters.
    pub const fn index(self) -> usize {
        self as usize
    }

    /// The word used in logs and figures.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ClientLeft => "client_left",
            Self::ConnectionLost => "connection_lost",
            Self::Removed => "removed",
            Self::Shutdown => "shutdown",
            Self::SlowConsumer => "slow_consumer",
            Self::TooLarge => "too_large",
            Self::Internal => "internal",
        }
    }
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_stands_at_its_own_index() {
        for (index, reason) in CloseReason::ALL.into_iter().enumerate() {
            assert_eq!(reason.index(), index);
        }
    }
}
