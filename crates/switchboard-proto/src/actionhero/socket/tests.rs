//! Conversations in the line protocol, as text: see [`crate::talk`].

use std::sync::Arc;

use serde_json::json;

use super::super::{Compat, SocketSettings};
use super::*;
use crate::json::RawJson;
use crate::peer::{Peer, PeerKind, Step};
use crate::talk::{Talk, check};

mod commands;

fn talk_with(change: impl FnOnce(&mut SocketSettings)) -> Talk {
    Talk::new(PeerKind::Socket, |settings| change(&mut settings.socket))
}

fn auto() -> Talk {
    talk_with(|_| {})
}

fn modern() -> Talk {
    talk_with(|settings| {
        settings.compat = Compat::Modern;
        settings.goodbye_message = "Bye".into();
    })
}

#[test]
fn the_welcome_line_comes_first_and_has_no_number() {
    let mut talk = auto();
    talk.with(|peer, cx| peer.on_open(cx));
    assert_eq!(talk.received(), "{\"welcome\":\"Hello! Welcome to the actionhero api\",\"context\":\"api\"}\n");
}

#[test]
fn the_welcome_line_can_wait_or_stay_away() {
    let mut talk = talk_with(|settings| settings.welcome_delay_ms = 50);
    talk.with(|peer, cx| peer.on_open(cx));
    assert_eq!((talk.received().as_str(), talk.fx.wake_at_ms), ("", Some(50)));
    talk.with(|peer, cx| peer.on_deadline(cx));
    assert!(talk.received().starts_with("{\"welcome\""));

    let mut talk = talk_with(|settings| settings.welcome_message.clear());
    talk.with(|peer, cx| peer.on_open(cx));
    assert_eq!(talk.received(), "");
}

#[test]
fn fault_row_64_a_browser_that_a_page_sends_here_is_answered_in_http_and_nothing_is_carried_out() {
    let long = format!("POST /{} HTTP/1.1", "x".repeat(70_000));
    for first in ["POST / HTTP/1.1", long.as_str(), "paramAdd a=b"] {
        let mut talk = auto();
        let lines = if first == "POST / HTTP/1.1" { "" } else { "Host: localhost:5000\r\n" };
        talk.send(format!("{first}\r\n{lines}").as_bytes());
        assert_eq!(talk.fx.close, Some(CloseReason::Protocol), "{first:.20}");
        let received = talk.received();
        assert!(received.ends_with(&foreign::ANSWER.replace("\r\n", "\n")), "{first:.20}: {received}");
    }
}

#[test]
fn sticky_params_are_added_viewed_and_deleted() {
    check(
        &mut auto(),
        r#"
        > paramAdd key=v
        < {"status":"OK","context":"response","data":null,"messageCount":1}
        > paramView key
        < {"status":"OK","context":"response","data":"v","messageCount":2}
        > paramAdd key w
        < {"status":"OK","context":"response","data":null,"messageCount":3}
        > paramAdd key=a=b=c
        < {"status":"OK","context":"response","data":null,"messageCount":4}
        > paramAdd two=two words
        < {"status":"OK","context":"response","data":null,"messageCount":5}
        > paramAdd empty=
        < {"status":"OK","context":"response","data":null,"messageCount":6}
        > paramsView
        < {"status":"OK","context":"response","data":{"key":"a","two":"two","empty":""},"messageCount":7}
        > paramAdd two
        < {"status":"OK","context":"response","data":null,"messageCount":8}
        > paramView two
        < {"status":"OK","context":"response","messageCount":9}
        > paramAdd
        < {"status":"OK","context":"response","data":null,"messageCount":10}
        > paramDelete key
        < {"status":"OK","context":"response","data":null,"messageCount":11}
        > paramDelete
        < {"status":"OK","context":"response","data":null,"messageCount":12}
        > paramsView
        < {"status":"OK","context":"response","data":{"empty":""},"messageCount":13}
        > paramsDelete
        < {"status":"OK","context":"response","data":null,"messageCount":14}
        > paramsView
        < {"status":"OK","context":"response","data":{},"messageCount":15}
        > paramView
        < {"status":"OK","context":"response","messageCount":16}
        "#,
    );
}

#[test]
fn a_word_becomes_the_sticky_action_and_json_replaces_params() {
    check(
        &mut auto(),
        r#"
        > paramAdd key=k
        < {"status":"OK","context":"response","data":null,"messageCount":1}
        > cacheTest ignored words
        ? action key="k" action="cacheTest"
        ! reply
        < {"x":1,"context":"response","messageCount":2}
        > {"action":"other","params":{"a":{"b":[1]}}}
        ? action a={"b":[1]} action="other"
        ! empty
        < {"context":"response","messageCount":3}
        > {}
        ? action a={"b":[1]} action="other"
        ! missing
        < {"error":"Error: key is a required parameter for this action","context":"response","messageCount":4}
        > {"params":{"key":"x"}}
        ? action key="x"
        ! unknown
        < {"error":"Error: unknown action or invalid apiVersion","context":"response","messageCount":5}
        > null
        ? action key="x" action="null"
        ! failed
        < {"error":"Error: no luck","partial":true,"context":"response","messageCount":6}
        "#,
    );
}

#[test]
fn a_pending_action_keeps_the_params_it_started_with() {
    let mut talk = auto();
    talk.send(b"paramAdd n=1\r\n");
    talk.send(b"one\r\n");
    talk.send(b"paramAdd n=2\r\n");
    talk.send(b"{\"action\":\"two\",\"params\":{}}\r\n");
    assert_eq!(
        talk.calls.iter().map(|(_, call)| call.as_str()).collect::<Vec<_>>(),
        ["action n=\"1\" action=\"one\"", "action action=\"two\""]
    );
}

#[test]
fn actions_answer_in_any_order_with_their_own_numbers() {
    let mut talk = auto();
    talk.send(b"slow\r\nfast\r\n");
    let fast = talk.calls.pop().unwrap().0;
    talk.with(|peer, cx| peer.on_outcome(fast, Ok(Answer::Action(Reply::new().with("fast", true))), cx));
    talk.outcome(Ok(Answer::Action(Reply::new().with("slow", true))));
    assert_eq!(
        talk.received(),
        "{\"fast\":true,\"context\":\"response\",\"messageCount\":2}\n\
         {\"slow\":true,\"context\":\"response\",\"messageCount\":1}\n"
    );
}

#[test]
fn a_verb_that_waits_holds_up_what_is_behind_it() {
    let mut talk = auto();
    let mut input: &[u8] = b"roomAdd r\r\nsay r hi\r\n";
    assert_eq!(talk.with(|peer, cx| peer.feed(&mut input, cx)), Step::Frame);
    assert_eq!(talk.with(|peer, cx| peer.feed(&mut input, cx)), Step::Waiting);
    assert_eq!(input, b"say r hi\r\n");
    talk.outcome(Ok(Answer::Joined));
    assert_eq!(talk.with(|peer, cx| peer.feed(&mut input, cx)), Step::Frame);
    assert_eq!(talk.calls[0].1, "say r \"hi\"");
}

#[test]
fn room_verbs_have_their_answers_and_refusals() {
    check(
        &mut auto(),
        r#"
        > roomAdd r
        ? join r
        ! joined
        < {"status":"OK","context":"response","data":true,"messageCount":1}
        > roomAdd r
        ? join r
        ! inside
        < {"status":"connection already in this room","context":"response","data":false,"messageCount":2}
        > roomAdd x
        ? join x
        ! no room
        < {"status":"room does not exist","context":"response","data":false,"messageCount":3}
        > roomAdd x
        ? join x
        ! not authorized
        < {"status":"not authorized to join room","context":"response","data":false,"messageCount":4}
        > roomAdd x
        ? join x
        ! too many
        < {"status":"too many rooms","context":"response","data":false,"messageCount":5}
        > roomAdd
        < {"status":"room does not exist","context":"response","data":false,"messageCount":6}
        > roomAdd   x
        < {"status":"room does not exist","context":"response","data":false,"messageCount":7}
        > roomView r
        ? status r
        ! status
        < {"status":"OK","context":"response","data":{"room":"r","members":{"00000000-0000-4000-8000-000000000001":{"id":"00000000-0000-4000-8000-000000000001","joinedAt":5}},"membersCount":1},"messageCount":8}
        > roomView r
        ? status r
        ! outside
        < {"status":"not member of room r","context":"response","messageCount":9}
        > roomView
        < {"status":"not member of room undefined","context":"response","messageCount":10}
        > roomLeave r
        ? leave r
        ! left
        < {"status":"OK","context":"response","data":true,"messageCount":11}
        > roomLeave r
        ? leave r
        ! outside
        < {"status":"connection not in this room","context":"response","data":false,"messageCount":12}
        > roomLeave
        < {"status":"connection not in this room","context":"response","data":false,"messageCount":13}
        > say r  two  spaces 
        ? say r " two  spaces "
        ! said
        < {"status":"OK","context":"response","data":null,"messageCount":14}
        > say r x
        ? say r "x"
        ! outside
        < {"status":"connection not in this room","context":"response","messageCount":15}
        > say r
        < {"status":"both room and message are required","context":"response","messageCount":16}
        > say  r x
        < {"status":"both room and message are required","context":"response","messageCount":17}
        > say
        < {"status":"both room and message are required","context":"response","messageCount":18}
        > say r x
        ? say r "x"
        ! unavailable
        < {"status":"unavailable","context":"response","messageCount":19}
        > documentation
        ? documentation
        ! docs
        < {"status":"OK","context":"response","data":{"a":{}},"messageCount":20}
        "#,
    );
}

#[test]
fn details_show_the_connection_as_the_real_server_does() {
    check(
        &mut auto(),
        r#"
        > detailsView
        ? details
        ! rooms
        < {"status":"OK","context":"response","data":{"id":"00000000-0000-4000-8000-000000000000","fingerprint":null,"remoteIP":"10.0.0.1","remotePort":57393,"params":{},"connectedAt":1368918901456,"rooms":["r"],"totalActions":0,"pendingActions":0},"messageCount":1}
        "#,
    );
}

#[test]
fn one_action_too_many_is_refused_at_once_and_still_counts() {
    let mut talk = talk_with(|settings| settings.pending_max = 1);
    check(
        &mut talk,
        r#"
        > slow
        ? action action="slow"
        > fast
        < {"error":"Error: you have too many pending requests","context":"response","messageCount":2}
        ! reply
        < {"x":1,"context":"response","messageCount":1}
        > detailsView
        ? details
        ! rooms
        < {"status":"OK","context":"response","data":{"id":"00000000-0000-4000-8000-000000000000","fingerprint":null,"remoteIP":"10.0.0.1","remotePort":57393,"params":{"action":"fast"},"connectedAt":1368918901456,"rooms":["r"],"totalActions":2,"pendingActions":0},"messageCount":3}
        "#,
    );
}

#[test]
fn every_failure_of_an_action_has_its_text() {
    check(
        &mut auto(),
        r#"
        > a
        ? action action="a"
        ! crashed
        < {"error":"Error: The server experienced an internal error","context":"response","messageCount":1}
        > a
        ? action action="a"
        ! wrong type
        < {"error":"Error: this action does not support the socket connection type","context":"response","messageCount":2}
        > a
        ? action action="a"
        ! unavailable
        < {"error":"Error: unavailable","context":"response","messageCount":3}
        "#,
    );
}

#[test]
fn files_stick_and_fail_as_the_documents_say() {
    check(
        &mut auto(),
        r#"
        > file
        ? file ""
        ! no file
        < {"error":"Sorry, that file is not found :(","context":"response","messageCount":1}
        > file a.html more words
        ? file "a.html"
        ! no file
        < {"error":"Sorry, that file is not found :(","context":"response","messageCount":2}
        > file
        ? file "a.html"
        ! no file
        < {"error":"Sorry, that file is not found :(","context":"response","messageCount":3}
        > {"action":"file","params":{"file":"a.html"}}
        ? action file="a.html" action="file"
        ! unknown
        < {"error":"Error: unknown action or invalid apiVersion","context":"response","messageCount":4}
        "#,
    );
}

#[test]
fn auto_returns_a_message_id_to_whoever_sent_one() {
    check(
        &mut auto(),
        r#"
        > paramAdd messageId=first
        < {"status":"OK","context":"response","data":null,"messageCount":1}
        > paramsView
        < {"status":"OK","context":"response","data":{"messageId":"first"},"messageCount":2,"messageId":"first"}
        > paramAdd messageId=second
        < {"status":"OK","context":"response","data":null,"messageCount":3,"messageId":"first"}
        > a
        ? action messageId="second" action="a"
        ! reply
        < {"x":1,"context":"response","messageCount":4,"messageId":"second"}
        > {"action":"a","params":{"messageId":7}}
        ? action messageId=7 action="a"
        ! reply
        < {"x":1,"context":"response","messageCount":5,"messageId":7}
        > {"action":"a","params":{}}
        ? action action="a"
        ! reply
        < {"x":1,"context":"response","messageCount":6,"messageId":7}
        > paramsView
        < {"status":"OK","context":"response","data":{"action":"a"},"messageCount":7}
        "#,
    );
}

#[test]
fn classic_never_shows_a_message_id() {
    check(
        &mut talk_with(|settings| settings.compat = Compat::Classic),
        r#"
        > paramAdd messageId=first
        < {"status":"OK","context":"response","data":null,"messageCount":1}
        > paramsView
        < {"status":"OK","context":"response","data":{"messageId":"first"},"messageCount":2}
        "#,
    );
}

#[test]
fn modern_names_requests_and_words_refusals_as_generation_29() {
    check(
        &mut modern(),
        r#"
        > paramAdd messageId=m
        < {"status":"OK","context":"response","messageId":"00000000-0000-4000-8000-000000000000"}
        > roomAdd r
        ? join r
        ! inside
        < {"error":"connection already in this room (r)","context":"response","messageId":"m"}
        > roomLeave
        < {"error":"connection not in this room (undefined)","context":"response","messageId":"m"}
        > roomView r
        ? status r
        ! outside
        < {"error":"connection not in this room (r)","context":"response","messageId":"m"}
        > say r x
        ? say r "x"
        ! said
        < {"status":"OK","context":"response","messageId":"m"}
        > a
        ? action messageId="m" action="a"
        ! unknown
        < {"error":"unknown action or invalid apiVersion","context":"response","messageId":"m"}
        > file x
        ? file "x"
        ! no file
        < {"error":"that file is not found","context":"response","messageId":"m"}
        > quit
        < {"status":"Bye","context":"api"}
        "#,
    );
    assert_eq!(modern().facts.fingerprint(), Some("00000000-0000-4000-8000-000000000000"));
}

#[test]
fn fault_row_5_a_line_that_is_not_utf_8_has_its_number_and_runs_nothing() {
    let mut talk = auto();
    talk.send(b"random\xc3\x28Number\r\n");
    talk.send("paramView é\r\n".as_bytes());
    assert!(talk.calls.is_empty());
    assert_eq!(
        talk.received(),
        "{\"status\":\"error\",\"error\":\"line is not valid UTF-8\",\"context\":\"response\",\"messageCount\":1}\n\
         {\"status\":\"OK\",\"context\":\"response\",\"messageCount\":2}\n"
    );
}

#[test]
fn fault_row_7_a_line_that_is_too_long_repeats_the_latest_number() {
    let mut talk = talk_with(|settings| settings.framing.max_line_bytes = 999);
    talk.send(b"paramView a\r\n");
    talk.received();
    talk.send(&[&[b'z'; 1000][..], b"\r\n"].concat());
    assert_eq!(
        talk.received(),
        "{\"status\":\"error\",\"error\":\"data length is too big (999 received/1000 max)\",\
         \"context\":\"response\",\"messageCount\":1}\n"
    );
    talk.send(&[b'z'; 999 * 16 + 1]);
    assert!(talk.received().contains("data length is too big"));
    assert_eq!(talk.fx.close, Some(CloseReason::TooLarge));
}

#[test]
fn fault_row_6_json_beyond_a_limit_is_refused_under_its_number_and_changes_nothing() {
    let deep = "[".repeat(40) + &"]".repeat(40);
    let talk = format!(
        r#"
        > paramAdd messageId=m
        < {{"status":"OK","context":"response","data":null,"messageCount":1}}
        > {{"action":"a","params":{{"x":{deep},"messageId":7}}}}
        < {{"error":"Error: JSON is nested deeper than 32 levels","context":"response","messageCount":2,"messageId":7}}
        > {{"action":"a","action":"a"}}
        < {{"error":"Error: a JSON object names a member twice","context":"response","messageCount":3,"messageId":"m"}}
        > paramsView
        < {{"status":"OK","context":"response","data":{{"messageId":"m"}},"messageCount":4,"messageId":"m"}}
        "#
    );
    check(&mut auto(), &talk);
    check(
        &mut modern(),
        "> {\"params\":{\"messageId\":1,\"n\":1e999}}\n\
         < {\"error\":\"a number in JSON is out of range\",\"context\":\"response\",\"messageId\":1}\n",
    );
}

#[test]
fn half_a_surrogate_pair_in_json_becomes_the_replacement_character() {
    let mut talk = auto();
    talk.send(b"{\"action\":\"x\\ud83d\"}\n");
    assert_eq!(talk.calls[0].1, "action action=\"x�\"");
    // Only JSON has escapes.
    talk.outcome(Err(CallError::Unavailable));
    talk.send(b"say r x\\ud83d\n");
    assert_eq!(talk.calls[0].1, r#"say r "x\\ud83d""#);
}

#[test]
fn params_beyond_their_limits_are_refused_and_change_nothing() {
    let mut talk = talk_with(|settings| settings.params.count = 2);
    check(
        &mut talk,
        r#"
        > paramAdd a=1
        < {"status":"OK","context":"response","data":null,"messageCount":1}
        > paramAdd b=2
        < {"status":"OK","context":"response","data":null,"messageCount":2}
        > paramAdd c=3
        < {"status":"too many params","context":"response","data":false,"messageCount":3}
        > someAction
        < {"error":"Error: too many params","context":"response","messageCount":4}
        > file x
        < {"error":"Error: too many params","context":"response","messageCount":5}
        > {"action":"a","params":{"d":1,"e":2,"f":3}}
        < {"error":"Error: too many params","context":"response","messageCount":6}
        > paramsView
        < {"status":"OK","context":"response","data":{"a":"1","b":"2"},"messageCount":7}
        "#,
    );
}

#[test]
fn with_scrubbing_only_declared_params_stick() {
    let mut talk = talk_with(|settings| settings.declared_inputs = Some(["key".to_owned()].into()));
    check(
        &mut talk,
        r#"
        > paramAdd key=k
        < {"status":"OK","context":"response","data":null,"messageCount":1}
        > paramAdd screenName=evan
        < {"status":"OK","context":"response","data":null,"messageCount":2}
        > paramsView
        < {"status":"OK","context":"response","data":{"key":"k"},"messageCount":3}
        > {"action":"a","params":{"zzz":1,"key":"k"}}
        ? action key="k" action="a"
        ! reply
        < {"x":1,"context":"response","messageCount":4}
        "#,
    );
}

#[test]
fn a_secret_goes_with_one_action_and_is_never_shown() {
    let mut talk = talk_with(|settings| settings.secret_params = SecretParams::new(["password"]));
    check(
        &mut talk,
        r#"
        > paramAdd user=ada
        < {"status":"OK","context":"response","data":null,"messageCount":1}
        > paramAdd password=sesame
        < {"status":"OK","context":"response","data":null,"messageCount":2}
        > paramView password
        < {"status":"OK","context":"response","data":"***","messageCount":3}
        > paramsView
        < {"status":"OK","context":"response","data":{"user":"ada","password":"***"},"messageCount":4}
        > login
        ? action user="ada" password="sesame" action="login"
        ! reply
        < {"x":1,"context":"response","messageCount":5}
        > paramsView
        < {"status":"OK","context":"response","data":{"user":"ada","action":"login"},"messageCount":6}
        > {"action":"login","params":{"Password":"sesame"}}
        ? action Password="sesame" action="login"
        ! reply
        < {"x":1,"context":"response","messageCount":7}
        > again
        ? action action="again"
        ! reply
        < {"x":1,"context":"response","messageCount":8}
        "#,
    );
}

#[test]
fn a_secret_inside_of_a_param_is_treated_like_one() {
    let mut talk = talk_with(|settings| settings.secret_params = SecretParams::new(["password"]));
    check(
        &mut talk,
        r#"
        > {"action":"login","params":{"room":"a","logins":[{"user":"ada","password":"sesame"}]}}
        ? action room="a" logins=[{"user":"ada","password":"sesame"}] action="login"
        ! reply
        < {"x":1,"context":"response","messageCount":1}
        > paramsView
        < {"status":"OK","context":"response","data":{"room":"a","action":"login"},"messageCount":2}
        "#,
    );
}

#[test]
fn broken_json_does_not_become_the_sticky_action() {
    check(
        &mut auto(),
        r#"
        > {"action":"login","params":{"password":"sesame",}}
        < {"error":"Error: unknown action or invalid apiVersion","context":"response","messageCount":1}
        > {"action":"login"} {"password":"sesame"}
        < {"error":"Error: unknown action or invalid apiVersion","context":"response","messageCount":2}
        > paramsView
        < {"status":"OK","context":"response","data":{},"messageCount":3}
        "#,
    );
}

#[test]
fn details_show_that_a_secret_was_given_and_not_which() {
    let mut talk = talk_with(|settings| settings.secret_params = SecretParams::new(["password"]));
    talk.send(b"paramAdd password=sesame\r\ndetailsView\r\n");
    talk.outcome(Ok(Answer::Details { rooms: Vec::new() }));
    let received = talk.received();
    assert!(received.contains(r#""params":{"password":"***"}"#), "{received}");
    assert!(!received.contains("sesame"), "{received}");
}

#[test]
fn a_secret_is_forgotten_when_its_action_is_refused() {
    let mut talk = talk_with(|settings| {
        settings.secret_params = SecretParams::new(["password"]);
        settings.pending_max = 0;
    });
    check(
        &mut talk,
        r#"
        > paramAdd password=sesame
        < {"status":"OK","context":"response","data":null,"messageCount":1}
        > login
        < {"error":"Error: you have too many pending requests","context":"response","messageCount":2}
        > paramsView
        < {"status":"OK","context":"response","data":{"action":"login"},"messageCount":3}
        "#,
    );
}

#[test]
fn quit_and_exit_say_goodbye_and_drop_what_is_pending() {
    for verb in ["quit", "exit"] {
        let mut talk = auto();
        talk.send(format!("slow\r\n{verb}\r\n").as_bytes());
        assert_eq!(talk.received(), "{\"status\":\"Bye!\",\"context\":\"api\"}\n");
        assert_eq!(talk.fx.close, Some(CloseReason::ClientLeft));
    }
}

#[test]
fn who_is_not_let_in_reads_one_line() {
    for (reason, told) in
        [(CallError::Refused("\"banned\"".into()), "\\\"banned\\\""), (CallError::Unavailable, "unavailable")]
    {
        let mut talk = auto();
        talk.with(|peer, cx| peer.on_refused(&reason, cx));
        assert_eq!(talk.received(), format!("{{\"error\":\"{told}\",\"context\":\"api\"}}\n"));
        assert_eq!(talk.fx.close, Some(CloseReason::Refused));
    }
}

#[test]
fn fault_row_37_a_planned_stop_waits_for_pending_actions_and_refuses_new_ones() {
    let mut talk = auto();
    talk.with(|peer, cx| peer.on_shutdown(cx));
    assert_eq!(talk.received(), "{\"status\":\"Bye!\",\"context\":\"api\"}\n");
    assert_eq!(talk.fx.close, Some(CloseReason::Shutdown));

    let mut talk = auto();
    talk.send(b"slow\r\n");
    talk.with(|peer, cx| peer.on_shutdown(cx));
    assert_eq!((talk.fx.close, talk.fx.wake_at_ms), (None, Some(5000)));
    check(
        &mut talk,
        r#"
        > fast
        < {"error":"Error: the server is shutting down","context":"response","messageCount":2}
        > paramView a
        < {"status":"OK","context":"response","messageCount":3}
        ! reply
        < {"x":1,"context":"response","messageCount":1}
        < {"status":"Bye!","context":"api"}
        "#,
    );
    assert_eq!(talk.fx.close, Some(CloseReason::Shutdown));

    let mut talk = auto();
    talk.send(b"slow\r\n");
    talk.with(|peer, cx| peer.on_shutdown(cx));
    talk.with(|peer, cx| peer.on_deadline(cx));
    assert_eq!(talk.fx.close, Some(CloseReason::Shutdown));
}

#[test]
fn a_direct_message_is_sent_as_it_is_and_numbered_only_as_a_response() {
    let mut talk = auto();
    talk.send(b"paramView a\r\n");
    talk.received();
    for (sent, received) in [
        (json!({"hello": "direct"}), "{\"hello\":\"direct\"}\n"),
        (json!("text"), "\"text\"\n"),
        (json!({"h": 1, "context": "response"}), "{\"h\":1,\"context\":\"response\",\"messageCount\":1}\n"),
    ] {
        let event = Event::Message(RawJson::from_value(&sent));
        talk.with(|peer, cx| peer.on_event(&event, cx));
        assert_eq!(talk.received(), received);
    }
}

#[test]
fn a_break_is_one_only_between_lines() {
    let mut talk = auto();
    assert!(talk.peer.is_break(b"\x04"));
    talk.send(b"random");
    assert!(!talk.peer.is_break(b"\x04"));
    talk.send(b"Number\r\n");
    assert!(talk.peer.is_break(b"\xff\xf4\xff\xfd\x06"));
}

#[test]
fn an_idle_face_is_small() {
    assert!(size_of::<SocketFace>() <= 40, "{}", size_of::<SocketFace>());
    assert!(size_of::<Peer>() <= 56, "{}", size_of::<Peer>());
    assert_eq!(size_of::<Option<Arc<Params>>>(), 8);
}
