//! What one node knows of one room: pure, without a clock, a lock or a runtime.
//!
//! Messages come in any order, more than once, or not at all; each says which one was before it. What follows what was heard last is
//! handed on; for the rest the room's log is asked, and what it cannot give either is told. Messages are known by their *place*, epoch
//! and number, and by their *mark*, a random number: a store that has lost confirmed messages gives their numbers again, and only the
//! marks tell.

use std::collections::BTreeMap;

use crate::hub::mail::Missed;

/// Where in a room's life a message stands. Later ones are greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    /// Which life of the room.
    pub(super) epoch: u64,
    /// The number in it; 0: before the first.
    pub(super) number: u64,
}

/// What tells a message from another one in the same place. Never 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark(pub(super) u64);

/// A place, and the mark of the message there if it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Point {
    pub(super) place: Place,
    pub(super) mark: Option<Mark>,
}

/// A message as it comes.
#[derive(Clone, Debug)]
pub(super) struct Arrival<T> {
    pub(super) place: Place,
    /// The mark of the message before it; none: there is none.
    pub(super) before: Option<Mark>,
    pub(super) mark: Mark,
    /// What it counts while it waits.
    pub(super) bytes: usize,
    pub(super) message: T,
}

/// What members get, in this order.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step<T> {
    /// A message.
    Deliver(T),
    /// Messages are missing here, for good.
    Gap(Missed),
}

impl<T> Step<T> {
    /// Whether it is a message.
    pub(super) const fn is_message(&self) -> bool {
        matches!(self, Self::Deliver(_))
    }
}

/// What a node knows of a room.
#[derive(Debug)]
pub(super) struct Feed<T> {
    /// Up to where everything was handed on or told. `None`: nobody knows yet where the room stands.
    heard: Option<Point>,
    /// Messages before which something is missing.
    waiting: BTreeMap<Place, Arrival<T>>,
    waiting_bytes: usize,
    most_bytes: usize,
    /// Up to here there is something that has not come.
    missing: Option<Point>,
}

impl<T> Feed<T> {
    /// A room of which nothing is known. Beyond `most_bytes` nothing waits: it is looked up in the log again.
    pub(super) fn new(most_bytes: usize) -> Self {
        Self { heard: None, waiting: BTreeMap::new(), waiting_bytes: 0, most_bytes, missing: None }
    }

    /// Up to where everything was handed on or told.
    pub(super) fn heard(&self) -> Option<Point> {
        self.heard
    }

    /// What is to be looked up in the log: from the first place, which was heard, to the second one.
    pub(super) fn wanted(&self) -> Option<(Place, Place)> {
        Some((self.heard?.place, self.missing?.place))
    }

    /// A message has come.
    pub(super) fn said(&mut self, arrival: Arrival<T>, steps: &mut Vec<Step<T>>) {
        match self.heard {
            Some(heard) if arrival.place <= heard.place => {}
            Some(heard) if follows(&arrival, heard) => {
                self.hand_on(arrival, steps);
                self.advance(steps);
            }
            _ => {
                self.miss(Point { place: arrival.place, mark: Some(arrival.mark) });
                self.wait(arrival);
            }
        }
    }

    /// The store says where the room stands. `asked` is [`Feed::heard`] at the moment when it was asked: by the time of its answer more
    /// may have come. `false`: the store has lost what was heard, and has to begin a new epoch. Nothing is heard of the present one any
    /// more: what was heard of it before could come once more, late.
    #[must_use]
    pub(super) fn head(&mut self, asked: Option<Point>, store: Point, steps: &mut Vec<Step<T>>) -> bool {
        let Some(heard) = self.heard else {
            self.heard = Some(store);
            self.missing = None;
            self.advance(steps);
            return true;
        };
        if asked.is_some_and(|asked| store.place < asked.place || is_other(store, asked)) {
            return false;
        }
        if store.place > heard.place {
            self.miss(store);
        }
        true
    }

    /// The log has been read: these are all that it has behind what was heard, and that itself if it still has it, up to `to`.
    pub(super) fn filled(&mut self, entries: Vec<Arrival<T>>, to: Place, steps: &mut Vec<Step<T>>) {
        for entry in entries {
            let Some(heard) = self.heard else { return };
            if entry.place == heard.place && heard.mark.is_some_and(|mark| mark != entry.mark) {
                // What was heard there is lost, and with it perhaps more.
                steps.push(Step::Gap(unknown(heard.place)));
                self.heard = Some(Point { mark: Some(entry.mark), ..heard });
            }
            if entry.place <= heard.place || entry.place > to {
                continue;
            }
            self.step_over_waiting(|place| place < entry.place, steps);
            self.forget_waiting(entry.place);
            self.step_over(entry, steps);
        }
        self.step_over_waiting(|place| place <= to, steps);
        let Some(heard) = self.heard else { return };
        if heard.place < to {
            steps.push(Step::Gap(between(heard.place, to)));
            let mark = self.missing.filter(|missing| missing.place == to).and_then(|missing| missing.mark);
            self.heard = Some(Point { place: to, mark });
        }
        self.advance(steps);
    }

    /// Something up to here has not come.
    fn miss(&mut self, point: Point) {
        if self.missing.is_none_or(|missing| missing.place < point.place) {
            self.missing = Some(point);
        }
    }

    fn wait(&mut self, arrival: Arrival<T>) {
        if self.waiting_bytes + arrival.bytes <= self.most_bytes && !self.waiting.contains_key(&arrival.place) {
            self.waiting_bytes += arrival.bytes;
            self.waiting.insert(arrival.place, arrival);
        }
    }

    fn forget_waiting(&mut self, place: Place) -> Option<Arrival<T>> {
        let arrival = self.waiting.remove(&place)?;
        self.waiting_bytes -= arrival.bytes;
        Some(arrival)
    }

    fn step_over_waiting(&mut self, is_due: impl Fn(Place) -> bool, steps: &mut Vec<Step<T>>) {
        while let Some(&place) = self.waiting.keys().next().filter(|place| is_due(**place)) {
            if let Some(arrival) = self.forget_waiting(place)
                && self.heard.is_some_and(|heard| place > heard.place)
            {
                self.step_over(arrival, steps);
            }
        }
    }

    /// Hands a message on although what is before it cannot be had.
    fn step_over(&mut self, arrival: Arrival<T>, steps: &mut Vec<Step<T>>) {
        let Some(heard) = self.heard else { return };
        if !follows(&arrival, heard) {
            let is_next = arrival.place.epoch == heard.place.epoch && arrival.place.number == heard.place.number + 1;
            let before = Place { number: arrival.place.number - 1, ..arrival.place };
            steps.push(Step::Gap(if is_next { unknown(heard.place) } else { between(heard.place, before) }));
        }
        self.hand_on(arrival, steps);
    }

    fn hand_on(&mut self, arrival: Arrival<T>, steps: &mut Vec<Step<T>>) {
        self.heard = Some(Point { place: arrival.place, mark: Some(arrival.mark) });
        steps.push(Step::Deliver(arrival.message));
    }

    /// Hands on what waits as far as nothing is missing.
    fn advance(&mut self, steps: &mut Vec<Step<T>>) {
        let Some(mut heard) = self.heard else { return };
        while let Some((&place, first)) = self.waiting.first_key_value() {
            let is_next = follows(first, heard);
            if !is_next && place > heard.place {
                break;
            }
            let Some(arrival) = self.forget_waiting(place) else { break };
            if is_next {
                heard = Point { place, mark: Some(arrival.mark) };
                self.hand_on(arrival, steps);
            }
        }
        if self.missing.is_some_and(|missing| missing.place <= heard.place) {
            self.missing = None;
        }
        if let Some((&place, last)) = self.waiting.last_key_value() {
            self.miss(Point { place, mark: Some(last.mark) });
        }
    }
}

/// Whether nothing is missing between what was heard last and this.
fn follows<T>(arrival: &Arrival<T>, heard: Point) -> bool {
    let is_next = arrival.place.epoch == heard.place.epoch && arrival.place.number == heard.place.number + 1;
    // After a gap at whose end nobody knows what stands nothing can be compared.
    is_next && heard.mark.is_none_or(|mark| arrival.before == Some(mark))
}

/// Whether the same place has another message.
fn is_other(store: Point, asked: Point) -> bool {
    store.place == asked.place && store.mark.zip(asked.mark).is_some_and(|(one, other)| one != other)
}

/// What is missing behind `heard`, up to `to`.
fn between(heard: Place, to: Place) -> Missed {
    if heard.epoch == to.epoch {
        Missed { first: heard.number + 1, last: Some(to.number), restarts: false }
    } else {
        unknown(heard)
    }
}

/// Nobody knows how much is missing behind `heard`, and numbers may begin anew.
fn unknown(heard: Place) -> Missed {
    Missed { first: heard.number + 1, last: None, restarts: true }
}

#[cfg(test)]
mod tests;
