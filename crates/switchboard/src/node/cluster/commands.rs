//! What nodes say to each other about commands.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use switchboard_proto::call::CallError;
use switchboard_proto::command::CommandId;
use switchboard_proto::id::ConnId;
use switchboard_proto::json::RawJson;
use switchboard_proto::user::User;

use crate::command::{AskPart, ClientData, Described, Health, Obeyed, PartHead, Paused, Taking};
use crate::hub::mail::CommandFate;

use super::super::Node;
use super::wire;

/// A question.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(in crate::node) enum Question {
    /// Whether the node sent this command, or remembers it.
    Knows(Id),
    /// A client of the asking node replies: [`Replied`] is the answer.
    Reply {
        /// To which command.
        id: Id,
        /// Over which connection.
        #[serde(with = "wire::conn_id")]
        connection: ConnId,
        /// Whose that is.
        user: Option<Somebody>,
        /// What.
        #[serde(with = "wire::raw_json")]
        reply: RawJson,
    },
    /// A connection of that node, or a session that one of it carries: a [`Found`], or nothing.
    Connection(Connection),
    /// A user who has a connection there, by id: [`Somebody`], or nothing.
    User(String),
}

/// A note.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(in crate::node) enum Note {
    /// Something about the sender's connections has changed, or nothing has since the change with this number.
    Changed {
        /// In which life of the sender.
        line: u64,
        /// The number of the latest change.
        number: u64,
        /// Which that is.
        change: Change,
    },
    /// The receiver is to tell a part of all its connections.
    Tell {
        /// Which time this is asked.
        round: u64,
        /// Behind which rank the part begins.
        after: u64,
    },
    /// That part.
    Part {
        /// In which life of the sender.
        line: u64,
        /// The number of the latest change.
        number: u64,
        /// As asked.
        round: u64,
        /// As asked.
        after: u64,
        /// Where the next part begins.
        next: Option<u64>,
        /// The connections.
        clients: Vec<Told>,
    },
    /// A command for a connection of the receiver.
    Deliver(Box<Delivery>),
    /// What became of a command that the receiver sent.
    Fate {
        /// Which command.
        id: Id,
        /// To which connection.
        #[serde(with = "wire::conn_id")]
        connection: ConnId,
        /// What.
        fate: Fate,
    },
}

/// What has changed about the connections of a node.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(in crate::node) enum Change {
    /// Nothing.
    Nothing,
    /// These were active, the latest last.
    Active(Vec<Connection>),
    /// This is how one of them is now.
    Client(Box<Told>),
    /// One has ended.
    Ended(Connection),
}

/// A command on its way to a connection.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::node) struct Delivery {
    pub(in crate::node) id: Id,
    #[serde(with = "wire::raw_json")]
    pub(in crate::node) command: RawJson,
    #[serde(with = "wire::conn_id")]
    pub(in crate::node) connection: ConnId,
    pub(in crate::node) user: Option<Somebody>,
    pub(in crate::node) ts: u64,
    pub(in crate::node) ttl_ms: u64,
}

/// What a node answers to a reply.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::node) struct Replied {
    /// Whether it counted.
    pub(in crate::node) counted: bool,
    /// What it says about the connection that replied.
    #[serde(default)]
    pub(in crate::node) obeyed: Option<Obedience>,
}

/// What a client did that concerns its node.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(in crate::node) enum Obedience {
    /// Since when, and by whose wish.
    Pause(u64, Option<Box<str>>),
    /// Since when.
    Resume(u64),
}

/// A connection that was found.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::node) struct Found {
    #[serde(with = "wire::conn_id")]
    pub(in crate::node) connection: ConnId,
    pub(in crate::node) user: Option<Somebody>,
}

/// The id of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(in crate::node) struct Id(pub(in crate::node) CommandId);

impl From<Id> for String {
    fn from(Id(id): Id) -> Self {
        id.to_string()
    }
}

impl TryFrom<String> for Id {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        CommandId::parse(&text).map(Self).ok_or("not the id of a command")
    }
}

/// The id of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(in crate::node) struct Connection(#[serde(with = "wire::conn_id")] pub(in crate::node) ConnId);

/// A user: his id, and his name if that is another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "UserText", into = "UserText")]
pub(in crate::node) struct Somebody(pub(in crate::node) User);

#[derive(Serialize, Deserialize)]
struct UserText {
    id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    name: Option<String>,
}

impl From<Somebody> for UserText {
    fn from(Somebody(user): Somebody) -> Self {
        let name = (user.name() != user.id()).then(|| user.name().to_owned());
        Self { id: user.id().to_owned(), name }
    }
}

impl TryFrom<UserText> for Somebody {
    type Error = switchboard_proto::user::BadUser;

    fn try_from(UserText { id, name }: UserText) -> Result<Self, Self::Error> {
        User::named(&id, name.as_ref().unwrap_or(&id)).map(Self)
    }
}

/// What became of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(in crate::node) enum Fate {
    Delivered,
    Gone,
    Overflow,
}

impl From<CommandFate> for Fate {
    fn from(fate: CommandFate) -> Self {
        match fate {
            CommandFate::Delivered => Self::Delivered,
            CommandFate::Gone => Self::Gone,
            CommandFate::Overflow => Self::Overflow,
        }
    }
}

impl From<Fate> for CommandFate {
    fn from(fate: Fate) -> Self {
        match fate {
            Fate::Delivered => Self::Delivered,
            Fate::Gone => Self::Gone,
            Fate::Overflow => Self::Overflow,
        }
    }
}

/// A connection of the sender, as it is told. What is absent is the usual case.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::node) struct Told {
    #[serde(with = "wire::conn_id")]
    connection: ConnId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    user: Option<Somebody>,
    /// Since when it takes commands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    since: Option<u64>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    settling: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    data: Option<Data>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    paused: Option<(u64, Option<Box<str>>)>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    resumed: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ping: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    heard: Option<u64>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    unresponsive: bool,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    tags: Vec<String>,
    /// The gateway session that it carries.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    session: Option<Connection>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Data {
    #[serde(with = "wire::raw_json")]
    object: RawJson,
    ip: String,
}

/// What a node keeps of another node's connection besides what the engine knows.
#[derive(Debug, Default)]
pub(in crate::node) struct Besides {
    /// Its tags.
    pub(in crate::node) tags: Vec<String>,
    /// The gateway session that it carries.
    pub(in crate::node) session: Option<ConnId>,
}

impl Told {
    pub(in crate::node) fn new(described: Described, besides: Besides) -> Self {
        let Described { connection, user, taking, data, paused, resumed_unix_ms, health } = described;
        Self {
            connection,
            user: user.map(Somebody),
            since: taking.map(|taking| taking.since_unix_ms),
            settling: taking.is_some_and(|taking| taking.is_settling),
            data: data.map(|data| Data { object: data.object().clone(), ip: data.ip().to_owned() }),
            paused: paused.map(|paused| (paused.since_unix_ms, paused.by)),
            resumed: resumed_unix_ms,
            ping: health.ping_ms,
            heard: health.heard_unix_ms,
            unresponsive: health.is_unresponsive,
            tags: besides.tags,
            session: besides.session.map(Connection),
        }
    }

    pub(in crate::node) fn read(self) -> (Described, Besides) {
        // Its own node has looked whether it is within the limit.
        let data = self.data.and_then(|data| ClientData::parse(data.object, &data.ip, usize::MAX).ok());
        let described = Described {
            connection: self.connection,
            user: self.user.map(|Somebody(user)| user),
            taking: self.since.map(|since_unix_ms| Taking { since_unix_ms, is_settling: self.settling }),
            data,
            paused: self.paused.map(|(since_unix_ms, by)| Paused { since_unix_ms, by }),
            resumed_unix_ms: self.resumed,
            health: Health { ping_ms: self.ping, heard_unix_ms: self.heard, is_unresponsive: self.unresponsive },
        };
        (described, Besides { tags: self.tags, session: self.session.map(|Connection(id)| id) })
    }

    /// About how many bytes it takes.
    pub(in crate::node) fn bytes(&self) -> usize {
        const FIXED: usize = 512;
        let data = self.data.as_ref().map_or(0, |data| data.object.as_str().len());
        FIXED + data + self.tags.iter().map(String::len).sum::<usize>()
    }
}

impl From<Obeyed> for Obedience {
    fn from(obeyed: Obeyed) -> Self {
        match obeyed {
            Obeyed::Pause(Paused { since_unix_ms, by }) => Self::Pause(since_unix_ms, by),
            Obeyed::Resume(at_unix_ms) => Self::Resume(at_unix_ms),
        }
    }
}

impl From<Obedience> for Obeyed {
    fn from(obedience: Obedience) -> Self {
        match obedience {
            Obedience::Pause(since_unix_ms, by) => Self::Pause(Paused { since_unix_ms, by }),
            Obedience::Resume(at_unix_ms) => Self::Resume(at_unix_ms),
        }
    }
}

impl Node {
    pub(super) async fn answer_about_commands(
        &self,
        from: u16,
        question: Question,
    ) -> Result<Box<RawValue>, CallError> {
        match question {
            Question::Knows(Id(id)) => wire::answer(&self.remembers_command(id)),
            Question::Reply { id: Id(id), connection, user, reply } => {
                let user = user.map(|Somebody(user)| user);
                let (counted, obeyed) = self.take_reply_from(from, id, connection, user.as_ref(), reply)?;
                wire::answer(&Replied { counted, obeyed: obeyed.map(Obedience::from) })
            }
            Question::Connection(Connection(id)) => {
                let found = self.connection_for_command(id)?;
                wire::answer(&found.map(|(connection, user)| Found { connection, user: user.map(Somebody) }))
            }
            Question::User(id) => wire::answer(&self.connected_user(&id).map(Somebody)),
        }
    }

    pub(super) fn heed_commands(&self, from: u16, note: Note) {
        match note {
            Note::Changed { line, number, change } => self.heed_change(from, line, number, change),
            Note::Tell { round, after } => self.tell_part(from, AskPart { round, after }),
            Note::Part { line, number, round, after, next, clients } => {
                let head = PartHead { line, number, asked: AskPart { round, after }, next };
                self.heed_part(from, &head, clients);
            }
            Note::Deliver(delivery) => self.take_command_in(from, *delivery),
            Note::Fate { id: Id(id), connection, fate } => self.note_fate_elsewhere(id, connection, fate.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn conn() -> ConnId {
        ConnId::from_random(7).on_node(3)
    }

    #[test]
    fn what_a_node_tells_of_a_connection_is_what_others_read() {
        let user = User::named("u1", "Joe").unwrap();
        let data = ClientData::parse(json!({"commands": ["k"]}).into(), "10.0.0.1", 1000).unwrap();
        let plain = Described {
            connection: conn(),
            user: None,
            taking: None,
            data: None,
            paused: None,
            resumed_unix_ms: None,
            health: Health::default(),
        };
        let full = Described {
            user: Some(user),
            taking: Some(Taking { since_unix_ms: 5, is_settling: true }),
            data: Some(data),
            paused: Some(Paused { since_unix_ms: 6, by: Some("ann".into()) }),
            resumed_unix_ms: Some(7),
            health: Health { ping_ms: Some(8), heard_unix_ms: Some(9), is_unresponsive: true },
            ..plain.clone()
        };
        for (described, tags, session) in [(plain, vec![], None), (full, vec!["t".to_owned()], Some(conn()))] {
            let besides = Besides { tags: tags.clone(), session };
            let text = serde_json::to_string(&Told::new(described.clone(), besides)).unwrap();
            let told: Told = serde_json::from_str(&text).unwrap();
            assert!(told.bytes() >= text.len(), "{text}");
            let (read, besides) = told.read();
            assert_eq!((read, besides.tags, besides.session), (described, tags, session));
        }
    }

    #[test]
    fn fault_row_13_ids_and_users_that_are_none_are_not_read() {
        for bad in ["\"\"", "\"0\"", "7", "null"] {
            assert!(serde_json::from_str::<Id>(bad).is_err(), "{bad}");
            assert!(serde_json::from_str::<Connection>(bad).is_err(), "{bad}");
        }
        for bad in [json!({"id": ""}), json!({"id": "a/b"}), json!({"name": "a"}), json!({"id": "a", "name": ""})] {
            assert!(serde_json::from_value::<Somebody>(bad.clone()).is_err(), "{bad}");
        }
    }
}
