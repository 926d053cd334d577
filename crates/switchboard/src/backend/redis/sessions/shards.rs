//! Sessions of shards: each method is one step on the keys of one application. What concerns logs is in `logs`.
//!
//! Who only has a session's id is told by a key of its own whose it is. That is written before the session begins and taken away
//! after it has ended, so that a session that is there can be found; what a crash leaves goes by itself, and the sweep writes it
//! again before it does.

use std::collections::HashMap;
use std::sync::Arc;

use redis::{Cmd, Value};
use switchboard_proto::id::{ConnId, RoomName};
use switchboard_proto::shard::{LogPart, ShardRefusal};

use super::answers::{ended, id, listed, owner, record, texts, write_counts};
use super::scripts::{
    ACKNOWLEDGE, ADOPT, BEGIN, DELETE, END, LIST, NOTE, PAGE, RESUME, ROOM, SET, STARTS, SWEEP, TOTALS,
};
use super::{DAY_MS, MANY, MAX_KNOWN, MAX_NUMBER, NOTHING, RedisSessions, hex, lock};
use crate::backend::BackendError;
use crate::backend::redis::script::Script;
use crate::backend::redis::store::Answered;
use crate::backend::sessions::shards::*;
use crate::backend::sessions::{AT_ONCE_MS, MASTER_RETRY_MS, Starts};
use crate::op::{BoxFuture, Op};

/// What belongs to an application, in the order in which `lua/lib.lua` knows it.
const KEYS: [&str; 10] =
    ["session", "fleet", "fleet-dev", "hash", "log", "room", "heard", "published", "published-order", "sum"];

/// Notes that go in one step.
const NOTES: usize = 256;

/// How long it is relied on that a session's key by its id is there.
const REMEMBERED_MS: u64 = DAY_MS / 4;

/// Numbers that scripts cannot tell from the next are as good as the largest that they can.
pub(super) fn number(number: u64) -> u64 {
    number.min(MAX_NUMBER)
}

pub(super) fn id_text(id: ConnId) -> String {
    hex(&id.to_bytes())
}

pub(super) fn optional(number: Option<u64>) -> String {
    number.map_or_else(|| "-".to_owned(), |number| number.to_string())
}

pub(super) const fn digit(development: bool) -> &'static str {
    if development { "1" } else { "0" }
}

impl RedisSessions {
    /// For how long keys live that nobody touches: as long as anything in them may count.
    fn lives_ms(&self) -> u64 {
        let limits = &self.0.limits;
        DAY_MS + number(limits.resume_window_ms.max(limits.id_memory_ms))
    }

    /// The keys of an application's sessions.
    fn keys(&self, application: &str) -> [String; KEYS.len()] {
        let store = &self.0.store;
        let generation = store.standing.generation();
        KEYS.map(|what| store.keys.application(application, &format!("{generation}:{what}")))
    }

    /// The first arguments of each script.
    fn first(&self, now_ms: u64) -> [String; 8] {
        let (limits, notify) = (&self.0.limits, &self.0.notify);
        [
            self.lives_ms().to_string(),
            number(limits.resume_window_ms).to_string(),
            if self.0.clock.is_of_caller { number(now_ms).to_string() } else { String::new() },
            self.0.store.standing.slot().to_string(),
            limits.log_events.to_string(),
            limits.log_bytes.to_string(),
            limits.total_bytes.to_string(),
            if notify.in_script { notify.channel_prefix.clone() } else { String::new() },
        ]
    }

    /// Makes a step that changes something.
    pub(super) fn make(
        &self,
        script: &'static Script,
        application: &str,
        now_ms: u64,
        arguments: impl FnOnce(&mut Cmd),
    ) -> BoxFuture<'static, Result<Value, BackendError>> {
        let (keys, first) = (self.keys(application), self.first(now_ms));
        self.0.store.change(script, &keys.each_ref().map(String::as_str), |step| arguments(step.arg(&first[..])))
    }

    /// Makes a step that changes nothing.
    pub(super) fn look(
        &self,
        script: &'static Script,
        application: &str,
        now_ms: u64,
        arguments: impl FnOnce(&mut Cmd),
    ) -> BoxFuture<'static, Result<Value, BackendError>> {
        let (keys, first) = (self.keys(application), self.first(now_ms));
        self.0.store.link.run(script, &keys.each_ref().map(String::as_str), |step| arguments(step.arg(&first[..])))
    }

    pub(super) fn odd<T>(&self, what: &str, answer: &Value, read: Option<T>) -> Result<T, BackendError> {
        read.ok_or_else(|| self.0.store.odd(what, answer))
    }

    fn key_of(&self, id: ConnId) -> String {
        self.0.store.keys.single("s", &id_text(id))
    }

    fn remember(&self, id: ConnId, application: &str) -> BoxFuture<'static, Result<Value, BackendError>> {
        // Longer than the session itself lives without anybody.
        let lives_ms = 2 * self.lives_ms();
        self.change_one(&SET, &self.key_of(id), (application, lives_ms))
    }

    fn note_known(&self, id: ConnId, application: &Arc<str>) {
        let mut known = lock(&self.0.known);
        if known.len() >= MAX_KNOWN {
            known.clear();
        }
        known.insert(id, Arc::clone(application));
    }

    /// Whose session it is. Nothing: there is no such session.
    pub(super) async fn application_of(&self, id: ConnId) -> Result<Option<Arc<str>>, BackendError> {
        if let Some(application) = lock(&self.0.known).get(&id) {
            return Ok(Some(Arc::clone(application)));
        }
        let mut get = redis::cmd("GET");
        get.arg(self.key_of(id));
        let answer = self.0.store.read(get).await?;
        if answer == Value::Nil {
            return Ok(None);
        }
        let text = self.counted("an application", &answer, answer.text());
        let application: Option<Arc<str>> = text.map(|text| {
            let ours = self.0.applications.iter().find(|ours| &***ours == text);
            ours.cloned().unwrap_or_else(|| text.into())
        });
        if let Some(application) = &application {
            self.note_known(id, application);
        }
        Ok(application)
    }

    /// These are over.
    async fn forget_ids(&self, ended: &[EndedShard]) {
        for over in ended {
            lock(&self.0.known).remove(&over.id);
        }
        let keys = ended.iter().map(|over| self.key_of(over.id));
        let deleting: Vec<_> =
            keys.map(|key| self.with(|this| async move { this.change_one(&DELETE, &key, NOTHING).await })).collect();
        for deleted in deleting {
            // One that is left is found by nobody, and goes.
            drop(deleted.await);
        }
    }

    /// Sessions of a list. What is none is counted and left out.
    fn records(&self, application: &Arc<str>, now_ms: u64, answer: &Value) -> Result<Vec<ShardRecord>, BackendError> {
        let list = self.odd("sessions", answer, answer.list())?;
        let read = |value| self.counted("a session", value, listed(application, now_ms, value));
        Ok(list.iter().filter_map(read).collect())
    }

    fn all_ended(&self, answer: &Value) -> Result<Vec<EndedShard>, BackendError> {
        let list = self.odd("sessions that ended", answer, answer.list())?;
        Ok(list.iter().filter_map(|value| self.counted("a session that ended", value, ended(value))).collect())
    }

    async fn begin(&self, begin: BeginShard) -> Result<Result<BegunShard, ShardRefusal>, BackendError> {
        let most = u64::from(begin.max_shards);
        if begin.shard >= most || begin.total.is_some_and(|total| total > most) {
            return Ok(Err(ShardRefusal::InvalidShard));
        }
        let application = &begin.fleet.application;
        let (mut own, mut elsewhere) = (begin.in_place_of, None);
        if let Some((id, generation)) = own
            && let Some(other) = self.application_of(id).await?
            && other != *application
        {
            // Of another application, it is in another place, and ends in a step of its own behind this one. Should we not come to
            // that, nobody carries it when its connection or this node is gone.
            (own, elsewhere) = (None, Some((id, generation, other)));
        }
        self.remember(begin.id, application).await?;
        let answer = self.make(&BEGIN, application, begin.now_ms, |step| {
            step.arg(id_text(begin.id)).arg(hex(begin.hash.as_bytes())).arg(digit(begin.fleet.development));
            step.arg(begin.shard).arg(optional(begin.total)).arg(optional(begin.fixed_total.map(u64::from)));
            step.arg(begin.flags).arg(begin.starts.total).arg(begin.starts.concurrency).arg(digit(begin.yields));
            step.arg(own.map_or_else(|| "-".to_owned(), |(id, _)| id_text(id))).arg(own.map_or(0, |(_, held)| held));
            step.arg(id_text(begin.owner.connection)).arg(&*begin.owner.node).arg(DAY_MS).arg(AT_ONCE_MS);
        });
        let answer = answer.await?;
        let list = answer.list().unwrap_or_default();
        let retry_ms = || list.get(1).and_then(Answered::number).unwrap_or(MASTER_RETRY_MS);
        let refusal = match self.odd("a beginning", &answer, list.first().and_then(Answered::text))? {
            "ok" => None,
            "exists" => return Err(BackendError("there is such a session already".into())),
            "range" => Some(ShardRefusal::InvalidShard),
            "master" => Some(ShardRefusal::MasterRequired { retry_ms: MASTER_RETRY_MS }),
            "day" => Some(ShardRefusal::StartLimit { retry_ms: retry_ms() }),
            "once" => Some(ShardRefusal::StartConcurrency { retry_ms: retry_ms() }),
            "taken" => Some(ShardRefusal::Taken),
            _ => return Err(self.0.store.odd("a beginning", &answer)),
        };
        if let Some(refusal) = refusal {
            drop(self.change_one(&DELETE, &self.key_of(begin.id), NOTHING).await);
            return Ok(Err(refusal));
        }
        let begun =
            texts(list).and_then(|[_, row, total]| record(application, &id_text(begin.id), row, total.parse().ok()?));
        let begun = self.odd("a session", &answer, begun)?;
        let mut ended = self.all_ended(list.get(3).unwrap_or(&Value::Nil))?;
        self.note_known(begin.id, application);
        if let Some((id, generation, other)) = elsewhere {
            let over = self.finish(id, &other, Some(generation), "replaced", true).await;
            ended.splice(0..0, over.unwrap_or_default());
        }
        self.forget_ids(&ended).await;
        Ok(Ok(BegunShard { record: begun, ended }))
    }

    async fn finish(
        &self,
        id: ConnId,
        application: &str,
        generation: Option<u64>,
        why: &str,
        is_carried: bool,
    ) -> Result<Option<EndedShard>, BackendError> {
        let answer = self.make(&END, application, 0, |step| {
            step.arg(id_text(id)).arg(optional(generation)).arg(why).arg(digit(is_carried));
        });
        let answer = answer.await?;
        if answer == Value::Nil {
            return Ok(None);
        }
        self.odd("a session that ended", &answer, ended(&answer)).map(Some)
    }

    async fn resume(&self, resume: ResumeShard) -> Result<Option<ResumedShard>, BackendError> {
        let application = &resume.application;
        let answer = self.make(&RESUME, application, resume.now_ms, |step| {
            step.arg(hex(resume.hash.as_bytes())).arg(resume.shard).arg(optional(resume.seq.map(number)));
            step.arg(id_text(resume.owner.connection)).arg(&*resume.owner.node);
        });
        let answer = answer.await?;
        if answer == Value::Nil {
            return Ok(None);
        }
        let read = || {
            let [id, row, total, after, connection, node] = texts(answer.list()?)?;
            let record = record(application, id, row, total.parse().ok()?)?;
            Some(ResumedShard { record, after: after.parse().ok()?, previous: owner(connection, node)? })
        };
        let resumed = self.odd("a session that was resumed", &answer, read())?;
        self.note_known(resumed.record.id, application);
        Ok(Some(resumed))
    }

    fn note(
        &self,
        what: &str,
        application: &str,
        notes: &[ShardNote],
        now_ms: u64,
    ) -> BoxFuture<'static, Result<Value, BackendError>> {
        self.make(&NOTE, application, now_ms, |step| {
            step.arg(what);
            for note in notes {
                step.arg(id_text(note.id)).arg(note.generation);
                step.arg(number(note.received)).arg(write_counts(&note.counts));
            }
        })
    }

    async fn note_all(&self, notes: Vec<ShardNote>) -> Result<(), BackendError> {
        let mut by_application: HashMap<Arc<str>, Vec<ShardNote>> = HashMap::new();
        for note in notes {
            if let Some(application) = self.application_of(note.id).await? {
                by_application.entry(application).or_default().push(note);
            }
        }
        let mut result = Ok(());
        for (application, notes) in by_application {
            for notes in notes.chunks(NOTES) {
                // One that fails does not keep back those of other applications.
                result = self.note("note", &application, notes, 0).await.map(drop).and(result);
            }
        }
        result
    }

    fn list(
        &self,
        application: &Arc<str>,
        fleet: &str,
        id: Option<ConnId>,
        now_ms: u64,
    ) -> BoxFuture<'static, Result<Vec<ShardRecord>, BackendError>> {
        let listing = self.look(&LIST, application, now_ms, |step| {
            step.arg(fleet).arg(id.map_or_else(|| "-".to_owned(), id_text));
        });
        let (this, application) = (self.clone(), Arc::clone(application));
        Box::pin(async move { this.records(&application, now_ms, &listing.await?) })
    }

    /// Makes a step for each application, all at once, and joins what they bring.
    async fn for_all<T: Send + 'static, F>(&self, step: impl Fn(Self, Arc<str>) -> F) -> Result<Vec<T>, BackendError>
    where
        F: Future<Output = Result<Vec<T>, BackendError>> + Send + 'static,
    {
        let mut all = Vec::new();
        for result in self.of_each(step).await {
            all.extend(result?);
        }
        Ok(all)
    }

    /// Makes a step for each application, all at once.
    async fn of_each<T: Send + 'static, F>(
        &self,
        step: impl Fn(Self, Arc<str>) -> F,
    ) -> Vec<Result<Vec<T>, BackendError>>
    where
        F: Future<Output = Result<Vec<T>, BackendError>> + Send + 'static,
    {
        let begun = self.0.applications.iter().map(|application| self.with(|this| step(this, Arc::clone(application))));
        let begun: Vec<_> = begun.collect();
        let mut results = Vec::with_capacity(begun.len());
        for step in begun {
            results.push(step.await);
        }
        results
    }

    async fn room(&self, what: &'static str, id: ConnId, room: &RoomName, heard: u64) -> Result<bool, BackendError> {
        let Some(application) = self.application_of(id).await? else { return Ok(false) };
        let answer = self.make(&ROOM, &application, 0, |step| {
            let most = self.0.max_user_rooms.min(MANY);
            step.arg(what).arg(id_text(id)).arg(room.as_str()).arg(number(heard)).arg(most);
        });
        match answer.await? {
            Value::Int(-1) => {
                Err(BackendError(format!("of one session at most {} rooms are kept", self.0.max_user_rooms)))
            }
            answer => Ok(answer == Value::Int(1)),
        }
    }

    pub(super) async fn evict_shards(&self, room: &RoomName) -> Result<(), BackendError> {
        let step = |this: Self, application: Arc<str>| {
            let evicting = this.make(&ROOM, &application, 0, |step| {
                step.arg("forget").arg("-").arg(room.as_str());
            });
            async move { evicting.await.map(|_| Vec::<()>::new()) }
        };
        self.for_all(step).await.map(drop)
    }

    async fn sweep(self, application: Arc<str>, now_ms: u64, remembers: bool) -> Result<Vec<EndedShard>, BackendError> {
        let limits = &self.0.limits;
        let answer = self.make(&SWEEP, &application, now_ms, |step| {
            step.arg(number(limits.id_memory_ms)).arg(DAY_MS);
        });
        let answer = answer.await?;
        let Some([ended, kept, odd]) = answer.list().and_then(<[Value]>::first_chunk) else {
            return Err(self.0.store.odd("a sweep", &answer));
        };
        for _ in 0..odd.number().unwrap_or_default() {
            drop(self.0.store.odd("a session", odd));
        }
        let ended = self.all_ended(ended)?;
        self.forget_ids(&ended).await;
        if remembers {
            for id in self.texts("sessions", kept)?.into_iter().filter_map(id) {
                self.remember(id, &application).await?;
            }
        }
        Ok(ended)
    }
}

impl ShardStore for RedisSessions {
    fn begin_shard(&self, begin: BeginShard) -> Op<Result<Result<BegunShard, ShardRefusal>, BackendError>> {
        self.with(|this| async move { this.begin(begin).await })
    }

    fn resume_shard(&self, resume: ResumeShard) -> Op<Result<Option<ResumedShard>, BackendError>> {
        self.with(|this| async move { this.resume(resume).await })
    }

    fn detach_shard(&self, note: ShardNote, now_ms: u64) -> Op<Result<Result<(), Fenced>, BackendError>> {
        self.with(|this| async move {
            let Some(application) = this.application_of(note.id).await? else { return Ok(Err(Fenced)) };
            let answer = this.note("detach", &application, std::slice::from_ref(&note), now_ms).await?;
            Ok(if answer == Value::Int(1) { Ok(()) } else { Err(Fenced) })
        })
    }

    fn end_shard(&self, id: ConnId, generation: Option<u64>) -> Op<Result<Option<EndedShard>, BackendError>> {
        self.with(|this| async move {
            let Some(application) = this.application_of(id).await? else { return Ok(None) };
            let ended = this.finish(id, &application, generation, "asked", false).await?;
            this.forget_ids(ended.as_slice()).await;
            Ok(ended)
        })
    }

    fn note_shards(&self, notes: Vec<ShardNote>) -> Op<Result<(), BackendError>> {
        self.with(|this| async move { this.note_all(notes).await })
    }

    fn acknowledge(&self, id: ConnId, generation: u64, seq: u64) -> Op<Result<Result<(), AckRefusal>, BackendError>> {
        self.with(|this| async move {
            let Some(application) = this.application_of(id).await? else { return Ok(Err(AckRefusal::Fenced)) };
            let answer = this.make(&ACKNOWLEDGE, &application, 0, |step| {
                step.arg(id_text(id)).arg(generation).arg(number(seq));
            });
            let answer = answer.await?;
            match answer.text() {
                Some("ok") => Ok(Ok(())),
                Some("ahead") => Ok(Err(AckRefusal::Ahead)),
                Some("fenced") => Ok(Err(AckRefusal::Fenced)),
                _ => Err(this.0.store.odd("an acknowledgement", &answer)),
            }
        })
    }

    fn publish(&self, publication: Publication) -> Op<Result<Option<PublishedEvent>, BackendError>> {
        self.with(|this| async move { this.published(publication).await })
    }

    fn append(&self, append: Append) -> Op<Result<Option<u64>, BackendError>> {
        self.enqueue(append)
    }

    fn read_log(&self, read: ReadLog) -> Op<Result<Result<LogPart, ReadRefusal>, BackendError>> {
        self.with(|this| async move { this.read_part(read).await })
    }

    fn fleet(&self, fleet: &Fleet, now_ms: u64) -> Op<Result<Vec<ShardRecord>, BackendError>> {
        self.go(self.list(&fleet.application, digit(fleet.development), None, now_ms))
    }

    fn shard(&self, id: ConnId, now_ms: u64) -> Op<Result<Option<ShardRecord>, BackendError>> {
        self.with(|this| async move {
            let Some(application) = this.application_of(id).await? else { return Ok(None) };
            Ok(this.list(&application, "-", Some(id), now_ms).await?.pop())
        })
    }

    fn shards(&self, now_ms: u64) -> Op<Result<Vec<ShardRecord>, BackendError>> {
        self.with(|this| async move {
            let all = this.for_all(|this, application| this.list(&application, "-", None, now_ms));
            let mut all = all.await?;
            all.sort_unstable_by_key(|record| record.id.to_bytes());
            Ok(all)
        })
    }

    fn shards_after(
        &self,
        after: Option<ShardKey>,
        limit: usize,
        now_ms: u64,
    ) -> Op<Result<Vec<ShardRecord>, BackendError>> {
        self.with(|this| async move {
            let of_application = |application: &Arc<str>| {
                [false, true].map(|development| Fleet { application: Arc::clone(application), development })
            };
            let mut fleets: Vec<Fleet> = this.0.applications.iter().flat_map(of_application).collect();
            fleets.sort_unstable();
            let mut page = Vec::new();
            for fleet in fleets {
                let first = match &after {
                    Some(after) if fleet < after.fleet => continue,
                    Some(after) if fleet == after.fleet => after.shard.to_string(),
                    _ => "-".to_owned(),
                };
                if page.len() >= limit {
                    break;
                }
                let listing = this.look(&PAGE, &fleet.application, now_ms, |step| {
                    step.arg(digit(fleet.development)).arg(first).arg(limit - page.len());
                });
                page.extend(this.records(&fleet.application, now_ms, &listing.await?)?);
            }
            Ok(page)
        })
    }

    fn read_totals(&self) -> Op<Result<ShardTotals, BackendError>> {
        self.with(|this| async move {
            let all = this.for_all(|this, application| async move {
                let answer = this.look(&TOTALS, &application, 0, |_| {}).await?;
                let numbers = answer.list().and_then(|list| list.iter().map(Answered::number).collect());
                let numbers: Vec<u64> = this.odd("totals", &answer, numbers)?;
                Ok(vec![this.odd("totals", &answer, <[u64; 4]>::try_from(numbers).ok())?])
            });
            let size = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
            let mut totals = ShardTotals::default();
            for [sessions, detached, log_events, log_bytes] in all.await? {
                totals.sessions += size(sessions);
                totals.detached += size(detached);
                totals.log_events += log_events;
                totals.log_bytes += size(log_bytes);
            }
            Ok(totals)
        })
    }

    fn starts(&self, application: &str, limits: StartLimits, now_ms: u64) -> Op<Result<StartsLeft, BackendError>> {
        let counting = self.look(&STARTS, application, now_ms, |_| {});
        self.with(|this| async move {
            let answer = counting.await?;
            let numbers = answer.list().and_then(|list| list.iter().map(Answered::number).collect::<Option<Vec<_>>>());
            match this.odd("beginnings", &answer, numbers)?[..] {
                [began_ms, count, now_ms] => {
                    Ok(Starts::restore(began_ms, u32::try_from(count).unwrap_or(u32::MAX)).left(limits, now_ms))
                }
                _ => Err(this.0.store.odd("beginnings", &answer)),
            }
        })
    }

    fn add_shard_room(&self, id: ConnId, room: &RoomName, number: u64) -> Op<Result<bool, BackendError>> {
        let room = room.clone();
        self.with(|this| async move { this.room("add", id, &room, number).await })
    }

    fn remove_shard_room(&self, id: ConnId, room: &RoomName) -> Op<Result<bool, BackendError>> {
        let room = room.clone();
        self.with(|this| async move { this.room("remove", id, &room, 0).await })
    }

    fn shard_rooms(&self, id: ConnId) -> Op<Result<Vec<(RoomName, u64)>, BackendError>> {
        self.with(|this| async move {
            let Some(application) = this.application_of(id).await? else { return Ok(Vec::new()) };
            let answer = this.look(&ROOM, &application, 0, |step| {
                step.arg("list").arg(id_text(id));
            });
            let answer = answer.await?;
            let list = this.odd("rooms of a session", &answer, answer.list())?;
            let joined = list.chunks_exact(2).filter_map(|pair| {
                let joined = pair[0].text().and_then(RoomName::restore).zip(pair[1].number());
                this.counted("a room of a session", &pair[0], joined)
            });
            Ok(joined.collect())
        })
    }

    fn sweep_shards(&self, now_ms: u64) -> Op<Result<Vec<EndedShard>, BackendError>> {
        self.with(|this| async move {
            let before = *lock(&this.0.remembered_ms);
            let remembers = before.is_none_or(|before| now_ms.saturating_sub(before) >= REMEMBERED_MS);
            let (mut ended, mut failure) = (Vec::new(), None);
            for swept in this.of_each(|this, application| this.sweep(application, now_ms, remembers)).await {
                match swept {
                    Ok(swept) => ended.extend(swept),
                    Err(error) => failure = Some(error),
                }
            }
            match failure {
                // Sessions that have ended must be reported, also if the sweep of another application failed.
                Some(error) if ended.is_empty() => return Err(error),
                Some(error) => tracing::warn!(%error, "sweep of an application failed; retrying"),
                None if remembers => *lock(&this.0.remembered_ms) = Some(now_ms),
                None => {}
            }
            ended.sort_unstable_by_key(|over| over.id.to_bytes());
            Ok(ended)
        })
    }

    fn tells_growth(&self) -> bool {
        self.0.notify.in_script
    }

    fn adopt_shards(&self, from: u16, to: u16, now_ms: u64) -> Op<Result<Vec<ShardRecord>, BackendError>> {
        self.with(|this| async move {
            let adopted = this.for_all(move |this, application| {
                let adopting = this.make(&ADOPT, &application, now_ms, |step| {
                    step.arg(from).arg(to);
                });
                async move { this.records(&application, now_ms, &adopting.await?) }
            });
            let mut adopted = adopted.await?;
            adopted.sort_unstable_by_key(|record| record.id.to_bytes());
            Ok(adopted)
        })
    }
}
