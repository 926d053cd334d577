//! The examples do what the text at their head says.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::SocketAddr;

use switchboard::config::RedisServers;
use switchboard::{Config, Server};
use switchboard_testkit::client::LineClient;
use switchboard_testkit::cluster::RedisServer;

use dialogue::{Windows, blocks, is_as_written};

mod dialogue;
mod hook_example;

#[allow(dead_code, reason = "the test starts what `main` would")]
#[path = "../examples/bot_commands.rs"]
mod bot_commands;
#[allow(dead_code, reason = "the test starts what `main` would")]
#[path = "../examples/chat_rules.rs"]
mod chat_rules;
#[allow(dead_code, reason = "the test starts what `main` would")]
#[path = "../examples/custom_action.rs"]
mod custom_action;
#[allow(dead_code, reason = "the test starts what `main` would")]
#[path = "../examples/embed.rs"]
mod embed;
#[allow(dead_code, reason = "the test starts what `main` would")]
#[path = "../examples/two_nodes.rs"]
mod two_nodes;

fn config() -> Config {
    let mut config = Config::default();
    config.servers.socket.bind = "127.0.0.1".to_owned();
    config.servers.socket.port = 0;
    config.servers.web.bind = "127.0.0.1".to_owned();
    config.servers.web.port = 0;
    config.admin.enabled = false;
    config
}

fn address(server: &Server) -> SocketAddr {
    server.addresses().socket.as_ref().and_then(|address| address.tcp()).unwrap()
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Runtime::new().unwrap()
}

#[test]
fn two_nodes_have_one_room_and_each_moves_connections_of_the_other() {
    let redis = RedisServer::start();
    let runtime = runtime();
    let start = |name: &str| {
        let servers = RedisServers::parse(&redis.url()).unwrap();
        runtime.block_on(two_nodes::start(two_nodes::config(name, 0, servers))).unwrap()
    };
    let (a, b) = (start("a"), start("b"));
    let [mut one, mut other] = [&a, &b].map(|server| {
        let mut client = LineClient::tcp(address(server)).unwrap();
        client.read_json();
        assert_eq!(client.ask("roomAdd lobby")["status"], "OK");
        client
    });
    assert_eq!(other.ask("say lobby good evening")["status"], "OK");
    assert_eq!(one.read_json()["message"], "good evening");
    for client in [&mut one, &mut other] {
        assert_eq!(client.ask("roomView lobby")["data"]["membersCount"], 2);
    }
    assert_eq!(runtime.block_on(two_nodes::move_all(a.node(), b.node())).unwrap(), 1);
    assert_eq!(other.ask("roomView balcony")["data"]["membersCount"], 1);
    runtime.block_on(async { tokio::join!(a.stop(), b.stop()) });
}

#[test]
fn embed_greets_announces_and_stops() {
    let runtime = runtime();
    let server = runtime.block_on(embed::start(config())).unwrap();
    let mut windows = Windows::new(address(&server));
    let [joined, announced, stopped] = blocks(&head(include_str!("../examples/embed.rs"))).try_into().unwrap();
    windows.play(&joined);
    runtime.block_on(embed::announce(server.node(), "dinner is ready")).unwrap();
    windows.play(&announced);
    // Meanwhile, because the server gives its clients a moment to close their side too.
    let stopping = runtime.spawn(server.stop());
    windows.play(&stopped);
    windows.quit();
    runtime.block_on(stopping).unwrap();
}

#[test]
fn bot_commands_asks_a_bot_and_says_what_became_of_it() {
    let runtime = runtime();
    let server = runtime.block_on(bot_commands::start(config())).unwrap();
    let mut windows = Windows::new(address(&server));
    let [signed_in, paused, printed, silent, missed, heard, told] =
        blocks(&head(include_str!("../examples/bot_commands.rs"))).try_into().unwrap();
    windows.play(&signed_in);
    for (key, in_window, shown) in [("pauseMessageStream", paused, printed), ("getLogs", silent, missed)] {
        let node = server.node().clone();
        let asking = runtime.spawn(async move { bot_commands::ask(&node, key).await.unwrap() });
        windows.play(&in_window);
        let said = runtime.block_on(asking).unwrap();
        assert!(is_as_written(&said, shown.trim_end()), "written: {shown}said:    {said}");
    }
    let (tell, replies) = std::sync::mpsc::sync_channel(1);
    let listening = bot_commands::listen(server.node(), "resumeMessageStream", move |reply| tell.send(reply).unwrap());
    runtime.block_on(listening).unwrap();
    windows.play(&heard);
    assert_eq!(replies.recv().unwrap(), told.trim_end());
    windows.quit();
    runtime.block_on(server.stop());
}

#[test]
fn custom_action_checks_inputs_and_who_is_logged_in() {
    let runtime = runtime();
    let server = runtime.block_on(custom_action::start(config())).unwrap();
    play_all(&server, include_str!("../examples/custom_action.rs"));
    runtime.block_on(server.stop());
}

#[test]
fn chat_rules_let_in_announce_and_refuse() {
    let runtime = runtime();
    let server = runtime.block_on(chat_rules::start(config())).unwrap();
    play_all(&server, include_str!("../examples/chat_rules.rs"));
    runtime.block_on(server.stop());
}

#[track_caller]
fn play_all(server: &Server, source: &str) {
    let mut windows = Windows::new(address(server));
    let blocks = blocks(&head(source));
    assert!(blocks.len() > 1, "the page has dialogues");
    blocks.iter().for_each(|block| windows.play(block));
    windows.quit();
}

/// The text of a source file's `//!` comment.
fn head(source: &str) -> String {
    let head = source.lines().map_while(|line| line.strip_prefix("//!"));
    head.map(|line| format!("{}\n", line.strip_prefix(' ').unwrap_or(line))).collect()
}
