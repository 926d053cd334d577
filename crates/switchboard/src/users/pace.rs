//! How much of the checks one address may take, and how refusals of an address that failed too often are delayed.
//!
//! A password is checked before anything is delayed, so a right one never waits for the refusals of wrong ones.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How many attempts each address, or each name at an address, has under way.
#[derive(Debug)]
pub(super) struct Shares<K> {
    max: usize,
    turns: usize,
    under_way: Mutex<HashMap<K, UnderWay>>,
}

#[derive(Debug)]
struct UnderWay {
    count: usize,
    turns: Arc<Semaphore>,
}

/// An attempt under way. Dropping it ends that.
pub(super) struct Share<'a, K: Eq + Hash> {
    shares: &'a Shares<K>,
    key: K,
    turns: Arc<Semaphore>,
}

impl<K: Clone + Eq + Hash> Shares<K> {
    /// Each key may have `max` attempts under way, and `turns` of them at the same time.
    pub(super) fn new(max: usize, turns: usize) -> Self {
        Self { max, turns, under_way: Mutex::default() }
    }

    /// Takes part in the share of a key; `None` if all of it is taken.
    pub(super) fn take(&self, key: K) -> Option<Share<'_, K>> {
        let mut all = self.under_way();
        let under_way = all
            .entry(key.clone())
            .or_insert_with(|| UnderWay { count: 0, turns: Arc::new(Semaphore::new(self.turns)) });
        (under_way.count < self.max).then(|| {
            under_way.count += 1;
            Share { shares: self, key, turns: Arc::clone(&under_way.turns) }
        })
    }
}

impl<K> Shares<K> {
    fn under_way(&self) -> MutexGuard<'_, HashMap<K, UnderWay>> {
        // Nothing under this lock panics.
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Eq + Hash> Share<'_, K> {
    /// Waits for a turn of the key, which lasts until the result is dropped.
    pub(super) async fn turn(&self) -> Option<OwnedSemaphorePermit> {
        // The semaphore is never closed.
        Arc::clone(&self.turns).acquire_owned().await.ok()
    }
}

impl<K: Eq + Hash> Drop for Share<'_, K> {
    fn drop(&mut self) {
        let mut all = self.shares.under_way();
        if let Some(under_way) = all.get_mut(&self.key) {
            under_way.count -= 1;
            if under_way.count == 0 {
                all.remove(&self.key);
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
        let shares = Shares::new(2, 1);
        let taken = [shares.take(address(1)), shares.take(address(1))];
        assert!(taken.iter().all(Option::is_some) && shares.take(address(1)).is_none());
        assert!(shares.take(address(2)).is_some());
        drop(taken);
        assert!(shares.take(address(1)).is_some());
        assert!(shares.under_way().is_empty());
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
