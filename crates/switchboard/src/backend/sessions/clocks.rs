//! Times of commands: for each of those who run some, every one is later than the one before.

use std::collections::HashMap;

/// The clocks of all who run commands, below one ceiling.
///
/// A store that survives a restart keeps the ceiling, and begins above it when it is opened again. So a time costs no write.
#[derive(Debug)]
pub(in crate::backend) struct Clocks {
    /// The latest time of each.
    latest: HashMap<Box<str>, u64>,
    max_clocks: usize,
    /// The latest time of those for whom there was no place, and never less than the floor, from where new clocks start.
    shared: u64,
    /// The latest time that was given to anybody.
    highest: u64,
    /// The latest time that may be given.
    ceiling: u64,
}

/// A time above the ceiling, which must be raised first.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::backend) struct AboveCeiling(pub(in crate::backend) u64);

impl Clocks {
    /// Clocks whose times are above `floor`, and at most `ceiling`.
    pub(in crate::backend) fn new(max_clocks: usize, floor: u64, ceiling: u64) -> Self {
        Self { latest: HashMap::new(), max_clocks, shared: floor, highest: floor, ceiling }
    }

    /// The next time of `who`.
    pub(in crate::backend) fn next(&mut self, who: &str, now_ms: u64) -> Result<u64, AboveCeiling> {
        let has_place = self.latest.len() < self.max_clocks;
        let own = self.latest.get_mut(who);
        // Whoever shared a clock until now goes on above it.
        let latest = own.as_deref().copied().unwrap_or(self.shared);
        let time = now_ms.max(latest.saturating_add(1));
        if time > self.ceiling {
            return Err(AboveCeiling(time));
        }
        match own {
            Some(latest) => *latest = time,
            None if has_place => {
                self.latest.insert(who.into(), time);
            }
            None => self.shared = time,
        }
        self.highest = self.highest.max(time);
        Ok(time)
    }

    /// Forgets the clock of `who`.
    pub(in crate::backend) fn forget(&mut self, who: &str) {
        self.latest.remove(who);
    }

    /// The latest time that was given to anybody.
    pub(in crate::backend) fn highest(&self) -> u64 {
        self.highest
    }

    /// The latest time that may be given.
    pub(in crate::backend) fn ceiling(&self) -> u64 {
        self.ceiling
    }

    /// Lets times rise up to `ceiling`.
    pub(in crate::backend) fn raise(&mut self, ceiling: u64) {
        self.ceiling = self.ceiling.max(ceiling);
    }

    /// Gives no more times, and returns the latest.
    pub(in crate::backend) fn stop(&mut self) -> u64 {
        self.ceiling = self.highest;
        self.highest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_follow_the_clock_and_rise_when_it_stands_or_goes_back() {
        let mut clocks = Clocks::new(8, 0, u64::MAX);
        let times: Vec<_> = [500, 500, 500, 20, 700].iter().map(|now| clocks.next("u", *now)).collect();
        assert_eq!(times, [Ok(500), Ok(501), Ok(502), Ok(503), Ok(700)]);
        assert_eq!(clocks.next("v", 20), Ok(20), "others have a clock of their own");
    }

    #[test]
    fn whoever_finds_no_place_shares_a_clock_that_rises_too() {
        let mut clocks = Clocks::new(1, 0, u64::MAX);
        assert_eq!(clocks.next("a", 10), Ok(10));
        assert_eq!(clocks.next("b", 10), Ok(10));
        assert_eq!(clocks.next("c", 10), Ok(11));
        assert_eq!(clocks.next("b", 10), Ok(12));
        assert_eq!(clocks.latest.len(), 1);
        clocks.forget("a");
        assert_eq!(clocks.next("b", 10), Ok(13), "it goes on above what it was given from the shared clock");
        assert_eq!(clocks.next("b", 10), Ok(14));
        assert_eq!(clocks.next("c", 10), Ok(13));
    }

    #[test]
    fn no_time_is_above_the_ceiling_or_below_the_floor() {
        let mut clocks = Clocks::new(8, 100, 101);
        assert_eq!(clocks.next("u", 50), Ok(101));
        assert_eq!(clocks.next("u", 50), Err(AboveCeiling(102)));
        assert_eq!(clocks.next("v", 200), Err(AboveCeiling(200)));
        assert_eq!(clocks.highest(), 101);
        clocks.raise(102);
        clocks.raise(7);
        assert_eq!(clocks.ceiling(), 102);
        assert_eq!(clocks.next("u", 50), Ok(102), "a time that was refused is not used up");
    }
}
