//! Cuts what was read into the texts of the protocol: lines, or the payloads of WebSocket frames.

use std::io::{ErrorKind, Read};

use super::super::sys::find_line_feed;
use super::frames;
use super::payload::find;
use super::protocol::{Protocol, refused};
use super::{Clock, LoadError};

/// The one buffer that all connections read into, and how often it was filled.
#[derive(Debug)]
pub(crate) struct Reader {
    buffer: Box<[u8]>,
    clock: Clock,
    /// Reads that brought something.
    pub(super) reads: u64,
    /// What must be sent on the connection that was read last: answers to heartbeats.
    pub(super) replies: Vec<u8>,
}

impl Reader {
    pub(crate) fn new(clock: Clock) -> Self {
        Self { buffer: vec![0; READ_BYTES].into_boxed_slice(), clock, reads: 0, replies: Vec::new() }
    }

    /// Reads all there is and hands over every text that is for the load, with the time of its read.
    pub(crate) fn read(
        &mut self,
        mut stream: impl Read,
        inbound: &mut Inbound,
        mut on_text: impl FnMut(u64, &[u8]) -> Result<(), LoadError>,
    ) -> Result<(), LoadError> {
        loop {
            let kept = inbound.partial.len();
            if kept == self.buffer.len() {
                return Err(LoadError::Refused(format!("a text of more than {kept} bytes")));
            }
            self.buffer[..kept].copy_from_slice(&inbound.partial);
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
            while let Some(text) = inbound.next(&mut rest, &mut self.replies)? {
                on_text(now_ns, text)?;
            }
            inbound.partial.clear();
            if rest.is_empty() {
                // Thousands of connections read something long once.
                inbound.partial.shrink_to(KEPT_BYTES);
            }
            inbound.partial.extend_from_slice(rest);
            // A read that left room has emptied the socket; readiness is announced again when more arrives.
            if end < self.buffer.len() {
                return Ok(());
            }
        }
    }
}

/// Where a connection's reading stands.
#[derive(Debug)]
pub(crate) struct Inbound {
    protocol: Protocol,
    framing: Framing,
    /// What followed the last whole text, for the next time.
    partial: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
enum Framing {
    /// The head of the answer to an upgrade, up to its empty line.
    Head,
    Lines,
    Frames,
}

impl Inbound {
    pub(crate) fn new(protocol: Protocol) -> Self {
        let framing = match protocol {
            Protocol::Line => Framing::Lines,
            Protocol::Ddp | Protocol::Gateway | Protocol::SocketIo | Protocol::WebSocket => Framing::Head,
        };
        Self { protocol, framing, partial: Vec::new() }
    }

    /// Takes the next text for the load off `bytes`, and what comes before it; `None` if there is no whole one.
    #[inline]
    fn next<'a>(&mut self, bytes: &mut &'a [u8], replies: &mut Vec<u8>) -> Result<Option<&'a [u8]>, LoadError> {
        match self.framing {
            Framing::Lines => Ok(find_line_feed(bytes).map(|length| {
                let line = &bytes[..length];
                *bytes = &bytes[length + 1..];
                line.strip_suffix(b"\r").unwrap_or(line)
            })),
            Framing::Frames => self.next_in_frames(bytes, replies),
            Framing::Head => Ok(find(bytes, END_OF_HEAD).map(|length| {
                let (head, rest) = bytes.split_at(length + END_OF_HEAD.len());
                *bytes = rest;
                self.framing = Framing::Frames;
                head
            })),
        }
    }

    fn next_in_frames<'a>(&self, bytes: &mut &'a [u8], replies: &mut Vec<u8>) -> Result<Option<&'a [u8]>, LoadError> {
        while let Some(frame) = frames::next(bytes)? {
            match frame.opcode {
                frames::TEXT => {
                    if let Some(content) = self.protocol.content(frame.payload, replies) {
                        return Ok(Some(content));
                    }
                }
                frames::PING => frames::push(replies, frames::PONG, &[frame.payload]),
                frames::PONG => {}
                frames::CLOSE => return Err(LoadError::Closed),
                _ => return Err(refused(frame.payload)),
            }
        }
        Ok(None)
    }
}

/// Takes the longest burst of the scenarios (64 messages for one member) in one read.
const READ_BYTES: usize = 256 * 1024;

/// What a connection keeps of the memory for a text that came in parts.
const KEPT_BYTES: usize = 16 * 1024;

const END_OF_HEAD: &[u8] = b"\r\n\r\n";

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

    /// Reads `stream` in pieces of every size and returns what all of them gave: the texts, what is left, the replies.
    fn read_in_every_cut(protocol: Protocol, stream: &[u8]) -> (Vec<Vec<u8>>, Vec<u8>, Vec<u8>) {
        let mut results: Vec<_> = (1..=stream.len())
            .map(|piece| {
                let (mut reader, mut inbound) = (Reader::new(Clock::start()), Inbound::new(protocol));
                let (mut texts, mut pieces) = (Vec::new(), Pieces(stream, piece));
                while !pieces.0.is_empty() {
                    let on_text = |_: u64, text: &[u8]| {
                        texts.push(text.to_vec());
                        Ok(())
                    };
                    reader.read(&mut pieces, &mut inbound, on_text).unwrap();
                }
                assert_eq!(reader.reads, stream.len().div_ceil(piece) as u64);
                (texts, inbound.partial, reader.replies)
            })
            .collect();
        results.dedup();
        assert_eq!(results.len(), 1, "{results:?}");
        results.remove(0)
    }

    #[test]
    fn every_cut_of_the_bytes_gives_the_same_lines() {
        let (lines, rest, replies) = read_in_every_cut(Protocol::Line, b"one\r\n\r\ntwo\nthree\r\nand a beginn");
        assert_eq!(lines, [&b"one"[..], b"", b"two", b"three"]);
        assert_eq!((&rest[..], &replies[..]), (&b"and a beginn"[..], &b""[..]));
    }

    #[test]
    fn every_cut_of_the_bytes_gives_the_same_messages() {
        let head = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n";
        let long = "x".repeat(200);
        let mut stream = head.to_vec();
        for (opcode, text) in [
            (frames::TEXT, r#"{"welcome":"Hello!"}"#),
            (frames::PING, "here?"),
            (frames::PONG, ""),
            (frames::TEXT, r#""primus::ping::5""#),
            (frames::TEXT, &long),
        ] {
            stream.push(0x80 | opcode);
            match text.len() {
                bytes @ 0..126 => stream.push(bytes as u8),
                bytes => stream.extend_from_slice(&[126, 0, bytes as u8]),
            }
            stream.extend_from_slice(text.as_bytes());
        }
        stream.extend_from_slice(b"\x81\x03ab");
        let (texts, rest, replies) = read_in_every_cut(Protocol::WebSocket, &stream);
        assert_eq!(texts, [&head[..], br#"{"welcome":"Hello!"}"#, long.as_bytes()]);
        assert_eq!(rest, b"\x81\x03ab");
        assert_eq!(replies, b"\x8a\x85\0\0\0\0here?\x81\x91\0\0\0\0\"primus::pong::5\"");
    }

    #[test]
    fn the_end_of_the_connection_is_an_error() {
        let close = b"HTTP/1.1 101 \r\n\r\n\x88\x02\x03\xe8";
        for (protocol, stream) in [(Protocol::Line, &b""[..]), (Protocol::WebSocket, b""), (Protocol::WebSocket, close)]
        {
            let result = Reader::new(Clock::start()).read(stream, &mut Inbound::new(protocol), |_, _| Ok(()));
            assert!(matches!(result, Err(LoadError::Closed)), "{protocol:?}");
        }
    }

    #[test]
    fn frames_that_are_not_text_are_refused() {
        let binary = &b"HTTP/1.1 101 \r\n\r\n\x82\x01a"[..];
        let result = Reader::new(Clock::start()).read(binary, &mut Inbound::new(Protocol::WebSocket), |_, _| Ok(()));
        assert!(matches!(result, Err(LoadError::Refused(_))));
    }
}
