//! Tokens that were revoked, as this node remembers them.
//!
//! A failover may lose the write that revoked a token, and then the token would be valid again. So each node
//! remembers the revocations that it made or heard of, refuses these tokens itself, and revokes them again when the
//! store may have lost something.

use std::collections::{HashSet, VecDeque};

use crate::backend::sessions::TokenHash;

/// Revocations that are remembered; beyond it the oldest are forgotten. They take about 6 MB. A failover loses the
/// latest writes, and this many logouts take a cluster much longer than a replica lags.
const MOST: usize = 65_536;

#[derive(Debug, Default)]
pub(super) struct Revoked {
    known: HashSet<TokenHash>,
    /// The oldest first.
    order: VecDeque<TokenHash>,
}

impl Revoked {
    pub(super) fn note(&mut self, hash: TokenHash) {
        if !self.known.insert(hash) {
            return;
        }
        self.order.push_back(hash);
        if self.order.len() > MOST
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
    }

    /// A token with this hash was made. The system draws no token twice, but a caller may add what it has removed.
    pub(super) fn forget(&mut self, hash: &TokenHash) {
        if self.known.remove(hash) {
            self.order.retain(|other| other != hash);
        }
    }

    pub(super) fn contains(&self, hash: &TokenHash) -> bool {
        self.known.contains(hash)
    }

    pub(super) fn all(&self) -> Vec<TokenHash> {
        self.order.iter().copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_revocations_are_remembered_up_to_a_limit() {
        let mut revoked = Revoked::default();
        let hash = |number: usize| TokenHash::of(&number.to_string());
        for number in [0, 0].into_iter().chain(0..MOST + 2) {
            revoked.note(hash(number));
        }
        assert_eq!([0, 1, 2, MOST + 1].map(|number| revoked.contains(&hash(number))), [false, false, true, true]);
        assert_eq!((revoked.all().len(), revoked.all()[0]), (MOST, hash(2)));
        revoked.forget(&hash(2));
        assert!(!revoked.contains(&hash(2)) && revoked.all()[0] == hash(3));
    }
}
