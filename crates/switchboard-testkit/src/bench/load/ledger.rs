//! What was said and who has heard it. No sockets and no clock: times are arguments.
//!
//! Every listener hears the messages of every speaker of its room in the order they were said, each once. So it is
//! enough to know, per listener and speaker, which number must come next, and per message how many listeners it has
//! not reached: when that is zero all others have heard it exactly once.

use super::super::scenario::{FanOut, MAX_SPEAKERS};
use super::LoadError;

/// The books of one fan-out.
#[derive(Debug)]
pub(super) struct Ledger {
    shape: FanOut,
    speakers: Vec<Speaker>,
    /// Per connection, the number that it must hear next from each speaker of its room.
    next: Vec<[u32; MAX_SPEAKERS]>,
    /// Messages that have not reached everybody.
    pub(super) incomplete: usize,
    /// Messages said.
    pub(super) said: u64,
    /// Messages heard, counted once per listener.
    pub(super) deliveries: u64,
}

#[derive(Debug)]
struct Speaker {
    said: u32,
    on_the_way: [OnTheWay; RING],
}

#[derive(Clone, Copy, Debug, Default)]
struct OnTheWay {
    said_at_ns: u64,
    /// How many have not heard it.
    listeners: u32,
}

impl Speaker {
    fn new() -> Self {
        Self { said: 0, on_the_way: [OnTheWay::default(); RING] }
    }
}

impl Ledger {
    pub(super) fn new(shape: FanOut) -> Self {
        Self {
            shape,
            speakers: (0..shape.rooms * shape.speakers).map(|_| Speaker::new()).collect(),
            next: vec![[0; MAX_SPEAKERS]; shape.connections()],
            incomplete: 0,
            said: 0,
            deliveries: 0,
        }
    }

    /// The connection of a speaker. The first members of a room are its speakers, and speakers are counted over all rooms.
    pub(super) fn connection_of(&self, speaker: usize) -> usize {
        speaker / self.shape.speakers * self.shape.members + speaker % self.shape.speakers
    }

    /// Books that a speaker says its next message, and returns the message's number; `None` if too many of its
    /// messages are on the way.
    pub(super) fn say(&mut self, speaker: usize, now_ns: u64) -> Option<u32> {
        let book = &mut self.speakers[speaker];
        let sequence = book.said;
        let place = &mut book.on_the_way[sequence as usize % RING];
        if place.listeners > 0 {
            return None;
        }
        *place = OnTheWay { said_at_ns: now_ns, listeners: self.shape.members as u32 - 1 };
        book.said += 1;
        self.said += 1;
        self.incomplete += 1;
        Some(sequence)
    }

    /// Books that a connection has heard a message, and returns when that was said.
    pub(super) fn hear(&mut self, connection: usize, speaker: u8, sequence: u32) -> Result<u64, LoadError> {
        let (room, member) = (connection / self.shape.members, connection % self.shape.members);
        let place = usize::from(speaker);
        if place >= self.shape.speakers || place == member {
            return Err(disorder(connection, speaker, sequence, "nothing from this speaker"));
        }
        let next = &mut self.next[connection][place];
        let book = &mut self.speakers[room * self.shape.speakers + place];
        if sequence != *next || sequence >= book.said {
            return Err(disorder(connection, speaker, sequence, &format!("{next}")));
        }
        *next += 1;
        // It is on the way still, as a listener that has not heard it keeps it there: this one.
        let on_the_way = &mut book.on_the_way[sequence as usize % RING];
        on_the_way.listeners -= 1;
        if on_the_way.listeners == 0 {
            self.incomplete -= 1;
        }
        self.deliveries += 1;
        Ok(on_the_way.said_at_ns)
    }

    /// How many deliveries are outstanding.
    pub(super) fn missing(&self) -> u64 {
        self.said * (self.shape.members as u64 - 1) - self.deliveries
    }
}

fn disorder(connection: usize, speaker: u8, sequence: u32, expected: &str) -> LoadError {
    LoadError::Disorder(format!(
        "connection {connection} heard message {sequence} of speaker {speaker} instead of {expected}"
    ))
}

/// More messages of one speaker than this are never on the way, and a power of two finds a message's place fast.
const RING: usize = 64;

#[cfg(test)]
mod tests {
    use super::super::super::scenario::Pace;
    use super::*;

    fn ledger(rooms: usize, members: usize, speakers: usize) -> Ledger {
        Ledger::new(FanOut { rooms, members, speakers, pace: Pace::Outstanding(1) })
    }

    #[test]
    fn a_message_is_complete_when_all_others_have_heard_it() {
        let mut ledger = ledger(1, 3, 1);
        assert_eq!(ledger.say(0, 17), Some(0));
        assert_eq!((ledger.incomplete, ledger.missing()), (1, 2));
        assert_eq!(ledger.hear(1, 0, 0).unwrap(), 17);
        assert_eq!((ledger.incomplete, ledger.missing()), (1, 1));
        assert_eq!(ledger.hear(2, 0, 0).unwrap(), 17);
        assert_eq!((ledger.incomplete, ledger.missing(), ledger.deliveries), (0, 0, 2));
    }

    #[test]
    fn repetitions_gaps_and_echoes_are_noticed() {
        let mut ledger = ledger(1, 3, 2);
        for _ in 0..3 {
            ledger.say(0, 0).unwrap();
        }
        ledger.hear(1, 0, 0).unwrap();
        assert!(matches!(ledger.hear(1, 0, 0), Err(LoadError::Disorder(_))), "heard twice");
        assert!(matches!(ledger.hear(1, 0, 2), Err(LoadError::Disorder(_))), "one was left out");
        assert!(matches!(ledger.hear(0, 0, 0), Err(LoadError::Disorder(_))), "its own");
        assert!(matches!(ledger.hear(2, 1, 0), Err(LoadError::Disorder(_))), "was never said");
        assert!(matches!(ledger.hear(2, 2, 0), Err(LoadError::Disorder(_))), "no such speaker");
        ledger.hear(1, 0, 1).unwrap();
    }

    #[test]
    fn rooms_have_their_own_speakers() {
        let mut ledger = ledger(2, 10, 2);
        assert_eq!([0, 1, 2, 3].map(|speaker| ledger.connection_of(speaker)), [0, 1, 10, 11]);
        ledger.say(3, 5).unwrap();
        assert_eq!(ledger.hear(10, 1, 0).unwrap(), 5);
        assert!(ledger.hear(0, 1, 0).is_err(), "said in another room");
    }

    #[test]
    fn a_speaker_whose_oldest_message_is_on_the_way_waits_when_the_ring_is_full() {
        let mut ledger = ledger(1, 2, 1);
        for sequence in 0..RING as u32 {
            assert_eq!(ledger.say(0, 0), Some(sequence));
        }
        assert_eq!(ledger.say(0, 0), None);
        ledger.hear(1, 0, 0).unwrap();
        assert_eq!(ledger.say(0, 0), Some(RING as u32));
    }
}
