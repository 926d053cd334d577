//! What nodes say to each other, as text: JSON, so that a node understands others that are a version older or newer.
//!
//! A *question* is answered, by the same number; a *note* is not. What a node does not understand it answers with `unavailable`, or
//! passes over.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use switchboard_proto::call::CallError;
use switchboard_proto::id::{ConnId, RoomName};
use switchboard_proto::json::RawJson;

/// One message.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Message<Q, N> {
    /// A question.
    Ask(u64, Q),
    /// The answer to one of ours will come, but not soon.
    Wait(u64),
    /// The answer to one of ours.
    Answer(u64, Result<Box<RawValue>, Refusal>),
    /// Something that is not answered.
    Note(N),
}

/// An error that one node tells another.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Refusal {
    code: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    about: String,
}

impl From<CallError> for Refusal {
    fn from(error: CallError) -> Self {
        let (code, about) = match error {
            CallError::BadRoomName(_) | CallError::NoSuchRoom => ("no-such-room", String::new()),
            CallError::AlreadyMember(room) => ("already-member", room.to_string()),
            CallError::NotMember(room) => ("not-member", room.to_string()),
            CallError::MessageRequired => ("message-required", String::new()),
            CallError::NoSuchConnection => ("no-such-connection", String::new()),
            CallError::NotAuthorized => ("not-authorized", String::new()),
            CallError::Refused(why) => ("refused", why),
            CallError::TooManyRooms => ("too-many-rooms", String::new()),
            CallError::NotSupported => ("not-supported", String::new()),
            CallError::TooManyRoomsOfConnection => ("too-many-rooms-of-connection", String::new()),
            CallError::NotLoggedIn => ("not-logged-in", String::new()),
            CallError::NoSuchUser => ("no-such-user", String::new()),
            CallError::TooManyRequests { retry_ms } => ("too-many-requests", retry_ms.to_string()),
            CallError::MessageTooLarge => ("message-too-large", String::new()),
            CallError::ReplyTooLarge => ("reply-too-large", String::new()),
            // Whatever else there is cannot come of what nodes ask each other.
            _ => ("unavailable", String::new()),
        };
        Self { code: code.to_owned(), about }
    }
}

impl From<Refusal> for CallError {
    fn from(Refusal { code, about }: Refusal) -> Self {
        let room = |error: fn(RoomName) -> Self| RoomName::restore(&about).map_or(Self::Unavailable, error);
        match code.as_str() {
            "no-such-room" => Self::NoSuchRoom,
            "already-member" => room(Self::AlreadyMember),
            "not-member" => room(Self::NotMember),
            "message-required" => Self::MessageRequired,
            "no-such-connection" => Self::NoSuchConnection,
            "not-authorized" => Self::NotAuthorized,
            "refused" => Self::Refused(about),
            "too-many-rooms" => Self::TooManyRooms,
            "not-supported" => Self::NotSupported,
            "too-many-rooms-of-connection" => Self::TooManyRoomsOfConnection,
            "not-logged-in" => Self::NotLoggedIn,
            "no-such-user" => Self::NoSuchUser,
            "too-many-requests" => Self::TooManyRequests { retry_ms: about.parse().unwrap_or(1000) },
            "message-too-large" => Self::MessageTooLarge,
            "reply-too-large" => Self::ReplyTooLarge,
            _ => Self::Unavailable,
        }
    }
}

/// An answer, as text.
pub(super) fn answer(value: &impl Serialize) -> Result<Box<RawValue>, CallError> {
    serde_json::value::to_raw_value(value).map_err(|error| {
        tracing::error!(%error, "an answer for another node could not be written");
        CallError::Unavailable
    })
}

/// What another node answered.
pub(super) fn read<T: DeserializeOwned>(answer: &RawValue) -> Result<T, CallError> {
    serde_json::from_str(answer.get()).map_err(|error| {
        tracing::warn!(%error, "another node has answered what nobody understands");
        CallError::Unavailable
    })
}

/// Ids of connections and sessions, as texts.
pub(in crate::node) mod conn_id {
    use super::ConnId;
    use serde::de::Error as _;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(in crate::node) fn serialize<S: Serializer>(id: &ConnId, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(id)
    }

    pub(in crate::node) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ConnId, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        ConnId::parse(&text).ok_or_else(|| D::Error::custom("not an id"))
    }
}

/// Names of rooms.
pub(in crate::node) mod room_name {
    use super::RoomName;
    use serde::de::Error as _;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(in crate::node) fn serialize<S: Serializer>(room: &RoomName, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(room)
    }

    pub(in crate::node) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<RoomName, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        RoomName::restore(&text).ok_or_else(|| D::Error::custom("not a room's name"))
    }
}

/// Names of several rooms.
pub(in crate::node) mod room_names {
    use super::RoomName;
    use serde::de::Error as _;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(in crate::node) fn serialize<S: Serializer>(rooms: &[RoomName], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(rooms.iter().map(RoomName::as_str))
    }

    pub(in crate::node) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<RoomName>, D::Error> {
        let texts = Vec::<String>::deserialize(deserializer)?;
        let names = texts.iter().map(|text| RoomName::restore(text));
        names.collect::<Option<_>>().ok_or_else(|| D::Error::custom("not a room's name"))
    }
}

/// JSON that was checked at the edge of another node.
pub(in crate::node) mod raw_json {
    use super::{RawJson, RawValue};
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(in crate::node) fn serialize<S: Serializer>(json: &RawJson, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::Error as _;
        serde_json::from_str::<&RawValue>(json.as_str()).map_err(S::Error::custom)?.serialize(serializer)
    }

    pub(in crate::node) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<RawJson, D::Error> {
        let text = Box::<RawValue>::deserialize(deserializer)?;
        Ok(RawJson::from_parsed(text.get()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_all_rooms_come_through() {
        #[derive(Debug, PartialEq, Serialize, Deserialize)]
        struct Rooms {
            #[serde(with = "room_name")]
            one: RoomName,
            #[serde(with = "room_names")]
            several: Vec<RoomName>,
        }
        let several = vec![RoomName::parse("ö \u{22}").unwrap(), RoomName::direct("u1", "u2")];
        let rooms = Rooms { one: RoomName::direct("u2", "u1"), several };
        let text = serde_json::to_string(&rooms).unwrap();
        assert_eq!(serde_json::from_str::<Rooms>(&text).unwrap(), rooms);
        for odd in [r#"{"one":"","several":[]}"#, r#"{"one":"a","several":["\u0002"]}"#] {
            assert!(serde_json::from_str::<Rooms>(odd).is_err(), "{odd}");
        }
    }

    #[test]
    fn errors_come_through_as_what_they_are() {
        let lobby = RoomName::parse("lobby").unwrap();
        for error in [
            CallError::NoSuchRoom,
            CallError::AlreadyMember(lobby),
            CallError::NotMember(RoomName::direct("u1", "u2")),
            CallError::MessageRequired,
            CallError::NoSuchConnection,
            CallError::NotAuthorized,
            CallError::Refused("because".into()),
            CallError::TooManyRooms,
            CallError::NotSupported,
            CallError::TooManyRoomsOfConnection,
            CallError::NotLoggedIn,
            CallError::NoSuchUser,
            CallError::TooManyRequests { retry_ms: 5 },
            CallError::MessageTooLarge,
            CallError::ReplyTooLarge,
            CallError::Unavailable,
        ] {
            let text = format!("{error:?}");
            let sent = serde_json::to_string(&Refusal::from(error)).unwrap();
            let received: Refusal = serde_json::from_str(&sent).unwrap();
            assert_eq!(format!("{:?}", CallError::from(received)), text);
        }
        let newer: Refusal = serde_json::from_str(r#"{"code":"something-new","why":1}"#).unwrap();
        assert!(matches!(CallError::from(newer), CallError::Unavailable));
    }
}
