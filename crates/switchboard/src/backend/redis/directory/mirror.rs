//! What this node has noted in the directory: known here without asking, so that it can be compared, and noted again. Pure.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use switchboard_proto::id::{ConnId, RoomName};

/// The memberships of this node.
#[derive(Debug, Default)]
pub(super) struct Mirror {
    rooms: HashMap<RoomName, HeldRoom>,
    count: u64,
    last_number: u64,
}

/// A room that this node has members in.
#[derive(Debug, Default)]
struct HeldRoom {
    life: Life,
    /// The oldest pattern that a member was looked at by.
    checked: u64,
    members: HashMap<ConnId, Held>,
}

/// Which life of a room it is, and its pattern, as it was known last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Life {
    /// The generation of the store in which this was known. Another one has nothing to say about it.
    pub(super) generation: u64,
    /// When it was made: no other life of the room has the same.
    pub(super) made: u64,
    /// The version of the pattern.
    pub(super) version: u64,
    /// The pattern as text.
    pub(super) pattern: Arc<str>,
}

/// A membership.
#[derive(Clone, Debug)]
pub(super) struct Held {
    /// No other membership has the same.
    pub(super) number: u64,
    /// Its row, without the place in the order of joining.
    pub(super) tail: Arc<str>,
    /// Its place; none before it is noted.
    pub(super) order: Option<u64>,
}

impl Mirror {
    /// Somebody is about to be noted. The result is the number of the membership.
    pub(super) fn begin(&mut self, room: &RoomName, id: ConnId, tail: Arc<str>, checked: u64) -> u64 {
        self.last_number += 1;
        let number = self.last_number;
        let held = self.rooms.entry(room.clone()).or_insert_with(|| HeldRoom { checked, ..HeldRoom::default() });
        held.checked = held.checked.min(checked);
        if held.members.insert(id, Held { number, tail, order: None }).is_none() {
            self.count += 1;
        }
        number
    }

    /// It is noted. `false`: it has ended meanwhile.
    pub(super) fn confirm(&mut self, room: &RoomName, id: ConnId, number: u64, order: u64) -> bool {
        let held = self.rooms.get_mut(room).and_then(|held| held.members.get_mut(&id));
        let held = held.filter(|held| held.number == number);
        held.map(|held| held.order = Some(order)).is_some()
    }

    /// What is known of the room now.
    pub(super) fn learn(&mut self, room: &RoomName, life: Life) {
        if let Some(held) = self.rooms.get_mut(room) {
            let known = &held.life;
            let is_older = (life.generation, life.version) < (known.generation, known.version);
            // Members of a room that was destroyed are not in the one that was made in its place: the comparison finds that.
            let is_another = life.generation == known.generation && known.made > 0 && life.made != known.made;
            if !is_older && !is_another {
                held.life = life;
            }
        }
    }

    /// A membership ends. `None`: there was none, or another one than that of this number.
    pub(super) fn end(&mut self, room: &RoomName, id: ConnId, number: Option<u64>) -> Option<Held> {
        let Entry::Occupied(mut rooms) = self.rooms.entry(room.clone()) else { return None };
        let is_it = rooms.get().members.get(&id).is_some_and(|held| number.is_none_or(|number| held.number == number));
        let ended = is_it.then(|| rooms.get_mut().members.remove(&id)).flatten()?;
        self.count -= 1;
        if rooms.get().members.is_empty() {
            rooms.remove();
        }
        Some(ended)
    }

    /// A room is no more.
    pub(super) fn forget(&mut self, room: &RoomName) {
        if let Some(held) = self.rooms.remove(room) {
            self.count -= held.members.len() as u64;
        }
    }

    pub(super) fn clear(&mut self) {
        self.rooms.clear();
        self.count = 0;
    }

    pub(super) fn count(&self) -> u64 {
        self.count
    }

    pub(super) fn rooms(&self) -> impl Iterator<Item = &RoomName> {
        self.rooms.keys()
    }

    pub(super) fn life(&self, room: &RoomName) -> Option<&Life> {
        // Before the first member is noted nothing is known.
        self.rooms.get(room).map(|held| &held.life).filter(|life| life.made > 0)
    }

    pub(super) fn checked(&self, room: &RoomName) -> Option<u64> {
        self.rooms.get(room).map(|held| held.checked)
    }

    /// The members were looked at by the pattern of this version.
    pub(super) fn note_checked(&mut self, room: &RoomName, version: u64) {
        if let Some(held) = self.rooms.get_mut(room) {
            held.checked = held.checked.max(version);
        }
    }

    /// All memberships in a room.
    pub(super) fn members(&self, room: &RoomName) -> Vec<(ConnId, Held)> {
        let members = self.rooms.get(room).into_iter().flat_map(|held| &held.members);
        members.map(|(id, held)| (*id, held.clone())).collect()
    }

    /// The number of a membership.
    pub(super) fn number(&self, room: &RoomName, id: ConnId) -> Option<u64> {
        self.rooms.get(room)?.members.get(&id).map(|held| held.number)
    }

    /// Whether there is such a membership, of whatever number.
    pub(super) fn has(&self, room: &RoomName, id: ConnId) -> bool {
        self.rooms.get(room).is_some_and(|held| held.members.contains_key(&id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn room() -> RoomName {
        RoomName::parse("lobby").unwrap()
    }

    fn id(number: u128) -> ConnId {
        ConnId::from_random(number)
    }

    #[test]
    fn a_membership_that_ended_is_not_confirmed_and_another_one_does_not_end_in_its_place() {
        let mut mirror = Mirror::default();
        let first = mirror.begin(&room(), id(1), "a".into(), 1);
        assert!(mirror.end(&room(), id(1), None).is_some());
        assert!(!mirror.confirm(&room(), id(1), first, 1));
        let second = mirror.begin(&room(), id(1), "b".into(), 1);
        assert!(mirror.end(&room(), id(1), Some(first)).is_none());
        assert!(mirror.confirm(&room(), id(1), second, 5));
        assert_eq!(mirror.members(&room())[0].1.order, Some(5));
        assert_eq!(mirror.count(), 1);
        mirror.forget(&room());
        assert_eq!((mirror.count(), mirror.rooms().count()), (0, 0));
    }

    #[test]
    fn a_room_was_looked_at_when_all_its_members_were() {
        let mut mirror = Mirror::default();
        mirror.begin(&room(), id(1), "a".into(), 5);
        mirror.begin(&room(), id(2), "b".into(), 3);
        mirror.begin(&room(), id(3), "c".into(), 9);
        assert_eq!(mirror.checked(&room()), Some(3));
        mirror.note_checked(&room(), 7);
        mirror.note_checked(&room(), 4);
        assert_eq!(mirror.checked(&room()), Some(7));
    }

    #[test]
    fn what_is_older_or_of_another_life_of_the_room_is_not_learnt() {
        let mut mirror = Mirror::default();
        mirror.begin(&room(), id(1), "a".into(), 5);
        let life = |generation, version| Life { generation, made: 1, version, pattern: "".into() };
        let another = |generation| Life { made: 9, ..life(generation, 9) };
        assert_eq!(mirror.life(&room()), None);
        mirror.learn(&room(), life(2, 5));
        mirror.learn(&room(), life(2, 4));
        mirror.learn(&room(), life(1, 9));
        mirror.learn(&room(), another(2));
        assert_eq!(mirror.life(&room()), Some(&life(2, 5)));
        mirror.learn(&room(), another(3));
        assert_eq!(mirror.life(&room()), Some(&another(3)));
    }
}
