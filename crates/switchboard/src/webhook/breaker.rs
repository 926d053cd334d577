//! A circuit breaker: who keeps failing is left alone for a while.

/// Whether a URL is asked. Plain data; time is an argument.
#[derive(Debug)]
pub(super) struct Breaker {
    state: State,
    /// Failures in a row that open it (`hooks.breaker_failures`); 0: it never opens.
    failures_max: u32,
    /// How long it stays open (`hooks.breaker_pause`).
    pause_ms: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Everybody may ask; so many failed in a row.
    Closed { failures: u32 },
    /// Nobody may ask until then.
    Open { until_ms: u64 },
    /// One asks, to see whether it works again.
    Trying,
}

/// Permission to ask, to be given back with what came of it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Pass {
    /// The request decides whether others may ask again.
    is_trial: bool,
}

/// What a result changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// It answers again.
    Closed,
    /// The first failure after it had answered.
    FirstFailure,
    /// It is left alone from now on.
    Opened,
    /// Nothing worth telling.
    None,
}

impl Breaker {
    pub(super) fn new(failures_max: u32, pause_ms: u64) -> Self {
        Self { state: State::Closed { failures: 0 }, failures_max, pause_ms }
    }

    /// Whether asking is out of the question now.
    pub(super) fn is_open(&self, now_ms: u64) -> bool {
        match self.state {
            State::Closed { .. } => false,
            State::Open { until_ms } => now_ms < until_ms,
            State::Trying => true,
        }
    }

    /// Permission to ask, if it may be asked. After a pause one request gets it, and the others wait for what comes of that.
    pub(super) fn enter(&mut self, now_ms: u64) -> Option<Pass> {
        if self.is_open(now_ms) {
            return None;
        }
        let is_trial = matches!(self.state, State::Open { .. });
        if is_trial {
            self.state = State::Trying;
        }
        Some(Pass { is_trial })
    }

    /// An answer came, whatever it said.
    pub(super) fn answered(&mut self, _: Pass) -> Change {
        let was_closed = matches!(self.state, State::Closed { .. });
        self.state = State::Closed { failures: 0 };
        if was_closed { Change::None } else { Change::Closed }
    }

    /// No answer came, or none that could be used.
    pub(super) fn failed(&mut self, pass: Pass, now_ms: u64) -> Change {
        match self.state {
            State::Closed { failures } => {
                let failures = failures.saturating_add(1);
                self.state = State::Closed { failures };
                if self.failures_max != 0 && failures >= self.failures_max {
                    self.open(now_ms);
                    return Change::Opened;
                }
                if failures == 1 { Change::FirstFailure } else { Change::None }
            }
            State::Trying if pass.is_trial => {
                self.open(now_ms);
                Change::None
            }
            // One that was asked before the pause began says nothing new.
            State::Trying | State::Open { .. } => Change::None,
        }
    }

    /// Whoever asked lost interest. Another may try at once.
    pub(super) fn abandoned(&mut self, pass: Pass, now_ms: u64) {
        if pass.is_trial && self.state == State::Trying {
            self.state = State::Open { until_ms: now_ms };
        }
    }

    fn open(&mut self, now_ms: u64) {
        self.state = State::Open { until_ms: now_ms.saturating_add(self.pause_ms) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One that opens after three failures for 100 ms, and has.
    fn opened_at(now_ms: u64) -> Breaker {
        let mut breaker = Breaker::new(3, 100);
        for expected in [Change::FirstFailure, Change::None, Change::Opened] {
            let pass = breaker.enter(now_ms).unwrap();
            assert_eq!(breaker.failed(pass, now_ms), expected);
        }
        breaker
    }

    #[test]
    fn fault_row_22_failures_in_a_row_open_it_for_a_while() {
        let mut breaker = opened_at(1000);
        assert!(breaker.is_open(1000) && breaker.is_open(1099) && !breaker.is_open(1100));
        assert_eq!(breaker.enter(1099), None);
    }

    #[test]
    fn an_answer_in_between_begins_the_count_anew() {
        let mut breaker = Breaker::new(2, 100);
        for _ in 0..5 {
            let (first, second) = (breaker.enter(0).unwrap(), breaker.enter(0).unwrap());
            assert_eq!(breaker.failed(first, 0), Change::FirstFailure);
            assert_eq!(breaker.answered(second), Change::None);
        }
        assert!(!breaker.is_open(0));
    }

    #[test]
    fn fault_row_22_after_the_pause_one_request_decides_for_all() {
        let mut breaker = opened_at(0);
        let trial = breaker.enter(100).unwrap();
        assert_eq!(breaker.enter(100), None, "the others wait for it");
        assert_eq!(breaker.failed(trial, 150), Change::None);
        assert_eq!(breaker.enter(249), None, "it failed, so another pause begins");
        let trial = breaker.enter(250).unwrap();
        assert_eq!(breaker.answered(trial), Change::Closed);
        assert!(breaker.enter(250).is_some() && breaker.enter(250).is_some());
    }

    #[test]
    fn a_trial_that_nobody_waits_for_any_more_leaves_the_way_free() {
        let mut breaker = opened_at(0);
        let trial = breaker.enter(100).unwrap();
        breaker.abandoned(trial, 120);
        assert!(breaker.enter(120).is_some());
    }

    #[test]
    fn what_was_asked_before_the_pause_does_not_end_a_trial() {
        let mut breaker = Breaker::new(1, 100);
        let (early, late) = (breaker.enter(0).unwrap(), breaker.enter(0).unwrap());
        assert_eq!(breaker.failed(early, 0), Change::Opened);
        let trial = breaker.enter(100).unwrap();
        assert_eq!(breaker.failed(late, 101), Change::None);
        assert_eq!(breaker.enter(150), None, "the trial is still under way");
        assert_eq!(breaker.answered(trial), Change::Closed);
    }

    #[test]
    fn zero_never_opens() {
        let mut breaker = Breaker::new(0, 100);
        for _ in 0..1000 {
            let pass = breaker.enter(0).unwrap();
            breaker.failed(pass, 0);
        }
        assert!(!breaker.is_open(0));
    }
}
