//! Client commands in a cluster: whichever node a client is with, whichever node asks it, and what is lost with a node.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use switchboard::command::{
    CommandOptions, CommandRefusal, HEARTBEAT, Mode, Outcome, PAUSE, RESUME, Report, Status, Target,
};
use switchboard::node::Speaker;
use switchboard::proto::id::ConnId;
use switchboard::server::ServerBuilder;
use switchboard_testkit::cluster::RedisServer;
use switchboard_testkit::gateway::GatewayClient;

use crate::bots::{Bot, WIRES, Wire, fail_fast, to_user, within_ms};
use crate::ddp_support::{COMMANDS, date};
use crate::gateway_support::{APP, about_room, credentials, hash_of, stats};
use crate::peer::{Block, eventually};
use crate::support::TestServer;

/// A user whom every node knows: his role is a tag.
const USERS: &str = r#"users=[{ id = "b1", username = "bot", password = "secret", roles = ["bot"] }]"#;

const APPLICATIONS: &str =
    r#"gateway.applications=[{ id = "822", public_key = "3f0c", secret = "correct-horse", tags = ["bots"] }]"#;

/// Nodes of one cluster.
struct Nodes {
    redis: RedisServer,
    nodes: Vec<TestServer>,
}

impl Nodes {
    #[track_caller]
    fn start(count: usize, settings: &[&str]) -> Self {
        let redis = RedisServer::start();
        let nodes = (0..count).map(|index| node(&redis, &format!("n{}", index + 1), settings)).collect();
        let cluster = Self { redis, nodes };
        eventually("all nodes know each other", || cluster.nodes.iter().all(|node| node.node().nodes().len() == count));
        cluster
    }

    /// Waits until all nodes have the same idea of a connection that takes commands.
    #[track_caller]
    fn know(&self, connection: ConnId) {
        for node in &self.nodes {
            eventually("every node knows that it listens", || {
                node.node()
                    .client_of(connection)
                    .is_some_and(|client| client.takes_commands_since_unix_ms.is_some() && !client.is_settling)
            });
        }
    }

    /// A client of this node that takes commands, as all nodes know.
    #[track_caller]
    fn bot(&self, node: usize, wire: Wire, user: Option<&str>) -> Bot {
        let bot = Bot::connect(&self.nodes[node], wire, user);
        self.know(bot.id);
        bot
    }

    /// Waits until no node knows of a connection.
    #[track_caller]
    fn forget(&self, connection: ConnId) {
        for node in &self.nodes {
            eventually("every node knows that it left", || node.node().client_of(connection).is_none());
        }
    }
}

fn node(redis: &RedisServer, name: &str, settings: &[&str]) -> TestServer {
    node_with(redis, name, settings, |builder| builder)
}

fn node_with(
    redis: &RedisServer,
    name: &str,
    settings: &[&str],
    build: impl FnOnce(ServerBuilder) -> ServerBuilder,
) -> TestServer {
    let url = format!("backend.redis.url={}", redis.url());
    let name = format!("node.name={name}");
    let own = [&*url, &*name, "backend.kind=redis", "backend.redis.lease=1s", USERS, APPLICATIONS];
    TestServer::build(&[&own, settings].concat(), build)
}

fn replied() -> Value {
    json!({"success": true})
}

fn with(mode: Mode) -> CommandOptions {
    CommandOptions { mode: Some(mode), ..within_ms(20_000) }
}

/// Connections and outcomes of the rows, sorted.
fn rows(report: &Report) -> Vec<(ConnId, Outcome)> {
    let rows = report.rows.as_deref().expect("a collection has rows");
    let mut rows: Vec<_> = rows.iter().map(|row| (row.connection, row.outcome)).collect();
    rows.sort_unstable_by_key(|(connection, _)| *connection);
    rows
}

#[test]
fn a_user_is_asked_on_every_node_in_every_mode() {
    let cluster = Nodes::start(2, &[]);
    let [here, there] = [&cluster.nodes[0], &cluster.nodes[1]];
    let mut own = cluster.bot(0, Wire::Line, Some("u1"));
    let mut other = cluster.bot(1, Wire::Line, Some("u1"));
    for (index, asker) in [here, there].into_iter().enumerate() {
        let pending = asker.ask_for(to_user("u1"), "first", with(Mode::First));
        let command = own.command("first");
        assert_eq!(other.command("first")["_id"], command["_id"]);
        other.reply(&command, &json!({"success": true, "n": index}));
        own.reply_in_vain(&command, &replied());
        let sent = asker.outcome(pending, Outcome::Replied);
        assert_eq!(sent.reply().unwrap().to_value()["n"], index);
        assert_eq!(sent.report().counts.sessions, 2);
        assert_eq!(asker.node().client_command_figures().duplicate_replies, 1);

        let pending = asker.ask_for(to_user("u1"), "all", with(Mode::All));
        own.obey("all", &replied());
        other.obey("all", &replied());
        let sent = asker.outcome(pending, Outcome::Replied);
        let mut all = vec![(own.id, Outcome::Replied), (other.id, Outcome::Replied)];
        all.sort_unstable_by_key(|(connection, _)| *connection);
        assert_eq!(rows(sent.report()), all);
    }
    // Whoever answered last is the one.
    let pending = here.ask_for(to_user("u1"), "one", with(Mode::One));
    other.obey("one", &replied());
    here.outcome(pending, Outcome::Replied);
    own.expect_silence();
}

#[test]
fn connections_tags_and_everybody_are_meant_on_every_node() {
    let cluster = Nodes::start(2, &[]);
    let [here, there] = [&cluster.nodes[0], &cluster.nodes[1]];
    let mut guest = cluster.bot(1, Wire::Line, None);
    let mut own = cluster.bot(0, Wire::Line, None);
    let pending = here.ask_for(Target::Connection(guest.id), "k", with(Mode::First));
    assert_eq!(guest.command("k")["ttl_ms"].as_u64().map(|left_ms| left_ms <= 20_000), Some(true));
    assert!(here.node().cancel_client_command(pending.id()));
    here.outcome(pending, Outcome::Cancelled);

    there.node().set_connection_tags(guest.id, vec!["night".to_owned()]).unwrap();
    let night = || Target::Tag("night".to_owned());
    eventually("the tag is known", || {
        let pending = here.ask_for(night(), "tagged", CommandOptions { fail_fast: true, ..with(Mode::First) });
        if here.node().pending_client_commands(0, 10).is_empty() {
            return false;
        }
        guest.obey("tagged", &replied());
        here.outcome(pending, Outcome::Replied);
        true
    });
    // Nobody has it any more.
    there.node().set_connection_tags(guest.id, Vec::new()).unwrap();
    eventually("the tag is gone", || {
        let pending = here.ask_for(night(), "untagged", with(Mode::First));
        let is_gone = here.node().pending_client_commands(0, 10).is_empty();
        if is_gone {
            here.outcome(pending, Outcome::NoRecipient);
        } else {
            guest.obey("untagged", &replied());
            here.outcome(pending, Outcome::Replied);
        }
        is_gone
    });

    let pending = here.ask_for(Target::All, "all", with(Mode::All));
    guest.obey("all", &replied());
    own.obey("all", &replied());
    let sent = here.outcome(pending, Outcome::Replied);
    assert_eq!(rows(sent.report()).len(), 2);
}

#[test]
fn the_members_of_a_room_are_asked_on_every_node() {
    let cluster = Nodes::start(2, &[]);
    let [here, there] = [&cluster.nodes[0], &cluster.nodes[1]];
    let mut bots = [cluster.bot(0, Wire::Line, None), cluster.bot(1, Wire::Web, Some("u1"))];
    let mut outside = cluster.bot(1, Wire::Line, None);
    bots.iter_mut().for_each(|bot| bot.join("defaultRoom"));
    let (mut shard, session) = shard(there);
    cluster.know(session);
    assert_eq!(about_room(&mut shard, json!({}), "join", "defaultRoom")["ok"], true);
    let pending = here.ask_for(Target::Room("defaultRoom".to_owned()), "vote", with(Mode::All));
    bots.iter_mut().for_each(|bot| bot.obey("vote", &replied()));
    let command = shard.expect("GATEWAY_COMMAND")["data"].take();
    shard.send(&json!({"type": 9, "d": {"_id": command["_id"], "reply": replied()}}));
    let sent = here.outcome(pending, Outcome::Replied);
    let rows = rows(sent.report());
    assert!(rows.len() == 3 && rows.iter().all(|(_, outcome)| *outcome == Outcome::Replied), "{rows:?}");
    outside.expect_silence();
}

#[test]
fn who_is_known_nowhere_is_refused_and_who_only_listens_to_rooms_elsewhere_is_not() {
    let cluster = Nodes::start(2, &[]);
    let [here, there] = [&cluster.nodes[0], &cluster.nodes[1]];
    let deaf = Bot::connect_deaf(there, Wire::Line, Some("u7"));
    for target in [Target::Connection(deaf.id), to_user("u7")] {
        let pending = here.ask_for(target, "k", fail_fast());
        here.outcome(pending, Outcome::NoRecipient);
    }
    let nowhere = deaf.id.on_node(999);
    let refused = here.begin(Target::Connection(nowhere), "k", fail_fast());
    assert_eq!(refused.unwrap_err(), CommandRefusal::NoSuchConnection);
    let gone = ConnId::from_random(7).on_node(deaf.id.node());
    let refused = here.begin(Target::Connection(gone), "k", fail_fast());
    assert_eq!(refused.unwrap_err(), CommandRefusal::NoSuchConnection);
    assert_eq!(here.begin(to_user("u8"), "k", fail_fast()).unwrap_err(), CommandRefusal::NoSuchUser);
}

#[test]
fn what_a_client_announced_and_that_it_stopped_is_known_elsewhere() {
    let cluster = Nodes::start(2, &[]);
    let here = &cluster.nodes[0];
    let mut bot = cluster.bot(1, Wire::Web, Some("u1"));
    bot.say_about_itself(json!({"commands": ["known"]}));
    let announced = || here.node().client_of(bot.id).is_some_and(|client| client.capabilities.name("known"));
    eventually("what it can do is known", announced);
    let needs = || CommandOptions { require_capability: true, ..fail_fast() };
    let pending = here.ask_for(to_user("u1"), "unknown", needs());
    here.outcome(pending, Outcome::NoRecipient);
    let pending = here.ask_for(to_user("u1"), "known", needs());
    bot.obey("known", &replied());
    here.outcome(pending, Outcome::Replied);
    bot.say_about_itself(json!({"commands": false}));
    eventually("it takes none any more", || {
        here.node().client_of(bot.id).is_some_and(|client| client.takes_commands_since_unix_ms.is_none())
    });
    let pending = here.ask_for(to_user("u1"), "known", fail_fast());
    here.outcome(pending, Outcome::NoRecipient);
    let id = bot.id;
    drop(bot);
    cluster.forget(id);
}

#[test]
fn a_bot_that_comes_back_to_another_node_answers_what_it_was_sent_before() {
    let cluster = Nodes::start(3, &[]);
    let here = &cluster.nodes[0];
    for wire in WIRES {
        let mut bot = cluster.bot(1, wire, Some("u1"));
        let pending = here.ask_for(to_user("u1"), "move", with(Mode::First));
        let command = bot.command("move");
        let id = bot.id;
        drop(bot);
        cluster.forget(id);
        let mut bot = cluster.bot(2, wire, Some("u1"));
        bot.reply(&command, &json!({"success": true, "moved": true}));
        let sent = here.outcome(pending, Outcome::Replied);
        assert_eq!(sent.reply().unwrap().to_value()["moved"], true);
        assert_eq!(sent.report().counts.sessions, 1, "it is sent nothing twice");
        bot.reply_in_vain(&command, &replied());
        let id = bot.id;
        drop(bot);
        cluster.forget(id);
    }
    assert_eq!(here.node().client_command_figures().duplicate_replies, 2, "it is counted where it belongs");
}

#[test]
fn whoever_comes_to_another_node_within_the_limit_is_sent_what_waits() {
    let cluster = Nodes::start(2, &[]);
    let here = &cluster.nodes[0];
    let pending = here.ask_for(to_user("b1"), "wait", with(Mode::First));
    let mut bot = cluster.bot(1, Wire::Line, Some("b1"));
    bot.obey("wait", &replied());
    here.outcome(pending, Outcome::Replied);
}

#[test]
fn a_node_that_is_there_later_learns_who_is_there() {
    let mut cluster = Nodes::start(1, &[]);
    let mut bots: Vec<Bot> = (0..3).map(|_| cluster.bot(0, Wire::Line, None)).collect();
    cluster.nodes.push(node(&cluster.redis, "n2", &[]));
    bots.iter().for_each(|bot| cluster.know(bot.id));
    let pending = cluster.nodes[1].ask_for(Target::All, "all", with(Mode::All));
    bots.iter_mut().for_each(|bot| bot.obey("all", &replied()));
    let sent = cluster.nodes[1].outcome(pending, Outcome::Replied);
    assert_eq!(rows(sent.report()).len(), 3);
}

#[test]
fn fault_row_33_commands_for_clients_of_a_node_that_died_have_their_outcome() {
    let mut cluster = Nodes::start(2, &[]);
    let mut own = cluster.bot(0, Wire::Line, Some("u1"));
    let mut guest = cluster.bot(1, Wire::Line, None);
    let mut user = cluster.bot(1, Wire::Line, Some("u2"));
    let here = &cluster.nodes[0];
    let all = here.ask_for(Target::All, "all", with(Mode::All));
    let fast = here.ask_for(to_user("u2"), "fast", CommandOptions { fail_fast: true, ..with(Mode::First) });
    let moved = here.ask_for(to_user("u2"), "moved", with(Mode::First));
    own.obey("all", &replied());
    guest.command("all");
    let commands = ["all", "fast", "moved"].map(|key| user.command(key));
    let ids = [guest.id, user.id];
    // Without a word: its lease ends.
    drop(cluster.nodes.pop());
    ids.into_iter().for_each(|id| cluster.forget(id));
    let here = &cluster.nodes[0];
    here.outcome(fast, Outcome::Disconnected);
    // The user comes back to the node that is left, and answers what he was sent.
    let mut user = cluster.bot(0, Wire::Line, Some("u2"));
    user.reply(&commands[2], &replied());
    here.outcome(moved, Outcome::Replied);
    user.reply(&commands[0], &replied());
    let sent = here.outcome(all, Outcome::Replied);
    let mut expected = vec![(own.id, Outcome::Replied), (ids[0], Outcome::Disconnected), (ids[1], Outcome::Replied)];
    expected.sort_unstable_by_key(|(connection, _)| *connection);
    assert_eq!(rows(sent.report()), expected);
    user.expect_silence();
}

#[test]
fn a_client_is_paused_and_resumed_from_another_node() {
    let cluster = Nodes::start(2, &[]);
    let [here, there] = [&cluster.nodes[0], &cluster.nodes[1]];
    let mut bot = cluster.bot(1, Wire::Line, Some("u1"));
    let mut speaker = there.connect();
    bot.join("defaultRoom");
    assert_eq!(speaker.ask("roomAdd defaultRoom")["status"], "OK");
    let order = |bot: &mut Bot, key: &str| {
        let options = CommandOptions { sender: Some("ann".to_owned()), ..with(Mode::First) };
        let pending = here.ask_for(to_user("u1"), key, options);
        bot.obey(key, &replied());
        here.outcome(pending, Outcome::Replied);
    };
    let id = bot.id;
    order(&mut bot, PAUSE);
    let paused = there.node().client_of(id).unwrap().paused.expect("its own node knows as soon as it is answered");
    assert_eq!(paused.by.as_deref(), Some("ann"));
    let status = |node: &TestServer| node.node().client_of(id).map(|client| client.status);
    eventually("the other node knows", || status(here) == Some(Status::Busy));
    assert_eq!(speaker.ask("say defaultRoom withheld")["status"], "OK");
    order(&mut bot, RESUME);
    assert_eq!(status(there), Some(Status::Online));
    assert_eq!(speaker.ask("say defaultRoom heard")["status"], "OK");
    assert_eq!(bot.client.read_json()["message"], "heard");
    eventually("the other node knows", || status(here) == Some(Status::Online));
}

#[test]
fn heartbeats_are_sent_by_the_node_of_a_client_alone() {
    let cluster = Nodes::start(2, &["commands.heartbeat_interval=1s"]);
    let mut bot = Bot::connect(&cluster.nodes[1], Wire::Line, Some("u1"));
    bot.say_about_itself(json!({"commands": [HEARTBEAT]}));
    bot.obey(HEARTBEAT, &replied());
    eventually("its ping is known everywhere", || {
        cluster.nodes.iter().all(|node| node.node().client_of(bot.id).is_some_and(|client| client.ping_ms.is_some()))
    });
    assert!(cluster.nodes[0].node().client_command_history(0, 10).is_empty());
}

#[test]
fn fault_row_16_guesses_of_command_ids_cost_the_other_nodes_little_and_tell_nothing() {
    let cluster = Nodes::start(2, &["commands.lookup_rate=1", "commands.lookup_burst=3"]);
    let [here, there] = [&cluster.nodes[0], &cluster.nodes[1]];
    let mut bot = cluster.bot(1, Wire::Line, Some("u1"));
    let mut thief = cluster.bot(1, Wire::Line, Some("u2"));
    let pending = here.ask_for(to_user("u1"), "k", with(Mode::First));
    let command = bot.command("k");
    // What is not an id of any command costs nothing, and neither does what this node handed over.
    for _ in 0..10 {
        assert_eq!(thief.reply_to_id("nonsense", &replied())["data"], false);
        thief.reply_in_vain(&command, &replied());
    }
    let unknown = |number: u32| format!("bycAiK7YabTfCGq{number}Q");
    let answers: Vec<Value> = (2..9).map(|number| thief.reply_to_id(&unknown(number), &replied())).collect();
    let refused = answers.iter().filter(|answer| answer["status"] != "OK").count();
    assert!((3..=4).contains(&refused), "{answers:?}");
    assert!(answers.iter().filter(|answer| answer["status"] == "OK").all(|answer| answer["data"] == false));
    assert_eq!(here.node().client_command_figures().foreign_replies, 10);
    // Others are not held up.
    bot.reply(&command, &replied());
    here.outcome(pending, Outcome::Replied);
    assert!(there.node().client_command_figures().unknown_replies >= 13);
}

#[test]
fn times_rise_for_a_bot_whichever_node_asks_it() {
    let cluster = Nodes::start(3, &[]);
    let mut bot = cluster.nodes[1].ddp_as("bot");
    cluster.nodes[1].take_commands(&mut bot);
    let id = cluster.nodes[1].id_of_ddp(&mut bot);
    cluster.know(id);
    let mut latest = 0;
    for round in 0..30 {
        let options = CommandOptions { fail_fast: true, ..with(Mode::First) };
        let pending = cluster.nodes.iter().map(|node| node.ask_for(to_user("bot"), "k", options.clone()));
        let pending: Vec<_> = pending.collect();
        for _ in 0..pending.len() {
            let document = bot.heard(COMMANDS)[0].take();
            assert!(date(&document) > latest, "round {round}: {} after {latest}", date(&document));
            latest = date(&document);
            assert_eq!(bot.call("replyClientCommand", json!([document["_id"], replied()])), Ok(json!(true)));
        }
        for (node, pending) in cluster.nodes.iter().zip(pending) {
            node.outcome(pending, Outcome::Replied);
        }
    }
}

/// A shard that takes commands.
#[track_caller]
fn shard(server: &TestServer) -> (GatewayClient, ConnId) {
    let mut request = credentials().registration();
    request["d"]["client"] = json!({"commands": true, "canPauseResumeMsgStream": true});
    let mut client = server.shard();
    client.send(&request);
    let data = client.expect("GATEWAY_READY")["data"].take();
    let hash = hash_of(&stats(&data)[0]);
    (client, hash)
}

#[test]
fn shards_take_commands_of_other_nodes_under_every_name() {
    let cluster = Nodes::start(2, &[]);
    let here = &cluster.nodes[0];
    let (mut client, hash) = shard(&cluster.nodes[1]);
    cluster.know(hash);
    let tag = Target::Tag("bots".to_owned());
    for target in [to_user(APP), Target::Connection(hash), tag, Target::All] {
        let pending = here.ask_for(target, "getLogs", with(Mode::First));
        let command = client.expect("GATEWAY_COMMAND")["data"].take();
        client.send(&json!({"type": 9, "d": {"_id": command["_id"], "reply": replied()}}));
        here.outcome(pending, Outcome::Replied);
    }
}

#[test]
fn nodes_that_lose_each_other_for_a_while_know_the_same_again() {
    let mut cluster = Nodes::start(2, &[]);
    let stays = cluster.bot(1, Wire::Line, Some("u1"));
    let leaves = cluster.bot(1, Wire::Line, Some("u1"));
    let leaves_id = leaves.id;
    cluster.redis.kill();
    // Told to nobody.
    leaves.leave(&cluster.nodes[1]);
    cluster.redis.restart(switchboard_testkit::cluster::Data::Kept);
    cluster.forget(leaves_id);
    drop(stays);
    let mut comes = Bot::connect(&cluster.nodes[1], Wire::Line, Some("u3"));
    cluster.know(comes.id);
    let pending = cluster.nodes[0].ask_for(to_user("u3"), "k", with(Mode::First));
    comes.obey("k", &replied());
    cluster.nodes[0].outcome(pending, Outcome::Replied);
}

#[test]
fn a_command_to_a_guest_of_any_node_ends_when_his_connection_does() {
    let cluster = Nodes::start(2, &[]);
    for node in 0..2 {
        for mode in [Mode::First, Mode::One, Mode::All] {
            let mut bot = cluster.bot(node, Wire::Line, None);
            let options = CommandOptions { mode: Some(mode), ..within_ms(300_000) };
            let pending = cluster.nodes[0].ask_for(Target::Connection(bot.id), "k", options);
            bot.command("k");
            bot.leave(&cluster.nodes[node]);
            let sent = cluster.nodes[0].wait(pending);
            // A collection is a result, however few answered.
            assert_eq!(sent.report().outcome, Outcome::Disconnected, "{mode:?} {:?}", sent.report());
        }
    }
}

#[test]
fn a_stuck_worker_delays_neither_other_rooms_nor_commands_for_other_connections() {
    let rooms = r#"rooms.starting=[{ name = "stuck" }, { name = "free" }]"#;
    // The lease and the beacon must not depend on how busy the machine is.
    let patient = [
        "backend.redis.lease=30s",
        "backend.redis.timeout=10s",
        "backend.redis.beacon_timeout=60s",
        "backend.redis.inbox_bytes=64MiB",
    ];
    let common = [&[rooms][..], &patient].concat();
    let redis = RedisServer::start();
    let here = node(&redis, "n1", &common);
    let (gate, is_blocked) = (Arc::new(Mutex::new(())), Arc::new(AtomicBool::new(false)));
    let held = gate.lock().unwrap();
    let block = Block(Arc::clone(&gate), Arc::clone(&is_blocked));
    let narrow = [&common[..], &["limits.inbox_bytes=1MiB", "limits.max_outbox_bytes=64MiB"]].concat();
    let there = node_with(&redis, "n2", &narrow, |builder| builder.action(block));
    let cluster = Nodes { redis, nodes: vec![here, there] };
    eventually("the nodes know each other", || cluster.nodes.iter().all(|node| node.node().nodes().len() == 2));
    let [here, there] = [&cluster.nodes[0], &cluster.nodes[1]];
    // More than a worker keeps while the other one has none.
    let mut others: Vec<Bot> = (0..12).map(|_| cluster.bot(1, Wire::Line, None)).collect();
    let mut stuck = others.swap_remove(0);
    stuck.join("stuck");
    stuck.client.send("block");
    eventually("the worker is stuck", || is_blocked.load(Ordering::Relaxed));
    let mut asked = tokio::task::JoinSet::new();
    let free = there.wait(async {
        for (index, other) in others.iter().enumerate() {
            let (node, id) = (there.node().clone(), other.id);
            asked.spawn(async move { node.connection(id).await.map(|_| index) });
        }
        asked.join_next().await.unwrap().unwrap().unwrap()
    });
    drop(asked);
    let mut free = others.swap_remove(free);
    free.join("free");

    let told = |number: u32| format!("{number} {}", "x".repeat(60_000));
    for number in 0..40 {
        here.wait(here.node().broadcast(Speaker::server(), "stuck", told(number).as_str())).unwrap();
    }
    let waiting = here.ask_for(Target::Connection(stuck.id), "waits", within_ms(120_000));
    let pending = here.ask_for(Target::Connection(free.id), "passes", within_ms(120_000));
    free.obey("passes", &replied());
    here.outcome(pending, Outcome::Replied);
    here.wait(here.node().broadcast(Speaker::server(), "free", "others go on")).unwrap();
    assert_eq!(free.client.read_json()["message"], "others go on");

    drop(held);
    let (mut next, mut command) = (0, None);
    while next < 40 || command.is_none() {
        let read = stuck.client.read_json();
        if read["context"] == "command" {
            command = Some(read);
        } else if read["context"] == "user" {
            assert_eq!(read["message"], told(next).as_str(), "in order, none missing");
            next += 1;
        }
    }
    stuck.reply(&command.expect("it was read"), &replied());
    here.outcome(waiting, Outcome::Replied);
}
