//! Whether this node may serve its clients: it is a member, and hears what is published for it.

use super::Membership;
use crate::backend::cluster::ClusterState;

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ServiceStep {
    /// Subscribe to the channels of this slot. The result goes to [`Service::listened`].
    Listen(u16),
    /// Nothing before this time, unless the membership or the hearing changes.
    WaitUntil(Option<u64>),
}

/// See the [module](self).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Service {
    state: ClusterState,
    membership: Membership,
    is_hearing: bool,
    /// The slot whose channels were asked for last.
    slot: u16,
    /// They are confirmed.
    is_listening: bool,
    /// When to ask for them again.
    retry_ms: u64,
    /// How often the node began to serve.
    periods: u64,
}

impl Service {
    /// Pause after which channels that were not confirmed are asked for again.
    pub(crate) const RETRY_MS: u64 = 500;

    /// A node that hears the channels of its slot and serves.
    pub(crate) fn new(slot: u16, generation: u64) -> Self {
        Self {
            state: ClusterState::Up { generation, period: 0 },
            membership: Membership::Member { slot, generation },
            is_hearing: true,
            slot,
            is_listening: true,
            retry_ms: 0,
            periods: 0,
        }
    }

    /// The membership is this one now.
    pub(crate) fn note_membership(&mut self, membership: Membership) {
        self.membership = membership;
        self.decide();
    }

    /// Whether everything that is published is heard has changed. A second "yes" follows a "no" that the caller missed.
    pub(crate) fn note_hearing(&mut self, is_hearing: bool) {
        self.is_hearing = false;
        self.is_listening = false;
        self.retry_ms = 0;
        self.decide();
        self.is_hearing = is_hearing;
    }

    /// The channels of `slot` were asked for: they are confirmed, or not in time.
    pub(crate) fn listened(&mut self, now_ms: u64, slot: u16, is_confirmed: bool) {
        self.slot = slot;
        self.is_listening = is_confirmed;
        self.retry_ms = if is_confirmed { 0 } else { now_ms.saturating_add(Self::RETRY_MS) };
        self.decide();
    }

    /// Returns what to do at `now_ms`.
    pub(crate) fn next(&self, now_ms: u64) -> ServiceStep {
        match self.membership {
            Membership::Member { slot, .. } if self.is_hearing && !self.listens_as(slot) => {
                // A new slot is not delayed by the failure of the one before.
                if slot == self.slot && now_ms < self.retry_ms {
                    ServiceStep::WaitUntil(Some(self.retry_ms))
                } else {
                    ServiceStep::Listen(slot)
                }
            }
            _ => ServiceStep::WaitUntil(None),
        }
    }

    /// The slot whose channels were asked for last.
    pub(crate) fn slot(&self) -> u16 {
        self.slot
    }

    /// State of this node.
    pub(crate) fn state(&self) -> ClusterState {
        self.state
    }

    fn listens_as(&self, slot: u16) -> bool {
        self.is_listening && self.slot == slot
    }

    fn decide(&mut self) {
        let is_fenced = matches!(self.state, ClusterState::Fenced { .. });
        self.state = match self.membership {
            Membership::Member { slot, generation } if self.is_hearing && self.listens_as(slot) => {
                if !matches!(self.state, ClusterState::Up { .. }) {
                    self.periods += 1;
                }
                ClusterState::Up { generation, period: self.periods }
            }
            Membership::Fenced { incarnation } => ClusterState::Fenced { incarnation },
            // A fenced node stays so until it serves again.
            _ if is_fenced => self.state,
            _ => ClusterState::Down,
        };
    }
}
