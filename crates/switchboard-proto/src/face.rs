//! One protocol's conversation.
//!
//! A face handles one thing that happened and says what should happen next. Sockets, limits of queues, timers and
//! figures are written once, elsewhere. Faces never name each other; they meet only in [`crate::peer`], in [`crate::wire`] and in
//! the settings here.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use crate::actionhero::{SocketSettings, WebSocketSettings};
use crate::call::{CallError, ConnectionType, Outcome};
use crate::ddp::DdpSettings;
use crate::effect::Effects;
use crate::event::Event;
use crate::gateway::GatewaySettings;
use crate::id::{ConnId, RoomName, Token};
use crate::time::{Now, Stamps};
use crate::wire::Hears;

/// One protocol's conversation with one client.
pub trait Face {
    /// What the framer below hands over.
    type Frame<'a>;

    /// The connection is open; nothing has been exchanged.
    fn on_open(&mut self, cx: &mut Cx<'_>);

    /// A frame arrived.
    fn on_frame(&mut self, frame: Self::Frame<'_>, cx: &mut Cx<'_>);

    /// The call made under `token` came to its end.
    fn on_outcome(&mut self, token: Token, outcome: Outcome, cx: &mut Cx<'_>);

    /// Something that concerns this connection happened. `false`: this client cannot be told of such a thing, and is not.
    fn on_event(&mut self, event: &Event, cx: &mut Cx<'_>) -> bool;

    /// The moment asked for with [`Effects::wake_at_ms`] has come.
    fn on_deadline(&mut self, cx: &mut Cx<'_>);

    /// The client has taken so much of what waited that there is room for more, which was asked for with [`Effects::more`].
    fn on_drained(&mut self, _cx: &mut Cx<'_>) {}

    /// The client interrupted the conversation with a break.
    fn on_break(&mut self, cx: &mut Cx<'_>);

    /// The server is stopping as planned. The face closes now, or when its pending requests are answered, and asks to be
    /// woken for the latest moment.
    fn on_shutdown(&mut self, cx: &mut Cx<'_>);

    /// The connection is not let in, for this reason. Nothing was said before, and nothing of it was read; the face tells
    /// the client and closes.
    fn on_refused(&mut self, reason: &CallError, cx: &mut Cx<'_>);

    /// Server code ends this connection: the face says goodbye in its own way.
    fn on_removed(&mut self, cx: &mut Cx<'_>);

    /// In which formats this client hears a room, as a member or without being one. Whenever that changes, the face says so
    /// with [`Effects::rehear`].
    fn hears(&self, room: &RoomName, is_member: bool) -> Hears;
}

/// What a face may look at, and where its effects go.
#[derive(Debug)]
pub struct Cx<'a> {
    /// Facts of the connection.
    pub conn: &'a ConnFacts,
    /// The time of this step.
    pub now: Now,
    /// Settings of every face.
    pub settings: &'a FaceSettings,
    /// A random number for this step; a face needs at most one.
    pub random: u128,
    /// Times for messages, the same clock as that of what is written in formats that are stamped.
    pub stamps: &'a Stamps,
    /// Where effects go.
    pub fx: &'a mut Effects,
    /// The owner's buffer, lent to framers that have to rewrite what came.
    pub scratch: &'a mut Vec<u8>,
}

/// What is fixed when a connection is accepted.
#[derive(Clone, Debug)]
pub struct ConnFacts {
    /// Its id.
    pub id: ConnId,
    /// What kind of client it is.
    pub kind: ConnectionType,
    /// Where it comes from.
    pub remote: Remote,
    /// When it was accepted, in milliseconds since 1970.
    pub connected_at: u64,
    /// What ties several connections of one client together, if anything does.
    pub fingerprint: Option<Fingerprint>,
}

/// Where a connection comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remote {
    /// An address and port. An IPv4 address is written as such, whatever socket it came through.
    Ip(IpAddr, u16),
    /// A Unix socket.
    Unix,
    /// Nowhere: there is no connection. A gateway session that none carries is a member of rooms all the same.
    Nowhere,
}

impl From<SocketAddr> for Remote {
    fn from(address: SocketAddr) -> Self {
        Self::Ip(address.ip().to_canonical(), address.port())
    }
}

impl Remote {
    /// The port; 0 for a Unix socket, and for nowhere.
    pub fn port(&self) -> u16 {
        match self {
            Self::Ip(_, port) => *port,
            Self::Unix | Self::Nowhere => 0,
        }
    }
}

/// The address without the port; `unix` for a Unix socket, and `none` for nowhere.
impl fmt::Display for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(ip, _) => fmt::Display::fmt(ip, f),
            Self::Unix => f.pad("unix"),
            Self::Nowhere => f.pad("none"),
        }
    }
}

/// What ties several connections of one client together: the cookie of its HTTP session, where it presents one. It labels,
/// it proves nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::redundant_allocation, reason = "8 bytes in every idle connection instead of 16")]
pub struct Fingerprint(Arc<Box<str>>);

impl From<&str> for Fingerprint {
    fn from(text: &str) -> Self {
        Self(Arc::new(text.into()))
    }
}

impl ConnFacts {
    /// The fingerprint as text.
    pub fn fingerprint(&self) -> Option<&str> {
        self.fingerprint.as_ref().map(|fingerprint| &**fingerprint.0)
    }
}

/// Settings of every face, fixed at start.
#[derive(Debug, Default)]
pub struct FaceSettings {
    /// The line protocol's.
    pub socket: SocketSettings,
    /// The browser protocol's.
    pub websocket: WebSocketSettings,
    /// DDP's.
    pub ddp: DdpSettings,
    /// The gateway's.
    pub gateway: GatewaySettings,
}
