//! Frames for clients: never masked, so that one frame serves any number of them.

use super::header::{FIN, MAX_CONTROL_BYTES, Opcode};

/// The two kinds of messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageKind {
    /// UTF-8 text.
    Text,
    /// Bytes.
    Binary,
}

impl MessageKind {
    pub(super) fn opcode(self) -> Opcode {
        match self {
            Self::Text => Opcode::Text,
            Self::Binary => Opcode::Binary,
        }
    }
}

/// Appends a whole message as one frame. The payload of a text is UTF-8; the caller answers for it.
pub fn write_message(out: &mut Vec<u8>, kind: MessageKind, payload: &[u8]) {
    write_frame(out, FIN | kind.opcode() as u8, payload);
}

/// Appends a close frame. Without a code the reason is left out; else it is cut at a character so that the frame keeps to
/// its 125 bytes.
pub fn write_close(out: &mut Vec<u8>, code: Option<u16>, reason: &str) {
    let Some(code) = code else { return write_frame(out, FIN | Opcode::Close as u8, &[]) };
    let code = code.to_be_bytes();
    let mut end = reason.len().min(MAX_CONTROL_BYTES - code.len());
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    let reason = &reason[..end];
    out.extend_from_slice(&[FIN | Opcode::Close as u8, (code.len() + reason.len()) as u8]);
    out.extend_from_slice(&code);
    out.extend_from_slice(reason.as_bytes());
}

/// Appends a ping. Of the payload no more is sent than the 125 bytes that fit.
pub fn write_ping(out: &mut Vec<u8>, payload: &[u8]) {
    write_frame(out, FIN | Opcode::Ping as u8, &payload[..payload.len().min(MAX_CONTROL_BYTES)]);
}

/// Appends a pong. Of the payload no more is sent than the 125 bytes that fit; that of a ping always fits.
pub fn write_pong(out: &mut Vec<u8>, payload: &[u8]) {
    write_frame(out, FIN | Opcode::Pong as u8, &payload[..payload.len().min(MAX_CONTROL_BYTES)]);
}

/// Where a text message begins whose length is not known yet.
#[derive(Debug)]
#[must_use = "the message has no head before `finish_text`"]
pub struct TextMark {
    start: usize,
}

impl TextMark {
    /// Where its payload begins.
    pub fn payload_start(&self) -> usize {
        self.start + RESERVED
    }
}

/// Appends one frame of a text message that is sent in fragments: the first, the last, or one between.
pub fn write_text_fragment(out: &mut Vec<u8>, is_first: bool, is_last: bool, payload: &[u8]) {
    let opcode = if is_first { Opcode::Text } else { Opcode::Continuation };
    write_frame(out, opcode as u8 | if is_last { FIN } else { 0 }, payload);
}

/// What [`begin_text`] keeps free: the head of a message of ordinary length, so that most payloads stay where they are.
const RESERVED: usize = 4;

/// Begins a text message of a length that is not known yet. What is appended to `out` from here to [`finish_text`] is its
/// payload.
pub fn begin_text(out: &mut Vec<u8>) -> TextMark {
    let start = out.len();
    out.extend_from_slice(&[0; RESERVED]);
    TextMark { start }
}

/// Ends a text message: writes its head and moves the payload up to it where another length of head was kept free.
///
/// # Panics
///
/// When `out` has become shorter than it was at `mark`.
pub fn finish_text(out: &mut Vec<u8>, mark: TextMark) {
    let payload = mark.payload_start();
    let (head, head_len) = head(FIN | Opcode::Text as u8, out.len() - payload);
    drop(out.splice(mark.start..payload, head.into_iter().take(head_len)));
}

/// Appends the head of a text message. The caller appends its payload, which has `len` bytes.
pub fn write_text_head(out: &mut Vec<u8>, len: usize) {
    let (head, head_len) = head(FIN | Opcode::Text as u8, len);
    out.extend_from_slice(&head[..head_len]);
}

fn write_frame(out: &mut Vec<u8>, first: u8, payload: &[u8]) {
    let (head, head_len) = head(first, payload.len());
    out.reserve(head_len + payload.len());
    out.extend_from_slice(&head[..head_len]);
    out.extend_from_slice(payload);
}

/// The head of a frame, and how long it is.
pub(super) fn head(first: u8, len: usize) -> ([u8; 10], usize) {
    let mut head = [first, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    if len <= 125 {
        head[1] = len as u8;
        (head, 2)
    } else if let Ok(len) = u16::try_from(len) {
        head[1] = 126;
        head[2..4].copy_from_slice(&len.to_be_bytes());
        (head, 4)
    } else {
        head[1] = 127;
        head[2..].copy_from_slice(&(len as u64).to_be_bytes());
        (head, 10)
    }
}
