//! Logs: structured, to standard error.
//!
//! Whoever logs never waits: lines are queued, and a thread of their own writes them. When standard error takes none, as a
//! full disk or a pipe that nobody reads, lines are lost and counted, and the count is logged once it takes lines again.

use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use crate::config::{Log, LogFormat};

/// Spaces warnings that clients can cause as often as they like.
#[derive(Debug, Default)]
pub(crate) struct Interval {
    last: Mutex<Option<Instant>>,
}

impl Interval {
    pub(crate) const fn new() -> Self {
        Self { last: Mutex::new(None) }
    }

    /// Long enough for a log that is read by people, short enough to see that it goes on.
    const LENGTH: Duration = Duration::from_secs(10);

    /// Returns `true` at most once in each interval.
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let is_due = last.is_none_or(|last| now.saturating_duration_since(last) >= Self::LENGTH);
        if is_due {
            *last = Some(now);
        }
        is_due
    }
}

/// Begins to write logs as configured. To be called once, by a program; a library leaves this to whoever embeds it.
///
/// Texts of users reach logs as fields only, escaped.
pub fn init(log: &Log) -> LogGuard {
    let lines = Lines::write_to(io::stderr());
    // The configuration was checked; an empty filter is the worst that can come of one that was not.
    let filter = EnvFilter::builder().parse_lossy(&log.level);
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(lines.clone());
    match log.format {
        LogFormat::Json => logs.json().flatten_event(true).init(),
        LogFormat::Text => logs.with_ansi(io::stderr().is_terminal()).init(),
    }
    // Panics of user code are caught and logged where they are caught; this adds the place, in the same format.
    std::panic::set_hook(Box::new(|panic| {
        let location = panic.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(location, thread = std::thread::current().name().unwrap_or_default(), "panicked");
    }));
    LogGuard(lines)
}

/// Waits, when it is dropped, until what was logged is written, but not for long. To be kept until the program ends.
#[derive(Debug)]
#[must_use = "the last lines of the log may be lost without it"]
pub struct LogGuard(Lines);

impl Drop for LogGuard {
    fn drop(&mut self) {
        self.0.flush(Duration::from_secs(1));
    }
}

/// Lines on their way to the thread that writes them.
#[derive(Clone, Debug)]
struct Lines {
    queue: SyncSender<Entry>,
    lost: Arc<AtomicU64>,
}

#[derive(Debug)]
enum Entry {
    Line(Vec<u8>),
    /// Everything before is written.
    Flush(SyncSender<()>),
}

impl Lines {
    /// Most lines that wait.
    const QUEUED: usize = 4096;

    fn write_to(out: impl Write + Send + 'static) -> Self {
        let (queue, entries) = sync_channel(Self::QUEUED);
        let lost = Arc::new(AtomicU64::new(0));
        let writer = {
            let lost = Arc::clone(&lost);
            move || write_all(&entries, out, &lost)
        };
        // Without a thread there is no log: better that than no server.
        drop(std::thread::Builder::new().name("log".to_owned()).spawn(writer));
        Self { queue, lost }
    }

    fn flush(&self, patience: Duration) {
        let (written, wait) = sync_channel(1);
        if self.queue.try_send(Entry::Flush(written)).is_ok() {
            let _ = wait.recv_timeout(patience);
        }
    }
}

fn write_all(entries: &Receiver<Entry>, mut out: impl Write, lost: &AtomicU64) {
    for entry in entries {
        match entry {
            Entry::Line(line) => {
                if out.write_all(&line).is_err() {
                    lost.fetch_add(1, Ordering::Relaxed);
                    continue;
                }
                // It goes to the end of the queue like any other line, and if that fails it is lost like any other.
                let count = lost.swap(0, Ordering::Relaxed);
                if count > 0 {
                    tracing::warn!(lost = count, "lines of the log were lost");
                }
            }
            // Nobody may be waiting any more.
            Entry::Flush(written) => drop(written.try_send(())),
        }
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = &'a Lines;

    fn make_writer(&'a self) -> &'a Lines {
        self
    }
}

/// Each write is one line: the formatter makes it up in memory.
impl Write for &Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.queue.try_send(Entry::Line(line.to_vec())).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes each line only when the test lets it.
    struct Gate(Receiver<io::Result<()>>, SyncSender<Vec<u8>>);

    impl Write for Gate {
        fn write(&mut self, line: &[u8]) -> io::Result<usize> {
            self.0.recv().map_err(io::Error::other)??;
            self.1.send(line.to_vec()).map_err(io::Error::other)?;
            Ok(line.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_warning_is_due_at_most_once_in_each_interval() {
        let (interval, begun) = (Interval::default(), Instant::now());
        let due = |secs| interval.is_due(begun + Duration::from_secs(secs));
        assert_eq!([0, 0, 9, 10, 11, 19, 20].map(due), [true, false, false, true, false, false, true]);
    }

    #[test]
    fn fault_row_39_lines_that_are_not_taken_are_lost_and_counted_and_nobody_waits() {
        let (open, gate) = sync_channel(2 * Lines::QUEUED);
        let (taken, lines) = sync_channel(2 * Lines::QUEUED);
        let log = Lines::write_to(Gate(gate, taken));
        let write = |line: &str| assert_eq!((&log).write(line.as_bytes()).unwrap(), line.len());
        let sent = Lines::QUEUED + 10;
        (0..sent).for_each(|_| write("line"));
        let lost = log.lost.load(Ordering::Relaxed);
        // The thread holds one, and may not have come to that yet.
        assert!((9..=10).contains(&lost), "{lost}");
        // A line that is refused is lost too; all others arrive, in the end.
        open.send(Err(io::ErrorKind::StorageFull.into())).unwrap();
        (1..sent - lost as usize).for_each(|_| open.send(Ok(())).unwrap());
        for _ in 1..sent - lost as usize {
            lines.recv_timeout(Duration::from_secs(10)).unwrap();
        }
        log.flush(Duration::from_secs(10));
        assert_eq!(lines.try_iter().count(), 0);
    }
}
