//! Every order of steps of a few nodes and the store, up to a bound: no seed, no chance.
//!
//! Time moves in ticks. A request to the store is sent, carried out and answered in three steps, and may be lost
//! before or after it is carried out. A node may pause for any time: its steps come late. From each state that is
//! found the faults end, and the nodes must come to rest.

use std::collections::{BTreeSet, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use super::peers::PeerEvent;
use super::store_model::StoreModel;
use super::{Attached, Lease, LeaseStep, Membership, Renewed};
use crate::backend::cluster::NodeEntry;

/// Ticks of a lease: with two a node always may renew.
const LEASE: u64 = 2;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Request {
    Attach(super::Attach),
    Renew,
    Claim(NodeEntry),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Answer {
    Attached(Option<Attached>),
    Renewed(Renewed),
    Claimed(NodeEntry, bool),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Waiting {
    Nothing,
    Sent(u64, Request),
    Done(u64, Answer),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Node {
    is_running: bool,
    lease: Lease,
    waiting: Waiting,
    /// Dead nodes whose members it removes, and the incarnation that claimed them.
    reaping: Vec<(NodeEntry, u64)>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct World {
    now: u64,
    faults: u32,
    next_incarnation: u64,
    store: StoreModel,
    nodes: Vec<Node>,
    /// Dead incarnations whose members were removed.
    reaped: Vec<u64>,
}

/// Where the first node is when the exploration begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Start {
    /// All have just renewed.
    Member,
    /// Its lease has just ended.
    Silent,
    /// Another node has claimed it, and it does not know.
    Claimed,
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Tick,
    Send(usize),
    CarryOut(usize),
    Answer(usize),
    /// The request or its answer is lost.
    Lose(usize),
    Release(usize),
    Reaped(usize),
    Crash(usize),
}

impl World {
    /// Nodes that have been members for a lease.
    fn new(nodes: usize, faults: u32, start: Start) -> Self {
        let node = |incarnation| Node {
            is_running: true,
            lease: Lease::new(Duration::from_millis(LEASE), incarnation),
            waiting: Waiting::Nothing,
            reaping: Vec::new(),
        };
        let mut world = Self {
            now: 0,
            faults: 0,
            next_incarnation: nodes as u64 + 1,
            store: StoreModel::default(),
            nodes: (1..=nodes as u64).map(node).collect(),
            reaped: Vec::new(),
        };
        for node in &mut world.nodes {
            node.lease.connected(Some(1));
        }
        for _ in 0..=LEASE {
            world.settle(|_| true);
            world.take(Step::Tick);
        }
        world.settle(|_| true);
        if start != Start::Member {
            for _ in 0..=LEASE {
                world.settle(|node| node > 0);
                world.take(Step::Tick);
            }
        }
        if start == Start::Claimed {
            world.settle(|node| node > 0);
        }
        world.faults = faults;
        world
    }

    fn steps(&self) -> Vec<Step> {
        let mut steps = vec![Step::Tick];
        for (index, node) in self.nodes.iter().enumerate().filter(|(_, node)| node.is_running) {
            match node.waiting {
                Waiting::Nothing => {
                    if !matches!(node.lease.next(self.now), LeaseStep::WaitUntil(_)) {
                        steps.push(Step::Send(index));
                    }
                }
                Waiting::Sent(..) => steps.push(Step::CarryOut(index)),
                Waiting::Done(..) => steps.push(Step::Answer(index)),
            }
            if matches!(node.lease.membership(), Membership::Fenced { .. }) {
                steps.push(Step::Release(index));
            }
            if !node.reaping.is_empty() {
                steps.push(Step::Reaped(index));
            }
            if self.faults > 0 {
                if node.waiting != Waiting::Nothing {
                    steps.push(Step::Lose(index));
                }
                if self.running().count() > 1 {
                    steps.push(Step::Crash(index));
                }
            }
        }
        steps
    }

    fn after(&self, step: Step) -> Self {
        let mut world = self.clone();
        world.take(step);
        world
    }

    fn take(&mut self, step: Step) {
        let now = self.now;
        match step {
            Step::Tick => self.now += 1,
            Step::Send(index) => {
                let node = &mut self.nodes[index];
                let request = match node.lease.next(now) {
                    LeaseStep::Attach(attach) => Request::Attach(attach),
                    LeaseStep::Renew => Request::Renew,
                    LeaseStep::Claim(dead) => Request::Claim(dead),
                    LeaseStep::WaitUntil(_) => return,
                };
                node.waiting = Waiting::Sent(now, request);
            }
            Step::CarryOut(index) => {
                let node = &mut self.nodes[index];
                let Waiting::Sent(sent, request) = std::mem::replace(&mut node.waiting, Waiting::Nothing) else {
                    return;
                };
                let own = node.lease.incarnation();
                let answer = match request {
                    Request::Attach(attach) => Answer::Attached(self.store.attach(now, index as u64, &attach)),
                    Request::Renew => Answer::Renewed(self.store.renew(now, node.lease.slot, own)),
                    Request::Claim(dead) => {
                        let is_claimed = self.store.claim(now, &dead, own, LEASE);
                        Answer::Claimed(dead, is_claimed)
                    }
                };
                node.waiting = Waiting::Done(sent, answer);
            }
            Step::Answer(index) => {
                let node = &mut self.nodes[index];
                let Waiting::Done(sent, answer) = std::mem::replace(&mut node.waiting, Waiting::Nothing) else {
                    return;
                };
                match answer {
                    Answer::Attached(Some(answer)) => node.lease.attached(sent, 1, answer),
                    Answer::Attached(None) => node.lease.failed(sent),
                    Answer::Renewed(answer) => node.lease.renewed(sent, answer),
                    Answer::Claimed(dead, is_claimed) => node.lease.claimed(&dead, is_claimed),
                }
                if matches!(node.lease.membership(), Membership::Fenced { .. }) {
                    node.reaping.clear();
                }
                while let Some(event) = node.lease.next_event() {
                    if let PeerEvent::Reap { dead, reaper } = event {
                        node.reaping.push((dead, reaper));
                    }
                }
            }
            Step::Lose(index) => {
                self.faults -= 1;
                let node = &mut self.nodes[index];
                if let Waiting::Sent(sent, _) | Waiting::Done(sent, _) = node.waiting {
                    node.lease.failed(sent);
                }
                node.waiting = Waiting::Nothing;
            }
            Step::Release(index) => {
                let lease = &mut self.nodes[index].lease;
                lease.released(lease.incarnation(), self.next_incarnation);
                self.next_incarnation += 1;
            }
            Step::Reaped(index) => {
                let node = &mut self.nodes[index];
                let (dead, reaper) = node.reaping.remove(0);
                if now >= node.lease.valid_until_ms() {
                    // The store refuses, and the node tries again.
                    node.reaping.push((dead, reaper));
                } else if self.store.reaped(dead.slot, node.lease.incarnation()) {
                    self.reaped.push(dead.incarnation);
                }
            }
            Step::Crash(index) => {
                self.faults -= 1;
                let node = &mut self.nodes[index];
                (node.is_running, node.waiting) = (false, Waiting::Nothing);
                node.reaping.clear();
            }
        }
    }

    /// These nodes take all steps that they can before the next tick. A member that has renewed in this tick does not
    /// renew again.
    fn settle(&mut self, is_awake: impl Fn(usize) -> bool) {
        self.faults = 0;
        for _ in 0..100 {
            let is_due = |step: &Step| match *step {
                Step::Tick => false,
                Step::Send(index) if is_awake(index) => {
                    let lease = &self.nodes[index].lease;
                    lease.next(self.now) != LeaseStep::Renew || lease.valid_until_ms() < self.now + LEASE
                }
                Step::Reaped(index) => is_awake(index) && self.now < self.nodes[index].lease.valid_until_ms(),
                Step::CarryOut(index) | Step::Answer(index) | Step::Release(index) => is_awake(index),
                _ => false,
            };
            let Some(step) = self.steps().into_iter().find(is_due) else { return };
            self.take(step);
        }
        panic!("the nodes do not come to rest: {self:?}");
    }

    fn running(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter().filter(|node| node.is_running)
    }

    fn check_always(&self) {
        let (mut slots, mut reaping) = (BTreeSet::new(), BTreeSet::new());
        for node in self.running() {
            let lease = &node.lease;
            let may_write = self.now < lease.valid_until_ms();
            let is_out = matches!(lease.membership(), Membership::Fenced { .. });
            assert!(!(is_out && may_write), "a fenced node may write: {self:?}");
            if may_write {
                assert!(!self.store.dead.contains(&lease.incarnation()), "a dead node may write: {self:?}");
                assert!(slots.insert(lease.slot), "a slot has two owners: {self:?}");
                for (dead, _) in &node.reaping {
                    assert!(reaping.insert(dead.incarnation), "two nodes reap one dead node: {self:?}");
                }
            }
        }
        let reaped: BTreeSet<u64> = self.reaped.iter().copied().collect();
        assert_eq!(reaped.len(), self.reaped.len(), "a dead node was reaped twice: {self:?}");
    }

    /// The faults end.
    fn check_end(mut self) {
        for _ in 0..3 * LEASE {
            self.settle(|_| true);
            self.take(Step::Tick);
        }
        self.settle(|_| true);
        for node in self.running() {
            let is_member = matches!(node.lease.membership(), Membership::Member { .. });
            assert!(is_member, "a node is no member three leases after the last fault: {self:?}");
        }
        for _ in 0..3 * LEASE {
            self.take(Step::Tick);
            self.settle(|_| true);
        }
        assert!(self.store.tombstones.is_empty(), "a dead node was not reaped: {self:?}");
        let reaped: BTreeSet<u64> = self.reaped.iter().copied().collect();
        assert_eq!(reaped, self.store.dead, "each dead node is to be reaped: {self:?}");
        assert_eq!(self.store.list.len(), self.running().count(), "{self:?}");
    }
}

/// Visits each state that is reached by at most `depth` steps, and returns how many there are and how many have a
/// fenced node.
fn explore(begin: World, ticks: u64, depth: u32) -> (usize, usize) {
    let hashes = RandomState::new();
    let end = begin.now + ticks;
    let mut seen = HashSet::from([hashes.hash_one(&begin)]);
    let (mut found, mut fenced) = (vec![begin], 0);
    for remaining in (0..depth).rev() {
        let mut next = Vec::new();
        for world in found {
            for step in world.steps() {
                let after = world.after(step);
                if after.now > end || !seen.insert(hashes.hash_one(&after)) {
                    continue;
                }
                after.check_always();
                let is_fenced = |node: &Node| matches!(node.lease.membership(), Membership::Fenced { .. });
                let has_fenced = after.running().any(is_fenced);
                fenced += usize::from(has_fenced);
                // From the other states the steps that are left lead here too.
                if has_fenced || remaining == 0 {
                    after.clone().check_end();
                }
                next.push(after);
            }
        }
        found = next;
    }
    (seen.len(), fenced)
}

#[test]
fn in_every_order_of_steps_a_slot_has_one_owner_and_each_dead_node_is_reaped_once() {
    let mut fenced_in_all = 0;
    for start in [Start::Member, Start::Silent, Start::Claimed] {
        for (nodes, depth) in [(2, 8), (3, 5)] {
            // `SIMULATION_DEPTH=n` goes deeper by as many steps; each doubles the states.
            let deeper = std::env::var("SIMULATION_DEPTH").ok().and_then(|text| text.parse().ok()).unwrap_or(0);
            let (states, fenced) = explore(World::new(nodes, 1, start), 3, depth + deeper);
            assert!(states > 500, "{nodes} nodes, {start:?}: only {states} states");
            fenced_in_all += fenced;
        }
    }
    assert!(fenced_in_all > 100, "only {fenced_in_all} states have a fenced node");
}
