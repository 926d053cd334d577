//! Listeners: sockets that are bound before the server says that it is ready, TLS, and the hand-over to workers.

pub mod listen;
pub mod tls;
