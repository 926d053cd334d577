//! Checking passwords.
//!
//! As soon as one user has a hash, every attempt costs the check of one, for those with a plain password and for those who
//! do not exist too, so that times tell nobody who is who. Checks run on threads of their own, few at a time.

use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ring::hmac;
use ring::rand::SystemRandom;
use thiserror::Error;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use crate::config::{DdpServer, Password};
use crate::failures::Failures;
use crate::op::OnThread;
use crate::password::{PasswordDigest, PasswordHash};
use crate::proto::call::{PasswordProof, Who};
use crate::proto::face::Remote;
use crate::proto::time::Now;

use super::pace::{Pace, Shares};
use super::{Account, Users};

/// Why somebody is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Refusal {
    /// As many checks of passwords wait as may, in all or from this address (`servers.ddp.password_checks_waiting`).
    #[error("too many checks of passwords wait")]
    Busy,
    /// The password is right, and the user is switched off.
    #[error("the user is not active")]
    Inactive,
    /// Nobody has this id or name.
    #[error("no such user")]
    NoSuchUser,
    /// The attempt was wrong, and so were too many before it from this address (`servers.ddp.max_failed_logins`).
    #[error("too many failed logins from this address")]
    TooManyAttempts {
        /// Milliseconds until the next attempt makes sense.
        retry_ms: u64,
    },
    /// The same, and as many refusals of this address wait as may. This one did not wait, so the connection should be
    /// closed: the next guess then costs a new one.
    #[error("too many failed logins from this address at once")]
    TooManyAtOnce {
        /// Milliseconds until the next attempt makes sense.
        retry_ms: u64,
    },
    /// The check could not be done: no memory, or the server is about to end.
    #[error("passwords cannot be checked now")]
    Unavailable,
    /// The password is wrong.
    #[error("wrong password")]
    WrongPassword,
}

/// What a password is checked by.
pub(super) enum Stored {
    Hash(PasswordHash),
    /// The keyed hash of the password's digest, under a key that this start has drawn.
    Plain(hmac::Tag),
}

/// What all checks have in common.
pub(super) struct Gate {
    key: hmac::Key,
    /// The costliest hash that somebody has: what is checked, for nothing, for those who have none.
    decoy: Option<PasswordHash>,
    failures: Failures,
    /// When addresses that failed too often are refused again.
    pace: Pace,
    /// One address must not take all places.
    shares: Shares<IpAddr>,
    /// An address that has one right password must not use it for all places.
    names: Shares<(IpAddr, u64)>,
    /// For those that run or wait.
    places: Arc<Semaphore>,
    /// For those that run.
    turns: Arc<Semaphore>,
    hash_checks: AtomicU64,
    /// Names may be long, and need not be those of users.
    names_key: RandomState,
}

impl Gate {
    /// Time in which failed logins of one address are counted together.
    const WINDOW: Duration = Duration::from_secs(60);

    /// An address gets this part of the places, so it takes 8 addresses to fill them.
    const ADDRESSES: usize = 8;

    /// Checks of one user's password that an address may have running or waiting. Further ones wait for those.
    const TURNS_OF_A_NAME: usize = 2;

    pub(super) fn new(settings: &DdpServer) -> io::Result<Self> {
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new());
        let (running, waiting) = (settings.password_checks_max, settings.password_checks_waiting);
        let places = running.saturating_add(waiting).min(Semaphore::MAX_PERMITS);
        Ok(Self {
            key: key.map_err(|_| io::Error::other("the system gives no random bytes"))?,
            decoy: None,
            failures: Failures::new(settings.max_failed_logins, Self::WINDOW),
            pace: Pace::new(settings.failed_login_pause),
            shares: Shares::new(places.div_ceil(Self::ADDRESSES).max(Self::TURNS_OF_A_NAME), 1),
            names: Shares::new(usize::MAX, Self::TURNS_OF_A_NAME),
            places: Arc::new(Semaphore::new(places)),
            turns: Arc::new(Semaphore::new(running.min(Semaphore::MAX_PERMITS))),
            hash_checks: AtomicU64::new(0),
            names_key: RandomState::new(),
        })
    }

    /// Makes of a password what it will be checked by.
    pub(super) fn take_over(&mut self, password: &Password) -> Result<Stored, &'static str> {
        match password {
            Password::Plain(plain) => {
                Ok(Stored::Plain(hmac::sign(&self.key, PasswordDigest::of(plain.reveal()).as_bytes())))
            }
            Password::Hash(text) => {
                let hash = PasswordHash::parse(text.reveal()).map_err(|_| "password_hash cannot be used")?;
                if self.decoy.as_ref().is_none_or(|decoy| decoy.cost() < hash.cost()) {
                    self.decoy = Some(hash.clone());
                }
                Ok(Stored::Hash(hash))
            }
        }
    }

    /// A number that is the same however a client names a user.
    fn hash_of_name(&self, who: &Who, account: Option<&Account>) -> u64 {
        let (Who::Id(text) | Who::Name(text)) = who;
        match account {
            Some(account) => self.names_key.hash_one(account.user().id()),
            None => self.names_key.hash_one(text.to_lowercase()),
        }
    }

    /// Returns whether an address has failed too often.
    fn is_over(&self, from: Remote, now_ms: u64) -> bool {
        self.failures.retry_ms(address(from), now_ms).is_some()
    }

    /// Counts a wrong attempt. If too many came before it from its address, this waits until it may be answered and returns
    /// the answer. `many` is logged when the limit is reached.
    async fn note_failure(&self, from: Remote, now_ms: u64, many: &'static str) -> Option<Refusal> {
        let is_over = self.is_over(from, now_ms);
        if self.failures.note(address(from), now_ms) {
            tracing::warn!(remote = %from, "{many}");
        }
        if is_over { Some(self.refuse_slowly(from, now_ms).await) } else { None }
    }

    /// Waits until a wrong attempt of an address that has failed too often may be answered, and returns the answer.
    async fn refuse_slowly(&self, from: Remote, now_ms: u64) -> Refusal {
        let retry_ms = self.failures.retry_ms(address(from), now_ms).unwrap_or(1);
        if self.pace.turn(Failures::network(address(from)), now_ms).await {
            Refusal::TooManyAttempts { retry_ms }
        } else {
            Refusal::TooManyAtOnce { retry_ms }
        }
    }

    /// Returns whether this is the password of that account. Costs the same without an account.
    async fn is_right(
        &self,
        account: Option<&Account>,
        digest: Option<PasswordDigest>,
        of_address: Option<OwnedSemaphorePermit>,
    ) -> Result<bool, Refusal> {
        let can_be_right = account.is_some() && digest.is_some();
        let digest = digest.unwrap_or_else(|| PasswordDigest::of(""));
        let stored = account.map(|account| &account.0.stored);
        let is_plain = match stored {
            Some(Stored::Plain(tag)) => hmac::verify(&self.key, digest.as_bytes(), tag.as_ref()).is_ok(),
            Some(Stored::Hash(_)) | None => {
                // For its time alone.
                let _ = hmac::verify(&self.key, digest.as_bytes(), &[0; 32]);
                false
            }
        };
        let (hash, is_decoy) = match (stored, &self.decoy) {
            (Some(Stored::Hash(hash)), _) => (hash.clone(), false),
            (_, Some(decoy)) => (decoy.clone(), true),
            (_, None) => return Ok(can_be_right && is_plain),
        };
        let place = Arc::clone(&self.places).try_acquire_owned().map_err(|_| Refusal::Busy)?;
        let turn = Arc::clone(&self.turns).acquire_owned().await.map_err(|_| Refusal::Unavailable)?;
        self.hash_checks.fetch_add(1, Ordering::Relaxed);
        let check = OnThread::new(&Handle::current(), move || {
            // The thread keeps them until it is done, even if the caller no longer waits.
            let _taken = (place, turn, of_address);
            hash.is_of(&digest)
        });
        match check.await {
            Ok(Ok(is_of)) => Ok(can_be_right && if is_decoy { is_plain } else { is_of }),
            Ok(Err(_)) | Err(_) => Err(Refusal::Unavailable),
        }
    }
}

impl Users {
    /// Checks a password. It takes the same time for a user who does not exist, unless the hashes of users differ in cost.
    ///
    /// Wrong attempts of an address are counted on `now`'s monotonic clock; all Unix sockets are one address. Beyond the
    /// limit its passwords are checked one at a time, and the answers to wrong ones are delayed
    /// (`servers.ddp.failed_login_pause`). A right password is not. To be awaited in a runtime with a clock.
    ///
    /// # Errors
    ///
    /// [`Refusal`]. That somebody is switched off is told to whoever knows his password, nobody else.
    pub async fn verify(&self, who: &Who, proof: &PasswordProof, from: Remote, now: Now) -> Result<Account, Refusal> {
        let gate = &self.0.gate;
        let account = match who {
            Who::Id(id) => self.by_id(id),
            Who::Name(name) => self.by_login_name(name),
        };
        let digest = match proof {
            PasswordProof::Plain(password) => Some(PasswordDigest::of(password)),
            PasswordProof::Digest(hex) => PasswordDigest::from_hex(hex),
        };
        // An attempt may wait for long, and others of its address may fail before it is checked.
        let begun = Instant::now();
        let now_ms = || now.monotonic_ms + u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        let network = Failures::network(address(from));
        let is_right = {
            let share = gate.shares.take(network).ok_or(Refusal::Busy)?;
            let name = gate.names.take((network, gate.hash_of_name(who, account))).ok_or(Refusal::Busy)?;
            let mut turn = None;
            if !gate.is_over(from, now_ms()) {
                turn = name.turn().await;
            }
            // Else an address that only guesses could keep all processors busy. It waits in one line only, so that a right
            // password waits for each attempt before it once.
            if gate.is_over(from, now_ms()) {
                drop(turn);
                turn = share.turn().await;
            }
            gate.is_right(account, digest, turn).await?
        };
        match account {
            Some(account) if is_right && account.is_active() => Ok(account.clone()),
            Some(_) if is_right => Err(Refusal::Inactive),
            account => {
                let refusal = gate.note_failure(from, now_ms(), "many logins with a wrong name or password").await;
                let wrong = if account.is_some() { Refusal::WrongPassword } else { Refusal::NoSuchUser };
                Err(refusal.unwrap_or(wrong))
            }
        }
    }

    /// Counts wrong credentials of an application, as a wrong password of a user is counted. If too many came before from
    /// the same address, this waits until they may be answered and returns the answer.
    pub(crate) async fn note_wrong_credentials(&self, from: Remote, now_ms: u64) -> Option<Refusal> {
        let many = "many requests with wrong credentials of gateway applications";
        self.0.gate.note_failure(from, now_ms, many).await
    }

    /// Checks of hashes so far, those for nothing included.
    pub fn hash_checks(&self) -> u64 {
        self.0.gate.hash_checks.load(Ordering::Relaxed)
    }
}

/// What attempts are counted by. No connection over IP comes from the unspecified address.
fn address(from: Remote) -> IpAddr {
    match from {
        Remote::Ip(address, _) => address,
        Remote::Unix | Remote::Nowhere => Ipv6Addr::UNSPECIFIED.into(),
    }
}
