//! Hooks over HTTP: URLs, secrets, and the actions of a backend.

use std::time::Duration;

use super::{Dir, load, load_in, loaded, refused};
use crate::config::{HttpUrl, RemoteAction, show};

const SECRET: &str = "canary-2b7e151628aed2a6";

#[test]
fn actions_of_a_backend_are_read_and_shown() {
    let file = format!(
        "hooks.secret = \"{SECRET}\"\n\
         [[actions.remote]]\nname = \"score\"\nurl = \"https://backend.example:8443/actions?kind=score\"\nversion = 2\n\
         description = \"Counts\"\nrequired = [\"player\"]\noptional = [\"since\", \"until\"]\ntimeout = \"10s\"\n\
         http = true\nhttp_headers = [\"X-Signature\"]\nhttp_answer_headers = [\"location\"]\n\
         [[actions.remote]]\nname = \"ping\"\nurl = \"http://[::1]:8000\"\n"
    );
    let url = |text| HttpUrl::parse(text).unwrap();
    let score = RemoteAction {
        version: 2,
        description: "Counts".into(),
        required: vec!["player".into()],
        optional: vec!["since".into(), "until".into()],
        timeout: Duration::from_secs(10),
        http: true,
        http_headers: vec!["x-signature".into()],
        http_answer_headers: vec!["location".into()],
        ..RemoteAction::new("score", url("https://backend.example:8443/actions?kind=score"))
    };
    let first = loaded(&file, &[], &[]);
    assert_eq!(first.config.actions.remote, [score, RemoteAction::new("ping", url("http://[::1]:8000/"))]);
    let again = loaded(&show(&first), &[("SWITCHBOARD__HOOKS__SECRET", SECRET)], &[]);
    assert_eq!(again.config, first.config);
}

#[test]
fn every_wrong_action_of_a_backend_is_told_with_its_place() {
    let file = "\
[[actions.remote]]
url = \"http://a/\"
[[actions.remote]]
name = \"a\"
url = \"ftp://a/\"
[[actions.remote]]
name = \"b\"
url = \"http://a/\"
nmae = 1
version = -1
required = [1]
timeout = \"1d\"
[[actions.remote]]
name = \"b\"
url = \"http://b/\"
[[actions.remote]]
name = \"c\"
url = \"http://c/\"
http_headers = [\"x-signature\"]
[[actions.remote]]
name = \"d\"
url = \"http://d/\"
http = true
http_headers = [\"x signature\"]
";
    let expected = [
        "switchboard.toml:1: actions.remote[0]: an action needs a name",
        "switchboard.toml:5: actions.remote[1].url: expected an http:// or https:// URL without user, password and \
         fragment, found \"ftp://a/\"",
        "switchboard.toml:9: actions.remote[2].nmae: unknown key; an action has name, url, version, description, \
         required, optional, timeout, require_post, http, http_headers, http_answer_headers",
        "switchboard.toml:10: actions.remote[2].version: expected a whole number from 0 to 4294967295, found -1",
        "switchboard.toml:11: actions.remote[2].required: expected a list of texts, found a list",
        "switchboard.toml:12: actions.remote[2].timeout: expected 0 or a duration from 1ms to 10m, found \"1d\"",
        "switchboard.toml:13: actions.remote[3].name: expected an action that is not in the list yet in this version, \
         found \"b\"",
        "switchboard.toml:16: actions.remote[4].http_headers: expected no headers, since `http` is not true, found \
         [\"x-signature\"]",
        "switchboard.toml:24: actions.remote[5].http_headers: expected a list of header names, found a list",
    ];
    assert_eq!(refused(file).lines().collect::<Vec<_>>(), expected);
}

#[test]
fn what_is_no_url_of_a_backend_is_refused() {
    let with_users = ["http://user:password@a/", "http://user@a/", "http://@a/"];
    let with_ports = ["http://a:/", "http://a:0/", "http://a:65536/", "http://a:x/", "http://:80/"];
    let others = ["", "backend", "/path", "ftp://a/", "http://", "http://a/#part", "http:// a/"];
    for text in with_users.iter().chain(&with_ports).chain(&others) {
        assert_eq!(HttpUrl::parse(text), None, "{text}");
    }
    for text in ["http://a", "https://a.example/x?y=z", "HTTP://127.0.0.1:80/", "http://[::1]:8000/"] {
        assert!(HttpUrl::parse(text).is_some(), "{text}");
    }
}

#[test]
fn whoever_asks_a_backend_signs() {
    let tail = "needs hooks.secret, with which requests are signed; set it, best by SWITCHBOARD__HOOKS__SECRET_FILE in the \
                environment";
    for key in ["connect", "join", "leave", "say", "action"] {
        let key = format!("hooks.{key}.url");
        assert_eq!(refused(&format!("{key} = \"http://a/\"")), format!("switchboard.toml:1: {key}: {tail}"));
    }
    let remote = "actions.remote = [{ name = \"a\", url = \"http://a/\" }]";
    assert_eq!(refused(remote), format!("switchboard.toml:1: actions.remote: {tail}"));
}

#[test]
fn fault_row_57_a_secret_is_neither_shown_nor_printed_nor_told_in_an_error() {
    let dir = Dir::with(&[("secret", SECRET)]);
    let file_env = [("SWITCHBOARD__HOOKS__SECRET_FILE", "secret")];
    let setting = format!("hooks.secret={SECRET}");
    for loaded in [load("", &[], &[&setting]), load_in(&dir.0, &file_env, &[])] {
        let loaded = loaded.unwrap();
        assert_eq!(loaded.config.hooks.secret.reveal(), SECRET);
        let told = format!("{}{:?}{:#?}", show(&loaded), loaded, loaded.config);
        assert!(!told.contains("canary"), "{told}");
        assert!(show(&loaded).contains("#secret = (hidden) # "), "{told}");
    }
    for wrong in ["\"canary\"", "[\"canary-canary-canary\"]", "123456789012345678"] {
        let error = refused(&format!("hooks.secret = {wrong}"));
        assert_eq!(error, "switchboard.toml:1: hooks.secret: expected a text of at least 16 bytes", "{wrong}");
    }
}

#[test]
fn fault_row_57_a_url_is_refused_without_its_password_or_query() {
    for (url, shown) in [
        ("http://user:canary@host/path", "http://***@host/path"),
        ("http://user:ca/nary@canary@host/", "http://***@host/"),
        ("ftp://host/path?key=canary", "ftp://host/path?***"),
        ("http://host/#canary", "http://host/?***"),
        ("http:/user:canary@host", "***@host"),
        ("user:canary@host/?x=canary", "***@host/"),
    ] {
        for (key, value) in [
            ("hooks.say.url", format!("\"{url}\"")),
            ("actions.remote", format!("[{{ name = \"a\", url = \"{url}\" }}]")),
            ("servers.web.allowed_origins", format!("[\"{url}\"]")),
            ("backend.redis.url", format!("\"{url}\"")),
            ("log.level", format!("\"{url}\"")),
        ] {
            let error = refused(&format!("{key} = {value}"));
            assert!(!error.contains("canary"), "{error}");
            assert!(key == "backend.redis.url" || error.contains(&format!("\"{shown}\"")), "{error}");
        }
    }
}
