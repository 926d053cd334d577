//! Connections by their tags.

use std::collections::{HashMap, HashSet};

use switchboard_proto::id::ConnId;

use crate::visits::visit;

/// The connections that have each tag.
#[derive(Debug, Default)]
pub(super) struct TagIndex(HashMap<String, HashSet<ConnId>>);

impl TagIndex {
    /// Lists a connection under the tags that it has now, and no longer under those that it had before.
    pub(super) fn change(&mut self, id: ConnId, before: &[String], after: &[String]) {
        for tag in before {
            if let Some(connections) = self.0.get_mut(tag) {
                connections.remove(&id);
                if connections.is_empty() {
                    self.0.remove(tag);
                }
            }
        }
        for tag in after {
            self.0.entry(tag.clone()).or_default().insert(id);
        }
    }

    /// The connections with a tag, in no order.
    pub(super) fn of(&self, tag: &str) -> Vec<ConnId> {
        self.0.get(tag).into_iter().flatten().inspect(|_| visit()).copied().collect()
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
