//! Who may ask: pages of other hosts may not, over any protocol. All forms of origins are in `switchboard_proto::origin`.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use switchboard_testkit::raw_http::{RawAnswer, RawHttp};

use super::http::{JSON, connect};
use super::peer::{Folder, Running, config, eventually};
use super::program::Program;

const LISTED: &str = "https://app.example.org";

fn serving(folder: &Folder, allowed: &[&str]) -> Running {
    folder.write("public/a.txt", "a");
    let mut config = config();
    config.files.root = Some(folder.join("public"));
    config.servers.web.allowed_origins = allowed.iter().map(|&origin| origin.to_owned()).collect();
    Running::start(config)
}

fn vary(answer: &RawAnswer) -> Option<&str> {
    answer.header("vary")
}

#[test]
fn fault_row_14_pages_of_other_hosts_call_no_action_and_open_no_websocket() {
    let folder = Folder::new();
    let running = serving(&folder, &[]);
    let host = running.web().to_string();
    let own = format!("Origin: http://{host}");
    let port = running.web().port();
    for (origin, allowed) in [
        (own.as_str(), true),
        ("X-Nothing: here", true),
        ("Origin: http://evil.example.org", false),
        ("Origin: null", false),
        ("Origin: file://", false),
        ("Origin:", false),
        (&format!("Origin: http://127.0.0.1:{}", port.wrapping_add(1).max(1)), false),
        (&format!("Origin: http://127.0.0.1.evil.net:{port}"), false),
        (&format!("Origin: http://user@{host}"), false),
        (&format!("{own}\r\n{own}"), false),
        (&format!("{own}\r\nOrigin: http://evil.example.org"), false),
        (&format!("{own}, http://evil.example.org"), false),
    ] {
        let cookie = "Cookie: sessionID=abc";
        for (method, target) in
            [("GET", "/api/status"), ("POST", "/api/status"), ("DELETE", "/a.txt"), ("GET", "/primus/spec")]
        {
            let answer = connect(&running).request(method, target, &[origin, cookie, JSON], b"{}");
            assert_eq!(answer.status != 403, allowed, "{method} {target} with {origin:?}: {}", answer.status);
            assert_eq!(answer.header("access-control-allow-origin"), None);
        }
        let upgraded = connect(&running).upgrade("/primus", &[origin, cookie]);
        assert_eq!(upgraded.status, if allowed { 101 } else { 403 }, "{origin:?}");
        // Whoever may read files may read them for any page; that page cannot look inside.
        if !origin.contains("\r\n") {
            let answer = connect(&running).request("GET", "/a.txt", &[origin], b"");
            assert_eq!((answer.status, answer.header("access-control-allow-origin")), (200, None));
        }
    }
}

#[test]
fn fault_row_72_a_link_or_an_image_on_another_page_runs_no_action() {
    let folder = Folder::new();
    let running = serving(&folder, &[LISTED]);
    let own = format!("Referer: http://{}/chat.html", running.web());
    let listed = format!("Referer: {LISTED}/some/page?x=1");
    for (site, referrer, allowed) in [
        ("cross-site", "X-Nothing: here", false),
        ("same-site", "X-Nothing: here", false),
        ("cross-site", "Referer: http://evil.example.org/", false),
        ("cross-site", &format!("Referer: http://evil.example.org/?{LISTED}/"), false),
        ("cross-site", &format!("Referer: {LISTED}.evil.example.org/"), false),
        ("cross-site", &listed, true),
        ("same-site", &own, true),
        ("none", "Referer: http://evil.example.org/", false),
        ("same-origin", "X-Nothing: here", true),
        ("none", "X-Nothing: here", true),
    ] {
        let site_header = format!("Sec-Fetch-Site: {site}");
        let ask = |target: &str| connect(&running).request("GET", target, &[&site_header, referrer], b"").status;
        assert_eq!(ask("/api/status"), if allowed { 200 } else { 403 }, "{site} {referrer}");
        assert_eq!(ask("/a.txt"), 200, "any page may show a file");
    }
}

#[test]
fn a_refused_page_is_told_which_setting_lists_origins_and_the_operator_reads_which_page_it_was() {
    let program = Program::start(&[]);
    let address = program.web().parse().unwrap();
    for target in ["/api/status", "/primus?refusal=1"] {
        let origin = "Origin: http://127.0.0.1:3000";
        let answer = RawHttp::connect(address).unwrap().request("GET", target, &[origin], b"");
        let expected = "this page may not ask here: servers.web.allowed_origins does not list its origin\n";
        assert_eq!((answer.status, answer.text()), (403, expected), "{target}");
    }
    eventually("it warns", || program.log().contains("WARN") && program.log().contains("origin=http://127.0.0.1:3000"));
    assert!(program.log().contains("servers.web.allowed_origins"), "{}", program.log());
}

#[test]
fn fault_row_14_listed_pages_may_ask_and_read() {
    let folder = Folder::new();
    let running = serving(&folder, &[LISTED, "http://localhost:3000"]);
    let origin = format!("Origin: {LISTED}");
    let mut client = connect(&running);
    for target in ["/api/status", "/api/nope", "/a.txt", "/missing", "/primus/spec", "/javascript/switchboard.js"] {
        let answer = client.request("GET", target, &[&origin], b"");
        assert_eq!(answer.header("access-control-allow-origin"), Some(LISTED), "{target}");
        assert_eq!(vary(&answer), Some("Origin"), "{target}");
        // A store must not give this to somebody who asks from there.
        let answer = client.get(target);
        assert_eq!((answer.header("access-control-allow-origin"), vary(&answer)), (None, Some("Origin")), "{target}");
    }
    assert_eq!(connect(&running).upgrade("/primus", &[&origin]).status, 101);
    let preflight = ["Access-Control-Request-Method: POST", "Access-Control-Request-Headers: content-type"];
    let answer = client.request("OPTIONS", "/api/status", &[&preflight[..], &[&origin]].concat(), b"");
    assert_eq!(answer.status, 204);
    for (name, value) in [
        ("access-control-allow-origin", LISTED),
        ("access-control-allow-methods", "GET, HEAD, POST, PUT, DELETE, OPTIONS"),
        ("access-control-allow-headers", "Content-Type"),
        ("access-control-max-age", "600"),
        ("vary", "Origin"),
    ] {
        assert_eq!(answer.header(name), Some(value), "{name}");
    }
    assert_eq!(answer.header("access-control-allow-credentials"), None);
    let of_applications = "Authorization, Content-Type, Identification, Identification-Id, Public-Key, Secret";
    for (path, methods, headers) in [
        ("/gateway/events", "POST, OPTIONS", of_applications),
        ("/gateway/bot", "GET, HEAD, OPTIONS", of_applications),
        ("/gateway/shards", "GET, HEAD, OPTIONS", of_applications),
        ("/interaction", "POST, OPTIONS", "Content-Type, X-Signature-Ed25519, X-Signature-Timestamp"),
        ("/a.txt", "GET, HEAD, OPTIONS", "Content-Type, If-Modified-Since, If-None-Match, If-Range, Range"),
        ("/primus/spec", "GET, HEAD, OPTIONS", "Content-Type"),
    ] {
        let answer = client.request("OPTIONS", path, &[&preflight[..], &[&origin]].concat(), b"");
        let named = |name| answer.header(name);
        let expected = (204, Some(methods), Some(headers), Some(LISTED));
        assert_eq!(
            (
                answer.status,
                named("access-control-allow-methods"),
                named("access-control-allow-headers"),
                named("access-control-allow-origin")
            ),
            expected,
            "{path}"
        );
    }
    let foreign = [&preflight[..], &["Origin: https://evil.example.org"]].concat();
    let answer = connect(&running).request("OPTIONS", "/api/status", &foreign, b"");
    assert_eq!((answer.status, answer.header("access-control-allow-origin")), (403, None));
}

#[test]
fn fault_row_14_a_star_must_be_asked_for() {
    let folder = Folder::new();
    let running = serving(&folder, &["*"]);
    let origin = "https://anything.example.net";
    let answer = connect(&running).request("GET", "/api/status", &[&format!("Origin: {origin}")], b"");
    assert_eq!((answer.status, answer.header("access-control-allow-origin")), (200, Some(origin)));
    assert_eq!(connect(&running).request("GET", "/api/status", &["Origin: null"], b"").status, 403);
}
