//! Conversations as text.
//!
//! A line that begins with `>` is sent by the client, one with `<` is what comes back, `?` shows the call that the face
//! makes, and `!` gives that call's outcome, in the words of the face's own tests where [`common`] has none. What a face wants
//! to be sent is shown as `? attend …` and agreed to at once. Everything that needs rooms, actions or other clients is tested against the
//! whole server; here stands what a face decides alone.

use std::io::Read as _;
use std::sync::Arc;

use serde_json::json;

use crate::call::{
    ActionError, Answer, Call, CallError, ConnectionType, Credentials, Member, Outcome, Reply, RoomStatus,
};
use crate::command::{CommandDelivery, CommandDocument, CommandId, Recipient};
use crate::effect::Effects;
use crate::event::Event;
use crate::face::{ConnFacts, Cx, FaceSettings, Remote};
use crate::id::{ConnId, RoomName, Token};
use crate::json::RawJson;
use crate::peer::{Peer, PeerKind, Step};
use crate::time::{Now, Stamps};
use crate::wire::WireFormat;

/// A peer and the world around it.
pub(crate) struct Talk {
    kind: PeerKind,
    pub(crate) peer: Peer,
    pub(crate) settings: FaceSettings,
    pub(crate) facts: ConnFacts,
    pub(crate) fx: Effects,
    scratch: Vec<u8>,
    stamps: Stamps,
    pub(crate) random: u128,
    pub(crate) now: Now,
    /// Calls that wait for an outcome, the oldest first.
    pub(crate) calls: Vec<(Token, String)>,
    /// How many of them a script has not shown.
    unseen: usize,
}

impl Talk {
    pub(crate) fn new(kind: PeerKind, change: impl FnOnce(&mut FaceSettings)) -> Self {
        let mut settings = FaceSettings::default();
        change(&mut settings);
        Self {
            peer: kind.clone().open(),
            facts: ConnFacts {
                id: ConnId::from_random(0),
                kind: kind.connection_type(),
                remote: Remote::from("[::ffff:10.0.0.1]:57393".parse::<std::net::SocketAddr>().unwrap()),
                connected_at: 1_368_918_901_456,
                fingerprint: kind.fingerprint(ConnId::from_random(0), &settings),
            },
            settings,
            fx: Effects::default(),
            scratch: Vec::new(),
            stamps: Stamps::default(),
            random: 0,
            now: Now::default(),
            kind,
            calls: Vec::new(),
            unseen: 0,
        }
    }

    pub(crate) fn with<T>(&mut self, step: impl FnOnce(&mut Peer, &mut Cx<'_>) -> T) -> T {
        // Taken after each step, as by the owner of a connection.
        self.fx.wake_at_ms = None;
        let mut cx = Cx {
            conn: &self.facts,
            now: self.now,
            settings: &self.settings,
            random: self.random,
            stamps: &self.stamps,
            fx: &mut self.fx,
            scratch: &mut self.scratch,
        };
        let done = step(&mut self.peer, &mut cx);
        if let Some((token, call)) = self.fx.call.take() {
            let shown = shown(&call);
            self.unseen += 1;
            self.calls.push((token, shown));
        }
        done
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        let mut input = bytes;
        while self.with(|peer, cx| peer.feed(&mut input, cx)) == Step::Frame {}
    }

    pub(crate) fn outcome(&mut self, outcome: Outcome) {
        let (token, _) = self.calls.remove(0);
        self.with(|peer, cx| peer.on_outcome(token, outcome, cx));
    }

    /// Adds what came, and calls that were made, to what a script has seen.
    fn show(&mut self, seen: &mut String) {
        loop {
            for line in self.received().lines() {
                seen.push_str(&format!("< {line}\n"));
            }
            let unseen = std::mem::take(&mut self.unseen);
            let first = self.calls.len().saturating_sub(unseen);
            for (_, call) in &self.calls[first..] {
                seen.push_str(&format!("? {call}\n"));
            }
            match self.calls.first() {
                Some((_, call)) if call.starts_with(ATTEND) => {
                    assert!(std::mem::take(&mut self.fx.rehear), "what is wanted has changed, and so what is heard");
                    self.outcome(Ok(Answer::Attending));
                }
                _ => break,
            }
        }
    }

    /// Asks the client to clear its cache.
    pub(crate) fn command(&mut self, command: serde_json::Value) {
        let delivery = CommandDelivery {
            document: Arc::new(CommandDocument {
                id: CommandId::from_random(0),
                key: "clearCache".into(),
                data: command.get("data").map(RawJson::from_value),
                command: RawJson::from_value(&command),
            }),
            to: Recipient::Guest(self.facts.id),
            ts: 1_795_289_702_430,
            ttl_ms: 5000,
        };
        assert!(self.with(|peer, cx| peer.on_event(&Event::Command(delivery), cx)), "it is not told");
    }

    /// In which format a member of a room hears it, and whether that has been another one since this was last asked.
    pub(crate) fn hears(&mut self) -> (WireFormat, bool) {
        let hears = self.peer.hears(&RoomName::parse("r").unwrap(), true);
        (hears.formats().next().unwrap(), std::mem::take(&mut self.fx.rehear))
    }

    /// What a client writes to say `text`.
    fn framed(&self, text: &str) -> Vec<u8> {
        match self.kind {
            PeerKind::Socket => format!("{text}\r\n").into_bytes(),
            PeerKind::WebSocket { .. } | PeerKind::Ddp | PeerKind::Gateway(_) => client_frame(0x81, text.as_bytes()),
        }
    }

    /// What came, a line for each message.
    pub(crate) fn received(&mut self) -> String {
        let bytes = std::mem::take(&mut self.fx.bytes);
        match self.kind {
            PeerKind::Socket => String::from_utf8(bytes).unwrap().replace("\r\n", "\n"),
            PeerKind::WebSocket { .. } | PeerKind::Ddp | PeerKind::Gateway(_) => messages(&bytes),
        }
    }
}

/// A frame as clients send it. With a mask of zeros the payload stays readable.
pub(crate) fn client_frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match payload.len() {
        short @ 0..126 => frame.push(0x80 | short as u8),
        long => {
            frame.push(0x80 | 126);
            frame.extend_from_slice(&u16::try_from(long).unwrap().to_be_bytes());
        }
    }
    frame.extend_from_slice(&[0; 4]);
    frame.extend_from_slice(payload);
    frame
}

/// What a client sees of a server's frames: texts as they are, those that were packed behind `(zlib)`, a close as
/// `(close CODE REASON)`.
fn messages(bytes: &[u8]) -> String {
    let mut seen = String::new();
    for (first, payload) in server_frames(bytes) {
        let text = |bytes| std::str::from_utf8(bytes).unwrap();
        seen.push_str(&match first {
            0x81 => text(&payload).to_owned(),
            0x82 => format!("(zlib) {}", text(&inflate(&payload))),
            0x88 if payload.is_empty() => "(close)".to_owned(),
            0x88 => {
                let code = u16::from_be_bytes([payload[0], payload[1]]);
                format!("(close {code} {})", text(&payload[2..])).replace(" )", ")")
            }
            // One that says which event was written last.
            0x89 if payload.len() == 16 => {
                format!("(ping {})", u64::from_be_bytes(payload[..8].try_into().unwrap()))
            }
            0x89 => format!("(ping {})", text(&payload)).replace(" )", ")"),
            0x8a => format!("(pong {})", text(&payload)),
            other => panic!("an unexpected frame {other:#x}"),
        });
        seen.push('\n');
    }
    seen
}

/// The frames of a server: the first byte of each, and its payload.
pub(crate) fn server_frames(mut bytes: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut frames = Vec::new();
    while let [first, length, rest @ ..] = bytes {
        let (length, rest) = match length {
            126 => (usize::from(u16::from_be_bytes([rest[0], rest[1]])), &rest[2..]),
            127 => (u64::from_be_bytes(rest[..8].try_into().unwrap()) as usize, &rest[8..]),
            length => (usize::from(*length), rest),
        };
        frames.push((*first, rest[..length].to_vec()));
        bytes = &rest[length..];
    }
    frames
}

/// Inflates a whole zlib stream.
fn inflate(packed: &[u8]) -> Vec<u8> {
    let mut json = Vec::new();
    flate2::read::ZlibDecoder::new(packed).read_to_end(&mut json).unwrap();
    json
}

/// A call in a line.
fn shown(call: &Call) -> String {
    match call {
        Call::Action(call) => {
            let params: Vec<_> = call.params.iter().map(|(name, value)| format!("{name}={value}")).collect();
            format!("action {}", params.join(" "))
        }
        Call::Details => "details".to_owned(),
        Call::Documentation => "documentation".to_owned(),
        Call::File { name } => format!("file {name:?}"),
        Call::Join { room } => format!("join {room}"),
        Call::Leave { room } => format!("leave {room}"),
        Call::RoomStatus { room } => format!("status {room}"),
        Call::Say { room, body } => format!("say {room} {}", body.as_str()),
        Call::LogIn(Credentials::Password { who, proof }) => format!("log in {who:?} {proof:?}"),
        Call::LogIn(Credentials::Resume { .. }) => "log in by token".to_owned(),
        Call::LogOut => "log out".to_owned(),
        Call::LogOutOthers => "log out others".to_owned(),
        Call::SetClientData { data } => format!("client data {data:?}"),
        Call::ReplyCommand { id, reply } => format!("reply {id} {reply:?}"),
        Call::Attend(wants) => {
            let mut shown = ATTEND.to_owned();
            if wants.commands {
                shown.push_str(" commands");
            }
            if wants.public_rooms {
                shown.push_str(" public");
            }
            for room in &wants.rooms {
                shown.push_str(&format!(" {room}"));
            }
            shown
        }
        Call::FindRoom { names } => {
            format!("find {}", names.iter().map(|name| format!("{name:?}")).collect::<Vec<_>>().join(" "))
        }
        Call::JoinAsUser { room } => format!("join {room:?} as user"),
        Call::LeaveAsUser { room } => format!("leave {room:?} as user"),
        Call::OpenDirect { with } => format!("direct {with:?}"),
        other => format!("{other:?}"),
    }
}

const ATTEND: &str = "attend";

/// Plays `script` and compares what the server says line by line; `outcome` knows words of outcomes.
#[track_caller]
pub(crate) fn check_with(talk: &mut Talk, script: &str, outcome: impl Fn(&str) -> Option<Outcome>) {
    let mut seen = String::new();
    talk.unseen = 0;
    let lines = || script.lines().map(str::trim_start).filter(|line| !line.is_empty());
    for line in lines() {
        let (mark, rest) = line.split_at(1);
        let rest = rest.strip_prefix(' ').unwrap_or(rest);
        match mark {
            ">" => {
                let bytes = talk.framed(rest);
                talk.send(&bytes);
            }
            "!" => {
                let outcome = outcome(rest).or_else(|| common(rest));
                talk.outcome(outcome.unwrap_or_else(|| panic!("unknown outcome {rest}")));
            }
            "<" | "?" => continue,
            _ => panic!("unknown mark in {line:?}"),
        }
        seen.push_str(&format!("{line}\n"));
        talk.show(&mut seen);
    }
    let expected: String = lines().map(|line| format!("{line}\n")).collect();
    assert_eq!(seen, expected);
}

/// [`check_with`] the outcomes that every face's calls may have.
#[track_caller]
pub(crate) fn check(talk: &mut Talk, script: &str) {
    check_with(talk, script, |_| None);
}

/// An outcome that needs no data of its own.
fn common(words: &str) -> Option<Outcome> {
    Some(match words {
        "joined" => Ok(Answer::Joined),
        "left" => Ok(Answer::Left),
        "said" => Ok(Answer::Said { number: 1 }),
        "set" => Ok(Answer::ClientDataSet),
        "in time" => Ok(Answer::CommandReplied(true)),
        "late" => Ok(Answer::CommandReplied(false)),
        "reply" => Ok(Answer::Action(Reply::new().with("x", 1).with("context", "mine"))),
        "empty" => Ok(Answer::Action(Reply::new())),
        "unknown" => Err(CallError::Action(ActionError::Unknown)),
        "missing" => Err(CallError::Action(ActionError::Missing("key".into()))),
        "crashed" => Err(CallError::Action(ActionError::Crashed)),
        "wrong type" => Err(CallError::Action(ActionError::WrongType(ConnectionType::Socket))),
        "failed" => Err(CallError::Action(ActionError::Failed {
            text: "no luck".into(),
            reply: Reply::new().with("partial", true),
        })),
        "no room" => Err(CallError::NoSuchRoom),
        "inside" => Err(CallError::AlreadyMember(RoomName::parse("r").unwrap())),
        "outside" => Err(CallError::NotMember(RoomName::parse("r").unwrap())),
        "not authorized" => Err(CallError::NotAuthorized),
        "too many" => Err(CallError::TooManyRoomsOfConnection),
        "bad data" => Err(CallError::BadClientData),
        "large reply" => Err(CallError::ReplyTooLarge),
        "no file" => Err(CallError::FileNotFound),
        "unavailable" => Err(CallError::Unavailable),
        "rooms" => Ok(Answer::Details { rooms: vec![RoomName::parse("r").unwrap()] }),
        "docs" => Ok(Answer::Documentation(RawJson::from_value(&json!({"a": {}})))),
        "status" => Ok(Answer::Room(RoomStatus {
            room: RoomName::parse("r").unwrap(),
            members: vec![Member { id: ConnId::from_random(1), joined_at: 5 }],
        })),
        _ => return None,
    })
}
