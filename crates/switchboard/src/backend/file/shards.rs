//! Rows of sessions of shards, and what they mean.

use std::collections::HashMap;

use redb::{
    ReadOnlyTable, ReadTransaction, ReadableTable, StorageError, Table, TableDefinition, TableError, WriteTransaction,
};
use switchboard_proto::id::{ConnId, RoomName};
use switchboard_proto::shard::LogItem;

use super::rows;
use crate::backend::sessions::{
    JoinedRoom, Log, PublicationKey, RememberedPublication, Session, ShardRow, Shards, Starts,
};

/// By id: a session, as [`rows::write_session`] writes it.
const SESSIONS: TableDefinition<'_, Id, &[u8]> = TableDefinition::new("shard_sessions");
/// By session and number: an event.
const LOG: TableDefinition<'_, (Id, u64), &str> = TableDefinition::new("shard_log");
/// By session and room: order, and up to which number it was heard.
const ROOMS: TableDefinition<'_, (Id, &str), (u64, u64)> = TableDefinition::new("shard_rooms");
/// By order: key and time of a publication, and its deliveries, as [`rows::write_deliveries`] writes them.
const PUBLISHED: TableDefinition<'_, u64, PublishedRow> = TableDefinition::new("shard_published");
type PublishedRow = (&'static [u8; 32], u64, &'static [u8]);
/// By application: since when its sessions are counted, and how many began.
const STARTS: TableDefinition<'_, &str, (u64, u32)> = TableDefinition::new("shard_starts");

type Id = &'static [u8; 16];

/// The tables, open for writing.
pub(super) struct ShardTables<'a> {
    sessions: Table<'a, Id, &'static [u8]>,
    log: Table<'a, (Id, u64), &'static str>,
    rooms: Table<'a, (Id, &'static str), (u64, u64)>,
    published: Table<'a, u64, PublishedRow>,
    starts: Table<'a, &'static str, (u64, u32)>,
    /// See [`super::life`].
    shift: i64,
    /// Of the events that were written.
    event_bytes: usize,
}

impl<'a> ShardTables<'a> {
    /// Opens them, and makes those that are missing.
    pub(super) fn open(transaction: &'a WriteTransaction, shift: i64) -> Result<Self, TableError> {
        Ok(Self {
            sessions: transaction.open_table(SESSIONS)?,
            log: transaction.open_table(LOG)?,
            rooms: transaction.open_table(ROOMS)?,
            published: transaction.open_table(PUBLISHED)?,
            starts: transaction.open_table(STARTS)?,
            shift,
            event_bytes: 0,
        })
    }

    /// How many bytes of events were written.
    pub(super) fn event_bytes(&self) -> usize {
        self.event_bytes
    }

    pub(super) fn write(&mut self, row: ShardRow<'_>) -> Result<(), StorageError> {
        match row {
            ShardRow::Session(session) => {
                let row = rows::write_session(session, self.shift);
                self.sessions.insert(&session.id.to_bytes(), row.as_slice())?;
            }
            ShardRow::NoSession(session) => {
                let id = session.id.to_bytes();
                self.sessions.remove(&id)?;
                self.log.retain_in((&id, 0)..=(&id, u64::MAX), |_, _| false)?;
                for joined in &session.rooms {
                    self.rooms.remove((&id, joined.room.as_str()))?;
                }
            }
            ShardRow::Event { session, seq, item } => {
                self.event_bytes += item.as_str().len();
                self.log.insert((&session.to_bytes(), seq), item.as_str())?;
            }
            ShardRow::NoEvents { session, first, last } if first == last => {
                self.log.remove((&session.to_bytes(), first))?;
            }
            ShardRow::NoEvents { session, first, last } => {
                let id = session.to_bytes();
                self.log.retain_in((&id, first)..=(&id, last), |_, _| false)?;
            }
            ShardRow::Room { session, joined } => {
                self.rooms.insert((&session.to_bytes(), joined.room.as_str()), (joined.order, joined.number))?;
            }
            ShardRow::NoRoom { session, room } => {
                self.rooms.remove((&session.to_bytes(), room.as_str()))?;
            }
            ShardRow::Published { key, publication } => {
                let deliveries = rows::write_deliveries(&publication.deliveries);
                let at_ms = publication.at_ms.saturating_add_signed(self.shift);
                self.published.insert(publication.order, (&key.0, at_ms, deliveries.as_slice()))?;
            }
            ShardRow::NotPublished { order } => {
                self.published.remove(order)?;
            }
            ShardRow::Starts { application, starts } => {
                self.starts.insert(application, (starts.began_ms.saturating_add_signed(self.shift), starts.count))?;
            }
            ShardRow::NoStarts(application) => {
                self.starts.remove(application)?;
            }
        }
        Ok(())
    }
}

/// What was wrong with the file, or with a row that we did not write.
pub(super) enum ReadError {
    File(redb::Error),
    BadRow(String),
}

impl<E: Into<redb::Error>> From<E> for ReadError {
    fn from(error: E) -> Self {
        Self::File(error.into())
    }
}

/// Reads all into `shards`, and returns the sessions that are not there, being of another epoch. Tables may be missing: then
/// there is nothing.
pub(super) fn read(transaction: &ReadTransaction, shards: &mut Shards, shift: i64) -> Result<Vec<Session>, ReadError> {
    let mut sessions = read_sessions(transaction, shift)?;
    read_logs(transaction, &mut sessions)?;
    read_rooms(transaction, &mut sessions)?;
    let published = table(transaction, PUBLISHED)?;
    for row in published.as_ref().map(ReadableTable::iter).transpose()?.into_iter().flatten() {
        let (order, value) = row?;
        let (order, (key, at_ms, deliveries)) = (order.value(), value.value());
        let bad = || ReadError::BadRow(format!("publication {order} has a bad row"));
        let deliveries = rows::read_deliveries(deliveries).ok_or_else(bad)?.into();
        let at_ms = at_ms.saturating_add_signed(-shift);
        shards.restore_published(PublicationKey(*key), RememberedPublication { order, at_ms, deliveries });
    }
    let starts = table(transaction, STARTS)?;
    for row in starts.as_ref().map(ReadableTable::iter).transpose()?.into_iter().flatten() {
        let (application, value) = row?;
        let (began_ms, count) = value.value();
        shards.restore_starts(application.value(), Starts::restore(began_ms.saturating_add_signed(-shift), count));
    }
    let mut outdated = Vec::new();
    for session in sessions.into_values() {
        if session.epoch == shards.epoch() { shards.restore_session(session) } else { outdated.push(session) }
    }
    Ok(outdated)
}

/// A table; `None` if it is missing.
fn table<K: redb::Key + 'static, V: redb::Value + 'static>(
    transaction: &ReadTransaction,
    definition: TableDefinition<'_, K, V>,
) -> Result<Option<ReadOnlyTable<K, V>>, ReadError> {
    match transaction.open_table(definition) {
        Ok(table) => Ok(Some(table)),
        Err(TableError::TableDoesNotExist(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn read_sessions(transaction: &ReadTransaction, shift: i64) -> Result<HashMap<ConnId, Session>, ReadError> {
    let mut sessions = HashMap::new();
    let Some(table) = table(transaction, SESSIONS)? else { return Ok(sessions) };
    for row in table.iter()? {
        let (id, value) = row?;
        let id = ConnId::from_bytes(*id.value());
        let bad = || ReadError::BadRow(format!("session {id} has a bad row"));
        sessions.insert(id, rows::read_session(id, value.value(), shift).ok_or_else(bad)?);
    }
    Ok(sessions)
}

fn read_logs(transaction: &ReadTransaction, sessions: &mut HashMap<ConnId, Session>) -> Result<(), ReadError> {
    let Some(table) = table(transaction, LOG)? else { return Ok(()) };
    for row in table.iter()? {
        let (key, text) = row?;
        let (id, seq) = key.value();
        let id = ConnId::from_bytes(*id);
        let bad = || ReadError::BadRow(format!("event {seq} of session {id} does not belong there"));
        let log = &mut sessions.get_mut(&id).ok_or_else(bad)?.log;
        if log.is_empty() && seq > log.floor() {
            *log = Log::new(seq - 1);
        }
        if log.push(LogItem::new(text.value())) != seq {
            return Err(bad());
        }
    }
    Ok(())
}

fn read_rooms(transaction: &ReadTransaction, sessions: &mut HashMap<ConnId, Session>) -> Result<(), ReadError> {
    let Some(table) = table(transaction, ROOMS)? else { return Ok(()) };
    for row in table.iter()? {
        let (key, value) = row?;
        let ((id, room), (order, number)) = (key.value(), value.value());
        let id = ConnId::from_bytes(*id);
        let bad = || ReadError::BadRow(format!("session {id} is in a room with a bad name, {room:?}"));
        let rooms = &mut sessions.get_mut(&id).ok_or_else(bad)?.rooms;
        rooms.push(JoinedRoom { room: RoomName::restore(room).ok_or_else(bad)?, order, number });
    }
    for session in sessions.values_mut() {
        session.rooms.sort_unstable_by_key(|joined| joined.order);
    }
    Ok(())
}
