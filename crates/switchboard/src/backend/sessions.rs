//! What outlives a connection of a user: tokens, rooms and the clock of commands ([`SessionStore`]).
//!
//! - `state`: what is kept, as plain data, and every change to it.
//! - `clocks`: times that rise.
//! - [`shards`]: sessions of bots' shards and their logs; `kept`: how the stores here serve them.
//! - [`memory`]: all of it for the life of the process. The store that outlives it is [`super::file`].

mod clocks;
mod kept;
pub mod memory;
pub mod shards;
mod state;

use std::fmt;

use ring::digest::{SHA256, digest};
use switchboard_proto::id::RoomName;

use super::BackendError;
use crate::clock;
use crate::op::Op;

pub use shards::ShardStore;

pub(super) use clocks::{AboveCeiling, Clocks};
pub(super) use kept::{Kept, mismatch};
pub(super) use state::*;

/// Keeps tokens, the rooms of users, and the clock of commands.
///
/// Guarantees: changes are made in the order of the calls; what is ready has been made, every later call of anybody sees it,
/// and it survives what the store promises to survive ([`SessionStore::survives_restart`]). A change that has begun is made
/// whether or not anybody still waits for it. One that failed may have been made or not. Of each user as much is kept as the
/// limits say; how many users there are is up to who lets them log in.
pub trait SessionStore: shards::ShardStore {
    /// Keeps a token. Of one user at most `max_tokens_per_user` are kept: the oldest go.
    fn add_token(&self, token: Token, max_tokens_per_user: usize) -> Op<Result<(), BackendError>>;

    /// A token; one that has expired too, until [`SessionStore::drop_expired`] drops it.
    fn token(&self, hash: &TokenHash) -> Op<Result<Option<Token>, BackendError>>;

    /// The tokens of a user, the oldest first.
    fn tokens_of(&self, user: &str) -> Op<Result<Vec<TokenHash>, BackendError>>;

    /// Forgets a token. `false`: there was none.
    fn remove_token(&self, hash: &TokenHash) -> Op<Result<bool, BackendError>>;

    /// Notes that another node has revoked a token, for [`SessionStore::revoke_again`]. A store that loses nothing
    /// ignores it.
    fn note_revoked(&self, _hash: &TokenHash) {}

    /// The store may have lost what it had confirmed: revokes again all tokens that were revoked here or noted as revoked.
    fn revoke_again(&self) -> Op<Result<(), BackendError>> {
        Op::Ready(Ok(()))
    }

    /// Forgets all tokens that expired more than a day before `now_ms`, and says how many there were.
    fn drop_expired(&self, now_ms: u64) -> Op<Result<usize, BackendError>>;

    /// Notes that a user is in a room. `false`: it was known.
    ///
    /// Fails when the user is in as many rooms as are kept (`limits.max_rooms_per_connection`).
    fn add_user_room(&self, user: &str, room: &RoomName) -> Op<Result<bool, BackendError>>;

    /// Notes that a user is not in a room any more. `false`: it was known.
    fn remove_user_room(&self, user: &str, room: &RoomName) -> Op<Result<bool, BackendError>>;

    /// The rooms of a user in the order of joining.
    fn user_rooms(&self, user: &str) -> Op<Result<Vec<RoomName>, BackendError>>;

    /// Notes that nobody is in a room any more, because it was destroyed.
    fn forget_room(&self, room: &RoomName) -> Op<Result<(), BackendError>>;

    /// A time in milliseconds since 1970, later than every one given before to `who`, a user or the connection of a guest,
    /// and not before `now_ms`.
    fn next_command_time(&self, who: &str, now_ms: u64) -> Op<Result<u64, BackendError>>;

    /// Forgets the clock of `who`: that of a guest whose connection has ended.
    fn forget_clock(&self, who: &str);

    /// The time by which tokens are made and expire, in milliseconds since 1970. Nodes that share a store share this clock.
    fn time(&self) -> Op<Result<u64, BackendError>> {
        Op::Ready(Ok(clock::unix_ms()))
    }

    /// Whether all of this is there again after the process was killed.
    fn survives_restart(&self) -> bool;

    /// Ends the store as planned. When this is ready, what was asked before is done and another process may open the store;
    /// changes fail from then on.
    fn close(&self) -> Op<()> {
        Op::Ready(())
    }
}

/// The SHA-256 of a token, as which it is kept: who reads the store cannot log in with what is there.
///
/// Hashes are compared as any other bytes. The time that takes tells at most how a hash begins, and nobody can make a token
/// to a given hash.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TokenHash([u8; 32]);

impl TokenHash {
    /// The hash of what a client sends.
    pub fn of(token: &str) -> Self {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest(&SHA256, token.as_bytes()).as_ref());
        Self(bytes)
    }

    /// A hash that was kept.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, ..] = self.0;
        write!(f, "TokenHash({a:02x}{b:02x}{c:02x}…)")
    }
}

/// What lets a user come back without a password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// Of the text that the client has.
    pub hash: TokenHash,
    /// Whose it is: the user's id.
    pub user: String,
    /// Ties it to the name and password that the user had when it was made, so that it ends when either changes: see
    /// [`Account::bind`](crate::users::Account::bind).
    pub binding: [u8; 32],
    /// When it was made, in milliseconds since 1970.
    pub created_ms: u64,
    /// Until when it is valid, in milliseconds since 1970.
    pub expires_ms: u64,
}

/// How many clocks of commands are kept, one for each user that ran a command and each guest that runs one.
///
/// Beyond it whoever has none takes times of one clock that they share. It rises as well, only further ahead of the real time when
/// thousands of them run more than one command in a millisecond.
pub(super) const MAX_CLOCKS: usize = 65_536;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_kept_as_its_sha_256() {
        let hash = TokenHash::of("abc");
        assert_eq!(hash.as_bytes()[..4], [0xba, 0x78, 0x16, 0xbf]);
        assert_eq!(TokenHash::from_bytes(*hash.as_bytes()), hash);
        assert_ne!(TokenHash::of("abd"), hash);
        assert_eq!(format!("{hash:?}"), "TokenHash(ba7816…)");
    }
}
