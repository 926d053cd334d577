//! How a reply finds the node that waits for it.
//!
//! Most replies are to commands of this node, or to such that it handed over for another, which it remembers. Else the user came back
//! here after he was asked elsewhere, or somebody guesses: then the other nodes are asked whether they know the command, which guessing
//! must not make expensive, and its answer does not tell.

use std::sync::Arc;

use switchboard_proto::call::{Answer, CallError, Outcome as CallOutcome};
use switchboard_proto::command::CommandId;
use switchboard_proto::id::ConnId;
use switchboard_proto::json::RawJson;
use switchboard_proto::user::User;

use crate::command::{Obeyed, Reply, ReplyTooLarge};
use crate::op::Op;

use super::super::Node;
use super::super::chat::crashed_call;
use super::super::cluster::Question;
use super::super::cluster::commands::{Id, Question as About, Replied, Somebody};

/// A reply on its way.
struct Replying {
    id: CommandId,
    connection: ConnId,
    user: Option<User>,
    reply: RawJson,
}

/// Where a reply belongs.
enum Place {
    /// To this node.
    Here,
    /// To the node with this number.
    Elsewhere(u16),
    /// Nobody here knows.
    Unknown,
}

impl Node {
    /// A reply in a cluster.
    pub(super) fn reply_anywhere(
        &self,
        id: &str,
        connection: ConnId,
        user: Option<User>,
        reply: RawJson,
    ) -> Op<CallOutcome> {
        let place = CommandId::parse(id).map(|id| (id, self.place_of(id)));
        let Some((id, place @ (Place::Elsewhere(_) | Place::Unknown))) = place else {
            return Op::Ready(self.reply_here(id, connection, user.as_ref(), reply));
        };
        // Not sent to be refused there.
        if reply.as_str().len() > self.0.commands.settings.limits.max_reply_bytes {
            return Op::Ready(self.reply_here(id.as_str(), connection, user.as_ref(), reply));
        }
        let node = self.clone();
        let replying = Replying { id, connection, user, reply };
        Op::start(async move { node.reply_elsewhere(place, replying).await }, crashed_call)
    }

    /// A reply to a command of this node, or to none.
    pub(super) fn reply_here(&self, id: &str, connection: ConnId, user: Option<&User>, reply: RawJson) -> CallOutcome {
        // Before the lock: it takes longer the longer the reply is.
        let (reply, now) = (Reply::new(reply), self.command_now());
        let counted = self.with_engine(|engine, out| engine.reply(id, connection, user, reply, now, out));
        counted.map(Answer::CommandReplied).map_err(|ReplyTooLarge| CallError::ReplyTooLarge)
    }

    fn place_of(&self, id: CommandId) -> Place {
        let desk = self.0.commands.desk();
        if desk.engine.remembers(id) {
            return Place::Here;
        }
        let Some(elsewhere) = &desk.elsewhere else { return Place::Here };
        match elsewhere.carried.node_of(id) {
            Some(node) if elsewhere.is_there(node) => Place::Elsewhere(node),
            Some(_) => Place::Here,
            None => Place::Unknown,
        }
    }

    async fn reply_elsewhere(&self, place: Place, replying: Replying) -> CallOutcome {
        let node = match place {
            Place::Elsewhere(node) => Some(node),
            Place::Here => None,
            Place::Unknown => self.who_knows(replying.id, replying.connection).await?,
        };
        let Replying { id, connection, user, reply } = replying;
        let (Some(node), Some(peers)) = (node, self.peers()) else {
            return self.reply_here(id.as_str(), connection, user.as_ref(), reply);
        };
        let question = About::Reply { id: Id(id), connection, user: user.map(Somebody), reply };
        let Replied { counted, obeyed } = peers.ask(node, &Question::Commands(question)).await?;
        if let Some(obeyed) = obeyed {
            self.with_engine(|engine, out| engine.obeyed(connection, obeyed.into(), out));
        }
        Ok(Answer::CommandReplied(counted))
    }

    /// Which other node knows a command.
    async fn who_knows(&self, id: CommandId, connection: ConnId) -> Result<Option<u16>, CallError> {
        let Some(peers) = self.peers() else { return Ok(None) };
        if peers.others().is_empty() {
            return Ok(None);
        }
        let commands = &self.0.commands;
        if let Err(retry_ms) = commands.lookup_rates.take(connection, self.uptime_ms()) {
            return Err(CallError::TooManyRequests { retry_ms });
        }
        let Ok(_place) = Arc::clone(&commands.lookups).try_acquire_owned() else {
            return Err(CallError::TooManyRequests { retry_ms: 1000 });
        };
        let answers = peers.ask_others::<bool>(&Question::Commands(About::Knows(Id(id)))).await;
        if let Some((node, _)) = answers.iter().find(|(_, answer)| matches!(answer, Ok(true))) {
            return Ok(Some(*node));
        }
        // Who does not answer may be the one.
        answers.into_iter().find_map(|(_, answer)| answer.err()).map_or(Ok(None), Err)
    }

    /// Whether this node sent a command, or remembers it.
    pub(in crate::node) fn remembers_command(&self, id: CommandId) -> bool {
        self.0.commands.desk().engine.remembers(id)
    }

    /// A client of another node replies: whether that counts, and what its node has to do about it.
    pub(in crate::node) fn take_reply_from(
        &self,
        node: u16,
        id: CommandId,
        connection: ConnId,
        user: Option<&User>,
        reply: RawJson,
    ) -> Result<(bool, Option<Obeyed>), CallError> {
        if connection.node() != node {
            return Err(CallError::NoSuchConnection);
        }
        let (reply, now) = (Reply::new(reply), self.command_now());
        self.with_engine(|engine, out| {
            let counted = engine.reply(id.as_str(), connection, user, reply, now, out);
            let obeyed = out.obeyed.pop().map(|(_, obeyed)| obeyed);
            counted.map(|counted| (counted, obeyed)).map_err(|ReplyTooLarge| CallError::ReplyTooLarge)
        })
    }
}
