//! The engine against a naive reference, which looks at everything after every step.

use proptest::collection::vec;
use proptest::prelude::*;

use super::naive::{Naive, USERS, is_elsewhere};
use super::*;

#[derive(Clone, Debug)]
enum Step {
    Ask,
    Cancel(usize),
    Close(usize),
    Data(usize, bool),
    Drain,
    Fate(usize, CommandFate),
    Leave,
    Open(usize),
    Ready(usize),
    Reply(usize, usize),
    ReplyFromElsewhere(usize, usize),
    Send(Wish),
    SetUser(usize, usize),
    Stop(usize),
    Take(usize, bool),
    Time(u64),
    Touch(usize),
}

/// The other node.
const NODE: u16 = 7;

/// A command that is to be sent.
#[derive(Clone, Debug)]
struct Wish {
    /// 0: everybody, 1: a list, 2: a connection, more: a user.
    aim: usize,
    who: Vec<usize>,
    mode: Mode,
    fail_fast: bool,
    require_capability: bool,
    min_replies: Option<usize>,
    limit_ms: u64,
}

fn step() -> impl Strategy<Value = Step> {
    let at = 0..8usize;
    let fate =
        prop_oneof![3 => Just(CommandFate::Delivered), 1 => Just(CommandFate::Gone), 1 => Just(CommandFate::Overflow)];
    let wish = (
        0..7usize,
        vec(at.clone(), 1..4),
        prop_oneof![Just(Mode::All), Just(Mode::First), Just(Mode::One)],
        prop::bool::weighted(0.3),
        prop::bool::weighted(0.2),
        prop::option::weighted(0.2, 0..3usize),
        1..30u64,
    );
    let wish = wish.prop_map(|(aim, who, mode, fail_fast, require_capability, min_replies, limit_ms)| Wish {
        aim,
        who,
        mode,
        fail_fast,
        require_capability,
        min_replies,
        limit_ms,
    });
    prop_oneof![
        1 => Just(Step::Ask),
        1 => at.clone().prop_map(Step::Cancel),
        3 => at.clone().prop_map(Step::Close),
        3 => (at.clone(), any::<bool>()).prop_map(|(at, announces)| Step::Data(at, announces)),
        6 => (at.clone(), fate).prop_map(|(at, fate)| Step::Fate(at, fate)),
        5 => Just(Step::Leave),
        5 => (0..USERS.len()).prop_map(Step::Open),
        2 => at.clone().prop_map(Step::Ready),
        5 => (at.clone(), at.clone()).prop_map(|(command, from)| Step::Reply(command, from)),
        1 => (at.clone(), 0..USERS.len()).prop_map(|(command, user)| Step::ReplyFromElsewhere(command, user)),
        6 => wish.prop_map(Step::Send),
        1 => (at.clone(), 0..USERS.len()).prop_map(|(at, user)| Step::SetUser(at, user)),
        1 => at.clone().prop_map(Step::Stop),
        4 => (at.clone(), any::<bool>()).prop_map(|(at, settling)| Step::Take(at, settling)),
        3 => (0..10u64).prop_map(Step::Time),
        1 => at.prop_map(Step::Touch),
    ]
}

/// Few enough that they are reached.
pub(super) const LIMITS: CommandLimits = CommandLimits {
    max_pending_per_user: 4,
    max_pending: 8,
    max_pending_bytes: usize::MAX,
    max_pending_rows: 24,
    max_reply_bytes: 100,
    max_held_bytes: 10_000,
    history_max: 1000,
    idempotency_ms: 0,
    idempotency_max: 0,
};

struct Both {
    rig: Rig,
    naive: Naive,
    /// Dispatches whose fate is not known: command and connection.
    flying: Vec<(u32, u32)>,
    written: Vec<(u32, u32)>,
    /// Commands that were accepted.
    commands: u32,
    /// Connections that were opened.
    connections: u32,
    /// By connection: the generation of its latest settling session.
    generations: std::collections::HashMap<u32, u64>,
    is_asked: bool,
}

impl Both {
    fn play(&mut self, step: Step) {
        let (engine, out, now) = (&mut self.rig.engine, &mut self.rig.out, self.rig.now);
        let naive = &mut self.naive;
        let known = |at: usize, naive: &Naive| (!naive.clients.is_empty()).then(|| at % naive.clients.len());
        match step {
            Step::Ask => self.is_asked |= engine.next_outgoing().is_some(),
            Step::Cancel(at) => {
                let number = at as u32;
                assert_eq!(engine.cancel(command_id(number), now, out), naive.cancel(number));
            }
            Step::Close(at) => {
                if let Some(at) = known(at, naive) {
                    let number = naive.close(at);
                    match is_elsewhere(number) {
                        true => engine.close_elsewhere(NODE, conn(number), now, out),
                        false => engine.close(conn(number), now, out),
                    }
                }
            }
            Step::Data(at, announces) => {
                if let Some(at) = known(at, naive) {
                    let (number, name) = naive.set_data(at, announces);
                    let keys = if announces { json!({"commands": ["k"]}) } else { json!({}) };
                    if is_elsewhere(number) {
                        engine.hear(NODE, naive.clients[at].described(), now, out);
                    } else {
                        engine.set_client_data(client(number, name), data(keys), now, out);
                    }
                }
            }
            Step::Drain => {
                naive.is_draining = true;
                engine.drain(now, out);
            }
            Step::Fate(at, fate) => {
                if !self.flying.is_empty() {
                    let (command, to) = self.flying.remove(at % self.flying.len());
                    naive.fate(command, to, fate);
                    if fate == CommandFate::Gone {
                        // It was not written, and may be sent to the connection again.
                        self.written.retain(|pair| *pair != (command, to));
                    }
                    engine.delivered(command_id(command), conn(to), fate, now, out);
                }
            }
            Step::Leave => self.leave(),
            Step::Open(name) => {
                // The engine hears of a connection with its first word.
                self.connections += 1;
                naive.open(self.connections, USERS[name]);
            }
            Step::Ready(at) => {
                if let Some(at) = known(at, naive) {
                    let number = naive.ready(at);
                    if is_elsewhere(number) {
                        engine.hear(NODE, naive.clients[at].described(), now, out);
                    } else {
                        let generation = self.generations.get(&number).copied().unwrap_or_default();
                        engine.ready(conn(number), generation, now, out);
                    }
                }
            }
            Step::Reply(command, from) => {
                if let Some(at) = known(from, naive) {
                    let (from, name) = (naive.clients[at].number, naive.clients[at].user);
                    self.reply(command, from, name);
                }
            }
            Step::ReplyFromElsewhere(command, name) => self.reply(command, 999, USERS[name]),
            Step::Send(wish) => self.send(wish),
            Step::SetUser(at, name) => {
                if let Some(at) = known(at, naive) {
                    let number = naive.set_user(at, USERS[name]);
                    if is_elsewhere(number) {
                        engine.hear(NODE, naive.clients[at].described(), now, out);
                    } else {
                        engine.set_user(conn(number), user(USERS[name]), now, out);
                    }
                }
            }
            Step::Stop(at) => {
                if let Some(at) = known(at, naive) {
                    let number = naive.stop(at);
                    if is_elsewhere(number) {
                        engine.hear(NODE, naive.clients[at].described(), now, out);
                    } else {
                        engine.stop_taking(conn(number), now, out);
                    }
                }
            }
            Step::Take(at, settling) => {
                if let Some(at) = known(at, naive) {
                    let (number, name) = naive.take(at, settling);
                    if is_elsewhere(number) {
                        engine.hear(NODE, naive.clients[at].described(), now, out);
                    } else {
                        engine.take_commands(client(number, name), settling, now, out);
                    }
                }
            }
            Step::Time(ms) => {
                self.rig.at(now.monotonic_ms + ms);
                naive.now_ms += ms;
            }
            Step::Touch(at) => {
                if let Some(at) = known(at, naive) {
                    let number = naive.touch(at);
                    if is_elsewhere(number) {
                        engine.touch_elsewhere(NODE, conn(number));
                    } else {
                        engine.touch(conn(number));
                    }
                }
            }
        }
        for Settling { connection: who, generation, .. } in self.rig.out.settling.drain(..) {
            let number = (0..=self.connections).find(|number| conn(*number) == who).unwrap();
            self.generations.insert(number, generation);
        }
        self.naive.consider();
        self.compare();
    }

    fn leave(&mut self) {
        let left = self.rig.leave();
        let mut pairs: Vec<(u32, u32)> = left
            .split_whitespace()
            .map(|pair| {
                pair.split_once('>').map(|(command, to)| (command.parse().unwrap(), to.parse().unwrap())).unwrap()
            })
            .collect();
        if !std::mem::take(&mut self.is_asked) {
            assert!(
                pairs.is_sorted_by_key(|(command, _)| *command),
                "commands leave in the order of acceptance: {left}"
            );
        }
        self.flying.extend(&pairs);
        self.written.extend(&pairs);
        pairs.sort_unstable();
        assert_eq!(pairs, self.naive.leave());
    }

    fn reply(&mut self, command: usize, from: u32, name: &'static str) {
        let counted = self.naive.reply(command as u32, from, name);
        assert_eq!(self.rig.reply(command as u32, from, name), counted);
    }

    fn send(&mut self, wish: Wish) {
        // Ids are those of the latest commands, so that steps find them.
        let number = self.commands;
        let clients = &self.naive.clients;
        let listed = wish.who.iter().filter_map(|at| clients.get(*at)).map(|client| client.number);
        let listed: Vec<u32> = listed.collect();
        let aim = match (wish.aim, listed.first()) {
            (0, _) => Aim::Everybody,
            (1, _) => to_list(&listed),
            (2, Some(first)) => {
                to_connection(*first, clients.iter().find(|client| client.number == *first).unwrap().user)
            }
            _ => to_user(USERS[1 + wish.who[0] % (USERS.len() - 1)]),
        };
        let mut order = order(number, aim, wish.mode, self.rig.now);
        order.fail_fast = wish.fail_fast;
        order.require_capability = wish.require_capability;
        order.min_replies = wish.min_replies;
        order.deadline_ms = self.rig.now.monotonic_ms + wish.limit_ms;
        let expected = self.naive.accept(number, &order);
        let accepted = self.rig.engine.accept(order, None, number, self.rig.now, &mut self.rig.out);
        assert_eq!(accepted, expected.map(|()| Accepted::New));
        self.commands += u32::from(accepted.is_ok());
    }

    fn compare(&mut self) {
        let mut reports: Vec<_> = self.rig.reports();
        reports.sort_unstable_by_key(|(waiters, _)| waiters[0]);
        let told = reports.iter().map(|(waiters, report)| {
            assert_eq!(waiters.len(), 1);
            let Counts { sessions, delivered, replied } = report.counts;
            assert_eq!(report.reply.is_some(), report.outcome == Outcome::Replied && report.rows.is_none());
            let rows = report.rows.as_ref().map(|rows| {
                assert_eq!(rows.len(), sessions);
                assert_eq!(rows.iter().filter(|row| row.reply.is_some()).count(), replied);
                rows.iter().map(|row| (row.connection, row.outcome)).collect::<Vec<_>>()
            });
            (waiters[0], report.outcome, [sessions, delivered, replied], rows)
        });
        let told: Vec<_> = told.collect();
        assert_eq!(told, self.naive.take_reports());
        let figures = self.rig.engine.figures();
        let naive = &self.naive;
        assert_eq!(figures.pending, naive.commands.len());
        let own = naive.clients.iter().filter(|client| client.takes && !is_elsewhere(client.number));
        assert_eq!(figures.sessions, own.count());
        let not_counted = [figures.duplicate_replies, figures.foreign_replies, figures.late_replies];
        assert_eq!(not_counted, [naive.duplicate, naive.foreign, naive.late]);
        assert_eq!(self.rig.engine.next_deadline(), naive.commands.iter().map(|command| command.deadline_ms).min());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn every_command_ends_as_in_the_naive_reference(
        steps in vec(step(), 0..150),
        drains_after in prop::option::weighted(0.3, 0..100usize),
    ) {
        let mut both = Both {
            rig: Rig::with(LIMITS),
            naive: Naive::default(),
            flying: Vec::new(),
            written: Vec::new(),
            commands: 0,
            connections: 0,
            generations: Default::default(),
            is_asked: false,
        };
        for (at, step) in steps.into_iter().enumerate() {
            if drains_after == Some(at) {
                both.play(Step::Drain);
            }
            both.play(step);
        }
        while !both.naive.clients.is_empty() {
            both.play(Step::Close(0));
        }
        both.play(Step::Time(100));
        let sent = both.written.len();
        both.written.sort_unstable();
        both.written.dedup();
        prop_assert_eq!(both.written.len(), sent, "written twice to one connection");
        prop_assert!(both.rig.engine.is_empty());
        let settled: u64 = {
            let figures = both.rig.engine.figures();
            figures.ended.iter().flat_map(|ended| ended.outcomes).sum()
        };
        prop_assert_eq!(settled, u64::from(both.commands), "one report for each");
    }
}
