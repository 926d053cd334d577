//! Switchboard's wire protocols as pure state machines.
//!
//! Bytes and facts go in, effects come out. Nothing here opens a socket, reads a clock, draws a random number, starts
//! a thread or knows a runtime; time and fresh ids are arguments. That is what lets a whole conversation be tested as
//! text, cut at every byte and fuzzed without a server.
//!
//! Read in this order: [`call`] and [`event`] are the neutral words in the middle, [`face`] is the contract of one
//! protocol, [`frame`] says where a line or a message ends ([`frame::ws`] is a whole codec), [`peer`] joins a framer and a
//! face, [`wire`] encodes what many connections share.

pub mod id;
pub mod time;
pub mod user;

pub mod call;
pub mod command;
pub mod document;
pub mod event;
pub mod login;
pub mod shard;

pub mod close;
pub mod effect;
pub mod face;
pub mod peer;
pub mod profile;
pub mod wire;

pub mod json;
pub mod origin;
pub mod params;

pub mod actionhero;
pub mod ddp;
pub mod frame;
pub mod gateway;

pub mod fuzzing;

#[cfg(test)]
mod talk;
