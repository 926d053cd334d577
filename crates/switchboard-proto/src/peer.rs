//! A framer and a face: bytes in, effects out.

use crate::actionhero::SocketFace;
use crate::call::{ConnectionType, Order, Outcome};
use crate::event::Event;
use crate::face::{AnyFace, Cx, Face, FaceSettings, Fingerprint};
use crate::frame::line::{self, LineFrame, LineFramer};
use crate::id::Token;
use crate::wire::WireFormat;

/// One connection's protocol state.
#[derive(Debug)]
pub struct Peer {
    framer: Framer,
    face: AnyFace,
    /// A call whose outcome the next frame waits for.
    awaited: Option<Token>,
}

#[derive(Debug)]
enum Framer {
    Line(LineFramer),
}

/// What one step over the input brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// A frame was handled; there may be more.
    Frame,
    /// The input is used up.
    NeedInput,
    /// A call is awaited: input is taken again after its outcome.
    Waiting,
}

impl Peer {
    /// A peer that speaks ActionHero's line protocol.
    pub fn socket() -> Self {
        Self {
            framer: Framer::Line(LineFramer::default()),
            face: AnyFace::Socket(SocketFace::default()),
            awaited: None,
        }
    }

    /// How room messages are encoded for this peer.
    pub fn wire_format(&self) -> WireFormat {
        match self.face {
            AnyFace::Socket(_) => WireFormat::ActionHeroLine,
        }
    }

    /// The connection is open.
    pub fn on_open(&mut self, cx: &mut Cx<'_>) {
        self.face.on_open(cx);
    }

    /// Whether all that one read returned is a break that ends the connection. To be asked before [`Peer::feed`]; the
    /// only place that knows where a read began and ended.
    pub fn is_break(&self, segment: &[u8]) -> bool {
        match &self.framer {
            Framer::Line(framer) => framer.is_between_lines() && line::is_break(segment),
        }
    }

    /// Handles at most one frame from the front of `input` and moves `input` behind what was used.
    ///
    /// Effects are to be applied after each step, before the next.
    pub fn feed(&mut self, input: &mut &[u8], cx: &mut Cx<'_>) -> Step {
        if self.awaited.is_some() {
            return Step::Waiting;
        }
        match (&mut self.framer, &mut self.face) {
            (Framer::Line(framer), AnyFace::Socket(face)) => {
                let Some(frame) = framer.next(input, &cx.settings.socket.framing) else {
                    return Step::NeedInput;
                };
                // Past its limit many times over, a line is not one that somebody typed.
                let flood = matches!(frame, LineFrame::Flood { .. });
                face.on_frame(frame, cx);
                debug_assert!(!flood || cx.fx.close.is_some());
            }
        }
        if let Some((token, call)) = &cx.fx.call
            && call.order() == Order::Sequential
        {
            self.awaited = Some(*token);
        }
        Step::Frame
    }

    /// A call came to its end.
    pub fn on_outcome(&mut self, token: Token, outcome: Outcome, cx: &mut Cx<'_>) {
        if self.awaited == Some(token) {
            self.awaited = None;
        }
        self.face.on_outcome(token, outcome, cx);
    }

    /// Whether a call is awaited before more input is taken.
    pub fn is_waiting(&self) -> bool {
        self.awaited.is_some()
    }

    /// Something that concerns this connection happened.
    pub fn on_event(&mut self, event: &Event, cx: &mut Cx<'_>) {
        self.face.on_event(event, cx);
    }

    /// A moment that was asked for has come.
    pub fn on_deadline(&mut self, cx: &mut Cx<'_>) {
        self.face.on_deadline(cx);
    }

    /// The client sent a break.
    pub fn on_break(&mut self, cx: &mut Cx<'_>) {
        self.face.on_break(cx);
    }

    /// The server is stopping as planned.
    pub fn on_shutdown(&mut self, cx: &mut Cx<'_>) {
        self.face.on_shutdown(cx);
    }

    /// Server code ends this connection.
    pub fn on_removed(&mut self, cx: &mut Cx<'_>) {
        self.face.on_removed(cx);
    }
}

/// What a peer of each kind starts as, by the listener that accepted it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerKind {
    /// ActionHero's line protocol.
    Socket,
}

impl PeerKind {
    /// A new peer.
    pub fn open(self) -> Peer {
        match self {
            Self::Socket => Peer::socket(),
        }
    }

    /// What kind of client such a connection is.
    pub fn connection_type(self) -> ConnectionType {
        match self {
            Self::Socket => ConnectionType::Socket,
        }
    }

    /// What ties several connections of one client together.
    pub fn fingerprint(self, settings: &FaceSettings) -> Fingerprint {
        match self {
            Self::Socket => settings.socket.fingerprint(),
        }
    }
}
