//! What nodes ask each other about users, whose sessions may be with any of them.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use switchboard_proto::call::CallError;
use switchboard_proto::id::RoomName;

use crate::backend::cluster::To;
use crate::backend::sessions::TokenHash;

use super::super::{Node, User};
use super::described::UserText;
use super::wire::{answer, room_name};

/// A question.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(in crate::node) enum Question {
    /// Do you know a user of this id?
    Known(String),
    /// A user has joined a room: his sessions join too.
    Joined {
        user: String,
        #[serde(with = "room_name")]
        room: RoomName,
    },
    /// The logins of a user ended, but for that with the token whose SHA-256 is `kept`: connections that logged in with other
    /// tokens end. How many?
    LoggedOut { user: String, kept: Option<[u8; 32]> },
    /// A user has left a room: his sessions leave too. Was any of them in it?
    Left {
        user: String,
        #[serde(with = "room_name")]
        room: RoomName,
    },
}

/// Something that all nodes should know.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(in crate::node) enum Note {
    /// A token was revoked. Its SHA-256.
    Revoked([u8; 32]),
}

impl From<Question> for super::Question {
    fn from(question: Question) -> Self {
        Self::Users(question)
    }
}

impl Node {
    /// A user who is configured, or has a connection on any node.
    ///
    /// # Errors
    ///
    /// [`CallError::Unavailable`] when nobody knows him and not all nodes have answered.
    pub(in crate::node) async fn user_known_anywhere(&self, id_or_name: &str) -> Result<Option<User>, CallError> {
        let known = self.known_user(id_or_name);
        let Some(peers) = self.peers().filter(|_| known.is_none()) else { return Ok(known) };
        let question = super::Question::Users(Question::Known(id_or_name.to_owned()));
        let mut result = Ok(None);
        for (_, answer) in peers.ask_others::<Option<UserText>>(&question).await {
            match answer {
                Ok(None) => {}
                Ok(Some(user)) => return user.read().map(Some),
                Err(error) => result = Err(error),
            }
        }
        result
    }

    /// Tells the other nodes that a token was revoked, so that each of them remembers it. It is published when this is
    /// ready; one that fails is logged, and then only this node remembers.
    pub(in crate::node) async fn tell_revoked(&self, token: &TokenHash) {
        if let Some(peers) = self.peers() {
            let _ = peers.tell(To::Others, &super::Note::Users(Note::Revoked(*token.as_bytes()))).await;
        }
    }

    pub(super) fn note_about_users(&self, note: &Note) {
        match note {
            Note::Revoked(hash) => self.0.sessions.note_revoked(&TokenHash::from_bytes(*hash)),
        }
    }

    pub(super) async fn answer_about_users(&self, question: Question) -> Result<Box<RawValue>, CallError> {
        match question {
            Question::Known(id) => answer(&self.known_user(&id).as_ref().map(UserText::from)),
            Question::Joined { user, room } => answer(&self.enter_with_sessions_here(&user, &room).await?),
            Question::LoggedOut { user, kept } => {
                answer(&self.end_logins_here(&user, kept.map(TokenHash::from_bytes)).await)
            }
            Question::Left { user, room } => answer(&self.leave_with_sessions_here(&user, &room).await),
        }
    }
}
