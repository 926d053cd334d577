//! What the command line becomes.

use serde_json::{Value, json};

use crate::proto::id::ConnId;

use crate::cli::{Command, EXIT_FAILURE, EXIT_OK, EXIT_USAGE, Output, run};

use super::{Answer, Ctl, report};

const TOKEN: (&str, &str) = ("SWITCHBOARD__ADMIN__TOKEN", "secret");

fn command(arguments: &[&str], env: &[(&str, &str)]) -> Command {
    let arguments = ["switchboard", "ctl"].iter().chain(arguments).map(Into::into);
    run(arguments, env.iter().map(|(name, value)| (name.into(), value.into())), "/nowhere".into())
}

#[track_caller]
fn ctl(arguments: &[&str]) -> Ctl {
    match command(arguments, &[TOKEN]) {
        Command::Ctl(ctl) => *ctl,
        other => panic!("{arguments:?}: {other:?}"),
    }
}

#[track_caller]
fn usage(arguments: &[&str], env: &[(&str, &str)]) -> String {
    match command(arguments, env) {
        Command::Exit(Output { stdout, stderr, code }) => {
            assert_eq!((stdout.as_str(), code), ("", EXIT_USAGE), "{arguments:?}: {stderr}");
            stderr
        }
        other => panic!("{arguments:?}: {other:?}"),
    }
}

#[track_caller]
fn body(arguments: &[&str]) -> Value {
    serde_json::from_str(&ctl(arguments).body.unwrap()).unwrap()
}

#[test]
fn a_key_or_an_object_is_sent_to_one_target() {
    let sent = ctl(&["command", "--user", "bot", "heartbeat"]);
    assert_eq!((sent.method.as_str(), sent.path.as_str()), ("POST", "/v1/commands"));
    assert_eq!(
        sent.body.as_deref(),
        Some(r#"{"target":{"user":"bot"},"command":{"key":"heartbeat"},"fail_fast":false,"require_capability":false}"#)
    );
    for (arguments, target) in [
        (&["--connection", "c"][..], json!({"connection": "c"})),
        (&["--room", "the lobby"], json!({"room": "the lobby"})),
        (&["--tag", "t"], json!({"tag": "t"})),
        (&["--all"], json!({"all": true})),
    ] {
        assert_eq!(body(&[&["command", "k"], arguments].concat())["target"], target);
    }
    let whole = ctl(&["command", "--all", r#" {"key":"k","n":1.50}"#]).body.unwrap();
    assert!(whole.contains(r#""command":{"key":"k","n":1.50}"#), "{whole}");
    let with_data = ctl(&["command", "--all", "k", "--data", r#"{"z":1e2,"a":[]}"#]).body.unwrap();
    assert!(with_data.contains(r#""command":{"key":"k","data":{"z":1e2,"a":[]}}"#), "{with_data}");
}

#[test]
fn every_option_of_the_api_has_an_argument() {
    let arguments = [
        "command",
        "--all",
        "k",
        "--timeout",
        "1500ms",
        "--mode",
        "first",
        "--fail-fast",
        "--min-replies",
        "2",
        "--require-capability",
        "--sender",
        "ann",
        "--idempotency-key",
        "once",
    ];
    let expected = json!({
        "target": {"all": true}, "command": {"key": "k"}, "timeout_ms": 1500, "mode": "first", "fail_fast": true,
        "min_replies": 2, "require_capability": true, "sender": "ann",
    });
    assert_eq!(body(&arguments), expected);
    let sent = ctl(&arguments);
    assert_eq!((sent.idempotency_key.as_deref(), sent.patience.as_millis()), (Some("once"), 11_500));
}

#[test]
fn commands_are_listed_and_taken_back() {
    for (arguments, path) in [
        (&["commands"][..], "/v1/commands?state=pending&limit=100"),
        (&["commands", "--settled", "--limit", "5", "--cursor", "3a"], "/v1/commands?state=settled&limit=5&cursor=3a"),
    ] {
        let asked = ctl(arguments);
        assert_eq!((asked.method.as_str(), asked.path.as_str(), asked.body), ("GET", path, None));
    }
    let asked = ctl(&["cancel", "bycAiK7YabTfCGqBQ"]);
    assert_eq!((asked.method.as_str(), asked.path.as_str()), ("DELETE", "/v1/commands/bycAiK7YabTfCGqBQ"));
}

#[test]
fn gateway_sessions_are_listed_and_ended() {
    let asked = ctl(&["sessions", "--limit", "5", "--cursor", "3a"]);
    assert_eq!((asked.method.as_str(), asked.path.as_str()), ("GET", "/v1/gateway/sessions?limit=5&cursor=3a"));
    let hash = ConnId::session_from_random(1).to_string();
    let asked = ctl(&["end-session", &hash]);
    assert_eq!((asked.method.as_str(), asked.path), ("DELETE", format!("/v1/gateway/sessions/{hash}")));
    for odd in ["", "a", &ConnId::from_random(1).to_string(), &"0".repeat(35)] {
        assert!(usage(&["end-session", odd], &[TOKEN]).contains("shard hash"), "{odd}");
    }
}

#[test]
fn the_server_is_found_where_the_configuration_or_the_url_says() {
    let at =
        |env: &[(&str, &str)], url: &[&str]| match command(&[&["commands"], url].concat(), &[&[TOKEN], env].concat()) {
            Command::Ctl(ctl) => ctl.authority,
            other => panic!("{other:?}"),
        };
    assert_eq!(at(&[], &[]), "127.0.0.1:9090");
    let bind = |address| ("SWITCHBOARD__ADMIN__BIND", address);
    assert_eq!(at(&[bind("0.0.0.0"), ("SWITCHBOARD__ADMIN__PORT", "91")], &[]), "127.0.0.1:91");
    assert_eq!(at(&[bind("::")], &[]), "[::1]:9090");
    assert_eq!(at(&[bind("10.0.0.1")], &[]), "10.0.0.1:9090");
    assert_eq!(at(&[], &["--admin", "http://host:9091/"]), "host:9091");
    assert_eq!(at(&[], &["--admin", "http://[::1]:9091"]), "[::1]:9091");
    assert_eq!(at(&[], &["--admin", "http://host"]), "host:80");
    for odd in ["host:9090", "http://host/v1", "http://a:b@host", "http://", "ftp://host", "http://host?x", ""] {
        assert!(usage(&["commands", "--admin", odd], &[TOKEN]).contains("http://127.0.0.1:9090"), "{odd}");
    }
    assert!(usage(&["commands", "--admin", "https://host"], &[TOKEN]).contains("ssh -L"));
    assert!(usage(&["commands"], &[TOKEN, ("SWITCHBOARD__ADMIN__PORT", "0")]).contains("--admin"));
}

#[test]
fn the_token_comes_from_the_configuration_and_from_no_argument() {
    assert_eq!(ctl(&["commands"]).token.reveal(), "secret");
    assert!(!format!("{:?}", ctl(&["commands"])).contains("secret"));
    assert!(usage(&["commands"], &[]).contains("SWITCHBOARD__ADMIN__TOKEN_FILE"));
    usage(&["commands", "--token", "secret"], &[TOKEN]);
    usage(&["commands", "--set", "admin.token=secret"], &[TOKEN]);
}

#[test]
fn only_the_section_admin_and_the_file_itself_must_be_right() {
    for elsewhere in [
        // The server has hooks.secret in its own environment.
        ("SWITCHBOARD__HOOKS__CONNECT__URL", "http://127.0.0.1:1/connect"),
        ("SWITCHBOARD__HOOKS__SECRET_FILE", "/nowhere/secret"),
        ("SWITCHBOARD__SERVERS__WEB__SECURE", "true"),
        ("SWITCHBOARD__SERVERS__SOCKET__PORT", "many"),
        ("SWITCHBOARD__SERVERS__NONE__PORT", "1"),
        ("BOTS_DISCORD", "unpaired"),
    ] {
        let asked = command(&["commands"], &[TOKEN, elsewhere]);
        assert!(matches!(&asked, Command::Ctl(ctl) if ctl.token.reveal() == "secret"), "{elsewhere:?}: {asked:?}");
    }
    for own in [("SWITCHBOARD__ADMIN__PORT", "many"), ("SWITCHBOARD__ADMIN__TOKEN_FILE", "/nowhere/token")] {
        assert!(usage(&["commands"], &[own]).contains("admin."), "{own:?}");
    }
    assert!(usage(&["commands", "--config", "none.toml"], &[TOKEN]).contains("none.toml"));
}

#[test]
fn mistakes_of_the_command_line_are_told_before_anything_is_sent() {
    for odd in [
        &[][..],
        &["command"],
        &["command", "k"],
        &["command", "--user", "bot"],
        &["command", "--user", "bot", "--all", "k"],
        &["command", "--all", "k", "--timeout", "5"],
        &["command", "--all", "k", "--timeout", "0"],
        &["command", "--all", "k", "--mode", "some"],
        &["command", "--all", "k", "--min-replies", "0"],
        &["command", "--all", "k", "--data", "{"],
        &["command", "--all", r#"{"key":"k"}"#, "--data", "1"],
        &["command", "--all", r#"{"key":"#],
        &["commands", "--limit", "many"],
        &["commands", "--cursor", "a&b"],
        &["cancel"],
        &["cancel", "../rooms"],
    ] {
        usage(odd, &[TOKEN]);
    }
    assert!(usage(&["commands"], &[("SWITCHBOARD__ADMIN__PROT", "1")]).contains("admin.port"));
}

#[test]
fn the_exit_code_says_whether_it_was_done() {
    let of = |status: u16, body: &str| report(&Answer { status, body: body.to_owned() });
    assert_eq!(
        of(200, r#"{"a":1}"#),
        Output { stdout: "{\n  \"a\": 1\n}\n".into(), stderr: String::new(), code: EXIT_OK }
    );
    let refused = of(504, "{\"error\":{\"code\":\"c\",\"message\":\"no \u{9b}reply\"}}");
    assert_eq!((refused.stderr.as_str(), refused.code), ("switchboard: no \\u{9b}reply\n", EXIT_FAILURE));
    assert!(refused.stdout.contains("\"code\": \"c\""), "{refused:?}");
    let stranger = of(401, r#"{"error":{"code":"unauthenticated","message":"m"}}"#);
    assert!(stranger.stderr.contains("SWITCHBOARD__ADMIN__TOKEN_FILE") && stranger.code == EXIT_FAILURE);
    for (status, body) in [(200, "<html>"), (404, ""), (200, "\u{1b}[31m")] {
        let odd = of(status, body);
        assert_eq!((odd.stdout.as_str(), odd.code), ("", EXIT_FAILURE));
        assert!(odd.stderr.contains("no admin API") && !odd.stderr.contains('\u{1b}'), "{odd:?}");
    }
}
