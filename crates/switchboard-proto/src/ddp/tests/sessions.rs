//! Opening, heartbeats, log-in, errors, the end.

use super::*;

#[test]
fn a_session_is_greeted_and_opened() {
    for version in ["1", "pre2", "pre1"] {
        let mut talk = talk_with(|_| {});
        talk.with(|peer, cx| peer.on_open(cx));
        assert_eq!(talk.received(), "{\"server_id\":\"0\"}\n");
        check(
            &mut talk,
            &format!(
                r#"
                > {{"msg":"connect","version":"{version}","support":["{version}"],"session":"old"}}
                < {{"msg":"connected","session":"22222222222222222"}}
                "#
            ),
        );
        assert_eq!(talk.fx.close, None);
    }
}

#[test]
fn another_version_is_proposed_and_the_connection_closed() {
    for (connect, proposed) in [
        (r#""version":"pre2","support":["1","pre2"]"#, "1"),
        (r#""version":"9","support":["9","pre1","1"]"#, "pre1"),
        (r#""version":"99","support":["99"]"#, "1"),
        (r#""version":"1","support":["pre2"]"#, "1"),
        (r#""version":1,"support":[1]"#, "1"),
        (r#""version":"1""#, "1"),
    ] {
        let mut talk = talk_with(|_| {});
        let expected = format!(
            "> {{\"msg\":\"connect\",{connect}}}\n< {{\"msg\":\"failed\",\"version\":\"{proposed}\"}}\n< (close)\n"
        );
        check(&mut talk, &expected);
        assert_eq!(talk.fx.close, Some(CloseReason::Protocol));
    }
}

#[test]
fn frames_behind_connect_in_one_segment_are_handled_in_order() {
    let mut talk = talk_with(|_| {});
    let frames = [
        r#"{"msg":"connect","version":"pre2","support":["pre2"]}"#,
        r#"{"msg":"sub","id":"0","name":"meteor.loginServiceConfiguration","params":[]}"#,
    ]
    .map(|frame| client_frame(0x81, frame.as_bytes()));
    talk.send(&frames.concat());
    assert_eq!(
        talk.received(),
        "{\"msg\":\"connected\",\"session\":\"22222222222222222\"}\n{\"msg\":\"ready\",\"subs\":[\"0\"]}\n"
    );
}

#[test]
fn fault_row_12_whoever_does_not_connect_in_time_is_closed() {
    let mut talk = talk_with(|_| {});
    talk.with(|peer, cx| peer.on_open(cx));
    talk.received();
    assert_eq!(talk.fx.wake_at_ms, Some(10_000));
    // Anything else does not count.
    talk.now.monotonic_ms = 9000;
    talk.send(&client_frame(0x81, b"{}"));
    talk.received();
    wait_until(&mut talk, 10_000);
    assert_eq!(talk.received(), "(close 1001)\n");
    assert_eq!(talk.fx.close, Some(CloseReason::Silence));
}

#[test]
fn fault_row_6_json_beyond_a_limit_is_refused_under_its_id() {
    let deep = "[".repeat(65) + &"]".repeat(65);
    let error = |reason: &str| {
        format!(
            r#""error":{{"isClientSafe":true,"error":400,"reason":"{reason}","message":"{reason} [400]","errorType":"Meteor.Error"}}"#
        )
    };
    let too_deep = error("JSON is nested deeper than 64 levels");
    let twice = error("a JSON object names a member twice");
    let long_id = "i".repeat(257);
    check(
        &mut open(),
        &format!(
            r#"
            > {{"msg":"method","method":"setCustomClientData","params":[{deep}],"id":"1\ud83d"}}
            < {{"msg":"result","id":"1�",{too_deep}}}
            < {{"msg":"updated","methods":["1�"]}}
            > {{"msg":"sub","id":"2","name":"a","name":"a"}}
            < {{"msg":"nosub","id":"2",{twice}}}
            > {{"msg":"sub","id":"3","name":"activeUsers"}}
            < {{"msg":"ready","subs":["3"]}}
            > {{"msg":"sub","id":"3","name":"a","name":"a"}}
            > {{"msg":"method","method":"a","id":"{long_id}","x":{deep}}}
            < {{"msg":"error","reason":"JSON is nested deeper than 64 levels"}}
            > {{"msg":"unsub","id":"2","x":1e999}}
            < {{"msg":"nosub","id":"2"}}
            > {{"msg":"ping","id":"3","x":{deep}}}
            < {{"msg":"pong","id":"3"}}
            > {{"msg":"pong","x":1e999}}
            < {{"msg":"error","reason":"a number in JSON is out of range"}}
            "#
        ),
    );
    check(
        &mut talk_with(|_| {}),
        &format!(
            r#"
            > {{"msg":"method","method":"a","id":"1","x":{deep}}}
            < {{"msg":"error","reason":"Must connect first","offendingMessage":{{"msg":"method","method":"a","id":"1","x":{deep}}}}}
            "#
        ),
    );
}

#[test]
fn half_a_surrogate_pair_becomes_the_replacement_character() {
    let mut talk = logged_in();
    talk.send(&client_frame(
        0x81,
        br#"{"msg":"method","id":"1","method":"setCustomClientData","params":[{"n":1.50,"x\ud83d":"\ude00"}],"\udfff":1}"#,
    ));
    assert_eq!(talk.calls[0].1, r#"client data {"n":1.50,"x\ufffd":"\ufffd"}"#);
}

#[test]
fn of_a_long_frame_that_is_wrong_its_kind_and_id_are_sent_back() {
    let long = "x".repeat(4096);
    check(
        &mut open(),
        &format!(
            r#"
            > {{"msg":"method","id":"1","method":"a","params":"{long}"}}
            < {{"msg":"error","reason":"Malformed method invocation","offendingMessage":{{"msg":"method","id":"1"}}}}
            > {{"msg":"sub","id":"{long}","name":"a"}}
            < {{"msg":"error","reason":"Malformed subscription"}}
            "#
        ),
    );
}

#[test]
fn what_is_wrong_in_itself_is_answered_on_the_top_level() {
    check(
        &mut talk_with(|_| {}),
        r#"
        > {"msg":"method","id":"1","method":"login","params":[]}
        < {"msg":"error","reason":"Must connect first","offendingMessage":{"msg":"method","id":"1","method":"login","params":[]}}
        > {"msg":"ping"}
        < {"msg":"error","reason":"Must connect first","offendingMessage":{"msg":"ping"}}
        > {"hello":1}
        < {"msg":"error","reason":"Bad request","offendingMessage":{"hello":1}}
        > nonsense
        < {"msg":"error","reason":"Parse error"}
        > {"msg":"connect","version":"1","support":["1","pre2","pre1"]}
        < {"msg":"connected","session":"22222222222222222"}
        > {"msg":"connect","version":"1","support":["1"]}
        < {"msg":"error","reason":"Already connected","offendingMessage":{"msg":"connect","version":"1","support":["1"]}}
        > {not json
        < {"msg":"error","reason":"Parse error"}
        > {"msg":"ping","msg":"ping"}
        < {"msg":"error","reason":"a JSON object names a member twice"}
        > [1, 2.0]
        < {"msg":"error","reason":"Bad request","offendingMessage":[1, 2.0]}
        > {"msg":"fly","id":"2"}
        < {"msg":"error","reason":"Bad request","offendingMessage":{"msg":"fly","id":"2"}}
        > {"msg":"method","id":7,"method":"x"}
        < {"msg":"error","reason":"Malformed method invocation","offendingMessage":{"msg":"method","id":7,"method":"x"}}
        > {"msg":"sub","id":"3"}
        < {"msg":"error","reason":"Malformed subscription","offendingMessage":{"msg":"sub","id":"3"}}
        > {"msg":"method","id":"4","method":"noSuchMethod","params":[]}
        < {"msg":"result","id":"4","error":{"isClientSafe":true,"error":404,"reason":"Method 'noSuchMethod' not found","message":"Method 'noSuchMethod' not found [404]","errorType":"Meteor.Error"}}
        < {"msg":"updated","methods":["4"]}
        > {"msg":"sub","id":"5","name":"no-such-publication","params":[]}
        < {"msg":"nosub","id":"5","error":{"isClientSafe":true,"error":404,"reason":"Subscription 'no-such-publication' not found","message":"Subscription 'no-such-publication' not found [404]","errorType":"Meteor.Error"}}
        > {"msg":"unsub","id":"6"}
        < {"msg":"nosub","id":"6"}
        > {"msg":"ping"}
        < {"msg":"pong"}
        > {"msg":"ping","id":"7"}
        < {"msg":"pong","id":"7"}
        > {"msg":"pong","id":"7"}
        "#,
    );
}

#[test]
fn a_long_frame_is_not_shown_to_whoever_sent_it() {
    let mut talk = open();
    let frame = |bytes: usize| format!("{{\"x\":\"{}\"}}", "x".repeat(bytes - 8));
    talk.send(&client_frame(0x81, frame(4096).as_bytes()));
    assert_eq!(
        talk.received(),
        format!("{{\"msg\":\"error\",\"reason\":\"Bad request\",\"offendingMessage\":{}}}\n", frame(4096))
    );
    talk.send(&client_frame(0x81, frame(4097).as_bytes()));
    assert_eq!(talk.received(), "{\"msg\":\"error\",\"reason\":\"Bad request\"}\n");
}

#[test]
fn the_name_of_an_unknown_method_is_cut() {
    let mut talk = open_with(|settings| settings.max_id_bytes = 4);
    check(
        &mut talk,
        r#"
        > {"msg":"method","id":"1","method":"abcéé"}
        < {"msg":"result","id":"1","error":{"isClientSafe":true,"error":404,"reason":"Method 'abc' not found","message":"Method 'abc' not found [404]","errorType":"Meteor.Error"}}
        < {"msg":"updated","methods":["1"]}
        "#,
    );
}

#[test]
fn fault_row_41_a_silent_client_is_pinged_and_then_given_up() {
    let mut talk = open();
    assert_eq!(talk.fx.wake_at_ms, None, "the moment for connecting is outstanding, and comes earlier");
    wait_until(&mut talk, 10_000);
    assert_eq!((talk.fx.close, talk.fx.wake_at_ms), (None, Some(15_000)));
    // Any frame is a sign of life.
    talk.now.monotonic_ms = 12_000;
    talk.send(&client_frame(0x81, b"nonsense"));
    talk.received();
    wait_until(&mut talk, 15_000);
    assert_eq!((talk.received().as_str(), talk.fx.wake_at_ms), ("", Some(27_000)));
    wait_until(&mut talk, 27_000);
    assert_eq!((talk.received().as_str(), talk.fx.wake_at_ms), ("{\"msg\":\"ping\"}\n", Some(42_000)));
    talk.now.monotonic_ms = 41_999;
    talk.send(&client_frame(0x81, br#"{"msg":"pong"}"#));
    wait_until(&mut talk, 42_000);
    assert_eq!((talk.received().as_str(), talk.fx.wake_at_ms), ("", Some(56_999)));
    wait_until(&mut talk, 56_999);
    assert_eq!(talk.received(), "{\"msg\":\"ping\"}\n");
    wait_until(&mut talk, 71_999);
    assert_eq!(talk.received(), "(close 1001)\n");
    assert_eq!(talk.fx.close, Some(CloseReason::Silence));
}

#[test]
fn a_silence_of_the_interval_is_ended_by_a_ping_however_long_an_answer_may_take() {
    let mut talk = open_with(|settings| {
        (settings.connect_timeout_ms, settings.heartbeat_ms, settings.heartbeat_timeout_ms) = (0, 1000, 15_000);
    });
    for second in 1..=10 {
        wait_until(&mut talk, second * 1000);
        assert_eq!(talk.received(), "{\"msg\":\"ping\"}\n", "{second}");
        talk.send(&client_frame(0x81, br#"{"msg":"pong"}"#));
    }
    // Nothing comes any more, and there is one ping for one silence.
    for second in 11..26 {
        wait_until(&mut talk, second * 1000);
        let pings = talk.received().matches("ping").count();
        assert_eq!((pings, talk.fx.close), (usize::from(second == 11), None), "{second}");
    }
    wait_until(&mut talk, 26_000);
    assert_eq!(talk.fx.close, Some(CloseReason::Silence));
}

#[test]
fn sessions_of_the_version_without_pings_are_pinged_by_the_websocket() {
    let mut talk = talk_with(|settings| settings.connect_timeout_ms = 0);
    talk.with(|peer, cx| peer.on_open(cx));
    talk.send(&client_frame(0x81, br#"{"msg":"connect","version":"pre1","support":["pre1"]}"#));
    talk.received();
    wait_until(&mut talk, 15_000);
    assert_eq!(talk.received(), "(ping)\n");
    talk.now.monotonic_ms = 20_000;
    talk.send(&client_frame(0x8a, b""));
    check(&mut talk, "> {\"msg\":\"ping\",\"id\":\"1\"}\n< {\"msg\":\"pong\",\"id\":\"1\"}\n");
    wait_until(&mut talk, 30_000);
    assert_eq!((talk.fx.close, talk.fx.wake_at_ms), (None, Some(35_000)));
}

#[test]
fn heartbeats_can_be_switched_off() {
    let mut talk = open_with(|settings| (settings.heartbeat_ms, settings.connect_timeout_ms) = (0, 0));
    assert_eq!(talk.fx.wake_at_ms, None);
    wait_until(&mut talk, 1_000_000);
    assert_eq!((talk.received().as_str(), talk.fx.wake_at_ms), ("", None));

    let mut talk = open_with(|settings| settings.heartbeat_timeout_ms = 0);
    for at_ms in [10_000, 15_000, 30_000, 45_000] {
        wait_until(&mut talk, at_ms);
    }
    assert_eq!((talk.received().matches("ping").count(), talk.fx.close), (3, None));
}

#[test]
fn pings_jump_the_queue_and_everything_else_keeps_its_order() {
    check(
        &mut open(),
        r#"
        > {"msg":"method","id":"1","method":"login","params":[{"user":{"username":"bot"},"password":"secret"}]}
        ? log in Name("bot") Plain
        > {"msg":"ping","id":"2"}
        < {"msg":"pong","id":"2"}
        > {"msg":"sub","id":"3","name":"stream-client-commands","params":["u1",false]}
        > nonsense
        > {"msg":"method","id":"4","method":"setCustomClientData","params":[{}]}
        > {"msg":"unsub","id":"3"}
        > {"msg":"ping","id":"5"}
        < {"msg":"pong","id":"5"}
        ! password u1
        < {"msg":"added","collection":"users","id":"u1","fields":{"username":"bot"}}
        < {"msg":"result","id":"1","result":{"id":"u1","token":"0123456789012345678901234567890123456789012","tokenExpires":{"$date":1803065701617},"type":"password"}}
        < {"msg":"updated","methods":["1"]}
        < {"msg":"ready","subs":["3"]}
        ? attend commands
        < {"msg":"error","reason":"Parse error"}
        ? client data {}
        ! set
        < {"msg":"result","id":"4","result":true}
        < {"msg":"updated","methods":["4"]}
        < {"msg":"nosub","id":"3"}
        ? attend
        "#,
    );
}

#[test]
fn a_client_that_is_not_listened_to_is_not_silent() {
    let mut talk = open();
    talk.send(&client_frame(0x81, br#"{"msg":"method","id":"1","method":"login","params":[{"resume":"t"}]}"#));
    for _ in 0..16 {
        talk.send(&client_frame(0x81, br#"{"msg":"unsub","id":"x"}"#));
    }
    for at_ms in [15_000, 30_000, 45_000, 60_000, 75_000] {
        wait_until(&mut talk, at_ms);
    }
    assert_eq!((talk.received().as_str(), talk.fx.close), ("", None));
}

#[test]
fn every_form_of_login_gets_what_its_clients_need() {
    check(
        &mut open(),
        r#"
        > {"msg":"method","id":"m1","method":"login","params":[{"user":{"username":"bot"},"password":{"digest":"ABCDEF","algorithm":"sha-256"}}]}
        ? log in Name("bot") Digest
        ! password u1
        < {"msg":"added","collection":"users","id":"u1","fields":{"username":"bot"}}
        < {"msg":"result","id":"m1","result":{"id":"u1","token":"0123456789012345678901234567890123456789012","tokenExpires":{"$date":1803065701617},"type":"password"}}
        < {"msg":"updated","methods":["m1"]}
        > {"msg":"method","id":"m3","method":"login","params":[{"resume":"0123456789012345678901234567890123456789012"}]}
        ? log in by token
        ! known u1
        < {"msg":"added","collection":"users","id":"u1","fields":{"username":"bot"}}
        < {"msg":"result","id":"m3","result":{"id":"u1","token":"0123456789012345678901234567890123456789012","tokenExpires":{"$date":1803065701617},"type":"resume"}}
        < {"msg":"updated","methods":["m3"]}
        > {"msg":"method","id":"m8","method":"logout","params":[]}
        ? log out
        ! gone
        < {"msg":"result","id":"m8"}
        < {"msg":"updated","methods":["m8"]}
        > {"msg":"method","id":"m9","method":"logout"}
        < {"msg":"result","id":"m9"}
        < {"msg":"updated","methods":["m9"]}
        > {"msg":"method","id":"m10","method":"sendMessage","params":[{"rid":"general","msg":"x"}]}
        < {"msg":"result","id":"m10","error":{"isClientSafe":true,"error":"error-invalid-user","reason":"Invalid user","message":"Invalid user [error-invalid-user]","errorType":"Meteor.Error","details":{"method":"sendMessage"}}}
        < {"msg":"updated","methods":["m10"]}
        > {"msg":"method","id":"m11","method":"login","params":[{}]}
        < {"msg":"result","id":"m11","error":{"isClientSafe":true,"error":400,"reason":"Unrecognized options for login request","message":"Unrecognized options for login request [400]","errorType":"Meteor.Error"}}
        < {"msg":"updated","methods":["m11"]}
        > {"msg":"method","id":"m12","method":"login","params":[{"resume":5}]}
        < {"msg":"result","id":"m12","error":{"isClientSafe":true,"error":400,"reason":"Match failed","message":"Match failed [400]","errorType":"Meteor.Error"}}
        < {"msg":"updated","methods":["m12"]}
        "#,
    );
}

#[test]
fn a_failed_login_beyond_those_that_may_wait_closes_the_connection() {
    let mut talk = logged_in();
    talk.send(&client_frame(0x81, br#"{"msg":"method","id":"1","method":"login","params":[{"resume":"x"}]}"#));
    talk.outcome(Err(crate::call::LoginRefusal::TooManyAtOnce { retry_ms: 4200 }.into()));
    assert!(talk.received().contains(r#""error":"too-many-requests","#));
    assert_eq!(talk.fx.close, Some(CloseReason::Limit));
}

#[test]
fn a_failed_login_says_why_and_leaves_the_session_as_it_was() {
    use crate::call::LoginRefusal::*;
    for (error, code, reason, details) in [
        (CallError::LoginRefused(NoSuchUser), "403", "User not found", ""),
        (CallError::LoginRefused(WrongPassword), "403", "Incorrect password", ""),
        (CallError::LoginRefused(Unclear), "403", "Something went wrong. Please check your credentials.", ""),
        (
            CallError::LoginRefused(UnknownToken),
            "403",
            "You've been logged out by the server. Please log in again.",
            "",
        ),
        (CallError::LoginRefused(ExpiredToken), "403", "Your session has expired. Please log in again.", ""),
        (CallError::LoginRefused(Inactive), "error-user-is-not-activated", "User is not activated", ""),
        (
            CallError::TooManyRequests { retry_ms: 4200 },
            "too-many-requests",
            "Too many requests, try again later",
            r#","details":{"timeToReset":4200}"#,
        ),
        (CallError::Unavailable, "500", "Internal server error", ""),
    ] {
        let mut talk = logged_in();
        talk.send(&client_frame(0x81, br#"{"msg":"method","id":"1","method":"login","params":[{"resume":"x"}]}"#));
        talk.outcome(Err(error));
        let shown = if code.starts_with(|first: char| first.is_ascii_digit()) {
            code.to_owned()
        } else {
            format!("\"{code}\"")
        };
        assert_eq!(
            talk.received(),
            format!(
                "{{\"msg\":\"result\",\"id\":\"1\",\"error\":{{\"isClientSafe\":true,\"error\":{shown},\"reason\":\"{reason}\",\
                 \"message\":\"{reason} [{code}]\",\"errorType\":\"Meteor.Error\"{details}}}}}\n\
                 {{\"msg\":\"updated\",\"methods\":[\"1\"]}}\n"
            )
        );
        check(
            &mut talk,
            r#"
            > {"msg":"sub","id":"1","name":"stream-client-commands","params":["u1"]}
            < {"msg":"ready","subs":["1"]}
            ? attend commands
            "#,
        );
    }
}

#[test]
fn only_texts_are_understood() {
    let mut talk = open();
    talk.send(&client_frame(0x82, b"{}"));
    assert_eq!(talk.received(), "(close 1003 text only)\n");
    assert_eq!(talk.fx.close, Some(CloseReason::Protocol));
}

#[test]
fn websocket_pings_are_answered_and_a_close_is_echoed_even_while_a_call_is_awaited() {
    let mut talk = open();
    talk.send(&client_frame(0x81, br#"{"msg":"method","id":"1","method":"login","params":[{"resume":"t"}]}"#));
    talk.send(&client_frame(0x89, b"there?"));
    assert_eq!(talk.received(), "(pong there?)\n");
    talk.send(&client_frame(0x88, &[0x03, 0xe8]));
    assert_eq!(talk.received(), "(close 1000)\n");
    assert_eq!(talk.fx.close, Some(CloseReason::ClientLeft));
}

#[test]
fn ends_that_are_meant_say_so() {
    let mut talk = open();
    talk.with(|peer, cx| peer.on_removed(cx));
    assert_eq!((talk.received().as_str(), talk.fx.close), ("(close 1000)\n", Some(CloseReason::Removed)));

    let mut talk = talk_with(|_| {});
    talk.with(|peer, cx| peer.on_refused(&CallError::Refused("banned".into()), cx));
    assert_eq!((talk.received().as_str(), talk.fx.close), ("(close 1008 banned)\n", Some(CloseReason::Refused)));
}

#[test]
fn fault_row_37_a_planned_stop_is_spread_and_waits_for_what_is_awaited() {
    let mut talk = logged_in();
    talk.random = 4000;
    talk.with(|peer, cx| peer.on_shutdown(cx));
    assert_eq!((talk.fx.close, talk.fx.wake_at_ms), (None, Some(4000)));
    talk.send(&client_frame(0x81, br#"{"msg":"method","id":"1","method":"joinRoom","params":["general"]}"#));
    wait_until(&mut talk, 4000);
    assert_eq!(talk.fx.close, None);
    check(
        &mut talk,
        r#"
        ! joined
        < {"msg":"result","id":"1","result":true}
        < {"msg":"updated","methods":["1"]}
        < (close 1012)
        "#,
    );
    assert_eq!(talk.fx.close, Some(CloseReason::Shutdown));

    let mut talk = open_with(|settings| settings.drain_spread_ms = 0);
    talk.with(|peer, cx| peer.on_shutdown(cx));
    assert_eq!((talk.received().as_str(), talk.fx.close), ("(close 1012)\n", Some(CloseReason::Shutdown)));
}

#[test]
fn a_client_that_comes_while_the_server_stops_is_still_spoken_to() {
    let mut talk = talk_with(|_| {});
    talk.with(|peer, cx| peer.on_open(cx));
    talk.random = 4000;
    talk.with(|peer, cx| peer.on_shutdown(cx));
    talk.random = 0;
    talk.received();
    check(
        &mut talk,
        r#"
        > {"msg":"connect","version":"1","support":["1"]}
        < {"msg":"connected","session":"22222222222222222"}
        "#,
    );
    wait_until(&mut talk, 4000);
    assert_eq!(talk.received(), "(close 1012)\n");
}
