//! Our WebSocket framer against two others: the same bytes, the same messages and the same end.
//!
//! Streams come from a generator that keeps to the RFC most of the time, and are damaged here and there. Where the three
//! do not agree there is a row in [`EXPLAINED`], and a row that no stream needs any more fails the test too.

use std::io::{self, Read, Write};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use futures_core::Stream;
use switchboard_proto::frame::ws::{WsError, WsFrame, WsFramer, WsLimits};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The longest message, for all three.
const MAX_BYTES: usize = 1000;

/// How many streams are compared. Their seeds are 0 and on.
const STREAMS: u64 = 40_000;

/// What one side made of a stream.
#[derive(Debug, Default, PartialEq)]
struct Verdict {
    /// Messages, pings and pongs.
    heard: Vec<(Kind, Vec<u8>)>,
    end: Option<End>,
}

#[derive(Debug, PartialEq)]
enum Kind {
    Text,
    Binary,
    Ping,
    Pong,
}

#[derive(Debug, PartialEq)]
enum End {
    Closed(Option<u16>, String),
    /// Refused, with the code of the close frame.
    Refused(u16),
}

/// A difference that is known.
struct Explained {
    peer: &'static str,
    /// How we end.
    ours: &'static [Ours],
    /// With what the other refuses; `None` if it may go on.
    theirs: Option<u16>,
    /// What the other does.
    why: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Ours {
    Refused(WsError),
    Closed(u16),
}

const EXPLAINED: &[Explained] = &[
    Explained {
        peer: "tungstenite",
        ours: &[Ours::Refused(WsError::MalformedLength), Ours::Refused(WsError::LongControl)],
        theirs: None,
        why: "takes lengths in more bytes than they need, against section 5.2",
    },
    Explained {
        peer: "tungstenite",
        ours: &[
            Ours::Refused(WsError::ReservedBit),
            Ours::Refused(WsError::Unmasked),
            Ours::Refused(WsError::FragmentedControl),
            Ours::Refused(WsError::NothingToContinue),
            Ours::Refused(WsError::MessageNotEnded),
        ],
        theirs: Some(1009),
        why: "looks at the length of a frame first where more is wrong",
    },
    Explained {
        peer: "tungstenite",
        ours: &[Ours::Refused(WsError::MalformedClose)],
        theirs: Some(1007),
        why: "looks at the reason of a close frame first where the code is wrong too",
    },
    Explained {
        peer: "tungstenite",
        ours: &[Ours::Closed(1014)],
        theirs: Some(1002),
        why: "does not know 1014, which was registered after the RFC",
    },
    Explained {
        peer: "tokio-websockets",
        ours: &[Ours::Refused(WsError::MalformedLength)],
        theirs: Some(1009),
        why: "calls 2^63 and more too long; in the RFC that bit must be zero",
    },
    Explained {
        peer: "tokio-websockets",
        ours: &[Ours::Refused(WsError::NotUtf8)],
        theirs: None,
        why: "takes a text that ends within a character for UTF-8 if its last frame is empty",
    },
    Explained {
        peer: "tokio-websockets",
        ours: &[Ours::Refused(WsError::TooLarge)],
        theirs: Some(1007),
        why: "adds up fragments when they are complete, and finds the text wrong before",
    },
];

/// A stream in memory that swallows what is written to it. What it ends with is refused by everybody, so that nobody is
/// left waiting for the rest of a frame.
struct Memory<'a>(&'a [u8]);

impl Read for Memory<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Write for Memory<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl AsyncRead for Memory<'_> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Memory<'_> {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

fn ours<'p>(pieces: impl Iterator<Item = &'p [u8]>) -> (Verdict, Option<Ours>) {
    let limits = WsLimits { max_message_bytes: MAX_BYTES, max_fragments: 0, control_per_second: 0 };
    let mut framer = WsFramer::default();
    let mut scratch = Vec::new();
    let mut verdict = Verdict::default();
    for mut input in pieces {
        loop {
            let heard = match framer.next(&mut input, &mut scratch, &limits, 0) {
                Ok(None) => break,
                Ok(Some(WsFrame::Text(text))) => (Kind::Text, text.into()),
                Ok(Some(WsFrame::Binary(bytes))) => (Kind::Binary, bytes.into()),
                Ok(Some(WsFrame::Ping(payload))) => (Kind::Ping, payload.into()),
                Ok(Some(WsFrame::Pong(payload))) => (Kind::Pong, payload.into()),
                Ok(Some(WsFrame::Close { code, reason })) => {
                    verdict.end = Some(End::Closed(code, reason.to_owned()));
                    return (verdict, code.map(Ours::Closed));
                }
                Err(error) => {
                    verdict.end = Some(End::Refused(error.close_code()));
                    return (verdict, Some(Ours::Refused(error)));
                }
            };
            verdict.heard.push(heard);
        }
    }
    (verdict, None)
}

fn tungstenite(bytes: &[u8]) -> Verdict {
    use tungstenite::protocol::{Role, WebSocket, WebSocketConfig};
    use tungstenite::{Error, Message};
    let config = WebSocketConfig::default().max_message_size(Some(MAX_BYTES)).max_frame_size(Some(MAX_BYTES));
    let mut socket = WebSocket::from_raw_socket(Memory(bytes), Role::Server, Some(config));
    let mut verdict = Verdict::default();
    loop {
        let heard = match socket.read() {
            Ok(Message::Text(text)) => (Kind::Text, text.as_bytes().to_vec()),
            Ok(Message::Binary(bytes)) => (Kind::Binary, bytes.to_vec()),
            Ok(Message::Ping(payload)) => (Kind::Ping, payload.to_vec()),
            Ok(Message::Pong(payload)) => (Kind::Pong, payload.to_vec()),
            Ok(Message::Close(close)) => {
                // A code that no client may send is answered, not reported.
                verdict.end = Some(match close {
                    Some(close) if close.reason.as_str() == "Protocol violation" => End::Refused(1002),
                    Some(close) => End::Closed(Some(close.code.into()), close.reason.as_str().to_owned()),
                    None => End::Closed(None, String::new()),
                });
                return verdict;
            }
            Ok(Message::Frame(_)) => unreachable!("never read"),
            Err(error) => {
                verdict.end = Some(End::Refused(match error {
                    Error::Protocol(_) => 1002,
                    Error::Utf8(_) => 1007,
                    Error::Capacity(_) => 1009,
                    other => panic!("{other:?}"),
                }));
                return verdict;
            }
        };
        verdict.heard.push(heard);
    }
}

fn tokio_websockets(bytes: &[u8]) -> Verdict {
    use tokio_websockets::proto::ProtocolError;
    use tokio_websockets::{Error, Limits, ServerBuilder};
    let limits = Limits::default().max_payload_len(Some(MAX_BYTES));
    let mut socket = pin!(ServerBuilder::new().limits(limits).serve(Memory(bytes)));
    let mut verdict = Verdict::default();
    loop {
        let Poll::Ready(Some(heard)) = socket.as_mut().poll_next(&mut Context::from_waker(Waker::noop())) else {
            panic!("memory is always ready, and ends with what is refused");
        };
        match heard {
            Ok(message) if message.is_close() => {
                let close = message.as_close().filter(|_| !message.as_payload().is_empty());
                verdict.end = Some(match close {
                    Some((code, reason)) => End::Closed(Some(code.into()), reason.to_owned()),
                    None => End::Closed(None, String::new()),
                });
                return verdict;
            }
            Ok(message) => {
                let kind = match () {
                    () if message.is_text() => Kind::Text,
                    () if message.is_binary() => Kind::Binary,
                    () if message.is_ping() => Kind::Ping,
                    () => Kind::Pong,
                };
                verdict.heard.push((kind, message.into_payload().to_vec()));
            }
            Err(error) => {
                verdict.end = Some(End::Refused(match error {
                    Error::Protocol(ProtocolError::InvalidUtf8) => 1007,
                    Error::Protocol(_) => 1002,
                    Error::PayloadTooLong { .. } => 1009,
                    other => panic!("{other:?}"),
                }));
                return verdict;
            }
        }
    }
}

/// Whether two verdicts are the same, or differ as a row of [`EXPLAINED`] says; the row.
fn compare(peer: &str, mine: &Verdict, cause: Option<Ours>, theirs: &Verdict) -> Result<Option<usize>, ()> {
    if mine == theirs {
        return Ok(None);
    }
    let row = EXPLAINED.iter().position(|row| {
        let is_same_until = match row.theirs {
            Some(code) => theirs.heard == mine.heard && theirs.end == Some(End::Refused(code)),
            None => theirs.heard.starts_with(&mine.heard),
        };
        row.peer == peer && cause.is_some_and(|cause| row.ours.contains(&cause)) && is_same_until
    });
    row.map(Some).ok_or(())
}

/// Makes streams.
struct Client {
    random: fastrand::Rng,
    bytes: Vec<u8>,
    /// A message has begun.
    is_inside: bool,
    /// Not everything that is sent is as it should be.
    is_odd: bool,
}

impl Client {
    /// A stream with an end that everybody refuses: of four one is as it should be, one is damaged in a few places, and two
    /// are odd here and there.
    fn stream(seed: u64) -> Vec<u8> {
        let random = fastrand::Rng::with_seed(seed);
        let mut client = Self { random, bytes: Vec::new(), is_inside: false, is_odd: seed % 4 < 2 };
        for _ in 0..client.random.usize(1..12) {
            client.frame();
        }
        if seed % 4 == 2 {
            for _ in 0..client.random.usize(1..4) {
                let at = client.random.usize(..client.bytes.len());
                match client.random.u8(..4) {
                    0 => drop(client.bytes.remove(at)),
                    1 => client.bytes.insert(at, client.random.u8(..)),
                    2 => client.bytes[at] = client.random.u8(..),
                    _ => client.bytes[at] ^= 1 << client.random.u8(..8),
                }
                if client.bytes.is_empty() {
                    break;
                }
            }
        }
        // Whatever has begun is completed by this, and then it is a frame without a mask.
        client.bytes.extend_from_slice(&[0; MAX_BYTES + 20]);
        client.bytes
    }

    fn is_rare(&mut self) -> bool {
        self.is_odd && self.random.u8(..30) == 0
    }

    fn frame(&mut self) {
        let fin = self.random.bool();
        let opcode = match self.random.u8(..16) {
            0 if self.is_rare() => self.random.u8(..16),
            0 => 0x8,
            1..=2 => 0x9,
            3 => 0xa,
            _ if self.is_rare() => self.random.u8(..3),
            _ if self.is_inside => 0x0,
            4..=9 => 0x1,
            _ => 0x2,
        };
        let is_control = opcode & 8 != 0;
        let fin = fin || is_control && !self.is_rare();
        if !is_control {
            self.is_inside = !fin;
        }
        let bits = if self.is_rare() { self.random.u8(..8) << 4 } else { 0 };
        let mut payload = match opcode {
            0x8 => self.close(),
            0x9 | 0xa => {
                let end = if self.is_rare() { 200 } else { 126 };
                vec![self.random.u8(..); self.random.usize(..end)]
            }
            _ => self.text(),
        };
        let mask: [u8; 4] = self.random.u32(..).to_le_bytes();
        let is_masked = !self.is_rare();
        self.bytes.push(u8::from(fin) << 7 | bits | opcode);
        let flag = if is_masked { 0x80 } else { 0 };
        let announced =
            if self.is_rare() { self.random.u64(..) >> self.random.u32(..64) } else { payload.len() as u64 };
        let form = if self.is_rare() { self.random.u8(..3) } else { 0 };
        match (form, announced) {
            (0, 0..=125) => self.bytes.push(flag | announced as u8),
            (0 | 1, 0..=0xffff) => {
                self.bytes.push(flag | 126);
                self.bytes.extend_from_slice(&(announced as u16).to_be_bytes());
            }
            _ => {
                self.bytes.push(flag | 127);
                self.bytes.extend_from_slice(&announced.to_be_bytes());
            }
        }
        if is_masked {
            self.bytes.extend_from_slice(&mask);
            payload.iter_mut().zip(mask.into_iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
        }
        self.bytes.extend_from_slice(&payload);
    }

    fn text(&mut self) -> Vec<u8> {
        let len = match self.random.u8(..10) {
            0 => 0,
            1..=6 => self.random.usize(..30),
            7 => self.random.usize(120..130),
            8 => self.random.usize(..MAX_BYTES),
            _ if self.is_rare() => self.random.usize(MAX_BYTES - 5..MAX_BYTES + 5),
            _ => 1,
        };
        let letters = ["a", "ä", "日", "🙂", "\u{7ff}", "\u{d7ff}", "\0"];
        let mut text: Vec<u8> = Vec::new();
        while text.len() < len {
            text.extend_from_slice(letters[self.random.usize(..letters.len())].as_bytes());
        }
        if self.is_rare() {
            // A character that goes on in the next frame, or does not.
            text.truncate(len);
        } else if self.is_rare() {
            text.extend_from_slice([&b"\xff"[..], b"\xed\xa0\x80", b"\xc0\x80", b"\x80"][self.random.usize(..4)]);
        }
        text
    }

    fn close(&mut self) -> Vec<u8> {
        let codes = [1000, 1001, 1003, 1007, 1011, 1013, 1014, 3000, 4999, 1004, 1005, 1015, 1016, 5000, 0, 999];
        let code: u16 = codes[self.random.usize(..if self.is_odd { codes.len() } else { 9 })];
        let mut payload = code.to_be_bytes().to_vec();
        match self.random.u8(..6) {
            0 => payload.clear(),
            1..=3 => payload.extend_from_slice("schön".as_bytes()),
            4 if self.is_odd => drop(payload.pop()),
            5 if self.is_odd => payload.extend_from_slice(b"\xff"),
            _ => {}
        }
        payload
    }
}

#[test]
fn three_implementations_agree_or_it_is_known_why_not() {
    let mut met = vec![0; EXPLAINED.len()];
    let mut ends = [0; 4];
    let mut heard = 0;
    for seed in 0..STREAMS {
        let bytes = Client::stream(seed);
        let (mine, cause) = ours([&bytes[..]].into_iter());
        let mut random = fastrand::Rng::with_seed(seed);
        assert_eq!(ours(bytes.chunks(random.usize(1..50))).0, mine, "in pieces, seed {seed}");
        for (peer, theirs) in [("tungstenite", tungstenite(&bytes)), ("tokio-websockets", tokio_websockets(&bytes))] {
            match compare(peer, &mine, cause, &theirs) {
                Ok(None) => {}
                Ok(Some(row)) => met[row] += 1,
                Err(()) => panic!("seed {seed}, {peer} differs:\n{mine:?}\n{cause:?}\n{theirs:?}"),
            }
        }
        heard += mine.heard.len();
        ends[match mine.end {
            Some(End::Closed(..)) => 0,
            Some(End::Refused(1002)) => 1,
            Some(End::Refused(1007)) => 2,
            _ => 3,
        }] += 1;
    }
    for (row, times) in EXPLAINED.iter().zip(met) {
        println!("{times} times: {} {}", row.peer, row.why);
        assert!(times > 0, "{} no longer {}: strike it off", row.peer, row.why);
    }
    println!("{heard} heard, ended by close, 1002, 1007, 1009: {ends:?}");
    assert!(heard > STREAMS as usize && ends.into_iter().all(|times| times > STREAMS / 100), "{heard} {ends:?}");
}
