//! What Redis answers about sessions of shards. Somebody else may have written there: what is not understood is none.

use std::sync::Arc;

use redis::Value;
use switchboard_proto::id::{ConnId, RoomName};
use switchboard_proto::shard::ShardCounts;

use crate::backend::redis::store::Answered;
use crate::backend::sessions::shards::{EndOfShard, EndedShard, Fleet, Owner, ShardDelivery, ShardRecord};
use crate::hex;

/// A connection or a session, of 32 digits.
pub(super) fn id(text: &str) -> Option<ConnId> {
    hex::bytes(text).map(ConnId::from_bytes)
}

/// Who carries a session; `-`: nobody.
pub(super) fn owner(connection: &str, node: &str) -> Option<Option<Owner>> {
    match connection {
        "-" => Some(None),
        connection => Some(Some(Owner { node: node.into(), connection: id(connection)? })),
    }
}

fn optional<T: std::str::FromStr>(text: &str) -> Option<Option<T>> {
    if text == "-" { Some(None) } else { text.parse().ok().map(Some) }
}

/// A session by its row, which `lua/lib.lua` describes.
pub(super) fn record(application: &Arc<str>, id_text: &str, row: &str, fleet_total: u64) -> Option<ShardRecord> {
    let mut parts = row.splitn(17, ' ');
    let mut next = || parts.next();
    if next()? != "1" {
        return None;
    }
    let _hash = next()?;
    let development = next()? == "1";
    let (shard, total) = (next()?.parse().ok()?, optional(next()?)?);
    let (flags, created_ms, generation) = (next()?.parse().ok()?, next()?.parse().ok()?, next()?.parse().ok()?);
    let (connection, detached_ms) = (next()?, optional(next()?)?);
    let (received, floor, last) = (next()?.parse().ok()?, next()?.parse().ok()?, next()?.parse().ok()?);
    let (log_bytes, counts, home) = (next()?.parse().ok()?, counts(next()?)?, next()?.parse().ok()?);
    Some(ShardRecord {
        id: id(id_text)?,
        fleet: Fleet { application: Arc::clone(application), development },
        shard,
        total,
        fleet_total: u32::try_from(fleet_total).ok()?,
        flags,
        created_ms,
        generation,
        owner: owner(connection, next()?)?,
        detached_ms,
        last,
        floor,
        received,
        log_bytes,
        counts,
        home,
    })
}

/// Figures in a row.
pub(super) fn write_counts(counts: &ShardCounts) -> String {
    format!("{},{},{},{}", counts.received, counts.sent, counts.pings, counts.pongs)
}

fn counts(text: &str) -> Option<ShardCounts> {
    let mut parts = text.split(',').map(|part| part.parse().ok());
    let mut next = || parts.next().flatten();
    Some(ShardCounts { received: next()?, sent: next()?, pings: next()?, pongs: next()? })
}

/// A list of so many texts.
pub(super) fn texts<const N: usize>(values: &[Value]) -> Option<[&str; N]> {
    let mut texts = [""; N];
    for (text, value) in texts.iter_mut().zip(values) {
        *text = value.text()?;
    }
    (values.len() >= N).then_some(texts)
}

/// Id, row, the fleet's total and perhaps the store's time, at which the caller's clock shows `now_ms`.
pub(super) fn listed(application: &Arc<str>, now_ms: u64, answer: &Value) -> Option<ShardRecord> {
    let list = answer.list()?;
    let [id, row, total] = texts(list)?;
    let mut record = record(application, id, row, total.parse().ok()?)?;
    if let Some(store_ms) = list.get(3).and_then(Answered::number) {
        // The caller compares it with its own clock.
        record.detached_ms =
            record.detached_ms.map(|since_ms| since_ms.saturating_add(now_ms).saturating_sub(store_ms));
    }
    Some(record)
}

/// A session that has ended. A room whose name is none is left out.
pub(super) fn ended(answer: &Value) -> Option<EndedShard> {
    let list = answer.list()?;
    let [session, why, connection, node, home] = texts(list)?;
    let why = match why {
        "asked" => EndOfShard::Asked,
        "expired" => EndOfShard::Expired,
        "replaced" => EndOfShard::Replaced,
        "resharded" => EndOfShard::Resharded,
        _ => return None,
    };
    let rooms = list.get(5)?.list()?.iter().filter_map(|room| RoomName::restore(room.text()?)).collect();
    Some(EndedShard { id: id(session)?, owner: owner(connection, node)?, why, rooms, home: home.parse().ok()? })
}

/// `session:shard:number:home`.
pub(super) fn delivery(text: &str) -> Option<ShardDelivery> {
    let mut parts = text.split(':');
    let mut next = || parts.next();
    Some(ShardDelivery {
        session: id(next()?)?,
        shard: next()?.parse().ok()?,
        seq: next()?.parse().ok()?,
        home: next()?.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn row() -> String {
        format!("1 ab 1 3 16 {} 5000 6 {} - 7 8 9 10 1,2,3,{} 2 a node", u64::MAX, "0".repeat(32), u64::MAX)
    }

    #[test]
    fn a_row_is_read_whole_or_not_at_all() {
        let application: Arc<str> = "app".into();
        let read = |row: &str| record(&application, &"f".repeat(32), row, 16);
        let record = read(&row()).unwrap();
        assert_eq!((record.shard, record.total, record.flags, record.home), (3, Some(16), u64::MAX, 2));
        assert_eq!((record.received, record.floor, record.last, record.log_bytes), (7, 8, 9, 10));
        assert_eq!(&*record.owner.unwrap().node, "a node");
        assert_eq!(record.counts.pongs, u64::MAX);
        for (at, _) in row().match_indices(' ').take(16) {
            assert_eq!(read(&row()[..at]), None);
        }
        assert_eq!(read(&row().replacen('1', "2", 1)), None, "of another version");
    }

    proptest! {
        #[test]
        fn fault_row_53_whatever_is_in_a_row_it_is_read_or_left_out(row in ".{0,200}", place in 0..17_usize, part in "[^ ]{0,20}") {
            let application: Arc<str> = "app".into();
            let id = "f".repeat(32);
            let _ = record(&application, &id, &row, 1);
            let ours = super::tests::row();
            let mut parts: Vec<&str> = ours.splitn(17, ' ').collect();
            parts[place] = &part;
            let _ = record(&application, &id, &parts.join(" "), 1);
            let _ = delivery(&row);
        }
    }
}
