//! The shapes of what a client is sent, each a frame of its own.

use crate::command::CommandDelivery;
use crate::frame::ws;
use crate::json::{write_number, write_text};
use crate::user::User;

use super::ejson;
use super::errors::Refusal;

/// The document of all streams, which none of them has.
const STREAM_DOCUMENT: &str = "id";

/// Frames for one client.
#[derive(Debug)]
pub(super) struct Answers<'a> {
    pub(super) out: &'a mut Vec<u8>,
}

impl Answers<'_> {
    fn frame(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let mark = ws::begin_text(self.out);
        write(self.out);
        ws::finish_text(self.out, mark);
    }

    /// What Meteor says first: ddp.js knows this very text and warns of any other.
    pub(super) fn greeting(&mut self) {
        self.frame(|out| put(out, r#"{"server_id":"0"}"#));
    }

    pub(super) fn connected(&mut self, session: &str) {
        self.frame(|out| {
            put(out, r#"{"msg":"connected","session":"#);
            write_text(out, session);
            put(out, "}");
        });
    }

    /// No common version; this one is proposed.
    pub(super) fn failed(&mut self, version: &str) {
        self.frame(|out| {
            put(out, r#"{"msg":"failed","version":"#);
            write_text(out, version);
            put(out, "}");
        });
    }

    pub(super) fn ping(&mut self) {
        self.frame(|out| put(out, r#"{"msg":"ping"}"#));
    }

    /// `id` is the JSON text of the ping's, if it had one.
    pub(super) fn pong(&mut self, id: Option<&str>) {
        self.frame(|out| {
            put(out, r#"{"msg":"pong""#);
            if let Some(id) = id {
                put(out, r#","id":"#);
                put(out, id);
            }
            put(out, "}");
        });
    }

    /// A frame is wrong in itself; `offending` is that frame, if it is to be shown.
    pub(super) fn error(&mut self, reason: &str, offending: Option<&str>) {
        self.frame(|out| {
            put(out, r#"{"msg":"error","reason":"#);
            write_text(out, reason);
            if let Some(offending) = offending {
                put(out, r#","offendingMessage":"#);
                put(out, offending);
            }
            put(out, "}");
        });
    }

    /// A method has no value to return.
    pub(super) fn done(&mut self, id: &str) {
        self.frame(|out| {
            put(out, r#"{"msg":"result","id":"#);
            write_text(out, id);
            put(out, "}");
        });
        self.updated(id);
    }

    /// A method returns what `write` writes.
    pub(super) fn result(&mut self, id: &str, write: impl FnOnce(&mut Vec<u8>)) {
        self.frame(|out| {
            put(out, r#"{"msg":"result","id":"#);
            write_text(out, id);
            put(out, r#","result":"#);
            write(out);
            put(out, "}");
        });
        self.updated(id);
    }

    pub(super) fn refused(&mut self, id: &str, refusal: &Refusal) {
        self.frame(|out| {
            put(out, r#"{"msg":"result","id":"#);
            write_text(out, id);
            put(out, r#","error":"#);
            refusal.write(out);
            put(out, "}");
        });
        self.updated(id);
    }

    fn updated(&mut self, id: &str) {
        self.frame(|out| {
            put(out, r#"{"msg":"updated","methods":["#);
            write_text(out, id);
            put(out, "]}");
        });
    }

    /// One for each subscription: some clients look at the first only.
    pub(super) fn ready(&mut self, id: &str) {
        self.frame(|out| {
            put(out, r#"{"msg":"ready","subs":["#);
            write_text(out, id);
            put(out, "]}");
        });
    }

    /// A subscription has ended, because of `refusal` if there is one.
    pub(super) fn nosub(&mut self, id: &str, refusal: Option<&Refusal>) {
        self.frame(|out| {
            put(out, r#"{"msg":"nosub","id":"#);
            write_text(out, id);
            if let Some(refusal) = refusal {
                put(out, r#","error":"#);
                refusal.write(out);
            }
            put(out, "}");
        });
    }

    /// The user to his own session.
    pub(super) fn user_added(&mut self, user: &User) {
        self.frame(|out| {
            put(out, r#"{"msg":"added","collection":"users","id":"#);
            write_text(out, user.id());
            put(out, r#","fields":{"username":"#);
            write_text(out, user.name());
            put(out, "}}");
        });
    }

    /// Opens a stream for clients that keep its documents.
    pub(super) fn stream_added(&mut self, stream: &str, event: &str) {
        self.frame(|out| {
            put(out, r#"{"msg":"added","collection":"#);
            write_text(out, stream);
            put(out, r#","id":""#);
            put(out, STREAM_DOCUMENT);
            put(out, r#"","fields":{"eventName":"#);
            write_text(out, event);
            put(out, "}}");
        });
    }

    /// Something happened on a stream; `write` writes the arguments, commas between them.
    pub(super) fn stream_changed(&mut self, stream: &str, event: &str, write: impl FnOnce(&mut Vec<u8>)) {
        self.frame(|out| write_stream_changed(out, stream, event, write));
    }
}

/// The JSON of a `changed` frame of a stream.
pub(super) fn write_stream_changed(out: &mut Vec<u8>, stream: &str, event: &str, write: impl FnOnce(&mut Vec<u8>)) {
    put(out, r#"{"msg":"changed","collection":"#);
    write_text(out, stream);
    put(out, r#","id":""#);
    put(out, STREAM_DOCUMENT);
    put(out, r#"","fields":{"eventName":"#);
    write_text(out, event);
    put(out, r#","args":["#);
    write(out);
    put(out, "]}}");
}

/// A command as clients of either generation expect it: those of the first read `cmd.key`, those of the second `key` and
/// `data`. Without `cmd` and `ts` the first ones die.
pub(super) fn write_command(out: &mut Vec<u8>, delivery: &CommandDelivery) {
    let document = &*delivery.document;
    put(out, r#"{"_id":"#);
    write_text(out, document.id.as_str());
    put(out, r#","key":"#);
    write_text(out, &document.key);
    put(out, r#","u":{"_id":"#);
    write_text(out, &delivery.to.id());
    put(out, r#","username":"#);
    write_text(out, &delivery.to.name());
    put(out, r#"},"cmd":"#);
    put(out, document.command.as_str());
    put(out, r#","ts":"#);
    ejson::write_date(out, delivery.ts);
    put(out, r#","ttl_ms":"#);
    write_number(out, delivery.ttl_ms);
    if let Some(data) = &document.data {
        put(out, r#","data":"#);
        put(out, data.as_str());
    }
    put(out, "}");
}

pub(super) fn put(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(text.as_bytes());
}
