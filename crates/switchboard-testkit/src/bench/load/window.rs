//! Warm-up, the measured time, and what was used in it.

use std::io;

use super::super::histogram::Histogram;
use super::super::probe::Probe;
use super::{Clock, Measurement, Plan};

/// Where a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    WarmUp,
    Measuring,
    /// Nothing new is sent; what is outstanding must arrive.
    Draining,
}

/// Looks at the clock and the counters once per turn of a load.
#[derive(Debug)]
pub(super) struct Window<'a> {
    clock: Clock,
    probe: &'a Probe,
    plan: Plan,
    phase: Phase,
    opened: Sample,
    closed: Option<Sample>,
    /// Latencies in nanoseconds, of what arrived while measuring and some of what arrives after it.
    pub(super) latency: Histogram,
}

#[derive(Clone, Copy, Debug)]
struct Sample {
    at_ns: u64,
    cpu_ns: u64,
    units: u64,
    reads: u64,
}

impl<'a> Window<'a> {
    pub(super) fn open(clock: Clock, probe: &'a Probe, plan: Plan, reads: u64) -> io::Result<Self> {
        let opened = Sample { at_ns: clock.now_ns(), cpu_ns: probe.cpu_ns()?, units: 0, reads };
        let phase = match plan {
            Plan::Count(_) => Phase::Measuring,
            Plan::Timed { .. } => Phase::WarmUp,
        };
        let latency = Histogram::new();
        Ok(Self { clock, probe, plan, phase, opened, closed: None, latency })
    }

    /// Moves on if it is time, or if enough was sent.
    pub(super) fn turn(&mut self, sent: u64, units: u64, reads: u64) -> io::Result<Phase> {
        match (self.plan, self.phase) {
            (Plan::Timed { warm_up, .. }, Phase::WarmUp) if self.age_ns() >= warm_up.as_nanos() as u64 => {
                self.opened = self.sample(units, reads)?;
                self.latency.clear();
                self.phase = Phase::Measuring;
            }
            (Plan::Timed { window, .. }, Phase::Measuring) if self.age_ns() >= window.as_nanos() as u64 => {
                self.closed = Some(self.sample(units, reads)?);
                self.phase = Phase::Draining;
            }
            (Plan::Count(count), Phase::Measuring) if sent >= count => self.phase = Phase::Draining,
            _ => {}
        }
        Ok(self.phase)
    }

    /// How many more may be sent, at most `wanted`.
    pub(super) fn allowance(&self, sent: u64, wanted: usize) -> usize {
        match (self.plan, self.phase) {
            (_, Phase::Draining) => 0,
            (Plan::Count(count), _) => wanted.min(count.saturating_sub(sent) as usize),
            (Plan::Timed { .. }, _) => wanted,
        }
    }

    /// Sums up, once all has arrived. Counted runs are measured to here, timed ones to the end of their time.
    pub(super) fn close(self, units: u64, reads: u64) -> io::Result<Measurement> {
        let closed = match self.closed {
            Some(sample) => sample,
            None => self.sample(units, reads)?,
        };
        let units = closed.units - self.opened.units;
        Ok(Measurement {
            units,
            seconds: (closed.at_ns - self.opened.at_ns) as f64 / 1e9,
            cpu_seconds: closed.cpu_ns.saturating_sub(self.opened.cpu_ns) as f64 / 1e9,
            p50_ms: self.latency.quantile(0.5) as f64 / 1e6,
            p99_ms: self.latency.quantile(0.99) as f64 / 1e6,
            units_per_read: units as f64 / (closed.reads - self.opened.reads).max(1) as f64,
            ..Measurement::default()
        })
    }

    /// Since the phase began: the first sample is of the beginning of the warm-up, the second of its end.
    fn age_ns(&self) -> u64 {
        self.clock.now_ns() - self.opened.at_ns
    }

    fn sample(&self, units: u64, reads: u64) -> io::Result<Sample> {
        Ok(Sample { at_ns: self.clock.now_ns(), cpu_ns: self.probe.cpu_ns()?, units, reads })
    }
}
