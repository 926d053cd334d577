//! Users, servers that know them, and clients that speak DDP.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};
use switchboard::command::{ClientCommand, CommandOptions, Outcome, SentCommand, Target};
use switchboard::proto::id::ConnId;
use switchboard_testkit::client::PATIENCE;
use switchboard_testkit::ddp::DdpClient;
use tokio::task::JoinHandle;

use super::peer::eventually;
use super::support::TestServer;

/// The password of everybody in [`USERS`].
pub(crate) const PASSWORD: &str = "secret";

/// The SHA-256 of [`PASSWORD`].
pub(crate) const DIGEST: &str = "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b";

/// The bot `b1`, the people `ann` and `bob`, and somebody who is switched off.
pub(crate) const USERS: &str = r#"users = [
    { id = "b1", username = "bot", password = "secret", roles = ["bot"] },
    { id = "a1", username = "ann", password = "secret", state = { staff = true } },
    { id = "c1", username = "bob", password = "secret" },
    { id = "x1", username = "gone", password = "secret", active = false },
]"#;

/// The event under which all rooms are heard.
pub(crate) const MINE: &str = "__my_messages__";
pub(crate) const ROOMS: &str = "stream-room-messages";
pub(crate) const COMMANDS: &str = "stream-client-commands";

/// [`USERS`] as a setting.
pub(crate) fn users() -> String {
    USERS.replacen(" = ", "=", 1)
}

/// A server that knows [`USERS`].
pub(crate) fn serving(settings: &[&str]) -> TestServer {
    TestServer::with(&[&[users().as_str()], settings].concat())
}

pub(crate) fn connect_to(address: SocketAddr) -> DdpClient {
    DdpClient::connect(address).expect("it speaks DDP")
}

impl TestServer {
    /// A session of nobody.
    pub(crate) fn ddp(&self) -> DdpClient {
        connect_to(self.web_address())
    }

    /// A session of this user.
    #[track_caller]
    pub(crate) fn ddp_as(&self, name: &str) -> DdpClient {
        let mut client = self.ddp();
        client.log_in(name, PASSWORD);
        client
    }

    /// A session of this user, who is in these rooms and hears all of his.
    #[track_caller]
    pub(crate) fn ddp_in(&self, name: &str, rooms: &[&str]) -> DdpClient {
        let mut client = self.ddp_as(name);
        for room in rooms {
            assert_eq!(client.call("joinRoom", json!([room])), Ok(json!(true)), "{room}");
        }
        client.sub(ROOMS, json!([MINE, false])).expect("everybody may");
        client
    }

    /// The id of a DDP client's connection.
    #[track_caller]
    pub(crate) fn id_of_ddp(&self, client: &mut DdpClient) -> ConnId {
        let address = client.line().local_address().expect("it came over TCP");
        self.find(address).expect("it is connected")
    }

    /// How many members a room has.
    #[track_caller]
    pub(crate) fn member_count(&self, room: &str) -> usize {
        self.wait(self.node().room_status(room)).expect("the room is there").members.len()
    }

    /// Sends a command beside the test.
    pub(crate) fn command(&self, target: Target, command: &Value, options: CommandOptions) -> JoinHandle<SentCommand> {
        let node = self.node().clone();
        let command = ClientCommand::from_json(command.clone()).expect("it has a key");
        self.spawn(async move { node.send_client_command(target, command, options).await.expect("it may be sent") })
    }

    /// Sends a command to the bot, with this limit.
    pub(crate) fn command_bot(&self, key: &str, limit: Duration) -> JoinHandle<SentCommand> {
        let options = CommandOptions { timeout: Some(limit), ..CommandOptions::default() };
        self.command(Target::User("b1".into()), &json!({"key": key}), options)
    }

    /// The session of the bot takes commands from now on, at once.
    #[track_caller]
    pub(crate) fn take_commands(&self, bot: &mut DdpClient) {
        bot.sub(COMMANDS, json!(["b1"])).expect("it is his stream");
        assert_eq!(bot.call("setCustomClientData", json!([{"framework": "test"}])), Ok(json!(true)));
        let id = self.id_of_ddp(bot);
        let is_settling = || self.node().client_of(id).is_none_or(|client| client.is_settling);
        eventually("it listens", || !is_settling());
    }

    /// Shows that this session of the bot is sent commands.
    #[track_caller]
    pub(crate) fn asks(&self, bot: &mut DdpClient) {
        let sent = self.command_bot("try", PATIENCE);
        let document = bot.heard(COMMANDS)[0].take();
        assert_eq!(document["key"], "try");
        assert_eq!(bot.call("replyClientCommand", json!([document["_id"], {"success": true}])), Ok(json!(true)));
        assert_eq!(self.wait(sent).expect("no panic").report().outcome, Outcome::Replied);
    }

    /// Shows that no session of the bot is sent commands.
    #[track_caller]
    pub(crate) fn asks_nobody(&self) {
        let options = CommandOptions { fail_fast: true, ..CommandOptions::default() };
        let sent = self.command(Target::User("b1".into()), &json!({"key": "try"}), options);
        assert_eq!(self.wait(sent).expect("no panic").report().outcome, Outcome::NoRecipient);
    }
}

/// Code and reason of an error.
#[track_caller]
pub(crate) fn refused(result: Result<impl std::fmt::Debug, Value>) -> (Value, Value) {
    let mut error = result.expect_err("it is refused");
    (error["error"].take(), error["reason"].take())
}

/// The same, of two texts.
pub(crate) fn words(code: &str, reason: &str) -> (Value, Value) {
    (json!(code), json!(reason))
}

/// What a message says, and its number.
pub(crate) fn said(message: &Value) -> (&str, u64) {
    (message["msg"].as_str().unwrap_or_default(), message["number"].as_u64().unwrap_or_default())
}

/// When a document says that it was sent.
#[track_caller]
pub(crate) fn date(document: &Value) -> u64 {
    document["ts"]["$date"].as_u64().unwrap_or_else(|| panic!("no date: {document}"))
}
