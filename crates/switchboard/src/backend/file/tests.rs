//! What a file adds to the contract: kills, disks that fail, files that are not ours.

mod model;
mod shards;

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::sync::atomic::AtomicUsize;
use std::sync::{Condvar, mpsc};
use std::time::Instant;

use redb::backends::FileBackend;
use redb::{Database, StorageBackend, TableDefinition};

use super::*;
use crate::backend::contract::{TestFolder, block_on, done, ready, room, token};

const MANY: usize = usize::MAX;

fn open(folder: &Path) -> FileSessions {
    FileSessions::open(folder, MANY, ShardLimits::default()).unwrap()
}

fn close(store: &FileSessions) {
    block_on(store.close().into_future());
}

/// What is on disk right now, as a kill would leave it, in a folder of its own.
fn image(folder: &TestFolder) -> TestFolder {
    let image = TestFolder::new();
    fs::create_dir(image.path()).unwrap();
    fs::copy(folder.path().join("switchboard.redb"), image.path().join("switchboard.redb")).unwrap();
    image
}

/// A disk that can be full, and can hang.
#[derive(Debug, Default)]
struct Fault {
    is_full: AtomicBool,
    is_hanging: Mutex<bool>,
    changed: Condvar,
    syncs: AtomicUsize,
}

impl Fault {
    fn hang(&self, is_hanging: bool) {
        *lock(&self.is_hanging) = is_hanging;
        self.changed.notify_all();
    }

    fn check_space(&self) -> io::Result<()> {
        if self.is_full.load(Ordering::Relaxed) { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }
}

#[derive(Debug)]
struct FaultyFile(FileBackend, Arc<Fault>);

impl StorageBackend for FaultyFile {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.1.check_space()?;
        self.0.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.1.syncs.fetch_add(1, Ordering::Relaxed);
        drop(self.1.changed.wait_while(lock(&self.1.is_hanging), |is_hanging| *is_hanging));
        self.1.check_space()?;
        self.0.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.1.check_space()?;
        self.0.write(offset, data)
    }
}

fn faulty(fault: Arc<Fault>) -> OpenFile {
    Box::new(move |builder, file| builder.create_with_backend(FaultyFile(FileBackend::new(file)?, Arc::clone(&fault))))
}

fn open_faulty(folder: &Path) -> (FileSessions, Arc<Fault>) {
    let fault = Arc::new(Fault::default());
    let machine = Machine { open_file: faulty(Arc::clone(&fault)), ..Machine::real() };
    (FileSessions::open_on(folder, MANY, ShardLimits::default(), machine).unwrap(), fault)
}

#[track_caller]
fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !condition() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        thread::yield_now();
    }
}

fn is_kept(store: &FileSessions, name: &str) -> bool {
    ready(store.token(&TokenHash::of(name))).is_some()
}

#[test]
fn only_the_owner_may_read_the_store() {
    let folder = TestFolder::new();
    let _store = open(folder.path());
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(folder.path()), 0o700);
    assert_eq!(mode(&folder.path().join("switchboard.redb")), 0o600);
    assert_eq!(mode(&folder.path().join("switchboard.lock")), 0o600);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2, "nothing else is left there");
}

#[test]
fn a_folder_is_used_by_one_store_at_a_time() {
    let folder = TestFolder::new();
    let store = open(folder.path());
    let refused = FileSessions::open(folder.path(), MANY, ShardLimits::default()).unwrap_err();
    assert!(matches!(refused, OpenError::InUse { .. }), "{refused}");
    assert!(refused.to_string().contains("is in use by another process; stop that one"), "{refused}");
    close(&store);
    open(folder.path());
}

#[test]
fn a_store_that_was_closed_takes_nothing_more() {
    let folder = TestFolder::new();
    let store = open(folder.path());
    let before = store.add_token(token("before", "u", 9), MANY);
    let time = ready(store.next_command_time("u", 5));
    close(&store);
    done(before);
    assert!(block_on(store.add_token(token("after", "u", 9), MANY).into_future()).is_err());
    assert!(block_on(store.next_command_time("u", 5).into_future()).is_err(), "the next process may give that time");
    let next = open(folder.path());
    assert!(is_kept(&next, "before"));
    assert!(!is_kept(&next, "after"));
    assert_eq!(ready(next.next_command_time("u", 5)), time + 1);
}

#[test]
fn a_file_that_is_not_ours_is_refused_and_left_as_it_is() {
    const FOREIGN: TableDefinition<'_, &str, u64> = TableDefinition::new("somebody's");
    const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
    const USER_ROOMS: TableDefinition<'_, (&str, &str), u64> = TableDefinition::new("user_rooms");
    type Spoil = fn(&Path);
    fn change(path: &Path, change: fn(&redb::WriteTransaction)) {
        let transaction = Database::create(path).unwrap().begin_write().unwrap();
        change(&transaction);
        transaction.commit().unwrap();
    }
    let text: Spoil = |path| fs::write(path, "a letter\n".repeat(2000)).unwrap();
    let damaged: Spoil = |path| {
        let mut bytes = fs::read(path).unwrap();
        let middle = bytes.len() / 2;
        bytes[4096..middle].fill(0x5a);
        fs::write(path, bytes).unwrap();
    };
    let cut: Spoil = |path| fs::File::options().write(true).open(path).unwrap().set_len(8192).unwrap();
    let foreign: Spoil = |path| {
        fs::remove_file(path).unwrap();
        change(path, |transaction| drop(transaction.open_table(FOREIGN).unwrap().insert("x", 1).unwrap()));
    };
    let newer: Spoil =
        |path| change(path, |transaction| drop(transaction.open_table(META).unwrap().insert("format", 2).unwrap()));
    let bad_room: Spoil = |path| {
        change(path, |transaction| drop(transaction.open_table(USER_ROOMS).unwrap().insert(("u", ""), 1).unwrap()));
    };
    for (spoil, expected) in [
        (text, "is damaged, or no store of Switchboard"),
        (damaged, "is damaged, or no store of Switchboard"),
        (cut, "is damaged, or no store of Switchboard"),
        (foreign, "another program's data is in it"),
        (newer, "has format 2, this version knows 1; run the version that wrote it"),
        (bad_room, "user \"u\" is in a room with a bad name, \"\""),
    ] {
        let folder = TestFolder::new();
        let store = open(folder.path());
        done(store.add_token(token("kept", "u", 9), MANY));
        close(&store);
        let path = folder.path().join("switchboard.redb");
        spoil(&path);
        let said = FileSessions::open(folder.path(), MANY, ShardLimits::default()).map(drop).unwrap_err().to_string();
        assert!(said.contains(expected), "{said}");
        assert!(said.contains("switchboard.redb") && said.contains("move it away"), "{said}");
        assert!(path.exists());
    }
}

#[test]
fn a_file_that_was_not_finished_is_made_anew() {
    let folder = TestFolder::new();
    fs::create_dir(folder.path()).unwrap();
    fs::write(folder.path().join("switchboard.redb.new"), "half").unwrap();
    open(folder.path());
}

#[test]
fn fault_row_39_a_full_disk_fails_changes_and_nothing_else() {
    let folder = TestFolder::new();
    let (store, fault) = open_faulty(folder.path());
    done(store.add_token(token("before", "u", 9), MANY));
    fault.is_full.store(true, Ordering::Relaxed);
    for name in ["lost", "lost too"] {
        assert!(block_on(store.add_token(token(name, "u", 9), MANY).into_future()).is_err());
        assert!(is_kept(&store, "before"));
        assert!(!is_kept(&store, name));
    }
    ready(store.next_command_time("u", 5));
    fault.is_full.store(false, Ordering::Relaxed);
    // It is tried again after a pause: until then changes fail.
    wait_until("it can be written again", || {
        block_on(store.add_token(token("after", "u", 9), MANY).into_future()).is_ok()
    });
    done(store.add_user_room("u", &room("lobby")));
    let next = FileSessions::open(image(&folder).path(), MANY, ShardLimits::default()).unwrap();
    assert_eq!(["before", "after", "lost"].map(|name| is_kept(&next, name)), [true, true, false]);
    assert_eq!(ready(next.user_rooms("u")), [room("lobby")]);
}

#[test]
fn fault_row_39_a_disk_that_hangs_holds_up_nobody() {
    let folder = TestFolder::new();
    let (store, fault) = open_faulty(folder.path());
    done(store.add_token(token("before", "u", 9), MANY));
    let syncs = fault.syncs.load(Ordering::Relaxed);
    fault.hang(true);
    let mut waiting = Vec::new();
    let refused = loop {
        let user = format!("u{}", waiting.len());
        match store.add_user_room(&user, &room("lobby")) {
            Op::Ready(result) => break result,
            op @ Op::Wait(_) => waiting.push(op),
        }
        // What the writer has taken when the disk began to hang makes place for as much.
        assert!(waiting.len() <= 2 * MAX_WAITING);
    };
    assert!(refused.unwrap_err().to_string().contains("wait for the disk"));
    assert!(is_kept(&store, "before"));
    ready(store.next_command_time("u", 5));
    fault.hang(false);
    let count = waiting.len();
    assert!(count >= MAX_WAITING);
    waiting.into_iter().for_each(|op| assert!(done(op)));
    let syncs = fault.syncs.load(Ordering::Relaxed) - syncs;
    assert!(syncs < count / 20, "{count} changes took {syncs} flushes");
}

#[test]
fn after_a_kill_every_time_is_later_than_those_before() {
    let folder = TestFolder::new();
    let store = open(folder.path());
    let now = unix_ms();
    let mut latest = 0;
    for _ in 0..100 {
        latest = ready(store.next_command_time("u", now));
    }
    let next = open(image(&folder).path());
    let time = ready(next.next_command_time("u", now));
    assert!(time > latest, "{time} after {latest}");
    assert!(time <= unix_ms() + 10_001, "but not much");
}

#[test]
fn a_jump_of_the_clock_waits_for_the_disk_once() {
    let folder = TestFolder::new();
    let store = open(folder.path());
    let later = unix_ms() + 3_600_000;
    let op = store.next_command_time("u", later);
    assert!(matches!(op, Op::Wait(_)));
    assert_eq!(done(op), later);
    assert_eq!(ready(store.next_command_time("v", later)), later);
    assert_eq!(ready(store.next_command_time("u", later - 3_600_000)), later + 1);
    let next = open(image(&folder).path());
    assert!(done(next.next_command_time("u", 5)) > later + 1);
}

#[test]
fn the_ceiling_is_raised_before_a_burst_reaches_it() {
    let folder = TestFolder::new();
    let store = open(folder.path());
    let later = unix_ms() + 3_600_000;
    let first = done(store.next_command_time("u", later));
    let ceiling = || lock(&store.shared.clocks).ceiling();
    let before = ceiling();
    for number in 1..=1500 {
        assert_eq!(ready(store.next_command_time("u", later)), first + number);
    }
    wait_until("the ceiling is higher", || ceiling() > before);
    for number in 1501..=3000 {
        assert_eq!(ready(store.next_command_time("u", later)), first + number);
    }
}

#[test]
fn a_burst_that_outruns_the_disk_waits_and_goes_on() {
    let folder = TestFolder::new();
    let (store, fault) = open_faulty(folder.path());
    let later = unix_ms() + 3_600_000;
    let first = done(store.next_command_time("u", later));
    fault.hang(true);
    let mut times = Vec::new();
    let waiting = loop {
        match store.next_command_time("u", later) {
            Op::Ready(time) => times.push(time.unwrap()),
            op @ Op::Wait(_) => break op,
        }
    };
    fault.hang(false);
    times.push(done(waiting));
    let expected: Vec<_> = (first + 1..).take(times.len()).collect();
    assert_eq!(times, expected);
}

#[test]
fn a_ceiling_does_not_fall_when_the_clock_goes_back() {
    let mut clocks = Clocks::new(8, 100, 1_000_000);
    assert_eq!(next_ceiling(&clocks, 0, 0), 1_000_000);
    assert_eq!(next_ceiling(&clocks, 5_000_000, 0), 5_010_000);
    assert_eq!(next_ceiling(&clocks, 0, 999_500), 1_001_500);
    clocks.next("u", 999_900).unwrap();
    assert_eq!(next_ceiling(&clocks, 0, 0), 1_001_900);
}

/// The test below runs itself as another process, which does this.
const CHILD_FOLDER: &str = "SWITCHBOARD_TEST_STORE";

#[test]
#[ignore = "it is killed by `what_was_answered_before_a_kill_is_there_after_it`, which starts it"]
fn works_until_it_is_killed() {
    let Some(folder) = std::env::var_os(CHILD_FOLDER) else { return };
    let store = Arc::new(open(Path::new(&folder)));
    let run = uuid::Uuid::new_v4();
    block_on(async {
        let mut tasks = tokio::task::JoinSet::new();
        for user in 0..8 {
            let store = Arc::clone(&store);
            tasks.spawn(async move {
                let said = |line: String| std::io::stdout().write_all(format!("\n{line}\n").as_bytes()).unwrap();
                let user_name = format!("u{user}");
                for number in 0.. {
                    let name = format!("{run}/{user}/{number}");
                    store.add_token(token(&name, &user_name, 9), MANY).await.unwrap();
                    said(format!("added {name}"));
                    if number % 3 == 0 {
                        said(format!("removing {name}"));
                        assert!(store.remove_token(&TokenHash::of(&name)).await.unwrap());
                        said(format!("removed {name}"));
                    }
                    assert!(store.add_user_room(&user_name, &room(&name)).await.unwrap());
                    said(format!("joined {user_name} {name}"));
                    let time = store.next_command_time(&user_name, unix_ms()).await.unwrap();
                    said(format!("time {user_name} {time}"));
                }
            });
        }
        tasks.join_all().await;
    });
}

/// What the other process has said.
#[derive(Default)]
struct Heard {
    /// By token: whether it must be there; `None`: it may be.
    tokens: HashMap<String, Option<bool>>,
    rooms: BTreeMap<String, Vec<String>>,
    times: BTreeMap<String, u64>,
}

impl Heard {
    fn line(&mut self, line: &str) -> bool {
        match line.split(' ').collect::<Vec<_>>()[..] {
            ["added", name] => drop(self.tokens.insert(name.into(), Some(true))),
            ["removing", name] => drop(self.tokens.insert(name.into(), None)),
            ["removed", name] => drop(self.tokens.insert(name.into(), Some(false))),
            ["joined", user, name] => self.rooms.entry(user.into()).or_default().push(name.into()),
            ["time", user, time] => {
                let time = time.parse().unwrap();
                let before = self.times.insert(user.into(), time);
                assert!(before.is_none_or(|before| before < time), "{user}: {time} after {before:?}");
            }
            _ => return false,
        }
        true
    }

    fn check(&mut self, store: &FileSessions) {
        for (name, is_expected) in &self.tokens {
            let is_kept = is_kept(store, name);
            assert!(is_expected.is_none_or(|expected| expected == is_kept), "{name}: {is_kept}, not {is_expected:?}");
        }
        for (user, rooms) in &self.rooms {
            let mut kept = ready(store.user_rooms(user)).into_iter();
            assert!(rooms.iter().all(|name| kept.any(|room| room.as_str() == name)), "rooms of {user}, in their order");
        }
        for (user, latest) in &mut self.times {
            let time = done(store.next_command_time(user, 0));
            assert!(time > *latest, "{user}: {time} after {latest}");
            *latest = time;
        }
    }
}

#[test]
fn what_was_answered_before_a_kill_is_there_after_it() {
    let folder = TestFolder::new();
    let mut heard = Heard::default();
    let mut random = fastrand::Rng::with_seed(39);
    for _ in 0..10 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "backend::file::tests::works_until_it_is_killed", "--ignored", "--nocapture"])
            .env(CHILD_FOLDER, folder.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (line, lines) = mpsc::sync_channel(64);
        let output = BufReader::new(child.stdout.take().unwrap());
        let reader = thread::spawn(move || output.lines().try_for_each(|text| line.send(text.unwrap())));
        let mut to_hear = random.usize(1..400);
        while to_hear > 0 {
            let text = lines.recv_timeout(Duration::from_secs(60)).expect("it says something until it is killed");
            to_hear -= usize::from(heard.line(&text));
        }
        child.kill().unwrap();
        // It may have been answered more than was read when it was killed.
        for text in lines {
            heard.line(&text);
        }
        child.wait().unwrap();
        reader.join().unwrap().unwrap();
        let store = open(folder.path());
        heard.check(&store);
        close(&store);
    }
    assert!(heard.tokens.values().any(|is_kept| *is_kept == Some(false)), "some were removed");
}
