//! `switchboard ctl`: what it prints and how it ends, against a server.

use std::net::TcpListener;
use std::process::{Child, Command, Output, Stdio};

use serde_json::{Value, json};
use switchboard_testkit::client::LineClient;

use super::admin::{TOKEN, start};
use super::peer::{Folder, eventually};
use super::support::TestServer;

const USERS: &str = r#"users=[{id="u1",username="bot",password="secret"}]"#;

/// The program, about to ask this server; its folder is empty.
fn ctl(server: &TestServer, folder: &Folder, arguments: &[&str]) -> Command {
    let admin = format!("http://{}", server.server().addresses().admin.unwrap());
    let mut command = Command::new(env!("CARGO_BIN_EXE_switchboard"));
    command.args(["ctl", "--admin", &admin]).args(arguments).current_dir(folder.path());
    command.env("SWITCHBOARD__ADMIN__TOKEN", TOKEN).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Its exit code, standard output and standard error.
fn texts(output: Output) -> (i32, String, String) {
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

fn ended(child: Child) -> (i32, String, String) {
    texts(child.wait_with_output().unwrap())
}

fn taker(server: &TestServer) -> LineClient {
    let mut client = server.connect();
    assert_eq!(client.ask(r#"setCustomClientData {"commands":true}"#)["data"], true);
    client
}

#[test]
fn the_reply_is_printed_as_it_came() {
    let (server, _operator) = start(&[]);
    let folder = Folder::new();
    let mut client = taker(&server);
    let id = server.id_of(&client).to_string();
    let arguments = ["command", "--connection", &id, "tidyUp", "--data", r#"{"n":1.50}"#, "--timeout", "1m"];
    let child = ctl(&server, &folder, &arguments).spawn().unwrap();
    let line = client.read_line();
    assert!(line.contains(r#""cmd":{"key":"tidyUp","data":{"n":1.50}}"#), "{line}");
    let command: Value = serde_json::from_str(&line).unwrap();
    let id = command["_id"].as_str().unwrap();
    client.send(&format!("replyClientCommand {id} {{\"success\":false,\"n\":2.50,\"text\":\"\u{9b}31m\"}}"));
    let (code, stdout, stderr) = ended(child);
    assert_eq!((code, stderr.as_str()), (0, ""), "{stdout}");
    let reply = "  \"reply\": {\n    \"success\": false,\n    \"n\": 2.50,\n    \"text\": \"\\u009b31m\"\n  }\n}\n";
    assert!(stdout.starts_with(&format!("{{\n  \"id\": \"{id}\",\n")) && stdout.ends_with(reply), "{stdout}");
}

#[test]
fn the_exit_code_tells_a_reply_from_none() {
    let (server, _operator) = start(&[USERS]);
    let folder = Folder::new();
    let run = |arguments: &[&str]| texts(ctl(&server, &folder, arguments).output().unwrap());
    let (code, stdout, stderr) = run(&["command", "--user", "bot", "k", "--fail-fast"]);
    assert_eq!((code, stderr.as_str()), (1, "switchboard: bot is not there to take commands\n"));
    let printed: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(printed["error"]["code"], "error-client-command-no-recipient");

    let (code, stdout, stderr) = run(&["command", "--all", "k", "--fail-fast"]);
    assert_eq!((code, stderr.as_str()), (0, ""));
    assert_eq!(serde_json::from_str::<Value>(&stdout).unwrap()["rows"], json!([]));

    let (code, _, stderr) = run(&["command", "--user", "none", "k"]);
    assert_eq!(
        (code, stderr.as_str()),
        (1, "switchboard: unknown user: give the id or name of a user that is configured or connected\n")
    );
    assert_eq!(run(&["command", "--user", "bot"]).0, 2);

    let (code, stdout, _) = run(&["commands", "--settled"]);
    let listed: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!((code, listed["items"].as_array().unwrap().len()), (0, 2), "{listed}");
}

#[test]
fn a_pending_command_is_listed_and_taken_back() {
    let (server, operator) = start(&[USERS]);
    let folder = Folder::new();
    let arguments = ["command", "--user", "bot", "k", "--timeout", "1m", "--sender", "ann"];
    let waiting = ctl(&server, &folder, &arguments).spawn().unwrap();
    let mut id = String::new();
    eventually("it is pending", || {
        let (code, stdout, stderr) = texts(ctl(&server, &folder, &["commands"]).output().unwrap());
        assert_eq!(code, 0, "{stderr}");
        let list: Value = serde_json::from_str(&stdout).unwrap();
        id = list["items"][0]["id"].as_str().unwrap_or_default().to_owned();
        !id.is_empty()
    });
    let cancelled = texts(ctl(&server, &folder, &["cancel", &id]).output().unwrap());
    assert_eq!(cancelled, (0, format!("{{\n  \"id\": \"{id}\"\n}}\n"), String::new()));
    let (code, _, stderr) = ended(waiting);
    assert_eq!((code, stderr.as_str()), (1, "switchboard: the command was taken back\n"));
    assert_eq!(texts(ctl(&server, &folder, &["cancel", &id]).output().unwrap()).0, 1);

    // Whoever ends the program takes the command back.
    let mut waiting = ctl(&server, &folder, &arguments).spawn().unwrap();
    let pending = || operator.ask("GET", "/v1/commands").expect(200)["items"].as_array().unwrap().len();
    eventually("it is pending", || pending() == 1);
    waiting.kill().unwrap();
    waiting.wait().unwrap();
    eventually("it is not pending any more", || pending() == 0);
}

#[test]
fn the_token_comes_from_a_file_and_a_wrong_one_is_told_with_its_remedy() {
    let (server, _operator) = start(&[]);
    let folder = Folder::new();
    let file = folder.write("token", format!("{TOKEN}\n"));
    let mut command = ctl(&server, &folder, &["commands"]);
    command.env_remove("SWITCHBOARD__ADMIN__TOKEN").env("SWITCHBOARD__ADMIN__TOKEN_FILE", file);
    let (code, stdout, stderr) = texts(command.output().unwrap());
    assert_eq!((code, stderr.as_str()), (0, ""), "{stdout}");

    let mut command = ctl(&server, &folder, &["commands"]);
    let (code, _, stderr) = texts(command.env("SWITCHBOARD__ADMIN__TOKEN", "another").output().unwrap());
    assert!(code == 1 && stderr.contains("another admin.token"), "{code} {stderr}");
}

#[test]
fn a_server_that_is_not_there_or_is_another_is_told() {
    let (server, _operator) = start(&[]);
    let folder = Folder::new();
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let ask = |admin: String| {
        let arguments = ["commands", "--admin", &admin];
        let mut command = Command::new(env!("CARGO_BIN_EXE_switchboard"));
        command.arg("ctl").args(arguments).current_dir(folder.path()).env("SWITCHBOARD__ADMIN__TOKEN", TOKEN);
        texts(command.output().unwrap())
    };
    let (code, stdout, stderr) = ask(format!("http://{nobody}"));
    assert_eq!((code, stdout.as_str()), (1, ""));
    assert!(stderr.contains(&format!("{nobody} cannot be reached")), "{stderr}");
    let (code, stdout, stderr) = ask(format!("http://{}", server.web_address()));
    assert_eq!((code, stdout.as_str()), (1, ""));
    assert!(stderr.contains("no admin API"), "{stderr}");
    let (code, _, stderr) = ask(format!("http://{}", server.address()));
    assert!(code == 1 && stderr.contains("broke"), "{stderr}");
}
