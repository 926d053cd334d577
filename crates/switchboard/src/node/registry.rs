//! The connections of this node: where each lives, and what only the server says about it.

mod by_user;

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasherDefault, Hasher};
use std::ops::Bound;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::Value;
use switchboard_proto::call::ConnectionType;
use switchboard_proto::face::ConnFacts;
use switchboard_proto::id::ConnId;

use crate::backend::sessions::TokenHash;
use crate::hub::mail::Address;
use crate::visits::visit;

use super::User;
use super::profile::{ConnectionPatch, Login, Profile, State, StateError};
use super::tags::TagIndex;
use by_user::ByUser;

/// Every connection of this node, by its id.
#[derive(Debug)]
pub(super) struct Registry {
    /// By the first bits of the id, so that all ids of one come before those of the next.
    shards: Vec<Mutex<Shard>>,
    /// The connections of each user that has any. Its lock is taken inside that of a shard, never the other way.
    users: Mutex<ByUser<ConnId, BuildHasherDefault<IdHasher>>>,
    /// The connections that have each tag. Its lock is taken inside that of a shard, as that of `users` is.
    tags: Mutex<TagIndex>,
    /// How many connections have a user: with none, nobody need be asked who says something.
    known: AtomicUsize,
}

#[derive(Debug, Default)]
struct Shard {
    /// In order, so that a page of a list costs no more than its length.
    places: BTreeMap<ConnId, Place>,
    /// Of those connections that have any.
    profiles: ById<Profile>,
}

/// Where a connection lives.
#[derive(Debug)]
pub(super) enum Place {
    /// With a worker, which knows the rest.
    Worker(Address, ConnectionType),
    /// Nowhere: it is a request over HTTP, and this is all there is.
    Request(Box<ConnFacts>),
}

type ById<T> = HashMap<ConnId, T, BuildHasherDefault<IdHasher>>;

impl Registry {
    const SHARD_BITS: u32 = 6;

    pub(super) fn new() -> Self {
        Self {
            shards: (0..1 << Self::SHARD_BITS).map(|_| Mutex::default()).collect(),
            users: Mutex::default(),
            tags: Mutex::default(),
            known: AtomicUsize::new(0),
        }
    }

    fn shard(&self, id: ConnId) -> MutexGuard<'_, Shard> {
        lock(&self.shards[Self::shard_of(id)])
    }

    fn shard_of(id: ConnId) -> usize {
        usize::from(id.to_bytes()[0] >> (u8::BITS - Self::SHARD_BITS))
    }

    /// A new connection, with the state that it begins with.
    pub(super) fn insert(&self, id: ConnId, place: Place, state: State) {
        let mut shard = self.shard(id);
        shard.places.insert(id, place);
        if !state.is_empty() {
            shard.profiles.insert(id, Profile { state, ..Profile::default() });
        }
    }

    pub(super) fn remove(&self, id: ConnId) {
        let mut shard = self.shard(id);
        shard.places.remove(&id);
        let profile = shard.profiles.remove(&id).unwrap_or_default();
        self.index_tags(id, &profile.tags, &[]);
        self.index(id, profile.user, None);
    }

    fn index_tags(&self, id: ConnId, before: &[String], after: &[String]) {
        if before != after {
            lock(&self.tags).change(id, before, after);
        }
    }

    /// Notes that a connection is somebody else's.
    fn index(&self, id: ConnId, before: Option<User>, after: Option<User>) {
        if before.as_ref().map(User::id) == after.as_ref().map(User::id) {
            return;
        }
        let mut users = lock(&self.users);
        if before.is_some_and(|user| users.remove(user.id(), &id)) {
            self.known.fetch_sub(1, Ordering::Relaxed);
        }
        if let Some(user) = after {
            self.known.fetch_add(1, Ordering::Relaxed);
            users.insert(user.shared_id(), id);
        }
    }

    /// The connections of a user, in no particular order.
    pub(super) fn connections_of(&self, user: &str) -> Vec<ConnId> {
        lock(&self.users).of(user)
    }

    /// Whose a connection is.
    pub(super) fn user(&self, id: ConnId) -> Option<User> {
        if self.known.load(Ordering::Relaxed) == 0 {
            return None;
        }
        self.shard(id).profiles.get(&id)?.user.clone()
    }

    /// Says whose a connection is from now on, and by which log-in. What an earlier log-in brought is gone.
    pub(super) fn log_in(&self, id: ConnId, user: User, login: Login) -> Result<(), StateError> {
        self.change(id, |profile| {
            profile.log_out();
            profile.log_in(user, login);
            Ok(())
        })
    }

    /// Somebody leaves who is not connected here, or not any more: until this is dropped it is known whose it was.
    pub(super) fn lend(&self, id: ConnId, user: Option<User>) -> Lent<'_> {
        let Some(user) = user else { return Lent { registry: self, id: None } };
        let mut shard = self.shard(id);
        if shard.places.contains_key(&id) || shard.profiles.contains_key(&id) {
            return Lent { registry: self, id: None };
        }
        self.known.fetch_add(1, Ordering::Relaxed);
        shard.profiles.insert(id, Profile { user: Some(user), ..Profile::default() });
        Lent { registry: self, id: Some(id) }
    }

    /// The token of the log-in that a connection is somebody's by.
    pub(super) fn login_token(&self, id: ConnId) -> Option<TokenHash> {
        self.shard(id).profiles.get(&id)?.login.as_ref()?.token
    }

    /// The login of a connection continues under another token.
    pub(super) fn change_login_token(&self, id: ConnId, token: TokenHash) {
        if let Some(login) = self.shard(id).profiles.get_mut(&id).and_then(|profile| profile.login.as_mut()) {
            login.token = Some(token);
        }
    }

    /// Nobody from now on.
    pub(super) fn log_out(&self, id: ConnId) {
        // A connection that has ended is nobody's already.
        let _ = self.change(id, |profile| {
            profile.log_out();
            Ok(())
        });
    }

    /// Where a connection lives: with a worker, or as a request with these facts.
    pub(super) fn locate(&self, id: ConnId) -> Option<Result<Address, ConnFacts>> {
        self.shard(id).places.get(&id).map(|place| match place {
            Place::Worker(address, _) => Ok(*address),
            Place::Request(facts) => Err(ConnFacts::clone(facts)),
        })
    }

    /// Where a connection of this type lives.
    pub(super) fn locate_as(&self, id: ConnId, wanted: ConnectionType) -> Option<Address> {
        match self.shard(id).places.get(&id)? {
            Place::Worker(address, kind) if *kind == wanted => Some(*address),
            _ => None,
        }
    }

    /// The connections with a tag.
    pub(super) fn tagged(&self, tag: &str) -> Vec<ConnId> {
        lock(&self.tags).of(tag)
    }

    /// Returns all ids in order.
    pub(super) fn ids(&self) -> Vec<ConnId> {
        self.shards.iter().flat_map(|shard| lock(shard).places.keys().copied().collect::<Vec<_>>()).collect()
    }

    /// Returns at most `limit` ids in order, those after this one.
    pub(super) fn ids_after(&self, after: Option<ConnId>, limit: usize) -> Vec<ConnId> {
        let range = (after.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded);
        let mut ids = Vec::new();
        for shard in &self.shards[after.map_or(0, Self::shard_of)..] {
            let shard = lock(shard);
            ids.extend(shard.places.range(range).map(|(id, _)| *id).take(limit - ids.len()).inspect(|_| visit()));
            if ids.len() == limit {
                break;
            }
        }
        ids
    }

    pub(super) fn profile(&self, id: ConnId) -> Profile {
        self.shard(id).profiles.get(&id).cloned().unwrap_or_default()
    }

    pub(super) fn state_value(&self, id: ConnId, name: &str) -> Option<Value> {
        self.shard(id).profiles.get(&id)?.state.get(name).cloned()
    }

    /// Changes everything that the patch names, or nothing.
    pub(super) fn patch(&self, id: ConnId, patch: ConnectionPatch) -> Result<(), StateError> {
        self.change(id, |profile| profile.apply(patch))
    }

    /// Changes a connection's profile, or, with an error, nothing.
    fn change(
        &self,
        id: ConnId,
        change: impl FnOnce(&mut Profile) -> Result<(), StateError>,
    ) -> Result<(), StateError> {
        let mut shard = self.shard(id);
        if !shard.places.contains_key(&id) {
            return Err(StateError::NoSuchConnection);
        }
        let mut profile = shard.profiles.get(&id).cloned().unwrap_or_default();
        change(&mut profile)?;
        let (user, tags) = (profile.user.clone(), profile.tags.clone());
        let before = if profile.is_empty() { shard.profiles.remove(&id) } else { shard.profiles.insert(id, profile) };
        let before = before.unwrap_or_default();
        self.index_tags(id, &before.tags, &tags);
        self.index(id, before.user, user);
        Ok(())
    }
}

/// What is known of somebody while he leaves.
#[must_use = "it is forgotten when this is dropped"]
pub(super) struct Lent<'a> {
    registry: &'a Registry,
    id: Option<ConnId>,
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            self.registry.shard(id).profiles.remove(&id);
            self.registry.known.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

fn lock<T>(shard: &Mutex<T>) -> MutexGuard<'_, T> {
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
    use crate::node::profile::MAX_TAGS;
    use crate::visits::{assert_no_growth, visits_of};
    use serde_json::json;

    fn registry() -> (Registry, ConnId) {
        let registry = Registry::new();
        let id = ConnId::from_random(7);
        let place =
            Place::Worker(Address { worker: 0, key: ConnKey { slot: 1, generation: 2 } }, ConnectionType::Socket);
        registry.insert(id, place, State::default());
        (registry, id)
    }

    fn set_state(registry: &Registry, id: ConnId, name: &str, value: Value) -> Result<(), StateError> {
        registry.patch(id, ConnectionPatch { state: vec![(name.to_owned(), value)], ..Default::default() })
    }

    fn set_tags(registry: &Registry, id: ConnId, tags: &[String]) -> Result<(), StateError> {
        registry.patch(id, ConnectionPatch { tags: Some(tags.to_vec()), ..Default::default() })
    }

    #[test]
    fn a_tag_finds_the_connections_that_have_it_now() {
        let (registry, id) = registry();
        let tags = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        set_tags(&registry, id, &tags(&["a", "b"])).unwrap();
        assert_eq!((registry.tagged("a"), registry.tagged("b"), registry.tagged("c")), (vec![id], vec![id], vec![]));
        set_tags(&registry, id, &tags(&["b", "c"])).unwrap();
        assert_eq!((registry.tagged("a"), registry.tagged("b"), registry.tagged("c")), (vec![], vec![id], vec![id]));
        assert_eq!(set_tags(&registry, id, &tags(&[""])), Err(StateError::BadTag));
        assert_eq!(registry.tagged("b"), [id], "a patch that is refused changes nothing");
        registry.remove(id);
        assert!(lock(&registry.tags).is_empty());
    }

    #[test]
    fn finding_the_connections_with_a_tag_costs_the_same_among_many() {
        let [few, many] = [1000, 20_000].map(|count: u128| {
            let (registry, _) = registry();
            for number in 0..count {
                let id = ConnId::from_random(number << 96);
                let address = Address { worker: 0, key: ConnKey { slot: 0, generation: 0 } };
                registry.insert(id, Place::Worker(address, ConnectionType::Socket), State::default());
                set_tags(&registry, id, &[if number < 10 { "few" } else { "most" }.to_owned()]).unwrap();
            }
            visits_of(|| assert_eq!(registry.tagged("few").len(), 10))
        });
        assert_no_growth(few, many);
    }

    /// A registry of this many connections, whose ids are spread evenly.
    fn crowd(count: u128) -> (Registry, Vec<ConnId>) {
        let registry = Registry::new();
        let address = Address { worker: 0, key: ConnKey { slot: 0, generation: 0 } };
        let ids: Vec<ConnId> = (0..count).map(|number| ConnId::from_random(number * (u128::MAX / count))).collect();
        for id in ids.iter().rev() {
            registry.insert(*id, Place::Worker(address, ConnectionType::Socket), State::default());
        }
        (registry, ids)
    }

    #[test]
    fn pages_of_ids_follow_one_another_in_order_without_gap_or_overlap() {
        let (registry, ids) = crowd(300);
        assert_eq!(registry.ids(), ids);
        for limit in [1, 2, 7, 100, 299, 300, 301] {
            let mut read: Vec<ConnId> = Vec::new();
            loop {
                let page = registry.ids_after(read.last().copied(), limit);
                assert!(page.len() <= limit);
                if page.is_empty() {
                    break;
                }
                read.extend(page);
            }
            assert_eq!(read, ids, "{limit}");
        }
        assert!(registry.ids_after(None, 0).is_empty());
    }

    #[test]
    fn a_page_of_ids_costs_the_same_among_many() {
        let [few, many] = [1000, 20_000].map(|count| {
            let (registry, ids) = crowd(count);
            let middle = ids.len() / 2;
            visits_of(|| assert_eq!(registry.ids_after(Some(ids[middle]), 100), ids[middle + 1..][..100]))
        });
        assert_no_growth(few, many);
    }

    #[test]
    fn state_takes_scalars_and_never_facts() {
        let (registry, id) = registry();
        set_state(&registry, id, "authorized", json!(true)).unwrap();
        assert_eq!(registry.state_value(id, "authorized"), Some(json!(true)));
        for name in State::BUILT_IN {
            assert!(matches!(set_state(&registry, id, name, json!(1)), Err(StateError::BuiltIn(_))));
        }
        assert!(matches!(set_state(&registry, id, "a", json!([1])), Err(StateError::NotScalar(_))));
        set_state(&registry, id, "authorized", json!(null)).unwrap();
        assert_eq!(registry.profile(id), Profile::default());
        registry.remove(id);
        assert_eq!(set_state(&registry, id, "a", json!(1)), Err(StateError::NoSuchConnection));
    }

    #[test]
    fn state_is_bounded() {
        let (registry, id) = registry();
        for index in 0..64 {
            set_state(&registry, id, &format!("k{index}"), json!(index)).unwrap();
        }
        assert_eq!(set_state(&registry, id, "k64", json!(1)), Err(StateError::Full));
        set_state(&registry, id, "k63", json!("again")).unwrap();
        assert_eq!(set_state(&registry, id, "k63", json!("x".repeat(16 * 1024))), Err(StateError::Full));
        assert_eq!(registry.state_value(id, "k63"), Some(json!("again")));
    }

    #[test]
    fn tags_are_bounded() {
        let (registry, id) = registry();
        let tags = |count: usize| (0..count).map(|index| format!("t{index}")).collect::<Vec<_>>();
        set_tags(&registry, id, &tags(MAX_TAGS)).unwrap();
        assert_eq!(set_tags(&registry, id, &tags(MAX_TAGS + 1)), Err(StateError::TooManyTags));
        assert_eq!(registry.profile(id).tags.len(), MAX_TAGS);
        set_tags(&registry, id, &["b".into(), "a".into(), "b".into()]).unwrap();
        assert_eq!(registry.profile(id).tags, ["b", "a"]);
        for bad in ["", "a\nb", &"x".repeat(129)] {
            assert_eq!(set_tags(&registry, id, &[bad.to_owned()]), Err(StateError::BadTag));
        }
    }

    #[test]
    fn what_a_log_in_brought_goes_with_it() {
        let (registry, id) = registry();
        let login = |name: &str, value: Value| Login { token: None, state: vec![(name.into(), value)] };
        set_state(&registry, id, "mine", json!(1)).unwrap();
        let [one, two] = ["u1", "u2"].map(|user| User::new(user).unwrap());
        registry.log_in(id, one, login("staff", json!(true))).unwrap();
        assert_eq!((registry.connections_of("u1"), registry.connections_of("u2")), (vec![id], vec![]));
        assert_eq!(registry.state_value(id, "staff"), Some(json!(true)));
        registry.log_in(id, two, login("guest", json!(true))).unwrap();
        assert_eq!((registry.connections_of("u1"), registry.connections_of("u2")), (vec![], vec![id]));
        assert_eq!((registry.state_value(id, "staff"), registry.user(id).unwrap().id()), (None, "u2"));
        set_state(&registry, id, "guest", json!("set by the server since")).unwrap();
        registry.log_out(id);
        assert_eq!(registry.state_value(id, "guest"), Some(json!("set by the server since")));
        assert_eq!((registry.user(id), registry.state_value(id, "mine")), (None, Some(json!(1))));
        registry.remove(id);
        registry.log_out(id);
        assert_eq!((registry.user(id), registry.login_token(id)), (None, None));
    }

    #[test]
    fn whose_a_connection_was_is_known_while_it_leaves_and_no_longer() {
        let (registry, here) = registry();
        let (gone, user) = (ConnId::from_random(8), User::new("u1").unwrap());
        {
            let _lent = registry.lend(gone, Some(user.clone()));
            let _present = registry.lend(here, Some(user.clone()));
            assert_eq!((registry.user(gone), registry.user(here)), (Some(user), None));
            assert_eq!((registry.ids(), registry.connections_of("u1")), (vec![here], vec![]));
        }
        assert_eq!((registry.user(gone), registry.profile(gone)), (None, Profile::default()));
    }

    #[test]
    fn a_patch_changes_everything_or_nothing() {
        let (registry, id) = registry();
        let user = User::new("u1").unwrap();
        let patch = ConnectionPatch {
            state: vec![("a".into(), json!(1)), ("b".into(), json!(null))],
            user: Some(Some(user.clone())),
            tags: Some(vec!["t".into()]),
        };
        registry.patch(id, patch.clone()).unwrap();
        let before = registry.profile(id);
        assert_eq!((before.user.as_ref(), registry.user(id)), (Some(&user), Some(user.clone())));
        let bad = ConnectionPatch { user: Some(None), tags: Some(vec![String::new()]), ..patch };
        assert_eq!(registry.patch(id, bad), Err(StateError::BadTag));
        assert_eq!(registry.profile(id), before);
        registry.patch(id, ConnectionPatch { user: Some(None), ..Default::default() }).unwrap();
        assert_eq!((registry.user(id), registry.profile(id).tags), (None, vec!["t".to_owned()]));
    }
}
