//! The gateway of bots and their shards.
//!
//! Specification: docs/protocols/gateway.md. What a message asks for is read in `request`, packed ones in `inflate`; how a session
//! begins and its log is followed is in `session`, pings and patience in `liveness`; shapes are in `answer`, refusals in
//! `errors`, how messages are packed in `coding`. Here is the conversation itself.

mod answer;
mod coding;
mod errors;
mod inflate;
pub mod items;
mod liveness;
mod opening;
mod questions;
mod rate;
mod request;
mod session;
mod settings;
#[cfg(test)]
mod tests;

use crate::call::{Answer, Call, CallError, Outcome};
use crate::close::CloseReason;
use crate::command::{CommandDelivery, Recipient};
use crate::event::Event;
use crate::face::{Cx, Face};
use crate::frame::ws::{self, WsFrame};
use crate::id::{ConnId, RoomName, Token};
use crate::json;
use crate::shard::{ShardAnswer, ShardCall, ShardEvent, ShardRefusal};
use crate::wire::Hears;

use coding::Coding;
use errors::{Refusal, Strikes};
use inflate::{InflateError, Packing};
use liveness::Pings;
use rate::MessageRate;
use request::{Request, RequestType, RoomOp, RoomRequest, Wrong};
use session::{Begins, Headers, Session, Tail};

pub use opening::{Compress, HeaderNumber, Opening};
pub use settings::{GatewaySettings, Streams};

/// There is no room at the moment.
const TRY_LATER: u16 = 1013;

/// The conversation with one shard.
#[derive(Debug)]
pub struct GatewayFace {
    /// What the handshake said, until the connection is open.
    opening: Option<Box<Opening>>,
    /// What of it is needed later.
    headers: Option<Box<Headers>>,
    coding: Coding,
    session: Option<Box<Session>>,
    tail: Tail,
    pings: Pings,
    rate: MessageRate,
    /// Refusals, once there are any.
    strikes: Option<Box<Strikes>>,
    /// The call that is awaited, if the client is answered something then. Its frames wait behind it.
    pending: Option<Box<(Token, Pending)>>,
    /// Calls made so far.
    calls: u64,
    /// When a client without a session is closed.
    register_by_ms: u64,
    /// When the connection closes, if the server stops.
    stop_ms: u64,
    /// GATEWAY_HELLO was sent.
    is_greeted: bool,
}

/// What an outcome is for.
#[derive(Debug)]
struct Pending {
    /// The number of the message that asked for it.
    number: i128,
    then: Then,
}

#[derive(Debug)]
enum Then {
    /// The credentials of the headers are looked at.
    Greet,
    /// A session begins.
    Begin(Begins),
    /// The session that is there is shown again.
    ShardInfoAgain,
    /// A second session is wanted, and its credentials are looked at first.
    AlreadyRegistered,
    Pong,
    Room {
        op: RoomOp,
        room: String,
    },
    /// Nobody is told.
    Nothing,
}

impl GatewayFace {
    /// A conversation that has not begun.
    pub fn new(opening: Opening) -> Self {
        Self {
            opening: Some(Box::new(opening)),
            headers: None,
            coding: Coding::default(),
            session: None,
            tail: Tail::default(),
            pings: Pings::default(),
            rate: MessageRate::default(),
            strikes: None,
            pending: None,
            calls: 0,
            register_by_ms: u64::MAX,
            stop_ms: u64::MAX,
            is_greeted: false,
        }
    }

    /// The code of the close frame for a connection that is ended over its face's head.
    pub(crate) const fn close_code(reason: CloseReason) -> u16 {
        match reason {
            CloseReason::SlowConsumer => errors::SLOW_CONSUMER.code,
            CloseReason::Silence => errors::HEARTBEAT_MISSED,
            reason => reason.websocket_code(),
        }
    }
}

impl Face for GatewayFace {
    type Frame<'a> = WsFrame<'a>;

    fn on_open(&mut self, cx: &mut Cx<'_>) {
        let settings = &cx.settings.gateway;
        let now_ms = cx.now.monotonic_ms;
        self.pings.open(now_ms);
        if settings.register_timeout_ms > 0 {
            self.register_by_ms = now_ms.saturating_add(settings.register_timeout_ms);
        }
        self.arm(cx);
        let Some(opening) = self.opening.take() else { return };
        let Opening { header_mode, wants_hello, compress, is_unsupported, is_contradictory, deflate, .. } = *opening;
        let check = header_mode.then(|| opening.check());
        self.headers = Headers::of(*opening);
        let default = if header_mode { Compress::Zlib } else { Compress::None };
        let compress = compress.unwrap_or(default);
        let is_stream = matches!(compress, Compress::ZlibStream | Compress::ZstdStream);
        let is_supported = !(is_unsupported || is_stream && settings.streams.are_off());
        let wanted = if is_supported { compress } else { default };
        let Some(coding) = Coding::new(wanted, deflate, &settings.streams) else {
            return self.close(TRY_LATER, "too many compressed connections, try again later", CloseReason::Limit, cx);
        };
        self.coding = coding;
        if !is_supported {
            return self.refuse(&errors::UNSUPPORTED, None, cx);
        }
        match check {
            Some(_) if is_contradictory => self.refuse_credentials(cx),
            Some(check) => self.call(check, Pending { number: 0, then: Then::Greet }, cx),
            None if wants_hello => self.greet(cx),
            None => {}
        }
    }

    fn on_frame(&mut self, frame: WsFrame<'_>, cx: &mut Cx<'_>) {
        self.pings.heard_ms = cx.now.monotonic_ms;
        match frame {
            WsFrame::Text(_) | WsFrame::Binary(_) => self.on_message(&frame, cx),
            WsFrame::Ping(payload) => ws::write_pong(&mut cx.fx.bytes, payload),
            WsFrame::Pong(payload) => self.on_pong(payload, cx),
            WsFrame::Close { code, .. } => {
                ws::write_close(&mut cx.fx.bytes, code, "");
                cx.fx.close = Some(CloseReason::ClientLeft);
                if code == Some(errors::END_SESSION) && self.session.is_some() {
                    self.tell(ShardCall::End, cx);
                }
            }
        }
    }

    fn on_outcome(&mut self, token: Token, outcome: Outcome, cx: &mut Cx<'_>) {
        if self.take_read(token) {
            return self.on_read(outcome, cx);
        }
        // Whatever else there is was told and is not awaited.
        let Some(pending) = self.pending.take_if(|pending| pending.0 == token) else { return };
        let Pending { number, then } = pending.1;
        match (then, outcome) {
            (Then::Nothing, _) => {}
            (Then::Greet, Ok(Answer::Shard(ShardAnswer::Checked))) => self.greet(cx),
            (Then::Greet, Err(error)) => {
                // A client in header mode reads an error only after its first message.
                if matches!(error, CallError::Shard(ShardRefusal::InvalidShard)) {
                    self.greet(cx);
                }
                self.on_refusal(&error, None, cx);
            }
            (Then::Begin(begins), Ok(Answer::Shard(ShardAnswer::Began(began)))) => {
                return self.begin(*began, begins, cx);
            }
            (Then::ShardInfoAgain, Ok(Answer::Shard(ShardAnswer::Fleet(fleet)))) => {
                let Self { session: Some(session), coding, .. } = self else { return };
                coding.message(&mut cx.fx.bytes, |out| answer::shard_info(out, &fleet, &session.id));
            }
            (Then::AlreadyRegistered, Ok(Answer::Shard(ShardAnswer::Checked))) => {
                self.refuse(&errors::ALREADY_REGISTERED, Some(number), cx);
            }
            (Then::Pong, Ok(_)) => self.pong(cx),
            (Then::Room { op, room }, outcome) => self.on_room(number, op, &room, outcome, cx),
            (_, Err(error)) => self.on_refusal(&error, Some(number), cx),
            (_, Ok(_)) => self.refuse(&errors::INTERNAL_ERROR, Some(number), cx),
        }
        // What came while a session was asked for.
        self.read_on(cx);
    }

    fn on_event(&mut self, event: &Event, cx: &mut Cx<'_>) -> bool {
        match event {
            Event::Command(delivery) => self.deliver(delivery, cx),
            // It is an event of the session: the node puts it into the log.
            Event::Message(_) => false,
            Event::Shard(ShardEvent::Paused(is_paused)) => {
                self.pause(*is_paused, cx);
                true
            }
            Event::Shard(ShardEvent::Grown) => {
                self.grow(cx);
                true
            }
            Event::Shard(ShardEvent::Replaced(session)) => self.end(*session, &errors::SESSION_REPLACED, cx),
            Event::Shard(ShardEvent::Resharded(session)) => self.end(*session, &errors::RESHARDED, cx),
            Event::Shard(ShardEvent::Ended(session)) => self.end(*session, &errors::SESSION_ENDED, cx),
        }
    }

    fn on_deadline(&mut self, cx: &mut Cx<'_>) {
        self.look_at_the_clock(cx);
    }

    fn on_drained(&mut self, cx: &mut Cx<'_>) {
        self.drained(cx);
    }

    fn on_break(&mut self, _: &mut Cx<'_>) {}

    fn on_shutdown(&mut self, cx: &mut Cx<'_>) {
        let settings = &cx.settings.gateway;
        // Each at a moment of its own, or all would come back at once.
        let spread_ms = settings.drain_spread_ms.min(settings.drain_grace_ms);
        let delay_ms = u64::try_from(cx.random % (u128::from(spread_ms) + 1)).unwrap_or(spread_ms);
        self.stop_ms = cx.now.monotonic_ms.saturating_add(delay_ms);
        if self.session.is_some() {
            self.announce_stop(cx);
        }
        if delay_ms == 0 {
            self.look_at_the_clock(cx);
        } else {
            self.arm(cx);
        }
    }

    fn on_refused(&mut self, reason: &CallError, cx: &mut Cx<'_>) {
        match reason {
            CallError::Refused(words) => {
                self.close(CloseReason::Refused.websocket_code(), words, CloseReason::Refused, cx);
            }
            // Whatever the cause was, the log has it.
            _ => self.close(TRY_LATER, "try again later", CloseReason::Refused, cx),
        }
    }

    fn on_removed(&mut self, cx: &mut Cx<'_>) {
        self.close(CloseReason::Removed.websocket_code(), "", CloseReason::Removed, cx);
    }

    /// What rooms say to a session is put into its log.
    fn hears(&self, _: &RoomName, _: bool) -> Hears {
        Hears::NOTHING
    }
}

impl GatewayFace {
    /// Takes a message: a text or binary frame.
    ///
    /// Every message takes a token of the client's rate, but an answer to a question of the server gives it back: a
    /// shard that is asked often must not be closed for its answers.
    fn on_message(&mut self, frame: &WsFrame<'_>, cx: &mut Cx<'_>) {
        let settings = &cx.settings.gateway;
        let is_admitted = self.rate.admit(settings, cx.now.monotonic_ms);
        // Only an answer may exceed the rate, so without an open question the message is not even inflated.
        if !is_admitted && !self.session.as_ref().is_some_and(|session| session.awaits_answer()) {
            return self.refuse(&errors::RATE_LIMITED, None, cx);
        }
        let read = match frame {
            WsFrame::Binary(message) => self.read_binary(message, settings),
            WsFrame::Text(text) => request::parse(&json::to_well_formed(text), settings),
            _ => return,
        };
        let is_answer = match (&read, &mut self.session) {
            (Ok((_, request)), Some(session)) => session.take_answer(request),
            _ => false,
        };
        match (is_admitted, is_answer) {
            (true, true) => self.rate.give_back(settings),
            (false, false) => return self.refuse(&errors::RATE_LIMITED, None, cx),
            _ => {}
        }
        match read {
            Ok((number, request)) => self.on_request(number, request, cx),
            Err((_, Wrong::TooLong)) => {
                let reason = CloseReason::TooLarge;
                self.close(reason.websocket_code(), "message is too big", reason, cx);
            }
            Err((number, Wrong::Malformed(words))) => self.refuse_saying(&words, &errors::DECODE_ERROR, number, cx),
            Err((number, Wrong::UnknownType)) => self.refuse(&errors::UNKNOWN_TYPE, number, cx),
            Err((number, Wrong::TooLarge)) => self.refuse(&errors::PAYLOAD_TOO_LARGE, number, cx),
        }
    }

    fn read_binary(&self, message: &[u8], settings: &GatewaySettings) -> Result<(i128, Request), (RequestType, Wrong)> {
        let undecodable = || Wrong::Malformed(errors::DECODE_ERROR.message.into());
        let inflated;
        let bytes = match Packing::of(message) {
            None => message,
            Some(packing) => {
                let max_bytes = settings.limits.max_message_bytes;
                let keep_bytes = match self.session {
                    Some(_) => max_bytes,
                    // Nothing longer has a meaning yet.
                    None => max_bytes.min(settings.max_control_bytes),
                };
                inflated = packing.inflate(message, keep_bytes, max_bytes).map_err(|error| {
                    let wrong = match error {
                        InflateError::Malformed => undecodable(),
                        InflateError::NotKept => Wrong::TooLarge,
                        InflateError::TooLarge => Wrong::TooLong,
                    };
                    (None, wrong)
                })?;
                &inflated
            }
        };
        let text = std::str::from_utf8(bytes).map_err(|_| (None, undecodable()))?;
        request::parse(&json::to_well_formed(text), settings)
    }

    fn on_request(&mut self, number: i128, request: Request, cx: &mut Cx<'_>) {
        let request = match request {
            Request::Register(claim) => return self.register(number, claim, cx),
            Request::RegisterShard(claim) => return self.register_shard(number, claim, cx),
            Request::Resume(claim) => return self.resume(number, claim, cx),
            request => request,
        };
        let Some(session) = &self.session else { return self.refuse(&errors::NOT_REGISTERED, Some(number), cx) };
        session.counters.count_received();
        if matches!(request, Request::Ping { .. } | Request::KeepAlive) {
            session.counters.count_ping();
        }
        match request {
            Request::Ping { seq: None } => self.pong(cx),
            Request::Ping { seq: Some(seq) } => {
                self.call(ShardCall::Acknowledge { seq }, Pending { number, then: Then::Pong }, cx);
            }
            Request::Interaction { id, data } => self.tell(ShardCall::Interaction { id, data }, cx),
            Request::Reply { id, reply } => {
                let pending = Pending { number, then: Then::Nothing };
                self.call_node(Call::ReplyCommand { id, reply }, pending, cx);
            }
            Request::Room(request) => self.ask_about_room(number, request, cx),
            _ => {}
        }
    }

    fn ask_about_room(&mut self, number: i128, request: RoomRequest, cx: &mut Cx<'_>) {
        let RoomRequest { op, room, message, id } = request;
        let call = RoomName::parse(&room).map_err(CallError::from).and_then(|room| {
            Ok(match op {
                RoomOp::Join => ShardCall::Join { room },
                RoomOp::Leave => ShardCall::Leave { room },
                RoomOp::Say => {
                    let body = message.ok_or(CallError::MessageRequired)?;
                    ShardCall::Say { room, body, id }
                }
            })
        });
        match call {
            Ok(call) => self.call(call, Pending { number, then: Then::Room { op, room } }, cx),
            Err(error) => self.on_room(number, op, &room, Err(error), cx),
        }
    }

    fn on_room(&mut self, number: i128, op: RoomOp, room: &str, outcome: Outcome, cx: &mut Cx<'_>) {
        let outcome = match &outcome {
            Ok(Answer::Shard(ShardAnswer::Said { number })) => Ok(Some(*number)),
            Ok(_) => Ok(None),
            Err(error @ CallError::Shard(ShardRefusal::Replaced)) => return self.on_refusal(error, Some(number), cx),
            Err(error) => Err(errors::room_reason(error)),
        };
        self.say(cx, |out| answer::room(out, op.as_str(), room, outcome));
    }

    fn pong(&mut self, cx: &mut Cx<'_>) {
        if let Some(session) = &self.session {
            session.counters.count_pong();
        }
        self.say(cx, |out| answer::put(out, answer::PING));
    }

    fn greet(&mut self, cx: &mut Cx<'_>) {
        self.is_greeted = true;
        let shard = self.headers.as_ref().and_then(|headers| headers.shard.number());
        let heartbeat_ms = cx.settings.gateway.heartbeat_ms;
        self.write(cx, |out| answer::hello(out, shard.unwrap_or(0) == 0, heartbeat_ms));
    }

    fn deliver(&mut self, delivery: &CommandDelivery, cx: &mut Cx<'_>) -> bool {
        // It may have been on its way while the session changed.
        let addressed = self.session.as_mut().filter(|session| {
            let is_user = matches!(&delivery.to, Recipient::User(user) if user.id() == &*session.application);
            session.takes_commands && is_user
        });
        let is_addressed = addressed.is_some();
        if let Some(session) = addressed {
            session.ask(delivery.document.id.as_str());
            self.say(cx, |out| answer::command(out, delivery));
            cx.fx.indispensable = self.coding.builds_on_all();
        }
        is_addressed
    }

    /// Whether a session is being asked for.
    fn is_beginning(&self) -> bool {
        self.pending.as_ref().is_some_and(|pending| matches!(pending.1.then, Then::Begin(_)))
    }

    fn is_stopping(&self) -> bool {
        self.stop_ms != u64::MAX
    }

    fn announce_stop(&mut self, cx: &mut Cx<'_>) {
        let after_ms = self.stop_ms.saturating_sub(cx.now.monotonic_ms);
        self.say(cx, |out| answer::reconnect(out, after_ms));
    }

    /// Asks the node; what comes behind waits for the outcome.
    fn call(&mut self, call: ShardCall, pending: Pending, cx: &mut Cx<'_>) {
        self.call_node(Call::Shard(Box::new(call)), pending, cx);
    }

    fn call_node(&mut self, call: Call, pending: Pending, cx: &mut Cx<'_>) {
        let token = self.next_token();
        self.pending = Some(Box::new((token, pending)));
        cx.fx.call = Some((token, call));
    }

    /// Tells the node, and is not interested in what comes of it.
    fn tell(&mut self, call: ShardCall, cx: &mut Cx<'_>) {
        let token = self.next_token();
        cx.fx.call = Some((token, Call::Shard(Box::new(call))));
    }

    /// Writes a message that counts in no session.
    fn write(&mut self, cx: &mut Cx<'_>, write: impl FnOnce(&mut Vec<u8>)) {
        self.coding.message(&mut cx.fx.bytes, write);
    }

    /// Writes a message.
    fn say(&mut self, cx: &mut Cx<'_>, write: impl FnOnce(&mut Vec<u8>)) {
        self.write(cx, write);
        if let Some(session) = &self.session {
            session.counters.count_sent(1);
        }
    }

    /// A session is over, or somebody else's. `false`: it is not the one that the connection carries now. Whoever is about to begin
    /// that one is told when he reads.
    fn end(&mut self, session: ConnId, refusal: &Refusal, cx: &mut Cx<'_>) -> bool {
        if self.session.as_ref().is_none_or(|carried| carried.handle != session) {
            return false;
        }
        if self.is_beginning() {
            // Another one is about to take its place. If none does, he reads on in this one, and is told.
            self.tail.want_more();
            return true;
        }
        self.refuse(refusal, None, cx);
        self.session = None;
        true
    }

    fn refuse(&mut self, refusal: &Refusal, number: Option<i128>, cx: &mut Cx<'_>) {
        self.refuse_saying(refusal.message, refusal, number, cx);
    }

    fn refuse_saying(&mut self, words: &str, refusal: &Refusal, number: Option<i128>, cx: &mut Cx<'_>) {
        self.say(cx, |out| answer::error(out, refusal, words, number));
        let is_one_too_many = refusal.is_counted() && self.strike(cx);
        let reason = refusal.closes.or(is_one_too_many.then_some(CloseReason::Limit));
        if let Some(reason) = reason {
            self.close(refusal.code, refusal.reason, reason, cx);
        }
    }

    /// A resume cannot succeed.
    fn refuse_resume(&mut self, cx: &mut Cx<'_>) {
        self.say(cx, |out| answer::put(out, answer::INVALID));
        if self.strike(cx) {
            self.close(errors::NOT_REGISTERED.code, "", CloseReason::Limit, cx);
        }
    }

    fn refuse_credentials(&mut self, cx: &mut Cx<'_>) {
        self.say(cx, |out| answer::put(out, answer::INVALID));
        self.close(errors::BAD_CREDENTIALS, "", CloseReason::Refused, cx);
    }

    /// Counts a refusal. `true`: it is one too many.
    fn strike(&mut self, cx: &Cx<'_>) -> bool {
        self.strikes.get_or_insert_default().add(cx.now.monotonic_ms)
    }

    fn close(&mut self, code: u16, words: &str, reason: CloseReason, cx: &mut Cx<'_>) {
        ws::write_close(&mut cx.fx.bytes, Some(code), words);
        cx.fx.close = Some(reason);
    }
}
