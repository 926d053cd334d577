//! What a room asks of Redis: each is one script, or one question.

use std::sync::Arc;
use std::time::Instant;

use redis::Value;
use switchboard_proto::event::RoomMessage;
use switchboard_proto::id::RoomName;
use switchboard_proto::user::User;
use switchboard_proto::wire::Encoded;

use crate::backend::{BackendError, Draft};
use crate::clock;

use super::super::envelope;
use super::super::feed::{Arrival, Mark, Place, Point};
use super::super::link::LinkState;
use super::super::script::Script;
use super::super::store::Answered;
use super::Inner;
use super::room::{Said, arrival};

static OPEN: Script = Script::new(include_str!("open.lua"));
static CLOSE: Script = Script::new(include_str!("close.lua"));
static HEAD: Script = Script::new(include_str!("head.lua"));
static PUBLISH: Script = Script::new(include_str!("publish.lua"));

/// How long the epoch of a room that was destroyed is remembered: the next room of that name begins a later one, whatever the clocks of
/// the nodes say.
const EPOCH_MEMORY_MS: u64 = 24 * 3600 * 1000;

/// The largest whole number that Lua counts up to one by one. Above any limit that can be reached.
const MOST: usize = 1 << 53;

/// Entries of a log that are read at once.
const ENTRIES: usize = 256;

/// What became of a publish in the store.
pub(super) enum Publication {
    /// It has its place; the mark of the message before it as bytes.
    Done { place: Place, before: [u8; 8] },
    /// The same user said it before: place, user and envelope.
    Before(Vec<u8>),
    /// Somebody else used its id.
    IdTaken,
    /// There is no such room.
    NoRoom,
    /// Nothing was done: the store has begun a generation that this node does not know yet.
    Stale,
}

/// What a part of a log has.
pub(super) struct LogPart {
    pub(super) entries: Vec<Arrival<Said>>,
    /// Up to here it is all.
    pub(super) to: Place,
}

impl Inner {
    fn room_keys(&self, room: &RoomName) -> [String; 5] {
        ["sequence", "log", "ids", "order", "ended"].map(|what| self.store.keys.room(room.as_str(), what))
    }

    /// Begins to number a room. With what is `known` of it: above that, and unless it was destroyed.
    pub(super) async fn begin_sequence(&self, room: &RoomName, known: Option<Point>) -> Result<(), BackendError> {
        let keys = self.room_keys(room);
        let generation = self.store.standing.generation();
        let Place { epoch, number } = known.map_or(Place { epoch: 0, number: 0 }, |known| known.place);
        let answer = self.store.change(&OPEN, &keys.each_ref().map(String::as_str), |command| {
            command.arg(generation).arg(clock::unix_ms()).arg(epoch).arg(number);
            command.arg(u8::from(known.is_some()));
        });
        answer.await.map(drop)
    }

    /// Forgets all that is kept of a room.
    pub(super) async fn forget_sequence(&self, room: &RoomName) -> Result<(), BackendError> {
        let keys = self.room_keys(room);
        let answer = self.store.change(&CLOSE, &keys.each_ref().map(String::as_str), |command| {
            command.arg(EPOCH_MEMORY_MS);
        });
        answer.await.map(drop)
    }

    /// Where a room stands; `renews`: a new epoch begins, in any case. `None`: there is no such room.
    pub(super) async fn head(&self, room: &RoomName, known: u64, renews: bool) -> Result<Option<Point>, BackendError> {
        let key = self.store.keys.room(room.as_str(), "sequence");
        let deadline = Instant::now() + self.store.link.timeout();
        let answer = loop {
            let generation = self.store.standing.generation();
            let answer = self.store.change(&HEAD, &[&key], |command| {
                command.arg(generation).arg(clock::unix_ms()).arg(known).arg(u8::from(renews));
            });
            let answer = answer.await?;
            let is_stale = answer.list().and_then(|words| words.first()).and_then(Answered::text) == Some("stale");
            if !is_stale || !self.learn_generation(generation, deadline).await {
                break answer;
            }
        };
        let words = answer.list().unwrap_or_default();
        match (words.first().and_then(Answered::text), words) {
            (Some("none"), _) => Ok(None),
            (Some("stale"), _) => Err(stale()),
            (Some("ok"), [_, epoch, number, mark]) => {
                let place = epoch.number().zip(number.number()).map(|(epoch, number)| Place { epoch, number });
                let place = place.ok_or_else(|| self.store.odd("head", &answer))?;
                let mark = mark.bytes().and_then(|bytes| bytes.try_into().ok()).map(u64::from_be_bytes);
                Ok(Some(Point { place, mark: mark.map(Mark) }))
            }
            _ => Err(self.store.odd("head", &answer)),
        }
    }

    /// Waits until this node knows a generation of the store after `known`, which another node has begun. Returns
    /// `false` at the deadline.
    pub(super) async fn learn_generation(&self, known: u64, deadline: Instant) -> bool {
        let mut membership = self.nodes.membership();
        self.nodes.look();
        let is_learnt = async {
            while self.store.standing.generation() <= known {
                if membership.changed().await.is_err() {
                    return false;
                }
            }
            true
        };
        tokio::time::timeout_at(deadline.into(), is_learnt).await.unwrap_or(false)
    }

    /// Has a message numbered, kept and published.
    pub(super) async fn number(
        &self,
        draft: &Draft,
        mark: Mark,
        envelope: &[u8],
        known: u64,
    ) -> Result<Publication, BackendError> {
        let (store, limits) = (&self.store, &self.settings.limits);
        let (is_cluster, is_sharded) = match &*store.link.state().borrow() {
            LinkState::Up { server, .. } => (server.is_cluster, server.is_cluster && server.shards_channels()),
            LinkState::Down => (false, false),
        };
        let room = draft.room.as_str();
        let [sequence, log, ids, order, _] = self.room_keys(&draft.room);
        let mut keys = vec![sequence, log, ids, order, store.keys.room_channel(room)];
        if is_cluster {
            keys.push(store.keys.room(room, &format!("once:{:016x}", mark.0)));
        }
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        let publishing = match (self.publishes_in_store, is_sharded) {
            (false, _) => "",
            (true, false) => "PUBLISH",
            (true, true) => "SPUBLISH",
        };
        let once_ms = store.link.timeout().as_millis().saturating_mul(4);
        let answer = store.change(&PUBLISH, &keys, |command| {
            let id = draft.extra.as_ref().and_then(|extra| extra.id.as_deref()).unwrap_or_default();
            command.arg(store.standing.generation()).arg(draft.sent_at).arg(known);
            command.arg(&mark.0.to_be_bytes()[..]).arg(envelope).arg(id);
            command.arg(draft.user.as_ref().map(User::id).unwrap_or_default());
            for limit in [limits.messages, limits.bytes, limits.ids, limits.id_bytes] {
                command.arg(limit.min(MOST));
            }
            command.arg(limits.id_ms.clamp(1, MOST as u64)).arg(publishing).arg(once_ms.max(1).to_string());
        });
        let answer = answer.await?;
        let words = answer.list().unwrap_or_default();
        let bytes = || words.get(1).and_then(Answered::bytes);
        match words.first().and_then(Answered::text) {
            Some("ok") => {
                let head = bytes().and_then(envelope::read_place);
                let done = head.and_then(|(place, before)| Some((place, before.try_into().ok()?)));
                let (place, before) = done.ok_or_else(|| store.odd("publish", &answer))?;
                Ok(Publication::Done { place, before })
            }
            Some("before") => Ok(Publication::Before(bytes().unwrap_or_default().to_vec())),
            Some("taken") => Ok(Publication::IdTaken),
            Some("none") => Ok(Publication::NoRoom),
            Some("stale") => Ok(Publication::Stale),
            _ => Err(store.odd("publish", &answer)),
        }
    }

    /// Reads a log from one place to another, both included, as far as one answer reaches.
    pub(super) async fn read_log(&self, room: &RoomName, from: Place, to: Place) -> Result<LogPart, BackendError> {
        let mut command = redis::cmd("XRANGE");
        command.arg(self.store.keys.room(room.as_str(), "log")).arg(id_of(from)).arg(id_of(to));
        command.arg("COUNT").arg(ENTRIES);
        let answer = self.store.read(command).await?;
        let entries = answer.list().ok_or_else(|| self.store.odd("log", &answer))?;
        let is_all = entries.len() < ENTRIES;
        let last = entries.last().and_then(place_of);
        let incarnation = self.store.standing.incarnation();
        let read = entries.iter().filter_map(|entry| {
            let numbered = self.entry(room, entry, incarnation)?;
            let bytes = numbered.message.body.as_str().len();
            Some(arrival(numbered, bytes))
        });
        Ok(LogPart { entries: read.collect(), to: if is_all { to } else { last.unwrap_or(to) } })
    }

    /// Reads all that a log has up to a place.
    pub(super) async fn read_up_to(&self, room: &RoomName, to: Place) -> Result<Vec<Arc<Encoded>>, BackendError> {
        let mut messages = Vec::new();
        if to.number == 0 {
            return Ok(messages);
        }
        // Before the first place of a log.
        let mut from = Place { epoch: 0, number: 0 };
        loop {
            let part = self.read_log(room, from, to).await?;
            let entries = part.entries.into_iter().filter(|entry| entry.place > from);
            messages.extend(entries.map(|entry| Arc::new(Encoded::new(entry.message.message))));
            if part.to == to {
                return Ok(messages);
            }
            from = part.to;
        }
    }

    /// The latest messages of a log, the newest first. `None`: there is no such room.
    pub(super) async fn read_latest(
        &self,
        room: &RoomName,
        most: Option<usize>,
    ) -> Result<Option<Vec<RoomMessage>>, BackendError> {
        let mut command = redis::cmd("XREVRANGE");
        command.arg(self.store.keys.room(room.as_str(), "log")).arg("+").arg("-");
        command.arg("COUNT").arg(most.unwrap_or(MOST).min(self.settings.limits.messages).max(1));
        let log = self.store.read(command);
        let mut command = redis::cmd("EXISTS");
        command.arg(self.store.keys.room(room.as_str(), "sequence"));
        let (log, exists) = tokio::join!(log, self.store.read(command));
        let (log, exists) = (log?, exists?);
        if exists.number() != Some(1) {
            return Ok(None);
        }
        let entries = log.list().ok_or_else(|| self.store.odd("log", &log))?;
        let messages = entries.iter().filter_map(|entry| self.entry(room, entry, 0));
        Ok(Some(messages.map(|numbered| numbered.message).take(most.unwrap_or(usize::MAX)).collect()))
    }

    /// An entry of a log, unless nobody of us wrote it.
    fn entry(&self, room: &RoomName, entry: &Value, incarnation: u64) -> Option<envelope::Numbered> {
        let read = || {
            let place = place_of(entry)?;
            let [_, fields] = entry.list()? else { return None };
            let [_, bytes] = fields.list()? else { return None };
            envelope::read_behind(bytes.bytes()?, place, room, incarnation)
        };
        let numbered = read();
        if numbered.is_none() {
            self.note_malformed(room);
        }
        numbered
    }
}

fn place_of(entry: &Value) -> Option<Place> {
    envelope::parse_place(entry.list()?.first()?.text()?)
}

fn id_of(place: Place) -> String {
    format!("{}-{}", place.epoch, place.number)
}

/// This node has not learnt the generation of the store in time.
pub(super) fn stale() -> BackendError {
    BackendError("Redis: the store has begun a generation that this node has not learnt in time".to_owned())
}
