//! Writers of the answers' shapes.
//!
//! Every answer is one JSON text: a line, or a message. What differs between generations is decided here and in
//! [`super::errors`], nowhere else.

use serde_json::Value;

use crate::call::{ActionError, CallError, Reply, RoomStatus};
use crate::command::CommandDelivery;
use crate::face::ConnFacts;
use crate::frame::ws::{self, TextMark};
use crate::id::RoomName;
use crate::json::{escape_separators, write_number, write_text, write_value};

use super::errors;
use super::ledger::Kind;
use super::settings::Compat;
use super::wire::Extent;

/// What identifies the request that an answer belongs to.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct RequestId {
    /// How many requests the client had made, this one included.
    pub(super) count: u64,
    /// The client's own id of the request, where it has one.
    pub(super) message_id: Option<Value>,
}

/// The `data` member of a verb's answer.
pub(super) enum Data<'a> {
    /// Left out.
    Absent,
    Null,
    Bool(bool),
    /// JSON text.
    Raw(&'a str),
    Value(&'a Value),
}

/// What carries the answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wire {
    /// Lines, CR LF at their end.
    Line,
    /// WebSocket messages.
    Message,
}

/// Writes answers to one request.
pub(super) struct Answers<'a> {
    pub(super) out: &'a mut Vec<u8>,
    pub(super) compat: Compat,
    pub(super) wire: Wire,
    /// For the id of a request that has none, where answers need one.
    pub(super) random: u128,
}

impl Answers<'_> {
    /// A verb that was carried out.
    pub(super) fn verb_done(&mut self, request: &RequestId, data: &Data<'_>) {
        let mark = self.begin();
        self.out.extend_from_slice(b"{\"status\":\"OK\",\"context\":\"response\"");
        match data {
            Data::Absent => {}
            Data::Null => self.out.extend_from_slice(b",\"data\":null"),
            Data::Bool(true) => self.out.extend_from_slice(b",\"data\":true"),
            Data::Bool(false) => self.out.extend_from_slice(b",\"data\":false"),
            Data::Raw(json) => {
                self.out.extend_from_slice(b",\"data\":");
                self.out.extend_from_slice(json.as_bytes());
            }
            Data::Value(value) => {
                self.out.extend_from_slice(b",\"data\":");
                write_value(self.out, value);
            }
        }
        self.end(mark, request);
    }

    /// A verb whose answer has no value: `data` is null in ActionHero 9 and left out in 29.
    pub(super) fn verb_done_without_value(&mut self, request: &RequestId) {
        let data = match self.compat {
            Compat::Auto | Compat::Classic => Data::Null,
            Compat::Modern => Data::Absent,
        };
        self.verb_done(request, &data);
    }

    /// A message that was taken, with its number for who sees those of room messages.
    pub(super) fn said(&mut self, request: &RequestId, number: u64, extent: Extent) {
        match extent {
            Extent::Plain => self.verb_done_without_value(request),
            Extent::Extended if number == 0 => self.verb_done(request, &Data::Raw("{\"number\":null}")),
            Extent::Extended => self.verb_done(request, &Data::Raw(&format!("{{\"number\":{number}}}"))),
        }
    }

    /// A verb that was refused; with `data: false` where ActionHero 9 has it.
    pub(super) fn verb_refused(&mut self, request: &RequestId, reason: &str, with_data: bool) {
        let mark = self.begin();
        match (self.compat, self.wire) {
            (Compat::Auto | Compat::Classic, _) => {
                self.out.extend_from_slice(b"{\"status\":");
                write_text(self.out, reason);
                self.out.extend_from_slice(b",\"context\":\"response\"");
                if with_data {
                    self.out.extend_from_slice(b",\"data\":false");
                }
            }
            (Compat::Modern, Wire::Line) => {
                self.out.extend_from_slice(b"{\"error\":");
                write_text(self.out, reason);
                self.out.extend_from_slice(b",\"context\":\"response\"");
            }
            (Compat::Modern, Wire::Message) => self.refused_in_both(reason),
        }
        self.end(mark, request);
    }

    /// A verb that this wire does not know.
    pub(super) fn unknown_verb(&mut self, request: &RequestId, reason: &str) {
        let mark = self.begin();
        match self.compat {
            Compat::Auto | Compat::Classic => {
                self.out.extend_from_slice(b"{\"status\":");
                write_text(self.out, reason);
                self.out.extend_from_slice(b",\"context\":\"response\",\"data\":null");
            }
            Compat::Modern => self.refused_in_both(reason),
        }
        self.end(mark, request);
    }

    /// ActionHero 29 says it twice, as an exception is printed.
    fn refused_in_both(&mut self, reason: &str) {
        let reason = format!("Error: {reason}");
        self.out.extend_from_slice(b"{\"status\":");
        write_text(self.out, &reason);
        self.out.extend_from_slice(b",\"error\":");
        write_text(self.out, &reason);
        self.out.extend_from_slice(b",\"context\":\"response\",\"data\":{}");
    }

    /// An action's or a file's failure.
    pub(super) fn error(&mut self, request: &RequestId, reason: &str, reply: &Reply) {
        let mark = self.begin();
        self.out.extend_from_slice(b"{\"error\":");
        write_text(self.out, reason);
        self.out.push(b',');
        self.members(reply, true);
        self.out.extend_from_slice(b"\"context\":\"response\"");
        self.end(mark, request);
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
        let mark = self.begin();
        self.out.extend_from_slice(b"{\"status\":\"error\",\"error\":");
        write_text(self.out, reason);
        self.out.extend_from_slice(b",\"context\":\"response\"");
        self.end(mark, request);
    }

    /// An action's reply.
    pub(super) fn action_done(&mut self, request: &RequestId, reply: &Reply) {
        let mark = self.begin();
        self.out.push(b'{');
        self.members(reply, false);
        self.out.extend_from_slice(b"\"context\":\"response\"");
        self.end(mark, request);
    }

    /// What follows the content in the answer that carries a file.
    pub(super) fn end_of_file(&mut self, request: &RequestId, facts: &Reply) {
        self.out.extend_from_slice(b"\",");
        self.members(facts, false);
        self.out.extend_from_slice(b"\"context\":\"response\"");
        self.number(request);
        self.out.push(b'}');
    }

    /// Something about the connection itself.
    pub(super) fn about_connection(&mut self, member: &str, text: &str) {
        let mark = self.begin();
        self.out.push(b'{');
        write_text(self.out, member);
        self.out.push(b':');
        write_text(self.out, text);
        self.out.extend_from_slice(b",\"context\":\"api\"}");
        self.finish(mark);
    }

    /// What the server asks the client to do. It answers nothing, so it has no number.
    pub(super) fn command(&mut self, delivery: &CommandDelivery) {
        let mark = self.begin();
        let document = &delivery.document;
        self.out.extend_from_slice(b"{\"context\":\"command\",\"_id\":");
        write_text(self.out, document.id.as_str());
        self.out.extend_from_slice(b",\"key\":");
        write_text(self.out, &document.key);
        self.out.extend_from_slice(b",\"cmd\":");
        self.out.extend_from_slice(document.command.as_str().as_bytes());
        if let Some(data) = &document.data {
            self.out.extend_from_slice(b",\"data\":");
            self.out.extend_from_slice(data.as_str().as_bytes());
        }
        self.out.extend_from_slice(b",\"ts\":");
        write_number(self.out, delivery.ts);
        self.out.extend_from_slice(b",\"ttl_ms\":");
        write_number(self.out, delivery.ttl_ms);
        self.out.push(b'}');
        self.finish(mark);
    }

    /// What the application sends: as it is, and with the latest number when it calls itself a response. Over a WebSocket an
    /// object without a context calls itself one.
    pub(super) fn direct(&mut self, json: &str, request: &RequestId) {
        let mark = self.begin();
        let members = serde_json::from_str::<serde_json::Map<String, Value>>(json).unwrap_or_default();
        let context = members.get("context");
        let is_bare = self.wire == Wire::Message && context.is_none() && json.starts_with('{');
        let is_response = is_bare || context.is_some_and(|context| context == "response");
        let is_numbered = members.contains_key("messageCount") || members.contains_key("messageId");
        match json.strip_suffix('}') {
            Some(open) if is_response => {
                self.out.extend_from_slice(open.as_bytes());
                if is_bare {
                    let comma: &[u8] = if members.is_empty() { b"" } else { b"," };
                    self.out.extend_from_slice(comma);
                    self.out.extend_from_slice(b"\"context\":\"response\"");
                }
                if !is_numbered {
                    self.number(request);
                }
                self.out.push(b'}');
            }
            _ => self.out.extend_from_slice(json.as_bytes()),
        }
        self.finish(mark);
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

    fn begin(&mut self) -> Option<TextMark> {
        match self.wire {
            Wire::Line => None,
            Wire::Message => Some(ws::begin_text(self.out)),
        }
    }

    /// Numbers the answer and ends it.
    fn end(&mut self, mark: Option<TextMark>, request: &RequestId) {
        self.number(request);
        self.out.push(b'}');
        self.finish(mark);
    }

    fn number(&mut self, request: &RequestId) {
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
    }

    fn finish(&mut self, mark: Option<TextMark>) {
        match mark {
            None => self.out.extend_from_slice(b"\r\n"),
            Some(mark) => {
                escape_separators(self.out, mark.payload_start());
                ws::finish_text(self.out, mark);
            }
        }
    }
}

/// What `detailsView` shows.
pub(super) struct Details<'a> {
    pub(super) conn: &'a ConnFacts,
    /// The sticky params as JSON text.
    pub(super) params: &'a str,
    pub(super) rooms: &'a [RoomName],
    pub(super) total_actions: u32,
    pub(super) pending_actions: u16,
}

impl Details<'_> {
    /// In the real server's order.
    pub(super) fn json(&self) -> String {
        let conn = self.conn;
        let mut out = Vec::with_capacity(256);
        let text = |out: &mut Vec<u8>, name: &str, value: &str| {
            out.extend_from_slice(name.as_bytes());
            write_text(out, value);
        };
        text(&mut out, "{\"id\":", conn.id.text().as_str());
        match conn.fingerprint() {
            Some(fingerprint) => text(&mut out, ",\"fingerprint\":", fingerprint),
            None => out.extend_from_slice(b",\"fingerprint\":null"),
        }
        text(&mut out, ",\"remoteIP\":", &conn.remote.to_string());
        out.extend_from_slice(b",\"remotePort\":");
        write_number(&mut out, conn.remote.port().into());
        out.extend_from_slice(b",\"params\":");
        out.extend_from_slice(self.params.as_bytes());
        out.extend_from_slice(b",\"connectedAt\":");
        write_number(&mut out, conn.connected_at);
        out.extend_from_slice(b",\"rooms\":[");
        for (index, room) in self.rooms.iter().enumerate() {
            text(&mut out, if index > 0 { "," } else { "" }, room.as_str());
        }
        out.extend_from_slice(b"],\"totalActions\":");
        write_number(&mut out, self.total_actions.into());
        out.extend_from_slice(b",\"pendingActions\":");
        write_number(&mut out, self.pending_actions.into());
        out.push(b'}');
        // The writers above write UTF-8 only.
        String::from_utf8(out).unwrap_or_default()
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
