//! Rooms of two users: theirs alone, and nothing that anybody else can see or make.

use serde_json::{Value, json};

use super::ddp_support::{MINE, ROOMS, refused, said, serving, words};

#[test]
fn both_are_in_it_from_its_creation_whoever_made_it() {
    let server = serving(&[]);
    let mut bot = server.ddp_in("bot", &[]);
    let mut ann = server.ddp_in("ann", &[]);
    let mut second = server.ddp_in("ann", &[]);
    let made = bot.call("createDirectMessage", json!(["ann"])).unwrap();
    let rid = made["rid"].as_str().unwrap();
    assert_eq!(made, json!({"rid": "%da1%b1"}));
    // The same each time, either way round, by name or by id.
    for (client, with) in [(&mut bot, "a1"), (&mut ann, "bot"), (&mut second, "b1")] {
        assert_eq!(client.call("createDirectMessage", json!([with])).unwrap(), made);
    }
    let sent = ann.call("sendMessage", json!([{"rid": rid, "msg": "between us"}])).unwrap();
    assert_eq!((&sent["rid"], said(&sent)), (&json!(rid), ("between us", 1)));
    for client in [&mut bot, &mut ann, &mut second] {
        let args = client.heard(ROOMS);
        assert_eq!((said(&args[0]), &args[1]), (("between us", 1), &json!({"roomParticipant": true, "roomType": "d"})));
    }
    bot.call("sendMessage", json!([{"rid": rid, "msg": "yes"}])).unwrap();
    assert_eq!(said(&ann.heard(ROOMS)[0]), ("yes", 2));
    // A session that begins later is in it, and the room as such can be heard.
    let mut later = server.ddp_in("ann", &[]);
    later.sub(ROOMS, json!([rid])).unwrap();
    bot.call("sendMessage", json!([{"rid": rid, "msg": "still"}])).unwrap();
    assert_eq!(later.frames(2).len(), 2);
    let history = later.call("loadHistory", json!([rid])).unwrap();
    assert_eq!(history["messages"].as_array().unwrap().len(), 3);
    assert_eq!(later.call("getRoomNameById", json!([rid])), Ok(Value::Null));
    assert_eq!(later.call("getRoomIdByNameOrId", json!([rid])), Ok(json!(rid)));
    assert_eq!(later.call("joinRoom", json!([rid])), Ok(json!(true)));
    assert_eq!(refused(later.call("leaveRoom", json!([rid]))), words("error-not-allowed", "Not allowed"));
}

#[test]
fn the_room_of_others_is_no_room() {
    let server = serving(&[]);
    let mut bot = server.ddp_in("bot", &[]);
    let rid = bot.call("createDirectMessage", json!(["ann"])).unwrap()["rid"].take();
    bot.call("sendMessage", json!([{"rid": rid, "msg": "secret"}])).unwrap();
    let not_allowed = words("error-not-allowed", "Not allowed");
    let mut bob = server.ddp_in("bob", &[]);
    let mut nobody = server.ddp();
    // One that is there and one that is not look the same.
    for room in [rid, json!("%da1%nobody")] {
        for method in ["joinRoom", "getRoomIdByNameOrId", "getRoomNameById"] {
            let code = refused(bob.call(method, json!([room]))).0;
            assert!(code == "error-not-allowed" || code == "error-invalid-room", "{method} {room}: {code}");
        }
        assert_eq!(refused(bob.call("sendMessage", json!([{"rid": room, "msg": "x"}]))), not_allowed);
        assert_eq!(bob.call("loadHistory", json!([room])), Ok(json!(false)));
        for client in [&mut bob, &mut nobody] {
            assert_eq!(client.sub(ROOMS, json!([room])).unwrap_err()["error"], "not-allowed");
            let event = format!("{}/typing", room.as_str().unwrap());
            assert_eq!(client.sub("stream-notify-room", json!([event])).unwrap_err()["error"], "not-allowed");
        }
    }
    let join =
        |client: &mut switchboard_testkit::ddp::DdpClient, room: &str| refused(client.call("joinRoom", json!([room])));
    assert_eq!(join(&mut bob, "%da1%b1"), join(&mut bob, "%da1%nobody"));
    bot.heard(ROOMS);
    bot.call("sendMessage", json!([{"rid": "%da1%b1", "msg": "still secret"}])).unwrap();
    bob.expect_silence();
    nobody.expect_silence();
}

#[test]
fn nobody_else_knows_of_it_and_no_name_leads_there() {
    let server = serving(&["servers.ddp.public_rooms_to_all=true"]);
    let mut bot = server.ddp_in("bot", &[]);
    let mut bob = server.ddp_in("bob", &[]);
    let mut telnet = server.connect_into(1, &["defaultRoom"]).remove(0);
    let rid = bot.call("createDirectMessage", json!(["ann"])).unwrap()["rid"].take();
    bot.call("sendMessage", json!([{"rid": rid, "msg": "secret"}])).unwrap();
    bot.heard(ROOMS);
    let names: Vec<String> = server.wait(server.node().rooms()).unwrap().iter().map(ToString::to_string).collect();
    assert_eq!(names, ["defaultRoom"]);
    // In every way in which it is written, on a wire whose rooms are anybody's.
    let rid = rid.as_str().unwrap();
    for name in [rid, "a1%b1", "%25da1%25b1", "d/a1/b1", "%da1%b1%", "b1%a1", "%db1%a1"] {
        for verb in ["roomView", "roomAdd", "say"] {
            let words = if verb == "say" { " x" } else { "" };
            let answer = telnet.ask(&format!("{verb} {name}{words}"));
            assert_ne!(answer["status"], "OK", "{verb} {name}: {answer}");
        }
        assert!(server.wait(server.node().room_status(name)).is_err(), "{name}");
        assert!(!server.wait(server.node().room_exists(name)).unwrap(), "{name}");
    }
    // A room of the same name is another room.
    assert!(server.wait(server.node().add_room(rid)).unwrap());
    assert_eq!(telnet.ask(&format!("roomAdd {rid}"))["status"], "OK");
    assert_eq!(telnet.ask(&format!("say {rid} from outside"))["status"], "OK");
    bot.heard(ROOMS);
    bot.call("sendMessage", json!([{"rid": rid, "msg": "from inside"}])).unwrap();
    let message = bot.heard(ROOMS);
    assert_eq!((&message[0]["msg"], &message[1]["roomType"]), (&json!("from inside"), &json!("d")));
    telnet.expect_silence();
    // It is as public as any, under an id of its own.
    assert_eq!(bob.heard(ROOMS)[0]["rid"], "%25da1%25b1");
    bob.expect_silence();
}

#[test]
fn there_is_none_with_oneself_or_with_nobody() {
    let server = serving(&[]);
    let mut bot = server.ddp_as("bot");
    let invalid = words("error-invalid-user", "Invalid user");
    assert_eq!(refused(bot.call("createDirectMessage", json!(["nobody"]))), invalid);
    assert_eq!(refused(bot.call("createDirectMessage", json!([""]))), invalid);
    for oneself in ["bot", "b1"] {
        assert_eq!(
            refused(bot.call("createDirectMessage", json!([oneself]))),
            words("error-not-allowed", "Not allowed")
        );
    }
    assert_eq!(refused(bot.call("createDirectMessage", json!([5]))), (json!(400), json!("Match failed")));
    assert_eq!(refused(server.ddp().call("createDirectMessage", json!(["ann"]))), invalid);
    assert_eq!(bot.call("loadHistory", json!(["%db1%b1"])), Ok(json!(false)));
    bot.sub(ROOMS, json!([MINE])).unwrap();
    bot.expect_silence();
}

#[test]
fn whoever_was_away_finds_it_when_he_comes() {
    let server = serving(&[]);
    let mut bot = server.ddp_as("bot");
    let rid = bot.call("createDirectMessage", json!(["ann"])).unwrap()["rid"].take();
    bot.call("sendMessage", json!([{"rid": rid, "msg": "for later"}])).unwrap();
    let mut ann = server.ddp_in("ann", &[]);
    let history = ann.call("loadHistory", json!([rid])).unwrap();
    assert_eq!(history["messages"][0]["msg"], "for later");
    bot.call("sendMessage", json!([{"rid": rid, "msg": "now"}])).unwrap();
    assert_eq!(said(&ann.heard(ROOMS)[0]), ("now", 2));
}

#[test]
fn the_admin_api_does_not_show_it() {
    let (server, operator) = super::admin::start(&[&super::ddp_support::users()]);
    let mut bot = server.ddp_as("bot");
    let rid = bot.call("createDirectMessage", json!(["ann"])).unwrap()["rid"].take();
    let listed = operator.ask("GET", "/v1/rooms").expect(200);
    let listed = listed.to_string();
    assert!(listed.contains("defaultRoom") && !listed.contains("a1"), "{listed}");
    for name in [rid.as_str().unwrap().replace('%', "%25"), "%1Fa1%1Fb1".into(), "a1%25b1".into()] {
        for (method, path) in [
            ("GET", format!("/v1/rooms/{name}")),
            ("DELETE", format!("/v1/rooms/{name}")),
            ("PUT", format!("/v1/rooms/{name}/members/{}", server.id_of_ddp(&mut bot))),
        ] {
            let answer = operator.ask(method, &path);
            assert!([400, 404].contains(&answer.status), "{method} {path}: {answer:?}");
        }
        let answer = operator.send("POST", &format!("/v1/rooms/{name}/broadcast"), &json!({"message": "x"}));
        assert!([400, 404].contains(&answer.status), "{name}: {answer:?}");
    }
    bot.sub(ROOMS, json!([MINE])).unwrap();
    bot.call("sendMessage", json!([{"rid": rid, "msg": "first"}])).unwrap();
    assert_eq!(said(&bot.heard(ROOMS)[0]), ("first", 1));
}

#[test]
fn fault_row_30_whoever_is_in_as_many_rooms_as_he_may_gets_no_further_one() {
    let server = serving(&["limits.max_rooms_per_connection=2"]);
    let not_allowed = words("error-not-allowed", "Not allowed");
    let mut bot = server.ddp_in("bot", &["defaultRoom"]);
    let mut bob = server.ddp_as("bob");
    bot.call("createDirectMessage", json!(["ann"])).unwrap();
    // Whoever asks, and however often: there is no room with one of the two only.
    for _ in 0..2 {
        assert_eq!(refused(bot.call("createDirectMessage", json!(["bob"]))), not_allowed);
        assert_eq!(refused(bob.call("createDirectMessage", json!(["bot"]))), not_allowed);
        assert_eq!(bob.call("loadHistory", json!(["%db1%c1"])), Ok(json!(false)));
    }
    assert_eq!(server.wait(server.node().directory_size()).unwrap().rooms, 2);
    bot.call("leaveRoom", json!(["defaultRoom"])).unwrap();
    let rid = bob.call("createDirectMessage", json!(["bot"])).unwrap()["rid"].take();
    bob.call("sendMessage", json!([{"rid": rid, "msg": "at last"}])).unwrap();
    assert_eq!(said(&bot.heard(ROOMS)[0]), ("at last", 1));
}

#[test]
fn fault_row_30_where_no_room_is_left_there_is_no_direct_one_and_everything_else_works() {
    let server = serving(&["limits.max_rooms=1"]);
    let not_allowed = words("error-not-allowed", "Not allowed");
    let mut bot = server.ddp_as("bot");
    for _ in 0..2 {
        assert_eq!(refused(bot.call("createDirectMessage", json!(["ann"]))), not_allowed);
    }
    let mut ann = server.ddp_in("ann", &["defaultRoom"]);
    ann.call("sendMessage", json!([{"rid": "defaultRoom", "msg": "x"}])).unwrap();
    assert_eq!(said(&ann.heard(ROOMS)[0]), ("x", 1));
}
