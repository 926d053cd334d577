//! Compressed messages: RFC 7692, section 7.
//!
//! No window outlives a message in either direction, which the handshake demands of the client: an idle connection
//! costs nothing, and a frame that was compressed once serves every recipient.

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use super::error::WsError;
use super::header::{FIN, RSV1};
use super::partial::reserve;
use super::write::{MessageKind, head};

/// What the sender cut from the end of every message.
const TAIL: [u8; 4] = [0x00, 0x00, 0xff, 0xff];

/// An empty last block. Behind [`TAIL`] it ends the stream, unless the message was cut short.
const LAST_BLOCK: [u8; 2] = [0x03, 0x00];

/// The least that output grows by.
const STEP_BYTES: usize = 1024;

/// The most bytes that a message of `max_bytes` may have when compressed: what incompressible bytes grow by in the worst of
/// zlib's modes, and a little.
pub(super) fn max_compressed(max_bytes: usize) -> usize {
    max_bytes.saturating_add(max_bytes / 7).saturating_add(64)
}

/// Inflates one message.
#[derive(Debug)]
pub(super) struct Inflater {
    stream: Decompress,
    /// Nothing has come since the stream began.
    is_fresh: bool,
    /// The last block of a stream has come; another stream may follow.
    has_ended: bool,
}

impl Default for Inflater {
    fn default() -> Self {
        Self { stream: Decompress::new(false), is_fresh: true, has_ended: false }
    }
}

impl Inflater {
    /// Inflates `data` onto `out`, which is left with no more than `max_bytes`.
    pub(super) fn push(&mut self, mut data: &[u8], out: &mut Vec<u8>, max_bytes: usize) -> Result<(), WsError> {
        loop {
            if self.has_ended && !data.is_empty() {
                // Section 7.2.3.4: a block may call itself the last one, and another may follow.
                self.stream.reset(false);
                self.has_ended = false;
                self.is_fresh = true;
            }
            if out.len() == out.capacity() {
                // One byte more than is allowed, so that a message of just the allowed length is known to have ended.
                reserve(out, STEP_BYTES.min(max_bytes.saturating_add(1) - out.len()), max_bytes.saturating_add(1));
            }
            let (in_before, out_before) = (self.stream.total_in(), out.len());
            let status = self.stream.decompress_vec(data, out, FlushDecompress::None);
            let used = (self.stream.total_in() - in_before) as usize;
            data = &data[used..];
            self.is_fresh &= used == 0;
            if out.len() > max_bytes {
                out.truncate(max_bytes);
                return Err(WsError::TooLarge);
            }
            match status.map_err(|_| WsError::MalformedDeflate)? {
                Status::StreamEnd => self.has_ended = true,
                Status::Ok | Status::BufError => {}
            }
            if data.is_empty() && (self.has_ended || out.len() < out.capacity()) {
                return Ok(());
            }
            if used == 0 && out.len() == out_before {
                return Err(WsError::MalformedDeflate);
            }
        }
    }

    /// Ends the message: what the sender cut is put back, and the stream must be complete.
    pub(super) fn finish(&mut self, out: &mut Vec<u8>, max_bytes: usize) -> Result<(), WsError> {
        // Nothing behind a last block, and nothing at all, are not what the RFC describes, and what some clients send.
        if self.is_fresh || self.has_ended {
            return Ok(());
        }
        let len = out.len();
        self.push(&TAIL, out, max_bytes)?;
        if self.has_ended {
            return Err(WsError::MalformedDeflate);
        }
        self.push(&LAST_BLOCK, out, max_bytes)?;
        if self.has_ended && out.len() == len { Ok(()) } else { Err(WsError::MalformedDeflate) }
    }
}

/// Compresses messages. It holds about 256 KiB: one is enough for all connections of a thread.
#[derive(Debug)]
pub struct Deflater {
    stream: Compress,
}

impl Default for Deflater {
    fn default() -> Self {
        Self { stream: Compress::new(Compression::default(), false) }
    }
}

impl Deflater {
    /// Appends a whole message as one compressed frame, for every client whose handshake accepted permessage-deflate. The
    /// payload of a text is UTF-8; the caller answers for it.
    pub fn write_message(&mut self, out: &mut Vec<u8>, kind: MessageKind, payload: &[u8]) {
        let start = out.len();
        self.stream.reset();
        loop {
            out.reserve(STEP_BYTES.max(payload.len() / 4));
            let used = self.stream.total_in() as usize;
            // It fails only for a stream that was ended, which this one never is.
            let _ = self.stream.compress_vec(&payload[used..], out, FlushCompress::Sync);
            if out.len() < out.capacity() {
                break;
            }
        }
        out.truncate(out.len() - TAIL.len());
        let (head, head_len) = head(FIN | RSV1 | kind.opcode() as u8, out.len() - start);
        drop(out.splice(start..start, head.into_iter().take(head_len)));
    }
}

/// Appends a whole message as one compressed frame, as [`Deflater::write_message`] does with a compressor of its own.
pub fn write_message(out: &mut Vec<u8>, kind: MessageKind, payload: &[u8]) {
    Deflater::default().write_message(out, kind, payload);
}
