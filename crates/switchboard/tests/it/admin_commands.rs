//! Client commands through the admin API: what is sent, what comes back, and what is shown of it.

use std::io::Write;
use std::net::{Shutdown, TcpStream};
use std::thread::JoinHandle;

use serde_json::{Value, json};
use switchboard_testkit::client::LineClient;
use switchboard_testkit::http::{HttpAnswer, HttpClient};

use super::admin::{TOKEN, start};
use super::peer::eventually;
use super::support::TestServer;

const USERS: &str = r#"users=[
    {id="u1",username="bot",password="secret",roles=["bot"],tags=["night"]},
    {id="u2",username="other",password="secret"},
]"#;

/// A client that takes commands.
fn taker(server: &TestServer) -> LineClient {
    let mut client = server.connect();
    assert_eq!(client.ask(r#"setCustomClientData {"commands":true}"#)["data"], true);
    client
}

/// One that is this user's.
fn taker_of(server: &TestServer, operator: &HttpClient, user: &str) -> LineClient {
    let client = taker(server);
    operator.send("PATCH", &connection(server, &client), &json!({"user": user})).expect(200);
    client
}

fn connection(server: &TestServer, client: &LineClient) -> String {
    format!("/v1/connections/{}", server.id_of(client))
}

fn post(operator: &HttpClient, body: &Value) -> HttpAnswer {
    operator.send("POST", "/v1/commands", body)
}

/// Sends a command beside the test, which goes on.
fn begin(operator: &HttpClient, body: Value) -> JoinHandle<HttpAnswer> {
    let operator = operator.clone();
    std::thread::spawn(move || post(&operator, &body))
}

/// Reads a command and replies.
#[track_caller]
fn reply(client: &mut LineClient, reply: &str) -> Value {
    let command = client.read_json();
    assert_eq!(command["context"], "command", "{command}");
    client.send(&format!("replyClientCommand {} {reply}", command["_id"].as_str().unwrap()));
    let answer = client.read_json();
    assert_eq!(answer["data"], true, "{answer}");
    command
}

/// Checks an answer without a reply, and returns the details.
#[track_caller]
fn failed(answer: &HttpAnswer, status: u16, code: &str) -> Value {
    let body = answer.expect(status);
    assert_eq!(body["error"]["code"], code, "{body}");
    assert!(body["error"]["message"].as_str().is_some_and(|message| !message.is_empty()), "{body}");
    body["error"]["details"].clone()
}

fn pending(operator: &HttpClient) -> Vec<Value> {
    operator.ask("GET", "/v1/commands").expect(200)["items"].as_array().unwrap().clone()
}

#[test]
fn the_reply_is_answered_as_it_came_and_the_command_arrives_as_it_was_sent() {
    let (server, operator) = start(&[]);
    let mut client = taker(&server);
    let id = server.id_of(&client);
    let body = format!(
        r#"{{"target": {{"connection": "{id}"}}, "command": {{"z": 1.50, "key": "k", "a": [12345678901234567890123, "a  b"]}}}}"#
    );
    let asking = {
        let operator = operator.clone();
        let headers = [("Content-Type", "application/json")];
        std::thread::spawn(move || operator.ask_with("POST", "/v1/commands", &headers, &body))
    };
    let line = client.read_line();
    assert!(line.contains(r#""cmd":{"z":1.50,"key":"k","a":[12345678901234567890123,"a  b"]}"#), "{line}");
    let command: Value = serde_json::from_str(&line).unwrap();
    let id = command["_id"].as_str().unwrap();
    client.send(&format!(r#"replyClientCommand {id} {{"success": false, "n": 2.0e1, "b": 1, "a": 2}}"#));
    assert_eq!(client.read_json()["data"], true);

    let answer = asking.join().unwrap();
    assert!(answer.body.ends_with(r#""reply":{"success":false,"n":2.0e1,"b":1,"a":2}}"#), "{}", answer.body);
    let mut result = answer.expect(200);
    assert!(result["latency_ms"].take().is_u64());
    let counts = json!({"sessions": 1, "delivered": 1, "replied": 1});
    let reply = json!({"success": false, "n": 20.0, "b": 1, "a": 2});
    assert_eq!(result, json!({"id": id, "outcome": "replied", "latency_ms": null, "counts": counts, "reply": reply}));
}

#[test]
fn every_kind_of_target_finds_its_clients() {
    let (server, operator) = start(&[USERS]);
    let mut bot = taker_of(&server, &operator, "bot");
    let mut guest = taker(&server);
    let (bot_id, guest_id) = (server.id_of(&bot).to_string(), server.id_of(&guest).to_string());
    assert_eq!(guest.ask("roomAdd defaultRoom")["data"], true);
    operator.send("PATCH", &connection(&server, &guest), &json!({"tags": ["beta"]})).expect(200);
    let command = json!({"key": "k"});
    for target in [json!({"user": "u1"}), json!({"user": "bot"}), json!({"connection": bot_id})] {
        let asking = begin(&operator, json!({"target": target, "command": command}));
        assert_eq!(reply(&mut bot, "{}")["key"], "k");
        let result = asking.join().unwrap().expect(200);
        assert_eq!((&result["reply"], result.get("rows")), (&json!({}), None), "{target}");
    }
    // A role and a tag of the user reach his connections, a tag of its own the other.
    let mut clients = [bot, guest];
    let owners = [(json!("u1"), bot_id), (json!(null), guest_id)];
    for (target, asked) in [
        (json!({"tag": "bot"}), &[0][..]),
        (json!({"tag": "night"}), &[0]),
        (json!({"tag": "beta"}), &[1]),
        (json!({"room": "defaultRoom"}), &[1]),
        (json!({"all": true}), &[0, 1]),
    ] {
        let asking = begin(&operator, json!({"target": target, "command": command}));
        for index in asked {
            reply(&mut clients[*index], &json!({"n": index}).to_string());
        }
        let result = asking.join().unwrap().expect(200);
        assert_eq!((&result["outcome"], result.get("reply")), (&json!("replied"), None), "{target}");
        let mut rows = result["rows"].as_array().unwrap().clone();
        rows.sort_by_key(|row| row["reply"]["n"].as_u64());
        assert_eq!(rows.len(), asked.len(), "{target}");
        for (row, index) in rows.iter_mut().zip(asked) {
            assert!(row["latency_ms"].take().is_u64(), "{row}");
            let (user, id) = &owners[*index];
            let whole = json!({
                "user": user, "connection": id, "node": server.node().name(), "outcome": "replied", "latency_ms": null,
                "reply": {"n": index},
            });
            assert_eq!(*row, whole, "{target}");
        }
    }
}

#[test]
fn a_collection_is_a_result_however_few_answered() {
    let (server, operator) = start(&[]);
    let (mut one, mut mute) = (taker(&server), taker(&server));
    let all = json!({"target": {"all": true}, "command": {"key": "k"}, "timeout_ms": 500});
    let asking = begin(&operator, all.clone());
    mute.read_json();
    reply(&mut one, "{}");
    let result = asking.join().unwrap().expect(200);
    let counts = json!({"sessions": 2, "delivered": 2, "replied": 1});
    assert_eq!((&result["outcome"], &result["counts"]), (&json!("replied"), &counts));
    let row = result["rows"].as_array().unwrap().iter().find(|row| row["outcome"] == "timeout").unwrap();
    assert_eq!((&row["reply"], &row["latency_ms"]), (&json!(null), &json!(null)));

    let mut enough = all.clone();
    enough["min_replies"] = json!(1);
    enough["timeout_ms"] = json!(60_000);
    let asking = begin(&operator, enough);
    mute.read_json();
    reply(&mut one, "{}");
    assert_eq!(asking.join().unwrap().expect(200)["counts"]["replied"], 1);

    let nobody = post(&operator, &json!({"target": {"tag": "none"}, "command": {"key": "k"}, "fail_fast": true}));
    let nobody = nobody.expect(200);
    assert_eq!((&nobody["outcome"], &nobody["rows"]), (&json!("no_recipient"), &json!([])));
}

#[test]
fn without_a_reply_the_status_and_the_code_say_why() {
    let (server, operator) = start(&[USERS]);
    let mut client = taker_of(&server, &operator, "u1");
    let path = connection(&server, &client);
    let ask = |extra: Value| {
        let mut body = json!({"target": {"user": "bot"}, "command": {"key": "k", "n": 1}});
        body.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        begin(&operator, body)
    };
    let asking = ask(json!({"timeout_ms": 100}));
    let id = client.read_json()["_id"].clone();
    let answer = asking.join().unwrap();
    let document = json!({"_id": id, "key": "k", "u": {"_id": "u1", "username": "bot"}, "cmd": {"key": "k", "n": 1}});
    let details = json!({"method": "sendClientCommand", "command": document});
    assert_eq!(failed(&answer, 504, "error-client-command-response-timeout"), details);
    assert_eq!(answer.json()["error"]["message"], "bot didn't respond to the command in time");

    let asking = ask(json!({"fail_fast": true}));
    client.read_json();
    operator.ask("DELETE", &path).expect(200);
    failed(&asking.join().unwrap(), 504, "error-client-command-disconnected");
    let nobody = ask(json!({"fail_fast": true})).join().unwrap();
    assert_eq!(failed(&nobody, 504, "error-client-command-no-recipient")["delivered"], 0);
    let nobody = ask(json!({"timeout_ms": 50})).join().unwrap();
    assert_eq!(failed(&nobody, 504, "error-client-command-response-timeout")["delivered"], 0);

    let asking = ask(json!({}));
    let mut held = Vec::new();
    eventually("it waits for the user", || {
        held = pending(&operator);
        held.len() == 1
    });
    let path = format!("/v1/commands/{}", held[0]["id"].as_str().unwrap());
    assert_eq!(operator.ask("DELETE", &path).expect(200), json!({"id": held[0]["id"]}));
    failed(&asking.join().unwrap(), 409, "error-client-command-cancelled");
    operator.ask("DELETE", &path).expect_error(404, "command_not_found");
    operator.ask("DELETE", "/v1/commands/none").expect_error(404, "command_not_found");
}

#[test]
fn what_is_no_command_is_refused_and_never_sent() {
    let (server, operator) = start(&[USERS, "commands.max_pending_per_user=1", "commands.max_command_bytes=256"]);
    server.node().check_commands(|request| request.command.key() != "forbidden");
    let whole = json!({"target": {"user": "bot"}, "command": {"key": "k"}});
    let with = |extra: Value| {
        let mut body = whole.clone();
        body.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        post(&operator, &body)
    };
    for odd in [
        json!({"target": {}}),
        json!({"target": {"user": "bot", "room": "lobby"}}),
        json!({"target": {"all": false}}),
        json!({"target": "all"}),
        json!({"target": null}),
        json!({"target": {"users": "bot"}}),
        json!({"command": "k"}),
        json!({"command": {}}),
        json!({"command": {"key": ""}}),
        json!({"command": {"key": 5}}),
        json!({"command": ["k"]}),
        json!({"command": {"key": "k", "text": "x".repeat(256)}}),
        json!({"timeout_ms": 0}),
        json!({"timeout_ms": -1}),
        json!({"timeout_ms": 300_001}),
        json!({"mode": "some"}),
        json!({"min_replies": 0}),
        json!({"sender": ""}),
        json!({"timeout": 5}),
    ] {
        with(odd).expect_error(400, "invalid_request");
    }
    post(&operator, &json!({"command": {"key": "k"}})).expect_error(400, "invalid_request");
    post(&operator, &json!({"target": {"user": "bot"}})).expect_error(400, "invalid_request");
    let body = whole.to_string();
    let json = ("Content-Type", "application/json");
    for keys in [&[("Idempotency-Key", "")][..], &[("Idempotency-Key", "a"), ("Idempotency-Key", "b")]] {
        let answer = operator.ask_with("POST", "/v1/commands", &[&[json], keys].concat(), &body);
        answer.expect_error(400, "invalid_request");
    }
    let details = failed(&with(json!({"target": {"user": "none"}})), 404, "error-invalid-user");
    assert_eq!(details, json!({"function": "sendClientCommand"}));
    with(json!({"target": {"room": "none"}})).expect_error(404, "room_not_found");
    for id in ["00000000-0000-4000-8000-000000000000", "me"] {
        with(json!({"target": {"connection": id}})).expect_error(404, "connection_not_found");
    }
    with(json!({"command": {"key": "forbidden"}})).expect_error(403, "error-not-allowed");

    let waiting = begin(&operator, whole.clone());
    eventually("it is pending", || pending(&operator).len() == 1);
    let answer = with(json!({}));
    answer.expect_error(429, "too-many-requests");
    assert_eq!(answer.header("retry-after"), Some("1"));
    let id = pending(&operator)[0]["id"].as_str().unwrap().to_owned();
    operator.ask("DELETE", &format!("/v1/commands/{id}")).expect(200);
    failed(&waiting.join().unwrap(), 409, "error-client-command-cancelled");
}

/// Sends the head and the body of a command by hand, and keeps the connection.
fn by_hand(operator: &HttpClient, body: &Value, key: Option<&str>) -> TcpStream {
    let (mut stream, body) = (operator.connect(), body.to_string());
    let key = key.map(|key| format!("Idempotency-Key: {key}\r\n")).unwrap_or_default();
    let head = format!(
        "POST /v1/commands HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n{key}\r\n",
        body.len()
    );
    stream.write_all((head + &body).as_bytes()).unwrap();
    stream
}

#[test]
fn who_hangs_up_takes_the_command_back() {
    let (_server, operator) = start(&[USERS]);
    let stream = by_hand(&operator, &json!({"target": {"user": "bot"}, "command": {"key": "k"}}), None);
    eventually("it is pending", || pending(&operator).len() == 1);
    stream.shutdown(Shutdown::Both).unwrap();
    eventually("it is not pending any more", || pending(&operator).is_empty());
    let settled = operator.ask("GET", "/v1/commands?state=settled").expect(200);
    assert_eq!(settled["items"][0]["outcome"], "cancelled");
}

#[test]
fn who_hangs_up_with_a_key_finds_the_outcome_later() {
    let (server, operator) = start(&[USERS]);
    let mut client = taker_of(&server, &operator, "u1");
    let body = json!({"target": {"user": "bot"}, "command": {"key": "k"}, "timeout_ms": 60_000});
    let stream = by_hand(&operator, &body, Some("once"));
    let command = client.read_json();
    stream.shutdown(Shutdown::Both).unwrap();
    // A second connection finds it while it is pending, a third one when it is over.
    let again = {
        let (operator, body) = (operator.clone(), body.to_string());
        let headers = [("Content-Type", "application/json"), ("Idempotency-Key", "once")];
        move || operator.ask_with("POST", "/v1/commands", &headers, &body)
    };
    let second = std::thread::spawn(again.clone());
    let id = command["_id"].as_str().unwrap();
    client.send(&format!(r#"replyClientCommand {id} {{"done":1}}"#));
    assert_eq!(client.read_json()["data"], true);
    for answer in [second.join().unwrap().expect(200), again().expect(200)] {
        assert_eq!((&answer["id"], &answer["reply"]), (&json!(id), &json!({"done": 1})));
    }
    client.expect_silence();
    let headers = [("Content-Type", "application/json"), ("Idempotency-Key", "once")];
    let other = body.to_string().replace("60000", "60001");
    operator.ask_with("POST", "/v1/commands", &headers, &other).expect_error(409, "idempotency-conflict");
}

#[test]
fn a_wait_is_longer_than_the_limits_of_head_and_body() {
    let (_server, operator) = start(&[USERS, "admin.header_timeout=50ms", "admin.body_timeout=50ms"]);
    let answer = post(&operator, &json!({"target": {"user": "bot"}, "command": {"key": "k"}, "timeout_ms": 500}));
    failed(&answer, 504, "error-client-command-response-timeout");
}

#[test]
fn commands_are_listed_while_they_are_pending_and_after() {
    let (_server, operator) = start(&[USERS]);
    let empty = json!({"items": [], "cursor": null});
    assert_eq!(operator.ask("GET", "/v1/commands").expect(200), empty);
    assert_eq!(operator.ask("GET", "/v1/commands?state=settled").expect(200), empty);
    let waiting: Vec<_> = (0..3)
        .map(|index| {
            let key = format!("k{index}");
            let body = json!({"target": {"user": "bot"}, "command": {"key": key}, "mode": "one", "sender": "ann"});
            let waiting = begin(&operator, body);
            eventually("it is pending", || pending(&operator).len() == index + 1);
            waiting
        })
        .collect();
    let mut items = pending(&operator);
    for (index, item) in items.iter_mut().enumerate() {
        operator.ask("DELETE", &format!("/v1/commands/{}", item["id"].as_str().unwrap())).expect(200);
        for varies in ["id", "accepted_at", "left_ms"] {
            assert!(!item[varies].take().is_null(), "{varies}");
        }
        let counts = json!({"sessions": 0, "delivered": 0, "replied": 0});
        let whole = json!({
            "id": null, "state": "pending", "key": format!("k{index}"), "target": {"user": "bot"}, "mode": "one",
            "sender": "ann", "accepted_at": null, "counts": counts, "left_ms": null, "is_held": true,
        });
        assert_eq!(*item, whole);
    }
    waiting.into_iter().for_each(|waiting| assert_eq!(waiting.join().unwrap().status, 409));

    let mut seen = Vec::new();
    let mut query = "limit=2".to_owned();
    loop {
        let part = operator.ask("GET", &format!("/v1/commands?state=settled&{query}")).expect(200);
        assert!(part["items"].as_array().unwrap().len() <= 2, "{part}");
        seen.extend(part["items"].as_array().unwrap().clone());
        match part["cursor"].as_str() {
            Some(cursor) => query = format!("limit=2&cursor={cursor}"),
            None => break,
        }
    }
    let keys: Vec<_> = seen.iter().map(|item| item["key"].as_str().unwrap()).collect();
    assert_eq!(keys, ["k0", "k1", "k2"], "the oldest first");
    assert!(seen[0]["latency_ms"].is_u64() && seen[0].get("left_ms").is_none(), "{}", seen[0]);
    assert_eq!((&seen[0]["outcome"], &seen[0]["client_errors"]), (&json!("cancelled"), &json!(0)));
    for odd in ["state=all", "state=", "limit=0", "limit=1001", "cursor=x", "cursor=ff", "cursor=6c", "states=pending"]
    {
        operator.ask("GET", &format!("/v1/commands?{odd}")).expect_error(400, "invalid_request");
    }
}

#[test]
fn the_planned_stop_is_told_to_whoever_waits_and_whoever_comes() {
    let (mut server, operator) = start(&[USERS, "node.drain_timeout=60s", "servers.socket.shutdown_wait=60s"]);
    let mut busy = server.connect();
    busy.ask("paramAdd sleepDuration=60000");
    busy.send("sleepTest");
    busy.ask("paramsView");
    let body = json!({"target": {"user": "bot"}, "command": {"key": "k"}, "timeout_ms": 60_000});
    let waiting = begin(&operator, body.clone());
    eventually("it is pending", || pending(&operator).len() == 1);
    let stopping = server.begin_stop();
    eventually("it stops", || operator.ask("GET", "/v1/node").expect(200)["state"] == "draining");
    post(&operator, &body).expect_error(503, "error-server-shutdown");
    drop(busy);
    failed(&waiting.join().unwrap(), 503, "error-server-shutdown");
    server.wait(stopping).unwrap();
}

#[test]
fn a_connection_shows_what_its_client_says_and_does() {
    let (server, operator) = start(&[]);
    let mut client = server.connect();
    let path = connection(&server, &client);
    let shown = || operator.ask("GET", &path).expect(200)["client"].clone();
    assert_eq!(shown(), json!(null));
    client.ask(r#"setCustomClientData {"framework":"own","n":1.50,"commands":["a","pauseMessageStream"]}"#);
    let mut state = shown();
    assert!(state["takesCommandsSince"].take().is_u64(), "{state}");
    let mut expected = json!({
        "takesCommands": true,
        "takesCommandsSince": null,
        "data": {"framework": "own", "n": 1.5, "commands": ["a", "pauseMessageStream"], "ipAddress": "127.0.0.1"},
        "capabilities": {"any": false, "keys": ["a", "pauseMessageStream"]},
        "paused": null,
        "status": "online",
        "pingMs": null,
        "heardAt": null,
        "isSilentFromStart": false,
    });
    expected["data"]["pausedMsgStream"] = state["data"]["pausedMsgStream"].clone();
    assert_eq!(state, expected);
    assert_eq!(operator.ask("GET", "/v1/connections").expect(200)["items"][0]["client"]["status"], "online");

    let target = json!({"connection": server.id_of(&client).to_string()});
    let pause = json!({"target": target, "command": {"key": "pauseMessageStream"}, "sender": "ann"});
    // A refusal of the client is a reply, and changes nothing.
    let asking = begin(&operator, pause.clone());
    reply(&mut client, r#"{"success":false,"error":{}}"#);
    assert_eq!(asking.join().unwrap().expect(200)["reply"]["success"], false);
    assert_eq!(shown()["paused"], json!(null));
    let settled = operator.ask("GET", "/v1/commands?state=settled").expect(200);
    assert_eq!(settled["items"][0]["client_errors"], 1);

    let asking = begin(&operator, pause);
    reply(&mut client, r#"{"success":true}"#);
    asking.join().unwrap().expect(200);
    let paused = shown();
    assert!(paused["paused"]["since"].is_u64() && paused["heardAt"].is_u64(), "{paused}");
    assert_eq!((&paused["paused"]["by"], &paused["status"]), (&json!("ann"), &json!("busy")));

    let capable = json!({"target": target, "command": {"key": "b"}, "require_capability": true, "fail_fast": true});
    failed(&post(&operator, &capable), 504, "error-client-command-no-recipient");
}

/// A DDP session of this user.
fn ddp_session(server: &TestServer, user: &str) -> LineClient {
    let mut client = LineClient::web(server.web_address(), "/websocket").unwrap();
    client.send(r#"{"msg":"connect","version":"1","support":["1"]}"#);
    ddp_until(&mut client, |frame| frame["msg"] == "connected");
    let params = json!([{"user": {"username": user}, "password": "secret"}]);
    client.send(&json!({"msg": "method", "id": "login", "method": "login", "params": params}).to_string());
    let result = ddp_until(&mut client, |frame| frame["msg"] == "result");
    assert!(result["result"]["token"].is_string(), "{result}");
    client
}

/// Reads frames until one is it.
fn ddp_until(client: &mut LineClient, is_it: impl Fn(&Value) -> bool) -> Value {
    loop {
        let frame = client.read_json();
        if is_it(&frame) {
            return frame;
        }
    }
}

#[test]
fn a_ddp_session_stands_for_its_user() {
    let (server, operator) = start(&[USERS]);
    let sessions = [ddp_session(&server, "bot"), ddp_session(&server, "bot")];
    let ids: Vec<_> = sessions.iter().map(|session| server.id_of(session).to_string()).collect();
    let members = || operator.ask("GET", "/v1/rooms/defaultRoom").expect(200)["membersCount"].clone();
    let path = format!("/v1/rooms/defaultRoom/members/{}", ids[0]);
    operator.ask("PUT", &path).expect(201);
    operator.ask("PUT", &path).expect(200);
    assert_eq!(members(), 2, "with all his sessions");
    let third = ddp_session(&server, "bot");
    assert_eq!(members(), 3, "later ones too");
    operator.ask("DELETE", &path).expect(200);
    assert_eq!(members(), 0);
    operator.ask("DELETE", &path).expect_error(404, "not_member");
    operator.ask("PUT", &format!("/v1/rooms/nowhere/members/{}", ids[0])).expect_error(404, "room_not_found");
    operator.ask("DELETE", &format!("/v1/rooms/nowhere/members/{}", ids[0])).expect_error(404, "room_not_found");
    drop(third);

    let path = format!("/v1/connections/{}", ids[0]);
    let change = json!({"user": "u2", "tags": ["beta"]});
    operator.send("PATCH", &path, &change).expect_error(409, "not_supported");
    let shown = operator.send("PATCH", &path, &json!({"tags": ["night"]})).expect(200);
    assert_eq!((&shown["user"], &shown["tags"]), (&json!("u1"), &json!(["night"])));

    let mut anonymous = LineClient::web(server.web_address(), "/websocket").unwrap();
    anonymous.send(r#"{"msg":"connect","version":"1","support":["1"]}"#);
    ddp_until(&mut anonymous, |frame| frame["msg"] == "connected");
    let path = format!("/v1/rooms/defaultRoom/members/{}", server.id_of(&anonymous));
    operator.ask("PUT", &path).expect_error(409, "not_supported");
    operator.ask("DELETE", &path).expect_error(409, "not_supported");
}

#[test]
fn who_a_connection_is_may_be_said_by_id_or_name() {
    let (server, operator) = start(&[USERS]);
    let client = server.connect();
    let path = connection(&server, &client);
    for (named, id) in [("u2", "u2"), ("bot", "u1"), ("nobody", "nobody")] {
        assert_eq!(operator.send("PATCH", &path, &json!({"user": named})).expect(200)["user"], id);
    }
}

#[test]
fn settled_commands_can_be_followed() {
    let (server, operator) = start(&[]);
    let mut client = taker(&server);
    let follow = |cursor: &str, wait_ms: u64| {
        let cursor = if cursor.is_empty() { String::new() } else { format!("&cursor={cursor}") };
        operator.ask("GET", &format!("/v1/commands?state=settled&wait_ms={wait_ms}{cursor}")).expect(200)
    };
    let nothing = follow("", 1);
    assert_eq!(nothing["items"], json!([]));
    let mut cursor = nothing["cursor"].as_str().unwrap().to_owned();
    for key in ["one", "two"] {
        let follower = {
            let (operator, cursor) = (operator.clone(), cursor.clone());
            std::thread::spawn(move || {
                let path = format!("/v1/commands?state=settled&wait_ms=20000&cursor={cursor}");
                operator.ask("GET", &path).expect(200)
            })
        };
        let id = server.id_of(&client).to_string();
        let sent = begin(&operator, json!({"target": {"connection": id}, "command": {"key": key}}));
        reply(&mut client, r#"{"success":true}"#);
        sent.join().unwrap().expect(200);
        let told = follower.join().unwrap();
        assert_eq!((told["items"].as_array().unwrap().len(), &told["items"][0]["key"]), (1, &json!(key)));
        cursor = told["cursor"].as_str().unwrap().to_owned();
    }
    assert_eq!(follow(&cursor, 1)["cursor"], cursor);
}
