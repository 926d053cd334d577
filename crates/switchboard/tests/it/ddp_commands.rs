//! Client commands over DDP: who is sent them, when, and in what words.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};
use switchboard::command::{CommandOptions, Mode, Outcome, Target};
use switchboard::node::Speaker;
use switchboard_testkit::client::PATIENCE;
use switchboard_testkit::ddp::DdpClient;

use super::ddp_support::{COMMANDS, MINE, PASSWORD, ROOMS, date, refused, serving, words};
use super::support::TestServer;

const REQUESTS: &str = "stream-ddp-requests";

/// Longer than any test lasts: whoever is ready before is so because it said something.
const NEVER_READY_BY_ITSELF: &str = "commands.ready_wait=1m";

fn bot() -> Target {
    Target::User("b1".into())
}

#[track_caller]
fn reply(client: &mut DdpClient, document: &Value) {
    let answered = client.call("replyClientCommand", json!([document["_id"], {"success": true}]));
    assert_eq!(answered, Ok(json!(true)), "{document}");
}

#[track_caller]
fn outcome(server: &TestServer, sent: tokio::task::JoinHandle<switchboard::command::SentCommand>) -> Outcome {
    server.wait(sent).unwrap().report().outcome
}

#[test]
fn the_document_has_what_clients_of_either_generation_read() {
    let server = serving(&["commands.ts_offset=1h"]);
    let mut client = server.ddp_as("bot");
    server.take_commands(&mut client);
    let command = json!({"z": 1, "key": "clearCache", "data": {"scope": ["users"]}, "n": 1e3, "a": {"$date": 5}});
    let sent = server.command(bot(), &command, CommandOptions::default());
    let mut frame = client.frame();
    let document = frame["fields"]["args"][0].take();
    assert_eq!(
        frame,
        json!({"msg": "changed", "collection": COMMANDS, "id": "id", "fields": {"eventName": "b1", "args": [null]}})
    );
    let (id, ttl_ms) = (document["_id"].as_str().unwrap(), document["ttl_ms"].as_u64().unwrap());
    assert!(id.len() == 17 && (1..=5000).contains(&ttl_ms), "{document}");
    assert!(date(&document).abs_diff(server.node().unix_ms() + 3_600_000) < 60_000, "{document}");
    assert_eq!(
        document,
        json!({
            "_id": id, "key": "clearCache", "u": {"_id": "b1", "username": "bot"}, "cmd": command,
            "ts": document["ts"], "ttl_ms": ttl_ms, "data": {"scope": ["users"]}
        })
    );
    let answer = json!({"success": false, "z": 1, "a": [{"$date": 7}]});
    assert_eq!(client.call("replyClientCommand", json!([id, answer])), Ok(json!(true)));
    let sent = server.wait(sent).unwrap();
    assert_eq!(sent.reply().unwrap().to_value(), answer);
}

#[test]
fn a_subscription_before_the_log_in_sleeps_and_wakes_with_it() {
    let server = serving(&[NEVER_READY_BY_ITSELF]);
    let mut first = server.ddp();
    let token = first.log_in("bot", PASSWORD);
    drop(first);
    // As the SDK comes back: its subscriptions, then the log-in, then its data, and only then does it listen.
    let mut client = server.ddp();
    client.sub(COMMANDS, json!(["b1", true])).unwrap();
    let added = json!({"msg": "added", "collection": COMMANDS, "id": "id", "fields": {"eventName": "b1"}});
    assert_eq!(client.frame(), added);
    server.asks_nobody();
    let sent = server.command_bot("heartbeat", PATIENCE);
    client.expect_silence();
    client.resume(&token);
    client.expect_silence();
    client.call("setCustomClientData", json!([{"canListenToHeartbeat": true}])).unwrap();
    let document = client.heard(COMMANDS)[0].take();
    assert_eq!(document["key"], "heartbeat");
    reply(&mut client, &document);
    assert_eq!(outcome(&server, sent), Outcome::Replied);
}

#[test]
fn what_was_kept_is_stamped_when_it_leaves_and_waits_no_longer_than_half_a_second() {
    let server = serving(&[]);
    let sent = server.command_bot("kept", PATIENCE);
    let mut client = server.ddp_as("bot");
    let before_ms = server.node().unix_ms();
    client.sub(COMMANDS, json!(["b1"])).unwrap();
    // It says nothing about itself.
    let document = client.heard(COMMANDS)[0].take();
    assert!(date(&document) >= before_ms, "{document}");
    reply(&mut client, &document);
    assert_eq!(outcome(&server, sent), Outcome::Replied);
}

#[test]
fn nobody_is_sent_what_nobody_waits_for_any_more() {
    let server = serving(&[]);
    let sent = server.command_bot("brief", Duration::from_millis(20));
    let report = server.wait(sent).unwrap();
    assert_eq!(report.report().outcome, Outcome::NoRecipient);
    let failure = report.reply().unwrap_err();
    assert_eq!((failure.code, &failure.details["delivered"]), ("error-client-command-response-timeout", &json!(0)));
    let mut client = server.ddp_as("bot");
    server.take_commands(&mut client);
    client.expect_silence();
    let sent = server.command_bot("unanswered", Duration::from_millis(200));
    client.heard(COMMANDS);
    assert_eq!(outcome(&server, sent), Outcome::Timeout);
}

#[test]
fn a_session_is_asked_once_however_often_it_subscribed() {
    let server = serving(&[]);
    let mut client = server.ddp_as("bot");
    let mut subs: Vec<String> = [COMMANDS, REQUESTS, COMMANDS, REQUESTS]
        .into_iter()
        .map(|stream| client.sub(stream, json!(["b1", false])).unwrap())
        .collect();
    let asked = |client: &mut DdpClient, stream: &str| {
        let sent = server.command_bot("once", PATIENCE);
        let document = client.heard(stream)[0].take();
        let method = if stream == COMMANDS { "replyToDdpRequest" } else { "replyClientCommand" };
        assert_eq!(client.call(method, json!([document["_id"], {"success": true}])), Ok(json!(true)));
        assert_eq!(outcome(&server, sent), Outcome::Replied);
        client.expect_silence();
    };
    asked(&mut client, COMMANDS);
    client.unsub(&subs.remove(0));
    asked(&mut client, COMMANDS);
    client.unsub(&subs.remove(1));
    asked(&mut client, REQUESTS);
    client.unsub(&subs.remove(0));
    asked(&mut client, REQUESTS);
    client.unsub(&subs.remove(0));
    server.asks_nobody();
    client.expect_silence();
}

#[test]
fn all_sessions_are_asked_and_the_first_reply_settles_it() {
    let server = serving(&[]);
    let mut clients: Vec<_> = (0..3).map(|_| server.ddp_as("bot")).collect();
    clients.iter_mut().for_each(|client| server.take_commands(client));
    let _bystander = server.ddp_as("bot");
    let sent = server.command_bot("first", PATIENCE);
    let documents: Vec<Value> = clients.iter_mut().map(|client| client.heard(COMMANDS)[0].take()).collect();
    assert!(documents.iter().all(|document| document["_id"] == documents[0]["_id"]), "{documents:?}");
    reply(&mut clients[2], &documents[2]);
    let late = clients[0].call("replyClientCommand", json!([documents[0]["_id"], {"success": true}]));
    assert_eq!(late, Ok(json!(false)));
    let report = server.wait(sent).unwrap();
    assert_eq!((report.report().counts.sessions, report.report().counts.delivered), (3, 3));

    let options = CommandOptions { mode: Some(Mode::All), ..Default::default() };
    let sent = server.command(bot(), &json!({"key": "each"}), options);
    for client in &mut clients {
        let document = client.heard(COMMANDS)[0].take();
        reply(client, &document);
    }
    let report = server.wait(sent).unwrap();
    let rows = report.report().rows.as_ref().unwrap();
    let connections: BTreeSet<_> = rows.iter().map(|row| row.connection).collect();
    assert_eq!((connections.len(), report.report().counts.replied), (3, 3));
    assert_eq!(server.node().client_command_figures().duplicate_replies, 1);
}

#[test]
fn the_stream_of_somebody_else_is_closed_to_everybody() {
    let server = serving(&[]);
    let mut ann = server.ddp_as("ann");
    for stream in [COMMANDS, REQUESTS] {
        let error = ann.sub(stream, json!(["b1"])).unwrap_err();
        assert_eq!(
            error,
            json!({"isClientSafe": true, "error": "not-allowed", "message": "[not-allowed]", "errorType": "Meteor.Error"})
        );
        assert_eq!(ann.sub(stream, json!([""])).unwrap_err()["error"], "invalid-event-name");
        for params in [json!([]), json!([5]), json!(["a1", 5]), json!(["a1", {"useCollection": 1}])] {
            assert_eq!(refused(ann.sub(stream, params)), (json!(400), json!("Match failed")));
        }
    }
    // Asleep, it may have been anybody's; awake, it is hers or none.
    let mut other = server.ddp();
    let foreign = other.sub(COMMANDS, json!(["b1"])).unwrap();
    let own = other.sub(COMMANDS, json!(["a1"])).unwrap();
    other.log_in("ann", PASSWORD);
    let ended = other.frame();
    assert_eq!(
        (&ended["msg"], &ended["id"], &ended["error"]["error"]),
        (&json!("nosub"), &json!(foreign), &json!("not-allowed"))
    );
    server.asks_nobody();
    let sent = server.command(Target::User("ann".into()), &json!({"key": "x"}), CommandOptions::default());
    let document = other.heard(COMMANDS)[0].take();
    reply(&mut other, &document);
    assert_eq!(outcome(&server, sent), Outcome::Replied);
    other.unsub(&own);
    ann.expect_silence();
    other.expect_silence();
}

#[test]
fn a_session_that_ends_its_subscription_logs_out_or_leaves_is_not_asked() {
    let server = serving(&[]);
    let mut client = server.ddp_as("bot");
    server.take_commands(&mut client);
    server.asks(&mut client);
    assert_eq!(server.node().client_command_figures().sessions, 1);
    // Without its subscription it may still reply to what it was sent.
    let sent = server.command_bot("answer me later", PATIENCE);
    let document = client.heard(COMMANDS)[0].take();
    client.call("logout", json!([])).unwrap();
    server.asks_nobody();
    client.log_in("bot", PASSWORD);
    reply(&mut client, &document);
    assert_eq!(outcome(&server, sent), Outcome::Replied);
    server.asks(&mut client);
    client.line().half_close().unwrap();
    client.line().expect_fin();
    super::peer::eventually("it is gone", || server.node().client_command_figures().sessions == 0);
    server.asks_nobody();
}

#[test]
fn with_fail_fast_the_last_session_that_leaves_ends_it() {
    let server = serving(&[]);
    let mut client = server.ddp_as("bot");
    server.take_commands(&mut client);
    let options = CommandOptions { fail_fast: true, timeout: Some(PATIENCE), ..Default::default() };
    let sent = server.command(bot(), &json!({"key": "x"}), options);
    client.heard(COMMANDS);
    drop(client);
    let sent = server.wait(sent).unwrap();
    assert_eq!(sent.report().outcome, Outcome::Disconnected);
    assert_eq!(sent.failure().code, "error-client-command-disconnected");
}

#[test]
fn times_of_commands_rise_by_user_however_fast_they_are_sent() {
    let server = serving(&[]);
    let mut client = server.ddp_as("bot");
    server.take_commands(&mut client);
    let sent: Vec<_> = (0..50).map(|_| server.command_bot("x", PATIENCE)).collect();
    let mut last_ms = 0;
    for _ in 0..50 {
        let document = client.heard(COMMANDS)[0].take();
        assert!(date(&document) > last_ms, "{document} behind {last_ms}");
        last_ms = date(&document);
        reply(&mut client, &document);
    }
    for sent in sent {
        assert_eq!(outcome(&server, sent), Outcome::Replied);
    }
}

#[test]
fn a_pause_withholds_room_messages_and_nothing_else_until_it_ends() {
    let server = serving(&[]);
    let mut client = server.ddp_in("bot", &["defaultRoom"]);
    client.sub(ROOMS, json!(["defaultRoom"])).unwrap();
    let mut other = server.ddp_in("bot", &[]);
    client.sub(COMMANDS, json!(["b1"])).unwrap();
    client.call("setCustomClientData", json!([{"canPauseResumeMsgStream": true}])).unwrap();
    let say = |text: &str| server.wait(server.node().broadcast(Speaker::server(), "defaultRoom", text)).unwrap();
    let ask = |client: &mut DdpClient, key: &str, success: bool| {
        let sent = server.command_bot(key, PATIENCE);
        let document = client.heard(COMMANDS)[0].take();
        assert_eq!(client.call("replyClientCommand", json!([document["_id"], {"success": success}])), Ok(json!(true)));
        assert_eq!(outcome(&server, sent), Outcome::Replied);
    };
    // A client that could not do it goes on hearing.
    ask(&mut client, "pauseMessageStream", false);
    say("one");
    assert_eq!(client.frames(2).len(), 2);
    ask(&mut client, "pauseMessageStream", true);
    say("two");
    client.expect_silence();
    // What is subscribed meanwhile is withheld too; commands and answers pass.
    client.sub(ROOMS, json!([MINE])).unwrap();
    say("three");
    client.expect_silence();
    assert_eq!(client.call("sendMessage", json!([{"rid": "defaultRoom", "msg": "four"}])).unwrap()["number"], 4);
    client.expect_silence();
    ask(&mut client, "resumeMessageStream", true);
    say("five");
    assert!(client.frames(2).iter().all(|frame| frame["fields"]["args"][0]["number"] == 5));
    // It is this session's alone.
    for text in ["one", "two", "three", "four", "five"] {
        assert_eq!(other.heard(ROOMS)[0]["msg"], text);
    }
    // It ends with the connection.
    ask(&mut client, "pauseMessageStream", true);
    drop(client);
    let mut again = server.ddp_in("bot", &[]);
    say("six");
    assert_eq!(again.heard(ROOMS)[0]["msg"], "six");
}

#[test]
fn client_data_is_an_object_of_a_user_and_has_its_limit() {
    let server = serving(&["commands.max_client_data_bytes=256B"]);
    let mut client = server.ddp();
    let method = "setCustomClientData";
    let no_match = || (json!(400), json!("Match failed"));
    assert_eq!(refused(client.call(method, json!([{}]))), words("error-invalid-user", "Invalid user"));
    client.log_in("bot", PASSWORD);
    for params in [json!([]), json!([5]), json!([[]]), json!([null]), json!([{"x": "x".repeat(256)}])] {
        assert_eq!(refused(client.call(method, params)), no_match());
    }
    let id = server.id_of_ddp(&mut client);
    client.sub(COMMANDS, json!(["b1"])).unwrap();
    let given = json!([{"framework": "test", "ipAddress": "1.2.3.4", "canPauseResumeMsgStream": true}]);
    assert_eq!(client.call(method, given), Ok(json!(true)));
    let view = server.node().client_of(id).unwrap();
    let data = format!("{view:?}");
    assert!(data.contains("test") && data.contains("127.0.0.1"), "{data}");
}

#[test]
fn a_session_that_has_just_subscribed_is_asked_too_although_another_one_listens_already() {
    let server = serving(&[NEVER_READY_BY_ITSELF]);
    let mut first = server.ddp_as("bot");
    server.take_commands(&mut first);
    let mut second = server.ddp_as("bot");
    second.sub(COMMANDS, json!(["b1"])).unwrap();
    let sent = server.command_bot("k", PATIENCE);
    let asked = first.heard(COMMANDS)[0].take();
    second.expect_silence();
    // It listens when it has said what it can do.
    second.call("setCustomClientData", json!([{}])).unwrap();
    let document = second.heard(COMMANDS)[0].take();
    assert_eq!(document["_id"], asked["_id"]);
    reply(&mut second, &document);
    assert_eq!(outcome(&server, sent), Outcome::Replied);
}

#[test]
fn a_command_for_a_subscription_that_is_dropped_and_made_again_reaches_the_new_one() {
    let server = serving(&[NEVER_READY_BY_ITSELF]);
    let mut listens = server.ddp_as("bot");
    server.take_commands(&mut listens);
    let mut client = server.ddp_as("bot");
    let subscription = client.sub(COMMANDS, json!(["b1"])).unwrap();
    let sent = server.command_bot("k", PATIENCE);
    listens.heard(COMMANDS);
    client.unsub(&subscription);
    client.sub(COMMANDS, json!(["b1"])).unwrap();
    client.expect_silence();
    client.call("setCustomClientData", json!([{}])).unwrap();
    let document = client.heard(COMMANDS)[0].take();
    reply(&mut client, &document);
    assert_eq!(outcome(&server, sent), Outcome::Replied);
}
