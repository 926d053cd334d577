//! Sessions of shards, as every store serves them that keeps a [`State`] to read from.

use std::fmt;

use switchboard_proto::id::{ConnId, RoomName};
use switchboard_proto::shard::{LogPart, ShardRefusal};

use super::shards::*;
use super::state::{Change, Outcome, PublicationKey, ShardChange, ShardOutcome, Shards, State};
use crate::backend::BackendError;
use crate::op::Op;

/// A store that makes changes and shows what it keeps.
pub(in crate::backend) trait Kept: fmt::Debug + Send + Sync {
    /// Makes a change, in the order of the calls and whether or not anybody waits for it, and picks its result.
    fn make<T: 'static>(&self, change: Change, pick: fn(Outcome) -> Option<T>) -> Op<Result<T, BackendError>>;

    /// Looks at what is kept now, briefly: others wait.
    fn see<T>(&self, look: impl FnOnce(&State) -> T) -> T;
}

/// A change brought something else than it should.
pub(in crate::backend) fn mismatch() -> BackendError {
    BackendError("the store has answered another question".into())
}

fn make<T: 'static>(
    store: &impl Kept,
    change: ShardChange,
    pick: fn(ShardOutcome) -> Option<T>,
) -> Op<Result<T, BackendError>> {
    store
        .make(Change::Shard(change), |outcome| match outcome {
            Outcome::Shard(outcome) => Some(outcome),
            Outcome::Count(_) => None,
        })
        .map(move |made| made.and_then(|outcome| pick(outcome).ok_or_else(mismatch)))
}

/// What is picked of an outcome: `picks!(Appended)` is `fn(ShardOutcome) -> Option<_>`.
macro_rules! picks {
    ($outcome:ident) => {
        |outcome| match outcome {
            ShardOutcome::$outcome(result) => Some(result),
            _ => None,
        }
    };
}

fn see<S: Kept, T>(store: &S, look: impl FnOnce(&Shards) -> T) -> Op<Result<T, BackendError>> {
    Op::Ready(Ok(store.see(|state| look(state.shards()))))
}

impl<S: Kept> ShardStore for S {
    fn begin_shard(&self, begin: BeginShard) -> Op<Result<Result<BegunShard, ShardRefusal>, BackendError>> {
        make(self, ShardChange::Begin(Box::new(begin)), picks!(Begun)).map(|made| made.map(|begun| begun.map(|it| *it)))
    }

    fn resume_shard(&self, resume: ResumeShard) -> Op<Result<Option<ResumedShard>, BackendError>> {
        make(self, ShardChange::Resume(Box::new(resume)), picks!(Resumed))
            .map(|made| made.map(|resumed| resumed.map(|it| *it)))
    }

    fn detach_shard(&self, note: ShardNote, now_ms: u64) -> Op<Result<Result<(), Fenced>, BackendError>> {
        make(self, ShardChange::Detach { note, now_ms }, picks!(Detached))
    }

    fn end_shard(&self, id: ConnId, generation: Option<u64>) -> Op<Result<Option<EndedShard>, BackendError>> {
        make(self, ShardChange::End { id, generation }, picks!(Ended))
    }

    fn note_shards(&self, notes: Vec<ShardNote>) -> Op<Result<(), BackendError>> {
        make(self, ShardChange::Note(notes), |outcome| matches!(outcome, ShardOutcome::Noted).then_some(()))
    }

    fn acknowledge(&self, id: ConnId, generation: u64, seq: u64) -> Op<Result<Result<(), AckRefusal>, BackendError>> {
        let checked = self.see(|state| state.shards().check_acknowledge(id, generation, seq));
        if checked == Ok(true) {
            // Nobody waits for it: one that is lost costs memory until the next.
            drop(make(self, ShardChange::Acknowledge { id, generation, seq }, picks!(Acknowledged)));
        }
        Op::Ready(Ok(checked.map(drop)))
    }

    fn publish(&self, publication: Publication) -> Op<Result<Option<PublishedEvent>, BackendError>> {
        let key = publication.id.as_ref().map(|id| PublicationKey::of(&publication.fleet.application, id));
        make(self, ShardChange::Publish { publication: Box::new(publication), key }, picks!(Published))
    }

    fn append(&self, append: Append) -> Op<Result<Option<u64>, BackendError>> {
        make(self, ShardChange::Append(Box::new(append)), picks!(Appended))
    }

    fn read_log(&self, read: ReadLog) -> Op<Result<Result<LogPart, ReadRefusal>, BackendError>> {
        see(self, |shards| shards.read(&read))
    }

    fn fleet(&self, fleet: &Fleet, now_ms: u64) -> Op<Result<Vec<ShardRecord>, BackendError>> {
        see(self, |shards| shards.fleet(fleet, now_ms))
    }

    fn shard(&self, id: ConnId, now_ms: u64) -> Op<Result<Option<ShardRecord>, BackendError>> {
        see(self, |shards| shards.one(id, now_ms))
    }

    fn shards(&self, now_ms: u64) -> Op<Result<Vec<ShardRecord>, BackendError>> {
        see(self, |shards| shards.all(now_ms))
    }

    fn shards_after(
        &self,
        after: Option<ShardKey>,
        limit: usize,
        now_ms: u64,
    ) -> Op<Result<Vec<ShardRecord>, BackendError>> {
        see(self, |shards| shards.after(after.as_ref(), limit, now_ms))
    }

    fn totals(&self) -> Option<ShardTotals> {
        Some(self.see(|state| state.shards().totals()))
    }

    fn read_totals(&self) -> Op<Result<ShardTotals, BackendError>> {
        see(self, Shards::totals)
    }

    fn starts(&self, application: &str, limits: StartLimits, now_ms: u64) -> Op<Result<StartsLeft, BackendError>> {
        see(self, |shards| shards.starts_left(application, limits, now_ms))
    }

    fn add_shard_room(&self, id: ConnId, room: &RoomName, number: u64) -> Op<Result<bool, BackendError>> {
        make(self, ShardChange::AddRoom { id, room: room.clone(), number }, picks!(Room))
    }

    fn remove_shard_room(&self, id: ConnId, room: &RoomName) -> Op<Result<bool, BackendError>> {
        make(self, ShardChange::RemoveRoom { id, room: room.clone() }, picks!(Room))
    }

    fn shard_rooms(&self, id: ConnId) -> Op<Result<Vec<(RoomName, u64)>, BackendError>> {
        see(self, |shards| shards.rooms(id))
    }

    fn sweep_shards(&self, now_ms: u64) -> Op<Result<Vec<EndedShard>, BackendError>> {
        make(self, ShardChange::Sweep { now_ms }, picks!(Swept))
    }

    fn adopt_shards(&self, _from: u16, _to: u16, _now_ms: u64) -> Op<Result<Vec<ShardRecord>, BackendError>> {
        Op::Ready(Ok(Vec::new()))
    }
}
