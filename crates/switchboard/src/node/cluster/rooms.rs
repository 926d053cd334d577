//! What nodes say to each other about rooms.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use switchboard_proto::call::CallError;

use super::super::Node;

/// A question.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(in crate::node) enum Question {}

impl Node {
    pub(super) async fn answer_about_rooms(&self, question: Question) -> Result<Box<RawValue>, CallError> {
        match question {}
    }
}
