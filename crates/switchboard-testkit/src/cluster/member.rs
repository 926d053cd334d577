//! Clients of the line protocol that write down what they do and hear.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::DEADLINE;
use super::history::{Event, Name, Recorder};
use crate::client::{LineClient, Missed};

/// One client: a person at a screen, who has one connection at a time and may move to another node.
///
/// It is shown numbers (`{"extended":true}`). A thread reads what comes and records it; joining, speaking and leaving wait for
/// their answers, at most [`DEADLINE`]. When its connection ends it has left its rooms, and stays away until it is
/// [moved](RoomClient::connect). Methods may be called by any thread.
#[derive(Debug)]
pub struct RoomClient {
    recorder: Recorder,
    number: u32,
    link: Mutex<Option<Link>>,
}

/// A connection, and the thread that reads from it.
#[derive(Debug)]
struct Link {
    shared: Arc<Shared>,
    writer: Mutex<Writer>,
    socket: TcpStream,
    reader: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Writer {
    line: LineClient,
    /// Lines that were sent, as the server counts them.
    sent: u64,
}

#[derive(Debug)]
struct Shared {
    recorder: Recorder,
    client: u32,
    member: Name,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// What answers are for, by the numbers of their lines.
    pending: BTreeMap<u64, Pending>,
    answers: HashMap<u64, Value>,
    rooms: Vec<Name>,
    /// Messages heard over this connection.
    heard: u64,
    latest: HashMap<Name, u64>,
    end: Option<String>,
}

#[derive(Clone, Debug)]
enum Pending {
    Join(Name),
    Say { room: Name, id: u64 },
    Other,
}

/// What came of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// It is said, and has this number if the server shows it.
    Acknowledged(Option<u64>),
    /// It was refused, in these words.
    Refused(String),
    /// The connection ended first, or there is none, or no answer came in time: nobody knows.
    Unknown,
}

/// Why something was not done.
#[derive(Clone, Debug)]
enum Failure {
    /// The server's words.
    Refused(String),
    /// Why there is no answer.
    Unknown(String),
}

impl Failure {
    fn into_text(self) -> String {
        match self {
            Self::Refused(text) | Self::Unknown(text) => text,
        }
    }
}

impl RoomClient {
    /// A client that is not connected.
    pub fn new(recorder: &Recorder) -> Self {
        Self { recorder: recorder.clone(), number: recorder.new_client(), link: Mutex::new(None) }
    }

    /// A client in these rooms.
    ///
    /// # Panics
    ///
    /// When it cannot connect, or is not let in.
    #[track_caller]
    pub fn join_at(recorder: &Recorder, address: SocketAddr, rooms: &[&str]) -> Self {
        let client = Self::new(recorder);
        client.connect(address).unwrap_or_else(|error| panic!("connecting to {address}: {error}"));
        for room in rooms {
            client.join(room).unwrap_or_else(|reason| panic!("joining {room} at {address}: {reason}"));
        }
        client
    }

    /// Its number in the history.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// The id of its connection; `None` if it has had none yet.
    pub fn member(&self) -> Option<Name> {
        self.link().as_ref().map(|link| link.shared.member.clone())
    }

    /// Connects to a node, in no room yet. The connection that it had ends first.
    ///
    /// # Errors
    ///
    /// Those of the system, and what the server says instead of a welcome.
    pub fn connect(&self, address: SocketAddr) -> io::Result<()> {
        let mut place = self.link();
        // What it had must have been written down before anything new is.
        *place = None;
        *place = Some(Link::open(&self.recorder, self.number, address)?);
        Ok(())
    }

    /// Moves to another node: connects to it and joins the rooms that it was in when its connection ended, or is in.
    ///
    /// # Errors
    ///
    /// Why it could not.
    pub fn move_to(&self, address: SocketAddr) -> Result<(), String> {
        let rooms = self.rooms();
        self.connect(address).map_err(|error| error.to_string())?;
        rooms.iter().try_for_each(|room| self.join(room))
    }

    /// Whether its connection stands, as far as it knows.
    pub fn is_connected(&self) -> bool {
        self.link().as_ref().is_some_and(|link| link.shared.lock().end.is_none())
    }

    /// The rooms that it is in, or was in when its connection ended.
    pub fn rooms(&self) -> Vec<Name> {
        self.link().as_ref().map(|link| link.shared.lock().rooms.clone()).unwrap_or_default()
    }

    /// Joins a room.
    ///
    /// # Errors
    ///
    /// The server's words, or how the connection ended.
    pub fn join(&self, room: &str) -> Result<(), String> {
        let name = self.recorder.name(room);
        self.ask(&format!("roomAdd {room}"), Pending::Join(name), |_| {}).map(drop).map_err(Failure::into_text)
    }

    /// Leaves a room.
    ///
    /// # Errors
    ///
    /// The server's words, or how the connection ended.
    pub fn leave(&self, room: &str) -> Result<(), String> {
        let name = self.recorder.name(room);
        let before = |shared: &Shared| {
            shared.lock().rooms.retain(|other| *other != name);
            shared.recorder.record(Event::Left { client: shared.client, room: name.clone() });
        };
        self.ask(&format!("roomLeave {room}"), Pending::Other, before).map(drop).map_err(Failure::into_text)
    }

    /// Says something with an id of its own, and waits for the answer. Nothing is tried again.
    pub fn say(&self, room: &str) -> Said {
        let (name, id) = (self.recorder.name(room), self.recorder.new_id());
        let pending = Pending::Say { room: name.clone(), id };
        let before = |shared: &Shared| {
            shared.recorder.record(Event::Sent { client: shared.client, room: name.clone(), id });
        };
        match self.ask(&format!("say {room} {id}"), pending, before) {
            Ok(answer) => Said::Acknowledged(answer["data"]["number"].as_u64()),
            Err(Failure::Refused(reason)) => Said::Refused(reason),
            Err(Failure::Unknown(_)) => Said::Unknown,
        }
    }

    /// Asks anything that is answered in one line, such as `roomView lobby`, and returns the answer's `data`.
    ///
    /// # Errors
    ///
    /// The server's words, or how the connection ended.
    pub fn view(&self, line: &str) -> Result<Value, String> {
        self.ask(line, Pending::Other, |_| {}).map(|mut answer| answer["data"].take()).map_err(Failure::into_text)
    }

    /// Waits until it has heard message `number` of a room, or a later one, over this connection.
    ///
    /// # Panics
    ///
    /// When that does not come within [`DEADLINE`], or the connection ends.
    #[track_caller]
    pub fn await_number(&self, room: &str, number: u64) {
        let shared = self.shared().unwrap_or_else(|| panic!("client {} is not connected", self.number));
        let has_come = |state: &State| state.latest.iter().any(|(name, &latest)| **name == *room && latest >= number);
        let reached = shared.wait(|state| has_come(state).then_some(()).or(state.end.as_ref().map(|_| ())));
        let state = shared.lock();
        let (client, latest, end) = (self.number, &state.latest, &state.end);
        assert!(reached.is_some() && has_come(&state), "client {client} waits for {number}: {latest:?} {end:?}");
    }

    /// Waits until its connection has ended, within this time, and says whether it has.
    pub fn await_end(&self, patience: Duration) -> bool {
        self.shared().is_none_or(|shared| shared.wait_within(patience, |state| state.end.clone()).is_some())
    }

    /// Messages heard over the present connection.
    pub fn heard(&self) -> u64 {
        self.link().as_ref().map_or(0, |link| link.shared.lock().heard)
    }

    /// Ends its connection.
    pub fn disconnect(&self) {
        if let Some(link) = self.link().as_mut() {
            link.close();
        }
    }

    fn link(&self) -> MutexGuard<'_, Option<Link>> {
        self.link.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn shared(&self) -> Option<Arc<Shared>> {
        self.link().as_ref().map(|link| Arc::clone(&link.shared))
    }

    /// Sends a line, once `before` has written down what must be in front of it, and waits for its answer.
    fn ask(&self, line: &str, pending: Pending, before: impl FnOnce(&Shared)) -> Result<Value, Failure> {
        let unknown = |why: &str| Failure::Unknown(why.to_owned());
        let (shared, number) = {
            let link = self.link();
            let link = link.as_ref().ok_or_else(|| unknown("not connected"))?;
            let mut writer = link.writer.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(end) = &link.shared.lock().end {
                return Err(unknown(end));
            }
            before(&link.shared);
            writer.sent += 1;
            link.shared.lock().pending.insert(writer.sent, pending);
            // If it cannot be sent, the reader finds out why.
            let _ = writer.line.try_send_raw(format!("{line}\r\n").as_bytes());
            (Arc::clone(&link.shared), writer.sent)
        };
        let answer = shared.wait(|state| match state.answers.remove(&number) {
            Some(answer) => Some(Ok(answer)),
            None => state.end.as_deref().map(|end| Err(unknown(end))),
        });
        let answer = answer.unwrap_or_else(|| Err(unknown("no answer came in time")))?;
        match answer["status"].as_str() {
            Some("OK") => Ok(answer),
            status => Err(Failure::Refused(status.unwrap_or("an answer without status").to_owned())),
        }
    }
}

impl Link {
    fn open(recorder: &Recorder, client: u32, address: SocketAddr) -> io::Result<Self> {
        let mut line = LineClient::tcp(address)?;
        let odd = |missed: Missed| io::Error::other(missed.to_string());
        line.try_send_raw(b"setCustomClientData {\"extended\":true}\r\ndetailsView\r\n")?;
        let [welcome, extended, details] = [line.try_read_line(), line.try_read_line(), line.try_read_line()];
        let (welcome, extended, details) = (welcome.map_err(odd)?, extended.map_err(odd)?, details.map_err(odd)?);
        let member = serde_json::from_str::<Value>(&details).ok();
        let member = member.as_ref().and_then(|details| details["data"]["id"].as_str());
        let Some(member) = member.filter(|_| extended.contains(r#""status":"OK""#)) else {
            return Err(io::Error::other(format!("{welcome} {extended} {details}")));
        };
        let writer = line.try_clone()?;
        let socket = line.try_clone()?.into_tcp().ok_or(io::ErrorKind::Unsupported)?;
        let shared = Arc::new(Shared {
            recorder: recorder.clone(),
            client,
            member: member.into(),
            state: Mutex::default(),
            changed: Condvar::new(),
        });
        let reading = Arc::clone(&shared);
        let reader = thread::spawn(move || reading.read(line));
        let writer = Mutex::new(Writer { line: writer, sent: 2 });
        Ok(Self { shared, writer, socket, reader: Some(reader) })
    }

    /// Ends it, and returns when that has been written down.
    fn close(&mut self) {
        // It fails if the connection has ended already.
        let _ = self.socket.shutdown(Shutdown::Both);
        if let Some(reader) = self.reader.take() {
            // One that panicked has printed why.
            let _ = reader.join();
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.close();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<T>(&self, wanted: impl FnMut(&mut State) -> Option<T>) -> Option<T> {
        self.wait_within(DEADLINE, wanted)
    }

    fn wait_within<T>(&self, patience: Duration, mut wanted: impl FnMut(&mut State) -> Option<T>) -> Option<T> {
        let end = Instant::now() + patience;
        let mut state = self.lock();
        loop {
            if let Some(found) = wanted(&mut state) {
                return Some(found);
            }
            let left = end.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())?;
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Reads until the connection ends.
    fn read(&self, mut line: LineClient) {
        let end = loop {
            match line.try_read_line() {
                Ok(text) => match serde_json::from_str::<Value>(&text) {
                    Ok(message) => self.take(message),
                    Err(error) => break format!("{error}: {text}"),
                },
                // Nobody promised that anything comes.
                Err(Missed::Late { .. }) => {}
                Err(missed) => break missed.to_string(),
            }
        };
        let mut state = self.lock();
        for room in &state.rooms {
            self.recorder.record(Event::Left { client: self.client, room: room.clone() });
        }
        state.end = Some(end);
        drop(state);
        self.changed.notify_all();
    }

    fn take(&self, mut message: Value) {
        let client = self.client;
        let mut state = self.lock();
        match message["context"].as_str() {
            Some("user") => {
                let room = self.recorder.name(message["room"].as_str().unwrap_or_default());
                let (id, number) = (id_of(&message["message"]), message["number"].as_u64());
                state.heard += 1;
                if let Some(number) = number {
                    // What it waits for may be of another epoch.
                    state.latest.insert(room.clone(), number);
                }
                self.recorder.record(Event::Heard { client, room, id, number });
            }
            Some("api") if message["gap"].is_object() => {
                let room = self.recorder.name(message["room"].as_str().unwrap_or_default());
                let gap = message["gap"].take();
                let (first, last) = (gap["first"].as_u64().unwrap_or_default(), gap["last"].as_u64());
                self.recorder.record(Event::Gap { client, room, first, last });
            }
            Some("response") => {
                let number = message["messageCount"].as_u64().unwrap_or_default();
                let is_ok = message["status"] == "OK";
                match state.pending.remove(&number) {
                    Some(Pending::Join(room)) if is_ok => {
                        state.rooms.push(room.clone());
                        self.recorder.record(Event::Joined { client, room, member: self.member.clone() });
                    }
                    Some(Pending::Say { room, id }) if is_ok => {
                        let number = message["data"]["number"].as_u64();
                        self.recorder.record(Event::Acknowledged { client, room, id, number });
                    }
                    _ => {}
                }
                state.answers.insert(number, message);
            }
            _ => {}
        }
        drop(state);
        self.changed.notify_all();
    }
}

/// The id of a message of the history: its text is nothing but it.
pub(super) fn id_of(message: &Value) -> Option<u64> {
    message.as_str()?.parse().ok()
}
