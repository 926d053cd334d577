//! Routes of rooms: making and destroying, patterns, members, broadcast.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use serde::ser::SerializeMap;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Map, Value};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::Pattern;
use crate::node::{Page, RoomDetails, RoomSummary, Speaker};
use crate::proto::call::CallError;
use crate::proto::call::Member;
use crate::proto::id::RoomName;
use crate::proto::json::RawJson;

use super::Shared;
use super::answer::{Answered, ApiError, Code, ErrorBody, json, ok};
use super::api::{attributes, scalar};
use super::input::{FromJson, FromPath, Part, connection_id, cursor};

pub(super) fn routes() -> OpenApiRouter<Arc<Shared>> {
    OpenApiRouter::new()
        .routes(routes!(list, add))
        .routes(routes!(show, destroy))
        .routes(routes!(set_auth, clear_auth))
        .routes(routes!(broadcast))
        .routes(routes!(add_member, remove_member))
}

/// A room, who is inside and who may join.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(example = json!({
    "room": "lobby",
    "members": {
        "aa0f3a3c-9a5c-4d53-9a2c-0c53b1f2c0f1": {"id": "aa0f3a3c-9a5c-4d53-9a2c-0c53b1f2c0f1", "joinedAt": 1764000000000u64}
    },
    "membersCount": 1,
    "auth": {"authorized": true}
}))]
struct Room {
    /// The name.
    room: String,
    /// By id, in the order of joining.
    #[schema(value_type = std::collections::BTreeMap<String, RoomMember>)]
    members: Members,
    /// How many there are.
    members_count: usize,
    /// Attributes that a connection must have to join, all of them; null: everybody may.
    #[schema(schema_with = attributes)]
    auth: Option<Map<String, Value>>,
}

/// The members of a room by their ids.
struct Members(Vec<Member>);

/// One member of a room.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct RoomMember {
    /// The connection's id.
    id: String,
    /// When it joined, in milliseconds since 1970.
    joined_at: u64,
}

impl Serialize for Members {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for member in &self.0 {
            let id = member.id.to_string();
            map.serialize_entry(&id.clone(), &RoomMember { id, joined_at: member.joined_at })?;
        }
        map.end()
    }
}

impl From<RoomDetails> for Room {
    fn from(details: RoomDetails) -> Self {
        Self {
            room: details.status.room.to_string(),
            members_count: details.status.members.len(),
            members: Members(details.status.members),
            auth: auth(&details.pattern),
        }
    }
}

/// A room in a list: as by itself, without the members' names.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct ListedRoom {
    /// The name.
    room: String,
    /// How many members there are.
    members_count: usize,
    /// Attributes that a connection must have to join, all of them; null: everybody may.
    #[schema(schema_with = attributes)]
    auth: Option<Map<String, Value>>,
}

/// Part of the list of rooms.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({"items": [{"room": "lobby", "membersCount": 2, "auth": null}], "cursor": null}))]
struct RoomList {
    /// In the order of their names.
    items: Vec<ListedRoom>,
    /// For the next part; null: this is the last.
    cursor: Option<String>,
}

impl From<RoomSummary> for ListedRoom {
    fn from(room: RoomSummary) -> Self {
        Self { room: room.room.to_string(), members_count: room.members_count, auth: auth(&room.pattern) }
    }
}

fn auth(pattern: &Pattern) -> Option<Map<String, Value>> {
    (!pattern.0.is_empty()).then(|| pattern.0.iter().cloned().collect())
}

/// A room to make.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"room": "lobby"}))]
struct NewRoom {
    /// The name: 1 to 128 bytes without control characters. Who speaks the line protocol can name it if it has no spaces.
    room: String,
}

/// An authentication pattern of one pair.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"key": "authorized", "value": true}))]
struct Auth {
    /// An attribute of connections: `id`, `type`, `user`, `remoteIP`, `remotePort`, `connectedAt`, `fingerprint`, or a
    /// name in their server-only state.
    key: String,
    /// What it must be, type included.
    #[schema(schema_with = scalar)]
    value: Value,
}

/// Something to say in a room.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"message": "good evening", "from": "butler"}))]
struct Broadcast {
    /// Any JSON but null and the empty text.
    message: Value,
    /// What members see as the sender; without it, `0`. The id of a connection speaks for that one, which does not hear it.
    from: Option<String>,
}

/// A message that was said.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({"number": 7}))]
struct Said {
    /// Its number in the room; null while the store cannot be reached and only members on this node hear it (`backend.degraded`).
    number: Option<u64>,
}

/// A connection and a room.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({"room": "lobby", "connection": "aa0f3a3c-9a5c-4d53-9a2c-0c53b1f2c0f1"}))]
struct Membership {
    /// The room's name.
    room: String,
    /// The connection's id.
    connection: String,
}

/// A room that is gone.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({"room": "lobby"}))]
struct RoomGone {
    /// Its name.
    room: String,
}

/// List rooms
///
/// In the order of their names.
#[utoipa::path(get, path = "/v1/rooms", tag = "rooms", operation_id = "listRooms", params(Part),
    responses((status = 200, description = "Part of the list.", body = RoomList)))]
async fn list(State(shared): State<Arc<Shared>>, part: Part) -> Answered {
    let after = match part.after()? {
        Some(name) => Some(RoomName::parse(&name).map_err(|_| Part::odd_cursor())?),
        None => None,
    };
    let Page { items, next } = shared.node.page_of_rooms(after.as_ref(), part.limit).await?;
    let items = items.into_iter().map(ListedRoom::from).collect();
    ok(&RoomList { items, cursor: next.map(|name| cursor(name.as_str())) })
}

/// Make a room
#[utoipa::path(post, path = "/v1/rooms", tag = "rooms", operation_id = "addRoom", request_body = NewRoom,
    responses(
        (status = 201, description = "It was made.", body = Room),
        (status = 200, description = "It existed.", body = Room),
        (status = 409, description = "`too_many_rooms`: `limits.max_rooms` is reached.", body = ErrorBody)))]
async fn add(State(shared): State<Arc<Shared>>, FromJson(body): FromJson<NewRoom>) -> Answered {
    let is_new = shared.node.add_room(&body.room).await?;
    let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
    Ok(json(status, &details(&shared, &body.room).await?))
}

/// Show a room
#[utoipa::path(get, path = "/v1/rooms/{room}", tag = "rooms", operation_id = "showRoom",
    params(("room" = String, Path, description = "The name, percent-encoded.")),
    responses(
        (status = 200, description = "The room.", body = Room),
        (status = 404, description = "`room_not_found`.", body = ErrorBody)))]
async fn show(State(shared): State<Arc<Shared>>, FromPath(room): FromPath<String>) -> Answered {
    ok(&details(&shared, &room).await?)
}

/// Destroy a room
///
/// Its members hear that it has been deleted and are removed.
#[utoipa::path(delete, path = "/v1/rooms/{room}", tag = "rooms", operation_id = "destroyRoom",
    params(("room" = String, Path, description = "The name, percent-encoded.")),
    responses(
        (status = 200, description = "It is gone.", body = RoomGone),
        (status = 404, description = "`room_not_found`.", body = ErrorBody)))]
async fn destroy(State(shared): State<Arc<Shared>>, FromPath(room): FromPath<String>) -> Answered {
    shared.node.destroy_room(&room).await?;
    ok(&RoomGone { room })
}

/// Set who may join
///
/// Replaces what was set before. Members are looked at again; those that fail are removed without being told.
#[utoipa::path(put, path = "/v1/rooms/{room}/auth", tag = "rooms", operation_id = "setRoomAuth", request_body = Auth,
    params(("room" = String, Path, description = "The name, percent-encoded.")),
    responses(
        (status = 200, description = "The room as it is now.", body = Room),
        (status = 404, description = "`room_not_found`.", body = ErrorBody)))]
async fn set_auth(
    State(shared): State<Arc<Shared>>,
    FromPath(room): FromPath<String>,
    FromJson(Auth { key, value }): FromJson<Auth>,
) -> Answered {
    if key.is_empty() || matches!(value, Value::Null | Value::Array(_) | Value::Object(_)) {
        let message = "key must not be empty, and value must be a text, a number, true or false";
        return Err(Code::InvalidRequest.with(message));
    }
    shared.node.set_authentication_pattern(&room, &key, value).await?;
    ok(&details(&shared, &room).await?)
}

/// Let everybody join
#[utoipa::path(delete, path = "/v1/rooms/{room}/auth", tag = "rooms", operation_id = "clearRoomAuth",
    params(("room" = String, Path, description = "The name, percent-encoded.")),
    responses(
        (status = 200, description = "The room as it is now.", body = Room),
        (status = 404, description = "`room_not_found`.", body = ErrorBody)))]
async fn clear_auth(State(shared): State<Arc<Shared>>, FromPath(room): FromPath<String>) -> Answered {
    shared.node.clear_authentication_pattern(&room).await?;
    ok(&details(&shared, &room).await?)
}

/// Say something in a room
#[utoipa::path(post, path = "/v1/rooms/{room}/broadcast", tag = "rooms", operation_id = "broadcast",
    request_body = Broadcast, params(("room" = String, Path, description = "The name, percent-encoded.")),
    responses(
        (status = 200, description = "It is numbered and on its way.", body = Said),
        (status = 403, description = "`refused`: say middleware of the server did not let it pass.", body = ErrorBody),
        (status = 404, description = "`room_not_found`.", body = ErrorBody)))]
async fn broadcast(
    State(shared): State<Arc<Shared>>,
    FromPath(room): FromPath<String>,
    FromJson(body): FromJson<Broadcast>,
) -> Answered {
    let speaker = body.from.map_or_else(Speaker::server, Speaker::named);
    let message = RawJson::from_value(&body.message);
    if message.is_blank() {
        return Err(Code::InvalidRequest.with("message must not be null or empty"));
    }
    match shared.node.broadcast(speaker, &room, message).await? {
        Some(number) => ok(&Said { number: Some(number).filter(|number| *number != 0) }),
        None => Err(CallError::NoSuchRoom.into()),
    }
}

/// Put a connection into a room
///
/// Under the rules that hold for a client that asks. With a DDP session its user joins, with all his sessions; on the
/// gateway the session does, by its shard hash, or by the id of the connection that carries it.
#[utoipa::path(put, path = "/v1/rooms/{room}/members/{connection_id}", tag = "rooms", operation_id = "addMember",
    params(
        ("room" = String, Path, description = "The name, percent-encoded."),
        ("connection_id" = String, Path, description = "The connection's id.", format = "uuid")),
    responses(
        (status = 201, description = "It is a member now.", body = Membership),
        (status = 200, description = "It was a member before.", body = Membership),
        (status = 403, description = "`not_authorized`: the room's pattern does not match it.", body = ErrorBody),
        (status = 404, description = "`room_not_found` or `connection_not_found`.", body = ErrorBody),
        (status = 409, description = "`too_many_rooms`: it is in `limits.max_rooms_per_connection`.", body = ErrorBody)))]
async fn add_member(
    State(shared): State<Arc<Shared>>,
    FromPath((room, connection)): FromPath<(String, String)>,
) -> Answered {
    let id = connection_id(&connection)?;
    let status = match shared.node.add_member(id, &room).await {
        Ok(()) => StatusCode::CREATED,
        Err(CallError::AlreadyMember(_)) => StatusCode::OK,
        Err(error) => return Err(error.into()),
    };
    Ok(json(status, &Membership { room, connection: id.to_string() }))
}

/// Take a connection out of a room
///
/// With a DDP session its user leaves, with all his sessions; on the gateway the session does.
#[utoipa::path(delete, path = "/v1/rooms/{room}/members/{connection_id}", tag = "rooms", operation_id = "removeMember",
    params(
        ("room" = String, Path, description = "The name, percent-encoded."),
        ("connection_id" = String, Path, description = "The connection's id.", format = "uuid")),
    responses(
        (status = 200, description = "It is no member any more.", body = Membership),
        (status = 404, description = "`room_not_found`, `connection_not_found` or `not_member`.", body = ErrorBody)))]
async fn remove_member(
    State(shared): State<Arc<Shared>>,
    FromPath((room, connection)): FromPath<(String, String)>,
) -> Answered {
    let id = connection_id(&connection)?;
    match shared.node.remove_member(id, &room).await {
        Ok(()) => ok(&Membership { room, connection: id.to_string() }),
        Err(CallError::NotMember(_)) if !shared.node.room_exists(&room).await? => Err(CallError::NoSuchRoom.into()),
        Err(error) => Err(error.into()),
    }
}

async fn details(shared: &Shared, room: &str) -> Result<Room, ApiError> {
    Ok(shared.node.room_details(room).await?.into())
}
