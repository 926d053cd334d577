//! The backend of one node: everything in this process's memory.
//!
//! Every operation is ready at once, except a publish for which a worker has no space.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::future::poll_fn;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;

use smallvec::SmallVec;
use switchboard_proto::call::{HistoryRange, Member};
use switchboard_proto::event::RoomMessage;
use switchboard_proto::id::{ConnId, RoomName};
use switchboard_proto::wire::Encoded;

use crate::clock;
use crate::hub::mail::{Delivery, Mail};
use crate::hub::mailbox::Mailbox;
use crate::op::Op;

use super::log::{Earlier, Log, LogBytes};
use super::{
    AddRoomError, BackendError, Broker, Directory, DirectorySize, Draft, LogLimits, NewMember, Pattern, Published,
    RoomHistory, RoomInfo,
};

/// Rooms, spread over locks by their names.
#[derive(Debug)]
struct Shards<T> {
    shards: Vec<Mutex<HashMap<RoomName, T>>>,
    hasher: RandomState,
}

impl<T> Shards<T> {
    const COUNT: usize = 64;

    fn new() -> Self {
        Self { shards: (0..Self::COUNT).map(|_| Mutex::default()).collect(), hasher: RandomState::new() }
    }

    fn of(&self, room: &RoomName) -> MutexGuard<'_, HashMap<RoomName, T>> {
        let shard = self.hasher.hash_one(room) as usize % Self::COUNT;
        lock(&self.shards[shard])
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing under these locks can panic half way.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Numbers messages under a lock and hands them to this process's workers.
#[derive(Debug)]
pub struct MemoryBroker(Arc<Sequences>);

#[derive(Debug)]
struct Sequences {
    workers: Vec<Mailbox>,
    rooms: Shards<Sequence>,
    limits: LogLimits,
    log_bytes: LogBytes,
    /// The epoch of the room that was opened last.
    epoch: AtomicU64,
}

/// One room's numbering.
#[derive(Debug)]
struct Sequence {
    /// Which life of the room it is.
    epoch: u64,
    /// The latest number.
    last: u64,
    /// How many members and listeners each worker has.
    seats: Vec<u32>,
    log: Log,
}

/// The number of a worker that had no space.
struct Full(usize);

impl MemoryBroker {
    /// A broker for these workers, in the order of their numbers.
    pub fn new(workers: Vec<Mailbox>, limits: LogLimits) -> Self {
        let log_bytes = LogBytes::default();
        Self(Arc::new(Sequences { workers, rooms: Shards::new(), limits, log_bytes, epoch: AtomicU64::default() }))
    }
}

impl Sequences {
    /// Reserves space with every worker that has members, then numbers the message and pushes it. The lock is held
    /// across both, which is what makes all workers see one order.
    fn try_publish(&self, draft: &Draft) -> Result<Option<Published>, Full> {
        let mut rooms = self.rooms.of(&draft.room);
        let Some(sequence) = rooms.get_mut(&draft.room) else { return Ok(None) };
        if let Some(id) = draft.extra.as_ref().and_then(|extra| extra.id.as_deref())
            && let Some(earlier) = sequence.log.earlier(id, draft.user.as_ref(), draft.sent_at, &self.limits)
        {
            return Ok(Some(match earlier {
                Earlier::Same(message) => Published::Before(message),
                Earlier::Other => Published::IdTaken,
            }));
        }
        let attachment = draft.extra.as_ref().and_then(|extra| extra.attachment.as_ref());
        let weight = Delivery::weight_of(&draft.body, attachment);
        let mut permits = SmallVec::<[_; 8]>::new();
        for (index, worker) in self.workers.iter().enumerate() {
            if sequence.seats[index] > 0 {
                permits.push(worker.try_reserve(weight).ok_or(Full(index))?);
            }
        }
        let number = sequence.last + 1;
        sequence.last = number;
        let message = RoomMessage {
            room: draft.room.clone(),
            number,
            sender: draft.sender.clone(),
            body: draft.body.clone(),
            sent_at: draft.sent_at,
            epoch: sequence.epoch,
            user: draft.user.clone(),
            extra: draft.extra.clone(),
        };
        sequence.log.push(&message, &self.limits, &self.log_bytes);
        let message = Arc::new(Encoded::new(message));
        let delivery = Delivery { message: Arc::clone(&message), origin: draft.origin, echo: draft.echo };
        for permit in permits {
            permit.push(Mail::Deliver(delivery.clone()));
        }
        Ok(Some(Published::Now(message)))
    }
}

impl Broker for MemoryBroker {
    fn open(&self, room: &RoomName) -> Op<Result<(), BackendError>> {
        let workers = self.0.workers.len();
        let fresh = || {
            let now_ms = clock::unix_ms();
            let later = |last: u64| Some(now_ms.max(last + 1));
            let last = self.0.epoch.fetch_update(Ordering::Relaxed, Ordering::Relaxed, later).unwrap_or_default();
            Sequence { epoch: now_ms.max(last + 1), last: 0, seats: vec![0; workers], log: Log::default() }
        };
        self.0.rooms.of(room).entry(room.clone()).or_insert_with(fresh);
        Op::Ready(Ok(()))
    }

    fn close(&self, room: &RoomName) -> Op<Result<(), BackendError>> {
        if let Some(mut sequence) = self.0.rooms.of(room).remove(room) {
            sequence.log.clear(&self.0.log_bytes);
        }
        Op::Ready(Ok(()))
    }

    fn history(&self, range: HistoryRange) -> Op<Result<Option<RoomHistory>, BackendError>> {
        let rooms = self.0.rooms.of(&range.room);
        Op::Ready(Ok(rooms.get(&range.room).map(|sequence| sequence.log.range(&range))))
    }

    fn publish(&self, draft: Draft) -> Op<Result<Option<Published>, BackendError>> {
        if let Ok(number) = self.0.try_publish(&draft) {
            return Op::Ready(Ok(number));
        }
        let sequences = Arc::clone(&self.0);
        Op::Wait(Box::pin(async move {
            let published = poll_fn(|cx| {
                // A worker that was asked to wake this task and then still had no space will wake it.
                let mut asked = SmallVec::<[usize; 8]>::new();
                loop {
                    match sequences.try_publish(&draft) {
                        Ok(number) => return Poll::Ready(number),
                        Err(Full(worker)) if asked.contains(&worker) => return Poll::Pending,
                        Err(Full(worker)) => {
                            sequences.workers[worker].wake_on_space(cx.waker());
                            asked.push(worker);
                        }
                    }
                }
            });
            Ok(published.await)
        }))
    }

    fn subscribe(&self, room: &RoomName, worker: u16) -> Op<Result<Option<u64>, BackendError>> {
        let mut rooms = self.0.rooms.of(room);
        Op::Ready(Ok(rooms.get_mut(room).map(|sequence| {
            sequence.seats[usize::from(worker)] += 1;
            sequence.last
        })))
    }

    fn unsubscribe(&self, room: &RoomName, worker: u16) -> Op<Result<(), BackendError>> {
        if let Some(sequence) = self.0.rooms.of(room).get_mut(room) {
            let count = &mut sequence.seats[usize::from(worker)];
            *count = count.saturating_sub(1);
        }
        Op::Ready(Ok(()))
    }
}

/// Rooms and members in this process's memory.
#[derive(Debug)]
pub struct MemoryDirectory {
    rooms: Shards<Room>,
    /// How many rooms there are; also the lock under which rooms are made and forgotten.
    count: Mutex<usize>,
    /// Rooms that are not being destroyed, and their members. Changed under the lock of the room's shard.
    open_rooms: AtomicUsize,
    open_members: AtomicUsize,
}

#[derive(Debug)]
struct Room {
    pattern: Arc<Pattern>,
    members: HashMap<ConnId, Joined>,
    /// How many have joined so far.
    joins: u64,
    is_closing: bool,
}

#[derive(Debug)]
struct Joined {
    at: u64,
    /// Workers read their clocks at different moments, so the time alone does not say who came first.
    order: u64,
}

impl Default for MemoryDirectory {
    fn default() -> Self {
        Self {
            rooms: Shards::new(),
            count: Mutex::new(0),
            open_rooms: AtomicUsize::new(0),
            open_members: AtomicUsize::new(0),
        }
    }
}

impl MemoryDirectory {
    fn no_longer_open(&self, room: &Room) {
        self.open_rooms.fetch_sub(1, Ordering::Relaxed);
        self.open_members.fetch_sub(room.members.len(), Ordering::Relaxed);
    }
}

impl Directory for MemoryDirectory {
    fn add_room(&self, room: &RoomName, pattern: Pattern, max_rooms: usize) -> Op<Result<bool, AddRoomError>> {
        let mut count = lock(&self.count);
        let mut rooms = self.rooms.of(room);
        Op::Ready(match rooms.entry(room.clone()) {
            Entry::Occupied(_) => Ok(false),
            Entry::Vacant(_) if *count >= max_rooms => Err(AddRoomError::TooMany),
            Entry::Vacant(entry) => {
                *count += 1;
                self.open_rooms.fetch_add(1, Ordering::Relaxed);
                entry.insert(Room { pattern: Arc::new(pattern), members: HashMap::new(), joins: 0, is_closing: false });
                Ok(true)
            }
        })
    }

    fn begin_destroy(&self, room: &RoomName) -> Op<Result<bool, BackendError>> {
        let mut rooms = self.rooms.of(room);
        let Some(room) = rooms.get_mut(room).filter(|room| !room.is_closing) else { return Op::Ready(Ok(false)) };
        room.is_closing = true;
        self.no_longer_open(room);
        Op::Ready(Ok(true))
    }

    fn forget(&self, room: &RoomName) -> Op<Result<(), BackendError>> {
        let mut count = lock(&self.count);
        let mut rooms = self.rooms.of(room);
        if let Some(room) = rooms.remove(room) {
            *count -= 1;
            if !room.is_closing {
                self.no_longer_open(&room);
            }
        }
        Op::Ready(Ok(()))
    }

    fn room(&self, room: &RoomName) -> Op<Result<Option<RoomInfo>, BackendError>> {
        let rooms = self.rooms.of(room);
        let open = rooms.get(room).filter(|room| !room.is_closing);
        Op::Ready(Ok(open.map(|room| RoomInfo {
            members_count: room.members.len(),
            pattern: Arc::clone(&room.pattern),
            version: 0,
        })))
    }

    fn size(&self) -> Op<Result<DirectorySize, BackendError>> {
        Op::Ready(Ok(self.counted().unwrap_or_default()))
    }

    fn counted(&self) -> Option<DirectorySize> {
        let load = |count: &AtomicUsize| count.load(Ordering::Relaxed);
        Some(DirectorySize { rooms: load(&self.open_rooms), members: load(&self.open_members) })
    }

    fn rooms(&self) -> Op<Result<Vec<RoomName>, BackendError>> {
        let mut names = Vec::new();
        for shard in &self.rooms.shards {
            let shard = lock(shard);
            names.extend(shard.iter().filter(|(_, room)| !room.is_closing).map(|(name, _)| name.clone()));
        }
        names.sort_unstable();
        Op::Ready(Ok(names))
    }

    fn set_pattern(&self, room: &RoomName, pattern: Pattern) -> Op<Result<bool, BackendError>> {
        let mut rooms = self.rooms.of(room);
        let open = rooms.get_mut(room).filter(|room| !room.is_closing);
        Op::Ready(Ok(open.map(|room| room.pattern = Arc::new(pattern)).is_some()))
    }

    fn add_member(&self, room: &RoomName, member: NewMember) -> Op<Result<bool, BackendError>> {
        let mut rooms = self.rooms.of(room);
        let open = rooms.get_mut(room).filter(|room| !room.is_closing);
        Op::Ready(Ok(open
            .map(|room| {
                room.joins += 1;
                let joined = Joined { at: member.joined_at, order: room.joins };
                if room.members.insert(member.facts.id, joined).is_none() {
                    self.open_members.fetch_add(1, Ordering::Relaxed);
                }
            })
            .is_some()))
    }

    fn remove_member(&self, room: &RoomName, id: ConnId) -> Op<Result<(), BackendError>> {
        if let Some(room) = self.rooms.of(room).get_mut(room)
            && room.members.remove(&id).is_some()
            && !room.is_closing
        {
            self.open_members.fetch_sub(1, Ordering::Relaxed);
        }
        Op::Ready(Ok(()))
    }

    fn members(&self, room: &RoomName) -> Op<Result<Option<Vec<Member>>, BackendError>> {
        let rooms = self.rooms.of(room);
        let open = rooms.get(room).filter(|room| !room.is_closing);
        Op::Ready(Ok(open.map(|room| {
            let mut members: Vec<_> = room.members.iter().collect();
            members.sort_unstable_by_key(|(_, joined)| joined.order);
            members.into_iter().map(|(id, joined)| Member { id: *id, joined_at: joined.at }).collect()
        })))
    }
}
