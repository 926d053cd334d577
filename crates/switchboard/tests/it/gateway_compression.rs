//! How messages are packed in either direction, as the client asks for it.

use std::io::Read;
use std::ops::RangeInclusive;

use flate2::read::ZlibDecoder;
use flate2::{Decompress, FlushDecompress};
use serde_json::{Value, json};
use switchboard::RawJson;
use switchboard::backend::sessions::shards::ShardTarget;
use switchboard::command::{ClientCommand, Outcome, Target};
use switchboard_testkit::gateway::{Credentials, GatewayClient};
use zstd::stream::raw::{Decoder, InBuffer, Operation, OutBuffer};

use super::bots::fail_fast;
use super::gateway_support::{
    APP, credentials, event, expect_error, expect_events, hash_of, open, raw_frame, register, serving, stats, text,
};
use super::peer::eventually;
use super::support::TestServer;

const TEXT: u8 = 0x81;
const BINARY: u8 = 0x82;

/// Reads messages of one connection as they are packed.
enum Unpacking {
    Text,
    Zlib,
    ZlibStream(Decompress),
    ZstdStream(Box<Decoder<'static>>),
}

impl Unpacking {
    /// The message in a frame.
    #[track_caller]
    fn unpack(&mut self, (first, payload): (u8, Vec<u8>)) -> Value {
        let mut json = vec![0; 1 << 16];
        let length = match self {
            Self::Text => return serde_json::from_slice(&payload).unwrap(),
            Self::Zlib => {
                let mut json = Vec::new();
                ZlibDecoder::new(&*payload).read_to_end(&mut json).unwrap();
                return serde_json::from_slice(&json).unwrap();
            }
            Self::ZlibStream(stream) => {
                assert!(payload.ends_with(&[0, 0, 0xff, 0xff]), "a message ends with its frame: {payload:x?}");
                let before = stream.total_out();
                stream.decompress(&payload, &mut json, FlushDecompress::Sync).unwrap();
                (stream.total_out() - before) as usize
            }
            Self::ZstdStream(stream) => {
                let (mut input, mut output) = (InBuffer::around(&payload), OutBuffer::around(&mut json));
                while input.pos < payload.len() {
                    stream.run(&mut input, &mut output).unwrap();
                }
                output.pos()
            }
        };
        assert_eq!(first, BINARY);
        serde_json::from_slice(&json[..length]).unwrap_or_else(|error| panic!("{error}: {payload:x?}"))
    }

    #[track_caller]
    fn hear(&mut self, client: &GatewayClient) -> Value {
        let frame = raw_frame(client);
        assert_eq!(frame.0, if matches!(self, Self::Text) { TEXT } else { BINARY });
        self.unpack(frame)
    }
}

/// Registers, hears events, loses the connection and resumes, all as it is packed.
#[track_caller]
fn live(server: &TestServer, path: &str, new: impl Fn() -> Unpacking) {
    let (mut client, mut packed) = (open(server.web_address(), path), new());
    client.send(&credentials().registration());
    let session = text(&packed.hear(&client)["data"]["session_id"]);
    client.send(&json!({"type": 3}));
    assert_eq!(packed.hear(&client)["event"], "GATEWAY_PING");
    let events = |numbers: RangeInclusive<u64>| {
        for number in numbers {
            // Some with more text than others, much of it the same as before.
            let data = json!([number, "ä€ ".repeat(number as usize % 700)]);
            server.publish_as(APP, event(ShardTarget::Shard(0), &data)).unwrap();
        }
    };
    let hear = |packed: &mut Unpacking, client: &GatewayClient, numbers: RangeInclusive<u64>| {
        for number in numbers {
            let heard = packed.hear(client);
            assert_eq!((&heard["s"], &heard["data"][0]), (&json!(number), &json!(number)));
            assert_eq!(heard["data"][1].as_str().unwrap().chars().count() as u64, 3 * (number % 700));
        }
    };
    events(1..=200);
    hear(&mut packed, &client, 1..=200);
    client.hang_up();
    events(201..=400);
    let (mut client, mut packed) = (open(server.web_address(), path), new());
    client.send(&credentials().resumption(&session, Some(150)));
    assert_eq!(packed.hear(&client)["event"], "GATEWAY_RESUMED");
    hear(&mut packed, &client, 151..=400);
    client.send(&json!({"type": 0}));
    assert_eq!(packed.hear(&client)["data"]["code"], 4001);
}

#[test]
fn a_connection_is_packed_from_its_first_message_to_its_last_as_it_asked() {
    let server = serving(&["servers.gateway.heartbeat_interval=0ms"]);
    live(&server, "/gateway", || Unpacking::Text);
    live(&server, "/gateway?compress=none", || Unpacking::Text);
    live(&server, "/gateway?v=1&compress=zlib", || Unpacking::Zlib);
    live(&server, "/ws_interaction?compress=zlib-stream", || Unpacking::ZlibStream(Decompress::new(true)));
    live(&server, "/gateway?compress=zstd-stream", || Unpacking::ZstdStream(Box::new(Decoder::new().unwrap())));
}

#[test]
fn a_client_may_ask_for_packed_messages_with_its_first_one() {
    let server = serving(&[]);
    let (mut client, mut packed) = (server.shard(), Unpacking::Zlib);
    let mut request = credentials().registration();
    request["d"]["encode"] = true.into();
    client.send(&json!({"type": 3}));
    expect_error(&mut client, 4003, "not_registered");
    client.send(&request);
    let session = text(&packed.hear(&client)["data"]["session_id"]);
    server.publish([1]);
    assert_eq!(packed.hear(&client)["s"], 1);
    client.hang_up();
    // It is the connection's, not the session's.
    let mut client = server.resumed(&session, 0);
    expect_events(&mut client, 1, [1]);
}

#[test]
fn a_client_of_header_mode_may_ask_for_plain_text() {
    let server = serving(&[]);
    let headers = Credentials { id: Some(APP.to_owned()), ..credentials() }.headers();
    let mut client = GatewayClient::open(server.web_address(), "/gateway?compress=none", &headers).unwrap();
    client.expect("GATEWAY_HELLO");
    register(&mut client, &credentials());
    server.publish([1]);
    assert_eq!(Unpacking::Text.hear(&client)["s"], 1);
}

#[test]
fn a_command_that_does_not_fit_ends_a_stream_that_could_not_be_read_on() {
    let server = serving(&["limits.max_outbox_bytes=1KiB"]);
    // What no compressor makes short.
    let mut number: u64 = 1;
    let mut data = String::new();
    for _ in 0..4096 {
        number = number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        data.push(char::from(b'0' + (number >> 33) as u8 % 64));
    }
    let command = json!({"key": "getLogs", "data": data});
    for (path, code) in [("/gateway?compress=zlib-stream", Some(4026)), ("/gateway?compress=zlib", None)] {
        let (mut client, mut first) = (open(server.web_address(), path), Unpacking::ZlibStream(Decompress::new(true)));
        let mut request = credentials().registration();
        request["d"]["client"] = json!({"commands": true});
        client.send(&request);
        let ready = match code {
            Some(_) => first.hear(&client),
            None => Unpacking::Zlib.hear(&client),
        };
        let hash = hash_of(&stats(&ready["data"])[0]);
        eventually("it takes commands", || server.node().client_of(hash).is_some_and(|client| !client.is_settling));
        let command = ClientCommand::from_json(RawJson::from_value(&command)).unwrap();
        let sending = server.node().begin_client_command(Target::Connection(hash), command, fail_fast());
        let pending = server.wait(sending).unwrap();
        server.outcome(pending, Outcome::Overflow);
        match code {
            Some(_) => assert_eq!(client.closed(), code),
            None => {
                client.send(&json!({"type": 3}));
                assert_eq!(Unpacking::Zlib.hear(&client)["event"], "GATEWAY_PING", "it can be read on");
            }
        }
    }
}

#[test]
fn versions_and_packings_that_there_are_not_are_refused() {
    let server = serving(&["servers.gateway.stream_compression=false"]);
    for query in ["v=2", "v=", "v=1.0", "compress=gzip", "compress=", "compress=zlib-stream", "compress=zstd-stream"] {
        let mut client = open(server.web_address(), &format!("/gateway?{query}"));
        expect_error(&mut client, 4012, "unsupported");
        assert_eq!(client.closed(), Some(4012), "{query}");
    }
}
