//! What can be set about the line protocol.

use std::collections::HashSet;

use crate::call::Missing;
use crate::frame::line::Framing;
use crate::frame::ws::WsLimits;
use crate::json::JsonLimits;
use crate::params::{ParamLimits, SecretParams};

/// Which generation of ActionHero the answers look like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compat {
    /// Serves clients of every generation: answers as [`Compat::Classic`], with `messageId` for a request that has one.
    /// A required input that is `0`, `false` or `[]` counts as given.
    #[default]
    Auto,
    /// ActionHero 9, as in the documents.
    Classic,
    /// ActionHero 29.
    Modern,
}

impl Compat {
    /// Which values of a required input count as missing.
    pub(super) const fn missing(self) -> Missing {
        match self {
            Self::Classic => Missing::Falsy,
            Self::Auto | Self::Modern => Missing::Empty,
        }
    }
}

/// Settings of the line protocol, fixed at start.
#[derive(Clone, Debug)]
pub struct SocketSettings {
    /// How lines are cut (`servers.socket.max_line_bytes`, `delimiter`).
    pub framing: Framing,
    /// Generation (`servers.socket.compat`).
    pub compat: Compat,
    /// Text of the first line; empty for none (`servers.socket.welcome_message`).
    pub welcome_message: String,
    /// How long the first line waits, in milliseconds (`servers.socket.welcome_delay`).
    pub welcome_delay_ms: u64,
    /// Text of the last line (`servers.socket.goodbye_message`).
    pub goodbye_message: String,
    /// How long pending actions are waited for at a planned stop, in milliseconds (`servers.socket.shutdown_wait`).
    pub shutdown_wait_ms: u64,
    /// Actions that one connection may have pending (`actions.pending_max`).
    pub pending_max: usize,
    /// Limits of JSON in requests.
    pub json: JsonLimits,
    /// Limits of sticky params.
    pub params: ParamLimits,
    /// With scrubbing (`servers.socket.param_scrubbing`) the only names that stick: those that actions declare.
    pub declared_inputs: Option<HashSet<String>>,
    /// Params that do not stick and are not shown (`actions.secret_params` and inputs declared secret).
    pub secret_params: SecretParams,
}

impl Default for SocketSettings {
    fn default() -> Self {
        Self {
            framing: Framing::default(),
            compat: Compat::default(),
            welcome_message: "Hello! Welcome to the actionhero api".to_owned(),
            welcome_delay_ms: 0,
            goodbye_message: "Bye!".to_owned(),
            shutdown_wait_ms: 5000,
            pending_max: 5,
            json: JsonLimits::default(),
            params: ParamLimits::default(),
            declared_inputs: None,
            secret_params: SecretParams::default(),
        }
    }
}

impl SocketSettings {
    /// Whether a param of this name is kept.
    pub(crate) fn keeps(&self, name: &str) -> bool {
        match &self.declared_inputs {
            // What the protocol itself reads sticks whatever actions declare.
            Some(declared) => {
                matches!(name, "action" | "apiVersion" | "callback" | "file" | "messageId") || declared.contains(name)
            }
            None => true,
        }
    }
}

/// Settings of the browser protocol, fixed at start.
#[derive(Clone, Debug)]
pub struct WebSocketSettings {
    /// Bounds of what one client may send.
    pub limits: WsLimits,
    /// How long a message may take from its first byte to its last, in milliseconds; 0 for any time
    /// (`servers.websocket.message_timeout`).
    pub message_timeout_ms: u64,
    /// Generation (`servers.websocket.compat`).
    pub compat: Compat,
    /// Text of the first message; empty for none (`servers.websocket.welcome_message`).
    pub welcome_message: String,
    /// Actions that one connection may have pending (`actions.pending_max`).
    pub pending_max: usize,
    /// Limits of JSON in requests.
    pub json: JsonLimits,
    /// Limits of one request's params.
    pub params: ParamLimits,
    /// After how long without a ping a client is pinged, in milliseconds; 0 for never (`servers.websocket.heartbeat`).
    pub heartbeat_ms: u64,
    /// After how long a silent client is given up, in milliseconds; 0 for never (`servers.websocket.silence_timeout`).
    pub silence_ms: u64,
    /// Over how long a planned stop spreads its closes, in milliseconds (`node.drain_spread`).
    pub drain_spread_ms: u64,
}

impl Default for WebSocketSettings {
    fn default() -> Self {
        Self {
            limits: WsLimits::default(),
            message_timeout_ms: 10_000,
            compat: Compat::default(),
            welcome_message: "Hello! Welcome to the actionhero api".to_owned(),
            pending_max: 5,
            json: JsonLimits::default(),
            params: ParamLimits::default(),
            heartbeat_ms: 30_000,
            silence_ms: 75_000,
            drain_spread_ms: 10_000,
        }
    }
}
