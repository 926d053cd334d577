//! Keeping up with what another node says about its connections, though some of it may get lost.
//!
//! A node tells all others of every change, in order and numbered. Whoever misses one, or has just met the node, asks for all there
//! is, part by part; changes go on in between. The parts come in order with the changes, each with the number of the latest change
//! before it: so the follower knows that nothing is missing when the last part is there, and what was in none of them has ended.

use std::collections::{HashMap, HashSet};

use crate::proto::id::ConnId;

/// What one node knows of the connections of another. `T` is what it keeps of each besides.
#[derive(Debug)]
pub struct Follower<T> {
    known: HashMap<ConnId, T>,
    /// Which life of the other node it follows: numbers begin anew with each.
    line: u64,
    /// The number of the latest change.
    seen: u64,
    progress: Progress,
    /// Which time it asks for everything: parts of an earlier one are passed over.
    round: u64,
    /// Those of which no part and no change has told since this round began.
    unsure: HashSet<ConnId>,
    began_ms: Option<u64>,
    asked_ms: u64,
    patience_ms: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    /// Something was missed.
    Lost,
    /// The part behind this rank was asked for.
    Asking(u64),
    /// Nothing is missing.
    Whole,
}

/// What to ask the other node: a part of what there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AskPart {
    /// To be repeated in the answer.
    pub round: u64,
    /// Connections behind this rank; 0: from the first.
    pub after: u64,
}

/// How a part begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartHead {
    /// Which life of its node says so.
    pub line: u64,
    /// The number of the latest change before it.
    pub number: u64,
    /// To what it answers.
    pub asked: AskPart,
    /// The rank behind which the next part begins; none: this is the last.
    pub next: Option<u64>,
}

impl<T> Follower<T> {
    /// Pause between two beginnings: a node that loses much is not asked for everything all the time.
    const PAUSE_MS: u64 = 1000;

    /// Knows nothing yet. A part is waited for this long.
    pub fn new(patience_ms: u64) -> Self {
        Self {
            known: HashMap::new(),
            line: 0,
            seen: 0,
            progress: Progress::Lost,
            round: 0,
            unsure: HashSet::new(),
            began_ms: None,
            asked_ms: 0,
            patience_ms,
        }
    }

    /// The other node has told of a change, which is to be believed in any case. With `is_new` it is a change, else only a
    /// reminder of the number of the latest.
    pub fn heed(&mut self, line: u64, number: u64, is_new: bool, now_ms: u64) -> Option<AskPart> {
        let is_first_awaited = self.progress == Progress::Asking(0);
        let expected = self.seen + u64::from(is_new);
        if line == self.line && number == expected {
            self.seen = number;
            return None;
        }
        // Before the first part is there nothing is known that a change could be missing from.
        if is_first_awaited { None } else { self.begin(now_ms) }
    }

    /// A part has come. Whether its connections are to be believed; [`Follower::finish`] is called behind them.
    pub fn accept(&mut self, head: &PartHead) -> bool {
        let is_asked = head.asked.round == self.round && self.progress == Progress::Asking(head.asked.after);
        if !is_asked {
            return false;
        }
        if head.asked.after == 0 {
            (self.line, self.seen) = (head.line, head.number);
            self.unsure = self.known.keys().copied().collect();
        } else if (self.line, self.seen) != (head.line, head.number) {
            self.progress = Progress::Lost;
        }
        self.progress != Progress::Lost
    }

    /// The connections of an accepted part are known now: what to ask next, and, behind the last part, which have ended.
    pub fn finish(&mut self, head: &PartHead, now_ms: u64) -> (Option<AskPart>, Vec<ConnId>) {
        match head.next {
            // Ranks rise, or there would be no end.
            Some(next) if next > head.asked.after => (Some(self.ask(next, now_ms)), Vec::new()),
            Some(_) => (self.begin(now_ms), Vec::new()),
            None => {
                self.progress = Progress::Whole;
                (None, self.unsure.drain().collect())
            }
        }
    }

    /// From time to time: asks again where no answer came.
    pub fn tick(&mut self, now_ms: u64) -> Option<AskPart> {
        let is_late = now_ms.saturating_sub(self.asked_ms) > self.patience_ms;
        match self.progress {
            Progress::Whole => None,
            Progress::Asking(_) if !is_late => None,
            Progress::Asking(_) | Progress::Lost => self.begin(now_ms),
        }
    }

    /// Something may have been missed: asks for everything, at once or with the next tick.
    pub fn begin(&mut self, now_ms: u64) -> Option<AskPart> {
        self.progress = Progress::Lost;
        if self.began_ms.is_some_and(|began_ms| now_ms.saturating_sub(began_ms) < Self::PAUSE_MS) {
            return None;
        }
        self.began_ms = Some(now_ms);
        self.round += 1;
        Some(self.ask(0, now_ms))
    }

    fn ask(&mut self, after: u64, now_ms: u64) -> AskPart {
        self.progress = Progress::Asking(after);
        self.asked_ms = now_ms;
        AskPart { round: self.round, after }
    }

    /// A connection is there, with this.
    pub fn insert(&mut self, connection: ConnId, kept: T) -> Option<T> {
        self.unsure.remove(&connection);
        self.known.insert(connection, kept)
    }

    /// A connection has ended.
    pub fn remove(&mut self, connection: ConnId) -> Option<T> {
        self.unsure.remove(&connection);
        self.known.remove(&connection)
    }

    /// The other node is gone, and all its connections with it: those that were known. It may come back.
    pub fn lose(&mut self) -> HashMap<ConnId, T> {
        let known = std::mem::take(&mut self.known);
        // Parts of before are not taken for those of a node that comes back.
        *self = Self { round: self.round, ..Self::new(self.patience_ms) };
        known
    }

    /// Everything that is known.
    pub fn known(&self) -> &HashMap<ConnId, T> {
        &self.known
    }

    /// Whether nothing is missing, as far as can be known.
    pub fn is_whole(&self) -> bool {
        self.progress == Progress::Whole
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conn(number: u128) -> ConnId {
        ConnId::from_random(number << 96)
    }

    fn head(number: u64, asked: AskPart, next: Option<u64>) -> PartHead {
        PartHead { line: 7, number, asked, next }
    }

    /// One that was told everything: connections 1 and 2, up to change 10.
    fn whole() -> Follower<()> {
        let mut follower = Follower::new(2000);
        let asked = follower.tick(5000).unwrap();
        assert_eq!(asked, AskPart { round: 1, after: 0 });
        // Changes before the first part are believed, and tell nothing about what is missing.
        assert_eq!(follower.heed(7, 9, true, 5000), None);
        let first = head(10, asked, Some(3));
        assert!(follower.accept(&first));
        follower.insert(conn(1), ());
        let (next, gone) = follower.finish(&first, 5000);
        assert_eq!((next, gone.len()), (Some(AskPart { round: 1, after: 3 }), 0));
        assert!(!follower.is_whole());
        let last = head(10, next.unwrap(), None);
        assert!(follower.accept(&last));
        follower.insert(conn(2), ());
        assert_eq!(follower.finish(&last, 5000), (None, vec![]));
        assert!(follower.is_whole());
        follower
    }

    #[test]
    fn whoever_hears_every_change_asks_for_nothing() {
        let mut follower = whole();
        assert_eq!((follower.heed(7, 11, true, 5001), follower.heed(7, 11, false, 5002)), (None, None));
        assert_eq!(follower.tick(100_000), None);
    }

    #[test]
    fn a_change_that_was_missed_is_noticed_by_the_next_or_by_the_reminder() {
        for (number, is_new) in [(12, true), (11, false), (10, true)] {
            let mut follower = whole();
            let asked = follower.heed(7, number, is_new, 6000);
            assert_eq!(asked, Some(AskPart { round: 2, after: 0 }), "{number} {is_new}");
            let all = head(12, asked.unwrap(), None);
            assert!(follower.accept(&all));
            follower.insert(conn(2), ());
            assert_eq!(follower.finish(&all, 6000), (None, vec![conn(1)]), "what nobody tells of has ended");
        }
    }

    #[test]
    fn another_life_of_a_node_is_asked_for_everything() {
        assert!(whole().heed(8, 11, true, 6000).is_some());
    }

    #[test]
    fn a_change_that_was_missed_between_two_parts_is_noticed() {
        let mut follower = whole();
        let asked = follower.heed(7, 20, true, 6000).unwrap();
        let first = head(20, asked, Some(3));
        assert!(follower.accept(&first));
        let next = follower.finish(&first, 6000).0.unwrap();
        assert!(!follower.accept(&head(21, next, None)));
        assert_eq!(follower.tick(6500), None, "not all the time");
        assert_eq!(follower.tick(7000), Some(AskPart { round: 3, after: 0 }));
    }

    #[test]
    fn a_node_that_comes_back_is_asked_for_everything_at_once() {
        let mut follower = whole();
        assert_eq!((follower.lose().len(), follower.known().len()), (2, 0));
        assert_eq!(follower.heed(7, 11, true, 5001), Some(AskPart { round: 2, after: 0 }));
        assert_eq!(follower.tick(7001), None, "with as much patience as before");
    }

    #[test]
    fn parts_that_were_not_asked_for_are_passed_over() {
        let mut follower = whole();
        assert!(!follower.accept(&head(10, AskPart { round: 1, after: 3 }, None)));
        let asked = follower.begin(6000).unwrap();
        assert!(!follower.accept(&head(10, AskPart { round: 1, ..asked }, None)));
        assert!(!follower.accept(&head(10, AskPart { after: 9, ..asked }, None)));
        // Ranks that do not rise would never end.
        let stuck = head(10, asked, Some(0));
        assert!(follower.accept(&stuck));
        assert_eq!(follower.finish(&stuck, 6001).0, None);
        assert!(follower.tick(7000).is_some());
    }

    #[test]
    fn a_part_that_does_not_come_is_asked_for_anew() {
        let mut follower = whole();
        follower.begin(6000).unwrap();
        assert_eq!(follower.tick(8000), None);
        assert_eq!(follower.tick(8001), Some(AskPart { round: 3, after: 0 }));
    }
}
