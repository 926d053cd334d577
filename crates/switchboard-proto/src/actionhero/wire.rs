//! What ActionHero's connections are sent that they did not ask for: room messages and gap notices.

use crate::event::{RoomMessage, Sender};
use crate::frame::ws::deflate::Deflater;
use crate::frame::ws::{self, MessageKind};
use crate::id::RoomName;
use crate::json::{escape_separators, write_number, write_number_or_null, write_text};

/// Shorter messages are not worth the compressor's time.
const DEFLATE_FROM_BYTES: usize = 128;

/// How much of a message is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Extent {
    /// What ActionHero's servers show.
    #[default]
    Plain,
    /// Number and user too, for clients that said they want them.
    Extended,
}

/// The message and CR LF.
pub(crate) fn write_room_line(message: &RoomMessage, extent: Extent, out: &mut Vec<u8>) {
    write_room_json(message, extent, out);
    out.extend_from_slice(b"\r\n");
}

/// The message as a text frame.
pub(crate) fn write_room_message(message: &RoomMessage, extent: Extent, out: &mut Vec<u8>) {
    let mark = ws::begin_text(out);
    write_room_json(message, extent, out);
    escape_separators(out, mark.payload_start());
    ws::finish_text(out, mark);
}

/// The message as a text frame, deflated where that makes it shorter.
pub(crate) fn write_deflated_room_message(
    message: &RoomMessage,
    extent: Extent,
    deflater: &mut Deflater,
    out: &mut Vec<u8>,
) {
    let mut json = Vec::with_capacity(message.body.as_str().len() + message.room.as_str().len() + 128);
    write_room_json(message, extent, &mut json);
    escape_separators(&mut json, 0);
    if json.len() < DEFLATE_FROM_BYTES {
        return ws::write_message(out, MessageKind::Text, &json);
    }
    let mut deflated = Vec::new();
    deflater.write_message(&mut deflated, MessageKind::Text, &json);
    if deflated.len() < json.len() {
        out.append(&mut deflated);
    } else {
        ws::write_message(out, MessageKind::Text, &json);
    }
}

/// `{"message","room","from","context":"user","sentAt"}`, and `"number","user"`.
fn write_room_json(message: &RoomMessage, extent: Extent, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"message\":");
    out.extend_from_slice(message.body.as_str().as_bytes());
    out.extend_from_slice(b",\"room\":");
    write_text(out, message.room.as_str());
    out.extend_from_slice(b",\"from\":");
    match &message.sender {
        Sender::Connection(id) => {
            out.push(b'"');
            out.extend_from_slice(id.text().as_str().as_bytes());
            out.push(b'"');
        }
        Sender::Named(name) => write_text(out, name),
        Sender::Server => out.push(b'0'),
    }
    out.extend_from_slice(b",\"context\":\"user\",\"sentAt\":");
    write_number(out, message.sent_at);
    if extent == Extent::Extended {
        out.extend_from_slice(b",\"number\":");
        write_number_or_null(out, message.number);
        out.extend_from_slice(b",\"user\":");
        match &message.user {
            Some(user) => write_text(out, user.name()),
            None => out.extend_from_slice(b"null"),
        }
    }
    out.push(b'}');
}

/// The notice and CR LF.
pub(crate) fn write_gap_line(room: &RoomName, first: u64, last: Option<u64>, out: &mut Vec<u8>) {
    write_gap_json(room, first, last, out);
    out.extend_from_slice(b"\r\n");
}

/// The notice as a text frame.
pub(crate) fn write_gap_message(room: &RoomName, first: u64, last: Option<u64>, out: &mut Vec<u8>) {
    let mark = ws::begin_text(out);
    write_gap_json(room, first, last, out);
    escape_separators(out, mark.payload_start());
    ws::finish_text(out, mark);
}

/// `{"gap":{"first","last"},"room","context":"api"}`: our own addition; real clients pass over it.
fn write_gap_json(room: &RoomName, first: u64, last: Option<u64>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"gap\":{\"first\":");
    write_number_or_null(out, first);
    out.extend_from_slice(b",\"last\":");
    write_number_or_null(out, last.unwrap_or_default());
    out.extend_from_slice(b"},\"room\":");
    write_text(out, room.as_str());
    out.extend_from_slice(b",\"context\":\"api\"}");
}
