//! What a DDP session is sent of its rooms, and the documents of messages.

use serde_json::value::RawValue;

use crate::call::RoomKind;
use crate::command::guest_name;
use crate::document::{OWN, members};
use crate::event::{RoomMessage, Sender};
use crate::frame::ws;
use crate::json::{write_number_or_null, write_text};

use super::answer::{put, write_stream_changed};
use super::ejson::write_date;
use super::rooms;
use super::subscriptions::{MY_MESSAGES, ROOM_MESSAGES};

/// Who hears a message, which decides what surrounds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Audience {
    /// Members that subscribed to all their rooms.
    Members,
    /// Those who subscribed so and are not members.
    Listeners,
    /// Those who subscribed to this room.
    Room,
}

/// The message as a text frame: `changed` of the stream of room messages.
pub(crate) fn write_room_message(
    message: &RoomMessage,
    audience: Audience,
    kind: RoomKind,
    stamp_ms: u64,
    out: &mut Vec<u8>,
) {
    let mark = ws::begin_text(out);
    match audience {
        Audience::Room => write_stream_changed(out, ROOM_MESSAGES, &rooms::id_of(&message.room), |out| {
            write_document(message, stamp_ms, out);
        }),
        Audience::Members | Audience::Listeners => write_stream_changed(out, ROOM_MESSAGES, MY_MESSAGES, |out| {
            write_document(message, stamp_ms, out);
            put(out, ",");
            write_meta(message, audience == Audience::Members, kind, out);
        }),
    }
    ws::finish_text(out, mark);
}

/// What the SDK reads beside each message, and dies without.
fn write_meta(message: &RoomMessage, is_member: bool, kind: RoomKind, out: &mut Vec<u8>) {
    put(out, r#"{"roomParticipant":"#);
    put(out, if is_member { "true" } else { "false" });
    put(out, r#","roomType":""#);
    put(out, type_of(kind));
    put(out, r#"""#);
    if kind != RoomKind::Direct {
        put(out, r#","roomName":"#);
        write_text(out, message.room.as_str());
    }
    put(out, "}");
}

fn type_of(kind: RoomKind) -> &'static str {
    match kind {
        RoomKind::Public => "c",
        RoomKind::Restricted => "p",
        RoomKind::Direct => "d",
    }
}

/// Members of a document that come from the server, in the order in which they stand where the sender wrote none.
#[derive(Clone, Copy)]
enum Own {
    Id,
    Room,
    Text,
    SentAt,
    User,
    UpdatedAt,
    Mentions,
    Channels,
    Number,
}

impl Own {
    const ALL: [(&'static str, Self); OWN.len()] = [
        ("_id", Self::Id),
        ("rid", Self::Room),
        ("msg", Self::Text),
        ("ts", Self::SentAt),
        ("u", Self::User),
        ("_updatedAt", Self::UpdatedAt),
        ("mentions", Self::Mentions),
        ("channels", Self::Channels),
        ("number", Self::Number),
    ];
}

/// The document of a message: what its sender wrote, members in his order, those that are the server's replaced; then those
/// of the server that he did not write.
pub(super) fn write_document(message: &RoomMessage, stamp_ms: u64, out: &mut Vec<u8>) {
    let members = message.attachment().map(|attachment| members(attachment.as_str())).unwrap_or_default();
    let has_text = message.attachment().is_none() || !message.body.is_blank();
    let mut is_written = [false; Own::ALL.len()];
    let mut separator = "{";
    for (name, given) in &members {
        let own = Own::ALL.iter().position(|(own, _)| own == name);
        put(out, std::mem::replace(&mut separator, ","));
        write_text(out, name);
        put(out, ":");
        match own {
            Some(at) => {
                is_written[at] = true;
                write_own(Own::ALL[at].1, Some(given), message, stamp_ms, out);
            }
            None => put(out, given.get()),
        }
    }
    for (at, (name, own)) in Own::ALL.into_iter().enumerate() {
        let is_absent = match own {
            Own::Text => !has_text,
            Own::Number => message.number == 0,
            _ => false,
        };
        if is_written[at] || is_absent {
            continue;
        }
        put(out, std::mem::replace(&mut separator, ","));
        write_text(out, name);
        put(out, ":");
        write_own(own, None, message, stamp_ms, out);
    }
    put(out, "}");
}

fn write_own(own: Own, given: Option<&RawValue>, message: &RoomMessage, stamp_ms: u64, out: &mut Vec<u8>) {
    match own {
        Own::Id => write_text(out, &message.id()),
        Own::Room => write_text(out, &rooms::id_of(&message.room)),
        Own::Text => match message.body.as_str() {
            text if text.starts_with('"') => put(out, text),
            // Clients know texts only: anything else is shown as it is written.
            json => write_text(out, json),
        },
        Own::SentAt | Own::UpdatedAt => write_date(out, stamp_ms),
        Own::User => write_user(message, out),
        // Clients walk through them without asking what they are.
        Own::Mentions | Own::Channels => {
            put(out, given.map(RawValue::get).filter(|given| given.starts_with('[')).unwrap_or("[]"));
        }
        // A sender may have written one.
        Own::Number => write_number_or_null(out, message.number),
    }
}

/// The sender, of whom there must be one in every document.
fn write_user(message: &RoomMessage, out: &mut Vec<u8>) {
    let (id, name) = match (&message.user, &message.sender) {
        (Some(user), _) => {
            put(out, r#"{"_id":"#);
            write_text(out, user.id());
            put(out, r#","username":"#);
            write_text(out, user.name());
            put(out, r#","name":"#);
            write_text(out, user.name());
            return put(out, "}");
        }
        (None, Sender::Connection(id)) => (id.to_string(), guest_name(*id)),
        (None, Sender::Named(name)) => (name.to_string(), name.to_string()),
        (None, Sender::Server) => ("0".to_owned(), "server".to_owned()),
    };
    put(out, r#"{"_id":"#);
    write_text(out, &id);
    put(out, r#","username":"#);
    write_text(out, &name);
    put(out, "}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::MessageExtra;
    use crate::id::{ConnId, RoomName};
    use crate::json::RawJson;
    use crate::user::User;
    use serde_json::json;

    fn said(body: RawJson, attachment: Option<&str>) -> RoomMessage {
        RoomMessage {
            room: RoomName::parse("a/b").unwrap(),
            number: 7,
            sender: Sender::Connection(ConnId::from_random(0xabc)),
            body,
            sent_at: 1,
            epoch: 1,
            user: Some(User::named("u1", "bot").unwrap()),
            extra: Some(Box::new(MessageExtra {
                id: Some("m1".into()),
                attachment: attachment.map(RawJson::from_parsed),
            })),
        }
    }

    fn document(message: &RoomMessage) -> String {
        let mut out = Vec::new();
        write_document(message, 1000, &mut out);
        String::from_utf8(out).unwrap()
    }

    fn frame(message: &RoomMessage, audience: Audience, kind: RoomKind) -> String {
        let mut out = Vec::new();
        write_room_message(message, audience, kind, 1000, &mut out);
        String::from_utf8_lossy(&out[4..]).into_owned()
    }

    const OWN: &str = r#""ts":{"$date":1000},"u":{"_id":"u1","username":"bot","name":"bot"},"_updatedAt":{"$date":1000},"mentions":[],"channels":[],"number":7"#;

    #[test]
    fn no_member_of_the_server_is_left_out_of_a_document() {
        assert_eq!(Own::ALL.map(|(name, _)| name), crate::document::OWN);
    }

    #[test]
    fn what_was_said_elsewhere_is_a_complete_document() {
        let message = said("hello".into(), None);
        assert_eq!(document(&message), format!(r#"{{"_id":"m1","rid":"a%2Fb","msg":"hello",{OWN}}}"#));
        let message = said(json!({"deep": "\u{e9}"}).into(), None);
        assert_eq!(document(&message), format!(r#"{{"_id":"m1","rid":"a%2Fb","msg":"{{\"deep\":\"é\"}}",{OWN}}}"#));
    }

    #[test]
    fn what_the_sender_wrote_is_kept_in_his_order_and_what_is_the_servers_is_replaced() {
        let given = r#"{"msg":"old","bot":{"i":"x"},"rid":"mine","n":1.0,"u":"me","ts":5,"mentions":[{"a":1}],"channels":7,"number":{}}"#;
        let message = said("new".into(), Some(given));
        assert_eq!(
            document(&message),
            r#"{"msg":"new","bot":{"i":"x"},"rid":"a%2Fb","n":1.0,"u":{"_id":"u1","username":"bot","name":"bot"},"ts":{"$date":1000},"mentions":[{"a":1}],"channels":[],"number":7,"_id":"m1","_updatedAt":{"$date":1000}}"#
        );
    }

    #[test]
    fn a_message_without_a_text_stays_without_one() {
        let message = said("".into(), Some(r#"{"attachments":[]}"#));
        assert_eq!(document(&message), format!(r#"{{"attachments":[],"_id":"m1","rid":"a%2Fb",{OWN}}}"#));
    }

    #[test]
    fn every_sender_has_an_id_and_a_name() {
        for (sender, shown) in [
            (
                Sender::Connection(ConnId::from_random(0xabc)),
                r#""u":{"_id":"00000000-0000-4000-8000-000000000abc","username":"guest-00000000"}"#,
            ),
            (Sender::Server, r#""u":{"_id":"0","username":"server"}"#),
            (Sender::Named("weather".into()), r#""u":{"_id":"weather","username":"weather"}"#),
        ] {
            let message = RoomMessage { sender, user: None, ..said("x".into(), None) };
            let document = document(&message);
            assert!(document.contains(shown), "{document}");
        }
    }

    #[test]
    fn all_rooms_together_say_which_room_it_is() {
        let message = said("hello".into(), None);
        let document = document(&message);
        for (audience, kind, meta) in [
            (Audience::Members, RoomKind::Public, r#"{"roomParticipant":true,"roomType":"c","roomName":"a/b"}"#),
            (Audience::Listeners, RoomKind::Restricted, r#"{"roomParticipant":false,"roomType":"p","roomName":"a/b"}"#),
            (Audience::Members, RoomKind::Direct, r#"{"roomParticipant":true,"roomType":"d"}"#),
        ] {
            assert_eq!(
                frame(&message, audience, kind),
                format!(
                    r#"{{"msg":"changed","collection":"stream-room-messages","id":"id","fields":{{"eventName":"__my_messages__","args":[{document},{meta}]}}}}"#
                )
            );
        }
    }

    #[test]
    fn one_room_is_named_by_its_id() {
        let message = said("hello".into(), None);
        let document = document(&message);
        assert_eq!(
            frame(&message, Audience::Room, RoomKind::Public),
            format!(
                r#"{{"msg":"changed","collection":"stream-room-messages","id":"id","fields":{{"eventName":"a%2Fb","args":[{document}]}}}}"#
            )
        );
    }
}
