//! What operators can set, and how it is read.

mod kind;
mod node_name;
mod rooms;
mod section;
mod settings;

pub use rooms::{AuthValue, StartingRoom};
pub use settings::{
    Actions, Compat, Config, Files, Limits, Log, LogFormat, Node, Rooms, Servers, SlowConsumer, SocketServer, Tls,
};
