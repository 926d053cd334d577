//! Ids for connections that nobody knew of before.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use switchboard_proto::id::ConnId;

/// Gives ids. In a cluster they tell the node's number. Cloning shares it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ids(Arc<AtomicU16>);

impl Ids {
    /// A random id.
    pub(crate) fn fresh(&self) -> ConnId {
        let id = ConnId::from_random(uuid::Uuid::new_v4().as_u128());
        match self.0.load(Ordering::Relaxed) {
            0 => id,
            slot => id.on_node(slot),
        }
    }

    /// The node's number from now on; 0: there is no cluster.
    pub(crate) fn set_node(&self, slot: u16) {
        self.0.store(slot, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_random_and_tell_the_node_if_there_are_several() {
        let ids = Ids::default();
        let (one, other) = (ids.fresh(), ids.fresh());
        assert!(one != other && !one.is_session());
        ids.set_node(7);
        assert_eq!(ids.clone().fresh().node(), 7);
    }
}
