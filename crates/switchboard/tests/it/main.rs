//! The server from outside: real sockets, real files, real processes. One module per subject.
#![allow(missing_docs, reason = "tests document themselves by their names")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

mod actions;
mod admin;
mod admin_faults;
mod bots;
mod commands;
mod commands_faults;
mod commands_sessions;
mod commands_storm;
mod compat;
mod ddp_commands;
mod ddp_direct;
mod ddp_hostile;
mod ddp_listeners;
mod ddp_login;
mod ddp_messages;
mod ddp_replies;
mod ddp_restart;
mod ddp_rooms;
mod ddp_slow;
mod ddp_support;
mod drain;
mod faults;
mod file_backend;
mod files;
mod hooks;
mod http;
mod http_backend;
mod http_faults;
mod http_files;
mod http_hooks;
mod http_hooks_faults;
mod https;
mod listen;
mod mixed;
mod order;
mod origins;
mod peer;
mod program;
mod rooms;
mod slow_consumers;
mod storm;
mod support;
mod tls;
mod transcripts;
