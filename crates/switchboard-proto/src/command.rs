//! Client commands: what the server asks a client to do, as every face hands it over.

use std::fmt;
use std::sync::Arc;

use crate::id::ConnId;
use crate::json::RawJson;
use crate::user::User;

/// The id of a client command: 17 characters without look-alikes, 98 random bits.
///
/// A reply is matched by it, and only the addressed may reply; nobody else learns it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CommandId([u8; Self::BYTES]);

/// Characters of ids: no 0, O, 1, I, l, U, V.
pub(crate) const ID_LETTERS: &[u8; 55] = b"23456789ABCDEFGHJKLMNPQRSTWXYZabcdefghijkmnopqrstuvwxyz";

impl CommandId {
    /// Length of the text.
    pub const BYTES: usize = 17;

    /// Makes an id of 128 random bits, which must come from a good source.
    pub fn from_random(bits: u128) -> Self {
        Self(letters(bits))
    }

    /// Reads the text.
    pub fn parse(text: &str) -> Option<Self> {
        let id: [u8; Self::BYTES] = text.as_bytes().try_into().ok()?;
        id.iter().all(|letter| ID_LETTERS.contains(letter)).then_some(Self(id))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        // Only ASCII letters and digits are ever written into it.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

/// 17 characters made of 128 bits.
pub(crate) fn letters(mut bits: u128) -> [u8; 17] {
    [(); 17].map(|()| {
        let letter = ID_LETTERS[(bits % 55) as usize];
        bits /= 55;
        letter
    })
}

impl fmt::Display for CommandId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for CommandId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What all who are sent one command get alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandDocument {
    /// Its id.
    pub id: CommandId,
    /// What it is called: 1 to 128 bytes.
    pub key: Box<str>,
    /// The whole command as its sender gave it: a JSON object with a member `key`.
    pub command: RawJson,
    /// Its member `data`, if it has one.
    pub data: Option<RawJson>,
}

/// One command on its way to one connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandDelivery {
    /// What is sent.
    pub document: Arc<CommandDocument>,
    /// To whom.
    pub to: Recipient,
    /// When it is handed over, in milliseconds since 1970: later than that of every command before it to the same user, or
    /// to the same connection without a user.
    pub ts: u64,
    /// What is left of its limit, in milliseconds.
    pub ttl_ms: u64,
}

/// Who a command is for, as its document names him.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Recipient {
    /// A user, through any of his connections.
    User(User),
    /// A connection without a user.
    Guest(ConnId),
}

impl Recipient {
    /// The id in the document.
    pub fn id(&self) -> String {
        match self {
            Self::User(user) => user.id().to_owned(),
            Self::Guest(id) => id.to_string(),
        }
    }

    /// The name in the document and in texts for people.
    pub fn name(&self) -> String {
        match self {
            Self::User(user) => user.name().to_owned(),
            Self::Guest(id) => guest_name(*id),
        }
    }
}

/// What a connection without a user is called where a name is needed: `guest-` and the first 8 characters of its id.
pub fn guest_name(id: ConnId) -> String {
    format!("guest-{}", &id.text().as_str()[..8])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_has_17_characters_and_reads_back() {
        for bits in [0, 1, u128::MAX, 0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835] {
            let id = CommandId::from_random(bits);
            assert_eq!(id.as_str().len(), 17);
            assert_eq!(CommandId::parse(id.as_str()), Some(id));
        }
        for bad in ["", "bycAiK7YabTfCGqB", "bycAiK7YabTfCGqB0", "bycAiK7YabTfCGqBQQ", "bycAiK7YabTfCGq\u{e9}"] {
            assert_eq!(CommandId::parse(bad), None, "{bad}");
        }
        assert_ne!(CommandId::from_random(1), CommandId::from_random(2));
    }
}
