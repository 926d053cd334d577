//! The connection to pub/sub: which channels it has, and where the published messages go.
//!
//! A request for a channel proves nothing: a connection may be replaced without its channels, or deliver nothing.
//! So each channel is confirmed again on every connection; once a second the node publishes a message for itself,
//! the *beacon*, which must come back; and from time to time Redis is asked how many channels it knows of this
//! connection.
//!
//! Messages are sorted where they arrive ([`lanes`]). The beacon is noted at once. Messages of nodes have a queue
//! and a task of their own. Messages of rooms are handed on by one task that never waits: a room whose worker is
//! full gets a lane and a task.

mod channels;
mod lanes;
#[cfg(test)]
mod simulation;

use std::fmt;
use std::future::poll_fn;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::Poll;
use std::time::Duration;

use redis::{PushInfo, PushKind, Value};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, MissedTickBehavior};

use crate::backend::BackendError;
use crate::op::BoxFuture;

use super::keys::Keys;
use super::link::{Link, LinkSettings, LinkState};
use super::store::{Answered, Standing};
use super::trouble::Trouble;
use channels::{BeaconWatch, Channels, Requests, Subscription};
use lanes::{Next, Published, Resume, Sorter};

/// Takes published messages.
pub(super) trait Listener: Send + Sync {
    /// Hands on a message of a room. The next one of this channel is handed on after the future is ready.
    fn room_message(&self, channel: &str, payload: Vec<u8>) -> BoxFuture<'static, ()>;

    /// Returns whether a message of this room would have to wait for a worker.
    fn must_wait(&self, channel: &str) -> bool;

    /// Waits until the workers of a room have space.
    fn space(&self, channel: &str) -> BoxFuture<'static, ()>;

    /// Compares a room with its log: messages of it were dropped.
    fn compare(&self, channel: &str) -> BoxFuture<'static, ()>;

    /// Hands on a message of a node. The next one is handed on after the future is ready.
    fn node_message(&self, channel: &str, payload: Vec<u8>) -> BoxFuture<'_, ()>;

    /// All channels are confirmed again; messages that were published before may be lost.
    fn on_resubscribed(&self);
}

/// Settings of a [`Subscriber`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct SubscriberSettings {
    /// `backend.redis.beacon_timeout`.
    pub(crate) beacon_timeout: Duration,
    /// `backend.redis.inbox_bytes`.
    pub(crate) inbox_bytes: usize,
    /// `backend.redis.audit_interval`.
    pub(crate) audit_interval: Duration,
}

/// The connection to pub/sub. Cloning shares it.
#[derive(Clone)]
pub(super) struct Subscriber(Arc<Inner>);

struct Inner {
    link: Link,
    settings: SubscriberSettings,
    shared: Arc<Shared>,
    /// How often all channels were requested again, because the beacon did not come back or messages may be lost.
    resubscribed: AtomicU64,
}

/// Everything that the connection itself reaches.
struct Shared {
    keys: Arc<Keys>,
    standing: Arc<Standing>,
    lanes: Mutex<Sorter>,
    /// A message of a room has arrived.
    room_arrived: Notify,
    /// A message of a node has arrived.
    node_arrived: Notify,
    channels: Mutex<Channels>,
    /// A request for a channel is due.
    channels_due: Notify,
    is_up: watch::Sender<bool>,
    began: Instant,
    /// When the beacon came back last, in milliseconds since `began`.
    beacon_ms: AtomicU64,
}

impl Shared {
    /// Sorts a message that Redis sends. Called by the connection: must not wait.
    fn push(&self, info: PushInfo) {
        match info.kind {
            PushKind::Message | PushKind::SMessage => {
                let mut parts = info.data.into_iter();
                if let (Some(Value::BulkString(channel)), Some(Value::BulkString(payload))) =
                    (parts.next(), parts.next())
                    && let Ok(channel) = String::from_utf8(channel)
                {
                    self.sort(Published { channel, payload });
                }
            }
            PushKind::Disconnection => {
                lock(&self.channels).lose_all();
                self.set_up(false);
                self.channels_due.notify_one();
            }
            _ => {}
        }
    }

    fn sort(&self, message: Published) {
        if self.keys.is_room_channel(&message.channel) {
            lock(&self.lanes).push_room(message);
            self.room_arrived.notify_one();
        } else if message.payload.is_empty() && message.channel == self.keys.beacon_channel(self.standing.slot()) {
            self.note_beacon();
        } else {
            lock(&self.lanes).push_node(message);
            self.node_arrived.notify_one();
        }
    }

    fn set_up(&self, up: bool) {
        self.is_up.send_if_modified(|before| std::mem::replace(before, up) != up);
    }

    fn note_beacon(&self) {
        self.beacon_ms.store(self.now_ms(), Ordering::Relaxed);
        let is_settled = !lock(&self.channels).is_catching_up();
        self.set_up(is_settled);
    }

    fn now_ms(&self) -> u64 {
        millis(self.began.elapsed())
    }
}

impl fmt::Debug for Subscriber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscriber").field("link", &self.0.link).finish_non_exhaustive()
    }
}

impl Subscriber {
    /// How often the beacon is sent.
    const BEACON: Duration = Duration::from_secs(1);

    /// Channels per request.
    const BATCH: usize = 512;

    /// Messages of rooms that are handed on before other tasks may run.
    const BURST: usize = 128;

    /// Connects.
    ///
    /// # Errors
    ///
    /// As [`Link::open`].
    pub(super) async fn open(
        link: LinkSettings,
        settings: SubscriberSettings,
        keys: Arc<Keys>,
        standing: Arc<Standing>,
    ) -> Result<Self, BackendError> {
        let shared = Arc::new(Shared {
            keys,
            standing,
            lanes: Mutex::new(Sorter::new(settings.inbox_bytes)),
            room_arrived: Notify::new(),
            node_arrived: Notify::new(),
            channels: Mutex::default(),
            channels_due: Notify::new(),
            is_up: watch::Sender::new(false),
            began: Instant::now(),
            beacon_ms: AtomicU64::new(0),
        });
        let taking = Arc::clone(&shared);
        let link = Link::open(link, Some(Arc::new(move |info| taking.push(info)))).await?;
        Ok(Self(Arc::new(Inner { link, settings, shared, resubscribed: AtomicU64::new(0) })))
    }

    /// Hands messages on from now on, for as long as there is a subscriber.
    pub(super) fn begin(&self, listener: &Arc<dyn Listener>) {
        let inner = || Arc::downgrade(&self.0);
        tokio::spawn(keep_channels(inner(), Arc::clone(listener)));
        // Its time slices are bounded by `BURST`: a budget of the runtime that is used up would look as if a
        // worker was full.
        tokio::spawn(tokio::task::unconstrained(hand_on_rooms(inner(), Arc::clone(listener))));
        tokio::spawn(hand_on_nodes(inner(), Arc::clone(listener)));
        tokio::spawn(send_beacons(inner()));
    }

    /// Whether all channels are confirmed and the beacon comes back.
    pub(super) fn is_up(&self) -> watch::Receiver<bool> {
        self.0.shared.is_up.subscribe()
    }

    /// Subscribes to a channel. Messages that are published after this is ready arrive.
    ///
    /// # Errors
    ///
    /// When it is not confirmed within `backend.redis.timeout`. It stays wanted until [`Subscriber::unsubscribe`].
    pub(super) async fn listen(&self, channel: &str) -> Result<(), BackendError> {
        let shared = &self.0.shared;
        let is_first = !shared.keys.is_room_channel(channel);
        let wanted = lock(&shared.channels).want(channel, is_first);
        let Subscription::Requested(confirmed) = wanted else { return Ok(()) };
        shared.channels_due.notify_one();
        match tokio::time::timeout(self.0.link.timeout(), confirmed).await {
            Ok(Ok(())) => Ok(()),
            _ => Err(self.0.link.trouble(
                Trouble::Timeout,
                format_args!("subscription to {channel} was not confirmed within backend.redis.timeout"),
            )),
        }
    }

    /// Unsubscribes from a channel.
    pub(super) fn unsubscribe(&self, channel: &str) {
        if lock(&self.0.shared.channels).unwant(channel) {
            self.0.shared.channels_due.notify_one();
        }
    }

    /// Publishes something over the connection that listens.
    ///
    /// # Errors
    ///
    /// As [`Link::run`].
    pub(super) async fn publish(&self, channel: &str, payload: &[u8]) -> Result<(), BackendError> {
        self.0.link.query(self.publication(channel, payload)).await.map(drop)
    }

    fn publication(&self, channel: &str, payload: &[u8]) -> redis::Cmd {
        let is_sharded = self.0.shared.keys.is_room_channel(channel)
            && matches!(&*self.0.link.state().borrow(), LinkState::Up { server, .. }
                if server.is_cluster && server.shards_channels());
        let mut command = redis::cmd(if is_sharded { "SPUBLISH" } else { "PUBLISH" });
        command.arg(channel).arg(payload);
        command
    }

    /// Has a room compared with its log as soon as its workers have space.
    pub(super) fn compare_later(&self, channel: &str) {
        lock(&self.0.shared.lanes).mark(channel);
        self.0.shared.room_arrived.notify_one();
    }

    /// The link itself, for its figures.
    pub(super) fn link(&self) -> &Link {
        &self.0.link
    }

    /// How often all channels were requested again although the connection had not broken.
    pub(super) fn resubscribed(&self) -> u64 {
        self.0.resubscribed.load(Ordering::Relaxed)
    }

    /// When the beacon came back last.
    #[cfg(test)]
    pub(super) fn beacon_ms(&self) -> u64 {
        self.0.shared.beacon_ms.load(Ordering::Relaxed)
    }

    /// Replaces the connection, and requests all channels again.
    fn resubscribe(&self, why: &str) {
        tracing::warn!(why, "pub/sub may have lost messages; resubscribing");
        self.0.resubscribed.fetch_add(1, Ordering::Relaxed);
        self.0.shared.set_up(false);
        lock(&self.0.shared.channels).lose_all();
        self.0.link.break_off();
    }

    /// Makes one request of each kind. Returns `true` if nothing more is to be requested over this connection.
    async fn settle(&self, sharded: bool) -> Result<bool, BackendError> {
        let shared = &self.0.shared;
        let Requests { round, subscribe, unsubscribe } = lock(&shared.channels).next(Self::BATCH);
        let mut groups = Vec::with_capacity(4);
        for (channels, subscribes) in [(subscribe, true), (unsubscribe, false)] {
            let of_rooms = |channel: &String| shared.keys.is_room_channel(channel);
            let (rooms, others): (Vec<_>, Vec<_>) = channels.into_iter().partition(of_rooms);
            groups.extend([(others, subscribes, false), (rooms, subscribes, sharded)]);
        }
        groups.retain(|(channels, ..)| !channels.is_empty());
        let mut groups = groups.into_iter();
        while let Some((channels, subscribes, sharded)) = groups.next() {
            let done = self.0.link.listen(&channels, subscribes, sharded).await;
            let mut all = lock(&shared.channels);
            match done {
                Ok(()) if all.confirm(round, &channels, subscribes) => {}
                // All channels were lost during the request, and are due again.
                Ok(()) => return Ok(true),
                Err(error) => {
                    all.retry(round, channels.into_iter().chain(groups.flat_map(|(channels, ..)| channels)));
                    return Err(error);
                }
            }
        }
        Ok(lock(&shared.channels).is_settled())
    }
}

/// Keeps channels as they are wanted.
async fn keep_channels(inner: Weak<Inner>, listener: Arc<dyn Listener>) {
    let Some(mut state) = inner.upgrade().map(|inner| inner.link.state()) else { return };
    loop {
        let Some(subscriber) = inner.upgrade().map(Subscriber) else { return };
        let shared = &subscriber.0.shared;
        tokio::select! {
            () = shared.channels_due.notified() => {}
            result = state.changed() => drop(result),
            // Requests that failed are made again.
            () = tokio::time::sleep(Duration::from_millis(500)) => {}
        }
        let LinkState::Up { serial, server } = state.borrow_and_update().clone() else {
            shared.set_up(false);
            continue;
        };
        lock(&shared.channels).set_connection(serial);
        let sharded = server.is_cluster && server.shards_channels();
        loop {
            match subscriber.settle(sharded).await {
                Ok(true) => break,
                Ok(false) => {}
                Err(error) => {
                    tracing::debug!(%error, "subscription failed; retrying");
                    break;
                }
            }
        }
        if lock(&shared.channels).take_caught_up() {
            listener.on_resubscribed();
        }
    }
}

/// How often a task that waits checks whether its subscriber exists.
const CHECK: Duration = Duration::from_secs(5);

/// Hands messages of rooms on. Never waits for a worker.
async fn hand_on_rooms(inner: Weak<Inner>, listener: Arc<dyn Listener>) {
    let Some(shared) = inner.upgrade().map(|inner| Arc::clone(&inner.shared)) else { return };
    while inner.strong_count() > 0 {
        let mut burst = 0;
        while let Some(next) = next_of_rooms(&shared) {
            match next {
                Next::Deliver(message) => deliver(&shared, &listener, message).await,
                Next::DeliverOrRefuse(message) if listener.must_wait(&message.channel) => {
                    lock(&shared.lanes).refuse(&message);
                }
                Next::DeliverOrRefuse(message) => deliver(&shared, &listener, message).await,
                Next::Opened(channel) => {
                    let space = listener.space(&channel);
                    tokio::spawn(run_lane(Arc::clone(&shared), Arc::clone(&listener), channel, space));
                }
            }
            burst += 1;
            if burst % Subscriber::BURST == 0 {
                tokio::task::yield_now().await;
            }
        }
        drop(tokio::time::timeout(CHECK, shared.room_arrived.notified()).await);
    }
}

fn next_of_rooms(shared: &Shared) -> Option<Next> {
    lock(&shared.lanes).next()
}

/// Hands one message on, or begins a lane with it.
async fn deliver(shared: &Arc<Shared>, listener: &Arc<dyn Listener>, message: Published) {
    let Published { channel, payload } = message;
    let payload_bytes = payload.len();
    let mut delivery = listener.room_message(&channel, payload);
    let is_done = poll_fn(|cx| Poll::Ready(delivery.as_mut().poll(cx).is_ready())).await;
    if !is_done {
        lock(&shared.lanes).begin(&channel, payload_bytes);
        tokio::spawn(run_lane(Arc::clone(shared), Arc::clone(listener), channel, delivery));
    }
}

/// Hands on the messages of one room after `first`, until none waits.
async fn run_lane(shared: Arc<Shared>, listener: Arc<dyn Listener>, channel: String, first: BoxFuture<'static, ()>) {
    first.await;
    loop {
        let resume = lock(&shared.lanes).resume(&channel);
        match resume {
            Resume::Deliver(payload) => listener.room_message(&channel, payload).await,
            Resume::Compare => listener.compare(&channel).await,
            Resume::End => return,
        }
    }
}

/// Hands messages of nodes on.
async fn hand_on_nodes(inner: Weak<Inner>, listener: Arc<dyn Listener>) {
    let Some(shared) = inner.upgrade().map(|inner| Arc::clone(&inner.shared)) else { return };
    while let Some(subscriber) = inner.upgrade().map(Subscriber) {
        // Nothing repeats a message of a node. After the interruption the nodes tell each other everything again.
        if lock(&shared.lanes).take_lost_node_message() {
            subscriber.resubscribe("messages of nodes exceeded their part of backend.redis.inbox_bytes");
        }
        drop(subscriber);
        match next_of_nodes(&shared) {
            Some(Published { channel, payload }) => listener.node_message(&channel, payload).await,
            None => drop(tokio::time::timeout(CHECK, shared.node_arrived.notified()).await),
        }
    }
}

fn next_of_nodes(shared: &Shared) -> Option<Published> {
    lock(&shared.lanes).next_node()
}

/// Sends the beacon, and checks that it comes back.
async fn send_beacons(inner: Weak<Inner>) {
    let mut beats = tokio::time::interval(Subscriber::BEACON);
    beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut slot, mut watch, mut audited) = (0, BeaconWatch::default(), Instant::now());
    loop {
        beats.tick().await;
        let Some(subscriber) = inner.upgrade().map(Subscriber) else { return };
        let Inner { link, shared, settings, .. } = &*subscriber.0;
        subscriber.report_dropped();
        let Some(connection) = link.serial() else { continue };
        let heard_ms = shared.beacon_ms.load(Ordering::Relaxed);
        let is_overdue = watch.is_overdue(connection, shared.now_ms(), heard_ms, millis(settings.beacon_timeout));
        let own = shared.standing.slot();
        if own != slot {
            if slot != 0 {
                subscriber.unsubscribe(&shared.keys.beacon_channel(slot));
            }
            slot = own;
        }
        if slot == 0 {
            continue;
        }
        if is_overdue {
            subscriber.resubscribe("the beacon did not come back");
            continue;
        }
        // In a task of its own: the next beacon must not be late.
        let (sending, channel) = (subscriber.clone(), shared.keys.beacon_channel(slot));
        tokio::spawn(async move {
            if sending.listen(&channel).await.is_ok() {
                // A beacon that does not come back is noticed above.
                drop(sending.0.link.query_urgent(sending.publication(&channel, b"")).await);
            }
        });
        if audited.elapsed() >= settings.audit_interval {
            audited = Instant::now();
            // In a task of its own as well: a slow answer would make the beacon overdue.
            tokio::spawn(async move { subscriber.audit().await });
        }
    }
}

impl Subscriber {
    /// Counts and logs messages of rooms that were dropped.
    fn report_dropped(&self) {
        let dropped = lock(&self.0.shared.lanes).take_dropped();
        if dropped > 0 {
            let about = "messages of rooms exceeded backend.redis.inbox_bytes";
            drop(self.0.link.trouble(Trouble::Overload, about));
            tracing::warn!(dropped, "messages of rooms exceeded backend.redis.inbox_bytes; reading them from the logs");
        }
    }

    /// Asks Redis how many channels this connection has.
    async fn audit(&self) {
        let shared = &self.0.shared;
        let LinkState::Up { server, .. } = self.0.link.state().borrow().clone() else { return };
        if server.is_cluster || !*shared.is_up.borrow() {
            return;
        }
        let confirmed = || lock(&shared.channels).confirmed();
        let Some(before) = confirmed() else { return };
        let mut command = redis::cmd("CLIENT");
        command.arg("INFO");
        let Ok(answer) = self.0.link.query(command).await else { return };
        let known: Option<usize> = answer.text().and_then(|text| {
            text.split_ascii_whitespace()
                .find_map(|word| word.strip_prefix("sub="))
                .and_then(|count| count.parse().ok())
        });
        // Compared only if nothing has changed during the request.
        if confirmed() == Some(before) && known.is_some_and(|known| known != before.0) {
            self.resubscribe("Redis does not know all channels");
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing under these locks can panic in the middle of a change.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
