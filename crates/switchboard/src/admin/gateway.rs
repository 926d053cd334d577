//! Routes of the gateway: sessions of shards, and their end.

use std::sync::Arc;

use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::node::Page;
use crate::node::gateway::sessions::{Fleet, ShardDetails, ShardKey};
use crate::proto::id::ConnId;

use super::Shared;
use super::answer::{Answered, Code, ErrorBody, ok};
use super::input::{FromPath, Part, cursor};

pub(super) fn routes() -> OpenApiRouter<Arc<Shared>> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(end))
}

/// The session of a shard.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({
    "shard_hash": "C2iVnXbQ0sUu6GqYp3kLr9TdWmHfJzAe1x7",
    "application": "822865770504519700",
    "development": false,
    "shard_id": 0,
    "shard_total": 2,
    "attached": true,
    "connection": "aa0f3a3c-9a5c-4d53-9a2c-0c53b1f2c0f1",
    "node": "web1-4711",
    "remote_ip": "127.0.0.1",
    "created_at": 1764000000000u64,
    "generation": 3,
    "last_seq": 9,
    "floor": 4,
    "received_seq": 9,
    "buffered": 5,
    "buffered_bytes": 812,
    "counts": {"received": 20, "sent": 31, "pings": 11, "pongs": 11},
    "rtt_ms": 0.41,
    "detached_for_ms": null,
    "expires_in_ms": null,
    "rooms": ["lobby"]
}))]
struct Session {
    /// Its public handle: the id under which it is a member of rooms.
    shard_hash: String,
    /// Whose it is: the application's id.
    application: String,
    /// Whether it is one of the development fleet.
    development: bool,
    /// Which shard.
    shard_id: u32,
    /// Of how many the fleet consists.
    shard_total: u32,
    /// Whether a connection carries it.
    attached: bool,
    /// The id of that connection.
    connection: Option<String>,
    /// The node of that connection.
    node: Option<String>,
    /// Where that connection comes from, if it is one of this node.
    remote_ip: Option<String>,
    /// When it began, in milliseconds since 1970.
    created_at: u64,
    /// How often it was begun and resumed, as a number that only grows.
    generation: u64,
    /// Its newest event; 0: there was none.
    last_seq: u64,
    /// The newest event that is not kept any more; 0: all are kept.
    floor: u64,
    /// Up to which event the client is known to have received.
    received_seq: u64,
    /// Events that are kept for a replay.
    buffered: u64,
    /// Their bytes.
    buffered_bytes: usize,
    /// What the shard has done; at most five seconds old where another node carries it.
    counts: Counts,
    /// How long the latest ping took, in milliseconds; null: none was answered, or another node carries it.
    rtt_ms: Option<f64>,
    /// For how long no connection has carried it, in milliseconds.
    detached_for_ms: Option<u64>,
    /// In how long it is over unless it is resumed, in milliseconds.
    expires_in_ms: Option<u64>,
    /// Rooms that it is a member of, in the order of joining.
    rooms: Vec<String>,
}

/// What a shard has done in its session.
#[derive(Serialize, ToSchema)]
struct Counts {
    /// Messages that were accepted from it.
    received: u64,
    /// Messages that were written to it.
    sent: u64,
    /// Pings that were received.
    pings: u64,
    /// Pings that were answered.
    pongs: u64,
}

impl From<ShardDetails> for Session {
    fn from(details: ShardDetails) -> Self {
        let ShardDetails { info, remote, rooms, detached } = details;
        let record = info.record;
        let (connection, node) =
            record.owner.map(|owner| (owner.connection.to_string(), owner.node.to_string())).unzip();
        Self {
            shard_hash: record.id.to_string(),
            application: record.fleet.application.to_string(),
            development: record.fleet.development,
            shard_id: record.shard,
            shard_total: record.fleet_total,
            attached: connection.is_some(),
            connection,
            node,
            remote_ip: remote.map(|remote| remote.to_string()),
            created_at: record.created_ms,
            generation: record.generation,
            last_seq: record.last,
            floor: record.floor,
            received_seq: record.received,
            buffered: record.last.saturating_sub(record.floor),
            buffered_bytes: record.log_bytes,
            counts: Counts {
                received: record.counts.received,
                sent: record.counts.sent,
                pings: record.counts.pings,
                pongs: record.counts.pongs,
            },
            rtt_ms: info.round_trip_us.map(|us| us as f64 / 1000.0),
            detached_for_ms: detached.map(|detached| detached.for_ms),
            expires_in_ms: detached.map(|detached| detached.expires_in_ms),
            rooms: rooms.into_iter().map(|room| room.to_string()).collect(),
        }
    }
}

/// Part of the list of sessions.
#[derive(Serialize, ToSchema)]
struct SessionList {
    /// By application, fleet (production first) and shard.
    items: Vec<Session>,
    /// For the next part; null: this is the last.
    cursor: Option<String>,
}

/// A session that is over.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({"shard_hash": "C2iVnXbQ0sUu6GqYp3kLr9TdWmHfJzAe1x7"}))]
struct SessionGone {
    /// Its public handle.
    shard_hash: String,
}

/// List gateway sessions
///
/// Those that connections carry and those that wait to be resumed, of all nodes of the store. A session that lives while the parts
/// are read is in exactly one of them.
#[utoipa::path(get, path = "/v1/gateway/sessions", tag = "gateway", operation_id = "listSessions", params(Part),
    responses((status = 200, description = "Part of the list.", body = SessionList)))]
async fn list(State(shared): State<Arc<Shared>>, part: Part) -> Answered {
    let after = match part.after()? {
        Some(text) => Some(read_key(&text).ok_or_else(Part::odd_cursor)?),
        None => None,
    };
    let Page { items, next } = shared.node.page_of_shard_sessions(after, part.limit).await?;
    let items = items.into_iter().map(Session::from).collect();
    ok(&SessionList { items, cursor: next.map(|key| cursor(&write_key(&key))) })
}

/// The text of a key in a cursor: shard, `1` for development, and the application.
fn write_key(key: &ShardKey) -> String {
    format!("{} {} {}", key.shard, u8::from(key.fleet.development), key.fleet.application)
}

fn read_key(text: &str) -> Option<ShardKey> {
    let mut parts = text.splitn(3, ' ');
    let shard = parts.next()?.parse().ok()?;
    let development = match parts.next()? {
        "0" => false,
        "1" => true,
        _ => return None,
    };
    Some(ShardKey { fleet: Fleet { application: parts.next()?.into(), development }, shard })
}

/// End a gateway session
///
/// It cannot be resumed any more, and is in no room. Whoever carries it is told, and has to register again.
#[utoipa::path(delete, path = "/v1/gateway/sessions/{shard_hash}", tag = "gateway", operation_id = "endSession",
    params(("shard_hash" = String, Path, description = "The session's public handle.")),
    responses(
        (status = 200, description = "It is over.", body = SessionGone),
        (status = 404, description = "`session_not_found`.", body = ErrorBody)))]
async fn end(State(shared): State<Arc<Shared>>, FromPath(hash): FromPath<String>) -> Answered {
    let id = ConnId::parse(&hash).filter(ConnId::is_session);
    match id {
        Some(id) if shared.node.end_shard_session(id).await? => ok(&SessionGone { shard_hash: hash }),
        _ => Err(Code::SessionNotFound.with("no such session")),
    }
}
