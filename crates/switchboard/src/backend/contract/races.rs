//! Many at once.

use std::collections::HashMap;
use std::sync::{Arc, Barrier};
use std::thread;

use switchboard_proto::id::ConnId;

use super::shards::*;
use super::{Subject, done, ready};
use crate::backend::redis::testing;
use crate::backend::sessions::SessionStore;
use crate::backend::sessions::shards::*;

/// Two connections resume the same session again and again, at the same time, and note who had it before; each reads and
/// acknowledges with what it holds.
fn race(stores: [&Arc<dyn SessionStore>; 2], resumes_each: u64) {
    let store = stores[0];
    done(store.begin_shard(begin(1, 0))).unwrap();
    done(store.publish(publication(ShardTarget::Shard(0), "e")));
    let start = Arc::new(Barrier::new(2));
    let racers = [0_u64, 1].map(|racer| {
        let (store, start) = (Arc::clone(stores[racer as usize]), Arc::clone(&start));
        thread::spawn(move || {
            start.wait();
            let carry = |number: u64| {
                let owner = owner(2 + 2 * number + racer);
                let resume = ResumeShard { owner: owner.clone(), ..resume(1, 0, None) };
                let resumed = done(store.resume_shard(resume)).unwrap();
                let generation = resumed.record.generation;
                let read = ReadLog { id: session(1), generation, after: 0, max_events: 9, max_bytes: 99 };
                let read = ready(store.read_log(read));
                // Whoever is fenced once stays so.
                let note = ShardNote { received: 0, ..note(1, generation) };
                done(store.note_shards(vec![note]));
                if read == Err(ReadRefusal::Fenced) {
                    assert_eq!(ready(store.acknowledge(session(1), generation, 1)), Err(AckRefusal::Fenced));
                }
                (generation, owner.connection, resumed.previous.unwrap().connection)
            };
            (0..resumes_each).map(carry).collect::<Vec<(u64, ConnId, ConnId)>>()
        })
    });
    let all: Vec<_> = racers.into_iter().flat_map(|racer| racer.join().unwrap()).collect();
    let owners: HashMap<_, _> = all.iter().map(|(generation, owner, _)| (*generation, *owner)).collect();
    assert_eq!(owners.len(), all.len(), "no generation has two owners");
    for (generation, _, previous) in &all {
        let before = if *generation == 2 { owner(1).connection } else { owners[&(generation - 1)] };
        assert_eq!(*previous, before, "whoever loses generation {generation} is told to the one who gets it");
    }
    let record = ready(store.shard(session(1), NOW)).unwrap();
    assert_eq!(record.generation, 1 + 2 * resumes_each);
    assert_eq!(record.owner.unwrap().connection, owners[&record.generation]);
}

#[test]
fn fault_row_18_in_a_hundred_thousand_races_each_generation_has_one_owner() {
    let store = Subject::memory().store;
    race([&store, &store], 100_000);
}

#[test]
fn fault_row_18_in_a_file_too_each_generation_has_one_owner() {
    let store = Subject::file().store;
    race([&store, &store], 500);
}

#[test]
fn fault_row_18_on_two_nodes_too_each_generation_has_one_owner() {
    let one = testing::single();
    let other = one.another_node();
    let [one, other]: [Arc<dyn SessionStore>; 2] =
        [&one, &other].map(|test| Arc::new(test.sessions(8, ShardLimits::default())) as _);
    race([&one, &other], 500);
}
