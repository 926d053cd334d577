//! How often an address has failed lately: what limits guessing.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Failed attempts by address within each window of time. Whoever owns a clock passes it in.
#[derive(Debug)]
pub(crate) struct Failures {
    most: u32,
    window_ms: u64,
    counts: Mutex<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    /// Windows since the clock began.
    window: u64,
    by_address: HashMap<IpAddr, u32>,
}

impl Failures {
    /// Addresses that are told apart in one window. When there are more, all are forgotten: who has that many addresses is
    /// not stopped by counting them.
    const MOST_ADDRESSES: usize = 65_536;

    /// Allows `most` of them from one address in each window; 0 allows any number.
    pub(crate) fn new(most: u32, window: Duration) -> Self {
        let window_ms = u64::try_from(window.as_millis()).unwrap_or(u64::MAX).max(1);
        Self { most, window_ms, counts: Mutex::default() }
    }

    /// Milliseconds until an address that has failed too often may try again; `None`: it may now.
    pub(crate) fn retry_ms(&self, address: IpAddr, now_ms: u64) -> Option<u64> {
        let is_over = |count: &u32| *count >= self.most;
        let over = self.most > 0 && self.counts_at(now_ms).by_address.get(&Self::network(address)).is_some_and(is_over);
        over.then(|| self.window_ms - now_ms % self.window_ms)
    }

    /// Notes one more. `true`: it is the one that reached the limit.
    pub(crate) fn note(&self, address: IpAddr, now_ms: u64) -> bool {
        if self.most == 0 {
            return false;
        }
        let (mut counts, network) = (self.counts_at(now_ms), Self::network(address));
        if counts.by_address.len() >= Self::MOST_ADDRESSES && !counts.by_address.contains_key(&network) {
            counts.by_address.clear();
        }
        let count = counts.by_address.entry(network).or_default();
        *count = count.saturating_add(1);
        *count == self.most
    }

    /// The network that counts as one: an IPv4 address, or the first 64 bits of an IPv6 address, because a host that has
    /// one address of such a network has all.
    pub(crate) fn network(address: IpAddr) -> IpAddr {
        match address.to_canonical() {
            IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
            v4 => v4,
        }
    }

    fn counts_at(&self, now_ms: u64) -> MutexGuard<'_, Counts> {
        let window = now_ms / self.window_ms;
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        // An attempt that took long brings a time of an earlier window; it counts in the present one.
        if counts.window < window {
            counts.window = window;
            counts.by_address.clear();
        }
        counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn from(last: u32) -> IpAddr {
        std::net::Ipv4Addr::from_bits(0x0a00_0000 + last).into()
    }

    #[test]
    fn fault_row_21_an_address_may_fail_so_often_in_a_window_and_others_do_not_count() {
        let failures = Failures::new(2, SECOND);
        assert!(!failures.note(from(1), 0) && failures.retry_ms(from(1), 0).is_none());
        assert!(failures.note(from(1), 400), "the one that reached the limit");
        assert_eq!(failures.retry_ms(from(1), 400), Some(600));
        assert!(!failures.note(from(1), 999), "told once");
        assert_eq!((failures.retry_ms(from(1), 999), failures.retry_ms(from(2), 999)), (Some(1), None));
        assert_eq!(failures.retry_ms(from(1), 1000), None);
        // Looking leaves nothing behind.
        assert_eq!(failures.counts.lock().unwrap().by_address.len(), 0);
        let off = Failures::new(0, SECOND);
        assert!((0..100).all(|_| !off.note(from(1), 0) && off.retry_ms(from(1), 0).is_none()));
    }

    #[test]
    fn fault_row_21_a_network_of_ipv6_counts_as_one_address() {
        let failures = Failures::new(1, SECOND);
        let is_over = |address: &str| failures.retry_ms(address.parse().unwrap(), 0).is_some();
        failures.note("2001:db8:0:1::1".parse().unwrap(), 0);
        failures.note("::ffff:10.0.0.1".parse().unwrap(), 0);
        assert!(is_over("2001:db8:0:1:ffff::2") && !is_over("2001:db8:0:2::1"));
        assert!(is_over("10.0.0.1") && !is_over("10.0.0.2") && !is_over("::ffff:10.0.0.2"));
    }

    #[test]
    fn fault_row_21_any_number_of_addresses_costs_bounded_memory() {
        let failures = Failures::new(1, SECOND);
        let most = u32::try_from(Failures::MOST_ADDRESSES).unwrap();
        for last in 0..most {
            failures.note(from(last), 0);
        }
        assert!(failures.retry_ms(from(0), 0).is_some() && failures.retry_ms(from(most - 1), 0).is_some());
        failures.note(from(most), 0);
        assert_eq!(failures.counts.lock().unwrap().by_address.len(), 1);
        assert!(failures.retry_ms(from(most), 0).is_some() && failures.retry_ms(from(0), 0).is_none());
    }
}
