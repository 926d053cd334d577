//! The hub against a naive reference, and several hubs behind one broker under a seeded schedule.
//!
//! A schedule that fails prints its seed; `SIMULATION_SEED=n` plays that one alone, `SIMULATION_RUNS=n` plays more.

use std::collections::{BTreeMap, VecDeque};
use std::env;
use std::sync::Arc;

use proptest::prelude::*;
use serde_json::Value;
use switchboard_proto::event::{RoomMessage, Sender};
use switchboard_proto::id::RoomName;
use switchboard_proto::json::RawJson;
use switchboard_proto::wire::{Encoded, Hears, WireFormat};

use super::mail::{Address, ConnKey, Delivery, Mail, Missed};
use super::mailbox::{Inbox, inbox};
use super::{Entrance, Hub, HubLimits, Role, SlowConsumer};
use crate::backend::memory::MemoryBroker;
use crate::backend::{Broker, Draft, LogLimits, Published};
use crate::op::Op;
use crate::visits::visits_of;

const LIMITS: HubLimits = HubLimits { max_outbox_bytes: usize::MAX, slow_consumer: SlowConsumer::Close };
const FORMATS: [WireFormat; 3] =
    [WireFormat::ActionHeroLine, WireFormat::ActionHeroMessage, WireFormat::ActionHeroDeflated];

fn new_hub<L>(worker: u16) -> Hub<L> {
    Hub::new(worker, LIMITS, Default::default())
}

fn after(after: u64) -> Entrance {
    Entrance { after, ..Entrance::default() }
}

/// How a connection that was opened in this format hears its rooms.
fn hears(hub: &Hub<bool>, key: ConnKey) -> Hears {
    let connection = hub.get(key).unwrap();
    if connection.link { Hears::NOTHING } else { Hears::in_format(connection.format()) }
}

fn room(index: usize) -> RoomName {
    RoomName::parse(&format!("room{index}")).unwrap()
}

fn delivery(room_index: usize, number: u64, origin: Option<ConnKey>, echo: bool) -> Delivery {
    Delivery {
        message: Arc::new(Encoded::new(RoomMessage {
            room: room(room_index),
            number,
            sender: Sender::Server,
            body: RawJson::from_value(&Value::from(number)),
            sent_at: 0,
            epoch: 0,
            user: None,
            extra: None,
        })),
        origin: origin.map(|key| Address { worker: 0, key }),
        echo,
    }
}

/// Pairs of room and number.
type Heard = Vec<(String, u64)>;

/// What a connection was written, in lines or in short frames.
fn read(written: &[u8]) -> Heard {
    let mut texts = Vec::new();
    let mut rest = written;
    while let Some((&first, _)) = rest.split_first() {
        let (text, behind) = match first {
            0x81 => rest[2..].split_at(usize::from(rest[1])),
            _ => rest.split_at(rest.iter().position(|byte| *byte == b'\n').unwrap() + 1),
        };
        texts.push(text);
        rest = behind;
    }
    texts
        .into_iter()
        .map(|text| {
            let message: Value = serde_json::from_slice(text).unwrap();
            (message["room"].as_str().unwrap().to_owned(), message["message"].as_u64().unwrap())
        })
        .collect()
}

fn flush<L>(hub: &mut Hub<L>, mut written: impl FnMut(ConnKey, &[u8])) {
    hub.fan_out();
    for slot in hub.take_dirty() {
        // It may have been removed since.
        let Some((key, connection)) = hub.clean(slot) else { continue };
        let mut out = Vec::new();
        let format = connection.format();
        connection.outbox.write_to(&mut out, format).unwrap();
        written(key, &out);
    }
}

#[derive(Clone, Debug)]
enum Step {
    Open,
    Close(usize),
    Enter(usize, usize, Role),
    Leave(usize, usize, Role),
    /// Hears nothing from now on, or everything.
    Mute(usize, bool),
    /// Somebody, or the server, says something.
    Say(Option<usize>, usize, bool),
    Flush,
}

fn role() -> impl Strategy<Value = Role> {
    prop_oneof![3 => Just(Role::Member), 1 => Just(Role::Listener)]
}

fn step() -> impl Strategy<Value = Step> {
    let who = 0..8usize;
    let room = 0..3usize;
    prop_oneof![
        2 => Just(Step::Open),
        1 => who.clone().prop_map(Step::Close),
        5 => (who.clone(), room.clone(), role()).prop_map(|(who, room, role)| Step::Enter(who, room, role)),
        3 => (who.clone(), room.clone(), role()).prop_map(|(who, room, role)| Step::Leave(who, room, role)),
        1 => (who.clone(), any::<bool>()).prop_map(|(who, muted)| Step::Mute(who, muted)),
        6 => (proptest::option::of(who), room, any::<bool>()).prop_map(|(who, room, echo)| Step::Say(who, room, echo)),
        2 => Just(Step::Flush),
    ]
}

type Roles = Vec<(usize, Role)>;

/// The reference: every connection has a list of rooms, and a message goes to whoever has its room at that moment.
#[derive(Default)]
struct Naive {
    /// Key, rooms with roles, and what it heard.
    connections: Vec<(ConnKey, Roles, Heard)>,
    numbers: [u64; 3],
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn every_member_gets_what_the_naive_reference_gives_it(steps in proptest::collection::vec(step(), 0..120)) {
        let mut hub: Hub<bool> = new_hub(0);
        let mut naive = Naive::default();
        let mut written: BTreeMap<(u32, u32), Vec<u8>> = BTreeMap::new();
        let mut gone: Vec<(ConnKey, Heard)> = Vec::new();
        for step in steps.into_iter().chain([Step::Flush]) {
            match step {
                Step::Open => {
                    let key = hub.insert(FORMATS[naive.connections.len() % FORMATS.len()], false);
                    naive.connections.push((key, Vec::new(), Vec::new()));
                }
                Step::Close(who) if who < naive.connections.len() => {
                    let (key, _, heard) = naive.connections.remove(who);
                    // What was said before is walked first; what was not written is lost with the connection.
                    hub.fan_out();
                    if let Some(connection) = hub.get_mut(key) {
                        let out = written.entry((key.slot, key.generation)).or_default();
                        let format = connection.format();
                        connection.outbox.write_to(out, format).unwrap();
                    }
                    prop_assert!(hub.remove(key).is_some());
                    prop_assert!(hub.remove(key).is_none());
                    gone.push((key, heard));
                }
                Step::Enter(who, at, role) if who < naive.connections.len() => {
                    let last = naive.numbers[at];
                    let (key, rooms, _) = &mut naive.connections[who];
                    let hears = hears(&hub, *key);
                    let is_new = hub.enter(*key, &room(at), role, after(last), hears);
                    prop_assert_eq!(is_new, !rooms.contains(&(at, role)));
                    if is_new {
                        rooms.push((at, role));
                    }
                }
                Step::Leave(who, at, role) if who < naive.connections.len() => {
                    let (key, rooms, _) = &mut naive.connections[who];
                    let was_there = rooms.contains(&(at, role));
                    rooms.retain(|other| *other != (at, role));
                    let hears = hears(&hub, *key);
                    prop_assert_eq!(hub.leave(*key, &room(at), role, hears), was_there);
                }
                Step::Mute(who, muted) if who < naive.connections.len() => {
                    let key = naive.connections[who].0;
                    hub.get_mut(key).unwrap().link = muted;
                    let hears = hears(&hub, key);
                    hub.rehear(key, |_, _, _| hears);
                }
                Step::Say(who, at, echo) => {
                    naive.numbers[at] += 1;
                    let number = naive.numbers[at];
                    let origin = who.and_then(|who| naive.connections.get(who)).map(|(key, ..)| *key);
                    hub.gather(delivery(at, number, origin, echo));
                    for (key, rooms, heard) in &mut naive.connections {
                        let is_there = rooms.iter().any(|(other, _)| *other == at);
                        if is_there && !hears(&hub, *key).is_nothing() && (echo || Some(*key) != origin) {
                            heard.push((room(at).to_string(), number));
                        }
                    }
                }
                Step::Flush => {
                    flush(&mut hub, |key, out| {
                        written.entry((key.slot, key.generation)).or_default().extend_from_slice(out);
                    });
                }
                Step::Close(_) | Step::Enter(..) | Step::Leave(..) | Step::Mute(..) => {}
            }
            for (key, rooms, _) in &naive.connections {
                for role in [Role::Member, Role::Listener] {
                    let in_role = rooms.iter().filter(|(_, other)| *other == role);
                    let mut names: Vec<RoomName> = in_role.map(|(at, _)| room(*at)).collect();
                    let mut found = if role == Role::Member { hub.rooms_of(*key) } else { hub.listened_by(*key) };
                    // A room that was entered in one role first stands where that one put it.
                    names.sort();
                    found.sort();
                    prop_assert_eq!(found, names);
                }
            }
        }
        let heard: Vec<_> = naive.connections.into_iter().map(|(key, _, heard)| (key, heard)).chain(gone).collect();
        prop_assert_eq!(hub.take_delivered(), heard.iter().map(|(_, heard)| heard.len() as u64).sum::<u64>());
        for (key, heard) in heard {
            let seen = read(written.get(&(key.slot, key.generation)).map_or(&[], Vec::as_slice));
            // Order is promised inside a room, not across rooms.
            for at in 0..3 {
                let of_room = |list: &[(String, u64)]| -> Vec<u64> {
                    list.iter().filter(|(name, _)| *name == room(at).as_str()).map(|(_, number)| *number).collect()
                };
                prop_assert_eq!(of_room(&seen), of_room(&heard));
            }
        }
    }
}

#[test]
fn a_rooms_part_is_reclaimed_when_its_last_member_leaves() {
    let mut hub: Hub<()> = new_hub(0);
    let key = hub.insert(FORMATS[0], ());
    for index in 0..1000 {
        assert!(hub.enter(key, &room(index), Role::Member, after(0), Hears::NOTHING));
        assert!(hub.leave(key, &room(index), Role::Member, Hears::NOTHING));
    }
    assert_eq!((hub.rooms.len(), hub.room_keys.len()), (1, 0));
}

/// What is written to a connection, one word for each message or notice: the body, or both ends of a gap.
fn read_out(hub: &mut Hub<bool>, key: ConnKey) -> Vec<String> {
    let mut out = Vec::new();
    hub.get_mut(key).unwrap().outbox.write_to(&mut out, WireFormat::ActionHeroLine).unwrap();
    let lines = String::from_utf8(out).unwrap();
    let word = |line: &str| {
        let line: Value = serde_json::from_str(line).unwrap();
        match line.get("gap") {
            Some(gap) => format!("{}-{}", gap["first"], gap["last"]),
            None => line["message"].to_string(),
        }
    };
    lines.lines().map(word).collect()
}

#[test]
fn what_is_missing_is_told_in_its_place_to_whoever_was_there() {
    let mut hub: Hub<bool> = new_hub(0);
    let line = Hears::in_format(WireFormat::ActionHeroLine);
    let keys = [0, 0, 5, 2].map(|last| {
        let key = hub.insert(WireFormat::ActionHeroLine, false);
        let hears = if last == 2 { Hears::NOTHING } else { line };
        hub.enter(key, &room(0), Role::Member, after(last), hears);
        key
    });
    hub.gather(delivery(0, 1, None, false));
    hub.miss(&room(0), Missed { first: 2, last: Some(4), restarts: false });
    hub.miss(&room(1), Missed { first: 2, last: Some(4), restarts: false });
    hub.gather(delivery(0, 5, None, false));
    hub.gather(delivery(0, 6, None, false));
    hub.fan_out();
    assert_eq!(read_out(&mut hub, keys[0]), ["1", "2-4", "5", "6"]);
    assert_eq!(read_out(&mut hub, keys[1]), ["1", "2-4", "5", "6"]);
    assert_eq!(read_out(&mut hub, keys[2]), ["6"], "it came behind what is missing");
    assert_eq!(read_out(&mut hub, keys[3]).len(), 0);
    // Numbers begin anew.
    hub.miss(&room(0), Missed { first: 7, last: None, restarts: true });
    hub.gather(delivery(0, 1, None, false));
    hub.fan_out();
    assert_eq!(read_out(&mut hub, keys[0]), ["7-null", "1"]);
}

#[test]
fn what_has_no_number_is_for_whoever_is_there() {
    let mut hub: Hub<bool> = new_hub(0);
    let key = hub.insert(WireFormat::ActionHeroLine, false);
    hub.enter(key, &room(0), Role::Member, after(3), Hears::in_format(WireFormat::ActionHeroLine));
    for number in [3, 0, 4, 0] {
        hub.gather(delivery(0, number, None, false));
    }
    hub.fan_out();
    assert_eq!(read_out(&mut hub, key), ["0", "4", "0"]);
    hub.gather(delivery(0, 0, Some(key), false));
    hub.fan_out();
    assert_eq!(read_out(&mut hub, key).len(), 0, "it said that itself");
}

#[test]
fn a_slot_that_is_used_again_is_another_connection() {
    let mut hub: Hub<u8> = new_hub(0);
    let first = hub.insert(FORMATS[0], 1);
    hub.remove(first);
    let second = hub.insert(FORMATS[0], 2);
    assert_eq!((first.slot, hub.get(first).is_none(), hub.get(second).map(|it| it.link)), (second.slot, true, Some(2)));
}

/// Several workers behind one broker, in one thread. The seed decides who does what when; each worker takes its mail and
/// flushes when its turn comes, so that workers lag behind one another in every possible way.
struct Simulation {
    random: fastrand::Rng,
    broker: MemoryBroker,
    workers: Vec<SimulatedWorker>,
    clients: Vec<Client>,
    /// By room, the senders in the order of numbers.
    said: Vec<Vec<Option<Address>>>,
}

struct SimulatedWorker {
    hub: Hub<()>,
    inbox: Inbox,
    /// Taken out of the inbox, not looked at yet.
    mail: VecDeque<Mail>,
}

struct Client {
    address: Address,
    /// By room: the latest number when it joined, while it is a member.
    member_after: Vec<Option<u64>>,
    /// By room: the next numbers it must hear.
    due: Vec<VecDeque<u64>>,
    /// By room: how many of these its worker has taken.
    taken: [usize; Simulation::ROOMS],
}

impl Simulation {
    const ROOMS: usize = 3;
    /// Small enough that publishes find inboxes full.
    const INBOX_BYTES: usize = 4096;

    fn new(seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let (mailboxes, inboxes): (Vec<_>, Vec<_>) =
            (0..random.usize(1..=4)).map(|_| inbox(Self::INBOX_BYTES, || {})).unzip();
        let broker = MemoryBroker::new(mailboxes, LogLimits::default());
        for index in 0..Self::ROOMS {
            assert!(matches!(broker.open(&room(index)), Op::Ready(Ok(()))));
        }
        let workers = inboxes.into_iter().enumerate().map(|(worker, inbox)| SimulatedWorker {
            hub: new_hub(worker as u16),
            inbox,
            mail: VecDeque::new(),
        });
        let workers = workers.collect();
        Self { random, broker, workers, clients: Vec::new(), said: vec![Vec::new(); Self::ROOMS] }
    }

    fn run(mut self, steps: usize) {
        for _ in 0..steps {
            match self.random.u8(0..10) {
                0 => self.connect(),
                1 | 2 => self.join(),
                3 => self.leave(),
                4..=7 => self.say(),
                8 => {
                    let worker = self.random.usize(0..self.workers.len());
                    let count = self.random.usize(0..8);
                    self.take_mail(worker, count);
                }
                _ => {
                    let worker = self.random.usize(0..self.workers.len());
                    self.flush(worker);
                }
            }
        }
        // Nobody says anything any more, and everything must arrive.
        for worker in 0..self.workers.len() {
            self.take_mail(worker, usize::MAX);
            self.flush(worker);
        }
        for client in &self.clients {
            assert!(client.due.iter().all(VecDeque::is_empty), "something was never delivered: {:?}", client.due);
        }
    }

    fn connect(&mut self) {
        let worker = self.random.usize(0..self.workers.len());
        let key = self.workers[worker].hub.insert(FORMATS[self.clients.len() % FORMATS.len()], ());
        self.clients.push(Client {
            address: Address { worker: worker as u16, key },
            member_after: vec![None; Self::ROOMS],
            due: vec![VecDeque::new(); Self::ROOMS],
            taken: [0; Self::ROOMS],
        });
    }

    fn pick(&mut self) -> Option<(usize, usize)> {
        let client = (!self.clients.is_empty()).then(|| self.random.usize(0..self.clients.len()))?;
        Some((client, self.random.usize(0..Self::ROOMS)))
    }

    fn join(&mut self) {
        let Some((client, at)) = self.pick() else { return };
        let client = &mut self.clients[client];
        if client.member_after[at].is_some() {
            return;
        }
        let Op::Ready(Ok(Some(last))) = self.broker.subscribe(&room(at), client.address.worker) else {
            panic!("the memory broker is always ready")
        };
        assert_eq!(last, self.said[at].len() as u64);
        let hub = &mut self.workers[usize::from(client.address.worker)].hub;
        let key = client.address.key;
        let hears = Hears::in_format(hub.get(key).unwrap().format());
        hub.enter(key, &room(at), Role::Member, after(last), hears);
        client.member_after[at] = Some(last);
    }

    fn leave(&mut self) {
        let Some((client, at)) = self.pick() else { return };
        let client = &mut self.clients[client];
        if client.member_after[at].take().is_none() {
            return;
        }
        let hub = &mut self.workers[usize::from(client.address.worker)].hub;
        hub.leave(client.address.key, &room(at), Role::Member, Hears::NOTHING);
        assert!(matches!(self.broker.unsubscribe(&room(at), client.address.worker), Op::Ready(Ok(()))));
        // What its worker had taken is in its outbox now; nothing else may come.
        client.due[at].truncate(client.taken[at]);
    }

    fn say(&mut self) {
        let Some((client, at)) = self.pick() else { return };
        let origin = self.clients[client].member_after[at].map(|_| self.clients[client].address);
        let number = self.said[at].len() as u64 + 1;
        let draft = Draft {
            room: room(at),
            sender: Sender::Server,
            body: RawJson::from_value(&Value::from(number)),
            sent_at: 0,
            origin,
            echo: false,
            user: None,
            extra: None,
        };
        match self.broker.publish(draft) {
            Op::Ready(Ok(Some(Published::Now(told)))) => {
                assert_eq!(told.message().number, number, "numbers have no gaps");
            }
            Op::Ready(Ok(other)) => panic!("{other:?}"),
            Op::Ready(Err(error)) => panic!("{error}"),
            // Not numbered: nobody hears it, and the number is given to the next.
            Op::Wait(pending) => return drop(pending),
        }
        self.said[at].push(origin);
        for client in &mut self.clients {
            if client.member_after[at].is_some() && Some(client.address) != origin {
                client.due[at].push_back(number);
            }
        }
    }

    /// Looks at the next `count` pieces of mail.
    fn take_mail(&mut self, worker: usize, count: usize) {
        let SimulatedWorker { hub, inbox, mail: waiting } = &mut self.workers[worker];
        while inbox.take(waiting) {}
        for mail in waiting.drain(..count.min(waiting.len())) {
            let Mail::Deliver(delivery) = mail else { panic!("nobody sent {mail:?}") };
            let message = delivery.message.message();
            let at = (0..Self::ROOMS).find(|at| room(*at) == message.room).unwrap();
            for client in self.clients.iter_mut().filter(|client| usize::from(client.address.worker) == worker) {
                let hears = client.member_after[at].is_some_and(|after| message.number > after);
                if hears && delivery.origin != Some(client.address) {
                    client.taken[at] += 1;
                }
            }
            hub.gather(delivery);
        }
    }

    fn flush(&mut self, worker: usize) {
        let clients = &mut self.clients;
        flush(&mut self.workers[worker].hub, |key, out| {
            let address = Address { worker: worker as u16, key };
            let client = clients.iter_mut().find(|client| client.address == address).unwrap();
            for (name, number) in read(out) {
                let at: usize = name.strip_prefix("room").unwrap().parse().unwrap();
                assert_eq!(client.due[at].pop_front(), Some(number), "order, duplicate, gap or stranger in {name}");
                client.taken[at] -= 1;
            }
        });
    }
}

#[test]
fn every_schedule_of_workers_keeps_order_and_delivers_once() {
    let number = |name: &str| env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    let seeds = match number("SIMULATION_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("SIMULATION_RUNS").unwrap_or(300),
    };
    for seed in seeds {
        let played = std::panic::catch_unwind(|| Simulation::new(seed).run(400));
        if let Err(panic) = played {
            eprintln!("SIMULATION_SEED={seed} fails");
            std::panic::resume_unwind(panic);
        }
    }
}

#[test]
fn a_listener_that_comes_late_gets_what_was_said_before_and_is_told_what_is_missing() {
    // In the last case the log has nothing any longer.
    for (first, last, gap) in [(1, 2, None), (2, 3, Some(1)), (4, 3, Some(3))] {
        let mut hub: Hub<bool> = new_hub(0);
        let [early, late] = [(); 2].map(|()| hub.insert(WireFormat::ActionHeroLine, false));
        let hearing = hears(&hub, early);
        hub.enter(early, &room(0), Role::Listener, after(0), hearing);
        for number in 1..=last {
            hub.gather(delivery(0, number, None, true));
        }
        hub.enter(late, &room(0), Role::Listener, after(last), hearing);
        let said: Vec<_> = (first..=last).map(|number| delivery(0, number, None, true).message).collect();
        hub.catch_up(&[late], &room(0), last, &said);
        hub.gather(delivery(0, last + 1, None, true));
        hub.fan_out();
        let mut written = [early, late].map(|key| {
            let mut bytes = Vec::new();
            hub.get_mut(key).unwrap().outbox.write_to(&mut bytes, WireFormat::ActionHeroLine).unwrap();
            String::from_utf8(bytes).unwrap()
        });
        if let Some(missing) = gap {
            let notice =
                format!("{{\"gap\":{{\"first\":1,\"last\":{missing}}},\"room\":\"room0\",\"context\":\"api\"}}\r\n");
            assert!(written[1].starts_with(&notice), "{}", written[1]);
            written[1] = written[1].split_off(notice.len());
        }
        let numbers = |text: &str| read(text.as_bytes()).into_iter().map(|(_, number)| number).collect::<Vec<_>>();
        assert!(numbers(&written[0]).into_iter().eq(1..=last + 1));
        assert!(numbers(&written[1]).into_iter().eq(first..=last + 1), "{}", written[1]);
    }
}

#[test]
fn telling_a_gap_visits_each_member_and_each_newcomer_once() {
    let visits = [1000, 20_000].map(|count: usize| {
        let mut hub: Hub<bool> = new_hub(0);
        let line = Hears::in_format(WireFormat::ActionHeroLine);
        for last in 0..count as u64 {
            let key = hub.insert(WireFormat::ActionHeroLine, false);
            hub.enter(key, &room(0), Role::Member, after(last + 1), line);
        }
        let gap = Missed { first: 1, last: Some(count as u64 / 2), restarts: false };
        visits_of(|| hub.miss(&room(0), gap)) / count as u64
    });
    assert_eq!(visits, [1, 1], "visits for each member");
}
