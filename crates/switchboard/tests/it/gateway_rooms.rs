//! Rooms of bots on the gateway: the session is the member, whichever connection carries it, and its log has what was said.

use std::slice::from_ref;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use switchboard::Pattern;
use switchboard::proto::call::CallError;
use switchboard::proto::id::ConnId;
use switchboard_testkit::client::LineClient;
use switchboard_testkit::gateway::{Credentials, GatewayClient};

use super::peer::{Folder, eventually};
use super::support::TestServer;

pub(crate) const APPLICATIONS: &str = r#"gateway.applications=[
    {id="822",public_key="3f0c",secret="correct-horse",state={staff=true},tags=["night"]},
    {id="823",public_key="4a1d",secret="battery-staple"}]"#;

pub(crate) fn credentials() -> Credentials {
    Credentials::new("3f0c", "correct-horse")
}

/// A bot and its session.
pub(crate) struct Bot {
    pub(crate) client: GatewayClient,
    pub(crate) hash: String,
    pub(crate) session_id: String,
}

impl Bot {
    pub(crate) fn register(server: &TestServer, credentials: &Credentials) -> Self {
        let mut client = GatewayClient::connect(server.web_address()).unwrap();
        let ready = client.register(credentials).unwrap();
        let shards = &ready["shards_stats"][0][0][0][0][0][0];
        let mine = shards.as_array().unwrap().iter().find(|shard| shard["shard_id"] == credentials.shard).unwrap();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        Self { client, hash: text(&mine["shard_hash"]), session_id: text(&ready["session_id"]) }
    }

    pub(crate) fn id(&self) -> ConnId {
        ConnId::parse(&self.hash).unwrap()
    }

    /// Goes away without a word, and waits until the server knows.
    fn vanish(self, server: &TestServer) -> (String, String) {
        let Self { client, hash, session_id } = self;
        client.hang_up();
        eventually("it is gone", || server.node().connection_ids().is_empty());
        (hash, session_id)
    }

    fn come_back(server: &TestServer, (hash, session_id): (String, String), seq: u64) -> Self {
        let mut client = GatewayClient::connect(server.web_address()).unwrap();
        client.resume(&credentials(), &session_id, Some(seq)).unwrap();
        Self { client, hash, session_id }
    }

    /// Asks something of a room and returns the answer's data.
    #[track_caller]
    pub(crate) fn ask(&mut self, d: &Value) -> Value {
        self.client.send(&json!({"type": 10, "d": d}));
        let mut answer = self.client.expect("GATEWAY_ROOM");
        assert_eq!((&answer["type"], &answer["service"]), (&json!(10), &json!("gateway")));
        answer["data"].take()
    }

    #[track_caller]
    pub(crate) fn join(&mut self, room: &str) {
        let answer = self.ask(&json!({"op": "join", "room": room}));
        assert_eq!(answer, json!({"op": "join", "room": room, "ok": true, "reason": null}));
    }

    /// The next event, which must be a message of a room: its number in the log, and what it says.
    #[track_caller]
    fn hear(&mut self) -> (u64, Value) {
        let mut event = self.client.expect("GATEWAY_ROOM_MESSAGE");
        (event["s"].as_u64().unwrap(), event["data"]["message"].take())
    }
}

pub(crate) fn start(settings: &[&str]) -> TestServer {
    TestServer::with(&[&[APPLICATIONS], settings].concat())
}

fn say(client: &mut LineClient, text: &str) {
    assert_eq!(client.ask(&format!("say defaultRoom {text}"))["status"], "OK");
}

fn members(server: &TestServer, room: &str) -> Vec<String> {
    let members = server.wait(server.node().room_status(room)).unwrap().members;
    members.into_iter().map(|member| member.id.to_string()).collect()
}

#[test]
fn a_bot_hears_and_is_heard_and_does_not_hear_itself() {
    let server = start(&[]);
    let mut bot = Bot::register(&server, &credentials());
    bot.join("defaultRoom");
    let mut human = server.connect_into(1, &["defaultRoom"]).remove(0);
    assert_eq!(members(&server, "defaultRoom"), [bot.hash.clone(), server.id_of(&human).to_string()]);
    say(&mut human, "hello");
    let heard = bot.client.expect("GATEWAY_ROOM_MESSAGE");
    let sent_at = heard["data"]["sentAt"].clone();
    assert!(sent_at.is_u64());
    let data = json!({"room": "defaultRoom", "message": "hello", "from": server.id_of(&human).to_string(), "user": null,
        "sentAt": sent_at, "number": 1});
    assert_eq!(heard, json!({"type": 8, "service": "gateway", "event": "GATEWAY_ROOM_MESSAGE", "data": data, "s": 1}));
    let said = bot.ask(&json!({"op": "say", "room": "defaultRoom", "message": {"tea": true}, "id": "once"}));
    assert_eq!(said, json!({"op": "say", "room": "defaultRoom", "ok": true, "reason": null, "number": 2}));
    let heard = human.read_json();
    assert_eq!((&heard["message"], &heard["from"]), (&json!({"tea": true}), &json!(bot.hash)));
    let again = bot.ask(&json!({"op": "say", "room": "defaultRoom", "message": "again", "id": "once"}));
    assert_eq!(again["number"], 2, "the same id says nothing again");
    bot.client.expect_silence();
    assert_eq!(bot.ask(&json!({"op": "leave", "room": "defaultRoom"}))["ok"], true);
    say(&mut human, "gone");
    bot.client.expect_silence();
    assert_eq!(members(&server, "defaultRoom").len(), 1);
}

#[test]
fn refusals_have_the_reasons_of_the_protocol() {
    let server = start(&["limits.max_rooms_per_connection=1"]);
    let node = server.node();
    server.wait(node.add_room("guests")).unwrap();
    server.wait(node.set_pattern("guests", Pattern::new().with("staff", false))).unwrap();
    let mut bot = Bot::register(&server, &credentials());
    let mut reason = |d: Value| {
        let answer = bot.ask(&d);
        assert_eq!((&answer["ok"], &answer["op"]), (&json!(false), &d["op"]), "{answer}");
        answer["reason"].as_str().unwrap().to_owned()
    };
    assert_eq!(reason(json!({"op": "join", "room": "nowhere"})), "room_not_found");
    assert_eq!(reason(json!({"op": "join", "room": "guests"})), "not_authorized");
    assert_eq!(reason(json!({"op": "leave", "room": "defaultRoom"})), "not_member");
    assert_eq!(reason(json!({"op": "say", "room": "defaultRoom", "message": 1})), "not_member");
    assert_eq!(reason(json!({"op": "say", "room": "defaultRoom", "message": null})), "message_required");
    bot.join("defaultRoom");
    let mut reason = |d: Value| bot.ask(&d)["reason"].as_str().unwrap().to_owned();
    assert_eq!(reason(json!({"op": "join", "room": "defaultRoom"})), "already_member");
    server.wait(server.node().add_room("more")).unwrap();
    assert_eq!(reason(json!({"op": "join", "room": "more"})), "too_many_rooms");
}

#[test]
fn what_is_said_while_a_bot_is_away_waits_for_it_in_order() {
    let server = start(&[]);
    let mut bot = Bot::register(&server, &credentials());
    bot.join("defaultRoom");
    let away = bot.vanish(&server);
    let mut human = server.connect_into(1, &["defaultRoom"]).remove(0);
    for number in 1..=300 {
        say(&mut human, &number.to_string());
    }
    assert_eq!(members(&server, "defaultRoom")[0], away.0, "it stayed a member");
    let mut bot = Bot::come_back(&server, away, 0);
    for number in 1..=300 {
        assert_eq!(bot.hear(), (number, json!(number.to_string())));
    }
    say(&mut human, "live");
    assert_eq!(bot.hear(), (301, json!("live")));
}

#[test]
fn a_membership_ends_with_the_session() {
    let server = start(&["servers.gateway.resume_window=200ms"]);
    let mut bots: Vec<Bot> = (0..3).map(|shard| Bot::register(&server, &credentials().of_shard(shard))).collect();
    for bot in &mut bots {
        bot.join("defaultRoom");
    }
    assert_eq!(members(&server, "defaultRoom").len(), 3);
    let mut expiring = bots.pop().unwrap();
    let mut leaving = bots.pop().unwrap();
    leaving.client.send_close(4100).unwrap();
    leaving.client.closed();
    eventually("it left", || members(&server, "defaultRoom").len() == 2);
    let replacing = Bot::register(&server, &credentials().of_shard(2));
    eventually("it was replaced", || members(&server, "defaultRoom") == [bots[0].hash.clone()]);
    expiring.client.expect("GATEWAY_ERROR");
    assert_eq!(expiring.client.closed(), Some(4020));
    drop(replacing);
    bots.pop().unwrap().client.hang_up();
    eventually("it expired", || members(&server, "defaultRoom").is_empty());
}

#[test]
fn the_deletion_of_a_room_is_the_last_that_is_heard_of_it_also_by_who_is_away() {
    let server = start(&[]);
    let node = server.node();
    server.wait(node.add_room("doomed")).unwrap();
    let mut here = Bot::register(&server, &credentials());
    here.join("doomed");
    let mut away = Bot::register(&server, &Credentials::new("4a1d", "battery-staple"));
    away.join("doomed");
    let (hash, session_id) = (away.hash.clone(), away.session_id.clone());
    away.client.hang_up();
    server.wait(node.destroy_room("doomed")).unwrap();
    server.wait(node.add_room("doomed")).unwrap();
    assert_eq!(members(&server, "doomed"), [""; 0], "whoever was in it is not in another room of that name");
    assert_eq!(server.wait(node.broadcast(switchboard::Speaker::server(), "doomed", "anew")).unwrap(), Some(1));
    assert_eq!(here.hear(), (1, json!("this room has been deleted")));
    here.client.expect_silence();
    let mut client = GatewayClient::connect(server.web_address()).unwrap();
    client.resume(&Credentials::new("4a1d", "battery-staple"), &session_id, Some(0)).unwrap();
    let mut away = Bot { client, hash, session_id };
    assert_eq!(away.hear(), (1, json!("this room has been deleted")));
    away.client.expect_silence();
}

#[test]
fn a_pattern_looks_at_the_session_whether_it_is_there_or_not() {
    let server = start(&[]);
    let node = server.node();
    let mut staff = Bot::register(&server, &credentials());
    let mut other = Bot::register(&server, &Credentials::new("4a1d", "battery-staple"));
    staff.join("defaultRoom");
    other.join("defaultRoom");
    let (staff_hash, other_id) = (staff.hash.clone(), other.id());
    staff.client.hang_up();
    server.until_detached();
    server.wait(node.set_pattern("defaultRoom", Pattern::new().with("staff", true))).unwrap();
    assert_eq!(members(&server, "defaultRoom"), from_ref(&staff_hash));
    assert!(matches!(server.wait(node.add_member(other_id, "defaultRoom")), Err(CallError::NotAuthorized)));
    for (key, value) in [("type", json!("gateway")), ("user", json!("822")), ("id", json!(staff_hash))] {
        server.wait(node.set_authentication_pattern("defaultRoom", key, value)).unwrap();
        assert_eq!(members(&server, "defaultRoom"), from_ref(&staff_hash), "{key}");
    }
    // It comes from nowhere at the moment.
    server.wait(node.set_authentication_pattern("defaultRoom", "remoteIP", "127.0.0.1")).unwrap();
    assert_eq!(members(&server, "defaultRoom"), [""; 0]);
    server.wait(node.add_member(other_id, "defaultRoom")).unwrap();
    server.wait(node.clear_authentication_pattern("defaultRoom")).unwrap();
    other.client.expect_silence();
}

#[test]
fn server_code_sees_the_session_and_names_it_by_its_hash_or_its_connection() {
    type Seen = (&'static str, String, Option<Value>);
    let changes: Arc<Mutex<Vec<Seen>>> = Arc::default();
    let (joined, left) = (Arc::clone(&changes), Arc::clone(&changes));
    let server = TestServer::build(&[APPLICATIONS], move |builder| {
        builder.setup(move |node| {
            node.add_join_callback(100, move |change| {
                let who = change.connection();
                joined.lock().unwrap().push(("join", who.id().to_string(), who.attribute("remoteIP")));
                change.broadcast(format!("hello {}", who.user().unwrap().id()));
            });
            node.add_leave_callback(100, move |change| {
                let who = change.connection();
                left.lock().unwrap().push(("leave", who.id().to_string(), who.get("staff")));
            });
        })
    });
    let node = server.node();
    let mut bot = Bot::register(&server, &credentials());
    let connection = server.find(bot.client.stream().local_addr().unwrap()).unwrap();
    server.wait(node.add_member(connection, "defaultRoom")).unwrap();
    assert!(matches!(server.wait(node.add_member(bot.id(), "defaultRoom")), Err(CallError::AlreadyMember(_))));
    bot.client.expect_silence();
    assert_eq!(server.wait(node.broadcast(connection, "defaultRoom", "mine")).unwrap(), Some(2));
    assert_eq!(server.wait(node.broadcast(bot.id(), "defaultRoom", "mine")).unwrap(), Some(3));
    let speaker = switchboard::Speaker::named(connection.to_string());
    assert_eq!(server.wait(node.broadcast(speaker, "defaultRoom", "for it")).unwrap(), Some(4));
    bot.client.expect_silence();
    let info = server.wait(node.connection(bot.id())).unwrap();
    assert_eq!((info.handle.id(), info.session), (connection, Some(bot.id())));
    assert_eq!(info.rooms.iter().map(|room| room.as_str()).collect::<Vec<_>>(), ["defaultRoom"]);
    assert!(server.wait(node.authorize(bot.id(), "defaultRoom")).unwrap());
    server.wait(node.remove_member(bot.id(), "defaultRoom")).unwrap();
    assert!(matches!(server.wait(node.remove_member(connection, "defaultRoom")), Err(CallError::NotMember(_))));
    let seen = [("join", bot.hash.clone(), Some(json!("127.0.0.1"))), ("leave", bot.hash.clone(), Some(json!(true)))];
    assert_eq!(*changes.lock().unwrap(), seen);
    let nobody = ConnId::session_from_random(1);
    assert!(matches!(server.wait(node.add_member(nobody, "defaultRoom")), Err(CallError::NoSuchConnection)));
    let unregistered = GatewayClient::connect(server.web_address()).unwrap();
    let address = unregistered.stream().local_addr().unwrap();
    eventually("it is there", || server.find(address).is_some());
    let unregistered = server.find(address).unwrap();
    assert!(matches!(server.wait(node.add_member(unregistered, "defaultRoom")), Err(CallError::NotSupported)));
}

#[test]
fn rooms_are_entered_again_after_a_restart_and_what_nobody_knows_is_told() {
    let folder = Folder::new();
    let data_dir = format!("node.data_dir={:?}", folder.join("data").display().to_string());
    let settings = [
        "backend.kind=file",
        &data_dir,
        r#"rooms.starting=[{name="lobby"},{name="staff",auth={staff=true}},{name="other",auth={staff=false}}]"#,
    ];
    let server = start(&settings);
    let node = server.node();
    server.wait(node.clear_authentication_pattern("other")).unwrap();
    server.wait(node.add_room("later")).unwrap();
    let mut bot = Bot::register(&server, &credentials());
    for room in ["lobby", "staff", "other", "later"] {
        bot.join(room);
    }
    for text in ["one", "two"] {
        server.wait(node.broadcast(switchboard::Speaker::server(), "lobby", text)).unwrap();
    }
    assert_eq!((bot.hear(), bot.hear()), ((1, json!("one")), (2, json!("two"))));
    let (hash, session_id) = (bot.hash.clone(), bot.session_id.clone());
    bot.client.hang_up();
    server.stop();

    let server = start(&settings);
    let node = server.node();
    for (room, expected) in [("lobby", from_ref(&hash)), ("staff", from_ref(&hash)), ("other", &[])] {
        assert_eq!(members(&server, room), expected, "{room}");
    }
    server.wait(node.broadcast(switchboard::Speaker::server(), "lobby", "three")).unwrap();
    let mut bot = Bot::come_back(&server, (hash.clone(), session_id), 2);
    let mut told: Vec<Value> = (0..3).map(|_| bot.client.hear()["data"].take()).collect();
    told.sort_by_key(|data| data["room"].as_str().unwrap().to_owned());
    assert_eq!(told[2], json!({"room": "staff", "first": 1, "last": null}));
    let lobby: Vec<_> = told[..2].iter().map(|data| (&data["first"], &data["last"], &data["message"])).collect();
    let gap = (&json!(3), &Value::Null, &Value::Null);
    assert_eq!(lobby, [gap, (&Value::Null, &Value::Null, &json!("three"))], "the gap comes first");
    server.wait(node.add_room("later")).unwrap();
    assert_eq!(members(&server, "later"), [hash]);
    assert_eq!(bot.client.expect("GATEWAY_ROOM_GAP")["data"], json!({"room": "later", "first": 1, "last": null}));
}
