//! How often an address has failed lately: what limits guessing.

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Failed attempts by address. One after the other is forgiven as time passes, so there is no moment at which an address may
/// fail more often than at others. The caller passes the time, in milliseconds of a monotonic clock.
#[derive(Debug)]
pub(crate) struct Failures {
    most: u32,
    /// Time after which one failure is forgiven, in microseconds.
    pardon_us: u64,
    debts: Mutex<Debts>,
}

#[derive(Debug, Default)]
struct Debts {
    by_address: HashMap<IpAddr, Debt>,
    /// The same addresses, the one that is free of failures first comes first.
    by_end: BTreeSet<(u64, IpAddr)>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Debt {
    /// When all failures are forgiven, in microseconds.
    end_us: u64,
    /// The address has reached the limit since its first failure.
    is_reported: bool,
}

impl Failures {
    /// Addresses that are remembered. When there are more, the one that is forgiven first is forgotten.
    const MOST_ADDRESSES: usize = 65_536;

    /// Allows `most` of them from one address, and `most` more in each window; 0 allows any number.
    pub(crate) fn new(most: u32, window: Duration) -> Self {
        let window_us = u64::try_from(window.as_micros()).unwrap_or(u64::MAX);
        Self { most, pardon_us: (window_us / u64::from(most.max(1))).max(1), debts: Mutex::default() }
    }

    /// Milliseconds until an address that has failed too often may try again; `None`: it may now.
    pub(crate) fn retry_ms(&self, address: IpAddr, now_ms: u64) -> Option<u64> {
        let end_us = self.debts().by_address.get(&Self::network(address))?.end_us;
        self.retry_us(end_us, now_ms.saturating_mul(1000)).map(|wait_us| wait_us.div_ceil(1000))
    }

    fn retry_us(&self, end_us: u64, now_us: u64) -> Option<u64> {
        // Later than this, one attempt fits into the limit.
        let free_us = end_us.saturating_sub(self.pardon_us.saturating_mul(u64::from(self.most).saturating_sub(1)));
        free_us.checked_sub(now_us).filter(|wait_us| *wait_us > 0)
    }

    /// Notes one more. Returns `true` if it is the one that reached the limit, once until all are forgiven.
    pub(crate) fn note(&self, address: IpAddr, now_ms: u64) -> bool {
        if self.most == 0 {
            return false;
        }
        let (now_us, network) = (now_ms.saturating_mul(1000), Self::network(address));
        let mut debts = self.debts();
        let mut debt = debts.remove(network).filter(|debt| debt.end_us > now_us).unwrap_or_default();
        // An address that goes on when it is over the limit does not have to wait longer for that.
        let most_us = now_us.saturating_add(self.pardon_us.saturating_mul(u64::from(self.most)));
        debt.end_us = debt.end_us.max(now_us).saturating_add(self.pardon_us).min(most_us);
        let has_reached = !debt.is_reported && self.retry_us(debt.end_us, now_us).is_some();
        debt.is_reported |= has_reached;
        debts.make_space(now_us, Self::MOST_ADDRESSES);
        debts.by_end.insert((debt.end_us, network));
        debts.by_address.insert(network, debt);
        has_reached
    }

    /// The network that counts as one: an IPv4 address, or the first 64 bits of an IPv6 address, because a host that has
    /// one address of such a network has all.
    pub(crate) fn network(address: IpAddr) -> IpAddr {
        match address.to_canonical() {
            IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
            v4 => v4,
        }
    }

    fn debts(&self) -> MutexGuard<'_, Debts> {
        // Nothing under this lock panics.
        self.debts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Debts {
    fn remove(&mut self, network: IpAddr) -> Option<Debt> {
        let debt = self.by_address.remove(&network)?;
        self.by_end.remove(&(debt.end_us, network));
        Some(debt)
    }

    /// Forgets the addresses whose failures are forgiven, and at the limit the one that would be next.
    fn make_space(&mut self, now_us: u64, max: usize) {
        while let Some((end_us, network)) = self.by_end.first().copied()
            && (end_us <= now_us || self.by_end.len() >= max)
        {
            self.remove(network);
        }
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
    fn fault_row_21_an_address_may_fail_so_often_and_others_do_not_count() {
        let failures = Failures::new(2, SECOND);
        assert!(!failures.note(from(1), 0) && failures.retry_ms(from(1), 0).is_none());
        assert!(failures.note(from(1), 0), "it reached the limit");
        assert_eq!((failures.retry_ms(from(1), 0), failures.retry_ms(from(1), 499)), (Some(500), Some(1)));
        assert!(!failures.note(from(1), 400), "the limit is reported once");
        assert_eq!((failures.retry_ms(from(1), 400), failures.retry_ms(from(2), 400)), (Some(500), None));
        assert_eq!(failures.retry_ms(from(1), 900), None, "one is forgiven");
        assert!(!failures.note(from(1), 900) && failures.retry_ms(from(1), 900) == Some(500));
        assert_eq!(failures.debts().by_address.len(), 1, "a look keeps nothing");
        assert!(!failures.note(from(1), 5000) && failures.note(from(1), 5000), "all were forgiven in between");
        let off = Failures::new(0, SECOND);
        assert!((0..100).all(|_| !off.note(from(1), 0) && off.retry_ms(from(1), 0).is_none()));
    }

    #[test]
    fn fault_row_62_no_moment_allows_more_failures_than_others() {
        // In each of these seconds an address tries as often as it may, from another millisecond on.
        for begin_ms in (0..60_000).step_by(777) {
            let failures = Failures::new(30, Duration::from_secs(60));
            let mut allowed = 0;
            for now_ms in (begin_ms..begin_ms + 20_000).step_by(50) {
                if failures.retry_ms(from(1), now_ms).is_none() {
                    allowed += 1;
                }
                failures.note(from(1), now_ms);
            }
            assert_eq!(allowed, 30, "an address that does not stop is not forgiven; began at {begin_ms} ms");
        }
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
    fn fault_row_21_any_number_of_addresses_costs_bounded_memory_and_the_latest_count() {
        let failures = Failures::new(1, SECOND);
        let most = u32::try_from(Failures::MOST_ADDRESSES).unwrap();
        for last in 0..most {
            failures.note(from(last), 0);
        }
        assert!(failures.retry_ms(from(0), 0).is_some() && failures.retry_ms(from(most - 1), 0).is_some());
        failures.note(from(most), 1);
        assert_eq!(failures.debts().by_address.len(), Failures::MOST_ADDRESSES);
        assert!(failures.retry_ms(from(most), 1).is_some() && failures.retry_ms(from(0), 1).is_none());
        assert!(failures.retry_ms(from(1), 1).is_some(), "only one is forgotten");
        failures.note(from(0), 2000);
        assert_eq!(failures.debts().by_address.len(), 1);
        assert_eq!(failures.debts().by_end.len(), 1);
    }
}
