//! The server that `cargo xtask bench` measures client commands with: the program `switchboard`, with its command line and
//! settings, and the actions by which the generator has commands sent. Nobody else has a use for it.
//!
//! A command begins in the server, so its time is taken here: from asking the library to its outcome. A hop over the admin
//! API would be most of it.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "the program talks to whoever started it")]

use std::collections::BTreeMap;
use std::ops::Range;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use switchboard::action::{Action, ActionResult, ActionSpec, Failure, Input, Reply, Request};
use switchboard::command::{ClientCommand, CommandOptions, CommandRefusal, Mode, Outcome, Report, SentCommand, Target};
use switchboard::proto::user::User;
use switchboard::server::ServerBuilder;
use switchboard::{ConnId, Node, RawJson};
use switchboard_testkit::bench::histogram::Histogram;

#[allow(clippy::duplicate_mod, reason = "tests take in more than one of these servers")]
#[path = "bench_support/serve.rs"]
mod serve;

fn main() -> ExitCode {
    serve::serve("bench_commands", with_actions)
}

/// Adds the actions of the bench.
pub(crate) fn with_actions(server: ServerBuilder) -> ServerBuilder {
    server.action(Echo).action(RoundTrips).action(Collection).action(Storm)
}

/// Gives back what it was sent: what a round trip costs that begins with the client.
struct Echo;

impl Action for Echo {
    fn spec(&self) -> ActionSpec {
        ActionSpec::new("benchEcho").describe("Gives back a number").input(Input::required("n"))
    }

    async fn run(&self, request: &mut Request) -> ActionResult {
        Ok(Reply::new().with("echo", request.param("n").cloned().unwrap_or_default()))
    }
}

/// Commands to one client, one after the other.
struct RoundTrips;

impl Action for RoundTrips {
    fn spec(&self) -> ActionSpec {
        ActionSpec::new("benchRoundTrips").describe("Sends commands to one client").input(Input::required("count"))
    }

    async fn run(&self, request: &mut Request) -> ActionResult {
        let node = request.node();
        let targets = Targets::find(node);
        let Some((index, &id)) = targets.connections.first_key_value() else {
            return Err("nobody takes commands".into());
        };
        let mut latencies_ns = Vec::new();
        for n in 0..number(request, "count") {
            let (command, since) = (command(n, false)?, Instant::now());
            let sent = node.send_client_command(Target::Connection(id), command, CommandOptions::default()).await;
            latencies_ns.push(nanos(since));
            check_reply(n, *index, sent.map_err(refused)?.report().reply.as_ref())?;
        }
        Ok(Reply::new().with("bench", json!({ "latencies_ns": latencies_ns })))
    }
}

/// One command to everybody in a room.
struct Collection;

impl Action for Collection {
    fn spec(&self) -> ActionSpec {
        let spec = ActionSpec::new("benchCollection").describe("Sends a command to the members of a room");
        spec.input(Input::required("n")).input(Input::required("room"))
    }

    async fn run(&self, request: &mut Request) -> ActionResult {
        let target = Target::Room(request.text("room")?.to_owned());
        let options = CommandOptions { timeout: Some(COLLECTION_LIMIT), ..CommandOptions::default() };
        let (command, since) = (command(number(request, "n"), false)?, Instant::now());
        let sent = request.node().send_client_command(target, command, options).await.map_err(refused)?;
        let counts = sent.report().counts;
        let result = json!({ "ns": nanos(since), "sessions": counts.sessions, "replied": counts.replied });
        Ok(Reply::new().with("bench", result))
    }
}

/// Commands of every mode to targets of every kind, many at a time, while some of the targets vanish.
struct Storm;

impl Action for Storm {
    fn spec(&self) -> ActionSpec {
        let spec =
            ActionSpec::new("benchStorm").describe("Sends commands to many clients and checks what came of each");
        spec.input(Input::required("commands")).input(Input::required("at_once"))
    }

    async fn run(&self, request: &mut Request) -> ActionResult {
        let (node, commands) = (request.node(), number(request, "commands"));
        let targets = Arc::new(Targets::find(node));
        let users = targets.connections.iter().map(|(index, id)| (*id, User::new(user_of(*index)).ok()));
        for (id, user) in users {
            node.set_connection_user(id, user)?;
        }
        let (before, since, next) = (node.client_command_figures(), Instant::now(), Arc::new(AtomicU64::new(0)));
        let senders: Vec<_> = (0..number(request, "at_once"))
            .map(|_| {
                let (node, targets, next) = (node.clone(), Arc::clone(&targets), Arc::clone(&next));
                tokio::spawn(async move {
                    let mut tally = Tally::default();
                    loop {
                        let n = next.fetch_add(1, Ordering::Relaxed);
                        if n >= commands {
                            return tally;
                        }
                        tally.send(&node, &targets, n).await;
                    }
                })
            })
            .collect();
        let mut tally = Tally::default();
        for sender in senders {
            tally.add(sender.await.map_err(|error| Failure::new(error.to_string()))?);
        }
        let (ns, after) = (nanos(since), node.client_command_figures());
        tally.look_for_absent(node, &targets).await;
        let settled: Vec<u64> =
            Outcome::ALL.map(|outcome| after.ended_with(outcome) - before.ended_with(outcome)).to_vec();
        if settled.iter().sum::<u64>() != commands || !node.pending_client_commands(0, 1).is_empty() {
            tally.wrong(|| format!("{settled:?} outcomes of {commands} commands"));
        }
        let outcomes: Vec<String> = Outcome::ALL
            .iter()
            .zip(&settled)
            .filter(|(_, count)| **count > 0)
            .map(|(outcome, count)| format!("{} {count}", outcome.as_str()))
            .collect();
        Ok(Reply::new().with(
            "bench",
            json!({
                "ns": ns,
                "commands": tally.latency_ns.count(),
                "p50_ns": tally.latency_ns.quantile(0.5),
                "p99_ns": tally.latency_ns.quantile(0.99),
                "outcomes": outcomes.join(", "),
                "refused": tally.refused,
                "replies": after.replies - before.replies,
                "wrong": tally.wrong,
                "first_wrong": tally.first_wrong,
            }),
        ))
    }
}

/// Who takes commands, by the number that it gave itself.
struct Targets {
    connections: BTreeMap<u64, ConnId>,
    indices: BTreeMap<ConnId, u64>,
}

impl Targets {
    fn find(node: &Node) -> Self {
        let found = node.connection_ids().into_iter().filter_map(|id| {
            let client = node.client_of(id)?;
            client.takes_commands_since_unix_ms?;
            Some((client.data?.to_value().get("index")?.as_u64()?, id))
        });
        let connections: BTreeMap<u64, ConnId> = found.collect();
        let indices = connections.iter().map(|(index, id)| (*id, *index)).collect();
        Self { connections, indices }
    }
}

/// Every user has two connections.
fn user_of(index: u64) -> String {
    format!("user-{}", index / 2)
}

/// What became of the commands of a storm.
#[derive(Default)]
struct Tally {
    latency_ns: Histogram,
    /// Tries to send to a target that was gone.
    refused: u64,
    wrong: u64,
    first_wrong: Option<String>,
    /// Who has not replied to which command.
    silent: Vec<Silent>,
}

/// Some of these have not replied, and that is right only if they were about to vanish.
struct Silent {
    n: u64,
    asked: Range<u64>,
    /// How many of them at the least.
    count: u64,
}

impl Tally {
    /// Sends command `n` to the target whose turn it is; if that is gone, to the next one.
    async fn send(&mut self, node: &Node, targets: &Targets, n: u64) {
        let (all, mode) = (targets.connections.len() as u64, [Mode::First, Mode::One, Mode::All][(n % 3) as usize]);
        let fail_fast = n.is_multiple_of(2);
        let options =
            CommandOptions { mode: Some(mode), fail_fast, timeout: Some(STORM_LIMIT), ..CommandOptions::default() };
        for attempt in 0..all {
            let index = n.wrapping_mul(SCATTER).wrapping_add(attempt) % all;
            let Some(&id) = targets.connections.get(&index) else { continue };
            let (target, asked) = match n / 3 % 8 {
                0 => {
                    let room = index / STORM_ROOM;
                    (Target::Room(format!("bench-{room:04}")), room * STORM_ROOM..(room + 1) * STORM_ROOM)
                }
                1..=4 => (Target::User(user_of(index)), index / 2 * 2..(index / 2 + 1) * 2),
                _ => (Target::Connection(id), index..index + 1),
            };
            let Ok(command) = command(n, mode == Mode::One) else { return };
            let since = Instant::now();
            match node.send_client_command(target, command, options.clone()).await {
                Ok(sent) => {
                    self.latency_ns.record(nanos(since));
                    return self.check(n, &sent, mode, asked, targets);
                }
                Err(CommandRefusal::NoSuchConnection | CommandRefusal::NoSuchUser) => self.refused += 1,
                Err(refusal) => return self.wrong(|| format!("command {n} was refused: {refusal}")),
            }
        }
        self.wrong(|| "nobody is left".to_owned());
    }

    /// Whether an outcome is what it must be: replies are those to this command and of those who were asked.
    fn check(&mut self, n: u64, sent: &SentCommand, mode: Mode, asked: Range<u64>, targets: &Targets) {
        let Report { outcome, reply, rows, .. } = sent.report();
        for row in rows.iter().flatten() {
            let index = targets.indices.get(&row.connection).copied().filter(|index| asked.contains(index));
            match (index, row.outcome) {
                (None, _) => self.wrong(|| format!("{} was asked to do {n}", row.connection)),
                (Some(index), Outcome::Replied) => {
                    if let Err(failure) = check_reply(n, index, row.reply.as_ref()) {
                        self.wrong(|| failure.text);
                    }
                }
                (Some(index), _) => self.silent.push(Silent { n, asked: index..index + 1, count: 1 }),
            }
        }
        match (mode, outcome) {
            (Mode::All, _) => {}
            (_, Outcome::Replied) => {
                let (by, answers) = parts(reply.as_ref());
                if answers != Some(n) || by.is_none_or(|by| !asked.contains(&by)) {
                    self.wrong(|| format!("{n} has the reply to {answers:?} by {by:?}"));
                }
            }
            // Nobody else is asked once somebody has got it.
            (Mode::One, _) => self.silent.push(Silent { n, asked, count: 1 }),
            (Mode::First, _) => self.silent.push(Silent { n, count: asked.end - asked.start, asked }),
        }
    }

    /// Whoever has not replied must be gone. What a client has closed the server may still be closing.
    async fn look_for_absent(&mut self, node: &Node, targets: &Targets) {
        for Silent { n, asked, count } in std::mem::take(&mut self.silent) {
            let is_gone = |index: &u64| targets.connections.get(index).is_none_or(|id| node.client_of(*id).is_none());
            let since = Instant::now();
            while (asked.clone().filter(is_gone).count() as u64) < count {
                if since.elapsed() > CLOSING_TIME {
                    self.wrong(|| format!("{n}: somebody of {asked:?} is there and has not replied"));
                    break;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    }

    fn wrong(&mut self, what: impl FnOnce() -> String) {
        self.wrong += 1;
        self.first_wrong.get_or_insert_with(what);
    }

    fn add(&mut self, other: Self) {
        self.latency_ns.add(&other.latency_ns);
        self.refused += other.refused;
        self.wrong += other.wrong;
        self.silent.extend(other.silent);
        self.first_wrong = self.first_wrong.take().or(other.first_wrong);
    }
}

fn check_reply(n: u64, index: u64, reply: Option<&RawJson>) -> Result<(), Failure> {
    match parts(reply) {
        (Some(by), Some(answers)) if (by, answers) == (index, n) => Ok(()),
        parts => Err(Failure::new(format!("reply {parts:?} to command {n} of {index}"))),
    }
}

/// By whom a reply is, and to which command.
fn parts(reply: Option<&RawJson>) -> (Option<u64>, Option<u64>) {
    let reply = reply.map(RawJson::to_value).unwrap_or_default();
    let member = |name: &str| reply.get(name).and_then(Value::as_u64);
    (member("by"), member("n"))
}

/// `once`: at most one client may ever execute it.
fn command(n: u64, once: bool) -> Result<ClientCommand, Failure> {
    ClientCommand::from_json(json!({ "key": "bench", "n": n, "once": once })).map_err(refused)
}

fn refused(refusal: CommandRefusal) -> Failure {
    Failure::new(refusal.to_string())
}

fn number(request: &Request, name: &str) -> u64 {
    request.param(name).and_then(Value::as_u64).unwrap_or_default()
}

fn nanos(since: Instant) -> u64 {
    since.elapsed().as_nanos() as u64
}

/// Far above what is asked of a collection, so that a slow one is measured and not cut off.
const COLLECTION_LIMIT: Duration = Duration::from_secs(60);

/// Longer than the server takes to close what its client has closed.
const CLOSING_TIME: Duration = Duration::from_secs(3);

/// Whoever waits for a target that has vanished waits so long; far above what anybody who is there takes.
const STORM_LIMIT: Duration = Duration::from_secs(2);

/// How many members a room of the storm has.
const STORM_ROOM: u64 = 10;

/// Spreads commands over targets.
const SCATTER: u64 = 7919;
