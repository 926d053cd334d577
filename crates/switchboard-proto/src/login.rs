//! How somebody says who he is, and what comes of it.

use std::fmt;

use thiserror::Error;

use crate::user::User;

/// How somebody says who he is.
#[derive(Clone, PartialEq, Eq)]
pub enum Credentials {
    /// A user and the proof that it is him.
    Password {
        /// Who.
        who: Who,
        /// Proof.
        proof: PasswordProof,
    },
    /// The token of an earlier log-in.
    Resume {
        /// Its text.
        token: String,
    },
}

/// Never shows what is secret.
impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Password { who, .. } => f.debug_struct("Password").field("who", who).finish_non_exhaustive(),
            Self::Resume { .. } => f.debug_struct("Resume").finish_non_exhaustive(),
        }
    }
}

/// Which user is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Who {
    /// By id.
    Id(String),
    /// By name.
    Name(String),
}

/// What proves that somebody is who he says.
#[derive(Clone, PartialEq, Eq)]
pub enum PasswordProof {
    /// The password itself.
    Plain(String),
    /// The hexadecimal SHA-256 of the password, in either case.
    Digest(String),
}

/// Never shows what is secret.
impl fmt::Debug for PasswordProof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Plain(_) => "Plain",
            Self::Digest(_) => "Digest",
        })
    }
}

/// Somebody who is known now.
#[derive(Clone, PartialEq, Eq)]
pub struct LoggedIn {
    /// Who it is.
    pub user: User,
    /// What he can say next time instead of the password: 43 characters.
    pub token: String,
    /// How long that is worth something, in milliseconds since 1970.
    pub expires_ms: u64,
    /// How he said who he is.
    pub method: LoginMethod,
}

/// Never shows what is secret.
impl fmt::Debug for LoggedIn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoggedIn").field("user", &self.user).finish_non_exhaustive()
    }
}

/// How somebody said who he is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoginMethod {
    /// With a password.
    Password,
    /// With a token.
    Resume,
}

/// Why somebody is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum LoginRefusal {
    /// There is no such user.
    #[error("no such user")]
    NoSuchUser,
    /// The password is wrong.
    #[error("wrong password")]
    WrongPassword,
    /// One of these two; the server does not say which.
    #[error("wrong user or password")]
    Unclear,
    /// The token was never given, or is worth nothing any more.
    #[error("unknown token")]
    UnknownToken,
    /// The token's time is over.
    #[error("expired token")]
    ExpiredToken,
    /// The account is switched off.
    #[error("the account is switched off")]
    Inactive,
    /// Too many logins from this address were wrong, and too many refusals of them wait: the connection is closed.
    #[error("too many failed logins at once")]
    TooManyAtOnce {
        /// When it may be tried again, in milliseconds.
        retry_ms: u64,
    },
}
