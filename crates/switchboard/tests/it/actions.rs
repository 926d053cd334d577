//! What the application answers: actions, their inputs, what runs around them, and what becomes of failures and panics.

use std::collections::HashMap;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use switchboard::Server;
use switchboard::action::{Action, ActionResult, ActionSpec, Failure, Input, Middleware, Reply, Request};
use switchboard::node::Speaker;
use switchboard::server::{ServerBuilder, StartError};
use switchboard_testkit::client::{LineClient, PATIENCE};
use tokio::sync::Semaphore;

use crate::peer::eventually;
use crate::support::{TestServer, config};

const INTERNAL: &str = "Error: The server experienced an internal error";

/// An action made of its spec and a closure.
struct Act<F>(ActionSpec, F);

impl<F: Fn(&mut Request) -> ActionResult + Send + Sync + 'static> Action for Act<F> {
    fn spec(&self) -> ActionSpec {
        self.0.clone()
    }

    async fn run(&self, request: &mut Request) -> ActionResult {
        self.1(request)
    }
}

fn act<F: Fn(&mut Request) -> ActionResult + Send + Sync + 'static>(spec: ActionSpec, run: F) -> Act<F> {
    Act(spec, run)
}

fn named(name: &str) -> ActionSpec {
    ActionSpec::new(name)
}

/// Answers with its params.
fn show(spec: ActionSpec) -> impl Action {
    act(spec, |request| {
        let params = request.params().iter().map(|(name, value)| (name.to_owned(), value.clone()));
        Ok(Reply::new().with("saw", Value::Object(params.collect())))
    })
}

/// The action `hold`: tells that it began and waits until its `key` is released.
#[derive(Clone)]
struct Hold(Arc<Held>);

struct Held {
    gates: Mutex<HashMap<String, Arc<Semaphore>>>,
    begun: SyncSender<String>,
    ended: SyncSender<String>,
}

impl Hold {
    fn new() -> (Self, Receiver<String>, Receiver<String>) {
        let (begun, begins) = sync_channel(1000);
        let (ended, ends) = sync_channel(1000);
        (Self(Arc::new(Held { gates: Mutex::default(), begun, ended })), begins, ends)
    }

    fn gate(&self, key: &str) -> Arc<Semaphore> {
        let mut gates = self.0.gates.lock().unwrap();
        Arc::clone(gates.entry(key.to_owned()).or_insert_with(|| Arc::new(Semaphore::new(0))))
    }

    fn release(&self, key: &str) {
        self.gate(key).add_permits(1);
    }
}

impl Action for Hold {
    fn spec(&self) -> ActionSpec {
        named("hold").input(Input::required("key"))
    }

    async fn run(&self, request: &mut Request) -> ActionResult {
        let key = request.text("key")?.to_owned();
        self.0.begun.send(key.clone()).unwrap();
        self.gate(&key).acquire().await.map_err(|error| error.to_string())?.forget();
        let seen = request.params().iter().map(|(name, value)| (name.to_owned(), value.clone())).collect();
        // Most tests do not ask for the end.
        let _ = self.0.ended.send(key);
        Ok(Reply::new().with("saw", Value::Object(seen)))
    }
}

fn hold(key: &str) -> String {
    json!({"action": "hold", "params": {"key": key}}).to_string()
}

#[track_caller]
fn next<T>(notes: &Receiver<T>) -> T {
    notes.recv_timeout(PATIENCE).expect("it should have happened")
}

fn serve(build: impl FnOnce(ServerBuilder) -> ServerBuilder) -> (TestServer, LineClient) {
    let server = TestServer::build(&[], build);
    let client = server.connect();
    (server, client)
}

#[track_caller]
fn error(client: &mut LineClient, line: &str) -> Value {
    client.ask(line)["error"].clone()
}

#[track_caller]
fn still_serves(client: &mut LineClient) {
    assert!(client.ask("randomNumber")["randomNumber"].is_number());
    assert_eq!(client.ask("detailsView")["data"]["pendingActions"], 0);
}

// --- inputs and replies ---

#[test]
fn inputs_get_defaults_then_formatters_then_validators_and_the_first_that_fails_is_told() {
    let spec = named("order")
        .input(
            Input::required("count")
                .formatter(|value| match value.as_str().map(str::parse::<u64>) {
                    Some(Ok(count)) => json!(count),
                    _ => value,
                })
                .validator(|value| if value.is_u64() { Ok(()) } else { Err("count must be a number".into()) }),
        )
        .input(Input::optional("size").default("m").formatter(|value| json!(value.as_str().map(str::to_uppercase))))
        .input(Input::required("name"));
    let (_server, mut client) = serve(|builder| builder.action(show(spec)));
    assert_eq!(error(&mut client, "order"), "Error: count is a required parameter for this action");
    client.ask("paramAdd count=many");
    assert_eq!(error(&mut client, "order"), "Error: count must be a number");
    client.ask("paramAdd count=12");
    assert_eq!(error(&mut client, "order"), "Error: name is a required parameter for this action");
    client.ask("paramAdd name=x");
    let saw = client.ask("order")["saw"].clone();
    assert_eq!(saw, json!({"action": "order", "count": 12, "name": "x", "size": "M"}));
    // What was made of them is the request's alone.
    assert_eq!(client.ask("paramsView")["data"], json!({"action": "order", "count": "12", "name": "x"}));
    let saw = client.ask(r#"{"action":"order","params":{"count":3,"name":"y","size":"xl","more":[1]}}"#)["saw"].clone();
    assert_eq!(saw, json!({"action": "order", "count": 3, "name": "y", "size": "XL", "more": [1]}));
}

#[test]
fn a_param_that_must_be_text_and_is_not_fails_with_its_name() {
    let greet = act(named("greet").input(Input::required("name")), |request| {
        Ok(Reply::new().with("greeting", format!("Hello, {}!", request.text("name")?)))
    });
    let (_server, mut client) = serve(|builder| builder.action(greet));
    assert_eq!(client.ask(r#"{"action":"greet","params":{"name":"Ada"}}"#)["greeting"], "Hello, Ada!");
    assert_eq!(error(&mut client, r#"{"action":"greet","params":{"name":7}}"#), "Error: name must be text");
}

#[test]
fn a_failure_has_its_text_and_what_was_set_before() {
    let fail = act(named("fail"), |_| {
        let reply = Reply::new().with("partial", json!([1])).with("error", "not this").with("context", "nor this");
        Err(Failure { text: "no \"luck\"".into(), reply })
    });
    let (_server, mut client) = serve(|builder| builder.action(fail));
    let answer = client.ask("fail");
    let expected = json!({"error": "Error: no \"luck\"", "partial": [1], "context": "response", "messageCount": 1});
    assert_eq!(answer, expected);
    still_serves(&mut client);
}

#[test]
fn members_of_the_envelope_are_the_envelopes() {
    let reply = || {
        let reply = Reply::new().with("context", "mine").with("messageCount", 99).with("messageId", "mine");
        reply.with("status", "mine too").with("x", 1).with("x", 2)
    };
    let (_server, mut client) = serve(|builder| builder.action(act(named("claim"), move |_| Ok(reply()))));
    let expected = json!({"status": "mine too", "x": 2, "context": "response", "messageCount": 1});
    assert_eq!(client.ask("claim"), expected);
}

#[test]
fn the_highest_version_answers_unless_the_client_names_one() {
    let version = |version: u32| {
        act(named("greet").version(version), move |request| {
            Ok(Reply::new().with("version", version).with("spec", request.action().version_number()))
        })
    };
    let (_server, mut client) = serve(|builder| builder.action(version(2)).action(version(10)).action(version(1)));
    let asked = |client: &mut LineClient, api: Value| {
        let answer = client.ask(&json!({"action": "greet", "params": {"apiVersion": api}}).to_string());
        assert_eq!(answer["version"], answer["spec"]);
        answer["version"].as_u64()
    };
    assert_eq!(client.ask("greet")["version"], 10);
    assert_eq!(asked(&mut client, json!(1)), Some(1));
    assert_eq!(asked(&mut client, json!("2")), Some(2));
    assert_eq!(asked(&mut client, json!(null)), Some(10));
    assert_eq!(asked(&mut client, json!(3)), None);
    assert_eq!(asked(&mut client, json!("ten")), None);
    client.ask("paramAdd apiVersion=1");
    assert_eq!(client.ask("greet")["version"], 1);
    let documentation = client.ask("documentation")["data"]["greet"].clone();
    assert_eq!(documentation.as_object().unwrap().keys().collect::<Vec<_>>(), ["1", "2", "10"]);
}

#[test]
fn an_action_of_the_same_name_and_version_keeps_the_server_from_starting() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let start = |builder: ServerBuilder| runtime.block_on(builder.start());
    let builder = Server::builder(config(&[])).action(show(named("mine"))).action(show(named("mine")));
    let Err(StartError::Action(exists)) = start(builder) else { panic!("it should not start") };
    assert_eq!(exists.to_string(), "action mine version 1 is registered twice");
    let builder = Server::builder(config(&[])).action(show(named("randomNumber")));
    assert!(matches!(start(builder), Err(StartError::Action(_))), "the default actions count, too");
}

#[test]
fn an_action_for_other_connection_types_is_refused_to_these() {
    let (_server, mut client) =
        serve(|builder| builder.action(show(named("elsewhere").only_for([]).input(Input::required("key")))));
    let told = error(&mut client, "elsewhere");
    assert_eq!(told, "Error: this action does not support the socket connection type");
    assert!(client.ask("documentation")["data"]["elsewhere"].is_object());
    let (_server, mut client) =
        serve(|builder| builder.action(show(named("here").only_for([switchboard::action::ConnectionType::Socket]))));
    assert!(client.ask("here")["saw"].is_object());
}

// --- middleware ---

/// Notes that it ran, and does what its name says.
struct Around(&'static str, SyncSender<String>);

impl Middleware for Around {
    async fn before(&self, request: &mut Request) -> Result<(), Failure> {
        self.1.send(format!("before {} {}", self.0, request.action().name())).unwrap();
        match self.0 {
            "refuses" => Err(Failure { text: "not today".into(), reply: Reply::new().with("retry", true) }),
            "panics" => panic!("middleware of a test, before"),
            _ => Ok(()),
        }
    }

    async fn after(&self, _: &mut Request, result: &mut ActionResult) {
        self.1.send(format!("after {} {}", self.0, if result.is_ok() { "ok" } else { "failed" })).unwrap();
        match (self.0, &mut *result) {
            ("adds", Ok(reply)) => reply.set("added", true),
            ("mends", Err(_)) => *result = Ok(Reply::new().with("mended", true)),
            ("panics after", _) => panic!("middleware of a test, after"),
            _ => {}
        }
    }
}

fn with_middleware(list: &[(i32, &'static str)]) -> (TestServer, LineClient, Receiver<String>) {
    let (sender, notes) = sync_channel(100);
    let (server, client) = serve(|builder| {
        let run = sender.clone();
        let action = act(named("run"), move |_| {
            run.send("run".to_owned()).unwrap();
            Ok(Reply::new().with("ran", true))
        });
        list.iter().fold(builder.action(action), |builder, (priority, name)| {
            builder.middleware(*priority, Around(name, sender.clone()))
        })
    });
    (server, client, notes)
}

#[test]
fn middleware_runs_before_in_the_order_of_priorities_and_after_in_reverse() {
    let (_server, mut client, notes) = with_middleware(&[(200, "c"), (-1, "a"), (100, "b"), (100, "adds")]);
    let answer = client.ask("run");
    assert_eq!(answer, json!({"ran": true, "added": true, "context": "response", "messageCount": 1}));
    let expected = [
        "before a run",
        "before b run",
        "before adds run",
        "before c run",
        "run",
        "after c ok",
        "after adds ok",
        "after b ok",
        "after a ok",
    ];
    assert_eq!(notes.try_iter().collect::<Vec<_>>(), expected);
}

#[test]
fn middleware_that_refuses_keeps_the_action_and_what_stands_behind_it_from_running() {
    let (_server, mut client, notes) = with_middleware(&[(1, "first"), (2, "refuses"), (3, "never")]);
    let answer = client.ask("run");
    assert_eq!(answer, json!({"error": "Error: not today", "retry": true, "context": "response", "messageCount": 1}));
    let expected = ["before first run", "before refuses run", "after refuses failed", "after first failed"];
    assert_eq!(notes.try_iter().collect::<Vec<_>>(), expected);
}

#[test]
fn middleware_may_mend_a_failure() {
    let (_server, mut client, _notes) = with_middleware(&[(1, "mends"), (2, "refuses")]);
    assert_eq!(client.ask("run"), json!({"mended": true, "context": "response", "messageCount": 1}));
}

#[test]
fn middleware_does_not_run_for_requests_that_are_refused_before() {
    let (_server, mut client, notes) = with_middleware(&[(1, "first")]);
    assert_eq!(error(&mut client, "unknown"), "Error: unknown action or invalid apiVersion");
    assert_eq!(error(&mut client, "cacheTest"), "Error: key is a required parameter for this action");
    client.ask("roomAdd defaultRoom");
    assert!(notes.try_recv().is_err());
}

#[test]
fn a_panic_in_middleware_fails_that_request_only() {
    for name in ["panics", "panics after"] {
        let (_server, mut client, _notes) = with_middleware(&[(1, "outer"), (2, name)]);
        for count in 1..=2 {
            let answer = client.ask("run");
            assert_eq!(answer, json!({"error": INTERNAL, "context": "response", "messageCount": count}), "{name}");
        }
        assert_eq!(client.ask("detailsView")["data"]["pendingActions"], 0);
    }
}

// --- panics ---

/// Panics after it has waited.
struct PanicsLater(Arc<Semaphore>);

impl Action for PanicsLater {
    fn spec(&self) -> ActionSpec {
        named("panicsLater")
    }

    async fn run(&self, _: &mut Request) -> ActionResult {
        let _permit = self.0.acquire().await;
        panic!("an action of a test, later")
    }
}

#[test]
fn a_panic_anywhere_in_an_action_fails_that_request_and_nothing_else() {
    let gate = Arc::new(Semaphore::new(0));
    let (hold_action, begins, _) = Hold::new();
    let (server, mut client) = serve(|builder| {
        builder
            .action(act(named("panics"), |_| panic!("an action of a test")))
            .action(act(named("panicsLongRunning").long_running(), |_| panic!("a long-running action of a test")))
            .action(show(named("formats").input(Input::required("x").formatter(|_| panic!("a formatter of a test")))))
            .action(show(named("validates").input(Input::required("x").validator(|_| panic!("a validator of a test")))))
            .action(PanicsLater(Arc::clone(&gate)))
            .action(hold_action.clone())
    });
    let mut other = server.connect_into(1, &["defaultRoom"]).remove(0);
    client.ask("roomAdd defaultRoom");
    // Something is pending all the time.
    client.send(&hold("k"));
    next(&begins);
    let mut count = 2;
    for name in ["panics", "panicsLongRunning", "formats", "validates"] {
        for line in [json!({"action": name, "params": {"x": 1}}), json!({"action": name})] {
            count += 1;
            let answer = client.ask(&line.to_string());
            assert_eq!(answer, json!({"error": INTERNAL, "context": "response", "messageCount": count}), "{name}");
        }
    }
    client.send("panicsLater");
    assert_eq!(client.ask("detailsView")["data"]["pendingActions"], 2);
    gate.add_permits(1);
    assert_eq!(client.read_json(), json!({"error": INTERNAL, "context": "response", "messageCount": count + 1}));
    hold_action.release("k");
    assert_eq!(client.read_json()["messageCount"], 2);
    still_serves(&mut client);
    // The worker, its other connections and its rooms go on.
    assert_eq!(client.ask("say defaultRoom hi")["status"], "OK");
    assert_eq!(other.read_json()["message"], "hi");
    still_serves(&mut other);
}

// --- where and when they run ---

#[test]
fn an_action_that_is_ready_at_once_runs_on_the_worker_and_a_long_running_one_never() {
    let thread =
        |spec| act(spec, |_| Ok(Reply::new().with("thread", std::thread::current().name().unwrap_or("unnamed"))));
    let (_server, mut client) =
        serve(|builder| builder.action(thread(named("quick"))).action(thread(named("slow").long_running())));
    let thread = |client: &mut LineClient, name: &str| client.ask(name)["thread"].as_str().unwrap().to_owned();
    assert!(thread(&mut client, "quick").starts_with("worker-"));
    let slow = thread(&mut client, "slow");
    assert!(!slow.starts_with("worker-"), "{slow}");
}

#[test]
fn a_long_running_action_may_block_while_everybody_is_served() {
    let (begun, begins) = sync_channel(10);
    let (release, released) = sync_channel::<()>(10);
    let released = Mutex::new(released);
    let (server, mut client) = serve(|builder| {
        builder.action(act(named("compute").long_running(), move |_| {
            begun.send(()).unwrap();
            released.lock().unwrap().recv_timeout(PATIENCE).map_err(|error| error.to_string())?;
            Ok(Reply::new().with("computed", true))
        }))
    });
    let mut other = server.connect();
    client.send("compute");
    next(&begins);
    // Both are connections of the first worker.
    still_serves(&mut other);
    assert!(client.ask("randomNumber")["randomNumber"].is_number());
    assert_eq!(client.ask("detailsView")["data"]["pendingActions"], 1);
    release.send(()).unwrap();
    let answer = client.read_json();
    assert_eq!(answer, json!({"computed": true, "context": "response", "messageCount": 1}));
}

#[test]
fn long_running_actions_are_limited_over_all_connections_also_those_that_are_gone() {
    let (begun, begins) = sync_channel(10);
    let (release, released) = sync_channel::<()>(10);
    let released = Mutex::new(released);
    let server = TestServer::build(&["actions.long_running_max=1"], |builder| {
        builder.action(act(named("compute").long_running(), move |_| {
            begun.send(()).unwrap();
            released.lock().unwrap().recv_timeout(PATIENCE).map_err(|error| error.to_string())?;
            Ok(Reply::new())
        }))
    });
    let mut gone = server.connect();
    gone.send("compute");
    next(&begins);
    drop(gone);
    let mut client = server.connect();
    assert_eq!(client.ask("compute")["error"], "Error: the server is busy, try again later");
    still_serves(&mut client);
    release.send(()).unwrap();
    release.send(()).unwrap();
    eventually("its place is free again", || client.ask("compute").get("error").is_none());
}

#[test]
fn answers_come_in_the_order_of_finishing_each_with_its_own_number() {
    let (action, begins, _) = Hold::new();
    let (_server, mut client) = serve(|builder| builder.action(action.clone()));
    let keys = ["a", "b", "c", "d"];
    let lines: Vec<String> = keys.iter().map(|key| hold(key)).collect();
    client.send_together(&lines.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(keys.map(|_| next(&begins)), keys);
    for (key, count) in [("c", 3), ("a", 1), ("d", 4), ("b", 2)] {
        action.release(key);
        let answer = client.read_json();
        assert_eq!((&answer["saw"]["key"], &answer["messageCount"]), (&json!(key), &json!(count)));
    }
    client.expect_silence();
}

#[test]
fn more_pending_actions_than_the_limit_are_refused_at_once_for_that_connection_only() {
    let (action, begins, _) = Hold::new();
    let server = TestServer::build(&["actions.pending_max=2"], |builder| builder.action(action.clone()));
    let (mut client, mut other) = (server.connect(), server.connect());
    client.send_together(&[&hold("a"), &hold("b")]);
    next(&begins);
    next(&begins);
    for count in 3..=4 {
        let answer = client.ask("randomNumber");
        let refused =
            json!({"error": "Error: you have too many pending requests", "context": "response", "messageCount": count});
        assert_eq!(answer, refused);
    }
    assert_eq!(error(&mut client, "unknown"), "Error: you have too many pending requests", "it is looked at first");
    let details = client.ask("detailsView")["data"].clone();
    assert_eq!((&details["pendingActions"], &details["totalActions"]), (&json!(2), &json!(5)));
    assert_eq!(client.ask("roomAdd defaultRoom")["data"], true, "verbs are not refused");
    assert!(other.ask("randomNumber")["randomNumber"].is_number(), "others are not concerned");
    action.release("b");
    assert_eq!(client.read_json()["messageCount"], 2);
    assert!(client.ask("randomNumber")["randomNumber"].is_number(), "one has ended, so one may begin");
    action.release("a");
    assert_eq!(client.read_json()["messageCount"], 1);
    still_serves(&mut client);
}

#[test]
fn a_pending_limit_of_0_is_none() {
    let (action, begins, _) = Hold::new();
    let server = TestServer::build(&["actions.pending_max=0"], |builder| builder.action(action.clone()));
    let mut client = server.connect();
    for _ in 0..100 {
        client.send(&hold("all"));
    }
    for _ in 0..100 {
        next(&begins);
    }
    assert_eq!(client.ask("detailsView")["data"]["pendingActions"], 100);
    action.gate("all").add_permits(100);
    let mut counts: Vec<u64> = (0..100).map(|_| client.read_json()["messageCount"].as_u64().unwrap()).collect();
    counts.sort_unstable();
    assert_eq!(counts, (1..=100).collect::<Vec<_>>());
}

#[test]
fn a_running_action_keeps_the_params_it_started_with() {
    let (action, begins, _) = Hold::new();
    let (_server, mut client) = serve(|builder| builder.action(action.clone()));
    client.ask("paramAdd colour=red");
    client.ask("paramAdd key=k");
    client.send("hold");
    next(&begins);
    client.ask("paramAdd colour=blue");
    client.ask("paramDelete key");
    client.ask(r#"{"action":"randomNumber","params":{"colour":"green"}}"#);
    client.ask("paramsDelete");
    action.release("k");
    assert_eq!(client.read_json()["saw"], json!({"colour": "red", "key": "k", "action": "hold"}));
    assert_eq!(client.ask("paramsView")["data"], json!({}));
}

#[test]
fn an_action_goes_on_when_its_connection_ends_and_its_answer_is_dropped() {
    let (action, begins, ends) = Hold::new();
    let (server, mut client) = serve(|builder| builder.action(action.clone()));
    let mut other = server.connect();
    client.send(&hold("k"));
    next(&begins);
    drop(client);
    // The slot of the connection may be used again meanwhile; nobody else gets the answer.
    let mut newcomer = server.connect();
    action.release("k");
    assert_eq!(next(&ends), "k");
    newcomer.expect_silence();
    other.expect_silence();
    still_serves(&mut newcomer);
}

// --- what they may do ---

#[test]
fn state_that_an_action_sets_lets_the_next_room_add_pass() {
    let login = |spec: ActionSpec| {
        act(spec.input(Input::required("password")), |request| {
            if request.text("password")? != "secret" {
                return Err("wrong password".into());
            }
            request.connection().set("authorized", true)?;
            Ok(Reply::new().with("welcome", request.connection().id().to_string()))
        })
    };
    let rooms = r#"rooms.starting=[{ name = "secureRoom", auth = { authorized = true } }]"#;
    let server = TestServer::build(&[rooms], |builder| {
        builder.action(login(named("login"))).action(login(named("slowLogin").long_running()))
    });
    let mut client = server.connect();
    assert_eq!(client.ask("roomAdd secureRoom")["status"], "not authorized to join room");
    assert_eq!(error(&mut client, r#"{"action":"login","params":{"password":"guess"}}"#), "Error: wrong password");
    assert_eq!(client.ask("roomAdd secureRoom")["status"], "not authorized to join room");
    // In one segment: what is ready at once is done before the next line.
    client.send_together(&[r#"{"action":"login","params":{"password":"secret"}}"#, "roomAdd secureRoom"]);
    assert_eq!(client.read_json()["welcome"], server.id_of(&client).to_string());
    assert_eq!(client.read_json()["data"], true);
    // What is not, is done before its answer.
    let mut client = server.connect();
    assert!(client.ask(r#"{"action":"slowLogin","params":{"password":"secret"}}"#)["welcome"].is_string());
    assert_eq!(client.ask("roomAdd secureRoom")["data"], true);
}

/// Uses the node from inside an action, waiting for the very worker that called it.
struct Rearrange;

impl Action for Rearrange {
    fn spec(&self) -> ActionSpec {
        named("rearrange")
    }

    async fn run(&self, request: &mut Request) -> ActionResult {
        let (node, id) = (request.node().clone(), request.connection().id());
        node.add_room("made").await?;
        node.add_member(id, "made").await?;
        let rooms = node.connection(id).await?.rooms;
        node.send_message(id, json!({"direct": true})).await?;
        let number = node.broadcast(Speaker::named("action"), "made", "hello").await?;
        let status = node.room_status("made").await?;
        node.destroy_room("made").await?;
        Ok(Reply::new()
            .with("rooms", rooms.len())
            .with("number", number.unwrap_or_default())
            .with("members", status.members.len()))
    }
}

#[test]
fn an_action_may_ask_the_node_for_anything() {
    let (_server, mut client) = serve(|builder| builder.action(Rearrange));
    client.send("rearrange");
    assert_eq!(client.read_json(), json!({"direct": true}));
    let mut lines = [client.read_json(), client.read_json(), client.read_json()];
    // Answers are not ordered against room messages; those are, among themselves.
    lines.sort_by_key(|line| line["context"] == "response");
    assert_eq!((&lines[0]["message"], &lines[0]["from"]), (&json!("hello"), &json!("action")));
    assert_eq!((&lines[1]["message"], &lines[1]["from"]), (&json!("this room has been deleted"), &json!(0)));
    let expected = json!({"rooms": 1, "number": 1, "members": 1, "context": "response", "messageCount": 1});
    assert_eq!(lines[2], expected);
    still_serves(&mut client);
}

#[test]
fn the_setup_of_a_server_is_done_before_the_first_client() {
    let server = TestServer::build(&[], |builder| {
        builder.setup(|node| node.add_join_callback(100, |change| change.broadcast("welcome them")))
    });
    let mut members = server.connect_into(2, &["defaultRoom"]);
    assert_eq!(members[0].read_json()["message"], "welcome them");
}
