//! What workers ask of the node.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use switchboard_proto::call::{Answer, Call, CallError, ConnectionType, Content, Outcome, Piece, Wants};
use switchboard_proto::close::CloseReason;
use switchboard_proto::command::CommandId;
use switchboard_proto::event::Sender;
use switchboard_proto::face::ConnFacts;
use switchboard_proto::id::{ConnId, RoomName};

use crate::hub::Entrance;
use crate::hub::mail::{Admission, Attended, CommandFate};
use crate::op::{BoxFuture, Op, Panic};
use crate::worker::calls::{Caller, Calls, Offer};

use super::Node;
use super::State;
use super::chat::{crashed_call, unavailable};
use super::hooks::Change;
use super::registry::Place;
use super::say::number;

impl Calls for Node {
    fn admit(&self, caller: &Caller) -> Op<Result<Admission, CallError>> {
        self.admit(&caller.facts)
    }

    fn opened(&self, caller: &Caller, admission: Admission) {
        self.enter(&caller.facts, Place::Worker(caller.address, caller.facts.kind), admission);
    }

    fn closed(&self, caller: &Caller, reason: CloseReason) {
        self.leave_for_good(&caller.facts, reason);
    }

    fn turned_away(&self, caller: &Caller, reason: CloseReason) {
        self.count_turned_away(&caller.facts, reason);
    }

    fn delivered(&self, count: u64) {
        self.0.counters.delivered.fetch_add(count, Ordering::Relaxed);
    }

    fn join(&self, caller: Caller, room: RoomName) -> Op<Result<Entrance, CallError>> {
        let node = self.clone();
        Op::start(async move { node.begin_join(&caller, &room).await }, |panic| {
            tracing::error!(panic = panic.0, "a join panicked");
            Err(CallError::Unavailable)
        })
    }

    fn joined(&self, caller: &Caller, room: &RoomName) {
        self.run_callbacks(Change::Join, caller, room);
    }

    fn leave(&self, caller: Caller, room: RoomName) -> Op<()> {
        if self.tells_leaves_now(&caller.facts, &room) {
            self.run_callbacks(Change::Leave, &caller, &room);
            self.report_leave(&caller.facts, &room);
        }
        self.unjoin(caller, room)
    }

    fn unjoin(&self, caller: Caller, room: RoomName) -> Op<()> {
        let node = self.clone();
        Op::start(async move { node.end_membership(caller.facts.id, caller.address.worker, &room).await }, |panic| {
            tracing::error!(panic = panic.0, "a leave panicked");
        })
    }

    fn attend(&self, caller: Caller, wants: Wants, already: Vec<RoomName>) -> Op<Attended> {
        if caller.facts.kind == ConnectionType::Ddp {
            self.attend_to_commands(&caller, wants.commands);
        }
        let node = self.clone();
        Op::start(async move { node.begin_attending(&caller, wants, already).await }, |panic| {
            tracing::error!(panic = panic.0, "listening to rooms panicked");
            Attended { failed: Some(CallError::Unavailable), ..Attended::default() }
        })
    }

    fn listen(&self, offer: Offer) -> Op<bool> {
        let node = self.clone();
        Op::start(async move { node.listen(offer).await }, |panic| {
            tracing::error!(panic = panic.0, "listening to a room panicked");
            false
        })
    }

    fn has_join_hook(&self) -> bool {
        Node::has_join_hook(self)
    }

    fn unlisten(&self, worker: u16, room: RoomName) -> Op<()> {
        self.0.broker.unsubscribe(&room, worker).map(|unsubscribed| {
            if let Err(error) = unsubscribed {
                unavailable(error);
            }
        })
    }

    fn command_fate(&self, id: CommandId, connection: ConnId, fate: CommandFate) {
        self.note_command_fate(id, connection, fate);
    }

    fn call(&self, caller: Caller, call: Call) -> Op<Outcome> {
        match call {
            Call::Action(call) => self.0.actions.run(call, self.handle(caller), None),
            Call::Documentation => Op::Ready(Ok(Answer::Documentation(self.0.documentation.clone()))),
            Call::File { name } => self.open_file(name),
            Call::RoomStatus { room } => {
                let node = self.clone();
                Op::start(async move { node.status_of(room).await.map(Answer::Room) }, crashed_call)
            }
            Call::Say { room, body } => {
                let sender = Sender::Connection(caller.facts.id);
                let connection = Some(self.handle(caller));
                self.say(self.saying(room, sender, connection, body)).map(|published| match number(published?) {
                    Some(number) => Ok(Answer::Said { number }),
                    // The room was destroyed a moment ago; its members are about to be told.
                    None => Err(CallError::NoSuchRoom),
                })
            }
            Call::Shard(call) => self.start_shard_call(caller, *call),
            Call::LogIn(credentials) => {
                let node = self.clone();
                self.start_user_call(async move { node.log_in(caller, credentials).await })
            }
            Call::LogOut => {
                let node = self.clone();
                self.start_user_call(async move { node.log_out(caller).await })
            }
            Call::LogOutOthers => {
                let node = self.clone();
                self.start_user_call(async move { node.log_out_others(caller).await })
            }
            Call::SetClientData { data } => Op::Ready(self.set_client_data(&caller, data)),
            Call::ReplyCommand { id, reply } => self.reply_to_command(&caller, &id, reply),
            Call::FindRoom { names } => {
                let node = self.clone();
                self.start_user_call(async move { node.find_room(caller, names).await })
            }
            Call::JoinAsUser { room } => {
                let node = self.clone();
                self.start_user_call(async move { node.join_as_user(caller.facts, caller.address, room).await })
            }
            Call::LeaveAsUser { room } => {
                let node = self.clone();
                self.start_user_call(async move { node.leave_as_client(caller, room).await })
            }
            Call::OpenDirect { with } => {
                let node = self.clone();
                self.start_user_call(async move { node.open_direct(caller.facts, with).await })
            }
            Call::Publish(publication) => self.publish_as_user(caller, publication),
            Call::History(range) => {
                let node = self.clone();
                self.start_user_call(async move { node.history(caller, range).await })
            }
            // The worker answers or splits these itself.
            Call::Attend(_) | Call::Details | Call::Join { .. } | Call::Leave { .. } => {
                Op::Ready(Err(CallError::Unavailable))
            }
        }
    }

    fn read(&self, content: Arc<dyn Content>, offset: u64) -> BoxFuture<'static, io::Result<Piece>> {
        let most_bytes = self.0.settings.chunk_bytes;
        let reading = self.0.runtime.spawn_blocking(move || content.piece(offset, most_bytes));
        Box::pin(async move { reading.await.unwrap_or_else(|error| Err(io::Error::other(error))) })
    }

    fn spawn(&self, future: BoxFuture<'static, ()>) {
        self.spawn(future);
    }
}

impl Node {
    /// Takes a connection into the registry and the figures.
    pub(super) fn enter(&self, facts: &ConnFacts, place: Place, admission: Admission) {
        self.0.registry.insert(facts.id, place, State::from_values(admission.state));
        self.0.counters.accepted.fetch_add(1, Ordering::Relaxed);
        self.0.counters.connections.fetch_add(1, Ordering::Relaxed);
        self.0.counters.connections_by_type[facts.kind.index()].fetch_add(1, Ordering::Relaxed);
        tracing::debug!(
            connection = %facts.id, remote = %facts.remote, kind = facts.kind.as_str(), "connection opened"
        );
    }

    /// Notes a connection that was never let in.
    pub(super) fn count_turned_away(&self, facts: &ConnFacts, reason: CloseReason) {
        self.0.counters.closed[reason.index()].fetch_add(1, Ordering::Relaxed);
        tracing::debug!(connection = %facts.id, remote = %facts.remote, reason = reason.as_str(), "connection not let in");
    }

    /// Takes a connection out again.
    pub(super) fn leave_for_good(&self, facts: &ConnFacts, reason: CloseReason) {
        self.0.registry.remove(facts.id);
        self.end_commands_of(facts.id);
        if facts.kind == ConnectionType::Gateway {
            self.shard_connection_closed(facts.id);
        }
        self.0.counters.connections.fetch_sub(1, Ordering::Relaxed);
        self.0.counters.connections_by_type[facts.kind.index()].fetch_sub(1, Ordering::Relaxed);
        self.0.counters.closed[reason.index()].fetch_add(1, Ordering::Relaxed);
        self.0.closed.notify_one();
        tracing::debug!(connection = %facts.id, reason = reason.as_str(), "connection closed");
    }

    pub(super) fn open_file(&self, name: String) -> Op<Outcome> {
        let files = self.0.files.clone();
        let opening = self.0.runtime.spawn_blocking(move || files.open(&name).map(|file| (name, file)));
        Op::Wait(Box::pin(async move {
            match opening.await {
                Ok(Ok((_, file))) => Ok(Answer::File(Arc::new(file))),
                Ok(Err(error)) => {
                    tracing::debug!(%error, "a file was asked for and cannot be had");
                    Err(CallError::FileNotFound)
                }
                Err(error) => crashed_call(Panic(error.to_string())),
            }
        }))
    }
}
