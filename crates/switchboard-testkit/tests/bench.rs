//! The load tool against the floor and a WebSocket server, over real sockets: what it counts is what was sent.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use switchboard_testkit::bench::floor::{Floor, Mode};
use switchboard_testkit::bench::load::{self, Endpoint, LoadError, Measurement, Plan, Protocol, Trust};
use switchboard_testkit::bench::probe::Probe;
use switchboard_testkit::bench::scenario::{FanOut, Load, Pace};
use switchboard_testkit::certs::Authority;

mod web_server;

/// The floor serves until the test's process ends.
fn start_floor(mode: Mode) -> io::Result<SocketAddr> {
    let mut floor = Floor::bind(mode)?;
    let address = floor.address()?;
    thread::spawn(move || floor.run());
    Ok(address)
}

fn measure(mode: Mode, load: Load, plan: Plan) -> Result<Measurement, LoadError> {
    let endpoint = Endpoint { address: start_floor(mode)?, protocol: Protocol::Line, trust: None, speakers_at: None };
    load::run(&load, &endpoint, &Probe::new(std::process::id()), plan)
}

fn measure_web(protocol: Protocol, load: Load, plan: Plan) -> Result<Measurement, LoadError> {
    let endpoint = Endpoint { address: web_server::start(protocol, None)?, protocol, trust: None, speakers_at: None };
    load::run(&load, &endpoint, &Probe::new(std::process::id()), plan)
}

#[test]
fn every_publish_reaches_every_other_member_once() {
    for mode in [Mode::Each, Mode::Batch] {
        for (speakers, pace) in [(1, Pace::Outstanding(1)), (4, Pace::Outstanding(16)), (2, Pace::PerSecond(5000))] {
            let load = Load::FanOut(FanOut { rooms: 1, members: 10, speakers, pace });
            let measured = measure(mode, load, Plan::Count(50)).unwrap();
            assert_eq!(measured.units, 50 * 9, "{mode:?} with {speakers} speakers, {pace:?}");
            assert!(measured.p50_ms > 0.0 && measured.p99_ms >= measured.p50_ms);
            // Each of the nine other members reads at least once. How many publishes a read brings depends on the scheduler.
            assert!(measured.units_per_read <= 50.0, "reads are counted: {measured:?}");
        }
    }
}

#[test]
fn rooms_do_not_hear_each_other() {
    for mode in [Mode::Each, Mode::Batch] {
        let load = Load::FanOut(FanOut { rooms: 5, members: 4, speakers: 2, pace: Pace::Outstanding(7) });
        assert_eq!(measure(mode, load, Plan::Count(50)).unwrap().units, 50 * 3, "{mode:?}");
    }
}

#[test]
fn every_request_is_answered() {
    for (clients, outstanding) in [(3, 1), (2, 16)] {
        let load = Load::Request { clients, outstanding };
        assert_eq!(measure(Mode::Each, load, Plan::Count(200)).unwrap().units, 200);
    }
}

#[test]
fn connections_come_in_and_join() {
    for load in [Load::Connect { connections: 40, at_once: 7 }, Load::Idle { connections: 40 }] {
        let measured = measure(Mode::Each, load, Plan::Count(0)).unwrap();
        assert_eq!(measured.units, 40);
        assert!(measured.p99_ms > 0.0);
    }
}

#[test]
fn a_timed_run_ends_by_itself_and_measures_its_window_only() {
    let plan = Plan::Timed { warm_up: Duration::from_millis(20), window: Duration::from_millis(50) };
    let load = Load::FanOut(FanOut { rooms: 1, members: 10, speakers: 1, pace: Pace::Outstanding(4) });
    let measured = measure(Mode::Batch, load, plan).unwrap();
    assert!(measured.units > 0);
    assert!(measured.seconds >= 0.05, "{measured:?}");
}

#[test]
fn every_publish_over_web_socket_reaches_every_other_member_of_its_room_once() {
    for protocol in [Protocol::WebSocket, Protocol::SocketIo] {
        for (rooms, speakers, pace) in [(1, 1, Pace::Outstanding(1)), (1, 4, Pace::Outstanding(16)), (3, 2, PACED)] {
            let load = Load::FanOut(FanOut { rooms, members: 10, speakers, pace });
            let measured = measure_web(protocol, load, Plan::Count(50)).unwrap();
            assert_eq!(measured.units, 50 * 9, "{protocol:?}: {rooms} rooms with {speakers} speakers, {pace:?}");
            assert!(measured.p50_ms > 0.0 && measured.p99_ms >= measured.p50_ms);
        }
    }
}

const PACED: Pace = Pace::PerSecond(5000);

#[test]
fn connections_come_in_over_web_socket_and_join() {
    for protocol in [Protocol::WebSocket, Protocol::SocketIo] {
        for load in [Load::Connect { connections: 40, at_once: 7 }, Load::Idle { connections: 40 }] {
            assert_eq!(measure_web(protocol, load, Plan::Count(0)).unwrap().units, 40, "{protocol:?}");
        }
    }
}

#[test]
fn connections_come_in_over_tls_and_join() {
    let authority = Authority::new("bench").unwrap();
    let identity = authority.issue_server().unwrap();
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_protocol_versions(rustls::ALL_VERSIONS)
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![CertificateDer::from_pem_slice(identity.certificate.as_bytes()).unwrap()],
            PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).unwrap(),
        )
        .unwrap();
    let protocol = Protocol::WebSocket;
    let address = web_server::start(protocol, Some(Arc::new(config))).unwrap();
    let endpoint = Endpoint { address, protocol, trust: Some(Trust::new(&authority).unwrap()), speakers_at: None };
    let load = Load::Idle { connections: 20 };
    let measured = load::run(&load, &endpoint, &Probe::new(std::process::id()), Plan::Count(0)).unwrap();
    assert_eq!(measured.units, 20);
}

#[test]
fn growth_counts_the_rounds_after_the_second() {
    let shape = FanOut { rooms: 1, members: 8, speakers: 2, pace: Pace::Outstanding(5) };
    let load = Load::Growth { rounds: 5, said: 20, shape };
    assert_eq!(measure(Mode::Batch, load, Plan::Count(0)).unwrap().units, 3);
    for protocol in [Protocol::WebSocket, Protocol::SocketIo] {
        assert_eq!(measure_web(protocol, load, Plan::Count(0)).unwrap().units, 3, "{protocol:?}");
    }
}

#[test]
fn requests_are_made_in_the_line_protocol_only() {
    let load = Load::Request { clients: 1, outstanding: 1 };
    assert!(matches!(measure_web(Protocol::WebSocket, load, Plan::Count(1)), Err(LoadError::Io(_))));
}
