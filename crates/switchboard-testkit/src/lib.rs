//! What Switchboard's tests and benches share; never published.
//!
//! - [`bench`]: the load tool, its scenarios, and the floor that its figures are compared with.

pub mod bench;
