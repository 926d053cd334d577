//! Which connection carries a session, what it is told of its log, and where it goes on: where several things happen at once.

use std::future::Future;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use serde_json::json;
use switchboard::backend::sessions::shards::ShardTarget;
use switchboard::command::{CommandOptions, Mode, Outcome, Target};
use switchboard::node::gateway::events::NewEvent;
use switchboard::{RawJson, Speaker};
use switchboard_testkit::gateway::GatewayClient;

use super::gateway_rooms::{APPLICATIONS, Bot, credentials};
use super::peer::{Folder, eventually};
use super::support::TestServer;

fn event(number: u64) -> NewEvent {
    NewEvent {
        name: "COUNTED".to_owned(),
        data: RawJson::from_value(&number.into()),
        to: ShardTarget::Shard(0),
        development: false,
        id: None,
    }
}

/// Up to where the client of the only session is known to have received events.
fn received(server: &TestServer) -> u64 {
    server.wait(server.node().shards_of("822", false)).unwrap()[0].record.received
}

#[test]
fn an_event_reaches_its_shard_though_whoever_published_it_went_away() {
    let folder = Folder::new();
    let data_dir = format!("node.data_dir={:?}", folder.join("data").display().to_string());
    let server = TestServer::with(&[APPLICATIONS, "backend.kind=file", &data_dir]);
    let mut bot = Bot::register(&server, &credentials());
    let publishing = |number| {
        let node = server.node().clone();
        async move { node.publish_event("822", event(number)).await }
    };
    for number in 1..=3 {
        // It goes away as soon as the disk is waited for.
        server.wait(async {
            let mut publishing = Box::pin(publishing(number));
            let poll = publishing.as_mut().poll(&mut Context::from_waker(Waker::noop()));
            assert!(matches!(poll, Poll::Pending), "{poll:?}");
        });
        let event = bot.client.expect("COUNTED");
        assert_eq!((&event["data"], &event["s"]), (&json!(number), &json!(number)));
    }
}

#[test]
fn whoever_resumes_behind_an_event_is_sent_the_next_ones_again_whatever_his_host_has_received() {
    let server = TestServer::with(&[APPLICATIONS, "servers.gateway.rate_messages=0"]);
    let mut first = Bot::register(&server, &credentials());
    for number in 1..=3 {
        server.wait(server.node().publish_event("822", event(number))).unwrap();
        first.client.expect("COUNTED");
    }
    // Answers the server's ping, which comes a second behind the events at the latest.
    eventually("its host has received them", || {
        first.client.ping(None);
        received(&server) == 3
    });
    let mut second = GatewayClient::connect(server.web_address()).unwrap();
    second.resume(&credentials(), &first.session_id, Some(1)).unwrap();
    // The first is still there as far as anybody knows; the second goes before it has read anything.
    second.hang_up();
    eventually("it is gone", || server.wait(server.node().shards_of("822", false)).unwrap()[0].record.owner.is_none());
    let mut third = GatewayClient::connect(server.web_address()).unwrap();
    third.resume(&credentials(), &first.session_id, None).unwrap();
    assert_eq!([2, 3].map(|_| third.expect("COUNTED")["s"].clone()), [json!(2), json!(3)]);
}

#[test]
fn a_secret_may_come_with_the_message_though_the_headers_name_the_application() {
    let server = TestServer::with(&[APPLICATIONS]);
    let open = |headers: &[(&str, &str)]| {
        let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        GatewayClient::open(server.web_address(), "/gateway", &headers).unwrap()
    };
    let mut client = open(&[("Identification", "822"), ("Shard-In", "0")]);
    client.expect("GATEWAY_HELLO");
    assert_eq!(client.register(&credentials()).unwrap()["application_bot"]["id"], "822");
    let mut without = open(&[("Identification", "822"), ("Public-Key", "3f0c")]);
    without.expect("GATEWAY_HELLO");
    without.send(&json!({"type": 1, "d": {"shard_in": 0}}));
    without.expect("GATEWAY_INVALID");
    assert_eq!(without.closed(), Some(4004));
    for wrong in [("Secret", "correct"), ("Public-Key", "4a1d")] {
        let mut client = open(&[("Identification", "822"), wrong]);
        client.expect("GATEWAY_INVALID");
        assert_eq!(client.closed(), Some(4004), "{wrong:?}");
    }
}

/// A bot in a room that takes commands.
fn listening(server: &TestServer, shard: u32) -> GatewayClient {
    let mut bot = GatewayClient::connect(server.web_address()).unwrap();
    let mut registration = credentials().of_shard(shard).registration();
    registration["d"]["client"] = json!({"commands": true});
    bot.send(&registration);
    bot.expect("GATEWAY_READY");
    bot.send(&json!({"type": 10, "d": {"op": "join", "room": "defaultRoom"}}));
    assert_eq!(bot.expect("GATEWAY_ROOM")["data"]["ok"], true);
    bot
}

#[test]
fn bots_that_do_not_read_hold_up_rooms_no_longer_the_more_they_are() {
    const BOTS: u32 = 60;
    let server = TestServer::with(&[APPLICATIONS, "servers.gateway.replay_max_events=40"]);
    let mut bots: Vec<GatewayClient> = (0..BOTS).map(|shard| listening(&server, shard)).collect();
    let options = CommandOptions { mode: Some(Mode::All), ..CommandOptions::default() };
    let pausing = server.command(Target::User("822".into()), &json!({"key": "pauseMessageStream"}), options);
    for bot in &mut bots {
        let id = bot.expect("GATEWAY_COMMAND")["data"]["_id"].take();
        bot.send(&json!({"type": 9, "d": {"_id": id, "reply": {"success": true}}}));
    }
    assert_eq!(server.wait(pausing).unwrap().report().outcome, Outcome::Replied);
    let mut listener = server.connect_into(1, &["defaultRoom"]).remove(0);
    let began = Instant::now();
    // From the eleventh on all of them lag.
    for number in 0..40 {
        server.wait(server.node().broadcast(Speaker::server(), "defaultRoom", number.to_string().as_str())).unwrap();
        listener.read_json();
    }
    let last =
        || server.wait(server.node().shards_of("822", false)).unwrap().iter().all(|shard| shard.record.last == 40);
    eventually("all is in their logs", last);
    // A bot that is waited for in vain costs 20 ms, and each of them did so for every message.
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
}
