//! What a dead node leaves: its members leave their rooms, its gateway sessions go on here.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use switchboard_proto::call::CallError;
use switchboard_proto::id::{ConnId, RoomName};

use crate::backend::SharedDirectory;
use crate::backend::cluster::NodeEntry;
use crate::backend::shared::Remains;
use crate::op::all;

use super::super::Node;
use super::super::chat::unavailable;

/// Rooms that are looked at together.
const TOGETHER: usize = 64;

/// Pause after the store has failed.
const PAUSE: Duration = Duration::from_millis(200);

impl Node {
    /// Puts the affairs of a dead node in order, however often the store fails meanwhile, unless this node is taken for dead itself:
    /// then another one does.
    pub(super) async fn bury(&self, dead: NodeEntry) {
        let Some(peers) = self.peers() else { return };
        let life = peers.life.number();
        let began = tokio::time::Instant::now();
        let mut progress = Progress::default();
        while let Err(error) = self.try_bury(&dead, &mut progress).await {
            tracing::warn!(node = dead.name, slot = dead.slot, %error, "a dead node is not buried yet");
            tokio::time::sleep(PAUSE).await;
            if peers.life.number() != life {
                return;
            }
        }
        peers.life.note_buried(1, 0);
        tracing::info!(
            node = dead.name,
            slot = dead.slot,
            members = lock(&progress.announced).len(),
            took_ms = began.elapsed().as_millis() as u64,
            "the affairs of a dead node are in order"
        );
    }

    async fn try_bury(&self, dead: &NodeEntry, progress: &mut Progress) -> Result<(), CallError> {
        let (Some(peers), Some(directory)) = (self.peers(), self.0.directory.shared()) else { return Ok(()) };
        // Adopted sessions go on here: they do not leave, even if they have not returned to all their rooms yet. A retry
        // does not adopt them again, so they are kept.
        progress.adopted.extend(self.adopt_gateway_sessions(dead).await?);
        for rooms in directory.all_rooms().await.map_err(unavailable)?.chunks(TOGETHER) {
            let (adopted, announced) = (&progress.adopted, &progress.announced);
            let emptied = rooms.iter().map(|room| self.empty_room(directory, dead, room, adopted, announced));
            let emptied = all(emptied).await;
            emptied.into_iter().collect::<Result<(), CallError>>()?;
        }
        peers.cluster().buried(dead).await.map_err(unavailable)
    }

    /// Announces that the members of a dead node have left a room, and removes them. A member stays in the directory
    /// until its leave is announced: if this node dies in between, the node that cleans up next finds it there.
    async fn empty_room(
        &self,
        directory: &dyn SharedDirectory,
        dead: &NodeEntry,
        room: &RoomName,
        adopted: &HashSet<ConnId>,
        announced: &Mutex<HashSet<(RoomName, ConnId)>>,
    ) -> Result<(), CallError> {
        let mut cursor = None;
        loop {
            let Remains { left, next } = directory.left_by(dead, room, cursor).await.map_err(unavailable)?;
            if self.cut_off().is_some() {
                // The other nodes may take this one for dead, and one of them announces these.
                return Err(CallError::Unavailable);
            }
            for one in left.iter().map(|left| &left.departed).filter(|one| !adopted.contains(&one.facts.id)) {
                // A member whose removal failed, or that was read twice, was announced before.
                if lock(announced).insert((room.clone(), one.facts.id)) {
                    self.tell_departure(one.clone(), room);
                    if let Some(peers) = self.peers() {
                        peers.life.note_buried(0, 1);
                    }
                }
            }
            directory.remove_left(room, &left).await.map_err(unavailable)?;
            match next {
                Some(next) => cursor = Some(next),
                None => return Ok(()),
            }
        }
    }
}

/// Progress of the cleanup after one dead node, kept when it has to be tried again.
#[derive(Default)]
struct Progress {
    /// Sessions that go on at this node.
    adopted: HashSet<ConnId>,
    /// Members whose leaves were announced: not more than the dead node had.
    announced: Mutex<HashSet<(RoomName, ConnId)>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // No code under this lock panics.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
