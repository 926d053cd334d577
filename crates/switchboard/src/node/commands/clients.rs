//! What connections do about client commands: take them, say what they can do, answer.

use switchboard_proto::call::{Answer, CallError, ConnectionType, Outcome as CallOutcome};
use switchboard_proto::command::CommandId;
use switchboard_proto::id::ConnId;
use switchboard_proto::json::RawJson;

use crate::command::{Client, ClientData, ClientView, Home, Settling};
use crate::hub::mail::CommandFate;
use crate::op::Op;
use crate::worker::calls::Caller;

use super::super::Node;
use super::Desk;

impl Node {
    /// A connection as it is. To be asked with the engine in hand: of two changes the engine then hears the later one last.
    fn client(&self, caller: &Caller) -> Client {
        let connection = caller.facts.id;
        Client { connection, home: Home::Here(caller.address), user: self.0.registry.user(connection) }
    }

    /// Whether a connection takes commands, where that is a subscription.
    pub(in crate::node) fn attend_to_commands(&self, caller: &Caller, takes: bool) {
        let now = self.command_now();
        self.with_desk(|desk, out| {
            let client = self.client(caller);
            // Connections without a user are asked nothing there.
            if takes && client.user.is_some() {
                desk.engine.take_commands(client, true, now, out);
            } else if desk.engine.takes_commands(client.connection) {
                // Client data ends with the subscription to commands, and with no other.
                desk.settling.stop(client.connection);
                desk.engine.stop_taking(client.connection, now, out);
            }
        });
    }

    /// The user of a connection goes, by logging out or for another one: what he subscribed to and said is forgotten.
    pub(in crate::node) fn part_from_command_user(&self, connection: ConnId) {
        let now = self.command_now();
        self.with_desk(|Desk { engine, settling, .. }, out| {
            settling.stop(connection);
            engine.stop_taking(connection, now, out);
            engine.set_user(connection, self.0.registry.user(connection), now, out);
        });
    }

    /// What a client says about itself. Where there is no subscription it says so whether it takes commands.
    pub(in crate::node) fn set_client_data(&self, caller: &Caller, data: RawJson) -> CallOutcome {
        let data = self.read_client_data(caller, data)?;
        let now = self.command_now();
        self.with_engine(|engine, out| {
            let client = self.client(caller);
            if caller.facts.kind == ConnectionType::Ddp && client.user.is_none() {
                return Err(CallError::NotLoggedIn);
            }
            if caller.facts.kind != ConnectionType::Ddp {
                match data.asks_for_commands() {
                    true => engine.take_commands(client.clone(), false, now, out),
                    false => engine.stop_taking(client.connection, now, out),
                }
            }
            engine.set_client_data(client, data, now, out);
            Ok(Answer::ClientDataSet)
        })
    }

    /// Whether a connection takes commands.
    pub(in crate::node) fn takes_commands(&self, connection: ConnId) -> bool {
        self.0.commands.desk().engine.takes_commands(connection)
    }

    /// What a client says about itself, if it can be that.
    pub(in crate::node) fn read_client_data(&self, caller: &Caller, data: RawJson) -> Result<ClientData, CallError> {
        let most = self.0.commands.settings.max_client_data_bytes;
        ClientData::parse(data, &caller.facts.remote.to_string(), most).map_err(|_| CallError::BadClientData)
    }

    /// A reply. Whether it was the one that its command waited for is told; why it was not is not, or clients could look for
    /// ids of others.
    pub(in crate::node) fn reply_to_command(&self, caller: &Caller, id: &str, reply: RawJson) -> Op<CallOutcome> {
        let connection = caller.facts.id;
        let user = self.0.registry.user(connection);
        if caller.facts.kind == ConnectionType::Ddp && user.is_none() {
            return Op::Ready(Err(CallError::NotLoggedIn));
        }
        match self.peers() {
            None => Op::Ready(self.reply_here(id, connection, user.as_ref(), reply)),
            Some(_) => self.reply_anywhere(id, connection, user, reply),
        }
    }

    /// A worker has handed a command over, or could not.
    pub(in crate::node) fn note_command_fate(&self, id: CommandId, connection: ConnId, fate: CommandFate) {
        let now = self.command_now();
        self.with_desk(|desk, out| {
            // Under the lock: its sender hears of it before it hears that the connection has ended.
            let is_for_other = desk.elsewhere.as_deref().is_some_and(|elsewhere| {
                !desk.engine.is_pending(id) && self.tell_fate_elsewhere(elsewhere, id, connection, fate)
            });
            if !is_for_other {
                desk.engine.delivered(id, connection, fate, now, out);
            }
        });
    }

    /// A connection is somebody else's, or nobody's, from now on.
    pub(in crate::node) fn note_command_user(&self, connection: ConnId) {
        let now = self.command_now();
        self.with_engine(|engine, out| engine.set_user(connection, self.0.registry.user(connection), now, out));
    }

    /// A connection has ended.
    pub(in crate::node) fn end_commands_of(&self, connection: ConnId) {
        let now = self.command_now();
        let was_known = self.with_desk(|Desk { engine, settling, .. }, out| {
            let is_known = engine.knows(connection);
            settling.stop(connection);
            engine.close(connection, now, out);
            is_known
        });
        if was_known {
            // It may have had a clock of its own. Users keep theirs.
            self.0.sessions.forget_clock(&connection.to_string());
        }
    }

    /// Notes when a session has had its time to listen.
    pub(super) fn ready_later(&self, desk: &mut Desk, Settling { connection, generation, has_data }: Settling) {
        let settings = &self.0.commands.settings;
        let wait = if has_data { settings.listen_wait } else { settings.ready_wait };
        let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        desk.settling.start(connection, generation, self.uptime_ms().saturating_add(wait_ms));
    }

    /// What a connection said about itself, and how it does with commands. None: it never said anything, and takes none. In a
    /// cluster it may be one of any node.
    pub fn client_of(&self, connection: ConnId) -> Option<ClientView> {
        let connection = self.connection_meant_anywhere(connection);
        self.0.commands.desk().engine.client(connection)
    }
}
