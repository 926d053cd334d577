//! Client commands: the server asks a client to do something and gets its reply, or learns why there is none.
//!
//! The [`Engine`], which knows neither clocks nor sockets, decides which commands are pending and which client may
//! answer. Around it: `courier` hands commands to connections, `clients` notes what connections do, `heartbeats`
//! checks that they live, `aim` resolves targets. In a cluster `elsewhere` knows the clients of other nodes, `inbound` carries out commands of other
//! nodes, and `replies` routes replies to the node that waits for them.

mod aim;
mod carried;
mod clients;
mod courier;
mod elsewhere;
mod heartbeats;
mod inbound;
mod pauses;
mod replies;
mod responses;
mod settling;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use ring::digest::{SHA256, digest};
use switchboard_proto::command::{CommandDocument, CommandId, Recipient};
use switchboard_proto::id::ConnId;
use switchboard_proto::time::Now;
use tokio::sync::{Notify, Semaphore, oneshot, watch};

use crate::clock;
use crate::command::{
    Accepted, Aim, CommandLimits, CommandOptions, CommandRefusal, Engine, Figures, Idempotency, Mode, Order, Out,
    PendingCommand, Refusal, Report, SentCommand, SettledCommand, Target, TargetKind, TargetName,
};
use crate::random;

use super::Node;
use super::send_rates::SendRates;

pub use crate::command::ClientCommand;
use elsewhere::Elsewhere;
use pauses::UntoldPauses;
use responses::Responses;
use settling::SettlingTimes;

/// What a node takes from the configuration for client commands.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CommandSettings {
    pub(crate) limits: CommandLimits,
    /// `commands.timeout`.
    pub(crate) timeout: Duration,
    /// `commands.max_timeout`.
    pub(crate) max_timeout: Duration,
    /// `commands.max_command_bytes`.
    pub(crate) max_command_bytes: usize,
    /// `commands.max_client_data_bytes`.
    pub(crate) max_client_data_bytes: usize,
    /// `commands.ready_wait`.
    pub(crate) ready_wait: Duration,
    /// `commands.listen_wait`.
    pub(crate) listen_wait: Duration,
    /// `commands.drain_wait`.
    pub(crate) drain_wait: Duration,
    /// `commands.ts_offset`, in milliseconds.
    pub(crate) ts_offset_ms: u64,
    /// `commands.heartbeat_interval`.
    pub(crate) heartbeat_interval: Duration,
    /// `commands.listeners_max`.
    pub(crate) listeners_max: usize,
    pub(crate) elsewhere: ElsewhereSettings,
}

/// What it takes from there for a cluster.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ElsewhereSettings {
    /// `commands.sessions_elsewhere_max`.
    pub(crate) sessions_max: usize,
    /// `commands.carried_max`.
    pub(crate) carried_max: usize,
    /// `commands.errand_bytes`.
    pub(crate) errand_bytes: usize,
    /// `commands.lookup_rate`.
    pub(crate) lookup_rate: u32,
    /// `commands.lookup_burst`.
    pub(crate) lookup_burst: u32,
    /// `commands.lookups_max`.
    pub(crate) lookups_max: usize,
    /// Bytes of what is told of connections at a time: a part of `backend.redis.max_message_bytes`.
    pub(crate) part_bytes: usize,
}

type Waiter = oneshot::Sender<Arc<Report>>;

/// The client commands of a node.
pub(super) struct Commands {
    settings: CommandSettings,
    desk: Mutex<Desk>,
    responses: Responses,
    /// How often each connection may ask other nodes whether they know a command.
    lookup_rates: SendRates<ConnId>,
    /// How many such questions may wait for their answers.
    lookups: Arc<Semaphore>,
    check: RwLock<Option<Arc<Check>>>,
    /// When the timekeeper looks next, on the monotonic clock.
    next_look_ms: AtomicU64,
    /// There is something to look at earlier, or the node is gone.
    earlier: Arc<Notify>,
    ended: watch::Sender<EndedCommands>,
}

/// What the node announces about commands that ended.
#[derive(Clone, Copy, Debug, Default)]
struct EndedCommands {
    count: u64,
    /// The node has stopped, so no more commands will end.
    is_last: bool,
}

/// What one thread at a time works at.
struct Desk {
    engine: Engine<Waiter>,
    settling: SettlingTimes,
    /// The courier waits for a clock, or for space with a worker; behind it everything lines up.
    courier_waits: bool,
    untold_pauses: UntoldPauses,
    /// Without a cluster there is nothing elsewhere.
    elsewhere: Option<Box<Elsewhere>>,
}

type Check = dyn Fn(&CommandRequest<'_>) -> bool + Send + Sync;

/// A command that somebody wants to send, as [`Node::check_commands`] sees it.
#[derive(Clone, Copy, Debug)]
pub struct CommandRequest<'a> {
    /// Who wants to send it, if he said so.
    pub sender: Option<&'a str>,
    /// To whom.
    pub target: &'a Target,
    /// What.
    pub command: &'a ClientCommand,
}

impl Desk {
    /// When the timekeeper has something to do, on the monotonic clock; `u64::MAX` for never.
    fn next_look_ms(&self) -> u64 {
        let times = [self.engine.next_deadline(), self.settling.next_ms()];
        times.into_iter().flatten().min().unwrap_or(u64::MAX)
    }
}

impl fmt::Debug for Commands {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Commands").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Drop for Commands {
    fn drop(&mut self) {
        self.earlier.notify_one();
    }
}

impl Commands {
    pub(super) fn new(settings: CommandSettings, is_in_cluster: bool) -> Self {
        let engine = if is_in_cluster { Engine::in_cluster } else { Engine::new };
        Self {
            settings,
            desk: Mutex::new(Desk {
                engine: engine(settings.limits),
                settling: SettlingTimes::default(),
                courier_waits: false,
                untold_pauses: UntoldPauses::default(),
                elsewhere: is_in_cluster.then(|| Box::new(Elsewhere::new(settings.elsewhere))),
            }),
            responses: Responses::new(settings.listeners_max),
            lookup_rates: SendRates::new(settings.elsewhere.lookup_rate, settings.elsewhere.lookup_burst),
            lookups: Arc::new(Semaphore::new(settings.elsewhere.lookups_max)),
            check: RwLock::default(),
            next_look_ms: AtomicU64::new(u64::MAX),
            earlier: Arc::default(),
            ended: watch::Sender::default(),
        }
    }

    fn desk(&self) -> MutexGuard<'_, Desk> {
        // The engine does not panic half way.
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A client command on its way. Dropping it takes the command back, unless somebody else waits for the same.
#[derive(Debug)]
#[must_use = "a command that nobody waits for is taken back"]
pub struct PendingClientCommand {
    id: CommandId,
    document: Arc<CommandDocument>,
    target: Target,
    recipient: Option<Recipient>,
    /// `None` once the outcome is known.
    waiting: Option<(oneshot::Receiver<Arc<Report>>, Node)>,
    ended: Option<Arc<Report>>,
}

impl PendingClientCommand {
    /// Its id.
    pub fn id(&self) -> CommandId {
        self.id
    }
}

/// Polled again after it was ready, it is ready with the same outcome.
impl Future for PendingClientCommand {
    type Output = SentCommand;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<SentCommand> {
        let this = &mut *self;
        if let Some((reported, _)) = &mut this.waiting {
            this.ended = ready!(Pin::new(reported).poll(cx)).ok();
            this.waiting = None;
        }
        let document = &this.document;
        // Without a report the engine has dropped the command.
        let report = this.ended.get_or_insert_with(|| Arc::new(Report::of_lost(this.id, &document.key)));
        let (report, document) = (Arc::clone(report), Arc::clone(document));
        Poll::Ready(SentCommand::new(report, document, this.target.clone(), this.recipient.clone()))
    }
}

impl Drop for PendingClientCommand {
    fn drop(&mut self) {
        if let Some((reported, node)) = self.waiting.take() {
            drop(reported);
            node.abandon_command(self.id);
        }
    }
}

/// Commands as they end. A reader that is too slow misses those that are no longer remembered
/// (`commands.history_max`); the numbers of the others show it.
#[derive(Debug)]
pub struct CommandTail {
    node: Node,
    ended: watch::Receiver<EndedCommands>,
    last: u64,
}

impl CommandTail {
    /// Most commands that one look brings.
    const MOST: usize = 100;

    /// The next ones, the oldest first; at least one. `None`: the node has stopped, and there are no more.
    pub async fn next(&mut self) -> Option<Vec<Arc<SettledCommand>>> {
        loop {
            // Read before the history: a command that ends after that wakes the next wait.
            let is_last = self.ended.borrow_and_update().is_last;
            let next = self.node.client_command_history(self.last, Self::MOST);
            if let Some(last) = next.last() {
                self.last = last.number;
                return Some(next);
            }
            if is_last || self.ended.changed().await.is_err() {
                return None;
            }
        }
    }
}

impl Node {
    /// Asks a client to do something and waits for the reply (`sendClientCommand` of the seed). The command is sent when this
    /// is first polled; its limit begins when it is accepted. Stopping to wait takes it back.
    ///
    /// Guarantees: exactly one outcome, no later than the limit plus a moment; the command is written to a connection at most
    /// once, and commands to one user leave in the order in which they were accepted; a reply counts once, and only from who
    /// was asked.
    ///
    /// # Errors
    ///
    /// [`CommandRefusal`]: then it never was a command. That nobody replied is no error here: see [`SentCommand::reply`].
    pub async fn send_client_command(
        &self,
        target: Target,
        command: ClientCommand,
        options: CommandOptions,
    ) -> Result<SentCommand, CommandRefusal> {
        Ok(self.begin_client_command(target, command, options).await?.await)
    }

    /// Sends a command without waiting for its outcome yet.
    ///
    /// # Errors
    ///
    /// [`CommandRefusal`].
    pub async fn begin_client_command(
        &self,
        target: Target,
        command: ClientCommand,
        options: CommandOptions,
    ) -> Result<PendingClientCommand, CommandRefusal> {
        let chosen = options.id;
        let begun = self.accept_client_command(target, command, options).await;
        // Whoever listens for a command that was not sent would listen for ever.
        if let Some(id) = chosen.filter(|id| !self.0.commands.desk().engine.is_pending(*id)) {
            self.0.commands.responses.forget(id);
        }
        begun
    }

    async fn accept_client_command(
        &self,
        target: Target,
        command: ClientCommand,
        options: CommandOptions,
    ) -> Result<PendingClientCommand, CommandRefusal> {
        let limit = self.limit_of(&command, &options)?;
        if !self.is_allowed(&CommandRequest { sender: options.sender.as_deref(), target: &target, command: &command }) {
            return Err(CommandRefusal::NotAllowed);
        }
        let (aim, recipient) = self.aim(&target).await?;
        let id = match options.id {
            Some(id) => id,
            None => self.fresh_command_id()?,
        };
        let idempotency = options
            .idempotency_key
            .as_ref()
            .map(|key| Idempotency { key: key.as_str().into(), fingerprint: fingerprint(&target, &command, &options) });
        let default_mode = match target {
            Target::User(_) | Target::Connection(_) => Mode::First,
            Target::All | Target::Room(_) | Target::Tag(_) => Mode::All,
        };
        let (key, json, data) = command.into_parts();
        let document = Arc::new(CommandDocument { id, key, command: json, data });
        let now = self.command_now();
        let order = Order {
            document: Arc::clone(&document),
            aim,
            target: target_name(&target),
            mode: options.mode.unwrap_or(default_mode),
            fail_fast: options.fail_fast,
            min_replies: options.min_replies,
            require_capability: options.require_capability,
            deadline_ms: now.monotonic_ms + u64::try_from(limit.as_millis()).unwrap_or(u64::MAX),
            sender: options.sender.map(Into::into),
        };
        let (waiter, reported) = oneshot::channel();
        // A connection of this node may have ended since it was found, before the engine knew that a command waits for it.
        let connection = match &order.aim {
            Aim::Connection { id, .. } if self.peers().is_none_or(|peers| id.node() == peers.slot()) => Some(*id),
            _ => None,
        };
        let accepted = self.with_engine(|engine, out| {
            let accepted = engine.accept(order, idempotency, waiter, now, out);
            if let Some(id) = connection.filter(|id| self.0.registry.locate(*id).is_none()) {
                engine.close(id, now, out);
            }
            accepted
        })?;
        let pending = |id, ended: Option<Arc<Report>>| PendingClientCommand {
            id,
            document,
            target,
            recipient,
            waiting: ended.is_none().then(|| (reported, self.clone())),
            ended,
        };
        match accepted {
            Accepted::New => Ok(pending(id, None)),
            Accepted::Joined(first) => Ok(pending(first, None)),
            Accepted::Finished(report) => Ok(pending(report.id, Some(report))),
            Accepted::Conflict => Err(CommandRefusal::KeyConflict),
        }
    }

    /// An id for [`CommandOptions::id`], that nobody can guess.
    ///
    /// # Errors
    ///
    /// [`CommandRefusal::Unavailable`] if the system has no random numbers.
    pub fn fresh_command_id(&self) -> Result<CommandId, CommandRefusal> {
        random::bits().map(CommandId::from_random).map_err(|_| CommandRefusal::Unavailable)
    }

    /// Takes a command back: whoever waits for it is told `cancelled`. `false`: no such command is pending.
    pub fn cancel_client_command(&self, id: CommandId) -> bool {
        let now = self.command_now();
        self.with_engine(|engine, out| engine.cancel(id, now, out))
    }

    /// Nobody waits for a command any more, or one less.
    fn abandon_command(&self, id: CommandId) {
        let now = self.command_now();
        self.with_engine(|engine, out| engine.abandon(id, Waiter::is_closed, now, out));
    }

    /// Has every command looked at before it is sent: with `false` it is refused. There is one check; a later one replaces it.
    pub fn check_commands(&self, check: impl Fn(&CommandRequest<'_>) -> bool + Send + Sync + 'static) {
        *self.0.commands.check.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(check));
    }

    fn is_allowed(&self, request: &CommandRequest<'_>) -> bool {
        let check = self.0.commands.check.read().unwrap_or_else(PoisonError::into_inner).clone();
        check.is_none_or(|check| match crate::op::catch(|| check(request)) {
            Ok(allowed) => allowed,
            Err(panic) => {
                tracing::error!(panic = panic.0, "the check of client commands panicked");
                false
            }
        })
    }

    /// Pending commands in the order of acceptance: those behind this number, at most `limit`.
    pub fn pending_client_commands(&self, after: u64, limit: usize) -> Vec<PendingCommand> {
        self.0.commands.desk().engine.pending(after, limit, self.command_now())
    }

    /// Commands that came to their end lately, the oldest first: those behind this number, at most `limit`.
    pub fn client_command_history(&self, after: u64, limit: usize) -> Vec<Arc<SettledCommand>> {
        self.0.commands.desk().engine.history(after, limit)
    }

    /// Commands as they end, beginning after the one with this number; without one, from now on.
    pub fn follow_client_commands(&self, after: Option<u64>) -> CommandTail {
        let ended = self.0.commands.ended.subscribe();
        let last = after.unwrap_or_else(|| self.0.commands.desk().engine.history_end());
        CommandTail { node: self.clone(), ended, last }
    }

    /// Figures of client commands.
    pub fn client_command_figures(&self) -> Figures {
        self.0.commands.desk().engine.figures()
    }

    /// Runs `listener` with the reply to one command, once: on `client-command-response-<id>`, as the seed names the event.
    /// Late and double replies are not told. The listener must not block. Listeners of a command that ends without a reply are
    /// dropped.
    ///
    /// # Errors
    ///
    /// [`CommandRefusal::Refused`] when there are `commands.listeners_max` listeners.
    pub fn on_client_command_response(
        &self,
        id: CommandId,
        listener: impl FnOnce(&crate::proto::json::RawJson) + Send + 'static,
    ) -> Result<(), CommandRefusal> {
        let added = self.0.commands.responses.add(id, Box::new(listener));
        if added { Ok(()) } else { Err(CommandRefusal::Refused(Refusal::TooMany)) }
    }

    /// What is wrong with a command and its options, or its limit.
    fn limit_of(&self, command: &ClientCommand, options: &CommandOptions) -> Result<Duration, CommandRefusal> {
        let settings = &self.0.commands.settings;
        if command.json().as_str().len() > settings.max_command_bytes {
            return Err(CommandRefusal::BadCommand);
        }
        let has =
            |text: &Option<String>, most: usize| text.as_ref().is_none_or(|text| (1..=most).contains(&text.len()));
        if !has(&options.idempotency_key, 255) {
            return Err(CommandRefusal::BadOption("an idempotency key has 1 to 255 bytes"));
        }
        if !has(&options.sender, 128) {
            return Err(CommandRefusal::BadOption("a sender has 1 to 128 bytes"));
        }
        if options.min_replies.is_some_and(|replies| replies == 0) {
            return Err(CommandRefusal::BadOption("min_replies is 1 or more"));
        }
        let limit = options.timeout.unwrap_or(settings.timeout);
        if limit.is_zero() || limit > settings.max_timeout {
            return Err(CommandRefusal::BadOption(
                "the limit of a command is more than 0 and at most commands.max_timeout",
            ));
        }
        Ok(limit)
    }

    pub(super) fn command_now(&self) -> Now {
        Now { monotonic_ms: self.uptime_ms(), unix_ms: clock::unix_ms(), ..Now::default() }
    }

    /// Does something with the engine, and then whatever it wants done.
    fn with_engine<T>(&self, step: impl FnOnce(&mut Engine<Waiter>, &mut Out<Waiter>) -> T) -> T {
        self.with_desk(|desk, out| step(&mut desk.engine, out))
    }

    /// Does something at the desk, and then whatever the engine wants done.
    fn with_desk<T>(&self, step: impl FnOnce(&mut Desk, &mut Out<Waiter>) -> T) -> T {
        let commands = &self.0.commands;
        let mut out = Out::default();
        let mut desk = commands.desk();
        let result = step(&mut desk, &mut out);
        self.tell_changes(&mut desk, std::mem::take(&mut out.changed));
        let wakes = self.deliver_commands(&mut desk);
        self.mute(&mut desk, std::mem::take(&mut out.paused));
        for settling in out.settling {
            self.ready_later(&mut desk, settling);
        }
        let next_ms = desk.next_look_ms();
        drop(desk);
        drop(wakes);
        if next_ms < commands.next_look_ms.load(Ordering::Relaxed) {
            commands.earlier.notify_one();
        }
        for (id, reply) in out.responded {
            commands.responses.tell(id, &reply);
        }
        if !out.settled.is_empty() {
            commands.ended.send_modify(|ended| ended.count += out.settled.len() as u64);
        }
        for (waiters, report) in out.settled {
            commands.responses.forget(report.id);
            for waiter in waiters {
                // Whoever waited may have stopped.
                let _ = waiter.send(Arc::clone(&report));
            }
        }
        result
    }

    /// Ends commands past their limit, and has connections sent commands that have had their time, until the node ends.
    pub(super) fn keep_command_time(&self) {
        let inner = Arc::downgrade(&self.0);
        let earlier = Arc::clone(&self.0.commands.earlier);
        let started = tokio::time::Instant::from_std(self.0.started);
        self.spawn(Box::pin(async move {
            loop {
                let Some(node) = inner.upgrade().map(Node) else { return };
                let next_ms = node.0.commands.desk().next_look_ms();
                node.0.commands.next_look_ms.store(next_ms, Ordering::Relaxed);
                // Looked at once more: whoever came in between has not seen when the next look is.
                let due_ms = node.0.commands.desk().next_look_ms().min(next_ms);
                drop(node);
                if due_ms == u64::MAX {
                    earlier.notified().await;
                    continue;
                }
                // One more, because the clock's milliseconds are cut off.
                let due = started + Duration::from_millis(due_ms + 1);
                if tokio::time::timeout_at(due, earlier.notified()).await.is_err() {
                    let Some(node) = inner.upgrade().map(Node) else { return };
                    let now = node.command_now();
                    node.with_desk(|desk, out| {
                        while let Some((connection, generation)) = desk.settling.take_due(now.monotonic_ms) {
                            desk.engine.ready(connection, generation, now, out);
                        }
                        desk.engine.tick(now, out);
                    });
                }
            }
        }));
    }

    /// The planned stop has begun: nothing is accepted any more.
    pub(super) fn drain_commands(&self) {
        let now = self.command_now();
        self.with_engine(|engine, out| engine.drain(now, out));
    }

    /// Waits until nothing is pending, at most `commands.drain_wait` and at most this long.
    pub(crate) async fn commands_ended(&self, most: Duration) {
        let commands = &self.0.commands;
        let mut ended = commands.ended.subscribe();
        let idle = ended.wait_for(|_| commands.desk().engine.is_idle());
        // What is pending then ends with its clients, or with `shut_down_commands`.
        drop(tokio::time::timeout(commands.settings.drain_wait.min(most), idle).await);
    }

    /// The server has stopped, as planned or not: all pending commands end, and with them every [`CommandTail`].
    pub(crate) fn shut_down_commands(&self) {
        let now = self.command_now();
        self.with_engine(|engine, out| engine.shut_down(now, out));
        self.0.commands.ended.send_modify(|ended| ended.is_last = true);
    }
}

fn target_name(target: &Target) -> TargetName {
    let (kind, name) = match target {
        Target::All => (TargetKind::All, String::new()),
        Target::Connection(id) => (TargetKind::Connection, id.to_string()),
        Target::Room(room) => (TargetKind::Room, room.clone()),
        Target::Tag(tag) => (TargetKind::Tag, tag.clone()),
        Target::User(user) => (TargetKind::User, user.clone()),
    };
    TargetName { kind, name: name.into() }
}

/// What makes two requests the same.
fn fingerprint(target: &Target, command: &ClientCommand, options: &CommandOptions) -> [u8; 32] {
    let CommandOptions { timeout, mode, fail_fast, min_replies, require_capability, idempotency_key: _, sender, id: _ } =
        options;
    let text = format!(
        "{target:?}\n{}\n{timeout:?} {mode:?} {fail_fast} {min_replies:?} {require_capability} {sender:?}",
        command.json().as_str()
    );
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest(&SHA256, text.as_bytes()).as_ref());
    bytes
}
