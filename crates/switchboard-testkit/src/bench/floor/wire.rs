//! The floor's connections: sixteen bytes each, and a backlog for the few that do not read fast enough.

use std::collections::HashMap;
use std::io::{self, ErrorKind, Write};

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};

#[derive(Debug)]
struct Connection {
    stream: TcpStream,
    /// The number of the last answer.
    number: u32,
    room: u32,
    is_speaker: bool,
    is_blocked: bool,
}

/// The table of connections by slot.
#[derive(Debug)]
pub(super) struct Wire {
    registry: Registry,
    connections: Vec<Option<Connection>>,
    free: Vec<u32>,
    /// What a full socket did not take. Bounded by what the generator has outstanding, not by the floor.
    backlog: HashMap<u32, Vec<u8>>,
}

impl Wire {
    pub(super) fn new(registry: Registry) -> Self {
        Self { registry, connections: Vec::new(), free: Vec::new(), backlog: HashMap::new() }
    }

    pub(super) fn open(&mut self, mut stream: TcpStream) -> io::Result<u32> {
        let slot = self.free.pop().unwrap_or(self.connections.len() as u32);
        self.registry.register(&mut stream, Token(slot as usize), Interest::READABLE)?;
        let connection = Connection { stream, number: 0, room: NO_ROOM, is_speaker: false, is_blocked: false };
        match self.connections.get_mut(slot as usize) {
            Some(place) => *place = Some(connection),
            None => self.connections.push(Some(connection)),
        }
        Ok(slot)
    }

    /// Forgets a connection and returns the room it was in.
    pub(super) fn close(&mut self, slot: u32) -> Option<u32> {
        let connection = self.connections[slot as usize].take()?;
        self.backlog.remove(&slot);
        self.free.push(slot);
        Some(connection.room).filter(|&room| room != NO_ROOM)
    }

    pub(super) fn stream(&self, slot: u32) -> Option<&TcpStream> {
        self.connections[slot as usize].as_ref().map(|connection| &connection.stream)
    }

    pub(super) fn room(&self, slot: u32) -> Option<u32> {
        self.connections[slot as usize].as_ref().map(|connection| connection.room).filter(|&room| room != NO_ROOM)
    }

    /// Puts a connection into a room; false if it is in one already.
    pub(super) fn enter(&mut self, slot: u32, room: u32) -> bool {
        match &mut self.connections[slot as usize] {
            Some(connection) if connection.room == NO_ROOM => {
                connection.room = room;
                true
            }
            _ => false,
        }
    }

    pub(super) fn next_number(&mut self, slot: u32) -> u32 {
        self.connections[slot as usize].as_mut().map_or(0, |connection| {
            connection.number += 1;
            connection.number
        })
    }

    pub(super) fn is_speaker(&self, slot: u32) -> bool {
        self.connections[slot as usize].as_ref().is_some_and(|connection| connection.is_speaker)
    }

    pub(super) fn mark_speaker(&mut self, slot: u32, is_speaker: bool) {
        if let Some(connection) = &mut self.connections[slot as usize] {
            connection.is_speaker = is_speaker;
        }
    }

    /// Writes at once; keeps what the socket does not take. A broken connection is noticed by its next read.
    pub(super) fn send(&mut self, slot: u32, bytes: &[u8]) {
        let Some(connection) = &mut self.connections[slot as usize] else { return };
        if bytes.is_empty() {
            return;
        }
        if connection.is_blocked {
            self.backlog.entry(slot).or_default().extend_from_slice(bytes);
            return;
        }
        let written = match (&connection.stream).write(bytes) {
            Ok(written) => written,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => 0,
            Err(_) => return,
        };
        if written < bytes.len() {
            connection.is_blocked = true;
            self.backlog.insert(slot, bytes[written..].to_vec());
            let interest = Interest::READABLE | Interest::WRITABLE;
            let _ = self.registry.reregister(&mut connection.stream, Token(slot as usize), interest);
        }
    }

    pub(super) fn send_backlog(&mut self, slot: u32) {
        let Some(connection) = &mut self.connections[slot as usize] else { return };
        let Some(waiting) = self.backlog.remove(&slot) else { return };
        connection.is_blocked = false;
        let _ = self.registry.reregister(&mut connection.stream, Token(slot as usize), Interest::READABLE);
        self.send(slot, &waiting);
    }
}

/// A connection that has not joined.
const NO_ROOM: u32 = u32::MAX;

// Without debug assertions, as mio keeps more in a stream with them.
#[cfg(not(debug_assertions))]
const _: () = assert!(size_of::<Option<Connection>>() == 16);
