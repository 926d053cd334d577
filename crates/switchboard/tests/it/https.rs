//! HTTP and WebSockets inside TLS, and certificates that change while everything goes on.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ClientConnection, StreamOwned, SupportedProtocolVersion};
use serde_json::json;
use switchboard::config::Config;
use switchboard_testkit::certs::{Authority, Identity, SERVER_NAME};
use switchboard_testkit::raw_http::RawHttp;

use super::http::{Socket, connect};
use super::peer::{DEADLINE, Folder, Peer, Running, config, eventually};
use super::program::Program;

type Stream = StreamOwned<ClientConnection, TcpStream>;
const BOTH: &[&SupportedProtocolVersion] = &[&TLS12, &TLS13];

/// An authority, a server's certificate from it on disk, and a configuration that uses that on both listeners.
pub(crate) struct Setting {
    authority: Authority,
    folder: Folder,
    pub(crate) config: Config,
}

impl Setting {
    pub(crate) fn new() -> Self {
        let authority = Authority::new("test authority").unwrap();
        let folder = Folder::new();
        let mut config = config();
        let (cert, key) = authority.issue_server().unwrap().write(folder.path()).unwrap();
        config.servers.web.secure = true;
        config.servers.web.tls.cert = Some(cert);
        config.servers.web.tls.key = Some(key);
        config.servers.socket.secure = true;
        config.servers.socket.tls = config.servers.web.tls.clone();
        config.servers.certificate_check = Duration::from_millis(20);
        Self { authority, folder, config }
    }

    pub(crate) fn start(&self) -> Running {
        Running::start(self.config.clone())
    }

    fn session(&self, config: Arc<ClientConfig>) -> ClientConnection {
        ClientConnection::new(config, ServerName::try_from(SERVER_NAME).unwrap()).unwrap()
    }

    fn tls(&self, address: std::net::SocketAddr) -> Stream {
        let socket = TcpStream::connect(address).unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        socket.set_write_timeout(Some(DEADLINE)).unwrap();
        StreamOwned::new(self.session(self.authority.client(None, BOTH).unwrap()), socket)
    }

    pub(crate) fn connect(&self, running: &Running) -> RawHttp<Stream> {
        RawHttp::over(self.tls(running.web()), "localhost")
    }

    /// The certificates that both listeners show.
    fn shown(&self, running: &Running) -> [Vec<u8>; 2] {
        let mut web = self.connect(running);
        assert_eq!(web.get("/api/status").status, 200);
        let mut line = Peer::stream(self.tls(running.address()));
        line.welcome();
        [&web.stream().conn, &line.wire.get_ref().conn].map(|session| session.peer_certificates().unwrap()[0].to_vec())
    }
}

fn der(identity: &Identity) -> Vec<u8> {
    CertificateDer::from_pem_slice(identity.certificate.as_bytes()).unwrap().to_vec()
}

#[test]
fn requests_and_websockets_go_through_tls() {
    let setting = Setting::new();
    let running = setting.start();
    for versions in [&[&TLS12][..], &[&TLS13]] {
        let mut offering = (*setting.authority.client(None, versions).unwrap()).clone();
        offering.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let socket = TcpStream::connect(running.web()).unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        let stream = StreamOwned::new(setting.session(Arc::new(offering)), socket);
        let mut client = RawHttp::over(stream, "localhost");
        let answer = client.get("/api/status");
        assert_eq!(answer.status, 200);
        assert!(answer.header("set-cookie").unwrap().ends_with("; SameSite=Lax; Secure"));
        assert_eq!(client.stream().conn.alpn_protocol(), Some(&b"http/1.1"[..]));
        let mut socket = Socket::open(client, &["Origin: https://localhost"]);
        assert_eq!(socket.ask(&json!({"event": "roomAdd", "room": "defaultRoom"}))["status"], "OK");
        let large = "x".repeat(60_000);
        for _ in 0..20 {
            let saying = running.node().broadcast(switchboard::Speaker::server(), "defaultRoom", large.as_str());
            running.block_on(saying).unwrap();
        }
        (0..20).for_each(|_| assert_eq!(socket.message()["message"], large));
    }
    // A page that came in the clear is not of this host.
    assert_eq!(setting.connect(&running).upgrade("/primus", &["Origin: http://localhost"]).status, 403);
}

#[test]
fn frames_behind_the_request_are_not_lost_inside_tls() {
    let setting = Setting::new();
    let running = setting.start();
    for _ in 0..20 {
        let mut client = setting.connect(&running);
        let head = "GET /primus HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
        let frame = super::http::masked(r#"{"event":"detailsView"}"#);
        // One record, and one that comes right behind it.
        client.send([head.as_bytes(), &frame, &frame[..3]].concat());
        client.send(&frame[3..]);
        assert_eq!(client.answer().status, 101);
        let mut socket = Socket::opened(client);
        assert_eq!(socket.message()["messageCount"], 1);
        assert_eq!(socket.message()["messageCount"], 2);
    }
    running.assert_empties();
}

#[test]
fn http_in_the_clear_gets_no_answer_from_a_listener_with_tls() {
    let setting = Setting::new();
    let running = setting.start();
    let mut client = connect(&running);
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let rest = client.rest().unwrap();
    assert!(rest.len() <= 7, "an alert at most: {}", rest.escape_ascii());
}

#[test]
fn fault_row_26_who_finds_no_room_is_told_inside_tls_too() {
    let mut setting = Setting::new();
    setting.config.limits.max_connections = 1;
    let running = setting.start();
    let mut inside = setting.connect(&running);
    assert_eq!(inside.get("/api/status").status, 200);
    let mut refused = setting.connect(&running);
    let answer = refused.get("/api/status");
    assert!(matches!((answer.status, answer.retry_seconds()), (503, Some(1..=9))));
    refused.end();
    let mut refused = Peer::stream(setting.tls(running.address()));
    assert_eq!(refused.json()["error"], "too many connections, try again later");
    refused.end();
    assert_eq!(inside.get("/api/status").status, 200);
}

/// Nobody tells the program; it looks by itself, and says what it thinks of each change once.
#[test]
fn fault_row_56_a_renewed_certificate_is_found_and_half_of_it_changes_nothing() {
    let setting = Setting::new();
    let tls = |listener: &str, name: &str| {
        format!("servers.{listener}.tls.{name}={}", setting.folder.join(&format!("{name}.pem")).display())
    };
    let program = Program::start(&[
        "--set",
        "servers.web.secure=true",
        "--set",
        &tls("web", "cert"),
        "--set",
        &tls("web", "key"),
        "--set",
        "servers.certificate_check=20ms",
    ]);
    let address = program.web().parse().unwrap();
    let connect = || RawHttp::over(setting.tls(address), "localhost");
    let shown = || {
        let mut client = connect();
        assert_eq!(client.get("/api/status").status, 200);
        client.stream().conn.peer_certificates().unwrap()[0].to_vec()
    };
    // As most programs put files in place: a whole one under the old name.
    let replace = |name: &str, content: &str| {
        let aside = setting.folder.write("aside.pem", content);
        std::fs::rename(aside, setting.folder.join(name)).unwrap();
    };
    let said = |words: &str| program.log().matches(words).count();
    let (refused, read) = ("certificates have changed and stay as they are", "certificates have changed and were read");

    let first = shown();
    let mut old = Socket::open(connect(), &[]);
    let renewed = setting.authority.issue_server().unwrap();
    let (begin, _) = renewed.certificate.split_at(renewed.certificate.len() / 2);
    // Half a certificate, none, and one without its key; then half a key.
    let bad = [("cert.pem", begin), ("cert.pem", ""), ("cert.pem", &renewed.certificate), ("key.pem", "half")];
    for (count, (file, content)) in bad.into_iter().enumerate() {
        replace(file, content);
        eventually("it says so", || said(refused) == count + 1);
        assert_eq!(shown(), first, "{file}");
    }
    replace("key.pem", &renewed.key);
    eventually("it says so", || said(read) == 1);
    assert_eq!(shown(), der(&renewed));
    std::fs::remove_file(setting.folder.join("key.pem")).unwrap();
    eventually("it says so", || said(refused) == bad.len() + 1);
    assert_eq!(shown(), der(&renewed));
    // Once each, and why.
    assert_eq!((said(refused), said(read)), (bad.len() + 1, 1), "{}", program.log());
    assert!(program.log().contains("servers.web.tls.cert and tls.key do not fit together"), "{}", program.log());
    assert_eq!(old.ask(&json!({"event": "detailsView"}))["messageCount"], 1);
}

#[test]
fn fault_row_56_certificates_change_under_load_and_nothing_is_dropped() {
    const STAYING: usize = 100;
    let setting = Setting::new();
    let running = setting.start();
    let mut staying: Vec<_> = (0..STAYING).map(|_| Socket::open(setting.connect(&running), &[])).collect();
    let done = AtomicBool::new(false);
    let handshakes = AtomicUsize::new(0);
    let last = std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    // Each must succeed, whatever the files look like at this moment.
                    assert_eq!(setting.connect(&running).get("/api/status").status, 200);
                    handshakes.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let mut last = None;
        for _ in 0..5 {
            let identity = setting.authority.issue_server().unwrap();
            identity.write(setting.folder.path()).unwrap();
            let expected = [der(&identity), der(&identity)];
            eventually("the new one is shown", || setting.shown(&running) == expected);
            last = Some(expected);
        }
        done.store(true, Ordering::Relaxed);
        last.unwrap()
    });
    assert!(handshakes.load(Ordering::Relaxed) > 5);
    assert_eq!(setting.shown(&running), last);
    for socket in &mut staying {
        assert_eq!(socket.ask(&json!({"event": "detailsView"}))["messageCount"], 1);
    }
}

#[test]
fn fault_row_56_asked_to_read_them_again_it_says_which_listener_stays_as_it_is() {
    let mut setting = Setting::new();
    setting.config.servers.certificate_check = Duration::ZERO;
    let other = Folder::new();
    let (cert, key) = setting.authority.issue_server().unwrap().write(other.path()).unwrap();
    setting.config.servers.web.tls.cert = Some(cert);
    setting.config.servers.web.tls.key = Some(key);
    let running = setting.start();
    let reload = || running.server.as_ref().unwrap().reload_certificates();
    let first = setting.shown(&running);
    let renewed = setting.authority.issue_server().unwrap();
    renewed.write(setting.folder.path()).unwrap();
    other.write("key.pem", "half");
    let error = reload().unwrap_err().to_string();
    assert!(error.starts_with("servers.web.tls.key"), "{error}");
    // The other listener is not held back by it.
    assert_eq!(setting.shown(&running), [first[0].clone(), der(&renewed)]);
    renewed.write(other.path()).unwrap();
    reload().unwrap();
    assert_eq!(setting.shown(&running), [der(&renewed), der(&renewed)]);
}

#[test]
fn fault_row_37_a_planned_stop_ends_websockets_and_requests_inside_tls() {
    let setting = Setting::new();
    let mut running = setting.start();
    let mut busy = setting.connect(&running);
    busy.send("GET /api/sleepTest?sleepDuration=300 HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let mut idle = setting.connect(&running);
    assert_eq!(idle.get("/api/status").status, 200);
    let silent = connect(&running);
    eventually("it runs", || running.connections() == 1);
    let stopping = running.stop();
    idle.end();
    assert_eq!(busy.answer().status, 200);
    busy.end();
    drop((busy, idle));
    running.block_on(stopping).unwrap();
    drop(silent);
}
