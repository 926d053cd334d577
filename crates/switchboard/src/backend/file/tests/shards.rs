//! What a file adds to the contract of sessions of shards.

use std::sync::atomic::AtomicU64;

use redb::ReadableDatabase;
use switchboard_proto::shard::LogItem;

use super::*;
use crate::backend::contract::shards::{ANY, NOW, begin, fleet, note, publication, resume, session};
use crate::backend::sessions::ShardStore;
use crate::backend::sessions::shards::{Append, BeginShard, ReadLog, ResumeShard, ShardTarget};

const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");

/// Opens a store whose clocks show this.
fn open_at(folder: &Path, moment: Moment) -> FileSessions {
    FileSessions::open_on(folder, MANY, ShardLimits::default(), Machine::at(Box::new(move || moment))).unwrap()
}

fn publish(store: &FileSessions, text: &str) -> Option<u64> {
    let event = block_on(store.publish(publication(ShardTarget::Shard(0), text)).into_future());
    event.ok().flatten().map(|event| event.deliveries[0].seq)
}

/// Since when nobody carries the session, in the time of the store's process.
fn detached_ms(store: &FileSessions) -> Option<u64> {
    ready(store.shard(session(1), 0)).and_then(|record| record.detached_ms)
}

#[test]
fn fault_row_40_after_a_kill_the_window_begins_at_the_last_proof_of_life() {
    let hour_ms = 3_600_000;
    let now = 10 * hour_ms;
    let moment = Moment { steady_ms: now, wall_ms: now, boot: 7, up_ms: 0 };
    let folder = TestFolder::new();
    let store = open_at(folder.path(), moment);
    done(store.begin_shard(BeginShard { now_ms: now, ..begin(1, 0) })).unwrap();
    // The wall clock is set meanwhile; the machine knows how long the store was down: five seconds.
    for wall_ms in [now - hour_ms, now, now + hour_ms] {
        let killed = image(&folder);
        let later = Moment { steady_ms: wall_ms, wall_ms, boot: 7, up_ms: 5000 };
        let next = open_at(killed.path(), later);
        assert_eq!(detached_ms(&next), Some(wall_ms - 5000));
        // A second kill changes nothing about it.
        let killed = image(&killed);
        let later = Moment { steady_ms: now, wall_ms: now, boot: 7, up_ms: 6000 };
        let next = open_at(killed.path(), later);
        assert_eq!(detached_ms(&next), Some(now - 6000));
        assert_eq!(ready(next.shard(session(1), now)).unwrap().owner, None);
        assert_eq!(ready(next.shard(session(1), now - 6000 + 299_999)).map(|record| record.last), Some(0));
        assert_eq!(ready(next.shard(session(1), now - 6000 + 300_000)), None);
    }
}

#[test]
fn every_commit_proves_that_the_store_was_up() {
    let after_ms = 2 * ShardLimits::default().resume_window_ms;
    type Commit = fn(&FileSessions);
    let commits: [Commit; 2] =
        [|store| assert_eq!(publish(store, "e"), Some(1)), |store| done(store.add_token(token("t", "u", 9), 8))];
    for commit in commits {
        let (folder, clock) = (TestFolder::new(), Arc::new(AtomicU64::new(NOW)));
        let watch = {
            let clock = Arc::clone(&clock);
            Machine::at(Box::new(move || Moment::at(clock.load(Ordering::Relaxed))))
        };
        let store = FileSessions::open_on(folder.path(), MANY, ShardLimits::default(), watch).unwrap();
        done(store.begin_shard(begin(1, 0))).unwrap();
        clock.store(NOW + after_ms, Ordering::Relaxed);
        commit(&store);
        let now_ms = NOW + after_ms + 1000;
        let next = open_at(image(&folder).path(), Moment::at(now_ms));
        assert_eq!(ready(next.shard(session(1), now_ms)).and_then(|record| record.detached_ms), Some(NOW + after_ms));
        assert!(done(next.resume_shard(ResumeShard { now_ms, ..resume(1, 0, None) })).is_some());
    }
}

#[test]
fn life_is_proven_four_times_in_a_window_but_not_without_a_pause() {
    let times = [0, 399, 3000, 10_000, 300_000, u64::MAX].map(|window_ms| proof_interval(window_ms).as_millis());
    assert_eq!(times, [100, 100, 750, 2500, 5000, 5000]);
}

#[test]
fn an_age_is_kept_when_the_clock_of_the_next_process_shows_another_time() {
    let folder = TestFolder::new();
    let store = open_at(folder.path(), Moment::at(NOW));
    done(store.begin_shard(begin(1, 0))).unwrap();
    done(store.detach_shard(note(1, 1), NOW - 700)).unwrap();
    close(&store);
    // By its wall clock no time has passed, but by another one it is earlier, or later.
    for steady_ms in [NOW - 1000, NOW + 1000] {
        let next = open_at(image(&folder).path(), Moment { steady_ms, ..Moment::at(NOW) });
        assert_eq!(detached_ms(&next), Some(steady_ms - 700));
        let starts = ready(next.starts("app", ANY, steady_ms));
        assert_eq!(starts.reset_after_ms, 24 * 3_600_000);
    }
}

#[test]
fn a_file_that_was_made_before_there_were_sessions_is_used() {
    const TOKENS: TableDefinition<'_, &[u8; 32], (u64, u64, u64, &str)> = TableDefinition::new("tokens");
    const USER_ROOMS: TableDefinition<'_, (&str, &str), u64> = TableDefinition::new("user_rooms");
    let folder = TestFolder::new();
    fs::create_dir(folder.path()).unwrap();
    let database = Database::create(folder.path().join("switchboard.redb")).unwrap();
    let transaction = database.begin_write().unwrap();
    transaction.open_table(META).unwrap().insert("format", 1).unwrap();
    let old = token("t", "u", 9);
    transaction.open_table(TOKENS).unwrap().insert(old.hash.as_bytes(), (0, 1, 9, "u")).unwrap();
    transaction.open_table(USER_ROOMS).unwrap().insert(("u", "lobby"), 1).unwrap();
    transaction.commit().unwrap();
    drop(database);
    let store = open_at(folder.path(), Moment::at(NOW));
    assert_eq!(ready(store.user_rooms("u")), [room("lobby")]);
    // Nothing says which password it was made under, so it fits none.
    assert_eq!(ready(store.token(&old.hash)), Some(Token { binding: [0; 32], ..old }));
    done(store.begin_shard(begin(1, 0))).unwrap();
    close(&store);
    assert!(done(open_at(folder.path(), Moment::at(NOW)).resume_shard(resume(1, 0, None))).is_some());
}

#[test]
fn sessions_of_another_epoch_are_not_there_and_leave_nothing_behind() {
    let folder = TestFolder::new();
    let store = open_at(folder.path(), Moment::at(NOW));
    done(store.begin_shard(begin(1, 0))).unwrap();
    assert_eq!(publish(&store, "e"), Some(1));
    done(store.add_shard_room(session(1), &room("a"), 0));
    close(&store);
    let path = folder.path().join("switchboard.redb");
    let database = Database::create(&path).unwrap();
    let transaction = database.begin_write().unwrap();
    transaction.open_table(META).unwrap().insert("epoch", 1).unwrap();
    transaction.commit().unwrap();
    drop(database);
    let store = open_at(folder.path(), Moment::at(NOW));
    assert_eq!(ready(store.shards(NOW)), []);
    assert!(done(store.resume_shard(resume(1, 0, None))).is_none());
    close(&store);
    let database = Database::create(&path).unwrap();
    let read = database.begin_read().unwrap();
    let log: TableDefinition<'_, (&[u8; 16], u64), &str> = TableDefinition::new("shard_log");
    assert!(redb::ReadableTableMetadata::is_empty(&read.open_table(log).unwrap()).unwrap());
    drop((read, database));
    done(open_at(folder.path(), Moment::at(NOW)).begin_shard(begin(1, 0))).unwrap();
}

#[test]
fn a_row_of_a_session_that_we_did_not_write_is_refused() {
    const SESSIONS: TableDefinition<'_, &[u8; 16], &[u8]> = TableDefinition::new("shard_sessions");
    const LOG: TableDefinition<'_, (&[u8; 16], u64), &str> = TableDefinition::new("shard_log");
    type Spoil = fn(&redb::WriteTransaction, &[u8; 16]);
    let row: Spoil =
        |transaction, id| drop(transaction.open_table(SESSIONS).unwrap().insert(id, &b"short"[..]).unwrap());
    let gap: Spoil = |transaction, id| drop(transaction.open_table(LOG).unwrap().insert((id, 5), "e").unwrap());
    for (spoil, expected) in [(row, "has a bad row"), (gap, "does not belong there")] {
        let folder = TestFolder::new();
        let store = open_at(folder.path(), Moment::at(NOW));
        done(store.begin_shard(begin(1, 0))).unwrap();
        assert_eq!(publish(&store, "e"), Some(1));
        close(&store);
        let database = Database::create(folder.path().join("switchboard.redb")).unwrap();
        let transaction = database.begin_write().unwrap();
        spoil(&transaction, &session(1).to_bytes());
        transaction.commit().unwrap();
        drop(database);
        let said = FileSessions::open(folder.path(), MANY, ShardLimits::default()).map(drop).unwrap_err().to_string();
        assert!(said.contains(expected), "{said}");
    }
}

#[test]
fn fault_row_39_a_full_disk_takes_no_event_and_leaves_no_gap() {
    let folder = TestFolder::new();
    let (store, fault) = open_faulty(folder.path());
    done(store.begin_shard(begin(1, 0))).unwrap();
    assert_eq!(publish(&store, "before"), Some(1));
    fault.is_full.store(true, Ordering::Relaxed);
    assert_eq!(publish(&store, "lost"), None);
    assert!(block_on(store.begin_shard(begin(2, 1)).into_future()).is_err());
    assert!(block_on(store.resume_shard(resume(1, 0, None)).into_future()).is_err());
    let read = ReadLog { id: session(1), generation: 1, after: 0, max_events: 9, max_bytes: 99 };
    assert_eq!(ready(store.read_log(read)).unwrap().events.len(), 1, "what is there is read");
    fault.is_full.store(false, Ordering::Relaxed);
    let mut next = None;
    wait_until("it can be written again", || {
        next = publish(&store, "after");
        next.is_some()
    });
    assert_eq!(next, Some(2));
    assert_eq!(ready(store.fleet(&fleet(), NOW)).len(), 1);
    assert_eq!(ready(store.read_log(read)).unwrap().events.len(), 2, "whoever carried it still does");
}

#[test]
fn fault_row_39_behind_a_disk_that_hangs_few_bytes_pile_up() {
    let folder = TestFolder::new();
    let (store, fault) = open_faulty(folder.path());
    done(store.begin_shard(begin(1, 0))).unwrap();
    fault.hang(true);
    let text = "x".repeat(1 << 20);
    let mut waiting = Vec::new();
    let refused = loop {
        let item = LogItem::new(text.as_str());
        match store.append(Append { id: session(1), item, room: None, is_gap: false, now_ms: NOW }) {
            Op::Ready(result) => break result,
            op @ Op::Wait(_) => waiting.push(op),
        }
        assert!(waiting.len() <= MAX_WAITING_BYTES >> 20);
    };
    assert!(refused.unwrap_err().to_string().contains("bytes wait for the disk"));
    fault.hang(false);
    let numbers: Vec<_> = waiting.into_iter().map(|op| done(op).unwrap()).collect();
    assert_eq!(numbers, (1..=numbers.len() as u64).collect::<Vec<_>>());
    assert_eq!(numbers.len(), MAX_WAITING_BYTES >> 20);
    done(store.append(Append { id: session(1), item: LogItem::new(text), room: None, is_gap: false, now_ms: NOW }));
    wait_until("nothing waits", || store.shared.waiting_bytes.load(Ordering::Relaxed) == 0);
    let next = open(image(&folder).path());
    assert_eq!(ready(next.shard(session(1), unix_ms())).map(|record| record.last), Some(65));
}
