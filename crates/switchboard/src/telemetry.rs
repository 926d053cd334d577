//! Logs: structured, to standard error.

use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;

use crate::config::{Log, LogFormat};

/// Begins to write logs as configured. To be called once, by a program; a library leaves this to whoever embeds it.
///
/// Texts of users reach logs as fields only, escaped.
pub fn init(log: &Log) {
    // The configuration was checked; an empty filter is the worst that can come of one that was not.
    let filter = EnvFilter::builder().parse_lossy(&log.level);
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    match log.format {
        LogFormat::Json => logs.json().flatten_event(true).init(),
        LogFormat::Text => logs.with_ansi(io::stderr().is_terminal()).init(),
    }
}
