//! What a session store keeps, as plain data, and every change to it: tokens and rooms of users here, sessions in `shards`.
//!
//! Both stores apply the same changes to the same data. A change says which rows of a file differ after it, so that one store
//! needs no code of its own for what the other does in memory.

mod shards;

use std::collections::{HashMap, VecDeque};

use switchboard_proto::id::RoomName;

use super::shards::ShardLimits;
use super::{Token, TokenHash};
use crate::backend::BackendError;

pub(in crate::backend) use shards::{
    AT_ONCE_MS, Held, JoinedRoom, Log, MASTER_RETRY_MS, PublicationKey, RememberedPublication, Session, ShardChange,
    ShardOutcome, ShardRow, Shards, Starts,
};

/// How long tokens are kept after they have expired, so that whoever comes with one is told so.
const KEPT_EXPIRED_MS: u64 = 24 * 3600 * 1000;

/// One change.
#[derive(Clone, Debug)]
pub(in crate::backend) enum Change {
    AddToken { token: Token, max_of_user: usize },
    RemoveToken(TokenHash),
    DropExpired { now_ms: u64 },
    AddUserRoom { user: Box<str>, room: RoomName },
    RemoveUserRoom { user: Box<str>, room: RoomName },
    ForgetRoom(RoomName),
    Shard(ShardChange),
}

impl Change {
    /// About how many bytes of others' making it holds while it waits. What is small counts nothing.
    pub(in crate::backend) fn payload_bytes(&self) -> usize {
        match self {
            Self::Shard(ShardChange::Publish { publication, .. }) => publication.item.as_str().len(),
            Self::Shard(ShardChange::Append(append)) => append.item.as_str().len(),
            _ => 0,
        }
    }
}

/// What a change has brought.
#[derive(Debug)]
pub(in crate::backend) enum Outcome {
    /// How many tokens or rooms came or went as it was asked for.
    Count(usize),
    Shard(ShardOutcome),
}

impl Outcome {
    /// How many tokens or rooms came or went.
    pub(in crate::backend) fn count(self) -> Option<usize> {
        match self {
            Self::Count(count) => Some(count),
            Self::Shard(_) => None,
        }
    }
}

/// A row that a change has made, replaced or removed.
#[derive(Clone, Copy, Debug)]
pub(in crate::backend) enum Row<'a> {
    Token { token: &'a Token, order: u64 },
    NoToken(&'a TokenHash),
    UserRoom { user: &'a str, room: &'a RoomName, order: u64 },
    NoUserRoom { user: &'a str, room: &'a RoomName },
    Shard(ShardRow<'a>),
}

/// What a session store keeps, besides clocks.
#[derive(Clone, Debug)]
pub(in crate::backend) struct State {
    max_user_rooms: usize,
    tokens: HashMap<TokenHash, Token>,
    users: HashMap<Box<str>, OfUser>,
    /// Of the next token or room: who comes first is remembered by rising numbers.
    order: u64,
    shards: Shards,
}

/// What is kept of a user. Without tokens and rooms nothing is.
#[derive(Clone, Debug, Default)]
struct OfUser {
    /// The oldest first.
    tokens: VecDeque<(u64, TokenHash)>,
    /// In the order of joining.
    rooms: Vec<(u64, RoomName)>,
}

impl State {
    /// Nothing yet; of one user, and of one session, at most `max_user_rooms` rooms are added.
    pub(in crate::backend) fn new(max_user_rooms: usize, shard_limits: ShardLimits, epoch: u64) -> Self {
        let shards = Shards::new(shard_limits, max_user_rooms, epoch);
        Self { max_user_rooms, tokens: HashMap::new(), users: HashMap::new(), order: 0, shards }
    }

    /// Sessions of shards.
    pub(in crate::backend) fn shards(&self) -> &Shards {
        &self.shards
    }

    /// Sessions of shards, to put back what was kept.
    pub(in crate::backend) fn shards_mut(&mut self) -> &mut Shards {
        &mut self.shards
    }

    /// Puts back a token that was kept. Before the first change all are put back, in any order.
    pub(in crate::backend) fn restore_token(&mut self, token: Token, order: u64) {
        let tokens = &mut self.users.entry(token.user.as_str().into()).or_default().tokens;
        let place = tokens.partition_point(|(other, _)| *other < order);
        tokens.insert(place, (order, token.hash));
        self.tokens.insert(token.hash, token);
        self.order = self.order.max(order.saturating_add(1));
    }

    /// Puts back a room of a user, as [`State::restore_token`] a token.
    pub(in crate::backend) fn restore_user_room(&mut self, user: &str, room: RoomName, order: u64) {
        let rooms = &mut self.users.entry(user.into()).or_default().rooms;
        let place = rooms.partition_point(|(other, _)| *other < order);
        rooms.insert(place, (order, room));
        self.order = self.order.max(order.saturating_add(1));
    }

    /// A token.
    pub(in crate::backend) fn token(&self, hash: &TokenHash) -> Option<&Token> {
        self.tokens.get(hash)
    }

    /// The tokens of a user, the oldest first.
    pub(in crate::backend) fn tokens_of(&self, user: &str) -> Vec<TokenHash> {
        self.users.get(user).map_or_else(Vec::new, |of_user| of_user.tokens.iter().map(|(_, hash)| *hash).collect())
    }

    /// The rooms of a user in the order of joining.
    pub(in crate::backend) fn user_rooms(&self, user: &str) -> Vec<RoomName> {
        let rooms = self.users.get(user).map_or(&[][..], |of_user| &of_user.rooms);
        rooms.iter().map(|(_, room)| room.clone()).collect()
    }

    /// Makes a change and tells `note` every row that differs now. After an error nothing has changed.
    pub(in crate::backend) fn apply(
        &mut self,
        change: &Change,
        note: &mut dyn FnMut(Row<'_>),
    ) -> Result<Outcome, BackendError> {
        Ok(Outcome::Count(match change {
            Change::AddToken { token, max_of_user } => {
                self.add_token(token, *max_of_user, note);
                1
            }
            Change::RemoveToken(hash) => usize::from(self.remove_token(hash, note)),
            Change::DropExpired { now_ms } => self.drop_expired(*now_ms, note),
            Change::AddUserRoom { user, room } => usize::from(self.add_user_room(user, room, note)?),
            Change::RemoveUserRoom { user, room } => usize::from(self.remove_user_room(user, room, note)),
            Change::ForgetRoom(room) => self.forget_room(room, note),
            Change::Shard(change) => return self.shards.apply(change, note).map(Outcome::Shard),
        }))
    }

    fn add_token(&mut self, token: &Token, max_of_user: usize, note: &mut dyn FnMut(Row<'_>)) {
        // Whoever adds a token twice means the second.
        self.remove_token(&token.hash, note);
        let order = self.next_order();
        let tokens = &mut self.users.entry(token.user.as_str().into()).or_default().tokens;
        tokens.push_back((order, token.hash));
        let too_many = tokens.len().saturating_sub(max_of_user);
        let oldest: Vec<_> = tokens.iter().take(too_many).map(|(_, hash)| *hash).collect();
        self.tokens.insert(token.hash, token.clone());
        note(Row::Token { token, order });
        for hash in oldest {
            self.remove_token(&hash, note);
        }
    }

    fn remove_token(&mut self, hash: &TokenHash, note: &mut dyn FnMut(Row<'_>)) -> bool {
        let Some(token) = self.tokens.remove(hash) else { return false };
        self.change_user(&token.user, |of_user| of_user.tokens.retain(|(_, other)| other != hash));
        note(Row::NoToken(hash));
        true
    }

    fn drop_expired(&mut self, now_ms: u64, note: &mut dyn FnMut(Row<'_>)) -> usize {
        let is_old = |token: &&Token| token.expires_ms.saturating_add(KEPT_EXPIRED_MS) < now_ms;
        let old: Vec<_> = self.tokens.values().filter(is_old).map(|token| token.hash).collect();
        for hash in &old {
            self.remove_token(hash, note);
        }
        old.len()
    }

    fn add_user_room(
        &mut self,
        user: &str,
        room: &RoomName,
        note: &mut dyn FnMut(Row<'_>),
    ) -> Result<bool, BackendError> {
        let known = self.users.get(user).map_or(&[][..], |of_user| &of_user.rooms);
        if known.iter().any(|(_, known)| known == room) {
            return Ok(false);
        }
        if known.len() >= self.max_user_rooms {
            return Err(BackendError(format!("of one user at most {} rooms are kept", self.max_user_rooms)));
        }
        let order = self.next_order();
        self.users.entry(user.into()).or_default().rooms.push((order, room.clone()));
        note(Row::UserRoom { user, room, order });
        Ok(true)
    }

    fn remove_user_room(&mut self, user: &str, room: &RoomName, note: &mut dyn FnMut(Row<'_>)) -> bool {
        let was_known = self.change_user(user, |of_user| {
            let place = of_user.rooms.iter().position(|(_, known)| known == room);
            place.map(|place| of_user.rooms.remove(place)).is_some()
        });
        if was_known == Some(true) {
            note(Row::NoUserRoom { user, room });
        }
        was_known == Some(true)
    }

    /// Looks at every user: rooms are destroyed rarely, and an index by room would cost memory all the time.
    fn forget_room(&mut self, room: &RoomName, note: &mut dyn FnMut(Row<'_>)) -> usize {
        let is_in = |of_user: &OfUser| of_user.rooms.iter().any(|(_, known)| known == room);
        let members = self.users.iter().filter(|(_, of_user)| is_in(of_user)).map(|(user, _)| user.clone());
        let members: Vec<Box<str>> = members.collect();
        for user in &members {
            self.remove_user_room(user, room, note);
        }
        members.len() + self.shards.forget_room(room, note)
    }

    /// Changes what is kept of a user; when nothing is left, the user goes too.
    fn change_user<T>(&mut self, user: &str, change: impl FnOnce(&mut OfUser) -> T) -> Option<T> {
        let of_user = self.users.get_mut(user)?;
        let changed = change(of_user);
        if of_user.tokens.is_empty() && of_user.rooms.is_empty() {
            self.users.remove(user);
        }
        Some(changed)
    }

    fn next_order(&mut self) -> u64 {
        let order = self.order;
        self.order = order.saturating_add(1);
        order
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_without_tokens_and_rooms_leaves_nothing_behind() {
        let mut state = State::new(8, ShardLimits::default(), 0);
        let token =
            Token { hash: TokenHash::of("t"), user: "u".into(), binding: [7; 32], created_ms: 1, expires_ms: 2 };
        let room = RoomName::parse("lobby").unwrap();
        let (user, max_of_user) = ("u", 8);
        for change in [
            Change::AddToken { token: token.clone(), max_of_user },
            Change::AddUserRoom { user: user.into(), room: room.clone() },
            Change::ForgetRoom(room.clone()),
            Change::RemoveToken(token.hash),
        ] {
            assert_eq!(state.apply(&change, &mut |_| {}).unwrap().count(), Some(1));
        }
        assert_eq!((state.users.len(), state.tokens.len()), (0, 0));
    }

    #[test]
    fn a_user_is_in_at_most_as_many_rooms_as_are_kept() {
        let mut state = State::new(1, ShardLimits::default(), 0);
        let mut add = |name: &str| {
            let room = RoomName::parse(name).unwrap();
            state.apply(&Change::AddUserRoom { user: "u".into(), room }, &mut |_| {}).ok().and_then(Outcome::count)
        };
        assert_eq!((add("a"), add("b"), add("a")), (Some(1), None, Some(0)));
    }
}
