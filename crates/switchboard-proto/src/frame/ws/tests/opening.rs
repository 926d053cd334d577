//! Who is let in.

use super::*;
use handshake::{Accepted, HandshakeError, accept};

const GOOD: [(&str, &str); 4] = [
    ("Upgrade", "websocket"),
    ("Connection", "Upgrade"),
    ("Sec-WebSocket-Version", "13"),
    ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
];

/// Asks with the headers that must be there, in an order in which none is first by chance, and these.
pub(super) fn ask(more: &[(&str, &str)]) -> Result<Accepted, HandshakeError> {
    let others = [("Host", "localhost"), ("Sec-WebSocket-Protocol", "chat")];
    ask_with(&[&others[..], &GOOD, more].concat())
}

fn ask_with(headers: &[(&str, &str)]) -> Result<Accepted, HandshakeError> {
    accept("GET", (1, 1), headers.iter().map(|(name, value)| (*name, value.as_bytes())), true)
}

/// Asks with one of the headers that must be there replaced, or left out.
fn ask_but(name: &str, value: Option<&str>) -> Result<Accepted, HandshakeError> {
    let headers = GOOD.into_iter().filter_map(|good| if good.0 == name { Some((name, value?)) } else { Some(good) });
    ask_with(&headers.collect::<Vec<_>>())
}

#[test]
fn the_key_of_the_rfc_is_answered_as_in_the_rfc() {
    let accepted = ask(&[]).unwrap();
    assert_eq!(
        accepted,
        Accepted {
            accept: "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=".to_owned(),
            deflate: None,
            protocol: Some("chat".to_owned())
        }
    );
}

#[test]
fn headers_are_understood_in_every_spelling() {
    for (name, value) in [
        ("Upgrade", "WebSocket"),
        ("Upgrade", "h2c, WEBSOCKET"),
        ("Upgrade", " websocket\t"),
        ("Connection", "keep-alive, Upgrade"),
        ("Connection", "upgrade,close"),
        ("Connection", ",UPGRADE,"),
        ("Sec-WebSocket-Version", " 13 "),
        ("Sec-WebSocket-Key", " dGhlIHNhbXBsZSBub25jZQ== "),
    ] {
        assert!(ask_but(name, Some(value)).is_ok(), "{name}: {value}");
    }
    let upper: Vec<(String, &str)> = GOOD.iter().map(|(name, value)| (name.to_uppercase(), *value)).collect();
    assert!(ask_with(&upper.iter().map(|(name, value)| (name.as_str(), *value)).collect::<Vec<_>>()).is_ok());
    let split = [("Upgrade", "h2c"), GOOD[0], ("Connection", "keep-alive"), GOOD[1], GOOD[2], GOOD[3]];
    assert!(ask_with(&split).is_ok());
}

#[test]
fn what_is_missing_or_wrong_is_told() {
    for (name, value, error, status) in [
        ("Upgrade", None, HandshakeError::NoUpgrade, 426),
        ("Upgrade", Some("h2c"), HandshakeError::NoUpgrade, 426),
        ("Upgrade", Some("websockets"), HandshakeError::NoUpgrade, 426),
        ("Upgrade", Some("web socket"), HandshakeError::NoUpgrade, 426),
        ("Connection", None, HandshakeError::Connection, 400),
        ("Connection", Some("keep-alive"), HandshakeError::Connection, 400),
        ("Connection", Some("upgraded"), HandshakeError::Connection, 400),
        ("Sec-WebSocket-Version", None, HandshakeError::Version, 426),
        ("Sec-WebSocket-Version", Some("8"), HandshakeError::Version, 426),
        ("Sec-WebSocket-Version", Some("013"), HandshakeError::Version, 426),
        ("Sec-WebSocket-Version", Some("13, 8"), HandshakeError::Version, 426),
        ("Sec-WebSocket-Version", Some("+13"), HandshakeError::Version, 426),
        ("Sec-WebSocket-Key", None, HandshakeError::Key, 400),
        ("Sec-WebSocket-Key", Some(""), HandshakeError::Key, 400),
        ("Sec-WebSocket-Key", Some("dGhlIHNhbXBsZSBub25jZQ"), HandshakeError::Key, 400),
        ("Sec-WebSocket-Key", Some("dGhlIHNhbXBsZSBub25jZQ=a"), HandshakeError::Key, 400),
        ("Sec-WebSocket-Key", Some("dGhlIHNhbXBsZSBub25jZWE="), HandshakeError::Key, 400),
        ("Sec-WebSocket-Key", Some("dGhlIHNhbXBsZSBub25jZWFh"), HandshakeError::Key, 400),
        ("Sec-WebSocket-Key", Some("dGhlIHNhbXBsZSBub25j!Q=="), HandshakeError::Key, 400),
        ("Sec-WebSocket-Key", Some("dGhlIHNhbXBsZSBub25jZQ==dGhlIHNhbXBsZSBub25jZQ=="), HandshakeError::Key, 400),
    ] {
        let got = ask_but(name, value).unwrap_err();
        assert_eq!((got, got.status()), (error, status), "{name}: {value:?}");
    }
}

#[test]
fn the_first_sub_protocol_offered_is_answered() {
    for (lines, answered) in [
        (&["chat"][..], Some("chat")),
        (&["v2.chat+json, chat"], Some("v2.chat+json")),
        (&[", \tchat ,,other"], Some("chat")),
        (&["", "chat", "other"], Some("chat")),
        (&[""], None),
        (&[], None),
    ] {
        let headers: Vec<_> = lines.iter().map(|line| ("sec-webSocket-PROTOCOL", *line)).collect();
        let accepted = ask_with(&[&GOOD[..], &headers].concat()).unwrap();
        assert_eq!(accepted.protocol.as_deref(), answered, "{lines:?}");
    }
    for odd in ["a b", "chat, a/b", "\"chat\"", "chat;q=1", "\u{e9}", "chat, (x)"] {
        assert_eq!(
            ask_with(&[&GOOD[..], &[("Sec-WebSocket-Protocol", odd)]].concat()),
            Err(HandshakeError::Protocol),
            "{odd}"
        );
    }
}

#[test]
fn key_and_version_are_there_once() {
    assert_eq!(ask(&[GOOD[3]]).unwrap_err(), HandshakeError::Key);
    assert_eq!(ask(&[("sec-websocket-key", "other")]).unwrap_err(), HandshakeError::Key);
    assert_eq!(ask(&[GOOD[2]]).unwrap_err(), HandshakeError::Version);
}

#[test]
fn only_get_over_http_1_1_opens_a_websocket() {
    let ask = |method, version| {
        let headers = GOOD.iter().map(|(name, value)| (*name, value.as_bytes()));
        accept(method, version, headers, true).map(|_| ()).map_err(|error| (error, error.status()))
    };
    assert_eq!(ask("GET", (1, 1)), Ok(()));
    for method in ["POST", "get", "CONNECT", ""] {
        assert_eq!(ask(method, (1, 1)), Err((HandshakeError::Method, 400)), "{method}");
    }
    for version in [(0, 9), (1, 0), (2, 0), (3, 0)] {
        assert_eq!(ask("GET", version), Err((HandshakeError::HttpVersion, 400)), "{version:?}");
    }
}

#[test]
fn a_426_says_what_would_do() {
    assert_eq!(HandshakeError::NoUpgrade.headers(), [("Upgrade", "websocket")]);
    assert!(HandshakeError::Version.headers().contains(&("Sec-WebSocket-Version", "13")));
    assert!(HandshakeError::Key.headers().is_empty());
}

#[test]
fn compression_is_agreed_only_where_the_operator_wants_it() {
    let headers = [&GOOD[..], &[("Sec-WebSocket-Extensions", "permessage-deflate")]].concat();
    let headers = || headers.iter().map(|(name, value)| (*name, value.as_bytes()));
    assert!(accept("GET", (1, 1), headers(), true).unwrap().deflate.is_some());
    assert!(accept("GET", (1, 1), headers(), false).unwrap().deflate.is_none());
}

#[test]
fn headers_of_any_bytes_are_refused_or_passed_over() {
    for byte in 0..=255u8 {
        for (name, _) in GOOD.into_iter().chain([("Sec-WebSocket-Extensions", "")]) {
            let headers = GOOD.iter().map(|(name, value)| (*name, value.as_bytes()));
            let value = [byte, byte];
            let _ = accept("GET", (1, 1), headers.chain([(name, &value[..])]), true);
        }
    }
}
