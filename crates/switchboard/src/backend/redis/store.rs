//! What all parts of the backend share: the link, the names, and how this node stands.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};
use std::time::Instant;

use redis::{Cmd, Value};

use crate::backend::BackendError;
use crate::op::BoxFuture;

use super::keys::Keys;
use super::link::Link;
use super::script::Script;
use super::trouble::Trouble;

/// The store, as long as this node is part of the cluster. Cloning shares it.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    pub(super) link: Link,
    pub(super) keys: Arc<Keys>,
    pub(super) standing: Arc<Standing>,
}

/// How this node stands in the cluster.
///
/// It may change the store only as long as the others cannot take it for dead: from the moment before the latest sign of life that
/// reached the store, for as long as the lease. A process that was stopped for longer finds that it may not, before it has asked anybody.
#[derive(Debug)]
pub(crate) struct Standing {
    began: Instant,
    /// Until when, in milliseconds since `began`; 0: not.
    valid_until_ms: AtomicU64,
    /// Which life of the store it is: another one when it may have lost what it had confirmed. It rises.
    generation: AtomicU64,
    slot: AtomicU16,
    incarnation: AtomicU64,
    /// Over which connection all this was said to the store. Another one may lead to a store that knows nothing of it.
    serial: AtomicU64,
}

impl Default for Standing {
    fn default() -> Self {
        Self {
            began: Instant::now(),
            valid_until_ms: AtomicU64::new(0),
            generation: AtomicU64::new(0),
            slot: AtomicU16::new(0),
            incarnation: AtomicU64::new(0),
            serial: AtomicU64::new(0),
        }
    }
}

impl Standing {
    /// The time, for [`Standing::hold_until`].
    pub(super) fn now_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// The node holds its lease until this time.
    pub(super) fn hold_until(&self, until_ms: u64) {
        self.valid_until_ms.store(until_ms, Ordering::Release);
    }

    /// The node holds no lease any longer.
    pub(super) fn end(&self) {
        self.hold_until(0);
    }

    /// Until when the latest sign of life counts. A node that is valid at that time has reached the store again since.
    pub(super) fn valid_until_ms(&self) -> u64 {
        self.valid_until_ms.load(Ordering::Acquire)
    }

    /// Whether it may change the store.
    pub(crate) fn is_valid(&self) -> bool {
        self.is_valid_at(self.now_ms())
    }

    fn is_valid_at(&self, now_ms: u64) -> bool {
        now_ms < self.valid_until_ms.load(Ordering::Acquire)
    }

    /// It is this node, in this life of the store, as was said over the connection of this number.
    pub(super) fn set(&self, serial: u64, generation: u64, slot: u16, incarnation: u64) {
        self.serial.store(serial, Ordering::Release);
        self.generation.store(generation, Ordering::Release);
        self.slot.store(slot, Ordering::Release);
        self.incarnation.store(incarnation, Ordering::Release);
    }

    /// Which life of the store it is.
    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// The node's number, which is in the ids of its connections.
    pub(crate) fn slot(&self) -> u16 {
        self.slot.load(Ordering::Acquire)
    }

    /// Which life of the node it is.
    pub(crate) fn incarnation(&self) -> u64 {
        self.incarnation.load(Ordering::Acquire)
    }
}

impl Store {
    /// A store over this link.
    pub(crate) fn new(link: Link, keys: Keys) -> Self {
        Self { link, keys: Arc::new(keys), standing: Arc::default() }
    }

    /// Runs a script that changes something. Not while this node may be dead for the others.
    ///
    /// # Errors
    ///
    /// As [`Link::run`], and [`Trouble::Fenced`].
    pub(super) fn change(
        &self,
        script: &'static Script,
        keys: &[&str],
        arguments: impl FnOnce(&mut Cmd),
    ) -> BoxFuture<'static, Result<Value, BackendError>> {
        if self.standing.is_valid() {
            let serial = self.standing.serial.load(Ordering::Acquire);
            return self.link.run_over(Some(serial), script, keys, arguments);
        }
        let refused = self.link.trouble(Trouble::Fenced, "this node is not part of the cluster at the moment");
        Box::pin(async move { Err(refused) })
    }

    /// Asks something that changes nothing.
    ///
    /// # Errors
    ///
    /// As [`Link::run`].
    pub(super) async fn read(&self, command: Cmd) -> Result<Value, BackendError> {
        self.link.query(command).await
    }

    /// An answer that nobody understands.
    pub(super) fn odd(&self, what: &str, answer: &Value) -> BackendError {
        let short: String = format!("{answer:?}").chars().take(200).collect();
        self.link.trouble(Trouble::Reply, format_args!("{what}: {short}"))
    }
}

/// Numbers, texts and lists of answers.
pub(super) trait Answered {
    /// A whole number that is not negative.
    fn number(&self) -> Option<u64>;
    /// A text.
    fn text(&self) -> Option<&str>;
    /// Bytes.
    fn bytes(&self) -> Option<&[u8]>;
    /// A list, which a set is too; of a map keys and values in turn are not.
    fn list(&self) -> Option<&[Value]>;
}

impl Answered for Value {
    fn number(&self) -> Option<u64> {
        match self {
            Self::Int(number) => u64::try_from(*number).ok(),
            Self::Double(number) if *number >= 0.0 && number.fract() == 0.0 => Some(*number as u64),
            other => other.text()?.parse().ok(),
        }
    }

    fn text(&self) -> Option<&str> {
        match self {
            Self::BulkString(bytes) => std::str::from_utf8(bytes).ok(),
            Self::SimpleString(text) => Some(text),
            Self::Okay => Some("OK"),
            _ => None,
        }
    }

    fn bytes(&self) -> Option<&[u8]> {
        match self {
            Self::BulkString(bytes) => Some(bytes),
            other => other.text().map(str::as_bytes),
        }
    }

    fn list(&self) -> Option<&[Value]> {
        match self {
            Self::Array(values) | Self::Set(values) => Some(values),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fault_row_34_whoever_was_stopped_for_longer_than_its_lease_may_not_write() {
        let standing = Standing::default();
        assert!(!standing.is_valid(), "before the first sign of life");
        standing.hold_until(6_000);
        assert_eq!([1_000, 5_999, 6_000].map(|now_ms| standing.is_valid_at(now_ms)), [true, true, false]);
        standing.hold_until(12_000);
        assert!(standing.is_valid_at(11_999));
        standing.end();
        assert!(!standing.is_valid_at(0));
    }

    #[test]
    fn answers_are_what_they_look_like() {
        assert_eq!(Value::Int(-1).number(), None);
        assert_eq!(Value::BulkString(b"12".to_vec()).number(), Some(12));
        assert_eq!(Value::Double(3.0).number(), Some(3));
        assert_eq!(Value::BulkString(vec![0xff]).text(), None);
        assert_eq!(Value::Nil.list(), None);
    }
}
