//! Conversations with the scribe: what a room says, what the store answers, what is in the logs then.

use std::sync::Mutex as StdMutex;

use switchboard_proto::event::RoomMessage;
use switchboard_proto::json::RawJson;
use switchboard_proto::wire::Encoded;
use tokio::sync::{mpsc, oneshot};

use super::super::applications::Application;
use super::super::seats::Settled;
use super::*;

/// How long something may take that has to happen.
const SOON: Duration = Duration::from_secs(10);

/// More than any of these conversations has to note.
const ROOM: usize = 1024;

/// What the store does with an append.
#[derive(Clone, Copy, Debug, Default)]
enum Mood {
    #[default]
    Appends,
    Fails,
    /// Answers when it is told to.
    Waits,
}

/// Gives an append its answer.
type Answering = oneshot::Sender<Result<Option<u64>, BackendError>>;

#[derive(Debug, Default)]
struct Store {
    mood: StdMutex<Mood>,
    waiting: StdMutex<Vec<Answering>>,
}

impl Store {
    fn set(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
    }
}

fn failed() -> BackendError {
    BackendError("no space left on device".into())
}

struct FakeLogs {
    store: Arc<Store>,
    begun: mpsc::Sender<(ConnId, String, u64)>,
    grown: mpsc::Sender<ConnId>,
    evicted: mpsc::Sender<ConnId>,
}

impl Logs for FakeLogs {
    fn append(
        &self,
        session: ConnId,
        item: LogItem,
        _: RoomName,
        number: u64,
        _: bool,
    ) -> Op<Result<Option<u64>, BackendError>> {
        let mood = *self.store.mood.lock().unwrap();
        if matches!(mood, Mood::Fails) {
            return Op::Ready(Err(failed()));
        }
        self.begun.try_send((session, item.as_str().to_owned(), number)).unwrap();
        if matches!(mood, Mood::Appends) {
            return Op::Ready(Ok(Some(number)));
        }
        let (reply, answer) = oneshot::channel();
        self.store.waiting.lock().unwrap().push(reply);
        Op::Wait(Box::pin(async move { answer.await.unwrap() }))
    }

    fn member_meant(&self, id: ConnId) -> ConnId {
        if id == CONNECTION { session(1) } else { id }
    }

    fn has_grown(&self, session: ConnId, _: u64, _: usize) {
        // Whoever looks at it may be gone.
        let _ = self.grown.try_send(session);
    }

    fn catch_up(&self, _: ConnId) -> Option<BoxFuture<'_, ()>> {
        None
    }

    fn evicted<'a>(&'a self, session: ConnId, _: &'a RoomName) -> BoxFuture<'a, ()> {
        self.evicted.try_send(session).unwrap();
        Box::pin(async {})
    }
}

/// A scribe, the store behind it and the room before it.
struct World {
    seats: SharedSeats,
    mailbox: Mailbox,
    store: Arc<Store>,
    begun: mpsc::Receiver<(ConnId, String, u64)>,
    grown: mpsc::Receiver<ConnId>,
    evicted: mpsc::Receiver<ConnId>,
    task: tokio::task::JoinHandle<()>,
    number: u64,
}

/// Carries session 1.
const CONNECTION: ConnId = ConnId::from_random(7);

fn session(number: u128) -> ConnId {
    ConnId::session_from_random(number)
}

fn lobby() -> RoomName {
    RoomName::parse("lobby").unwrap()
}

impl World {
    /// With so many members, from session 1 on.
    fn new(members: u128) -> Self {
        let (inbox, seats, store) = (ScribeInbox::new(1 << 20), SharedSeats::default(), Arc::new(Store::default()));
        let mailbox = inbox.mailbox.clone();
        let ((begins, begun), (grows, grown), (evicts, evicted)) =
            (mpsc::channel(ROOM), mpsc::channel(ROOM), mpsc::channel(ROOM));
        let logs = FakeLogs { store: Arc::clone(&store), begun: begins, grown: grows, evicted: evicts };
        let task = tokio::spawn(Scribe::run(logs, seats.clone(), inbox));
        let application = Arc::new(Application::named("app", "key", None));
        for member in 1..=members {
            let mut seats = seats.lock();
            seats.begin_join(session(member), &application, &lobby(), 1).unwrap();
            assert!(matches!(seats.settle_join(session(member), &lobby(), 0, None), Settled::Member));
        }
        Self { seats, mailbox, store, begun, grown, evicted, task, number: 0 }
    }

    fn say(&mut self) {
        self.say_as(Sender::Server, false);
    }

    fn say_as(&mut self, sender: Sender, echo: bool) {
        self.number += 1;
        let message = RoomMessage {
            room: lobby(),
            number: self.number,
            sender,
            body: RawJson::from_text("good evening"),
            sent_at: 0,
            epoch: 1,
            user: None,
            extra: None,
        };
        let delivery = Delivery { message: Arc::new(Encoded::new(message)), origin: None, echo };
        self.mailbox.try_reserve(delivery.weight()).unwrap().push(Mail::Deliver(delivery));
    }

    /// What is appended next, shortened: to which log, the number of a message or the ends of a gap, and the number up to which the
    /// room is heard then.
    async fn next(&mut self) -> (ConnId, String, u64) {
        let next = tokio::time::timeout(SOON, self.begun.recv()).await;
        let (session, item, heard) = next.expect("nothing was appended").unwrap();
        let item: serde_json::Value = serde_json::from_str(&format!("{item}}}")).unwrap();
        let data = &item["data"];
        assert_eq!(data["room"], "lobby");
        let what = match item["event"].as_str().unwrap() {
            "GATEWAY_ROOM_MESSAGE" => data["number"].to_string(),
            "GATEWAY_ROOM_GAP" => format!("{}..{}", data["first"], data["last"]),
            other => panic!("{other}"),
        };
        (session, what, heard)
    }

    async fn expect(&mut self, expected: &[(u128, &str, u64)]) {
        for &(of, what, heard) in expected {
            assert_eq!(self.next().await, (session(of), what.to_owned(), heard));
        }
    }

    /// Waits until everything that was said has been dealt with, and expects no other append.
    async fn nothing_more(&mut self) {
        let stop = Mail::Ask(Ask::Stop);
        self.mailbox.try_reserve(stop.weight()).unwrap().push(stop);
        tokio::time::timeout(SOON, &mut self.task).await.expect("it did not stop").unwrap();
        assert!(self.begun.try_recv().is_err());
    }

    async fn waiting(&self, count: usize) {
        let deadline = Instant::now() + SOON;
        while self.store.waiting.lock().unwrap().len() < count {
            assert!(Instant::now() < deadline);
            tokio::task::yield_now().await;
        }
    }

    fn answer_next(&self, answer: Result<Option<u64>, BackendError>) {
        self.store.waiting.lock().unwrap().remove(0).send(answer).unwrap();
    }
}

#[tokio::test]
async fn what_a_room_says_is_appended_for_every_member_in_its_order() {
    let mut world = World::new(1);
    world.say();
    world.say();
    world.expect(&[(1, "1", 1), (1, "2", 2)]).await;
    assert_eq!(world.grown.recv().await, Some(session(1)));
    world.nothing_more().await;
}

#[tokio::test]
async fn whoever_speaks_or_is_spoken_for_does_not_hear_it_unless_speakers_do() {
    let mut world = World::new(2);
    world.say_as(Sender::Connection(session(1)), false);
    world.expect(&[(2, "1", 1)]).await;
    world.say_as(Sender::Named(session(2).to_string().into()), false);
    world.expect(&[(1, "2", 2)]).await;
    world.say_as(Sender::Named(CONNECTION.to_string().into()), false);
    world.expect(&[(2, "3", 3)]).await;
    world.say_as(Sender::Connection(session(1)), true);
    let mut both = [world.next().await.0, world.next().await.0];
    both.sort_unstable();
    let mut expected = [session(1), session(2)];
    expected.sort_unstable();
    assert_eq!(both, expected);
    world.nothing_more().await;
}

#[tokio::test]
async fn appends_overlap_up_to_a_limit() {
    let mut world = World::new(1);
    world.store.set(Mood::Waits);
    for _ in 0..=APPENDS {
        world.say();
    }
    for number in 1..=u64::from(APPENDS) {
        assert_eq!(world.next().await.2, number);
    }
    world.waiting(APPENDS as usize).await;
    assert!(world.begun.try_recv().is_err(), "one more waits for a place");
    world.answer_next(Ok(Some(1)));
    assert_eq!(world.next().await.2, u64::from(APPENDS) + 1);
}

#[tokio::test]
async fn what_the_store_refuses_is_told_as_a_gap_before_the_next_message() {
    let mut world = World::new(1);
    world.say();
    world.expect(&[(1, "1", 1)]).await;
    world.store.set(Mood::Fails);
    world.say();
    world.say();
    let deadline = Instant::now() + SOON;
    while world.mailbox.try_reserve(1 << 20).is_none() || !world.seats.lock().gaps_wait().0 {
        assert!(Instant::now() < deadline);
        tokio::task::yield_now().await;
    }
    world.store.set(Mood::Appends);
    world.say();
    world.expect(&[(1, "2..3", 3), (1, "4", 4)]).await;
    world.nothing_more().await;
}

#[tokio::test]
async fn a_gap_is_told_though_nothing_more_is_said() {
    let mut world = World::new(1);
    world.store.set(Mood::Waits);
    world.say();
    world.expect(&[(1, "1", 1)]).await;
    world.waiting(1).await;
    world.store.set(Mood::Appends);
    world.answer_next(Err(failed()));
    world.expect(&[(1, "1..1", 1)]).await;
    world.nothing_more().await;
}

#[tokio::test]
async fn who_returns_is_told_at_once_that_nobody_knows_what_was_missed() {
    let mut world = World::new(0);
    let application = {
        let mut other = World::new(1);
        let application = other.seats.lock().application(session(1)).unwrap();
        other.nothing_more().await;
        application
    };
    {
        let mut seats = world.seats.lock();
        seats.remember(session(1), &application, &lobby(), 7);
        assert_eq!(seats.begin_return(&lobby()), [(session(1), 7)]);
        let gap = Gap { first: 8, last: None };
        assert!(matches!(seats.settle_join(session(1), &lobby(), 2, Some(gap)), Settled::Member));
    }
    world.number = 2;
    world.say();
    world.expect(&[(1, "8..null", 2), (1, "3", 3)]).await;
    world.nothing_more().await;
}

#[tokio::test]
async fn members_are_evicted_once_all_that_was_said_is_in_their_logs() {
    let mut world = World::new(1);
    world.store.set(Mood::Waits);
    world.say();
    let (reply, mut evicted) = oneshot::channel();
    let evict = Mail::Ask(Ask::Evict(lobby(), Box::new(move |count| reply.send(count).unwrap())));
    world.mailbox.try_reserve(evict.weight()).unwrap().push(evict);
    world.expect(&[(1, "1", 1)]).await;
    world.waiting(1).await;
    assert!(evicted.try_recv().is_err() && world.evicted.try_recv().is_err());
    world.answer_next(Ok(Some(1)));
    assert_eq!(tokio::time::timeout(SOON, evicted).await.unwrap(), Ok(1));
    assert_eq!(world.evicted.try_recv(), Ok(session(1)));
    world.say();
    world.nothing_more().await;
}
