//! The line protocol inside TLS, certificates, and what a handshake may not do.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::ServerName;
use rustls::pki_types::pem::PemObject;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ClientConnection, HandshakeKind, StreamOwned, SupportedProtocolVersion};
use serde_json::json;
use switchboard::Server;
use switchboard::config::Config;
use switchboard::node::Speaker;
use switchboard::proto::close::CloseReason;
use switchboard_testkit::certs::{Authority, Identity, SERVER_NAME};

use super::peer::{DEADLINE, Folder, Peer, Running, config, eventually};

type Stream = StreamOwned<ClientConnection, TcpStream>;
const BOTH: &[&SupportedProtocolVersion] = &[&TLS12, &TLS13];

/// An authority, a server's certificate from it on disk, and a configuration that uses that.
struct Setting {
    authority: Authority,
    folder: Folder,
    config: Config,
}

impl Setting {
    fn new() -> Self {
        let authority = Authority::new("test authority").unwrap();
        let folder = Folder::new();
        let mut config = config();
        let (cert, key) = authority.issue_server().unwrap().write(folder.path()).unwrap();
        config.servers.socket.secure = true;
        config.servers.socket.tls.cert = Some(cert);
        config.servers.socket.tls.key = Some(key);
        Self { authority, folder, config }
    }

    fn start(&self) -> Running {
        Running::start(self.config.clone())
    }

    fn connect(&self, running: &Running) -> Peer<Stream> {
        let mut peer = secure(running, self.authority.client(None, BOTH).unwrap(), None);
        peer.welcome();
        peer
    }
}

/// A client that has not shaken hands yet.
fn secure(running: &Running, config: Arc<ClientConfig>, narrow: Option<TcpStream>) -> Peer<Stream> {
    let socket = narrow.unwrap_or_else(|| TcpStream::connect(running.address()).unwrap());
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    socket.set_write_timeout(Some(DEADLINE)).unwrap();
    socket.set_nodelay(true).unwrap();
    let session = ClientConnection::new(config, ServerName::try_from(SERVER_NAME).unwrap()).unwrap();
    Peer::stream(StreamOwned::new(session, socket))
}

/// A socket whose kernel takes very little that was not read.
fn narrow_socket(running: &Running) -> TcpStream {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    socket.connect(&running.address().into()).unwrap();
    socket.into()
}

#[test]
fn a_whole_conversation_goes_through_tls_of_both_versions() {
    let setting = Setting::new();
    let running = setting.start();
    for (offered, expected) in [
        (&[&TLS12][..], rustls::ProtocolVersion::TLSv1_2),
        (&[&TLS13], rustls::ProtocolVersion::TLSv1_3),
        (BOTH, rustls::ProtocolVersion::TLSv1_3),
    ] {
        let mut peer = secure(&running, setting.authority.client(None, offered).unwrap(), None);
        peer.welcome();
        assert_eq!(peer.wire.get_ref().conn.protocol_version(), Some(expected));
        let details = peer.ok("detailsView");
        assert_eq!((&details["remoteIP"], &details["rooms"]), (&json!("127.0.0.1"), &json!([])));
        peer.ok("roomAdd defaultRoom");
        assert_eq!(peer.ask("randomNumber")["messageCount"], 3);
        peer.say("quit");
        peer.goodbye();
    }
    running.assert_empties();
}

#[test]
fn the_server_says_where_its_stream_ends() {
    let setting = Setting::new();
    let running = setting.start();
    for _ in 0..50 {
        let mut peer = setting.connect(&running);
        peer.say("quit");
        peer.line();
        // Rustls tells an end without close_notify from one with it.
        assert_eq!(peer.wire.read(&mut [0]).unwrap(), 0);
    }
    // A client that says so, or only half of it, is closed too, and answered before.
    let mut peer = setting.connect(&running);
    peer.send("paramsView\r\n");
    peer.wire.get_mut().conn.send_close_notify();
    peer.wire.get_mut().flush().unwrap();
    assert_eq!(peer.rest().len(), 1);
    let peer = setting.connect(&running);
    drop(peer);
    running.assert_empties();
}

#[test]
fn answers_larger_than_any_buffer_arrive_whole_however_slowly_they_are_read() {
    let setting = Setting::new();
    let content: Vec<u8> = (0..6_000_000u32).map(|index| (index / 7) as u8).collect();
    setting.folder.write("public/large", &content);
    let mut config = setting.config.clone();
    config.files.root = Some(setting.folder.join("public"));
    let running = Running::start(config);
    for version in [&TLS12, &TLS13] {
        let client = setting.authority.client(None, &[version]).unwrap();
        let mut peer = secure(&running, client, Some(narrow_socket(&running)));
        peer.welcome();
        peer.send("file large\r\nparamsView\r\n");
        assert!(peer.raw(content.len()) == content);
        assert_eq!(peer.json()["messageCount"], 2);
        // Many answers instead of a large one, asked for in one go and read afterwards.
        let big = "b".repeat(8000);
        peer.ok(&format!("paramAdd big={big}"));
        peer.send("paramView big\r\n".repeat(400));
        for _ in 0..400 {
            assert_eq!(peer.json()["data"], big);
        }
    }
}

#[test]
fn records_cut_anywhere_and_lines_cut_anywhere_give_the_same_answers() {
    let setting = Setting::new();
    let running = setting.start();
    let mut peer = setting.connect(&running);
    let request = b"paramAdd k=\xc3\xa9\r\nparamView k\r\n";
    for step in [1, 2, 3, 7] {
        for part in request.chunks(step) {
            // A record each, and each record in two segments.
            peer.wire.get_mut().conn.writer().write_all(part).unwrap();
            let mut records = Vec::new();
            peer.wire.get_mut().conn.write_tls(&mut records).unwrap();
            for half in records.chunks(records.len() / 2 + 1) {
                peer.wire.get_mut().sock.write_all(half).unwrap();
            }
        }
        assert_eq!(peer.json()["status"], "OK");
        assert_eq!(peer.json()["data"], "é");
    }
    // And many records in one segment.
    let mut records = Vec::new();
    for _ in 0..200 {
        peer.wire.get_mut().conn.writer().write_all(b"paramView k\r\n").unwrap();
        peer.wire.get_mut().conn.write_tls(&mut records).unwrap();
    }
    peer.wire.get_mut().sock.write_all(&records).unwrap();
    (0..200).for_each(|_| assert_eq!(peer.json()["data"], "é"));
}

#[test]
fn a_request_sent_together_with_the_end_of_the_handshake_is_answered() {
    let setting = Setting::new();
    let running = setting.start();
    for _ in 0..50 {
        let mut peer = secure(&running, setting.authority.client(None, &[&TLS13]).unwrap(), None);
        // Rustls keeps it until the handshake is done and sends both in one go.
        peer.wire.get_mut().conn.writer().write_all(b"paramsView\r\n").unwrap();
        peer.welcome();
        assert_eq!(peer.json()["messageCount"], 1);
    }
}

#[test]
fn room_messages_reach_all_members_in_order() {
    const MESSAGES: u64 = 500;
    let setting = Setting::new();
    let running = setting.start();
    let mut members: Vec<_> = (0..10).map(|_| setting.connect(&running)).collect();
    for member in &mut members {
        member.ok("roomAdd defaultRoom");
    }
    for number in 0..MESSAGES {
        running.block_on(running.node().broadcast(Speaker::server(), "defaultRoom", json!({"n": number}))).unwrap();
    }
    for member in &mut members {
        (0..MESSAGES).for_each(|number| assert_eq!(member.json()["message"]["n"], number));
    }
    members[0].ok("say defaultRoom hello");
    members[1..].iter_mut().for_each(|member| assert_eq!(member.json()["message"], "hello"));
}

#[test]
fn fault_row_24_a_member_that_does_not_read_is_closed_under_tls_too() {
    let setting = Setting::new();
    let mut config = setting.config.clone();
    config.limits.max_outbox_bytes = 256 << 10;
    let running = Running::start(config);
    let client = setting.authority.client(None, BOTH).unwrap();
    let mut stuck = secure(&running, client, Some(narrow_socket(&running)));
    stuck.welcome();
    stuck.ok("roomAdd defaultRoom");
    let mut other = setting.connect(&running);
    other.ok("roomAdd defaultRoom");
    let padding = "x".repeat(16 << 10);
    let end = Instant::now() + DEADLINE;
    while running.closed(CloseReason::SlowConsumer) == 0 {
        assert!(Instant::now() < end);
        running.block_on(running.node().broadcast(Speaker::server(), "defaultRoom", padding.as_str())).unwrap();
        assert_eq!(other.json()["message"], padding);
    }
    assert_eq!(running.connections(), 1);
}

#[test]
fn fault_row_12_a_handshake_that_is_never_finished_is_cut_and_frees_its_place() {
    let setting = Setting::new();
    let mut config = setting.config.clone();
    config.limits.tls_handshake_timeout = Duration::from_millis(500);
    config.limits.tls_handshakes_max = 4;
    let running = Running::start(config);
    // The first part of a handshake, from a client that shall not go on.
    let mut hello = Vec::new();
    let mut session = ClientConnection::new(
        setting.authority.client(None, BOTH).unwrap(),
        ServerName::try_from(SERVER_NAME).unwrap(),
    )
    .unwrap();
    session.write_tls(&mut hello).unwrap();
    let begun = Instant::now();
    let mut silent: Vec<_> = (0..8).map(|_| running.connect_raw()).collect();
    silent[1].send(&hello);
    silent[2].send(&hello[..hello.len() / 2]);
    silent[5].send(&hello[..3]);
    // All places are taken; who waits for one waits in the kernel and is served after two rounds.
    let mut honest = setting.connect(&running);
    assert!(begun.elapsed() >= Duration::from_millis(900), "{:?}", begun.elapsed());
    honest.ok("paramsView");
    for peer in &mut silent {
        let mut rest = Vec::new();
        match peer.wire.read_to_end(&mut rest) {
            Ok(_) => {}
            Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
        }
    }
    assert!(begun.elapsed() < Duration::from_secs(5));
    // None of them was ever a connection.
    assert_eq!(running.node().figures().accepted, 1);
}

/// The beginnings of a handshake, cut where the server has to wait for more.
fn half_hello(setting: &Setting) -> Vec<u8> {
    let client = setting.authority.client(None, BOTH).unwrap();
    let mut session = ClientConnection::new(client, ServerName::try_from(SERVER_NAME).unwrap()).unwrap();
    let mut hello = Vec::new();
    session.write_tls(&mut hello).unwrap();
    hello.truncate(hello.len() / 2);
    hello
}

/// They were looked at when they began, when there was room for each of them.
#[test]
fn handshakes_that_end_together_do_not_exceed_the_limit_of_connections() {
    let setting = Setting::new();
    let mut config = setting.config.clone();
    config.limits.max_connections = 2;
    let running = Running::start(config);
    let client = setting.authority.client(None, BOTH).unwrap();
    let mut shaking: Vec<_> = (0..4).map(|_| secure(&running, Arc::clone(&client), None)).collect();
    let mut rest = Vec::new();
    for peer in &mut shaking {
        let mut hello = Vec::new();
        peer.wire.get_mut().conn.write_tls(&mut hello).unwrap();
        let (first, second) = hello.split_at(hello.len() / 2);
        peer.wire.get_mut().sock.write_all(first).unwrap();
        rest.push(second.to_vec());
    }
    // Accepted behind them, so they have all been looked at when it is served.
    let mut inside = setting.connect(&running);
    let mut welcomed = 0;
    for (peer, rest) in shaking.iter_mut().zip(rest) {
        peer.wire.get_mut().sock.write_all(&rest).unwrap();
        match peer.json() {
            line if line["welcome"].is_string() => welcomed += 1,
            line => {
                assert_eq!(line["error"], "too many connections, try again later");
                peer.end();
            }
        }
    }
    assert_eq!((welcomed, running.connections()), (1, 2));
    inside.ok("paramsView");
}

#[test]
fn handshakes_end_with_the_server() {
    let setting = Setting::new();
    let mut config = setting.config.clone();
    config.limits.tls_handshake_timeout = Duration::ZERO;
    for stop in [false, true] {
        let mut running = Running::start(config.clone());
        let mut silent = running.connect_raw();
        silent.send(half_hello(&setting));
        // Served behind it.
        drop(setting.connect(&running));
        if stop {
            let stopping = running.stop();
            running.block_on(stopping).unwrap();
        } else {
            drop(running.server.take());
        }
        let mut rest = Vec::new();
        match silent.wire.read_to_end(&mut rest) {
            Ok(_) => assert_eq!(rest, b""),
            Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
        }
    }
}

#[test]
fn what_is_not_tls_ends_and_the_listener_goes_on() {
    let setting = Setting::new();
    let running = setting.start();
    let garbage: Vec<u8> = (0..5000u32).map(|index| (index.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    // A record of a type, version and length that no handshake has; and a client of the plain protocol.
    for bytes in [
        &b"detailsView\r\nquit\r\n"[..],
        &garbage,
        b"\x16\x03\x01\xff\xff\x01",
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x80\x2e\x01\x00\x02",
    ] {
        let mut peer = running.connect_raw();
        peer.send(bytes);
        peer.shutdown_write();
        let mut answer = Vec::new();
        let _ = peer.wire.read_to_end(&mut answer);
        // An alert at most, never a line.
        assert!(answer.len() <= 7 && !answer.contains(&b'{'), "{answer:?}");
    }
    let peer = running.connect_raw();
    drop(peer);
    setting.connect(&running).ok("paramsView");
    eventually("nothing is left", || running.connections() == 0);
    assert_eq!(running.node().figures().accepted, 1);
}

#[test]
fn garbage_in_the_middle_of_a_session_ends_that_session_only() {
    let setting = Setting::new();
    let running = setting.start();
    let mut other = setting.connect(&running);
    for bytes in
        [&b"paramsView\r\n"[..], b"\x17\x03\x03\x00\x20aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", b"\x17\x03\x03\xff\xff"]
    {
        let mut peer = setting.connect(&running);
        peer.wire.get_mut().sock.write_all(bytes).unwrap();
        assert!(peer.wire.read(&mut [0]).is_err(), "an alert, not a close_notify");
    }
    eventually("they are gone", || running.connections() == 1);
    assert_eq!(running.closed(CloseReason::ConnectionLost), 3);
    other.ok("paramsView");
}

#[test]
fn fault_row_23_client_certificates_are_asked_for_and_checked() {
    let mut setting = Setting::new();
    let ca = setting.folder.write("ca.pem", setting.authority.certificate());
    setting.config.servers.socket.tls.client_ca = Some(ca);
    let running = setting.start();
    let stranger = Authority::new("test authority").unwrap().issue_client("stranger").unwrap();
    // A server's certificate from the right authority is no client's.
    let misused = setting.authority.issue_server().unwrap();
    let refused: [Option<&Identity>; 3] = [None, Some(&stranger), Some(&misused)];
    for versions in [&[&TLS12][..], &[&TLS13]] {
        for identity in refused {
            let mut peer = secure(&running, setting.authority.client(identity, versions).unwrap(), None);
            let result = peer.wire.read(&mut [0]);
            assert!(result.is_err(), "{identity:?} may not read {result:?}");
        }
        let known = setting.authority.issue_client("known").unwrap();
        let mut peer = secure(&running, setting.authority.client(Some(&known), versions).unwrap(), None);
        peer.welcome();
        peer.ok("paramsView");
    }
    assert_eq!(running.node().figures().accepted, 2);
}

#[test]
fn fault_row_23_old_versions_are_refused() {
    let setting = Setting::new();
    let running = setting.start();
    // SSL 3 to TLS 1.1, and 1.2 to see that nothing else is wrong with this hello: one good suite, no compression,
    // signatures by ECDSA, and the curve for them.
    const EXTENSIONS: [u8; 24] = [0, 22, 0, 13, 0, 4, 0, 2, 4, 3, 0, 10, 0, 4, 0, 2, 0, 23, 0, 11, 0, 2, 1, 0];
    for version in [0, 1, 2, 3] {
        let body = [&[3, version][..], &[7; 32], &[0, 0, 2, 0xc0, 0x2b, 1, 0], &EXTENSIONS].concat();
        let message = [&[1, 0, 0, body.len() as u8][..], &body].concat();
        let mut peer = running.connect_raw();
        peer.send([&[22, 3, 1, 0, message.len() as u8][..], &message].concat());
        let answer = peer.raw(7);
        let (kind, level, description) = (answer[0], answer[5], answer[6]);
        if version == 3 {
            assert_eq!((kind, level), (22, 2), "a hello of the server: {answer:?}");
        } else {
            assert_eq!((kind, level, description), (21, 2, 70), "fatal, protocol_version: {answer:?}");
            peer.end();
        }
    }
    setting.connect(&running).ok("paramsView");
}

#[test]
fn fault_row_64_a_browser_cannot_finish_its_handshake_with_the_line_protocol() {
    let setting = Setting::new();
    let running = setting.start();
    let plain = setting.authority.client(None, BOTH).unwrap();
    for (protocols, is_accepted) in [(vec!["h2", "http/1.1"], false), (vec!["actionhero"], true), (vec![], true)] {
        let mut config = (*plain).clone();
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        assert_eq!(handshake(&running, &Arc::new(config)).is_ok(), is_accepted, "{protocols:?}");
    }
}

/// Connects, reads the beginning of the welcome, and says how the handshake went.
fn handshake(running: &Running, config: &Arc<ClientConfig>) -> std::io::Result<HandshakeKind> {
    let socket = TcpStream::connect(running.address())?;
    socket.set_read_timeout(Some(DEADLINE))?;
    let name = ServerName::try_from(SERVER_NAME).unwrap();
    let mut stream = StreamOwned::new(ClientConnection::new(Arc::clone(config), name).unwrap(), socket);
    // Tickets come before it.
    stream.read_exact(&mut [0])?;
    Ok(stream.conn.handshake_kind().unwrap())
}

#[test]
fn fault_row_71_a_client_that_returns_needs_no_full_handshake_until_the_certificate_changes() {
    let mut setting = Setting::new();
    setting.config.servers.certificate_check = Duration::from_millis(10);
    let running = setting.start();
    for version in [&TLS12, &TLS13] {
        let config = setting.authority.client(None, &[version]).unwrap();
        assert_eq!(handshake(&running, &config).unwrap(), HandshakeKind::Full);
        assert_eq!(handshake(&running, &config).unwrap(), HandshakeKind::Resumed);
        setting.authority.issue_server().unwrap().write(setting.folder.path()).unwrap();
        eventually("old tickets are of no use", || handshake(&running, &config).unwrap() == HandshakeKind::Full);
    }
    // A client whose certificate is asked for shows it each time.
    let mut asking = Setting::new();
    let identity = asking.authority.issue_client("device").unwrap();
    let ca = asking.folder.write("ca.pem", asking.authority.certificate());
    asking.config.servers.socket.tls.client_ca = Some(ca);
    let asks = asking.start();
    let config = asking.authority.client(Some(&identity), BOTH).unwrap();
    assert_eq!([handshake(&asks, &config).unwrap(), handshake(&asks, &config).unwrap()], [HandshakeKind::Full; 2]);
    // Another listener with the same certificate has keys of its own.
    let config = setting.authority.client(None, &[&TLS13]).unwrap();
    let other = setting.start();
    assert_eq!(handshake(&running, &config).unwrap(), HandshakeKind::Full);
    assert_eq!(handshake(&other, &config).unwrap(), HandshakeKind::Full);
}

/// Why a server with this configuration does not start.
#[track_caller]
fn start_error(config: Config) -> String {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    match runtime.block_on(Server::builder(config).start()) {
        Ok(_) => panic!("it started"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn what_is_wrong_with_the_files_is_told_with_the_settings_name() {
    let setting = Setting::new();
    let other = Folder::new();
    let (_, other_key) = setting.authority.issue_server().unwrap().write(other.path()).unwrap();
    let check = |adjust: &dyn Fn(&mut switchboard::config::Tls), expected: &[&str]| {
        let mut config = setting.config.clone();
        adjust(&mut config.servers.socket.tls);
        let error = start_error(config);
        for expected in expected {
            assert!(error.contains(expected), "{expected:?} is missing in {error:?}");
        }
    };
    let missing = setting.folder.join("missing.pem");
    let text = setting.folder.write("text.pem", "no certificate");
    let empty = setting.folder.write("empty.pem", "");
    let cut = setting.folder.write("cut.pem", "-----BEGIN CERTIFICATE-----\nMIIB");
    check(&|tls| tls.key = Some(other_key.clone()), &["servers.socket.tls.cert and tls.key do not fit together"]);
    for (file, reason) in [(&missing, "No such file"), (&text, "holds no"), (&empty, "holds no"), (&cut, "")] {
        let path = file.display().to_string();
        check(&|tls| tls.cert = Some(file.clone()), &["servers.socket.tls.cert", &path, reason]);
        check(&|tls| tls.client_ca = Some(file.clone()), &["servers.socket.tls.client_ca", &path, reason]);
    }
    for (file, reason) in [(&missing, "No such file"), (&text, "holds nothing"), (&empty, "holds nothing")] {
        check(&|tls| tls.key = Some(file.clone()), &["servers.socket.tls.key", &file.display().to_string(), reason]);
    }
    check(&|tls| tls.cert = None, &["servers.socket.tls.cert"]);
    check(&|tls| tls.key = None, &["servers.socket.tls.key"]);
}

/// The certificate that a new connection is shown.
fn shown(setting: &Setting, running: &Running) -> Vec<u8> {
    let peer = setting.connect(running);
    peer.wire.get_ref().conn.peer_certificates().unwrap()[0].to_vec()
}

#[test]
fn fault_row_56_a_new_certificate_is_for_new_handshakes_and_a_bad_one_changes_nothing() {
    let setting = Setting::new();
    let running = setting.start();
    let reload = || running.server.as_ref().unwrap().reload_certificates();
    let mut old = setting.connect(&running);
    let first = shown(&setting, &running);

    let renewed = setting.authority.issue_server().unwrap();
    let der = |identity: &Identity| {
        rustls::pki_types::CertificateDer::from_pem_slice(identity.certificate.as_bytes()).unwrap().to_vec()
    };
    // Half of the exchange: the new certificate with the old key.
    setting.folder.write("cert.pem", &renewed.certificate);
    assert!(reload().unwrap_err().to_string().contains("do not fit together"));
    assert_eq!(shown(&setting, &running), first);
    setting.folder.write("key.pem", &renewed.key);
    reload().unwrap();
    assert_eq!(shown(&setting, &running), der(&renewed));
    assert_ne!(der(&renewed), first);
    old.ok("paramsView");

    for (file, content) in [("cert.pem", ""), ("key.pem", "half"), ("cert.pem", "-----BEGIN CERTIFICATE-----\nMII")] {
        let good = std::fs::read(setting.folder.join(file)).unwrap();
        setting.folder.write(file, content);
        assert!(reload().is_err(), "{file}");
        setting.folder.write(file, good);
    }
    std::fs::remove_file(setting.folder.join("key.pem")).unwrap();
    assert!(reload().is_err());
    assert_eq!(shown(&setting, &running), der(&renewed));
    old.ok("paramsView");
    assert_eq!(running.closed(CloseReason::Internal), 0);
}

#[test]
fn fault_row_37_a_planned_stop_says_goodbye_inside_tls() {
    let setting = Setting::new();
    let mut running = setting.start();
    let mut idle = setting.connect(&running);
    let mut busy = setting.connect(&running);
    busy.ok("paramAdd sleepDuration=300");
    busy.say("sleepTest");
    busy.ok("paramsView");
    let stopping = running.stop();
    idle.goodbye();
    assert_eq!(busy.json()["messageCount"], 2);
    busy.goodbye();
    drop((idle, busy));
    running.block_on(stopping).unwrap();
}
