//! Everything put together: the nodes' view of each other, and what they say.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use switchboard_proto::id::ConnId;
use tokio::sync::{mpsc, oneshot, watch};

use crate::backend::BackendError;
use crate::backend::cluster::{Cluster, ClusterEvent, ClusterFigures, NodeEntry, Report, To};
use crate::backend::sessions::shards::ShardLimits;
use crate::config::Config;
use crate::hub::ids::Ids;
use crate::op::{BoxFuture, Op, all};

use super::directory::RedisDirectory;
use super::ears::{EarSettings, Ears, Listener};
use super::keys::Keys;
use super::link::{Link, LinkSettings};
use super::nodes::{Membership, NodeSettings, Nodes};
use super::sessions::{Notify, RedisSessions};
use super::store::Store;
use super::trouble::Trouble;

/// Events that may wait for the node.
const EVENTS: usize = 1024;

/// Messages for other nodes that may wait to be sent; one more is refused.
const OUTGOING: usize = 4096;

/// Of these, how many go out together.
const BATCH: usize = 128;

/// Pause after which the channels of this node are asked for once more.
const LISTEN_AGAIN: Duration = Duration::from_millis(500);

/// What begins a message of a node: who says it follows in two bytes.
const MESSAGE: u8 = b'm';
/// What begins the news that the log of a gateway session has grown: id in 32 hexadecimal digits, number and bytes as text, with
/// spaces in between.
const GROWN: u8 = b'g';

/// What a node says that has just come: whoever hears it looks around, and does not find out at its next sign of life only.
const COME: u8 = b'c';

/// Takes what rooms say.
pub(crate) trait RoomListener: Send + Sync {
    /// Something was published on the channel of a room. The next is handed on when this is ready.
    fn said(&self, room: &str, payload: Vec<u8>) -> BoxFuture<'_, ()>;

    /// All rooms are heard again, after some time in which perhaps they were not.
    fn hears_again(&self) -> BoxFuture<'_, ()>;
}

/// The connection to Redis, before anything is built on it.
#[derive(Debug)]
pub(crate) struct Redis {
    pub(super) store: Store,
    pub(super) ears: Ears,
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
        };
        let publishes_in_store = redis.pubsub_url.is_empty() || redis.pubsub_url == redis.url;
        let store = Store::new(Link::open(link(&redis.url), None).await?, Keys::new(&redis.prefix));
        let ears = Ears::open(
            link(if publishes_in_store { &redis.url } else { &redis.pubsub_url }),
            EarSettings {
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
        Ok(Self { store, ears, nodes, max_message_bytes, publishes_in_store, events, received })
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
        RedisSessions::new(self.store.clone(), max_user_rooms, limits, applications, notify)
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
        let Self { store, ears, nodes, max_message_bytes, events, received, .. } = self;
        let speaker = Speaker { store: store.clone(), nodes: nodes.clone(), events: events.clone(), rooms };
        ears.begin(Arc::new(speaker));
        let (outgoing, to_send) = mpsc::channel(OUTGOING);
        tokio::spawn(send_out(ears.clone(), to_send, max_message_bytes));
        let cluster =
            Arc::new(RedisCluster { store, outgoing, ears, nodes, max_message_bytes, is_up: AtomicBool::new(true) });
        cluster.listen_as(cluster.slot()).await?;
        let mut hears = cluster.ears.is_up();
        let heard = tokio::time::timeout(cluster.ears.link().timeout() * 2, hears.wait_for(|hears| *hears)).await;
        heard
            .map_err(|_| {
                BackendError(
                "what is published in Redis does not come back: may this user publish and subscribe (channels with \
                 backend.redis.prefix), and is backend.redis.pubsub_url the server that is meant?"
                    .to_owned(),
            )
            })
            .map(drop)?;
        cluster.say_that_it_has_come().await;
        tokio::spawn(keep_up(Arc::downgrade(&cluster), events));
        Ok((cluster, received))
    }
}

/// Sorts what is heard.
struct Speaker {
    store: Store,
    nodes: Nodes,
    events: mpsc::Sender<ClusterEvent>,
    rooms: Arc<dyn RoomListener>,
}

impl Listener for Speaker {
    fn heard(&self, channel: &str, payload: Vec<u8>) -> BoxFuture<'_, ()> {
        if let Some(room) = self.store.keys.room_of_channel(channel) {
            return self.rooms.said(&room, payload);
        }
        let event = match payload.split_first() {
            Some((&MESSAGE, [high, low, ..])) => {
                let from = u16::from_be_bytes([*high, *low]);
                // What is for all others, its sender hears too.
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
            self.store.link.trouble(Trouble::Reply, format_args!("{channel} says what nobody understands"));
            return Box::pin(std::future::ready(()));
        };
        Box::pin(async move {
            // Without a node nobody is interested any more.
            let _ = self.events.send(event).await;
        })
    }

    fn hears_again(&self) -> BoxFuture<'_, ()> {
        self.rooms.hears_again()
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
async fn send_out(ears: Ears, mut outgoing: mpsc::Receiver<Outgoing>, max_message_bytes: usize) {
    let mut batch = Vec::with_capacity(BATCH);
    while outgoing.recv_many(&mut batch, BATCH).await > 0 {
        let written = batch.drain(..).filter_map(|outgoing: Outgoing| outgoing.write(max_message_bytes));
        let sending = written.map(|(channel, payload, told)| {
            let ears = &ears;
            async move {
                // Whoever said it may not wait for it.
                drop(told.send(ears.publish(&channel, &payload).await));
            }
        });
        all(sending).await;
    }
}

struct RedisCluster {
    store: Store,
    outgoing: mpsc::Sender<Outgoing>,
    ears: Ears,
    nodes: Nodes,
    max_message_bytes: usize,
    is_up: AtomicBool,
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
        self.ears.listen(&keys.all_channel()).await?;
        self.ears.listen(&keys.node_channel(slot)).await
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

    async fn say_that_it_has_come(&self) {
        if let Err(error) = self.ears.publish(&self.store.keys.all_channel(), &[COME]).await {
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

    fn is_up(&self) -> bool {
        self.is_up.load(Ordering::Relaxed) && self.store.standing.is_valid()
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
        let (store, ears) = (&self.store.link, self.ears.link());
        let counts = store.troubles().into_iter().zip(ears.troubles()).map(|(store, ears)| store + ears);
        ClusterFigures {
            errors: Trouble::ALL.iter().map(|trouble| trouble.as_str()).zip(counts).collect(),
            reconnects: store.remade() + ears.remade(),
            relistens: self.ears.remade(),
        }
    }

    fn buried(&self, node: &NodeEntry) -> Op<Result<(), BackendError>> {
        let (nodes, slot) = (self.nodes.clone(), node.slot);
        Op::Wait(Box::pin(async move { nodes.buried(slot).await }))
    }

    fn rejoin(&self) {
        self.nodes.rejoin();
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

/// Tells the node whenever its cluster is there or not.
async fn keep_up(cluster: std::sync::Weak<RedisCluster>, events: mpsc::Sender<ClusterEvent>) {
    let Some((mut membership, mut hears)) =
        cluster.upgrade().map(|cluster| (cluster.nodes.membership(), cluster.ears.is_up()))
    else {
        return;
    };
    let mut generation = cluster.upgrade().map_or(0, |cluster| cluster.store.standing.generation());
    let mut slot = cluster.upgrade().map_or(0, |cluster| cluster.slot());
    let mut was_up = true;
    loop {
        let stands = *membership.borrow_and_update();
        let is_heard = *hears.borrow_and_update();
        {
            let Some(cluster) = cluster.upgrade() else { return };
            if let Membership::Member { generation: now } = stands
                && is_heard
            {
                let is_another = cluster.slot() != slot;
                if is_another {
                    cluster.ears.cease(&cluster.store.keys.node_channel(slot));
                    slot = cluster.slot();
                }
                let is_listening = cluster.listen_as(slot).await.is_ok();
                if is_another {
                    cluster.say_that_it_has_come().await;
                }
                if is_listening && (!was_up || now != generation) {
                    let is_new = std::mem::replace(&mut generation, now) != now;
                    cluster.is_up.store(true, Ordering::Relaxed);
                    was_up = true;
                    if events.send(ClusterEvent::Up { is_new }).await.is_err() {
                        return;
                    }
                }
                if !is_listening {
                    // Nothing else may change before it is heard after all.
                    drop(cluster);
                    tokio::time::sleep(LISTEN_AGAIN).await;
                    continue;
                }
            } else if was_up {
                was_up = false;
                cluster.is_up.store(false, Ordering::Relaxed);
                tracing::warn!(member = ?stands, is_heard, "this node is cut off from its cluster");
                if events.send(ClusterEvent::Down).await.is_err() {
                    return;
                }
            }
        }
        if either(&mut membership, &mut hears).await.is_err() {
            return;
        }
    }
}

async fn either<A, B>(
    one: &mut watch::Receiver<A>,
    other: &mut watch::Receiver<B>,
) -> Result<(), watch::error::RecvError> {
    tokio::select! {
        changed = one.changed() => changed,
        changed = other.changed() => changed,
    }
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
