//! What README.md shows is what the server says.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test fails by panicking")]

use switchboard::{Config, Server};

use dialogue::{Windows, blocks};

mod dialogue;

const README: &str = include_str!("../../../README.md");

/// The server that the page tells to start, but on a free port and for this machine only.
fn with_server(play: impl FnOnce(&mut Windows)) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut config = Config::default();
    config.servers.socket.bind = "127.0.0.1".to_owned();
    config.servers.socket.port = 0;
    let server = runtime.block_on(Server::builder(config).start()).unwrap();
    let address = server.addresses().socket.as_ref().and_then(|address| address.tcp()).unwrap();
    let mut windows = Windows::new(address);
    play(&mut windows);
    windows.quit();
    runtime.block_on(server.stop());
}

#[test]
fn the_dialogues_of_the_readme_are_true() {
    let blocks = blocks(README);
    assert_eq!(blocks.len(), 2, "a dialogue more or less: is this test still right?");
    with_server(|windows| blocks.iter().for_each(|block| windows.play(block)));
}

#[test]
#[should_panic(expected = "written: {\"status\":\"OK\"")]
fn a_dialogue_that_is_not_true_is_found_out() {
    with_server(|windows| {
        windows.play("$ telnet localhost 5000\n{\"welcome\":\"…\",\"context\":\"api\"}\n> roomAdd nowhere\n{\"status\":\"OK\"…}\n")
    });
}

#[test]
#[should_panic(expected = "Bye!")]
fn a_line_that_is_not_shown_is_found_out() {
    with_server(|windows| {
        windows.play("$ telnet localhost 5000\n{\"welcome\":\"…\",\"context\":\"api\"}\n> paramsView\n")
    });
}
