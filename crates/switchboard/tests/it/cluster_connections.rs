//! Connections of one node, asked for and changed at another.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};
use switchboard::node::connection::ConnectionInfo;
use switchboard::node::hooks::{SayMiddleware, Saying};
use switchboard::node::{ConnectionPatch, MockConnection, Speaker, StateError};
use switchboard::proto::call::{CallError, ConnectionType};
use switchboard::proto::id::ConnId;
use switchboard_testkit::client::LineClient;
use switchboard_testkit::http::HttpClient;

use super::cluster_support::Nodes;
use super::ddp_support::users;
use super::peer::eventually;
use super::support::TestServer;

const ROOMS: &str = "rooms.starting=[{ name = \"lobby\" }, { name = \"staff\", auth = { staff = true } }]";

/// A route, with `ID` in place of a connection's id, and a body.
type Request = (&'static str, &'static str, Option<Value>);

/// Every route about one connection, well used and badly, in an order in which each depends on those before.
fn requests() -> Vec<Request> {
    const CONNECTION: &str = "/v1/connections/ID";
    let patch = |body: Value| ("PATCH", CONNECTION, Some(body));
    let say = |body: Value| ("POST", "/v1/rooms/lobby/broadcast", Some(body));
    let too_many: Vec<String> = (0..65).map(|tag| tag.to_string()).collect();
    vec![
        ("GET", CONNECTION, None),
        patch(json!({"state": {"level": 3, "name": "Ada", "staff": false}, "tags": ["night", "beta"]})),
        patch(json!({"state": {"level": null}})),
        patch(json!({"state": {"level": [1]}})),
        patch(json!({"state": {"id": "x"}})),
        patch(json!({"state": {"large": "x".repeat(20_000)}})),
        patch(json!({"state": {"level": 9}, "tags": [""]})),
        patch(json!({"tags": too_many})),
        patch(json!({"user": "u/1"})),
        patch(json!({"user": "u1"})),
        patch(json!({"user": "ann"})),
        patch(json!({"user": null})),
        ("GET", CONNECTION, None),
        ("PUT", "/v1/rooms/lobby/members/ID", None),
        ("PUT", "/v1/rooms/lobby/members/ID", None),
        ("PUT", "/v1/rooms/staff/members/ID", None),
        ("PUT", "/v1/rooms/nowhere/members/ID", None),
        ("PUT", "/v1/rooms/%07/members/ID", None),
        patch(json!({"state": {"staff": true}, "reauthenticate": true})),
        ("PUT", "/v1/rooms/staff/members/ID", None),
        ("GET", CONNECTION, None),
        patch(json!({"state": {"staff": 1}, "reauthenticate": true})),
        ("POST", "/v1/connections/ID/reauthenticate", None),
        ("POST", "/v1/connections/ID/message", Some(json!({"message": {"news": [1.50, "ö"]}}))),
        say(json!({"message": "good evening", "from": "ID"})),
        say(json!({"message": null, "from": "ID"})),
        ("DELETE", "/v1/rooms/staff/members/ID", None),
        ("DELETE", "/v1/rooms/nowhere/members/ID", None),
        ("DELETE", "/v1/rooms/lobby/members/ID", None),
        ("DELETE", "/v1/rooms/lobby/members/ID", None),
        ("GET", CONNECTION, None),
        ("DELETE", CONNECTION, None),
    ]
}

/// Whatever differs between two connections that are treated alike, without that.
fn alike(answer: &mut Value) {
    match answer {
        Value::Object(members) => {
            for (name, value) in members {
                match name.as_str() {
                    "remotePort" | "connectedAt" | "number" | "outboxBytes" => *value = json!("any"),
                    _ => alike(value),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(alike),
        _ => {}
    }
}

fn ask(operator: &HttpClient, (method, path, body): &Request, id: &str) -> (u16, Value) {
    let path = path.replace("ID", id);
    let answer = match body {
        Some(body) => {
            let body = body.to_string().replace("\"ID\"", &format!("\"{id}\""));
            operator.send(method, &path, &serde_json::from_str(&body).unwrap())
        }
        None => operator.ask(method, &path),
    };
    let mut json: Value = serde_json::from_str(&answer.json().to_string().replace(id, "ID")).unwrap();
    alike(&mut json);
    (answer.status, json)
}

/// A client of a server, which stays connected as long as this is held, and its connection.
type Comer = fn(&TestServer) -> (Box<dyn std::any::Any>, ConnId);

#[test]
fn every_route_answers_the_same_whichever_node_is_asked() {
    let application = "gateway.applications=[{ id = \"822\", public_key = \"3f0c\", secret = \"correct-horse\" }]";
    let nodes = Nodes::start(2, &[ROOMS, &users(), application]);
    let holder = nodes.node(0);
    let comers: [(&str, Comer); 6] = [
        ("a line client", |server| {
            let client = server.connect();
            let id = server.id_of(&client);
            (Box::new(client), id)
        }),
        ("a DDP session of nobody", |server| {
            let mut client = server.ddp();
            let id = server.id_of_ddp(&mut client);
            (Box::new(client), id)
        }),
        ("a DDP session of somebody", |server| {
            let mut client = server.ddp_as("bob");
            let id = server.id_of_ddp(&mut client);
            (Box::new(client), id)
        }),
        ("a gateway connection without a session", |server| {
            let client = server.shard();
            let is_gateway = |info: &ConnectionInfo| info.handle.connection_type() == ConnectionType::Gateway;
            let mut found = None;
            eventually("it is connected", || {
                let ids = server.node().connection_ids().into_iter();
                let mut infos = ids.filter_map(|id| server.wait(server.node().connection(id)).ok());
                found = infos.find(is_gateway).map(|info| info.handle.id());
                found.is_some()
            });
            let id = found.expect("it was found");
            (Box::new(client), id)
        }),
        ("one that has ended", |server| {
            let client = server.connect();
            let id = server.id_of(&client);
            drop(client);
            eventually("it has ended", || !server.node().connection_ids().contains(&id));
            (Box::new(()), id)
        }),
        ("one that never was", |_| (Box::new(()), ConnId::from_random(u128::MAX / 3))),
    ];
    for (who, come) in comers {
        // Of two that are alike each is treated by another node's operator.
        let [near, far] = [0, 1].map(|asked| {
            let (client, id) = come(holder);
            let answers: Vec<_> = requests()
                .iter()
                .map(|request| (request.clone(), ask(nodes.operator(asked), request, &id.to_string())))
                .collect();
            drop(client);
            answers
        });
        for ((request, near), (_, far)) in near.iter().zip(&far) {
            assert_eq!(near, far, "{who}: {request:?}");
        }
        let statuses: BTreeSet<u16> = near.iter().map(|(_, (status, _))| *status).collect();
        assert!(statuses.len() > 1, "{who}: {statuses:?}");
    }
}

#[test]
fn a_connection_is_shown_alike_by_every_node() {
    let nodes = Nodes::start(2, &[ROOMS]);
    let mut client = nodes.node(0).connect_into(1, &["lobby"]).remove(0);
    let id = nodes.node(0).id_of(&client);
    let data = json!({"commands": ["heartbeat"], "framework": "Hubot"});
    assert_eq!(client.ask(&format!("setCustomClientData {data}"))["status"], "OK");
    nodes.node(0).wait(nodes.node(0).node().change_connection(id, patch(json!({"a": 1})))).unwrap();
    let path = format!("/v1/connections/{id}");
    let settled = || nodes.operator(0).ask("GET", &path).expect(200)["client"]["takesCommands"] == true;
    eventually("it takes commands", settled);
    let [near, far] = [0, 1].map(|asked| nodes.operator(asked).ask("GET", &path).expect(200));
    assert_eq!(near, far);
    assert_eq!((&far["node"], &far["rooms"]), (&json!("a"), &json!(["lobby"])));
    assert_eq!(far["client"]["capabilities"], json!({"any": false, "keys": ["heartbeat"]}));

    let other = nodes.node(1);
    let info = other.wait(other.node().connection(id)).unwrap();
    let handle = info.handle;
    assert_eq!((handle.node_name(), handle.connection_type()), ("a", ConnectionType::Socket));
    assert_eq!((handle.get("a"), handle.attribute("a"), handle.attribute("type")), {
        (Some(json!(1)), Some(json!(1)), Some(json!("socket")))
    });
    assert_eq!(handle.set("a", 2), Err(StateError::NoSuchConnection));
}

fn patch(state: Value) -> ConnectionPatch {
    let Value::Object(state) = state else { panic!("state is an object") };
    ConnectionPatch { state: state.into_iter().collect(), ..ConnectionPatch::default() }
}

#[test]
fn lists_of_connections_go_on_at_any_node() {
    let nodes = Nodes::start(3, &[]);
    let clients: Vec<Vec<LineClient>> =
        [4, 3, 0].iter().enumerate().map(|(node, count)| nodes.node(node).connect_into(*count, &[])).collect();
    let mut expected: Vec<(String, String)> = Vec::new();
    for (node, name) in ["a", "b", "c"].iter().enumerate() {
        let ids = nodes.node(node).node().connection_ids();
        expected.extend(ids.into_iter().map(|id| (id.to_string(), (*name).to_owned())));
    }
    expected.sort_unstable();
    assert_eq!(expected.len(), 7);
    for limit in [1, 2, 3, 7, 100] {
        let (mut seen, mut query, mut asked) = (Vec::new(), format!("?limit={limit}"), 0);
        loop {
            let part = nodes.operator(asked % 3).ask("GET", &format!("/v1/connections{query}")).expect(200);
            let items = part["items"].as_array().unwrap();
            assert!(items.len() <= limit, "{part}");
            let text = |item: &Value, name: &str| item[name].as_str().unwrap().to_owned();
            seen.extend(items.iter().map(|item| (text(item, "id"), text(item, "node"))));
            match part["cursor"].as_str() {
                Some(cursor) => query = format!("?limit={limit}&cursor={cursor}"),
                None => break,
            }
            asked += 1;
        }
        assert_eq!(seen, expected, "{limit}");
    }
    drop(clients);
}

#[test]
fn lists_that_are_too_long_for_a_message_are_cut() {
    let settings = [
        "backend.redis.max_message_bytes=64KiB",
        "commands.max_command_bytes=16KiB",
        "commands.max_reply_bytes=16KiB",
        "commands.max_client_data_bytes=16KiB",
    ];
    let nodes = Nodes::start(2, &settings);
    let clients = nodes.node(0).connect_into(6, &[]);
    for id in nodes.node(0).node().connection_ids() {
        let text = "x".repeat(12_000);
        nodes.node(1).wait(nodes.node(1).node().change_connection(id, patch(json!({"text": text})))).unwrap();
    }
    let (mut seen, mut query, mut parts) = (BTreeSet::new(), String::new(), 0);
    loop {
        let part = nodes.operator(1).ask("GET", &format!("/v1/connections{query}")).expect(200);
        seen.extend(part["items"].as_array().unwrap().iter().map(|item| item["id"].to_string()));
        parts += 1;
        let Some(cursor) = part["cursor"].as_str() else { break };
        query = format!("?cursor={cursor}");
    }
    assert_eq!((seen.len(), parts), (6, 3));
    drop(clients);
}

#[test]
fn what_is_sent_at_another_node_arrives() {
    let nodes = Nodes::start(2, &[ROOMS]);
    let mut clients = nodes.node(0).connect_into(2, &["lobby"]);
    let ids: Vec<ConnId> = clients.iter().map(|client| nodes.node(0).id_of(client)).collect();
    let other = nodes.node(1);
    let node = other.node();
    other.wait(node.send_message(ids[0], json!({"news": 1.50}).to_string().as_str())).unwrap();
    assert_eq!(clients[0].read_json(), json!({"news": 1.5}).to_string());

    // It speaks itself, and is spoken for: it hears neither, and the others do.
    other.wait(node.broadcast(ids[0], "lobby", "mine")).unwrap().unwrap();
    other.wait(node.broadcast(Speaker::named(ids[0].to_string()), "lobby", "for it")).unwrap().unwrap();
    for text in ["mine", "for it"] {
        let heard = clients[1].read_json();
        assert_eq!((&heard["message"], &heard["from"]), (&json!(text), &json!(ids[0].to_string())));
    }
    clients[0].expect_silence();
    let outsider = nodes.node(0).connect();
    let outside = nodes.node(0).id_of(&outsider);
    for (speaker, room) in [
        (Speaker::from(outside), "lobby"),
        (MockConnection { id: Some(ids[0].to_string()), rooms: Some(vec!["staff".into()]) }.into(), "lobby"),
    ] {
        let refused = other.wait(node.broadcast(speaker, room, "x"));
        assert!(matches!(refused, Err(CallError::NotMember(_))), "{refused:?}");
    }
    assert_eq!(other.wait(node.broadcast(ids[0], "\u{7}", "x")).unwrap(), None);

    other.wait(node.disconnect(ids[0])).unwrap();
    assert_eq!(clients[0].read_json()["status"], "Bye!");
    clients[0].expect_fin();
}

/// Middleware that takes its time: longer than a node waits for one of which it hears nothing.
struct Slow(Duration);

impl SayMiddleware for Slow {
    async fn say(&self, saying: &mut Saying) -> Result<(), String> {
        tokio::time::sleep(self.0).await;
        let text = saying.body().to_text().unwrap_or_default();
        if text == "rude" { Err("mind your words".to_owned()) } else { Ok(()) }
    }
}

#[test]
fn a_node_that_is_busy_with_an_answer_is_waited_for() {
    let nodes = Nodes::start(2, &[ROOMS, "backend.redis.timeout=1s"]);
    nodes.node(0).node().add_say_middleware(100, Slow(Duration::from_millis(2500)));
    let mut clients = nodes.node(0).connect_into(2, &["lobby"]);
    let (id, other) = (nodes.node(0).id_of(&clients[0]), nodes.node(1));
    let refused = other.wait(other.node().broadcast(id, "lobby", "rude"));
    assert!(matches!(&refused, Err(CallError::Refused(why)) if why == "mind your words"), "{refused:?}");
    assert!(other.wait(other.node().broadcast(id, "lobby", "polite")).unwrap().is_some());
    assert_eq!(clients[1].read_json()["message"], "polite");
}

#[test]
fn connections_of_a_dead_node_are_gone() {
    let mut nodes = Nodes::start(2, &["backend.redis.timeout=1s"]);
    let client = nodes.node(1).connect();
    let id = nodes.node(1).id_of(&client);
    let path = format!("/v1/connections/{id}");
    nodes.operator(0).ask("GET", &path).expect(200);
    nodes.kill(1);
    let is_gone = || match nodes.operator(0).ask("GET", &path) {
        answer if answer.status == 503 => false,
        answer => answer.expect_error(404, "connection_not_found").contains("no such connection"),
    };
    eventually("it is gone", is_gone);
    nodes.until_they_know_each_other();
    assert_eq!(nodes.operator(0).ask("GET", "/v1/connections").expect(200), json!({"items": [], "cursor": null}));
}
