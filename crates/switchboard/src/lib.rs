//! Switchboard.

pub mod config;
