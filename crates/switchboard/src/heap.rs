//! Gives memory that is free inside the heap back to the system. All `unsafe` of the program is here.
//!
//! glibc returns only memory that is free at the end of a heap. After 500 slow HTTP clients some 14 MiB stayed with the
//! process, all of it free, because a few blocks at the end were in use (docs/decisions/0011-memory-after-storms.md).

/// Gives free memory back. Threads that allocate may wait for that: some milliseconds for 10 MiB.
pub(crate) fn trim() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        let begun = std::time::Instant::now();
        // SAFETY: it takes no pointer and changes nothing that is in use; glibc locks its heaps itself.
        let has_freed = unsafe { libc::malloc_trim(0) } == 1;
        tracing::debug!(
            has_freed,
            micros = begun.elapsed().as_micros(),
            "gave free memory back after many connections"
        );
    }
}
