//! The API for operators: HTTP on a listener of its own, JSON, a token.
//!
//! It speaks to the [`Node`] only, so whatever it can do, a program that embeds the server can do too. Read in this order:
//! `api` puts routes and their description together; `rooms`, `connections`, `commands` and `nodes` are what they do; `input` and
//! `answer` are how requests are read and answers written; `access` decides who may; `metrics` is the figures as text.
//!
//! This file is the listener: how many connections, how long each may take, and how they end.

mod access;
mod answer;
mod api;
mod commands;
mod connections;
mod gateway;
mod input;
mod metrics;
mod nodes;
mod rooms;
mod users;

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::TokioTimer;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::{JoinHandle, JoinSet};

use crate::config::Config;
use crate::failures::Failures;
use crate::http_connection::guard::{Deadlines, Guarded};
use crate::http_connection::{self, is_last, last};
use crate::node::Node;
use crate::proto::json::JsonLimits;

use access::TokenCheck;

pub use api::openapi_json;

/// A running admin API. Dropping it ends it at once.
#[derive(Debug)]
pub(crate) struct Running {
    /// `true`: end.
    stop: watch::Sender<bool>,
    listening: JoinHandle<()>,
}

/// What every request may look at.
struct Shared {
    node: Node,
    token: TokenCheck,
    failures: Failures,
    json: JsonLimits,
    max_body_bytes: usize,
    started: Instant,
    counters: Counters,
}

/// What the API counts about itself.
#[derive(Debug, Default)]
struct Counters {
    /// Requests by the first digit of their status, from 2.
    requests: [AtomicU64; 4],
    /// Requests with a wrong token, or none.
    unauthenticated: AtomicU64,
}

/// Who sent a request.
#[derive(Clone, Copy, Debug)]
struct Remote(SocketAddr);

/// How long requests that are under way at the end may take.
const GRACE: Duration = Duration::from_secs(1);

/// Pause after the system refused to accept, for instance because no open file was left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves the API on a bound listener, in the current runtime.
///
/// # Errors
///
/// When the system gives no random bytes, or the runtime does not take the listener.
pub(crate) fn start(listener: std::net::TcpListener, config: &Config, node: Node) -> io::Result<Running> {
    let admin = &config.admin;
    let shared = Arc::new(Shared {
        node,
        token: TokenCheck::new(&admin.token)?,
        failures: Failures::new(admin.failures_per_address, Duration::from_secs(1)),
        json: JsonLimits {
            depth: config.limits.max_json_depth,
            keys: off_is_max(config.limits.max_json_keys),
            values: off_is_max(config.limits.max_json_values),
        },
        max_body_bytes: off_is_max(admin.max_body_bytes),
        started: Instant::now(),
        counters: Counters::default(),
    });
    let mut http = http_connection::builder(admin.max_headers, admin.max_header_bytes);
    let header_timeout = admin.header_timeout;
    http.timer(TokioTimer::new()).header_read_timeout((!header_timeout.is_zero()).then_some(header_timeout));
    let accept = Accept {
        listener: TcpListener::from_std(listener)?,
        places: Arc::new(Semaphore::new(admin.max_connections)),
        http,
        // Heads are under hyper's deadline. Here hyper reads while a request runs, to notice that its client hangs up,
        // and only hyper knows that this is not a wait for the next head.
        deadlines: Deadlines {
            head: Duration::ZERO,
            body: admin.body_timeout,
            idle: Duration::ZERO,
            write: admin.write_timeout,
        },
        router: api::router(shared),
    };
    let (stop, stopped) = watch::channel(false);
    Ok(Running { stop, listening: tokio::spawn(accept.run(stopped)) })
}

impl Running {
    /// Accepts nobody any more, and waits a moment for requests that are under way.
    pub(crate) async fn stop(mut self) {
        self.stop.send_replace(true);
        if let Err(error) = (&mut self.listening).await {
            tracing::error!(%error, "the admin API did not come to its end");
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

/// What accepting needs.
struct Accept {
    listener: TcpListener,
    places: Arc<Semaphore>,
    http: http1::Builder,
    deadlines: Deadlines,
    router: Router,
}

impl Accept {
    async fn run(self, mut stopped: watch::Receiver<bool>) {
        let mut connections = JoinSet::new();
        loop {
            // A place first: whoever finds none waits in the kernel.
            let accepted = async {
                let place = Arc::clone(&self.places).acquire_owned().await;
                (place, self.listener.accept().await)
            };
            tokio::select! {
                _ = stopped.changed() => break,
                Some(ended) = connections.join_next(), if !connections.is_empty() => log_panic(ended),
                (place, accepted) = accepted => match accepted {
                    Ok((socket, remote)) => {
                        let serving = self.serve(socket, remote, stopped.clone());
                        connections.spawn(async move {
                            serving.await;
                            drop(place);
                        });
                    }
                    Err(error) => {
                        tracing::warn!(%error, "the admin API cannot accept for a moment");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
            }
        }
        drop(self.listener);
        let all = async {
            while let Some(ended) = connections.join_next().await {
                log_panic(ended);
            }
        };
        // Whoever is still there is cut.
        let _ = tokio::time::timeout(GRACE, all).await;
    }

    fn serve(
        &self,
        socket: TcpStream,
        remote: SocketAddr,
        mut stopped: watch::Receiver<bool>,
    ) -> impl Future<Output = ()> + Send + use<> {
        let routes = TowerToHyperService::new(self.router.clone());
        let service = service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(Remote(remote));
            let is_last = is_last(&request);
            let answering = routes.call(request);
            Box::pin(async move {
                let response = answering.await.unwrap_or_else(|never| match never {});
                Ok::<_, Infallible>(if is_last { last(response) } else { response })
            })
        });
        let http = self.http.clone();
        let stream = Guarded::new(socket, Vec::new(), Duration::ZERO, self.deadlines);
        async move {
            let (ended, parts) = http_connection::serve(&http, stream, service, stopped.changed()).await;
            if let Err(error) = &ended {
                tracing::debug!(%remote, %error, "a connection of the admin API failed");
            }
            // A stop does not wait for clients that keep connections open between requests.
            if !*stopped.borrow() {
                http_connection::close(parts.io.into_inner().into_inner(), &ended).await;
            }
        }
    }
}

fn log_panic(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "a request of the admin API did not come to its end");
    }
}

fn off_is_max(limit: usize) -> usize {
    if limit == 0 { usize::MAX } else { limit }
}
