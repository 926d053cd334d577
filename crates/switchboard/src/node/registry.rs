//! The connections of this node: where each lives, and the state that only the server sets.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::Value;
use switchboard_proto::id::ConnId;

use crate::hub::mail::Address;

use super::profile::{State, StateError};

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
        if state.is_empty() {
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
