//! Names of things: connections, rooms, requests.
//!
//! Each is a type of its own, made in one place that checks it, so that the rest of the code never asks again.

use std::fmt;
use std::num::NonZeroU64;
use std::sync::Arc;

use thiserror::Error;

/// The public id of whoever can be a member of a room: of a connection, a random UUID version 4, or of a gateway session, the
/// *shard hash*: 35 random letters and digits.
///
/// Other members of a room see it, so it is never a secret. Both are 16 bytes, told apart by what is a UUID's version.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnId([u8; 16]);

impl ConnId {
    /// Length of the text form of a connection's id.
    pub const TEXT_BYTES: usize = 36;

    /// Length of a shard hash.
    pub const SHARD_HASH_BYTES: usize = 35;

    /// How many letters and digits hold 128 bits; in a shard hash those behind are a checksum.
    const ID_DIGITS: usize = 22;

    /// Digits of shard hashes.
    const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

    /// No UUID has this version.
    const SESSION_VERSION: u8 = 0xf0;

    /// Makes a connection's id of 128 random bits; version and variant are set here.
    pub const fn from_random(bits: u128) -> Self {
        let mut bytes = bits.to_be_bytes();
        bytes[6] = (bytes[6] & 0x0f) | 0x40;
        bytes[8] = (bytes[8] & 0x3f) | 0x80;
        Self(bytes)
    }

    /// Makes a gateway session's id of 128 random bits.
    pub const fn session_from_random(bits: u128) -> Self {
        let mut bytes = bits.to_be_bytes();
        bytes[6] = (bytes[6] & 0x0f) | Self::SESSION_VERSION;
        Self(bytes)
    }

    /// The same id with the number of the node that gives it: its last two bytes. The others stay random, 106 bits of a
    /// connection's id.
    #[must_use]
    pub const fn on_node(self, slot: u16) -> Self {
        let mut bytes = self.0;
        [bytes[14], bytes[15]] = slot.to_be_bytes();
        Self(bytes)
    }

    /// The number of the node that gave it, in a cluster.
    pub const fn node(&self) -> u16 {
        u16::from_be_bytes([self.0[14], self.0[15]])
    }

    /// Whether it is a gateway session's.
    pub const fn is_session(&self) -> bool {
        self.0[6] & 0xf0 == Self::SESSION_VERSION
    }

    /// The bytes, for stores.
    pub const fn to_bytes(self) -> [u8; 16] {
        self.0
    }

    /// What [`ConnId::to_bytes`] gave.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Reads the text form: a UUID in either case, with its hyphens, or a shard hash.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.as_bytes();
        if text.len() == Self::SHARD_HASH_BYTES {
            return Self::parse_hash(text);
        }
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
        // A session has one text only.
        Some(Self(bytes)).filter(|id| !id.is_session())
    }

    fn parse_hash(text: &[u8]) -> Option<Self> {
        let mut bits: u128 = 0;
        for digit in text[..Self::ID_DIGITS].iter().rev() {
            let value = Self::DIGITS.iter().position(|known| known == digit)?;
            bits = bits.checked_mul(62)?.checked_add(value as u128)?;
        }
        let id = Self(bits.to_be_bytes());
        (id.is_session() && id.hash() == *text).then_some(id)
    }

    fn hash(&self) -> [u8; Self::SHARD_HASH_BYTES] {
        let mut text = [0; Self::SHARD_HASH_BYTES];
        let check = self.check_bits();
        let (id, rest) = text.split_at_mut(Self::ID_DIGITS);
        for (digits, mut bits) in [(id, u128::from_be_bytes(self.0)), (rest, check)] {
            // A bot is shown the hashes of all its shards, and dividing so wide a number takes ten times as long.
            for digits in digits.chunks_mut(10) {
                const TEN_DIGITS: u128 = 62_u128.pow(10);
                let high = bits / TEN_DIGITS;
                let mut low = (bits - high * TEN_DIGITS) as u64;
                bits = high;
                for digit in digits {
                    *digit = Self::DIGITS[(low % 62) as usize];
                    low /= 62;
                }
            }
        }
        text
    }

    /// What the checksum of a shard hash is made of. It tells typing errors apart and need not withstand anybody.
    const fn check_bits(&self) -> u128 {
        /// The end of SplitMix64: each bit changes half of the others.
        const fn mix(word: u64) -> u64 {
            let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            word ^ (word >> 31)
        }
        let bits = u128::from_be_bytes(self.0);
        let high = mix((bits >> 64) as u64 ^ mix(bits as u64));
        let low = mix(bits as u64 ^ high);
        (high as u128) << 64 | low as u128
    }

    /// The text form, that of a connection's id in lower case, without an allocation.
    pub fn text(&self) -> ConnIdText {
        const HEX: &[u8; 16] = b"0123456789abcdef";
        if self.is_session() {
            let mut text = [0; Self::TEXT_BYTES];
            text[..Self::SHARD_HASH_BYTES].copy_from_slice(&self.hash());
            return ConnIdText { text, len: Self::SHARD_HASH_BYTES as u8 };
        }
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
        ConnIdText { text, len: Self::TEXT_BYTES as u8 }
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
pub struct ConnIdText {
    text: [u8; ConnId::TEXT_BYTES],
    len: u8,
}

impl ConnIdText {
    /// The text.
    pub fn as_str(&self) -> &str {
        // Only ASCII letters, digits and hyphens are ever written into it.
        std::str::from_utf8(&self.text[..usize::from(self.len)]).unwrap_or_default()
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

    /// A text before which the names of all rooms of two users are, and after which all other names.
    pub const AFTER_DIRECT: &str = "\u{2}";

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
    fn an_id_tells_its_node_and_stays_what_it_is() {
        for id in [ConnId::from_random(u128::MAX), ConnId::session_from_random(u128::MAX)] {
            let here = id.on_node(0x1234);
            assert_eq!((here.node(), here.is_session()), (0x1234, id.is_session()));
            assert_eq!(ConnId::parse(&here.to_string()), Some(here));
            assert_eq!(here.to_bytes()[..14], id.to_bytes()[..14]);
        }
    }

    #[test]
    fn a_connection_id_is_a_uuid_of_version_4_and_reads_back() {
        let id = ConnId::from_random(u128::MAX);
        assert_eq!(id.to_string(), "ffffffff-ffff-4fff-bfff-ffffffffffff");
        assert_eq!(ConnId::parse(&id.to_string()), Some(id));
        assert_eq!(ConnId::parse("ffffffff-ffff-4fff-bfff-fffffffffff"), None);
        assert_eq!(ConnId::parse("ffffffffaffff-4fff-bfff-ffffffffffff"), None);
        assert_eq!(ConnId::parse("gfffffff-ffff-4fff-bfff-ffffffffffff"), None);
        assert_eq!(ConnId::parse("ffffffff-ffff-ffff-bfff-ffffffffffff"), None);
    }

    #[test]
    fn a_shard_hash_is_35_letters_and_digits_and_reads_back() {
        for bits in [0, 1, u128::MAX, 0x0123_4567_89ab_cdef_0123_4567_89ab_cdef] {
            let id = ConnId::session_from_random(bits);
            let text = id.to_string();
            assert!(text.len() == 35 && text.bytes().all(|byte| byte.is_ascii_alphanumeric()), "{text}");
            assert_eq!((ConnId::parse(&text), id.is_session()), (Some(id), true));
            let other = if text.starts_with('0') { "1" } else { "0" };
            assert_eq!(ConnId::parse(&format!("{other}{}", &text[1..])), None);
            assert!(!ConnId::from_random(bits).is_session());
        }
        assert_eq!(ConnId::parse(&"z".repeat(35)), None);
        assert_eq!(ConnId::parse("C2iIDUxoUEVEh4IjUN5eQpx87UKcsqsEQfs"), None);
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
