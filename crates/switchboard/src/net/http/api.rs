//! Actions over HTTP.

use std::sync::Arc;
use std::time::Instant;

use hyper::body::{Body, Incoming};
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use serde_json::Value;
use switchboard_proto::actionhero::{WebAnswers, WebRefusal};
use switchboard_proto::call::{ActionCall, CallError, ConnectionType, Outcome};
use switchboard_proto::face::ConnFacts;
use switchboard_proto::json;
use switchboard_proto::params::Params;

use crate::clock;

use super::answer::{Answer, JSON, POWERED_BY, last, respond, text};
use super::body::{self, BodyError};
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
        let collected = match collect(settings, request, &mut params).await {
            _ if self.stopping.has_begun() => Err(WebRefusal::Stopping),
            Ok(()) => Ok(()),
            Err(Refused::Told(refusal)) => Err(refusal),
            Err(Refused::Unsound) => {
                return last(text(StatusCode::BAD_REQUEST, "the body is not well-formed\n"));
            }
        };
        let params = Arc::new(params);
        let outcome = match collected {
            Ok(()) => self.run(&facts, WebAnswers::call(settings.compat, Arc::clone(&params))).await,
            Err(refusal) => Err(refusal),
        };

        let answers = WebAnswers {
            compat: settings.compat,
            server_name: Front::NAME,
            version: env!("CARGO_PKG_VERSION"),
            conn: &facts,
            params: &params,
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
    async fn run(&self, facts: &ConnFacts, call: ActionCall) -> Result<Outcome, WebRefusal> {
        let node = &self.front.node;
        let admission = match node.let_in(facts).await {
            Ok(admission) => admission,
            Err(CallError::Refused(reason)) => return Err(WebRefusal::NotLetIn(reason)),
            Err(_) => return Err(WebRefusal::Unavailable),
        };
        let opened = node.open_request(facts.clone(), admission);
        let running = opened.run(call);
        match self.front.settings.request_timeout {
            time if time.is_zero() => Ok(running.await),
            time => tokio::time::timeout(time, running.into_future()).await.map_err(|_| WebRefusal::TimedOut),
        }
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
        Err(WebRefusal::Stopping) => drop(headers.insert(header::RETRY_AFTER, u16::from(retry_seconds()).into())),
        // The rest of the body may never come.
        Err(WebRefusal::TooLarge | WebRefusal::TooSlow | WebRefusal::MediaType) => return last(response),
        _ => {}
    }
    response
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

/// Takes the params from the query, then the body, then the path; later ones win.
async fn collect(settings: &FrontSettings, request: Request<Incoming>, params: &mut Params) -> Result<(), Refused> {
    if let Some(query) = request.uri().query() {
        add_pairs(params, query, settings.params)?;
    }
    let (head, body) = request.into_parts();
    if !body.is_end_stream() {
        add_body(settings, &head.headers, body, params).await?;
    }
    let name = head.uri.path().strip_prefix("/api/").map(|name| name.strip_suffix('/').unwrap_or(name));
    if let Some(name) = name.filter(|name| !name.is_empty()) {
        let name = decode(name, false).ok_or(WebRefusal::BadParams)?;
        params.set("action", Value::String(name), settings.params).map_err(|_| WebRefusal::TooManyParams)?;
    }
    Ok(())
}

impl From<BodyError> for Refused {
    fn from(error: BodyError) -> Self {
        match error {
            BodyError::TooLarge => Self::Told(WebRefusal::TooLarge),
            BodyError::TooSlow => Self::Told(WebRefusal::TooSlow),
            BodyError::Unsound => Self::Unsound,
        }
    }
}

async fn add_body(
    settings: &FrontSettings,
    headers: &HeaderMap,
    body: Incoming,
    params: &mut Params,
) -> Result<(), Refused> {
    #[derive(PartialEq)]
    enum Kind {
        Form,
        Json,
    }
    let media_type = headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    let media_type = media_type.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
    let kind = if media_type.eq_ignore_ascii_case(b"application/json") {
        Kind::Json
    } else if media_type.eq_ignore_ascii_case(b"application/x-www-form-urlencoded") {
        Kind::Form
    } else {
        return Err(WebRefusal::MediaType.into());
    };
    let bytes = body::read(body, settings.max_body_bytes).await?;
    let body = std::str::from_utf8(&bytes);
    if kind == Kind::Form {
        return Ok(add_pairs(params, body.map_err(|_| WebRefusal::BadParams)?, settings.params)?);
    }
    let bad_json = |words: &str| WebRefusal::BadJson(format!("the body is refused: {words}"));
    let body = body.map_err(|_| bad_json("not UTF-8"))?;
    let value = json::parse(body, settings.json).map_err(|error| bad_json(&error.to_string()))?;
    let Value::Object(members) = value else { return Err(bad_json("not a JSON object").into()) };
    for (name, value) in members {
        params.set(&name, value, settings.params).map_err(|_| WebRefusal::TooManyParams)?;
    }
    Ok(())
}
