//! From an order to sessions: who is addressed, when it leaves, what follows from what became of it.

use crate::hub::mail::CommandFate;
use crate::proto::command::{CommandDelivery, CommandId, Recipient};
use crate::proto::id::ConnId;
use crate::proto::time::Now;
use crate::proto::user::User;

use super::super::client::{Home, Record};
use super::super::order::{Aim, Clock, Dispatch, Out, Outgoing};
use super::super::outcome::{Mode, Outcome};
use super::super::pending::Pending;
use super::super::rows::Stage;
use super::Engine;

/// What of a command leaves at one time: for one user, or one connection without a user.
#[derive(Debug)]
pub(super) struct Part {
    clock: Clock,
    /// Places of rows.
    rows: Vec<usize>,
}

impl<W> Engine<W> {
    /// What leaves next, in the order of acceptance. Its clock is asked for the time at which it leaves, which is given to
    /// [`Engine::send_next`]. Until then the answer remains the same one, or is passed over once nobody needs it any more.
    pub fn next_outgoing(&mut self) -> Option<Outgoing> {
        loop {
            let (key, part) = self.asked.take().or_else(|| self.outgoing.pop_first())?;
            let Some(command) = self.pending.get(&key.0) else { continue };
            let to: Vec<Home> = queued(command, &part)
                .filter_map(|at| self.clients.get(&command.rows.get(at).connection))
                .map(|record| record.client.home)
                .collect();
            if !to.is_empty() {
                let next = Outgoing { id: command.id(), clock: part.clock.clone(), to };
                self.asked = Some((key, part));
                return Some(next);
            }
        }
    }

    /// Takes what [`Engine::next_outgoing`] announced. Empty if it was settled meanwhile, or if all sessions have left. What
    /// became of every dispatch is told to [`Engine::delivered`].
    pub fn send_next(&mut self, ts: u64, now: Now) -> Vec<Dispatch> {
        let Some((key, part)) = self.asked.take() else { return Vec::new() };
        let Some(command) = self.pending.get_mut(&key.0) else { return Vec::new() };
        // What nobody waits for any more does not leave; the next tick settles it.
        let ttl_ms = command.order.deadline_ms.saturating_sub(now.monotonic_ms);
        if ttl_ms == 0 {
            return Vec::new();
        }
        let places: Vec<usize> = queued(command, &part).collect();
        let mut dispatches = Vec::with_capacity(places.len());
        for at in places {
            let row = command.rows.get(at);
            let connection = row.connection;
            let Some(record) = self.clients.get_mut(&connection) else { continue };
            let to = row.user.clone().map_or(Recipient::Guest(connection), Recipient::User);
            let document = command.order.document.clone();
            let delivery = CommandDelivery { document, to, ts: record.later(ts), ttl_ms };
            dispatches.push(Dispatch { home: record.client.home, connection, delivery });
            command.rows.set_sent(at, now.monotonic_ms);
        }
        dispatches
    }

    /// What became of a dispatch. Told late, or for a command that was settled meanwhile, it does no harm.
    pub fn delivered(&mut self, id: CommandId, connection: ConnId, fate: CommandFate, now: Now, out: &mut Out<W>) {
        let Some(&number) = self.numbers.get(&id) else { return };
        let Some(command) = self.pending.get_mut(&number) else { return };
        let Some(at) = command.rows.find(connection) else { return };
        if fate == CommandFate::Gone {
            command.rows.set_unsent(at);
        }
        let row = command.rows.get(at);
        // Its subscription had ended when the command arrived, and another one has begun since.
        let settles_again = self
            .clients
            .get(&connection)
            .is_some_and(|record| record.is_settling() && record.user_id() == row.user.as_ref().map(User::id));
        let stage = match (row.stage, fate) {
            (Stage::Sent, CommandFate::Gone) if settles_again => Stage::Waiting,
            (Stage::Sent, CommandFate::Delivered) => Stage::Delivered,
            (Stage::Sent, CommandFate::Gone) => Stage::Gone,
            (Stage::Sent, CommandFate::Overflow) => Stage::Overflow,
            // It was told to have closed before it was told to have got the command.
            (Stage::Gone, CommandFate::Delivered) => Stage::Left,
            // It left another node, and whether it had got the command was not known.
            (Stage::Left, CommandFate::Gone | CommandFate::Overflow) => Stage::Gone,
            _ => return,
        };
        self.advance(number, at, stage);
        if stage == Stage::Delivered {
            self.touch(connection);
        }
        self.review(number, now, out);
    }

    /// Draws the consequences of what happened to a command's sessions.
    pub(super) fn review(&mut self, number: u64, now: Now, out: &mut Out<W>) {
        let Some(command) = self.pending.get(&number) else { return };
        let rows = &command.rows;
        if command.collects() && !rows.is_empty() {
            if rows.open() == 0 {
                let outcome = command.outcome_of_rows();
                self.settle(number, outcome, None, now, out);
            } else if self.is_draining && rows.open_present() == 0 {
                self.settle(number, Outcome::Shutdown, None, now, out);
            }
        } else if rows.under_way() + rows.present() > 0 {
            // Somebody may still answer.
        } else if rows.delivered() == 0 {
            self.recruit(number, now, out);
        } else if command.order.fail_fast || self.is_beyond_reach(command) {
            self.settle(number, Outcome::Disconnected, None, now, out);
        } else if self.is_draining {
            self.settle(number, Outcome::Shutdown, None, now, out);
        } else {
            // It may have been held before it was known to have been delivered.
            self.release(number);
        }
    }

    /// Addresses a command that has reached nobody to whoever is there and was not tried yet.
    pub(super) fn recruit(&mut self, number: u64, now: Now, out: &mut Out<W>) {
        let Some(command) = self.pending.get_mut(&number) else { return };
        let (mode, clients) = (command.order.mode, &self.clients);
        let has_session = |id: &ConnId| clients.get(id).is_some_and(|record| record.session.is_some());
        let found: Vec<ConnId> = match &command.order.aim {
            // A list is of the moment of sending: only the next one can be tried.
            Aim::Everybody | Aim::Sessions(_) => {
                let before = command.candidates.len();
                let found = std::iter::from_fn(|| command.candidates.pop()).find(has_session);
                self.rows -= before - command.candidates.len();
                found.into_iter().collect()
            }
            Aim::Connection { id, .. } => Some(*id).filter(|id| self.is_eligible(number, *id)).into_iter().collect(),
            Aim::User(user) => {
                let sessions = self.parties.get(&Clock::User(user.shared_id())).map(|party| &party.sessions);
                let latest_first = sessions.into_iter().flat_map(|sessions| sessions.values().rev().copied());
                let eligible = latest_first.filter(|id| self.is_eligible(number, *id));
                eligible.take(if mode == Mode::One { 1 } else { usize::MAX }).collect()
            }
        };
        // With a session that listens, those that settle are asked too, each when it has settled. Without one the
        // command is held, so that it goes to the first that listens.
        let listens = |id: &ConnId| self.clients.get(id).is_some_and(Record::is_ready);
        if found.is_empty() || (mode == Mode::First && !found.iter().any(listens)) {
            self.hold(number, now, out);
        } else {
            self.address(number, found);
        }
    }

    /// Whether a command that waits for somebody may be addressed to this session.
    pub(super) fn is_eligible(&self, number: u64, connection: ConnId) -> bool {
        let (Some(command), Some(record)) = (self.pending.get(&number), self.clients.get(&connection)) else {
            return false;
        };
        let order = &command.order;
        // Those that settle get their row too, but in mode `one` the command would wait for one although another may listen.
        let takes_it = if order.mode == Mode::One { record.is_ready() } else { record.session.is_some() };
        record.is_awaited_by(&order.aim)
            && takes_it
            && (!order.require_capability || record.announces(&order.document.key))
            && command.rows.find(connection).is_none()
    }

    /// Addresses a command to sessions.
    pub(super) fn address(&mut self, number: u64, sessions: Vec<ConnId>) {
        self.release(number);
        let Some(command) = self.pending.get_mut(&number) else { return };
        let mut ready = Vec::with_capacity(sessions.len());
        for id in sessions {
            let Some(record) = self.clients.get_mut(&id) else { continue };
            let is_ready = record.is_ready();
            let stage = if is_ready { Stage::Queued } else { Stage::Waiting };
            let at = command.rows.push(id, record.client.user.clone(), stage);
            record.addressed.insert(number);
            self.rows += 1;
            if is_ready {
                ready.push(at);
            }
        }
        self.enqueue(number, &ready);
    }

    /// Lets rows leave as soon as their time is known.
    fn enqueue(&mut self, number: u64, places: &[usize]) {
        let Some(command) = self.pending.get_mut(&number) else { return };
        for (clock, rows) in command.by_clock(places) {
            self.outgoing.insert((number, command.parts), Part { clock, rows });
            command.parts += 1;
        }
    }

    /// A session listens now: what waited for that leaves.
    pub(super) fn let_leave(&mut self, connection: ConnId) {
        let addressed: Vec<u64> =
            self.clients.get(&connection).into_iter().flat_map(|record| record.addressed.iter().copied()).collect();
        for number in addressed {
            let Some(command) = self.pending.get_mut(&number) else { continue };
            if let Some(at) = command.rows.find(connection)
                && command.rows.get(at).stage == Stage::Waiting
            {
                command.advance(at, Stage::Queued, false);
                self.enqueue(number, &[at]);
            }
        }
    }

    /// Keeps a command that can be sent to nobody now, or ends it if nobody is to be waited for.
    pub(super) fn hold(&mut self, number: u64, now: Now, out: &mut Out<W>) {
        let Some(command) = self.pending.get(&number) else { return };
        let awaited = command.order.aim.awaited();
        let is_empty_list = awaited.is_none() && command.rows.is_empty();
        let ends_at_once = command.order.fail_fast && !self.has_hope(command);
        if is_empty_list || ends_at_once || self.is_beyond_reach(command) {
            let outcome = command.outcome_at_once();
            self.settle(number, outcome, None, now, out);
        } else if self.is_draining && !self.has_hope(command) {
            self.settle(number, Outcome::Shutdown, None, now, out);
        } else if let Some(who) = awaited
            && let Some(command) = self.pending.get_mut(&number)
        {
            command.is_held = true;
            self.parties.change(who, |party| {
                party.held.insert(number);
            });
        }
    }

    /// Returns whether every addressed session was a connection without a user that has ended: no other connection can
    /// be sent the command, or answer it.
    fn is_beyond_reach(&self, command: &Pending<W>) -> bool {
        command.rows.are_guests_that_left()
            && command.rows.iter().all(|row| !self.clients.contains_key(&row.connection))
    }

    /// Whether somebody who may be waited for is settling.
    fn has_hope(&self, command: &Pending<W>) -> bool {
        match &command.order.aim {
            Aim::User(user) => self.parties.get(&Clock::User(user.shared_id())).is_some_and(|party| party.settling > 0),
            Aim::Connection { id, .. } => self
                .clients
                .get(id)
                .is_some_and(|record| record.is_settling() && record.is_awaited_by(&command.order.aim)),
            Aim::Everybody | Aim::Sessions(_) => false,
        }
    }
}

/// The rows of a part that have not left yet.
fn queued<'a, W>(command: &'a Pending<W>, part: &'a Part) -> impl Iterator<Item = usize> + 'a {
    part.rows.iter().copied().filter(|at| {
        let row = command.rows.get(*at);
        row.stage == Stage::Queued && row.outcome.is_none()
    })
}
