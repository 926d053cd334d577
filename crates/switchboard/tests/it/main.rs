//! The server from outside: real sockets, real files, real processes. One module per subject.

mod drain;
mod faults;
mod files;
mod listen;
mod peer;
mod program;
mod tls;
