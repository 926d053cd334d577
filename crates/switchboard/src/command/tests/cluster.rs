//! Two nodes, and a way between them on which things get lost: the one that asks ends every command once, hands none to a
//! connection twice, and knows in the end what the other one knows.

use std::collections::{HashMap, VecDeque};

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::hub::mail::Address;

const NODE: u16 = 7;

#[derive(Clone, Debug)]
enum Step {
    Close(u32),
    Die,
    Lose,
    Open(u32, usize),
    Reply(usize),
    Run,
    Send(usize, Mode, bool),
    Stop(u32),
    Time(u64),
    Touch(u32),
}

fn step() -> impl Strategy<Value = Step> {
    let modes = prop_oneof![Just(Mode::All), Just(Mode::First), Just(Mode::One)];
    prop_oneof![
        2 => (1..9u32).prop_map(Step::Close),
        1 => Just(Step::Die),
        3 => Just(Step::Lose),
        5 => (1..9u32, 0..3usize).prop_map(|(number, name)| Step::Open(number, name)),
        3 => (0..9usize).prop_map(Step::Reply),
        6 => Just(Step::Run),
        5 => (0..4usize, modes, any::<bool>()).prop_map(|(aim, mode, fail_fast)| Step::Send(aim, mode, fail_fast)),
        1 => (1..9u32).prop_map(Step::Stop),
        3 => (1..900u64).prop_map(Step::Time),
        1 => (1..9u32).prop_map(Step::Touch),
    ]
}

const NAMES: [&str; 3] = ["-", "ann", "bob"];

/// What goes from the other node to the one that asks.
#[derive(Clone, Debug)]
enum Said {
    Client(u64, Described),
    Ended(u64, ConnId),
    Fate(CommandId, ConnId, CommandFate),
    Part(PartHead, Vec<Described>),
    Reminder(u64),
}

#[derive(Debug)]
struct Cluster {
    /// The node that asks. It has no clients of its own.
    asker: Engine<u32>,
    follower: Follower<()>,
    /// The node with the clients.
    holder: Engine<u32>,
    line: u64,
    number: u64,
    said: VecDeque<Said>,
    asked: VecDeque<AskPart>,
    dispatched: VecDeque<Dispatch>,
    /// What was handed over: to replies that may follow.
    handed: Vec<(CommandId, ConnId, Option<User>)>,
    outcomes: HashMap<u32, usize>,
    commands: u32,
    opened: u32,
    /// By the numbers of steps: the latest connection.
    connections: HashMap<u32, u32>,
    now: Now,
    ts: u64,
}

impl Cluster {
    fn new() -> Self {
        Self {
            asker: Engine::in_cluster(CommandLimits::default()),
            follower: Follower::new(2000),
            holder: Engine::in_cluster(CommandLimits::default()),
            line: 1,
            number: 0,
            said: VecDeque::new(),
            asked: VecDeque::new(),
            dispatched: VecDeque::new(),
            handed: Vec::new(),
            outcomes: HashMap::new(),
            commands: 0,
            opened: 0,
            connections: HashMap::new(),
            now: Now { monotonic_ms: 5000, unix_ms: 6000, ..Now::default() },
            ts: 0,
        }
    }

    fn play(&mut self, step: Step) {
        match step {
            Step::Open(number, name) => {
                if !self.connections.contains_key(&number) {
                    self.opened += 1;
                    self.connections.insert(number, self.opened);
                }
                let client = client(self.connections[&number], NAMES[name]);
                self.hold(|holder, now, out| holder.take_commands(client, false, now, out));
            }
            Step::Close(number) => {
                if let Some(number) = self.connections.remove(&number) {
                    self.hold(|holder, now, out| holder.close(conn(number), now, out));
                }
            }
            Step::Stop(number) => {
                if let Some(&number) = self.connections.get(&number) {
                    self.hold(|holder, now, out| holder.stop_taking(conn(number), now, out));
                }
            }
            Step::Touch(number) => {
                if let Some(&number) = self.connections.get(&number) {
                    self.holder.touch(conn(number));
                }
            }
            Step::Die => self.die(),
            Step::Lose => self.lose(),
            Step::Reply(at) => self.reply(at),
            Step::Run => self.run(),
            Step::Send(aim, mode, fail_fast) => self.send(aim, mode, fail_fast),
            Step::Time(ms) => self.pass(ms),
        }
        self.leave();
    }

    /// Something happens on the node with the clients, which tells of it.
    fn hold(&mut self, step: impl FnOnce(&mut Engine<u32>, Now, &mut Out<u32>)) {
        let mut out = Out::default();
        step(&mut self.holder, self.now, &mut out);
        for connection in out.changed {
            self.number += 1;
            let described = self.holder.described(connection);
            self.said.push_back(match described {
                Some(described) => Said::Client(self.number, described),
                None => Said::Ended(self.number, connection),
            });
        }
    }

    /// Something happens on the node that asks.
    fn ask(&mut self, step: impl FnOnce(&mut Engine<u32>, &mut Follower<()>, Now, &mut Out<u32>) -> Option<AskPart>) {
        let mut out = Out::default();
        let asked = step(&mut self.asker, &mut self.follower, self.now, &mut out);
        self.asked.extend(asked);
        for number in out.settled.into_iter().flat_map(|(waiters, _)| waiters) {
            *self.outcomes.entry(number).or_default() += 1;
        }
    }

    /// The node with the clients dies, and comes back without any.
    fn die(&mut self) {
        self.holder = Engine::in_cluster(CommandLimits::default());
        self.connections.clear();
        (self.line, self.number) = (self.line + 1, 0);
        self.said.clear();
        self.asked.clear();
        self.dispatched.clear();
        self.ask(|asker, follower, now, out| {
            for connection in follower.lose().into_keys() {
                asker.close_elsewhere(NODE, connection, now, out);
            }
            None
        });
    }

    /// The next of everything that is on its way does not arrive.
    fn lose(&mut self) {
        self.said.pop_front();
        self.asked.pop_front();
        self.dispatched.pop_front();
    }

    fn send(&mut self, aim: usize, mode: Mode, fail_fast: bool) {
        let aim = match aim {
            0 => Aim::Everybody,
            3 if self.opened > 0 => {
                let connection = conn(1 + self.commands % self.opened);
                let user = self.asker.user_of(connection).flatten().cloned();
                Aim::Connection { id: connection, user }
            }
            name => to_user(NAMES[1 + name % 2]),
        };
        let mut order = order(self.commands, aim, mode, self.now);
        (order.fail_fast, order.deadline_ms) = (fail_fast, self.now.monotonic_ms + 1500);
        let number = self.commands;
        self.commands += 1;
        self.ask(|asker, _, now, out| {
            assert_eq!(asker.accept(order, None, number, now, out), Ok(Accepted::New));
            None
        });
    }

    fn leave(&mut self) {
        while self.asker.next_outgoing().is_some() {
            self.ts += 1;
            self.dispatched.extend(self.asker.send_next(self.ts, self.now));
        }
    }

    /// One of everything that is on its way arrives.
    fn run(&mut self) {
        if let Some(Dispatch { home, connection, delivery }) = self.dispatched.pop_front() {
            assert_eq!(home, Home::Elsewhere(NODE));
            let to = match &delivery.to {
                crate::proto::command::Recipient::User(user) => Some(user.clone()),
                crate::proto::command::Recipient::Guest(_) => None,
            };
            let address: Option<Address> = self.holder.address_of(connection, to.as_ref());
            let fate = if address.is_some() { CommandFate::Delivered } else { CommandFate::Gone };
            if address.is_some() {
                self.handed.push((delivery.document.id, connection, to));
            }
            self.said.push_back(Said::Fate(delivery.document.id, connection, fate));
        }
        if let Some(asked) = self.asked.pop_front() {
            let found = self.holder.described_after(asked.after, 3);
            let next = (found.len() == 3).then(|| found[2].0);
            let head = PartHead { line: self.line, number: self.number, asked, next };
            self.said.push_back(Said::Part(head, found.into_iter().map(|(_, described)| described).collect()));
        }
        if let Some(said) = self.said.pop_front() {
            self.hear(said);
        }
    }

    fn hear(&mut self, said: Said) {
        let line = self.line;
        self.ask(|asker, follower, now, out| match said {
            Said::Fate(id, connection, fate) => {
                asker.delivered(id, connection, fate, now, out);
                None
            }
            Said::Reminder(number) => follower.heed(line, number, false, now.monotonic_ms),
            Said::Client(number, described) => {
                let asked = follower.heed(line, number, true, now.monotonic_ms);
                follower.insert(described.connection, ());
                asker.hear(NODE, described, now, out);
                asked
            }
            Said::Ended(number, connection) => {
                let asked = follower.heed(line, number, true, now.monotonic_ms);
                follower.remove(connection);
                asker.close_elsewhere(NODE, connection, now, out);
                asked
            }
            Said::Part(head, clients) => {
                if !follower.accept(&head) {
                    return None;
                }
                for described in clients {
                    follower.insert(described.connection, ());
                    asker.hear(NODE, described, now, out);
                }
                let (asked, gone) = follower.finish(&head, now.monotonic_ms);
                for connection in gone {
                    follower.remove(connection);
                    asker.close_elsewhere(NODE, connection, now, out);
                }
                asked
            }
        });
    }

    fn reply(&mut self, at: usize) {
        if self.handed.is_empty() {
            return;
        }
        let (id, connection, user) = self.handed[at % self.handed.len()].clone();
        self.ask(|asker, _, now, out| {
            let reply = Reply::new(json!({"success": true}).into());
            asker.reply(id.as_str(), connection, user.as_ref(), reply, now, out).unwrap();
            None
        });
    }

    /// Time passes, and the node with the clients reminds the other of the latest change.
    fn pass(&mut self, ms: u64) {
        self.now.monotonic_ms += ms;
        self.now.unix_ms += ms;
        self.said.push_back(Said::Reminder(self.number));
        self.ask(|asker, follower, now, out| {
            asker.tick(now, out);
            follower.tick(now.monotonic_ms)
        });
    }

    /// Nothing gets lost for long enough.
    fn heal(&mut self) {
        for _ in 0..4 {
            while !(self.said.is_empty() && self.asked.is_empty() && self.dispatched.is_empty()) {
                self.run();
                self.leave();
            }
            self.pass(1100);
            self.leave();
        }
        while !self.said.is_empty() || !self.asked.is_empty() {
            self.run();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn whatever_gets_lost_between_two_nodes_every_command_ends_once_and_none_is_handed_over_twice(
        steps in vec(step(), 0..120),
    ) {
        let mut cluster = Cluster::new();
        for step in steps {
            cluster.play(step);
        }
        cluster.heal();
        prop_assert!(cluster.follower.is_whole());
        // The one knows of every client what the other one says.
        let told: Vec<Described> =
            cluster.holder.described_after(0, usize::MAX).into_iter().map(|(_, described)| described).collect();
        prop_assert_eq!(cluster.follower.known().len(), told.len());
        for described in told {
            let view = cluster.asker.client(described.connection).unwrap();
            prop_assert_eq!(cluster.asker.user_of(described.connection).unwrap(), described.user.as_ref());
            prop_assert_eq!(view.takes_commands_since_unix_ms, described.taking.map(|taking| taking.since_unix_ms));
        }
        // Whatever was sent has had its limit.
        prop_assert_eq!(cluster.outcomes.len(), cluster.commands as usize);
        prop_assert!(cluster.outcomes.values().all(|outcomes| *outcomes == 1));
        let handed = cluster.handed.len();
        let mut pairs: Vec<(CommandId, ConnId)> = cluster.handed.iter().map(|(id, to, _)| (*id, *to)).collect();
        pairs.sort_unstable();
        pairs.dedup();
        prop_assert_eq!(pairs.len(), handed, "handed over twice");
        cluster.die();
        prop_assert!(cluster.asker.is_empty());
    }
}
