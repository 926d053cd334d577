//! Hooks over HTTP: a backend that lets pass, refuses and rewrites, and actions that it answers.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use switchboard::node::Speaker;
use switchboard::node::hooks::{SayMiddleware, Saying};
use switchboard::proto::call::CallError;
use switchboard::proto::close::CloseReason;
use switchboard::webhook::Hook;
use switchboard_testkit::client::{LineClient, PATIENCE};
use switchboard_testkit::raw_http::RawHttp;

use crate::gateway_rooms;
use crate::gateway_support::{APPLICATIONS, credentials};
use crate::http_backend::{Asked, Backend, Reaction, SECRET, yes};
use crate::peer::eventually;
use crate::rooms::{from, gone, hears, rooms_of};
use crate::support::TestServer;

/// A server with these hooks of the backend, and other settings.
fn start(backend: &Backend, hooks: &[&str], settings: &[&str]) -> TestServer {
    let mut all = vec![format!("hooks.secret={SECRET}"), "hooks.timeout=10s".to_owned()];
    all.extend(hooks.iter().map(|hook| backend.setting(hook)));
    all.extend(settings.iter().map(|&setting| setting.to_owned()));
    TestServer::with(&all.iter().map(String::as_str).collect::<Vec<_>>())
}

fn answers(status: u16, body: Value) -> Backend {
    Backend::start(move |_| Reaction::Json(status, body.clone()))
}

fn closed(server: &TestServer, reason: CloseReason) -> u64 {
    server.node().figures().closed[reason.index()]
}

/// A backend that answers one request for each permit, and lets it pass.
fn at_the_tests_pace() -> (Backend, SyncSender<Value>) {
    let (permit, permits) = sync_channel::<Value>(100);
    let permits: Mutex<Receiver<Value>> = Mutex::new(permits);
    let backend = Backend::start(move |_| {
        let answer = permits.lock().unwrap().recv_timeout(PATIENCE);
        Reaction::Json(200, answer.unwrap_or_else(|_| json!({"allow": false, "reason": "the test gave no permit"})))
    });
    (backend, permit)
}

/// The one line that somebody reads who is not let in.
#[track_caller]
fn turned_away(server: &TestServer) -> Value {
    let mut client = LineClient::tcp(server.address()).unwrap();
    let line = client.read_json();
    client.expect_fin();
    line
}

#[test]
fn a_page_reads_by_http_why_its_websocket_was_refused() {
    let ask = |server: &TestServer, target: &str, headers: &[&str]| {
        RawHttp::connect(server.web_address()).unwrap().request("GET", target, headers, b"")
    };
    const PAGE: &str = "https://app.example.org";
    let backend = answers(200, json!({"allow": false, "reason": "members only"}));
    let server = start(&backend, &["hooks.connect"], &[&format!("servers.web.allowed_origins=[\"{PAGE}\"]")]);
    let answer = ask(&server, "/primus?a=b&refusal=1", &[&format!("Origin: {PAGE}")]);
    assert_eq!((answer.status, answer.text()), (403, "members only"));
    assert_eq!(answer.header("content-type"), Some("text/plain; charset=utf-8"));
    assert_eq!(answer.header("x-content-type-options"), Some("nosniff"), "the reason may look like a page");
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    assert_eq!(answer.header("access-control-allow-origin"), Some(PAGE));
    assert_eq!(backend.next().json["connection"]["type"], "websocket");
    // Not a refused connection, only a question about one.
    assert_eq!(closed(&server, CloseReason::Refused), 0);
    // Without the question the backend is not asked.
    assert_eq!(ask(&server, "/primus", &[]).status, 426);
    let admitting = answers(200, json!({"allow": true}));
    let open = start(&admitting, &["hooks.connect"], &[]);
    assert_eq!((ask(&open, "/primus?refusal=1", &[]).status, open.node().figures().connections), (204, 0));
    let off = TestServer::with(&["servers.websocket.enabled=false"]);
    assert_eq!(ask(&off, "/primus?refusal=1", &[]).status, 404);
}

// --- what is asked ---

#[test]
fn every_question_is_signed_and_says_who_asks_what() {
    let backend = Backend::start(|asked| match asked.json["hook"].as_str() {
        Some("connect") => Reaction::Json(200, json!({"state": {"name": "Ada", "level": 3}})),
        _ => yes(),
    });
    let hooks = ["hooks.connect", "hooks.join", "hooks.say", "hooks.action", "hooks.leave"];
    let server = start(&backend, &hooks, &["node.name=web1", "hooks.leave.interval=1ms"]);
    let mut client = server.connect();
    let id = server.id_of(&client);
    let port = client.local_address().unwrap().port();
    client.ask("roomAdd defaultRoom");
    client.ask("say defaultRoom good evening");
    client.ask("paramAdd key=value");
    client.ask("randomNumber");
    client.ask("roomLeave defaultRoom");

    let connection = |state: Value| {
        json!({
            "id": id.to_string(), "type": "socket", "remoteIP": "127.0.0.1", "remotePort": port, "fingerprint": null,
            "user": null, "state": state,
        })
    };
    let state = json!({"name": "Ada", "level": 3});
    let expected = [
        json!({"hook": "connect", "connection": connection(json!({}))}),
        json!({
            "hook": "join", "connection": connection(state.clone()), "room": "defaultRoom", "purpose": "join",
        }),
        json!({"hook": "say", "connection": connection(state.clone()), "room": "defaultRoom", "message": "good evening"}),
        json!({
            "hook": "action", "connection": connection(state.clone()), "action": "randomNumber", "version": 1,
            "params": {"key": "value", "action": "randomNumber"},
        }),
        json!({
            "hook": "leave", "dropped": 0, "leaves": [{"connection": connection(state), "room": "defaultRoom"}],
        }),
    ];
    let mut deliveries = HashSet::new();
    for mut expected in expected {
        let mut asked = backend.next();
        asked.verify();
        assert_eq!(asked.header("content-type"), "application/json");
        assert_eq!(asked.header("switchboard-hook"), expected["hook"]);
        assert_eq!(asked.path, format!("/hooks.{}", expected["hook"].as_str().unwrap()));
        assert!(deliveries.insert(asked.header("switchboard-delivery").to_owned()));
        expected["node"] = "web1".into();
        take_times(&mut asked.json);
        assert_eq!(asked.json, expected);
    }
    for hook in Hook::ALL {
        let figures = server.node().hook_figures(hook);
        let expected = u64::from(hook != Hook::Remote);
        eventually("it is counted", || server.node().hook_figures(hook).answered == expected);
        assert_eq!((figures.failed, figures.not_asked, figures.dropped), (0, 0, 0));
    }
}

/// Removes the times of a question, which are near enough to now.
#[track_caller]
fn take_times(question: &mut Value) {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as u64;
    let near = |time: Option<Value>| {
        let time = time.and_then(|time| time.as_u64()).expect("a time");
        assert!(now.abs_diff(time) < 60_000, "{time}");
    };
    let members = question.as_object_mut().unwrap();
    near(members.remove("sentAt"));
    for leave in members.get_mut("leaves").and_then(Value::as_array_mut).into_iter().flatten() {
        near(leave.as_object_mut().unwrap().remove("leftAt"));
        near(leave["connection"].as_object_mut().unwrap().remove("connectedAt"));
    }
    if let Some(connection) = members.get_mut("connection").and_then(Value::as_object_mut) {
        near(connection.remove("connectedAt"));
    }
}

// --- connect ---

#[test]
fn who_is_not_let_in_reads_why_and_is_no_connection() {
    for (status, body, reason) in [
        (200, json!({"allow": false, "reason": "you are banned"}), "you are banned"),
        (200, json!({"allow": false}), "connection refused"),
        (403, json!({"reason": "not \"here\"\r\n"}), "not \"here\"\r\n"),
        (403, json!({"allow": true}), "connection refused"),
    ] {
        let backend = answers(status, body);
        let server = start(&backend, &["hooks.connect"], &[]);
        assert_eq!(turned_away(&server), json!({"error": reason, "context": "api"}));
        eventually("its end is counted", || closed(&server, CloseReason::Refused) == 1);
        let figures = server.node().figures();
        assert_eq!((figures.accepted, figures.connections), (0, 0));
        assert!(server.node().connection_ids().is_empty());
    }
}

#[test]
fn the_answer_to_connect_gives_a_connection_its_state() {
    let backend = answers(200, json!({"state": {"authorized": true, "nothing": null}}));
    let server = start(&backend, &["hooks.connect"], &[]);
    let node = server.node();
    server.wait(node.add_room("vip")).unwrap();
    server.wait(node.set_authentication_pattern("vip", "authorized", true)).unwrap();
    let mut client = server.connect_into(1, &["vip"]).remove(0);
    assert_eq!(rooms_of(&mut client), json!(["vip"]));
    let id = server.id_of(&client);
    let handle = server.wait(node.connection(id)).unwrap().handle;
    assert_eq!(handle.state().iter().collect::<Vec<_>>(), [("authorized", &json!(true))]);
}

#[test]
fn until_it_is_decided_nothing_is_said_and_nothing_is_read() {
    let (backend, permit) = at_the_tests_pace();
    let server = start(&backend, &["hooks.connect"], &[]);
    let mut client = LineClient::tcp(server.address()).unwrap();
    client.send_together(&["paramAdd a=b", "paramsView"]);
    backend.next();
    assert_eq!(server.node().figures().accepted, 0);
    permit.send(json!({})).unwrap();
    assert_eq!(client.read_json()["welcome"], "Hello! Welcome to the actionhero api");
    assert_eq!(client.read_json()["messageCount"], 1);
    assert_eq!(client.read_json()["data"], json!({"a": "b"}));
    assert_eq!(server.node().figures().accepted, 1);
}

#[test]
fn who_goes_before_it_is_decided_leaves_nothing_behind() {
    let (backend, permit) = at_the_tests_pace();
    let server = start(&backend, &["hooks.connect"], &[]);
    let client = LineClient::tcp(server.address()).unwrap();
    backend.next();
    drop(client);
    permit.send(json!({"state": {"name": "Ada"}})).unwrap();
    eventually("it has ended", || {
        let figures = server.node().figures();
        figures.connections == 0 && figures.closed.iter().sum::<u64>() == 1
    });
    assert!(server.node().connection_ids().is_empty());
}

#[test]
fn fault_row_37_a_planned_stop_does_not_wait_for_a_hook() {
    let (backend, _permit) = at_the_tests_pace();
    let server = start(&backend, &["hooks.connect"], &["node.drain_timeout=60s"]);
    let mut client = LineClient::tcp(server.address()).unwrap();
    backend.next();
    server.stop();
    assert_eq!(client.read_json()["status"], "Bye!");
    client.expect_fin();
}

// --- join ---

#[test]
fn a_join_is_asked_for_when_room_and_pattern_allow_it() {
    let backend = Backend::start(|asked| match asked.json["room"].as_str() {
        Some("defaultRoom") => yes(),
        Some("full") => Reaction::Json(200, json!({"allow": false, "reason": "the room is full"})),
        _ => Reaction::Json(403, json!({})),
    });
    let server = start(&backend, &["hooks.join"], &[]);
    let node = server.node();
    for room in ["full", "closed", "vip"] {
        server.wait(node.add_room(room)).unwrap();
    }
    server.wait(node.set_authentication_pattern("vip", "authorized", true)).unwrap();
    let mut client = server.connect();
    let id = server.id_of(&client);
    for (room, told) in [
        ("nowhere", "room does not exist"),
        ("vip", "not authorized to join room"),
        ("full", "the room is full"),
        ("closed", "not authorized to join room"),
        ("defaultRoom", "OK"),
        ("defaultRoom", "connection already in this room"),
    ] {
        assert_eq!(client.ask(&format!("roomAdd {room}"))["status"], told, "{room}");
    }
    let asked: Vec<Value> = (0..3).map(|_| backend.next().json["room"].take()).collect();
    assert_eq!(asked, ["full", "closed", "defaultRoom"]);
    assert_eq!(rooms_of(&mut client), json!(["defaultRoom"]));
    // The same for server code.
    let refused = server.wait(node.add_member(id, "full")).unwrap_err();
    assert!(matches!(refused, CallError::Refused(reason) if reason == "the room is full"));
    assert!(server.wait(node.room_status("full")).unwrap().members.is_empty());
}

#[test]
fn a_room_that_goes_while_its_join_is_decided_has_no_member() {
    let (backend, permit) = at_the_tests_pace();
    let server = start(&backend, &["hooks.join"], &[]);
    let node = server.node();
    let mut client = server.connect();
    client.send("roomAdd defaultRoom");
    backend.next();
    server.wait(node.destroy_room("defaultRoom")).unwrap();
    permit.send(json!({})).unwrap();
    assert_eq!(client.read_json()["status"], "room does not exist");

    server.wait(node.add_room("vip")).unwrap();
    client.send("roomAdd vip");
    backend.next();
    server.wait(node.set_authentication_pattern("vip", "authorized", true)).unwrap();
    permit.send(json!({})).unwrap();
    assert_eq!(client.read_json()["status"], "not authorized to join room");
    assert!(server.wait(node.room_status("vip")).unwrap().members.is_empty());
}

#[test]
fn who_loses_what_the_pattern_asks_for_while_his_join_is_decided_is_refused() {
    let (backend, permit) = at_the_tests_pace();
    let server = start(&backend, &["hooks.join"], &[]);
    let node = server.node();
    server.wait(node.set_authentication_pattern("defaultRoom", "authorized", true)).unwrap();
    let mut client = server.connect();
    let id = server.id_of(&client);
    node.set_connection_state(id, "authorized", true).unwrap();
    client.send("roomAdd defaultRoom");
    backend.next();
    node.set_connection_state(id, "authorized", false).unwrap();
    assert_eq!(server.wait(node.reauthenticate(id)).unwrap().removed, []);
    permit.send(json!({})).unwrap();
    assert_eq!(client.read_json()["status"], "not authorized to join room");
    assert_eq!(server.wait(node.room_status("defaultRoom")).unwrap().members, []);
}

#[test]
fn a_join_that_reauthenticate_has_ended_while_it_is_decided_does_not_go_on() {
    let (backend, permit) = at_the_tests_pace();
    let server = start(&backend, &["hooks.join"], &[]);
    let node = server.node();
    server.wait(node.set_authentication_pattern("defaultRoom", "authorized", true)).unwrap();
    let mut client = server.connect();
    let id = server.id_of(&client);
    node.set_connection_state(id, "authorized", true).unwrap();
    client.send("roomAdd defaultRoom");
    backend.next();
    node.set_connection_state(id, "authorized", false).unwrap();
    assert_eq!(server.wait(node.reauthenticate(id)).unwrap().removed, []);
    // The pattern would let the connection in again, but it has to ask again.
    node.set_connection_state(id, "authorized", true).unwrap();
    permit.send(json!({})).unwrap();
    assert_eq!(client.read_json()["status"], "not authorized to join room");
    assert!(server.wait(node.connection(id)).unwrap().rooms.is_empty());
}

#[test]
fn a_gateway_session_that_is_taken_out_while_its_join_is_decided_is_no_member() {
    let (backend, permit) = at_the_tests_pace();
    let server = start(&backend, &["hooks.join"], &[APPLICATIONS]);
    let mut bot = gateway_rooms::Bot::register(&server, &credentials());
    bot.client.send(&json!({"type": 10, "d": {"op": "join", "room": "defaultRoom"}}));
    backend.next();
    server.wait(server.node().remove_member(bot.id(), "defaultRoom")).expect("its join has ended");
    permit.send(json!({})).unwrap();
    let answer = bot.client.expect("GATEWAY_ROOM");
    assert_eq!((&answer["data"]["ok"], &answer["data"]["reason"]), (&json!(false), &json!("not_authorized")));
    assert_eq!(server.wait(server.node().room_status("defaultRoom")).unwrap().members, []);
}

#[test]
fn a_join_of_a_gateway_session_that_reauthenticate_has_ended_does_not_go_on() {
    let (backend, permit) = at_the_tests_pace();
    let server = start(&backend, &["hooks.join"], &[APPLICATIONS]);
    let node = server.node();
    server.wait(node.set_authentication_pattern("defaultRoom", "authorized", true)).unwrap();
    let mut bot = gateway_rooms::Bot::register(&server, &credentials());
    let carrier = node.connection_ids()[0];
    node.set_connection_state(carrier, "authorized", true).unwrap();
    bot.client.send(&json!({"type": 10, "d": {"op": "join", "room": "defaultRoom"}}));
    backend.next();
    node.set_connection_state(carrier, "authorized", false).unwrap();
    assert_eq!(server.wait(node.reauthenticate(bot.id())).unwrap().removed, []);
    node.set_connection_state(carrier, "authorized", true).unwrap();
    permit.send(json!({})).unwrap();
    let answer = bot.client.expect("GATEWAY_ROOM");
    assert_eq!((&answer["data"]["ok"], &answer["data"]["reason"]), (&json!(false), &json!("not_authorized")));
}

#[test]
fn a_connection_that_ends_while_its_join_is_decided_is_no_member() {
    let (backend, permit) = at_the_tests_pace();
    let server = start(&backend, &["hooks.join"], &[]);
    let node = server.node();
    let mut client = server.connect();
    let id = server.id_of(&client);
    client.send("roomAdd defaultRoom");
    backend.next();
    server.wait(node.disconnect(id)).unwrap();
    assert_eq!(client.read_json()["status"], "Bye!");
    client.expect_fin();
    drop(client);
    server.wait(gone(node, id));
    permit.send(json!({})).unwrap();
    eventually("the answer came", || node.hook_figures(Hook::Join).answered == 1);
    eventually("it is no member", || server.wait(node.room_status("defaultRoom")).unwrap().members.is_empty());
}

// --- say ---

#[test]
fn a_message_is_let_pass_refused_or_rewritten_before_it_has_a_number() {
    let backend = Backend::start(|asked| match asked.json["message"].as_str() {
        Some("bad") => Reaction::Json(200, json!({"allow": false, "reason": "mind your words"})),
        Some("worse") => Reaction::Json(403, json!({})),
        Some("plain") => Reaction::Json(200, json!({"message": {"shown": ["as", 1, "object"]}})),
        Some("same") => Reaction::Json(200, json!({"message": null})),
        _ => Reaction::Raw(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n".to_vec()),
    });
    let server = start(&backend, &["hooks.say"], &[]);
    let node = server.node();
    let mut members = server.connect_into(2, &["defaultRoom"]);
    let id = server.id_of(&members[0]);
    for (said, told) in
        [("bad", "mind your words"), ("worse", "message refused"), ("plain", "OK"), ("same", "OK"), ("fine", "OK")]
    {
        assert_eq!(members[0].ask(&format!("say defaultRoom {said}"))["status"], told, "{said}");
    }
    hears(&mut members[1], from(id), json!({"shown": ["as", 1, "object"]}));
    hears(&mut members[1], from(id), "same");
    hears(&mut members[1], from(id), "fine");
    assert_eq!(backend.others(), 5);
    // Refusals took no numbers, and the server's own words are not asked about.
    assert_eq!(server.wait(node.broadcast(Speaker::server(), "defaultRoom", "bad")).unwrap(), Some(4));
    hears(&mut members[1], 0, "bad");
    assert_eq!(backend.others(), 0);
    let refused = server.wait(node.broadcast(id, "defaultRoom", "bad")).unwrap_err();
    assert_eq!(refused.to_string(), "mind your words");
}

#[test]
fn a_slow_hook_keeps_the_order_of_a_connection_and_holds_up_nobody_else() {
    let (backend, permit) = at_the_tests_pace();
    let server = start(&backend, &["hooks.say"], &[]);
    let mut members = server.connect_into(2, &["defaultRoom"]);
    let id = server.id_of(&members[0]);
    members[0].send_together(&["say defaultRoom 1", "say defaultRoom 2", "say defaultRoom 3", "roomLeave defaultRoom"]);
    for number in ["1", "2", "3"] {
        assert_eq!(backend.next().json["message"], number);
        // The one before is not said before it is decided, and the next is not asked about before that.
        members[1].expect_silence();
        assert_eq!(backend.others(), 0);
        permit.send(json!({})).unwrap();
        hears(&mut members[1], from(id), number);
    }
    let told: Vec<Value> = (0..4).map(|_| members[0].read_json()["messageCount"].take()).collect();
    assert_eq!(told, [2, 3, 4, 5]);
}

/// Refuses what is too long.
struct Short;

impl SayMiddleware for Short {
    async fn say(&self, saying: &mut Saying) -> Result<(), String> {
        if saying.body().as_str().len() > 10 { Err("too long".to_owned()) } else { Ok(()) }
    }
}

#[test]
fn middleware_decides_before_the_backend_is_asked() {
    let backend = answers(200, json!({"message": "rewritten by the backend"}));
    let server = start(&backend, &["hooks.say"], &[]);
    server.node().add_say_middleware(1000, Short);
    let mut members = server.connect_into(2, &["defaultRoom"]);
    let id = server.id_of(&members[0]);
    assert_eq!(members[0].ask("say defaultRoom far too long")["status"], "too long");
    assert_eq!(members[0].ask("say defaultRoom short")["status"], "OK");
    hears(&mut members[1], from(id), "rewritten by the backend");
    assert_eq!(backend.others(), 1);
}

// --- leave ---

#[test]
fn fault_row_29_leaves_are_gathered_into_few_reports() {
    let (backend, permit) = at_the_tests_pace();
    let server = start(&backend, &["hooks.leave"], &["hooks.leave.interval=1ms"]);
    let clients = server.connect_into(100, &["defaultRoom"]);
    let ids: HashSet<String> = clients.iter().map(|client| server.id_of(client).to_string()).collect();
    drop(clients);
    let node = server.node();
    // However slow the backend is, nobody waits for it.
    eventually("all have left", || node.figures().connections == 0);
    let mut left = Vec::new();
    let mut reports = 0;
    while left.len() < 100 {
        let asked = backend.next();
        asked.verify();
        reports += 1;
        left.extend(asked.json["leaves"].as_array().unwrap().iter().map(|leave| leave["connection"]["id"].clone()));
        permit.send(json!({})).unwrap();
    }
    assert!(reports <= 2, "{reports}: what came while the first was under way is in the second");
    assert_eq!(left.iter().map(|id| id.as_str().unwrap().to_owned()).collect::<HashSet<_>>(), ids);
    assert_eq!(node.hook_figures(Hook::Leave).dropped, 0);
}

#[test]
fn leaves_that_are_lost_are_counted_and_told() {
    let failing = Arc::new(AtomicBool::new(true));
    let fails = Arc::clone(&failing);
    let backend = Backend::start(move |_| match fails.load(Ordering::SeqCst) {
        true => Reaction::Json(500, json!({})),
        false => yes(),
    });
    let server = start(&backend, &["hooks.leave"], &["hooks.leave.interval=1ms"]);
    let mut client = server.connect();
    let mut leave = || {
        client.ask("roomAdd defaultRoom");
        assert_eq!(client.ask("roomLeave defaultRoom")["data"], true);
    };
    for lost in 1..=2 {
        leave();
        assert_eq!(backend.next().json["dropped"], lost - 1);
        eventually("it is counted", || server.node().hook_figures(Hook::Leave).dropped == lost);
    }
    failing.store(false, Ordering::SeqCst);
    for dropped in [2, 0] {
        leave();
        let asked = backend.next();
        assert_eq!((&asked.json["dropped"], asked.json["leaves"].as_array().unwrap().len()), (&json!(dropped), 1));
        // The next leave goes into a report of its own.
        eventually("it arrived", || server.node().hook_figures(Hook::Leave).answered > u64::from(dropped == 0));
    }
}

#[test]
fn leaves_wait_while_the_backend_is_left_alone() {
    let failures = AtomicUsize::new(0);
    let backend = Backend::start(move |_| match failures.fetch_add(1, Ordering::SeqCst) {
        0 => Reaction::Json(500, json!({})),
        _ => yes(),
    });
    let settings = ["hooks.leave.interval=1ms", "hooks.breaker_failures=1", "hooks.breaker_pause=200ms"];
    let server = start(&backend, &["hooks.leave"], &settings);
    let mut client = server.connect();
    let figures = || server.node().hook_figures(Hook::Leave);
    let mut leave = || {
        client.ask("roomAdd defaultRoom");
        assert_eq!(client.ask("roomLeave defaultRoom")["data"], true);
    };
    leave();
    backend.next();
    eventually("the first is lost, and the pause begins", || figures().failed == 1);
    leave();
    let asked = backend.next();
    assert_eq!((&asked.json["dropped"], asked.json["leaves"].as_array().unwrap().is_empty()), (&json!(1), false));
    assert_eq!((figures().dropped, figures().not_asked), (1, 0));
}

#[test]
fn a_planned_stop_reports_who_left_because_of_it() {
    let backend = answers(200, json!({}));
    let server = start(&backend, &["hooks.leave"], &["servers.socket.close_linger=10ms"]);
    let clients = server.connect_into(3, &["defaultRoom"]);
    server.stop();
    let mut left = 0;
    while left < 3 {
        left += backend.next().json["leaves"].as_array().unwrap().len();
    }
    drop(clients);
}

// --- actions ---

fn remote(backend: &Backend) -> String {
    let url = backend.url("score");
    format!(
        "actions.remote=[{{name=\"score\",url=\"{url}\",description=\"Counts\",required=[\"player\"],optional=[\"since\"]}}]"
    )
}

/// Answers `score` as a real backend might.
fn scores(asked: &Asked) -> Reaction {
    match asked.json["params"]["player"].as_str() {
        Some("ada") => Reaction::Json(200, json!({"score": 7, "of": asked.json["params"]["player"]})),
        Some("bob") => Reaction::Json(200, json!({"error": "bob does not play", "known": ["ada"]})),
        Some("eve") => Reaction::Json(403, json!({"reason": "not for you"})),
        _ => Reaction::Json(500, json!({})),
    }
}

#[test]
fn an_action_of_a_backend_is_an_action_like_any_other() {
    let backend = Backend::start(scores);
    let server = start(&backend, &[], &[&remote(&backend)]);
    let mut client = server.connect();
    let expected = json!({"score": 7, "of": "ada", "context": "response", "messageCount": 1});
    assert_eq!(client.ask(r#"{"action":"score","params":{"player":"ada"}}"#), expected);
    let asked = backend.next();
    asked.verify();
    assert_eq!(asked.header("switchboard-hook"), "remote");
    assert_eq!((&asked.json["action"], &asked.json["version"]), (&json!("score"), &json!(1)));
    assert_eq!(asked.json["params"], json!({"player": "ada", "action": "score"}));

    let mut fail = |player: &str| client.ask(&format!(r#"{{"action":"score","params":{{"player":"{player}"}}}}"#));
    let failed = fail("bob");
    assert_eq!((&failed["error"], &failed["known"]), (&json!("Error: bob does not play"), &json!(["ada"])));
    assert_eq!(fail("eve")["error"], "Error: not for you");
    assert_eq!(fail("mallory")["error"], "Error: unavailable");
    assert_eq!(backend.others(), 3);
    // An input that is missing is told before anybody is asked.
    assert_eq!(fail("")["error"], "Error: player is a required parameter for this action");
    assert_eq!(backend.others(), 0);
    let documentation: Value = serde_json::from_str(server.node().documentation().as_str()).unwrap();
    let documentation = &documentation["score"]["1"];
    assert_eq!(documentation["description"], "Counts");
    assert_eq!(documentation["inputs"], json!({"required": ["player"], "optional": ["since"]}));
}

#[test]
fn an_action_of_a_backend_cannot_take_the_name_of_another() {
    let config = crate::support::config(&[
        &format!("hooks.secret={SECRET}"),
        "actions.remote=[{name=\"status\",url=\"http://127.0.0.1:1/\"}]",
    ]);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let error = runtime.block_on(switchboard::Server::builder(config).start()).unwrap_err();
    assert_eq!(error.to_string(), "action status version 1 is registered twice");
}

#[test]
fn a_slow_action_of_a_backend_is_overtaken() {
    let (backend, permit) = at_the_tests_pace();
    let server = start(&backend, &[], &[&remote(&backend)]);
    let mut client = server.connect();
    client.send(r#"{"action":"score","params":{"player":"ada"}}"#);
    backend.next();
    assert_eq!(client.ask("randomNumber")["messageCount"], 2);
    permit.send(json!({"late": true})).unwrap();
    let answer = client.read_json();
    assert_eq!((&answer["late"], &answer["messageCount"]), (&json!(true), &json!(1)));
}

#[test]
fn the_action_hook_refuses_and_changes_params_of_every_action() {
    let backend = Backend::start(|asked| match (asked.json["hook"].as_str(), asked.json["action"].as_str()) {
        (Some("remote"), _) => scores(asked),
        (_, Some("status")) => Reaction::Json(200, json!({"allow": false, "reason": "not you"})),
        (_, Some("randomNumber")) => Reaction::Json(403, json!({})),
        (_, Some("cacheTest")) => Reaction::Json(200, json!({"params": {"value": "rewritten"}})),
        (_, Some("score")) => Reaction::Json(200, json!({"params": {"player": "ada", "since": null}})),
        _ => yes(),
    });
    let server = start(&backend, &["hooks.action"], &[&remote(&backend)]);
    let mut client = server.connect();
    assert_eq!(client.ask("status")["error"], "Error: not you");
    assert_eq!(client.ask("randomNumber")["error"], "Error: refused");
    let cached = client.ask(r#"{"action":"cacheTest","params":{"key":"k","value":"v"}}"#);
    assert_eq!(cached["cacheTestResults"]["loadResp"]["value"], "rewritten");
    assert_eq!(client.ask("paramView value")["data"], "v", "what sticks to the connection is the client's");
    let scored = client.ask(r#"{"action":"score","params":{"player":"mallory","since":"1"}}"#);
    assert_eq!(scored["of"], "ada");
    let asked: Vec<Asked> = (0..5).map(|_| backend.next()).collect();
    assert_eq!(asked[4].json["params"], json!({"player": "ada", "action": "score"}));
    // What does not exist is told without asking.
    assert_eq!(client.ask("nothing")["error"], "Error: unknown action or invalid apiVersion");
    assert_eq!(backend.others(), 0);
}
