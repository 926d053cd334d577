//! What Redis adds to the contract: several nodes, a store that loses things, keys that are not ours.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use redis::Value;
use switchboard_proto::shard::LogItem;

use super::*;
use crate::backend::contract::model::{Lasting, ROOMS, check};
use crate::backend::contract::shards::{NOW, begin, fleet, note, owner, publication, resume, session};
use crate::backend::contract::{SHARD_LIMITS, block_on, done, room, token};
use crate::backend::redis::testing::{self, TestStore};
use crate::backend::redis::trouble::Trouble;
use crate::backend::sessions::ShardStore;
use crate::backend::sessions::shards::*;

/// Two nodes with numbers.
fn nodes() -> [(TestStore, RedisSessions); 2] {
    let first = testing::single();
    [first.another_node(), first.another_node()].map(|test| {
        let sessions = test.sessions(8, ShardLimits::default());
        (test, sessions)
    })
}

fn said(number: u64, heard: u64, text: &str) -> Append {
    Append { id: session(number), item: LogItem::new(text), room: Some((room("a"), heard)), is_gap: false, now_ms: NOW }
}

/// How often Redis was not understood.
fn odd(test: &TestStore) -> u64 {
    test.store.link.troubles()[Trouble::Reply.index()]
}

fn texts(store: &RedisSessions, number: u64, generation: u64) -> Vec<String> {
    let read = ReadLog { id: session(number), generation, after: 0, max_events: 9999, max_bytes: 1 << 20 };
    done(store.read_log(read)).unwrap().events.iter().map(|event| event.item.as_str().to_owned()).collect()
}

/// A key of the application `app`.
fn key(test: &TestStore, what: &str) -> String {
    test.store.keys.application("app", &format!("{}:{what}", test.store.standing.generation()))
}

#[test]
fn whatever_is_done_in_redis_is_what_a_naive_store_would_do() {
    check(48, || Lasting(Arc::new(testing::single().sessions(ROOMS, SHARD_LIMITS))));
}

#[test]
fn whatever_is_done_in_a_redis_cluster_is_what_a_naive_store_would_do() {
    check(16, || Lasting(Arc::new(testing::cluster().sessions(ROOMS, SHARD_LIMITS))));
}

#[test]
fn fault_row_34_a_node_that_is_taken_for_dead_changes_nothing() {
    let [(test, store), (_, other)] = nodes();
    done(store.begin_shard(begin(1, 0))).unwrap();
    done(store.add_token(token("t", "u", 9), 8));
    test.store.standing.end();
    let keys = test.keys();
    let fenced = |error: BackendError| assert!(error.to_string().contains("fenced"), "{error}");
    fenced(block_on(store.begin_shard(begin(2, 1)).into_future()).unwrap_err());
    fenced(block_on(store.resume_shard(resume(1, 0, None)).into_future()).unwrap_err());
    fenced(block_on(store.publish(publication(ShardTarget::All, "e")).into_future()).unwrap_err());
    fenced(block_on(store.append(Append { room: None, ..said(1, 1, "m") }).into_future()).unwrap_err());
    fenced(block_on(store.detach_shard(note(1, 1), NOW).into_future()).unwrap_err());
    fenced(block_on(store.acknowledge(session(1), 1, 0).into_future()).unwrap_err());
    fenced(block_on(store.end_shard(session(1), None).into_future()).unwrap_err());
    fenced(block_on(store.sweep_shards(NOW).into_future()).unwrap_err());
    fenced(block_on(store.adopt_shards(1, 2, NOW).into_future()).unwrap_err());
    fenced(block_on(store.add_token(token("s", "u", 9), 8).into_future()).unwrap_err());
    fenced(block_on(store.remove_token(&token("t", "u", 9).hash).into_future()).unwrap_err());
    fenced(block_on(store.add_user_room("u", &room("a")).into_future()).unwrap_err());
    fenced(block_on(store.next_command_time("u", 5).into_future()).unwrap_err());
    assert_eq!(test.keys(), keys);
    assert_eq!(done(store.shard(session(1), NOW)), done(other.shard(session(1), NOW)), "it may look");
    assert_eq!(done(other.shard(session(1), NOW)).unwrap().generation, 1);
}

#[test]
fn fault_row_33_sessions_of_a_dead_node_are_adopted_once() {
    let [(dead, store), (next, other)] = nodes();
    let other_app = Fleet { application: "other".into(), development: true };
    for begin in [begin(1, 0), begin(2, 1), BeginShard { fleet: other_app, ..begin(3, 0) }] {
        done(store.begin_shard(begin)).unwrap();
    }
    done(store.detach_shard(note(2, 1), NOW)).unwrap();
    done(other.begin_shard(begin(4, 2))).unwrap();
    let adopted = done(other.adopt_shards(dead.slot(), next.slot(), NOW + 7));
    let seen: Vec<_> =
        adopted.iter().map(|record| (record.id, record.owner.clone(), record.detached_ms, record.home)).collect();
    let home = next.slot();
    let expected = [(1, NOW + 7), (2, NOW), (3, NOW + 7)];
    assert_eq!(seen, expected.map(|(number, since_ms)| (session(number), None, Some(since_ms), home)));
    assert_eq!(done(other.adopt_shards(dead.slot(), next.slot(), NOW + 9)), []);
    let own = done(other.shard(session(4), NOW)).unwrap();
    assert_eq!((own.owner, own.home), (Some(owner(4)), home), "what lives is left alone");
    let resumed = done(other.resume_shard(resume(1, 0, None))).unwrap();
    assert_eq!((resumed.previous, resumed.record.home), (None, home));
}

#[test]
fn a_session_moves_home_with_whoever_carries_it() {
    let [(one, store), (two, other)] = nodes();
    let begun = done(store.begin_shard(begin(1, 0))).unwrap().record;
    assert_eq!(begun.home, one.slot());
    assert_eq!(done(other.resume_shard(resume(1, 0, None))).unwrap().record.home, two.slot());
    let told = done(store.publish(publication(ShardTarget::All, "e"))).unwrap();
    assert_eq!(told.deliveries[0].home, two.slot());
    assert_eq!(done(store.end_shard(session(1), None)).unwrap().home, two.slot());
}

#[test]
fn fault_row_18_whoever_resumes_on_another_node_fences_the_one_before() {
    let [(_, store), (_, other)] = nodes();
    done(store.begin_shard(begin(1, 0))).unwrap();
    done(store.publish(publication(ShardTarget::All, "e"))).unwrap();
    let resumed = done(other.resume_shard(resume(1, 0, None))).unwrap();
    assert_eq!((resumed.previous, resumed.record.generation), (Some(owner(1)), 2));
    let read = ReadLog { id: session(1), generation: 1, after: 0, max_events: 9, max_bytes: 9 };
    assert_eq!(done(store.read_log(read)), Err(ReadRefusal::Fenced));
    assert_eq!(done(store.acknowledge(session(1), 1, 1)), Err(AckRefusal::Fenced));
    assert_eq!(done(store.detach_shard(note(1, 1), NOW)), Err(Fenced));
    assert_eq!(done(store.end_shard(session(1), Some(1))), None);
    done(store.note_shards(vec![ShardNote { received: 1, ..note(1, 1) }]));
    let record = done(store.shard(session(1), NOW)).unwrap();
    assert_eq!((record.owner, record.received, record.floor), (Some(owner(101)), 0, 0));
    assert_eq!(texts(&other, 1, 2), ["e"]);
}

#[test]
fn fault_row_33_a_message_of_a_room_that_two_nodes_write_comes_once() {
    let [(_, store), (_, other)] = nodes();
    done(store.begin_shard(begin(1, 0))).unwrap();
    done(store.add_shard_room(session(1), &room("a"), 0));
    let numbers = 1..=200_u64;
    let write = |store: &RedisSessions| -> Vec<_> {
        numbers.clone().map(|number| store.append(said(1, number, &number.to_string()))).collect()
    };
    let (first, second) = (write(&store), write(&other));
    let count = |ops: Vec<Op<Result<Option<u64>, BackendError>>>| ops.into_iter().filter_map(done).count();
    assert_eq!(count(first) + count(second), 200);
    let expected: Vec<String> = numbers.map(|number| number.to_string()).collect();
    assert_eq!(texts(&store, 1, 1), expected, "and in order");
    let gap = Append { is_gap: true, ..said(1, 100, "gap") };
    assert_eq!(done(other.append(gap)), Some(201));
    assert_eq!(done(store.append(said(1, 150, "again"))), None, "a late gap does not take back what was heard");
}

#[test]
fn a_long_log_is_forgotten_whole_and_in_part() {
    let test = testing::single();
    let limits = ShardLimits { log_events: 5000, ..ShardLimits::default() };
    let store = test.sessions(8, limits);
    done(store.begin_shard(begin(1, 0))).unwrap();
    let append = || store.append(Append { room: None, ..said(1, 0, "event") });
    let appended: Vec<_> = (0..2500).map(|_| append()).collect();
    assert_eq!(appended.into_iter().map(done).next_back(), Some(Some(2500)));
    done(store.acknowledge(session(1), 1, 1)).unwrap();
    let record = || done(store.shard(session(1), NOW)).unwrap();
    assert_eq!((record().floor, record().log_bytes), (1, 2499 * 5));
    assert_eq!(test.ask(&["HLEN", &key(&test, "log")]), Value::Int(2499));
    done(store.acknowledge(session(1), 1, 2500)).unwrap();
    assert_eq!((record().floor, record().log_bytes), (2500, 0));
    assert_eq!(test.ask(&["EXISTS", &key(&test, "log")]), Value::Int(0));
    assert_eq!(test.ask(&["HGET", &key(&test, "sum"), "bytes"]).number(), Some(0));
    assert_eq!(done(append()), Some(2501));
}

#[test]
fn the_node_that_carries_a_session_is_told_in_the_step_that_appends() {
    let [(one, store), (two, other)] = nodes();
    let (note_push, pushed) = std::sync::mpsc::sync_channel(64);
    let on_push = Arc::new(move |info: redis::PushInfo| {
        if info.kind == redis::PushKind::Message {
            note_push.send(info.data).unwrap();
        }
    });
    let channels = [one.slot(), two.slot()].map(|slot| one.store.keys.node_channel(slot));
    let _ears = one.listen(on_push, &channels);
    done(store.begin_shard(begin(1, 0))).unwrap();
    let publish = |store: &RedisSessions, text| done(store.publish(publication(ShardTarget::All, text))).unwrap();
    publish(&store, "by its home, which knows");
    publish(&other, "four");
    done(other.append(Append { room: None, ..said(1, 0, "seven..") }));
    done(store.detach_shard(note(1, 1), NOW)).unwrap();
    publish(&other, "nobody carries it");
    done(other.resume_shard(resume(1, 0, None))).unwrap();
    publish(&store, "two");
    let next = || {
        let data: Vec<Value> = pushed.recv_timeout(Duration::from_secs(30)).unwrap();
        data.iter().map(|value| value.text().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let id = hex(&session(1).to_bytes());
    for (channel, text) in [(0, format!("g{id} 2 4")), (0, format!("g{id} 3 7")), (1, format!("g{id} 5 3"))] {
        assert_eq!(next(), [channels[channel].clone(), text]);
    }
}

#[test]
fn times_of_commands_rise_over_all_nodes() {
    let [(_, one), (_, two)] = nodes();
    let asked: Vec<_> = (0..200).map(|turn| [&one, &two][turn % 2].next_command_time("u", 5)).collect();
    let times: BTreeSet<u64> = asked.into_iter().map(done).collect();
    assert_eq!(times, (5..205).collect());
    assert_eq!(done(two.next_command_time("u", 3)), 205);
}

#[test]
fn tokens_and_rooms_are_the_same_on_all_nodes() {
    let [(_, one), (_, two)] = nodes();
    for (store, name) in [(&one, "a"), (&two, "b"), (&one, "c")] {
        done(store.add_token(token(name, "u", 9), 2));
    }
    let there = |store: &RedisSessions| ["a", "b", "c"].map(|name| done(store.token(&TokenHash::of(name))).is_some());
    assert_eq!([there(&one), there(&two)], [[false, true, true]; 2]);
    done(one.add_user_room("u", &room("a")));
    assert!(!done(two.add_user_room("u", &room("a"))));
    done(two.forget_room(&room("a")));
    assert_eq!(done(one.user_rooms("u")), []);
}

#[test]
fn a_token_that_was_half_added_or_half_removed_is_not_there() {
    let [(test, store), _] = nodes();
    let token = token("t", "u", 9);
    done(store.add_token(token.clone(), 8));
    // As after a crash between the steps of either.
    test.ask(&["DEL", &test.store.keys.user("u", "tokens")]);
    assert_eq!(done(store.token(&token.hash)), None);
    assert!(!done(store.remove_token(&token.hash)));
    assert_eq!(test.keys(), [] as [&str; 0], "and what was left of it is gone");
}

#[test]
fn everything_that_is_kept_of_sessions_and_tokens_goes_by_itself() {
    let [(test, store), _] = nodes();
    done(store.begin_shard(begin(1, 0))).unwrap();
    done(store.begin_shard(BeginShard { fleet: Fleet { development: true, ..fleet() }, ..begin(2, 0) })).unwrap();
    done(store.add_shard_room(session(1), &room("a"), 0));
    done(store.append(said(1, 1, "m")));
    done(store.publish(Publication { id: Some("i".into()), ..publication(ShardTarget::All, "e") }));
    done(store.next_command_time("u", 5));
    let keys = test.keys();
    assert_eq!(keys.len(), 10 + 2 + 1, "{keys:?}");
    for key in &keys {
        assert!(matches!(test.ask(&["PTTL", key]), Value::Int(1..)), "{key}");
    }
    done(store.end_shard(session(1), None));
    done(store.end_shard(session(2), None));
    done(store.sweep_shards(NOW + 2 * DAY_MS));
    let left = test.keys();
    assert_eq!(left.len(), 2, "the sum of bytes, and the clock: {left:?}");
}

#[test]
fn fault_row_49_sessions_of_another_life_of_the_store_are_not_there() {
    let [(test, store), (_, other)] = nodes();
    done(store.begin_shard(begin(1, 0))).unwrap();
    test.store.standing.set(test.store.link.serial().unwrap(), 2, test.slot(), 1);
    assert_eq!(done(store.shards(NOW)), []);
    assert_eq!(done(store.shard(session(1), NOW)), None);
    assert!(done(store.resume_shard(resume(1, 0, None))).is_none());
    assert_eq!(done(store.publish(publication(ShardTarget::All, "e"))), None);
    done(store.begin_shard(begin(1, 0))).unwrap();
    assert_eq!(done(other.shards(NOW)).len(), 1, "whoever has not noticed sees the old one");
}

#[test]
fn fault_row_48_a_server_that_has_forgotten_all_scripts_is_told_them_again() {
    let [(test, store), _] = nodes();
    done(store.begin_shard(begin(1, 0))).unwrap();
    test.ask(&["SCRIPT", "FLUSH"]);
    done(store.add_shard_room(session(1), &room("a"), 0));
    let appended: Vec<_> = (1..=50).map(|number| store.append(said(1, number, "m"))).collect();
    assert_eq!(appended.into_iter().filter_map(done).collect::<Vec<_>>(), (1..=50).collect::<Vec<_>>());
}

#[test]
fn whose_a_session_is_can_be_looked_up_and_comes_back_with_the_sweep() {
    let [(test, store), (_, other)] = nodes();
    done(store.begin_shard(begin(1, 0))).unwrap();
    let key = test.store.keys.single("s", &hex(&session(1).to_bytes()));
    test.ask(&["DEL", &key]);
    assert_eq!(done(other.shard(session(1), NOW)), None);
    done(other.sweep_shards(NOW));
    assert!(done(other.shard(session(1), NOW)).is_some());
    assert!(done(store.begin_shard(BeginShard { shard: 5, total: Some(2), ..begin(2, 0) })).is_err());
    done(store.end_shard(session(1), None)).unwrap();
    assert!(!test.keys().iter().any(|key| key.contains("{s:")), "what did not begin, or is over, leaves none");
}

#[test]
fn a_connection_may_go_on_with_another_application() {
    let [(_, store), _] = nodes();
    done(store.begin_shard(begin(1, 0))).unwrap();
    let fleet = Fleet { application: "other".into(), development: false };
    let next = BeginShard { fleet, in_place_of: Some((session(1), 1)), ..begin(2, 0) };
    let ended = done(store.begin_shard(next)).unwrap().ended;
    let seen: Vec<_> = ended.iter().map(|ended| (ended.id, ended.why)).collect();
    assert_eq!(seen, [(session(1), EndOfShard::Replaced)]);
    assert_eq!(done(store.shard(session(1), NOW)), None);
}

#[test]
fn fault_row_53_rows_that_are_not_ours_are_left_out_and_counted() {
    let [(test, store), _] = nodes();
    done(store.begin_shard(begin(1, 0))).unwrap();
    for (number, garbage) in [(2, "nonsense"), (3, "2 of a version to come"), (4, "\u{fffd}")] {
        let id = hex(&session(number).to_bytes());
        test.ask(&["HSET", &key(&test, "session"), &id, garbage]);
        test.ask(&["ZADD", &key(&test, "fleet"), &number.to_string(), &id]);
        test.ask(&["SET", &test.store.keys.single("s", &id), "app"]);
    }
    // One whose log would keep a script busy for ever, and one without a row.
    let id = hex(&session(5).to_bytes());
    let endless = "1 ab 0 5 - 0 0 1 - 0 0 0 9007199254740990 0 0,0,0,0 1 ";
    test.ask(&["HSET", &key(&test, "session"), &id, endless]);
    test.ask(&["ZADD", &key(&test, "fleet"), "5", &id, "6", "nobody"]);
    let before = odd(&test);
    assert_eq!(done(store.shards(NOW)).len(), 1);
    assert_eq!(done(store.fleet(&fleet(), NOW)).len(), 1);
    assert_eq!(done(store.shard(session(2), NOW)), None);
    assert!(odd(&test) >= before + 7, "{} after {before}", odd(&test));
    let told = done(store.publish(publication(ShardTarget::All, "e"))).unwrap();
    assert_eq!(told.deliveries.len(), 1);
    let counted = odd(&test);
    assert_eq!(done(store.sweep_shards(NOW + 1_000_000)), []);
    assert_eq!(odd(&test), counted + 5);
    done(store.begin_shard(begin(6, 5))).unwrap();
    assert_eq!(done(store.shards(NOW)).len(), 2, "a shard takes its slot all the same");
    done(store.detach_shard(note(2, 1), NOW)).unwrap_err();
    assert_eq!(done(store.end_shard(session(2), None)), None);
}

#[test]
fn fault_row_53_other_keys_that_are_not_ours_are_left_out_and_counted() {
    let [(test, store), _] = nodes();
    done(store.begin_shard(begin(1, 0))).unwrap();
    done(store.publish(publication(ShardTarget::All, "e"))).unwrap();
    let id = hex(&session(1).to_bytes());
    test.ask(&["DEL", &key(&test, "log")]);
    let read = ReadLog { id: session(1), generation: 1, after: 0, max_events: 9, max_bytes: 9 };
    assert_eq!(done(store.read_log(read)), Err(ReadRefusal::Trimmed), "a hole is never hidden");
    test.ask(&["HSET", &key(&test, "heard"), &format!("{id}:a"), "x"]);
    test.ask(&["HSET", &key(&test, "room"), &id, "a\n\n"]);
    assert_eq!(done(store.shard_rooms(session(1))), []);
    assert_eq!(done(store.append(said(1, 1, "m"))), None);
    test.ask(&["HSET", &key(&test, "sum"), "bytes", "x", "began", "y", "starts", "-"]);
    done(store.publish(publication(ShardTarget::All, "e"))).unwrap();
    done(store.starts("app", StartLimits { total: 0, concurrency: 0 }, NOW));
    test.ask(&["HSET", &key(&test, "published"), &hex(&[7; 32]), "?"]);
    test.ask(&["RPUSH", &key(&test, "published-order"), &hex(&[7; 32]), "x"]);
    let once = Publication { id: Some("i".into()), ..publication(ShardTarget::All, "e") };
    assert!(!done(store.publish(once)).unwrap().is_repeated);
    let keys = &test.store.keys;
    test.ask(&["SET", &keys.single("t", &hex(TokenHash::of("t").as_bytes())), "nonsense"]);
    assert_eq!(done(store.token(&TokenHash::of("t"))), None);
    test.ask(&["ZADD", &keys.single("tokens", "expiry"), "1", "nonsense"]);
    assert_eq!(done(store.drop_expired(2 * DAY_MS)), 0);
    test.ask(&["ZADD", &keys.user("u", "rooms"), "1", ""]);
    assert_eq!(done(store.user_rooms("u")), []);
    test.ask(&["SET", &keys.user("u", "clock"), "nonsense"]);
    assert_eq!(done(store.next_command_time("u", 5)), 5);
}

/// How often a key of a wrong type was met.
fn wrong_types(test: &TestStore) -> u64 {
    test.store.link.troubles()[Trouble::WrongType.index()]
}

/// Puts something of another type under a key.
fn spoil(test: &TestStore, key: &str) {
    test.ask(&["DEL", key]);
    let is_string = crate::backend::redis::keys::type_of(key).is_some_and(|kind| kind.name == "string");
    test.ask(&[if is_string { "RPUSH" } else { "SET" }, key, "x"]);
}

#[test]
fn a_key_of_a_wrong_type_ends_the_sessions_of_its_application_and_is_moved_aside() {
    for make in [testing::single, testing::cluster] {
        for what in ["session", "fleet", "hash", "log", "room", "heard"] {
            let test = make().another_node();
            let store = test.sessions(8, ShardLimits::default());
            let other = Fleet { application: "other".into(), development: false };
            done(store.begin_shard(begin(1, 0))).unwrap();
            done(store.add_shard_room(session(1), &room("a"), 0));
            done(store.publish(publication(ShardTarget::All, "e"))).unwrap();
            done(store.begin_shard(BeginShard { fleet: other.clone(), ..begin(2, 0) })).unwrap();
            spoil(&test, &key(&test, what));
            // Each of these needs some of the keys; one of them meets the bad one, and fails.
            let id = Some("i".into());
            let _ = block_on(store.shards(NOW).into_future());
            let _ = block_on(store.publish(Publication { id, ..publication(ShardTarget::All, "e") }).into_future());
            let _ = block_on(store.resume_shard(resume(1, 0, None)).into_future());
            let _ = block_on(store.append(said(1, 1, "m")).into_future());
            let _ = block_on(store.end_shard(session(1), None).into_future());
            assert_eq!(wrong_types(&test), 1, "{what}");
            let aside = crate::backend::redis::keys::set_aside(&key(&test, what));
            assert_eq!(test.ask(&["TYPE", &aside]).text(), Some("string"), "{what}");
            assert!(matches!(test.ask(&["PTTL", &aside]), Value::Int(1..)), "{what}");
            // Nothing is left of the application but what is made from now on, and the other one has noticed nothing.
            let ids =
                |store: &RedisSessions| done(store.shards(NOW)).iter().map(|record| record.id).collect::<Vec<_>>();
            assert_eq!(ids(&store), [session(2)], "{what}");
            assert!(done(store.resume_shard(resume(1, 0, None))).is_none(), "{what}");
            done(store.begin_shard(begin(3, 0))).unwrap();
            done(store.publish(publication(ShardTarget::All, "again"))).unwrap();
            assert_eq!(texts(&store, 3, 1), ["again"], "{what}");
            assert_eq!(ids(&store).len(), 2, "{what}");
            assert_eq!((wrong_types(&test), odd(&test)), (1, 0), "{what}");
        }
    }
}

#[test]
fn a_key_of_a_wrong_type_that_only_counts_leaves_sessions_alone() {
    for what in ["published", "published-order", "sum"] {
        let [(test, store), _] = nodes();
        done(store.begin_shard(begin(1, 0))).unwrap();
        spoil(&test, &key(&test, what));
        let once = || Publication { id: Some("i".into()), ..publication(ShardTarget::All, "e") };
        let published = |_| block_on(store.publish(once()).into_future()).is_ok();
        assert_eq!([0, 1].map(published), [false, true], "{what}");
        assert_eq!(done(store.shards(NOW)).len(), 1, "{what}");
        assert_eq!(wrong_types(&test), 1, "{what}");
    }
}

#[test]
fn a_sweep_reports_what_ended_although_another_application_has_a_key_of_a_wrong_type() {
    let [(test, store), _] = nodes();
    let other = Fleet { application: "other".into(), development: false };
    done(store.begin_shard(BeginShard { fleet: other, ..begin(2, 0) })).unwrap();
    done(store.detach_shard(note(2, 1), NOW)).unwrap();
    spoil(&test, &key(&test, "fleet"));
    let ended = done(store.sweep_shards(NOW + 1_000_000));
    assert_eq!(ended.iter().map(|ended| ended.id).collect::<Vec<_>>(), [session(2)]);
    assert_eq!(wrong_types(&test), 1);
}

#[test]
fn a_key_of_a_wrong_type_that_stands_alone_is_repaired_where_it_is_met() {
    for make in [testing::single, testing::cluster] {
        let test = make().another_node();
        let store = test.sessions(8, ShardLimits::default());
        let token = token("t", "u", 9);
        done(store.add_token(token.clone(), 8));
        done(store.add_user_room("u", &room("a")));
        done(store.next_command_time("u", 5));
        done(store.begin_shard(begin(1, 0))).unwrap();
        let keys = &test.store.keys;
        let all = [
            keys.single("t", &hex(token.hash.as_bytes())),
            keys.single("tokens", "expiry"),
            keys.user("u", "tokens"),
            keys.user("u", "rooms"),
            keys.user("u", "clock"),
            keys.room("a", "users"),
        ];
        for key in &all {
            spoil(&test, key);
            done(store.token(&token.hash));
            done(store.drop_expired(2 * DAY_MS));
            done(store.add_token(token.clone(), 8));
            done(store.user_rooms("u"));
            done(store.add_user_room("u", &room("a")));
            done(store.forget_room(&room("a")));
            assert_eq!(done(store.next_command_time("u", 1 << 40)) >> 40, 1);
            assert_eq!(done(store.token(&token.hash)), Some(token.clone()), "{key}");
        }
        assert_eq!(wrong_types(&test), all.len() as u64);
        assert_eq!(done(store.shards(NOW)).len(), 1);
    }
}

/// Milliseconds by which clocks of nodes differ in these tests.
const MINUTES_MS: u64 = 600_000;

#[test]
fn sessions_last_as_long_as_the_store_says_though_the_clocks_of_nodes_differ_by_minutes() {
    for make in [testing::single, testing::cluster] {
        let test = make();
        let [store, ahead, behind] =
            [(); 3].map(|()| test.another_node().sessions_by(Clock::STORE, 8, ShardLimits::default()));
        let now_ms = crate::clock::unix_ms();
        let (later_ms, earlier_ms) = (now_ms + MINUTES_MS, now_ms - MINUTES_MS);
        done(store.begin_shard(BeginShard { now_ms, ..begin(1, 0) })).unwrap();
        done(store.detach_shard(note(1, 1), now_ms)).unwrap();
        // The window is five minutes, and the other nodes are ten off.
        for (other, now_ms) in [(&ahead, later_ms), (&behind, earlier_ms)] {
            assert_eq!(done(other.sweep_shards(now_ms)), []);
            let detached_ms = done(other.shard(session(1), now_ms)).unwrap().detached_ms.unwrap();
            let age_ms = now_ms.checked_sub(detached_ms).expect("the caller's clock measures the age");
            assert!(age_ms < MINUTES_MS / 2, "{age_ms}");
            let left = done(other.starts("app", StartLimits { total: 9, concurrency: 9 }, now_ms));
            assert!((DAY_MS - MINUTES_MS / 2..=DAY_MS).contains(&left.reset_after_ms), "{left:?}");
        }
        let resumed = done(ahead.resume_shard(ResumeShard { now_ms: later_ms, ..resume(1, 0, None) })).unwrap();
        done(ahead.detach_shard(note(1, resumed.record.generation), later_ms)).unwrap();
        assert!(done(behind.resume_shard(ResumeShard { now_ms: earlier_ms, ..resume(1, 0, None) })).is_some());
    }
}

#[test]
fn a_session_expires_by_the_clock_of_the_store_whatever_that_of_the_node_shows() {
    let test = testing::single();
    let limits = ShardLimits { resume_window_ms: 1, ..ShardLimits::default() };
    let [store, behind] = [(); 2].map(|()| test.another_node().sessions_by(Clock::STORE, 8, limits));
    let now_ms = crate::clock::unix_ms();
    done(store.begin_shard(BeginShard { now_ms, ..begin(1, 0) })).unwrap();
    done(store.detach_shard(note(1, 1), now_ms)).unwrap();
    let deadline = std::time::Instant::now() + Duration::from_secs(30);
    while done(behind.shard(session(1), now_ms - MINUTES_MS)).is_some() {
        assert!(std::time::Instant::now() < deadline, "it does not expire");
    }
    assert_eq!(done(behind.sweep_shards(now_ms - MINUTES_MS)).len(), 1);
}

#[test]
fn nodes_read_the_time_of_tokens_from_the_store() {
    for make in [testing::single, testing::cluster] {
        let test = make();
        let store = test.another_node().sessions(8, ShardLimits::default());
        let before_ms = crate::clock::unix_ms();
        let time_ms = done(store.time());
        // Redis runs on the same machine here.
        assert!((before_ms..=crate::clock::unix_ms()).contains(&time_ms), "{before_ms} {time_ms}");
    }
}

#[test]
fn a_token_that_the_store_has_again_is_refused_and_revoked_again() {
    let [(test, store), (_, other)] = nodes();
    let token = token("t", "u", 9);
    let key = test.store.keys.single("t", &hex(token.hash.as_bytes()));
    let tokens = test.store.keys.user("u", "tokens");
    done(store.add_token(token.clone(), 8));
    let Value::BulkString(row) = test.ask(&["GET", &key]) else { panic!("it is there") };
    let row = String::from_utf8(row).unwrap();
    assert!(done(store.remove_token(&token.hash)));
    other.note_revoked(&token.hash);
    // As in a replica that had not heard of it.
    let come_back = || {
        test.ask(&["SET", &key, &row]);
        test.ask(&["ZADD", &tokens, "1", &hex(token.hash.as_bytes())]);
    };
    for (knows, asked) in [(&store, &other), (&other, &store)] {
        come_back();
        assert_eq!([done(knows.token(&token.hash)), done(asked.token(&token.hash))], [None, None]);
        let newcomer = test.another_node().sessions(8, ShardLimits::default());
        assert_eq!(done(newcomer.token(&token.hash)), Some(token.clone()), "it knows only the store");
        done(knows.revoke_again());
        assert_eq!(done(newcomer.token(&token.hash)), None);
    }
}

#[test]
fn what_a_page_of_sessions_and_the_totals_cost_does_not_depend_on_how_many_sessions_there_are() {
    let server = testing::Server::start(&[]);
    let counted = |sessions: usize| {
        let test = testing::TestStore::on(&server);
        let store = test.sessions(8, ShardLimits::default());
        let script = "for at = 0, ARGV[1] - 1 do local id = string.format('%032x', at) redis.call('ZADD', KEYS[2], at, id) \
            redis.call('HSET', KEYS[1], id, '1 aa 0 ' .. at .. ' ' .. ARGV[1] .. ' 0 1 1 ' .. id .. ' - 0 0 0 0 0,0,0,0 1 n') end";
        test.ask(&["EVAL", script, "2", &key(&test, "session"), &key(&test, "fleet"), &sessions.to_string()]);
        let mut after = Some(ShardKey { fleet: fleet(), shard: 500 });
        test.ask(&["CONFIG", "RESETSTAT"]);
        for page in 0..3 {
            let found = done(store.shards_after(after.take(), 100, NOW));
            assert!(found.iter().map(|record| record.shard).eq(501 + page * 100..601 + page * 100));
            after = found.last().map(ShardRecord::key);
        }
        assert_eq!(done(store.read_totals()).sessions, sessions);
        let stats = server.ask("INFO commandstats").unwrap();
        let calls = |line: &str| line.split("calls=").nth(1)?.split(',').next()?.parse::<u64>().ok();
        // Signs of life come when they come.
        let of_lists = |line: &&str| ["zrange", "hget:", "hlen"].iter().any(|name| line.contains(name));
        stats.lines().filter(of_lists).filter_map(calls).sum::<u64>()
    };
    let [few, many] = [1000, 20_000].map(counted);
    assert!(few > 300 && many * 10 <= few * 13, "{few} {many}");
}

#[test]
fn the_time_of_tokens_is_asked_of_the_store() {
    let server = testing::Server::start(&[]);
    let test = TestStore::on(&server);
    let store = test.sessions(8, ShardLimits::default());
    test.ask(&["ACL", "SETUSER", "default", "-time"]);
    assert!(block_on(store.time().into_future()).is_err(), "no clock but that of Redis");
    test.ask(&["ACL", "SETUSER", "default", "+time"]);
    done(store.time());
}

#[test]
fn a_token_is_kept_by_the_clock_by_which_it_was_made() {
    let [(test, store), _] = nodes();
    // Made in 1970 for a month, as by a store whose clock is far behind.
    let token = token("t", "u", 30 * DAY_MS);
    done(store.add_token(token.clone(), 8));
    let left = test.ask(&["PTTL", &test.store.keys.single("t", &hex(token.hash.as_bytes()))]);
    let Value::Int(left_ms) = left else { panic!("{left:?}") };
    assert!(left_ms > 29 * DAY_MS as i64, "{left_ms}");
}
