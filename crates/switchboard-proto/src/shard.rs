//! Sessions of bots and their shards, in neutral words: who registers, what it missed, and why not.
//!
//! A *shard session* outlives its connections. Whatever it is sent is appended to its log first and read from there, so that
//! what a shard missed and what happens now come the same way.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use thiserror::Error;

use crate::id::{ConnId, RoomName};
use crate::json::RawJson;

/// What a shard asks of the node.
#[derive(Debug)]
pub enum ShardCall {
    /// Whether these credentials are an application's.
    Check(AppCredentials),
    /// Whether the present ones of these credentials may be an application's, and whether it may have this shard. The
    /// missing ones may come with the request for a session.
    CheckPart {
        /// What the handshake named.
        credentials: AppCredentials,
        /// The shard, if the handshake named one.
        shard: Option<u64>,
        /// The number of shards, if the handshake named one.
        total: Option<u64>,
    },
    /// Begin a session; one that the connection carries already ends.
    Register(Registration),
    /// Go on with a session.
    Resume(Resumption),
    /// The shards of the fleet whose session the connection carries, for whoever has its application's credentials.
    Fleet(AppCredentials),
    /// The next events behind this number. The answer may have none.
    Read {
        /// The last one that was written.
        after: u64,
    },
    /// The client has dealt with all events up to this one.
    Acknowledge {
        /// The last of them.
        seq: u64,
    },
    /// The client's host has read everything up to this event. No answer is needed.
    Received {
        /// The last of them.
        seq: u64,
        /// How long a ping and its pong took, in microseconds.
        round_trip_us: u64,
    },
    /// What a shard answers to an interaction.
    Interaction {
        /// The interaction's id, as the client wrote it.
        id: String,
        /// Its answer: any JSON.
        data: RawJson,
    },
    /// End the session.
    End,
    /// Become a member of a room.
    Join {
        /// Which.
        room: RoomName,
    },
    /// Stop being a member of a room.
    Leave {
        /// Which.
        room: RoomName,
    },
    /// Say something to a room's members.
    Say {
        /// Which.
        room: RoomName,
        /// What.
        body: RawJson,
        /// The id that the sender chose. The same one from the same application within five minutes publishes nothing again.
        id: Option<String>,
    },
}

/// Which application somebody speaks for, and what proves it. Each part may be missing.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct AppCredentials {
    /// The application's id.
    pub id: Option<String>,
    /// Its public key.
    pub public_key: Option<String>,
    /// The secret that it shares with the server.
    pub secret: Option<String>,
    /// A proxy passed them on: the client may be anywhere, whatever the address of the connection says.
    pub is_forwarded: bool,
}

/// Never shows what is secret.
impl fmt::Debug for AppCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AppCredentials").field("id", &self.id).finish_non_exhaustive()
    }
}

/// A shard that wants a session.
#[derive(Debug)]
pub struct Registration {
    /// Whose it is.
    pub credentials: AppCredentials,
    /// Which shard, counted from 0.
    pub shard: u64,
    /// Of how many, if it says so.
    pub total: Option<u64>,
    /// What the client asked for; bit 0 makes it a development shard.
    pub flags: u64,
    /// What the client says about itself: a JSON object.
    pub client: Option<RawJson>,
}

/// A shard that wants its session back.
#[derive(Debug)]
pub struct Resumption {
    /// Whose it is.
    pub credentials: AppCredentials,
    /// Which session.
    pub session: ShardSessionId,
    /// Which shard, counted from 0.
    pub shard: u64,
    /// The last event that the client has dealt with, if it says so.
    pub seq: Option<u64>,
    /// What the client says about itself: a JSON object.
    pub client: Option<RawJson>,
}

/// By what a session is resumed: a secret, which is kept as its hash only.
#[derive(Clone, PartialEq, Eq)]
pub struct ShardSessionId(Box<str>);

impl ShardSessionId {
    /// What a client presents, or what it is given.
    pub fn new(text: impl Into<Box<str>>) -> Self {
        Self(text.into())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Never shows what is secret.
impl fmt::Debug for ShardSessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ShardSessionId")
    }
}

/// What a [`ShardCall`] brought.
#[derive(Debug)]
pub enum ShardAnswer {
    /// They are.
    Checked,
    /// The session is this connection's now.
    Began(Box<Began>),
    /// All shards of the fleet, by their numbers.
    Fleet(Vec<FleetShard>),
    /// What comes next.
    Events(LogPart),
    /// Done; there is nothing to tell.
    Done,
    /// Numbered and on its way.
    Said {
        /// The message's number in its room; 0: it has none.
        number: u64,
    },
}

/// A session that a connection carries from now on.
#[derive(Debug)]
pub struct Began {
    /// Its public handle.
    pub id: ConnId,
    /// By what it is resumed.
    pub session: ShardSessionId,
    /// Whose it is: the application's id.
    pub application: Arc<str>,
    /// What the shard asked for when it registered.
    pub flags: u64,
    /// The last event that the client need not be sent.
    pub after: u64,
    /// The newest event at this moment.
    pub last: u64,
    /// Shared with the node, which keeps the figures beyond the connection.
    pub counters: Arc<ShardCounters>,
    /// All shards of the fleet, this one included, by their numbers.
    pub fleet: Vec<FleetShard>,
    /// Of how many shards the fleet consists.
    pub shard_total: u32,
    /// Whether the client takes client commands.
    pub takes_commands: bool,
}

/// What others see of a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FleetShard {
    /// Which shard.
    pub shard: u32,
    /// Its public handle, which stays the same as long as the session lives.
    pub hash: ConnId,
    /// Whether it is a development shard.
    pub development: bool,
    /// Whether no connection carries the session at the moment.
    pub disconnected: bool,
    /// What it has done.
    pub counts: ShardCounts,
}

/// What a shard has done in its session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShardCounts {
    /// Messages that were accepted from it.
    pub received: u64,
    /// Messages that were written to it.
    pub sent: u64,
    /// Pings that were received.
    pub pings: u64,
    /// Pings that were answered.
    pub pongs: u64,
}

/// [`ShardCounts`] while a connection carries the session: its face counts, anybody reads.
#[derive(Debug, Default)]
pub struct ShardCounters {
    received: AtomicU64,
    sent: AtomicU64,
    pings: AtomicU64,
    pongs: AtomicU64,
}

impl ShardCounters {
    /// Goes on from here.
    pub fn new(counts: ShardCounts) -> Self {
        let ShardCounts { received, sent, pings, pongs } = counts;
        Self { received: received.into(), sent: sent.into(), pings: pings.into(), pongs: pongs.into() }
    }

    /// What has been counted.
    pub fn counts(&self) -> ShardCounts {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        ShardCounts {
            received: load(&self.received),
            sent: load(&self.sent),
            pings: load(&self.pings),
            pongs: load(&self.pongs),
        }
    }

    /// Counts a message that was accepted.
    pub fn count_received(&self) {
        self.received.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts messages that were written.
    pub fn count_sent(&self, count: u64) {
        self.sent.fetch_add(count, Ordering::Relaxed);
    }

    /// Counts a ping.
    pub fn count_ping(&self) {
        self.pings.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts the answer to a ping, as such; it is a message besides.
    pub fn count_pong(&self) {
        self.pongs.fetch_add(1, Ordering::Relaxed);
    }
}

/// Something for shards, as their face writes it, without its number: made once, kept in logs, read by nobody on the way.
/// Cloning shares it. [`crate::gateway::items`] makes them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogItem(Arc<str>);

impl LogItem {
    /// What was written by the face, or came back from a store.
    pub fn new(text: impl Into<Arc<str>>) -> Self {
        Self(text.into())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// An event in a session's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoggedEvent {
    /// Its number in the session: 1, 2, 3, … without gaps.
    pub seq: u64,
    /// What.
    pub item: LogItem,
}

/// Part of a session's log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogPart {
    /// The events behind the number that was asked for, in order; so many as one turn may bring.
    pub events: Vec<LoggedEvent>,
    /// Whether there are more.
    pub has_more: bool,
}

/// Something that concerns the connection of a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShardEvent {
    /// Its log has grown.
    Grown,
    /// Another connection carries this session, or a new session has taken its place.
    Replaced(ConnId),
    /// This session is over, since its fleet has another number of shards: each must register anew.
    Resharded(ConnId),
    /// This session was ended by an operator.
    Ended(ConnId),
    /// Events wait in the log from now on, or do not any more.
    Paused(bool),
}

/// An expected "no" to a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ShardRefusal {
    /// No application has these credentials. What is wrong with them is not told.
    #[error("bad credentials")]
    BadCredentials,
    /// There is nothing to resume. Why is not told.
    #[error("the session cannot be resumed")]
    Invalid,
    /// The shard's number is too high, or it counts the fleet otherwise than the fleet does.
    #[error("invalid shard")]
    InvalidShard,
    /// The application has no development shards.
    #[error("development shards are not allowed")]
    DevelopmentNotAllowed,
    /// Shard 0 registers first.
    #[error("shard 0 has to register first")]
    MasterRequired {
        /// When it may be tried again, in milliseconds.
        retry_ms: u64,
    },
    /// Too many shards register at once.
    #[error("too many registrations at once")]
    StartConcurrency {
        /// When it may be tried again, in milliseconds.
        retry_ms: u64,
    },
    /// Too many have registered today.
    #[error("too many registrations today")]
    StartLimit {
        /// When it may be tried again, in milliseconds.
        retry_ms: u64,
    },
    /// Another connection carries this shard, and the server is set to leave it so.
    #[error("the shard is taken")]
    Taken,
    /// An event was acknowledged that there is not.
    #[error("no such event")]
    InvalidSeq,
    /// The connection does not carry the session any more.
    #[error("the session was replaced")]
    Replaced,
    /// Events were trimmed from the log before they could be written.
    #[error("the log was trimmed before its events were read")]
    FellBehind,
    /// The connection carries no session.
    #[error("not registered")]
    NotRegistered,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_secret_is_never_printed() {
        let credentials = AppCredentials {
            id: Some("app".into()),
            public_key: Some("canary-key".into()),
            secret: Some("canary-secret".into()),
            is_forwarded: false,
        };
        let printed = format!("{credentials:?} {:?}", ShardSessionId::new("canary-session"));
        assert!(printed.contains("app") && !printed.contains("canary"), "{printed}");
    }

    #[test]
    fn counters_go_on_where_the_session_was() {
        let counters = ShardCounters::new(ShardCounts { received: 1, sent: 2, pings: 3, pongs: 4 });
        counters.count_received();
        counters.count_sent(5);
        counters.count_ping();
        counters.count_pong();
        assert_eq!(counters.counts(), ShardCounts { received: 2, sent: 7, pings: 4, pongs: 5 });
    }
}
