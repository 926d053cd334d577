//! Bodies of fuzz targets as plain functions, so that their corpus is replayed by ordinary tests.

use crate::call::CallError;
use crate::effect::Effects;
use crate::face::{ConnFacts, Cx, FaceSettings, Remote};
use crate::frame::line::Framing;
use crate::id::ConnId;
use crate::json::{self, JsonLimits};
use crate::peer::{PeerKind, Step};
use crate::time::Now;

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

/// Parses `data` as JSON under limits and checks that what was accepted keeps them.
///
/// # Panics
///
/// When something was accepted that goes beyond the limits.
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
    }
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
}
