//! Sessions as operators see them, and what server code tells them.

use switchboard_proto::call::CallError;
use switchboard_proto::face::Remote;
use switchboard_proto::gateway::items;
use switchboard_proto::id::{ConnId, RoomName};
use switchboard_proto::json::RawJson;
use tokio::time::Instant;

use crate::backend::sessions::shards::{Append, ShardRecord};

use super::super::Node;
use super::super::chat::unavailable;
use super::super::pages::Page;
use super::events::ShardInfo;
use super::figures::Source;

pub use crate::backend::sessions::shards::{Fleet, ShardKey};

/// Everything that is known of a session at one moment.
#[derive(Clone, Debug)]
pub struct ShardDetails {
    /// What its application sees too.
    pub info: ShardInfo,
    /// Where the connection comes from that carries it, if that is one of this node.
    pub remote: Option<Remote>,
    /// The rooms that it is a member of, in the order of joining.
    pub rooms: Vec<RoomName>,
    /// If no connection carries it: since when.
    pub detached: Option<Detached>,
}

/// A session that no connection carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Detached {
    /// For so long, in milliseconds.
    pub for_ms: u64,
    /// It is over in so long, in milliseconds (`servers.gateway.resume_window`).
    pub expires_in_ms: u64,
}

impl Detached {
    fn new(since_ms: u64, now_ms: u64, window_ms: u64) -> Self {
        let for_ms = now_ms.saturating_sub(since_ms);
        Self { for_ms, expires_in_ms: window_ms.saturating_sub(for_ms) }
    }
}

impl Node {
    /// Returns at most `limit` sessions in the order of their keys, those after `after`. A session that lives while the
    /// pages are read is on exactly one of them.
    ///
    /// # Errors
    ///
    /// [`CallError::Unavailable`].
    pub async fn page_of_shard_sessions(
        &self,
        after: Option<ShardKey>,
        limit: usize,
    ) -> Result<Page<ShardDetails, ShardKey>, CallError> {
        // One more shows whether there is another page.
        let reading = self.0.sessions.shards_after(after, limit.saturating_add(1), self.0.gateway.clock.now_ms());
        let mut records = reading.await.map_err(unavailable)?;
        let has_more = records.len() > limit;
        records.truncate(limit);
        let next = records.last().filter(|_| has_more).map(ShardRecord::key);
        let details = |record| self.shard_details(self.shard_info(record));
        Ok(Page { items: records.into_iter().map(details).collect(), next })
    }

    fn shard_details(&self, info: ShardInfo) -> ShardDetails {
        let gateway = &self.0.gateway;
        let window_ms = u64::try_from(gateway.options.resume_window.as_millis()).unwrap_or(u64::MAX);
        let now_ms = gateway.clock.now_ms();
        let id = info.record.id;
        ShardDetails {
            remote: self.carried(id).map(|(facts, _)| facts.remote),
            rooms: gateway.rooms.of(id),
            detached: info.record.detached_ms.map(|since_ms| Detached::new(since_ms, now_ms, window_ms)),
            info,
        }
    }

    /// Tells a session something: it is in its log when this returns.
    pub(in crate::node) async fn append_message(&self, session: ConnId, message: &RawJson) -> Result<(), CallError> {
        let gateway = &self.0.gateway;
        let item = items::message(message);
        if item.as_str().len() > gateway.options.log_bytes {
            return Err(CallError::MessageTooLarge);
        }
        let bytes = item.as_str().len();
        let append = Append { id: session, item, room: None, is_gap: false, now_ms: gateway.clock.now_ms() };
        let node = self.clone();
        let appending = self.0.sessions.append(append).map(move |seq| {
            let seq = seq.map_err(unavailable)?.ok_or(CallError::NoSuchConnection)?;
            node.0.gateway.counters.count_appended(Source::Message, 1);
            node.log_has_grown(session, seq, bytes);
            Ok(seq)
        });
        let seq = self.follow(appending).await?;
        self.wait_for_reader(session, seq, Instant::now() + gateway.options.publish_wait).await;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_is_detached_has_the_rest_of_the_window() {
        assert_eq!(Detached::new(1000, 1400, 1000), Detached { for_ms: 400, expires_in_ms: 600 });
        assert_eq!(Detached::new(1000, 2400, 1000), Detached { for_ms: 1400, expires_in_ms: 0 });
        assert_eq!(Detached::new(1000, 900, 1000), Detached { for_ms: 0, expires_in_ms: 1000 });
    }
}
