use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const E: u64 = 10;

fn place(epoch: u64, number: u64) -> Place {
    Place { epoch, number }
}

/// A message that says its own place; its mark is made of that.
fn arrival(epoch: u64, number: u64, before: Option<Mark>, mark: u64) -> Arrival<(Place, u64)> {
    let place = place(epoch, number);
    Arrival { place, before, mark: Mark(mark), bytes: 10, message: (place, mark) }
}

/// The message of the one life that most tests have.
fn message(number: u64) -> Arrival<(Place, u64)> {
    arrival(E, number, Some(Mark(number - 1)).filter(|mark| mark.0 > 0), number)
}

fn point(epoch: u64, number: u64, mark: u64) -> Point {
    Point { place: place(epoch, number), mark: Some(Mark(mark)).filter(|mark| mark.0 > 0) }
}

fn at(number: u64) -> Feed<(Place, u64)> {
    let mut feed = Feed::new(1000);
    assert!(feed.head(None, point(E, number, number), &mut Vec::new()));
    feed
}

/// What comes out, in short: numbers, and gaps as texts.
fn shown(steps: &mut Vec<Step<(Place, u64)>>) -> Vec<String> {
    let show = |step: Step<(Place, u64)>| match step {
        Step::Deliver((place, _)) => place.number.to_string(),
        Step::Gap(Missed { first, last: Some(last), .. }) => format!("{first}-{last}"),
        Step::Gap(Missed { first, last: None, .. }) => format!("{first}-?"),
    };
    steps.drain(..).map(show).collect()
}

#[test]
fn what_follows_is_handed_on_and_what_came_before_is_not() {
    let (mut feed, mut steps) = (at(2), Vec::new());
    for number in [2, 3, 3, 1, 4] {
        feed.said(message(number), &mut steps);
    }
    assert_eq!((shown(&mut steps), feed.wanted()), (vec!["3".to_owned(), "4".to_owned()], None));
}

#[test]
fn what_comes_before_the_room_is_known_waits() {
    let (mut feed, mut steps) = (Feed::new(1000), Vec::new());
    for number in [4, 3, 2] {
        feed.said(message(number), &mut steps);
    }
    assert_eq!((feed.wanted(), steps.len()), (None, 0));
    assert!(feed.head(None, point(E, 2, 2), &mut steps));
    assert_eq!((shown(&mut steps), feed.wanted()), (vec!["3".to_owned(), "4".to_owned()], None));
}

#[test]
fn what_is_missing_is_looked_up_and_else_told() {
    let (mut feed, mut steps) = (at(0), Vec::new());
    feed.said(message(4), &mut steps);
    assert_eq!((feed.wanted(), steps.len()), (Some((place(E, 0), place(E, 4))), 0));
    feed.filled(vec![message(2), message(4)], place(E, 4), &mut steps);
    assert_eq!((shown(&mut steps), feed.wanted()), (["1-1", "2", "3-3", "4"].map(str::to_owned).to_vec(), None));
    assert!(feed.head(feed.heard(), point(E, 6, 6), &mut steps));
    feed.filled(Vec::new(), place(E, 6), &mut steps);
    feed.said(message(7), &mut steps);
    assert_eq!(shown(&mut steps), ["5-6", "7"]);
}

#[test]
fn what_comes_late_by_itself_is_not_looked_up_any_more() {
    let (mut feed, mut steps) = (at(0), Vec::new());
    for number in [2, 3] {
        feed.said(message(number), &mut steps);
    }
    assert!(feed.wanted().is_some());
    feed.said(message(1), &mut steps);
    assert_eq!((shown(&mut steps).len(), feed.wanted()), (3, None));
    feed.filled(vec![message(1), message(2)], place(E, 2), &mut steps);
    assert_eq!(steps, []);
}

#[test]
fn what_does_not_fit_while_something_is_missing_is_looked_up_too() {
    let (mut feed, mut steps) = (Feed::new(20), Vec::new());
    assert!(feed.head(None, point(E, 0, 0), &mut steps));
    for number in [2, 3, 4, 5] {
        feed.said(message(number), &mut steps);
    }
    assert_eq!(feed.wanted(), Some((place(E, 0), place(E, 5))));
    feed.filled(vec![message(1), message(2), message(3)], place(E, 3), &mut steps);
    assert_eq!(feed.wanted(), Some((place(E, 3), place(E, 5))));
    feed.filled(vec![message(4), message(5)], place(E, 5), &mut steps);
    assert_eq!((shown(&mut steps).len(), feed.wanted()), (5, None));
}

#[test]
fn fault_row_49_a_new_epoch_is_told_and_what_the_old_one_had_comes_before() {
    let (mut feed, mut steps) = (at(2), Vec::new());
    feed.said(arrival(E + 1, 1, Some(Mark(4)), 9), &mut steps);
    assert_eq!(feed.wanted(), Some((place(E, 2), place(E + 1, 1))));
    feed.filled(vec![message(2), message(3), message(4)], place(E + 1, 1), &mut steps);
    assert_eq!(shown(&mut steps), ["3", "4", "5-?", "1"]);
    feed.said(arrival(E + 1, 2, Some(Mark(9)), 11), &mut steps);
    feed.said(message(5), &mut steps);
    assert_eq!(shown(&mut steps), ["2"]);
}

#[test]
fn fault_row_49_a_store_that_has_lost_what_was_heard_is_found_out() {
    // It numbers on where others have been heard.
    let (mut feed, mut steps) = (at(5), Vec::new());
    feed.said(arrival(E, 6, Some(Mark(55)), 66), &mut steps);
    feed.filled(vec![arrival(E, 5, Some(Mark(4)), 55), arrival(E, 6, Some(Mark(55)), 66)], place(E, 6), &mut steps);
    assert_eq!(shown(&mut steps), ["6-?", "6"]);
    // The log does not reach back to what tells.
    let mut feed = at(5);
    feed.said(arrival(E, 6, Some(Mark(55)), 66), &mut steps);
    feed.filled(vec![arrival(E, 6, Some(Mark(55)), 66)], place(E, 6), &mut steps);
    assert_eq!(shown(&mut steps), ["6-?", "6"]);
    // Less was said than was lost, or as much: in a new epoch it goes on, and until then nothing is heard.
    for store in [point(E, 3, 3), point(E, 5, 55)] {
        let mut feed = at(5);
        assert!(!feed.head(feed.heard(), store, &mut steps));
        feed.said(arrival(E, 4, Some(Mark(3)), 44), &mut steps);
        assert_eq!((shown(&mut steps).len(), feed.wanted()), (0, None));
        assert!(feed.head(None, point(E + 1, 5, 55), &mut steps));
        feed.filled(Vec::new(), place(E + 1, 5), &mut steps);
        feed.said(arrival(E + 1, 6, Some(Mark(55)), 66), &mut steps);
        assert_eq!(shown(&mut steps), ["6-?", "6"]);
    }
}

#[test]
fn an_answer_that_is_older_than_what_has_come_says_nothing() {
    let (mut feed, mut steps) = (at(3), Vec::new());
    let asked = feed.heard();
    feed.said(message(4), &mut steps);
    assert!(feed.head(asked, point(E, 3, 3), &mut steps));
    assert_eq!((shown(&mut steps), feed.wanted()), (vec!["4".to_owned()], None));
}

/// What can happen between a store and a node.
#[derive(Clone, Debug)]
enum Happens {
    /// A message is said; whether it is published to the node.
    Said(bool),
    /// Of what is on its way this one arrives, and perhaps once more.
    Arrives(prop::sample::Index, bool),
    /// The log is read as far as one answer reaches.
    Filled(usize),
    /// The store is asked; so many messages arrive before the answer does.
    Head(usize),
    /// The log forgets its oldest.
    Trimmed,
    /// The store loses its latest messages and knows it (`true`: a new epoch), or does not.
    Lost(usize, bool),
}

fn happenings() -> impl Strategy<Value = Vec<Happens>> {
    let one = prop_oneof![
        8 => any::<bool>().prop_map(Happens::Said),
        8 => (any::<prop::sample::Index>(), any::<bool>()).prop_map(|(at, twice)| Happens::Arrives(at, twice)),
        3 => (1..6_usize).prop_map(Happens::Filled),
        3 => (0..3_usize).prop_map(Happens::Head),
        1 => Just(Happens::Trimmed),
        1 => (0..4_usize, any::<bool>()).prop_map(|(lost, is_known)| Happens::Lost(lost, is_known)),
    ];
    proptest::collection::vec(one, 1..120)
}

/// A store as simple as can be: all that was ever said, and what of it is the truth now.
struct Model {
    truth: BTreeMap<Place, Arrival<(Place, u64)>>,
    /// From which place on the log has what is true.
    log_from: Place,
    last: Point,
    marks: u64,
    on_its_way: Vec<Arrival<(Place, u64)>>,
    feed: Feed<(Place, u64)>,
    steps: Vec<Step<(Place, u64)>>,
    /// How often the store lost something since what was handed on last.
    all: BTreeMap<u64, Arrival<(Place, u64)>>,
}

impl Model {
    fn new() -> Self {
        let last = point(E, 0, 0);
        let mut feed = Feed::new(60);
        assert!(feed.head(None, last, &mut Vec::new()));
        let log_from = place(0, 0);
        let truth = BTreeMap::new();
        Self { truth, log_from, last, marks: 0, on_its_way: Vec::new(), feed, steps: Vec::new(), all: BTreeMap::new() }
    }

    fn happens(&mut self, what: Happens) {
        match what {
            Happens::Said(is_published) => {
                self.marks += 1;
                let Place { epoch, number } = self.last.place;
                let message = arrival(epoch, number + 1, self.last.mark, self.marks);
                self.last = Point { place: message.place, mark: Some(message.mark) };
                self.truth.insert(message.place, message.clone());
                self.all.insert(self.marks, message.clone());
                if is_published {
                    self.on_its_way.push(message);
                }
            }
            Happens::Arrives(at, twice) => {
                let count = self.on_its_way.len();
                self.arrives(if count > 0 { at.index(count) } else { 0 }, twice);
            }
            Happens::Filled(most) => {
                let Some((from, to)) = self.feed.wanted() else { return };
                // A store that has lost what is looked up gives what it has.
                let all: Vec<_> = if from <= to {
                    let log = self.truth.range(from..=to).filter(|(place, _)| **place >= self.log_from);
                    log.map(|(_, message)| message.clone()).collect()
                } else {
                    Vec::new()
                };
                let part: Vec<_> = all.iter().take(most).cloned().collect();
                let to = if part.len() < most { to } else { part.last().map_or(to, |last| last.place) };
                self.feed.filled(part, to, &mut self.steps);
            }
            Happens::Head(before_the_answer) => {
                let (asked, store) = (self.feed.heard(), self.last);
                for _ in 0..before_the_answer {
                    self.arrives(0, false);
                }
                if !self.feed.head(asked, store, &mut self.steps) {
                    self.last.place.epoch = self.epochs() + 1;
                    let known = asked.map_or(0, |asked| asked.place.number);
                    self.last.place.number = self.last.place.number.max(known);
                    assert!(self.feed.head(None, self.last, &mut self.steps));
                }
            }
            Happens::Trimmed => {
                if let Some((place, _)) = self.truth.range(self.log_from..).next() {
                    self.log_from = Place { number: place.number + 1, ..*place };
                }
            }
            Happens::Lost(count, is_known) => {
                for _ in 0..count {
                    self.truth.pop_last();
                }
                // Whoever listened to the store that was hears nothing of it any more.
                self.on_its_way.clear();
                self.last = self
                    .truth
                    .last_key_value()
                    .map_or(point(E, 0, 0), |(place, message)| Point { place: *place, mark: Some(message.mark) });
                if is_known {
                    self.last.place.epoch = self.last.place.epoch.max(self.epochs()) + 1;
                }
            }
        }
    }

    fn arrives(&mut self, at: usize, twice: bool) {
        if at < self.on_its_way.len() {
            let message = self.on_its_way.remove(at);
            if twice {
                self.on_its_way.push(message.clone());
            }
            self.feed.said(message, &mut self.steps);
        }
    }

    fn epochs(&self) -> u64 {
        let said = self.all.values().map(|message| message.place.epoch).max().unwrap_or(E);
        said.max(self.last.place.epoch)
    }

    /// All faults are over: the node finds out what there is.
    fn settle(&mut self) {
        for _ in 0..200 {
            self.happens(Happens::Head(0));
            self.happens(Happens::Filled(5));
        }
        assert_eq!(self.feed.wanted(), None);
    }

    /// Each message was handed on once, each behind the one before it, or behind a gap that names what is between.
    fn check(&self) -> Result<(), TestCaseError> {
        let mut seen = std::collections::HashSet::new();
        let mut last = point(E, 0, 0);
        let mut told: Option<Missed> = None;
        for step in &self.steps {
            match step {
                Step::Gap(missed) => {
                    prop_assert!(missed.last.is_none_or(|last| last >= missed.first), "{missed:?}");
                    // Of two gaps in a row one may be of unknown length.
                    told = Some(match told {
                        Some(before) if before.last.is_none() => before,
                        Some(before) => Missed { first: before.first, ..*missed },
                        None => *missed,
                    });
                }
                Step::Deliver((place, mark)) => {
                    prop_assert!(seen.insert(*mark), "{place:?} came twice");
                    let message = &self.all[mark];
                    match told.take() {
                        None => prop_assert_eq!(message.before, last.mark, "something is missing before {:?}", place),
                        Some(Missed { first, last: Some(to), .. }) => {
                            prop_assert_eq!((first, to), (last.place.number + 1, place.number - 1));
                        }
                        Some(_) => {}
                    }
                    last = Point { place: *place, mark: Some(Mark(*mark)) };
                }
            }
        }
        if told.is_none_or(|told| told.last.is_some_and(|to| to < self.last.place.number)) {
            prop_assert_eq!(last.mark, self.last.mark, "the end is missing");
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn fault_row_36_whatever_is_lost_late_or_twice_everything_comes_once_in_order_or_is_told(all in happenings()) {
        let mut model = Model::new();
        for happens in all {
            model.happens(happens);
        }
        model.settle();
        model.check()?;
    }
}
