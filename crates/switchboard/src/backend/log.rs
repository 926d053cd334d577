//! What a broker remembers of each room: what was said lately, and under which ids.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use switchboard_proto::call::HistoryRange;
use switchboard_proto::event::RoomMessage;
use switchboard_proto::user::User;

use super::RoomHistory;

/// How much is remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogLimits {
    /// Messages of one room (`rooms.history_messages`).
    pub messages: usize,
    /// Bytes of one room's messages (`rooms.history_bytes`).
    pub bytes: usize,
    /// Bytes of all rooms' messages (`rooms.history_total_bytes`). Not in Redis, where rooms share nothing.
    pub total_bytes: usize,
    /// Ids of one room that senders chose (`rooms.message_ids_max`).
    pub ids: usize,
    /// Bytes of the messages that are remembered for such ids, in one room (`rooms.message_ids_bytes`).
    pub id_bytes: usize,
    /// How long such an id is remembered, in milliseconds (`rooms.message_id_memory`).
    pub id_ms: u64,
}

impl Default for LogLimits {
    fn default() -> Self {
        Self { messages: 100, bytes: 64 << 10, total_bytes: 64 << 20, ids: 1000, id_bytes: 1 << 20, id_ms: 300_000 }
    }
}

/// The log of one room, in rising numbers.
#[derive(Debug, Default)]
pub(super) struct Log {
    messages: VecDeque<RoomMessage>,
    bytes: usize,
    /// Rooms in which nobody chooses ids have none.
    ids: Option<Box<Ids>>,
}

/// Bytes of the logs of all rooms.
#[derive(Debug, Default)]
pub(super) struct LogBytes(AtomicUsize);

#[derive(Debug, Default)]
struct Ids {
    messages: HashMap<Arc<str>, RoomMessage>,
    /// What they count together.
    bytes: usize,
    /// In the order of coming, with the time of coming.
    order: VecDeque<(u64, Arc<str>)>,
}

/// Whether an id was used before.
#[derive(Debug)]
pub(super) enum Earlier {
    /// By the same user: his message.
    Same(Box<RoomMessage>),
    /// By somebody else.
    Other,
}

impl Log {
    /// What was said under an id that a sender chose, if it is remembered at `now_ms`.
    pub(super) fn earlier(
        &mut self,
        id: &str,
        user: Option<&User>,
        now_ms: u64,
        limits: &LogLimits,
    ) -> Option<Earlier> {
        let ids = self.ids.as_mut()?;
        ids.forget(now_ms, limits);
        let message = ids.messages.get(id)?;
        let is_same = message.user.as_ref().map(User::id) == user.map(User::id);
        Some(if is_same { Earlier::Same(Box::new(message.clone())) } else { Earlier::Other })
    }

    /// Remembers a message; what is too much goes, the oldest first.
    pub(super) fn push(&mut self, message: &RoomMessage, limits: &LogLimits, total: &LogBytes) {
        if let Some(id) = message.extra.as_ref().and_then(|extra| extra.id.as_deref()) {
            let ids = self.ids.get_or_insert_default();
            let id: Arc<str> = id.into();
            ids.order.push_back((message.sent_at, Arc::clone(&id)));
            ids.bytes += weight(message);
            ids.messages.insert(id, message.clone());
            ids.forget(message.sent_at, limits);
        }
        let bytes = weight(message);
        if limits.messages == 0 || bytes > limits.bytes {
            // What would not fit by itself leaves no room for what came before either.
            self.clear(total);
            return;
        }
        while self.messages.len() >= limits.messages || self.bytes + bytes > limits.bytes {
            self.pop(total);
        }
        // Rooms where much is said make room for what is said in them; others keep theirs.
        while total.0.load(Ordering::Relaxed) + bytes > limits.total_bytes {
            if !self.pop(total) {
                return;
            }
        }
        total.0.fetch_add(bytes, Ordering::Relaxed);
        self.bytes += bytes;
        self.messages.push_back(message.clone());
    }

    /// All messages that are remembered, in rising order.
    pub(super) fn all(&self) -> impl Iterator<Item = &RoomMessage> {
        self.messages.iter()
    }

    /// What is remembered of a range.
    pub(super) fn range(&self, range: &HistoryRange) -> RoomHistory {
        let before = |message: &&RoomMessage| range.before_ms.is_none_or(|before_ms| message.sent_at < before_ms);
        let mut found = self.messages.iter().rev().filter(before);
        let messages = found.by_ref().take(range.limit).cloned().collect();
        let unread = |message: &&RoomMessage| range.unread_since_ms.is_some_and(|since| message.sent_at > since);
        RoomHistory { messages, unread_not_loaded: found.filter(unread).count() }
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self, total: &LogBytes) {
        while self.pop(total) {}
    }

    fn pop(&mut self, total: &LogBytes) -> bool {
        let Some(message) = self.messages.pop_front() else { return false };
        let bytes = weight(&message);
        self.bytes -= bytes;
        total.0.fetch_sub(bytes, Ordering::Relaxed);
        true
    }
}

impl Ids {
    fn forget(&mut self, now_ms: u64, limits: &LogLimits) {
        while let Some((came_ms, id)) = self.order.front() {
            let is_within = self.order.len() <= limits.ids && self.bytes <= limits.id_bytes;
            if came_ms + limits.id_ms > now_ms && is_within {
                return;
            }
            self.bytes -= self.messages.remove(id).as_ref().map_or(0, weight);
            self.order.pop_front();
        }
    }
}

/// Bytes that a message counts.
fn weight(message: &RoomMessage) -> usize {
    size_of::<RoomMessage>() + message.body.as_str().len() + message.attachment().map_or(0, |json| json.as_str().len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use switchboard_proto::event::{MessageExtra, Sender};
    use switchboard_proto::id::RoomName;
    use switchboard_proto::json::RawJson;

    fn message(number: u64, id: Option<&str>, user: &str) -> RoomMessage {
        RoomMessage {
            room: RoomName::parse("lobby").unwrap(),
            number,
            sender: Sender::Server,
            body: RawJson::from_text("hello"),
            sent_at: number * 10,
            epoch: 1,
            user: User::new(user).ok(),
            extra: id.map(|id| Box::new(MessageExtra { id: Some(id.into()), attachment: None })),
        }
    }

    fn numbers(log: &Log, before_ms: Option<u64>, limit: usize, unread_since_ms: Option<u64>) -> (Vec<u64>, usize) {
        let room = RoomName::parse("lobby").unwrap();
        let found = log.range(&HistoryRange { room, before_ms, limit, unread_since_ms });
        (found.messages.iter().map(|message| message.number).collect(), found.unread_not_loaded)
    }

    #[test]
    fn the_latest_messages_are_kept_and_found_by_time() {
        let (mut log, total) = (Log::default(), LogBytes::default());
        let limits = LogLimits { messages: 4, ..LogLimits::default() };
        for number in 1..=6 {
            log.push(&message(number, None, "u1"), &limits, &total);
        }
        assert_eq!(numbers(&log, None, 10, None), (vec![6, 5, 4, 3], 0));
        assert_eq!(numbers(&log, Some(60), 2, Some(30)), (vec![5, 4], 0));
        assert_eq!(numbers(&log, Some(60), 1, Some(29)), (vec![5], 2));
        log.clear(&total);
        assert_eq!(total.0.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn bytes_are_bounded_for_a_room_and_for_all_together() {
        let bytes = weight(&message(1, None, "u1"));
        let total = LogBytes::default();
        let (mut one, mut other) = (Log::default(), Log::default());
        let limits = LogLimits { bytes: 3 * bytes, total_bytes: 4 * bytes, ..LogLimits::default() };
        for number in 1..=5 {
            one.push(&message(number, None, "u1"), &limits, &total);
        }
        assert_eq!(numbers(&one, None, 10, None).0, [5, 4, 3]);
        for number in 1..=3 {
            other.push(&message(number, None, "u1"), &limits, &total);
        }
        assert_eq!(numbers(&other, None, 10, None).0, [3]);
        assert_eq!(numbers(&one, None, 10, None).0, [5, 4, 3]);
        assert_eq!(total.0.load(Ordering::Relaxed), 4 * bytes);
        let off = LogLimits { messages: 0, ..limits };
        one.push(&message(6, None, "u1"), &off, &total);
        assert_eq!(numbers(&one, None, 10, None).0, [0; 0]);
    }

    #[test]
    fn an_id_is_known_to_its_user_for_a_while_and_taken_for_others() {
        let (mut log, total) = (Log::default(), LogBytes::default());
        let limits = LogLimits { ids: 2, id_ms: 100, ..LogLimits::default() };
        let [one, two] = ["u1", "u2"].map(|user| User::new(user).unwrap());
        log.push(&message(1, Some("a"), "u1"), &limits, &total);
        assert!(matches!(log.earlier("a", Some(&one), 109, &limits), Some(Earlier::Same(found)) if found.number == 1));
        assert!(matches!(log.earlier("a", Some(&two), 109, &limits), Some(Earlier::Other)));
        assert!(log.earlier("a", Some(&one), 110, &limits).is_none());
        // Those that are large leave earlier.
        let (mut large, bytes) = (Log::default(), weight(&message(1, Some("a"), "u1")));
        let few = LogLimits { ids: 10, id_bytes: 2 * bytes, ..limits };
        for (number, id) in [(1, "a"), (2, "b"), (3, "c")] {
            large.push(&message(number, Some(id), "u1"), &few, &total);
        }
        let is_known = ["a", "b", "c"].map(|id| large.earlier(id, Some(&one), 40, &few).is_some());
        assert_eq!(is_known, [false, true, true]);
        for (number, id) in [(2, "b"), (3, "c"), (4, "d")] {
            log.push(&message(number, Some(id), "u1"), &limits, &total);
        }
        assert!(log.earlier("b", Some(&one), 40, &limits).is_none());
        assert!(log.earlier("c", Some(&one), 40, &limits).is_some());
    }
}
