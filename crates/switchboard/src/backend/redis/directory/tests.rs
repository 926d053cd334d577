//! What Redis adds to the contract: nodes that die, a store that forgets, rows that nobody wrote.

use std::time::Duration;

use switchboard_proto::call::ConnectionType;
use switchboard_proto::face::{ConnFacts, Fingerprint, Remote};
use switchboard_proto::user::User;

use super::*;
use crate::backend::contract::{done, room};
use crate::backend::redis::testing::{self, TestStore};
use crate::backend::shared::{Left, LeftRow, Mended, Remains};

/// Longer than any test takes.
const LEASE: Duration = Duration::from_secs(60);

fn member(number: u128) -> NewMember {
    let facts = ConnFacts {
        id: ConnId::from_random(number),
        kind: ConnectionType::WebSocket,
        remote: Remote::Ip([127, 0, 0, 1].into(), 7),
        connected_at: 5,
        fingerprint: Some(Fingerprint::from("f")),
    };
    NewMember { facts, user: User::new("u").ok(), joined_at: 1, checked: 0 }
}

fn id(number: u128) -> ConnId {
    ConnId::from_random(number)
}

/// A room with members one to three: the first two of one node, the third of another.
fn begin() -> (TestStore, [RedisDirectory; 2]) {
    let test = testing::single();
    let nodes = ["one", "two"].map(|name| test.directory(name, LEASE).0);
    done(nodes[0].add_room(&room("a"), Pattern::new().with("plan", "gold"), 9));
    let checked = done(nodes[0].room(&room("a"))).unwrap().version;
    for (number, node) in [(1, 0), (2, 0), (3, 1)] {
        assert!(done(nodes[node].add_member(&room("a"), NewMember { checked, ..member(number) })));
    }
    (test, nodes)
}

fn entry(directory: &RedisDirectory) -> NodeEntry {
    let own = directory.0.store.standing.incarnation();
    directory.0.nodes.all().into_iter().find(|node| node.incarnation == own).unwrap()
}

fn members(directory: &RedisDirectory) -> Vec<ConnId> {
    let members = done(directory.members(&room("a"))).unwrap_or_default();
    members.into_iter().map(|member| member.id).collect()
}

fn key(test: &TestStore, what: &str) -> String {
    test.store.keys.room("a", what)
}

/// As if this node had known the store for long.
fn trust(directory: &RedisDirectory) {
    let long_ago = Instant::now().checked_sub(LEASE * 3).unwrap();
    *lock(&directory.0.known) = (directory.0.store.standing.generation(), long_ago);
}

/// Has a node vanish from the list of those that live.
fn vanish(test: &TestStore, node: &NodeEntry) {
    test.ask(&["HDEL", &test.store.keys.nodes("list"), &node.slot.to_string()]);
}

/// All that a dead node has in the room, part by part.
fn left_by(survivor: &RedisDirectory, dead: &RedisDirectory) -> Vec<LeftRow> {
    let (dead, mut all, mut cursor) = (entry(dead), Vec::new(), None);
    loop {
        let Remains { left, next } = done(survivor.left_by(&dead, &room("a"), cursor));
        all.extend(left);
        match next {
            Some(next) => cursor = Some(next),
            None => break,
        }
    }
    all.sort_unstable_by_key(|left| left.departed.facts.id);
    // Redis may show a row twice.
    all.dedup_by_key(|left| left.departed.facts.id);
    all
}

#[test]
fn fault_row_33_members_of_a_dead_node_stay_noted_until_their_leave_is_announced() {
    let (test, [dead, survivor]) = begin();
    let next_survivor = test.directory("three", LEASE).0;
    let left = left_by(&survivor, &dead);
    let (expected, first) = (member(1).facts, &left[0].departed);
    assert_eq!((left.len(), first.facts.id, first.facts.remote), (2, id(1), expected.remote));
    assert_eq!((first.facts.kind, first.facts.connected_at), (expected.kind, expected.connected_at));
    assert_eq!((first.facts.fingerprint(), first.user.as_ref().map(User::id)), (Some("f"), Some("u")));
    // The first survivor has announced one of them, and dies.
    done(survivor.remove_left(&room("a"), &left[..1]));
    assert_eq!(members(&survivor), [2, 3].map(id));
    let rest = left_by(&next_survivor, &dead);
    assert_eq!(rest.iter().map(|left| left.departed.facts.id).collect::<Vec<_>>(), [id(2)]);
    for _ in 0..2 {
        done(next_survivor.remove_left(&room("a"), &rest));
        assert_eq!(members(&next_survivor), [id(3)]);
    }
    assert!(left_by(&next_survivor, &dead).is_empty());
    // What the dead node believes has no effect.
    done(dead.remove_member(&room("a"), id(3)));
    assert_eq!(members(&survivor), [id(3)]);
}

#[test]
fn fault_row_33_thousands_of_members_of_a_dead_node_are_found_in_parts() {
    let (_test, [dead, survivor]) = begin();
    for number in 10..1500 {
        assert!(done(dead.add_member(&room("a"), member(number))));
    }
    let first = done(survivor.left_by(&entry(&dead), &room("a"), None));
    assert!(first.next.is_some() && first.left.len() < 1000, "{}", first.left.len());
    let left = left_by(&survivor, &dead);
    assert_eq!(left.len(), 1492);
    done(survivor.remove_left(&room("a"), &left));
    assert_eq!(members(&survivor), [id(3)]);
}

#[test]
fn a_session_that_another_node_has_taken_over_keeps_its_place_and_stays_when_its_node_is_cleaned_up_after() {
    let (_test, [dead, survivor]) = begin();
    let left = left_by(&survivor, &dead);
    assert!(done(survivor.add_member(&room("a"), member(1))));
    assert_eq!(members(&survivor), [1, 2, 3].map(id));
    done(survivor.remove_left(&room("a"), &left));
    assert_eq!(members(&survivor), [1, 3].map(id));
    assert!(left_by(&survivor, &dead).is_empty());
}

#[test]
fn what_a_page_of_rooms_costs_does_not_depend_on_how_many_rooms_there_are() {
    let server = testing::Server::start(&[]);
    let counted = |rooms: usize| {
        let test = testing::TestStore::on(&server);
        let directory = test.directory("one", LEASE).0;
        // As a version writes them that does not know the sorted list.
        let script = "for i = 1, ARGV[2] do local name = string.format('r%05d', i) redis.call('SADD', KEYS[1], name) \
            redis.call('HSET', ARGV[1] .. ':{r:' .. name .. '}:facts', 'made', 1, 'version', 1, 'pattern', '') end";
        let list = test.store.keys.nodes("rooms");
        let prefix = list.split(":{").next().unwrap();
        test.ask(&["EVAL", script, "1", &list, prefix, &rooms.to_string()]);
        assert_eq!(done(directory.page(None, 10)).rooms.len(), 10, "the list is sorted once");
        let mut after = Some(RoomName::parse("r00500").unwrap());
        test.ask(&["CONFIG", "RESETSTAT"]);
        for page in 0..3 {
            let found = done(directory.page(after.as_ref(), 100));
            let expected = (1..=100).map(|at| format!("r{:05}", 500 + page * 100 + at));
            assert!(found.rooms.iter().map(|(name, _)| name.as_str().to_owned()).eq(expected));
            after = found.next;
        }
        let stats = server.ask("INFO commandstats").unwrap();
        let calls = |line: &str| line.split("calls=").nth(1)?.split(',').next()?.parse::<u64>().ok();
        assert!(!stats.contains("cmdstat_smembers"), "{stats}");
        // Signs of life come when they come.
        let of_pages = |line: &&str| {
            ["evalsha", "zrangebylex", "sismember", "hmget", "hlen"].iter().any(|name| line.contains(name))
        };
        stats.lines().filter(of_pages).filter_map(calls).sum::<u64>()
    };
    let [few, many] = [1000, 20_000].map(counted);
    assert!(few > 0 && many * 10 <= few * 13, "{few} {many}");
}

#[test]
fn rooms_that_another_version_lists_or_takes_off_are_on_the_pages() {
    let (test, [one, two]) = begin();
    for name in ["b", "c"] {
        assert!(done(one.add_room(&room(name), Pattern::new(), 9)));
    }
    let listed = || done(two.page(None, 9)).rooms.into_iter().map(|(name, _)| name.to_string()).collect::<Vec<_>>();
    assert_eq!(listed(), ["a", "b", "c"]);
    // As many as before, and others.
    let rooms = test.store.keys.nodes("rooms");
    test.ask(&["SREM", &rooms, "b"]);
    test.ask(&["SADD", &rooms, "d"]);
    test.ask(&["HSET", &test.store.keys.room("d", "facts"), "made", "1", "version", "1", "pattern", ""]);
    assert_eq!(listed(), ["a", "c", "d"]);
}

#[test]
fn fault_row_34_a_node_that_may_be_dead_for_the_others_changes_nothing() {
    let (_test, [fenced, other]) = begin();
    fenced.0.store.standing.end();
    for op in [fenced.remove_member(&room("a"), id(1)), fenced.forget(&room("a"))] {
        let error = crate::backend::contract::block_on(op.into_future()).unwrap_err();
        assert!(error.to_string().contains("fenced"), "{error}");
    }
    assert_eq!(members(&other), [1, 2, 3].map(id));
    fenced.let_go();
    assert_eq!((fenced.held(), fenced.held_rooms().len()), (0, 0));
    // Nothing is known here any more: whoever leaves has no row to remove.
    done(fenced.remove_member(&room("a"), id(2)));
}

#[test]
fn fault_row_48_what_the_store_has_forgotten_is_noted_again_by_those_who_know_it() {
    let (test, [one, two]) = begin();
    let version = done(one.room(&room("a"))).unwrap().version;
    test.ask(&["DEL", &key(&test, "facts"), &key(&test, "members"), &test.store.keys.nodes("rooms")]);
    assert_eq!(members(&one), []);
    // Another node has made it again by its configuration, which is older than what is known of it.
    assert!(done(two.restore(&room("b"), Some(Pattern::new()))));
    assert!(!done(two.restore(&room("c"), None)), "nobody knows it");
    assert!(done(one.restore(&room("a"), None)) && done(two.restore(&room("a"), Some(Pattern::new()))));
    let info = done(two.room(&room("a"))).unwrap();
    assert_eq!((info.members_count, info.version), (3, version));
    assert_eq!(*info.pattern, Pattern::new().with("plan", "gold"));
    assert_eq!(members(&two), [1, 2, 3].map(id), "in the same order");
    assert_eq!(done(two.rooms()).len(), 2);
}

#[test]
fn what_is_missing_or_left_over_of_this_node_is_put_right_and_counted() {
    let (test, [one, _two]) = begin();
    test.ask(&["HDEL", &key(&test, "members"), &row::name(id(1))]);
    one.release(&room("a"), id(2));
    test.ask(&["SREM", &test.store.keys.nodes("rooms"), "a"]);
    let found = done(one.compare(&room("a")));
    assert_eq!(found.mended, Mended { missing: 1, stale: 1, rooms: 1, ..Mended::default() });
    assert_eq!(members(&one), [1, 3].map(id));
    let found = done(one.compare(&room("a")));
    assert_eq!(found.mended, Mended::default());
    assert!(matches!(found.left, Left::Nothing));
}

#[test]
fn fault_row_53_rows_that_nobody_wrote_are_removed_and_disturb_nobody() {
    let (test, [one, _two]) = begin();
    let rows = key(&test, "members");
    for (name, text) in [("x", "y"), (&*row::name(id(9)), "1\t2"), (&*row::name(id(8)), "")] {
        test.ask(&["HSET", &rows, name, text]);
    }
    test.ask(&["SADD", &test.store.keys.nodes("rooms"), "", "dangling"]);
    assert_eq!(members(&one), [1, 2, 3].map(id));
    assert_eq!(done(one.all_rooms()).len(), 2, "the empty name is none");
    trust(&one);
    assert_eq!(done(one.compare(&room("a"))).mended, Mended { garbage: 3, ..Mended::default() });
    assert_eq!(done(one.compare(&room("dangling"))).mended.rooms, 0, "it may be about to be made");
    assert_eq!(done(one.compare(&room("dangling"))).mended.rooms, 1);
    test.ask(&["HSET", &key(&test, "facts"), "pattern", "nonsense"]);
    assert!(crate::backend::contract::block_on(one.room(&room("a")).into_future()).is_err(), "nobody joins");
    let found = done(one.compare(&room("a")));
    assert!(matches!(found.left, Left::Nothing), "the version is the same");
    test.ask(&["SET", &key(&test, "facts"), "of another type"]);
}

#[test]
fn members_of_nodes_that_are_not_there_leave_once_unless_they_are_being_buried() {
    let (test, [one, _two]) = begin();
    for number in [7, 8] {
        let text = format!("9\t{}", row::tail(&row::owner(900, 77), &member(number)));
        test.ask(&["HSET", &key(&test, "members"), &row::name(id(number)), &text]);
    }
    let graves = test.store.keys.nodes("graves");
    test.ask(&["HSET", &graves, "900", "77\tgone\t{}"]);
    trust(&one);
    assert!(done(one.compare(&room("a"))).departed.is_empty(), "somebody buries it");
    test.ask(&["DEL", &graves]);
    *lock(&one.0.known) = (0, Instant::now());
    assert!(done(one.compare(&room("a"))).departed.is_empty(), "others may not have said yet that they live");
    trust(&one);
    let found = done(one.compare(&room("a")));
    assert_eq!((found.departed.len(), found.mended.foreign), (2, 2));
    assert_eq!(members(&one), [1, 2, 3].map(id));
}

#[test]
fn whoever_missed_the_end_of_a_room_or_a_new_pattern_is_told() {
    let (_test, [one, two]) = begin();
    assert!(done(two.set_pattern(&room("a"), Pattern::new())));
    let Left::Recheck { version, pattern } = done(one.compare(&room("a"))).left else { panic!("it was missed") };
    assert_eq!(*pattern, Pattern::new());
    one.note_checked(&room("a"), version);
    assert!(matches!(done(one.compare(&room("a"))).left, Left::Nothing));

    assert!(done(two.begin_destroy(&room("a"))));
    assert!(matches!(done(one.compare(&room("a"))).left, Left::Nothing), "somebody does it");
    done(two.forget(&room("a")));
    assert!(matches!(done(one.compare(&room("a"))).left, Left::Evict));
    assert!(done(two.add_room(&room("a"), Pattern::new(), 9)));
    assert!(matches!(done(one.compare(&room("a"))).left, Left::Evict), "it is another room");
    for number in [1, 2] {
        done(one.remove_member(&room("a"), id(number)));
    }
    assert!(matches!(done(one.compare(&room("a"))).left, Left::Nothing));
}

#[test]
fn a_room_whose_destroyer_is_dead_is_to_be_destroyed_by_another() {
    let (test, [gone, one]) = begin();
    assert!(done(gone.begin_destroy(&room("a"))));
    assert!(matches!(done(one.compare(&room("a"))).left, Left::Nothing));
    vanish(&test, &entry(&gone));
    assert!(matches!(done(one.compare(&room("a"))).left, Left::Destroy));
    assert_eq!(names(&done(one.all_rooms())), ["a"], "it is on no list of rooms, and yet found");
    done(one.forget(&room("a")));
    assert_eq!(names(&done(one.all_rooms())), [""; 0]);
}

fn names(rooms: &[RoomName]) -> Vec<&str> {
    rooms.iter().map(RoomName::as_str).collect()
}

#[test]
fn a_key_of_a_wrong_type_is_moved_aside_and_its_room_is_made_again_by_those_who_know_it() {
    for what in ["facts", "members"] {
        let (test, [one, two]) = begin();
        done(one.add_room(&room("b"), Pattern::new(), 9));
        test.ask(&["DEL", &key(&test, what)]);
        test.ask(&["SET", &key(&test, what), "of another type"]);
        let seen = crate::backend::contract::block_on(one.members(&room("a")).into_future());
        assert!(seen.is_err(), "{what}: the first one fails");
        assert_eq!(done(two.members(&room("b"))).map(|members| members.len()), Some(0), "other rooms are as they were");
        assert!(done(one.restore(&room("a"), None)) && done(two.restore(&room("a"), None)));
        assert_eq!(members(&two), [1, 2, 3].map(id), "{what}");
        assert_eq!(test.ask(&["TYPE", &format!("{}:damaged", key(&test, what))]).text(), Some("string"));
    }
}
