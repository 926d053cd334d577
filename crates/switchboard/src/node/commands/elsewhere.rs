//! Clients of other nodes: what those say about them, and what this node says about its own.
//!
//! Every node knows the clients of all nodes that take commands, and its own engine decides about the commands that
//! it accepts. So each node reports its own connections to the others ([`Follower`] repairs lost reports). `inbound`
//! carries out commands of other nodes, `replies` routes a reply to the node that waits for it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use switchboard_proto::id::ConnId;
use switchboard_proto::user::User;
use tokio::sync::Semaphore;

use crate::backend::cluster::{NodeEntry, To};
use crate::command::{AskPart, Engine, Follower, Out, PartHead};

use super::super::Node;
use super::super::cluster::Peers;
use super::super::cluster::commands::{Besides, Change, Connection, Note, Told};
use super::super::tags::TagIndex;
use super::carried::Carried;
use super::inbound::InboundQueue;
use super::{Desk, ElsewhereSettings, Waiter};

/// What the desk has to do with other nodes.
pub(super) struct Elsewhere {
    settings: ElsewhereSettings,
    /// Which life of this node the others are told of.
    line: u64,
    /// The number of the latest change that they were told.
    number: u64,
    /// Up to which rank they were told of activity.
    told_rank: u64,
    /// By the numbers of their nodes.
    pub(super) nodes: HashMap<u16, Other>,
    /// Connections that carry gateway sessions, by those.
    sessions: HashMap<ConnId, ConnId>,
    /// Connections of other nodes by their tags.
    tags: TagIndex,
    /// How many connections of others are known.
    known: usize,
    /// There were too many of them, and that was logged.
    is_full: bool,
    pub(super) carried: Carried,
    pub(super) inbound: InboundQueue,
    /// Commands that are being sent to other nodes.
    pub(super) sending: Arc<Semaphore>,
}

/// Another node.
pub(super) struct Other {
    name: String,
    /// Gone nodes keep their names, for rows of commands that were sent to their clients.
    pub(super) is_there: bool,
    follower: Follower<Besides>,
}

impl Elsewhere {
    /// How often the others are told who was active, and reminded of the number of the latest change.
    const BEAT: Duration = Duration::from_secs(1);
    /// Connections in one part.
    const PART: usize = 256;
    /// Ids in one note about activity.
    const ACTIVE: usize = 1000;
    /// Commands that may be on their way to other nodes before the next waits for one of them.
    const SENDING: usize = 256;

    pub(super) fn new(settings: ElsewhereSettings) -> Self {
        Self {
            settings,
            // Nobody else has to believe what is said here but nodes of the same cluster.
            line: fastrand::u64(..),
            number: 0,
            told_rank: 0,
            nodes: HashMap::new(),
            sessions: HashMap::new(),
            tags: TagIndex::default(),
            known: 0,
            is_full: false,
            carried: Carried::new(settings.carried_max),
            inbound: InboundQueue::new(settings.errand_bytes),
            sending: Arc::new(Semaphore::new(Self::SENDING)),
        }
    }

    /// Whether a node lives, as far as is known.
    pub(super) fn is_there(&self, node: u16) -> bool {
        self.nodes.get(&node).is_some_and(|other| other.is_there)
    }

    /// Says something about this node's connections.
    fn say(&mut self, peers: &Peers, change: Change) {
        self.number += u64::from(!matches!(change, Change::Nothing));
        let note = Note::Changed { line: self.line, number: self.number, change };
        // What is not sent is missed: the next number tells.
        peers.tell_later(To::Others, note.into());
    }

    /// The node of this number, which is followed from now on if it was not.
    fn other(&mut self, peers: &Peers, node: u16) -> &mut Other {
        let patience_ms = u64::try_from(peers.timeout().as_millis()).unwrap_or(u64::MAX);
        let other = self.nodes.entry(node).or_insert_with(|| Other {
            name: String::new(),
            is_there: true,
            follower: Follower::new(patience_ms),
        });
        if !other.is_there || other.name.is_empty() {
            let entry = peers.nodes().into_iter().find(|entry| entry.slot == node);
            other.name = entry.map(|entry| entry.name).unwrap_or_default();
            other.is_there = true;
        }
        other
    }

    /// A connection of another node is like this.
    fn hear(&mut self, engine: &mut Engine<Waiter>, node: u16, told: Told, step: Step<'_>) {
        let (described, besides) = told.read();
        let connection = described.connection;
        let Some(other) = self.nodes.get_mut(&node).filter(|_| connection.node() == node) else { return };
        let is_new = !other.follower.known().contains_key(&connection);
        if is_new && self.known >= self.settings.sessions_max {
            if !std::mem::replace(&mut self.is_full, true) {
                tracing::warn!(
                    "ignored clients of other nodes; commands of this node do not reach them: raise \
                     commands.sessions_elsewhere_max"
                );
            }
            return;
        }
        if let Some(session) = besides.session {
            self.sessions.insert(session, connection);
        }
        self.known += usize::from(is_new);
        let (session, tags) = (besides.session, besides.tags.clone());
        let before = other.follower.insert(connection, besides).unwrap_or_default();
        self.tags.change(connection, &before.tags, &tags);
        if let Some(before) = before.session.filter(|before| Some(*before) != session) {
            self.forget_session(before, connection);
        }
        engine.hear(node, described, step.now, step.out);
    }

    /// A connection of another node has ended.
    fn end(&mut self, engine: &mut Engine<Waiter>, node: u16, connection: ConnId, step: Step<'_>) {
        let known = self.nodes.get_mut(&node).and_then(|other| other.follower.remove(connection));
        if let Some(besides) = known {
            self.forget(engine, node, connection, &besides, step);
        }
    }

    /// What was known of a connection of another node is so no more.
    fn forget(
        &mut self,
        engine: &mut Engine<Waiter>,
        node: u16,
        connection: ConnId,
        besides: &Besides,
        step: Step<'_>,
    ) {
        self.known -= 1;
        // Not each time that one goes and the next one comes.
        self.is_full &= self.known > self.settings.sessions_max / 8 * 7;
        self.tags.change(connection, &besides.tags, &[]);
        if let Some(session) = besides.session {
            self.forget_session(session, connection);
        }
        engine.close_elsewhere(node, connection, step.now, step.out);
    }

    /// A connection carries a session no more; another one may by now.
    fn forget_session(&mut self, session: ConnId, connection: ConnId) {
        if self.sessions.get(&session) == Some(&connection) {
            self.sessions.remove(&session);
        }
    }

    /// A node is gone, and all its connections with it.
    fn lose(&mut self, engine: &mut Engine<Waiter>, node: u16, step: Step<'_>) {
        let Some(other) = self.nodes.get_mut(&node) else { return };
        other.is_there = false;
        for (connection, besides) in other.follower.lose() {
            self.forget(engine, node, connection, &besides, Step { now: step.now, out: &mut *step.out });
        }
    }
}

/// When something happens at the desk, and what follows.
struct Step<'a> {
    now: switchboard_proto::time::Now,
    out: &'a mut Out<Waiter>,
}

/// What this node says about its own connections.
impl Node {
    /// Tells the others what has changed.
    pub(super) fn tell_changes(&self, desk: &mut Desk, mut changed: Vec<ConnId>) {
        let Desk { engine, elsewhere: Some(elsewhere), .. } = desk else { return };
        let Some(peers) = self.peers() else { return };
        changed.dedup();
        for connection in changed {
            let change = match engine.described(connection) {
                Some(described) => Change::Client(Box::new(Told::new(described, self.besides(connection)))),
                None => Change::Ended(Connection(connection)),
            };
            elsewhere.say(peers, change);
        }
    }

    /// What others are told of a connection besides what the engine knows.
    fn besides(&self, connection: ConnId) -> Besides {
        let session = Some(self.member_meant(connection)).filter(ConnId::is_session);
        Besides { tags: self.0.registry.profile(connection).tags, session }
    }

    /// The tags of a connection are others now.
    pub(in crate::node) fn note_command_tags(&self, connection: ConnId) {
        if self.peers().is_some() {
            self.with_engine(|engine, out| engine.tell(connection, out));
        }
    }

    /// Tells others who was active and of the latest change, and asks them for what is missing, for as long as there is a node.
    pub(in crate::node) fn keep_up_with_clients_elsewhere(&self) {
        if self.peers().is_none() {
            return;
        }
        let inner = Arc::downgrade(&self.0);
        self.spawn(Box::pin(async move {
            loop {
                match inner.upgrade().map(Node) {
                    Some(node) => node.beat_for_others(),
                    None => return,
                }
                tokio::time::sleep(Elsewhere::BEAT).await;
            }
        }));
    }

    fn beat_for_others(&self) {
        let Some(peers) = self.peers() else { return };
        let others = peers.others();
        let now = self.command_now();
        self.with_desk(|desk, out| {
            let Desk { engine, elsewhere: Some(elsewhere), .. } = desk else { return };
            let (active, rank) = engine.active_after(elsewhere.told_rank);
            elsewhere.told_rank = rank;
            for ids in active.chunks(Elsewhere::ACTIVE) {
                elsewhere.say(peers, Change::Active(ids.iter().copied().map(Connection).collect()));
            }
            elsewhere.say(peers, Change::Nothing);
            let gone = elsewhere.nodes.iter().filter(|(node, other)| other.is_there && !others.contains(node));
            for node in gone.map(|(node, _)| *node).collect::<Vec<_>>() {
                elsewhere.lose(engine, node, Step { now, out });
            }
            for node in others {
                let ask = elsewhere.other(peers, node).follower.tick(now.monotonic_ms);
                ask_part(peers, node, ask);
            }
        });
    }

    /// Another node wants to know what connections there are.
    pub(in crate::node) fn tell_part(&self, to: u16, asked: AskPart) {
        let Some(peers) = self.peers() else { return };
        let most_bytes = self.0.commands.settings.elsewhere.part_bytes;
        self.with_desk(|desk, _| {
            let Desk { engine, elsewhere: Some(elsewhere), .. } = desk else { return };
            let found = engine.described_after(asked.after, Elsewhere::PART);
            let is_last = found.len() < Elsewhere::PART;
            let (mut clients, mut bytes, mut last, mut is_full) = (Vec::with_capacity(found.len()), 0, 0, false);
            for (rank, described) in found {
                let besides = self.besides(described.connection);
                let told = Told::new(described, besides);
                bytes += told.bytes();
                is_full = !clients.is_empty() && bytes > most_bytes;
                if is_full {
                    break;
                }
                clients.push(told);
                last = rank;
            }
            let next = (!is_last || is_full).then_some(last);
            let AskPart { round, after } = asked;
            // Queued under the lock, so that it stays between the changes before and after it. It is written as JSON after
            // the lock.
            let note = Note::Part { line: elsewhere.line, number: elsewhere.number, round, after, next, clients };
            peers.tell_later(To::Node(to), note.into());
        });
    }
}

/// What other nodes say about theirs.
impl Node {
    /// Something about the connections of another node has changed.
    pub(in crate::node) fn heed_change(&self, from: u16, line: u64, number: u64, change: Change) {
        let Some(peers) = self.peers() else { return };
        let now = self.command_now();
        self.with_desk(|desk, out| {
            let Desk { engine, elsewhere: Some(elsewhere), .. } = desk else { return };
            let is_new = !matches!(change, Change::Nothing);
            let ask = elsewhere.other(peers, from).follower.heed(line, number, is_new, now.monotonic_ms);
            ask_part(peers, from, ask);
            match change {
                Change::Nothing => {}
                Change::Active(ids) => {
                    ids.into_iter().for_each(|Connection(connection)| engine.touch_elsewhere(from, connection));
                }
                Change::Client(told) => elsewhere.hear(engine, from, *told, Step { now, out }),
                Change::Ended(Connection(connection)) => elsewhere.end(engine, from, connection, Step { now, out }),
            }
        });
    }

    /// Another node tells a part of all its connections.
    pub(in crate::node) fn heed_part(&self, from: u16, head: &PartHead, clients: Vec<Told>) {
        let Some(peers) = self.peers() else { return };
        let now = self.command_now();
        self.with_desk(|desk, out| {
            let Desk { engine, elsewhere: Some(elsewhere), .. } = desk else { return };
            if !elsewhere.other(peers, from).follower.accept(head) {
                return;
            }
            for told in clients {
                elsewhere.hear(engine, from, told, Step { now, out });
            }
            let (ask, gone) = elsewhere.other(peers, from).follower.finish(head, now.monotonic_ms);
            for connection in gone {
                elsewhere.end(engine, from, connection, Step { now, out });
            }
            ask_part(peers, from, ask);
        });
    }

    /// Another node is there, or what it said may have been lost: it is asked for everything.
    pub(in crate::node) fn follow_commands_of(&self, nodes: &[u16]) {
        let Some(peers) = self.peers() else { return };
        let now = self.command_now();
        self.with_desk(|desk, _| {
            let Desk { elsewhere: Some(elsewhere), .. } = desk else { return };
            for &node in nodes {
                let ask = elsewhere.other(peers, node).follower.begin(now.monotonic_ms);
                ask_part(peers, node, ask);
            }
        });
    }

    /// Another node is not there any more: its connections have ended, and commands that wait for them find that out.
    pub(in crate::node) fn commands_of_node_gone(&self, node: &NodeEntry) {
        let now = self.command_now();
        self.with_desk(|desk, out| {
            let Desk { engine, elsewhere: Some(elsewhere), .. } = desk else { return };
            elsewhere.lose(engine, node.slot, Step { now, out });
        });
    }

    /// Connections elsewhere with a tag.
    pub(super) fn tagged_elsewhere(&self, tag: &str) -> Vec<ConnId> {
        let desk = self.0.commands.desk();
        desk.elsewhere.as_ref().map(|elsewhere| elsewhere.tags.of(tag)).unwrap_or_default()
    }

    /// The connection that is meant, on whichever node: the one that carries a session, if it is that of one.
    pub(super) fn connection_meant_anywhere(&self, id: ConnId) -> ConnId {
        let here = self.connection_meant(id);
        if !here.is_session() || self.peers().is_none() {
            return here;
        }
        let desk = self.0.commands.desk();
        desk.elsewhere.as_ref().and_then(|elsewhere| elsewhere.sessions.get(&id).copied()).unwrap_or(here)
    }

    /// A user who has a connection here.
    pub(in crate::node) fn connected_user(&self, id: &str) -> Option<User> {
        self.0.registry.connections_of(id).into_iter().find_map(|id| self.0.registry.user(id))
    }

    /// The name of the node that a connection is with, or was.
    pub(crate) fn node_of(&self, connection: ConnId) -> String {
        let slot = connection.node();
        let own = || self.name().to_owned();
        let Some(peers) = self.peers().filter(|peers| peers.slot() != slot) else { return own() };
        let desk = self.0.commands.desk();
        let known = desk.elsewhere.as_ref().and_then(|elsewhere| elsewhere.nodes.get(&slot)).map(|other| &other.name);
        if let Some(name) = known.filter(|name| !name.is_empty()) {
            return name.clone();
        }
        peers.nodes().into_iter().find(|entry| entry.slot == slot).map_or_else(own, |entry| entry.name)
    }
}

fn ask_part(peers: &Peers, node: u16, ask: Option<AskPart>) {
    if let Some(AskPart { round, after }) = ask {
        // Without an answer it is asked anew.
        peers.tell_later(To::Node(node), Note::Tell { round, after }.into());
    }
}
