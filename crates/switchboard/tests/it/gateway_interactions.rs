//! Interactions: what a platform asks an application over HTTP, and what its shard answers.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use ring::signature::{Ed25519KeyPair, KeyPair};
use serde_json::{Value, json};
use switchboard::config::{Application, Config, Secret};
use switchboard_testkit::gateway::{Credentials, GatewayClient};
use switchboard_testkit::raw_http::RawAnswer;

use super::http::connect;
use super::peer::{Running, config};

/// What a platform signs with.
struct Platform(Ed25519KeyPair);

impl Platform {
    fn new(seed: u8) -> Self {
        Self(Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap())
    }

    fn public_key(&self) -> String {
        hex(self.0.public_key().as_ref())
    }

    fn sign(&self, timestamp: &str, body: &str) -> String {
        hex(self.0.sign(format!("{timestamp}{body}").as_bytes()).as_ref())
    }

    fn ask(&self, running: &Running, body: &Value) -> RawAnswer {
        self.ask_text(running, &body.to_string())
    }

    fn ask_text(&self, running: &Running, body: &str) -> RawAnswer {
        let now = now();
        post(running, &self.sign(&now, body), &now, body)
    }
}

/// The time as a platform signs it.
fn now() -> String {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is right").as_secs().to_string()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn post(running: &Running, signature: &str, timestamp: &str, body: &str) -> RawAnswer {
    let headers = [format!("X-Signature-Ed25519: {signature}"), format!("X-Signature-Timestamp: {timestamp}")];
    connect(running).request("POST", "/interaction", &[&headers[0], &headers[1]], body.as_bytes())
}

/// Applications `1` and `2`, whose platforms have these keys.
fn with_platforms(first: &Platform, second: &Platform) -> Config {
    let mut config = config();
    for (id, platform) in [("1", first), ("2", second)] {
        let mut application = Application::new(id, platform.public_key());
        application.secret = Secret::new("s3cret");
        config.gateway.applications.push(application);
    }
    config.servers.gateway.interaction_wait = Duration::from_secs(8);
    config
}

fn shard(running: &Running, platform: &Platform, shard: u32) -> GatewayClient {
    let mut client = GatewayClient::connect(running.web()).unwrap();
    client.register(&Credentials::new(&platform.public_key(), "s3cret").of_shard(shard)).unwrap();
    client
}

fn answer(client: &mut GatewayClient, id: &str, data: &Value) {
    client.send(&json!({"type": 4, "id": id, "data": data}));
}

#[test]
fn a_ping_is_answered_if_it_is_signed() {
    let (first, second) = (Platform::new(1), Platform::new(2));
    let running = Running::start(with_platforms(&first, &second));
    for (platform, body) in [(&first, json!({"type": 1, "application_id": "1"})), (&second, json!({"type": 1}))] {
        let answer = platform.ask(&running, &body);
        assert_eq!((answer.status, answer.json()), (200, json!({"type": 1})));
        assert_eq!(answer.header("content-type"), Some("application/json; charset=utf-8"));
    }
}

#[test]
fn fault_row_16_whatever_is_not_signed_by_its_platform_is_refused_alike() {
    let (first, second, stranger) = (Platform::new(1), Platform::new(2), Platform::new(3));
    let running = Running::start(with_platforms(&first, &second));
    let mut bot = shard(&running, &first, 0);
    let body = json!({"type": 2, "id": "7", "application_id": "1"}).to_string();
    let now = now();
    let right = first.sign(&now, &body);
    let unauthenticated = json!({"error": "unauthenticated"});
    for (signature, timestamp, body) in [
        (second.sign(&now, &body), now.as_str(), body.as_str()),
        (stranger.sign(&now, &body), &now, &body),
        (right.clone(), "2", &body),
        (right.clone(), &now, &body.replace("\"7\"", "\"8\"")),
        (right.clone(), &now, &format!("{body} ")),
        (right.replace('a', "b"), &now, &body),
        (right[2..].to_owned(), &now, &body),
        (format!("{right}00"), &now, &body),
        ("0".repeat(128), &now, &body),
        (String::new(), &now, &body),
        (first.sign("1700000000", &body), "1700000000", &body),
        (stranger.sign(&now, "{}"), &now, "{}"),
        (stranger.sign(&now, "x"), &now, "x"),
        (first.sign(&now, r#"{"type":1,"application_id":"3"}"#), &now, r#"{"type":1,"application_id":"3"}"#),
        (first.sign(&now, r#"{"type":1,"application_id":1}"#), &now, r#"{"type":1,"application_id":1}"#),
    ] {
        let answer = post(&running, &signature, timestamp, body);
        assert_eq!((answer.status, answer.json()), (401, unauthenticated.clone()), "{signature} {body}");
    }
    for headers in [
        vec![],
        vec![format!("X-Signature-Ed25519: {right}")],
        vec![format!("X-Signature-Timestamp: {now}")],
        vec![
            format!("X-Signature-Ed25519: {right}"),
            format!("X-Signature-Timestamp: {now}"),
            format!("X-Signature-Timestamp: {now}"),
        ],
        vec![format!("X-Signature-Ed25519: {right}, {right}"), format!("X-Signature-Timestamp: {now}")],
    ] {
        let headers: Vec<&str> = headers.iter().map(String::as_str).collect();
        let answer = connect(&running).request("POST", "/interaction", &headers, body.as_bytes());
        assert_eq!((answer.status, answer.json()), (401, unauthenticated.clone()), "{headers:?}");
    }
    bot.expect_silence();
}

#[test]
fn what_is_signed_and_no_interaction_is_a_bad_request() {
    let (first, second) = (Platform::new(1), Platform::new(2));
    let mut config = with_platforms(&first, &second);
    config.servers.web.max_body_bytes = 10_000;
    config.servers.gateway.replay_max_bytes = 2048;
    let running = Running::start(config);
    let mut bot = shard(&running, &first, 0);
    let deep = format!(r#"{{"type":2,"id":"7","x":{}{}}}"#, "[".repeat(64), "]".repeat(64));
    for body in [
        "x",
        "[]",
        "{}",
        r#"{"application_id":"1"}"#,
        r#"{"type":0,"application_id":"1"}"#,
        r#"{"type":6,"application_id":"1","id":"7"}"#,
        r#"{"type":"2","application_id":"1","id":"7"}"#,
        r#"{"type":2,"application_id":"1"}"#,
        r#"{"type":2,"application_id":"1","id":7}"#,
        r#"{"type":2,"application_id":"1","id":"7","guild_id":"x"}"#,
        r#"{"type":2,"type":2,"application_id":"1","id":"7"}"#,
        &deep,
    ] {
        let answer = first.ask_text(&running, body);
        assert_eq!((answer.status, &answer.json()["error"]), (400, &json!("invalid_request")), "{body}");
        let message = answer.json()["message"].as_str().unwrap().to_owned();
        assert!(message.starts_with("an interaction is a JSON object with a type from 1 to 5"), "{body}: {message}");
    }
    for bytes in [3000, 20_000] {
        let body = json!({"type": 2, "id": "7", "application_id": "1", "x": "x".repeat(bytes)});
        let answer = first.ask(&running, &body);
        assert_eq!((answer.status, answer.json()), (413, json!({"error": "too_large"})), "{bytes}");
    }
    bot.expect_silence();
}

#[test]
fn the_shard_of_the_guild_is_asked_and_its_answer_returned() {
    let (first, second) = (Platform::new(1), Platform::new(2));
    let running = Running::start(with_platforms(&first, &second));
    let (mut bot, mut other) = (shard(&running, &first, 0), shard(&running, &first, 1));
    let body =
        json!({"type": 2, "id": "77", "application_id": "1", "guild_id": (5_u64 << 22).to_string(), "data": {"n": 1}});
    thread::scope(|scope| {
        let asked = scope.spawn(|| first.ask(&running, &body));
        let heard = other.hear();
        let data = json!({"shard_id": 1, "shard_total": 2, "flag": 4, "metadata_http": [body]});
        let expected =
            json!({"type": 8, "service": "http_gateway", "event": "INTERACTION_DISCORD", "data": data, "s": 1});
        assert_eq!(heard, expected);
        let reply = json!({"type": 4, "data": {"content": "pong ä"}});
        answer(&mut other, "77", &reply);
        // Nobody waits for this one.
        answer(&mut other, "77", &json!({"type": 4, "data": {"content": "late"}}));
        let answer = asked.join().unwrap();
        assert_eq!((answer.status, answer.json()), (200, reply));
    });
    bot.expect_silence();
    other.expect_silence();
}

#[test]
fn nobody_answers_for_another_application() {
    let (first, second) = (Platform::new(1), Platform::new(2));
    let running = Running::start(with_platforms(&first, &second));
    let (mut bot, mut stranger) = (shard(&running, &first, 0), shard(&running, &second, 0));
    let body = json!({"type": 2, "id": "77", "application_id": "1"});
    thread::scope(|scope| {
        let asked = scope.spawn(|| first.ask(&running, &body));
        bot.expect("INTERACTION_DISCORD");
        answer(&mut stranger, "77", &json!({"type": 4, "data": {"content": "stolen"}}));
        // It has been dealt with.
        stranger.ping(None);
        answer(&mut bot, "77", &json!({"type": 4, "data": {"content": "mine"}}));
        assert_eq!(asked.join().unwrap().json()["data"]["content"], "mine");
    });
}

#[test]
fn the_same_interaction_is_not_published_twice() {
    let (first, second) = (Platform::new(1), Platform::new(2));
    let mut config = with_platforms(&first, &second);
    config.servers.gateway.interaction_wait = Duration::from_millis(50);
    let running = Running::start(config);
    let mut bot = shard(&running, &first, 0);
    let body = json!({"type": 2, "id": "77", "application_id": "1"});
    for _ in 0..3 {
        assert_eq!(first.ask(&running, &body).json(), json!({"type": 5}));
    }
    bot.expect("INTERACTION_DISCORD");
    bot.expect_silence();
}

#[test]
fn what_a_shard_does_not_answer_in_time_is_answered_for_it() {
    let (first, second) = (Platform::new(1), Platform::new(2));
    let mut config = with_platforms(&first, &second);
    config.servers.gateway.interaction_wait = Duration::from_millis(100);
    let running = Running::start(config);
    let mut bot = shard(&running, &first, 0);
    for (kind, flag, expected) in [
        (2, 4, json!({"type": 5})),
        (3, 8, json!({"type": 6})),
        (4, 16, json!({"type": 8, "data": {"choices": []}})),
        (5, 32, json!({"type": 5})),
    ] {
        let begun = Instant::now();
        let body = json!({"type": kind, "id": kind.to_string(), "application_id": "1", "guild_id": null});
        let answer = first.ask(&running, &body);
        assert_eq!((answer.status, answer.json()), (200, expected));
        assert!(begun.elapsed() >= Duration::from_millis(100));
        assert_eq!(bot.expect("INTERACTION_DISCORD")["data"]["flag"], flag);
    }
    // Too late for anybody, and no harm done.
    answer(&mut bot, "2", &json!({"type": 4}));
    bot.expect_silence();
}

#[test]
fn without_a_shard_whoever_asked_is_told_so() {
    let (first, second) = (Platform::new(1), Platform::new(2));
    let running = Running::start(with_platforms(&first, &second));
    let answer = first.ask(&running, &json!({"type": 2, "id": "77", "application_id": "1"}));
    let body = answer.json();
    assert_eq!((answer.status, &body["type"], &body["data"]["flags"]), (200, &json!(4), &json!(64)));
    assert!(body["data"]["content"].as_str().is_some_and(|text| !text.is_empty()), "{body}");
}

#[test]
fn no_more_interactions_wait_than_may() {
    let (first, second) = (Platform::new(1), Platform::new(2));
    let mut config = with_platforms(&first, &second);
    config.servers.gateway.interactions_max = 1;
    let running = Running::start(config);
    let mut bot = shard(&running, &first, 0);
    thread::scope(|scope| {
        let asked = scope.spawn(|| first.ask(&running, &json!({"type": 2, "id": "1", "application_id": "1"})));
        bot.expect("INTERACTION_DISCORD");
        let refused = first.ask(&running, &json!({"type": 2, "id": "2", "application_id": "1"}));
        assert_eq!((refused.status, refused.json()), (503, json!({"error": "unavailable"})));
        assert!(refused.header("retry-after").is_some());
        // The one that waits is not disturbed by its double, which does not wait.
        let double = first.ask(&running, &json!({"type": 2, "id": "1", "application_id": "1"}));
        assert_eq!(double.json(), json!({"type": 5}));
        answer(&mut bot, "1", &json!({"type": 4, "data": {}}));
        assert_eq!(asked.join().unwrap().json(), json!({"type": 4, "data": {}}));
    });
    // Its place is free again.
    thread::scope(|scope| {
        let asked = scope.spawn(|| first.ask(&running, &json!({"type": 3, "id": "3", "application_id": "1"})));
        bot.expect("INTERACTION_DISCORD");
        answer(&mut bot, "3", &json!({"type": 7}));
        assert_eq!(asked.join().unwrap().json(), json!({"type": 7}));
    });
}

#[test]
fn a_shard_may_answer_more_interactions_than_its_rate_has_messages() {
    let (first, second) = (Platform::new(1), Platform::new(2));
    let mut config = with_platforms(&first, &second);
    config.servers.gateway.rate_messages = 3;
    let running = Running::start(config);
    let mut bot = shard(&running, &first, 0);
    for id in ["1", "2", "3", "4", "5", "6"] {
        thread::scope(|scope| {
            let asked = scope.spawn(|| first.ask(&running, &json!({"type": 2, "id": id, "application_id": "1"})));
            bot.expect("INTERACTION_DISCORD");
            answer(&mut bot, id, &json!({"type": 4, "data": {"content": id}}));
            assert_eq!(asked.join().unwrap().json()["data"]["content"], id);
        });
    }
    // Repeated and invented ones count: two are left beside its registration.
    for id in ["6", "7", "7"] {
        answer(&mut bot, id, &json!({}));
    }
    assert_eq!(bot.expect("GATEWAY_ERROR")["data"]["code"], 4008);
    assert_eq!(bot.closed(), Some(4008));
}
