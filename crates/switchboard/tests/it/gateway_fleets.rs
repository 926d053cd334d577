//! Shards beside each other: who may register, how many there are, which of them is sent what, and what they see of each other.

use serde_json::{Value, json};
use switchboard::backend::sessions::shards::ShardTarget;
use switchboard::node::gateway::events::{NewEvent, PublishError};
use switchboard_testkit::gateway::{Credentials, GatewayClient};

use super::gateway_support::{
    APP, assert_gone, assert_refused, credentials, expect_error, expect_events, foreign, numbered, pairs, register,
    serving, stats, text,
};
use super::support::TestServer;

/// Those of the application that has two shards.
fn of_two(shard: u32) -> Credentials {
    Credentials::new("aa02", "two").of_shard(shard)
}

fn declaring(shard: u32, total: u32) -> Credentials {
    Credentials { total: Some(total), ..credentials().of_shard(shard) }
}

fn development(shard: u32) -> Credentials {
    Credentials { flags: 1, ..credentials().of_shard(shard) }
}

/// Registers as no such shard, and is closed.
#[track_caller]
fn assert_no_such_shard(server: &TestServer, credentials: &Credentials) {
    let mut client = server.shard();
    assert_refused(&mut client, &credentials.registration(), 4010, "invalid_shard");
    assert_eq!(client.closed(), Some(4010));
}

/// A connection that has registered, and the answer's `data`.
#[track_caller]
fn joined(server: &TestServer, credentials: &Credentials) -> (GatewayClient, Value) {
    let mut client = server.shard();
    let ready = client.register(credentials).unwrap_or_else(|refusal| panic!("{refusal}"));
    (client, ready)
}

#[test]
fn other_shards_wait_for_shard_0_and_not_for_its_connection() {
    let server = serving(&[]);
    let mut other = server.shard();
    other.send(&credentials().of_shard(1).registration());
    let told = expect_error(&mut other, 4023, "shard_master_required");
    assert!(told["data"]["retry_after_ms"].as_u64().is_some_and(|ms| ms > 0), "{told}");
    let (master, session) = server.registered();
    // The other fleet and other applications have masters of their own.
    for credentials in [development(1), foreign().of_shard(1)] {
        assert_refused(&mut server.shard(), &credentials.registration(), 4023, "shard_master_required");
    }
    master.hang_up();
    server.until_detached();
    let ready = other.register(&credentials().of_shard(1)).unwrap();
    assert_eq!(pairs(&ready), &json!([[0, 2], [1, 2]]));
    // Without a master a shard takes up its session all the same.
    let mut master = server.resumed(&session, 0);
    master.send_close(4100).unwrap();
    master.closed();
    other.hang_up();
    let resumed = server.shard().resume(&credentials().of_shard(1), &text(&ready["session_id"]), None).unwrap();
    assert_eq!(pairs(&resumed), &json!([[1, 2]]));
}

#[test]
fn development_shards_are_a_fleet_of_their_own() {
    let server = serving(&[]);
    let (mut production, _) = server.registered();
    let (mut developer, ready) = joined(&server, &development(0));
    assert_eq!((pairs(&ready), stats(&ready).len()), (&json!([[0, 1]]), 1));
    assert_eq!((&stats(&ready)[0]["development"], &ready["application_bot"]["flags"]), (&json!(true), &json!(3)));
    server.publish([1]);
    let for_developers = NewEvent { development: true, ..numbered(ShardTarget::Shard(0), 2) };
    assert_eq!(server.publish_as(APP, for_developers).unwrap(), [(0, 1)]);
    expect_events(&mut production, 1, [1]);
    expect_events(&mut developer, 1, [2]);
    production.expect_silence();
    developer.expect_silence();
    let refused = Credentials { flags: 1, ..of_two(0) };
    assert_refused(&mut server.shard(), &refused.registration(), 4023, "development_not_allowed");
}

#[test]
fn a_fleet_whose_size_is_configured_has_no_other() {
    let server = serving(&["servers.gateway.max_shards=5"]);
    let (_master, ready) = joined(&server, &of_two(0));
    assert_eq!(pairs(&ready), &json!([[0, 2]]));
    let (_other, ready) = joined(&server, &of_two(1));
    assert_eq!(pairs(&ready), &json!([[0, 2], [1, 2]]));
    assert_no_such_shard(&server, &of_two(2));
    assert_no_such_shard(&server, &of_two(u32::MAX));
    assert_no_such_shard(&server, &Credentials { total: Some(3), ..of_two(0) });
    assert_no_such_shard(&server, &Credentials { total: Some(3), ..of_two(1) });
    // Without a configured size there is still an end.
    assert_no_such_shard(&server, &credentials().of_shard(5));
    assert_no_such_shard(&server, &declaring(0, 6));
    let (_master, ready) = joined(&server, &declaring(0, 5));
    assert_eq!(pairs(&ready), &json!([[0, 5]]));
}

#[test]
fn a_fleet_has_the_size_that_its_master_declares() {
    let server = serving(&[]);
    assert_no_such_shard(&server, &declaring(3, 3));
    let (mut master, ready) = joined(&server, &declaring(0, 3));
    assert_eq!(pairs(&ready), &json!([[0, 3]]));
    let (mut silent, ready) = joined(&server, &credentials().of_shard(1));
    assert_eq!(pairs(&ready), &json!([[0, 3], [1, 3]]));
    let (_agreeing, ready) = joined(&server, &declaring(2, 3));
    assert_eq!(pairs(&ready), &json!([[0, 3], [1, 3], [2, 3]]));
    assert_no_such_shard(&server, &declaring(1, 4));
    assert_no_such_shard(&server, &credentials().of_shard(3));
    // What was refused has cost nobody his place.
    let guild = |id: u64| numbered(ShardTarget::Guild(id << 22), id);
    assert_eq!(server.publish_as(APP, guild(4)).unwrap(), [(1, 1)]);
    assert_eq!(server.publish_as(APP, guild(3)).unwrap(), [(0, 1)]);
    expect_events(&mut silent, 1, [4]);
    expect_events(&mut master, 1, [3]);
}

#[test]
fn a_master_that_declares_another_size_has_all_others_register_again() {
    let server = serving(&[]);
    let (_old_master, _) = joined(&server, &declaring(0, 2));
    let (mut attached, ready) = joined(&server, &declaring(1, 2));
    let session = text(&ready["session_id"]);
    let (mut developer, _) = joined(&server, &development(0));
    let (_new_master, ready) = joined(&server, &declaring(0, 4));
    assert_eq!(pairs(&ready), &json!([[0, 4]]));
    expect_error(&mut attached, 4022, "resharded");
    assert_eq!(attached.closed(), Some(4022));
    let mut back = server.shard();
    let refusal = back.resume(&credentials().of_shard(1), &session, None).unwrap_err();
    assert_eq!(refusal["event"], "GATEWAY_INVALID");
    let ready = back.register(&declaring(1, 4)).unwrap();
    assert_eq!(pairs(&ready), &json!([[0, 4], [1, 4]]));
    developer.expect_silence();
}

#[test]
fn a_fleet_of_which_nobody_says_how_large_it_is_grows() {
    let server = serving(&[]);
    let (mut master, _) = server.registered();
    let (_third, ready) = joined(&server, &credentials().of_shard(2));
    assert_eq!(pairs(&ready), &json!([[0, 3], [2, 3]]));
    // Shard 1 has none, and whoever publishes is told.
    let guild = |id: u64| numbered(ShardTarget::Guild(id << 22), id);
    assert!(matches!(server.publish_as(APP, guild(1)), Err(PublishError::NoSession)));
    assert_eq!(server.publish_as(APP, guild(2)).unwrap(), [(2, 1)]);
    assert_eq!(server.publish_as(APP, numbered(ShardTarget::All, 9)).unwrap(), [(0, 1), (2, 2)]);
    expect_events(&mut master, 1, [9]);
}

#[test]
fn where_a_shard_that_is_taken_stays_taken_the_newcomer_is_told_and_may_wait() {
    let server = serving(&["servers.gateway.duplicate_shard=reject"]);
    let (mut owner, session) = server.registered();
    let mut newcomer = server.shard();
    assert_refused(&mut newcomer, &credentials().registration(), 4020, "session_replaced");
    server.publish([1]);
    expect_events(&mut owner, 1, [1]);
    // Registering again on the connection that has it is something else.
    let second = register(&mut owner, &credentials());
    assert_ne!(second, session);
    assert_refused(&mut newcomer, &credentials().registration(), 4020, "session_replaced");
    owner.hang_up();
    server.until_detached();
    let third = register(&mut newcomer, &credentials());
    assert_gone(&server, &second);
    server.publish([2]);
    expect_events(&mut newcomer, 1, [2]);
    newcomer.hang_up();
    server.resumed(&third, 1).expect_silence();
}

#[test]
fn an_application_that_begins_too_many_sessions_at_once_is_asked_to_wait_and_resumes_are_free() {
    let server = serving(&["servers.gateway.start_concurrency=2"]);
    let (owner, _) = server.registered();
    let session = register(&mut server.shard(), &credentials());
    drop(owner);
    let mut third = server.shard();
    // However often: it does not end the connection.
    for _ in 0..12 {
        third.send(&credentials().registration());
        let told = expect_error(&mut third, 4024, "start_concurrency");
        assert_eq!(told["rate_limit"], true);
        let retry_ms = told["data"]["retry_after_ms"].as_u64().unwrap();
        assert!((1..=5000).contains(&retry_ms), "{told}");
    }
    for _ in 0..5 {
        server.resumed(&session, 0).hang_up();
    }
    third.resume(&credentials(), &session, None).unwrap();
    // Others have limits of their own.
    joined(&server, &foreign());
}

#[test]
fn an_application_that_began_as_many_sessions_as_it_may_in_a_day_is_closed() {
    let server = serving(&["servers.gateway.start_total=2"]);
    let (_owner, _) = server.registered();
    let (_owner, session) = server.registered();
    let mut third = server.shard();
    third.send(&credentials().registration());
    let told = expect_error(&mut third, 4025, "start_limit");
    let retry_ms = told["data"]["retry_after_ms"].as_u64().unwrap();
    assert!((86_000_000..=86_400_000).contains(&retry_ms), "{told}");
    assert_eq!(third.closed(), Some(4025));
    server.resumed(&session, 0).expect_silence();
    joined(&server, &foreign());
}

#[test]
fn shards_see_all_of_their_fleet_with_figures_that_outlive_connections() {
    let server = serving(&[]);
    let (mut master, ready) = joined(&server, &credentials());
    let (mut second, _) = joined(&server, &credentials().of_shard(1));
    master.ping(None);
    master.ping(None);
    second.ping(None);
    second.send(&json!({"type": 89}));
    assert_refused(&mut second, &json!({"type": 77}), 4001, "unknown_type");
    server.publish([1]);
    expect_events(&mut master, 1, [1]);
    master.hang_up();
    server.until_detached();
    let (third, seen) = joined(&server, &credentials().of_shard(2));
    let expected = |shard: u32, disconnected: bool, [pings, received, pongs, sent]: [u32; 4]| {
        let hash = &stats(&seen)[shard as usize]["shard_hash"];
        json!({"development": false, "disconnected": disconnected, "receibe_ping": pings, "received": received,
            "send_ping": pongs, "sending": sent, "shard_hash": hash, "shard_id": shard})
    };
    assert_eq!(pairs(&seen), &json!([[0, 3], [1, 3], [2, 3]]));
    assert_eq!(stats(&seen)[0]["shard_hash"], stats(&ready)[0]["shard_hash"]);
    let figures = [
        expected(0, true, [2, 2, 2, 3]),
        // A message of a type that there is not is none that was accepted.
        expected(1, false, [2, 2, 1, 2]),
        expected(2, false, [0; 4]),
    ];
    assert_eq!(stats(&seen), figures);
    // A resume and its answer count nowhere.
    let mut master = server.shard();
    let resumed = master.resume(&credentials(), &text(&ready["session_id"]), Some(1)).unwrap();
    assert_eq!(stats(&resumed)[0], expected(0, false, [2, 2, 2, 3]));
    third.hang_up();
}

#[test]
fn the_existing_client_finds_its_shards_registered_in_its_own_way() {
    let server = serving(&[]);
    let headers =
        |shard: u32| Credentials { id: Some(APP.to_owned()), total: Some(2), ..credentials().of_shard(shard) };
    let connect = |shard: u32| GatewayClient::with_headers(server.web_address(), &headers(shard)).unwrap();
    let mut first = connect(0);
    assert_eq!(first.expect("GATEWAY_HELLO")["data"]["starting_shards"], true);
    first.send(&json!({"type": 1, "d": {"public_key": "3f0c", "shard_id": 0, "flags": 0}}));
    first.send(&json!({"type": 3, "d": {"public_key": "3f0c", "shard_id": 0}}));
    let session = text(&first.expect("GATEWAY_READY")["data"]["session_id"]);
    let info = first.expect("GATEWAY_SHARD_INFO");
    assert_eq!((&info["session_id"], info["data"][0][0][0].as_array().unwrap().len()), (&json!(session), 1));
    let mut second = connect(1);
    assert_eq!(second.expect("GATEWAY_HELLO")["data"]["starting_shards"], false);
    second.send(&json!({"type": 3, "d": {"public_key": "3f0c", "shard_id": 1}}));
    let info = second.expect("GATEWAY_SHARD_INFO");
    let shards = info["data"][0][0][0].as_array().unwrap();
    assert_eq!(shards.iter().map(|shard| &shard["shard_id"]).collect::<Vec<_>>(), [&json!(0), &json!(1)]);
    // Such a shard can be resumed as any other.
    let session = text(&info["session_id"]);
    second.hang_up();
    server.publish_as(APP, numbered(ShardTarget::Shard(1), 1)).unwrap();
    let mut second = server.shard();
    second.resume(&credentials().of_shard(1), &session, Some(0)).unwrap();
    expect_events(&mut second, 1, [1]);
    // It keeps alive without pings, and is not answered.
    first.send(&json!({"type": 89, "message": ""}));
    first.expect_silence();
}
