//! The file: its folder and lock, its rows, and transactions on it.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use redb::backends::FileBackend;
use redb::{
    Builder, Database, DatabaseError, ReadableDatabase, ReadableTable, Table, TableDefinition, TableError, TableHandle,
};
use switchboard_proto::id::RoomName;

use super::life::{Alive, Moment};
use super::shards::{self, ReadError, ShardTables};
use super::{FORMAT, Machine, OpenError};
use crate::backend::BackendError;
use crate::backend::sessions::shards::ShardLimits;
use crate::backend::sessions::{Change, Outcome, Row, Session, ShardRow, State, Token, TokenHash};
use crate::op::catch;

const FILE: &str = "switchboard.redb";
/// Holds nothing. It is locked as long as the process uses the folder, even while the file itself is closed.
const LOCK_FILE: &str = "switchboard.lock";
/// The file while it is being made. It gets its name when it is whole.
const NEW_FILE: &str = "switchboard.redb.new";

/// Pages of the file that are kept in memory. All that is read in normal operation is kept elsewhere: this serves writing.
const CACHE_BYTES: usize = 8 << 20;

/// Events that share one transaction, in bytes: what a transaction changes is in memory until it is done. One change is not
/// divided.
const MAX_TRANSACTION_BYTES: usize = 16 << 20;

/// By name: the format, the epoch of sessions, the ceiling of command times, and when the store was last known to be up: the time of
/// the file, the wall clock, which start of the machine, and for how long that was up.
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
const META_FORMAT: &str = "format";
const META_EPOCH: &str = "epoch";
const META_CEILING: &str = "ceiling";
const META_ALIVE: &str = "alive";
const META_ALIVE_WALL: &str = "alive_wall";
const META_ALIVE_BOOT: &str = "alive_boot";
const META_ALIVE_UP: &str = "alive_up";
/// By hash: order, when it was made and until when it is valid in milliseconds since 1970, user.
const TOKENS: TableDefinition<'_, &[u8; 32], TokenRow> = TableDefinition::new("tokens");
type TokenRow = (u64, u64, u64, &'static str);
/// By hash of a token: [`Token::binding`]. A table of its own, because a file of an earlier version has tokens
/// without it.
const TOKEN_BINDINGS: TableDefinition<'_, &[u8; 32], &[u8; 32]> = TableDefinition::new("token_bindings");
/// By user and room: order.
const USER_ROOMS: TableDefinition<'_, (&str, &str), u64> = TableDefinition::new("user_rooms");

/// Opens a database in a file. Tests put a disk between that fails.
pub(super) type OpenFile = Box<dyn Fn(&Builder, File) -> Result<Database, DatabaseError> + Send>;

/// Opens a database in a file.
pub(super) fn open_file(builder: &Builder, file: File) -> Result<Database, DatabaseError> {
    builder.create_with_backend(FileBackend::new(file)?)
}

/// The folder, which is ours as long as this lives.
pub(super) struct Disk {
    path: PathBuf,
    max_user_rooms: usize,
    shard_limits: ShardLimits,
    machine: Machine,
    /// Of this process, from the first time that the file is opened.
    shift: Option<i64>,
    /// Closing it gives the folder back.
    _lock: File,
}

impl Disk {
    /// Makes the folder and the file unless they are there, and locks the folder for this process.
    pub(super) fn prepare(
        folder: &Path,
        max_user_rooms: usize,
        shard_limits: ShardLimits,
        machine: Machine,
    ) -> Result<Self, OpenError> {
        let at = |path: &Path| {
            let path = path.to_owned();
            |error| OpenError::Folder { path, error }
        };
        DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(at(folder))?;
        let lock_path = folder.join(LOCK_FILE);
        let lock = private_file().create(true).truncate(false).open(&lock_path).map_err(at(&lock_path))?;
        lock.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => OpenError::InUse { folder: folder.to_owned() },
            TryLockError::Error(error) => at(&lock_path)(error),
        })?;
        let disk = Self { path: folder.join(FILE), max_user_rooms, shard_limits, machine, shift: None, _lock: lock };
        if !disk.path.try_exists().map_err(at(&disk.path))? {
            disk.make(&folder.join(NEW_FILE)).map_err(|reason| disk.write_error(&reason))?;
            File::open(folder).and_then(|folder| folder.sync_all()).map_err(at(folder))?;
        }
        Ok(disk)
    }

    /// Makes the file. Whoever is killed meanwhile leaves none under its name.
    fn make(&self, new_path: &Path) -> Result<(), String> {
        let made = catch(|| -> Result<(), redb::Error> {
            let file = private_file().create(true).truncate(true).open(new_path)?;
            let database = (self.machine.open_file)(&builder(), file)?;
            let transaction = database.begin_write()?;
            transaction.open_table(META)?.insert(META_FORMAT, FORMAT)?;
            // The tables of sessions are made by the first write, as in a file that was made before there were any.
            transaction.open_table(TOKENS)?;
            transaction.open_table(USER_ROOMS)?;
            transaction.commit()?;
            drop(database);
            Ok(fs::rename(new_path, &self.path)?)
        });
        flatten(made)
    }

    /// Opens the file and reads all of it. The first time, nobody carries any session that is in it.
    pub(super) fn open(&mut self) -> Result<Open, OpenError> {
        let file = private_file().open(&self.path);
        let file = file.map_err(|error| OpenError::Folder { path: self.path.clone(), error })?;
        // A file that something else has changed may make the library panic.
        let opened = catch(|| (self.machine.open_file)(&builder(), file));
        let opened = opened.map_err(|panic| self.unusable(panic.0))?;
        let database = opened.map_err(|error| match error {
            DatabaseError::Storage(redb::StorageError::Io(error)) if error.kind() != io::ErrorKind::InvalidData => {
                self.write_error(&error.to_string())
            }
            error => self.unusable(error.to_string()),
        })?;
        let contents = catch(|| self.read(&database)).map_err(|panic| self.unusable(panic.0))?;
        match contents.unwrap_or_else(|error| Contents::BadRow(error.to_string())) {
            Contents::Known(contents) => {
                self.shift = Some(contents.shift);
                Ok(Open { database, contents: *contents })
            }
            Contents::Format(found) if found > FORMAT => Err(OpenError::Newer { path: self.path.clone(), found }),
            Contents::Format(found) => Err(self.unusable(format!("its format is {found}"))),
            Contents::Foreign => Err(self.unusable("another program's data is in it".into())),
            Contents::BadRow(what) => Err(self.unusable(what)),
        }
    }

    /// What the clocks show.
    pub(super) fn now(&self) -> Moment {
        (self.machine.watch)()
    }

    /// Time between two attempts to open a file that could not be written.
    pub(super) fn retry_pause(&self) -> Duration {
        self.machine.retry_pause
    }

    /// The file could not be written.
    pub(super) fn write_error(&self, reason: &str) -> OpenError {
        OpenError::Write { path: self.path.clone(), reason: reason.to_owned() }
    }

    fn unusable(&self, reason: String) -> OpenError {
        OpenError::Unusable { path: self.path.clone(), reason }
    }
}

/// What is read and written by its owner only.
fn private_file() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(0o600);
    options
}

fn builder() -> Builder {
    let mut builder = Database::builder();
    // The whole file is read at the start anyway: then damage is found there and not later.
    builder.set_cache_size(CACHE_BYTES).set_check_integrity_on_open(true);
    builder
}

fn flatten<T>(result: Result<Result<T, redb::Error>, crate::op::Panic>) -> Result<T, String> {
    match result {
        Ok(result) => result.map_err(|error| error.to_string()),
        Err(panic) => Err(format!("panic: {}", panic.0)),
    }
}

/// What is in a database.
enum Contents {
    Known(Box<Known>),
    /// Another format than ours.
    Format(u64),
    Foreign,
    /// A row that we did not write.
    BadRow(String),
}

struct Known {
    state: State,
    ceiling: u64,
    alive: Option<Alive>,
    /// See [`super::life`].
    shift: i64,
    /// Sessions of another epoch, which are still in the file.
    outdated: Vec<Session>,
}

impl Disk {
    fn read(&self, database: &Database) -> Result<Contents, redb::Error> {
        let transaction = database.begin_read()?;
        if !transaction.list_tables()?.any(|table| table.name() == META.name()) {
            return Ok(Contents::Foreign);
        }
        let meta = transaction.open_table(META)?;
        let number = |name| -> Result<_, redb::Error> { Ok(meta.get(name)?.map(|value| value.value())) };
        match number(META_FORMAT)? {
            Some(FORMAT) => {}
            Some(format) => return Ok(Contents::Format(format)),
            None => return Ok(Contents::Foreign),
        }
        let alive = match number(META_ALIVE)? {
            None => None,
            Some(steady_ms) => Some(Alive(Moment {
                steady_ms,
                wall_ms: number(META_ALIVE_WALL)?.unwrap_or(0),
                boot: number(META_ALIVE_BOOT)?.unwrap_or(0),
                up_ms: number(META_ALIVE_UP)?.unwrap_or(0),
            })),
        };
        let shift = self.shift.unwrap_or_else(|| alive.map_or(0, |alive| alive.shift(self.now())));
        // A file that was made before there were sessions gets an epoch now.
        let epoch = number(META_EPOCH)?.unwrap_or_else(|| fastrand::u64(..));
        let mut state = State::new(self.max_user_rooms, self.shard_limits, epoch);
        let bindings = match transaction.open_table(TOKEN_BINDINGS) {
            Err(TableError::TableDoesNotExist(_)) => None,
            bindings => Some(bindings?),
        };
        for row in transaction.open_table(TOKENS)?.iter()? {
            let (hash, value) = row?;
            let (order, created_ms, expires_ms, user) = value.value();
            let binding = bindings.as_ref().map(|bindings| bindings.get(hash.value())).transpose()?.flatten();
            // No credential has a binding of zeros: the token of an earlier version is refused.
            let binding = binding.map_or([0; 32], |binding| *binding.value());
            let hash = TokenHash::from_bytes(*hash.value());
            state.restore_token(Token { hash, user: user.to_owned(), binding, created_ms, expires_ms }, order);
        }
        for row in transaction.open_table(USER_ROOMS)?.iter()? {
            let (key, order) = row?;
            let (user, room) = key.value();
            match RoomName::restore(room) {
                Some(room) => state.restore_user_room(user, room, order.value()),
                None => return Ok(Contents::BadRow(format!("user {user:?} is in a room with a bad name, {room:?}"))),
            }
        }
        let outdated = match shards::read(&transaction, state.shards_mut(), shift) {
            Ok(outdated) => outdated,
            Err(ReadError::File(error)) => return Err(error),
            Err(ReadError::BadRow(what)) => return Ok(Contents::BadRow(what)),
        };
        let ceiling = number(META_CEILING)?.unwrap_or(0);
        Ok(Contents::Known(Box::new(Known { state, ceiling, alive, shift, outdated })))
    }
}

/// The file, open, and what is in it.
pub(super) struct Open {
    database: Database,
    contents: Known,
}

/// What became of each of many changes.
pub(super) type Outcomes = Vec<Result<Outcome, BackendError>>;

impl Open {
    /// What is in the file.
    pub(super) fn state(&self) -> &State {
        &self.contents.state
    }

    /// The ceiling of command times that the file had when it was opened.
    pub(super) fn ceiling_at_open(&self) -> u64 {
        self.contents.ceiling
    }

    /// Makes changes in one transaction, in their order: all of them, or as many as it has place for, one at least. When this returns
    /// they are on disk, and with them the proof that the store was up `now`, and a new ceiling of command times if
    /// there is one. After an error it is unknown what was written, and the file must be opened again.
    pub(super) fn commit(&mut self, changes: &[Change], now: Moment, ceiling: Option<u64>) -> Result<Outcomes, String> {
        flatten(catch(|| self.transact(now, ceiling, |state, tables| write(state, tables, changes))))
    }

    /// Begins a process's life with the file. Sessions that were carried count as left since the last proof of life,
    /// and sessions of other epochs are forgotten.
    pub(super) fn begin(&mut self, now: Moment, ceiling: u64) -> Result<(), String> {
        let (outdated, shift) = (std::mem::take(&mut self.contents.outdated), self.contents.shift);
        let last = self.contents.alive.unwrap_or(Alive::at(now, shift));
        let since_ms = last.0.steady_ms.saturating_add_signed(-shift);
        flatten(catch(|| {
            self.transact(now, Some(ceiling), |state, tables| {
                let mut written = Ok(());
                for session in &outdated {
                    tables.shards.write(ShardRow::NoSession(session))?;
                }
                state.shards_mut().detach_all(since_ms, &mut |row| {
                    if written.is_ok() {
                        written = tables.shards.write(row);
                    }
                });
                Ok((written?, true))
            })
        }))
    }

    /// Runs `body`, which returns whether it has changed anything, in a transaction. Without a change and a ceiling
    /// nothing is written.
    fn transact<T>(
        &mut self,
        now: Moment,
        ceiling: Option<u64>,
        body: impl FnOnce(&mut State, &mut Tables<'_>) -> Result<(T, bool), redb::Error>,
    ) -> Result<T, redb::Error> {
        let transaction = self.database.begin_write()?;
        let mut tables = Tables {
            tokens: transaction.open_table(TOKENS)?,
            token_bindings: transaction.open_table(TOKEN_BINDINGS)?,
            user_rooms: transaction.open_table(USER_ROOMS)?,
            shards: ShardTables::open(&transaction, self.contents.shift)?,
        };
        let (result, is_changed) = body(&mut self.contents.state, &mut tables)?;
        drop(tables);
        if !is_changed && ceiling.is_none() {
            transaction.abort()?;
            return Ok(result);
        }
        let mut meta = transaction.open_table(META)?;
        if let Some(ceiling) = ceiling {
            meta.insert(META_EPOCH, self.contents.state.shards().epoch())?;
            meta.insert(META_CEILING, ceiling)?;
        }
        let Alive(alive) = Alive::at(now, self.contents.shift);
        meta.insert(META_ALIVE, alive.steady_ms)?;
        meta.insert(META_ALIVE_WALL, alive.wall_ms)?;
        meta.insert(META_ALIVE_BOOT, alive.boot)?;
        meta.insert(META_ALIVE_UP, alive.up_ms)?;
        drop(meta);
        transaction.commit()?;
        Ok(result)
    }
}

fn write(state: &mut State, tables: &mut Tables<'_>, changes: &[Change]) -> Result<(Outcomes, bool), redb::Error> {
    let mut is_changed = false;
    let mut outcomes = Vec::with_capacity(changes.len());
    for change in changes {
        let mut written = Ok(());
        outcomes.push(state.apply(change, &mut |row| {
            is_changed = true;
            if written.is_ok() {
                written = tables.write(row);
            }
        }));
        written?;
        if tables.shards.event_bytes() >= MAX_TRANSACTION_BYTES {
            break;
        }
    }
    Ok((outcomes, is_changed))
}

struct Tables<'a> {
    tokens: Table<'a, &'static [u8; 32], TokenRow>,
    token_bindings: Table<'a, &'static [u8; 32], &'static [u8; 32]>,
    user_rooms: Table<'a, (&'static str, &'static str), u64>,
    shards: ShardTables<'a>,
}

impl Tables<'_> {
    fn write(&mut self, row: Row<'_>) -> Result<(), redb::StorageError> {
        match row {
            Row::Token { token, order } => {
                let value = (order, token.created_ms, token.expires_ms, token.user.as_str());
                self.tokens.insert(token.hash.as_bytes(), value)?;
                self.token_bindings.insert(token.hash.as_bytes(), &token.binding)?;
            }
            Row::NoToken(hash) => {
                self.tokens.remove(hash.as_bytes())?;
                self.token_bindings.remove(hash.as_bytes())?;
            }
            Row::UserRoom { user, room, order } => {
                self.user_rooms.insert((user, room.as_str()), order)?;
            }
            Row::NoUserRoom { user, room } => {
                self.user_rooms.remove((user, room.as_str()))?;
            }
            Row::Shard(row) => self.shards.write(row)?,
        }
        Ok(())
    }
}
