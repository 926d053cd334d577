//! Ids of publications, so that one that is repeated is known.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use ring::digest::{Context, SHA256};

use super::ShardRow;
use crate::backend::sessions::shards::ShardDelivery;

/// The SHA-256 of an application and the id of one of its publications: as long as any other, whatever was chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in crate::backend) struct PublicationKey(pub(in crate::backend) [u8; 32]);

impl PublicationKey {
    pub(in crate::backend) fn of(application: &str, id: &str) -> Self {
        let mut digest = Context::new(&SHA256);
        digest.update(&(application.len() as u64).to_le_bytes());
        digest.update(application.as_bytes());
        digest.update(id.as_bytes());
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest.finish().as_ref());
        Self(bytes)
    }
}

/// What became of a publication with an id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::backend) struct RememberedPublication {
    pub(in crate::backend) order: u64,
    pub(in crate::backend) at_ms: u64,
    pub(in crate::backend) deliveries: Arc<[ShardDelivery]>,
}

impl RememberedPublication {
    /// As how many it counts: it is as large as its deliveries are many.
    fn weight(&self) -> usize {
        self.deliveries.len().max(1)
    }
}

/// The publications that are remembered.
#[derive(Clone, Debug, Default)]
pub(super) struct Published {
    by_key: HashMap<PublicationKey, RememberedPublication>,
    /// The oldest first, all of them.
    oldest: VecDeque<PublicationKey>,
    weight: usize,
    next_order: u64,
}

impl Published {
    /// Puts back one that was kept: the older before the younger.
    pub(super) fn restore(&mut self, key: PublicationKey, publication: RememberedPublication) {
        self.next_order = self.next_order.max(publication.order.saturating_add(1));
        self.weight += publication.weight();
        self.oldest.push_back(key);
        self.by_key.insert(key, publication);
    }

    /// What was published under this id.
    pub(super) fn find(&self, key: &PublicationKey) -> Option<&RememberedPublication> {
        self.by_key.get(key)
    }

    /// Remembers one whose id is not known, and forgets the oldest beyond `max`.
    pub(super) fn add(
        &mut self,
        key: PublicationKey,
        deliveries: &[ShardDelivery],
        max: usize,
        now_ms: u64,
        note: &mut dyn FnMut(ShardRow<'_>),
    ) {
        let publication =
            RememberedPublication { order: self.next_order, at_ms: now_ms, deliveries: deliveries.into() };
        note(ShardRow::Published { key: &key, publication: &publication });
        self.restore(key, publication);
        while self.weight > max {
            self.forget_oldest(note);
        }
    }

    /// Forgets those that are older than `memory_ms`.
    pub(super) fn forget_old(&mut self, memory_ms: u64, now_ms: u64, note: &mut dyn FnMut(ShardRow<'_>)) {
        let is_old = |at_ms: u64| now_ms.saturating_sub(at_ms) >= memory_ms;
        while self.oldest.front().and_then(|key| self.by_key.get(key)).is_some_and(|oldest| is_old(oldest.at_ms)) {
            self.forget_oldest(note);
        }
    }

    fn forget_oldest(&mut self, note: &mut dyn FnMut(ShardRow<'_>)) {
        let Some(key) = self.oldest.pop_front() else { return };
        if let Some(oldest) = self.by_key.remove(&key) {
            self.weight -= oldest.weight();
            note(ShardRow::NotPublished { order: oldest.order });
        }
    }
}
