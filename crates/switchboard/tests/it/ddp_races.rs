//! What a session or its user does while something else of his is still under way.

use std::sync::Mutex;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use serde_json::{Value, json};
use switchboard::command::{CommandOptions, Outcome, Target};
use switchboard_testkit::client::PATIENCE;

use super::ddp_support::{COMMANDS, PASSWORD, ROOMS, USERS, refused, serving, words};
use super::http_backend::{Asked, Backend, SECRET, yes};
use super::peer::eventually;
use super::support::TestServer;

/// A server whose backend is asked about joins, and lets those of one connection pass when the test says so.
struct SlowJoins {
    server: TestServer,
    _backend: Backend,
    held: SyncSender<String>,
    asked: Receiver<()>,
    permits: SyncSender<()>,
}

impl SlowJoins {
    fn start() -> Self {
        let (held, holding) = sync_channel::<String>(1);
        let (asking, asked) = sync_channel::<()>(1);
        let (permits, permitted) = sync_channel::<()>(1);
        let state = Mutex::new((holding, permitted, None::<String>));
        let backend = Backend::start(move |asked: &Asked| {
            let mut state = state.lock().expect("no test panics inside");
            if let Ok(id) = state.0.try_recv() {
                state.2 = Some(id);
            }
            if state.2.as_deref() == asked.json["connection"]["id"].as_str() {
                state.2 = None;
                asking.send(()).expect("the test runs");
                state.1.recv_timeout(PATIENCE).expect("the test permits it");
            }
            yes()
        });
        let settings =
            [format!("hooks.secret={SECRET}"), "hooks.timeout=10s".to_owned(), backend.setting("hooks.join")];
        let mut settings: Vec<&str> = settings.iter().map(String::as_str).collect();
        let users = USERS.replacen(" = ", "=", 1);
        settings.push(&users);
        Self { server: TestServer::with(&settings), _backend: backend, held, asked, permits }
    }

    /// Waits until the backend is asked about the join that is held.
    #[track_caller]
    fn until_asked(&self) {
        self.asked.recv_timeout(PATIENCE).expect("the backend is asked about the join");
    }
}

#[test]
fn a_session_that_became_somebody_elses_is_not_put_into_a_room_of_the_user_before() {
    let slow = SlowJoins::start();
    let server = &slow.server;
    let (mut first, mut second) = (server.ddp_as("bot"), server.ddp_as("bot"));
    slow.held.send(server.id_of_ddp(&mut second).to_string()).expect("it is taken");
    let joining = first.begin("joinRoom", json!(["defaultRoom"]));
    slow.until_asked();
    assert_eq!(server.member_count("defaultRoom"), 1, "the first is in");
    second.log_in("ann", PASSWORD);
    slow.permits.send(()).expect("it is taken");
    assert_eq!(first.finish(&joining), Ok(json!(true)));
    assert_eq!(server.member_count("defaultRoom"), 1);
    assert_eq!(
        refused(second.call("sendMessage", json!([{"rid": "defaultRoom", "msg": "x"}]))),
        words("error-not-allowed", "Not allowed")
    );
}

#[test]
fn a_user_who_leaves_a_room_while_a_session_of_his_is_put_into_it_has_left_it_with_all() {
    let slow = SlowJoins::start();
    let server = &slow.server;
    let (mut first, mut second) = (server.ddp_as("bot"), server.ddp_as("bot"));
    slow.held.send(server.id_of_ddp(&mut second).to_string()).expect("it is taken");
    let joining = first.begin("joinRoom", json!(["defaultRoom"]));
    slow.until_asked();
    assert_eq!(server.member_count("defaultRoom"), 1, "the first is in");
    assert_eq!(second.call("leaveRoom", json!(["defaultRoom"])), Ok(Value::Null));
    slow.permits.send(()).expect("it is taken");
    assert_eq!(first.finish(&joining), Ok(json!(true)));
    assert_eq!(server.member_count("defaultRoom"), 0);
}

#[test]
fn a_user_who_leaves_a_room_while_another_session_logs_in_has_left_it_with_that_one_too() {
    let slow = SlowJoins::start();
    let server = &slow.server;
    let mut first = server.ddp_in("bot", &["defaultRoom"]);
    let mut second = server.ddp();
    slow.held.send(server.id_of_ddp(&mut second).to_string()).expect("it is taken");
    let logging_in = second.begin("login", json!([{"user": {"username": "bot"}, "password": PASSWORD}]));
    slow.until_asked();
    assert_eq!(first.call("leaveRoom", json!(["defaultRoom"])), Ok(Value::Null));
    slow.permits.send(()).expect("it is taken");
    second.finish(&logging_in).expect("the password is right");
    assert_eq!(server.member_count("defaultRoom"), 0);
}

#[test]
fn a_command_that_waits_for_a_user_reaches_him_over_a_session_that_was_somebody_elses() {
    let server = serving(&[]);
    let mut client = server.ddp_as("ann");
    client.sub(COMMANDS, json!(["a1"])).expect("it is hers");
    client.call("setCustomClientData", json!([{"framework": "x"}])).expect("it is hers");
    let id = server.id_of_ddp(&mut client);
    eventually("it listens", || server.node().client_of(id).is_some_and(|client| !client.is_settling));
    let sent = server.command_bot("wait", PATIENCE);
    eventually("it waits", || server.node().pending_client_commands(0, 10).iter().any(|command| command.is_held));
    client.log_in("bot", PASSWORD);
    assert_eq!(client.frame()["msg"], "nosub", "hers has ended");
    client.sub(COMMANDS, json!(["b1"])).expect("it is his");
    client.call("setCustomClientData", json!([{"framework": "x"}])).expect("it is his");
    let document = client.heard(COMMANDS)[0].take();
    assert_eq!(document["key"], "wait");
    assert_eq!(client.call("replyClientCommand", json!([document["_id"], {"success": true}])), Ok(json!(true)));
    assert_eq!(server.wait(sent).expect("no panic").report().outcome, Outcome::Replied);
}

#[test]
fn client_data_stay_when_subscriptions_come_and_go_that_are_not_for_commands() {
    let server = serving(&["commands.ready_wait=1m"]);
    let mut bot = server.ddp_as("bot");
    assert_eq!(bot.call("setCustomClientData", json!([{"canGetLogs": true}])), Ok(json!(true)));
    let room = bot.sub(ROOMS, json!(["defaultRoom"])).expect("everybody may");
    bot.unsub(&room);
    bot.sub(COMMANDS, json!(["b1"])).expect("it is his");
    let options = CommandOptions { require_capability: true, fail_fast: true, ..CommandOptions::default() };
    let sent = server.command(Target::User("b1".into()), &json!({"key": "getLogs"}), options);
    bot.set_patience(Duration::from_secs(5));
    let document = bot.heard(COMMANDS)[0].take();
    assert_eq!(bot.call("replyClientCommand", json!([document["_id"], {"success": true}])), Ok(json!(true)));
    assert_eq!(server.wait(sent).expect("no panic").report().outcome, Outcome::Replied);
}

#[test]
fn rooms_that_are_only_listened_to_do_not_count_as_those_that_one_is_in() {
    let rooms = r#"rooms.starting=[{name="a"},{name="b"},{name="c"}]"#;
    let server = serving(&[rooms, "servers.ddp.public_rooms_to_all=true", "limits.max_rooms_per_connection=2"]);
    let mut ann = server.ddp_in("ann", &[]);
    assert_eq!(ann.call("joinRoom", json!(["a"])), Ok(json!(true)));
    assert_eq!(ann.call("joinRoom", json!(["b"])), Ok(json!(true)));
    assert_eq!(refused(ann.call("joinRoom", json!(["c"]))), words("error-not-allowed", "Not allowed"));
}
