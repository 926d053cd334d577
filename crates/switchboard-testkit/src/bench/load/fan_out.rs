//! Members of rooms speak, and everybody else hears it.

use std::time::Duration;

use mio::Token;

use super::super::probe::Probe;
use super::super::scenario::{FanOut, Pace};
use super::ledger::Ledger;
use super::lines::{Heard, push_say};
use super::swarm::{Swarm, refused};
use super::window::{Phase, Window};
use super::{LoadError, Measurement, PATIENCE, Plan};

/// Lets the members of `swarm` speak as `shape` says. They must have joined, in the order of the rooms.
pub(super) fn run(
    shape: FanOut,
    mut swarm: Swarm,
    rooms: &[String],
    probe: &Probe,
    plan: Plan,
) -> Result<Measurement, LoadError> {
    let clock = swarm.clock;
    let mut window = Window::open(clock, probe, plan, swarm.reader.reads)?;
    let mut ledger = Ledger::new(shape);
    let mut turns = Turns { next: 0, count: shape.rooms * shape.speakers, spoke: Vec::new() };
    let mut due = Due::new(shape.pace, clock.now_ns());
    let (mut answers, mut progress) = (0_u64, (0, clock.now_ns()));
    loop {
        let phase = window.turn(ledger.said, ledger.deliveries, swarm.reader.reads)?;
        let now_ns = clock.now_ns();
        if phase == Phase::Draining && ledger.missing() == 0 && answers == ledger.said {
            return Ok(window.close(ledger.deliveries, swarm.reader.reads)?);
        }
        if progress.0 != ledger.deliveries + answers || (phase != Phase::Draining && ledger.incomplete == 0) {
            progress = (ledger.deliveries + answers, now_ns);
        } else if now_ns - progress.1 > PATIENCE.as_nanos() as u64 {
            return Err(LoadError::Lost { missing: ledger.missing() + ledger.said - answers });
        }
        let wanted = due.count(now_ns, ledger.incomplete);
        for _ in 0..window.allowance(ledger.said, wanted) {
            turns.say(&mut ledger, &mut swarm, rooms, due.take(now_ns))?;
        }
        turns.send(&ledger, &mut swarm)?;

        swarm.wait(Some(due.wait(clock.now_ns())))?;
        let Swarm { events, clients, reader, .. } = &mut swarm;
        for event in events.iter() {
            let Token(index) = event.token();
            let client = &mut clients[index];
            reader.read(&client.stream, &mut client.partial, |now_ns, line| {
                match Heard::parse(line) {
                    Some(Heard::Message { speaker, sequence }) => {
                        let said_at_ns = ledger.hear(index, speaker, sequence)?;
                        window.latency.record(now_ns.saturating_sub(said_at_ns));
                    }
                    Some(Heard::Answer) => answers += 1,
                    None => return Err(refused(line)),
                }
                Ok(())
            })?;
        }
    }
}

/// All speakers of all rooms speak one after the other.
struct Turns {
    next: usize,
    count: usize,
    /// Speakers with something to send, perhaps more than once.
    spoke: Vec<usize>,
}

impl Turns {
    fn say(&mut self, ledger: &mut Ledger, swarm: &mut Swarm, rooms: &[String], at_ns: u64) -> Result<(), LoadError> {
        let speaker = self.next;
        self.next = (self.next + 1) % self.count;
        let Some(sequence) = ledger.say(speaker, at_ns) else {
            // Only a paced load gets here: limits of outstanding messages are below what the ledger keeps.
            return Err(LoadError::Lost { missing: ledger.missing() });
        };
        let in_room = self.count / rooms.len();
        let client = &mut swarm.clients[ledger.connection_of(speaker)];
        push_say(&mut client.output, &rooms[speaker / in_room], (speaker % in_room) as u8, sequence);
        self.spoke.push(speaker);
        Ok(())
    }

    /// One write for all that a speaker says in one turn.
    fn send(&mut self, ledger: &Ledger, swarm: &mut Swarm) -> Result<(), LoadError> {
        self.spoke.drain(..).try_for_each(|speaker| swarm.clients[ledger.connection_of(speaker)].send())
    }
}

/// How many messages are due, by the pace of the load.
enum Due {
    Outstanding(usize),
    Paced { next_ns: u64, every_ns: u64 },
}

impl Due {
    fn new(pace: Pace, now_ns: u64) -> Self {
        match pace {
            Pace::Outstanding(limit) => Self::Outstanding(limit),
            Pace::PerSecond(rate) => Self::Paced { next_ns: now_ns, every_ns: 1_000_000_000 / u64::from(rate) },
        }
    }

    fn count(&self, now_ns: u64, incomplete: usize) -> usize {
        match *self {
            Self::Outstanding(limit) => limit.saturating_sub(incomplete),
            Self::Paced { next_ns, .. } if now_ns < next_ns => 0,
            Self::Paced { next_ns, every_ns } => ((now_ns - next_ns) / every_ns + 1) as usize,
        }
    }

    /// The time that the next message counts from. A paced message counts from when it should have been said, whether
    /// or not the generator was in time: or a slow server would make its own figures look better.
    fn take(&mut self, now_ns: u64) -> u64 {
        match self {
            Self::Outstanding(_) => now_ns,
            Self::Paced { next_ns, every_ns } => {
                let due_ns = *next_ns;
                *next_ns += *every_ns;
                due_ns
            }
        }
    }

    /// How long to wait for events. Waiting is in milliseconds and rounded up, so the last one is spent asking.
    fn wait(&self, now_ns: u64) -> Duration {
        match *self {
            Self::Outstanding(_) => IDLE_WAIT,
            Self::Paced { next_ns, .. } => {
                Duration::from_millis((next_ns.saturating_sub(now_ns) / 1_000_000).saturating_sub(1)).min(IDLE_WAIT)
            }
        }
    }
}

/// Often enough for the ends of warm-up and window.
const IDLE_WAIT: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outstanding_limit_is_filled_up() {
        let due = Due::new(Pace::Outstanding(64), 0);
        assert_eq!([0, 10, 64, 70].map(|incomplete| due.count(1, incomplete)), [64, 54, 0, 0]);
    }

    #[test]
    fn a_paced_message_counts_from_its_due_time_however_late_it_is() {
        let mut due = Due::new(Pace::PerSecond(20), 0);
        assert_eq!(due.count(0, 5), 1);
        assert_eq!(due.take(0), 0);
        assert_eq!(due.count(49_999_999, 0), 0);
        assert_eq!(due.count(120_000_000, 0), 2);
        assert_eq!([due.take(120_000_000), due.take(120_000_000)], [50_000_000, 100_000_000]);
        assert_eq!(due.count(120_000_000, 0), 0);
    }

    #[test]
    fn the_last_millisecond_before_a_paced_message_is_not_slept() {
        let due = Due::Paced { next_ns: 10_000_000, every_ns: 1 };
        assert_eq!(due.wait(0), Duration::from_millis(9));
        assert_eq!(due.wait(8_100_000), Duration::ZERO);
        assert_eq!(due.wait(11_000_000), Duration::ZERO);
    }
}
