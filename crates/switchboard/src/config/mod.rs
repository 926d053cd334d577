//! What operators can set, and how it is read.
//!
//! - `settings`: every key, its type, default and documentation; the one place where a key is added (`ddp_server`,
//!   `gateway_server`, `redis_backend` and `client_commands` are parts of it)
//! - `section`: the macro behind that list, and what a key can do
//! - `kind`: types of values (numbers, sizes, durations …); `rooms`, `hooks`, `users`, `applications`, `network`,
//!   `text_list`, `node_name` and `secret` are special ones; `fields` is tables inside them
//! - `load`: default, file, environment, `--set`, in this order; `layer` puts one over the other, `environment` finds
//!   ours among the variables
//! - `check`: values that do not go together
//! - `problem`: what is wrong and where, `nearest`: which name was meant
//! - `render`: reference, example file and effective values as text
//!
//! Nothing here opens a socket, reads a certificate or looks at the process: environment and working directory are
//! arguments, so that a test is a table.

mod applications;
mod check;
mod client_commands;
mod ddp_server;
mod environment;
mod fields;
mod gateway_server;
mod hooks;
mod kind;
mod layer;
mod load;
mod nearest;
mod network;
mod node_name;
mod problem;
mod redis_backend;
mod render;
mod rooms;
mod secret;
mod section;
mod settings;
#[cfg(test)]
mod tests;
mod text_list;
mod users;

pub use applications::Application;
pub use client_commands::Commands;
pub use ddp_server::{DdpServer, ExtraMembers};
pub use gateway_server::{DuplicateShard, Gateway, GatewayServer};
pub(crate) use kind::parse_duration;

pub use hooks::{HttpUrl, OnFailure, RemoteAction};
pub use load::{DEFAULT_FILE, LoadOptions, Loaded, Origins};
pub use network::{BadNetwork, Network};
pub use problem::{ConfigError, Origin, Problem};
pub use redis_backend::{Redis, RedisServers};
pub use render::{KeyInfo, example, keys, reference, show};
pub use rooms::{AuthValue, StartingRoom};
pub use secret::Secret;
pub use settings::{
    ActionHook, Actions, Admin, Backend, BackendKind, Compat, Config, ConnectHook, Degraded, Files, Hooks, JoinHook,
    LeaveHook, Limits, Log, LogFormat, Node, Rooms, SayHook, Servers, SlowConsumer, SocketServer, Tls, WebServer,
    WebSocketServer,
};
pub use users::{Password, User};
