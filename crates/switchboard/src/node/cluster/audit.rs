//! What is noted in the directory, compared with what is: a part of the rooms at a time, for ever. And noted again at once, when the
//! store has forgotten it.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use switchboard_proto::call::CallError;
use switchboard_proto::id::{ConnId, RoomName};
use tokio::time::MissedTickBehavior;

use crate::backend::shared::{Comparison, Left};
use crate::backend::{Pattern, SharedDirectory};
use crate::hub::mail::Ask;
use crate::op::all;

use super::super::Node;
use super::super::chat::unavailable;
use super::Peers;

/// In so many parts the rooms are looked at, spread over `backend.redis.audit_interval`.
const PARTS: u32 = 10;

/// Rooms that are looked at together.
const TOGETHER: usize = 16;

/// Pause after the store has failed.
const PAUSE: Duration = Duration::from_millis(200);

impl Node {
    /// Compares for as long as there is a node.
    pub(in crate::node) fn keep_directory_true(&self) {
        let Some(interval) = self.peers().map(|peers| peers.life.audit_interval) else { return };
        let inner = Arc::downgrade(&self.0);
        self.spawn(Box::pin(async move {
            let mut parts = tokio::time::interval(interval / PARTS);
            parts.set_missed_tick_behavior(MissedTickBehavior::Delay);
            let mut rooms: Vec<RoomName> = Vec::new();
            let mut share = 1;
            loop {
                parts.tick().await;
                let Some(node) = inner.upgrade().map(Node) else { return };
                if node.cut_off().is_some() {
                    continue;
                }
                if node.peers().is_some_and(|peers| peers.life.is_to_restore.load(Ordering::Acquire)) {
                    // The attempt at the change of state gave up while the node was cut off.
                    node.mend_directory().await;
                }
                if rooms.is_empty() {
                    rooms = node.rooms_to_compare().await;
                    share = rooms.len().div_ceil(PARTS as usize).max(1);
                }
                let part = rooms.split_off(rooms.len().saturating_sub(share));
                if let Err(error) = node.compare_rooms(&part).await {
                    tracing::debug!(%error, "rooms could not be compared with what is noted of them");
                }
            }
        }));
    }

    /// The rooms that this node looks at: those that it has members in, and its share of the others.
    async fn rooms_to_compare(&self) -> Vec<RoomName> {
        let (Some(peers), Some(directory)) = (self.peers(), self.0.directory.shared()) else { return Vec::new() };
        // A failure has been counted, and comes to light elsewhere too.
        let mut rooms = directory.all_rooms().await.unwrap_or_default();
        let held: HashSet<RoomName> = directory.held_rooms().into_iter().collect();
        let nodes = peers.nodes();
        let own = nodes.iter().position(|node| node.slot == peers.slot()).unwrap_or_default() as u64;
        let is_mine = |room: &RoomName| {
            let mut hasher = DefaultHasher::new();
            room.hash(&mut hasher);
            hasher.finish() % nodes.len().max(1) as u64 == own
        };
        rooms.retain(|room| held.contains(room) || is_mine(room));
        rooms
    }

    /// The cluster is there again: what the store has forgotten is noted again, and what was missed meanwhile is looked at.
    pub(super) async fn mend_directory(&self) {
        let Some(peers) = self.peers() else { return };
        while peers.life.is_to_restore.swap(false, Ordering::AcqRel) {
            if let Err(error) = self.restore(peers).await {
                tracing::warn!(%error, "rooms and revocations of this node not all stored again; retrying");
                peers.life.is_to_restore.store(true, Ordering::Release);
                tokio::time::sleep(PAUSE).await;
                if self.cut_off().is_some() {
                    // The audit tries again when the node is not cut off any longer.
                    return;
                }
            }
        }
        let rooms = self.rooms_to_compare().await;
        if let Err(error) = self.compare_rooms(&rooms).await {
            tracing::debug!(%error, "rooms could not be compared with what is noted of them");
        }
    }

    /// Stores again what the store may have lost: revocations, and the rooms of this node.
    async fn restore(&self, peers: &Peers) -> Result<(), CallError> {
        // Members must not wait for thousands of revocations, nor a revocation for the rooms.
        let (revoked, restored) = tokio::join!(self.0.sessions.revoke_again(), self.restore_rooms(peers));
        revoked.map_err(unavailable).and(restored)
    }

    /// Makes all rooms again that this node has members in, and those of the configuration.
    async fn restore_rooms(&self, peers: &Peers) -> Result<(), CallError> {
        let Some(directory) = self.0.directory.shared() else { return Ok(()) };
        let _mending = peers.life.mending.lock().await;
        self.end_gateway_sessions().await;
        let held = directory.held_rooms().into_iter().map(|room| (room, None));
        let starting = peers.life.starting.iter().map(|(room, pattern)| (room.clone(), Some(pattern.clone())));
        // First what members are in: this node knows the latest pattern of those.
        let rooms: Vec<(RoomName, Option<Pattern>)> = held.chain(starting).collect();
        for rooms in rooms.chunks(TOGETHER) {
            let restoring = rooms.iter().map(|(room, pattern)| async move {
                if directory.restore(room, pattern.clone()).await.map_err(unavailable)? {
                    self.0.broker.open(room).await.map_err(unavailable)?;
                }
                Ok(())
            });
            all(restoring).await.into_iter().collect::<Result<(), CallError>>()?;
        }
        Ok(())
    }

    /// Compares what is noted of these rooms with what is, and puts right what differs.
    pub(super) async fn compare_rooms(&self, rooms: &[RoomName]) -> Result<(), CallError> {
        let (Some(peers), Some(directory)) = (self.peers(), self.0.directory.shared()) else { return Ok(()) };
        let _mending = peers.life.mending.lock().await;
        for rooms in rooms.chunks(TOGETHER) {
            self.end_orphans(peers, directory, rooms).await?;
            let comparisons = all(rooms.iter().map(|room| directory.compare(room).into_future())).await;
            // Only this node announces the members that it removed from one room, even after an error in another.
            let mut result = Ok(());
            for (room, comparison) in rooms.iter().zip(comparisons) {
                let settled = match comparison {
                    Ok(found) => self.settle_comparison(peers, room, found).await,
                    Err(error) => Err(unavailable(error)),
                };
                result = result.and(settled);
            }
            result?;
        }
        Ok(())
    }

    /// Takes out members that no worker and no session is any more.
    async fn end_orphans(
        &self,
        peers: &Peers,
        directory: &dyn SharedDirectory,
        rooms: &[RoomName],
    ) -> Result<(), CallError> {
        // Held before it is asked who is there: whoever comes later is not looked at.
        let held: Vec<(&RoomName, ConnId, u64)> = rooms
            .iter()
            .flat_map(|room| directory.held_in(room).into_iter().map(move |(id, number)| (room, id, number)))
            .collect();
        if held.is_empty() {
            return Ok(());
        }
        let asked: Arc<[RoomName]> = rooms.into();
        let answers = self.ask_all(|reply| Ask::Occupants(Arc::clone(&asked), reply)).await;
        if answers.len() != self.0.workers.len() {
            // A worker that does not answer says nothing about who is there.
            return Ok(());
        }
        let present: HashSet<(RoomName, ConnId)> = answers.into_iter().flatten().collect();
        for (room, id, number) in held {
            let is_there = present.contains(&(room.clone(), id)) || (id.is_session() && self.has_seat(id, room));
            if !is_there && directory.end_orphan(room, id, number).await.map_err(unavailable)? {
                peers.life.corrections().noted.stale += 1;
            }
        }
        Ok(())
    }

    async fn settle_comparison(&self, peers: &Peers, room: &RoomName, found: Comparison) -> Result<(), CallError> {
        let Comparison { mended, departed, left } = found;
        {
            let noted = &mut peers.life.corrections().noted;
            noted.missing += mended.missing;
            noted.stale += mended.stale;
            noted.foreign += mended.foreign;
            noted.garbage += mended.garbage;
            noted.rooms += mended.rooms;
        }
        for one in departed {
            self.tell_departure(one, room);
        }
        match left {
            Left::Nothing => {}
            Left::Evict => {
                tracing::warn!(room = %room.as_str().escape_debug(), "a room was destroyed, and this node was not told");
                peers.life.corrections().evicted += 1;
                self.heed_end_of_room(room).await?;
            }
            Left::Destroy => {
                peers.life.corrections().noted.rooms += 1;
                self.0.broker.close(room).await.map_err(unavailable)?;
                self.heed_end_of_room(room).await?;
                self.forget_room(room).await?;
            }
            Left::Reopen => self.0.broker.open(room).await.map_err(unavailable)?,
            Left::Recheck { version, pattern } => {
                peers.life.corrections().rechecked += 1;
                let _heeding = self.0.rooms_heeded.of(room).await;
                // A pattern that was set since the comparison counts, or this would undo it.
                let later = self.0.directory.room(room).await.ok().flatten().filter(|info| info.version > version);
                let (pattern, version) = later.map_or((pattern, version), |info| (info.pattern, info.version));
                self.recheck(room, pattern, version).await;
            }
        }
        Ok(())
    }
}
