//! The floor: the cheapest server that can answer the scenarios, as the yardstick for a real one.
//!
//! One thread, one epoll, the line protocol only as far as the scenarios need it: the welcome, `roomAdd`, `say` and
//! `randomNumber`. No limits, no configuration, no escaping, one room per connection, rooms made by whoever joins first.
//! It trusts its clients (the generator bounds what is outstanding) and must never serve anybody else.
//!
//! What it does do, it does as cheaply as the kernel allows: edge-triggered readiness, one read per readiness, answers
//! of one read in one write, no allocation per message, sixteen bytes per connection.

use std::collections::HashMap;
use std::io::{self, ErrorKind, Read};
use std::mem;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::AsFd;
use std::time::{SystemTime, UNIX_EPOCH};

use mio::event::Event;
use mio::net::TcpListener;
use mio::{Events, Interest, Poll, Token};

use self::room::Room;
use self::wire::Wire;
use super::sys::{self, find_line_feed};

mod room;
mod wire;

/// How a room's messages reach its members.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// What one wake-up brought is joined per room and sent with one write per member.
    Batch,
    /// Every message is sent to every member with a write of its own.
    Each,
}

/// The bare loop.
#[derive(Debug)]
pub struct Floor {
    mode: Mode,
    poll: Poll,
    listener: TcpListener,
    wire: Wire,
    rooms: Vec<Room>,
    room_by_name: HashMap<Box<[u8]>, u32>,
    /// Rooms with messages to be sent at the end of the turn; batch mode only.
    gathered: Vec<u32>,
    /// The beginnings of lines, of the few connections whose last read ended within one.
    partial: HashMap<u32, Vec<u8>>,
    read_buffer: Vec<u8>,
    answers: Vec<u8>,
    message: Vec<u8>,
    sent_at_ms: u64,
    random: u64,
}

impl Floor {
    /// Listens on a free port of the loopback address.
    pub fn bind(mode: Mode) -> io::Result<Self> {
        let mut listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
        sys::set_backlog(&listener, BACKLOG)?;
        // A connection inherits the option from its listener, which saves a system call for each.
        let listener_as_stream = std::net::TcpStream::from(listener.as_fd().try_clone_to_owned()?);
        listener_as_stream.set_nodelay(true)?;
        let poll = Poll::new()?;
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
        Ok(Self {
            mode,
            wire: Wire::new(poll.registry().try_clone()?),
            poll,
            listener,
            rooms: Vec::new(),
            room_by_name: HashMap::new(),
            gathered: Vec::new(),
            partial: HashMap::new(),
            read_buffer: vec![0; READ_BYTES],
            answers: Vec::new(),
            message: Vec::new(),
            sent_at_ms: 0,
            random: 0x9e37_79b9_7f4a_7c15,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until readiness or the listener fails.
    pub fn run(&mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(1024);
        loop {
            match self.poll.poll(&mut events, None) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                result => result?,
            }
            self.sent_at_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64);
            for event in &events {
                match event.token() {
                    LISTENER => self.accept()?,
                    token => self.ready(token.0 as u32, event),
                }
            }
            self.send_gathered();
        }
    }

    fn accept(&mut self) -> io::Result<()> {
        loop {
            match self.listener.accept() {
                Ok((stream, _)) => {
                    let slot = self.wire.open(stream)?;
                    self.wire.send(slot, WELCOME);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::ConnectionAborted => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn ready(&mut self, slot: u32, event: &Event) {
        if event.is_writable() {
            self.wire.send_backlog(slot);
        }
        if event.is_readable() || event.is_error() || event.is_read_closed() {
            // Taken out for the time of the reading, so that the lines in it may change everything else.
            let mut buffer = mem::take(&mut self.read_buffer);
            self.read(slot, &mut buffer);
            self.read_buffer = buffer;
        }
    }

    fn read(&mut self, slot: u32, buffer: &mut [u8]) {
        loop {
            let Some(mut stream) = self.wire.stream(slot) else { return };
            let kept = if self.partial.is_empty() { None } else { self.partial.remove(&slot) }.unwrap_or_default();
            buffer[..kept.len()].copy_from_slice(&kept);
            let room_bytes = buffer.len() - kept.len();
            let read_bytes = match stream.read(&mut buffer[kept.len()..]) {
                Ok(0) => return self.close(slot),
                Ok(bytes) => bytes,
                Err(error) if error.kind() == ErrorKind::Interrupted => 0,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    if !kept.is_empty() {
                        self.partial.insert(slot, kept);
                    }
                    return;
                }
                Err(_) => return self.close(slot),
            };
            let rest = self.lines(slot, &buffer[..kept.len() + read_bytes]);
            if rest.len() == buffer.len() {
                // Longer than anything that a scenario sends.
                return self.close(slot);
            }
            if !rest.is_empty() {
                self.partial.insert(slot, rest.to_vec());
            }
            // A read that left room has emptied the socket; readiness is announced again when more arrives.
            if read_bytes < room_bytes && read_bytes > 0 {
                return;
            }
        }
    }

    /// Answers the whole lines in `bytes` with one write and returns what follows the last of them.
    fn lines<'a>(&mut self, slot: u32, mut bytes: &'a [u8]) -> &'a [u8] {
        while let Some(end) = find_line_feed(bytes) {
            let line = &bytes[..end];
            bytes = &bytes[end + 1..];
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            if !line.is_empty() {
                self.line(slot, line);
            }
        }
        self.wire.send(slot, &self.answers);
        self.answers.clear();
        bytes
    }

    fn line(&mut self, slot: u32, line: &[u8]) {
        if line == b"randomNumber" {
            self.random_number();
        } else if let Some(rest) = line.strip_prefix(b"say ") {
            self.say(slot, rest);
        } else if let Some(room) = line.strip_prefix(b"roomAdd ") {
            self.join(slot, room);
        } else {
            self.answers.extend_from_slice(br#"{"error":"Error: unknown action","context":"response""#);
        }
        let number = self.wire.next_number(slot);
        self.answers.extend_from_slice(br#","messageCount":"#);
        push_decimal(&mut self.answers, number.into());
        self.answers.extend_from_slice(b"}\r\n");
    }

    fn random_number(&mut self) {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.answers.extend_from_slice(br#"{"randomNumber":0."#);
        push_decimal(&mut self.answers, 100 + self.random % 900);
        self.answers.extend_from_slice(br#","context":"response""#);
    }

    fn join(&mut self, slot: u32, name: &[u8]) {
        let room = match self.room_by_name.get(name) {
            Some(&room) => room,
            None => {
                let room = self.rooms.len() as u32;
                self.rooms.push(Room::new(name));
                self.room_by_name.insert(name.into(), room);
                room
            }
        };
        if self.wire.enter(slot, room) {
            self.rooms[room as usize].members.push(slot);
            self.answers.extend_from_slice(br#"{"status":"OK","context":"response","data":true"#);
        } else {
            self.answers
                .extend_from_slice(br#"{"status":"connection already in this room","context":"response","data":false"#);
        }
    }

    fn say(&mut self, slot: u32, rest: &[u8]) {
        let in_room = self.wire.room(slot).and_then(|room| {
            let text = rest.strip_prefix(&*self.rooms[room as usize].name)?.strip_prefix(b" ")?;
            Some((room, text))
        });
        let Some((room, text)) = in_room else {
            self.answers.extend_from_slice(br#"{"status":"connection not in this room","context":"response""#);
            return;
        };
        self.answers.extend_from_slice(br#"{"status":"OK","context":"response","data":null"#);
        let Self { rooms, wire, message, .. } = self;
        let room_data = &mut rooms[room as usize];
        match self.mode {
            Mode::Each => {
                message.clear();
                push_message(message, &room_data.name, text, slot, self.sent_at_ms);
                for &member in room_data.members.iter().filter(|&&member| member != slot) {
                    wire.send(member, message);
                }
            }
            Mode::Batch => {
                if room_data.is_quiet() {
                    self.gathered.push(room);
                }
                room_data.gather(slot, |name, out| push_message(out, name, text, slot, self.sent_at_ms));
            }
        }
    }

    fn send_gathered(&mut self) {
        for room in self.gathered.drain(..) {
            self.rooms[room as usize].send_gathered(&mut self.wire, &mut self.message);
        }
    }

    fn close(&mut self, slot: u32) {
        self.partial.remove(&slot);
        if let Some(room) = self.wire.close(slot) {
            self.rooms[room as usize].members.retain(|&member| member != slot);
        }
    }
}

fn push_message(out: &mut Vec<u8>, room: &[u8], text: &[u8], from: u32, sent_at_ms: u64) {
    out.extend_from_slice(br#"{"message":""#);
    out.extend_from_slice(text);
    out.extend_from_slice(br#"","room":""#);
    out.extend_from_slice(room);
    // An id as long as a real one; a connection's slot is all there is to tell it by.
    out.extend_from_slice(br#"","from":"0f10c21e-0000-4000-8000-"#);
    push_decimal(out, 100_000_000_000 + u64::from(from));
    out.extend_from_slice(br#"","context":"user","sentAt":"#);
    push_decimal(out, sent_at_ms);
    out.extend_from_slice(b"}\r\n");
}

/// The formatting machinery of the standard library would cost as much as all the rest of an answer.
fn push_decimal(out: &mut Vec<u8>, mut number: u64) {
    let mut digits = [0; 20];
    let mut start = digits.len();
    loop {
        start -= 1;
        digits[start] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[start..]);
}

const LISTENER: Token = Token(usize::MAX);

const WELCOME: &[u8] = b"{\"welcome\":\"Hello! Welcome to the actionhero api\",\"context\":\"api\"}\r\n";

/// As much as the kernel allows by default.
const BACKLOG: i32 = 4096;

/// Holds far more than the scenarios have outstanding, so that one read empties a socket.
const READ_BYTES: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_in_decimal() {
        let mut out = Vec::new();
        for number in [0, 7, 10, 1_234_567_890, u64::MAX] {
            push_decimal(&mut out, number);
            out.push(b' ');
        }
        assert_eq!(out, b"0 7 10 1234567890 18446744073709551615 ");
    }

    #[test]
    fn a_room_message_is_json_with_an_id_of_36_characters() {
        let mut out = Vec::new();
        push_message(&mut out, b"bench", b"hello", 7, 1_700_000_000_000);
        let message: serde_json::Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(message["message"], "hello");
        assert_eq!(message["room"], "bench");
        assert_eq!(message["from"].as_str().unwrap().len(), 36);
        assert_eq!(message["sentAt"], 1_700_000_000_000_u64);
        assert!(out.ends_with(b"\r\n"));
    }
}
