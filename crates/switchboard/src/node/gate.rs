//! What a backend decides before it happens: who may connect, join and speak. And what it hears of afterwards: who left.

use std::sync::Arc;

use serde_json::{Map, Value};
use switchboard_proto::call::CallError;
use switchboard_proto::event::Sender;
use switchboard_proto::face::ConnFacts;
use switchboard_proto::id::RoomName;
use switchboard_proto::json::RawJson;

use crate::clock;
use crate::config::Hooks;
use crate::hub::mail::Admission;
use crate::op::Op;
use crate::webhook::{Document, Failure, Hook, HookFigures, LeaveReports, Refusal, Rule, Webhooks};

use super::Node;
use super::hooks::Saying;
use super::profile::State;

/// The hooks over HTTP that are on.
#[derive(Debug)]
pub(super) struct Gate {
    webhooks: Arc<Webhooks>,
    connect: Option<Rule>,
    join: Option<Rule>,
    say: Option<Rule>,
    leaves: Option<LeaveReports>,
}

/// The reason for which a client needs to see a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// It becomes a member.
    Join,
    /// It learns that the room exists.
    Look,
    /// It receives messages without being a member.
    Listen,
    /// It reads earlier messages.
    History,
}

impl Purpose {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Join => "join",
            Self::Look => "look",
            Self::Listen => "listen",
            Self::History => "history",
        }
    }
}

impl Gate {
    pub(super) fn new(webhooks: Arc<Webhooks>, hooks: &Hooks, node: &str, runtime: &tokio::runtime::Handle) -> Self {
        let Hooks { connect, join, leave, say, .. } = hooks;
        Self {
            connect: Rule::new(&webhooks, Hook::Connect, connect.url.as_ref(), connect.on_failure),
            join: Rule::new(&webhooks, Hook::Join, join.url.as_ref(), join.on_failure),
            say: Rule::new(&webhooks, Hook::Say, say.url.as_ref(), say.on_failure),
            leaves: LeaveReports::start(&webhooks, leave, node, runtime),
            webhooks,
        }
    }
}

impl Node {
    /// Figures of a hook over HTTP; all zero when it is off.
    pub fn hook_figures(&self, hook: Hook) -> HookFigures {
        self.0.gate.as_ref().map(|gate| gate.webhooks.counters().of(hook)).unwrap_or_default()
    }

    /// Whether somebody may connect (`hooks.connect`): to be asked before anything is said to him, and before a request of
    /// his is run. Ready at once when there is no such hook. What it brings is what his connection begins with.
    ///
    /// The refusal is [`CallError::Refused`] with the reason that he reads, or [`CallError::Unavailable`].
    pub(crate) fn admit(&self, facts: &ConnFacts) -> Op<Result<Admission, CallError>> {
        if !self.is_of_this_life(facts) {
            return Op::Ready(Err(CallError::Unavailable));
        }
        let Some(rule) = self.0.gate.as_ref().and_then(|gate| gate.connect.clone()) else {
            return Op::Ready(Ok(Admission::default()));
        };
        let question = self.document(Hook::Connect).object("connection", self.describe(facts)).finish();
        let (node, facts) = (self.clone(), facts.clone());
        let asking = async move {
            let admission = rule.ask(question, admission).await.map_err(|refusal| refused(refusal, NOT_LET_IN))?;
            if node.is_of_this_life(&facts) { Ok(admission) } else { Err(CallError::Unavailable) }
        };
        Op::start(asking, |panic| {
            tracing::error!(panic = panic.0, "a connect hook panicked");
            Err(CallError::Unavailable)
        })
    }

    /// Whether somebody is asked about joins.
    pub(super) fn has_join_hook(&self) -> bool {
        self.0.gate.as_ref().is_some_and(|gate| gate.join.is_some())
    }

    /// Asks whether a connection may join a room, or see it without joining it.
    pub(super) async fn may_join(&self, facts: &ConnFacts, room: &RoomName, purpose: Purpose) -> Result<(), CallError> {
        let Some(rule) = self.0.gate.as_ref().and_then(|gate| gate.join.as_ref()) else { return Ok(()) };
        let question = self.document(Hook::Join).object("connection", self.describe(facts));
        let question = with_room(question, room).text("purpose", purpose.as_str());
        rule.ask(question.finish(), |_| Ok(())).await.map_err(|refusal| match refusal {
            Refusal::Said(None) => CallError::NotAuthorized,
            refusal => refused(refusal, ""),
        })
    }

    /// The rule for what is about to be said, if somebody is to be asked. The server's own words pass.
    pub(super) fn say_rule(&self, saying: &Saying) -> Option<Rule> {
        let rule = self.0.gate.as_ref()?.say.as_ref()?;
        saying.connection.is_some().then(|| rule.clone())
    }

    /// Asks whether something may be said, and rewrites it if that is the answer.
    pub(super) async fn may_say(&self, rule: &Rule, saying: &mut Saying) -> Result<(), CallError> {
        let mut question = self.document(Hook::Say);
        if let Some(connection) = &saying.connection {
            question = question.object("connection", self.describe(&connection.facts));
        }
        if let Sender::Named(name) = &saying.sender {
            question = question.text("from", name);
        }
        let mut question = with_room(question, &saying.room).raw("message", &saying.body);
        if let Some(document) = saying.document() {
            question = question.raw("document", document);
        }
        if let Some(id) = saying.message_id() {
            question = question.text("messageId", id);
        }
        let question = question.finish();
        let before = saying.body.clone();
        let read = move |answer: Map<String, Value>| match answer.get("message") {
            // A program may repeat what it was asked about.
            Some(message) if *message == before.to_value() => Ok(None),
            _ => rewritten_body(answer),
        };
        let rewritten = rule.ask(question, read).await.map_err(|refusal| refused(refusal, NOT_SAID))?;
        if let Some(body) = rewritten {
            saying.set_body(body);
        }
        Ok(())
    }

    /// Has a leave reported, if somebody wants to hear of it.
    pub(super) fn report_leave(&self, facts: &ConnFacts, room: &RoomName) {
        if let Some(leaves) = self.0.gate.as_ref().and_then(|gate| gate.leaves.as_ref()) {
            let leave = with_room(Document::new().object("connection", self.describe(facts)), room);
            leaves.push(leave.number("leftAt", clock::unix_ms()));
        }
    }

    /// Waits until no leave is left to report.
    pub(crate) async fn leaves_reported(&self) {
        if let Some(leaves) = self.0.gate.as_ref().and_then(|gate| gate.leaves.as_ref()) {
            leaves.emptied().await;
        }
    }

    /// What every question begins with.
    pub(crate) fn document(&self, hook: Hook) -> Document {
        Document::new().text("hook", hook.as_str()).text("node", self.name()).number("sentAt", clock::unix_ms())
    }

    /// A connection as a backend sees it: its facts, under the names that authentication patterns use, and its state.
    pub(crate) fn describe(&self, facts: &ConnFacts) -> Document {
        let mut connection = Document::new();
        for name in State::BUILT_IN {
            connection = connection.value(name, &self.attribute(facts, name).unwrap_or_default());
        }
        let mut state = Document::new();
        for (name, value) in self.profile_of_member(facts.id).state.iter() {
            state = state.value(name, value);
        }
        connection.object("state", state)
    }
}

/// Adds the name of a room. That of a room of two users has control characters, so it is written in another way.
fn with_room(document: Document, room: &RoomName) -> Document {
    match room.direct_users() {
        None => document.text("room", room.as_str()),
        Some((one, other)) => {
            let document = document.text("room", &format!("direct/{one}/{other}"));
            document.value("direct", &Value::from(vec![one, other]))
        }
    }
}

/// What a client reads when the backend gave no reason.
const NOT_LET_IN: &str = "connection refused";
const NOT_SAID: &str = "message refused";

fn refused(refusal: Refusal, unexplained: &str) -> CallError {
    match refusal {
        Refusal::Said(reason) => CallError::Refused(reason.unwrap_or_else(|| unexplained.to_owned())),
        Refusal::Unknown => CallError::Unavailable,
    }
}

/// What a connection begins with, from the answer to `connect`.
fn admission(mut answer: Map<String, Value>) -> Result<Admission, Failure> {
    let members = match answer.remove("state") {
        None | Some(Value::Null) => Map::new(),
        Some(Value::Object(members)) => members,
        Some(_) => return Err(Failure::Answer("state is not an object")),
    };
    let mut state = State::default();
    for (name, value) in members {
        state.set(&name, value).map_err(|_| Failure::Answer("state has a value that state cannot hold"))?;
    }
    Ok(Admission { state: state.into_values() })
}

/// What is said instead, from the answer to `say`.
fn rewritten_body(mut answer: Map<String, Value>) -> Result<Option<RawJson>, Failure> {
    match answer.remove("message") {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) if text.is_empty() => Err(Failure::Answer("message is empty")),
        Some(message) => Ok(Some(RawJson::from_value(&message))),
    }
}
