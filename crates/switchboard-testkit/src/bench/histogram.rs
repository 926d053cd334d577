//! Durations in logarithmic buckets: fixed memory, any range, an error below 1.6 %.

/// Counts of values, by size.
///
/// Every power of two is cut into 64 equal buckets, and values below 64 have a bucket each. Recording is a few
/// instructions and never allocates, because the generator does it for every delivery.
#[derive(Clone, Debug)]
pub struct Histogram {
    buckets: Box<[u64]>,
    count: u64,
}

impl Histogram {
    /// An empty histogram.
    pub fn new() -> Self {
        Self { buckets: vec![0; bucket_of(u64::MAX) + 1].into_boxed_slice(), count: 0 }
    }

    /// Counts one value.
    pub fn record(&mut self, value: u64) {
        self.buckets[bucket_of(value)] += 1;
        self.count += 1;
    }

    /// How many values were counted.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Counts the values of another histogram too.
    pub fn add(&mut self, other: &Self) {
        self.buckets.iter_mut().zip(&other.buckets).for_each(|(mine, other)| *mine += other);
        self.count += other.count;
    }

    /// Forgets all values.
    pub fn clear(&mut self) {
        self.buckets.fill(0);
        self.count = 0;
    }

    /// The value that `share` (0 to 1) of all values do not exceed, rounded up to the end of its bucket; 0 if empty.
    pub fn quantile(&self, share: f64) -> u64 {
        let wanted = ((self.count as f64 * share).ceil() as u64).clamp(1, self.count.max(1));
        let mut seen = 0;
        for (bucket, count) in self.buckets.iter().enumerate() {
            seen += count;
            if seen >= wanted {
                return last_in(bucket);
            }
        }
        0
    }
}

impl Default for Histogram {
    fn default() -> Self {
        Self::new()
    }
}

/// As many buckets as this, in bits, are in every power of two.
const BITS: u32 = 6;

fn bucket_of(value: u64) -> usize {
    let magnitude = 63 - (value | 1).leading_zeros();
    if magnitude < BITS {
        return value as usize;
    }
    let shift = magnitude - BITS;
    // The value without its shifted-out bits still has its leading one, which counts as the first 64 of the sum.
    ((shift as usize) << BITS) + (value >> shift) as usize
}

fn last_in(bucket: usize) -> u64 {
    let shift = (bucket >> BITS).saturating_sub(1);
    let lead = (bucket - (shift << BITS)) as u64;
    (lead << shift) + ((1 << shift) - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_lies_in_its_bucket_and_close_to_its_end() {
        let mut value = 0_u64;
        while value < u64::MAX / 3 {
            let end = last_in(bucket_of(value));
            assert!(value <= end, "{value} lies behind the end {end} of its bucket");
            assert!((end - value) as f64 <= value as f64 / 64.0, "{end} is too far from {value}");
            assert_eq!(bucket_of(end) + 1, bucket_of(end + 1), "a gap between the buckets behind {end}");
            value += value / 3 + 1;
        }
        assert_eq!(last_in(bucket_of(u64::MAX)), u64::MAX);
    }

    #[test]
    fn quantiles_of_small_values_are_exact() {
        let mut histogram = Histogram::new();
        (1..=50).for_each(|value| histogram.record(value));
        assert_eq!(histogram.quantile(0.5), 25);
        assert_eq!(histogram.quantile(0.99), 50);
        assert_eq!(histogram.quantile(0.0), 1);
        assert_eq!(histogram.count(), 50);
    }

    #[test]
    fn an_empty_histogram_answers_zero() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.quantile(0.99), 0);
        histogram.record(1_000_000);
        histogram.clear();
        assert_eq!((histogram.count(), histogram.quantile(0.5)), (0, 0));
    }
}
