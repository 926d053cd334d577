//! Joining, leaving, and being removed.

use switchboard_proto::call::{Answer, CallError, RoomKind};
use switchboard_proto::id::{ConnId, RoomName};

use crate::hub::mail::{Asker, ConnKey, MemberCheck, Settled};
use crate::hub::{Entrance, Role};
use crate::op::Op;

use super::Worker;
use super::calls::Caller;

/// Joins whose node part is still under way.
///
/// What happens to the room meanwhile concerns them too: its members are removed or looked at again, and these are not
/// members yet.
#[derive(Default)]
pub(super) struct PendingJoins(Vec<PendingJoin>);

pub(super) struct PendingJoin {
    /// Kept, because the connection may be gone when there is something to undo.
    caller: Caller,
    room: RoomName,
    /// Why nothing may come of it.
    refusal: Option<CallError>,
    checks: Vec<MemberCheck>,
}

impl PendingJoins {
    fn contains(&self, key: ConnKey, room: &RoomName) -> bool {
        self.0.iter().any(|join| join.caller.address.key == key && join.room == *room)
    }

    fn count(&self, key: ConnKey) -> usize {
        self.0.iter().filter(|join| join.caller.address.key == key).count()
    }

    fn push(&mut self, caller: Caller, room: RoomName) {
        self.0.push(PendingJoin { caller, room, refusal: None, checks: Vec::new() });
    }

    fn of(&self, room: &RoomName) -> impl Iterator<Item = ConnId> {
        self.0.iter().filter(move |join| join.room == *room).map(|join| join.caller.facts.id)
    }

    /// The rooms that a connection is joining.
    pub(super) fn of_connection(&self, key: ConnKey) -> Vec<RoomName> {
        self.0.iter().filter(|join| join.caller.address.key == key).map(|join| join.room.clone()).collect()
    }

    fn evict(&mut self, room: &RoomName) {
        let joins = self.0.iter_mut().filter(|join| join.room == *room);
        joins.for_each(|join| join.refusal = Some(CallError::NoSuchRoom));
    }

    /// Takes a connection out of a room before it is a member. Returns `false` if it is not joining.
    fn cancel(&mut self, key: ConnKey, room: &RoomName) -> bool {
        let join = self.0.iter_mut().find(|join| join.caller.address.key == key && join.room == *room);
        join.map(|join| join.refusal.get_or_insert(CallError::NotAuthorized)).is_some()
    }

    fn recheck(&mut self, room: &RoomName, check: &MemberCheck) {
        self.0.iter_mut().filter(|join| join.room == *room).for_each(|join| join.checks.push(check.clone()));
    }

    /// Takes a join whose node part is done.
    pub(super) fn take(&mut self, key: ConnKey, room: &RoomName) -> Option<PendingJoin> {
        let at = self.0.iter().position(|join| join.caller.address.key == key && join.room == *room)?;
        Some(self.0.swap_remove(at))
    }
}

impl Worker {
    pub(super) fn join(&mut self, key: ConnKey, room: RoomName, asker: Asker) {
        let Some(connection) = self.hub.get(key) else { return };
        if connection.link.closing.is_some() {
            return;
        }
        if self.hub.is_member(key, &room) || self.joins.contains(key, &room) {
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
        self.joins.evict(room);
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
        self.joins.recheck(room, check);
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
