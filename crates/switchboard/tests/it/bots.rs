//! Clients that the server asks to do something, over both of ActionHero's wires.

use std::time::Duration;

use serde_json::{Value, json};
use switchboard::ConnId;
use switchboard::command::{ClientCommand, CommandOptions, CommandRefusal, Outcome, SentCommand, Target};
use switchboard::node::commands::PendingClientCommand;
use switchboard::proto::user::User;
use switchboard_testkit::client::LineClient;

use crate::peer::eventually;
use crate::support::TestServer;

/// What a client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wire {
    Line,
    Web,
}

pub(crate) const WIRES: [Wire; 2] = [Wire::Line, Wire::Web];

/// A client that takes commands.
pub(crate) struct Bot {
    pub(crate) client: LineClient,
    pub(crate) id: ConnId,
    wire: Wire,
}

impl Bot {
    /// One that takes every command, of this user or of nobody.
    #[track_caller]
    pub(crate) fn connect(server: &TestServer, wire: Wire, user: Option<&str>) -> Self {
        let mut bot = Self::connect_deaf(server, wire, user);
        bot.say_about_itself(json!({"commands": true}));
        bot
    }

    /// One that has not said that it takes commands.
    #[track_caller]
    pub(crate) fn connect_deaf(server: &TestServer, wire: Wire, user: Option<&str>) -> Self {
        let client = match wire {
            Wire::Line => LineClient::tcp(server.address()),
            Wire::Web => LineClient::web(server.web_address(), "/primus"),
        };
        let mut bot = Self { client: client.unwrap(), id: ConnId::from_random(0), wire };
        assert_eq!(bot.client.read_json()["context"], "api", "the welcome comes first");
        // Not by its address: clients of two listeners may come from the same port.
        let details = bot.answered("detailsView", &json!({"event": "detailsView"}));
        bot.id = details["data"]["id"].as_str().and_then(ConnId::parse).expect("it is told its id");
        if let Some(user) = user {
            server.node().set_connection_user(bot.id, Some(User::new(user).unwrap())).unwrap();
        }
        bot
    }

    /// Sends a verb in the words of its wire: its members are those of the browsers' message, its line what telnet types.
    #[track_caller]
    pub(crate) fn send(&mut self, line: &str, event: &Value) {
        match self.wire {
            Wire::Line => self.client.send(line),
            Wire::Web => self.client.send(&event.to_string()),
        }
    }

    #[track_caller]
    fn answered(&mut self, line: &str, event: &Value) -> Value {
        self.send(line, event);
        let answer = self.client.read_json();
        assert_eq!(answer["context"], "response", "{answer}");
        answer
    }

    #[track_caller]
    pub(crate) fn say_about_itself(&mut self, data: Value) {
        let event = json!({"event": "setCustomClientData", "data": data});
        let answer = self.answered(&format!("setCustomClientData {data}"), &event);
        assert_eq!(answer["status"], "OK", "{answer}");
    }

    #[track_caller]
    pub(crate) fn join(&mut self, room: &str) {
        let answer = self.answered(&format!("roomAdd {room}"), &json!({"event": "roomAdd", "room": room}));
        assert_eq!(answer["status"], "OK", "{answer}");
    }

    /// The next thing that it is told, which is a command with this key.
    #[track_caller]
    pub(crate) fn command(&mut self, key: &str) -> Value {
        let command = self.client.read_json();
        assert_eq!((&command["context"], &command["key"]), (&json!("command"), &json!(key)), "{command}");
        command
    }

    /// Replies, and says what the server says to that.
    #[track_caller]
    pub(crate) fn try_reply(&mut self, command: &Value, reply: &Value) -> Value {
        let id = command["_id"].as_str().expect("a command has an id");
        self.reply_to_id(id, reply)
    }

    #[track_caller]
    pub(crate) fn reply_to_id(&mut self, id: &str, reply: &Value) -> Value {
        let event = json!({"event": "replyClientCommand", "id": id, "reply": reply});
        self.answered(&format!("replyClientCommand {id} {reply}"), &event)
    }

    /// Replies, and is the one whose reply counts.
    #[track_caller]
    pub(crate) fn reply(&mut self, command: &Value, reply: &Value) {
        assert_eq!(self.try_reply(command, reply)["data"], true);
    }

    /// Replies in vain.
    #[track_caller]
    pub(crate) fn reply_in_vain(&mut self, command: &Value, reply: &Value) {
        let answer = self.try_reply(command, reply);
        assert_eq!((&answer["status"], &answer["data"]), (&json!("OK"), &json!(false)), "{answer}");
    }

    /// Takes the next command and replies to it.
    #[track_caller]
    pub(crate) fn obey(&mut self, key: &str, reply: &Value) {
        let command = self.command(key);
        self.reply(&command, reply);
    }

    /// Nothing has come that the server knew of. Only over the line protocol, or before anything was said that is unread.
    #[track_caller]
    pub(crate) fn expect_silence(&mut self) {
        self.client.expect_silence();
    }

    /// Ends its connection; the server knows it when this returns.
    #[track_caller]
    pub(crate) fn leave(self, server: &TestServer) {
        let id = self.id;
        drop(self.client);
        eventually("the server knows that it left", || !server.node().connection_ids().contains(&id));
    }
}

pub(crate) fn command(key: &str) -> ClientCommand {
    ClientCommand::new(key).unwrap()
}

pub(crate) fn to_user(user: &str) -> Target {
    Target::User(user.to_owned())
}

pub(crate) fn fail_fast() -> CommandOptions {
    CommandOptions { fail_fast: true, ..CommandOptions::default() }
}

/// With a limit that a test can wait for.
pub(crate) fn within_ms(limit_ms: u64) -> CommandOptions {
    CommandOptions { timeout: Some(Duration::from_millis(limit_ms)), ..CommandOptions::default() }
}

/// Sending, as tests write it.
impl TestServer {
    /// Sends a command and does not wait for its outcome.
    #[track_caller]
    pub(crate) fn begin(
        &self,
        target: Target,
        key: &str,
        options: CommandOptions,
    ) -> Result<PendingClientCommand, CommandRefusal> {
        self.wait(self.node().begin_client_command(target, command(key), options))
    }

    /// Sends one that is not refused.
    #[track_caller]
    pub(crate) fn ask_for(&self, target: Target, key: &str, options: CommandOptions) -> PendingClientCommand {
        self.begin(target, key, options).expect("it is not refused")
    }

    /// Waits for the outcome of a command, which is this one.
    #[track_caller]
    pub(crate) fn outcome(&self, pending: PendingClientCommand, outcome: Outcome) -> SentCommand {
        let sent = self.wait(pending);
        assert_eq!(sent.report().outcome, outcome, "{:?}", sent.report());
        sent
    }
}
