//! Backends that are slow, broken, hostile or gone, and what the hooks that ask them do then.

use std::io::Read;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use switchboard::webhook::{Hook, HookFigures};
use switchboard_testkit::certs::Authority;
use switchboard_testkit::client::{LineClient, PATIENCE};

use crate::http_backend::{Backend, Reaction, SECRET, yes};
use crate::peer::{Folder, eventually};
use crate::support::TestServer;

/// A server with these settings, and a secret.
fn start(settings: &[&str]) -> TestServer {
    let secret = format!("hooks.secret={SECRET}");
    let settings: Vec<&str> = [secret.as_str()].into_iter().chain(settings.iter().copied()).collect();
    TestServer::with(&settings)
}

fn say_hook(backend: &Backend) -> String {
    backend.setting("hooks.say")
}

/// What the answer to saying something says.
#[track_caller]
fn say(client: &mut LineClient) -> Value {
    client.ask("say defaultRoom hello")["status"].take()
}

#[track_caller]
fn member(server: &TestServer) -> LineClient {
    server.connect_into(1, &["defaultRoom"]).remove(0)
}

fn figures(server: &TestServer) -> HookFigures {
    server.node().hook_figures(Hook::Say)
}

/// A backend that reacts like this is no yes and no no: the policy decides, and soon.
#[track_caller]
fn check_failure(settings: &[&str], url: &str) {
    check_policies(settings, url, [("refuse", "unavailable"), ("allow", "OK")]);
}

#[track_caller]
fn check_policies(settings: &[&str], url: &str, policies: [(&str, &str); 2]) {
    for (policy, told) in policies {
        let (url, policy) = (format!("hooks.say.url={url}"), format!("hooks.say.on_failure={policy}"));
        let settings: Vec<&str> = [url.as_str(), policy.as_str()].into_iter().chain(settings.iter().copied()).collect();
        let server = start(&settings);
        let mut client = member(&server);
        let begun = Instant::now();
        assert_eq!(say(&mut client), told, "{settings:?}");
        assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
        assert_eq!(figures(&server), HookFigures { failed: 1, ..HookFigures::default() });
    }
}

#[track_caller]
fn check_reaction(settings: &[&str], react: impl Fn() -> Reaction + Send + Sync + 'static) {
    let backend = Backend::start(move |_| react());
    check_failure(settings, &backend.url("say"));
}

/// A backend that answers like this decides nothing, perhaps because of what it was asked: the message is refused under
/// each policy, and the next one is asked about, however often that happens.
#[track_caller]
fn check_refusal(settings: &[&str], react: impl Fn() -> Reaction + Send + Sync + 'static) {
    let backend = Backend::start(move |_| react());
    check_policies(settings, &backend.url("say"), [("refuse", "unavailable"), ("allow", "unavailable")]);
    let server = start(&[&[&*say_hook(&backend), "hooks.breaker_failures=1"], settings].concat());
    let mut client = member(&server);
    for _ in 0..3 {
        assert_eq!(say(&mut client), "unavailable");
    }
    assert_eq!(figures(&server), HookFigures { failed: 3, ..HookFigures::default() });
}

/// An answer of these bytes.
fn raw(text: impl AsRef<[u8]>) -> Reaction {
    Reaction::Raw(text.as_ref().to_vec())
}

#[test]
fn fault_row_22_a_backend_that_is_not_there_fails() {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", socket.local_addr().unwrap());
    // Whoever listened has gone.
    drop(socket);
    check_failure(&[], &url);
    check_failure(&[], "http://name.invalid/");
}

#[test]
fn fault_row_22_a_redirect_is_not_followed() {
    let elsewhere = Backend::start(|_| yes());
    for status in [301, 302, 303, 307, 308] {
        let location = elsewhere.url("say");
        check_reaction(&[], move || {
            raw(format!("HTTP/1.1 {status} Found\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n"))
        });
    }
    assert_eq!(elsewhere.others(), 0);
}

#[test]
fn fault_row_22_a_backend_that_takes_the_request_and_is_silent_is_given_up() {
    // The kernel takes connections and bytes; nobody ever answers.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    check_failure(&["hooks.timeout=100ms"], &format!("http://{}/", silent.local_addr().unwrap()));
}

#[test]
fn fault_row_22_an_answer_that_drips_is_given_up() {
    let drip = |head: &'static str| {
        move || Reaction::Repeat {
            head: head.as_bytes().to_vec(),
            piece: b"x".to_vec(),
            pause: Duration::from_millis(10),
        }
    };
    check_reaction(&["hooks.timeout=300ms"], drip("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"));
    check_reaction(&["hooks.timeout=300ms"], drip("HTTP/1.1 200 OK\r\nX-Header: "));
    check_reaction(&["hooks.timeout=300ms"], drip("H"));
}

#[test]
fn fault_row_22_what_is_given_up_is_closed() {
    let drip = || Reaction::Repeat {
        head: b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n".to_vec(),
        piece: b"x".to_vec(),
        pause: Duration::from_millis(10),
    };
    for react in [drip, || Reaction::Silence] {
        let backend = Backend::start(move |_| react());
        let server = start(&[&say_hook(&backend), "hooks.timeout=100ms", "hooks.breaker_failures=0"]);
        let mut client = member(&server);
        for _ in 0..3 {
            assert_eq!(say(&mut client), "unavailable");
        }
        eventually("its connections are closed", || backend.connections() == 0);
    }
}

#[test]
fn fault_row_22_a_handshake_without_end_is_given_up_and_closed() {
    let folder = Folder::new();
    let ca = folder.join("ca.pem");
    std::fs::write(&ca, Authority::new("an authority").unwrap().certificate()).unwrap();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://localhost:{}/", silent.local_addr().unwrap().port());
    check_failure(&["hooks.timeout=100ms", &format!("hooks.ca={}", ca.display())], &url);
    let (mut socket, _) = silent.accept().unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut hello = Vec::new();
    socket.read_to_end(&mut hello).unwrap();
    assert_eq!(hello[0], 22, "a handshake began, and the connection ended");
}

#[test]
fn fault_row_22_an_answer_without_end_is_cut_at_its_limit() {
    let flood = |head: &'static str, piece: Vec<u8>| {
        move || Reaction::Repeat { head: head.as_bytes().to_vec(), piece: piece.clone(), pause: Duration::ZERO }
    };
    let body = vec![b' '; 64 * 1024];
    let chunk = [b"10000\r\n", &body[..], b"\r\n"].concat();
    let settings = &["hooks.timeout=60s"];
    check_refusal(settings, flood("HTTP/1.1 200 OK\r\nContent-Length: 1073741824\r\n\r\n", body.clone()));
    check_refusal(settings, flood("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", chunk));
    check_refusal(settings, flood("HTTP/1.1 200 OK\r\n\r\n", body.clone()));
    check_reaction(settings, flood("HTTP/1.1 200 OK\r\nX-Header: ", body));
    check_reaction(settings, flood("HTTP/1.1 200 OK\r\n", b"X-Header: x\r\n".repeat(1000)));
}

#[test]
fn an_answer_up_to_the_limit_is_read() {
    let answer = |bytes: usize| {
        let message = "x".repeat(bytes - r#"{"message":""}"#.len());
        move || Reaction::Json(200, json!({"message": message}))
    };
    check_refusal(&["hooks.max_answer_bytes=8KiB", "hooks.timeout=60s"], answer(8193));
    let longest = answer(8192);
    let backend = Backend::start(move |_| longest());
    let server = start(&[&say_hook(&backend), "hooks.max_answer_bytes=8KiB"]);
    assert_eq!(say(&mut member(&server)), "OK");
}

#[test]
fn fault_row_61_content_that_grows_in_the_answer_keeps_the_backend_in_use() {
    // The backend repeats the message and escapes each of its characters, as many JSON writers do.
    let backend = Backend::start(|asked| {
        let message: String = asked.json["message"].as_str().expect("a text").escape_unicode().to_string();
        let escaped = message.replace("\\u{", "\\u00").replace('}', "");
        let body = format!(r#"{{"message":"{escaped}"}}"#);
        raw(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()))
    });
    let server = start(&[&*say_hook(&backend), "hooks.breaker_failures=1"]);
    let mut client = member(&server);
    let long = "\u{e9}".repeat(24 * 1024);
    for _ in 0..5 {
        assert_eq!(client.ask(&format!("say defaultRoom {long}"))["status"], "OK");
    }
    assert_eq!(figures(&server), HookFigures { answered: 5, ..HookFigures::default() });
}

#[test]
fn fault_row_22_garbage_is_neither_yes_nor_no() {
    for text in [
        "",
        "\0\u{1}\u{2}\r\n\r\n",
        "SSH-2.0-OpenSSH_9.2\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n{}",
        "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n{}",
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
        "HTTP/1.1 408 Request Timeout\r\nContent-Length: 2\r\n\r\n{}",
        "HTTP/1.1 429 Too Many Requests\r\nContent-Length: 2\r\n\r\n{}",
        "HTTP/1.1 500 Oh\r\nContent-Length: 14\r\n\r\n{\"allow\":true}",
    ] {
        check_reaction(&["hooks.timeout=500ms"], move || raw(text));
    }
    // The backend closes after each answer. Without the header the next question could meet the connection that it closes.
    for text in [
        "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 3\r\n\r\nyes",
        "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 4\r\n\r\ntrue",
        "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 14\r\n\r\n{\"allow\":\"no\"}",
        "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 14\r\n\r\n{\"message\":\"\"}",
        "HTTP/1.1 404 Not Found\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}",
    ] {
        // Longer than a busy machine takes: a timeout would open the breaker.
        check_refusal(&["hooks.timeout=60s"], move || raw(text));
    }
}

#[test]
fn fault_row_22_names_and_addresses_that_lead_elsewhere_are_not_connected_to() {
    let backend = Backend::start(|_| yes());
    for url in [backend.url("say"), backend.url_by_name("http")] {
        check_failure(&["hooks.allow=[\"10.0.0.0/8\", \"::1\"]"], &url);
    }
    assert_eq!(backend.others(), 0);
    for url in [backend.url("say"), backend.url_by_name("http")] {
        let server = start(&[&format!("hooks.say.url={url}"), "hooks.allow=[\"10.0.0.0/8\", \"127.0.0.0/8\"]"]);
        assert_eq!(say(&mut member(&server)), "OK", "{url}");
    }
}

#[test]
fn fault_row_22_a_backend_that_keeps_failing_is_left_alone_and_tried_again() {
    let works = Arc::new(AtomicBool::new(false));
    let is_working = Arc::clone(&works);
    let backend = Backend::start(move |_| match is_working.load(Ordering::SeqCst) {
        true => yes(),
        false => Reaction::Json(503, json!({})),
    });
    let settings = [&*say_hook(&backend), "hooks.breaker_failures=3", "hooks.breaker_pause=1s"];
    let server = start(&settings);
    let mut client = member(&server);
    for _ in 0..2 {
        assert_eq!(say(&mut client), "unavailable");
    }
    // The pause begins with the third failure, later than this.
    let begun = Instant::now();
    assert_eq!(say(&mut client), "unavailable");
    works.store(true, Ordering::SeqCst);
    eventually("it is asked again", || say(&mut client) == "OK");
    assert!(begun.elapsed() >= Duration::from_millis(999), "{:?}", begun.elapsed());
    let HookFigures { answered, failed, not_asked, .. } = figures(&server);
    assert_eq!((answered, failed), (1, 3));
    assert!(not_asked > 0);
    assert_eq!(backend.others(), 4, "those in between were not sent");
    assert_eq!(say(&mut client), "OK");
}

#[test]
fn hooks_with_one_url_fail_together_and_others_do_not() {
    let backend = Backend::start(|asked| match asked.path.as_str() {
        "/broken" => Reaction::Json(500, json!({})),
        _ => yes(),
    });
    let broken = backend.url("broken");
    let server = start(&[
        &format!("hooks.say.url={broken}"),
        &format!("hooks.action.url={broken}"),
        &backend.setting("hooks.join"),
        "hooks.breaker_failures=1",
        "hooks.breaker_pause=10m",
    ]);
    let mut client = member(&server);
    assert_eq!(say(&mut client), "unavailable");
    assert_eq!(client.ask("randomNumber")["error"], "Error: unavailable");
    assert_eq!(server.node().hook_figures(Hook::Action), HookFigures { not_asked: 1, ..HookFigures::default() });
    assert_eq!(client.ask("roomLeave defaultRoom")["data"], true);
    assert_eq!(client.ask("roomAdd defaultRoom")["data"], true);
}

#[test]
fn requests_beyond_the_limits_wait_for_their_turn_or_are_not_made() {
    let (permit, permits) = sync_channel::<()>(10);
    let (permits, at_once) = (std::sync::Mutex::new(permits), Arc::new(AtomicUsize::new(0)));
    let asked_at_once = Arc::clone(&at_once);
    let backend = Backend::start(move |_| {
        assert_eq!(asked_at_once.fetch_add(1, Ordering::SeqCst), 0, "one at a time");
        let _ = permits.lock().unwrap().recv_timeout(PATIENCE);
        asked_at_once.fetch_sub(1, Ordering::SeqCst);
        yes()
    });
    let limits = ["hooks.concurrency_max=1", "hooks.waiting_max=1", "hooks.timeout=60s"];
    let server = start(&[&[&*say_hook(&backend)][..], &limits].concat());
    let mut clients = server.connect_into(3, &["defaultRoom"]);
    clients[0].send("say defaultRoom first");
    assert_eq!(backend.next().json["message"], "first");
    clients[1].send("say defaultRoom second");
    // Whoever of the two came first waits; the other is told at once, and the first is still being asked about.
    clients[2].send("say defaultRoom third");
    eventually("one of them is told", || figures(&server).not_asked == 1);
    assert_eq!(backend.others(), 0);
    permit.send(()).unwrap();
    permit.send(()).unwrap();
    let mut told = Vec::new();
    for client in &mut clients {
        let is_answer = |line: &Value| line["context"] == "response";
        let answer = std::iter::repeat_with(|| client.read_json()).find(is_answer).unwrap();
        told.push(answer["status"].as_str().unwrap().to_owned());
    }
    assert_eq!(told[0], "OK");
    told[1..].sort();
    assert_eq!(told[1..], ["OK", "unavailable"]);
    assert_eq!(at_once.load(Ordering::SeqCst), 0);
}

#[test]
fn waiting_for_a_turn_counts_against_the_timeout() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("hooks.say.url=http://{}/", silent.local_addr().unwrap());
    let server = start(&[&url, "hooks.concurrency_max=1", "hooks.timeout=1s", "hooks.breaker_failures=0"]);
    let mut clients = server.connect_into(4, &["defaultRoom"]);
    let begun = Instant::now();
    clients.iter_mut().for_each(|client| client.send("say defaultRoom hello"));
    for client in &mut clients {
        assert_eq!(client.read_json()["status"], "unavailable");
    }
    assert!(begun.elapsed() < Duration::from_secs(3), "one after the other it would be 4 s");
}

#[test]
fn every_hook_has_a_policy_of_its_own() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", silent.local_addr().unwrap());
    let with = |policy: &str| {
        let hooks = ["connect", "join", "say", "action"];
        let mut settings: Vec<String> = hooks.map(|hook| format!("hooks.{hook}.url={url}")).into();
        settings.extend(hooks.map(|hook| format!("hooks.{hook}.on_failure={policy}")));
        settings.push("hooks.timeout=20ms".to_owned());
        start(&settings.iter().map(String::as_str).collect::<Vec<_>>())
    };
    let server = with("allow");
    let mut client = member(&server);
    assert_eq!(say(&mut client), "OK");
    assert!(client.ask("randomNumber")["randomNumber"].is_number());

    let server = with("refuse");
    let mut client = LineClient::tcp(server.address()).unwrap();
    assert_eq!(client.read_json(), json!({"error": "unavailable", "context": "api"}));
    client.expect_fin();
    let settings =
        [format!("hooks.join.url={url}"), format!("hooks.action.url={url}"), "hooks.timeout=20ms".to_owned()];
    let server = start(&settings.iter().map(String::as_str).collect::<Vec<_>>());
    let mut client = server.connect();
    assert_eq!(client.ask("roomAdd defaultRoom")["status"], "unavailable");
    assert_eq!(client.ask("randomNumber")["error"], "Error: unavailable");
}

#[test]
fn an_action_of_a_backend_has_a_timeout_of_its_own() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", silent.local_addr().unwrap());
    let action = format!("actions.remote=[{{name=\"slow\",url=\"{url}\",timeout=\"50ms\"}}]");
    let server = start(&[&action, "hooks.timeout=10m"]);
    assert_eq!(server.connect().ask("slow")["error"], "Error: unavailable");
}

#[test]
fn an_https_backend_must_be_vouched_for() {
    let authority = Authority::new("an authority").unwrap();
    let identity = authority.issue_server().unwrap();
    let chain = vec![CertificateDer::from_pem_slice(identity.certificate.as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    let backend = Backend::start_tls(Arc::new(config), |_| Reaction::Json(200, json!({"message": "over TLS"})));
    let url = format!("hooks.say.url={}", backend.url_by_name("https"));
    let folder = Folder::new();
    let start_trusting = |authority: &Authority| {
        let path = folder.path().join("ca.pem");
        std::fs::write(&path, authority.certificate()).unwrap();
        start(&[&url, &format!("hooks.ca={}", path.display())])
    };
    let server = start_trusting(&authority);
    assert_eq!(say(&mut member(&server)), "OK");
    backend.next().verify();

    let server = start_trusting(&Authority::new("another").unwrap());
    assert_eq!(say(&mut member(&server)), "unavailable");
    assert_eq!(backend.others(), 0);
}

#[test]
fn authorities_that_cannot_be_read_are_told_at_start() {
    let folder = Folder::new();
    let path = folder.path().join("ca.pem");
    for (content, reason) in
        [(None, "No such file or directory (os error 2)"), (Some("nothing"), "holds no certificate")]
    {
        if let Some(content) = content {
            std::fs::write(&path, content).unwrap();
        }
        let config = crate::support::config(&[
            &format!("hooks.secret={SECRET}"),
            "hooks.say.url=https://localhost/",
            &format!("hooks.ca={}", path.display()),
        ]);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let error = runtime.block_on(switchboard::Server::builder(config).start()).unwrap_err();
        assert_eq!(error.to_string(), format!("hooks.ca = \"{}\": {reason}", path.display()));
    }
}
