//! What is due later. Most connections never have anything here.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::hub::mail::ConnKey;

/// What a moment was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// Accepting failed for want of something; try again.
    Accept,
    /// A closing connection has had its time.
    Closing(ConnKey),
    /// A face asked to be woken.
    Face(ConnKey),
}

/// Moments, the earliest first. What a moment was asked for may be gone when it comes; whoever takes it looks.
#[derive(Debug, Default)]
pub(super) struct Deadlines {
    heap: BinaryHeap<Reverse<Moment>>,
    /// Tells moments of the same millisecond apart, in the order of asking.
    asked: u64,
}

#[derive(Debug)]
struct Moment {
    at_ms: u64,
    asked: u64,
    due: Due,
}

impl Moment {
    fn rank(&self) -> (u64, u64) {
        (self.at_ms, self.asked)
    }
}

impl PartialEq for Moment {
    fn eq(&self, other: &Self) -> bool {
        self.rank() == other.rank()
    }
}

impl Eq for Moment {}

impl PartialOrd for Moment {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Moment {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.rank().cmp(&other.rank())
    }
}

impl Deadlines {
    pub(super) fn push(&mut self, at_ms: u64, due: Due) {
        self.asked += 1;
        self.heap.push(Reverse(Moment { at_ms, asked: self.asked, due }));
    }

    /// When the next one is due.
    pub(super) fn next_ms(&self) -> Option<u64> {
        self.heap.peek().map(|Reverse(moment)| moment.at_ms)
    }

    /// Takes one that is due at `now_ms`.
    pub(super) fn pop(&mut self, now_ms: u64) -> Option<Due> {
        if self.next_ms()? > now_ms {
            return None;
        }
        self.heap.pop().map(|Reverse(moment)| moment.due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_come_in_order_and_not_before_their_time() {
        let key = |slot| ConnKey { slot, generation: 0 };
        let mut deadlines = Deadlines::default();
        deadlines.push(20, Due::Face(key(1)));
        deadlines.push(10, Due::Accept);
        deadlines.push(20, Due::Closing(key(2)));
        assert_eq!(deadlines.pop(9), None);
        assert_eq!(deadlines.pop(25), Some(Due::Accept));
        assert_eq!(deadlines.pop(25), Some(Due::Face(key(1))));
        assert_eq!(deadlines.pop(25), Some(Due::Closing(key(2))));
        assert_eq!((deadlines.pop(25), deadlines.next_ms()), (None, None));
    }
}
