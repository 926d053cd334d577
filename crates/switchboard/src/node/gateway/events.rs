//! What is published to shards, and what is told about them.

use switchboard_proto::json::RawJson;
use switchboard_proto::shard::AppCredentials;
use thiserror::Error;

use crate::backend::sessions::shards::{PublishedEvent, ShardRecord, ShardTarget, StartsLeft};
use switchboard_proto::call::CallError;
use switchboard_proto::id::ConnId;

use super::super::Node;

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
    #[error("an event is called by capital letters, digits and underscores, and not GATEWAY_…")]
    BadName,
    /// No id of a publication looks so.
    #[error("an id has 1 to 128 bytes")]
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
    /// A publication waits up to `servers.gateway.publish_wait` for a client that reads more slowly than is published; then it is
    /// stored all the same, and the log may lose its oldest events.
    ///
    /// # Errors
    ///
    /// See [`PublishError`].
    pub async fn publish_event(&self, _application: &str, _event: NewEvent) -> Result<PublishedEvent, PublishError> {
        Err(PublishError::Unavailable)
    }

    /// The id of the application that these credentials are of.
    pub fn application_of(&self, credentials: &AppCredentials) -> Option<&str> {
        self.0.gateway.applications.of(credentials).map(|application| application.id())
    }

    /// How many shards an application is to run: what the configuration says, else as many as its fleet has, one at least.
    ///
    /// # Errors
    ///
    /// [`CallError::Unavailable`].
    pub async fn shard_count(&self, _application: &str) -> Result<u32, CallError> {
        Err(CallError::Unavailable)
    }

    /// What an application may begin.
    ///
    /// # Errors
    ///
    /// [`CallError::Unavailable`].
    pub async fn shard_starts(&self, _application: &str) -> Result<StartsLeft, CallError> {
        Err(CallError::Unavailable)
    }

    /// The sessions of an application's fleet, by their shards.
    ///
    /// # Errors
    ///
    /// [`CallError::Unavailable`].
    pub async fn shards_of(&self, _application: &str, _development: bool) -> Result<Vec<ShardInfo>, CallError> {
        Err(CallError::Unavailable)
    }

    /// Every session, by id.
    ///
    /// # Errors
    ///
    /// [`CallError::Unavailable`].
    pub async fn shard_sessions(&self) -> Result<Vec<ShardInfo>, CallError> {
        Err(CallError::Unavailable)
    }

    /// Ends a session; the client of the connection that carries it is told. `false`: there is none.
    ///
    /// # Errors
    ///
    /// [`CallError::Unavailable`].
    pub async fn end_shard_session(&self, _id: ConnId) -> Result<bool, CallError> {
        Err(CallError::Unavailable)
    }
}
