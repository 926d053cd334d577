//! Connections of other nodes: what those say about them, and what this node says about its own.

use std::ops::Bound;

use crate::hub::mail::Address;
use crate::proto::command::CommandId;
use crate::proto::id::ConnId;
use crate::proto::time::Now;
use crate::proto::user::User;
use crate::visits::visit;

use super::super::client::{Client, Home, Record, Session};
use super::super::described::{Described, Taking};
use super::super::order::{Clock, Out};
use super::Engine;

/// Connections of this node, for others.
impl<W> Engine<W> {
    /// What other nodes are told of a connection of this one. None: it is nobody that takes commands, or it has ended.
    pub fn described(&self, connection: ConnId) -> Option<Described> {
        self.clients.get(&connection).filter(|record| !record.is_elsewhere()).map(Record::described)
    }

    /// Returns connections of this node in the order of their activity, each with its rank: those after this rank, at most
    /// `limit`. A connection that becomes active while another node asks for part after part appears again.
    pub fn described_after(&self, rank: u64, limit: usize) -> Vec<(u64, Described)> {
        let described = |(rank, record): (u64, &Record)| (rank, record.described());
        self.own_after(rank).take(limit).map(described).collect()
    }

    /// Returns sessions of this node that were active after this rank, the latest last, and the rank to ask from next.
    pub fn active_after(&self, rank: u64) -> (Vec<ConnId>, u64) {
        let active = self.own_after(rank).filter(|(_, record)| record.session.is_some());
        (active.map(|(_, record)| record.client.connection).collect(), self.counter)
    }

    /// Where a connection of this node lives, if it takes commands and is this user's: what another node has for it may be handed over.
    pub fn address_of(&self, connection: ConnId, user: Option<&User>) -> Option<Address> {
        let record = self.clients.get(&connection)?;
        let Home::Here(address) = record.client.home else { return None };
        (record.session.is_some() && record.user_id() == user.map(User::id)).then_some(address)
    }

    /// At what time that leaves: this one, or a later one if the connection was sent something later.
    pub fn later(&mut self, connection: ConnId, ts: u64) -> u64 {
        self.clients.get_mut(&connection).map_or(ts, |record| record.later(ts))
    }

    /// Others are to hear of a connection of this node.
    pub fn tell(&mut self, connection: ConnId, out: &mut Out<W>) {
        if self.is_shared && self.clients.get(&connection).is_some_and(|record| !record.is_elsewhere()) {
            out.changed.push(connection);
        }
    }

    fn own_after(&self, rank: u64) -> impl Iterator<Item = (u64, &Record)> {
        let own = self.own.range((Bound::Excluded(rank), Bound::Unbounded)).inspect(|_| visit());
        own.filter_map(|(rank, connection)| Some((*rank, self.clients.get(connection)?)))
    }
}

/// Connections of other nodes.
impl<W> Engine<W> {
    /// Another node says how a connection of its own is now. [`Engine::close_elsewhere`] is for when it has ended.
    pub fn hear(&mut self, node: u16, described: Described, now: Now, out: &mut Out<W>) {
        let Described { connection, user, taking, data, paused, resumed_unix_ms, health } = described;
        let is_ours = |record: &Record| record.client.home != Home::Elsewhere(node);
        if self.clients.get(&connection).is_some_and(is_ours) {
            return;
        }
        self.meet(Client { connection, home: Home::Elsewhere(node), user }, now, out);
        let before = self.taking(connection);
        // Who settles once more had stopped in between, and nobody said so.
        let begins_anew = before.is_some_and(|before| !before.is_settling) && taking.is_some_and(|now| now.is_settling);
        if taking.is_none() || begins_anew {
            self.stop_taking(connection, now, out);
        }
        let generation = self.next_number();
        let Some(record) = self.clients.get_mut(&connection) else { return };
        (record.paused, record.resumed_unix_ms, record.health) = (paused, resumed_unix_ms, health);
        record.data = data;
        let Some(Taking { since_unix_ms, is_settling }) = taking else { return };
        match &mut record.session {
            Some(session) => {
                session.since_unix_ms = since_unix_ms;
                if !is_settling {
                    self.become_ready(connection, now, out);
                }
            }
            None => {
                record.session = Some(Session { generation, since_unix_ms, is_settling });
                self.list(connection);
                self.touch(connection);
                self.ask_again(connection);
            }
        }
        // It may have announced what a command waits for.
        self.offer(connection, now, out);
    }

    /// A connection of another node has ended.
    pub fn close_elsewhere(&mut self, node: u16, connection: ConnId, now: Now, out: &mut Out<W>) {
        if self.is_elsewhere(node, connection) {
            self.close(connection, now, out);
        }
    }

    /// A connection of another node did something, as that node says.
    pub fn touch_elsewhere(&mut self, node: u16, connection: ConnId) {
        if self.is_elsewhere(node, connection) {
            self.touch(connection);
        }
    }

    fn is_elsewhere(&self, node: u16, connection: ConnId) -> bool {
        self.clients.get(&connection).is_some_and(|record| record.client.home == Home::Elsewhere(node))
    }

    /// A user of whom there is a session, here or elsewhere, by id.
    pub fn user_of_session(&self, id: &str) -> Option<User> {
        let party = self.parties.get(&Clock::User(id.into()))?;
        let connection = party.sessions.values().next()?;
        self.clients.get(connection)?.client.user.clone()
    }

    /// The sessions of a user, here and elsewhere.
    pub fn sessions_of(&self, id: &str) -> Vec<ConnId> {
        let party = self.parties.get(&Clock::User(id.into()));
        party.map(|party| party.sessions.values().copied().collect()).unwrap_or_default()
    }

    /// Whether a command is pending or was settled lately, so that this is where to ask whether a reply counts.
    pub fn remembers(&self, id: CommandId) -> bool {
        self.is_pending(id) || self.history.knows(id)
    }

    fn taking(&self, connection: ConnId) -> Option<Taking> {
        self.clients.get(&connection).and_then(Record::taking)
    }
}
