//! Locks of rooms that are held across awaits.

use std::hash::{BuildHasher, RandomState};

use switchboard_proto::id::RoomName;
use tokio::sync::{Mutex, MutexGuard};

/// A lock for each room, which some rooms share.
#[derive(Debug)]
pub(super) struct RoomLocks {
    locks: Vec<Mutex<()>>,
    hasher: RandomState,
}

impl Default for RoomLocks {
    fn default() -> Self {
        Self { locks: (0..Self::COUNT).map(|_| Mutex::default()).collect(), hasher: RandomState::new() }
    }
}

impl RoomLocks {
    const COUNT: usize = 64;

    /// Waits until nobody else has the lock of this room.
    pub(super) async fn of(&self, room: &RoomName) -> MutexGuard<'_, ()> {
        self.locks[self.hasher.hash_one(room) as usize % Self::COUNT].lock().await
    }
}
