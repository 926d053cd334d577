//! Whom a target means, on whichever node.

use switchboard_proto::call::CallError;
use switchboard_proto::command::Recipient;
use switchboard_proto::id::{ConnId, RoomName};
use switchboard_proto::user::User;

use crate::command::{Aim, CommandRefusal, Target};

use super::super::Node;
use super::super::cluster::Question;
use super::super::cluster::commands::{Connection, Found, Question as About, Somebody};

impl Node {
    /// Who is meant, and how his document names him.
    pub(super) async fn aim(&self, target: &Target) -> Result<(Aim, Option<Recipient>), CommandRefusal> {
        Ok(match target {
            Target::All => (Aim::Everybody, None),
            Target::Connection(id) => {
                let (id, user) = self.connection_anywhere(*id).await?.ok_or(CommandRefusal::NoSuchConnection)?;
                let recipient = user.clone().map_or(Recipient::Guest(id), Recipient::User);
                (Aim::Connection { id, user }, Some(recipient))
            }
            Target::Room(room) => {
                let room = RoomName::parse(room).map_err(|_| CommandRefusal::NoSuchRoom)?;
                let members = self.directory().members(&room).await.map_err(|_| CommandRefusal::Unavailable)?;
                let members = members.ok_or(CommandRefusal::NoSuchRoom)?;
                let meant = members.into_iter().map(|member| self.connection_meant_anywhere(member.id));
                (Aim::Sessions(meant.collect()), None)
            }
            Target::Tag(tag) => (Aim::Sessions(self.tagged(tag)), None),
            Target::User(name) => {
                let user = self.user_anywhere(name).await?.ok_or(CommandRefusal::NoSuchUser)?;
                (Aim::User(user.clone()), Some(Recipient::User(user)))
            }
        })
    }

    /// A user who is configured, or whose connection is here.
    pub(in crate::node) fn known_user(&self, id_or_name: &str) -> Option<User> {
        if let Some(account) = self.0.users.find(id_or_name) {
            return Some(account.user().clone());
        }
        if let Some(application) = self.0.gateway.applications.by_id(id_or_name) {
            return Some(application.user.clone());
        }
        self.connected_user(id_or_name)
    }

    /// The same, or whose connection is on another node.
    async fn user_anywhere(&self, id_or_name: &str) -> Result<Option<User>, CommandRefusal> {
        let known = self.known_user(id_or_name);
        let Some(peers) = self.peers().filter(|_| known.is_none()) else { return Ok(known) };
        let of_session = self.0.commands.desk().engine.user_of_session(id_or_name);
        if of_session.is_some() {
            return Ok(of_session);
        }
        let question = Question::Commands(About::User(id_or_name.to_owned()));
        let found = first(peers.ask_others::<Option<Somebody>>(&question).await)?;
        Ok(found.map(|Somebody(user)| user))
    }

    /// A connection of this node that can take commands, and whose it is.
    pub(in crate::node) fn connection_for_command(
        &self,
        id: ConnId,
    ) -> Result<Option<(ConnId, Option<User>)>, CallError> {
        let id = self.connection_meant(id);
        match self.0.registry.locate(id) {
            None => Ok(None),
            Some(Ok(_)) => Ok(Some((id, self.0.registry.user(id)))),
            Some(Err(_)) => Err(CallError::NotSupported),
        }
    }

    /// The same of any node.
    async fn connection_anywhere(&self, id: ConnId) -> Result<Option<(ConnId, Option<User>)>, CommandRefusal> {
        let here = self.connection_for_command(id).map_err(refusal)?;
        let Some(peers) = self.peers().filter(|_| here.is_none()) else { return Ok(here) };
        let meant = self.connection_meant_anywhere(id);
        if let Some(user) = self.0.commands.desk().engine.user_of(meant) {
            return Ok(Some((meant, user.cloned())));
        }
        let question = Question::Commands(About::Connection(Connection(id)));
        let found = if id.is_session() {
            // It moves from node to node.
            first(peers.ask_others::<Option<Found>>(&question).await)?
        } else if peers.others().contains(&id.node()) {
            peers.ask::<Option<Found>>(id.node(), &question).await.map_err(refusal)?
        } else {
            None
        };
        Ok(found.map(|Found { connection, user }| (connection, user.map(|Somebody(user)| user))))
    }

    /// Connections with a tag, or of users with it.
    fn tagged(&self, tag: &str) -> Vec<ConnId> {
        let mut tagged = self.0.registry.tagged(tag);
        let is_in_cluster = self.peers().is_some();
        if is_in_cluster {
            tagged.extend(self.tagged_elsewhere(tag));
        }
        for account in self.0.users.iter().filter(|account| account.tags().iter().any(|other| other == tag)) {
            let user = account.user().id();
            tagged.extend(self.0.registry.connections_of(user));
            if is_in_cluster {
                tagged.extend(self.0.commands.desk().engine.sessions_of(user));
            }
        }
        tagged.sort_unstable();
        tagged.dedup();
        tagged
    }
}

/// What the first node has that has anything. A node that does not answer may have it.
fn first<T>(answers: Vec<(u16, Result<Option<T>, CallError>)>) -> Result<Option<T>, CommandRefusal> {
    let mut failure = None;
    for (_, answer) in answers {
        match answer {
            Ok(Some(found)) => return Ok(Some(found)),
            Ok(None) => {}
            Err(error) => failure = Some(refusal(error)),
        }
    }
    failure.map_or(Ok(None), Err)
}

fn refusal(error: CallError) -> CommandRefusal {
    match error {
        CallError::NotSupported => CommandRefusal::NotSupported,
        _ => CommandRefusal::Unavailable,
    }
}
