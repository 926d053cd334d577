//! The engine: which command is pending, who may answer it, and what its sender is told.

mod elsewhere;
mod replies;
mod sending;
mod sessions;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use crate::proto::command::CommandId;
use crate::proto::id::ConnId;
use crate::proto::json::RawJson;
use crate::proto::time::Now;

use super::client::{Parties, Record};
use super::figures::Figures;
use super::history::{Audience, History, PendingCommand, SettledCommand};
use super::idempotency::{Keys, Progress};
use super::limits::CommandLimits;
use super::order::{Accepted, Aim, Clock, Idempotency, Order, Out, Refusal};
use super::outcome::{Mode, Outcome};
use super::pending::Pending;
use super::rows::Stage;
use sending::Part;

/// All client commands of a node. `W` is what waits for a report; the engine keeps it and gives it back with the report.
///
/// Every method returns at once and leaves what should be done in `out`. After any of them, [`Engine::next_outgoing`] may have
/// something new and [`Engine::next_deadline`] may be earlier.
#[derive(Debug)]
pub struct Engine<W> {
    limits: CommandLimits,
    /// Connections that take commands or said something about themselves.
    clients: HashMap<ConnId, Record>,
    /// Of these, how many take commands.
    sessions: usize,
    /// Those of this node by their rank. Kept only in a cluster, where other nodes ask for them part by part.
    own: BTreeMap<u64, ConnId>,
    /// Sessions of this node that listen and named heartbeats among what they answer.
    heartbeats: BTreeSet<ConnId>,
    parties: Parties,
    /// By their number, which rises in the order of acceptance.
    pending: BTreeMap<u64, Box<Pending<W>>>,
    numbers: HashMap<CommandId, u64>,
    deadlines: BTreeSet<(u64, u64)>,
    /// What leaves, by the number of its command and its own place among the command's parts.
    outgoing: BTreeMap<(u64, u32), Part>,
    /// The part whose time is being asked for.
    asked: Option<((u64, u32), Part)>,
    keys: Keys,
    history: History,
    figures: Figures,
    /// Sessions that pending commands are addressed to, or have in mind.
    rows: usize,
    /// Bytes of the documents of pending commands.
    document_bytes: usize,
    /// Bytes of replies in unfinished collections.
    collected_bytes: usize,
    is_draining: bool,
    /// There may be other nodes, which are to know what connections of this one do.
    is_shared: bool,
    /// Rises with everything that needs a number: commands, sessions, activity.
    counter: u64,
}

/// Commands.
impl<W> Engine<W> {
    /// An engine without sessions and commands.
    pub fn new(limits: CommandLimits) -> Self {
        Self {
            limits,
            clients: HashMap::new(),
            own: BTreeMap::new(),
            sessions: 0,
            heartbeats: BTreeSet::new(),
            parties: Parties::default(),
            pending: BTreeMap::new(),
            numbers: HashMap::new(),
            deadlines: BTreeSet::new(),
            outgoing: BTreeMap::new(),
            asked: None,
            keys: Keys::default(),
            history: History::default(),
            figures: Figures::default(),
            rows: 0,
            document_bytes: 0,
            collected_bytes: 0,
            is_draining: false,
            is_shared: false,
            counter: 0,
        }
    }

    /// The same, of a node that tells others what its connections do: [`Out::changed`] says when.
    pub fn in_cluster(limits: CommandLimits) -> Self {
        Self { is_shared: true, ..Self::new(limits) }
    }

    /// Takes a command. If it is new, `waiter` gets exactly one report through [`Out::settled`], perhaps at once, and at the
    /// deadline at the latest, if [`Engine::tick`] is called then. If it is [`Accepted::Joined`], it gets that command's
    /// report. Else it is dropped.
    ///
    /// # Errors
    ///
    /// [`Refusal`], also counted. The command is forgotten, and so is its idempotency key.
    pub fn accept(
        &mut self,
        mut order: Order,
        idempotency: Option<Idempotency>,
        waiter: W,
        now: Now,
        out: &mut Out<W>,
    ) -> Result<Accepted, Refusal> {
        match idempotency.as_ref().and_then(|asked| self.keys.find(asked, now.monotonic_ms)) {
            None => {}
            Some(Err(())) => return Ok(Accepted::Conflict),
            Some(Ok(Progress::Settled(report))) => return Ok(Accepted::Finished(report)),
            Some(Ok(Progress::Pending(number))) => {
                if let Some(first) = self.pending.get_mut(&number) {
                    first.waiters.push(waiter);
                    return Ok(Accepted::Joined(first.id()));
                }
            }
        }
        self.tick(now, out);
        let listed = self.resolve(&mut order);
        if let Err(refusal) = self.admit(&order, listed.as_ref().map(Vec::len)) {
            self.figures.refused += 1;
            return Err(refusal);
        }
        self.document_bytes += order.bytes();
        let number = self.next_number();
        let key = idempotency.map(|asked| self.keys.begin(asked, number));
        self.numbers.insert(order.document.id, number);
        self.deadlines.insert((order.deadline_ms, number));
        if let Some(who) = order.aim.counted() {
            self.parties.change(who, |party| party.pending += 1);
        }
        let mut command = Box::new(Pending::new(order, waiter, key, now));
        let mut addressed = listed.unwrap_or_default();
        if command.order.mode == Mode::One {
            self.rows += addressed.len();
            command.candidates = std::mem::take(&mut addressed);
        }
        self.pending.insert(number, command);
        if addressed.is_empty() {
            self.recruit(number, now, out);
        } else {
            self.address(number, addressed);
        }
        Ok(Accepted::New)
    }

    /// Takes a command back. Whether it was pending.
    pub fn cancel(&mut self, id: CommandId, now: Now, out: &mut Out<W>) -> bool {
        let Some(&number) = self.numbers.get(&id) else { return false };
        self.settle(number, Outcome::Cancelled, None, now, out);
        true
    }

    /// Drops those who wait for a command and went away; if nobody is left, the command is taken back.
    pub fn abandon(&mut self, id: CommandId, is_gone: impl Fn(&W) -> bool, now: Now, out: &mut Out<W>) {
        let Some(&number) = self.numbers.get(&id) else { return };
        let Some(command) = self.pending.get_mut(&number) else { return };
        command.waiters.retain(|waiter| !is_gone(waiter));
        if command.waiters.is_empty() {
            self.settle(number, Outcome::Cancelled, None, now, out);
        }
    }

    /// Settles what is over.
    pub fn tick(&mut self, now: Now, out: &mut Out<W>) {
        while let Some(&(deadline_ms, number)) = self.deadlines.first() {
            if deadline_ms > now.monotonic_ms {
                return;
            }
            // Every deadline belongs to a pending command: both end in `settle`.
            self.deadlines.pop_first();
            if let Some(outcome) = self.pending.get(&number).map(|command| command.outcome_at_limit()) {
                self.settle(number, outcome, None, now, out);
            }
        }
    }

    /// When [`Engine::tick`] has something to do, on the monotonic clock.
    pub fn next_deadline(&self) -> Option<u64> {
        self.deadlines.first().map(|(deadline_ms, _)| *deadline_ms)
    }

    /// The server stops: nothing more is accepted. Pending commands go on, but for those whose sessions are all gone: nobody
    /// comes back to a server that stops.
    pub fn drain(&mut self, now: Now, out: &mut Out<W>) {
        self.is_draining = true;
        let numbers: Vec<u64> = self.pending.keys().copied().collect();
        for number in numbers {
            self.review(number, now, out);
        }
    }

    /// The server has stopped: whatever is pending ends with `shutdown`.
    pub fn shut_down(&mut self, now: Now, out: &mut Out<W>) {
        self.is_draining = true;
        let numbers: Vec<u64> = self.pending.keys().copied().collect();
        for number in numbers {
            self.settle(number, Outcome::Shutdown, None, now, out);
        }
    }

    /// Whether the command with this id is pending.
    pub fn is_pending(&self, id: CommandId) -> bool {
        self.numbers.contains_key(&id)
    }

    /// Whether nothing is pending.
    pub fn is_idle(&self) -> bool {
        self.pending.is_empty()
    }

    /// Pending commands in the order of acceptance: those after this number, at most `limit`.
    pub fn pending(&self, after: u64, limit: usize, now: Now) -> Vec<PendingCommand> {
        let later = self.pending.range(after.saturating_add(1)..);
        later.take(limit).map(|(number, command)| command.shown(*number, now)).collect()
    }

    /// Commands that were settled, the oldest first: those after this number, at most `limit`.
    pub fn history(&self, after: u64, limit: usize) -> Vec<Arc<SettledCommand>> {
        self.history.after(after, limit)
    }

    /// The number of the command that was settled last.
    pub fn history_end(&self) -> u64 {
        self.history.end()
    }

    /// What was counted.
    pub fn figures(&self) -> Figures {
        Figures { pending: self.pending.len(), sessions: self.sessions, ..self.figures.clone() }
    }

    fn next_number(&mut self) -> u64 {
        self.counter += 1;
        self.counter
    }

    /// Replaces a list by those of it that are sessions now: in mode `one` the most recently active last, which is the
    /// first to be tried.
    fn resolve(&mut self, order: &mut Order) -> Option<Vec<ConnId>> {
        let asked: Vec<ConnId> = match &mut order.aim {
            Aim::Everybody => self.clients.keys().copied().collect(),
            Aim::Sessions(listed) => std::mem::take(listed),
            _ => return None,
        };
        let is_session = |record: &Record| {
            record.session.is_some() && (!order.require_capability || record.announces(&order.document.key))
        };
        let ranked = asked.into_iter().filter_map(|id| {
            let record = self.clients.get(&id).filter(|record| is_session(record))?;
            Some((record.rank, id))
        });
        let mut ranked: Vec<(u64, ConnId)> = ranked.collect();
        ranked.sort_unstable();
        ranked.dedup();
        Some(ranked.into_iter().map(|(_, id)| id).collect())
    }

    /// Whether there is room for a command, `listed` being how many sessions its list has.
    fn admit(&self, order: &Order, listed: Option<usize>) -> Result<(), Refusal> {
        if self.is_draining {
            return Err(Refusal::Draining);
        }
        if self.is_pending(order.document.id) {
            return Err(Refusal::IdInUse);
        }
        if self.pending.len() >= self.limits.max_pending {
            return Err(Refusal::TooMany);
        }
        if let Some(party) = order.aim.counted().and_then(|who| self.parties.get(&who))
            && party.pending >= self.limits.max_pending_per_user
        {
            return Err(Refusal::TooManyOfUser);
        }
        let rows = listed.unwrap_or_else(|| match &order.aim {
            Aim::User(user) => self.parties.get(&Clock::User(user.shared_id())).map_or(0, |party| party.sessions.len()),
            _ => 1,
        });
        if self.rows + rows > self.limits.max_pending_rows {
            return Err(Refusal::TooManyRows);
        }
        if self.document_bytes + order.bytes() > self.limits.max_pending_bytes {
            return Err(Refusal::TooManyBytes);
        }
        Ok(())
    }

    /// Ends a pending command: the only way in which one ends, and what is left of it is a report.
    fn settle(&mut self, number: u64, outcome: Outcome, reply: Option<RawJson>, now: Now, out: &mut Out<W>) {
        self.release(number);
        let Some(mut command) = self.pending.remove(&number) else { return };
        self.numbers.remove(&command.id());
        self.deadlines.remove(&(command.order.deadline_ms, number));
        if let Some(who) = command.order.aim.counted() {
            self.parties.change(who, |party| party.pending -= 1);
        }
        while let Some((&part, _)) = self.outgoing.range((number, 0)..=(number, u32::MAX)).next() {
            self.outgoing.remove(&part);
        }
        for row in command.rows.iter() {
            if let Some(record) = self.clients.get_mut(&row.connection) {
                record.addressed.remove(&number);
            }
        }
        self.rows -= command.rows.len() + command.candidates.len();
        self.document_bytes -= command.order.bytes();
        self.collected_bytes -= command.reply_bytes;
        let shown = SettledCommand {
            number: 0,
            id: command.id(),
            key: command.order.document.key.clone(),
            target: command.order.target.clone(),
            mode: command.order.mode,
            sender: command.order.sender.take(),
            accepted_unix_ms: command.accepted.unix_ms,
            outcome,
            latency_ms: now.monotonic_ms.saturating_sub(command.accepted.monotonic_ms),
            counts: command.counts(),
            client_errors: command.client_errors,
        };
        let audience = Audience::new(&command.order.aim, &command.rows);
        self.history.push(shown, audience, self.limits.history_max, self.limits.max_pending_rows);
        let key = command.idempotency_key.take();
        let (report, waiters) = command.into_report(outcome, reply, now);
        self.figures.settle(&report);
        let report = Arc::new(report);
        if let Some(key) = key {
            self.keys.settle(key, &report, now.monotonic_ms, &self.limits);
            self.keys.shrink(self.limits.max_held_bytes - self.collected_bytes);
        }
        out.settled.push((waiters, report));
    }

    /// Takes a command off those that wait for a session.
    fn release(&mut self, number: u64) {
        if let Some(command) = self.pending.get_mut(&number)
            && std::mem::take(&mut command.is_held)
            && let Some(who) = command.order.aim.awaited()
        {
            self.parties.change(who, |party| {
                party.held.remove(&number);
            });
        }
    }

    /// Notes how far a command came with a session, and in the figures.
    fn advance(&mut self, number: u64, at: usize, stage: Stage) {
        let Some(command) = self.pending.get_mut(&number) else { return };
        let row = command.rows.get(at);
        let stays = |record: &Record| row.is_for(record.client.user.as_ref());
        let may_return = stage == Stage::Gone && self.clients.get(&row.connection).is_some_and(stays);
        command.advance(at, stage, may_return);
        match stage {
            Stage::Delivered => self.figures.delivered += 1,
            Stage::Overflow => self.figures.overflowed += 1,
            _ => {}
        }
    }

    /// Whether nothing is kept, but for what is remembered on purpose.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.clients.is_empty()
            && self.own.is_empty()
            && self.heartbeats.is_empty()
            && self.parties.is_empty()
            && self.pending.is_empty()
            && self.numbers.is_empty()
            && self.deadlines.is_empty()
            && self.outgoing.is_empty()
            && self.keys.are_settled()
            && (self.sessions, self.rows, self.document_bytes, self.collected_bytes) == (0, 0, 0, 0)
    }
}
