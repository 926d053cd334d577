//! HTTP on one port: actions below `/api`, WebSockets below their paths, and the public folder for everything else.
//!
//! [`http_connection`] checks and serves connections. A request for a WebSocket is answered here; then the socket
//! leaves hyper and the runtime and belongs to a worker.

mod answer;
mod api;
mod assets;
mod conditions;
mod early;
mod files;
mod gateway;
mod params;
mod session;
mod upgrade;
mod visit;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::StatusCode;
use hyper::server::conn::http1;
use switchboard_proto::actionhero::Compat;
use switchboard_proto::face::Remote;
use switchboard_proto::json::JsonLimits;
use switchboard_proto::origin::AllowedOrigins;
use switchboard_proto::params::ParamLimits;

use crate::http_connection::guard::{Deadlines, Guarded};
use crate::http_connection::{self, last, linger};
use crate::node::Node;
use crate::telemetry::Interval;

use super::accept::{Seat, Stopping, within};
use super::hand_over::{HandOver, Stream};
pub(crate) use gateway::GatewaySite;
use upgrade::Upgrade;
use visit::{Answering, Service, Visit};

/// What a client is told that comes when there is no room.
pub(crate) fn overloaded() -> String {
    format!(
        "HTTP/1.1 503 Service Unavailable\r\nretry-after: {}\r\ncontent-type: text/plain; charset=utf-8\r\n\
         content-length: 38\r\nconnection: close\r\n\r\ntoo many connections, try again later\n",
        retry_seconds()
    )
}

/// When whoever is turned away may try again. Not all at once.
pub(crate) fn retry_seconds() -> u8 {
    fastrand::u8(1..10)
}

/// What the front takes from the configuration. Where 0 turned a limit off, it is the largest number here.
#[derive(Clone, Debug)]
pub(crate) struct FrontSettings {
    pub(crate) allowed_origins: AllowedOrigins,
    pub(crate) compat: Compat,
    pub(crate) max_body_bytes: usize,
    pub(crate) max_header_bytes: usize,
    pub(crate) max_headers: usize,
    pub(crate) max_connections: usize,
    /// Zero for none, as are the other times.
    pub(crate) header_timeout: Duration,
    pub(crate) body_timeout: Duration,
    pub(crate) request_timeout: Duration,
    pub(crate) write_timeout: Duration,
    pub(crate) idle_timeout: Duration,
    pub(crate) json: JsonLimits,
    pub(crate) params: ParamLimits,
    /// ActionHero's browser protocol.
    pub(crate) websocket: WebSocketDoor,
    /// DDP.
    pub(crate) ddp: WebSocketDoor,
    /// The gateway.
    pub(crate) gateway: WebSocketDoor,
    /// The gateway without WebSockets.
    pub(crate) gateway_site: GatewaySite,
}

/// What has to be known of a protocol over WebSockets to let somebody in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WebSocketDoor {
    /// Whether it is spoken at all.
    pub(crate) enabled: bool,
    /// Whether compression is offered.
    pub(crate) compression: bool,
}

/// The part of HTTP that all connections share.
pub(crate) struct Front {
    settings: FrontSettings,
    node: Node,
    hand_over: HandOver,
    http: http1::Builder,
    origin_warnings: Interval,
}

impl fmt::Debug for Front {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Front").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Front {
    /// What answers call this program.
    const NAME: &'static str = "Switchboard";
    /// Longest part of a refused origin in the log.
    const ORIGIN_CHARS: usize = 256;

    pub(crate) fn new(settings: FrontSettings, node: Node, hand_over: HandOver) -> Self {
        let mut http = http_connection::builder(settings.max_headers, settings.max_header_bytes);
        // A client that closes its side behind its request still gets the answer, and an action that runs is not dropped
        // because the page that asked was left.
        http.half_close(true);
        Self { settings, node, hand_over, http, origin_warnings: Interval::default() }
    }

    /// Logs that a page was refused for its origin: as a warning now and then, because foreign pages can ask as often as
    /// they like, else for debugging.
    fn log_refused_origin(&self, origin: &[u8], remote: Remote) {
        let shown: String = String::from_utf8_lossy(origin).chars().take(Self::ORIGIN_CHARS).collect();
        let origin = shown.escape_debug();
        if self.origin_warnings.is_due(Instant::now()) {
            const TEXT: &str =
                "refused a page of another origin; list it in servers.web.allowed_origins if it is yours";
            tracing::warn!(%origin, %remote, "{TEXT}");
        } else {
            tracing::debug!(%origin, %remote, "refused a page of another origin");
        }
    }

    /// How many connections may speak HTTP at the same time.
    pub(crate) fn max_connections(&self) -> usize {
        self.settings.max_connections
    }

    /// Speaks HTTP until the connection ends, or becomes a WebSocket and is handed over.
    pub(super) async fn serve<S: Stream>(
        self: &Arc<Self>,
        mut stream: S,
        remote: Remote,
        secure: bool,
        mut stopping: Stopping,
        seat: Seat,
    ) {
        let begun = Instant::now();
        let received = tokio::select! {
            received = within(self.settings.header_timeout, early::first_bytes(&mut stream)) => received,
            () = stopping.begins() => return,
        };
        let Some(Ok(received)) = received else { return };
        let visit = Arc::new(Visit::new(Arc::clone(self), remote, secure, stopping.clone()));
        let asked = early::whole_upgrade(&received);
        match asked.and_then(|(request, end)| Some((visit.answer_early(&request)?, end))) {
            Some((answering, end)) => self.upgrade(stream, received, end, answering, visit).await,
            // On the heap, so that a connection that is upgraded has no place for it.
            None => Box::pin(self.serve_http(stream, received, begun.elapsed(), stopping, visit)).await,
        }
        // Until now, so that it is counted on one side at least.
        drop(seat);
    }

    /// Answers the request for a WebSocket that ends at `end`, and hands the connection over if it was let in.
    async fn upgrade<S: Stream>(
        &self,
        mut stream: S,
        mut received: Vec<u8>,
        end: usize,
        answering: Answering,
        visit: Arc<Visit>,
    ) {
        let Ok(response) = answering.await;
        let response = if response.status() == StatusCode::SWITCHING_PROTOCOLS { response } else { last(response) };
        let sent = within(self.settings.write_timeout, early::send(&mut stream, response)).await;
        if !matches!(sent, Some(Ok(()))) {
            return;
        }
        let remote = visit.remote;
        match Arc::into_inner(visit).and_then(Visit::into_upgrade) {
            Some(upgrade) => {
                received.drain(..end);
                self.adopt(stream, upgrade, received, remote).await;
            }
            None => Box::pin(linger(stream)).await,
        }
    }

    async fn adopt(&self, stream: impl Stream, upgrade: Upgrade, received: Vec<u8>, remote: Remote) {
        match stream.take_apart() {
            Ok((socket, tls)) => self.hand_over.give(upgrade.adopted(socket, tls, received, remote)).await,
            Err(error) => tracing::warn!(%error, "a socket could not be handed over"),
        }
    }

    /// Speaks HTTP, beginning with what was received.
    async fn serve_http<S: Stream>(
        self: &Arc<Self>,
        stream: S,
        received: Vec<u8>,
        taken: Duration,
        mut stopping: Stopping,
        visit: Arc<Visit>,
    ) {
        let remote = visit.remote;
        let deadlines = Deadlines {
            head: self.settings.header_timeout,
            body: self.settings.body_timeout,
            idle: self.settings.idle_timeout,
            write: self.settings.write_timeout,
        };
        let stream = Guarded::new(stream, received, taken, deadlines);
        let (ended, parts) = http_connection::serve(&self.http, stream, Service(visit), stopping.begins()).await;
        if let Err(error) = &ended {
            tracing::debug!(%remote, %error, "an HTTP connection failed");
        }
        let guarded = parts.io.into_inner();
        let is_blocked = guarded.is_blocked();
        let stream = guarded.into_inner();
        // With hyper's part gone nobody else has it.
        match Arc::into_inner(parts.service.0).and_then(Visit::into_upgrade) {
            // Behind an answer that nobody reads, the 101 would be lost with hyper.
            Some(upgrade) if ended.is_ok() && !is_blocked => {
                self.adopt(stream, upgrade, parts.read_buf.into(), remote).await;
            }
            _ => http_connection::close(stream, &ended).await,
        }
    }
}
