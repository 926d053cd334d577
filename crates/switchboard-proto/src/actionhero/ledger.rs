//! What a conversation keeps of its requests.

use std::num::NonZeroU64;

use serde_json::{Map, Value};

use crate::call::{ActionCall, Call};
use crate::face::Cx;
use crate::id::Token;
use crate::json::RawJson;

use super::answer::RequestId;
use super::settings::Compat;
use super::wire::Extent;

/// How many requests a client has made, and which of them are still without an answer.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    /// Requests received; the number of the latest.
    pub(super) count: u64,
    /// What later answers need and most connections never have.
    #[allow(clippy::box_collection, reason = "8 bytes in every idle connection instead of 24")]
    waiting: Option<Box<Vec<Waiting>>>,
    /// Actions asked for in all.
    pub(super) total_actions: u32,
    /// Actions asked for and not answered.
    pub(super) pending_actions: u16,
    /// Where the conversation stands; here because here it costs nothing.
    pub(super) phase: Phase,
    /// How much of room messages the client wants to see; here for the same reason.
    pub(super) extent: Extent,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Phase {
    #[default]
    Open,
    /// The first line is due at its delay.
    Welcoming,
    /// The server stops; ends with the last pending action.
    Stopping,
    /// The server stops while the first line is still due: of two deadlines the first says that line, the second goodbye.
    StoppingUnwelcomed,
}

/// A request whose answer comes later and needs more than its number.
#[derive(Debug)]
struct Waiting {
    token: Token,
    message_id: Value,
}

/// What was asked for, as far as the answer differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Action,
    ClientData,
    /// Client data that ask for extended room messages.
    ClientDataExtended,
    CommandReply,
    Details,
    Documentation,
    File,
    Join,
    Leave,
    RoomView,
    Say,
}

/// A request's token carries its number and kind, so that nothing need be kept for it.
impl Kind {
    const ALL: [Self; 11] = [
        Self::Action,
        Self::ClientData,
        Self::ClientDataExtended,
        Self::CommandReply,
        Self::Details,
        Self::Documentation,
        Self::File,
        Self::Join,
        Self::Leave,
        Self::RoomView,
        Self::Say,
    ];

    /// For up to 16 kinds.
    const BITS: u32 = 4;

    fn token(self, count: u64) -> Token {
        // Counts begin at 1, so the alternative never stands.
        Token(NonZeroU64::new(count << Self::BITS | self as u64).unwrap_or(NonZeroU64::MIN))
    }

    fn of(token: Token) -> (Self, u64) {
        let token = token.0.get();
        let kind = (token & ((1 << Self::BITS) - 1)) as usize;
        // Only what was made above comes back, so the alternative never stands.
        (Self::ALL.get(kind).copied().unwrap_or(Self::Action), token >> Self::BITS)
    }
}

impl Ledger {
    /// Hands a call to the node. What the answer needs beyond the token is kept until then.
    pub(super) fn call(&mut self, kind: Kind, message_id: Option<Value>, call: Call, cx: &mut Cx<'_>) {
        let token = kind.token(self.count);
        if let Some(message_id) = message_id {
            self.waiting.get_or_insert_default().push(Waiting { token, message_id });
        }
        cx.fx.call = Some((token, call));
    }

    /// Hands an action to the node.
    pub(super) fn call_action(
        &mut self,
        message_id: Option<Value>,
        params: std::sync::Arc<crate::params::Params>,
        compat: Compat,
        cx: &mut Cx<'_>,
    ) {
        self.pending_actions += 1;
        self.call(Kind::Action, message_id, Call::Action(ActionCall { params, missing: compat.missing() }), cx);
    }

    /// Hands client data to the node: the text of an object, and its members.
    pub(super) fn set_client_data(
        &mut self,
        message_id: Option<Value>,
        data: RawJson,
        members: &Map<String, Value>,
        cx: &mut Cx<'_>,
    ) {
        let kind = match members.get("extended") {
            Some(Value::Bool(true)) => Kind::ClientDataExtended,
            _ => Kind::ClientData,
        };
        self.call(kind, message_id, Call::SetClientData { data }, cx);
    }

    /// Client data were taken: room messages look as they ask for, from here on.
    pub(super) fn client_data_taken(&mut self, kind: Kind, cx: &mut Cx<'_>) {
        let extent = if kind == Kind::ClientDataExtended { Extent::Extended } else { Extent::Plain };
        cx.fx.rehear |= extent != self.extent;
        self.extent = extent;
    }

    /// The request whose outcome has come.
    pub(super) fn settle(&mut self, token: Token) -> (Kind, RequestId) {
        let (kind, count) = Kind::of(token);
        if kind == Kind::Action {
            self.pending_actions = self.pending_actions.saturating_sub(1);
        }
        (kind, RequestId { count, message_id: self.take_waiting(token) })
    }

    fn take_waiting(&mut self, token: Token) -> Option<Value> {
        let waiting = self.waiting.as_mut()?;
        let at = waiting.iter().position(|waiting| waiting.token == token)?;
        let found = waiting.swap_remove(at);
        if waiting.is_empty() {
            self.waiting = None;
        }
        Some(found.message_id)
    }

    pub(super) fn is_stopping(&self) -> bool {
        matches!(self.phase, Phase::Stopping | Phase::StoppingUnwelcomed)
    }

    /// Whether another action would be one too many.
    pub(super) fn is_full(&self, pending_max: usize) -> bool {
        usize::from(self.pending_actions) >= pending_max.min(usize::from(u16::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_tells_kind_and_number() {
        for (index, kind) in Kind::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, index);
            assert_eq!(Kind::of(kind.token(7)), (kind, 7));
        }
        assert!(Kind::ALL.len() <= 1 << Kind::BITS);
    }
}
