//! The gateway: bots whose shards register, resume and are sent events.
//!
//! - [`applications`]: whose they are.
//! - `carry`: how a connection comes to carry a session, and ceases to; `live`: the sessions that connections of this node carry.
//! - [`events`]: what is published to them, and what is told about them.
//! - [`figures`]: what is counted; [`sessions`]: what operators see.
//! - `interactions`: what is asked of them over HTTP, and their answers; `signature`: who has asked.
//! - `rooms`: sessions as members of rooms; `seats`: which is where; `scribe`: writes what rooms say into logs;
//!   `missed`: finds the messages that a log lacks; `facts`: who a session is.
//! - `upkeep`: what is done every few seconds.
//!
//! The store owns the truth about sessions; what is here can be lost. An event is in the log of its session before anybody is
//! told of it, and whoever carries the session reads it from there: see [`crate::backend::sessions::shards`].

pub mod applications;
mod carry;
pub mod events;
mod facts;
pub mod figures;
mod interactions;
mod live;
mod missed;
mod rooms;
mod scribe;
mod seats;
pub mod sessions;
mod signature;
mod upkeep;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use switchboard_proto::call::{Answer, CallError, Outcome};
use switchboard_proto::face::Remote;
use switchboard_proto::id::ConnId;
use switchboard_proto::shard::{LogPart, ShardAnswer, ShardCall, ShardRefusal};

use crate::backend::sessions::shards::{AckRefusal, ReadLog, ReadRefusal, StartLimits};
use crate::clock::Steady;
use crate::op::Op;
use crate::users::Refusal;
use crate::worker::calls::Caller;

use super::Node;
use super::chat::{crashed_call, unavailable};
use super::send_rates::SendRates;
use applications::{Application, Applications};
use figures::Counters;
pub(crate) use interactions::InteractionError;
use interactions::Waiting;
use live::{Backlog, Lives, Patience};
use rooms::ShardRooms;
pub(crate) use scribe::ScribeInbox;
pub(crate) use signature::SignedBody;

/// Most events that a face is given at once.
const READ_EVENTS: usize = 256;

/// Most bytes of events that a face is given at once, but for one event.
const READ_BYTES: usize = 256 << 10;

/// Sessions that are looked for after the store has failed at beginning them. Further ones are detached, and expire.
const UNKNOWN_MAX: usize = 4096;

/// What a node takes for the gateway.
#[derive(Clone, Debug)]
pub(crate) struct GatewayOptions {
    /// `gateway.applications`.
    pub(crate) applications: Vec<Application>,
    /// `servers.gateway.allow_insecure`.
    pub(crate) allow_insecure: bool,
    /// `servers.gateway.max_shards`.
    pub(crate) max_shards: u32,
    /// `servers.gateway.start_total` and `start_concurrency`.
    pub(crate) starts: StartLimits,
    /// `servers.gateway.duplicate_shard` is `reject`.
    pub(crate) yields: bool,
    /// `servers.gateway.publish_rate`: events of one application in a second; 0 for any number.
    pub(crate) publish_rate: u32,
    /// `servers.gateway.publish_wait`: how long a publication waits for a client that reads, but slowly.
    pub(crate) publish_wait: Duration,
    /// `servers.gateway.resume_window`.
    pub(crate) resume_window: Duration,
    /// `servers.gateway.replay_max_events`.
    pub(crate) log_events: usize,
    /// `servers.gateway.replay_max_bytes`.
    pub(crate) log_bytes: usize,
    /// `servers.gateway.interaction_wait`: how long an interaction waits for its shard's answer.
    pub(crate) interaction_wait: Duration,
    /// `servers.gateway.interaction_max_age`; zero: of any age.
    pub(crate) interaction_max_age: Duration,
    /// `servers.gateway.interactions_max`: how many may wait.
    pub(crate) interactions_max: usize,
}

/// The gateway of a node.
#[derive(Debug)]
pub(super) struct Gateway {
    pub(super) applications: Applications,
    pub(super) options: GatewayOptions,
    pub(super) lives: Lives,
    pub(super) rooms: ShardRooms,
    counters: Counters,
    /// How long rooms wait for any of them.
    rooms_patience: Patience,
    rates: SendRates<Arc<str>>,
    waiting: Arc<Waiting>,
    /// The store's time.
    pub(super) clock: Steady,
    /// The node's name.
    node: Arc<str>,
    /// The store has failed at a session: it may hold one that nobody carries as carried by us.
    has_failed: AtomicBool,
    /// Sessions that may have begun although the store said that it failed. Nobody knows what would resume them.
    unknown: Mutex<Vec<ConnId>>,
}

impl Gateway {
    pub(super) fn new(mut options: GatewayOptions, node: &str, scribe: &ScribeInbox, workers: usize) -> Self {
        Self {
            applications: Applications::new(std::mem::take(&mut options.applications), options.allow_insecure),
            lives: Lives::default(),
            rooms: ShardRooms::new(scribe, workers),
            waiting: Arc::new(Waiting::new(options.interactions_max)),
            counters: Counters::default(),
            rooms_patience: Patience::default(),
            rates: SendRates::new(options.publish_rate, options.publish_rate),
            clock: Steady::begin(),
            node: node.into(),
            has_failed: AtomicBool::new(false),
            unknown: Mutex::default(),
            options,
        }
    }

    /// How much may wait in a log before whoever adds to it waits. Many add at once, each once more before it looks: so the rest of
    /// the log is theirs.
    fn most_unread(&self) -> Backlog {
        Backlog { events: (self.options.log_events / 4) as u64, bytes: (self.options.log_bytes / 4) as u64 }
    }

    fn unknown(&self) -> MutexGuard<'_, Vec<ConnId>> {
        // Nothing under this lock can panic half way.
        self.unknown.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The store may have begun this session, or not.
    fn note_unknown(&self, session: ConnId) {
        let mut unknown = self.unknown();
        if unknown.len() < UNKNOWN_MAX {
            unknown.push(session);
        }
        drop(unknown);
        self.note_failure();
    }

    fn note_failure(&self) {
        self.has_failed.store(true, Ordering::Relaxed);
    }
}

impl Node {
    /// What a shard asks.
    pub(super) fn start_shard_call(&self, caller: Caller, call: ShardCall) -> Op<Outcome> {
        let has_credentials = matches!(
            call,
            ShardCall::Check(_)
                | ShardCall::CheckPart { .. }
                | ShardCall::Fleet(_)
                | ShardCall::Register(_)
                | ShardCall::Resume(_)
        );
        if !has_credentials {
            return self.shard_call(caller, call);
        }
        let (node, remote) = (self.clone(), caller.facts.remote);
        let answering = self.shard_call(caller, call);
        let slowly = async move {
            let outcome = answering.await;
            if matches!(outcome, Err(CallError::Shard(ShardRefusal::BadCredentials))) {
                // Each guess needs a connection, which stays open for as long as its refusal is delayed.
                node.note_wrong_credentials(remote).await;
            }
            outcome
        };
        Op::start(slowly, crashed_call)
    }

    /// Counts wrong credentials of an application from this address.
    pub(crate) async fn note_wrong_credentials(&self, from: Remote) -> Option<Refusal> {
        self.0.users.note_wrong_credentials(from, self.uptime_ms()).await
    }

    fn shard_call(&self, caller: Caller, call: ShardCall) -> Op<Outcome> {
        let connection = caller.facts.id;
        match call {
            ShardCall::Read { after } => self.read_log(connection, after),
            ShardCall::Received { seq, round_trip_us } => {
                if let Some(live) = self.0.gateway.lives.of_connection(connection) {
                    live.note_received(seq, round_trip_us);
                }
                done()
            }
            ShardCall::Acknowledge { seq } => self.acknowledge(connection, seq),
            ShardCall::Check(credentials) => checked(self.0.gateway.applications.of(&credentials).is_some()),
            ShardCall::CheckPart { credentials, shard, total } => {
                Op::Ready(self.check_part(&credentials, shard.unwrap_or(0), total))
            }
            ShardCall::Fleet(credentials) => {
                let node = self.clone();
                Op::start(async move { node.own_fleet(connection, credentials).await }, crashed_call)
            }
            ShardCall::Register(registration) => {
                let node = self.clone();
                let registering = async move {
                    let outcome = node.register(caller, registration).await;
                    node.0.gateway.counters.count_registration(&outcome);
                    outcome
                };
                Op::start(registering, crashed_call)
            }
            ShardCall::Resume(resumption) => {
                let node = self.clone();
                let resuming = async move {
                    let outcome = node.resume(caller, resumption).await;
                    node.0.gateway.counters.count_resume(&outcome);
                    outcome
                };
                Op::start(resuming, crashed_call)
            }
            ShardCall::End => {
                let node = self.clone();
                Op::start(async move { node.end_own_shard(connection).await }, crashed_call)
            }
            ShardCall::Interaction { id, data } => {
                if let Some(live) = self.0.gateway.lives.of_connection(connection) {
                    self.answer_interaction(&live.application, &id, data);
                }
                done()
            }
            ShardCall::Join { .. } | ShardCall::Leave { .. } | ShardCall::Say { .. } => {
                self.start_room_call(connection, call)
            }
        }
    }

    /// What a shard asks about rooms.
    fn start_room_call(&self, connection: ConnId, call: ShardCall) -> Op<Outcome> {
        let Some(live) = self.0.gateway.lives.of_connection(connection) else {
            return Op::Ready(Err(ShardRefusal::Replaced.into()));
        };
        let (node, session) = (self.clone(), live.session);
        let changing = async move {
            match call {
                ShardCall::Join { room } => node.join_as_shard(session, Arc::clone(&live.application), room).await?,
                ShardCall::Leave { room } => node.leave_as_shard(session, room).await?,
                ShardCall::Say { room, body, id } => return node.say_as_shard(session, room, body, id).await,
                _ => return Err(CallError::Unavailable),
            }
            Ok(Answer::Shard(ShardAnswer::Done))
        };
        Op::start(changing, crashed_call)
    }

    fn read_log(&self, connection: ConnId, after: u64) -> Op<Outcome> {
        let Some(live) = self.0.gateway.lives.of_connection(connection) else {
            return Op::Ready(Err(ShardRefusal::Replaced.into()));
        };
        // Before the log is looked at: what comes behind that is told again.
        live.begins_to_read();
        let read = ReadLog {
            id: live.session,
            generation: live.generation,
            after,
            max_events: READ_EVENTS,
            max_bytes: READ_BYTES,
        };
        self.0.sessions.read_log(read).map(move |part| match part.map_err(unavailable)? {
            Ok(part) => {
                let LogPart { events, .. } = &part;
                if let Some(last) = events.last() {
                    live.has_read_up_to(last.seq, events.iter().map(|event| event.item.as_str().len()).sum());
                }
                Ok(Answer::Shard(ShardAnswer::Events(part)))
            }
            Err(ReadRefusal::Trimmed) => Err(ShardRefusal::FellBehind.into()),
            Err(ReadRefusal::Fenced) => Err(ShardRefusal::Replaced.into()),
        })
    }

    fn acknowledge(&self, connection: ConnId, seq: u64) -> Op<Outcome> {
        let Some(live) = self.0.gateway.lives.of_connection(connection) else {
            return Op::Ready(Err(ShardRefusal::Replaced.into()));
        };
        self.0.sessions.acknowledge(live.session, live.generation, seq).map(|acknowledged| {
            match acknowledged.map_err(unavailable)? {
                Ok(()) => Ok(Answer::Shard(ShardAnswer::Done)),
                Err(AckRefusal::Ahead) => Err(ShardRefusal::InvalidSeq.into()),
                Err(AckRefusal::Fenced) => Err(ShardRefusal::Replaced.into()),
            }
        })
    }
}

fn checked(are_right: bool) -> Op<Outcome> {
    Op::Ready(if are_right {
        Ok(Answer::Shard(ShardAnswer::Checked))
    } else {
        Err(ShardRefusal::BadCredentials.into())
    })
}

fn done() -> Op<Outcome> {
    Op::Ready(Ok(Answer::Shard(ShardAnswer::Done)))
}
