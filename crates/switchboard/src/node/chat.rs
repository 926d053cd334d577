//! Rooms: who may join, who is inside, and what is said. The seed's `api.chatRoom`, method for method.

use std::iter::repeat;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use serde::de::IgnoredAny;
use serde_json::Value;
use switchboard_proto::call::{Answer, CallError, ConnectionType, RoomKind, RoomStatus};
use switchboard_proto::event::Sender;
use switchboard_proto::face::ConnFacts;
use switchboard_proto::id::{ConnId, RoomName};
use switchboard_proto::json::RawJson;

use crate::backend::cluster::To;
use crate::backend::{AddRoomError, BackendError, NewMember, Pattern};
use crate::hub::Entrance;
use crate::hub::mail::{Address, Ask, MemberCheck};
use crate::op::Panic;
use crate::telemetry::Interval;
use crate::worker::calls::Caller;

use super::Node;
use super::cluster::connections;
use super::cluster::rooms::{Note, Question};
use super::connection::{ConnectionHandle, ConnectionInfo};
use super::gate::Purpose;
use super::hooks::{Change, MembershipChange, SayMiddleware};

/// How long a new room waits until another node has destroyed the one of its name. The longest step of a destruction
/// waits until a silent node counts as dead.
const LONGEST_END: Duration = Duration::from_secs(30);

/// Pause before a room that another node destroys is read again, for the case that the note of its end is lost.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// What a connection's rooms look like after [`Node::reauthenticate`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reauthentication {
    /// Rooms that it is still in.
    pub rooms: Vec<RoomName>,
    /// Rooms that it was removed from.
    pub removed: Vec<RoomName>,
}

impl Node {
    /// Makes a room. `true`: it was made; `false`: it existed.
    ///
    /// # Errors
    ///
    /// [`CallError::BadRoomName`], and [`CallError::TooManyRooms`] at `limits.max_rooms`.
    pub async fn add_room(&self, room: &str) -> Result<bool, CallError> {
        let room = RoomName::parse(room)?;
        let node = self.clone();
        self.to_the_end(async move {
            let is_new = node.make_room(&room, Pattern::default()).await?;
            if is_new {
                let others = node.tell_others::<IgnoredAny>(Question::Made(room.clone()));
                tokio::join!(node.heed_new_room(&room), others);
            }
            Ok(is_new)
        })
        .await
    }

    /// There is a room that was not there: who waits for it on this node comes in.
    pub(super) async fn heed_new_room(&self, room: &RoomName) {
        // Only on DDP does anybody listen to rooms that he is not in.
        if self.0.counters.connections_by_type[ConnectionType::Ddp.index()].load(Ordering::Relaxed) > 0 {
            self.offer(room, true).await;
        }
        self.return_to(room).await;
    }

    /// Destroys a room: its members on all nodes are told and removed, then room and pattern are forgotten.
    ///
    /// # Errors
    ///
    /// [`CallError::NoSuchRoom`].
    pub async fn destroy_room(&self, room: &str) -> Result<(), CallError> {
        let room = existing_name(room)?;
        let node = self.clone();
        self.to_the_end(async move { node.unmake_room(&room).await }).await
    }

    /// Whether there is such a room.
    ///
    /// # Errors
    ///
    /// [`CallError::Unavailable`].
    pub async fn room_exists(&self, room: &str) -> Result<bool, CallError> {
        match RoomName::parse(room) {
            Ok(room) => Ok(self.0.directory.room(&room).await.map_err(unavailable)?.is_some()),
            Err(_) => Ok(false),
        }
    }

    /// Every room, sorted by name.
    ///
    /// # Errors
    ///
    /// [`CallError::Unavailable`].
    pub async fn rooms(&self) -> Result<Vec<RoomName>, CallError> {
        let mut rooms = self.0.directory.rooms().await.map_err(unavailable)?;
        rooms.retain(|room| room.direct_users().is_none());
        Ok(rooms)
    }

    /// Who is in a room, in the order of joining.
    ///
    /// # Errors
    ///
    /// [`CallError::NoSuchRoom`]; "a room is required" when `room` is empty.
    pub async fn room_status(&self, room: &str) -> Result<RoomStatus, CallError> {
        if room.is_empty() {
            RoomName::parse(room)?;
        }
        self.status_of(existing_name(room)?).await
    }

    pub(super) async fn status_of(&self, room: RoomName) -> Result<RoomStatus, CallError> {
        let members = self.0.directory.members(&room).await.map_err(unavailable)?.ok_or(CallError::NoSuchRoom)?;
        Ok(RoomStatus { room, members })
    }

    /// Lets only those connections join whose attribute `key` is `value`, type included; replaces what was set before.
    /// Members on all nodes are looked at again: those that fail are removed, without being told.
    ///
    /// # Errors
    ///
    /// [`CallError::NoSuchRoom`].
    pub async fn set_authentication_pattern(
        &self,
        room: &str,
        key: &str,
        value: impl Into<Value>,
    ) -> Result<(), CallError> {
        self.set_pattern(room, Pattern::new().with(key, value)).await
    }

    /// Lets everybody join. Nobody is looked at again.
    ///
    /// # Errors
    ///
    /// [`CallError::NoSuchRoom`].
    pub async fn clear_authentication_pattern(&self, room: &str) -> Result<(), CallError> {
        self.set_pattern(room, Pattern::default()).await
    }

    /// [`Node::set_authentication_pattern`] with any number of pairs, all of which must match.
    ///
    /// # Errors
    ///
    /// [`CallError::NoSuchRoom`].
    pub async fn set_pattern(&self, room: &str, pattern: Pattern) -> Result<(), CallError> {
        let room = existing_name(room)?;
        let node = self.clone();
        self.to_the_end(async move {
            // One change of a room's pattern is applied by all nodes before the next one begins.
            let _changing = node.0.rooms_patterned.of(&room).await;
            node.keep_pattern(&room, pattern).await?;
            let others = node.tell_others::<IgnoredAny>(Question::Pattern(room.clone()));
            tokio::join!(node.heed_pattern(&room), others).0
        })
        .await
    }

    /// Looks at the members of this node again, and at who listens, by the pattern that a room has now.
    pub(super) async fn heed_pattern(&self, room: &RoomName) -> Result<(), CallError> {
        let _heeding = self.0.rooms_heeded.of(room).await;
        let Some(info) = self.directory().room(room).await.map_err(unavailable)? else { return Ok(()) };
        self.recheck(room, info.pattern, info.version).await;
        Ok(())
    }

    /// The same by a pattern that was read a moment ago.
    pub(super) async fn recheck(&self, room: &RoomName, pattern: Arc<Pattern>, version: u64) {
        match kind_of(room, &pattern) {
            RoomKind::Public => self.offer(room, false).await,
            kind => {
                let (judge, judged) = (self.clone(), room.clone());
                let check: MemberCheck = Arc::new(move |facts| judge.may_enter(facts, &judged, &pattern));
                self.ask_all(|reply| Ask::Recheck(room.clone(), kind, Arc::clone(&check), reply)).await;
                self.recheck_shards(room, &check).await;
            }
        }
        if let Some(directory) = self.0.directory.shared() {
            directory.note_checked(room, version);
        }
    }

    /// Makes a room that exists from the start. One that another node has made keeps the pattern that it has: an
    /// operator may have changed it since.
    pub(crate) async fn add_starting_room(&self, room: &str, pattern: Pattern) -> Result<(), CallError> {
        let room = RoomName::parse(room)?;
        if self.make_room(&room, pattern).await? {
            self.tell_others::<IgnoredAny>(Question::Made(room)).await;
        }
        Ok(())
    }

    async fn keep_pattern(&self, room: &RoomName, pattern: Pattern) -> Result<(), CallError> {
        match self.0.directory.set_pattern(room, pattern).await.map_err(unavailable)? {
            true => Ok(()),
            false => Err(CallError::NoSuchRoom),
        }
    }

    /// Whether a connection may join a room.
    ///
    /// # Errors
    ///
    /// [`CallError::NoSuchRoom`], [`CallError::NoSuchConnection`].
    pub async fn authorize(&self, id: ConnId, room: &str) -> Result<bool, CallError> {
        let room = existing_name(room)?;
        match self.holder(id).await? {
            Some(slot) => self.authorize_at(slot, id, room).await,
            None => self.authorize_here(id, &room).await,
        }
    }

    pub(super) async fn authorize_here(&self, id: ConnId, room: &RoomName) -> Result<bool, CallError> {
        let info = self.0.directory.room(room).await.map_err(unavailable)?.ok_or(CallError::NoSuchRoom)?;
        Ok(self.may_enter(&self.member(id).await?.handle.facts, room, &info.pattern))
    }

    pub(super) fn may_enter(&self, facts: &ConnFacts, room: &RoomName, pattern: &Pattern) -> bool {
        // Whose membership is that of a user is in no room without one, also if it was somebody's a moment ago.
        if facts.kind == ConnectionType::Ddp && self.0.registry.user(facts.id).is_none() {
            return false;
        }
        let is_one_of_two = room.direct_users().is_none_or(|(one, other)| {
            self.0.registry.user(facts.id).is_some_and(|user| user.id() == one || user.id() == other)
        });
        is_one_of_two && pattern.matches(|name| self.attribute(facts, name))
    }

    /// Looks at all rooms of a connection again and removes it from those that it may not be in any more. Of the gateway it is the
    /// session that is a member: by its own id, or by that of the connection which carries it.
    ///
    /// # Errors
    ///
    /// [`CallError::NoSuchConnection`], [`CallError::Unavailable`].
    pub async fn reauthenticate(&self, id: ConnId) -> Result<Reauthentication, CallError> {
        match self.holder(id).await? {
            Some(slot) => self.reauthenticate_at(slot, id).await,
            None => self.reauthenticate_here(id).await,
        }
    }

    pub(super) async fn reauthenticate_here(&self, id: ConnId) -> Result<Reauthentication, CallError> {
        let node = self.clone();
        self.to_the_end(async move {
            // Asked first: a join that finishes in between is among the rooms.
            let joining = node.rooms_joining(id).await;
            let ConnectionInfo { handle, rooms, .. } = node.member(id).await?;
            let joining: Vec<RoomName> = joining.into_iter().filter(|room| !rooms.contains(room)).collect();
            let mut result = Reauthentication::default();
            for (room, is_member) in rooms.into_iter().zip(repeat(true)).chain(joining.into_iter().zip(repeat(false))) {
                match node.check_pattern(&handle.facts, &room).await {
                    Ok(_) => {
                        result.rooms.extend(is_member.then_some(room));
                        continue;
                    }
                    Err(CallError::Unavailable) => return Err(CallError::Unavailable),
                    Err(_) => {}
                }
                let removed = match handle.address {
                    Some(address) => node.remove_from(address, room.clone()).await,
                    None => node.expel_shard(handle.id(), &room).await,
                };
                // A join that is cancelled was no membership.
                if removed.is_ok() && is_member {
                    result.removed.push(room);
                }
            }
            Ok(result)
        })
        .await
    }

    /// Rooms that a connection or session is joining. Their patterns may have been checked before the connection changed.
    async fn rooms_joining(&self, id: ConnId) -> Vec<RoomName> {
        let member = self.member_meant(id);
        if member.is_session() {
            return self.0.gateway.rooms.joined_by(member);
        }
        let Ok(address) = self.locate(id) else { return Vec::new() };
        self.ask(address, Ask::Inspect).await.map(|found| found.joining).unwrap_or_default()
    }

    /// Makes a connection of any node a member of a room, under the rules that hold for a client that asks. Of a DDP session it is the user
    /// who joins, with all his sessions; of the gateway the session does, by its own id, or by that of the connection which carries it.
    ///
    /// # Errors
    ///
    /// Those of joining, [`CallError::NoSuchConnection`], and [`CallError::NotSupported`] for a request over HTTP;
    /// [`CallError::NotLoggedIn`] for a DDP session of nobody.
    pub async fn add_member(&self, id: ConnId, room: &str) -> Result<(), CallError> {
        let room = existing_name(room)?;
        match self.holder(id).await? {
            Some(slot) => self.have_done(slot, connections::Question::Join { id, room }).await,
            None => self.add_member_here(id, room).await,
        }
    }

    pub(super) async fn add_member_here(&self, id: ConnId, room: RoomName) -> Result<(), CallError> {
        if let Some(address) = self.session_address(id) {
            let session = self.connection_here(id).await?;
            let was_member = session.rooms.contains(&room);
            let (node, joined) = (self.clone(), room.clone());
            self.to_the_end(async move { node.join_as_user(session.handle.facts, address, joined).await }).await?;
            return if was_member { Err(CallError::AlreadyMember(room)) } else { Ok(()) };
        }
        if let Some(session) = self.session_meant(id)? {
            let application = self.application_of_session(session).await?;
            return self.join_as_shard(session, application, room).await;
        }
        self.ask(self.locate(id)?, |key, reply| Ask::Join(key, room, reply)).await?.map(drop)
    }

    /// Ends a membership of a connection of any node. Of a DDP session it is the user who leaves, with all his sessions; of the gateway the session does.
    ///
    /// # Errors
    ///
    /// [`CallError::NotMember`], also for a room that does not exist; [`CallError::NoSuchRoom`] for what cannot be a
    /// room's name; [`CallError::NoSuchConnection`]; [`CallError::NotSupported`] for a request over HTTP;
    /// [`CallError::NotLoggedIn`] for a DDP session of nobody.
    pub async fn remove_member(&self, id: ConnId, room: &str) -> Result<(), CallError> {
        let room = existing_name(room)?;
        match self.holder(id).await? {
            Some(slot) => self.have_done(slot, connections::Question::Leave { id, room }).await,
            None => self.remove_member_here(id, room).await,
        }
    }

    pub(super) async fn remove_member_here(&self, id: ConnId, room: RoomName) -> Result<(), CallError> {
        if self.session_address(id).is_some() {
            let (node, facts) = (self.clone(), self.connection_here(id).await?.handle.facts);
            return self.to_the_end(async move { node.leave_as_user(facts, room).await }).await.map(drop);
        }
        if let Some(session) = self.session_meant(id)? {
            self.application_of_session(session).await?;
            return self.leave_as_shard(session, room).await;
        }
        self.remove_from(self.locate(id)?, room).await
    }

    async fn remove_from(&self, address: Address, room: RoomName) -> Result<(), CallError> {
        self.ask(address, |key, reply| Ask::Leave(key, room, reply)).await?.map(drop)
    }

    /// Runs `callback` whenever a connection has joined a room, on the node that holds it. Lower priorities run first;
    /// ActionHero's default is 100. Callbacks cannot refuse, and a join does not wait for what they start. They run on the
    /// thread that serves the connection, in the context of the runtime: they must not block, and may spawn.
    pub fn add_join_callback(&self, priority: i32, callback: impl Fn(&MembershipChange) + Send + Sync + 'static) {
        self.0.hooks.add_callback(Change::Join, priority, Arc::new(callback));
    }

    /// Runs `callback` whenever a connection leaves a room, in whatever way, while it still counts as a member: it can say
    /// farewell. Otherwise as [`Node::add_join_callback`]. Connections that are cut when the server ends do not leave.
    pub fn add_leave_callback(&self, priority: i32, callback: impl Fn(&MembershipChange) + Send + Sync + 'static) {
        self.0.hooks.add_callback(Change::Leave, priority, Arc::new(callback));
    }

    /// Adds middleware that looks at every message before it is said. Lower priorities come first; ActionHero's default
    /// is 100.
    pub fn add_say_middleware(&self, priority: i32, middleware: impl SayMiddleware) {
        self.0.hooks.add_say(priority, Arc::new(middleware));
    }

    /// Runs an operation of several steps that must not stop half way, even if whoever asked stops waiting.
    pub(super) async fn to_the_end<T: Send + 'static>(
        &self,
        operation: impl Future<Output = Result<T, CallError>> + Send + 'static,
    ) -> Result<T, CallError> {
        self.0.runtime.spawn(operation).await.unwrap_or_else(|error| {
            tracing::error!(%error, "an operation on a room did not come to its end");
            Err(CallError::Unavailable)
        })
    }

    pub(super) async fn make_room(&self, room: &RoomName, pattern: Pattern) -> Result<bool, CallError> {
        let max_rooms = match self.0.settings.max_rooms {
            0 => usize::MAX,
            max_rooms => max_rooms,
        };
        let _changing = self.0.rooms_changing.of(room).await;
        let mut is_new = false;
        let begun = Instant::now();
        loop {
            let mut ended = pin!(self.0.room_ended.notified());
            // An end after the room was read is not missed.
            ended.as_mut().enable();
            let added = self.0.directory.add_room(room, pattern.clone(), max_rooms).await;
            if matches!(added, Err(AddRoomError::TooMany)) {
                return Err(CallError::TooManyRooms);
            }
            // With any other error it may be there all the same, and then it needs its sequence.
            self.0.broker.open(room).await.map_err(unavailable)?;
            is_new |= added.map_err(|error| match error {
                AddRoomError::TooMany => CallError::TooManyRooms,
                AddRoomError::Backend(error) => unavailable(error),
            })?;
            // Another node may be destroying it, and closes it then, perhaps behind our back: the room is made once that is done.
            if self.0.directory.room(room).await.map_err(unavailable)?.is_some() {
                return Ok(is_new);
            }
            if begun.elapsed() > LONGEST_END {
                tracing::error!(%room, "a room that is being destroyed does not come to its end");
                return Err(CallError::Unavailable);
            }
            // After a timeout the room is read without a note.
            drop(tokio::time::timeout(LOOK_AGAIN, ended).await);
        }
    }

    /// Forgets a destroyed room and wakes those that wait to make it again, on all nodes.
    pub(super) async fn forget_room(&self, room: &RoomName) -> Result<(), CallError> {
        // Members of this room are not in another room of its name.
        let forgotten = self.0.sessions.forget_room(room).await;
        let forgotten = self.0.directory.forget(room).await.and(forgotten).map_err(unavailable);
        self.0.room_ended.notify_waiters();
        if let Some(peers) = self.peers() {
            // A node that misses the note looks again after `LOOK_AGAIN`.
            drop(peers.tell(To::Others, &super::cluster::Note::Rooms(Note::Ended)).await);
        }
        forgotten
    }

    /// A node has destroyed a room.
    pub(super) fn note_rooms(&self, note: &Note) {
        match note {
            Note::Ended => self.0.room_ended.notify_waiters(),
        }
    }

    async fn unmake_room(&self, room: &RoomName) -> Result<(), CallError> {
        let _changing = self.0.rooms_changing.of(room).await;
        if !self.0.directory.begin_destroy(room).await.map_err(unavailable)? {
            return Err(CallError::NoSuchRoom);
        }
        let notice = RawJson::from_text("this room has been deleted");
        // The notice is a courtesy: when it fails the log says so, and the members are removed all the same.
        drop(self.publish(self.saying(room.clone(), Sender::Server, None, notice)).await);
        // The notice is the last that is said: what leave callbacks broadcast could reach workers that have not removed
        // their members yet.
        self.0.broker.close(room).await.map_err(unavailable)?;
        // Removed first, forgotten afterwards: nobody can be left inside a room that does not exist.
        let (here, ()) = tokio::join!(self.heed_end_of_room(room), self.have_all_done(Question::Gone(room.clone())));
        here?;
        self.forget_room(room).await
    }

    /// Removes the members that this node has in a room that is being destroyed.
    pub(super) async fn heed_end_of_room(&self, room: &RoomName) -> Result<(), CallError> {
        let _heeding = self.0.rooms_heeded.of(room).await;
        // Whoever asked may have gone on without the answer: there may be another room of that name.
        if self.directory().room(room).await.map_err(unavailable)?.is_none() {
            self.ask_all(|reply| Ask::Evict(room.clone(), reply)).await;
            self.evict_shards(room).await;
        }
        Ok(())
    }

    /// The node's part of a join: the room exists, the connection may, the backend knows.
    pub(super) async fn begin_join(&self, caller: &Caller, room: &RoomName) -> Result<Entrance, CallError> {
        self.begin_membership(&caller.facts, caller.address.worker, caller.now.unix_ms, room).await
    }

    /// Makes somebody a member, if he may be one, of whom this worker hears.
    pub(super) async fn begin_membership(
        &self,
        facts: &ConnFacts,
        worker: u16,
        joined_at: u64,
        room: &RoomName,
    ) -> Result<Entrance, CallError> {
        if !facts.id.is_session() && !self.is_of_this_life(facts) {
            return Err(CallError::Unavailable);
        }
        let mut matched = self.check_pattern(facts, room).await?;
        if self.has_join_hook() {
            self.may_join(facts, room, Purpose::Join).await?;
            // Looked at again meanwhile (`reauthenticate`), it was no member yet.
            matched = self.check_pattern(facts, room).await?;
        }
        self.take_place(facts, worker, joined_at, room, matched).await
    }

    /// Makes somebody a member who may be one.
    pub(super) async fn take_place(
        &self,
        facts: &ConnFacts,
        worker: u16,
        joined_at: u64,
        room: &RoomName,
        matched: Matched,
    ) -> Result<Entrance, CallError> {
        // Subscribed before anybody is told, so that nothing is lost in between.
        let after = self.0.broker.subscribe(room, worker).await.map_err(unavailable)?.ok_or(CallError::NoSuchRoom)?;
        let Matched { kind, version: checked } = matched;
        let user = self.user_of_member(facts.id);
        let member = NewMember { facts: facts.clone(), user, joined_at, checked };
        let added = self.0.directory.add_member(room, member).await;
        if !matches!(added, Ok(true)) {
            self.0.broker.unsubscribe(room, worker).await.map_err(unavailable)?;
        }
        if added.map_err(unavailable)? { Ok(Entrance { after, kind }) } else { Err(CallError::NoSuchRoom) }
    }

    pub(super) async fn check_pattern(&self, facts: &ConnFacts, room: &RoomName) -> Result<Matched, CallError> {
        let info = self.0.directory.room(room).await.map_err(unavailable)?.ok_or(CallError::NoSuchRoom)?;
        if self.may_enter(facts, room, &info.pattern) {
            Ok(Matched { kind: kind_of(room, &info.pattern), version: info.version })
        } else {
            Err(CallError::NotAuthorized)
        }
    }

    /// Asks the hook of joins whether a client that the pattern of a room admits may see the room without joining it. Of a
    /// member the hook was asked when it joined, and is asked again before it listens.
    pub(super) async fn may_see(
        &self,
        facts: &ConnFacts,
        address: Address,
        room: &RoomName,
        purpose: Purpose,
    ) -> Result<(), CallError> {
        if !self.has_join_hook() {
            return Ok(());
        }
        // A listener goes on when its membership ends, so the hook has to decide about listening itself.
        if purpose != Purpose::Listen && self.ask(address, Ask::Inspect).await?.rooms.contains(room) {
            return Ok(());
        }
        // The reason is for those who join.
        self.may_join(facts, room, purpose).await.map_err(|error| match error {
            CallError::Unavailable => error,
            _ => CallError::NotAuthorized,
        })
    }

    /// What [`Node::take_place`] did, undone.
    pub(super) async fn end_membership(&self, id: ConnId, worker: u16, room: &RoomName) {
        let removed = self.0.directory.remove_member(room, id).await;
        let unsubscribed = self.0.broker.unsubscribe(room, worker).await;
        if let Err(error) = removed.and(unsubscribed) {
            unavailable(error);
        }
    }

    pub(super) fn run_callbacks(&self, which: Change, caller: &Caller, room: &RoomName) {
        self.0.hooks.run(which, || MembershipChange { connection: self.handle(caller.clone()), room: room.clone() });
    }

    pub(super) fn handle(&self, caller: Caller) -> ConnectionHandle {
        ConnectionHandle { facts: caller.facts, address: Some(caller.address), node: self.clone(), far: None }
    }
}

/// Somebody may enter a room.
#[derive(Clone, Copy, Debug)]
pub(super) struct Matched {
    /// Who else may.
    pub(super) kind: RoomKind,
    /// By which of its patterns.
    pub(super) version: u64,
}

/// Who may enter a room with this name and pattern.
pub(super) fn kind_of(room: &RoomName, pattern: &Pattern) -> RoomKind {
    if room.direct_users().is_some() {
        RoomKind::Direct
    } else if pattern.0.is_empty() {
        RoomKind::Public
    } else {
        RoomKind::Restricted
    }
}

/// The name of a room that may exist.
pub(super) fn existing_name(room: &str) -> Result<RoomName, CallError> {
    RoomName::parse(room).map_err(|_| CallError::NoSuchRoom)
}

/// Two texts: the operator reads the cause, the client that it is unavailable.
#[allow(clippy::needless_pass_by_value, reason = "for `map_err`")]
pub(super) fn unavailable(error: BackendError) -> CallError {
    static ERRORS: Interval = Interval::new();
    // While the store is away every request fails: one line in each interval says so.
    if ERRORS.is_due(Instant::now()) {
        tracing::error!(%error, "store failed; requests are answered unavailable, further errors are logged as debug");
    } else {
        tracing::debug!(%error, "store failed");
    }
    CallError::Unavailable
}

/// What a call becomes when user code inside it panics.
pub(super) fn crashed_call(panic: Panic) -> Result<Answer, CallError> {
    tracing::error!(panic = panic.0, "a call panicked");
    Err(CallError::Unavailable)
}
