//! The wall clock, for those who may read it: not the hub, not the protocols.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// The time, in milliseconds since 1970.
pub(crate) fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// A wall clock that was read once: it does not jump, whatever becomes of the system's. For what has to last for a while and may
/// be kept beyond this process.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Steady {
    began_ms: u64,
    began: Instant,
}

impl Steady {
    /// Reads the wall clock.
    pub(crate) fn begin() -> Self {
        Self { began_ms: unix_ms(), began: Instant::now() }
    }

    /// The time, in milliseconds since 1970.
    pub(crate) fn now_ms(&self) -> u64 {
        let passed = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.began_ms.saturating_add(passed)
    }
}
