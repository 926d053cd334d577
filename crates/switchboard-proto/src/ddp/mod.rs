//! DDP: what bots built on Rocket.Chat's SDK speak, over a WebSocket.
//!
//! Specification: docs/protocols/ddp.md.

mod settings;
pub(crate) mod wire;

use crate::call::{CallError, Outcome};
use crate::close::CloseReason;
use crate::event::Event;
use crate::face::{Cx, Face};
use crate::frame::ws::{self, WsFrame};
use crate::id::{RoomName, Token};
use crate::wire::Hears;

pub use settings::DdpSettings;

/// One client's conversation in DDP.
#[derive(Debug, Default)]
pub struct DdpFace {}

impl Face for DdpFace {
    type Frame<'a> = WsFrame<'a>;

    fn on_open(&mut self, _: &mut Cx<'_>) {}

    fn on_frame(&mut self, frame: WsFrame<'_>, cx: &mut Cx<'_>) {
        if let WsFrame::Close { code, .. } = frame {
            ws::write_close(&mut cx.fx.bytes, code, "");
            cx.fx.close = Some(CloseReason::ClientLeft);
        }
    }

    fn on_outcome(&mut self, _: Token, _: Outcome, _: &mut Cx<'_>) {}

    fn on_event(&mut self, _: &Event, _: &mut Cx<'_>) -> bool {
        false
    }

    fn on_deadline(&mut self, _: &mut Cx<'_>) {}

    fn on_break(&mut self, _: &mut Cx<'_>) {}

    fn on_shutdown(&mut self, cx: &mut Cx<'_>) {
        close(CloseReason::Shutdown, cx);
    }

    fn on_refused(&mut self, _: &CallError, cx: &mut Cx<'_>) {
        close(CloseReason::Refused, cx);
    }

    fn on_removed(&mut self, cx: &mut Cx<'_>) {
        close(CloseReason::Removed, cx);
    }

    fn hears(&self, _: &RoomName, _: bool) -> Hears {
        Hears::NOTHING
    }
}

fn close(reason: CloseReason, cx: &mut Cx<'_>) {
    ws::write_close(&mut cx.fx.bytes, Some(reason.websocket_code()), "");
    cx.fx.close = Some(reason);
}
