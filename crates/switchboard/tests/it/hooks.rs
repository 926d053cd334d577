//! What the application does when somebody joins, leaves or speaks: callbacks and say middleware.

use std::sync::Arc;
use std::sync::mpsc::Receiver;

use serde_json::json;
use switchboard::Node;
use switchboard::node::Speaker;
use switchboard::node::connection::ConnectionHandle;
use switchboard::node::hooks::{MembershipChange, SayMiddleware, Saying};
use switchboard::proto::call::CallError;
use switchboard::proto::event::Sender;
use switchboard::proto::id::ConnId;
use switchboard_testkit::client::LineClient;

use crate::support::TestServer;

use crate::rooms::{from, gone, hears, next, notes, rooms_of};

/// What a callback saw.
type Seen = (&'static str, ConnId, String);

fn note_changes(node: &Node) -> Receiver<Seen> {
    let (sender, seen) = notes();
    let joined = sender.clone();
    let see = |which, change: &MembershipChange| (which, change.connection().id(), change.room().to_string());
    node.add_join_callback(100, move |change| joined.send(see("join", change)).unwrap());
    node.add_leave_callback(100, move |change| sender.send(see("leave", change)).unwrap());
    seen
}

#[test]
fn callbacks_run_once_per_join_and_leave_however_it_happens() {
    let server = TestServer::start();
    let node = server.node();
    let seen = note_changes(node);
    server.wait(node.add_room("other")).unwrap();
    let expect = |which: &'static str, id: ConnId, room: &str| assert_eq!(next(&seen), (which, id, room.to_owned()));

    let mut client = server.connect();
    let id = server.id_of(&client);
    client.ask("roomAdd defaultRoom");
    expect("join", id, "defaultRoom");
    client.ask("roomAdd defaultRoom");
    client.ask("roomAdd noSuchRoom");
    client.ask("roomLeave other");
    client.ask("roomLeave defaultRoom");
    expect("leave", id, "defaultRoom");
    server.wait(node.add_member(id, "other")).unwrap();
    expect("join", id, "other");
    server.wait(node.remove_member(id, "other")).unwrap();
    expect("leave", id, "other");

    /// How somebody leaves.
    type Door = fn(&TestServer, LineClient);
    let doors: [(&str, Door); 5] = [
        ("quit", |_, mut client| {
            client.send("quit");
            assert_eq!(client.read_json()["status"], "Bye!");
            client.expect_fin();
        }),
        ("dropped", |_, client| drop(client)),
        ("half-closed", |_, mut client| {
            client.half_close().unwrap();
            client.expect_fin();
        }),
        ("dropped with requests unanswered", |_, mut client| {
            client.send_together(&["paramsView"; 100]);
            drop(client);
        }),
        ("disconnected", |server, client| server.wait(server.node().disconnect(server.id_of(&client))).unwrap()),
    ];
    for (door, leave) in doors {
        let mut client = server.connect();
        let id = server.id_of(&client);
        for room in ["defaultRoom", "other"] {
            client.ask(&format!("roomAdd {room}"));
            expect("join", id, room);
        }
        leave(&server, client);
        let mut rooms = [next(&seen), next(&seen)];
        rooms.sort_by(|a, b| a.2.cmp(&b.2));
        let expected = ["defaultRoom", "other"].map(|room| ("leave", id, room.to_owned()));
        assert_eq!(rooms, expected, "{door}");
        server.wait(gone(node, id));
        assert!(server.wait(node.room_status("other")).unwrap().members.is_empty(), "{door}");
    }
    assert!(seen.try_recv().is_err(), "nothing ran twice");
}

#[test]
fn join_and_leave_callbacks_run_in_the_order_of_their_priorities() {
    let server = TestServer::start();
    let node = server.node();
    let (sender, order) = notes();
    for (priority, label) in [(1000, "last"), (100, "middle"), (-5, "first"), (100, "middle too"), (99, "second")] {
        let (joined, left) = (sender.clone(), sender.clone());
        node.add_join_callback(priority, move |_| joined.send(("join", label)).unwrap());
        node.add_leave_callback(priority, move |_| left.send(("leave", label)).unwrap());
    }
    let mut client = server.connect_into(1, &["defaultRoom"]).remove(0);
    client.ask("roomLeave defaultRoom");
    let labels = ["first", "second", "middle", "middle too", "last"];
    let expected: Vec<_> = ["join", "leave"].iter().flat_map(|&which| labels.map(|label| (which, label))).collect();
    // Both requests are answered, so all of them have run.
    assert_eq!(order.try_iter().collect::<Vec<_>>(), expected);
}

#[test]
fn announcements_are_heard_by_the_others_in_the_seeds_words() {
    let server = TestServer::start();
    let node = server.node();
    let announce = |text: &'static str| {
        move |change: &MembershipChange| {
            let name = change.connection().get("name").unwrap_or_else(|| "Somebody".into());
            change.broadcast(format!("{} {text}", name.as_str().unwrap()));
        }
    };
    node.add_join_callback(100, announce("has entered the room"));
    node.add_leave_callback(100, announce("has left the room"));
    let mut witness = server.connect_into(1, &["defaultRoom"]).remove(0);
    let mut client = server.connect();
    let id = server.id_of(&client);
    node.set_connection_state(id, "name", "Ada").unwrap();
    client.ask("roomAdd defaultRoom");
    hears(&mut witness, from(id), "Ada has entered the room");
    client.expect_silence();
    // A socket that just goes away leaves like anybody, under its name.
    drop(client);
    hears(&mut witness, from(id), "Ada has left the room");
    witness.expect_silence();
}

#[test]
fn a_panicking_callback_harms_neither_the_others_nor_the_connection() {
    let server = TestServer::start();
    let node = server.node();
    let seen = {
        node.add_join_callback(1, |_| panic!("a join callback of a test"));
        node.add_leave_callback(1, |_| panic!("a leave callback of a test"));
        note_changes(node)
    };
    let mut client = server.connect();
    let id = server.id_of(&client);
    for _ in 0..3 {
        assert_eq!(client.ask("roomAdd defaultRoom")["data"], true);
        assert_eq!(next(&seen).0, "join");
        assert_eq!(client.ask("roomView defaultRoom")["data"]["membersCount"], 1);
        assert_eq!(client.ask("roomLeave defaultRoom")["data"], true);
        assert_eq!(next(&seen).0, "leave");
    }
    client.ask("roomAdd defaultRoom");
    assert_eq!(next(&seen).0, "join");
    drop(client);
    assert_eq!(next(&seen), ("leave", id, "defaultRoom".to_owned()));
    // The worker lives.
    let mut other = server.connect_into(1, &["defaultRoom"]).remove(0);
    assert_eq!(other.ask("roomView defaultRoom")["data"]["membersCount"], 1);
}

#[test]
fn a_callback_may_call_the_node_from_a_task() {
    let server = TestServer::start();
    let node = server.node();
    server.wait(node.add_room("lobby")).unwrap();
    let (sender, done) = notes();
    node.add_join_callback(100, move |change| {
        if change.room().as_str() != "defaultRoom" {
            return;
        }
        let connection: ConnectionHandle = change.connection().clone();
        let sender = sender.clone();
        tokio::spawn(async move {
            let added = connection.node().add_member(connection.id(), "lobby").await;
            connection.send_message(json!({"moved": added.is_ok()})).await.unwrap();
            sender.send(added.is_ok()).unwrap();
        });
    });
    let mut client = server.connect();
    client.send("roomAdd defaultRoom");
    assert_eq!(client.read_json()["data"], true);
    assert!(next(&done));
    assert_eq!(client.read_json(), json!({"moved": true}));
    assert_eq!(rooms_of(&mut client), json!(["defaultRoom", "lobby"]));
}

// --- say middleware ---

/// A closure as middleware.
struct Look<F>(F);

impl<F: Fn(&mut Saying) -> Result<(), String> + Send + Sync + 'static> SayMiddleware for Look<F> {
    async fn say(&self, saying: &mut Saying) -> Result<(), String> {
        self.0(saying)
    }
}

#[test]
fn say_middleware_rewrites_for_everybody_in_the_order_of_priorities() {
    let server = TestServer::start();
    let node = server.node();
    let append = |suffix: &'static str| {
        Look(move |saying: &mut Saying| {
            let text = saying.body().to_text().unwrap();
            saying.set_body(format!("{text}{suffix}"));
            Ok(())
        })
    };
    node.add_say_middleware(200, append("3"));
    node.add_say_middleware(1, append("1"));
    node.add_say_middleware(100, append("2"));
    let mut members = server.connect_into(3, &["defaultRoom"]);
    let id = server.id_of(&members[0]);
    assert_eq!(members[0].ask("say defaultRoom x")["status"], "OK");
    server.wait(node.broadcast(Speaker::named("bot"), "defaultRoom", "y")).unwrap();
    for member in &mut members[1..] {
        hears(member, from(id), "x123");
        hears(member, "bot", "y123");
    }
    hears(&mut members[0], "bot", "y123");
    members[0].expect_silence();
}

#[test]
fn say_middleware_sees_room_sender_and_connection() {
    let server = TestServer::start();
    let node = server.node();
    let (sender, seen) = notes();
    node.add_say_middleware(
        100,
        Look(move |saying: &mut Saying| {
            let state = saying.connection().and_then(|connection| connection.get("name"));
            sender.send((saying.room().to_string(), saying.sender().clone(), state)).unwrap();
            Ok(())
        }),
    );
    let mut client = server.connect_into(1, &["defaultRoom"]).remove(0);
    let id = server.id_of(&client);
    node.set_connection_state(id, "name", "Ada").unwrap();
    client.ask("say defaultRoom x");
    let name = Some(json!("Ada"));
    assert_eq!(next(&seen), ("defaultRoom".to_owned(), Sender::Connection(id), name.clone()));
    server.wait(node.broadcast(Speaker::server(), "defaultRoom", "x")).unwrap();
    assert_eq!(next(&seen), ("defaultRoom".to_owned(), Sender::Server, None));
    server.wait(node.broadcast(Speaker::named(id.to_string()), "defaultRoom", "x")).unwrap();
    assert_eq!(next(&seen), ("defaultRoom".to_owned(), Sender::Named(id.to_string().into()), name));
    client.ask("say elsewhere x");
    assert!(seen.try_recv().is_err(), "who is not inside does not get that far");
}

#[test]
fn what_say_middleware_refuses_nobody_hears_and_the_sender_reads_why() {
    let server = TestServer::start();
    let node = server.node();
    let (sender, seen) = notes();
    node.add_say_middleware(
        1,
        Look(
            |saying: &mut Saying| {
                if saying.body().as_str().contains("rude") { Err("mind your words".into()) } else { Ok(()) }
            },
        ),
    );
    node.add_say_middleware(
        2,
        Look(move |saying: &mut Saying| {
            sender.send(saying.body().as_str().to_owned()).unwrap();
            // Neither of these is a message; they are not taken.
            saying.set_body("");
            saying.set_body(json!(null));
            Ok(())
        }),
    );
    let mut members = server.connect_into(2, &["defaultRoom"]);
    let refused = members[0].ask("say defaultRoom something rude");
    assert_eq!(refused, json!({"status": "mind your words", "context": "response", "messageCount": 2}));
    let result = server.wait(node.broadcast(Speaker::server(), "defaultRoom", "rude too"));
    assert!(matches!(result, Err(CallError::Refused(why)) if why == "mind your words"));
    assert!(seen.try_recv().is_err(), "later middleware does not run");
    members[1].expect_silence();
    // A refusal takes no number.
    assert_eq!(server.wait(node.broadcast(Speaker::server(), "defaultRoom", "kind")).unwrap(), Some(1));
    for member in &mut members {
        hears(member, 0, "kind");
    }
}

#[test]
fn a_panic_in_say_middleware_refuses_that_message_only() {
    let server = TestServer::start();
    let node = server.node();
    node.add_say_middleware(
        1,
        Look(|saying: &mut Saying| {
            assert!(!saying.body().as_str().contains("boom"), "say middleware of a test");
            Ok(())
        }),
    );
    let mut members = server.connect_into(2, &["defaultRoom"]);
    let id = server.id_of(&members[0]);
    let refused = members[0].ask("say defaultRoom boom");
    assert_eq!(refused, json!({"status": "unavailable", "context": "response", "messageCount": 2}));
    let result = server.wait(node.broadcast(Speaker::server(), "defaultRoom", "boom"));
    assert!(matches!(result, Err(CallError::Unavailable)));
    assert_eq!(members[0].ask("say defaultRoom fine")["status"], "OK");
    hears(&mut members[1], from(id), "fine");
    members[1].expect_silence();
}

/// Waits for a permit before it lets a message pass.
struct Gate(Arc<tokio::sync::Semaphore>);

impl SayMiddleware for Gate {
    async fn say(&self, saying: &mut Saying) -> Result<(), String> {
        if saying.body().as_str().contains("slow") {
            self.0.acquire().await.map_err(|error| error.to_string())?.forget();
        }
        Ok(())
    }
}

#[test]
fn what_stands_behind_a_say_that_waits_is_done_behind_it() {
    let server = TestServer::start();
    let node = server.node();
    let permits = Arc::new(tokio::sync::Semaphore::new(0));
    node.add_say_middleware(1, Gate(Arc::clone(&permits)));
    let mut members = server.connect_into(2, &["defaultRoom"]);
    let id = server.id_of(&members[0]);
    members[0].send_together(&["say defaultRoom slow", "say defaultRoom fast", "roomLeave defaultRoom"]);
    members[1].expect_silence();
    permits.add_permits(1);
    for count in [2, 3] {
        let answer = members[0].read_json();
        assert_eq!((&answer["status"], &answer["messageCount"]), (&json!("OK"), &json!(count)));
    }
    assert_eq!(members[0].read_json()["data"], true);
    hears(&mut members[1], from(id), "slow");
    hears(&mut members[1], from(id), "fast");
}

// --- many rooms ---
