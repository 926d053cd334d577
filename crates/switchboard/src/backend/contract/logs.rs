//! What every store must do with the events of shards.

use switchboard_proto::shard::LogItem;

use super::shards::*;
use super::{Subject, block_on, contract, done, ready};
use crate::backend::sessions::shards::*;

fn with_id(id: &str, to: ShardTarget) -> Publication {
    Publication { id: Some(id.into()), ..publication(to, "e") }
}

/// Waits until `seen` holds: what is acknowledged counts at once, and is forgotten when the store comes to it.
fn settle(mut seen: impl FnMut() -> bool) {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while !seen() {
        assert!(std::time::Instant::now() < deadline, "not in time");
        std::thread::yield_now();
    }
}

contract! {
    events_are_numbered_from_one_without_gaps,
    an_acknowledgement_forgets_and_never_goes_ahead,
    a_full_log_loses_its_oldest_and_says_so,
    all_logs_together_are_bounded,
    an_event_that_no_log_can_hold_fails,
    a_guild_goes_to_its_shard,
    a_publication_with_an_id_is_made_once,
    ids_are_forgotten_by_age_and_number,
    a_log_is_read_in_parts,
}

fn events_are_numbered_from_one_without_gaps(subject: fn() -> Subject) {
    let mut subject = subject();
    assert_eq!(publish(&subject.store, 0, "nobody is there"), None);
    assert_eq!(done(subject.store.publish(publication(ShardTarget::All, "e"))), None);
    begun(&subject.store, begin(1, 0));
    begun(&subject.store, begin(2, 1));
    assert_eq!(publish(&subject.store, 0, "one"), Some(1));
    let all = done(subject.store.publish(publication(ShardTarget::All, "all"))).unwrap();
    let delivery = |number, shard, seq| ShardDelivery { session: session(number), shard, seq, home: 0 };
    assert_eq!(all.deliveries, [delivery(1, 0, 2), delivery(2, 1, 1)]);
    done(subject.store.detach_shard(note(1, 1), NOW)).unwrap();
    assert_eq!(publish(&subject.store, 0, "while away"), Some(3));
    subject.restart();
    let append = Append { id: session(1), item: LogItem::new("own"), room: None, is_gap: false, now_ms: NOW };
    assert_eq!(done(subject.store.append(append)), Some(4));
    let generation = resumed(&subject.store, resume(1, 0, None)).unwrap().record.generation;
    let expected = [(1, "one"), (2, "all"), (3, "while away"), (4, "own")].map(|(seq, text)| (seq, text.to_owned()));
    assert_eq!(read(&subject.store, 1, generation, 0).unwrap(), expected);
}

fn an_acknowledgement_forgets_and_never_goes_ahead(subject: fn() -> Subject) {
    let mut subject = subject();
    begun(&subject.store, begin(1, 0));
    for text in ["a", "bb", "ccc"] {
        publish(&subject.store, 0, text);
    }
    let ack = |subject: &Subject, seq| ready(subject.store.acknowledge(session(1), 1, seq));
    assert_eq!(ack(&subject, 4), Err(AckRefusal::Ahead));
    for seq in [2, 1, 0] {
        assert_eq!(ack(&subject, seq), Ok(()));
    }
    // Others that come after it see it.
    publish(&subject.store, 0, "d");
    let seen = record(&subject.store, 1);
    assert_eq!((seen.floor, seen.received, seen.last, seen.log_bytes), (2, 2, 4, 4));
    assert_eq!(read(&subject.store, 1, 1, 1), Err(ReadRefusal::Trimmed));
    assert_eq!(ack(&subject, 4), Ok(()));
    settle(|| record(&subject.store, 1).floor == 4);
    subject.restart();
    let seen = record(&subject.store, 1);
    assert_eq!((seen.floor, seen.received, seen.last, seen.log_bytes), (4, 4, 4, 0));
}

fn a_full_log_loses_its_oldest_and_says_so(subject: fn() -> Subject) {
    let mut subject = subject();
    begun(&subject.store, begin(1, 0));
    for number in 1..=7 {
        assert_eq!(publish(&subject.store, 0, "0123456789"), Some(number));
    }
    assert_eq!(record(&subject.store, 1).floor, 2, "five are kept");
    assert_eq!(read(&subject.store, 1, 1, 1), Err(ReadRefusal::Trimmed));
    assert_eq!(read(&subject.store, 1, 1, 2).unwrap().len(), 5);
    assert!(resumed(&subject.store, resume(1, 0, Some(1))).is_none());
    assert!(resumed(&subject.store, resume(1, 0, None)).is_none(), "a gap is never hidden");
    publish(&subject.store, 0, &"x".repeat(85));
    subject.restart();
    let seen = record(&subject.store, 1);
    assert_eq!((seen.floor, seen.last, seen.log_bytes), (6, 8, 95), "and a hundred bytes");
    assert!(resumed(&subject.store, resume(1, 0, Some(6))).is_some());
}

fn all_logs_together_are_bounded(subject: fn() -> Subject) {
    let store = subject().store;
    begun(&store, begin(1, 0));
    begun(&store, begin(2, 1));
    let text = "x".repeat(45);
    publish(&store, 0, &text);
    publish(&store, 0, &text);
    publish(&store, 1, &text);
    publish(&store, 1, &text);
    let floors = || [record(&store, 1).floor, record(&store, 2).floor];
    assert_eq!(floors(), [0, 1], "whoever grows pays");
    begun(&store, begin(3, 2));
    let short = "x".repeat(20);
    publish(&store, 2, &short);
    publish(&store, 2, &short);
    assert_eq!(record(&store, 3).floor, 0, "whoever comes later has a share");
    publish(&store, 0, &short);
    assert_eq!(floors(), [1, 1], "whoever has more than his gives way");
    done(store.end_shard(session(3), None));
    done(store.end_shard(session(1), None));
    publish(&store, 1, &text);
    assert_eq!(record(&store, 2).floor, 1, "what is gone counts no more");
    assert_eq!(record(&store, 2).log_bytes, 90);
}

fn an_event_that_no_log_can_hold_fails(subject: fn() -> Subject) {
    let store = subject().store;
    begun(&store, begin(1, 0));
    let text = "x".repeat(101);
    assert!(block_on(store.publish(publication(ShardTarget::All, &text)).into_future()).is_err());
    let append = Append { id: session(1), item: LogItem::new(text), room: None, is_gap: false, now_ms: NOW };
    assert!(block_on(store.append(append).into_future()).is_err());
    assert_eq!(publish(&store, 0, "e"), Some(1));
}

fn a_guild_goes_to_its_shard(subject: fn() -> Subject) {
    let store = subject().store;
    let shard_of = |guild, fixed_total| {
        let publication = Publication { fixed_total, ..publication(ShardTarget::Guild(guild), "e") };
        done(store.publish(publication)).map(|event| event.deliveries[0].shard)
    };
    assert_eq!(shard_of(0, None), None);
    begun(&store, begin(1, 0));
    begun(&store, begin(2, 1));
    assert_eq!([0, 1, 2, 3].map(|number| shard_of(number << 22, None)), [Some(0), Some(1), Some(0), Some(1)]);
    assert_eq!(shard_of((1 << 22) - 1, None), Some(0), "the lower bits say when, not where");
    assert_eq!(shard_of(u64::MAX, None), Some(1));
    assert_eq!(shard_of(2 << 22, Some(3)), None, "that shard has not come yet");
}

fn a_publication_with_an_id_is_made_once(subject: fn() -> Subject) {
    let mut subject = subject();
    let once = |subject: &Subject, id, to| done(subject.store.publish(with_id(id, to)));
    assert_eq!(once(&subject, "a", ShardTarget::Shard(0)), None, "what was not stored is not remembered");
    begun(&subject.store, begin(1, 0));
    begun(&subject.store, begin(2, 1));
    let first = once(&subject, "a", ShardTarget::All).unwrap();
    assert!(!first.is_repeated);
    subject.restart();
    let second = once(&subject, "a", ShardTarget::Shard(0)).unwrap();
    assert!(second.is_repeated);
    assert_eq!(second.deliveries, first.deliveries, "whatever it was this time");
    assert_eq!(record(&subject.store, 1).last, 1);
    let other = Fleet { application: "other".into(), development: false };
    begun(&subject.store, BeginShard { fleet: other.clone(), ..begin(3, 0) });
    let of_other = Publication { fleet: other, ..with_id("a", ShardTarget::Shard(0)) };
    assert!(!done(subject.store.publish(of_other)).unwrap().is_repeated, "ids are an application's own");
}

fn ids_are_forgotten_by_age_and_number(subject: fn() -> Subject) {
    let mut subject = subject();
    begun(&subject.store, begin(1, 0));
    let is_repeated = |subject: &Subject, id, now_ms| {
        let publication = Publication { now_ms, ..with_id(id, ShardTarget::Shard(0)) };
        done(subject.store.publish(publication)).unwrap().is_repeated
    };
    assert!(!is_repeated(&subject, "a", NOW));
    assert!(is_repeated(&subject, "a", NOW + 999));
    assert!(!is_repeated(&subject, "a", NOW + 1000));
    for id in ["b", "c"] {
        assert!(!is_repeated(&subject, id, NOW + 1000));
    }
    subject.set_time(NOW + 1000);
    subject.restart();
    assert!(is_repeated(&subject, "a", NOW + 1000));
    assert!(!is_repeated(&subject, "d", NOW + 1000));
    assert!(!is_repeated(&subject, "a", NOW + 1000), "three are kept");
    begun(&subject.store, begin(2, 1));
    let all = with_id("all", ShardTarget::All);
    done(subject.store.publish(all));
    assert!(is_repeated(&subject, "a", NOW + 1000));
    assert!(!is_repeated(&subject, "d", NOW + 1000), "one that went to two sessions counts twice");
}

fn a_log_is_read_in_parts(subject: fn() -> Subject) {
    let store = subject().store;
    begun(&store, begin(1, 0));
    for text in ["aaaa", "bbbb", "cc", "dd"] {
        publish(&store, 0, text);
    }
    let read = |after, max_events, max_bytes| {
        let read = ReadLog { id: session(1), generation: 1, after, max_events, max_bytes };
        let part = ready(store.read_log(read)).unwrap();
        (part.events.iter().map(|event| event.seq).collect::<Vec<_>>(), part.has_more)
    };
    assert_eq!(read(0, 3, 100), (vec![1, 2, 3], true));
    assert_eq!(read(3, 3, 100), (vec![4], false));
    assert_eq!(read(0, 10, 8), (vec![1, 2], true));
    assert_eq!(read(2, 10, 4), (vec![3, 4], false));
    assert_eq!(read(0, 0, 0), (vec![1], true), "one at least");
    assert_eq!([read(4, 10, 10), read(u64::MAX, 10, 10)], [(vec![], false), (vec![], false)]);
}
