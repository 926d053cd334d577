//! The events of one session.

use std::collections::VecDeque;

use switchboard_proto::shard::{LogItem, LogPart, LoggedEvent};

/// For so many events a log keeps its place, also while it is empty.
const KEPT_PLACES: usize = 16;

/// Events with numbers without gaps: the newest is [`Log::last`], and those up to [`Log::floor`] are gone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::backend) struct Log {
    floor: u64,
    events: VecDeque<LogItem>,
    bytes: usize,
}

impl Log {
    /// A log whose next event is the one behind `floor`.
    pub(in crate::backend) fn new(floor: u64) -> Self {
        Self { floor, ..Self::default() }
    }

    /// The newest event.
    pub(in crate::backend) fn last(&self) -> u64 {
        self.floor + self.events.len() as u64
    }

    /// The newest event that is gone.
    pub(in crate::backend) fn floor(&self) -> u64 {
        self.floor
    }

    /// Whether there are no events.
    pub(in crate::backend) fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// How many events there are.
    pub(super) fn len(&self) -> usize {
        self.events.len()
    }

    /// Their bytes.
    pub(in crate::backend) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Appends an event, and returns its number.
    pub(in crate::backend) fn push(&mut self, item: LogItem) -> u64 {
        self.bytes += item.as_str().len();
        self.events.push_back(item);
        self.last()
    }

    /// Forgets the oldest event, and returns how many bytes it had.
    pub(super) fn pop(&mut self) -> usize {
        let Some(oldest) = self.events.pop_front() else { return 0 };
        self.floor += 1;
        let bytes = oldest.as_str().len();
        self.bytes -= bytes;
        // What a burst took is given back when it is over, half of it at a time: that costs little for each event.
        if self.events.capacity() > KEPT_PLACES && self.events.len() < self.events.capacity() / 4 {
            self.events.shrink_to(self.events.len() * 2);
        }
        bytes
    }

    /// Forgets the events up to `seq`.
    pub(super) fn forget(&mut self, seq: u64) {
        while self.floor < seq && !self.events.is_empty() {
            self.pop();
        }
    }

    /// The events behind `after`, at most so many events and bytes, one at least. `None`: some of them are gone.
    pub(super) fn read(&self, after: u64, max_events: usize, max_bytes: usize) -> Option<LogPart> {
        let skip = usize::try_from(after.checked_sub(self.floor)?).unwrap_or(usize::MAX);
        let mut part = LogPart::default();
        let mut bytes = 0;
        for (item, seq) in self.events.range(skip.min(self.events.len())..).zip(after.saturating_add(1)..) {
            bytes += item.as_str().len();
            if !part.events.is_empty() && (part.events.len() >= max_events || bytes > max_bytes) {
                part.has_more = true;
                break;
            }
            part.events.push(LoggedEvent { seq, item: item.clone() });
        }
        Some(part)
    }
}
