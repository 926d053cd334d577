//! The gateway's part of HTTP: its doors, and what is asked there without a WebSocket.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::time::Duration;

use serde_json::{Value, json};
use switchboard::config::{Application, Config, DuplicateShard, Secret};
use switchboard_testkit::gateway::{Credentials, GatewayClient};
use switchboard_testkit::raw_http::{RawAnswer, RawHttp};

use super::http::{JSON, connect};
use super::peer::{DEADLINE, Running, config};

const ID: &str = "Identification: 822";
const SECRET: &str = "Secret: correct-horse";

/// Two applications, the second without a secret.
pub(super) fn with_applications() -> Config {
    let mut config = config();
    let mut first = Application::new("822", "3f0c");
    first.secret = Secret::new("correct-horse");
    config.gateway.applications = vec![first, Application::new("open", "key-of-open")];
    config
}

pub(super) fn shard(running: &Running, shard: u32) -> GatewayClient {
    let mut client = GatewayClient::connect(running.web()).unwrap();
    client.register(&Credentials::new("3f0c", "correct-horse").of_shard(shard)).unwrap();
    client
}

fn publish(client: &mut RawHttp, body: &Value) -> RawAnswer {
    client.request("POST", "/gateway/events", &[ID, SECRET, JSON], body.to_string().as_bytes())
}

/// Status and body of an answer.
fn told(answer: &RawAnswer) -> (u16, Value) {
    (answer.status, answer.json())
}

#[test]
fn both_paths_of_the_gateway_lead_to_it() {
    let running = Running::start(config());
    for path in ["/gateway", "/ws_interaction", "/gateway?v=1&hello=1"] {
        let answer = connect(&running).upgrade(path, &["Identification: 1", "Shard-In: 0"]);
        assert_eq!(answer.status, 101, "{path}");
    }
    for path in ["/gateway/", "/gatewayX", "/ws_interactions"] {
        assert_eq!(connect(&running).upgrade(path, &[]).status, 404, "{path}");
    }
    let mut config = config();
    config.servers.gateway.enabled = false;
    let running = Running::start(config);
    assert_eq!(connect(&running).upgrade("/gateway", &[]).status, 404);
    assert_eq!(connect(&running).get("/gateway").status, 426);
    let answer = connect(&running).get("/gateway/bot");
    assert_eq!(told(&answer), (404, json!({"error": "not_found"})));
}

#[test]
fn compression_is_offered_where_it_is_switched_on() {
    for compression in [false, true] {
        let mut config = config();
        config.servers.gateway.compression = compression;
        let running = Running::start(config);
        let answer = connect(&running).upgrade("/gateway", &["Sec-WebSocket-Extensions: permessage-deflate"]);
        assert_eq!(answer.header("sec-websocket-extensions").is_some(), compression);
    }
}

#[test]
fn whoever_asks_is_told_where_the_gateway_is() {
    let running = Running::start(config());
    let mut client = connect(&running);
    let answer = client.get("/gateway");
    assert_eq!(told(&answer), (200, json!({"url": format!("ws://{}/gateway", client.host())})));
    assert_eq!(answer.header("content-type"), Some("application/json; charset=utf-8"));
    for host in ["bots.example.org", "bots.example.org:443", "[::1]:8080"] {
        client.send(format!("GET /gateway HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        assert_eq!(client.answer().json(), json!({"url": format!("ws://{host}/gateway")}));
    }
    client.send("GET /gateway HTTP/1.0\r\n\r\n");
    assert_eq!(client.answer().status, 400);
    let mut client = connect(&running);
    client.send("GET /gateway HTTP/1.1\r\nHost: \"},{\"\r\n\r\n");
    assert_eq!(client.answer().text(), "Host is not a host name or address with an optional port\n");
}

#[test]
fn an_application_is_told_how_many_shards_to_run_and_to_begin() {
    let mut config = with_applications();
    config.gateway.applications[1].shards = 6;
    config.servers.gateway.start_total = 50;
    config.servers.gateway.start_concurrency = 7;
    let running = Running::start(config);
    let mut client = connect(&running);
    let url = format!("ws://{}/gateway", client.host());
    let bot = |client: &mut RawHttp, headers: &[&str]| client.request("GET", "/gateway/bot", headers, b"");
    let answer = bot(&mut client, &[ID, SECRET]);
    let limit = json!({"total": 50, "remaining": 50, "reset_after": 0, "max_concurrency": 7});
    let mut body = answer.json();
    // Nothing has begun yet, so nothing says when it is over.
    body["session_start_limit"]["reset_after"] = 0.into();
    assert_eq!((answer.status, body), (200, json!({"url": url, "shards": 1, "session_start_limit": limit})));
    let _first = shard(&running, 0);
    let _second = shard(&running, 1);
    let body = bot(&mut client, &[ID, "Authorization: Bearer correct-horse"]).json();
    assert_eq!(body["shards"], 2);
    assert_eq!(body["session_start_limit"]["remaining"], 48);
    let reset_after = body["session_start_limit"]["reset_after"].as_u64().unwrap();
    assert!((1..=86_400_000).contains(&reset_after), "{reset_after}");
    assert_eq!(bot(&mut client, &["Identification: open"]).json()["shards"], 6);
}

#[test]
fn fault_row_16_whoever_does_not_prove_who_he_is_learns_nothing() {
    let running = Running::start(with_applications());
    let mut client = connect(&running);
    let wrong: [&[&str]; 12] = [
        &[],
        &[ID],
        &[SECRET],
        &["Public-Key: 3f0c", SECRET],
        &[ID, "Secret: wrong"],
        &[ID, "Secret: correct-horse x"],
        &[ID, SECRET, "Secret: other"],
        &[ID, SECRET, "Authorization: Bearer other"],
        &[ID, "Authorization: Basic Y29ycmVjdC1ob3JzZQ=="],
        &["Identification: nobody", SECRET],
        &[ID, "Identification-Id: open", SECRET],
        &["Identification: open", "Public-Key: 3f0c"],
    ];
    for headers in wrong {
        for (method, path, body) in
            [("GET", "/gateway/bot", ""), ("GET", "/gateway/shards", ""), ("POST", "/gateway/events", "{}")]
        {
            let answer = client.request(method, path, headers, body.as_bytes());
            let expected = match method {
                "GET" => json!({"error": "unauthenticated"}),
                // Not read any further.
                _ => json!({"accepted": false, "error": "unauthenticated"}),
            };
            assert_eq!(told(&answer), (401, expected), "{path} {headers:?}");
            assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
            if method == "POST" {
                client.end();
                client = connect(&running);
            }
        }
    }
}

#[test]
fn fault_row_73_wrong_credentials_of_an_application_are_counted_as_wrong_passwords_are() {
    let mut config = with_applications();
    config.servers.ddp.max_failed_logins = 2;
    config.servers.ddp.failed_login_pause = Duration::from_secs(60);
    let running = Running::start(config);
    let ask = |secret: &str| {
        let secret = format!("Secret: {secret}");
        connect(&running).request("GET", "/gateway/bot", &[ID, &secret], b"").status
    };
    for _ in 0..10 {
        assert_eq!(connect(&running).request("GET", "/gateway/bot", &[], b"").status, 401, "nothing was guessed");
    }
    assert_eq!([ask("a"), ask("b")], [401, 401]);
    // The first refusal beyond the limit comes at once. 16 wait.
    assert_eq!(ask("c"), 401);
    let (note, answered) = std::sync::mpsc::sync_channel(24);
    for number in 0..24 {
        let (mut client, note) = (connect(&running), note.clone());
        std::thread::spawn(move || {
            let host = client.host().to_owned();
            client.send(format!("GET /gateway/bot HTTP/1.1\r\nHost: {host}\r\n{ID}\r\nSecret: {number}\r\n\r\n"));
            // Those that wait end with the server.
            let _ = note.send(client.try_answer("GET").ok().flatten().map(|answer| answer.status));
        });
    }
    for _ in 0..8 {
        assert_eq!(answered.recv_timeout(DEADLINE).expect("it does not wait"), Some(429));
    }
    assert_eq!(ask("correct-horse"), 200, "the right secret is never refused");
}

#[test]
fn fault_row_65_an_application_without_a_secret_is_not_served_through_a_proxy() {
    let running = Running::start(with_applications());
    let open = ["Identification: open", "Public-Key: key-of-open"];
    for path in ["/gateway/bot", "/gateway/shards"] {
        let ask = |headers: &[&str]| connect(&running).request("GET", path, headers, b"").status;
        assert_eq!(ask(&open), 200, "{path}");
        for header in [
            "X-Forwarded-For: 192.0.2.1",
            "Forwarded: for=192.0.2.1",
            "X-Real-IP: 192.0.2.1",
            "Via: 1.1 p",
            "X-Forwarded-Proto: https",
        ] {
            assert_eq!(ask(&[open[0], open[1], header]), 401, "{path} {header}");
            assert_eq!(ask(&[ID, SECRET, header]), 200, "{path} {header}");
        }
    }
    let event = json!({"event": "NEWS"}).to_string();
    let publish =
        |headers: &[&str]| connect(&running).request("POST", "/gateway/events", headers, event.as_bytes()).status;
    assert_eq!(publish(&[open[0], open[1], JSON]), 404, "no shard has a session");
    assert_eq!(publish(&[open[0], open[1], JSON, "X-Forwarded-For: 192.0.2.1"]), 401);
}

#[test]
fn an_event_is_numbered_and_reaches_its_shard() {
    let running = Running::start(with_applications());
    let (mut first, mut second) = (shard(&running, 0), shard(&running, 1));
    let mut client = connect(&running);
    let answer = publish(&mut client, &json!({"event": "ORDER_CREATED", "data": {"n": 7}}));
    assert_eq!(told(&answer), (202, json!({"accepted": true, "deliveries": [{"shard_id": 0, "s": 1}]})));
    let event = json!({"type": 8, "service": "gateway", "event": "ORDER_CREATED", "data": {"n": 7}, "s": 1});
    assert_eq!(first.hear(), event);
    // (1 << 22 >> 22) % 2
    let answer = publish(&mut client, &json!({"event": "B", "guild_id": (1_u64 << 22).to_string()}));
    assert_eq!(answer.json()["deliveries"], json!([{"shard_id": 1, "s": 1}]));
    assert_eq!(second.hear(), json!({"type": 8, "service": "gateway", "event": "B", "data": null, "s": 1}));
    let answer = publish(&mut client, &json!({"event": "C", "broadcast": true, "data": [1.50, "ä"]}));
    assert_eq!(answer.json()["deliveries"], json!([{"shard_id": 0, "s": 2}, {"shard_id": 1, "s": 2}]));
    assert_eq!((first.hear()["event"].clone(), second.hear()["data"].clone()), (json!("C"), json!([1.5, "ä"])));
    first.expect_silence();
    second.expect_silence();
}

#[test]
fn the_same_publication_is_stored_once() {
    let running = Running::start(with_applications());
    let mut first = shard(&running, 0);
    let mut client = connect(&running);
    let body = json!({"event": "ONCE", "id": "k-1"});
    let stored = json!({"accepted": true, "deliveries": [{"shard_id": 0, "s": 1}]});
    for _ in 0..3 {
        assert_eq!(told(&publish(&mut client, &body)), (202, stored.clone()));
    }
    assert_eq!(first.hear()["event"], "ONCE");
    first.expect_silence();
    let answer = publish(&mut client, &json!({"event": "ONCE", "id": "k-2"}));
    assert_eq!(answer.json()["deliveries"][0]["s"], 2);
}

#[test]
fn a_publication_that_reaches_nobody_is_told_so() {
    let running = Running::start(with_applications());
    let mut client = connect(&running);
    let nobody = json!({"accepted": false, "error": "no_session"});
    assert_eq!(told(&publish(&mut client, &json!({"event": "X"}))), (404, nobody.clone()));
    let _first = shard(&running, 0);
    for other in [json!({"event": "X", "shard_id": 1}), json!({"event": "X", "development": true})] {
        assert_eq!(told(&publish(&mut client, &other)), (404, nobody.clone()), "{other}");
    }
    // Without a secret, and from this machine: the application of nobody else.
    let answer = client.request("POST", "/gateway/events", &["Identification: open"], br#"{"event":"X"}"#);
    assert_eq!(told(&answer), (404, nobody));
}

#[test]
fn fault_row_6_what_is_no_publication_is_refused_and_nothing_stored() {
    let mut config = with_applications();
    config.servers.web.max_body_bytes = 10_000;
    config.servers.gateway.replay_max_bytes = 2048;
    let running = Running::start(config);
    let mut first = shard(&running, 0);
    let long_name = format!(r#"{{"event":"{}"}}"#, "A".repeat(65));
    let long_id = format!(r#"{{"event":"X","id":"{}"}}"#, "i".repeat(129));
    let deep = format!(r#"{{"event":"X","data":{}{}}}"#, "[".repeat(64), "]".repeat(64));
    for body in [
        "",
        "x",
        "[]",
        "{}",
        r#"{"event":"x"}"#,
        r#"{"event":""}"#,
        r#"{"event":"_X"}"#,
        r#"{"event":"GATEWAY_READY"}"#,
        r#"{"event":"X","event":"X"}"#,
        r#"{"event":"X","shard_id":0,"broadcast":true}"#,
        r#"{"event":"X","guildid":"1"}"#,
        r#"{"event":"X","id":""}"#,
        // Under such an id the server publishes an interaction.
        r#"{"event":"X","id":"\u0000interaction 1"}"#,
        "{\"event\":\"X\",\"data\":\"\u{0}\"}",
        &long_name,
        &long_id,
        &deep,
    ] {
        let answer = connect(&running).request(
            "POST",
            "/gateway/events",
            &[ID, SECRET, "Content-Length: 0"][..2 + usize::from(body.is_empty())],
            body.as_bytes(),
        );
        let (status, mut told) = told(&answer);
        let message = told.as_object_mut().unwrap().remove("message").expect("it says what is wrong");
        assert_eq!((status, told), (400, json!({"accepted": false, "error": "invalid_request"})), "{body}");
        if body.contains("GATEWAY_") {
            assert_eq!(
                message,
                "event must be a capital letter, then up to 63 capital letters, digits and underscores, and not begin with GATEWAY_"
            );
        }
    }
    // Beyond what a log may have, and beyond what a request may.
    for bytes in [3000, 20_000] {
        let answer = publish(&mut connect(&running), &json!({"event": "X", "data": "x".repeat(bytes)}));
        assert_eq!(told(&answer), (413, json!({"accepted": false, "error": "too_large"})), "{bytes}");
    }
    first.expect_silence();
    assert_eq!(publish(&mut connect(&running), &json!({"event": "X"})).json()["deliveries"][0]["s"], 1);
}

#[test]
fn an_application_that_publishes_too_much_is_told_when_to_go_on() {
    let mut config = with_applications();
    config.servers.gateway.publish_rate = 2;
    let running = Running::start(config);
    let _first = shard(&running, 0);
    let mut client = connect(&running);
    let refused =
        (0..200).map(|_| publish(&mut client, &json!({"event": "X"}))).find(|answer| answer.status != 202).unwrap();
    assert_eq!(told(&refused), (429, json!({"accepted": false, "error": "rate_limited"})));
    assert_eq!(refused.header("retry-after"), Some("1"));
}

#[test]
fn an_application_sees_its_shards_with_what_is_measured() {
    let running = Running::start(with_applications());
    let mut first = shard(&running, 0);
    let mut client = connect(&running);
    let body = json!({"event": "X", "data": "four"});
    publish(&mut client, &body);
    first.hear();
    first.ping(None);
    let mut seen = client.request("GET", "/gateway/shards", &[ID, SECRET], b"").json();
    let [seen] = &mut seen["shards"].as_array_mut().unwrap()[..] else { panic!("{seen}") };
    let seen = seen.as_object_mut().unwrap();
    let hash = seen.remove("shard_hash").unwrap();
    assert_eq!(hash.as_str().unwrap().len(), 35);
    // Measured whenever the server pings.
    let rtt = seen.remove("rtt_ms").unwrap();
    assert!(rtt.is_null() || rtt.as_f64().unwrap() >= 0.0, "{rtt}");
    assert!(seen.remove("buffered_bytes").unwrap().as_u64().unwrap() > 0);
    let expected = json!({
        "shard_id": 0, "development": false, "disconnected": false, "receibe_ping": 1, "received": 1, "send_ping": 1,
        "sending": 2, "last_seq": 1, "floor": 0, "buffered": 1, "node": running.node().name()
    });
    assert_eq!(Value::Object(seen.clone()), expected);
    let empty = json!({"shards": []});
    assert_eq!(client.request("GET", "/gateway/shards?development=true", &[ID, SECRET], b"").json(), empty);
    assert_eq!(client.request("GET", "/gateway/shards", &["Identification: open"], b"").json(), empty);
    let answer = client.request("GET", "/gateway/shards?developement=true", &[ID, SECRET], b"");
    let message = "the query may be development=true or development=false";
    assert_eq!(told(&answer), (400, json!({"error": "invalid_request", "message": message})));
    first.hang_up();
    super::peer::eventually("the loss is noticed", || {
        let seen = client.request("GET", "/gateway/shards", &[ID, SECRET], b"").json();
        seen["shards"][0]["disconnected"] == json!(true) && seen["shards"][0]["node"].is_null()
    });
}

#[test]
fn what_a_path_does_not_know_is_refused_by_its_method() {
    let running = Running::start(with_applications());
    let mut client = connect(&running);
    for (path, allowed, wrong) in [
        ("/gateway/bot", "GET, HEAD, OPTIONS", "POST"),
        ("/gateway/shards", "GET, HEAD, OPTIONS", "DELETE"),
        ("/gateway/events", "POST, OPTIONS", "GET"),
        ("/interaction", "POST, OPTIONS", "GET"),
    ] {
        let answer = client.request(wrong, path, &[], b"");
        assert_eq!((answer.status, answer.header("allow")), (405, Some(allowed)), "{path}");
        let answer = client.request("OPTIONS", path, &[], b"");
        assert_eq!((answer.status, answer.header("allow")), (204, Some(allowed)), "{path}");
    }
    client.send(format!("HEAD /gateway/bot HTTP/1.1\r\nHost: a\r\n{ID}\r\n{SECRET}\r\n\r\n"));
    assert_eq!(client.answer_to("HEAD").status, 200);
}

#[test]
fn pages_of_other_hosts_ask_nothing() {
    let mut config = with_applications();
    config.servers.web.allowed_origins = vec!["https://console.example.org".into()];
    let running = Running::start(config);
    let asks = |origin: &str, path: &str| {
        let origin = format!("Origin: {origin}");
        connect(&running).request("GET", path, &[ID, SECRET, &origin], b"")
    };
    for path in ["/gateway", "/gateway/bot", "/gateway/shards"] {
        assert_eq!(asks("https://evil.example", path).status, 403, "{path}");
        let listed = asks("https://console.example.org", path);
        let allowed = listed.header("access-control-allow-origin");
        assert_eq!((listed.status, allowed), (200, Some("https://console.example.org")), "{path}");
    }
    let answer = connect(&running).upgrade("/gateway", &["Origin: https://evil.example"]);
    assert_eq!(answer.status, 403);
}

#[test]
fn a_shard_that_registers_twice_is_refused_where_that_is_set() {
    let mut config = with_applications();
    config.servers.gateway.duplicate_shard = DuplicateShard::Reject;
    let running = Running::start(config);
    let mut first = shard(&running, 0);
    let mut second = GatewayClient::connect(running.web()).unwrap();
    let refused = second.register(&Credentials::new("3f0c", "correct-horse")).unwrap_err();
    assert_eq!(refused["data"]["code"], 4020);
    first.expect_silence();
}
