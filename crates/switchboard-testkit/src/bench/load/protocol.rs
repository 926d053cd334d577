//! The protocols that the generator speaks, as far as the loads need them.

use super::LoadError;
use super::bot::BotStage;
use super::frames;
use super::payload::{FILLER, find, head};

/// What the generator speaks with a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// DDP over WebSocket, for bots that log in and wait: [`Load::Idle`](super::super::scenario::Load::Idle) only.
    Ddp,
    /// The gateway, in plain mode: [`Load::Gateway`](super::super::scenario::Load::Gateway) only.
    Gateway,
    /// The line protocol.
    Line,
    /// Socket.IO 4 over WebSocket: requests are events that ask for an acknowledgement, room messages are events.
    SocketIo,
    /// The verbs of the line protocol as JSON over WebSocket, with Primus' control strings.
    WebSocket,
}

impl Protocol {
    /// What a client sends as soon as it is connected; nothing where the server speaks first.
    pub(super) fn greeting(self) -> Vec<u8> {
        let path = match self {
            Self::Ddp => "/websocket",
            Self::Gateway => "/gateway",
            Self::Line => return Vec::new(),
            Self::SocketIo => "/socket.io/?EIO=4&transport=websocket",
            Self::WebSocket => "/primus/?_primuscb=1",
        };
        format!("GET {path} HTTP/1.1\r\n{UPGRADE_HEADERS}\r\n").into_bytes()
    }

    /// What a client sends before it leaves, so that no server takes it for one that was lost.
    pub(super) fn push_goodbye(self, out: &mut Vec<u8>) {
        match self {
            Self::Line => {}
            Self::Ddp | Self::Gateway | Self::SocketIo | Self::WebSocket => {
                frames::push(out, frames::CLOSE, &[&NORMAL_CLOSURE])
            }
        }
    }

    /// Appends a speaker's message with this number to its room.
    pub(super) fn push_say(self, out: &mut Vec<u8>, room: &str, speaker: u8, sequence: u32) {
        let (room, head) = (room.as_bytes(), &head(speaker, sequence)[..]);
        match self {
            Self::Ddp | Self::Gateway => {}
            Self::Line => {
                [b"say ", room, b" ", head, &FILLER, b"\r\n"].iter().for_each(|part| out.extend_from_slice(part));
            }
            Self::SocketIo => {
                let parts = [br#"420["say",{"room":""#, room, br#"","message":""#, head, &FILLER, br#""}]"#];
                frames::push(out, frames::TEXT, &parts);
            }
            Self::WebSocket => {
                let parts = [br#"{"event":"say","room":""#, room, br#"","message":""#, head, &FILLER, br#""}"#];
                frames::push(out, frames::TEXT, &parts);
            }
        }
    }

    fn push_join(self, out: &mut Vec<u8>, room: &str) {
        let room = room.as_bytes();
        match self {
            Self::Ddp | Self::Gateway => {}
            Self::Line => [b"roomAdd ", room, b"\r\n"].iter().for_each(|part| out.extend_from_slice(part)),
            Self::SocketIo => frames::push(out, frames::TEXT, &[br#"420["roomAdd",{"room":""#, room, br#""}]"#]),
            Self::WebSocket => {
                frames::push(out, frames::TEXT, &[br#"{"event":"roomAdd","room":""#, room, br#""}"#]);
            }
        }
    }

    /// Appends a client's word that it takes commands, and as which of all targets.
    fn push_introduction(self, out: &mut Vec<u8>, index: usize) {
        let data = format!(r#"{{"commands":true,"index":{index}}}"#);
        match self {
            Self::Ddp | Self::Gateway => {}
            Self::Line => out.extend_from_slice(format!("setCustomClientData {data}\r\n").as_bytes()),
            Self::SocketIo => {
                frames::push(out, frames::TEXT, &[br#"420["setCustomClientData","#, data.as_bytes(), b"]"]);
            }
            Self::WebSocket => {
                let parts = [br#"{"event":"setCustomClientData","data":"#, data.as_bytes(), b"}"];
                frames::push(out, frames::TEXT, &parts);
            }
        }
    }

    /// Appends a request for an action with these members of its params, without the braces.
    pub(super) fn push_action(self, out: &mut Vec<u8>, action: &str, params: &str) {
        match self {
            Self::Ddp | Self::Gateway => {}
            Self::Line => {
                let line = format!("{{\"action\":\"{action}\",\"params\":{{{params}}}}}\r\n");
                out.extend_from_slice(line.as_bytes());
            }
            Self::SocketIo => {
                frames::push(out, frames::TEXT, &[format!(r#"420["{action}",{{{params}}}]"#).as_bytes()]);
            }
            Self::WebSocket => {
                let request = format!(r#"{{"event":"action","params":{{"action":"{action}",{params}}}}}"#);
                frames::push(out, frames::TEXT, &[request.as_bytes()]);
            }
        }
    }

    /// Appends the reply to the command with this id.
    pub(super) fn push_reply(self, out: &mut Vec<u8>, id: &[u8], reply: &str) {
        let reply = reply.as_bytes();
        match self {
            Self::Ddp | Self::Gateway => {}
            Self::Line => {
                [b"replyClientCommand ", id, b" ", reply, b"\r\n"].iter().for_each(|part| out.extend_from_slice(part));
            }
            Self::SocketIo => frames::push(out, frames::TEXT, &[b"43", id, b"[", reply, b"]"]),
            Self::WebSocket => {
                let parts = [br#"{"event":"replyClientCommand","id":""#, id, br#"","reply":"#, reply, b"}"];
                frames::push(out, frames::TEXT, &parts);
            }
        }
    }

    /// What a frame's text has for the load; `None` if it is the transport's own. Heartbeats are answered in `replies`.
    pub(super) fn content<'a>(self, text: &'a [u8], replies: &mut Vec<u8>) -> Option<&'a [u8]> {
        match self {
            Self::Ddp if text == br#"{"msg":"ping"}"# => {
                frames::push(replies, frames::TEXT, &[br#"{"msg":"pong"}"#]);
                None
            }
            Self::Ddp | Self::Gateway | Self::Line => Some(text),
            Self::SocketIo if text == b"2" => {
                frames::push(replies, frames::TEXT, &[b"3"]);
                None
            }
            Self::SocketIo => Some(argument(text).unwrap_or(text)),
            Self::WebSocket => {
                let Some(control) = text.strip_prefix(br#""primus::"#) else { return Some(text) };
                if let Some(stamp) = control.strip_prefix(b"ping::") {
                    frames::push(replies, frames::TEXT, &[br#""primus::pong::"#, stamp]);
                }
                None
            }
        }
    }
}

/// The last argument of an event (`42["NAME",ARGUMENT]`) or of an acknowledgement (`43ID[ARGUMENT]`), if it has one. An event that
/// asks for an acknowledgement (`42ID[…]`) is wanted whole, for its id.
fn argument(packet: &[u8]) -> Option<&[u8]> {
    if packet.starts_with(b"42") && packet.get(2).is_some_and(u8::is_ascii_digit) {
        return None;
    }
    let packet = packet.strip_prefix(b"42").or_else(|| packet.strip_prefix(b"43"))?.trim_ascii_end();
    let id_bytes = packet.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let arguments = packet[id_bytes..].strip_prefix(b"[")?.strip_suffix(b"]")?;
    if !arguments.starts_with(b"\"") {
        return Some(arguments);
    }
    let name_bytes = arguments.iter().position(|&byte| byte == b',')?;
    Some(&arguments[name_bytes + 1..])
}

/// What a connection comes in for, beside being welcomed.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Errand<'a> {
    /// The room that it joins.
    pub(super) room: Option<&'a str>,
    /// Which of all targets or bots it is, if it takes commands.
    pub(super) target: Option<usize>,
}

/// How far a connection has come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Asked for WebSocket.
    Upgrading,
    /// Waits for the server's first words.
    Greeting,
    /// Said that it takes commands.
    Introducing,
    /// Asked to join its room.
    Joining,
    /// Is a bot, and has come so far as one.
    Bot(BotStage),
    /// Has all that it came for.
    Ready,
}

impl Stage {
    pub(super) fn first(protocol: Protocol) -> Self {
        match protocol {
            Protocol::Line => Self::Greeting,
            Protocol::Ddp | Protocol::Gateway | Protocol::SocketIo | Protocol::WebSocket => Self::Upgrading,
        }
    }

    /// Takes what the server said, and appends what is to be answered; returns whether the connection is ready now.
    pub(super) fn advance(
        &mut self,
        protocol: Protocol,
        text: &[u8],
        errand: Errand<'_>,
        output: &mut Vec<u8>,
    ) -> Result<bool, LoadError> {
        *self = match self {
            Self::Upgrading if is_upgrade(text) && protocol == Protocol::Ddp => Self::Bot(BotStage::open(output)),
            // What it says first is up to the load.
            Self::Upgrading if is_upgrade(text) && protocol == Protocol::Gateway => Self::Ready,
            Self::Upgrading if is_upgrade(text) => Self::Greeting,
            Self::Bot(stage) => match stage.advance(text, errand.target.unwrap_or_default(), output)? {
                BotStage::Idle => Self::Ready,
                stage => Self::Bot(stage),
            },
            // The transport's own greeting comes before that of Socket.IO, which must be asked for.
            Self::Greeting if protocol == Protocol::SocketIo && text.starts_with(b"0{") => {
                frames::push(output, frames::TEXT, &[b"40"]);
                Self::Greeting
            }
            Self::Greeting if is_welcome(protocol, text) => match errand.room {
                Some(room) => {
                    protocol.push_join(output, room);
                    Self::Joining
                }
                None => Self::introduce(protocol, errand, output),
            },
            Self::Joining if find(text, OK).is_some() => Self::introduce(protocol, errand, output),
            Self::Introducing if find(text, OK).is_some() => Self::Ready,
            _ => return Err(refused(text)),
        };
        Ok(*self == Self::Ready)
    }

    fn introduce(protocol: Protocol, errand: Errand<'_>, output: &mut Vec<u8>) -> Self {
        match errand.target {
            Some(index) => {
                protocol.push_introduction(output, index);
                Self::Introducing
            }
            None => Self::Ready,
        }
    }
}

fn is_upgrade(head: &[u8]) -> bool {
    head.starts_with(b"HTTP/1.1 101 ") && find(head, ACCEPT.as_bytes()).is_some()
}

fn is_welcome(protocol: Protocol, text: &[u8]) -> bool {
    match protocol {
        Protocol::SocketIo => text.starts_with(b"40{"),
        Protocol::Ddp | Protocol::Gateway | Protocol::Line | Protocol::WebSocket => {
            find(text, br#""welcome":"#).is_some()
        }
    }
}

pub(super) fn refused(text: &[u8]) -> LoadError {
    LoadError::Refused(String::from_utf8_lossy(&text[..text.len().min(200)]).into_owned())
}

/// The key of RFC 6455, section 1.3, so that the answer is known without computing it.
const UPGRADE_HEADERS: &str = "Host: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

const OK: &[u8] = br#""status":"OK""#;

const NORMAL_CLOSURE: [u8; 2] = 1000_u16.to_be_bytes();

#[cfg(test)]
mod tests {
    use super::super::payload::Heard;
    use super::*;

    const HEAD: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n";
    const WELCOME: &[u8] = br#"{"welcome":"Hello!","context":"api"}"#;
    const OK: &[u8] = br#"{"status":"OK","context":"response","data":true}"#;

    /// Plays what the server says to a connection and returns what the connection answers, without masks and headers.
    fn play(protocol: Protocol, room: Option<&str>, texts: &[&[u8]]) -> Result<(bool, String), LoadError> {
        play_for(protocol, Errand { room, target: None }, texts)
    }

    fn play_for(protocol: Protocol, errand: Errand<'_>, texts: &[&[u8]]) -> Result<(bool, String), LoadError> {
        let (mut stage, mut output, mut is_ready) = (Stage::first(protocol), Vec::new(), false);
        for text in texts {
            assert!(!is_ready, "ready before {}", text.escape_ascii());
            is_ready = stage.advance(protocol, text, errand, &mut output)?;
        }
        let sent = String::from_utf8(output.into_iter().filter(|byte| (b'\n'..0x7f).contains(byte)).collect()).unwrap();
        Ok((is_ready, sent))
    }

    #[test]
    fn a_connection_is_ready_when_its_join_is_answered() {
        let played = play(Protocol::Line, Some("bench"), &[WELCOME, OK]).unwrap();
        assert_eq!(played, (true, "roomAdd bench\r\n".to_owned()));
        let played = play(Protocol::WebSocket, Some("bench"), &[HEAD, WELCOME, OK]).unwrap();
        assert_eq!(played, (true, r#"{"event":"roomAdd","room":"bench"}"#.to_owned()));
        let texts = [HEAD, br#"0{"sid":"a"}"#, br#"40{"sid":"b"}"#, OK];
        let played = play(Protocol::SocketIo, Some("bench"), &texts).unwrap();
        assert_eq!(played, (true, r#"40420["roomAdd",{"room":"bench"}]"#.to_owned()));
    }

    #[test]
    fn a_target_says_that_it_takes_commands_when_it_has_joined() {
        let errand = Errand { room: Some("bench"), target: Some(7) };
        let (is_ready, sent) = play_for(Protocol::Line, errand, &[WELCOME, OK, OK]).unwrap();
        assert!(is_ready);
        assert_eq!(sent, "roomAdd bench\r\nsetCustomClientData {\"commands\":true,\"index\":7}\r\n");
        let errand = Errand { room: None, target: Some(7) };
        let (is_ready, sent) = play_for(Protocol::WebSocket, errand, &[HEAD, WELCOME]).unwrap();
        assert!(!is_ready);
        assert_eq!(sent, r#"{"event":"setCustomClientData","data":{"commands":true,"index":7}}"#);
    }

    #[test]
    fn requests_and_replies_are_worded_for_their_protocol() {
        for (protocol, action, reply) in [
            (Protocol::Line, r#"{"action":"a","params":{"n":1}}"#, "replyClientCommand 17 {}"),
            (Protocol::SocketIo, r#"420["a",{"n":1}]"#, "4317[{}]"),
            (
                Protocol::WebSocket,
                r#"{"event":"action","params":{"action":"a","n":1}}"#,
                r#"{"event":"replyClientCommand","id":"17","reply":{}}"#,
            ),
        ] {
            let (mut asked, mut replied) = (Vec::new(), Vec::new());
            protocol.push_action(&mut asked, "a", r#""n":1"#);
            protocol.push_reply(&mut replied, b"17", "{}");
            assert!(asked.trim_ascii_end().ends_with(action.as_bytes()), "{}", asked.escape_ascii());
            assert!(replied.trim_ascii_end().ends_with(reply.as_bytes()), "{}", replied.escape_ascii());
        }
    }

    #[test]
    fn without_a_room_the_welcome_is_enough() {
        assert_eq!(play(Protocol::Line, None, &[WELCOME]).unwrap(), (true, String::new()));
        assert_eq!(play(Protocol::WebSocket, None, &[HEAD, WELCOME]).unwrap(), (true, String::new()));
        assert_eq!(play(Protocol::Gateway, None, &[HEAD]).unwrap(), (true, String::new()));
    }

    #[test]
    fn what_is_not_expected_is_refused() {
        let unknown = &br#"{"status":"room does not exist","context":"response","data":false}"#[..];
        let other_key = &b"HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: AAAA\r\n"[..];
        for (protocol, texts) in [
            (Protocol::Line, &[WELCOME, unknown][..]),
            (Protocol::Line, &[WELCOME, WELCOME]),
            (Protocol::WebSocket, &[b"HTTP/1.1 400 Bad Request\r\n"]),
            (Protocol::WebSocket, &[other_key]),
            (Protocol::WebSocket, &[HEAD, unknown]),
            (Protocol::SocketIo, &[HEAD, WELCOME]),
        ] {
            assert!(matches!(play(protocol, Some("x"), texts), Err(LoadError::Refused(_))), "{protocol:?}");
        }
    }

    #[test]
    fn what_is_said_says_the_same_in_every_protocol() {
        for (protocol, begin) in [
            (Protocol::Line, "say bench @200000077x"),
            (Protocol::WebSocket, r#"{"event":"say","room":"bench","message":"@200000077x"#),
            (Protocol::SocketIo, r#"420["say",{"room":"bench","message":"@200000077x"#),
        ] {
            let mut out = Vec::new();
            protocol.push_say(&mut out, "bench", 2, 77);
            let text = if protocol == Protocol::Line { &out[..] } else { &out[8..] };
            assert!(text.starts_with(begin.as_bytes()), "{}", text.escape_ascii());
            assert_eq!(text.iter().filter(|&&byte| byte == b'x').count(), FILLER.len());
        }
    }

    #[test]
    fn heartbeats_are_answered_and_are_no_content() {
        for (protocol, ping, pong) in [
            (Protocol::WebSocket, &br#""primus::ping::17""#[..], &br#""primus::pong::17""#[..]),
            (Protocol::SocketIo, b"2", b"3"),
            (Protocol::Ddp, br#"{"msg":"ping"}"#, br#"{"msg":"pong"}"#),
        ] {
            let mut replies = Vec::new();
            assert_eq!(protocol.content(ping, &mut replies), None);
            assert!(replies.ends_with(pong), "{}", replies.escape_ascii());
        }
        let mut replies = Vec::new();
        assert_eq!(Protocol::WebSocket.content(br#""primus::server::close""#, &mut replies), None);
        assert_eq!(replies, b"");
    }

    #[test]
    fn the_argument_of_a_packet_is_its_content() {
        let mut replies = Vec::new();
        let mut content = |packet| Protocol::SocketIo.content(packet, &mut replies);
        assert_eq!(content(br#"42["message",{"message":"a, b]"}]"#), Some(&br#"{"message":"a, b]"}"#[..]));
        let answer = content(br#"430[{"status":"OK"}]"#).unwrap();
        assert_eq!(Heard::parse(answer), Some(Heard::Answer));
        let asks = br#"4217["command",{"n":5}]"#;
        assert_eq!(content(asks), Some(&asks[..]), "its id is needed for the acknowledgement");
        assert_eq!(content(br#"40{"sid":"b"}"#), Some(&br#"40{"sid":"b"}"#[..]));
    }
}
