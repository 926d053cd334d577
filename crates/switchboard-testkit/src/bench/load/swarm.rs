//! The connections, how they come in and how they leave.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::time::Duration;

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use super::super::histogram::Histogram;
use super::super::scenario::FanOut;
use super::protocol::{Errand, Protocol, Stage};
use super::reader::{Inbound, Reader};
use super::stream::Stream;
use super::{AT_ONCE, Clock, Endpoint, LoadError, PATIENCE};

/// All connections of a run.
#[derive(Debug)]
pub(super) struct Swarm {
    pub(super) clock: Clock,
    pub(super) protocol: Protocol,
    pub(super) poll: Poll,
    pub(super) events: Events,
    pub(super) clients: Vec<Client>,
    pub(super) reader: Reader,
    /// From connecting to having joined, in nanoseconds.
    pub(super) opening: Histogram,
}

/// One connection.
#[derive(Debug)]
pub(super) struct Client {
    stream: Stream,
    inbound: Inbound,
    /// What waits to be sent.
    pub(super) output: Vec<u8>,
    /// It has ended in the middle of whatever it did.
    is_killed: bool,
}

impl Swarm {
    /// Opens connections, `count.0` in all and at most `count.1` in progress, and has them join the rooms in turn:
    /// as many in the first as in every other, one room after the other. Without rooms the welcome is all they wait for.
    pub(super) fn open(
        clock: Clock,
        endpoint: &Endpoint,
        (count, at_once): (usize, usize),
        rooms: &[String],
    ) -> Result<Self, LoadError> {
        let members = count.checked_div(rooms.len());
        let is_of_bots = endpoint.protocol == Protocol::Ddp;
        let errand = |index: usize| Errand {
            room: members.map(|members| rooms[index / members].as_str()),
            target: is_of_bots.then_some(index),
        };
        Self::open_for(clock, endpoint, (count, at_once), errand)
    }

    /// Opens the connections of a load of room messages. Those that speak are with the node that has them.
    pub(super) fn open_to_speak(
        clock: Clock,
        endpoint: &Endpoint,
        shape: FanOut,
        rooms: &[String],
    ) -> Result<Self, LoadError> {
        let speaks = |index: usize| index % shape.members < shape.speakers;
        let address = |index: usize| endpoint.speakers_at.filter(|_| speaks(index)).unwrap_or(endpoint.address);
        let errand = |index: usize| Errand { room: Some(rooms[index / shape.members].as_str()), target: None };
        Self::open_at(clock, endpoint, (shape.connections(), AT_ONCE), address, errand)
    }

    /// Opens connections, each with the errand that its number has.
    pub(super) fn open_for<'a>(
        clock: Clock,
        endpoint: &Endpoint,
        (count, at_once): (usize, usize),
        errand: impl Fn(usize) -> Errand<'a>,
    ) -> Result<Self, LoadError> {
        Self::open_at(clock, endpoint, (count, at_once), |_| endpoint.address, errand)
    }

    fn open_at<'a>(
        clock: Clock,
        endpoint: &Endpoint,
        (count, at_once): (usize, usize),
        address: impl Fn(usize) -> SocketAddr,
        errand: impl Fn(usize) -> Errand<'a>,
    ) -> Result<Self, LoadError> {
        let mut swarm = Self {
            clock,
            protocol: endpoint.protocol,
            poll: Poll::new()?,
            events: Events::with_capacity(1024),
            clients: Vec::with_capacity(count),
            reader: Reader::new(clock),
            opening: Histogram::new(),
        };
        let mut arrivals: Vec<(u64, Stage)> = Vec::with_capacity(count);
        let mut asked = Vec::new();
        let (mut ready, mut progress_ns) = (0, clock.now_ns());
        while ready < count {
            while swarm.clients.len() < count.min(ready + at_once) {
                arrivals.push((clock.now_ns(), Stage::first(endpoint.protocol)));
                swarm.connect(endpoint, address(swarm.clients.len()))?;
            }
            swarm.wait(Some(PATIENCE))?;
            let ready_before = ready;
            let Self { protocol, events, clients, reader, opening, .. } = &mut swarm;
            for event in events.iter() {
                let Token(index) = event.token();
                let (client, (since_ns, stage)) = (&mut clients[index], &mut arrivals[index]);
                client.read(reader, |now_ns, text| {
                    if stage.advance(*protocol, text, errand(index), &mut asked)? {
                        opening.record(now_ns - *since_ns);
                        ready += 1;
                    }
                    Ok(())
                })?;
                client.output.append(&mut asked);
                client.send()?;
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

    /// Waits a moment, and hands over every text that came: of which connection, when, and where to put what it answers.
    pub(super) fn turn(
        &mut self,
        on_text: impl FnMut(usize, u64, &[u8], &mut Vec<u8>) -> Result<(), LoadError>,
    ) -> Result<(), LoadError> {
        self.turn_within(IDLE_WAIT, on_text)
    }

    /// The same with another moment.
    pub(super) fn turn_within(
        &mut self,
        moment: Duration,
        mut on_text: impl FnMut(usize, u64, &[u8], &mut Vec<u8>) -> Result<(), LoadError>,
    ) -> Result<(), LoadError> {
        self.wait(Some(moment))?;
        let Self { events, clients, reader, .. } = self;
        let mut answers = Vec::new();
        for event in events.iter() {
            let Token(index) = event.token();
            let client = &mut clients[index];
            if client.is_killed {
                continue;
            }
            client.read(reader, |now_ns, text| on_text(index, now_ns, text, &mut answers))?;
            client.output.append(&mut answers);
            client.send()?;
        }
        Ok(())
    }

    /// Has all connections leave, and returns when the server has closed its side of each.
    pub(super) fn close(mut self) -> Result<(), LoadError> {
        for client in &mut self.clients {
            self.protocol.push_goodbye(&mut client.output);
            client.send()?;
            client.stream.socket().shutdown(Shutdown::Write)?;
        }
        let mut is_open = vec![true; self.clients.len()];
        let (mut open, mut scratch) = (is_open.len(), vec![0; DISCARDED_AT_ONCE_BYTES]);
        let mut progress_ns = self.clock.now_ns();
        while open > 0 {
            self.wait(Some(PATIENCE))?;
            for event in self.events.iter() {
                let Token(index) = event.token();
                if is_open[index] && self.clients[index].has_ended(&mut scratch) {
                    is_open[index] = false;
                    open -= 1;
                    progress_ns = self.clock.now_ns();
                }
            }
            if self.clock.now_ns() - progress_ns > PATIENCE.as_nanos() as u64 {
                return Err(LoadError::Lingering { open });
            }
        }
        Ok(())
    }

    fn connect(&mut self, endpoint: &Endpoint, address: SocketAddr) -> Result<(), LoadError> {
        let mut socket = TcpStream::connect(address)?;
        socket.set_nodelay(true)?;
        // A client that speaks first learns by being writable that the connection stands. Later that means nothing, as
        // what is sent fits into any socket, and costs nothing: it is announced together with what can be read.
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.poll.registry().register(&mut socket, Token(self.clients.len()), interest)?;
        self.clients.push(Client {
            stream: Stream::new(socket, endpoint.trust.as_ref())?,
            inbound: Inbound::new(endpoint.protocol),
            output: endpoint.protocol.greeting(),
            is_killed: false,
        });
        Ok(())
    }
}

impl Client {
    /// Reads all there is, and answers heartbeats.
    pub(super) fn read(
        &mut self,
        reader: &mut Reader,
        on_text: impl FnMut(u64, &[u8]) -> Result<(), LoadError>,
    ) -> Result<(), LoadError> {
        reader.read(&mut self.stream, &mut self.inbound, on_text)?;
        if !reader.replies.is_empty() {
            self.output.append(&mut reader.replies);
            self.send()?;
        }
        Ok(())
    }

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

    /// Ends without a word.
    pub(super) fn kill(&mut self) -> Result<(), LoadError> {
        self.is_killed = true;
        Ok(self.stream.socket().shutdown(Shutdown::Both)?)
    }

    /// Drops what the server still sends; whether the connection has ended, in whichever way.
    fn has_ended(&mut self, scratch: &mut [u8]) -> bool {
        let blocked = |error: &io::Error| matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted);
        loop {
            match self.stream.read(scratch) {
                Ok(0) => return true,
                Ok(_) => {}
                Err(error) => return !blocked(&error),
            }
        }
    }
}

/// Often enough for the ends of warm-up and window.
const IDLE_WAIT: Duration = Duration::from_millis(20);

const DISCARDED_AT_ONCE_BYTES: usize = 16 * 1024;
