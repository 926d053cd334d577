//! How often one address may connect.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use switchboard_proto::face::Remote;

/// Counts connections by address within each second (`limits.accepts_per_address`). What it holds is bounded by what is
/// accepted in a second, since every second begins anew.
#[derive(Debug)]
pub(crate) struct AcceptRate {
    per_second: u32,
    counts: Mutex<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    second: u64,
    by_address: HashMap<IpAddr, u32>,
}

impl AcceptRate {
    /// Allows `per_second` connections from one address; 0 allows any number.
    pub(crate) fn new(per_second: u32) -> Self {
        Self { per_second, counts: Mutex::default() }
    }

    /// Whether one more may come. Unix sockets have no address and always may.
    pub(crate) fn allows(&self, remote: Remote, now_ms: u64) -> bool {
        let (Remote::Ip(ip, _), 1..) = (remote, self.per_second) else { return true };
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let second = now_ms / 1000;
        if counts.second != second {
            counts.second = second;
            counts.by_address.clear();
        }
        let count = counts.by_address.entry(ip).or_default();
        *count = count.saturating_add(1);
        *count <= self.per_second
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fault_row_27_an_address_may_connect_so_often_in_a_second_and_others_do_not_count() {
        let rate = AcceptRate::new(2);
        let from = |last| Remote::Ip(IpAddr::from([10, 0, 0, last]), 1);
        assert!(rate.allows(from(1), 0) && rate.allows(from(1), 999));
        assert!(!rate.allows(from(1), 999));
        assert!(rate.allows(from(2), 999));
        assert!(rate.allows(from(1), 1000));
        assert_eq!(rate.counts.lock().unwrap().by_address.len(), 1);
        assert!((0..100).all(|_| rate.allows(Remote::Unix, 0)));
        assert!((0..100).all(|_| AcceptRate::new(0).allows(from(1), 0)));
    }
}
