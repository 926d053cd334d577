//! What nodes say to each other about commands.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use switchboard_proto::call::CallError;

use crate::backend::cluster::NodeEntry;

use super::super::Node;

/// A question.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(in crate::node) enum Question {}

/// A note.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(in crate::node) enum Note {}

impl Node {
    /// A node is not there any more: the sessions that it had end.
    pub(super) fn commands_of_node_gone(&self, _node: &NodeEntry) {}

    pub(super) async fn answer_about_commands(
        &self,
        _from: u16,
        question: Question,
    ) -> Result<Box<RawValue>, CallError> {
        match question {}
    }

    pub(super) fn heed_commands(&self, _from: u16, note: Note) {
        match note {}
    }
}
