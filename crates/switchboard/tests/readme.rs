//! What README.md shows is what the server says, and what SECURITY.md says is tested is tested.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::path::Path;

use switchboard::config::Secret;
use switchboard::{Config, Server};

use dialogue::{Windows, all_blocks, blocks, is_of_shell};
use shell::Shell;

mod dialogue;
#[path = "dialogue/shell.rs"]
mod shell;

const README: &str = include_str!("../../../README.md");

/// The server that the page tells to start, but on a free port and for this machine only.
fn with_server(play: impl FnOnce(&mut Windows)) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut config = Config::default();
    config.servers.socket.bind = "127.0.0.1".to_owned();
    config.servers.socket.port = 0;
    config.servers.web.bind = "127.0.0.1".to_owned();
    config.servers.web.port = 0;
    config.admin.enabled = false;
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

const ADMIN_GUIDE: &str = include_str!("../../../docs/guide/admin.md");

/// Plays what a page shows of a shell and of telnet against a server with an admin API. `admin` is what the admin guide
/// defines.
fn play_with_admin(page: &str) {
    const TOKEN: &str = "correct-horse-battery-staple";
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut config = Config::default();
    config.servers.socket.bind = "127.0.0.1".to_owned();
    config.servers.socket.port = 0;
    config.servers.web.enabled = false;
    config.admin.port = 0;
    config.admin.token = Secret::new(TOKEN);
    let server = runtime.block_on(Server::builder(config).start()).unwrap();
    let admin = server.addresses().admin.unwrap().to_string();
    let mut windows = Windows::new(server.socket_addr().unwrap());
    let mut shell = Shell::new(&[("localhost:9090", &admin), ("$(cat admin.token)", TOKEN)]);
    let mut parts = ADMIN_GUIDE.split("```");
    let function = parts.find(|block| block.contains("admin() {")).and_then(|block| block.strip_prefix("sh\n"));
    shell.run(function.expect("the page defines it"));

    let blocks: Vec<String> = all_blocks(page).into_iter().filter(|block| !block.starts_with("WARN ")).collect();
    assert!(blocks.len() > 4, "the page has dialogues");
    for block in &blocks {
        if is_of_shell(block) {
            shell.play(block);
        } else {
            windows.play(block);
        }
    }
    windows.quit();
    runtime.block_on(server.stop());
}

#[test]
fn the_dialogues_of_the_admin_guide_are_true() {
    play_with_admin(ADMIN_GUIDE);
}

#[test]
fn the_dialogues_of_the_guide_to_commands_are_true() {
    play_with_admin(include_str!("../../../docs/guide/commands.md"));
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

/// Rows of SECURITY.md's table and rows that tests name.
#[test]
fn security_names_every_row_that_is_tested_and_no_other() {
    let numbers = |text: &str, before: &str| -> BTreeSet<u32> {
        text.split(before).skip(1).filter_map(|rest| rest.split('_').next()?.parse().ok()).collect()
    };
    let mut tested = BTreeSet::new();
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("..")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                tested.extend(numbers(&std::fs::read_to_string(path).unwrap(), "fn fault_row_"));
            }
        }
    }
    assert_eq!(numbers(include_str!("../../../SECURITY.md"), "| `fault_row_"), tested);
}
