//! What a DDP session is sent of its rooms.

use crate::call::RoomKind;
use crate::event::RoomMessage;

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

/// The message as a text frame.
pub(crate) fn write_room_message(_: &RoomMessage, _: Audience, _: RoomKind, _: u64, _: &mut Vec<u8>) {}
