//! Who may log in, and with what.
//!
//! Users come from the configuration and do not change while the server runs. `verify` checks passwords without telling by
//! its time who exists, and without letting anybody guess or keep all processors busy; `token` makes what a client logs in
//! with the next time. Who is logged in on which connection, and which tokens there are, is not known here.

mod pace;
mod token;
mod verify;

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::sync::Arc;

use ring::{digest, hmac};
use serde_json::Value;

use crate::config::{self, DdpServer};
use crate::proto::user::User;

pub use token::LoginToken;
pub use verify::Refusal;
use verify::{Gate, Stored};

/// Everybody who may log in. Cloning shares it.
#[derive(Clone)]
pub struct Users(Arc<Inner>);

struct Inner {
    accounts: Vec<Account>,
    by_id: HashMap<Arc<str>, Account>,
    by_name: HashMap<Box<str>, Account>,
    /// By name in lower case; `None`: names of several users differ in case only.
    by_any_case: HashMap<String, Option<Account>>,
    gate: Gate,
}

/// Somebody who may log in, unless he is switched off. Cloning shares it.
#[derive(Clone)]
pub struct Account(Arc<Facts>);

struct Facts {
    user: User,
    roles: Vec<String>,
    tags: Vec<String>,
    state: Vec<(String, Value)>,
    is_active: bool,
    stored: Stored,
    /// Digest of name and password as they are in the configuration.
    credential: [u8; 32],
}

impl Users {
    /// Takes over the users of a configuration.
    ///
    /// # Errors
    ///
    /// When the configuration would not pass [`Config::validate`](crate::Config::validate), or the system gives no random
    /// bytes.
    pub fn new(users: &[config::User], settings: &DdpServer) -> io::Result<Self> {
        let mut gate = Gate::new(settings)?;
        let mut accounts = Vec::with_capacity(users.len());
        for user in users {
            let invalid =
                |text: &str| io::Error::new(io::ErrorKind::InvalidInput, format!("user {:?}: {text}", user.id));
            let stored = gate.take_over(&user.password).map_err(invalid)?;
            let mut tags: Vec<String> = Vec::new();
            for tag in user.tags.iter().chain(&user.roles) {
                if !tags.contains(tag) {
                    tags.push(tag.clone());
                }
            }
            accounts.push(Account(Arc::new(Facts {
                user: User::named(&user.id, &user.username).map_err(|error| invalid(&error.to_string()))?,
                roles: user.roles.clone(),
                tags,
                state: user.state.iter().map(|(name, value)| (name.clone(), value.clone().into())).collect(),
                is_active: user.active,
                stored,
                credential: credential(user),
            })));
        }
        let by_id = accounts.iter().map(|account| (account.user().shared_id(), account.clone())).collect();
        let by_name = accounts.iter().map(|account| (account.user().name().into(), account.clone())).collect();
        let mut by_any_case: HashMap<String, Option<Account>> = HashMap::new();
        for account in &accounts {
            let same = by_any_case.entry(account.user().name().to_lowercase());
            same.and_modify(|only| *only = None).or_insert_with(|| Some(account.clone()));
        }
        Ok(Self(Arc::new(Inner { accounts, by_id, by_name, by_any_case, gate })))
    }

    /// Whether nobody may log in.
    pub fn is_empty(&self) -> bool {
        self.0.accounts.is_empty()
    }

    /// Everybody, in the order of the configuration.
    pub fn iter(&self) -> impl Iterator<Item = &Account> {
        self.0.accounts.iter()
    }

    /// Whoever has this id, else whoever has it as a name.
    pub fn find(&self, id_or_name: &str) -> Option<&Account> {
        self.by_id(id_or_name).or_else(|| self.by_name(id_or_name))
    }

    /// Whoever has this id.
    pub fn by_id(&self, id: &str) -> Option<&Account> {
        self.0.by_id.get(id)
    }

    /// Whoever has this name; case matters.
    pub fn by_name(&self, name: &str) -> Option<&Account> {
        self.0.by_name.get(name)
    }

    /// Returns the user with this name, else the only one whose name differs from it in case alone.
    fn by_login_name(&self, name: &str) -> Option<&Account> {
        self.by_name(name).or_else(|| self.0.by_any_case.get(&name.to_lowercase())?.as_ref())
    }
}

impl Account {
    /// Id and name.
    pub fn user(&self) -> &User {
        &self.0.user
    }

    /// What he is.
    pub fn roles(&self) -> &[String] {
        &self.0.roles
    }

    /// What commands can aim at: his tags, then his roles, each once.
    pub fn tags(&self) -> &[String] {
        &self.0.tags
    }

    /// Server-only state of his connections: names and values that the state of a connection may hold.
    pub fn state(&self) -> &[(String, Value)] {
        &self.0.state
    }

    /// Whether he may log in.
    pub fn is_active(&self) -> bool {
        self.0.is_active
    }

    /// Whether he is a program: has the role `bot`.
    pub fn is_bot(&self) -> bool {
        self.0.roles.iter().any(|role| role == "bot")
    }
}

/// Tokens and the credential under which they were made.
///
/// The store keeps an HMAC with each token whose key is the text of the token, which only the client has. So a reader
/// of the store cannot try passwords against it.
impl Account {
    /// Binds a token to this account's name and password as they are configured now.
    pub fn bind(&self, token: &str) -> [u8; 32] {
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, token.as_bytes()), &self.0.credential);
        let mut binding = [0; 32];
        binding.copy_from_slice(tag.as_ref());
        binding
    }

    /// Returns whether [`Account::bind`] makes this binding of the token, which it does as long as name and password
    /// are the same.
    pub fn has_bound(&self, token: &str, binding: &[u8; 32]) -> bool {
        let key = hmac::Key::new(hmac::HMAC_SHA256, token.as_bytes());
        hmac::verify(&key, &self.0.credential, binding).is_ok()
    }
}

/// Digest of an account's id, name and password or hash as they are written in the configuration.
fn credential(user: &config::User) -> [u8; 32] {
    let (kind, secret) = match &user.password {
        config::Password::Plain(secret) => ("password", secret),
        config::Password::Hash(secret) => ("password_hash", secret),
    };
    let mut context = digest::Context::new(&digest::SHA256);
    for part in [&user.id, &user.username, kind, secret.reveal()] {
        // With lengths, so that no two accounts are the same bytes.
        context.update(&(part.len() as u64).to_le_bytes());
        context.update(part.as_bytes());
    }
    let mut bytes = [0; 32];
    bytes.copy_from_slice(context.finish().as_ref());
    bytes
}

/// How many there are.
impl fmt::Debug for Users {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Users({})", self.0.accounts.len())
    }
}

/// Who it is, and nothing that he proves himself with.
impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Account").field(&self.0.user).finish()
    }
}

#[cfg(test)]
mod tests;
