//! What is published to shards, and what is told about them.

use std::time::Duration;

use switchboard_proto::call::CallError;
use switchboard_proto::gateway::items;
use switchboard_proto::id::ConnId;
use switchboard_proto::json::RawJson;
use switchboard_proto::shard::{AppCredentials, LogItem, ShardEvent};
use thiserror::Error;
use tokio::time::Instant;

use crate::backend::sessions::shards::{Fleet, Publication, PublishedEvent, ShardRecord, ShardTarget, StartsLeft};
use crate::op::Op;

use super::super::Node;
use super::super::chat::unavailable;
use super::applications::Application;
use super::figures::Source;

/// How long what a room says waits for a client that lags,
const ROOM_WAIT: Duration = Duration::from_millis(20);

/// how long then not for that client again, in milliseconds,
const ROOM_PAUSE_MS: u64 = 1000;

/// and how long not for anybody: so rooms spend a tenth of their time on clients that lag, however many do.
const ROOMS_PAUSE_MS: u64 = 180;

/// First character of the server's own publication ids. Ids of publishers must not begin with it.
pub(super) const OWN_ID: char = '\0';

/// Longest id of a publication.
const MAX_ID_BYTES: usize = 128;

/// An event for an application's shards.
#[derive(Clone, Debug)]
pub struct NewEvent {
    /// What it is called: see [`switchboard_proto::gateway::items::is_event_name`].
    pub name: String,
    /// What it says: any JSON.
    pub data: RawJson,
    /// For which shards.
    pub to: ShardTarget,
    /// Whether for those of the development fleet.
    pub development: bool,
    /// The same one within five minutes publishes nothing again: 1 to 128 bytes.
    pub id: Option<String>,
}

/// Why an event was not published. Nothing was stored then.
#[derive(Debug, Error)]
pub enum PublishError {
    /// There is no such application.
    #[error("no such application")]
    NoSuchApplication,
    /// No event is called so.
    #[error(
        "event must be a capital letter, then up to 63 capital letters, digits and underscores, and not begin with GATEWAY_"
    )]
    BadName,
    /// No id of a publication looks so.
    #[error("id must be 1 to 128 bytes long")]
    BadId,
    /// The event is longer than a log may be.
    #[error("the event is too large")]
    TooLarge,
    /// None of the shards that it is for has a session.
    #[error("no such shard has a session")]
    NoSession,
    /// The application has published too much in the last second.
    #[error("too many events")]
    TooMany {
        /// When it may be tried again, in milliseconds.
        retry_ms: u64,
    },
    /// The store failed; the log has the cause.
    #[error("unavailable")]
    Unavailable,
}

/// A session, as operators and its application see it.
#[derive(Clone, Debug)]
pub struct ShardInfo {
    /// What is kept of it, with the figures of this moment where this node carries it.
    pub record: ShardRecord,
    /// How long the latest ping took, in microseconds, if one was answered.
    pub round_trip_us: Option<u64>,
}

impl Node {
    /// Publishes an event to shards of an application: it is numbered and stored for each of them when this returns, and
    /// survives what the store survives. With [`NewEvent::id`] a retry publishes nothing again and returns what the first one
    /// did.
    ///
    /// Once begun it comes to its end, whether or not the future is awaited to its own.
    ///
    /// The event is stored first. Where a client reads more slowly than is published, this then waits for it, up to
    /// `servers.gateway.publish_wait`: whoever publishes one event after the other is held to the client's pace before its log
    /// loses events.
    ///
    /// # Errors
    ///
    /// See [`PublishError`].
    pub async fn publish_event(&self, application: &str, event: NewEvent) -> Result<PublishedEvent, PublishError> {
        let NewEvent { name, data, to, development, id } = event;
        let gateway = &self.0.gateway;
        let application = gateway.applications.by_id(application).ok_or(PublishError::NoSuchApplication)?;
        if !items::is_event_name(&name) {
            return Err(PublishError::BadName);
        }
        let is_bad = |id: &String| id.is_empty() || id.len() > MAX_ID_BYTES || id.starts_with(OWN_ID);
        if id.as_ref().is_some_and(is_bad) {
            return Err(PublishError::BadId);
        }
        let taken = gateway.rates.take(application.user.shared_id(), self.uptime_ms());
        taken.map_err(|retry_ms| PublishError::TooMany { retry_ms })?;
        let item = items::application(&name, &data);
        self.publish_item(application, development, to, item, id.map(Into::into)).await
    }

    /// Publishes what is worded already.
    pub(in crate::node) async fn publish_item(
        &self,
        application: &Application,
        development: bool,
        to: ShardTarget,
        item: LogItem,
        id: Option<Box<str>>,
    ) -> Result<PublishedEvent, PublishError> {
        let gateway = &self.0.gateway;
        let bytes = item.as_str().len();
        if bytes > gateway.options.log_bytes {
            return Err(PublishError::TooLarge);
        }
        let publication = Publication {
            fleet: Fleet { application: application.user.shared_id(), development },
            to,
            fixed_total: application.fixed_total(),
            item,
            id,
            now_ms: gateway.clock.now_ms(),
        };
        let node = self.clone();
        let publishing = self.0.sessions.publish(publication).map(move |published| {
            let published = published.map_err(unavailable)?;
            if let Some(PublishedEvent { deliveries, is_repeated }) = &published {
                if !is_repeated {
                    node.0.gateway.counters.count_appended(Source::Published, deliveries.len() as u64);
                }
                // Also of what is repeated: the first time may have ended in a failure after it was stored.
                let bytes = if *is_repeated { 0 } else { bytes };
                for delivery in deliveries {
                    node.log_has_grown(delivery.session, delivery.seq, bytes);
                    node.tell_grown(delivery, bytes);
                }
            }
            Ok(published)
        });
        let published = self.follow(publishing).await.map_err(|_| PublishError::Unavailable)?;
        let published = published.ok_or(PublishError::NoSession)?;
        let until = Instant::now() + gateway.options.publish_wait;
        for delivery in &published.deliveries {
            self.wait_for_reader(delivery.session, delivery.seq, until).await;
        }
        Ok(published)
    }

    /// Follows a change of logs to its end, even if whoever asked stops waiting: else an event would be in a log, and whoever
    /// carries the session would not be told before the next one.
    pub(super) async fn follow<T: Send + 'static>(&self, change: Op<Result<T, CallError>>) -> Result<T, CallError> {
        match change {
            Op::Ready(changed) => changed,
            Op::Wait(changing) => self.to_the_end(changing).await,
        }
    }

    /// An event of so many bytes is in a session's log: whoever carries the session is told, unless he knows and has not looked
    /// yet.
    pub(in crate::node) fn log_has_grown(&self, session: ConnId, seq: u64, bytes: usize) {
        if let Some(live) = self.0.gateway.lives.of_session(session)
            && live.has_grown(seq, bytes)
        {
            self.tell_shard(&live, ShardEvent::Grown);
        }
    }

    /// Waits for a client that reads more slowly than its log grows, but not for long, and not again before it has read.
    pub(super) async fn wait_for_reader(&self, session: ConnId, seq: u64, until: Instant) {
        let most = self.0.gateway.most_unread();
        let Some(live) = self.0.gateway.lives.of_session(session) else { return };
        let read = live.read();
        if live.is_behind_at(seq, most)
            && !live.is_slow()
            && tokio::time::timeout_at(until, live.catches_up(seq, most)).await.is_err()
            && live.read() == read
        {
            live.note_slow();
        }
    }

    /// Whether more waits for whoever carries a session than should.
    pub(in crate::node) fn lags(&self, session: ConnId) -> bool {
        let gateway = &self.0.gateway;
        gateway.lives.of_session(session).is_some_and(|live| live.is_behind(gateway.most_unread()))
    }

    /// The same for what a room says, as long as a client that reads needs to be served. Whoever is slower than the room is waited for
    /// once in a while, since everybody else waits with it.
    pub(in crate::node) async fn let_reader_catch_up(&self, session: ConnId) {
        let gateway = &self.0.gateway;
        let (most, now_ms) = (gateway.most_unread(), self.uptime_ms());
        let Some(live) = gateway.lives.of_session(session) else { return };
        if live.is_behind(most)
            && live.rooms_patience.is_left(now_ms)
            && gateway.rooms_patience.is_left(now_ms)
            && tokio::time::timeout(ROOM_WAIT, live.catches_up(live.last(), most)).await.is_err()
        {
            let now_ms = self.uptime_ms();
            live.rooms_patience.lose(now_ms, ROOM_PAUSE_MS);
            gateway.rooms_patience.lose(now_ms, ROOMS_PAUSE_MS);
        }
    }

    /// The id of the application that these credentials are of.
    pub fn application_of(&self, credentials: &AppCredentials) -> Option<&str> {
        self.0.gateway.applications.of(credentials).map(|application| application.id())
    }

    /// The application with this id.
    pub fn application(&self, id: &str) -> Option<&Application> {
        self.0.gateway.applications.by_id(id).map(|application| &**application)
    }

    /// How many shards an application is to run: what the configuration says, else as many as its fleet has, one at least.
    ///
    /// # Errors
    ///
    /// [`CallError::Unavailable`].
    pub async fn shard_count(&self, application: &str) -> Result<u32, CallError> {
        let gateway = &self.0.gateway;
        let fixed = gateway.applications.by_id(application).and_then(|application| application.fixed_total());
        if let Some(fixed) = fixed {
            return Ok(fixed);
        }
        let shards = self.shards_of(application, false).await?;
        Ok(shards.first().map_or(1, |shard| shard.record.fleet_total))
    }

    /// What an application may begin.
    ///
    /// # Errors
    ///
    /// [`CallError::Unavailable`].
    pub async fn shard_starts(&self, application: &str) -> Result<StartsLeft, CallError> {
        let gateway = &self.0.gateway;
        let starts = self.0.sessions.starts(application, gateway.options.starts, gateway.clock.now_ms());
        starts.await.map_err(unavailable)
    }

    /// The sessions of an application's fleet, by their shards.
    ///
    /// # Errors
    ///
    /// [`CallError::Unavailable`].
    pub async fn shards_of(&self, application: &str, development: bool) -> Result<Vec<ShardInfo>, CallError> {
        let fleet = Fleet { application: application.into(), development };
        let records = self.0.sessions.fleet(&fleet, self.0.gateway.clock.now_ms()).await.map_err(unavailable)?;
        Ok(records.into_iter().map(|record| self.shard_info(record)).collect())
    }

    /// Every session, by id.
    ///
    /// # Errors
    ///
    /// [`CallError::Unavailable`].
    pub async fn shard_sessions(&self) -> Result<Vec<ShardInfo>, CallError> {
        let records = self.0.sessions.shards(self.0.gateway.clock.now_ms()).await.map_err(unavailable)?;
        Ok(records.into_iter().map(|record| self.shard_info(record)).collect())
    }

    pub(super) fn shard_info(&self, mut record: ShardRecord) -> ShardInfo {
        let live = self.0.gateway.lives.of_session(record.id);
        if let Some(live) = &live {
            let note = live.note();
            record.counts = note.counts;
            record.received = record.received.max(note.received);
        }
        ShardInfo { record, round_trip_us: live.and_then(|live| live.round_trip_us()) }
    }

    /// Ends a session; the client of the connection that carries it is told. `false`: there is none.
    ///
    /// # Errors
    ///
    /// [`CallError::Unavailable`].
    pub async fn end_shard_session(&self, id: ConnId) -> Result<bool, CallError> {
        let node = self.clone();
        self.to_the_end(async move {
            let ended = node.0.sessions.end_shard(id, None).await.map_err(unavailable)?;
            let was_there = ended.is_some();
            if let Some(ended) = ended {
                node.shard_ended(ended).await;
            }
            Ok(was_there)
        })
        .await
    }
}
