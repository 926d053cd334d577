//! What every session store must do, asked of each of them: of users here, of shards in `shards`, `logs`, `races` and `model`.
//! Stores in Redis are asked over a server of the test's own, and over one that is a whole Redis Cluster.

mod directory;
mod logs;
pub(super) mod model;
mod races;
pub(super) mod rooms;
pub(super) mod shards;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use proptest::prelude::*;
use switchboard_proto::id::RoomName;

use super::file::{FileSessions, Machine, Moment};
use super::redis::testing::{self, TestStore};
use super::sessions::memory::MemorySessions;
use super::sessions::shards::{ReadLog, ShardLimits};
use super::sessions::{SessionStore, Token, TokenHash};
use crate::op::Op;

/// A folder that goes when the test ends.
pub(super) struct TestFolder(PathBuf);

impl TestFolder {
    pub(super) fn new() -> Self {
        Self(std::env::temp_dir().join(format!("switchboard-store-{}", uuid::Uuid::new_v4())))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TestFolder {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

pub(super) fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(future)
}

/// The result of an operation, which must not fail.
pub(super) fn done<T, E: std::fmt::Debug>(op: Op<Result<T, E>>) -> T {
    match op {
        Op::Ready(result) => result.unwrap(),
        Op::Wait(future) => block_on(future).unwrap(),
    }
}

/// The result of an operation that only looks, and must not wait unless the store is somewhere else.
pub(super) fn ready<T, E: std::fmt::Debug>(op: Op<Result<T, E>>) -> T {
    done(op)
}

pub(super) fn token(name: &str, user: &str, expires_ms: u64) -> Token {
    let mut binding = *TokenHash::of(user).as_bytes();
    // A store that took bytes for text would stop here.
    binding[0] = 0;
    Token { hash: TokenHash::of(name), user: user.into(), binding, created_ms: 1, expires_ms }
}

pub(super) fn room(name: &str) -> RoomName {
    RoomName::parse(name).unwrap()
}

const MAX_USER_ROOMS: usize = 3;

pub(super) const SHARD_LIMITS: ShardLimits =
    ShardLimits { log_events: 5, log_bytes: 100, total_bytes: 150, resume_window_ms: 1000, id_memory_ms: 1000, ids: 3 };

/// A store under test.
struct Subject {
    place: Place,
    store: Arc<dyn SessionStore>,
    /// What a store that looks at clocks finds there.
    moment: Arc<Mutex<Moment>>,
}

/// Where a store keeps what it keeps.
enum Place {
    Memory,
    File(TestFolder),
    Redis(TestStore),
}

impl Subject {
    fn memory() -> Self {
        let store = Arc::new(MemorySessions::new(MAX_USER_ROOMS, SHARD_LIMITS));
        Self { place: Place::Memory, store, moment: Arc::default() }
    }

    fn redis() -> Self {
        Self::on(testing::single())
    }

    fn redis_cluster() -> Self {
        Self::on(testing::cluster())
    }

    fn on(test: TestStore) -> Self {
        let store = Arc::new(test.sessions(MAX_USER_ROOMS, SHARD_LIMITS));
        Self { place: Place::Redis(test), store, moment: Arc::new(Mutex::new(Moment::at(shards::NOW))) }
    }

    fn file() -> Self {
        let (folder, moment) = (TestFolder::new(), Arc::new(Mutex::new(Moment::at(shards::NOW))));
        let store = Arc::new(open(folder.path(), &moment));
        Self { place: Place::File(folder), store, moment }
    }

    fn set_time(&self, now_ms: u64) {
        *self.moment.lock().unwrap() = Moment::at(now_ms);
    }

    /// As after a planned restart, for a store that promises to survive one. In Redis another node takes over.
    fn restart(&mut self) {
        match &self.place {
            Place::Memory => assert!(!self.store.survives_restart()),
            Place::File(folder) => {
                assert!(self.store.survives_restart());
                block_on(self.store.close().into_future());
                self.store = Arc::new(open(folder.path(), &self.moment));
            }
            Place::Redis(test) => {
                assert!(self.store.survives_restart());
                let (dead, next) = (test.slot(), test.another_node());
                self.store = Arc::new(next.sessions(MAX_USER_ROOMS, SHARD_LIMITS));
                let now_ms = self.moment.lock().unwrap().wall_ms;
                done(self.store.adopt_shards(dead, next.slot(), now_ms));
                self.place = Place::Redis(next);
            }
        }
    }
}

fn open(folder: &Path, moment: &Arc<Mutex<Moment>>) -> FileSessions {
    let moment = Arc::clone(moment);
    let machine = Machine::at(Box::new(move || *moment.lock().unwrap()));
    FileSessions::open_on(folder, MAX_USER_ROOMS, SHARD_LIMITS, machine).unwrap()
}

/// Runs each rule against each store.
macro_rules! contract {
    ($($rule:ident),* $(,)?) => {
        mod memory {
            $(#[test] fn $rule() { super::$rule(super::Subject::memory) })*
        }
        mod file {
            $(#[test] fn $rule() { super::$rule(super::Subject::file) })*
        }
        mod redis {
            $(#[test] fn $rule() { super::$rule(super::Subject::redis) })*
        }
        mod redis_cluster {
            $(#[test] fn $rule() { super::$rule(super::Subject::redis_cluster) })*
        }
    };
}
use contract;

contract! {
    a_token_is_found_until_it_is_removed,
    of_one_user_the_oldest_tokens_go,
    a_token_added_twice_counts_once_and_is_the_newest,
    expired_tokens_are_kept_for_a_day,
    rooms_of_a_user_are_kept_in_the_order_of_joining,
    a_user_in_too_many_rooms_is_refused_another,
    nobody_is_in_a_room_that_was_destroyed,
    times_of_commands_rise_for_each_user,
    whatever_is_done_is_what_a_naive_store_would_do,
}

fn a_token_is_found_until_it_is_removed(subject: fn() -> Subject) {
    let store = subject().store;
    let (kept, other) = (token("kept", "u1", 5), token("other", "u2", 6));
    assert_eq!(ready(store.token(&kept.hash)), None);
    done(store.add_token(kept.clone(), 8));
    done(store.add_token(other.clone(), 8));
    assert_eq!(ready(store.token(&kept.hash)), Some(kept.clone()));
    assert!(done(store.remove_token(&kept.hash)));
    assert!(!done(store.remove_token(&kept.hash)));
    assert_eq!(ready(store.token(&kept.hash)), None);
    assert_eq!(ready(store.token(&other.hash)), Some(other));
}

fn of_one_user_the_oldest_tokens_go(subject: fn() -> Subject) {
    let mut subject = subject();
    let names = ["a", "b", "c", "d"];
    done(subject.store.add_token(token("other", "u2", 9), 2));
    for name in names {
        done(subject.store.add_token(token(name, "u1", 9), 3));
        subject.restart();
    }
    let found = names.map(|name| ready(subject.store.token(&TokenHash::of(name))).is_some());
    assert_eq!(found, [false, true, true, true]);
    done(subject.store.add_token(token("e", "u1", 9), 2));
    let found = ["c", "d", "e", "other"].map(|name| ready(subject.store.token(&TokenHash::of(name))).is_some());
    assert_eq!(found, [false, true, true, true], "a limit that has been lowered holds from the next token on");
}

fn a_token_added_twice_counts_once_and_is_the_newest(subject: fn() -> Subject) {
    let store = subject().store;
    for (name, expires_ms) in [("a", 1), ("b", 1), ("a", 2), ("c", 1)] {
        done(store.add_token(token(name, "u1", expires_ms), 2));
    }
    let expiry = ["a", "b", "c"].map(|name| ready(store.token(&TokenHash::of(name))).map(|token| token.expires_ms));
    assert_eq!(expiry, [Some(2), None, Some(1)]);
}

fn expired_tokens_are_kept_for_a_day(subject: fn() -> Subject) {
    let store = subject().store;
    let day_ms = 24 * 3600 * 1000;
    for (name, expires_ms) in [("old", 999), ("young", 1000)] {
        done(store.add_token(token(name, "u1", expires_ms), 8));
    }
    assert_eq!(done(store.drop_expired(day_ms + 999)), 0);
    assert_eq!(done(store.drop_expired(day_ms + 1000)), 1);
    let found = ["old", "young"].map(|name| ready(store.token(&TokenHash::of(name))).is_some());
    assert_eq!(found, [false, true]);
}

fn rooms_of_a_user_are_kept_in_the_order_of_joining(subject: fn() -> Subject) {
    let mut subject = subject();
    let [a, b, c] = [room("a"), RoomName::direct("u1", "u2"), room("c")];
    for (room, is_new) in [(&b, true), (&a, true), (&b, false)] {
        assert_eq!(done(subject.store.add_user_room("u1", room)), is_new);
    }
    subject.restart();
    assert!(done(subject.store.add_user_room("u1", &c)));
    assert_eq!(ready(subject.store.user_rooms("u1")), [b.clone(), a.clone(), c.clone()]);
    assert!(done(subject.store.remove_user_room("u1", &a)));
    assert!(!done(subject.store.remove_user_room("u1", &a)));
    assert!(!done(subject.store.remove_user_room("u2", &b)));
    subject.restart();
    assert_eq!(ready(subject.store.user_rooms("u1")), [b, c]);
    assert_eq!(ready(subject.store.user_rooms("u2")), []);
}

fn a_user_in_too_many_rooms_is_refused_another(subject: fn() -> Subject) {
    let store = subject().store;
    for name in ["a", "b", "c"] {
        assert!(done(store.add_user_room("u1", &room(name))));
    }
    let refused = block_on(store.add_user_room("u1", &room("d")).into_future());
    assert!(refused.is_err());
    assert!(!done(store.add_user_room("u1", &room("a"))), "a room that is known already is no further one");
    assert!(done(store.add_user_room("u2", &room("d"))));
    assert_eq!(ready(store.user_rooms("u1")).len(), MAX_USER_ROOMS);
}

fn nobody_is_in_a_room_that_was_destroyed(subject: fn() -> Subject) {
    let mut subject = subject();
    for (user, name) in [("u1", "a"), ("u1", "b"), ("u2", "a")] {
        done(subject.store.add_user_room(user, &room(name)));
    }
    done(subject.store.forget_room(&room("a")));
    subject.restart();
    assert_eq!(ready(subject.store.user_rooms("u1")), [room("b")]);
    assert_eq!(ready(subject.store.user_rooms("u2")), []);
}

fn times_of_commands_rise_for_each_user(subject: fn() -> Subject) {
    let mut subject = subject();
    let times: Vec<u64> =
        [500, 500, 20, 700].iter().map(|now| ready(subject.store.next_command_time("u", *now))).collect();
    assert_eq!(times, [500, 501, 502, 700]);
    assert_eq!(ready(subject.store.next_command_time("v", 20)), 20);
    subject.store.forget_clock("v");
    assert_eq!(ready(subject.store.next_command_time("v", 20)), 20);
    let latest = done(subject.store.next_command_time("u", u64::from(u32::MAX) << 16));
    assert_eq!(latest, u64::from(u32::MAX) << 16, "however far the clock jumps");
    subject.restart();
    let next = done(subject.store.next_command_time("u", 20));
    assert!(next == latest + 1, "{next} after {latest}: a planned restart costs no time");
}

/// What may be done to a store. Numbers stand for names, of which there are few, so that they meet.
#[derive(Clone, Copy, Debug)]
enum Deed {
    Add { token: u8, user: u8, expires_ms: u64, max: usize },
    Remove(u8),
    DropExpired(u64),
    Join { user: u8, room: u8 },
    Leave { user: u8, room: u8 },
    Destroy(u8),
    Restart,
}

fn deeds() -> impl Strategy<Value = Vec<Deed>> {
    const DAY_MS: u64 = 24 * 3600 * 1000;
    let deed = prop_oneof![
        6 => (0..8_u8, 0..2_u8, 0..4_u64, 0..4_usize)
            .prop_map(|(token, user, expires_ms, max)| Deed::Add { token, user, expires_ms, max }),
        2 => (0..8_u8).prop_map(Deed::Remove),
        1 => (0..4_u64).prop_map(|ms| Deed::DropExpired(DAY_MS + ms)),
        6 => (0..2_u8, 0..5_u8).prop_map(|(user, room)| Deed::Join { user, room }),
        3 => (0..2_u8, 0..5_u8).prop_map(|(user, room)| Deed::Leave { user, room }),
        1 => (0..5_u8).prop_map(Deed::Destroy),
        1 => Just(Deed::Restart),
    ];
    prop::collection::vec(deed, 1..40)
}

/// Two lists.
#[derive(Debug, Default)]
struct Naive {
    tokens: Vec<Token>,
    rooms: Vec<(String, RoomName)>,
}

impl Naive {
    /// Does what the deed says, to the store as well, and compares what both answer.
    fn check(&mut self, deed: Deed, subject: &mut Subject) {
        let store = Arc::clone(&subject.store);
        let name = |number: u8| number.to_string();
        match deed {
            Deed::Add { token: number, user, expires_ms, max } => {
                let token = token(&name(number), &name(user), expires_ms);
                done(store.add_token(token.clone(), max));
                self.tokens.retain(|other| other.hash != token.hash);
                self.tokens.push(token);
                let of_user = self.tokens.iter().filter(|token| token.user == name(user)).count();
                let mut too_many = of_user.saturating_sub(max);
                self.tokens.retain(|token| {
                    let goes = token.user == name(user) && too_many > 0;
                    too_many -= usize::from(goes);
                    !goes
                });
            }
            Deed::Remove(number) => {
                let (hash, before) = (TokenHash::of(&name(number)), self.tokens.len());
                self.tokens.retain(|token| token.hash != hash);
                assert_eq!(done(store.remove_token(&hash)), self.tokens.len() < before);
            }
            Deed::DropExpired(now_ms) => {
                let before = self.tokens.len();
                self.tokens.retain(|token| token.expires_ms + 24 * 3600 * 1000 >= now_ms);
                assert_eq!(done(store.drop_expired(now_ms)), before - self.tokens.len());
            }
            Deed::Join { user, room: number } => {
                let pair = (name(user), room(&name(number)));
                let expected = if self.rooms.contains(&pair) {
                    Some(false)
                } else if self.rooms.iter().filter(|(user, _)| *user == pair.0).count() >= MAX_USER_ROOMS {
                    None
                } else {
                    self.rooms.push(pair.clone());
                    Some(true)
                };
                assert_eq!(block_on(store.add_user_room(&pair.0, &pair.1).into_future()).ok(), expected);
            }
            Deed::Leave { user, room: number } => {
                let (pair, before) = ((name(user), room(&name(number))), self.rooms.len());
                self.rooms.retain(|other| *other != pair);
                assert_eq!(done(store.remove_user_room(&pair.0, &pair.1)), self.rooms.len() < before);
            }
            Deed::Destroy(number) => {
                self.rooms.retain(|(_, other)| *other != room(&name(number)));
                done(store.forget_room(&room(&name(number))));
            }
            Deed::Restart => subject.restart(),
        }
        for number in 0..8 {
            let hash = TokenHash::of(&name(number));
            let kept = self.tokens.iter().find(|token| token.hash == hash).cloned();
            assert_eq!(ready(subject.store.token(&hash)), kept, "token {number} after {deed:?}");
        }
        for user in 0..2 {
            let rooms = self.rooms.iter().filter(|(other, _)| *other == name(user)).map(|(_, room)| room.clone());
            assert_eq!(ready(subject.store.user_rooms(&name(user))), rooms.collect::<Vec<_>>(), "after {deed:?}");
        }
    }
}

fn whatever_is_done_is_what_a_naive_store_would_do(subject: fn() -> Subject) {
    proptest!(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() }, |(deeds in deeds())| {
        let (mut naive, mut subject) = (Naive::default(), subject());
        for deed in deeds {
            naive.check(deed, &mut subject);
        }
    });
}

#[test]
fn who_only_looks_at_memory_or_a_file_never_waits() {
    for subject in [Subject::memory(), Subject::file()] {
        let store = &subject.store;
        assert!(matches!(store.token(&TokenHash::of("t")), Op::Ready(_)));
        assert!(matches!(store.user_rooms("u"), Op::Ready(_)));
        assert!(matches!(store.next_command_time("u", 1), Op::Ready(_)));
        assert!(matches!(store.shards(shards::NOW), Op::Ready(_)));
        done(store.begin_shard(shards::begin(1, 0))).unwrap();
        let read = ReadLog { id: shards::session(1), generation: 1, after: 0, max_events: 1, max_bytes: 1 };
        assert!(matches!(store.read_log(read), Op::Ready(_)));
        assert!(matches!(store.acknowledge(shards::session(1), 1, 0), Op::Ready(_)));
    }
}
