//! Client commands when something goes wrong: nobody there, nobody who answers, somebody else who does, a stop.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use switchboard::command::{ClientCommand, CommandOptions, CommandRefusal, Mode, Outcome, Refusal, Target};
use switchboard::node::User;
use switchboard::proto::command::CommandId;
use switchboard_testkit::client::{LineClient, PATIENCE};

use crate::bots::{Bot, WIRES, Wire, fail_fast, to_user, within_ms};
use crate::peer::eventually;
use crate::support::TestServer;

fn replied() -> Value {
    json!({"success": true})
}

#[test]
fn a_client_that_does_not_answer_is_a_timeout_at_the_limit() {
    let server = TestServer::start();
    let mut bot = Bot::connect(&server, Wire::Web, Some("u1"));
    let sent = server.outcome(server.ask_for(to_user("u1"), "ping", within_ms(300)), Outcome::Timeout);
    assert!((300..1300).contains(&sent.report().latency_ms), "{}", sent.report().latency_ms);
    let failure = sent.failure();
    assert_eq!(failure.code, "error-client-command-response-timeout");
    assert_eq!(failure.reason, "u1 didn't respond to the command in time");
    let command = bot.command("ping");
    let details =
        json!({"_id": command["_id"], "key": "ping", "u": {"_id": "u1", "username": "u1"}, "cmd": {"key": "ping"}});
    assert_eq!(failure.details, json!({"method": "sendClientCommand", "command": details}));
    bot.reply_in_vain(&command, &replied());
    assert_eq!(server.node().client_command_figures().late_replies, 1);
}

#[test]
fn nobody_there_is_told_apart_from_nobody_who_answers() {
    let server = TestServer::start();
    let _known = Bot::connect_deaf(&server, Wire::Line, Some("u1"));
    let sent = server.outcome(server.ask_for(to_user("u1"), "ping", within_ms(200)), Outcome::NoRecipient);
    assert_eq!(sent.failure().code, "error-client-command-response-timeout");
    assert_eq!(sent.failure().details["delivered"], 0);
    let begun = Instant::now();
    let sent = server.outcome(server.ask_for(to_user("u1"), "ping", fail_fast()), Outcome::NoRecipient);
    assert_eq!(sent.failure().code, "error-client-command-no-recipient");
    assert!(begun.elapsed() < Duration::from_secs(5), "it is told at once, not at the limit");
}

#[test]
fn a_client_that_leaves_is_waited_for_unless_the_sender_does_not_want_that() {
    let server = TestServer::start();
    for wire in WIRES {
        let mut bot = Bot::connect(&server, wire, Some("u1"));
        let [patient, hasty] = [within_ms(600), CommandOptions { fail_fast: true, ..within_ms(60_000) }]
            .map(|options| server.ask_for(to_user("u1"), "ping", options));
        let _told = [(); 2].map(|()| bot.command("ping"));
        bot.leave(&server);
        let sent = server.outcome(hasty, Outcome::Disconnected);
        assert_eq!(sent.failure().code, "error-client-command-disconnected");
        server.outcome(patient, Outcome::Timeout);
    }
}

#[test]
fn in_mode_one_the_next_session_is_asked_when_the_first_cannot_take_it() {
    let server = TestServer::with(&["commands.max_command_bytes=1MiB"]);
    let mut steady = Bot::connect(&server, Wire::Line, Some("u1"));
    let stuck = Bot::connect(&server, Wire::Line, Some("u1"));
    fill(&server, &stuck);
    // It was the last one that did anything.
    let one = CommandOptions { mode: Some(Mode::One), ..within_ms(60_000) };
    let large = ClientCommand::from_json(json!({"key": "work", "data": "x".repeat(500_000)})).unwrap();
    let sending = server.node().begin_client_command(to_user("u1"), large, one);
    let pending = server.wait(sending).unwrap();
    steady.obey("work", &replied());
    assert_eq!(server.outcome(pending, Outcome::Replied).report().counts.sessions, 2);
}

/// Sends commands to a client that does not read until one finds its queue full.
#[track_caller]
fn fill(server: &TestServer, bot: &Bot) {
    let node = server.node();
    let mut unanswered = Vec::new();
    for index in 0..100 {
        let command = ClientCommand::from_json(json!({"key": "fill", "data": "x".repeat(500_000)})).unwrap();
        let options = CommandOptions { fail_fast: true, ..within_ms(60_000) };
        let pending = server.wait(node.begin_client_command(Target::Connection(bot.id), command, options)).unwrap();
        let id = pending.id();
        let ended = || node.client_command_history(0, usize::MAX).into_iter().find(|command| command.id == id);
        let is_delivered = || {
            node.pending_client_commands(0, usize::MAX)
                .iter()
                .any(|command| command.id == id && command.counts.delivered == 1)
        };
        eventually("it is delivered, or not", || ended().is_some() || is_delivered());
        if ended().is_some() {
            assert!(index > 1, "the queue takes something");
            let sent = server.outcome(pending, Outcome::Overflow);
            assert_eq!(sent.failure().code, "error-client-command-overflow");
            return;
        }
        unanswered.push(pending);
    }
    panic!("the queue has no end");
}

#[test]
fn fault_row_24_a_client_that_does_not_read_overflows_alone() {
    let server = TestServer::with(&["commands.max_command_bytes=1MiB"]);
    let stuck = Bot::connect(&server, Wire::Line, Some("u1"));
    fill(&server, &stuck);
    // It is still connected, and those beside it get theirs: in the same command, too.
    let mut others: Vec<Bot> = WIRES.into_iter().map(|wire| Bot::connect(&server, wire, Some("u1"))).collect();
    let large = ClientCommand::from_json(json!({"key": "work", "data": "x".repeat(500_000)})).unwrap();
    let all = CommandOptions { mode: Some(Mode::All), ..within_ms(60_000) };
    let pending = server.wait(server.node().begin_client_command(to_user("u1"), large, all)).unwrap();
    others.iter_mut().for_each(|bot| bot.obey("work", &replied()));
    let sent = server.outcome(pending, Outcome::Replied);
    for row in sent.report().rows.as_ref().unwrap() {
        let expected = if row.connection == stuck.id { Outcome::Overflow } else { Outcome::Replied };
        assert_eq!(row.outcome, expected);
    }
    assert!(server.node().connection_ids().contains(&stuck.id));
}

#[test]
fn fault_row_19_a_reply_counts_only_from_who_was_asked_and_once() {
    let server = TestServer::start();
    for wire in WIRES {
        let mut bot = Bot::connect(&server, wire, Some("u1"));
        let mut stranger = Bot::connect(&server, wire, Some("u2"));
        let mut guest = Bot::connect(&server, wire, None);
        let figures = server.node().client_command_figures();
        let pending = server.ask_for(to_user("u1"), "ping", within_ms(60_000));
        let command = bot.command("ping");
        let forged = json!({"success": true, "_id": command["_id"], "u": {"_id": "u1"}, "from": bot.id.to_string()});
        stranger.reply_in_vain(&command, &forged);
        guest.reply_in_vain(&command, &forged);
        bot.reply(&command, &json!({"success": true, "mine": true}));
        bot.reply_in_vain(&command, &replied());
        stranger.reply_in_vain(&command, &forged);
        let sent = server.outcome(pending, Outcome::Replied);
        assert_eq!(sent.reply().unwrap().as_str(), r#"{"success":true,"mine":true}"#);
        let now = server.node().client_command_figures();
        assert_eq!(now.foreign_replies - figures.foreign_replies, 3);
        assert_eq!(now.duplicate_replies - figures.duplicate_replies, 1);
        [bot, stranger, guest].into_iter().for_each(|bot| bot.leave(&server));
    }
}

#[test]
fn fault_row_19_a_guest_is_answered_for_by_nobody_else_and_a_collection_by_nobody_outside() {
    let server = TestServer::start();
    let mut bots = WIRES.map(|wire| Bot::connect(&server, wire, None));
    let mut outside = Bot::connect_deaf(&server, Wire::Line, None);
    let pending = server.ask_for(Target::Connection(bots[0].id), "ping", within_ms(60_000));
    let command = bots[0].command("ping");
    bots[1].reply_in_vain(&command, &replied());
    bots[0].reply(&command, &replied());
    server.outcome(pending, Outcome::Replied);

    let pending = server.ask_for(Target::All, "ping", within_ms(60_000));
    let commands = bots.each_mut().map(|bot| bot.command("ping"));
    outside.reply_in_vain(&commands[0], &replied());
    bots[0].reply(&commands[0], &json!({"success": true, "first": true}));
    bots[0].reply_in_vain(&commands[0], &json!({"success": true, "first": false}));
    bots[1].reply(&commands[1], &replied());
    let sent = server.outcome(pending, Outcome::Replied);
    assert_eq!(sent.report().counts.replied, 2);
    let first = sent.report().rows.as_ref().unwrap().iter().find(|row| row.connection == bots[0].id).unwrap();
    assert_eq!(first.reply.as_ref().unwrap().as_str(), r#"{"success":true,"first":true}"#);
}

#[test]
fn fault_row_16_ids_that_are_not_known_are_answered_like_those_of_others() {
    let server = TestServer::start();
    let mut bot = Bot::connect(&server, Wire::Line, Some("u1"));
    let mut stranger = Bot::connect(&server, Wire::Line, Some("u2"));
    let pending = server.ask_for(to_user("u1"), "ping", within_ms(60_000));
    let id = bot.command("ping")["_id"].as_str().unwrap().to_owned();
    let mut answers: Vec<Value> =
        [id.as_str(), "23456789ABCDEFGHJ", "x", "ping"].map(|id| stranger.reply_to_id(id, &replied())).to_vec();
    answers.iter_mut().for_each(|answer| drop(answer.as_object_mut().unwrap().remove("messageCount")));
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
    assert_eq!(server.node().client_command_figures().unknown_replies, 3);
    bot.reply_to_id(&id, &replied());
    server.outcome(pending, Outcome::Replied);
}

#[test]
fn replies_that_are_malformed_or_too_large_leave_the_command_pending() {
    let server = TestServer::with(&["commands.max_reply_bytes=256"]);
    let mut bot = Bot::connect(&server, Wire::Line, Some("u1"));
    let pending = server.ask_for(to_user("u1"), "ping", within_ms(60_000));
    let command = bot.command("ping");
    let id = command["_id"].as_str().unwrap();
    for line in ["", &format!(" {id}"), &format!(" {id} true"), &format!(" {id} [1]"), &format!(" {id} {{")] {
        let answer = bot.client.ask(&format!("replyClientCommand{line}"));
        assert_eq!(answer["status"], "the id of a command and a JSON object are required", "{line}");
    }
    let answer = bot.try_reply(&command, &json!({"success": true, "logs": "x".repeat(256)}));
    assert_eq!(answer["status"], "the reply is too large");
    assert_eq!(server.node().client_command_figures().too_large_replies, 1);
    bot.reply(&command, &replied());
    server.outcome(pending, Outcome::Replied);
}

#[test]
fn fault_row_6_a_reply_nested_without_end_is_refused_and_the_next_one_counts() {
    let server = TestServer::start();
    let mut bot = Bot::connect(&server, Wire::Line, Some("u1"));
    let pending = server.ask_for(to_user("u1"), "ping", within_ms(60_000));
    let command = bot.command("ping");
    let id = command["_id"].as_str().unwrap();
    let deep = format!("replyClientCommand {id} {{\"a\":{}{}}}", "[".repeat(20_000), "]".repeat(20_000));
    assert_ne!(bot.client.ask(&deep)["status"], "OK");
    bot.reply(&command, &replied());
    server.outcome(pending, Outcome::Replied);
}

#[test]
fn fault_row_20_who_is_not_that_user_any_more_cannot_reply() {
    let server = TestServer::start();
    let mut bot = Bot::connect(&server, Wire::Line, Some("u1"));
    let mut other = Bot::connect(&server, Wire::Line, Some("u1"));
    let pending = server.ask_for(to_user("u1"), "ping", within_ms(60_000));
    let command = bot.command("ping");
    server.node().set_connection_user(bot.id, Some(User::new("u2").unwrap())).unwrap();
    bot.reply_in_vain(&command, &replied());
    server.node().set_connection_user(bot.id, None).unwrap();
    bot.reply_in_vain(&command, &replied());
    other.obey("ping", &replied());
    server.outcome(pending, Outcome::Replied);
    // Nor is it asked any more what the user is asked.
    let pending = server.ask_for(to_user("u1"), "pong", within_ms(60_000));
    other.obey("pong", &replied());
    assert_eq!(server.outcome(pending, Outcome::Replied).report().counts.sessions, 1);
    bot.expect_silence();
}

#[test]
fn of_a_thousand_commands_to_a_client_that_never_answers_a_hundred_are_accepted() {
    let server = TestServer::start();
    let mut bot = Bot::connect(&server, Wire::Line, Some("u1"));
    let mut other = Bot::connect(&server, Wire::Line, Some("u2"));
    let (accepted, refused): (Vec<_>, Vec<_>) =
        (0..1000).map(|_| server.begin(to_user("u1"), "ping", within_ms(60_000))).partition(Result::is_ok);
    assert_eq!((accepted.len(), refused.len()), (100, 900));
    let too_many = CommandRefusal::Refused(Refusal::TooManyOfUser);
    assert!(refused.into_iter().all(|refused| refused.unwrap_err() == too_many));
    assert_eq!(server.node().client_command_figures().refused, 900);
    assert_eq!(server.node().client_command_figures().pending, 100);
    // Others are not concerned, and the client gets what was accepted and nothing else.
    let pending = server.ask_for(to_user("u2"), "ping", within_ms(60_000));
    other.obey("ping", &replied());
    server.outcome(pending, Outcome::Replied);
    for _ in 0..100 {
        bot.command("ping");
    }
    bot.expect_silence();
    drop(accepted);
    eventually("what nobody waits for is gone", || server.node().client_command_figures().pending == 0);
    drop(server.ask_for(to_user("u1"), "ping", within_ms(60_000)));
}

#[test]
fn a_reply_on_a_connection_that_is_ending_counts() {
    let server = TestServer::start();
    for _ in 0..20 {
        let mut bot = Bot::connect(&server, Wire::Line, Some("u1"));
        let pending = server.ask_for(to_user("u1"), "ping", fail_fast());
        let id = bot.command("ping")["_id"].as_str().unwrap().to_owned();
        bot.client.send_raw(format!("replyClientCommand {id} {{\"success\":true}}\r\n").as_bytes());
        bot.client.half_close().unwrap();
        server.outcome(pending, Outcome::Replied);
    }
    // Without the end of its line it is no reply: the sender is told that the client left.
    let mut bot = Bot::connect(&server, Wire::Line, Some("u1"));
    let pending = server.ask_for(to_user("u1"), "ping", CommandOptions { fail_fast: true, ..within_ms(60_000) });
    let id = bot.command("ping")["_id"].as_str().unwrap().to_owned();
    bot.client.send_raw(format!("replyClientCommand {id} {{\"succ").as_bytes());
    bot.client.half_close().unwrap();
    server.outcome(pending, Outcome::Disconnected);
}

#[test]
fn fault_row_35_a_check_that_panics_refuses_and_a_listener_that_panics_is_alone() {
    let server = TestServer::start();
    let mut bot = Bot::connect(&server, Wire::Line, Some("u1"));
    let heard = Arc::new(AtomicUsize::new(0));
    for index in 0..100u32 {
        let id = CommandId::from_random(u128::from(index) + 1);
        let counter = Arc::clone(&heard);
        let listen = |listener: Box<dyn FnOnce() + Send>| {
            server.node().on_client_command_response(id, move |_| listener()).unwrap();
        };
        listen(Box::new(|| panic!("a listener of the test")));
        listen(Box::new(move || {
            counter.fetch_add(1, Ordering::Relaxed);
        }));
        let known = CommandOptions { id: Some(id), ..within_ms(60_000) };
        let pending = server.ask_for(to_user("u1"), "ping", known);
        bot.obey("ping", &replied());
        server.outcome(pending, Outcome::Replied);
    }
    assert_eq!(heard.load(Ordering::Relaxed), 100);
    server.node().check_commands(|_| panic!("a check of the test"));
    for _ in 0..100 {
        let refused = server.begin(to_user("u1"), "ping", CommandOptions::default()).unwrap_err();
        assert_eq!(refused, CommandRefusal::NotAllowed);
    }
    server.node().check_commands(|_| true);
    let pending = server.ask_for(to_user("u1"), "ping", CommandOptions::default());
    bot.obey("ping", &replied());
    server.outcome(pending, Outcome::Replied);
}

#[test]
fn listeners_of_commands_that_are_not_sent_are_forgotten() {
    let server = TestServer::with(&["commands.listeners_max=10"]);
    let _bot = Bot::connect(&server, Wire::Line, Some("u1"));
    server.node().check_commands(|request| request.sender.is_some());
    for index in 0..100 {
        let id = CommandId::from_random(index);
        server.node().on_client_command_response(id, |_| ()).unwrap();
        let known = CommandOptions { id: Some(id), ..CommandOptions::default() };
        assert_eq!(server.begin(to_user("u1"), "ping", known).unwrap_err(), CommandRefusal::NotAllowed);
    }
}

#[test]
fn an_id_that_is_pending_is_not_given_to_another_command() {
    let server = TestServer::start();
    let mut bot = Bot::connect(&server, Wire::Line, Some("u1"));
    let known = CommandOptions { id: Some(CommandId::from_random(7)), ..within_ms(60_000) };
    let pending = server.ask_for(to_user("u1"), "ping", known.clone());
    let refused = server.begin(to_user("u1"), "pong", known).unwrap_err();
    assert_eq!(refused, CommandRefusal::Refused(Refusal::IdInUse));
    bot.obey("ping", &replied());
    server.outcome(pending, Outcome::Replied);
    bot.expect_silence();
}

#[test]
fn fault_row_37_commands_are_answered_during_a_planned_stop_and_new_ones_refused() {
    let mut server = TestServer::with(&["node.drain_spread=0s"]);
    let mut bots = WIRES.map(|wire| Bot::connect(&server, wire, Some("u1")));
    let mut idle = server.connect();
    let pending = server.ask_for(to_user("u1"), "ping", within_ms(60_000));
    let absent = Target::Connection(server.id_of(&idle));
    let held = server.ask_for(absent, "ping", within_ms(60_000));
    let commands = bots.each_mut().map(|bot| bot.command("ping"));
    let node = server.node().clone();
    let stopping = server.begin_stop();
    // Nobody comes back to a server that stops.
    assert_eq!(server.outcome(held, Outcome::Shutdown).failure().code, "error-server-shutdown");
    let refused = server.wait(node.send_client_command(to_user("u1"), crate::bots::command("ping"), fail_fast()));
    assert_eq!(refused.unwrap_err(), CommandRefusal::Refused(Refusal::Draining));
    bots[1].reply(&commands[1], &replied());
    server.outcome(pending, Outcome::Replied);
    let line = |client: &mut LineClient| client.read_json();
    assert_eq!(line(&mut idle)["status"], "Bye!");
    assert_eq!(line(&mut bots[0].client)["status"], "Bye!");
    assert_eq!(line(&mut bots[1].client)["closed"], 1012);
    drop((idle, bots));
    server.wait(stopping).unwrap();
}

#[test]
fn fault_row_37_commands_that_nobody_answers_do_not_hold_up_a_planned_stop() {
    for (wait, timeout) in [("300ms", "20s"), ("20s", "300ms")] {
        let (wait, timeout) = (format!("commands.drain_wait={wait}"), format!("node.drain_timeout={timeout}"));
        let mut server = TestServer::with(&[&wait, &timeout, "node.drain_spread=0s"]);
        let mut bots: Vec<Bot> = (0..10).map(|index| Bot::connect(&server, WIRES[index % 2], Some("u1"))).collect();
        let pending: Vec<_> = (0..50).map(|_| server.ask_for(to_user("u1"), "ping", within_ms(60_000))).collect();
        bots.iter_mut().for_each(|bot| drop(bot.command("ping")));
        let begun = Instant::now();
        let stopping = server.begin_stop();
        for pending in pending {
            server.outcome(pending, Outcome::Shutdown);
        }
        let took = begun.elapsed();
        assert!(took >= Duration::from_millis(300), "{took:?}");
        drop(bots);
        server.wait(stopping).unwrap();
        assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    }
}

/// Waits for a future of a server that may be gone, not for ever.
#[track_caller]
fn wait_without_server<F: Future>(future: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(PATIENCE, future).await }).expect("it ends with the server")
}

#[test]
fn a_command_that_is_polled_after_its_outcome_has_the_same_outcome() {
    let server = TestServer::start();
    let _known = Bot::connect_deaf(&server, Wire::Line, Some("u1"));
    let mut pending = server.ask_for(to_user("u1"), "ping", fail_fast());
    let outcomes = [(); 3].map(|()| server.wait(&mut pending).report().outcome);
    assert_eq!(outcomes, [Outcome::NoRecipient; 3]);
}

#[test]
fn commands_and_those_that_follow_them_end_when_the_server_is_dropped() {
    let server = TestServer::start();
    let _known = Bot::connect_deaf(&server, Wire::Line, Some("u1"));
    let pending = server.ask_for(to_user("u1"), "ping", within_ms(60_000));
    let id = pending.id();
    let mut tail = server.node().follow_client_commands(None);
    drop(server);
    assert_eq!(wait_without_server(pending).report().outcome, Outcome::Shutdown);
    let ended = wait_without_server(tail.next()).expect("it has the last command");
    assert_eq!((ended.len(), ended[0].id), (1, id));
    assert!(wait_without_server(tail.next()).is_none() && wait_without_server(tail.next()).is_none());
}

#[test]
fn those_that_follow_commands_end_with_a_planned_stop() {
    let server = TestServer::start();
    let mut tail = server.node().follow_client_commands(None);
    server.stop();
    assert!(wait_without_server(tail.next()).is_none());
}
