//! A framer and a face: bytes in, effects out.

use crate::actionhero::{Compat, SocketFace, WebSocketFace};
use crate::call::{CallError, ConnectionType, Order, Outcome};
use crate::close::CloseReason;
use crate::ddp::DdpFace;
use crate::event::Event;
use crate::face::{Cx, Face, FaceSettings, Fingerprint};
use crate::frame::line::{self, LineFrame, LineFramer};
use crate::frame::ws::{self, WsError, WsFrame, WsFramer, WsLimits};
use crate::gateway::{GatewayFace, Opening};
use crate::id::{ConnId, RoomName, Token};
use crate::wire::{Hears, WireFormat};

/// One connection's protocol state.
#[derive(Debug)]
pub struct Peer {
    wire: Wire,
    /// A call whose outcome the next frame waits for.
    awaited: Option<Token>,
}

/// The closed list of framers and faces that go together.
#[derive(Debug)]
enum Wire {
    /// ActionHero's line protocol.
    Line(LineFramer, SocketFace),
    /// ActionHero's browser protocol. On the heap, so that it adds nothing to what a connection of the other kind occupies.
    WebSocket(Box<WebSocket<WebSocketFace>>),
    /// DDP.
    Ddp(Box<WebSocket<DdpFace>>),
    /// The gateway.
    Gateway(Box<WebSocket<GatewayFace>>),
}

#[derive(Debug, Default)]
struct WebSocket<F> {
    framer: WsFramer,
    face: F,
    alarm: Alarm,
}

/// A face that speaks in messages of a WebSocket.
trait MessageFace: for<'a> Face<Frame<'a> = WsFrame<'a>> {
    /// What bounds its client's messages, and how long one may take in milliseconds; 0 for any time.
    fn limits<'s>(&self, settings: &'s FaceSettings) -> (&'s WsLimits, u64);
}

impl MessageFace for WebSocketFace {
    fn limits<'s>(&self, settings: &'s FaceSettings) -> (&'s WsLimits, u64) {
        (&settings.websocket.limits, settings.websocket.message_timeout_ms)
    }
}

impl MessageFace for DdpFace {
    fn limits<'s>(&self, settings: &'s FaceSettings) -> (&'s WsLimits, u64) {
        let ddp = &settings.ddp;
        (if self.is_logged_in() { &ddp.limits } else { &ddp.limits_before_login }, ddp.message_timeout_ms)
    }
}

impl MessageFace for GatewayFace {
    fn limits<'s>(&self, settings: &'s FaceSettings) -> (&'s WsLimits, u64) {
        (&settings.gateway.limits, settings.gateway.message_timeout_ms)
    }
}

/// Calls a method of the face at hand.
macro_rules! each {
    ($peer:expr, $face:ident => $call:expr, $cx:expr) => {
        match &mut $peer.wire {
            Wire::Line(_, $face) => $call,
            Wire::WebSocket(socket) => {
                let $face = &mut socket.face;
                let answer = $call;
                socket.alarm.set($cx);
                answer
            }
            Wire::Ddp(socket) => {
                let $face = &mut socket.face;
                let answer = $call;
                socket.alarm.set($cx);
                answer
            }
            Wire::Gateway(socket) => {
                let $face = &mut socket.face;
                let answer = $call;
                socket.alarm.set($cx);
                answer
            }
        }
    };
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
    /// In which format its client is told of gaps.
    pub fn wire_format(&self) -> WireFormat {
        match &self.wire {
            Wire::Line(..) => WireFormat::ActionHeroLine,
            Wire::WebSocket(_) => WireFormat::ActionHeroMessage,
            Wire::Ddp(_) => WireFormat::DdpMine,
            // It hears no room by itself: what its session hears is in its log.
            Wire::Gateway(_) => WireFormat::ActionHeroMessage,
        }
    }

    /// In which formats its client hears a room, as a member or without being one.
    pub fn hears(&self, room: &RoomName, is_member: bool) -> Hears {
        match &self.wire {
            Wire::Line(_, face) => face.hears(room, is_member),
            Wire::WebSocket(socket) => socket.face.hears(room, is_member),
            Wire::Ddp(socket) => socket.face.hears(room, is_member),
            Wire::Gateway(socket) => socket.face.hears(room, is_member),
        }
    }

    /// The connection is open.
    pub fn on_open(&mut self, cx: &mut Cx<'_>) {
        each!(self, face => face.on_open(cx), cx);
        self.note_call(cx);
    }

    /// A call that the next frame waits for is awaited from now on.
    fn note_call(&mut self, cx: &Cx<'_>) {
        if let Some((token, call)) = &cx.fx.call
            && call.order() == Order::Sequential
        {
            self.awaited = Some(*token);
        }
    }

    /// Whether all that one read returned is a break that ends the connection. To be asked before [`Peer::feed`]; the
    /// only place that knows where a read began and ended.
    pub fn is_break(&self, segment: &[u8]) -> bool {
        match &self.wire {
            Wire::Line(framer, _) => framer.is_between_lines() && line::is_break(segment),
            Wire::WebSocket(_) | Wire::Ddp(_) | Wire::Gateway(_) => false,
        }
    }

    /// Handles at most one frame from the front of `input` and moves `input` behind what was used.
    ///
    /// Effects are to be applied after each step, before the next.
    pub fn feed(&mut self, input: &mut &[u8], cx: &mut Cx<'_>) -> Step {
        if self.is_waiting() {
            return Step::Waiting;
        }
        match &mut self.wire {
            Wire::Line(framer, face) => {
                let Some(frame) = framer.next(input, &cx.settings.socket.framing) else {
                    return Step::NeedInput;
                };
                // Past its limit many times over, a line is not one that somebody typed.
                let flood = matches!(frame, LineFrame::Flood { .. });
                face.on_frame(frame, cx);
                debug_assert!(!flood || cx.fx.close.is_some());
            }
            Wire::WebSocket(socket) => {
                if !socket.feed(input, cx) {
                    return Step::NeedInput;
                }
            }
            Wire::Ddp(socket) => {
                if !socket.feed(input, cx) {
                    return Step::NeedInput;
                }
            }
            Wire::Gateway(socket) => {
                if !socket.feed(input, cx) {
                    return Step::NeedInput;
                }
            }
        }
        self.note_call(cx);
        Step::Frame
    }

    /// A call came to its end.
    pub fn on_outcome(&mut self, token: Token, outcome: Outcome, cx: &mut Cx<'_>) {
        if self.awaited == Some(token) {
            self.awaited = None;
        }
        each!(self, face => face.on_outcome(token, outcome, cx), cx);
    }

    /// Whether a call is awaited before more input is taken.
    pub fn is_waiting(&self) -> bool {
        match &self.wire {
            Wire::Line(..) | Wire::WebSocket(_) | Wire::Gateway(_) => self.awaited.is_some(),
            // Its pings overtake, so that the face reads on and keeps the order of all else by itself.
            Wire::Ddp(socket) => socket.face.is_full(),
        }
    }

    /// Something that concerns this connection happened. `false`: its client cannot be told.
    pub fn on_event(&mut self, event: &Event, cx: &mut Cx<'_>) -> bool {
        each!(self, face => face.on_event(event, cx), cx)
    }

    /// A moment that was asked for has come.
    pub fn on_deadline(&mut self, cx: &mut Cx<'_>) {
        match &mut self.wire {
            Wire::Line(_, face) => face.on_deadline(cx),
            Wire::WebSocket(socket) => socket.on_deadline(cx),
            Wire::Ddp(socket) => socket.on_deadline(cx),
            Wire::Gateway(socket) => socket.on_deadline(cx),
        }
    }

    /// There is room for more of what its face has to say.
    pub fn on_drained(&mut self, cx: &mut Cx<'_>) {
        each!(self, face => face.on_drained(cx), cx);
    }

    /// A piece of a content goes out, because the client has taken the one before. Until it has taken all it is not listened
    /// to.
    pub fn on_piece(&mut self, now_ms: u64) {
        match &mut self.wire {
            Wire::Line(..) | Wire::Ddp(_) | Wire::Gateway(_) => {}
            Wire::WebSocket(socket) => socket.face.on_piece(now_ms),
        }
    }

    /// The client sent a break.
    pub fn on_break(&mut self, cx: &mut Cx<'_>) {
        each!(self, face => face.on_break(cx), cx);
    }

    /// The server is stopping as planned.
    pub fn on_shutdown(&mut self, cx: &mut Cx<'_>) {
        each!(self, face => face.on_shutdown(cx), cx);
    }

    /// The connection is not let in.
    pub fn on_refused(&mut self, reason: &CallError, cx: &mut Cx<'_>) {
        each!(self, face => face.on_refused(reason, cx), cx);
    }

    /// Server code ends this connection.
    pub fn on_removed(&mut self, cx: &mut Cx<'_>) {
        each!(self, face => face.on_removed(cx), cx);
    }

    /// What the wire says when a connection is ended over its face's head; nothing where it has no words for that. To be
    /// written where a frame may begin.
    pub fn last_words(&self, reason: CloseReason) -> Vec<u8> {
        let mut words = Vec::new();
        match &self.wire {
            Wire::Line(..) => {}
            Wire::WebSocket(_) | Wire::Ddp(_) => {
                ws::write_close(&mut words, Some(reason.websocket_code()), "");
            }
            Wire::Gateway(_) => {
                ws::write_close(&mut words, Some(GatewayFace::close_code(reason)), "");
            }
        }
        words
    }
}

impl<F: MessageFace> WebSocket<F> {
    /// Handles one frame, if there is one.
    fn feed(&mut self, input: &mut &[u8], cx: &mut Cx<'_>) -> bool {
        let (limits, message_timeout_ms) = self.face.limits(cx.settings);
        // Taken for the step, because the frame lives in it while the face writes its effects.
        let mut scratch = std::mem::take(cx.scratch);
        let handled = match self.framer.next(input, &mut scratch, limits, cx.now.monotonic_ms) {
            Ok(Some(frame)) => {
                self.face.on_frame(frame, cx);
                true
            }
            Ok(None) => false,
            Err(error) => {
                ws::write_close(&mut cx.fx.bytes, Some(error.close_code()), &error.to_string());
                cx.fx.close = Some(reason(error));
                true
            }
        };
        *cx.scratch = scratch;
        // A ping inside a message does not end it.
        if !self.framer.is_partial() {
            self.alarm.frame_ms = Alarm::NEVER;
        } else if self.alarm.frame_ms == Alarm::NEVER && message_timeout_ms > 0 {
            self.alarm.frame_ms = cx.now.monotonic_ms + message_timeout_ms;
        }
        self.alarm.set(cx);
        handled
    }

    fn on_deadline(&mut self, cx: &mut Cx<'_>) {
        let now_ms = cx.now.monotonic_ms;
        if now_ms < self.alarm.armed_ms {
            // A moment in whose place an earlier one was asked for, which has gone by.
            return;
        }
        self.alarm.armed_ms = std::mem::replace(&mut self.alarm.later_ms, Alarm::NEVER);
        if now_ms >= self.alarm.frame_ms {
            let reason = CloseReason::Limit;
            ws::write_close(&mut cx.fx.bytes, Some(reason.websocket_code()), "message takes too long");
            cx.fx.close = Some(reason);
            return;
        }
        if now_ms >= self.alarm.face_ms {
            self.alarm.face_ms = Alarm::NEVER;
            self.face.on_deadline(cx);
        }
        self.alarm.set(cx);
    }
}

fn reason(error: WsError) -> CloseReason {
    match error.close_code() {
        1008 => CloseReason::Limit,
        1009 => CloseReason::TooLarge,
        _ => CloseReason::Protocol,
    }
}

/// One outstanding moment for two reasons: what the face asked for, and the end of patience with a message that has begun.
/// A client that begins many messages makes no more than one.
#[derive(Debug)]
struct Alarm {
    face_ms: u64,
    frame_ms: u64,
    /// The earliest moment that was asked for and has not come.
    armed_ms: u64,
    /// A later one that was asked for before it, and comes as well.
    later_ms: u64,
}

impl Default for Alarm {
    fn default() -> Self {
        Self { face_ms: Self::NEVER, frame_ms: Self::NEVER, armed_ms: Self::NEVER, later_ms: Self::NEVER }
    }
}

impl Alarm {
    const NEVER: u64 = u64::MAX;

    /// Takes what the face asked for and asks for the earliest moment, unless that is outstanding.
    fn set(&mut self, cx: &mut Cx<'_>) {
        if let Some(at_ms) = cx.fx.wake_at_ms.take() {
            self.face_ms = at_ms;
        }
        let next_ms = self.face_ms.min(self.frame_ms);
        if next_ms < self.armed_ms {
            self.later_ms = std::mem::replace(&mut self.armed_ms, next_ms);
            cx.fx.wake_at_ms = Some(next_ms);
        }
    }
}

/// What a peer of each kind starts as, by the listener that accepted it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerKind {
    /// ActionHero's line protocol.
    Socket,
    /// ActionHero's browser protocol, behind the handshake.
    WebSocket {
        /// Whether compression was agreed on (`permessage-deflate`).
        deflate: bool,
    },
    /// DDP, behind the handshake.
    Ddp,
    /// The gateway, behind the handshake, with what that said.
    Gateway(Box<Opening>),
}

impl PeerKind {
    /// A new peer.
    pub fn open(self) -> Peer {
        let wire = match self {
            Self::Socket => Wire::Line(LineFramer::default(), SocketFace::default()),
            Self::WebSocket { deflate } => {
                let framer = if deflate { WsFramer::with_deflate() } else { WsFramer::default() };
                let face = WebSocketFace::new(deflate);
                Wire::WebSocket(Box::new(WebSocket { framer, face, alarm: Alarm::default() }))
            }
            Self::Ddp => Wire::Ddp(Box::default()),
            Self::Gateway(opening) => {
                let framer = if opening.deflate { WsFramer::with_deflate() } else { WsFramer::default() };
                let face = GatewayFace::new(*opening);
                Wire::Gateway(Box::new(WebSocket { framer, face, alarm: Alarm::default() }))
            }
        };
        Peer { wire, awaited: None }
    }

    /// What kind of client such a connection is.
    pub const fn connection_type(&self) -> ConnectionType {
        match self {
            Self::Socket => ConnectionType::Socket,
            Self::WebSocket { .. } => ConnectionType::WebSocket,
            Self::Ddp => ConnectionType::Ddp,
            Self::Gateway(_) => ConnectionType::Gateway,
        }
    }

    /// The fingerprint of a client that presents none: ActionHero 29 takes the connection's own id.
    pub fn fingerprint(&self, id: ConnId, settings: &FaceSettings) -> Option<Fingerprint> {
        let compat = match self {
            Self::Socket => settings.socket.compat,
            Self::WebSocket { .. } => settings.websocket.compat,
            Self::Ddp | Self::Gateway(_) => return None,
        };
        match compat {
            Compat::Auto | Compat::Classic => None,
            Compat::Modern => Some(id.text().as_str().into()),
        }
    }
}
