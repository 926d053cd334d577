//! The words a client reads when something is refused.

use crate::call::{ActionError, CallError};

use super::settings::Compat;

pub(super) const CLIENT_DATA_REQUIRED: &str = "client data must be a JSON object";
pub(super) const FILE_NOT_FOUND_CLASSIC: &str = "Sorry, that file is not found :(";
pub(super) const FILE_NOT_FOUND_MODERN: &str = "that file is not found";
pub(super) const LINE_TOO_LONG_MODERN: &str = "DATA_LENGTH_TOO_LONG";
pub(super) const MESSAGE_REQUIRED: &str = "both room and message are required";
pub(super) const NOT_UTF_8: &str = "line is not valid UTF-8";
pub(super) const NO_SUCH_ROOM: &str = "room does not exist";
pub(super) const REPLY_REQUIRED: &str = "the id of a command and a JSON object are required";
pub(super) const SHUTTING_DOWN: &str = "the server is shutting down";
pub(super) const TOO_MANY_PARAMS: &str = "too many params";
pub(super) const TOO_MANY_PENDING: &str = "you have too many pending requests";
pub(super) const TOO_MANY_ROOMS: &str = "too many rooms";
pub(super) const UNAVAILABLE: &str = "unavailable";

/// A line that was too long. The real server prints limit and length in each other's place.
pub(super) fn line_too_long(bytes: usize, limit: usize) -> String {
    format!("data length is too big ({limit} received/{bytes} max)")
}

/// Not in the room; `room` as the client wrote it, `undefined` when it wrote none.
pub(super) fn not_member(compat: Compat, room: Option<&str>) -> String {
    in_room(compat, "connection not in this room", room)
}

/// Asked about a room from outside.
pub(super) fn not_viewer(compat: Compat, room: Option<&str>) -> String {
    match compat {
        Compat::Auto | Compat::Classic => format!("not member of room {}", room.unwrap_or("undefined")),
        Compat::Modern => not_member(compat, room),
    }
}

/// A verb that this wire does not know, under the name that the client gave it.
pub(super) fn unknown_verb(compat: Compat, name: &str) -> String {
    match compat {
        Compat::Auto | Compat::Classic => "verb not found or not allowed".to_owned(),
        Compat::Modern => format!("verb not found or not allowed ({name})"),
    }
}

fn in_room(compat: Compat, text: &str, room: Option<&str>) -> String {
    match compat {
        Compat::Auto | Compat::Classic => text.to_owned(),
        Compat::Modern => format!("{text} ({})", room.unwrap_or("undefined")),
    }
}

/// The reason of a connection that is not let in.
pub(super) fn refused_connection(error: &CallError) -> &str {
    match error {
        CallError::Refused(reason) => reason,
        // Whatever the cause was, the log has it.
        _ => UNAVAILABLE,
    }
}

/// The reason of a refused verb.
pub(super) fn refused_verb(compat: Compat, error: &CallError) -> String {
    match error {
        CallError::AlreadyMember(room) => in_room(compat, "connection already in this room", Some(room.as_str())),
        CallError::NotMember(room) => not_member(compat, Some(room.as_str())),
        CallError::FileNotFound => match compat {
            Compat::Auto | Compat::Classic => FILE_NOT_FOUND_CLASSIC.to_owned(),
            Compat::Modern => FILE_NOT_FOUND_MODERN.to_owned(),
        },
        CallError::MessageRequired => MESSAGE_REQUIRED.to_owned(),
        CallError::BadRoomName(_) | CallError::NoSuchRoom => NO_SUCH_ROOM.to_owned(),
        CallError::NotAuthorized => "not authorized to join room".to_owned(),
        CallError::Refused(reason) => reason.clone(),
        CallError::TooManyRooms | CallError::TooManyRoomsOfConnection => TOO_MANY_ROOMS.to_owned(),
        // A verb asks for none of these; whatever the cause was, the log has it.
        CallError::Action(_)
        | CallError::LoginRefused(_)
        | CallError::MessageIdTaken
        | CallError::NoSuchConnection
        | CallError::NoSuchUser
        | CallError::NotLoggedIn
        | CallError::NotSupported
        | CallError::OutOfSync
        | CallError::Shard(_)
        | CallError::Unavailable => UNAVAILABLE.to_owned(),
        CallError::BadClientData
        | CallError::MessageTooLarge
        | CallError::ReplyTooLarge
        | CallError::TooManyRequests { .. } => error.to_string(),
    }
}

/// The reason of a failed action, with the prefix of its generation.
pub(super) fn failed_action(compat: Compat, error: &ActionError) -> String {
    prefixed(compat, &error.to_string())
}

/// ActionHero 9 prints an exception, later ones its message.
pub(super) fn prefixed(compat: Compat, reason: &str) -> String {
    match compat {
        Compat::Auto | Compat::Classic => format!("Error: {reason}"),
        Compat::Modern => reason.to_owned(),
    }
}
