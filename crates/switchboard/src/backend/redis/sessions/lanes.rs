//! Appends to one log, in the order of the calls whatever fails.
//!
//! The order matters: a message of a room that comes behind a later one counts as heard. So of each session one step is on its
//! way at a time, and takes with it all that came while the one before was.

use std::collections::{HashMap, VecDeque};
use std::sync::Mutex;

use switchboard_proto::id::ConnId;
use tokio::sync::oneshot;

use super::lock;
use crate::backend::BackendError;
use crate::backend::sessions::shards::Append;

/// Appends of all sessions that may wait, beyond which the next one fails at once.
const MAX_WAITING: usize = 4096;

/// Bytes of their events.
const MAX_WAITING_BYTES: usize = 64 << 20;

/// Appends that go in one step.
const BATCH: usize = 64;

/// Bytes of their events, but for one event.
const BATCH_BYTES: usize = 1 << 20;

/// The result of an append.
pub(super) type Appended = Result<Option<u64>, BackendError>;

/// An append that waits, and who waits for it.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) append: Append,
    pub(super) reply: oneshot::Sender<Appended>,
}

/// What waits, by session. A session whose step is on its way has a lane, if only an empty one.
#[derive(Debug, Default)]
pub(super) struct Lanes(Mutex<Inside>);

#[derive(Debug, Default)]
struct Inside {
    lanes: HashMap<ConnId, VecDeque<Waiting>>,
    count: usize,
    bytes: usize,
}

impl Lanes {
    /// Puts an append into its lane. `true`: the lane is new, and the caller has to see to it until [`Lanes::next`] has nothing.
    pub(super) fn push(&self, append: Append) -> Result<(bool, oneshot::Receiver<Appended>), BackendError> {
        let mut inside = lock(&self.0);
        let bytes = append.item.as_str().len();
        if inside.count >= MAX_WAITING || inside.bytes.saturating_add(bytes) > MAX_WAITING_BYTES {
            return Err(BackendError(
                "too many events wait to be appended: Redis is slower than what is published".into(),
            ));
        }
        inside.count += 1;
        inside.bytes += bytes;
        let is_new = !inside.lanes.contains_key(&append.id);
        let (reply, result) = oneshot::channel();
        inside.lanes.entry(append.id).or_default().push_back(Waiting { append, reply });
        Ok((is_new, result))
    }

    /// What goes in the next step of a session. Nothing: the lane is gone.
    pub(super) fn next(&self, id: ConnId) -> Vec<Waiting> {
        let mut inside = lock(&self.0);
        let Some(lane) = inside.lanes.get_mut(&id) else { return Vec::new() };
        let (mut next, mut bytes) = (Vec::new(), 0);
        while next.len() < BATCH
            && let Some(waiting) = lane.front()
            && (next.is_empty() || bytes + waiting.append.item.as_str().len() <= BATCH_BYTES)
            && let Some(waiting) = lane.pop_front()
        {
            bytes += waiting.append.item.as_str().len();
            next.push(waiting);
        }
        if next.is_empty() {
            inside.lanes.remove(&id);
        }
        inside.count -= next.len();
        inside.bytes -= bytes;
        next
    }
}

/// A lane that somebody sees to. Dropped before it is closed, what waits in it is answered with an error, and others may begin it
/// anew.
#[derive(Debug)]
pub(super) struct OpenLane<'a> {
    pub(super) lanes: &'a Lanes,
    pub(super) id: ConnId,
}

impl OpenLane<'_> {
    /// Nothing waited in it, so it is gone.
    pub(super) fn close(self) {
        std::mem::forget(self);
    }
}

impl Drop for OpenLane<'_> {
    fn drop(&mut self) {
        while !self.lanes.next(self.id).is_empty() {}
    }
}

#[cfg(test)]
mod tests {
    use switchboard_proto::shard::LogItem;

    use super::*;

    fn append(session: u128, text: &str) -> Append {
        let id = ConnId::session_from_random(session);
        Append { id, item: LogItem::new(text), room: None, is_gap: false, now_ms: 0 }
    }

    fn texts(waiting: &[Waiting]) -> Vec<&str> {
        waiting.iter().map(|waiting| waiting.append.item.as_str()).collect()
    }

    #[test]
    fn whatever_came_meanwhile_goes_together_and_in_order() {
        let lanes = Lanes::default();
        let id = append(1, "").id;
        assert!(lanes.push(append(1, "a")).unwrap().0);
        assert_eq!(texts(&lanes.next(id)), ["a"]);
        for text in ["b", "c"] {
            assert!(!lanes.push(append(1, text)).unwrap().0, "a step is on its way");
        }
        assert!(lanes.push(append(2, "other")).unwrap().0);
        assert_eq!(texts(&lanes.next(id)), ["b", "c"]);
        assert!(lanes.next(id).is_empty());
        assert!(lanes.push(append(1, "d")).unwrap().0, "the lane was gone");
    }

    #[test]
    fn a_lane_that_nobody_sees_to_any_more_is_begun_anew() {
        let lanes = Lanes::default();
        let id = append(1, "").id;
        lanes.push(append(1, "a")).unwrap();
        let lane = OpenLane { lanes: &lanes, id };
        assert_eq!(texts(&lanes.next(id)), ["a"]);
        let (_, mut result) = lanes.push(append(1, "b")).unwrap();
        drop(lane);
        assert!(result.try_recv().is_err(), "whoever waits is told");
        assert!(lanes.push(append(1, "c")).unwrap().0);
    }

    #[test]
    fn a_step_is_not_larger_than_it_should_be() {
        let lanes = Lanes::default();
        let large = "x".repeat(BATCH_BYTES);
        for text in [&large, "a", &large].into_iter().chain([""; BATCH]) {
            lanes.push(append(1, text)).unwrap();
        }
        let lengths: Vec<_> = std::iter::repeat_with(|| lanes.next(append(1, "").id).len()).take(5).collect();
        assert_eq!(lengths, [1, 1, BATCH, 1, 0], "one at least");
    }

    #[test]
    fn fault_row_51_what_waits_for_a_slow_store_is_bounded() {
        let lanes = Lanes::default();
        for number in 0..MAX_WAITING {
            lanes.push(append(number as u128, "")).unwrap();
        }
        assert!(lanes.push(append(1, "")).is_err());
        assert_eq!(lanes.next(append(1, "").id).len(), 1);
        lanes.push(append(1, &"x".repeat(MAX_WAITING_BYTES))).unwrap();
        lanes.next(append(2, "").id);
        assert!(lanes.push(append(2, "x")).is_err());
        assert!(lanes.push(append(2, "")).is_ok());
    }
}
