//! The generator: one thread around one epoll, so that it needs one core and leaves the other to the server.
//!
//! - [`run`] puts one load on a server and returns the [`Measurement`].
//! - `swarm`: the connections, how they come in and how they leave.
//! - `stream`: a socket, or TLS over one.
//! - `reader`: cuts what was read into lines or messages; `frames`: those of WebSocket.
//! - `protocol`: what is said in each protocol; `payload`: the text of a room message.
//! - `ledger`: what was said and who has heard it; notices every loss, repetition and wrong order.
//! - `bot`: comes in over DDP.
//! - `commands`: clients do what the server asks them to do; `executions`: what each of them did.
//! - `gateway`: shards that come, ping, are sent events, vanish and resume.
//! - `fan_out`, `requests`: the two kinds of load that go on for a while; `growth`: the first of them again and again.
//! - `window`: warm-up, the measured time, and what was used in it.

use std::fmt;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

pub use self::protocol::Protocol;
pub use self::stream::Trust;
use self::swarm::Swarm;
use super::probe::Probe;
use super::scenario::{self, Load};

mod bot;
mod commands;
mod executions;
mod fan_out;
mod frames;
mod gateway;
mod growth;
mod ledger;
mod payload;
mod protocol;
pub(crate) mod reader;
mod requests;
mod stream;
mod swarm;
mod window;

/// Where a server listens, and how it is spoken to.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// Its address.
    pub address: SocketAddr,
    /// What it speaks there.
    pub protocol: Protocol,
    /// Whom to trust, if it speaks that within TLS.
    pub trust: Option<Trust>,
    /// Another node of the same cluster, with which those are who speak in rooms.
    pub speakers_at: Option<SocketAddr>,
}

/// How long a load goes on. Loads that only open connections end by themselves.
#[derive(Clone, Copy, Debug)]
pub enum Plan {
    /// Until so many messages were said or requests sent; all of them are measured.
    Count(u64),
    /// For a time, after a warm-up that is not measured.
    Timed {
        /// Not measured.
        warm_up: Duration,
        /// Measured.
        window: Duration,
    },
}

/// What a load did in the measured time and what the server used for it.
#[derive(Clone, Debug, Default)]
pub struct Measurement {
    /// Deliveries, answers or connections.
    pub units: u64,
    /// The length of the measured time.
    pub seconds: f64,
    /// CPU time of the server.
    pub cpu_seconds: f64,
    /// Median of the time from saying to hearing, from request to answer, or from connecting to having joined.
    pub p50_ms: f64,
    /// 99th percentile of the same.
    pub p99_ms: f64,
    /// Units that one read of the generator brought: about as many as the server joined into one write.
    pub units_per_read: f64,
    /// Median round trip of a plain echo over the same connection, where one is measured in between.
    pub echo_p50_ms: f64,
    /// 99th percentile of the same.
    pub echo_p99_ms: f64,
    /// What was counted and checked besides, in words; nothing where there is nothing to say.
    pub note: String,
    /// Growth of the server's resident memory by each connection that joined and stays idle, or by each round.
    pub bytes_per_unit: f64,
}

impl Measurement {
    /// The figure that counts.
    pub fn cpu_us_per_unit(&self) -> f64 {
        self.cpu_seconds * 1e6 / self.units.max(1) as f64
    }

    /// The rate, which depends on the machine's other work more than anything else here.
    pub fn units_per_second(&self) -> f64 {
        self.units as f64 / self.seconds.max(f64::MIN_POSITIVE)
    }
}

/// Why a load could not be measured.
#[derive(Debug)]
pub enum LoadError {
    /// The server closed a connection.
    Closed,
    /// A member heard a message twice, or out of order, or its own.
    Disorder(String),
    /// A system call failed, or TLS did.
    Io(io::Error),
    /// The server kept connections open that their clients had left.
    Lingering {
        /// How many.
        open: usize,
    },
    /// Deliveries or answers were still missing long after the last message or request.
    Lost {
        /// How many.
        missing: u64,
    },
    /// The server answered with something else than success.
    Refused(String),
    /// Connections stopped making progress before they had all joined.
    Stuck {
        /// How many had joined.
        joined: usize,
    },
}

impl fmt::Display for LoadError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => write!(out, "the server closed a connection"),
            Self::Disorder(what) => write!(out, "wrong delivery: {what}"),
            Self::Io(error) => write!(out, "the generator failed: {error}"),
            Self::Lingering { open } => write!(out, "the server did not close {open} connections after their clients"),
            Self::Lost { missing } => write!(out, "{missing} deliveries or answers never came"),
            Self::Refused(line) => write!(out, "unexpected text: {line}"),
            Self::Stuck { joined } => write!(out, "no connection came in any more after {joined} had joined"),
        }
    }
}

impl std::error::Error for LoadError {}

impl From<io::Error> for LoadError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Puts a load on the server that listens at `endpoint` and whose process `probe` reads.
///
/// # Errors
///
/// When it cannot be measured; [`Load::Request`] is a load of the line protocol only, and bots over DDP have [`Load::Idle`] only.
pub fn run(load: &Load, endpoint: &Endpoint, probe: &Probe, plan: Plan) -> Result<Measurement, LoadError> {
    let clock = Clock::start();
    let rooms = scenario::rooms(load);
    match *load {
        Load::Idle { connections } => open_only(clock, endpoint, probe, (connections, AT_ONCE), &rooms),
        Load::Gateway(load) => gateway::run(load, clock, endpoint, probe, plan),
        _ if endpoint.protocol == Protocol::Ddp => {
            Err(io::Error::new(ErrorKind::Unsupported, "bots over DDP come in and wait, and nothing else").into())
        }
        Load::CommandRoundTrip => commands::round_trips(clock, endpoint, probe, plan),
        Load::CommandCollection { targets } => commands::collections(clock, endpoint, probe, plan, (targets, &rooms)),
        Load::CommandStorm(storm) => commands::storm(clock, endpoint, probe, storm, &rooms),
        Load::Connect { connections, at_once } => open_only(clock, endpoint, probe, (connections, at_once), &rooms),
        Load::FanOut(shape) => {
            let mut swarm = Swarm::open_to_speak(clock, endpoint, shape, &rooms)?;
            fan_out::run(shape, &mut swarm, &rooms, probe, plan)
        }
        Load::Growth { rounds, said, shape } => growth::run((rounds, said), shape, endpoint, &rooms, probe),
        Load::Request { .. } if endpoint.protocol != Protocol::Line => {
            Err(io::Error::new(ErrorKind::Unsupported, "requests are made in the line protocol only").into())
        }
        Load::Request { clients, outstanding } => {
            let swarm = Swarm::open(clock, endpoint, (clients, AT_ONCE), &rooms)?;
            requests::run(outstanding, swarm, probe, plan)
        }
    }
}

/// Opening connections is both the load of `connect` and, with another figure looked at, that of `idle`.
fn open_only(
    clock: Clock,
    endpoint: &Endpoint,
    probe: &Probe,
    count: (usize, usize),
    rooms: &[String],
) -> Result<Measurement, LoadError> {
    let (bytes, cpu_ns, start_ns) = (probe.resident_bytes()?, probe.cpu_ns()?, clock.now_ns());
    let swarm = Swarm::open(clock, endpoint, count, rooms)?;
    let (end_ns, cpu_ns) = (clock.now_ns(), probe.cpu_ns()?.saturating_sub(cpu_ns));
    let grown_bytes = probe.resident_bytes()?.saturating_sub(bytes);
    Ok(Measurement {
        units: count.0 as u64,
        seconds: (end_ns - start_ns) as f64 / 1e9,
        cpu_seconds: cpu_ns as f64 / 1e9,
        p50_ms: swarm.opening.quantile(0.5) as f64 / 1e6,
        p99_ms: swarm.opening.quantile(0.99) as f64 / 1e6,
        bytes_per_unit: grown_bytes as f64 / count.0 as f64,
        ..Measurement::default()
    })
}

/// Nanoseconds since the start of a run: half the size of an [`Instant`], and it can be subtracted without a proof.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    start: Instant,
}

impl Clock {
    pub(crate) fn start() -> Self {
        Self { start: Instant::now() }
    }

    fn now_ns(self) -> u64 {
        self.start.elapsed().as_nanos() as u64
    }
}

/// Connections in progress where the scenario does not say; well below every server's backlog.
const AT_ONCE: usize = 256;

/// After so long without any progress something is lost. Far above the longest turn of a slow server.
const PATIENCE: Duration = Duration::from_secs(10);
