//! Events as the gateway writes them, all but their number: see [`LogItem`].

use serde::Deserialize;

use crate::event::{RoomMessage, Sender};
use crate::id::RoomName;
use crate::json::{RawJson, write_number, write_number_or_null, write_text};
use crate::shard::LogItem;

/// An application's event. Its name is one that [`is_event_name`] lets through.
pub fn application(name: &str, data: &RawJson) -> LogItem {
    item("gateway", name, |out| put(out, data.as_str()))
}

/// Whether an application may call an event so: a capital letter, then up to 63 capital letters, digits and underscores; and
/// no name of the gateway's own events, which bots trust.
pub fn is_event_name(name: &str) -> bool {
    let is_part = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_';
    name.starts_with(|first: char| first.is_ascii_uppercase())
        && name.len() <= 64
        && name.bytes().all(is_part)
        && !name.starts_with("GATEWAY_")
        && name != INTERACTION_NAME
}

/// Something said in a room.
pub fn room_message(message: &RoomMessage) -> LogItem {
    item("gateway", "GATEWAY_ROOM_MESSAGE", |out| {
        put(out, r#"{"room":"#);
        write_text(out, message.room.as_str());
        put(out, r#","message":"#);
        put(out, message.body.as_str());
        put(out, r#","from":"#);
        match &message.sender {
            Sender::Connection(id) => write_text(out, id.text().as_str()),
            Sender::Named(name) => write_text(out, name),
            Sender::Server => put(out, "0"),
        }
        put(out, r#","user":"#);
        match &message.user {
            Some(user) => write_text(out, user.name()),
            None => put(out, "null"),
        }
        put(out, r#","sentAt":"#);
        write_number(out, message.sent_at);
        put(out, r#","number":"#);
        write_number_or_null(out, message.number);
        put(out, "}");
    })
}

/// Messages of a room are missing; up to which one, if that is known.
pub fn room_gap(room: &RoomName, first: u64, last: Option<u64>) -> LogItem {
    item("gateway", "GATEWAY_ROOM_GAP", |out| {
        put(out, r#"{"room":"#);
        write_text(out, room.as_str());
        put(out, r#","first":"#);
        write_number(out, first);
        put(out, r#","last":"#);
        match last {
            Some(last) => write_number(out, last),
            None => put(out, "null"),
        }
        put(out, "}");
    })
}

/// Something that server code tells this shard.
pub fn message(message: &RawJson) -> LogItem {
    item("gateway", "GATEWAY_MESSAGE", |out| put(out, message.as_str()))
}

/// An interaction of this type that came for this shard of so many.
pub fn interaction(shard: u32, total: u32, kind: u32, body: &RawJson) -> LogItem {
    item("http_gateway", INTERACTION_NAME, |out| {
        put(out, r#"{"shard_id":"#);
        write_number(out, shard.into());
        put(out, r#","shard_total":"#);
        write_number(out, total.into());
        put(out, r#","flag":"#);
        write_number(out, 1_u64.checked_shl(kind).unwrap_or_default());
        put(out, r#","metadata_http":["#);
        put(out, body.as_str());
        put(out, "]}");
    })
}

/// Returns the id of an interaction; `None`: the item is something else.
pub(super) fn interaction_id(item: &LogItem) -> Option<String> {
    #[derive(Deserialize)]
    struct Data {
        metadata_http: [Body; 1],
    }
    #[derive(Deserialize)]
    struct Body {
        id: String,
    }
    // Called for every event that is written, and few are interactions: others are not parsed.
    let data = item.as_str().strip_prefix(INTERACTION)?;
    let Data { metadata_http: [body] } = serde_json::from_str(data).ok()?;
    Some(body.id)
}

const INTERACTION_NAME: &str = "INTERACTION_DISCORD";

/// An interaction up to its data.
const INTERACTION: &str = r#"{"type":8,"service":"http_gateway","event":"INTERACTION_DISCORD","data":"#;

fn item(service: &str, name: &str, data: impl FnOnce(&mut Vec<u8>)) -> LogItem {
    let mut out = format!(r#"{{"type":8,"service":"{service}","event":"{name}","data":"#).into_bytes();
    data(&mut out);
    // Nothing but texts was put together.
    LogItem::new(String::from_utf8(out).unwrap_or_default())
}

fn put(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_application_cannot_call_an_event_as_the_gateway_calls_its_own() {
        for name in ["NEWS", "INTERACTION", "INTERACTION_DISCORD_2"] {
            assert!(is_event_name(name), "{name}");
        }
        for name in ["GATEWAY_READY", "INTERACTION_DISCORD", "news", "", "1ST"] {
            assert!(!is_event_name(name), "{name}");
        }
    }
}
