//! How much of the checks one address may take, and how refusals of an address that failed too often are delayed.
//!
//! A password is checked before anything is delayed, so a right one never waits for the refusals of wrong ones.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How many attempts each address has under way.
#[derive(Debug)]
pub(super) struct Shares {
    max: usize,
    by_address: Mutex<HashMap<IpAddr, UnderWay>>,
}

#[derive(Debug, Default)]
struct UnderWay {
    count: usize,
    alone: Arc<tokio::sync::Mutex<()>>,
}

/// An attempt under way. Dropping it ends that.
pub(super) struct Share<'a> {
    shares: &'a Shares,
    address: IpAddr,
    alone: Arc<tokio::sync::Mutex<()>>,
}

impl Shares {
    pub(super) fn new(max: usize) -> Self {
        Self { max, by_address: Mutex::default() }
    }

    /// Takes part in the share of an address; `None` if all of it is taken.
    pub(super) fn take(&self, address: IpAddr) -> Option<Share<'_>> {
        let mut by_address = self.by_address();
        let under_way = by_address.entry(address).or_default();
        (under_way.count < self.max).then(|| {
            under_way.count += 1;
            Share { shares: self, address, alone: Arc::clone(&under_way.alone) }
        })
    }

    fn by_address(&self) -> MutexGuard<'_, HashMap<IpAddr, UnderWay>> {
        // Nothing under this lock panics.
        self.by_address.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Share<'_> {
    /// Waits until no other attempt of the address is alone. This one is until the result is dropped.
    pub(super) async fn alone(&self) -> tokio::sync::OwnedMutexGuard<()> {
        Arc::clone(&self.alone).lock_owned().await
    }
}

impl Drop for Share<'_> {
    fn drop(&mut self) {
        if let Entry::Occupied(mut under_way) = self.shares.by_address().entry(self.address) {
            under_way.get_mut().count -= 1;
            if under_way.get().count == 0 {
                under_way.remove();
            }
        }
    }
}

/// When each address that failed too often is refused next.
#[derive(Debug)]
pub(super) struct Pace {
    /// Time between two refusals of an address, in milliseconds.
    gap_ms: u64,
    lines: Mutex<HashMap<IpAddr, Line>>,
}

#[derive(Debug, Default)]
struct Line {
    /// The next free turn, on the monotonic clock.
    next_ms: u64,
    waiting: usize,
}

/// A refusal that waits. Dropping it ends that.
struct Wait<'a> {
    pace: &'a Pace,
    address: IpAddr,
}

impl Pace {
    /// Refusals of one address that may wait. The last one waits as many gaps: with gaps of one second, about as long as
    /// clients wait for an answer. Further ones do not wait.
    const MAX_WAITING: usize = 16;
    /// Addresses that are remembered, so at most 65,536 refusals wait in all. Refusals of further addresses do not wait.
    const MAX_ADDRESSES: usize = 4096;

    pub(super) fn new(gap: Duration) -> Self {
        Self { gap_ms: u64::try_from(gap.as_millis()).unwrap_or(u64::MAX), lines: Mutex::default() }
    }

    /// Waits for the address's next turn. Returns `false` at once if too many wait.
    pub(super) async fn turn(&self, address: IpAddr, now_ms: u64) -> bool {
        let Some((wait_ms, _wait)) = self.line_up(address, now_ms) else { return false };
        if wait_ms > 0 {
            tokio::time::sleep(Duration::from_millis(wait_ms)).await;
        }
        true
    }

    fn line_up(&self, address: IpAddr, now_ms: u64) -> Option<(u64, Wait<'_>)> {
        let mut lines = self.lines();
        if lines.len() >= Self::MAX_ADDRESSES && !lines.contains_key(&address) {
            lines.retain(|_, line| line.waiting > 0 || line.next_ms > now_ms);
            if lines.len() >= Self::MAX_ADDRESSES {
                return None;
            }
        }
        let line = lines.entry(address).or_default();
        if line.waiting >= Self::MAX_WAITING {
            return None;
        }
        line.waiting += 1;
        let turn_ms = line.next_ms.max(now_ms);
        line.next_ms = turn_ms.saturating_add(self.gap_ms);
        Some((turn_ms - now_ms, Wait { pace: self, address }))
    }

    fn lines(&self) -> MutexGuard<'_, HashMap<IpAddr, Line>> {
        // Nothing under this lock panics.
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        if let Some(line) = self.pace.lines().get_mut(&self.address) {
            line.waiting -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn address(last: u32) -> IpAddr {
        Ipv4Addr::from_bits(last).into()
    }

    #[test]
    fn fault_row_16_refusals_of_an_address_come_one_a_second_and_few_wait() {
        let pace = Pace::new(Duration::from_secs(1));
        let waits: Vec<_> = std::iter::from_fn(|| pace.line_up(address(1), 500)).collect();
        let expected: Vec<u64> = (0..16).map(|turn| turn * 1000).collect();
        assert_eq!(waits.iter().map(|(wait_ms, _)| *wait_ms).collect::<Vec<_>>(), expected);
        assert_eq!(pace.line_up(address(2), 500).map(|(wait_ms, _)| wait_ms), Some(0), "another address");
        drop(waits);
        assert_eq!(pace.line_up(address(1), 15_500).map(|(wait_ms, _)| wait_ms), Some(1000));
        assert_eq!(pace.line_up(address(1), 60_000).map(|(wait_ms, _)| wait_ms), Some(0));
    }

    #[test]
    fn fault_row_16_an_address_has_its_share_and_no_more() {
        let shares = Shares::new(2);
        let taken = [shares.take(address(1)), shares.take(address(1))];
        assert!(taken.iter().all(Option::is_some) && shares.take(address(1)).is_none());
        assert!(shares.take(address(2)).is_some());
        drop(taken);
        assert!(shares.take(address(1)).is_some());
        assert!(shares.by_address().is_empty());
    }

    #[test]
    fn fault_row_16_any_number_of_addresses_costs_bounded_memory() {
        let pace = Pace::new(Duration::from_secs(1));
        let most = Pace::MAX_ADDRESSES as u32;
        for last in 0..most {
            assert!(pace.line_up(address(last), 0).is_some());
        }
        assert!(pace.line_up(address(most), 999).is_none() && pace.line_up(address(0), 999).is_some());
        assert!(pace.line_up(address(most), 1000).is_some());
        assert!(pace.lines().len() <= 2, "{}", pace.lines().len());
    }
}
