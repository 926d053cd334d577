//! Who a connection is: log-in with a password or a token, and log-out.

use switchboard_proto::call::{Answer, CallError, Credentials, LoggedIn, LoginMethod, LoginRefusal, Outcome};

use crate::backend::sessions::{Token, TokenHash};
use crate::users::{Account, LoginToken, Refusal};
use crate::worker::calls::Caller;

use super::Node;
use super::chat::unavailable;
use super::cluster::users::Question;
use super::profile::Login;

/// The result of [`Node::revoke_tokens`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RevokedLogins {
    /// Tokens that are revoked.
    pub tokens: usize,
    /// Connections that end.
    pub connections: usize,
}

impl Node {
    /// Says who a connection is. With an error it stays who it was.
    pub(super) async fn log_in(&self, caller: Caller, credentials: Credentials) -> Outcome {
        let method = match credentials {
            Credentials::Password { .. } => LoginMethod::Password,
            Credentials::Resume { .. } => LoginMethod::Resume,
        };
        let (account, text, token) = match credentials {
            Credentials::Password { who, proof } => {
                let checked = self.0.users.verify(&who, &proof, caller.facts.remote, caller.now).await;
                let account = checked.map_err(|refusal| self.refused(refusal))?;
                let (text, token) = self.new_token(&account).await?;
                (account, text, token)
            }
            Credentials::Resume { token: text } => {
                let token = self.kept_token(&text).await?;
                let account = self.0.users.by_id(&token.user).cloned().ok_or(LoginRefusal::UnknownToken)?;
                if !account.has_bound(&text, &token.binding) {
                    // Else it would be valid again when the old password comes back.
                    self.0.sessions.remove_token(&token.hash).await.map_err(unavailable)?;
                    self.tell_revoked(&token.hash).await;
                    return Err(LoginRefusal::UnknownToken.into());
                }
                if !account.is_active() {
                    return Err(LoginRefusal::Inactive.into());
                }
                (account, text, token)
            }
        };
        let user = account.user().clone();
        let before = self.0.registry.user(caller.facts.id);
        if before.as_ref().is_some_and(|before| before.id() != user.id()) {
            // Nobody in between: his other sessions must not put this one into a room of his once it has left them.
            self.0.registry.log_out(caller.facts.id);
            // Nor does it take commands for the next one: it has not subscribed to his.
            self.part_from_command_user(caller.facts.id);
            self.leave_rooms(caller.address).await?;
        }
        let login = Login { token: Some(token.hash), state: account.state().to_vec() };
        self.0.registry.log_in(caller.facts.id, user.clone(), login).map_err(|_| CallError::NoSuchConnection)?;
        self.note_command_user(caller.facts.id);
        self.enter_rooms_of(&user, caller.address).await?;
        Ok(Answer::LoggedIn(LoggedIn { user, token: text, expires_ms: token.expires_ms, method }))
    }

    /// Nobody from now on; the token that was used is worth nothing any more.
    pub(super) async fn log_out(&self, caller: Caller) -> Outcome {
        // Before all else, because whoever says goodbye may be gone before the rest is done.
        if let Some(token) = self.0.registry.login_token(caller.facts.id) {
            self.0.sessions.remove_token(&token).await.map_err(unavailable)?;
            self.tell_revoked(&token).await;
        }
        self.0.registry.log_out(caller.facts.id);
        self.part_from_command_user(caller.facts.id);
        self.leave_rooms(caller.address).await?;
        Ok(Answer::LoggedOut)
    }

    /// Ends all logins of a user: revokes the tokens, and ends the connections of all nodes that logged in with one.
    ///
    /// # Errors
    ///
    /// [`CallError::NoSuchUser`] for a user that is not configured; [`CallError::Unavailable`], after which some tokens
    /// may be revoked.
    pub async fn revoke_tokens(&self, user: &str) -> Result<RevokedLogins, CallError> {
        let account = self.0.users.by_id(user).ok_or(CallError::NoSuchUser)?;
        let (node, user) = (self.clone(), account.user().clone());
        self.to_the_end(async move { node.end_logins(user.id(), None).await }).await
    }

    /// Ends all logins of the caller's user but its own, which gets another token.
    pub(super) async fn log_out_others(&self, caller: Caller) -> Outcome {
        let user = self.0.registry.user(caller.facts.id).ok_or(CallError::NotLoggedIn)?;
        let account = self.0.users.by_id(user.id()).ok_or(CallError::NotLoggedIn)?;
        let (text, token) = self.new_token(account).await?;
        self.0.registry.change_login_token(caller.facts.id, token.hash);
        self.end_logins(user.id(), Some(token.hash)).await?;
        let login = LoggedIn { user, token: text, expires_ms: token.expires_ms, method: LoginMethod::Resume };
        Ok(Answer::OthersLoggedOut(login))
    }

    async fn end_logins(&self, user: &str, kept: Option<TokenHash>) -> Result<RevokedLogins, CallError> {
        let mut revoked = RevokedLogins::default();
        for token in self.0.sessions.tokens_of(user).await.map_err(unavailable)? {
            if Some(token) != kept {
                revoked.tokens += usize::from(self.0.sessions.remove_token(&token).await.map_err(unavailable)?);
                self.tell_revoked(&token).await;
            }
        }
        // Tokens are gone first, so a connection that is ended cannot return with its token.
        let question = Question::LoggedOut { user: user.to_owned(), kept: kept.map(|token| *token.as_bytes()) };
        let (here, others) = tokio::join!(self.end_logins_here(user, kept), self.tell_others::<usize>(question));
        revoked.connections = here + others.into_iter().sum::<usize>();
        Ok(revoked)
    }

    /// Ends the connections of this node that logged in as this user with another token. Returns how many.
    pub(super) async fn end_logins_here(&self, user: &str, kept: Option<TokenHash>) -> usize {
        let mut ended = 0;
        for id in self.0.registry.connections_of(user) {
            let token = self.0.registry.login_token(id);
            if token.is_some() && token != kept && self.disconnect_here(id).await.is_ok() {
                ended += 1;
            }
        }
        ended
    }

    async fn new_token(&self, account: &Account) -> Result<(String, Token), CallError> {
        let made = LoginToken::generate().map_err(|error| {
            tracing::error!(%error, "no token could be made");
            CallError::Unavailable
        })?;
        let now_ms = self.0.sessions.time().await.map_err(unavailable)?;
        let settings = &self.0.settings;
        let life_ms = u64::try_from(settings.token_life.as_millis()).unwrap_or(u64::MAX);
        let expires_ms = if life_ms == 0 { LONGEST_MS } else { now_ms.saturating_add(life_ms).min(LONGEST_MS) };
        let user = account.user().id().to_owned();
        let (hash, binding) = (TokenHash::of(made.text()), account.bind(made.text()));
        let token = Token { hash, user, binding, created_ms: now_ms, expires_ms };
        let kept = self.0.sessions.add_token(token.clone(), settings.max_tokens_per_user).await;
        kept.map_err(unavailable)?;
        Ok((made.text().to_owned(), token))
    }

    async fn kept_token(&self, text: &str) -> Result<Token, CallError> {
        let token = self.0.sessions.token(&TokenHash::of(text)).await.map_err(unavailable)?;
        let token = token.ok_or(LoginRefusal::UnknownToken)?;
        if token.expires_ms <= self.0.sessions.time().await.map_err(unavailable)? {
            return Err(LoginRefusal::ExpiredToken.into());
        }
        Ok(token)
    }

    fn refused(&self, refusal: Refusal) -> CallError {
        let unclear = self.0.settings.ambiguous_login_errors;
        match refusal {
            Refusal::NoSuchUser | Refusal::WrongPassword if unclear => LoginRefusal::Unclear.into(),
            Refusal::NoSuchUser => LoginRefusal::NoSuchUser.into(),
            Refusal::WrongPassword => LoginRefusal::WrongPassword.into(),
            Refusal::Inactive => LoginRefusal::Inactive.into(),
            Refusal::TooManyAtOnce { retry_ms } => LoginRefusal::TooManyAtOnce { retry_ms }.into(),
            Refusal::TooManyAttempts { retry_ms } => CallError::TooManyRequests { retry_ms },
            Refusal::Busy => CallError::TooManyRequests { retry_ms: 1000 },
            Refusal::Unavailable => CallError::Unavailable,
        }
    }

    /// Forgets tokens that expired long ago, once a day, for as long as there is a node.
    pub(super) fn keep_tokens_clean(&self) {
        let inner = std::sync::Arc::downgrade(&self.0);
        self.spawn(Box::pin(async move {
            let mut days = tokio::time::interval(DAY);
            loop {
                days.tick().await;
                let Some(node) = inner.upgrade().map(Node) else { return };
                let dropped = async {
                    let now_ms = node.0.sessions.time().await?;
                    node.0.sessions.drop_expired(now_ms).await
                };
                if let Err(error) = dropped.await {
                    tracing::warn!(%error, "dropping expired tokens failed; retrying in a day");
                }
            }
        }));
    }
}

const DAY: std::time::Duration = std::time::Duration::from_secs(24 * 3600);

/// The last moment that a date of JavaScript can hold, in milliseconds since 1970: tokens that never expire do so then.
const LONGEST_MS: u64 = 8_640_000_000_000_000;
