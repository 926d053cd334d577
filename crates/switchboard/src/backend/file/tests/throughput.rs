//! How many events a second the stores take. No test: it asserts nothing about this machine.

use std::sync::Arc;
use std::time::Instant;

use switchboard_proto::shard::LogItem;

use super::*;
use crate::backend::contract::shards::{NOW, begin, publication, session};
use crate::backend::sessions::memory::MemorySessions;
use crate::backend::sessions::shards::{Append, Publication, ShardStore, ShardTarget};

const TEXT_BYTES: usize = 200;

fn item() -> LogItem {
    LogItem::new("x".repeat(TEXT_BYTES))
}

#[test]
#[ignore = "it measures: cargo test --release -p switchboard --lib throughput -- --ignored --nocapture"]
fn throughput_of_a_file_with_many_publications_in_flight() {
    for (in_flight, with_id) in [(1, false), (64, false), (1000, false), (1000, true)] {
        let folder = TestFolder::new();
        let store = Arc::new(open(folder.path()));
        done(store.begin_shard(begin(1, 0))).unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
        let began = Instant::now();
        let total: usize = runtime.block_on(async {
            let mut tasks = tokio::task::JoinSet::new();
            for task in 0..in_flight {
                let store = Arc::clone(&store);
                tasks.spawn(async move {
                    let mut count = 0;
                    while began.elapsed() < Duration::from_secs(3) {
                        let id = with_id.then(|| format!("{task}/{count}").into());
                        let publication = Publication { item: item(), id, ..publication(ShardTarget::Shard(0), "") };
                        store.publish(publication).await.unwrap().unwrap();
                        count += 1;
                    }
                    count
                });
            }
            tasks.join_all().await.into_iter().sum()
        });
        let per_second = total as f64 / began.elapsed().as_secs_f64();
        println!("file, {in_flight} in flight, ids {with_id}: {per_second:.0} events/s");
    }
}

#[test]
#[ignore = "it measures, see above"]
fn throughput_of_the_memory() {
    let store = MemorySessions::new(MANY, ShardLimits::default());
    done(store.begin_shard(begin(1, 0))).unwrap();
    let item = item();
    let began = Instant::now();
    let count = 1_000_000;
    for _ in 0..count {
        ready(store.append(Append { id: session(1), item: item.clone(), room: None, now_ms: NOW }));
    }
    println!("memory, append: {:.0} events/s", f64::from(count) / began.elapsed().as_secs_f64());
    let began = Instant::now();
    for _ in 0..count {
        let publication = Publication { item: item.clone(), ..publication(ShardTarget::Shard(0), "") };
        ready(store.publish(publication));
    }
    println!("memory, publish: {:.0} events/s", f64::from(count) / began.elapsed().as_secs_f64());
}
