//! Nodes and a model of the store in one thread: a seed decides what is delayed, what is lost and which nodes pause.
//!
//! Each node has its real [`Lease`] and [`Service`], and a queue of events that the node may not empty for a while.
//! While faults last, no slot has two owners and no node that the others took for dead may write. Afterwards each
//! node that runs must serve within three leases, and what dead nodes left must be removed once.
//!
//! A run that fails prints its seed; `SIMULATION_SEED=n` plays that one alone, `SIMULATION_RUNS=n` plays more.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap, VecDeque};
use std::time::Duration;

use fastrand::Rng;

use super::peers::PeerEvent;
use super::service::{Service, ServiceStep};
use super::store_model::StoreModel;
use super::{Attached, Lease, LeaseStep, Membership, Renewed};
use crate::backend::cluster::{ClusterState, NodeEntry};

/// Runs in the ordinary tests.
const RUNS: u64 = 1000;

/// Seeds that found something once: a node that stayed fenced because its queue was full (101), a node that did not
/// subscribe again after a failure (1), a restored tombstone whose reaper was done (327), a restored node (692).
const KEPT: &[u64] = &[101, 1, 327, 692];

/// `backend.redis.lease` and `backend.redis.timeout`.
const LEASE: u64 = 5000;
const TIMEOUT: u64 = 2000;

/// End of the faults; when each node must serve; when everything is at rest.
const FAULTS_END: u64 = 10 * LEASE;
const SERVING: u64 = FAULTS_END + 3 * LEASE;
const REST: u64 = FAULTS_END + 10 * LEASE;

/// Events that may wait for a node.
const QUEUE: usize = 2;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// A node has no connection to the store for a while.
    Cut,
    /// Requests to the store or their answers are lost.
    Lossy,
    /// A node pauses.
    Pause,
    /// A node does not hear what is published.
    Deaf,
    /// Subscriptions are not confirmed in time.
    Unconfirmed,
    /// The queue of a node is full of messages of other nodes.
    FullQueue,
    /// A node ends; another one of its name may start.
    Crash,
    /// The store loses everything.
    Flushed,
    /// A replica takes over that has not everything.
    Failover,
}

const FAULTS: [Fault; 9] = [
    Fault::Cut,
    Fault::Lossy,
    Fault::Pause,
    Fault::Deaf,
    Fault::Unconfirmed,
    Fault::FullQueue,
    Fault::Crash,
    Fault::Flushed,
    Fault::Failover,
];

#[derive(Clone, Debug)]
enum Answer {
    Attached(u64, Attached),
    Renewed(Renewed),
    Claimed(NodeEntry, bool),
    Failed,
}

/// Something that happens to one life of a process, or to all.
#[derive(Clone, Debug)]
enum Event {
    /// The lease task wakes up, if this is its latest appointment.
    Wake(u64),
    /// A request reaches the store.
    Request(u64, LeaseStep, Option<u64>),
    /// Its answer reaches the node, if it still waits for this request.
    Answer(u64, Answer),
    /// The attempt to subscribe with this number is over.
    Listened(u64, u16, bool),
    /// The node reads its state.
    ReadState,
    /// It has closed everything that it held as this incarnation.
    Released(u64),
    /// It takes an event out of its queue.
    Take,
    /// It has removed the members of a dead node, and tries to report that.
    Reaped(NodeEntry, u64),
    Connected(Option<u64>),
    Hears(bool),
    /// The node sees what has changed about its connections.
    Look,
    /// A process of this name starts.
    Start,
    Fault,
}

struct Node {
    /// Number of this process; what was on its way to an earlier one is lost.
    life: u64,
    is_running: bool,
    lease: Lease,
    service: Option<Service>,
    /// The latest state that the process has seen.
    state: Option<ClusterState>,
    connections: u64,
    connection: Option<u64>,
    hears: bool,
    has_heard_change: bool,
    paused_until: u64,
    takes_from: u64,
    /// The next appointments of the lease task and of the task that watches the membership.
    wakes: [u64; 2],
    /// The request that waits for its answer, and when it was sent.
    request: Option<(u64, u64)>,
    listening: Option<u64>,
    membership: Membership,
    queue: VecDeque<PeerEvent>,
    is_taking: bool,
    others: BTreeSet<u64>,
    reaping: BTreeSet<(u64, u64)>,
}

struct World {
    rng: Rng,
    now: u64,
    serial: u64,
    due: BinaryHeap<Reverse<(u64, u64)>>,
    events: HashMap<u64, (usize, u64, Event)>,
    faults: Vec<Fault>,
    store: StoreModel,
    replica: StoreModel,
    /// Until then a store that has lost something may contradict itself.
    lost_until: u64,
    has_lost: bool,
    nodes: Vec<Node>,
    /// How often the members of each incarnation were removed.
    reaped: BTreeMap<u64, u64>,
    fenced: u64,
    steps: u64,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let faults = FAULTS.into_iter().filter(|_| rng.u8(..3) == 0).collect();
        let mut world = Self {
            rng,
            now: 0,
            serial: 0,
            due: BinaryHeap::new(),
            events: HashMap::new(),
            faults,
            store: StoreModel::default(),
            replica: StoreModel::default(),
            lost_until: 0,
            has_lost: false,
            nodes: Vec::new(),
            reaped: BTreeMap::new(),
            fenced: 0,
            steps: 0,
        };
        for node in 0..world.rng.usize(2..5) {
            let process = world.process(1);
            world.nodes.push(process);
            world.go_on(node);
        }
        for _ in 0..world.rng.usize(2..12) {
            let at = world.rng.u64(2 * LEASE..FAULTS_END);
            world.later(0, at, Event::Fault);
        }
        world
    }

    fn fresh(&mut self) -> u64 {
        self.serial += 1;
        self.serial
    }

    fn process(&mut self, life: u64) -> Node {
        let lease = Lease::new(Duration::from_millis(LEASE), self.fresh());
        Node {
            life,
            is_running: true,
            membership: lease.membership(),
            lease,
            service: None,
            state: None,
            connections: 1,
            connection: Some(1),
            hears: true,
            has_heard_change: false,
            paused_until: 0,
            takes_from: 0,
            wakes: [0; 2],
            request: None,
            listening: None,
            queue: VecDeque::new(),
            is_taking: false,
            others: BTreeSet::new(),
            reaping: BTreeSet::new(),
        }
    }

    fn later(&mut self, node: usize, delay: u64, event: Event) {
        let life = self.nodes.get(node).map_or(0, |node| node.life);
        self.serial += 1;
        self.due.push(Reverse((self.now + delay, self.serial)));
        self.events.insert(self.serial, (node, life, event));
    }

    fn is_faulty(&self, fault: Fault) -> bool {
        self.now < FAULTS_END && self.faults.contains(&fault)
    }

    fn run(&mut self) {
        while let Some(Reverse((at, serial))) = self.due.pop() {
            let Some((node, life, event)) = self.events.remove(&serial) else { continue };
            if self.now < SERVING && at >= SERVING {
                self.check_serving();
            }
            if at > REST {
                break;
            }
            self.now = at;
            self.steps += 1;
            if matches!(event, Event::Fault | Event::Start) {
                self.happens(node, event);
            } else if self.nodes[node].life == life && self.nodes[node].is_running {
                let paused_until = self.nodes[node].paused_until;
                // What happens in the store and in the network does not wait for the node.
                let is_outside = matches!(event, Event::Request(..) | Event::Connected(_) | Event::Hears(_));
                if paused_until > at && !is_outside {
                    self.later(node, paused_until - at, event);
                } else {
                    self.happens(node, event);
                }
            }
            self.check_always();
        }
    }

    fn happens(&mut self, node: usize, event: Event) {
        let now = self.now;
        match event {
            Event::Wake(wake) => {
                if !self.nodes[node].wakes.contains(&wake) {
                    return;
                }
            }
            Event::Request(request, step, connection) => return self.request(node, request, step, connection),
            Event::Answer(request, answer) => {
                let Some((_, sent)) = self.nodes[node].request.filter(|(number, _)| *number == request) else { return };
                self.nodes[node].request = None;
                let lease = &mut self.nodes[node].lease;
                match answer {
                    Answer::Attached(connection, answer) => lease.attached(sent, connection, answer),
                    Answer::Renewed(answer) => lease.renewed(sent, answer),
                    Answer::Claimed(dead, is_claimed) => lease.claimed(&dead, is_claimed),
                    Answer::Failed => lease.failed(sent),
                }
            }
            Event::Listened(attempt, slot, is_confirmed) => {
                if self.nodes[node].listening != Some(attempt) {
                    return;
                }
                self.nodes[node].listening = None;
                if let Some(service) = &mut self.nodes[node].service {
                    service.listened(now, slot, is_confirmed);
                }
            }
            Event::ReadState => {
                let state = self.nodes[node].service.as_ref().map(Service::state);
                if std::mem::replace(&mut self.nodes[node].state, state) != state
                    && let Some(ClusterState::Fenced { incarnation }) = state
                {
                    self.fenced += 1;
                    self.nodes[node].reaping.clear();
                    let pause = self.rng.u64(..2 * LEASE);
                    self.later(node, pause, Event::Released(incarnation));
                }
                return;
            }
            Event::Released(incarnation) => {
                let next = self.fresh();
                self.nodes[node].lease.released(incarnation, next);
            }
            Event::Take => return self.take(node),
            Event::Reaped(dead, reaper) => return self.report_reaped(node, dead, reaper),
            Event::Connected(connection) => {
                self.nodes[node].connection = connection;
                return self.later(node, 0, Event::Look);
            }
            Event::Hears(hears) => {
                (self.nodes[node].hears, self.nodes[node].has_heard_change) = (hears, true);
                return self.later(node, 0, Event::Look);
            }
            Event::Look => {}
            Event::Start => {
                let life = self.nodes[node].life + 1;
                self.nodes[node] = self.process(life);
            }
            Event::Fault => return self.fault(),
        }
        self.go_on(node);
    }

    /// The lease task, and the task that watches the membership.
    fn go_on(&mut self, node: usize) {
        let now = self.now;
        let this = &mut self.nodes[node];
        this.lease.connected(this.connection);
        if self.nodes[node].request.is_none() {
            let until = match self.nodes[node].lease.next(now) {
                LeaseStep::WaitUntil(until) => {
                    let this = &mut self.nodes[node];
                    while now >= this.takes_from
                        && this.queue.len() < QUEUE
                        && let Some(event) = this.lease.next_event()
                    {
                        this.queue.push_back(event);
                    }
                    Some(until)
                }
                step => {
                    self.send(node, step);
                    None
                }
            };
            if !self.nodes[node].queue.is_empty() && !std::mem::replace(&mut self.nodes[node].is_taking, true) {
                self.later(node, 1, Event::Take);
            }
            if let Some(until) = until {
                let wake = self.fresh();
                self.nodes[node].wakes[0] = wake;
                self.later(node, until - now, Event::Wake(wake));
            }
        }
        self.watch_membership(node);
    }

    fn watch_membership(&mut self, node: usize) {
        let now = self.now;
        let this = &mut self.nodes[node];
        let membership = this.lease.membership();
        if std::mem::replace(&mut this.membership, membership) != membership {
            // An attempt to subscribe is not waited for any longer.
            this.listening = None;
        }
        if this.service.is_none() && membership != Membership::Joining {
            this.service = Some(Service::new(this.lease.slot, this.lease.generation));
        }
        let Some(service) = &mut this.service else { return };
        service.note_membership(membership);
        if std::mem::take(&mut this.has_heard_change) {
            this.listening = None;
            service.note_hearing(this.hears);
        }
        let step = service.next(now);
        if Some(service.state()) != this.state {
            let delay = self.rng.u64(..100);
            self.later(node, delay, Event::ReadState);
        }
        if self.nodes[node].listening.is_some() {
            return;
        }
        match step {
            ServiceStep::WaitUntil(None) => {}
            ServiceStep::WaitUntil(Some(until)) => {
                let wake = self.fresh();
                self.nodes[node].wakes[1] = wake;
                self.later(node, until - now, Event::Wake(wake));
            }
            ServiceStep::Listen(slot) => {
                let attempt = self.fresh();
                self.nodes[node].listening = Some(attempt);
                let fails = self.is_faulty(Fault::Unconfirmed) && self.rng.u8(..3) > 0;
                let delay = if fails { TIMEOUT } else { self.rng.u64(1..50) };
                self.later(node, delay, Event::Listened(attempt, slot, !fails));
            }
        }
    }

    fn send(&mut self, node: usize, step: LeaseStep) {
        let request = self.fresh();
        let connection = self.nodes[node].connection;
        self.nodes[node].request = Some((request, self.now));
        let is_slow = self.now < FAULTS_END && self.rng.u8(..16) == 0;
        let delay = if is_slow { self.rng.u64(..TIMEOUT) } else { self.rng.u64(..20) };
        if !self.loses() {
            self.later(node, delay, Event::Request(request, step, connection));
        }
        self.later(node, TIMEOUT, Event::Answer(request, Answer::Failed));
    }

    fn loses(&mut self) -> bool {
        self.is_faulty(Fault::Lossy) && self.rng.u8(..6) == 0
    }

    fn request(&mut self, node: usize, request: u64, step: LeaseStep, connection: Option<u64>) {
        let this = &self.nodes[node];
        let Some(over) = connection.filter(|_| connection == this.connection) else {
            return self.later(node, 1, Event::Answer(request, Answer::Failed));
        };
        let (now, name) = (self.now, node as u64);
        let answer = match step {
            LeaseStep::Attach(attach) => match self.store.attach(now, name, &attach) {
                Some(answer) => Answer::Attached(over, answer),
                None => Answer::Failed,
            },
            LeaseStep::Renew => Answer::Renewed(self.store.renew(now, this.lease.slot, this.lease.incarnation())),
            LeaseStep::Claim(dead) => {
                let is_claimed = self.store.claim(now, &dead, this.lease.incarnation(), LEASE);
                Answer::Claimed(dead, is_claimed)
            }
            LeaseStep::WaitUntil(_) => return,
        };
        if self.rng.u8(..3) == 0 {
            self.replica = self.store.clone();
        }
        if !self.loses() {
            let delay = self.rng.u64(..20);
            self.later(node, delay, Event::Answer(request, answer));
        }
    }

    fn take(&mut self, node: usize) {
        let takes_from = self.nodes[node].takes_from;
        if takes_from > self.now {
            return self.later(node, takes_from - self.now, Event::Take);
        }
        let this = &mut self.nodes[node];
        let Some(event) = this.queue.pop_front() else {
            this.is_taking = false;
            return;
        };
        match event {
            PeerEvent::Joined(other) => assert!(this.others.insert(other.incarnation), "a node joined twice"),
            PeerEvent::Left(other) => assert!(this.others.remove(&other.incarnation), "an unknown node left"),
            PeerEvent::Reap { dead, reaper } => {
                if reaper == this.lease.incarnation() {
                    assert!(!this.others.contains(&dead.incarnation), "a dead node is reaped before it has left");
                    this.reaping.insert((dead.incarnation, reaper));
                    let work = self.rng.u64(1..LEASE);
                    self.later(node, work, Event::Reaped(dead, reaper));
                }
            }
        }
        self.later(node, 1, Event::Take);
        self.go_on(node);
    }

    fn report_reaped(&mut self, node: usize, dead: NodeEntry, reaper: u64) {
        let now = self.now;
        let this = &mut self.nodes[node];
        if !this.reaping.contains(&(dead.incarnation, reaper)) {
            return;
        }
        let may_write = this.connection.is_some() && now < this.lease.valid_until_ms();
        if !may_write || self.loses() {
            return self.later(node, 200, Event::Reaped(dead, reaper));
        }
        let this = &mut self.nodes[node];
        this.reaping.remove(&(dead.incarnation, reaper));
        if self.store.reaped(dead.slot, this.lease.incarnation()) {
            *self.reaped.entry(dead.incarnation).or_default() += 1;
        }
    }

    fn fault(&mut self) {
        if self.faults.is_empty() {
            return;
        }
        let fault = self.faults[self.rng.usize(..self.faults.len())];
        let node = self.rng.usize(..self.nodes.len());
        let pause = self.rng.u64(1..3 * LEASE).min(FAULTS_END - self.now);
        match fault {
            Fault::Lossy | Fault::Unconfirmed => {}
            Fault::Cut => self.cut(node, pause),
            Fault::Pause => self.nodes[node].paused_until = self.now + pause,
            Fault::FullQueue => {
                self.nodes[node].takes_from = self.now + pause;
                self.later(node, pause, Event::Look);
            }
            Fault::Deaf => {
                self.later(node, 0, Event::Hears(false));
                self.later(node, pause, Event::Hears(true));
            }
            Fault::Crash => {
                if self.nodes[node].is_running && self.nodes.iter().filter(|node| node.is_running).count() > 1 {
                    self.nodes[node].is_running = false;
                    if self.rng.bool() {
                        self.later(node, pause, Event::Start);
                    }
                }
            }
            Fault::Flushed => {
                self.replica = StoreModel::default();
                self.fail_over();
            }
            Fault::Failover => self.fail_over(),
        }
    }

    fn cut(&mut self, node: usize, pause: u64) {
        self.nodes[node].connections += 1;
        let serial = self.nodes[node].connections;
        self.later(node, 0, Event::Connected(None));
        self.later(node, pause, Event::Connected(Some(serial)));
    }

    fn fail_over(&mut self) {
        self.store.fail_over(self.replica.clone());
        (self.has_lost, self.lost_until) = (true, self.now + 2 * LEASE);
        for node in 0..self.nodes.len() {
            let pause = self.rng.u64(1..LEASE / 4).min(FAULTS_END - self.now);
            self.cut(node, pause);
        }
    }

    fn running(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter().filter(|node| node.is_running)
    }

    fn check_always(&self) {
        let mut owners = BTreeSet::new();
        let mut reapers = BTreeSet::new();
        for node in self.running().filter(|node| self.now < node.lease.valid_until_ms()) {
            if self.now < self.lost_until {
                return;
            }
            assert!(
                !self.store.dead.contains(&node.lease.incarnation()),
                "a node may write that the others took for dead"
            );
            let is_up = node.service.as_ref().is_some_and(|service| matches!(service.state(), ClusterState::Up { .. }));
            if is_up {
                assert!(owners.insert(node.lease.slot), "a slot has two owners");
            }
            for (dead, reaper) in &node.reaping {
                if *reaper == node.lease.incarnation() {
                    assert!(reapers.insert(*dead), "two nodes reap one dead node");
                }
            }
        }
    }

    fn check_serving(&self) {
        for node in self.running() {
            let state = node.service.as_ref().map(Service::state);
            assert!(
                matches!(state, Some(ClusterState::Up { .. })),
                "a node does not serve three leases after the last fault: {state:?}, {:?}",
                node.lease
            );
        }
    }

    fn check_rest(&self) {
        let running: BTreeSet<u64> = self.running().map(|node| node.lease.incarnation()).collect();
        let listed: BTreeSet<u64> = self.store.list.values().map(|row| row.incarnation).collect();
        assert_eq!(listed, running, "the list does not have the nodes that run");
        for node in self.running() {
            let mut others = running.clone();
            others.remove(&node.lease.incarnation());
            assert_eq!(node.others, others, "a node does not know the others");
            assert!(node.reaping.is_empty());
        }
        // A store that has lost the end of a cleanup has its tombstone again, and a reaper that is done with it.
        if !self.has_lost {
            assert!(self.store.tombstones.is_empty(), "a dead node was not reaped: {:?}", self.store);
            for incarnation in &self.store.dead {
                assert_eq!(self.reaped.get(incarnation), Some(&1), "a dead node is to be reaped once");
            }
        }
    }
}

fn simulate(seed: u64) -> World {
    let mut world = World::new(seed);
    world.run();
    world.check_rest();
    world
}

#[test]
fn fault_row_34_a_fenced_node_serves_again_within_three_leases_whatever_goes_wrong() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    if let Some(seed) = number("SIMULATION_SEED") {
        simulate(seed);
        return;
    }
    let runs = number("SIMULATION_RUNS").unwrap_or(RUNS);
    let (mut fenced, mut reaped) = (0, 0);
    for seed in KEPT.iter().copied().chain(0..runs) {
        match std::panic::catch_unwind(|| simulate(seed)) {
            Ok(world) => {
                fenced += world.fenced;
                reaped += world.reaped.len() as u64;
            }
            Err(_) => panic!("seed {seed} finds something: when it is repaired, add it to `KEPT`"),
        }
    }
    assert!(fenced > runs / 10 && reaped > runs / 10, "{fenced} fenced and {reaped} reaped in {runs} runs");
}
