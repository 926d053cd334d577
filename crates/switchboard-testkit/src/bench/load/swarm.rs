//! The connections and how they come in.

use std::io::{ErrorKind, Write};
use std::net::SocketAddr;
use std::time::Duration;

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use super::super::histogram::Histogram;
use super::lines::{LineReader, find};
use super::{Clock, LoadError, PATIENCE};

/// All connections of a run.
#[derive(Debug)]
pub(super) struct Swarm {
    pub(super) clock: Clock,
    pub(super) poll: Poll,
    pub(super) events: Events,
    pub(super) clients: Vec<Client>,
    pub(super) reader: LineReader,
    /// From connecting to having joined, in nanoseconds.
    pub(super) opening: Histogram,
}

/// One connection.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) stream: TcpStream,
    pub(super) partial: Vec<u8>,
    /// What waits to be sent.
    pub(super) output: Vec<u8>,
    stage: Stage,
}

#[derive(Clone, Copy, Debug)]
enum Stage {
    Connecting { since_ns: u64 },
    Joining { since_ns: u64 },
    Ready,
}

impl Swarm {
    /// Opens connections, `count.0` in all and at most `count.1` in progress, and has them join the rooms in turn:
    /// as many in the first as in every other, one room after the other. Without rooms the welcome is all they wait for.
    pub(super) fn open(
        clock: Clock,
        address: SocketAddr,
        (count, at_once): (usize, usize),
        rooms: &[String],
    ) -> Result<Self, LoadError> {
        let mut swarm = Self {
            clock,
            poll: Poll::new()?,
            events: Events::with_capacity(1024),
            clients: Vec::with_capacity(count),
            reader: LineReader::new(clock),
            opening: Histogram::new(),
        };
        let members = count.checked_div(rooms.len());
        let (mut ready, mut progress_ns) = (0, clock.now_ns());
        while ready < count {
            while swarm.clients.len() < count.min(ready + at_once) {
                swarm.connect(address)?;
            }
            swarm.wait(Some(PATIENCE))?;
            let ready_before = ready;
            let Self { events, clients, reader, opening, .. } = &mut swarm;
            for event in events.iter() {
                let Token(index) = event.token();
                let room = members.map(|members| rooms[index / members].as_str());
                let Client { stream, partial, output, stage } = &mut clients[index];
                reader.read(&*stream, partial, |now_ns, line| {
                    if let Some(since_ns) = stage.advance(line, room, output)? {
                        opening.record(now_ns - since_ns);
                        ready += 1;
                    }
                    Ok(())
                })?;
                clients[index].send()?;
            }
            let now_ns = clock.now_ns();
            if ready > ready_before {
                progress_ns = now_ns;
            } else if now_ns - progress_ns > PATIENCE.as_nanos() as u64 {
                return Err(LoadError::Stuck { joined: ready });
            }
        }
        Ok(swarm)
    }

    /// Fills `events`; with none if nothing happens in time or a signal arrives.
    pub(super) fn wait(&mut self, timeout: Option<Duration>) -> Result<(), LoadError> {
        match self.poll.poll(&mut self.events, timeout) {
            Err(error) if error.kind() != ErrorKind::Interrupted => Err(error.into()),
            _ => Ok(()),
        }
    }

    fn connect(&mut self, address: SocketAddr) -> Result<(), LoadError> {
        let since_ns = self.clock.now_ns();
        let mut stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        // Only reading: the welcome tells that the connection stands, and what is sent fits into any socket.
        self.poll.registry().register(&mut stream, Token(self.clients.len()), Interest::READABLE)?;
        let stage = Stage::Connecting { since_ns };
        self.clients.push(Client { stream, partial: Vec::new(), output: Vec::new(), stage });
        Ok(())
    }
}

impl Client {
    /// Sends what waits.
    ///
    /// The outstanding limit of a scenario bounds what a client sends to less than a socket takes, so one that takes
    /// nothing belongs to a server that has stopped reading.
    pub(super) fn send(&mut self) -> Result<(), LoadError> {
        if !self.output.is_empty() {
            self.stream.write_all(&self.output)?;
            self.output.clear();
        }
        Ok(())
    }
}

impl Stage {
    /// Takes a line; returns since when the connection was opened once it is ready.
    fn advance(&mut self, line: &[u8], room: Option<&str>, output: &mut Vec<u8>) -> Result<Option<u64>, LoadError> {
        match (*self, room) {
            (Self::Connecting { since_ns }, room) if find(line, br#""welcome":"#).is_some() => {
                if let Some(room) = room {
                    output.extend_from_slice(b"roomAdd ");
                    output.extend_from_slice(room.as_bytes());
                    output.extend_from_slice(b"\r\n");
                    *self = Self::Joining { since_ns };
                    return Ok(None);
                }
                *self = Self::Ready;
                Ok(Some(since_ns))
            }
            (Self::Joining { since_ns }, _) if find(line, br#""status":"OK""#).is_some() => {
                *self = Self::Ready;
                Ok(Some(since_ns))
            }
            _ => Err(refused(line)),
        }
    }
}

pub(super) fn refused(line: &[u8]) -> LoadError {
    LoadError::Refused(String::from_utf8_lossy(&line[..line.len().min(200)]).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const WELCOME: &[u8] = br#"{"welcome":"Hello!","context":"api"}"#;

    #[test]
    fn a_connection_is_ready_when_its_join_is_answered() {
        let (mut stage, mut output) = (Stage::Connecting { since_ns: 7 }, Vec::new());
        assert_eq!(stage.advance(WELCOME, Some("bench"), &mut output).unwrap(), None);
        assert_eq!(output, b"roomAdd bench\r\n");
        assert_eq!(stage.advance(br#"{"status":"OK","data":true}"#, Some("bench"), &mut output).unwrap(), Some(7));
        assert!(stage.advance(WELCOME, Some("bench"), &mut output).is_err());
    }

    #[test]
    fn without_a_room_the_welcome_is_enough() {
        let (mut stage, mut output) = (Stage::Connecting { since_ns: 7 }, Vec::new());
        assert_eq!(stage.advance(WELCOME, None, &mut output).unwrap(), Some(7));
        assert!(output.is_empty());
    }

    #[test]
    fn a_refused_join_is_an_error() {
        let (mut stage, mut output) = (Stage::Joining { since_ns: 7 }, Vec::new());
        let line = br#"{"status":"room does not exist","context":"response","data":false}"#;
        assert!(matches!(stage.advance(line, Some("x"), &mut output), Err(LoadError::Refused(_))));
    }
}
