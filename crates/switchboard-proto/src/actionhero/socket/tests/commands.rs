//! Client commands in the line protocol.

use super::*;
use crate::wire::WireFormat;

#[test]
fn client_data_are_a_json_object_and_are_passed_on_as_it_came() {
    check(
        &mut auto(),
        r#"
        > setCustomClientData {"commands": ["a", "b c"], "n": 1.50, "framework": "a\" b"}
        ? client data {"commands":["a","b c"],"n":1.50,"framework":"a\" b"}
        ! set
        < {"status":"OK","context":"response","data":true,"messageCount":1}
        > setCustomClientData {"commands":true}
        ? client data {"commands":true}
        ! bad data
        < {"status":"client data is a JSON object of limited size","context":"response","messageCount":2}
        > setCustomClientData
        < {"status":"client data must be a JSON object","context":"response","messageCount":3}
        > setCustomClientData {"commands":
        < {"status":"client data must be a JSON object","context":"response","messageCount":4}
        > setCustomClientData [1]
        < {"status":"client data must be a JSON object","context":"response","messageCount":5}
        > setCustomClientData {} {}
        < {"status":"client data must be a JSON object","context":"response","messageCount":6}
        > setCustomClientData {"a":1,"a":2}
        < {"status":"client data must be a JSON object","context":"response","messageCount":7}
        > setcustomclientdata {}
        ? action action="setcustomclientdata"
        "#,
    );
}

#[test]
fn fault_row_6_client_data_and_replies_are_no_deeper_than_other_json() {
    let mut talk = talk_with(|settings| settings.json.depth = 2);
    check(
        &mut talk,
        r#"
        > setCustomClientData {"a":{"b":1}}
        ? client data {"a":{"b":1}}
        ! set
        < {"status":"OK","context":"response","data":true,"messageCount":1}
        > setCustomClientData {"a":{"b":{}}}
        < {"status":"client data must be a JSON object","context":"response","messageCount":2}
        > replyClientCommand x {"a":{"b":[]}}
        < {"status":"the id of a command and a JSON object are required","context":"response","messageCount":3}
        "#,
    );
}

#[test]
fn a_command_is_told_without_a_number_and_answered_by_a_verb() {
    let mut talk = auto();
    talk.command(json!({"key": "clearCache", "data": {"scope": "a\nb"}}));
    check(
        &mut talk,
        r#"
        > paramView a
        < {"context":"command","_id":"22222222222222222","key":"clearCache","cmd":{"key":"clearCache","data":{"scope":"a\nb"}},"data":{"scope":"a\nb"},"ts":1795289702430,"ttl_ms":5000}
        < {"status":"OK","context":"response","messageCount":1}
        > replyClientCommand 22222222222222222 { "success": true, "n": 1e2 }
        ? reply 22222222222222222 {"success":true,"n":1e2}
        ! in time
        < {"status":"OK","context":"response","data":true,"messageCount":2}
        > replyClientCommand 22222222222222222 {}
        ? reply 22222222222222222 {}
        ! late
        < {"status":"OK","context":"response","data":false,"messageCount":3}
        > replyClientCommand what {}
        ? reply what {}
        ! large reply
        < {"status":"the reply is too large","context":"response","messageCount":4}
        > replyClientCommand
        < {"status":"the id of a command and a JSON object are required","context":"response","messageCount":5}
        > replyClientCommand 22222222222222222
        < {"status":"the id of a command and a JSON object are required","context":"response","messageCount":6}
        > replyClientCommand  {}
        < {"status":"the id of a command and a JSON object are required","context":"response","messageCount":7}
        > replyClientCommand 22222222222222222 "done"
        < {"status":"the id of a command and a JSON object are required","context":"response","messageCount":8}
        > replyClientCommand 22222222222222222 {"success":
        < {"status":"the id of a command and a JSON object are required","context":"response","messageCount":9}
        "#,
    );
    talk.command(json!({"key": "clearCache"}));
    assert_eq!(
        talk.received(),
        "{\"context\":\"command\",\"_id\":\"22222222222222222\",\"key\":\"clearCache\",\"cmd\":{\"key\":\"clearCache\"},\
         \"ts\":1795289702430,\"ttl_ms\":5000}\n"
    );
}

#[test]
fn a_command_that_is_pending_holds_up_no_request_and_is_held_up_by_no_action() {
    let mut talk = auto();
    talk.send(b"slow\r\n");
    talk.command(json!({"key": "clearCache"}));
    talk.received();
    check(
        &mut talk,
        r#"
        > say r busy
        ? say r "busy"
        "#,
    );
    let (token, _) = talk.calls.pop().unwrap();
    talk.with(|peer, cx| peer.on_outcome(token, Ok(Answer::Said { number: 1 }), cx));
    talk.send(b"replyClientCommand 22222222222222222 {}\r\n");
    assert_eq!(
        talk.calls.iter().map(|(_, call)| call.as_str()).collect::<Vec<_>>(),
        ["action action=\"slow\"", "reply 22222222222222222 {}"]
    );
}

#[test]
fn extended_room_messages_begin_behind_the_answer_and_end_with_the_next_client_data() {
    let mut talk = auto();
    assert_eq!(talk.hears(), (WireFormat::ActionHeroLine, false));
    check(
        &mut talk,
        r#"
        > setCustomClientData {"extended":true}
        ? client data {"extended":true}
        "#,
    );
    assert_eq!(talk.hears(), (WireFormat::ActionHeroLine, false));
    check(
        &mut talk,
        r#"
        ! set
        < {"status":"OK","context":"response","data":true,"messageCount":1}
        > say r x
        ? say r "x"
        ! said
        < {"status":"OK","context":"response","data":{"number":1},"messageCount":2}
        "#,
    );
    assert_eq!(talk.hears(), (WireFormat::ExtendedLine, true));
    // What is refused changes nothing; the same again is no change.
    for (data, outcome) in [("{}", Err(CallError::BadClientData)), ("{\"extended\":true}", Ok(Answer::ClientDataSet))] {
        talk.send(format!("setCustomClientData {data}\r\n").as_bytes());
        talk.outcome(outcome);
        assert_eq!(talk.hears(), (WireFormat::ExtendedLine, false), "{data}");
    }
    for data in ["{}", r#"{"extended":false}"#, r#"{"extended":1}"#] {
        talk.send(b"setCustomClientData {\"extended\":true}\r\n");
        talk.outcome(Ok(Answer::ClientDataSet));
        talk.hears();
        talk.send(format!("setCustomClientData {data}\r\n").as_bytes());
        talk.outcome(Ok(Answer::ClientDataSet));
        assert_eq!(talk.hears(), (WireFormat::ActionHeroLine, true), "{data}");
    }
    talk.received();
    check(
        &mut talk,
        r#"
        > say r x
        ? say r "x"
        ! said
        < {"status":"OK","context":"response","data":null,"messageCount":11}
        "#,
    );
}

#[test]
fn modern_words_client_commands_as_its_other_verbs() {
    check(
        &mut modern(),
        r#"
        > paramAdd messageId=m
        < {"status":"OK","context":"response","messageId":"00000000-0000-4000-8000-000000000000"}
        > setCustomClientData {"extended":true}
        ? client data {"extended":true}
        ! set
        < {"status":"OK","context":"response","data":true,"messageId":"m"}
        > say r x
        ? say r "x"
        ! said
        < {"status":"OK","context":"response","data":{"number":1},"messageId":"m"}
        > replyClientCommand x
        < {"error":"the id of a command and a JSON object are required","context":"response","messageId":"m"}
        "#,
    );
}
