//! The admin API: what each route does, seen by the clients that it concerns, and what it says of itself.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use switchboard_testkit::http::{HttpAnswer, HttpClient};

use super::peer::eventually;
use super::support::TestServer;

pub(crate) const TOKEN: &str = "correct-horse-battery-staple";

/// A server with an admin API, and an operator.
pub(crate) fn start(settings: &[&str]) -> (TestServer, HttpClient) {
    let token = format!("admin.token={TOKEN}");
    let server = TestServer::with(&[&["admin.enabled=true", "admin.port=0", &token], settings].concat());
    let operator = anybody(&server).with_token(TOKEN);
    (server, operator)
}

/// Somebody without the token.
pub(crate) fn anybody(server: &TestServer) -> HttpClient {
    HttpClient::new(server.server().addresses().admin.expect("it listens"))
}

fn texts(list: &Value) -> Vec<&str> {
    list.as_array().expect("a list").iter().map(|text| text.as_str().expect("a text")).collect()
}

#[test]
fn rooms_are_made_shown_listed_and_destroyed() {
    let (server, operator) = start(&["limits.max_rooms=3"]);
    let made = operator.send("POST", "/v1/rooms", &json!({"room": "zwei Wörter/%"}));
    let empty = json!({"room": "zwei Wörter/%", "members": {}, "membersCount": 0, "auth": null});
    assert_eq!(made.expect(201), empty);
    assert_eq!(operator.send("POST", "/v1/rooms", &json!({"room": "zwei Wörter/%"})).expect(200), empty);
    operator.send("POST", "/v1/rooms", &json!({"room": "lobby"})).expect(201);
    operator.send("POST", "/v1/rooms", &json!({"room": "more"})).expect_error(409, "too_many_rooms");

    let mut client = server.connect_into(1, &["lobby"]).remove(0);
    let id = server.id_of(&client).to_string();
    let lobby = operator.ask("GET", "/v1/rooms/lobby").expect(200);
    let joined_at = lobby["members"][&id]["joinedAt"].clone();
    assert!(joined_at.is_u64(), "{lobby}");
    assert_eq!(lobby["members"], json!({&id: {"id": id, "joinedAt": joined_at}}));
    assert_eq!((&lobby["membersCount"], &lobby["room"]), (&json!(1), &json!("lobby")));
    let list = operator.ask("GET", "/v1/rooms").expect(200);
    let listed = json!([
        {"room": "defaultRoom", "membersCount": 0, "auth": null},
        {"room": "lobby", "membersCount": 1, "auth": null},
        {"room": "zwei Wörter/%", "membersCount": 0, "auth": null},
    ]);
    assert_eq!(list, json!({"items": listed, "cursor": null}));

    assert_eq!(operator.ask("DELETE", "/v1/rooms/lobby").expect(200), json!({"room": "lobby"}));
    assert_eq!(client.read_json()["message"], "this room has been deleted");
    assert_eq!(client.ask("detailsView")["data"]["rooms"], json!([]));
    operator.ask("DELETE", "/v1/rooms/zwei%20W%C3%B6rter%2F%25").expect(200);
    for path in ["/v1/rooms/lobby", "/v1/rooms/zwei%20W%C3%B6rter%2F%25", "/v1/rooms/%07", "/v1/rooms/%20"] {
        operator.ask("GET", path).expect_error(404, "room_not_found");
        operator.ask("DELETE", path).expect_error(404, "room_not_found");
    }
    for name in ["", "a\u{1b}[31m", &"x".repeat(129)] {
        operator.send("POST", "/v1/rooms", &json!({"room": name})).expect_error(400, "invalid_request");
    }
}

#[test]
fn lists_come_in_parts_that_neither_repeat_nor_miss_anything() {
    let (server, operator) = start(&[]);
    for index in 0..7 {
        operator.send("POST", "/v1/rooms", &json!({"room": format!("room-{index}")})).expect(201);
    }
    let clients = server.connect_into(5, &["room-1"]);
    for (path, key, count) in [("/v1/rooms", "room", 8), ("/v1/connections", "id", 5), ("/v1/nodes", "name", 1)] {
        for limit in [1, 2, 3, 100] {
            let mut seen = Vec::new();
            let mut query = format!("?limit={limit}");
            loop {
                let part = operator.ask("GET", &format!("{path}{query}")).expect(200);
                let items = part["items"].as_array().unwrap();
                assert!(items.len() <= limit, "{part}");
                seen.extend(items.iter().map(|item| item[key].as_str().unwrap().to_owned()));
                match part["cursor"].as_str() {
                    Some(cursor) => query = format!("?limit={limit}&cursor={cursor}"),
                    None => break,
                }
            }
            assert_eq!(seen.len(), count, "{path} {limit}");
            assert!(seen.is_sorted() && seen.iter().collect::<BTreeSet<_>>().len() == count, "{path} {seen:?}");
        }
        for odd in ["limit=0", "limit=1001", "limit=-1", "limit=x", "cursor=lobby", "cursor=0", "cursor=ff"] {
            operator.ask("GET", &format!("{path}?{odd}")).expect_error(400, "invalid_request");
        }
        let message = operator.ask("GET", &format!("{path}?limitt=1")).expect_error(400, "invalid_request");
        assert!(message.contains("limitt"), "{message}");
    }
    drop(clients);
}

#[test]
fn a_pattern_decides_who_may_join_and_members_are_looked_at_again() {
    let (server, operator) = start(&[]);
    let mut clients = server.connect_into(2, &["defaultRoom"]);
    let ids: Vec<String> = clients.iter().map(|client| server.id_of(client).to_string()).collect();
    let paths: Vec<String> = ids.iter().map(|id| format!("/v1/rooms/defaultRoom/members/{id}")).collect();
    operator.send("PATCH", &format!("/v1/connections/{}", ids[0]), &json!({"state": {"level": 3}})).expect(200);

    let auth =
        |value: Value| operator.send("PUT", "/v1/rooms/defaultRoom/auth", &json!({"key": "level", "value": value}));
    let room = auth(json!(3)).expect(200);
    assert_eq!((&room["auth"], &room["membersCount"]), (&json!({"level": 3}), &json!(1)));
    assert_eq!(clients[1].ask("detailsView")["data"]["rooms"], json!([]));
    assert_eq!(clients[0].ask("detailsView")["data"]["rooms"], json!(["defaultRoom"]));
    operator.ask("PUT", &paths[1]).expect_error(403, "not_authorized");
    assert_eq!(clients[1].ask("roomAdd defaultRoom")["status"], "not authorized to join room");
    assert_eq!(auth(json!("3")).expect(200)["membersCount"], 0);

    let cleared = operator.ask("DELETE", "/v1/rooms/defaultRoom/auth").expect(200);
    assert_eq!((&cleared["auth"], &cleared["membersCount"]), (&json!(null), &json!(0)));
    operator.ask("PUT", &paths[1]).expect(201);

    for odd in [json!(null), json!([1]), json!({})] {
        auth(odd).expect_error(400, "invalid_request");
    }
    let no_key = json!({"key": "", "value": 1});
    operator.send("PUT", "/v1/rooms/defaultRoom/auth", &no_key).expect_error(400, "invalid_request");
    let pair = json!({"key": "a", "value": 1});
    operator.send("PUT", "/v1/rooms/nowhere/auth", &pair).expect_error(404, "room_not_found");
    operator.ask("DELETE", "/v1/rooms/nowhere/auth").expect_error(404, "room_not_found");
}

#[test]
fn members_are_added_and_removed() {
    let (server, operator) = start(&["limits.max_rooms_per_connection=1"]);
    let mut client = server.connect();
    let id = server.id_of(&client).to_string();
    let path = format!("/v1/rooms/defaultRoom/members/{id}");
    let membership = json!({"room": "defaultRoom", "connection": id});
    assert_eq!(operator.ask("PUT", &path).expect(201), membership);
    assert_eq!(
        operator
            .ask("PUT", &path.to_uppercase().replace("/V1/ROOMS/DEFAULTROOM/MEMBERS", "/v1/rooms/defaultRoom/members"))
            .expect(200),
        membership
    );
    assert_eq!(client.ask("detailsView")["data"]["rooms"], json!(["defaultRoom"]));
    operator.send("POST", "/v1/rooms", &json!({"room": "second"})).expect(201);
    operator.ask("PUT", &format!("/v1/rooms/second/members/{id}")).expect_error(409, "too_many_rooms");

    assert_eq!(operator.ask("DELETE", &path).expect(200), membership);
    assert_eq!(client.ask("detailsView")["data"]["rooms"], json!([]));
    operator.ask("DELETE", &path).expect_error(404, "not_member");
    for method in ["PUT", "DELETE"] {
        let elsewhere = format!("/v1/rooms/nowhere/members/{id}");
        operator.ask(method, &elsewhere).expect_error(404, "room_not_found");
        for nobody in ["00000000-0000-4000-8000-000000000000", "me", "%00"] {
            let path = format!("/v1/rooms/defaultRoom/members/{nobody}");
            operator.ask(method, &path).expect_error(404, "connection_not_found");
        }
    }
}

#[test]
fn a_broadcast_reaches_the_members_under_the_name_that_was_given() {
    let (server, operator) = start(&[]);
    let mut clients = server.connect_into(2, &["defaultRoom"]);
    let speaker = server.id_of(&clients[0]).to_string();
    let say = |body: Value| operator.send("POST", "/v1/rooms/defaultRoom/broadcast", &body);
    let bodies = [json!("good evening"), json!({"any": ["JSON", 1.5, null]}), json!(0), json!(false)];
    for (index, message) in bodies.iter().enumerate() {
        assert_eq!(say(json!({"message": message})).expect(200), json!({"number": index + 1}));
        for client in &mut clients {
            let heard = client.read_json();
            assert_eq!(
                (&heard["message"], &heard["from"], &heard["room"]),
                (message, &json!(0), &json!("defaultRoom"))
            );
        }
    }
    say(json!({"message": "as butler", "from": "butler"})).expect(200);
    for client in &mut clients {
        assert_eq!(client.read_json()["from"], "butler");
    }
    say(json!({"message": "for a member", "from": speaker})).expect(200);
    assert_eq!(clients[1].read_json()["from"], speaker.as_str());
    clients[0].expect_silence();

    for odd in [json!({"message": null}), json!({"message": ""}), json!({}), json!({"from": "butler"})] {
        say(odd).expect_error(400, "invalid_request");
    }
    let nowhere = operator.send("POST", "/v1/rooms/nowhere/broadcast", &json!({"message": 1}));
    nowhere.expect_error(404, "room_not_found");
}

#[test]
fn say_middleware_may_refuse_a_broadcast() {
    let (server, operator) = start(&[]);
    server.node().add_say_middleware(100, Deaf);
    let refused = operator.send("POST", "/v1/rooms/defaultRoom/broadcast", &json!({"message": 1}));
    assert_eq!(refused.expect_error(403, "refused"), "nobody listens");
}

struct Deaf;

impl switchboard::SayMiddleware for Deaf {
    async fn say(&self, _: &mut switchboard::Saying) -> Result<(), String> {
        Err("nobody listens".to_owned())
    }
}

#[test]
fn a_connection_shows_its_facts_and_what_only_the_server_says() {
    let (server, operator) = start(&["node.name=here"]);
    let mut client = server.connect_into(1, &["defaultRoom"]).remove(0);
    let id = server.id_of(&client).to_string();
    let path = format!("/v1/connections/{id}");
    let details = client.ask("detailsView")["data"].clone();
    let mut expected = json!({
        "id": id,
        "type": "socket",
        "user": null,
        "remoteIP": "127.0.0.1",
        "remotePort": client.local_address().unwrap().port(),
        "connectedAt": details["connectedAt"],
        "fingerprint": details["fingerprint"],
        "rooms": ["defaultRoom"],
        "tags": [],
        "node": "here",
        "state": {},
        "outboxBytes": 0,
        "shardHash": null,
        "client": null,
    });
    assert_eq!(operator.ask("GET", &path).expect(200), expected);
    assert_eq!(operator.ask("GET", "/v1/connections").expect(200), json!({"items": [expected], "cursor": null}));

    let change = json!({"state": {"authorized": true, "level": 1.5}, "user": "u1", "tags": ["beta", "b", "beta"]});
    expected["state"] = json!({"authorized": true, "level": 1.5});
    expected["user"] = json!("u1");
    expected["tags"] = json!(["beta", "b"]);
    assert_eq!(operator.send("PATCH", &path, &change).expect(200), expected);
    let change = json!({"state": {"authorized": null, "name": "n"}, "user": null, "tags": []});
    expected["state"] = json!({"level": 1.5, "name": "n"});
    expected["user"] = json!(null);
    expected["tags"] = json!([]);
    assert_eq!(operator.send("PATCH", &path, &change).expect(200), expected);
    assert_eq!(operator.send("PATCH", &path, &json!({})).expect(200), expected);

    let tags: Vec<String> = (0..65).map(|index| index.to_string()).collect();
    for odd in [
        json!({"state": {"ok": 1, "id": 1}, "user": "u2", "tags": ["t"]}),
        json!({"state": {"ok": [1]}, "user": "u2"}),
        json!({"state": {"ok": "x".repeat(16 * 1024)}}),
        json!({"state": {"ok": 1}, "user": "a/b"}),
        json!({"state": {"ok": 1}, "user": ""}),
        json!({"state": {"ok": 1}, "user": "\u{1b}[31m"}),
        json!({"state": {"ok": 1}, "tags": [""]}),
        json!({"state": {"ok": 1}, "tags": ["\n"]}),
        json!({"state": {"ok": 1}, "tags": tags}),
        json!({"state": {"ok": 1}, "tags": null}),
        json!({"state": null}),
        json!({"state": {"ok": 1}, "reauthenticate": "yes"}),
        json!([]),
        json!(null),
    ] {
        operator.send("PATCH", &path, &odd).expect_error(400, "invalid_request");
        assert_eq!(operator.ask("GET", &path).expect(200), expected, "nothing has changed: {odd}");
    }
    let message = operator.send("PATCH", &path, &json!({"sate": {}})).expect_error(400, "invalid_request");
    assert!(message.contains("`sate`") && message.contains("/v1/openapi.json"), "{message}");
    for nobody in ["00000000-0000-4000-8000-000000000000", "me"] {
        let path = format!("/v1/connections/{nobody}");
        operator.ask("GET", &path).expect_error(404, "connection_not_found");
        operator.ask("DELETE", &path).expect_error(404, "connection_not_found");
        operator.send("PATCH", &path, &json!({"user": "u1"})).expect_error(404, "connection_not_found");
        operator.ask("POST", &format!("{path}/reauthenticate")).expect_error(404, "connection_not_found");
        let message = operator.send("POST", &format!("{path}/message"), &json!({"message": 1}));
        message.expect_error(404, "connection_not_found");
    }
}

#[test]
fn a_change_moves_nobody_unless_it_is_asked_to() {
    let (server, operator) =
        start(&[r#"rooms.starting=[{name="open"},{name="staff",auth={staff=true}},{name="mine",auth={user="u1"}}]"#]);
    let mut client = server.connect();
    let path = format!("/v1/connections/{}", server.id_of(&client));
    operator.send("PATCH", &path, &json!({"state": {"staff": true}, "user": "u1"})).expect(200);
    for room in ["open", "staff", "mine"] {
        assert_eq!(client.ask(&format!("roomAdd {room}"))["data"], true);
    }
    let changed = operator.send("PATCH", &path, &json!({"state": {"staff": null}})).expect(200);
    assert_eq!(changed["rooms"], json!(["open", "staff", "mine"]));
    let looked = operator.ask("POST", &format!("{path}/reauthenticate")).expect(200);
    assert_eq!(looked, json!({"rooms": ["open", "mine"], "removed": ["staff"]}));
    let looked = operator.send("PATCH", &path, &json!({"user": "u2", "reauthenticate": true})).expect(200);
    assert_eq!(looked, json!({"rooms": ["open"], "removed": ["mine"]}));
    assert_eq!(client.ask("detailsView")["data"]["rooms"], json!(["open"]));
}

#[test]
fn one_client_is_told_something_and_is_ended() {
    let (server, operator) = start(&[]);
    let mut client = server.connect();
    let mut other = server.connect();
    let id = server.id_of(&client).to_string();
    let path = format!("/v1/connections/{id}");
    for message in [json!({"news": "dinner"}), json!("text"), json!(null), json!([1, 2])] {
        let sent = operator.send("POST", &format!("{path}/message"), &json!({"message": message}));
        assert_eq!(sent.expect(200), json!({"id": id}));
        let heard = client.read_line();
        assert!(heard.contains(&message.to_string()), "{heard}");
    }
    other.expect_silence();
    let nothing = operator.send("POST", &format!("{path}/message"), &json!({}));
    nothing.expect_error(400, "invalid_request");

    assert_eq!(operator.ask("DELETE", &path).expect(200), json!({"id": id}));
    assert_eq!(client.read_json()["status"], "Bye!");
    client.expect_fin();
    drop(client);
    eventually("the connection is gone", || operator.ask("GET", &path).status == 404);
    assert_eq!(operator.ask("GET", "/v1/node").expect(200)["closed"]["removed"], 1);
    other.expect_silence();
}

#[test]
fn the_node_shows_its_figures() {
    let (server, operator) = start(&["node.name=here"]);
    let mut clients = server.connect_into(3, &["defaultRoom"]);
    assert_eq!(clients[0].ask("say defaultRoom hello")["status"], "OK");
    for client in &mut clients[1..] {
        client.read_json();
    }
    assert_eq!(clients[0].ask(r#"setCustomClientData {"commands":true}"#)["status"], "OK");
    let mut node = operator.ask("GET", "/v1/node").expect(200);
    for clock in ["startedAt", "uptimeMs"] {
        assert!(node[clock].is_u64(), "{node}");
        node.as_object_mut().unwrap().remove(clock);
    }
    let commands = &node["commands"];
    assert_eq!((&commands["pending"], &commands["sessions"], &commands["refused"]), (&json!(0), &json!(1), &json!(0)));
    for (figure, names) in [
        ("settled", &["cancelled", "disconnected", "no_recipient", "overflow", "replied", "shutdown", "timeout"][..]),
        ("replies", &["counted", "duplicate", "foreign", "late", "too_large", "unknown"]),
    ] {
        let expected: BTreeMap<_, _> = names.iter().map(|name| (*name, 0)).collect();
        assert_eq!(commands[figure], json!(expected));
    }
    let closed = &node["closed"];
    assert!(closed.as_object().unwrap().values().all(|count| count == 0) && closed["client_left"] == 0, "{node}");
    let expected = json!({
        "name": "here", "version": env!("CARGO_PKG_VERSION"), "state": "running", "connections": 3,
        "connectionsByType": {"ddp": 0, "gateway": 0, "socket": 3, "web": 0, "websocket": 0}, "accepted": 3, "closed": closed,
        "rooms": 1, "members": 3, "published": 1, "delivered": 2, "commands": commands,
    });
    assert_eq!(node, expected);
    let nodes = json!([{"name": "here", "version": env!("CARGO_PKG_VERSION"), "state": "running", "connections": 3}]);
    assert_eq!(operator.ask("GET", "/v1/nodes").expect(200), json!({"items": nodes, "cursor": null}));
}

#[test]
fn while_it_stops_it_says_that_it_is_not_ready_and_ends_with_the_drain() {
    let (mut server, operator) = start(&["node.drain_timeout=60s", "servers.socket.shutdown_wait=60s"]);
    let somebody = anybody(&server);
    let ready = json!({"status": "ready"});
    assert_eq!(somebody.ask("GET", "/readyz").expect(200), ready);
    assert_eq!(operator.ask("GET", "/readyz").expect(200), json!({"status": "ready", "reasons": []}));
    let mut busy = server.connect();
    busy.ask("paramAdd sleepDuration=60000");
    busy.send("sleepTest");
    busy.ask("paramsView");

    let stopping = server.begin_stop();
    eventually("it is not ready", || somebody.ask("GET", "/readyz").status == 503);
    assert_eq!(somebody.ask("GET", "/readyz").expect(503), json!({"status": "not_ready"}));
    let told = operator.ask("GET", "/readyz").expect(503);
    assert_eq!(told, json!({"status": "not_ready", "reasons": ["draining"]}));
    assert_eq!(somebody.ask("GET", "/livez").expect(200), json!({"status": "alive"}));
    assert_eq!(operator.ask("GET", "/v1/node").expect(200)["state"], "draining");
    drop(busy);
    server.wait(stopping).unwrap();
}

#[test]
fn metrics_are_what_prometheus_reads_and_what_the_page_explains() {
    let (server, operator) = start(&[]);
    let mut clients = server.connect_into(2, &["defaultRoom"]);
    assert_eq!(clients[0].ask("say defaultRoom hello")["status"], "OK");
    clients[1].read_json();
    clients[1].ask(r#"setCustomClientData {"commands":true}"#);
    let id = server.id_of(&clients[1]).to_string();
    let asking = {
        let (operator, body) = (operator.clone(), json!({"target": {"connection": id}, "command": {"key": "k"}}));
        std::thread::spawn(move || operator.send("POST", "/v1/commands", &body))
    };
    let command = clients[1].read_json();
    for is_first in [true, false] {
        let reply = format!(r#"replyClientCommand {} {{"success":false}}"#, command["_id"].as_str().unwrap());
        assert_eq!(clients[1].ask(&reply)["data"], is_first);
    }
    asking.join().unwrap().expect(200);
    let answer = operator.ask("GET", "/metrics");
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("text/plain; version=0.0.4; charset=utf-8")));
    let figures = parse_metrics(&answer.body);
    for (sample, value) in [
        ("switchboard_ready", 1.0),
        (r#"switchboard_connections{type="socket"}"#, 2.0),
        ("switchboard_connections_accepted_total", 2.0),
        (r#"switchboard_connections_closed_total{reason="client_left"}"#, 0.0),
        ("switchboard_rooms", 1.0),
        ("switchboard_members", 2.0),
        ("switchboard_messages_published_total", 1.0),
        ("switchboard_messages_delivered_total", 1.0),
        ("switchboard_admin_unauthenticated_total", 0.0),
        ("switchboard_commands_pending", 0.0),
        ("switchboard_command_sessions", 1.0),
        (r#"switchboard_commands_settled_total{key="other",outcome="replied"}"#, 1.0),
        (r#"switchboard_commands_settled_total{key="heartbeat",outcome="timeout"}"#, 0.0),
        ("switchboard_command_deliveries_total", 1.0),
        (r#"switchboard_command_replies_total{kind="counted"}"#, 1.0),
        (r#"switchboard_command_replies_total{kind="duplicate"}"#, 1.0),
        ("switchboard_command_client_errors_total", 1.0),
        (r#"switchboard_command_latency_seconds_bucket{key="other",le="+Inf"}"#, 1.0),
        (r#"switchboard_command_latency_seconds_count{key="other"}"#, 1.0),
    ] {
        assert_eq!(figures.get(sample), Some(&value), "{sample} in {figures:?}");
    }

    // No name that anybody chose is in it, and nothing that they do adds a line.
    operator.send("POST", "/v1/rooms", &json!({"room": "chosen"})).expect(201);
    let path = format!("/v1/connections/{}", server.id_of(&clients[0]));
    operator.send("PATCH", &path, &json!({"user": "chosen", "tags": ["chosen"]})).expect(200);
    anybody(&server).ask("GET", "/v1/rooms").expect_error(401, "unauthenticated");
    let later = parse_metrics(&operator.ask("GET", "/metrics").body);
    assert!(later.keys().eq(figures.keys()), "{later:?}");
    assert_eq!(later["switchboard_admin_unauthenticated_total"], 1.0);
    assert_eq!(later[r#"switchboard_admin_requests_total{class="4xx"}"#], 1.0);

    let page = include_str!("../../../../docs/reference/metrics.md");
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `switchboard_")?.split_once("` | "));
    let explained: BTreeSet<&str> = rows
        .filter(|(_, rest)| ["counter", "gauge", "histogram"].iter().any(|kind| rest.starts_with(kind)))
        .map(|(name, _)| name)
        .collect();
    let names: BTreeSet<&str> =
        figures.keys().filter_map(|sample| family(sample.split('{').next()?).strip_prefix("switchboard_")).collect();
    assert_eq!(explained, names);
}

/// What a sample belongs to: those of a histogram bear its name and more.
fn family(sample: &str) -> &str {
    let parts = ["_bucket", "_sum", "_count"].into_iter().filter_map(|part| sample.strip_suffix(part));
    parts.into_iter().next().unwrap_or(sample)
}

/// Every sample with its labels, as strictly as the format allows.
#[track_caller]
fn parse_metrics(text: &str) -> BTreeMap<String, f64> {
    let is_name = |name: &str| {
        name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_') && name.starts_with("switchboard_")
    };
    assert!(text.ends_with('\n') && text.is_ascii());
    let mut samples = BTreeMap::new();
    let mut described: Option<(&str, &str)> = None;
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, about) = help.split_once(' ').expect(line);
            let kind = lines.next().and_then(|line| line.strip_prefix(&format!("# TYPE {name} "))).expect(line);
            assert!(is_name(name) && about.ends_with('.') && !about.contains('\\'), "{line}");
            assert!(matches!(kind, "counter" | "gauge" | "histogram"), "{line}");
            assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
            assert!(lines.peek().is_some_and(|line| line.starts_with(name)), "{name} has a sample");
            described = Some((name, kind));
            continue;
        }
        let (sample, value) = line.rsplit_once(' ').expect(line);
        let (name, labels) = sample.split_once('{').map_or((sample, None), |(name, rest)| (name, Some(rest)));
        let of = if described.is_some_and(|(_, kind)| kind == "histogram") { family(name) } else { name };
        assert_eq!(Some(of), described.map(|(name, _)| name), "{line} stands below its description");
        if let Some(labels) = labels {
            for pair in labels.strip_suffix("\"}").expect(line).split("\",") {
                let (label, value) = pair.split_once("=\"").expect(line);
                assert!(label.bytes().all(|byte| byte.is_ascii_lowercase()), "{line}");
                assert!(!value.contains(['"', '\\', '\n']), "{line}");
            }
        }
        let value: f64 = value.parse().expect(line);
        assert!(value >= 0.0 && value.is_finite(), "{line}");
        assert!(samples.insert(sample.to_owned(), value).is_none(), "{line} twice");
    }
    samples
}

/// The routes that the description has: method and path.
fn described(api: &Value) -> Vec<(String, String)> {
    let mut routes = Vec::new();
    for (path, item) in api["paths"].as_object().unwrap() {
        for method in item.as_object().unwrap().keys() {
            routes.push((method.to_uppercase(), path.clone()));
        }
    }
    routes
}

#[test]
fn the_description_and_the_routes_are_the_same() {
    let (_server, operator) = start(&[]);
    let api = operator.ask("GET", "/v1/openapi.json").expect(200);
    assert_eq!(api["openapi"], "3.1.0");
    let routes = described(&api);
    assert_eq!(routes.len(), 27, "the contract's routes: {routes:?}");
    for (method, path) in &routes {
        let path = path.replace("{room}", "nowhere").replace("{id}", "nobody").replace("{connection_id}", "nobody");
        let path = path.replace("{shard_hash}", "nobody");
        let answer = operator.ask(method, &path);
        assert!(
            !matches!(code(&answer).as_deref(), Some("not_found" | "method_not_allowed")),
            "{method} {path}: {answer:?}"
        );
    }
    // What is not described is not there: of each path the header Allow names just the methods described.
    let paths: BTreeSet<&str> = routes.iter().map(|(_, path)| path.as_str()).collect();
    for path in paths {
        let methods: BTreeSet<&str> =
            routes.iter().filter(|(_, other)| other == path).map(|(method, _)| method.as_str()).collect();
        let answer = operator.ask("TRACE", &path.replace(['{', '}'], ""));
        answer.expect_error(405, "method_not_allowed");
        let allowed: BTreeSet<&str> =
            answer.header("allow").unwrap().split(',').filter(|method| *method != "HEAD").collect();
        assert_eq!(allowed, methods, "{path}");
    }
    for path in ["/", "/v1", "/v1/rooms/", "/v1/commands/", "/v1/gateway", "/v2/rooms", "//v1/rooms"] {
        operator.ask("GET", path).expect_error(404, "not_found");
    }
}

fn code(answer: &HttpAnswer) -> Option<String> {
    Some(serde_json::from_str::<Value>(&answer.body).ok()?["error"]["code"].as_str()?.to_owned())
}

#[test]
fn every_operation_is_described_with_its_answers_and_errors() {
    let api: Value = serde_json::from_str(&switchboard::admin::openapi_json().unwrap()).unwrap();
    let mut ids = BTreeSet::new();
    for (method, path) in described(&api) {
        let operation = &api["paths"][&path][method.to_lowercase()];
        let name = format!("{method} {path}");
        assert!(ids.insert(operation["operationId"].as_str().expect(&name)), "{name}");
        assert!(operation["summary"].as_str().is_some_and(|summary| !summary.ends_with('.')), "{name}");
        let responses = operation["responses"].as_object().unwrap();
        assert!(responses.keys().any(|status| status.starts_with('2')), "{name}");
        for (status, response) in responses {
            assert!(!response["description"].as_str().unwrap().is_empty(), "{name} {status}");
            let schemas: Vec<&Value> =
                response["content"].as_object().unwrap().values().map(|body| &body["schema"]).collect();
            let is_error = status.starts_with('4') || (status.starts_with('5') && path != "/readyz");
            assert_eq!(is_error, schemas == [&json!({"$ref": "#/components/schemas/ErrorBody"})], "{name} {status}");
        }
        let parameters: Vec<&str> = operation["parameters"]
            .as_array()
            .map(|parameters| parameters.iter().map(|parameter| parameter["name"].as_str().unwrap()).collect())
            .unwrap_or_default();
        for wanted in path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}')) {
            assert!(parameters.contains(&wanted), "{name}: {wanted}");
        }
    }
    let scheme = &api["components"]["securitySchemes"]["token"];
    assert_eq!((scheme, &api["security"]), (&json!({"type": "http", "scheme": "bearer"}), &json!([{"token": []}])));
    for (name, schema) in api["components"]["schemas"].as_object().unwrap() {
        assert!(schema["description"].is_string(), "{name}");
    }
    let codes = texts(&api["components"]["schemas"]["Code"]["enum"]);
    for code in ["invalid_request", "unauthenticated", "room_not_found", "connection_not_found", "not_member"] {
        assert!(codes.contains(&code), "{code} in {codes:?}");
    }
}
