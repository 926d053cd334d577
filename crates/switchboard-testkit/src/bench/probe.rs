//! What a process has used, read from `/proc`.

use std::fs;
use std::io;

/// Reads CPU time and memory of one process.
#[derive(Clone, Debug)]
pub struct Probe {
    pid: u32,
}

impl Probe {
    /// A probe of the process with this id.
    pub fn new(pid: u32) -> Self {
        Self { pid }
    }

    /// CPU time (user and system) of all threads so far, in nanoseconds.
    ///
    /// The scheduler's own count is precise to a tick for a running thread and exact for a waiting one. Where a kernel
    /// keeps none, the clock ticks of `/proc/PID/stat` (10 ms) must do. Threads that have ended are not counted by the
    /// first, so a later figure may be lower; servers rarely end threads while they are measured.
    pub fn cpu_ns(&self) -> io::Result<u64> {
        match self.scheduled_ns()? {
            0 => self.ticks_ns(),
            ns => Ok(ns),
        }
    }

    /// Resident memory in bytes.
    ///
    /// `smaps_rollup` walks the page tables; `statm` is the fall-back, as its counters are kept per core and lag by
    /// some hundred kilobytes.
    pub fn resident_bytes(&self) -> io::Result<u64> {
        let pid = self.pid;
        if let Ok(rollup) = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))
            && let Some(bytes) = resident_in_rollup(&rollup)
        {
            return Ok(bytes);
        }
        let statm = fs::read_to_string(format!("/proc/{pid}/statm"))?;
        number_at(&statm, 1).map(|pages| pages * PAGE_BYTES).ok_or_else(malformed)
    }

    fn scheduled_ns(&self) -> io::Result<u64> {
        let mut sum = 0;
        for task in fs::read_dir(format!("/proc/{}/task", self.pid))? {
            // A thread may end between the listing and the reading.
            if let Ok(line) = fs::read_to_string(task?.path().join("schedstat")) {
                sum += number_at(&line, 0).unwrap_or(0);
            }
        }
        Ok(sum)
    }

    fn ticks_ns(&self) -> io::Result<u64> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid))?;
        ticks_in_stat(&stat).map(|ticks| ticks * (1_000_000_000 / TICKS_PER_SECOND)).ok_or_else(malformed)
    }
}

/// Time that the hypervisor took from this machine's cores, and all time of these cores, both in clock ticks.
pub fn stolen_and_all_ticks() -> io::Result<(u64, u64)> {
    let stat = fs::read_to_string("/proc/stat")?;
    let line = stat.lines().next().unwrap_or_default();
    // user nice system idle iowait irq softirq steal; the two after them are part of the first two.
    let ticks: Vec<u64> = line.split_whitespace().skip(1).take(8).filter_map(|word| word.parse().ok()).collect();
    Ok((ticks.get(7).copied().unwrap_or(0), ticks.iter().sum()))
}

fn resident_in_rollup(rollup: &str) -> Option<u64> {
    let line = rollup.lines().find_map(|line| line.strip_prefix("Rss:"))?;
    number_at(line, 0).map(|kilobytes| kilobytes * 1024)
}

/// User and system ticks. The name of the program, in brackets, may hold spaces: count from behind it.
fn ticks_in_stat(stat: &str) -> Option<u64> {
    let behind_name = &stat[stat.rfind(')')? + 1..];
    Some(number_at(behind_name, 11)? + number_at(behind_name, 12)?)
}

fn number_at(line: &str, index: usize) -> Option<u64> {
    line.split_whitespace().nth(index)?.parse().ok()
}

fn malformed() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "a file in /proc has an unknown shape")
}

/// `/proc` speaks of user-visible ticks, which are 100 a second on every Linux of today.
const TICKS_PER_SECOND: u64 = 100;

/// Of the machines this runs on; only used where `smaps_rollup` is missing.
const PAGE_BYTES: u64 = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_spaces_and_brackets_does_not_shift_the_ticks() {
        let stat = "7 (a (b) c) S 1 7 7 0 -1 4194304 90 0 0 0 123 45 0 0 20 0 1 0 5 1 2";
        assert_eq!(ticks_in_stat(stat), Some(168));
    }

    #[test]
    fn resident_memory_is_read_from_the_rollup() {
        let rollup = "5581-7ffc ---p 00000000 00:00 0   [rollup]\nRss:                2100 kB\nPss: 1 kB\n";
        assert_eq!(resident_in_rollup(rollup), Some(2100 * 1024));
        assert_eq!(resident_in_rollup("nothing"), None);
    }

    #[test]
    fn this_process_has_memory_and_time() {
        let probe = Probe::new(std::process::id());
        assert!(probe.resident_bytes().unwrap() > 100_000);
        probe.cpu_ns().unwrap();
        let (stolen, all) = stolen_and_all_ticks().unwrap();
        assert!(stolen <= all && all > 0);
    }
}
