//! The gateway of bots and their shards.

pub mod items;
mod opening;
mod settings;

pub use opening::{Compress, HeaderNumber, Opening};
pub use settings::GatewaySettings;

use crate::call::{CallError, Outcome};
use crate::close::CloseReason;
use crate::event::Event;
use crate::face::{Cx, Face};
use crate::frame::ws::WsFrame;
use crate::id::{RoomName, Token};
use crate::wire::Hears;

/// The conversation with one shard.
#[derive(Debug)]
pub struct GatewayFace {
    opening: Opening,
}

impl GatewayFace {
    /// A conversation that has not begun.
    pub fn new(opening: Opening) -> Self {
        Self { opening }
    }

    /// The code of the close frame for a connection that is ended over its face's head.
    pub(crate) const fn close_code(reason: CloseReason) -> u16 {
        match reason {
            CloseReason::SlowConsumer => 4026,
            reason => reason.websocket_code(),
        }
    }
}

impl Face for GatewayFace {
    type Frame<'a> = WsFrame<'a>;

    fn on_open(&mut self, _: &mut Cx<'_>) {
        let _ = &self.opening;
    }

    fn on_frame(&mut self, _: WsFrame<'_>, _: &mut Cx<'_>) {}

    fn on_outcome(&mut self, _: Token, _: Outcome, _: &mut Cx<'_>) {}

    fn on_event(&mut self, _: &Event, _: &mut Cx<'_>) -> bool {
        false
    }

    fn on_deadline(&mut self, _: &mut Cx<'_>) {}

    fn on_break(&mut self, _: &mut Cx<'_>) {}

    fn on_shutdown(&mut self, _: &mut Cx<'_>) {}

    fn on_refused(&mut self, _: &CallError, _: &mut Cx<'_>) {}

    fn on_removed(&mut self, _: &mut Cx<'_>) {}

    fn hears(&self, _: &RoomName, _: bool) -> Hears {
        Hears::NOTHING
    }
}
