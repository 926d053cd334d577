//! Tokens, rooms of users, clocks of commands.
//!
//! What belongs to a token, a user, a room and all tokens is in different places of a Redis Cluster, so most of this takes several
//! steps. A crash between two of them leaves what nobody sees, and what goes in time:
//!
//! - A token is there if it is in its own key *and* among those of its user. It is added there last, and taken out there first.
//! - The index of expiries has every token, and perhaps others; whoever drops what expired looks at the token itself.
//! - The index of a room's users has every user that is in it, and perhaps others; whoever destroys the room asks each.

use redis::Value;
use switchboard_proto::id::RoomName;

use super::scripts::{ADD, CLOCK, DELETE, DISPLACE, PLACE, SET, TAKE, TIME, USER_ROOM, USER_TOKEN};
use super::{DAY_MS, MANY, MAX_NUMBER, NOTHING, RedisSessions, hex, lock};
use crate::backend::BackendError;
use crate::backend::redis::store::Answered;
use crate::backend::sessions::{Token, TokenHash};
use crate::hex as digits;

/// How many tokens, or users, are asked for at once.
const BATCH: usize = 100;

impl RedisSessions {
    fn token_key(&self, hash: &str) -> String {
        self.0.store.keys.single("t", hash)
    }

    fn expiries_key(&self) -> String {
        self.0.store.keys.single("tokens", "expiry")
    }

    fn tokens_key(&self, user: &str) -> String {
        self.0.store.keys.user(user, "tokens")
    }

    fn rooms_key(&self, user: &str) -> String {
        self.0.store.keys.user(user, "rooms")
    }

    fn users_key(&self, room: &RoomName) -> String {
        self.0.store.keys.room(room.as_str(), "users")
    }

    pub(super) async fn keep_token(&self, token: &Token, max_of_user: usize) -> Result<(), BackendError> {
        let hash = hex(token.hash.as_bytes());
        let expires_ms = token.expires_ms.min(MAX_NUMBER);
        // Whoever drops what expired comes a day after that.
        let lives_ms = expires_ms.saturating_sub(token.created_ms) + 2 * DAY_MS;
        self.change_one(&PLACE, &self.expiries_key(), (&hash, expires_ms)).await?;
        if let Some(before) = self.written_token(&token.hash).await?
            && before.user != token.user
        {
            self.count(&DISPLACE, &self.tokens_key(&before.user), &hash).await?;
        }
        let row = format!("{} {} {} {}", token.created_ms, token.expires_ms, hex(&token.binding), token.user);
        self.change_one(&SET, &self.token_key(&hash), (row, lives_ms)).await?;
        let arguments = (&hash, max_of_user.min(MANY), lives_ms);
        let too_many = self.change_one(&USER_TOKEN, &self.tokens_key(&token.user), arguments).await?;
        for oldest in self.texts("tokens of a user", &too_many)? {
            self.clear_token(oldest).await?;
        }
        Ok(())
    }

    /// The time of the server that has the index of expiries, which is the same one for all nodes.
    pub(super) async fn store_time(&self) -> Result<u64, BackendError> {
        let answer = self.0.store.link.run(&TIME, &[&self.expiries_key()], |_| {}).await?;
        answer.number().ok_or_else(|| self.0.store.odd("a time", &answer))
    }

    /// Takes away what is left of a token that is not among those of its user any more.
    async fn clear_token(&self, hash: &str) -> Result<(), BackendError> {
        self.change_one(&DELETE, &self.token_key(hash), NOTHING).await?;
        self.count(&DISPLACE, &self.expiries_key(), hash).await?;
        Ok(())
    }

    /// What is in the token's own key.
    async fn written_token(&self, hash: &TokenHash) -> Result<Option<Token>, BackendError> {
        let mut get = redis::cmd("GET");
        get.arg(self.token_key(&hex(hash.as_bytes())));
        let row = self.0.store.read(get).await?;
        if row == Value::Nil {
            return Ok(None);
        }
        Ok(self.counted("a token", &row, row.text().and_then(|text| read_token(*hash, text))))
    }

    pub(super) async fn find_token(&self, hash: &TokenHash) -> Result<Option<Token>, BackendError> {
        if lock(&self.0.revoked).contains(hash) {
            return Ok(None);
        }
        let Some(token) = self.written_token(hash).await? else { return Ok(None) };
        let mut score = redis::cmd("ZSCORE");
        score.arg(self.tokens_key(&token.user)).arg(hex(hash.as_bytes()));
        let is_of_user = self.0.store.read(score).await? != Value::Nil;
        Ok(is_of_user.then_some(token))
    }

    pub(super) async fn tokens_of_user(&self, user: &str) -> Result<Vec<TokenHash>, BackendError> {
        let mut all = redis::cmd("ZRANGE");
        all.arg(self.tokens_key(user)).arg(0).arg(-1);
        let answer = self.0.store.read(all).await?;
        let hashes = self.texts("tokens of a user", &answer)?;
        Ok(hashes.into_iter().filter_map(|text| digits::bytes(text).map(TokenHash::from_bytes)).collect())
    }

    pub(super) async fn forget_token(&self, hash: &TokenHash) -> Result<bool, BackendError> {
        let Some(token) = self.written_token(hash).await? else { return Ok(false) };
        let hash = hex(hash.as_bytes());
        let was_there = self.count(&DISPLACE, &self.tokens_key(&token.user), &hash).await? > 0;
        self.clear_token(&hash).await?;
        Ok(was_there)
    }

    /// Forgets all of these, a hundred at a time.
    pub(super) async fn forget_tokens(&self, hashes: &[TokenHash]) -> Result<(), BackendError> {
        for hashes in hashes.chunks(BATCH) {
            let forgetting: Vec<_> = hashes
                .iter()
                .copied()
                .map(|hash| self.with(|sessions| async move { sessions.forget_token(&hash).await }))
                .collect();
            for forgotten in forgetting {
                forgotten.await?;
            }
        }
        Ok(())
    }

    pub(super) async fn forget_expired(&self, now_ms: u64) -> Result<usize, BackendError> {
        let Some(expired_ms) = now_ms.checked_sub(DAY_MS + 1) else { return Ok(0) };
        let mut forgotten = 0;
        loop {
            let mut oldest = redis::cmd("ZRANGEBYSCORE");
            oldest.arg(self.expiries_key()).arg("-inf").arg(expired_ms.min(MAX_NUMBER)).arg("LIMIT").arg(0).arg(BATCH);
            let oldest = self.0.store.read(oldest).await?;
            let hashes = self.texts("tokens that expired", &oldest)?;
            if hashes.is_empty() {
                return Ok(forgotten);
            }
            for text in hashes {
                let is_token = match digits::bytes(text).map(TokenHash::from_bytes) {
                    Some(hash) => self.forget_token(&hash).await?,
                    None => false,
                };
                // Also what is no token leaves the index, or this would not end.
                self.count(&DISPLACE, &self.expiries_key(), text).await?;
                forgotten += usize::from(is_token);
            }
        }
    }

    pub(super) async fn join(&self, user: &str, room: &RoomName) -> Result<bool, BackendError> {
        self.change_one(&ADD, &self.users_key(room), user).await?;
        let arguments = (room.as_str(), self.0.max_user_rooms.min(MANY));
        match self.count(&USER_ROOM, &self.rooms_key(user), arguments).await? {
            0 => Ok(false),
            1 => {
                // Somebody who took the user out of the room meanwhile may have taken him out of the index too.
                self.change_one(&ADD, &self.users_key(room), user).await?;
                Ok(true)
            }
            _ => Err(BackendError(format!("of one user at most {} rooms are kept", self.0.max_user_rooms))),
        }
    }

    pub(super) async fn leave(&self, user: &str, room: &RoomName) -> Result<bool, BackendError> {
        let rooms = self.rooms_key(user);
        let was_known = self.count(&DISPLACE, &rooms, room.as_str()).await? > 0;
        if was_known {
            self.change_one(&TAKE, &self.users_key(room), user).await?;
            let mut score = redis::cmd("ZSCORE");
            score.arg(&rooms).arg(room.as_str());
            if self.0.store.read(score).await? != Value::Nil {
                // He has come back before he was out of the index.
                self.change_one(&ADD, &self.users_key(room), user).await?;
            }
        }
        Ok(was_known)
    }

    pub(super) async fn rooms_of_user(&self, user: &str) -> Result<Vec<RoomName>, BackendError> {
        let mut rooms = redis::cmd("ZRANGE");
        rooms.arg(self.rooms_key(user)).arg(0).arg(-1);
        let rooms = self.0.store.read(rooms).await?;
        let list = rooms.list().ok_or_else(|| self.0.store.odd("rooms of a user", &rooms))?;
        let named = |value: &Value| value.text().and_then(RoomName::restore);
        Ok(list.iter().filter_map(|value| self.counted("a room of a user", value, named(value))).collect())
    }

    pub(super) async fn evict_users(&self, room: &RoomName) -> Result<(), BackendError> {
        let index = self.users_key(room);
        loop {
            let mut some = redis::cmd("SRANDMEMBER");
            some.arg(&index).arg(BATCH);
            let some = self.0.store.read(some).await?;
            let users: Vec<&[u8]> = some.list().unwrap_or_default().iter().filter_map(Answered::bytes).collect();
            if users.is_empty() {
                return Ok(());
            }
            let leaving = users.iter().filter_map(|user| std::str::from_utf8(user).ok()).map(|user| {
                let (key, room) = (self.rooms_key(user), room.clone());
                self.with(|sessions| async move { sessions.count(&DISPLACE, &key, room.as_str()).await })
            });
            let leaving: Vec<_> = leaving.collect();
            for left in leaving {
                left.await?;
            }
            self.change_one(&TAKE, &index, &users).await?;
        }
    }

    pub(super) async fn tick(&self, who: &str, now_ms: u64) -> Result<u64, BackendError> {
        if now_ms > MAX_NUMBER {
            return Err(BackendError("the end of time was reached".into()));
        }
        let key = self.0.store.keys.user(who, "clock");
        // Whose time is over for a day starts from the present again, which is later: no two nodes' clocks differ so much.
        let answer = self.change_one(&CLOCK, &key, (now_ms, DAY_MS)).await?;
        answer.number().ok_or_else(|| self.0.store.odd("a time", &answer))
    }
}

/// What [`RedisSessions::keep_token`] wrote.
fn read_token(hash: TokenHash, row: &str) -> Option<Token> {
    let mut parts = row.splitn(4, ' ');
    let (created_ms, expires_ms) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    let binding = digits::bytes(parts.next()?)?;
    Some(Token { hash, user: parts.next()?.to_owned(), binding, created_ms, expires_ms })
}
