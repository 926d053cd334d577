//! The line protocol over TCP, TLS or a Unix socket.

mod foreign;
mod request;
mod verbs;

use std::sync::Arc;

use serde_json::Value;

use crate::call::{ActionError, Answer, Call, CallError, Outcome, Reply};
use crate::close::CloseReason;
use crate::event::Event;
use crate::face::{Cx, Face};
use crate::frame::line::LineFrame;
use crate::id::{RoomName, Token};
use crate::params::{Params, SecretParams, TooManyParams};
use crate::wire::{Hears, WireFormat};

use super::answer::{Answers, Data, Details, RequestId, Wire, room_status_json};
use super::errors;
use super::ledger::{Kind, Ledger, Phase};
use super::settings::Compat;
use super::wire::Extent;
use request::Request;

/// One client's conversation in the line protocol: counts lines, keeps sticky params, limits pending actions and words the
/// answers.
#[derive(Debug, Default)]
pub struct SocketFace {
    ledger: Ledger,
    params: Option<Arc<Params>>,
}

impl Face for SocketFace {
    type Frame<'a> = LineFrame<'a>;

    fn on_open(&mut self, cx: &mut Cx<'_>) {
        let delay_ms = cx.settings.socket.welcome_delay_ms;
        if delay_ms > 0 {
            self.ledger.phase = Phase::Welcoming;
            cx.fx.wake_at_ms = Some(cx.now.monotonic_ms + delay_ms);
        } else {
            welcome(cx);
        }
    }

    fn on_frame(&mut self, frame: LineFrame<'_>, cx: &mut Cx<'_>) {
        match frame {
            LineFrame::Line(line) => {
                self.ledger.count += 1;
                if foreign::is_foreign(line, self.ledger.count == 1) {
                    cx.fx.bytes.extend_from_slice(foreign::ANSWER.as_bytes());
                    cx.fx.close = Some(CloseReason::Protocol);
                    return;
                }
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
        let (kind, request) = self.ledger.settle(token);
        match outcome {
            Ok(answer) => self.answer(kind, &request, answer, cx),
            Err(error) => answers(cx).refuse(kind, &request, &error),
        }
        if self.ledger.is_stopping() && self.ledger.pending_actions == 0 {
            goodbye(CloseReason::Shutdown, cx);
        }
    }

    fn on_event(&mut self, event: &Event, cx: &mut Cx<'_>) -> bool {
        match event {
            Event::Message(json) => {
                let request = self.request(cx);
                answers(cx).direct(json.as_str(), &request);
                true
            }
            Event::Command(delivery) => {
                answers(cx).command(delivery);
                true
            }
            // It has no shards.
            Event::Shard(_) => false,
        }
    }

    fn on_deadline(&mut self, cx: &mut Cx<'_>) {
        match self.ledger.phase {
            Phase::Open => {}
            Phase::Welcoming => {
                self.ledger.phase = Phase::Open;
                welcome(cx);
            }
            Phase::Stopping => goodbye(CloseReason::Shutdown, cx),
            Phase::StoppingUnwelcomed => {
                self.ledger.phase = Phase::Stopping;
                welcome(cx);
            }
        }
    }

    fn on_break(&mut self, cx: &mut Cx<'_>) {
        goodbye(CloseReason::ClientLeft, cx);
    }

    fn on_shutdown(&mut self, cx: &mut Cx<'_>) {
        self.ledger.phase = match self.ledger.phase {
            Phase::Welcoming => Phase::StoppingUnwelcomed,
            Phase::Open | Phase::Stopping | Phase::StoppingUnwelcomed => Phase::Stopping,
        };
        if self.ledger.pending_actions == 0 {
            goodbye(CloseReason::Shutdown, cx);
        } else {
            cx.fx.wake_at_ms = Some(cx.now.monotonic_ms + cx.settings.socket.shutdown_wait_ms);
        }
    }

    fn on_refused(&mut self, reason: &CallError, cx: &mut Cx<'_>) {
        answers(cx).about_connection("error", errors::refused_connection(reason));
        cx.fx.close = Some(CloseReason::Refused);
    }

    fn on_removed(&mut self, cx: &mut Cx<'_>) {
        goodbye(CloseReason::Removed, cx);
    }

    fn hears(&self, _: &RoomName, is_member: bool) -> Hears {
        match (is_member, self.ledger.extent) {
            (false, _) => Hears::NOTHING,
            (true, Extent::Plain) => Hears::in_format(WireFormat::ActionHeroLine),
            (true, Extent::Extended) => Hears::in_format(WireFormat::ExtendedLine),
        }
    }
}

impl SocketFace {
    fn on_line(&mut self, line: &str, cx: &mut Cx<'_>) {
        match Request::parse(line, cx.settings.socket.json) {
            Request::Verb(verb, args) => self.on_verb(verb, args, cx),
            Request::File(name) => self.on_file(name, cx),
            // Broken JSON names no action, and may hold a password: it must not stick.
            Request::Word(word) if matches!(word.as_bytes(), [b'{' | b'[' | b'"', ..]) => {
                self.ledger.total_actions = self.ledger.total_actions.saturating_add(1);
                let request = self.request(cx);
                answers(cx).refuse(Kind::Action, &request, &CallError::Action(ActionError::Unknown));
            }
            Request::Word(word) => {
                let message_id = self.message_id(cx);
                let set = match self.sticky("action") {
                    Some(Value::String(action)) if action == word => Ok(()),
                    _ => self.params_mut().set("action", Value::from(word), cx.settings.socket.params),
                };
                self.run_action(message_id, set, cx);
            }
            Request::RefusedJson { message_id, refusal } => {
                let message_id = message_id.or_else(|| self.message_id(cx));
                let reason = errors::prefixed(cx.settings.socket.compat, &refusal.to_string());
                let request = RequestId { count: self.ledger.count, message_id };
                answers(cx).error(&request, &reason, &Reply::new());
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
                        params.note_secrets(&cx.settings.socket.secret_params);
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
        self.ledger.total_actions = self.ledger.total_actions.saturating_add(1);
        let settings = &cx.settings.socket;
        let params = self.take_params(&settings.secret_params);
        let refusal = if self.ledger.is_stopping() {
            Some(errors::SHUTTING_DOWN)
        } else if self.ledger.is_full(settings.pending_max) {
            Some(errors::TOO_MANY_PENDING)
        } else if set.is_err() {
            Some(errors::TOO_MANY_PARAMS)
        } else {
            None
        };
        if let Some(reason) = refusal {
            let reason = errors::prefixed(settings.compat, reason);
            let request = RequestId { count: self.ledger.count, message_id };
            answers(cx).error(&request, &reason, &Reply::new());
            return;
        }
        self.ledger.call_action(message_id, params, settings.compat, cx);
    }

    /// Returns the params for an action, and forgets the secrets among them: they go with one action only, even when it
    /// is refused.
    fn take_params(&mut self, secrets: &SecretParams) -> Arc<Params> {
        let params = self.params.clone().unwrap_or_default();
        if params.has_secrets() {
            self.params_mut().remove_secrets(secrets);
            self.params.take_if(|params| params.is_empty());
        }
        params
    }

    fn on_file(&mut self, name: Option<&str>, cx: &mut Cx<'_>) {
        let message_id = self.message_id(cx);
        if let Some(name) = name
            && self.sticky("file").and_then(Value::as_str) != Some(name)
            && self.params_mut().set("file", Value::from(name), cx.settings.socket.params).is_err()
        {
            let reason = errors::prefixed(cx.settings.socket.compat, errors::TOO_MANY_PARAMS);
            let request = RequestId { count: self.ledger.count, message_id };
            answers(cx).error(&request, &reason, &Reply::new());
            return;
        }
        let name = self.sticky("file").and_then(Value::as_str).unwrap_or_default().to_owned();
        self.ledger.call(Kind::File, message_id, Call::File { name }, cx);
    }

    /// The request at hand, as far as its line has been looked at: with the sticky id as it was when the line arrived.
    fn request(&self, cx: &Cx<'_>) -> RequestId {
        RequestId { count: self.ledger.count, message_id: self.message_id(cx) }
    }

    fn message_id(&self, cx: &Cx<'_>) -> Option<Value> {
        match cx.settings.socket.compat {
            Compat::Classic => None,
            Compat::Auto | Compat::Modern => self.sticky("messageId").cloned(),
        }
    }

    fn answer(&mut self, kind: Kind, request: &RequestId, answer: Answer, cx: &mut Cx<'_>) {
        match answer {
            Answer::Action(reply) => {
                answers(cx).action_done(request, &reply);
                self.scrub(cx);
            }
            Answer::Details { rooms } => {
                let params = self.params_json(cx);
                let details = Details {
                    conn: cx.conn,
                    params: &params,
                    rooms: &rooms,
                    total_actions: self.ledger.total_actions,
                    pending_actions: self.ledger.pending_actions,
                };
                let details = details.json();
                answers(cx).verb_done(request, &Data::Raw(&details));
            }
            Answer::Documentation(json) => answers(cx).verb_done(request, &Data::Raw(json.as_str())),
            // The bytes and nothing else: no header, no end.
            Answer::File(content) => cx.fx.content = Some(content),
            Answer::Joined | Answer::Left => answers(cx).verb_done(request, &Data::Bool(true)),
            Answer::Room(status) => {
                answers(cx).verb_done(request, &Data::Raw(&room_status_json(&status)));
            }
            Answer::Said { number } => answers(cx).said(request, number, self.ledger.extent),
            Answer::ClientDataSet => {
                answers(cx).verb_done(request, &Data::Bool(true));
                self.ledger.client_data_taken(kind, cx);
            }
            Answer::CommandReplied(was_awaited) => answers(cx).verb_done(request, &Data::Bool(was_awaited)),
            // Nothing on this wire asks for these.
            Answer::Attending
            | Answer::Shard(_)
            | Answer::History { .. }
            | Answer::LoggedIn(_)
            | Answer::LoggedOut
            | Answer::OthersLoggedOut(_)
            | Answer::Published(_)
            | Answer::RoomFound { .. } => {}
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
    Answers { out: &mut cx.fx.bytes, compat: cx.settings.socket.compat, random: cx.random, wire: Wire::Line }
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
