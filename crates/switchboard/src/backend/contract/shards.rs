//! What every store must do with sessions of shards, their beginnings and their ends.

use std::sync::Arc;

use switchboard_proto::id::ConnId;
use switchboard_proto::shard::{LogItem, ShardCounts, ShardRefusal, ShardSessionId};

use super::{MAX_USER_ROOMS, Subject, block_on, contract, done, ready, room};
use crate::backend::sessions::SessionStore;
use crate::backend::sessions::shards::*;

/// When most things happen.
pub(in crate::backend) const NOW: u64 = 1_000_000;

/// As many as anybody wants.
pub(in crate::backend) const ANY: StartLimits = StartLimits { total: 0, concurrency: 0 };

pub(in crate::backend) fn fleet() -> Fleet {
    Fleet { application: "app".into(), development: false }
}

pub(in crate::backend) fn session(number: u64) -> ConnId {
    ConnId::session_from_random(number.into())
}

pub(in crate::backend) fn hash(number: u64) -> SessionHash {
    SessionHash::of(&ShardSessionId::new(format!("session {number}")))
}

pub(in crate::backend) fn owner(number: u64) -> Owner {
    Owner { node: "a".into(), connection: ConnId::from_random(number.into()) }
}

/// A session of that number, carried by the owner of that number.
pub(in crate::backend) fn begin(number: u64, shard: u64) -> BeginShard {
    BeginShard {
        hash: hash(number),
        id: session(number),
        fleet: fleet(),
        shard,
        total: None,
        fixed_total: None,
        max_shards: 16,
        flags: 0,
        starts: ANY,
        yields: false,
        in_place_of: None,
        owner: owner(number),
        now_ms: NOW,
    }
}

pub(in crate::backend) fn resume(number: u64, shard: u64, seq: Option<u64>) -> ResumeShard {
    ResumeShard { hash: hash(number), application: "app".into(), shard, seq, owner: owner(number + 100), now_ms: NOW }
}

pub(in crate::backend) fn publication(to: ShardTarget, text: &str) -> Publication {
    Publication { fleet: fleet(), to, fixed_total: None, item: LogItem::new(text), id: None, now_ms: NOW }
}

pub(in crate::backend) fn note(number: u64, generation: u64) -> ShardNote {
    ShardNote { id: session(number), generation, counts: ShardCounts::default(), received: 0 }
}

pub(super) type Store = Arc<dyn SessionStore>;

pub(super) fn begun(store: &Store, begin: BeginShard) -> BegunShard {
    done(store.begin_shard(begin)).unwrap()
}

fn refused(store: &Store, begin: BeginShard) -> ShardRefusal {
    let before = (ready(store.shards(NOW)), ready(store.starts("app", ANY, NOW)));
    let refusal = done(store.begin_shard(begin)).map(drop).unwrap_err();
    assert_eq!((ready(store.shards(NOW)), ready(store.starts("app", ANY, NOW))), before, "nothing has changed");
    refusal
}

pub(super) fn resumed(store: &Store, resume: ResumeShard) -> Option<ResumedShard> {
    done(store.resume_shard(resume))
}

/// Publishes to a shard, and returns its number there.
pub(super) fn publish(store: &Store, shard: u32, text: &str) -> Option<u64> {
    let event = done(store.publish(publication(ShardTarget::Shard(shard), text)));
    event.map(|event| event.deliveries[0].seq)
}

pub(super) fn record(store: &Store, number: u64) -> ShardRecord {
    ready(store.shard(session(number), NOW)).unwrap()
}

pub(super) fn read(store: &Store, number: u64, generation: u64, after: u64) -> Result<Vec<(u64, String)>, ReadRefusal> {
    let read = ReadLog { id: session(number), generation, after, max_events: 100, max_bytes: 1000 };
    let part = ready(store.read_log(read))?;
    assert!(!part.has_more);
    Ok(part.events.iter().map(|event| (event.seq, event.item.as_str().to_owned())).collect())
}

fn ended(number: u64, owner: Option<Owner>, why: EndOfShard) -> EndedShard {
    EndedShard { id: session(number), owner, why, rooms: Vec::new(), home: 0 }
}

contract! {
    a_session_begins_carried_and_empty,
    a_shard_out_of_range_is_refused,
    shards_count_the_fleet_as_their_master,
    other_shards_wait_for_their_master,
    an_application_begins_so_many_a_day_and_so_many_at_once,
    the_newest_session_of_a_shard_wins_unless_it_yields,
    a_connection_that_begins_again_ends_what_it_carried,
    a_master_that_counts_anew_ends_those_who_count_otherwise,
    fleets_do_not_meet,
    only_the_right_one_resumes,
    fault_row_18_the_latest_resume_carries_and_all_before_are_fenced,
    a_resume_begins_where_the_client_says_or_is_known_to_be,
    a_session_expires_when_nobody_comes_for_it,
    fault_row_40_a_clock_that_goes_back_expires_nothing,
    rooms_of_a_session_are_kept_with_their_numbers,
    whatever_ends_is_gone_with_all_it_had,
    figures_are_kept_of_those_who_carry,
    a_list_comes_in_pages_by_fleet_and_shard,
}

fn a_session_begins_carried_and_empty(subject: fn() -> Subject) {
    let store = subject().store;
    let begun = begun(&store, BeginShard { flags: 5, ..begin(1, 0) });
    let expected = ShardRecord {
        id: session(1),
        fleet: fleet(),
        shard: 0,
        total: None,
        fleet_total: 1,
        flags: 5,
        created_ms: NOW,
        generation: 1,
        owner: Some(owner(1)),
        detached_ms: None,
        last: 0,
        floor: 0,
        received: 0,
        log_bytes: 0,
        counts: ShardCounts::default(),
        home: begun.record.home,
    };
    assert_eq!((&begun.record, &begun.ended[..]), (&expected, &[][..]));
    assert_eq!(ready(store.fleet(&fleet(), NOW)), std::slice::from_ref(&expected));
    assert_eq!(ready(store.shards(NOW)), [expected]);
    assert_eq!(read(&store, 1, 1, 0), Ok(vec![]));
    let again = block_on(store.begin_shard(begin(1, 0)).into_future());
    assert!(again.is_err(), "ids are not used twice");
}

fn a_shard_out_of_range_is_refused(subject: fn() -> Subject) {
    let store = subject().store;
    let with = |shard, total, fixed_total| BeginShard { total, fixed_total, ..begin(1, shard) };
    for (shard, total, fixed_total) in [
        (16, None, None),
        (u64::MAX, None, None),
        (2, Some(2), None),
        (0, Some(0), None),
        (0, Some(17), None),
        (0, Some(u64::MAX), None),
        (4, None, Some(4)),
        (0, Some(3), Some(4)),
        (1, Some(3), Some(4)),
    ] {
        assert_eq!(refused(&store, with(shard, total, fixed_total)), ShardRefusal::InvalidShard, "{shard} {total:?}");
    }
    assert_eq!(begun(&store, with(0, Some(4), Some(4))).record.total, Some(4));
}

fn shards_count_the_fleet_as_their_master(subject: fn() -> Subject) {
    let store = subject().store;
    assert_eq!(begun(&store, begin(1, 0)).record.fleet_total, 1);
    assert_eq!(begun(&store, begin(2, 2)).record.fleet_total, 3, "counted by the highest, as nobody says");
    let ended = begun(&store, BeginShard { total: Some(4), ..begin(3, 0) }).ended;
    assert_eq!(ended.len(), 2);
    for (shard, total) in [(1, Some(3)), (1, Some(5)), (4, None)] {
        assert_eq!(refused(&store, BeginShard { total, ..begin(4, shard) }), ShardRefusal::InvalidShard);
    }
    let told = begun(&store, begin(5, 1)).record;
    assert_eq!((told.total, told.fleet_total), (Some(4), 4));
    let says = begun(&store, BeginShard { total: Some(4), ..begin(6, 3) }).record;
    assert_eq!((says.total, says.fleet_total), (Some(4), 4));
    done(store.end_shard(session(3), None));
    assert_eq!(record(&store, 5).fleet_total, 4, "they remember it while the master is away");
}

fn other_shards_wait_for_their_master(subject: fn() -> Subject) {
    let store = subject().store;
    assert!(matches!(refused(&store, begin(1, 1)), ShardRefusal::MasterRequired { .. }));
    begun(&store, begin(2, 0));
    done(store.detach_shard(note(2, 1), NOW)).unwrap();
    begun(&store, BeginShard { now_ms: NOW + 999, ..begin(3, 1) });
    let late = done(store.begin_shard(BeginShard { now_ms: NOW + 1000, ..begin(4, 2) }));
    assert!(matches!(late, Err(ShardRefusal::MasterRequired { .. })), "one that has expired is not there");
}

fn an_application_begins_so_many_a_day_and_so_many_at_once(subject: fn() -> Subject) {
    const DAY_MS: u64 = 24 * 3600 * 1000;
    let mut subject = subject();
    let starts = StartLimits { total: 4, concurrency: 2 };
    let at = |number, now_ms| BeginShard { starts, now_ms, ..begin(number, 0) };
    let left = |store: &Store, now_ms| {
        let left = ready(store.starts("app", starts, now_ms));
        (left.remaining, left.reset_after_ms)
    };
    assert_eq!(left(&subject.store, NOW), (4, 0));
    begun(&subject.store, at(1, NOW));
    begun(&subject.store, at(2, NOW + 100));
    let too_soon = done(subject.store.begin_shard(at(3, NOW + 4999))).map(drop);
    assert_eq!(too_soon, Err(ShardRefusal::StartConcurrency { retry_ms: 1 }));
    begun(&subject.store, at(3, NOW + 5000));
    begun(&subject.store, at(4, NOW + 5100));
    assert_eq!(left(&subject.store, NOW + 6000), (0, DAY_MS - 6000));
    subject.restart();
    let too_many = done(subject.store.begin_shard(at(5, NOW + DAY_MS - 1))).map(drop);
    assert_eq!(too_many, Err(ShardRefusal::StartLimit { retry_ms: 1 }));
    let other = Fleet { application: "other".into(), development: false };
    begun(&subject.store, BeginShard { fleet: other, ..at(6, NOW + 6000) });
    begun(&subject.store, at(5, NOW + DAY_MS));
    assert_eq!(left(&subject.store, NOW + DAY_MS), (3, DAY_MS));
    done(subject.store.sweep_shards(NOW + 2 * DAY_MS));
    assert_eq!(left(&subject.store, NOW + DAY_MS), (4, 0), "nothing is kept of what does not count");
}

fn the_newest_session_of_a_shard_wins_unless_it_yields(subject: fn() -> Subject) {
    let store = subject().store;
    begun(&store, begin(1, 0));
    assert_eq!(refused(&store, BeginShard { yields: true, ..begin(2, 0) }), ShardRefusal::Taken);
    let second = begun(&store, begin(2, 0));
    assert_eq!(second.ended, [ended(1, Some(owner(1)), EndOfShard::Replaced)]);
    assert!(resumed(&store, resume(1, 0, None)).is_none());
    done(store.detach_shard(note(2, 1), NOW)).unwrap();
    let third = begun(&store, BeginShard { yields: true, ..begin(3, 0) });
    assert_eq!(third.ended, [ended(2, None, EndOfShard::Replaced)], "nobody carried it");
}

fn a_connection_that_begins_again_ends_what_it_carried(subject: fn() -> Subject) {
    let store = subject().store;
    begun(&store, begin(1, 0));
    let again = BeginShard { yields: true, in_place_of: Some((session(1), 1)), ..begin(2, 0) };
    assert_eq!(begun(&store, again).ended, [ended(1, Some(owner(1)), EndOfShard::Replaced)]);
    begun(&store, begin(3, 1));
    let moved = BeginShard { in_place_of: Some((session(3), 1)), ..begin(4, 2) };
    assert_eq!(begun(&store, moved).ended, [ended(3, Some(owner(3)), EndOfShard::Replaced)]);
    resumed(&store, resume(4, 2, None)).unwrap();
    let late = BeginShard { yields: true, in_place_of: Some((session(4), 1)), ..begin(5, 2) };
    assert_eq!(refused(&store, late), ShardRefusal::Taken, "whoever lost it is another connection");
    let late = BeginShard { in_place_of: Some((session(4), 1)), ..begin(5, 3) };
    assert_eq!(begun(&store, late).ended, [], "and ends nothing");
    let wrong = BeginShard { in_place_of: Some((session(5), 1)), ..begin(6, 99) };
    assert_eq!(refused(&store, wrong), ShardRefusal::InvalidShard);
}

fn a_master_that_counts_anew_ends_those_who_count_otherwise(subject: fn() -> Subject) {
    let mut subject = subject();
    let master = |number, total| BeginShard { total: Some(total), ..begin(number, 0) };
    begun(&subject.store, begin(1, 0));
    begun(&subject.store, begin(2, 1));
    let same = begun(&subject.store, master(3, 2)).ended;
    assert_eq!(same, [ended(1, Some(owner(1)), EndOfShard::Replaced)], "it says what was counted");
    assert_eq!(record(&subject.store, 2).total, Some(2));
    let other = begun(&subject.store, master(4, 3)).ended;
    let expected = [ended(3, Some(owner(3)), EndOfShard::Replaced), ended(2, Some(owner(2)), EndOfShard::Resharded)];
    assert_eq!(other, expected);
    begun(&subject.store, begin(5, 2));
    subject.restart();
    let fewer = begun(&subject.store, master(6, 1)).ended;
    assert_eq!(
        fewer.iter().map(|ended| (ended.id, ended.why)).collect::<Vec<_>>(),
        [(session(4), EndOfShard::Replaced), (session(5), EndOfShard::Resharded),]
    );
    assert!(resumed(&subject.store, resume(5, 2, None)).is_none());
}

fn fleets_do_not_meet(subject: fn() -> Subject) {
    let store = subject().store;
    let development = Fleet { development: true, ..fleet() };
    let other = Fleet { application: "other".into(), development: false };
    for (number, fleet) in [(1, fleet()), (2, development.clone()), (3, other.clone())] {
        assert_eq!(begun(&store, BeginShard { fleet, ..begin(number, 0) }).ended, []);
    }
    assert_eq!(publish(&store, 0, "e"), Some(1));
    for (number, fleet, last) in [(1, fleet(), 1), (2, development, 0), (3, other, 0)] {
        let records = ready(store.fleet(&fleet, NOW));
        assert_eq!(
            records.iter().map(|record| (record.id, record.last)).collect::<Vec<_>>(),
            [(session(number), last)]
        );
    }
    assert_eq!(ready(store.shards(NOW)).len(), 3);
}

fn only_the_right_one_resumes(subject: fn() -> Subject) {
    let store = subject().store;
    begun(&store, begin(1, 0));
    begun(&store, begin(2, 1));
    let foreign = ResumeShard { application: "other".into(), ..resume(2, 1, None) };
    let wrong = ResumeShard { hash: hash(9), ..resume(2, 1, None) };
    for resume in [foreign, wrong, resume(2, 0, None), resume(2, 1 << 32 | 1, None), resume(2, 1, Some(1))] {
        assert!(resumed(&store, resume).is_none());
    }
    assert_eq!(record(&store, 2).generation, 1, "what is refused changes nothing");
    assert!(resumed(&store, resume(2, 1, Some(0))).is_some());
}

fn fault_row_18_the_latest_resume_carries_and_all_before_are_fenced(subject: fn() -> Subject) {
    let store = subject().store;
    begun(&store, begin(1, 0));
    publish(&store, 0, "e");
    let first = resumed(&store, resume(1, 0, None)).unwrap();
    assert_eq!((first.record.generation, first.previous), (2, Some(owner(1))));
    let second = ResumeShard { owner: owner(7), ..resume(1, 0, None) };
    let second = resumed(&store, second).unwrap();
    assert_eq!((second.record.generation, second.previous, second.after), (3, Some(owner(101)), 0));
    for generation in [1, 2, 4] {
        assert_eq!(read(&store, 1, generation, 0), Err(ReadRefusal::Fenced));
        assert_eq!(ready(store.acknowledge(session(1), generation, 1)), Err(AckRefusal::Fenced));
        assert_eq!(done(store.detach_shard(note(1, generation), NOW)), Err(Fenced));
        assert_eq!(done(store.end_shard(session(1), Some(generation))), None);
    }
    let record = record(&store, 1);
    assert_eq!((record.owner, record.floor, record.detached_ms), (Some(owner(7)), 0, None));
    done(store.detach_shard(note(1, 3), NOW)).unwrap();
    assert_eq!(done(store.detach_shard(note(1, 3), NOW + 5)), Err(Fenced), "nobody carries it");
    assert_eq!(read(&store, 1, 3, 0), Err(ReadRefusal::Fenced));
}

fn a_resume_begins_where_the_client_says_or_is_known_to_be(subject: fn() -> Subject) {
    let mut subject = subject();
    begun(&subject.store, begin(1, 0));
    for text in ["a", "b", "c", "d"] {
        publish(&subject.store, 0, text);
    }
    assert_eq!(resumed(&subject.store, resume(1, 0, None)).unwrap().after, 0);
    let noted = ShardNote { received: 3, ..note(1, 2) };
    done(subject.store.detach_shard(noted, NOW)).unwrap();
    subject.restart();
    let implicit = resumed(&subject.store, resume(1, 0, None)).unwrap();
    assert_eq!((implicit.after, implicit.record.floor, implicit.record.last), (3, 0, 4));
    let earlier = resumed(&subject.store, resume(1, 0, Some(1))).unwrap();
    assert_eq!((earlier.after, earlier.record.floor), (1, 1), "it is an acknowledgement too");
    assert!(resumed(&subject.store, resume(1, 0, Some(0))).is_none(), "that was forgotten");
    assert!(resumed(&subject.store, resume(1, 0, Some(5))).is_none(), "that is not there yet");
    let implicit = resumed(&subject.store, resume(1, 0, None)).unwrap();
    assert_eq!(implicit.after, 1, "it had not dealt with what its host received");
    assert_eq!(read(&subject.store, 1, implicit.record.generation, 2), Ok(vec![(3, "c".into()), (4, "d".into())]));
    let all = resumed(&subject.store, resume(1, 0, Some(4))).unwrap();
    assert_eq!((all.after, all.record.floor, all.record.last, all.record.log_bytes), (4, 4, 4, 0));
    subject.restart();
    assert_eq!(publish(&subject.store, 0, "e"), Some(5), "an empty log goes on where it was");
}

fn a_session_expires_when_nobody_comes_for_it(subject: fn() -> Subject) {
    let store = subject().store;
    begun(&store, begin(1, 0));
    begun(&store, begin(2, 1));
    done(store.detach_shard(note(2, 1), NOW)).unwrap();
    let at = |now_ms| ResumeShard { now_ms, ..resume(2, 1, None) };
    assert!(resumed(&store, at(NOW + 999)).is_some());
    done(store.detach_shard(note(2, 2), NOW)).unwrap();
    assert_eq!(done(store.sweep_shards(NOW + 999)), []);
    assert!(resumed(&store, at(NOW + 1000)).is_none(), "without any sweep");
    let expired = NOW + 1000;
    assert_eq!(ready(store.shard(session(2), expired)), None);
    assert_eq!(ready(store.fleet(&fleet(), expired)).len(), 1);
    assert_eq!(ready(store.fleet(&fleet(), expired))[0].fleet_total, 1);
    assert_eq!(ready(store.shards(expired)).len(), 1);
    let late = Publication { now_ms: expired, ..publication(ShardTarget::Shard(1), "e") };
    assert_eq!(done(store.publish(late)), None);
    let append = Append { id: session(2), item: LogItem::new("e"), room: None, is_gap: false, now_ms: expired };
    assert_eq!(done(store.append(append)), None);
    assert_eq!(done(store.sweep_shards(expired)), [ended(2, None, EndOfShard::Expired)]);
    assert_eq!(done(store.sweep_shards(u64::MAX)), [], "what is carried does not expire");
    begun(&store, begin(3, 1));
    done(store.detach_shard(note(3, 1), NOW)).unwrap();
    let next = begun(&store, BeginShard { now_ms: expired, ..begin(4, 1) });
    assert_eq!(next.ended, [ended(3, None, EndOfShard::Expired)]);
}

fn fault_row_40_a_clock_that_goes_back_expires_nothing(subject: fn() -> Subject) {
    let store = subject().store;
    begun(&store, begin(1, 0));
    done(store.detach_shard(note(1, 1), NOW)).unwrap();
    for now_ms in [0, NOW - 3_600_000 % NOW, NOW + 999] {
        assert_eq!(done(store.sweep_shards(now_ms)), []);
        assert!(ready(store.shard(session(1), now_ms)).is_some());
    }
    assert!(resumed(&store, ResumeShard { now_ms: 5, ..resume(1, 0, None) }).is_some());
}

fn rooms_of_a_session_are_kept_with_their_numbers(subject: fn() -> Subject) {
    let mut subject = subject();
    let [a, b, c, d] = ["a", "b", "c", "d"].map(room);
    assert!(!done(subject.store.add_shard_room(session(1), &a, 7)), "there is no such session");
    begun(&subject.store, begin(1, 0));
    for (room, number, is_new) in [(&b, 5, true), (&a, 7, true), (&b, 9, false), (&c, 0, true)] {
        assert_eq!(done(subject.store.add_shard_room(session(1), room, number)), is_new);
    }
    assert!(block_on(subject.store.add_shard_room(session(1), &d, 0).into_future()).is_err(), "{MAX_USER_ROOMS}");
    let heard = |room: &_, number| {
        let room: &switchboard_proto::id::RoomName = room;
        Append {
            id: session(1),
            item: LogItem::new("m"),
            room: Some((room.clone(), number)),
            is_gap: false,
            now_ms: NOW,
        }
    };
    assert_eq!(done(subject.store.append(heard(&a, 8))), Some(1));
    assert_eq!(done(subject.store.append(heard(&d, 8))), None, "it is not in that room");
    assert_eq!(done(subject.store.append(heard(&a, 8))), None, "it has heard that");
    assert_eq!(done(subject.store.append(heard(&a, 6))), None, "and what was before");
    let gap = Append { is_gap: true, ..heard(&a, 8) };
    assert_eq!(done(subject.store.append(gap)), Some(2), "what is missing is told all the same");
    subject.restart();
    assert_eq!(ready(subject.store.shard_rooms(session(1))), [(b.clone(), 5), (a.clone(), 8), (c.clone(), 0)]);
    assert!(done(subject.store.remove_shard_room(session(1), &b)));
    assert!(!done(subject.store.remove_shard_room(session(1), &b)));
    assert!(done(subject.store.add_shard_room(session(1), &b, 1)));
    done(subject.store.forget_room(&a));
    subject.restart();
    assert_eq!(ready(subject.store.shard_rooms(session(1))), [(c.clone(), 0), (b.clone(), 1)]);
    assert_eq!(record(&subject.store, 1).last, 2);
    assert_eq!(done(subject.store.end_shard(session(1), None)).unwrap().rooms, [c, b]);
    assert_eq!(ready(subject.store.shard_rooms(session(1))), []);
}

fn whatever_ends_is_gone_with_all_it_had(subject: fn() -> Subject) {
    let mut subject = subject();
    begun(&subject.store, begin(1, 0));
    publish(&subject.store, 0, "e");
    done(subject.store.add_shard_room(session(1), &room("a"), 0));
    assert_eq!(done(subject.store.end_shard(session(1), Some(2))), None);
    let gone = done(subject.store.end_shard(session(1), Some(1))).unwrap();
    assert_eq!(gone, EndedShard { rooms: vec![room("a")], ..ended(1, Some(owner(1)), EndOfShard::Asked) });
    for _ in 0..2 {
        assert_eq!(done(subject.store.end_shard(session(1), None)), None);
        assert!(resumed(&subject.store, resume(1, 0, None)).is_none());
        assert_eq!(publish(&subject.store, 0, "e"), None);
        assert_eq!(ready(subject.store.shards(NOW)), []);
        subject.restart();
    }
    begun(&subject.store, BeginShard { id: session(1), ..begin(2, 0) });
    assert_eq!(ready(subject.store.shard_rooms(session(1))), []);
    assert_eq!(publish(&subject.store, 0, "e"), Some(1));
}

fn figures_are_kept_of_those_who_carry(subject: fn() -> Subject) {
    let mut subject = subject();
    begun(&subject.store, begin(1, 0));
    begun(&subject.store, begin(2, 1));
    publish(&subject.store, 0, "e");
    let counts = |received| ShardCounts { received, sent: 2, pings: 3, pongs: 4 };
    let noted =
        |number, generation, received| ShardNote { counts: counts(received), received, ..note(number, generation) };
    done(subject.store.note_shards(vec![noted(1, 1, 9), noted(2, 7, 8), noted(5, 1, 1)]));
    let first = record(&subject.store, 1);
    assert_eq!((first.counts, first.received), (counts(9), 1), "there is no ninth event");
    assert_eq!(record(&subject.store, 2).counts, ShardCounts::default());
    done(subject.store.detach_shard(noted(2, 1, 5), NOW)).unwrap();
    done(subject.store.note_shards(vec![noted(2, 1, 6)]));
    subject.restart();
    assert_eq!([1, 2].map(|number| record(&subject.store, number).counts), [counts(9), counts(5)]);
}

fn a_list_comes_in_pages_by_fleet_and_shard(subject: fn() -> Subject) {
    let store = subject().store;
    let development = Fleet { development: true, ..fleet() };
    for (number, shard) in [(5, 0), (3, 2), (4, 9), (1, 10)] {
        begun(&store, begin(number, shard));
    }
    for (number, shard) in [(7, 0), (6, 1)] {
        begun(&store, BeginShard { fleet: development.clone(), ..begin(number, shard) });
    }
    // One that has expired is in no page.
    done(store.detach_shard(note(3, 1), 0)).unwrap();
    let listed = [5, 4, 1, 7, 6].map(|number| record(&store, number));
    for limit in 1..=6 {
        let (mut read, mut after) = (Vec::new(), None);
        loop {
            let page = ready(store.shards_after(after.take(), limit, NOW));
            assert!(page.len() <= limit);
            let Some(last) = page.last() else { break };
            after = Some(last.key());
            read.extend(page);
        }
        assert_eq!(read, listed, "pages of {limit}");
    }
    assert_eq!(ready(store.shards_after(None, 0, NOW)), []);
}
