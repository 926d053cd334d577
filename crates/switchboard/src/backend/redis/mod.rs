//! The backend of several nodes: Redis.
//!
//! - `link`: the connection; `trouble`: what can be wrong with it; `script`: steps that run inside of Redis; `keys`: names there.
//! - `store`: all that together, and whether this node may write.
//! - `directory`: rooms and members.
//! - `nodes`: who lives; `subscriber`: published messages.
//! - `broker`: rooms; `envelope`: a message on its way; `feed`: what a node knows of a room.
//! - `sessions`: what outlives connections.

pub(crate) mod broker;
pub(crate) mod cluster;
pub(crate) mod directory;
mod envelope;
mod feed;
pub(crate) mod keys;
pub(crate) mod link;
mod nodes;
pub(crate) mod script;
pub(crate) mod sessions;
#[cfg(test)]
mod simulation;
pub(crate) mod store;
mod subscriber;
#[cfg(test)]
pub(crate) mod testing;
pub mod trouble;
