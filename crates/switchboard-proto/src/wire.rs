//! What many connections share: one encoding of a message per wire format.
//!
//! A room message carries nothing that differs from member to member, so all members of a format get the same bytes.
//! That is the property that makes sharing legal, and the first thing to check for a new format.

use std::cell::RefCell;
use std::sync::OnceLock;

use bytes::Bytes;

use crate::actionhero::wire as actionhero;
use crate::call::RoomKind;
use crate::ddp::wire as ddp;
use crate::event::RoomMessage;
use crate::frame::ws::deflate::Deflater;
use crate::id::RoomName;

thread_local! {
    /// A compressor is too large to be made for each message. It forgets each as soon as it is written.
    static DEFLATER: RefCell<Deflater> = RefCell::default();
}

/// The closed list of encodings. A member of a room hears it in one of them, in two, or not at all: see [`Hears`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WireFormat {
    /// One JSON line, CR LF at its end.
    ActionHeroLine,
    /// One WebSocket message, its frame included.
    ActionHeroMessage,
    /// The same, deflated where that makes it shorter. No message refers to an earlier one, so that all may share it.
    ActionHeroDeflated,
    /// A line with number and user, for clients that said they want them.
    ExtendedLine,
    /// A WebSocket message with number and user.
    ExtendedMessage,
    /// The same, deflated where that makes it shorter.
    ExtendedDeflated,
    /// What a DDP session hears of all its rooms, as a member.
    DdpMine,
    /// The same, without being a member.
    DdpMineListener,
    /// What a DDP session hears of the one room that it subscribed to.
    DdpRoom,
}

impl WireFormat {
    /// Every format, in the order of [`WireFormat::index`].
    pub const ALL: [Self; 9] = [
        Self::ActionHeroLine,
        Self::ActionHeroMessage,
        Self::ActionHeroDeflated,
        Self::ExtendedLine,
        Self::ExtendedMessage,
        Self::ExtendedDeflated,
        Self::DdpMine,
        Self::DdpMineListener,
        Self::DdpRoom,
    ];

    /// How many there are.
    pub const COUNT: usize = Self::ALL.len();

    /// How many of them, the first ones, are the same bytes on every worker.
    const SHARED: usize = Self::DdpMine.index();

    /// Position in [`WireFormat::ALL`].
    pub const fn index(self) -> usize {
        self as usize
    }

    /// Whether each message carries a time of its recipients' worker, and is therefore encoded by each worker.
    pub const fn is_stamped(self) -> bool {
        self.index() >= Self::SHARED
    }

    /// Writes a notice that messages `first` to `last` of `room` are missing, dropped for a slow consumer or never come; without a
    /// `last` nobody knows how many, with 0 as the `first` they had no numbers. Nothing where the numbers of messages show that.
    pub fn write_gap(self, room: &RoomName, first: u64, last: Option<u64>, out: &mut Vec<u8>) {
        match self {
            Self::ActionHeroLine | Self::ExtendedLine => actionhero::write_gap_line(room, first, last, out),
            Self::ActionHeroMessage | Self::ActionHeroDeflated | Self::ExtendedMessage | Self::ExtendedDeflated => {
                actionhero::write_gap_message(room, first, last, out);
            }
            Self::DdpMine | Self::DdpMineListener | Self::DdpRoom => {}
        }
    }

    /// Writes a message in a format that is stamped, with this stamp; `kind` is that of its room.
    pub fn write_stamped(self, message: &RoomMessage, kind: RoomKind, stamp_ms: u64, out: &mut Vec<u8>) {
        debug_assert!(self.is_stamped());
        let audience = match self {
            Self::DdpMine => ddp::Audience::Members,
            Self::DdpMineListener => ddp::Audience::Listeners,
            _ => ddp::Audience::Room,
        };
        ddp::write_room_message(message, audience, kind, stamp_ms, out);
    }

    fn write_shared(self, message: &RoomMessage, out: &mut Vec<u8>) {
        use actionhero::Extent::{Extended, Plain};
        match self {
            Self::ActionHeroLine => actionhero::write_room_line(message, Plain, out),
            Self::ActionHeroMessage => actionhero::write_room_message(message, Plain, out),
            Self::ActionHeroDeflated => write_deflated(message, Plain, out),
            Self::ExtendedLine => actionhero::write_room_line(message, Extended, out),
            Self::ExtendedMessage => actionhero::write_room_message(message, Extended, out),
            Self::ExtendedDeflated => write_deflated(message, Extended, out),
            // `Encoded` has no place for these.
            Self::DdpMine | Self::DdpMineListener | Self::DdpRoom => {}
        }
    }
}

fn write_deflated(message: &RoomMessage, extent: actionhero::Extent, out: &mut Vec<u8>) {
    DEFLATER.with_borrow_mut(|deflater| actionhero::write_deflated_room_message(message, extent, deflater, out));
}

/// In which formats somebody hears a room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hears(u16);

impl Hears {
    /// Not at all.
    pub const NOTHING: Self = Self(0);

    /// In this format.
    pub const fn in_format(format: WireFormat) -> Self {
        Self(1 << format.index())
    }

    /// In these formats as well.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether nothing is heard.
    pub const fn is_nothing(self) -> bool {
        self.0 == 0
    }

    /// The formats, in the order of [`WireFormat::ALL`].
    pub fn formats(self) -> impl Iterator<Item = WireFormat> {
        let mut bits = self.0;
        std::iter::from_fn(move || {
            let index = bits.trailing_zeros() as usize;
            bits &= bits.wrapping_sub(1);
            WireFormat::ALL.get(index).copied()
        })
    }
}

/// A room message and its encodings, each made when first asked for.
#[derive(Debug)]
pub struct Encoded {
    message: RoomMessage,
    formats: [OnceLock<Bytes>; WireFormat::SHARED],
}

impl Encoded {
    /// Takes a message; encodes nothing yet.
    pub fn new(message: RoomMessage) -> Self {
        Self { message, formats: [const { OnceLock::new() }; WireFormat::SHARED] }
    }

    /// The message.
    pub fn message(&self) -> &RoomMessage {
        &self.message
    }

    /// Its bytes in a format that is not stamped, shared.
    ///
    /// # Panics
    ///
    /// For one that is stamped.
    pub fn bytes(&self, format: WireFormat) -> &Bytes {
        self.formats[format.index()].get_or_init(|| {
            let mut out = Vec::with_capacity(self.message.body.as_str().len() + self.message.room.as_str().len() + 128);
            format.write_shared(&self.message, &mut out);
            Bytes::from(out)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_format_stands_at_its_own_index() {
        for (index, format) in WireFormat::ALL.into_iter().enumerate() {
            assert_eq!(format.index(), index);
            assert_eq!(Hears::in_format(format).formats().collect::<Vec<_>>(), [format]);
        }
    }

    #[test]
    fn who_hears_in_two_formats_gets_both_in_order() {
        let both = Hears::in_format(WireFormat::DdpRoom).and(Hears::in_format(WireFormat::DdpMine));
        assert_eq!(both.formats().collect::<Vec<_>>(), [WireFormat::DdpMine, WireFormat::DdpRoom]);
        assert_eq!(Hears::NOTHING.formats().count(), 0);
    }
}
