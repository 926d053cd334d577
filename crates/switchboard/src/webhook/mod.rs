//! Questions to a backend over HTTP: asked within limits, signed, answered or failed.
//!
//! `Webhooks` is the client for all of them. What is asked, and what an answer means for a room or an action, is decided
//! above (`node::gate`, `action::remote`); here is only how. Every request passes the same doors: the circuit breaker of its
//! URL, its turn among the requests to that URL, one timeout over all of it, and a limit for the answer. Redirects are not
//! followed, proxies of the environment are not used.

mod answer;
mod breaker;
mod connect;
mod document;
mod figures;
mod leaves;
mod rule;

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::Request;
use hyper::body::Bytes;
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use ring::hmac;
use thiserror::Error;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout_at;

pub(crate) use answer::Reading;
pub use connect::AuthoritiesError;
pub(crate) use document::Document;
pub(crate) use figures::Counters;
pub use figures::{Hook, HookFigures};
pub(crate) use leaves::LeaveReports;
pub(crate) use rule::{Refusal, Rule};

use crate::clock;
use crate::config::{Hooks, HttpUrl};
use breaker::{Breaker, Change, Pass};
use connect::Connector;

/// Asks backends.
pub(crate) struct Webhooks {
    http: Client<Connector, Full<Bytes>>,
    key: hmac::Key,
    settings: Settings,
    urls: Mutex<Vec<Arc<Endpoint>>>,
    counters: Counters,
    started: Instant,
}

#[derive(Clone, Copy, Debug)]
struct Settings {
    timeout: Duration,
    concurrency_max: usize,
    waiting_max: usize,
    max_answer_bytes: usize,
    breaker_failures: u32,
    breaker_pause: Duration,
}

/// Somewhere to ask. Hooks with the same URL share it: it fails for all of them, and its limits hold for them together.
pub(crate) struct Endpoint {
    url: HttpUrl,
    breaker: Mutex<Breaker>,
    turns: Semaphore,
    /// How many wait for their turn.
    waiting: AtomicUsize,
}

/// A hook and where it asks.
#[derive(Clone)]
pub(crate) struct Question {
    hook: Hook,
    endpoint: Arc<Endpoint>,
    timeout: Duration,
}

/// Why there is no answer. For operators; no client reads it.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(crate) enum Failure {
    /// An answer came that says neither yes nor no.
    #[error("{0}")]
    Answer(&'static str),
    /// More than `hooks.waiting_max` wait already.
    #[error("too many requests wait for their turn")]
    Busy,
    /// No connection could be made, or it broke.
    #[error("the backend cannot be reached: {0}")]
    Connection(String),
    /// The URL has failed too often and is left alone (`hooks.breaker_pause`).
    #[error("the backend has failed too often and is not asked for a while")]
    Paused,
    /// A status that means nothing here.
    #[error("the backend answered with status {0}")]
    Status(u16),
    /// `hooks.timeout` has passed.
    #[error("no answer came in time")]
    Timeout,
    /// The answer is longer than `hooks.max_answer_bytes` and six times the question.
    #[error("the answer is too long")]
    TooLong,
}

impl Failure {
    /// Whether this question may be the cause, and others may be answered: an answer came, and it was no decision. A client
    /// that chooses what is asked could otherwise keep all others from being asked, or from being checked.
    fn is_of_question(&self) -> bool {
        match self {
            Self::Answer(_) | Self::TooLong => true,
            // Request Timeout and Too Many Requests are about the state of the backend.
            Self::Status(status) => matches!(status, 400..=499) && !matches!(status, 408 | 429),
            Self::Busy | Self::Connection(_) | Self::Paused | Self::Timeout => false,
        }
    }
}

impl fmt::Debug for Webhooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Webhooks").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl fmt::Debug for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Question").field("hook", &self.hook).field("url", &self.endpoint.url).finish_non_exhaustive()
    }
}

impl Webhooks {
    /// How long a connection is kept for the next request. Shorter than any usual server keeps it, or a request could meet
    /// a connection that is just being closed.
    const KEEP_IDLE: Duration = Duration::from_secs(1);
    /// Longest answer beyond `hooks.max_answer_bytes`, however long the question is.
    const MAX_ESCAPED_BYTES: usize = 16 << 20;
    /// Bytes that headers of an answer may have.
    const MAX_HEAD_BYTES: usize = 64 * 1024;

    /// A client with these settings. With `secure`, authorities are read: some URL is `https`.
    ///
    /// # Errors
    ///
    /// See [`AuthoritiesError`].
    pub(crate) fn new(hooks: &Hooks, secure: bool) -> Result<Self, AuthoritiesError> {
        let tls = if secure { Some(connect::trusting(hooks.ca.as_deref())?) } else { None };
        let http = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(Self::KEEP_IDLE)
            .pool_max_idle_per_host(hooks.concurrency_max)
            .http1_max_buf_size(Self::MAX_HEAD_BYTES)
            .build(Connector::new(&hooks.allow, tls, hooks.timeout));
        Ok(Self {
            http,
            key: hmac::Key::new(hmac::HMAC_SHA256, hooks.secret.reveal().as_bytes()),
            settings: Settings {
                timeout: hooks.timeout,
                concurrency_max: hooks.concurrency_max,
                waiting_max: hooks.waiting_max,
                max_answer_bytes: hooks.max_answer_bytes,
                breaker_failures: hooks.breaker_failures,
                breaker_pause: hooks.breaker_pause,
            },
            urls: Mutex::default(),
            counters: Counters::default(),
            started: Instant::now(),
        })
    }

    /// What `hook` asks at `url`; a timeout of zero is that of all hooks. To be made at start: what is made is kept.
    pub(crate) fn question(&self, hook: Hook, url: &HttpUrl, timeout: Duration) -> Question {
        let mut urls = lock(&self.urls);
        let endpoint = match urls.iter().find(|endpoint| endpoint.url == *url) {
            Some(endpoint) => Arc::clone(endpoint),
            None => {
                let pause_ms = u64::try_from(self.settings.breaker_pause.as_millis()).unwrap_or(u64::MAX);
                let endpoint = Arc::new(Endpoint {
                    url: url.clone(),
                    breaker: Mutex::new(Breaker::new(self.settings.breaker_failures, pause_ms)),
                    turns: Semaphore::new(self.settings.concurrency_max),
                    waiting: AtomicUsize::new(0),
                });
                urls.push(Arc::clone(&endpoint));
                endpoint
            }
        };
        let timeout = if timeout.is_zero() { self.settings.timeout } else { timeout };
        Question { hook, endpoint, timeout }
    }

    /// Whether the URL has failed too often and is left alone now.
    pub(crate) fn is_paused(&self, question: &Question) -> bool {
        lock(&question.endpoint.breaker).is_open(self.now_ms())
    }

    pub(crate) fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Asks, and waits for the answer, which `read` makes something of. At least one poll is pending before anything is
    /// sent, so that whoever polls once in place does none of it there.
    ///
    /// # Errors
    ///
    /// See [`Failure`]; what `read` refuses is one too. It is counted and logged.
    pub(crate) async fn ask<T>(
        &self,
        question: &Question,
        body: Vec<u8>,
        read: impl FnOnce(Reading) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let result = if self.is_paused(question) {
            Err(Failure::Paused)
        } else {
            tokio::task::yield_now().await;
            self.ask_in_turn(question, body, read).await
        };
        self.counters.count(question.hook, result.as_ref().err());
        result
    }

    async fn ask_in_turn<T>(
        &self,
        question: &Question,
        body: Vec<u8>,
        read: impl FnOnce(Reading) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let deadline = tokio::time::Instant::now() + question.timeout;
        let endpoint = &*question.endpoint;
        let turn =
            timeout_at(deadline, endpoint.turn(self.settings.waiting_max)).await.unwrap_or(Err(Failure::Timeout))?;
        // What those before brought may have opened it meanwhile.
        let pass = lock(&endpoint.breaker).enter(self.now_ms()).ok_or(Failure::Paused)?;
        let watch = Watch { webhooks: self, endpoint, hook: question.hook, pass: Some(pass) };
        let reading = timeout_at(deadline, self.exchange(question, body)).await.unwrap_or(Err(Failure::Timeout));
        let result = reading.and_then(read);
        watch.finish(result.as_ref().err());
        drop(turn);
        result
    }

    async fn exchange(&self, question: &Question, body: Vec<u8>) -> Result<Reading, Failure> {
        // A backend may answer with what it was asked, and escape every character in six bytes.
        let escaped_bytes = body.len().saturating_mul(6).min(Self::MAX_ESCAPED_BYTES);
        let max_answer_bytes = self.settings.max_answer_bytes.max(escaped_bytes);
        let request = Request::post(question.endpoint.url.uri())
            .header("content-type", "application/json")
            .header("user-agent", concat!("switchboard/", env!("CARGO_PKG_VERSION")))
            .header("switchboard-hook", question.hook.as_str())
            .header("switchboard-delivery", uuid::Uuid::new_v4().to_string())
            .header("switchboard-signature", document::signature(&self.key, clock::unix_ms() / 1000, &body))
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| Failure::Connection(error.to_string()))?;
        let response = self.http.request(request).await.map_err(|error| Failure::Connection(causes(&error)))?;
        let status = response.status().as_u16();
        let body = Limited::new(response.into_body(), max_answer_bytes).collect().await;
        let body = body.map_err(|error| match error.downcast::<LengthLimitError>() {
            Ok(_) => Failure::TooLong,
            Err(error) => Failure::Connection(causes(&*error)),
        })?;
        answer::members(status, &body.to_bytes())
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

impl Endpoint {
    /// Waits for a turn, unless too many do already.
    async fn turn(&self, waiting_max: usize) -> Result<SemaphorePermit<'_>, Failure> {
        if let Ok(turn) = self.turns.try_acquire() {
            return Ok(turn);
        }
        let waiting = Waiting::enter(&self.waiting, waiting_max).ok_or(Failure::Busy)?;
        let turn = self.turns.acquire().await;
        drop(waiting);
        // It is never closed.
        turn.map_err(|_| Failure::Busy)
    }
}

/// One that waits, as long as it does.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn enter(waiting: &'a AtomicUsize, max: usize) -> Option<Self> {
        let one_more = |waiting| (waiting < max).then_some(waiting + 1);
        waiting.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).ok()?;
        Some(Self(waiting))
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A request under way, which the breaker hears of however it ends.
struct Watch<'a> {
    webhooks: &'a Webhooks,
    endpoint: &'a Endpoint,
    hook: Hook,
    pass: Option<Pass>,
}

impl Watch<'_> {
    fn finish(mut self, failure: Option<&Failure>) {
        let Some(pass) = self.pass.take() else { return };
        let change = {
            let mut breaker = lock(&self.endpoint.breaker);
            match failure {
                Some(failure) if !failure.is_of_question() => breaker.failed(pass, self.webhooks.now_ms()),
                _ => breaker.answered(pass),
            }
        };
        self.tell(change, failure);
    }

    fn tell(&self, change: Change, failure: Option<&Failure>) {
        let (hook, url) = (self.hook.as_str(), format!("{:?}", self.endpoint.url));
        let reason = failure.map(|failure| failure.to_string().escape_debug().to_string());
        match change {
            Change::Closed => tracing::info!(hook, url, "the backend answers again"),
            Change::FirstFailure => tracing::warn!(hook, url, reason, "a hook failed"),
            Change::Opened => {
                let pause_ms = self.webhooks.settings.breaker_pause.as_millis() as u64;
                tracing::warn!(hook, url, reason, pause_ms, "hooks keep failing; the backend is not asked for a while");
            }
            Change::None if failure.is_some() => tracing::debug!(hook, url, reason, "a hook failed"),
            Change::None => {}
        }
    }
}

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        // Whoever asked does not wait any more.
        if let Some(pass) = self.pass.take() {
            lock(&self.endpoint.breaker).abandoned(pass, self.webhooks.now_ms());
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing under these locks can panic half way.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An error with what caused it, since the outermost says the least.
fn causes(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
