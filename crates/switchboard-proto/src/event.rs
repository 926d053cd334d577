//! Facts for connections.

use sha1::{Digest, Sha1};

use crate::command::{self, CommandDelivery};
use crate::id::{ConnId, RoomName};
use crate::json::RawJson;
use crate::shard::ShardEvent;
use crate::user::User;

/// A fact that concerns one connection. What a room says is not among these: it is encoded once for all members, see
/// [`crate::wire`].
#[derive(Clone, Debug)]
pub enum Event {
    /// Server code sends this client a message of its own (`connection.sendMessage`).
    Message(RawJson),
    /// The server asks this client to do something.
    Command(CommandDelivery),
    /// Something has become of a shard's session.
    Shard(ShardEvent),
}

/// Something said in a room, numbered.
#[derive(Clone, Debug)]
pub struct RoomMessage {
    /// Where.
    pub room: RoomName,
    /// Its number in the room: 1, 2, 3, … without gaps. 0: it has none, since nobody could give it one.
    pub number: u64,
    /// By whom.
    pub sender: Sender,
    /// What. Never `null` or `""`.
    pub body: RawJson,
    /// When, in milliseconds since 1970, on the sender's node.
    pub sent_at: u64,
    /// Which life of the room the number belongs to: another one when the room was made anew. Of a message without a
    /// number: any, which no other has.
    pub epoch: u64,
    /// The user who said it, if the sender has one.
    pub user: Option<User>,
    /// What only the protocol of the sender reads, if there is any.
    pub extra: Option<Box<MessageExtra>>,
}

/// What a sender's protocol adds to a message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MessageExtra {
    /// The id that the sender chose.
    pub id: Option<Box<str>>,
    /// The message as that protocol has it: a JSON object.
    pub attachment: Option<RawJson>,
}

impl RoomMessage {
    /// Its id: the one that the sender chose, else 17 characters that every node computes alike.
    pub fn id(&self) -> String {
        if let Some(id) = self.extra.as_ref().and_then(|extra| extra.id.as_ref()) {
            return id.to_string();
        }
        let mut hash = Sha1::new();
        hash.update(self.room.as_str());
        hash.update(self.epoch.to_be_bytes());
        hash.update(self.number.to_be_bytes());
        let hash: [u8; 20] = hash.finalize().into();
        let bits = hash.iter().take(16).fold(0, |bits, byte| bits << 8 | u128::from(*byte));
        String::from_utf8_lossy(&command::letters(bits)).into_owned()
    }

    /// The message as its sender's protocol has it.
    pub fn attachment(&self) -> Option<&RawJson> {
        self.extra.as_ref()?.attachment.as_ref()
    }
}

/// Who said something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sender {
    /// A connection.
    Connection(ConnId),
    /// The server, under a name of its choice.
    Named(Box<str>),
    /// The server.
    Server,
}
