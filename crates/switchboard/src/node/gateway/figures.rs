//! What the gateway counts.

use std::sync::atomic::{AtomicU64, Ordering};

use switchboard_proto::call::{Answer, CallError, Outcome};
use switchboard_proto::shard::{ShardAnswer, ShardRefusal};

use super::super::Node;

/// Counters of a gateway.
#[derive(Debug, Default)]
pub(in crate::node) struct Counters {
    registrations: [AtomicU64; Beginning::ALL.len()],
    resumes: [AtomicU64; Beginning::ALL.len()],
    appended: [AtomicU64; Source::ALL.len()],
    replayed: AtomicU64,
}

/// Figures of the gateway since the start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GatewayFigures {
    /// Registrations by what became of them, in the order of [`Beginning::ALL`].
    pub registrations: [u64; Beginning::ALL.len()],
    /// Resumes, likewise.
    pub resumes: [u64; Beginning::ALL.len()],
    /// Events that were appended to logs, one for each event and session, in the order of [`Source::ALL`].
    pub appended: [u64; Source::ALL.len()],
    /// Events that waited in logs when their sessions were resumed.
    pub replayed: u64,
}

/// What became of a registration or a resume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beginning {
    /// The connection carries the session.
    Began,
    /// No application has these credentials.
    BadCredentials,
    /// There was nothing to resume.
    Invalid,
    /// The shard does not fit its fleet, is not allowed, or has to wait for shard 0.
    BadShard,
    /// Too many registered, at once or today.
    TooMany,
    /// Another connection carries the shard (`servers.gateway.duplicate_shard`).
    Taken,
    /// The store failed, or the connection ended meanwhile.
    Failed,
}

impl Beginning {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::Began, Self::BadCredentials, Self::Invalid, Self::BadShard, Self::TooMany, Self::Taken, Self::Failed];

    /// The word for it in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Began => "ok",
            Self::BadCredentials => "bad_credentials",
            Self::Invalid => "invalid",
            Self::BadShard => "bad_shard",
            Self::TooMany => "too_many",
            Self::Taken => "taken",
            Self::Failed => "failed",
        }
    }

    fn of(outcome: &Outcome) -> Self {
        let Err(error) = outcome else { return Self::Began };
        let CallError::Shard(refusal) = error else { return Self::Failed };
        match refusal {
            ShardRefusal::BadCredentials => Self::BadCredentials,
            ShardRefusal::Invalid => Self::Invalid,
            ShardRefusal::InvalidShard | ShardRefusal::DevelopmentNotAllowed | ShardRefusal::MasterRequired { .. } => {
                Self::BadShard
            }
            ShardRefusal::StartConcurrency { .. } | ShardRefusal::StartLimit { .. } => Self::TooMany,
            ShardRefusal::Taken => Self::Taken,
            ShardRefusal::InvalidSeq
            | ShardRefusal::Replaced
            | ShardRefusal::FellBehind
            | ShardRefusal::NotRegistered => Self::Failed,
        }
    }
}

/// Where an event comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// It was published: an event of the application, or an interaction.
    Published,
    /// A room said it, or it tells of a gap in a room.
    Room,
    /// Server code told the session.
    Message,
}

impl Source {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Published, Self::Room, Self::Message];

    /// The word for it in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Published => "published",
            Self::Room => "room",
            Self::Message => "message",
        }
    }
}

impl Counters {
    pub(super) fn count_registration(&self, outcome: &Outcome) {
        self.registrations[Beginning::of(outcome) as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_resume(&self, outcome: &Outcome) {
        self.resumes[Beginning::of(outcome) as usize].fetch_add(1, Ordering::Relaxed);
        if let Ok(Answer::Shard(ShardAnswer::Began(began))) = outcome {
            self.replayed.fetch_add(began.last.saturating_sub(began.after), Ordering::Relaxed);
        }
    }

    pub(super) fn count_appended(&self, source: Source, count: u64) {
        self.appended[source as usize].fetch_add(count, Ordering::Relaxed);
    }
}

impl Node {
    /// Figures of the gateway since the start.
    pub fn gateway_figures(&self) -> GatewayFigures {
        let counters = &self.0.gateway.counters;
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        GatewayFigures {
            registrations: counters.registrations.each_ref().map(load),
            resumes: counters.resumes.each_ref().map(load),
            appended: counters.appended.each_ref().map(load),
            replayed: load(&counters.replayed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_stand_in_the_order_of_their_words() {
        for (index, beginning) in Beginning::ALL.into_iter().enumerate() {
            assert_eq!(beginning as usize, index, "{beginning:?}");
        }
        for (index, source) in Source::ALL.into_iter().enumerate() {
            assert_eq!(source as usize, index, "{source:?}");
        }
    }
}
