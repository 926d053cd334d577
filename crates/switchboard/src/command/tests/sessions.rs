//! Sessions and what is known of them.

use super::*;
use crate::visits::{assert_no_growth, visits_of};

#[test]
fn a_session_settles_when_its_time_is_over_with_its_data_or_without() {
    let mut rig = Rig::new();
    rig.settling(1, "bob");
    rig.settling(2, "eve");
    rig.send(1, to_user("bob"), Mode::First);
    rig.send(2, to_user("eve"), Mode::First);
    assert_eq!(rig.leave(), "");
    let first = rig.out.settling[0];
    rig.says(1, "bob", json!({}));
    rig.says(1, "bob", json!({"again": true}));
    assert_eq!(rig.leave(), "", "it has yet to read that its data was understood");
    let [_, Settling { connection: who, generation, has_data: false }, with_data] = rig.out.settling[..] else {
        panic!("{:?}", rig.out.settling)
    };
    assert_eq!((who, with_data.connection, with_data.has_data), (conn(2), conn(1), true));
    rig.engine.ready(conn(1), first.generation, rig.now, &mut rig.out);
    assert_eq!(rig.leave(), "", "the time without data counts no more");
    rig.engine.ready(conn(1), with_data.generation, rig.now, &mut rig.out);
    assert_eq!(rig.leave(), "1>1");
    // A former session's time does not count for the next one.
    rig.engine.stop_taking(conn(2), rig.now, &mut rig.out);
    rig.settling(2, "eve");
    rig.engine.ready(conn(2), generation, rig.now, &mut rig.out);
    assert_eq!(rig.leave(), "");
    let generation = rig.out.settling[3].generation;
    rig.engine.ready(conn(2), generation, rig.now, &mut rig.out);
    assert_eq!(rig.leave(), "2>2");
}

#[test]
fn a_session_whose_data_came_first_is_ready() {
    let mut rig = Rig::new();
    rig.says(1, "bob", json!({"commands": ["k"]}));
    rig.send(1, to_user("bob"), Mode::First);
    assert_eq!(rig.leave(), "", "data alone does not make a session");
    rig.settling(1, "bob");
    assert_eq!((rig.leave().as_str(), rig.out.settling.len()), ("1>1", 0));
    // Saying so once more changes nothing.
    rig.settling(1, "bob");
    rig.online(1, "bob");
    assert_eq!(rig.engine.figures().sessions, 1);
}

#[test]
fn client_data_ends_with_the_subscription_and_delivered_commands_do_not() {
    let mut rig = Rig::new();
    rig.online(1, "bob");
    rig.says(1, "bob", json!({"commands": ["k"]}));
    rig.send_fast(1, to_user("bob"), Mode::First);
    rig.deliver();
    rig.send_fast(2, to_user("bob"), Mode::First);
    rig.engine.stop_taking(conn(1), rig.now, &mut rig.out);
    assert_eq!(rig.outcomes(), "2 disconnected 1/0/0", "it was not sent yet");
    let view = rig.engine.client(conn(1)).unwrap();
    assert_eq!(
        (view.takes_commands_since_unix_ms, view.data, view.capabilities),
        (None, None, Capabilities::default())
    );
    assert!(rig.reply(1, 1, "bob"));
    assert_eq!(rig.outcomes(), "1 replied 1/1/1");
}

#[test]
fn for_its_former_user_a_session_that_changes_hands_has_left() {
    let mut rig = Rig::new();
    rig.online(1, "bob");
    rig.send_fast(1, to_user("bob"), Mode::First);
    rig.send(2, to_user("eve"), Mode::First);
    rig.deliver();
    rig.engine.set_user(conn(1), Some(User::named("bob", "Bob").unwrap()), rig.now, &mut rig.out);
    assert_eq!(rig.outcomes(), "", "another name is the same user");
    rig.engine.set_user(conn(1), user("eve"), rig.now, &mut rig.out);
    assert_eq!(rig.outcomes(), "1 disconnected 1/1/0");
    assert_eq!(rig.deliver(), "2>1");
    // A connection that gets its first user remains what it was, and is his from now on.
    rig.online(2, "-");
    rig.send(3, to_connection(2, "-"), Mode::First);
    rig.deliver();
    rig.send(4, to_user("joe"), Mode::First);
    rig.engine.set_user(conn(2), user("joe"), rig.now, &mut rig.out);
    assert_eq!(rig.deliver(), "4>2");
    assert!(rig.reply(3, 2, "joe"));
    assert!(rig.reply(4, 2, "joe"));
    assert!(rig.reply(2, 1, "eve"));
}

#[test]
fn a_client_that_leaves_heartbeats_unanswered_is_unresponsive() {
    let mut rig = Rig::new();
    rig.online(1, "bob");
    rig.online(2, "bob");
    rig.says(1, "bob", json!({"canListenToHeartbeat": true}));
    rig.says(2, "bob", json!({"commands": true}));
    assert_eq!((rig.engine.heartbeats(), rig.engine.next_heartbeat(None)), (1, Some(conn(1))));
    assert_eq!(rig.engine.next_heartbeat(Some(conn(1))), None);
    let view = |rig: &Rig| {
        let view = rig.engine.client(conn(1)).unwrap();
        (view.status.as_str(), view.ping_ms, view.heard_unix_ms, view.is_silent_from_start)
    };
    rig.engine.note_heartbeat(conn(1), None, rig.now, &mut rig.out);
    assert_eq!(view(&rig), ("unresponsive", None, None, true));
    rig.engine.note_heartbeat(conn(1), Some(12), rig.now, &mut rig.out);
    assert_eq!(view(&rig), ("online", Some(12), Some(1000), false));
    rig.at(10);
    rig.engine.note_heartbeat(conn(1), None, rig.now, &mut rig.out);
    assert_eq!(view(&rig), ("unresponsive", Some(12), Some(1000), false));
    // Any answer shows that it lives.
    rig.send(1, to_user("bob"), Mode::First);
    rig.deliver();
    assert!(rig.reply(1, 1, "bob"));
    assert_eq!(view(&rig), ("online", Some(12), Some(1010), false));
    assert_eq!(rig.engine.client(conn(9)), None);
}

#[test]
fn who_is_asked_for_a_heartbeat_follows_session_data_and_connection() {
    let mut rig = Rig::new();
    let names = json!({"canListenToHeartbeat": true});
    let asked = |rig: &Rig| rig.engine.next_heartbeat(None).is_some();
    rig.settling(1, "bob");
    rig.says(1, "bob", names.clone());
    assert!(!asked(&rig), "it does not listen yet");
    rig.settle();
    assert!(asked(&rig));
    rig.says(1, "bob", json!({}));
    assert!(!asked(&rig), "it no longer names heartbeats");
    rig.says(1, "bob", names.clone());
    rig.engine.stop_taking(conn(1), rig.now, &mut rig.out);
    assert!(!asked(&rig));
    rig.says(1, "bob", names.clone());
    rig.online(1, "bob");
    assert!(asked(&rig), "its data came first");
    rig.close(1);
    assert!(!asked(&rig) && rig.engine.is_empty());
}

#[test]
fn finding_the_next_connection_to_ask_for_a_heartbeat_costs_the_same_among_many() {
    let [few, many] = [1000, 20_000].map(|count: u32| {
        let mut rig = Rig::new();
        for number in 1..=count {
            rig.online(number, "bob");
            rig.says(number, "bob", json!({"canListenToHeartbeat": true}));
        }
        visits_of(|| assert_eq!(rig.engine.next_heartbeat(Some(conn(count / 2))), Some(conn(count / 2 + 1))))
    });
    assert_no_growth(few, many);
}
