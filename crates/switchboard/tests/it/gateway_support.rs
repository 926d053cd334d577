//! Applications, servers that know them, shards, and events for them.

use std::io::Read;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use socket2::SockRef;
use switchboard::ConnId;
use switchboard::backend::sessions::shards::{ShardRecord, ShardTarget};
use switchboard::node::Node;
use switchboard::node::gateway::events::{NewEvent, PublishError};
use switchboard::proto::json::RawJson;
use switchboard_testkit::client::PATIENCE;
use switchboard_testkit::gateway::{Credentials, GatewayClient, Heard};

use super::peer::eventually;
use super::support::TestServer;

/// The id of [`APPLICATIONS`]' first.
pub(crate) const APP: &str = "822";

/// One that the tests are about, one that has two shards and none for development, and somebody else's.
pub(crate) const APPLICATIONS: &str = r#"gateway.applications=[
    { id = "822", public_key = "3f0c", secret = "correct-horse", tags = ["bots"], state = { staff = true } },
    { id = "two", public_key = "aa02", secret = "two", shards = 2, allow_development = false },
    { id = "900", public_key = "beef", secret = "other" },
]"#;

/// The credentials of [`APP`]'s shard 0.
pub(crate) fn credentials() -> Credentials {
    Credentials::new("3f0c", "correct-horse")
}

/// Those of somebody else's.
pub(crate) fn foreign() -> Credentials {
    Credentials::new("beef", "other")
}

/// A server that knows [`APPLICATIONS`].
pub(crate) fn serving(settings: &[&str]) -> TestServer {
    TestServer::with(&[&[APPLICATIONS], settings].concat())
}

/// An event for a shard that says a number.
pub(crate) fn numbered(to: ShardTarget, number: u64) -> NewEvent {
    event(to, &json!({"n": number}))
}

/// An event for a shard that says this.
pub(crate) fn event(to: ShardTarget, data: &Value) -> NewEvent {
    NewEvent { name: "ORDER_CREATED".to_owned(), data: RawJson::from_value(data), to, development: false, id: None }
}

/// Publishes events for shard 0 that say these numbers.
pub(crate) async fn publish_to(node: &Node, numbers: impl IntoIterator<Item = u64>) {
    for number in numbers {
        let published = node.publish_event(APP, numbered(ShardTarget::Shard(0), number)).await;
        published.expect("the shard has a session");
    }
}

impl TestServer {
    /// A connection of a shard, in plain mode.
    #[track_caller]
    pub(crate) fn shard(&self) -> GatewayClient {
        GatewayClient::connect(self.web_address()).expect("it is there")
    }

    /// A registered shard 0, and the id of its session.
    #[track_caller]
    pub(crate) fn registered(&self) -> (GatewayClient, String) {
        let mut client = self.shard();
        let session = register(&mut client, &credentials());
        (client, session)
    }

    /// A connection that resumes a session of shard 0.
    #[track_caller]
    pub(crate) fn resumed(&self, session: &str, seq: impl Into<Option<u64>>) -> GatewayClient {
        let mut client = self.shard();
        client.resume(&credentials(), session, seq.into()).expect("it can be resumed");
        client
    }

    /// Publishes events for shard 0 that say these numbers.
    #[track_caller]
    pub(crate) fn publish(&self, numbers: impl IntoIterator<Item = u64>) {
        self.wait(publish_to(self.node(), numbers));
    }

    /// The shards that an event reached, and its numbers there.
    #[track_caller]
    pub(crate) fn publish_as(&self, application: &str, event: NewEvent) -> Result<Vec<(u32, u64)>, PublishError> {
        let published = self.wait(self.node().publish_event(application, event))?;
        Ok(published.deliveries.iter().map(|delivery| (delivery.shard, delivery.seq)).collect())
    }

    /// What the store has of an application's fleet.
    #[track_caller]
    pub(crate) fn fleet(&self, application: &str) -> Vec<ShardRecord> {
        let shards = self.wait(self.node().shards_of(application, false)).expect("the store is there");
        shards.into_iter().map(|shard| shard.record).collect()
    }

    /// Waits until nobody carries shard 0 any more.
    #[track_caller]
    pub(crate) fn until_detached(&self) {
        eventually("nobody carries it", || self.fleet(APP).first().is_none_or(|shard| shard.owner.is_none()));
    }
}

/// Registers, and returns the id of the session.
#[track_caller]
pub(crate) fn register(client: &mut GatewayClient, credentials: &Credentials) -> String {
    let ready = client.register(credentials).unwrap_or_else(|refusal| panic!("{refusal}"));
    text(&ready["session_id"])
}

#[track_caller]
pub(crate) fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}")).to_owned()
}

/// The statistics of the fleet in an answer.
#[track_caller]
pub(crate) fn stats(began: &Value) -> &[Value] {
    let inner = (0..6).fold(&began["shards_stats"], |value, _| &value[0]);
    inner.as_array().unwrap_or_else(|| panic!("seven levels: {began}"))
}

/// The pairs of shard and number of shards in an answer.
#[track_caller]
pub(crate) fn pairs(began: &Value) -> &Value {
    (0..2).fold(&began["shards_config"], |value, _| &value[0])
}

/// The shard's public handle.
#[track_caller]
pub(crate) fn hash_of(stats: &Value) -> ConnId {
    stats["shard_hash"].as_str().and_then(ConnId::parse).unwrap_or_else(|| panic!("no handle: {stats}"))
}

/// The next messages, which are events that say these numbers, and are numbered one after the other from `first` on.
#[track_caller]
pub(crate) fn expect_events(client: &mut GatewayClient, first: u64, numbers: impl IntoIterator<Item = u64>) {
    for (s, number) in (first..).zip(numbers) {
        let expected =
            json!({"type": 8, "service": "gateway", "event": "ORDER_CREATED", "data": {"n": number}, "s": s});
        assert_eq!(client.hear(), expected);
    }
}

/// The next message, which is this error.
#[track_caller]
pub(crate) fn expect_error(client: &mut GatewayClient, code: u16, reason: &str) -> Value {
    let error = client.expect("GATEWAY_ERROR");
    assert_is_error(&error, code, reason);
    error
}

#[track_caller]
pub(crate) fn assert_is_error(error: &Value, code: u16, reason: &str) {
    assert_eq!((&error["data"]["code"], &error["data"]["reason"]), (&json!(code), &json!(reason)), "{error}");
}

/// Sends a request that is refused by this error.
#[track_caller]
pub(crate) fn assert_refused(client: &mut GatewayClient, request: &Value, code: u16, reason: &str) {
    client.send(request);
    expect_error(client, code, reason);
}

/// The connection is told that another one carries its session, and ends.
#[track_caller]
pub(crate) fn expect_replaced(client: &mut GatewayClient) {
    expect_error(client, 4020, "session_replaced");
    assert_eq!(client.closed(), Some(4020));
}

/// Resumes a session in vain, with whatever `seq`, on a connection of its own.
#[track_caller]
pub(crate) fn assert_gone(server: &TestServer, session: &str) {
    for seq in [None, Some(0)] {
        let refusal = server.shard().resume(&credentials(), session, seq).expect_err("it is gone");
        assert_eq!(refusal["event"], "GATEWAY_INVALID", "{refusal}");
    }
}

/// Ends a connection without a goodbye of TCP: the server gets a reset.
pub(crate) fn reset(client: GatewayClient) {
    SockRef::from(client.stream()).set_linger(Some(Duration::ZERO)).expect("it is a socket");
    drop(client);
}

/// The payload of the next frame as it is on the wire; nothing else may have been read of the connection's latest frames.
#[track_caller]
pub(crate) fn raw_frame(client: &GatewayClient) -> (u8, Vec<u8>) {
    let mut stream = client.stream();
    stream.set_read_timeout(Some(PATIENCE)).expect("it is a socket");
    let mut take = |count: usize| {
        let mut bytes = vec![0; count];
        stream.read_exact(&mut bytes).expect("a frame comes in time");
        bytes
    };
    let head = take(2);
    let length = match head[1] {
        126 => usize::from(u16::from_be_bytes(take(2).try_into().expect("two bytes"))),
        127 => panic!("a long frame"),
        short => usize::from(short),
    };
    (head[0], take(length))
}

/// Everything that comes until the end, and its code.
#[track_caller]
pub(crate) fn to_the_end(client: &mut GatewayClient) -> (Vec<Value>, Option<u16>) {
    let (deadline, mut came) = (Instant::now() + PATIENCE, Vec::new());
    loop {
        match client.next_until(deadline).expect("only messages come") {
            Some(Heard::Message(message)) => came.push(message),
            Some(Heard::Closed(code)) => return (came, code),
            None => panic!("it does not end: {} messages", came.len()),
        }
    }
}

/// Asks about a room, and returns the answer's `data`. What comes before it is kept.
#[track_caller]
pub(crate) fn about_room(client: &mut GatewayClient, mut d: Value, op: &str, room: &str) -> Value {
    d["op"] = op.into();
    d["room"] = room.into();
    client.send(&json!({"type": 10, "d": d}));
    client.expect("GATEWAY_ROOM")["data"].take()
}

/// A connection at a path with parameters.
#[track_caller]
pub(crate) fn open(address: SocketAddr, path: &str) -> GatewayClient {
    GatewayClient::open(address, path, &[]).expect("it is there")
}
