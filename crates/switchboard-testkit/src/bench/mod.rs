//! The load tool: what one delivery, one request and one connection cost a server.
//!
//! - [`floor`]: the bare loop that answers the scenarios and does nothing else.
//! - [`process`]: a server as a child process: its core, its ready line, its end.
//! - [`probe`]: CPU time and memory of that process, read from `/proc`.
//! - [`histogram`]: latencies in logarithmic buckets.
//! - [`sys`]: the few calls to the operating system that the standard library lacks.

pub mod floor;
pub mod histogram;
pub mod probe;
pub mod process;
pub mod sys;
