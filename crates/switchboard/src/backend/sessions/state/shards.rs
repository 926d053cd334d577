//! Sessions of shards as plain data, and every change to them.
//!
//! - `session`: one session.
//! - `log`: its events.
//! - `begin`: a session begins, in place of others.
//! - `publish`: events are appended.
//! - `published`: ids of publications.
//! - `starts`: how often applications have begun sessions.

mod begin;
mod log;
mod publish;
mod published;
mod session;
mod starts;

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::Arc;

use switchboard_proto::id::{ConnId, RoomName};
use switchboard_proto::shard::{LogItem, LogPart, ShardRefusal};

use super::Row;
use crate::backend::BackendError;
use crate::backend::sessions::shards::*;
use crate::visits::visit;

pub(in crate::backend) use begin::MASTER_RETRY_MS;
pub(in crate::backend) use log::Log;
use published::Published;
pub(in crate::backend) use published::{PublicationKey, RememberedPublication};
pub(in crate::backend) use session::{Held, JoinedRoom, Session};
pub(in crate::backend) use starts::{AT_ONCE_MS, Starts};

/// One change to what is kept of shards.
#[derive(Clone, Debug)]
pub(in crate::backend) enum ShardChange {
    Begin(Box<BeginShard>),
    Resume(Box<ResumeShard>),
    Detach { note: ShardNote, now_ms: u64 },
    End { id: ConnId, generation: Option<u64> },
    Note(Vec<ShardNote>),
    Acknowledge { id: ConnId, generation: u64, seq: u64 },
    Publish { publication: Box<Publication>, key: Option<PublicationKey> },
    Append(Box<Append>),
    AddRoom { id: ConnId, room: RoomName, number: u64 },
    RemoveRoom { id: ConnId, room: RoomName },
    Sweep { now_ms: u64 },
}

/// A row about shards that a change has made, replaced or removed.
#[derive(Clone, Copy, Debug)]
pub(in crate::backend) enum ShardRow<'a> {
    /// A session, without its events and rooms.
    Session(&'a Session),
    /// A session is gone, with all its events and rooms.
    NoSession(&'a Session),
    Event {
        session: ConnId,
        seq: u64,
        item: &'a LogItem,
    },
    /// Events are gone, both ends included.
    NoEvents {
        session: ConnId,
        first: u64,
        last: u64,
    },
    Room {
        session: ConnId,
        joined: &'a JoinedRoom,
    },
    NoRoom {
        session: ConnId,
        room: &'a RoomName,
    },
    Published {
        key: &'a PublicationKey,
        publication: &'a RememberedPublication,
    },
    NotPublished {
        order: u64,
    },
    Starts {
        application: &'a str,
        starts: &'a Starts,
    },
    NoStarts(&'a str),
}

/// What a change has brought. After [`ShardChange::Begin`] comes [`ShardOutcome::Begun`], and so on.
#[derive(Debug)]
pub(in crate::backend) enum ShardOutcome {
    Begun(Result<Box<BegunShard>, ShardRefusal>),
    Resumed(Option<Box<ResumedShard>>),
    Detached(Result<(), Fenced>),
    Ended(Option<EndedShard>),
    Noted,
    Acknowledged(Result<(), AckRefusal>),
    Published(Option<PublishedEvent>),
    Appended(Option<u64>),
    /// Whether a room was added or removed.
    Room(bool),
    Swept(Vec<EndedShard>),
}

/// All that is kept of shards.
#[derive(Clone, Debug)]
pub(in crate::backend) struct Shards {
    limits: ShardLimits,
    /// Rooms of one session.
    max_rooms: usize,
    epoch: u64,
    sessions: HashMap<ConnId, Session>,
    by_hash: HashMap<SessionHash, ConnId>,
    /// The slots of each fleet. A fleet without sessions is not there.
    fleets: BTreeMap<Fleet, BTreeMap<u32, ConnId>>,
    starts: HashMap<Arc<str>, Starts>,
    published: Published,
    /// Sessions that no connection carries.
    detached: usize,
    /// Of all logs.
    log_bytes: usize,
    log_events: u64,
}

impl Shards {
    /// Nothing yet. Sessions of other epochs are not there.
    pub(in crate::backend) fn new(limits: ShardLimits, max_rooms: usize, epoch: u64) -> Self {
        Self {
            limits,
            max_rooms,
            epoch,
            sessions: HashMap::new(),
            by_hash: HashMap::new(),
            fleets: BTreeMap::new(),
            starts: HashMap::new(),
            published: Published::default(),
            detached: 0,
            log_bytes: 0,
            log_events: 0,
        }
    }

    /// Makes a change and tells `note` every row that differs now. After an error nothing has changed.
    pub(in crate::backend) fn apply(
        &mut self,
        change: &ShardChange,
        note: &mut dyn FnMut(Row<'_>),
    ) -> Result<ShardOutcome, BackendError> {
        let note = &mut |row: ShardRow<'_>| note(Row::Shard(row));
        Ok(match change {
            ShardChange::Begin(begin) => ShardOutcome::Begun(self.begin(begin, note)?.map(Box::new)),
            ShardChange::Resume(resume) => ShardOutcome::Resumed(self.resume(resume, note).map(Box::new)),
            ShardChange::Detach { note: last, now_ms } => ShardOutcome::Detached(self.detach(last, *now_ms, note)),
            ShardChange::End { id, generation } => ShardOutcome::Ended(self.end_by_id(*id, *generation, note)),
            ShardChange::Note(notes) => {
                self.note(notes, note);
                ShardOutcome::Noted
            }
            ShardChange::Acknowledge { id, generation, seq } => {
                ShardOutcome::Acknowledged(self.acknowledge(*id, *generation, *seq, note))
            }
            ShardChange::Publish { publication, key } => {
                ShardOutcome::Published(self.publish(publication, key.as_ref(), note)?)
            }
            ShardChange::Append(append) => ShardOutcome::Appended(self.append(append, note)?),
            ShardChange::AddRoom { id, room, number } => ShardOutcome::Room(self.add_room(*id, room, *number, note)?),
            ShardChange::RemoveRoom { id, room } => ShardOutcome::Room(self.remove_room(*id, room, note)),
            ShardChange::Sweep { now_ms } => ShardOutcome::Swept(self.sweep(*now_ms, note)),
        })
    }

    /// The events behind a number.
    pub(in crate::backend) fn read(&self, read: &ReadLog) -> Result<LogPart, ReadRefusal> {
        let session = self.carried(read.id, read.generation).ok_or(ReadRefusal::Fenced)?;
        session.log.read(read.after, read.max_events, read.max_bytes).ok_or(ReadRefusal::Trimmed)
    }

    /// Whether an acknowledgement counts, and if so, whether it changes anything.
    pub(in crate::backend) fn check_acknowledge(
        &self,
        id: ConnId,
        generation: u64,
        seq: u64,
    ) -> Result<bool, AckRefusal> {
        let session = self.carried(id, generation).ok_or(AckRefusal::Fenced)?;
        if seq > session.log.last() {
            return Err(AckRefusal::Ahead);
        }
        Ok(seq > session.log.floor() || seq > session.received)
    }

    /// The sessions of a fleet, by their shards.
    pub(in crate::backend) fn fleet(&self, fleet: &Fleet, now_ms: u64) -> Vec<ShardRecord> {
        let total = self.fleet_total(fleet, now_ms);
        self.alive_of(fleet, now_ms).map(|session| session.record(total)).collect()
    }

    /// A session.
    pub(in crate::backend) fn one(&self, id: ConnId, now_ms: u64) -> Option<ShardRecord> {
        let session = self.sessions.get(&id).filter(|session| self.is_there(session, now_ms))?;
        Some(session.record(self.fleet_total(&session.fleet, now_ms)))
    }

    /// Every session, by id.
    pub(in crate::backend) fn all(&self, now_ms: u64) -> Vec<ShardRecord> {
        let mut all: Vec<_> = self.fleets.keys().flat_map(|fleet| self.fleet(fleet, now_ms)).collect();
        all.sort_unstable_by_key(|record| record.id.to_bytes());
        all
    }

    /// At most `limit` sessions by fleet and shard, those after this key.
    pub(in crate::backend) fn after(&self, after: Option<&ShardKey>, limit: usize, now_ms: u64) -> Vec<ShardRecord> {
        let fleets = match after {
            Some(after) => self.fleets.range::<Fleet, _>(&after.fleet..),
            None => self.fleets.range::<Fleet, _>(..),
        };
        let mut page = Vec::new();
        for (fleet, slots) in fleets {
            let last = after.filter(|after| after.fleet == *fleet).map(|after| after.shard);
            let slots = slots.range((last.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded));
            let sessions = slots.inspect(|_| visit()).filter_map(|(_, id)| self.sessions.get(id));
            let alive = sessions.filter(|session| self.is_there(session, now_ms)).take(limit - page.len());
            let total = self.fleet_total(fleet, now_ms);
            page.extend(alive.map(|session| session.record(total)));
            if page.len() == limit {
                break;
            }
        }
        page
    }

    /// How many sessions there are, and what their logs hold.
    pub(in crate::backend) fn totals(&self) -> ShardTotals {
        ShardTotals {
            sessions: self.sessions.len(),
            detached: self.detached,
            log_events: self.log_events,
            log_bytes: self.log_bytes,
        }
    }

    /// What an application may begin.
    pub(in crate::backend) fn starts_left(&self, application: &str, limits: StartLimits, now_ms: u64) -> StartsLeft {
        self.starts.get(application).cloned().unwrap_or_default().left(limits, now_ms)
    }

    /// The rooms of a session in the order of joining.
    pub(in crate::backend) fn rooms(&self, id: ConnId) -> Vec<(RoomName, u64)> {
        let rooms = self.sessions.get(&id).map_or(&[][..], |session| &session.rooms);
        rooms.iter().map(|joined| (joined.room.clone(), joined.number)).collect()
    }

    /// Of the sessions that are there.
    pub(in crate::backend) fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Puts back a session that was kept, with its log and rooms.
    pub(in crate::backend) fn restore_session(&mut self, session: Session) {
        self.place(session);
    }

    /// Puts back what an application has begun.
    pub(in crate::backend) fn restore_starts(&mut self, application: &str, starts: Starts) {
        self.starts.insert(application.into(), starts);
    }

    /// Puts back a publication: the older before the younger.
    pub(in crate::backend) fn restore_published(&mut self, key: PublicationKey, publication: RememberedPublication) {
        self.published.restore(key, publication);
    }

    /// Whether a session has not expired.
    fn is_there(&self, session: &Session, now_ms: u64) -> bool {
        match session.held {
            Held::By(_) => true,
            Held::ByNobody { since_ms } => now_ms.saturating_sub(since_ms) < self.limits.resume_window_ms,
        }
    }

    fn alive_of(&self, fleet: &Fleet, now_ms: u64) -> impl DoubleEndedIterator<Item = &Session> {
        let slots = self.fleets.get(fleet).into_iter().flat_map(BTreeMap::values).inspect(|_| visit());
        slots.filter_map(|id| self.sessions.get(id)).filter(move |session| self.is_there(session, now_ms))
    }

    /// The session of a shard.
    fn alive_at(&self, fleet: &Fleet, shard: u32, now_ms: u64) -> Option<&Session> {
        let session = self.sessions.get(self.fleets.get(fleet)?.get(&shard)?)?;
        self.is_there(session, now_ms).then_some(session)
    }

    /// The session, if this generation carries it.
    fn carried(&self, id: ConnId, generation: u64) -> Option<&Session> {
        self.sessions.get(&id).filter(|session| session.is_carried(generation))
    }

    fn carried_mut(&mut self, id: ConnId, generation: u64) -> Option<&mut Session> {
        self.sessions.get_mut(&id).filter(|session| session.is_carried(generation))
    }

    /// How many shards a fleet has: as its master was told; without a master, as the others were told; and if nobody was told
    /// anything, as many as the highest shard says.
    fn fleet_total(&self, fleet: &Fleet, now_ms: u64) -> u32 {
        if let Some(total) = self.alive_at(fleet, 0, now_ms).and_then(|master| master.total) {
            return total;
        }
        let counted = self.counted_total(fleet, now_ms);
        if self.alive_at(fleet, 0, now_ms).is_some() {
            return counted;
        }
        let told = self.alive_of(fleet, now_ms).filter_map(|session| session.total).max();
        told.map_or(counted, |told| told.max(counted))
    }

    fn counted_total(&self, fleet: &Fleet, now_ms: u64) -> u32 {
        self.alive_of(fleet, now_ms).next_back().map_or(0, |session| session.shard.saturating_add(1))
    }

    fn resume(&mut self, resume: &ResumeShard, note: &mut dyn FnMut(ShardRow<'_>)) -> Option<ResumedShard> {
        let id = *self.by_hash.get(&resume.hash)?;
        let session = self.sessions.get(&id).filter(|session| self.is_there(session, resume.now_ms))?;
        let is_meant = session.fleet.application == resume.application && u64::from(session.shard) == resume.shard;
        let after = resume.seq.unwrap_or(session.received);
        if !is_meant || after < session.log.floor() || after > session.log.last() {
            return None;
        }
        let session = self.sessions.get_mut(&id)?;
        self.detached -= usize::from(session.is_detached());
        let previous = session.hold(resume.owner.clone());
        // It has dealt with no more than it says, whatever its host had received before.
        session.received = after;
        if resume.seq.is_some() {
            let forgotten = session.forget_events(after, note);
            self.log_bytes -= forgotten.bytes;
            self.log_events -= forgotten.events;
        }
        note(ShardRow::Session(session));
        let fleet = session.fleet.clone();
        let total = self.fleet_total(&fleet, resume.now_ms);
        let record = self.sessions.get(&id)?.record(total);
        Some(ResumedShard { record, after, previous })
    }

    fn detach(&mut self, last: &ShardNote, now_ms: u64, note: &mut dyn FnMut(ShardRow<'_>)) -> Result<(), Fenced> {
        let session = self.carried_mut(last.id, last.generation).ok_or(Fenced)?;
        session.take_note(last);
        session.held = Held::ByNobody { since_ms: now_ms };
        note(ShardRow::Session(session));
        self.detached += 1;
        Ok(())
    }

    /// Nobody carries anything any more, since `since_ms`.
    pub(in crate::backend) fn detach_all(&mut self, since_ms: u64, note: &mut dyn FnMut(ShardRow<'_>)) {
        for session in self.sessions.values_mut() {
            if let Held::By(_) = session.held {
                session.held = Held::ByNobody { since_ms };
                self.detached += 1;
                note(ShardRow::Session(session));
            }
        }
    }

    fn note(&mut self, notes: &[ShardNote], note: &mut dyn FnMut(ShardRow<'_>)) {
        for news in notes {
            if let Some(session) = self.carried_mut(news.id, news.generation)
                && session.take_note(news)
            {
                note(ShardRow::Session(session));
            }
        }
    }

    fn acknowledge(
        &mut self,
        id: ConnId,
        generation: u64,
        seq: u64,
        note: &mut dyn FnMut(ShardRow<'_>),
    ) -> Result<(), AckRefusal> {
        if !self.check_acknowledge(id, generation, seq)? {
            return Ok(());
        }
        let session = self.sessions.get_mut(&id).ok_or(AckRefusal::Fenced)?;
        session.received = session.received.max(seq);
        let forgotten = session.forget_events(seq, note);
        self.log_bytes -= forgotten.bytes;
        self.log_events -= forgotten.events;
        note(ShardRow::Session(session));
        Ok(())
    }

    fn end_by_id(
        &mut self,
        id: ConnId,
        generation: Option<u64>,
        note: &mut dyn FnMut(ShardRow<'_>),
    ) -> Option<EndedShard> {
        let session = self.sessions.get(&id)?;
        if generation.is_some_and(|generation| generation != session.generation) {
            return None;
        }
        self.end(id, EndOfShard::Asked, note)
    }

    fn end(&mut self, id: ConnId, why: EndOfShard, note: &mut dyn FnMut(ShardRow<'_>)) -> Option<EndedShard> {
        let session = self.sessions.remove(&id)?;
        self.by_hash.remove(&session.hash);
        self.detached -= usize::from(session.is_detached());
        self.log_bytes -= session.log.bytes();
        self.log_events -= session.log.len() as u64;
        if let Some(slots) = self.fleets.get_mut(&session.fleet) {
            slots.remove(&session.shard);
            if slots.is_empty() {
                self.fleets.remove(&session.fleet);
            }
        }
        note(ShardRow::NoSession(&session));
        let rooms = session.rooms.into_iter().map(|joined| joined.room).collect();
        Some(EndedShard { id, owner: session.held.into_owner(), why, rooms, home: 0 })
    }

    fn add_room(
        &mut self,
        id: ConnId,
        room: &RoomName,
        number: u64,
        note: &mut dyn FnMut(ShardRow<'_>),
    ) -> Result<bool, BackendError> {
        let max_rooms = self.max_rooms;
        let Some(session) = self.sessions.get_mut(&id) else { return Ok(false) };
        if session.rooms.iter().any(|joined| joined.room == *room) {
            return Ok(false);
        }
        if session.rooms.len() >= max_rooms {
            return Err(BackendError(format!("of one session at most {max_rooms} rooms are kept")));
        }
        let order = session.rooms.last().map_or(0, |joined| joined.order.saturating_add(1));
        let joined = JoinedRoom { room: room.clone(), order, number };
        note(ShardRow::Room { session: id, joined: &joined });
        session.rooms.push(joined);
        Ok(true)
    }

    fn remove_room(&mut self, id: ConnId, room: &RoomName, note: &mut dyn FnMut(ShardRow<'_>)) -> bool {
        let Some(session) = self.sessions.get_mut(&id) else { return false };
        let Some(place) = session.rooms.iter().position(|joined| joined.room == *room) else { return false };
        session.rooms.remove(place);
        note(ShardRow::NoRoom { session: id, room });
        true
    }

    /// No session is in a room any more, because it was destroyed.
    pub(super) fn forget_room(&mut self, room: &RoomName, note: &mut dyn FnMut(Row<'_>)) -> usize {
        let is_in = |session: &&Session| session.rooms.iter().any(|joined| joined.room == *room);
        let members: Vec<_> = self.sessions.values().filter(is_in).map(|session| session.id).collect();
        for id in &members {
            self.remove_room(*id, room, &mut |row| note(Row::Shard(row)));
        }
        members.len()
    }

    fn sweep(&mut self, now_ms: u64, note: &mut dyn FnMut(ShardRow<'_>)) -> Vec<EndedShard> {
        let expired = self.sessions.values().filter(|session| !self.is_there(session, now_ms));
        let mut expired: Vec<_> = expired.map(|session| session.id).collect();
        expired.sort_unstable_by_key(|id| id.to_bytes());
        let ended = expired.into_iter().filter_map(|id| self.end(id, EndOfShard::Expired, note)).collect();
        self.published.forget_old(self.limits.id_memory_ms, now_ms, note);
        self.starts.retain(|application, starts| {
            let is_kept = !starts.is_over(now_ms);
            if !is_kept {
                note(ShardRow::NoStarts(application));
            }
            is_kept
        });
        ended
    }
}

#[cfg(test)]
mod tests {
    use switchboard_proto::shard::ShardCounts;

    use super::*;
    use crate::backend::contract::shards::{NOW, fleet, hash, owner, session};
    use crate::visits::{assert_no_growth, visits_of};

    #[test]
    fn a_page_of_sessions_costs_the_same_among_many() {
        let [few, many] = [1000, 20_000].map(|count: u32| {
            let mut shards = Shards::new(ShardLimits::default(), 8, 1);
            for shard in 0..count {
                shards.restore_session(Session {
                    id: session(shard.into()),
                    hash: hash(shard.into()),
                    epoch: 1,
                    fleet: fleet(),
                    shard,
                    total: Some(count),
                    flags: 0,
                    created_ms: NOW,
                    generation: 1,
                    held: Held::By(owner(1)),
                    received: 0,
                    counts: ShardCounts::default(),
                    log: Log::default(),
                    rooms: Vec::new(),
                });
            }
            let after = ShardKey { fleet: fleet(), shard: count / 2 };
            visits_of(|| {
                let page = shards.after(Some(&after), 100, NOW);
                assert!(page.iter().map(|record| record.shard).eq(count / 2 + 1..=count / 2 + 100));
            })
        });
        assert_no_growth(few, many);
    }
}
