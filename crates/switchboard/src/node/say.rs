//! What is said in rooms: who speaks, who looks at it before, and how it gets its number.

use std::sync::atomic::Ordering;

use switchboard_proto::call::CallError;
use switchboard_proto::event::{RoomMessage, Sender};
use switchboard_proto::id::{ConnId, RoomName};
use switchboard_proto::json::RawJson;

use crate::backend::{Draft, Published};
use crate::clock;
use crate::op::Op;

use super::Node;
use super::chat::unavailable;
use super::connection::ConnectionHandle;
use super::hooks::Saying;

/// Who speaks in [`Node::broadcast`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Speaker {
    /// A connection, which must be in the room. It hears itself where speakers of its protocol do.
    Connection(ConnId),
    /// Anybody the server makes up.
    Mock(MockConnection),
}

/// A speaker that is not a connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MockConnection {
    /// What members see as `from`; without one, `0`. The id of a connection speaks for that one: who hears it is
    /// as if that one had said it.
    pub id: Option<String>,
    /// With a list the room must be in it; without one any room will do.
    pub rooms: Option<Vec<String>>,
}

impl Speaker {
    /// The server.
    pub fn server() -> Self {
        Self::Mock(MockConnection::default())
    }

    /// The server, under a name.
    pub fn named(id: impl Into<String>) -> Self {
        Self::Mock(MockConnection { id: Some(id.into()), rooms: None })
    }
}

impl From<ConnId> for Speaker {
    fn from(id: ConnId) -> Self {
        Self::Connection(id)
    }
}

impl From<MockConnection> for Speaker {
    fn from(mock: MockConnection) -> Self {
        Self::Mock(mock)
    }
}

impl Node {
    /// Says something to all members of a room, under the context `user`. The result is the message's number, 0 while the store
    /// cannot be reached and only members on this node hear it (`backend.degraded`); `None`: there is no such room, and nobody hears
    /// it.
    ///
    /// # Errors
    ///
    /// [`CallError::MessageRequired`] for `null`, `""` and a room without a name; [`CallError::NotMember`] for a
    /// connection that is not inside, and for a mock connection whose list of rooms lacks it;
    /// [`CallError::NoSuchConnection`] for a connection that has ended; [`CallError::Refused`] by middleware.
    pub async fn broadcast(
        &self,
        speaker: impl Into<Speaker>,
        room: &str,
        message: impl Into<RawJson>,
    ) -> Result<Option<u64>, CallError> {
        let body = message.into();
        if room.is_empty() || body.is_blank() {
            return Err(CallError::MessageRequired);
        }
        let Ok(room) = RoomName::parse(room) else { return Ok(None) };
        let speaker = speaker.into();
        if let Speaker::Mock(MockConnection { rooms: Some(rooms), .. }) = &speaker
            && !rooms.iter().any(|other| other == room.as_str())
        {
            return Err(CallError::NotMember(room));
        }
        let (id, named) = match &speaker {
            Speaker::Connection(id) => (Some(*id), None),
            Speaker::Mock(mock) => (mock.id.as_deref().and_then(ConnId::parse), mock.id.clone()),
        };
        let holder = match id {
            Some(id) => (self.holder(id).await, id),
            None => return self.broadcast_here(speaker, room, body).await,
        };
        match holder {
            (Ok(Some(slot)), id) => self.say_at(slot, id, named, room, body).await,
            (Err(CallError::NoSuchConnection), _) if named.is_some() => self.broadcast_here(speaker, room, body).await,
            (Err(error), _) => Err(error),
            (Ok(None), _) => self.broadcast_here(speaker, room, body).await,
        }
    }

    /// The same on the node that holds the speaker, if any does. The list of rooms has been looked at.
    pub(super) async fn broadcast_here(
        &self,
        speaker: Speaker,
        room: RoomName,
        body: RawJson,
    ) -> Result<Option<u64>, CallError> {
        let (sender, connection) = match speaker {
            Speaker::Connection(id) => {
                let member = self.member(id).await?;
                if !member.rooms.contains(&room) {
                    return Err(CallError::NotMember(room));
                }
                (Sender::Connection(member.handle.id()), Some(member.handle))
            }
            Speaker::Mock(MockConnection { id: None, .. }) => (Sender::Server, None),
            Speaker::Mock(MockConnection { id: Some(name), .. }) => {
                let may_speak = |id: &ConnId| id.is_session() || self.locate(*id).is_ok();
                let spoken_for = match ConnId::parse(&name).filter(may_speak) {
                    Some(id) => self.member(id).await.ok(),
                    None => None,
                };
                (Sender::Named(name.into()), spoken_for.map(|member| member.handle))
            }
        };
        self.say(self.saying(room, sender, connection, body)).await.map(number)
    }

    /// What somebody is about to say, without anything that only his protocol knows. The user is that of the connection.
    pub(super) fn saying(
        &self,
        room: RoomName,
        sender: Sender,
        connection: Option<ConnectionHandle>,
        body: RawJson,
    ) -> Saying {
        let user = match (&sender, &connection) {
            // A connection that is spoken for is not who speaks.
            (Sender::Connection(id), Some(_)) => self.user_of_member(*id),
            _ => None,
        };
        Saying { room, sender, connection, body, user, extra: None }
    }

    /// Says something on behalf of a connection that is a member, or was one a moment ago.
    pub(super) fn broadcast_later(&self, connection: &ConnectionHandle, room: RoomName, body: RawJson) {
        if body.is_blank() {
            return;
        }
        let sender = Sender::Connection(connection.id());
        match self.say(self.saying(room, sender, Some(connection.clone()), body)) {
            Op::Ready(_) => {}
            Op::Wait(future) => self.spawn(Box::pin(async move { drop(future.await) })),
        }
    }

    /// Runs middleware and asks the backend, if there are any, and publishes.
    pub(super) fn say(&self, mut saying: Saying) -> Op<Result<Option<Published>, CallError>> {
        let lists = self.0.hooks.lists();
        let rule = self.say_rule(&saying);
        if lists.say.is_empty() && rule.is_none() {
            return self.publish(saying);
        }
        let node = self.clone();
        let looked_at = async move {
            for (_, middleware) in &lists.say {
                middleware.say(&mut saying).await.map_err(CallError::Refused)?;
            }
            if let Some(rule) = &rule {
                node.may_say(rule, &mut saying).await?;
            }
            node.publish(saying).await
        };
        Op::start(looked_at, |panic| {
            tracing::error!(panic = panic.0, "say middleware panicked");
            Err(CallError::Unavailable)
        })
    }

    /// Has a message numbered and handed over that nobody has to look at any more.
    pub(super) fn publish(&self, saying: Saying) -> Op<Result<Option<Published>, CallError>> {
        let Saying { room, sender, connection, body, user, extra } = saying;
        // Of ids that senders chose the store knows the latest only. Those of all other messages are computed.
        if extra.as_ref().and_then(|extra| extra.id.as_deref()).is_some_and(RoomMessage::is_computed_id) {
            return Op::Ready(Ok(Some(Published::IdTaken)));
        }
        let hears_itself = |speaker: &ConnectionHandle| self.0.settings.hear_themselves[speaker.facts.kind.index()];
        let echo = connection.as_ref().is_some_and(hears_itself);
        let origin = connection.and_then(|connection| connection.address);
        let draft = Draft { room, sender, body, sent_at: clock::unix_ms(), origin, echo, user, extra };
        let node = self.clone();
        self.0.broker.publish(draft).map(move |published| {
            let published = published.map_err(unavailable)?;
            if matches!(published, Some(Published::Now(_))) {
                node.0.counters.published.fetch_add(1, Ordering::Relaxed);
            }
            Ok(published)
        })
    }
}

/// The number of a message, for senders that choose no id: nothing was said before under theirs.
pub(super) fn number(published: Option<Published>) -> Option<u64> {
    match published? {
        Published::Now(message) => Some(message.message().number),
        Published::Before(message) => Some(message.number),
        Published::IdTaken => None,
    }
}
