//! Scripts that run inside of Redis: each is one step, of which all is done or nothing.

use std::sync::OnceLock;

/// Whether a request waits for its turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Priority {
    /// It waits while `backend.redis.in_flight_max` requests are in flight.
    Ordinary,
    /// It does not: a node whose heartbeat waits for requests of clients is taken for dead.
    Urgent,
}

/// A script, which Redis knows by the SHA-1 of its text once it has run there.
#[derive(Debug)]
pub(crate) struct Script {
    text: &'static str,
    priority: Priority,
    hash: OnceLock<String>,
}

impl Script {
    /// A script with this text.
    pub(crate) const fn new(text: &'static str) -> Self {
        Self { text, priority: Priority::Ordinary, hash: OnceLock::new() }
    }

    /// A script that must not wait for requests of clients.
    pub(crate) const fn urgent(text: &'static str) -> Self {
        Self { text, priority: Priority::Urgent, hash: OnceLock::new() }
    }

    pub(super) fn priority(&self) -> Priority {
        self.priority
    }

    pub(super) fn text(&self) -> &'static str {
        self.text
    }

    /// The name under which Redis keeps it.
    pub(super) fn hash(&self) -> &str {
        self.hash.get_or_init(|| redis::Script::new(self.text).get_hash().to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_is_known_by_the_sha_1_of_its_text() {
        static SCRIPT: Script = Script::new("return 1");
        assert_eq!(SCRIPT.hash(), "e0e1f9fabfc9d4800c877a703b823ac0578ff8db");
    }
}
