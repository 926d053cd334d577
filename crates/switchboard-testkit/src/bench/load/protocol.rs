//! The protocols that the generator speaks, as far as the loads need them.

use super::LoadError;
use super::frames;
use super::payload::{FILLER, find, head};

/// What the generator speaks with a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
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
            Self::SocketIo | Self::WebSocket => frames::push(out, frames::CLOSE, &[&NORMAL_CLOSURE]),
        }
    }

    /// Appends a speaker's message with this number to its room.
    pub(super) fn push_say(self, out: &mut Vec<u8>, room: &str, speaker: u8, sequence: u32) {
        let (room, head) = (room.as_bytes(), &head(speaker, sequence)[..]);
        match self {
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
            Self::Line => [b"roomAdd ", room, b"\r\n"].iter().for_each(|part| out.extend_from_slice(part)),
            Self::SocketIo => frames::push(out, frames::TEXT, &[br#"420["roomAdd",{"room":""#, room, br#""}]"#]),
            Self::WebSocket => {
                frames::push(out, frames::TEXT, &[br#"{"event":"roomAdd","room":""#, room, br#""}"#]);
            }
        }
    }

    /// What a frame's text has for the load; `None` if it is the transport's own. Heartbeats are answered in `replies`.
    pub(super) fn content<'a>(self, text: &'a [u8], replies: &mut Vec<u8>) -> Option<&'a [u8]> {
        match self {
            Self::Line => Some(text),
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

/// The last argument of an event (`42["NAME",ARGUMENT]`) or of an acknowledgement (`43ID[ARGUMENT]`), if it has one.
fn argument(packet: &[u8]) -> Option<&[u8]> {
    let packet = packet.strip_prefix(b"42").or_else(|| packet.strip_prefix(b"43"))?.trim_ascii_end();
    let id_bytes = packet.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let arguments = packet[id_bytes..].strip_prefix(b"[")?.strip_suffix(b"]")?;
    if !arguments.starts_with(b"\"") {
        return Some(arguments);
    }
    let name_bytes = arguments.iter().position(|&byte| byte == b',')?;
    Some(&arguments[name_bytes + 1..])
}

/// How far a connection has come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Asked for WebSocket.
    Upgrading,
    /// Waits for the server's first words.
    Greeting,
    /// Asked to join its room.
    Joining,
    /// Has all that it came for.
    Ready,
}

impl Stage {
    pub(super) fn first(protocol: Protocol) -> Self {
        match protocol {
            Protocol::Line => Self::Greeting,
            Protocol::SocketIo | Protocol::WebSocket => Self::Upgrading,
        }
    }

    /// Takes what the server said, and appends what is to be answered; returns whether the connection is ready now.
    pub(super) fn advance(
        &mut self,
        protocol: Protocol,
        text: &[u8],
        room: Option<&str>,
        output: &mut Vec<u8>,
    ) -> Result<bool, LoadError> {
        *self = match self {
            Self::Upgrading if is_upgrade(text) => Self::Greeting,
            // The transport's own greeting comes before that of Socket.IO, which must be asked for.
            Self::Greeting if protocol == Protocol::SocketIo && text.starts_with(b"0{") => {
                frames::push(output, frames::TEXT, &[b"40"]);
                Self::Greeting
            }
            Self::Greeting if is_welcome(protocol, text) => match room {
                Some(room) => {
                    protocol.push_join(output, room);
                    Self::Joining
                }
                None => Self::Ready,
            },
            Self::Joining if find(text, br#""status":"OK""#).is_some() => Self::Ready,
            _ => return Err(refused(text)),
        };
        Ok(*self == Self::Ready)
    }
}

fn is_upgrade(head: &[u8]) -> bool {
    head.starts_with(b"HTTP/1.1 101 ") && find(head, ACCEPT.as_bytes()).is_some()
}

fn is_welcome(protocol: Protocol, text: &[u8]) -> bool {
    match protocol {
        Protocol::SocketIo => text.starts_with(b"40{"),
        Protocol::Line | Protocol::WebSocket => find(text, br#""welcome":"#).is_some(),
    }
}

pub(super) fn refused(text: &[u8]) -> LoadError {
    LoadError::Refused(String::from_utf8_lossy(&text[..text.len().min(200)]).into_owned())
}

/// The key of RFC 6455, section 1.3, so that the answer is known without computing it.
const UPGRADE_HEADERS: &str = "Host: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

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
        let (mut stage, mut output, mut is_ready) = (Stage::first(protocol), Vec::new(), false);
        for text in texts {
            assert!(!is_ready, "ready before {}", text.escape_ascii());
            is_ready = stage.advance(protocol, text, room, &mut output)?;
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
    fn without_a_room_the_welcome_is_enough() {
        assert_eq!(play(Protocol::Line, None, &[WELCOME]).unwrap(), (true, String::new()));
        assert_eq!(play(Protocol::WebSocket, None, &[HEAD, WELCOME]).unwrap(), (true, String::new()));
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
        assert_eq!(content(br#"40{"sid":"b"}"#), Some(&br#"40{"sid":"b"}"#[..]));
    }
}
