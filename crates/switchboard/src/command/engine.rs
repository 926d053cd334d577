//! The engine: which command is pending, who may answer it, and what its sender is told.

use std::marker::PhantomData;
use std::sync::Arc;

use crate::proto::command::CommandId;
use crate::proto::id::ConnId;
use crate::proto::json::RawJson;
use crate::proto::time::Now;
use crate::proto::user::User;

use super::client::{Client, ClientView};
use super::client_data::ClientData;
use super::figures::Figures;
use super::history::{PendingCommand, SettledCommand};
use super::limits::CommandLimits;
use super::order::{Accepted, Dispatch, Fate, Idempotency, Order, Out, Outgoing, Refusal, ReplyTooLarge};

/// All client commands of a node. `W` is what waits for a report; the engine keeps it and gives it back with the report.
///
/// Every method returns at once and leaves what should be done in `out`. After any of them, [`Engine::next_outgoing`] may have
/// something new and [`Engine::next_deadline`] may be earlier.
#[derive(Debug)]
pub struct Engine<W> {
    limits: CommandLimits,
    waiters: PhantomData<W>,
}

/// Sessions: connections that take commands.
impl<W> Engine<W> {
    /// An engine without sessions and commands.
    pub fn new(limits: CommandLimits) -> Self {
        Self { limits, waiters: PhantomData }
    }

    /// A connection takes commands from now on, or said so once more. With `settling` it is not sent any before its client
    /// data is known, or before [`Engine::ready`] says that it has had its time: [`Out::settling`] asks for that.
    pub fn take_commands(&mut self, client: Client, settling: bool, now: Now, out: &mut Out<W>) {
        let _ = (client, settling, now, out, self.limits);
    }

    /// A connection takes no more commands: its subscription ended, it opted out, it logged out. Its client data is
    /// forgotten; a pause is not. It may still answer what was delivered to it.
    pub fn stop_taking(&mut self, connection: ConnId, now: Now, out: &mut Out<W>) {
        let _ = (connection, now, out);
    }

    /// What a client says about itself, before or after it takes commands.
    pub fn set_client_data(&mut self, client: Client, data: ClientData, now: Now, out: &mut Out<W>) {
        let _ = (client, data, now, out);
    }

    /// A session has had its time to listen. Nothing happens if it is not the session of this generation any more.
    pub fn ready(&mut self, connection: ConnId, generation: u64, now: Now, out: &mut Out<W>) {
        let _ = (connection, generation, now, out);
    }

    /// Whose a connection is from now on. It goes on taking commands, as the new user's session; for the user before it is as
    /// if it had been closed. A pause ends with the user, not with the arrival of one.
    pub fn set_user(&mut self, connection: ConnId, user: Option<User>, now: Now, out: &mut Out<W>) {
        let _ = (connection, user, now, out);
    }

    /// A connection ended. To be called for every connection; cheap for those that never took commands.
    pub fn close(&mut self, connection: ConnId, now: Now, out: &mut Out<W>) {
        let _ = (connection, now, out);
    }

    /// A connection did something: mode `one` prefers the most recently active session. Deliveries and replies count anyway.
    pub fn touch(&mut self, connection: ConnId) {
        let _ = connection;
    }

    /// What became of a heartbeat: its round trip in milliseconds, or `None` if it was not answered in time.
    pub fn note_heartbeat(&mut self, connection: ConnId, ping_ms: Option<u64>, now: Now) {
        let _ = (connection, ping_ms, now);
    }

    /// Sessions that announced that they answer heartbeats.
    pub fn heartbeat_targets(&self) -> Vec<Client> {
        Vec::new()
    }

    /// What is known of a connection, if it takes commands or said something about itself.
    pub fn client(&self, connection: ConnId) -> Option<ClientView> {
        let _ = connection;
        None
    }
}

/// Commands.
impl<W> Engine<W> {
    /// Takes a command. If it is new, `waiter` gets exactly one report through [`Out::settled`], perhaps at once, and at the
    /// deadline at the latest, if [`Engine::tick`] is called then. In all other cases but [`Accepted::Joined`] it is dropped.
    ///
    /// # Errors
    ///
    /// [`Refusal`], also counted. The command is forgotten, and so is its idempotency key.
    pub fn accept(
        &mut self,
        order: Order,
        idempotency: Option<Idempotency>,
        waiter: W,
        now: Now,
        out: &mut Out<W>,
    ) -> Result<Accepted, Refusal> {
        let _ = (order, idempotency, waiter, now, out);
        Err(Refusal::Draining)
    }

    /// What leaves next, in the order of acceptance. Its clock is asked for the time at which it leaves, which is given to
    /// [`Engine::send_next`]. Until then the answer remains the same one, or is passed over once nobody needs it any more.
    pub fn next_outgoing(&mut self) -> Option<Outgoing> {
        None
    }

    /// Takes what [`Engine::next_outgoing`] announced. Empty if it was settled meanwhile, or if all sessions have left. What
    /// became of every dispatch is told to [`Engine::delivered`].
    pub fn send_next(&mut self, ts: u64, now: Now) -> Vec<Dispatch> {
        let _ = (ts, now);
        Vec::new()
    }

    /// What became of a dispatch. Told late, or for a command that was settled meanwhile, it does no harm.
    pub fn delivered(&mut self, id: CommandId, connection: ConnId, fate: Fate, now: Now, out: &mut Out<W>) {
        let _ = (id, connection, fate, now, out);
    }

    /// A reply. `user` is whose the connection is now; it need not take commands. `true` only if the reply counted: whoever
    /// replies is not told why it did not.
    ///
    /// # Errors
    ///
    /// [`ReplyTooLarge`]; the command stays pending.
    pub fn reply(
        &mut self,
        id: &str,
        from: ConnId,
        user: Option<&User>,
        reply: RawJson,
        now: Now,
        out: &mut Out<W>,
    ) -> Result<bool, ReplyTooLarge> {
        let _ = (id, from, user, reply, now, out);
        Ok(false)
    }

    /// Takes a command back. Whether it was pending.
    pub fn cancel(&mut self, id: CommandId, now: Now, out: &mut Out<W>) -> bool {
        let _ = (id, now, out);
        false
    }

    /// Drops those who wait for a command and went away; if nobody is left, the command is taken back.
    pub fn abandon(&mut self, id: CommandId, is_gone: impl Fn(&W) -> bool, now: Now, out: &mut Out<W>) {
        let _ = (id, is_gone, now, out);
    }

    /// Settles what is over.
    pub fn tick(&mut self, now: Now, out: &mut Out<W>) {
        let _ = (now, out);
    }

    /// When [`Engine::tick`] has something to do, on the monotonic clock.
    pub fn next_deadline(&self) -> Option<u64> {
        None
    }

    /// The server stops: nothing more is accepted. Pending commands go on, but for those whose sessions are all gone: nobody
    /// comes back to a server that stops.
    pub fn drain(&mut self, now: Now, out: &mut Out<W>) {
        let _ = (now, out);
    }

    /// The server has stopped: whatever is pending ends with `shutdown`.
    pub fn shut_down(&mut self, now: Now, out: &mut Out<W>) {
        let _ = (now, out);
    }

    /// Whether nothing is pending.
    pub fn is_idle(&self) -> bool {
        true
    }

    /// Pending commands in the order of acceptance: those after this number, at most `limit`.
    pub fn pending(&self, after: u64, limit: usize, now: Now) -> Vec<PendingCommand> {
        let _ = (after, limit, now);
        Vec::new()
    }

    /// Commands that were settled, the oldest first: those after this number, at most `limit`.
    pub fn history(&self, after: u64, limit: usize) -> Vec<Arc<SettledCommand>> {
        let _ = (after, limit);
        Vec::new()
    }

    /// What was counted.
    pub fn figures(&self) -> Figures {
        Figures::default()
    }
}
