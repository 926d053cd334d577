//! The loads, what each is compared with, and the figures asked for.

/// One load with its yardstick and targets.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    /// The word for it on the command line.
    pub name: &'static str,
    /// What it does, in a few words.
    pub what: &'static str,
    /// How servers are reached. The floors speak the line protocol whatever it is.
    pub transport: Transport,
    /// The load itself.
    pub load: Load,
    /// Whether there are two nodes with Redis between them: those who speak are with one, the others with the one that is measured.
    pub is_relayed: bool,
    /// The floor whose figure the server's is divided by.
    pub yardstick: Yardstick,
    /// The figures asked for, if any are.
    pub target: Option<Target>,
    /// The ratio asked for between the 99th percentiles of latency.
    pub p99_target: Option<Target>,
}

impl Scenario {
    /// Whether the server sends commands, which takes a server that is told to.
    pub fn is_of_commands(&self) -> bool {
        matches!(self.load, Load::CommandCollection { .. } | Load::CommandRoundTrip | Load::CommandStorm(_))
    }

    /// Whether the server publishes events, which takes a server that is told to.
    pub fn is_of_events(&self) -> bool {
        matches!(self.load, Load::Gateway(GatewayLoad::Events { .. } | GatewayLoad::Resume { .. }))
    }

    /// Whether what is published is in a file first.
    pub fn is_durable(&self) -> bool {
        matches!(self.load, Load::Gateway(GatewayLoad::Events { durable: true, .. }))
    }

    /// Whether the pace is given, which makes latencies comparable.
    pub fn is_paced(&self) -> bool {
        matches!(self.load, Load::FanOut(FanOut { pace: Pace::PerSecond(_), .. }))
    }
}

/// How servers are reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// DDP over WebSocket.
    Ddp,
    /// The gateway.
    Gateway,
    /// Lines over TCP.
    Line,
    /// WebSocket within TLS.
    SecureWebSocket,
    /// WebSocket over TCP.
    WebSocket,
}

/// What the generator does to the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Load {
    /// The server sends a command to one client, which replies, again and again; in between the client asks for an echo.
    CommandRoundTrip,
    /// The server sends a command to all members of a room and collects their replies.
    CommandCollection {
        /// How many members.
        targets: usize,
    },
    /// The server sends commands of every mode while some of the targets vanish.
    CommandStorm(CommandStorm),
    /// Open so many connections, at most `at_once` in progress, each with welcome and joined room.
    Connect {
        /// How many in all.
        connections: usize,
        /// How many in progress at a time.
        at_once: usize,
    },
    /// Members of rooms speak.
    FanOut(FanOut),
    /// Shards of the gateway.
    Gateway(GatewayLoad),
    /// All members of the rooms come, messages are said, and all leave, again and again.
    Growth {
        /// How often; more than the two that are not measured.
        rounds: usize,
        /// How many messages are said in a round.
        said: u64,
        /// Who is there.
        shape: FanOut,
    },
    /// Open so many connections that join one room and do nothing.
    Idle {
        /// How many.
        connections: usize,
    },
    /// Clients ask for a simple action.
    Request {
        /// How many clients.
        clients: usize,
        /// How many requests each has outstanding.
        outstanding: usize,
    },
}

/// What shards of the gateway do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GatewayLoad {
    /// The server publishes events to one shard.
    Events {
        /// How many publications are on the way at any time.
        at_once: u64,
        /// Whether each is in a file before it counts as published.
        durable: bool,
    },
    /// All register and do nothing.
    Idle {
        /// How many applications.
        applications: usize,
        /// How many shards each has.
        shards: usize,
    },
    /// All register and ping in turn.
    Pings {
        /// How many shards.
        shards: usize,
        /// How many pings a second, of all shards together.
        per_second: u32,
    },
    /// A shard vanishes, misses events and resumes, again and again.
    Resume {
        /// How many events it misses.
        events: u64,
    },
    /// All register, vanish, and resume at once.
    Resumes {
        /// How many shards.
        shards: usize,
    },
}

/// A load of many commands at a time, with targets that vanish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommandStorm {
    /// How many clients take commands: rooms of ten, and two of each user.
    pub targets: usize,
    /// How many of them end without a word, one after the other.
    pub killed: usize,
    /// How many commands are sent.
    pub commands: u64,
    /// How many of them are pending at any time.
    pub at_once: usize,
}

/// A load of room messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FanOut {
    /// How many rooms.
    pub rooms: usize,
    /// How many members in each.
    pub members: usize,
    /// How many of the members speak in turn; at most [`MAX_SPEAKERS`].
    pub speakers: usize,
    /// What decides when the next message is said.
    pub pace: Pace,
}

impl FanOut {
    /// How many connections the load needs.
    pub fn connections(&self) -> usize {
        self.rooms * self.members
    }
}

/// What decides when the next message is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// As many as this are incomplete at any time, over all rooms. A message is complete when every other member has it.
    Outstanding(usize),
    /// As many as this a second, at equal distances, however the server does.
    PerSecond(u32),
}

/// A floor to compare with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Yardstick {
    /// No floor: a plain echo over the same connection, in the same run.
    Echo,
    /// The floor that joins what one wake-up brought.
    FloorBatch,
    /// The floor that writes every message to every member.
    FloorEach,
}

/// A figure that a release must reach, and the one that the design aims at.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Target {
    /// What both are.
    pub quantity: Quantity,
    /// Above this a release fails, or below it where more is better.
    pub must: f64,
    /// The goal, if it is another one.
    pub aim: Option<f64>,
}

/// What a target's figures are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quantity {
    /// Bytes of resident memory per connection.
    Bytes,
    /// Milliseconds from sending to outcome.
    Millis,
    /// Microseconds of CPU time per unit.
    Micros,
    /// Units in a second: less than this fails.
    PerSecond,
    /// A ratio to the yardstick.
    Ratio,
}

/// More members of a room than this never speak in a scenario: the generator tells speakers apart by one digit and
/// keeps a sequence for each pair of speaker and listener.
pub const MAX_SPEAKERS: usize = 4;

/// All scenarios, in the order of the documentation.
///
/// Rooms in which bursts are wanted have four speakers, so that bursts come from several connections as they would from
/// people, and a server must leave its own messages out of what each of them hears. Where nothing is outstanding
/// together there is one speaker, as more of them would change nothing.
pub const ALL: [Scenario; 34] = [
    A,
    A1,
    B,
    C,
    D,
    E1,
    Scenario {
        name: "e16",
        what: "64 clients, 16 requests outstanding each",
        load: Load::Request { clients: 64, outstanding: 16 },
        target: ratio(3.0, 2.0),
        ..E1
    },
    IDLE,
    CONNECT,
    GROWTH,
    Scenario { name: "ws-a", transport: Transport::WebSocket, ..A },
    Scenario { name: "ws-a1", transport: Transport::WebSocket, target: ratio(1.35, 1.10), ..A1 },
    Scenario { name: "ws-b", transport: Transport::WebSocket, ..B },
    Scenario { name: "ws-c", transport: Transport::WebSocket, ..C },
    Scenario { name: "ws-d", transport: Transport::WebSocket, p99_target: None, ..D },
    Scenario { name: "ws-idle", transport: Transport::WebSocket, target: bytes(1200.0, Some(600.0)), ..IDLE },
    Scenario { name: "ws-tls-idle", transport: Transport::SecureWebSocket, target: bytes(14_336.0, None), ..IDLE },
    Scenario {
        name: "ws-connect",
        transport: Transport::WebSocket,
        target: Some(Target { quantity: Quantity::Micros, must: 60.0, aim: Some(19.0) }),
        ..CONNECT
    },
    Scenario { name: "ws-growth", transport: Transport::WebSocket, ..GROWTH },
    CMD_1,
    CMD_ROOM,
    CMD_STORM,
    Scenario {
        name: "ddp-idle",
        what: "10000 bots, told of commands and messages",
        transport: Transport::Ddp,
        target: bytes(2048.0, None),
        ..IDLE
    },
    GW_PING,
    GW_RESUME,
    Scenario {
        name: "gw-resumes",
        what: "1000 shards resume at once",
        load: Load::Gateway(GatewayLoad::Resumes { shards: 1000 }),
        target: Some(Target { quantity: Quantity::Millis, must: 2000.0, aim: None }),
        ..GW_PING
    },
    Scenario {
        name: "gw-idle",
        what: "10 applications of 1000 shards",
        load: Load::Gateway(GatewayLoad::Idle { applications: 10, shards: 1000 }),
        target: bytes(4194.0, None),
        ..GW_PING
    },
    GW_EVENTS,
    Scenario {
        name: "gw-events-file",
        what: "events to one shard, 512 at a time, each in a file first",
        load: Load::Gateway(GatewayLoad::Events { at_once: 512, durable: true }),
        target: Some(Target { quantity: Quantity::PerSecond, must: 20_000.0, aim: None }),
        ..GW_EVENTS
    },
    PACE,
    Scenario {
        name: "redis-pace",
        what: "room of 10, 1000 publishes a second at another node",
        is_relayed: true,
        ..PACE
    },
    Scenario { name: "redis-a", what: "room of 1000, 64 outstanding at another node", is_relayed: true, ..A },
    Scenario { name: "redis-a1", what: "room of 1000, one publish at a time at another node", is_relayed: true, ..A1 },
    Scenario { name: "redis-c", what: "1000 rooms of 10, 256 outstanding at another node", is_relayed: true, ..C },
];

const PACE: Scenario = Scenario {
    name: "pace",
    what: "room of 10, 1000 publishes a second",
    load: fan_out(1, 10, 1, Pace::PerSecond(1000)),
    target: None,
    ..A1
};

const A: Scenario = Scenario {
    name: "a",
    what: "room of 1000, 64 publishes outstanding",
    transport: Transport::Line,
    load: fan_out(1, 1000, 4, Pace::Outstanding(64)),
    is_relayed: false,
    yardstick: Yardstick::FloorBatch,
    target: ratio(3.0, 1.5),
    p99_target: None,
};

const A1: Scenario = Scenario {
    name: "a1",
    what: "room of 1000, one publish at a time",
    load: fan_out(1, 1000, 1, Pace::Outstanding(1)),
    yardstick: Yardstick::FloorEach,
    target: ratio(1.25, 1.05),
    ..A
};

const B: Scenario = Scenario {
    name: "b",
    what: "room of 10000, 16 publishes outstanding",
    load: fan_out(1, 10_000, 4, Pace::Outstanding(16)),
    target: ratio(2.0, 1.25),
    ..A
};

const C: Scenario = Scenario {
    name: "c",
    what: "1000 rooms of 10, 256 publishes outstanding",
    load: fan_out(1000, 10, 1, Pace::Outstanding(256)),
    target: ratio(1.30, 1.05),
    ..A1
};

const D: Scenario = Scenario {
    name: "d",
    what: "room of 1000, 20 publishes a second",
    load: fan_out(1, 1000, 1, Pace::PerSecond(20)),
    target: ratio(1.25, 1.05),
    p99_target: ratio(1.3, 1.1),
    ..A1
};

const E1: Scenario = Scenario {
    name: "e1",
    what: "64 clients, one request at a time",
    load: Load::Request { clients: 64, outstanding: 1 },
    target: ratio(1.35, 1.12),
    ..A1
};

const IDLE: Scenario = Scenario {
    name: "idle",
    what: "10000 connections in one room",
    load: Load::Idle { connections: 10_000 },
    target: bytes(900.0, Some(400.0)),
    ..A1
};

const CONNECT: Scenario = Scenario {
    name: "connect",
    what: "5000 connects, 256 at a time, with join",
    load: Load::Connect { connections: 5000, at_once: 256 },
    target: ratio(1.5, 1.3),
    ..A1
};

const GROWTH: Scenario = Scenario {
    name: "growth",
    what: "1000 connections come, hear 200 messages and leave, ten times",
    load: Load::Growth {
        rounds: 10,
        said: 200,
        shape: FanOut { rooms: 1, members: 1000, speakers: 4, pace: Pace::Outstanding(64) },
    },
    target: None,
    ..A1
};

const CMD_1: Scenario = Scenario {
    name: "cmd-1",
    what: "commands to one client, one at a time, between echoes",
    transport: Transport::WebSocket,
    load: Load::CommandRoundTrip,
    is_relayed: false,
    yardstick: Yardstick::Echo,
    target: Some(Target { quantity: Quantity::Ratio, must: 1.5, aim: None }),
    p99_target: None,
};

const CMD_ROOM: Scenario = Scenario {
    name: "cmd-room",
    what: "command to a room of 10000, all replies collected",
    load: Load::CommandCollection { targets: 10_000 },
    target: Some(Target { quantity: Quantity::Millis, must: 1000.0, aim: None }),
    ..CMD_1
};

const CMD_STORM: Scenario = Scenario {
    name: "cmd-storm",
    what: "commands of every mode, 256 at a time, 50 of 1000 targets vanish",
    transport: Transport::Line,
    load: Load::CommandStorm(CommandStorm { targets: 1000, killed: 50, commands: 100_000, at_once: 256 }),
    target: None,
    ..CMD_1
};

const GW_PING: Scenario = Scenario {
    name: "gw-ping",
    what: "1000 shards, 2000 pings a second",
    transport: Transport::Gateway,
    load: Load::Gateway(GatewayLoad::Pings { shards: 1000, per_second: 2000 }),
    is_relayed: false,
    yardstick: Yardstick::FloorEach,
    target: Some(Target { quantity: Quantity::Millis, must: 1.0, aim: None }),
    p99_target: None,
};

const GW_RESUME: Scenario = Scenario {
    name: "gw-resume",
    what: "a shard resumes behind 1000 events",
    load: Load::Gateway(GatewayLoad::Resume { events: 1000 }),
    target: Some(Target { quantity: Quantity::Millis, must: 50.0, aim: None }),
    ..GW_PING
};

const GW_EVENTS: Scenario = Scenario {
    name: "gw-events",
    what: "events to one shard, 64 at a time",
    load: Load::Gateway(GatewayLoad::Events { at_once: 64, durable: false }),
    target: Some(Target { quantity: Quantity::PerSecond, must: 200_000.0, aim: None }),
    ..GW_PING
};

/// The scenario with this name.
pub fn named(name: &str) -> Option<&'static Scenario> {
    ALL.iter().find(|scenario| scenario.name == name)
}

/// Somebody who logs in: every connection over DDP is another one's, as bots are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bot {
    /// His id.
    pub id: String,
    /// His name.
    pub name: String,
    /// His password, as a server has it in its configuration. Hashes would take minutes to check.
    pub password: &'static str,
}

impl Bot {
    /// The bot with this number.
    pub fn new(index: usize) -> Self {
        Self { id: format!("u{index:05}"), name: format!("bot{index:05}"), password: "idle" }
    }

    /// Its table in the server's configuration.
    pub fn toml(&self) -> String {
        format!("[[users]]\nid = \"{}\"\nusername = \"{}\"\npassword = \"{}\"\n\n", self.id, self.name, self.password)
    }
}

/// An application whose shards register. Whoever knows its key speaks for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Application {
    /// Its id.
    pub id: String,
    /// Its public key.
    pub public_key: String,
}

impl Application {
    /// The application with this number.
    pub fn new(index: usize) -> Self {
        Self { id: format!("a{index}"), public_key: format!("key-{index}") }
    }

    /// Its table in the server's configuration.
    pub fn toml(&self) -> String {
        format!("[[gateway.applications]]\nid = \"{}\"\npublic_key = \"{}\"\n\n", self.id, self.public_key)
    }
}

/// Whose shards a server must let register for this load.
pub fn applications(load: &Load) -> Vec<Application> {
    match load {
        Load::Gateway(GatewayLoad::Idle { applications, .. }) => (0..*applications).map(Application::new).collect(),
        Load::Gateway(_) => vec![Application::new(0)],
        _ => Vec::new(),
    }
}

/// Who must be able to log in at a server for this scenario.
pub fn bots(scenario: &Scenario) -> Vec<Bot> {
    match (scenario.transport, scenario.load) {
        (Transport::Ddp, Load::Idle { connections }) => (0..connections).map(Bot::new).collect(),
        _ => Vec::new(),
    }
}

/// The names of the rooms that a load needs, which a server that does not make rooms on demand must have.
pub fn rooms(load: &Load) -> Vec<String> {
    match load {
        Load::FanOut(FanOut { rooms, .. }) if *rooms > 1 => {
            (0..*rooms).map(|room| format!("bench-{room:04}")).collect()
        }
        Load::CommandStorm(storm) => (0..storm.targets / 10).map(|room| format!("bench-{room:04}")).collect(),
        Load::CommandCollection { .. }
        | Load::Connect { .. }
        | Load::FanOut(_)
        | Load::Growth { .. }
        | Load::Idle { .. } => vec!["bench".to_owned()],
        Load::CommandRoundTrip | Load::Gateway(_) | Load::Request { .. } => Vec::new(),
    }
}

const fn fan_out(rooms: usize, members: usize, speakers: usize, pace: Pace) -> Load {
    assert!(speakers <= MAX_SPEAKERS && speakers <= members);
    Load::FanOut(FanOut { rooms, members, speakers, pace })
}

const fn ratio(must: f64, aim: f64) -> Option<Target> {
    Some(Target { quantity: Quantity::Ratio, must, aim: Some(aim) })
}

const fn bytes(must: f64, aim: Option<f64>) -> Option<Target> {
    Some(Target { quantity: Quantity::Bytes, must, aim })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scenario_is_found_by_its_name_only() {
        assert_eq!(named("e16").unwrap().what, "64 clients, 16 requests outstanding each");
        assert!(named("e").is_none());
    }

    #[test]
    fn no_two_scenarios_share_a_name() {
        for (index, scenario) in ALL.iter().enumerate() {
            assert!(ALL[index + 1..].iter().all(|other| other.name != scenario.name), "{}", scenario.name);
        }
    }

    #[test]
    fn many_rooms_have_many_names() {
        let names = rooms(&named("c").unwrap().load);
        assert_eq!(names.len(), 1000);
        assert_eq!(names[42], "bench-0042");
        assert_eq!(rooms(&named("a").unwrap().load), ["bench"]);
    }

    #[test]
    fn only_shards_have_applications() {
        let of = |name| applications(&named(name).unwrap().load);
        assert_eq!((of("gw-idle").len(), of("gw-ping").len(), of("ws-idle").len()), (10, 1, 0));
        assert_eq!(of("gw-idle")[7].toml(), "[[gateway.applications]]\nid = \"a7\"\npublic_key = \"key-7\"\n\n");
    }

    #[test]
    fn only_over_ddp_somebody_logs_in() {
        let bots = bots(named("ddp-idle").unwrap());
        assert_eq!((bots.len(), &*bots[42].id, &*bots[42].name), (10_000, "u00042", "bot00042"));
        assert_eq!(super::bots(named("ws-idle").unwrap()), []);
    }
}
