//! Conformance, case by case, in the groups of Autobahn's test suite; what one case cannot say is beside.
//!
//! A case is a row: its number, what it is, what the client sends, and what must come of it. Every row is played in one
//! piece, byte by byte, and cut in two at every place.

mod closing;
mod compression;
mod faults;
mod fragments;
mod framing;

mod limits;
mod offers;
mod opening;
mod round_trip;
mod utf8;

use super::*;

/// What must come of a step.
type Seen = Result<WsFrame<'static>, WsError>;

/// One case.
struct Row {
    id: String,
    what: String,
    input: Vec<u8>,
    expected: Vec<Seen>,
    limits: WsLimits,
    deflate: bool,
}

fn row(
    id: impl Into<String>,
    what: impl Into<String>,
    frames: impl IntoIterator<Item = Vec<u8>>,
    expected: impl IntoIterator<Item = Seen>,
) -> Row {
    Row {
        id: id.into(),
        what: what.into(),
        input: frames.into_iter().flatten().collect(),
        expected: expected.into_iter().collect(),
        limits: OFF,
        deflate: false,
    }
}

/// No limits but the one of size.
const OFF: WsLimits = WsLimits { max_message_bytes: 1 << 18, max_fragments: 0, control_per_second: 0 };

impl Row {
    fn limits(self, limits: WsLimits) -> Self {
        Self { limits, ..self }
    }

    fn deflate(self) -> Self {
        Self { deflate: true, ..self }
    }

    fn framer(&self) -> WsFramer {
        if self.deflate { WsFramer::with_deflate() } else { WsFramer::default() }
    }

    /// Feeds the pieces one after the other and compares.
    #[track_caller]
    fn play<'p>(&self, pieces: impl IntoIterator<Item = &'p [u8]>, how: &str) {
        let Self { id, what, .. } = self;
        let mut framer = self.framer();
        let mut scratch = Vec::new();
        let mut expected = self.expected.iter();
        for mut input in pieces {
            loop {
                let seen = framer.next(&mut input, &mut scratch, &self.limits, 0).transpose();
                let ended = matches!(seen, Some(Err(_) | Ok(WsFrame::Close { .. })));
                assert!(!ended || input.is_empty() && !framer.is_partial(), "{id} {what}, {how}: goes on");
                let Some(seen) = seen else { break };
                assert_eq!(Some(&seen), expected.next(), "{id} {what}, {how}");
            }
            assert!(input.is_empty(), "{id} {what}, {how}: input is left");
        }
        assert_eq!(expected.next(), None, "{id} {what}, {how}");
    }
}

/// A client's frame: the first byte with its bits and opcode, and the payload before it is masked.
fn frame(first: u8, payload: impl AsRef<[u8]>) -> Vec<u8> {
    masked_frame(first, payload.as_ref(), [0x37, 0xfa, 0x21, 0x3d])
}

fn masked_frame(first: u8, payload: &[u8], mask: [u8; 4]) -> Vec<u8> {
    let (head, head_len) = write::head(first, payload.len());
    let mut bytes = head[..head_len].to_vec();
    bytes[1] |= 0x80;
    bytes.extend_from_slice(&mask);
    mask::unmask_onto(&mut bytes, payload, mask, 0);
    bytes
}

fn text(payload: impl AsRef<[u8]>) -> Vec<u8> {
    frame(0x81, payload)
}

fn binary(payload: impl AsRef<[u8]>) -> Vec<u8> {
    frame(0x82, payload)
}

/// The first frame of a text that goes on.
fn text_part(payload: impl AsRef<[u8]>) -> Vec<u8> {
    frame(0x01, payload)
}

/// The first frame of a binary message that goes on.
fn binary_part(payload: impl AsRef<[u8]>) -> Vec<u8> {
    frame(0x02, payload)
}

/// A frame in the middle of a message.
fn part(payload: impl AsRef<[u8]>) -> Vec<u8> {
    frame(0x00, payload)
}

/// The last frame of a message of several.
fn end(payload: impl AsRef<[u8]>) -> Vec<u8> {
    frame(0x80, payload)
}

fn ping(payload: impl AsRef<[u8]>) -> Vec<u8> {
    frame(0x89, payload)
}

fn pong(payload: impl AsRef<[u8]>) -> Vec<u8> {
    frame(0x8a, payload)
}

fn close(code: u16, reason: impl AsRef<[u8]>) -> Vec<u8> {
    frame(0x88, [&code.to_be_bytes(), reason.as_ref()].concat())
}

/// The same letter many times; lives as long as the tests.
fn many(len: usize) -> &'static str {
    "*".repeat(len).leak()
}

fn saw_close(code: u16, reason: &'static str) -> Seen {
    Ok(WsFrame::Close { code: Some(code), reason })
}

fn all() -> Vec<Row> {
    let mut rows = framing::rows();
    rows.extend(fragments::rows());
    rows.extend(utf8::rows());
    rows.extend(closing::rows());
    rows.extend(limits::rows());
    rows.extend(compression::rows());
    rows.extend(offers::rows());
    rows
}

#[test]
fn every_case_comes_out_as_it_must_in_one_piece() {
    for row in all() {
        row.play([&row.input[..]], "in one piece");
    }
}

#[test]
fn every_case_comes_out_the_same_byte_by_byte() {
    for row in all() {
        row.play(row.input.chunks(1), "byte by byte");
    }
}

#[test]
fn every_case_comes_out_the_same_wherever_it_is_cut_in_two() {
    for row in all() {
        // Of long ones the places where something begins or ends, and some between.
        let len = row.input.len();
        for at in (0..=len).filter(|at| len < 600 || *at < 40 || len - at < 40 || at % (len / 16) == 0) {
            let (one, two) = row.input.split_at(at);
            row.play([one, two], &format!("cut at {at}"));
        }
    }
}

#[test]
fn every_case_comes_out_the_same_in_pieces_of_any_size() {
    for row in all() {
        // Of long ones not the smallest: byte by byte says the same.
        let least = if row.input.len() < 20_000 { 2 } else { 61 };
        for size in [2, 3, 5, 7, 11, 14, 61, 251, 997, 4096].into_iter().filter(|size| *size >= least) {
            row.play(row.input.chunks(size), &format!("in pieces of {size}"));
        }
    }
}

#[test]
fn there_are_at_least_300_cases_and_each_has_its_own_number() {
    let mut ids: Vec<String> = all().into_iter().map(|row| row.id).collect();
    assert!(ids.len() >= 300, "{}", ids.len());
    ids.sort();
    let all = ids.len();
    ids.dedup();
    assert_eq!(ids.len(), all);
}

#[test]
fn a_framer_is_three_words() {
    assert!(size_of::<WsFramer>() <= 24, "{}", size_of::<WsFramer>());
}

#[test]
fn nothing_is_kept_for_a_connection_at_rest() {
    let mut framer = WsFramer::with_deflate();
    let mut scratch = Vec::new();
    let compressed = [0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
    for bytes in [text("a"), ping("b"), [text_part("a"), ping("b"), end("c")].concat(), frame(0xc1, compressed)] {
        for byte in &bytes[..bytes.len() - 1] {
            _ = framer.next(&mut &[*byte][..], &mut scratch, &OFF, 0).unwrap();
            assert!(framer.is_partial());
        }
        assert!(framer.next(&mut &bytes[bytes.len() - 1..], &mut scratch, &OFF, 0).unwrap().is_some());
        assert!(framer.partial.is_none());
    }
}
