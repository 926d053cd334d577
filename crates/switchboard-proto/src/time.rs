//! Time as an argument. Whoever owns a clock reads it once and passes it down.

/// One reading of the clocks, taken once per turn of a worker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// Milliseconds since the process started; never goes back. For deadlines.
    pub monotonic_ms: u64,
    /// Milliseconds since 1970 in UTC; may jump. For people, and for nothing else.
    pub unix_ms: u64,
}
