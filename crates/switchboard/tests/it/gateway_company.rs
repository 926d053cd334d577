//! Shards in rooms, together with people on other protocols.

use serde_json::{Value, json};
use switchboard::node::Speaker;
use switchboard_testkit::gateway::GatewayClient;

use super::ddp_support::{ROOMS, users};
use super::gateway_support::{
    APP, APPLICATIONS, about_room, expect_events, expect_replaced, foreign, register, reset, serving,
};
use super::peer::eventually;
use super::support::TestServer;

const ROOM: &str = "defaultRoom";

#[track_caller]
fn join(client: &mut GatewayClient, room: &str) {
    assert_eq!(
        about_room(client, json!({}), "join", room),
        json!({"op": "join", "room": room, "ok": true, "reason": null})
    );
}

/// The next message, which is something said in a room: its number as an event, and what was said there.
#[track_caller]
fn heard(client: &mut GatewayClient) -> (u64, Value) {
    let mut message = client.expect("GATEWAY_ROOM_MESSAGE");
    assert_eq!((&message["type"], &message["service"]), (&json!(8), &json!("gateway")));
    (message["s"].as_u64().expect("it is an event"), message["data"].take())
}

#[track_caller]
fn tell(server: &TestServer, room: &str, message: &str) {
    server.wait(server.node().broadcast(Speaker::server(), room, message)).expect("the room is there");
}

#[test]
fn a_shard_and_people_on_other_protocols_hear_each_other_in_one_room() {
    let server = TestServer::with(&[APPLICATIONS, &users()]);
    let mut ann = server.ddp_in("ann", &[ROOM]);
    let mut telnet = server.connect_into(1, &[ROOM]).remove(0);
    let telnet_id = server.id_of(&telnet).to_string();
    let (mut shard, _) = server.registered();
    let hash = server.fleet(APP)[0].id.to_string();
    join(&mut shard, ROOM);
    let members = server.wait(server.node().room_status(ROOM)).unwrap().members;
    assert_eq!(members.len(), 3);
    assert!(members.iter().any(|member| format!("{member:?}").contains(&hash)), "{members:?}");

    // The shard speaks: everybody else hears it.
    let said = about_room(&mut shard, json!({"message": {"text": "from a bot", "n": [1, 1.5]}}), "say", ROOM);
    assert_eq!(said, json!({"op": "say", "room": ROOM, "ok": true, "reason": null, "number": 1}));
    let line = telnet.read_json();
    assert_eq!((&line["message"], &line["from"]), (&json!({"text": "from a bot", "n": [1, 1.5]}), &json!(hash)));
    assert_eq!(ann.heard(ROOMS)[0]["number"], 1);
    // The others speak.
    assert_eq!(telnet.ask(&format!("say {ROOM} from telnet"))["status"], "OK");
    let (s, message) = heard(&mut shard);
    assert_eq!((s, &message["message"], &message["from"]), (1, &json!("from telnet"), &json!(telnet_id)));
    assert_eq!((&message["room"], &message["user"], &message["number"]), (&json!(ROOM), &Value::Null, &json!(2)));
    ann.call("sendMessage", json!([{"rid": ROOM, "msg": "from Ann"}])).unwrap();
    let (s, message) = heard(&mut shard);
    assert_eq!(
        (s, &message["message"], &message["user"], &message["number"]),
        (2, &json!("from Ann"), &json!("ann"), &json!(3))
    );
    tell(&server, ROOM, "from the server");
    let (s, message) = heard(&mut shard);
    assert_eq!((s, &message["message"], &message["from"]), (3, &json!("from the server"), &json!(0)));
    // Another application's shard is somebody else.
    let mut other = server.shard();
    register(&mut other, &foreign());
    join(&mut other, ROOM);
    about_room(&mut other, json!({"message": "from another bot"}), "say", ROOM);
    assert_eq!(heard(&mut shard).1["user"], "900");
    other.expect_silence();
    // Whoever has left hears nothing more, and the others go on.
    let left = about_room(&mut shard, json!({}), "leave", ROOM);
    assert_eq!(left["ok"], true);
    tell(&server, ROOM, "behind its back");
    assert_eq!(heard(&mut other).1["message"], "behind its back");
    shard.expect_silence();
    assert_eq!(server.member_count(ROOM), 3);
}

#[test]
fn events_and_what_rooms_say_are_numbered_in_one_order_while_nobody_carries_the_session() {
    let server = serving(&[]);
    let (mut shard, session) = server.registered();
    join(&mut shard, ROOM);
    reset(shard);
    server.until_detached();
    for round in 0..20 {
        tell(&server, ROOM, "away");
        eventually("it is in the log", || server.fleet(APP)[0].last == 2 * round + 1);
        server.publish([round]);
    }
    let mut shard = server.resumed(&session, 0);
    for round in 0..20 {
        let (s, message) = heard(&mut shard);
        assert_eq!((s, &message["number"]), (2 * round + 1, &json!(round + 1)));
        expect_events(&mut shard, 2 * round + 2, [round]);
    }
    // The next session of this shard begins outside of the room.
    let (mut new, _) = server.registered();
    expect_replaced(&mut shard);
    eventually("the old session has left", || server.member_count(ROOM) == 0);
    tell(&server, ROOM, "nobody?");
    new.expect_silence();
}

#[test]
fn many_messages_of_a_busy_room_reach_a_shard_in_order_and_once_over_many_connections() {
    const MESSAGES: u64 = 1500;
    let server = serving(&["servers.gateway.rate_messages=0", "servers.gateway.replay_max_events=2000"]);
    let (mut shard, session) = server.registered();
    join(&mut shard, ROOM);
    let node = server.node().clone();
    let talking = server.spawn(async move {
        for number in 1..=MESSAGES {
            node.broadcast(Speaker::server(), ROOM, json!(number)).await.unwrap();
        }
    });
    for number in 1..=MESSAGES {
        let (s, message) = heard(&mut shard);
        assert_eq!((s, &message["number"], &message["message"]), (number, &json!(number), &json!(number)));
        if number % 97 == 0 {
            reset(shard);
            shard = server.resumed(&session, number);
        }
    }
    server.wait(talking).unwrap();
    shard.expect_silence();
}
