//! What the protocol takes from the configuration.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::frame::ws::WsLimits;
use crate::json::JsonLimits;

/// Settings of the gateway, fixed at start.
#[derive(Clone, Debug)]
pub struct GatewaySettings {
    /// Bounds of what one client may send; messages are measured after inflating.
    pub limits: WsLimits,
    /// How long a message may take from its first byte to its last, in milliseconds; 0 for any time.
    pub message_timeout_ms: u64,
    /// Limits of JSON in messages.
    pub json: JsonLimits,
    /// Longest message that only controls the session, in bytes (`servers.gateway.max_control_bytes`).
    pub max_control_bytes: usize,
    /// Within what time a client must have a session, in milliseconds; 0 for any time (`servers.gateway.register_timeout`).
    pub register_timeout_ms: u64,
    /// How often a client is pinged, in milliseconds; 0 for never (`servers.gateway.heartbeat_interval`).
    pub heartbeat_ms: u64,
    /// How many messages a client may send in [`Self::rate_period_ms`], and as many at once; 0 for any number.
    pub rate_messages: u32,
    /// See [`Self::rate_messages`], in milliseconds.
    pub rate_period_ms: u64,
    /// Clients that have a compressor of their own, which holds up to 300 KiB (`servers.gateway.stream_compression`, `max_streams`).
    pub streams: Streams,
    /// Over how long a planned stop spreads its closes, in milliseconds (`servers.gateway.drain_spread`).
    pub drain_spread_ms: u64,
    /// After how long whoever is left is closed, in milliseconds (`servers.gateway.drain_grace`).
    pub drain_grace_ms: u64,
}

impl Default for GatewaySettings {
    fn default() -> Self {
        Self {
            limits: WsLimits::default(),
            message_timeout_ms: 10_000,
            json: JsonLimits { depth: 64, ..JsonLimits::default() },
            max_control_bytes: 4096,
            register_timeout_ms: 60_000,
            heartbeat_ms: 30_000,
            rate_messages: 120,
            rate_period_ms: 60_000,
            streams: Streams::new(1000),
            drain_spread_ms: 10_000,
            drain_grace_ms: 15_000,
        }
    }
}

/// How many connections may have a compressor of their own. Clones count together.
#[derive(Clone, Debug)]
pub struct Streams {
    taken: Arc<AtomicUsize>,
    most: usize,
}

/// One of them, as long as it lives.
#[derive(Debug)]
pub(super) struct StreamSeat(Arc<AtomicUsize>);

impl Streams {
    /// So many; 0: there are none.
    pub fn new(most: usize) -> Self {
        Self { taken: Arc::default(), most }
    }

    /// Whether there are any at all.
    pub(super) fn are_off(&self) -> bool {
        self.most == 0
    }

    /// One more, if there is room for it.
    pub(super) fn take(&self) -> Option<StreamSeat> {
        let one_more = |taken: usize| (taken < self.most).then_some(taken + 1);
        self.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).ok()?;
        Some(StreamSeat(Arc::clone(&self.taken)))
    }
}

impl Drop for StreamSeat {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
