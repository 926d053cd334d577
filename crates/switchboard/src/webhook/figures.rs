//! How often backends were asked, and what came of it.

use std::sync::atomic::{AtomicU64, Ordering};

use super::Failure;

/// What a backend is asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Hook {
    /// May this action run (`hooks.action`)?
    Action,
    /// May somebody connect (`hooks.connect`)?
    Connect,
    /// May a connection join a room (`hooks.join`)?
    Join,
    /// Connections have left rooms (`hooks.leave`).
    Leave,
    /// Run an action (`actions.remote`).
    Remote,
    /// May this be said (`hooks.say`)?
    Say,
}

impl Hook {
    /// Every hook, in the order of the figures.
    pub const ALL: [Self; 6] = [Self::Action, Self::Connect, Self::Join, Self::Leave, Self::Remote, Self::Say];

    /// The word in requests, logs and figures.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Action => "action",
            Self::Connect => "connect",
            Self::Join => "join",
            Self::Leave => "leave",
            Self::Remote => "remote",
            Self::Say => "say",
        }
    }
}

/// Figures of one hook since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HookFigures {
    /// Requests that were answered, with whatever decision.
    pub answered: u64,
    /// Requests that failed: no connection, no time, no answer that says yes or no.
    pub failed: u64,
    /// Requests that were not made: the URL was being left alone, or too many waited for their turn.
    pub not_asked: u64,
    /// Leaves that were never reported: too many waited, or their report failed.
    pub dropped: u64,
}

/// [`HookFigures`] being counted.
#[derive(Debug, Default)]
pub(crate) struct Counters([Counter; Hook::ALL.len()]);

#[derive(Debug, Default)]
struct Counter {
    answered: AtomicU64,
    failed: AtomicU64,
    not_asked: AtomicU64,
    dropped: AtomicU64,
}

impl Counters {
    pub(super) fn count(&self, hook: Hook, failure: Option<&Failure>) {
        let counter = &self.0[hook as usize];
        let counted = match failure {
            None => &counter.answered,
            Some(Failure::Busy | Failure::Paused) => &counter.not_asked,
            Some(_) => &counter.failed,
        };
        counted.fetch_add(1, Ordering::Relaxed);
    }

    /// Leaves that nobody will hear of.
    pub(crate) fn drop_leaves(&self, count: u64) {
        self.0[Hook::Leave as usize].dropped.fetch_add(count, Ordering::Relaxed);
    }

    pub(crate) fn of(&self, hook: Hook) -> HookFigures {
        let Counter { answered, failed, not_asked, dropped } = &self.0[hook as usize];
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        HookFigures {
            answered: load(answered),
            failed: load(failed),
            not_asked: load(not_asked),
            dropped: load(dropped),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_hook_has_figures_of_its_own() {
        let counters = Counters::default();
        for (index, hook) in Hook::ALL.into_iter().enumerate() {
            assert_eq!(hook as usize, index);
            counters.count(hook, None);
            counters.count(hook, Some(&Failure::Timeout));
            counters.count(hook, Some(&Failure::Paused));
        }
        counters.drop_leaves(7);
        let expected = HookFigures { answered: 1, failed: 1, not_asked: 1, dropped: 0 };
        assert_eq!(counters.of(Hook::Say), expected);
        assert_eq!(counters.of(Hook::Leave), HookFigures { dropped: 7, ..expected });
    }
}
