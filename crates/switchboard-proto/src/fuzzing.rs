//! Bodies of fuzz targets as plain functions, so that their corpus is replayed by ordinary tests.

use crate::call::CallError;
use crate::effect::Effects;
use crate::face::{ConnFacts, Cx, FaceSettings, Remote};
use crate::frame::line::Framing;
use crate::frame::ws::{MessageKind, WsError, WsFrame, WsFramer, WsLimits, deflate, handshake};
use crate::id::ConnId;
use crate::json::{self, JsonLimits, RawJson};
use crate::peer::{PeerKind, Step};
use crate::time::{Now, Stamps};

/// Feeds `data` to a line-protocol peer, cut as its first bytes say, refuses every call, and checks what any client may
/// rely on: every answer is one JSON line, numbers never fall, nothing panics.
///
/// # Panics
///
/// When an answer is not what a client may rely on.
#[allow(clippy::expect_used, reason = "a fuzz target fails by panicking")]
pub fn line_peer(data: &[u8]) {
    let (head, mut data) = data.split_at(data.len().min(4));
    let mut settings = FaceSettings::default();
    settings.socket.framing = Framing { max_line_bytes: 256, ..Framing::default() };
    let facts = ConnFacts {
        id: ConnId::from_random(7),
        kind: crate::call::ConnectionType::Socket,
        remote: Remote::Unix,
        connected_at: 0,
        fingerprint: None,
    };
    let mut fx = Effects::default();
    let mut scratch = Vec::new();
    let stamps = Stamps::default();
    let mut peer = PeerKind::Socket.open();
    let mut cuts = head.iter().cycle();
    while !data.is_empty() {
        let cut = cuts.next().map_or(data.len(), |cut| usize::from(*cut) + 1).min(data.len());
        let (mut piece, rest) = data.split_at(cut);
        data = rest;
        loop {
            let mut cx = Cx {
                conn: &facts,
                now: Now::default(),
                settings: &settings,
                random: 1,
                stamps: &stamps,
                fx: &mut fx,
                scratch: &mut scratch,
            };
            if peer.feed(&mut piece, &mut cx) != Step::Frame {
                break;
            }
            if let Some((token, _)) = cx.fx.call.take() {
                peer.on_outcome(token, Err(CallError::Unavailable), &mut cx);
            }
            if fx.close.is_some() {
                data = &[];
                break;
            }
        }
    }
    let mut last = 0;
    for line in fx.bytes.split_inclusive(|byte| *byte == b'\n') {
        let text = line.strip_suffix(b"\r\n").expect("every answer ends with CR LF");
        let answer: serde_json::Value = serde_json::from_slice(text).expect("every answer is JSON");
        if let Some(number) = answer.get("messageCount") {
            let number = number.as_u64().expect("a number is a number");
            assert!(number >= last, "numbers never fall");
            last = number;
        }
    }
}

/// Parses `data` as JSON under limits and checks that what was accepted keeps them, and means the same on one line.
///
/// # Panics
///
/// When something was accepted that goes beyond the limits, or means something else on one line.
pub fn json_limits(data: &[u8]) {
    fn depth(value: &serde_json::Value) -> usize {
        match value {
            serde_json::Value::Array(values) => 1 + values.iter().map(depth).max().unwrap_or(0),
            serde_json::Value::Object(members) => 1 + members.values().map(depth).max().unwrap_or(0),
            _ => 0,
        }
    }
    let limits = JsonLimits { depth: 8, keys: 8 };
    if let Ok(text) = std::str::from_utf8(data)
        && let Ok(value) = json::parse(text, limits)
    {
        assert!(depth(&value) <= limits.depth, "deeper than the limit");
        let raw = RawJson::from_parsed(text);
        assert!(!raw.as_str().contains(['\r', '\n']), "more than one line");
        assert_eq!(raw.to_value(), value, "means something else");
    }
}

/// Feeds `data` to a WebSocket framer, with compression, whole and cut as its first bytes say, and checks that both give the
/// same, within the limits.
///
/// # Panics
///
/// When they differ, or something goes beyond a limit.
pub fn ws_frames(data: &[u8]) {
    let (head, data) = data.split_at(data.len().min(4));
    let limits = WsLimits { max_message_bytes: 1000, max_fragments: 20, control_per_second: 10 };
    assert_eq!(hear(cut(head, data), &limits), hear([data].into_iter(), &limits), "a cut changes something");
}

/// Inflates `data` as a client's compressed message, whole and cut as its first bytes say, and checks that both give the
/// same, within the limits; then compresses it and checks that it comes back.
///
/// # Panics
///
/// When they differ, something goes beyond a limit, or does not come back.
pub fn ws_deflate(data: &[u8]) {
    let (head, data) = data.split_at(data.len().min(4));
    let data = &data[..data.len().min(60_000)];
    let limits = WsLimits { max_message_bytes: 4096, ..WsLimits::default() };
    for first in [0xc1, 0xc2] {
        let frame = client_frame(first, data);
        assert_eq!(
            hear(cut(head, &frame), &limits),
            hear([&frame[..]].into_iter(), &limits),
            "a cut changes something"
        );
    }
    let mut compressed = Vec::new();
    deflate::compress(&mut compressed, MessageKind::Binary, data);
    let head_len = if compressed[1] == 126 { 4 } else { 2 };
    let frame = client_frame(compressed[0], &compressed[head_len..]);
    let limits = WsLimits { max_message_bytes: data.len(), ..limits };
    assert_eq!(hear(cut(head, &frame), &limits), [Ok((0x2, data.to_vec()))], "it does not come back");
}

/// Reads `data` as the headers of a request, a line each, and checks that what was agreed would be agreed again.
///
/// # Panics
///
/// When the answer to an accepted request is not well-formed.
#[allow(clippy::expect_used, reason = "a fuzz target fails by panicking")]
pub fn ws_handshake(data: &[u8]) {
    let lines = || {
        data.split(|byte| *byte == b'\n').filter_map(|line| {
            let (name, value) = line.split_at_checked(line.iter().position(|byte| *byte == b':')?)?;
            Some((std::str::from_utf8(name).ok()?, &value[1..]))
        })
    };
    // Most bytes lead nowhere; offers alone are looked at in a request that is good otherwise.
    let good: [(&str, &[u8]); 4] = [
        ("upgrade", b"websocket"),
        ("connection", b"upgrade"),
        ("sec-websocket-version", b"13"),
        ("sec-websocket-key", b"dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    let extensions = lines().filter(|(name, _)| name.eq_ignore_ascii_case("sec-websocket-extensions"));
    let answers = [
        handshake::accept("GET", (1, 1), lines(), true),
        handshake::accept("GET", (1, 1), good.into_iter().chain(extensions), true),
    ];
    for accepted in answers.into_iter().flatten() {
        assert_eq!(accepted.accept.len(), 28);
        if let Some(params) = accepted.deflate {
            let offer = [("sec-websocket-extensions", params.header().as_bytes())];
            let again = handshake::accept("GET", (1, 1), good.into_iter().chain(offer), true);
            assert_eq!(again.expect("our own words are well-formed").deflate, Some(params));
        }
    }
}

/// A client's frame with a mask of zeros, of no more than 65,535 bytes.
fn client_frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    if payload.len() <= 125 {
        frame.push(0x80 | payload.len() as u8);
    } else {
        frame.push(0x80 | 126);
        frame.extend_from_slice(&(payload.len() as u16).to_be_bytes());
    }
    frame.extend_from_slice(&[0; 4]);
    frame.extend_from_slice(payload);
    frame
}

/// `data` in pieces of the sizes that `sizes` gives, again and again, each one more than its byte.
fn cut<'a>(sizes: &[u8], mut data: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
    let mut sizes = sizes.iter().cycle();
    std::iter::from_fn(move || {
        let size = sizes.next().map_or(data.len(), |size| usize::from(*size) + 1).min(data.len());
        let (piece, rest) = data.split_at(size);
        data = rest;
        (size > 0).then_some(piece)
    })
}

/// What a framer hears: opcode and payload, and how it ends.
fn hear<'a>(pieces: impl Iterator<Item = &'a [u8]>, limits: &WsLimits) -> Vec<Result<(u8, Vec<u8>), WsError>> {
    let mut framer = WsFramer::with_deflate();
    let mut scratch = Vec::new();
    let mut heard = Vec::new();
    let mut has_ended = false;
    for mut input in pieces {
        while let Some(frame) = framer.next(&mut input, &mut scratch, limits, 0).transpose() {
            assert!(!has_ended, "goes on after its end");
            has_ended = matches!(frame, Err(_) | Ok(WsFrame::Close { .. }));
            heard.push(frame.map(|frame| match frame {
                WsFrame::Text(text) => (0x1, text.as_bytes().to_vec()),
                WsFrame::Binary(bytes) => (0x2, bytes.to_vec()),
                WsFrame::Close { code, reason } => (0x8, format!("{code:?} {reason}").into_bytes()),
                WsFrame::Ping(payload) => (0x9, payload.to_vec()),
                WsFrame::Pong(payload) => (0xa, payload.to_vec()),
            }));
        }
        assert!(input.is_empty(), "input is left");
    }
    assert!(!has_ended || !framer.is_partial(), "keeps something after its end");
    for (opcode, payload) in heard.iter().flatten() {
        let max = if *opcode < 0x8 { limits.max_message_bytes } else { 200 };
        assert!(payload.len() <= max, "longer than the limit");
    }
    heard
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    /// Plays every file of a target's corpus; there is at least one.
    fn replay(target: &str, body: fn(&[u8])) {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(target);
        let mut played = 0;
        for entry in fs::read_dir(&corpus).unwrap() {
            let path = entry.unwrap().path();
            println!("{}", path.display());
            body(&fs::read(path).unwrap());
            played += 1;
        }
        assert!(played > 0, "{} is empty", corpus.display());
    }

    #[test]
    fn the_corpus_of_line_peer_still_passes() {
        replay("line_peer", super::line_peer);
    }

    #[test]
    fn the_corpus_of_json_limits_still_passes() {
        replay("json_limits", super::json_limits);
    }

    #[test]
    fn the_corpus_of_ws_frames_still_passes() {
        replay("ws_frames", super::ws_frames);
    }

    #[test]
    fn the_corpus_of_ws_deflate_still_passes() {
        replay("ws_deflate", super::ws_deflate);
    }

    #[test]
    fn the_corpus_of_ws_handshake_still_passes() {
        replay("ws_handshake", super::ws_handshake);
    }
}
