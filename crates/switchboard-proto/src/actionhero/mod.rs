//! ActionHero's persistent connections.
//!
//! Two conversations over the same requests and answers: [`SocketFace`] speaks the line protocol over TCP, TLS or a Unix
//! socket, [`WebSocketFace`] what browsers speak. The shapes of answers are in `answer`, the texts of refusals in `errors`, what is kept of requests in `ledger`, and
//! what room members share in `wire`.
//!
//! Specification: docs/protocols/actionhero.md. It names where we differ from the real servers and why.

mod answer;
mod errors;
mod ledger;
mod settings;
mod socket;
mod web;
mod websocket;
pub(crate) mod wire;

pub use settings::{Compat, SocketSettings, WebSocketSettings};
pub use socket::SocketFace;
pub use web::{WebAnswers, WebRefusal, file_not_found};
pub use websocket::WebSocketFace;
