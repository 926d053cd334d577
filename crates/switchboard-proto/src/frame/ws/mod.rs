//! The server's side of WebSocket: RFC 6455, with permessage-deflate of RFC 7692.
//!
//! [`WsFramer`] turns a client's bytes into messages and control frames. Cutting the bytes anywhere changes nothing, and
//! whatever does not keep to the RFC is refused with the code that the close frame must carry. A message that arrived
//! whole never touches memory of the connection's own; only what is incomplete is kept, in a box that is gone with
//! its end. [`handshake`] decides about the request before it, [`write_message`] and its neighbours write the other
//! direction. How it all works: docs/internals/websocket.md.

mod close;
pub mod deflate;
mod error;
mod extensions;
pub mod handshake;
mod header;
mod mask;
mod partial;
#[cfg(test)]
mod tests;
mod write;

pub use error::WsError;
pub use write::{
    MessageKind, TextMark, begin_text, finish_text, write_close, write_message, write_ping, write_pong,
    write_text_fragment, write_text_head,
};

use header::{Header, Opcode};
use partial::{Partial, Piece};

/// How much one client may send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WsLimits {
    /// The longest message, in bytes, after inflating; `usize::MAX` for no limit.
    pub max_message_bytes: usize,
    /// The most frames of one message, empty ones included; 0 for no limit.
    pub max_fragments: u32,
    /// Pings and pongs a second, and as many at once; 0 for no limit.
    pub control_per_second: u32,
}

impl Default for WsLimits {
    fn default() -> Self {
        Self { max_message_bytes: 64 * 1024, max_fragments: 1024, control_per_second: 16 }
    }
}

/// What a framer found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WsFrame<'a> {
    /// A whole text message.
    Text(&'a str),
    /// A whole binary message.
    Binary(&'a [u8]),
    /// A ping, to be answered by a pong with the same payload.
    Ping(&'a [u8]),
    /// A pong.
    Pong(&'a [u8]),
    /// The client closes, and expects a close frame with the same code in return. No frame follows.
    Close {
        /// Why; one of the codes that a client may send. `None` if it did not say.
        code: Option<u16>,
        /// Its words, empty if there are none.
        reason: &'a str,
    },
}

/// Cuts a client's stream into messages and control frames.
#[derive(Debug, Default)]
pub struct WsFramer {
    /// A frame or message that has begun and is not complete, if any.
    partial: Option<Box<Partial>>,
    controls: ControlRate,
    /// RFC 7692 was negotiated.
    deflate: bool,
    /// The client closed or was refused: nothing more is taken.
    ended: bool,
}

impl WsFramer {
    /// A framer for a connection whose handshake accepted permessage-deflate
    /// ([`Accepted::deflate`](handshake::Accepted::deflate)).
    pub fn with_deflate() -> Self {
        Self { deflate: true, ..Self::default() }
    }

    /// Whether a frame or a message has begun that is not complete. If this stays so for long the client is not typing
    /// but holding something back.
    pub fn is_partial(&self) -> bool {
        self.partial.is_some()
    }

    /// Takes the next message or control frame from the front of `input`, and moves `input` behind what was used. `None`
    /// means that all of it was used and nothing is complete. After an error or a close frame all input is dropped.
    ///
    /// The payload is lent from `scratch`, whose content is replaced. It may be larger afterwards, by the longest message
    /// that came: an owner that keeps it shrinks it now and then. `now_ms` is a monotonic clock's.
    ///
    /// # Errors
    ///
    /// As soon as the bytes that are there cannot become anything valid.
    pub fn next<'a>(
        &mut self,
        input: &mut &[u8],
        scratch: &'a mut Vec<u8>,
        limits: &WsLimits,
        now_ms: u64,
    ) -> Result<Option<WsFrame<'a>>, WsError> {
        if self.ended {
            *input = &[];
            return Ok(None);
        }
        let found = self.step(input, scratch, limits, now_ms);
        if matches!(found, Err(_) | Ok(Some(WsFrame::Close { .. }))) {
            *input = &[];
            self.ended = true;
            self.partial = None;
        }
        found
    }

    fn step<'a>(
        &mut self,
        input: &mut &[u8],
        scratch: &'a mut Vec<u8>,
        limits: &WsLimits,
        now_ms: u64,
    ) -> Result<Option<WsFrame<'a>>, WsError> {
        loop {
            if !self.partial.as_ref().is_some_and(|partial| partial.is_inside_frame()) {
                let Some(header) = self.header(input)? else { return Ok(None) };
                self.admit(&header, limits, now_ms)?;
                if let Some(payload) = Self::take_whole(&header, input) {
                    scratch.clear();
                    if header.rsv1 {
                        deflate::inflate(payload, header.mask, scratch, limits.max_message_bytes)?;
                    } else {
                        mask::unmask_onto(scratch, payload, header.mask, 0);
                    }
                    self.forget_if_idle();
                    return whole(header.opcode, scratch).map(Some);
                }
                self.partial.get_or_insert_default().begin(&header);
            }
            match self.partial.get_or_insert_default().take(input, scratch, limits)? {
                Piece::Frame(opcode) => {
                    self.forget_if_idle();
                    return whole(opcode, scratch).map(Some);
                }
                Piece::Fragment => {}
                Piece::Incomplete => return Ok(None),
            }
        }
    }

    /// Reads a frame's head; one that has not come whole is kept.
    fn header(&mut self, input: &mut &[u8]) -> Result<Option<Header>, WsError> {
        match &mut self.partial {
            Some(partial) if partial.has_head() => partial.header(input),
            _ if input.is_empty() => Ok(None),
            _ => match Header::parse(input)? {
                Some((header, used)) => {
                    *input = &input[used..];
                    Ok(Some(header))
                }
                None => self.partial.get_or_insert_default().header(input),
            },
        }
    }

    /// Checks what depends on more than the one frame.
    fn admit(&mut self, header: &Header, limits: &WsLimits, now_ms: u64) -> Result<(), WsError> {
        let message = self.partial.as_mut().and_then(|partial| partial.message_mut());
        match header.opcode {
            Opcode::Close | Opcode::Ping | Opcode::Pong => {
                if header.rsv1 {
                    return Err(WsError::ReservedBit);
                }
                if header.opcode != Opcode::Close && !self.controls.admit(limits.control_per_second, now_ms) {
                    return Err(WsError::TooManyControls);
                }
                Ok(())
            }
            Opcode::Continuation => {
                if header.rsv1 {
                    return Err(WsError::ReservedBit);
                }
                message.ok_or(WsError::NothingToContinue)?.admit(header, limits)
            }
            Opcode::Text | Opcode::Binary => {
                if header.rsv1 && !self.deflate {
                    return Err(WsError::ReservedBit);
                }
                if message.is_some() {
                    return Err(WsError::MessageNotEnded);
                }
                partial::admit_first(header, limits)
            }
        }
    }

    /// The payload of a frame that is complete in itself and lies in `input` as a whole: the common case, where nothing
    /// has to be kept.
    fn take_whole<'i>(header: &Header, input: &mut &'i [u8]) -> Option<&'i [u8]> {
        if !header.fin || header.opcode == Opcode::Continuation {
            return None;
        }
        let len = usize::try_from(header.len).ok()?;
        let (payload, rest) = input.split_at_checked(len)?;
        *input = rest;
        Some(payload)
    }

    fn forget_if_idle(&mut self) {
        if self.partial.as_ref().is_some_and(|partial| partial.is_idle()) {
            self.partial = None;
        }
    }
}

/// A frame whose unmasked, inflated payload is complete.
fn whole(opcode: Opcode, payload: &[u8]) -> Result<WsFrame<'_>, WsError> {
    Ok(match opcode {
        Opcode::Text => WsFrame::Text(std::str::from_utf8(payload).map_err(|_| WsError::NotUtf8)?),
        Opcode::Binary | Opcode::Continuation => WsFrame::Binary(payload),
        Opcode::Ping => WsFrame::Ping(payload),
        Opcode::Pong => WsFrame::Pong(payload),
        Opcode::Close => return close::parse(payload),
    })
}

/// A token bucket for pings and pongs that holds a second's worth, written as the moment at which it is full again.
#[derive(Debug, Default)]
struct ControlRate {
    full_at_ns: u64,
}

impl ControlRate {
    /// Takes a token; `false` if there is none.
    fn admit(&mut self, per_second: u32, now_ms: u64) -> bool {
        const SECOND_NS: u64 = 1_000_000_000;
        let Some(token_ns) = SECOND_NS.checked_div(u64::from(per_second)) else { return true };
        let now_ns = now_ms.saturating_mul(1_000_000);
        let full_at_ns = self.full_at_ns.max(now_ns).saturating_add(token_ns);
        let is_left = full_at_ns - now_ns <= SECOND_NS;
        if is_left {
            self.full_at_ns = full_at_ns;
        }
        is_left
    }
}
