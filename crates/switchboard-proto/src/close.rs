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
    /// It was not let in: a hook said no, or could not be asked.
    Refused,
    /// Server code removed it.
    Removed,
    /// The server is stopping as planned.
    Shutdown,
    /// It did not read what was sent to it: more than `limits.max_outbox_bytes` waited.
    SlowConsumer,
    /// A frame was larger than any reading of the limits allows.
    TooLarge,
    /// What it sent is not this wire's protocol.
    Protocol,
    /// It went beyond a limit of rate or number.
    Limit,
    /// Nothing was heard of it for too long.
    Silence,
    /// The server's node was taken for dead by the others of its cluster and begins anew.
    Fenced,
    /// Our fault.
    Internal,
}

impl CloseReason {
    /// Every reason, in the order of [`CloseReason::index`].
    pub const ALL: [Self; 12] = [
        Self::ClientLeft,
        Self::ConnectionLost,
        Self::Refused,
        Self::Removed,
        Self::Shutdown,
        Self::SlowConsumer,
        Self::TooLarge,
        Self::Protocol,
        Self::Limit,
        Self::Silence,
        Self::Fenced,
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
            Self::Refused => "refused",
            Self::Removed => "removed",
            Self::Shutdown => "shutdown",
            Self::SlowConsumer => "slow_consumer",
            Self::TooLarge => "too_large",
            Self::Protocol => "protocol",
            Self::Limit => "limit",
            Self::Silence => "silence",
            Self::Fenced => "fenced",
            Self::Internal => "internal",
        }
    }

    /// The code of the close frame on a WebSocket. A protocol may have a more exact one.
    pub const fn websocket_code(self) -> u16 {
        match self {
            Self::ClientLeft | Self::Removed => 1000,
            Self::Silence => 1001,
            Self::Protocol => 1002,
            Self::Limit | Self::Refused => 1008,
            Self::TooLarge => 1009,
            Self::ConnectionLost | Self::Internal => 1011,
            Self::Shutdown | Self::Fenced => 1012,
            Self::SlowConsumer => 1013,
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
