//! The load tool against the floor, over real sockets: what it counts is what was sent.

use std::io;
use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use switchboard_testkit::bench::floor::{Floor, Mode};
use switchboard_testkit::bench::load::{self, LoadError, Measurement, Plan};
use switchboard_testkit::bench::probe::Probe;
use switchboard_testkit::bench::scenario::{FanOut, Load, Pace};

/// The floor serves until the test's process ends.
fn start_floor(mode: Mode) -> io::Result<SocketAddr> {
    let mut floor = Floor::bind(mode)?;
    let address = floor.address()?;
    thread::spawn(move || floor.run());
    Ok(address)
}

fn measure(mode: Mode, load: Load, plan: Plan) -> Result<Measurement, LoadError> {
    load::run(&load, start_floor(mode)?, &Probe::new(std::process::id()), plan)
}

#[test]
fn every_publish_reaches_every_other_member_once() {
    for mode in [Mode::Each, Mode::Batch] {
        for (speakers, pace) in [(1, Pace::Outstanding(1)), (4, Pace::Outstanding(16)), (2, Pace::PerSecond(5000))] {
            let load = Load::FanOut(FanOut { rooms: 1, members: 10, speakers, pace });
            let measured = measure(mode, load, Plan::Count(50)).unwrap();
            assert_eq!(measured.units, 50 * 9, "{mode:?} with {speakers} speakers, {pace:?}");
            assert!(measured.p50_ms > 0.0 && measured.p99_ms >= measured.p50_ms);
            assert!(measured.units_per_read >= 1.0 || speakers < 4, "reads are counted: {measured:?}");
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
