//! Logging in and out over DDP: every form, every refusal, and what becomes of whoever was there before.

use serde_json::{Value, json};
use switchboard_testkit::ddp::DdpClient;

use super::ddp_support::{COMMANDS, DIGEST, MINE, PASSWORD, ROOMS, connect_to, refused, serving, words};
use super::peer::{Folder, eventually};
use super::program::{Program, hash_password};
use super::support::TestServer;

const WRONG: &str = "Incorrect password";
const REVOKED: &str = "You've been logged out by the server. Please log in again.";

/// Who a session is: the users whose stream of commands it may hear. Nobody hears both, after a fashion.
#[track_caller]
fn is_user(client: &mut switchboard_testkit::ddp::DdpClient, id: &str) -> bool {
    let mut may_hear = |id: &str| match client.sub(COMMANDS, json!([id])) {
        Ok(sub) => {
            client.unsub(&sub);
            true
        }
        Err(_) => false,
    };
    may_hear(id) && !may_hear("nobody at all")
}

#[test]
fn every_form_of_log_in_is_taken_and_says_who_and_until_when() {
    let server = serving(&[]);
    let digest = |hex: &str| json!({"digest": hex, "algorithm": "sha-256"});
    for form in [
        json!({"user": {"username": "bot"}, "password": PASSWORD}),
        json!({"password": PASSWORD, "user": {"email": "bot"}}),
        json!({"user": {"id": "b1"}, "password": PASSWORD}),
        json!({"user": {"username": "bot"}, "password": digest(DIGEST)}),
        json!({"user": {"username": "bot"}, "password": digest(&DIGEST.to_uppercase())}),
    ] {
        let mut client = server.ddp();
        let id = client.begin("login", json!([form]));
        let result = client.finish(&id).unwrap();
        let token = result["token"].as_str().unwrap();
        assert_eq!((token.len(), &result["id"], &result["type"]), (43, &json!("b1"), &json!("password")), "{form}");
        let life_ms = result["tokenExpires"]["$date"].as_u64().unwrap() - server.node().unix_ms();
        assert!(life_ms.abs_diff(90 * 24 * 3_600_000) < 60_000, "{life_ms}");
        let user = json!({"msg": "added", "collection": "users", "id": "b1", "fields": {"username": "bot"}});
        assert_eq!(client.frame(), user);
        // The same token opens another session, and stays what it is.
        let mut other = server.ddp();
        let resumed = other.call("login", json!([{"resume": token}])).unwrap();
        assert_eq!((&resumed["token"], &resumed["type"]), (&result["token"], &json!("resume")));
        assert_eq!(resumed["tokenExpires"], result["tokenExpires"]);
        assert_eq!(other.frame(), user);
        assert!(is_user(&mut client, "b1") && is_user(&mut other, "b1"));
    }
}

#[test]
fn each_refusal_has_its_own_words_and_leaves_the_session_who_it_was() {
    let server = serving(&[]);
    let by_name = |name: &str, password: &str| json!([{"user": {"username": name}, "password": password}]);
    let unrecognized = (json!(400), json!("Unrecognized options for login request"));
    let no_match = (json!(400), json!("Match failed"));
    let forbidden = |reason: &str| (json!(403), json!(reason));
    let cases = [
        (by_name("nobody", PASSWORD), forbidden("User not found")),
        (by_name("b1", PASSWORD), forbidden("User not found")),
        (json!([{"user": {"id": "bot"}, "password": PASSWORD}]), forbidden("User not found")),
        (by_name("bot", "Secret"), forbidden(WRONG)),
        (by_name("bot", DIGEST), forbidden(WRONG)),
        (by_name("gone", "wrong"), forbidden(WRONG)),
        (by_name("gone", PASSWORD), words("error-user-is-not-activated", "User is not activated")),
        (json!([{"resume": "x".repeat(43)}]), forbidden(REVOKED)),
        (json!([{"resume": ""}]), forbidden(REVOKED)),
        (json!([{"resume": 5}]), no_match.clone()),
        (json!([{"user": "bot", "password": PASSWORD}]), no_match.clone()),
        (json!([{"user": {"username": "bot"}, "password": {"digest": DIGEST, "algorithm": "md5"}}]), no_match),
        (json!([]), unrecognized.clone()),
        (json!([{"ldap": true, "username": "bot", "ldapPass": "x", "ldapOptions": {}}]), unrecognized.clone()),
        (json!([{"oauth": {}}]), unrecognized),
    ];
    let (mut nobody, mut ann) = (server.ddp(), server.ddp_as("ann"));
    for (params, expected) in cases {
        for client in [&mut nobody, &mut ann] {
            assert_eq!(refused(client.call("login", params.clone())), expected, "{params}");
        }
    }
    let anonymous = nobody.call("joinRoom", json!(["defaultRoom"])).unwrap_err();
    assert_eq!(
        anonymous,
        json!({
            "isClientSafe": true, "error": "error-invalid-user", "reason": "Invalid user",
            "message": "Invalid user [error-invalid-user]", "errorType": "Meteor.Error", "details": {"method": "joinRoom"}
        })
    );
    assert!(is_user(&mut ann, "a1"));
}

#[test]
fn fault_row_16_where_it_is_wanted_a_wrong_name_and_a_wrong_password_read_alike() {
    let server = serving(&["servers.ddp.ambiguous_login_errors=true"]);
    let mut client = server.ddp();
    let unclear = (json!(403), json!("Something went wrong. Please check your credentials."));
    for (name, password) in [("nobody", PASSWORD), ("bot", "wrong"), ("gone", "wrong")] {
        let params = json!([{"user": {"username": name}, "password": password}]);
        assert_eq!(refused(client.call("login", params)), unclear, "{name}");
    }
}

#[test]
fn fault_row_16_a_right_password_is_accepted_after_too_many_wrong_ones_which_are_refused_on_all_connections() {
    let server = serving(&["servers.ddp.max_failed_logins=3", "servers.ddp.failed_login_pause=1ms"]);
    let token = server.ddp().log_in("ann", PASSWORD);
    let right = json!([{"user": {"username": "bot"}, "password": PASSWORD}]);
    let wrong = json!([{"user": {"username": "bot"}, "password": "wrong"}]);
    for _ in 0..3 {
        assert_eq!(refused(server.ddp().call("login", wrong.clone())), (json!(403), json!(WRONG)));
    }
    for mut client in [server.ddp(), server.ddp()] {
        let error = client.call("login", wrong.clone()).unwrap_err();
        assert_eq!(error["error"], "too-many-requests", "{error}");
        let wait_ms = error["details"]["timeToReset"].as_u64().unwrap();
        assert!((1..=60_000).contains(&wait_ms), "{wait_ms}");
        // Neither is who has a token, which cannot be guessed, nor who knows the password.
        client.resume(&token);
        client.call("login", right.clone()).unwrap();
    }
}

#[test]
fn fault_row_16_a_right_password_is_accepted_while_refusals_of_wrong_ones_from_its_address_wait() {
    let server = serving(&["servers.ddp.max_failed_logins=1", "servers.ddp.failed_login_pause=60s"]);
    let token = server.ddp().log_in("ann", PASSWORD);
    let right = json!([{"user": {"username": "bot"}, "password": PASSWORD}]);
    let wrong = json!([{"user": {"username": "bot"}, "password": "wrong"}]);
    // The first reaches the limit. The second is refused for that at once, the next one a minute later, and so on.
    assert_eq!(refused(server.ddp().call("login", wrong.clone())), (json!(403), json!(WRONG)));
    assert_eq!(refused(server.ddp().call("login", wrong.clone())).0, "too-many-requests");
    let ping = |client: &mut DdpClient| {
        client.send(&json!({"msg": "ping", "id": "p"}));
        assert_eq!(client.frame(), json!({"msg": "pong", "id": "p"}), "the login is not answered");
    };
    let mut waiting: Vec<_> = (0..16)
        .map(|_| {
            let mut client = server.ddp();
            client.begin("login", wrong.clone());
            ping(&mut client);
            client
        })
        .collect();
    server.ddp().call("login", right.clone()).unwrap();
    server.ddp().resume(&token);
    let mut last = server.ddp();
    assert_eq!(refused(last.call("login", wrong)).0, "too-many-requests");
    assert_eq!(last.closed(), 1008, "another guess costs another connection");
    server.ddp().call("login", right).unwrap();
    waiting.iter_mut().for_each(ping);
}

#[test]
fn a_second_log_in_replaces_the_first_in_everything() {
    let server = serving(&["rooms.starting=[{name=\"open\"},{name=\"staff\",auth={staff=true}}]"]);
    let mut client = server.ddp_in("ann", &["open", "staff"]);
    let own = client.sub(COMMANDS, json!(["a1"])).unwrap();
    let staff = client.sub(ROOMS, json!(["staff"])).unwrap();
    assert_eq!((server.member_count("open"), server.member_count("staff")), (1, 1));
    client.log_in("bot", PASSWORD);
    // What was ann's alone ends, and what came with her is gone.
    let ended: Vec<Value> = client
        .frames(2)
        .iter()
        .map(|frame| {
            assert_eq!((&frame["msg"], &frame["error"]["error"]), (&json!("nosub"), &json!("not-allowed")), "{frame}");
            frame["id"].clone()
        })
        .collect();
    assert!(ended.contains(&json!(own)) && ended.contains(&json!(staff)), "{ended:?}");
    assert_eq!((server.member_count("open"), server.member_count("staff")), (0, 0));
    assert_eq!(refused(client.call("joinRoom", json!(["staff"]))).0, "error-invalid-room");
    assert!(is_user(&mut client, "b1"));
    // She is still in her rooms: her next session is.
    let _ann = server.ddp_as("ann");
    assert_eq!((server.member_count("open"), server.member_count("staff")), (1, 1));
}

#[test]
fn a_second_log_in_of_the_same_user_changes_nothing() {
    let server = serving(&["servers.ddp.max_tokens_per_user=2"]);
    let mut bot = server.ddp();
    let mut tokens = vec![bot.log_in("bot", PASSWORD)];
    bot.call("joinRoom", json!(["defaultRoom"])).unwrap();
    bot.sub(COMMANDS, json!(["b1"])).unwrap();
    bot.sub(ROOMS, json!([MINE])).unwrap();
    let mut ann = server.ddp_in("ann", &["defaultRoom"]);
    let entered = server.wait(server.node().room_status("defaultRoom")).unwrap();
    tokens.push(bot.log_in("bot", PASSWORD));
    bot.resume(&tokens[0]);
    tokens.push(bot.log_in("bot", PASSWORD));
    assert_eq!(server.wait(server.node().room_status("defaultRoom")).unwrap(), entered);
    ann.call("sendMessage", json!([{"rid": "defaultRoom", "msg": "once"}])).unwrap();
    assert_eq!(bot.heard(ROOMS)[0]["msg"], "once");
    server.asks(&mut bot);
    bot.expect_silence();
    // Of so many tokens only two can be used, the latest.
    let resumed = tokens.iter().map(|token| server.ddp().call("login", json!([{"resume": token}])).is_ok());
    assert_eq!(resumed.collect::<Vec<_>>(), [false, true, true]);
}

#[test]
fn a_log_out_revokes_the_token_leaves_the_rooms_and_puts_subscriptions_to_sleep() {
    let server = serving(&[]);
    let mut bot = server.ddp();
    let token = bot.log_in("bot", PASSWORD);
    let mut other = server.ddp_as("bot");
    bot.call("joinRoom", json!(["defaultRoom"])).unwrap();
    bot.sub(COMMANDS, json!(["b1"])).unwrap();
    bot.sub(ROOMS, json!([MINE])).unwrap();
    assert_eq!(server.member_count("defaultRoom"), 2);
    server.asks(&mut bot);

    assert_eq!(bot.call("logout", json!([])), Ok(Value::Null));
    assert_eq!(server.member_count("defaultRoom"), 1);
    server.asks_nobody();
    assert_eq!(refused(bot.call("login", json!([{"resume": token}]))), (json!(403), json!(REVOKED)));
    assert_eq!(refused(other.call("login", json!([{"resume": token}]))), (json!(403), json!(REVOKED)));
    other.call("sendMessage", json!([{"rid": "defaultRoom", "msg": "are you there?"}])).unwrap();
    bot.expect_silence();
    // Logging out twice is no error.
    assert_eq!(bot.call("logout", json!([])), Ok(Value::Null));

    // What sleeps wakes up without a word.
    bot.log_in("bot", PASSWORD);
    assert_eq!(server.member_count("defaultRoom"), 2);
    server.asks(&mut bot);
    other.call("sendMessage", json!([{"rid": "defaultRoom", "msg": "welcome back"}])).unwrap();
    assert_eq!(bot.heard(ROOMS)[0]["msg"], "welcome back");
}

#[test]
fn whoever_logs_out_and_is_gone_at_once_has_logged_out() {
    let server = serving(&[]);
    let mut bot = server.ddp();
    let token = bot.log_in("bot", PASSWORD);
    bot.call("joinRoom", json!(["defaultRoom"])).unwrap();
    bot.begin("logout", json!([]));
    bot.line().half_close().unwrap();
    drop(bot);
    eventually("the token is worth nothing", || server.ddp().call("login", json!([{"resume": token}])).is_err());
}

#[test]
fn a_token_past_its_time_is_told_from_one_that_never_was() {
    let server = serving(&["servers.ddp.token_life=1s"]);
    let mut client = server.ddp();
    let token = client.log_in("bot", PASSWORD);
    let mut reason = Value::Null;
    eventually("it expires", || {
        reason = server.ddp().call("login", json!([{"resume": token}])).err().unwrap_or_default()["reason"].take();
        !reason.is_null()
    });
    assert_eq!(reason, "Your session has expired. Please log in again.");
    // Whoever is logged in stays so.
    assert!(is_user(&mut client, "b1"));
}

#[test]
fn a_log_in_that_takes_its_time_holds_up_what_is_behind_it_but_not_pings() {
    let folder = Folder::new();
    let (_, hash, _) = hash_password(folder.path(), b"secret\n");
    let users = format!("users=[{{id=\"b1\",username=\"bot\",password_hash=\"{}\"}}]", hash.trim_end());
    let server = TestServer::with(&[&users]);
    let mut client = server.ddp();
    client.line().send_together(&[
        r#"{"msg":"method","id":"1","method":"login","params":[{"user":{"username":"bot"},"password":"secret"}]}"#,
        r#"{"msg":"sub","id":"2","name":"stream-client-commands","params":["somebody"]}"#,
        r#"{"msg":"method","id":"3","method":"joinRoom","params":["defaultRoom"]}"#,
        r#"{"msg":"ping","id":"4"}"#,
    ]);
    assert_eq!(client.frame(), json!({"msg": "pong", "id": "4"}));
    let frames = client.frames(6);
    let kinds: Vec<_> = frames.iter().map(|frame| frame["msg"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["added", "result", "updated", "nosub", "result", "updated"], "{frames:?}");
    assert_eq!((&frames[1]["id"], &frames[1]["result"]["id"]), (&json!("1"), &json!("b1")));
    // A hash keeps others out too.
    let wrong = json!([{"user": {"username": "bot"}, "password": "wrong"}]);
    assert_eq!(refused(client.call("login", wrong)), (json!(403), json!(WRONG)));
}

#[test]
fn fault_row_57_what_clients_prove_themselves_with_is_in_no_log() {
    const CANARY: &str = "canary-4e1d77";
    let folder = Folder::new();
    let digest = "85cdd2fb7d4c5a4e8f1ab0e54ac1e6d09ae4ffb2d2ae5b8ea1e2ab9c3a5f0c11";
    let config = folder.write(
        "a.toml",
        format!("[[users]]\nid = \"b1\"\nusername = \"bot\"\npassword = \"{CANARY}\"\n\n[log]\nlevel = \"trace\"\n"),
    );
    let program = Program::start(&["--config", &config.display().to_string()]);
    let address = program.web().parse().unwrap();
    let mut client = connect_to(address);
    let token = client.log_in("bot", CANARY);
    connect_to(address).resume(&token);
    let wrong_token = "canary-of-a-token-that-nobody-has-0123456789";
    for form in [
        json!({"user": {"username": "bot"}, "password": {"digest": digest, "algorithm": "sha-256"}}),
        json!({"user": {"username": "bot"}, "password": format!("{CANARY}-and-more")}),
        json!({"resume": wrong_token}),
        json!({"resume": {"canary": CANARY}}),
    ] {
        client.call("login", json!([form])).unwrap_err();
    }
    client.send_text(&format!("{{\"msg\":\"method\",\"id\":5,\"password\":\"{CANARY}\"}}"));
    assert_eq!(client.frame()["reason"], "Malformed method invocation");
    client.send_text(&format!("not JSON {CANARY}"));
    assert_eq!(client.frame()["reason"], "Parse error");
    client.call("logout", json!([])).unwrap();
    client.line().half_close().unwrap();
    eventually("the end of the connection is logged", || program.log().contains("connection closed"));
    let log = program.log();
    for secret in [CANARY, &token, digest, wrong_token] {
        assert!(!log.contains(secret), "{secret}: {log}");
    }
}
