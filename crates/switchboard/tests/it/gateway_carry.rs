//! Which connection carries a session, what it is told of its log, and where it goes on: where several things happen at once.

use std::future::Future;
use std::task::{Context, Poll, Waker};

use serde_json::json;
use switchboard::RawJson;
use switchboard::backend::sessions::shards::ShardTarget;
use switchboard::node::gateway::events::NewEvent;

use super::gateway_rooms::{APPLICATIONS, Bot, credentials};
use super::peer::Folder;
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
