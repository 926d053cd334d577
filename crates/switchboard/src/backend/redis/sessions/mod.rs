//! What outlives a connection of a user, in Redis, for all nodes.
//!
//! - `users`: tokens, rooms of users, clocks of commands.
//! - `shards`: sessions of bots' shards; `logs`: their events; `lanes`: appends to one log in their order.
//! - `answers`: what Redis answers about sessions, read with distrust.
//! - `revoked`: tokens that must stay revoked when the store loses writes.
//! - `scripts`: the steps.
//!
//! docs/internals/sessions.md has the keys.

mod answers;
mod lanes;
mod logs;
mod revoked;
mod scripts;
mod shards;
#[cfg(test)]
mod tests;
mod users;

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};

use redis::{ToRedisArgs, Value};
use switchboard_proto::id::{ConnId, RoomName};
use tokio::runtime::Handle;

use super::script::Script;
use super::store::{Answered, Store};
use crate::backend::BackendError;
use crate::backend::sessions::shards::ShardLimits;
use crate::backend::sessions::{SessionStore, Token, TokenHash};
use crate::op::{BoxFuture, Op};
use lanes::Lanes;
use revoked::Revoked;

const DAY_MS: u64 = 24 * 3600 * 1000;

/// The largest whole number that scripts can tell from the next.
const MAX_NUMBER: u64 = (1 << 53) - 1;

/// More of anything than there is, as a number that scripts can read.
const MANY: usize = u32::MAX as usize;

/// A step that has no arguments.
const NOTHING: &[&str] = &[];

/// For how many sessions it is remembered whose they are. Beyond it all are forgotten, and looked up again.
const MAX_KNOWN: usize = 65_536;

/// How a node is told that the log of a session grew which it carries.
#[derive(Clone, Debug, Default)]
pub(crate) struct Notify {
    /// Whether scripts tell it, in the step that appends. If not, whoever published does, from the deliveries.
    pub(crate) in_script: bool,
    /// With the node's number behind it, the name of its channel. The message is `g`, the session as 32 hexadecimal digits, a space, the
    /// number of the event, a space, its bytes.
    pub(crate) channel_prefix: String,
}

/// Which clock times of sessions come from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    is_of_caller: bool,
}

impl Clock {
    /// That of Redis: all nodes share it, so their own clocks may differ.
    pub(crate) const STORE: Self = Self { is_of_caller: false };
    /// That of the caller, which tests step.
    #[cfg(test)]
    pub(crate) const CALLER: Self = Self { is_of_caller: true };
}

/// Keeps everything in Redis, for all nodes that use the same prefix. Cloning shares it.
///
/// Times that callers give count as said by [`Clock`].
/// An operation begins when it is asked for, in the order of the calls as far as the connection keeps it, and goes on whether or not
/// anybody waits. What changes something is refused while this node may be dead for the others.
#[derive(Clone)]
pub(crate) struct RedisSessions(Arc<Inner>);

struct Inner {
    store: Store,
    max_user_rooms: usize,
    limits: ShardLimits,
    applications: Vec<Arc<str>>,
    notify: Notify,
    clock: Clock,
    runtime: Handle,
    /// Whose sessions these are: that never changes.
    known: Mutex<HashMap<ConnId, Arc<str>>>,
    lanes: Lanes,
    revoked: Mutex<Revoked>,
    /// When it was made sure last that each session is found by its id alone, by the caller's time.
    remembered_ms: Mutex<Option<u64>>,
}

impl fmt::Debug for RedisSessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisSessions").field("store", &self.0.store).finish_non_exhaustive()
    }
}

impl RedisSessions {
    /// What is kept in this store. Of one user, and of one session of a shard, at most `max_user_rooms` rooms are kept; all sessions
    /// are looked for among those of these `applications`. To be called in the context of the runtime on which operations run.
    pub(crate) fn new(
        store: Store,
        max_user_rooms: usize,
        limits: ShardLimits,
        applications: Vec<Arc<str>>,
        notify: Notify,
        clock: Clock,
    ) -> Self {
        Self(Arc::new(Inner {
            store,
            max_user_rooms,
            limits,
            applications,
            notify,
            clock,
            runtime: Handle::current(),
            known: Mutex::default(),
            lanes: Lanes::default(),
            revoked: Mutex::default(),
            remembered_ms: Mutex::default(),
        }))
    }

    /// Begins something now, and has it go on even if nobody waits for it.
    fn go<T: Send + 'static>(
        &self,
        future: impl Future<Output = Result<T, BackendError>> + Send + 'static,
    ) -> Op<Result<T, BackendError>> {
        let _context = self.0.runtime.enter();
        match Op::start(future, |panic| Err(BackendError(panic.0))) {
            Op::Ready(result) => Op::Ready(result),
            Op::Wait(future) => {
                let task = self.0.runtime.spawn(future);
                Op::Wait(Box::pin(
                    async move { task.await.unwrap_or_else(|error| Err(BackendError(error.to_string()))) },
                ))
            }
        }
    }

    /// [`RedisSessions::go`] with what needs the store itself.
    fn with<T: Send + 'static, F: Future<Output = Result<T, BackendError>> + Send + 'static>(
        &self,
        body: impl FnOnce(Self) -> F,
    ) -> Op<Result<T, BackendError>> {
        self.go(body(self.clone()))
    }

    /// Runs a step on one key.
    fn change_one(
        &self,
        script: &'static Script,
        key: &str,
        arguments: impl ToRedisArgs,
    ) -> BoxFuture<'static, Result<Value, BackendError>> {
        self.0.store.change(script, &[key], |step| {
            step.arg(arguments);
        })
    }

    /// Runs a step whose answer is a number.
    async fn count(
        &self,
        script: &'static Script,
        key: &str,
        arguments: impl ToRedisArgs + Send,
    ) -> Result<i64, BackendError> {
        match self.change_one(script, key, arguments).await? {
            Value::Int(count) => Ok(count),
            other => Err(self.0.store.odd("a number", &other)),
        }
    }

    /// A list of texts. What is none is counted and left out.
    fn texts<'a>(&self, what: &str, answer: &'a Value) -> Result<Vec<&'a str>, BackendError> {
        let list = answer.list().ok_or_else(|| self.0.store.odd(what, answer))?;
        Ok(list.iter().filter_map(|value| self.counted(what, value, value.text())).collect())
    }

    /// What was read of `value`. Nothing: it is not ours, which is counted.
    fn counted<T>(&self, what: &str, value: &Value, read: Option<T>) -> Option<T> {
        if read.is_none() {
            drop(self.0.store.odd(what, value));
        }
        read
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // Nothing under these locks can panic half way.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Bytes as digits.
fn hex(bytes: &[u8]) -> String {
    use fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing into a text cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

impl SessionStore for RedisSessions {
    fn add_token(&self, token: Token, max_tokens_per_user: usize) -> Op<Result<(), BackendError>> {
        lock(&self.0.revoked).forget(&token.hash);
        self.with(|sessions| async move { sessions.keep_token(&token, max_tokens_per_user).await })
    }

    fn token(&self, hash: &TokenHash) -> Op<Result<Option<Token>, BackendError>> {
        let hash = *hash;
        self.with(|sessions| async move { sessions.find_token(&hash).await })
    }

    fn tokens_of(&self, user: &str) -> Op<Result<Vec<TokenHash>, BackendError>> {
        let user = user.to_owned();
        self.with(|sessions| async move { sessions.tokens_of_user(&user).await })
    }

    fn remove_token(&self, hash: &TokenHash) -> Op<Result<bool, BackendError>> {
        let hash = *hash;
        // Refused here from now on, whether or not the store keeps what it is about to confirm.
        lock(&self.0.revoked).note(hash);
        self.with(|sessions| async move { sessions.forget_token(&hash).await })
    }

    fn note_revoked(&self, hash: &TokenHash) {
        lock(&self.0.revoked).note(*hash);
    }

    fn revoke_again(&self) -> Op<Result<(), BackendError>> {
        let revoked = lock(&self.0.revoked).all();
        self.with(|sessions| async move { sessions.forget_tokens(&revoked).await })
    }

    fn drop_expired(&self, now_ms: u64) -> Op<Result<usize, BackendError>> {
        self.with(|sessions| async move { sessions.forget_expired(now_ms).await })
    }

    fn add_user_room(&self, user: &str, room: &RoomName) -> Op<Result<bool, BackendError>> {
        let (user, room) = (user.to_owned(), room.clone());
        self.with(|sessions| async move { sessions.join(&user, &room).await })
    }

    fn remove_user_room(&self, user: &str, room: &RoomName) -> Op<Result<bool, BackendError>> {
        let (user, room) = (user.to_owned(), room.clone());
        self.with(|sessions| async move { sessions.leave(&user, &room).await })
    }

    fn user_rooms(&self, user: &str) -> Op<Result<Vec<RoomName>, BackendError>> {
        let user = user.to_owned();
        self.with(|sessions| async move { sessions.rooms_of_user(&user).await })
    }

    fn forget_room(&self, room: &RoomName) -> Op<Result<(), BackendError>> {
        let room = room.clone();
        self.with(|sessions| async move {
            sessions.evict_users(&room).await?;
            sessions.evict_shards(&room).await
        })
    }

    fn next_command_time(&self, who: &str, now_ms: u64) -> Op<Result<u64, BackendError>> {
        let who = who.to_owned();
        self.with(|sessions| async move { sessions.tick(&who, now_ms).await })
    }

    fn forget_clock(&self, who: &str) {
        let key = self.0.store.keys.user(who, "clock");
        // One that is left goes by itself.
        drop(self.with(|sessions| async move { sessions.change_one(&scripts::DELETE, &key, NOTHING).await }));
    }

    fn time(&self) -> Op<Result<u64, BackendError>> {
        self.with(|sessions| async move { sessions.store_time().await })
    }

    fn survives_restart(&self) -> bool {
        true
    }
}
