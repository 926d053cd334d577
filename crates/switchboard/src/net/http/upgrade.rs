//! From a request to a WebSocket.

use std::sync::Arc;

use bytes::Bytes;
use hyper::body::Body;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Request, Response, StatusCode, Version};
use rustls::ServerConnection;
use switchboard_proto::call::{CallError, ConnectionType};
use switchboard_proto::face::{ConnFacts, Fingerprint, Remote};
use switchboard_proto::frame::ws::handshake::{self, Accepted, DeflateParams, HandshakeError};
use switchboard_proto::gateway::Opening;
use switchboard_proto::id::ConnId;
use switchboard_proto::peer::PeerKind;

use crate::clock;
use crate::http_connection::last;
use crate::hub::mail::{Admission, Adopted, Socket};
use crate::op::Op;

use super::answer::{Answer, JSON, TEXT, empty, insert, respond, text};
use super::session;
use super::visit::{Answering, Page, Visit};
use super::{WebSocketDoor, retry_seconds};

/// Which protocol a path leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Door {
    /// ActionHero's browser protocol.
    ActionHero,
    /// DDP.
    Ddp,
    /// The gateway.
    Gateway,
}

impl Door {
    /// The door that a path leads to, if it leads to one.
    pub(super) fn of(path: &str) -> Option<Self> {
        match path {
            "/websocket" => Some(Self::Ddp),
            // The second one is where its older clients look.
            "/gateway" | "/ws_interaction" => Some(Self::Gateway),
            // As on the real servers, whatever begins so.
            _ => path.starts_with("/primus").then_some(Self::ActionHero),
        }
    }
}

/// What ActionHero's transport tells about itself, as far as anybody asks.
const SPEC: &str = concat!(
    r#"{"version":"switchboard-"#,
    env!("CARGO_PKG_VERSION"),
    r#"","pathname":"/primus","timeout":35000,"pingInterval":30000,"parser":"json","transformer":"websockets"}"#
);

/// What a connection becomes behind the 101.
#[derive(Debug)]
pub(super) struct Upgrade {
    kind: PeerKind,
    id: ConnId,
    fingerprint: Option<Fingerprint>,
    admission: Admission,
}

/// What was agreed with the client, before anybody was asked whether it may come.
struct UpgradeAccepted {
    accept: String,
    deflate: Option<DeflateParams>,
    protocol: Option<String>,
}

impl Upgrade {
    /// The connection as its worker gets it. `received` is what the client sent behind its request: frames, and nothing else.
    pub(super) fn adopted(
        self,
        socket: Socket,
        tls: Option<Box<ServerConnection>>,
        received: Vec<u8>,
        remote: Remote,
    ) -> Adopted {
        let Self { kind, id, fingerprint, admission } = self;
        Adopted { socket, tls, received, kind, id, fingerprint, remote, admission: Some(admission) }
    }
}

impl Visit {
    /// Answers a request at one of the doors.
    pub(super) fn websocket<B: Body>(self: &Arc<Self>, door: Door, request: &Request<B>, page: &Page) -> Answering {
        let asks = request.headers().contains_key(header::UPGRADE);
        if !asks && matches!(*request.method(), Method::GET | Method::HEAD) {
            if door == Door::ActionHero && asks_for_refusal(request.uri().query()) {
                return self.refusal(request, page);
            }
            let mut response = match request.uri().path() {
                "/gateway" if self.front.settings.gateway.enabled => self.gateway_address(request),
                "/primus/spec" => respond(StatusCode::OK, JSON, SPEC),
                "/primus/primus.js" => {
                    text(StatusCode::NOT_FOUND, "no such script here: see /javascript/switchboard.js\n")
                }
                _ => not_upgraded(HandshakeError::NoUpgrade),
            };
            response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
            self.allow_origin(&mut response, page);
            return Answering::Now(Some(response));
        }
        if request.method() == Method::OPTIONS {
            return Answering::Now(Some(self.options("GET, HEAD, OPTIONS", "Content-Type", page)));
        }
        let agreed = match self.agree(door, request) {
            Ok(agreed) => agreed,
            Err(refusal) => return Answering::Now(Some(last(*refusal))),
        };
        let kind = match door {
            Door::ActionHero => PeerKind::WebSocket { deflate: agreed.deflate.is_some() },
            Door::Ddp => PeerKind::Ddp,
            Door::Gateway => {
                let headers = request.headers().iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
                PeerKind::Gateway(Box::new(Opening::read(request.uri().query(), headers, agreed.deflate.is_some())))
            }
        };
        let facts = self.facts(kind.connection_type(), request.headers());
        // Asked before the client is told that it may come.
        match self.front.node.let_in(&facts) {
            Op::Ready(admission) => Answering::Now(Some(self.decided(kind, facts, &agreed, admission))),
            Op::Wait(asking) => {
                let this = Arc::clone(self);
                let decided = async move { this.decided(kind, facts, &agreed, asking.await) };
                Answering::Later(Box::pin(decided), true)
            }
        }
    }

    fn facts(&self, kind: ConnectionType, headers: &HeaderMap) -> ConnFacts {
        ConnFacts {
            id: self.front.hand_over.loads.new_id(),
            kind,
            remote: self.remote,
            connected_at: clock::unix_ms(),
            fingerprint: session::presented(headers).map(Fingerprint::from),
        }
    }

    /// Answers a page whose WebSocket was refused: browsers hide that answer, but not this one. 204 if a WebSocket would be
    /// accepted now.
    fn refusal<B: Body>(self: &Arc<Self>, request: &Request<B>, page: &Page) -> Answering {
        let answer = |this: &Self, refused: Option<Box<Response<Answer>>>, page: &Page| {
            let mut response = refused.map_or_else(|| empty(StatusCode::NO_CONTENT), |refused| *refused);
            response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
            this.allow_origin(&mut response, page);
            response
        };
        if !self.front.settings.websocket.enabled {
            return Answering::Now(Some(answer(self, Some(Box::new(not_served())), page)));
        }
        match self.front.node.admit(&self.facts(ConnectionType::WebSocket, request.headers())) {
            Op::Ready(admission) => Answering::Now(Some(answer(self, self.admitted(admission).err(), page))),
            Op::Wait(asking) => {
                let (this, page) = (Arc::clone(self), page.clone());
                let answered = async move { answer(&this, this.admitted(asking.await).err(), &page) };
                Answering::Later(Box::pin(answered), false)
            }
        }
    }

    /// Looks at all that can be decided by the request alone.
    fn agree<B: Body>(&self, door: Door, request: &Request<B>) -> Result<UpgradeAccepted, Box<Response<Answer>>> {
        let settings = &self.front.settings;
        let WebSocketDoor { enabled, compression } = match door {
            Door::ActionHero => settings.websocket,
            Door::Ddp => settings.ddp,
            Door::Gateway => settings.gateway,
        };
        let version = if request.version() == Version::HTTP_11 { (1, 1) } else { (1, 0) };
        let headers = request.headers().iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
        let Accepted { accept, deflate, protocol } =
            handshake::accept(request.method().as_str(), version, headers, compression)
                .map_err(|error| Box::new(not_upgraded(error)))?;
        if !request.body().is_end_stream() {
            // Nobody could tell where the frames begin.
            return Err(Box::new(text(StatusCode::BAD_REQUEST, "a request for a WebSocket has no body\n")));
        }
        if !enabled {
            return Err(Box::new(not_served()));
        }
        if self.stopping.has_begun() {
            return Err(Box::new(stopping()));
        }
        Ok(UpgradeAccepted { accept, deflate, protocol })
    }

    /// Gives the admission, or the answer to a client that is refused.
    fn admitted(&self, admission: Result<Admission, CallError>) -> Result<Admission, Box<Response<Answer>>> {
        match admission {
            Ok(_) if self.stopping.has_begun() => Err(Box::new(stopping())),
            Ok(admission) => Ok(admission),
            Err(CallError::Refused(reason)) => Err(Box::new(respond(StatusCode::FORBIDDEN, TEXT, reason))),
            Err(_) => Err(Box::new(text(StatusCode::SERVICE_UNAVAILABLE, "unavailable\n"))),
        }
    }

    /// The 101, or why there is none.
    fn decided(
        &self,
        kind: PeerKind,
        facts: ConnFacts,
        agreed: &UpgradeAccepted,
        admission: Result<Admission, CallError>,
    ) -> Response<Answer> {
        let admission = match self.admitted(admission) {
            Ok(admission) => admission,
            Err(refused) => return last(*refused),
        };
        self.set_upgrade(Upgrade { kind, id: facts.id, fingerprint: facts.fingerprint, admission });
        let mut response = empty(StatusCode::SWITCHING_PROTOCOLS);
        let headers = response.headers_mut();
        headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        insert(headers, header::SEC_WEBSOCKET_ACCEPT, agreed.accept.clone());
        if let Some(protocol) = &agreed.protocol {
            insert(headers, header::SEC_WEBSOCKET_PROTOCOL, protocol.clone());
        }
        if let Some(deflate) = agreed.deflate {
            headers.insert(header::SEC_WEBSOCKET_EXTENSIONS, HeaderValue::from_static(deflate.header()));
        }
        response
    }
}

/// Whether a page asks why it was refused: `/primus?refusal=1`.
fn asks_for_refusal(query: Option<&str>) -> bool {
    query.is_some_and(|query| query.split('&').any(|param| param == "refusal=1"))
}

fn not_served() -> Response<Answer> {
    text(StatusCode::NOT_FOUND, "no WebSocket here\n")
}

fn stopping() -> Response<Answer> {
    let mut response = text(StatusCode::SERVICE_UNAVAILABLE, "the server is shutting down\n");
    response.headers_mut().insert(header::RETRY_AFTER, u16::from(retry_seconds()).into());
    response
}

fn not_upgraded(error: HandshakeError) -> Response<Answer> {
    let status = StatusCode::from_u16(error.status()).unwrap_or(StatusCode::BAD_REQUEST);
    // As ActionHero says it.
    let words = if error == HandshakeError::NoUpgrade { "Upgrade Required".to_owned() } else { format!("{error}\n") };
    let mut response = respond(status, TEXT, Bytes::from(words));
    for (name, value) in error.headers() {
        if let Ok(name) = HeaderName::try_from(*name) {
            response.headers_mut().insert(name, HeaderValue::from_static(value));
        }
    }
    response
}
