//! Sessions of other nodes: what differs from a node's own.

use super::*;
use crate::visits::{assert_no_growth, visits_of};

const NODE: u16 = 7;

fn described(number: u32, name: &str, is_settling: bool) -> Described {
    Described {
        connection: conn(number),
        user: user(name),
        taking: Some(Taking { since_unix_ms: 5, is_settling }),
        data: Some(data(json!({"canListenToHeartbeat": true}))),
        paused: None,
        resumed_unix_ms: None,
        health: Health::default(),
    }
}

/// An engine of a cluster that knows session 1 of bob on another node.
fn rig() -> Rig {
    let mut rig = Rig { engine: Engine::in_cluster(CommandLimits::default()), ..Rig::new() };
    hear(&mut rig, described(1, "bob", false));
    rig
}

fn hear(rig: &mut Rig, described: Described) {
    rig.engine.hear(NODE, described, rig.now, &mut rig.out);
}

fn close(rig: &mut Rig, number: u32) {
    rig.engine.close_elsewhere(NODE, conn(number), rig.now, &mut rig.out);
}

#[test]
fn a_session_elsewhere_is_asked_like_any_other() {
    let mut rig = rig();
    rig.online(2, "bob");
    rig.send(1, to_user("bob"), Mode::First);
    let next = rig.engine.next_outgoing().unwrap();
    assert_eq!(next.to, [Home::Here(address(2)), Home::Elsewhere(NODE)], "the latest first");
    assert_eq!(rig.deliver(), "1>2 1>1");
    assert!(rig.reply(1, 1, "bob"));
    assert_eq!(rig.outcomes(), "1 replied 2/2/1");
}

#[test]
fn what_may_have_been_handed_over_elsewhere_is_handed_to_nobody_else() {
    let mut rig = rig();
    rig.send(1, to_user("bob"), Mode::One);
    assert_eq!(rig.leave(), "1>1");
    close(&mut rig, 1);
    hear(&mut rig, described(2, "bob", false));
    rig.online(3, "bob");
    assert_eq!((rig.leave(), rig.outcomes()), (String::new(), String::new()));
    // Its node says at last that it had left before.
    rig.fate(1, 1, CommandFate::Gone);
    assert_eq!(rig.deliver(), "1>3");
    assert!(rig.reply(1, 3, "bob"));
    assert_eq!(rig.outcomes(), "1 replied 2/1/1");
}

#[test]
fn commands_for_clients_of_a_node_that_died_end() {
    let mut rig = rig();
    hear(&mut rig, described(2, "-", false));
    rig.send(1, to_connection(2, "-"), Mode::First);
    rig.send(2, to_list(&[1, 2]), Mode::All);
    rig.send_fast(3, to_user("bob"), Mode::First);
    rig.leave();
    close(&mut rig, 1);
    close(&mut rig, 2);
    assert_eq!(rig.outcomes(), "3 disconnected 1/1/0; 1 disconnected 1/1/0");
    rig.at(5000);
    assert_eq!(rig.outcomes(), "2 disconnected 2/2/0 (1 disconnected, 2 disconnected)");
}

#[test]
fn a_session_that_settles_elsewhere_is_waited_for() {
    let mut rig = rig();
    close(&mut rig, 1);
    hear(&mut rig, described(2, "bob", true));
    rig.send_fast(1, to_user("bob"), Mode::First);
    assert_eq!((rig.leave(), rig.outcomes()), (String::new(), String::new()));
    hear(&mut rig, described(2, "bob", false));
    assert_eq!(rig.deliver(), "1>2");
    assert!(rig.out.settling.is_empty(), "its own node keeps the time");
    // It stopped and began anew, and only the latter was heard.
    hear(&mut rig, described(2, "bob", true));
    rig.send(2, to_user("bob"), Mode::First);
    assert_eq!(rig.leave(), "");
    hear(&mut rig, described(2, "bob", false));
    assert_eq!(rig.leave(), "2>2");
}

#[test]
fn each_node_asks_its_own_sessions_for_heartbeats_and_counts_them() {
    let mut rig = rig();
    assert_eq!((rig.engine.heartbeats(), rig.engine.figures().sessions), (0, 0));
    rig.online(2, "bob");
    rig.says(2, "bob", json!({"canListenToHeartbeat": true}));
    assert_eq!((rig.engine.heartbeats(), rig.engine.figures().sessions), (1, 1));
}

#[test]
fn a_pause_is_told_to_the_node_of_the_connection() {
    let mut rig = rig();
    rig.try_send(1, to_user("bob"), Mode::First, |order| {
        let document = CommandDocument { key: PAUSE.into(), ..CommandDocument::clone(&order.document) };
        (order.document, order.sender) = (Arc::new(document), Some("ann".into()));
    })
    .unwrap();
    rig.deliver();
    assert!(rig.reply(1, 1, "bob"));
    let paused = Paused { since_unix_ms: 1000, by: Some("ann".into()) };
    assert_eq!(rig.out.obeyed, [(conn(1), Obeyed::Pause(paused.clone()))]);
    assert!(rig.out.paused.is_empty() && rig.engine.client(conn(1)).unwrap().paused.is_none());
    // On that node it is one of its own.
    rig.online(2, "bob");
    rig.out.changed.clear();
    for _ in 0..2 {
        rig.engine.obeyed(conn(2), Obeyed::Pause(paused.clone()), &mut rig.out);
    }
    assert_eq!((&rig.out.paused, &rig.out.changed), (&vec![(address(2), true)], &vec![conn(2)]));
    assert_eq!(rig.engine.described(conn(2)).unwrap().paused, Some(paused));
    rig.engine.obeyed(conn(2), Obeyed::Resume(7), &mut rig.out);
    assert_eq!(rig.out.paused[1], (address(2), false));
}

#[test]
fn nobody_hears_anything_about_a_connection_from_a_node_that_is_not_its_own() {
    let mut rig = rig();
    rig.online(2, "joe");
    rig.engine.hear(8, described(1, "joe", false), rig.now, &mut rig.out);
    hear(&mut rig, described(2, "bob", false));
    rig.engine.close_elsewhere(8, conn(1), rig.now, &mut rig.out);
    rig.engine.close_elsewhere(NODE, conn(2), rig.now, &mut rig.out);
    let user = |rig: &Rig, number| rig.engine.user_of(conn(number)).unwrap().cloned();
    assert_eq!((user(&rig, 1).unwrap().id(), user(&rig, 2).unwrap().id()), ("bob", "joe"));
}

#[test]
fn times_rise_for_each_connection_though_nodes_disagree_on_the_order() {
    let mut rig = rig();
    rig.online(2, "bob");
    assert_eq!((rig.engine.later(conn(2), 50), rig.engine.later(conn(2), 40)), (50, 51));
    rig.send(1, to_connection(2, "bob"), Mode::First);
    rig.engine.next_outgoing().unwrap();
    assert_eq!(rig.engine.send_next(45, rig.now)[0].delivery.ts, 52);
}

#[test]
fn what_is_for_somebody_else_by_now_is_not_handed_over() {
    let mut rig = rig();
    rig.online(2, "bob");
    let asked = |rig: &Rig, number, name| rig.engine.address_of(conn(number), user(name).as_ref());
    assert_eq!(asked(&rig, 2, "bob"), Some(address(2)));
    assert_eq!((asked(&rig, 2, "joe"), asked(&rig, 2, "-"), asked(&rig, 1, "bob")), (None, None, None));
    rig.engine.stop_taking(conn(2), rig.now, &mut rig.out);
    assert_eq!(asked(&rig, 2, "bob"), None);
}

#[test]
fn others_are_told_of_own_connections_in_the_order_of_activity() {
    let mut rig = rig();
    (2..7).for_each(|number| rig.online(number, "joe"));
    rig.engine.touch(conn(3));
    let told = |rig: &Rig, after, limit| {
        let found = rig.engine.described_after(after, limit);
        (found.iter().map(|(_, told)| told.connection).collect::<Vec<_>>(), found.last().map_or(0, |(rank, _)| *rank))
    };
    let (first, rank) = told(&rig, 0, 2);
    assert_eq!(first, [conn(2), conn(4)]);
    assert_eq!(told(&rig, rank, 10).0, [conn(5), conn(6), conn(3)]);
    let (active, rank) = rig.engine.active_after(rank);
    assert_eq!(active, [conn(5), conn(6), conn(3)]);
    rig.engine.touch(conn(5));
    assert_eq!(rig.engine.active_after(rank).0, [conn(5)]);
}

/// An engine of a cluster with this many own connections, numbered from 1.
fn crowd(count: u32) -> Rig {
    let mut rig = Rig { engine: Engine::in_cluster(CommandLimits::default()), ..Rig::new() };
    (1..=count).for_each(|number| rig.online(number, "joe"));
    rig
}

#[test]
fn telling_other_nodes_a_part_costs_the_same_among_many_clients() {
    let [few, many] = [1000, 20_000].map(|count| {
        let rig = crowd(count);
        let (_, rank) = rig.engine.active_after(0);
        visits_of(|| assert_eq!(rig.engine.described_after(rank / 2, 256).len(), 256))
    });
    assert_no_growth(few, many);
}

#[test]
fn telling_other_nodes_who_was_active_costs_the_same_among_many_clients() {
    let [few, many] = [1000, 20_000].map(|count| {
        let mut rig = crowd(count);
        let (_, rank) = rig.engine.active_after(0);
        (1..=10).for_each(|number| rig.engine.touch(conn(number)));
        visits_of(|| assert_eq!(rig.engine.active_after(rank).0.len(), 10))
    });
    assert_no_growth(few, many);
}

#[test]
fn connections_that_ended_or_live_elsewhere_are_not_among_the_own_ones() {
    let mut rig = rig();
    rig.online(2, "joe");
    rig.engine.close(conn(2), rig.now, &mut rig.out);
    rig.engine.touch_elsewhere(NODE, conn(1));
    assert_eq!((rig.engine.described_after(0, 10).len(), rig.engine.active_after(0).0.len()), (0, 0));
}
