//! Switchboard: a realtime connection server.
//!
//! It holds persistent connections: ActionHero's line protocol over TCP, TLS and Unix sockets, its browser protocol,
//! DDP and the gateway of bots over WebSockets, and actions over HTTP. It puts connections into chat rooms, lets an
//! application answer their actions, and asks clients to do something and collects their replies.
//!
//! ```no_run
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), switchboard::server::StartError> {
//! use switchboard::{Config, Server};
//!
//! let server = Server::builder(Config::default()).start().await?;
//! println!("{}", server.ready_line());
//! server.node().add_room("lobby").await.ok();
//! # Ok(())
//! # }
//! ```
//!
//! Read in this order: [`server`] starts and stops the server; [`node`] has every operation that an application may
//! call; [`admin`] offers them over HTTP; [`action`] has the requests that the application answers; [`hub`] delivers
//! messages to connections; `worker` is the event loop around it; [`backend`] keeps the state that outlives a
//! connection or is shared by nodes. The wire protocols are in the crate `switchboard-proto`.

#![forbid(unsafe_code)]

pub mod server;

pub mod admin;

pub mod action;
pub mod node;

pub mod backend;
pub(crate) mod clock;
pub mod command;
pub(crate) mod failures;
pub(crate) mod hex;
pub(crate) mod http_connection;
pub mod hub;
pub mod op;
pub(crate) mod password;
pub(crate) mod random;
pub mod users;
pub(crate) mod visits;
pub mod webhook;
pub(crate) mod worker;

pub mod cli;
pub mod config;
pub mod net;
pub mod telemetry;

pub use backend::Pattern;
pub use config::Config;
pub use node::hooks::{MembershipChange, SayMiddleware, Saying};
pub use node::{MockConnection, Node, Speaker};
pub use proto::call::CallError;
pub use proto::id::{ConnId, RoomName};
pub use proto::json::RawJson;
pub use server::Server;
pub use switchboard_proto as proto;

/// The pages whose Rust is compiled, and where it can be run, by `cargo test --doc`.
#[cfg(doctest)]
mod pages {
    #[doc = include_str!("../../../README.md")]
    mod readme {}
    #[doc = include_str!("../../../docs/guide/actions.md")]
    mod actions {}
    #[doc = include_str!("../../../docs/guide/chat.md")]
    mod chat {}
    #[doc = include_str!("../../../docs/guide/commands.md")]
    mod commands {}
    #[doc = include_str!("../../../docs/guide/embedding.md")]
    mod embedding {}
}
