//! Commands of other nodes for connections of this one, and those of this one for connections of others.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use switchboard_proto::command::{CommandDelivery, CommandDocument, CommandId, Recipient};
use switchboard_proto::id::ConnId;
use switchboard_proto::user::User;
use tokio::sync::OwnedSemaphorePermit;

use crate::backend::cluster::To;
use crate::command::{ClientCommand, Dispatch};
use crate::hub::mail::{Address, Ask, CommandFate, Mail};
use crate::op::Op;

use super::super::Node;
use super::super::cluster::Peers;
use super::super::cluster::commands::{Delivery, Id, Note, Somebody};
use super::Desk;
use super::courier::Wakes;
use super::elsewhere::Elsewhere;

/// Commands that wait for space with a worker, in the order in which they came. Bounded: `commands.errand_bytes`.
pub(super) struct InboundQueue {
    /// By worker. A task waits for the space of each worker that has an entry.
    waiting: HashMap<u16, VecDeque<InboundCommand>>,
    bytes: usize,
    most_bytes: usize,
}

/// A command of another node for a connection of this one.
struct InboundCommand {
    from: u16,
    document: Arc<CommandDocument>,
    connection: ConnId,
    user: Option<User>,
    ts: u64,
    /// When its limit is over, on the monotonic clock.
    deadline_ms: u64,
}

impl InboundCommand {
    fn bytes(&self) -> usize {
        // Its member `data` is in it twice.
        256 + 2 * self.document.command.as_str().len()
    }
}

impl InboundQueue {
    pub(super) fn new(most_bytes: usize) -> Self {
        Self { waiting: HashMap::new(), bytes: 0, most_bytes }
    }

    /// Adds one that waits for this worker. Returns it if there is no space.
    fn push(&mut self, worker: u16, inbound: InboundCommand) -> Result<(), InboundCommand> {
        let bytes = inbound.bytes();
        if self.bytes > 0 && self.bytes + bytes > self.most_bytes {
            return Err(inbound);
        }
        self.bytes += bytes;
        self.waiting.entry(worker).or_default().push_back(inbound);
        Ok(())
    }

    /// Takes the first one that waits for this worker.
    fn pop(&mut self, worker: u16) -> Option<InboundCommand> {
        let inbound = self.waiting.get_mut(&worker)?.pop_front()?;
        self.bytes -= inbound.bytes();
        Some(inbound)
    }

    /// Puts back the one that was taken last.
    fn put_back(&mut self, worker: u16, inbound: InboundCommand) {
        self.bytes += inbound.bytes();
        self.waiting.entry(worker).or_default().push_front(inbound);
    }
}

impl Node {
    /// A command of another node is for a connection of this one.
    pub(in crate::node) fn take_command_in(&self, from: u16, delivery: Delivery) {
        let Delivery { id: Id(id), command, connection, user, ts, ttl_ms } = delivery;
        let Some(peers) = self.peers() else { return };
        let Ok(command) = ClientCommand::from_json(command) else {
            tracing::warn!(node = from, "dropped malformed command from node");
            return tell_fate(peers, from, id, connection, CommandFate::Gone);
        };
        let (key, command, data) = command.into_parts();
        let now = self.command_now();
        let inbound = InboundCommand {
            from,
            document: Arc::new(CommandDocument { id, key, command, data }),
            connection,
            user: user.map(|Somebody(user)| user),
            ts,
            deadline_ms: now.monotonic_ms.saturating_add(ttl_ms),
        };
        let wakes = self.with_desk(|desk, _| {
            let Desk { engine, elsewhere: Some(elsewhere), .. } = desk else { return Wakes::new() };
            elsewhere.carried.insert(id, from, inbound.deadline_ms, now.monotonic_ms);
            let Some(Address { worker, .. }) = engine.address_of(connection, inbound.user.as_ref()) else {
                tell_fate(peers, from, id, connection, CommandFate::Gone);
                return Wakes::new();
            };
            let has_line = elsewhere.inbound.waiting.contains_key(&worker);
            if elsewhere.inbound.push(worker, inbound).is_err() {
                tell_fate(peers, from, id, connection, CommandFate::Overflow);
            }
            let mut wakes = Wakes::new();
            if !has_line && !self.run_inbound(desk, peers, worker, &mut wakes) {
                let node = self.clone();
                self.spawn(Box::pin(async move { node.run_inbound_later(worker).await }));
            }
            wakes
        });
        drop(wakes);
    }

    /// Hands over what waits for a worker. Returns `false` if the worker has no space.
    fn run_inbound(&self, desk: &mut Desk, peers: &Peers, worker: u16, wakes: &mut Wakes) -> bool {
        let Desk { engine, elsewhere: Some(elsewhere), .. } = desk else { return true };
        while let Some(inbound) = elsewhere.inbound.pop(worker) {
            let ttl_ms = inbound.deadline_ms.saturating_sub(self.command_now().monotonic_ms);
            // The connection may have ended, or have another user, since the command came.
            let address = engine.address_of(inbound.connection, inbound.user.as_ref()).filter(|_| ttl_ms > 0);
            let Some(Address { key, .. }) = address else {
                tell_fate(peers, inbound.from, inbound.document.id, inbound.connection, CommandFate::Gone);
                continue;
            };
            let Some(permit) = self.0.workers[usize::from(worker)].try_reserve(Mail::ASK_BYTES) else {
                elsewhere.inbound.put_back(worker, inbound);
                return false;
            };
            let InboundCommand { document, connection, user, ts, .. } = inbound;
            let to = user.map_or(Recipient::Guest(connection), Recipient::User);
            let delivery = CommandDelivery { document, to, ts: engine.later(connection, ts), ttl_ms };
            wakes.extend(permit.push_and_wake_later(Mail::Ask(Ask::Command(key, delivery))));
        }
        elsewhere.inbound.waiting.remove(&worker);
        true
    }

    async fn run_inbound_later(&self, worker: u16) {
        loop {
            self.wait_for_space(usize::from(worker)).await;
            let Some(peers) = self.peers() else { return };
            let mut wakes = Wakes::new();
            if self.run_inbound(&mut self.0.commands.desk(), peers, worker, &mut wakes) {
                return;
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
