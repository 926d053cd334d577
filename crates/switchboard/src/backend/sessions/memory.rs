//! The session store of one process, for its life.

use std::sync::{Mutex, MutexGuard, PoisonError};

use switchboard_proto::id::RoomName;

use super::shards::ShardLimits;
use super::{Change, Clocks, Kept, MAX_CLOCKS, Outcome, SessionStore, State, Token, TokenHash, mismatch};
use crate::backend::BackendError;
use crate::op::Op;

/// Keeps everything in this process's memory. Every operation is ready at once.
#[derive(Debug)]
pub struct MemorySessions {
    state: Mutex<State>,
    clocks: Mutex<Clocks>,
}

impl MemorySessions {
    /// An empty store. Of one user, and of one session of a shard, at most `max_user_rooms` rooms are kept.
    pub fn new(max_user_rooms: usize, shard_limits: ShardLimits) -> Self {
        let clocks = Clocks::new(MAX_CLOCKS, 0, u64::MAX);
        let state = State::new(max_user_rooms, shard_limits, fastrand::u64(..));
        Self { state: Mutex::new(state), clocks: Mutex::new(clocks) }
    }

    fn count<T: 'static>(&self, change: Change, result: fn(usize) -> T) -> Op<Result<T, BackendError>> {
        self.make(change, Outcome::count).map(move |count| count.map(result))
    }
}

impl Kept for MemorySessions {
    fn make<T: 'static>(&self, change: Change, pick: fn(Outcome) -> Option<T>) -> Op<Result<T, BackendError>> {
        let made = lock(&self.state).apply(&change, &mut |_| {});
        Op::Ready(made.and_then(|outcome| pick(outcome).ok_or_else(mismatch)))
    }

    fn see<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&lock(&self.state))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing under these locks can panic half way.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl SessionStore for MemorySessions {
    fn add_token(&self, token: Token, max_tokens_per_user: usize) -> Op<Result<(), BackendError>> {
        self.count(Change::AddToken { token, max_of_user: max_tokens_per_user }, drop)
    }

    fn token(&self, hash: &TokenHash) -> Op<Result<Option<Token>, BackendError>> {
        Op::Ready(Ok(self.see(|state| state.token(hash).cloned())))
    }

    fn tokens_of(&self, user: &str) -> Op<Result<Vec<TokenHash>, BackendError>> {
        Op::Ready(Ok(self.see(|state| state.tokens_of(user))))
    }

    fn remove_token(&self, hash: &TokenHash) -> Op<Result<bool, BackendError>> {
        self.count(Change::RemoveToken(*hash), |count| count > 0)
    }

    fn drop_expired(&self, now_ms: u64) -> Op<Result<usize, BackendError>> {
        self.count(Change::DropExpired { now_ms }, |count| count)
    }

    fn add_user_room(&self, user: &str, room: &RoomName) -> Op<Result<bool, BackendError>> {
        self.count(Change::AddUserRoom { user: user.into(), room: room.clone() }, |count| count > 0)
    }

    fn remove_user_room(&self, user: &str, room: &RoomName) -> Op<Result<bool, BackendError>> {
        self.count(Change::RemoveUserRoom { user: user.into(), room: room.clone() }, |count| count > 0)
    }

    fn user_rooms(&self, user: &str) -> Op<Result<Vec<RoomName>, BackendError>> {
        Op::Ready(Ok(self.see(|state| state.user_rooms(user))))
    }

    fn forget_room(&self, room: &RoomName) -> Op<Result<(), BackendError>> {
        self.count(Change::ForgetRoom(room.clone()), drop)
    }

    fn next_command_time(&self, who: &str, now_ms: u64) -> Op<Result<u64, BackendError>> {
        let time = lock(&self.clocks).next(who, now_ms);
        Op::Ready(time.map_err(|_| BackendError("the end of time was reached".into())))
    }

    fn forget_clock(&self, who: &str) {
        lock(&self.clocks).forget(who);
    }

    fn survives_restart(&self) -> bool {
        false
    }
}
