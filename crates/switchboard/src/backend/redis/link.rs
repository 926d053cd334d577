//! The connection to Redis: which server it is, how it is asked, how it is made anew.
//!
//! A [`Link`] has one connection at a time, to a single server that is no replica or to a Redis Cluster. A task makes it anew when it
//! breaks, tries the servers in their order, and waits longer and longer in between, never the same time. Nothing is asked twice by
//! itself: whoever got no answer is told so, since what was asked may have been done.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::cluster::ClusterClientBuilder;
use redis::cluster_async::ClusterConnection;
use redis::cluster_routing::{MultipleNodeRoutingInfo, ResponsePolicy, RoutingInfo};
use redis::io::tcp::TcpSettings;
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionInfo, IntoConnectionInfo, ProtocolVersion, PushInfo, PushKind,
    RedisResult, ServerErrorKind, Value,
};
use tokio::sync::{Notify, Semaphore, SemaphorePermit, watch};

use crate::backend::BackendError;
use crate::config::RedisServers;
use crate::op::BoxFuture;

use super::keys;
use super::script::{Priority, Script};
use super::store::Answered;
use super::trouble::{Trouble, Troubles};

/// Moves keys of a wrong type aside.
static REPAIR: Script = Script::new(include_str!("repair.lua"));

/// How long a key that was moved aside is kept, in milliseconds, so that its contents show which program wrote it.
const SET_ASIDE_MS: u64 = 24 * 3600 * 1000;

/// What a link needs to know.
#[derive(Clone, Debug)]
pub(crate) struct LinkSettings {
    /// Where the servers are.
    pub(crate) servers: RedisServers,
    /// `backend.redis.timeout`.
    pub(crate) timeout: Duration,
    /// `backend.redis.in_flight_max`.
    pub(crate) in_flight_max: usize,
    /// `backend.redis.queue_max`.
    pub(crate) queue_max: usize,
}

/// Takes what Redis sends by itself. It must not block.
pub(super) type OnPush = Arc<dyn Fn(PushInfo) + Send + Sync>;

/// A connection to Redis that is made anew when it breaks. Cloning shares it.
#[derive(Clone)]
pub(crate) struct Link(Arc<Inner>);

struct Inner {
    settings: LinkSettings,
    on_push: Option<OnPush>,
    present: RwLock<Option<Present>>,
    state: watch::Sender<LinkState>,
    /// The connection is to be made anew.
    broken: Arc<Notify>,
    in_flight: Semaphore,
    /// Places for requests that wait until fewer are in flight.
    queue: Semaphore,
    /// How many requests have waited there.
    queued: AtomicU64,
    troubles: Troubles,
    /// How often it was made.
    made: AtomicU64,
}

/// Whether there is a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum LinkState {
    /// There is none.
    Down,
    /// There is one, the so-and-so-manieth, to these servers.
    Up { serial: u64, server: Arc<ServerFacts> },
}

/// What a server says about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ServerFacts {
    /// Its version, as in (7, 0).
    pub(crate) version: (u32, u32),
    /// Whether it is part of a Redis Cluster.
    pub(crate) is_cluster: bool,
    /// A name for each process that is a master, which no other process ever has.
    pub(crate) runs: BTreeSet<String>,
}

impl ServerFacts {
    /// Whether messages can be published to the part of the cluster alone that has the channel's key.
    pub(crate) fn shards_channels(&self) -> bool {
        self.version >= (7, 0)
    }
}

#[derive(Clone)]
struct Present {
    connection: Connection,
    serial: u64,
    server: Arc<ServerFacts>,
}

/// Either kind of connection; cloning shares it.
#[derive(Clone)]
pub(super) enum Connection {
    Single(MultiplexedConnection),
    Cluster(ClusterConnection),
}

impl Connection {
    async fn ask(&mut self, command: &Cmd) -> RedisResult<Value> {
        let answer = match self {
            Self::Single(connection) => connection.req_packed_command(command).await,
            Self::Cluster(connection) => connection.req_packed_command(command).await,
        };
        answer.and_then(Value::extract_error)
    }
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link").field("servers", &self.0.settings.servers).finish_non_exhaustive()
    }
}

impl Link {
    /// Shortest and longest pause between two attempts to connect.
    const PAUSES_MS: std::ops::RangeInclusive<u64> = 50..=2000;

    /// Commands that wait to be written, beyond which whoever asks waits too.
    const PIPELINE: usize = 1024;

    /// Connects for the first time, and keeps the connection from then on for as long as there is a link.
    ///
    /// # Errors
    ///
    /// What each server said, when none can be used.
    pub(crate) async fn open(settings: LinkSettings, on_push: Option<OnPush>) -> Result<Self, BackendError> {
        let link = Self(Arc::new(Inner {
            in_flight: Semaphore::new(settings.in_flight_max),
            queue: Semaphore::new(settings.queue_max),
            queued: AtomicU64::default(),
            settings,
            on_push,
            present: RwLock::default(),
            state: watch::Sender::new(LinkState::Down),
            broken: Arc::default(),
            troubles: Troubles::default(),
            made: AtomicU64::default(),
        }));
        link.connect().await?;
        let inner = Arc::downgrade(&link.0);
        let broken = Arc::clone(&link.0.broken);
        tokio::spawn(async move {
            loop {
                broken.notified().await;
                let Some(inner) = inner.upgrade() else { return };
                Self(inner).reconnect().await;
            }
        });
        Ok(link)
    }

    async fn reconnect(&self) {
        self.set_present(None);
        tracing::warn!(servers = %self.0.settings.servers, "the connection to Redis is lost");
        let mut pause_ms = *Self::PAUSES_MS.start();
        loop {
            // Never at the same time as others that lost theirs at the same time.
            tokio::time::sleep(Duration::from_millis(fastrand::u64(pause_ms / 2..=pause_ms))).await;
            match self.connect().await {
                Ok(()) => {
                    // That the old one is broken may have been said more than once.
                    drop(tokio::time::timeout(Duration::ZERO, self.0.broken.notified()).await);
                    tracing::info!(servers = %self.0.settings.servers, "the connection to Redis is there again");
                    return;
                }
                Err(error) => tracing::debug!(%error, "Redis cannot be reached"),
            }
            pause_ms = (pause_ms * 2).min(*Self::PAUSES_MS.end());
        }
    }

    /// Tries the servers in their order.
    async fn connect(&self) -> Result<(), BackendError> {
        let mut problems = Vec::new();
        for (index, url) in self.0.settings.servers.reveal().iter().enumerate() {
            let attempt =
                async { self.connect_to(url).await.map_err(|error| (Trouble::of(&error), error.to_string())) };
            let result = tokio::time::timeout(self.0.settings.timeout * 2, attempt).await;
            match result.unwrap_or_else(|_| Err((Trouble::Timeout, "no answer in time".to_owned()))) {
                Ok(Some((connection, server))) => {
                    let serial = self.0.made.fetch_add(1, Ordering::Relaxed) + 1;
                    self.set_present(Some(Present { connection, serial, server: Arc::new(server) }));
                    return Ok(());
                }
                Ok(None) => problems.push((Trouble::ReadOnly, format!("server {}: it is a replica", index + 1))),
                Err((trouble, text)) => problems.push((trouble, format!("server {}: {text}", index + 1))),
            }
        }
        let trouble = problems.last().map_or(Trouble::Connection, |(trouble, _)| *trouble);
        let texts: Vec<String> = problems.into_iter().map(|(_, text)| text).collect();
        let servers = &self.0.settings.servers;
        Err(self.0.troubles.note(trouble, format_args!("{servers} cannot be used: {}", texts.join("; "))))
    }

    /// Connects to one server, or to the Redis Cluster that it is part of. `None`: it is a replica.
    async fn connect_to(&self, url: &str) -> RedisResult<Option<(Connection, ServerFacts)>> {
        let client = Client::open(with_settings(url)?)?;
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.0.settings.timeout))
            .set_response_timeout(None)
            .set_pipeline_buffer_size(Self::PIPELINE)
            .set_push_sender(self.push_sender());
        let mut connection = client.get_multiplexed_async_connection_with_config(&config).await?;
        let info: String = redis::cmd("INFO").query_async(&mut connection).await?;
        let facts = facts_of(&info);
        if facts.is_cluster {
            return self.connect_to_cluster().await.map(Some);
        }
        let is_replica = field(&info, "role") == Some("slave");
        Ok((!is_replica).then_some((Connection::Single(connection), facts)))
    }

    async fn connect_to_cluster(&self) -> RedisResult<(Connection, ServerFacts)> {
        let servers = self.0.settings.servers.reveal().iter().map(|url| with_settings(url));
        let client = ClusterClientBuilder::new(servers.collect::<RedisResult<Vec<_>>>()?)
            .use_protocol(ProtocolVersion::RESP3)
            .connection_timeout(self.0.settings.timeout)
            .response_timeout(self.0.settings.timeout)
            .tcp_settings(TcpSettings::default().set_nodelay(true))
            .push_sender(self.cluster_push_sender())
            .build()?;
        let mut connection = client.get_async_connection().await?;
        let facts = cluster_facts(&mut connection).await?;
        Ok((Connection::Cluster(connection), facts))
    }

    fn push_sender(&self) -> impl Fn(PushInfo) -> Result<(), ()> + Send + Sync + 'static {
        let (broken, on_push) = (Arc::downgrade(&self.0.broken), self.0.on_push.clone());
        move |info| {
            if info.kind == PushKind::Disconnection
                && let Some(broken) = broken.upgrade()
            {
                broken.notify_one();
            }
            if let Some(on_push) = &on_push {
                on_push(info);
            }
            Ok(())
        }
    }

    /// The client of a Redis Cluster connects to its servers anew by itself; that it did is told as any other push.
    fn cluster_push_sender(&self) -> impl Fn(PushInfo) -> Result<(), ()> + Send + Sync + 'static {
        let on_push = self.0.on_push.clone();
        move |info| {
            if let Some(on_push) = &on_push {
                on_push(info);
            }
            Ok(())
        }
    }

    fn set_present(&self, present: Option<Present>) {
        let state = present.as_ref().map_or(LinkState::Down, |present| LinkState::Up {
            serial: present.serial,
            server: Arc::clone(&present.server),
        });
        *self.0.present.write().unwrap_or_else(PoisonError::into_inner) = present;
        self.0.state.send_replace(state);
    }

    fn present(&self) -> Option<Present> {
        self.0.present.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether there is a connection, and whenever that changes.
    pub(crate) fn state(&self) -> watch::Receiver<LinkState> {
        self.0.state.subscribe()
    }

    /// Time that Redis may take to answer.
    pub(super) fn timeout(&self) -> Duration {
        self.0.settings.timeout
    }

    /// The number of the present connection.
    pub(super) fn serial(&self) -> Option<u64> {
        self.present().map(|present| present.serial)
    }

    /// Has the connection made anew: something about it is wrong.
    pub(crate) fn break_off(&self) {
        self.0.broken.notify_one();
    }

    /// How often each trouble was met, in the order of [`Trouble::ALL`].
    pub(crate) fn troubles(&self) -> [u64; Trouble::ALL.len()] {
        self.0.troubles.counts()
    }

    /// How often the connection was made anew.
    pub(crate) fn remade(&self) -> u64 {
        self.0.made.load(Ordering::Relaxed).saturating_sub(1)
    }

    /// How many requests have waited because `backend.redis.in_flight_max` others were in flight.
    pub(crate) fn queued(&self) -> u64 {
        self.0.queued.load(Ordering::Relaxed)
    }

    /// Counts a trouble that was found elsewhere, and makes an error of it.
    pub(super) fn trouble(&self, trouble: Trouble, about: impl std::fmt::Display) -> BackendError {
        self.0.troubles.note(trouble, about)
    }

    /// Runs a script.
    ///
    /// # Errors
    ///
    /// When there is no connection, too much waits already, Redis says no, or nothing in time: then it may have run.
    /// A key of a wrong type is repaired. A script of one key then runs again; one of several may have run in part,
    /// so it fails, and the next one works.
    pub(crate) fn run(
        &self,
        script: &'static Script,
        keys: &[&str],
        arguments: impl FnOnce(&mut Cmd),
    ) -> BoxFuture<'static, Result<Value, BackendError>> {
        self.run_over(None, script, keys, arguments)
    }

    /// The same over the connection of this number, and no other: it may lead to another server, or to one that has forgotten something.
    pub(super) fn run_over(
        &self,
        serial: Option<u64>,
        script: &'static Script,
        keys: &[&str],
        arguments: impl FnOnce(&mut Cmd),
    ) -> BoxFuture<'static, Result<Value, BackendError>> {
        let mut by_hash = redis::cmd("EVALSHA");
        by_hash.arg(script.hash()).arg(keys.len()).arg(keys);
        arguments(&mut by_hash);
        let (link, count) = (self.clone(), keys.len());
        Box::pin(async move {
            let failure = match link.run_once(serial, script, &by_hash).await {
                Ok(answer) => return Ok(answer),
                Err(failure) => failure,
            };
            let is_repaired = link.repair(serial, &failure, by_hash.args_iter().skip(3).take(count)).await;
            let error = link.note(failure);
            if !is_repaired || count > 1 {
                return Err(error);
            }
            link.run_once(serial, script, &by_hash).await.map_err(|failure| link.note(failure))
        })
    }

    async fn run_once(&self, serial: Option<u64>, script: &Script, by_hash: &Cmd) -> Result<Value, Failure> {
        match self.ask(serial, by_hash, script.priority()).await {
            Err(Failure::Redis(error)) if error.kind() == ServerErrorKind::NoScript.into() => {
                // It has forgotten the script, or never had it. With its text it keeps it.
                let mut by_text = redis::cmd("EVAL");
                by_text.arg(script.text());
                for argument in by_hash.args_iter().skip(2) {
                    if let redis::Arg::Simple(bytes) = argument {
                        by_text.arg(bytes);
                    }
                }
                self.ask(serial, &by_text, script.priority()).await
            }
            answer => answer,
        }
    }

    /// If a command failed because one of these keys has a wrong type, moves that key aside: the data that should be
    /// there are lost anyway, and without the key the next command works. Returns whether a key was moved.
    async fn repair(
        &self,
        serial: Option<u64>,
        failure: &Failure,
        keys: impl Iterator<Item = redis::Arg<&[u8]>>,
    ) -> bool {
        if !matches!(failure, Failure::Redis(error) if Trouble::of(error) == Trouble::WrongType) {
            return false;
        }
        let text = |key| match key {
            redis::Arg::Simple(bytes) => std::str::from_utf8(bytes).ok(),
            _ => None,
        };
        let names: Vec<&str> = keys.filter_map(text).collect();
        let mut repair = redis::cmd("EVALSHA");
        repair.arg(REPAIR.hash()).arg(2 * names.len()).arg(&names);
        for name in &names {
            repair.arg(keys::set_aside(name));
        }
        repair.arg(SET_ASIDE_MS);
        for name in &names {
            let (kind, is_root) = keys::type_of(name).map_or(("", false), |kind| (kind.name, kind.is_root));
            repair.arg(kind).arg(u8::from(is_root));
        }
        match self.run_once(serial, &REPAIR, &repair).await {
            Ok(moved) => {
                let moved = moved.list().unwrap_or_default();
                for key in moved.iter().filter_map(Answered::text) {
                    let moved_to = keys::set_aside(key);
                    tracing::error!(
                        key,
                        moved_to,
                        "moved aside a key of a wrong type, whose data are lost; find out which program writes below \
                         backend.redis.prefix"
                    );
                }
                if moved.is_empty() {
                    tracing::debug!(keys = ?names, "no key of a wrong type: another node may have repaired it");
                }
                !moved.is_empty()
            }
            Err(failure) => {
                let error = self.note(failure);
                tracing::error!(%error, keys = ?names, "a key has a wrong type and cannot be moved aside; delete it");
                false
            }
        }
    }

    /// Asks anything else.
    ///
    /// # Errors
    ///
    /// As [`Link::run`].
    pub(crate) async fn query(&self, command: Cmd) -> Result<Value, BackendError> {
        let failure = match self.ask(None, &command, Priority::Ordinary).await {
            Ok(answer) => return Ok(answer),
            Err(failure) => failure,
        };
        let is_repaired = self.repair(None, &failure, command.args_iter().skip(1).take(1)).await;
        let error = self.note(failure);
        if !is_repaired {
            return Err(error);
        }
        self.ask(None, &command, Priority::Ordinary).await.map_err(|failure| self.note(failure))
    }

    /// Sends a request that must not wait for those of clients, such as the beacon once a second.
    ///
    /// # Errors
    ///
    /// As [`Link::run`].
    pub(super) async fn query_urgent(&self, command: Cmd) -> Result<Value, BackendError> {
        self.ask(None, &command, Priority::Urgent).await.map_err(|failure| self.note(failure))
    }

    async fn ask(&self, over: Option<u64>, command: &Cmd, priority: Priority) -> Result<Value, Failure> {
        match tokio::time::timeout(self.0.settings.timeout, self.ask_in_turn(over, command, priority)).await {
            Ok(answer) => answer,
            Err(_) => Err(Failure::Timeout),
        }
    }

    async fn ask_in_turn(&self, over: Option<u64>, command: &Cmd, priority: Priority) -> Result<Value, Failure> {
        let _place = match priority {
            Priority::Urgent => None,
            Priority::Ordinary => Some(self.place().await?),
        };
        let Present { mut connection, serial, .. } = self.present().ok_or(Failure::Down)?;
        if over.is_some_and(|wanted| wanted != serial) {
            return Err(Failure::Down);
        }
        connection.ask(command).await.map_err(Failure::Redis)
    }

    /// Takes a place among the requests in flight, after those that wait for one already.
    async fn place(&self) -> Result<SemaphorePermit<'_>, Failure> {
        if let Ok(place) = self.0.in_flight.try_acquire() {
            return Ok(place);
        }
        let Ok(_queued) = self.0.queue.try_acquire() else { return Err(Failure::Overload) };
        self.0.queued.fetch_add(1, Ordering::Relaxed);
        // Never closed.
        self.0.in_flight.acquire().await.map_err(|_| Failure::Overload)
    }

    fn note(&self, failure: Failure) -> BackendError {
        let troubles = &self.0.troubles;
        match failure {
            Failure::Down => troubles.note(Trouble::Connection, "there is no connection"),
            Failure::Overload => troubles.note(
                Trouble::Overload,
                "backend.redis.in_flight_max requests are in flight, and backend.redis.queue_max wait",
            ),
            Failure::Timeout => troubles.note(Trouble::Timeout, "no answer in time"),
            Failure::Redis(error) => {
                let trouble = Trouble::of(&error);
                if trouble.wants_another_connection() && !self.is_cluster() {
                    self.break_off();
                }
                troubles.note(trouble, error)
            }
        }
    }

    fn is_cluster(&self) -> bool {
        self.present().is_some_and(|present| present.server.is_cluster)
    }

    /// Which servers there are now. A Redis Cluster changes while the connection stays.
    ///
    /// # Errors
    ///
    /// As [`Link::run`].
    pub(crate) async fn server(&self) -> Result<Arc<ServerFacts>, BackendError> {
        let Some(Present { connection, server, .. }) = self.present() else { return Err(self.note(Failure::Down)) };
        match connection {
            Connection::Single(_) => Ok(server),
            Connection::Cluster(mut connection) => {
                match tokio::time::timeout(self.0.settings.timeout, cluster_facts(&mut connection)).await {
                    Ok(Ok(facts)) => Ok(Arc::new(facts)),
                    Ok(Err(error)) => Err(self.note(Failure::Redis(error))),
                    Err(_) => Err(self.note(Failure::Timeout)),
                }
            }
        }
    }

    /// Begins or ceases to listen to channels. It is done when this is ready; `sharded`: only where the channel's key is.
    ///
    /// # Errors
    ///
    /// As [`Link::run`].
    pub(super) async fn listen(&self, channels: &[String], begins: bool, sharded: bool) -> Result<(), BackendError> {
        let Some(Present { connection, .. }) = self.present() else { return Err(self.note(Failure::Down)) };
        let listening = async {
            match connection {
                Connection::Single(mut connection) if begins => connection.subscribe(channels).await,
                Connection::Single(mut connection) => connection.unsubscribe(channels).await,
                Connection::Cluster(mut connection) => {
                    for channel in channels {
                        match (begins, sharded) {
                            (true, true) => connection.ssubscribe(channel).await?,
                            (true, false) => connection.subscribe(channel).await?,
                            (false, true) => connection.sunsubscribe(channel).await?,
                            (false, false) => connection.unsubscribe(channel).await?,
                        }
                    }
                    Ok(())
                }
            }
        };
        match tokio::time::timeout(self.0.settings.timeout, listening).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(self.note(Failure::Redis(error))),
            Err(_) => Err(self.note(Failure::Timeout)),
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // The task sees that there is nothing to keep any more.
        self.broken.notify_one();
    }
}

/// Why something was not answered.
enum Failure {
    Down,
    Overload,
    Timeout,
    Redis(redis::RedisError),
}

fn with_settings(url: &str) -> RedisResult<ConnectionInfo> {
    let info = url.into_connection_info()?;
    let settings = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
    Ok(info.set_redis_settings(settings).set_tcp_settings(TcpSettings::default().set_nodelay(true)))
}

/// A field of what `INFO` says.
fn field<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}

fn facts_of(info: &str) -> ServerFacts {
    let mut numbers = field(info, "redis_version").unwrap_or_default().split('.').map(|part| part.parse().unwrap_or(0));
    ServerFacts {
        version: (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)),
        is_cluster: field(info, "cluster_enabled") == Some("1"),
        runs: field(info, "run_id").map(str::to_owned).into_iter().collect(),
    }
}

async fn cluster_facts(connection: &mut ClusterConnection) -> RedisResult<ServerFacts> {
    let routing = RoutingInfo::MultiNode((MultipleNodeRoutingInfo::AllMasters, Some(ResponsePolicy::Special)));
    let answers = connection.route_command(redis::cmd("INFO"), routing).await?;
    let mut all = ServerFacts { version: (u32::MAX, 0), is_cluster: true, runs: BTreeSet::new() };
    let Value::Map(answers) = answers else { return Ok(all) };
    for (_, answer) in answers {
        let facts = facts_of(&redis::from_redis_value::<String>(answer)?);
        all.version = all.version.min(facts.version);
        all.runs.extend(facts.runs);
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Server, runtime};
    use super::*;
    use crate::op::all;
    use std::future::poll_fn;
    use std::task::Poll;

    /// A link to a server that does not answer, over which one request may be in flight and two may wait.
    fn stopped(timeout: Duration) -> (Server, Link) {
        let server = Server::start(&[]);
        let servers = RedisServers::parse(&server.url()).unwrap();
        let settings = LinkSettings { servers, timeout, in_flight_max: 1, queue_max: 2 };
        let link = runtime().block_on(Link::open(settings, None)).unwrap();
        server.signal("STOP");
        (server, link)
    }

    fn requests(link: &Link) -> Vec<BoxFuture<'_, Result<Value, BackendError>>> {
        (0..4).map(|_| Box::pin(link.query(redis::cmd("PING"))) as BoxFuture<'_, _>).collect()
    }

    #[test]
    fn a_burst_of_requests_waits_and_a_heartbeat_does_not_wait_with_it() {
        let (server, link) = stopped(Duration::from_secs(60));
        let mut answers = runtime().block_on(async {
            let mut requests = requests(&link);
            let refused = requests.split_off(3);
            let resumed: BoxFuture<'_, _> = Box::pin(async {
                // The others wait by now, and the server takes nothing until this is seen.
                let refused = all(refused).await.remove(0);
                let mut urgent = Box::pin(link.query_urgent(redis::cmd("PING")));
                let is_sent = poll_fn(|cx| Poll::Ready(urgent.as_mut().poll(cx).is_pending())).await;
                assert!(is_sent && refused.unwrap_err().0.contains("overload"));
                server.signal("CONT");
                urgent.await
            });
            requests.push(resumed);
            all(requests).await
        });
        assert!(answers.pop().unwrap().is_ok(), "the heartbeat");
        assert!(answers.iter().all(Result::is_ok), "{answers:?}");
        assert_eq!((answers.len(), link.queued()), (3, 2));
    }

    #[test]
    fn a_request_that_waits_fails_after_the_ordinary_time() {
        let (server, link) = stopped(Duration::from_millis(200));
        let answers = runtime().block_on(all(requests(&link)));
        server.signal("CONT");
        let problem = |answer: &Result<Value, BackendError>| answer.as_ref().unwrap_err().0.clone();
        assert!(answers[..3].iter().all(|answer| problem(answer).contains("timeout")), "{answers:?}");
        assert!(problem(&answers[3]).contains("overload"), "{answers:?}");
    }

    #[test]
    fn a_server_is_known_by_what_it_says() {
        let info = "# Server\r\nredis_version:7.0.15\r\nrun_id:abc\r\n# Cluster\r\ncluster_enabled:0\r\n";
        let facts = facts_of(info);
        assert_eq!((facts.version, facts.is_cluster, facts.runs.len()), ((7, 0), false, 1));
        assert!(facts.shards_channels());
        let old = facts_of("redis_version:6.2.1\r\ncluster_enabled:1\r\n");
        assert_eq!((old.version, old.is_cluster, old.shards_channels()), ((6, 2), true, false));
        assert_eq!(facts_of("nonsense"), ServerFacts::default());
    }
}
