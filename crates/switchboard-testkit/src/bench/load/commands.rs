//! Clients do what the server asks them to do.
//!
//! A command begins in the server, so that is where its time is taken: an action of the server sends commands and brings what
//! they took. It is asked for over a connection of its own, which takes no commands.

use serde_json::Value;

use super::super::histogram::Histogram;
use super::super::probe::Probe;
use super::super::scenario::CommandStorm;
use super::executions::{Asked, Executions};
use super::payload::find;
use super::protocol::{Errand, refused};
use super::swarm::Swarm;
use super::window::{Phase, Window};
use super::{AT_ONCE, Clock, Endpoint, LoadError, Measurement, PATIENCE, Plan};

/// Has one client execute commands one after the other, and in between ask for echoes over the same connection.
pub(super) fn round_trips(
    clock: Clock,
    endpoint: &Endpoint,
    probe: &Probe,
    plan: Plan,
) -> Result<Measurement, LoadError> {
    let mut targets = Targets::open(clock, endpoint, 1, &[])?;
    let mut window = Window::open(clock, probe, plan, targets.swarm.reader.reads)?;
    let (mut echoes, mut sent, mut is_warm) = (Histogram::new(), 0, false);
    loop {
        let phase = window.turn(sent, sent, targets.swarm.reader.reads)?;
        if phase == Phase::Draining {
            let mut measured = window.close(sent, targets.swarm.reader.reads)?;
            measured.echo_p50_ms = echoes.quantile(0.5) as f64 / 1e6;
            measured.echo_p99_ms = echoes.quantile(0.99) as f64 / 1e6;
            return Ok(measured);
        }
        if phase == Phase::Measuring && !std::mem::replace(&mut is_warm, true) {
            echoes.clear();
        }
        for _ in 0..BLOCK {
            echoes.record(targets.echo()?);
        }
        let result = targets.have("benchRoundTrips", &format!(r#""count":{BLOCK}"#))?;
        let latencies: Vec<u64> =
            result["latencies_ns"].as_array().into_iter().flatten().filter_map(Value::as_u64).collect();
        if latencies.len() as u64 != BLOCK || targets.executions.count != BLOCK {
            return Err(LoadError::Lost { missing: BLOCK });
        }
        latencies.into_iter().for_each(|ns| window.latency.record(ns));
        targets.forget();
        sent += BLOCK;
    }
}

/// Has all members of a room execute a command, and does so again when all have replied.
pub(super) fn collections(
    clock: Clock,
    endpoint: &Endpoint,
    probe: &Probe,
    plan: Plan,
    (count, rooms): (usize, &[String]),
) -> Result<Measurement, LoadError> {
    let mut targets = Targets::open(clock, endpoint, count, rooms)?;
    let mut window = Window::open(clock, probe, plan, targets.swarm.reader.reads)?;
    let (mut sent, mut replies) = (0, 0);
    while window.turn(sent, replies, targets.swarm.reader.reads)? != Phase::Draining {
        let result = targets.have("benchCollection", &format!(r#""n":{},"room":"{}""#, sent + 1, rooms[0]))?;
        let replied = result["replied"].as_u64().unwrap_or_default();
        if replied != count as u64 || targets.executions.count != replied {
            return Err(LoadError::Lost { missing: (count as u64).saturating_sub(replied) });
        }
        window.latency.record(result["ns"].as_u64().unwrap_or_default());
        targets.forget();
        (sent, replies) = (sent + 1, replies + replied);
    }
    Ok(window.close(replies, targets.swarm.reader.reads)?)
}

/// Has many commands sent at a time while some of the targets vanish, and checks that nothing was lost, mixed up or done twice.
pub(super) fn storm(
    clock: Clock,
    endpoint: &Endpoint,
    probe: &Probe,
    storm: CommandStorm,
    rooms: &[String],
) -> Result<Measurement, LoadError> {
    let mut targets = Targets::open(clock, endpoint, storm.targets, rooms)?;
    targets.doomed = Doomed::new(storm);
    let cpu_ns = probe.cpu_ns()?;
    let asked = format!(r#""commands":{},"at_once":{}"#, storm.commands, storm.at_once);
    let result = targets.have("benchStorm", &asked)?;
    let cpu_ns = probe.cpu_ns()?.saturating_sub(cpu_ns);
    let figure = |name: &str| result[name].as_u64().unwrap_or_default();
    let (commands, replies) = (figure("commands"), figure("replies"));
    if commands != storm.commands {
        return Err(LoadError::Lost { missing: storm.commands.saturating_sub(commands) });
    }
    if figure("wrong") > 0 {
        return Err(LoadError::Disorder(format!("{}, first {}", figure("wrong"), result["first_wrong"])));
    }
    // The answer to the last reply of a target that vanished was heard by nobody.
    let counted = targets.counted;
    if !(counted..=counted + storm.killed as u64).contains(&replies) {
        return Err(LoadError::Disorder(format!("{replies} replies counted, and clients were told so of {counted}")));
    }
    Ok(Measurement {
        units: commands,
        seconds: figure("ns") as f64 / 1e9,
        cpu_seconds: cpu_ns as f64 / 1e9,
        p50_ms: figure("p50_ns") as f64 / 1e6,
        p99_ms: figure("p99_ns") as f64 / 1e6,
        note: format!(
            "{commands} commands, each with one outcome: {}; {} executions, none twice; {replies} replies, none to another \
             command; {} of {} targets vanished, {} commands found theirs gone",
            result["outcomes"].as_str().unwrap_or_default(),
            targets.executions.count,
            targets.doomed.gone,
            storm.targets,
            figure("refused"),
        ),
        ..Measurement::default()
    })
}

/// Clients that take commands, and the connection over which commands are ordered: the last one.
struct Targets {
    swarm: Swarm,
    executions: Executions,
    doomed: Doomed,
    /// Replies of which their clients were told that they counted.
    counted: u64,
}

impl Targets {
    fn open(clock: Clock, endpoint: &Endpoint, count: usize, rooms: &[String]) -> Result<Self, LoadError> {
        let members = count.checked_div(rooms.len());
        let errand = |index: usize| match index < count {
            true => Errand { room: members.map(|members| rooms[index / members].as_str()), target: Some(index) },
            false => Errand::default(),
        };
        let swarm = Swarm::open_for(clock, endpoint, (count + 1, AT_ONCE), errand)?;
        Ok(Self { swarm, executions: Executions::new(count), doomed: Doomed::default(), counted: 0 })
    }

    /// Has an action run, and clients execute what it asks of them, until it has brought its result.
    fn have(&mut self, action: &str, params: &str) -> Result<Value, LoadError> {
        let orderer = self.swarm.clients.len() - 1;
        self.ask(orderer, action, params)?;
        let mut result = None;
        self.until(|_, text| {
            let came = text.starts_with(RESULT);
            if came {
                result = serde_json::from_slice::<Value>(text).ok();
            }
            Ok(came)
        })?;
        result.map(|mut result| result["bench"].take()).ok_or_else(|| refused(b"a result that is no JSON"))
    }

    /// Has the first target ask for an echo. Returns how long it took, in nanoseconds.
    fn echo(&mut self) -> Result<u64, LoadError> {
        let since_ns = self.swarm.clock.now_ns();
        self.ask(0, "benchEcho", r#""n":7"#)?;
        let mut took_ns = 0;
        self.until(|now_ns, text| {
            took_ns = now_ns - since_ns;
            Ok(text.starts_with(ECHO))
        })?;
        Ok(took_ns)
    }

    fn ask(&mut self, index: usize, action: &str, params: &str) -> Result<(), LoadError> {
        let client = &mut self.swarm.clients[index];
        self.swarm.protocol.push_action(&mut client.output, action, params);
        client.send()
    }

    /// Executes commands until `is_last` finds what it waits for among the other texts.
    fn until(&mut self, mut is_last: impl FnMut(u64, &[u8]) -> Result<bool, LoadError>) -> Result<(), LoadError> {
        let Self { swarm, executions, doomed, counted } = self;
        let (clock, protocol, targets) = (swarm.clock, swarm.protocol, swarm.clients.len() - 1);
        let (mut is_done, mut progress_ns, mut victims) = (false, clock.now_ns(), Vec::new());
        while !is_done {
            swarm.turn(|index, now_ns, text, out| {
                progress_ns = now_ns;
                if let Some(asked) = Asked::parse(text).filter(|_| index < targets) {
                    if victims.contains(&index) {
                        return Ok(());
                    }
                    executions.book(index, &asked)?;
                    match doomed.ends(index, executions.count) {
                        Some(LastWords::None) => victims.push(index),
                        Some(LastWords::Reply) => {
                            protocol.push_reply(out, asked.id, &asked.reply(index));
                            victims.push(index);
                        }
                        None => protocol.push_reply(out, asked.id, &asked.reply(index)),
                    }
                } else if is_last(now_ns, text)? {
                    is_done = true;
                } else if find(text, REPLY_COUNTED).is_some() {
                    *counted += 1;
                } else if find(text, REPLY_CAME_LATE).is_none() {
                    return Err(refused(text));
                }
                Ok(())
            })?;
            victims.drain(..).try_for_each(|index| swarm.clients[index].kill())?;
            if clock.now_ns() - progress_ns > PATIENCE.as_nanos() as u64 {
                return Err(LoadError::Lost { missing: 1 });
            }
        }
        Ok(())
    }

    /// Numbers of commands may begin anew.
    fn forget(&mut self) {
        self.executions.clear();
        self.executions.count = 0;
    }
}

/// Who vanishes when: as many as there are, spread over the targets and over what is executed.
#[derive(Debug, Default)]
struct Doomed {
    /// Between two of them, in numbers of targets; 0: nobody vanishes.
    every: usize,
    /// Executions between two ends.
    pause: u64,
    all: usize,
    gone: usize,
}

/// What a target that vanishes says last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LastWords {
    /// It has executed the command, and nobody will ever know.
    None,
    /// It replies, and does not hear whether that counted.
    Reply,
}

impl Doomed {
    fn new(storm: CommandStorm) -> Self {
        let pause = storm.commands / (storm.killed as u64 + 1);
        Self { every: storm.targets.checked_div(storm.killed).unwrap_or(0), pause, all: storm.killed, gone: 0 }
    }

    /// Whether a target that executes something now ends by that. Those whose numbers it is take their turns in any order.
    fn ends(&mut self, index: usize, executed: u64) -> Option<LastWords> {
        let is_doomed = self.every > 0 && index.is_multiple_of(self.every);
        if !is_doomed || self.gone == self.all || executed < self.pause * (self.gone as u64 + 1) {
            return None;
        }
        self.gone += 1;
        Some(if self.gone.is_multiple_of(2) { LastWords::Reply } else { LastWords::None })
    }
}

/// Echoes and commands take turns in blocks of so many: each finds caches and cores as the one before left them.
const BLOCK: u64 = 100;

const ECHO: &[u8] = br#"{"echo":7"#;
const RESULT: &[u8] = br#"{"bench":"#;
const REPLY_COUNTED: &[u8] = br#""data":true"#;
const REPLY_CAME_LATE: &[u8] = br#""data":false"#;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn victims_are_spread_over_targets_and_over_time() {
        let mut doomed = Doomed::new(CommandStorm { targets: 100, killed: 4, commands: 1000, at_once: 1 });
        assert_eq!((doomed.every, doomed.pause), (25, 200));
        assert_eq!(doomed.ends(25, 199), None, "too early");
        assert_eq!(doomed.ends(26, 200), None, "not this one");
        assert_eq!(doomed.ends(25, 200), Some(LastWords::None));
        assert_eq!(doomed.ends(50, 399), None);
        assert_eq!(doomed.ends(50, 400), Some(LastWords::Reply));
        assert_eq!(doomed.ends(0, 900), Some(LastWords::None));
        assert_eq!(doomed.ends(75, 900), Some(LastWords::Reply));
        assert_eq!(doomed.ends(75, 5000), None, "that was all of them");
    }

    #[test]
    fn nobody_vanishes_where_nobody_shall() {
        assert_eq!(Doomed::default().ends(0, 1_000_000), None);
    }
}
