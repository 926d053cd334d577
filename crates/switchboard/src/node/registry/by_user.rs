//! Connections by their user.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, Hash};
use std::sync::Arc;

/// The connections of each user that has any. A user may have thousands, so a change must not walk through all of them.
#[derive(Debug)]
pub(super) struct ByUser<C, S>(HashMap<Arc<str>, HashSet<C, S>>);

impl<C, S> Default for ByUser<C, S> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<C: Copy + Eq + Hash, S: BuildHasher + Default> ByUser<C, S> {
    pub(super) fn insert(&mut self, user: Arc<str>, connection: C) {
        self.0.entry(user).or_default().insert(connection);
    }

    /// Returns `false` if the connection was not this user's.
    pub(super) fn remove(&mut self, user: &str, connection: &C) -> bool {
        let Some(connections) = self.0.get_mut(user) else { return false };
        let was_there = connections.remove(connection);
        if connections.is_empty() {
            self.0.remove(user);
        }
        was_there
    }

    /// The connections of a user, in no particular order.
    pub(super) fn of(&self, user: &str) -> Vec<C> {
        self.0.get(user).map(|connections| connections.iter().copied().collect()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::collections::hash_map::RandomState;

    use super::*;

    thread_local! {
        static COMPARED: Cell<u64> = const { Cell::new(0) };
    }

    /// An id that counts how often one is compared with another.
    #[derive(Clone, Copy, Debug)]
    struct Counted(u64);

    impl Hash for Counted {
        fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
            self.0.hash(state);
        }
    }

    impl PartialEq for Counted {
        fn eq(&self, other: &Self) -> bool {
            COMPARED.set(COMPARED.get() + 1);
            self.0 == other.0
        }
    }

    impl Eq for Counted {}

    /// Comparisons while a user gets this many connections, and loses them in the order in which they came and in
    /// the other.
    fn compared(count: u64) -> u64 {
        COMPARED.set(0);
        for is_reversed in [false, true] {
            let mut users: ByUser<Counted, RandomState> = ByUser::default();
            (0..count).for_each(|id| users.insert("u".into(), Counted(id)));
            for id in 0..count {
                let id = if is_reversed { count - 1 - id } else { id };
                assert!(users.remove("u", &Counted(id)));
            }
            assert!(users.0.is_empty(), "a user without connections takes no memory");
        }
        COMPARED.get()
    }

    #[test]
    fn a_change_costs_the_same_however_many_connections_a_user_has() {
        for count in [100, 10_000] {
            let compared = compared(count);
            assert!((2 * count..8 * count).contains(&compared), "{compared} comparisons for {count} connections");
        }
    }

    #[test]
    fn a_connection_that_is_not_the_users_is_not_removed() {
        let mut users: ByUser<u64, RandomState> = ByUser::default();
        users.insert("u".into(), 1);
        assert!(!users.remove("u", &2) && !users.remove("v", &1));
        assert_eq!((users.of("u"), users.of("v")), (vec![1], vec![]));
    }
}
