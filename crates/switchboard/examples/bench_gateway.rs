//! The server that `cargo xtask bench` measures events of the gateway with: the program `switchboard`, with its command line and
//! settings, and an action by which the generator has events published. Nobody else has a use for it.
//!
//! Over `POST /gateway/events` the request and its answer would be most of the figure.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "the program talks to whoever started it")]

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use switchboard::action::{Action, ActionResult, ActionSpec, Failure, Input, Reply, Request};
use switchboard::backend::sessions::shards::ShardTarget;
use switchboard::node::gateway::events::NewEvent;
use switchboard::server::ServerBuilder;
use switchboard_testkit::bench::histogram::Histogram;
use switchboard_testkit::bench::scenario::Application;

#[allow(clippy::duplicate_mod, reason = "tests take in more than one of these servers")]
#[path = "bench_support/serve.rs"]
mod serve;

fn main() -> ExitCode {
    serve::serve("bench_gateway", with_actions)
}

/// Adds the action of the bench.
pub(crate) fn with_actions(server: ServerBuilder) -> ServerBuilder {
    server.action(Publish)
}

/// Publishes events to shard 0 of the first application, many at a time, so often or for so long.
struct Publish;

impl Action for Publish {
    fn spec(&self) -> ActionSpec {
        let spec = ActionSpec::new("benchPublish").describe("Publishes events to a shard");
        spec.input(Input::required("at_once")).input(Input::optional("count")).input(Input::optional("ms"))
    }

    async fn run(&self, request: &mut Request) -> ActionResult {
        let number = |name: &str| request.param(name).and_then(Value::as_u64).unwrap_or_default();
        let [count, time_ms] = [number("count"), number("ms")].map(|most| if most > 0 { most } else { u64::MAX });
        let (since, time) = (Instant::now(), Duration::from_millis(time_ms));
        let (next, application) = (Arc::new(AtomicU64::new(0)), Application::new(0).id);
        let publishers: Vec<_> = (0..number("at_once"))
            .map(|_| {
                let (node, next, application) = (request.node().clone(), Arc::clone(&next), application.clone());
                tokio::spawn(async move {
                    let (mut latency_ns, mut failed) = (Histogram::new(), 0);
                    while since.elapsed() < time {
                        let n = next.fetch_add(1, Ordering::Relaxed);
                        if n >= count {
                            break;
                        }
                        let began = Instant::now();
                        match node.publish_event(&application, event(n)).await {
                            Ok(_) => latency_ns.record(began.elapsed().as_nanos() as u64),
                            Err(_) => failed += 1,
                        }
                    }
                    (latency_ns, failed)
                })
            })
            .collect();
        let (mut latency_ns, mut failed) = (Histogram::new(), 0);
        for publisher in publishers {
            let (latencies, failures) = publisher.await.map_err(|error| Failure::new(error.to_string()))?;
            latency_ns.add(&latencies);
            failed += failures;
        }
        let result = json!({
            "published": latency_ns.count(),
            "failed": failed,
            "p50_ns": latency_ns.quantile(0.5),
            "p99_ns": latency_ns.quantile(0.99),
        });
        Ok(Reply::new().with("bench", result))
    }
}

fn event(n: u64) -> NewEvent {
    NewEvent {
        name: "BENCH".to_owned(),
        data: json!({ "n": n, "text": FILLER }).into(),
        to: ShardTarget::Shard(0),
        development: false,
        id: None,
    }
}

/// As long as messages of rooms are in the other loads.
const FILLER: &str =
    "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx";
