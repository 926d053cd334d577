//! Commands of other nodes for connections of this one, and those of this one for connections of others.

use std::collections::VecDeque;
use std::sync::Arc;

use switchboard_proto::command::{CommandDelivery, CommandDocument, CommandId, Recipient};
use switchboard_proto::id::ConnId;
use switchboard_proto::user::User;
use tokio::sync::OwnedSemaphorePermit;

use crate::backend::cluster::To;
use crate::command::{ClientCommand, Dispatch};
use crate::hub::mail::{Ask, CommandFate, Mail};
use crate::op::Op;

use super::super::Node;
use super::super::cluster::Peers;
use super::super::cluster::commands::{Delivery, Id, Note, Somebody};
use super::Desk;
use super::courier::Wakes;
use super::elsewhere::Elsewhere;

/// Commands that wait for space with a worker, in the order in which they came. Bounded: `commands.errand_bytes`.
pub(super) struct Errands {
    waiting: VecDeque<Errand>,
    bytes: usize,
    most_bytes: usize,
    /// A task waits for that space.
    pub(super) is_waited_for: bool,
}

/// A command of another node for a connection of this one.
struct Errand {
    from: u16,
    document: Arc<CommandDocument>,
    connection: ConnId,
    user: Option<User>,
    ts: u64,
    /// When its limit is over, on the monotonic clock.
    deadline_ms: u64,
}

impl Errand {
    fn bytes(&self) -> usize {
        // Its member `data` is in it twice.
        256 + 2 * self.document.command.as_str().len()
    }
}

impl Errands {
    pub(super) fn new(most_bytes: usize) -> Self {
        Self { waiting: VecDeque::new(), bytes: 0, most_bytes, is_waited_for: false }
    }

    /// Adds one. `false`: there is no space.
    fn push(&mut self, errand: Errand) -> bool {
        let bytes = errand.bytes();
        if !self.waiting.is_empty() && self.bytes + bytes > self.most_bytes {
            return false;
        }
        self.bytes += bytes;
        self.waiting.push_back(errand);
        true
    }

    fn pop(&mut self) -> Option<Errand> {
        let errand = self.waiting.pop_front()?;
        self.bytes -= errand.bytes();
        Some(errand)
    }
}

impl Node {
    /// A command of another node is for a connection of this one.
    pub(in crate::node) fn take_command_in(&self, from: u16, delivery: Delivery) {
        let Delivery { id: Id(id), command, connection, user, ts, ttl_ms } = delivery;
        let Some(peers) = self.peers() else { return };
        let Ok(command) = ClientCommand::from_json(command) else {
            tracing::warn!(node = from, "another node sends a command that is none");
            return tell_fate(peers, from, id, connection, CommandFate::Gone);
        };
        let (key, command, data) = command.into_parts();
        let now = self.command_now();
        let errand = Errand {
            from,
            document: Arc::new(CommandDocument { id, key, command, data }),
            connection,
            user: user.map(|Somebody(user)| user),
            ts,
            deadline_ms: now.monotonic_ms.saturating_add(ttl_ms),
        };
        let wakes = self.with_desk(|desk, _| {
            let Desk { elsewhere: Some(elsewhere), .. } = desk else { return Wakes::new() };
            elsewhere.carried.insert(id, from, errand.deadline_ms, now.monotonic_ms);
            if !elsewhere.errands.push(errand) {
                tell_fate(peers, from, id, connection, CommandFate::Overflow);
            }
            self.begin_errands(desk, peers)
        });
        drop(wakes);
    }

    /// Hands over what waits; what has to go on waiting does so in a task of its own.
    fn begin_errands(&self, desk: &mut Desk, peers: &Peers) -> Wakes {
        let mut wakes = Wakes::new();
        if desk.elsewhere.as_ref().is_some_and(|elsewhere| elsewhere.errands.is_waited_for) {
            return wakes;
        }
        if let Some(worker) = self.run_errands(desk, peers, &mut wakes) {
            if let Some(elsewhere) = &mut desk.elsewhere {
                elsewhere.errands.is_waited_for = true;
            }
            let node = self.clone();
            self.spawn(Box::pin(async move { node.run_errands_later(worker).await }));
        }
        wakes
    }

    /// Hands over until a worker has no space, and says which one that is.
    fn run_errands(&self, desk: &mut Desk, peers: &Peers, wakes: &mut Wakes) -> Option<usize> {
        let Desk { engine, elsewhere: Some(elsewhere), .. } = desk else { return None };
        loop {
            let next = elsewhere.errands.waiting.front()?;
            let now = self.command_now();
            let ttl_ms = next.deadline_ms.saturating_sub(now.monotonic_ms);
            // Whose it is now is known here alone, and whether it listens.
            let address = engine.address_of(next.connection, next.user.as_ref()).filter(|_| ttl_ms > 0);
            let permit = match address {
                None => None,
                Some(address) => {
                    let worker = usize::from(address.worker);
                    let Some(permit) = self.0.workers[worker].try_reserve(Mail::ASK_BYTES) else { return Some(worker) };
                    Some((permit, address.key))
                }
            };
            let Errand { from, document, connection, user, ts, .. } = elsewhere.errands.pop()?;
            let Some((permit, key)) = permit else {
                tell_fate(peers, from, document.id, connection, CommandFate::Gone);
                continue;
            };
            let to = user.map_or(Recipient::Guest(connection), Recipient::User);
            let delivery = CommandDelivery { document, to, ts: engine.later(connection, ts), ttl_ms };
            wakes.extend(permit.push_and_wake_later(Mail::Ask(Ask::Command(key, delivery))));
        }
    }

    async fn run_errands_later(&self, mut full: usize) {
        loop {
            self.wait_for_space(full).await;
            let Some(peers) = self.peers() else { return };
            let mut wakes = Wakes::new();
            let mut desk = self.0.commands.desk();
            match self.run_errands(&mut desk, peers, &mut wakes) {
                Some(worker) => full = worker,
                None => {
                    if let Some(elsewhere) = &mut desk.elsewhere {
                        elsewhere.errands.is_waited_for = false;
                    }
                    return;
                }
            }
        }
    }

    /// Sends a command to the node that its connection lives with. Whether it arrives is not waited for: what may have been handed over
    /// counts as sent, so that it is handed to nobody else.
    pub(super) fn send_elsewhere(&self, node: u16, dispatch: Dispatch, place: &Arc<OwnedSemaphorePermit>) {
        let Dispatch { connection, delivery, .. } = dispatch;
        let CommandDelivery { document, to, ts, ttl_ms } = delivery;
        let Some(peers) = self.peers() else { return };
        let user = match to {
            Recipient::User(user) => Some(Somebody(user)),
            Recipient::Guest(_) => None,
        };
        let (id, command) = (document.id, document.command.clone());
        let delivery = Delivery { id: Id(id), command, connection, user, ts, ttl_ms };
        let sent = peers.tell(To::Node(node), &Note::Deliver(Box::new(delivery)).into());
        let (node, place) = (self.clone(), Arc::clone(place));
        match sent {
            Op::Ready(Ok(())) => {}
            Op::Ready(Err(_)) => self.spawn(Box::pin(async move {
                // It was not even begun.
                node.note_fate_elsewhere(id, connection, CommandFate::Gone);
            })),
            Op::Wait(sending) => self.spawn(Box::pin(async move {
                drop(sending.await);
                drop(place);
            })),
        }
    }

    /// What became of a command of this node with a connection of another.
    pub(in crate::node) fn note_fate_elsewhere(&self, id: CommandId, connection: ConnId, fate: CommandFate) {
        let now = self.command_now();
        self.with_engine(|engine, out| engine.delivered(id, connection, fate, now, out));
    }

    /// What became of a command of another node with a connection of this one. `false`: it is none of theirs.
    pub(super) fn tell_fate_elsewhere(
        &self,
        elsewhere: &Elsewhere,
        id: CommandId,
        connection: ConnId,
        fate: CommandFate,
    ) -> bool {
        let (Some(peers), Some(node)) = (self.peers(), elsewhere.carried.node_of(id)) else { return false };
        tell_fate(peers, node, id, connection, fate);
        true
    }
}

fn tell_fate(peers: &Peers, node: u16, id: CommandId, connection: ConnId, fate: CommandFate) {
    let note = Note::Fate { id: Id(id), connection, fate: fate.into() };
    // Whoever is not told takes it for sent.
    drop(peers.tell(To::Node(node), &note.into()));
}
