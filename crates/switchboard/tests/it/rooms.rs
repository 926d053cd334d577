//! Rooms as server code sees them: every method of the seed's chat, called on the node, and what clients hear of it.
//! Conversations of the wire alone are transcripts.

use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use switchboard::Node;
use switchboard::backend::Pattern;
use switchboard::node::{MockConnection, Speaker, StateError};
use switchboard::proto::call::CallError;
use switchboard::proto::id::{ConnId, RoomName};
use switchboard_testkit::client::{LineClient, PATIENCE};

use crate::peer::{Block, eventually};
use crate::support::TestServer;

/// So many connections are spread over both workers.
const ON_BOTH_WORKERS: usize = 24;
const NOBODY: &str = "00000000-0000-4000-8000-000000000000";

fn nobody() -> ConnId {
    ConnId::parse(NOBODY).unwrap()
}

#[track_caller]
fn reason<T: Debug>(result: Result<T, CallError>) -> String {
    result.expect_err("it should have been refused").to_string()
}

fn names(rooms: &[RoomName]) -> Vec<&str> {
    rooms.iter().map(RoomName::as_str).collect()
}

/// A room message without its time.
#[track_caller]
pub(crate) fn message(client: &mut LineClient) -> (Value, String, Value) {
    let line = client.read_json();
    assert_eq!(line["context"], "user", "{line}");
    (line["message"].clone(), line["room"].as_str().unwrap().to_owned(), line["from"].clone())
}

#[track_caller]
pub(crate) fn hears(client: &mut LineClient, from: impl Into<Value>, body: impl Into<Value>) {
    let (said, _, by) = message(client);
    assert_eq!((said, by), (body.into(), from.into()));
}

pub(crate) fn from(id: ConnId) -> Value {
    id.to_string().into()
}

#[track_caller]
pub(crate) fn rooms_of(client: &mut LineClient) -> Value {
    client.ask("detailsView")["data"]["rooms"].clone()
}

/// What callbacks note, to be waited for.
pub(crate) fn notes<T: Send + 'static>() -> (SyncSender<T>, Receiver<T>) {
    sync_channel(1000)
}

#[track_caller]
pub(crate) fn next<T>(notes: &Receiver<T>) -> T {
    notes.recv_timeout(PATIENCE).expect("a callback should have run")
}

// --- add, exists, list, roomStatus ---

#[test]
fn a_room_is_added_once_and_the_second_time_is_told() {
    let server = TestServer::start();
    let node = server.node();
    assert!(server.wait(node.add_room("lobby")).unwrap());
    assert!(!server.wait(node.add_room("lobby")).unwrap());
    // Adding again leaves members and numbers alone.
    let mut members = server.connect_into(2, &["lobby"]);
    assert_eq!(server.wait(node.broadcast(Speaker::server(), "lobby", "one")).unwrap(), Some(1));
    assert!(!server.wait(node.add_room("lobby")).unwrap());
    assert_eq!(server.wait(node.broadcast(Speaker::server(), "lobby", "two")).unwrap(), Some(2));
    for member in &mut members {
        hears(member, 0, "one");
        hears(member, 0, "two");
    }
}

#[test]
fn what_cannot_be_a_name_makes_no_room() {
    let server = TestServer::start();
    let node = server.node();
    for (name, told) in [
        ("", "a room is required"),
        ("a\nb", "a room name has no control characters"),
        (&*"x".repeat(129), "a room name has at most 128 bytes"),
    ] {
        assert_eq!(reason(server.wait(node.add_room(name))), told);
        assert!(!server.wait(node.room_exists(name)).unwrap());
        assert_eq!(reason(server.wait(node.destroy_room(name))), "room does not exist");
    }
    assert!(server.wait(node.add_room(&"x".repeat(128))).unwrap());
    assert!(server.wait(node.add_room("two words, é")).unwrap());
}

#[test]
fn rooms_are_listed_by_name_and_asked_for_by_name() {
    let server = TestServer::with(&["rooms.starting=[]"]);
    let node = server.node();
    assert!(server.wait(node.rooms()).unwrap().is_empty());
    for name in ["b", "c", "a", "B"] {
        server.wait(node.add_room(name)).unwrap();
    }
    assert_eq!(names(&server.wait(node.rooms()).unwrap()), ["B", "a", "b", "c"]);
    server.wait(node.destroy_room("b")).unwrap();
    assert_eq!(names(&server.wait(node.rooms()).unwrap()), ["B", "a", "c"]);
    assert!(server.wait(node.room_exists("a")).unwrap());
    assert!(!server.wait(node.room_exists("b")).unwrap());
    assert!(!server.wait(node.room_exists("A")).unwrap());
}

#[test]
fn room_status_names_members_in_the_order_of_joining() {
    let server = TestServer::start();
    let node = server.node();
    let clients = server.connect_into(3, &[]);
    let ids: Vec<ConnId> = clients.iter().map(|client| server.id_of(client)).collect();
    for index in [2, 0, 1] {
        server.wait(node.add_member(ids[index], "defaultRoom")).unwrap();
    }
    let status = server.wait(node.room_status("defaultRoom")).unwrap();
    let members: Vec<ConnId> = status.members.iter().map(|member| member.id).collect();
    assert_eq!((status.room.as_str(), members), ("defaultRoom", vec![ids[2], ids[0], ids[1]]));
    let now = node.unix_ms();
    assert!(status.members.iter().all(|member| (now - 60_000..=now).contains(&member.joined_at)));

    server.wait(node.remove_member(ids[0], "defaultRoom")).unwrap();
    let members = server.wait(node.room_status("defaultRoom")).unwrap().members;
    assert_eq!(members.iter().map(|member| member.id).collect::<Vec<_>>(), [ids[2], ids[1]]);
}

#[test]
fn room_status_needs_a_room_that_exists() {
    let server = TestServer::start();
    assert_eq!(reason(server.wait(server.node().room_status(""))), "a room is required");
    assert_eq!(reason(server.wait(server.node().room_status("noSuchRoom"))), "room does not exist");
    assert_eq!(reason(server.wait(server.node().room_status("a\tb"))), "room does not exist");
}

#[test]
fn no_more_rooms_than_the_limit_are_made_and_a_destroyed_one_makes_space() {
    let server = TestServer::with(&["limits.max_rooms=3"]);
    let node = server.node();
    assert!(server.wait(node.add_room("a")).unwrap());
    assert!(server.wait(node.add_room("b")).unwrap());
    assert_eq!(reason(server.wait(node.add_room("c"))), "too many rooms");
    assert!(!server.wait(node.room_exists("c")).unwrap());
    assert_eq!(server.wait(node.broadcast(Speaker::server(), "c", "x")).unwrap(), None, "nothing is left of it");
    // One that exists is no new one.
    assert!(!server.wait(node.add_room("a")).unwrap());
    assert_eq!(server.wait(node.broadcast(Speaker::server(), "a", "x")).unwrap(), Some(1), "and it is unharmed");
    server.wait(node.destroy_room("a")).unwrap();
    assert!(server.wait(node.add_room("c")).unwrap());
    assert_eq!(reason(server.wait(node.add_room("d"))), "too many rooms");
}

// --- destroy ---

#[test]
fn destroying_a_room_tells_and_removes_every_member_of_every_worker() {
    let server = TestServer::start();
    let node = server.node();
    let (left, leaves) = notes();
    node.add_leave_callback(100, move |change| left.send((change.connection().id(), change.room().clone())).unwrap());
    server.wait(node.add_room("doomed")).unwrap();
    let mut members = server.connect_into(ON_BOTH_WORKERS, &["doomed"]);
    let mut outsider = server.connect();

    server.wait(node.destroy_room("doomed")).unwrap();
    // When the call returns, everybody has left: nothing has to be waited for.
    let mut ids: Vec<ConnId> =
        leaves.try_iter().map(|(id, room)| (room.as_str() == "doomed").then_some(id).unwrap()).collect();
    let mut expected: Vec<ConnId> = members.iter().map(|member| server.id_of(member)).collect();
    ids.sort_unstable();
    expected.sort_unstable();
    assert_eq!(ids, expected, "leave callbacks run once for each");

    for member in &mut members {
        hears(member, 0, "this room has been deleted");
        assert_eq!(rooms_of(member), json!([]));
        assert_eq!(member.ask("roomView doomed")["status"], "not member of room doomed");
        assert_eq!(member.ask("say doomed x")["status"], "connection not in this room");
        assert_eq!(member.ask("roomAdd doomed")["status"], "room does not exist");
    }
    outsider.expect_silence();
    let one = expected[0];
    assert_eq!(reason(server.wait(node.destroy_room("doomed"))), "room does not exist");
    assert_eq!(reason(server.wait(node.add_member(one, "doomed"))), "room does not exist");
    assert_eq!(reason(server.wait(node.authorize(one, "doomed"))), "room does not exist");
    assert_eq!(reason(server.wait(node.room_status("doomed"))), "room does not exist");
    assert_eq!(reason(server.wait(node.set_authentication_pattern("doomed", "a", 1))), "room does not exist");
    assert!(matches!(server.wait(node.remove_member(one, "doomed")), Err(CallError::NotMember(_))));
    assert!(!server.wait(node.room_exists("doomed")).unwrap());
}

/// Members of one worker were removed while those of another still waited for that, and what a leave callback broadcast in
/// between reached these.
#[test]
fn members_of_a_destroyed_room_hear_the_notice_and_nobodys_farewell() {
    let server = TestServer::with(&["node.workers=4"]);
    let node = server.node();
    node.add_leave_callback(100, |change| change.broadcast("farewell"));
    let mut members = server.connect_into(40, &[]);
    for round in 0..300 {
        let room = format!("doomed-{round}");
        server.wait(node.add_room(&room)).unwrap();
        members.iter_mut().for_each(|member| member.send(&format!("roomAdd {room}")));
        for member in &mut members {
            let answer = member.read_json();
            assert_eq!(answer["data"], true, "{answer}");
        }
        server.wait(node.destroy_room(&room)).unwrap();
        for member in &mut members {
            assert_eq!(message(member), (json!("this room has been deleted"), room.clone(), json!(0)));
        }
    }
    members.iter_mut().for_each(LineClient::expect_silence);
}

/// A room made while its namesake was being destroyed could be listed for ever and neither be joined nor spoken in.
#[test]
fn a_room_that_exists_can_be_spoken_in_whoever_made_and_destroyed_it_at_once() {
    let server = TestServer::start();
    let node = server.node();
    for _ in 0..10_000 {
        server.wait(node.add_room("blinking")).unwrap();
        let (maker, destroyer) = (node.clone(), node.clone());
        let making = server.spawn(async move { maker.add_room("blinking").await });
        let destroying = server.spawn(async move { destroyer.destroy_room("blinking").await });
        server.wait(making).unwrap().unwrap();
        server.wait(destroying).unwrap().unwrap();
        let exists = server.wait(node.room_exists("blinking")).unwrap();
        let number = server.wait(node.broadcast(Speaker::server(), "blinking", "x")).unwrap();
        assert_eq!(number.is_some(), exists);
    }
}

#[test]
fn a_room_made_anew_has_neither_members_nor_pattern_nor_numbers_of_the_old_one() {
    let server = TestServer::start();
    let node = server.node();
    server.wait(node.add_room("again")).unwrap();
    let mut old = server.connect_into(1, &["again"]).remove(0);
    node.set_connection_state(server.id_of(&old), "team", "red").unwrap();
    let mut new = server.connect();
    server.wait(node.broadcast(Speaker::server(), "again", "before")).unwrap();
    server.wait(node.set_authentication_pattern("again", "team", "red")).unwrap();
    server.wait(node.destroy_room("again")).unwrap();
    server.wait(node.add_room("again")).unwrap();
    assert_eq!(new.ask("roomAdd again")["data"], true);
    assert_eq!(server.wait(node.broadcast(Speaker::server(), "again", "after")).unwrap(), Some(1));
    hears(&mut new, 0, "after");
    hears(&mut old, 0, "before");
    hears(&mut old, 0, "this room has been deleted");
    old.expect_silence();
}

// --- patterns: set, replace, clear, authorize, reAuthenticate ---

#[test]
fn a_new_pattern_removes_those_who_fail_it_from_every_worker_and_tells_them_nothing() {
    let server = TestServer::start();
    let node = server.node();
    let (left, leaves) = notes();
    node.add_leave_callback(100, move |change| left.send(change.connection().id()).unwrap());
    let mut members = server.connect_into(ON_BOTH_WORKERS, &["defaultRoom"]);
    let ids: Vec<ConnId> = members.iter().map(|member| server.id_of(member)).collect();
    for (index, id) in ids.iter().enumerate() {
        // Some have nothing, some the wrong value, some the wrong type.
        match index % 4 {
            0 => node.set_connection_state(*id, "level", 3).unwrap(),
            1 => node.set_connection_state(*id, "level", 4).unwrap(),
            2 => node.set_connection_state(*id, "level", "3").unwrap(),
            _ => {}
        }
    }
    server.wait(node.set_authentication_pattern("defaultRoom", "level", 3)).unwrap();
    let mut removed: Vec<ConnId> = leaves.try_iter().collect();
    let mut expected: Vec<ConnId> =
        ids.iter().enumerate().filter(|(index, _)| index % 4 != 0).map(|(_, id)| *id).collect();
    removed.sort_unstable();
    expected.sort_unstable();
    assert_eq!(removed, expected, "leave callbacks run for those who are removed, once");

    for (index, member) in members.iter_mut().enumerate() {
        member.expect_silence();
        let inside = index % 4 == 0;
        assert_eq!(rooms_of(member), if inside { json!(["defaultRoom"]) } else { json!([]) });
    }
    let status = server.wait(node.room_status("defaultRoom")).unwrap();
    assert_eq!(status.members.len(), ON_BOTH_WORKERS / 4);
    assert_eq!(members[1].ask("roomAdd defaultRoom")["status"], "not authorized to join room");
}

#[test]
fn a_pattern_is_replaced_whole_and_cleared_without_moving_anybody() {
    let server = TestServer::start();
    let node = server.node();
    let client = server.connect();
    let id = server.id_of(&client);
    node.set_connection_state(id, "team", "red").unwrap();
    server.wait(node.set_authentication_pattern("defaultRoom", "team", "blue")).unwrap();
    assert!(!server.wait(node.authorize(id, "defaultRoom")).unwrap());
    server.wait(node.set_authentication_pattern("defaultRoom", "type", "socket")).unwrap();
    assert!(server.wait(node.authorize(id, "defaultRoom")).unwrap(), "the team does not matter any more");
    server.wait(node.add_member(id, "defaultRoom")).unwrap();
    server.wait(node.clear_authentication_pattern("defaultRoom")).unwrap();
    assert_eq!(names(&server.wait(node.connection(id)).unwrap().rooms), ["defaultRoom"]);
    server.wait(node.set_authentication_pattern("defaultRoom", "team", "red")).unwrap();
    assert_eq!(names(&server.wait(node.connection(id)).unwrap().rooms), ["defaultRoom"]);
    assert_eq!(reason(server.wait(node.clear_authentication_pattern("none"))), "room does not exist");
}

#[test]
fn a_pattern_of_several_pairs_matches_when_all_do() {
    let server = TestServer::start();
    let node = server.node();
    let client = server.connect();
    let id = server.id_of(&client);
    let pattern = Pattern(vec![("team".into(), json!("red")), ("type".into(), json!("socket"))]);
    server.wait(node.set_pattern("defaultRoom", pattern)).unwrap();
    assert!(!server.wait(node.authorize(id, "defaultRoom")).unwrap());
    node.set_connection_state(id, "team", "red").unwrap();
    assert!(server.wait(node.authorize(id, "defaultRoom")).unwrap());
    let pattern = Pattern(vec![("team".into(), json!("red")), ("type".into(), json!("websocket"))]);
    server.wait(node.set_pattern("defaultRoom", pattern)).unwrap();
    assert!(!server.wait(node.authorize(id, "defaultRoom")).unwrap());
    assert_eq!(reason(server.wait(node.set_pattern("none", Pattern::default()))), "room does not exist");
}

#[test]
fn facts_of_a_connection_match_patterns_and_cannot_be_set() {
    let server = TestServer::start();
    let node = server.node();
    let client = server.connect();
    let id = server.id_of(&client);
    let port = client.local_address().unwrap().port();
    let connected_at = server.wait(node.connection(id)).unwrap().handle.connected_at();
    for (name, value) in [
        ("id", json!(id.to_string())),
        ("type", json!("socket")),
        ("remoteIP", json!("127.0.0.1")),
        ("remotePort", json!(port)),
        ("connectedAt", json!(connected_at)),
    ] {
        server.wait(node.set_authentication_pattern("defaultRoom", name, value)).unwrap();
        assert!(server.wait(node.authorize(id, "defaultRoom")).unwrap(), "{name}");
        assert_eq!(node.set_connection_state(id, name, "x"), Err(StateError::BuiltIn(name.to_owned())));
    }
    // On TCP there is no fingerprint, and what is absent matches nothing, not even null.
    for value in [json!(null), json!("")] {
        server.wait(node.set_authentication_pattern("defaultRoom", "fingerprint", value)).unwrap();
        assert!(!server.wait(node.authorize(id, "defaultRoom")).unwrap());
    }
}

#[test]
fn a_change_of_state_moves_nobody_until_reauthenticate_tells_what_was_kept_and_what_was_lost() {
    let server = TestServer::start();
    let node = server.node();
    let (left, leaves) = notes();
    node.add_leave_callback(100, move |change| left.send(change.room().clone()).unwrap());
    for room in ["red", "also-red", "open"] {
        server.wait(node.add_room(room)).unwrap();
    }
    for room in ["red", "also-red"] {
        server.wait(node.set_authentication_pattern(room, "team", "red")).unwrap();
    }
    let mut client = server.connect();
    let id = server.id_of(&client);
    node.set_connection_state(id, "team", "red").unwrap();
    for room in ["red", "open", "also-red"] {
        assert_eq!(client.ask(&format!("roomAdd {room}"))["data"], true);
    }
    let kept = server.wait(node.reauthenticate(id)).unwrap();
    assert_eq!((names(&kept.rooms), names(&kept.removed)), (vec!["red", "open", "also-red"], vec![]));

    node.set_connection_state(id, "team", json!(null)).unwrap();
    assert_eq!(rooms_of(&mut client), json!(["red", "open", "also-red"]));
    let done = server.wait(node.reauthenticate(id)).unwrap();
    assert_eq!((names(&done.rooms), names(&done.removed)), (vec!["open"], vec!["red", "also-red"]));
    assert_eq!(names(&leaves.try_iter().collect::<Vec<_>>()), ["red", "also-red"]);
    assert_eq!(rooms_of(&mut client), json!(["open"]));
    client.expect_silence();
    assert_eq!(reason(server.wait(node.reauthenticate(nobody()))), "no such connection");
}

#[test]
fn authorize_needs_a_room_and_a_connection() {
    let server = TestServer::start();
    let node = server.node();
    let client = server.connect();
    assert_eq!(reason(server.wait(node.authorize(server.id_of(&client), "none"))), "room does not exist");
    assert_eq!(reason(server.wait(node.authorize(nobody(), "defaultRoom"))), "no such connection");
}

// --- addMember, removeMember, disconnect, sendMessage, state ---

#[test]
fn members_are_added_and_removed_by_the_server_with_the_refusals_of_the_wire() {
    let server = TestServer::start();
    let node = server.node();
    let mut client = server.connect();
    let id = server.id_of(&client);
    server.wait(node.add_member(id, "defaultRoom")).unwrap();
    assert_eq!(rooms_of(&mut client), json!(["defaultRoom"]));
    assert!(
        matches!(server.wait(node.add_member(id, "defaultRoom")), Err(CallError::AlreadyMember(room)) if room.as_str() == "defaultRoom")
    );
    assert!(matches!(server.wait(node.add_member(id, "none")), Err(CallError::NoSuchRoom)));
    server.wait(node.set_authentication_pattern("defaultRoom", "type", "socket")).unwrap();
    server.wait(node.remove_member(id, "defaultRoom")).unwrap();
    assert_eq!(rooms_of(&mut client), json!([]));
    assert!(matches!(server.wait(node.remove_member(id, "defaultRoom")), Err(CallError::NotMember(_))));
    server.wait(node.set_authentication_pattern("defaultRoom", "type", "web")).unwrap();
    assert!(matches!(server.wait(node.add_member(id, "defaultRoom")), Err(CallError::NotAuthorized)));
    for result in [
        server.wait(node.add_member(nobody(), "defaultRoom")),
        server.wait(node.remove_member(nobody(), "defaultRoom")),
        server.wait(node.disconnect(nobody())),
        server.wait(node.send_message(nobody(), "x")),
        server.wait(node.connection(nobody())).map(drop),
    ] {
        assert!(matches!(result, Err(CallError::NoSuchConnection)), "{result:?}");
    }
    client.expect_silence();
}

#[test]
fn a_disconnected_client_is_told_and_gone_from_its_rooms() {
    let server = TestServer::start();
    let node = server.node();
    let (left, leaves) = notes();
    node.add_leave_callback(100, move |change| left.send(change.connection().id()).unwrap());
    let mut clients = server.connect_into(2, &["defaultRoom"]);
    let id = server.id_of(&clients[0]);
    server.wait(node.disconnect(id)).unwrap();
    assert_eq!(clients[0].read_json(), json!({"status": "Bye!", "context": "api"}));
    clients[0].expect_fin();
    assert_eq!(next(&leaves), id);
    let other = server.id_of(&clients[1]);
    let members = server.wait(node.room_status("defaultRoom")).unwrap().members;
    assert_eq!(members.iter().map(|member| member.id).collect::<Vec<_>>(), [other]);
    // Its socket is still open on the client's side, and hears nothing.
    assert_eq!(clients[1].ask("say defaultRoom anyone?")["status"], "OK");
    clients[0].expect_fin();
}

#[test]
fn a_message_to_one_client_arrives_as_it_is() {
    let server = TestServer::start();
    let node = server.node();
    let mut client = server.connect();
    let mut other = server.connect();
    let id = server.id_of(&client);
    server.wait(node.send_message(id, json!({"b": 1, "a": {"c": [null]}}))).unwrap();
    assert_eq!(client.read_line(), r#"{"b":1,"a":{"c":[null]}}"#);
    assert_eq!(client.ask("paramsView")["messageCount"], 1);
    assert_eq!(client.ask("paramsView")["messageCount"], 2);
    server.wait(node.send_message(id, json!({"x": 1, "context": "response"}))).unwrap();
    assert_eq!(client.read_json(), json!({"x": 1, "context": "response", "messageCount": 2}));
    other.expect_silence();
}

#[test]
fn state_is_scalar_bounded_and_gone_with_its_connection() {
    let server = TestServer::start();
    let node = server.node();
    let (closed, closes) = notes();
    node.add_leave_callback(100, move |change| closed.send(change.connection().state().get("a").cloned()).unwrap());
    let client = server.connect_into(1, &["defaultRoom"]).remove(0);
    let id = server.id_of(&client);
    assert_eq!(node.set_connection_state(id, "list", json!([1])), Err(StateError::NotScalar("list".into())));
    node.set_connection_state(id, "a", true).unwrap();
    node.set_connection_state(id, "a", 1.5).unwrap();
    let handle = server.wait(node.connection(id)).unwrap().handle;
    assert_eq!((handle.get("a"), handle.attribute("a")), (Some(json!(1.5)), Some(json!(1.5))));
    assert_eq!(handle.state().iter().count(), 1);
    drop(client);
    assert_eq!(next(&closes), Some(json!(1.5)), "a leave callback of a dropped connection still sees it");
    server.wait(gone(node, id));
    assert_eq!(handle.get("a"), None);
    assert_eq!(node.set_connection_state(id, "a", true), Err(StateError::NoSuchConnection));
}

/// Waits until a connection has ended. Asking its worker takes its turn each time, so this does not spin.
pub(crate) async fn gone(node: &Node, id: ConnId) {
    while node.connection(id).await.is_ok() {
        tokio::task::yield_now().await;
    }
}

// --- broadcast ---

#[test]
fn a_broadcast_by_a_connection_needs_membership_and_passes_the_speaker_over() {
    let server = TestServer::start();
    let node = server.node();
    let mut members = server.connect_into(2, &["defaultRoom"]);
    let outsider = server.connect();
    let speaker = server.id_of(&members[0]);
    assert_eq!(server.wait(node.broadcast(speaker, "defaultRoom", "hi")).unwrap(), Some(1));
    hears(&mut members[1], from(speaker), "hi");
    members[0].expect_silence();
    let result = server.wait(node.broadcast(server.id_of(&outsider), "defaultRoom", "hi"));
    assert!(matches!(result, Err(CallError::NotMember(room)) if room.as_str() == "defaultRoom"));
    assert_eq!(reason(server.wait(node.broadcast(nobody(), "defaultRoom", "hi"))), "no such connection");
    members[1].expect_silence();
}

#[test]
fn a_mock_connection_speaks_under_its_name_or_as_0() {
    let server = TestServer::start();
    let node = server.node();
    let mut members = server.connect_into(2, &["defaultRoom"]);
    let member = server.id_of(&members[0]);
    let mock = |id: Option<&str>, rooms: Option<&[&str]>| {
        let rooms = rooms.map(|rooms| rooms.iter().map(|&room| room.to_owned()).collect());
        Speaker::Mock(MockConnection { id: id.map(str::to_owned), rooms })
    };
    let say = |speaker: Speaker, body: &str| server.wait(node.broadcast(speaker, "defaultRoom", body));
    say(Speaker::server(), "1").unwrap();
    say(Speaker::named("bot"), "2").unwrap();
    say(mock(Some("bot"), Some(&["defaultRoom"])), "3").unwrap();
    say(mock(None, Some(&["other", "defaultRoom"])), "4").unwrap();
    let told = reason(say(mock(Some("bot"), Some(&["other"])), "not heard"));
    assert_eq!(told, "connection not in this room (defaultRoom)");
    assert_eq!(reason(say(mock(None, Some(&[])), "not heard")), "connection not in this room (defaultRoom)");
    // Under a member's id it speaks for that member, which does not hear it.
    say(mock(Some(&member.to_string()), None), "5").unwrap();
    // Under an id that nobody has, it is a name like any other.
    say(Speaker::named(NOBODY), "6").unwrap();
    let heard = [
        (json!(0), "1"),
        (json!("bot"), "2"),
        (json!("bot"), "3"),
        (json!(0), "4"),
        (from(member), "5"),
        (json!(NOBODY), "6"),
    ];
    for (index, client) in members.iter_mut().enumerate() {
        for (from, body) in heard.iter().filter(|(_, body)| index == 1 || *body != "5") {
            hears(client, from.clone(), *body);
        }
        client.expect_silence();
    }
}

#[test]
fn any_json_is_a_message_but_null_and_the_empty_text() {
    let server = TestServer::start();
    let node = server.node();
    let mut member = server.connect_into(1, &["defaultRoom"]).remove(0);
    for body in [json!(false), json!(0), json!([]), json!({}), json!(" "), json!({"a": [1.5, "é\n"]})] {
        server.wait(node.broadcast(Speaker::server(), "defaultRoom", body.clone())).unwrap();
        hears(&mut member, 0, body);
    }
    for body in [json!(null), json!("")] {
        let told = reason(server.wait(node.broadcast(Speaker::server(), "defaultRoom", body)));
        assert_eq!(told, "both room and message are required");
    }
    assert_eq!(reason(server.wait(node.broadcast(Speaker::server(), "", "x"))), "both room and message are required");
    member.expect_silence();
}

#[test]
fn a_broadcast_to_a_room_that_there_is_not_is_heard_by_nobody_and_no_error() {
    let server = TestServer::start();
    let node = server.node();
    assert_eq!(server.wait(node.broadcast(Speaker::server(), "none", "x")).unwrap(), None);
    assert_eq!(server.wait(node.broadcast(Speaker::server(), "a\nb", "x")).unwrap(), None);
    assert!(!server.wait(node.room_exists("none")).unwrap());
    assert_eq!(node.figures().published, 0);
}

#[test]
fn rooms_do_not_hear_each_other() {
    let server = TestServer::start();
    let node = server.node();
    server.wait(node.add_room("other")).unwrap();
    let mut here = server.connect_into(1, &["defaultRoom"]).remove(0);
    let mut there = server.connect_into(1, &["other"]).remove(0);
    let mut both = server.connect_into(1, &["defaultRoom", "other"]).remove(0);
    assert_eq!(here.ask("say defaultRoom hi")["status"], "OK");
    assert_eq!(message(&mut both).1, "defaultRoom");
    assert_eq!(there.ask("say other hi")["status"], "OK");
    assert_eq!(message(&mut both).1, "other");
    here.expect_silence();
    there.expect_silence();
    both.expect_silence();
}

// --- callbacks ---

#[test]
fn one_connection_may_be_in_many_rooms_up_to_its_limit() {
    const ROOMS: usize = 300;
    let server = TestServer::with(&[&format!("limits.max_rooms_per_connection={ROOMS}")]);
    let node = server.node();
    let rooms: Vec<String> = (0..=ROOMS).map(|index| format!("room-{index}")).collect();
    for room in &rooms {
        server.wait(node.add_room(room)).unwrap();
    }
    let mut client = server.connect();
    let id = server.id_of(&client);
    for room in &rooms[..ROOMS] {
        assert_eq!(client.ask(&format!("roomAdd {room}"))["data"], true);
    }
    let refused = client.ask(&format!("roomAdd {}", rooms[ROOMS]));
    assert_eq!((&refused["status"], &refused["data"]), (&json!("too many rooms"), &json!(false)));
    assert!(matches!(server.wait(node.add_member(id, &rooms[ROOMS])), Err(CallError::TooManyRoomsOfConnection)));
    assert_eq!(rooms_of(&mut client), json!(rooms[..ROOMS]));

    let mut heard = HashMap::new();
    for room in &rooms {
        server.wait(node.broadcast(Speaker::server(), room, room.as_str())).unwrap();
    }
    for _ in 0..ROOMS {
        let (body, room, _) = message(&mut client);
        assert_eq!(body, *room);
        *heard.entry(room).or_insert(0) += 1;
    }
    assert_eq!(heard.len(), ROOMS);
    client.expect_silence();

    // Leaving one makes space for another.
    assert_eq!(client.ask("roomLeave room-7")["data"], true);
    assert_eq!(client.ask(&format!("roomAdd {}", rooms[ROOMS]))["data"], true);
    drop(client);
    server.wait(gone(node, id));
    for room in &rooms {
        assert!(server.wait(node.room_status(room)).unwrap().members.is_empty());
    }
}

#[test]
fn rooms_made_destroyed_and_joined_at_once_end_up_consistent() {
    let server = TestServer::start();
    let node = server.node();
    let inside = Arc::new(Mutex::new(HashMap::<ConnId, i64>::new()));
    let (joined, left) = (Arc::clone(&inside), Arc::clone(&inside));
    node.add_join_callback(100, move |change| {
        *joined.lock().unwrap().entry(change.connection().id()).or_default() += 1
    });
    node.add_leave_callback(100, move |change| *left.lock().unwrap().entry(change.connection().id()).or_default() -= 1);
    let mut clients = server.connect_into(ON_BOTH_WORKERS, &[]);
    let churn = {
        let node = node.clone();
        server.spawn(async move {
            for _ in 0..200 {
                node.add_room("blinking").await.unwrap();
                node.broadcast(Speaker::server(), "blinking", "here").await.unwrap();
                node.destroy_room("blinking").await.unwrap();
            }
        })
    };
    for _ in 0..20 {
        for client in &mut clients {
            client.send_together(&["roomAdd blinking", "roomLeave blinking"]);
        }
        for client in &mut clients {
            for _ in 0..2 {
                while client.read_json()["context"] == "user" {}
            }
        }
    }
    server.wait(churn).unwrap();
    for client in &mut clients {
        // What it was told by the room stands before the answer.
        client.send("detailsView");
        let details = loop {
            let line = client.read_json();
            if line["context"] == "response" {
                break line;
            }
        };
        assert_eq!(details["data"]["rooms"], json!([]));
        assert_eq!(
            inside.lock().unwrap().get(&server.id_of(client)).copied().unwrap_or(0),
            0,
            "as many leaves as joins"
        );
    }
    server.wait(node.add_room("blinking")).unwrap();
    assert!(server.wait(node.room_status("blinking")).unwrap().members.is_empty());
    assert_eq!(server.wait(node.broadcast(Speaker::server(), "blinking", "x")).unwrap(), Some(1));
}

#[test]
fn a_room_whose_destroyer_stops_waiting_is_destroyed_all_the_same() {
    let (gate, is_blocked) = (Arc::new(Mutex::new(())), Arc::new(AtomicBool::new(false)));
    let block = Block(Arc::clone(&gate), Arc::clone(&is_blocked));
    let server = TestServer::build(&[], |builder| builder.action(block));
    let node = server.node();
    server.wait(node.add_room("doomed")).unwrap();
    let mut blocking = server.connect();
    let held = gate.lock().unwrap();
    blocking.send("block");
    eventually("a worker is blocked", || is_blocked.load(Ordering::Relaxed));

    server.wait(async {
        let mut destroying = std::pin::pin!(node.destroy_room("doomed"));
        let once = std::future::poll_fn(|cx| std::task::Poll::Ready(destroying.as_mut().poll(cx)));
        assert!(once.await.is_pending(), "it waits for all workers");
    });
    eventually("it has begun all the same", || !server.wait(node.room_exists("doomed")).unwrap());
    drop(held);
    server.wait(async {
        // One at a time: this waits for the other, whoever waits for that.
        assert!(matches!(node.destroy_room("doomed").await, Err(CallError::NoSuchRoom)));
        assert!(node.add_room("doomed").await.unwrap(), "nothing is left of the old one");
    });
}

#[test]
fn a_pattern_is_applied_to_all_members_before_the_next_one_of_its_room_is_set() {
    let server = TestServer::start();
    let node = server.node().clone();
    let ((leaves, left), (go_on, waits)) = (notes(), notes::<()>());
    let waits = std::sync::Mutex::new(waits);
    node.add_leave_callback(100, move |_| {
        leaves.send(()).unwrap();
        next(&waits.lock().unwrap());
    });
    server.wait(node.add_room("other")).unwrap();
    let _member = server.connect_into(1, &["defaultRoom"]);
    let set = |room: &'static str, plan: &'static str| {
        let node = node.clone();
        server.spawn(async move { node.set_pattern(room, Pattern::new().with("plan", plan)).await })
    };
    let pattern = |room: &str| {
        let page = server.wait(node.page_of_rooms(None, 9)).unwrap();
        page.items.into_iter().find(|summary| summary.room.as_str() == room).unwrap().pattern
    };
    // The member leaves, and its worker waits for the callback.
    let first = set("defaultRoom", "gold");
    next(&left);
    let second = set("defaultRoom", "silver");
    let other = set("other", "silver");
    let is = |plan: &str| Pattern::new().with("plan", plan);
    eventually("another room has its pattern", || *pattern("other") == is("silver"));
    assert_eq!(*pattern("defaultRoom"), is("gold"), "not all members were checked");
    go_on.send(()).unwrap();
    for setting in [first, second, other] {
        server.wait(setting).unwrap().unwrap();
    }
    assert_eq!(*pattern("defaultRoom"), is("silver"));
}
