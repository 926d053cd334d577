//! A session begins, in place of others.

use switchboard_proto::id::ConnId;
use switchboard_proto::shard::{ShardCounts, ShardRefusal};

use super::{Held, Log, Session, ShardRow, Shards};
use crate::backend::BackendError;
use crate::backend::sessions::shards::{BeginShard, BegunShard, EndOfShard};

/// When a shard may ask again that came before shard 0.
pub(in crate::backend) const MASTER_RETRY_MS: u64 = 1000;

impl Shards {
    pub(super) fn begin(
        &mut self,
        begin: &BeginShard,
        note: &mut dyn FnMut(ShardRow<'_>),
    ) -> Result<Result<BegunShard, ShardRefusal>, BackendError> {
        if self.sessions.contains_key(&begin.id) || self.by_hash.contains_key(&begin.hash) {
            return Err(BackendError("there is such a session already".into()));
        }
        let (shard, total) = match self.check_begin(begin) {
            Ok(checked) => checked,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let ending = self.ends_by(begin, shard, total);
        let ended = ending.into_iter().filter_map(|(id, why)| self.end(id, why, note)).collect();
        if shard == 0 && total.is_some() {
            self.tell_total(begin, total, note);
        }
        let application = &begin.fleet.application;
        if !self.starts.contains_key(application) {
            self.starts.insert(application.clone(), super::Starts::default());
        }
        if let Some(starts) = self.starts.get_mut(application) {
            starts.add(begin.starts, begin.now_ms);
            note(ShardRow::Starts { application, starts });
        }
        let session = Session {
            id: begin.id,
            hash: begin.hash,
            epoch: self.epoch,
            fleet: begin.fleet.clone(),
            shard,
            total,
            flags: begin.flags,
            created_ms: begin.now_ms,
            generation: 1,
            held: Held::By(begin.owner.clone()),
            received: 0,
            counts: ShardCounts::default(),
            log: Log::default(),
            rooms: Vec::new(),
        };
        note(ShardRow::Session(&session));
        let mut record = session.record(0);
        self.place(session);
        record.fleet_total = self.fleet_total(&begin.fleet, begin.now_ms);
        Ok(Ok(BegunShard { record, ended }))
    }

    /// Puts a session where it is found.
    pub(super) fn place(&mut self, session: Session) {
        self.by_hash.insert(session.hash, session.id);
        self.fleets.entry(session.fleet.clone()).or_default().insert(session.shard, session.id);
        self.detached += usize::from(session.is_detached());
        self.log_bytes += session.log.bytes();
        self.log_events += session.log.len() as u64;
        self.sessions.insert(session.id, session);
    }

    /// Which shard may begin, and of how many it is told to be.
    fn check_begin(&self, begin: &BeginShard) -> Result<(u32, Option<u32>), ShardRefusal> {
        let now_ms = begin.now_ms;
        let (shard, total) = self.check_range(begin).ok_or(ShardRefusal::InvalidShard)?;
        if shard != 0 && self.alive_at(&begin.fleet, 0, now_ms).is_none() {
            return Err(ShardRefusal::MasterRequired { retry_ms: MASTER_RETRY_MS });
        }
        if let Some(starts) = self.starts.get(&begin.fleet.application) {
            starts.check(begin.starts, now_ms)?;
        }
        let taken = self.alive_at(&begin.fleet, shard, now_ms).filter(|session| matches!(session.held, Held::By(_)));
        if begin.yields && taken.is_some_and(|session| Some(session.id) != self.own(begin)) {
            return Err(ShardRefusal::Taken);
        }
        Ok((shard, total))
    }

    fn check_range(&self, begin: &BeginShard) -> Option<(u32, Option<u32>)> {
        let shard = u32::try_from(begin.shard).ok().filter(|shard| *shard < begin.max_shards)?;
        let declared = match begin.total {
            Some(total) => Some(u32::try_from(total).ok().filter(|total| *total <= begin.max_shards)?),
            None => None,
        };
        // Shard 0 says how many there are; the others have been told.
        let master = self.alive_at(&begin.fleet, 0, begin.now_ms).filter(|_| shard != 0);
        let of_fleet = begin.fixed_total.or_else(|| master.and_then(|master| master.total));
        let agrees = declared.is_none() || of_fleet.is_none() || declared == of_fleet;
        let total = declared.or(of_fleet);
        (agrees && total.is_none_or(|total| shard < total)).then_some((shard, total))
    }

    /// The session that the connection carries already.
    fn own(&self, begin: &BeginShard) -> Option<ConnId> {
        let (id, generation) = begin.in_place_of?;
        self.carried(id, generation).map(|session| session.id)
    }

    /// What ends because a session begins, and why.
    fn ends_by(&self, begin: &BeginShard, shard: u32, total: Option<u32>) -> Vec<(ConnId, EndOfShard)> {
        let now_ms = begin.now_ms;
        let mut ending: Vec<_> = self.own(begin).map(|id| (id, EndOfShard::Replaced)).into_iter().collect();
        let Some(slots) = self.fleets.get(&begin.fleet) else { return ending };
        let counted = self.counted_total(&begin.fleet, now_ms);
        for session in slots.values().filter_map(|id| self.sessions.get(id)) {
            let why = if !self.is_there(session, now_ms) {
                // Others of the fleet may wait for the sweep.
                (session.shard == shard).then_some(EndOfShard::Expired)
            } else if session.shard == shard {
                Some(EndOfShard::Replaced)
            } else if let (0, Some(total)) = (shard, total) {
                let is_wrong = session.shard >= total || session.total.unwrap_or(counted) != total;
                is_wrong.then_some(EndOfShard::Resharded)
            } else {
                None
            };
            if let Some(why) = why
                && Some(session.id) != self.own(begin)
            {
                ending.push((session.id, why));
            }
        }
        ending
    }

    /// Those who were told nothing have counted right.
    fn tell_total(&mut self, begin: &BeginShard, total: Option<u32>, note: &mut dyn FnMut(ShardRow<'_>)) {
        let Some(slots) = self.fleets.get(&begin.fleet) else { return };
        for id in slots.values() {
            if let Some(session) = self.sessions.get_mut(id)
                && session.total.is_none()
            {
                session.total = total;
                note(ShardRow::Session(session));
            }
        }
    }
}
