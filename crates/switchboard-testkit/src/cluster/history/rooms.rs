//! Messages of rooms: order, gaps, repetitions, losses.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::others::{Stay, stays};
use super::{Entry, Event, Name, Violation};

pub(super) fn check(entries: &[Entry]) -> Vec<Violation> {
    let mut violations = Vec::new();
    let mut rooms: BTreeMap<Name, Room> = BTreeMap::new();
    for (room, stays) in stays(entries) {
        rooms.insert(room.clone(), Room::new(room, stays));
    }
    for (at, entry) in entries.iter().enumerate() {
        let (Event::Sent { room, .. }
        | Event::Acknowledged { room, .. }
        | Event::Heard { room, .. }
        | Event::Gap { room, .. }) = &entry.event
        else {
            continue;
        };
        let known = rooms.entry(room.clone()).or_insert_with(|| Room::new(room.clone(), Vec::new()));
        known.take(at, &entry.event, &mut violations);
    }
    for room in rooms.values_mut() {
        room.check_numbers(&mut violations);
        let known = Known::of(room);
        for visit in &room.visits {
            room.check_visit(visit, &known, &mut violations);
        }
        room.check_losses(&mut violations);
    }
    violations
}

/// What a history has of one room.
struct Room {
    name: Name,
    visits: Vec<Visit>,
    /// The latest stay of each client that has begun, as the entries are gone through.
    current: HashMap<u32, Vec<usize>>,
    /// By the messages' ids.
    said: BTreeMap<u64, Said>,
    numbers: HashMap<u64, u64>,
    /// Which messages each client has heard.
    heard: HashMap<u32, HashSet<u64>>,
}

/// A message, from the side of who said it.
struct Said {
    client: u32,
    at: usize,
    is_acknowledged: bool,
}

/// A stay and what was heard in it.
struct Visit {
    stay: Stay,
    news: Vec<News>,
}

#[derive(Clone, Copy)]
enum News {
    Heard { id: Option<u64>, number: Option<u64> },
    Gap { first: u64, last: Option<u64> },
}

impl Room {
    fn new(name: Name, stays: Vec<Stay>) -> Self {
        let mut current: HashMap<u32, Vec<usize>> = HashMap::new();
        for (index, stay) in stays.iter().enumerate() {
            current.entry(stay.client).or_default().push(index);
        }
        let visits = stays.into_iter().map(|stay| Visit { stay, news: Vec::new() }).collect();
        Self { name, visits, current, said: BTreeMap::new(), numbers: HashMap::new(), heard: HashMap::new() }
    }

    fn take(&mut self, at: usize, event: &Event, violations: &mut Vec<Violation>) {
        match *event {
            Event::Sent { client, id, .. } => {
                self.said.insert(id, Said { client, at, is_acknowledged: false });
            }
            Event::Acknowledged { client, id, number, .. } => {
                if let Some(said) = self.said.get_mut(&id) {
                    said.is_acknowledged = true;
                }
                self.number(client, id, number, violations);
            }
            Event::Heard { client, id, number, .. } => {
                if let Some(id) = id {
                    self.number(client, id, number, violations);
                    if !self.heard.entry(client).or_default().insert(id) {
                        violations.push(Violation::Duplicate { client, room: self.name.clone(), id });
                    }
                }
                self.tell(at, client, News::Heard { id, number }, violations);
            }
            Event::Gap { client, first, last, .. } => self.tell(at, client, News::Gap { first, last }, violations),
            _ => {}
        }
    }

    /// Notes what the number of a message is.
    fn number(&mut self, client: u32, id: u64, number: Option<u64>, violations: &mut Vec<Violation>) {
        let Some(number) = number else { return };
        let known = *self.numbers.entry(id).or_insert(number);
        if known != number {
            violations.push(Violation::Renumbered { room: self.name.clone(), id, numbers: [known, number], client });
        }
    }

    /// Adds to the stay in which it was heard: the latest that had begun. What was under way when a client left belongs to it.
    fn tell(&mut self, at: usize, client: u32, news: News, violations: &mut Vec<Violation>) {
        let stays = self.current.get(&client).map(Vec::as_slice).unwrap_or_default();
        match stays.iter().rev().find(|&&stay| self.visits[stay].stay.joined < at) {
            Some(&stay) => self.visits[stay].news.push(news),
            None => violations.push(Violation::Stray { client, room: self.name.clone() }),
        }
    }

    /// One number is one message. Numbers may begin anew at the beginning of a stay and behind a gap without an end; such
    /// stretches that share a message are of one epoch.
    fn check_numbers(&self, violations: &mut Vec<Violation>) {
        let stretches = self.stretches();
        let may_begin_anew = self.current.values().any(|stays| stays.len() > 1) || stretches.len() > self.visits.len();
        let mut epochs = Epochs::new(stretches.len());
        let mut first_of: HashMap<u64, usize> = HashMap::new();
        for (index, stretch) in stretches.iter().enumerate() {
            for &(_, id) in &stretch.heard {
                epochs.join(index, *first_of.entry(id).or_insert(index));
            }
            if !may_begin_anew {
                epochs.join(index, 0);
            }
        }
        let mut messages: HashMap<(usize, u64), (u64, u32)> = HashMap::new();
        let mut orders: HashSet<(usize, usize)> = HashSet::new();
        let mut passed: HashMap<u32, Vec<usize>> = HashMap::new();
        for (index, stretch) in stretches.iter().enumerate() {
            let Some(&(first, _)) = stretch.heard.first() else { continue };
            let (epoch, client) = (epochs.of(index), stretch.client);
            for &(number, id) in &stretch.heard {
                let (other, by) = *messages.entry((epoch, number)).or_insert((id, client));
                if other != id {
                    let (room, ids, clients) = (self.name.clone(), [other, id], [by, client]);
                    violations.push(Violation::NumberTwice { room, number, ids, clients });
                }
            }
            let passed = passed.entry(client).or_default();
            if passed.last() == Some(&epoch) {
                continue;
            }
            if passed.iter().any(|&earlier| earlier == epoch || orders.contains(&(epoch, earlier))) {
                violations.push(Violation::OldEpoch { client, room: self.name.clone(), first });
            }
            orders.extend(passed.iter().map(|&earlier| (earlier, epoch)));
            passed.push(epoch);
        }
    }

    /// What was heard with number and id, in pieces within which numbers do not begin anew; those of one client in their order.
    fn stretches(&self) -> Vec<Stretch> {
        let mut stretches = Vec::new();
        for visit in &self.visits {
            let client = visit.stay.client;
            let mut heard = Vec::new();
            for news in &visit.news {
                match *news {
                    News::Heard { id: Some(id), number: Some(number) } => heard.push((number, id)),
                    News::Gap { last: None, .. } => {
                        stretches.push(Stretch { client, heard: std::mem::take(&mut heard) })
                    }
                    _ => {}
                }
            }
            stretches.push(Stretch { client, heard });
        }
        stretches
    }

    /// Order and gaps of one stay.
    fn check_visit(&self, visit: &Visit, known: &Known, violations: &mut Vec<Violation>) {
        let client = visit.stay.client;
        let own_numbers = known.of_client.get(&client);
        let mut excuses = known.unanswered.get(&client).copied().unwrap_or_default();
        let shows_numbers = visit.news.iter().any(|news| matches!(news, News::Heard { number: Some(_), .. }));
        let mut latest: Option<u64> = None;
        for news in &visit.news {
            let (next, end) = match *news {
                News::Heard { id, number } => {
                    let Some(number) = number.or_else(|| self.numbers.get(&id?).copied()) else { continue };
                    (number, Some(number))
                }
                News::Gap { first, last } => (first, last),
            };
            if let Some(before) = latest {
                let is_heard = matches!(news, News::Heard { .. });
                if is_heard && next <= before {
                    let room = self.name.clone();
                    violations.push(Violation::OutOfOrder { client, room, before, then: next });
                }
                // Who is shown no numbers may have heard what nobody else knows the number of.
                let is_missing = |number: &u64| {
                    !own_numbers.is_some_and(|own| own.contains(number))
                        && (shows_numbers || known.all.contains(number))
                };
                let missing: Vec<u64> = (before + 1..next).take(LOOKED_AT_MAX).filter(is_missing).collect();
                let unknown = missing.iter().filter(|&number| !known.all.contains(number)).count();
                let excused = unknown.min(excuses);
                excuses -= excused;
                if let (Some(&first), Some(&last)) = (missing.first(), missing.last())
                    && missing.len() > excused
                {
                    let (room, missing) = (self.name.clone(), (missing.len() - excused) as u64);
                    violations.push(Violation::SilentGap { client, room, first, last, missing });
                }
            }
            latest = match (news, end) {
                (News::Gap { .. }, Some(end)) => Some(latest.map_or(end, |before| before.max(end))),
                _ => end,
            };
        }
    }

    /// What was acknowledged and did not come to whoever was there throughout.
    fn check_losses(&self, violations: &mut Vec<Violation>) {
        for visit in self.visits.iter().filter(|visit| visit.stay.left.is_none()) {
            let (stay, gaps) = (&visit.stay, Gaps::of(visit));
            let heard = self.heard.get(&stay.client);
            let is_due = |said: &Said| said.is_acknowledged && said.at > stay.joined && said.client != stay.client;
            for (&id, said) in self.said.iter().filter(|(_, said)| is_due(said)) {
                let number = self.numbers.get(&id).copied();
                if !heard.is_some_and(|heard| heard.contains(&id)) && !gaps.cover(number) {
                    let (client, room) = (stay.client, self.name.clone());
                    violations.push(Violation::Lost { client, room, id, number, sender: said.client });
                }
            }
        }
    }
}

/// Numbers of a room that somebody was told of.
struct Known {
    all: HashSet<u64>,
    /// Those of what a client said itself.
    of_client: HashMap<u32, HashSet<u64>>,
    /// How many messages of a client got a number, perhaps, of which nobody was told.
    unanswered: HashMap<u32, usize>,
}

impl Known {
    fn of(room: &Room) -> Self {
        let mut known = Self {
            all: room.numbers.values().copied().collect(),
            of_client: HashMap::new(),
            unanswered: HashMap::new(),
        };
        for (id, said) in &room.said {
            match room.numbers.get(id) {
                Some(&number) => drop(known.of_client.entry(said.client).or_default().insert(number)),
                None => *known.unanswered.entry(said.client).or_default() += 1,
            }
        }
        known
    }
}

/// Numbers of one gap that are looked at: whatever is behind so many is missing too.
const LOOKED_AT_MAX: usize = 1_000_000;

struct Stretch {
    client: u32,
    /// Numbers and ids.
    heard: Vec<(u64, u64)>,
}

/// Which stretches are of one epoch.
struct Epochs(Vec<usize>);

impl Epochs {
    fn new(stretches: usize) -> Self {
        Self((0..stretches).collect())
    }

    fn of(&self, stretch: usize) -> usize {
        let mut at = stretch;
        while self.0[at] != at {
            at = self.0[at];
        }
        at
    }

    fn join(&mut self, one: usize, other: usize) {
        let (one, other) = (self.of(one), self.of(other));
        // Towards the earlier one, so that chains stay short.
        self.0[one.max(other)] = one.min(other);
    }
}

/// What a client was told that it has missed.
struct Gaps {
    closed: Vec<(u64, u64)>,
    /// Where it begins, and the number that was heard next.
    open: Vec<(u64, Option<u64>)>,
}

impl Gaps {
    fn of(visit: &Visit) -> Self {
        let mut gaps = Self { closed: Vec::new(), open: Vec::new() };
        for (index, news) in visit.news.iter().enumerate() {
            match *news {
                News::Gap { first, last: Some(last) } => gaps.closed.push((first, last)),
                News::Gap { first, last: None } => {
                    let next = visit.news[index + 1..].iter().find_map(|news| match *news {
                        News::Heard { number, .. } => number,
                        News::Gap { first, .. } => Some(first),
                    });
                    gaps.open.push((first, next));
                }
                News::Heard { .. } => {}
            }
        }
        gaps
    }

    /// Whether a number is in one of them. A message without a number may be in any whose end is not known.
    fn cover(&self, number: Option<u64>) -> bool {
        let Some(number) = number else { return !self.open.is_empty() };
        self.closed.iter().any(|&(first, last)| (first..=last).contains(&number))
            || self.open.iter().any(|&(first, next)| match next {
                // Numbers began anew: whatever was behind `first` before, and what is in front of the next one now.
                Some(next) if next <= first => number >= first || number < next,
                Some(next) => (first..next).contains(&number),
                None => number >= first,
            })
    }
}
