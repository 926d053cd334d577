//! Routes of connections: looking, changing what only the server says about them, messages, ending.

use std::sync::Arc;

use axum::extract::State;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::command::ClientView;
use crate::node::connection::ConnectionInfo;
use crate::node::{self, ConnectionPatch, Page, StateError, User};
use crate::proto::id::{ConnId, RoomName};
use crate::proto::json::RawJson;

use super::Shared;
use super::answer::{Answered, ApiError, AsItIs, ErrorBody, ok};
use super::api::{state, state_change};
use super::input::{FromJson, FromPath, Part, connection_id, cursor, present};

pub(super) fn routes() -> OpenApiRouter<Arc<Shared>> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(show, patch, end))
        .routes(routes!(send))
        .routes(routes!(reauthenticate))
}

/// A connection.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(example = json!({
    "id": "aa0f3a3c-9a5c-4d53-9a2c-0c53b1f2c0f1",
    "type": "socket",
    "user": "u1",
    "remoteIP": "127.0.0.1",
    "remotePort": 51332,
    "connectedAt": 1764000000000u64,
    "fingerprint": null,
    "rooms": ["lobby"],
    "tags": ["beta"],
    "node": "web1-4711",
    "state": {"authorized": true},
    "outboxBytes": 0,
    "client": null,
    "shardHash": null
}))]
struct Connection {
    /// Its id, which other members of its rooms see too.
    id: String,
    /// What kind of client it is.
    #[serde(rename = "type")]
    kind: &'static str,
    /// The id of who it is; null: nobody has said so.
    user: Option<String>,
    /// Where it comes from; `unix` for a Unix socket.
    #[serde(rename = "remoteIP")]
    remote_ip: String,
    /// The port there; 0 for a Unix socket.
    remote_port: u16,
    /// When it was accepted, in milliseconds since 1970.
    connected_at: u64,
    /// What ties several connections of one client together.
    fingerprint: Option<String>,
    /// Its rooms, in the order of joining.
    rooms: Vec<String>,
    /// Its tags.
    tags: Vec<String>,
    /// The node that it is connected to.
    node: String,
    /// Its server-only state.
    #[schema(schema_with = state)]
    state: Map<String, Value>,
    /// Bytes that wait to be written to it.
    outbox_bytes: usize,
    /// What it says about itself, and how it does with client commands; null: it said nothing and takes none.
    client: Option<ClientState>,
    /// The gateway session that it carries, whose rooms these are; null: it carries none.
    shard_hash: Option<String>,
}

/// What a client says about itself, and how it does with commands.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(example = json!({
    "takesCommands": true,
    "takesCommandsSince": 1764000000000u64,
    "data": {"framework": "Hubot", "canListenToHeartbeat": true, "ipAddress": "10.0.0.7"},
    "capabilities": {"any": false, "keys": ["heartbeat"]},
    "paused": null,
    "status": "online",
    "pingMs": 12,
    "heardAt": 1764000060000u64,
    "isSilentFromStart": false
}))]
struct ClientState {
    /// Whether commands reach it.
    takes_commands: bool,
    /// Since when, in milliseconds since 1970.
    takes_commands_since: Option<u64>,
    /// Its client data with what the server adds. It comes from the client: text to show, never markup.
    #[schema(value_type = Option<serde_json::Map<String, Value>>)]
    data: Option<AsItIs>,
    /// What `require_capability` looks at.
    capabilities: ClientCapabilities,
    /// That room messages are withheld from it; null: they are not.
    paused: Option<ClientPause>,
    /// `online`, `busy` while it is paused, or `unresponsive` after a heartbeat without an answer.
    status: &'static str,
    /// Round trip of the latest heartbeat that it answered, in milliseconds.
    ping_ms: Option<u64>,
    /// When it last answered a command, in milliseconds since 1970.
    heard_at: Option<u64>,
    /// It is asked and never answered anything: its clock may be ahead of the server's, see `commands.ts_offset`.
    is_silent_from_start: bool,
}

/// Commands that a client announced.
#[derive(Serialize, ToSchema)]
struct ClientCapabilities {
    /// Whether it takes any key.
    any: bool,
    /// Keys that it named.
    keys: Vec<String>,
}

/// Why room messages are withheld.
#[derive(Serialize, ToSchema)]
struct ClientPause {
    /// Since when, in milliseconds since 1970.
    since: u64,
    /// Who paused it, if that is known.
    by: Option<String>,
}

impl From<ClientView> for ClientState {
    fn from(view: ClientView) -> Self {
        Self {
            takes_commands: view.takes_commands_since_unix_ms.is_some() && !view.is_settling,
            takes_commands_since: view.takes_commands_since_unix_ms,
            data: view.data.map(AsItIs),
            capabilities: ClientCapabilities {
                any: view.capabilities.any,
                keys: view.capabilities.keys.into_iter().map(String::from).collect(),
            },
            paused: view
                .paused
                .map(|paused| ClientPause { since: paused.since_unix_ms, by: paused.by.map(String::from) }),
            status: view.status.as_str(),
            ping_ms: view.ping_ms,
            heard_at: view.heard_unix_ms,
            is_silent_from_start: view.is_silent_from_start,
        }
    }
}

impl From<ConnectionInfo> for Connection {
    fn from(info: ConnectionInfo) -> Self {
        let handle = info.handle;
        Self {
            id: handle.id().to_string(),
            kind: handle.connection_type().as_str(),
            user: handle.user().map(|user| user.id().to_owned()),
            remote_ip: handle.remote().to_string(),
            remote_port: handle.remote().port(),
            connected_at: handle.connected_at(),
            fingerprint: handle.fingerprint().map(str::to_owned),
            rooms: names(info.rooms),
            tags: handle.tags(),
            node: handle.node_name().to_owned(),
            state: handle.state().iter().map(|(name, value)| (name.to_owned(), value.clone())).collect(),
            outbox_bytes: info.outbox_bytes,
            client: info.client.map(ClientState::from),
            shard_hash: info.session.map(|session| session.to_string()),
        }
    }
}

/// Part of the list of connections.
#[derive(Serialize, ToSchema)]
struct ConnectionList {
    /// In the order of their ids.
    items: Vec<Connection>,
    /// For the next part; null: this is the last.
    cursor: Option<String>,
}

/// What changes about a connection: all of it, or nothing.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"state": {"authorized": true}, "user": "u1", "tags": ["beta"], "reauthenticate": true}))]
struct Change {
    /// Values of the server-only state to set; null removes one, what is not named stays. At most 64 values and 16 KiB.
    #[serde(default, deserialize_with = "present")]
    #[schema(schema_with = state_change, required = false)]
    state: Option<Map<String, Value>>,
    /// Who it is from now on, by the id or the name of a configured user; any other id is its own name: 1 to 128 bytes, no
    /// slash, no control characters; null: nobody. Who speaks DDP or to the gateway cannot be changed.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<String>)]
    user: Option<Option<String>>,
    /// All its tags from now on: at most 64 of 1 to 128 bytes, no control characters.
    #[serde(default, deserialize_with = "present")]
    #[schema(nullable = false)]
    tags: Option<Vec<String>>,
    /// Whether its rooms are looked at again.
    #[serde(default)]
    reauthenticate: bool,
}

/// What a change answers.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
enum Changed {
    /// With `reauthenticate`.
    Reauthenticated(Reauthentication),
    /// Without.
    Connection(Box<Connection>),
}

/// A connection's rooms after they were looked at again.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({"rooms": ["lobby"], "removed": ["staff"]}))]
struct Reauthentication {
    /// Rooms that it is still in.
    rooms: Vec<String>,
    /// Rooms that it was removed from.
    removed: Vec<String>,
}

/// Something to send to one client.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"message": {"news": "dinner is ready"}}))]
struct Message {
    /// Any JSON, sent as it is.
    message: Value,
}

/// A connection that was served.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({"id": "aa0f3a3c-9a5c-4d53-9a2c-0c53b1f2c0f1"}))]
struct ConnectionId {
    /// Its id.
    id: String,
}

/// List connections
///
/// Those of all nodes, in the order of their ids, which are random: who stays connected while the parts are read is in exactly one of
/// them.
#[utoipa::path(get, path = "/v1/connections", tag = "connections", operation_id = "listConnections", params(Part),
    responses((status = 200, description = "Part of the list.", body = ConnectionList)))]
async fn list(State(shared): State<Arc<Shared>>, part: Part) -> Answered {
    let after = match part.after()? {
        Some(id) => Some(ConnId::parse(&id).ok_or_else(Part::odd_cursor)?),
        None => None,
    };
    let Page { items, next } = shared.node.page_of_connections(after, part.limit).await?;
    let items = items.into_iter().map(Connection::from).collect();
    ok(&ConnectionList { items, cursor: next.map(|id| cursor(id.text().as_str())) })
}

/// Show a connection
#[utoipa::path(get, path = "/v1/connections/{id}", tag = "connections", operation_id = "showConnection",
    params(("id" = String, Path, description = "The connection's id, or the shard hash of the gateway session that it carries.")),
    responses(
        (status = 200, description = "The connection.", body = Connection),
        (status = 404, description = "`connection_not_found`.", body = ErrorBody)))]
async fn show(State(shared): State<Arc<Shared>>, FromPath(id): FromPath<String>) -> Answered {
    ok(&Connection::from(shared.node.connection(connection_id(&id)?).await?))
}

/// Change what only the server says about a connection
///
/// A change moves nobody by itself: with `reauthenticate` its rooms are looked at again, and the answer is what came of it.
#[utoipa::path(patch, path = "/v1/connections/{id}", tag = "connections", operation_id = "changeConnection",
    request_body = Change, params(("id" = String, Path, description = "The connection's id, or the shard hash of the gateway session that it carries.")),
    responses(
        (status = 200, description = "The connection as it is now; with `reauthenticate` its rooms.", body = Changed),
        (status = 404, description = "`connection_not_found`.", body = ErrorBody),
        (status = 409, description = "`not_supported`: who speaks DDP or to the gateway follows from the log-in.", body = ErrorBody)))]
async fn patch(
    State(shared): State<Arc<Shared>>,
    FromPath(id): FromPath<String>,
    FromJson(change): FromJson<Change>,
) -> Answered {
    let id = connection_id(&id)?;
    let patch = ConnectionPatch {
        state: change.state.into_iter().flatten().collect(),
        user: change.user.map(|user| named(&shared, user)).transpose()?,
        tags: change.tags,
    };
    shared.node.change_connection(id, patch).await?;
    ok(&if change.reauthenticate {
        Changed::Reauthenticated(look_again(&shared, id).await?)
    } else {
        Changed::Connection(Box::new(shared.node.connection(id).await?.into()))
    })
}

/// End a connection
///
/// Its client is told in the way of its wire.
#[utoipa::path(delete, path = "/v1/connections/{id}", tag = "connections", operation_id = "endConnection",
    params(("id" = String, Path, description = "The connection's id, or the shard hash of the gateway session that it carries.")),
    responses(
        (status = 200, description = "It is ending.", body = ConnectionId),
        (status = 404, description = "`connection_not_found`.", body = ErrorBody)))]
async fn end(State(shared): State<Arc<Shared>>, FromPath(id): FromPath<String>) -> Answered {
    let id = connection_id(&id)?;
    shared.node.disconnect(id).await?;
    ok(&ConnectionId { id: id.to_string() })
}

/// Send one client a message
///
/// To a gateway session it is an event in its log: by the shard hash also while no connection carries it.
#[utoipa::path(post, path = "/v1/connections/{id}/message", tag = "connections", operation_id = "sendMessage",
    request_body = Message, params(("id" = String, Path, description = "The connection's id, or the shard hash of the gateway session that it carries.")),
    responses(
        (status = 200, description = "It waits to be written to the client.", body = ConnectionId),
        (status = 404, description = "`connection_not_found`.", body = ErrorBody),
        (status = 413, description = "`too_large`: it does not fit into the log of the gateway session.", body = ErrorBody)))]
async fn send(
    State(shared): State<Arc<Shared>>,
    FromPath(id): FromPath<String>,
    FromJson(body): FromJson<Message>,
) -> Answered {
    let id = connection_id(&id)?;
    shared.node.send_message(id, RawJson::from_value(&body.message)).await?;
    ok(&ConnectionId { id: id.to_string() })
}

/// Look at a connection's rooms again
///
/// It is removed, without being told, from those that it may not be in any more.
#[utoipa::path(post, path = "/v1/connections/{id}/reauthenticate", tag = "connections", operation_id = "reauthenticate",
    params(("id" = String, Path, description = "The connection's id, or the shard hash of the gateway session that it carries.")),
    responses(
        (status = 200, description = "What came of it.", body = Reauthentication),
        (status = 404, description = "`connection_not_found`.", body = ErrorBody)))]
async fn reauthenticate(State(shared): State<Arc<Shared>>, FromPath(id): FromPath<String>) -> Answered {
    ok(&look_again(&shared, connection_id(&id)?).await?)
}

fn named(shared: &Shared, user: Option<String>) -> Result<Option<User>, StateError> {
    Ok(user.map(|user| shared.node.user_named(&user)).transpose()?)
}

async fn look_again(shared: &Shared, id: ConnId) -> Result<Reauthentication, ApiError> {
    let node::Reauthentication { rooms, removed } = shared.node.reauthenticate(id).await?;
    Ok(Reauthentication { rooms: names(rooms), removed: names(removed) })
}

fn names(rooms: Vec<RoomName>) -> Vec<String> {
    rooms.into_iter().map(|room| room.to_string()).collect()
}
