//! Bodies of fuzz targets as plain functions, so that their corpus is replayed by ordinary tests.

use std::collections::HashMap;
use std::sync::Arc;

use crate::call::{Answer, Call, CallError, LoggedIn, LoginMethod, Outcome, RoomKind};
use crate::command::{CommandDelivery, CommandDocument, CommandId, Recipient};
use crate::effect::Effects;
use crate::event::{Event, MessageExtra, RoomMessage, Sender};
use crate::face::{ConnFacts, Cx, FaceSettings, Remote};
use crate::frame::line::Framing;
use crate::frame::ws::{MessageKind, WsError, WsFrame, WsFramer, WsLimits, deflate, handshake};
use crate::gateway::{self, Compress, Opening};
use crate::id::ConnId;
use crate::json::{self, JsonLimits, RawJson};
use crate::peer::{Peer, PeerKind, Step};
use crate::shard::{Began, LogPart, LoggedEvent, ShardAnswer, ShardCall, ShardRefusal, ShardSessionId};
use crate::time::{Now, Stamps};
use crate::user::User;

/// Feeds `data` to a line-protocol peer, cut as its first bytes say, refuses every call, and checks what any client may
/// rely on: every answer is one JSON line, numbers never fall, nothing panics.
///
/// # Panics
///
/// When an answer is not what a client may rely on.
#[allow(clippy::expect_used, reason = "a fuzz target fails by panicking")]
pub fn line_peer(data: &[u8]) {
    let (head, data) = data.split_at(data.len().min(4));
    let mut settings = FaceSettings::default();
    settings.socket.framing = Framing { max_line_bytes: 256, ..Framing::default() };
    let mut stage = Stage::new(PeerKind::Socket, settings);
    stage.converse(cut(head, data), |_| Err(CallError::Unavailable));
    let mut last = 0;
    for line in stage.fx.bytes.split_inclusive(|byte| *byte == b'\n') {
        let text = line.strip_suffix(b"\r\n").expect("every answer ends with CR LF");
        let answer: serde_json::Value = serde_json::from_slice(text).expect("every answer is JSON");
        if let Some(number) = answer.get("messageCount") {
            let number = number.as_u64().expect("a number is a number");
            assert!(number >= last, "numbers never fall");
            last = number;
        }
    }
}

/// Lets a DDP client send each line of `data` as a message, whole and cut as its first bytes say, and checks that both give the
/// same; then lets calls end late, so that frames wait. Whatever comes back is an object in a frame of its own, no method has
/// more results than it was called, and no stream changes before it is ready.
///
/// # Panics
///
/// When an answer is not what a client may rely on.
#[allow(clippy::expect_used, reason = "a fuzz target fails by panicking")]
pub fn ddp_peer(data: &[u8]) {
    let (head, data) = data.split_at(data.len().min(4));
    let data = &data[..data.len().min(60_000)];
    let mut stream = client_frame(0x81, br#"{"msg":"connect","version":"1","support":["1"]}"#);
    for line in data.split(|byte| *byte == b'\n') {
        stream.extend_from_slice(&client_frame(0x81, line));
    }
    let stage = || {
        let mut settings = FaceSettings::default();
        settings.ddp.max_subscriptions = 3;
        Stage::new(PeerKind::Ddp, settings)
    };
    let (mut at_once, mut in_pieces, mut late) = (stage(), stage(), stage());
    at_once.converse([&stream[..]].into_iter(), ddp_outcome);
    in_pieces.converse(cut(head, &stream), ddp_outcome);
    assert!(at_once.fx.bytes == in_pieces.fx.bytes, "a cut changes something");
    late.are_calls_late = true;
    late.converse(cut(head, &stream), ddp_outcome);

    let mut called = HashMap::<String, u32>::new();
    for line in data.split(|byte| *byte == b'\n') {
        if let Ok(line) = std::str::from_utf8(line)
            && let Some([Some(id)]) = json::members(&json::to_well_formed(line), ["id"])
            && let Ok(id) = serde_json::from_str::<String>(id)
        {
            *called.entry(id).or_default() += 1;
        }
    }
    for stage in [at_once, late] {
        let mut called = called.clone();
        let mut is_ready = false;
        for text in server_texts(&stage.fx.bytes) {
            let frame: serde_json::Value = serde_json::from_slice(text).expect("every frame is JSON");
            match frame.get("msg").map(|msg| msg.as_str().expect("`msg` is a text")) {
                Some("result") => {
                    let id = frame["id"].as_str().expect("a result has an id");
                    let left = called.get_mut(id).expect("a result was asked for");
                    *left = left.checked_sub(1).expect("a method has no more results than calls");
                }
                Some("ready") => is_ready = true,
                Some("changed") => assert!(is_ready, "a stream changes before it is ready"),
                Some(_) => {}
                None => panic!("a frame without `msg`"),
            }
        }
    }
}

/// What comes of a call of the DDP peer: whatever is asked for, for a user called `u1`.
fn ddp_outcome(call: Call) -> Outcome {
    match call {
        Call::LogIn(_) => match User::new("u1") {
            Ok(user) => Ok(Answer::LoggedIn(LoggedIn {
                user,
                token: "t".repeat(43),
                expires_ms: 5,
                method: LoginMethod::Resume,
            })),
            Err(_) => Err(CallError::Unavailable),
        },
        Call::LogOut | Call::LogOutOthers => Ok(Answer::LoggedOut),
        Call::SetClientData { .. } => Ok(Answer::ClientDataSet),
        Call::ReplyCommand { id, .. } => Ok(Answer::CommandReplied(id.len() == 17)),
        Call::Attend(_) => Ok(Answer::Attending),
        Call::FindRoom { names } => match names.into_iter().next() {
            Some(room) => Ok(Answer::RoomFound { room, kind: RoomKind::Restricted }),
            None => Err(CallError::NoSuchRoom),
        },
        Call::Publish(publication) => Ok(Answer::Published(Box::new(RoomMessage {
            room: publication.room,
            number: 1,
            sender: Sender::Server,
            body: publication.body,
            sent_at: 5,
            epoch: 1,
            user: None,
            extra: Some(Box::new(MessageExtra {
                id: publication.id.map(Into::into),
                attachment: publication.attachment,
            })),
        }))),
        _ => Err(CallError::NoSuchRoom),
    }
}

/// Lets a client of the gateway send each line of `data` as a message, packed where the line begins with `=`, whole and cut as its
/// first bytes say, and checks that both give the same; then lets calls end late. Whatever comes back is an object with a type, a
/// service and an event, numbers of events rise one by one in their session, and no ping is answered twice.
///
/// # Panics
///
/// When an answer is not what a client may rely on.
#[allow(clippy::expect_used, reason = "a fuzz target fails by panicking")]
pub fn gateway_peer(data: &[u8]) {
    let (head, data) = data.split_at(data.len().min(4));
    let data = &data[..data.len().min(60_000)];
    let mut stream = Vec::new();
    let mut pings = 0;
    for line in data.split(|byte| *byte == b'\n') {
        match line.strip_prefix(b"=") {
            Some(json) => stream.extend_from_slice(&client_frame(0x82, &gzip(json))),
            None => stream.extend_from_slice(&client_frame(0x81, line)),
        }
        let json = line.strip_prefix(b"=").unwrap_or(line);
        if let Ok(serde_json::Value::Object(message)) = serde_json::from_slice(json)
            && message.get("type").is_some_and(|number| *number == 2 || *number == 3)
        {
            pings += 1;
        }
    }
    let stage = || {
        let mut settings = FaceSettings::default();
        settings.gateway.rate_messages = 0;
        let wants_hello = head.first().is_some_and(|byte| byte % 2 == 1);
        let opening = Opening { wants_hello, compress: Some(Compress::None), ..Opening::default() };
        let mut stage = Stage::new(PeerKind::Gateway(Box::new(opening)), settings);
        stage.with(|peer, cx| peer.on_open(cx));
        stage
    };
    let (mut at_once, mut in_pieces, mut late) = (stage(), stage(), stage());
    at_once.converse([&stream[..]].into_iter(), gateway_outcome);
    in_pieces.converse(cut(head, &stream), gateway_outcome);
    assert!(at_once.fx.bytes == in_pieces.fx.bytes, "a cut changes something");
    late.are_calls_late = true;
    late.converse(cut(head, &stream), gateway_outcome);

    for stage in [at_once, late] {
        let mut last = None;
        let mut answered = 0;
        for text in server_texts(&stage.fx.bytes) {
            let message: serde_json::Value = serde_json::from_slice(text).expect("every message is JSON");
            assert!(
                message["type"].is_u64() && message["service"].is_string(),
                "every message has a type and a service"
            );
            match message["event"].as_str().expect("every message has an event") {
                // As `gateway_outcome` says.
                "GATEWAY_READY" | "GATEWAY_SHARD_INFO" if message["session_id"] != "again" => last = Some(0),
                "GATEWAY_RESUMED" => last = Some(2),
                "GATEWAY_PING" => answered += 1,
                _ => {}
            }
            if let Some(number) = message.get("s") {
                let number = number.as_u64().expect("a number is a number");
                assert_eq!(last.map(|last| last + 1), Some(number), "numbers rise one by one");
                last = Some(number);
            }
        }
        assert!(answered <= pings, "a ping is answered twice");
    }
}

/// What comes of a call of the gateway's peer: each session has events up to 5, in parts of two.
fn gateway_outcome(call: Call) -> Outcome {
    let began = |session: &str, after| {
        ShardAnswer::Began(Box::new(Began {
            id: ConnId::session_from_random(0),
            session: ShardSessionId::new(session),
            application: "u1".into(),
            flags: 0,
            after,
            last: 5,
            counters: Arc::default(),
            fleet: Vec::new(),
            shard_total: 1,
            takes_commands: true,
        }))
    };
    let Call::Shard(call) = call else { return Ok(Answer::CommandReplied(true)) };
    Ok(Answer::Shard(match *call {
        ShardCall::Check(_) | ShardCall::CheckPart { .. } => ShardAnswer::Checked,
        ShardCall::Register(registration) if registration.shard > 9 => return Err(ShardRefusal::InvalidShard.into()),
        ShardCall::Register(_) => began("new", 0),
        ShardCall::Resume(resumption) if resumption.seq == Some(9) => return Err(ShardRefusal::Invalid.into()),
        ShardCall::Resume(_) => began("old", 2),
        ShardCall::Fleet(_) => ShardAnswer::Fleet(Vec::new()),
        ShardCall::Read { after } => {
            let item = gateway::items::message(&"x".into());
            let events = (after + 1..=5).take(2).map(|seq| LoggedEvent { seq, item: item.clone() }).collect();
            ShardAnswer::Events(LogPart { events, has_more: after < 3 })
        }
        ShardCall::Acknowledge { seq } if seq > 5 => return Err(ShardRefusal::InvalidSeq.into()),
        ShardCall::Say { .. } => ShardAnswer::Said { number: 1 },
        _ => ShardAnswer::Done,
    }))
}

/// `data` as a gzip stream.
fn gzip(data: &[u8]) -> Vec<u8> {
    let mut stream = flate2::Compress::new_gzip(flate2::Compression::fast(), 15);
    let mut packed = Vec::with_capacity(data.len() + data.len() / 8 + 64);
    // There is room for the worst case, and nothing else can fail.
    let _ = stream.compress_vec(data, &mut packed, flate2::FlushCompress::Finish);
    packed
}

/// The payloads of a server's text frames.
///
/// # Panics
///
/// When they are not whole.
#[allow(clippy::expect_used, reason = "a fuzz target fails by panicking")]
fn server_texts(mut bytes: &[u8]) -> Vec<&[u8]> {
    let mut texts = Vec::new();
    while let [first, short, rest @ ..] = bytes {
        let (len, rest) = match short {
            126 => {
                let (len, rest) = rest.split_first_chunk().expect("a frame has a length");
                (usize::from(u16::from_be_bytes(*len)), rest)
            }
            127 => {
                let (len, rest) = rest.split_first_chunk().expect("a frame has a length");
                (u64::from_be_bytes(*len) as usize, rest)
            }
            short => (usize::from(*short), rest),
        };
        let (payload, rest) = rest.split_at(len);
        if *first == 0x81 {
            texts.push(payload);
        }
        bytes = rest;
    }
    texts
}

/// A peer and the world around it.
struct Stage {
    peer: Peer,
    settings: FaceSettings,
    facts: ConnFacts,
    fx: Effects,
    scratch: Vec<u8>,
    stamps: Stamps,
    /// Calls end when the peer takes no more input, or has taken all; then somebody sends it a command.
    are_calls_late: bool,
}

impl Stage {
    fn new(kind: PeerKind, settings: FaceSettings) -> Self {
        let facts = ConnFacts {
            id: ConnId::from_random(7),
            kind: kind.connection_type(),
            remote: Remote::Unix,
            connected_at: 0,
            fingerprint: None,
        };
        Self {
            peer: kind.open(),
            settings,
            facts,
            fx: Effects::default(),
            scratch: Vec::new(),
            stamps: Stamps::default(),
            are_calls_late: false,
        }
    }

    fn with<T>(&mut self, step: impl FnOnce(&mut Peer, &mut Cx<'_>) -> T) -> T {
        let mut cx = Cx {
            conn: &self.facts,
            now: Now::default(),
            settings: &self.settings,
            random: 1,
            stamps: &self.stamps,
            fx: &mut self.fx,
            scratch: &mut self.scratch,
        };
        step(&mut self.peer, &mut cx)
    }

    /// Lets the client say these pieces one after the other, until one side has closed.
    fn converse<'a>(&mut self, pieces: impl Iterator<Item = &'a [u8]>, outcome: impl Fn(Call) -> Outcome) {
        for mut piece in pieces {
            while self.fx.close.is_none() {
                let step = self.with(|peer, cx| peer.feed(&mut piece, cx));
                if !self.are_calls_late || step != Step::Frame {
                    self.settle(&outcome);
                }
                if step == Step::NeedInput {
                    break;
                }
            }
        }
    }

    /// Ends the call that was made, and those that this leads to.
    fn settle(&mut self, outcome: impl Fn(Call) -> Outcome) {
        loop {
            if let Some((token, call)) = self.fx.call.take() {
                self.with(|peer, cx| peer.on_outcome(token, outcome(call), cx));
            } else if std::mem::take(&mut self.fx.more) {
                self.with(|peer, cx| peer.on_drained(cx));
            } else {
                break;
            }
        }
        if self.are_calls_late
            && self.fx.close.is_none()
            && let Ok(user) = User::new("u1")
        {
            let document = CommandDocument {
                id: CommandId::from_random(1),
                key: "heartbeat".into(),
                command: "heartbeat".into(),
                data: None,
            };
            let to = Recipient::User(user);
            let event = Event::Command(CommandDelivery { document: Arc::new(document), to, ts: 1, ttl_ms: 1 });
            self.with(|peer, cx| peer.on_event(&event, cx));
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
    let limits = JsonLimits { depth: 8, keys: 8, values: 64 };
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
    let offers = |header: &'static str| lines().filter(move |(name, _)| name.eq_ignore_ascii_case(header));
    let answers = [
        handshake::accept("GET", (1, 1), lines(), true),
        handshake::accept("GET", (1, 1), good.into_iter().chain(offers("sec-websocket-extensions")), true),
        handshake::accept("GET", (1, 1), good.into_iter().chain(offers("sec-websocket-protocol")), true),
    ];
    for accepted in answers.into_iter().flatten() {
        assert_eq!(accepted.accept.len(), 28);
        if let Some(protocol) = accepted.protocol {
            assert!(!protocol.is_empty() && !protocol.contains([' ', ',', '\t', '\r']), "no token: {protocol:?}");
        }
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

    use proptest::prelude::*;

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
    fn the_corpus_of_ddp_peer_still_passes() {
        replay("ddp_peer", super::ddp_peer);
    }

    /// Frames that lead somewhere, which random bytes hardly ever do.
    const DDP_FRAMES: [&str; 16] = [
        r#"{"msg":"ping","id":"p"}"#,
        r#"{"msg":"method","id":"1","method":"login","params":[{"resume":"t"}]}"#,
        r#"{"msg":"method","id":"1","method":"logout"}"#,
        r#"{"msg":"method","id":"2","method":"sendMessage","params":[{"rid":"%da%b","msg":"x","n":1.0}]}"#,
        r#"{"msg":"method","id":"3","method":"getRoomIdByNameOrId","params":["a%2Fb"]}"#,
        r#"{"msg":"method","id":"4","method":"loadHistory","params":["r",null,5]}"#,
        r#"{"msg":"method","id":"5","method":"replyClientCommand","params":["22222222222222222",{"success":true}]}"#,
        r#"{"msg":"method","id":"6","method":"setCustomClientData","params":[{"commands":true}]}"#,
        r#"{"msg":"method","id":"7","method":"nothing"}"#,
        r#"{"msg":"sub","id":"a","name":"stream-client-commands","params":["u1",true]}"#,
        r#"{"msg":"sub","id":"b","name":"stream-ddp-requests","params":["u2"]}"#,
        r#"{"msg":"sub","id":"c","name":"stream-room-messages","params":["r",{}]}"#,
        r#"{"msg":"sub","id":"d","name":"stream-room-messages","params":["__my_messages__"]}"#,
        r#"{"msg":"unsub","id":"a"}"#,
        r#"{"msg":"unsub","id":"c"}"#,
        "nonsense",
    ];

    proptest! {
        #[test]
        fn a_ddp_peer_takes_frames_in_any_order(
            head in any::<[u8; 4]>(),
            frames in proptest::collection::vec(0..DDP_FRAMES.len(), 0..40),
        ) {
            let mut data = head.to_vec();
            data.extend(frames.into_iter().flat_map(|at| DDP_FRAMES[at].bytes().chain([b'\n'])));
            super::ddp_peer(&data);
        }
    }

    #[test]
    fn the_corpus_of_gateway_peer_still_passes() {
        replay("gateway_peer", super::gateway_peer);
    }

    /// Messages that lead somewhere.
    const GATEWAY_MESSAGES: [&str; 18] = [
        r#"{"type":1,"d":{"public_key":"k"}}"#,
        r#"{"type":1,"d":{"public_key":"k","shard_in":10}}"#,
        r#"{"type":3,"d":{"public_key":"k","shard_id":0}}"#,
        r#"{"type":3,"d":{"public_key":"k","shard_id":1}}"#,
        r#"{"type":5,"d":{"public_key":"k","session_id":"s"}}"#,
        r#"{"type":6,"d":{"public_key":"k","session_id":"s","seq":9}}"#,
        r#"{"type":3}"#,
        r#"={"type":3}"#,
        r#"{"type":2,"d":{"seq":1}}"#,
        r#"{"type":3,"d":{"seq":9}}"#,
        r#"{"type":89}"#,
        r#"{"type":4,"id":"i","data":{}}"#,
        r#"{"type":9,"d":{"_id":"22222222222222222","reply":{"success":true}}}"#,
        r#"{"type":10,"d":{"op":"join","room":"r"}}"#,
        r#"={"type":10,"d":{"op":"say","room":"r","message":[1.0],"id":"i"}}"#,
        r#"{"type":10,"d":{"op":"leave","room":""}}"#,
        r#"{"type":7}"#,
        "nonsense",
    ];

    proptest! {
        #[test]
        fn a_gateway_peer_takes_messages_in_any_order(
            head in any::<[u8; 4]>(),
            messages in proptest::collection::vec(0..GATEWAY_MESSAGES.len(), 0..40),
        ) {
            let mut data = head.to_vec();
            data.extend(messages.into_iter().flat_map(|at| GATEWAY_MESSAGES[at].bytes().chain([b'\n'])));
            super::gateway_peer(&data);
        }
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
