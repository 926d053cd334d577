//! What nodes ask each other about rooms. Who is asked looks at the room himself: what has become of it since counts.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use switchboard_proto::call::CallError;
use switchboard_proto::id::RoomName;

use super::super::Node;
use super::wire::{answer, room_name};

/// A question.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(in crate::node) enum Question {
    /// A room was made: offer it to listeners, and let those return who were in one of that name.
    Made(#[serde(with = "room_name")] RoomName),
    /// A room is being destroyed: remove its members.
    Gone(#[serde(with = "room_name")] RoomName),
    /// Who may join a room has changed: look at its members again.
    Pattern(#[serde(with = "room_name")] RoomName),
}

/// Something that nodes tell each other about rooms.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(in crate::node) enum Note {
    /// A room that was being destroyed is gone: another one of its name can be made.
    Ended,
}

impl From<Question> for super::Question {
    fn from(question: Question) -> Self {
        Self::Rooms(question)
    }
}

impl Node {
    pub(super) async fn answer_about_rooms(&self, question: Question) -> Result<Box<RawValue>, CallError> {
        match question {
            Question::Made(room) => self.heed_new_room(&room).await,
            Question::Gone(room) => self.heed_end_of_room(&room).await?,
            Question::Pattern(room) => self.heed_pattern(&room).await?,
        }
        answer(&())
    }
}
