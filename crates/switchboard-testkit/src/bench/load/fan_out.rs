//! Members of rooms speak, and everybody else hears it.

use std::time::Duration;

use mio::Token;

use super::super::probe::Probe;
use super::super::scenario::{FanOut, Pace};
use super::ledger::Ledger;
use super::payload::Heard;
use super::protocol::refused;
use super::swarm::Swarm;
use super::window::{Phase, Window};
use super::{LoadError, Measurement, PATIENCE, Plan};

/// Lets the members of `swarm` speak as `shape` says. They must have joined, in the order of the rooms.
pub(super) fn run(
    shape: FanOut,
    swarm: &mut Swarm,
    rooms: &[String],
    probe: &Probe,
    plan: Plan,
) -> Result<Measurement, LoadError> {
    let (clock, protocol) = (swarm.clock, swarm.protocol);
    let mut window = Window::open(clock, probe, plan, swarm.reader.reads)?;
    let mut ledger = Ledger::new(shape);
    let (mut turns, mut spoke) = (Turns::new(shape), Vec::new());
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
            let (room, place) = turns.take();
            let speaker = room * shape.speakers + place;
            let Some(sequence) = ledger.say(speaker, due.take(now_ns)) else {
                // Only a paced load gets here: limits of outstanding messages are below what the ledger keeps.
                return Err(LoadError::Lost { missing: ledger.missing() });
            };
            let connection = ledger.connection_of(speaker);
            protocol.push_say(&mut swarm.clients[connection].output, &rooms[room], place as u8, sequence);
            spoke.push(connection);
        }
        turns.end();
        // One write for all that somebody says in a turn, however often it is in the list.
        spoke.drain(..).try_for_each(|connection| swarm.clients[connection].send())?;

        swarm.wait(Some(due.wait(clock.now_ns())))?;
        let Swarm { events, clients, reader, .. } = &mut *swarm;
        for event in events.iter() {
            let Token(index) = event.token();
            clients[index].read(reader, |now_ns, text| {
                match Heard::parse(text) {
                    Some(Heard::Message { speaker, sequence }) => {
                        let said_at_ns = ledger.hear(index, speaker, sequence)?;
                        window.latency.record(now_ns.saturating_sub(said_at_ns));
                    }
                    Some(Heard::Answer) => answers += 1,
                    None => return Err(refused(text)),
                }
                Ok(())
            })?;
        }
    }
}

/// Who speaks when: the rooms in turn, and in each room one speaker for one turn of the generator.
///
/// So what is due in a turn reaches the server in as few writes as there are rooms to speak in, which makes a burst a
/// burst, and the next one comes from somebody else.
struct Turns {
    shape: FanOut,
    room: usize,
    /// The speaker, counted within its room.
    place: usize,
    has_begun: bool,
}

impl Turns {
    fn new(shape: FanOut) -> Self {
        Self { shape, room: 0, place: 0, has_begun: false }
    }

    /// The room and, counted within it, the speaker of the next message.
    fn take(&mut self) -> (usize, usize) {
        self.has_begun = true;
        let room = self.room;
        self.room = (room + 1) % self.shape.rooms;
        (room, self.place)
    }

    fn end(&mut self) {
        if std::mem::take(&mut self.has_begun) {
            self.place = (self.place + 1) % self.shape.speakers;
        }
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
    fn rooms_take_turns_and_speakers_change_between_turns() {
        let mut turns = Turns::new(FanOut { rooms: 2, members: 5, speakers: 2, pace: Pace::Outstanding(9) });
        let mut of_a_turn = || {
            let spoke = [turns.take(), turns.take(), turns.take()];
            turns.end();
            spoke
        };
        assert_eq!(of_a_turn(), [(0, 0), (1, 0), (0, 0)]);
        assert_eq!(of_a_turn(), [(1, 1), (0, 1), (1, 1)]);
        assert_eq!(of_a_turn(), [(0, 0), (1, 0), (0, 0)]);
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
