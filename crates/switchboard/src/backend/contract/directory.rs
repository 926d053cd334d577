//! What every directory must do: alone, and where several nodes share one, whichever of them is asked.

use std::time::Duration;

use switchboard_proto::call::ConnectionType;
use switchboard_proto::face::{ConnFacts, Remote};
use switchboard_proto::id::{ConnId, RoomName};

use super::super::memory::MemoryDirectory;
use super::super::redis::testing::{self, TestStore};
use super::{block_on, done, room};
use crate::backend::{AddRoomError, Directory, DirectorySize, NewMember, Pattern};
use crate::op::Op;

/// Directories that are one: each of a node.
struct Subject {
    nodes: Vec<Box<dyn Directory>>,
}

impl Subject {
    fn memory() -> Self {
        Self { nodes: vec![Box::new(MemoryDirectory::default())] }
    }

    fn over(test: &TestStore) -> Self {
        let node = |name: &str| -> Box<dyn Directory> { Box::new(test.directory(name, Duration::from_secs(60)).0) };
        Self { nodes: vec![node("one"), node("two")] }
    }

    /// Each time the next node.
    fn any(&mut self) -> &dyn Directory {
        self.nodes.rotate_left(1);
        &*self.nodes[0]
    }
}

/// A rule, asked of each directory.
fn each(rule: fn(&mut Subject)) {
    rule(&mut Subject::memory());
    rule(&mut Subject::over(&testing::single()));
    rule(&mut Subject::over(&testing::cluster()));
}

fn member(number: u128, joined_at: u64) -> NewMember {
    let facts = ConnFacts {
        id: ConnId::from_random(number),
        kind: ConnectionType::Socket,
        remote: Remote::Unix,
        connected_at: 1,
        fingerprint: None,
    };
    NewMember { facts, user: None, joined_at, checked: 0 }
}

fn add(subject: &mut Subject, name: &str, max_rooms: usize) -> Result<bool, AddRoomError> {
    match subject.any().add_room(&room(name), Pattern::new(), max_rooms) {
        Op::Ready(result) => result,
        Op::Wait(future) => block_on(future),
    }
}

fn names(rooms: &[RoomName]) -> Vec<&str> {
    rooms.iter().map(RoomName::as_str).collect()
}

fn ids(subject: &mut Subject, name: &str) -> Option<Vec<(ConnId, u64)>> {
    let members = done(subject.any().members(&room(name)))?;
    Some(members.into_iter().map(|member| (member.id, member.joined_at)).collect())
}

#[test]
fn a_room_is_made_once_listed_sorted_and_counted() {
    each(|subject| {
        for name in ["b", "a", "{ü}"] {
            assert!(add(subject, name, 3).unwrap());
            assert!(!add(subject, name, 3).unwrap(), "it is there");
        }
        assert!(matches!(add(subject, "c", 3), Err(AddRoomError::TooMany)));
        assert!(!add(subject, "a", 3).unwrap(), "that there are too many matters to new ones only");
        assert_eq!(names(&done(subject.any().rooms())), ["a", "b", "{ü}"]);
        assert_eq!(done(subject.any().size()).rooms, 3);
        assert!(done(subject.any().room(&room("c"))).is_none());
        assert_eq!(ids(subject, "c"), None);
    });
}

#[test]
fn pages_of_rooms_follow_one_another_in_the_order_of_names() {
    each(|subject| {
        for name in ["c", "a", "{ü}", "b", "A", "z"] {
            assert!(add(subject, name, 9).unwrap());
        }
        assert!(done(subject.any().add_room(&RoomName::direct("u1", "u2"), Pattern::new(), 10)));
        done(subject.any().set_pattern(&room("b"), Pattern::new().with("plan", "gold")));
        done(subject.nodes[0].add_member(&room("c"), member(1, 1)));
        for limit in 1..=7 {
            let (mut found, mut after) = (Vec::new(), None);
            loop {
                let page = done(subject.any().page(after.as_ref(), limit));
                assert!(page.rooms.len() <= limit);
                found.extend(page.rooms.into_iter().map(|(name, info)| (name.to_string(), info.members_count)));
                after = page.next;
                if after.is_none() {
                    break;
                }
            }
            let expected = [("A", 0), ("a", 0), ("b", 0), ("c", 1), ("z", 0), ("{ü}", 0)];
            assert!(found.iter().map(|(name, count)| (name.as_str(), *count)).eq(expected), "{limit} {found:?}");
        }
        let page = done(subject.any().page(Some(&room("a")), 1));
        assert_eq!(*page.rooms[0].1.pattern, Pattern::new().with("plan", "gold"));
        assert!(done(subject.any().begin_destroy(&room("b"))));
        done(subject.any().forget(&room("b")));
        let page = done(subject.any().page(Some(&room("a")), 1));
        assert_eq!((page.rooms[0].0.as_str(), page.next), ("c", Some(room("c"))));
    });
}

#[test]
fn the_count_in_memory_follows_every_room_and_member() {
    let memory = &mut Subject::memory();
    let counts = |memory: &mut Subject, rooms, members| {
        let size = DirectorySize { rooms, members };
        assert_eq!((memory.any().counted(), done(memory.any().size())), (Some(size), size));
    };
    counts(memory, 0, 0);
    for name in ["a", "b"] {
        assert!(add(memory, name, 9).unwrap());
        // The same member twice is one member.
        for number in [1, 2, 2] {
            assert!(done(memory.any().add_member(&room(name), member(number, 1))));
        }
    }
    counts(memory, 2, 4);
    for _ in 0..2 {
        done(memory.any().remove_member(&room("a"), member(1, 1).facts.id));
    }
    counts(memory, 2, 3);
    assert_eq!([true, false], [(); 2].map(|()| done(memory.any().begin_destroy(&room("b")))));
    counts(memory, 1, 1);
    done(memory.any().remove_member(&room("b"), member(2, 1).facts.id));
    done(memory.any().forget(&room("b")));
    counts(memory, 1, 1);
    done(memory.any().forget(&room("a")));
    counts(memory, 0, 0);
}

#[test]
fn rooms_of_two_users_are_listed_like_all_others() {
    each(|subject| {
        let direct = RoomName::direct("u1", "u2");
        assert!(done(subject.any().add_room(&direct, Pattern::new(), 10)));
        assert_eq!(done(subject.any().rooms()), [direct]);
    });
}

#[test]
fn a_room_begins_with_its_pattern_and_a_new_one_replaces_it() {
    each(|subject| {
        let pattern = Pattern::new().with("plan", "gold").with("n", 1);
        assert!(done(subject.any().add_room(&room("a"), pattern.clone(), 9)));
        let first = done(subject.any().room(&room("a"))).unwrap();
        assert_eq!(*first.pattern, pattern);
        assert!(!done(subject.any().add_room(&room("a"), Pattern::new(), 9)));
        assert_eq!(*done(subject.any().room(&room("a"))).unwrap().pattern, pattern);
        assert!(done(subject.any().set_pattern(&room("a"), Pattern::new())));
        let second = done(subject.any().room(&room("a"))).unwrap();
        assert_eq!(*second.pattern, Pattern::new());
        let is_shared = subject.any().shared().is_some();
        assert!(!is_shared || second.version > first.version, "{} {}", second.version, first.version);
        assert!(!done(subject.any().set_pattern(&room("none"), Pattern::new())));
    });
}

#[test]
fn members_are_told_in_the_order_of_joining_whatever_their_clocks_say() {
    each(|subject| {
        add(subject, "a", 9).unwrap();
        for (number, joined_at) in [(1, 30), (2, 20), (3, 10)] {
            let node = number as usize % subject.nodes.len();
            assert!(done(subject.nodes[node].add_member(&room("a"), member(number, joined_at))));
        }
        assert!(!done(subject.any().add_member(&room("none"), member(4, 1))));
        let told = [(1, 30), (2, 20), (3, 10)].map(|(number, at)| (ConnId::from_random(number), at));
        assert_eq!(ids(subject, "a").unwrap(), told);
        assert_eq!(done(subject.any().room(&room("a"))).unwrap().members_count, 3);
        for node in &subject.nodes {
            // Whoever has it takes it out; for the others it is not theirs.
            done(node.remove_member(&room("a"), told[1].0));
            done(node.remove_member(&room("none"), told[1].0));
        }
        assert_eq!(ids(subject, "a").unwrap(), [told[0], told[2]]);
    });
}

#[test]
fn nobody_joins_a_room_that_is_being_destroyed_and_nothing_is_left_of_it() {
    each(|subject| {
        add(subject, "a", 9).unwrap();
        done(subject.any().set_pattern(&room("a"), Pattern::new().with("plan", "gold")));
        assert!(done(subject.nodes[0].add_member(&room("a"), member(1, 1))));
        assert!(!done(subject.any().begin_destroy(&room("none"))));
        assert!(done(subject.any().begin_destroy(&room("a"))));
        assert!(!done(subject.any().begin_destroy(&room("a"))), "somebody does");
        assert!(!done(subject.any().add_member(&room("a"), member(2, 1))));
        assert!(!done(subject.any().set_pattern(&room("a"), Pattern::new())));
        assert!(!add(subject, "a", 9).unwrap());
        assert!(done(subject.any().room(&room("a"))).is_none() && ids(subject, "a").is_none());
        assert_eq!(names(&done(subject.any().rooms())), [""; 0]);
        done(subject.nodes[0].forget(&room("a")));
        assert!(add(subject, "a", 1).unwrap());
        assert_eq!(*done(subject.any().room(&room("a"))).unwrap().pattern, Pattern::new());
        assert_eq!(ids(subject, "a"), Some(vec![]));
    });
}
