//! The admin API under attack: who has no token, pages of other hosts, heads and bodies without end, secrets in places
//! where they must not be.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use switchboard::config::Secret;
use switchboard_testkit::http::{HttpAnswer, HttpClient};

use super::admin::{TOKEN, anybody, start};
use super::peer::{Folder, eventually};
use super::program::{Program, output};

/// An answer without the time of day, which is all that may differ.
fn timeless(mut answer: HttpAnswer) -> HttpAnswer {
    answer.headers.retain(|(name, _)| name != "date");
    answer
}

#[test]
fn fault_row_21_without_the_token_nothing_is_told_and_all_refusals_are_alike() {
    let (server, operator) = start(&["admin.failures_per_address=0"]);
    let anybody = anybody(&server);
    let expected = timeless(anybody.ask("GET", "/v1/rooms"));
    expected.expect_error(401, "unauthenticated");
    assert_eq!(expected.header("www-authenticate"), Some("Bearer"));

    let almost = &TOKEN[..TOKEN.len() - 1];
    let presented = [
        "".to_owned(),
        "Bearer".to_owned(),
        "Bearer ".to_owned(),
        TOKEN.to_owned(),
        format!("Bearer {almost}"),
        format!("Bearer {TOKEN}x"),
        format!("Bearer {TOKEN} {TOKEN}"),
        format!("Bearer \"{TOKEN}\""),
        format!("Bearer {}", TOKEN.to_uppercase()),
        format!("Bearer{TOKEN}"),
        format!("Basic {TOKEN}"),
        format!("Token {TOKEN}"),
        "Bearer null".to_owned(),
        format!("Bearer {}", "x".repeat(8000)),
    ];
    let routes = [
        ("GET", "/v1/rooms"),
        ("POST", "/v1/rooms"),
        ("DELETE", "/v1/rooms/defaultRoom"),
        ("DELETE", "/v1/rooms/nowhere"),
        ("GET", "/metrics"),
        ("GET", "/v1/openapi.json"),
        ("GET", "/v1/nowhere"),
        ("TRACE", "/v1/rooms"),
        ("OPTIONS", "/v1/rooms"),
        ("GET", "//livez"),
        ("GET", "/livez/"),
        ("GET", "/livez/../v1/rooms"),
        ("GET", "/livez%2f..%2fv1/rooms"),
    ];
    for (method, path) in routes {
        assert_eq!(timeless(anybody.ask(method, path)), expected, "{method} {path}");
        for value in &presented {
            let answer = anybody.ask_with(method, path, &[("Authorization", value)], "");
            assert_eq!(timeless(answer), expected, "{method} {path} {value:?}");
        }
    }
    // Only the header counts, and only once.
    let bearer = format!("Bearer {TOKEN}");
    for headers in [
        &[("Authorization", bearer.as_str()), ("Authorization", bearer.as_str())][..],
        &[("X-Authorization", &bearer), ("X-Api-Key", TOKEN)],
        &[("Cookie", &format!("token={TOKEN}; Authorization={bearer}"))],
        &[("Proxy-Authorization", &bearer)],
    ] {
        assert_eq!(timeless(anybody.ask_with("GET", "/v1/rooms", headers, "")), expected, "{headers:?}");
    }
    for query in ["token", "access_token", "key", "authorization"] {
        assert_eq!(timeless(anybody.ask("GET", &format!("/v1/rooms?{query}={TOKEN}"))), expected, "{query}");
    }
    let body = json!({"room": "made", "token": TOKEN}).to_string();
    let sent = anybody.ask_with("POST", "/v1/rooms", &[("Content-Type", "application/json")], &body);
    assert_eq!(timeless(sent), expected);
    assert_eq!(operator.ask("GET", "/v1/rooms").expect(200)["items"].as_array().unwrap().len(), 1);
}

#[test]
fn fault_row_21_probes_need_no_token_and_a_wrong_one_opens_nothing() {
    let (server, _) = start(&[]);
    let anybody = anybody(&server);
    for client in [anybody.clone(), anybody.with_token("wrong")] {
        assert_eq!(client.ask("GET", "/livez").expect(200), json!({"status": "alive"}));
        assert_eq!(client.ask("GET", "/readyz").expect(200), json!({"status": "ready"}));
        client.ask("POST", "/livez").expect_error(405, "method_not_allowed");
    }
}

#[test]
fn fault_row_21_wrong_tokens_are_answered_with_429_after_too_many_and_the_right_one_never() {
    let (server, operator) = start(&["admin.failures_per_address=3"]);
    let stranger = anybody(&server).with_token("wrong");
    let mut refused = None;
    // Until one second has seen enough of them.
    eventually("it is refused", || {
        let answer = stranger.ask("GET", "/v1/rooms");
        operator.ask("GET", "/v1/rooms").expect(200);
        let is_refused = answer.status == 429;
        if is_refused {
            refused = Some(answer);
        } else {
            answer.expect_error(401, "unauthenticated");
        }
        is_refused
    });
    let refused = refused.unwrap();
    refused.expect_error(429, "rate_limited");
    assert_eq!(refused.header("retry-after"), Some("1"));
    stranger.ask("GET", "/livez").expect(200);
    operator.ask("GET", "/v1/rooms").expect(200);
}

#[test]
fn fault_row_63_requests_without_a_token_or_from_other_pages_do_not_count_against_an_address() {
    let (server, operator) = start(&["admin.failures_per_address=1"]);
    let stranger = anybody(&server);
    for _ in 0..20 {
        stranger.ask("GET", "/v1/rooms").expect_error(401, "unauthenticated");
        for site in ["cross-site", "same-site"] {
            let headers = [("Sec-Fetch-Site", site), ("Authorization", "Bearer wrong")];
            stranger.ask_with("GET", "/v1/rooms", &headers, "").expect_error(403, "origin_not_allowed");
        }
    }
    let wrong = stranger.with_token("wrong");
    wrong.ask("GET", "/v1/rooms").expect_error(401, "unauthenticated");
    eventually("wrong tokens count", || wrong.ask("GET", "/v1/rooms").status == 429);
    operator.ask_with("GET", "/v1/rooms", &[("Sec-Fetch-Site", "same-origin")], "").expect(200);
}

#[test]
fn the_log_names_the_address_of_many_failures_as_operators_write_it() {
    let (program, client) = program(&["--set", "admin.token=right", "--set", "admin.failures_per_address=3"], &[]);
    let stranger = client.with_token("wrong");
    eventually("it warns", || {
        stranger.ask("GET", "/v1/rooms");
        program.log().contains(" address=127.0.0.1\n")
    });
}

#[test]
fn fault_row_21_pages_of_other_hosts_are_refused_even_with_the_token() {
    let (server, operator) = start(&[]);
    let own = format!("http://{}", server.server().addresses().admin.unwrap());
    let ask = |origin: &str| operator.ask_with("GET", "/v1/rooms", &[("Origin", origin)], "");
    ask(&own).expect(200);
    for foreign in
        ["null", "http://evil.example", "https://127.0.0.1", "http://127.0.0.1", &format!("{own}.evil.example")]
    {
        ask(foreign).expect_error(403, "origin_not_allowed");
    }
    let preflight = [("Origin", "http://evil.example"), ("Access-Control-Request-Method", "POST")];
    let answer = operator.ask_with("OPTIONS", "/v1/rooms", &preflight, "");
    answer.expect_error(403, "origin_not_allowed");
    for answer in [answer, ask(&own), operator.ask("GET", "/livez")] {
        assert!(!answer.headers.iter().any(|(name, _)| name.starts_with("access-control") || name == "set-cookie"));
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
    }
    // A form, which a page may send without being asked, is no JSON.
    for content_type in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""] {
        let answer = operator.ask_with("POST", "/v1/rooms", &[("Content-Type", content_type)], r#"{"room":"made"}"#);
        answer.expect_error(415, "unsupported_media_type");
    }
    operator.ask_with("POST", "/v1/rooms", &[], r#"{"room":"made"}"#).expect_error(415, "unsupported_media_type");
}

#[test]
fn fault_row_6_a_body_must_be_json_within_limits_and_name_nothing_else() {
    let (_server, operator) = start(&["admin.max_body_bytes=4KiB", "limits.max_json_keys=10"]);
    let send = |body: &str| operator.ask_with("POST", "/v1/rooms", &[("Content-Type", "application/json")], body);
    for odd in [
        "room",
        "{",
        "[]",
        "\"room\"",
        r#"{"room":"a","room":"b"}"#,
        r#"{"room":"a"} x"#,
        r#"{"room":1}"#,
        "{}",
        &format!(r#"{{"room":"a","x":{}{}}}"#, "[".repeat(100), "]".repeat(100)),
        &format!(r#"{{"room":"a",{}"x":1}}"#, (0..11).map(|n| format!("\"{n}\":1,")).collect::<String>()),
    ] {
        send(odd).expect_error(400, "invalid_request");
    }
    let message = send(r#"{"room":"a","room":"b"}"#).expect_error(400, "invalid_request");
    assert_eq!(message, "the body is refused: a JSON object names a member twice");
    let message = send(r#"{"room":"a","rom":"b"}"#).expect_error(400, "invalid_request");
    assert!(message.contains("`rom`"), "{message}");
    let large = format!(r#"{{"room":"{}"}}"#, "x".repeat(5000));
    let message = send(&large).expect_error(413, "too_large");
    assert!(message.contains("admin.max_body_bytes"), "{message}");
    // The same without a length in front.
    let chunked = format!(
        "POST /v1/rooms HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {TOKEN}\r\nContent-Type: application/json\r\n\
         Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n{:x}\r\n{large}\r\n0\r\n\r\n",
        large.len()
    );
    let answer = HttpAnswer::parse(&operator.exchange(chunked.as_bytes())).expect("an answer");
    answer.expect_error(413, "too_large");
    assert_eq!(operator.ask("GET", "/v1/rooms").expect(200)["items"].as_array().unwrap().len(), 1);
}

#[test]
fn half_a_surrogate_pair_in_a_body_becomes_the_replacement_character() {
    let (_server, operator) = start(&[]);
    let send = |path: &str, body: &str| operator.ask_with("POST", path, &[("Content-Type", "application/json")], body);
    assert_eq!(send("/v1/rooms", r#"{"room":"\ud83d"}"#).expect(201)["room"], "\u{fffd}");
    send("/v1/rooms/defaultRoom/broadcast", r#"{"message":{"x\ude00":"\ud83d"}}"#).expect(200);
}

#[test]
fn fault_row_10_a_request_must_name_one_valid_host() {
    let (_server, operator) = start(&[]);
    let get = |target: &str, hosts: &str| {
        let request =
            format!("GET {target} HTTP/1.1\r\n{hosts}Connection: close\r\nAuthorization: Bearer {TOKEN}\r\n\r\n");
        HttpAnswer::parse(&operator.exchange(request.as_bytes())).expect("an answer")
    };
    for path in ["/v1/rooms", "/livez"] {
        for hosts in ["", "Host: a\r\nHost: a\r\n", "Host: a b\r\n", "Host: a/b\r\n", "Host: user@a\r\n"] {
            let message = get(path, hosts).expect_error(400, "invalid_request");
            assert!(message.starts_with("Host is "), "{hosts:?}: {message}");
        }
        get(&format!("http://b{path}"), "Host: a\r\n").expect_error(400, "invalid_request");
        get(&format!("http://a{path}"), "Host: a\r\n").expect(200);
        for hosts in ["Host: [::1]:9000\r\n", "Host:\r\n"] {
            get(path, hosts).expect(200);
        }
    }
}

fn head(more: &str) -> String {
    format!("GET /v1/rooms HTTP/1.1\r\nHost: a\r\nConnection: close\r\nAuthorization: Bearer {TOKEN}\r\n{more}\r\n")
}

#[test]
fn fault_row_11_heads_with_too_many_lines_or_bytes_are_refused() {
    let (_server, operator) = start(&[]);
    let lines = |count: usize| (0..count).map(|index| format!("X-{index}: 1\r\n")).collect::<String>();
    let long = |bytes: usize| format!("X-Long: {}\r\n", "x".repeat(bytes));
    for (more, status) in [
        (lines(61), 200),
        (lines(62), 431),
        (lines(10_000), 431),
        (long(12 * 1024), 200),
        (long(17 * 1024), 431),
        (long(1024 * 1024), 431),
    ] {
        let received = operator.exchange(head(&more).as_bytes());
        assert!(received.starts_with(&format!("HTTP/1.1 {status} ")), "{status}: {received}");
    }
    for odd in [
        "GET /v1/rooms\r\n\r\n",
        "GET /v1/rooms HTTP/1.1\nHost : a\r\n\r\n",
        &head("X-Folded: a\r\n b\r\n"),
        &head("Content-Length: 3\r\nContent-Length: 4\r\n"),
        &head("Content-Length: -1\r\n"),
    ] {
        let received = operator.exchange(odd.as_bytes());
        assert!(received.starts_with("HTTP/1.1 400 ") || received.is_empty(), "{odd:?}: {received}");
    }
    operator.ask("GET", "/v1/rooms").expect(200);
}

/// How long it takes until the server closes, and what it says before.
#[track_caller]
fn closes(mut stream: TcpStream) -> (Duration, String) {
    let begun = Instant::now();
    let mut received = Vec::new();
    stream.read_to_end(&mut received).expect("it closes in time");
    (begun.elapsed(), String::from_utf8(received).unwrap())
}

#[test]
fn fault_row_11_a_head_that_does_not_come_is_not_waited_for() {
    let (_server, operator) = start(&["admin.header_timeout=300ms", "admin.max_connections=2"]);
    for begun in ["", "GET /v1/ro", "GET /v1/rooms HTTP/1.1\r\nHost: a\r\nX-Slow: "] {
        let mut stream = operator.connect();
        stream.write_all(begun.as_bytes()).unwrap();
        let (took, received) = closes(stream);
        assert!(took < Duration::from_secs(3) && !received.contains("200 OK"), "{took:?} {received}");
    }
    // Between two requests of one connection it is the same.
    let mut stream = operator.connect();
    stream.write_all(b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    let (took, received) = closes(stream);
    assert!(took < Duration::from_secs(3) && received.starts_with("HTTP/1.1 200 OK"), "{took:?} {received}");
    // Whoever finds all places taken waits for one, no longer than that.
    let taken: Vec<TcpStream> = (0..6).map(|_| operator.connect()).collect();
    operator.ask("GET", "/v1/rooms").expect(200);
    drop(taken);
}

#[test]
fn fault_row_12_a_body_that_does_not_come_is_not_waited_for() {
    let (_server, operator) = start(&["admin.body_timeout=300ms"]);
    for framing in ["Content-Length: 20\r\n", "Transfer-Encoding: chunked\r\n"] {
        let mut stream = operator.connect();
        let head = format!(
            "POST /v1/rooms HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {TOKEN}\r\nContent-Type: application/json\r\n{framing}\r\n"
        );
        stream.write_all(head.as_bytes()).unwrap();
        let (took, received) = closes(stream);
        assert!(took < Duration::from_secs(3), "{took:?}");
        HttpAnswer::parse(&received).expect("an answer").expect_error(408, "timed_out");
    }
}

/// The program with an admin API on a free port, and where that is.
fn program(arguments: &[&str], environment: &[(&str, &str)]) -> (Program, HttpClient) {
    let settings = ["--set", "admin.enabled=true", "--set", "admin.port=0"];
    let program = Program::start_with(&[&settings, arguments].concat(), environment);
    let admin = program.admin().parse().expect("the ready line has its address");
    (program, HttpClient::new(admin))
}

#[test]
fn the_ready_line_names_the_admin_api_behind_the_socket() {
    let (program, client) = program(&["--set", "admin.token=correct-horse-battery"], &[]);
    client.with_token("correct-horse-battery").ask("GET", "/v1/node").expect(200);
    let port = program.admin().rsplit(':').next().unwrap().to_owned();
    let set = format!("admin.port={port}");
    let arguments = ["--set", "servers.socket.port=0", "--set", "servers.web.port=0", "--set", &set];
    let (code, stdout, stderr) = output(program.folder(), &arguments, &[]);
    assert_eq!((code, stdout.as_str()), (2, ""));
    assert!(stderr.contains(&format!("switchboard: admin cannot listen on 127.0.0.1 port {port}: ")), "{stderr}");
    assert!(stderr.contains("admin.enabled = false"), "{stderr}");
}

#[test]
fn fault_row_21_it_listens_on_this_machine_only_unless_it_is_told_otherwise_and_says_so() {
    let (quiet, _) = program(&["--set", "admin.token=correct-horse-battery"], &[]);
    assert!(quiet.admin().starts_with("127.0.0.1:"), "{}", quiet.admin());
    assert_eq!(quiet.log(), "");
    let (open, _) = program(&["--set", "admin.bind=0.0.0.0", "--set", "admin.token=short"], &[]);
    eventually("it warns", || {
        open.log().contains("can be reached from other machines") && open.log().contains("short enough to be guessed")
    });
}

#[test]
fn fault_row_57_the_token_is_shown_nowhere() {
    const CANARY: &str = "canary-7c1f0b5e9d";
    let folder = Folder::new();
    folder.write("token", format!("{CANARY}\n"));
    folder.write("a.toml", format!("[admin]\ntoken = \"{CANARY}\"\n"));
    let file = folder.join("token").display().to_string();
    let from_file = [("SWITCHBOARD__ADMIN__TOKEN_FILE", file.as_str())];
    let set = format!("admin.token={CANARY}");
    for (arguments, environment) in [
        (&["config", "show"][..], &from_file[..]),
        (&["config", "show"], &[("SWITCHBOARD__ADMIN__TOKEN", CANARY)]),
        (&["config", "show", "--config", "a.toml"], &[]),
        (&["config", "show", "--set", &set], &[]),
    ] {
        let (code, stdout, stderr) = output(folder.path(), arguments, environment);
        assert_eq!((code, stderr.as_str()), (0, ""));
        assert!(stdout.contains("#token = (hidden) # ") && !stdout.contains(CANARY), "{stdout}");
        // It is a configuration again, without the secret.
        folder.write("shown.toml", &stdout);
        assert_eq!(output(folder.path(), &["check-config", "--config", "shown.toml"], &[]).0, 0);
    }
    // A token that cannot be used is not quoted either.
    for bad in [format!("[\"{CANARY}\"]"), format!("{CANARY} {CANARY}"), format!("{CANARY}é")] {
        for (arguments, environment) in [
            (vec!["check-config".to_owned(), "--set".to_owned(), format!("admin.token={bad}")], vec![]),
            (vec!["check-config".to_owned()], vec![("SWITCHBOARD__ADMIN__TOKEN", bad.as_str())]),
        ] {
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            let (code, stdout, stderr) = output(folder.path(), &arguments, &environment);
            let all = format!("{stdout}{stderr}");
            // A list that is taken as text is a token like any other.
            assert!(!all.contains(CANARY) && (code == 2) == all.contains("admin.token: expected"), "{all}");
        }
    }
    let mut config = switchboard::Config::default();
    config.admin.token = Secret::new(CANARY);
    assert!(!format!("{config:?} {config:#?}").contains(CANARY));

    let (program, client) = program(&["--set", "log.level=trace"], &from_file);
    client.clone().with_token(CANARY).ask("GET", "/v1/rooms").expect(200);
    client.clone().with_token(CANARY).send("POST", "/v1/rooms", &json!({"room": "made"})).expect(201);
    client.with_token(&format!("{CANARY}x")).ask("GET", "/v1/rooms").expect_error(401, "unauthenticated");
    eventually("the requests are in the log", || program.log().contains("status=401"));
    assert!(!program.log().contains(CANARY), "{}", program.log());
}

#[test]
fn a_token_that_nobody_set_is_made_and_told_once() {
    let tokens: Vec<String> = (0..2)
        .map(|_| {
            let (program, client) = program(&["--set", "log.format=json", "--set", "log.level=trace"], &[]);
            let told = |log: &str| {
                let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
                lines.filter_map(|line| line["token"].as_str().map(str::to_owned)).next()
            };
            eventually("the token is told", || told(&program.log()).is_some());
            let token = told(&program.log()).unwrap();
            assert!(token.len() == 64 && token.bytes().all(|byte| byte.is_ascii_hexdigit()), "{token}");
            client.clone().with_token(&token).ask("GET", "/v1/rooms").expect(200);
            client.with_token("").ask("GET", "/v1/rooms").expect_error(401, "unauthenticated");
            eventually("the requests are in the log", || program.log().contains("401"));
            assert_eq!(program.log().matches(&token).count(), 1);
            token
        })
        .collect();
    assert_ne!(tokens[0], tokens[1]);
}

#[test]
fn fault_row_8_names_from_requests_bring_no_control_characters_into_the_log() {
    const ESCAPE: &str = "\u{1b}[31mred\u{7}\r\n\u{9b}";
    let (program, client) = program(&["--set", "log.level=trace", "--set", "admin.token=correct-horse"], &[]);
    let operator = client.with_token("correct-horse");
    let mut peer = program.connect();
    let id = peer.ok("detailsView")["id"].as_str().unwrap().to_owned();
    peer.ok("roomAdd defaultRoom");
    let encoded = "%1B%5B31mred%07%0D%0A%C2%9B";
    operator.send("POST", "/v1/rooms", &json!({"room": ESCAPE})).expect_error(400, "invalid_request");
    operator.ask("GET", &format!("/v1/rooms/{encoded}")).expect_error(404, "room_not_found");
    operator.ask("DELETE", &format!("/v1/connections/{encoded}")).expect_error(404, "connection_not_found");
    operator.ask("GET", &format!("/v1/rooms?{encoded}={encoded}")).expect_error(400, "invalid_request");
    operator.send("POST", "/v1/rooms", &json!({ESCAPE: 1})).expect_error(400, "invalid_request");
    operator.send("PUT", "/v1/rooms/defaultRoom/auth", &json!({"key": ESCAPE, "value": ESCAPE})).expect(200);
    operator.ask("DELETE", "/v1/rooms/defaultRoom/auth").expect(200);
    operator.send("PATCH", &format!("/v1/connections/{id}"), &json!({"state": {ESCAPE: ESCAPE}})).expect(200);
    operator
        .send("PATCH", &format!("/v1/connections/{id}"), &json!({"tags": [ESCAPE]}))
        .expect_error(400, "invalid_request");
    operator.ask("PUT", &format!("/v1/rooms/defaultRoom/members/{id}")).expect(201);
    let said = json!({"message": ESCAPE, "from": ESCAPE});
    operator.send("POST", "/v1/rooms/defaultRoom/broadcast", &said).expect(200);
    let heard = peer.line();
    assert!(!heard.trim_end().contains(|c: char| c.is_ascii_control()), "{heard:?}");
    // Not all of them need be encoded to get through.
    let long = "x".repeat(2000);
    for raw in ["\u{7f}", "\u{9b}31m", "\u{2028}", &long] {
        let head = format!("POST /raw-{raw}-tail HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        assert!(operator.exchange(head.as_bytes()).starts_with("HTTP/1.1 4"), "{raw:?}");
    }
    operator.ask("GET", "/nowhere-in-particular").expect_error(404, "not_found");
    eventually("the requests are in the log", || program.log().contains("/nowhere-in-particular"));
    let log = program.log();
    assert!(!log.contains(|c: char| c.is_control() && c != '\n'), "{log:?}");
    assert!(log.contains(encoded) && log.contains("/raw-xxx") && !log.contains(&long), "{log}");
}

#[test]
fn curl_is_all_that_an_operator_needs() {
    let (server, _) = start(&[]);
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/admin.sh");
    let mut client = server.connect_into(1, &["defaultRoom"]).remove(0);
    let mut command = Command::new("sh");
    command.arg(script).env("TOKEN", TOKEN);
    command.env("ADMIN", format!("http://{}", server.server().addresses().admin.unwrap()));
    let ran = command.output().expect("sh runs");
    let said = String::from_utf8(ran.stdout).unwrap();
    assert!(ran.status.success(), "{said}{}", String::from_utf8_lossy(&ran.stderr));
    assert_eq!(client.read_json()["message"], "good evening");
    assert_eq!(client.read_json()["status"], "Bye!");
    assert!(said.contains("\"membersCount\":1"), "{said}");
}
