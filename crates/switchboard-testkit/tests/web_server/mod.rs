//! A small WebSocket server, to see whether the load tool speaks and counts as it should: a thread per connection,
//! rooms by name, and of the protocols just what the loads use.
//!
//! It is strict where a client could be wrong: frames must be masked, and who does not answer heartbeats never joins.

#![allow(clippy::unwrap_used, reason = "a test server: what goes wrong in it fails its test")]

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::{Value, json};
use switchboard_testkit::bench::load::Protocol;

/// Serves until the test's process ends.
pub(crate) fn start(protocol: Protocol, tls: Option<Arc<ServerConfig>>) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    let members = Arc::new(Mutex::new(Vec::new()));
    thread::spawn(move || {
        for (id, socket) in listener.incoming().map_while(Result::ok).enumerate() {
            let (members, tls) = (Arc::clone(&members), tls.clone());
            thread::spawn(move || match tls {
                None => {
                    let outlet = socket.try_clone().unwrap();
                    Connection { id, protocol, stream: socket, members: &members }.serve(Some(outlet));
                }
                Some(config) => {
                    let stream = StreamOwned::new(ServerConnection::new(config).unwrap(), socket);
                    Connection { id, protocol, stream, members: &members }.serve(None);
                }
            });
        }
    });
    Ok(address)
}

/// A member of a room, and where to write what it hears.
struct Member {
    id: usize,
    room: String,
    outlet: TcpStream,
}

struct Connection<'a, S> {
    id: usize,
    protocol: Protocol,
    stream: S,
    /// Nobody writes without having locked it, so that frames stay whole.
    members: &'a Mutex<Vec<Member>>,
}

impl<S: Read + Write> Connection<'_, S> {
    /// Serves until the client leaves. Only with an `outlet` does it hear what others say.
    fn serve(mut self, outlet: Option<TcpStream>) {
        self.greet();
        let mut outlet = outlet;
        while let Some((TEXT, payload)) = self.receive() {
            let (verb, request) = self.parse(&payload);
            let room = request["room"].as_str().unwrap().to_owned();
            match verb.as_str() {
                "roomAdd" => {
                    self.ask_for_heartbeats();
                    let members = self.members;
                    let mut members = members.lock().unwrap();
                    if let Some(outlet) = outlet.take() {
                        members.push(Member { id: self.id, room, outlet });
                    }
                    self.answer();
                }
                "say" => {
                    let members = self.members;
                    let members = members.lock().unwrap();
                    self.answer();
                    let said = json!({ "message": request["message"], "room": room, "context": "user" });
                    let text = match self.protocol {
                        Protocol::SocketIo => json!(["message", said]).to_string().replacen('[', "42[", 1),
                        _ => said.to_string(),
                    };
                    for member in members.iter().filter(|member| member.id != self.id && member.room == room) {
                        (&member.outlet).write_all(&frame(TEXT, text.as_bytes())).unwrap();
                    }
                }
                verb => panic!("no such verb: {verb}"),
            }
        }
        self.members.lock().unwrap().retain(|member| member.id != self.id);
        let _ = self.stream.write_all(&frame(CLOSE, b""));
    }

    fn greet(&mut self) {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            self.stream.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        let path = if self.protocol == Protocol::SocketIo { "/socket.io/?" } else { "/primus/?" };
        assert!(head.starts_with(format!("GET {path}").as_bytes()), "{}", head.escape_ascii());
        self.stream.write_all(UPGRADE).unwrap();
        if self.protocol == Protocol::SocketIo {
            self.send(TEXT, br#"0{"sid":"a","pingInterval":25000}"#);
            assert_eq!(self.receive(), Some((TEXT, b"40".to_vec())));
            self.send(TEXT, br#"40{"sid":"b"}"#);
        } else {
            self.send(TEXT, br#"{"welcome":"Hello!","context":"api"}"#);
        }
    }

    fn ask_for_heartbeats(&mut self) {
        let (ping, pong) = match self.protocol {
            Protocol::SocketIo => ("2", "3"),
            _ => (r#""primus::ping::17""#, r#""primus::pong::17""#),
        };
        self.send(TEXT, ping.as_bytes());
        self.send(PING, b"here?");
        assert_eq!(self.receive(), Some((TEXT, pong.as_bytes().to_vec())));
        assert_eq!(self.receive(), Some((PONG, b"here?".to_vec())));
    }

    fn parse(&self, payload: &[u8]) -> (String, Value) {
        let text = std::str::from_utf8(payload).unwrap();
        if self.protocol == Protocol::SocketIo {
            let event: Value = serde_json::from_str(text.strip_prefix("420").unwrap()).unwrap();
            (event[0].as_str().unwrap().to_owned(), event[1].clone())
        } else {
            let request: Value = serde_json::from_str(text).unwrap();
            (request["event"].as_str().unwrap().to_owned(), request)
        }
    }

    fn answer(&mut self) {
        let answer = if self.protocol == Protocol::SocketIo { r#"430[{"status":"OK"}]"# } else { r#"{"status":"OK"}"# };
        self.send(TEXT, answer.as_bytes());
    }

    fn send(&mut self, opcode: u8, payload: &[u8]) {
        self.stream.write_all(&frame(opcode, payload)).unwrap();
    }

    /// The next frame; `None` at the end of the connection.
    fn receive(&mut self) -> Option<(u8, Vec<u8>)> {
        let mut header = [0; 2];
        self.stream.read_exact(&mut header).ok()?;
        assert_eq!(header[1] & 0x80, 0x80, "a client masks its frames");
        let length = match header[1] & 0x7f {
            126 => {
                let mut length = [0; 2];
                self.stream.read_exact(&mut length).unwrap();
                u16::from_be_bytes(length).into()
            }
            length => usize::from(length),
        };
        let (mut mask, mut payload) = ([0; 4], vec![0; length]);
        self.stream.read_exact(&mut mask).unwrap();
        self.stream.read_exact(&mut payload).unwrap();
        payload.iter_mut().zip(mask.iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
        Some((header[0] & 0x0f, payload))
    }
}

fn frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x80 | opcode];
    match u8::try_from(payload.len()) {
        Ok(length @ 0..126) => frame.push(length),
        _ => {
            frame.push(126);
            frame.extend_from_slice(&(payload.len() as u16).to_be_bytes());
        }
    }
    frame.extend_from_slice(payload);
    frame
}

const TEXT: u8 = 1;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

const UPGRADE: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
