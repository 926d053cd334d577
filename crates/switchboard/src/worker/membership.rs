//! Joining, leaving, and being removed.

use std::collections::hash_map::{Entry, HashMap};

use switchboard_proto::call::{Answer, CallError, RoomKind};
use switchboard_proto::id::{ConnId, RoomName};

use crate::hub::mail::{Asker, ConnKey, MemberCheck, Settled};
use crate::hub::{Entrance, Role};
use crate::op::Op;
use crate::visits::visit;

use super::Worker;
use super::calls::Caller;

/// Joins that wait for the node's part, by room.
///
/// Changes of a room apply to them too: they must be refused if its members are removed, and checked if its pattern
/// changes, but they are not members yet.
#[derive(Default)]
pub(super) struct PendingJoins {
    rooms: HashMap<RoomName, HashMap<ConnKey, PendingJoin>>,
    /// The rooms that each connection is joining: at most `limits.max_rooms_per_connection`.
    rooms_of: HashMap<ConnKey, Vec<RoomName>>,
}

pub(super) struct PendingJoin {
    /// Kept, because the connection may be gone when there is something to undo.
    caller: Caller,
    /// Why nothing may come of it.
    refusal: Option<CallError>,
    checks: Vec<MemberCheck>,
}

impl PendingJoins {
    fn get(&self, key: ConnKey, room: &RoomName) -> Option<&PendingJoin> {
        self.rooms.get(room)?.get(&key)
    }

    fn count(&self, key: ConnKey) -> usize {
        self.rooms_of.get(&key).map_or(0, Vec::len)
    }

    fn push(&mut self, caller: Caller, room: RoomName) {
        let key = caller.address.key;
        self.rooms_of.entry(key).or_default().push(room.clone());
        self.rooms.entry(room).or_default().insert(key, PendingJoin { caller, refusal: None, checks: Vec::new() });
    }

    fn of(&self, room: &RoomName) -> impl Iterator<Item = ConnId> {
        let joins = self.rooms.get(room).into_iter().flat_map(HashMap::values);
        joins.inspect(|_| visit()).map(|join| join.caller.facts.id)
    }

    /// The rooms that a connection is joining.
    pub(super) fn of_connection(&self, key: ConnKey) -> Vec<RoomName> {
        self.rooms_of.get(&key).cloned().unwrap_or_default()
    }

    /// Takes a connection out of a room before it is a member. Returns `false` if it is not joining.
    fn cancel(&mut self, key: ConnKey, room: &RoomName) -> bool {
        let join = self.rooms.get_mut(room).and_then(|joins| joins.get_mut(&key));
        join.map(|join| join.refusal.get_or_insert(CallError::NotAuthorized)).is_some()
    }

    fn of_mut(&mut self, room: &RoomName) -> impl Iterator<Item = &mut PendingJoin> {
        self.rooms.get_mut(room).into_iter().flat_map(HashMap::values_mut).inspect(|_| visit())
    }

    /// Takes a join whose node part is done.
    pub(super) fn take(&mut self, key: ConnKey, room: &RoomName) -> Option<PendingJoin> {
        visit();
        let joins = self.rooms.get_mut(room)?;
        let join = joins.remove(&key)?;
        if joins.is_empty() {
            self.rooms.remove(room);
        }
        if let Entry::Occupied(mut rooms) = self.rooms_of.entry(key) {
            rooms.get_mut().retain(|other| other != room);
            if rooms.get().is_empty() {
                rooms.remove();
            }
        }
        Some(join)
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.rooms.is_empty() && self.rooms_of.is_empty()
    }
}

impl Worker {
    pub(super) fn join(&mut self, key: ConnKey, room: RoomName, asker: Asker) {
        let Some(connection) = self.hub.get(key) else { return };
        if connection.link.closing.is_some() {
            return;
        }
        let pending = self.joins.get(key, &room);
        if pending.is_some_and(|join| join.refusal.is_some()) {
            // The cancelled join is still to be undone in the store, which could undo a second join instead.
            return self.settle(key, asker, Err(CallError::Unavailable));
        }
        if pending.is_some() || self.hub.is_member(key, &room) {
            return self.settle(key, asker, Err(CallError::AlreadyMember(room)));
        }
        // A client's joins follow one another; the node's may be under way together.
        if self.hub.room_count(key) + self.joins.count(key) >= self.settings.max_rooms_per_connection {
            return self.settle(key, asker, Err(CallError::TooManyRoomsOfConnection));
        }
        let Some(caller) = self.caller(key) else { return };
        match self.calls.join(caller.clone(), room.clone()) {
            Op::Ready(result) => {
                let outcome = result.map(|entrance| self.enter(key, &room, entrance));
                self.settle(key, asker, outcome);
            }
            Op::Wait(future) => {
                self.joins.push(caller, room.clone());
                self.settle_later(key, async move { Settled::Join { room, asker, result: future.await } });
            }
        }
    }

    /// The node's part of a join that had to wait is done.
    pub(super) fn finish_join(
        &mut self,
        key: ConnKey,
        room: RoomName,
        asker: Asker,
        result: Result<Entrance, CallError>,
    ) {
        let Some(mut join) = self.joins.take(key, &room) else { return };
        let outcome = match (result, self.refusal(&mut join)) {
            (Ok(entrance), None) => Ok(self.enter(key, &room, entrance)),
            (Ok(_), Some(refusal)) => {
                self.detach(self.calls.unjoin(join.caller, room));
                Err(refusal)
            }
            (Err(error), _) => Err(error),
        };
        self.settle(key, asker, outcome);
    }

    /// Why a join came too late, if it did.
    fn refusal(&self, join: &mut PendingJoin) -> Option<CallError> {
        let connection = self.hub.get(join.caller.address.key);
        if connection.is_none_or(|connection| connection.link.closing.is_some()) {
            Some(CallError::NoSuchConnection)
        } else if join.refusal.is_some() {
            join.refusal.take()
        } else if !join.checks.iter().all(|check| check(&join.caller.facts)) {
            Some(CallError::NotAuthorized)
        } else {
            None
        }
    }

    fn enter(&mut self, key: ConnKey, room: &RoomName, entrance: Entrance) -> Answer {
        let hears = self.hub.get(key).map(|connection| connection.link.hears(room, true)).unwrap_or_default();
        self.hub.enter(key, room, Role::Member, entrance, hears);
        if let Some(caller) = self.caller(key) {
            self.calls.joined(&caller, room);
        }
        Answer::Joined
    }

    pub(super) fn leave(&mut self, key: ConnKey, room: RoomName, asker: Asker) {
        if self.hub.get(key).is_none() {
            return;
        }
        if !self.hub.is_member(key, &room) {
            // A join whose answer from the node is on its way must not outlive the removal.
            let outcome =
                if self.joins.cancel(key, &room) { Ok(Answer::Left) } else { Err(CallError::NotMember(room)) };
            return self.settle(key, asker, outcome);
        }
        match self.end_membership(key, &room) {
            Some(Op::Wait(future)) => self.settle_later(key, async move {
                future.await;
                Settled::Outcome(asker, Ok(Answer::Left))
            }),
            _ => self.settle(key, asker, Ok(Answer::Left)),
        }
    }

    /// Runs the node's part while the connection still is a member, then ends the membership here.
    fn end_membership(&mut self, key: ConnKey, room: &RoomName) -> Option<Op<()>> {
        let op = self.calls.leave(self.caller(key)?, room.clone());
        self.leave_hub(key, room);
        // The hook may have admitted the listener because it was a member, so it has to decide again.
        if self.calls.has_join_hook() && self.hub.has_role(key, room, Role::Listener) {
            self.stop_listening(key, room);
            self.begin_listening(room, [key].into(), false, Box::new(drop));
        }
        Some(op)
    }

    fn leave_hub(&mut self, key: ConnKey, room: &RoomName) {
        let hears = self.hub.get(key).map(|connection| connection.link.hears(room, false)).unwrap_or_default();
        self.hub.leave(key, room, Role::Member, hears);
    }

    /// Leaves every room, because the connection ends.
    pub(super) fn leave_all(&mut self, key: ConnKey) {
        for room in self.hub.listened_by(key) {
            self.stop_listening(key, &room);
        }
        for room in self.hub.rooms_of(key) {
            if let Some(op) = self.end_membership(key, &room) {
                self.detach(op);
            }
        }
    }

    /// Removes every member of a room that is being destroyed. All of them first, then the callbacks: nobody hears of the
    /// others' leaving.
    pub(super) fn evict(&mut self, room: &RoomName) -> usize {
        self.joins.of_mut(room).for_each(|join| join.refusal = Some(CallError::NoSuchRoom));
        self.silence(room);
        let members = self.hub.occupants(room, Role::Member);
        for &key in &members {
            self.leave_hub(key, room);
        }
        for &key in &members {
            if let Some(caller) = self.caller(key) {
                self.detach(self.calls.leave(caller, room.clone()));
            }
        }
        members.len()
    }

    /// Who is in these rooms, or is about to be.
    pub(super) fn occupants(&self, rooms: &[RoomName]) -> Vec<(RoomName, ConnId)> {
        let mut occupants = Vec::new();
        for room in rooms {
            let members = self.hub.occupants(room, Role::Member).into_iter();
            let ids = members.filter_map(|key| Some(self.hub.get(key)?.link.facts.id)).chain(self.joins.of(room));
            occupants.extend(ids.map(|id| (room.clone(), id)));
        }
        occupants
    }

    /// Not everybody may enter a room any more: nobody listens, and the members that fail the check are removed.
    pub(super) fn recheck(&mut self, room: &RoomName, kind: RoomKind, check: &MemberCheck) -> usize {
        self.hub.set_kind(room, kind);
        self.silence(room);
        self.joins.of_mut(room).for_each(|join| join.checks.push(check.clone()));
        let mut removed = 0;
        for key in self.hub.occupants(room, Role::Member) {
            if self.hub.get(key).is_some_and(|connection| !check(&connection.link.facts))
                && let Some(op) = self.end_membership(key, room)
            {
                self.detach(op);
                removed += 1;
            }
        }
        removed
    }

    /// Lets an operation finish that nobody waits for.
    pub(super) fn detach(&self, op: Op<()>) {
        if let Op::Wait(future) = op {
            self.calls.spawn(future);
        }
    }
}

#[cfg(test)]
mod tests {
    use switchboard_proto::call::ConnectionType;
    use switchboard_proto::face::{ConnFacts, Remote};
    use switchboard_proto::time::Now;

    use super::*;
    use crate::hub::mail::Address;
    use crate::visits::{assert_no_growth, visits_of};

    fn key(slot: u32) -> ConnKey {
        ConnKey { slot, generation: 0 }
    }

    fn room(number: u32) -> RoomName {
        RoomName::parse(&format!("room-{number}")).unwrap()
    }

    fn caller(slot: u32) -> Caller {
        let facts = ConnFacts {
            id: ConnId::from_random(u128::from(slot) << 96),
            kind: ConnectionType::Socket,
            remote: Remote::Unix,
            connected_at: 0,
            fingerprint: None,
        };
        Caller { facts, address: Address { worker: 0, key: key(slot) }, now: Now::default() }
    }

    #[test]
    fn a_pending_join_is_found_by_its_room_and_counted_by_its_connection() {
        let mut joins = PendingJoins::default();
        for (slot, number) in [(1, 1), (1, 2), (2, 1)] {
            joins.push(caller(slot), room(number));
        }
        assert_eq!((joins.count(key(1)), joins.count(key(2)), joins.count(key(3))), (2, 1, 0));
        assert!(joins.get(key(1), &room(2)).is_some() && joins.get(key(2), &room(2)).is_none());
        assert_eq!((joins.of(&room(1)).count(), joins.of(&room(3)).count()), (2, 0));
        joins.of_mut(&room(1)).for_each(|join| join.refusal = Some(CallError::NoSuchRoom));
        let taken = [(1, 1), (1, 2), (2, 1)]
            .map(|(slot, number)| joins.take(key(slot), &room(number)).unwrap().refusal.is_some());
        assert_eq!(taken, [true, false, true]);
        assert!(joins.take(key(1), &room(1)).is_none() && joins.is_empty());
    }

    #[test]
    fn a_change_of_a_room_costs_the_same_however_many_joins_of_other_rooms_are_pending() {
        let [few, many] = [1000, 20_000].map(|count| {
            let mut joins = PendingJoins::default();
            (0..count).for_each(|slot| joins.push(caller(slot), room(slot / 10)));
            visits_of(|| {
                joins.of_mut(&room(7)).for_each(|join| join.refusal = Some(CallError::NoSuchRoom));
                assert_eq!(joins.of(&room(7)).count(), 10);
                assert!(joins.take(key(70), &room(7)).is_some());
            })
        });
        assert_no_growth(few, many);
    }
}
