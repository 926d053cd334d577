//! What is done every few seconds: the store is told what is known here, and forgets what has expired.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::MissedTickBehavior;

use crate::backend::sessions::shards::{Fenced, ShardNote};

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
        if gateway.has_failed.swap(false, Ordering::Relaxed) && self.detach_strays().await.is_err() {
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

    /// Detaches sessions that the store says we carry, and that no connection does: the step in which one began, or was let
    /// go, failed and was made all the same.
    async fn detach_strays(&self) -> Result<(), ()> {
        let gateway = &self.0.gateway;
        let records = self.0.sessions.shards(gateway.clock.now_ms()).await.map_err(|error| drop(unavailable(error)))?;
        for record in records {
            let Some(owner) = &record.owner else { continue };
            let is_ours = owner.node == gateway.node;
            let is_open = self.0.registry.locate(owner.connection).is_some();
            if !is_ours || is_open || gateway.lives.of_session(record.id).is_some() {
                continue;
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
        Ok(())
    }
}
