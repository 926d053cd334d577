//! Messages over DDP: their documents, their times and numbers, what is refused, and what was said before.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use switchboard::node::Speaker;
use switchboard::proto::json::RawJson;
use switchboard::{SayMiddleware, Saying};

use super::ddp_support::{MINE, ROOMS, date, refused, said, serving, words};
use super::gateway_support::APPLICATIONS;

const TWO_ROOMS: &str = r#"rooms.starting=[{name="one"},{name="two"}]"#;

#[test]
fn times_rise_for_each_recipient_over_all_its_rooms() {
    let server = serving(&[TWO_ROOMS]);
    let mut bot = server.ddp_in("bot", &["one", "two"]);
    let mut ann = server.ddp_in("ann", &["one", "two"]);
    // Many in the same millisecond, in both rooms, from the server and from both.
    let mut answered = [Vec::new(), Vec::new()];
    for round in 0..50 {
        for room in ["one", "two"] {
            server.wait(server.node().broadcast(Speaker::server(), room, "x")).unwrap();
        }
        if round % 10 == 0 {
            for (client, answered) in [&mut bot, &mut ann].into_iter().zip(&mut answered) {
                answered.push(date(&client.call("sendMessage", json!([{"rid": "one", "msg": "y"}])).unwrap()));
            }
        }
    }
    assert!(answered.iter().all(|dates| dates.len() == 5 && dates.is_sorted_by(|a, b| a < b)), "{answered:?}");
    for client in [&mut bot, &mut ann] {
        let (mut last_ms, mut numbers) = (0, [0, 0]);
        for _ in 0..110 {
            let message = client.heard(ROOMS)[0].take();
            let sent_ms = date(&message);
            assert!(sent_ms > last_ms, "{sent_ms} behind {last_ms}: {message}");
            last_ms = sent_ms;
            let last = &mut numbers[usize::from(message["rid"] == "two")];
            assert_eq!(message["number"], *last + 1);
            *last += 1;
        }
        assert_eq!(numbers, [60, 50]);
        // What is said later is later than that, also in the answer to the sender and in what was said before.
        let result = client.call("sendMessage", json!([{"rid": "two", "msg": "z"}])).unwrap();
        assert!(date(&result) > last_ms);
        let history = client.call("loadHistory", json!(["two"])).unwrap();
        let dates: Vec<_> = history["messages"].as_array().unwrap().iter().map(date).collect();
        assert!(dates.is_sorted_by(|newer, older| newer > older), "{dates:?}");
        client.heard(ROOMS);
    }
}

#[test]
fn both_subscriptions_bring_a_message_each_in_one_order() {
    let server = serving(&[]);
    let mut bot = server.ddp_in("bot", &["defaultRoom"]);
    let room = bot.sub(ROOMS, json!(["defaultRoom"])).unwrap();
    // Once more brings nothing more.
    bot.sub(ROOMS, json!(["defaultRoom", {"useCollection": false, "args": []}])).unwrap();
    for text in ["first", "second"] {
        server.wait(server.node().broadcast(Speaker::server(), "defaultRoom", text)).unwrap();
    }
    let frames = bot.frames(4);
    for text in ["first", "second"] {
        let events: BTreeSet<&str> = frames
            .iter()
            .filter(|frame| frame["fields"]["args"][0]["msg"] == text)
            .map(|frame| frame["fields"]["eventName"].as_str().unwrap())
            .collect();
        assert_eq!(events, BTreeSet::from([MINE, "defaultRoom"]), "{frames:?}");
    }
    let order = |event: &str| {
        let of_event = frames.iter().filter(|frame| frame["fields"]["eventName"] == event);
        of_event.map(|frame| frame["fields"]["args"][0]["msg"].clone()).collect::<Vec<_>>()
    };
    assert_eq!((order(MINE), order("defaultRoom")), (vec![json!("first"), json!("second")], order(MINE)));
    bot.unsub(&room);
    server.wait(server.node().broadcast(Speaker::server(), "defaultRoom", "third")).unwrap();
    assert_eq!(bot.frames(2).len(), 2);
    bot.expect_silence();
}

#[test]
fn the_same_id_is_the_same_message_and_is_said_once() {
    let server = serving(&[]);
    let mut bot = server.ddp_in("bot", &["defaultRoom"]);
    let mut ann = server.ddp_in("ann", &["defaultRoom"]);
    let mut telnet = server.connect_into(1, &["defaultRoom"]).remove(0);
    let message = json!({"_id": "mine", "rid": "defaultRoom", "msg": "once"});
    let first = bot.call("sendMessage", json!([message])).unwrap();
    assert_eq!((&first["_id"], said(&first)), (&json!("mine"), ("once", 1)));
    // Also from another session, as after a reconnect, and with another text.
    let mut again = server.ddp_as("bot");
    for text in ["once", "twice"] {
        let message = json!({"_id": "mine", "rid": "defaultRoom", "msg": text});
        let same = again.call("sendMessage", json!([message])).unwrap();
        assert_eq!((&same["_id"], said(&same)), (&json!("mine"), ("once", 1)));
    }
    let taken = ann.call("sendMessage", json!([{"_id": "mine", "rid": "defaultRoom", "msg": "no"}]));
    assert_eq!(refused(taken), (json!(400), json!("The message id is taken, choose another one")));
    assert_eq!(telnet.read_json()["message"], "once");
    telnet.expect_silence();
    for client in [&mut bot, &mut ann] {
        assert_eq!(client.heard(ROOMS)[0]["_id"], "mine");
        client.expect_silence();
    }
}

#[test]
fn no_client_can_choose_an_id_that_the_server_computed_for_another_message() {
    let server = serving(&[APPLICATIONS, TWO_ROOMS]);
    let mut bot = server.ddp_in("bot", &["one", "two"]);
    let mut telnet = server.connect_into(1, &["one"]).remove(0);
    telnet.send("say one original");
    telnet.read_json();
    let heard = bot.heard(ROOMS);
    let id = heard[0]["_id"].as_str().unwrap();
    // In the room of that message and in another one.
    for room in ["one", "two"] {
        let forged = bot.call("sendMessage", json!([{"_id": id, "rid": room, "msg": "forged"}]));
        assert_eq!(refused(forged), (json!(400), json!("The message id is taken, choose another one")));
    }
    let (mut shard, _) = server.registered();
    let say = |id: &str| json!({"op": "say", "room": "one", "message": "forged", "id": id});
    shard.send(&json!({"type": 10, "d": {"op": "join", "room": "one"}}));
    assert_eq!(shard.expect("GATEWAY_ROOM")["data"]["ok"], true);
    shard.send(&json!({"type": 10, "d": say(id)}));
    let answer = shard.expect("GATEWAY_ROOM");
    assert_eq!((&answer["data"]["ok"], &answer["data"]["reason"]), (&json!(false), &json!("id_taken")));
    telnet.expect_silence();
    bot.expect_silence();
    // Random ids, as clients of Rocket.Chat draw them, are accepted.
    let sent = bot.call("sendMessage", json!([{"_id": "SCdhXJLwLDdb6LeTS", "rid": "one", "msg": "x"}])).unwrap();
    assert_eq!(sent["_id"], "SCdhXJLwLDdb6LeTS");
}

#[test]
fn what_is_wrong_with_a_message_is_told_apart_and_nobody_hears_it() {
    let server = serving(&["servers.ddp.max_text_chars=5"]);
    let mut bot = server.ddp_in("bot", &["defaultRoom"]);
    let no_match = || (json!(400), json!("Match failed"));
    let out_of_sync = || words("error-message-ts-out-of-sync", "Message timestamp is out of sync");
    let now_ms = server.node().unix_ms();
    let at = |ms: u64| json!({"rid": "defaultRoom", "msg": "x", "ts": {"$date": ms}});
    for (message, expected) in [
        (json!({"msg": "x"}), no_match()),
        (json!({"rid": 5, "msg": "x"}), no_match()),
        (json!({"rid": "defaultRoom", "msg": 5}), no_match()),
        (json!({"rid": "defaultRoom", "msg": "x", "_id": ""}), no_match()),
        (json!({"rid": "defaultRoom", "msg": "x", "_id": "i".repeat(65)}), no_match()),
        (json!({"rid": "defaultRoom", "msg": "x", "ts": "now"}), no_match()),
        (json!("defaultRoom"), no_match()),
        (
            json!({"rid": "defaultRoom", "msg": "äöüßñ!"}),
            words("error-message-size-exceeded", "Message size exceeds the limit"),
        ),
        (at(now_ms - 120_000), out_of_sync()),
        (at(now_ms + 120_000), out_of_sync()),
        (json!({"rid": "defaultRoom", "msg": "x", "ts": {"$date": i64::MIN}}), out_of_sync()),
        (json!({"rid": "defaultRoom", "msg": "x", "ts": {"$date": i64::MAX}}), out_of_sync()),
        (json!({"rid": "", "msg": "x"}), words("error-not-allowed", "Not allowed")),
        (json!({"rid": "%zz", "msg": "x"}), words("error-not-allowed", "Not allowed")),
    ] {
        assert_eq!(refused(bot.call("sendMessage", json!([message]))), expected, "{message}");
    }
    bot.expect_silence();
    // Five characters are five, however many bytes they take; a time that is near enough is replaced.
    let mut message = at(now_ms - 50_000);
    message["msg"] = json!("äöüßñ");
    let result = bot.call("sendMessage", json!([message])).unwrap();
    assert!(date(&result) >= now_ms, "{result}");
    assert_eq!(said(&bot.heard(ROOMS)[0]), ("äöüßñ", 1));
}

#[test]
fn people_are_slowed_down_and_bots_are_not() {
    let server = serving(&["servers.ddp.send_rate=1", "servers.ddp.send_burst=3"]);
    let (mut ann, mut bot) = (server.ddp_in("ann", &["defaultRoom"]), server.ddp_in("bot", &["defaultRoom"]));
    let mut other = server.ddp_as("ann");
    let message = json!([{"rid": "defaultRoom", "msg": "x"}]);
    let results: Vec<_> = (0..20).map(|_| ann.call("sendMessage", message.clone())).collect();
    let errors: Vec<&Value> = results.iter().filter_map(|result| result.as_ref().err()).collect();
    assert!(errors.len() > 10 && results[..3].iter().all(Result::is_ok), "{results:?}");
    for error in errors {
        assert_eq!(error["error"], "too-many-requests");
        assert!((1..=1000).contains(&error["details"]["timeToReset"].as_u64().unwrap()), "{error}");
    }
    // It is the user that is slowed down, not the session.
    let error = (0..5).find_map(|_| other.call("sendMessage", message.clone()).err());
    assert_eq!(error.unwrap()["error"], "too-many-requests");
    for _ in 0..50 {
        bot.call("sendMessage", message.clone()).unwrap();
    }
}

struct Shout;

impl SayMiddleware for Shout {
    async fn say(&self, saying: &mut Saying) -> Result<(), String> {
        let text = saying.body().as_str().to_uppercase();
        if text.contains("PANIC") {
            panic!("as asked for");
        }
        if text.contains("SECRET") {
            return Err("not that word".to_owned());
        }
        saying.set_body(RawJson::from_parsed(&text));
        Ok(())
    }
}

#[test]
fn fault_row_35_middleware_rewrites_refuses_or_panics_over_ddp_as_elsewhere() {
    let server = serving(&[]);
    server.node().add_say_middleware(100, Shout);
    let mut bot = server.ddp_in("bot", &["defaultRoom"]);
    let mut telnet = server.connect_into(1, &["defaultRoom"]).remove(0);
    let result = bot
        .call("sendMessage", json!([{"rid": "defaultRoom", "msg": "quiet", "alias": "quiet", "tmid": "t1"}]))
        .unwrap();
    assert_eq!((said(&result), &result["tmid"]), (("QUIET", 1), &json!("t1")));
    assert!(result.get("alias").is_none(), "{result}");
    assert_eq!(said(&bot.heard(ROOMS)[0]), ("QUIET", 1));
    assert_eq!(telnet.read_json()["message"], "QUIET");
    let refused_words = words("error-not-allowed", "not that word");
    assert_eq!(refused(bot.call("sendMessage", json!([{"rid": "defaultRoom", "msg": "secret"}]))), refused_words);
    let panicked = bot.call("sendMessage", json!([{"rid": "defaultRoom", "msg": "panic"}]));
    assert_eq!(refused(panicked), (json!(500), json!("Internal server error")));
    bot.call("sendMessage", json!([{"rid": "defaultRoom", "msg": "still here"}])).unwrap();
    assert_eq!(said(&bot.heard(ROOMS)[0]), ("STILL HERE", 2));
    assert_eq!(telnet.read_json()["message"], "STILL HERE");
}

#[test]
fn what_was_said_is_loaded_from_the_newest_on() {
    let server = serving(&["rooms.history_messages=30"]);
    let mut bot = server.ddp_in("bot", &["defaultRoom"]);
    let mut outside = server.ddp_as("ann");
    for number in 1..=40 {
        server.wait(server.node().broadcast(Speaker::server(), "defaultRoom", number.to_string())).unwrap();
    }
    let heard: Vec<Value> = (0..40).map(|_| bot.heard(ROOMS)[0].take()).collect();
    let mut numbers = |params: Value| {
        let mut history = outside.call("loadHistory", params).unwrap();
        let texts: Vec<u64> = history["messages"]
            .as_array()
            .unwrap()
            .iter()
            .map(|message| message["msg"].as_str().unwrap().parse().unwrap())
            .collect();
        (texts, history["unreadNotLoaded"].take())
    };
    let down = |from: u64, to: u64| (to..=from).rev().collect::<Vec<_>>();
    assert_eq!(numbers(json!(["defaultRoom"])), (down(40, 21), json!(0)));
    assert_eq!(numbers(json!(["defaultRoom", null, 3])), (down(40, 38), json!(0)));
    assert_eq!(numbers(json!(["defaultRoom", null, 0])), (vec![], json!(0)));
    // The limit of the log is the limit of what is loaded.
    assert_eq!(numbers(json!(["defaultRoom", null, u64::MAX])), (down(40, 11), json!(0)));
    assert_eq!(numbers(json!(["defaultRoom", null, 5, {"$date": 0}])), (down(40, 36), json!(25)));
    assert_eq!(numbers(json!(["defaultRoom", {"$date": 0}])), (vec![], json!(0)));
    assert_eq!(numbers(json!(["defaultRoom", {"$date": -5}])), (vec![], json!(0)));
    let document = outside.call("loadHistory", json!(["defaultRoom", null, 1])).unwrap()["messages"][0].take();
    for member in ["_id", "rid", "msg", "u", "mentions", "channels", "number"] {
        assert_eq!(document[member], heard[39][member], "{member}");
    }
    for params in
        [json!([5]), json!(["defaultRoom", "now"]), json!(["defaultRoom", null, -1]), json!(["defaultRoom", null, "5"])]
    {
        assert_eq!(refused(outside.call("loadHistory", params)), (json!(400), json!("Match failed")));
    }
}

#[test]
fn a_direct_message_of_the_server_reaches_whoever_asked_for_such() {
    let server = serving(&[]);
    let mut bot = server.ddp_as("bot");
    let id = server.id_of_ddp(&mut bot);
    let send = |text: &str| server.wait(server.node().send_message(id, json!({"text": text})));
    send("too early").unwrap_err();
    let sub = bot.sub("stream-notify-user", json!(["b1/message"])).unwrap();
    send("hello").unwrap();
    assert_eq!(bot.heard("stream-notify-user"), json!([{"text": "hello"}]));
    bot.unsub(&sub);
    send("too late").unwrap_err();
    bot.expect_silence();
}
