//! The load tool: what one delivery, one request and one connection cost a server.
//!
//! A run is: start a [`process::Server`] on a core of its own, put a [`scenario`] on it with [`load::run`], read the
//! [`load::Measurement`]. The figure that counts is CPU time of the server process per unit of work, and its ratio to
//! the [`floor`]: the cheapest server that can do that work, measured in the same minutes on the same machine.
//!
//! - [`scenario`]: the loads, their yardsticks and targets; data only.
//! - [`floor`]: the bare loop that answers the scenarios and does nothing else.
//! - [`process`]: a server as a child process: its core, its ready line, its end.
//! - [`probe`]: CPU time and memory of that process, read from `/proc`.
//! - [`histogram`]: latencies in logarithmic buckets.
//! - [`load`]: the generator, one thread around one epoll.
//! - [`sys`]: the few calls to the operating system that the standard library lacks.

pub mod floor;
pub mod histogram;
pub mod load;
pub mod probe;
pub mod process;
pub mod scenario;
pub mod sys;
