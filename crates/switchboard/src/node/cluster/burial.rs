//! What a dead node leaves: its members leave their rooms, its gateway sessions go on here.

use std::collections::HashSet;
use std::time::Duration;

use switchboard_proto::call::CallError;
use switchboard_proto::id::{ConnId, RoomName};

use crate::backend::SharedDirectory;
use crate::backend::cluster::NodeEntry;
use crate::backend::shared::Burial;
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
        let (mut members, mut adopted) = (0, HashSet::new());
        while let Err(error) = self.try_bury(&dead, &mut members, &mut adopted).await {
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
            members,
            took_ms = began.elapsed().as_millis() as u64,
            "the affairs of a dead node are in order"
        );
    }

    async fn try_bury(
        &self,
        dead: &NodeEntry,
        members: &mut u64,
        adopted: &mut HashSet<ConnId>,
    ) -> Result<(), CallError> {
        let (Some(peers), Some(directory)) = (self.peers(), self.0.directory.shared()) else { return Ok(()) };
        // Adopted sessions go on here: they do not leave, even if they have not returned to all their rooms yet. Each is named once.
        adopted.extend(self.adopt_gateway_sessions(dead).await?);
        let adopted = &*adopted;
        for rooms in directory.all_rooms().await.map_err(unavailable)?.chunks(TOGETHER) {
            let burials = rooms.iter().map(|room| self.empty_room(directory, dead, room, adopted));
            for emptied in all(burials).await {
                *members += emptied?;
            }
        }
        peers.cluster().buried(dead).await.map_err(unavailable)
    }

    /// Removes the members of a dead node from a room, and tells that they left. How many there were.
    async fn empty_room(
        &self,
        directory: &dyn SharedDirectory,
        dead: &NodeEntry,
        room: &RoomName,
        adopted: &HashSet<ConnId>,
    ) -> Result<u64, CallError> {
        let mut members = 0;
        loop {
            let Burial { mut departed, is_done } = directory.bury(dead, room).await.map_err(unavailable)?;
            departed.retain(|one| !adopted.contains(&one.facts.id));
            members += departed.len() as u64;
            if let Some(peers) = self.peers() {
                peers.life.note_buried(0, departed.len() as u64);
            }
            for one in departed {
                self.tell_departure(one, room);
            }
            if is_done {
                return Ok(members);
            }
        }
    }
}
