//! An in-memory cache with expiry, for actions.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::Value;
use thiserror::Error;

/// Named values that expire. One per node; shared by all actions.
#[derive(Debug)]
pub struct Cache {
    entries: Mutex<Entries>,
    max_bytes: usize,
}

#[derive(Debug, Default)]
struct Entries {
    by_key: HashMap<String, Entry>,
    bytes: usize,
}

#[derive(Clone, Debug)]
struct Entry {
    cached: Cached,
    bytes: usize,
}

/// A cached value.
#[derive(Clone, Debug, PartialEq)]
pub struct Cached {
    /// The value.
    pub value: Value,
    /// When it was saved, in milliseconds since 1970.
    pub created_at: u64,
    /// When it expires.
    pub expires_at: Option<u64>,
    /// When it was read before this time.
    pub read_at: Option<u64>,
}

/// The cache holds `actions.cache_max_bytes`, and nothing in it has expired.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the cache is full")]
pub struct CacheFull;

impl Cache {
    /// A cache that holds `max_bytes` of keys and JSON text.
    pub fn new(max_bytes: usize) -> Self {
        Self { entries: Mutex::default(), max_bytes }
    }

    /// Saves a value under `key`, replacing an older one, to expire after `lifetime_ms`.
    ///
    /// # Errors
    ///
    /// When it does not fit, even after what has expired is forgotten.
    pub fn save(&self, key: &str, value: Value, now_ms: u64, lifetime_ms: Option<u64>) -> Result<(), CacheFull> {
        let bytes = key.len() + value.to_string().len() + 64;
        let mut entries = self.lock();
        entries.remove(key);
        if entries.bytes + bytes > self.max_bytes {
            entries.forget_expired(now_ms);
            if entries.bytes + bytes > self.max_bytes {
                return Err(CacheFull);
            }
        }
        let expires_at = lifetime_ms.map(|lifetime_ms| now_ms.saturating_add(lifetime_ms));
        let cached = Cached { value, created_at: now_ms, expires_at, read_at: None };
        entries.bytes += bytes;
        entries.by_key.insert(key.to_owned(), Entry { cached, bytes });
        Ok(())
    }

    /// Reads a value that has not expired, and notes when.
    pub fn load(&self, key: &str, now_ms: u64) -> Option<Cached> {
        let mut entries = self.lock();
        let entry = entries.by_key.get_mut(key)?;
        if entry.is_expired(now_ms) {
            entries.remove(key);
            return None;
        }
        let cached = entry.cached.clone();
        entry.cached.read_at = Some(now_ms);
        Some(cached)
    }

    /// Forgets a value. `false`: there was none, or it had expired.
    pub fn destroy(&self, key: &str, now_ms: u64) -> bool {
        self.lock().remove(key).is_some_and(|entry| !entry.is_expired(now_ms))
    }

    /// How many values there are that have not expired.
    pub fn len(&self, now_ms: u64) -> usize {
        let mut entries = self.lock();
        entries.forget_expired(now_ms);
        entries.by_key.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self, now_ms: u64) -> bool {
        self.len(now_ms) == 0
    }

    fn lock(&self) -> MutexGuard<'_, Entries> {
        // Nothing under this lock can panic half way.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entries {
    fn remove(&mut self, key: &str) -> Option<Entry> {
        let entry = self.by_key.remove(key)?;
        self.bytes -= entry.bytes;
        Some(entry)
    }

    fn forget_expired(&mut self, now_ms: u64) {
        self.by_key.retain(|_, entry| !entry.is_expired(now_ms));
        self.bytes = self.by_key.values().map(|entry| entry.bytes).sum();
    }
}

impl Entry {
    fn is_expired(&self, now_ms: u64) -> bool {
        self.cached.expires_at.is_some_and(|expires_at| expires_at <= now_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_value_can_be_read_until_it_expires() {
        let cache = Cache::new(1000);
        cache.save("k", json!("v"), 100, Some(50)).unwrap();
        assert_eq!(cache.load("k", 149).unwrap().read_at, None);
        assert_eq!(cache.load("k", 149).unwrap().read_at, Some(149));
        assert_eq!(cache.load("k", 150), None);
        assert!(!cache.destroy("k", 150));
    }

    #[test]
    fn a_full_cache_forgets_what_has_expired_and_otherwise_refuses() {
        let cache = Cache::new(150);
        cache.save("a", json!(1), 0, Some(10)).unwrap();
        cache.save("b", json!(1), 0, None).unwrap();
        assert_eq!(cache.save("c", json!(1), 5, None), Err(CacheFull));
        cache.save("c", json!(1), 10, None).unwrap();
        assert_eq!(cache.len(10), 2);
        assert!(cache.destroy("b", 10));
        assert!(cache.destroy("c", 10));
        assert_eq!(cache.lock().bytes, 0);
    }
}
