//! Time as an argument. Whoever owns a clock reads it once and passes it down.

use std::cell::Cell;

/// One reading of the clocks, taken once per turn of a worker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// Milliseconds since the process started; never goes back. For deadlines.
    pub monotonic_ms: u64,
    /// Milliseconds since 1970 in UTC; may jump. For people, and for nothing else.
    pub unix_ms: u64,
    /// Microseconds since the last of [`Self::monotonic_ms`] began: 0 to 999. For measuring.
    pub micros: u16,
}

impl Now {
    /// Microseconds since the process started; never goes back. For measuring.
    pub fn monotonic_us(&self) -> u64 {
        self.monotonic_ms.saturating_mul(1000).saturating_add(self.micros.into())
    }
}

/// Times that strictly rise, for clients that ignore what is not later than the last they saw.
#[derive(Debug, Default)]
pub struct Stamps {
    last_ms: Cell<u64>,
}

impl Stamps {
    /// A time in milliseconds since 1970: `at_ms`, or one more than the last, whichever is later.
    pub fn next(&self, at_ms: u64) -> u64 {
        self.last_ms.set(at_ms.max(self.last_ms.get() + 1));
        self.last_ms.get()
    }
}

/// A time in milliseconds since 1970 as ISO 8601 has it, in UTC: `2014-05-06T16:11:19.346Z`.
pub fn iso_8601(unix_ms: u64) -> String {
    let (days, ms) = (unix_ms / 86_400_000, unix_ms % 86_400_000);
    // Years that begin in March have their leap day at the end: 146,097 days are 400 of them.
    let day = days + 719_468;
    let (era, day) = (day / 146_097, day % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let march_month = (5 * day + 2) / 153;
    let day = day - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    let year = era * 400 + year + u64::from(month <= 2);
    let (hour, minute, second) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1000 % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z", ms % 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_rise_when_the_clock_does_not() {
        let stamps = Stamps::default();
        assert_eq!([10, 10, 9, 20].map(|at_ms| stamps.next(at_ms)), [10, 11, 12, 20]);
    }

    #[test]
    fn times_are_written_as_dates() {
        for (unix_ms, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399_999, "2000-02-28T23:59:59.999Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (951_868_800_000, "2000-03-01T00:00:00.000Z"),
            (1_399_392_679_346, "2014-05-06T16:11:19.346Z"),
            (1_735_689_599_000, "2024-12-31T23:59:59.000Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(iso_8601(unix_ms), text);
        }
    }
}
