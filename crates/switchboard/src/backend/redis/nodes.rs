//! The list of nodes in Redis, and the task that keeps this node in it.
//!
//! Each node renews its lease five times within its length, and reads the list in the same step. A node that has not
//! renewed for a lease is dead: one survivor claims it, removes its members, and reports that. A dead node that wakes
//! up finds itself fenced. The decisions are in [`lease`](crate::backend::lease); the steps in Redis are the `.lua`
//! files beside this one.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use redis::Value;
use tokio::sync::{Notify, mpsc, watch};

use crate::backend::BackendError;
use crate::backend::cluster::{ClusterEvent, NodeEntry, Report};
pub(super) use crate::backend::lease::Membership;
use crate::backend::lease::peers::PeerEvent;
use crate::backend::lease::{Attach, Attached, Lease, LeaseStep, Renewed};
use crate::hub::ids::Ids;

use super::link::LinkState;
use super::script::Script;
use super::store::{Answered, Store};
use super::trouble::Trouble;

static ATTACH: Script = Script::urgent(include_str!("nodes/attach.lua"));
static RENEW: Script = Script::urgent(include_str!("nodes/beat.lua"));
// A dead node's clients reconnect at once: the claim must not wait for their requests.
static REAP: Script = Script::urgent(include_str!("nodes/bury.lua"));
static REAPED: Script = Script::new(include_str!("nodes/buried.lua"));
static LEAVE: Script = Script::urgent(include_str!("nodes/leave.lua"));

/// How everything is kept in Redis. A node refuses to take part where it is kept otherwise.
const FORMAT: &str = "1";

/// What this node is, and how long leases are.
#[derive(Clone, Debug)]
pub(crate) struct NodeSettings {
    /// `node.name`.
    pub(crate) name: String,
    /// `backend.redis.cluster`.
    pub(crate) cluster: String,
    /// `backend.redis.lease`.
    pub(crate) lease: Duration,
    /// When this process started.
    pub(crate) started_ms: u64,
}

/// This node among the others. Cloning shares it.
#[derive(Clone, Debug)]
pub(super) struct Nodes(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    store: Store,
    settings: NodeSettings,
    ids: Ids,
    /// The other nodes, and when they were read.
    others: Mutex<(u64, Vec<NodeEntry>)>,
    /// Facts about this node that the others are shown.
    report: Mutex<Report>,
    /// The masters of the store at the latest attach.
    masters: Mutex<BTreeSet<String>>,
    membership: watch::Sender<Membership>,
    /// The latest fenced incarnation whose connections the node has closed.
    released: watch::Sender<u64>,
    /// The node stops and no longer renews its lease.
    is_leaving: AtomicBool,
    /// Another node has joined: the list is read at once.
    look: Arc<Notify>,
}

impl Nodes {
    /// Joins the cluster, and keeps this node in it until the last clone is dropped.
    ///
    /// # Errors
    ///
    /// When the store refuses: its data has another format, or belongs to another cluster.
    pub(super) async fn join(
        store: Store,
        settings: NodeSettings,
        ids: Ids,
        events: mpsc::Sender<ClusterEvent>,
    ) -> Result<Self, BackendError> {
        let lease = Lease::new(settings.lease, fresh_incarnation());
        let nodes = Self(Arc::new(Inner {
            store,
            settings,
            ids,
            others: Mutex::default(),
            report: Mutex::default(),
            masters: Mutex::default(),
            membership: watch::Sender::new(lease.membership()),
            released: watch::Sender::new(0),
            is_leaving: AtomicBool::new(false),
            look: Arc::default(),
        }));
        let (link, released) = (nodes.0.store.link.state(), nodes.0.released.subscribe());
        let mut task = LeaseTask { lease, link, released, look: Arc::clone(&nodes.0.look), events };
        loop {
            let step = task.next(&nodes);
            if matches!(step, LeaseStep::WaitUntil(_)) {
                break;
            }
            nodes.carry_out(step, &mut task.lease).await?;
        }
        if task.lease.membership() == Membership::Joining {
            return Err(nodes.0.store.link.trouble(Trouble::Connection, "there is no connection"));
        }
        tokio::spawn(task.run(Arc::downgrade(&nodes.0)));
        Ok(nodes)
    }

    fn keys(&self) -> [String; 6] {
        ["meta", "list", "seen", "dead", "graves", "diggers"].map(|what| self.0.store.keys.nodes(what))
    }

    /// Carries out a step and reports its result to the lease.
    ///
    /// # Errors
    ///
    /// The reason why it failed, which the lease knows too.
    async fn carry_out(&self, step: LeaseStep, lease: &mut Lease) -> Result<(), BackendError> {
        let sent_ms = self.0.store.standing.now_ms();
        let result = match step {
            LeaseStep::WaitUntil(_) => return Ok(()),
            LeaseStep::Renew if self.have_masters_changed().await => {
                lease.reattach();
                return Ok(());
            }
            LeaseStep::Renew => self.renew(lease.incarnation()).await.map(|answer| lease.renewed(sent_ms, answer)),
            LeaseStep::Attach(attach) => {
                let answer = self.attach(attach).await;
                answer.map(|(connection, answer)| lease.attached(sent_ms, connection, answer))
            }
            LeaseStep::Claim(dead) => self.claim(&dead).await.map(|is_claimed| {
                if is_claimed {
                    tracing::warn!(node = dead.name, slot = dead.slot, "node is dead; this node removes its members");
                }
                lease.claimed(&dead, is_claimed);
            }),
        };
        if let Err(error) = &result {
            tracing::debug!(%error, "lease not renewed");
            lease.failed(sent_ms);
        }
        self.publish(lease);
        result
    }

    /// Makes the state of the lease visible to all that depend on it.
    fn publish(&self, lease: &Lease) {
        let Inner { store, membership, .. } = &*self.0;
        store.standing.hold_until(lease.valid_until_ms());
        *lock(&self.0.others) = (lease.read_ms(), lease.peers().cloned().collect());
        let now = lease.membership();
        if self.0.is_leaving.load(Ordering::Acquire) && matches!(now, Membership::Fenced { .. }) {
            // A renewal that was sent after the node left: the node stops as planned.
            return;
        }
        let has_changed = membership.send_if_modified(|before| std::mem::replace(before, now) != now);
        if has_changed && matches!(now, Membership::Fenced { .. }) {
            store.link.trouble(Trouble::Fenced, "other nodes took this node for dead");
            tracing::error!("other nodes took this node for dead; closing all connections, then rejoining");
        }
    }

    /// Enters this node into the list. Returns the number of the connection that was used, and the answer.
    async fn attach(&self, attach: Attach) -> Result<(u64, Attached), BackendError> {
        let Inner { store, settings, .. } = &*self.0;
        let Attach { slot, incarnation, generation, spares_ms } = attach;
        let serial = store.link.serial().unwrap_or_default();
        let server = store.link.server().await?;
        let masters = server.runs.iter().map(String::as_str).collect::<Vec<_>>().join(",");
        let keys = self.keys();
        let keys = [0, 1, 2, 3, 4].map(|index| keys[index].as_str());
        let entry = self.entry();
        let answer = store.link.run_over(Some(serial), &ATTACH, &keys, |command| {
            command.arg(masters).arg(&settings.cluster).arg(FORMAT).arg(slot).arg(generation);
            command.arg(incarnation).arg(&settings.name).arg(entry).arg(spares_ms.to_string());
        });
        let answer = answer.await?;
        let words = answer.list().unwrap_or_default();
        let word = |index: usize| words.get(index).and_then(Answered::text);
        match (word(0), words.get(1).and_then(Answered::number), words.get(2).and_then(Answered::number)) {
            (Some("ok"), Some(generation), Some(slot)) => {
                let slot = u16::try_from(slot).map_err(|_| store.odd("attach", &answer))?;
                store.standing.set(serial, generation, slot, incarnation);
                self.0.ids.set_node(slot);
                lock(&self.0.masters).clone_from(&server.runs);
                Ok((serial, Attached::Ok { slot, generation }))
            }
            (Some("fenced"), ..) => Ok((serial, Attached::Fenced)),
            (Some("format"), ..) => Err(BackendError(format!(
                "what is kept in Redis under this prefix is of format {}, and this version keeps format {FORMAT}: use another \
                 backend.redis.prefix, or the version that fits",
                word(1).unwrap_or_default()
            ))),
            (Some("cluster"), ..) => Err(BackendError(format!(
                "Redis is used under this prefix by the cluster {:?}, and this node belongs to {:?}: use another \
                 backend.redis.prefix, or set backend.redis.cluster",
                word(1).unwrap_or_default(),
                settings.cluster
            ))),
            (Some("name"), ..) => Err(store.link.trouble(
                Trouble::Fenced,
                format_args!("another node with the name {:?} has taken its place: give each a node.name of its own", settings.name),
            )),
            (Some("full"), ..) => Err(BackendError("the cluster has no number left for this node: stop some of its 65535, or use another backend.redis.prefix"
                    .to_owned(),
            )),
            _ => Err(store.odd("attach", &answer)),
        }
    }

    /// What others see of this node, but for its name and number.
    fn entry(&self) -> String {
        let Report { connections, members, is_draining } = *lock(&self.0.report);
        let settings = &self.0.settings;
        serde_json::json!({
            "started_ms": settings.started_ms,
            "version": env!("CARGO_PKG_VERSION"),
            "connections": connections,
            "members": members,
            "draining": is_draining,
        })
        .to_string()
    }

    /// Renews the lease and reads the list of nodes.
    async fn renew(&self, incarnation: u64) -> Result<Renewed, BackendError> {
        let Inner { store, settings, .. } = &*self.0;
        let keys = self.keys();
        let (slot, entry) = (store.standing.slot(), self.entry());
        let answer = store.link.run(&RENEW, &keys.each_ref().map(String::as_str), |command| {
            command.arg(slot).arg(incarnation).arg(&settings.name).arg(entry);
        });
        let answer = answer.await?;
        let words = answer.list().unwrap_or_default();
        match (words.first().and_then(Answered::text), words) {
            (Some("ok"), [_, generation, nodes, tombstones]) => Ok(Renewed::Ok {
                generation: generation.number().unwrap_or_default(),
                nodes: entries(nodes),
                tombstones: entries(tombstones),
            }),
            (Some("fenced"), _) => Ok(Renewed::Fenced),
            (Some("unknown"), _) => Ok(Renewed::Unknown),
            _ => Err(store.odd("renew", &answer)),
        }
    }

    async fn claim(&self, node: &NodeEntry) -> Result<bool, BackendError> {
        let Inner { store, settings, .. } = &*self.0;
        let keys = self.keys();
        let keys = [1, 2, 3, 4, 5].map(|index| keys[index].as_str());
        let (slot, incarnation, own) = (node.slot, node.incarnation, store.standing.incarnation());
        let lease_ms = u64::try_from(settings.lease.as_millis()).unwrap_or(u64::MAX);
        let answer = store.change(&REAP, &keys, |command| {
            command.arg(slot).arg(incarnation).arg(own).arg(lease_ms);
        });
        Ok(answer.await?.number() == Some(1))
    }

    /// See [`crate::backend::cluster::Cluster::buried`].
    pub(super) async fn buried(&self, slot: u16) -> Result<(), BackendError> {
        let store = &self.0.store;
        let keys = self.keys();
        let own = store.standing.incarnation();
        let answer = store.change(&REAPED, &[&keys[4], &keys[5]], |command| {
            command.arg(slot).arg(own);
        });
        answer.await.map(drop)
    }

    /// See [`crate::backend::cluster::Cluster::leave`].
    pub(super) async fn leave(&self) -> Result<(), BackendError> {
        let store = &self.0.store;
        let keys = self.keys();
        let keys = [1, 2, 3, 4].map(|index| keys[index].as_str());
        let (slot, incarnation) = (store.standing.slot(), store.standing.incarnation());
        self.0.is_leaving.store(true, Ordering::Release);
        store.standing.end();
        let answer = store.link.run(&LEAVE, &keys, |command| {
            command.arg(slot).arg(incarnation);
        });
        answer.await.map(drop)
    }

    /// Reads the list of nodes at once, because another node has joined.
    pub(super) fn look(&self) {
        self.0.look.notify_one();
    }

    /// See [`crate::backend::cluster::Cluster::rejoin`].
    pub(super) fn rejoin(&self, incarnation: u64) {
        self.0.released.send_replace(incarnation);
    }

    /// See [`crate::backend::cluster::Cluster::report`].
    pub(super) fn report(&self, report: Report) {
        *lock(&self.0.report) = report;
    }

    /// `backend.redis.lease`.
    pub(super) fn lease(&self) -> Duration {
        self.0.settings.lease
    }

    /// The membership of this node.
    pub(super) fn membership(&self) -> watch::Receiver<Membership> {
        self.0.membership.subscribe()
    }

    /// The living nodes by their numbers, this one included while it is part of them.
    pub(super) fn all(&self) -> Vec<NodeEntry> {
        let standing = &self.0.store.standing;
        let (read_ms, mut all) = lock(&self.0.others).clone();
        // While the store is away the list is old.
        let age_ms = standing.now_ms().saturating_sub(read_ms);
        all.iter_mut().for_each(|node| node.silent_ms = node.silent_ms.saturating_add(age_ms));
        if standing.is_valid() {
            let Report { connections, members, is_draining } = *lock(&self.0.report);
            let settings = &self.0.settings;
            all.push(NodeEntry {
                name: settings.name.clone(),
                slot: standing.slot(),
                incarnation: standing.incarnation(),
                started_ms: settings.started_ms,
                version: env!("CARGO_PKG_VERSION").to_owned(),
                connections,
                members,
                is_draining,
                silent_ms: 0,
            });
        }
        all.sort_unstable_by_key(|node| node.slot);
        all
    }
}

/// Carries out what the lease says.
struct LeaseTask {
    lease: Lease,
    link: watch::Receiver<LinkState>,
    released: watch::Receiver<u64>,
    look: Arc<Notify>,
    events: mpsc::Sender<ClusterEvent>,
}

impl LeaseTask {
    async fn run(mut self, inner: Weak<Inner>) {
        loop {
            let Some(nodes) = inner.upgrade().map(Nodes) else { return };
            let step = self.next(&nodes);
            if nodes.0.is_leaving.load(Ordering::Acquire) {
                // An answer to an earlier renewal may have extended the lease that was given up.
                nodes.0.store.standing.end();
                return;
            }
            if let LeaseStep::WaitUntil(until_ms) = step {
                let pause = Duration::from_millis(until_ms.saturating_sub(nodes.0.store.standing.now_ms()));
                drop(nodes);
                if !self.wait(pause).await {
                    return;
                }
            } else {
                // The lease knows of a failure and tries again.
                drop(nodes.carry_out(step, &mut self.lease).await);
            }
        }
    }

    fn next(&mut self, nodes: &Nodes) -> LeaseStep {
        self.lease.connected(match *self.link.borrow_and_update() {
            LinkState::Up { serial, .. } => Some(serial),
            LinkState::Down => None,
        });
        self.lease.released(*self.released.borrow_and_update(), fresh_incarnation());
        nodes.publish(&self.lease);
        self.lease.next(nodes.0.store.standing.now_ms())
    }

    /// Waits until there is something to do. Events are delivered as the node takes them: a renewal is not late
    /// because the node is. Returns `false` when there is no node any longer.
    async fn wait(&mut self, pause: Duration) -> bool {
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = self.look.notified() => self.lease.hurry(),
            changed = self.link.changed() => return changed.is_ok(),
            changed = self.released.changed() => return changed.is_ok(),
            permit = self.events.reserve(), if self.lease.has_event() && !self.events.is_closed() => {
                if let (Ok(permit), Some(event)) = (permit, self.lease.next_event()) {
                    permit.send(match event {
                        PeerEvent::Left(node) => ClusterEvent::Left(node),
                        PeerEvent::Reap { dead, reaper } => ClusterEvent::Reap { dead, reaper },
                        PeerEvent::Joined(node) => ClusterEvent::Joined(node),
                    });
                }
            }
        }
        true
    }
}

impl Nodes {
    /// Whether the servers of a Redis Cluster are others than at the latest attach. They change while the connection
    /// stays.
    async fn have_masters_changed(&self) -> bool {
        let Ok(server) = self.0.store.link.server().await else { return false };
        server.is_cluster && *lock(&self.0.masters) != server.runs
    }
}

/// A name for a life of this node, which no other life has.
fn fresh_incarnation() -> u64 {
    // The store keeps signed numbers.
    fastrand::u64(1..1 << 63)
}

/// Rows of nodes: slot, entry, and for members the time since their latest renewal. Rows that cannot be read are
/// ignored.
fn entries(rows: &Value) -> Vec<NodeEntry> {
    rows.list().unwrap_or_default().iter().filter_map(entry).collect()
}

fn entry(row: &Value) -> Option<NodeEntry> {
    let [slot, entry, rest @ ..] = row.list()? else { return None };
    let mut parts = entry.text()?.splitn(3, '\t');
    let (incarnation, name, json) = (parts.next()?, parts.next()?, parts.next()?);
    let facts: serde_json::Value = serde_json::from_str(json).ok()?;
    let number = |name: &str| facts.get(name).and_then(serde_json::Value::as_u64).unwrap_or_default();
    Some(NodeEntry {
        name: name.to_owned(),
        slot: slot.number().and_then(|slot| u16::try_from(slot).ok()).filter(|slot| *slot > 0)?,
        incarnation: incarnation.parse().ok()?,
        started_ms: number("started_ms"),
        version: facts.get("version").and_then(serde_json::Value::as_str).unwrap_or_default().to_owned(),
        connections: number("connections"),
        members: number("members"),
        is_draining: facts.get("draining").and_then(serde_json::Value::as_bool).unwrap_or_default(),
        silent_ms: rest.first().and_then(Answered::number).unwrap_or_default(),
    })
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing under these locks can panic half way.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{TestStore, runtime, single};
    use super::*;

    const DEADLINE: Duration = Duration::from_secs(60);

    /// A node that joins on a real Redis, with an event queue of this size.
    fn join(
        test: &TestStore,
        lease: Duration,
        queue: usize,
    ) -> (Nodes, mpsc::Sender<ClusterEvent>, mpsc::Receiver<ClusterEvent>) {
        let store = test.another_node().store.clone();
        let settings = NodeSettings { name: "a".to_owned(), cluster: "test".to_owned(), lease, started_ms: 0 };
        let (events, received) = mpsc::channel(queue);
        let nodes = runtime().block_on(Nodes::join(store, settings, Ids::default(), events.clone())).unwrap();
        (nodes, events, received)
    }

    fn wait_for(nodes: &Nodes, is_it: impl Fn(&Membership) -> bool) -> Membership {
        let mut membership = nodes.membership();
        runtime().block_on(async {
            let found = tokio::time::timeout(DEADLINE, membership.wait_for(is_it)).await;
            *found.expect("timed out waiting for the membership").unwrap()
        })
    }

    #[test]
    fn fault_row_34_a_fenced_node_rejoins_while_its_event_queue_is_full() {
        let test = single();
        let (nodes, events, mut received) = join(&test, Duration::from_secs(1), 1);
        events.try_send(ClusterEvent::Message { from: 9, bytes: bytes::Bytes::new() }).unwrap();
        let before = nodes.0.store.standing.incarnation();
        test.ask(&["HSET", &nodes.keys()[3], &before.to_string(), "1"]);
        assert_eq!(
            wait_for(&nodes, |now| matches!(now, Membership::Fenced { .. })),
            Membership::Fenced { incarnation: before }
        );
        assert!(!nodes.0.store.standing.is_valid());
        nodes.rejoin(before);
        wait_for(&nodes, |now| matches!(now, Membership::Member { .. }));
        let incarnation = nodes.0.store.standing.incarnation();
        assert_ne!(incarnation, before);
        // Events that waited for space arrive: its earlier life is to be reaped, by this one.
        let mut next = || {
            let event = async { tokio::time::timeout(DEADLINE, received.recv()).await };
            runtime().block_on(event).expect("timed out waiting for an event").unwrap()
        };
        let found = [next(), next()];
        let [ClusterEvent::Message { .. }, ClusterEvent::Reap { dead, reaper }] = &found[..] else {
            panic!("{found:?}")
        };
        assert_eq!((dead.incarnation, *reaper), (before, incarnation));
    }

    #[test]
    fn fault_row_34_an_attach_that_is_repeated_keeps_its_slot() {
        let test = single();
        let (nodes, ..) = join(&test, Duration::from_secs(60), 1);
        let standing = &nodes.0.store.standing;
        let (slot, generation) = (standing.slot(), standing.generation());
        for spares_ms in [0, 60_000] {
            let attach = Attach { slot: 0, incarnation: standing.incarnation(), generation: 0, spares_ms };
            let (_, answer) = runtime().block_on(nodes.attach(attach)).unwrap();
            assert_eq!(answer, Attached::Ok { slot, generation });
        }
        let renewed = runtime().block_on(nodes.renew(standing.incarnation())).unwrap();
        assert!(matches!(renewed, Renewed::Ok { ref tombstones, .. } if tombstones.is_empty()), "{renewed:?}");
    }

    #[test]
    fn fault_row_53_rows_that_no_node_wrote_are_ignored() {
        let text = |text: &str| Value::BulkString(text.as_bytes().to_vec());
        let row = |slot: &str, entry: &str| Value::Array(vec![text(slot), text(entry), text("7")]);
        let rows = Value::Array(vec![
            row("1", "5\ta\t{\"started_ms\":3,\"version\":\"1\"}"),
            row("0", "5\ta\t{}"),
            row("70000", "5\ta\t{}"),
            row("2", "x\ta\t{}"),
            row("2", "5\ta"),
            row("2", "5\ta\t{"),
            text("2"),
            Value::Nil,
        ]);
        let found = entries(&rows);
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].slot, found[0].incarnation, found[0].started_ms, found[0].silent_ms), (1, 5, 3, 7));
    }
}
