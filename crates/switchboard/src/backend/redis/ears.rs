//! Listening to what is published: channels, and the certainty that they are heard.
//!
//! That a channel was asked for does not mean that it is heard: a connection may come back without its channels, or deliver nothing.
//! So each channel is confirmed, by every connection anew; once a second the node publishes something for itself, the *beacon*, which
//! must come back; and from time to time Redis is asked how many channels it knows of this connection.
//!
//! What comes waits in an inbox of limited size, is handed on by one task, in order, and only as fast as it is taken.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use redis::{PushInfo, PushKind, Value};
use tokio::sync::{Notify, oneshot, watch};
use tokio::time::{Instant, MissedTickBehavior};

use crate::backend::BackendError;
use crate::op::BoxFuture;

use super::keys::Keys;
use super::link::{Link, LinkSettings, LinkState};
use super::store::{Answered, Standing};
use super::trouble::Trouble;

/// Where what is heard goes.
pub(super) trait Listener: Send + Sync {
    /// Something was said on a channel. The next is handed on when this is ready.
    fn heard(&self, channel: &str, payload: Vec<u8>) -> BoxFuture<'_, ()>;

    /// All channels are heard again, after some time in which perhaps they were not.
    fn hears_again(&self) -> BoxFuture<'_, ()>;
}

/// What listening needs to know.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EarSettings {
    /// `backend.redis.beacon_timeout`.
    pub(crate) beacon_timeout: Duration,
    /// `backend.redis.inbox_bytes`.
    pub(crate) inbox_bytes: usize,
    /// `backend.redis.audit_interval`.
    pub(crate) audit_interval: Duration,
}

/// The connection to pub/sub. Cloning shares it.
#[derive(Clone)]
pub(super) struct Ears(Arc<Inner>);

struct Inner {
    link: Link,
    keys: Arc<Keys>,
    standing: Arc<Standing>,
    settings: EarSettings,
    inbox: Arc<Inbox>,
    channels: Mutex<Channels>,
    /// There is something to be done about channels.
    changed: Notify,
    is_up: watch::Sender<bool>,
    began: Instant,
    /// When the beacon was heard last, in milliseconds since `began`.
    beacon_ms: AtomicU64,
    /// How often hearing was made anew, because the beacon did not come back or channels were missing.
    remade: AtomicU64,
}

/// Channels, and what is to be done about them.
#[derive(Default)]
struct Channels {
    all: HashMap<String, Channel>,
    /// Those whose state is not as wanted.
    unsettled: Vec<String>,
    /// Which connection, by its number, hears the confirmed ones.
    serial: u64,
    /// Since hearing began anew, not everything was confirmed yet.
    is_catching_up: bool,
}

#[derive(Default)]
struct Channel {
    is_wanted: bool,
    is_heard: bool,
    waiting: Vec<oneshot::Sender<()>>,
}

/// What has come and waits.
struct Inbox {
    queue: Mutex<(VecDeque<Heard>, usize)>,
    most_bytes: usize,
    arrived: Notify,
    has_lost: AtomicBool,
}

enum Heard {
    Said { channel: Vec<u8>, payload: Vec<u8> },
    Broken,
}

impl Heard {
    fn bytes(&self) -> usize {
        match self {
            Self::Said { channel, payload } => 64 + channel.len() + payload.len(),
            Self::Broken => 0,
        }
    }
}

impl Inbox {
    /// Takes what Redis sends by itself. Beyond the limit everything is dropped until hearing begins anew.
    fn push(&self, info: PushInfo) {
        let heard = match info.kind {
            PushKind::Message | PushKind::SMessage => {
                let mut parts = info.data.into_iter();
                match (parts.next(), parts.next()) {
                    (Some(Value::BulkString(channel)), Some(Value::BulkString(payload))) => {
                        Heard::Said { channel, payload }
                    }
                    _ => return,
                }
            }
            PushKind::Disconnection => Heard::Broken,
            _ => return,
        };
        let mut queue = lock(&self.queue);
        if self.has_lost.load(Ordering::Relaxed) || queue.1 + heard.bytes() > self.most_bytes {
            self.has_lost.store(true, Ordering::Relaxed);
        } else {
            queue.1 += heard.bytes();
            queue.0.push_back(heard);
        }
        drop(queue);
        self.arrived.notify_one();
    }

    fn pop(&self) -> Option<Heard> {
        let mut queue = lock(&self.queue);
        let heard = queue.0.pop_front()?;
        queue.1 -= heard.bytes();
        Some(heard)
    }
}

impl fmt::Debug for Ears {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ears").field("link", &self.0.link).finish_non_exhaustive()
    }
}

impl Ears {
    /// How often the beacon is sent.
    const BEACON: Duration = Duration::from_secs(1);

    /// Channels that are asked for at once.
    const BATCH: usize = 512;

    /// Connects.
    ///
    /// # Errors
    ///
    /// As [`Link::open`].
    pub(super) async fn open(
        link: LinkSettings,
        settings: EarSettings,
        keys: Arc<Keys>,
        standing: Arc<Standing>,
    ) -> Result<Self, BackendError> {
        let inbox = Arc::new(Inbox {
            queue: Mutex::default(),
            most_bytes: settings.inbox_bytes,
            arrived: Notify::new(),
            has_lost: AtomicBool::new(false),
        });
        let taking = Arc::clone(&inbox);
        let link = Link::open(link, Some(Arc::new(move |info| taking.push(info)))).await?;
        Ok(Self(Arc::new(Inner {
            link,
            keys,
            standing,
            settings,
            inbox,
            channels: Mutex::default(),
            changed: Notify::new(),
            is_up: watch::Sender::new(false),
            began: Instant::now(),
            beacon_ms: AtomicU64::new(0),
            remade: AtomicU64::new(0),
        })))
    }

    /// Hands on what is heard from now on, for as long as there are ears.
    pub(super) fn begin(&self, listener: Arc<dyn Listener>) {
        let slot: Arc<OnceLock<Arc<dyn Listener>>> = Arc::default();
        // Nobody has set it before.
        let _ = slot.set(listener);
        tokio::spawn(listen(Arc::downgrade(&self.0), Arc::clone(&slot)));
        tokio::spawn(hand_on(Arc::downgrade(&self.0), Arc::clone(&self.0.inbox), slot));
        tokio::spawn(send_beacons(Arc::downgrade(&self.0)));
    }

    /// Whether everything is heard, and whenever that changes.
    pub(super) fn is_up(&self) -> watch::Receiver<bool> {
        self.0.is_up.subscribe()
    }

    /// Listens to a channel. When this is ready what is published is heard.
    ///
    /// # Errors
    ///
    /// When it is not heard within the time that Redis has for an answer. It is wanted all the same, until [`Ears::cease`].
    pub(super) async fn listen(&self, channel: &str) -> Result<(), BackendError> {
        let heard = {
            let mut channels = lock(&self.0.channels);
            let entry = channels.all.entry(channel.to_owned()).or_default();
            entry.is_wanted = true;
            if entry.is_heard {
                return Ok(());
            }
            let (sender, heard) = oneshot::channel();
            entry.waiting.push(sender);
            channels.unsettled.push(channel.to_owned());
            heard
        };
        self.0.changed.notify_one();
        match tokio::time::timeout(self.0.link.timeout(), heard).await {
            Ok(Ok(())) => Ok(()),
            _ => Err(self
                .0
                .link
                .trouble(Trouble::Timeout, format_args!("{channel} is not heard within backend.redis.timeout"))),
        }
    }

    /// Listens to a channel no more.
    pub(super) fn cease(&self, channel: &str) {
        let mut channels = lock(&self.0.channels);
        if let Some(entry) = channels.all.get_mut(channel) {
            entry.is_wanted = false;
            entry.waiting.clear();
            channels.unsettled.push(channel.to_owned());
            drop(channels);
            self.0.changed.notify_one();
        }
    }

    /// Publishes something over the connection that listens.
    ///
    /// # Errors
    ///
    /// As [`Link::run`].
    pub(super) async fn publish(&self, channel: &str, payload: &[u8]) -> Result<(), BackendError> {
        let is_sharded = self.0.keys.room_of_channel(channel).is_some()
            && matches!(&*self.0.link.state().borrow(), LinkState::Up { server, .. }
                if server.is_cluster && server.shards_channels());
        let mut command = redis::cmd(if is_sharded { "SPUBLISH" } else { "PUBLISH" });
        command.arg(channel).arg(payload);
        self.0.link.query(command).await.map(drop)
    }

    /// The link itself, for its figures.
    pub(super) fn link(&self) -> &Link {
        &self.0.link
    }

    /// How often hearing was made anew.
    pub(super) fn remade(&self) -> u64 {
        self.0.remade.load(Ordering::Relaxed)
    }

    /// Begins anew: whatever is heard is confirmed again.
    fn begin_anew(&self, why: &str) {
        tracing::warn!(why, "what other nodes say may not be heard: listening begins anew");
        self.0.remade.fetch_add(1, Ordering::Relaxed);
        self.set_up(false);
        lock(&self.0.channels).unsettle_all();
        self.0.link.break_off();
    }

    fn set_up(&self, up: bool) {
        self.0.is_up.send_if_modified(|before| std::mem::replace(before, up) != up);
    }

    fn note_beacon(&self) {
        self.0.beacon_ms.store(self.now_ms(), Ordering::Relaxed);
        let is_settled = !lock(&self.0.channels).is_catching_up;
        self.set_up(is_settled);
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.0.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Brings what is heard into line with what is wanted. `Ok(true)`: nothing is left to do.
    async fn settle(&self, sharded: bool) -> Result<bool, BackendError> {
        let (begin, cease) = lock(&self.0.channels).next(Self::BATCH);
        let mut groups = Vec::with_capacity(4);
        for (channels, begins) in [(begin, true), (cease, false)] {
            let of_rooms = |channel: &String| self.0.keys.room_of_channel(channel).is_some();
            let (rooms, others): (Vec<_>, Vec<_>) = channels.into_iter().partition(of_rooms);
            groups.extend([(others, begins, false), (rooms, begins, sharded)]);
        }
        groups.retain(|(channels, ..)| !channels.is_empty());
        let mut groups = groups.into_iter();
        while let Some((channels, begins, sharded)) = groups.next() {
            let done = self.0.link.listen(&channels, begins, sharded).await;
            let mut all = lock(&self.0.channels);
            match done {
                Ok(()) => all.note(&channels, begins),
                Err(error) => {
                    // What was not come to is still to be done.
                    all.unsettled.extend(channels.into_iter().chain(groups.flat_map(|(channels, ..)| channels)));
                    return Err(error);
                }
            }
        }
        Ok(lock(&self.0.channels).unsettled.is_empty())
    }
}

impl Channels {
    /// What is to be asked for and what is to be given up next.
    fn next(&mut self, most: usize) -> (Vec<String>, Vec<String>) {
        let (mut begin, mut cease) = (Vec::new(), Vec::new());
        while begin.len() < most && cease.len() < most {
            let Some(name) = self.unsettled.pop() else { break };
            match self.all.get(&name) {
                Some(Channel { is_wanted: true, is_heard: false, .. }) if !begin.contains(&name) => begin.push(name),
                Some(Channel { is_wanted: false, is_heard: true, .. }) if !cease.contains(&name) => cease.push(name),
                Some(Channel { is_wanted: false, is_heard: false, .. }) => drop(self.all.remove(&name)),
                _ => {}
            }
        }
        (begin, cease)
    }

    /// Redis has confirmed it.
    fn note(&mut self, names: &[String], begins: bool) {
        for name in names {
            let Some(channel) = self.all.get_mut(name) else { continue };
            channel.is_heard = begins;
            if begins {
                for waiting in channel.waiting.drain(..) {
                    // Whoever asked may have stopped waiting.
                    let _ = waiting.send(());
                }
            }
            if channel.is_wanted != begins {
                // It was decided otherwise meanwhile.
                self.unsettled.push(name.clone());
            } else if !begins {
                self.all.remove(name);
            }
        }
    }

    /// Nothing is heard for certain.
    fn unsettle_all(&mut self) {
        self.is_catching_up = true;
        self.unsettled.clear();
        for (name, channel) in &mut self.all {
            channel.is_heard = false;
            self.unsettled.push(name.clone());
        }
    }

    fn heard(&self) -> usize {
        self.all.values().filter(|channel| channel.is_heard).count()
    }
}

/// Keeps channels as they are wanted.
async fn listen(inner: std::sync::Weak<Inner>, listener: Arc<OnceLock<Arc<dyn Listener>>>) {
    let Some(mut state) = inner.upgrade().map(|inner| inner.link.state()) else { return };
    loop {
        let Some(ears) = inner.upgrade().map(Ears) else { return };
        let changed = async {
            tokio::select! {
                () = ears.0.changed.notified() => {}
                result = state.changed() => drop(result),
                // What failed is tried again.
                () = tokio::time::sleep(Duration::from_millis(500)) => {}
            }
        };
        changed.await;
        let LinkState::Up { serial, server } = state.borrow_and_update().clone() else {
            ears.set_up(false);
            continue;
        };
        {
            let mut channels = lock(&ears.0.channels);
            if channels.serial != serial {
                channels.serial = serial;
                channels.unsettle_all();
            }
        }
        let sharded = server.is_cluster && server.shards_channels();
        loop {
            match ears.settle(sharded).await {
                Ok(true) => break,
                Ok(false) => {}
                Err(error) => {
                    tracing::debug!(%error, "channels could not be listened to");
                    break;
                }
            }
        }
        let is_whole_again = {
            let mut channels = lock(&ears.0.channels);
            channels.unsettled.is_empty() && std::mem::take(&mut channels.is_catching_up)
        };
        if is_whole_again && let Some(listener) = listener.get() {
            listener.hears_again().await;
        }
    }
}

/// Hands on what has come.
async fn hand_on(inner: std::sync::Weak<Inner>, inbox: Arc<Inbox>, listener: Arc<OnceLock<Arc<dyn Listener>>>) {
    let Some(listener) = listener.get().cloned() else { return };
    loop {
        let arrived = inbox.arrived.notified();
        while let Some(heard) = inbox.pop() {
            match heard {
                Heard::Said { channel, payload } => {
                    let Ok(channel) = String::from_utf8(channel) else { continue };
                    let Some(ears) = inner.upgrade().map(Ears) else { return };
                    // Only the beacon has nothing to say: for the others its name need not be made.
                    if payload.is_empty() && channel == ears.0.keys.beacon_channel(ears.0.standing.slot()) {
                        ears.note_beacon();
                    } else {
                        drop(ears);
                        listener.heard(&channel, payload).await;
                    }
                }
                Heard::Broken => {
                    let Some(ears) = inner.upgrade().map(Ears) else { return };
                    lock(&ears.0.channels).unsettle_all();
                    ears.set_up(false);
                    ears.0.changed.notify_one();
                }
            }
        }
        if inbox.has_lost.swap(false, Ordering::Relaxed) {
            let Some(ears) = inner.upgrade().map(Ears) else { return };
            ears.begin_anew("more came than could wait (backend.redis.inbox_bytes)");
        }
        if inner.strong_count() == 0 {
            return;
        }
        // Woken at least now and then, to see whether there are ears any more.
        drop(tokio::time::timeout(Duration::from_secs(5), arrived).await);
    }
}

/// Sends the beacon, and looks whether it comes back.
async fn send_beacons(inner: std::sync::Weak<Inner>) {
    let mut beats = tokio::time::interval(Ears::BEACON);
    beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut slot, mut up_since, mut audited) = (0, None::<u64>, Instant::now());
    loop {
        beats.tick().await;
        let Some(ears) = inner.upgrade().map(Ears) else { return };
        let now_ms = ears.now_ms();
        if matches!(*ears.0.link.state().borrow(), LinkState::Down) {
            up_since = None;
            continue;
        }
        let since_ms = *up_since.get_or_insert(now_ms);
        let own = ears.0.standing.slot();
        if own != slot {
            if slot != 0 {
                ears.cease(&ears.0.keys.beacon_channel(slot));
            }
            slot = own;
        }
        if slot == 0 {
            continue;
        }
        let channel = ears.0.keys.beacon_channel(slot);
        let most_ms = u64::try_from(ears.0.settings.beacon_timeout.as_millis()).unwrap_or(u64::MAX);
        let heard_ms = ears.0.beacon_ms.load(Ordering::Relaxed).max(since_ms);
        if now_ms.saturating_sub(heard_ms) > most_ms {
            up_since = None;
            ears.begin_anew("the beacon did not come back");
            continue;
        }
        // Not waited for: the next one must not be late.
        let sending = ears.clone();
        tokio::spawn(async move {
            if sending.listen(&channel).await.is_ok() {
                // That it does not come back is seen above.
                drop(sending.publish(&channel, b"").await);
            }
        });
        if audited.elapsed() >= ears.0.settings.audit_interval {
            audited = Instant::now();
            ears.audit().await;
        }
    }
}

impl Ears {
    /// Asks Redis how many channels this connection listens to.
    async fn audit(&self) {
        let LinkState::Up { server, .. } = self.0.link.state().borrow().clone() else { return };
        if server.is_cluster || !*self.0.is_up.borrow() {
            return;
        }
        let settled = || {
            let channels = lock(&self.0.channels);
            channels.unsettled.is_empty().then(|| (channels.heard(), channels.serial))
        };
        let Some(before) = settled() else { return };
        let mut command = redis::cmd("CLIENT");
        command.arg("INFO");
        let Ok(answer) = self.0.link.query(command).await else { return };
        let listens: Option<usize> = answer.text().and_then(|text| {
            text.split_ascii_whitespace()
                .find_map(|word| word.strip_prefix("sub="))
                .and_then(|count| count.parse().ok())
        });
        // Compared only if nothing has changed meanwhile.
        if settled() == Some(before) && listens.is_some_and(|listens| listens != before.0) {
            self.begin_anew("Redis does not know of all channels");
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing under these locks can panic half way.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(bytes: usize) -> PushInfo {
        let data = vec![Value::BulkString(b"c".to_vec()), Value::BulkString(vec![0; bytes])];
        PushInfo { kind: PushKind::Message, data }
    }

    #[test]
    fn what_comes_waits_up_to_a_limit_and_what_is_lost_is_known() {
        let inbox = Inbox {
            queue: Mutex::default(),
            most_bytes: 200,
            arrived: Notify::new(),
            has_lost: AtomicBool::new(false),
        };
        inbox.push(said(35));
        inbox.push(said(35));
        assert!(!inbox.has_lost.load(Ordering::Relaxed));
        inbox.push(said(35));
        assert!(inbox.has_lost.load(Ordering::Relaxed));
        inbox.push(PushInfo { kind: PushKind::Message, data: vec![Value::Int(1)] });
        assert_eq!(std::iter::from_fn(|| inbox.pop()).count(), 2);
        assert_eq!(lock(&inbox.queue).1, 0);
    }

    #[test]
    fn channels_are_brought_into_line_with_what_is_wanted() {
        let mut channels = Channels::default();
        let want = |channels: &mut Channels, name: &str, is_wanted| {
            channels.all.entry(name.to_owned()).or_default().is_wanted = is_wanted;
            channels.unsettled.push(name.to_owned());
        };
        want(&mut channels, "a", true);
        want(&mut channels, "a", true);
        assert_eq!(channels.next(9), (vec!["a".to_owned()], vec![]));
        // Given up before it was confirmed.
        want(&mut channels, "a", false);
        channels.note(&["a".to_owned()], true);
        assert_eq!(channels.next(9), (vec![], vec!["a".to_owned()]));
        // And wanted again before that was confirmed.
        want(&mut channels, "a", true);
        channels.note(&["a".to_owned()], false);
        assert_eq!(channels.next(9), (vec!["a".to_owned()], vec![]));
        channels.note(&["a".to_owned()], true);
        assert_eq!((channels.next(9), channels.heard()), ((vec![], vec![]), 1));
        channels.unsettle_all();
        assert_eq!((channels.heard(), channels.is_catching_up), (0, true));
        want(&mut channels, "a", false);
        assert_eq!(channels.next(9), (vec![], vec![]));
        assert!(channels.all.is_empty());
    }
}
