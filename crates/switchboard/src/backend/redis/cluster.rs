//! Everything put together: the nodes' view of each other, and what they say.

use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use switchboard_proto::id::ConnId;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use crate::backend::BackendError;
use crate::backend::cluster::{Cluster, ClusterEvent, ClusterFigures, ClusterState, NodeEntry, Report, To};
use crate::backend::lease::service::{Service, ServiceStep};
use crate::backend::sessions::shards::ShardLimits;
use crate::config::Config;
use crate::hub::ids::Ids;
use crate::op::{BoxFuture, Op, all};

use super::directory::RedisDirectory;
use super::keys::Keys;
use super::link::{Link, LinkSettings};
use super::nodes::{Membership, NodeSettings, Nodes};
use super::sessions::{Clock, Notify, RedisSessions};
use super::store::Store;
use super::subscriber::{Listener, Subscriber, SubscriberSettings};
use super::trouble::Trouble;

/// How many times `backend.redis.timeout` the first beacon may take. A host that is busy while the server starts is no
/// reason to give up; a missing permission is, and the error says so.
const START_TIMEOUTS: u32 = 5;

/// Events that may wait for the node.
const EVENTS: usize = 1024;

/// Messages for other nodes that may wait to be sent; one more is refused.
const OUTGOING: usize = 4096;

/// Of these, how many go out together.
const BATCH: usize = 128;

/// What begins a message of a node: who says it follows in two bytes.
const MESSAGE: u8 = b'm';
/// What begins the news that the log of a gateway session has grown: id in 32 hexadecimal digits, number and bytes as text, with
/// spaces in between.
const GROWN: u8 = b'g';

/// What a node says that has just come: whoever hears it looks around, and does not find out at its next sign of life only.
const COME: u8 = b'c';

/// Takes messages of rooms.
pub(crate) trait RoomListener: Send + Sync {
    /// Hands on a message that was published in a room. The next one of the room is handed on after the future is ready.
    fn said(&self, room: &str, payload: Vec<u8>) -> BoxFuture<'static, ()>;

    /// Returns whether a message of this room would have to wait for a worker.
    fn must_wait(&self, room: &str) -> bool;

    /// Waits until the workers of a room have space.
    fn space(&self, room: &str) -> BoxFuture<'static, ()>;

    /// Compares a room with its log: messages of it were dropped.
    fn compare(&self, room: &str) -> BoxFuture<'static, ()>;

    /// The channels of all rooms are confirmed again; messages that were published before may be lost.
    fn on_resubscribed(&self);
}

/// The connection to Redis, before anything is built on it.
#[derive(Debug)]
pub(crate) struct Redis {
    pub(super) store: Store,
    pub(super) subscriber: Subscriber,
    pub(super) nodes: Nodes,
    max_message_bytes: usize,
    /// What is published is published by the store itself, in the step in which it is kept.
    pub(super) publishes_in_store: bool,
    events: mpsc::Sender<ClusterEvent>,
    received: mpsc::Receiver<ClusterEvent>,
}

impl Redis {
    /// Connects, and takes part in the cluster.
    ///
    /// # Errors
    ///
    /// When Redis cannot be used, with the reason.
    pub(crate) async fn open(config: &Config, ids: Ids, started_ms: u64) -> Result<Self, BackendError> {
        let redis = &config.backend.redis;
        let link = |servers: &crate::config::RedisServers| LinkSettings {
            servers: servers.clone(),
            timeout: redis.timeout,
            in_flight_max: redis.in_flight_max,
            queue_max: redis.queue_max,
        };
        let publishes_in_store = redis.pubsub_url.is_empty() || redis.pubsub_url == redis.url;
        let store = Store::new(Link::open(link(&redis.url), None).await?, Keys::new(&redis.prefix));
        let subscriber = Subscriber::open(
            link(if publishes_in_store { &redis.url } else { &redis.pubsub_url }),
            SubscriberSettings {
                beacon_timeout: redis.beacon_timeout,
                inbox_bytes: redis.inbox_bytes,
                audit_interval: redis.audit_interval,
            },
            Arc::clone(&store.keys),
            Arc::clone(&store.standing),
        )
        .await?;
        let (events, received) = mpsc::channel(EVENTS);
        let settings = NodeSettings {
            name: config.node.name.clone(),
            cluster: redis.cluster.clone(),
            lease: redis.lease,
            started_ms,
        };
        let nodes = Nodes::join(store.clone(), settings, ids, events.clone()).await?;
        let max_message_bytes = redis.max_message_bytes;
        Ok(Self { store, subscriber, nodes, max_message_bytes, publishes_in_store, events, received })
    }

    /// The session store. Of one user, and of one session of a shard, at most `max_user_rooms` rooms are kept; sessions are those of these
    /// applications.
    pub(crate) fn sessions(
        &self,
        max_user_rooms: usize,
        limits: ShardLimits,
        applications: Vec<Arc<str>>,
    ) -> RedisSessions {
        let notify =
            Notify { in_script: self.publishes_in_store, channel_prefix: self.store.keys.node_channel_prefix() };
        RedisSessions::new(self.store.clone(), max_user_rooms, limits, applications, notify, Clock::STORE)
    }

    /// The directory that the nodes share.
    pub(crate) fn directory(&self) -> RedisDirectory {
        RedisDirectory::new(self.store.clone(), self.nodes.clone())
    }

    /// Begins to hear: what rooms say goes to `rooms`, the rest to the node.
    ///
    /// # Errors
    ///
    /// When the channels of this node are not heard in time.
    pub(crate) async fn begin(
        self,
        rooms: Arc<dyn RoomListener>,
    ) -> Result<(Arc<dyn Cluster>, mpsc::Receiver<ClusterEvent>), BackendError> {
        let Self { store, subscriber, nodes, max_message_bytes, events, received, .. } = self;
        let speaker: Arc<dyn Listener> =
            Arc::new(Speaker { store: store.clone(), nodes: nodes.clone(), events: events.clone(), rooms });
        subscriber.begin(&speaker);
        let (outgoing, to_send) = mpsc::channel(OUTGOING);
        tokio::spawn(send_out(subscriber.clone(), to_send, max_message_bytes));
        let (slot, generation) = (store.standing.slot(), store.standing.generation());
        let service = Service::new(slot, generation);
        let state = watch::Sender::new(service.state());
        let cluster = Arc::new(RedisCluster { store, outgoing, subscriber, nodes, max_message_bytes, state });
        cluster.listen_as(slot).await?;
        let mut hears = cluster.subscriber.is_up();
        let within = cluster.subscriber.link().timeout() * START_TIMEOUTS;
        let heard = tokio::time::timeout(within, hears.wait_for(|hears| *hears)).await;
        heard
            .map_err(|_| {
                BackendError(
                "a message that this node published to itself did not arrive: check that its Redis user may publish and \
                 subscribe to channels that begin with backend.redis.prefix, and that backend.redis.pubsub_url is right"
                    .to_owned(),
            )
            })
            .map(drop)?;
        cluster.say_that_it_has_come().await;
        let membership = cluster.nodes.membership();
        tokio::spawn(watch_membership(Arc::downgrade(&cluster), service, membership, hears));
        Ok((cluster, received))
    }
}

/// Hands published messages to the broker and to the node.
struct Speaker {
    store: Store,
    nodes: Nodes,
    events: mpsc::Sender<ClusterEvent>,
    rooms: Arc<dyn RoomListener>,
}

impl Speaker {
    /// The future that the room of this channel gives. Ready if it is the channel of no room.
    fn of_room(&self, channel: &str, future: impl FnOnce(&str) -> BoxFuture<'static, ()>) -> BoxFuture<'static, ()> {
        match self.store.keys.room_of_channel(channel) {
            Some(room) => future(&room),
            None => Box::pin(std::future::ready(())),
        }
    }
}

impl Listener for Speaker {
    fn room_message(&self, channel: &str, payload: Vec<u8>) -> BoxFuture<'static, ()> {
        self.of_room(channel, |room| self.rooms.said(room, payload))
    }

    fn must_wait(&self, channel: &str) -> bool {
        self.store.keys.room_of_channel(channel).is_some_and(|room| self.rooms.must_wait(&room))
    }

    fn space(&self, channel: &str) -> BoxFuture<'static, ()> {
        self.of_room(channel, |room| self.rooms.space(room))
    }

    fn compare(&self, channel: &str) -> BoxFuture<'static, ()> {
        self.of_room(channel, |room| self.rooms.compare(room))
    }

    fn node_message(&self, channel: &str, payload: Vec<u8>) -> BoxFuture<'_, ()> {
        let event = match payload.split_first() {
            Some((&MESSAGE, [high, low, ..])) => {
                let from = u16::from_be_bytes([*high, *low]);
                // A message for all other nodes reaches its sender too.
                if from == self.store.standing.slot() {
                    return Box::pin(std::future::ready(()));
                }
                Some(ClusterEvent::Message { from, bytes: Bytes::from(payload).slice(3..) })
            }
            Some((&GROWN, rest)) => grown(rest),
            Some((&COME, _)) => {
                self.nodes.look();
                return Box::pin(std::future::ready(()));
            }
            _ => None,
        };
        let Some(event) = event else {
            self.store.link.trouble(Trouble::Reply, format_args!("malformed message on channel {channel}"));
            return Box::pin(std::future::ready(()));
        };
        Box::pin(async move {
            // Fails if the node has ended, and then no one needs the event.
            let _ = self.events.send(event).await;
        })
    }

    fn on_resubscribed(&self) {
        self.rooms.on_resubscribed();
    }
}

fn grown(text: &[u8]) -> Option<ClusterEvent> {
    let mut words = std::str::from_utf8(text).ok()?.split(' ');
    let bits = u128::from_str_radix(words.next().filter(|id| id.len() == 32)?, 16).ok()?;
    let session = ConnId::from_bytes(bits.to_be_bytes());
    let (last, bytes) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    Some(ClusterEvent::Grown { session, last, bytes })
}

/// Something for other nodes.
struct Outgoing {
    channel: String,
    from: u16,
    message: Message,
    told: Told,
}

/// Where the result of sending is reported.
type Told = oneshot::Sender<Result<(), BackendError>>;

enum Message {
    Written(Bytes),
    ToWrite(Box<dyn FnOnce() -> Option<Bytes> + Send>),
}

impl Outgoing {
    /// The channel and the bytes to publish, and where to report the result; `None` if there is nothing to send.
    fn write(self, max_message_bytes: usize) -> Option<(String, Vec<u8>, Told)> {
        let bytes = match self.message {
            Message::Written(bytes) => bytes,
            Message::ToWrite(write) => write()?,
        };
        if bytes.len() > max_message_bytes {
            tracing::error!(bytes = bytes.len(), max_message_bytes, "dropped a message for other nodes: too long");
            return None;
        }
        let mut payload = Vec::with_capacity(bytes.len() + 3);
        payload.push(MESSAGE);
        payload.extend(self.from.to_be_bytes());
        payload.extend(&*bytes);
        Some((self.channel, payload, self.told))
    }
}

/// Sends what is for other nodes in the order in which it was said. What waits goes out together.
async fn send_out(subscriber: Subscriber, mut outgoing: mpsc::Receiver<Outgoing>, max_message_bytes: usize) {
    let mut batch = Vec::with_capacity(BATCH);
    while outgoing.recv_many(&mut batch, BATCH).await > 0 {
        let written = batch.drain(..).filter_map(|outgoing: Outgoing| outgoing.write(max_message_bytes));
        let sending = written.map(|(channel, payload, told)| {
            let subscriber = &subscriber;
            async move {
                // Whoever said it may not wait for it.
                drop(told.send(subscriber.publish(&channel, &payload).await));
            }
        });
        all(sending).await;
    }
}

struct RedisCluster {
    store: Store,
    outgoing: mpsc::Sender<Outgoing>,
    subscriber: Subscriber,
    nodes: Nodes,
    max_message_bytes: usize,
    state: watch::Sender<ClusterState>,
}

impl fmt::Debug for RedisCluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisCluster").field("store", &self.store).finish_non_exhaustive()
    }
}

impl RedisCluster {
    /// Listens to what is said to the node of this number, and to all.
    async fn listen_as(&self, slot: u16) -> Result<(), BackendError> {
        let keys = &self.store.keys;
        self.subscriber.listen(&keys.all_channel()).await?;
        self.subscriber.listen(&keys.node_channel(slot)).await
    }
}

impl RedisCluster {
    /// Queues a message; `None` if the queue is full.
    fn queue(&self, to: To, message: Message) -> Option<oneshot::Receiver<Result<(), BackendError>>> {
        let keys = &self.store.keys;
        let channel = match to {
            To::Node(slot) => keys.node_channel(slot),
            To::Others => keys.all_channel(),
        };
        let (told, sent) = oneshot::channel();
        let outgoing = Outgoing { channel, from: self.slot(), message, told };
        self.outgoing.try_send(outgoing).ok().map(|()| sent)
    }

    fn set_state(&self, state: ClusterState) {
        self.state.send_if_modified(|before| std::mem::replace(before, state) != state);
    }

    async fn say_that_it_has_come(&self) {
        if let Err(error) = self.subscriber.publish(&self.store.keys.all_channel(), &[COME]).await {
            tracing::debug!(%error, "the other nodes find out later that this one has come");
        }
    }
}

impl Cluster for RedisCluster {
    fn slot(&self) -> u16 {
        self.store.standing.slot()
    }

    fn nodes(&self) -> Vec<NodeEntry> {
        self.nodes.all()
    }

    fn incarnation(&self) -> u64 {
        self.store.standing.incarnation()
    }

    fn state(&self) -> watch::Receiver<ClusterState> {
        self.state.subscribe()
    }

    fn is_up(&self) -> bool {
        matches!(*self.state.borrow(), ClusterState::Up { .. }) && self.store.standing.is_valid()
    }

    fn send(&self, to: To, bytes: Bytes) -> Op<Result<(), BackendError>> {
        if bytes.len() > self.max_message_bytes {
            let about = format_args!("a message of {} bytes for other nodes is too long", bytes.len());
            return Op::Ready(Err(self.store.link.trouble(Trouble::Refusal, about)));
        }
        match self.queue(to, Message::Written(bytes)) {
            Some(sent) => Op::Wait(Box::pin(async move {
                sent.await.unwrap_or_else(|_| Err(BackendError("the cluster has ended".to_owned())))
            })),
            None => {
                let about = "too much for other nodes waits to be sent";
                Op::Ready(Err(self.store.link.trouble(Trouble::Overload, about)))
            }
        }
    }

    fn send_later(&self, to: To, write: Box<dyn FnOnce() -> Option<Bytes> + Send>) {
        if self.queue(to, Message::ToWrite(write)).is_none() {
            // Counts it.
            drop(self.store.link.trouble(Trouble::Overload, "too much for other nodes waits to be sent"));
        }
    }

    fn report(&self, report: Report) {
        self.nodes.report(report);
    }

    fn figures(&self) -> ClusterFigures {
        let (store, subscriber) = (&self.store.link, self.subscriber.link());
        let counts =
            store.troubles().into_iter().zip(subscriber.troubles()).map(|(store, subscriber)| store + subscriber);
        ClusterFigures {
            errors: Trouble::ALL.iter().map(|trouble| trouble.as_str()).zip(counts).collect(),
            reconnects: store.remade() + subscriber.remade(),
            queued: store.queued() + subscriber.queued(),
            relistens: self.subscriber.resubscribed(),
        }
    }

    fn buried(&self, node: &NodeEntry) -> Op<Result<(), BackendError>> {
        let (nodes, slot) = (self.nodes.clone(), node.slot);
        Op::Wait(Box::pin(async move { nodes.buried(slot).await }))
    }

    fn rejoin(&self, incarnation: u64) {
        self.nodes.rejoin(incarnation);
    }

    fn leave(&self) -> Op<()> {
        let nodes = self.nodes.clone();
        Op::Wait(Box::pin(async move {
            if let Err(error) = nodes.leave().await {
                tracing::warn!(%error, "the other nodes were not told that this one stops");
            }
        }))
    }
}

/// Derives the state of this node from its membership and from what it hears, until the cluster is dropped.
async fn watch_membership(
    cluster: Weak<RedisCluster>,
    mut service: Service,
    mut membership: watch::Receiver<Membership>,
    mut hears: watch::Receiver<bool>,
) {
    let began = Instant::now();
    let mut announced = service.slot();
    // The slot whose channel is requested: an attempt may be dropped before it is confirmed.
    let mut wanted = service.slot();
    if !*hears.borrow_and_update() {
        service.note_hearing(false);
    }
    loop {
        service.note_membership(*membership.borrow_and_update());
        let Some(present) = cluster.upgrade() else { return };
        present.set_state(service.state());
        let step = service.next(elapsed_ms(began));
        if let ServiceStep::Listen(slot) = step
            && slot != wanted
        {
            present.subscriber.unsubscribe(&present.store.keys.node_channel(wanted));
            wanted = slot;
        }
        drop(present);
        let listened = async {
            match step {
                ServiceStep::WaitUntil(None) => std::future::pending().await,
                ServiceStep::WaitUntil(Some(until_ms)) => {
                    tokio::time::sleep(Duration::from_millis(until_ms.saturating_sub(elapsed_ms(began)))).await;
                    None
                }
                ServiceStep::Listen(slot) => Some((slot, cluster.upgrade()?.listen_as(slot).await.is_ok())),
            }
        };
        // A membership that is lost while Redis does not confirm the channels must be noticed at once.
        tokio::select! {
            changed = membership.changed() => if changed.is_err() { return },
            changed = hears.changed() => {
                if changed.is_err() {
                    return;
                }
                service.note_hearing(*hears.borrow_and_update());
            }
            listened = listened => if let Some((slot, is_confirmed)) = listened {
                service.listened(elapsed_ms(began), slot, is_confirmed);
                if is_confirmed && std::mem::replace(&mut announced, slot) != slot {
                    tokio::spawn(announce(cluster.clone()));
                }
            },
        }
    }
}

async fn announce(cluster: Weak<RedisCluster>) {
    if let Some(cluster) = cluster.upgrade() {
        cluster.say_that_it_has_come().await;
    }
}

fn elapsed_ms(began: Instant) -> u64 {
    u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fault_row_13_news_that_nobody_wrote_are_none() {
        let id = ConnId::session_from_random(7);
        let hex: String = id.to_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        let Some(ClusterEvent::Grown { session, last, bytes }) = grown(format!("{hex} 12 34").as_bytes()) else {
            panic!("it is news");
        };
        assert_eq!((session, last, bytes), (id, 12, 34));
        for bad in [&b""[..], b"7 1 1", b"\xff", &format!("{hex} 12").into_bytes(), &format!("{hex} x 1").into_bytes()]
        {
            assert!(grown(bad).is_none(), "{bad:?}");
        }
    }
}
