//! Rooms of users: whose membership is that of all their connections.
//!
//! A user who joins a room is in it with every connection that he logged in with, later ones too; a connection that ends or
//! logs out leaves, the user does not. What he is in is kept by the session store.

use std::collections::HashSet;

use serde::de::IgnoredAny;
use switchboard_proto::call::{Answer, CallError, ConnectionType, HistoryRange, Outcome, Publication, RoomKind};
use switchboard_proto::document;
use switchboard_proto::event::{MessageExtra, Sender};
use switchboard_proto::face::ConnFacts;
use switchboard_proto::id::{ConnId, RoomName};

use crate::backend::{Pattern, Published, RoomHistory};
use crate::clock;
use crate::hub::mail::{Address, Ask, Inspection};
use crate::op::Op;
use crate::users::Account;
use crate::worker::calls::Caller;

use super::chat::{crashed_call, kind_of, unavailable};
use super::cluster::users::Question;
use super::gate::Purpose;
use super::hooks::Saying;
use super::{Node, User};

/// How far a sender's clock may be off, in milliseconds.
const MOST_OFF_MS: u64 = 60_000;

impl Node {
    fn user_of(&self, facts: &ConnFacts) -> Result<User, CallError> {
        self.0.registry.user(facts.id).ok_or(CallError::NotLoggedIn)
    }

    /// The first of these rooms that there is and that the caller may see.
    pub(super) async fn find_room(&self, caller: Caller, names: Vec<RoomName>) -> Outcome {
        let user = self.0.registry.user(caller.facts.id);
        for room in names {
            if let Some(user) = &user {
                self.ensure_direct(&room, user).await?;
            }
            let Some(info) = self.directory().room(&room).await.map_err(unavailable)? else { continue };
            let kind = kind_of(&room, &info.pattern);
            let may_enter =
                kind == RoomKind::Public || (user.is_some() && self.may_enter(&caller.facts, &room, &info.pattern));
            if !may_enter {
                continue;
            }
            if user.is_none() {
                // The subscription waits for a login, and the hook decides about listening then.
                return Ok(Answer::RoomFound { room, kind });
            }
            match self.may_see(&caller.facts, caller.address, &room, Purpose::Look).await {
                Ok(()) => return Ok(Answer::RoomFound { room, kind }),
                Err(CallError::Unavailable) => return Err(CallError::Unavailable),
                Err(_) => {}
            }
        }
        Err(CallError::NoSuchRoom)
    }

    /// Makes the user of this connection a member of a room, with all his connections.
    pub(super) async fn join_as_user(&self, facts: ConnFacts, address: Address, room: RoomName) -> Outcome {
        let user = self.user_of(&facts)?;
        self.ensure_direct(&room, &user).await?;
        let is_new = match self.ask(address, |key, reply| Ask::Join(key, room.clone(), reply)).await? {
            Ok(_) => true,
            Err(CallError::AlreadyMember(_)) => false,
            Err(error) => return Err(error),
        };
        let kept = self.keep_user_room(&user, &room).await;
        if is_new && (kept.is_err() || !self.belongs(facts.id, &room).await) {
            drop(self.ask(address, |key, reply| Ask::Leave(key, room.clone(), reply)).await);
        }
        kept?;
        self.enter_with_sessions(&user, &room).await;
        Ok(Answer::Joined)
    }

    /// Ends the membership of the user of this connection, with all his connections.
    pub(super) async fn leave_as_user(&self, facts: ConnFacts, room: RoomName) -> Outcome {
        let user = self.user_of(&facts)?;
        if room.direct_users().is_some() {
            return Err(CallError::NotAuthorized);
        }
        if self.directory().room(&room).await.map_err(unavailable)?.is_none() {
            return Err(CallError::NoSuchRoom);
        }
        let mut was_member = self.0.sessions.remove_user_room(user.id(), &room).await.map_err(unavailable)?;
        let left = Question::Left { user: user.id().to_owned(), room: room.clone() };
        let (here, others) =
            tokio::join!(self.leave_with_sessions_here(user.id(), &room), self.tell_others::<bool>(left));
        was_member |= here || others.contains(&true);
        if was_member { Ok(Answer::Left) } else { Err(CallError::NotMember(room)) }
    }

    /// Takes all sessions that a user has on this node out of a room, which he has left. `true`: one of them was in it.
    pub(super) async fn leave_with_sessions_here(&self, user: &str, room: &RoomName) -> bool {
        let mut was_member = false;
        for (_, address) in self.sessions_of(user) {
            was_member |=
                matches!(self.ask(address, |key, reply| Ask::Leave(key, room.clone(), reply)).await, Ok(Ok(_)));
        }
        // He may have joined again meanwhile, with a session of another node.
        if was_member && self.0.sessions.user_rooms(user).await.is_ok_and(|rooms| rooms.contains(room)) {
            drop(self.enter_with_sessions_here(user, room).await);
        }
        was_member
    }

    /// The same for a client, who is not told that there is a room that he may not see.
    pub(super) async fn leave_as_client(&self, caller: Caller, room: RoomName) -> Outcome {
        let Caller { facts, address, .. } = caller;
        let outcome = self.leave_as_user(facts.clone(), room.clone()).await;
        if matches!(outcome, Err(CallError::NotMember(_)))
            && (self.check_pattern(&facts, &room).await.is_err()
                || self.may_see(&facts, address, &room, Purpose::Look).await.is_err())
        {
            return Err(CallError::NoSuchRoom);
        }
        outcome
    }

    /// The room of two users: made, and both in it, if need be.
    pub(super) async fn open_direct(&self, facts: ConnFacts, with: String) -> Outcome {
        let user = self.user_of(&facts)?;
        let other = self.user_known_anywhere(&with).await?.ok_or(CallError::NoSuchUser)?;
        if other.id() == user.id() {
            return Err(CallError::NotAuthorized);
        }
        if self.0.gateway.applications.by_id(other.id()).is_some() {
            // Its shards know no rooms of two.
            return Err(CallError::NoSuchUser);
        }
        let room = RoomName::direct(user.id(), other.id());
        self.ensure_direct(&room, &user).await?;
        Ok(Answer::RoomFound { room, kind: RoomKind::Direct })
    }

    /// Makes the room of two users, if this is one, one of the two names it and it is not there: their clients keep its name
    /// longer than a server lives. Both are members from its beginning.
    async fn ensure_direct(&self, room: &RoomName, user: &User) -> Result<(), CallError> {
        let Some((one, other)) = room.direct_users() else { return Ok(()) };
        let is_his = user.id() == one || user.id() == other;
        if !is_his || one == other || self.directory().room(room).await.map_err(unavailable)?.is_some() {
            return Ok(());
        }
        let mut both = Vec::with_capacity(2);
        for id in [one, other] {
            match self.user_known_anywhere(id).await?.filter(|found| found.id() == id) {
                Some(user) => both.push(user),
                None => return Ok(()),
            }
        }
        let (node, room) = (self.clone(), room.clone());
        self.to_the_end(async move { node.make_direct(&room, &both).await }).await
    }

    /// With an error there is no room, and nobody is in it.
    async fn make_direct(&self, room: &RoomName, both: &[User]) -> Result<(), CallError> {
        let mut new = Vec::new();
        let mut made = Ok(true);
        for user in both {
            match self.keep_user_room(user, room).await {
                Ok(true) => new.push(user),
                Ok(false) => {}
                Err(error) => made = Err(error),
            }
        }
        if made.is_ok() {
            made = self.make_room(room, Pattern::default()).await;
        }
        if let Err(error) = made {
            for user in new {
                self.0.sessions.remove_user_room(user.id(), room).await.map_err(unavailable)?;
            }
            return Err(error);
        }
        for user in both {
            self.enter_with_sessions(user, room).await;
        }
        Ok(())
    }

    /// Has it kept that a user is in a room. `false`: it was known.
    async fn keep_user_room(&self, user: &User, room: &RoomName) -> Result<bool, CallError> {
        let sessions = &self.0.sessions;
        match sessions.add_user_room(user.id(), room).await {
            Ok(is_new) => Ok(is_new),
            // What else could not be kept is a fault of ours.
            Err(error) => match sessions.user_rooms(user.id()).await {
                Ok(rooms) if rooms.len() >= self.0.settings.max_rooms_per_user => {
                    Err(CallError::TooManyRoomsOfConnection)
                }
                _ => Err(unavailable(error)),
            },
        }
    }

    /// Puts all sessions of a user into a room. Those that may not enter, or end, stay outside.
    async fn enter_with_sessions(&self, user: &User, room: &RoomName) {
        let joined = Question::Joined { user: user.id().to_owned(), room: room.clone() };
        let others = self.tell_others::<IgnoredAny>(joined);
        // What the backend failed at, the log has.
        drop(tokio::join!(self.enter_with_sessions_here(user.id(), room), others));
    }

    /// The same on this node.
    ///
    /// # Errors
    ///
    /// [`CallError::Unavailable`] when a session is outside because the backend failed.
    pub(super) async fn enter_with_sessions_here(&self, user: &str, room: &RoomName) -> Result<(), CallError> {
        let mut entered = Ok(());
        for (id, address) in self.sessions_of(user) {
            entered = entered.and(self.enter_with(id, address, room).await);
        }
        entered
    }

    /// Puts a session into a room of its user. A join may take a while: if he has left the room meanwhile, or the session is not
    /// his any more, it leaves again. Whoever leaves or logs out says so first and looks for memberships to end then, so that
    /// one of the two finds what the other did.
    async fn enter_with(&self, id: ConnId, address: Address, room: &RoomName) -> Result<(), CallError> {
        loop {
            match self.ask(address, |key, reply| Ask::Join(key, room.clone(), reply)).await {
                Ok(Ok(_)) => {}
                Ok(Err(CallError::Unavailable)) => return Err(CallError::Unavailable),
                // It is in it, may not enter, or has ended.
                Ok(Err(_)) | Err(_) => return Ok(()),
            }
            if self.belongs(id, room).await {
                return Ok(());
            }
            drop(self.ask(address, |key, reply| Ask::Leave(key, room.clone(), reply)).await);
            // It may belong there again since it was looked at.
            if !self.belongs(id, room).await {
                return Ok(());
            }
        }
    }

    /// Whether a session is somebody's who is in this room, as far as the store can be asked.
    async fn belongs(&self, id: ConnId, room: &RoomName) -> bool {
        let Some(user) = self.0.registry.user(id) else { return false };
        self.0.sessions.user_rooms(user.id()).await.map_or(true, |rooms| rooms.contains(room))
    }

    /// The sessions of a user and where they live: connections whose membership is his.
    fn sessions_of(&self, user: &str) -> Vec<(ConnId, Address)> {
        let connections = self.0.registry.connections_of(user);
        connections.into_iter().filter_map(|id| Some((id, self.session_address(id)?))).collect()
    }

    /// Where a DDP session lives; nothing for connections of other kinds.
    pub(super) fn session_address(&self, id: ConnId) -> Option<Address> {
        self.0.registry.locate_as(id, ConnectionType::Ddp)
    }

    /// Puts a connection into the rooms of its user, who has just logged in with it. Each room's pattern is looked at again.
    pub(super) async fn enter_rooms_of(&self, user: &User, address: Address) -> Result<(), CallError> {
        let mut entered = self.0.sessions.user_rooms(user.id()).await.map_err(unavailable)?;
        for room in &entered {
            // Whoever cannot have a room of his can log in all the same.
            drop(self.ensure_direct(room, user).await);
            drop(self.ask(address, |key, reply| Ask::Join(key, room.clone(), reply)).await?);
        }
        // What he has left meanwhile, with his other sessions, he has left with this one too: see `enter_with`.
        let kept: HashSet<RoomName> =
            self.0.sessions.user_rooms(user.id()).await.map_err(unavailable)?.into_iter().collect();
        entered.retain(|room| !kept.contains(room));
        for room in entered {
            drop(self.ask(address, |key, reply| Ask::Leave(key, room, reply)).await?);
        }
        Ok(())
    }

    /// Takes a connection out of all its rooms, because it is nobody's any more.
    pub(super) async fn leave_rooms(&self, address: Address) -> Result<(), CallError> {
        let Inspection { rooms, joining, .. } = self.ask(address, Ask::Inspect).await?;
        for room in rooms.into_iter().chain(joining) {
            drop(self.ask(address, |key, reply| Ask::Leave(key, room, reply)).await?);
        }
        Ok(())
    }

    /// Something that a user says. Membership has been looked at.
    pub(super) fn publish_as_user(&self, caller: Caller, publication: Publication) -> Op<Outcome> {
        let Publication { room, body, attachment, id, claimed_at } = publication;
        let user = match self.user_of(&caller.facts) {
            Ok(user) => user,
            Err(error) => return Op::Ready(Err(error)),
        };
        let now_ms = i64::try_from(clock::unix_ms()).unwrap_or(i64::MAX);
        let is_off = |claimed_at: i64| claimed_at.abs_diff(now_ms) > MOST_OFF_MS;
        if claimed_at.is_some_and(is_off) {
            return Op::Ready(Err(CallError::OutOfSync));
        }
        let is_bot = self.0.users.by_id(user.id()).is_some_and(Account::is_bot);
        if !is_bot && let Err(retry_ms) = self.0.send_rates.take(user.shared_id(), self.uptime_ms()) {
            return Op::Ready(Err(CallError::TooManyRequests { retry_ms }));
        }
        let sender = Sender::Connection(caller.facts.id);
        let rules = &self.0.ddp_members;
        let attachment = attachment.map(|document| document::permitted(&document, rules, is_bot));
        let extra = Some(Box::new(MessageExtra { id: id.map(Into::into), attachment }));
        let saying = Saying { extra, ..self.saying(room, sender, Some(self.handle(caller)), body) };
        self.say(saying).map(|published| match published? {
            Some(Published::Now(message)) => Ok(Answer::Published(Box::new(message.message().clone()))),
            Some(Published::Before(message)) => Ok(Answer::Published(message)),
            Some(Published::IdTaken) => Err(CallError::MessageIdTaken),
            None => Err(CallError::NoSuchRoom),
        })
    }

    /// What was said lately in a room that the caller may enter.
    pub(super) async fn history(&self, caller: Caller, range: HistoryRange) -> Outcome {
        let user = self.user_of(&caller.facts)?;
        self.ensure_direct(&range.room, &user).await?;
        self.check_pattern(&caller.facts, &range.room).await?;
        self.may_see(&caller.facts, caller.address, &range.room, Purpose::History).await?;
        let found = self.0.broker.history(range).await.map_err(unavailable)?;
        let RoomHistory { messages, unread_not_loaded } = found.ok_or(CallError::NoSuchRoom)?;
        Ok(Answer::History { messages, unread_not_loaded })
    }

    /// Calls about rooms of users.
    pub(super) fn start_user_call(&self, call: impl Future<Output = Outcome> + Send + 'static) -> Op<Outcome> {
        Op::start(call, crashed_call)
    }
}
