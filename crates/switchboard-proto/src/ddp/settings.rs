//! What the protocol takes from the configuration.

use crate::frame::ws::WsLimits;
use crate::json::JsonLimits;

/// Settings of DDP, fixed at start.
#[derive(Clone, Debug)]
pub struct DdpSettings {
    /// Bounds of what one client may send.
    pub limits: WsLimits,
    /// The same before a user has logged in (`servers.ddp.max_login_message_bytes`).
    pub limits_before_login: WsLimits,
    /// How long a message may take from its first byte to its last, in milliseconds; 0 for any time.
    pub message_timeout_ms: u64,
    /// Limits of JSON in frames.
    pub json: JsonLimits,
    /// Subscriptions of one connection (`servers.ddp.max_subscriptions`).
    pub max_subscriptions: usize,
    /// Longest id of a subscription or a method (`servers.ddp.max_id_bytes`).
    pub max_id_bytes: usize,
    /// Within what time a client must say `connect`, in milliseconds; 0 for any time (`servers.ddp.connect_timeout`).
    pub connect_timeout_ms: u64,
    /// After how long a silence a client is pinged, in milliseconds; 0 for never (`servers.ddp.heartbeat_interval`).
    pub heartbeat_ms: u64,
    /// How long nothing may come behind that, in milliseconds; 0 for any time (`servers.ddp.heartbeat_timeout`).
    pub heartbeat_timeout_ms: u64,
    /// Longest text of a message, in characters (`servers.ddp.max_text_chars`).
    pub max_text_chars: usize,
    /// Longest message, with all that a client put beside its text, in bytes (`servers.ddp.max_document_bytes`).
    pub max_document_bytes: usize,
    /// Whether sessions hear public rooms that they are not members of (`servers.ddp.public_rooms_to_all`).
    pub public_rooms_to_all: bool,
    /// Over how long a planned stop spreads its closes, in milliseconds (`node.drain_spread`).
    pub drain_spread_ms: u64,
}

impl Default for DdpSettings {
    fn default() -> Self {
        Self {
            limits: WsLimits { max_message_bytes: 1 << 20, ..WsLimits::default() },
            limits_before_login: WsLimits::default(),
            message_timeout_ms: 10_000,
            json: JsonLimits { depth: 64, ..JsonLimits::default() },
            max_subscriptions: 1000,
            max_id_bytes: 256,
            connect_timeout_ms: 10_000,
            heartbeat_ms: 15_000,
            heartbeat_timeout_ms: 15_000,
            max_text_chars: 5000,
            max_document_bytes: 64 << 10,
            public_rooms_to_all: false,
            drain_spread_ms: 10_000,
        }
    }
}
