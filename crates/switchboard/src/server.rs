//! A whole server: workers, node and listeners, from start to planned stop.

mod backends;
mod listeners;
mod settings;
mod storms;
mod warnings;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use mio::{Poll, Waker};
use thiserror::Error;
use tokio::sync::mpsc;

use crate::action::{Action, ActionExists, Actions, Middleware, builtin, remote};
use crate::admin;
use crate::backend::BackendError;
use crate::backend::Pattern;
use crate::backend::file::OpenError;
use crate::config::{Config, ConfigError, HttpUrl};
use crate::hub::ids::Ids;
use crate::hub::mail::Ask;
use crate::hub::mailbox::inbox;
use crate::net::certificates::CertificateError;
use crate::net::listen::{ListenAddress, bind_admin};
use crate::node::{Node, Parts, ScribeInbox};
use crate::op::catch;
use crate::proto::call::CallError;
use crate::users::Users;
use crate::webhook::{AuthoritiesError, Webhooks};
use crate::worker::{self, AcceptRate, Loads, WAKE, Worker};

use backends::{Backends, Opened};
use listeners::{Listeners, Shared};
use settings::{command_settings, face_settings, gateway_options, worker_settings};

/// Why a server did not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// Two actions have the same name and version.
    #[error(transparent)]
    Action(#[from] ActionExists),
    /// A listener could not be bound.
    #[error("{listener} cannot listen on {address}: {error}{remedy}")]
    Bind {
        /// Its section of the configuration.
        listener: &'static str,
        /// Where.
        address: String,
        /// What the system said.
        error: io::Error,
        /// What can be done about it.
        remedy: String,
    },
    /// The configuration is not valid.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The authorities that vouch for `https` backends cannot be used.
    #[error(transparent)]
    Hooks(#[from] AuthoritiesError),
    /// What `backend.kind = "redis"` shares could not be reached, or may not be used.
    #[error("backend.redis: {0}")]
    Redis(BackendError),
    /// A starting room could not be made.
    #[error("rooms.starting: {name:?}: {reason}")]
    Room {
        /// Which.
        name: String,
        /// Why.
        reason: String,
    },
    /// Gateway sessions could not return to their rooms.
    #[error("rooms of gateway sessions: {0}")]
    ShardRooms(CallError),
    /// What `backend.kind = "file"` keeps could not be opened.
    #[error(transparent)]
    Store(#[from] OpenError),
    /// The system refused a thread or an event queue.
    #[error("a worker could not be started: {0}")]
    Worker(#[from] io::Error),
    /// The users could not be taken over.
    #[error("users: {0}")]
    Users(io::Error),
    /// TLS could not be set up.
    #[error(transparent)]
    Tls(#[from] CertificateError),
}

/// A server before it runs.
#[must_use = "a server does nothing until it is started"]
pub struct ServerBuilder {
    config: Config,
    actions: Actions,
    problem: Option<ActionExists>,
    setup: Vec<Setup>,
    after_storm: Option<fn()>,
}

type Setup = Box<dyn FnOnce(&Node) + Send>;

impl std::fmt::Debug for ServerBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServerBuilder").field("actions", &self.actions).finish_non_exhaustive()
    }
}

impl ServerBuilder {
    /// Adds an action. The default actions are there already.
    pub fn action(mut self, action: impl Action) -> Self {
        if let Err(problem) = self.actions.register(action) {
            self.problem.get_or_insert(problem);
        }
        self
    }

    /// Adds middleware around all actions. Lower priorities come first; ActionHero's default is 100.
    pub fn middleware(mut self, priority: i32, middleware: impl Middleware) -> Self {
        self.actions.add_middleware(priority, middleware);
        self
    }

    /// Runs `setup` once the node exists and before anybody can connect: the place to add callbacks.
    pub fn setup(mut self, setup: impl FnOnce(&Node) + Send + 'static) -> Self {
        self.setup.push(Box::new(setup));
        self
    }

    /// Has the server call `free`, on a thread that may block, each time that many connections have ended: at least 256,
    /// and at least half of the most since the call before. The `switchboard` program gives free memory back to the
    /// system there, which its allocator would keep.
    pub fn after_storm(mut self, free: fn()) -> Self {
        self.after_storm = Some(free);
        self
    }

    /// Starts the server in the current tokio runtime, which must have its IO and time drivers enabled. When this returns,
    /// every listener is bound and clients can connect.
    ///
    /// # Errors
    ///
    /// See [`StartError`]. Nothing is left running then.
    pub async fn start(mut self) -> Result<Server, StartError> {
        if let Some(problem) = self.problem.take() {
            return Err(problem.into());
        }
        self.config.validate()?;
        let ids = Ids::default();
        let opened = Opened::open(&self.config, ids.clone()).await?;
        let sessions = Arc::clone(&opened.sessions);
        warnings::of(&self.config, sessions.survives_restart()).iter().for_each(|warning| tracing::warn!("{warning}"));
        let started = self.start_on(opened, ids).await;
        if started.is_err() {
            sessions.close().await;
        }
        started
    }

    async fn start_on(self, opened: Opened, ids: Ids) -> Result<Server, StartError> {
        let Self { config, mut actions, setup, after_storm, .. } = self;
        actions.limit_long_running(config.actions.long_running_max);
        let runtime = tokio::runtime::Handle::current();
        let count = match config.node.workers {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            workers => usize::from(workers),
        };
        let mut loops = Vec::with_capacity(count);
        let mut mailboxes = Vec::with_capacity(count);
        for _ in 0..count {
            let poll = Poll::new()?;
            let waker = Waker::new(poll.registry(), WAKE)?;
            let (mailbox, inbox) = inbox(config.limits.inbox_bytes, move || {
                if let Err(error) = waker.wake() {
                    tracing::error!(%error, "a worker could not be woken");
                }
            });
            mailboxes.push(mailbox);
            loops.push((poll, inbox));
        }

        let scribe = ScribeInbox::new(config.limits.inbox_bytes);
        // To the broker the scribe is the last of the workers.
        let hearing = mailboxes.iter().cloned().chain([scribe.mailbox.clone()]).collect();
        let Backends { broker, directory, sessions, cluster } = opened.begin(&config, hearing).await?;

        let webhooks = webhooks(&config)?;
        if let Some(webhooks) = &webhooks {
            remote::register(&mut actions, &config, webhooks)?;
        }
        actions.set_secret_params(&config.actions.secret_params);
        let faces = Arc::new(face_settings(&config, &actions));
        let node = Node::new(
            &config,
            Parts {
                actions,
                broker,
                directory,
                sessions,
                cluster,
                workers: mailboxes.clone(),
                webhooks,
                users: Users::new(&config.users, &config.servers.ddp).map_err(StartError::Users)?,
                commands: command_settings(&config),
                gateway: gateway_options(&config),
                scribe,
                runtime: runtime.clone(),
            },
        );
        make_rooms(&node, &config).await?;
        setup.into_iter().for_each(|setup| setup(&node));
        node.enter_shard_rooms().await.map_err(StartError::ShardRooms)?;

        for warning in config.warnings() {
            tracing::warn!("{warning}");
        }
        let shared = Shared {
            node: node.clone(),
            workers: mailboxes.clone(),
            loads: Arc::new(Loads::new(count, ids)),
            accept_rate: Arc::new(AcceptRate::new(config.limits.accepts_per_address)),
            settings: worker_settings(&config),
            started: Instant::now(),
        };
        if let Some(free) = after_storm {
            storms::watch(&shared.loads, free, &runtime);
        }
        let (listeners, mut for_workers) = Listeners::bind(&config, &shared, &runtime)?;
        let mut server = Server {
            listeners,
            node: node.clone(),
            threads: Vec::with_capacity(count),
            drain_timeout: config.node.drain_timeout,
            admin: None,
            failures: mpsc::channel(1).1,
        };

        if config.admin.enabled {
            let (listener, address) = bind_admin(&config.admin).map_err(|error| admin_bind_error(&config, error))?;
            if !address.ip().to_canonical().is_loopback() {
                tracing::warn!(%address, "the admin API can be reached from other machines and is not encrypted");
            }
            server.listeners.addresses.admin = Some(address);
            server.admin = Some(admin::start(listener, &config, node.clone())?);
        }

        let (failed, failures) = mpsc::channel(count);
        server.failures = failures;
        for (index, (poll, inbox)) in loops.into_iter().enumerate() {
            let parts = worker::Parts {
                index: index as u16,
                poll,
                inbox,
                mailboxes: mailboxes.clone(),
                loads: Arc::clone(&shared.loads),
                calls: Arc::new(node.clone()),
                faces: Arc::clone(&faces),
                settings: shared.settings,
                listeners: std::mem::take(&mut for_workers),
                accept_rate: Arc::clone(&shared.accept_rate),
                started: shared.started,
            };
            server.threads.push(spawn_worker(parts, runtime.clone(), failed.clone())?);
        }
        Ok(server)
    }
}

fn spawn_worker(
    parts: worker::Parts,
    runtime: tokio::runtime::Handle,
    failed: mpsc::Sender<String>,
) -> io::Result<JoinHandle<()>> {
    let name = format!("worker-{}", parts.index);
    std::thread::Builder::new().name(name.clone()).spawn(move || {
        // Futures are polled in place, and what they make (timers, sockets) belongs to the runtime.
        let _context = runtime.enter();
        let reason = match catch(|| Worker::new(parts).run()) {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error.to_string(),
            Err(panic) => format!("panicked: {}", panic.0),
        };
        tracing::error!(worker = name, reason, "a worker ended");
        // With one already told, the server is ending.
        let _ = failed.try_send(format!("{name}: {reason}"));
    })
}

/// Where a server listens.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Addresses {
    /// The line protocol.
    pub socket: Option<ListenAddress>,
    /// HTTP and WebSockets.
    pub web: Option<ListenAddress>,
    /// The admin API.
    pub admin: Option<SocketAddr>,
}

/// A running server. Dropping it ends everything at once; [`Server::stop`] ends it as planned.
#[derive(Debug)]
pub struct Server {
    listeners: Listeners,
    node: Node,
    threads: Vec<JoinHandle<()>>,
    drain_timeout: Duration,
    admin: Option<admin::Running>,
    failures: mpsc::Receiver<String>,
}

impl Server {
    /// A server with this configuration and the default actions.
    pub fn builder(config: Config) -> ServerBuilder {
        let mut actions = Actions::default();
        let problem = builtin::register(&mut actions).err();
        ServerBuilder { config, actions, problem, setup: Vec::new(), after_storm: None }
    }

    /// The node: rooms, members, connections.
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// Where it listens, with the real ports.
    pub fn addresses(&self) -> &Addresses {
        &self.listeners.addresses
    }

    /// The address of the line protocol, with its real port; `None` on a Unix socket.
    pub fn socket_addr(&self) -> Option<SocketAddr> {
        self.addresses().socket.as_ref().and_then(ListenAddress::tcp)
    }

    /// The address of HTTP and WebSockets, with its real port.
    pub fn web_addr(&self) -> Option<SocketAddr> {
        self.addresses().web.as_ref().and_then(ListenAddress::tcp)
    }

    /// What the program prints once every listener is bound.
    pub fn ready_line(&self) -> String {
        let mut line = "switchboard ready".to_owned();
        let Addresses { socket, web, admin } = self.addresses();
        for (name, address) in [("socket", socket), ("web", web)] {
            if let Some(address) = address {
                line.push_str(&format!(" {name}={address}"));
            }
        }
        if let Some(admin) = admin {
            line.push_str(&format!(" admin={admin}"));
        }
        line
    }

    /// Reads the certificate files of all listeners again. New handshakes use them; connections stay. Without TLS nothing
    /// happens.
    ///
    /// # Errors
    ///
    /// When those of a listener cannot be used: then nothing has changed for that one.
    pub fn reload_certificates(&self) -> Result<(), CertificateError> {
        self.listeners.reload_certificates()
    }

    /// Waits until a worker fails, which is a defect of this library and leaves the server without that worker's
    /// connections.
    pub async fn failed(&mut self) -> String {
        self.failures.recv().await.unwrap_or_else(|| "every worker has ended".to_owned())
    }

    /// Ends the server as planned: nobody is accepted any more; client commands that are pending have `commands.drain_wait` to
    /// be answered; then who has nothing pending is told and closed, the others when
    /// their pending actions are answered, over the line protocol at the latest after `servers.socket.shutdown_wait`; whatever
    /// is left after `node.drain_timeout` is closed. The admin API answers until then, and says that the node is not ready.
    pub async fn stop(mut self) {
        self.node.begin_drain();
        self.listeners.begin_stop();
        let deadline = tokio::time::Instant::now() + self.drain_timeout;
        self.node.commands_ended(self.drain_timeout).await;
        self.node.tell_all(|| Ask::Drain).await;
        let emptied = async {
            self.listeners.emptied().await;
            self.node.emptied().await;
        };
        if !self.drain_timeout.is_zero() && tokio::time::timeout_at(deadline, emptied).await.is_err() {
            tracing::warn!(open = self.node.figures().connections, "not every connection ended in time");
        }
        self.node.shut_down_commands();
        if let Some(admin) = self.admin.take() {
            admin.stop().await;
        }
        self.node.tell_all(|| Ask::Stop).await;
        let threads = std::mem::take(&mut self.threads);
        // A panic of a worker has been told already.
        let joined = tokio::task::spawn_blocking(move || threads.into_iter().for_each(|thread| drop(thread.join())));
        drop(joined.await);
        if tokio::time::timeout_at(deadline, self.node.leaves_reported()).await.is_err() {
            tracing::warn!("not every leave was reported in time");
        }
        let deadline = deadline.max(tokio::time::Instant::now() + CLOSE_STORE);
        if tokio::time::timeout_at(deadline, self.node.end_scribe()).await.is_err() {
            tracing::warn!("not everything that rooms said reached the logs of gateway sessions in time");
        }
        if tokio::time::timeout_at(deadline, self.node.leave_cluster()).await.is_err() {
            tracing::warn!("the other nodes were not told in time that this one stops");
        }
        if tokio::time::timeout_at(deadline, self.node.sessions().close()).await.is_err() {
            tracing::warn!("the store did not close in time; what was answered is in it");
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if !self.threads.is_empty() {
            self.node.stop_now();
        }
    }
}

/// The client for everything that asks a backend, if anything does.
fn webhooks(config: &Config) -> Result<Option<Arc<Webhooks>>, AuthoritiesError> {
    let hooks = &config.hooks;
    let hook_urls = [&hooks.connect.url, &hooks.join.url, &hooks.leave.url, &hooks.say.url, &hooks.action.url];
    let action_urls = config.actions.remote.iter().map(|action| &action.url);
    let mut urls = hook_urls.into_iter().flatten().chain(action_urls).peekable();
    if urls.peek().is_none() {
        return Ok(None);
    }
    Webhooks::new(hooks, urls.any(HttpUrl::is_secure)).map(|webhooks| Some(Arc::new(webhooks)))
}

/// Time that the store has to close, if `node.drain_timeout` has been used up by others: one write.
const CLOSE_STORE: Duration = Duration::from_millis(500);

async fn make_rooms(node: &Node, config: &Config) -> Result<(), StartError> {
    for room in &config.rooms.starting {
        let pairs = room.auth.iter().map(|(key, value)| (key.clone(), value.clone().into())).collect();
        node.add_starting_room(&room.name, Pattern(pairs))
            .await
            .map_err(|error| StartError::Room { name: room.name.clone(), reason: error.to_string() })?;
    }
    Ok(())
}

fn admin_bind_error(config: &Config, error: io::Error) -> StartError {
    let address = format!("{} port {}", config.admin.bind, config.admin.port);
    let remedy = match error.kind() {
        io::ErrorKind::AddrInUse => {
            "; another process listens there: stop it, set admin.port, or admin.enabled = false"
        }
        io::ErrorKind::PermissionDenied => "; ports below 1024 need more rights",
        io::ErrorKind::AddrNotAvailable => "; admin.bind is no address of this machine",
        _ => "",
    };
    StartError::Bind { listener: "admin", address, error, remedy: remedy.to_owned() }
}

/// Raises the limit of open files as far as the system lets this process. For programs; a library leaves it alone.
pub fn raise_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum
        && let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })
    {
        tracing::warn!(%error, "the limit of open files could not be raised");
    }
}
