//! What every broker must do: the one of a single node, and the one of several nodes over Redis.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, Instant};

use switchboard_proto::call::HistoryRange;
use switchboard_proto::event::{MessageExtra, RoomMessage, Sender};
use switchboard_proto::json::RawJson;
use switchboard_proto::user::User;

use super::room;
use crate::backend::memory::MemoryBroker;
use crate::backend::redis::broker::BrokerSettings;
use crate::backend::redis::broker::testing::{RoomNode, config};
use crate::backend::redis::testing::{cluster_server, runtime, single_server};
use crate::backend::{BackendError, Broker, Draft, Enter, LogLimits, Published, RoomHistory};
use crate::config::Degraded;
use crate::hub::Entrance;
use crate::hub::mail::{Address, Ask, ConnKey, EnteringListeners, Mail, Missed};
use crate::hub::mailbox::{Inbox, Mailbox, inbox};
use crate::op::Op;

/// How long anything may take.
pub(in crate::backend) const PATIENCE: Duration = Duration::from_secs(30);

/// Workers of each node.
const WORKERS: usize = 2;

/// What a worker hears.
pub(in crate::backend) struct Hearing {
    inbox: Inbox,
    woken: Receiver<()>,
    mail: VecDeque<Mail>,
}

/// Something that a worker was told.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::backend) enum Heard {
    /// Number and text.
    Said(u64, String),
    Gap(Missed),
}

impl Hearing {
    pub(in crate::backend) fn new(capacity_bytes: usize) -> (Mailbox, Self) {
        let (wake, woken) = sync_channel(1);
        // When it is woken already, once is enough.
        let (mailbox, inbox) = inbox(capacity_bytes, move || {
            let _ = wake.try_send(());
        });
        (mailbox, Self { inbox, woken, mail: VecDeque::new() })
    }

    /// What comes next, for which it waits.
    pub(in crate::backend) fn next_mail(&mut self) -> Mail {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(mail) = self.mail.pop_front() {
                return mail;
            }
            if !self.inbox.take(&mut self.mail) && self.mail.is_empty() && self.inbox.may_sleep() {
                let left = deadline.saturating_duration_since(Instant::now());
                self.woken.recv_timeout(left).expect("nothing comes");
            }
        }
    }

    pub(in crate::backend) fn next(&mut self) -> Heard {
        match self.next_mail() {
            Mail::Deliver(delivery) => {
                let message = delivery.message.message();
                Heard::Said(message.number, message.body.to_text().unwrap())
            }
            Mail::Ask(Ask::Gap(_, missed)) => Heard::Gap(missed),
            other => panic!("{other:?}"),
        }
    }

    /// The number of what comes next, which is a message.
    pub(in crate::backend) fn number(&mut self) -> u64 {
        match self.next() {
            Heard::Said(number, _) => number,
            gap @ Heard::Gap(_) => panic!("{gap:?}"),
        }
    }
}

/// A node, and what its workers hear.
struct Node {
    broker: Arc<dyn Broker>,
    workers: Vec<Hearing>,
}

/// Nodes that hear the same rooms.
struct Subject {
    nodes: Vec<Node>,
    /// Keeps what the nodes are made of.
    _of: Vec<RoomNode>,
}

const LIMITS: LogLimits =
    LogLimits { messages: 5, bytes: 64 << 10, total_bytes: 1 << 20, ids: 3, id_bytes: 1 << 20, id_ms: 60_000 };

fn workers() -> (Vec<Mailbox>, Vec<Hearing>) {
    // So small that publishers wait for space now and then.
    (0..WORKERS).map(|_| Hearing::new(4 << 10)).unzip()
}

impl Subject {
    fn memory() -> Self {
        let (mailboxes, workers) = workers();
        let broker = Arc::new(MemoryBroker::new(mailboxes, LIMITS));
        Self { nodes: vec![Node { broker, workers }], _of: Vec::new() }
    }

    fn redis(url: &str) -> Self {
        let prefix = format!("test-{}", uuid::Uuid::new_v4());
        let (mut nodes, mut of) = (Vec::new(), Vec::new());
        for name in 0..2 {
            let config = config(url, &prefix, name);
            let settings = BrokerSettings {
                limits: LIMITS,
                degraded: Degraded::Refuse,
                audit_interval: config.backend.redis.audit_interval,
            };
            let (mailboxes, workers) = workers();
            let node = RoomNode::join(&config, settings, mailboxes);
            nodes.push(Node { broker: Arc::new(node.broker.clone()), workers });
            of.push(node);
        }
        Self { nodes, _of: of }
    }

    fn broker(&self, node: usize) -> &dyn Broker {
        &*self.nodes[node % self.nodes.len()].broker
    }

    fn worker(&mut self, node: usize, worker: usize) -> &mut Hearing {
        let count = self.nodes.len();
        &mut self.nodes[node % count].workers[worker]
    }
}

/// Asks each broker.
fn each(rule: impl Fn(&mut Subject)) {
    for mut subject in
        [Subject::memory(), Subject::redis(&single_server().url()), Subject::redis(&cluster_server().url())]
    {
        rule(&mut subject);
    }
}

pub(in crate::backend) fn wait<T: Send + 'static>(op: Op<Result<T, BackendError>>) -> T {
    try_wait(op).unwrap()
}

pub(in crate::backend) fn try_wait<T: Send + 'static>(op: Op<Result<T, BackendError>>) -> Result<T, BackendError> {
    match op {
        Op::Ready(result) => result,
        Op::Wait(future) => runtime().block_on(async { tokio::time::timeout(PATIENCE, future).await.unwrap() }),
    }
}

pub(in crate::backend) fn draft(text: &str) -> Draft {
    Draft {
        room: room("lobby"),
        sender: Sender::Server,
        body: RawJson::from_text(text),
        sent_at: 1000,
        origin: None,
        echo: false,
        user: None,
        extra: None,
    }
}

fn with_id(id: &str, user: &str) -> Draft {
    let extra = Some(Box::new(MessageExtra { id: Some(id.into()), attachment: None }));
    Draft { user: User::new(user).ok(), extra, ..draft("with an id") }
}

/// The number of a message that is said.
pub(in crate::backend) fn say(broker: &dyn Broker, draft: Draft) -> u64 {
    match wait(broker.publish(draft)) {
        Some(Published::Now(message)) => message.message().number,
        other => panic!("{other:?}"),
    }
}

fn history(broker: &dyn Broker, before_ms: Option<u64>, limit: usize, since: Option<u64>) -> (Vec<u64>, usize) {
    let range = HistoryRange { room: room("lobby"), before_ms, limit, unread_since_ms: since };
    let RoomHistory { messages, unread_not_loaded } = wait(broker.history(range)).unwrap();
    (messages.iter().map(|message: &RoomMessage| message.number).collect(), unread_not_loaded)
}

#[test]
fn a_room_that_is_not_there_has_nothing() {
    each(|subject| {
        let range = HistoryRange { room: room("lobby"), before_ms: None, limit: 1, unread_since_ms: None };
        assert!(wait(subject.broker(0).publish(draft("x"))).is_none());
        assert!(wait(subject.broker(0).subscribe(&room("lobby"), 0)).is_none());
        assert!(wait(subject.broker(0).history(range)).is_none());
        wait(subject.broker(0).close(&room("lobby")));
        wait(subject.broker(0).unsubscribe(&room("lobby"), 0));
    });
}

#[test]
fn whoever_subscribed_hears_every_message_once_in_the_order_of_its_number() {
    each(|subject| {
        wait(subject.broker(0).open(&room("lobby")));
        wait(subject.broker(1).open(&room("lobby")));
        for (node, worker) in [(0, 0), (0, 1), (1, 1)] {
            assert_eq!(wait(subject.broker(node).subscribe(&room("lobby"), worker)), Some(0));
        }
        let numbers: Vec<u64> = (0..6).map(|at| say(subject.broker(at), draft(&format!("text {at}")))).collect();
        assert_eq!(numbers, [1, 2, 3, 4, 5, 6]);
        let hearing = if subject.nodes.len() > 1 { &[(0, 0), (0, 1), (1, 1)][..] } else { &[(0, 0), (0, 1)] };
        for (node, worker) in hearing {
            for number in 1..=6 {
                let text = format!("text {}", number - 1);
                assert_eq!(subject.worker(*node, *worker).next(), Heard::Said(number, text));
            }
        }
    });
}

#[test]
fn a_subscription_begins_behind_its_number_and_ends_with_the_last_seat() {
    each(|subject| {
        wait(subject.broker(0).open(&room("lobby")));
        say(subject.broker(0), draft("before"));
        assert_eq!(wait(subject.broker(1).subscribe(&room("lobby"), 0)), Some(1));
        assert_eq!(say(subject.broker(0), draft("heard")), 2);
        assert_eq!(subject.worker(1, 0).next(), Heard::Said(2, "heard".to_owned()));
        assert_eq!(wait(subject.broker(1).subscribe(&room("lobby"), 0)), Some(2));
        wait(subject.broker(1).unsubscribe(&room("lobby"), 0));
        assert_eq!(say(subject.broker(0), draft("still heard")), 3);
        assert_eq!(subject.worker(1, 0).number(), 3);
        wait(subject.broker(1).unsubscribe(&room("lobby"), 0));
        assert_eq!(say(subject.broker(0), draft("not heard")), 4);
        assert_eq!(wait(subject.broker(1).subscribe(&room("lobby"), 0)), Some(4));
        assert_eq!(say(subject.broker(0), draft("heard again")), 5);
        assert_eq!(subject.worker(1, 0).number(), 5);
    });
}

/// How a listener entered: after which number, and the numbers that it got first.
fn entered(worker: &mut Hearing) -> (u64, Option<Vec<u64>>) {
    let Mail::Listen(entering) = worker.next_mail() else { panic!("the entrance comes first") };
    let EnteringListeners { entrance, said, .. } = *entering;
    (entrance.after, said.map(|said| said.iter().map(|message| message.message().number).collect()))
}

fn listen(broker: &dyn Broker, worker: u16, from_start: bool) -> bool {
    listen_together(broker, worker, 1, from_start)
}

/// Has this many listeners enter by one mail.
fn listen_together(broker: &dyn Broker, worker: u16, listeners: u32, from_start: bool) -> bool {
    let connections: Arc<[ConnKey]> = (0..listeners).map(|slot| ConnKey { slot, generation: 0 }).collect();
    let enter: Enter = Box::new(move |after, said| {
        let (entrance, connections) = (Entrance { after, ..Entrance::default() }, Arc::clone(&connections));
        Mail::Listen(Box::new(EnteringListeners { room: room("lobby"), connections, began: 1, entrance, said }))
    });
    wait(broker.listen(&room("lobby"), worker, listeners, from_start, enter))
}

#[test]
fn listeners_that_enter_together_get_one_mail_and_are_counted_one_by_one() {
    each(|subject| {
        wait(subject.broker(0).open(&room("lobby")));
        say(subject.broker(0), draft("before"));
        assert!(listen_together(subject.broker(1), 0, 3, true));
        assert_eq!(entered(subject.worker(1, 0)), (1, Some(vec![1])));
        // The next mail is the next message, as long as one of the three listens.
        for number in 2..=4 {
            assert_eq!(say(subject.broker(0), draft("x")), number);
            assert_eq!(subject.worker(1, 0).number(), number);
            wait(subject.broker(1).unsubscribe(&room("lobby"), 0));
        }
        assert_eq!(say(subject.broker(0), draft("not heard")), 5);
        assert!(listen(subject.broker(1), 0, false));
        assert_eq!(entered(subject.worker(1, 0)), (5, None));
    });
}

#[test]
fn a_listener_from_the_start_gets_what_is_remembered_and_then_what_follows_whoever_listened_before() {
    each(|subject| {
        assert!(!listen(subject.broker(1), 0, true), "there is no such room");
        wait(subject.broker(0).open(&room("lobby")));
        for text in ["one", "two"] {
            say(subject.broker(0), draft(text));
        }
        // The node does not hear the room yet; then it does, with another worker and with this one.
        assert!(listen(subject.broker(1), 0, true));
        assert_eq!(entered(subject.worker(1, 0)), (2, Some(vec![1, 2])));
        assert!(listen(subject.broker(1), 1, true) && listen(subject.broker(1), 0, false));
        assert_eq!(entered(subject.worker(1, 1)), (2, Some(vec![1, 2])));
        assert_eq!(entered(subject.worker(1, 0)), (2, None));
        for number in 3..=7 {
            assert_eq!(say(subject.broker(0), draft("more")), number);
            assert_eq!([0, 1].map(|worker| subject.worker(1, worker).number()), [number; 2]);
        }
        assert!(listen(subject.broker(1), 1, true));
        assert_eq!(entered(subject.worker(1, 1)), (7, Some(vec![3, 4, 5, 6, 7])), "the log has no more");
    });
}

#[test]
fn what_is_said_while_a_listener_enters_comes_once_and_in_order() {
    each(|subject| {
        wait(subject.broker(0).open(&room("lobby")));
        std::thread::scope(|scope| {
            let speaker = Arc::clone(&subject.nodes[0].broker);
            // One at a time, or the speaker would wait for the space that the test frees later.
            scope.spawn(move || (1..=20).for_each(|number| assert_eq!(say(&*speaker, draft("x")), number)));
            assert!(listen(subject.broker(1), 0, true));
            let (after, said) = entered(subject.worker(1, 0));
            let said = said.unwrap();
            assert!(said.iter().copied().eq(after - said.len() as u64 + 1..=after), "{said:?} {after}");
            for number in after + 1..=20 {
                assert_eq!(subject.worker(1, 0).number(), number);
            }
        });
    });
}

#[test]
fn what_a_message_says_of_itself_arrives_and_its_connection_is_known_on_its_node_only() {
    each(|subject| {
        wait(subject.broker(0).open(&room("lobby")));
        for node in 0..subject.nodes.len() {
            wait(subject.broker(node).subscribe(&room("lobby"), 1));
        }
        let origin = Some(Address { worker: 1, key: ConnKey { slot: 7, generation: 3 } });
        let attachment = Some(RawJson::from_parsed(r#"{"a":1}"#));
        let extra = Some(Box::new(MessageExtra { id: Some("id".into()), attachment }));
        let said = Draft { origin, echo: true, extra, user: User::new("u").ok(), ..draft("x") };
        let Some(Published::Now(published)) = wait(subject.broker(0).publish(said.clone())) else { panic!("it is") };
        for node in 0..subject.nodes.len() {
            let Mail::Deliver(delivery) = subject.worker(node, 1).next_mail() else { panic!("it is a message") };
            let message = delivery.message.message();
            assert_eq!((delivery.origin, delivery.echo), (origin.filter(|_| node == 0), true));
            assert_eq!((&message.body, &message.user, &message.extra), (&said.body, &said.user, &said.extra));
            assert_eq!(message.id(), published.message().id());
            assert_eq!((message.sent_at, message.epoch), (1000, published.message().epoch));
        }
    });
}

#[test]
fn an_id_is_known_to_its_user_and_taken_for_others() {
    each(|subject| {
        wait(subject.broker(0).open(&room("lobby")));
        assert_eq!(say(subject.broker(0), with_id("a", "u1")), 1);
        let again = wait(subject.broker(1).publish(with_id("a", "u1")));
        assert!(matches!(again, Some(Published::Before(message)) if message.number == 1 && message.id() == "a"));
        assert!(matches!(wait(subject.broker(1).publish(with_id("a", "u2"))), Some(Published::IdTaken)));
        let later = Draft { sent_at: 1000 + LIMITS.id_ms, ..with_id("a", "u2") };
        assert_eq!(say(subject.broker(0), later), 2, "forgotten by then");
        for (number, id) in [(3, "b"), (4, "c"), (5, "d")] {
            let later = Draft { sent_at: 1000 + LIMITS.id_ms, ..with_id(id, "u1") };
            assert_eq!(say(subject.broker(1), later), number);
        }
        let later = Draft { sent_at: 1000 + LIMITS.id_ms, ..with_id("a", "u3") };
        assert_eq!(say(subject.broker(0), later), 6, "three are remembered");
    });
}

#[test]
fn history_has_the_latest_of_a_range() {
    each(|subject| {
        wait(subject.broker(0).open(&room("lobby")));
        for at in 1..=7 {
            say(subject.broker(at), Draft { sent_at: at as u64 * 10, ..draft("x") });
        }
        assert_eq!(history(subject.broker(1), None, 10, None), (vec![7, 6, 5, 4, 3], 0));
        assert_eq!(history(subject.broker(0), None, 2, None), (vec![7, 6], 0));
        assert_eq!(history(subject.broker(1), Some(70), 2, Some(35)), (vec![6, 5], 1));
        let large = draft(&"x".repeat(LIMITS.bytes + 1));
        say(subject.broker(0), large);
        assert_eq!(history(subject.broker(1), None, 10, None), (vec![], 0), "what does not fit leaves no space");
    });
}

#[test]
fn a_room_that_is_made_anew_has_another_life() {
    each(|subject| {
        wait(subject.broker(0).open(&room("lobby")));
        let Some(Published::Now(first)) = wait(subject.broker(0).publish(with_id("a", "u1"))) else { panic!("it is") };
        assert_eq!(wait(subject.broker(0).subscribe(&room("lobby"), 0)), Some(1));
        say(subject.broker(1), draft("the last"));
        wait(subject.broker(0).close(&room("lobby")));
        assert_eq!(subject.worker(0, 0).next(), Heard::Said(2, "the last".to_owned()));
        assert!(wait(subject.broker(1).publish(draft("x"))).is_none());
        wait(subject.broker(1).open(&room("lobby")));
        let Some(Published::Now(second)) = wait(subject.broker(1).publish(with_id("a", "u2"))) else { panic!("it is") };
        assert_eq!(second.message().number, 1);
        assert!(second.message().epoch > first.message().epoch);
        assert_eq!(history(subject.broker(0), None, 9, None), (vec![1], 0));
    });
}

#[test]
fn all_workers_of_all_nodes_see_one_order_whoever_speaks() {
    const EACH: u64 = 50;
    each(|subject| {
        wait(subject.broker(0).open(&room("lobby")));
        for node in 0..subject.nodes.len() {
            for worker in 0..WORKERS {
                wait(subject.broker(node).subscribe(&room("lobby"), worker as u16));
            }
        }
        let brokers: Vec<_> = subject.nodes.iter().map(|node| Arc::clone(&node.broker)).collect();
        let speakers = brokers.len() * 4;
        let orders: Vec<Vec<String>> = std::thread::scope(|scope| {
            for speaker in 0..speakers {
                let broker = Arc::clone(&brokers[speaker % brokers.len()]);
                scope.spawn(move || {
                    for at in 0..EACH {
                        say(&*broker, draft(&format!("{speaker} {at}")));
                    }
                });
            }
            let hearings = subject.nodes.iter_mut().flat_map(|node| &mut node.workers);
            let hearing = hearings.map(|worker| {
                scope.spawn(move || {
                    let expected = 1..=speakers as u64 * EACH;
                    let hear = |expected| match worker.next() {
                        Heard::Said(number, text) if number == expected => text,
                        other => panic!("{other:?} instead of {expected}"),
                    };
                    expected.map(hear).collect::<Vec<String>>()
                })
            });
            let hearing: Vec<_> = hearing.collect();
            hearing.into_iter().map(|worker| worker.join().unwrap()).collect()
        });
        assert!(orders.iter().all(|order| *order == orders[0]));
        for speaker in 0..speakers {
            let own: Vec<_> = orders[0].iter().filter(|text| text.starts_with(&format!("{speaker} "))).collect();
            let as_said: Vec<_> = (0..EACH).map(|at| format!("{speaker} {at}")).collect();
            assert!(own.into_iter().eq(as_said.iter()), "one speaker's messages are numbered as they were said");
        }
    });
}
