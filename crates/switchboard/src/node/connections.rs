//! What is known of connections and sessions, and what is done to one: wherever it is.
//!
//! The id of a connection tells its node. What concerns a connection of another node is asked of that one (`cluster`), and what
//! ends in `_here` is done by the node that holds it. Hooks, middleware and callbacks run there.

use serde_json::Value;
use switchboard_proto::call::{CallError, ConnectionType};
use switchboard_proto::event::Event;
use switchboard_proto::face::{ConnFacts, Remote};
use switchboard_proto::id::ConnId;
use switchboard_proto::json::RawJson;

use crate::hub::mail::{Address, Ask, Inspection, Mail};

use super::cluster::connections::Question;
use super::connection::{ConnectionHandle, ConnectionInfo};
use super::{ConnectionPatch, Node, StateError, User, reply};

impl Node {
    /// What is known of a connection of any node: that of this id, or that which carries this gateway session.
    ///
    /// # Errors
    ///
    /// [`CallError::NoSuchConnection`]; [`CallError::Unavailable`] when the node that holds it does not answer.
    pub async fn connection(&self, id: ConnId) -> Result<ConnectionInfo, CallError> {
        match self.holder(id).await? {
            Some(slot) => self.connection_of(slot, id).await,
            None => self.connection_here(id).await,
        }
    }

    pub(super) async fn connection_here(&self, id: ConnId) -> Result<ConnectionInfo, CallError> {
        match self.0.registry.locate(self.connection_meant(id)).ok_or(CallError::NoSuchConnection)? {
            Ok(address) => Ok(self.info(address, self.ask(address, Ask::Inspect).await?)),
            Err(facts) => Ok(self.request_info(facts)),
        }
    }

    /// What is known of these connections, without those that have ended. All workers are asked before the first is
    /// waited for.
    pub(super) async fn inspect(&self, ids: &[ConnId]) -> Vec<ConnectionInfo> {
        let mut asked = Vec::with_capacity(ids.len());
        for place in ids.iter().filter_map(|id| self.0.registry.locate(*id)) {
            asked.push(match place {
                Ok(address) => {
                    let (reply, answer) = reply();
                    let ask = Mail::Ask(Ask::Inspect(address.key, reply));
                    self.0.workers[usize::from(address.worker)].push(ask).await;
                    Ok((address, answer))
                }
                Err(facts) => Err(self.request_info(facts)),
            });
        }
        let mut found = Vec::with_capacity(asked.len());
        for asked in asked {
            match asked {
                Ok((address, answer)) => {
                    if let Ok(inspection) = answer.await {
                        found.push(self.info(address, inspection));
                    }
                }
                Err(info) => found.push(info),
            }
        }
        found
    }

    /// What a worker knows of a connection.
    fn info(&self, address: Address, inspection: Inspection) -> ConnectionInfo {
        let Inspection { facts, mut rooms, outbox_bytes, .. } = inspection;
        let session = match facts.kind {
            ConnectionType::Gateway => Some(self.member_meant(facts.id)).filter(ConnId::is_session),
            _ => None,
        };
        if let Some(session) = session {
            rooms = self.0.gateway.rooms.of(session);
        }
        let handle = ConnectionHandle { facts, address: Some(address), node: self.clone(), far: None };
        self.with_client(ConnectionInfo { rooms, outbox_bytes, session, ..ConnectionInfo::new(handle) })
    }

    /// What there is to know of a request over HTTP.
    fn request_info(&self, facts: ConnFacts) -> ConnectionInfo {
        let handle = ConnectionHandle { facts, address: None, node: self.clone(), far: None };
        self.with_client(ConnectionInfo::new(handle))
    }

    fn with_client(&self, info: ConnectionInfo) -> ConnectionInfo {
        ConnectionInfo { client: self.client_of(info.handle.id()), ..info }
    }

    /// Sends one client of any node a message, as it is (`connection.sendMessage`). When this returns the message waits in the
    /// connection's outbox; a client that is being closed does not get it. On the gateway it is in the log of the session, which may
    /// be named by its own id too, then also while no connection carries it.
    ///
    /// # Errors
    ///
    /// [`CallError::NoSuchConnection`]; [`CallError::NotSupported`] for a request over HTTP, which gets its answer and
    /// nothing else, for a DDP session that did not subscribe to its messages, and for a connection of the gateway that carries no
    /// session; [`CallError::MessageTooLarge`] when it does not fit into a log; [`CallError::Unavailable`] when the node that holds
    /// the connection does not answer, and then the message may have been sent.
    pub async fn send_message(&self, id: ConnId, message: impl Into<RawJson>) -> Result<(), CallError> {
        let message = message.into();
        // The log of a session is written from anywhere.
        let holder = if id.is_session() { None } else { self.holder(id).await? };
        match holder {
            Some(slot) => self.have_done(slot, Question::Send { id, message }).await,
            None => self.send_message_here(id, message).await,
        }
    }

    pub(super) async fn send_message_here(&self, id: ConnId, message: RawJson) -> Result<(), CallError> {
        if let Some(session) = self.session_meant(id)? {
            return self.append_message(session, &message).await;
        }
        let event = Event::Message(message);
        match self.ask(self.locate(id)?, |key, reply| Ask::Send(key, event, reply)).await? {
            true => Ok(()),
            false => Err(CallError::NotSupported),
        }
    }

    /// Ends a connection of any node, or that which carries a gateway session; its client is told in the way of its wire. The session stays:
    /// see [`Node::end_shard_session`].
    ///
    /// # Errors
    ///
    /// [`CallError::NoSuchConnection`]; [`CallError::NotSupported`] for a request over HTTP, which ends with its answer;
    /// [`CallError::Unavailable`] when the node that holds it does not answer.
    pub async fn disconnect(&self, id: ConnId) -> Result<(), CallError> {
        match self.holder(id).await? {
            Some(slot) => self.have_done(slot, Question::End(id)).await,
            None => self.disconnect_here(id).await,
        }
    }

    pub(super) async fn disconnect_here(&self, id: ConnId) -> Result<(), CallError> {
        self.ask(self.locate(self.connection_meant(id))?, Ask::Remove).await
    }

    /// Sets a value of the server-only state of a connection of this node; `null` removes it.
    ///
    /// # Errors
    ///
    /// See [`StateError`].
    pub fn set_connection_state(&self, id: ConnId, name: &str, value: impl Into<Value>) -> Result<(), StateError> {
        let state = vec![(name.to_owned(), value.into())];
        self.patch_connection(id, ConnectionPatch { state, ..ConnectionPatch::default() })
    }

    /// Says who a connection of this node is; `None`: nobody. Rooms that it is in are not looked at again.
    ///
    /// # Errors
    ///
    /// [`StateError::NoSuchConnection`]; [`StateError::FixedUser`] for a DDP session.
    pub fn set_connection_user(&self, id: ConnId, user: Option<User>) -> Result<(), StateError> {
        self.patch_connection(id, ConnectionPatch { user: Some(user), ..ConnectionPatch::default() })
    }

    /// Replaces the tags of a connection of this node: at most [`MAX_TAGS`](super::profile::MAX_TAGS), each of 1 to 128 bytes without
    /// control characters. One that is named twice counts once.
    ///
    /// # Errors
    ///
    /// See [`StateError`].
    pub fn set_connection_tags(&self, id: ConnId, tags: Vec<String>) -> Result<(), StateError> {
        self.patch_connection(id, ConnectionPatch { tags: Some(tags), ..ConnectionPatch::default() })
    }

    /// [`Node::patch_connection`] for a connection of any node.
    ///
    /// # Errors
    ///
    /// See [`StateError`]; nothing has changed then, save perhaps with [`StateError::Unavailable`].
    pub async fn change_connection(&self, id: ConnId, patch: ConnectionPatch) -> Result<(), StateError> {
        let holder = match self.holder(id).await {
            Ok(holder) => holder,
            Err(error) => return Err(state_error(&error)),
        };
        match holder {
            Some(slot) => self.change_connection_of(slot, id, patch).await,
            None => self.patch_connection(id, patch),
        }
    }

    /// Changes state, user and tags of a connection of this node at once: everything that the patch names, or nothing. Rooms
    /// that it is in are not looked at again: see [`Node::reauthenticate`]. The id of a gateway session means the connection that
    /// carries it, and the change lasts as long as that does.
    ///
    /// # Errors
    ///
    /// See [`StateError`]; nothing has changed then.
    pub fn patch_connection(&self, id: ConnId, patch: ConnectionPatch) -> Result<(), StateError> {
        let id = self.connection_meant(id);
        let (is_somebody_else, has_other_tags) = (patch.user.is_some(), patch.tags.is_some());
        let is_fixed = |kind| self.0.registry.locate_as(id, kind).is_some();
        if is_somebody_else && [ConnectionType::Ddp, ConnectionType::Gateway].into_iter().any(is_fixed) {
            return Err(StateError::FixedUser);
        }
        self.0.registry.patch(id, patch)?;
        if is_somebody_else {
            self.note_command_user(id);
        } else if has_other_tags {
            self.note_command_tags(id);
        }
        Ok(())
    }

    /// The user whom an id or a name means, for [`Node::set_connection_user`]: the configured one, of whom ids are looked at
    /// first; else one with this id, which is his name too.
    ///
    /// # Errors
    ///
    /// [`BadUser`](switchboard_proto::user::BadUser) when it can be no user's id.
    pub fn user_named(&self, id_or_name: &str) -> Result<User, switchboard_proto::user::BadUser> {
        match self.0.users.find(id_or_name) {
            Some(account) => Ok(account.user().clone()),
            None => User::new(id_or_name),
        }
    }

    /// An attribute that authentication patterns look at: a fact, else a value of the state.
    pub(super) fn attribute(&self, facts: &ConnFacts, name: &str) -> Option<Value> {
        match name {
            "user" => self.user_of_member(facts.id).map(|user| user.id().into()),
            name => fact(facts, name).or_else(|| self.state_of_member(facts.id, name)),
        }
    }
}

/// A fact by its name as an attribute. State has none of these names.
pub(super) fn fact(facts: &ConnFacts, name: &str) -> Option<Value> {
    match name {
        // What is a fact of a connection only a session that none carries has not.
        "connectedAt" | "remoteIP" | "remotePort" if facts.remote == Remote::Nowhere => None,
        "connectedAt" => Some(facts.connected_at.into()),
        "fingerprint" => facts.fingerprint().map(Value::from),
        "id" => Some(facts.id.to_string().into()),
        "remoteIP" => Some(facts.remote.to_string().into()),
        "remotePort" => Some(facts.remote.port().into()),
        "type" => Some(facts.kind.as_str().into()),
        _ => None,
    }
}

/// Why nobody could be asked to change a connection.
pub(super) fn state_error(error: &CallError) -> StateError {
    match error {
        CallError::NoSuchConnection => StateError::NoSuchConnection,
        _ => StateError::Unavailable,
    }
}
