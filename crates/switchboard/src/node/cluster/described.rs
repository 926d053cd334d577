//! A connection, as one node describes it to another.

use std::net::IpAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;
use switchboard_proto::call::{CallError, ConnectionType};
use switchboard_proto::face::{ConnFacts, Remote};
use switchboard_proto::id::{ConnId, RoomName};
use switchboard_proto::json::RawJson;
use switchboard_proto::user::User;

use crate::command::{Capabilities, ClientView, Paused, Status};

use super::super::Node;
use super::super::connection::{ConnectionHandle, ConnectionInfo, Far};
use super::super::profile::{Profile, State};
use super::wire::{conn_id, room_names};

/// A [`ConnectionInfo`].
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Described {
    #[serde(with = "conn_id")]
    id: ConnId,
    kind: String,
    /// As [`Remote`] is written.
    remote: String,
    port: u16,
    connected_at: u64,
    fingerprint: Option<String>,
    node: String,
    user: Option<UserText>,
    state: Vec<(String, Value)>,
    tags: Vec<String>,
    #[serde(with = "room_names")]
    rooms: Vec<RoomName>,
    outbox_bytes: usize,
    session: Option<String>,
    client: Option<Client>,
}

/// A [`User`].
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::node) struct UserText {
    id: String,
    name: String,
}

/// A [`ClientView`].
#[derive(Debug, Serialize, Deserialize)]
struct Client {
    since: Option<u64>,
    is_settling: bool,
    data: Option<Box<RawValue>>,
    any: bool,
    keys: Vec<Box<str>>,
    paused: Option<(u64, Option<Box<str>>)>,
    status: String,
    ping_ms: Option<u64>,
    heard: Option<u64>,
    is_silent: bool,
}

impl From<&User> for UserText {
    fn from(user: &User) -> Self {
        Self { id: user.id().to_owned(), name: user.name().to_owned() }
    }
}

impl UserText {
    pub(in crate::node) fn read(self) -> Result<User, CallError> {
        User::named(self.id, self.name).map_err(|_| CallError::Unavailable)
    }
}

impl Described {
    pub(super) fn new(info: &ConnectionInfo) -> Self {
        let ConnectionInfo { handle, rooms, outbox_bytes, session, client } = info;
        Self {
            id: handle.id(),
            kind: handle.connection_type().as_str().to_owned(),
            remote: handle.remote().to_string(),
            port: handle.remote().port(),
            connected_at: handle.connected_at(),
            fingerprint: handle.fingerprint().map(str::to_owned),
            node: handle.node_name().to_owned(),
            user: handle.user().as_ref().map(UserText::from),
            state: handle.state().into_values(),
            tags: handle.tags(),
            rooms: rooms.clone(),
            outbox_bytes: *outbox_bytes,
            session: session.map(|session| session.to_string()),
            client: client.as_ref().and_then(Client::new),
        }
    }

    /// What it says, as known to `node`.
    ///
    /// # Errors
    ///
    /// [`CallError::Unavailable`] when it says what cannot be.
    pub(super) fn read(self, node: &Node) -> Result<ConnectionInfo, CallError> {
        let kind = ConnectionType::ALL.into_iter().find(|kind| kind.as_str() == self.kind);
        let facts = ConnFacts {
            id: self.id,
            kind: kind.ok_or(CallError::Unavailable)?,
            remote: read_remote(&self.remote, self.port)?,
            connected_at: self.connected_at,
            fingerprint: self.fingerprint.as_deref().map(Into::into),
        };
        let profile = Profile {
            state: State::from_values(self.state),
            user: self.user.map(UserText::read).transpose()?,
            tags: self.tags,
            login: None,
        };
        let far = Some(Arc::new(Far { node: self.node, profile }));
        Ok(ConnectionInfo {
            handle: ConnectionHandle { facts, address: None, node: node.clone(), far },
            rooms: self.rooms,
            outbox_bytes: self.outbox_bytes,
            session: self.session.map(|id| ConnId::parse(&id).ok_or(CallError::Unavailable)).transpose()?,
            client: self.client.map(Client::read).transpose()?,
        })
    }
}

fn read_remote(remote: &str, port: u16) -> Result<Remote, CallError> {
    for other in [Remote::Unix, Remote::Nowhere] {
        if remote == other.to_string() {
            return Ok(other);
        }
    }
    remote.parse::<IpAddr>().map(|ip| Remote::Ip(ip, port)).map_err(|_| CallError::Unavailable)
}

impl Client {
    /// None: its data are no JSON, which cannot be.
    fn new(view: &ClientView) -> Option<Self> {
        let data = view.data.as_ref().map(|data| RawValue::from_string(data.as_str().to_owned())).transpose().ok()?;
        Some(Self {
            since: view.takes_commands_since_unix_ms,
            is_settling: view.is_settling,
            data,
            any: view.capabilities.any,
            keys: view.capabilities.keys.iter().cloned().collect(),
            paused: view.paused.as_ref().map(|paused| (paused.since_unix_ms, paused.by.clone())),
            status: view.status.as_str().to_owned(),
            ping_ms: view.ping_ms,
            heard: view.heard_unix_ms,
            is_silent: view.is_silent_from_start,
        })
    }

    fn read(self) -> Result<ClientView, CallError> {
        let status = [Status::Busy, Status::Online, Status::Unresponsive]
            .into_iter()
            .find(|status| status.as_str() == self.status)
            .ok_or(CallError::Unavailable)?;
        Ok(ClientView {
            takes_commands_since_unix_ms: self.since,
            is_settling: self.is_settling,
            data: self.data.map(|data| RawJson::from_parsed(data.get())),
            capabilities: Capabilities { any: self.any, keys: self.keys.into_iter().collect() },
            paused: self.paused.map(|(since_unix_ms, by)| Paused { since_unix_ms, by }),
            status,
            ping_ms: self.ping_ms,
            heard_unix_ms: self.heard,
            is_silent_from_start: self.is_silent,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_somebody_comes_from_comes_through() {
        let ip = "::ffff:10.0.0.7".parse().map(|ip| Remote::from(std::net::SocketAddr::new(ip, 7))).unwrap();
        for remote in [Remote::Unix, Remote::Nowhere, ip, Remote::Ip("fe80::1".parse().unwrap(), 1)] {
            assert_eq!(read_remote(&remote.to_string(), remote.port()).unwrap(), remote);
        }
        assert!(read_remote("somewhere", 1).is_err());
    }
}
