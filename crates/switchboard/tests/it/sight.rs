//! What hooks decide about DDP clients: which rooms a client sees, and all that a client says in them.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use switchboard::node::hooks::{SayMiddleware, Saying};

use super::ddp_support::{MINE, PASSWORD, ROOMS, serving};
use super::http_backend::{Backend, Reaction, SECRET, yes};
use super::peer::eventually;
use super::support::TestServer;

/// A server whose hook asks this backend.
fn asking(backend: &Backend, hook: &str, settings: &[&str]) -> TestServer {
    let secret = format!("hooks.secret={SECRET}");
    serving(&[&[secret.as_str(), &backend.setting(hook), "hooks.timeout=10s"], settings].concat())
}

#[test]
fn fault_row_69_a_room_that_the_join_hook_closes_is_not_seen_in_another_way() {
    let purposes: Arc<Mutex<BTreeSet<String>>> = Arc::default();
    let asked_for = Arc::clone(&purposes);
    let backend = Backend::start(move |asked| {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let (user, room) = (text(&asked.json["connection"]["user"]), text(&asked.json["room"]));
        if user == "a1" && room.starts_with("staff") {
            asked_for.lock().unwrap().insert(text(&asked.json["purpose"]));
            return Reaction::Json(403, json!({"reason": "staff only"}));
        }
        yes()
    });
    let server = asking(&backend, "hooks.join", &["servers.ddp.public_rooms_to_all=true"]);
    let node = server.node();
    server.wait(node.add_room("staff")).unwrap();
    let mut bob = server.ddp_in("bob", &["staff", "defaultRoom"]);
    let say = |client: &mut switchboard_testkit::ddp::DdpClient, room: &str| {
        client.call("sendMessage", json!([{"rid": room, "msg": room}])).expect("a member may");
    };
    say(&mut bob, "staff");

    let mut ann = server.ddp_as("ann");
    ann.call("joinRoom", json!(["staff"])).expect_err("the hook refuses");
    assert_eq!(ann.call("loadHistory", json!(["staff"])), Ok(json!(false)));
    for method in ["getRoomIdByNameOrId", "getRoomNameById"] {
        ann.call(method, json!(["staff"])).expect_err("the room is not shown");
    }
    assert_eq!(ann.sub(ROOMS, json!(["staff", false])).expect_err("the room is not shown")["error"], "not-allowed");
    ann.sub(ROOMS, json!([MINE, false])).expect("any user may");
    // A room that is made later is offered to her.
    server.wait(node.add_room("staff2")).unwrap();
    bob.call("joinRoom", json!(["staff2"])).expect("bob may");
    for room in ["staff", "staff2", "defaultRoom"] {
        say(&mut bob, room);
    }
    assert_eq!(ann.heard(ROOMS)[0]["msg"], "defaultRoom");
    assert!(!ann.has_kept());
    let all = ["history", "join", "listen", "look"].map(str::to_owned);
    assert_eq!(*purposes.lock().unwrap(), BTreeSet::from(all));

    // Rooms that a user listens to are decided again for the next user of the connection.
    let mut other = server.ddp_as("bob");
    other.sub(ROOMS, json!(["staff", false])).expect("bob may");
    other.log_in("ann", PASSWORD);
    for room in ["staff", "defaultRoom"] {
        say(&mut bob, room);
    }
    assert_eq!(ann.heard(ROOMS)[0]["msg"], "defaultRoom");
    other.call("nothing", json!([])).expect_err("there is no such method");
    assert!(!other.has_kept());
}

#[test]
fn fault_row_69_a_listener_whose_membership_ends_is_decided_again() {
    let is_banned = Arc::new(AtomicBool::new(false));
    let banned = Arc::clone(&is_banned);
    let backend = Backend::start(move |asked| {
        let is_refused = banned.load(Ordering::SeqCst) && asked.json["connection"]["user"] == "a1";
        Reaction::Json(if is_refused { 403 } else { 200 }, json!({}))
    });
    let server = asking(&backend, "hooks.join", &[]);
    server.wait(server.node().add_room("club")).unwrap();
    let mut bob = server.ddp_in("bob", &["club"]);
    let mut ann = server.ddp_as("ann");
    ann.call("joinRoom", json!(["club"])).expect("not banned yet");
    ann.sub(ROOMS, json!(["club", false])).expect("a member may");
    let id = server.id_of_ddp(&mut ann);
    let mut say =
        |text: &str| drop(bob.call("sendMessage", json!([{"rid": "club", "msg": text}])).expect("a member may"));
    say("before");
    assert_eq!(ann.heard(ROOMS)[0]["msg"], "before");
    is_banned.store(true, Ordering::SeqCst);
    server.wait(server.node().remove_member(id, "club")).expect("she is a member");
    say("after");
    ann.call("nothing", json!([])).expect_err("there is no such method");
    assert!(!ann.has_kept());
    assert_eq!(ann.call("leaveRoom", json!(["club"])).unwrap_err()["error"], "error-invalid-room", "it is not shown");
}

#[test]
fn a_subscription_is_answered_nosub_if_the_hook_has_no_answer_and_ready_before_a_login() {
    let is_down = Arc::new(AtomicBool::new(true));
    let down = Arc::clone(&is_down);
    let backend = Backend::start(move |asked| match asked.json["purpose"].as_str() {
        Some("listen") if down.load(Ordering::SeqCst) => Reaction::Json(503, json!({})),
        _ => yes(),
    });
    let server = asking(&backend, "hooks.join", &["hooks.breaker_failures=0"]);
    let mut bob = server.ddp_in("bob", &["defaultRoom"]);
    let mut early = server.ddp();
    early.sub(ROOMS, json!(["defaultRoom", false])).expect("it waits for a login");
    let mut ann = server.ddp_as("ann");
    assert_eq!(ann.sub(ROOMS, json!(["defaultRoom", false])).expect_err("no answer")["error"], 500);
    early.log_in("ann", PASSWORD);
    is_down.store(false, Ordering::SeqCst);
    ann.sub(ROOMS, json!(["defaultRoom", false])).expect("the hook answers");
    bob.call("sendMessage", json!([{"rid": "defaultRoom", "msg": "x"}])).expect("a member may");
    assert_eq!(ann.heard(ROOMS)[0]["msg"], "x");
    // The offer is repeated for the one that logged in during the failure.
    eventually("it listens too", || {
        bob.call("sendMessage", json!([{"rid": "defaultRoom", "msg": "y"}])).is_ok() && {
            early.call("nothing", json!([])).expect_err("there is no such method");
            early.has_kept()
        }
    });
}

#[test]
fn a_hook_that_repeats_the_message_changes_nothing() {
    let backend = Backend::start(|asked| Reaction::Json(200, json!({"message": asked.json["message"]})));
    let server = asking(&backend, "hooks.say", &[]);
    let mut client = server.ddp_in("ann", &["defaultRoom"]);
    for text in ["words", ""] {
        let sent = json!([{"rid": "defaultRoom", "msg": text, "attachments": [{"text": "x"}]}]);
        let published = client.call("sendMessage", sent).expect("a member may");
        assert_eq!(published["attachments"], json!([{"text": "x"}]), "{published}");
    }
}

#[test]
fn hooks_read_the_name_of_a_room_of_two_users_without_control_characters() {
    let backend = Backend::start(|_| yes());
    let server = asking(&backend, "hooks.join", &[]);
    server.ddp_as("ann").call("createDirectMessage", json!(["bob"])).expect("any user may");
    let asked = backend.next().json;
    assert_eq!((&asked["room"], &asked["direct"]), (&json!("direct/a1/c1"), &json!(["a1", "c1"])));
}

const SENT: &str = r#"{"rid":"defaultRoom","msg":"damn","alias":"Boss","attachments":[{"text":"damn"}],"tmid":"t1"}"#;

#[test]
fn fault_row_67_the_say_hook_sees_all_that_recipients_get() {
    let backend = Backend::start(|asked| match asked.json["message"].as_str() {
        Some("damn") => Reaction::Json(200, json!({"message": "****"})),
        _ => yes(),
    });
    let server = asking(&backend, "hooks.say", &[]);
    let mut clients = ["bot", "ann"].map(|name| server.ddp_in(name, &["defaultRoom"]));
    let mut hearer = server.ddp_in("bob", &["defaultRoom"]);
    for (client, alias) in clients.iter_mut().zip([json!("Boss"), Value::Null]) {
        let sent: Value = serde_json::from_str(SENT).unwrap();
        client.call("sendMessage", json!([sent])).expect("a member may");
        let asked = backend.next().json;
        assert_eq!(asked["document"]["attachments"], json!([{"text": "damn"}]));
        assert_eq!(asked["document"]["alias"], alias, "only bots speak under other names");
        let heard = hearer.heard(ROOMS)[0].take();
        assert_eq!((&heard["msg"], &heard["tmid"]), (&json!("****"), &json!("t1")));
        assert!(heard.get("attachments").is_none() && heard.get("alias").is_none(), "{heard}");
    }
    let mut sent: Value = serde_json::from_str(SENT).unwrap();
    (sent["msg"], sent["_id"]) = (json!("fine"), json!("words"));
    clients[0].call("sendMessage", json!([sent])).expect("a member may");
    assert_eq!(backend.next().json["messageId"], "words");
    let heard = hearer.heard(ROOMS)[0].take();
    assert_eq!((&heard["alias"], &heard["attachments"]), (&json!("Boss"), &json!([{"text": "damn"}])));
}

struct Refuses;

impl SayMiddleware for Refuses {
    async fn say(&self, saying: &mut Saying) -> Result<(), String> {
        match saying.document().is_some_and(|document| document.as_str().contains("damn")) {
            true => Err("mind your words".to_owned()),
            false => Ok(()),
        }
    }
}

#[test]
fn fault_row_67_say_middleware_sees_the_document_and_settings_say_what_it_may_hold() {
    for (members, is_refused) in [("all", true), ("none", false), ("[\"attachments\"]", true), ("[\"emoji\"]", false)] {
        let members = format!("servers.ddp.extra_members={members}");
        let server = serving(&[&members]);
        server.node().add_say_middleware(100, Refuses);
        let mut client = server.ddp_in("ann", &["defaultRoom"]);
        let sent = SENT.replace(r#""msg":"damn""#, r#""msg":"x""#);
        let sent: Value = serde_json::from_str(&sent).unwrap();
        assert_eq!(client.call("sendMessage", json!([sent])).is_err(), is_refused, "{members}");
    }
}
