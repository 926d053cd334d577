//! Counts the entries that a loop visits, so that unit tests can compare how much work an operation does at two sizes.
//!
//! Outside unit tests this compiles to nothing. The count is per thread.

#[cfg(test)]
thread_local! {
    static VISITS: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
}

/// Counts one entry.
#[inline(always)]
pub(crate) fn visit() {
    #[cfg(test)]
    VISITS.set(VISITS.get() + 1);
}

/// Returns how many entries this thread visits during `work`.
#[cfg(test)]
pub(crate) fn visits_of(work: impl FnOnce()) -> u64 {
    let before = VISITS.get();
    work();
    VISITS.get() - before
}

/// Fails if the work among many is more than 1.3 times the work among few.
#[cfg(test)]
pub(crate) fn assert_no_growth(among_few: u64, among_many: u64) {
    assert!(among_few > 0, "nothing was counted");
    assert!(among_many * 10 <= among_few * 13, "{among_few} visits among few entries, {among_many} among many");
}
