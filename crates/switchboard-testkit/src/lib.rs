//! What Switchboard's tests and benches share; never published.
//!
//! - [`client`]: a blocking client of the line protocol.
//! - [`cluster`]: several nodes and the Redis that they share, faults between them, and what must hold nevertheless.
//! - [`ddp`]: a blocking client of DDP.
//! - [`gateway`]: a blocking client of the gateway, and a bot that resumes.
//! - [`http`]: a blocking HTTP client.
//! - [`raw_http`]: a blocking HTTP client that sends the bytes that it is told, and keeps its connection.
//! - [`transcript`]: conversations as text files, played against a server.
//! - [`mod@bench`]: the load tool, its scenarios, and the floor that its figures are compared with.
//! - [`certs`]: certificates for tests of TLS.

pub mod bench;
pub mod certs;
pub mod client;
pub mod cluster;
pub mod ddp;
pub mod gateway;
pub mod http;
pub mod raw_http;
pub mod transcript;
