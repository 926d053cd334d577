//! Pings of the WebSocket: whether the client is there, how far away, and what its host has read.

use crate::close::CloseReason;
use crate::face::Cx;
use crate::frame::ws;
use crate::shard::ShardCall;

use super::GatewayFace;
use super::errors;

/// While events flow a ping goes out this often, at least.
const PROBE_MS: u64 = 1000;

/// So many events ask for a ping earlier,
const PROBE_EVENTS: u64 = 256;

/// but not earlier than this behind the last one: a client may not send many pongs in a second.
const PROBE_GAP_MS: u64 = 125;

/// Bits of a ping's time.
const TIME_BITS: u32 = 48;

/// When what was heard, and what was asked.
#[derive(Debug, Default)]
pub(super) struct Pings {
    /// When anything was last heard.
    pub(super) heard_ms: u64,
    /// When the last ping went out.
    pinged_ms: u64,
    /// The last event that was written when it did.
    pinged_seq: u64,
    /// How many sessions the connection has had: a pong says nothing about another one than its ping was sent in.
    sessions: u16,
}

impl Pings {
    pub(super) fn open(&mut self, now_ms: u64) {
        self.heard_ms = now_ms;
        self.pinged_ms = now_ms;
    }

    pub(super) fn begin_session(&mut self, cursor: u64) {
        self.pinged_seq = cursor;
        self.sessions = self.sessions.wrapping_add(1);
    }

    /// What a ping says, to be understood when it comes back.
    fn payload(&self, now_us: u64) -> [u8; 16] {
        let time = now_us & ((1 << TIME_BITS) - 1);
        let mut payload = [0; 16];
        payload[..8].copy_from_slice(&self.pinged_seq.to_be_bytes());
        payload[8..].copy_from_slice(&(u64::from(self.sessions) << TIME_BITS | time).to_be_bytes());
        payload
    }

    /// Up to which event the client's host has read, and how long the ping and its pong took in microseconds; `None` if this
    /// is no pong to a ping of the session.
    fn understand(&self, payload: &[u8], now_us: u64) -> Option<(u64, u64)> {
        let (seq, time) = payload.split_first_chunk::<8>()?;
        let (seq, time) = (u64::from_be_bytes(*seq), u64::from_be_bytes(time.try_into().ok()?));
        let sent_us = time & ((1 << TIME_BITS) - 1);
        let is_ours = time >> TIME_BITS == u64::from(self.sessions) && seq <= self.pinged_seq && sent_us <= now_us;
        is_ours.then(|| (seq, now_us - sent_us))
    }

    /// When the next ping is due, `cursor` being the last event that was written.
    fn due_ms(&self, cursor: u64, heartbeat_ms: u64) -> u64 {
        let wait_ms = match cursor.saturating_sub(self.pinged_seq) {
            0 if heartbeat_ms == 0 => return u64::MAX,
            0 => heartbeat_ms,
            PROBE_EVENTS.. => PROBE_GAP_MS,
            _ => PROBE_MS,
        };
        self.pinged_ms.saturating_add(wait_ms)
    }
}

/// How long a client may be silent: two and a half intervals.
fn silence_ms(heartbeat_ms: u64) -> u64 {
    if heartbeat_ms == 0 { u64::MAX } else { heartbeat_ms.saturating_mul(5) / 2 }
}

impl GatewayFace {
    fn cursor(&self) -> u64 {
        self.session.as_ref().map_or(self.pings.pinged_seq, |session| session.cursor)
    }

    /// The next moment at which something is to be looked at.
    fn due_ms(&self, heartbeat_ms: u64) -> u64 {
        let silent_ms = self.pings.heard_ms.saturating_add(silence_ms(heartbeat_ms));
        let register_by_ms = if self.session.is_none() { self.register_by_ms } else { u64::MAX };
        self.pings.due_ms(self.cursor(), heartbeat_ms).min(silent_ms).min(register_by_ms).min(self.stop_ms)
    }

    /// Asks to be woken at the next moment that matters.
    pub(super) fn arm(&self, cx: &mut Cx<'_>) {
        let due_ms = self.due_ms(cx.settings.gateway.heartbeat_ms);
        if due_ms < u64::MAX && cx.fx.close.is_none() {
            cx.fx.wake_at_ms = Some(due_ms);
        }
    }

    /// Pings if that is due, events having been written.
    pub(super) fn probe(&mut self, cx: &mut Cx<'_>) {
        if self.pings.due_ms(self.cursor(), cx.settings.gateway.heartbeat_ms) <= cx.now.monotonic_ms {
            self.ping(cx);
        }
        self.arm(cx);
    }

    fn ping(&mut self, cx: &mut Cx<'_>) {
        self.pings.pinged_ms = cx.now.monotonic_ms;
        self.pings.pinged_seq = self.cursor();
        ws::write_ping(&mut cx.fx.bytes, &self.pings.payload(cx.now.monotonic_us()));
    }

    pub(super) fn on_pong(&mut self, payload: &[u8], cx: &mut Cx<'_>) {
        if self.session.is_none() {
            return;
        }
        if let Some((seq, round_trip_us)) = self.pings.understand(payload, cx.now.monotonic_us()) {
            self.tell(ShardCall::Received { seq, round_trip_us }, cx);
        }
    }

    pub(super) fn look_at_the_clock(&mut self, cx: &mut Cx<'_>) {
        let now_ms = cx.now.monotonic_ms;
        let heartbeat_ms = cx.settings.gateway.heartbeat_ms;
        if now_ms >= self.stop_ms {
            return self.close(CloseReason::Shutdown.websocket_code(), "", CloseReason::Shutdown, cx);
        }
        if self.pending.is_some() {
            // Whatever the client says, nobody listens before the call that is awaited has ended.
            self.pings.heard_ms = now_ms;
            self.register_by_ms = self.register_by_ms.max(now_ms.saturating_add(PROBE_MS));
        }
        if self.session.is_none() && now_ms >= self.register_by_ms {
            return self.refuse(&errors::REGISTER_TIMEOUT, None, cx);
        }
        if now_ms.saturating_sub(self.pings.heard_ms) >= silence_ms(heartbeat_ms) {
            return self.close(errors::HEARTBEAT_MISSED, "heartbeat_missed", CloseReason::Silence, cx);
        }
        self.probe(cx);
    }
}
