//! Routes of the process: is it alive, is it ready, its figures, its description.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::command::{Figures, Outcome};
use crate::node::NodeEntry;
use crate::node::NotReady;
use crate::proto::call::ConnectionType;
use crate::proto::close::CloseReason;

use super::access::IsOperator;
use super::answer::{Answered, Code, json, ok};
use super::input::{Part, cursor};
use super::{Shared, api, metrics};

pub(super) fn routes() -> OpenApiRouter<Arc<Shared>> {
    OpenApiRouter::new()
        .routes(routes!(livez))
        .routes(routes!(readyz))
        .routes(routes!(figures))
        .routes(routes!(show))
        .routes(routes!(list))
        .routes(routes!(description))
}

/// That the process answers.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({"status": "alive"}))]
struct Alive {
    /// `alive`.
    status: &'static str,
}

/// Whether new clients should be sent here.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({"status": "ready", "reasons": []}))]
struct Readiness {
    /// `ready` or `not_ready`.
    status: &'static str,
    /// Why it is not ready: `draining`, `store` (what the nodes share cannot be reached), `fenced` (the others took it for dead); only
    /// with the token.
    #[serde(skip_serializing_if = "Option::is_none")]
    reasons: Option<Vec<&'static str>>,
}

/// Figures of a node at one moment.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(example = json!({
    "name": "web1-4711", "version": "0.1.0", "state": "running", "startedAt": 1764000000000u64, "uptimeMs": 86400000,
    "connections": 2, "connectionsByType": {"socket": 2}, "accepted": 10, "closed": {"client_left": 8},
    "rooms": 1, "members": 2, "published": 100, "delivered": 100,
    "commands": {
        "pending": 0, "sessions": 1, "settled": {"replied": 7, "timeout": 1}, "refused": 0, "delivered": 8, "overflowed": 0,
        "replies": {"counted": 7, "late": 1}, "clientErrors": 0
    }
}))]
struct NodeFigures {
    /// Its name (`node.name`).
    name: String,
    /// The server's version.
    version: &'static str,
    /// `running`, or `draining` while it stops as planned.
    state: &'static str,
    /// When it started, in milliseconds since 1970.
    started_at: u64,
    /// How long it has been running, in milliseconds.
    uptime_ms: u64,
    /// Connections open now.
    connections: usize,
    /// Those of each type.
    connections_by_type: BTreeMap<&'static str, usize>,
    /// Connections accepted since the start.
    accepted: u64,
    /// Connections ended since the start, by reason.
    closed: BTreeMap<&'static str, u64>,
    /// Rooms, in a cluster those of all nodes; `null` while that is not known, because the store cannot be reached.
    rooms: Option<usize>,
    /// Members of all rooms together, likewise; a client that is in two rooms counts twice.
    members: Option<usize>,
    /// Room messages numbered since the start.
    published: u64,
    /// Room messages queued for members since the start: one for each message and member.
    delivered: u64,
    /// Client commands.
    commands: CommandFigures,
}

/// Figures of client commands at one moment.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct CommandFigures {
    /// Commands that are pending now.
    pending: usize,
    /// Connections that take commands now.
    sessions: usize,
    /// Commands that ended since the start, by outcome.
    settled: BTreeMap<&'static str, u64>,
    /// Commands that were refused since the start, because of any limit or because the server stops.
    refused: u64,
    /// Handed to connections since the start: one for each command and connection.
    delivered: u64,
    /// Not handed over because the connection's output queue was full.
    overflowed: u64,
    /// Replies since the start: `counted`, and why the others did not.
    replies: BTreeMap<&'static str, u64>,
    /// Replies that counted and said `success: false`.
    client_errors: u64,
}

impl From<Figures> for CommandFigures {
    fn from(figures: Figures) -> Self {
        Self {
            pending: figures.pending,
            sessions: figures.sessions,
            settled: Outcome::ALL.iter().map(|outcome| (outcome.as_str(), figures.ended_with(*outcome))).collect(),
            refused: figures.refused,
            delivered: figures.delivered,
            overflowed: figures.overflowed,
            replies: replies(&figures).into_iter().collect(),
            client_errors: figures.client_errors,
        }
    }
}

/// Replies to commands by what became of them.
pub(super) fn replies(figures: &Figures) -> [(&'static str, u64); 6] {
    [
        ("counted", figures.replies),
        ("duplicate", figures.duplicate_replies),
        ("foreign", figures.foreign_replies),
        ("late", figures.late_replies),
        ("too_large", figures.too_large_replies),
        ("unknown", figures.unknown_replies),
    ]
}

/// A node in a list.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct ListedNode {
    /// Its name.
    name: String,
    /// Its version of the server.
    version: String,
    /// `running`, or `draining` while it stops as planned.
    state: &'static str,
    /// Connections open now; of another node those of a second ago.
    connections: u64,
    /// Its number in the cluster, which is in the ids of its connections.
    #[serde(skip_serializing_if = "Option::is_none")]
    slot: Option<u16>,
    /// When it started, in milliseconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    started_at: Option<u64>,
    /// Members that it has in all rooms together; who is in two rooms counts twice.
    #[serde(skip_serializing_if = "Option::is_none")]
    members: Option<u64>,
    /// Milliseconds since it last said that it lives.
    #[serde(skip_serializing_if = "Option::is_none")]
    silent_ms: Option<u64>,
}

impl From<NodeEntry> for ListedNode {
    fn from(node: NodeEntry) -> Self {
        Self {
            name: node.name,
            version: node.version,
            state: if node.is_draining { DRAINING } else { RUNNING },
            connections: node.connections,
            slot: Some(node.slot),
            started_at: Some(node.started_ms),
            members: Some(node.members),
            silent_ms: Some(node.silent_ms),
        }
    }
}

/// Part of the list of nodes.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({
    "items": [{
        "name": "web1-4711", "version": "0.1.0", "state": "running", "connections": 2, "slot": 1,
        "startedAt": 1764000000000u64, "members": 2, "silentMs": 400
    }], "cursor": null
}))]
struct NodeList {
    /// In the order of their names.
    items: Vec<ListedNode>,
    /// For the next part; null: this is the last.
    cursor: Option<String>,
}

/// Is the process alive?
///
/// Needs no token.
#[utoipa::path(get, path = "/livez", tag = "node", operation_id = "livez", security(()),
    responses((status = 200, description = "It answers.", body = Alive)))]
async fn livez() -> Answered {
    ok(&Alive { status: "alive" })
}

/// Should new clients be sent here?
///
/// Needs no token; reasons are told with it only.
#[utoipa::path(get, path = "/readyz", tag = "node", operation_id = "readyz", security((), ("token" = [])),
    responses(
        (status = 200, description = "Yes.", body = Readiness),
        (status = 503, description = "No, for instance because it stops as planned.", body = Readiness)))]
async fn readyz(
    State(shared): State<Arc<Shared>>,
    Extension(IsOperator(is_operator)): Extension<IsOperator>,
) -> Response {
    let reasons = shared.node.not_ready();
    let (code, status) =
        if reasons.is_empty() { (StatusCode::OK, "ready") } else { (StatusCode::SERVICE_UNAVAILABLE, "not_ready") };
    let reasons = is_operator.then(|| reasons.into_iter().map(NotReady::as_str).collect());
    json(code, &Readiness { status, reasons })
}

/// Figures for Prometheus
///
/// In its text format; the page docs/reference/metrics.md explains each.
#[utoipa::path(get, path = "/metrics", tag = "node", operation_id = "metrics",
    responses((status = 200, description = "The figures.", body = String, content_type = "text/plain")))]
async fn figures(State(shared): State<Arc<Shared>>) -> Response {
    ([(CONTENT_TYPE, HeaderValue::from_static(metrics::CONTENT_TYPE))], metrics::write(&shared)).into_response()
}

/// Show the figures of this node
#[utoipa::path(get, path = "/v1/node", tag = "node", operation_id = "showNode",
    responses((status = 200, description = "The figures.", body = NodeFigures)))]
async fn show(State(shared): State<Arc<Shared>>) -> Answered {
    let node = &shared.node;
    let figures = node.figures();
    let size = node.store_figures().map(|figures| figures.size);
    let uptime_ms = node.uptime_ms();
    ok(&NodeFigures {
        name: node.name().to_owned(),
        version: VERSION,
        state: state(&shared),
        started_at: node.unix_ms().saturating_sub(uptime_ms),
        uptime_ms,
        connections: figures.connections,
        connections_by_type: ConnectionType::ALL
            .iter()
            .map(|kind| (kind.as_str(), figures.connections_by_type[kind.index()]))
            .collect(),
        accepted: figures.accepted,
        closed: CloseReason::ALL.iter().map(|reason| (reason.as_str(), figures.closed[reason.index()])).collect(),
        rooms: size.map(|size| size.rooms),
        members: size.map(|size| size.members),
        published: figures.published,
        delivered: figures.delivered,
        commands: node.client_command_figures().into(),
    })
}

/// List the nodes of the cluster
#[utoipa::path(get, path = "/v1/nodes", tag = "node", operation_id = "listNodes", params(Part),
    responses((status = 200, description = "Part of the list.", body = NodeList)))]
async fn list(State(shared): State<Arc<Shared>>, part: Part) -> Answered {
    let node = &shared.node;
    let mut nodes: Vec<ListedNode> = node.nodes().into_iter().map(Into::into).collect();
    if nodes.iter().all(|other| other.name != node.name()) {
        // Without a cluster, or cut off from it.
        nodes.push(ListedNode {
            name: node.name().to_owned(),
            version: VERSION.to_owned(),
            state: state(&shared),
            connections: node.figures().connections as u64,
            slot: None,
            started_at: None,
            members: None,
            silent_ms: None,
        });
    }
    let after = part.after()?;
    nodes.retain(|node| after.as_ref().is_none_or(|after| node.name > *after));
    nodes.sort_unstable_by(|one, other| one.name.cmp(&other.name));
    let is_last = nodes.len() <= part.limit;
    nodes.truncate(part.limit);
    let next = nodes.last().filter(|_| !is_last).map(|node| cursor(&node.name));
    ok(&NodeList { items: nodes, cursor: next })
}

/// Describe this API
///
/// As OpenAPI 3.1.
#[utoipa::path(get, path = "/v1/openapi.json", tag = "node", operation_id = "openapi",
    responses((status = 200, description = "The description.", body = serde_json::Value)))]
async fn description() -> Answered {
    let text = api::openapi_json().map_err(|error| Code::Unavailable.with(error.to_string()))?;
    Ok(([(CONTENT_TYPE, HeaderValue::from_static("application/json"))], text).into_response())
}

fn state(shared: &Shared) -> &'static str {
    if shared.node.not_ready().contains(&NotReady::Draining) { DRAINING } else { RUNNING }
}

const DRAINING: &str = "draining";
const RUNNING: &str = "running";

/// The server's version.
pub(super) const VERSION: &str = env!("CARGO_PKG_VERSION");
