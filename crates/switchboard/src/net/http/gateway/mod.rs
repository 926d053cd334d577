//! What applications of the gateway ask over HTTP: where it is, how their shards are, and that an event be published; and what
//! their platform asks them.

mod publication;
mod refusal;

use std::sync::Arc;

use hyper::body::{Body, Incoming};
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Method, Request, Response, StatusCode};
use switchboard_proto::face::Remote;
use switchboard_proto::gateway::Opening;
use switchboard_proto::json::{JsonLimits, write_number, write_text};
use switchboard_proto::shard::AppCredentials;

use crate::http_connection::{body, last};
use crate::node::gateway::SignedBody;
use crate::node::gateway::applications::Application;
use crate::node::gateway::events::ShardInfo;
use crate::users;

use super::answer::{Answer, JSON, respond, single, text};
use super::visit::{Page, Visit};
use refusal::Refusal;

/// What the front takes from the configuration for the gateway.
#[derive(Clone, Copy, Debug)]
pub(crate) struct GatewaySite {
    /// Whether it is there at all.
    pub(crate) enabled: bool,
    /// Limits of JSON in events and interactions.
    pub(crate) json: JsonLimits,
    /// `servers.gateway.start_total`.
    pub(crate) start_total: u32,
    /// `servers.gateway.start_concurrency`.
    pub(crate) start_concurrency: u32,
}

/// A path of the gateway that is no way to a WebSocket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Companion {
    /// How many shards to run.
    Bot,
    /// How they are.
    Shards,
    /// Events for them.
    Events,
    /// What the platform asks.
    Interaction,
}

impl Companion {
    /// The one that a path leads to, if it leads to one.
    pub(super) fn of(path: &str) -> Option<Self> {
        match path {
            "/gateway/bot" => Some(Self::Bot),
            "/gateway/shards" => Some(Self::Shards),
            "/gateway/events" => Some(Self::Events),
            "/interaction" => Some(Self::Interaction),
            _ => None,
        }
    }

    const fn methods(self) -> &'static str {
        match self {
            Self::Bot | Self::Shards => "GET, HEAD, OPTIONS",
            Self::Events | Self::Interaction => "POST, OPTIONS",
        }
    }

    /// The request headers that it reads, for pages of other hosts.
    const fn headers(self) -> &'static str {
        match self {
            Self::Bot | Self::Shards | Self::Events => {
                "Authorization, Content-Type, Identification, Identification-Id, Public-Key, Secret"
            }
            Self::Interaction => "Content-Type, X-Signature-Ed25519, X-Signature-Timestamp",
        }
    }
}

const SIGNATURE: HeaderName = HeaderName::from_static("x-signature-ed25519");
const TIMESTAMP: HeaderName = HeaderName::from_static("x-signature-timestamp");

/// Who asks.
enum Asker<'a> {
    /// An application, which has proven that it is.
    Application(&'a Application),
    /// An application's platform, which will prove it by what it has signed.
    Platform { signature: &'a str, timestamp: &'a str },
}

impl<'a> Asker<'a> {
    fn platform(headers: &'a HeaderMap) -> Result<Self, Refusal> {
        let text = |name| match single(headers, name) {
            Ok(Some(value)) => std::str::from_utf8(value).map_err(|_| Refusal::Unauthenticated),
            _ => Err(Refusal::Unauthenticated),
        };
        Ok(Self::Platform { signature: text(&SIGNATURE)?, timestamp: text(&TIMESTAMP)? })
    }
}

type Made = Result<(StatusCode, Vec<u8>), Refusal>;

impl Visit {
    /// Says where the gateway is, which is where this was asked.
    pub(super) fn gateway_address<B>(&self, request: &Request<B>) -> Response<Answer> {
        let Some(mut body) = self.url_member(request.headers()) else {
            return text(StatusCode::BAD_REQUEST, "Host is missing\n");
        };
        body.push(b'}');
        respond(StatusCode::OK, JSON, body)
    }

    /// Answers a request for a companion of the gateway.
    pub(super) async fn companion(
        self: Arc<Self>,
        companion: Companion,
        request: Request<Incoming>,
        page: Page,
    ) -> Response<Answer> {
        let is_right_method = match (companion, request.method()) {
            (_, &Method::OPTIONS) => return self.options(companion.methods(), companion.headers(), &page),
            (Companion::Bot | Companion::Shards, &Method::GET | &Method::HEAD) => true,
            (Companion::Events | Companion::Interaction, &Method::POST) => true,
            _ => false,
        };
        if !is_right_method {
            return self.not_allowed(companion.methods());
        }
        let (head, body) = request.into_parts();
        let has_body = !body.is_end_stream();
        let mut response = match self.take(companion, &head, body).await {
            Ok((asker, body)) => match self.make(companion, &head, asker, &body).await {
                Ok((status, body)) => respond(status, JSON, body),
                Err(refusal) => refusal.response(companion),
            },
            Err(Refusal::Unauthenticated) if companion != Companion::Interaction && has_credentials(&head.headers) => {
                let response = self.refuse_credentials().await.response(companion);
                if has_body { last(response) } else { response }
            }
            // The rest of the body may never come.
            Err(refusal) if has_body => last(refusal.response(companion)),
            Err(refusal) => refusal.response(companion),
        };
        let headers = response.headers_mut();
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        self.allow_origin(&mut response, &page);
        response
    }

    /// The refusal of wrong credentials: later and later for an address that has sent many.
    async fn refuse_credentials(&self) -> Refusal {
        match self.front.node.note_wrong_credentials(self.remote).await {
            Some(users::Refusal::TooManyAtOnce { retry_ms }) => Refusal::RateLimited(retry_ms),
            _ => Refusal::Unauthenticated,
        }
    }

    /// Who asks, and the body, which is not read of those who may not ask.
    async fn take<'a>(
        &'a self,
        companion: Companion,
        head: &'a Parts,
        body: Incoming,
    ) -> Result<(Asker<'a>, Vec<u8>), Refusal> {
        let settings = &self.front.settings;
        let asker = match companion {
            _ if !settings.gateway_site.enabled => return Err(Refusal::NotFound),
            Companion::Interaction => Asker::platform(&head.headers)?,
            _ => Asker::Application(self.applicant(&head.headers)?),
        };
        if let (Companion::Events, Asker::Application(application)) = (companion, &asker)
            && !may_publish(application, self.remote, is_forwarded(&head.headers))
        {
            return Err(Refusal::NotAuthorized);
        }
        let body = body::read(body, settings.max_body_bytes).await?;
        Ok((asker, body))
    }

    /// What is answered to whoever may ask.
    async fn make(&self, companion: Companion, head: &Parts, asker: Asker<'_>, body: &[u8]) -> Made {
        match (companion, asker) {
            (Companion::Bot, Asker::Application(application)) => self.bot(application, &head.headers).await,
            (Companion::Shards, Asker::Application(application)) => self.shards(application, head.uri.query()).await,
            _ if self.stopping.has_begun() => Err(Refusal::Unavailable),
            (_, Asker::Application(application)) => self.publish(application, body).await,
            (_, Asker::Platform { signature, timestamp }) => {
                let request = SignedBody { signature, timestamp, body };
                let answer = self.front.node.interact(request, self.front.settings.gateway_site.json).await?;
                Ok((StatusCode::OK, answer.as_str().as_bytes().to_vec()))
            }
        }
    }

    /// The application that asks: it is named by its id, and every credential that is there is right.
    fn applicant(&self, headers: &HeaderMap) -> Result<&Application, Refusal> {
        let Opening { credentials, is_contradictory, .. } = opening(headers);
        let is_named = credentials.id.is_some() && !is_contradictory;
        let id = is_named.then(|| self.front.node.application_of(&credentials)).flatten();
        id.and_then(|id| self.front.node.application(id)).ok_or(Refusal::Unauthenticated)
    }

    /// The beginning of an object: where the gateway is, by the name under which this was asked.
    fn url_member(&self, headers: &HeaderMap) -> Option<Vec<u8>> {
        let host = headers.get(header::HOST)?.to_str().ok().filter(|host| !host.is_empty())?;
        let scheme = if self.secure { "wss" } else { "ws" };
        let mut out = br#"{"url":"#.to_vec();
        write_text(&mut out, &format!("{scheme}://{host}/gateway"));
        Some(out)
    }

    async fn bot(&self, application: &Application, headers: &HeaderMap) -> Made {
        let node = &self.front.node;
        let shards = node.shard_count(application.id()).await.map_err(|_| Refusal::Unavailable)?;
        let left = node.shard_starts(application.id()).await.map_err(|_| Refusal::Unavailable)?;
        let site = &self.front.settings.gateway_site;
        let mut body = self.url_member(headers).ok_or(Refusal::Invalid("Host is missing".into()))?;
        let limit = format!(
            r#","shards":{shards},"session_start_limit":{{"total":{},"remaining":{},"reset_after":{},"max_concurrency":{}}}}}"#,
            site.start_total, left.remaining, left.reset_after_ms, site.start_concurrency,
        );
        body.extend_from_slice(limit.as_bytes());
        Ok((StatusCode::OK, body))
    }

    async fn shards(&self, application: &Application, query: Option<&str>) -> Made {
        let development = match query {
            None | Some("" | "development=false") => false,
            Some("development=true") => true,
            Some(_) => {
                return Err(Refusal::Invalid("the query may be development=true or development=false".into()));
            }
        };
        let shards = self.front.node.shards_of(application.id(), development).await;
        let mut body = br#"{"shards":["#.to_vec();
        for (index, shard) in shards.map_err(|_| Refusal::Unavailable)?.iter().enumerate() {
            if index > 0 {
                body.push(b',');
            }
            write_shard(&mut body, shard);
        }
        body.extend_from_slice(b"]}");
        Ok((StatusCode::OK, body))
    }

    async fn publish(&self, application: &Application, body: &[u8]) -> Made {
        let event = publication::read(body, self.front.settings.gateway_site.json).map_err(Refusal::Invalid)?;
        let published = self.front.node.publish_event(application.id(), event).await?;
        Ok((StatusCode::ACCEPTED, publication::accepted(&published)))
    }
}

fn opening(headers: &HeaderMap) -> Opening {
    Opening::read(None, headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())), false)
}

/// Whether a request has any credentials. One without guesses nothing.
fn has_credentials(headers: &HeaderMap) -> bool {
    let AppCredentials { id, public_key, secret, .. } = opening(headers).credentials;
    id.is_some() || public_key.is_some() || secret.is_some()
}

/// Whether a proxy has passed a request on.
fn is_forwarded(headers: &HeaderMap) -> bool {
    opening(headers).credentials.is_forwarded
}

/// Whether a client there may publish for an application: with a secret, or on this machine without a proxy in between.
fn may_publish(application: &Application, remote: Remote, is_forwarded: bool) -> bool {
    let is_local = match remote {
        Remote::Ip(address, _) => address.is_loopback(),
        Remote::Unix => true,
        Remote::Nowhere => false,
    };
    is_local && !is_forwarded || application.secret.is_some()
}

/// A shard as its application sees it: the members that its fleet is told, and what is measured.
fn write_shard(out: &mut Vec<u8>, shard: &ShardInfo) {
    let record = &shard.record;
    let counts = record.counts;
    let head = format!(
        r#"{{"shard_id":{},"shard_hash":"{}","development":{},"disconnected":{},"receibe_ping":{},"received":{},"send_ping":{},"sending":{},"rtt_ms":"#,
        record.shard,
        record.id.text().as_str(),
        record.fleet.development,
        record.owner.is_none(),
        counts.pings,
        counts.received,
        counts.pongs,
        counts.sent,
    );
    out.extend_from_slice(head.as_bytes());
    match shard.round_trip_us {
        Some(microseconds) => out.extend_from_slice((microseconds as f64 / 1000.0).to_string().as_bytes()),
        None => out.extend_from_slice(b"null"),
    }
    let figures = [
        (r#","last_seq":"#, record.last),
        (r#","floor":"#, record.floor),
        (r#","buffered":"#, record.last.saturating_sub(record.floor)),
        (r#","buffered_bytes":"#, record.log_bytes as u64),
    ];
    for (name, figure) in figures {
        out.extend_from_slice(name.as_bytes());
        write_number(out, figure);
    }
    out.extend_from_slice(br#","node":"#);
    match &record.owner {
        Some(owner) => write_text(out, &owner.node),
        None => out.extend_from_slice(b"null"),
    }
    out.push(b'}');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::User;
    use crate::node::gateway::applications::SecretDigest;

    #[test]
    fn without_a_secret_only_this_machine_publishes() {
        let mut application = Application {
            user: User::new("1").unwrap(),
            public_key: "key".to_owned(),
            secret: None,
            shards: 0,
            allow_development: true,
            tags: Vec::new(),
            state: Vec::new(),
        };
        let remote = |text: &str| Remote::from(text.parse::<std::net::SocketAddr>().unwrap());
        let others = ["192.0.2.1:1", "[2001:db8::1]:1", "[::ffff:192.0.2.1]:1", "0.0.0.0:1"].map(remote);
        let here = ["127.0.0.1:1", "127.9.9.9:1", "[::1]:1", "[::ffff:127.0.0.1]:1"].map(remote);
        for remote in here {
            assert!(may_publish(&application, remote, false), "{remote}");
            assert!(!may_publish(&application, remote, true), "{remote}");
        }
        for remote in others {
            assert!(!may_publish(&application, remote, false), "{remote}");
        }
        application.secret = Some(SecretDigest::of("secret"));
        assert!(others.into_iter().all(|remote| may_publish(&application, remote, true)));
    }
}
