//! Figures in the text format of Prometheus, version 0.0.4.
//!
//! A scrape reads counters in memory and asks no store, so its cost does not depend on the number of connections.
//! Labels have values of fixed lists only, never a name that a user chose, so their number cannot grow.

use std::fmt::{self, Display, Write as _};
use std::sync::atomic::Ordering;

use crate::command::{COUNTED_KEYS, Figures, LATENCY_BUCKETS_MS, Outcome};
use crate::node::StoreFigures;
use crate::node::cluster::LifeFigures;
use crate::node::gateway::figures::{Beginning, GatewayFigures, Source};
use crate::proto::call::ConnectionType;
use crate::proto::close::CloseReason;

use super::Shared;
use super::nodes::{VERSION, replies};

/// The media type.
pub(super) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// All figures of this moment. Those of the store are absent while they are not known.
pub(super) fn write(shared: &Shared) -> String {
    let node = &shared.node;
    let figures = node.figures();
    let store = node.store_figures();
    let started_ms = node.unix_ms().saturating_sub(node.uptime_ms());
    let by_type = ConnectionType::ALL.map(|kind| (kind.as_str(), figures.connections_by_type[kind.index()]));
    let by_reason = CloseReason::ALL.map(|reason| (reason.as_str(), figures.closed[reason.index()]));
    let counters = &shared.counters;
    let by_class: [_; 4] =
        std::array::from_fn(|class| (CLASSES[class], counters.requests[class].load(Ordering::Relaxed)));

    let mut page = Page(String::with_capacity(4096));
    page.labelled(Gauge, "switchboard_build_info", "Always 1; the version is the label.", "version", &[(VERSION, 1)]);
    page.single(
        Gauge,
        "switchboard_start_time_seconds",
        "When the node started, in seconds since 1970.",
        Seconds(started_ms),
    );
    page.single(
        Gauge,
        "switchboard_ready",
        "1 if new clients should be sent here, else 0.",
        u8::from(node.not_ready().is_empty()),
    );
    page.labelled(Gauge, "switchboard_connections", "Connections open now.", "type", &by_type);
    page.single(Counter, "switchboard_connections_accepted_total", "Connections accepted.", figures.accepted);
    page.labelled(Counter, "switchboard_connections_closed_total", "Connections ended.", "reason", &by_reason);
    page.single(
        Gauge,
        "switchboard_cluster_figures_known",
        "1 if the figures that are read from the store are shown, else 0.",
        u8::from(store.is_some()),
    );
    if let Some(StoreFigures { size, .. }) = store {
        page.single(Gauge, "switchboard_rooms", "Rooms.", size.rooms);
        page.single(Gauge, "switchboard_members", "Members of all rooms together.", size.members);
    }
    page.single(Counter, "switchboard_messages_published_total", "Room messages numbered.", figures.published);
    page.single(
        Counter,
        "switchboard_messages_delivered_total",
        "Room messages queued for members: one for each message and member.",
        figures.delivered,
    );
    commands(&mut page, &node.client_command_figures());
    gateway(&mut page, &node.gateway_figures(), node.attached_sessions(), store);
    cluster(&mut page, &node.cluster_figures().unwrap_or_default());
    page.labelled(Counter, "switchboard_admin_requests_total", "Answers of the admin API.", "class", &by_class);
    page.single(
        Counter,
        "switchboard_admin_unauthenticated_total",
        "Requests to the admin API with a wrong token, or none.",
        counters.unauthenticated.load(Ordering::Relaxed),
    );
    page.0
}

fn commands(page: &mut Page, figures: &Figures) {
    page.single(Gauge, "switchboard_commands_pending", "Client commands that are pending.", figures.pending);
    page.single(Gauge, "switchboard_command_sessions", "Connections that take client commands.", figures.sessions);
    let name = "switchboard_commands_settled_total";
    page.head(Counter, name, "Client commands ended.");
    for (key, ended) in COUNTED_KEYS.iter().zip(&figures.ended) {
        for outcome in Outcome::ALL {
            let count = ended.outcomes[outcome.index()];
            page.line(format_args!("{name}{{key=\"{key}\",outcome=\"{}\"}} {count}", outcome.as_str()));
        }
    }
    page.single(Counter, "switchboard_commands_refused_total", "Client commands refused.", figures.refused);
    page.single(
        Counter,
        "switchboard_command_deliveries_total",
        "Client commands handed to connections: one for each command and connection.",
        figures.delivered,
    );
    page.single(
        Counter,
        "switchboard_command_overflows_total",
        "Client commands not handed over because an output queue was full.",
        figures.overflowed,
    );
    page.labelled(
        Counter,
        "switchboard_command_replies_total",
        "Replies to client commands.",
        "kind",
        &replies(figures),
    );
    page.single(
        Counter,
        "switchboard_command_client_errors_total",
        "Replies to client commands that counted and said that it failed.",
        figures.client_errors,
    );
    let name = "switchboard_command_latency_seconds";
    page.head(Histogram, name, "From acceptance to the outcome of client commands that were replied to.");
    for (key, ended) in COUNTED_KEYS.iter().zip(&figures.ended) {
        page.histogram(name, key, &LATENCY_BUCKETS_MS, &ended.latency, ended.latency_sum_ms);
    }
}

fn gateway(page: &mut Page, figures: &GatewayFigures, attached: usize, store: Option<StoreFigures>) {
    let detached = store.map(|store| ("detached", store.detached_sessions));
    let by_state: Vec<(&str, usize)> = [("attached", attached)].into_iter().chain(detached).collect();
    page.labelled(Gauge, "switchboard_gateway_sessions", "Sessions of shards.", "state", &by_state);
    if let Some(StoreFigures { log_bytes, log_events, .. }) = store {
        page.single(Gauge, "switchboard_gateway_log_bytes", "Bytes of events that are kept for a replay.", log_bytes);
        page.single(Gauge, "switchboard_gateway_log_events", "Events that are kept for a replay.", log_events);
    }
    let by_source = Source::ALL.map(|source| (source.as_str(), figures.appended[source as usize]));
    page.labelled(
        Counter,
        "switchboard_gateway_events_appended_total",
        "Events appended to logs: one for each event and session.",
        "source",
        &by_source,
    );
    page.single(
        Counter,
        "switchboard_gateway_events_replayed_total",
        "Events that waited in logs when their sessions were resumed.",
        figures.replayed,
    );
    let by_outcome =
        |counts: &[u64; Beginning::ALL.len()]| Beginning::ALL.map(|word| (word.as_str(), counts[word as usize]));
    page.labelled(
        Counter,
        "switchboard_gateway_registrations_total",
        "Registrations of shards.",
        "outcome",
        &by_outcome(&figures.registrations),
    );
    page.labelled(
        Counter,
        "switchboard_gateway_resumes_total",
        "Resumes of shards.",
        "outcome",
        &by_outcome(&figures.resumes),
    );
}

fn cluster(page: &mut Page, figures: &LifeFigures) {
    page.single(Gauge, "switchboard_cluster_nodes", "Living nodes of the cluster, this one included.", figures.nodes);
    page.single(
        Gauge,
        "switchboard_cluster_up",
        "1 if the shared store can be reached and this node is part of the cluster, else 0.",
        u8::from(figures.is_up),
    );
    page.single(
        Counter,
        "switchboard_cluster_fenced_total",
        "How often this node was taken for dead by the others.",
        figures.fenced,
    );
    page.single(
        Counter,
        "switchboard_cluster_buried_nodes_total",
        "Dead nodes whose affairs were put in order here.",
        figures.buried_nodes,
    );
    page.single(
        Counter,
        "switchboard_cluster_buried_members_total",
        "Members of dead nodes that left their rooms here.",
        figures.buried_members,
    );
    page.labelled(
        Counter,
        "switchboard_cluster_corrections_total",
        "Corrections of the directory.",
        "what",
        &figures.corrections.by_what(),
    );
    page.labelled(
        Counter,
        "switchboard_redis_errors_total",
        "What Redis was asked for and did not do.",
        "reason",
        &figures.store.errors,
    );
    page.single(
        Counter,
        "switchboard_redis_reconnects_total",
        "Connections to Redis that were made anew.",
        figures.store.reconnects,
    );
    page.single(
        Counter,
        "switchboard_redis_relistens_total",
        "How often listening in Redis began anew, because something was not heard.",
        figures.store.relistens,
    );
    page.single(
        Counter,
        "switchboard_redis_queued_total",
        "Requests to Redis that waited because too many others were in flight.",
        figures.store.queued,
    );
}

/// Classes of status codes.
const CLASSES: [&str; 4] = ["2xx", "3xx", "4xx", "5xx"];

/// What a figure is to Prometheus.
#[derive(Clone, Copy)]
enum Kind {
    Counter,
    Gauge,
    Histogram,
}

use Kind::{Counter, Gauge, Histogram};

struct Page(String);

impl Page {
    fn single(&mut self, kind: Kind, name: &str, help: &str, value: impl Display) {
        self.head(kind, name, help);
        self.line(format_args!("{name} {value}"));
    }

    /// One line for each value of the label. Values come from lists in the code, without characters to escape.
    fn labelled(&mut self, kind: Kind, name: &str, help: &str, label: &str, values: &[(&str, impl Display)]) {
        self.head(kind, name, help);
        for (of, value) in values {
            self.line(format_args!("{name}{{{label}=\"{of}\"}} {value}"));
        }
    }

    /// Times that were counted in the lowest bucket that holds them: one bucket more than there are bounds, in milliseconds.
    fn histogram(&mut self, name: &str, key: &str, bounds_ms: &[u64], counts: &[u64], sum_ms: u64) {
        let mut total = 0;
        for (index, count) in counts.iter().enumerate() {
            total += count;
            match bounds_ms.get(index) {
                Some(bound_ms) => {
                    self.line(format_args!("{name}_bucket{{key=\"{key}\",le=\"{}\"}} {total}", Seconds(*bound_ms)));
                }
                None => self.line(format_args!("{name}_bucket{{key=\"{key}\",le=\"+Inf\"}} {total}")),
            }
        }
        self.line(format_args!("{name}_sum{{key=\"{key}\"}} {}", Seconds(sum_ms)));
        self.line(format_args!("{name}_count{{key=\"{key}\"}} {total}"));
    }

    fn head(&mut self, kind: Kind, name: &str, help: &str) {
        let kind = match kind {
            Counter => "counter",
            Gauge => "gauge",
            Histogram => "histogram",
        };
        self.line(format_args!("# HELP {name} {help}"));
        self.line(format_args!("# TYPE {name} {kind}"));
    }

    fn line(&mut self, line: fmt::Arguments<'_>) {
        // Writing to a String cannot fail.
        let _ = self.0.write_fmt(line);
        self.0.push('\n');
    }
}

/// Milliseconds, shown as seconds.
struct Seconds(u64);

impl Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:03}", self.0 / 1000, self.0 % 1000)
    }
}
