//! Rooms that several nodes share: made, destroyed and restricted at any of them, with members on all.

use std::collections::BTreeSet;
use std::sync::mpsc::sync_channel;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use switchboard::proto::id::ConnId;
use switchboard_testkit::client::{LineClient, PATIENCE};

use super::cluster_support::Nodes;
use super::ddp_support::{MINE, PASSWORD, ROOMS, users};
use super::peer::{eventually, within};

/// A member of these rooms on each of the nodes.
fn members(nodes: &Nodes, count: usize, rooms: &[&str]) -> Vec<LineClient> {
    (0..count).map(|node| nodes.node(node).connect_into(1, rooms).remove(0)).collect()
}

/// The members of a room, as a node shows them.
fn shown(nodes: &Nodes, asked: usize, room: &str) -> BTreeSet<String> {
    let room = nodes.operator(asked).ask("GET", &format!("/v1/rooms/{room}")).expect(200);
    room["members"].as_object().expect("an object").keys().cloned().collect()
}

#[test]
fn a_room_is_left_on_all_nodes_when_one_destroys_it() {
    let nodes = Nodes::start(3, &[]);
    nodes.operator(0).send("POST", "/v1/rooms", &json!({"room": "lobby"})).expect(201);
    nodes.operator(1).send("POST", "/v1/rooms", &json!({"room": "lobby"})).expect(200);
    let (left, leaves) = sync_channel(16);
    for index in 0..3 {
        let left = left.clone();
        let note = move |change: &switchboard::node::hooks::MembershipChange| {
            left.send((index, change.connection().id())).expect("it is read");
        };
        nodes.node(index).node().add_leave_callback(100, note);
    }
    let mut clients = members(&nodes, 3, &["lobby"]);
    let ids: Vec<ConnId> = clients.iter().enumerate().map(|(node, client)| nodes.node(node).id_of(client)).collect();
    let everybody: BTreeSet<String> = ids.iter().map(ConnId::to_string).collect();
    for asked in 0..3 {
        assert_eq!(shown(&nodes, asked, "lobby"), everybody, "{asked}");
    }

    nodes.operator(1).ask("DELETE", "/v1/rooms/lobby").expect(200);
    // Nobody is in it any more when the answer comes, and each has left once, on his own node.
    for (index, client) in clients.iter_mut().enumerate() {
        assert_eq!(client.read_json()["message"], "this room has been deleted");
        assert_eq!(client.ask("detailsView")["data"]["rooms"], json!([]));
        nodes.operator(index).ask("GET", "/v1/rooms/lobby").expect_error(404, "room_not_found");
        nodes.operator(index).ask("DELETE", "/v1/rooms/lobby").expect_error(404, "room_not_found");
    }
    let mut seen: Vec<_> = (0..3).map(|_| leaves.recv_timeout(PATIENCE).expect("he leaves")).collect();
    seen.sort_unstable();
    assert_eq!(seen, ids.into_iter().enumerate().collect::<Vec<_>>());
    assert!(leaves.try_recv().is_err());

    // Another room of that name has nobody in it.
    nodes.operator(2).send("POST", "/v1/rooms", &json!({"room": "lobby"})).expect(201);
    assert_eq!(clients[0].ask("roomAdd lobby")["data"], true);
    assert_eq!(shown(&nodes, 1, "lobby").len(), 1);
}

#[test]
fn fault_row_20_a_new_pattern_holds_on_all_nodes_within_a_second() {
    let nodes = Nodes::start(3, &[]);
    let mut clients: Vec<LineClient> =
        (0..3).flat_map(|node| nodes.node(node).connect_into(2, &["defaultRoom"])).collect();
    let ids: Vec<ConnId> =
        clients.iter().enumerate().map(|(index, client)| nodes.node(index / 2).id_of(client)).collect();
    // On each node one of the two is of the staff, as any node may say.
    for (index, id) in ids.iter().enumerate().step_by(2) {
        let path = format!("/v1/connections/{id}");
        nodes.operator((index + 1) % 3).send("PATCH", &path, &json!({"state": {"staff": true}})).expect(200);
    }
    let began = Instant::now();
    nodes.operator(0).send("PUT", "/v1/rooms/defaultRoom/auth", &json!({"key": "staff", "value": true})).expect(200);
    let staff: BTreeSet<String> = ids.iter().step_by(2).map(ConnId::to_string).collect();
    for (index, client) in clients.iter_mut().enumerate() {
        let rooms = if index % 2 == 0 { json!(["defaultRoom"]) } else { json!([]) };
        assert_eq!(client.ask("detailsView")["data"]["rooms"], rooms, "{index}");
        assert_eq!(shown(&nodes, index / 2, "defaultRoom"), staff, "{index}");
    }
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    assert_eq!(clients[3].ask("roomAdd defaultRoom")["status"], "not authorized to join room");
    nodes.operator(2).ask("DELETE", "/v1/rooms/defaultRoom/auth").expect(200);
    assert_eq!(clients[3].ask("roomAdd defaultRoom")["data"], true);
}

#[test]
fn who_listens_to_all_public_rooms_hears_those_that_other_nodes_make() {
    let nodes = Nodes::start(2, &[&users(), "servers.ddp.public_rooms_to_all=true"]);
    let mut ann = nodes.node(1).ddp_as("ann");
    ann.sub(ROOMS, json!([MINE, false])).expect("everybody may");
    nodes.operator(0).send("POST", "/v1/rooms", &json!({"room": "news"})).expect(201);
    let mut speaker = nodes.node(0).connect_into(1, &["news"]).remove(0);
    speaker.ask("say news one");
    assert_eq!(ann.heard(ROOMS)[0]["msg"], "one");
    // Closed to everybody who is no member, and opened again.
    let restricted = json!({"key": "type", "value": "socket"});
    nodes.operator(0).send("PUT", "/v1/rooms/news/auth", &restricted).expect(200);
    speaker.ask("say news two");
    nodes.operator(0).ask("DELETE", "/v1/rooms/news/auth").expect(200);
    speaker.ask("say news three");
    assert_eq!(ann.heard(ROOMS)[0]["msg"], "three");
}

#[test]
fn a_listener_to_all_public_rooms_hears_what_was_said_before_its_node_learnt_of_the_room() {
    let nodes = Nodes::start(2, &[&users(), "servers.ddp.public_rooms_to_all=true"]);
    let mut ann = nodes.node(1).ddp_as("ann");
    ann.sub(ROOMS, json!([MINE, false])).expect("any user may");
    // Members may join and speak before the room's maker has its answer.
    let mut speaker = nodes.node(0).connect();
    thread::scope(|scope| {
        scope.spawn(|| nodes.operator(0).send("POST", "/v1/rooms", &json!({"room": "news"})).expect(201));
        eventually("it is there", || speaker.ask("roomAdd news")["data"] == true);
        for text in ["one", "two", "three"] {
            speaker.ask(&format!("say news {text}"));
        }
    });
    let heard: Vec<Value> = (0..3).map(|_| ann.heard(ROOMS)[0]["msg"].clone()).collect();
    assert_eq!(heard, ["one", "two", "three"]);
}

/// Has another node make a room and publish in it before the listeners of this node may subscribe. They subscribe once
/// `meanwhile` has ended, and hear all of it. Returns how often the room's log was read.
fn reads_of_a_new_room(listeners: usize, denied: &str, meanwhile: impl FnOnce(&dyn Fn(&str) -> u64)) -> u64 {
    let nodes = Nodes::start(2, &[&users(), "servers.ddp.public_rooms_to_all=true"]);
    let mut listeners: Vec<_> = (0..listeners).map(|_| nodes.node(1).ddp_as("ann")).collect();
    for listener in &mut listeners {
        listener.sub(ROOMS, json!([MINE, false])).expect("any user may");
    }
    let redis = nodes.redis();
    let reads = |which: &str| {
        let stats = redis.command(&["INFO", "commandstats"]);
        let line = stats.lines().find_map(|line| line.strip_prefix("cmdstat_xrange:")).unwrap_or_default().to_owned();
        let count = line.split(',').find_map(|part| part.strip_prefix(which)?.strip_prefix('='));
        count.map_or(0, |count| count.trim().parse().expect("a number"))
    };
    let before = reads("calls");
    redis.command(&["ACL", "SETUSER", "default", "-subscribe", denied]);
    thread::scope(|scope| {
        // Answered once the other node has offered the room.
        scope.spawn(|| nodes.operator(0).send("POST", "/v1/rooms", &json!({"room": "news"})).expect(201));
        let publish =
            |text: &str| nodes.operator(0).send("POST", "/v1/rooms/news/broadcast", &json!({"message": text}));
        eventually("the room exists", || publish("one").status < 300);
        publish("two").expect(200);
        redis.command(&["ACL", "SETUSER", "default", "+subscribe"]);
        meanwhile(&reads);
        redis.command(&["ACL", "SETUSER", "default", "+@all"]);
    });
    for listener in &mut listeners {
        assert_eq!([(); 2].map(|()| listener.heard(ROOMS)[0]["msg"].clone()), ["one", "two"]);
    }
    reads("calls") - before
}

#[test]
fn the_log_of_a_new_room_is_read_once_for_each_worker_however_many_connections_listen() {
    let reads = reads_of_a_new_room(12, "+xrange", |_| {});
    assert!((1..=2).contains(&reads), "two workers, {reads} reads");
}

#[test]
fn listeners_hear_a_new_room_whose_log_cannot_be_read_at_first() {
    let reads = reads_of_a_new_room(3, "-xrange", |reads| {
        eventually("the node was refused", || reads("rejected_calls") > 0);
    });
    assert!((1..=2).contains(&reads), "two workers, {reads} reads");
}

#[test]
fn a_client_that_cannot_listen_because_the_store_fails_is_told_or_listens_later() {
    let nodes = Nodes::start(1, &[&users(), "servers.ddp.public_rooms_to_all=true"]);
    nodes.operator(0).send("POST", "/v1/rooms", &json!({"room": "news"})).expect(201);
    let mut told = nodes.node(0).ddp();
    let token = told.log_in("ann", PASSWORD);
    let mut later = nodes.node(0).ddp();
    later.sub(ROOMS, json!([MINE, false])).expect("it sleeps until a user logs in");
    nodes.redis().command(&["ACL", "SETUSER", "default", "-hmget"]);
    let refused = told.sub(ROOMS, json!([MINE, false])).expect_err("the room cannot be read");
    assert_eq!(refused["error"], 500);
    later.resume(&token);
    nodes.redis().command(&["ACL", "SETUSER", "default", "+@all"]);
    told.sub(ROOMS, json!([MINE, false])).expect("the store answers again");
    let publish = || nodes.operator(0).send("POST", "/v1/rooms/news/broadcast", &json!({"message": "m"})).expect(200);
    publish();
    assert_eq!(told.heard(ROOMS)[0]["msg"], "m");
    eventually("the other one listens too", || {
        publish();
        // The answer comes after the message, if the message comes.
        later.call("nothing", json!([])).expect_err("there is no such method");
        later.has_kept()
    });
    assert_eq!(later.heard(ROOMS)[0]["msg"], "m");
}

#[test]
fn a_room_that_several_nodes_make_and_destroy_at_once_ends_in_one_state() {
    let nodes = Nodes::start(3, &[]);
    let rounds = 30;
    let counts: Vec<(usize, usize)> = thread::scope(|scope| {
        let asking = (0..3).map(|asked| {
            let operator = nodes.operator(asked);
            scope.spawn(move || {
                let (mut made, mut destroyed) = (0, 0);
                for _ in 0..rounds {
                    let status = operator.send("POST", "/v1/rooms", &json!({"room": "r"})).status;
                    // It may be destroyed before it is shown.
                    assert!([200, 201, 404].contains(&status), "{status}");
                    made += 1;
                    let status = operator.ask("DELETE", "/v1/rooms/r").status;
                    assert!([200, 404].contains(&status), "{status}");
                    destroyed += usize::from(status == 200);
                }
                (made, destroyed)
            })
        });
        let asking: Vec<_> = asking.collect();
        asking.into_iter().map(|asking| asking.join().expect("it does not panic")).collect()
    });
    assert!(counts.iter().any(|(_, destroyed)| *destroyed > 0), "{counts:?}");
    // Whoever came last has destroyed it: it is nowhere, and can be made and used as ever.
    for asked in 0..3 {
        nodes.operator(asked).ask("GET", "/v1/rooms/r").expect_error(404, "room_not_found");
    }
    nodes.operator(0).send("POST", "/v1/rooms", &json!({"room": "r"})).expect(201);
    let mut clients = members(&nodes, 3, &["r"]);
    let said = clients[0].ask("say r hello");
    assert_eq!(said["status"], "OK", "{said}");
    for client in &mut clients[1..] {
        assert_eq!(client.read_json()["message"], "hello");
    }
}

#[test]
fn patterns_that_several_nodes_set_at_once_end_in_one_that_all_members_match() {
    let nodes = Nodes::start(2, &[]);
    for round in 0..10 {
        let room = format!("r{round}");
        nodes.operator(0).send("POST", "/v1/rooms", &json!({"room": room})).expect(201);
        // On each node one for each pattern.
        let mut clients: Vec<(LineClient, ConnId, usize)> = Vec::new();
        for node in 0..2 {
            for team in 0..2 {
                let client = nodes.node(node).connect_into(1, &[&room]).remove(0);
                let id = nodes.node(node).id_of(&client);
                let state = json!({"state": {"team": team}});
                nodes.operator(node).send("PATCH", &format!("/v1/connections/{id}"), &state).expect(200);
                clients.push((client, id, team));
            }
        }
        thread::scope(|scope| {
            for team in 0..2 {
                let (operator, path) = (nodes.operator(team), format!("/v1/rooms/{room}/auth"));
                scope.spawn(move || operator.send("PUT", &path, &json!({"key": "team", "value": team})).expect(200));
            }
        });
        let auth = nodes.operator(0).ask("GET", &format!("/v1/rooms/{room}")).expect(200)["auth"].clone();
        // Whoever does not match the one that counts is outside; who matches it may have been removed by the other one.
        let members: BTreeSet<String> = shown(&nodes, 1, &room);
        for (client, id, team) in &mut clients {
            let is_inside = client.ask("detailsView")["data"]["rooms"] == json!([room]);
            assert_eq!(members.contains(&id.to_string()), is_inside);
            assert!(!is_inside || auth == json!({"team": team}), "{auth} {team}");
        }
    }
}

#[test]
fn what_one_node_joins_or_leaves_the_others_show_at_once() {
    let nodes = Nodes::start(2, &[]);
    let mut client = nodes.node(0).connect();
    let id = nodes.node(0).id_of(&client).to_string();
    let is_shown = || shown(&nodes, 1, "defaultRoom").contains(&id);
    for _ in 0..5 {
        client.ask("roomAdd defaultRoom");
        assert!(within(Duration::from_millis(500), is_shown));
        client.ask("roomLeave defaultRoom");
        assert!(within(Duration::from_millis(500), || !is_shown()));
    }
    client.ask("roomAdd defaultRoom");
    drop(client);
    eventually("it is out", || !is_shown());
    let rooms: Value = nodes.operator(1).ask("GET", "/v1/rooms").expect(200);
    assert_eq!(rooms["items"], json!([{"room": "defaultRoom", "membersCount": 0, "auth": null}]));
}
