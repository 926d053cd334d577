//! The thread that owns the file. It takes what waits, writes it in one transaction, and answers.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::database::{Disk, Open, Outcomes};
use super::{Shared, lock, next_ceiling};
use crate::backend::BackendError;
use crate::backend::sessions::{Change, Outcome};
use crate::clock::unix_ms;

/// Changes that share one transaction, at most: the first of them waits for all.
const MAX_BATCH: usize = 512;

/// Time between two lines in the log about a file that cannot be written.
const LOG_PAUSE: Duration = Duration::from_secs(30);

/// Something for the writer to do.
#[derive(Debug)]
pub(super) enum Work {
    Change(Change),
    /// A ceiling of command times above `needed`.
    Raise {
        needed: u64,
    },
    /// Nothing; but wake up, since `Shared::is_closing` is set.
    Close,
}

impl Work {
    /// Of an event that waits.
    pub(super) fn payload_bytes(&self) -> usize {
        match self {
            Self::Change(change) => change.payload_bytes(),
            Self::Raise { .. } | Self::Close => 0,
        }
    }
}

/// Something to do, and whom to tell.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) work: Work,
    /// How much of [`super::MAX_WAITING_BYTES`] it takes.
    pub(super) bytes: usize,
    pub(super) reply: Option<oneshot::Sender<Result<Outcome, BackendError>>>,
}

/// The writer. Whoever holds it owns the file.
pub(super) struct Writer {
    disk: Disk,
    /// `None`: the last attempt to write, or to open, has failed.
    open: Option<Open>,
    shared: Arc<Shared>,
    waiting: Receiver<Request>,
    /// See [`super::proof_interval`].
    proof_interval: Duration,
    proof_at: Instant,
    failures: Failures,
}

/// What has gone wrong since it last went well.
#[derive(Debug, Default)]
struct Failures {
    /// Changes that failed.
    changes: usize,
    /// Of the latest.
    reason: String,
    /// When it was last tried to open the file again.
    last_attempt: Option<Instant>,
    last_line: Option<Instant>,
}

impl Writer {
    pub(super) fn new(
        disk: Disk,
        open: Open,
        shared: Arc<Shared>,
        waiting: Receiver<Request>,
        proof_interval: Duration,
    ) -> Self {
        let proof_at = Instant::now() + proof_interval;
        Self { disk, open: Some(open), shared, waiting, proof_interval, proof_at, failures: Failures::default() }
    }

    /// Writes until the store is closed or dropped.
    pub(super) fn run(mut self) {
        loop {
            let first = match self.waiting.recv_timeout(self.proof_at.saturating_duration_since(Instant::now())) {
                Ok(request) => Some(request),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => break,
            };
            // Looked at before the queue: what was asked before the store was closed is in it, and is done.
            let is_closing = self.shared.is_closing.load(Ordering::Acquire);
            let requests: Vec<_> = first.into_iter().chain(self.waiting.try_iter()).take(MAX_BATCH).collect();
            let is_all = requests.len() < MAX_BATCH;
            self.serve(requests);
            if is_closing && is_all {
                break;
            }
        }
        self.end();
    }

    /// Makes all that is asked for, in one transaction if it is not very much.
    fn serve(&mut self, requests: Vec<Request>) {
        let mut changes = Vec::with_capacity(requests.len());
        let mut replies = VecDeque::with_capacity(requests.len());
        let mut replies_to_raises = Vec::new();
        let mut needed = (self.proof_at <= Instant::now()).then_some(0);
        let mut bytes = 0;
        for request in requests {
            bytes += request.bytes;
            match request.work {
                Work::Change(change) => {
                    changes.push(change);
                    replies.push_back(request.reply);
                }
                Work::Raise { needed: time } => {
                    needed = needed.max(Some(time));
                    replies_to_raises.push(request.reply);
                }
                Work::Close => {}
            }
        }
        let mut failed = None;
        while failed.is_none() && !(changes.is_empty() && needed.is_none()) {
            match self.write(&changes, needed.take()) {
                Ok(outcomes) => {
                    changes.drain(..outcomes.len());
                    let replies = replies.drain(..outcomes.len());
                    replies.zip(outcomes).for_each(|(reply, outcome)| answer(reply, outcome));
                    replies_to_raises.drain(..).for_each(|reply| answer(reply, Ok(Outcome::Count(0))));
                }
                Err(reason) => failed = Some(reason),
            }
        }
        if let Some(reason) = failed {
            let replies = replies.into_iter().chain(replies_to_raises);
            replies.for_each(|reply| answer(reply, Err(BackendError(reason.clone()))));
        }
        self.shared.waiting_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Makes the first of these changes, all if there is place, and raises the ceiling of command times above `needed`.
    fn write(&mut self, changes: &[Change], needed: Option<u64>) -> Result<Outcomes, String> {
        let ceiling = needed.map(|needed| {
            self.proof_at = Instant::now() + self.proof_interval;
            next_ceiling(&lock(&self.shared.clocks), unix_ms(), needed)
        });
        let now = self.disk.now();
        let result = self.reopen().and_then(|open| open.commit(changes, now, ceiling));
        match &result {
            Ok(outcomes) => {
                self.publish(&changes[..outcomes.len()], ceiling);
                self.failures.end();
            }
            Err(reason) => {
                // What is on disk is unknown until it is read again.
                self.open = None;
                self.failures.note(reason, changes.len());
            }
        }
        if ceiling.is_some() {
            self.shared.is_raise_asked.store(false, Ordering::Relaxed);
        }
        result
    }

    /// The file; after a failure it is opened again, and what is in it then holds.
    fn reopen(&mut self) -> Result<&mut Open, String> {
        if self.open.is_none() {
            if self.failures.last_attempt.is_some_and(|last| last.elapsed() < self.disk.retry_pause()) {
                return Err(self.failures.reason.clone());
            }
            self.failures.last_attempt = Some(Instant::now());
            let open = self.disk.open().map_err(|error| error.to_string())?;
            *lock(&self.shared.state) = open.state().clone();
            self.open = Some(open);
        }
        self.open.as_mut().ok_or_else(|| self.failures.reason.clone())
    }

    /// Shows what was written to those who read. They wait for one change at most.
    fn publish(&self, changes: &[Change], ceiling: Option<u64>) {
        for change in changes {
            // It answers what it answered a moment ago: the data are the same.
            drop(lock(&self.shared.state).apply(change, &mut |_| {}));
        }
        if let Some(ceiling) = ceiling {
            lock(&self.shared.clocks).raise(ceiling);
        }
    }

    /// Leaves the latest time of a command instead of a ceiling above it, so that a planned restart costs no time, and the last proof
    /// of life. A disk that has failed gets its last chance.
    fn end(mut self) {
        let (ceiling, now) = (lock(&self.shared.clocks).stop(), self.disk.now());
        self.failures.last_attempt = None;
        if let Err(reason) = self.reopen().and_then(|open| open.commit(&[], now, Some(ceiling))) {
            tracing::warn!(%reason, "closing the store failed; all confirmed writes are stored");
        }
    }
}

fn answer(reply: Option<oneshot::Sender<Result<Outcome, BackendError>>>, outcome: Result<Outcome, BackendError>) {
    // Whoever asked may have stopped waiting.
    drop(reply.map(|reply| reply.send(outcome)));
}

impl Failures {
    fn note(&mut self, reason: &str, changes: usize) {
        self.changes += changes;
        reason.clone_into(&mut self.reason);
        if self.last_line.is_none_or(|last| last.elapsed() >= LOG_PAUSE) {
            self.last_line = Some(Instant::now());
            tracing::error!(reason, failed = self.changes, "the store cannot be written: changes fail until it can");
        }
    }

    fn end(&mut self) {
        if self.last_line.is_some() {
            tracing::warn!(failed = self.changes, "the store can be written again");
            *self = Self::default();
        }
    }
}
