//! WebSocket frames as a client sends and receives them (RFC 6455), for a client that trusts its server.
//!
//! Sent frames are masked with a key of zeros: a server unmasks them as any other, and nobody computes anything here.
//! Received ones are lent from the buffer that they were read into.

use super::LoadError;

/// A frame from the server: a whole message, or a control frame.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Frame<'a> {
    pub(super) opcode: u8,
    pub(super) payload: &'a [u8],
}

/// Takes the first frame off `bytes`; `None` if it is not whole.
///
/// # Errors
///
/// For what no server of the bench sends: fragments, extensions, masked frames.
pub(super) fn next<'a>(bytes: &mut &'a [u8]) -> Result<Option<Frame<'a>>, LoadError> {
    let &[first, second, ref rest @ ..] = *bytes else { return Ok(None) };
    if first & !OPCODE_BITS != FINAL || second & MASKED != 0 {
        return Err(LoadError::Refused(format!("a frame that begins with {first:#04x} {second:#04x}")));
    }
    let length_bytes = match second {
        LENGTH_OF_2_BYTES => 2,
        LENGTH_OF_8_BYTES => 8,
        _ => 0,
    };
    let Some((length, rest)) = rest.split_at_checked(length_bytes) else { return Ok(None) };
    let payload_bytes = match length_bytes {
        0 => usize::from(second),
        _ => length.iter().fold(0, |number, &byte| number << 8 | usize::from(byte)),
    };
    let Some((payload, rest)) = rest.split_at_checked(payload_bytes) else { return Ok(None) };
    *bytes = rest;
    Ok(Some(Frame { opcode: first & OPCODE_BITS, payload }))
}

/// Appends a frame whose payload is these parts, one behind the other.
pub(super) fn push(out: &mut Vec<u8>, opcode: u8, parts: &[&[u8]]) {
    let payload_bytes: usize = parts.iter().map(|part| part.len()).sum();
    out.push(FINAL | opcode);
    match payload_bytes {
        0..126 => out.push(MASKED | payload_bytes as u8),
        126..65_536 => {
            out.push(MASKED | LENGTH_OF_2_BYTES);
            out.extend_from_slice(&(payload_bytes as u16).to_be_bytes());
        }
        _ => {
            out.push(MASKED | LENGTH_OF_8_BYTES);
            out.extend_from_slice(&(payload_bytes as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(&[0; MASK_BYTES]);
    parts.iter().for_each(|part| out.extend_from_slice(part));
}

pub(super) const TEXT: u8 = 1;
pub(super) const CLOSE: u8 = 8;
pub(super) const PING: u8 = 9;
pub(super) const PONG: u8 = 10;

/// The last frame of its message, with no extension in use.
const FINAL: u8 = 0x80;
const OPCODE_BITS: u8 = 0x0f;
const MASKED: u8 = 0x80;
const MASK_BYTES: usize = 4;
const LENGTH_OF_2_BYTES: u8 = 126;
const LENGTH_OF_8_BYTES: u8 = 127;

#[cfg(test)]
mod tests {
    use super::*;

    /// What a server sends: the same frame without a mask.
    fn unmasked(opcode: u8, payload: &[u8]) -> Vec<u8> {
        let mut header = vec![FINAL | opcode];
        match payload.len() {
            bytes @ 0..126 => header.push(bytes as u8),
            bytes @ 126..65_536 => {
                header.push(126);
                header.extend_from_slice(&(bytes as u16).to_be_bytes());
            }
            bytes => {
                header.push(127);
                header.extend_from_slice(&(bytes as u64).to_be_bytes());
            }
        }
        [&header, payload].concat()
    }

    #[test]
    fn frames_of_every_form_of_length_are_read() {
        for bytes in [0, 1, 125, 126, 127, 65_535, 65_536] {
            let payload = vec![b'x'; bytes];
            let first = unmasked(TEXT, &payload);
            for cut in [0, 1, first.len() - 1] {
                assert_eq!(next(&mut &first[..cut]).unwrap(), None, "{cut} bytes of {}", first.len());
            }
            let stream = [first, unmasked(PING, b"next")].concat();
            let mut rest = &stream[..];
            assert_eq!(next(&mut rest).unwrap(), Some(Frame { opcode: TEXT, payload: &payload }), "{bytes}");
            assert_eq!(next(&mut rest).unwrap(), Some(Frame { opcode: PING, payload: b"next" }), "{bytes}");
            assert_eq!(next(&mut rest).unwrap(), None);
        }
    }

    #[test]
    fn what_no_server_of_the_bench_sends_is_refused() {
        for (first, second) in [(0x01, 0), (0x80 | 0x40 | TEXT, 0), (0x80 | TEXT, 0x80)] {
            assert!(next(&mut &[first, second, 0, 0, 0, 0][..]).is_err(), "{first:#x} {second:#x}");
        }
    }

    #[test]
    fn frames_are_sent_with_the_shortest_length_and_a_mask_that_changes_nothing() {
        let mut out = Vec::new();
        push(&mut out, TEXT, &[b"ab", b"", b"c"]);
        assert_eq!(out, [0x81, 0x83, 0, 0, 0, 0, b'a', b'b', b'c']);
        out.clear();
        push(&mut out, TEXT, &[&[b'x'; 125]]);
        assert_eq!((out[1], out.len()), (0x80 | 125, 131));
        out.clear();
        push(&mut out, TEXT, &[&[b'x'; 126], b"yy"]);
        assert_eq!((&out[1..8], out.len()), (&[0x80 | 126, 0, 128, 0, 0, 0, 0][..], 136));
        out.clear();
        push(&mut out, TEXT, &[&[b'x'; 65_536]]);
        assert_eq!((&out[1..10], out.len()), (&[0x80 | 127, 0, 0, 0, 0, 0, 1, 0, 0][..], 65_550));
    }
}
