//! Rooms, patterns and members, in Redis.
//!
//! Of a room everything is in one hash slot, and changes in one step. That there is such a room is noted in a second place, the list
//! of rooms, which belongs to the nodes: a room is listed before it is made, and taken off the list after it was forgotten, so that a
//! node that dies in between leaves a name without a room, which the comparison ([`SharedDirectory::compare`]) takes off. A room that is
//! destroyed leaves a mark for an hour: by it whoever holds members of it and was not told knows that it was not forgotten.
//!
//! - [`row`]: what is written about a member. [`mirror`]: what this node has written, without asking.
//! - [`audit`]: what is forgotten, or noted for nobody.

mod audit;
mod mirror;
mod row;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use redis::Value;
use switchboard_proto::call::Member;
use switchboard_proto::id::{ConnId, RoomName};

use crate::backend::cluster::NodeEntry;
use crate::backend::shared::{Comparison, LeftRow, Remains};
use crate::backend::{
    AddRoomError, BackendError, Directory, DirectorySize, NewMember, Pattern, RoomInfo, RoomPage, SharedDirectory,
};
use crate::clock;
use crate::op::{Op, all};

use super::nodes::Nodes;
use super::script::Script;
use super::store::{Answered, Store};
use mirror::{Life, Mirror};
use row::Row;

static AGAIN: Script = Script::new(include_str!("directory/again.lua"));
static LIST: Script = Script::new(include_str!("directory/list.lua"));
static MAKE: Script = Script::new(include_str!("directory/make.lua"));
static PAGE: Script = Script::new(include_str!("directory/page.lua"));
static ROOM: Script = Script::new(include_str!("directory/room.lua"));
static MEMBERS: Script = Script::new(include_str!("directory/members.lua"));
static PATTERN: Script = Script::new(include_str!("directory/pattern.lua"));
static JOIN: Script = Script::new(include_str!("directory/join.lua"));
static LEAVE: Script = Script::new(include_str!("directory/leave.lua"));
static CLOSE: Script = Script::new(include_str!("directory/close.lua"));
static SHELVE: Script = Script::new(include_str!("directory/shelve.lua"));
static FORGET: Script = Script::new(include_str!("directory/forget.lua"));

/// How long a room that was destroyed is remembered: much longer than a node needs that missed it.
const GONE_MS: u64 = 3_600_000;

/// Rooms and members of all nodes. Cloning shares it.
#[derive(Clone, Debug)]
pub(crate) struct RedisDirectory(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    store: Store,
    nodes: Nodes,
    mirror: Mutex<Mirror>,
    /// What was on the list of rooms at the latest look at it.
    listed: Mutex<HashSet<RoomName>>,
    /// Names that were on a list without a room at the latest comparison.
    dangling: Mutex<HashSet<RoomName>>,
    /// The generation of the store at the latest comparison, and since when.
    known: Mutex<(u64, Instant)>,
}

/// Where the name of a room is.
#[derive(Clone, Copy)]
enum Listed {
    /// On the list of rooms.
    Open = 1,
    /// On that of those that are being destroyed.
    Closing = 2,
    /// On neither.
    Nowhere = 0,
}

/// The names of what is kept of one room.
struct RoomKeys {
    facts: String,
    members: String,
    gone: String,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing under these locks can panic half way.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl RedisDirectory {
    /// The directory in this store, of which the node knows the others by `nodes`.
    pub(super) fn new(store: Store, nodes: Nodes) -> Self {
        let known = Mutex::new((store.standing.generation(), Instant::now()));
        let (mirror, listed, dangling) = (Mutex::default(), Mutex::default(), Mutex::default());
        Self(Arc::new(Inner { store, nodes, mirror, listed, dangling, known }))
    }

    /// An operation that keeps the directory as long as it takes.
    fn op<T, F>(&self, operation: impl FnOnce(Arc<Inner>) -> F) -> Op<T>
    where
        F: Future<Output = T> + Send + 'static,
    {
        Op::Wait(Box::pin(operation(Arc::clone(&self.0))))
    }
}

impl Inner {
    fn mirror(&self) -> MutexGuard<'_, Mirror> {
        lock(&self.mirror)
    }

    fn keys(&self, room: &RoomName) -> RoomKeys {
        let key = |what| self.store.keys.room(room.as_str(), what);
        RoomKeys { facts: key("facts"), members: key("members"), gone: key("gone") }
    }

    /// The list of rooms, and that of those that are being destroyed.
    fn lists(&self) -> [String; 2] {
        ["rooms", "closing"].map(|what| self.store.keys.nodes(what))
    }

    /// This node, as rows name it.
    fn owner(&self) -> String {
        row::owner(self.store.standing.slot(), self.store.standing.incarnation())
    }

    /// What three values of an answer say of a room.
    fn life(&self, made: &Value, version: &Value, pattern: &Value) -> Option<Life> {
        let generation = self.store.standing.generation();
        Some(Life { generation, made: made.number()?, version: version.number()?, pattern: pattern.text()?.into() })
    }

    /// A pattern that was kept. What nobody can read lets nobody in.
    fn pattern(&self, text: &Value) -> Result<Pattern, BackendError> {
        let pattern = text.text().and_then(row::pattern);
        pattern.ok_or_else(|| self.store.odd("the pattern of a room", text))
    }

    async fn add_room(&self, room: &RoomName, pattern: &Pattern, max_rooms: usize) -> Result<bool, AddRoomError> {
        let [rooms, closing] = self.lists();
        let index = self.store.keys.nodes("rooms-sorted");
        let listed = self.store.change(&LIST, &[&rooms, &closing, &index], |command| {
            command.arg(room.as_str()).arg(max_rooms);
        });
        let listed = listed.await?;
        if listed.text() == Some("full") {
            return Err(AddRoomError::TooMany);
        }
        let keys = self.keys(room);
        let made = self.store.change(&MAKE, &[&keys.facts, &keys.gone], |command| {
            command.arg(clock::unix_ms()).arg(row::pattern_text(pattern));
        });
        let is_new = made.await?.number() == Some(1);
        if is_new && listed.text() == Some("closing") {
            // Whoever forgot it has not come so far as to take it off.
            self.list(room, Listed::Open).await?;
        }
        Ok(is_new)
    }

    /// Has a room's name on one of the lists and on no other, or on none. `true`: something has changed.
    async fn list(&self, room: &RoomName, listed: Listed) -> Result<bool, BackendError> {
        let [rooms, closing] = self.lists();
        let index = self.store.keys.nodes("rooms-sorted");
        let changed = self.store.change(&SHELVE, &[&rooms, &closing, &index], |command| {
            command.arg(room.as_str()).arg(listed as u8);
        });
        Ok(changed.await?.number() == Some(1))
    }

    async fn begin_destroy(&self, room: &RoomName) -> Result<bool, BackendError> {
        let keys = self.keys(room);
        let incarnation = self.store.standing.incarnation();
        let closed = self.store.change(&CLOSE, &[&keys.facts], |command| {
            command.arg(incarnation);
        });
        if closed.await?.number() != Some(1) {
            return Ok(false);
        }
        self.list(room, Listed::Closing).await?;
        Ok(true)
    }

    async fn forget(&self, room: &RoomName) -> Result<(), BackendError> {
        let keys = self.keys(room);
        let forgotten = self.store.change(&FORGET, &[&keys.facts, &keys.members, &keys.gone], |command| {
            command.arg(clock::unix_ms()).arg(GONE_MS);
        });
        forgotten.await?;
        self.mirror().forget(room);
        self.list(room, Listed::Nowhere).await.map(drop)
    }

    async fn size(&self) -> Result<DirectorySize, BackendError> {
        let [rooms, _] = self.lists();
        let mut command = redis::cmd("SCARD");
        command.arg(rooms);
        let answer = self.store.read(command).await?;
        let rooms = answer.number().ok_or_else(|| self.store.odd("the number of rooms", &answer))?;
        let own = self.store.standing.incarnation();
        let others = self.nodes.all().into_iter().filter(|node| node.incarnation != own);
        let members = others.map(|node| node.members).sum::<u64>() + self.mirror().count();
        let count = |count: u64| usize::try_from(count).unwrap_or(usize::MAX);
        Ok(DirectorySize { rooms: count(rooms), members: count(members) })
    }

    async fn room(&self, room: &RoomName) -> Result<Option<RoomInfo>, BackendError> {
        let keys = self.keys(room);
        let answer = self.store.link.run(&ROOM, &[&keys.facts, &keys.members], |_| {}).await?;
        let Some([made, version, pattern, count]) = answer.list() else {
            return if answer == Value::Nil { Ok(None) } else { Err(self.store.odd("a room", &answer)) };
        };
        let (Some(life), Some(count)) = (self.life(made, version, pattern), count.number()) else {
            return Err(self.store.odd("a room", &answer));
        };
        let pattern = Arc::new(self.pattern(pattern)?);
        let (version, has_first_pattern) = (life.version, life.version == life.made);
        self.mirror().learn(room, life);
        let members_count = usize::try_from(count).unwrap_or(usize::MAX);
        Ok(Some(RoomInfo { members_count, pattern, version, has_first_pattern }))
    }

    /// The names on a list, in no order. What is no name is passed over.
    async fn names(&self, list: &str) -> Result<Vec<RoomName>, BackendError> {
        let mut command = redis::cmd("SMEMBERS");
        command.arg(list);
        let answer = self.store.read(command).await?;
        let names = answer.list().ok_or_else(|| self.store.odd("the list of rooms", &answer))?;
        Ok(names.iter().filter_map(|name| RoomName::restore(name.text()?)).collect())
    }

    async fn rooms(&self) -> Result<Vec<RoomName>, BackendError> {
        let mut names = self.names(&self.lists()[0]).await?;
        names.sort_unstable();
        Ok(names)
    }

    /// See [`Directory::page`]. The infos of all rooms are asked for at once.
    async fn page(&self, after: Option<&RoomName>, limit: usize) -> Result<RoomPage, BackendError> {
        let after = after.map(RoomName::as_str).filter(|after| *after > RoomName::AFTER_DIRECT);
        let first = after.map_or_else(|| format!("[{}", RoomName::AFTER_DIRECT), |after| format!("({after}"));
        let [rooms, _] = self.lists();
        let index = self.store.keys.nodes("rooms-sorted");
        let answer = self.store.link.run(&PAGE, &[&rooms, &index], |command| {
            // Redis counts up to the largest signed number.
            command.arg(first).arg(limit.min(i64::MAX as usize - 1) + 1);
        });
        let answer = answer.await?;
        let names = answer.list().ok_or_else(|| self.store.odd("a page of rooms", &answer))?;
        let names = names.iter().filter_map(|name| RoomName::restore(name.text()?)).collect();
        let (names, next) = RoomPage::cut(names, limit);
        let infos = all(names.iter().map(|name| self.room(name))).await;
        let mut found = Vec::with_capacity(names.len());
        for (name, info) in names.into_iter().zip(infos) {
            found.extend(info?.map(|info| (name, info)));
        }
        Ok(RoomPage { rooms: found, next })
    }

    async fn set_pattern(&self, room: &RoomName, pattern: &Pattern) -> Result<bool, BackendError> {
        let keys = self.keys(room);
        let set = self.store.change(&PATTERN, &[&keys.facts], |command| {
            command.arg(clock::unix_ms()).arg(row::pattern_text(pattern));
        });
        let answer = set.await?;
        if let Some([made, version, pattern]) = answer.list()
            && let Some(life) = self.life(made, version, pattern)
        {
            self.mirror().learn(room, life);
            return Ok(true);
        }
        Ok(false)
    }

    /// Notes members of this node: id, rest of the row, place if they had one. Their places; `None`: there is no such room. With
    /// [`AGAIN`] those that other nodes have noted for themselves meanwhile get none: 0.
    async fn note(
        &self,
        script: &'static Script,
        room: &RoomName,
        members: &[(ConnId, Arc<str>, Option<u64>)],
    ) -> Result<Option<Vec<u64>>, BackendError> {
        let keys = self.keys(room);
        let noted = self.store.change(script, &[&keys.facts, &keys.members], |command| {
            for (id, tail, order) in members {
                command.arg(row::name(*id)).arg(&**tail).arg(order.map(|order| order.to_string()).unwrap_or_default());
            }
        });
        let answer = noted.await?;
        if answer == Value::Nil {
            return Ok(None);
        }
        let (life, places) = match answer.list() {
            Some([made, version, pattern, places]) => (self.life(made, version, pattern), places.list()),
            _ => (None, None),
        };
        let places: Option<Vec<u64>> = places.unwrap_or_default().iter().map(Answered::number).collect();
        match (life, places) {
            (Some(life), Some(places)) if places.len() == members.len() => {
                self.mirror().learn(room, life);
                Ok(Some(places))
            }
            _ => Err(self.store.odd("a join", &answer)),
        }
    }

    async fn add_member(&self, room: &RoomName, id: ConnId, number: u64, tail: Arc<str>) -> Result<bool, BackendError> {
        let noted = self.note(&JOIN, room, &[(id, tail, None)]).await;
        let Ok(Some(places)) = noted else {
            // If it is noted all the same, the comparison finds it.
            self.mirror().end(room, id, Some(number));
            return noted.map(|_| false);
        };
        let is_confirmed = places.first().is_some_and(|place| self.mirror().confirm(room, id, number, *place));
        if !is_confirmed && !self.mirror().has(room, id) {
            self.unnote(room, id, None).await?;
        }
        Ok(is_confirmed)
    }

    /// Takes back what this node has noted of a member; with a place: only that.
    async fn unnote(&self, room: &RoomName, id: ConnId, place: Option<u64>) -> Result<bool, BackendError> {
        let keys = self.keys(room);
        let owner = self.owner();
        let left = self.store.change(&LEAVE, &[&keys.members], |command| {
            command.arg(row::name(id)).arg(owner).arg(place.map(|place| place.to_string()).unwrap_or_default());
        });
        Ok(left.await?.number() == Some(1))
    }

    async fn members(&self, room: &RoomName) -> Result<Option<Vec<Member>>, BackendError> {
        let keys = self.keys(room);
        let answer = self.store.link.run(&MEMBERS, &[&keys.facts, &keys.members], |_| {}).await?;
        if answer == Value::Nil {
            return Ok(None);
        }
        let rows = answer.list().ok_or_else(|| self.store.odd("members of a room", &answer))?;
        let mut members: Vec<(u64, Member)> = Vec::with_capacity(rows.len() / 2);
        for pair in rows.chunks_exact(2) {
            // What nobody can read the comparison takes out.
            if let (Some(id), Some(row)) = (pair[0].text().and_then(row::id), pair[1].text().and_then(Row::parse)) {
                members.push((row.order, row.member(id)));
            }
        }
        members.sort_unstable_by_key(|(order, member)| (*order, member.joined_at, member.id));
        Ok(Some(members.into_iter().map(|(_, member)| member).collect()))
    }
}

impl Directory for RedisDirectory {
    fn add_room(&self, room: &RoomName, pattern: Pattern, max_rooms: usize) -> Op<Result<bool, AddRoomError>> {
        let room = room.clone();
        self.op(|inner| async move { inner.add_room(&room, &pattern, max_rooms).await })
    }

    fn begin_destroy(&self, room: &RoomName) -> Op<Result<bool, BackendError>> {
        let room = room.clone();
        self.op(|inner| async move { inner.begin_destroy(&room).await })
    }

    fn forget(&self, room: &RoomName) -> Op<Result<(), BackendError>> {
        let room = room.clone();
        self.op(|inner| async move { inner.forget(&room).await })
    }

    fn size(&self) -> Op<Result<DirectorySize, BackendError>> {
        self.op(|inner| async move { inner.size().await })
    }

    fn room(&self, room: &RoomName) -> Op<Result<Option<RoomInfo>, BackendError>> {
        let room = room.clone();
        self.op(|inner| async move { inner.room(&room).await })
    }

    fn rooms(&self) -> Op<Result<Vec<RoomName>, BackendError>> {
        self.op(|inner| async move { inner.rooms().await })
    }

    fn page(&self, after: Option<&RoomName>, limit: usize) -> Op<Result<RoomPage, BackendError>> {
        let after = after.cloned();
        self.op(|inner| async move { inner.page(after.as_ref(), limit).await })
    }

    fn set_pattern(&self, room: &RoomName, pattern: Pattern) -> Op<Result<bool, BackendError>> {
        let room = room.clone();
        self.op(|inner| async move { inner.set_pattern(&room, &pattern).await })
    }

    fn add_member(&self, room: &RoomName, member: NewMember) -> Op<Result<bool, BackendError>> {
        let (room, id) = (room.clone(), member.facts.id);
        let tail: Arc<str> = row::tail(&self.0.owner(), &member).into();
        // Held before it is noted: whoever finds the row finds this too.
        let number = self.0.mirror().begin(&room, id, Arc::clone(&tail), member.checked);
        self.op(|inner| async move { inner.add_member(&room, id, number, tail).await })
    }

    fn remove_member(&self, room: &RoomName, id: ConnId) -> Op<Result<(), BackendError>> {
        // Not held before it is taken out: whoever notes it again meanwhile finds that.
        if self.0.mirror().end(room, id, None).is_none() {
            return Op::Ready(Ok(()));
        }
        let room = room.clone();
        self.op(|inner| async move { inner.unnote(&room, id, None).await.map(drop) })
    }

    fn members(&self, room: &RoomName) -> Op<Result<Option<Vec<Member>>, BackendError>> {
        let room = room.clone();
        self.op(|inner| async move { inner.members(&room).await })
    }

    fn shared(&self) -> Option<&dyn SharedDirectory> {
        Some(self)
    }
}

impl SharedDirectory for RedisDirectory {
    fn held(&self) -> u64 {
        self.0.mirror().count()
    }

    fn held_in(&self, room: &RoomName) -> Vec<(ConnId, u64)> {
        self.0.mirror().members(room).into_iter().map(|(id, held)| (id, held.number)).collect()
    }

    fn held_rooms(&self) -> Vec<RoomName> {
        self.0.mirror().rooms().cloned().collect()
    }

    fn let_go(&self) {
        self.0.mirror().clear();
    }

    fn release(&self, room: &RoomName, id: ConnId) {
        self.0.mirror().end(room, id, None);
    }

    fn end_orphan(&self, room: &RoomName, id: ConnId, number: u64) -> Op<Result<bool, BackendError>> {
        if self.0.mirror().end(room, id, Some(number)).is_none() {
            return Op::Ready(Ok(false));
        }
        let room = room.clone();
        self.op(|inner| async move { inner.unnote(&room, id, None).await.map(|_| true) })
    }

    fn note_checked(&self, room: &RoomName, version: u64) {
        self.0.mirror().note_checked(room, version);
    }

    fn all_rooms(&self) -> Op<Result<Vec<RoomName>, BackendError>> {
        self.op(|inner| async move { inner.all_rooms().await })
    }

    fn restore(&self, room: &RoomName, otherwise: Option<Pattern>) -> Op<Result<bool, BackendError>> {
        let room = room.clone();
        self.op(|inner| async move { inner.restore(&room, otherwise).await })
    }

    fn left_by(&self, node: &NodeEntry, room: &RoomName, cursor: Option<String>) -> Op<Result<Remains, BackendError>> {
        let (owner, room) = (row::owner(node.slot, node.incarnation), room.clone());
        self.op(|inner| async move { inner.left_by(&owner, &room, cursor).await })
    }

    fn remove_left(&self, room: &RoomName, left: &[LeftRow]) -> Op<Result<(), BackendError>> {
        let (room, rows) = (room.clone(), left.iter().map(|one| one.row.clone()).collect::<Vec<_>>());
        self.op(|inner| async move {
            for rows in rows.chunks(audit::BATCH) {
                inner.strike_rows(&room, rows).await?;
            }
            Ok(())
        })
    }

    fn compare(&self, room: &RoomName) -> Op<Result<Comparison, BackendError>> {
        let room = room.clone();
        self.op(|inner| async move { inner.compare(&room).await })
    }
}
