//! Client commands to shards, and the pause that one of them begins.

use serde_json::{Value, json};
use switchboard::ConnId;
use switchboard::command::{Outcome, PAUSE, RESUME, Target};
use switchboard::node::commands::PendingClientCommand;
use switchboard_testkit::gateway::{Credentials, GatewayClient};

use super::bots::{fail_fast, to_user, within_ms};
use super::gateway_support::{
    APP, about_room, credentials, expect_events, foreign, hash_of, reset, serving, stats, text,
};
use super::peer::eventually;
use super::support::TestServer;

/// A request with which a client says that it takes commands.
fn taking_commands(mut request: Value) -> Value {
    request["d"]["client"] = json!({"commands": true, "canPauseResumeMsgStream": true});
    request
}

/// A shard that takes commands.
struct Obedient {
    client: GatewayClient,
    session: String,
    hash: ConnId,
}

impl Obedient {
    #[track_caller]
    fn register(server: &TestServer, credentials: &Credentials) -> Self {
        Self::begin(server, taking_commands(credentials.registration()), "GATEWAY_READY")
    }

    #[track_caller]
    fn begin(server: &TestServer, request: Value, answer: &str) -> Self {
        let mut client = server.shard();
        client.send(&request);
        let data = client.expect(answer)["data"].take();
        let shard = request["d"]["shard_in"].as_u64();
        let stats = stats(&data).iter().find(|stats| stats["shard_id"].as_u64() == shard).expect("it sees itself");
        let (session, hash) = (text(&data["session_id"]), hash_of(stats));
        // Whoever has just connected is given time to say what it takes, unless it has said so.
        eventually("it takes commands", || server.node().client_of(hash).is_some_and(|client| !client.is_settling));
        Self { client, session, hash }
    }

    /// The next message, which is a command with this key.
    #[track_caller]
    fn command(&mut self, key: &str) -> Value {
        let mut command = self.client.expect("GATEWAY_COMMAND");
        assert_eq!((&command["type"], &command["service"], command.get("s")), (&json!(9), &json!("gateway"), None));
        assert_eq!(command["data"]["key"], key, "{command}");
        command["data"].take()
    }

    #[track_caller]
    fn obey(&mut self, key: &str) {
        let command = self.command(key);
        self.reply(&command, &json!({"success": true}));
    }

    #[track_caller]
    fn reply(&mut self, command: &Value, reply: &Value) {
        self.client.send(&json!({"type": 9, "d": {"_id": command["_id"], "reply": reply}}));
    }
}

/// Sends a command to somebody who obeys it.
#[track_caller]
fn order(server: &TestServer, shard: &mut Obedient, target: Target, key: &str) {
    let pending: PendingClientCommand = server.ask_for(target, key, within_ms(60_000));
    shard.obey(key);
    server.outcome(pending, Outcome::Replied);
}

#[test]
fn commands_reach_a_shard_under_every_name_that_it_has() {
    let server = serving(&[]);
    let mut shard = Obedient::register(&server, &credentials());
    assert_eq!(about_room(&mut shard.client, json!({}), "join", "defaultRoom")["ok"], true);
    for target in [
        to_user(APP),
        Target::Connection(shard.hash),
        Target::Room("defaultRoom".to_owned()),
        Target::Tag("bots".to_owned()),
        Target::All,
    ] {
        order(&server, &mut shard, target, "getLogs");
    }
    // A command is no event: it has no number, and is not sent again.
    server.publish([1]);
    expect_events(&mut shard.client, 1, [1]);
    shard.client.expect_silence();
    for target in [to_user("900"), Target::Tag("others".to_owned())] {
        let pending = server.ask_for(target, "getLogs", fail_fast());
        server.outcome(pending, Outcome::NoRecipient);
    }
}

#[test]
fn whoever_has_not_asked_for_commands_is_sent_none_and_nobody_answers_for_others() {
    let server = serving(&["commands.ready_wait=0ms"]);
    let (mut silent, _) = server.registered();
    let pending = server.ask_for(to_user(APP), "getLogs", fail_fast());
    server.outcome(pending, Outcome::NoRecipient);
    silent.expect_silence();
    let mut shard = Obedient::register(&server, &credentials().of_shard(1));
    let mut stranger = Obedient::register(&server, &foreign());
    let pending = server.ask_for(to_user(APP), "getLogs", within_ms(60_000));
    let command = shard.command("getLogs");
    for reply in [json!({"success": true}), json!({"success": false})] {
        stranger.reply(&command, &reply);
    }
    // What has a wrong shape is told, what does not count is not.
    stranger.client.send(&json!({"type": 9, "d": {"_id": command["_id"]}}));
    assert_eq!(stranger.client.expect("GATEWAY_ERROR")["data"]["code"], 4002);
    stranger.client.expect_silence();
    silent.send(&json!({"type": 9, "d": {"_id": "nothing", "reply": {}}}));
    silent.expect_silence();
    shard.reply(&command, &json!({"success": true, "logs": ["a", 1.0]}));
    let sent = server.outcome(pending, Outcome::Replied);
    assert!(format!("{:?}", sent.report()).contains("logs"), "{:?}", sent.report());
}

#[test]
fn events_wait_while_a_shard_has_paused_itself_and_commands_and_pings_do_not() {
    let server = serving(&["servers.gateway.publish_wait=0ms"]);
    let mut shard = Obedient::register(&server, &credentials());
    server.publish([1]);
    expect_events(&mut shard.client, 1, [1]);
    let me = Target::Connection(shard.hash);
    order(&server, &mut shard, me.clone(), PAUSE);
    eventually("the pause is known", || server.node().client_of(shard.hash).is_some_and(|it| it.paused.is_some()));
    server.publish(2..=600);
    order(&server, &mut shard, me.clone(), "getLogs");
    shard.client.expect_silence();
    assert_eq!(about_room(&mut shard.client, json!({}), "join", "defaultRoom")["ok"], true);
    order(&server, &mut shard, me, RESUME);
    expect_events(&mut shard.client, 2, 2..=600);
    server.publish([601]);
    expect_events(&mut shard.client, 601, [601]);
    shard.client.expect_silence();
}

#[test]
fn a_pause_ends_with_its_connection_and_what_waited_is_replayed() {
    let server = serving(&[]);
    let mut shard = Obedient::register(&server, &credentials());
    let me = Target::Connection(shard.hash);
    order(&server, &mut shard, me, PAUSE);
    server.publish([1, 2]);
    shard.client.expect_silence();
    reset(shard.client);
    server.until_detached();
    let request = taking_commands(credentials().resumption(&shard.session, Some(0)));
    let mut again = Obedient::begin(&server, request, "GATEWAY_RESUMED");
    assert_eq!(again.hash, shard.hash);
    expect_events(&mut again.client, 1, [1, 2]);
    let me = Target::Connection(again.hash);
    order(&server, &mut again, me, "getLogs");
    // One that did not say so again takes none any more.
    again.client.hang_up();
    server.until_detached();
    let mut deaf = server.resumed(&again.session, 2);
    let pending = server.ask_for(to_user(APP), "getLogs", fail_fast());
    server.outcome(pending, Outcome::NoRecipient);
    deaf.expect_silence();
}

#[test]
fn a_shard_that_registers_again_while_it_is_paused_is_not_paused_for_ever() {
    let server = serving(&[]);
    let mut shard = Obedient::register(&server, &credentials());
    let me = Target::Connection(shard.hash);
    order(&server, &mut shard, me, PAUSE);
    server.publish([1]);
    shard.client.send(&taking_commands(credentials().registration()));
    let ready = shard.client.expect("GATEWAY_READY")["data"].take();
    let hash = hash_of(&stats(&ready)[0]);
    server.publish([2]);
    // Whether the pause stays is the connection's; whoever resumes hears everything.
    order(&server, &mut shard, Target::Connection(hash), RESUME);
    let heard = shard.client.hear();
    assert_eq!((&heard["s"], &heard["data"]["n"]), (&json!(1), &json!(2)));
}

#[test]
fn a_shard_may_answer_more_commands_and_acknowledge_more_events_than_its_rate_has_messages() {
    let server = serving(&["servers.gateway.rate_messages=3"]);
    let mut shard = Obedient::register(&server, &credentials());
    for at in 1..=10 {
        let me = Target::Connection(shard.hash);
        order(&server, &mut shard, me, "getLogs");
        server.publish([at]);
        expect_events(&mut shard.client, at, [at]);
        shard.client.send(&json!({"type": 3, "d": {"seq": at}}));
        shard.client.expect("GATEWAY_PING");
    }
    // Unasked messages count: two are left beside its registration.
    for at in [10, 10] {
        shard.client.send(&json!({"type": 3, "d": {"seq": at}}));
        shard.client.expect("GATEWAY_PING");
    }
    shard.client.send(&json!({"type": 9, "d": {"_id": "23456789ABCDEFGHJ", "reply": {}}}));
    assert_eq!(shard.client.expect("GATEWAY_ERROR")["data"]["code"], 4008);
    assert_eq!(shard.client.closed(), Some(4008));
}
