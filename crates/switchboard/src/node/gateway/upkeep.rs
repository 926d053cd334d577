//! What is done every few seconds: the store is told what is known here, and forgets what has expired.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use switchboard_proto::id::ConnId;
use switchboard_proto::shard::ShardEvent;
use tokio::time::MissedTickBehavior;

use crate::backend::sessions::shards::{EndOfShard, EndedShard, Fenced, ShardNote, ShardRecord};

use super::super::Node;
use super::super::chat::unavailable;

/// How often. Figures that the store shows may be so much behind after a crash.
const PERIOD: Duration = Duration::from_secs(5);

/// Sessions that are noted in one step.
const NOTES: usize = 256;

impl Node {
    /// For as long as there is a node. Without applications there is nothing to do.
    pub(in crate::node) fn keep_shards(&self) {
        if self.0.gateway.applications.is_empty() {
            return;
        }
        let inner = Arc::downgrade(&self.0);
        self.spawn(Box::pin(async move {
            let mut periods = tokio::time::interval(PERIOD);
            periods.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                periods.tick().await;
                let Some(node) = inner.upgrade().map(Node) else { return };
                node.keep_shards_once().await;
            }
        }));
    }

    async fn keep_shards_once(&self) {
        let gateway = &self.0.gateway;
        let notes: Vec<ShardNote> = gateway.lives.all().iter().filter_map(|live| live.new_note()).collect();
        for notes in notes.chunks(NOTES) {
            if let Err(error) = self.0.sessions.note_shards(notes.to_vec()).await {
                unavailable(error);
            }
        }
        if gateway.has_failed.swap(false, Ordering::Relaxed) && self.settle_failures().await.is_err() {
            gateway.note_failure();
        }
        match self.0.sessions.sweep_shards(gateway.clock.now_ms()).await {
            Ok(ended) => {
                for ended in ended {
                    self.shard_ended(ended).await;
                }
            }
            Err(error) => drop(unavailable(error)),
        }
    }

    /// Agrees with the store again, after it has failed and may have done all the same what it was asked for. `Err`: it has to be
    /// done again.
    async fn settle_failures(&self) -> Result<(), ()> {
        let gateway = &self.0.gateway;
        let unknown = std::mem::take(&mut *gateway.unknown());
        for (index, session) in unknown.iter().enumerate() {
            match self.0.sessions.end_shard(*session, None).await {
                Ok(Some(ended)) => self.shard_ended(ended).await,
                Ok(None) => {}
                Err(error) => {
                    unavailable(error);
                    gateway.unknown().extend(&unknown[index..]);
                    return Err(());
                }
            }
        }
        // Before the records: whoever begins meanwhile is not looked at.
        let carried = gateway.lives.all();
        let records = self.0.sessions.shards(gateway.clock.now_ms()).await.map_err(|error| drop(unavailable(error)))?;
        let generations: HashMap<ConnId, u64> = records.iter().map(|record| (record.id, record.generation)).collect();
        for live in carried {
            let kept = generations.get(&live.session).copied();
            if kept.is_some_and(|kept| kept <= live.generation) || !gateway.lives.remove(&live) {
                continue;
            }
            self.tell_shard(&live, ShardEvent::Replaced(live.session));
            if kept.is_none() {
                let (id, why) = (live.session, EndOfShard::Replaced);
                self.forget_shard_rooms(&EndedShard { id, owner: None, why, rooms: Vec::new(), home: 0 }).await;
            }
        }
        self.detach_strays(records).await
    }

    /// Detaches sessions that the store says we carry, and that no connection does: the step in which one began, or was let
    /// go, failed and was made all the same. `Err`: it has to be done again, because it failed or there may be more of them.
    async fn detach_strays(&self, records: Vec<ShardRecord>) -> Result<(), ()> {
        let gateway = &self.0.gateway;
        let mut may_be_more = false;
        for record in records {
            let Some(owner) = record.owner.as_ref().filter(|owner| owner.node == gateway.node) else { continue };
            let here = gateway.lives.of_session(record.id).map(|live| live.generation);
            let is_open = self.0.registry.locate(owner.connection).is_some();
            match Stray::of(record.generation, here, is_open) {
                Stray::No => continue,
                Stray::Perhaps => {
                    may_be_more = true;
                    continue;
                }
                Stray::Yes => {}
            }
            let note = ShardNote {
                id: record.id,
                generation: record.generation,
                counts: record.counts,
                received: record.received,
            };
            let detached = self.0.sessions.detach_shard(note, gateway.clock.now_ms()).await;
            match detached {
                // A later generation is somebody's.
                Ok(Ok(()) | Err(Fenced)) => {}
                Err(error) => {
                    unavailable(error);
                    return Err(());
                }
            }
        }
        if may_be_more { Err(()) } else { Ok(()) }
    }
}

/// Whether nobody carries a session that the store says we carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stray {
    No,
    /// Its connection is open: the session may be on its way to it, or the connection is about to close.
    Perhaps,
    Yes,
}

impl Stray {
    /// A session of this `generation`, of which we carry the one that is `here`, if any. Whether the connection `is_open` that the
    /// store names.
    fn of(generation: u64, here: Option<u64>, is_open: bool) -> Self {
        match (here, is_open) {
            // Whoever carries an older one carries nothing: the step that made a later one failed and was made all the same.
            (Some(here), _) if here >= generation => Self::No,
            (_, true) => Self::Perhaps,
            (_, false) => Self::Yes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_let_go_when_its_connection_is_gone_and_nobody_has_that_generation() {
        assert_eq!(Stray::of(2, None, false), Stray::Yes);
        assert_eq!(Stray::of(2, Some(1), false), Stray::Yes, "whoever has an older one carries nothing");
        // The answer of the store is on its way, or its connection has yet to close: it is looked at again.
        assert_eq!(Stray::of(2, None, true), Stray::Perhaps);
        assert_eq!(Stray::of(2, Some(1), true), Stray::Perhaps);
        for is_open in [true, false] {
            assert_eq!(Stray::of(2, Some(2), is_open), Stray::No);
            assert_eq!(Stray::of(2, Some(3), is_open), Stray::No, "it was resumed while this was looked at");
        }
    }
}
