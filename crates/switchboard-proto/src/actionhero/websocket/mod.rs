//! The browser protocol: one JSON text per WebSocket message.
//!
//! Requests are objects with a member `event`; what begins with `primus::` belongs to the transport that browsers' clients
//! bring along. Clients up to ActionHero 15 ping the server, later ones expect to be pinged: pings are answered, and who has
//! not pinged for a while is pinged.

mod file;
mod request;

use std::sync::Arc;

use serde_json::{Map, Value};

use crate::call::{Answer, Call, CallError, Content, Outcome, Reply};
use crate::close::CloseReason;
use crate::event::Event as Fact;
use crate::face::{Cx, Face};
use crate::frame::ws::{self, WsFrame};
use crate::id::{RoomName, Token};
use crate::json::{self, JsonRefusal, RawJson, write_number, write_text};
use crate::params::Params;
use crate::wire::{Hears, WireFormat};

use super::answer::{Answers, Data, Details, RequestId, Wire, room_status_json};
use super::errors;
use super::ledger::{Kind, Ledger, Phase};
use super::settings::Compat;
use super::wire::Extent;
use file::FileMessage;
use request::{Control, Event, Request, script_text};

/// One client's conversation over a WebSocket.
#[derive(Debug, Default)]
pub struct WebSocketFace {
    ledger: Ledger,
    /// When anything was last heard of the client, or it took a piece of a file.
    heard_ms: u64,
    /// When this face is woken next; it may be woken earlier, for nothing.
    due_ms: u64,
    /// The client has pinged since the face was last woken.
    client_pings: bool,
    /// Compression was agreed on.
    deflates: bool,
}

impl Face for WebSocketFace {
    type Frame<'a> = WsFrame<'a>;

    fn on_open(&mut self, cx: &mut Cx<'_>) {
        let settings = &cx.settings.websocket;
        self.heard_ms = cx.now.monotonic_ms;
        if !settings.welcome_message.is_empty() {
            answers(cx).about_connection("welcome", &settings.welcome_message);
        }
        self.wake_for_heartbeat(cx);
    }

    fn on_frame(&mut self, frame: WsFrame<'_>, cx: &mut Cx<'_>) {
        self.heard_ms = cx.now.monotonic_ms;
        match frame {
            WsFrame::Text(text) => self.on_text(text, cx),
            // As in Primus: UTF-8, with U+FFFD in place of other bytes.
            WsFrame::Binary(bytes) => self.on_text(&String::from_utf8_lossy(bytes), cx),
            WsFrame::Pong(_) => {}
            WsFrame::Ping(payload) => ws::write_pong(&mut cx.fx.bytes, payload),
            WsFrame::Close { code, .. } => {
                ws::write_close(&mut cx.fx.bytes, code, "");
                cx.fx.close = Some(CloseReason::ClientLeft);
            }
        }
    }

    fn on_outcome(&mut self, token: Token, outcome: Outcome, cx: &mut Cx<'_>) {
        let (kind, request) = self.ledger.settle(token);
        match outcome {
            Ok(answer) => self.answer(kind, &request, answer, cx),
            Err(error) if kind == Kind::File => refuse_file(&request, &error, cx),
            Err(error) => answers(cx).refuse(kind, &request, &error),
        }
        if self.ledger.phase == Phase::Stopping && self.due_ms <= cx.now.monotonic_ms {
            self.close_if_idle(cx);
        }
    }

    fn on_event(&mut self, event: &Fact, cx: &mut Cx<'_>) -> bool {
        match event {
            Fact::Message(json) => {
                let request = RequestId { count: self.ledger.count, message_id: None };
                answers(cx).direct(json.as_str(), &request);
                true
            }
            Fact::Command(delivery) => {
                answers(cx).command(delivery);
                true
            }
            // It has no shards.
            Fact::Shard(_) => false,
        }
    }

    fn on_deadline(&mut self, cx: &mut Cx<'_>) {
        let now_ms = cx.now.monotonic_ms;
        if now_ms < self.due_ms {
            return;
        }
        if self.ledger.phase == Phase::Stopping {
            return self.close_if_idle(cx);
        }
        let settings = &cx.settings.websocket;
        if settings.silence_ms > 0 && now_ms - self.heard_ms >= settings.silence_ms {
            return close(CloseReason::Silence, cx);
        }
        if !std::mem::take(&mut self.client_pings) && settings.heartbeat_ms > 0 {
            let mark = ws::begin_text(&mut cx.fx.bytes);
            cx.fx.bytes.extend_from_slice(b"\"primus::ping::");
            write_number(&mut cx.fx.bytes, cx.now.unix_ms);
            cx.fx.bytes.push(b'"');
            ws::finish_text(&mut cx.fx.bytes, mark);
        }
        self.wake_for_heartbeat(cx);
    }

    fn on_break(&mut self, _: &mut Cx<'_>) {}

    fn on_shutdown(&mut self, cx: &mut Cx<'_>) {
        self.ledger.phase = Phase::Stopping;
        // Each at a moment of its own, or all would come back at once.
        let spread_ms = cx.settings.websocket.drain_spread_ms;
        let delay_ms = u64::try_from(cx.random % (u128::from(spread_ms) + 1)).unwrap_or(spread_ms);
        self.due_ms = cx.now.monotonic_ms + delay_ms;
        if delay_ms == 0 {
            self.close_if_idle(cx);
        } else {
            cx.fx.wake_at_ms = Some(self.due_ms);
        }
    }

    fn on_refused(&mut self, reason: &CallError, cx: &mut Cx<'_>) {
        answers(cx).about_connection("error", errors::refused_connection(reason));
        tell_not_to_return(cx);
        close(CloseReason::Refused, cx);
    }

    fn on_removed(&mut self, cx: &mut Cx<'_>) {
        tell_not_to_return(cx);
        close(CloseReason::Removed, cx);
    }

    fn hears(&self, _: &RoomName, is_member: bool) -> Hears {
        if !is_member {
            return Hears::NOTHING;
        }
        Hears::in_format(match (self.ledger.extent, self.deflates) {
            (Extent::Plain, false) => WireFormat::ActionHeroMessage,
            (Extent::Plain, true) => WireFormat::ActionHeroDeflated,
            (Extent::Extended, false) => WireFormat::ExtendedMessage,
            (Extent::Extended, true) => WireFormat::ExtendedDeflated,
        })
    }
}

impl WebSocketFace {
    /// A conversation with a client that did, or did not, agree on compression.
    pub(crate) fn new(deflates: bool) -> Self {
        Self { deflates, ..Self::default() }
    }

    /// The client takes a file. What it says meanwhile is not heard before the end, and our pings are behind it.
    pub(crate) fn on_piece(&mut self, now_ms: u64) {
        self.heard_ms = now_ms;
    }

    fn wake_for_heartbeat(&mut self, cx: &mut Cx<'_>) {
        let settings = &cx.settings.websocket;
        let now_ms = cx.now.monotonic_ms;
        let ping_ms = (settings.heartbeat_ms > 0).then(|| now_ms + settings.heartbeat_ms);
        let silent_ms = (settings.silence_ms > 0).then(|| self.heard_ms + settings.silence_ms);
        if let Some(due_ms) = [ping_ms, silent_ms].into_iter().flatten().min() {
            self.due_ms = due_ms.max(now_ms + 1);
            cx.fx.wake_at_ms = Some(self.due_ms);
        }
    }

    /// Closes when nothing is pending; else the last outcome does, or the end of the server's patience.
    fn close_if_idle(&mut self, cx: &mut Cx<'_>) {
        if self.ledger.pending_actions == 0 {
            close(CloseReason::Shutdown, cx);
        }
    }

    fn on_text(&mut self, text: &str, cx: &mut Cx<'_>) {
        let text = &*json::to_well_formed(text);
        match Request::parse(text, cx.settings.websocket.json) {
            // The real servers answer nothing. Here a broken object is answered, without a number.
            Request::NotJson(error) => {
                if text.trim_start().starts_with('{') {
                    answers(cx).about_connection("error", &error.to_string());
                }
            }
            Request::Refused { event, message_id, refusal } => {
                self.ledger.count += 1;
                self.refuse_json(&event, message_id, refusal, cx);
            }
            Request::Control(Control::Ping(what)) => {
                self.client_pings = true;
                control("pong", what, cx);
            }
            Request::Control(Control::Pong) => {}
            Request::Control(Control::Id) => control("id", cx.conn.id.text().as_str(), cx),
            Request::Event(event, members) => {
                self.ledger.count += 1;
                self.on_request(&event, members, text, cx);
            }
        }
    }

    /// `message` is what `members` were read from.
    fn on_request(&mut self, event: &Event, mut members: Map<String, Value>, message: &str, cx: &mut Cx<'_>) {
        let compat = cx.settings.websocket.compat;
        let message_id = match compat {
            Compat::Classic => None,
            Compat::Auto | Compat::Modern => members.remove("messageId"),
        };
        let text = |name: &str| members.get(name).map(script_text);
        // A member as the client wrote it: its numbers and the order of its members are passed on unchanged.
        let raw = |name| json::members(message, [name]).and_then(|[raw]| raw).map(RawJson::from_parsed);
        let room = || text("room").and_then(|room| RoomName::parse(&room).ok());
        match event {
            Event::Action => {
                let params = match members.remove("params") {
                    Some(Value::Object(params)) => params,
                    _ => Map::new(),
                };
                self.run_action(message_id, params, cx);
            }
            Event::DetailsView => self.ledger.call(Kind::Details, message_id, Call::Details, cx),
            Event::Documentation => self.ledger.call(Kind::Documentation, message_id, Call::Documentation, cx),
            Event::File => {
                let name = text("file").unwrap_or_default();
                self.ledger.call(Kind::File, message_id, Call::File { name }, cx);
            }
            Event::Quit => {
                tell_not_to_return(cx);
                close(CloseReason::ClientLeft, cx);
            }
            Event::ReplyClientCommand => match (members.get("id"), members.get("reply"), raw("reply")) {
                (Some(Value::String(id)), Some(Value::Object(_)), Some(reply)) => {
                    let call = Call::ReplyCommand { id: id.clone(), reply };
                    self.ledger.call(Kind::CommandReply, message_id, call, cx);
                }
                _ => self.refuse(message_id, errors::REPLY_REQUIRED, false, cx),
            },
            Event::RoomAdd => match room() {
                Some(room) => self.ledger.call(Kind::Join, message_id, Call::Join { room }, cx),
                None => self.refuse(message_id, errors::NO_SUCH_ROOM, true, cx),
            },
            Event::RoomLeave => match room() {
                Some(room) => self.ledger.call(Kind::Leave, message_id, Call::Leave { room }, cx),
                None => {
                    let reason = errors::not_member(compat, text("room").as_deref());
                    self.refuse(message_id, &reason, true, cx);
                }
            },
            Event::RoomView => match room() {
                Some(room) => self.ledger.call(Kind::RoomView, message_id, Call::RoomStatus { room }, cx),
                None => {
                    let reason = errors::not_viewer(compat, text("room").as_deref());
                    self.refuse(message_id, &reason, false, cx);
                }
            },
            Event::Say => match (text("room"), text("message")) {
                (Some(name), Some(message)) if !name.is_empty() && !message.is_empty() => match room() {
                    Some(room) => {
                        let body = RawJson::from_text(&message);
                        self.ledger.call(Kind::Say, message_id, Call::Say { room, body }, cx);
                    }
                    None => self.refuse(message_id, &errors::not_member(compat, Some(&name)), false, cx),
                },
                _ => self.refuse(message_id, errors::MESSAGE_REQUIRED, false, cx),
            },
            Event::SetCustomClientData => match (members.get("data"), raw("data")) {
                (Some(Value::Object(members)), Some(data)) => {
                    self.ledger.set_client_data(message_id, data, members, cx);
                }
                _ => self.refuse(message_id, errors::CLIENT_DATA_REQUIRED, false, cx),
            },
            Event::Other(name) => {
                let request = RequestId { count: self.ledger.count, message_id };
                answers(cx).unknown_verb(&request, &errors::unknown_verb(compat, name));
            }
        }
    }

    /// Refuses a request whose JSON goes beyond a limit, in the shape in which such a request is refused.
    fn refuse_json(&self, event: &Event, message_id: Option<Value>, refusal: JsonRefusal, cx: &mut Cx<'_>) {
        let compat = cx.settings.websocket.compat;
        let message_id = message_id.filter(|_| compat != Compat::Classic);
        let request = RequestId { count: self.ledger.count, message_id };
        match event {
            Event::Action | Event::File => {
                answers(cx).error(&request, &errors::prefixed(compat, &refusal.to_string()), &Reply::new());
            }
            _ => answers(cx).verb_refused(&request, &refusal.to_string(), false),
        }
    }

    /// Runs an action. Refusals that need no look at the action come first.
    fn run_action(&mut self, message_id: Option<Value>, params: Map<String, Value>, cx: &mut Cx<'_>) {
        self.ledger.total_actions = self.ledger.total_actions.saturating_add(1);
        let settings = &cx.settings.websocket;
        let params = Params::from_members(params, settings.params);
        let refusal = if self.ledger.phase == Phase::Stopping {
            errors::SHUTTING_DOWN
        } else if self.ledger.is_full(settings.pending_max) {
            errors::TOO_MANY_PENDING
        } else if let Ok(params) = params {
            return self.ledger.call_action(message_id, Arc::new(params), settings.compat, cx);
        } else {
            errors::TOO_MANY_PARAMS
        };
        let reason = errors::prefixed(settings.compat, refusal);
        let request = RequestId { count: self.ledger.count, message_id };
        answers(cx).error(&request, &reason, &Reply::new());
    }

    fn refuse(&self, message_id: Option<Value>, reason: &str, with_data: bool, cx: &mut Cx<'_>) {
        let request = RequestId { count: self.ledger.count, message_id };
        answers(cx).verb_refused(&request, reason, with_data);
    }

    fn answer(&mut self, kind: Kind, request: &RequestId, answer: Answer, cx: &mut Cx<'_>) {
        match answer {
            Answer::Action(reply) => answers(cx).action_done(request, &reply),
            Answer::Details { rooms } => {
                let details = Details {
                    conn: cx.conn,
                    // Each request brings its own.
                    params: "{}",
                    rooms: &rooms,
                    total_actions: self.ledger.total_actions,
                    pending_actions: self.ledger.pending_actions,
                };
                let details = details.json();
                answers(cx).verb_done(request, &Data::Raw(&details));
            }
            Answer::Documentation(json) => answers(cx).verb_done(request, &Data::Raw(json.as_str())),
            Answer::File(file) => cx.fx.content = Some(file_message(request, file, cx)),
            Answer::Joined | Answer::Left => answers(cx).verb_done(request, &Data::Bool(true)),
            Answer::Room(status) => answers(cx).verb_done(request, &Data::Raw(&room_status_json(&status))),
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
}

fn answers<'a>(cx: &'a mut Cx<'_>) -> Answers<'a> {
    Answers { out: &mut cx.fx.bytes, compat: cx.settings.websocket.compat, random: cx.random, wire: Wire::Message }
}

/// A string of the transport.
fn control(word: &str, what: &str, cx: &mut Cx<'_>) {
    let out = &mut cx.fx.bytes;
    let mark = ws::begin_text(out);
    write_text(out, &format!("primus::{word}::{what}"));
    ws::finish_text(out, mark);
}

/// Clients come back by themselves unless they are told not to.
fn tell_not_to_return(cx: &mut Cx<'_>) {
    control("server", "close", cx);
}

fn close(reason: CloseReason, cx: &mut Cx<'_>) {
    ws::write_close(&mut cx.fx.bytes, Some(reason.websocket_code()), "");
    cx.fx.close = Some(reason);
}

/// `{"error":null,"content":…,"mime":…,"length":…,"lastModified":…}`, the content to come in pieces.
fn file_message(request: &RequestId, file: Arc<dyn Content>, cx: &mut Cx<'_>) -> Arc<dyn Content> {
    let head: &[u8] = match cx.settings.websocket.compat {
        Compat::Auto | Compat::Classic => b"{\"error\":null,\"content\":\"",
        Compat::Modern => b"{\"content\":\"",
    };
    let mut facts = Reply::new().with("mime", file.media_type()).with("length", file.length());
    if let Some(modified_ms) = file.modified_ms() {
        facts.set("lastModified", crate::time::iso_8601(modified_ms));
    }
    let mut tail = Vec::new();
    Answers { out: &mut tail, ..answers(cx) }.end_of_file(request, &facts);
    Arc::new(FileMessage { file, head: head.into(), tail: tail.into() })
}

fn refuse_file(request: &RequestId, error: &CallError, cx: &mut Cx<'_>) {
    let reason = errors::refused_verb(cx.settings.websocket.compat, error);
    let reply = Reply::new().with("content", Value::Null).with("mime", "text/html").with("length", reason.len());
    answers(cx).error(request, &reason, &reply);
}

#[cfg(test)]
mod tests;
