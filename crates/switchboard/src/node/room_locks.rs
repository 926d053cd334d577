//! Locks of rooms that are held across awaits: one for each room, while a task has it or waits for it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use switchboard_proto::id::RoomName;
use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};

/// The locks of all rooms. No two rooms share one, so a task may hold one while it waits for another node.
#[derive(Debug, Default)]
pub(super) struct RoomLocks(Mutex<HashMap<RoomName, Arc<AsyncMutex<()>>>>);

/// The lock of one room, until it is dropped.
#[derive(Debug)]
pub(super) struct RoomLock<'a> {
    locks: &'a RoomLocks,
    room: &'a RoomName,
    lock: Arc<AsyncMutex<()>>,
    guard: Option<OwnedMutexGuard<()>>,
}

impl RoomLocks {
    /// Waits until no other task has the lock of this room.
    pub(super) async fn of<'a>(&'a self, room: &'a RoomName) -> RoomLock<'a> {
        let lock = Arc::clone(self.locks().entry(room.clone()).or_default());
        // Dropped while it waits, it takes the lock off the list as well.
        let mut held = RoomLock { locks: self, room, lock, guard: None };
        held.guard = Some(Arc::clone(&held.lock).lock_owned().await);
        held
    }

    fn locks(&self) -> MutexGuard<'_, HashMap<RoomName, Arc<AsyncMutex<()>>>> {
        // No code under this lock panics.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for RoomLock<'_> {
    fn drop(&mut self) {
        let mut locks = self.locks.locks();
        self.guard = None;
        // This lock and the list: no other task has it or waits for it.
        if Arc::strong_count(&self.lock) == 2 {
            locks.remove(self.room);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    fn room(number: usize) -> RoomName {
        RoomName::parse(&format!("r{number}")).unwrap()
    }

    #[test]
    fn no_room_waits_for_the_lock_of_another_room() {
        let locks = RoomLocks::default();
        let rooms: Vec<RoomName> = (0..1000).map(room).collect();
        let cx = &mut Context::from_waker(Waker::noop());
        let held: Vec<RoomLock<'_>> = rooms
            .iter()
            .map(|room| match pin!(locks.of(room)).poll(cx) {
                Poll::Ready(lock) => lock,
                Poll::Pending => panic!("{room} waits for the lock of another room"),
            })
            .collect();
        assert!(rooms.iter().all(|room| pin!(locks.of(room)).poll(cx).is_pending()), "each has its own lock");
        drop(held);
        assert!(locks.locks().is_empty(), "no lock is kept that no task has");
    }

    #[test]
    fn a_task_that_stops_waiting_leaves_nothing_behind() {
        let locks = RoomLocks::default();
        let cx = &mut Context::from_waker(Waker::noop());
        let name = room(1);
        let Poll::Ready(held) = pin!(locks.of(&name)).poll(cx) else { panic!("it is free") };
        {
            let mut waiting = pin!(locks.of(&name));
            assert!(waiting.as_mut().poll(cx).is_pending());
            drop(held);
            assert_eq!(locks.locks().len(), 1, "it is waited for");
        }
        assert!(locks.locks().is_empty());
    }
}
