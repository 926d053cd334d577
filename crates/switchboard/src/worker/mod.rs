//! The data plane: one event loop per core that owns its connections and its part of every room.
//!
//! A turn: wait for readiness or mail; read what is ready, feed it to the peers and apply their effects; take mail; run
//! due deadlines; hand what rooms were told to their members; write to each connection once. Nothing in a turn blocks,
//! and nothing that a client does in one turn costs another client more than its share: one buffer is read per
//! connection and turn, and mail is taken up to a number of bytes.
//!
//! What waits (an action, the backend) is polled once in place and otherwise spawned; its outcome comes back by mail.

mod accept;
pub(crate) mod calls;
mod conversation;
mod deadlines;
mod listening;
mod loads;
mod membership;
mod rate;
mod transport;

use std::collections::VecDeque;
use std::io::{self, Read};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::{Duration, Instant};

use mio::event::Event;
use mio::{Events, Poll, Token};
use switchboard_proto::close::CloseReason;
use switchboard_proto::effect::Effects;
use switchboard_proto::event::Event as Fact;
use switchboard_proto::face::{ConnFacts, Cx, FaceSettings};
use switchboard_proto::id::RoomName;
use switchboard_proto::peer::Peer;
use switchboard_proto::time::{Now, Stamps};
use switchboard_proto::wire::Hears;

use crate::hub::mail::{Address, Ask, Asker, ConnKey, Mail, Settled};
use crate::hub::mailbox::{Inbox, Mailbox};
use crate::hub::outbox::Progress;
use crate::hub::{Hub, HubLimits};

pub(crate) use accept::Listener;
use calls::{Caller, Calls};
use deadlines::{Deadlines, Due};
use listening::{Listeners, PendingListens};
pub(crate) use loads::Loads;
use membership::PendingJoins;
pub(crate) use rate::AcceptRate;
use transport::Transport;

/// Readiness of the inbox.
pub(crate) const WAKE: Token = Token(usize::MAX);
/// Readiness of listeners counts down from here.
const LISTENERS: usize = usize::MAX - 1;

/// What a worker is told about its limits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WorkerSettings {
    pub(crate) hub: HubLimits,
    /// `limits.read_pause_bytes`.
    pub(crate) read_pause_bytes: usize,
    /// `limits.read_buffer_bytes`.
    pub(crate) read_buffer_bytes: usize,
    /// `limits.batch_bytes`.
    pub(crate) batch_bytes: usize,
    /// `limits.max_rooms_per_connection`.
    pub(crate) max_rooms_per_connection: usize,
    /// `limits.max_connections`.
    pub(crate) max_connections: usize,
    /// `servers.socket.close_linger`.
    pub(crate) close_linger_ms: u64,
}

/// What a worker is made of.
pub(crate) struct Parts {
    pub(crate) index: u16,
    pub(crate) poll: Poll,
    pub(crate) inbox: Inbox,
    /// Every worker's, this one's included.
    pub(crate) mailboxes: Vec<Mailbox>,
    /// How many connections each worker has.
    pub(crate) loads: Arc<Loads>,
    pub(crate) calls: Arc<dyn Calls>,
    pub(crate) faces: Arc<FaceSettings>,
    pub(crate) settings: WorkerSettings,
    pub(crate) listeners: Vec<Listener>,
    pub(crate) accept_rate: Arc<AcceptRate>,
    pub(crate) started: Instant,
}

/// One event loop.
pub(crate) struct Worker {
    index: u16,
    poll: Poll,
    inbox: Inbox,
    mailboxes: Vec<Mailbox>,
    loads: Arc<Loads>,
    calls: Arc<dyn Calls>,
    faces: Arc<FaceSettings>,
    settings: WorkerSettings,
    listeners: Vec<Listener>,
    accept_rate: Arc<AcceptRate>,
    started: Instant,
    now: Now,
    hub: Hub<Link>,
    mail: VecDeque<Mail>,
    /// Connections that may go on: their input was set aside, or more may be read.
    resumed: Vec<ConnKey>,
    deadlines: Deadlines,
    joins: PendingJoins,
    listens: PendingListens,
    /// Which rooms connections want to hear without being members.
    wanting: Listeners,
    /// Read into by every connection in turn, so that none has a buffer of its own.
    scratch: Vec<u8>,
    /// Lent to framers that have to rewrite what was read.
    unmasked: Vec<u8>,
    fx: Effects,
    /// Drawn once a turn and counted on with every step: ids of requests must differ, not surprise.
    random: u128,
    /// Times of messages in formats that are stamped.
    stamps: Rc<Stamps>,
    /// The server stops as planned: whoever is still handed over is told at once.
    is_draining: bool,
    is_stopped: bool,
}

/// What a worker keeps for a connection besides its outbox and rooms. What writing touches stands in front.
#[derive(Debug)]
#[repr(C)]
struct Link {
    transport: Transport,
    /// Input that was read and could not be handled yet.
    #[allow(clippy::box_collection, reason = "8 bytes in every idle connection instead of 24")]
    stash: Option<Box<Vec<u8>>>,
    closing: Option<Box<Closing>>,
    /// The socket may have more than was read.
    readable: bool,
    /// Epoll has told that the client closed its side; bytes may be in front of the end.
    end_told: bool,
    /// The client has closed its side, and everything before was read.
    at_end: bool,
    /// A content is in the outbox: requests behind it wait.
    streaming: bool,
    /// It has not been let in yet, and perhaps never will be.
    outside: bool,
    /// It hears nothing of its rooms for now.
    muted: bool,
    /// Its face has more to say once there is room.
    has_more: bool,
    peer: Peer,
    facts: ConnFacts,
}

/// A connection that ends once everything is written.
#[derive(Debug)]
struct Closing {
    reason: CloseReason,
    /// Bytes that waited when it was last looked at.
    left: u64,
    /// Our side is closed; the client's last bytes are read and dropped.
    finished: bool,
}

impl Worker {
    /// How many times the inbox is looked into in one turn; sockets wait meanwhile.
    const MAIL_ROUNDS: usize = 8;
    /// Of 2^128: multiples of it differ in all their bits.
    const GOLDEN_RATIO: u128 = 0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835;

    pub(crate) fn new(parts: Parts) -> Self {
        let Parts { index, poll, inbox, mailboxes, loads, calls, faces, settings, listeners, accept_rate, started } =
            parts;
        let stamps = Rc::new(Stamps::default());
        Self {
            index,
            poll,
            inbox,
            mailboxes,
            loads,
            calls,
            faces,
            settings,
            listeners,
            accept_rate,
            started,
            now: Now::default(),
            hub: Hub::new(index, settings.hub, Rc::clone(&stamps)),
            mail: VecDeque::new(),
            resumed: Vec::new(),
            deadlines: Deadlines::default(),
            joins: PendingJoins::default(),
            listens: PendingListens::default(),
            wanting: Listeners::default(),
            scratch: vec![0; settings.read_buffer_bytes],
            unmasked: Vec::new(),
            fx: Effects::default(),
            random: 0,
            stamps,
            is_draining: false,
            is_stopped: false,
        }
    }

    /// Runs until it is told to stop.
    ///
    /// # Errors
    ///
    /// When readiness cannot be waited for any more.
    pub(crate) fn run(mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(1024);
        for (index, listener) in self.listeners.iter_mut().enumerate() {
            listener.register(self.poll.registry(), Token(LISTENERS - index))?;
        }
        while !self.is_stopped {
            self.turn(&mut events)?;
        }
        Ok(())
    }

    fn turn(&mut self, events: &mut Events) -> io::Result<()> {
        let timeout = self.patience();
        if let Err(error) = self.poll.poll(events, timeout)
            && error.kind() != io::ErrorKind::Interrupted
        {
            return Err(error);
        }
        self.read_clocks();
        for event in events.iter() {
            match event.token() {
                WAKE => {}
                Token(token) if LISTENERS - token < self.listeners.len() => self.listeners[LISTENERS - token].ready(),
                Token(slot) => self.on_ready(slot as u32, event),
            }
        }
        self.accept();
        for key in std::mem::take(&mut self.resumed) {
            self.resume(key);
        }
        self.take_mail();
        self.run_deadlines();
        self.hub.fan_out();
        // Once a turn, not once a delivery: all workers count in one place.
        match self.hub.take_delivered() {
            0 => {}
            count => self.calls.delivered(count),
        }
        for key in self.hub.take_overflowed() {
            self.cut_off(key, CloseReason::SlowConsumer);
        }
        self.flush();
        Ok(())
    }

    /// How long nothing need be done.
    fn patience(&self) -> Option<Duration> {
        let busy = !self.resumed.is_empty() || !self.mail.is_empty() || self.listeners.iter().any(Listener::is_ready);
        if busy || !self.inbox.may_sleep() {
            return Some(Duration::ZERO);
        }
        let due_ms = self.deadlines.next_ms()?;
        // One more, because the clock's milliseconds are cut off.
        let elapsed_ms = self.started.elapsed().as_millis() as u64;
        Some(Duration::from_millis((due_ms + 1).saturating_sub(elapsed_ms)))
    }

    fn read_clocks(&mut self) {
        let elapsed = self.started.elapsed();
        self.now = Now {
            monotonic_ms: elapsed.as_millis() as u64,
            unix_ms: crate::clock::unix_ms(),
            micros: (elapsed.subsec_micros() % 1000) as u16,
        };
    }

    fn address(&self, key: ConnKey) -> Address {
        Address { worker: self.index, key }
    }

    fn caller(&self, key: ConnKey) -> Option<Caller> {
        let facts = self.hub.get(key)?.link.facts.clone();
        Some(Caller { facts, address: self.address(key), now: self.now })
    }

    /// A connection's socket became ready.
    fn on_ready(&mut self, slot: u32, event: &Event) {
        let Some(key) = self.hub.key_at(slot) else { return };
        if event.is_writable()
            && self
                .hub
                .get(key)
                .is_some_and(|connection| !connection.outbox.is_empty() || connection.link.has_pending())
        {
            self.hub.mark_dirty(slot);
        }
        if event.is_readable() || event.is_read_closed() {
            if let Some(connection) = self.hub.get_mut(key) {
                connection.link.readable = true;
                connection.link.end_told |= event.is_read_closed();
            }
            self.read(key);
        }
    }

    /// Reads one buffer's worth, unless the connection has to wait.
    fn read(&mut self, key: ConnKey) {
        let mut scratch = std::mem::take(&mut self.scratch);
        let mut left = scratch.len();
        while left > 0 && self.may_read(key) {
            let Some(connection) = self.hub.get_mut(key) else { break };
            let link = &mut connection.link;
            match link.transport.read(&mut scratch[..left]) {
                Ok(0) => {
                    link.readable = false;
                    link.at_end = true;
                    self.on_end(key);
                }
                Ok(count) => {
                    // Epoll tells of what comes later: see epoll(7) on short reads. An end that it has told of already
                    // is not told again.
                    if count < left && !link.end_told && link.transport.short_read_is_all() {
                        link.readable = false;
                    }
                    left -= count;
                    self.on_segment(key, &scratch[..count]);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => link.readable = false,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    tracing::debug!(connection = %link.facts.id, %error, "reading failed");
                    self.cut(key, CloseReason::ConnectionLost);
                }
            }
        }
        if self.may_read(key) {
            self.resumed.push(key);
        }
        if self.unmasked.capacity() > scratch.len() {
            // One long message is no reason to keep so much for the next.
            self.unmasked = Vec::new();
        }
        self.scratch = scratch;
    }

    /// Whether there is something to read and the connection may go on.
    fn may_read(&self, key: ConnKey) -> bool {
        let Some(connection) = self.hub.get(key) else { return false };
        let link = &connection.link;
        link.readable && (link.closing.is_some() || !self.is_held(key))
    }

    /// Whether a connection's input has to wait: for an outcome, for a content to be sent, or for its client to read.
    fn is_held(&self, key: ConnKey) -> bool {
        let Some(connection) = self.hub.get(key) else { return false };
        let link = &connection.link;
        link.outside
            || link.peer.is_waiting()
            || link.streaming
            || link.stash.is_some()
            || connection.outbox.bytes() > self.settings.read_pause_bytes
    }

    /// Goes on with a connection that waited.
    fn resume(&mut self, key: ConnKey) {
        let Some(connection) = self.hub.get_mut(key) else { return };
        if connection.link.has_more && connection.outbox.bytes() <= self.settings.read_pause_bytes {
            connection.link.has_more = false;
            self.step(key, |peer, cx| peer.on_drained(cx));
        }
        let Some(connection) = self.hub.get_mut(key) else { return };
        if let Some(stash) = connection.link.stash.take() {
            self.feed(key, &stash);
        }
        if self.may_read(key) {
            self.read(key);
        }
    }

    fn take_mail(&mut self) {
        for _ in 0..Self::MAIL_ROUNDS {
            while let Some(mail) = self.mail.pop_front() {
                self.on_mail(mail);
                if self.hub.gathered_bytes() >= self.settings.batch_bytes {
                    return;
                }
            }
            self.inbox.take(&mut self.mail);
            if self.mail.is_empty() {
                return;
            }
        }
    }

    fn on_mail(&mut self, mail: Mail) {
        match mail {
            Mail::Adopt(adopted) => self.adopt(*adopted),
            Mail::Ask(ask) => self.on_ask(ask),
            Mail::Deliver(delivery) => self.hub.gather(delivery),
            Mail::Listen(listeners) => self.enter_listeners(&listeners),
            Mail::ListenDone(began) => self.listens.finish(began),
            Mail::Settled(key, settled) => match *settled {
                Settled::Admission(admission) => {
                    self.admitted(key, admission);
                    self.resumed.push(key);
                }
                Settled::Content(piece) => self.on_content(key, piece),
                Settled::Join { room, asker, result } => {
                    self.finish_join(key, room, asker, result);
                    self.send_effects(key);
                    self.resumed.push(key);
                }
                Settled::Listening { asker, began, attended } => {
                    self.finish_listening(key, asker, began, attended);
                    self.send_effects(key);
                    self.resumed.push(key);
                }
                Settled::Outcome(asker, outcome) => {
                    self.settle(key, asker, outcome);
                    self.send_effects(key);
                    self.resumed.push(key);
                }
            },
        }
    }

    fn on_ask(&mut self, ask: Ask) {
        match ask {
            Ask::Command(key, command) => self.hand_over_command(key, command),
            Ask::Drain => self.drain(),
            Ask::Evict(room, reply) => reply(self.evict(&room)),
            Ask::Gap(room, missed) => self.hub.miss(&room, missed),
            Ask::Expel => self.expel(),
            Ask::Inspect(key, reply) => {
                if let Some(inspection) = self.inspect(key) {
                    reply(inspection);
                }
            }
            Ask::Join(key, room, reply) => self.join(key, room, Asker::Node(reply)),
            Ask::Leave(key, room, reply) => self.leave(key, room, Asker::Node(reply)),
            Ask::Mute(key, muted) => self.mute(key, muted),
            Ask::Occupants(rooms, reply) => reply(self.occupants(&rooms)),
            Ask::Offer(room, is_new, reply) => self.offer(&room, is_new, reply),
            Ask::Recheck(room, kind, check, reply) => reply(self.recheck(&room, kind, &check)),
            Ask::Remove(key, reply) => {
                if let Some(connection) = self.hub.get(key) {
                    // One that is ending already has been told.
                    if connection.link.closing.is_none() {
                        self.step(key, |peer, cx| peer.on_removed(cx));
                    }
                    reply(());
                }
            }
            Ask::Send(key, event, reply) => {
                if self.hub.get(key).is_some() {
                    reply(self.tell(key, &event));
                }
            }
            Ask::Shard(key, event) => self.step(key, |peer, cx| {
                // Whoever carries no session any more has nothing to do about it.
                peer.on_event(&Fact::Shard(event), cx);
            }),
            Ask::Stop => self.is_stopped = true,
        }
    }

    fn run_deadlines(&mut self) {
        while let Some(due) = self.deadlines.pop(self.now.monotonic_ms) {
            match due {
                Due::Accept => self.listeners.iter_mut().for_each(Listener::retry),
                Due::Closing(key) => self.on_linger(key),
                Due::Face(key) => self.step(key, |peer, cx| peer.on_deadline(cx)),
            }
        }
    }

    /// Writes to each connection that has something to write, once.
    fn flush(&mut self) {
        let dirty = self.hub.take_dirty();
        for &slot in &dirty {
            let Some((key, connection)) = self.hub.clean(slot) else { continue };
            let format = connection.format();
            let progress = connection.outbox.write_to(&mut connection.link.transport, format);
            // Room messages behind the content may keep the outbox from ever being empty.
            connection.link.streaming = connection.link.streaming && connection.outbox.has_content();
            match progress.and_then(|progress| connection.link.flush_pending(progress)) {
                Ok(Progress::Empty) => {
                    if connection.link.closing.is_some() {
                        self.finish_close(key);
                    } else {
                        self.resume_later(key);
                    }
                }
                Ok(Progress::Blocked) => self.resume_later(key),
                Ok(Progress::Waiting) => {}
                Ok(Progress::Wanted { content, offset }) => {
                    let reading = self.calls.read(content, offset);
                    let mailbox = self.mailboxes[usize::from(self.index)].clone();
                    self.calls.spawn(Box::pin(async move {
                        let piece = reading.await;
                        mailbox.push(Mail::Settled(key, Box::new(Settled::Content(piece)))).await;
                    }));
                }
                Err(error) => {
                    tracing::debug!(connection = %connection.link.facts.id, %error, "writing failed");
                    self.cut(key, CloseReason::ConnectionLost);
                }
            }
        }
        self.hub.give_back_dirty(dirty);
    }

    /// Notes a connection whose input waited and may go on now.
    fn resume_later(&mut self, key: ConnKey) {
        let Some(connection) = self.hub.get(key) else { return };
        let link = &connection.link;
        let has_input = link.stash.is_some() || link.readable;
        let drained = connection.outbox.bytes() <= self.settings.read_pause_bytes;
        let goes_on = has_input && !link.outside && !link.peer.is_waiting() && !link.streaming;
        if drained && (goes_on || link.has_more) {
            self.resumed.push(key);
        }
    }

    /// Runs one step of a connection's peer and applies its effects. One that is ending has said its last.
    fn step(&mut self, key: ConnKey, step: impl FnOnce(&mut Peer, &mut Cx<'_>)) {
        if self.hub.get(key).is_some_and(|connection| connection.link.closing.is_none()) {
            self.with_peer(key, step);
            self.apply(key);
            self.send_effects(key);
        }
    }

    fn with_peer<T>(&mut self, key: ConnKey, step: impl FnOnce(&mut Peer, &mut Cx<'_>) -> T) -> Option<T> {
        let link = &mut self.hub.get_mut(key)?.link;
        self.random = self.random.wrapping_add(Self::GOLDEN_RATIO);
        let mut cx = Cx {
            conn: &link.facts,
            now: self.now,
            settings: &self.faces,
            random: self.random,
            stamps: &self.stamps,
            fx: &mut self.fx,
            scratch: &mut self.unmasked,
        };
        Some(step(&mut link.peer, &mut cx))
    }

    /// Moves what a peer wrote into its connection's outbox.
    fn send_effects(&mut self, key: ConnKey) {
        if !self.fx.bytes.is_empty() {
            self.hub.send(key, &self.fx.bytes);
            self.fx.bytes.clear();
        }
    }

    fn load(&self) -> &AtomicUsize {
        self.loads.of(usize::from(self.index))
    }

    /// Connections of all workers.
    fn total_load(&self) -> usize {
        self.loads.total()
    }
}

impl Link {
    /// How its client hears a room, as a member or without being one.
    fn hears(&self, room: &RoomName, is_member: bool) -> Hears {
        if self.muted { Hears::NOTHING } else { self.peer.hears(room, is_member) }
    }

    /// Whether TLS holds bytes that the socket did not take.
    fn has_pending(&self) -> bool {
        matches!(self.transport, Transport::Tls(_))
    }

    /// An outbox is empty only when TLS holds nothing back either.
    fn flush_pending(&mut self, progress: Progress) -> io::Result<Progress> {
        match (progress, self.transport.flush_pending()) {
            (progress, Ok(())) => Ok(progress),
            (Progress::Empty, Err(error)) if error.kind() == io::ErrorKind::WouldBlock => Ok(Progress::Blocked),
            (progress, Err(error)) if error.kind() == io::ErrorKind::WouldBlock => Ok(progress),
            (_, Err(error)) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests;
