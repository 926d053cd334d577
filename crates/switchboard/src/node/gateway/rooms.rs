//! Rooms of sessions: who joins, leaves and speaks, and what becomes of memberships when rooms and sessions end or come back.
//!
//! A session is a member itself and stays one while no connection carries it. What the room says goes into its log
//! (`scribe`); which session is where is known here (`seats`) and kept by the store.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use switchboard_proto::call::{Answer, CallError, Outcome};
use switchboard_proto::event::{MessageExtra, Sender};
use switchboard_proto::gateway::items;
use switchboard_proto::id::{ConnId, RoomName};
use switchboard_proto::json::RawJson;
use switchboard_proto::shard::{LogItem, ShardAnswer};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use crate::backend::sessions::shards::{Append, EndedShard};
use crate::backend::{BackendError, Published};
use crate::clock;
use crate::hub::mail::{Ask, Mail, MemberCheck};
use crate::hub::mailbox::Mailbox;
use crate::op::{BoxFuture, Op};

use super::super::chat::unavailable;
use super::super::hooks::{Change, MembershipChange, Saying};
use super::super::{Inner, Node, reply};
use super::applications::Application;
use super::figures::Source;
use super::missed::{self, Missed};
use super::scribe::{Logs, Scribe, ScribeInbox, SharedSeats};
use super::seats::{Gap, Seats, Settled};

/// Where a session that came back to a room is.
enum Returned {
    /// Here.
    Here,
    /// Another node writes for it meanwhile.
    Elsewhere,
}

/// The rooms of sessions on this node.
#[derive(Debug)]
pub(in crate::node) struct ShardRooms {
    seats: SharedSeats,
    scribe: Mailbox,
    /// Wakes the scribe without a message.
    awake: Arc<Notify>,
    /// The scribe's number among the workers that the broker knows.
    index: u16,
    /// The scribe, until its end is waited for.
    task: Mutex<Option<JoinHandle<()>>>,
}

impl ShardRooms {
    /// With a scribe that does not run yet: one more beside so many workers.
    pub(super) fn new(inbox: &ScribeInbox, workers: usize) -> Self {
        Self {
            seats: SharedSeats::default(),
            scribe: inbox.mailbox.clone(),
            awake: Arc::clone(&inbox.awake),
            // `node.workers` is at most 1024.
            index: u16::try_from(workers).unwrap_or(u16::MAX),
            task: Mutex::default(),
        }
    }

    pub(super) fn seats(&self) -> MutexGuard<'_, Seats> {
        self.seats.lock()
    }

    /// The rooms that a session is a member of, in the order of joining.
    pub(in crate::node) fn of(&self, session: ConnId) -> Vec<RoomName> {
        self.seats().rooms_of(session)
    }

    /// The rooms that a session is joining.
    pub(in crate::node) fn joined_by(&self, session: ConnId) -> Vec<RoomName> {
        self.seats().joined_by(session)
    }

    fn task(&self) -> MutexGuard<'_, Option<JoinHandle<()>>> {
        // Nothing under this lock can panic half way.
        self.task.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Node {
    /// Makes a session a member of a room, under the rules that hold for a connection.
    ///
    /// # Errors
    ///
    /// Those of joining; [`CallError::NoSuchConnection`] when the session is over.
    pub(in crate::node) async fn join_as_shard(
        &self,
        session: ConnId,
        application: Arc<Application>,
        room: RoomName,
    ) -> Result<(), CallError> {
        let node = self.clone();
        self.to_the_end(async move { node.sit_down(session, &application, &room).await }).await
    }

    async fn sit_down(
        &self,
        session: ConnId,
        application: &Arc<Application>,
        room: &RoomName,
    ) -> Result<(), CallError> {
        let rooms = &self.0.gateway.rooms;
        rooms.seats().begin_join(session, application, room, self.0.settings.max_rooms_per_user)?;
        let facts = self.session_facts(session);
        let entrance = match self.begin_membership(&facts, rooms.index, clock::unix_ms(), room).await {
            Ok(entrance) => entrance,
            Err(error) => {
                rooms.seats().remove(session, room);
                return Err(error);
            }
        };
        let mut joined = self.keep_shard_room(session, room, entrance.after).await;
        if joined.is_ok() {
            joined = self.settle_shard_join(session, room, entrance.after);
        }
        match joined {
            Ok(()) => self.run_shard_callbacks(Change::Join, session, room),
            Err(_) => self.stand_up(session, room).await,
        }
        joined
    }

    /// Has it kept that a session is in a room.
    async fn keep_shard_room(&self, session: ConnId, room: &RoomName, after: u64) -> Result<(), CallError> {
        let sessions = &self.0.sessions;
        if sessions.add_shard_room(session, room, after).await.map_err(unavailable)? {
            return Ok(());
        }
        let known = sessions.shard_rooms(session).await.map_err(unavailable)?;
        let is_known = known.iter().any(|(other, _)| other == room);
        if is_known { Ok(()) } else { Err(CallError::NoSuchConnection) }
    }

    fn settle_shard_join(&self, session: ConnId, room: &RoomName, mut after: u64) -> Result<(), CallError> {
        loop {
            let settled = self.0.gateway.rooms.seats().settle_join(session, room, after, None);
            match settled {
                Settled::Member => return Ok(()),
                // It was no member when that was said.
                Settled::Behind(said) => after = said,
                Settled::Evicted => return Err(CallError::NoSuchRoom),
                Settled::Removed => return Err(CallError::NotAuthorized),
                // It is carried elsewhere meanwhile, and can ask there.
                Settled::LetGo => return Err(CallError::Unavailable),
                Settled::Ask(checks) => self.check_joining(session, &checks)?,
            }
        }
    }

    fn check_joining(&self, session: ConnId, checks: &[MemberCheck]) -> Result<(), CallError> {
        let facts = self.session_facts(session);
        if checks.iter().all(|check| check(&facts)) { Ok(()) } else { Err(CallError::NotAuthorized) }
    }

    /// Undoes a join that did not come to its end.
    async fn stand_up(&self, session: ConnId, room: &RoomName) {
        if let Err(error) = self.0.sessions.remove_shard_room(session, room).await {
            unavailable(error);
        }
        self.end_membership(session, self.0.gateway.rooms.index, room).await;
        self.0.gateway.rooms.seats().remove(session, room);
    }

    /// Ends the membership of a session.
    ///
    /// # Errors
    ///
    /// [`CallError::NotMember`]; [`CallError::Unavailable`] when the store fails: then it still is a member.
    pub(in crate::node) async fn leave_as_shard(&self, session: ConnId, room: RoomName) -> Result<(), CallError> {
        let node = self.clone();
        self.to_the_end(async move { node.leave_shard_room(session, &room, false).await }).await
    }

    /// Whoever `must` leave does, whatever the store says.
    async fn leave_shard_room(&self, session: ConnId, room: &RoomName, must: bool) -> Result<(), CallError> {
        let rooms = &self.0.gateway.rooms;
        if rooms.seats().cancel_join(session, room) {
            // The join takes out what it notes itself.
            let removed = self.0.sessions.remove_shard_room(session, room).await.map_err(unavailable);
            return if must { Ok(()) } else { removed.map(drop) };
        }
        if !rooms.seats().begin_leave(session, room) {
            return Err(CallError::NotMember(room.clone()));
        }
        if let Err(error) = self.0.sessions.remove_shard_room(session, room).await.map_err(unavailable)
            && !must
        {
            rooms.seats().stay(session, room);
            return Err(error);
        }
        self.leave_seat(session, room).await;
        Ok(())
    }

    /// Ends the membership of a session that is leaving, unless somebody does it already.
    async fn leave_seat(&self, session: ConnId, room: &RoomName) {
        let is_mine = self.0.gateway.rooms.seats().go(session, room);
        if is_mine {
            self.give_up_place(session, room).await;
        }
    }

    /// Tells of a leave while the session still counts as a member, and ends its membership.
    async fn give_up_place(&self, session: ConnId, room: &RoomName) {
        let facts = self.session_facts(session);
        if self.tells_leaves_now(&facts, room) {
            self.run_shard_callbacks(Change::Leave, session, room);
            self.report_leave(&facts, room);
        }
        self.end_membership(session, self.0.gateway.rooms.index, room).await;
        self.0.gateway.rooms.seats().remove(session, room);
    }

    fn run_shard_callbacks(&self, which: Change, session: ConnId, room: &RoomName) {
        let change = || MembershipChange { connection: self.session_handle(session), room: room.clone() };
        self.0.hooks.run(which, change);
    }

    /// Something that a session says. Under an `id` that its application used lately nothing is said again.
    pub(in crate::node) fn say_as_shard(
        &self,
        session: ConnId,
        room: RoomName,
        body: RawJson,
        id: Option<String>,
    ) -> Op<Outcome> {
        if body.is_blank() {
            return Op::Ready(Err(CallError::MessageRequired));
        }
        if !self.0.gateway.rooms.seats().is_member(session, &room) {
            return Op::Ready(Err(CallError::NotMember(room)));
        }
        let extra = id.map(|id| Box::new(MessageExtra { id: Some(id.into()), attachment: None }));
        let sender = Sender::Connection(session);
        let saying = Saying { extra, ..self.saying(room, sender, Some(self.session_handle(session)), body) };
        self.say(saying).map(|published| {
            let number = match published? {
                Some(Published::Now(message)) => message.message().number,
                Some(Published::Before(message)) => message.number,
                Some(Published::IdTaken) => return Err(CallError::MessageIdTaken),
                None => return Err(CallError::NoSuchRoom),
            };
            Ok(Answer::Shard(ShardAnswer::Said { number }))
        })
    }

    /// Ends the membership of a session that may not be a member any more.
    pub(in crate::node) async fn expel_shard(&self, session: ConnId, room: &RoomName) -> Result<(), CallError> {
        self.leave_shard_room(session, room, true).await
    }

    /// Removes the sessions that fail the check of a room.
    pub(in crate::node) async fn recheck_shards(&self, room: &RoomName, check: &MemberCheck) {
        let members = self.0.gateway.rooms.seats().recheck(room, check);
        for session in members {
            if !check(&self.session_facts(session)) {
                // It may have left by itself.
                drop(self.expel_shard(session, room).await);
            }
        }
    }

    /// Removes every session from a room that is being destroyed and in which nothing is said any more. All that was said is
    /// in their logs then.
    pub(in crate::node) async fn evict_shards(&self, room: &RoomName) {
        let (reply, answer) = reply();
        self.0.gateway.rooms.scribe.push(Mail::Ask(Ask::Evict(room.clone(), reply))).await;
        // Without an answer the node has ended.
        drop(answer.await);
    }

    /// A session is over: it leaves all rooms.
    pub(in crate::node) async fn forget_shard_rooms(&self, ended: &EndedShard) {
        let leaving = self.0.gateway.rooms.seats().end(ended.id);
        for room in leaving {
            self.leave_seat(ended.id, &room).await;
        }
    }

    /// Makes sessions that survived the end of a process members of their rooms again, as far as there are such rooms. The others
    /// are entered once they are made.
    ///
    /// # Errors
    ///
    /// [`CallError::Unavailable`].
    pub(crate) async fn enter_shard_rooms(&self) -> Result<(), CallError> {
        let gateway = &self.0.gateway;
        // Other nodes have kept those of a store that is shared: see `take_home`.
        if gateway.applications.is_empty() || self.peers().is_some() {
            return Ok(());
        }
        let sessions = &self.0.sessions;
        for record in sessions.shards(gateway.clock.now_ms()).await.map_err(unavailable)? {
            let Some(application) = gateway.applications.by_id(&record.fleet.application) else { continue };
            for (room, heard) in sessions.shard_rooms(record.id).await.map_err(unavailable)? {
                gateway.rooms.seats().remember(record.id, application, &room, heard);
            }
        }
        for room in self.directory().rooms().await.map_err(unavailable)? {
            self.return_to(&room).await;
        }
        Ok(())
    }

    /// Whether a session is in a room, or is about to be.
    pub(in crate::node) fn has_seat(&self, session: ConnId, room: &RoomName) -> bool {
        self.0.gateway.rooms.seats().has_seat(session, room)
    }

    /// There is a room that was not there: those sessions return to it that the store says are in it. Its numbers began anew, so that
    /// nobody knows what they missed.
    pub(in crate::node) async fn return_to(&self, room: &RoomName) {
        let returning = self.0.gateway.rooms.seats().begin_return(room);
        for (session, heard) in returning {
            self.return_one(session, room, heard).await;
        }
    }

    async fn return_one(&self, session: ConnId, room: &RoomName, heard: u64) {
        let rooms = &self.0.gateway.rooms;
        // It has joined before: nobody is asked, only the pattern is looked at.
        let facts = self.session_facts(session);
        let returned = match self.check_pattern(&facts, room).await {
            Ok(matched) => self.take_place(&facts, rooms.index, clock::unix_ms(), room, matched).await,
            Err(error) => Err(error),
        };
        match returned {
            Ok(entrance) => match self.catch_up_on_room(session, room, heard, entrance.after).await {
                Ok(Returned::Here) => rooms.awake.notify_one(),
                Ok(Returned::Elsewhere) => {
                    self.unhear_room(room).await;
                    rooms.seats().remove(session, room);
                }
                Err(_) => self.stand_up(session, room).await,
            },
            Err(CallError::NotAuthorized) => {
                if let Err(error) = self.0.sessions.remove_shard_room(session, room).await {
                    unavailable(error);
                }
                rooms.seats().remove(session, room);
            }
            // The room is gone again, or the backend failed.
            Err(_) => rooms.seats().stay_absent(session, room),
        }
    }

    /// A session that is back in a room is told what was said there since it heard it last: of a room that other nodes have kept, from
    /// the room's log; else that something may be missing.
    async fn catch_up_on_room(
        &self,
        session: ConnId,
        room: &RoomName,
        mut heard: u64,
        mut after: u64,
    ) -> Result<Returned, CallError> {
        let mut gap = self.peers().is_none().then_some(Gap { first: heard + 1, last: None });
        loop {
            if self.peers().is_some() && after != heard {
                let missed = self.append_missed(session, room, heard, after).await;
                gap = missed.or(gap).map(|missed| gap.map_or(missed, |before| before.merge(missed)));
                heard = after;
            }
            let settled = self.0.gateway.rooms.seats().settle_join(session, room, after, gap);
            match settled {
                Settled::Member => return Ok(Returned::Here),
                Settled::Behind(said) => after = said,
                Settled::LetGo => return Ok(Returned::Elsewhere),
                Settled::Evicted => return Err(CallError::NoSuchRoom),
                Settled::Removed => return Err(CallError::NotAuthorized),
                Settled::Ask(checks) => self.check_joining(session, &checks)?,
            }
        }
    }

    /// Appends the messages of a room after number `heard`, up to number `up_to`, to the log of a session. The gap of
    /// those that the room no longer has precedes them. Returns the gap that is still to be appended if the store fails.
    async fn append_missed(&self, session: ConnId, room: &RoomName, heard: u64, up_to: u64) -> Option<Gap> {
        let all = Gap { first: heard + 1, last: (up_to > heard).then_some(up_to) };
        let read = missed::read(&*self.0.broker, room, heard, up_to).await;
        let Ok(Missed { gap, messages }) = read.map_err(unavailable) else { return Some(all) };
        let gap = gap.map(|gap| (items::room_gap(room, gap.first, gap.last), gap.last.unwrap_or(heard), true));
        let others = messages.iter().filter(|message| message.sender != Sender::Connection(session));
        let others = others.map(|message| (items::room_message(message), message.number, false));
        for (item, number, is_gap) in gap.into_iter().chain(others) {
            let bytes = item.as_str().len();
            let room = Some((room.clone(), number));
            let append = Append { id: session, item, room, is_gap, now_ms: self.0.gateway.clock.now_ms() };
            match self.0.sessions.append(append).await {
                Ok(Some(seq)) => {
                    self.0.gateway.counters.count_appended(Source::Room, 1);
                    self.log_has_grown(session, seq, bytes);
                }
                // Another node has written it.
                Ok(None) => {}
                Err(error) => {
                    unavailable(error);
                    return Some(all);
                }
            }
        }
        None
    }

    /// One session less hears a room here.
    async fn unhear_room(&self, room: &RoomName) {
        if let Err(error) = self.0.broker.unsubscribe(room, self.0.gateway.rooms.index).await {
            unavailable(error);
        }
    }

    /// This node writes for a session from now on what its rooms say: it is carried here, or its node is dead.
    pub(in crate::node) async fn take_home(&self, session: ConnId, application: &Arc<Application>) {
        let Ok(rooms) = self.0.sessions.shard_rooms(session).await.map_err(unavailable) else {
            return self.0.gateway.note_failure();
        };
        for (room, heard) in rooms {
            let is_new = {
                let mut seats = self.0.gateway.rooms.seats();
                seats.remember(session, application, &room, heard);
                seats.begin_return_of(session, &room)
            };
            if is_new {
                self.return_one(session, &room, heard).await;
            }
        }
    }

    /// Another node writes for a session from now on.
    pub(in crate::node) async fn let_go_of_rooms(&self, session: ConnId) {
        let rooms = self.0.gateway.rooms.seats().let_go(session);
        for room in rooms {
            if let Some(directory) = self.directory().shared() {
                directory.release(&room, session);
            }
            self.unhear_room(&room).await;
        }
    }

    /// Others write for all sessions from now on.
    pub(in crate::node) async fn let_go_of_all_rooms(&self) {
        let sessions = self.0.gateway.rooms.seats().sessions();
        for session in sessions {
            self.let_go_of_rooms(session).await;
        }
    }

    /// Sessions that are in rooms here, or were.
    pub(in crate::node) fn seated_sessions(&self) -> Vec<ConnId> {
        self.0.gateway.rooms.seats().sessions()
    }

    /// Begins to write into logs what rooms say.
    pub(in crate::node) fn start_scribe(&self, inbox: ScribeInbox) {
        let rooms = &self.0.gateway.rooms;
        let logs = NodeLogs(Arc::downgrade(&self.0));
        let task = self.0.runtime.spawn(Scribe::run(logs, rooms.seats.clone(), inbox));
        *rooms.task() = Some(task);
    }

    /// Has the scribe end, once everything that rooms have said is in the logs.
    pub(crate) async fn end_scribe(&self) {
        let rooms = &self.0.gateway.rooms;
        let task = rooms.task().take();
        rooms.scribe.push(Mail::Ask(Ask::Stop)).await;
        if let Some(task) = task {
            // A panic has been told.
            drop(task.await);
        }
    }

    /// The scribe's mailbox, as the last one among those of the workers.
    pub(in crate::node) fn scribe(&self) -> &Mailbox {
        &self.0.gateway.rooms.scribe
    }
}

/// The logs of the sessions of a node, as long as there is one.
struct NodeLogs(Weak<Inner>);

impl Logs for NodeLogs {
    fn append(
        &self,
        session: ConnId,
        item: LogItem,
        room: RoomName,
        number: u64,
        is_gap: bool,
    ) -> Op<Result<Option<u64>, BackendError>> {
        let Some(inner) = self.0.upgrade() else { return Op::Ready(Ok(None)) };
        let now_ms = inner.gateway.clock.now_ms();
        inner.sessions.append(Append { id: session, item, room: Some((room, number)), is_gap, now_ms })
    }

    fn member_meant(&self, id: ConnId) -> ConnId {
        self.0.upgrade().map(Node).map_or(id, |node| node.member_meant(id))
    }

    fn has_grown(&self, session: ConnId, last: u64, bytes: usize) {
        if let Some(node) = self.0.upgrade().map(Node) {
            node.0.counters.delivered.fetch_add(1, Ordering::Relaxed);
            node.0.gateway.counters.count_appended(Source::Room, 1);
            node.log_has_grown(session, last, bytes);
        }
    }

    fn catch_up(&self, session: ConnId) -> Option<BoxFuture<'_, ()>> {
        let node = self.0.upgrade().map(Node)?;
        node.lags(session)
            .then(|| -> BoxFuture<'_, ()> { Box::pin(async move { node.let_reader_catch_up(session).await }) })
    }

    fn evicted<'a>(&'a self, session: ConnId, room: &'a RoomName) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            if let Some(node) = self.0.upgrade().map(Node) {
                node.give_up_place(session, room).await;
            }
        })
    }
}
