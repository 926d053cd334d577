//! Names of things: connections, rooms, requests.
//!
//! Each is a type of its own, made in one place that checks it, so that the rest of the code never asks again.

use std::fmt;
use std::num::NonZeroU64;
use std::sync::Arc;

use thiserror::Error;

/// A connection's public id: a random UUID version 4.
///
/// Other members of a room see it, so it is never a secret.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnId([u8; 16]);

impl ConnId {
    /// Length of the text form.
    pub const TEXT_BYTES: usize = 36;

    /// Makes an id of 128 random bits; version and variant are set here.
    pub const fn from_random(bits: u128) -> Self {
        let mut bytes = bits.to_be_bytes();
        bytes[6] = (bytes[6] & 0x0f) | 0x40;
        bytes[8] = (bytes[8] & 0x3f) | 0x80;
        Self(bytes)
    }

    /// Reads the text form, in either case, with its hyphens.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.as_bytes();
        if text.len() != Self::TEXT_BYTES {
            return None;
        }
        let mut bytes = [0; 16];
        let mut nibbles = 0;
        for (at, &byte) in text.iter().enumerate() {
            if matches!(at, 8 | 13 | 18 | 23) {
                if byte != b'-' {
                    return None;
                }
                continue;
            }
            let value = (byte as char).to_digit(16)? as u8;
            bytes[nibbles / 2] |= value << (if nibbles % 2 == 0 { 4 } else { 0 });
            nibbles += 1;
        }
        Some(Self(bytes))
    }

    /// The text form in lower case, without an allocation.
    pub fn text(&self) -> ConnIdText {
        const HEX: &[u8; 16] = b"0123456789abcdef";
        let mut text = [b'-'; Self::TEXT_BYTES];
        let mut at = 0;
        for (index, byte) in self.0.iter().enumerate() {
            if matches!(index, 4 | 6 | 8 | 10) {
                at += 1;
            }
            text[at] = HEX[usize::from(byte >> 4)];
            text[at + 1] = HEX[usize::from(byte & 0x0f)];
            at += 2;
        }
        ConnIdText(text)
    }
}

impl fmt::Display for ConnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.text().as_str())
    }
}

impl fmt::Debug for ConnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text of a [`ConnId`], on the stack.
#[derive(Clone, Copy)]
pub struct ConnIdText([u8; ConnId::TEXT_BYTES]);

impl ConnIdText {
    /// The text.
    pub fn as_str(&self) -> &str {
        // Only hexadecimal digits and hyphens are ever written into it.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

/// A room's name: 1 to 128 bytes of UTF-8 without control characters.
///
/// Cloning shares the text.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RoomName(Arc<str>);

/// Why a text cannot be a room's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum BadRoomName {
    /// It has no characters.
    #[error("a room is required")]
    Empty,
    /// It is longer than [`RoomName::MAX_BYTES`].
    #[error("a room name has at most 128 bytes")]
    TooLong,
    /// It holds a control character.
    #[error("a room name has no control characters")]
    Control,
}

impl RoomName {
    /// The longest name, in bytes of UTF-8.
    pub const MAX_BYTES: usize = 128;

    /// Checks `text` and makes a name of it.
    pub fn parse(text: &str) -> Result<Self, BadRoomName> {
        if text.is_empty() {
            return Err(BadRoomName::Empty);
        }
        if text.len() > Self::MAX_BYTES {
            return Err(BadRoomName::TooLong);
        }
        if text.chars().any(char::is_control) {
            return Err(BadRoomName::Control);
        }
        Ok(Self(text.into()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The room of two users, whose ids may stand in either order. Nobody can ask for it by a name: no name that is parsed
    /// begins as it does.
    pub fn direct(one: &str, other: &str) -> Self {
        let (first, second) = if one <= other { (one, other) } else { (other, one) };
        Self(format!("{DIRECT}{first}{DIRECT}{second}").into())
    }

    /// The ids of the two users whose room it is.
    pub fn direct_users(&self) -> Option<(&str, &str)> {
        self.0.strip_prefix(DIRECT)?.split_once(DIRECT)
    }

    /// A name that was one before, from a store.
    pub fn restore(text: &str) -> Option<Self> {
        match text.strip_prefix(DIRECT).map(|users| users.split_once(DIRECT)) {
            Some(users) => users.map(|(one, other)| Self::direct(one, other)),
            None => Self::parse(text).ok(),
        }
    }
}

/// What separates users in the name of their room: a character that ids and names cannot have.
const DIRECT: char = '\u{1}';

impl fmt::Display for RoomName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for RoomName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl std::borrow::Borrow<str> for RoomName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

/// One request of one connection, from its call to its outcome. Only the face that made it reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Token(pub NonZeroU64);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_id_is_a_uuid_of_version_4_and_reads_back() {
        let id = ConnId::from_random(u128::MAX);
        assert_eq!(id.to_string(), "ffffffff-ffff-4fff-bfff-ffffffffffff");
        assert_eq!(ConnId::parse(&id.to_string()), Some(id));
        assert_eq!(ConnId::parse("ffffffff-ffff-4fff-bfff-fffffffffff"), None);
        assert_eq!(ConnId::parse("ffffffffaffff-4fff-bfff-ffffffffffff"), None);
        assert_eq!(ConnId::parse("gfffffff-ffff-4fff-bfff-ffffffffffff"), None);
    }

    #[test]
    fn the_room_of_two_users_is_the_same_either_way_and_no_name_leads_there() {
        let room = RoomName::direct("u2", "u1");
        assert_eq!(room, RoomName::direct("u1", "u2"));
        assert_eq!(room.direct_users(), Some(("u1", "u2")));
        assert_eq!(RoomName::parse(room.as_str()), Err(BadRoomName::Control));
        assert_eq!(RoomName::restore(room.as_str()), Some(room));
        assert_eq!(RoomName::restore("lobby").as_ref().and_then(RoomName::direct_users), None);
        assert_eq!(RoomName::restore("\u{1}u1"), None);
    }

    #[test]
    fn a_room_name_has_1_to_128_bytes_without_control_characters() {
        assert_eq!(RoomName::parse(""), Err(BadRoomName::Empty));
        assert_eq!(RoomName::parse(&"é".repeat(65)), Err(BadRoomName::TooLong));
        assert!(RoomName::parse(&"é".repeat(64)).is_ok());
        assert_eq!(RoomName::parse("a\u{7f}"), Err(BadRoomName::Control));
        assert_eq!(RoomName::parse("a\u{85}b"), Err(BadRoomName::Control));
        assert_eq!(RoomName::parse("two words").map(|room| room.to_string()), Ok("two words".into()));
    }
}
