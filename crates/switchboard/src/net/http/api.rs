//! Actions over HTTP.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use hyper::body::{Body, Incoming};
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use serde_json::Value;
use switchboard_proto::actionhero::{WebAnswers, WebRefusal};
use switchboard_proto::call::{
    ActionCall, ActionError, Answer as WireAnswer, CallError, ConnectionType, HttpReply, Outcome,
};
use switchboard_proto::face::ConnFacts;
use switchboard_proto::json;
use switchboard_proto::params::Params;

use crate::action::HttpRequest;
use crate::action::http::response_header;
use crate::clock;
use crate::http_connection::body::{self, BodyError};
use crate::http_connection::last;

use super::answer::{Answer, JSON, POWERED_BY, respond, text};
use super::params::{add_pairs, decode};
use super::session::Session;
use super::visit::{Page, Visit};
use super::{Front, FrontSettings, retry_seconds};

const METHODS: &str = "GET, HEAD, POST, PUT, DELETE, OPTIONS";

impl Visit {
    /// Answers a request for an action.
    pub(super) async fn api(self: Arc<Self>, request: Request<Incoming>, page: Page) -> Response<Answer> {
        let begun = Instant::now();
        let settings = &self.front.settings;
        match *request.method() {
            Method::GET | Method::HEAD | Method::POST | Method::PUT | Method::DELETE => {}
            Method::OPTIONS => return self.options(METHODS, "Content-Type", &page),
            _ => return self.not_allowed(METHODS),
        }
        let session = Session::of(request.headers());
        let facts = ConnFacts {
            id: self.front.hand_over.loads.new_id(),
            kind: ConnectionType::Web,
            remote: self.remote,
            connected_at: clock::unix_ms(),
            fingerprint: Some((&*session.fingerprint).into()),
        };
        let mut params = Params::default();
        let collected = match self.collect(request, &mut params).await {
            _ if self.stopping.has_begun() => Err(WebRefusal::Stopping),
            Ok(http) => Ok(http),
            Err(Refused::Told(refusal)) => Err(refusal),
            Err(Refused::Unsound) => {
                return last(text(StatusCode::BAD_REQUEST, "the body is not well-formed\n"));
            }
        };
        let params = Arc::new(params);
        let is_reading = |http: &HttpRequest| matches!(http.method(), "GET" | "HEAD");
        let outcome = match collected {
            Ok(http) if is_reading(&http) && self.front.node.requires_post(&params) => Err(WebRefusal::NeedsPost),
            Ok(http) => self.run(&facts, WebAnswers::call(settings.compat, Arc::clone(&params)), http).await,
            Err(refusal) => Err(refusal),
        };

        let answers = WebAnswers {
            compat: settings.compat,
            server_name: Front::NAME,
            version: env!("CARGO_PKG_VERSION"),
            conn: &facts,
            params: &params,
            secret_params: self.front.node.secret_params(),
            duration_ms: u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX),
            now_ms: clock::unix_ms(),
        };
        let mut response = write(&answers, &outcome);
        let headers = response.headers_mut();
        session.keep(headers, self.secure);
        self.allow_origin(&mut response, &page);
        response
    }

    /// Runs an action, if whoever asks is let in. He is a connection meanwhile.
    async fn run(&self, facts: &ConnFacts, call: ActionCall, http: HttpRequest) -> Result<Outcome, WebRefusal> {
        let node = &self.front.node;
        let admission = match node.let_in(facts).await {
            Ok(admission) => admission,
            Err(CallError::Refused(reason)) => return Err(WebRefusal::NotLetIn(reason)),
            Err(_) => return Err(WebRefusal::Unavailable),
        };
        let opened = node.open_request(facts.clone(), admission);
        let running = opened.run(call, Arc::new(http));
        match self.front.settings.request_timeout {
            time if time.is_zero() => Ok(running.await),
            time => tokio::time::timeout(time, running.into_future()).await.map_err(|_| WebRefusal::TimedOut),
        }
    }

    /// Takes the params from the query, then the body, then the path; later ones win. Where the action in the path takes
    /// raw bodies, the body brings no params.
    async fn collect(&self, request: Request<Incoming>, params: &mut Params) -> Result<HttpRequest, Refused> {
        let settings = &self.front.settings;
        let (head, body) = request.into_parts();
        if let Some(query) = head.uri.query() {
            add_pairs(params, query, settings.params)?;
        }
        let name = head.uri.path().strip_prefix("/api/").map(|name| name.strip_suffix('/').unwrap_or(name));
        let action = match name.filter(|name| !name.is_empty()) {
            Some(name) => Some(decode(name, false).ok_or(WebRefusal::BadParams)?),
            None => None,
        };
        let name_action = |params: &mut Params| match &action {
            Some(name) => {
                params.set("action", Value::from(name.as_str()), settings.params).map_err(|_| WebRefusal::TooManyParams)
            }
            None => Ok(()),
        };
        name_action(params)?;
        let mut bytes = Bytes::new();
        if !body.is_end_stream() {
            let kind = match action.is_some() && self.front.node.takes_raw_body(params) {
                true => BodyKind::Raw,
                // Refused before the body is read.
                false => BodyKind::of(&head.headers).ok_or(WebRefusal::MediaType)?,
            };
            bytes = body::read(body, settings.max_body_bytes).await?.into();
            add_body(settings, kind, &bytes, params)?;
            name_action(params)?;
        }
        Ok(HttpRequest { method: head.method, uri: head.uri, headers: head.headers, body: bytes })
    }
}

/// The response that an outcome makes.
fn write(answers: &WebAnswers<'_>, outcome: &Result<Outcome, WebRefusal>) -> Response<Answer> {
    let mut body = Vec::with_capacity(512);
    let status = match outcome {
        Ok(outcome) => answers.outcome(&mut body, outcome),
        Err(refusal) => answers.refused(&mut body, refusal),
    };
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = respond(status, JSON, body);
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(POWERED_BY, HeaderValue::from_static(Front::NAME));
    match outcome {
        Err(WebRefusal::NeedsPost) => {
            headers.insert(header::ALLOW, HeaderValue::from_static("POST, PUT, DELETE, OPTIONS"));
        }
        Err(WebRefusal::Stopping) => drop(headers.insert(header::RETRY_AFTER, u16::from(retry_seconds()).into())),
        // The rest of the body may never come.
        Err(WebRefusal::TooLarge | WebRefusal::TooSlow | WebRefusal::MediaType) => return last(response),
        Ok(Ok(WireAnswer::Action(reply)) | Err(CallError::Action(ActionError::Failed { reply, .. }))) => {
            if let Some(http) = reply.http() {
                apply(http, &mut response);
            }
        }
        _ => {}
    }
    response
}

/// Changes a response as its action wants it.
fn apply(reply: &HttpReply, response: &mut Response<Answer>) {
    if let Some(status) = reply.status {
        let is_final = |status: &StatusCode| !status.is_informational();
        match StatusCode::from_u16(status).ok().filter(is_final).filter(|status| status.as_u16() < 600) {
            Some(status) => *response.status_mut() = status,
            None => {
                tracing::error!(status, "an action set a status that is not from 200 to 599; answered with 500");
                *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
            }
        }
    }
    let headers = response.headers_mut();
    if reply.body.is_some() {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    }
    let mut named = HashSet::new();
    for (name, value) in &reply.headers {
        match response_header(name, value) {
            // The first of a name replaces the server's own value.
            Some((name, value)) if named.insert(name.clone()) => drop(headers.insert(name, value)),
            Some((name, value)) => drop(headers.append(name, value)),
            None => {
                tracing::warn!(header = %name, "left out a header of an action: not well-formed, or set by the server")
            }
        }
    }
    if let Some(body) = &reply.body {
        *response.body_mut() = Answer::Bytes(body.clone());
    }
    if matches!(response.status(), StatusCode::NO_CONTENT | StatusCode::RESET_CONTENT | StatusCode::NOT_MODIFIED) {
        response.headers_mut().remove(header::CONTENT_TYPE);
        *response.body_mut() = Answer::Bytes(Bytes::new());
    }
}

/// Why there are no params.
enum Refused {
    /// For a reason that the answer tells.
    Told(WebRefusal),
    /// The body cannot be read to its end.
    Unsound,
}

impl From<WebRefusal> for Refused {
    fn from(refusal: WebRefusal) -> Self {
        Self::Told(refusal)
    }
}

impl From<BodyError> for Refused {
    fn from(error: BodyError) -> Self {
        match error {
            BodyError::TooLarge => Self::Told(WebRefusal::TooLarge),
            BodyError::TooSlow => Self::Told(WebRefusal::TooSlow),
            BodyError::Malformed => Self::Unsound,
        }
    }
}

/// How a body is read.
#[derive(Clone, Copy, PartialEq)]
enum BodyKind {
    Form,
    Json,
    /// By the action itself.
    Raw,
}

impl BodyKind {
    /// `None` for a media type that is neither JSON nor a form.
    fn of(headers: &HeaderMap) -> Option<Self> {
        let media_type = headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
        let media_type = media_type.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
        if media_type.eq_ignore_ascii_case(b"application/json") {
            Some(Self::Json)
        } else if media_type.eq_ignore_ascii_case(b"application/x-www-form-urlencoded") {
            Some(Self::Form)
        } else {
            None
        }
    }
}

fn add_body(settings: &FrontSettings, kind: BodyKind, bytes: &[u8], params: &mut Params) -> Result<(), WebRefusal> {
    let text = || std::str::from_utf8(bytes);
    let bad_json = |words: &str| WebRefusal::BadJson(format!("the body is refused: {words}"));
    match kind {
        BodyKind::Raw => Ok(()),
        BodyKind::Form => add_pairs(params, text().map_err(|_| WebRefusal::BadParams)?, settings.params),
        BodyKind::Json => {
            let body = text().map_err(|_| bad_json("not UTF-8"))?;
            let value = json::parse(body, settings.json).map_err(|error| bad_json(&error.to_string()))?;
            let Value::Object(members) = value else { return Err(bad_json("not a JSON object")) };
            members
                .into_iter()
                .try_for_each(|(name, value)| params.set(&name, value, settings.params))
                .map_err(|_| WebRefusal::TooManyParams)
        }
    }
}
