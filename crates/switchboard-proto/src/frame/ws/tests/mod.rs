//! The framer's tests.

use super::*;

/// A client's frame, masked.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let (head, head_len) = write::head(first, payload.len());
    bytes.extend_from_slice(&head[..head_len]);
    bytes[1] |= 0x80;
    let mask = [0x37, 0xfa, 0x21, 0x3d];
    bytes.extend_from_slice(&mask);
    mask::unmask_onto(&mut bytes, payload, mask, 0);
    bytes
}

#[test]
fn the_examples_of_the_rfc_are_understood() {
    let mut framer = WsFramer::default();
    let limits = WsLimits::default();
    let mut scratch = Vec::new();
    let bytes = [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];
    assert_eq!(frame(0x81, b"Hello"), bytes);
    let mut input = &bytes[..];
    assert_eq!(framer.next(&mut input, &mut scratch, &limits, 0), Ok(Some(WsFrame::Text("Hello"))));
    assert!(input.is_empty() && !framer.is_partial());
    for byte in bytes {
        assert_eq!(framer.is_partial(), byte != 0x81);
        let got = framer.next(&mut &[byte][..], &mut scratch, &limits, 0);
        assert_eq!(got, Ok((byte == 0x58).then_some(WsFrame::Text("Hello"))));
    }
    assert!(!framer.is_partial());
}

#[test]
fn a_framer_is_three_words() {
    assert!(size_of::<WsFramer>() <= 24);
}

#[test]
fn what_was_compressed_is_inflated_again() {
    let mut framer = WsFramer::with_deflate();
    let limits = WsLimits { max_message_bytes: 1 << 20, ..WsLimits::default() };
    let mut deflater = deflate::Deflater::default();
    for text in ["".to_owned(), "Hello".to_owned(), "ab".repeat(100_000)] {
        let mut out = Vec::new();
        deflater.write_message(&mut out, MessageKind::Text, text.as_bytes());
        let (_, used) = Header::parse(&[&out[..1], &[out[1] | 0x80], &out[2..], &[0; 14]].concat()).unwrap().unwrap();
        let bytes = frame(out[0], &out[used - 4..]);
        let mut scratch = Vec::new();
        let got = framer.next(&mut &bytes[..], &mut scratch, &limits, 0);
        assert_eq!(got, Ok(Some(WsFrame::Text(&text))));
    }
}
