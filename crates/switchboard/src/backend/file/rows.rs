//! How a session is written in a row: numbers in their order, little endian; a text with its length in front; what may be missing
//! behind a byte that is 0 or 1.

use switchboard_proto::id::ConnId;
use switchboard_proto::shard::ShardCounts;

use crate::backend::sessions::shards::{Fleet, Owner, SessionHash, ShardDelivery};
use crate::backend::sessions::{Held, Log, Session};

/// A session without its events and rooms. Times are shifted.
pub(super) fn write_session(session: &Session, shift: i64) -> Vec<u8> {
    // Whoever adds a field is told here.
    let Session {
        id: _,
        hash,
        epoch,
        fleet: Fleet { application, development },
        shard,
        total,
        flags,
        created_ms,
        generation,
        held,
        received,
        counts,
        log,
        rooms: _,
    } = session;
    let mut row = Vec::with_capacity(256);
    row.extend(hash.as_bytes());
    row.extend(epoch.to_le_bytes());
    write_text(&mut row, application);
    row.push((*development).into());
    row.extend(shard.to_le_bytes());
    row.push(total.is_some().into());
    row.extend(total.unwrap_or_default().to_le_bytes());
    for number in [*flags, created_ms.saturating_add_signed(shift), *generation, *received, log.floor()] {
        row.extend(number.to_le_bytes());
    }
    for count in [counts.received, counts.sent, counts.pings, counts.pongs] {
        row.extend(count.to_le_bytes());
    }
    match held {
        Held::By(Owner { node, connection }) => {
            row.push(1);
            write_text(&mut row, node);
            row.extend(connection.to_bytes());
        }
        Held::ByNobody { since_ms } => {
            row.push(0);
            row.extend(since_ms.saturating_add_signed(shift).to_le_bytes());
        }
    }
    row
}

/// What [`write_session`] wrote; the log is empty behind its floor.
pub(super) fn read_session(id: ConnId, row: &[u8], shift: i64) -> Option<Session> {
    let mut row = Row(row);
    let hash = SessionHash::from_bytes(row.array()?);
    let epoch = row.number()?;
    let fleet = Fleet { application: row.text()?.into(), development: row.flag()? };
    let shard = u32::from_le_bytes(row.array()?);
    let (has_total, total) = (row.flag()?, u32::from_le_bytes(row.array()?));
    let flags = row.number()?;
    let created_ms = row.number()?.saturating_add_signed(-shift);
    let generation = row.number()?;
    let received = row.number()?;
    let log = Log::new(row.number()?);
    let counts =
        ShardCounts { received: row.number()?, sent: row.number()?, pings: row.number()?, pongs: row.number()? };
    let held = if row.flag()? {
        Held::By(Owner { node: row.text()?.into(), connection: ConnId::from_bytes(row.array()?) })
    } else {
        Held::ByNobody { since_ms: row.number()?.saturating_add_signed(-shift) }
    };
    row.0.is_empty().then_some(Session {
        id,
        hash,
        epoch,
        fleet,
        shard,
        total: has_total.then_some(total),
        flags,
        created_ms,
        generation,
        held,
        received,
        counts,
        log,
        rooms: Vec::new(),
    })
}

/// Sessions, shards and numbers.
pub(super) fn write_deliveries(deliveries: &[ShardDelivery]) -> Vec<u8> {
    let mut row = Vec::with_capacity(deliveries.len() * 28);
    for ShardDelivery { session, shard, seq, home: _ } in deliveries {
        row.extend(session.to_bytes());
        row.extend(shard.to_le_bytes());
        row.extend(seq.to_le_bytes());
    }
    row
}

/// What [`write_deliveries`] wrote.
pub(super) fn read_deliveries(row: &[u8]) -> Option<Vec<ShardDelivery>> {
    let mut row = Row(row);
    let mut deliveries = Vec::new();
    while !row.0.is_empty() {
        deliveries.push(ShardDelivery {
            session: ConnId::from_bytes(row.array()?),
            shard: u32::from_le_bytes(row.array()?),
            seq: row.number()?,
            // A file is of one node.
            home: 0,
        });
    }
    Some(deliveries)
}

fn write_text(row: &mut Vec<u8>, text: &str) {
    row.extend((text.len() as u32).to_le_bytes());
    row.extend(text.as_bytes());
}

/// What is left to read.
struct Row<'a>(&'a [u8]);

impl<'a> Row<'a> {
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (bytes, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*bytes)
    }

    fn number(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn flag(&mut self) -> Option<bool> {
        match self.array()? {
            [0] => Some(false),
            [1] => Some(true),
            _ => None,
        }
    }

    fn text(&mut self) -> Option<&'a str> {
        let bytes = u32::from_le_bytes(self.array()?) as usize;
        let (text, rest) = self.0.split_at_checked(bytes)?;
        self.0 = rest;
        std::str::from_utf8(text).ok()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn session(held: Held, total: Option<u32>) -> Session {
        Session {
            id: ConnId::session_from_random(1),
            hash: SessionHash::from_bytes([7; 32]),
            epoch: 2,
            fleet: Fleet { application: "äpp".into(), development: true },
            shard: 3,
            total,
            flags: 4,
            created_ms: 5000,
            generation: 6,
            held,
            received: 7,
            counts: ShardCounts { received: 8, sent: 9, pings: 10, pongs: 11 },
            log: Log::new(12),
            rooms: Vec::new(),
        }
    }

    #[test]
    fn a_row_that_was_written_is_read_and_none_that_was_cut_or_has_more() {
        let owner = Owner { node: "node".into(), connection: ConnId::from_random(13) };
        for (held, total) in [(Held::By(owner), None), (Held::ByNobody { since_ms: 6000 }, Some(16))] {
            let session = session(held, total);
            let mut row = write_session(&session, -1000);
            assert_eq!(read_session(session.id, &row, -1000), Some(session.clone()));
            let shifted = read_session(session.id, &row, -3000).unwrap();
            assert_eq!(shifted.created_ms, 7000);
            for cut in 0..row.len() {
                assert_eq!(read_session(session.id, &row[..cut], 0), None);
            }
            row.push(0);
            assert_eq!(read_session(session.id, &row, 0), None);
        }
    }

    proptest! {
        #[test]
        fn whatever_is_in_a_row_it_is_read_or_refused(row in prop::collection::vec(any::<u8>(), 0..300)) {
            let id = ConnId::session_from_random(1);
            if let Some(session) = read_session(id, &row, 0) {
                prop_assert_eq!(write_session(&session, 0).len(), row.len());
            }
            if let Some(deliveries) = read_deliveries(&row) {
                prop_assert_eq!(write_deliveries(&deliveries), row);
            }
        }
    }
}
