//! The configuration in the words of those who work by it.

use std::time::Duration;

use switchboard_proto::actionhero::{Compat, SocketSettings, WebSocketSettings};
use switchboard_proto::ddp::DdpSettings;
use switchboard_proto::face::FaceSettings;
use switchboard_proto::frame::line::Framing;
use switchboard_proto::frame::ws::WsLimits;
use switchboard_proto::gateway::{GatewaySettings, Streams};
use switchboard_proto::json::JsonLimits;
use switchboard_proto::origin::AllowedOrigins;
use switchboard_proto::params::ParamLimits;

use crate::action::Actions;
use crate::backend::LogLimits;
use crate::backend::sessions::shards::{ShardLimits, StartLimits};
use crate::command::CommandLimits;
use crate::config::{self, Config};
use crate::hub::{HubLimits, SlowConsumer};
use crate::net::http::{FrontSettings, GatewaySite, WebSocketDoor};
use crate::node::gateway::applications::{Application, SecretDigest};
use crate::node::{CommandSettings, ElsewhereSettings, GatewayOptions, User};
use crate::worker::WorkerSettings;

/// In settings 0 turns a limit off.
pub(super) fn off_is_max(limit: usize) -> usize {
    if limit == 0 { usize::MAX } else { limit }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// What faces take from the configuration.
pub(super) fn face_settings(config: &Config, actions: &Actions) -> FaceSettings {
    FaceSettings {
        socket: socket_settings(config, actions),
        websocket: websocket_settings(config),
        ddp: ddp_settings(config),
        gateway: gateway_settings(config),
    }
}

fn socket_settings(config: &Config, actions: &Actions) -> SocketSettings {
    let socket = &config.servers.socket;
    let limits = &config.limits;
    SocketSettings {
        framing: Framing {
            max_line_bytes: off_is_max(socket.max_line_bytes),
            delimiter: socket.delimiter.as_bytes().into(),
        },
        compat: compat(socket.compat),
        welcome_message: socket.welcome_message.clone(),
        welcome_delay_ms: millis(socket.welcome_delay),
        goodbye_message: goodbye_message(socket),
        shutdown_wait_ms: match millis(socket.shutdown_wait) {
            0 => millis(config.node.drain_timeout),
            wait_ms => wait_ms,
        },
        pending_max: off_is_max(config.actions.pending_max),
        json: json_limits(limits),
        params: param_limits(limits),
        declared_inputs: socket.param_scrubbing.then(|| actions.declared_inputs()),
        secret_params: actions.secret_params().clone(),
    }
}

fn websocket_settings(config: &Config) -> WebSocketSettings {
    let websocket = &config.servers.websocket;
    WebSocketSettings {
        limits: WsLimits {
            max_message_bytes: websocket.max_message_bytes,
            max_fragments: websocket.max_fragments,
            control_per_second: websocket.max_control_frames,
        },
        message_timeout_ms: millis(websocket.message_timeout),
        compat: compat(websocket.compat),
        welcome_message: websocket.welcome_message.clone(),
        pending_max: off_is_max(config.actions.pending_max),
        json: json_limits(&config.limits),
        params: param_limits(&config.limits),
        heartbeat_ms: millis(websocket.heartbeat),
        silence_ms: millis(websocket.silence_timeout),
        drain_spread_ms: drain_spread_ms(config),
    }
}

fn ddp_settings(config: &Config) -> DdpSettings {
    let ddp = &config.servers.ddp;
    let limits = WsLimits {
        max_message_bytes: ddp.max_message_bytes,
        max_fragments: ddp.max_fragments,
        control_per_second: ddp.max_control_frames,
    };
    let max_bytes_before_login = ddp.max_login_message_bytes.min(ddp.max_message_bytes);
    DdpSettings {
        limits_before_login: WsLimits { max_message_bytes: max_bytes_before_login, ..limits.clone() },
        limits,
        message_timeout_ms: millis(ddp.message_timeout),
        json: JsonLimits { depth: ddp.max_json_depth, ..json_limits(&config.limits) },
        max_subscriptions: off_is_max(ddp.max_subscriptions),
        max_id_bytes: ddp.max_id_bytes,
        connect_timeout_ms: millis(ddp.connect_timeout),
        heartbeat_ms: millis(ddp.heartbeat_interval),
        heartbeat_timeout_ms: millis(ddp.heartbeat_timeout),
        max_text_chars: off_is_max(ddp.max_text_chars),
        max_document_bytes: ddp.max_document_bytes,
        public_rooms_to_all: ddp.public_rooms_to_all,
        drain_spread_ms: drain_spread_ms(config),
    }
}

fn gateway_settings(config: &Config) -> GatewaySettings {
    let gateway = &config.servers.gateway;
    let (drain_spread_ms, drain_grace_ms) = gateway_drain_ms(config);
    GatewaySettings {
        limits: WsLimits {
            max_message_bytes: gateway.max_message_bytes,
            max_fragments: gateway.max_fragments,
            control_per_second: gateway.max_control_frames,
        },
        message_timeout_ms: millis(gateway.message_timeout),
        json: gateway_json_limits(config),
        max_control_bytes: gateway.max_control_bytes,
        register_timeout_ms: millis(gateway.register_timeout),
        heartbeat_ms: millis(gateway.heartbeat_interval),
        rate_messages: gateway.rate_messages,
        rate_period_ms: millis(gateway.rate_period),
        streams: Streams::new(if gateway.stream_compression { off_is_max(gateway.max_streams) } else { 0 }),
        drain_spread_ms,
        drain_grace_ms,
    }
}

/// Of what clients of the gateway send, and of events and interactions over HTTP.
fn gateway_json_limits(config: &Config) -> JsonLimits {
    JsonLimits { depth: config.servers.gateway.max_json_depth, ..json_limits(&config.limits) }
}

/// Over how long a planned stop spreads the closes of shards, and when the last of them is closed. Neither may come later than
/// the end of the process, and the last one's turn not as late as that.
fn gateway_drain_ms(config: &Config) -> (u64, u64) {
    let gateway = &config.servers.gateway;
    let left = config.node.drain_timeout.saturating_sub(config.commands.drain_wait);
    let grace = gateway.drain_grace.unwrap_or(config.node.drain_timeout).min(left);
    let spread = gateway.drain_spread.unwrap_or(config.node.drain_spread).min(grace * 4 / 5);
    (millis(spread), millis(grace))
}

/// Whoever is left at the end of `node.drain_timeout` is cut: nobody's turn may come that late, and before the first one's
/// commands may be waited for.
fn drain_spread_ms(config: &Config) -> u64 {
    let left = config.node.drain_timeout.saturating_sub(config.commands.drain_wait);
    millis(config.node.drain_spread.min(left * 4 / 5))
}

/// What a node takes for client commands.
pub(super) fn command_settings(config: &Config) -> CommandSettings {
    let commands = &config.commands;
    CommandSettings {
        limits: CommandLimits {
            max_pending_per_user: commands.max_pending_per_user,
            max_pending: commands.max_pending,
            max_pending_bytes: commands.max_pending_bytes,
            max_pending_rows: commands.max_pending_rows,
            max_reply_bytes: commands.max_reply_bytes,
            max_held_bytes: commands.max_held_bytes,
            history_max: commands.history_max,
            idempotency_ms: millis(commands.idempotency_memory),
            idempotency_max: commands.idempotency_max,
        },
        timeout: commands.timeout,
        max_timeout: commands.max_timeout,
        max_command_bytes: commands.max_command_bytes,
        max_client_data_bytes: commands.max_client_data_bytes,
        ready_wait: commands.ready_wait,
        listen_wait: commands.listen_wait,
        drain_wait: commands.drain_wait,
        ts_offset_ms: millis(commands.ts_offset),
        heartbeat_interval: commands.heartbeat_interval,
        listeners_max: off_is_max(commands.listeners_max),
        elsewhere: ElsewhereSettings {
            sessions_max: commands.sessions_elsewhere_max,
            carried_max: commands.carried_max,
            errand_bytes: commands.errand_bytes,
            lookup_rate: commands.lookup_rate,
            lookup_burst: commands.lookup_burst,
            lookups_max: commands.lookups_max,
            // So that one that goes beyond by the last connection still fits.
            part_bytes: config.backend.redis.max_message_bytes / 4,
        },
    }
}

fn compat(compat: config::Compat) -> Compat {
    match compat {
        config::Compat::Auto => Compat::Auto,
        config::Compat::Classic => Compat::Classic,
        config::Compat::Modern => Compat::Modern,
    }
}

fn json_limits(limits: &config::Limits) -> JsonLimits {
    JsonLimits {
        depth: limits.max_json_depth,
        keys: off_is_max(limits.max_json_keys),
        values: off_is_max(limits.max_json_values),
    }
}

fn param_limits(limits: &config::Limits) -> ParamLimits {
    ParamLimits { count: off_is_max(limits.max_params), bytes: off_is_max(limits.max_params_bytes) }
}

/// ActionHero 29 says goodbye without the exclamation mark.
fn goodbye_message(socket: &config::SocketServer) -> String {
    let is_default = socket.goodbye_message == config::SocketServer::default().goodbye_message;
    if is_default && socket.compat == config::Compat::Modern { "Bye".into() } else { socket.goodbye_message.clone() }
}

pub(super) fn worker_settings(config: &Config) -> WorkerSettings {
    let limits = &config.limits;
    WorkerSettings {
        hub: HubLimits {
            max_outbox_bytes: off_is_max(limits.max_outbox_bytes),
            slow_consumer: match limits.slow_consumer {
                config::SlowConsumer::Close => SlowConsumer::Close,
                config::SlowConsumer::DropNewest => SlowConsumer::DropNewest,
                config::SlowConsumer::DropOldest => SlowConsumer::DropOldest,
            },
        },
        read_pause_bytes: off_is_max(limits.read_pause_bytes),
        read_buffer_bytes: limits.read_buffer_bytes,
        // More at once than may wait would cut, or cost messages, even those who read all the time.
        batch_bytes: limits.batch_bytes.min(off_is_max(limits.max_outbox_bytes) / 2),
        max_rooms_per_connection: off_is_max(limits.max_rooms_per_connection),
        max_connections: match limits.max_connections {
            0 => affordable_connections(),
            max_connections => max_connections,
        },
        close_linger_ms: millis(config.servers.socket.close_linger),
    }
}

/// What a broker remembers of rooms.
pub(super) fn log_limits(config: &Config) -> LogLimits {
    let rooms = &config.rooms;
    LogLimits {
        messages: rooms.history_messages,
        bytes: off_is_max(rooms.history_bytes),
        total_bytes: off_is_max(rooms.history_total_bytes),
        ids: off_is_max(rooms.message_ids_max),
        id_bytes: off_is_max(rooms.message_ids_bytes),
        id_ms: millis(rooms.message_id_memory),
    }
}

/// What the limit of open files allows, less what the process itself needs.
fn affordable_connections() -> usize {
    const RESERVED: u64 = 64;
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    limit.map_or(usize::MAX, |limit| limit.saturating_sub(RESERVED).max(1) as usize)
}

/// What a node takes for the gateway.
pub(super) fn gateway_options(config: &Config) -> GatewayOptions {
    let gateway = &config.servers.gateway;
    GatewayOptions {
        applications: config.gateway.applications.iter().filter_map(application).collect(),
        allow_insecure: gateway.allow_insecure,
        max_shards: gateway.max_shards,
        starts: StartLimits { total: gateway.start_total, concurrency: gateway.start_concurrency },
        yields: gateway.duplicate_shard == config::DuplicateShard::Reject,
        publish_rate: gateway.publish_rate,
        publish_wait: gateway.publish_wait,
        resume_window: gateway.resume_window,
        log_events: gateway.replay_max_events,
        log_bytes: gateway.replay_max_bytes,
        interaction_wait: gateway.interaction_wait,
        interaction_max_age: gateway.interaction_max_age,
        interactions_max: off_is_max(gateway.interactions_max),
    }
}

/// An application as the node knows it. `None`: its id is none, which the check of the configuration has refused.
fn application(application: &config::Application) -> Option<Application> {
    Some(Application {
        user: User::new(&application.id).ok()?,
        public_key: application.public_key.clone(),
        secret: application.secret_digest().map(SecretDigest::from_bytes),
        shards: application.shards,
        allow_development: application.allow_development,
        tags: application.tags.clone(),
        state: application.state.iter().map(|(name, value)| (name.clone(), value.clone().into())).collect(),
    })
}

/// What a store keeps of sessions of shards.
pub(super) fn shard_limits(config: &Config) -> ShardLimits {
    let gateway = &config.servers.gateway;
    ShardLimits {
        log_events: gateway.replay_max_events,
        log_bytes: gateway.replay_max_bytes,
        total_bytes: off_is_max(gateway.replay_total_bytes),
        resume_window_ms: millis(gateway.resume_window),
        id_memory_ms: millis(gateway.event_id_memory),
        ids: off_is_max(gateway.event_ids_max),
    }
}

/// What HTTP takes from the configuration.
pub(super) fn front_settings(config: &Config) -> FrontSettings {
    let web = &config.servers.web;
    FrontSettings {
        allowed_origins: AllowedOrigins::new(web.allowed_origins.iter().map(String::as_str)),
        compat: compat(web.compat),
        max_body_bytes: off_is_max(web.max_body_bytes),
        max_header_bytes: web.max_header_bytes,
        max_headers: usize::from(web.max_headers),
        max_connections: off_is_max(web.max_connections),
        header_timeout: web.header_timeout,
        body_timeout: web.body_timeout,
        request_timeout: web.request_timeout,
        write_timeout: web.write_timeout,
        idle_timeout: web.idle_timeout,
        json: json_limits(&config.limits),
        params: param_limits(&config.limits),
        websocket: WebSocketDoor {
            enabled: config.servers.websocket.enabled,
            compression: config.servers.websocket.compression,
        },
        ddp: WebSocketDoor { enabled: config.servers.ddp.enabled, compression: false },
        gateway: WebSocketDoor {
            enabled: config.servers.gateway.enabled,
            compression: config.servers.gateway.compression,
        },
        gateway_site: GatewaySite {
            enabled: config.servers.gateway.enabled,
            json: gateway_json_limits(config),
            start_total: config.servers.gateway.start_total,
            start_concurrency: config.servers.gateway.start_concurrency,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_closes_of_a_planned_stop_are_spread_over_less_than_it_lasts() {
        let mut config = Config::default();
        assert_eq!(websocket_settings(&config).drain_spread_ms, 10_000);
        config.node.drain_timeout = Duration::from_secs(5);
        // Two seconds may have gone by with commands: four fifths of the other three.
        assert_eq!(websocket_settings(&config).drain_spread_ms, 2400);
        config.node.drain_spread = Duration::from_secs(1);
        assert_eq!(websocket_settings(&config).drain_spread_ms, 1000);
    }

    #[test]
    fn the_gateway_stops_as_the_node_does_unless_told_otherwise() {
        let seconds = Duration::from_secs;
        let mut config = Config::default();
        assert_eq!(gateway_drain_ms(&config), (10_000, 13_000));
        config.node.drain_spread = seconds(3);
        assert_eq!(gateway_drain_ms(&config), (3000, 13_000));
        config.servers.gateway.drain_spread = Some(seconds(4));
        config.servers.gateway.drain_grace = Some(seconds(6));
        assert_eq!(gateway_drain_ms(&config), (4000, 6000));
        config.servers.gateway.drain_spread = Some(Duration::ZERO);
        assert_eq!(gateway_drain_ms(&config), (0, 6000));
        // Nothing outlasts the process.
        config.servers.gateway.drain_spread = Some(seconds(60));
        config.servers.gateway.drain_grace = Some(seconds(60));
        assert_eq!(gateway_drain_ms(&config), (10_400, 13_000));
        config.node.drain_timeout = Duration::ZERO;
        assert_eq!(gateway_drain_ms(&config), (0, 0));
    }

    #[test]
    fn what_the_gateway_is_made_of_has_the_same_defaults_as_the_configuration() {
        let config = Config::default();
        let (made, default) = (gateway_settings(&config), GatewaySettings::default());
        assert_eq!(made.limits.max_message_bytes, default.limits.max_message_bytes);
        assert_eq!((made.json.depth, made.max_control_bytes), (default.json.depth, default.max_control_bytes));
        assert_eq!(
            (made.register_timeout_ms, made.heartbeat_ms, made.message_timeout_ms),
            (default.register_timeout_ms, default.heartbeat_ms, default.message_timeout_ms)
        );
        assert_eq!((made.rate_messages, made.rate_period_ms), (default.rate_messages, default.rate_period_ms));
        assert_eq!(
            (made.max_control_bytes, made.drain_spread_ms),
            (default.max_control_bytes, default.drain_spread_ms)
        );
        assert_eq!(shard_limits(&config), ShardLimits::default());
    }

    #[test]
    fn an_application_is_taken_over_whole() {
        let mut config = Config::default();
        let mut plain = config::Application::new("1", "key");
        plain.secret = config::Secret::new("secret");
        plain.shards = 3;
        plain.tags = vec!["eu".into()];
        plain.state = [("level".into(), config::AuthValue::Number(3.into()))].into();
        let mut hashed = config::Application::new("2", "other");
        hashed.secret = config::Secret::new("sha256:2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b");
        hashed.allow_development = false;
        config.gateway.applications = vec![plain, hashed, config::Application::new("3", "third")];
        assert_eq!(config.validate().map_err(|error| error.to_string()).unwrap_err().lines().count(), 1);
        let made = gateway_options(&config).applications;
        assert_eq!((made[0].id(), made[0].shards, made[0].allow_development), ("1", 3, true));
        assert_eq!((&*made[0].tags, &*made[0].state), (&["eu".to_owned()][..], &[("level".to_owned(), 3.into())][..]));
        assert!(made[..2].iter().all(|made| made.secret.is_some_and(|digest| digest.is_of("secret"))));
        assert_eq!((made[1].public_key.as_str(), made[1].allow_development), ("other", false));
        assert!(made[2].secret.is_none());
    }
}
