//! How often somebody may do something.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};

/// A bucket for each who did it lately: it fills with the rate, and each time takes one.
#[derive(Debug)]
pub(super) struct SendRates<K> {
    per_second: u32,
    burst: u32,
    buckets: Mutex<HashMap<K, Bucket>>,
}

#[derive(Clone, Copy, Debug)]
struct Bucket {
    /// Thousandths of how often it may be done.
    left: u64,
    at_ms: u64,
}

impl<K: Eq + Hash> SendRates<K> {
    /// Buckets that are kept; those of whoever has not done it for long enough are full, and go first.
    const MOST: usize = 10_000;

    /// With a rate of 0 everybody may do it as often as he likes.
    pub(super) fn new(per_second: u32, burst: u32) -> Self {
        Self { per_second, burst, buckets: Mutex::default() }
    }

    /// Does it once, or says in how many milliseconds it may be done.
    pub(super) fn take(&self, who: K, now_ms: u64) -> Result<(), u64> {
        if self.per_second == 0 {
            return Ok(());
        }
        let full = u64::from(self.burst) * 1000;
        let per_second = u64::from(self.per_second);
        let filled = |bucket: &Bucket| {
            let elapsed_ms = now_ms.saturating_sub(bucket.at_ms);
            full.min(bucket.left.saturating_add(elapsed_ms.saturating_mul(per_second)))
        };
        // Nothing under this lock can panic half way.
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.len() >= Self::MOST {
            buckets.retain(|_, bucket| filled(bucket) < full);
        }
        let bucket = buckets.entry(who).or_insert(Bucket { left: full, at_ms: now_ms });
        *bucket = Bucket { left: filled(bucket), at_ms: now_ms };
        match bucket.left.checked_sub(1000) {
            Some(left) => {
                bucket.left = left;
                Ok(())
            }
            None => Err((1000 - bucket.left).div_ceil(per_second)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_may_be_said_at_once_and_then_as_much_as_the_rate_allows() {
        let rates = SendRates::new(5, 3);
        let [ann, bob] = ["ann", "bob"];
        for _ in 0..3 {
            assert_eq!(rates.take(ann, 1000), Ok(()));
        }
        assert_eq!(rates.take(ann, 1000), Err(200));
        assert_eq!(rates.take(ann, 1150), Err(50));
        assert_eq!((rates.take(bob, 1150), rates.take(ann, 1200)), (Ok(()), Ok(())));
        assert_eq!(rates.take(ann, 1200), Err(200));
        for _ in 0..3 {
            assert_eq!(rates.take(ann, 60_000), Ok(()));
        }
        assert_eq!(rates.take(ann, 60_000), Err(200));
        let unlimited = SendRates::new(0, 1);
        assert!((0..100).all(|_| unlimited.take(ann, 0).is_ok()));
    }
}
