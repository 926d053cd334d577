//! Many commands, and clients that die meanwhile: each sender is told one outcome, and it is the right one.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use serde_json::{Value, json};
use switchboard::ConnId;
use switchboard::command::{
    Aim, Client, CommandLimits, CommandOptions, CommandRefusal, Dispatch, Engine, Home, Mode, Order, Out, Outcome,
    Reply, Report, TargetKind, TargetName,
};
use switchboard::hub::mail::{Address, CommandFate, ConnKey};
use switchboard::node::User;
use switchboard::proto::command::{CommandDocument, CommandId};
use switchboard::proto::time::Now;

use crate::bots::{Bot, WIRES, command, to_user, within_ms};
use crate::support::TestServer;

/// Numbers that look random and are the same each time.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound as u64) as usize
    }

    fn one_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }
}

/// A connection in this process: what its worker has for it, what it did, what it is about to answer.
#[derive(Default)]
struct Connection {
    user: usize,
    is_dead: bool,
    inbox: VecDeque<Dispatch>,
    replies: VecDeque<CommandId>,
    executed: HashMap<CommandId, u32>,
    latest_ts: u64,
}

struct World {
    engine: Engine<usize>,
    out: Out<usize>,
    users: Vec<User>,
    connections: Vec<Connection>,
    /// Each user's live connection.
    live: Vec<usize>,
    now: Now,
    ts: u64,
    /// How often each command was carried out, by anybody.
    executed: HashMap<CommandId, u32>,
    /// What the sender of each command was told.
    told: Vec<Option<Arc<Report>>>,
}

impl World {
    fn new(users: usize, commands: usize) -> Self {
        let limits = CommandLimits { max_pending_per_user: usize::MAX, max_pending: usize::MAX, ..Default::default() };
        let mut world = Self {
            engine: Engine::new(limits),
            out: Out::default(),
            users: (0..users).map(|user| User::new(format!("bot{user}")).unwrap()).collect(),
            connections: Vec::new(),
            live: vec![0; users],
            now: Now { monotonic_ms: 0, unix_ms: 1_800_000_000_000, ..Now::default() },
            ts: 0,
            executed: HashMap::new(),
            told: vec![None; commands],
        };
        (0..users).for_each(|user| world.connect(user));
        world
    }

    fn id(connection: usize) -> ConnId {
        ConnId::from_random(connection as u128)
    }

    fn connect(&mut self, user: usize) {
        let index = self.connections.len();
        self.connections.push(Connection { user, ..Connection::default() });
        self.live[user] = index;
        let key = ConnKey { slot: u32::try_from(index).unwrap(), generation: 0 };
        let client = Client {
            connection: Self::id(index),
            home: Home::Here(Address { worker: 0, key }),
            user: Some(self.users[user].clone()),
        };
        self.engine.take_commands(client, false, self.now, &mut self.out);
        self.after();
    }

    /// It dies with whatever its worker had for it, what it was about to answer, or both.
    fn kill(&mut self, user: usize) {
        let index = self.live[user];
        let connection = &mut self.connections[index];
        connection.is_dead = true;
        connection.replies.clear();
        self.engine.close(Self::id(index), self.now, &mut self.out);
        self.after();
    }

    fn send(&mut self, number: usize, user: usize, mode: Mode, fail_fast: bool, limit_ms: u64) {
        let id = CommandId::from_random(number as u128);
        let document =
            Arc::new(CommandDocument { id, key: "work".into(), command: json!({"key": "work"}).into(), data: None });
        let order = Order {
            document,
            aim: Aim::User(self.users[user].clone()),
            target: TargetName { kind: TargetKind::User, name: self.users[user].id().into() },
            mode,
            fail_fast,
            min_replies: None,
            require_capability: false,
            deadline_ms: self.now.monotonic_ms + limit_ms,
            sender: None,
        };
        self.engine.accept(order, None, number, self.now, &mut self.out).unwrap();
        self.after();
    }

    /// The worker hands over what it has for a connection; the client carries it out.
    fn work(&mut self, index: usize, dice: &mut Dice) {
        while let Some(dispatch) = self.connections[index].inbox.pop_front() {
            let (id, ts) = (dispatch.delivery.document.id, dispatch.delivery.ts);
            let connection = &mut self.connections[index];
            if connection.is_dead {
                // Nobody is told: the end of a connection has been told before.
                continue;
            }
            if dice.one_in(200) {
                self.engine.delivered(id, dispatch.connection, CommandFate::Overflow, self.now, &mut self.out);
            } else {
                assert!(ts > connection.latest_ts, "the clients of the SDK pass over what is not later");
                connection.latest_ts = ts;
                *connection.executed.entry(id).or_default() += 1;
                *self.executed.entry(id).or_default() += 1;
                if !dice.one_in(50) {
                    connection.replies.push_back(id);
                }
                self.engine.delivered(id, dispatch.connection, CommandFate::Delivered, self.now, &mut self.out);
            }
            self.after();
        }
    }

    fn reply(&mut self, index: usize, dice: &mut Dice) {
        while let Some(id) = self.connections[index].replies.pop_front() {
            let times = if dice.one_in(20) { 2 } else { 1 };
            for _ in 0..times {
                let user = self.users[self.connections[index].user].clone();
                let reply = Reply::new(json!({"success": true, "id": id.as_str(), "by": index}).into());
                self.engine.reply(id.as_str(), Self::id(index), Some(&user), reply, self.now, &mut self.out).unwrap();
                self.after();
            }
        }
    }

    /// What the node does after every step.
    fn after(&mut self) {
        while self.engine.next_outgoing().is_some() {
            self.ts += 1;
            for dispatch in self.engine.send_next(self.ts, self.now) {
                let Home::Here(address) = dispatch.home else { panic!("there is one node") };
                self.connections[address.key.slot as usize].inbox.push_back(dispatch);
            }
        }
        for (waiters, report) in self.out.settled.drain(..) {
            for number in waiters {
                assert!(self.told[number].replace(Arc::clone(&report)).is_none(), "{number} was told twice");
            }
        }
    }
}

#[test]
fn of_a_hundred_thousand_commands_each_has_one_outcome_and_none_is_executed_twice() {
    const USERS: usize = 1000;
    const COMMANDS: usize = 100_000;
    /// One in twenty of the targets is killed, all along.
    const KILLED: usize = USERS / 20;
    const LIMIT_MS: u64 = 500;
    let mut dice = Dice(0x5eed);
    let mut world = World::new(USERS, COMMANDS);
    let mut sent = Vec::new();
    for number in 0..COMMANDS {
        world.now.monotonic_ms += u64::from(number % 50 == 0);
        // The wall clock does what it likes.
        world.now.unix_ms = 1_800_000_000_000 + [0, 3_600_000, 1_800_000][number % 3];
        if number % (COMMANDS / KILLED) == 0 {
            let victim = dice.below(USERS);
            world.kill(victim);
            // One half comes back, and the other one never.
            if dice.one_in(2) {
                world.connect(victim);
            }
        }
        let (user, mode) = (dice.below(USERS), Mode::ALL[dice.below(3)]);
        let fail_fast = dice.one_in(3);
        world.send(number, user, mode, fail_fast, LIMIT_MS);
        sent.push((user, world.now.monotonic_ms));
        // What waits is carried out later, and answered later still.
        let index = world.live[dice.below(USERS)];
        world.work(index, &mut dice);
        let index = world.live[dice.below(USERS)];
        world.reply(index, &mut dice);
        world.engine.tick(world.now, &mut world.out);
        world.after();
    }
    for _ in 0..=LIMIT_MS {
        world.now.monotonic_ms += 1;
        world.engine.tick(world.now, &mut world.out);
        world.after();
    }
    assert!(world.engine.is_idle());

    let mut ended: HashMap<Outcome, usize> = HashMap::new();
    for (number, (user, _)) in sent.iter().enumerate() {
        let report = world.told[number].as_ref().unwrap_or_else(|| panic!("{number} was told nothing"));
        *ended.entry(report.outcome).or_default() += 1;
        let id = CommandId::from_random(number as u128);
        assert_eq!(report.id, id);
        assert!(report.latency_ms <= LIMIT_MS, "{report:?}");
        let rows = report.rows.iter().flatten().filter_map(|row| row.reply.as_ref());
        for reply in report.reply.iter().chain(rows) {
            let reply: Value = reply.to_value();
            let by = &world.connections[usize::try_from(reply["by"].as_u64().unwrap()).unwrap()];
            assert_eq!((reply["id"].as_str(), by.user), (Some(id.as_str()), *user), "{report:?}");
            assert_eq!(by.executed[&id], 1, "whoever replied has done it");
        }
    }
    // A user has one session at a time, and what was handed to one that died is not sent again.
    assert!(world.executed.values().all(|times| *times == 1), "a command was carried out twice");
    for report in world.told.iter().flatten() {
        let executions = world.executed.get(&report.id).copied().unwrap_or(0);
        match report.outcome {
            Outcome::NoRecipient | Outcome::Overflow => assert_eq!(executions, 0, "{report:?}"),
            Outcome::Replied => assert_eq!(executions, 1, "{report:?}"),
            _ => {}
        }
    }
    for outcome in [Outcome::Replied, Outcome::Timeout, Outcome::NoRecipient, Outcome::Disconnected, Outcome::Overflow]
    {
        assert!(ended.contains_key(&outcome), "the storm was too mild: {ended:?}");
    }
    assert!(ended[&Outcome::Replied] > COMMANDS / 2, "{ended:?}");
}

#[test]
fn fault_row_40_a_wall_clock_that_jumps_ends_no_command_early_or_late() {
    let mut world = World::new(1, 4);
    for (number, jump) in [0_i64, -3_600_000, 3_600_000, -7_200_000].into_iter().enumerate() {
        world.now.unix_ms = world.now.unix_ms.saturating_add_signed(jump);
        world.send(number, 0, Mode::First, false, 1000);
    }
    world.work(0, &mut Dice(0x5eed));
    world.now.monotonic_ms = 999;
    for jump in [7_200_000, -3_600_000, -7_200_000] {
        world.now.unix_ms = world.now.unix_ms.saturating_add_signed(jump);
        world.engine.tick(world.now, &mut world.out);
        world.after();
    }
    assert!(world.told.iter().all(Option::is_none));
    world.now.monotonic_ms = 1000;
    world.engine.tick(world.now, &mut world.out);
    world.after();
    assert!(world.told.iter().all(|told| told.as_ref().is_some_and(|report| report.latency_ms == 1000)));
}

/// The same with sockets, workers and threads, and therefore less of it.
#[test]
fn commands_over_sockets_have_one_outcome_each_while_clients_are_killed() {
    const BOTS: usize = 60;
    const ROUNDS: usize = 30;
    const KILLED: usize = 6;
    let server = TestServer::with(&["commands.max_pending_per_user=1000"]);
    // Each of those who are killed does a few, and leaves with one undone.
    let bots: Vec<_> = (0..BOTS)
        .map(|index| {
            let mut bot = Bot::connect(&server, WIRES[index % 2], Some(&format!("bot{index}")));
            std::thread::spawn(move || {
                let mut done: HashMap<String, u32> = HashMap::new();
                let most = if index < KILLED { 5 } else { ROUNDS };
                for _ in 0..most {
                    let line = next_command(&mut bot);
                    *done.entry(line["_id"].as_str().unwrap().to_owned()).or_default() += 1;
                    let (id, reply) = (line["_id"].as_str().unwrap(), json!({"success": true, "id": line["_id"]}));
                    bot.send(
                        &format!("replyClientCommand {id} {reply}"),
                        &json!({"event": "replyClientCommand", "id": id, "reply": reply}),
                    );
                }
                if index < KILLED {
                    next_command(&mut bot);
                    return (None, done);
                }
                (Some(bot), done)
            })
        })
        .collect();
    let node = server.node().clone();
    let senders = (0..BOTS).map(|index| {
        let node = node.clone();
        server.spawn(async move {
            let mut sent = Vec::new();
            for _ in 0..ROUNDS {
                let options = CommandOptions { fail_fast: true, ..within_ms(60_000) };
                let user = to_user(&format!("bot{index}"));
                match node.send_client_command(user, command("work"), options).await {
                    Ok(done) => sent.push(done),
                    // The user is not known any more once his only connection is gone.
                    Err(CommandRefusal::NoSuchUser) if index < KILLED => break,
                    Err(refusal) => panic!("{refusal}"),
                }
            }
            sent
        })
    });
    let sent: Vec<Vec<_>> =
        senders.collect::<Vec<_>>().into_iter().map(|sender| server.wait(sender).unwrap()).collect();
    for (index, (bot, sent)) in bots.into_iter().zip(sent).enumerate() {
        let (bot, done) = bot.join().unwrap();
        assert!(done.values().all(|times| *times == 1));
        let replied: Vec<_> = sent.iter().filter(|sent| sent.report().outcome == Outcome::Replied).collect();
        for sent in &replied {
            let id = sent.report().id;
            assert_eq!(sent.reply().unwrap().to_value(), json!({"success": true, "id": id.as_str()}));
            assert_eq!(done.get(id.as_str()), Some(&1));
        }
        if index < KILLED {
            assert_eq!(replied.len(), 5);
            let lost = sent.iter().filter(|sent| sent.report().outcome == Outcome::Disconnected);
            assert_eq!(lost.count(), 1, "the one that it left undone");
        } else {
            let ends: Vec<_> = sent.iter().map(|sent| sent.report()).collect();
            assert_eq!(replied.len(), ROUNDS, "{ends:?}");
        }
        drop(bot);
    }
    assert_eq!(node.client_command_figures().pending, 0);
}

/// The next command; answers to replies are passed over.
fn next_command(bot: &mut Bot) -> Value {
    loop {
        let line = bot.client.read_json();
        if line["context"] == "command" {
            return line;
        }
        assert_eq!(line["data"], true, "{line}");
    }
}
