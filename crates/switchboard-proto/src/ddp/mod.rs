//! DDP: what bots built on Rocket.Chat's SDK speak, over a WebSocket.
//!
//! Specification: docs/protocols/ddp.md. What a frame asks for is read in `request`, `login` and `subscriptions`; methods are
//! carried out in `methods`; shapes are in `answer`, texts of refusals in `errors`, documents of messages in `wire`, ids of
//! rooms in `rooms`. Here is the session itself.

mod answer;
mod ejson;
mod errors;
mod held;
mod login;
mod methods;
mod request;
mod rooms;
mod settings;
mod subscriptions;
#[cfg(test)]
mod tests;
pub(crate) mod wire;

use std::borrow::Cow;
use std::num::NonZeroU64;

use serde_json::Value;

use crate::call::{Answer, Call, CallError, LoggedIn, LoginMethod, LoginRefusal, Outcome, RoomKind, Wants};
use crate::close::CloseReason;
use crate::command::{self, CommandDelivery, Recipient};
use crate::event::Event;
use crate::face::{Cx, Face};
use crate::frame::ws::{self, WsFrame};
use crate::id::{RoomName, Token};
use crate::json::{self, write_text};
use crate::user::User;
use crate::wire::{Hears, WireFormat};

use answer::{Answers, put, write_command};
use errors::Refusal;
use held::Held;
use methods::{Method, Plan};
use request::{Request, Versions, Wrong};
use subscriptions::{Asked, AskedTopic, COMMANDS, MESSAGE, NOTIFY_USER, REQUESTS, Subscriptions, Topic, UserTopic};

pub use settings::DdpSettings;

/// Of longer frames only `msg` and `id` are sent back, if those are not longer than that.
const OFFENDING_MAX_BYTES: usize = 4096;

/// One client's conversation in DDP.
#[derive(Debug, Default)]
pub struct DdpFace {
    phase: Phase,
    /// Somebody is logged in: the one in `user`.
    is_known: bool,
    /// The client was pinged and has said nothing since.
    is_pinged: bool,
    /// The server stops.
    is_stopping: bool,
    /// The node was told last that something is wanted.
    is_attending: bool,
    /// Non-members hear public rooms.
    hears_public_rooms: bool,
    /// When anything was last heard of the client; while the server stops, when it closes.
    mark_ms: u64,
    /// Calls made so far.
    calls: u64,
    /// Who is logged in, or was last.
    user: Option<User>,
    subscriptions: Subscriptions,
    /// The call that is awaited; everything but pings waits behind it.
    pending: Option<Box<Pending>>,
    /// What waits.
    held: Option<Box<Held>>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Phase {
    /// The client has not said `connect`.
    #[default]
    New,
    Open,
    /// The same, in the version that has no pings: WebSocket's own take their place.
    OpenWithoutPings,
}

/// A call without an outcome.
#[derive(Debug)]
struct Pending {
    token: Token,
    then: Then,
}

/// What its outcome is for.
#[derive(Debug)]
enum Then {
    /// The node was told something, and that is all.
    Nothing,
    Method {
        id: String,
        method: Method,
    },
    Subscribe {
        id: String,
        opens: Option<(&'static str, String)>,
        is_for_notices: bool,
    },
    /// The subscription with this id is answered once its rooms are listened to.
    Ready(String),
}

impl Face for DdpFace {
    type Frame<'a> = WsFrame<'a>;

    fn on_open(&mut self, cx: &mut Cx<'_>) {
        let settings = &cx.settings.ddp;
        self.hears_public_rooms = settings.public_rooms_to_all;
        self.mark_ms = cx.now.monotonic_ms;
        if settings.connect_timeout_ms > 0 {
            cx.fx.wake_at_ms = Some(self.mark_ms + settings.connect_timeout_ms);
        }
        answers(cx).greeting();
    }

    fn on_frame(&mut self, frame: WsFrame<'_>, cx: &mut Cx<'_>) {
        self.heard(cx);
        match frame {
            WsFrame::Text(text) => self.on_text(text, cx),
            WsFrame::Ping(payload) => ws::write_pong(&mut cx.fx.bytes, payload),
            WsFrame::Pong(_) => {}
            WsFrame::Binary(_) => {
                ws::write_close(&mut cx.fx.bytes, Some(1003), "text only");
                cx.fx.close = Some(CloseReason::Protocol);
            }
            WsFrame::Close { code, .. } => {
                ws::write_close(&mut cx.fx.bytes, code, "");
                cx.fx.close = Some(CloseReason::ClientLeft);
            }
        }
    }

    fn on_outcome(&mut self, token: Token, outcome: Outcome, cx: &mut Cx<'_>) {
        let Some(pending) = self.pending.take_if(|pending| pending.token == token) else { return };
        match pending.then {
            Then::Nothing => {}
            Then::Method { id, method } => match outcome {
                Ok(Answer::LoggedIn(logged_in)) => self.log_in(&id, logged_in, cx),
                Ok(Answer::LoggedOut) => self.log_out(&id, cx),
                outcome => {
                    let is_last = matches!(outcome, Err(CallError::LoginRefused(LoginRefusal::TooManyAtOnce { .. })));
                    let stamps = &cx.stamps;
                    method.answer(&id, outcome, &mut Answers { out: &mut cx.fx.bytes }, stamps);
                    if is_last {
                        close(CloseReason::Limit, cx);
                    }
                }
            },
            Then::Subscribe { id, opens, is_for_notices } => match outcome {
                Ok(Answer::RoomFound { room, kind }) => {
                    let topic = if is_for_notices { Topic::Nothing } else { Topic::Room(room) };
                    self.subscribe(&id, topic, kind != RoomKind::Public, opens, cx);
                }
                Ok(_) => answers(cx).nosub(&id, Some(&Refusal::stream_not_allowed())),
                Err(error) => answers(cx).nosub(&id, Some(&Refusal::of_subscription(&error))),
            },
            Then::Ready(id) => match outcome {
                Ok(_) => self.ready(&id, cx),
                Err(error) => {
                    self.subscriptions.remove(&id);
                    answers(cx).nosub(&id, Some(&Refusal::of_subscription(&error)));
                    self.attend(false, Then::Nothing, cx);
                }
            },
        }
        self.go_on(cx);
    }

    fn on_event(&mut self, event: &Event, cx: &mut Cx<'_>) -> bool {
        match event {
            Event::Command(delivery) => self.deliver(delivery, cx),
            Event::Message(json) => {
                if !self.has_topic(UserTopic::Messages) {
                    return false;
                }
                let Some(user) = self.user() else { return false };
                let event = format!("{}/{MESSAGE}", user.id());
                answers(cx).stream_changed(NOTIFY_USER, &event, |out| put(out, json.as_str()));
                true
            }
            // It has no shards.
            Event::Shard(_) => false,
        }
    }

    fn on_deadline(&mut self, cx: &mut Cx<'_>) {
        let settings = &cx.settings.ddp;
        let now_ms = cx.now.monotonic_ms;
        if self.is_stopping {
            return self.stop_if_idle(cx);
        }
        if self.phase == Phase::New {
            return close(CloseReason::Silence, cx);
        }
        if settings.heartbeat_ms == 0 {
            return;
        }
        if self.is_full() {
            // Whatever the client says, nobody listens before the call that is awaited has ended.
            self.heard(cx);
        }
        if now_ms.saturating_sub(self.mark_ms) < settings.heartbeat_ms {
            cx.fx.wake_at_ms = Some(self.mark_ms + settings.heartbeat_ms);
            return;
        }
        if self.is_pinged && settings.heartbeat_timeout_ms > 0 {
            // The ping went out when the silence was as long as the interval.
            let due_ms = self.mark_ms + settings.heartbeat_ms + settings.heartbeat_timeout_ms;
            if now_ms >= due_ms {
                return close(CloseReason::Silence, cx);
            }
            cx.fx.wake_at_ms = Some(due_ms.min(now_ms + settings.heartbeat_ms));
            return;
        }
        self.is_pinged = true;
        self.mark_ms = now_ms.saturating_sub(settings.heartbeat_ms);
        if self.phase == Phase::OpenWithoutPings {
            ws::write_ping(&mut cx.fx.bytes, b"");
        } else {
            answers(cx).ping();
        }
        let wait_ms = match settings.heartbeat_timeout_ms {
            0 => settings.heartbeat_ms,
            // Looked at in between: an answer begins another silence, which may be over earlier.
            timeout_ms => timeout_ms.min(settings.heartbeat_ms),
        };
        cx.fx.wake_at_ms = Some(now_ms + wait_ms);
    }

    fn on_break(&mut self, _: &mut Cx<'_>) {}

    fn on_shutdown(&mut self, cx: &mut Cx<'_>) {
        self.is_stopping = true;
        // Each at a moment of its own, or all would come back at once.
        let spread_ms = cx.settings.ddp.drain_spread_ms;
        let delay_ms = u64::try_from(cx.random % (u128::from(spread_ms) + 1)).unwrap_or(spread_ms);
        self.mark_ms = cx.now.monotonic_ms + delay_ms;
        if delay_ms == 0 {
            self.stop_if_idle(cx);
        } else {
            cx.fx.wake_at_ms = Some(self.mark_ms);
        }
    }

    fn on_refused(&mut self, reason: &CallError, cx: &mut Cx<'_>) {
        let words = match reason {
            CallError::Refused(words) => words,
            // Whatever the cause was, the log has it.
            _ => "unavailable",
        };
        ws::write_close(&mut cx.fx.bytes, Some(CloseReason::Refused.websocket_code()), words);
        cx.fx.close = Some(CloseReason::Refused);
    }

    fn on_removed(&mut self, cx: &mut Cx<'_>) {
        close(CloseReason::Removed, cx);
    }

    fn hears(&self, room: &RoomName, is_member: bool) -> Hears {
        let mut hears = Hears::NOTHING;
        if !self.is_known {
            return hears;
        }
        if self.subscriptions.has(&Topic::MyMessages) {
            if is_member {
                hears = Hears::in_format(WireFormat::DdpMine);
            } else if self.hears_public_rooms {
                hears = Hears::in_format(WireFormat::DdpMineListener);
            }
        }
        if self.subscriptions.has(&Topic::Room(room.clone())) {
            hears = hears.and(Hears::in_format(WireFormat::DdpRoom));
        }
        hears
    }
}

impl DdpFace {
    /// Whether no more frames are taken before the call that is awaited has ended.
    pub(crate) fn is_full(&self) -> bool {
        self.held.as_ref().is_some_and(|held| held.is_full())
    }

    /// Whether a user is logged in.
    pub(crate) fn is_logged_in(&self) -> bool {
        self.is_known
    }

    /// Who is logged in.
    fn user(&self) -> Option<&User> {
        self.user.as_ref().filter(|_| self.is_known)
    }

    fn heard(&mut self, cx: &Cx<'_>) {
        self.is_pinged = false;
        if !self.is_stopping && self.phase != Phase::New {
            self.mark_ms = cx.now.monotonic_ms;
        }
    }

    /// Goes on with what waited for an outcome.
    fn go_on(&mut self, cx: &mut Cx<'_>) {
        while self.pending.is_none() && cx.fx.close.is_none() {
            let Some(text) = self.held.as_mut().and_then(|held| held.pop()) else {
                self.held = None;
                break;
            };
            self.on_request(&text, Request::parse(&text, &cx.settings.ddp), cx);
        }
        if self.is_stopping && self.mark_ms <= cx.now.monotonic_ms && cx.fx.close.is_none() {
            self.stop_if_idle(cx);
        }
    }

    /// Closes when nothing is awaited; else the outcome does, or the end of the server's patience.
    fn stop_if_idle(&mut self, cx: &mut Cx<'_>) {
        if self.pending.is_none() {
            close(CloseReason::Shutdown, cx);
        }
    }

    fn on_text(&mut self, text: &str, cx: &mut Cx<'_>) {
        let text = &*json::to_well_formed(text);
        if self.pending.is_none() {
            return self.on_request(text, Request::parse(text, &cx.settings.ddp), cx);
        }
        match held::parse_urgent(text, &cx.settings.ddp) {
            Some(request) => self.on_request(text, Ok(request), cx),
            None => self.held.get_or_insert_default().push(text),
        }
    }

    fn on_request(&mut self, text: &str, request: Result<Request, Wrong>, cx: &mut Cx<'_>) {
        let wrong = |reason: &str, cx: &mut Cx<'_>| answers(cx).error(reason, offending(text).as_deref());
        match (self.phase, request) {
            (_, Err(error @ (Wrong::NotJson | Wrong::Refused(_)))) => answers(cx).error(&error.reason(), None),
            (_, Err(error @ Wrong::NoMessage)) => wrong(&error.reason(), cx),
            (Phase::New, Ok(Request::Connect { versions })) => self.connect(versions, cx),
            (Phase::New, _) => wrong(errors::MUST_CONNECT_FIRST, cx),
            (_, Err(error)) => wrong(&error.reason(), cx),
            (_, Ok(Request::Refused { id, is_method: true, refusal })) => {
                answers(cx).refused(&id, &Refusal::json(refusal));
            }
            // `nosub` would end a subscription that is live under this id.
            (_, Ok(Request::Refused { id, is_method: false, .. })) if self.subscriptions.has_id(&id) => {}
            (_, Ok(Request::Refused { id, is_method: false, refusal })) => {
                answers(cx).nosub(&id, Some(&Refusal::json(refusal)));
            }
            (_, Ok(Request::Connect { .. })) => wrong(errors::ALREADY_CONNECTED, cx),
            (_, Ok(Request::Ping { id })) => answers(cx).pong(id.as_deref()),
            (_, Ok(Request::Pong)) => {}
            (_, Ok(Request::Method { id, name, params })) => self.run(id, &name, &params, text, cx),
            (_, Ok(Request::Sub { id, name, params })) => self.on_sub(id, &name, &params, cx),
            (_, Ok(Request::Unsub { id })) => {
                let ended = self.subscriptions.remove(&id);
                answers(cx).nosub(&id, None);
                if ended.is_some_and(|topic| topic.is_heard()) {
                    self.attend(false, Then::Nothing, cx);
                }
            }
        }
    }

    /// A session named by the client is gone: there is always a new one.
    fn connect(&mut self, versions: Option<Versions>, cx: &mut Cx<'_>) {
        /// Versions in the server's order of preference.
        const KNOWN: [&str; 3] = ["1", "pre2", "pre1"];
        let common = |versions: &Versions| {
            versions.support.iter().find_map(|version| KNOWN.into_iter().find(|known| known == version))
        };
        let picked = versions.as_ref().and_then(common);
        match (picked, versions) {
            (Some(picked), Some(versions)) if picked == versions.proposed => {
                self.phase = if picked == "pre1" { Phase::OpenWithoutPings } else { Phase::Open };
                self.heard(cx);
                let session = command::letters(cx.random);
                answers(cx).connected(&String::from_utf8_lossy(&session));
                if cx.settings.ddp.heartbeat_ms > 0 && !self.is_stopping {
                    cx.fx.wake_at_ms = Some(self.mark_ms + cx.settings.ddp.heartbeat_ms);
                }
            }
            (picked, _) => {
                answers(cx).failed(picked.unwrap_or(KNOWN[0]));
                ws::write_close(&mut cx.fx.bytes, None, "");
                cx.fx.close = Some(CloseReason::Protocol);
            }
        }
    }

    /// Hands a call to the node.
    fn call(&mut self, call: Call, then: Then, cx: &mut Cx<'_>) {
        self.calls += 1;
        // Calls count from 1, so the alternative never stands.
        let token = Token(NonZeroU64::new(self.calls).unwrap_or(NonZeroU64::MIN));
        self.pending = Some(Box::new(Pending { token, then }));
        cx.fx.call = Some((token, call));
    }

    fn run(&mut self, id: String, name: &str, params: &[Value], text: &str, cx: &mut Cx<'_>) {
        let Some(method) = Method::parse(name) else {
            let name = shown(name, cx.settings.ddp.max_id_bytes);
            return answers(cx).refused(&id, &Refusal::unknown_method(name));
        };
        match method.plan(params, text, &cx.settings.ddp) {
            Err(refusal) => answers(cx).refused(&id, &refusal),
            Ok(_) if method.is_for_users() && !self.is_known => {
                answers(cx).refused(&id, &Refusal::invalid_user(method));
            }
            Ok(Plan::Refuse(refusal)) => answers(cx).refused(&id, &refusal),
            Ok(Plan::No) => answers(cx).result(&id, |out| put(out, "false")),
            Ok(Plan::Nothing) => answers(cx).done(&id),
            // Whoever is nobody has nothing to give back.
            Ok(Plan::Call(Call::LogOut)) if !self.is_known => answers(cx).done(&id),
            Ok(Plan::Call(call)) => self.call(call, Then::Method { id, method }, cx),
        }
    }

    fn log_in(&mut self, id: &str, logged_in: LoggedIn, cx: &mut Cx<'_>) {
        let LoggedIn { user, token, expires_ms, method } = logged_in;
        let mut answers = answers(cx);
        answers.user_added(&user);
        answers.result(id, |out| {
            put(out, r#"{"id":"#);
            write_text(out, user.id());
            put(out, r#","token":"#);
            write_text(out, &token);
            put(out, r#","tokenExpires":"#);
            ejson::write_date(out, expires_ms);
            put(out, r#","type":""#);
            put(
                out,
                match method {
                    LoginMethod::Password => "password",
                    LoginMethod::Resume => "resume",
                },
            );
            put(out, r#""}"#);
        });
        let is_another = self.user.as_ref().is_some_and(|last| last.id() != user.id());
        for ended in self.subscriptions.end_foreign(&user, is_another) {
            answers.nosub(&ended, Some(&Refusal::stream_not_allowed()));
        }
        self.user = Some(user);
        self.is_known = true;
        self.attend(is_another, Then::Nothing, cx);
    }

    fn log_out(&mut self, id: &str, cx: &mut Cx<'_>) {
        self.is_known = false;
        answers(cx).done(id);
        self.attend(false, Then::Nothing, cx);
    }

    fn on_sub(&mut self, id: String, name: &str, params: &[Value], cx: &mut Cx<'_>) {
        if self.subscriptions.has_id(&id) {
            return;
        }
        let settings = &cx.settings.ddp;
        let refusal = match subscriptions::read(shown(name, settings.max_id_bytes), params) {
            Err(refusal) => refusal,
            Ok(_) if self.subscriptions.len() >= settings.max_subscriptions => Refusal::too_many_subscriptions(),
            Ok(Asked { topic: AskedTopic::Known(topic), opens }) => match self.user() {
                Some(user) if topic.is_foreign_to(user) => Refusal::stream_not_allowed(),
                _ => return self.subscribe(&id, topic, false, opens, cx),
            },
            Ok(Asked { topic: AskedTopic::OfRoom(room), opens }) => {
                let then = Then::Subscribe { id, opens, is_for_notices: false };
                return self.call(Call::FindRoom { names: vec![room] }, then, cx);
            }
            Ok(Asked { topic: AskedTopic::NoticesOf(room), opens }) => {
                let then = Then::Subscribe { id, opens, is_for_notices: true };
                return self.call(Call::FindRoom { names: vec![room] }, then, cx);
            }
            Ok(Asked { topic: AskedTopic::OfNoRoom, .. }) => Refusal::stream_not_allowed(),
        };
        answers(cx).nosub(&id, Some(&refusal));
    }

    fn subscribe(
        &mut self,
        id: &str,
        topic: Topic,
        is_personal: bool,
        opens: Option<(&'static str, String)>,
        cx: &mut Cx<'_>,
    ) {
        let (is_heard, is_of_rooms) = (topic.is_heard() && self.is_known, topic.is_of_rooms());
        self.subscriptions.add(id, topic, is_personal);
        if let Some((stream, event)) = opens {
            // Before `ready`, or Asteroid drops whatever comes on the stream.
            answers(cx).stream_added(stream, &event);
        }
        // Every message that is published after `ready` must arrive, so `ready` waits until the node listens.
        if is_heard && is_of_rooms && self.attend(false, Then::Ready(id.to_owned()), cx) {
            return;
        }
        self.ready(id, cx);
        if is_heard && !is_of_rooms {
            self.attend(false, Then::Nothing, cx);
        }
    }

    fn ready(&mut self, id: &str, cx: &mut Cx<'_>) {
        self.subscriptions.set_ready(id);
        cx.fx.rehear = true;
        answers(cx).ready(id);
    }

    /// Tells the node what the active subscriptions ask for. Returns `false` if there is nothing to tell: `then` does
    /// not follow.
    fn attend(&mut self, is_new_user: bool, then: Then, cx: &mut Cx<'_>) -> bool {
        cx.fx.rehear = true;
        let wants = match self.is_known {
            true => self.subscriptions.wants(self.hears_public_rooms),
            false => Wants::default(),
        };
        let is_attending = wants != Wants::default();
        // Members need not be attended to: their rooms ask what they hear.
        let has_changed = is_attending || self.is_attending;
        if has_changed {
            self.is_attending = is_attending;
            self.call(Call::Attend(Wants { is_new_user, ..wants }), then, cx);
        }
        has_changed
    }

    /// Whether the user who is logged in has a subscription to this topic of his.
    fn has_topic(&self, topic: UserTopic) -> bool {
        self.user().is_some_and(|user| self.subscriptions.has(&Topic::User(topic, user.id().into())))
    }

    /// Once, even if the client subscribed twice.
    fn deliver(&mut self, delivery: &CommandDelivery, cx: &mut Cx<'_>) -> bool {
        let stream = if self.has_topic(UserTopic::Commands) {
            COMMANDS
        } else if self.has_topic(UserTopic::Requests) {
            REQUESTS
        } else {
            return false;
        };
        match (self.user(), &delivery.to) {
            // It may have been on its way while somebody else logged in.
            (Some(user), Recipient::User(to)) if user.id() == to.id() => {
                answers(cx).stream_changed(stream, user.id(), |out| write_command(out, delivery));
                true
            }
            _ => false,
        }
    }
}

fn answers<'a>(cx: &'a mut Cx<'_>) -> Answers<'a> {
    Answers { out: &mut cx.fx.bytes }
}

fn close(reason: CloseReason, cx: &mut Cx<'_>) {
    ws::write_close(&mut cx.fx.bytes, Some(reason.websocket_code()), "");
    cx.fx.close = Some(reason);
}

/// The part of a malformed frame that is sent back, so that the client finds its request.
fn offending(text: &str) -> Option<Cow<'_, str>> {
    if text.len() <= OFFENDING_MAX_BYTES {
        return Some(text.into());
    }
    let [msg, id] = json::members(text, ["msg", "id"])?;
    let short = format!(r#"{{"msg":{},"id":{}}}"#, msg?, id?);
    (short.len() <= OFFENDING_MAX_BYTES).then(|| short.into())
}

/// As much of a name that nobody knows as is shown to whoever asked for it.
fn shown(name: &str, max_bytes: usize) -> &str {
    let mut end = name.len().min(max_bytes);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    &name[..end]
}
