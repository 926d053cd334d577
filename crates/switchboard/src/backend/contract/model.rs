//! Whatever is done with sessions of one fleet, between crashes, is what a naive store would do.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;
use switchboard_proto::shard::{LogItem, ShardRefusal};

use super::shards::*;
use super::{SHARD_LIMITS, block_on, done, ready, room};
use crate::backend::sessions::SessionStore;
use crate::backend::sessions::memory::MemorySessions;
use crate::backend::sessions::shards::*;

/// How many rooms a session may be in.
pub(in crate::backend) const ROOMS: usize = 2;

/// A store, and what may happen to it. A store that survives nothing is left alone.
pub(in crate::backend) trait World {
    fn store(&self) -> Arc<dyn SessionStore>;

    /// Ends it as planned, or kills it, at `now_ms`, and opens it again at once; the clocks show `later_ms` then. `false`: it has
    /// not ended.
    fn restart(&mut self, is_killed: bool, now_ms: u64, later_ms: u64) -> bool;

    /// Fills its disk, or makes place again. `false`: it has none.
    fn fill(&self, is_full: bool) -> bool;
}

/// What may be done. Numbers stand for sessions, of which those that began last are meant: `pick` counts back.
#[derive(Clone, Debug)]
enum Deed {
    Begin { shard: u64, total: Option<u64>, yields: bool, in_place_of: Option<usize> },
    Resume { pick: usize, is_other_shard: bool, seq: Option<u64> },
    Detach { pick: usize, is_late: bool, received: u64 },
    Note { pick: usize, is_late: bool, received: u64 },
    End { pick: usize, is_late: bool },
    Acknowledge { pick: usize, is_late: bool, seq: u64 },
    Publish { to: ShardTarget, bytes: usize, id: Option<u8> },
    Append { pick: usize, room: u8, ahead: u64, is_gap: bool },
    Join { pick: usize, room: u8 },
    Leave { pick: usize, room: u8 },
    Sweep,
    Pass { ms: u64 },
    Restart { is_killed: bool, jump_ms: i64 },
    FullDisk,
}

/// So many of anything, often, so that things happen to what is there.
fn deed() -> impl Strategy<Value = Deed> {
    let pick = || 0..4_usize;
    let late = || prop::bool::weighted(0.2);
    let seq = || 0..9_u64;
    let target = prop_oneof![
        3 => (0..3_u32).prop_map(ShardTarget::Shard),
        1 => (0..9_u64).prop_map(|guild| ShardTarget::Guild(guild << 22)),
        2 => Just(ShardTarget::All),
    ];
    let total = prop_oneof![3 => Just(None), 1 => (0..4_u64).prop_map(Some)];
    prop_oneof![
        6 => (0..3_u64, total, late(), prop::option::weighted(0.2, pick()))
            .prop_map(|(shard, total, yields, in_place_of)| Deed::Begin { shard, total, yields, in_place_of }),
        6 => (pick(), late(), prop::option::of(seq()))
            .prop_map(|(pick, is_other_shard, seq)| Deed::Resume { pick, is_other_shard, seq }),
        4 => (pick(), late(), seq()).prop_map(|(pick, is_late, received)| Deed::Detach { pick, is_late, received }),
        2 => (pick(), late(), seq()).prop_map(|(pick, is_late, received)| Deed::Note { pick, is_late, received }),
        1 => (pick(), late()).prop_map(|(pick, is_late)| Deed::End { pick, is_late }),
        4 => (pick(), late(), seq()).prop_map(|(pick, is_late, seq)| Deed::Acknowledge { pick, is_late, seq }),
        12 => (target, 1..60_usize, prop::option::weighted(0.3, 0..5_u8))
            .prop_map(|(to, bytes, id)| Deed::Publish { to, bytes, id }),
        2 => (pick(), 0..3_u8, 0..3_u64, late())
            .prop_map(|(pick, room, ahead, is_gap)| Deed::Append { pick, room, ahead, is_gap }),
        2 => (pick(), 0..3_u8).prop_map(|(pick, room)| Deed::Join { pick, room }),
        1 => (pick(), 0..3_u8).prop_map(|(pick, room)| Deed::Leave { pick, room }),
        1 => Just(Deed::Sweep),
        3 => (1..700_u64).prop_map(|ms| Deed::Pass { ms }),
        3 => (any::<bool>(), -5000..5000_i64)
            .prop_map(|(is_killed, jump_ms)| Deed::Restart { is_killed, jump_ms }),
        1 => Just(Deed::FullDisk),
    ]
}

/// Does random things in a world, many times.
pub(in crate::backend) fn check<W: World>(cases: u32, world: fn() -> W) {
    let config = ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |(deeds in prop::collection::vec(deed(), 1..60))| {
        let mut naive = Naive { now_ms: NOW, opened_ms: NOW, ..Naive::default() };
        let mut world = world();
        for deed in &deeds {
            naive.do_both(deed, &mut world);
            naive.compare(&world, deed);
        }
    });
}

#[derive(Default)]
struct Naive {
    now_ms: u64,
    /// When the process began.
    opened_ms: u64,
    /// All that ever began.
    sessions: Vec<Lived>,
    /// The oldest first.
    ids: Vec<(u8, u64, Vec<ShardDelivery>)>,
    /// When the first of the day began, and how many.
    starts: Option<(u64, u32)>,
}

/// A session, and whether it still is one.
struct Lived {
    is_over: bool,
    record: ShardRecord,
    /// All that were ever appended.
    events: Vec<String>,
    rooms: BTreeMap<u64, (u8, u64)>,
}

impl Lived {
    fn is_there(&self, now_ms: u64) -> bool {
        let age_ms = self.record.detached_ms.map_or(0, |since_ms| now_ms.saturating_sub(since_ms));
        !self.is_over && age_ms < SHARD_LIMITS.resume_window_ms
    }

    fn kept(&self) -> &[String] {
        &self.events[self.record.floor as usize..]
    }

    fn bytes(&self) -> usize {
        self.kept().iter().map(String::len).sum()
    }
}

/// Which sessions end, and why.
type Ending = Vec<(usize, EndOfShard)>;

impl Naive {
    /// The number of a session that began lately; one that never began if there are not so many.
    fn picked(&self, pick: usize) -> usize {
        self.sessions.len().checked_sub(pick + 1).unwrap_or(999)
    }

    fn alive(&self) -> Vec<usize> {
        (0..self.sessions.len()).filter(|number| self.sessions[*number].is_there(self.now_ms)).collect()
    }

    fn at(&self, shard: u64) -> Option<usize> {
        self.alive().into_iter().find(|number| u64::from(self.sessions[*number].record.shard) == shard)
    }

    fn counted(&self) -> u32 {
        self.alive().iter().map(|number| self.sessions[*number].record.shard + 1).max().unwrap_or(0)
    }

    fn total(&self) -> u32 {
        let told = |number: &usize| self.sessions[*number].record.total;
        match self.at(0) {
            Some(master) => told(&master).unwrap_or(self.counted()),
            None => self.alive().iter().filter_map(told).max().unwrap_or(0).max(self.counted()),
        }
    }

    /// Whether this session is carried by who holds the generation that is meant.
    fn carried(&mut self, number: usize, is_late: bool) -> (u64, Option<&mut Lived>) {
        let Some(lived) = self.sessions.get_mut(number) else { return (1, None) };
        let generation = lived.record.generation - u64::from(is_late);
        (generation, Some(lived).filter(|lived| !lived.is_over && !is_late && lived.record.owner.is_some()))
    }

    fn append(&mut self, number: usize, text: &str) -> u64 {
        let others: usize = (0..self.sessions.len())
            .filter(|other| *other != number && !self.sessions[*other].is_over)
            .map(|other| self.sessions[other].bytes())
            .sum();
        let share = SHARD_LIMITS.total_bytes / self.sessions.iter().filter(|lived| !lived.is_over).count();
        let lived = &mut self.sessions[number];
        lived.events.push(text.to_owned());
        lived.record.last += 1;
        while lived.kept().len() > 1
            && (lived.kept().len() > SHARD_LIMITS.log_events
                || lived.bytes() > SHARD_LIMITS.log_bytes
                || (lived.bytes() + others > SHARD_LIMITS.total_bytes && lived.bytes() > share))
        {
            lived.record.floor += 1;
        }
        lived.record.last
    }

    /// Who is refused, or which sessions end.
    fn judge(&self, begin: &BeginShard) -> Result<(Option<u32>, Ending), ShardRefusal> {
        let master = self.at(0);
        let of_master = master.and_then(|master| self.sessions[master].record.total).filter(|_| begin.shard != 0);
        let total = begin.total.map(|total| total as u32).or(of_master);
        if of_master.is_some() && total != of_master || total.is_some_and(|total| begin.shard >= total.into()) {
            return Err(ShardRefusal::InvalidShard);
        }
        if begin.shard != 0 && master.is_none() {
            return Err(ShardRefusal::MasterRequired { retry_ms: 1000 });
        }
        let own = begin.in_place_of.and_then(|(id, generation)| {
            self.sessions.iter().position(|lived| {
                let record = &lived.record;
                !lived.is_over && record.id == id && record.generation == generation && record.owner.is_some()
            })
        });
        let slot = self.at(begin.shard);
        let is_taken = slot.is_some_and(|slot| self.sessions[slot].record.owner.is_some() && own != Some(slot));
        if begin.yields && is_taken {
            return Err(ShardRefusal::Taken);
        }
        let mut ends = Vec::new();
        for (number, lived) in self.sessions.iter().enumerate().filter(|(_, lived)| !lived.is_over) {
            let (record, is_same) = (&lived.record, u64::from(lived.record.shard) == begin.shard);
            let is_there = lived.is_there(self.now_ms);
            if own == Some(number) || is_same && is_there {
                ends.push((number, EndOfShard::Replaced));
            } else if is_same {
                ends.push((number, EndOfShard::Expired));
            } else if is_there && begin.shard == 0 && total.is_some() {
                let is_right = record.total.or(Some(self.counted())) == total && Some(record.shard) < total;
                ends.extend((!is_right).then_some((number, EndOfShard::Resharded)));
            }
        }
        Ok((total, ends))
    }

    fn begin(&mut self, begin: BeginShard, store: &dyn SessionStore) {
        let expected = self.judge(&begin);
        let answer = done(store.begin_shard(begin.clone()));
        let (total, ends) = match (expected, answer) {
            (Err(expected), Err(refusal)) => {
                assert_eq!(refusal, expected);
                return self.sessions.push(self.never(&begin));
            }
            (Ok((total, ends)), Ok(begun)) => {
                let sorted = |mut ended: Vec<_>| {
                    ended.sort_by_key(|(id, _): &(switchboard_proto::id::ConnId, _)| id.to_bytes());
                    ended
                };
                let expected = ends.iter().map(|(number, why)| (session(*number as u64), *why)).collect();
                let ended = begun.ended.iter().map(|ended| (ended.id, ended.why)).collect();
                assert_eq!(sorted(ended), sorted(expected));
                (total, ends)
            }
            (expected, answer) => panic!("{answer:?}, not {expected:?}"),
        };
        for (number, _) in ends {
            self.sessions[number].is_over = true;
        }
        if begin.shard == 0 && total.is_some() {
            for lived in &mut self.sessions {
                lived.record.total = lived.record.total.or(total);
            }
        }
        let (began_ms, count) = self.starts.unwrap_or((self.now_ms, 0));
        self.starts = Some((began_ms, count + 1));
        let mut lived = self.never(&begin);
        (lived.is_over, lived.record.total) = (false, total);
        self.sessions.push(lived);
    }

    /// A session that was refused.
    fn never(&self, begin: &BeginShard) -> Lived {
        let record = ShardRecord {
            id: begin.id,
            fleet: fleet(),
            shard: begin.shard as u32,
            total: None,
            fleet_total: 0,
            flags: 0,
            created_ms: self.now_ms,
            generation: 1,
            owner: Some(begin.owner.clone()),
            detached_ms: None,
            last: 0,
            floor: 0,
            received: 0,
            log_bytes: 0,
            counts: Default::default(),
            home: 0,
        };
        Lived { is_over: true, record, events: Vec::new(), rooms: BTreeMap::new() }
    }

    fn publish(&mut self, to: ShardTarget, bytes: usize, id: Option<u8>, store: &dyn SessionStore) {
        let (now_ms, text) = (self.now_ms, "x".repeat(bytes));
        let answer = done(store.publish(Publication {
            id: id.map(|id| id.to_string().into()),
            now_ms,
            ..publication(to, &text)
        }));
        if id.is_some() {
            self.ids.retain(|(_, at_ms, _)| now_ms.saturating_sub(*at_ms) < SHARD_LIMITS.id_memory_ms);
        }
        if let Some((_, _, deliveries)) = self.ids.iter().find(|(known, _, _)| Some(*known) == id) {
            assert_eq!(answer, Some(PublishedEvent { deliveries: deliveries.clone(), is_repeated: true }));
            return;
        }
        let to = match to {
            ShardTarget::Shard(shard) => self.at(shard.into()).into_iter().collect(),
            ShardTarget::Guild(guild) => {
                let shard = (guild >> 22).checked_rem(self.total().into());
                shard.and_then(|shard| self.at(shard)).into_iter().collect()
            }
            ShardTarget::All => {
                let mut all = self.alive();
                all.sort_by_key(|number| self.sessions[*number].record.shard);
                all
            }
        };
        let deliveries: Vec<_> = to
            .into_iter()
            .map(|number| {
                let (session, shard) = (self.sessions[number].record.id, self.sessions[number].record.shard);
                ShardDelivery { session, shard, seq: self.append(number, &text), home: 0 }
            })
            .collect();
        let expected = PublishedEvent { deliveries, is_repeated: false };
        if let Some(id) = id
            && !expected.deliveries.is_empty()
        {
            self.ids.push((id, now_ms, expected.deliveries.clone()));
            while self.ids.iter().map(|(_, _, deliveries)| deliveries.len()).sum::<usize>() > SHARD_LIMITS.ids {
                self.ids.remove(0);
            }
        }
        assert_eq!(answer, (!expected.deliveries.is_empty()).then_some(expected));
    }

    fn resume(&mut self, pick: usize, is_other_shard: bool, seq: Option<u64>, store: &dyn SessionStore) {
        let (number, now_ms) = (self.picked(pick), self.now_ms);
        let shard = self.sessions.get(number).map_or(0, |lived| u64::from(lived.record.shard));
        let resume = ResumeShard { now_ms, ..resume(number as u64, shard + u64::from(is_other_shard), seq) };
        let owner = resume.owner.clone();
        let answer = done(store.resume_shard(resume)).map(|resumed| (resumed.after, resumed.previous));
        let lived = self.sessions.get_mut(number).filter(|lived| lived.is_there(now_ms) && !is_other_shard);
        let after = lived.as_ref().map_or(0, |lived| seq.unwrap_or(lived.record.received));
        let expected = lived.filter(|lived| lived.record.floor <= after && after <= lived.record.last).map(|lived| {
            let record = &mut lived.record;
            (record.generation, record.received, record.detached_ms) = (record.generation + 1, after, None);
            record.floor = seq.unwrap_or(record.floor);
            (after, record.owner.replace(owner))
        });
        assert_eq!(answer, expected);
    }

    fn do_both(&mut self, deed: &Deed, world: &mut impl World) {
        let (store, now_ms) = (world.store(), self.now_ms);
        match *deed {
            Deed::Begin { shard, total, yields, in_place_of } => {
                let in_place_of = in_place_of.and_then(|pick| self.sessions.get(self.picked(pick)));
                let in_place_of = in_place_of.map(|lived| (lived.record.id, lived.record.generation));
                let number = self.sessions.len() as u64;
                self.begin(BeginShard { total, yields, in_place_of, now_ms, ..begin(number, shard) }, &*store);
            }
            Deed::Resume { pick, is_other_shard, seq } => self.resume(pick, is_other_shard, seq, &*store),
            Deed::Detach { pick, is_late, received } => {
                let number = self.picked(pick);
                let (generation, lived) = self.carried(number, is_late);
                let note = ShardNote { received, ..note(number as u64, generation) };
                assert_eq!(done(store.detach_shard(note, now_ms)).is_ok(), lived.is_some());
                if let Some(Lived { record, .. }) = lived {
                    record.received = record.received.max(received.min(record.last));
                    (record.owner, record.detached_ms) = (None, Some(now_ms));
                }
            }
            Deed::Note { pick, is_late, received } => {
                let number = self.picked(pick);
                let (generation, lived) = self.carried(number, is_late);
                done(store.note_shards(vec![ShardNote { received, ..note(number as u64, generation) }]));
                if let Some(Lived { record, .. }) = lived {
                    record.received = record.received.max(received.min(record.last));
                }
            }
            Deed::End { pick, is_late } => {
                let number = self.picked(pick);
                let generation = self.carried(number, is_late).0;
                let lived = self.sessions.get_mut(number).filter(|lived| !lived.is_over && !is_late);
                let ended = done(store.end_shard(session(number as u64), Some(generation)));
                assert_eq!(ended.map(|ended| ended.owner), lived.as_ref().map(|lived| lived.record.owner.clone()));
                if let Some(lived) = lived {
                    lived.is_over = true;
                }
            }
            Deed::Acknowledge { pick, is_late, seq } => {
                let number = self.picked(pick);
                let (generation, lived) = self.carried(number, is_late);
                let expected = match lived {
                    None => Err(AckRefusal::Fenced),
                    Some(lived) if seq > lived.record.last => Err(AckRefusal::Ahead),
                    Some(Lived { record, .. }) => {
                        record.floor = record.floor.max(seq);
                        record.received = record.received.max(seq);
                        Ok(())
                    }
                };
                assert_eq!(ready(store.acknowledge(session(number as u64), generation, seq)), expected);
                // Whatever comes after it finds it done.
                done(store.note_shards(Vec::new()));
            }
            Deed::Publish { to, bytes, id } => self.publish(to, bytes, id, &*store),
            Deed::Append { pick, room: name, ahead, is_gap } => {
                let number = self.picked(pick);
                let known =
                    self.sessions.get(number).and_then(|lived| lived.rooms.values().find(|(known, _)| *known == name));
                let heard = known.map_or(0, |(_, heard)| *heard) + ahead;
                let room = Some((room(&name.to_string()), heard));
                let append = Append { id: session(number as u64), item: LogItem::new("m"), room, is_gap, now_ms };
                let joined = self.sessions.get_mut(number).filter(|lived| lived.is_there(now_ms));
                let joined = joined.and_then(|lived| lived.rooms.values_mut().find(|(known, _)| *known == name));
                let joined = joined.filter(|_| is_gap || ahead > 0);
                let expected = joined.map(|joined| joined.1 = heard).map(|()| self.append(number, "m"));
                assert_eq!(done(store.append(append)), expected);
            }
            Deed::Join { pick, room: name } => {
                let number = self.picked(pick);
                let answer =
                    block_on(store.add_shard_room(session(number as u64), &room(&name.to_string()), 1).into_future());
                let lived = self.sessions.get_mut(number).filter(|lived| !lived.is_over);
                let is_in = lived.as_ref().is_none_or(|lived| lived.rooms.values().any(|(known, _)| *known == name));
                let is_full = lived.as_ref().is_some_and(|lived| lived.rooms.len() >= ROOMS);
                assert_eq!(answer.ok(), if !is_in && is_full { None } else { Some(!is_in) });
                if let Some(lived) = lived.filter(|_| !is_in && !is_full) {
                    let order = lived.rooms.last_key_value().map_or(0, |(order, _)| order + 1);
                    lived.rooms.insert(order, (name, 1));
                }
            }
            Deed::Leave { pick, room: name } => {
                let number = self.picked(pick);
                let left = done(store.remove_shard_room(session(number as u64), &room(&name.to_string())));
                let lived = self.sessions.get_mut(number).filter(|lived| !lived.is_over);
                let before = lived.as_ref().map_or(0, |lived| lived.rooms.len());
                let after = lived.map_or(0, |lived| {
                    lived.rooms.retain(|_, (known, _)| *known != name);
                    lived.rooms.len()
                });
                assert_eq!(left, after < before);
            }
            Deed::Sweep => {
                let expired = self.sessions.iter_mut().filter(|lived| !lived.is_over && !lived.is_there(now_ms));
                let expired: Vec<_> = expired
                    .map(|lived| {
                        lived.is_over = true;
                        lived.record.id
                    })
                    .collect();
                let ended = done(store.sweep_shards(now_ms));
                assert_eq!(ended.iter().map(|ended| ended.id).collect::<Vec<_>>(), expired);
            }
            Deed::Pass { ms } => self.now_ms += ms,
            Deed::Restart { is_killed, jump_ms } => {
                let later_ms = now_ms.saturating_add_signed(jump_ms);
                if world.restart(is_killed, now_ms, later_ms) {
                    self.begin_again(is_killed, jump_ms, &*world.store());
                }
            }
            Deed::FullDisk => {
                if world.fill(true) {
                    let number = self.sessions.len() as u64;
                    let begin = BeginShard { now_ms, ..begin(number, 0) };
                    assert!(block_on(store.begin_shard(begin.clone()).into_future()).is_err());
                    let all = Publication { now_ms, ..publication(ShardTarget::All, "e") };
                    assert!(block_on(store.publish(all).into_future()).is_err());
                    world.fill(false);
                    self.sessions.push(self.never(&begin));
                }
            }
        }
    }

    /// Another process goes on; its clock shows another time.
    fn begin_again(&mut self, is_killed: bool, jump_ms: i64, store: &dyn SessionStore) {
        let shifted = |ms: u64| ms.saturating_add_signed(jump_ms);
        let (opened_ms, closed_ms) = (shifted(self.opened_ms), shifted(self.now_ms));
        self.ids.iter_mut().for_each(|(_, at_ms, _)| *at_ms = shifted(*at_ms));
        self.starts = self.starts.map(|(began_ms, count)| (shifted(began_ms), count));
        for lived in self.sessions.iter_mut().filter(|lived| !lived.is_over) {
            let record = &mut lived.record;
            record.created_ms = shifted(record.created_ms);
            record.detached_ms = record.detached_ms.map(shifted);
            if record.owner.take().is_some() {
                // Asked at the beginning of time, when nothing has expired.
                let since_ms = ready(store.shard(record.id, 0)).and_then(|record| record.detached_ms).unwrap();
                let expected = if is_killed { opened_ms..=closed_ms } else { closed_ms..=closed_ms };
                assert!(expected.contains(&since_ms), "{since_ms}, not in {expected:?}");
                record.detached_ms = Some(since_ms);
            }
        }
        (self.now_ms, self.opened_ms) = (closed_ms, closed_ms);
    }

    fn compare(&self, world: &impl World, deed: &Deed) {
        let (store, now_ms, fleet_total) = (world.store(), self.now_ms, self.total());
        let expected: Vec<_> = self.alive().into_iter().map(|number| &self.sessions[number]).collect();
        let records =
            expected.iter().map(|lived| ShardRecord { fleet_total, log_bytes: lived.bytes(), ..lived.record.clone() });
        assert_eq!(ready(store.shards(now_ms)), records.collect::<Vec<_>>(), "after {deed:?}");
        // Sessions that expired and have not been removed are counted. At the beginning of time nothing has expired.
        let shown = ready(store.shards(0));
        let counted = ShardTotals {
            sessions: shown.len(),
            detached: shown.iter().filter(|record| record.owner.is_none()).count(),
            log_events: shown.iter().map(|record| record.last - record.floor).sum(),
            log_bytes: shown.iter().map(|record| record.log_bytes).sum(),
        };
        assert_eq!(ready(store.read_totals()), counted, "{deed:?}");
        assert!(store.totals().is_none_or(|totals| totals == counted), "{deed:?}");
        for lived in expected {
            let ShardRecord { id, generation, floor, last, .. } = lived.record;
            let rooms = lived.rooms.values().map(|(name, number)| (room(&name.to_string()), *number));
            assert_eq!(ready(store.shard_rooms(id)), rooms.collect::<Vec<_>>(), "after {deed:?}");
            let read = |after| ready(store.read_log(ReadLog { id, generation, after, max_events: 99, max_bytes: 999 }));
            if lived.record.owner.is_none() {
                assert_eq!(read(floor), Err(ReadRefusal::Fenced));
                continue;
            }
            let events = read(floor).unwrap().events;
            let texts: Vec<_> = events.iter().map(|event| event.item.as_str()).collect();
            assert_eq!(texts, lived.kept(), "after {deed:?}");
            assert_eq!(
                events.iter().map(|event| event.seq).collect::<Vec<_>>(),
                (floor + 1..=last).collect::<Vec<_>>()
            );
            assert!(floor == 0 || read(floor - 1) == Err(ReadRefusal::Trimmed));
        }
        let left = ready(store.starts("app", ANY, now_ms));
        assert_eq!(u32::MAX - left.remaining, self.starts.map_or(0, |(_, count)| count));
    }
}

/// A store that is not ended here.
pub(in crate::backend) struct Lasting(pub(in crate::backend) Arc<dyn SessionStore>);

impl World for Lasting {
    fn store(&self) -> Arc<dyn SessionStore> {
        Arc::clone(&self.0)
    }

    fn restart(&mut self, _: bool, _: u64, _: u64) -> bool {
        false
    }

    fn fill(&self, _: bool) -> bool {
        false
    }
}

#[test]
fn whatever_is_done_in_memory_is_what_a_naive_store_would_do() {
    check(256, || Lasting(Arc::new(MemorySessions::new(ROOMS, SHARD_LIMITS))));
}
