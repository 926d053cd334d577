//! The head of a frame: RFC 6455, section 5.2.

use super::error::WsError;

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Opcode {
    Continuation = 0x0,
    Text = 0x1,
    Binary = 0x2,
    Close = 0x8,
    Ping = 0x9,
    Pong = 0xa,
}

impl Opcode {
    fn from_bits(bits: u8) -> Option<Self> {
        Some(match bits {
            0x0 => Self::Continuation,
            0x1 => Self::Text,
            0x2 => Self::Binary,
            0x8 => Self::Close,
            0x9 => Self::Ping,
            0xa => Self::Pong,
            _ => return None,
        })
    }

    pub(super) fn is_control(self) -> bool {
        matches!(self, Self::Close | Self::Ping | Self::Pong)
    }
}

pub(super) const FIN: u8 = 0x80;
pub(super) const RSV1: u8 = 0x40;
const RSV2_RSV3: u8 = 0x30;
const MASKED: u8 = 0x80;

/// The most bytes a control frame may carry.
pub(super) const MAX_CONTROL_BYTES: usize = 125;

/// The longest head of a client's frame.
pub(super) const MAX_HEADER_BYTES: usize = 14;

/// The head of a client's frame. What one frame alone must keep to has been checked; what depends on others has not.
#[derive(Clone, Copy, Debug)]
pub(super) struct Header {
    pub(super) opcode: Opcode,
    pub(super) fin: bool,
    pub(super) rsv1: bool,
    pub(super) len: u64,
    pub(super) mask: [u8; 4],
}

impl Header {
    /// Reads a head from the front of `bytes`, with the number of bytes it takes; `None` if more are needed, which is
    /// never so with [`MAX_HEADER_BYTES`].
    ///
    /// # Errors
    ///
    /// As soon as the bytes at hand cannot begin a client's frame.
    pub(super) fn parse(bytes: &[u8]) -> Result<Option<(Self, usize)>, WsError> {
        let &[first, second, ref rest @ ..] = bytes else { return Ok(None) };
        if first & RSV2_RSV3 != 0 {
            return Err(WsError::ReservedBit);
        }
        let opcode = Opcode::from_bits(first & 0x0f).ok_or(WsError::ReservedOpcode)?;
        let fin = first & FIN != 0;
        let short_len = second & !MASKED;
        if opcode.is_control() {
            if !fin {
                return Err(WsError::FragmentedControl);
            }
            if usize::from(short_len) > MAX_CONTROL_BYTES {
                return Err(WsError::LongControl);
            }
        }
        if second & MASKED == 0 {
            return Err(WsError::Unmasked);
        }
        let (len, len_bytes) = match short_len {
            126 => match rest.first_chunk() {
                Some(len) => (u64::from(u16::from_be_bytes(*len)), 2),
                None => return Ok(None),
            },
            127 => match rest.first_chunk() {
                Some(len) => (u64::from_be_bytes(*len), 8),
                None => return Ok(None),
            },
            len => (u64::from(len), 0),
        };
        let is_minimal = match len_bytes {
            0 => true,
            2 => len > 125,
            _ => len > 0xffff,
        };
        if !is_minimal || len > i64::MAX as u64 {
            return Err(WsError::MalformedLength);
        }
        let Some(mask) = rest[len_bytes..].first_chunk() else { return Ok(None) };
        Ok(Some((Self { opcode, fin, rsv1: first & RSV1 != 0, len, mask: *mask }, 2 + len_bytes + mask.len())))
    }
}
