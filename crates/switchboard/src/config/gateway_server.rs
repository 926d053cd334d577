//! The settings of the gateway.

use std::time::Duration;

use super::applications::{Application, Applications};
use super::kind::{OneOf, Size, Span, Switch, Whole, Word};
use super::section::settings;

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

/// Shortest time that is one.
const SHORTEST: Duration = Duration::from_millis(1);
const DAY: Duration = Duration::from_secs(24 * 3600);

settings! {
    /// The gateway of bots and their shards, on the web listener under `/gateway`.
    pub struct GatewayServer {
        keys {
            /// Whether the web listener speaks it.
            enabled: bool = true, Switch;
            /// Time for which the session of a shard that has lost its connection is kept.
            resume_window: Duration = Duration::from_secs(300), Span::any(),
                reached "the session ends, and the shard registers anew";
            /// Events of one session that are kept for a replay.
            replay_max_events: usize = 1000, Whole::range(1, 1_000_000),
                reached "the oldest are forgotten; a shard that missed one of them registers anew";
            /// Bytes of one session's events that are kept for a replay, and of the longest event.
            replay_max_bytes: usize = 4 * MIB, Size::range(KIB, 1024 * MIB),
                reached "as with `servers.gateway.replay_max_events`; a longer event is refused with 413";
            /// Bytes of all sessions' events together that are kept; while they grow it may be twice as much.
            replay_total_bytes: usize = 256 * MIB, Size::any(),
                reached "a session that is sent something, and has more than its share, loses its oldest events";
            /// How often a client is pinged; 2.5 times as much without any sign of life is too much; 0: never.
            heartbeat_interval: Duration = Duration::from_secs(30), Span::any(),
                reached "the connection is closed with code 4021, and its session can be resumed";
            /// Time in which a client must have a session.
            register_timeout: Duration = Duration::from_secs(60), Span::any(),
                reached "the connection is closed with code 4003";
            /// Messages that a client may send in `rate_period`, and as many at once.
            rate_messages: u32 = 120, Whole::any(), reached "the connection is closed with code 4008";
            /// See `servers.gateway.rate_messages`.
            rate_period: Duration = Duration::from_secs(60), Span::range(SHORTEST, DAY);
            /// Longest message that only controls a session, after inflating.
            max_control_bytes: usize = 4 * KIB, Size::range(256, 16 * MIB),
                reached "the connection is closed with code 4002";
            /// Longest message of a client, after inflating; never off.
            max_message_bytes: usize = 64 * KIB, Size::range(125, 64 * MIB),
                reached "the connection is closed with code 1009";
            /// Frames that one message may come in.
            max_fragments: u32 = 1024, Whole::any(), reached "the connection is closed with code 1008";
            /// Pings and pongs of the WebSocket protocol that one client may send in a second, and as many at once.
            max_control_frames: u32 = 16, Whole::any(), reached "the connection is closed with code 1008";
            /// Time that a message may take from its first byte to its last.
            message_timeout: Duration = Duration::from_secs(10), Span::any(),
                reached "the connection is closed with code 1008";
            /// Nesting of lists and objects in what clients and publishers send; never off, since depth costs stack.
            max_json_depth: usize = 64, Whole::range(1, 127),
                reached "the message is answered with error 4002, a request with 400";
            /// Shards of one fleet.
            max_shards: u32 = 1024, Whole::range(1, 65_536), reached "the shard is refused with code 4010";
            /// Registrations of one application in 24 hours.
            start_total: u32 = 100_000, Whole::any(), reached "further ones are refused with code 4025";
            /// Registrations of one application in any five seconds.
            start_concurrency: u32 = 1000, Whole::any(), reached "further ones are answered with error 4024";
            /// Events that one application may publish in a second.
            publish_rate: u32 = 0, Whole::any(), reached "further ones are refused, over HTTP with 429";
            /// Time that a publication waits for a client that reads more slowly than is published; 0: none.
            publish_wait: Duration = Duration::from_secs(1), Span::off_or(SHORTEST, Duration::from_secs(60)),
                reached "the event is stored all the same, and the log may lose its oldest ones";
            /// Time for which the id of a publication is remembered: publishing again under it publishes nothing twice.
            event_id_memory: Duration = Duration::from_secs(300), Span::range(Duration::ZERO, DAY);
            /// Ids of publications that are remembered.
            event_ids_max: usize = 100_000, Whole::any(), reached "the oldest are forgotten";
            /// Time that an interaction over HTTP waits for its shard's answer.
            interaction_wait: Duration = Duration::from_millis(2500), Span::range(SHORTEST, Duration::from_secs(60)),
                reached "it is answered as one that is still being worked on";
            /// How much the time of a signed interaction may differ from this machine's clock, so that one that was copied is of no
            /// use later; 0: by any time.
            interaction_max_age: Duration = Duration::from_secs(300), Span::any(),
                reached "it is answered as one with a wrong signature, with 401";
            /// Interactions that may wait for an answer at the same time.
            interactions_max: usize = 10_000, Whole::any(), reached "further ones are refused with 503";
            /// What happens when a shard registers while another connection carries it: the newcomer takes its place, or is
            /// told so and may wait.
            duplicate_shard: DuplicateShard = DuplicateShard::Replace, OneOf;
            /// Time over which a planned stop spreads the closes of shards; empty: `node.drain_spread`.
            drain_spread: Option<Duration> = None, Span::any();
            /// Time after which a planned stop closes the shards that are left; empty: `node.drain_timeout`, which is never
            /// exceeded.
            drain_grace: Option<Duration> = None, Span::any();
            /// Whether clients that offer permessage-deflate are spoken to so. Clients can ask for other compression
            /// without it.
            compression: bool = false, Switch;
            /// Whether a client may ask for a compression window of its own, which costs some 300 KiB of memory for each.
            stream_compression: bool = true, Switch;
            /// Connections that have such a compressor at the same time, up to 300 KiB each.
            max_streams: usize = 1000, Whole::any(), reached "further ones are closed with code 1013";
            /// Whether applications without a secret are served to other machines: whoever knows the public key, which is
            /// public, speaks for the application.
            allow_insecure: bool = false, Switch;
        }
        sections {}
    }
}

settings! {
    /// Whose shards the gateway serves.
    pub struct Gateway {
        keys {
            /// Applications, each a bot with its shards. Without any, those of the environment count: `BOTS_DISCORD` has their
            /// ids and `PUBLIC_KEY` their keys, both separated by spaces, `KEY_SECRET` the secret of all.
            applications: Vec<Application> = Vec::new(), Applications;
        }
        sections {}
    }
}

/// What happens to a shard that registers twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DuplicateShard {
    /// The newcomer takes the place of the other.
    Replace,
    /// The newcomer is refused as long as the other is there.
    Reject,
}

impl Word for DuplicateShard {
    const WORDS: &'static [(Self, &'static str)] = &[(Self::Replace, "replace"), (Self::Reject, "reject")];
}
