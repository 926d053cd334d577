//! What Switchboard's tests and benches share; never published.
//!
//! - [`bench`]: the load tool, its scenarios, and the floor that its figures are compared with.
//! - [`certs`]: certificates for tests of TLS.

pub mod bench;
pub mod certs;
