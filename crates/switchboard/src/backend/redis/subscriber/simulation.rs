//! One node's subscriber in virtual time: a seed decides what is published, which workers are slow, and what fails.
//!
//! [`Sorter`], [`Channels`], [`BeaconWatch`] and the [`Feed`] of each room are the real ones. Redis, the
//! connection, the workers and the tasks are modelled. The same world can be played under the rule of one queue
//! for everything, which breaks the promises.
//!
//! A run that fails prints its seed; `SIMULATION_SEED=n` plays that one alone, `SIMULATION_RUNS=n` plays more.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap, VecDeque};

use fastrand::Rng;

use super::super::feed::{Arrival, Feed, Mark, Place, Point, Step};
use super::channels::{BeaconWatch, Channels, Requests, Subscription};
use super::lanes::{Next, Published, Resume, Sorter};

/// Runs in the ordinary tests.
const RUNS: u64 = 250;

/// Milliseconds after which nothing fails and no worker is slow, and after which everything must be delivered.
const FAULTS_END: u64 = 8000;
const REST: u64 = 20_000;

/// Longest time that a message may take from its arrival to a worker that is not slow.
const MAX_DELAY: u64 = 400;

const BEAT: u64 = 1000;
const BEACON_TIMEOUT: u64 = 2000;
const RETRY: u64 = 500;
const BEACON: &str = "beacon";
const NODE: &str = "node";

/// How arrived messages are handed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rule {
    /// As the subscriber does.
    Lanes,
    /// In one queue, which waits for every worker.
    OneQueue,
}

#[derive(Debug)]
enum Event {
    /// Somewhere a message is published: in a room, or for this node.
    Publish(usize),
    PublishForNode,
    /// A message arrives over the connection with this number.
    Arrive(u64, Published),
    /// A worker takes mail.
    Turn(usize),
    /// Channels are requested, as far as none is under way; a request is done at the server, and confirmed.
    Request,
    Requested(u64, PendingRequests),
    Confirmed(u64, PendingRequests),
    /// The last member of a room leaves, or the first one joins. Nothing is published there.
    Toggle(usize),
    /// The server counts the channels of the connection with this number; the node gets the count. Both carry the
    /// count that the node had when it asked.
    Count(u64, (usize, u64)),
    Counted((usize, u64), usize),
    /// The node checks the beacon and sends the next one.
    Beat,
    Disconnect,
    Connect,
    /// The store answers with the head of a room; this was known when it was asked.
    Head(usize, Option<Point>),
    /// The log of a room is read from one place to another.
    Fill(usize),
    /// The task that sorts may run again.
    Sort,
}

/// Requests of one round that were not answered; those in front are in flight.
#[derive(Debug)]
struct PendingRequests {
    round: u64,
    groups: VecDeque<(Vec<String>, bool)>,
}

/// A step that needs the feed of a room for itself.
#[derive(Debug)]
enum Work {
    Said(Arrival<u64>),
    Head(Option<Point>, Point),
    Filled(Vec<Arrival<u64>>, Place),
}

/// A room as the store and this node have it.
struct Room {
    /// In the store.
    last: u64,
    log: BTreeMap<Place, Arrival<u64>>,
    /// On this node.
    feed: Feed<u64>,
    workers: Vec<usize>,
    work: VecDeque<Work>,
    /// Mail that waits for space with its worker.
    undelivered: VecDeque<(usize, Step<u64>)>,
    is_filling: bool,
    /// Whether a lane, or the one queue, waits for this room.
    has_lane: bool,
    /// Whether the lane waits for the answer of the store.
    is_comparing: bool,
    /// Number after which the members of this node get every message.
    start: Option<u64>,
    /// When messages arrived that were not handed to all workers.
    arrived: HashMap<u64, u64>,
}

struct Worker {
    mail: VecDeque<(usize, Step<u64>)>,
    capacity: usize,
    is_slow: bool,
    /// What each room's members were given.
    notes: HashMap<usize, Vec<Step<u64>>>,
}

struct World {
    rng: Rng,
    rule: Rule,
    now: u64,
    events: BinaryHeap<Reverse<(u64, u64)>>,
    due: HashMap<u64, Event>,
    scheduled: u64,
    rooms: Vec<Room>,
    /// Rooms whose members come and go, and how they were subscribed to since the connection was made.
    toggled: HashMap<usize, Option<Subscription>>,
    workers: Vec<Worker>,
    log_size: usize,
    channels: Channels,
    lanes: Sorter,
    max_bytes: usize,
    /// The one queue of the old rule, and the room that it waits for.
    queue: VecDeque<Published>,
    blocked: Option<usize>,
    beacon: BeaconWatch,
    beacon_ms: u64,
    /// Number of the connection, and its channels at the server. `None`: there is no connection.
    link: Option<(u64, Vec<String>)>,
    serial: u64,
    last_arrival: u64,
    is_requesting: bool,
    sorts_from: u64,
    has_link_faults: bool,
    has_pauses: bool,
    is_subscribing_slow: bool,
    node_messages: VecDeque<(u8, u64)>,
    sent_to_node: u8,
    failure: Option<String>,
}

fn channel(room: usize) -> String {
    format!("room {room}")
}

fn room_of(channel: &str) -> Option<usize> {
    channel.strip_prefix("room ")?.parse().ok()
}

impl World {
    fn new(seed: u64, rule: Rule) -> Self {
        let mut rng = Rng::with_seed(seed);
        let (worker_count, room_count) = (rng.usize(2..5), rng.usize(2..7));
        let slow = rng.usize(..worker_count);
        let workers = (0..worker_count).map(|index| Worker {
            mail: VecDeque::new(),
            capacity: if index == slow { 4 } else { 64 },
            is_slow: index == slow,
            notes: HashMap::new(),
        });
        let workers: Vec<_> = workers.collect();
        let rooms = (0..room_count).map(|_| {
            let mut of: Vec<usize> = (0..worker_count).filter(|_| rng.bool()).collect();
            if of.is_empty() {
                of.push(rng.usize(..worker_count));
            }
            Room {
                last: 0,
                log: BTreeMap::new(),
                feed: Feed::new(1 << 20),
                workers: of,
                work: VecDeque::new(),
                undelivered: VecDeque::new(),
                is_filling: false,
                has_lane: false,
                is_comparing: false,
                start: None,
                arrived: HashMap::new(),
            }
        });
        let rooms: Vec<_> = rooms.collect();
        let max_bytes = [4 << 10, 16 << 10][rng.usize(..2)];
        let mut world = Self {
            rule,
            now: 0,
            events: BinaryHeap::new(),
            due: HashMap::new(),
            scheduled: 0,
            rooms,
            toggled: HashMap::new(),
            workers,
            log_size: [5, 50, 10_000][rng.usize(..3)],
            channels: Channels::default(),
            lanes: Sorter::new(max_bytes),
            max_bytes,
            queue: VecDeque::new(),
            blocked: None,
            beacon: BeaconWatch::default(),
            beacon_ms: 0,
            link: Some((1, Vec::new())),
            serial: 1,
            last_arrival: 0,
            is_requesting: false,
            sorts_from: 0,
            has_link_faults: rng.bool(),
            has_pauses: rng.bool(),
            is_subscribing_slow: rng.bool(),
            node_messages: VecDeque::new(),
            sent_to_node: 0,
            failure: None,
            rng,
        };
        world.channels.set_connection(1);
        for name in [BEACON, NODE] {
            drop(world.channels.want(name, true));
        }
        for room in 0..room_count {
            drop(world.channels.want(&channel(room), false));
        }
        world.later(0, Event::Request);
        world.later(0, Event::Beat);
        for worker in 0..worker_count {
            world.later(0, Event::Turn(worker));
        }
        for _ in 0..world.rng.usize(100..600) {
            let (at, room) = (world.rng.u64(3000..FAULTS_END + 2000), world.rng.usize(..room_count));
            world.later(at, Event::Publish(room));
        }
        for _ in 0..20 {
            let at = world.rng.u64(3000..FAULTS_END + 2000);
            world.later(at, Event::PublishForNode);
        }
        for _ in 0..world.rng.usize(..60) {
            let (at, room) = (world.rng.u64(3000..FAULTS_END), room_count + world.rng.usize(..3));
            world.later(at, Event::Toggle(room));
        }
        if world.has_link_faults {
            for _ in 0..world.rng.usize(1..3) {
                let at = world.rng.u64(3000..FAULTS_END);
                world.later(at, Event::Disconnect);
            }
        }
        world
    }

    fn later(&mut self, delay: u64, event: Event) {
        self.scheduled += 1;
        self.events.push(Reverse((self.now + delay, self.scheduled)));
        self.due.insert(self.scheduled, event);
    }

    fn fail(&mut self, failure: String) {
        self.failure.get_or_insert(format!("at {} ms: {failure}", self.now));
    }

    fn run(&mut self) -> Result<(), String> {
        while let Some(Reverse((at, number))) = self.events.pop() {
            if at > REST || self.failure.is_some() {
                break;
            }
            self.now = at;
            let Some(event) = self.due.remove(&number) else { continue };
            let is_of_channels = matches!(event, Event::Requested(..) | Event::Confirmed(..) | Event::Toggle(_));
            self.happens(event);
            if is_of_channels {
                self.check_toggled();
            }
            let used = self.lanes.bytes();
            // Lanes themselves, and the message in hand, count beyond the limit.
            let beyond = (self.rooms.len() + 1) * 1024;
            if used > self.max_bytes + beyond {
                self.fail(format!("{used} bytes wait, and the limit is {}", self.max_bytes));
            }
        }
        self.check();
        self.failure.take().map_or(Ok(()), Err)
    }

    fn happens(&mut self, event: Event) {
        match event {
            Event::Publish(room) => self.publish(room),
            Event::PublishForNode => {
                self.sent_to_node += 1;
                let payload = vec![self.sent_to_node; 20];
                self.send(NODE, payload);
            }
            Event::Arrive(serial, message) => {
                if self.link.as_ref().is_some_and(|(current, _)| *current == serial) {
                    self.arrive(message);
                }
            }
            Event::Turn(worker) => self.turn(worker),
            Event::Request => self.request(),
            Event::Requested(serial, pending) => {
                if let Some((_, subscribed)) = self.link.as_mut().filter(|(current, _)| *current == serial)
                    && let Some((names, subscribes)) = pending.groups.front()
                {
                    subscribed.retain(|name| !names.contains(name));
                    if *subscribes {
                        subscribed.extend(names.iter().cloned());
                    }
                }
                let delay = self.request_delay();
                self.later(delay, Event::Confirmed(serial, pending));
            }
            Event::Confirmed(serial, pending) => self.confirmed(serial, pending),
            Event::Toggle(room) => {
                if self.toggled.remove(&room).is_some() {
                    self.channels.unwant(&channel(room));
                } else {
                    let subscription = self.channels.want(&channel(room), false);
                    self.toggled.insert(room, Some(subscription));
                }
                self.later(0, Event::Request);
            }
            Event::Count(serial, before) => {
                if let Some((_, subscribed)) = self.link.as_ref().filter(|(current, _)| *current == serial) {
                    let count = subscribed.len();
                    let delay = self.request_delay();
                    self.later(delay, Event::Counted(before, count));
                }
            }
            Event::Counted(before, count) => {
                if self.channels.confirmed() == Some(before) && count != before.0 {
                    self.fail(format!("the audit finds {count} channels instead of {}", before.0));
                }
            }
            Event::Beat => self.beat(),
            Event::Disconnect => self.disconnect(),
            Event::Connect => {
                self.serial += 1;
                self.link = Some((self.serial, Vec::new()));
                self.channels.set_connection(self.serial);
                self.later(0, Event::Request);
            }
            Event::Head(room, asked) => {
                let last = self.rooms[room].last;
                let mark = (last > 0).then_some(Mark(last));
                let head = Point { place: Place { epoch: 1, number: last }, mark };
                self.rooms[room].work.push_back(Work::Head(asked, head));
                self.work_at(room);
            }
            Event::Fill(room) => self.fill(room),
            Event::Sort => self.sort(),
        }
    }

    fn publish(&mut self, room: usize) {
        let count = if self.rng.u8(..10) == 0 { 30 } else { 1 };
        for _ in 0..count {
            let size = self.rng.usize(..200);
            let of = &mut self.rooms[room];
            of.last += 1;
            let number = of.last;
            let before = (number > 1).then(|| Mark(number - 1));
            let place = Place { epoch: 1, number };
            let said = Arrival { place, before, mark: Mark(number), bytes: 10, message: number };
            of.log.insert(place, said);
            while of.log.len() > self.log_size {
                of.log.pop_first();
            }
            let mut payload = number.to_be_bytes().to_vec();
            payload.resize(8 + size, 0);
            self.send(&channel(room), payload);
        }
    }

    /// Publishes on a channel: it arrives in order, if the connection has the channel.
    fn send(&mut self, channel: &str, payload: Vec<u8>) {
        let Some((serial, subscribed)) = &self.link else { return };
        if !subscribed.iter().any(|other| other == channel) {
            return;
        }
        let serial = *serial;
        self.last_arrival = self.last_arrival.max(self.now + self.rng.u64(1..5));
        let message = Published { channel: channel.to_owned(), payload };
        self.later(self.last_arrival - self.now, Event::Arrive(serial, message));
    }

    fn is_slow(&self, room: usize) -> bool {
        self.rooms[room].workers.iter().any(|worker| self.workers[*worker].is_slow)
    }

    fn arrive(&mut self, message: Published) {
        if self.has_pauses && self.now > self.sorts_from && self.now < FAULTS_END && self.rng.u8(..50) == 0 {
            self.sorts_from = self.now + self.rng.u64(..300);
        }
        if let Some(room) = room_of(&message.channel) {
            let now = self.now;
            self.rooms[room].arrived.insert(number_in(&message.payload), now);
        } else if message.channel == NODE {
            self.node_messages.push_back((message.payload[0], self.now));
        }
        match self.rule {
            Rule::OneQueue => self.queue.push_back(message),
            Rule::Lanes if message.channel == BEACON => self.beacon_ms = self.now,
            Rule::Lanes if message.channel == NODE => self.lanes.push_node(message),
            Rule::Lanes => self.lanes.push_room(message),
        }
        self.sort();
    }

    /// The tasks that hand messages on, as far as they can.
    fn sort(&mut self) {
        if self.rule == Rule::OneQueue {
            return self.hand_on_in_one_queue();
        }
        while let Some(message) = self.lanes.next_node() {
            self.take_node_message(&message);
        }
        if self.lanes.take_lost_node_message() {
            self.fail("a message of a node is lost".to_owned());
        }
        if self.now < self.sorts_from {
            return self.later(self.sorts_from - self.now, Event::Sort);
        }
        while let Some(next) = self.lanes.next() {
            match next {
                Next::DeliverOrRefuse(message) if self.must_wait(&message) => self.lanes.refuse(&message),
                Next::Deliver(message) | Next::DeliverOrRefuse(message) => {
                    let room = room_of(&message.channel).expect("only rooms are sorted");
                    if !self.say(room, &message.payload) {
                        self.lanes.begin(&message.channel, message.payload.len());
                        self.rooms[room].has_lane = true;
                    }
                }
                Next::Opened(channel) => {
                    let room = room_of(&channel).expect("only rooms have lanes");
                    self.rooms[room].has_lane = true;
                    self.work_at(room);
                }
            }
        }
        if !self.has_pauses && !self.has_link_faults {
            // Counted for all rooms: a room without a slow worker has no lane in such a run.
            let with_lane = (0..self.rooms.len()).filter(|room| self.rooms[*room].has_lane);
            if let Some(room) = with_lane.into_iter().find(|room| !self.is_slow(*room)) {
                self.fail(format!("room {room} has a lane although its workers take everything"));
            }
        }
    }

    fn must_wait(&self, message: &Published) -> bool {
        let room = &self.rooms[room_of(&message.channel).expect("only rooms wait")];
        !room.undelivered.is_empty() || room.workers.iter().any(|worker| self.is_full(*worker))
    }

    fn is_full(&self, worker: usize) -> bool {
        self.workers[worker].mail.len() >= self.workers[worker].capacity
    }

    fn hand_on_in_one_queue(&mut self) {
        if self.blocked.is_some() {
            return;
        }
        while let Some(message) = self.queue.pop_front() {
            if message.channel == BEACON {
                self.beacon_ms = self.now;
            } else if let Some(room) = room_of(&message.channel) {
                if !self.say(room, &message.payload) {
                    self.blocked = Some(room);
                    return;
                }
            } else {
                self.take_node_message(&message);
            }
        }
    }

    fn take_node_message(&mut self, message: &Published) {
        let Some((number, arrived)) = self.node_messages.pop_front() else { return };
        if message.payload[0] != number {
            self.fail(format!("message {} of a node is handed on instead of {number}", message.payload[0]));
        }
        if self.now - arrived > MAX_DELAY {
            self.fail(format!("a message of a node waited for {} ms", self.now - arrived));
        }
    }

    /// Hands a message to the feed of its room. Returns `false` if it waits.
    fn say(&mut self, room: usize, payload: &[u8]) -> bool {
        let number = number_in(payload);
        let before = (number > 1).then(|| Mark(number - 1));
        let place = Place { epoch: 1, number };
        let said = Arrival { place, before, mark: Mark(number), bytes: 10, message: number };
        self.rooms[room].work.push_back(Work::Said(said));
        self.work_at(room);
        self.rooms[room].work.is_empty() && self.rooms[room].undelivered.is_empty()
    }

    /// Delivers what waits, as far as the workers have space, and then does what is to be done with the feed.
    fn work_at(&mut self, room: usize) {
        loop {
            while let Some((worker, _)) = self.rooms[room].undelivered.front() {
                if self.is_full(*worker) {
                    return;
                }
                let Some((worker, step)) = self.rooms[room].undelivered.pop_front() else { return };
                self.note_delay(room, &step);
                self.workers[worker].mail.push_back((room, step));
            }
            let Some(work) = self.rooms[room].work.pop_front() else { break };
            let (of, mut steps) = (&mut self.rooms[room], Vec::new());
            match work {
                Work::Said(said) => of.feed.said(said, &mut steps),
                Work::Head(asked, head) => {
                    of.is_comparing = false;
                    of.start.get_or_insert(head.place.number);
                    assert!(of.feed.head(asked, head, &mut steps), "this store forgets nothing");
                }
                Work::Filled(entries, to) => {
                    of.is_filling = false;
                    of.feed.filled(entries, to, &mut steps);
                }
            }
            for step in steps {
                for worker in of.workers.clone() {
                    let copy = match &step {
                        Step::Deliver(number) => Step::Deliver(*number),
                        Step::Gap(missed) => Step::Gap(*missed),
                    };
                    of.undelivered.push_back((worker, copy));
                }
            }
            if of.feed.wanted().is_some() && !of.is_filling {
                of.is_filling = true;
                let delay = self.rng.u64(1..20);
                self.later(delay, Event::Fill(room));
            }
        }
        self.resume(room);
    }

    /// Goes on with the lane of a room, or with the one queue, after everything before it was delivered.
    fn resume(&mut self, room: usize) {
        if self.blocked == Some(room) {
            self.blocked = None;
            self.later(0, Event::Sort);
        }
        if !self.rooms[room].has_lane
            || self.rooms[room].is_comparing
            || self.rooms[room].workers.iter().any(|worker| self.is_full(*worker))
        {
            return;
        }
        match self.lanes.resume(&channel(room)) {
            Resume::Deliver(payload) => drop(self.say(room, &payload)),
            Resume::Compare => {
                self.rooms[room].is_comparing = true;
                self.ask_head(room);
            }
            Resume::End => self.rooms[room].has_lane = false,
        }
    }

    fn note_delay(&mut self, room: usize, step: &Step<u64>) {
        let Step::Deliver(number) = step else { return };
        let Some(arrived) = self.rooms[room].arrived.remove(number) else { return };
        let delay = self.now - arrived;
        if delay > MAX_DELAY && !self.is_slow(room) && !self.has_link_faults {
            self.fail(format!("message {number} of room {room} waited for {delay} ms, and its workers are not slow"));
        }
    }

    fn ask_head(&mut self, room: usize) {
        let (asked, delay) = (self.rooms[room].feed.heard(), self.rng.u64(1..20));
        self.later(delay, Event::Head(room, asked));
    }

    fn fill(&mut self, room: usize) {
        // As the task that reads logs, which waits for space first.
        if self.rooms[room].workers.iter().any(|worker| self.is_full(*worker)) {
            return self.later(5, Event::Fill(room));
        }
        let of = &mut self.rooms[room];
        let Some((from, to)) = of.feed.wanted() else {
            of.is_filling = false;
            return;
        };
        let entries: Vec<_> = of.log.range(from..=to).take(10).map(|(_, said)| said.clone()).collect();
        let to = if entries.len() < 10 { to } else { entries.last().map_or(to, |said| said.place) };
        of.work.push_back(Work::Filled(entries, to));
        self.work_at(room);
    }

    fn turn(&mut self, worker: usize) {
        let is_slow = self.workers[worker].is_slow && self.now < FAULTS_END;
        let count = if is_slow { 1 } else { usize::MAX };
        for _ in 0..count.min(self.workers[worker].mail.len()) {
            if let Some((room, step)) = self.workers[worker].mail.pop_front() {
                self.workers[worker].notes.entry(room).or_default().push(step);
            }
        }
        for room in 0..self.rooms.len() {
            self.work_at(room);
        }
        let pause = if is_slow { self.rng.u64(50..6000) } else { 5 };
        self.later(pause, Event::Turn(worker));
    }

    fn request_delay(&mut self) -> u64 {
        if self.is_subscribing_slow { self.rng.u64(50..400) } else { self.rng.u64(1..5) }
    }

    fn request(&mut self) {
        let Some((serial, _)) = self.link else { return };
        if self.is_requesting {
            return;
        }
        let Requests { round, subscribe, unsubscribe } = self.channels.next(2);
        let groups: VecDeque<_> =
            [(subscribe, true), (unsubscribe, false)].into_iter().filter(|(names, _)| !names.is_empty()).collect();
        if !groups.is_empty() {
            self.is_requesting = true;
            let delay = self.request_delay();
            self.later(delay, Event::Requested(serial, PendingRequests { round, groups }));
        } else if !self.channels.is_settled() {
            self.later(RETRY, Event::Request);
        }
    }

    /// The task that requests channels gets an answer, or notices that the connection is lost.
    fn confirmed(&mut self, serial: u64, PendingRequests { round, mut groups }: PendingRequests) {
        let is_connected = self.link.as_ref().is_some_and(|(current, _)| *current == serial);
        // An answer that has arrived before the loss may be taken after it.
        if !is_connected && self.rng.bool() {
            self.channels.retry(round, groups.drain(..).flat_map(|(names, _)| names));
        } else if let Some((names, subscribes)) = groups.pop_front()
            && self.channels.confirm(round, &names, subscribes)
            && !groups.is_empty()
        {
            let delay = self.request_delay();
            return self.later(delay, Event::Requested(serial, PendingRequests { round, groups }));
        }
        self.is_requesting = false;
        if self.link.is_some() && self.channels.take_caught_up() {
            (0..self.rooms.len()).for_each(|room| self.ask_head(room));
        }
        self.later(0, Event::Request);
    }

    /// A room that is reported as confirmed must be subscribed at the server until its members leave or the connection
    /// is lost.
    fn check_toggled(&mut self) {
        let Some((_, subscribed)) = &self.link else { return };
        let is_heard = |room: usize| subscribed.iter().any(|name| *name == channel(room));
        let is_missed = |(room, subscription): (&usize, &mut Option<Subscription>)| {
            if let Some(Subscription::Requested(confirmed)) = subscription
                && confirmed.try_recv().is_ok()
            {
                *subscription = Some(Subscription::Confirmed);
            }
            matches!(subscription, Some(Subscription::Confirmed)) && !is_heard(*room)
        };
        if self.toggled.iter_mut().any(is_missed) {
            self.fail("a room is not subscribed to although that was confirmed".to_owned());
        }
    }

    fn beat(&mut self) {
        self.later(BEAT, Event::Beat);
        let Some((serial, _)) = self.link else { return };
        if self.beacon.is_overdue(serial, self.now, self.beacon_ms, BEACON_TIMEOUT) {
            self.fail("the beacon is overdue although the connection delivers it".to_owned());
            return self.disconnect();
        }
        self.send(BEACON, Vec::new());
        if let Some(before) = self.channels.confirmed() {
            let delay = self.request_delay();
            self.later(delay, Event::Count(serial, before));
        }
    }

    fn disconnect(&mut self) {
        if self.link.take().is_some() {
            self.channels.lose_all();
            self.toggled.values_mut().for_each(|subscription| *subscription = None);
            // Messages on their way are lost with the connection.
            let delay = self.rng.u64(25..1500);
            self.later(delay, Event::Connect);
        }
    }

    fn check(&mut self) {
        if let Some((number, _)) = self.node_messages.front() {
            self.fail(format!("message {number} of a node was not handed on"));
        }
        let mut names: Vec<String> = (0..self.rooms.len()).chain(self.toggled.keys().copied()).map(channel).collect();
        names.extend([BEACON, NODE].map(str::to_owned));
        names.sort();
        let mut subscribed = self.link.take().map(|(_, subscribed)| subscribed).unwrap_or_default();
        subscribed.sort();
        if subscribed != names {
            self.fail(format!("the server has {subscribed:?} instead of {names:?}"));
        }
        for room in 0..self.rooms.len() {
            let (start, last) = (self.rooms[room].start.unwrap_or_default(), self.rooms[room].last);
            for worker in self.rooms[room].workers.clone() {
                let notes = self.workers[worker].notes.remove(&room).unwrap_or_default();
                if let Err(failure) = check_notes(&notes, start, last) {
                    self.fail(format!("room {room}, worker {worker}: {failure}"));
                }
                let is_whole = !self.has_link_faults && !self.has_pauses && !self.is_slow(room);
                if is_whole && notes.iter().any(|note| matches!(note, Step::Gap(_))) {
                    self.fail(format!("room {room}, worker {worker}: a gap although its workers are not slow"));
                }
            }
        }
    }
}

fn number_in(payload: &[u8]) -> u64 {
    u64::from_be_bytes(payload[..8].try_into().expect("eight bytes"))
}

/// Members must get each number once, in order, or in a gap.
fn check_notes(notes: &[Step<u64>], start: u64, last: u64) -> Result<(), String> {
    let mut next = start + 1;
    for note in notes {
        next = match note {
            Step::Deliver(number) if *number == next => number + 1,
            Step::Gap(missed) if missed.first == next && missed.last.is_some() => {
                missed.last.map_or(next, |last| last + 1)
            }
            other => return Err(format!("{other:?} where {next} is expected")),
        };
    }
    if next == last + 1 { Ok(()) } else { Err(format!("ends before {next}, and {last} was published")) }
}

fn play(seed: u64, rule: Rule) -> Result<(), String> {
    World::new(seed, rule).run().map_err(|failure| format!("seed {seed}: {failure}"))
}

fn from_environment(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn a_slow_worker_delays_only_its_own_rooms_and_neither_the_beacon_nor_nodes() {
    if let Some(seed) = from_environment("SIMULATION_SEED") {
        return play(seed, Rule::Lanes).unwrap();
    }
    for seed in 0..from_environment("SIMULATION_RUNS").unwrap_or(RUNS) {
        play(seed, Rule::Lanes).unwrap();
    }
}

#[test]
fn one_queue_for_all_messages_breaks_these_promises() {
    let failures: Vec<String> = (0..100).filter_map(|seed| play(seed, Rule::OneQueue).err()).collect();
    for promise in ["the beacon is overdue", "a message of a node waited", "its workers are not slow"] {
        assert!(failures.iter().any(|failure| failure.contains(promise)), "{promise}: {failures:?}");
    }
}
