//! What senders ask for, and what they are told when it does not come to a reply.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use thiserror::Error;

use crate::proto::command::{CommandDocument, CommandId, Recipient};
use crate::proto::id::ConnId;
use crate::proto::json::RawJson;

use super::order::Refusal;
use super::outcome::{Mode, Outcome, Report};

/// Who is asked to do something.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// Whoever takes commands.
    All,
    /// One connection.
    Connection(ConnId),
    /// The members of a room.
    Room(String),
    /// The connections with a tag, or of users with it; roles count.
    Tag(String),
    /// A user, by id or name; ids win.
    User(String),
}

/// What a client is asked to do: a JSON object with a text `key` of 1 to 128 bytes. All its other members are the sender's
/// business and reach the client as they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCommand {
    key: Box<str>,
    json: RawJson,
    data: Option<RawJson>,
}

/// Longest key, in bytes.
const MAX_KEY_BYTES: usize = 128;

impl ClientCommand {
    /// A command that consists of its key.
    ///
    /// # Errors
    ///
    /// [`CommandRefusal::BadCommand`] unless the key has 1 to 128 bytes and no control characters.
    pub fn new(key: &str) -> Result<Self, CommandRefusal> {
        Self::from_json(json!({ "key": key }))
    }

    /// A command with members of its own.
    ///
    /// # Errors
    ///
    /// [`CommandRefusal::BadCommand`] unless it is an object whose `key` is a text of 1 to 128 bytes without control characters.
    pub fn from_json(command: impl Into<RawJson>) -> Result<Self, CommandRefusal> {
        #[derive(serde::Deserialize)]
        struct Members<'a> {
            key: Cow<'a, str>,
            #[serde(borrow)]
            data: Option<&'a RawValue>,
        }
        let json = command.into();
        let members: Members<'_> = serde_json::from_str(json.as_str()).map_err(|_| CommandRefusal::BadCommand)?;
        let is_key = (1..=MAX_KEY_BYTES).contains(&members.key.len()) && !members.key.chars().any(char::is_control);
        if !is_key || !json.as_str().trim_start().starts_with('{') {
            return Err(CommandRefusal::BadCommand);
        }
        let data = members.data.map(|data| RawJson::from_parsed(data.get()));
        Ok(Self { key: members.key.into(), data, json })
    }

    /// Its key.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The whole command.
    pub fn json(&self) -> &RawJson {
        &self.json
    }

    pub(crate) fn into_parts(self) -> (Box<str>, RawJson, Option<RawJson>) {
        (self.key, self.json, self.data)
    }
}

/// How a command is sent; the default is that of the seed: the first reply counts, an absent user is waited for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CommandOptions {
    /// Its limit; without one `commands.timeout`.
    pub timeout: Option<Duration>,
    /// Whose reply counts; without one the first for a user and a connection, all for the rest.
    pub mode: Option<Mode>,
    /// Absent, vanished and full sessions end it at once.
    pub fail_fast: bool,
    /// In mode `all`: so many replies are enough.
    pub min_replies: Option<usize>,
    /// Only sessions that announced the key are asked.
    pub require_capability: bool,
    /// The same key within ten minutes brings the first outcome and sends nothing: 1 to 255 bytes.
    pub idempotency_key: Option<String>,
    /// Who sends it, for lists and beside a pause: at most 128 bytes.
    pub sender: Option<String>,
    /// Its id; without one a fresh one is drawn. For listeners that have to be in place before it is sent: see
    /// [`Node::fresh_command_id`](crate::Node::fresh_command_id).
    pub id: Option<CommandId>,
}

/// A command that is not sent, and never was one.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CommandRefusal {
    /// Not an object with a `key`, or longer than `commands.max_command_bytes`.
    #[error("a command is an object with a key of 1 to 128 bytes without control characters, of limited size")]
    BadCommand,
    /// An option that makes no sense: it says which.
    #[error("{0}")]
    BadOption(&'static str),
    /// The idempotency key was used for another command.
    #[error("this idempotency key was used for another command")]
    KeyConflict,
    /// No such user.
    #[error("unknown user: give the id or name of a user that is configured or connected")]
    NoSuchUser,
    /// No such connection.
    #[error("no such connection")]
    NoSuchConnection,
    /// No such room.
    #[error("room does not exist")]
    NoSuchRoom,
    /// The program that embeds the server does not allow it.
    #[error("Not allowed")]
    NotAllowed,
    /// It cannot take commands: it is a request over HTTP.
    #[error("not supported by this kind of connection")]
    NotSupported,
    /// A limit of pending commands is reached, or the server stops.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Something behind us failed; the log has the cause.
    #[error("unavailable")]
    Unavailable,
}

impl CommandRefusal {
    /// The code that programs read.
    pub fn code(&self) -> &'static str {
        match self {
            Self::BadCommand | Self::BadOption(_) | Self::Refused(Refusal::IdInUse) => "match-failed",
            Self::KeyConflict => "idempotency-conflict",
            Self::NoSuchUser => "error-invalid-user",
            Self::NoSuchConnection => "connection_not_found",
            Self::NoSuchRoom => "room_not_found",
            Self::NotAllowed => "error-not-allowed",
            Self::NotSupported => "not_supported",
            Self::Refused(Refusal::Draining) => "error-server-shutdown",
            Self::Refused(_) => "too-many-requests",
            Self::Unavailable => "unavailable",
        }
    }
}

/// A command that brought no reply.
#[derive(Clone, Debug, PartialEq, Error)]
#[error("{reason}")]
pub struct CommandFailure {
    /// The code that programs read.
    pub code: &'static str,
    /// What happened, for people.
    pub reason: String,
    /// `{"method":"sendClientCommand","command":…}`, with `delivered` where nobody got it.
    pub details: Value,
}

/// A command that has come to its end.
#[derive(Clone, Debug)]
pub struct SentCommand {
    report: Arc<Report>,
    document: Arc<CommandDocument>,
    target: Target,
    recipient: Option<Recipient>,
}

impl SentCommand {
    pub(crate) fn new(
        report: Arc<Report>,
        document: Arc<CommandDocument>,
        target: Target,
        recipient: Option<Recipient>,
    ) -> Self {
        Self { report, document, target, recipient }
    }

    /// How it ended, with rows in mode `all`.
    pub fn report(&self) -> &Report {
        &self.report
    }

    /// The reply, as it came: `success: false` is a reply as well. In mode `all` there is none: see the rows.
    ///
    /// # Errors
    ///
    /// What the seed's promise is rejected with.
    pub fn reply(&self) -> Result<&RawJson, CommandFailure> {
        self.report.reply.as_ref().ok_or_else(|| self.failure())
    }

    /// Whether nobody was waited for: the sender did not want it, or the target is whoever is there at the moment.
    pub fn ended_at_once(&self) -> bool {
        self.report.fail_fast || !matches!(self.target, Target::Connection(_) | Target::User(_))
    }

    /// Why there is no reply.
    pub fn failure(&self) -> CommandFailure {
        let name = self.addressee();
        let (code, reason) = match self.report.outcome {
            Outcome::NoRecipient if self.ended_at_once() => {
                ("error-client-command-no-recipient", format!("{name} is not there to take commands"))
            }
            // In mode `all` replies are in the rows.
            Outcome::Timeout | Outcome::NoRecipient | Outcome::Replied => {
                ("error-client-command-response-timeout", format!("{name} didn't respond to the command in time"))
            }
            Outcome::Disconnected => {
                ("error-client-command-disconnected", format!("{name} left before responding to the command"))
            }
            Outcome::Overflow => (
                "error-client-command-overflow",
                format!("{name} does not read what is sent to it, and did not get the command"),
            ),
            Outcome::Cancelled => ("error-client-command-cancelled", "the command was taken back".to_owned()),
            Outcome::Shutdown => ("error-server-shutdown", "the server is stopping".to_owned()),
        };
        let mut command = Map::new();
        command.insert("_id".to_owned(), self.report.id.as_str().into());
        command.insert("key".to_owned(), (*self.document.key).into());
        if let Some(recipient) = &self.recipient {
            command.insert("u".to_owned(), json!({ "_id": recipient.id(), "username": recipient.name() }));
        }
        command.insert("cmd".to_owned(), self.document.command.to_value());
        let mut details = Map::new();
        details.insert("method".to_owned(), "sendClientCommand".into());
        details.insert("command".to_owned(), Value::Object(command));
        if self.report.outcome == Outcome::NoRecipient {
            details.insert("delivered".to_owned(), 0.into());
        }
        CommandFailure { code, reason, details: Value::Object(details) }
    }

    /// Who was asked, for people.
    fn addressee(&self) -> String {
        match (&self.recipient, &self.target) {
            (Some(recipient), _) => recipient.name(),
            (None, Target::Room(room)) => format!("room {room}"),
            (None, Target::Tag(tag)) => format!("tag {tag}"),
            (None, Target::Connection(id)) => id.to_string(),
            (None, Target::User(user)) => user.clone(),
            (None, Target::All) => "everybody".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_an_object_with_a_key() {
        for bad in [
            json!(null),
            json!([]),
            json!("a"),
            json!({}),
            json!({"key": ""}),
            json!({"key": 5}),
            json!({"key": "a\nb"}),
            json!({"key": "\u{1b}[2J"}),
            json!(["k"]),
        ] {
            assert_eq!(ClientCommand::from_json(bad.clone()), Err(CommandRefusal::BadCommand), "{bad}");
        }
        assert_eq!(ClientCommand::new(&"k".repeat(129)), Err(CommandRefusal::BadCommand));
        let command =
            ClientCommand::from_json(json!({"key": "clearCache", "scope": "users", "data": {"a": 1}})).unwrap();
        let (key, json, data) = command.into_parts();
        assert_eq!((&*key, data.unwrap().as_str()), ("clearCache", r#"{"a":1}"#));
        assert_eq!(json.as_str(), r#"{"key":"clearCache","scope":"users","data":{"a":1}}"#);
        assert_eq!(ClientCommand::from_json(json!({"key": "a", "data": null})).unwrap().into_parts().2, None);
    }
}
