//! What many connections share: one encoding of a message per wire format.
//!
//! A room message carries nothing that differs from member to member, so all members of a format get the same bytes.
//! That is the property that makes sharing legal, and the first thing to check for a new format.

use std::cell::RefCell;
use std::sync::OnceLock;

use bytes::Bytes;

use crate::actionhero::wire as actionhero;
use crate::event::RoomMessage;
use crate::frame::ws::deflate::Deflater;
use crate::id::RoomName;

thread_local! {
    /// A compressor is too large to be made for each message. It forgets each as soon as it is written.
    static DEFLATER: RefCell<Deflater> = RefCell::default();
}

/// The closed list of encodings. A connection has one for its whole life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WireFormat {
    /// One JSON line, CR LF at its end.
    ActionHeroLine,
    /// One WebSocket message, its frame included.
    ActionHeroMessage,
    /// The same, deflated where that makes it shorter. No message refers to an earlier one, so that all may share it.
    ActionHeroDeflated,
}

impl WireFormat {
    /// How many there are.
    pub const COUNT: usize = 3;

    /// Position in a list of [`WireFormat::COUNT`].
    pub const fn index(self) -> usize {
        self as usize
    }

    /// Writes a notice that messages `first` to `last` of `room` were dropped for a slow consumer.
    pub fn write_gap(self, room: &RoomName, first: u64, last: u64, out: &mut Vec<u8>) {
        match self {
            Self::ActionHeroLine => actionhero::write_gap_line(room, first, last, out),
            Self::ActionHeroMessage | Self::ActionHeroDeflated => actionhero::write_gap_message(room, first, last, out),
        }
    }
}

/// A room message and its encodings, each made when first asked for.
#[derive(Debug)]
pub struct Encoded {
    message: RoomMessage,
    formats: [OnceLock<Bytes>; WireFormat::COUNT],
}

impl Encoded {
    /// Takes a message; encodes nothing yet.
    pub fn new(message: RoomMessage) -> Self {
        Self { message, formats: [const { OnceLock::new() }; WireFormat::COUNT] }
    }

    /// The message.
    pub fn message(&self) -> &RoomMessage {
        &self.message
    }

    /// Its bytes in `format`, shared.
    pub fn bytes(&self, format: WireFormat) -> &Bytes {
        self.formats[format.index()].get_or_init(|| {
            let mut out = Vec::with_capacity(self.message.body.as_str().len() + self.message.room.as_str().len() + 128);
            match format {
                WireFormat::ActionHeroLine => actionhero::write_room_line(&self.message, &mut out),
                WireFormat::ActionHeroMessage => actionhero::write_room_message(&self.message, &mut out),
                WireFormat::ActionHeroDeflated => {
                    DEFLATER.with_borrow_mut(|deflater| {
                        actionhero::write_deflated_room_message(&self.message, deflater, &mut out);
                    });
                }
            }
            Bytes::from(out)
        })
    }
}
