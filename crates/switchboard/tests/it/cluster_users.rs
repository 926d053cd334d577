//! Users with sessions on several nodes: their rooms, their rooms of two, their tokens.

use serde_json::{Value, json};
use switchboard::proto::id::ConnId;
use switchboard_testkit::cluster::{RedisOptions, RedisServer};

use super::cluster_support::Nodes;
use super::ddp_support::{PASSWORD, ROOMS, refused, said, users, words};
use super::peer::eventually;

const OPEN: &str = "rooms.starting=[{ name = \"open\" }, { name = \"staff\", auth = { staff = true } }]";

fn start(count: usize) -> Nodes {
    Nodes::start(count, &[&users(), OPEN])
}

#[test]
fn a_user_joins_and_leaves_with_the_sessions_that_he_has_on_all_nodes() {
    let nodes = start(3);
    let mut sessions: Vec<_> = (0..3).map(|node| nodes.node(node).ddp_in("bot", &[])).collect();
    let mut ids: Vec<ConnId> =
        sessions.iter_mut().enumerate().map(|(node, session)| nodes.node(node).id_of_ddp(session)).collect();
    ids.sort_unstable();
    let members = |asked: usize| {
        let status = nodes.node(asked).wait(nodes.node(asked).node().room_status("open")).unwrap();
        let mut members: Vec<ConnId> = status.members.into_iter().map(|member| member.id).collect();
        members.sort_unstable();
        members
    };
    // All are in it when the answer comes, whichever of them asks.
    for (joins, leaves) in [(0, 1), (1, 2), (2, 0)] {
        assert_eq!(sessions[joins].call("joinRoom", json!(["open"])), Ok(json!(true)));
        assert_eq!(members(leaves), ids);
        sessions[leaves].call("sendMessage", json!([{"rid": "open", "msg": "to all"}])).unwrap();
        for session in &mut sessions {
            assert_eq!(said(&session.heard(ROOMS)[0]).0, "to all");
        }
        assert_eq!(sessions[leaves].call("leaveRoom", json!(["open"])), Ok(Value::Null));
        assert_eq!(members(joins), []);
        for session in &mut sessions {
            let not_inside = words("error-user-not-in-room", "You are not in this room");
            assert_eq!(refused(session.call("leaveRoom", json!(["open"]))), not_inside);
        }
    }
    // The same for one of them by the API of a node that has it not.
    let id = nodes.node(0).id_of_ddp(&mut sessions[0]);
    let path = format!("/v1/rooms/open/members/{id}");
    nodes.operator(1).ask("PUT", &path).expect(201);
    assert_eq!(members(2), ids);
    nodes.operator(2).ask("PUT", &path).expect(200);
    nodes.operator(1).ask("DELETE", &path).expect(200);
    assert_eq!(members(2), []);
    nodes.operator(1).ask("DELETE", &path).expect_error(404, "not_member");
}

#[test]
fn a_later_session_is_in_the_rooms_that_its_user_joined_at_another_node() {
    let nodes = start(2);
    let mut first = nodes.node(0).ddp_in("ann", &["open", "staff"]);
    let later = nodes.node(1).ddp_in("ann", &[]);
    for room in ["open", "staff"] {
        assert_eq!((nodes.node(0).member_count(room), nodes.node(1).member_count(room)), (2, 2), "{room}");
    }
    drop(later);
    eventually("it takes itself out", || nodes.node(0).member_count("open") == 1);
    assert_eq!(first.call("leaveRoom", json!(["open"])), Ok(Value::Null));
    let _again = nodes.node(1).ddp_in("ann", &[]);
    assert_eq!((nodes.node(1).member_count("open"), nodes.node(1).member_count("staff")), (0, 2));
}

#[test]
fn sessions_of_two_users_on_two_nodes_share_a_room_of_their_own() {
    let nodes = start(2);
    let mut bot = nodes.node(0).ddp_in("bot", &[]);
    let mut ann = nodes.node(1).ddp_in("ann", &[]);
    let made = bot.call("createDirectMessage", json!(["ann"])).unwrap();
    assert_eq!(made, json!({"rid": "%da1%b1"}));
    assert_eq!(ann.call("createDirectMessage", json!(["b1"])), Ok(made));
    ann.call("sendMessage", json!([{"rid": "%da1%b1", "msg": "between us"}])).unwrap();
    for client in [&mut bot, &mut ann] {
        assert_eq!(said(&client.heard(ROOMS)[0]), ("between us", 1));
    }
}

#[test]
fn a_user_whom_only_another_node_knows_can_be_written_to() {
    let nodes = start(2);
    let mut bot = nodes.node(0).ddp_in("bot", &[]);
    let unknown = bot.call("createDirectMessage", json!(["u9"]));
    assert!(unknown.is_err(), "{unknown:?}");
    let client = nodes.node(1).connect();
    let id = nodes.node(1).id_of(&client);
    nodes.operator(0).send("PATCH", &format!("/v1/connections/{id}"), &json!({"user": "u9"})).expect(200);
    assert_eq!(bot.call("createDirectMessage", json!(["u9"])), Ok(json!({"rid": "%db1%u9"})));
    drop(client);
}

#[test]
fn a_token_is_good_at_every_node_until_any_takes_it_back() {
    let nodes = start(2);
    let mut first = nodes.node(0).ddp();
    let token = first.log_in("ann", PASSWORD);
    let resume = |node: usize| nodes.node(node).ddp().call("login", json!([{"resume": token}]));
    assert_eq!(resume(1).unwrap()["id"], "a1");
    assert_eq!(first.call("logout", json!([])), Ok(Value::Null));
    for node in 0..2 {
        assert!(resume(node).is_err());
    }
}

#[test]
fn fault_row_49_a_revoked_token_stays_revoked_when_a_replica_takes_over_that_has_not_heard_of_it() {
    let mut master = RedisServer::start();
    let replica = RedisServer::start_with(RedisOptions::default().replica_of(master.address()));
    replica.await_replication();
    let both = format!("backend.redis.url={},{}", master.url(), replica.url());
    let mut nodes = Nodes::start(2, &[&users(), &both]);
    let mut client = nodes.node(0).ddp();
    let revoked = client.log_in("ann", PASSWORD);
    let kept = nodes.node(1).ddp().log_in("ann", PASSWORD);
    let tokens = || replica.command(&["ZCARD", "switchboard:{u:a1}:tokens"]).trim().to_owned();
    eventually("the replica has both tokens", || tokens() == "2");
    // What the master confirms from now on is lost.
    replica.promote();
    assert_eq!(client.call("logout", json!([])), Ok(Value::Null));
    master.kill();
    let resume = |nodes: &Nodes, node: usize, token: &str| {
        nodes
            .node(node)
            .ddp()
            .call("login", json!([{"resume": token}]))
            .map(drop)
            .map_err(|mut error| error["error"].take())
    };
    eventually("log-ins go on", || [0, 1].iter().all(|node| resume(&nodes, *node, &kept).is_ok()));
    for node in [0, 1] {
        assert_eq!(resume(&nodes, node, &revoked), Err(json!(403)), "node {node}");
    }
    eventually("it is revoked again", || tokens() == "1");
    // The node that revoked it has told the other one, and a node that comes now reads it from the store.
    nodes.kill(0);
    nodes.add();
    assert_eq!(resume(&nodes, 2, &revoked), Err(json!(403)));
    assert_eq!(resume(&nodes, 2, &kept), Ok(()));
}

#[test]
fn a_token_is_made_and_expires_by_the_clock_of_the_store() {
    let nodes = start(1);
    let token = nodes.node(0).ddp().log_in("ann", PASSWORD);
    let by_token = || nodes.node(0).ddp().call("login", json!([{"resume": token}])).is_ok();
    let by_password = || {
        let credentials = json!([{"user": {"username": "ann"}, "password": PASSWORD}]);
        nodes.node(0).ddp().call("login", credentials).is_ok()
    };
    assert_eq!((by_token(), by_password()), (true, true));
    nodes.redis().command(&["ACL", "SETUSER", "default", "-time"]);
    assert_eq!((by_token(), by_password()), (false, false), "no clock but that of Redis");
    nodes.redis().command(&["ACL", "SETUSER", "default", "+@all"]);
    eventually("the store tells the time again", || by_token() && by_password());
}

#[test]
fn fault_row_20_an_operator_ends_all_logins_of_a_user_on_all_nodes() {
    let nodes = start(2);
    let mut sessions: Vec<_> = (0..2).map(|node| nodes.node(node).ddp()).collect();
    let tokens: Vec<String> = sessions.iter_mut().map(|session| session.log_in("ann", PASSWORD)).collect();
    let mut other = nodes.node(1).ddp_as("bob");
    nodes.operator(0).ask("DELETE", "/v1/users/nobody/tokens").expect_error(404, "user_not_found");
    let revoked = nodes.operator(0).ask("DELETE", "/v1/users/a1/tokens").expect(200);
    assert_eq!(revoked, json!({"user": "a1", "tokens": 2, "connections": 2}));
    for session in &mut sessions {
        session.closed();
    }
    for (node, token) in tokens.iter().enumerate() {
        let result = nodes.node(1 - node).ddp().call("login", json!([{"resume": token}]));
        result.expect_err("the token is revoked on each node");
    }
    other.call("joinRoom", json!(["open"])).expect("other users stay");
    nodes.node(0).ddp_as("ann");
    let revoked = nodes.operator(1).ask("DELETE", "/v1/users/a1/tokens").expect(200);
    assert_eq!(revoked["tokens"], 1, "the password stays");
}

#[test]
fn fault_row_20_a_user_ends_the_other_logins_and_goes_on_with_a_new_token() {
    let nodes = start(2);
    let mut own = nodes.node(0).ddp();
    let before = own.log_in("ann", PASSWORD);
    let mut others: Vec<_> = (0..2).map(|node| nodes.node(node).ddp_as("ann")).collect();
    let answer = own.call("logoutOtherClients", json!([])).expect("a user may");
    let token = answer["token"].as_str().expect("a text").to_owned();
    assert!(token != before && answer["tokenExpires"]["$date"].is_u64(), "{answer}");
    for other in &mut others {
        other.closed();
    }
    own.call("joinRoom", json!(["open"])).expect("this connection stays");
    nodes.node(1).ddp().call("login", json!([{"resume": before}])).expect_err("the token before is revoked");
    nodes.node(1).ddp().resume(&token);
    own.call("logout", json!([])).expect("it is logged in");
    nodes.node(1).ddp().call("login", json!([{"resume": token}])).expect_err("it was the token of this connection");
    refused(nodes.node(0).ddp().call("logoutOtherClients", json!([])));
}
