//! A connection as server code sees it.

use std::fmt;

use serde_json::Value;
use switchboard_proto::call::{CallError, ConnectionType};
use switchboard_proto::face::{ConnFacts, Remote};
use switchboard_proto::id::{ConnId, RoomName};
use switchboard_proto::json::RawJson;

use crate::hub::mail::Address;

use super::Node;
use super::User;
use super::profile::{State, StateError};

/// A connection as server code sees it: facts that never change, and state that only the server sets.
///
/// Of the gateway sessions are members of rooms, and speak there: callbacks, middleware and hooks see the session, whose id is the
/// shard hash. Its facts are those of the connection that carried it at that moment; without one, it comes from
/// [`Remote::Nowhere`].
///
/// Holding one does not keep the connection open.
#[derive(Clone)]
pub struct ConnectionHandle {
    pub(crate) facts: ConnFacts,
    /// None for a request over HTTP, which no worker knows, and for a gateway session, which is wherever its connection is.
    pub(crate) address: Option<Address>,
    pub(crate) node: Node,
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

    /// The node that it is connected to.
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// Sets a value of its server-only state, at once; `null` removes it. Rooms that it is in are not looked at again:
    /// see [`Node::reauthenticate`].
    ///
    /// # Errors
    ///
    /// See [`StateError`].
    pub fn set(&self, name: &str, value: impl Into<Value>) -> Result<(), StateError> {
        self.node.set_connection_state(self.facts.id, name, value)
    }

    /// A value of its server-only state.
    pub fn get(&self, name: &str) -> Option<Value> {
        self.node.state_of_member(self.facts.id, name)
    }

    /// All of its server-only state.
    pub fn state(&self) -> State {
        self.node.profile_of_member(self.facts.id).state
    }

    /// Who it is, as far as the server has said so.
    pub fn user(&self) -> Option<User> {
        self.node.profile_of_member(self.facts.id).user
    }

    /// Its tags, which commands can aim at.
    pub fn tags(&self) -> Vec<String> {
        self.node.profile_of_member(self.facts.id).tags
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
        self.node.attribute(&self.facts, name)
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
}
