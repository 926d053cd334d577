//! The connections of this node: where each lives, and the state that only the server sets.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::Value;
use switchboard_proto::id::ConnId;
use thiserror::Error;

use crate::hub::mail::Address;

/// Every connection of this node, by its id.
#[derive(Debug)]
pub(super) struct Registry {
    shards: Vec<Mutex<Shard>>,
}

#[derive(Debug, Default)]
struct Shard {
    addresses: ById<Address>,
    /// Of those connections that have any.
    states: ById<State>,
}

type ById<T> = HashMap<ConnId, T, BuildHasherDefault<IdHasher>>;

/// A connection's server-only state: texts, numbers and booleans by name. Authentication patterns look at it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct State {
    values: Vec<(String, Value)>,
}

/// Why a connection's state was not changed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum StateError {
    /// The name belongs to a fact of the connection.
    #[error("{0} is a fact of the connection and cannot be set")]
    BuiltIn(String),
    /// It would hold more than 64 values or 16 KiB.
    #[error("the state of a connection holds at most 64 values and 16 KiB")]
    Full,
    /// The connection has ended.
    #[error("no such connection")]
    NoSuchConnection,
    /// Not a text, a number or a boolean.
    #[error("{0} must be a text, a number or a boolean")]
    NotScalar(String),
}

impl State {
    const MAX_VALUES: usize = 64;
    const MAX_BYTES: usize = 16 * 1024;
    /// Facts of a connection, which state cannot hide.
    pub const BUILT_IN: [&str; 7] = ["connectedAt", "fingerprint", "id", "remoteIP", "remotePort", "type", "user"];

    /// A value.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.values.iter().find(|(other, _)| other == name).map(|(_, value)| value)
    }

    /// Names and values in the order in which they were first set.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.values.iter().map(|(name, value)| (name.as_str(), value))
    }

    /// Values that state may hold, as [`State::into_values`] gives them.
    pub(super) fn from_values(values: Vec<(String, Value)>) -> Self {
        Self { values }
    }

    pub(super) fn into_values(self) -> Vec<(String, Value)> {
        self.values
    }

    /// Sets a value; `null` removes it.
    pub(super) fn set(&mut self, name: &str, value: Value) -> Result<(), StateError> {
        if Self::BUILT_IN.contains(&name) {
            return Err(StateError::BuiltIn(name.to_owned()));
        }
        match value {
            Value::Null => {
                self.values.retain(|(other, _)| other != name);
                return Ok(());
            }
            Value::Array(_) | Value::Object(_) => return Err(StateError::NotScalar(name.to_owned())),
            Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
        let size = |name: &str, value: &Value| name.len() + value.as_str().map_or(8, str::len);
        let others = self.values.iter().filter(|(other, _)| other != name);
        let (count, bytes) =
            others.fold((0, 0), |(count, bytes), (name, value)| (count + 1, bytes + size(name, value)));
        if count >= Self::MAX_VALUES || bytes + size(name, &value) > Self::MAX_BYTES {
            return Err(StateError::Full);
        }
        match self.values.iter_mut().find(|(other, _)| other == name) {
            Some((_, old)) => *old = value,
            None => self.values.push((name.to_owned(), value)),
        }
        Ok(())
    }
}

impl Registry {
    const SHARDS: usize = 64;

    pub(super) fn new() -> Self {
        Self { shards: (0..Self::SHARDS).map(|_| Mutex::default()).collect() }
    }

    fn shard(&self, id: ConnId) -> MutexGuard<'_, Shard> {
        let mut hasher = IdHasher::default();
        std::hash::Hash::hash(&id, &mut hasher);
        // The maps inside use the low and the high bits.
        lock(&self.shards[(hasher.finish() >> 32) as usize % Self::SHARDS])
    }

    /// A new connection, with the state that it begins with.
    pub(super) fn insert(&self, id: ConnId, address: Address, state: State) {
        let mut shard = self.shard(id);
        shard.addresses.insert(id, address);
        if !state.values.is_empty() {
            shard.states.insert(id, state);
        }
    }

    pub(super) fn remove(&self, id: ConnId) {
        let mut shard = self.shard(id);
        shard.addresses.remove(&id);
        shard.states.remove(&id);
    }

    pub(super) fn locate(&self, id: ConnId) -> Option<Address> {
        self.shard(id).addresses.get(&id).copied()
    }

    pub(super) fn ids(&self) -> Vec<ConnId> {
        self.shards.iter().flat_map(|shard| lock(shard).addresses.keys().copied().collect::<Vec<_>>()).collect()
    }

    pub(super) fn state(&self, id: ConnId) -> State {
        self.shard(id).states.get(&id).cloned().unwrap_or_default()
    }

    pub(super) fn state_value(&self, id: ConnId, name: &str) -> Option<Value> {
        self.shard(id).states.get(&id)?.get(name).cloned()
    }

    pub(super) fn set_state(&self, id: ConnId, name: &str, value: Value) -> Result<(), StateError> {
        let mut shard = self.shard(id);
        if !shard.addresses.contains_key(&id) {
            return Err(StateError::NoSuchConnection);
        }
        let state = shard.states.entry(id).or_default();
        let set = state.set(name, value);
        if state.values.is_empty() {
            shard.states.remove(&id);
        }
        set
    }
}

fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    // Nothing under this lock can panic half way.
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Connection ids are random, and nobody but us chooses them: they are their own hash.
#[derive(Default)]
struct IdHasher(u64);

impl Hasher for IdHasher {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.0 = self.0.rotate_left(29) ^ u64::from_le_bytes(word);
        }
    }

    fn write_usize(&mut self, _: usize) {
        // The length that arrays hash before their bytes tells nothing here.
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::mail::ConnKey;
    use serde_json::json;

    fn registry() -> (Registry, ConnId) {
        let registry = Registry::new();
        let id = ConnId::from_random(7);
        registry.insert(id, Address { worker: 0, key: ConnKey { slot: 1, generation: 2 } }, State::default());
        (registry, id)
    }

    #[test]
    fn state_takes_scalars_and_never_facts() {
        let (registry, id) = registry();
        registry.set_state(id, "authorized", json!(true)).unwrap();
        assert_eq!(registry.state_value(id, "authorized"), Some(json!(true)));
        for name in State::BUILT_IN {
            assert!(matches!(registry.set_state(id, name, json!(1)), Err(StateError::BuiltIn(_))));
        }
        assert!(matches!(registry.set_state(id, "a", json!([1])), Err(StateError::NotScalar(_))));
        registry.set_state(id, "authorized", json!(null)).unwrap();
        assert_eq!(registry.state(id), State::default());
        registry.remove(id);
        assert_eq!(registry.set_state(id, "a", json!(1)), Err(StateError::NoSuchConnection));
    }

    #[test]
    fn state_is_bounded() {
        let (registry, id) = registry();
        for index in 0..64 {
            registry.set_state(id, &format!("k{index}"), json!(index)).unwrap();
        }
        assert_eq!(registry.set_state(id, "k64", json!(1)), Err(StateError::Full));
        registry.set_state(id, "k63", json!("again")).unwrap();
        assert_eq!(registry.set_state(id, "k63", json!("x".repeat(16 * 1024))), Err(StateError::Full));
        assert_eq!(registry.state_value(id, "k63"), Some(json!("again")));
    }
}
