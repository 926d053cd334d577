//! Client commands through the library: who is asked, whose reply counts, what the sender is told.

use std::sync::mpsc;

use serde_json::{Value, json};
use switchboard::command::{
    ClientCommand, CommandOptions, CommandRefusal, HEARTBEAT, Mode, Outcome, Refusal, Report, Row, Target,
};
use switchboard::node::User;
use switchboard::proto::command::CommandId;

use crate::bots::{Bot, WIRES, Wire, command, fail_fast, to_user, within_ms};
use crate::support::TestServer;

/// A user whom the configuration knows: his role is a tag too.
const BOT: &str =
    r#"users=[{ id = "u1", username = "bot", password = "long enough", roles = ["bot"], tags = ["night"] }]"#;

fn rows(report: &Report) -> &[Row] {
    report.rows.as_deref().expect("a collection has rows")
}

fn replied() -> Value {
    json!({"success": true})
}

fn options(mode: Mode) -> CommandOptions {
    CommandOptions { mode: Some(mode), ..CommandOptions::default() }
}

#[test]
fn a_user_is_asked_and_the_reply_comes_back_as_it_was_sent() {
    let server = TestServer::with(&[BOT]);
    for wire in WIRES {
        let mut bot = Bot::connect(&server, wire, Some("u1"));
        // By name as well as by id: ids win.
        for target in ["u1", "bot"] {
            let asked = ClientCommand::from_json(json!({"key": "clearCache", "scope": "users", "data": [1]})).unwrap();
            let sending = server.node().begin_client_command(to_user(target), asked, CommandOptions::default());
            let pending = server.wait(sending).unwrap();
            let command = bot.command("clearCache");
            assert_eq!(command["_id"], pending.id().as_str());
            assert_eq!(command["cmd"], json!({"key": "clearCache", "scope": "users", "data": [1]}));
            assert_eq!(command["data"], json!([1]));
            assert!((1..=5000).contains(&command["ttl_ms"].as_u64().unwrap()), "{command}");
            bot.reply(&command, &json!({"success": true, "b": 1.50, "a": {}}));
            let sent = server.outcome(pending, Outcome::Replied);
            assert_eq!(sent.reply().unwrap().as_str(), r#"{"success":true,"b":1.5,"a":{}}"#);
            let report = sent.report();
            assert_eq!((report.counts.sessions, report.counts.delivered, report.counts.replied), (1, 1, 1));
            assert_eq!(report.rows, None);
        }
        bot.leave(&server);
    }
}

#[test]
fn success_false_is_a_reply_and_counted_as_an_error_of_the_client() {
    let server = TestServer::start();
    let mut bot = Bot::connect(&server, Wire::Web, Some("u1"));
    let pending = server.ask_for(to_user("u1"), "unheardOf", CommandOptions::default());
    bot.obey("unheardOf", &json!({"success": false, "error": {}}));
    let sent = server.outcome(pending, Outcome::Replied);
    assert_eq!(sent.reply().unwrap().as_str(), r#"{"success":false,"error":{}}"#);
    assert_eq!(server.node().client_command_figures().client_errors, 1);
    assert_eq!(server.node().client_command_history(0, 10)[0].client_errors, 1);
}

#[test]
fn one_connection_is_asked_and_others_of_its_user_are_not() {
    let server = TestServer::start();
    let [mut bot, mut other] = [Wire::Web, Wire::Line].map(|wire| Bot::connect(&server, wire, Some("u1")));
    let mut guest = Bot::connect(&server, Wire::Line, None);
    let pending = server.ask_for(Target::Connection(bot.id), "ping", CommandOptions::default());
    bot.obey("ping", &replied());
    server.outcome(pending, Outcome::Replied);
    let pending = server.ask_for(Target::Connection(guest.id), "ping", CommandOptions::default());
    guest.obey("ping", &replied());
    server.outcome(pending, Outcome::Replied);
    other.expect_silence();
}

#[test]
fn the_members_of_a_room_are_asked_and_each_has_a_row() {
    let server = TestServer::start();
    let mut inside: Vec<Bot> = WIRES.into_iter().map(|wire| Bot::connect(&server, wire, None)).collect();
    inside.push(Bot::connect(&server, Wire::Line, Some("u1")));
    let mut outside = Bot::connect(&server, Wire::Line, None);
    let mut deaf = Bot::connect_deaf(&server, Wire::Line, None);
    inside.iter_mut().chain([&mut deaf]).for_each(|bot| bot.join("defaultRoom"));
    let room = Target::Room("defaultRoom".to_owned());
    let pending = server.ask_for(room, "vote", CommandOptions::default());
    for (index, bot) in inside.iter_mut().enumerate() {
        bot.obey("vote", &json!({"success": true, "vote": index}));
    }
    let sent = server.outcome(pending, Outcome::Replied);
    let rows = rows(sent.report());
    assert_eq!(rows.len(), 3, "who does not take commands has no row: {rows:?}");
    for (index, bot) in inside.iter().enumerate() {
        let row = rows.iter().find(|row| row.connection == bot.id).unwrap();
        assert_eq!((row.outcome, row.user.as_ref().map(User::id)), (Outcome::Replied, (index == 2).then_some("u1")));
        assert_eq!(row.reply.as_ref().unwrap().as_str(), format!(r#"{{"success":true,"vote":{index}}}"#));
        assert!(row.latency_ms.is_some());
    }
    assert!(sent.reply().is_err(), "the replies of a collection are in its rows");
    outside.expect_silence();
    deaf.expect_silence();
}

#[test]
fn tags_of_connections_and_of_users_and_roles_are_aimed_at() {
    let server = TestServer::with(&[BOT]);
    let mut configured = Bot::connect(&server, Wire::Web, Some("u1"));
    let mut tagged = Bot::connect(&server, Wire::Line, None);
    let mut plain = Bot::connect(&server, Wire::Line, None);
    server.node().set_connection_tags(tagged.id, vec!["night".to_owned()]).unwrap();
    let tag = |tag: &str| Target::Tag(tag.to_owned());
    let pending = server.ask_for(tag("night"), "sleep", CommandOptions::default());
    configured.obey("sleep", &replied());
    tagged.obey("sleep", &replied());
    assert_eq!(rows(server.outcome(pending, Outcome::Replied).report()).len(), 2);
    let pending = server.ask_for(tag("bot"), "ping", CommandOptions::default());
    configured.obey("ping", &replied());
    server.outcome(pending, Outcome::Replied);
    let pending = server.ask_for(tag("nobody"), "ping", CommandOptions::default());
    server.outcome(pending, Outcome::NoRecipient);
    tagged.expect_silence();
    plain.expect_silence();
}

#[test]
fn everybody_is_everybody_who_takes_commands() {
    let server = TestServer::start();
    let mut bots: Vec<Bot> = (0..6).map(|index| Bot::connect(&server, WIRES[index % 2], None)).collect();
    let mut deaf = Bot::connect_deaf(&server, Wire::Line, None);
    let pending = server.ask_for(Target::All, "ping", CommandOptions::default());
    bots.iter_mut().for_each(|bot| bot.obey("ping", &replied()));
    let sent = server.outcome(pending, Outcome::Replied);
    assert_eq!((rows(sent.report()).len(), sent.report().counts.replied), (6, 6));
    deaf.expect_silence();
    // Who opts out is no recipient any more.
    bots[0].say_about_itself(json!({"framework": "tired"}));
    let pending = server.ask_for(Target::All, "ping", CommandOptions::default());
    bots[1..].iter_mut().for_each(|bot| bot.obey("ping", &replied()));
    assert_eq!(rows(server.outcome(pending, Outcome::Replied).report()).len(), 5);
}

#[test]
fn in_mode_first_all_sessions_are_asked_and_the_first_reply_counts() {
    let server = TestServer::start();
    let [mut slow, mut fast] = WIRES.map(|wire| Bot::connect(&server, wire, Some("u1")));
    let pending = server.ask_for(to_user("u1"), "ping", CommandOptions::default());
    let commands = [slow.command("ping"), fast.command("ping")];
    assert_eq!(commands[0]["ts"], commands[1]["ts"], "one command of one user has one time");
    fast.reply(&commands[1], &json!({"success": true, "who": "fast"}));
    slow.reply_in_vain(&commands[0], &json!({"success": true, "who": "slow"}));
    let sent = server.outcome(pending, Outcome::Replied);
    assert_eq!(sent.reply().unwrap().as_str(), r#"{"success":true,"who":"fast"}"#);
    assert_eq!((sent.report().counts.sessions, sent.report().counts.replied), (2, 1));
    assert_eq!(server.node().client_command_figures().duplicate_replies, 1);
}

#[test]
fn in_mode_one_the_most_recently_active_session_is_asked() {
    let server = TestServer::start();
    let mut bots: Vec<Bot> = (0..3).map(|_| Bot::connect(&server, Wire::Line, Some("u1"))).collect();
    for favourite in [1, 0, 2] {
        let pending = server.ask_for(Target::Connection(bots[favourite].id), "ping", CommandOptions::default());
        bots[favourite].obey("ping", &replied());
        server.outcome(pending, Outcome::Replied);
        let pending = server.ask_for(to_user("u1"), "work", options(Mode::One));
        bots[favourite].obey("work", &replied());
        assert_eq!(server.outcome(pending, Outcome::Replied).report().counts.sessions, 1);
    }
    bots.iter_mut().for_each(Bot::expect_silence);
}

#[test]
fn a_collection_ends_at_its_limit_with_what_there_is() {
    let server = TestServer::start();
    let mut bots: Vec<Bot> = (0..3).map(|_| Bot::connect(&server, Wire::Line, Some("u1"))).collect();
    let pending = server.ask_for(to_user("u1"), "ping", CommandOptions { mode: Some(Mode::All), ..within_ms(400) });
    let commands: Vec<Value> = bots.iter_mut().map(|bot| bot.command("ping")).collect();
    bots[1].reply(&commands[1], &replied());
    let sent = server.outcome(pending, Outcome::Replied);
    assert!((400..1400).contains(&sent.report().latency_ms), "{}", sent.report().latency_ms);
    let outcome = |bot: &Bot| rows(sent.report()).iter().find(|row| row.connection == bot.id).unwrap().outcome;
    let outcomes: Vec<Outcome> = bots.iter().map(outcome).collect();
    assert_eq!(outcomes, [Outcome::Timeout, Outcome::Replied, Outcome::Timeout]);
}

#[test]
fn a_collection_ends_early_with_as_many_replies_as_are_enough() {
    let server = TestServer::start();
    let mut bots: Vec<Bot> = (0..4).map(|index| Bot::connect(&server, WIRES[index % 2], None)).collect();
    let quorum = CommandOptions { min_replies: Some(2), ..CommandOptions::default() };
    let pending = server.ask_for(Target::All, "vote", quorum);
    let commands: Vec<Value> = bots.iter_mut().map(|bot| bot.command("vote")).collect();
    bots[0].reply(&commands[0], &replied());
    bots[3].reply(&commands[3], &replied());
    let sent = server.outcome(pending, Outcome::Replied);
    assert_eq!((rows(sent.report()).len(), sent.report().counts.replied), (4, 2));
    bots[1].reply_in_vain(&commands[1], &replied());
    assert_eq!(server.node().client_command_figures().late_replies, 1);
}

#[test]
fn an_absent_user_is_waited_for_and_what_was_held_leaves_in_order() {
    let server = TestServer::with(&[BOT]);
    for wire in WIRES {
        let held: Vec<_> =
            (0..3).map(|index| server.ask_for(to_user("u1"), &format!("k{index}"), Default::default())).collect();
        assert!(server.node().pending_client_commands(0, 10).iter().all(|command| command.is_held));
        let mut bot = Bot::connect_deaf(&server, wire, Some("u1"));
        let data = json!({"commands": true});
        bot.send(&format!("setCustomClientData {data}"), &json!({"event": "setCustomClientData", "data": data}));
        // The answer and the commands, which may come before it.
        let (told, answers): (Vec<Value>, Vec<Value>) =
            (0..4).map(|_| bot.client.read_json()).partition(|line| line["context"] == "command");
        assert_eq!(answers[0]["status"], "OK");
        let times: Vec<u64> = told.iter().map(|command| command["ts"].as_u64().unwrap()).collect();
        assert!(times.is_sorted_by(|before, after| before < after), "{times:?}");
        for ((index, command), pending) in told.iter().enumerate().zip(held) {
            assert_eq!(command["key"], format!("k{index}"));
            bot.reply(command, &replied());
            server.outcome(pending, Outcome::Replied);
        }
        bot.leave(&server);
    }
}

#[test]
fn a_bot_that_comes_back_answers_over_its_new_connection_what_the_old_one_was_sent() {
    let server = TestServer::start();
    let mut bot = Bot::connect(&server, Wire::Web, Some("u1"));
    let pending = server.ask_for(to_user("u1"), "ping", CommandOptions::default());
    let command = bot.command("ping");
    bot.leave(&server);
    let mut again = Bot::connect(&server, Wire::Line, Some("u1"));
    again.reply(&command, &replied());
    server.outcome(pending, Outcome::Replied);
    again.expect_silence();
}

#[test]
fn what_cannot_be_a_command_is_refused_and_never_was_one() {
    let server = TestServer::with(&["commands.max_command_bytes=256", "commands.max_timeout=10s"]);
    let bot = Bot::connect(&server, Wire::Line, Some("u1"));
    let refused = |target, options| server.begin(target, "ping", options).unwrap_err();
    assert_eq!(refused(to_user("nobody"), CommandOptions::default()), CommandRefusal::NoSuchUser);
    assert_eq!(refused(Target::Room("nowhere".into()), CommandOptions::default()), CommandRefusal::NoSuchRoom);
    let nobody = switchboard::ConnId::from_random(5);
    assert_eq!(refused(Target::Connection(nobody), CommandOptions::default()), CommandRefusal::NoSuchConnection);
    for options in [
        within_ms(0),
        within_ms(10_001),
        CommandOptions { min_replies: Some(0), ..CommandOptions::default() },
        CommandOptions { idempotency_key: Some(String::new()), ..CommandOptions::default() },
        CommandOptions { sender: Some("s".repeat(129)), ..CommandOptions::default() },
    ] {
        assert!(matches!(refused(to_user("u1"), options), CommandRefusal::BadOption(_)));
    }
    let long = ClientCommand::from_json(json!({"key": "ping", "data": "x".repeat(256)})).unwrap();
    let sending = server.node().begin_client_command(to_user("u1"), long, CommandOptions::default());
    assert_eq!(server.wait(sending).unwrap_err(), CommandRefusal::BadCommand);
    assert_eq!(server.node().client_command_history(0, 10), []);
    drop(bot);
}

#[test]
fn a_command_is_taken_back_by_its_id_or_by_who_stops_waiting() {
    let server = TestServer::start();
    let mut bot = Bot::connect(&server, Wire::Line, Some("u1"));
    let pending = server.ask_for(to_user("u1"), "ping", CommandOptions::default());
    let command = bot.command("ping");
    assert!(server.node().cancel_client_command(pending.id()));
    assert!(!server.node().cancel_client_command(pending.id()), "it is not pending any more");
    let failure = server.outcome(pending, Outcome::Cancelled).failure();
    assert_eq!(failure.code, "error-client-command-cancelled");
    bot.reply_in_vain(&command, &replied());

    drop(server.ask_for(to_user("u1"), "pong", CommandOptions::default()));
    let command = bot.command("pong");
    bot.reply_in_vain(&command, &replied());
    let history = server.node().client_command_history(0, 10);
    assert!(history.iter().all(|command| command.outcome == Outcome::Cancelled), "{history:?}");
    assert_eq!(server.node().client_command_figures().late_replies, 2);
    assert_eq!(server.node().pending_client_commands(0, 10), []);
}

#[test]
fn a_request_with_the_same_key_finds_the_first_and_sends_nothing() {
    let server = TestServer::start();
    let mut bot = Bot::connect(&server, Wire::Line, Some("u1"));
    let keyed = |key: &str| CommandOptions { idempotency_key: Some(key.to_owned()), ..CommandOptions::default() };
    let [first, second] = [(); 2].map(|()| server.ask_for(to_user("u1"), "pay", keyed("a")));
    assert_eq!(first.id(), second.id());
    // The first one stops to wait; the other still does.
    drop(first);
    assert_eq!(server.begin(to_user("u1"), "payMore", keyed("a")).unwrap_err(), CommandRefusal::KeyConflict);
    bot.obey("pay", &json!({"success": true, "paid": 1}));
    let told = server.outcome(second, Outcome::Replied);
    let again = server.outcome(server.ask_for(to_user("u1"), "pay", keyed("a")), Outcome::Replied);
    assert_eq!(again.report(), told.report());
    let other = server.ask_for(to_user("u1"), "pay", keyed("b"));
    bot.obey("pay", &json!({"success": true, "paid": 2}));
    assert_ne!(server.outcome(other, Outcome::Replied).report().id, told.report().id);
    bot.expect_silence();
}

#[test]
fn only_who_announced_a_key_is_asked_where_that_is_required() {
    let server = TestServer::start();
    let [mut knows, mut not] = WIRES.map(|wire| Bot::connect_deaf(&server, wire, Some("u1")));
    knows.say_about_itself(json!({"commands": ["clearCache"], "canGetLogs": true}));
    not.say_about_itself(json!({"commands": ["dance"]}));
    let required = CommandOptions { require_capability: true, ..CommandOptions::default() };
    for key in ["clearCache", "getLogs"] {
        let pending = server.ask_for(to_user("u1"), key, required.clone());
        knows.obey(key, &replied());
        assert_eq!(server.outcome(pending, Outcome::Replied).report().counts.sessions, 1);
    }
    let nobody = CommandOptions { require_capability: true, ..fail_fast() };
    server.outcome(server.ask_for(to_user("u1"), HEARTBEAT, nobody), Outcome::NoRecipient);
    // Without the demand everybody who takes commands is asked.
    let pending = server.ask_for(to_user("u1"), "clearCache", CommandOptions::default());
    let [known, unknown] = [&mut knows, &mut not].map(|bot| bot.command("clearCache"));
    assert_eq!(known["_id"], unknown["_id"]);
    not.reply(&unknown, &json!({"success": false}));
    server.outcome(pending, Outcome::Replied);
}

#[test]
fn the_check_of_the_embedding_program_sees_sender_target_and_key_and_may_refuse() {
    let server = TestServer::start();
    let mut bot = Bot::connect(&server, Wire::Line, Some("u1"));
    server.node().check_commands(|request| {
        request.sender == Some("ann") && *request.target == to_user("u1") && request.command.key() != "shutDown"
    });
    let by = |sender: &str| CommandOptions { sender: Some(sender.to_owned()), ..CommandOptions::default() };
    for (target, key, options) in [
        (to_user("u1"), "ping", by("eve")),
        (to_user("u1"), "ping", CommandOptions::default()),
        (to_user("u1"), "shutDown", by("ann")),
        (Target::Connection(bot.id), "ping", by("ann")),
    ] {
        assert_eq!(server.begin(target, key, options).unwrap_err(), CommandRefusal::NotAllowed);
    }
    let pending = server.ask_for(to_user("u1"), "ping", by("ann"));
    bot.obey("ping", &replied());
    server.outcome(pending, Outcome::Replied);
    bot.expect_silence();
}

#[test]
fn listeners_in_place_before_a_command_is_sent_hear_its_reply_once() {
    let server = TestServer::start();
    let mut bot = Bot::connect(&server, Wire::Web, Some("u1"));
    let (told, replies) = mpsc::sync_channel(4);
    let id = CommandId::from_random(77);
    for name in ["a", "b"] {
        let told = told.clone();
        let listener = move |reply: &switchboard::RawJson| told.send(format!("{name} {}", reply.as_str())).unwrap();
        server.node().on_client_command_response(id, listener).unwrap();
    }
    let known = CommandOptions { id: Some(id), ..CommandOptions::default() };
    let pending = server.ask_for(to_user("u1"), "ping", known.clone());
    let command = bot.command("ping");
    assert_eq!(command["_id"], id.as_str());
    bot.reply(&command, &replied());
    bot.reply_in_vain(&command, &json!({"success": true, "again": true}));
    server.outcome(pending, Outcome::Replied);
    let told_all: Vec<String> = replies.try_iter().collect();
    assert_eq!(told_all, [r#"a {"success":true}"#, r#"b {"success":true}"#]);
}

#[test]
fn commands_to_one_user_arrive_in_the_order_of_acceptance_with_rising_times() {
    const SENDERS: usize = 8;
    const EACH: usize = 60;
    let server = TestServer::with(&["commands.max_pending_per_user=1000"]);
    let mut bots = WIRES.map(|wire| Bot::connect(&server, wire, Some("u1")));
    let senders: Vec<_> = (0..SENDERS)
        .map(|sender| {
            let node = server.node().clone();
            server.spawn(async move {
                let mut pending = Vec::new();
                for index in 0..EACH {
                    let key = command(&format!("{sender}-{index}"));
                    pending.push(node.begin_client_command(to_user("u1"), key, Default::default()).await.unwrap());
                }
                pending
            })
        })
        .collect();
    let told = bots.each_mut().map(|bot| {
        let told: Vec<Value> = (0..SENDERS * EACH).map(|_| bot.client.read_json()).collect();
        told
    });
    let accepted = server.node().pending_client_commands(0, usize::MAX);
    let order: Vec<&str> = accepted.iter().map(|command| command.id.as_str()).collect();
    for told in &told {
        assert_eq!(told.iter().map(|command| command["_id"].as_str().unwrap()).collect::<Vec<_>>(), order);
        let times = told.iter().map(|command| command["ts"].as_u64().unwrap());
        assert!(times.is_sorted_by(|before, after| before < after));
    }
    drop(senders);
}

#[test]
fn a_client_is_answered_while_a_command_is_pending_and_may_ask_before_it_replies() {
    let server = TestServer::start();
    for wire in WIRES {
        let mut bot = Bot::connect(&server, wire, Some("u1"));
        let pending = server.ask_for(to_user("u1"), "ping", CommandOptions::default());
        let command = bot.command("ping");
        // An action, a verb of the room, and a message to others: all while the server waits for it.
        bot.send("randomNumber", &json!({"event": "action", "params": {"action": "randomNumber"}}));
        assert!(bot.client.read_json()["randomNumber"].is_number());
        bot.join("defaultRoom");
        bot.send("say defaultRoom hi", &json!({"event": "say", "room": "defaultRoom", "message": "hi"}));
        assert_eq!(bot.client.read_json()["status"], "OK");
        bot.reply(&command, &replied());
        server.outcome(pending, Outcome::Replied);
        bot.leave(&server);
    }
}

#[test]
fn a_running_action_does_not_hold_up_a_command_nor_its_reply() {
    let server = TestServer::start();
    let mut bot = Bot::connect(&server, Wire::Line, Some("u1"));
    bot.client.send(r#"{"action":"sleepTest","params":{"sleepDuration":60000}}"#);
    let pending = server.ask_for(to_user("u1"), "ping", CommandOptions::default());
    bot.obey("ping", &replied());
    server.outcome(pending, Outcome::Replied);
}

#[test]
fn refusals_say_which_limit_it_was() {
    let server = TestServer::with(&["commands.max_pending=3", "commands.max_pending_per_user=2"]);
    let _bots = ["u1", "u2"].map(|user| Bot::connect(&server, Wire::Line, Some(user)));
    let _pending = [(); 2].map(|()| server.ask_for(to_user("u1"), "ping", CommandOptions::default()));
    let refused = |user| server.begin(to_user(user), "ping", CommandOptions::default()).unwrap_err();
    assert_eq!(refused("u1"), CommandRefusal::Refused(Refusal::TooManyOfUser));
    let _more = server.ask_for(to_user("u2"), "ping", CommandOptions::default());
    assert_eq!(refused("u2"), CommandRefusal::Refused(Refusal::TooMany));
    assert_eq!(refused("u2").code(), "too-many-requests");
}

#[test]
fn documents_of_pending_commands_are_refused_beyond_the_configured_bytes() {
    let server = TestServer::with(&["commands.max_pending_bytes=1MiB", "commands.max_command_bytes=1MiB"]);
    let _bot = Bot::connect(&server, Wire::Line, Some("u1"));
    let begin = || {
        let large = ClientCommand::from_json(json!({"key": "clearCache", "data": "x".repeat(400_000)})).unwrap();
        server.wait(server.node().begin_client_command(to_user("u1"), large, CommandOptions::default()))
    };
    let _pending = begin().expect("it is the first");
    assert_eq!(begin().unwrap_err(), CommandRefusal::Refused(Refusal::TooManyBytes));
}
