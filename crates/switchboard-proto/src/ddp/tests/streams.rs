//! Subscriptions, and what comes of them.

use super::*;

const NOT_ALLOWED: &str =
    r#"{"isClientSafe":true,"error":"not-allowed","message":"[not-allowed]","errorType":"Meteor.Error"}"#;
const MATCH_FAILED: &str = r#"{"isClientSafe":true,"error":400,"reason":"Match failed","message":"Match failed [400]","errorType":"Meteor.Error"}"#;

/// Plays a script in which two long errors have short names.
#[track_caller]
fn play(talk: &mut Talk, script: &str) {
    check(talk, &script.replace("NOT_ALLOWED", NOT_ALLOWED).replace("MATCH_FAILED", MATCH_FAILED));
}

#[test]
fn commands_are_for_their_user_alone() {
    play(
        &mut logged_in(),
        r#"
        > {"msg":"sub","id":"s2","name":"stream-client-commands","params":["u2",false]}
        < {"msg":"nosub","id":"s2","error":NOT_ALLOWED}
        > {"msg":"sub","id":"s3","name":"stream-client-commands","params":["",false]}
        < {"msg":"nosub","id":"s3","error":{"isClientSafe":true,"error":"invalid-event-name","message":"[invalid-event-name]","errorType":"Meteor.Error"}}
        > {"msg":"sub","id":"s4","name":"stream-client-commands","params":[5]}
        < {"msg":"nosub","id":"s4","error":MATCH_FAILED}
        > {"msg":"sub","id":"s5","name":"stream-client-commands"}
        < {"msg":"nosub","id":"s5","error":MATCH_FAILED}
        > {"msg":"sub","id":"s6","name":"stream-ddp-requests","params":["u1","yes"]}
        < {"msg":"nosub","id":"s6","error":MATCH_FAILED}
        > {"msg":"sub","id":"s7","name":"stream-ddp-requests","params":["u2"]}
        < {"msg":"nosub","id":"s7","error":NOT_ALLOWED}
        > {"msg":"sub","id":"s8","name":"stream-client-commands","params":["u1",{"useCollection":false,"args":[null]}]}
        < {"msg":"ready","subs":["s8"]}
        ? attend commands
        > {"msg":"sub","id":"s8","name":"no-such-publication"}
        > {"msg":"unsub","id":"s8"}
        < {"msg":"nosub","id":"s8"}
        ? attend
        > {"msg":"unsub","id":"s8"}
        < {"msg":"nosub","id":"s8"}
        "#,
    );
}

#[test]
fn a_command_has_everything_that_any_generation_of_clients_reads() {
    let mut talk = logged_in();
    play(
        &mut talk,
        r#"
        > {"msg":"sub","id":"2","name":"stream-client-commands","params":["u1",true]}
        < {"msg":"added","collection":"stream-client-commands","id":"id","fields":{"eventName":"u1"}}
        < {"msg":"ready","subs":["2"]}
        ? attend commands
        "#,
    );
    assert_eq!(
        told(&mut talk, &command("u1", json!({"key": "negative", "data": {"a": 1}, "n": 1.0}))).unwrap(),
        "{\"msg\":\"changed\",\"collection\":\"stream-client-commands\",\"id\":\"id\",\"fields\":{\"eventName\":\"u1\",\"args\":[\
         {\"_id\":\"22222222222222222\",\"key\":\"negative\",\"u\":{\"_id\":\"u1\",\"username\":\"bot\"},\
         \"cmd\":{\"key\":\"negative\",\"data\":{\"a\":1},\"n\":1.0},\"ts\":{\"$date\":1795289702430},\"ttl_ms\":5000,\"data\":{\"a\":1}}\
         ]}}\n"
    );
    let shown = told(&mut talk, &command("u1", json!({"key": "heartbeat"}))).unwrap();
    assert!(
        shown.ends_with("\"cmd\":{\"key\":\"heartbeat\"},\"ts\":{\"$date\":1795289702430},\"ttl_ms\":5000}]}}\n"),
        "{shown}"
    );
    // On its way while somebody else logged in.
    assert_eq!(told(&mut talk, &command("u2", json!({"key": "heartbeat"}))), None);
}

#[test]
fn a_command_comes_once_and_under_its_first_name_if_both_are_subscribed() {
    let mut talk = logged_in();
    let sub = |id: &str, name: &str| {
        client_frame(0x81, format!(r#"{{"msg":"sub","id":"{id}","name":"{name}","params":["u1"]}}"#).as_bytes())
    };
    let heartbeat = || command("u1", json!({"key": "heartbeat"}));
    assert_eq!(told(&mut talk, &heartbeat()), None);
    for (subs, unsub, stream) in [
        (vec![("1", "stream-ddp-requests")], "", "stream-ddp-requests"),
        (vec![("2", "stream-client-commands"), ("3", "stream-client-commands")], "", "stream-client-commands"),
        (vec![], "2", "stream-client-commands"),
        (vec![], "3", "stream-ddp-requests"),
    ] {
        for (id, name) in subs {
            talk.send(&sub(id, name));
            talk.outcome(Ok(Answer::Attending));
        }
        if !unsub.is_empty() {
            talk.send(&client_frame(0x81, format!(r#"{{"msg":"unsub","id":"{unsub}"}}"#).as_bytes()));
            talk.outcome(Ok(Answer::Attending));
        }
        talk.received();
        let shown = told(&mut talk, &heartbeat()).unwrap();
        assert!(shown.starts_with(&format!(r#"{{"msg":"changed","collection":"{stream}","id":"id""#)), "{shown}");
        assert_eq!(shown.lines().count(), 1);
    }
}

#[test]
fn subscriptions_sleep_until_their_user_logs_in_and_again_when_he_logs_out() {
    let mut talk = open();
    let heartbeat = || command("u1", json!({"key": "heartbeat"}));
    play(
        &mut talk,
        r#"
        > {"msg":"sub","id":"7","name":"meteor.loginServiceConfiguration","params":[]}
        < {"msg":"ready","subs":["7"]}
        > {"msg":"sub","id":"8","name":"stream-client-commands","params":["u1",true]}
        < {"msg":"added","collection":"stream-client-commands","id":"id","fields":{"eventName":"u1"}}
        < {"msg":"ready","subs":["8"]}
        > {"msg":"sub","id":"9","name":"stream-room-messages","params":["__my_messages__",true]}
        < {"msg":"added","collection":"stream-room-messages","id":"id","fields":{"eventName":"__my_messages__"}}
        < {"msg":"ready","subs":["9"]}
        > {"msg":"sub","id":"x","name":"stream-notify-user","params":["u1/message",false]}
        < {"msg":"ready","subs":["x"]}
        "#,
    );
    let hears = |talk: &Talk| talk.peer.hears(&room("general"), true);
    assert_eq!((told(&mut talk, &heartbeat()), hears(&talk)), (None, Hears::NOTHING));
    play(
        &mut talk,
        r#"
        > {"msg":"method","id":"10","method":"login","params":[{"resume":"t"}]}
        ? log in by token
        ! known u1
        < {"msg":"added","collection":"users","id":"u1","fields":{"username":"bot"}}
        < {"msg":"result","id":"10","result":{"id":"u1","token":"0123456789012345678901234567890123456789012","tokenExpires":{"$date":1803065701617},"type":"resume"}}
        < {"msg":"updated","methods":["10"]}
        ? attend commands
        "#,
    );
    assert!(told(&mut talk, &heartbeat()).is_some());
    assert!(told(&mut talk, &Event::Message("x".into())).is_some());
    assert_eq!(hears(&talk), Hears::in_format(WireFormat::DdpMine));
    play(
        &mut talk,
        r#"
        > {"msg":"method","id":"11","method":"logout","params":[]}
        ? log out
        ! gone
        < {"msg":"result","id":"11"}
        < {"msg":"updated","methods":["11"]}
        ? attend
        "#,
    );
    assert_eq!((told(&mut talk, &heartbeat()), hears(&talk)), (None, Hears::NOTHING));
    assert_eq!(told(&mut talk, &Event::Message("x".into())), None);
    // It lives on, and wakes again.
    log_in(&mut talk, "u1");
    talk.outcome(Ok(Answer::Attending));
    assert!(told(&mut talk, &heartbeat()).is_some());
}

#[test]
fn what_is_somebody_elses_ends_when_another_user_logs_in() {
    let mut talk = logged_in();
    play(
        &mut talk,
        r#"
        > {"msg":"sub","id":"1","name":"stream-client-commands","params":["u1"]}
        < {"msg":"ready","subs":["1"]}
        ? attend commands
        > {"msg":"sub","id":"2","name":"stream-notify-user","params":["u1/rooms-changed",false]}
        < {"msg":"ready","subs":["2"]}
        > {"msg":"sub","id":"3","name":"stream-room-messages","params":["general",false]}
        ? find "general"
        ! public general
        ? attend commands general
        < {"msg":"ready","subs":["3"]}
        > {"msg":"sub","id":"4","name":"stream-room-messages","params":["staff",false]}
        ? find "staff"
        ! restricted staff
        ? attend commands general staff
        < {"msg":"ready","subs":["4"]}
        > {"msg":"method","id":"5","method":"login","params":[{"user":{"id":"u2"},"password":"x"}]}
        ? log in Id("u2") Plain
        ! password u2
        < {"msg":"added","collection":"users","id":"u2","fields":{"username":"u2"}}
        < {"msg":"result","id":"5","result":{"id":"u2","token":"0123456789012345678901234567890123456789012","tokenExpires":{"$date":1803065701617},"type":"password"}}
        < {"msg":"updated","methods":["5"]}
        < {"msg":"nosub","id":"4","error":NOT_ALLOWED}
        < {"msg":"nosub","id":"1","error":NOT_ALLOWED}
        < {"msg":"nosub","id":"2","error":NOT_ALLOWED}
        ? attend general
        > {"msg":"sub","id":"1","name":"stream-client-commands","params":["u2"]}
        < {"msg":"ready","subs":["1"]}
        ? attend commands general
        "#,
    );
}

#[test]
fn what_was_judged_for_a_user_stays_while_nobody_else_comes() {
    play(
        &mut logged_in(),
        r#"
        > {"msg":"sub","id":"1","name":"stream-room-messages","params":["%du1%u2",false]}
        ? find "\u{1}u1\u{1}u2"
        ! direct u2
        ? attend u1u2
        < {"msg":"ready","subs":["1"]}
        > {"msg":"method","id":"2","method":"logout"}
        ? log out
        ! gone
        < {"msg":"result","id":"2"}
        < {"msg":"updated","methods":["2"]}
        ? attend
        > {"msg":"method","id":"3","method":"login","params":[{"resume":"t"}]}
        ? log in by token
        ! known u1
        < {"msg":"added","collection":"users","id":"u1","fields":{"username":"bot"}}
        < {"msg":"result","id":"3","result":{"id":"u1","token":"0123456789012345678901234567890123456789012","tokenExpires":{"$date":1803065701617},"type":"resume"}}
        < {"msg":"updated","methods":["3"]}
        ? attend u1u2
        "#
        .replace("attend u1u2", "attend \u{1}u1\u{1}u2")
        .as_str(),
    );
}

#[test]
fn rooms_are_looked_for_before_they_are_subscribed_to() {
    let mut talk = open();
    play(
        &mut talk,
        r#"
        > {"msg":"sub","id":"1","name":"stream-room-messages","params":["general",{"useCollection":false,"args":[]}]}
        ? find "general"
        ! public general
        < {"msg":"ready","subs":["1"]}
        > {"msg":"sub","id":"2","name":"stream-room-messages","params":["staff",true]}
        ? find "staff"
        ! no room
        < {"msg":"nosub","id":"2","error":NOT_ALLOWED}
        > {"msg":"sub","id":"3","name":"stream-room-messages","params":["no%room",true]}
        < {"msg":"nosub","id":"3","error":NOT_ALLOWED}
        > {"msg":"sub","id":"4","name":"stream-notify-room","params":["general/typing",true]}
        ? find "general"
        ! public general
        < {"msg":"added","collection":"stream-notify-room","id":"id","fields":{"eventName":"general/typing"}}
        < {"msg":"ready","subs":["4"]}
        > {"msg":"sub","id":"5","name":"stream-notify-room","params":["staff/deleteMessage"]}
        ? find "staff"
        ! not authorized
        < {"msg":"nosub","id":"5","error":NOT_ALLOWED}
        > {"msg":"sub","id":"6","name":"stream-room-messages","params":["general"]}
        ? find "general"
        ! unavailable
        < {"msg":"nosub","id":"6","error":{"isClientSafe":true,"error":500,"reason":"Internal server error","message":"Internal server error [500]","errorType":"Meteor.Error"}}
        "#,
    );
    assert_eq!(talk.peer.hears(&room("general"), false), Hears::NOTHING);
    log_in(&mut talk, "u1");
    talk.outcome(Ok(Answer::Attending));
    assert_eq!(talk.peer.hears(&room("general"), false), Hears::in_format(WireFormat::DdpRoom));
    assert_eq!(talk.peer.hears(&room("other"), true), Hears::NOTHING);
}

#[test]
fn ready_follows_once_the_node_listens_and_nosub_if_it_cannot() {
    let mut talk = open_with(|settings| settings.public_rooms_to_all = true);
    log_in(&mut talk, "u1");
    let sub = |id: &str| {
        let text = format!(r#"{{"msg":"sub","id":"{id}","name":"stream-room-messages","params":["__my_messages__"]}}"#);
        client_frame(0x81, text.as_bytes())
    };
    talk.send(&sub("1"));
    assert_eq!((talk.received().as_str(), talk.peer.hears(&room("general"), false)), ("", Hears::NOTHING));
    talk.outcome(Ok(Answer::Attending));
    assert_eq!(talk.received(), "{\"msg\":\"ready\",\"subs\":[\"1\"]}\n");
    assert!(talk.fx.rehear && !talk.peer.hears(&room("general"), false).is_nothing());
    talk.send(&client_frame(0x81, br#"{"msg":"unsub","id":"1"}"#));
    talk.outcome(Ok(Answer::Attending));
    talk.received();

    talk.send(&sub("2"));
    talk.outcome(Err(CallError::Unavailable));
    let refused = talk.received();
    assert!(refused.starts_with(r#"{"msg":"nosub","id":"2","error":{"isClientSafe":true,"error":500,"#), "{refused}");
    assert_eq!(talk.peer.hears(&room("general"), false), Hears::NOTHING);
    // The node learns that the subscription has ended. If that fails, the client has nothing to wait for.
    talk.outcome(Err(CallError::Unavailable));
    assert_eq!(talk.received(), "");
    talk.send(&sub("2"));
    talk.outcome(Ok(Answer::Attending));
    assert_eq!(talk.received(), "{\"msg\":\"ready\",\"subs\":[\"2\"]}\n");
}

#[test]
fn who_subscribed_to_all_rooms_and_to_one_hears_that_one_twice() {
    for to_all in [false, true] {
        let mut talk = open_with(|settings| settings.public_rooms_to_all = to_all);
        log_in(&mut talk, "u1");
        let attend = if to_all { "? attend public\n" } else { "" };
        play(
            &mut talk,
            &format!(
                r#"
                > {{"msg":"sub","id":"1","name":"stream-room-messages","params":["__my_messages__"]}}
                {attend}
                < {{"msg":"ready","subs":["1"]}}
                "#
            ),
        );
        if !to_all {
            assert!(talk.fx.rehear);
        }
        let mine = Hears::in_format(WireFormat::DdpMine);
        let listener = if to_all { Hears::in_format(WireFormat::DdpMineListener) } else { Hears::NOTHING };
        assert_eq!(talk.peer.hears(&room("general"), true), mine);
        assert_eq!(talk.peer.hears(&room("general"), false), listener);

        talk.send(&client_frame(0x81, br#"{"msg":"sub","id":"2","name":"stream-room-messages","params":["general"]}"#));
        talk.outcome(Ok(Answer::RoomFound { room: room("general"), kind: RoomKind::Public }));
        talk.outcome(Ok(Answer::Attending));
        let one = Hears::in_format(WireFormat::DdpRoom);
        assert_eq!(talk.peer.hears(&room("general"), true), mine.and(one));
        assert_eq!(talk.peer.hears(&room("general"), false), listener.and(one));
    }
}

#[test]
fn messages_of_the_application_come_when_they_were_subscribed_to() {
    let mut talk = logged_in();
    let event = Event::Message(RawJson::from_value(&json!({"hello": 1.0})));
    play(
        &mut talk,
        r#"
        > {"msg":"sub","id":"1","name":"stream-notify-user","params":["u1/subscriptions-changed"]}
        < {"msg":"ready","subs":["1"]}
        > {"msg":"sub","id":"2","name":"stream-notify-user","params":["u2/message"]}
        < {"msg":"nosub","id":"2","error":NOT_ALLOWED}
        "#,
    );
    assert_eq!(told(&mut talk, &event), None);
    play(
        &mut talk,
        r#"
        > {"msg":"sub","id":"3","name":"stream-notify-user","params":["u1/message",true]}
        < {"msg":"added","collection":"stream-notify-user","id":"id","fields":{"eventName":"u1/message"}}
        < {"msg":"ready","subs":["3"]}
        "#,
    );
    assert_eq!(
        told(&mut talk, &event).unwrap(),
        "{\"msg\":\"changed\",\"collection\":\"stream-notify-user\",\"id\":\"id\",\"fields\":{\"eventName\":\"u1/message\",\"args\":[{\"hello\":1.0}]}}\n"
    );
}

#[test]
fn publications_that_bring_nothing_are_ready_at_once() {
    play(
        &mut open(),
        r#"
        > {"msg":"sub","id":"1","name":"activeUsers"}
        < {"msg":"ready","subs":["1"]}
        > {"msg":"sub","id":"2","name":"userData","params":[]}
        < {"msg":"ready","subs":["2"]}
        > {"msg":"sub","id":"3","name":"stream-notify-all","params":["public-settings-changed",false]}
        < {"msg":"ready","subs":["3"]}
        > {"msg":"sub","id":"4","name":"stream-notify-logged","params":["user-status",true]}
        < {"msg":"added","collection":"stream-notify-logged","id":"id","fields":{"eventName":"user-status"}}
        < {"msg":"ready","subs":["4"]}
        > {"msg":"unsub","id":"4"}
        < {"msg":"nosub","id":"4"}
        "#,
    );
}

#[test]
fn fault_row_30_subscriptions_are_limited_and_an_ended_one_makes_room() {
    let mut talk = open_with(|settings| settings.max_subscriptions = 1);
    play(
        &mut talk,
        r#"
        > {"msg":"sub","id":"1","name":"activeUsers"}
        < {"msg":"ready","subs":["1"]}
        > {"msg":"sub","id":"2","name":"stream-client-commands","params":["u1"]}
        < {"msg":"nosub","id":"2","error":{"isClientSafe":true,"error":"too-many-subscriptions","message":"[too-many-subscriptions]","errorType":"Meteor.Error"}}
        > {"msg":"unsub","id":"1"}
        < {"msg":"nosub","id":"1"}
        > {"msg":"sub","id":"2","name":"stream-client-commands","params":["u1"]}
        < {"msg":"ready","subs":["2"]}
        "#,
    );
}
