//! The gateway as operators see it: sessions, their end, and a shard hash wherever an id is taken.

use serde_json::{Value, json};
use switchboard_testkit::gateway::{Credentials, GatewayClient};
use switchboard_testkit::http::HttpClient;

use super::admin::start;
use super::gateway_rooms::{APPLICATIONS, Bot, credentials};
use super::peer::eventually;

fn sessions(operator: &HttpClient) -> Vec<Value> {
    operator.ask("GET", "/v1/gateway/sessions").expect(200)["items"].as_array().unwrap().clone()
}

#[test]
fn sessions_are_listed_with_what_is_known_of_them() {
    let (server, operator) = start(&[APPLICATIONS]);
    assert_eq!(sessions(&operator), [Value::Null; 0]);
    let mut bot = Bot::register(&server, &credentials());
    bot.join("defaultRoom");
    bot.client.ping(None);
    let connection = server.find(bot.client.stream().local_addr().unwrap()).unwrap();
    operator.send("POST", &format!("/v1/connections/{connection}/message"), &json!({"message": "hi"})).expect(200);
    bot.client.expect("GATEWAY_MESSAGE");
    let mut listed = sessions(&operator).remove(0);
    let created_at = listed["created_at"].take();
    assert!(created_at.is_u64() && listed["buffered_bytes"].take().as_u64() > Some(0));
    let counts = listed["counts"].take();
    assert_eq!((&counts["pings"], &counts["pongs"]), (&json!(1), &json!(1)));
    // It depends on whether the server has pinged it.
    listed["received_seq"].take();
    listed["rtt_ms"].take();
    let expected = json!({
        "shard_hash": bot.hash, "application": "822", "development": false, "shard_id": 0, "shard_total": 1,
        "attached": true, "connection": connection.to_string(), "node": server.node().name(), "remote_ip": "127.0.0.1",
        "created_at": null, "generation": listed["generation"], "last_seq": 1, "floor": 0, "received_seq": null,
        "buffered": 1, "buffered_bytes": null, "counts": null, "rtt_ms": null,
        "detached_for_ms": null, "expires_in_ms": null, "rooms": ["defaultRoom"],
    });
    assert_eq!(listed, expected);
    bot.client.hang_up();
    eventually("it is detached", || sessions(&operator)[0]["attached"] == false);
    let detached = sessions(&operator).remove(0);
    for gone in ["connection", "node", "remote_ip"] {
        assert!(detached[gone].is_null(), "{detached}");
    }
    let (since, left) = (detached["detached_for_ms"].as_u64().unwrap(), detached["expires_in_ms"].as_u64().unwrap());
    assert_eq!(since + left, 300_000);
}

#[test]
fn sessions_come_in_parts() {
    let (server, operator) = start(&[APPLICATIONS]);
    let bots: Vec<Bot> = (0..5).map(|shard| Bot::register(&server, &credentials().of_shard(shard))).collect();
    let (mut seen, mut query) = (Vec::new(), "?limit=2".to_owned());
    loop {
        let part = operator.ask("GET", &format!("/v1/gateway/sessions{query}")).expect(200);
        let items = part["items"].as_array().unwrap();
        assert!(items.len() <= 2);
        seen.extend(items.iter().map(|session| session["shard_hash"].as_str().unwrap().to_owned()));
        let Some(cursor) = part["cursor"].as_str() else { break };
        query = format!("?limit=2&cursor={cursor}");
    }
    let mut expected: Vec<String> = bots.iter().map(|bot| bot.hash.clone()).collect();
    seen.sort_unstable();
    expected.sort_unstable();
    assert_eq!(seen, expected);
    operator.ask("GET", "/v1/gateway/sessions?cursor=zz").expect_error(400, "invalid_request");
}

#[test]
fn a_session_that_is_ended_is_told_and_cannot_be_resumed() {
    let (server, operator) = start(&[APPLICATIONS]);
    let mut bot = Bot::register(&server, &credentials());
    bot.join("defaultRoom");
    let path = format!("/v1/gateway/sessions/{}", bot.hash);
    assert_eq!(operator.ask("DELETE", &path).expect(200), json!({"shard_hash": bot.hash}));
    let error = bot.client.expect("GATEWAY_ERROR");
    assert_eq!(error["data"]["code"], 4027);
    assert_eq!(bot.client.closed(), Some(4027));
    assert_eq!(server.wait(server.node().room_status("defaultRoom")).unwrap().members.len(), 0);
    operator.ask("DELETE", &path).expect_error(404, "session_not_found");
    for odd in ["nobody", "aa0f3a3c-9a5c-4d53-9a2c-0c53b1f2c0f1"] {
        operator.ask("DELETE", &format!("/v1/gateway/sessions/{odd}")).expect_error(404, "session_not_found");
    }
    let mut client = GatewayClient::connect(server.web_address()).unwrap();
    assert_eq!(client.resume(&credentials(), &bot.session_id, None).unwrap_err()["event"], "GATEWAY_INVALID");
}

#[test]
fn a_shard_hash_does_where_an_id_is_taken() {
    let (server, operator) = start(&[APPLICATIONS, "servers.gateway.replay_max_bytes=4KiB"]);
    let mut bot = Bot::register(&server, &credentials());
    let connection = server.find(bot.client.stream().local_addr().unwrap()).unwrap().to_string();
    let (by_hash, by_id) = (format!("/v1/connections/{}", bot.hash), format!("/v1/connections/{connection}"));
    let member = format!("/v1/rooms/defaultRoom/members/{}", bot.hash);
    operator.ask("PUT", &member).expect(201);
    operator.ask("PUT", &format!("/v1/rooms/defaultRoom/members/{connection}")).expect(200);

    let shown = operator.ask("GET", &by_hash).expect(200);
    assert_eq!(shown, operator.ask("GET", &by_id).expect(200));
    assert_eq!(operator.ask("GET", "/v1/connections").expect(200)["items"], json!([shown]));
    for (name, value) in [
        ("id", json!(connection)),
        ("type", json!("gateway")),
        ("user", json!("822")),
        ("shardHash", json!(bot.hash)),
        ("rooms", json!(["defaultRoom"])),
        ("tags", json!(["night"])),
        ("state", json!({"staff": true})),
    ] {
        assert_eq!(shown[name], value, "{name}");
    }
    operator.send("PATCH", &by_hash, &json!({"user": "u1"})).expect_error(409, "not_supported");
    operator.send("PATCH", &by_hash, &json!({"state": {"staff": false}, "tags": ["day"]})).expect(200);
    operator.send("PUT", "/v1/rooms/defaultRoom/auth", &json!({"key": "staff", "value": false})).expect(200);
    let looked = operator.send("PATCH", &by_id, &json!({"state": {"staff": 1}, "reauthenticate": true})).expect(200);
    assert_eq!(looked, json!({"rooms": [], "removed": ["defaultRoom"]}));
    operator.ask("PUT", &member).expect_error(403, "not_authorized");
    operator.ask("DELETE", &member).expect_error(404, "not_member");
    operator.ask("DELETE", "/v1/rooms/defaultRoom/auth").expect(200);
    operator.ask("PUT", &member).expect(201);

    let message = |path: &str, text: &str| operator.send("POST", &format!("{path}/message"), &json!({"message": text}));
    message(&by_hash, "one").expect(200);
    message(&by_id, "two").expect(200);
    message(&by_hash, &"x".repeat(5000)).expect_error(413, "too_large");
    for (s, text) in [(1, "one"), (2, "two")] {
        let expected = json!({"type": 8, "service": "gateway", "event": "GATEWAY_MESSAGE", "data": text, "s": s});
        assert_eq!(bot.client.hear(), expected);
    }
    operator.ask("DELETE", &by_hash).expect(200);
    assert_eq!(bot.client.closed(), Some(1000));
    eventually("it is gone", || server.node().connection_ids().is_empty());
    // Nobody carries it: what concerns the session goes on, what concerns a connection does not.
    message(&by_hash, "three").expect(200);
    message(&by_id, "three").expect_error(404, "connection_not_found");
    operator.ask("GET", &by_hash).expect_error(404, "connection_not_found");
    operator.ask("DELETE", &by_hash).expect_error(404, "connection_not_found");
    operator.send("PATCH", &by_hash, &json!({"tags": []})).expect_error(404, "connection_not_found");
    let looked = operator.ask("POST", &format!("{by_hash}/reauthenticate")).expect(200);
    assert_eq!(looked, json!({"rooms": ["defaultRoom"], "removed": []}));
    operator.ask("DELETE", &member).expect(200);
    operator.ask("PUT", &member).expect(201);
    let mut client = GatewayClient::connect(server.web_address()).unwrap();
    client.resume(&credentials(), &bot.session_id, Some(2)).unwrap();
    assert_eq!(client.expect("GATEWAY_MESSAGE")["data"], "three");
}

#[test]
fn figures_tell_what_became_of_registrations_resumes_and_events() {
    let (server, operator) = start(&[APPLICATIONS]);
    let mut bot = Bot::register(&server, &credentials());
    bot.join("defaultRoom");
    let wrong = Credentials::new("3f0c", "wrong");
    let mut nobody = GatewayClient::connect(server.web_address()).unwrap();
    assert!(nobody.register(&wrong).is_err());
    server.wait(server.node().broadcast(switchboard::Speaker::server(), "defaultRoom", "hello")).unwrap();
    bot.client.expect("GATEWAY_ROOM_MESSAGE");
    operator.send("POST", &format!("/v1/connections/{}/message", bot.hash), &json!({"message": "hi"})).expect(200);
    bot.client.expect("GATEWAY_MESSAGE");
    bot.client.hang_up();
    let mut client = GatewayClient::connect(server.web_address()).unwrap();
    client.resume(&credentials(), &bot.session_id, Some(1)).unwrap();
    let mut nobody = GatewayClient::connect(server.web_address()).unwrap();
    assert!(nobody.resume(&credentials(), &"x".repeat(64), None).is_err());
    let page = operator.ask("GET", "/metrics").body;
    for line in [
        r#"switchboard_gateway_sessions{state="attached"} 1"#,
        r#"switchboard_gateway_sessions{state="detached"} 0"#,
        r#"switchboard_gateway_registrations_total{outcome="ok"} 1"#,
        r#"switchboard_gateway_registrations_total{outcome="bad_credentials"} 1"#,
        r#"switchboard_gateway_resumes_total{outcome="ok"} 1"#,
        r#"switchboard_gateway_resumes_total{outcome="invalid"} 1"#,
        r#"switchboard_gateway_events_appended_total{source="room"} 1"#,
        r#"switchboard_gateway_events_appended_total{source="message"} 1"#,
        r#"switchboard_gateway_events_appended_total{source="published"} 0"#,
        "switchboard_gateway_events_replayed_total 1",
        "switchboard_gateway_log_events 1",
    ] {
        assert!(page.lines().any(|other| other == line), "{line} in {page}");
    }
}
