//! The rules one by one, the engine against a naive reference, and many commands at once.

mod bulk;
mod cluster;
mod elsewhere;
mod limits;
mod model;
mod naive;
mod outcomes;
mod replies;
mod sessions;

use std::sync::Arc;

use serde_json::{Value, json};

use super::*;
use crate::hub::mail::{Address, CommandFate, ConnKey};
use crate::proto::command::{CommandDocument, CommandId};
use crate::proto::id::ConnId;
use crate::proto::time::Now;
use crate::proto::user::User;

fn conn(number: u32) -> ConnId {
    // The lower bits of an id are partly fixed.
    ConnId::from_random(u128::from(number) << 96)
}

fn address(number: u32) -> Address {
    Address { worker: 0, key: ConnKey { slot: number, generation: 0 } }
}

fn user(name: &str) -> Option<User> {
    (name != "-").then(|| User::new(name).unwrap())
}

fn client(number: u32, name: &str) -> Client {
    Client { connection: conn(number), home: Home::Here(address(number)), user: user(name) }
}

fn command_id(number: u32) -> CommandId {
    CommandId::from_random(u128::from(number))
}

/// A command with the key `k` and a limit of 5 s.
fn order(number: u32, aim: Aim, mode: Mode, now: Now) -> Order {
    let document =
        CommandDocument { id: command_id(number), key: "k".into(), command: json!({"key": "k"}).into(), data: None };
    Order {
        document: Arc::new(document),
        aim,
        target: TargetName { kind: TargetKind::User, name: "bob".into() },
        mode,
        fail_fast: false,
        min_replies: None,
        require_capability: false,
        deadline_ms: now.monotonic_ms + 5000,
        sender: None,
    }
}

fn to_user(name: &str) -> Aim {
    Aim::User(User::new(name).unwrap())
}

fn to_connection(number: u32, name: &str) -> Aim {
    Aim::Connection { id: conn(number), user: user(name) }
}

fn to_list(numbers: &[u32]) -> Aim {
    Aim::Sessions(numbers.iter().copied().map(conn).collect())
}

fn data(value: Value) -> ClientData {
    ClientData::parse(value.into(), "10.0.0.1", 1000).unwrap()
}

/// An engine with a clock to step. Connections and commands are numbers; a command's waiter is its number.
struct Rig {
    engine: Engine<u32>,
    out: Out<u32>,
    now: Now,
    ts: u64,
}

impl Rig {
    fn new() -> Self {
        Self::with(CommandLimits::default())
    }

    fn with(limits: CommandLimits) -> Self {
        Self {
            engine: Engine::new(limits),
            out: Out::default(),
            now: Now { monotonic_ms: 0, unix_ms: 1000, ..Now::default() },
            ts: 0,
        }
    }

    /// A connection of this user (`-`: of nobody) takes commands and listens.
    fn online(&mut self, number: u32, name: &str) {
        self.engine.take_commands(client(number, name), false, self.now, &mut self.out);
    }

    /// A connection takes commands, but may not listen yet.
    fn settling(&mut self, number: u32, name: &str) {
        self.engine.take_commands(client(number, name), true, self.now, &mut self.out);
    }

    /// Whatever settles has had its time.
    fn settle(&mut self) {
        for Settling { connection, generation, .. } in std::mem::take(&mut self.out.settling) {
            self.engine.ready(connection, generation, self.now, &mut self.out);
        }
    }

    fn says(&mut self, number: u32, name: &str, value: Value) {
        self.engine.set_client_data(client(number, name), data(value), self.now, &mut self.out);
    }

    fn close(&mut self, number: u32) {
        self.engine.close(conn(number), self.now, &mut self.out);
    }

    fn try_send(&mut self, number: u32, aim: Aim, mode: Mode, change: impl FnOnce(&mut Order)) -> Result<(), Refusal> {
        let mut order = order(number, aim, mode, self.now);
        change(&mut order);
        let accepted = self.engine.accept(order, None, number, self.now, &mut self.out)?;
        assert_eq!(accepted, Accepted::New);
        Ok(())
    }

    fn send(&mut self, number: u32, aim: Aim, mode: Mode) {
        self.try_send(number, aim, mode, |_| {}).unwrap();
    }

    fn send_fast(&mut self, number: u32, aim: Aim, mode: Mode) {
        self.try_send(number, aim, mode, |order| order.fail_fast = true).unwrap();
    }

    /// Everything that leaves now: `1>2 1>3` is command 1 to connections 2 and 3.
    fn leave(&mut self) -> String {
        let mut left = Vec::new();
        while let Some(next) = self.engine.next_outgoing() {
            self.ts += 1;
            for dispatch in self.engine.send_next(self.ts, self.now) {
                let command = dispatch.delivery.document.id;
                assert!(next.to.contains(&dispatch.home));
                assert_eq!((dispatch.delivery.ts, next.id), (self.ts, command));
                let number = (0..1000).find(|number| command_id(*number) == command).unwrap();
                let to = (0..1000).find(|to| conn(*to) == dispatch.connection).unwrap();
                left.push(format!("{number}>{to}"));
            }
        }
        left.join(" ")
    }

    /// The same, and all of it is delivered.
    fn deliver(&mut self) -> String {
        let left = self.leave();
        for pair in left.split_whitespace() {
            let (command, to) = pair.split_once('>').unwrap();
            self.fate(command.parse().unwrap(), to.parse().unwrap(), CommandFate::Delivered);
        }
        left
    }

    fn fate(&mut self, command: u32, to: u32, fate: CommandFate) {
        self.engine.delivered(command_id(command), conn(to), fate, self.now, &mut self.out);
    }

    fn reply(&mut self, command: u32, from: u32, name: &str) -> bool {
        self.reply_with(command, from, name, json!({"success": true})).unwrap()
    }

    fn reply_with(&mut self, command: u32, from: u32, name: &str, reply: Value) -> Result<bool, ReplyTooLarge> {
        let id = command_id(command);
        self.engine.reply(
            id.as_str(),
            conn(from),
            user(name).as_ref(),
            Reply::new(reply.into()),
            self.now,
            &mut self.out,
        )
    }

    /// Steps the clock.
    fn at(&mut self, ms: u64) {
        self.now = Now { monotonic_ms: ms, unix_ms: 1000 + ms, ..Now::default() };
        self.engine.tick(self.now, &mut self.out);
    }

    fn reports(&mut self) -> Vec<(Vec<u32>, Arc<Report>)> {
        std::mem::take(&mut self.out.settled)
    }

    /// What was reported since the last time: command, outcome, counts, rows. `1 replied 2/2/1 (3 replied, 4 timeout)`.
    fn outcomes(&mut self) -> String {
        let texts = self.reports().into_iter().map(|(waiters, report)| {
            let Counts { sessions, delivered, replied } = report.counts;
            let rows = report.rows.as_ref().map(|rows| {
                let rows = rows.iter().map(|row| {
                    let number = (0..1000).find(|number| conn(*number) == row.connection).unwrap();
                    format!("{number} {}", row.outcome.as_str())
                });
                format!(" ({})", rows.collect::<Vec<_>>().join(", "))
            });
            let outcome = report.outcome.as_str();
            format!("{} {outcome} {sessions}/{delivered}/{replied}{}", waiters[0], rows.unwrap_or_default())
        });
        texts.collect::<Vec<_>>().join("; ")
    }
}
