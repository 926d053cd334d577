//! Client commands over a WebSocket.

use super::*;

#[test]
fn client_data_are_a_json_object_and_are_passed_on_as_it_came() {
    check(
        &mut auto(),
        r#"
        > {"event":"setCustomClientData","data":{"commands": true, "n": 1.50},"messageId":"d"}
        ? client data {"commands":true,"n":1.50}
        ! set
        < {"status":"OK","context":"response","data":true,"messageCount":1,"messageId":"d"}
        > {"\u0064ata":{"z":1,"a":"\u2028"},"event":"setCustomClientData"}
        ? client data {"z":1,"a":"\u2028"}
        ! bad data
        < {"status":"client data is a JSON object of limited size","context":"response","messageCount":2}
        > {"event":"setCustomClientData"}
        < {"status":"client data must be a JSON object","context":"response","messageCount":3}
        > {"event":"setCustomClientData","data":null}
        < {"status":"client data must be a JSON object","context":"response","messageCount":4}
        > {"event":"setCustomClientData","data":"{}"}
        < {"status":"client data must be a JSON object","context":"response","messageCount":5}
        "#,
    );
}

#[test]
fn a_command_is_told_without_a_number_and_answered_by_an_event() {
    let mut talk = auto();
    talk.command(json!({"key": "clearCache", "data": "\u{2028}"}));
    check(
        &mut talk,
        r#"
        > {"event":"replyClientCommand"}
        < {"context":"command","_id":"22222222222222222","key":"clearCache","cmd":{"key":"clearCache","data":"\u2028"},"data":"\u2028","ts":1795289702430,"ttl_ms":5000}
        < {"status":"the id of a command and a JSON object are required","context":"response","messageCount":1}
        > {"event":"replyClientCommand","id":"22222222222222222","reply":{ "success" : true, "n":1e2 }}
        ? reply 22222222222222222 {"success":true,"n":1e2}
        ! in time
        < {"status":"OK","context":"response","data":true,"messageCount":2}
        > {"event":"replyClientCommand","id":"","reply":{}}
        ? reply  {}
        ! late
        < {"status":"OK","context":"response","data":false,"messageCount":3}
        > {"event":"replyClientCommand","id":"x","reply":{}}
        ? reply x {}
        ! large reply
        < {"status":"the reply is too large","context":"response","messageCount":4}
        > {"event":"replyClientCommand","id":7,"reply":{}}
        < {"status":"the id of a command and a JSON object are required","context":"response","messageCount":5}
        > {"event":"replyClientCommand","id":"x","reply":[1]}
        < {"status":"the id of a command and a JSON object are required","context":"response","messageCount":6}
        > {"event":"replyClientCommand","id":"x"}
        < {"status":"the id of a command and a JSON object are required","context":"response","messageCount":7}
        "#,
    );
}

#[test]
fn extended_room_messages_begin_behind_the_answer_and_end_with_the_next_client_data() {
    for (deflate, plain, extended) in [
        (false, WireFormat::ActionHeroMessage, WireFormat::ExtendedMessage),
        (true, WireFormat::ActionHeroDeflated, WireFormat::ExtendedDeflated),
    ] {
        let mut talk = Talk::new(PeerKind::WebSocket { deflate }, |_| {});
        assert_eq!(talk.hears(), (plain, false));
        check(
            &mut talk,
            r#"
            > {"event":"setCustomClientData","data":{"extended":true}}
            ? client data {"extended":true}
            ! set
            < {"status":"OK","context":"response","data":true,"messageCount":1}
            > {"event":"say","room":"r","message":"x"}
            ? say r "x"
            ! said
            < {"status":"OK","context":"response","data":{"number":1},"messageCount":2}
            "#,
        );
        assert_eq!(talk.hears(), (extended, true));
        check(
            &mut talk,
            r#"
            > {"event":"setCustomClientData","data":{"commands":true}}
            ? client data {"commands":true}
            ! set
            < {"status":"OK","context":"response","data":true,"messageCount":3}
            > {"event":"say","room":"r","message":"x"}
            ? say r "x"
            ! said
            < {"status":"OK","context":"response","data":null,"messageCount":4}
            "#,
        );
        assert_eq!(talk.hears(), (plain, true));
    }
}

#[test]
fn modern_words_client_commands_as_its_other_verbs() {
    check(
        &mut modern(),
        r#"
        > {"event":"setCustomClientData","messageId":1}
        < {"status":"Error: client data must be a JSON object","error":"Error: client data must be a JSON object","context":"response","data":{},"messageId":1}
        > {"event":"replyClientCommand","id":"x","reply":{},"messageId":2}
        ? reply x {}
        ! late
        < {"status":"OK","context":"response","data":false,"messageId":2}
        "#,
    );
}
