//! Listeners: sockets that are bound before the server says that it is ready, TLS, HTTP, and the hand-over to workers.

pub(crate) mod accept;
pub mod certificates;
pub(crate) mod hand_over;
pub(crate) mod http;
pub mod listen;
pub mod tls;
