//! Cuts what was read into lines, and tells what a line is.

use std::io::{ErrorKind, Read};

use super::super::sys::find_line_feed;
use super::{Clock, LoadError};

/// The one buffer that all connections read into, and how often it was filled.
#[derive(Debug)]
pub(super) struct LineReader {
    buffer: Box<[u8]>,
    clock: Clock,
    /// Reads that brought something.
    pub(super) reads: u64,
}

impl LineReader {
    pub(super) fn new(clock: Clock) -> Self {
        Self { buffer: vec![0; READ_BYTES].into_boxed_slice(), clock, reads: 0 }
    }

    /// Reads all there is and hands over every line, without its end, with the time of its read.
    ///
    /// What follows the last line is kept in `partial` for the next time.
    pub(super) fn read(
        &mut self,
        mut stream: impl Read,
        partial: &mut Vec<u8>,
        mut on_line: impl FnMut(u64, &[u8]) -> Result<(), LoadError>,
    ) -> Result<(), LoadError> {
        loop {
            let kept = partial.len();
            if kept == self.buffer.len() {
                return Err(LoadError::Refused(format!("a line of more than {kept} bytes")));
            }
            self.buffer[..kept].copy_from_slice(partial);
            let read_bytes = match stream.read(&mut self.buffer[kept..]) {
                Ok(0) => return Err(LoadError::Closed),
                Ok(bytes) => bytes,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error.into()),
            };
            self.reads += 1;
            let now_ns = self.clock.now_ns();
            let end = kept + read_bytes;
            let mut rest = &self.buffer[..end];
            while let Some(length) = find_line_feed(rest) {
                let line = &rest[..length];
                on_line(now_ns, line.strip_suffix(b"\r").unwrap_or(line))?;
                rest = &rest[length + 1..];
            }
            partial.clear();
            partial.extend_from_slice(rest);
            // A read that left room has emptied the socket; readiness is announced again when more arrives.
            if end < self.buffer.len() {
                return Ok(());
            }
        }
    }
}

/// What a member of a room may hear.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// `say` was answered with success.
    Answer,
    /// A message that the generator has said.
    Message { speaker: u8, sequence: u32 },
}

impl Heard {
    pub(super) fn parse(line: &[u8]) -> Option<Self> {
        // As all known servers write it; the search is for those that order the members in another way.
        if let Some(text) = line.strip_prefix(br#"{"message":""#) {
            return parse_payload(text);
        }
        if line.starts_with(br#"{"status":"OK""#) {
            return Some(Self::Answer);
        }
        if let Some(start) = find(line, br#""message":""#) {
            return parse_payload(&line[start + br#""message":""#.len()..]);
        }
        find(line, br#""status":"OK""#).map(|_| Self::Answer)
    }
}

/// Appends the line with which a speaker says its message with this number, in [`PAYLOAD_BYTES`] of text.
pub(super) fn push_say(out: &mut Vec<u8>, room: &str, speaker: u8, sequence: u32) {
    out.extend_from_slice(b"say ");
    out.extend_from_slice(room.as_bytes());
    out.extend_from_slice(b" @");
    out.push(b'0' + speaker);
    let mut divisor = 10_u32.pow(SEQUENCE_DIGITS as u32 - 1);
    while divisor > 0 {
        out.push(b'0' + (sequence / divisor % 10) as u8);
        divisor /= 10;
    }
    out.extend_from_slice(&FILLER);
    out.extend_from_slice(b"\r\n");
}

/// The whole payload is compared, so a server that damages messages is found out.
fn parse_payload(text: &[u8]) -> Option<Heard> {
    let (head, rest) = text.split_at_checked(HEAD_BYTES)?;
    let is_digits = head[1..].iter().all(u8::is_ascii_digit);
    if head[0] != b'@' || !is_digits || !rest.starts_with(&FILLER) || rest.get(FILLER.len()) != Some(&b'"') {
        return None;
    }
    let sequence = head[2..].iter().fold(0, |number, digit| number * 10 + u32::from(digit - b'0'));
    Some(Heard::Message { speaker: head[1] - b'0', sequence })
}

pub(super) fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

/// Takes the longest burst of the scenarios (64 messages for one member) in one read.
const READ_BYTES: usize = 256 * 1024;

const PAYLOAD_BYTES: usize = 128;
const SEQUENCE_DIGITS: usize = 8;
/// A sign, the speaker, the number.
const HEAD_BYTES: usize = 2 + SEQUENCE_DIGITS;
const FILLER: [u8; PAYLOAD_BYTES - HEAD_BYTES] = [b'x'; PAYLOAD_BYTES - HEAD_BYTES];

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives out its bytes in pieces of at most so many, then blocks.
    struct Pieces<'a>(&'a [u8], usize);

    impl Read for Pieces<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            let bytes = self.0.len().min(self.1).min(buffer.len());
            if bytes == 0 {
                return Err(ErrorKind::WouldBlock.into());
            }
            buffer[..bytes].copy_from_slice(&self.0[..bytes]);
            self.0 = &self.0[bytes..];
            Ok(bytes)
        }
    }

    #[test]
    fn every_cut_of_the_bytes_gives_the_same_lines() {
        let text = b"one\r\n\r\ntwo\nthree\r\nand a beginn";
        for piece in 1..=text.len() {
            let mut reader = LineReader::new(Clock::start());
            let (mut lines, mut partial, mut pieces) = (Vec::new(), Vec::new(), Pieces(text, piece));
            while !pieces.0.is_empty() {
                let on_line = |_: u64, line: &[u8]| {
                    lines.push(line.to_vec());
                    Ok(())
                };
                reader.read(&mut pieces, &mut partial, on_line).unwrap();
            }
            assert_eq!(lines, [&b"one"[..], b"", b"two", b"three"], "in pieces of {piece}");
            assert_eq!(partial, b"and a beginn");
            assert_eq!(reader.reads, text.len().div_ceil(piece) as u64);
        }
    }

    #[test]
    fn the_end_of_the_stream_is_an_error() {
        let mut reader = LineReader::new(Clock::start());
        let result = reader.read(&b""[..], &mut Vec::new(), |_, _| Ok(()));
        assert!(matches!(result, Err(LoadError::Closed)));
    }

    #[test]
    fn what_is_said_is_recognised_when_heard() {
        let mut say = Vec::new();
        push_say(&mut say, "bench", 3, 1_234_567);
        let text = std::str::from_utf8(&say).unwrap().strip_prefix("say bench ").unwrap().trim_end();
        assert_eq!(text.len(), PAYLOAD_BYTES);
        let heard = Some(Heard::Message { speaker: 3, sequence: 1_234_567 });
        let usual = format!(r#"{{"message":"{text}","room":"bench","from":"1","context":"user","sentAt":1}}"#);
        assert_eq!(Heard::parse(usual.as_bytes()), heard);
        let other = format!(r#"{{"room":"bench","message":"{text}"}}"#);
        assert_eq!(Heard::parse(other.as_bytes()), heard);
        assert_eq!(Heard::parse(usual.replace("xx\"", "x?\"").as_bytes()), None);
        assert_eq!(Heard::parse(usual.replace("xx\"", "x\"").as_bytes()), None);
    }

    #[test]
    fn only_success_is_taken_for_an_answer() {
        assert_eq!(Heard::parse(br#"{"status":"OK","context":"response","messageCount":2}"#), Some(Heard::Answer));
        assert_eq!(Heard::parse(br#"{"context":"response","status":"OK"}"#), Some(Heard::Answer));
        assert_eq!(Heard::parse(br#"{"status":"connection not in this room","context":"response"}"#), None);
        assert_eq!(Heard::parse(br#"{"message":"short"}"#), None);
        assert_eq!(Heard::parse(b""), None);
    }
}
