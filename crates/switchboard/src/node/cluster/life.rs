//! Nodes that join and leave, and what this node does when it loses its cluster.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use switchboard_proto::call::ConnectionType;
use switchboard_proto::face::ConnFacts;
use switchboard_proto::id::RoomName;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use crate::backend::Pattern;
use crate::backend::cluster::{ClusterEvent, ClusterFigures, ClusterState, Report};
use crate::backend::shared::{Departed, Mended};
use crate::config::Config;
use crate::hub::mail::{Ask, Mail};
use crate::op::all;

use super::super::connection::ConnectionHandle;
use super::super::hooks::{Change, MembershipChange};
use super::super::{Node, NotReady};
use super::Peers;

/// How often the others are shown what this node has.
const REPORTS: Duration = Duration::from_secs(1);

/// Leases that a fenced node gives its connections to end, so that it rejoins within three.
const RELEASE_LEASES: u32 = 2;

/// Pause after which workers are asked again to close all connections: some may have been on their way in.
const RELEASE_PAUSE: Duration = Duration::from_millis(50);

/// How this node and its cluster get on.
#[derive(Debug)]
pub(super) struct Life {
    /// How often it was fenced: what was begun in an earlier life is not gone on with.
    fenced: AtomicU64,
    buried_nodes: AtomicU64,
    buried_members: AtomicU64,
    /// `rooms.starting`.
    pub(super) starting: Vec<(RoomName, Pattern)>,
    /// `backend.redis.audit_interval`.
    pub(super) audit_interval: Duration,
    /// `backend.redis.figures_interval`.
    pub(super) figures_interval: Duration,
    /// `backend.redis.lease`.
    lease: Duration,
    /// The store has forgotten something, and not everything is noted again.
    pub(super) is_to_restore: AtomicBool,
    /// One at a time mends the directory.
    pub(super) mending: tokio::sync::Mutex<()>,
    /// Members that left while this node did not know whether the others had announced that. No member joins during
    /// that time, so there are at most as many as there were members before.
    postponed: Mutex<Vec<(Departed, RoomName)>>,
    mended: Mutex<Corrections>,
}

/// What was found to be wrong in the directory since the start, and put right.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Corrections {
    pub(super) noted: Mended,
    pub(super) evicted: u64,
    pub(super) rechecked: u64,
}

impl Corrections {
    /// How many there were, by what was wrong.
    pub fn by_what(&self) -> [(&'static str, u64); 7] {
        let Self { noted, evicted, rechecked } = self;
        [
            ("evicted", *evicted),
            ("foreign", noted.foreign),
            ("garbage", noted.garbage),
            ("missing", noted.missing),
            ("pattern", *rechecked),
            ("room", noted.rooms),
            ("stale", noted.stale),
        ]
    }
}

/// Figures of a node in its cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LifeFigures {
    /// Living nodes, this one included while it is one.
    pub nodes: usize,
    /// Whether the store can be reached and this node is part of the cluster.
    pub is_up: bool,
    /// How often this node was taken for dead since the start.
    pub fenced: u64,
    /// Dead nodes whose affairs were put in order here.
    pub buried_nodes: u64,
    /// Their members that left here.
    pub buried_members: u64,
    /// Corrections of the directory.
    pub corrections: Corrections,
    /// Of the store.
    pub store: ClusterFigures,
}

impl Life {
    pub(super) fn new(config: &Config) -> Self {
        let starting = config.rooms.starting.iter().filter_map(|room| {
            let pairs = room.auth.iter().map(|(key, value)| (key.clone(), value.clone().into()));
            // What is no name was refused when the configuration was read.
            Some((RoomName::parse(&room.name).ok()?, Pattern(pairs.collect())))
        });
        Self {
            fenced: AtomicU64::default(),
            buried_nodes: AtomicU64::default(),
            buried_members: AtomicU64::default(),
            starting: starting.collect(),
            audit_interval: config.backend.redis.audit_interval,
            figures_interval: config.backend.redis.figures_interval,
            lease: config.backend.redis.lease,
            is_to_restore: AtomicBool::new(false),
            mending: tokio::sync::Mutex::default(),
            postponed: Mutex::default(),
            mended: Mutex::default(),
        }
    }

    /// Which life of this node it is.
    pub(super) fn number(&self) -> u64 {
        self.fenced.load(Ordering::Acquire)
    }

    pub(super) fn note_buried(&self, nodes: u64, members: u64) {
        self.buried_nodes.fetch_add(nodes, Ordering::Relaxed);
        self.buried_members.fetch_add(members, Ordering::Relaxed);
    }

    pub(super) fn corrections(&self) -> MutexGuard<'_, Corrections> {
        lock(&self.mended)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing under these locks can panic half way.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Node {
    /// This node stops as planned: the others put in order what it leaves.
    pub(crate) async fn leave_cluster(&self) {
        if let Some(peers) = self.peers() {
            peers.cluster().leave().await;
        }
    }

    /// Figures of the cluster; none without one.
    pub fn cluster_figures(&self) -> Option<LifeFigures> {
        let peers = self.peers()?;
        let life = &peers.life;
        Some(LifeFigures {
            nodes: peers.nodes().len(),
            is_up: peers.cluster().is_up(),
            fenced: life.fenced.load(Ordering::Relaxed),
            buried_nodes: life.buried_nodes.load(Ordering::Relaxed),
            buried_members: life.buried_members.load(Ordering::Relaxed),
            corrections: *life.corrections(),
            store: peers.cluster().figures(),
        })
    }

    /// Why this node is cut off from its cluster, if it is.
    pub(in crate::node) fn cut_off(&self) -> Option<NotReady> {
        let peers = self.peers()?;
        if peers.is_fenced() {
            return Some(NotReady::Fenced);
        }
        (!peers.cluster().is_up()).then_some(NotReady::Store)
    }

    /// Whether a connection may be one of this node: none may while the node is fenced, nor one that came in an
    /// earlier life of it.
    pub(in crate::node) fn is_of_this_life(&self, facts: &ConnFacts) -> bool {
        self.peers().is_none_or(|peers| !peers.is_fenced() && facts.id.node() == peers.slot())
    }

    /// Returns whether a leave of a connection of this node is to be announced now. While the other nodes may have
    /// taken this one for dead, and announced it themselves, it is announced later, or never.
    pub(in crate::node) fn tells_leaves_now(&self, facts: &ConnFacts, room: &RoomName) -> bool {
        let Some(peers) = self.peers() else { return true };
        if !facts.id.is_session() && facts.id.node() != peers.slot() {
            // Of an earlier life of this node: the node that reaped it announced this leave.
            return false;
        }
        // `None`: this node cannot know.
        let decide = || if peers.is_fenced() { Some(false) } else { peers.cluster().is_up().then_some(true) };
        if let Some(tells_now) = decide() {
            return tells_now;
        }
        let departed = Departed { facts: facts.clone(), user: self.user_of_member(facts.id) };
        let mut postponed = lock(&peers.life.postponed);
        // Decided again under the lock: the list is emptied after the state has changed.
        let tells_now = decide();
        if tells_now.is_none() {
            postponed.push((departed, room.clone()));
        }
        tells_now.unwrap_or(false)
    }

    /// Announces the leaves that were postponed, if this node is certain now that no other node did.
    fn tell_postponed(&self, peers: &Peers) {
        let postponed = {
            let mut postponed = lock(&peers.life.postponed);
            if !peers.cluster().is_up() {
                return;
            }
            std::mem::take(&mut *postponed)
        };
        for (departed, room) in postponed {
            self.tell_departure(departed, &room);
        }
    }

    /// Tells that somebody has left who is not connected here, or not any more.
    pub(super) fn tell_departure(&self, departed: Departed, room: &RoomName) {
        let Departed { facts, user } = departed;
        let _lent = self.0.registry.lend(facts.id, user);
        self.0.hooks.run(Change::Leave, || MembershipChange {
            connection: ConnectionHandle { facts: facts.clone(), address: None, far: None, node: self.clone() },
            room: room.clone(),
        });
        self.report_leave(&facts, room);
    }

    /// Shows the others what this node has, for as long as there is one.
    pub(in crate::node) fn keep_reporting(&self) {
        let inner = std::sync::Arc::downgrade(&self.0);
        self.spawn(Box::pin(async move {
            let mut reports = tokio::time::interval(REPORTS);
            reports.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                reports.tick().await;
                let Some(node) = inner.upgrade().map(Node) else { return };
                let Some(peers) = node.peers() else { return };
                // A lease that ended and was renewed in time is no change of state.
                node.tell_postponed(peers);
                peers.cluster().report(Report {
                    connections: node.0.counters.connections.load(Ordering::Relaxed) as u64,
                    members: node.0.directory.shared().map_or(0, |directory| directory.held()),
                    is_draining: node.0.is_draining.load(Ordering::Relaxed),
                });
            }
        }));
    }

    pub(super) fn note_life(&self, event: ClusterEvent) {
        let Some(peers) = self.peers() else { return };
        let node = self.clone();
        match event {
            ClusterEvent::Joined(other) => {
                tracing::info!(node = other.name, slot = other.slot, "a node has come");
                self.follow_commands_of(&[other.slot]);
            }
            ClusterEvent::Left(other) => {
                tracing::info!(node = other.name, slot = other.slot, "a node has gone");
                self.commands_of_node_gone(&other);
            }
            ClusterEvent::Reap { dead, reaper } => {
                self.commands_of_node_gone(&dead);
                if reaper == peers.cluster().incarnation() {
                    self.spawn(Box::pin(async move { node.bury(dead).await }));
                }
            }
            ClusterEvent::Message { .. } | ClusterEvent::Grown { .. } => {}
        }
    }

    /// Does what each state of this node in its cluster demands, until the node is dropped.
    pub(super) fn follow_cluster_state(&self, mut states: watch::Receiver<ClusterState>) {
        let inner = Arc::downgrade(&self.0);
        self.spawn(Box::pin(async move {
            let (mut generation, mut is_start) = (None, true);
            loop {
                let state = *states.borrow_and_update();
                {
                    let Some(node) = inner.upgrade().map(Node) else { return };
                    match state {
                        ClusterState::Up { generation: now, .. } => {
                            let before = generation.replace(now);
                            if !is_start {
                                node.cluster_is_up(before.is_some_and(|before| before != now));
                            }
                        }
                        ClusterState::Down => tracing::warn!(
                            "store unreachable; requests that need it are refused, the node tries again on its own; \
                             check that Redis runs at backend.redis.url"
                        ),
                        ClusterState::Fenced { incarnation } => node.release_all(incarnation).await,
                    }
                }
                is_start = false;
                if states.changed().await.is_err() {
                    return;
                }
            }
        }));
    }

    /// The node is a member again. `is_new`: the store may have lost what it had confirmed.
    fn cluster_is_up(&self, is_new: bool) {
        let Some(peers) = self.peers() else { return };
        tracing::info!(is_new, "store reachable again");
        if is_new {
            peers.life.is_to_restore.store(true, Ordering::Release);
            let node = self.clone();
            self.spawn(Box::pin(async move { node.end_gateway_sessions().await }));
        }
        self.follow_commands_of(&peers.others());
        self.tell_postponed(peers);
        let node = self.clone();
        self.spawn(Box::pin(async move { node.mend_directory().await }));
    }

    /// Closes everything that this node holds, which the others gave away when they took it for dead, and lets it
    /// rejoin.
    async fn release_all(&self, incarnation: u64) {
        let Some(peers) = self.peers() else { return };
        peers.life.fenced.fetch_add(1, Ordering::AcqRel);
        lock(&peers.life.postponed).clear();
        if let Some(directory) = self.0.directory.shared() {
            directory.let_go();
        }
        // A worker with a full inbox does not delay the others.
        let closing = all(self.0.workers.iter().map(|worker| async {
            while self.open_connections() > 0 {
                worker.push(Mail::Ask(Ask::Expel)).await;
                tokio::time::sleep(RELEASE_PAUSE).await;
            }
        }));
        let releasing = async { tokio::join!(self.let_go_of_sessions(), closing) };
        if tokio::time::timeout(peers.life.lease * RELEASE_LEASES, releasing).await.is_err() {
            tracing::error!(open = self.open_connections(), "connections not closed in time; rejoining without them");
            for worker in &self.0.workers {
                self.tell_soon(worker, Ask::Expel);
            }
        }
        if let Some(directory) = self.0.directory.shared() {
            // Joins that were under way have failed.
            directory.let_go();
        }
        peers.cluster().rejoin(incarnation);
    }

    /// Connections that stay open: requests over HTTP end by themselves.
    fn open_connections(&self) -> usize {
        let counters = &self.0.counters;
        let requests = counters.connections_by_type[ConnectionType::Web.index()].load(Ordering::Relaxed);
        counters.connections.load(Ordering::Relaxed).saturating_sub(requests)
    }
}
