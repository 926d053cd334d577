//! Events are appended to logs.

use smallvec::SmallVec;
use switchboard_proto::id::ConnId;
use switchboard_proto::shard::LogItem;

use super::{PublicationKey, ShardRow, Shards};
use crate::backend::BackendError;
use crate::backend::sessions::shards::{Append, Publication, PublishedEvent, ShardDelivery, ShardTarget};

impl Shards {
    pub(super) fn publish(
        &mut self,
        publication: &Publication,
        key: Option<&PublicationKey>,
        note: &mut dyn FnMut(ShardRow<'_>),
    ) -> Result<Option<PublishedEvent>, BackendError> {
        let now_ms = publication.now_ms;
        self.check_size(&publication.item)?;
        if let Some(key) = key {
            self.published.forget_old(self.limits.id_memory_ms, now_ms, note);
            if let Some(known) = self.published.find(key) {
                return Ok(Some(PublishedEvent { deliveries: known.deliveries.to_vec(), is_repeated: true }));
            }
        }
        let sessions = self.targets(publication);
        if sessions.is_empty() {
            return Ok(None);
        }
        let deliveries: Vec<_> = sessions
            .into_iter()
            .map(|(session, shard)| {
                let seq = self.push(session, &publication.item, note);
                ShardDelivery { session, shard, seq, home: 0 }
            })
            .collect();
        if let Some(key) = key {
            self.published.add(*key, &deliveries, self.limits.ids, now_ms, note);
        }
        Ok(Some(PublishedEvent { deliveries, is_repeated: false }))
    }

    pub(super) fn append(
        &mut self,
        append: &Append,
        note: &mut dyn FnMut(ShardRow<'_>),
    ) -> Result<Option<u64>, BackendError> {
        self.check_size(&append.item)?;
        let is_there = self.sessions.get(&append.id).is_some_and(|session| self.is_there(session, append.now_ms));
        let Some(session) = self.sessions.get_mut(&append.id).filter(|_| is_there) else { return Ok(None) };
        if let Some((room, number)) = &append.room {
            let Some(joined) = session.rooms.iter_mut().find(|joined| joined.room == *room) else { return Ok(None) };
            if *number <= joined.number && !append.is_gap {
                return Ok(None);
            }
            // Behind a gap numbers may begin anew, when the room is another one under the same name.
            joined.number = *number;
            note(ShardRow::Room { session: append.id, joined });
        }
        Ok(Some(self.push(append.id, &append.item, note)))
    }

    fn check_size(&self, item: &LogItem) -> Result<(), BackendError> {
        let (bytes, most) = (item.as_str().len(), self.limits.log_bytes.min(self.limits.total_bytes));
        if bytes > most {
            return Err(BackendError(format!("an event of {bytes} bytes; a log keeps {most}")));
        }
        Ok(())
    }

    fn targets(&self, publication: &Publication) -> SmallVec<[(ConnId, u32); 1]> {
        let (fleet, now_ms) = (&publication.fleet, publication.now_ms);
        let one = |shard| self.alive_at(fleet, shard, now_ms).map(|session| (session.id, shard)).into_iter().collect();
        match publication.to {
            ShardTarget::Shard(shard) => one(shard),
            ShardTarget::Guild(guild) => {
                let total = publication.fixed_total.unwrap_or_else(|| self.fleet_total(fleet, now_ms));
                let shard = (guild >> 22).checked_rem(total.into()).and_then(|shard| u32::try_from(shard).ok());
                shard.map(one).unwrap_or_default()
            }
            ShardTarget::All => self.alive_of(fleet, now_ms).map(|session| (session.id, session.shard)).collect(),
        }
    }

    /// Appends an event to the log of a session that is there, and trims the log.
    fn push(&mut self, id: ConnId, item: &LogItem, note: &mut dyn FnMut(ShardRow<'_>)) -> u64 {
        // Whoever has more gives way as he grows, or those who came later would keep nothing.
        let share = self.limits.total_bytes / self.sessions.len().max(1);
        let Some(session) = self.sessions.get_mut(&id) else { return 0 };
        let (log, limits) = (&mut session.log, &self.limits);
        let floor = log.floor();
        let seq = log.push(item.clone());
        note(ShardRow::Event { session: id, seq, item });
        self.log_bytes += item.as_str().len();
        self.log_events += 1;
        // The newest stays in any case, so that who reads at once misses nothing.
        while log.len() > 1
            && (log.len() > limits.log_events
                || log.bytes() > limits.log_bytes
                || (self.log_bytes > limits.total_bytes && log.bytes() > share))
        {
            self.log_bytes -= log.pop();
            self.log_events -= 1;
        }
        if log.floor() > floor {
            note(ShardRow::NoEvents { session: id, first: floor + 1, last: log.floor() });
        }
        seq
    }
}
