//! What ActionHero's connections are sent that they did not ask for: room messages and gap notices.

use crate::event::{RoomMessage, Sender};
use crate::id::RoomName;
use crate::json::{write_number, write_text};

/// `{"message","room","from","context":"user","sentAt"}` and CR LF.
pub(crate) fn write_room_message(message: &RoomMessage, out: &mut Vec<u8>) {
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
    out.extend_from_slice(b"}\r\n");
}

/// `{"gap":{"first","last"},"room","context":"api"}` and CR LF: our own addition; real clients pass over it.
pub(crate) fn write_gap(room: &RoomName, first: u64, last: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"gap\":{\"first\":");
    write_number(out, first);
    out.extend_from_slice(b",\"last\":");
    write_number(out, last);
    out.extend_from_slice(b"},\"room\":");
    write_text(out, room.as_str());
    out.extend_from_slice(b",\"context\":\"api\"}\r\n");
}
