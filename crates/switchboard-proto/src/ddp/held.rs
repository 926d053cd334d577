//! What waits while a call is awaited.
//!
//! Frames of one connection are handled in their order, and a log-in may take a while: a password is not hashed in no time.
//! Pings must not wait for that, so frames are read on, and all but pings are kept. Were they left unread, a ping behind them
//! would be as well. When enough is kept, nothing more is read.

use std::collections::VecDeque;

use super::request::Request;
use super::settings::DdpSettings;

/// Frames that wait; each of them leads to at most one call, whose outcome may come within the call before it.
const MAX_FRAMES: usize = 16;

/// Bytes that wait. The frame that goes beyond is the last.
const MAX_BYTES: usize = 64 * 1024;

/// Longer frames are not pings. Four times the default length of an id, and the rest.
const URGENT_MAX_BYTES: usize = 1200;

/// Frames that wait, the oldest first.
#[derive(Debug, Default)]
pub(super) struct Held {
    frames: VecDeque<Box<str>>,
    bytes: usize,
}

impl Held {
    pub(super) fn push(&mut self, frame: &str) {
        self.bytes += frame.len();
        self.frames.push_back(frame.into());
    }

    pub(super) fn pop(&mut self) -> Option<Box<str>> {
        let frame = self.frames.pop_front()?;
        self.bytes -= frame.len();
        Some(frame)
    }

    pub(super) fn is_full(&self) -> bool {
        self.frames.len() >= MAX_FRAMES || self.bytes >= MAX_BYTES
    }
}

/// Reads a frame that need not wait; `None` for all others.
pub(super) fn parse_urgent(text: &str, settings: &DdpSettings) -> Option<Request> {
    if text.len() > URGENT_MAX_BYTES {
        return None;
    }
    Request::parse(text, settings).ok().filter(Request::jumps_the_queue)
}
