//! The settings of DDP.

use std::time::Duration;

use super::kind::{Span, Switch, Whole};
use super::section::settings;

/// In seconds.
const DAY: u64 = 24 * 3600;

settings! {
    /// DDP, the protocol of bots, on the web listener under `/websocket`.
    pub struct DdpServer {
        keys {
            /// Whether the web listener speaks it.
            enabled: bool = true, Switch;
            /// Logins with a wrong name or password from one address, or one /64 network of IPv6, in a minute.
            max_failed_logins: u32 = 30, Whole::any(),
                reached "further logins with a password from there are refused with `too-many-requests` until the minute is over";
            /// Passwords that are checked against a hash at the same time. Each check takes a thread and the memory that the
            /// hash names, 19 MiB with those of `switchboard hash-password`.
            password_checks_max: usize = 2, Whole::range(1, 256), reached "the next check waits for its turn";
            /// Checks of passwords that may wait for their turn.
            password_checks_waiting: usize = 1000, Whole::range(0, 1_000_000),
                reached "further logins with a password are refused with `too-many-requests`";
            /// Whether a login says the same, whatever was wrong; best for servers that strangers can reach.
            ambiguous_login_errors: bool = false, Switch;
            /// Time for which the token of a login can be used to log in again.
            token_life: Duration = Duration::from_secs(90 * DAY),
                Span::range(Duration::from_secs(1), Duration::from_secs(3650 * DAY)),
                reached "the token is refused, and its user logs in with the password";
            /// Tokens of one user that can be used at the same time.
            max_tokens_per_user: usize = 100, Whole::range(1, 100_000),
                reached "the token that ends first is worth nothing any more";
        }
        sections {}
    }
}
