//! What a client is refused, in which words, and what follows.

use crate::call::CallError;
use crate::close::CloseReason;
use crate::shard::ShardRefusal;

/// A row of the protocol's table of errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) code: u16,
    /// For programs.
    pub(super) reason: &'static str,
    /// For people; never what the client wrote.
    pub(super) message: &'static str,
    /// When it may be tried again, in milliseconds.
    pub(super) retry_ms: Option<u64>,
    /// Why the connection ends, if it does.
    pub(super) closes: Option<CloseReason>,
}

const fn refusal(code: u16, reason: &'static str, message: &'static str, closes: Option<CloseReason>) -> Refusal {
    Refusal { code, reason, message, retry_ms: None, closes }
}

pub(super) const INTERNAL_ERROR: Refusal =
    refusal(4000, "internal_error", "internal error, reconnect", Some(CloseReason::Internal));
pub(super) const UNKNOWN_TYPE: Refusal = refusal(4001, "unknown_type", "there is no such type", None);
pub(super) const DECODE_ERROR: Refusal =
    refusal(4002, "decode_error", "the message cannot be inflated, or is not UTF-8", None);
pub(super) const NO_APPLICATION: Refusal = Refusal {
    message: "no application is named: send d.public_key, or the header Public-Key or Identification",
    ..DECODE_ERROR
};
const CLIENT_TOO_LARGE: Refusal =
    Refusal { message: "d.client is longer than commands.max_client_data_bytes allows", ..DECODE_ERROR };
pub(super) const PAYLOAD_TOO_LARGE: Refusal =
    refusal(4002, "payload_too_large", "the message is too long", Some(CloseReason::TooLarge));
pub(super) const NOT_REGISTERED: Refusal = refusal(4003, "not_registered", "register first", None);
pub(super) const REGISTER_TIMEOUT: Refusal =
    refusal(4003, "register_timeout", "not registered in time", Some(CloseReason::Silence));
pub(super) const ALREADY_REGISTERED: Refusal =
    refusal(4005, "already_registered", "this connection has a session already", None);
pub(super) const INVALID_SEQ: Refusal = refusal(4007, "invalid_seq", "there is no such event yet", None);
pub(super) const RATE_LIMITED: Refusal = refusal(4008, "rate_limited", "too many messages", Some(CloseReason::Limit));
pub(super) const INVALID_SHARD: Refusal = refusal(
    4010,
    "invalid_shard",
    "the shard must be a whole number below the total, and the total that of the fleet: see GET /gateway/bot",
    Some(CloseReason::Refused),
);
pub(super) const UNSUPPORTED: Refusal = refusal(
    4012,
    "unsupported",
    "v must be 1, and compress none, zlib, or, if the server allows streams, zlib-stream or zstd-stream",
    Some(CloseReason::Refused),
);
pub(super) const SESSION_REPLACED: Refusal =
    refusal(4020, "session_replaced", "another connection has taken this shard", Some(CloseReason::Removed));
const SHARD_TAKEN: Refusal = refusal(4020, "session_replaced", "another connection has this shard", None);
/// The close frame alone tells it.
pub(super) const HEARTBEAT_MISSED: u16 = 4021;
pub(super) const RESHARDED: Refusal =
    refusal(4022, "resharded", "the number of shards has changed, register again", Some(CloseReason::Removed));
const SHARD_MASTER_REQUIRED: Refusal = refusal(4023, "shard_master_required", "shard 0 has to register first", None);
const DEVELOPMENT_NOT_ALLOWED: Refusal =
    refusal(4023, "development_not_allowed", "this application has no development shards", None);
const START_CONCURRENCY: Refusal = refusal(4024, "start_concurrency", "too many registrations at once", None);
const START_LIMIT: Refusal = refusal(4025, "start_limit", "too many registrations today", Some(CloseReason::Limit));
pub(super) const SLOW_CONSUMER: Refusal = refusal(
    4026,
    "slow_consumer",
    "events were lost before they could be sent, reconnect",
    Some(CloseReason::SlowConsumer),
);
pub(super) const SESSION_ENDED: Refusal =
    refusal(4027, "session_ended", "the session was ended by an operator", Some(CloseReason::Removed));

/// The code that closes after credentials which are nobody's.
pub(super) const BAD_CREDENTIALS: u16 = 4004;

/// The client ends its session with this code.
pub(super) const END_SESSION: u16 = 4100;

impl Refusal {
    /// Whether it is about how often something was done.
    pub(super) fn is_about_rate(&self) -> bool {
        matches!(self.code, 4008 | 4024 | 4025)
    }

    /// Whether it counts among those of which too many end a connection.
    pub(super) fn is_counted(&self) -> bool {
        *self != Self { retry_ms: self.retry_ms, ..START_CONCURRENCY }
    }

    fn after(self, retry_ms: u64) -> Self {
        Self { retry_ms: Some(retry_ms), ..self }
    }
}

/// What a call's failure is to a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// GATEWAY_INVALID, and nothing follows.
    Invalid,
    /// GATEWAY_INVALID, and the connection ends.
    BadCredentials,
    Refused(Refusal),
}

impl From<&CallError> for Verdict {
    fn from(error: &CallError) -> Self {
        let CallError::Shard(refusal) = error else {
            return Self::Refused(match error {
                CallError::BadClientData => CLIENT_TOO_LARGE,
                _ => INTERNAL_ERROR,
            });
        };
        Self::Refused(match *refusal {
            ShardRefusal::BadCredentials => return Self::BadCredentials,
            ShardRefusal::Invalid => return Self::Invalid,
            ShardRefusal::InvalidShard => INVALID_SHARD,
            ShardRefusal::DevelopmentNotAllowed => DEVELOPMENT_NOT_ALLOWED,
            ShardRefusal::MasterRequired { retry_ms } => SHARD_MASTER_REQUIRED.after(retry_ms),
            ShardRefusal::StartConcurrency { retry_ms } => START_CONCURRENCY.after(retry_ms),
            ShardRefusal::StartLimit { retry_ms } => START_LIMIT.after(retry_ms),
            ShardRefusal::Taken => SHARD_TAKEN,
            ShardRefusal::InvalidSeq => INVALID_SEQ,
            ShardRefusal::Replaced => SESSION_REPLACED,
            ShardRefusal::FellBehind => SLOW_CONSUMER,
            ShardRefusal::NotRegistered => NOT_REGISTERED,
        })
    }
}

/// Why something about a room was refused, in the protocol's word.
pub(super) fn room_reason(error: &CallError) -> &'static str {
    match error {
        CallError::NoSuchRoom | CallError::BadRoomName(_) => "room_not_found",
        CallError::AlreadyMember(_) => "already_member",
        CallError::NotMember(_) => "not_member",
        CallError::NotAuthorized | CallError::Refused(_) => "not_authorized",
        CallError::TooManyRooms | CallError::TooManyRoomsOfConnection => "too_many_rooms",
        CallError::MessageRequired => "message_required",
        CallError::MessageIdTaken => "id_taken",
        _ => "unavailable",
    }
}

/// Refusals of the last minute.
#[derive(Debug, Default)]
pub(super) struct Strikes {
    at_ms: [Option<u64>; Self::MOST],
    next: usize,
}

impl Strikes {
    /// So many a client may be told in [`Strikes::WINDOW_MS`].
    const MOST: usize = 10;
    const WINDOW_MS: u64 = 60_000;

    /// Counts one. `true`: it is one too many.
    pub(super) fn add(&mut self, now_ms: u64) -> bool {
        let oldest = self.at_ms[self.next].replace(now_ms);
        self.next = (self.next + 1) % Self::MOST;
        oldest.is_some_and(|at_ms| now_ms.saturating_sub(at_ms) < Self::WINDOW_MS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_refusals_in_a_minute_are_borne() {
        let mut strikes = Strikes::default();
        assert!((0..10).all(|at_ms| !strikes.add(at_ms)));
        assert!(strikes.add(59_999));
        // The second of all was a minute ago, the third was not.
        assert!(!strikes.add(60_001));
        assert!(strikes.add(60_001));
    }

    #[test]
    fn only_what_tells_a_client_to_wait_does_not_count() {
        let verdict = |refusal: ShardRefusal| Verdict::from(&CallError::Shard(refusal));
        for (refusal, is_counted) in [
            (ShardRefusal::StartConcurrency { retry_ms: 7 }, false),
            (ShardRefusal::StartLimit { retry_ms: 7 }, true),
            (ShardRefusal::MasterRequired { retry_ms: 7 }, true),
            (ShardRefusal::Taken, true),
        ] {
            let Verdict::Refused(refusal) = verdict(refusal) else { panic!("{refusal} is an error") };
            assert_eq!(refusal.is_counted(), is_counted, "{refusal:?}");
        }
    }
}
