//! The session store that is there again after the process was killed: one file, written by one thread.
//!
//! - `database`: the file, its folder, its lock and its rows; `shards`: those of sessions, and `rows`: how they are written.
//! - `life`: how its times go on from one process to the next.
//! - `writer`: the thread that gathers changes into transactions.
//!
//! What is read is read from memory, where all of it is. A change is ready when it is on disk, together with all that came
//! while the disk was busy with those before. Times of commands cost no write: they stay below a ceiling that is on disk and
//! is raised in good time, and the next process begins above it.

mod database;
mod life;
mod rows;
mod shards;
#[cfg(test)]
mod tests;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use std::{io, thread};

use switchboard_proto::id::RoomName;
use thiserror::Error;
use tokio::sync::{oneshot, watch};

use super::BackendError;
use super::sessions::shards::ShardLimits;
use super::sessions::{
    AboveCeiling, Change, Clocks, Kept, MAX_CLOCKS, Outcome, SessionStore, State, Token, TokenHash, mismatch,
};
use crate::clock::unix_ms;
use crate::op::Op;

use database::{Disk, OpenFile, open_file};
use life::Watch;
use writer::{Request, Work, Writer};

#[cfg(test)]
pub(super) use life::Moment;

/// Changes that may wait for the disk. Further ones fail at once: behind a disk that hangs nothing piles up.
const MAX_WAITING: usize = 4096;

/// Bytes of events that may wait for the disk, but for one event that comes while none waits.
const MAX_WAITING_BYTES: usize = 64 << 20;

/// How far above the real time the ceiling of command times is put. It is raised when half of that is left. After a kill the times
/// of commands are up to this much ahead of the real time, until that has caught up.
const CEILING_AHEAD: Duration = Duration::from_secs(10);

/// How far above the latest time of a command the ceiling is put when that is further, because a clock was put back, or since a
/// kill was a moment ago. Each such kill moves times ahead by no more than this.
const CEILING_MARGIN: Duration = Duration::from_secs(2);

/// Shortest time between two proofs of life. Each is a flush, so a session whose window is shorter than four of these
/// may be lost by a kill.
const MIN_PROOF_INTERVAL: Duration = Duration::from_millis(100);

/// Time between two writes that happen even if nothing else is written: a proof of life, and a higher ceiling. After
/// a kill a session counts as left since the last write, so this is at most a quarter of the resume window.
fn proof_interval(resume_window_ms: u64) -> Duration {
    Duration::from_millis(resume_window_ms / 4).clamp(MIN_PROOF_INTERVAL, CEILING_AHEAD / 2)
}

/// Why a store could not be opened.
#[derive(Debug, Error)]
pub enum OpenError {
    /// The folder, or a file in it, could not be used.
    #[error("node.data_dir: {path:?} cannot be used: {error}", path = path.display())]
    Folder {
        /// Which.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// Another process has it open.
    #[error(
        "node.data_dir: {folder:?} is in use by another process; stop that one, or set another node.data_dir",
        folder = folder.display()
    )]
    InUse {
        /// Which.
        folder: PathBuf,
    },
    /// The file is damaged, or is not one of ours.
    #[error(
        "node.data_dir: {path:?} is damaged, or no store of Switchboard: {reason}; put a copy of it back, or move it away to \
         begin with an empty one",
        path = path.display()
    )]
    Unusable {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The file was written by a version that is newer than this.
    #[error(
        "node.data_dir: {path:?} has format {found}, this version knows {FORMAT}; run the version that wrote it, or move it \
         away to begin with an empty one",
        path = path.display()
    )]
    Newer {
        /// Which.
        path: PathBuf,
        /// Its format.
        found: u64,
    },
    /// The file could not be written: a full disk, or one that can only be read.
    #[error("node.data_dir: {path:?} cannot be written: {reason}", path = path.display())]
    Write {
        /// Which.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The system refused a thread.
    #[error("the thread that writes node.data_dir could not be started: {0}")]
    Thread(io::Error),
}

/// The version of what is in the file. One that is higher is refused.
const FORMAT: u64 = 1;

/// Keeps everything in one file of a folder, and in memory.
///
/// Reading is ready at once, and so are the times of commands but after a jump of the clock or a long burst. Changes are ready
/// when they are on disk. Dropped without [`SessionStore::close`] it ends by itself, a moment later.
#[derive(Debug)]
pub struct FileSessions {
    shared: Arc<Shared>,
    requests: SyncSender<Request>,
    ended: watch::Receiver<()>,
}

/// What callers and the writer share. The locks are never held together.
#[derive(Debug)]
struct Shared {
    /// What is on disk.
    state: Mutex<State>,
    clocks: Mutex<Clocks>,
    /// Somebody has asked for a higher ceiling; once is enough.
    is_raise_asked: AtomicBool,
    is_closing: AtomicBool,
    /// Of events that wait for the disk.
    waiting_bytes: AtomicUsize,
}

/// What a store runs on. Tests put something else in place of it.
pub(super) struct Machine {
    open_file: OpenFile,
    watch: Watch,
    /// Time between two attempts to open a file that could not be written. Changes fail meanwhile.
    retry_pause: Duration,
}

impl Machine {
    /// The system's disk and clocks.
    pub(super) fn real() -> Self {
        Self { open_file: Box::new(open_file), watch: life::watch(), retry_pause: Duration::from_secs(1) }
    }

    /// The system's disk and other clocks.
    #[cfg(test)]
    pub(super) fn at(watch: Watch) -> Self {
        Self { watch, ..Self::real() }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing under these locks can panic half way.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl FileSessions {
    /// Opens the store in `folder`, or makes both. Of one user at most `max_user_rooms` rooms are added. Blocks while it reads:
    /// some ten milliseconds for each hundred thousand tokens.
    ///
    /// # Errors
    ///
    /// See [`OpenError`].
    pub fn open(folder: &Path, max_user_rooms: usize, shard_limits: ShardLimits) -> Result<Self, OpenError> {
        Self::open_on(folder, max_user_rooms, shard_limits, Machine::real())
    }

    pub(super) fn open_on(
        folder: &Path,
        max_user_rooms: usize,
        shard_limits: ShardLimits,
        machine: Machine,
    ) -> Result<Self, OpenError> {
        let mut disk = Disk::prepare(folder, max_user_rooms, shard_limits, machine)?;
        let mut open = disk.open()?;
        let floor = open.ceiling_at_open();
        let ceiling = ceiling_above(unix_ms(), floor);
        open.begin(disk.now(), ceiling).map_err(|reason| disk.write_error(&reason))?;
        let shared = Arc::new(Shared {
            state: Mutex::new(open.state().clone()),
            clocks: Mutex::new(Clocks::new(MAX_CLOCKS, floor, ceiling)),
            is_raise_asked: AtomicBool::new(false),
            is_closing: AtomicBool::new(false),
            waiting_bytes: AtomicUsize::new(0),
        });
        let (requests, waiting) = sync_channel(MAX_WAITING);
        let (ending, ended) = watch::channel(());
        let writer =
            Writer::new(disk, open, Arc::clone(&shared), waiting, proof_interval(shard_limits.resume_window_ms));
        let run = move || {
            writer.run();
            drop(ending);
        };
        thread::Builder::new().name("store".into()).spawn(run).map_err(OpenError::Thread)?;
        Ok(Self { shared, requests, ended })
    }

    fn count<T: 'static>(&self, change: Change, result: fn(usize) -> T) -> Op<Result<T, BackendError>> {
        self.make(change, Outcome::count).map(move |count| count.map(result))
    }
}

impl Kept for FileSessions {
    fn make<T: 'static>(&self, change: Change, pick: fn(Outcome) -> Option<T>) -> Op<Result<T, BackendError>> {
        let asked = ask(&self.shared, &self.requests, Work::Change(change));
        asked.map(move |outcome| outcome.and_then(|outcome| pick(outcome).ok_or_else(mismatch)))
    }

    fn see<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&lock(&self.shared.state))
    }
}

/// Gives the writer something to do. It is queued when this returns, whether or not anybody waits for it.
fn ask(shared: &Shared, requests: &SyncSender<Request>, work: Work) -> Op<Result<Outcome, BackendError>> {
    let bytes = work.payload_bytes();
    if shared.waiting_bytes.fetch_add(bytes, Ordering::Relaxed) > MAX_WAITING_BYTES.saturating_sub(bytes) && bytes > 0 {
        shared.waiting_bytes.fetch_sub(bytes, Ordering::Relaxed);
        return refused(format!("{MAX_WAITING_BYTES} bytes wait for the disk already"));
    }
    let (reply, answer) = oneshot::channel();
    match requests.try_send(Request { work, bytes, reply: Some(reply) }) {
        Ok(()) => Op::Wait(Box::pin(async move { answer.await.unwrap_or_else(|_| Err(closed())) })),
        Err(error) => {
            shared.waiting_bytes.fetch_sub(bytes, Ordering::Relaxed);
            match error {
                TrySendError::Full(_) => refused(format!("{MAX_WAITING} changes wait for the disk already")),
                TrySendError::Disconnected(_) => Op::Ready(Err(closed())),
            }
        }
    }
}

fn refused(reason: String) -> Op<Result<Outcome, BackendError>> {
    Op::Ready(Err(BackendError(reason)))
}

fn closed() -> BackendError {
    BackendError("the store is closed".into())
}

/// A ceiling above the present one, unless that is high enough, and above `needed`. It never falls: below it times may have been
/// given meanwhile.
fn next_ceiling(clocks: &Clocks, now_ms: u64, needed: u64) -> u64 {
    ceiling_above(now_ms, clocks.highest().max(needed)).max(clocks.ceiling())
}

/// A ceiling for times of which `highest` was the latest.
fn ceiling_above(now_ms: u64, highest: u64) -> u64 {
    now_ms.saturating_add(millis(CEILING_AHEAD)).max(highest.saturating_add(millis(CEILING_MARGIN)))
}

const fn millis(duration: Duration) -> u64 {
    duration.as_millis() as u64
}

impl Shared {
    /// A time, and whether the ceiling is so near that it should be raised.
    fn next_time(&self, who: &str, now_ms: u64) -> Result<(u64, bool), AboveCeiling> {
        let mut clocks = lock(&self.clocks);
        let time = clocks.next(who, now_ms)?;
        Ok((time, clocks.ceiling() - time < millis(CEILING_MARGIN) / 2))
    }
}

impl SessionStore for FileSessions {
    fn add_token(&self, token: Token, max_tokens_per_user: usize) -> Op<Result<(), BackendError>> {
        self.count(Change::AddToken { token, max_of_user: max_tokens_per_user }, drop)
    }

    fn token(&self, hash: &TokenHash) -> Op<Result<Option<Token>, BackendError>> {
        Op::Ready(Ok(self.see(|state| state.token(hash).cloned())))
    }

    fn tokens_of(&self, user: &str) -> Op<Result<Vec<TokenHash>, BackendError>> {
        Op::Ready(Ok(self.see(|state| state.tokens_of(user))))
    }

    fn remove_token(&self, hash: &TokenHash) -> Op<Result<bool, BackendError>> {
        self.count(Change::RemoveToken(*hash), |count| count > 0)
    }

    fn drop_expired(&self, now_ms: u64) -> Op<Result<usize, BackendError>> {
        self.count(Change::DropExpired { now_ms }, |count| count)
    }

    fn add_user_room(&self, user: &str, room: &RoomName) -> Op<Result<bool, BackendError>> {
        self.count(Change::AddUserRoom { user: user.into(), room: room.clone() }, |count| count > 0)
    }

    fn remove_user_room(&self, user: &str, room: &RoomName) -> Op<Result<bool, BackendError>> {
        self.count(Change::RemoveUserRoom { user: user.into(), room: room.clone() }, |count| count > 0)
    }

    fn user_rooms(&self, user: &str) -> Op<Result<Vec<RoomName>, BackendError>> {
        Op::Ready(Ok(self.see(|state| state.user_rooms(user))))
    }

    fn forget_room(&self, room: &RoomName) -> Op<Result<(), BackendError>> {
        self.count(Change::ForgetRoom(room.clone()), drop)
    }

    fn next_command_time(&self, who: &str, now_ms: u64) -> Op<Result<u64, BackendError>> {
        let mut refused = match self.shared.next_time(who, now_ms) {
            Ok((time, is_near)) => {
                if is_near && !self.shared.is_raise_asked.swap(true, Ordering::Relaxed) {
                    let raise = Request { work: Work::Raise { needed: time }, bytes: 0, reply: None };
                    if self.requests.try_send(raise).is_err() {
                        self.shared.is_raise_asked.store(false, Ordering::Relaxed);
                    }
                }
                return Op::Ready(Ok(time));
            }
            Err(above) => above,
        };
        let (shared, requests, who) = (Arc::clone(&self.shared), self.requests.clone(), who.to_owned());
        Op::Wait(Box::pin(async move {
            loop {
                let AboveCeiling(needed) = refused;
                ask(&shared, &requests, Work::Raise { needed }).await?;
                match shared.next_time(&who, now_ms) {
                    Ok((time, _)) => return Ok(time),
                    Err(above) => refused = above,
                }
            }
        }))
    }

    fn forget_clock(&self, who: &str) {
        lock(&self.shared.clocks).forget(who);
    }

    fn survives_restart(&self) -> bool {
        true
    }

    fn close(&self) -> Op<()> {
        self.shared.is_closing.store(true, Ordering::Release);
        // If there is no place the writer is awake, and looks when it has done what waits.
        drop(self.requests.try_send(Request { work: Work::Close, bytes: 0, reply: None }));
        let mut ended = self.ended.clone();
        Op::Wait(Box::pin(async move { while ended.changed().await.is_ok() {} }))
    }
}
