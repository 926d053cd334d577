//! Finds the messages of a room that the log of a session lacks after another node has written it.

use switchboard_proto::call::HistoryRange;
use switchboard_proto::event::RoomMessage;
use switchboard_proto::id::RoomName;

use crate::backend::{BackendError, Broker};

use super::seats::Gap;

/// Messages that a log lacks.
#[derive(Debug)]
pub(super) struct Missed {
    /// Messages that the room no longer has. They precede `messages`.
    pub(super) gap: Option<Gap>,
    /// Messages that the room still has, in rising order.
    pub(super) messages: Vec<RoomMessage>,
}

/// Reads the messages of a room after number `heard`, up to number `up_to`.
///
/// # Errors
///
/// When the store fails.
pub(super) async fn read(broker: &dyn Broker, room: &RoomName, heard: u64, up_to: u64) -> Result<Missed, BackendError> {
    let mut limit = usize::try_from(up_to.saturating_sub(heard)).unwrap_or(usize::MAX).max(1);
    let mut messages = loop {
        let range = HistoryRange { room: room.clone(), before_ms: None, limit, unread_since_ms: None };
        let messages = broker.history(range).await?.map(|found| found.messages).unwrap_or_default();
        let reaches_back = messages.iter().any(|message| message.number <= heard + 1);
        if reaches_back || messages.len() < limit {
            break messages;
        }
        // The latest messages were published after `up_to`, and took the places of those that are wanted.
        limit = limit.saturating_mul(2);
    };
    messages.sort_unstable_by_key(|message| message.number);
    // If the room has such a message, this node has only not heard it yet, and the log lacks none.
    if up_to < heard && messages.last().is_none_or(|latest| latest.number < heard) {
        // Another room had this name before: the numbers began again at 1.
        return Ok(Missed { gap: Some(Gap { first: heard + 1, last: None }), messages: Vec::new() });
    }
    messages.retain(|message| message.number > heard && message.number <= up_to);
    let first = messages.first().map_or(up_to + 1, |message| message.number);
    // The room's history is bounded.
    let gap = (first > heard + 1).then_some(Gap { first: heard + 1, last: Some(first - 1) });
    Ok(Missed { gap, messages })
}

#[cfg(test)]
mod tests {
    use switchboard_proto::event::Sender;
    use switchboard_proto::json::RawJson;

    use crate::backend::memory::MemoryBroker;
    use crate::backend::{Draft, LogLimits};

    use super::*;

    const LIMITS: LogLimits =
        LogLimits { messages: 8, bytes: 1 << 20, total_bytes: 1 << 20, ids: 1, id_bytes: 1, id_ms: 1 };

    /// The gap, and the numbers of the messages after it, in a room where messages up to number `said` were published.
    async fn missed(said: u64, heard: u64, up_to: u64) -> (Option<Gap>, Vec<u64>) {
        let (broker, room) = (MemoryBroker::new(Vec::new(), LIMITS), RoomName::parse("lobby").unwrap());
        broker.open(&room).await.unwrap();
        for _ in 0..said {
            let (sender, body) = (Sender::Server, RawJson::from_text("x"));
            let (room, origin, user, extra) = (room.clone(), None, None, None);
            let draft = Draft { room, sender, body, sent_at: 0, origin, echo: false, user, extra };
            broker.publish(draft).await.unwrap();
        }
        let Missed { gap, messages } = read(&broker, &room, heard, up_to).await.unwrap();
        (gap, messages.iter().map(|message| message.number).collect())
    }

    #[tokio::test]
    async fn messages_that_are_published_while_the_room_is_read_displace_none_that_is_missed() {
        assert_eq!(missed(6, 1, 6).await, (None, vec![2, 3, 4, 5, 6]));
        assert_eq!(missed(7, 1, 6).await, (None, vec![2, 3, 4, 5, 6]));
        assert_eq!(missed(8, 0, 1).await, (None, vec![1]));
    }

    #[tokio::test]
    async fn messages_that_the_room_no_longer_has_are_a_gap_before_the_others() {
        assert_eq!(missed(12, 2, 6).await, (Some(Gap { first: 3, last: Some(4) }), vec![5, 6]));
        assert_eq!(missed(20, 2, 6).await, (Some(Gap { first: 3, last: Some(6) }), vec![]));
    }

    #[tokio::test]
    async fn a_node_that_has_not_heard_the_latest_messages_of_a_room_yet_tells_no_gap() {
        assert_eq!(missed(7, 7, 6).await, (None, vec![]));
        assert_eq!(missed(8, 7, 6).await, (None, vec![]));
    }

    #[tokio::test]
    async fn a_room_whose_numbers_began_again_has_a_gap_without_an_end() {
        assert_eq!(missed(6, 7, 6).await, (Some(Gap { first: 8, last: None }), vec![]));
        assert_eq!(missed(0, 7, 0).await, (Some(Gap { first: 8, last: None }), vec![]));
    }
}
