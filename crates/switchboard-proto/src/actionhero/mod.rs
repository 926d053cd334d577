//! ActionHero's persistent connections: the line protocol over TCP, TLS or a Unix socket.
//!
//! [`SocketFace`] is the conversation: it counts lines, keeps sticky params, limits pending actions and words the
//! answers. What a line asks for is read in `request`, the shapes of answers are in `answer`, the texts of refusals in
//! `errors`, and what room members share in `wire`.
//!
//! Specification: docs/protocols/actionhero.md. It names where we differ from the real servers and why.

mod answer;
mod errors;
mod request;
mod settings;
mod verbs;
pub(crate) mod wire;

use std::num::NonZeroU64;
use std::sync::Arc;

use serde_json::Value;

pub use settings::{Compat, SocketSettings};

use crate::call::{ActionCall, ActionError, Answer, Call, CallError, Missing, Outcome, Reply};
use crate::close::CloseReason;
use crate::event::Event;
use crate::face::{Cx, Face};
use crate::frame::line::LineFrame;
use crate::id::Token;
use crate::params::{Params, TooManyParams};

use answer::{Answers, Data, RequestId};
use request::Request;

/// One client's conversation in the line protocol.
#[derive(Debug, Default)]
pub struct SocketFace {
    /// Lines received; the number of the latest.
    count: u64,
    /// Actions asked for in all.
    total_actions: u32,
    /// Actions asked for and not answered.
    pending_actions: u16,
    phase: Phase,
    params: Option<Arc<Params>>,
    /// What later answers need and most connections never have.
    #[allow(clippy::box_collection, reason = "8 bytes in every idle connection instead of 24")]
    waiting: Option<Box<Vec<Waiting>>>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Phase {
    #[default]
    Open,
    /// The first line is due at its delay.
    Welcoming,
    /// The server stops; ends with the last pending action.
    Stopping,
    /// The server stops while the first line is still due: of two deadlines the first says that line, the second goodbye.
    StoppingUnwelcomed,
}

/// A request whose answer comes later and needs more than its number.
#[derive(Debug)]
struct Waiting {
    token: Token,
    message_id: Value,
}

/// What was asked for, as far as the answer differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Action,
    Details,
    Documentation,
    File,
    Join,
    Leave,
    RoomView,
    Say,
}

/// A request's token carries its number and kind, so that nothing need be kept for it.
impl Kind {
    const ALL: [Self; 8] = [
        Self::Action,
        Self::Details,
        Self::Documentation,
        Self::File,
        Self::Join,
        Self::Leave,
        Self::RoomView,
        Self::Say,
    ];

    fn token(self, count: u64) -> Token {
        // Counts begin at 1, so the alternative never stands.
        Token(NonZeroU64::new(count << 3 | self as u64).unwrap_or(NonZeroU64::MIN))
    }

    fn of(token: Token) -> (Self, u64) {
        let token = token.0.get();
        (Self::ALL[(token & 7) as usize], token >> 3)
    }
}

impl Face for SocketFace {
    type Frame<'a> = LineFrame<'a>;

    fn on_open(&mut self, cx: &mut Cx<'_>) {
        let delay_ms = cx.settings.socket.welcome_delay_ms;
        if delay_ms > 0 {
            self.phase = Phase::Welcoming;
            cx.fx.wake_at_ms = Some(cx.now.monotonic_ms + delay_ms);
        } else {
            welcome(cx);
        }
    }

    fn on_frame(&mut self, frame: LineFrame<'_>, cx: &mut Cx<'_>) {
        match frame {
            LineFrame::Line(line) => {
                self.count += 1;
                match std::str::from_utf8(line) {
                    Ok(line) => self.on_line(line, cx),
                    Err(_) => {
                        let request = self.request(cx);
                        answers(cx).bad_line(&request, errors::NOT_UTF_8);
                    }
                }
            }
            LineFrame::TooLong { bytes } => self.refuse_length(bytes, cx),
            LineFrame::Flood { bytes } => {
                self.refuse_length(bytes, cx);
                cx.fx.close = Some(CloseReason::TooLarge);
            }
        }
    }

    fn on_outcome(&mut self, token: Token, outcome: Outcome, cx: &mut Cx<'_>) {
        let (kind, count) = Kind::of(token);
        let request = RequestId { count, message_id: self.take_waiting(token) };
        if kind == Kind::Action {
            self.pending_actions = self.pending_actions.saturating_sub(1);
        }
        match outcome {
            Ok(answer) => self.answer(&request, answer, cx),
            Err(error) => refuse(kind, &request, &error, cx),
        }
        if self.is_stopping() && self.pending_actions == 0 {
            goodbye(CloseReason::Shutdown, cx);
        }
    }

    fn on_event(&mut self, event: &Event, cx: &mut Cx<'_>) {
        match event {
            Event::Message(json) => {
                let request = self.request(cx);
                answers(cx).direct(json.as_str(), &request);
            }
        }
    }

    fn on_deadline(&mut self, cx: &mut Cx<'_>) {
        match self.phase {
            Phase::Open => {}
            Phase::Welcoming => {
                self.phase = Phase::Open;
                welcome(cx);
            }
            Phase::Stopping => goodbye(CloseReason::Shutdown, cx),
            Phase::StoppingUnwelcomed => {
                self.phase = Phase::Stopping;
                welcome(cx);
            }
        }
    }

    fn on_break(&mut self, cx: &mut Cx<'_>) {
        goodbye(CloseReason::ClientLeft, cx);
    }

    fn on_shutdown(&mut self, cx: &mut Cx<'_>) {
        self.phase = match self.phase {
            Phase::Welcoming => Phase::StoppingUnwelcomed,
            Phase::Open | Phase::Stopping | Phase::StoppingUnwelcomed => Phase::Stopping,
        };
        if self.pending_actions == 0 {
            goodbye(CloseReason::Shutdown, cx);
        } else {
            cx.fx.wake_at_ms = Some(cx.now.monotonic_ms + cx.settings.socket.shutdown_wait_ms);
        }
    }

    fn on_removed(&mut self, cx: &mut Cx<'_>) {
        goodbye(CloseReason::Removed, cx);
    }
}

impl SocketFace {
    fn is_stopping(&self) -> bool {
        matches!(self.phase, Phase::Stopping | Phase::StoppingUnwelcomed)
    }

    fn on_line(&mut self, line: &str, cx: &mut Cx<'_>) {
        match Request::parse(line, cx.settings.socket.json) {
            Request::Verb(verb, args) => self.on_verb(verb, args, cx),
            Request::File(name) => self.on_file(name, cx),
            Request::Word(word) => {
                let message_id = self.message_id(cx);
                let set = match self.sticky("action") {
                    Some(Value::String(action)) if action == word => Ok(()),
                    _ => self.params_mut().set("action", Value::from(word), cx.settings.socket.params),
                };
                self.run_action(message_id, set, cx);
            }
            Request::Json { params, action } => {
                let mut message_id = self.message_id(cx);
                let mut set = Ok(());
                if let Some(params) = params {
                    if let Some(id) = params.get("messageId") {
                        message_id = Some(id.clone());
                    }
                    set = Params::from_members(params, cx.settings.socket.params).map(|mut params| {
                        params.retain(|name| cx.settings.socket.keeps(name));
                        self.params = (!params.is_empty()).then(|| Arc::new(params));
                    });
                }
                if let (Ok(()), Some(action)) = (set, action) {
                    set = self.params_mut().set("action", action, cx.settings.socket.params);
                }
                self.run_action(message_id, set, cx);
            }
        }
    }

    fn params_mut(&mut self) -> &mut Params {
        Arc::make_mut(self.params.get_or_insert_default())
    }

    fn sticky(&self, name: &str) -> Option<&Value> {
        self.params.as_ref().and_then(|params| params.get(name))
    }

    /// Runs the sticky action. Refusals that need no look at the action come first.
    fn run_action(&mut self, message_id: Option<Value>, set: Result<(), TooManyParams>, cx: &mut Cx<'_>) {
        self.total_actions = self.total_actions.saturating_add(1);
        let settings = &cx.settings.socket;
        let refusal = if self.is_stopping() {
            Some(errors::SHUTTING_DOWN)
        } else if usize::from(self.pending_actions) >= settings.pending_max.min(usize::from(u16::MAX)) {
            Some(errors::TOO_MANY_PENDING)
        } else if set.is_err() {
            Some(errors::TOO_MANY_PARAMS)
        } else {
            None
        };
        if let Some(reason) = refusal {
            let reason = errors::prefixed(settings.compat, reason);
            let request = RequestId { count: self.count, message_id };
            answers(cx).error(&request, &reason, &Reply::new());
            return;
        }
        self.pending_actions += 1;
        let missing = match settings.compat {
            Compat::Auto | Compat::Classic => Missing::Falsy,
            Compat::Modern => Missing::Empty,
        };
        let params = self.params.clone().unwrap_or_default();
        self.call(Kind::Action, message_id, Call::Action(ActionCall { params, missing }), cx);
    }

    fn on_file(&mut self, name: Option<&str>, cx: &mut Cx<'_>) {
        let message_id = self.message_id(cx);
        if let Some(name) = name
            && self.sticky("file").and_then(Value::as_str) != Some(name)
            && self.params_mut().set("file", Value::from(name), cx.settings.socket.params).is_err()
        {
            let reason = errors::prefixed(cx.settings.socket.compat, errors::TOO_MANY_PARAMS);
            let request = RequestId { count: self.count, message_id };
            answers(cx).error(&request, &reason, &Reply::new());
            return;
        }
        let name = self.sticky("file").and_then(Value::as_str).unwrap_or_default().to_owned();
        self.call(Kind::File, message_id, Call::File { name }, cx);
    }

    /// Hands a call to the node. What the answer needs beyond the token is kept until then.
    fn call(&mut self, kind: Kind, message_id: Option<Value>, call: Call, cx: &mut Cx<'_>) {
        let token = kind.token(self.count);
        if let Some(message_id) = message_id {
            self.waiting.get_or_insert_default().push(Waiting { token, message_id });
        }
        cx.fx.call = Some((token, call));
    }

    fn take_waiting(&mut self, token: Token) -> Option<Value> {
        let waiting = self.waiting.as_mut()?;
        let at = waiting.iter().position(|waiting| waiting.token == token)?;
        let found = waiting.swap_remove(at);
        if waiting.is_empty() {
            self.waiting = None;
        }
        Some(found.message_id)
    }

    /// The request at hand, as far as its line has been looked at: with the sticky id as it was when the line arrived.
    fn request(&self, cx: &Cx<'_>) -> RequestId {
        RequestId { count: self.count, message_id: self.message_id(cx) }
    }

    fn message_id(&self, cx: &Cx<'_>) -> Option<Value> {
        match cx.settings.socket.compat {
            Compat::Classic => None,
            Compat::Auto | Compat::Modern => self.sticky("messageId").cloned(),
        }
    }

    fn answer(&mut self, request: &RequestId, answer: Answer, cx: &mut Cx<'_>) {
        match answer {
            Answer::Action(reply) => {
                answers(cx).action_done(request, &reply);
                self.scrub(cx);
            }
            Answer::Details { rooms } => {
                let details = self.details_json(&rooms, cx);
                answers(cx).verb_done(request, &Data::Raw(&details));
            }
            Answer::Documentation(json) => answers(cx).verb_done(request, &Data::Raw(json.as_str())),
            // The bytes and nothing else: no header, no end.
            Answer::File(content) => cx.fx.content = Some(content),
            Answer::Joined | Answer::Left => answers(cx).verb_done(request, &Data::True),
            Answer::Room(status) => {
                answers(cx).verb_done(request, &Data::Raw(&answer::room_status_json(&status)));
            }
            Answer::Said { .. } => answers(cx).verb_done_without_value(request),
        }
    }

    /// With scrubbing, params that no action declares go when an action has run.
    fn scrub(&mut self, cx: &Cx<'_>) {
        let settings = &cx.settings.socket;
        if settings.declared_inputs.is_some()
            && let Some(params) = &mut self.params
            && params.iter().any(|(name, _)| !settings.keeps(name))
        {
            Arc::make_mut(params).retain(|name| settings.keeps(name));
        }
    }

    /// Repeats the latest number: a line that was skipped has none of its own.
    fn refuse_length(&mut self, bytes: usize, cx: &mut Cx<'_>) {
        let settings = &cx.settings.socket;
        let reason = match settings.compat {
            Compat::Auto | Compat::Classic => errors::line_too_long(bytes, settings.framing.max_line_bytes),
            Compat::Modern => errors::LINE_TOO_LONG_MODERN.to_owned(),
        };
        let request = self.request(cx);
        answers(cx).bad_line(&request, &reason);
    }
}

fn answers<'a>(cx: &'a mut Cx<'_>) -> Answers<'a> {
    Answers { out: &mut cx.fx.bytes, compat: cx.settings.socket.compat, random: cx.random }
}

fn refuse(kind: Kind, request: &RequestId, error: &CallError, cx: &mut Cx<'_>) {
    let compat = cx.settings.socket.compat;
    match (kind, error) {
        (Kind::Action, CallError::Action(error)) => {
            let reply = match error {
                ActionError::Failed { reply, .. } => reply.clone(),
                _ => Reply::new(),
            };
            answers(cx).error(request, &errors::failed_action(compat, error), &reply);
        }
        (Kind::Action, error) => {
            let reason = errors::prefixed(compat, &errors::refused_verb(compat, error));
            answers(cx).error(request, &reason, &Reply::new());
        }
        (Kind::File, error) => answers(cx).error(request, &errors::refused_verb(compat, error), &Reply::new()),
        (Kind::RoomView, CallError::NotMember(room)) => {
            answers(cx).verb_refused(request, &errors::not_viewer(compat, Some(room.as_str())), false);
        }
        (kind, error) => {
            let with_data = matches!(kind, Kind::Join | Kind::Leave);
            answers(cx).verb_refused(request, &errors::refused_verb(compat, error), with_data);
        }
    }
}

fn welcome(cx: &mut Cx<'_>) {
    let settings = &cx.settings.socket;
    if !settings.welcome_message.is_empty() {
        answers(cx).about_connection("welcome", &settings.welcome_message);
    }
}

fn goodbye(reason: CloseReason, cx: &mut Cx<'_>) {
    let settings = &cx.settings.socket;
    answers(cx).about_connection("status", &settings.goodbye_message);
    cx.fx.close = Some(reason);
}

#[cfg(test)]
mod tests;
