//! Where a server listens: ports, families, Unix sockets, and what is told when that fails.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::net::{Ipv6Addr, TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use switchboard::Server;
use switchboard::action::{Action, ActionResult, ActionSpec, Reply, Request};
use switchboard::config::Config;
use switchboard::net::listen::ListenAddress;
use switchboard::server::StartError;
use tokio::sync::Notify;

use super::peer::{Folder, Peer, Running, config, eventually, within};

fn start_error(config: Config) -> StartError {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(Server::builder(config).start()).unwrap_err()
}

fn on_path(path: &Path) -> Config {
    let mut config = config();
    config.servers.socket.path = Some(path.to_owned());
    config
}

fn connect_unix(path: &Path) -> Peer<UnixStream> {
    let mut peer = Peer::over_unix(UnixStream::connect(path).unwrap());
    peer.welcome();
    peer
}

#[test]
fn port_0_is_a_free_port_that_the_ready_line_names() {
    let (one, two) = (Running::start(config()), Running::start(config()));
    assert!(one.address().port() != 0 && one.address() != two.address());
    let ready = one.server.as_ref().unwrap().ready_line();
    let (socket, web) = (one.address().port(), one.web().port());
    assert_eq!(ready, format!("switchboard ready socket=127.0.0.1:{socket} web=127.0.0.1:{web}"));
    let mut peer = one.connect();
    let details = peer.ok("detailsView");
    assert_eq!(details["remoteIP"], "127.0.0.1");
    assert_eq!(details["remotePort"], peer.wire.get_ref().local_addr().unwrap().port());
}

#[test]
fn both_families_are_served_and_a_mapped_address_is_shown_as_ipv4() {
    if TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_err() {
        // Machines without IPv6 have nothing to look at.
        return;
    }
    let mut six = config();
    six.servers.socket.bind = "::1".to_owned();
    let running = Running::start(six);
    assert!(running.server.as_ref().unwrap().ready_line().contains("socket=[::1]:"));
    assert_eq!(running.connect().ok("detailsView")["remoteIP"], "::1");

    let mut both = config();
    both.servers.socket.bind = "::".to_owned();
    let running = Running::start(both);
    let port = running.address().port();
    let ready = format!("switchboard ready socket=[::]:{port} web={}", running.web());
    assert_eq!(running.server.as_ref().unwrap().ready_line(), ready);
    for (host, shown) in [("127.0.0.1", "127.0.0.1"), ("::1", "::1")] {
        let mut peer = Peer::over(TcpStream::connect((host, port)).unwrap());
        peer.welcome();
        assert_eq!(peer.ok("detailsView")["remoteIP"], shown);
    }
}

#[test]
fn a_port_in_use_is_told_with_its_remedy_and_disturbs_nobody() {
    let running = Running::start(config());
    let mut taken = config();
    taken.servers.socket.port = running.address().port();
    let error = start_error(taken);
    assert!(matches!(&error, StartError::Bind { error, .. } if error.kind() == std::io::ErrorKind::AddrInUse));
    let text = error.to_string();
    let place = format!("servers.socket cannot listen on 127.0.0.1 port {}: ", running.address().port());
    assert!(text.starts_with(&place) && text.contains("stop it, or set servers.socket.port"), "{text}");
    running.connect().ok("paramsView");
}

#[test]
fn an_address_of_another_machine_is_told() {
    let mut foreign = config();
    foreign.servers.socket.bind = "192.0.2.1".to_owned();
    assert!(start_error(foreign).to_string().contains("servers.socket.bind is no address of this machine"));
}

#[test]
fn a_unix_socket_serves_the_same_conversation() {
    let folder = Folder::new();
    let path = folder.join("s.sock");
    let mut running = Running::start(on_path(&path));
    assert_eq!(running.server.as_ref().unwrap().addresses().socket, Some(ListenAddress::Unix(path.clone())));
    assert_eq!(
        running.server.as_ref().unwrap().ready_line(),
        format!("switchboard ready socket=unix:{} web={}", path.display(), running.web())
    );
    let mut one = connect_unix(&path);
    let mut two = connect_unix(&path);
    let details = one.ok("detailsView");
    assert_eq!((&details["remoteIP"], &details["remotePort"]), (&"unix".into(), &0.into()));
    one.ok("roomAdd defaultRoom");
    two.ok("roomAdd defaultRoom");
    one.ok("say defaultRoom hello");
    assert_eq!(two.json()["message"], "hello");
    // The end of a client that asked for something just before.
    two.send("paramsView\r\n");
    two.shutdown_write();
    assert_eq!(two.rest().len(), 1);
    let stopping = running.stop();
    one.goodbye();
    drop((one, two));
    running.block_on(stopping).unwrap();
    assert!(!path.exists(), "the file is removed at the stop");
}

#[test]
fn a_stale_socket_file_is_replaced_and_a_live_one_is_not() {
    let folder = Folder::new();
    let path = folder.join("s.sock");
    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists(), "left behind, as by a process that was killed");
    let running = Running::start(on_path(&path));
    connect_unix(&path).ok("paramsView");

    let error = start_error(on_path(&path)).to_string();
    assert!(error.contains(&path.display().to_string()) && error.contains("another process listens there"), "{error}");
    // The refusal has not taken the file away, nor the look at it a place.
    connect_unix(&path).ok("paramsView");
    eventually("nobody is left", || running.connections() == 0);
}

#[test]
fn a_file_that_is_no_socket_is_left_alone() {
    let folder = Folder::new();
    let path = folder.write("s.sock", "precious");
    start_error(on_path(&path));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
    let error = start_error(on_path(&folder.join("missing/s.sock"))).to_string();
    assert!(error.contains("the folder of servers.socket.path does not exist"), "{error}");
}

/// Ends when the test says so.
struct Wait(Arc<Notify>);

impl Action for Wait {
    fn spec(&self) -> ActionSpec {
        ActionSpec::new("wait")
    }

    async fn run(&self, _: &mut Request) -> ActionResult {
        self.0.notified().await;
        Ok(Reply::new())
    }
}

/// The old server still waits for its last client when the new one has long begun: at its end it must not take away a
/// file that is not its own any more.
#[test]
fn a_server_that_stops_leaves_the_socket_to_the_one_that_takes_over() {
    let folder = Folder::new();
    let path = folder.join("s.sock");
    let notify = Arc::new(Notify::new());
    let wait = Wait(Arc::clone(&notify));
    let mut old = Running::start_with(on_path(&path), |builder| builder.action(wait));
    let mut last = connect_unix(&path);
    last.say("wait");
    last.ok("paramsView");
    let stopping = old.stop();
    assert!(within(Duration::from_secs(3), || !path.exists()), "the file is given up first");
    let new = Running::start(on_path(&path));
    notify.notify_one();
    assert_eq!(last.json()["messageCount"], 1);
    last.goodbye();
    drop(last);
    old.block_on(stopping).unwrap();
    connect_unix(&path).ok("paramsView");
    drop(new);
    eventually("the new one removes its own", || !path.exists());
}
