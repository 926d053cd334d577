//! The node: everything that may be asked, in one place.
//!
//! [`Node`] is what faces, embedders and the admin API use alike: rooms and members (`chat`), connections and
//! their server-only state ([`connection`], `connections`), what other nodes do of it (`cluster`), callbacks and middleware ([`hooks`]), what a backend decides over HTTP (`gate`).
//! Workers reach it through their own trait, implemented in `calls`, HTTP requests through `request`.

pub(crate) mod calls;
mod chat;
pub mod cluster;
pub mod commands;
pub mod connection;
mod connections;
mod figures;
mod files;
mod gate;
pub mod gateway;
pub mod hooks;
mod listening;
mod login;
mod pages;
mod profile;
mod registry;
mod request;
mod room_locks;
mod say;
mod send_rates;
mod tags;
mod user_rooms;

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use switchboard_proto::call::{CallError, ConnectionType};
use switchboard_proto::close::CloseReason;
use switchboard_proto::document::MemberRules;
use switchboard_proto::id::ConnId;
use switchboard_proto::json::RawJson;
use tokio::sync::{Notify, mpsc, oneshot};

pub use chat::Reauthentication;
pub use figures::StoreFigures;
pub use login::RevokedLogins;
pub use pages::{Page, RoomDetails, RoomSummary};
pub use profile::{ConnectionPatch, MAX_TAGS, State, StateError};
pub use say::{MockConnection, Speaker};
pub use switchboard_proto::user::User;

pub use crate::backend::cluster::NodeEntry;

use crate::action::Actions;
use crate::action::cache::Cache;
use crate::backend::cluster::{Cluster, ClusterEvent};
use crate::backend::sessions::SessionStore;
use crate::backend::{Broker, Directory, DirectorySize};
use crate::clock;
use crate::config::{Compat, Config, ExtraMembers};
use crate::hub::mail::{Address, Ask, Mail, Reply};
use crate::hub::mailbox::Mailbox;
use crate::op::BoxFuture;
use crate::users::Users;
use crate::webhook::Webhooks;

use chat::unavailable;
use cluster::Peers;
use commands::Commands;
pub(crate) use commands::{CommandSettings, ElsewhereSettings};
use files::PublicFolder;
use gate::Gate;
use gateway::Gateway;
pub(crate) use gateway::{GatewayOptions, ScribeInbox};
use hooks::Hooks;
use registry::Registry;
use room_locks::RoomLocks;
use send_rates::SendRates;

/// A running node. Cloning shares it.
///
/// Methods are called from any task or thread; none blocks.
#[derive(Clone)]
pub struct Node(Arc<Inner>);

struct Inner {
    name: String,
    actions: Actions,
    documentation: RawJson,
    cache: Cache,
    broker: Box<dyn Broker>,
    directory: Box<dyn Directory>,
    sessions: Arc<dyn SessionStore>,
    /// The other nodes; none without a backend that several share.
    cluster: Option<Peers>,
    registry: Registry,
    hooks: Hooks,
    /// Without hooks over HTTP there is none.
    gate: Option<Gate>,
    files: PublicFolder,
    settings: NodeSettings,
    workers: Vec<Mailbox>,
    /// A room is made or destroyed by one at a time, because each takes several steps: broker and directory must agree at
    /// the end. Only the control plane waits here; a worker never does.
    rooms_changing: RoomLocks,
    /// What has become of a room is done to its members by one at a time, so that the last one to do so has read the latest.
    /// Nobody asks other nodes while he has this.
    rooms_heeded: RoomLocks,
    /// Held while a room's pattern is changed.
    rooms_patterned: RoomLocks,
    /// A room that was being destroyed is gone, on whichever node.
    room_ended: Notify,
    missed_offers: Mutex<listening::MissedOffers>,
    commands: Commands,
    users: Users,
    gateway: Gateway,
    send_rates: SendRates<Arc<str>>,
    ddp_members: MemberRules,
    counters: Counters,
    store_sample: figures::Sample,
    /// A connection has ended.
    closed: Notify,
    is_draining: AtomicBool,
    started: Instant,
    runtime: tokio::runtime::Handle,
}

/// What a node takes from the configuration.
#[derive(Clone, Copy, Debug)]
struct NodeSettings {
    /// Which speakers hear themselves, by the type of their connection, in the order of [`ConnectionType::ALL`].
    hear_themselves: [bool; ConnectionType::ALL.len()],
    max_rooms: usize,
    chunk_bytes: usize,
    /// `servers.ddp.token_life`.
    token_life: Duration,
    /// `limits.max_rooms_per_connection`, which holds for users too.
    max_rooms_per_user: usize,
    /// `servers.ddp.max_tokens_per_user`.
    max_tokens_per_user: usize,
    /// `servers.ddp.ambiguous_login_errors`.
    ambiguous_login_errors: bool,
}

#[derive(Debug, Default)]
struct Counters {
    accepted: AtomicU64,
    connections: AtomicUsize,
    connections_by_type: [AtomicUsize; ConnectionType::ALL.len()],
    published: AtomicU64,
    delivered: AtomicU64,
    closed: [AtomicU64; CloseReason::ALL.len()],
}

/// Figures of a node at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Connections accepted since the start.
    pub accepted: u64,
    /// Connections open now.
    pub connections: usize,
    /// Those of each type, in the order of [`ConnectionType::ALL`].
    pub connections_by_type: [usize; ConnectionType::ALL.len()],
    /// Room messages numbered since the start.
    pub published: u64,
    /// Room messages queued for members of this node since the start: one for each message and member.
    pub delivered: u64,
    /// Connections ended since the start, by reason, in the order of [`CloseReason::ALL`].
    pub closed: [u64; CloseReason::ALL.len()],
}

/// Why a node should not be sent new clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotReady {
    /// It stops as planned.
    Draining,
    /// The other nodes have taken it for dead, and it has not begun anew.
    Fenced,
    /// It cannot reach the store that it shares with other nodes, or does not hear what is said there.
    Store,
}

impl NotReady {
    /// The word for it in the admin API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Draining => "draining",
            Self::Fenced => "fenced",
            Self::Store => "store",
        }
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node").field("name", &self.0.name).finish_non_exhaustive()
    }
}

/// The cluster that a node is part of.
pub(crate) struct ClusterParts {
    pub(crate) cluster: Arc<dyn Cluster>,
    pub(crate) events: mpsc::Receiver<ClusterEvent>,
}

/// What a node is made of.
pub(crate) struct Parts {
    pub(crate) actions: Actions,
    pub(crate) broker: Box<dyn Broker>,
    pub(crate) directory: Box<dyn Directory>,
    pub(crate) sessions: Arc<dyn SessionStore>,
    /// The other nodes, if there may be any, and what they say.
    pub(crate) cluster: Option<ClusterParts>,
    pub(crate) workers: Vec<Mailbox>,
    pub(crate) webhooks: Option<Arc<Webhooks>>,
    pub(crate) users: Users,
    pub(crate) commands: CommandSettings,
    pub(crate) gateway: GatewayOptions,
    /// The mailbox of which the broker knows behind those of the workers.
    pub(crate) scribe: ScribeInbox,
    pub(crate) runtime: tokio::runtime::Handle,
}

impl Node {
    pub(crate) fn new(config: &Config, parts: Parts) -> Self {
        let Parts {
            actions,
            broker,
            directory,
            sessions,
            cluster,
            workers,
            webhooks,
            users,
            commands,
            gateway,
            scribe,
            runtime,
        } = parts;
        let (cluster, events) = cluster.map(|parts| (parts.cluster, parts.events)).unzip();
        let is_in_cluster = cluster.is_some();
        let node = Self(Arc::new(Inner {
            name: config.node.name.clone(),
            documentation: actions.documentation(),
            actions,
            cache: Cache::new(config.actions.cache_max_bytes),
            broker,
            directory,
            sessions,
            cluster: cluster.map(|cluster| Peers::new(cluster, config)),
            registry: Registry::new(),
            hooks: Hooks::default(),
            gate: webhooks.map(|webhooks| Gate::new(webhooks, &config.hooks, &config.node.name, &runtime)),
            files: PublicFolder::new(&config.files),
            settings: NodeSettings {
                hear_themselves: ConnectionType::ALL.map(|kind| hears_itself(config, kind)),
                max_rooms: config.limits.max_rooms,
                chunk_bytes: config.files.chunk_bytes,
                token_life: config.servers.ddp.token_life,
                max_rooms_per_user: match config.limits.max_rooms_per_connection {
                    0 => usize::MAX,
                    max_rooms => max_rooms,
                },
                max_tokens_per_user: config.servers.ddp.max_tokens_per_user,
                ambiguous_login_errors: config.servers.ddp.ambiguous_login_errors,
            },
            gateway: Gateway::new(gateway, &config.node.name, &scribe, workers.len()),
            workers,
            rooms_changing: RoomLocks::default(),
            rooms_heeded: RoomLocks::default(),
            rooms_patterned: RoomLocks::default(),
            room_ended: Notify::new(),
            missed_offers: Mutex::default(),
            commands: Commands::new(commands, is_in_cluster),
            users,
            send_rates: SendRates::new(config.servers.ddp.send_rate, config.servers.ddp.send_burst),
            ddp_members: MemberRules {
                extra: match &config.servers.ddp.extra_members {
                    ExtraMembers::All => None,
                    ExtraMembers::Named(names) => Some(names.clone()),
                },
                for_bots: config.servers.ddp.bot_members.clone(),
            },
            counters: Counters::default(),
            store_sample: figures::Sample::default(),
            closed: Notify::new(),
            is_draining: AtomicBool::new(false),
            started: Instant::now(),
            runtime,
        }));
        node.keep_command_time();
        node.keep_hearts();
        node.keep_up_with_clients_elsewhere();
        node.keep_tokens_clean();
        node.keep_shards();
        node.start_scribe(scribe);
        if let Some(events) = events {
            node.follow_cluster(events);
            node.keep_reporting();
            node.keep_directory_true();
            node.keep_store_figures();
        }
        node
    }

    /// Its name (`node.name`).
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// How long it has been running, in milliseconds.
    pub fn uptime_ms(&self) -> u64 {
        u64::try_from(self.0.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// The time, in milliseconds since 1970.
    pub fn unix_ms(&self) -> u64 {
        clock::unix_ms()
    }

    /// The cache that actions share.
    pub fn cache(&self) -> &Cache {
        &self.0.cache
    }

    /// The description of every action: a JSON object, name to version to description.
    pub fn documentation(&self) -> &RawJson {
        &self.0.documentation
    }

    /// Its figures.
    pub fn figures(&self) -> Figures {
        let counters = &self.0.counters;
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Figures {
            accepted: load(&counters.accepted),
            connections: counters.connections.load(Ordering::Relaxed),
            connections_by_type: std::array::from_fn(|index| {
                counters.connections_by_type[index].load(Ordering::Relaxed)
            }),
            published: load(&counters.published),
            delivered: load(&counters.delivered),
            closed: std::array::from_fn(|index| load(&counters.closed[index])),
        }
    }

    /// How many rooms there are, and how many members they have.
    ///
    /// # Errors
    ///
    /// [`CallError::Unavailable`].
    pub async fn directory_size(&self) -> Result<DirectorySize, CallError> {
        self.0.directory.size().await.map_err(unavailable)
    }

    /// Why it should not be sent new clients; empty: it is ready.
    pub fn not_ready(&self) -> Vec<NotReady> {
        let is_draining = self.0.is_draining.load(Ordering::Relaxed).then_some(NotReady::Draining);
        is_draining.into_iter().chain(self.cut_off()).collect()
    }

    /// Says that the planned stop has begun.
    pub(crate) fn begin_drain(&self) {
        self.0.is_draining.store(true, Ordering::Relaxed);
        self.drain_commands();
    }

    /// The ids of every connection of this node, in no order.
    pub fn connection_ids(&self) -> Vec<ConnId> {
        self.0.registry.ids()
    }

    fn directory(&self) -> &dyn Directory {
        &*self.0.directory
    }

    /// What is kept beyond a connection.
    pub(crate) fn sessions(&self) -> &dyn SessionStore {
        &*self.0.sessions
    }

    /// The worker that a connection lives with.
    fn locate(&self, id: ConnId) -> Result<Address, CallError> {
        let place = self.0.registry.locate(id).ok_or(CallError::NoSuchConnection)?;
        place.map_err(|_| CallError::NotSupported)
    }

    /// Asks the worker that owns a connection. No answer means that the connection has ended.
    async fn ask<T: Send + 'static>(
        &self,
        address: Address,
        ask: impl FnOnce(crate::hub::mail::ConnKey, Reply<T>) -> Ask,
    ) -> Result<T, CallError> {
        let (reply, answer) = reply();
        self.0.workers[usize::from(address.worker)].push(Mail::Ask(ask(address.key, reply))).await;
        answer.await.map_err(|_| CallError::NoSuchConnection)
    }

    /// Asks every worker and waits for all of them. One that has ended does not count.
    async fn ask_all<T: Send + 'static>(&self, mut ask: impl FnMut(Reply<T>) -> Ask) -> Vec<T> {
        let mut answers = Vec::with_capacity(self.0.workers.len());
        for worker in &self.0.workers {
            let (reply, answer) = reply();
            worker.push(Mail::Ask(ask(reply))).await;
            answers.push(answer);
        }
        let mut values = Vec::with_capacity(answers.len());
        for answer in answers {
            values.extend(answer.await.ok());
        }
        values
    }

    /// Pushes the same mail to every worker.
    pub(crate) async fn tell_all(&self, ask: impl Fn() -> Ask) {
        for worker in &self.0.workers {
            worker.push(Mail::Ask(ask())).await;
        }
    }

    /// Waits until no connection is left.
    pub(crate) async fn emptied(&self) {
        loop {
            let closed = self.0.closed.notified();
            if self.0.counters.connections.load(Ordering::Relaxed) == 0 {
                return;
            }
            closed.await;
        }
    }

    /// Tells every worker to end, from a place that cannot wait.
    pub(crate) fn stop_now(&self) {
        // The task that ends commands at their limit may already be gone with its runtime.
        self.shut_down_commands();
        for worker in self.0.workers.iter().chain([self.scribe()]) {
            self.tell_soon(worker, Ask::Stop);
        }
    }

    /// Tells a worker something from a place that cannot wait: now, or as soon as it has space.
    fn tell_soon(&self, worker: &Mailbox, ask: Ask) {
        let mail = Mail::Ask(ask);
        match worker.try_reserve(mail.weight()) {
            Some(permit) => permit.push(mail),
            None => {
                let worker = worker.clone();
                self.spawn(Box::pin(async move { worker.push(mail).await }));
            }
        }
    }

    pub(crate) fn runtime(&self) -> &tokio::runtime::Handle {
        &self.0.runtime
    }

    fn spawn(&self, future: BoxFuture<'static, ()>) {
        // The task ends by itself; nobody waits for it.
        drop(self.0.runtime.spawn(future));
    }
}

/// Whether speakers of this type hear themselves: as in the generation that their protocol speaks, or because all do.
fn hears_itself(config: &Config, kind: ConnectionType) -> bool {
    let is_modern = match kind {
        ConnectionType::Socket => config.servers.socket.compat == Compat::Modern,
        ConnectionType::WebSocket => config.servers.websocket.compat == Compat::Modern,
        // All sessions of the one who speaks hear it.
        ConnectionType::Ddp => true,
        // It is in no room, or hears the room through its session's log.
        ConnectionType::Web | ConnectionType::Gateway => false,
    };
    is_modern || config.rooms.echo_to_sender
}

fn reply<T: Send + 'static>() -> (Reply<T>, oneshot::Receiver<T>) {
    let (sender, receiver) = oneshot::channel();
    // Whoever asked may have stopped waiting.
    (Box::new(move |value| drop(sender.send(value))), receiver)
}
