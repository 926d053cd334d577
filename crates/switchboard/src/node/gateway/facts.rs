//! Who a session is, for whoever looks at members of rooms: a gateway session is one, the connection that carries it is not.

use std::sync::Arc;

use serde_json::Value;
use switchboard_proto::call::{CallError, ConnectionType};
use switchboard_proto::face::{ConnFacts, Remote};
use switchboard_proto::id::ConnId;

use super::super::Node;
use super::super::User;
use super::super::chat::unavailable;
use super::super::connection::{ConnectionHandle, ConnectionInfo};
use super::super::profile::{Profile, State};
use super::applications::Application;

impl Node {
    /// The facts of a session: those of the connection that carries it, under the session's id. Without one it comes from
    /// nowhere.
    pub(in crate::node) fn session_facts(&self, session: ConnId) -> ConnFacts {
        match self.carried(session) {
            Some((facts, _)) => ConnFacts { id: session, ..facts },
            None => ConnFacts {
                id: session,
                kind: ConnectionType::Gateway,
                remote: Remote::Nowhere,
                connected_at: 0,
                fingerprint: None,
            },
        }
    }

    /// A session as server code sees a member of a room.
    pub(in crate::node) fn session_handle(&self, session: ConnId) -> ConnectionHandle {
        ConnectionHandle { facts: self.session_facts(session), address: None, node: self.clone(), far: None }
    }

    /// The member of rooms that is meant: the session that a connection carries, else the id itself.
    pub(in crate::node) fn member_meant(&self, id: ConnId) -> ConnId {
        if id.is_session() { id } else { self.0.gateway.lives.of_connection(id).map_or(id, |live| live.session) }
    }

    /// The session that is meant by an id, if it is one's or that of a connection of the gateway. Before such a connection carries a
    /// session it is no member of anything.
    pub(in crate::node) fn session_meant(&self, id: ConnId) -> Result<Option<ConnId>, CallError> {
        let member = self.member_meant(id);
        if member.is_session() {
            return Ok(Some(member));
        }
        let is_gateway = self.0.registry.locate_as(id, ConnectionType::Gateway).is_some();
        if is_gateway { Err(CallError::NotSupported) } else { Ok(None) }
    }

    /// A connection or a session, whichever is a member of rooms, and its rooms.
    pub(in crate::node) async fn member(&self, id: ConnId) -> Result<ConnectionInfo, CallError> {
        let member = self.member_meant(id);
        if !member.is_session() {
            return self.connection_here(id).await;
        }
        self.application_of_session(member).await?;
        let mut rooms = self.0.gateway.rooms.of(member);
        if rooms.is_empty() && self.peers().is_some() {
            // Its home is elsewhere, perhaps; the store knows.
            let kept = self.0.sessions.shard_rooms(member).await.map_err(unavailable)?;
            rooms = kept.into_iter().map(|(room, _)| room).collect();
        }
        Ok(ConnectionInfo { rooms, session: Some(member), ..ConnectionInfo::new(self.session_handle(member)) })
    }

    /// Whose a session is that is in a room, or that a connection carries.
    pub(in crate::node) fn known_application(&self, session: ConnId) -> Option<Arc<Application>> {
        let seated = self.0.gateway.rooms.seats().application(session);
        seated.or_else(|| Some(Arc::clone(&self.0.gateway.lives.of_session(session)?.application)))
    }

    /// Whose any session is.
    pub(in crate::node) async fn application_of_session(&self, session: ConnId) -> Result<Arc<Application>, CallError> {
        if let Some(application) = self.known_application(session) {
            return Ok(application);
        }
        let now_ms = self.0.gateway.clock.now_ms();
        let record = self.0.sessions.shard(session, now_ms).await.map_err(unavailable)?;
        let application =
            record.and_then(|record| self.0.gateway.applications.by_id(&record.fleet.application).cloned());
        application.ok_or(CallError::NoSuchConnection)
    }

    /// Whose a connection or a session is.
    pub(in crate::node) fn user_of_member(&self, id: ConnId) -> Option<User> {
        if id.is_session() {
            return self.known_application(id).map(|application| application.user.clone());
        }
        self.0.registry.user(id)
    }

    /// A value of the server-only state of a connection, or of a session: that of the connection which carries it, and without one
    /// what its application begins with.
    pub(in crate::node) fn state_of_member(&self, id: ConnId, name: &str) -> Option<Value> {
        match self.profiled(id) {
            Some(connection) => self.0.registry.state_value(connection, name),
            None => {
                let application = self.known_application(id)?;
                application.state.iter().find(|(other, _)| other == name).map(|(_, value)| value.clone())
            }
        }
    }

    /// What the server says about a connection or a session.
    pub(in crate::node) fn profile_of_member(&self, id: ConnId) -> Profile {
        if let Some(connection) = self.profiled(id) {
            return self.0.registry.profile(connection);
        }
        let Some(application) = self.known_application(id) else { return Profile::default() };
        Profile {
            state: State::from_values(application.state.clone()),
            user: Some(application.user.clone()),
            tags: application.tags.clone(),
            login: None,
        }
    }

    /// The connection that has the profile of a connection or session.
    fn profiled(&self, id: ConnId) -> Option<ConnId> {
        if id.is_session() { self.carried(id).map(|(facts, _)| facts.id) } else { Some(id) }
    }
}
