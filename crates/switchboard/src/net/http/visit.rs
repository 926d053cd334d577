//! One connection's requests, and where each of them leads.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::http::uri::Authority;
use hyper::{Method, Request, Response, StatusCode, Version};
use switchboard_proto::face::Remote;
use switchboard_proto::origin::{self, Verdict};

use crate::http_connection::{is_last, last};
use crate::net::accept::Stopping;
use crate::op::BoxFuture;

use super::Front;
use super::answer::{Answer, Answered, TEXT, empty, respond, single, text};
use super::gateway::Companion;
use super::upgrade::{Door, Upgrade};

/// A connection that speaks HTTP.
#[derive(Debug)]
pub(super) struct Visit {
    pub(super) front: Arc<Front>,
    pub(super) remote: Remote,
    /// Whether it is inside TLS.
    pub(super) secure: bool,
    pub(super) stopping: Stopping,
    /// What it becomes behind the 101.
    upgrade: OnceLock<Upgrade>,
}

/// The page that asks: its `Origin`, if that is a listed one.
#[derive(Clone, Debug)]
pub(super) struct Page(Option<HeaderValue>);

/// What a request is refused with, whatever it asks for.
struct Refused(StatusCode, Bytes);

impl Refused {
    fn response(self) -> Response<Answer> {
        respond(self.0, TEXT, self.1)
    }
}

/// Where a request leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Route {
    Api,
    File,
    WebSocket(Door),
    Companion(Companion),
}

impl Route {
    fn of(path: &str) -> Self {
        match path.strip_prefix("/api") {
            Some(rest) if rest.is_empty() || rest.starts_with('/') => Self::Api,
            _ => {
                let door = Door::of(path).map(Self::WebSocket);
                door.or_else(|| Companion::of(path).map(Self::Companion)).unwrap_or(Self::File)
            }
        }
    }
}

impl Visit {
    pub(super) fn new(front: Arc<Front>, remote: Remote, secure: bool, stopping: Stopping) -> Self {
        Self { front, remote, secure, stopping, upgrade: OnceLock::new() }
    }

    /// What the connection becomes, if its last request was for that.
    pub(super) fn into_upgrade(self) -> Option<Upgrade> {
        self.upgrade.into_inner()
    }

    /// To be called once: behind this the connection speaks no HTTP.
    pub(super) fn set_upgrade(&self, upgrade: Upgrade) {
        debug_assert!(self.upgrade.get().is_none());
        let _ = self.upgrade.set(upgrade);
    }

    /// Answers a request for a WebSocket that has come whole, in front of all that speaks HTTP; `None` when it is for anything
    /// else.
    pub(super) fn answer_early(self: &Arc<Self>, request: &Request<Empty<Bytes>>) -> Option<Answering> {
        let Route::WebSocket(door) = Route::of(request.uri().path()) else { return None };
        if request.method() != Method::GET {
            return None;
        }
        Some(match self.judge(request) {
            Ok(page) => self.websocket(door, request, &page),
            Err(refused) => Answering::Now(Some(refused.response())),
        })
    }

    fn answer(self: &Arc<Self>, request: Request<Incoming>) -> Answering {
        let page = match self.judge(&request) {
            Ok(page) => page,
            Err(refused) => return Answering::Now(Some(last(refused.response()))),
        };
        let is_last = is_last(&request);
        let answering = match Route::of(request.uri().path()) {
            Route::WebSocket(door) => self.websocket(door, &request, &page),
            Route::Api => Answering::Later(Box::pin(Arc::clone(self).api(request, page)), is_last),
            Route::Companion(companion) => {
                Answering::Later(Box::pin(Arc::clone(self).companion(companion, request, page)), is_last)
            }
            Route::File => Answering::Later(Box::pin(Arc::clone(self).file(request, page)), is_last),
        };
        match answering {
            Answering::Now(Some(response)) if is_last => Answering::Now(Some(last_http(response))),
            answering => answering,
        }
    }

    /// What every request has to stand, whatever it asks for: it names one host, and at most one page that it comes from.
    fn judge<B>(&self, request: &Request<B>) -> Result<Page, Refused> {
        let headers = request.headers();
        let hosts = headers.get_all(header::HOST).iter().map(HeaderValue::as_bytes);
        let target = request.uri().authority().map(Authority::as_str);
        let host = origin::requested_host(hosts, target, request.version() != Version::HTTP_11)
            .map_err(|error| Refused(StatusCode::BAD_REQUEST, format!("{error}\n").into()))?;
        const FOREIGN: &str = "this page may not ask here: servers.web.allowed_origins does not list its origin\n";
        let foreign = || Refused(StatusCode::FORBIDDEN, FOREIGN.into());
        let origin = single(headers, &header::ORIGIN).map_err(|()| foreign())?;
        let referrer = headers.get(header::REFERER).map(|referrer| origin::of_url(referrer.as_bytes()));
        let verdict = match origin {
            // Browsers send no `Origin` with a link or an image. They name the page, and inside TLS say that it is another one.
            None if referrer.is_some() || is_of_other_page(headers) => {
                self.front.settings.allowed_origins.judge(Some(referrer.unwrap_or(b"null")), host, self.secure)
            }
            origin => self.front.settings.allowed_origins.judge(origin, host, self.secure),
        };
        // Whoever may read files may read them for any page, which cannot look inside.
        let is_reading = matches!(*request.method(), Method::GET | Method::HEAD);
        let changes_nothing = is_reading && Route::of(request.uri().path()) == Route::File;
        if !verdict.is_allowed() && !changes_nothing {
            self.front.log_refused_origin(origin.or(referrer).unwrap_or_default(), self.remote);
            return Err(foreign());
        }
        Ok(Page(headers.get(header::ORIGIN).filter(|_| verdict == Verdict::Listed).cloned()))
    }

    /// The headers that pages of listed origins need to read a response. Whoever stores it must know that they depend on the
    /// page.
    pub(super) fn allow_origin(&self, response: &mut Response<Answer>, page: &Page) {
        if self.front.settings.allowed_origins.is_empty() {
            return;
        }
        let headers = response.headers_mut();
        headers.append(header::VARY, HeaderValue::from_static("Origin"));
        if let Some(origin) = &page.0 {
            headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        }
    }

    /// The answer to OPTIONS: the methods of a route. Pages of listed origins may use them, and the request headers that
    /// the route reads.
    pub(super) fn options(&self, methods: &'static str, read: &'static str, page: &Page) -> Response<Answer> {
        let mut response = empty(StatusCode::NO_CONTENT);
        let headers = response.headers_mut();
        headers.insert(header::ALLOW, HeaderValue::from_static(methods));
        if page.0.is_some() {
            headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static(methods));
            headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static(read));
            headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
        }
        self.allow_origin(&mut response, page);
        response
    }

    /// A method that means nothing here.
    pub(super) fn not_allowed(&self, methods: &'static str) -> Response<Answer> {
        let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "this method is not allowed here\n");
        response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(methods));
        response
    }
}

/// hyper's way to a [`Visit`].
pub(super) struct Service(pub(super) Arc<Visit>);

impl hyper::service::Service<Request<Incoming>> for Service {
    type Response = Response<Answer>;
    type Error = std::convert::Infallible;
    type Future = Answering;

    fn call(&self, request: Request<Incoming>) -> Answering {
        self.0.answer(request)
    }
}

/// The connection ends behind this response, or is another one from there on.
fn last_http(response: Response<Answer>) -> Response<Answer> {
    if response.status() == StatusCode::SWITCHING_PROTOCOLS { response } else { last(response) }
}

/// A response, at once or later. Small, because hyper keeps room for one in every connection.
pub(super) enum Answering {
    Now(Option<Response<Answer>>),
    /// Whether the connection ends behind it.
    Later(BoxFuture<'static, Response<Answer>>, bool),
}

impl Future for Answering {
    type Output = Answered;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Answered> {
        match self.get_mut() {
            // Taken once: hyper does not poll what is ready again.
            Self::Now(response) => response.take().map_or(Poll::Pending, |response| Poll::Ready(Ok(response))),
            Self::Later(response, is_last) => {
                let is_last = *is_last;
                response.as_mut().poll(cx).map(|response| Ok(if is_last { last_http(response) } else { response }))
            }
        }
    }
}

/// Whether a browser says that a page of another origin asks.
fn is_of_other_page(headers: &HeaderMap) -> bool {
    let mut sites = headers.get_all("sec-fetch-site").iter();
    sites.any(|site| site == "cross-site" || site == "same-site")
}
