//! Events of shards: into logs, and out of them.

use redis::Value;
use switchboard_proto::id::ConnId;
use switchboard_proto::shard::{LogItem, LogPart, LoggedEvent};

use super::answers::{delivery, texts};
use super::lanes::{Appended, OpenLane};
use super::scripts::{APPEND, PUBLISH, READ};
use super::shards::{digit, id_text, number, optional};
use super::{RedisSessions, hex};
use crate::backend::BackendError;
use crate::backend::redis::store::Answered;
use crate::backend::sessions::PublicationKey;
use crate::backend::sessions::shards::{Append, Publication, PublishedEvent, ReadLog, ReadRefusal, ShardTarget};
use crate::op::Op;

impl RedisSessions {
    fn check_size(&self, item: &LogItem) -> Result<(), BackendError> {
        let limits = &self.0.limits;
        let (bytes, most) = (item.as_str().len(), limits.log_bytes.min(limits.total_bytes));
        if bytes > most {
            return Err(BackendError(format!("an event of {bytes} bytes; a log keeps {most}")));
        }
        Ok(())
    }

    pub(super) async fn published(&self, publication: Publication) -> Result<Option<PublishedEvent>, BackendError> {
        self.check_size(&publication.item)?;
        let limits = &self.0.limits;
        let fleet = &publication.fleet;
        let key = publication.id.as_ref().map(|id| PublicationKey::of(&fleet.application, id));
        let (to, which) = match publication.to {
            ShardTarget::Shard(shard) => ("shard", u64::from(shard)),
            ShardTarget::Guild(guild) => ("guild", guild >> 22),
            ShardTarget::All => ("all", 0),
        };
        let answer = self.make(&PUBLISH, &fleet.application, publication.now_ms, |step| {
            step.arg(key.map_or_else(|| "-".to_owned(), |key| hex(&key.0)));
            step.arg(number(limits.id_memory_ms)).arg(limits.ids).arg(digit(fleet.development)).arg(to).arg(which);
            step.arg(optional(publication.fixed_total.map(u64::from))).arg(publication.item.as_str());
        });
        let answer = answer.await?;
        if answer == Value::Nil {
            return Ok(None);
        }
        let [is_repeated, told] = self.odd("a publication", &answer, answer.list().and_then(texts))?;
        let told = told.split(' ').filter(|text| !text.is_empty());
        let deliveries = told.filter_map(|text| self.counted("a delivery", &answer, delivery(text))).collect();
        Ok(Some(PublishedEvent { deliveries, is_repeated: is_repeated == "1" }))
    }

    /// Appends to a log, behind all that were begun before.
    pub(super) fn enqueue(&self, append: Append) -> Op<Appended> {
        let id = append.id;
        let pushed = self.check_size(&append.item).and_then(|()| self.0.lanes.push(append));
        let (is_new, result) = match pushed {
            Ok(pushed) => pushed,
            Err(error) => return Op::Ready(Err(error)),
        };
        if is_new {
            // It goes on by itself.
            drop(self.with(|this| async move { this.append_all(id).await }));
        }
        Op::Wait(Box::pin(
            async move { result.await.unwrap_or_else(|_| Err(BackendError("the store has ended".into()))) },
        ))
    }

    /// Makes the appends to a log that wait, until none does.
    async fn append_all(&self, id: ConnId) -> Result<(), BackendError> {
        let lane = OpenLane { lanes: &self.0.lanes, id };
        loop {
            let (appends, replies): (Vec<_>, Vec<_>) =
                self.0.lanes.next(id).into_iter().map(|waiting| (waiting.append, waiting.reply)).unzip();
            if appends.is_empty() {
                lane.close();
                return Ok(());
            }
            let mut results = match self.append_some(id, &appends).await {
                Ok(numbers) => numbers.into_iter().map(Ok).collect(),
                Err(BackendError(error)) => {
                    appends.iter().map(|_| Err(BackendError(error.clone()))).collect::<Vec<Appended>>()
                }
            };
            for (reply, result) in replies.into_iter().zip(results.drain(..)) {
                // Perhaps nobody waits for it any more.
                drop(reply.send(result));
            }
        }
    }

    async fn append_some(&self, id: ConnId, appends: &[Append]) -> Result<Vec<Option<u64>>, BackendError> {
        let Some(application) = self.application_of(id).await? else { return Ok(vec![None; appends.len()]) };
        let now_ms = appends.iter().map(|append| append.now_ms).max().unwrap_or_default();
        let answer = self.make(&APPEND, &application, now_ms, |step| {
            step.arg(id_text(id));
            for append in appends {
                let (room, heard) =
                    append.room.as_ref().map_or(("", 0), |(room, heard)| (room.as_str(), number(*heard)));
                step.arg(room).arg(heard).arg(digit(append.is_gap)).arg(append.item.as_str());
            }
        });
        let answer = answer.await?;
        let numbers = answer.list().filter(|list| list.len() == appends.len());
        let numbers = numbers.and_then(|list| list.iter().map(Answered::number).collect::<Option<Vec<_>>>());
        let numbers = self.odd("numbers of events", &answer, numbers)?;
        Ok(numbers.into_iter().map(|number| Some(number).filter(|number| *number > 0)).collect())
    }

    pub(super) async fn read_part(&self, read: ReadLog) -> Result<Result<LogPart, ReadRefusal>, BackendError> {
        let Some(application) = self.application_of(read.id).await? else { return Ok(Err(ReadRefusal::Fenced)) };
        let answer = self.look(&READ, &application, 0, |step| {
            step.arg(id_text(read.id)).arg(read.generation).arg(number(read.after));
            step.arg(number(read.max_events as u64)).arg(number(read.max_bytes as u64));
        });
        let answer = answer.await?;
        let list = answer.list().unwrap_or_default();
        let (first, items) = self.odd("events", &answer, list.split_first())?;
        let has_more = match self.odd("events", &answer, first.text())? {
            "fenced" => return Ok(Err(ReadRefusal::Fenced)),
            "trimmed" => return Ok(Err(ReadRefusal::Trimmed)),
            has_more => has_more == "1",
        };
        let events = items.iter().zip(read.after.saturating_add(1)..);
        let events = events.map(|(item, seq)| Some(LoggedEvent { seq, item: LogItem::new(item.text()?) }));
        // An event that is no text was not written by us: what it was is lost.
        match self.counted("an event", &answer, events.collect::<Option<Vec<_>>>()) {
            Some(events) => Ok(Ok(LogPart { events, has_more })),
            None => Ok(Err(ReadRefusal::Trimmed)),
        }
    }
}
