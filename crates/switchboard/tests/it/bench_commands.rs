//! The server and the generator of the bench's commands, over real sockets: what is measured is what happened.

use switchboard_testkit::bench::load::{self, Endpoint, LoadError, Measurement, Plan, Protocol};
use switchboard_testkit::bench::probe::Probe;
use switchboard_testkit::bench::scenario::{self, Bot, CommandStorm, Load};

use crate::support::TestServer;

#[allow(dead_code, reason = "the test starts what `main` would")]
#[path = "../../examples/bench_commands.rs"]
mod example;

/// Has a load run over both wires.
fn measure(load: Load, plan: Plan) -> Vec<Result<Measurement, LoadError>> {
    [Protocol::Line, Protocol::WebSocket]
        .into_iter()
        .map(|protocol| {
            let server = TestServer::build(&[], example::with_actions);
            for room in scenario::rooms(&load) {
                server.wait(server.node().add_room(&room)).unwrap();
            }
            let address = match protocol {
                Protocol::Line => server.address(),
                _ => server.web_address(),
            };
            let endpoint = Endpoint { address, protocol, trust: None, speakers_at: None };
            load::run(&load, &endpoint, &Probe::new(std::process::id()), plan)
        })
        .collect()
}

#[test]
fn commands_and_echoes_take_turns() {
    for measured in measure(Load::CommandRoundTrip, Plan::Count(200)) {
        let measured = measured.unwrap();
        assert_eq!(measured.units, 200);
        assert!(measured.p50_ms > 0.0 && measured.echo_p50_ms > 0.0, "{measured:?}");
        assert!(measured.p99_ms >= measured.p50_ms && measured.echo_p99_ms >= measured.echo_p50_ms);
    }
}

#[test]
fn every_member_of_a_room_replies_to_a_collection() {
    for measured in measure(Load::CommandCollection { targets: 50 }, Plan::Count(3)) {
        let measured = measured.unwrap();
        assert_eq!(measured.units, 150);
        assert!(measured.p50_ms > 0.0, "{measured:?}");
    }
}

#[test]
fn in_a_storm_every_command_has_one_outcome_and_none_is_executed_twice() {
    let storm = CommandStorm { targets: 40, killed: 2, commands: 1500, at_once: 16 };
    for measured in measure(Load::CommandStorm(storm), Plan::Count(0)) {
        let measured = measured.unwrap();
        assert_eq!(measured.units, 1500);
        assert!(measured.note.contains("2 of 40 targets vanished"), "{}", measured.note);
    }
}

#[test]
fn bots_log_in_and_wait() {
    let users: Vec<String> = (0..20)
        .map(Bot::new)
        .map(|bot| format!("{{id=\"{}\",username=\"{}\",password=\"{}\"}}", bot.id, bot.name, bot.password))
        .collect();
    let server = TestServer::with(&[&format!("users=[{}]", users.join(","))]);
    let endpoint = Endpoint { address: server.web_address(), protocol: Protocol::Ddp, trust: None, speakers_at: None };
    let of = |load| load::run(&load, &endpoint, &Probe::new(std::process::id()), Plan::Count(0));
    assert_eq!(of(Load::Idle { connections: 20 }).unwrap().units, 20);
    assert!(matches!(of(Load::Connect { connections: 1, at_once: 1 }), Err(LoadError::Io(_))), "bots only wait");
    assert!(matches!(of(Load::Idle { connections: 21 }), Err(LoadError::Refused(_))), "there is no bot of that number");
}
