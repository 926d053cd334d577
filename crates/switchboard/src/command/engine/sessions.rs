//! Connections that begin and end to take commands, and what follows for the commands.

use std::ops::Bound;

use crate::proto::id::ConnId;
use crate::proto::time::Now;
use crate::proto::user::User;
use crate::visits::visit;

use super::super::client::{Client, ClientView, Home, Record, Session};
use super::super::client_data::{ClientData, HEARTBEAT};
use super::super::order::{Clock, Out, Settling};
use super::super::outcome::Outcome;
use super::super::rows::Stage;
use super::Engine;

/// How a session ends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    /// Its connection ended, or is somebody else's now.
    Left,
    /// The same on another node: whether it got what is on its way is not known.
    LeftElsewhere,
    /// It is still there, and may answer what was delivered to it.
    Stopped,
}

impl End {
    /// The end of a connection.
    fn of(record: &Record) -> Self {
        if record.is_elsewhere() { Self::LeftElsewhere } else { Self::Left }
    }
}

/// Sessions: connections that take commands.
impl<W> Engine<W> {
    /// A connection takes commands from now on, or said so once more. With `settling` it is not sent any before
    /// [`Engine::ready`] says that it has had its time, which is shorter once its client data is known: [`Out::settling`] asks
    /// for that.
    pub fn take_commands(&mut self, client: Client, settling: bool, now: Now, out: &mut Out<W>) {
        let connection = client.connection;
        self.meet(client, now, out);
        let generation = self.next_number();
        let Some(record) = self.clients.get_mut(&connection) else { return };
        if record.session.is_some() {
            if !settling {
                self.become_ready(connection, now, out);
            }
            return;
        }
        let is_settling = settling && record.data.is_none();
        record.session = Some(Session { generation, since_unix_ms: now.unix_ms, is_settling });
        self.sessions += 1;
        self.list(connection);
        self.note_heartbeats(connection);
        self.touch(connection);
        self.tell(connection, out);
        if is_settling {
            out.settling.push(Settling { connection, generation, has_data: false });
        }
        self.ask_again(connection);
        self.offer(connection, now, out);
    }

    /// A connection takes no more commands: its subscription ended, it opted out, it logged out. Its client data is
    /// forgotten; a pause is not. It may still answer what was delivered to it.
    pub fn stop_taking(&mut self, connection: ConnId, now: Now, out: &mut Out<W>) {
        let Some(record) = self.clients.get_mut(&connection) else { return };
        record.data = None;
        self.note_heartbeats(connection);
        self.tell(connection, out);
        self.unlist(connection);
        if let Some(record) = self.clients.get_mut(&connection)
            && record.session.take().is_some()
        {
            self.sessions -= usize::from(!record.is_elsewhere());
            let (user, addressed) = (record.client.user.clone(), record.addressed.iter().copied().collect());
            self.part_from(connection, addressed, End::Stopped, now, out);
            self.despair(connection, user.as_ref(), now, out);
        }
    }

    /// What a client says about itself, before or after it takes commands.
    pub fn set_client_data(&mut self, client: Client, data: ClientData, now: Now, out: &mut Out<W>) {
        let connection = client.connection;
        self.meet(client, now, out);
        let generation = self.next_number();
        let Some(record) = self.clients.get_mut(&connection) else { return };
        let is_first = record.data.replace(data).is_none();
        if is_first && let Some(session) = record.session.as_mut().filter(|session| session.is_settling) {
            session.generation = generation;
            out.settling.push(Settling { connection, generation, has_data: true });
        }
        self.note_heartbeats(connection);
        self.tell(connection, out);
        // It may have announced what a command waits for.
        self.offer(connection, now, out);
    }

    /// A session has had its time to listen. Nothing happens if it is not the session of this generation any more.
    pub fn ready(&mut self, connection: ConnId, generation: u64, now: Now, out: &mut Out<W>) {
        let session = self.clients.get(&connection).and_then(|record| record.session.as_ref());
        if session.is_some_and(|session| session.generation == generation) {
            self.become_ready(connection, now, out);
        }
    }

    /// Whose a connection is from now on. It goes on taking commands, as the new user's session; for the user before it is as
    /// if it had been closed. A pause ends with the user, not with the arrival of one.
    pub fn set_user(&mut self, connection: ConnId, user: Option<User>, now: Now, out: &mut Out<W>) {
        let Some(record) = self.clients.get_mut(&connection) else { return };
        if record.user_id() == user.as_ref().map(User::id) {
            record.client.user = user;
            self.tell(connection, out);
            return;
        }
        self.unlist(connection);
        let Some(record) = self.clients.get_mut(&connection) else { return };
        let before = std::mem::replace(&mut record.client.user, user);
        if before.is_some() {
            record.health = Default::default();
            if record.paused.take().is_some()
                && let Home::Here(address) = record.client.home
            {
                out.paused.push((address, false));
            }
        }
        let addressed = record.addressed.iter().copied().collect();
        let end = End::of(record);
        self.list(connection);
        self.tell(connection, out);
        if before.is_some() {
            self.part_from(connection, addressed, end, now, out);
        }
        self.despair(connection, before.as_ref(), now, out);
        self.offer(connection, now, out);
    }

    /// A connection ended. To be called for every connection; cheap for those that never took commands.
    pub fn close(&mut self, connection: ConnId, now: Now, out: &mut Out<W>) {
        self.tell(connection, out);
        self.unlist(connection);
        self.heartbeats.remove(&connection);
        let mut user = None;
        if let Some(record) = self.clients.remove(&connection) {
            self.own.remove(&record.rank);
            self.sessions -= usize::from(record.session.is_some() && !record.is_elsewhere());
            let end = End::of(&record);
            self.part_from(connection, record.addressed.into_iter().collect(), end, now, out);
            user = record.client.user;
        }
        for number in self.held(connection, user.as_ref()) {
            let Some(command) = self.pending.get(&number) else { continue };
            // No session was asked yet, and no other connection can be.
            if command.rows.is_empty() && command.order.aim.awaited() == Some(Clock::Connection(connection)) {
                self.settle(number, Outcome::NoRecipient, None, now, out);
            } else {
                self.hold(number, now, out);
            }
        }
    }

    /// A connection did something: mode `one` prefers the most recently active session. Deliveries and replies count anyway.
    pub fn touch(&mut self, connection: ConnId) {
        let rank = self.next_number();
        let Some(record) = self.clients.get_mut(&connection) else { return };
        let before = std::mem::replace(&mut record.rank, rank);
        if self.own.remove(&before).is_some() {
            self.own.insert(rank, connection);
        }
        if let (Some(user), Some(_)) = (&record.client.user, &record.session) {
            self.parties.change(Clock::User(user.shared_id()), |party| {
                party.sessions.insert(rank, connection);
                party.sessions.remove(&before);
            });
        }
    }

    /// What became of a heartbeat: its round trip in milliseconds, or `None` if it was not answered in time.
    pub fn note_heartbeat(&mut self, connection: ConnId, ping_ms: Option<u64>, now: Now, out: &mut Out<W>) {
        if let Some(record) = self.clients.get_mut(&connection) {
            record.health.is_unresponsive = ping_ms.is_none();
            if ping_ms.is_some() {
                record.health.ping_ms = ping_ms;
                record.health.heard_unix_ms = Some(now.unix_ms);
            }
            self.tell(connection, out);
        }
    }

    /// How many sessions of this node listen and named heartbeats among what they answer.
    pub fn heartbeats(&self) -> usize {
        self.heartbeats.len()
    }

    /// The next of these after a connection, by id.
    pub fn next_heartbeat(&self, after: Option<ConnId>) -> Option<ConnId> {
        let later = (after.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded);
        self.heartbeats.range(later).inspect(|_| visit()).next().copied()
    }

    /// Notes whether a connection is to be asked for heartbeats. To be called when its session or its data has changed.
    fn note_heartbeats(&mut self, connection: ConnId) {
        let is_asked = self.clients.get(&connection).is_some_and(|record| {
            let names = |data: &ClientData| data.capabilities().name(HEARTBEAT);
            record.is_ready() && !record.is_elsewhere() && record.data.as_ref().is_some_and(names)
        });
        if is_asked {
            self.heartbeats.insert(connection);
        } else {
            self.heartbeats.remove(&connection);
        }
    }

    /// Whether anything is known of a connection.
    pub fn knows(&self, connection: ConnId) -> bool {
        self.clients.contains_key(&connection)
    }

    /// Whether a connection takes commands.
    pub fn takes_commands(&self, connection: ConnId) -> bool {
        self.clients.get(&connection).is_some_and(|record| record.session.is_some())
    }

    /// What is known of a connection, if it takes commands or said something about itself.
    pub fn client(&self, connection: ConnId) -> Option<ClientView> {
        self.clients.get(&connection).map(Record::view)
    }

    /// Whose a connection is, if it takes commands or said something about itself.
    pub fn user_of(&self, connection: ConnId) -> Option<Option<&User>> {
        self.clients.get(&connection).map(|record| record.client.user.as_ref())
    }

    /// Makes sure that there is a record of a connection, with this user.
    pub(super) fn meet(&mut self, client: Client, now: Now, out: &mut Out<W>) {
        let connection = client.connection;
        if self.clients.contains_key(&connection) {
            self.set_user(connection, client.user, now, out);
        } else {
            let rank = self.next_number();
            if self.is_shared && !client.home.is_elsewhere() {
                self.own.insert(rank, connection);
            }
            self.clients.insert(connection, Record::new(client, rank));
        }
    }

    /// Adds a session to those of its user.
    pub(super) fn list(&mut self, connection: ConnId) {
        let Some(record) = self.clients.get(&connection) else { return };
        if let (Some(user), Some(session)) = (&record.client.user, &record.session) {
            self.parties.change(Clock::User(user.shared_id()), |party| {
                party.sessions.insert(record.rank, connection);
                party.settling += usize::from(session.is_settling);
            });
        }
    }

    /// Takes a session off those of its user.
    fn unlist(&mut self, connection: ConnId) {
        let Some(record) = self.clients.get(&connection) else { return };
        if let (Some(user), Some(session)) = (&record.client.user, &record.session) {
            self.parties.change(Clock::User(user.shared_id()), |party| {
                party.sessions.remove(&record.rank);
                party.settling -= usize::from(session.is_settling);
            });
        }
    }

    /// A session that was settling listens now.
    pub(super) fn become_ready(&mut self, connection: ConnId, now: Now, out: &mut Out<W>) {
        let Some(record) = self.clients.get_mut(&connection) else { return };
        let Some(session) = record.session.as_mut().filter(|session| session.is_settling) else { return };
        session.is_settling = false;
        if let Some(user) = &record.client.user {
            self.parties.change(Clock::User(user.shared_id()), |party| party.settling -= 1);
        }
        self.note_heartbeats(connection);
        self.tell(connection, out);
        self.let_leave(connection);
        self.offer(connection, now, out);
    }

    /// Gives a session what waits for somebody like it, in the order of acceptance.
    pub(super) fn offer(&mut self, connection: ConnId, now: Now, out: &mut Out<W>) {
        let Some(record) = self.clients.get(&connection).filter(|record| record.session.is_some()) else { return };
        for number in self.held(connection, record.client.user.clone().as_ref()) {
            if self.is_eligible(number, connection) {
                self.recruit(number, now, out);
            } else {
                self.hold(number, now, out);
            }
        }
    }

    /// Addresses a session that begins to commands that did not reach its connection's session before it.
    pub(super) fn ask_again(&mut self, connection: ConnId) {
        let Some(record) = self.clients.get(&connection) else { return };
        let (is_ready, user) = (record.is_ready(), record.client.user.clone());
        for number in record.addressed.clone() {
            let Some(command) = self.pending.get_mut(&number) else { continue };
            if let Some(at) = command.missed_by(connection, user.as_ref()) {
                command.advance(at, Stage::Waiting, false);
                self.release(number);
            }
        }
        if is_ready {
            self.let_leave(connection);
        }
    }

    /// Ends what waits for a session that is gone, and for nobody else.
    fn despair(&mut self, connection: ConnId, user: Option<&User>, now: Now, out: &mut Out<W>) {
        for number in self.held(connection, user) {
            self.hold(number, now, out);
        }
    }

    /// Commands that wait for this connection or this user, in the order of acceptance.
    fn held(&self, connection: ConnId, user: Option<&User>) -> Vec<u64> {
        let who = [Some(Clock::Connection(connection)), user.map(|user| Clock::User(user.shared_id()))];
        let parties = who.iter().flatten().filter_map(|who| self.parties.get(who));
        let mut held: Vec<u64> = parties.flat_map(|party| party.held.iter().copied()).collect();
        held.sort_unstable();
        held
    }

    /// What the end of a session means for the commands that were addressed to it.
    fn part_from(&mut self, connection: ConnId, addressed: Vec<u64>, end: End, now: Now, out: &mut Out<W>) {
        for number in addressed {
            let Some(command) = self.pending.get(&number) else { continue };
            let Some(at) = command.rows.find(connection) else { continue };
            let stage = match (command.rows.get(at).stage, end) {
                // Its session ended before; now its connection cannot begin another one either.
                (Stage::Waiting | Stage::Queued | Stage::Gone, _) | (Stage::Sent, End::Left) => Stage::Gone,
                // What may have been handed over is not handed to anybody else.
                (Stage::Delivered, End::Left) | (Stage::Sent | Stage::Delivered, End::LeftElsewhere) => Stage::Left,
                // It left when it lost its user. Now it ends, and may have been the last that could answer.
                (Stage::Left, End::Left | End::LeftElsewhere) => {
                    self.review(number, now, out);
                    continue;
                }
                _ => continue,
            };
            self.advance(number, at, stage);
            self.review(number, now, out);
        }
    }
}
