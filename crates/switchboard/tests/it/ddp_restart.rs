//! What is left of users when the program ends, as planned or not, and is started again.

use std::thread;

use rustix::process::Signal;
use serde_json::{Value, json};
use switchboard_testkit::ddp::DdpClient;
use switchboard_testkit::http::HttpClient;

use super::ddp_support::{COMMANDS, MINE, PASSWORD, ROOMS, USERS, connect_to, date, refused, words};
use super::peer::{Folder, eventually};
use super::program::{Program, output};

const TOKEN: &str = "correct-horse-battery-staple";

/// A configuration that keeps everything in this folder.
fn configured(folder: &Folder, users: &str, more: &str) -> String {
    let data = folder.join("data").display().to_string();
    let text = format!(
        "{users}\n{more}\n[backend]\nkind = \"file\"\n[node]\ndata_dir = \"{data}\"\ndrain_spread = \"0s\"\n\
         [admin]\nport = 0\ntoken = \"{TOKEN}\"\n"
    );
    folder.write("switchboard.toml", text).display().to_string()
}

fn start(config: &str) -> Program {
    Program::start(&["--config", config, "--set", "admin.enabled=true"])
}

fn connect(program: &Program) -> DdpClient {
    connect_to(program.web().parse().unwrap())
}

/// The program comes to its end by this signal.
fn end(mut program: Program, signal: Signal) {
    program.signal(signal);
    program.ended();
}

fn operator(program: &Program) -> HttpClient {
    HttpClient::new(program.admin().parse().unwrap()).with_token(TOKEN)
}

/// Asks the bot something, lets it reply, and returns when it was told that it was asked.
#[track_caller]
fn asked_at(program: &Program, bot: &mut DdpClient) -> u64 {
    let operator = operator(program);
    let sent = thread::spawn(move || {
        operator.send("POST", "/v1/commands", &json!({"target": {"user": "b1"}, "command": {"key": "x"}}))
    });
    let document = bot.heard(COMMANDS)[0].take();
    assert_eq!(bot.call("replyClientCommand", json!([document["_id"], {"success": true}])), Ok(json!(true)));
    let answer = sent.join().unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
    date(&document)
}

/// A bot that comes back as the SDK does: its subscriptions, then its token.
#[track_caller]
fn come_back(program: &Program, token: &str) -> DdpClient {
    let mut bot = connect(program);
    bot.sub(COMMANDS, json!(["b1"])).unwrap();
    bot.sub(ROOMS, json!([MINE])).unwrap();
    bot.resume(token);
    bot
}

#[test]
fn a_bot_comes_back_to_its_rooms_however_the_program_ended() {
    let folder = Folder::new();
    let config = configured(&folder, USERS, "");
    let mut program = start(&config);
    let mut bot = connect(&program);
    let token = bot.log_in("bot", PASSWORD);
    bot.call("joinRoom", json!(["defaultRoom"])).unwrap();
    let rid = bot.call("createDirectMessage", json!(["ann"])).unwrap()["rid"].take();
    for signal in [Signal::KILL, Signal::TERM] {
        if signal == Signal::TERM {
            program.signal(signal);
            assert_eq!(bot.closed(), 1012);
            assert!(program.ended().success());
        } else {
            end(program, signal);
        }
        program = start(&config);
        bot = come_back(&program, &token);
        let mut ann = connect(&program);
        ann.log_in("ann", PASSWORD);
        ann.call("joinRoom", json!(["defaultRoom"])).unwrap();
        for room in [json!("defaultRoom"), rid.clone()] {
            ann.call("sendMessage", json!([{"rid": room, "msg": "welcome back"}])).unwrap();
            assert_eq!(bot.heard(ROOMS)[0]["msg"], "welcome back");
        }
    }
    // What is left or given back is so after a restart too.
    bot.call("leaveRoom", json!(["defaultRoom"])).unwrap();
    let mut other = connect(&program);
    let second = other.log_in("bot", PASSWORD);
    other.call("logout", json!([])).unwrap();
    end(program, Signal::KILL);
    program = start(&config);
    bot = come_back(&program, &token);
    let revoked = connect(&program).call("login", json!([{"resume": second}])).unwrap_err();
    assert_eq!(revoked["error"], 403, "{revoked}");
    let refusal = bot.call("leaveRoom", json!(["defaultRoom"]));
    assert_eq!(refused(refusal), words("error-user-not-in-room", "You are not in this room"));
}

#[test]
fn fault_row_40_times_of_commands_rise_though_the_clock_was_set_back() {
    let folder = Folder::new();
    // The clock of the first start is an hour ahead of those that follow.
    let ahead = "[commands]\nts_offset = \"1h\"\n";
    let program = start(&configured(&folder, USERS, ahead));
    let token = connect(&program).log_in("bot", PASSWORD);
    let mut bot = come_back(&program, &token);
    let mut last_ms = 0;
    for _ in 0..5 {
        let asked_ms = asked_at(&program, &mut bot);
        assert!(asked_ms > last_ms, "{asked_ms} behind {last_ms}");
        last_ms = asked_ms;
    }
    end(program, Signal::KILL);
    for signal in [Signal::KILL, Signal::TERM] {
        let program = start(&configured(&folder, USERS, ""));
        let mut bot = come_back(&program, &token);
        for _ in 0..3 {
            let asked_ms = asked_at(&program, &mut bot);
            assert!(asked_ms > last_ms, "{asked_ms} behind {last_ms}");
            last_ms = asked_ms;
        }
        end(program, signal);
    }
}

#[test]
fn fault_row_20_a_token_is_worth_what_its_user_is() {
    let folder = Folder::new();
    let program = start(&configured(&folder, USERS, ""));
    let tokens = ["bot", "ann", "bob"].map(|name| connect(&program).log_in(name, PASSWORD));
    end(program, Signal::TERM);
    // One has another password, one is switched off, one is gone, and a new one has the name of the one that is gone.
    let users = r#"users = [
        { id = "b1", username = "bot", password = "another" },
        { id = "a1", username = "ann", password = "secret", active = false },
        { id = "d1", username = "bob", password = "secret" },
        { id = "e1", username = "c1x", password = "secret" },
    ]"#;
    let program = start(&configured(&folder, users, ""));
    let [bot, ann, bob] = tokens.map(|token| connect(&program).call("login", json!([{"resume": token}])));
    assert_eq!(refused(ann), words("error-user-is-not-activated", "User is not activated"));
    let revoked = json!("You've been logged out by the server. Please log in again.");
    for other in [bot, bob] {
        assert_eq!(refused(other), (json!(403), revoked.clone()));
    }
}

#[test]
fn whoever_comes_back_to_fewer_rooms_than_there_were_is_let_in() {
    let folder = Folder::new();
    let program = start(&configured(&folder, USERS, ""));
    let mut bot = connect(&program);
    let token = bot.log_in("bot", PASSWORD);
    bot.call("joinRoom", json!(["defaultRoom"])).unwrap();
    let rid = bot.call("createDirectMessage", json!(["ann"])).unwrap()["rid"].take();
    bot.call("createDirectMessage", json!(["bob"])).unwrap();
    end(program, Signal::TERM);
    // No room may be made beside the first.
    let program = start(&configured(&folder, USERS, "[limits]\nmax_rooms = 1\n"));
    let mut bot = come_back(&program, &token);
    bot.call("sendMessage", json!([{"rid": "defaultRoom", "msg": "I am back"}])).unwrap();
    assert_eq!(bot.heard(ROOMS)[0]["msg"], "I am back");
    assert_eq!(
        refused(bot.call("sendMessage", json!([{"rid": rid, "msg": "x"}]))),
        words("error-not-allowed", "Not allowed")
    );
    end(program, Signal::TERM);
    // They are still his.
    let program = start(&configured(&folder, USERS, ""));
    let mut bot = come_back(&program, &token);
    bot.call("sendMessage", json!([{"rid": rid, "msg": "I am back"}])).unwrap();
    assert_eq!(bot.heard(ROOMS)[0]["rid"], rid);
}

#[test]
fn one_program_at_a_time_keeps_things_in_a_folder() {
    let folder = Folder::new();
    let config = configured(&folder, USERS, "");
    let program = start(&config);
    let (code, stdout, stderr) = output(
        folder.path(),
        &["serve", "--config", &config, "--set", "servers.socket.port=0", "--set", "servers.web.port=0"],
        &[],
    );
    assert_eq!((code, stdout.as_str()), (2, ""), "{stderr}");
    assert!(stderr.contains("node.data_dir") && stderr.contains("in use by another process"), "{stderr}");
    connect(&program).log_in("bot", PASSWORD);
}

#[test]
fn where_tokens_end_with_the_program_it_says_so_if_anybody_could_have_one() {
    const WARNING: &str = "kept in memory";
    let count = |program: &Program| program.log().matches(WARNING).count();
    let folder = Folder::new();
    let users = folder.write("users.toml", format!("{USERS}\n")).display().to_string();
    let in_memory = Program::start(&["--config", &users]);
    eventually("it is said", || count(&in_memory) == 1);
    let token = connect(&in_memory).log_in("bot", PASSWORD);
    end(in_memory, Signal::TERM);
    let again = Program::start(&["--config", &users]);
    let refused_token = connect(&again).call("login", json!([{"resume": token}]));
    let revoked = json!("You've been logged out by the server. Please log in again.");
    assert_eq!(refused(refused_token), (json!(403), revoked));
    assert_eq!(count(&again), 1);

    let in_a_file = start(&configured(&folder, USERS, ""));
    connect(&in_a_file).log_in("bot", PASSWORD);
    let nobody = Program::start(&[]);
    nobody.connect();
    assert_eq!((count(&in_a_file), count(&nobody)), (0, 0), "{}", nobody.log());
}

#[test]
fn what_was_said_is_numbered_anew_and_a_new_message_has_a_new_id() {
    let folder = Folder::new();
    let config = configured(&folder, USERS, "");
    let mut ids: Vec<Value> = Vec::new();
    let mut last_ms = 0;
    for _ in 0..3 {
        let program = start(&config);
        let mut bot = connect(&program);
        bot.log_in("bot", PASSWORD);
        bot.call("joinRoom", json!(["defaultRoom"])).unwrap();
        let message = bot.call("sendMessage", json!([{"rid": "defaultRoom", "msg": "x"}])).unwrap();
        assert!(!ids.contains(&message["_id"]) && message["number"] == 1 && date(&message) > last_ms, "{message}");
        last_ms = date(&message);
        ids.push(message["_id"].clone());
        end(program, Signal::KILL);
    }
}

#[test]
fn a_token_ends_when_the_password_of_its_user_changes_in_the_configuration() {
    let folder = Folder::new();
    let user = |name: &str, password: &str, more: &str| {
        format!("[[users]]\nid = \"u1\"\nusername = \"{name}\"\npassword = \"{password}\"\n{more}")
    };
    let nobody = "[[users]]\nid = \"u2\"\nusername = \"other\"\npassword = \"x\"\n".to_owned();
    let mut program = start(&configured(&folder, &user("ann", "secret", ""), ""));
    let token = connect(&program).log_in("ann", "secret");
    let resume = |program: &Program, token: &str| connect(program).call("login", json!([{"resume": token}]));
    let resumed_after = [
        (user("ann", "secret", ""), true),
        (user("ann", "secret", "roles = [\"bot\"]\n"), true),
        // Without its user the token is kept: the configuration may be incomplete for a while.
        (nobody, false),
        (user("ann", "secret", ""), true),
        (user("ann", "other", ""), false),
        (user("ann", "secret", ""), false),
    ];
    for (users, is_valid) in resumed_after {
        end(program, Signal::KILL);
        program = start(&configured(&folder, &users, ""));
        let resumed = resume(&program, &token);
        assert_eq!(resumed.is_ok(), is_valid, "{users} {resumed:?}");
        if let Err(refusal) = resumed {
            assert_eq!(refusal["error"], 403, "{refusal}");
        }
    }
}

#[test]
fn a_token_ends_when_its_user_is_renamed() {
    let folder = Folder::new();
    let user = |name: &str| format!("[[users]]\nid = \"u1\"\nusername = \"{name}\"\npassword = \"secret\"\n");
    let program = start(&configured(&folder, &user("ann"), ""));
    let token = connect(&program).log_in("ann", "secret");
    end(program, Signal::KILL);
    let program = start(&configured(&folder, &user("anna"), ""));
    assert_eq!(connect(&program).call("login", json!([{"resume": token}])).unwrap_err()["error"], 403);
}
