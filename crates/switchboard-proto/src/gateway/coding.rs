//! How messages to a client are packed.

use std::cell::RefCell;
use std::fmt;
use std::io;

use flate2::{Compress, Compression, FlushCompress, Status};
use zstd::stream::raw::{CParameter, Encoder, InBuffer, Operation as _, OutBuffer};

use crate::frame::ws::deflate::Deflater;
use crate::frame::ws::{self, MessageKind};

use super::opening;
use super::settings::{StreamSeat, Streams};

/// What output grows by, at least.
const STEP_BYTES: usize = 512;

/// Window of a stream of zlib: with it the stream holds some 250 KiB.
const ZLIB_WINDOW_BITS: u8 = 14;

/// Window of a stream of zstd: with it and the level the stream holds some 100 KiB.
const ZSTD_WINDOW_BITS: u32 = 16;

/// See [`ZSTD_WINDOW_BITS`].
const ZSTD_LEVEL: i32 = 1;

thread_local! {
    /// A compressor is too large to be made for each message. It forgets each as soon as it is written.
    static PACKER: RefCell<Packer> = RefCell::new(Packer {
        stream: Compress::new(Compression::default(), true),
        packed: Vec::new(),
    });

    /// The same for clients whose WebSocket inflates.
    static DEFLATER: RefCell<Deflater> = RefCell::default();
}

struct Packer {
    stream: Compress,
    /// A message that was packed.
    packed: Vec<u8>,
}

/// How messages to one client are packed.
#[derive(Debug, Default)]
pub(super) enum Coding {
    /// Text frames, as they are.
    #[default]
    Text,
    /// Text frames, compressed as was agreed on in the handshake where that makes them shorter.
    Deflated,
    /// Each message is a zlib stream in a binary frame.
    Zlib,
    /// All messages are one zlib stream; each ends with `00 00 FF FF`.
    ZlibStream(Box<Seated<Compress>>),
    /// All messages are one zstd frame, flushed for each.
    ZstdStream(Box<Seated<Zstd>>),
}

/// A compressor of one connection, and its place among those that there may be.
#[derive(Debug)]
pub(super) struct Seated<T> {
    stream: T,
    _seat: StreamSeat,
}

/// A compressor that goes on from message to message.
pub(super) struct Zstd(Encoder<'static>);

impl fmt::Debug for Zstd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Zstd")
    }
}

impl Coding {
    /// As a client asked for; `deflate` was agreed on. `None`: there is no room for one more compressor.
    pub(super) fn new(compress: opening::Compress, deflate: bool, streams: &Streams) -> Option<Self> {
        Some(match compress {
            opening::Compress::None if deflate => Self::Deflated,
            opening::Compress::None => Self::Text,
            opening::Compress::Zlib => Self::Zlib,
            opening::Compress::ZlibStream => {
                let stream = Compress::new_with_window_bits(Compression::default(), true, ZLIB_WINDOW_BITS);
                Self::ZlibStream(Box::new(Seated { _seat: streams.take()?, stream }))
            }
            opening::Compress::ZstdStream => {
                Self::ZstdStream(Box::new(Seated { _seat: streams.take()?, stream: Zstd::new().ok()? }))
            }
        })
    }

    /// Whether a client can read a message only if it was sent all that came before.
    pub(super) fn builds_on_all(&self) -> bool {
        matches!(self, Self::ZlibStream(..) | Self::ZstdStream(..))
    }

    /// Whether messages are text.
    pub(super) fn is_text(&self) -> bool {
        matches!(self, Self::Text | Self::Deflated)
    }

    /// Appends the JSON that `write` writes as a message.
    pub(super) fn message(&mut self, out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
        if let Self::Text = self {
            let mark = ws::begin_text(out);
            write(out);
            return ws::finish_text(out, mark);
        }
        let start = out.len();
        write(out);
        if let Self::Deflated = self {
            return deflate_text(out, start);
        }
        PACKER.with_borrow_mut(|Packer { stream, packed }| {
            packed.clear();
            let json = &out[start..];
            match self {
                Self::Text | Self::Deflated => {}
                Self::Zlib => {
                    stream.reset();
                    deflate(stream, json, packed, FlushCompress::Finish);
                }
                Self::ZlibStream(seated) => deflate(&mut seated.stream, json, packed, FlushCompress::Sync),
                Self::ZstdStream(seated) => seated.stream.push(json, packed),
            }
            out.truncate(start);
            ws::write_message(out, MessageKind::Binary, packed);
        });
    }
}

/// Makes a frame of the text behind `start`.
fn deflate_text(out: &mut Vec<u8>, start: usize) {
    let mut frame = Vec::new();
    DEFLATER.with_borrow_mut(|deflater| deflater.write_message(&mut frame, MessageKind::Text, &out[start..]));
    if frame.len() >= out.len() - start {
        frame.clear();
        ws::write_message(&mut frame, MessageKind::Text, &out[start..]);
    }
    out.truncate(start);
    out.append(&mut frame);
}

/// Compresses all of `json`, up to where a client can read it.
fn deflate(stream: &mut Compress, json: &[u8], packed: &mut Vec<u8>, flush: FlushCompress) {
    let begin = stream.total_in();
    loop {
        packed.reserve(STEP_BYTES.max(json.len() / 4));
        let used = (stream.total_in() - begin) as usize;
        // It fails only for a stream that was ended, which none is here.
        let Ok(status) = stream.compress_vec(&json[used..], packed, flush) else { break };
        if status == Status::StreamEnd || packed.len() < packed.capacity() {
            break;
        }
    }
}

impl Zstd {
    fn new() -> io::Result<Self> {
        let mut encoder = Encoder::new(ZSTD_LEVEL)?;
        encoder.set_parameter(CParameter::WindowLog(ZSTD_WINDOW_BITS))?;
        Ok(Self(encoder))
    }

    fn push(&mut self, json: &[u8], packed: &mut Vec<u8>) {
        let mut input = InBuffer::around(json);
        loop {
            packed.reserve(STEP_BYTES.max(json.len() / 4));
            let end = packed.len();
            let mut out = OutBuffer::around_pos(packed, end);
            // It fails only where memory does, and that ends the process first.
            let left = match input.pos() < json.len() {
                true => self.0.run(&mut input, &mut out).map(|_| 1),
                false => self.0.flush(&mut out),
            };
            if !matches!(left, Ok(1..)) {
                break;
            }
        }
    }
}
