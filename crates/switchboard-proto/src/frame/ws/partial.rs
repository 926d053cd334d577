//! What is kept of frames and messages that are not complete.

use super::WsLimits;
use super::deflate;
use super::error::WsError;
use super::header::{Header, MAX_HEADER_BYTES, Opcode};
use super::mask;

/// Frames and messages that have begun and are not complete.
#[derive(Debug, Default)]
pub(super) struct Partial {
    /// The first bytes of a frame whose head has not come whole.
    head: [u8; MAX_HEADER_BYTES],
    head_len: usize,
    /// A frame whose payload has not come whole.
    frame: Option<Frame>,
    /// The payload of an incomplete control frame so far.
    control: Vec<u8>,
    /// A message whose last frame has not come whole.
    message: Option<Message>,
}

#[derive(Debug)]
struct Frame {
    opcode: Opcode,
    fin: bool,
    mask: [u8; 4],
    /// Bytes of the payload that were taken.
    taken: u64,
    /// Bytes of the payload to come.
    missing: u64,
}

/// A message that has begun.
#[derive(Debug)]
pub(super) struct Message {
    opcode: Opcode,
    /// The payload so far, unmasked. What is compressed is inflated when it is complete.
    payload: Vec<u8>,
    is_compressed: bool,
    /// How much of a text is known to be UTF-8.
    checked: usize,
    /// Frames so far.
    fragments: u32,
    /// Bytes so far, as announced by the heads of its frames.
    announced: u64,
}

/// What taking input brought.
pub(super) enum Piece {
    /// A message or control frame is complete. Its payload is in the scratch.
    Frame(Opcode),
    /// A frame is complete, and its message is not.
    Fragment,
    /// The input is used up.
    Incomplete,
}

impl Partial {
    pub(super) fn has_head(&self) -> bool {
        self.head_len > 0
    }

    pub(super) fn is_inside_frame(&self) -> bool {
        self.frame.is_some()
    }

    /// Whether nothing is left to be kept.
    pub(super) fn is_idle(&self) -> bool {
        !self.has_head() && self.frame.is_none() && self.message.is_none()
    }

    pub(super) fn message_mut(&mut self) -> Option<&mut Message> {
        self.message.as_mut()
    }

    /// Bytes of the buffers that grow.
    #[cfg(test)]
    pub(super) fn buffered_bytes(&self) -> usize {
        self.control.capacity() + self.message.as_ref().map_or(0, |message| message.payload.capacity())
    }

    /// Goes on with a frame's head; `None` if more is needed.
    pub(super) fn header(&mut self, input: &mut &[u8]) -> Result<Option<Header>, WsError> {
        let kept = self.head_len;
        let len = MAX_HEADER_BYTES.min(kept + input.len());
        self.head[kept..len].copy_from_slice(&input[..len - kept]);
        match Header::parse(&self.head[..len])? {
            Some((header, used)) => {
                self.head_len = 0;
                *input = &input[used - kept..];
                Ok(Some(header))
            }
            None => {
                self.head_len = len;
                *input = &input[len - kept..];
                Ok(None)
            }
        }
    }

    /// Begins a frame that was admitted.
    pub(super) fn begin(&mut self, header: &Header) {
        let &Header { opcode, fin, mask, len, .. } = header;
        self.frame = Some(Frame { opcode, fin, mask, taken: 0, missing: len });
        if matches!(opcode, Opcode::Text | Opcode::Binary) {
            self.message = Some(Message {
                opcode,
                payload: Vec::new(),
                is_compressed: header.rsv1,
                checked: 0,
                fragments: 1,
                announced: len,
            });
        }
    }

    /// Takes what there is of the frame that was begun. A payload that becomes complete is put into `scratch`.
    pub(super) fn take(
        &mut self,
        input: &mut &[u8],
        scratch: &mut Vec<u8>,
        limits: &WsLimits,
    ) -> Result<Piece, WsError> {
        let Some(frame) = &mut self.frame else { return Ok(Piece::Incomplete) };
        let take = usize::try_from(frame.missing).map_or(input.len(), |missing| missing.min(input.len()));
        let (piece, rest) = input.split_at(take);
        *input = rest;
        let phase = (frame.taken % 4) as usize;
        frame.taken += take as u64;
        frame.missing -= take as u64;
        let is_whole = frame.missing == 0;
        let (opcode, fin, mask) = (frame.opcode, frame.fin, frame.mask);
        if is_whole {
            self.frame = None;
        }
        if opcode.is_control() {
            mask::unmask_onto(&mut self.control, piece, mask, phase);
            if !is_whole {
                return Ok(Piece::Incomplete);
            }
            scratch.clear();
            scratch.append(&mut self.control);
            return Ok(Piece::Frame(opcode));
        }
        let Some(message) = &mut self.message else { return Ok(Piece::Incomplete) };
        message.take(piece, mask, phase, limits)?;
        if !is_whole {
            return Ok(Piece::Incomplete);
        }
        if !fin {
            return Ok(Piece::Fragment);
        }
        let opcode = message.opcode;
        let payload = std::mem::take(&mut message.payload);
        let is_compressed = message.is_compressed;
        self.message = None;
        scratch.clear();
        if is_compressed {
            deflate::inflate(&payload, [0; 4], scratch, limits.max_message_bytes)?;
        } else if payload.len() > scratch.capacity() {
            *scratch = payload;
        } else {
            scratch.extend_from_slice(&payload);
        }
        Ok(Piece::Frame(opcode))
    }
}

/// Checks the first frame of a message against the limits.
pub(super) fn admit_first(header: &Header, limits: &WsLimits) -> Result<(), WsError> {
    admit(header.len, header.rsv1, 1, limits)
}

fn admit(announced: u64, is_compressed: bool, fragments: u32, limits: &WsLimits) -> Result<(), WsError> {
    if announced > max_bytes(is_compressed, limits) as u64 {
        return Err(WsError::TooLarge);
    }
    if limits.max_fragments != 0 && fragments > limits.max_fragments {
        return Err(WsError::TooManyFragments);
    }
    Ok(())
}

impl Message {
    /// Checks one more frame of this message against the limits, and counts it.
    pub(super) fn admit(&mut self, header: &Header, limits: &WsLimits) -> Result<(), WsError> {
        self.announced = self.announced.saturating_add(header.len);
        self.fragments = self.fragments.saturating_add(1);
        admit(self.announced, self.is_compressed, self.fragments, limits)
    }

    fn take(&mut self, piece: &[u8], mask: [u8; 4], phase: usize, limits: &WsLimits) -> Result<(), WsError> {
        reserve(&mut self.payload, piece.len(), max_bytes(self.is_compressed, limits));
        mask::unmask_onto(&mut self.payload, piece, mask, phase);
        if self.opcode == Opcode::Text && !self.is_compressed { self.check_utf8() } else { Ok(()) }
    }

    /// Checks what has come of a text, so that a wrong byte is told when it comes and not at the message's end. A
    /// character may still be incomplete.
    fn check_utf8(&mut self) -> Result<(), WsError> {
        match std::str::from_utf8(&self.payload[self.checked..]) {
            Ok(text) => self.checked += text.len(),
            Err(error) if error.error_len().is_none() => self.checked += error.valid_up_to(),
            Err(_) => return Err(WsError::NotUtf8),
        }
        Ok(())
    }
}

/// The most bytes of a message, as they come.
fn max_bytes(is_compressed: bool, limits: &WsLimits) -> usize {
    if is_compressed { deflate::max_compressed(limits.max_message_bytes) } else { limits.max_message_bytes }
}

/// Makes room for `more` bytes in steps that double, without going beyond the limit.
fn reserve(payload: &mut Vec<u8>, more: usize, max_bytes: usize) {
    let needed = payload.len() + more;
    if needed > payload.capacity() {
        let capacity = payload.capacity().saturating_mul(2).min(max_bytes).max(needed);
        payload.reserve_exact(capacity - payload.len());
    }
}
