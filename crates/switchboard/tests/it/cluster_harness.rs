//! The harness that tests of several nodes stand on, tried with single nodes and the memory backend: what it starts, stops,
//! records and finds.

use std::thread;
use std::time::Duration;

use serde_json::json;
use switchboard_testkit::cluster::{
    Cluster, ClusterOptions, Crowd, DEADLINE, Event, Recorder, RoomClient, Said, eventually,
};

fn options(nodes: usize) -> ClusterOptions {
    ClusterOptions::new(env!("CARGO_BIN_EXE_switchboard"), nodes).set("rooms.starting=[{ name = \"lobby\" }]")
}

/// One node, in whose lobby everybody may be.
fn node() -> Cluster {
    options(1).start()
}

#[test]
fn a_node_answers_on_all_its_addresses_and_ends_as_planned() {
    let cluster = node();
    assert_eq!((cluster.len(), cluster.name(0)), (1, "a"));
    let rooms = cluster.admin(0).ask("GET", "/v1/rooms").expect(200);
    assert_eq!(rooms["items"][0]["room"], json!("lobby"), "{rooms}");
    RoomClient::join_at(&Recorder::new(), cluster.socket_addr(0), &["lobby"]);
    let place = cluster.place(0);
    assert!(place.find().is_some() && cluster.is_running(0));
    assert_eq!(cluster.stop(0).code(), Some(0));
    assert!(place.find().is_none() && !cluster.is_running(0));
    assert!(cluster.log(0).contains("stopped"), "{}", cluster.log(0));
    cluster.restart(0);
    assert!(place.find().is_some() && cluster.probe(0).resident_bytes().unwrap() > 0);
}

#[test]
fn a_node_that_cannot_start_says_why() {
    let cluster = options(1).config("[limits]\nslow_consumer = \"kill\"").prepare();
    let reason = cluster.try_restart(0).unwrap_err();
    assert!(reason.contains("limits.slow_consumer") && !cluster.is_running(0), "{reason}");
}

#[test]
fn what_members_say_and_hear_makes_a_sound_history() {
    let (cluster, recorder) = (node(), Recorder::new());
    let members: Vec<_> = (0..4).map(|_| RoomClient::join_at(&recorder, cluster.socket_addr(0), &["lobby"])).collect();
    thread::scope(|scope| {
        for member in &members {
            scope.spawn(|| (0..25).for_each(|_| assert!(matches!(member.say("lobby"), Said::Acknowledged(Some(_))))));
        }
    });
    let Said::Acknowledged(Some(last)) = members[0].say("lobby") else { panic!("it is not said") };
    members[1..].iter().for_each(|member| member.await_number("lobby", last));
    assert_eq!(last, 101);
    cluster.record_presence(&recorder, 0, "lobby");
    let history = recorder.history();
    history.assert_ok("four that speak");
    assert_eq!((history.acknowledged(), history.heard()), (101, 3 * 101));
}

#[test]
fn refusals_leaves_and_lost_connections_are_recorded() {
    let (cluster, recorder) = (node(), Recorder::new());
    let [one, two] = [(); 2].map(|()| RoomClient::join_at(&recorder, cluster.socket_addr(0), &["lobby"]));
    assert_eq!(one.join("cellar"), Err("room does not exist".to_owned()));
    assert_eq!(one.say("cellar"), Said::Refused("connection not in this room".to_owned()));
    assert_eq!(one.view("roomView lobby").unwrap()["membersCount"], 2);
    one.leave("lobby").unwrap();
    two.say("lobby");
    eventually("one has left", || cluster.members(0, "lobby").len() == 1);
    cluster.record_presence(&recorder, 0, "lobby");
    one.join("lobby").unwrap();

    cluster.kill(0);
    assert!([&one, &two].into_iter().all(|client| client.await_end(DEADLINE) && !client.is_connected()));
    assert_eq!(two.say("lobby"), Said::Unknown);
    cluster.restart(0);
    // A room of the memory backend begins anew with its node, which nobody who was away is told.
    let before = two.member();
    two.move_to(cluster.socket_addr(0)).unwrap();
    one.move_to(cluster.socket_addr(0)).unwrap();
    assert_ne!(two.member(), before);
    assert_eq!(two.say("lobby"), Said::Acknowledged(Some(1)));
    one.await_number("lobby", 1);
    assert_eq!((one.heard(), two.rooms()), (1, vec![recorder.name("lobby")]));
    cluster.record_presence(&recorder, 0, "lobby");
    recorder.history().assert_ok("killed and started again");
    one.disconnect();
    eventually("one has left", || cluster.members(0, "lobby").len() == 1);
    cluster.record_presence(&recorder, 0, "lobby");
    recorder.history().assert_ok("disconnected");
}

#[test]
fn a_history_of_two_nodes_that_share_nothing_is_found_unsound() {
    let (cluster, recorder) = (options(2).start(), Recorder::new());
    let [one, two] = [0, 1].map(|node| RoomClient::join_at(&recorder, cluster.socket_addr(node), &["lobby"]));
    assert!(matches!(one.say("lobby"), Said::Acknowledged(Some(1))));
    assert!(matches!(two.say("lobby"), Said::Acknowledged(Some(1))));
    assert_eq!(recorder.history().check_rooms().len(), 2, "each misses what the other said");
    cluster.record_presence(&recorder, 0, "lobby");
    cluster.record_presence(&recorder, 1, "lobby");
    assert_eq!(recorder.history().check_presence().len(), 2);
}

#[test]
fn a_node_that_is_paused_answers_nobody_and_goes_on_where_it_was() {
    let (cluster, recorder) = (node(), Recorder::new());
    let [one, two] = [(); 2].map(|()| RoomClient::join_at(&recorder, cluster.socket_addr(0), &["lobby"]));
    cluster.pause(0);
    thread::scope(|scope| {
        let said = scope.spawn(|| one.say("lobby"));
        eventually("it is sent", || {
            recorder.history().entries.iter().any(|entry| matches!(entry.event, Event::Sent { .. }))
        });
        assert!(cluster.is_running(0) && two.heard() == 0);
        cluster.cont(0);
        assert_eq!(said.join().unwrap(), Said::Acknowledged(Some(1)));
    });
    two.await_number("lobby", 1);
    recorder.history().assert_ok("paused");
}

#[test]
fn a_crowd_comes_back_to_the_nodes_that_run_and_hears_everything_meanwhile() {
    const MEMBERS: usize = 300;
    let (cluster, recorder) = (options(2).start(), Recorder::new());
    let crowd = Crowd::join(&recorder, "lobby", MEMBERS, (0..2).map(|node| cluster.place(node)).collect());
    crowd.await_inside();
    assert_eq!((cluster.members(0, "lobby").len(), cluster.members(1, "lobby").len()), (MEMBERS / 2, MEMBERS / 2));
    let speaker = RoomClient::join_at(&recorder, cluster.socket_addr(1), &["lobby"]);
    for _ in 0..10 {
        speaker.say("lobby");
    }
    crowd.await_heard(10 * MEMBERS as u64 / 2);
    cluster.kill(0);
    crowd.await_absences(MEMBERS / 2);
    crowd.await_inside();
    assert!(crowd.longest_absence() > Duration::ZERO && crowd.longest_absence() < DEADLINE);
    assert_eq!((crowd.absences().len(), crowd.inside()), (MEMBERS / 2, MEMBERS));
    speaker.say("lobby");
    crowd.await_heard(10 * MEMBERS as u64 / 2 + MEMBERS as u64);
    eventually("all are at the other node", || cluster.members(1, "lobby").len() == MEMBERS + 1);
    cluster.record_presence(&recorder, 1, "lobby");
    recorder.history().assert_ok("a node was killed");
    drop(crowd);
    eventually("the crowd has left", || cluster.members(1, "lobby").len() == 1);
    cluster.record_presence(&recorder, 1, "lobby");
    recorder.history().assert_ok("the crowd has left");
}
