//! Framers: where a message begins and ends.

pub mod line;
pub mod ws;
