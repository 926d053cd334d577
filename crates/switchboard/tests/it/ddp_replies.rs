//! Replies to client commands: whose count, and what the others are told.

use serde_json::{Value, json};
use switchboard::command::{CommandOptions, Outcome, SentCommand, Target};
use switchboard_testkit::client::PATIENCE;
use switchboard_testkit::ddp::DdpClient;
use tokio::task::JoinHandle;

use super::ddp_support::{COMMANDS, PASSWORD, refused, serving, words};
use super::support::TestServer;

/// A bot that has been sent a command, and the id of that.
fn asked(server: &TestServer) -> (DdpClient, String, JoinHandle<SentCommand>) {
    let mut bot = server.ddp_as("bot");
    bot.sub(COMMANDS, json!(["b1"])).unwrap();
    let sent = server.command_bot("x", PATIENCE);
    let id = bot.heard(COMMANDS)[0]["_id"].as_str().unwrap().to_owned();
    (bot, id, sent)
}

#[track_caller]
fn reply(client: &mut DdpClient, id: &str, words: &str) -> Result<Value, Value> {
    client.call("replyClientCommand", json!([id, {"success": true, "words": words}]))
}

#[test]
fn fault_row_19_only_the_user_who_was_asked_may_reply() {
    let server = serving(&[]);
    let (mut bot, id, sent) = asked(&server);
    let (mut ann, mut nobody) = (server.ddp_as("ann"), server.ddp());
    let mut telnet = server.connect();
    for method in ["replyClientCommand", "replyToDdpRequest"] {
        let forged = json!([id, {"success": true, "u": {"_id": "b1", "username": "bot"}, "from": "b1"}]);
        assert_eq!(ann.call(method, forged.clone()), Ok(json!(false)));
        let error = nobody.call(method, forged).unwrap_err();
        assert_eq!((&error["error"], &error["details"]), (&json!("error-invalid-user"), &json!({"method": method})));
    }
    assert_eq!(telnet.ask(&format!("replyClientCommand {id} {{\"success\":true}}"))["data"], false);
    // Who was the bot a moment ago is not the bot.
    let mut former = server.ddp_as("bot");
    former.log_in("ann", PASSWORD);
    assert_eq!(reply(&mut former, &id, "forged"), Ok(json!(false)));
    let figures = server.node().client_command_figures();
    assert_eq!((figures.pending, figures.foreign_replies, figures.replies), (1, 4, 0));
    assert_eq!(reply(&mut bot, &id, "mine"), Ok(json!(true)));
    let sent = server.wait(sent).unwrap();
    assert_eq!(sent.reply().unwrap().to_value(), json!({"success": true, "words": "mine"}));
}

#[test]
fn fault_row_16_a_wrong_id_a_settled_one_and_one_of_somebody_else_read_alike() {
    let server = serving(&[]);
    let (mut bot, id, sent) = asked(&server);
    assert_eq!(reply(&mut bot, &id, "first"), Ok(json!(true)));
    assert_eq!(reply(&mut bot, &id, "second"), Ok(json!(false)));
    server.wait(sent).unwrap();
    let brief = server.command_bot("brief", std::time::Duration::from_millis(50));
    let late = bot.heard(COMMANDS)[0]["_id"].as_str().unwrap().to_owned();
    assert_eq!(server.wait(brief).unwrap().report().outcome, Outcome::Timeout);
    let foreign = server.command(Target::User("a1".into()), &json!({"key": "x"}), CommandOptions::default());
    let pending = || server.node().pending_client_commands(0, 10);
    super::peer::eventually("it is pending", || pending().len() == 1);
    let foreign_id = pending()[0].id.to_string();
    let begin = |id: &str| json!([id, {"success": true}]);
    for wrong in [late.as_str(), &foreign_id, "", "bycAiK7YabTfCGqBQ", "nonsense", &"x".repeat(1000), "é\u{0}"] {
        assert_eq!(bot.call("replyClientCommand", begin(wrong)), Ok(json!(false)), "{wrong}");
    }
    let figures = server.node().client_command_figures();
    assert_eq!((figures.duplicate_replies, figures.late_replies, figures.foreign_replies), (1, 1, 1));
    assert_eq!(figures.unknown_replies, 5);
    foreign.abort();
}

#[test]
fn what_is_no_reply_leaves_the_command_pending() {
    let server = serving(&["commands.max_reply_bytes=1KiB"]);
    let (mut bot, id, sent) = asked(&server);
    let mut nobody = server.ddp();
    for params in [
        json!([]),
        json!([id]),
        json!([5, {}]),
        json!([id, null]),
        json!([id, []]),
        json!([id, "done"]),
        json!([null, {"success": true}]),
    ] {
        // Arguments are looked at before the log-in is.
        for client in [&mut bot, &mut nobody] {
            let refused = refused(client.call("replyClientCommand", params.clone()));
            assert_eq!(refused, (json!(400), json!("Match failed")), "{params}");
        }
    }
    let too_large = reply(&mut bot, &id, &"x".repeat(1024));
    assert_eq!(refused(too_large), words("error-response-too-large", "Response is too large"));
    assert_eq!(server.node().client_command_figures().too_large_replies, 1);
    assert_eq!(reply(&mut bot, &id, &"x".repeat(900)), Ok(json!(true)));
    assert_eq!(server.wait(sent).unwrap().report().outcome, Outcome::Replied);
}

#[test]
fn a_reply_may_come_over_another_session_and_after_a_reconnect() {
    let server = serving(&[]);
    let (bot, id, sent) = asked(&server);
    let mut other = server.ddp_as("bot");
    drop(bot);
    assert_eq!(reply(&mut other, &id, "from another"), Ok(json!(true)));
    assert_eq!(server.wait(sent).unwrap().report().outcome, Outcome::Replied);
    drop(other);

    let (bot, id, sent) = asked(&server);
    let address = bot_is_gone(&server, bot);
    let mut again = server.ddp();
    again.sub(COMMANDS, json!(["b1"])).unwrap();
    again.log_in("bot", PASSWORD);
    again.call("setCustomClientData", json!([{}])).unwrap();
    // What was written to a socket once is not written again.
    again.expect_silence();
    assert_eq!(reply(&mut again, &id, "after a reconnect"), Ok(json!(true)), "{address}");
    let sent = server.wait(sent).unwrap();
    assert_eq!(sent.reply().unwrap().to_value()["words"], "after a reconnect");
}

/// Ends a session, and waits until the server knows.
fn bot_is_gone(server: &TestServer, mut bot: DdpClient) -> std::net::SocketAddr {
    let address = bot.line().local_address().unwrap();
    drop(bot);
    super::peer::eventually("it is gone", || server.find(address).is_none());
    address
}

#[test]
fn a_reply_is_handed_on_as_it_was_written() {
    let server = serving(&[]);
    let (mut bot, id, sent) = asked(&server);
    let written = r#"{"z":1.0,"success":true,"big":12345678901234567890123,"a":{"$binary":"AA=="},"t":"\u00e9"}"#;
    bot.send_text(&format!(r#"{{"msg":"method","method":"replyClientCommand","params":["{id}",{written}],"id":"r"}}"#));
    assert_eq!(bot.finish("r"), Ok(json!(true)));
    let sent = server.wait(sent).unwrap();
    assert_eq!(sent.reply().unwrap().as_str(), written);
}

#[test]
fn the_sender_learns_that_the_server_stops() {
    let mut server = serving(&["node.drain_timeout=1s", "node.drain_spread=0s"]);
    let (mut bot, _, sent) = asked(&server);
    let stopped = server.begin_stop();
    assert_eq!(bot.closed(), 1012);
    let sent = server.wait(sent).unwrap();
    assert_eq!(sent.report().outcome, Outcome::Shutdown);
    server.wait(stopped).unwrap();
}
