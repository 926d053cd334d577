//! The server and the generator of the bench's shards, over real sockets: what is measured is what happened.

use std::time::Duration;

use switchboard_testkit::bench::load::{self, Endpoint, Measurement, Plan, Protocol};
use switchboard_testkit::bench::probe::Probe;
use switchboard_testkit::bench::scenario::{self, GatewayLoad, Load};

use crate::peer::Folder;
use crate::support::TestServer;

#[allow(dead_code, reason = "the test starts what `main` would")]
#[path = "../../examples/bench_gateway.rs"]
mod example;

#[track_caller]
fn measure(load: GatewayLoad, plan: Plan, settings: &[&str]) -> Measurement {
    let load = Load::Gateway(load);
    let applications: Vec<String> = scenario::applications(&load)
        .iter()
        .map(|application| format!("{{id=\"{}\",public_key=\"{}\"}}", application.id, application.public_key))
        .collect();
    let applications = format!("gateway.applications=[{}]", applications.join(","));
    let server = TestServer::build(
        &[settings, &[&applications, "servers.gateway.rate_messages=0"]].concat(),
        example::with_actions,
    );
    let endpoint =
        Endpoint { address: server.web_address(), protocol: Protocol::Gateway, trust: None, speakers_at: None };
    load::run(&load, &endpoint, &Probe::new(std::process::id()), plan).unwrap()
}

#[test]
fn every_ping_of_many_shards_is_answered() {
    let measured = measure(GatewayLoad::Pings { shards: 20, per_second: 500 }, Plan::Count(200), &[]);
    assert_eq!(measured.units, 200);
    assert!(measured.p99_ms >= measured.p50_ms && measured.p50_ms > 0.0, "{measured:?}");
}

#[test]
fn shards_of_several_applications_register_and_stay() {
    let measured = measure(GatewayLoad::Idle { applications: 3, shards: 15 }, Plan::Count(0), &[]);
    assert_eq!(measured.units, 45);
}

#[test]
fn a_shard_that_was_away_gets_all_that_it_missed() {
    let measured = measure(GatewayLoad::Resume { events: 300 }, Plan::Count(3), &[]);
    assert_eq!(measured.units, 900);
    assert!(measured.p50_ms > 0.0, "{measured:?}");
}

#[test]
fn all_shards_resume_at_once() {
    let measured = measure(GatewayLoad::Resumes { shards: 50 }, Plan::Count(0), &[]);
    assert_eq!(measured.units, 50);
}

#[test]
fn every_event_is_heard_whether_so_many_are_published_or_for_so_long() {
    let (warm_up, window) = (Duration::from_millis(20), Duration::from_millis(200));
    for (durable, plan) in
        [(false, Plan::Count(500)), (true, Plan::Count(500)), (false, Plan::Timed { warm_up, window })]
    {
        let folder = Folder::new();
        let kind = if durable { "file" } else { "memory" };
        let settings = [format!("backend.kind={kind}"), format!("node.data_dir={}", folder.path().display())];
        let measured =
            measure(GatewayLoad::Events { at_once: 16, durable }, plan, &settings.each_ref().map(String::as_str));
        match plan {
            Plan::Count(count) => assert_eq!(measured.units, count),
            Plan::Timed { .. } => assert!(measured.units > 0),
        }
    }
}
