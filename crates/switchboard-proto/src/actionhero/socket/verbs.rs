//! The verbs of the line protocol.

use serde_json::{Map, Value};

use crate::call::Call;
use crate::close::CloseReason;
use crate::face::Cx;
use crate::id::RoomName;
use crate::json::{self, RawJson};
use crate::params::Params;

use super::super::answer::Data;
use super::super::errors;
use super::super::ledger::{Kind, Phase};
use super::request::{Args, Verb};
use super::{SocketFace, answers, goodbye};

impl SocketFace {
    pub(super) fn on_verb(&mut self, verb: Verb, args: Args<'_>, cx: &mut Cx<'_>) {
        match verb {
            Verb::DetailsView => self.ledger.call(Kind::Details, self.message_id(cx), Call::Details, cx),
            Verb::Documentation => self.ledger.call(Kind::Documentation, self.message_id(cx), Call::Documentation, cx),
            Verb::ParamAdd => self.param_add(args, cx),
            Verb::ParamDelete => self.param_delete(args.first(), cx),
            Verb::ParamView => {
                let request = self.request(cx);
                let secrets = &cx.settings.socket.secret_params;
                let shown = args.first().and_then(|name| Some(secrets.shown(name, self.sticky(name)?)));
                let data = shown.as_deref().map_or(Data::Absent, Data::Value);
                answers(cx).verb_done(&request, &data);
            }
            Verb::ParamsDelete => {
                let request = self.request(cx);
                self.params = None;
                answers(cx).verb_done_without_value(&request);
            }
            Verb::ParamsView => {
                let request = self.request(cx);
                let params = self.params_json(cx);
                answers(cx).verb_done(&request, &Data::Raw(&params));
            }
            Verb::Quit => {
                // Whatever is pending is dropped: the client asked for it.
                self.ledger.phase = Phase::Open;
                goodbye(CloseReason::ClientLeft, cx);
            }
            Verb::ReplyClientCommand => {
                let (id, reply) = args.first_and_rest();
                match (id.filter(|id| !id.is_empty()), reply.and_then(|reply| object(reply, cx))) {
                    (Some(id), Some((reply, _))) => {
                        let call = Call::ReplyCommand { id: id.to_owned(), reply };
                        self.ledger.call(Kind::CommandReply, self.message_id(cx), call, cx);
                    }
                    _ => self.refuse_verb(errors::REPLY_REQUIRED, false, cx),
                }
            }
            Verb::RoomAdd => match args.first().and_then(|room| RoomName::parse(room).ok()) {
                Some(room) => self.ledger.call(Kind::Join, self.message_id(cx), Call::Join { room }, cx),
                None => self.refuse_verb(errors::NO_SUCH_ROOM, true, cx),
            },
            Verb::RoomLeave => match args.first().and_then(|room| RoomName::parse(room).ok()) {
                Some(room) => self.ledger.call(Kind::Leave, self.message_id(cx), Call::Leave { room }, cx),
                None => {
                    let reason = errors::not_member(cx.settings.socket.compat, args.first());
                    self.refuse_verb(&reason, true, cx);
                }
            },
            Verb::RoomView => match args.first().and_then(|room| RoomName::parse(room).ok()) {
                Some(room) => self.ledger.call(Kind::RoomView, self.message_id(cx), Call::RoomStatus { room }, cx),
                None => {
                    let reason = errors::not_viewer(cx.settings.socket.compat, args.first());
                    self.refuse_verb(&reason, false, cx);
                }
            },
            Verb::Say => self.say(args, cx),
            Verb::SetCustomClientData => match args.all().and_then(|data| object(data, cx)) {
                Some((data, members)) => self.ledger.set_client_data(self.message_id(cx), data, &members, cx),
                None => self.refuse_verb(errors::CLIENT_DATA_REQUIRED, false, cx),
            },
        }
    }

    fn say(&mut self, args: Args<'_>, cx: &mut Cx<'_>) {
        match args.first_and_rest() {
            (Some(room), Some(text)) if !room.is_empty() && !text.is_empty() => match RoomName::parse(room) {
                Ok(room) => {
                    let body = RawJson::from_text(text);
                    self.ledger.call(Kind::Say, self.message_id(cx), Call::Say { room, body }, cx);
                }
                Err(_) => {
                    let reason = errors::not_member(cx.settings.socket.compat, Some(room));
                    self.refuse_verb(&reason, false, cx);
                }
            },
            _ => self.refuse_verb(errors::MESSAGE_REQUIRED, false, cx),
        }
    }

    /// `key=value`, of which only the piece up to a second `=` counts, or `key value`.
    fn param_add(&mut self, args: Args<'_>, cx: &mut Cx<'_>) {
        let request = self.request(cx);
        let (first, rest) = args.first_and_rest();
        let (name, value) = match first {
            None => ("", None),
            Some(first) => match first.split_once('=') {
                Some((name, value)) => (name, Some(value.split('=').next().unwrap_or(value))),
                None => (first, rest.map(|rest| rest.split(' ').next().unwrap_or(rest))),
            },
        };
        let settings = &cx.settings.socket;
        let set = match value {
            Some(value) if !name.is_empty() && settings.keeps(name) => {
                let params = self.params_mut();
                let set = params.set(name, Value::from(value), settings.params);
                params.note_secrets(&settings.secret_params);
                set
            }
            // A name without a value reads as absent afterwards, as on the real server.
            None if !name.is_empty() => {
                self.forget_param(name);
                Ok(())
            }
            _ => Ok(()),
        };
        match set {
            Ok(()) => answers(cx).verb_done_without_value(&request),
            Err(_) => answers(cx).verb_refused(&request, errors::TOO_MANY_PARAMS, true),
        }
    }

    fn param_delete(&mut self, name: Option<&str>, cx: &mut Cx<'_>) {
        let request = self.request(cx);
        if let Some(name) = name {
            self.forget_param(name);
        }
        answers(cx).verb_done_without_value(&request);
    }

    fn forget_param(&mut self, name: &str) {
        if self.sticky(name).is_some() {
            self.params_mut().remove(name);
            if self.params.as_ref().is_some_and(|params| params.is_empty()) {
                self.params = None;
            }
        }
    }

    fn refuse_verb(&mut self, reason: &str, with_data: bool, cx: &mut Cx<'_>) {
        let request = self.request(cx);
        answers(cx).verb_refused(&request, reason, with_data);
    }

    pub(super) fn params_json(&self, cx: &Cx<'_>) -> String {
        let mut out = Vec::new();
        self.params.as_deref().unwrap_or(&Params::default()).write_json(&mut out, &cx.settings.socket.secret_params);
        // The writers above write UTF-8 only.
        String::from_utf8(out).unwrap_or_default()
    }
}

/// An object as the client wrote it, and its members.
fn object(text: &str, cx: &Cx<'_>) -> Option<(RawJson, Map<String, Value>)> {
    match json::parse(text, cx.settings.socket.json) {
        Ok(Value::Object(members)) => Some((RawJson::from_parsed(text), members)),
        Ok(_) | Err(_) => None,
    }
}
