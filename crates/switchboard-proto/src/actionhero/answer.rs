//! Writers of the answers' shapes.
//!
//! Every answer is one JSON line. What differs between generations is decided here and in [`super::errors`], nowhere else.

use serde_json::Value;

use crate::call::{ActionError, CallError, Reply, RoomStatus};
use crate::json::{write_number, write_text, write_value};

use super::errors;
use super::ledger::Kind;
use super::settings::Compat;

/// What identifies the request that an answer belongs to.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct RequestId {
    /// How many lines the client had sent, this one included.
    pub(super) count: u64,
    /// The client's own id of the request, where it has one.
    pub(super) message_id: Option<Value>,
}

/// The `data` member of a verb's answer.
pub(super) enum Data<'a> {
    /// Left out.
    Absent,
    Null,
    True,
    /// JSON text.
    Raw(&'a str),
    Value(&'a Value),
}

/// Writes answers to one request.
pub(super) struct Answers<'a> {
    pub(super) out: &'a mut Vec<u8>,
    pub(super) compat: Compat,
    /// For the id of a request that has none, where answers need one.
    pub(super) random: u128,
}

impl Answers<'_> {
    /// A verb that was carried out.
    pub(super) fn verb_done(&mut self, request: &RequestId, data: &Data<'_>) {
        self.out.extend_from_slice(b"{\"status\":\"OK\",\"context\":\"response\"");
        match data {
            Data::Absent => {}
            Data::Null => self.out.extend_from_slice(b",\"data\":null"),
            Data::True => self.out.extend_from_slice(b",\"data\":true"),
            Data::Raw(json) => {
                self.out.extend_from_slice(b",\"data\":");
                self.out.extend_from_slice(json.as_bytes());
            }
            Data::Value(value) => {
                self.out.extend_from_slice(b",\"data\":");
                write_value(self.out, value);
            }
        }
        self.end(request);
    }

    /// A verb whose answer has no value: `data` is null in ActionHero 9 and left out in 29.
    pub(super) fn verb_done_without_value(&mut self, request: &RequestId) {
        let data = match self.compat {
            Compat::Auto | Compat::Classic => Data::Null,
            Compat::Modern => Data::Absent,
        };
        self.verb_done(request, &data);
    }

    /// A verb that was refused; with `data: false` where ActionHero 9 has it.
    pub(super) fn verb_refused(&mut self, request: &RequestId, reason: &str, with_data: bool) {
        match self.compat {
            Compat::Auto | Compat::Classic => {
                self.out.extend_from_slice(b"{\"status\":");
                write_text(self.out, reason);
                self.out.extend_from_slice(b",\"context\":\"response\"");
                if with_data {
                    self.out.extend_from_slice(b",\"data\":false");
                }
            }
            Compat::Modern => {
                self.out.extend_from_slice(b"{\"error\":");
                write_text(self.out, reason);
                self.out.extend_from_slice(b",\"context\":\"response\"");
            }
        }
        self.end(request);
    }

    /// An action's or a file's failure.
    pub(super) fn error(&mut self, request: &RequestId, reason: &str, reply: &Reply) {
        self.out.extend_from_slice(b"{\"error\":");
        write_text(self.out, reason);
        self.out.push(b',');
        self.members(reply, true);
        self.out.extend_from_slice(b"\"context\":\"response\"");
        self.end(request);
    }

    /// A call that the node refused, or that failed.
    pub(super) fn refuse(&mut self, kind: Kind, request: &RequestId, error: &CallError) {
        let compat = self.compat;
        match (kind, error) {
            (Kind::Action, CallError::Action(error)) => {
                let reply = match error {
                    ActionError::Failed { reply, .. } => reply.clone(),
                    _ => Reply::new(),
                };
                self.error(request, &errors::failed_action(compat, error), &reply);
            }
            (Kind::Action, error) => {
                let reason = errors::prefixed(compat, &errors::refused_verb(compat, error));
                self.error(request, &reason, &Reply::new());
            }
            (Kind::File, error) => self.error(request, &errors::refused_verb(compat, error), &Reply::new()),
            (Kind::RoomView, CallError::NotMember(room)) => {
                self.verb_refused(request, &errors::not_viewer(compat, Some(room.as_str())), false);
            }
            (kind, error) => {
                let with_data = matches!(kind, Kind::Join | Kind::Leave);
                self.verb_refused(request, &errors::refused_verb(compat, error), with_data);
            }
        }
    }

    /// A line that could not be a request.
    pub(super) fn bad_line(&mut self, request: &RequestId, reason: &str) {
        self.out.extend_from_slice(b"{\"status\":\"error\",\"error\":");
        write_text(self.out, reason);
        self.out.extend_from_slice(b",\"context\":\"response\"");
        self.end(request);
    }

    /// An action's reply.
    pub(super) fn action_done(&mut self, request: &RequestId, reply: &Reply) {
        self.out.push(b'{');
        self.members(reply, false);
        self.out.extend_from_slice(b"\"context\":\"response\"");
        self.end(request);
    }

    /// Something about the connection itself.
    pub(super) fn about_connection(&mut self, member: &str, text: &str) {
        self.out.push(b'{');
        write_text(self.out, member);
        self.out.push(b':');
        write_text(self.out, text);
        self.out.extend_from_slice(b",\"context\":\"api\"}\r\n");
    }

    /// What the application sends: as it is, and with the latest number when it calls itself a response.
    pub(super) fn direct(&mut self, json: &str, request: &RequestId) {
        let numbered = serde_json::from_str::<serde_json::Map<String, Value>>(json).is_ok_and(|members| {
            members.get("context").is_some_and(|context| context == "response")
                && !members.contains_key("messageCount")
                && !members.contains_key("messageId")
        });
        match json.strip_suffix('}') {
            Some(open) if numbered => {
                self.out.extend_from_slice(open.as_bytes());
                self.end(request);
            }
            _ => {
                self.out.extend_from_slice(json.as_bytes());
                self.out.extend_from_slice(b"\r\n");
            }
        }
    }

    fn members(&mut self, reply: &Reply, is_error: bool) {
        for (name, value) in reply.iter() {
            if matches!(name, "context" | "messageCount" | "messageId") || (is_error && name == "error") {
                continue;
            }
            write_text(self.out, name);
            self.out.push(b':');
            write_value(self.out, value);
            self.out.push(b',');
        }
    }

    /// Numbers the answer and ends the line.
    fn end(&mut self, request: &RequestId) {
        if self.compat != Compat::Modern {
            self.out.extend_from_slice(b",\"messageCount\":");
            write_number(self.out, request.count);
        }
        match (&request.message_id, self.compat) {
            (Some(id), Compat::Auto | Compat::Modern) => {
                self.out.extend_from_slice(b",\"messageId\":");
                write_value(self.out, id);
            }
            (None, Compat::Modern) => {
                self.out.extend_from_slice(b",\"messageId\":");
                write_text(self.out, crate::id::ConnId::from_random(self.random).text().as_str());
            }
            _ => {}
        }
        self.out.extend_from_slice(b"}\r\n");
    }
}

/// `{"room","members":{id:{"id","joinedAt"}},"membersCount"}`.
pub(super) fn room_status_json(status: &RoomStatus) -> String {
    let mut out = Vec::with_capacity(64 + status.members.len() * 112);
    out.extend_from_slice(b"{\"room\":");
    write_text(&mut out, status.room.as_str());
    out.extend_from_slice(b",\"members\":{");
    for (index, member) in status.members.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        let id = member.id.text();
        write_text(&mut out, id.as_str());
        out.extend_from_slice(b":{\"id\":");
        write_text(&mut out, id.as_str());
        out.extend_from_slice(b",\"joinedAt\":");
        write_number(&mut out, member.joined_at);
        out.push(b'}');
    }
    out.extend_from_slice(b"},\"membersCount\":");
    write_number(&mut out, status.members.len() as u64);
    out.push(b'}');
    // The writers above write UTF-8 only.
    String::from_utf8(out).unwrap_or_default()
}
