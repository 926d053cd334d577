//! What a face wants done.

use std::sync::Arc;

use crate::call::{Call, Content};
use crate::close::CloseReason;
use crate::id::Token;

/// What a face wants done after one step, collected in an out-parameter.
///
/// The owner applies them in the order of the fields: bytes, then content, then the call, then the close. One step of
/// a face makes at most one call. The byte buffer is the owner's and outlives the step, so that the answers to many
/// frames gather in one place and leave in one write.
#[derive(Debug, Default)]
pub struct Effects {
    /// Bytes for this connection.
    pub bytes: Vec<u8>,
    /// Content to stream to this connection behind `bytes`.
    pub content: Option<Arc<dyn Content>>,
    /// A request to the node.
    pub call: Option<(Token, Call)>,
    /// End the connection once everything before has been written.
    pub close: Option<CloseReason>,
    /// What this connection hears of its rooms is another than before: ask `Peer::hears` again.
    pub rehear: bool,
    /// What is written now cannot be left out: the client could not read what comes behind it.
    pub indispensable: bool,
    /// There is more to say than should wait: call `on_drained` once the client has taken what waits.
    pub more: bool,
    /// Call `on_deadline` once the monotonic clock shows this many milliseconds.
    pub wake_at_ms: Option<u64>,
}
