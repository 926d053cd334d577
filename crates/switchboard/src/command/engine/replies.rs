//! Replies: whose counts, and what else they bring about.

use crate::proto::command::CommandId;
use crate::proto::id::ConnId;
use crate::proto::time::Now;
use crate::proto::user::User;

use super::super::client::{Home, Paused};
use super::super::client_data::{PAUSE, RESUME};
use super::super::order::{Obeyed, Out, Reply, ReplyTooLarge};
use super::super::outcome::{Mode, Outcome};
use super::super::rows::Stage;
use super::Engine;

impl<W> Engine<W> {
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
        reply: Reply,
        now: Now,
        out: &mut Out<W>,
    ) -> Result<bool, ReplyTooLarge> {
        if reply.bytes() > self.limits.max_reply_bytes {
            self.figures.too_large_replies += 1;
            return Err(ReplyTooLarge);
        }
        self.tick(now, out);
        let id = CommandId::parse(id);
        let Some(number) = id.and_then(|id| self.numbers.get(&id).copied()) else {
            self.reply_late(id, from, user, &reply, now, out);
            return Ok(false);
        };
        let Some(command) = self.pending.get(&number).filter(|command| command.is_addressed_to(from, user)) else {
            self.figures.foreign_replies += 1;
            return Ok(false);
        };
        let collects = command.collects();
        if reply.success() == Some(true) {
            let (document, sender) = (command.order.document.clone(), command.order.sender.clone());
            self.note_success(&document.key, from, sender.as_deref(), now, out);
        }
        self.note_heard(from, now);
        if !collects {
            self.note_delivered(number, from, user);
            self.count_reply(number, &reply, out);
            self.settle(number, Outcome::Replied, Some(reply.into_json()), now, out);
            return Ok(true);
        }
        let Some(at) = self.reserve_row(number, from, user, reply.bytes())? else {
            self.figures.duplicate_replies += 1;
            return Ok(false);
        };
        self.note_delivered(number, from, user);
        self.count_reply(number, &reply, out);
        if let Some(command) = self.pending.get_mut(&number) {
            command.rows.fill(at, reply.into_json(), now.monotonic_ms);
            if command.has_enough() {
                self.settle(number, Outcome::Replied, None, now, out);
            } else {
                self.review(number, now, out);
            }
        }
        Ok(true)
    }

    /// The row of a collection that a reply fills, if there is one, and room for so many bytes.
    fn reserve_row(
        &mut self,
        number: u64,
        from: ConnId,
        user: Option<&User>,
        bytes: usize,
    ) -> Result<Option<usize>, ReplyTooLarge> {
        let Some(command) = self.pending.get_mut(&number) else { return Ok(None) };
        let Some(at) = command.row_for(from, user) else { return Ok(None) };
        if self.collected_bytes + bytes > self.limits.max_held_bytes {
            self.figures.too_large_replies += 1;
            return Err(ReplyTooLarge);
        }
        command.repliers.insert(from);
        command.reply_bytes += bytes;
        self.collected_bytes += bytes;
        // What is collected comes before what is only remembered.
        self.keys.shrink(self.limits.max_held_bytes - self.collected_bytes);
        Ok(Some(at))
    }

    /// A reply to a command that is not pending.
    fn reply_late(
        &mut self,
        id: Option<CommandId>,
        from: ConnId,
        user: Option<&User>,
        reply: &Reply,
        now: Now,
        out: &mut Out<W>,
    ) {
        let Some((settled, is_addressed)) = id.and_then(|id| self.history.find(id, from, user)) else {
            self.figures.unknown_replies += 1;
            return;
        };
        if !is_addressed {
            self.figures.foreign_replies += 1;
            return;
        }
        if settled.outcome == Outcome::Replied && settled.mode != Mode::All {
            self.figures.duplicate_replies += 1;
        } else {
            self.figures.late_replies += 1;
        }
        if reply.success() == Some(true) {
            self.note_success(&settled.key, from, settled.sender.as_deref(), now, out);
        }
        self.note_heard(from, now);
    }

    fn count_reply(&mut self, number: u64, reply: &Reply, out: &mut Out<W>) {
        let Some(command) = self.pending.get_mut(&number) else { return };
        if command.replied == 0 {
            out.responded.push((command.id(), reply.json().clone()));
        }
        command.replied += 1;
        self.figures.replies += 1;
        if reply.success() == Some(false) {
            command.client_errors += 1;
            self.figures.client_errors += 1;
        }
    }

    /// Who answers has got it, even if his worker has not said so yet.
    fn note_delivered(&mut self, number: u64, from: ConnId, user: Option<&User>) {
        let Some(command) = self.pending.get(&number) else { return };
        if let Some(at) = command.own_row(from, user)
            && command.rows.get(at).stage == Stage::Sent
        {
            self.advance(number, at, Stage::Delivered);
        }
    }

    fn note_heard(&mut self, from: ConnId, now: Now) {
        if let Some(record) = self.clients.get_mut(&from) {
            record.health.heard_unix_ms = Some(now.unix_ms);
            record.health.is_unresponsive = false;
        }
        self.touch(from);
    }

    /// A client did what it was asked: some of that concerns the server.
    fn note_success(&mut self, key: &str, from: ConnId, sender: Option<&str>, now: Now, out: &mut Out<W>) {
        let obeyed = match key {
            PAUSE => Obeyed::Pause(Paused { since_unix_ms: now.unix_ms, by: sender.map(Box::from) }),
            RESUME => Obeyed::Resume(now.unix_ms),
            _ => return,
        };
        match self.clients.get(&from) {
            Some(record) if !record.is_elsewhere() => self.obeyed(from, obeyed, out),
            // Perhaps its node knows more of it than this one.
            _ if self.is_shared => out.obeyed.push((from, obeyed)),
            _ => {}
        }
    }

    /// A connection of this node did what concerns the server, in the eyes of the node that had asked it.
    pub fn obeyed(&mut self, connection: ConnId, obeyed: Obeyed, out: &mut Out<W>) {
        let Some(record) = self.clients.get_mut(&connection) else { return };
        let Home::Here(address) = record.client.home else { return };
        match obeyed {
            Obeyed::Pause(_) if record.paused.is_some() => return,
            Obeyed::Pause(paused) => {
                record.paused = Some(paused);
                out.paused.push((address, true));
            }
            Obeyed::Resume(at_unix_ms) => {
                record.resumed_unix_ms = Some(at_unix_ms);
                if record.paused.take().is_some() {
                    out.paused.push((address, false));
                }
            }
        }
        self.tell(connection, out);
    }
}
