//! Compressed messages: RFC 7692, section 7.
//!
//! No window outlives a message in either direction, which the handshake demands of the client: an idle connection
//! costs nothing, and a frame that was compressed once serves every recipient.

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use super::error::WsError;
use super::header::{FIN, RSV1};
use super::mask;
use super::write::{MessageKind, head};

/// What the sender cut from the end of every message.
const TAIL: [u8; 4] = [0x00, 0x00, 0xff, 0xff];

/// An empty last block. Behind [`TAIL`] it ends the stream, unless the message was cut short.
const LAST_BLOCK: [u8; 2] = [0x03, 0x00];

/// How much is unmasked at a time. Whole masks fit.
const CHUNK_BYTES: usize = 2048;

/// What output begins with and grows by, at least.
const STEP_BYTES: usize = 1024;

/// The most bytes that a message of `max_bytes` may have when compressed: what incompressible bytes grow by in the worst of
/// zlib's modes, and a little.
pub(super) fn max_compressed(max_bytes: usize) -> usize {
    max_bytes.saturating_add(max_bytes / 7).saturating_add(64)
}

/// Inflates a whole message, still masked, onto `out`. The inflater with its window lives no longer than this call, so
/// that what a client can make the server keep is what it has sent.
///
/// # Errors
///
/// As soon as there are more than `max_bytes`, or the data cannot be inflated.
pub(super) fn inflate(payload: &[u8], mask: [u8; 4], out: &mut Vec<u8>, max_bytes: usize) -> Result<(), WsError> {
    let mut inflater = Inflater { stream: Decompress::new(false), is_fresh: true, has_ended: false };
    let mut unmasked = [0; CHUNK_BYTES];
    for chunk in payload.chunks(CHUNK_BYTES) {
        let unmasked = &mut unmasked[..chunk.len()];
        unmasked.copy_from_slice(chunk);
        mask::apply(unmasked, mask, 0);
        inflater.push(unmasked, out, max_bytes)?;
    }
    inflater.finish(out, max_bytes)
}

/// Inflates one message.
struct Inflater {
    stream: Decompress,
    /// Nothing has come since the stream began.
    is_fresh: bool,
    /// The last block of a stream has come; another stream may follow.
    has_ended: bool,
}

impl Inflater {
    /// Inflates `data` onto `out`.
    fn push(&mut self, mut data: &[u8], out: &mut Vec<u8>, max_bytes: usize) -> Result<(), WsError> {
        loop {
            if self.has_ended && !data.is_empty() {
                // Section 7.2.3.4: a block may call itself the last one, and another may follow.
                self.stream.reset(false);
                self.has_ended = false;
            }
            if out.len() == out.capacity() {
                grow(out, max_bytes);
            }
            let (in_before, out_before) = (self.stream.total_in(), out.len());
            let status = self.stream.decompress_vec(data, out, FlushDecompress::None);
            let used = (self.stream.total_in() - in_before) as usize;
            data = &data[used..];
            self.is_fresh &= used == 0;
            if out.len() > max_bytes {
                return Err(WsError::TooLarge);
            }
            self.has_ended |= status.map_err(|_| WsError::MalformedDeflate)? == Status::StreamEnd;
            if data.is_empty() && (self.has_ended || out.len() < out.capacity()) {
                return Ok(());
            }
            if used == 0 && out.len() == out_before {
                return Err(WsError::MalformedDeflate);
            }
        }
    }

    /// Ends the message: what the sender cut is put back, and the stream must be complete.
    fn finish(&mut self, out: &mut Vec<u8>, max_bytes: usize) -> Result<(), WsError> {
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

/// Makes room for output: little at first, and all that is allowed once a quarter of it is used, so that the last step
/// does not hold much twice. It is one byte more than allowed: a message of just the allowed length is known to have
/// ended when that byte stays free.
fn grow(out: &mut Vec<u8>, max_bytes: usize) {
    let most = max_bytes.saturating_add(1);
    let next = out.capacity().saturating_mul(4).max(STEP_BYTES);
    let capacity = if next.saturating_mul(4) > most { most.max(out.len() + 1) } else { next };
    out.reserve_exact(capacity - out.len());
}

/// Compresses messages. It holds about 370 KiB: one is enough for all connections of a thread.
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
pub fn compress(out: &mut Vec<u8>, kind: MessageKind, payload: &[u8]) {
    Deflater::default().write_message(out, kind, payload);
}
