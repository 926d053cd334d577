//! Hearing a public room without being a member of it, and hearing nothing for a while.

use serde_json::{Value, json};
use switchboard::node::Speaker;
use switchboard_testkit::ddp::DdpClient;

use super::ddp_support::{MINE, ROOMS, refused, serving, words};
use super::support::TestServer;

/// Says something as the server.
#[track_caller]
fn say(server: &TestServer, room: &str, text: &str) {
    server.wait(server.node().broadcast(Speaker::server(), room, text)).unwrap();
}

/// The next message on the stream of rooms must be this one, under this event.
#[track_caller]
fn hears(client: &mut DdpClient, event: &str, text: &str) -> Value {
    let mut frame = client.frame();
    assert_eq!(
        (&frame["fields"]["eventName"], &frame["fields"]["args"][0]["msg"]),
        (&json!(event), &json!(text)),
        "{frame}"
    );
    frame["fields"]["args"].take()
}

#[test]
fn a_listener_hears_and_is_no_member_and_may_not_speak() {
    let server = serving(&[]);
    let joins = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counted = std::sync::Arc::clone(&joins);
    server.node().add_join_callback(100, move |_| {
        counted.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    });
    let mut ann = server.ddp_as("ann");
    let sub = ann.sub(ROOMS, json!(["defaultRoom", true])).unwrap();
    let added = json!({"msg": "added", "collection": ROOMS, "id": "id", "fields": {"eventName": "defaultRoom"}});
    assert_eq!(ann.frame(), added);
    // What is said behind `ready` is heard.
    say(&server, "defaultRoom", "one");
    assert_eq!(hears(&mut ann, "defaultRoom", "one").as_array().unwrap().len(), 1);
    assert_eq!((server.member_count("defaultRoom"), joins.load(std::sync::atomic::Ordering::Relaxed)), (0, 0));
    assert_eq!(
        refused(ann.call("sendMessage", json!([{"rid": "defaultRoom", "msg": "x"}]))),
        words("error-not-allowed", "Not allowed")
    );
    ann.unsub(&sub);
    say(&server, "defaultRoom", "two");
    ann.expect_silence();
}

#[test]
fn a_member_who_leaves_goes_on_as_a_listener_and_a_listener_who_joins_misses_nothing() {
    let server = serving(&[]);
    let mut ann = server.ddp_as("ann");
    ann.sub(ROOMS, json!(["defaultRoom"])).unwrap();
    for round in 0..20 {
        say(&server, "defaultRoom", &format!("{round} before"));
        let joining = ann.begin("joinRoom", json!(["defaultRoom"]));
        say(&server, "defaultRoom", &format!("{round} joining"));
        assert_eq!(ann.finish(&joining), Ok(json!(true)));
        say(&server, "defaultRoom", &format!("{round} inside"));
        let leaving = ann.begin("leaveRoom", json!(["defaultRoom"]));
        say(&server, "defaultRoom", &format!("{round} leaving"));
        assert_eq!(ann.finish(&leaving), Ok(Value::Null));
        for when in ["before", "joining", "inside", "leaving"] {
            hears(&mut ann, "defaultRoom", &format!("{round} {when}"));
        }
    }
    ann.expect_silence();
}

#[test]
fn a_listener_stops_where_a_pattern_comes_and_goes_on_where_it_goes() {
    let server = serving(&[]);
    let mut bot = server.ddp_as("bot");
    let mut ann = server.ddp_as("ann");
    for client in [&mut bot, &mut ann] {
        client.sub(ROOMS, json!(["defaultRoom"])).unwrap();
    }
    server.wait(server.node().set_authentication_pattern("defaultRoom", "staff", true)).unwrap();
    say(&server, "defaultRoom", "for members");
    // Whoever may enter is no member by that.
    bot.expect_silence();
    ann.expect_silence();
    server.wait(server.node().clear_authentication_pattern("defaultRoom")).unwrap();
    let mut text = 0;
    super::peer::eventually("both hear it again", || {
        text += 1;
        say(&server, "defaultRoom", &text.to_string());
        // The answer is behind whatever was said before.
        [&mut bot, &mut ann].into_iter().all(|client| {
            client.sub(ROOMS, json!(["sentinel"])).unwrap_err();
            client.has_kept()
        })
    });
    for client in [&mut bot, &mut ann] {
        let first = client.frame()["fields"]["args"][0]["number"].as_u64().unwrap();
        for number in first + 1..=1 + text {
            assert_eq!(client.frame()["fields"]["args"][0]["number"], number);
        }
        client.expect_silence();
    }
}

#[test]
fn public_rooms_reach_all_who_want_them_where_that_is_on() {
    for (setting, is_on) in
        [("servers.ddp.public_rooms_to_all=false", false), ("servers.ddp.public_rooms_to_all=true", true)]
    {
        let server = serving(&[setting, r#"rooms.starting=[{name="open"},{name="staff",auth={staff=true}}]"#]);
        let mut bot = server.ddp_in("bot", &[]);
        let mut ann = server.ddp_in("ann", &["open", "staff"]);
        say(&server, "open", "one");
        let meta = |participates: bool| json!({"roomParticipant": participates, "roomType": "c", "roomName": "open"});
        assert_eq!(hears(&mut ann, MINE, "one")[1], meta(true));
        say(&server, "staff", "two");
        assert_eq!(hears(&mut ann, MINE, "two")[1]["roomType"], "p");
        if is_on {
            assert_eq!(hears(&mut bot, MINE, "one")[1], meta(false));
        }
        bot.expect_silence();
        // Rooms that are made later too.
        server.wait(server.node().add_room("later")).unwrap();
        bot.expect_silence();
        ann.expect_silence();
        say(&server, "later", "three");
        if is_on {
            for client in [&mut bot, &mut ann] {
                assert_eq!(hears(client, MINE, "three")[1]["roomParticipant"], false);
            }
        }
        bot.expect_silence();
        ann.expect_silence();
        // Whoever joins is a participant from then on.
        bot.call("joinRoom", json!(["open"])).unwrap();
        say(&server, "open", "four");
        assert_eq!(hears(&mut bot, MINE, "four")[1], meta(true));
        bot.call("leaveRoom", json!(["open"])).unwrap();
        say(&server, "open", "five");
        if is_on {
            assert_eq!(hears(&mut bot, MINE, "five")[1], meta(false));
        }
        bot.expect_silence();
    }
}

#[test]
fn what_is_subscribed_before_the_log_in_wakes_up_with_it() {
    let server = serving(&[r#"rooms.starting=[{name="open"},{name="staff",auth={staff=true}}]"#]);
    server.ddp_in("bot", &["open"]);
    let mut bot = server.ddp();
    bot.sub(ROOMS, json!([MINE])).unwrap();
    bot.sub(ROOMS, json!(["open"])).unwrap();
    assert_eq!(bot.sub(ROOMS, json!(["staff"])).unwrap_err()["error"], "not-allowed");
    say(&server, "open", "asleep");
    bot.expect_silence();
    bot.log_in("bot", super::ddp_support::PASSWORD);
    say(&server, "open", "awake");
    let events: std::collections::BTreeSet<String> = bot
        .frames(2)
        .iter()
        .map(|frame| {
            assert_eq!(frame["fields"]["args"][0]["msg"], "awake");
            frame["fields"]["eventName"].as_str().unwrap().to_owned()
        })
        .collect();
    assert_eq!(events, [MINE.to_owned(), "open".to_owned()].into());
    bot.expect_silence();
}

#[test]
fn many_listeners_and_members_on_all_workers_hear_one_order() {
    let server = serving(&["node.workers=3"]);
    let mut clients: Vec<_> = (0..12)
        .map(|index| {
            let mut client = server.ddp_as(if index % 2 == 0 { "bot" } else { "ann" });
            client.sub(ROOMS, json!(["defaultRoom"])).unwrap();
            client
        })
        .collect();
    clients[0].call("joinRoom", json!(["defaultRoom"])).unwrap();
    for number in 1..=100 {
        clients[0].send(&json!({
            "msg": "method", "id": format!("m{number}"), "method": "sendMessage",
            "params": [{"rid": "defaultRoom", "msg": number.to_string()}]
        }));
        say(&server, "defaultRoom", "server");
    }
    let order = |client: &mut DdpClient| {
        let mut heard = Vec::new();
        while heard.len() < 200 {
            let frame = client.frame();
            if frame["msg"] == "changed" {
                heard.push(frame["fields"]["args"][0]["msg"].as_str().unwrap().to_owned());
                assert_eq!(frame["fields"]["args"][0]["number"], heard.len());
            }
        }
        heard
    };
    let first = order(&mut clients[0]);
    for client in &mut clients[1..] {
        assert_eq!(order(client), first);
    }
}
