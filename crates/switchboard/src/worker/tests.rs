//! A worker alone, with a node whose answers the test gives when it likes.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::Mutex;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::task::{Context, Poll as TaskPoll, Waker};

use switchboard_proto::call::{Answer, Call, CallError, Content, Outcome, Piece, RoomKind, Wants};
use switchboard_proto::command::CommandId;
use switchboard_proto::event::{RoomMessage, Sender};
use switchboard_proto::face::Remote;
use switchboard_proto::id::{ConnId, RoomName};
use switchboard_proto::json::RawJson;
use switchboard_proto::peer::PeerKind;
use switchboard_proto::wire::Encoded;

use super::calls::Offer;
use super::*;
use crate::hub::ids::Ids;
use crate::hub::mail::{Admission, Adopted, Attended, CommandFate, Delivery, EnteringListeners, ListenedRoom, Socket};
use crate::hub::mailbox::inbox;
use crate::hub::{Connection, Entrance, Role, SlowConsumer};
use crate::op::{BoxFuture, Op};

/// A node whose joins wait until the test settles them.
#[derive(Default)]
struct SlowNode {
    /// What is decided of the connection, once the test settles it; without one it is let in at once.
    admission: Mutex<Option<Result<Admission, CallError>>>,
    /// What the node hears of connections.
    heard: Mutex<Vec<&'static str>>,
    joins: Mutex<Option<Receiver<Result<u64, CallError>>>>,
    undone: Mutex<Vec<RoomName>>,
    spawned: Mutex<Vec<BoxFuture<'static, ()>>>,
    offers: Mutex<Vec<Offer>>,
    unlistened: AtomicUsize,
    /// The result of the next request to listen; without one it succeeds and finds no room.
    attending: Mutex<Option<Op<Attended>>>,
    /// The result of the next offer; without one it succeeds.
    listening: Mutex<Option<Op<bool>>>,
}

impl Calls for SlowNode {
    fn admit(&self, _: &Caller) -> Op<Result<Admission, CallError>> {
        match self.admission.lock().unwrap().take() {
            None => Op::Ready(Ok(Admission::default())),
            Some(admission) => Op::Wait(Box::pin(async { admission })),
        }
    }

    fn delivered(&self, _: u64) {}

    fn opened(&self, _: &Caller, _: Admission) {
        self.heard.lock().unwrap().push("opened");
    }

    fn closed(&self, _: &Caller, _: CloseReason) {
        self.heard.lock().unwrap().push("closed");
    }

    fn turned_away(&self, _: &Caller, reason: CloseReason) {
        self.heard.lock().unwrap().push(reason.as_str());
    }

    fn join(&self, _: Caller, _: RoomName) -> Op<Result<Entrance, CallError>> {
        let (settle, settled) = sync_channel(1);
        let result = self.joins.lock().unwrap().as_ref().unwrap().recv().unwrap();
        settle.send(result).unwrap();
        Op::Wait(Box::pin(
            async move { settled.recv().unwrap().map(|after| Entrance { after, kind: RoomKind::Public }) },
        ))
    }

    fn joined(&self, _: &Caller, _: &RoomName) {}

    fn leave(&self, _: Caller, _: RoomName) -> Op<()> {
        Op::Ready(())
    }

    fn unjoin(&self, _: Caller, room: RoomName) -> Op<()> {
        self.undone.lock().unwrap().push(room);
        Op::Ready(())
    }

    fn attend(&self, _: Caller, _: Wants, _: Vec<RoomName>) -> Op<Attended> {
        self.attending.lock().unwrap().take().unwrap_or(Op::Ready(Attended::default()))
    }

    fn listen(&self, offer: Offer) -> Op<bool> {
        self.offers.lock().unwrap().push(offer);
        self.listening.lock().unwrap().take().unwrap_or(Op::Ready(true))
    }

    fn unlisten(&self, _: u16, _: RoomName) -> Op<()> {
        self.unlistened.fetch_add(1, Ordering::Relaxed);
        Op::Ready(())
    }

    fn command_fate(&self, _: CommandId, _: ConnId, _: CommandFate) {}

    fn call(&self, _: Caller, _: Call) -> Op<Outcome> {
        Op::Ready(Err(CallError::Unavailable))
    }

    fn read(&self, _: Arc<dyn Content>, _: u64) -> BoxFuture<'static, io::Result<Piece>> {
        Box::pin(async { Ok(Piece { consumed: 0, bytes: Vec::new() }) })
    }

    fn spawn(&self, future: BoxFuture<'static, ()>) {
        self.spawned.lock().unwrap().push(future);
    }
}

/// A worker, its node, and one client.
struct Setting {
    worker: Worker,
    node: Arc<SlowNode>,
    results: SyncSender<Result<u64, CallError>>,
    mailbox: Mailbox,
    client: UnixStream,
    events: Events,
}

impl Setting {
    fn new() -> Self {
        Self::with(None)
    }

    fn with(admission: Option<Result<Admission, CallError>>) -> Self {
        Self::of_kind(PeerKind::Socket, admission, 1 << 20)
    }

    /// A client of a WebSocket that is a member of these rooms.
    fn websocket(rooms: &[&str], max_outbox_bytes: usize) -> Self {
        let mut setting = Self::of_kind(PeerKind::WebSocket { deflate: false }, None, max_outbox_bytes);
        let key = setting.worker.hub.keys()[0];
        for name in rooms {
            setting.results.send(Ok(0)).unwrap();
            setting.mail(Mail::Ask(Ask::Join(key, room(name), Box::new(|outcome| assert!(outcome.is_ok())))));
            setting.settle();
        }
        setting
    }

    fn of_kind(kind: PeerKind, admission: Option<Result<Admission, CallError>>, max_outbox_bytes: usize) -> Self {
        let (results, joins) = sync_channel(8);
        let node = Arc::new(SlowNode {
            admission: Mutex::new(admission),
            joins: Mutex::new(Some(joins)),
            ..SlowNode::default()
        });
        let (mailbox, inbox) = inbox(1 << 20, || {});
        let worker = Worker::new(Parts {
            index: 0,
            poll: Poll::new().unwrap(),
            inbox,
            mailboxes: vec![mailbox.clone()],
            loads: {
                let loads = Loads::new(1, Ids::default());
                loads.of(0).store(1, Ordering::Relaxed);
                Arc::new(loads)
            },
            calls: Arc::clone(&node) as Arc<dyn Calls>,
            faces: Arc::default(),
            settings: WorkerSettings {
                hub: HubLimits { max_outbox_bytes, slow_consumer: SlowConsumer::Close },
                read_pause_bytes: 1 << 16,
                read_buffer_bytes: 1 << 16,
                batch_bytes: 1 << 16,
                max_rooms_per_connection: 10,
                max_connections: 10,
                close_linger_ms: 0,
            },
            listeners: Vec::new(),
            accept_rate: Arc::new(AcceptRate::new(0)),
            started: Instant::now(),
        });
        let (client, server) = UnixStream::pair().unwrap();
        server.set_nonblocking(true).unwrap();
        client.set_nonblocking(true).unwrap();
        let mut setting = Self { worker, node, results, mailbox, client, events: Events::with_capacity(8) };
        setting.mail(Mail::Adopt(Box::new(Adopted {
            socket: Socket::Unix(server),
            tls: None,
            received: Vec::new(),
            kind,
            id: Ids::default().fresh(),
            fingerprint: None,
            remote: Remote::Unix,
            admission: None,
        })));
        let welcome = setting.received_bytes();
        assert_eq!(welcome.is_empty(), !setting.heard().contains(&"opened"), "{}", welcome.escape_ascii());
        setting
    }

    /// The client closes its socket.
    fn hang_up(&mut self) {
        self.client = UnixStream::pair().unwrap().0;
        self.turn();
    }

    fn heard(&self) -> Vec<&'static str> {
        self.node.heard.lock().unwrap().clone()
    }

    /// A turn that does not wait.
    fn turn(&mut self) {
        self.mailbox_is_never_empty();
        self.worker.turn(&mut self.events).unwrap();
    }

    /// With mail at hand, a turn looks at its sockets without waiting for them.
    fn mailbox_is_never_empty(&self) {
        let nothing = Mail::Ask(Ask::Evict(room("nowhere"), Box::new(drop)));
        self.mailbox.try_reserve(nothing.weight()).unwrap().push(nothing);
    }

    fn mail(&mut self, mail: Mail) {
        self.mail_all([mail]);
    }

    /// All of it arrives before one turn.
    fn mail_all(&mut self, all: impl IntoIterator<Item = Mail>) {
        for mail in all {
            self.mailbox.try_reserve(mail.weight()).unwrap().push(mail);
        }
        self.turn();
    }

    fn send(&mut self, line: &str) {
        self.client.write_all(line.as_bytes()).unwrap();
        self.turn();
    }

    /// What waits comes to its end, and the worker hears of it.
    fn settle(&mut self) {
        for mut future in std::mem::take(&mut *self.node.spawned.lock().unwrap()) {
            let cx = &mut Context::from_waker(Waker::noop());
            assert!(matches!(future.as_mut().poll(cx), TaskPoll::Ready(())));
        }
        self.turn();
        self.turn();
    }

    fn received(&mut self) -> String {
        String::from_utf8(self.received_bytes()).unwrap()
    }

    fn received_bytes(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        // Ends with "would block".
        let _ = self.client.read_to_end(&mut bytes);
        bytes
    }

    fn undone(&self) -> Vec<RoomName> {
        self.node.undone.lock().unwrap().clone()
    }
}

fn room(name: &str) -> RoomName {
    RoomName::parse(name).unwrap()
}

/// The first message of a room.
fn said_in(name: &str) -> Mail {
    let message = RoomMessage {
        room: room(name),
        number: 1,
        sender: Sender::Server,
        body: RawJson::from_text(&"x".repeat(50)),
        sent_at: 0,
        epoch: 0,
        user: None,
        extra: None,
    };
    Mail::Deliver(Delivery { message: Arc::new(Encoded::new(message)), origin: None, echo: false })
}

#[test]
fn a_join_that_waits_holds_up_what_is_behind_it_and_then_goes_on() {
    let mut setting = Setting::new();
    setting.results.send(Ok(7)).unwrap();
    setting.send("roomAdd r\r\nparamView a\r\n");
    assert_eq!(setting.received(), "");
    setting.settle();
    let answers = setting.received();
    let lines: Vec<&str> = answers.lines().collect();
    assert!(
        lines[0].contains("\"data\":true,\"messageCount\":1") && lines[1].contains("\"messageCount\":2"),
        "{answers}"
    );
    assert_eq!(setting.undone(), []);
}

#[test]
fn a_join_whose_room_was_destroyed_meanwhile_is_refused_and_undone() {
    let mut setting = Setting::new();
    setting.results.send(Ok(7)).unwrap();
    setting.send("roomAdd r\r\n");
    setting.mail(Mail::Ask(Ask::Evict(room("r"), Box::new(drop))));
    setting.settle();
    assert!(setting.received().contains("room does not exist"));
    assert_eq!(setting.undone(), [room("r")]);
}

#[test]
fn joins_that_wait_count_as_rooms_of_their_connection() {
    let mut setting = Setting::new();
    let key = setting.worker.hub.keys()[0];
    let (note, outcomes) = sync_channel(11);
    for index in 0..11 {
        setting.results.send(Ok(0)).unwrap();
        let note = note.clone();
        let reply = Box::new(move |outcome| note.send(outcome).unwrap());
        setting.mail(Mail::Ask(Ask::Join(key, room(&format!("r{index}")), reply)));
        if index < 10 {
            assert!(outcomes.try_recv().is_err(), "{index}");
        }
    }
    assert!(matches!(outcomes.try_recv(), Ok(Err(CallError::TooManyRoomsOfConnection))));
}

#[test]
fn a_join_that_a_new_pattern_forbids_meanwhile_is_refused_and_undone() {
    let mut setting = Setting::new();
    setting.results.send(Ok(7)).unwrap();
    setting.send("roomAdd r\r\n");
    setting.mail(Mail::Ask(Ask::Recheck(room("r"), RoomKind::Restricted, Arc::new(|_| false), Box::new(drop))));
    setting.settle();
    assert!(setting.received().contains("not authorized to join room"));
    assert_eq!(setting.undone(), [room("r")]);
}

#[test]
fn a_connection_that_is_taken_out_of_a_room_while_it_joins_does_not_become_a_member() {
    let mut setting = Setting::new();
    setting.results.send(Ok(7)).unwrap();
    setting.send("roomAdd r\r\n");
    let key = setting.worker.hub.keys()[0];
    let (note, notes) = sync_channel(2);
    setting.mail(Mail::Ask(Ask::Inspect(key, Box::new(move |found| note.send(found.joining).unwrap()))));
    assert_eq!(notes.recv().unwrap(), [room("r")], "a check of all its rooms finds this one");
    let (note, outcomes) = sync_channel(1);
    setting.mail(Mail::Ask(Ask::Leave(key, room("r"), Box::new(move |outcome| note.send(outcome).unwrap()))));
    assert!(matches!(outcomes.recv().unwrap(), Ok(Answer::Left)));
    setting.settle();
    assert!(setting.received().contains("not authorized to join room"));
    assert_eq!(setting.undone(), [room("r")]);
    assert!(!setting.worker.hub.is_member(key, &room("r")));
}

#[test]
fn a_room_that_is_closed_while_a_connection_begins_to_listen_is_not_listened_to() {
    let mut setting = Setting::new();
    let key = setting.worker.hub.keys()[0];
    setting.worker.wanting.set(key, &Wants { public_rooms: true, ..Wants::default() });
    let closings: [fn(RoomName) -> Ask; 2] = [
        |room| Ask::Recheck(room, RoomKind::Restricted, Arc::new(|_| true), Box::new(drop)),
        |room| Ask::Evict(room, Box::new(drop)),
    ];
    for close in closings {
        let began = setting.worker.listens.begin();
        let later = setting.worker.listens.begin();
        setting.mail(Mail::Ask(close(room("r"))));
        let again = setting.worker.listens.begin();
        let listening = |began| {
            let entrance = Entrance::default();
            let entering =
                EnteringListeners { room: room("r"), connections: [key].into(), began, entrance, said: None };
            [Mail::Listen(Box::new(entering)), Mail::ListenDone(began)]
        };
        for (began, is_heard) in [(later, false), (began, false), (again, true)] {
            setting.mail_all(listening(began));
            assert_eq!(setting.worker.hub.has_role(key, &room("r"), Role::Listener), is_heard);
        }
        setting.worker.stop_listening(key, &room("r"));
        assert!(setting.worker.listens.is_idle());
    }
}

#[test]
fn a_room_that_is_made_while_a_connection_begins_to_listen_is_offered_to_it() {
    let mut setting = Setting::new();
    let key = setting.worker.hub.keys()[0];
    let wants = || Wants { public_rooms: true, ..Wants::default() };
    let found = || ListenedRoom { room: room("r"), entrance: Entrance { after: 3, ..Entrance::default() } };
    for (rooms, unused) in [(vec![], 0), (vec![found()], 1)] {
        let attended = Attended { rooms, failed: Some(CallError::Unavailable) };
        *setting.node.attending.lock().unwrap() = Some(Op::Wait(Box::pin(async { attended })));
        let (note, outcomes) = sync_channel(1);
        let asker = Asker::Node(Box::new(move |outcome| note.send(outcome).unwrap()));
        setting.worker.attend(key, wants(), asker);

        setting.worker.offer(&room("r"), true, Box::new(|is_done| assert!(is_done)));
        let offer = setting.node.offers.lock().unwrap().pop().expect("it is offered");
        assert_eq!(&*offer.connections, [key]);
        let Offer { room: offered, connections, began, .. } = offer;
        let entering =
            EnteringListeners { room: offered, connections, began, entrance: Entrance::default(), said: None };
        setting.mail(Mail::Listen(Box::new(entering)));
        assert!(setting.worker.hub.has_role(key, &room("r"), Role::Listener));

        setting.settle();
        assert!(
            matches!(outcomes.try_recv(), Ok(Err(CallError::Unavailable))),
            "the caller learns that the store failed"
        );
        assert!(setting.worker.listens.is_idle());
        assert_eq!(setting.node.unlistened.swap(0, Ordering::Relaxed), unused, "subscriptions without a listener");
        setting.worker.stop_listening(key, &room("r"));
        setting.node.unlistened.store(0, Ordering::Relaxed);
    }
}

#[test]
fn what_was_decided_for_an_earlier_user_of_a_connection_is_not_listened_to() {
    let mut setting = Setting::new();
    let key = setting.worker.hub.keys()[0];
    let wants = |is_new_user| Wants { public_rooms: true, is_new_user, ..Wants::default() };
    let asker = || Asker::Node(Box::new(drop));
    setting.worker.attend(key, wants(false), asker());
    let earlier = setting.worker.listens.begin();
    setting.worker.attend(key, wants(true), asker());
    setting.worker.attend(key, wants(false), asker());
    let later = setting.worker.listens.begin();
    for (began, is_heard) in [(earlier, false), (later, true)] {
        let entrance = Entrance::default();
        let entering = EnteringListeners { room: room("r"), connections: [key].into(), began, entrance, said: None };
        setting.mail_all([Mail::Listen(Box::new(entering)), Mail::ListenDone(began)]);
        assert_eq!(setting.worker.hub.has_role(key, &room("r"), Role::Listener), is_heard);
    }
}

#[test]
fn an_offer_asks_the_node_once_for_all_listeners_and_ends_even_if_the_store_fails() {
    let mut setting = Setting::new();
    let key = setting.worker.hub.keys()[0];
    let gone = ConnKey { slot: 77, generation: 0 };
    let connections: Arc<[ConnKey]> = [key, gone, key].into();
    // The last one is the case of a connection that stops listening to public rooms in the meantime.
    for (is_done, wants) in [(false, true), (true, true), (true, false)] {
        setting.worker.wanting.set(key, &Wants { public_rooms: wants, ..Wants::default() });
        *setting.node.listening.lock().unwrap() = Some(Op::Ready(is_done));
        let (note, replies) = sync_channel(1);
        let reply = Box::new(move |is_done| note.send(is_done).unwrap());
        setting.worker.begin_listening(&room("r"), Arc::clone(&connections), true, reply);
        assert!(replies.try_recv().is_err() && !setting.worker.listens.is_idle());
        let offer = setting.node.offers.lock().unwrap().pop().unwrap();
        assert_eq!((&offer.connections, offer.is_new), (&connections, true));
        assert!(setting.node.offers.lock().unwrap().is_empty(), "the node was asked once");
        if is_done {
            let (room, began, entrance) = (offer.room, offer.began, Entrance::default());
            let entering = EnteringListeners { room, connections: offer.connections, began, entrance, said: None };
            setting.mail(Mail::Listen(Box::new(entering)));
        }
        setting.settle();
        assert_eq!(replies.try_recv(), Ok(is_done));
        assert!(setting.worker.listens.is_idle());
        let listens = setting.worker.hub.has_role(key, &room("r"), Role::Listener);
        assert_eq!(listens, is_done && wants);
        let unused = if is_done { connections.len() - usize::from(listens) } else { 0 };
        assert_eq!(setting.node.unlistened.swap(0, Ordering::Relaxed), unused, "subscriptions without a listener");
        setting.worker.stop_listening(key, &room("r"));
        setting.node.unlistened.store(0, Ordering::Relaxed);
    }
}

#[test]
fn a_join_after_a_join_that_was_cancelled_is_not_told_that_the_connection_is_a_member() {
    let mut setting = Setting::new();
    let key = setting.worker.hub.keys()[0];
    let (note, outcomes) = sync_channel(8);
    let reply = || {
        let note = note.clone();
        Box::new(move |outcome: Outcome| note.send(outcome).unwrap())
    };
    let endings: [fn(ConnKey) -> Ask; 2] = [
        |key| Ask::Leave(key, room("r"), Box::new(|outcome| assert!(matches!(outcome, Ok(Answer::Left))))),
        |_| Ask::Evict(room("r"), Box::new(drop)),
    ];
    for end in endings {
        setting.results.send(Ok(0)).unwrap();
        setting.mail(Mail::Ask(Ask::Join(key, room("r"), reply())));
        setting.mail(Mail::Ask(Ask::Join(key, room("r"), reply())));
        assert!(matches!(outcomes.try_recv(), Ok(Err(CallError::AlreadyMember(_)))), "the first join may succeed");
        setting.mail(Mail::Ask(end(key)));
        setting.mail(Mail::Ask(Ask::Join(key, room("r"), reply())));
        assert!(matches!(outcomes.try_recv(), Ok(Err(CallError::Unavailable))));
        setting.settle();
        assert!(matches!(outcomes.try_recv(), Ok(Err(CallError::NotAuthorized | CallError::NoSuchRoom))));
    }
    setting.results.send(Ok(0)).unwrap();
    setting.mail(Mail::Ask(Ask::Join(key, room("r"), reply())));
    setting.settle();
    assert!(matches!(outcomes.try_recv(), Ok(Ok(Answer::Joined))), "once the cancelled join has ended");
}

#[test]
fn a_join_whose_connection_is_gone_is_undone() {
    let mut setting = Setting::new();
    setting.results.send(Ok(7)).unwrap();
    setting.send("roomAdd r\r\n");
    let key = setting.worker.hub.keys()[0];
    setting.worker.cut(key, CloseReason::ConnectionLost);
    setting.settle();
    assert_eq!(setting.undone(), [room("r")]);
}

#[test]
fn a_join_that_the_node_refuses_late_has_nothing_to_undo() {
    let mut setting = Setting::new();
    setting.results.send(Err(CallError::NotAuthorized)).unwrap();
    setting.send("roomAdd r\r\n");
    setting.settle();
    assert!(setting.received().contains("not authorized to join room"));
    assert_eq!(setting.undone(), []);
}

#[test]
fn who_waits_to_be_let_in_is_neither_read_nor_told_anything() {
    let mut setting = Setting::with(Some(Ok(Admission::default())));
    setting.send("paramView a\r\n");
    assert_eq!((setting.received().as_str(), setting.heard()), ("", vec![]));
    setting.settle();
    let said = setting.received();
    assert!(said.starts_with("{\"welcome\"") && said.contains("\"messageCount\":1"), "{said}");
    assert_eq!(setting.heard(), ["opened"]);
}

#[test]
fn who_is_not_let_in_was_never_a_connection_of_the_node() {
    let mut setting = Setting::with(Some(Err(CallError::Unavailable)));
    setting.send("paramView a\r\n");
    setting.settle();
    assert_eq!(setting.received(), "{\"error\":\"unavailable\",\"context\":\"api\"}\r\n");
    setting.hang_up();
    assert_eq!(setting.heard(), ["refused"]);
}

#[test]
fn a_stop_comes_before_a_decision() {
    let mut setting = Setting::with(Some(Ok(Admission::default())));
    setting.mail(Mail::Ask(Ask::Drain));
    assert_eq!(setting.received(), "{\"status\":\"Bye!\",\"context\":\"api\"}\r\n");
    setting.settle();
    assert_eq!(setting.received(), "");
    setting.hang_up();
    assert_eq!(setting.heard(), ["shutdown"]);
}

#[test]
fn fault_row_24_a_slow_consumer_is_told_so_however_many_rooms_overflow_at_once() {
    let mut setting = Setting::websocket(&["r", "s"], 10);
    setting.mail_all([said_in("r"), said_in("s")]);
    let received = setting.received_bytes();
    assert_eq!(received.last_chunk(), Some(&[0x88, 0x02, 0x03, 0xf5]), "{}", received.escape_ascii());
}

#[test]
fn what_a_room_said_before_comes_before_the_last_words() {
    let mut setting = Setting::websocket(&["r"], 1 << 20);
    let key = setting.worker.hub.keys()[0];
    setting.mail_all([said_in("r"), Mail::Ask(Ask::Remove(key, Box::new(drop)))]);
    let received = setting.received_bytes();
    assert!(received.windows(3).any(|bytes| bytes == b"xxx"), "{}", received.escape_ascii());
    assert_eq!(received.last_chunk(), Some(&[0x88, 0x02, 0x03, 0xe8]), "{}", received.escape_ascii());
}

/// A file of ten bytes whose pieces the test brings.
#[derive(Debug)]
struct File;

impl Content for File {
    fn length(&self) -> u64 {
        10
    }

    fn read_at(&self, _: u64, _: &mut [u8]) -> io::Result<usize> {
        unreachable!("the test brings the pieces itself")
    }
}

#[test]
fn a_file_that_cannot_be_read_on_ends_with_the_code_of_our_fault() {
    let mut setting = Setting::websocket(&[], 1 << 20);
    let key = setting.worker.hub.keys()[0];
    setting.worker.hub.get_mut(key).unwrap().outbox.push_content(Arc::new(File));
    setting.worker.hub.mark_dirty(key.slot);
    setting.turn();
    setting.mail(Mail::Settled(key, Box::new(Settled::Content(Err(io::ErrorKind::Other.into())))));
    assert_eq!(setting.received_bytes(), [0x88, 0x02, 0x03, 0xf3]);
}

#[test]
fn fault_row_41_who_takes_a_file_is_not_silent_however_long_that_lasts() {
    let mut setting = Setting::websocket(&[], 1 << 20);
    let key = setting.worker.hub.keys()[0];
    let connection = setting.worker.hub.get_mut(key).unwrap();
    connection.outbox.push_content(Arc::new(File));
    connection.link.streaming = true;
    setting.worker.hub.mark_dirty(key.slot);
    setting.turn();
    for _ in 0..2 {
        // Less than `servers.websocket.silence_timeout`, and more than that together.
        setting.worker.started -= Duration::from_secs(70);
        let piece = Piece { consumed: 5, bytes: b"piece".to_vec() };
        setting.mail(Mail::Settled(key, Box::new(Settled::Content(Ok(piece)))));
    }
    assert!(setting.worker.hub.get(key).is_some_and(|connection| connection.link.closing.is_none()));
}

#[test]
fn what_an_idle_connection_occupies_is_known() {
    assert!(size_of::<ConnFacts>() <= 56, "facts: {}", size_of::<ConnFacts>());
    assert!(size_of::<Link>() <= 160, "link: {}", size_of::<Link>());
    assert!(size_of::<Connection<Link>>() <= 256, "connection: {}", size_of::<Connection<Link>>());
}
