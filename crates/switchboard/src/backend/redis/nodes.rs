//! The nodes of the cluster: who lives, and who sees to it that the dead are buried.
//!
//! Each node says that it lives, five times in a lease, and looks around in the same step. Whoever has not said so for a lease is dead
//! for all: a survivor claims it (one, whoever is first), puts its affairs in order, and says so. A dead node that wakes up finds
//! itself fenced. The decisions are in [`watch`]; the steps in Redis are the `.lua` files beside it.

mod watch;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redis::Value;
use tokio::sync::{Notify, mpsc, watch as channel};
use tokio::time::MissedTickBehavior;

use crate::backend::BackendError;
use crate::backend::cluster::{ClusterEvent, NodeEntry, Report};
use crate::hub::ids::Ids;

use super::link::LinkState;
use super::script::Script;
use super::store::{Answered, Store};
use super::trouble::Trouble;
use watch::Watch;

static ATTACH: Script = Script::urgent(include_str!("nodes/attach.lua"));
static BEAT: Script = Script::urgent(include_str!("nodes/beat.lua"));
static BURY: Script = Script::new(include_str!("nodes/bury.lua"));
static BURIED: Script = Script::new(include_str!("nodes/buried.lua"));
static LEAVE: Script = Script::new(include_str!("nodes/leave.lua"));

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
    others: Mutex<Vec<NodeEntry>>,
    /// What others are shown.
    report: Mutex<Report>,
    /// The masters that were seen last.
    masters: Mutex<std::collections::BTreeSet<String>>,
    /// Whether the store can be reached, and this node is part of the cluster.
    standing: channel::Sender<Membership>,
    rejoin: Notify,
    /// It stops, and says no more that it lives.
    is_leaving: AtomicBool,
    /// Another node has come: it is looked around at once.
    look: Arc<Notify>,
}

/// How this node and its cluster get on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Membership {
    /// It is part of it, in this generation of the store.
    Member { generation: u64 },
    /// The store cannot be reached.
    Away,
    /// It was taken for dead, and has not begun anew.
    Fenced,
}

/// What became of an attempt to say something to the store.
enum Said {
    Ok,
    Fenced,
}

/// As whom a node says who it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum As {
    /// As a process that has just started, in place of any other of its name.
    New,
    /// As one that was taken for dead, with a number of its own. Not in place of one that lives.
    Anew,
    /// As whom it was before.
    Before,
}

impl Nodes {
    /// Takes part in the cluster, and does so for as long as there is a node.
    ///
    /// # Errors
    ///
    /// When the store says no: kept by another version, or used by another cluster.
    pub(super) async fn join(
        store: Store,
        settings: NodeSettings,
        ids: Ids,
        events: mpsc::Sender<ClusterEvent>,
    ) -> Result<Self, BackendError> {
        let nodes = Self(Arc::new(Inner {
            store,
            settings,
            ids,
            others: Mutex::default(),
            report: Mutex::default(),
            masters: Mutex::default(),
            standing: channel::Sender::new(Membership::Away),
            rejoin: Notify::new(),
            is_leaving: AtomicBool::new(false),
            look: Arc::default(),
        }));
        let mut keeper = Keeper { watch: Watch::default(), events, untold: Vec::new(), to_claim: Vec::new() };
        nodes.attach(As::New).await?;
        nodes.beat(&mut keeper).await?;
        let inner = Arc::downgrade(&nodes.0);
        let link = nodes.0.store.link.state();
        tokio::spawn(keep(inner, link, keeper));
        Ok(nodes)
    }

    fn keys(&self) -> [String; 6] {
        ["meta", "list", "seen", "dead", "graves", "diggers"].map(|what| self.0.store.keys.nodes(what))
    }

    /// Says to the store who this is.
    async fn attach(&self, who: As) -> Result<Said, BackendError> {
        let Inner { store, settings, .. } = &*self.0;
        let standing = &store.standing;
        let (slot, incarnation) =
            if who == As::Before { (standing.slot(), standing.incarnation()) } else { (0, fastrand::u64(1..) >> 1) };
        let spares_ms = if who == As::Anew { settings.lease.as_millis() } else { 0 };
        let serial = store.link.serial().unwrap_or_default();
        let server = store.link.server().await?;
        let masters = server.runs.iter().map(String::as_str).collect::<Vec<_>>().join(",");
        let keys = self.keys();
        let keys = [0, 1, 2, 3, 4].map(|index| keys[index].as_str());
        let sent_ms = standing.now_ms();
        let generation = standing.generation();
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
                standing.set(serial, generation, slot, incarnation);
                self.0.ids.set_node(slot);
                standing.extend(sent_ms, settings.lease);
                Ok(Said::Ok)
            }
            (Some("fenced"), ..) => Ok(Said::Fenced),
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

    /// Says that it lives, and looks around.
    async fn beat(&self, keeper: &mut Keeper) -> Result<Said, BackendError> {
        let Inner { store, settings, .. } = &*self.0;
        let standing = &store.standing;
        let keys = self.keys();
        let sent_ms = standing.now_ms();
        let (slot, incarnation, entry) = (standing.slot(), standing.incarnation(), self.entry());
        let answer = store.link.run(&BEAT, &keys.each_ref().map(String::as_str), |command| {
            command.arg(slot).arg(incarnation).arg(&settings.name).arg(entry);
        });
        let answer = answer.await?;
        let words = answer.list().unwrap_or_default();
        match (words.first().and_then(Answered::text), words) {
            (Some("ok"), [_, generation, nodes, graves]) => {
                if generation.number() != Some(standing.generation()) {
                    // Somebody else has found out that the store has lost something.
                    return self.attach(As::Before).await;
                }
                standing.extend(sent_ms, settings.lease);
                let changes = keeper.watch.look(sent_ms, incarnation, settings.lease, entries(nodes), entries(graves));
                *lock(&self.0.others) = keeper.watch.known().cloned().collect();
                keeper.untold.extend(changes.left.into_iter().map(ClusterEvent::Left));
                keeper.untold.extend(changes.joined.into_iter().map(ClusterEvent::Joined));
                let is_new = |node: &NodeEntry| keeper.to_claim.iter().all(|old| old.incarnation != node.incarnation);
                let to_bury: Vec<_> = changes.to_bury.into_iter().filter(is_new).collect();
                keeper.to_claim.extend(to_bury);
                while let Some(node) = keeper.to_claim.pop() {
                    let is_claimed = match self.claim(&node).await {
                        Ok(is_claimed) => is_claimed,
                        Err(error) => {
                            // It may have been claimed, and then nobody else is offered it.
                            keeper.to_claim.push(node);
                            return Err(error);
                        }
                    };
                    if is_claimed {
                        tracing::warn!(
                            node = node.name,
                            slot = node.slot,
                            "a node is gone: its affairs are put in order here"
                        );
                        if keeper.watch.forget(&node) {
                            keeper.untold.push(ClusterEvent::Left(node.clone()));
                        }
                        keeper.untold.push(ClusterEvent::Bury(node));
                    }
                }
                Ok(Said::Ok)
            }
            (Some("fenced"), _) => Ok(Said::Fenced),
            (Some("unknown"), _) => self.attach(As::Before).await,
            _ => Err(store.odd("beat", &answer)),
        }
    }

    async fn claim(&self, node: &NodeEntry) -> Result<bool, BackendError> {
        let Inner { store, settings, .. } = &*self.0;
        let keys = self.keys();
        let keys = [1, 2, 3, 4, 5].map(|index| keys[index].as_str());
        let (slot, incarnation, own) = (node.slot, node.incarnation, store.standing.incarnation());
        let lease_ms = u64::try_from(settings.lease.as_millis()).unwrap_or(u64::MAX);
        let answer = store.change(&BURY, &keys, |command| {
            command.arg(slot).arg(incarnation).arg(own).arg(lease_ms);
        });
        Ok(answer.await?.number() == Some(1))
    }

    /// See [`crate::backend::cluster::Cluster::buried`].
    pub(super) async fn buried(&self, slot: u16) -> Result<(), BackendError> {
        let store = &self.0.store;
        let keys = self.keys();
        let own = store.standing.incarnation();
        let answer = store.change(&BURIED, &[&keys[4], &keys[5]], |command| {
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

    /// Looks around at once, because another node has come.
    pub(super) fn look(&self) {
        self.0.look.notify_one();
    }

    /// See [`crate::backend::cluster::Cluster::rejoin`].
    pub(super) fn rejoin(&self) {
        self.0.rejoin.notify_one();
    }

    /// See [`crate::backend::cluster::Cluster::report`].
    pub(super) fn report(&self, report: Report) {
        *lock(&self.0.report) = report;
    }

    /// `backend.redis.lease`.
    pub(super) fn lease(&self) -> Duration {
        self.0.settings.lease
    }

    /// How this node stands, and whenever that changes.
    pub(super) fn membership(&self) -> channel::Receiver<Membership> {
        self.0.standing.subscribe()
    }

    /// The living nodes by their numbers, this one included while it is part of them.
    pub(super) fn all(&self) -> Vec<NodeEntry> {
        let mut all = lock(&self.0.others).clone();
        let standing = &self.0.store.standing;
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

/// What the task that keeps a node in its cluster has.
struct Keeper {
    watch: Watch,
    events: mpsc::Sender<ClusterEvent>,
    /// What the node could not be told yet.
    untold: Vec<ClusterEvent>,
    /// Dead nodes of which nobody knows yet who buries them.
    to_claim: Vec<NodeEntry>,
}

impl Keeper {
    /// Tells what there is to tell, as far as there is space. Nobody waits here: the next sign of life must not be late.
    fn tell(&mut self) {
        let mut untold = std::mem::take(&mut self.untold).into_iter();
        for event in untold.by_ref() {
            if let Err(mpsc::error::TrySendError::Full(event)) = self.events.try_send(event) {
                self.untold.push(event);
                break;
            }
        }
        self.untold.extend(untold);
    }
}

/// Says that the node lives, for as long as there is one.
async fn keep(inner: std::sync::Weak<Inner>, mut link: channel::Receiver<LinkState>, mut keeper: Keeper) {
    let Some((lease, look)) = inner.upgrade().map(|inner| (inner.settings.lease, Arc::clone(&inner.look))) else {
        return;
    };
    let mut beats = tokio::time::interval(lease / 5);
    beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut serial = 1;
    loop {
        tokio::select! {
            _ = beats.tick() => {}
            () = look.notified() => {}
            changed = link.changed() => if changed.is_err() { return },
        }
        let Some(nodes) = inner.upgrade().map(Nodes) else { return };
        if nodes.0.is_leaving.load(Ordering::Acquire) {
            return;
        }
        let state = link.borrow_and_update().clone();
        if *nodes.0.standing.borrow() == Membership::Fenced {
            nodes.begin_anew(&mut keeper).await;
            continue;
        }
        let said = match state {
            LinkState::Down => Err(BackendError("there is no connection".to_owned())),
            LinkState::Up { serial: new, .. } if new != serial => match nodes.attach(As::Before).await {
                Ok(Said::Ok) => {
                    serial = new;
                    nodes.beat(&mut keeper).await
                }
                other => other,
            },
            LinkState::Up { server, .. } => {
                // Servers of a Redis Cluster change behind one connection.
                let is_changed = server.is_cluster && nodes.are_masters_new().await;
                if is_changed { nodes.attach(As::Before).await } else { nodes.beat(&mut keeper).await }
            }
        };
        if nodes.0.is_leaving.load(Ordering::Acquire) {
            // What was on its way may have extended what had ended.
            nodes.0.store.standing.end();
            return;
        }
        nodes.note(said, &mut keeper);
        keeper.tell();
    }
}

impl Nodes {
    fn note(&self, said: Result<Said, BackendError>, keeper: &mut Keeper) {
        let Inner { store, standing, .. } = &*self.0;
        let membership = match said {
            Ok(Said::Ok) => Membership::Member { generation: store.standing.generation() },
            Ok(Said::Fenced) => {
                store.standing.end();
                store.link.trouble(Trouble::Fenced, "others have taken this node for dead");
                tracing::error!(
                    "this node was taken for dead by the others: it closes its connections and begins anew"
                );
                keeper.untold.push(ClusterEvent::Fenced);
                Membership::Fenced
            }
            Err(error) => {
                keeper.watch.interrupt();
                tracing::debug!(%error, "the store was not told that this node lives");
                Membership::Away
            }
        };
        standing.send_if_modified(|before| std::mem::replace(before, membership) != membership);
    }

    /// Everything was closed, or is about to be: then it begins a new life.
    async fn begin_anew(&self, keeper: &mut Keeper) {
        keeper.tell();
        self.0.rejoin.notified().await;
        keeper.watch = Watch::default();
        keeper.to_claim.clear();
        let said = match self.attach(As::Anew).await {
            Ok(_) => self.beat(keeper).await,
            Err(error) => Err(error),
        };
        match said {
            Ok(_) => self.note(said, keeper),
            Err(error) => {
                tracing::warn!(%error, "this node cannot begin anew yet");
                self.0.rejoin.notify_one();
            }
        }
    }

    async fn are_masters_new(&self) -> bool {
        let Ok(server) = self.0.store.link.server().await else { return false };
        let mut masters = lock(&self.0.masters);
        std::mem::replace(&mut *masters, server.runs.clone()) != server.runs
    }
}

/// Rows of nodes: number, entry, and for those who live the time since they were heard of. What cannot be read is passed over.
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
    use super::*;

    #[test]
    fn fault_row_53_rows_that_nobody_wrote_are_passed_over() {
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
