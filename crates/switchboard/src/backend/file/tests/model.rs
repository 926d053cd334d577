//! Random deeds on sessions of shards, with kills, planned ends and a full disk between them.

use super::*;
use crate::backend::contract::SHARD_LIMITS;
use crate::backend::contract::model::{ROOMS, World, check};
use crate::backend::contract::shards::NOW;

/// A store in a file, on a machine that stays up.
struct InFile {
    folder: TestFolder,
    store: Arc<FileSessions>,
    moment: Arc<Mutex<Moment>>,
    fault: Arc<Fault>,
}

impl InFile {
    fn new() -> Self {
        let moment = Arc::new(Mutex::new(Moment { boot: 7, ..Moment::at(NOW) }));
        let (folder, fault) = (TestFolder::new(), Arc::default());
        let store = Self::open(&folder, &moment, &fault);
        Self { folder, store, moment, fault }
    }

    fn open(folder: &TestFolder, moment: &Arc<Mutex<Moment>>, fault: &Arc<Fault>) -> Arc<FileSessions> {
        let (moment, fault) = (Arc::clone(moment), Arc::clone(fault));
        let machine =
            Machine { open_file: faulty(fault), watch: Box::new(move || *lock(&moment)), retry_pause: Duration::ZERO };
        Arc::new(FileSessions::open_on(folder.path(), ROOMS, SHARD_LIMITS, machine).unwrap())
    }
}

impl World for InFile {
    fn store(&self) -> Arc<dyn SessionStore> {
        self.store.clone()
    }

    fn restart(&mut self, is_killed: bool, now_ms: u64, later_ms: u64) -> bool {
        // The wall clock is set when the store is down; the machine has been up for as long as it has.
        let then = *lock(&self.moment);
        let up_ms = then.up_ms + now_ms - then.steady_ms;
        let moment = |ms| Moment { boot: 7, up_ms, ..Moment::at(ms) };
        if is_killed {
            self.folder = image(&self.folder);
        } else {
            *lock(&self.moment) = moment(now_ms);
            close(&self.store);
        }
        // A store that was killed shows no more what its clocks do.
        self.moment = Arc::new(Mutex::new(moment(later_ms)));
        self.store = Self::open(&self.folder, &self.moment, &self.fault);
        true
    }

    fn fill(&self, is_full: bool) -> bool {
        self.fault.is_full.store(is_full, Ordering::Relaxed);
        true
    }
}

#[test]
fn fault_row_40_whatever_is_done_between_kills_is_what_a_naive_store_would_do() {
    check(64, InFile::new);
}
