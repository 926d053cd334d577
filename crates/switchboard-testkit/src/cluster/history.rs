//! What clients of a cluster did and heard, and what must hold of it.
//!
//! Clients [record](Recorder::record) what happens to them while faults are made; at the end, when everything has come that will
//! come, the [`History`] is checked. The checks are pure: a history that was written down by hand is checked like one of real
//! servers, and so each of them is shown to find what it is for.
//!
//! | Check | Finds |
//! | --- | --- |
//! | [`History::check_rooms`] | two messages with one number, one with two, wrong order, gaps that were not told, messages heard twice, messages that were acknowledged and lost |
//! | [`History::check_leaves`] | members whose leave was told not once, or although they stayed |
//! | [`History::check_presence`] | members that are not shown, and shown ones that are none |
//! | [`History::check_sessions`] | events of sessions that two owners had, that were lost, came twice or out of order |

mod others;
mod rooms;
#[cfg(test)]
mod tests;
mod violation;

use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

pub use self::violation::Violation;

/// A name that many entries share.
pub type Name = Arc<str>;

/// Something that a client did or heard.
///
/// A client is a person at a screen: it has one number, however often it connects. A member is one of its connections. Messages
/// have ids, unique in a history, which are their texts; a message is said once under one id, and not tried again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A client was told that it has joined.
    Joined {
        /// Who.
        client: u32,
        /// Where.
        room: Name,
        /// The id of its connection.
        member: Name,
    },
    /// A client asks to leave, or has noticed that its connection is gone.
    Left {
        /// Who.
        client: u32,
        /// Where.
        room: Name,
    },
    /// A client is about to say something.
    Sent {
        /// Who.
        client: u32,
        /// Where.
        room: Name,
        /// The message's id.
        id: u64,
    },
    /// A client was told that it has said it.
    Acknowledged {
        /// Who.
        client: u32,
        /// Where.
        room: Name,
        /// The message's id.
        id: u64,
        /// Its number in the room, if the wire shows it.
        number: Option<u64>,
    },
    /// A client heard a message.
    Heard {
        /// Who.
        client: u32,
        /// Where.
        room: Name,
        /// The message's id; `None` if it is none of this history.
        id: Option<u64>,
        /// Its number in the room, if the wire shows it.
        number: Option<u64>,
    },
    /// A client was told that it has missed messages.
    Gap {
        /// Who.
        client: u32,
        /// Where.
        room: Name,
        /// The first number of them.
        first: u64,
        /// The last number of them; `None`: not known, whatever comes next is behind it.
        last: Option<u64>,
    },
    /// The servers told that a member has left: by a callback, a hook.
    LeaveTold {
        /// Where.
        room: Name,
        /// The id of its connection.
        member: Name,
    },
    /// The members of a room as a node shows them, at a moment at which nothing else happens.
    Presence {
        /// Who shows them.
        seen_by: Name,
        /// Where.
        room: Name,
        /// The ids of their connections.
        members: Vec<Name>,
    },
    /// A client has dealt with an event of a session. What it hands to the server when it resumes is the latest of these.
    SessionEvent {
        /// The session.
        session: Name,
        /// How often the session had been taken when this client took it.
        generation: u64,
        /// The event's number.
        seq: u64,
        /// The id under which it was published.
        id: u64,
    },
}

/// An event and its time since the recorder was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// When it was recorded.
    pub at: Duration,
    /// What happened.
    pub event: Event,
}

/// Where many threads write down what happens. Clones share it.
///
/// An entry is in its place before [`Recorder::record`] returns, so what happens because of it comes later. It keeps everything.
#[derive(Clone, Debug)]
pub struct Recorder(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    begun: Instant,
    entries: Mutex<Vec<Entry>>,
    clients: AtomicU32,
    messages: AtomicU64,
    names: Mutex<HashMap<String, Name>>,
}

impl Default for Recorder {
    fn default() -> Self {
        Self::new()
    }
}

impl Recorder {
    /// One that has recorded nothing.
    pub fn new() -> Self {
        Self(Arc::new(Inner {
            begun: Instant::now(),
            entries: Mutex::default(),
            clients: AtomicU32::new(0),
            messages: AtomicU64::new(0),
            names: Mutex::default(),
        }))
    }

    /// Writes down that something happens now.
    pub fn record(&self, event: Event) {
        let mut entries = self.0.entries.lock().unwrap_or_else(PoisonError::into_inner);
        // Under the lock, so that times rise.
        entries.push(Entry { at: self.0.begun.elapsed(), event });
    }

    /// The number of a client that has none yet.
    pub fn new_client(&self) -> u32 {
        self.0.clients.fetch_add(1, Ordering::Relaxed)
    }

    /// So many of them; the first is returned.
    pub fn new_clients(&self, count: u32) -> u32 {
        self.0.clients.fetch_add(count, Ordering::Relaxed)
    }

    /// The id of a message that has none yet.
    pub fn new_id(&self) -> u64 {
        self.0.messages.fetch_add(1, Ordering::Relaxed)
    }

    /// A name, kept once for all who have it.
    pub fn name(&self, name: &str) -> Name {
        let mut names = self.0.names.lock().unwrap_or_else(PoisonError::into_inner);
        match names.get(name) {
            Some(known) => Arc::clone(known),
            None => Arc::clone(names.entry(name.to_owned()).or_insert_with(|| name.into())),
        }
    }

    /// Everything up to now.
    pub fn history(&self) -> History {
        History { entries: self.0.entries.lock().unwrap_or_else(PoisonError::into_inner).clone() }
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.0.entries.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// What happened, in its order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    /// The order of entries of one client is that in which they happened to it. Those of different clients are in the order in
    /// which they were written down.
    pub entries: Vec<Entry>,
}

impl History {
    /// What was acknowledged.
    pub fn acknowledged(&self) -> usize {
        self.entries.iter().filter(|entry| matches!(entry.event, Event::Acknowledged { .. })).count()
    }

    /// What was heard, by whomever.
    pub fn heard(&self) -> usize {
        self.entries.iter().filter(|entry| matches!(entry.event, Event::Heard { .. })).count()
    }

    /// Messages of rooms: P1 to P4.
    ///
    /// * One number is one message and one message one number, for all who hear it. Numbers begin anew only behind a gap whose end
    ///   was not known, or when a client has joined again, and no client hears old ones after new ones.
    /// * Behind a number comes the next one, but for a client's own messages, or a gap is told. A message of a client that got no
    ///   answer may have a number that nobody knows of.
    /// * Nobody hears a message twice, however often it connects.
    /// * Whoever had joined before a message was said, and has not left, has heard it if it was acknowledged, or was told a gap.
    ///
    /// Call it when all that was said has come.
    pub fn check_rooms(&self) -> Vec<Violation> {
        rooms::check(&self.entries)
    }

    /// Leaves: told once for each stay that has ended and never for others. Only of rooms where leaves are recorded at all.
    pub fn check_leaves(&self) -> Vec<Violation> {
        others::check_leaves(&self.entries)
    }

    /// Members as nodes show them: those that had joined and not left when they were asked.
    pub fn check_presence(&self) -> Vec<Violation> {
        others::check_presence(&self.entries)
    }

    /// Events of sessions: no number twice, whoever had the session; numbers rise by one, across resumes too; no event twice.
    pub fn check_sessions(&self) -> Vec<Violation> {
        others::check_sessions(&self.entries)
    }

    /// All checks.
    pub fn check(&self) -> Vec<Violation> {
        [self.check_rooms(), self.check_leaves(), self.check_presence(), self.check_sessions()].concat()
    }

    /// Makes all checks.
    ///
    /// # Panics
    ///
    /// With `what` (the test, its seed), the violations, and the name of a file that has the whole history, if there are any.
    #[track_caller]
    pub fn assert_ok(&self, what: &str) {
        let violations = self.check();
        if violations.is_empty() {
            return;
        }
        let mut text = String::new();
        for violation in violations.iter().take(SHOWN_MAX) {
            // Writing to a text does not fail.
            let _ = write!(text, "\n  {violation}");
        }
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("switchboard-history-{}-{number}.txt", std::process::id()));
        let kept = match fs::write(&path, self.text()) {
            Ok(()) => path.display().to_string(),
            Err(error) => error.to_string(),
        };
        panic!("{what}: {} violations; the history: {kept}{text}", violations.len());
    }

    /// One line for each entry.
    fn text(&self) -> String {
        let mut text = String::new();
        for Entry { at, event } in &self.entries {
            // Writing to a text does not fail.
            let _ = writeln!(text, "{:>10.3} ms  {event:?}", at.as_secs_f64() * 1e3);
        }
        text
    }
}

/// More do not tell more.
const SHOWN_MAX: usize = 20;
