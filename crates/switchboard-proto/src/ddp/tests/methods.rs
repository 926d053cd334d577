//! Methods: arguments, calls, results, refusals.

use super::*;

/// Plays one call: its arguments, the call that it leads to (empty for none), its outcome, and what is returned.
#[track_caller]
fn play(talk: &mut Talk, method: &str, params: &str, call: &str, outcome: &str, returned: &str) {
    let asked = match (call, outcome) {
        ("", _) => String::new(),
        (call, outcome) => format!("? {call}\n! {outcome}\n"),
    };
    let returned = match returned.strip_prefix("error ") {
        Some(error) => format!(",\"error\":{}", worded(error, method)),
        None if returned.is_empty() => String::new(),
        None => format!(",\"result\":{returned}"),
    };
    check(
        talk,
        &format!(
            "> {{\"msg\":\"method\",\"id\":\"1\",\"method\":\"{method}\",\"params\":{params}}}\n{asked}\
             < {{\"msg\":\"result\",\"id\":\"1\"{returned}}}\n< {{\"msg\":\"updated\",\"methods\":[\"1\"]}}\n"
        ),
    );
}

/// The JSON of an error that is written as `CODE REASON`.
fn worded(error: &str, method: &str) -> String {
    let (code, reason) = error.split_once(' ').unwrap();
    let shown = if code.parse::<u16>().is_ok() { code.to_owned() } else { format!("\"{code}\"") };
    let details = match code {
        "error-invalid-user" => format!(",\"details\":{{\"method\":\"{method}\"}}"),
        "too-many-requests" => ",\"details\":{\"timeToReset\":4200}".to_owned(),
        _ => String::new(),
    };
    format!(
        "{{\"isClientSafe\":true,\"error\":{shown},\"reason\":\"{reason}\",\"message\":\"{reason} [{code}]\",\"errorType\":\"Meteor.Error\"{details}}}"
    )
}

const MATCH_FAILED: &str = "error 400 Match failed";
const INVALID_USER: &str = "error error-invalid-user Invalid user";
const NOT_ALLOWED: &str = "error error-not-allowed Not allowed";
const INVALID_ROOM: &str = "error error-invalid-room Invalid room";

#[test]
fn rooms_are_found_by_name_or_id() {
    let talk = &mut logged_in();
    let method = "getRoomIdByNameOrId";
    play(talk, method, r#"["general"]"#, "find \"general\"", "public general", "\"general\"");
    play(talk, method, r#"["a/b%c"]"#, "find \"a/b%c\"", "restricted a/b%c", "\"a%2Fb%25c\"");
    play(talk, method, r#"["a%2Fb"]"#, "find \"a%2Fb\" \"a/b\"", "public a/b", "\"a%2Fb\"");
    play(talk, method, r#"["%du1%u2"]"#, "find \"%du1%u2\" \"\\u{1}u1\\u{1}u2\"", "direct u2", "\"%du1%u2\"");
    play(talk, method, r#"["secret"]"#, "find \"secret\"", "no room", NOT_ALLOWED);
    play(talk, method, r#"["\n"]"#, "", "", NOT_ALLOWED);
    play(talk, method, "[5]", "", "", MATCH_FAILED);

    let method = "getRoomNameById";
    play(talk, method, r#"["a%2Fb"]"#, "find \"a/b\"", "public a/b", "\"a/b\"");
    play(talk, method, r#"["%du1%u2"]"#, "find \"\\u{1}u1\\u{1}u2\"", "direct u2", "");
    play(talk, method, r#"["secret"]"#, "find \"secret\"", "no room", NOT_ALLOWED);
    play(talk, method, r#"["a/b"]"#, "", "", NOT_ALLOWED);
    play(talk, method, "[]", "", "", MATCH_FAILED);
}

#[test]
fn rooms_are_joined_and_left_with_all_sessions_of_the_user() {
    let talk = &mut logged_in();
    let (method, call) = ("joinRoom", "join \"general\" as user");
    play(talk, method, r#"["general"]"#, call, "joined", "true");
    play(talk, method, r#"["general",null]"#, call, "inside", "true");
    play(talk, method, r#"["general","code"]"#, call, "no room", INVALID_ROOM);
    play(talk, method, r#"["general"]"#, call, "not authorized", INVALID_ROOM);
    play(talk, method, r#"["general"]"#, call, "too many", NOT_ALLOWED);
    play(talk, method, r#"["general"]"#, call, "said no", "error error-not-allowed not today");
    play(talk, method, r#"["general"]"#, call, "unavailable", "error 500 Internal server error");
    play(talk, method, r#"["a/b"]"#, "", "", INVALID_ROOM);
    play(talk, method, r#"["general",5]"#, "", "", MATCH_FAILED);
    play(talk, method, "[null]", "", "", MATCH_FAILED);

    let (method, call) = ("leaveRoom", "leave \"general\" as user");
    play(talk, method, r#"["general"]"#, call, "left", "");
    play(talk, method, r#"["general"]"#, call, "outside", "error error-user-not-in-room You are not in this room");
    play(talk, method, r#"["general"]"#, call, "no room", INVALID_ROOM);
    play(talk, method, r#"["%du1%u2"]"#, "", "", NOT_ALLOWED);
    play(talk, method, r#"["a/b"]"#, "", "", INVALID_ROOM);
    play(talk, method, "[{}]", "", "", MATCH_FAILED);
}

#[test]
fn the_room_of_two_users_is_opened_by_name() {
    let talk = &mut logged_in();
    let (method, call) = ("createDirectMessage", "direct \"u2\"");
    play(talk, method, r#"["u2"]"#, call, "direct u2", "{\"rid\":\"%du1%u2\"}");
    play(talk, method, r#"["u2"]"#, call, "nobody", INVALID_USER);
    play(talk, method, r#"["u2"]"#, call, "not authorized", NOT_ALLOWED);
    play(talk, method, "[]", "", "", MATCH_FAILED);
}

#[test]
fn a_message_is_kept_as_its_sender_wrote_it() {
    let mut talk = logged_in();
    let sent = r#"{"msg":"hi \"you\"","bot":{"i":"js.SDK"},"rid":"general","n":1.0,"_id":"m7","ts":{"$date":-5}}"#;
    play(
        &mut talk,
        "sendMessage",
        &format!("[ {sent} ]"),
        &format!(
            "Publish(Publication {{ room: \"general\", body: \"hi \\\"you\\\"\", attachment: Some({sent}), id: Some(\"m7\"), claimed_at: Some(-5) }})"
        ),
        r#"published {"msg":"x","bot":{"i":"js.SDK"},"rid":"general"}"#,
        r#"{"msg":"hi","bot":{"i":"js.SDK"},"rid":"general","_id":"m7","ts":{"$date":1000},"u":{"_id":"u1","username":"bot","name":"bot"},"_updatedAt":{"$date":1000},"mentions":[],"channels":[],"number":7}"#,
    );
    // Later than the one before, although sent at the same time.
    play(
        &mut talk,
        "sendMessage",
        r#"[{"rid":"general"}]"#,
        "Publish(Publication { room: \"general\", body: \"\", attachment: Some({\"rid\":\"general\"}), id: None, claimed_at: None })",
        r#"published {"rid":"general"}"#,
        r#"{"rid":"general","_id":"m7","msg":"hi","ts":{"$date":1001},"u":{"_id":"u1","username":"bot","name":"bot"},"_updatedAt":{"$date":1001},"mentions":[],"channels":[],"number":7}"#,
    );
}

#[test]
fn a_message_that_cannot_be_is_refused_and_so_is_one_that_may_not_be() {
    let method = "sendMessage";
    let mut talk = open_with(|settings| settings.max_text_chars = 3);
    log_in(&mut talk, "u1");
    let talk = &mut talk;
    for params in [
        "[]",
        "[\"text\"]",
        r#"[{"msg":"x"}]"#,
        r#"[{"rid":5,"msg":"x"}]"#,
        r#"[{"rid":"general","msg":5}]"#,
        r#"[{"rid":"general","_id":""}]"#,
        r#"[{"rid":"general","_id":7}]"#,
        r#"[{"rid":"general","ts":7}]"#,
    ] {
        play(talk, method, params, "", "", MATCH_FAILED);
    }
    play(talk, method, &format!(r#"[{{"rid":"general","_id":"{}"}}]"#, "x".repeat(65)), "", "", MATCH_FAILED);
    let too_long = "error error-message-size-exceeded Message size exceeds the limit";
    play(talk, method, r#"[{"rid":"general","msg":"éééé"}]"#, "", "", too_long);
    play(talk, method, r#"[{"rid":"a/b","msg":"x"}]"#, "", "", NOT_ALLOWED);
    let sent = r#"{"rid":"general","msg":"ééé"}"#;
    let call = format!(
        "Publish(Publication {{ room: \"general\", body: \"ééé\", attachment: Some({sent}), id: None, claimed_at: None }})"
    );
    for (outcome, returned) in [
        ("outside", NOT_ALLOWED),
        ("no room", NOT_ALLOWED),
        ("anonymous", INVALID_USER),
        ("too long", too_long),
        ("id taken", "error 400 The message id is taken, choose another one"),
        ("out of sync", "error error-message-ts-out-of-sync Message timestamp is out of sync"),
        ("too often", "error too-many-requests Too many requests, try again later"),
    ] {
        play(talk, method, &format!("[{sent}]"), &call, outcome, returned);
    }
}

/// It gave all messages times behind the last one that was stamped for anybody, later ones with each call, so it did not lead
/// further back, and whoever called it often sent the times of everybody else into the future.
#[test]
fn history_lists_the_newest_first_with_times_of_its_own() {
    let talk = &mut logged_in();
    talk.with(|_, cx| cx.stamps.next(4000));
    let method = "loadHistory";
    let document = |number, stamp| {
        format!(
            r#"{{"_id":"m{number}","rid":"general","msg":"hi","ts":{{"$date":{stamp}}},"u":{{"_id":"u1","username":"bot","name":"bot"}},"_updatedAt":{{"$date":{stamp}}},"mentions":[],"channels":[],"number":{number}}}"#
        )
    };
    let returned = format!(r#"{{"messages":[{},{}],"unreadNotLoaded":1}}"#, document(3, 951), document(2, 950));
    play(
        talk,
        method,
        r#"["general",{"$date":5000},7,{"$date":-1}]"#,
        "History(HistoryRange { room: \"general\", before_ms: Some(5000), limit: 7, unread_since_ms: Some(0) })",
        "history",
        &returned,
    );
    assert_eq!(talk.with(|_, cx| cx.stamps.next(0)), 4001);
    let call = "History(HistoryRange { room: \"general\", before_ms: None, limit: 20, unread_since_ms: None })";
    for (params, outcome) in [
        (r#"["general"]"#, "no room"),
        (r#"["general",null,null,null]"#, "outside"),
        (r#"["general",null,20]"#, "not authorized"),
    ] {
        play(talk, method, params, call, outcome, "false");
    }
    play(talk, method, r#"["a/b"]"#, "", "", "false");
    for params in ["[]", r#"["general",5]"#, r#"["general",null,-1]"#, r#"["general",null,20,"x"]"#] {
        play(talk, method, params, "", "", MATCH_FAILED);
    }
}

#[test]
fn client_data_and_replies_are_passed_on_as_they_were_written() {
    let talk = &mut logged_in();
    let object = r#"{"z":1.0, "a":[1e2,12345678901234567890123]}"#;
    let passed = object.replace(' ', "");
    let params = format!("[{object}]");
    let call = format!("client data {passed}");
    play(talk, "setCustomClientData", &params, &call, "set", "true");
    play(talk, "setCustomClientData", &params, &call, "bad data", MATCH_FAILED);
    for params in ["[]", "[[]]", "[\"x\"]"] {
        play(talk, "setCustomClientData", params, "", "", MATCH_FAILED);
    }
    for method in ["replyClientCommand", "replyToDdpRequest"] {
        let params = format!("[\"x\", {object} ]");
        let call = format!("reply x {passed}");
        play(talk, method, &params, &call, "in time", "true");
        play(talk, method, &params, &call, "late", "false");
        play(talk, method, &params, &call, "anonymous", INVALID_USER);
        play(talk, method, &params, &call, "large reply", "error error-response-too-large Response is too large");
        for params in ["[12,{}]", "[\"x\"]", "[\"x\",\"notAnObject\"]", "[\"x\",[]]", "[]"] {
            play(talk, method, params, "", "", MATCH_FAILED);
        }
    }
}

#[test]
fn methods_of_users_are_refused_to_anonymous_sessions_when_their_arguments_are_right() {
    let talk = &mut open();
    for (method, params) in [
        ("createDirectMessage", r#"["u2"]"#),
        ("getRoomIdByNameOrId", r#"["general"]"#),
        ("getRoomNameById", r#"["a/b"]"#),
        ("joinRoom", r#"["general"]"#),
        ("leaveRoom", r#"["general"]"#),
        ("loadHistory", r#"["a/b"]"#),
        ("replyClientCommand", r#"["x",{"success":true}]"#),
        ("replyToDdpRequest", r#"["x",{"success":true}]"#),
        ("sendMessage", r#"[{"rid":"general","msg":"x"}]"#),
        ("setCustomClientData", "[{}]"),
        ("UserPresence:away", "[]"),
        ("UserPresence:online", "[]"),
        ("UserPresence:setDefaultStatus", r#"["busy"]"#),
    ] {
        play(talk, method, params, "", "", INVALID_USER);
    }
    play(talk, "replyClientCommand", r#"["x"]"#, "", "", MATCH_FAILED);
    play(talk, "sendMessage", "[5]", "", "", MATCH_FAILED);
}

#[test]
fn presence_and_typing_are_accepted_and_mean_nothing() {
    let talk = &mut logged_in();
    play(talk, "UserPresence:online", "[]", "", "", "");
    play(talk, "UserPresence:away", "[]", "", "", "");
    play(talk, "UserPresence:setDefaultStatus", r#"["away"]"#, "", "", "");
    play(talk, "UserPresence:setDefaultStatus", "[5]", "", "", MATCH_FAILED);
    play(talk, "stream-notify-room", r#"["general/typing","bot",true]"#, "", "", "");
}
