//! What outlives a connection of a bot's shard: its session, its log, its rooms ([`ShardStore`]).
//!
//! The contract in one paragraph. A session is kept under its public handle, with the SHA-256 of the text that resumes it, never
//! the text. One *slot* for each shard of a fleet names its session. Whoever carries a session holds its *generation*: each
//! register and each resume makes a higher one, and what the holder of an older one asks for changes nothing and is answered
//! [`Fenced`]. An event is checked, numbered, stored and the log trimmed in one step. Whether a session has expired is looked at
//! whenever it is looked at. Sessions of another *epoch* than the store's are not there.

use std::fmt;
use std::sync::Arc;

use ring::digest::{SHA256, digest};
use switchboard_proto::id::{ConnId, RoomName};
use switchboard_proto::shard::{LogItem, LogPart, ShardCounts, ShardRefusal, ShardSessionId};

use crate::backend::BackendError;
use crate::op::Op;

/// What a [`ShardStore`] keeps at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShardLimits {
    /// Events of one session that are kept for a replay (`servers.gateway.replay_max_events`).
    pub log_events: usize,
    /// Their bytes (`servers.gateway.replay_max_bytes`).
    pub log_bytes: usize,
    /// Bytes of all logs together. Beyond it a session whose log grows, and is longer than its share, loses its oldest events; so
    /// it is twice as much at most, and an event for each session (`servers.gateway.replay_total_bytes`). In Redis it is the limit of
    /// each application.
    pub total_bytes: usize,
    /// How long a session without connection is kept, in milliseconds (`servers.gateway.resume_window`).
    pub resume_window_ms: u64,
    /// How long the id of a publication is remembered, in milliseconds (`servers.gateway.event_id_memory`).
    pub id_memory_ms: u64,
    /// How many of these ids are remembered; beyond it the oldest are forgotten (`servers.gateway.event_ids_max`). One whose event went
    /// to several sessions counts as many. In Redis it is the limit of each application.
    pub ids: usize,
}

impl Default for ShardLimits {
    fn default() -> Self {
        Self {
            log_events: 1000,
            log_bytes: 4 << 20,
            total_bytes: 256 << 20,
            resume_window_ms: 300_000,
            id_memory_ms: 300_000,
            ids: 100_000,
        }
    }
}

/// Keeps sessions of shards.
///
/// Guarantees: as of [`super::SessionStore`]; and every method is one step, of which all is done or nothing. `now_ms` is the
/// store's time in milliseconds since 1970: it does not jump while the process runs, whatever becomes of the clock.
pub trait ShardStore: fmt::Debug + Send + Sync {
    /// Makes a session for a shard and puts it into its slot. In this order: the shard must be in range and count the fleet as
    /// the fleet does; shard 0 must have a session, or be the one; the application must not have begun too many; nobody may
    /// carry the session in the slot if [`BeginShard::yields`]. Then the session in the slot ends, and
    /// [`BeginShard::in_place_of`], and, if shard 0 counts the fleet anew, all of the fleet that
    /// count otherwise.
    fn begin_shard(&self, begin: BeginShard) -> Op<Result<Result<BegunShard, ShardRefusal>, BackendError>>;

    /// Gives a session to a connection. `None`: there is no such session, not of this application and shard, or what was
    /// missed is not there any more. [`ResumeShard::seq`] is an acknowledgement too.
    fn resume_shard(&self, resume: ResumeShard) -> Op<Result<Option<ResumedShard>, BackendError>>;

    /// Notes that nobody carries the session any more. `Err(Fenced)`: somebody else does.
    fn detach_shard(&self, note: ShardNote, now_ms: u64) -> Op<Result<Result<(), Fenced>, BackendError>>;

    /// Ends a session: of this generation, or whoever carries it. `None`: there is none.
    fn end_shard(&self, id: ConnId, generation: Option<u64>) -> Op<Result<Option<EndedShard>, BackendError>>;

    /// Keeps figures and positions of sessions that are carried. Those of an older generation are passed over.
    fn note_shards(&self, notes: Vec<ShardNote>) -> Op<Result<(), BackendError>>;

    /// Forgets the events up to `seq`, since the client has dealt with them. What is not higher than what was acknowledged before
    /// changes nothing. When it is kept is up to the store, and a lost one costs nothing but memory.
    fn acknowledge(&self, id: ConnId, generation: u64, seq: u64) -> Op<Result<Result<(), AckRefusal>, BackendError>>;

    /// Appends an event to the logs of the sessions that it is for, all or none. `None`: there is no such session; nothing was
    /// stored. An id that is remembered for this application brings what it brought then, and stores nothing. Fails when the event
    /// is larger than a log may be ([`ShardLimits::log_bytes`]).
    fn publish(&self, publication: Publication) -> Op<Result<Option<PublishedEvent>, BackendError>>;

    /// Appends to one session's log what concerns it alone, a room message for example. The result is its number; `None`: there
    /// is no such session, or it has heard that message of that room. Of one session these are made in the order of the calls,
    /// whatever else fails. Fails as [`ShardStore::publish`] does.
    fn append(&self, append: Append) -> Op<Result<Option<u64>, BackendError>>;

    /// The events behind `after`, at most so many events and bytes, one at least.
    fn read_log(&self, read: ReadLog) -> Op<Result<Result<LogPart, ReadRefusal>, BackendError>>;

    /// The sessions of a fleet, by their shards.
    fn fleet(&self, fleet: &Fleet, now_ms: u64) -> Op<Result<Vec<ShardRecord>, BackendError>>;

    /// A session.
    fn shard(&self, id: ConnId, now_ms: u64) -> Op<Result<Option<ShardRecord>, BackendError>>;

    /// Every session, by id.
    fn shards(&self, now_ms: u64) -> Op<Result<Vec<ShardRecord>, BackendError>>;

    /// At most `limit` sessions in the order of their keys, those after this key.
    fn shards_after(
        &self,
        after: Option<ShardKey>,
        limit: usize,
        now_ms: u64,
    ) -> Op<Result<Vec<ShardRecord>, BackendError>>;

    /// How many sessions there are, and what their logs hold, if this process keeps count of it: costs the same however
    /// many there are, and never waits for a store.
    fn totals(&self) -> Option<ShardTotals> {
        None
    }

    /// The same of all nodes, from any store. Costs the same however many sessions there are.
    fn read_totals(&self) -> Op<Result<ShardTotals, BackendError>>;

    /// What an application may begin.
    fn starts(&self, application: &str, limits: StartLimits, now_ms: u64) -> Op<Result<StartsLeft, BackendError>>;

    /// Notes that a session is in a room, and that it has heard everything up to this number there. `Ok(false)`: it was known,
    /// or there is no such session. Fails when it is in as many rooms as are kept (`limits.max_rooms_per_connection`).
    fn add_shard_room(&self, id: ConnId, room: &RoomName, number: u64) -> Op<Result<bool, BackendError>>;

    /// Notes that a session is not in a room any more. `Ok(false)`: it was known.
    fn remove_shard_room(&self, id: ConnId, room: &RoomName) -> Op<Result<bool, BackendError>>;

    /// The rooms of a session in the order of joining, and up to which number it has heard them.
    fn shard_rooms(&self, id: ConnId) -> Op<Result<Vec<(RoomName, u64)>, BackendError>>;

    /// Forgets the sessions that expired, with their logs, and ids of publications that are old, and says which sessions.
    fn sweep_shards(&self, now_ms: u64) -> Op<Result<Vec<EndedShard>, BackendError>>;

    /// Whether the home of a session is told by the store itself that its log has grown, where that is another node.
    fn tells_growth(&self) -> bool {
        false
    }

    /// Takes over the sessions whose home is a node that is dead: nobody carries them, since `now_ms`, and their home is `to`.
    /// The result are these sessions. Asked again it goes on where it failed; what it had taken over by then is among
    /// [`ShardStore::shards`] only. A store that only one node uses has none.
    fn adopt_shards(&self, from: u16, to: u16, now_ms: u64) -> Op<Result<Vec<ShardRecord>, BackendError>>;
}

/// Shards that belong together.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Fleet {
    /// The application's id.
    pub application: Arc<str>,
    /// Whether these are development shards.
    pub development: bool,
}

/// A shard of a fleet. Lists of sessions are sorted by it; no two living sessions have the same.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ShardKey {
    /// The fleet.
    pub fleet: Fleet,
    /// The shard's number.
    pub shard: u32,
}

/// The SHA-256 of the text by which a session is resumed.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SessionHash([u8; 32]);

impl SessionHash {
    /// The hash of what a client presents.
    pub fn of(session: &ShardSessionId) -> Self {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest(&SHA256, session.as_str().as_bytes()).as_ref());
        Self(bytes)
    }

    /// A hash that was kept.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for SessionHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, ..] = self.0;
        write!(f, "SessionHash({a:02x}{b:02x}{c:02x}…)")
    }
}

/// A session that is to begin.
#[derive(Clone, Debug)]
pub struct BeginShard {
    /// What resumes it.
    pub hash: SessionHash,
    /// Its public handle.
    pub id: ConnId,
    /// Whose it is.
    pub fleet: Fleet,
    /// Which shard.
    pub shard: u64,
    /// Of how many, if the client says so.
    pub total: Option<u64>,
    /// How many the configuration says there are, if it does.
    pub fixed_total: Option<u32>,
    /// How many there may be (`servers.gateway.max_shards`).
    pub max_shards: u32,
    /// What the client asked for.
    pub flags: u64,
    /// How much the application may begin.
    pub starts: StartLimits,
    /// Whether it is refused while another connection carries the shard (`servers.gateway.duplicate_shard`).
    pub yields: bool,
    /// The session, and its generation, that the same connection carried before, whichever shard that is. It ends, and it is not
    /// another connection. A session that the connection does not carry any more is left alone.
    pub in_place_of: Option<(ConnId, u64)>,
    /// Who will carry it.
    pub owner: Owner,
    /// The time.
    pub now_ms: u64,
}

/// How many sessions an application may begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StartLimits {
    /// In 24 hours (`servers.gateway.start_total`); 0 for any number.
    pub total: u32,
    /// In any five seconds (`servers.gateway.start_concurrency`); 0 for any number.
    pub concurrency: u32,
}

/// What an application may still begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StartsLeft {
    /// In the present 24 hours; `u32::MAX` less what has begun, if any number may.
    pub remaining: u32,
    /// In how many milliseconds these are over; 0 if they begin with the next session.
    pub reset_after_ms: u64,
}

/// Who carries a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The node's name.
    pub node: Arc<str>,
    /// Its connection.
    pub connection: ConnId,
}

/// A session that has begun.
#[derive(Clone, Debug)]
pub struct BegunShard {
    /// The session.
    pub record: ShardRecord,
    /// Sessions that ended by it.
    pub ended: Vec<EndedShard>,
}

/// A session that is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndedShard {
    /// Which.
    pub id: ConnId,
    /// Who carried it, if anybody did.
    pub owner: Option<Owner>,
    /// Why.
    pub why: EndOfShard,
    /// Its rooms.
    pub rooms: Vec<RoomName>,
    /// See [`ShardRecord::home`].
    pub home: u16,
}

/// Why a session is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndOfShard {
    /// Its client, or an operator, ended it.
    Asked,
    /// Nobody came for it in time.
    Expired,
    /// Another session took its slot, or its connection began another one.
    Replaced,
    /// Shard 0 counted the fleet anew.
    Resharded,
}

/// A session that somebody wants back.
#[derive(Clone, Debug)]
pub struct ResumeShard {
    /// What resumes it.
    pub hash: SessionHash,
    /// Whose it must be.
    pub application: Arc<str>,
    /// Which shard it must be.
    pub shard: u64,
    /// The last event that the client has dealt with, if it says so. Without it the replay begins behind what is known to have been
    /// received.
    pub seq: Option<u64>,
    /// Who will carry it.
    pub owner: Owner,
    /// The time.
    pub now_ms: u64,
}

/// A session that was given to a connection.
#[derive(Clone, Debug)]
pub struct ResumedShard {
    /// The session.
    pub record: ShardRecord,
    /// The last event that the client need not be sent.
    pub after: u64,
    /// Who carried it until now, if anybody did.
    pub previous: Option<Owner>,
}

/// A session, without its log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardRecord {
    /// Its public handle.
    pub id: ConnId,
    /// Whose it is.
    pub fleet: Fleet,
    /// Which shard.
    pub shard: u32,
    /// Of how many, as it was told or declared when it registered, or as shard 0 has declared since, if that is what was counted.
    /// None: nobody has said.
    pub total: Option<u32>,
    /// How many the fleet consists of now.
    pub fleet_total: u32,
    /// What the client asked for.
    pub flags: u64,
    /// When it began, in the store's time.
    pub created_ms: u64,
    /// How often it was begun and resumed, as a number that only grows.
    pub generation: u64,
    /// Who carries it.
    pub owner: Option<Owner>,
    /// Since when nobody does.
    pub detached_ms: Option<u64>,
    /// The newest event.
    pub last: u64,
    /// The newest event that is not kept any more.
    pub floor: u64,
    /// Up to where the client is known to have received, or dealt with, events.
    pub received: u64,
    /// Bytes of the events that are kept.
    pub log_bytes: usize,
    /// What the shard has done, as far as was noted.
    pub counts: ShardCounts,
    /// The number of the node that carries it, or carried it last: what rooms say is written into its log there. 0 where there is
    /// only one node.
    pub home: u16,
}

impl ShardRecord {
    /// Where it is in a list of sessions.
    pub fn key(&self) -> ShardKey {
        ShardKey { fleet: self.fleet.clone(), shard: self.shard }
    }
}

/// Sessions and their logs together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShardTotals {
    /// Sessions. One that has expired counts until the store has removed it.
    pub sessions: usize,
    /// Of these, how many no connection carries.
    pub detached: usize,
    /// Events in their logs.
    pub log_events: u64,
    /// Bytes of those events.
    pub log_bytes: usize,
}

/// What whoever carries a session knows of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardNote {
    /// Which.
    pub id: ConnId,
    /// The generation that it holds.
    pub generation: u64,
    /// Figures.
    pub counts: ShardCounts,
    /// Up to where the client's host is known to have received events.
    pub received: u64,
}

/// Whoever asked does not carry the session any more, or it is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fenced;

/// Why an acknowledgement does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AckRefusal {
    /// There is no such event yet.
    Ahead,
    /// See [`Fenced`].
    Fenced,
}

/// Why a log cannot be read on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadRefusal {
    /// Events behind the number were trimmed.
    Trimmed,
    /// See [`Fenced`].
    Fenced,
}

/// What is to be read of a log.
#[derive(Clone, Copy, Debug)]
pub struct ReadLog {
    /// Whose log.
    pub id: ConnId,
    /// The generation that the reader holds.
    pub generation: u64,
    /// Behind which event.
    pub after: u64,
    /// Most events.
    pub max_events: usize,
    /// Most bytes, but for one event.
    pub max_bytes: usize,
}

/// An event for some of an application's shards.
#[derive(Clone, Debug)]
pub struct Publication {
    /// Whose shards.
    pub fleet: Fleet,
    /// Which of them.
    pub to: ShardTarget,
    /// How many the configuration says there are, if it does.
    pub fixed_total: Option<u32>,
    /// What.
    pub item: LogItem,
    /// What makes a second publication the same one.
    pub id: Option<Box<str>>,
    /// The time.
    pub now_ms: u64,
}

/// Which of a fleet's shards are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShardTarget {
    /// This one.
    Shard(u32),
    /// The one that a guild belongs to: `(id >> 22) % shards`.
    Guild(u64),
    /// All that have a session.
    All,
}

/// An event that was stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublishedEvent {
    /// In which logs.
    pub deliveries: Vec<ShardDelivery>,
    /// It was published before, under the same id.
    pub is_repeated: bool,
}

/// An event in one log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShardDelivery {
    /// Whose.
    pub session: ConnId,
    /// Which shard that is.
    pub shard: u32,
    /// Under which number.
    pub seq: u64,
    /// See [`ShardRecord::home`].
    pub home: u16,
}

/// Something for one session.
#[derive(Clone, Debug)]
pub struct Append {
    /// Which.
    pub id: ConnId,
    /// What.
    pub item: LogItem,
    /// If it is a message of a room: which, and its number there. Nothing is appended, and `None` is the result, when the session is
    /// not in the room, or has heard it up to there: while a session moves, two nodes may write the same.
    pub room: Option<(RoomName, u64)>,
    /// It tells that messages of the room are missing. The session may have heard later ones.
    pub is_gap: bool,
    /// The time.
    pub now_ms: u64,
}
