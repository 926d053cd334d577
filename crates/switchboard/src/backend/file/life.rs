//! How long a store was down, and how its times go on when it is up again.
//!
//! Times in the file follow one clock that goes on over restarts; a process has its own, which begins at whatever the wall clock
//! shows then. The *shift* is what is added to a time of this process to make it one of the file.

use std::fs;

use crate::clock::{Steady, unix_ms};

/// What the clocks show.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::backend) struct Moment {
    /// The time of this process, which does not jump.
    pub(in crate::backend) steady_ms: u64,
    /// The wall clock, which may.
    pub(in crate::backend) wall_ms: u64,
    /// Which start of the machine this is; 0 if it does not say.
    pub(in crate::backend) boot: u64,
    /// For how long it has been up.
    pub(in crate::backend) up_ms: u64,
}

/// Looks at the clocks.
pub(in crate::backend) type Watch = Box<dyn Fn() -> Moment + Send>;

/// Looks at the machine's clocks, for one process.
pub(in crate::backend) fn watch() -> Watch {
    let steady = Steady::begin();
    Box::new(move || {
        let (boot, up_ms) = up().unwrap_or_default();
        Moment { steady_ms: steady.now_ms(), wall_ms: unix_ms(), boot, up_ms }
    })
}

/// Which start of the machine this is, and how long ago it was.
fn up() -> Option<(u64, u64)> {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let boot = u64::from_str_radix(boot.trim().replace('-', "").get(..16)?, 16).ok()?;
    // Seconds with two places behind the point, time asleep included.
    let up = fs::read_to_string("/proc/uptime").ok()?;
    let (seconds, hundredths) = up.split_whitespace().next()?.split_once('.')?;
    let up_ms = seconds.parse::<u64>().ok()?.saturating_mul(1000) + hundredths.get(..2)?.parse::<u64>().ok()? * 10;
    Some((boot, up_ms))
}

/// The last proof that the store was up: what the clocks showed, with the time of the file in place of a process's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Alive(pub(super) Moment);

impl Alive {
    /// Now it is.
    pub(super) fn at(now: Moment, shift: i64) -> Self {
        Self(Moment { steady_ms: now.steady_ms.saturating_add_signed(shift), ..now })
    }

    /// How long ago that was. While the machine stays up, whatever becomes of the wall clock; otherwise as that says, and if it says
    /// that no time has passed, none.
    fn ago_ms(self, now: Moment) -> u64 {
        let then = self.0;
        if now.boot != 0 && now.boot == then.boot && now.up_ms >= then.up_ms {
            now.up_ms - then.up_ms
        } else {
            now.wall_ms.saturating_sub(then.wall_ms)
        }
    }

    /// The shift of a process that begins now.
    pub(super) fn shift(self, now: Moment) -> i64 {
        let time = self.0.steady_ms.saturating_add(self.ago_ms(now));
        let shift = i128::from(time) - i128::from(now.steady_ms);
        i64::try_from(shift).unwrap_or(if shift < 0 { i64::MIN + 1 } else { i64::MAX })
    }
}

#[cfg(test)]
impl Moment {
    /// All clocks agree, and the machine does not say since when it is up.
    pub(in crate::backend) fn at(ms: u64) -> Self {
        Self { steady_ms: ms, wall_ms: ms, ..Self::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR_MS: u64 = 3_600_000;

    /// The time of the file, when it was alive at `then` and begins again at `now`.
    fn goes_on_at(then: Moment, now: Moment) -> u64 {
        now.steady_ms.saturating_add_signed(Alive(then).shift(now))
    }

    #[test]
    fn fault_row_40_the_time_of_the_file_goes_on_whatever_the_wall_clock_shows() {
        let then = Moment { steady_ms: 9 * HOUR_MS, wall_ms: 9 * HOUR_MS, boot: 7, up_ms: 100 };
        for wall_ms in [8 * HOUR_MS, 9 * HOUR_MS, 10 * HOUR_MS] {
            let now = Moment { steady_ms: wall_ms, wall_ms, boot: 7, up_ms: 350 };
            assert_eq!(goes_on_at(then, now), 9 * HOUR_MS + 250);
        }
        let jumped_meanwhile = Moment { wall_ms: 10 * HOUR_MS, boot: 0, ..then };
        assert_eq!(goes_on_at(jumped_meanwhile, Moment::at(10 * HOUR_MS + 250)), 9 * HOUR_MS + 250);
    }

    #[test]
    fn after_a_start_of_the_machine_the_wall_clock_says_how_long_it_took() {
        let then = Moment { steady_ms: 500, wall_ms: 1000, boot: 7, up_ms: 100 };
        let now = |wall_ms| Moment { steady_ms: wall_ms, wall_ms, boot: 8, up_ms: 900 };
        assert_eq!(goes_on_at(then, now(3000)), 2500);
        assert_eq!(goes_on_at(then, now(10)), 500, "it does not go back");
    }

    #[test]
    fn this_machine_says_since_when_it_is_up() {
        let watch = watch();
        let (first, second) = (watch(), watch());
        assert!(first.boot != 0 && first.boot == second.boot && first.up_ms <= second.up_ms);
        assert!(first.steady_ms <= second.steady_ms);
    }

    #[test]
    fn times_that_no_clock_shows_do_not_overflow() {
        for (then, now) in [(u64::MAX, 0), (0, u64::MAX), (u64::MAX, u64::MAX)] {
            let shift = Alive(Moment::at(then)).shift(Moment::at(now));
            assert!(shift > i64::MIN, "it can be taken back");
        }
    }
}
