//! Facts for connections.

use sha1::{Digest, Sha1};

use crate::command::{self, CommandDelivery, CommandId};
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
        let mut id = letters_of(hash);
        let check = check_letters(&id[..OWN_LETTERS]);
        id[OWN_LETTERS..].copy_from_slice(&check[OWN_LETTERS..]);
        String::from_utf8_lossy(&id).into_owned()
    }

    /// Returns whether an id has the form of computed ids. Senders must not choose such an id: clients replace a
    /// message by a later one with the same id.
    pub fn is_computed_id(id: &str) -> bool {
        CommandId::parse(id).is_some()
            && id.as_bytes()[OWN_LETTERS..] == check_letters(&id.as_bytes()[..OWN_LETTERS])[OWN_LETTERS..]
    }

    /// The message as its sender's protocol has it.
    pub fn attachment(&self) -> Option<&RawJson> {
        self.extra.as_ref()?.attachment.as_ref()
    }
}

/// Letters of a computed id that come from its message; the others follow from these. Clients of Rocket.Chat choose
/// 17 random letters: one of 28,000,000,000 such ids has the computed form. Among a hundred million computed ids the
/// chance that two are equal is 1 in 2,800.
const OWN_LETTERS: usize = 11;

/// The letters that a computed id with these first letters has: its last ones.
fn check_letters(own: &[u8]) -> [u8; CommandId::BYTES] {
    let mut hash = Sha1::new();
    hash.update("computed");
    hash.update(own);
    letters_of(hash)
}

fn letters_of(hash: Sha1) -> [u8; CommandId::BYTES] {
    let hash: [u8; 20] = hash.finalize().into();
    let bits = hash.iter().take(16).fold(0, |bits, byte| bits << 8 | u128::from(*byte));
    command::letters(bits)
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn message(room: &str, epoch: u64, number: u64, id: Option<&str>) -> RoomMessage {
        RoomMessage {
            room: RoomName::parse(room).unwrap(),
            number,
            sender: Sender::Server,
            body: "x".into(),
            sent_at: 0,
            epoch,
            user: None,
            extra: id.map(|id| Box::new(MessageExtra { id: Some(id.into()), attachment: None })),
        }
    }

    proptest! {
        #[test]
        fn every_computed_id_has_the_form_that_senders_must_not_choose(epoch: u64, number: u64) {
            let id = message("lobby", epoch, number, None).id();
            prop_assert_eq!(id.len(), 17);
            prop_assert!(RoomMessage::is_computed_id(&id));
            prop_assert_ne!(&id, &message("lobby", epoch, number.wrapping_add(1), None).id());
            prop_assert_ne!(&id, &message("hall", epoch, number, None).id());
        }

        #[test]
        fn ids_that_clients_draw_at_random_do_not_have_it(bits: u128) {
            let id = CommandId::from_random(bits);
            prop_assert!(!RoomMessage::is_computed_id(id.as_str()));
            prop_assert_eq!(message("lobby", 1, 1, Some(id.as_str())).id(), id.as_str());
        }
    }

    #[test]
    fn a_computed_id_that_was_changed_is_none() {
        let id = message("lobby", 1, 1, None).id();
        for other in
            ["", "mine", &id[1..], &format!("{id}2"), &id.to_lowercase().replace(['2', '3'], "4"), "é23456789ABCDEFG"]
        {
            assert!(!RoomMessage::is_computed_id(other), "{other}");
        }
    }
}
