//! Nodes that come and go, and this one that was taken for dead.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use switchboard_proto::call::ConnectionType;
use switchboard_proto::face::ConnFacts;
use switchboard_proto::id::RoomName;
use tokio::time::MissedTickBehavior;

use crate::backend::Pattern;
use crate::backend::cluster::{ClusterEvent, ClusterFigures, Report};
use crate::backend::shared::{Departed, Mended};
use crate::config::Config;
use crate::hub::mail::Ask;

use super::super::connection::ConnectionHandle;
use super::super::hooks::{Change, MembershipChange};
use super::super::{Node, NotReady};

/// How often the others are shown what this node has.
const REPORTS: Duration = Duration::from_secs(1);

/// Time that the connections of a fenced node have to end. What ends later is turned away by whatever it does next.
const EXPULSION: Duration = Duration::from_secs(10);

/// How this node and its cluster get on.
#[derive(Debug)]
pub(super) struct Life {
    is_fenced: AtomicBool,
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
    /// The store has forgotten something, and not everything is noted again.
    pub(super) is_to_restore: AtomicBool,
    /// One at a time mends the directory.
    pub(super) mending: tokio::sync::Mutex<()>,
    /// Who left while nobody knew whether the others had announced it already. Each was a member when the store was lost, and
    /// nobody becomes one meanwhile: so their number is bounded by that.
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
            is_fenced: AtomicBool::new(false),
            fenced: AtomicU64::default(),
            buried_nodes: AtomicU64::default(),
            buried_members: AtomicU64::default(),
            starting: starting.collect(),
            audit_interval: config.backend.redis.audit_interval,
            figures_interval: config.backend.redis.figures_interval,
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

    pub(super) fn is_fenced(&self) -> bool {
        self.is_fenced.load(Ordering::Acquire)
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
            is_up: peers.cluster().is_up() && !life.is_fenced(),
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
        if peers.life.is_fenced() {
            return Some(NotReady::Fenced);
        }
        (!peers.cluster().is_up()).then_some(NotReady::Store)
    }

    /// Whether a connection may be one of this node: none may while the node is fenced, nor one that came in an earlier life of it.
    pub(in crate::node) fn is_of_this_life(&self, facts: &ConnFacts) -> bool {
        self.peers().is_none_or(|peers| !peers.life.is_fenced() && facts.id.node() == peers.slot())
    }

    /// Whether it is to be told now that somebody of this node leaves. While nobody knows whether the others have taken this node for
    /// dead and told it themselves it is told later, or never.
    pub(in crate::node) fn tells_leaves_now(&self, facts: &ConnFacts, room: &RoomName) -> bool {
        let Some(peers) = self.peers() else { return true };
        if peers.life.is_fenced() {
            return false;
        }
        let is_certain = peers.cluster().is_up();
        if !is_certain {
            let departed = Departed { facts: facts.clone(), user: self.user_of_member(facts.id) };
            lock(&peers.life.postponed).push((departed, room.clone()));
        }
        is_certain
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
            ClusterEvent::Bury(other) => {
                self.commands_of_node_gone(&other);
                self.spawn(Box::pin(async move { node.bury(other).await }));
            }
            ClusterEvent::Fenced => {
                // Said before anything else is looked at.
                peers.life.is_fenced.store(true, Ordering::Release);
                peers.life.fenced.fetch_add(1, Ordering::AcqRel);
                lock(&peers.life.postponed).clear();
                self.spawn(Box::pin(async move { node.begin_new_life().await }));
            }
            ClusterEvent::Down => tracing::warn!("the cluster cannot be reached"),
            ClusterEvent::Up { is_new } => {
                tracing::info!(is_new, "the cluster can be reached");
                peers.life.is_fenced.store(false, Ordering::Release);
                if is_new {
                    peers.life.is_to_restore.store(true, Ordering::Release);
                    let ending = self.clone();
                    self.spawn(Box::pin(async move { ending.end_gateway_sessions().await }));
                }
                self.follow_commands_of(&peers.others());
                let postponed = std::mem::take(&mut *lock(&peers.life.postponed));
                for (departed, room) in postponed {
                    self.tell_departure(departed, &room);
                }
                self.spawn(Box::pin(async move { node.mend_directory().await }));
            }
            ClusterEvent::Message { .. } | ClusterEvent::Grown { .. } => {}
        }
    }

    /// The others have taken this node for dead and given away what it had: it lets go of everything, and begins anew.
    async fn begin_new_life(&self) {
        let Some(peers) = self.peers() else { return };
        if let Some(directory) = self.0.directory.shared() {
            directory.let_go();
        }
        self.let_go_of_sessions().await;
        let deadline = tokio::time::Instant::now() + EXPULSION;
        let mut looks = tokio::time::interval(Duration::from_millis(50));
        // Again and again: some may have been on their way in.
        while self.open_connections() > 0 && tokio::time::Instant::now() < deadline {
            self.tell_all(|| Ask::Expel).await;
            looks.tick().await;
        }
        if let Some(directory) = self.0.directory.shared() {
            // Joins that were under way have failed.
            directory.let_go();
        }
        peers.cluster().rejoin();
    }

    /// Connections that stay open: requests over HTTP end by themselves.
    fn open_connections(&self) -> usize {
        let counters = &self.0.counters;
        let requests = counters.connections_by_type[ConnectionType::Web.index()].load(Ordering::Relaxed);
        counters.connections.load(Ordering::Relaxed).saturating_sub(requests)
    }
}
