//! Joining, leaving, and being removed.

use switchboard_proto::call::{Answer, CallError, Outcome};
use switchboard_proto::id::RoomName;

use crate::hub::mail::{Asker, ConnKey, MemberCheck, Settled};
use crate::op::Op;

use super::Worker;

/// Joins whose node part is still under way.
///
/// What happens to the room meanwhile concerns them too: its members are removed or looked at again, and these are not
/// members yet.
#[derive(Default)]
pub(super) struct PendingJoins(Vec<PendingJoin>);

struct PendingJoin {
    key: ConnKey,
    room: RoomName,
    evicted: bool,
    checks: Vec<MemberCheck>,
}

impl PendingJoins {
    fn contains(&self, key: ConnKey, room: &RoomName) -> bool {
        self.0.iter().any(|join| join.key == key && join.room == *room)
    }

    fn push(&mut self, key: ConnKey, room: RoomName) {
        self.0.push(PendingJoin { key, room, evicted: false, checks: Vec::new() });
    }

    fn evict(&mut self, room: &RoomName) {
        self.0.iter_mut().filter(|join| join.room == *room).for_each(|join| join.evicted = true);
    }

    fn recheck(&mut self, room: &RoomName, check: &MemberCheck) {
        self.0.iter_mut().filter(|join| join.room == *room).for_each(|join| join.checks.push(check.clone()));
    }

    /// The node's part is done: its result, after what happened meanwhile.
    pub(super) fn settle(
        &mut self,
        key: ConnKey,
        room: &RoomName,
        result: Result<u64, CallError>,
        passes: impl Fn(&MemberCheck) -> bool,
    ) -> Joining {
        let Some(at) = self.0.iter().position(|join| join.key == key && join.room == *room) else {
            return Joining::Settled(result);
        };
        let join = self.0.swap_remove(at);
        match result {
            Ok(_) if join.evicted => Joining::TooLate(CallError::NoSuchRoom),
            Ok(_) if !join.checks.iter().all(passes) => Joining::TooLate(CallError::NotAuthorized),
            result => Joining::Settled(result),
        }
    }
}

/// The result of a join's node part.
pub(super) enum Joining {
    Settled(Result<u64, CallError>),
    /// It was done, and has to be undone.
    TooLate(CallError),
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
        if self.hub.room_count(key) >= self.settings.max_rooms_per_connection {
            return self.settle(key, asker, Err(CallError::TooManyRoomsOfConnection));
        }
        let Some(caller) = self.caller(key) else { return };
        match self.calls.join(caller, room.clone()) {
            Op::Ready(result) => self.finish_join(key, room, asker, Joining::Settled(result)),
            Op::Wait(future) => {
                self.joins.push(key, room.clone());
                self.settle_later(key, async move { Settled::Join { room, asker, result: future.await } });
            }
        }
    }

    pub(super) fn finish_join(&mut self, key: ConnKey, room: RoomName, asker: Asker, joining: Joining) {
        let is_open = self.hub.get(key).is_some_and(|connection| connection.link.closing.is_none());
        let outcome: Outcome = match joining {
            Joining::Settled(Ok(after)) if is_open => {
                self.hub.join(key, &room, after);
                if let Some(caller) = self.caller(key) {
                    self.calls.joined(&caller, &room);
                }
                Ok(Answer::Joined)
            }
            // The connection ended meanwhile; only a live one's facts are at hand, so the room is told by its id alone.
            Joining::Settled(Ok(_)) => {
                self.undo_join(key, &room);
                Err(CallError::NoSuchConnection)
            }
            Joining::TooLate(error) => {
                self.undo_join(key, &room);
                Err(error)
            }
            Joining::Settled(Err(error)) => Err(error),
        };
        self.settle(key, asker, outcome);
    }

    fn undo_join(&mut self, key: ConnKey, room: &RoomName) {
        if let Some(caller) = self.caller(key) {
            self.detach(self.calls.unjoin(caller, room.clone()));
        }
    }

    pub(super) fn leave(&mut self, key: ConnKey, room: RoomName, asker: Asker) {
        if self.hub.get(key).is_none() {
            return;
        }
        if !self.hub.is_member(key, &room) {
            return self.settle(key, asker, Err(CallError::NotMember(room)));
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
        self.hub.leave(key, room);
        Some(op)
    }

    /// Leaves every room, because the connection ends.
    pub(super) fn leave_all(&mut self, key: ConnKey) {
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
        let members = self.hub.members(room);
        for &key in &members {
            self.hub.leave(key, room);
        }
        for &key in &members {
            if let Some(caller) = self.caller(key) {
                self.detach(self.calls.leave(caller, room.clone()));
            }
        }
        members.len()
    }

    /// Removes the members of a room that fail the check.
    pub(super) fn recheck(&mut self, room: &RoomName, check: &MemberCheck) -> usize {
        self.joins.recheck(room, check);
        let mut removed = 0;
        for key in self.hub.members(room) {
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
    fn detach(&self, op: Op<()>) {
        if let Op::Wait(future) = op {
            self.calls.spawn(future);
        }
    }
}
