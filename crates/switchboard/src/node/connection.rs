//! A connection as server code sees it.

use std::fmt;
use std::sync::Arc;

use serde_json::Value;
use switchboard_proto::call::{CallError, ConnectionType};
use switchboard_proto::face::{ConnFacts, Remote};
use switchboard_proto::id::{ConnId, RoomName};
use switchboard_proto::json::RawJson;

use crate::command::ClientView;
use crate::hub::mail::Address;

use super::Node;
use super::User;
use super::connections::fact;
use super::profile::{Profile, State, StateError};

/// A connection as server code sees it: facts that never change, and state that only the server sets.
///
/// Of the gateway sessions are members of rooms, and speak there: callbacks, middleware and hooks see the session, whose id is the
/// shard hash. Its facts are those of the connection that carried it at that moment; without one, it comes from
/// [`Remote::Nowhere`].
///
/// Of a connection of another node the handle shows what was so when that node was asked.
///
/// Holding one does not keep the connection open.
#[derive(Clone)]
pub struct ConnectionHandle {
    pub(crate) facts: ConnFacts,
    /// None for a request over HTTP, which no worker knows, for a gateway session, which is wherever its connection is, and for a
    /// connection of another node.
    pub(crate) address: Option<Address>,
    pub(crate) node: Node,
    /// Of a connection of another node.
    pub(super) far: Option<Arc<Far>>,
}

/// What another node told of its connection.
#[derive(Debug)]
pub(super) struct Far {
    /// The name of that node.
    pub(super) node: String,
    pub(super) profile: Profile,
}

impl fmt::Debug for ConnectionHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectionHandle").field("facts", &self.facts).finish_non_exhaustive()
    }
}

impl ConnectionHandle {
    /// Its id.
    pub fn id(&self) -> ConnId {
        self.facts.id
    }

    /// What kind of client it is.
    pub fn connection_type(&self) -> ConnectionType {
        self.facts.kind
    }

    /// Where it comes from.
    pub fn remote(&self) -> Remote {
        self.facts.remote
    }

    /// When it was accepted, in milliseconds since 1970; 0 for a gateway session that no connection carries.
    pub fn connected_at(&self) -> u64 {
        self.facts.connected_at
    }

    /// The node that gave this handle. It is the one that the connection is with, unless it was asked for a connection of another
    /// one.
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// The name of the node that it is connected to.
    pub fn node_name(&self) -> &str {
        self.far.as_ref().map_or_else(|| self.node.name(), |far| &far.node)
    }

    /// Sets a value of its server-only state, at once; `null` removes it. Rooms that it is in are not looked at again:
    /// see [`Node::reauthenticate`].
    ///
    /// # Errors
    ///
    /// See [`StateError`]; [`StateError::NoSuchConnection`] for one of another node too, which [`Node::change_connection`] changes.
    pub fn set(&self, name: &str, value: impl Into<Value>) -> Result<(), StateError> {
        self.node.set_connection_state(self.facts.id, name, value)
    }

    /// A value of its server-only state.
    pub fn get(&self, name: &str) -> Option<Value> {
        match &self.far {
            Some(far) => far.profile.state.get(name).cloned(),
            None => self.node.state_of_member(self.facts.id, name),
        }
    }

    fn profile(&self) -> Profile {
        match &self.far {
            Some(far) => far.profile.clone(),
            None => self.node.profile_of_member(self.facts.id),
        }
    }

    /// All of its server-only state.
    pub fn state(&self) -> State {
        self.profile().state
    }

    /// Who it is, as far as the server has said so.
    pub fn user(&self) -> Option<User> {
        self.profile().user
    }

    /// Its tags, which commands can aim at.
    pub fn tags(&self) -> Vec<String> {
        self.profile().tags
    }

    /// What ties several connections of its client together, if anything does.
    pub fn fingerprint(&self) -> Option<&str> {
        self.facts.fingerprint()
    }

    /// Sends this client a message, as it is.
    ///
    /// # Errors
    ///
    /// [`CallError::NoSuchConnection`] when it has ended; [`CallError::NotSupported`] for a request over HTTP, which gets
    /// its answer and nothing else.
    pub async fn send_message(&self, message: impl Into<RawJson>) -> Result<(), CallError> {
        self.node.send_message(self.facts.id, message).await
    }

    /// An attribute that authentication patterns look at: a fact, else a value of the state.
    pub fn attribute(&self, name: &str) -> Option<Value> {
        match &self.far {
            None => self.node.attribute(&self.facts, name),
            Some(far) if name == "user" => far.profile.user.as_ref().map(|user| user.id().into()),
            Some(far) => fact(&self.facts, name).or_else(|| far.profile.state.get(name).cloned()),
        }
    }
}

/// What is known of a connection at one moment.
#[derive(Clone, Debug)]
pub struct ConnectionInfo {
    /// The connection.
    pub handle: ConnectionHandle,
    /// Its rooms, in the order of joining.
    pub rooms: Vec<RoomName>,
    /// Bytes that wait to be written to it.
    pub outbox_bytes: usize,
    /// The gateway session that it carries, which is in these rooms.
    pub session: Option<ConnId>,
    /// What it said about itself, and how it does with commands. None: it never said anything, and takes none.
    pub client: Option<ClientView>,
}

impl ConnectionInfo {
    /// A connection that is in no room, and of which nothing more is known.
    pub(super) fn new(handle: ConnectionHandle) -> Self {
        Self { handle, rooms: Vec::new(), outbox_bytes: 0, session: None, client: None }
    }
}
