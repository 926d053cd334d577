//! Shards of the gateway: they come, ping, are sent events, vanish and resume.
//!
//! An event begins in the server, so that publishes: an action of it, asked for over a connection of another protocol.

use std::time::Duration;

use serde_json::Value;

use super::super::histogram::Histogram;
use super::super::probe::Probe;
use super::super::scenario::{Application, GatewayLoad};
use super::frames;
use super::payload::find;
use super::protocol::{Protocol, refused};
use super::swarm::Swarm;
use super::window::{Phase, Window};
use super::{AT_ONCE, Clock, Endpoint, LoadError, Measurement, PATIENCE, Plan};

/// Puts a load of shards on a server.
pub(super) fn run(
    load: GatewayLoad,
    clock: Clock,
    endpoint: &Endpoint,
    probe: &Probe,
    plan: Plan,
) -> Result<Measurement, LoadError> {
    match load {
        GatewayLoad::Events { at_once, .. } => events(at_once, clock, endpoint, probe, plan),
        GatewayLoad::Idle { applications, shards } => idle((applications, shards), clock, endpoint, probe),
        GatewayLoad::Pings { shards, per_second } => pings(shards, per_second, clock, endpoint, probe, plan),
        GatewayLoad::Resume { events } => resume(events, clock, endpoint, probe, plan),
        GatewayLoad::Resumes { shards } => resumes(shards, clock, endpoint, probe),
    }
}

/// All come and stay.
fn idle(
    (applications, shards): (usize, usize),
    clock: Clock,
    endpoint: &Endpoint,
    probe: &Probe,
) -> Result<Measurement, LoadError> {
    let (bytes, cpu_ns, start_ns) = (probe.resident_bytes()?, probe.cpu_ns()?, clock.now_ns());
    let mut fleet = Fleet::open(clock, endpoint, applications * shards)?;
    fleet.register(applications, FEW)?;
    let (end_ns, cpu_ns) = (clock.now_ns(), probe.cpu_ns()?.saturating_sub(cpu_ns));
    let grown_bytes = probe.resident_bytes()?.saturating_sub(bytes);
    let count = fleet.sessions.len();
    Ok(Measurement {
        units: count as u64,
        seconds: (end_ns - start_ns) as f64 / 1e9,
        cpu_seconds: cpu_ns as f64 / 1e9,
        p50_ms: fleet.answers.quantile(0.5) as f64 / 1e6,
        p99_ms: fleet.answers.quantile(0.99) as f64 / 1e6,
        bytes_per_unit: grown_bytes as f64 / count as f64,
        ..Measurement::default()
    })
}

/// All are there, and ping in turn at equal distances. A ping counts from the moment when it was due.
fn pings(
    shards: usize,
    per_second: u32,
    clock: Clock,
    endpoint: &Endpoint,
    probe: &Probe,
    plan: Plan,
) -> Result<Measurement, LoadError> {
    let mut fleet = Fleet::open(clock, endpoint, shards)?;
    fleet.register(1, FEW)?;
    let swarm = &mut fleet.swarm;
    let pause_ns = 1_000_000_000 / u64::from(per_second);
    let mut window = Window::open(clock, probe, plan, swarm.reader.reads)?;
    let (start_ns, mut asked_at_ns) = (clock.now_ns(), vec![None; shards]);
    let (mut sent, mut answered, mut progress_ns) = (0_u64, 0_u64, start_ns);
    loop {
        let phase = window.turn(sent, answered, swarm.reader.reads)?;
        if phase == Phase::Draining && answered == sent {
            return Ok(window.close(answered, swarm.reader.reads)?);
        }
        let now_ns = clock.now_ns();
        if now_ns - progress_ns > PATIENCE.as_nanos() as u64 {
            return Err(LoadError::Lost { missing: sent - answered });
        }
        while window.allowance(sent, 1) > 0 && start_ns + sent * pause_ns <= now_ns {
            let index = sent as usize % shards;
            if asked_at_ns[index].replace(start_ns + sent * pause_ns).is_some() {
                return Err(LoadError::Lost { missing: sent - answered });
            }
            swarm.tell(index, PING)?;
            sent += 1;
        }
        // Never asleep: a timer's millisecond is more than what is measured.
        swarm.turn_within(Duration::ZERO, |index, now_ns, text, _| {
            let due_ns =
                asked_at_ns[index].take().filter(|_| find(text, PONG).is_some()).ok_or_else(|| refused(text))?;
            window.latency.record(now_ns.saturating_sub(due_ns));
            (answered, progress_ns) = (answered + 1, now_ns);
            Ok(())
        })?;
    }
}

/// One shard is sent events as fast as the server publishes them.
fn events(
    at_once: u64,
    clock: Clock,
    endpoint: &Endpoint,
    probe: &Probe,
    plan: Plan,
) -> Result<Measurement, LoadError> {
    let mut fleet = Fleet::open(clock, endpoint, 1)?;
    fleet.register(1, FEW)?;
    let mut publisher = Publisher::open(clock, endpoint)?;
    let mut window = Window::open(clock, probe, plan, fleet.swarm.reader.reads)?;
    publisher.begin(at_once, plan)?;
    let (mut last, mut progress_ns, mut result) = (0, clock.now_ns(), None);
    loop {
        let phase = window.turn(0, last, fleet.swarm.reader.reads)?;
        let published = result.as_ref().map(|result: &Value| result["published"].as_u64().unwrap_or_default());
        if published == Some(last) {
            break;
        }
        if clock.now_ns() - progress_ns > PATIENCE.as_nanos() as u64 {
            return Err(LoadError::Lost { missing: published.unwrap_or_default().saturating_sub(last) });
        }
        fleet.swarm.turn(|_, now_ns, text, _| {
            last = next_event(text, last)?;
            progress_ns = now_ns;
            Ok(())
        })?;
        // It has nothing to say before it has published all.
        if result.is_none() && (phase == Phase::Draining || matches!(plan, Plan::Count(_))) {
            result = publisher.result()?;
        }
    }
    let result = result.unwrap_or_default();
    if result["failed"] != 0 {
        return Err(LoadError::Refused(format!("publishing failed: {result}")));
    }
    let mut measured = window.close(last, fleet.swarm.reader.reads)?;
    let millis = |name: &str| result[name].as_u64().unwrap_or_default() as f64 / 1e6;
    (measured.p50_ms, measured.p99_ms) = (millis("p50_ns"), millis("p99_ns"));
    measured.note = format!("{last} events published and heard, none twice; latencies are those of publishing");
    Ok(measured)
}

/// A shard vanishes, misses events and comes back, again and again: from its request to the last event.
fn resume(events: u64, clock: Clock, endpoint: &Endpoint, probe: &Probe, plan: Plan) -> Result<Measurement, LoadError> {
    let mut fleet = Fleet::open(clock, endpoint, 1)?;
    fleet.register(1, FEW)?;
    let mut publisher = Publisher::open(clock, endpoint)?;
    let mut window = Window::open(clock, probe, plan, fleet.swarm.reader.reads)?;
    let (mut rounds, mut reads) = (0, 0);
    let mut last = 0;
    while window.turn(rounds, rounds * events, reads)? != Phase::Draining {
        fleet.swarm.clients[0].kill()?;
        publisher.begin(RESUME_AT_ONCE.min(events), Plan::Count(events))?;
        let since_ns = clock.now_ns();
        let result = loop {
            match publisher.result()? {
                Some(result) => break result,
                None if clock.now_ns() - since_ns > PATIENCE.as_nanos() as u64 => {
                    return Err(LoadError::Lost { missing: events });
                }
                None => {}
            }
        };
        if result["published"] != events {
            return Err(LoadError::Refused(format!("publishing failed: {result}")));
        }
        fleet.swarm = Swarm::open(clock, endpoint, (1, 1), &[])?;
        let (since_ns, wanted, mut is_resumed) = (clock.now_ns(), last + events, false);
        fleet.swarm.tell(0, &resumption(0, &fleet.sessions[0], last))?;
        let mut end_ns = since_ns;
        fleet.swarm.until(|_, now_ns, text| {
            if is_resumed {
                last = next_event(text, last)?;
                end_ns = now_ns;
            } else if find(text, RESUMED).is_some() {
                is_resumed = true;
            } else {
                return Err(refused(text));
            }
            Ok(last == wanted)
        })?;
        window.latency.record(end_ns - since_ns);
        reads += fleet.swarm.reader.reads;
        rounds += 1;
    }
    Ok(window.close(rounds * events, reads)?)
}

/// All vanish and come back at once: from the first request to the last answer.
fn resumes(shards: usize, clock: Clock, endpoint: &Endpoint, probe: &Probe) -> Result<Measurement, LoadError> {
    let mut fleet = Fleet::open(clock, endpoint, shards)?;
    fleet.register(1, FEW)?;
    fleet.swarm.clients.iter_mut().try_for_each(|client| client.kill())?;
    let mut swarm = Swarm::open(clock, endpoint, (shards, AT_ONCE), &[])?;
    let (cpu_ns, since_ns) = (probe.cpu_ns()?, clock.now_ns());
    for (index, session) in fleet.sessions.iter().enumerate() {
        swarm.tell(index, &resumption(index, session, 0))?;
    }
    let (mut latency, mut is_answered, mut answered, mut end_ns) = (Histogram::new(), vec![false; shards], 0, since_ns);
    swarm.until(|index, now_ns, text| {
        if find(text, RESUMED).is_none() || std::mem::replace(&mut is_answered[index], true) {
            return Err(refused(text));
        }
        latency.record(now_ns - since_ns);
        (answered, end_ns) = (answered + 1, now_ns);
        Ok(answered == shards)
    })?;
    Ok(Measurement {
        units: shards as u64,
        seconds: (end_ns - since_ns) as f64 / 1e9,
        cpu_seconds: probe.cpu_ns()?.saturating_sub(cpu_ns) as f64 / 1e9,
        p50_ms: latency.quantile(0.5) as f64 / 1e6,
        p99_ms: latency.quantile(0.99) as f64 / 1e6,
        ..Measurement::default()
    })
}

/// Shards and the sessions that they have.
struct Fleet {
    swarm: Swarm,
    sessions: Vec<String>,
    /// From registering to the answer, in nanoseconds.
    answers: Histogram,
}

impl Fleet {
    /// Connections that have not registered.
    fn open(clock: Clock, endpoint: &Endpoint, count: usize) -> Result<Self, LoadError> {
        let swarm = Swarm::open(clock, endpoint, (count, AT_ONCE), &[])?;
        Ok(Self { swarm, sessions: vec![String::new(); count], answers: Histogram::new() })
    }

    /// Registers all, `at_once` at a time, as shards of so many applications: of each its shard 0 first.
    ///
    /// Each answer lists the whole fleet, so they are read before more of them are asked for.
    fn register(&mut self, applications: usize, at_once: usize) -> Result<(), LoadError> {
        let Self { swarm, sessions, answers } = self;
        let (count, mut asked_at_ns) = (sessions.len(), vec![0; sessions.len()]);
        let (mut asked, mut done) = (0, 0);
        while done < count {
            let limit = if done < applications { applications } else { count.min(done + at_once) };
            while asked < limit {
                asked_at_ns[asked] = swarm.clock.now_ns();
                swarm.tell(asked, &registration(asked % applications, asked / applications))?;
                asked += 1;
            }
            swarm.until(|index, now_ns, text| {
                sessions[index] = session_of(text).ok_or_else(|| refused(text))?.to_owned();
                answers.record(now_ns - asked_at_ns[index]);
                done += 1;
                Ok(done == asked || done >= applications)
            })?;
        }
        Ok(())
    }
}

/// Has the server publish.
struct Publisher {
    swarm: Swarm,
}

impl Publisher {
    fn open(clock: Clock, endpoint: &Endpoint) -> Result<Self, LoadError> {
        let endpoint = Endpoint { protocol: Protocol::WebSocket, ..endpoint.clone() };
        Ok(Self { swarm: Swarm::open(clock, &endpoint, (1, 1), &[])? })
    }

    /// So many at a time, and for as long as the plan has it.
    fn begin(&mut self, at_once: u64, plan: Plan) -> Result<(), LoadError> {
        let end = match plan {
            Plan::Count(count) => format!(r#""count":{count}"#),
            Plan::Timed { warm_up, window } => format!(r#""ms":{}"#, (warm_up + window).as_millis()),
        };
        let client = &mut self.swarm.clients[0];
        let params = format!(r#""at_once":{at_once},{end}"#);
        self.swarm.protocol.push_action(&mut client.output, "benchPublish", &params);
        client.send()
    }

    /// What came of it, if it is done; it waits a moment for that.
    fn result(&mut self) -> Result<Option<Value>, LoadError> {
        let mut result = None;
        self.swarm.turn(|_, _, text, _| {
            let mut answer: Value = serde_json::from_slice(text).map_err(|_| refused(text))?;
            result = Some(answer["bench"].take()).filter(|bench| !bench.is_null());
            if result.is_some() { Ok(()) } else { Err(refused(text)) }
        })?;
        Ok(result)
    }
}

impl Swarm {
    /// Sends a message to the server on one of the connections.
    fn tell(&mut self, index: usize, text: &str) -> Result<(), LoadError> {
        let client = &mut self.clients[index];
        frames::push(&mut client.output, frames::TEXT, &[text.as_bytes()]);
        client.send()
    }

    /// Hands over what comes until it was enough.
    fn until(
        &mut self,
        mut is_enough: impl FnMut(usize, u64, &[u8]) -> Result<bool, LoadError>,
    ) -> Result<(), LoadError> {
        let (clock, mut is_done) = (self.clock, false);
        let mut progress_ns = clock.now_ns();
        while !is_done {
            self.turn(|index, now_ns, text, _| {
                progress_ns = now_ns;
                is_done |= is_enough(index, now_ns, text)?;
                Ok(())
            })?;
            if clock.now_ns() - progress_ns > PATIENCE.as_nanos() as u64 {
                return Err(LoadError::Lost { missing: 1 });
            }
        }
        Ok(())
    }
}

fn registration(application: usize, shard: usize) -> String {
    let Application { public_key, .. } = Application::new(application);
    format!(r#"{{"type":1,"d":{{"public_key":"{public_key}","shard_in":{shard},"flags":0}}}}"#)
}

/// Resumes a shard of the first application.
fn resumption(shard: usize, session: &str, seq: u64) -> String {
    let Application { public_key, .. } = Application::new(0);
    format!(
        r#"{{"type":5,"d":{{"public_key":"{public_key}","session_id":"{session}","shard_in":{shard},"flags":0,"seq":{seq}}}}}"#
    )
}

/// The session that an answer begins.
fn session_of(text: &[u8]) -> Option<&str> {
    find(text, READY)?;
    let rest = &text[find(text, SESSION)? + SESSION.len()..];
    std::str::from_utf8(&rest[..rest.iter().position(|&byte| byte == b'"')?]).ok()
}

/// The number of an event, which must be the one behind `last`.
fn next_event(text: &[u8], last: u64) -> Result<u64, LoadError> {
    let number = text.strip_suffix(b"}").and_then(|text| {
        let digits = text.iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
        let (rest, number) = text.split_at(text.len() - digits);
        rest.ends_with(br#","s":"#).then(|| std::str::from_utf8(number).ok()?.parse::<u64>().ok())?
    });
    match number {
        Some(number) if number == last + 1 => Ok(number),
        Some(number) => Err(LoadError::Disorder(format!("event {number} came behind {last}"))),
        None => Err(refused(text)),
    }
}

/// Answers on the way while shards register; a fleet of a thousand is listed in some 200 KB.
const FEW: usize = 16;

/// Publications on the way for a shard that is away.
const RESUME_AT_ONCE: u64 = 64;

const PING: &str = r#"{"type":3}"#;
const PONG: &[u8] = br#""GATEWAY_PING""#;
const SESSION: &[u8] = br#""session_id":""#;
const READY: &[u8] = br#""GATEWAY_READY""#;
const RESUMED: &[u8] = br#""GATEWAY_RESUMED""#;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_session_of_an_answer_is_found_wherever_it_stands() {
        let ready = br#"{"type":1,"service":"gateway","event":"GATEWAY_READY","data":{"session_id":"a-b_c=","shards_config":[]}}"#;
        assert_eq!(session_of(ready), Some("a-b_c="));
        assert_eq!(session_of(br#"{"data":{"session_id":"x"},"event":"GATEWAY_READY"}"#), Some("x"));
        for other in
            [&br#"{"event":"GATEWAY_INVALID","data":{"session_id":null}}"#[..], b"", br#"{"event":"GATEWAY_READY"}"#]
        {
            assert_eq!(session_of(other), None);
        }
    }

    #[test]
    fn events_must_follow_one_another() {
        assert_eq!(next_event(br#"{"type":8,"data":{"s":9},"s":12}"#, 11).unwrap(), 12);
        for (text, last) in [(&br#"{"type":8,"s":12}"#[..], 10), (br#"{"type":8,"s":12}"#, 12)] {
            assert!(matches!(next_event(text, last), Err(LoadError::Disorder(_))));
        }
        for text in [&br#"{"type":3}"#[..], br#"{"type":8,"s":}"#, b"", b"}", br#"{"a":"b","t":1}"#] {
            assert!(matches!(next_event(text, 0), Err(LoadError::Refused(_))), "{}", text.escape_ascii());
        }
    }
}
