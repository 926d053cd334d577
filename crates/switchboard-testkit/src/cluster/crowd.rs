//! Thousands of members in one thread, which come back by themselves.

use std::io::{self, ErrorKind, Write};
use std::net::SocketAddr;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Registry, Token, Waker};
use serde_json::Value;

use super::DEADLINE;
use super::history::{Event, Name, Recorder};
use super::member::id_of;
use super::nodes::Place;
use crate::bench::load::reader::{Inbound, Reader};
use crate::bench::load::{Clock, LoadError, Protocol};
use crate::bench::sys;

/// Many clients of the line protocol in one room. They hear and say nothing; what they hear is recorded, numbers included.
///
/// One that loses its connection tries the next node that runs, at once and then after [`PAUSE`] on average, until it has joined
/// again. Methods may be called by any thread; those that wait panic after [`DEADLINE`]. Dropping it ends all connections.
#[derive(Debug)]
pub struct Crowd {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    count: usize,
}

/// How long a member of a [`Crowd`] waits on average before it tries to connect once more.
pub const PAUSE: Duration = Duration::from_millis(100);

/// A time in which a member of a [`Crowd`] was outside, without having wanted it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Absence {
    /// Whose.
    pub client: u32,
    /// When it noticed that its connection was gone.
    pub began: Instant,
    /// How long it took until it was told that it has joined again.
    pub length: Duration,
}

#[derive(Debug)]
struct Shared {
    figures: Mutex<Figures>,
    changed: Condvar,
    waker: Waker,
}

#[derive(Debug, Default)]
struct Figures {
    inside: usize,
    heard: u64,
    absences: Vec<Absence>,
    is_to_end: bool,
    /// Why the last one was not let in.
    refusal: String,
}

impl Crowd {
    /// Has `count` clients join a room. They begin at all of these nodes alike, in turn. Nobody waits for them.
    ///
    /// # Panics
    ///
    /// When the system has no poll for them.
    #[track_caller]
    pub fn join(recorder: &Recorder, room: &str, count: usize, places: Vec<Place>) -> Self {
        let made = Poll::new().and_then(|poll| Ok((Waker::new(poll.registry(), WAKE)?, poll)));
        let (waker, poll) = made.unwrap_or_else(|error| panic!("a poll for a crowd: {error}"));
        // As many as the system allows will have to do; who finds no file tries again.
        let _ = sys::raise_file_limit();
        let shared = Arc::new(Shared { figures: Mutex::default(), changed: Condvar::new(), waker });
        let first = recorder.new_clients(count as u32);
        let now = Instant::now();
        let members = (0..count).map(|index| Member::new(first + index as u32, now)).collect();
        let mut turns = Turns {
            recorder: recorder.clone(),
            room: recorder.name(room),
            places,
            members,
            opening: 0,
            reader: Reader::new(Clock::start()),
            shared: Arc::clone(&shared),
        };
        let thread = thread::spawn(move || turns.run(poll));
        Self { shared, thread: Some(thread), count }
    }

    /// Members that are inside now.
    pub fn inside(&self) -> usize {
        self.shared.lock().inside
    }

    /// Messages that all of them have heard together.
    pub fn heard(&self) -> u64 {
        self.shared.lock().heard
    }

    /// Every time that one was outside against its will, over and done with.
    pub fn absences(&self) -> Vec<Absence> {
        self.shared.lock().absences.clone()
    }

    /// The longest of these times; zero without any.
    pub fn longest_absence(&self) -> Duration {
        self.shared.lock().absences.iter().map(|absence| absence.length).max().unwrap_or_default()
    }

    /// Waits until all of them are inside.
    #[track_caller]
    pub fn await_inside(&self) {
        self.wait("all are inside", |figures| figures.inside == self.count);
    }

    /// Waits until so many have been outside and are back.
    #[track_caller]
    pub fn await_absences(&self, count: usize) {
        self.wait("absences", |figures| figures.absences.len() >= count);
    }

    /// Waits until all of them together have heard so many messages.
    #[track_caller]
    pub fn await_heard(&self, count: u64) {
        self.wait("messages are heard", |figures| figures.heard >= count);
    }

    #[track_caller]
    fn wait(&self, what: &str, has_come: impl Fn(&Figures) -> bool) {
        let end = Instant::now() + DEADLINE;
        let mut figures = self.shared.lock();
        while !has_come(&figures) {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() || self.thread.as_ref().is_none_or(JoinHandle::is_finished) {
                let (inside, absences, heard) = (figures.inside, figures.absences.len(), figures.heard);
                let refusal = figures.refusal.clone();
                drop(figures);
                panic!(
                    "in vain: {what}; of {} members {inside} are inside, {absences} absences, {heard} messages; {refusal}",
                    self.count
                );
            }
            figures = self.shared.changed.wait_timeout(figures, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.shared.lock().is_to_end = true;
        // A thread that is not woken looks by itself soon.
        let _ = self.shared.waker.wake();
        if let Some(thread) = self.thread.take() {
            // One that panicked has printed why.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Figures> {
        self.figures.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Member {
    client: u32,
    /// Which node it tries next.
    attempt: usize,
    lost_at: Option<Instant>,
    place: Where,
}

enum Where {
    /// Outside, until it is time to try.
    Waiting(Instant),
    Connected(Connection),
}

struct Connection {
    stream: TcpStream,
    inbound: Inbound,
    output: Vec<u8>,
    member: Option<Name>,
    is_inside: bool,
    opened: Instant,
}

impl Member {
    fn new(client: u32, now: Instant) -> Self {
        Self { client, attempt: 0, lost_at: None, place: Where::Waiting(now) }
    }
}

/// What the thread has.
struct Turns {
    recorder: Recorder,
    room: Name,
    places: Vec<Place>,
    members: Vec<Member>,
    /// How many are connected and not inside yet.
    opening: usize,
    reader: Reader,
    shared: Arc<Shared>,
}

impl Turns {
    fn run(&mut self, mut poll: Poll) {
        let mut events = Events::with_capacity(1024);
        while !self.shared.lock().is_to_end {
            self.connect_due(poll.registry());
            match poll.poll(&mut events, Some(TURN)) {
                Err(error) if error.kind() != ErrorKind::Interrupted => panic!("the poll of a crowd: {error}"),
                _ => {}
            }
            for event in events.iter().filter(|event| event.token() != WAKE) {
                self.serve(event.token().0);
                // The end that comes together with a last line has no event of its own, and a short read does not see it.
                if event.is_read_closed() {
                    self.serve(event.token().0);
                }
            }
            self.shared.changed.notify_all();
        }
        for index in 0..self.members.len() {
            self.lose(index, "the crowd is dropped");
        }
    }

    /// Has those try to connect whose time has come, and gives up those that wait for too long.
    fn connect_due(&mut self, registry: &Registry) {
        let now = Instant::now();
        for index in 0..self.members.len() {
            let member = &self.members[index];
            match &member.place {
                Where::Waiting(due) if *due <= now && self.opening < OPENING_MAX => {}
                Where::Connected(connection)
                    if !connection.is_inside && connection.opened + OPENING_PATIENCE <= now =>
                {
                    self.lose(index, "it is not let in in time");
                    continue;
                }
                _ => continue,
            }
            let place = &self.places[(index + member.attempt) % self.places.len()];
            let opened = place.find().map(|addresses| self.open(registry, index, addresses.socket));
            let member = &mut self.members[index];
            member.attempt += 1;
            member.place = match opened {
                Some(Ok(connection)) => {
                    self.opening += 1;
                    Where::Connected(connection)
                }
                // Without a file, or while the node does not run.
                Some(Err(_)) | None => Where::Waiting(now + pause()),
            };
        }
    }

    fn open(&self, registry: &Registry, index: usize, address: SocketAddr) -> io::Result<Connection> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        registry.register(&mut stream, Token(index), Interest::READABLE | Interest::WRITABLE)?;
        let lines = format!("setCustomClientData {{\"extended\":true}}\r\ndetailsView\r\nroomAdd {}\r\n", self.room);
        let (inbound, output) = (Inbound::new(Protocol::Line), lines.into_bytes());
        Ok(Connection { stream, inbound, output, member: None, is_inside: false, opened: Instant::now() })
    }

    /// Writes and reads what can be.
    fn serve(&mut self, index: usize) {
        let Self { recorder, room, members, opening, reader, shared, .. } = self;
        let Member { client, lost_at, place, attempt } = &mut members[index];
        let Where::Connected(Connection { stream, inbound, output, member, is_inside, .. }) = place else { return };
        if let Err(error) = send(stream, output) {
            return self.lose(index, &error.to_string());
        }
        let outcome = reader.read(stream, inbound, |_, text| {
            match News::parse(text) {
                News::Heard { id, number } => {
                    recorder.record(Event::Heard { client: *client, room: room.clone(), id, number });
                    shared.lock().heard += 1;
                }
                News::Gap { first, last } => {
                    recorder.record(Event::Gap { client: *client, room: room.clone(), first, last });
                }
                News::Member(id) => *member = Some(id.into()),
                News::Joined => {
                    let Some(member) = member.clone() else { return Err(LoadError::Closed) };
                    recorder.record(Event::Joined { client: *client, room: room.clone(), member });
                    (*is_inside, *attempt) = (true, 0);
                    *opening -= 1;
                    let mut figures = shared.lock();
                    figures.inside += 1;
                    if let Some(began) = lost_at.take() {
                        figures.absences.push(Absence { client: *client, began, length: began.elapsed() });
                    }
                }
                News::Refused => return Err(LoadError::Refused(String::from_utf8_lossy(text).into_owned())),
                News::Other => {}
            }
            Ok(())
        });
        if let Err(error) = outcome {
            self.lose(index, &error.to_string());
        }
    }

    /// Ends a member's connection, and has it try again.
    fn lose(&mut self, index: usize, why: &str) {
        let member = &mut self.members[index];
        let Where::Connected(connection) = &member.place else { return };
        let now = Instant::now();
        let mut figures = self.shared.lock();
        if connection.is_inside {
            self.recorder.record(Event::Left { client: member.client, room: self.room.clone() });
            figures.inside -= 1;
            // Beside the node that it was at.
            (member.lost_at, member.attempt) = (Some(now), 1);
            member.place = Where::Waiting(now);
        } else {
            self.opening -= 1;
            why.clone_into(&mut figures.refusal);
            member.place = Where::Waiting(now + pause());
        }
    }
}

/// Sends what is taken; the rest waits for the next readiness.
fn send(stream: &mut TcpStream, output: &mut Vec<u8>) -> io::Result<()> {
    while !output.is_empty() {
        match stream.write(output) {
            Ok(count) => drop(output.drain(..count)),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected) => break,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Any time between half and one and a half of the pause, so that nobody comes back together with the others.
fn pause() -> Duration {
    PAUSE.mul_f64(0.5 + fastrand::f64())
}

/// What a line is for a member.
#[derive(Debug, PartialEq, Eq)]
enum News {
    Heard {
        id: Option<u64>,
        number: Option<u64>,
    },
    Gap {
        first: u64,
        last: Option<u64>,
    },
    /// Its own id.
    Member(String),
    Joined,
    /// It is not let in.
    Refused,
    Other,
}

impl News {
    fn parse(line: &[u8]) -> Self {
        let Ok(mut line) = serde_json::from_slice::<Value>(line) else { return Self::Refused };
        match (line["context"].as_str(), line["messageCount"].as_u64()) {
            (Some("user"), _) => Self::Heard { id: id_of(&line["message"]), number: line["number"].as_u64() },
            (Some("api"), _) => match line["gap"].take() {
                Value::Null => Self::Other,
                gap => Self::Gap { first: gap["first"].as_u64().unwrap_or_default(), last: gap["last"].as_u64() },
            },
            (Some("response"), _) if line["status"] != "OK" => Self::Refused,
            (Some("response"), Some(2)) => Self::Member(line["data"]["id"].as_str().unwrap_or_default().to_owned()),
            (Some("response"), Some(3)) => Self::Joined,
            _ => Self::Other,
        }
    }
}

const WAKE: Token = Token(usize::MAX);

/// Often enough for those who wait to connect.
const TURN: Duration = Duration::from_millis(20);

/// After so long a node that does not let a member in is given up: it may be paused.
const OPENING_PATIENCE: Duration = Duration::from_secs(5);

/// Connections in progress; well below every server's backlog.
const OPENING_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_told_apart() {
        let parse = |line: &str| News::parse(line.as_bytes());
        let said = r#"{"message":"70","room":"r","from":"x","context":"user","sentAt":1,"number":17,"user":null}"#;
        assert_eq!(parse(said), News::Heard { id: Some(70), number: Some(17) });
        let system = r#"{"message":{"tea":true},"room":"r","from":0,"context":"user","sentAt":1}"#;
        assert_eq!(parse(system), News::Heard { id: None, number: None });
        let gap = r#"{"gap":{"first":5,"last":null},"room":"r","context":"api"}"#;
        assert_eq!(parse(gap), News::Gap { first: 5, last: None });
        assert_eq!(
            parse(r#"{"gap":{"first":5,"last":7},"room":"r","context":"api"}"#),
            News::Gap { first: 5, last: Some(7) }
        );
        assert_eq!(parse(r#"{"welcome":"hello","context":"api"}"#), News::Other);
        assert_eq!(parse(r#"{"status":"OK","context":"response","data":true,"messageCount":1}"#), News::Other);
        let details = r#"{"status":"OK","context":"response","data":{"id":"abc"},"messageCount":2}"#;
        assert_eq!(parse(details), News::Member("abc".to_owned()));
        assert_eq!(parse(r#"{"status":"OK","context":"response","data":true,"messageCount":3}"#), News::Joined);
        let refusal = r#"{"status":"room does not exist","context":"response","data":false,"messageCount":3}"#;
        assert_eq!(parse(refusal), News::Refused);
        assert_eq!(parse("odd"), News::Refused);
    }
}
