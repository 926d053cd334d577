//! The session store of one process, for its life.

use std::sync::{Mutex, MutexGuard, PoisonError};

use switchboard_proto::id::RoomName;

use super::{Change, Clocks, MAX_CLOCKS, SessionStore, State, Token, TokenHash};
use crate::backend::BackendError;
use crate::op::Op;

/// Keeps everything in this process's memory. Every operation is ready at once.
#[derive(Debug)]
pub struct MemorySessions {
    state: Mutex<State>,
    clocks: Mutex<Clocks>,
}

impl MemorySessions {
    /// An empty store. Of one user at most `max_user_rooms` rooms are kept.
    pub fn new(max_user_rooms: usize) -> Self {
        let clocks = Clocks::new(MAX_CLOCKS, 0, u64::MAX);
        Self { state: Mutex::new(State::new(max_user_rooms)), clocks: Mutex::new(clocks) }
    }

    fn change<T>(&self, change: &Change, result: fn(usize) -> T) -> Op<Result<T, BackendError>> {
        Op::Ready(lock(&self.state).apply(change, &mut |_| {}).map(result))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing under these locks can panic half way.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl SessionStore for MemorySessions {
    fn add_token(&self, token: Token, max_tokens_per_user: usize) -> Op<Result<(), BackendError>> {
        self.change(&Change::AddToken { token, max_of_user: max_tokens_per_user }, drop)
    }

    fn token(&self, hash: &TokenHash) -> Op<Result<Option<Token>, BackendError>> {
        Op::Ready(Ok(lock(&self.state).token(hash).cloned()))
    }

    fn remove_token(&self, hash: &TokenHash) -> Op<Result<bool, BackendError>> {
        self.change(&Change::RemoveToken(*hash), |count| count > 0)
    }

    fn drop_expired(&self, now_ms: u64) -> Op<Result<usize, BackendError>> {
        self.change(&Change::DropExpired { now_ms }, |count| count)
    }

    fn add_user_room(&self, user: &str, room: &RoomName) -> Op<Result<bool, BackendError>> {
        self.change(&Change::AddUserRoom { user: user.into(), room: room.clone() }, |count| count > 0)
    }

    fn remove_user_room(&self, user: &str, room: &RoomName) -> Op<Result<bool, BackendError>> {
        self.change(&Change::RemoveUserRoom { user: user.into(), room: room.clone() }, |count| count > 0)
    }

    fn user_rooms(&self, user: &str) -> Op<Result<Vec<RoomName>, BackendError>> {
        Op::Ready(Ok(lock(&self.state).user_rooms(user)))
    }

    fn forget_room(&self, room: &RoomName) -> Op<Result<(), BackendError>> {
        self.change(&Change::ForgetRoom(room.clone()), drop)
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
