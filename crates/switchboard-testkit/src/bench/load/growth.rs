//! The same again and again, to see whether the server's memory grows by it.

use super::super::probe::Probe;
use super::super::scenario::FanOut;
use super::swarm::Swarm;
use super::{AT_ONCE, Clock, Endpoint, LoadError, Measurement, Plan, fan_out};

/// Has all members come, `said` messages be said and all members leave, `rounds` times.
///
/// The first rounds are not measured: a server makes its buffers and tables then, and keeps them.
pub(super) fn run(
    (rounds, said): (usize, u64),
    shape: FanOut,
    endpoint: &Endpoint,
    rooms: &[String],
    probe: &Probe,
) -> Result<Measurement, LoadError> {
    let clock = Clock::start();
    let round = || {
        let mut swarm = Swarm::open(clock, endpoint, (shape.connections(), AT_ONCE), rooms)?;
        fan_out::run(shape, &mut swarm, rooms, probe, Plan::Count(said))?;
        swarm.close()
    };
    (0..ROUNDS_TO_SETTLE).try_for_each(|_| round())?;
    let (bytes, cpu_ns, start_ns) = (probe.resident_bytes()?, probe.cpu_ns()?, clock.now_ns());
    let measured = rounds - ROUNDS_TO_SETTLE;
    (0..measured).try_for_each(|_| round())?;
    Ok(Measurement {
        units: measured as u64,
        seconds: (clock.now_ns() - start_ns) as f64 / 1e9,
        cpu_seconds: probe.cpu_ns()?.saturating_sub(cpu_ns) as f64 / 1e9,
        bytes_per_unit: (probe.resident_bytes()? as f64 - bytes as f64) / measured as f64,
        ..Measurement::default()
    })
}

const ROUNDS_TO_SETTLE: usize = 2;
