//! The backend of one node: everything in this process's memory.
//!
//! Every operation is ready at once, except a publish for which a worker has no space.

use std::borrow::Borrow;
use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};
use std::future::poll_fn;
use std::hash::{BuildHasher, RandomState};
use std::ops::Bound;
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
    AddRoomError, BackendError, Broker, Directory, DirectorySize, Draft, Enter, LogLimits, NewMember, Pattern,
    Published, RoomHistory, RoomInfo, RoomPage,
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

impl Sequences {
    /// Counts new listeners and hands their mail to the worker, under the lock that orders deliveries.
    fn try_listen(
        &self,
        room: &RoomName,
        worker: u16,
        listeners: u32,
        from_start: bool,
        enter: &Enter,
    ) -> Result<bool, Full> {
        let mut rooms = self.rooms.of(room);
        let Some(sequence) = rooms.get_mut(room) else { return Ok(false) };
        let index = usize::from(worker);
        let said =
            from_start.then(|| sequence.log.all().map(|message| Arc::new(Encoded::new(message.clone()))).collect());
        let mail = enter(sequence.last, said);
        let permit = self.workers[index].try_reserve(mail.weight()).ok_or(Full(index))?;
        sequence.seats[index] += listeners;
        permit.push(mail);
        Ok(true)
    }

    /// Tries again whenever a worker that had no space has some.
    async fn once_there_is_space<T>(&self, mut attempt: impl FnMut() -> Result<T, Full>) -> T {
        poll_fn(|cx| {
            // A worker that was asked to wake this task and then still had no space will wake it.
            let mut asked = SmallVec::<[usize; 8]>::new();
            loop {
                match attempt() {
                    Ok(value) => return Poll::Ready(value),
                    Err(Full(worker)) if asked.contains(&worker) => return Poll::Pending,
                    Err(Full(worker)) => {
                        self.workers[worker].wake_on_space(cx.waker());
                        asked.push(worker);
                    }
                }
            }
        })
        .await
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
        Op::Wait(Box::pin(async move { Ok(sequences.once_there_is_space(|| sequences.try_publish(&draft)).await) }))
    }

    fn subscribe(&self, room: &RoomName, worker: u16) -> Op<Result<Option<u64>, BackendError>> {
        let mut rooms = self.0.rooms.of(room);
        Op::Ready(Ok(rooms.get_mut(room).map(|sequence| {
            sequence.seats[usize::from(worker)] += 1;
            sequence.last
        })))
    }

    fn listen(
        &self,
        room: &RoomName,
        worker: u16,
        listeners: u32,
        from_start: bool,
        enter: Enter,
    ) -> Op<Result<bool, BackendError>> {
        if let Ok(is_there) = self.0.try_listen(room, worker, listeners, from_start, &enter) {
            return Op::Ready(Ok(is_there));
        }
        let (sequences, room) = (Arc::clone(&self.0), room.clone());
        Op::Wait(Box::pin(async move {
            let attempt = || sequences.try_listen(&room, worker, listeners, from_start, &enter);
            Ok(sequences.once_there_is_space(attempt).await)
        }))
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
    /// The names of all rooms; also the lock under which rooms are made and forgotten.
    names: Mutex<BTreeSet<RoomName>>,
    /// Rooms that are not being destroyed, and their members. Changed under the lock of the room's shard.
    open_rooms: AtomicUsize,
    open_members: AtomicUsize,
}

#[derive(Debug)]
struct Room {
    pattern: Arc<Pattern>,
    has_first_pattern: bool,
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
            names: Mutex::default(),
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

    fn info(&self, room: &RoomName) -> Option<RoomInfo> {
        let rooms = self.rooms.of(room);
        let open = rooms.get(room).filter(|room| !room.is_closing);
        open.map(|room| RoomInfo {
            members_count: room.members.len(),
            pattern: Arc::clone(&room.pattern),
            version: 0,
            has_first_pattern: room.has_first_pattern,
        })
    }
}

/// The first `limit` names after this one, without those of rooms of two users, which come before all others.
fn names_after<K: Ord + Borrow<str> + Clone>(names: &BTreeSet<K>, after: Option<&str>, limit: usize) -> Vec<K> {
    let first = match after {
        Some(after) if after > RoomName::AFTER_DIRECT => Bound::Excluded(after),
        _ => Bound::Included(RoomName::AFTER_DIRECT),
    };
    names.range::<str, _>((first, Bound::Unbounded)).take(limit).cloned().collect()
}

impl Directory for MemoryDirectory {
    fn add_room(&self, room: &RoomName, pattern: Pattern, max_rooms: usize) -> Op<Result<bool, AddRoomError>> {
        let mut names = lock(&self.names);
        let mut rooms = self.rooms.of(room);
        Op::Ready(match rooms.entry(room.clone()) {
            Entry::Occupied(_) => Ok(false),
            Entry::Vacant(_) if names.len() >= max_rooms => Err(AddRoomError::TooMany),
            Entry::Vacant(entry) => {
                names.insert(room.clone());
                self.open_rooms.fetch_add(1, Ordering::Relaxed);
                entry.insert(Room {
                    pattern: Arc::new(pattern),
                    has_first_pattern: true,
                    members: HashMap::new(),
                    joins: 0,
                    is_closing: false,
                });
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
        let mut names = lock(&self.names);
        let mut rooms = self.rooms.of(room);
        if let Some(gone) = rooms.remove(room) {
            names.remove(room);
            if !gone.is_closing {
                self.no_longer_open(&gone);
            }
        }
        Op::Ready(Ok(()))
    }

    fn room(&self, room: &RoomName) -> Op<Result<Option<RoomInfo>, BackendError>> {
        Op::Ready(Ok(self.info(room)))
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

    fn page(&self, after: Option<&RoomName>, limit: usize) -> Op<Result<RoomPage, BackendError>> {
        let names = names_after(&lock(&self.names), after.map(RoomName::as_str), limit.saturating_add(1));
        let (names, next) = RoomPage::cut(names, limit);
        let info = |name: RoomName| Some((name.clone(), self.info(&name)?));
        Op::Ready(Ok(RoomPage { rooms: names.into_iter().filter_map(info).collect(), next }))
    }

    fn set_pattern(&self, room: &RoomName, pattern: Pattern) -> Op<Result<bool, BackendError>> {
        let mut rooms = self.rooms.of(room);
        let open = rooms.get_mut(room).filter(|room| !room.is_closing);
        let set = |room: &mut Room| {
            room.pattern = Arc::new(pattern);
            room.has_first_pattern = false;
        };
        Op::Ready(Ok(open.map(set).is_some()))
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

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::cmp::Ordering;

    use super::*;

    thread_local! {
        static STEPS: Cell<u64> = const { Cell::new(0) };
    }

    fn step() {
        STEPS.set(STEPS.get() + 1);
    }

    /// A name that counts how often it is compared and cloned.
    #[derive(PartialEq, Eq)]
    struct Counted(String);

    impl Clone for Counted {
        fn clone(&self) -> Self {
            step();
            Self(self.0.clone())
        }
    }

    impl Ord for Counted {
        fn cmp(&self, other: &Self) -> Ordering {
            self.0.cmp(&other.0)
        }
    }

    impl PartialOrd for Counted {
        fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
            Some(self.cmp(other))
        }
    }

    impl Borrow<str> for Counted {
        fn borrow(&self) -> &str {
            step();
            &self.0
        }
    }

    #[test]
    fn what_a_page_of_rooms_costs_does_not_depend_on_how_many_rooms_there_are() {
        let counted = |rooms: usize| {
            let names: BTreeSet<Counted> = (0..rooms).map(|number| Counted(format!("r{number:05}"))).collect();
            STEPS.set(0);
            let page = names_after(&names, Some("r00500"), 101);
            assert_eq!((page.len(), page[0].0.as_str()), (101, "r00501"));
            STEPS.get()
        };
        let [few, many] = [1000, 20_000].map(counted);
        assert!(many * 10 <= few * 13, "{few} {many}");
    }
}
