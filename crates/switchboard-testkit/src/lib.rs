//! What Switchboard's tests and benches share; never published.
//!
//! - [`client`]: a blocking client of the line protocol.
//! - [`http`]: a blocking HTTP client.
//! - [`transcript`]: conversations as text files, played against a server.
//! - [`mod@bench`]: the load tool, its scenarios, and the floor that its figures are compared with.
//! - [`certs`]: certificates for tests of TLS.

pub mod bench;
pub mod certs;
pub mod client;
pub mod http;
pub mod transcript;
