//! How often an address has failed lately: what limits guessing.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Wrong attempts by address within each second (`admin.failures_per_address`). What it holds is bounded by what can be
/// asked in a second, since every second begins anew.
#[derive(Debug)]
pub(crate) struct Failures {
    per_second: u32,
    counts: Mutex<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    second: u64,
    by_address: HashMap<IpAddr, u32>,
}

impl Failures {
    /// Allows `per_second` of them from one address; 0 allows any number.
    pub(crate) fn new(per_second: u32) -> Self {
        Self { per_second, counts: Mutex::default() }
    }

    /// Whether an address has failed too often in this second.
    pub(crate) fn is_over(&self, address: IpAddr, second: u64) -> bool {
        let is_over = |count: &u32| *count >= self.per_second;
        self.per_second > 0 && self.counts_of(second).by_address.get(&address).is_some_and(is_over)
    }

    /// Notes one more. `true`: it is the one that reached the limit.
    pub(crate) fn note(&self, address: IpAddr, second: u64) -> bool {
        if self.per_second == 0 {
            return false;
        }
        let mut counts = self.counts_of(second);
        let count = counts.by_address.entry(address).or_default();
        *count = count.saturating_add(1);
        *count == self.per_second
    }

    fn counts_of(&self, second: u64) -> MutexGuard<'_, Counts> {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if counts.second != second {
            counts.second = second;
            counts.by_address.clear();
        }
        counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fault_row_21_an_address_may_fail_so_often_in_a_second_and_others_do_not_count() {
        let failures = Failures::new(2);
        let from = |last| IpAddr::from([10, 0, 0, last]);
        assert!(!failures.note(from(1), 0) && !failures.is_over(from(1), 0));
        assert!(failures.note(from(1), 0) && failures.is_over(from(1), 0));
        assert!(!failures.note(from(1), 0), "told once");
        assert!(!failures.is_over(from(2), 0));
        assert!(!failures.is_over(from(1), 1));
        // Looking leaves nothing behind.
        assert_eq!(failures.counts.lock().unwrap().by_address.len(), 0);
        let off = Failures::new(0);
        assert!((0..100).all(|_| !off.note(from(1), 0) && !off.is_over(from(1), 0)));
    }
}
