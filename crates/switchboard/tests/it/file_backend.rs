//! A server that keeps sessions in a file: its folder, and who may use it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::fs;
use std::net::TcpListener;

use switchboard::Server;
use switchboard::backend::file::OpenError;
use switchboard::config::{BackendKind, Config};
use switchboard::server::StartError;

use super::peer::{Folder, Running, config};

fn in_a_file(folder: &Folder) -> Config {
    let mut config = config();
    config.backend.kind = BackendKind::File;
    config.node.data_dir = folder.join("state/data");
    config
}

fn start_error(config: Config) -> StartError {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(Server::builder(config).start()).unwrap_err()
}

#[test]
fn a_folder_is_made_used_by_one_server_and_given_back_when_it_stops() {
    let folder = Folder::new();
    let mut running = Running::start(in_a_file(&folder));
    let error = start_error(in_a_file(&folder));
    assert!(matches!(error, StartError::Store(OpenError::InUse { .. })), "{error}");
    running.connect().ok("detailsView");
    let stopped = running.stop();
    running.block_on(stopped).unwrap();
    Running::start(in_a_file(&folder));
}

#[test]
fn a_server_that_does_not_start_gives_its_folder_back() {
    let (folder, taken) = (Folder::new(), TcpListener::bind("127.0.0.1:0").unwrap());
    let mut config = in_a_file(&folder);
    config.servers.socket.port = taken.local_addr().unwrap().port();
    let error = start_error(config);
    assert!(matches!(error, StartError::Bind { .. }), "{error}");
    Running::start(in_a_file(&folder));
}

#[test]
fn a_file_that_is_no_store_is_a_start_error_that_names_it() {
    let folder = Folder::new();
    let path = folder.write("state/data/switchboard.redb", "something else");
    let said = start_error(in_a_file(&folder)).to_string();
    assert!(said.contains("state/data/switchboard.redb") && said.contains("move it away"), "{said}");
    assert_eq!(fs::read(path).unwrap(), b"something else");
}

#[test]
fn in_memory_no_folder_is_made() {
    let folder = Folder::new();
    let mut config = in_a_file(&folder);
    config.backend.kind = BackendKind::Memory;
    let _running = Running::start(config);
    assert!(!folder.join("state").exists());
}
