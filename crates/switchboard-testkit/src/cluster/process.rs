//! Child processes of a test: started, stopped in every way, and never left behind.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::thread;

use rustix::process::{Pid, Signal, kill_process};

use super::{DEADLINE, within};
use crate::bench::sys;

/// A process of ours. Dropping it kills it, and it does not outlive the test's process, however that ends.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
}

impl Process {
    /// Starts a command without standard input, its standard error at the end of the file `log`.
    pub(super) fn start(mut command: Command, log: &Path) -> io::Result<Self> {
        let log = File::options().create(true).append(true).open(log)?;
        command.stdin(Stdio::null()).stderr(log);
        Ok(Self { child: spawn(command)? })
    }

    pub(super) fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal, if it has not ended.
    #[track_caller]
    pub(super) fn signal(&self, signal: Signal) {
        // It is not waited for elsewhere, so its number is still its own.
        if let Err(error) = kill_process(Pid::from_child(&self.child), signal) {
            panic!("sending {signal:?} to process {}: {error}", self.child.id());
        }
    }

    /// Stops it in the middle of whatever it does (SIGSTOP), and waits until all its threads stand still.
    #[track_caller]
    pub(super) fn pause(&self) {
        self.signal(Signal::STOP);
        let tasks = format!("/proc/{}/task", self.child.id());
        // The state stands behind the name, which is in parentheses and may hold anything.
        let stands = |stat: String| stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with(['T', 'Z']));
        super::eventually("all threads stand still", || {
            fs::read_dir(&tasks).is_ok_and(|mut tasks| {
                tasks.all(|task| task.and_then(|task| fs::read_to_string(task.path().join("stat"))).is_ok_and(stands))
            })
        });
    }

    /// Kills it, and waits until it is gone.
    pub(super) fn kill(&mut self) {
        // Both fail only if it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Its exit status, if it has ended.
    pub(super) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap_or_else(|error| panic!("looking after process {}: {error}", self.child.id()))
    }

    /// Its exit status, once it has ended by itself within [`DEADLINE`].
    #[track_caller]
    pub(super) fn await_end(&mut self) -> ExitStatus {
        let mut status = None;
        let has_ended = within(DEADLINE, || {
            status = self.ended();
            status.is_some()
        });
        assert!(has_ended, "process {} does not end", self.child.id());
        status.unwrap_or_default()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// What a command is started by.
type Order = (Command, SyncSender<io::Result<Child>>);

/// Starts a command in a thread that lives as long as this process: the kernel ends a child with the *thread* that started it,
/// and tests start nodes again in threads of their own.
fn spawn(mut command: Command) -> io::Result<Child> {
    static SPAWNER: OnceLock<Mutex<SyncSender<Order>>> = OnceLock::new();
    sys::confine(&mut command, None);
    let spawner = SPAWNER.get_or_init(|| {
        let (orders, to_do) = sync_channel::<Order>(0);
        thread::spawn(move || {
            for (mut command, answer) in to_do {
                // Whoever asked waits for it.
                let _ = answer.send(command.spawn());
            }
        });
        Mutex::new(orders)
    });
    let (answer, child) = sync_channel(1);
    let gone = |_| io::Error::other("the thread that starts processes has ended");
    spawner.lock().unwrap_or_else(PoisonError::into_inner).send((command, answer)).map_err(|_| gone(()))?;
    child.recv().map_err(|_| gone(()))?
}

/// A folder of one test, removed with everything in it, unless the test fails: then it stays, and its logs are shown.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    /// Logs in it, by the words that they are shown under.
    logs: Mutex<Vec<(String, PathBuf)>>,
}

impl Folder {
    pub(super) fn new(what: &str) -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("switchboard-{what}-{}-{count}", std::process::id()));
        if let Err(error) = fs::create_dir_all(&path) {
            panic!("making {}: {error}", path.display());
        }
        Self { path, logs: Mutex::default() }
    }

    pub(super) fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The path of a log, whose end is shown if the test fails.
    pub(super) fn log(&self, what: &str) -> PathBuf {
        let path = self.join(&format!("{what}.log"));
        self.logs.lock().unwrap_or_else(PoisonError::into_inner).push((what.to_owned(), path.clone()));
        path
    }

    pub(super) fn write(&self, name: &str, content: &str) -> PathBuf {
        let path = self.join(name);
        if let Err(error) = fs::write(&path, content) {
            panic!("writing {}: {error}", path.display());
        }
        path
    }
}

impl Drop for Folder {
    #[allow(clippy::print_stderr, reason = "a test that fails shows what its processes said")]
    fn drop(&mut self) {
        if !thread::panicking() {
            // What cannot be removed stays in the system's folder for such things.
            let _ = fs::remove_dir_all(&self.path);
            return;
        }
        for (what, path) in self.logs.get_mut().unwrap_or_else(PoisonError::into_inner) {
            eprintln!("== end of the log of {what}; all of it: {}", path.display());
            eprintln!("{}", tail(&fs::read_to_string(path).unwrap_or_default(), TAIL_LINES));
        }
    }
}

/// The last lines of a text.
pub(super) fn tail(text: &str, lines: usize) -> &str {
    let start = text.trim_end().rmatch_indices('\n').nth(lines.saturating_sub(1)).map_or(0, |(at, _)| at + 1);
    &text[start..]
}

/// Enough to see a node's last second.
const TAIL_LINES: usize = 40;

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn the_tail_of_a_text_is_its_last_lines() {
        assert_eq!(tail("one\ntwo\nthree\n", 2), "two\nthree\n");
        assert_eq!(tail("one\ntwo\nthree\n", 3), "one\ntwo\nthree\n");
        assert_eq!(tail("one\ntwo", 1), "two");
        assert_eq!(tail("", 5), "");
    }

    #[test]
    fn a_process_outlives_the_thread_that_asked_for_it_and_ends_when_dropped() {
        let folder = Folder::new("process");
        let log = folder.log("sleep");
        let started = thread::spawn(move || {
            let mut command = Command::new("sleep");
            command.arg("600");
            Process::start(command, &log).unwrap()
        });
        let mut process = started.join().unwrap();
        process.signal(Signal::STOP);
        process.signal(Signal::CONT);
        assert!(process.ended().is_none());
        let begun = Instant::now();
        process.signal(Signal::TERM);
        assert!(!process.await_end().success());
        assert!(begun.elapsed() < DEADLINE);
    }
}
