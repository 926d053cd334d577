//! Nodes that come and go, and this one that was taken for dead.

use crate::backend::cluster::ClusterEvent;

use super::super::Node;

impl Node {
    /// This node stops as planned: the others put in order what it leaves.
    pub(crate) async fn leave_cluster(&self) {
        if let Some(peers) = self.peers() {
            peers.cluster().leave().await;
        }
    }

    pub(super) async fn note_life(&self, event: ClusterEvent) {
        tracing::debug!(?event, "the cluster has changed");
    }
}
