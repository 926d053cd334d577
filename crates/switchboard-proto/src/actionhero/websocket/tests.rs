//! Conversations over a WebSocket, as text: see [`crate::talk`].

use std::io;

use serde_json::json;

use super::super::WebSocketSettings;
use super::*;
use crate::peer::{PeerKind, Step};
use crate::talk::{Talk, check, client_frame};

mod commands;

fn talk_with(change: impl FnOnce(&mut WebSocketSettings)) -> Talk {
    let kind = PeerKind::WebSocket { deflate: false };
    Talk::new(kind, |settings| change(&mut settings.websocket))
}

fn auto() -> Talk {
    talk_with(|_| {})
}

fn modern() -> Talk {
    talk_with(|settings| settings.compat = Compat::Modern)
}

/// Moves the clock and lets the peer look at it.
fn wait_until(talk: &mut Talk, monotonic_ms: u64) {
    talk.now.monotonic_ms = monotonic_ms;
    talk.with(|peer, cx| peer.on_deadline(cx));
}

#[test]
fn the_welcome_is_the_first_message_and_has_no_number() {
    let mut talk = auto();
    talk.with(|peer, cx| peer.on_open(cx));
    assert_eq!(talk.received(), "{\"welcome\":\"Hello! Welcome to the actionhero api\",\"context\":\"api\"}\n");
}

#[test]
fn requests_are_counted_and_answered_as_on_the_line() {
    check(
        &mut auto(),
        r#"
        > {"event":"detailsView"}
        ? details
        ! rooms
        < {"status":"OK","context":"response","data":{"id":"00000000-0000-4000-8000-000000000000","fingerprint":null,"remoteIP":"10.0.0.1","remotePort":57393,"params":{},"connectedAt":1368918901456,"rooms":["r"],"totalActions":0,"pendingActions":0},"messageCount":1}
        > {"event":"documentation"}
        ? documentation
        ! docs
        < {"status":"OK","context":"response","data":{"a":{}},"messageCount":2}
        > {"event":"action","params":{"action":"randomNumber"}}
        ? action action="randomNumber"
        ! reply
        < {"x":1,"context":"response","messageCount":3}
        > {"event":"action"}
        ? action 
        ! unknown
        < {"error":"Error: unknown action or invalid apiVersion","context":"response","messageCount":4}
        > {"event":"action","params":{"action":"cacheTest","key":"k","n":[1]}}
        ? action action="cacheTest" key="k" n=[1]
        ! missing
        < {"error":"Error: key is a required parameter for this action","context":"response","messageCount":5}
        > {"event":"action","params":"text"}
        ? action 
        ! crashed
        < {"error":"Error: The server experienced an internal error","context":"response","messageCount":6}
        "#,
    );
}

#[test]
fn rooms_are_joined_viewed_left_and_spoken_in() {
    check(
        &mut auto(),
        r#"
        > {"event":"roomAdd","room":"r"}
        ? join r
        ! joined
        < {"status":"OK","context":"response","data":true,"messageCount":1}
        > {"event":"roomAdd","room":"r"}
        ? join r
        ! inside
        < {"status":"connection already in this room","context":"response","data":false,"messageCount":2}
        > {"event":"roomAdd"}
        < {"status":"room does not exist","context":"response","data":false,"messageCount":3}
        > {"event":"roomView","room":"r"}
        ? status r
        ! status
        < {"status":"OK","context":"response","data":{"room":"r","members":{"00000000-0000-4000-8000-000000000001":{"id":"00000000-0000-4000-8000-000000000001","joinedAt":5}},"membersCount":1},"messageCount":4}
        > {"event":"roomView","room":"r"}
        ? status r
        ! outside
        < {"status":"not member of room r","context":"response","messageCount":5}
        > {"event":"roomView"}
        < {"status":"not member of room undefined","context":"response","messageCount":6}
        > {"event":"say","message":"hello","room":"r"}
        ? say r "hello"
        ! said
        < {"status":"OK","context":"response","data":null,"messageCount":7}
        > {"event":"say","room":"r","message":{"deep":true}}
        ? say r "[object Object]"
        ! outside
        < {"status":"connection not in this room","context":"response","messageCount":8}
        > {"event":"say","room":"two words","message":42}
        ? say two words "42"
        ! said
        < {"status":"OK","context":"response","data":null,"messageCount":9}
        > {"event":"say","room":"r"}
        < {"status":"both room and message are required","context":"response","messageCount":10}
        > {"event":"say","room":"r","message":""}
        < {"status":"both room and message are required","context":"response","messageCount":11}
        > {"event":"roomLeave","room":"r"}
        ? leave r
        ! left
        < {"status":"OK","context":"response","data":true,"messageCount":12}
        > {"event":"roomLeave"}
        < {"status":"connection not in this room","context":"response","data":false,"messageCount":13}
        "#,
    );
}

#[test]
fn what_is_no_request_is_counted_ignored_or_answered_as_an_unknown_verb() {
    check(
        &mut auto(),
        r#"
        > {"event":"paramAdd","key":"k","value":"v"}
        < {"status":"verb not found or not allowed","context":"response","data":null,"messageCount":1}
        > {}
        < {"status":"verb not found or not allowed","context":"response","data":null,"messageCount":2}
        > null
        < {"status":"verb not found or not allowed","context":"response","data":null,"messageCount":3}
        > "primus::nonsense::x"
        < {"status":"verb not found or not allowed","context":"response","data":null,"messageCount":4}
        > not json
        > []
        < {"status":"verb not found or not allowed","context":"response","data":null,"messageCount":5}
        "#,
    );
}

#[test]
fn half_a_surrogate_pair_becomes_the_replacement_character() {
    check(
        &mut auto(),
        r#"
        > {"event":"say","room":"r","message":"x\ud83d","messageId":"s1\ude00"}
        ? say r "x�"
        ! said
        < {"status":"OK","context":"response","data":null,"messageCount":1,"messageId":"s1�"}
        > {"event":"setCustomClientData","data":{"n":1.50,"\ud83d":"\ud83d\ude00"},"\udfff":1}
        ? client data {"n":1.50,"\ufffd":"\ud83d\ude00"}
        ! set
        < {"status":"OK","context":"response","data":true,"messageCount":2}
        "#,
    );
}

#[test]
fn fault_row_6_json_beyond_a_limit_is_refused_under_its_number_and_id() {
    let deep = "[".repeat(40) + &"]".repeat(40);
    let talk = format!(
        r#"
        > {{"event":"say","room":"r","message":{deep},"messageId":"s1"}}
        < {{"status":"JSON is nested deeper than 32 levels","context":"response","messageCount":1,"messageId":"s1"}}
        > {{"messageId":[2],"event":"roomAdd","room":"r","room":"r"}}
        < {{"status":"a JSON object names a member twice","context":"response","messageCount":2,"messageId":[2]}}
        > {{"event":"action","params":{{"action":"a"}},"messageId":{deep}}}
        < {{"error":"Error: JSON is nested deeper than 32 levels","context":"response","messageCount":3}}
        > {{"event":"file","file":"a","n":1e999}}
        < {{"error":"Error: a number in JSON is out of range","context":"response","messageCount":4}}
        > {{"event":"quit","event":"detailsView","x":{deep}}}
        < {{"status":"a JSON object names a member twice","context":"response","messageCount":5}}
        > {deep}
        < {{"status":"JSON is nested deeper than 32 levels","context":"response","messageCount":6}}
        "#
    );
    check(&mut auto(), &talk);
    let twice = r#"{"event":"roomAdd","messageId":7,"room":"r","room":"r"}"#;
    check(
        &mut talk_with(|settings| settings.compat = Compat::Classic),
        &format!(
            "> {twice}\n< {}\n",
            r#"{"status":"a JSON object names a member twice","context":"response","messageCount":1}"#
        ),
    );
    let reason = r#""Error: a JSON object names a member twice""#;
    check(
        &mut modern(),
        &format!(
            "> {twice}\n< {{\"status\":{reason},\"error\":{reason},\"context\":\"response\",\"data\":{{}},\"messageId\":7}}\n"
        ),
    );
}

#[test]
fn a_broken_object_is_answered_without_a_number() {
    check(
        &mut auto(),
        r#"
        > {"event":"say",
        < {"error":"not JSON: EOF while parsing a value at line 1 column 15","context":"api"}
        > {event:"say"}
        < {"error":"not JSON: key must be a string at line 1 column 2","context":"api"}
        > {}
        < {"status":"verb not found or not allowed","context":"response","data":null,"messageCount":1}
        "#,
    );
}

#[test]
fn a_binary_message_is_read_as_text() {
    let mut talk = auto();
    talk.send(&client_frame(0x82, br#"{"event":"nothing","messageId":1}"#));
    talk.send(&client_frame(0x82, b"{\"event\":\"nothing\",\"messageId\":\"\xff\"}"));
    talk.send(&client_frame(0x82, b"\"primus::ping::7\""));
    let refused = r#"{"status":"verb not found or not allowed","context":"response","data":null"#;
    assert_eq!(
        talk.received(),
        format!(
            "{refused},\"messageCount\":1,\"messageId\":1}}\n\
             {refused},\"messageCount\":2,\"messageId\":\"�\"}}\n\"primus::pong::7\"\n"
        )
    );
}

#[test]
fn the_transport_is_answered_and_not_counted() {
    check(
        &mut auto(),
        r#"
        > "primus::ping::1399437579346"
        < "primus::pong::1399437579346"
        > "primus::id::"
        < "primus::id::00000000-0000-4000-8000-000000000000"
        > "primus::pong::7"
        > {}
        < {"status":"verb not found or not allowed","context":"response","data":null,"messageCount":1}
        "#,
    );
}

#[test]
fn auto_returns_a_message_id_with_its_type_beside_the_number() {
    check(
        &mut auto(),
        r#"
        > {"event":"action","params":{"action":"a"},"messageId":7}
        ? action action="a"
        > {"event":"action","params":{"action":"b"},"messageId":"x"}
        ! reply
        < {"x":1,"context":"response","messageCount":1,"messageId":7}
        ! reply
        < {"x":1,"context":"response","messageCount":2,"messageId":"x"}
        > {"messageId":null}
        < {"status":"verb not found or not allowed","context":"response","data":null,"messageCount":3,"messageId":null}
        "#
        .replace("        > {\"event\":\"action\",\"params\":{\"action\":\"b\"},\"messageId\":\"x\"}\n", "        > {\"event\":\"action\",\"params\":{\"action\":\"b\"},\"messageId\":\"x\"}\n        ? action action=\"b\"\n")
        .as_str(),
    );
}

#[test]
fn modern_words_refusals_as_generation_29() {
    let mut talk = modern();
    assert_eq!(talk.facts.fingerprint(), Some("00000000-0000-4000-8000-000000000000"));
    check(
        &mut talk,
        r#"
        > {"event":"roomAdd","room":"r","messageId":12}
        ? join r
        ! inside
        < {"status":"Error: connection already in this room (r)","error":"Error: connection already in this room (r)","context":"response","data":{},"messageId":12}
        > {"event":"paramAdd","messageId":22}
        < {"status":"Error: verb not found or not allowed (paramAdd)","error":"Error: verb not found or not allowed (paramAdd)","context":"response","data":{},"messageId":22}
        > {"event":"action","messageId":2}
        ? action 
        ! missing
        < {"error":"key is a required parameter for this action","context":"response","messageId":2}
        > {"event":"file","file":"x","messageId":9}
        ? file "x"
        ! no file
        < {"error":"that file is not found","content":null,"mime":"text/html","length":22,"context":"response","messageId":9}
        > {"event":"say","room":"r","message":"m"}
        ? say r "m"
        ! said
        < {"status":"OK","context":"response","messageId":"00000000-0000-4000-8000-000000000000"}
        "#,
    );
}

#[test]
fn one_action_too_many_is_refused_at_once_and_still_counts() {
    let mut talk = talk_with(|settings| settings.pending_max = 1);
    check(
        &mut talk,
        r#"
        > {"event":"action","params":{"action":"slow"}}
        ? action action="slow"
        > {"event":"action","params":{"action":"fast"}}
        < {"error":"Error: you have too many pending requests","context":"response","messageCount":2}
        ! reply
        < {"x":1,"context":"response","messageCount":1}
        > {"event":"detailsView"}
        ? details
        ! rooms
        < {"status":"OK","context":"response","data":{"id":"00000000-0000-4000-8000-000000000000","fingerprint":null,"remoteIP":"10.0.0.1","remotePort":57393,"params":{},"connectedAt":1368918901456,"rooms":["r"],"totalActions":2,"pendingActions":0},"messageCount":3}
        "#,
    );
}

#[test]
fn params_beyond_their_limits_are_refused() {
    let mut talk = talk_with(|settings| settings.params.count = 1);
    check(
        &mut talk,
        r#"
        > {"event":"action","params":{"action":"a","b":1}}
        < {"error":"Error: too many params","context":"response","messageCount":1}
        "#,
    );
}

#[derive(Debug)]
struct Page;

impl Content for Page {
    fn length(&self) -> u64 {
        6
    }

    fn read_at(&self, offset: u64, piece: &mut [u8]) -> io::Result<usize> {
        let rest = &b"<b>\xe2\x80\xa8"[offset as usize..];
        let count = rest.len().min(piece.len());
        piece[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }

    fn media_type(&self) -> &str {
        "text/html"
    }

    fn modified_ms(&self) -> Option<u64> {
        Some(0)
    }
}

#[test]
fn a_file_travels_inside_a_message() {
    let mut talk = auto();
    let frame = client_frame(0x81, br#"{"event":"file","file":"page.html"}"#);
    talk.send(&frame);
    let (token, call) = talk.calls.remove(0);
    assert_eq!(call, "file \"page.html\"");
    talk.with(|peer, cx| peer.on_outcome(token, Ok(Answer::File(Arc::new(Page))), cx));
    let content = talk.fx.content.take().unwrap();
    let piece = content.piece(0, 1024).unwrap();
    talk.fx.bytes = piece.bytes;
    assert_eq!(
        talk.received(),
        "{\"error\":null,\"content\":\"<b>\\u2028\",\"mime\":\"text/html\",\"length\":6,\
         \"lastModified\":\"1970-01-01T00:00:00.000Z\",\"context\":\"response\",\"messageCount\":1}\n"
    );
    assert_eq!(piece.consumed, content.length());
}

#[test]
fn a_direct_message_without_a_context_becomes_a_response_with_the_current_number() {
    let mut talk = auto();
    talk.send(&client_frame(0x81, b"{}"));
    talk.received();
    for (sent, received) in [
        (json!({"hello": "direct"}), "{\"hello\":\"direct\",\"context\":\"response\",\"messageCount\":1}\n"),
        (json!({}), "{\"context\":\"response\",\"messageCount\":1}\n"),
        (json!({"context": "alert"}), "{\"context\":\"alert\"}\n"),
        (json!({"context": "response", "messageId": 1}), "{\"context\":\"response\",\"messageId\":1}\n"),
        (json!("text\u{2028}"), "\"text\\u2028\"\n"),
    ] {
        let event = Fact::Message(RawJson::from_value(&sent));
        talk.with(|peer, cx| peer.on_event(&event, cx));
        assert_eq!(talk.received(), received);
    }
}

#[test]
fn a_client_that_does_not_ping_is_pinged_and_one_that_does_is_not() {
    let mut talk = auto();
    talk.now.unix_ms = 1;
    talk.with(|peer, cx| peer.on_open(cx));
    talk.received();
    assert_eq!(talk.fx.wake_at_ms, Some(30_000));
    wait_until(&mut talk, 30_000);
    assert_eq!(talk.received(), "\"primus::ping::1\"\n");
    assert_eq!(talk.fx.wake_at_ms, Some(60_000));

    talk.now.monotonic_ms = 55_000;
    check(&mut talk, "> \"primus::ping::2\"\n< \"primus::pong::2\"\n");
    wait_until(&mut talk, 60_000);
    assert_eq!(talk.received(), "");
    assert_eq!(talk.fx.wake_at_ms, Some(90_000));
    wait_until(&mut talk, 90_000);
    assert_eq!(talk.received(), "\"primus::ping::1\"\n");
}

#[test]
fn fault_row_41_a_client_that_says_nothing_is_given_up() {
    let mut talk = auto();
    talk.with(|peer, cx| peer.on_open(cx));
    wait_until(&mut talk, 30_000);
    wait_until(&mut talk, 60_000);
    assert_eq!((talk.fx.close, talk.fx.wake_at_ms), (None, Some(75_000)));
    talk.received();
    wait_until(&mut talk, 75_000);
    assert_eq!(talk.received(), "(close 1001)\n");
    assert_eq!(talk.fx.close, Some(CloseReason::Silence));
}

#[test]
fn fault_row_41_a_client_that_takes_a_file_slowly_is_not_silent() {
    let mut talk = auto();
    talk.with(|peer, cx| peer.on_open(cx));
    wait_until(&mut talk, 60_000);
    talk.with(|peer, cx| peer.on_piece(cx.now.monotonic_ms));
    wait_until(&mut talk, 134_999);
    assert_eq!(talk.fx.close, None);
    wait_until(&mut talk, 135_000);
    assert_eq!(talk.fx.close, Some(CloseReason::Silence));
}

#[test]
fn fault_row_12_a_message_that_takes_too_long_ends_the_connection() {
    let mut talk = auto();
    talk.with(|peer, cx| peer.on_open(cx));
    talk.received();
    talk.now.monotonic_ms = 1000;
    let frame = client_frame(0x81, b"{}");
    talk.send(&frame[..3]);
    assert_eq!(talk.fx.wake_at_ms, Some(11_000));
    // A whole message in between is not what it waits for.
    talk.now.monotonic_ms = 9000;
    talk.send(&frame[3..]);
    talk.received();
    wait_until(&mut talk, 11_000);
    // What was asked for when it opened comes all the same: nothing is asked for a second time.
    assert_eq!((talk.fx.close, talk.fx.wake_at_ms), (None, None));

    talk.send(&frame[..1]);
    assert_eq!(talk.fx.wake_at_ms, Some(21_000));
    talk.now.monotonic_ms = 20_999;
    talk.send(&frame[1..7]);
    wait_until(&mut talk, 21_000);
    assert_eq!(talk.received(), "(close 1008 message takes too long)\n");
    assert_eq!(talk.fx.close, Some(CloseReason::Limit));
}

#[test]
fn fault_row_12_pings_inside_a_message_do_not_prolong_it() {
    let mut talk = auto();
    talk.with(|peer, cx| peer.on_open(cx));
    talk.send(&client_frame(0x01, b"{"));
    for at_ms in [4000, 8000] {
        talk.now.monotonic_ms = at_ms;
        talk.send(&client_frame(0x89, b""));
    }
    talk.received();
    wait_until(&mut talk, 10_000);
    assert_eq!(talk.fx.close, Some(CloseReason::Limit));
}

#[test]
fn a_client_that_begins_many_messages_is_watched_by_one_alarm() {
    let mut talk = auto();
    talk.with(|peer, cx| peer.on_open(cx));
    let frame = client_frame(0x81, b"{}");
    let mut alarms = 0;
    for at_ms in 1..100 {
        talk.now.monotonic_ms = at_ms;
        for half in [&frame[..4], &frame[4..]] {
            talk.send(half);
            alarms += u32::from(talk.fx.wake_at_ms.is_some());
        }
    }
    assert_eq!(alarms, 1);
}

#[test]
fn fault_row_1_what_is_not_the_protocol_is_closed_with_its_code() {
    for (bytes, seen, reason) in [
        (client_frame(0x83, b""), "(close 1002 reserved opcode)\n", CloseReason::Protocol),
        (client_frame(0x81, b"\xff"), "(close 1007 text is not UTF-8)\n", CloseReason::Protocol),
        (client_frame(0x81, &[b'x'; 65_000]), "", CloseReason::TooLarge),
    ] {
        let mut talk = talk_with(|settings| settings.limits.max_message_bytes = 1000);
        talk.send(&bytes);
        assert_eq!(talk.fx.close, Some(reason));
        let received = talk.received();
        assert!(received == seen || seen.is_empty() && received.starts_with("(close 1009 "), "{received}");
    }
}

#[test]
fn websocket_pings_are_answered_and_a_close_is_echoed() {
    let mut talk = auto();
    talk.send(&client_frame(0x89, b"there?"));
    assert_eq!(talk.received(), "(pong there?)\n");
    talk.send(&client_frame(0x82, b"bytes"));
    assert_eq!(talk.received(), "");
    talk.send(&client_frame(0x88, &[0x03, 0xe9]));
    assert_eq!(talk.received(), "(close 1001)\n");
    assert_eq!(talk.fx.close, Some(CloseReason::ClientLeft));
}

#[test]
fn ends_that_are_meant_tell_the_client_not_to_return_and_others_do_not() {
    let mut talk = auto();
    check(&mut talk, "> {\"event\":\"quit\"}\n< \"primus::server::close\"\n< (close 1000)\n");
    assert_eq!(talk.fx.close, Some(CloseReason::ClientLeft));

    let mut talk = auto();
    talk.with(|peer, cx| peer.on_removed(cx));
    assert_eq!(talk.received(), "\"primus::server::close\"\n(close 1000)\n");
    assert_eq!(talk.fx.close, Some(CloseReason::Removed));

    let mut talk = auto();
    talk.with(|peer, cx| peer.on_refused(&CallError::Refused("banned".into()), cx));
    assert_eq!(
        talk.received(),
        "{\"error\":\"banned\",\"context\":\"api\"}\n\"primus::server::close\"\n(close 1008)\n"
    );
    assert_eq!(talk.fx.close, Some(CloseReason::Refused));

    let mut talk = talk_with(|settings| settings.drain_spread_ms = 0);
    talk.with(|peer, cx| peer.on_shutdown(cx));
    assert_eq!(talk.received(), "(close 1012)\n");
    assert_eq!(talk.fx.close, Some(CloseReason::Shutdown));
}

#[test]
fn fault_row_37_a_planned_stop_is_spread_and_waits_for_pending_actions() {
    let mut talk = auto();
    talk.with(|peer, cx| peer.on_open(cx));
    talk.received();
    talk.send(&client_frame(0x81, br#"{"event":"action","params":{"action":"slow"}}"#));
    talk.random = 4000;
    talk.with(|peer, cx| peer.on_shutdown(cx));
    assert_eq!((talk.fx.close, talk.fx.wake_at_ms), (None, Some(4000)));
    check(
        &mut talk,
        r#"
        > {"event":"action","params":{"action":"fast"}}
        < {"error":"Error: the server is shutting down","context":"response","messageCount":2}
        "#,
    );
    wait_until(&mut talk, 4000);
    assert_eq!(talk.fx.close, None);
    check(&mut talk, "! reply\n< {\"x\":1,\"context\":\"response\",\"messageCount\":1}\n< (close 1012)\n");
    assert_eq!(talk.fx.close, Some(CloseReason::Shutdown));
}

#[test]
fn nothing_that_waits_is_kept_for_a_client_that_asks_nothing() {
    let mut talk = auto();
    assert_eq!(talk.with(|peer, cx| peer.feed(&mut &b""[..], cx)), Step::NeedInput);
    assert!(size_of::<WebSocketFace>() <= 48, "{}", size_of::<WebSocketFace>());
}
