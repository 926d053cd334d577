//! Rooms of users: whose membership it is, who is let in, and what the other faces see of it.

use serde_json::{Value, json};
use switchboard::Pattern;
use switchboard::node::Speaker;

use super::ddp_support::{MINE, ROOMS, date, refused, said, serving, words};

const STAFF: &str = r#"rooms.starting=[{name="staff",auth={staff=true}},{name="open"}]"#;

#[test]
fn telnet_and_a_bot_share_a_room_each_in_its_own_words() {
    let server = serving(&[]);
    let mut bot = server.ddp_in("bot", &["defaultRoom"]);
    let mut telnet = server.connect_into(1, &["defaultRoom"]).remove(0);
    let telnet_id = server.id_of(&telnet).to_string();
    let bot_id = server.id_of_ddp(&mut bot).to_string();

    assert_eq!(telnet.ask("say defaultRoom hello bot")["status"], "OK");
    let mut args = bot.heard(ROOMS);
    let meta = args[1].take();
    assert_eq!(meta, json!({"roomParticipant": true, "roomType": "c", "roomName": "defaultRoom"}));
    let message = args[0].take();
    let sent = date(&message);
    assert_eq!(
        message,
        json!({
            "_id": message["_id"], "rid": "defaultRoom", "msg": "hello bot", "ts": {"$date": sent},
            "u": {"_id": telnet_id, "username": format!("guest-{}", &telnet_id[..8])},
            "_updatedAt": {"$date": sent}, "mentions": [], "channels": [], "number": 1
        })
    );
    assert_eq!(message["_id"].as_str().unwrap().len(), 17);

    let document =
        json!({"rid": "defaultRoom", "msg": "hello telnet", "bot": {"i": "js.SDK"}, "alias": "R2", "n": 1.5});
    let result = bot.call("sendMessage", json!([document])).unwrap();
    let own = bot.heard(ROOMS)[0].take();
    for seen in [&result, &own] {
        assert_eq!(
            (said(seen), &seen["bot"]["i"], &seen["alias"]),
            (("hello telnet", 2), &json!("js.SDK"), &json!("R2"))
        );
        assert_eq!((&seen["u"], &seen["n"]), (&json!({"_id": "b1", "username": "bot", "name": "bot"}), &json!(1.5)));
    }
    assert_eq!(own["_id"], result["_id"]);
    let line = telnet.read_json();
    let expected = json!({
        "message": "hello telnet", "room": "defaultRoom", "from": bot_id, "context": "user", "sentAt": line["sentAt"]
    });
    assert_eq!(line, expected);

    // What is no text is shown to clients that know texts only as it is written.
    let number = server.wait(server.node().broadcast(Speaker::named("weather"), "defaultRoom", json!({"c": [1, 2]})));
    assert_eq!(number.unwrap(), Some(3));
    let message = bot.heard(ROOMS)[0].take();
    assert_eq!(
        (said(&message), &message["u"]),
        ((r#"{"c":[1,2]}"#, 3), &json!({"_id": "weather", "username": "weather"}))
    );
    server.wait(server.node().broadcast(Speaker::server(), "defaultRoom", "bye")).unwrap();
    assert_eq!(bot.heard(ROOMS)[0]["u"], json!({"_id": "0", "username": "server"}));
}

#[test]
fn membership_is_the_users_and_a_connection_only_takes_part_in_it() {
    let server = serving(&[STAFF]);
    let mut first = server.ddp_in("bot", &[]);
    let mut second = server.ddp_in("bot", &[]);
    let nobody = server.ddp();
    assert_eq!(first.call("joinRoom", json!(["open"])), Ok(json!(true)));
    // The other one is in as well when the answer comes, each with an entry of its own.
    let members = server.wait(server.node().room_status("open")).unwrap().members;
    let mut ids: Vec<_> = members.iter().map(|member| member.id).collect();
    let mut expected = vec![server.id_of_ddp(&mut first), server.id_of_ddp(&mut second)];
    ids.sort_unstable();
    expected.sort_unstable();
    assert_eq!(ids, expected);
    assert_eq!(second.call("joinRoom", json!(["open"])), Ok(json!(true)));
    second.call("sendMessage", json!([{"rid": "open", "msg": "both hear this"}])).unwrap();
    for client in [&mut first, &mut second] {
        assert_eq!(said(&client.heard(ROOMS)[0]), ("both hear this", 1));
    }
    // A session that begins later is in the room when its log-in is answered.
    let mut third = server.ddp_as("bot");
    assert_eq!(server.member_count("open"), 3);
    // One that ends takes itself out, and nobody else.
    third.line().half_close().unwrap();
    third.line().expect_fin();
    super::peer::eventually("it is out", || server.member_count("open") == 2);
    second.call("logout", json!([])).unwrap();
    assert_eq!(server.member_count("open"), 1);
    second.log_in("bot", super::ddp_support::PASSWORD);
    assert_eq!(server.member_count("open"), 2);
    // The room is left by all.
    assert_eq!(second.call("leaveRoom", json!(["open"])), Ok(Value::Null));
    assert_eq!(server.member_count("open"), 0);
    assert_eq!(
        refused(first.call("leaveRoom", json!(["open"]))),
        words("error-user-not-in-room", "You are not in this room")
    );
    assert_eq!(
        refused(first.call("sendMessage", json!([{"rid": "open", "msg": "x"}]))),
        words("error-not-allowed", "Not allowed")
    );
    drop(server.ddp_as("bot"));
    assert_eq!(server.member_count("open"), 0);
    drop(nobody);
}

#[test]
fn whoever_leaves_hears_nothing_more_and_who_stays_does() {
    let server = serving(&[]);
    let mut bot = server.ddp_in("bot", &["defaultRoom"]);
    let mut ann = server.ddp_in("ann", &["defaultRoom"]);
    bot.call("leaveRoom", json!(["defaultRoom"])).unwrap();
    ann.call("sendMessage", json!([{"rid": "defaultRoom", "msg": "gone?"}])).unwrap();
    assert_eq!(ann.heard(ROOMS)[0]["msg"], "gone?");
    bot.expect_silence();
}

#[test]
fn rooms_that_one_may_not_see_are_not_there() {
    let server = serving(&[STAFF]);
    let (mut bot, mut ann, mut nobody) = (server.ddp_as("bot"), server.ddp_as("ann"), server.ddp());
    let not_allowed = words("error-not-allowed", "Not allowed");
    for room in ["staff", "missing"] {
        for method in ["getRoomIdByNameOrId", "getRoomNameById"] {
            assert_eq!(refused(bot.call(method, json!([room]))), not_allowed, "{method} {room}");
        }
        assert_eq!(bot.call("loadHistory", json!([room])), Ok(json!(false)));
        assert_eq!(refused(bot.call("sendMessage", json!([{"rid": room, "msg": "x"}]))), not_allowed);
        for client in [&mut bot, &mut nobody] {
            assert_eq!(client.sub(ROOMS, json!([room])).unwrap_err()["error"], "not-allowed");
        }
    }
    for method in ["joinRoom", "leaveRoom"] {
        for room in ["staff", "missing"] {
            assert_eq!(refused(bot.call(method, json!([room]))), words("error-invalid-room", "Invalid room"), "{room}");
        }
    }
    assert_eq!(ann.call("getRoomIdByNameOrId", json!(["staff"])), Ok(json!("staff")));
    assert_eq!(ann.call("getRoomNameById", json!(["staff"])), Ok(json!("staff")));
    assert_eq!(ann.call("joinRoom", json!(["staff"])), Ok(json!(true)));
    ann.sub(ROOMS, json!([MINE])).unwrap();
    ann.call("sendMessage", json!([{"rid": "staff", "msg": "secret"}])).unwrap();
    assert_eq!(ann.heard(ROOMS)[1], json!({"roomParticipant": true, "roomType": "p", "roomName": "staff"}));
    bot.expect_silence();
    nobody.expect_silence();
}

#[test]
fn ids_of_rooms_are_names_without_slashes() {
    let server = serving(&[r#"rooms.starting=[{name="a/b%"}]"#]);
    let mut bot = server.ddp_in("bot", &["a%2Fb%25"]);
    assert_eq!(bot.call("getRoomIdByNameOrId", json!(["a/b%"])), Ok(json!("a%2Fb%25")));
    assert_eq!(bot.call("getRoomIdByNameOrId", json!(["a%2Fb%25"])), Ok(json!("a%2Fb%25")));
    assert_eq!(bot.call("getRoomNameById", json!(["a%2Fb%25"])), Ok(json!("a/b%")));
    assert_eq!(bot.call("sendMessage", json!([{"rid": "a%2Fb%25", "msg": "x"}])).unwrap()["rid"], "a%2Fb%25");
    assert_eq!(bot.heard(ROOMS)[1]["roomName"], "a/b%");
}

#[test]
fn fault_row_20_a_new_pattern_removes_whoever_does_not_match_it() {
    let server = serving(&[STAFF]);
    let mut bot = server.ddp_in("bot", &["open"]);
    let mut ann = server.ddp_in("ann", &["open"]);
    server.wait(server.node().set_authentication_pattern("open", "staff", true)).unwrap();
    assert_eq!(server.member_count("open"), 1);
    ann.call("sendMessage", json!([{"rid": "open", "msg": "alone at last"}])).unwrap();
    assert_eq!(ann.heard(ROOMS)[1]["roomType"], "p");
    bot.expect_silence();
    assert_eq!(
        refused(bot.call("sendMessage", json!([{"rid": "open", "msg": "let me in"}]))),
        words("error-not-allowed", "Not allowed")
    );
    // The room is still his: he is in it again with the next session that may.
    let mut other = server.ddp_as("bot");
    assert_eq!(server.member_count("open"), 1);
    server.wait(server.node().set_pattern("open", Pattern::default())).unwrap();
    other.log_in("bot", super::ddp_support::PASSWORD);
    assert_eq!(server.member_count("open"), 2);
}

#[test]
fn fault_row_20_a_change_of_state_counts_when_it_is_looked_at_again() {
    let server = serving(&[STAFF]);
    let mut ann = server.ddp_in("ann", &["staff", "open"]);
    let id = server.id_of_ddp(&mut ann);
    let node = server.node();
    node.set_connection_state(id, "staff", false).unwrap();
    assert_eq!(server.member_count("staff"), 1);
    let looked_at = server.wait(node.reauthenticate(id)).unwrap();
    let names = |rooms: &[switchboard::RoomName]| rooms.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!((names(&looked_at.rooms), names(&looked_at.removed)), (vec!["open".into()], vec!["staff".into()]));
    assert_eq!(server.member_count("staff"), 0);
    server.wait(node.broadcast(Speaker::server(), "staff", "without ann")).unwrap();
    ann.expect_silence();
    assert_eq!(refused(ann.call("joinRoom", json!(["staff"]))), words("error-invalid-room", "Invalid room"));
    // Another session of hers has the state of the user.
    let _other = server.ddp_as("ann");
    assert_eq!(server.member_count("staff"), 1);
}

#[test]
fn the_server_adds_and_removes_the_user() {
    let server = serving(&[]);
    let (mut first, mut second) = (server.ddp_as("bot"), server.ddp_as("bot"));
    let id = server.id_of_ddp(&mut first);
    server.wait(server.node().add_member(id, "defaultRoom")).unwrap();
    assert_eq!(server.member_count("defaultRoom"), 2);
    assert_eq!(second.call("leaveRoom", json!(["defaultRoom"])), Ok(Value::Null));
    assert_eq!(server.member_count("defaultRoom"), 0);
    second.call("joinRoom", json!(["defaultRoom"])).unwrap();
    server.wait(server.node().remove_member(id, "defaultRoom")).unwrap();
    assert_eq!(server.member_count("defaultRoom"), 0);
    drop(server.ddp_as("bot"));
    assert_eq!(server.member_count("defaultRoom"), 0);
}

#[test]
fn a_destroyed_room_says_so_and_is_nobodys() {
    let server = serving(&[]);
    let mut bot = server.ddp_in("bot", &["defaultRoom"]);
    server.wait(server.node().destroy_room("defaultRoom")).unwrap();
    assert_eq!(bot.heard(ROOMS)[0]["msg"], "this room has been deleted");
    assert_eq!(
        refused(bot.call("sendMessage", json!([{"rid": "defaultRoom", "msg": "x"}]))),
        words("error-not-allowed", "Not allowed")
    );
    // Made anew, it is another room, and nobody is in it.
    server.wait(server.node().add_room("defaultRoom")).unwrap();
    bot.expect_silence();
    assert_eq!(server.member_count("defaultRoom"), 0);
    let _again = server.ddp_as("bot");
    assert_eq!(server.member_count("defaultRoom"), 0);
}
