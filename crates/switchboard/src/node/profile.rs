//! What only the server says about a connection: its state, who it is, and what commands can aim at.
//!
//! Clients can set none of it.

use serde_json::Value;
pub use switchboard_proto::profile::MAX_TAGS;
use switchboard_proto::profile::{FACTS, MAX_STATE_BYTES, MAX_STATE_VALUES, is_tag, state_bytes};
use switchboard_proto::user::{BadUser, User};
use thiserror::Error;

use crate::backend::sessions::TokenHash;

/// A connection's server-only state: texts, numbers and booleans by name. Authentication patterns look at it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct State {
    values: Vec<(String, Value)>,
}

/// What changes about a connection, all of it or nothing; the default changes nothing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ConnectionPatch {
    /// Values of the state to set; `null` removes one. What is not named stays.
    pub state: Vec<(String, Value)>,
    /// Who it is from now on; `Some(None)`: nobody.
    pub user: Option<Option<User>>,
    /// All its tags from now on.
    pub tags: Option<Vec<String>>,
}

/// Everything that only the server says about one connection.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Profile {
    pub(super) state: State,
    pub(super) user: Option<User>,
    pub(super) tags: Vec<String>,
    /// How the user came, if he logged in himself.
    pub(super) login: Option<Login>,
}

/// What somebody's log-in brought to a connection.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Login {
    /// The token that was given or presented.
    pub(super) token: Option<TokenHash>,
    /// State that comes with the user: names and values that state may hold.
    pub(super) state: Vec<(String, Value)>,
}

/// Why nothing was changed about a connection.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum StateError {
    /// Not a tag.
    #[error("a tag has 1 to 128 bytes and no control characters")]
    BadTag,
    /// Not the id of a user.
    #[error(transparent)]
    BadUser(#[from] BadUser),
    /// The name belongs to a fact of the connection.
    #[error("{0} is a fact of the connection and cannot be set")]
    BuiltIn(String),
    /// It is a DDP session or a bot of the gateway: who it is follows from its log-in.
    #[error("who this connection is follows from its log-in")]
    FixedUser,
    /// It would hold more than 64 values or 16 KiB.
    #[error("the state of a connection holds at most 64 values and 16 KiB")]
    Full,
    /// The connection has ended, or is with another node: see [`Node::change_connection`](super::Node::change_connection).
    #[error("no such connection")]
    NoSuchConnection,
    /// Not a text, a number or a boolean.
    #[error("{0} must be a text, a number or a boolean")]
    NotScalar(String),
    /// More than [`MAX_TAGS`] tags.
    #[error("a connection has at most 64 tags")]
    TooManyTags,
    /// The node that holds the connection does not answer. It may have changed it.
    #[error("the node that holds the connection does not answer")]
    Unavailable,
}

impl Profile {
    pub(super) fn is_empty(&self) -> bool {
        self.state.is_empty() && self.user.is_none() && self.tags.is_empty() && self.login.is_none()
    }

    /// Somebody from now on, with what comes with him. State that does not fit any more is left out.
    pub(super) fn log_in(&mut self, user: User, mut login: Login) {
        login.state.retain(|(name, value)| self.state.set(name, value.clone()).is_ok());
        self.user = Some(user);
        self.login = Some(login);
    }

    /// Nobody from now on. Of the state that came with the user goes what nobody has changed since.
    pub(super) fn log_out(&mut self) {
        let Some(login) = self.login.take() else { return };
        self.user = None;
        self.state.values.retain(|pair| !login.state.contains(pair));
    }

    /// Applies a patch. With an error it may be half changed: to be called on a copy.
    pub(super) fn apply(&mut self, patch: ConnectionPatch) -> Result<(), StateError> {
        for (name, value) in patch.state {
            self.state.set(&name, value)?;
        }
        if let Some(user) = patch.user {
            self.user = user;
        }
        if let Some(tags) = patch.tags {
            self.tags = checked_tags(tags)?;
        }
        Ok(())
    }
}

/// Tags in their order, each once.
fn checked_tags(tags: Vec<String>) -> Result<Vec<String>, StateError> {
    let mut checked: Vec<String> = Vec::new();
    for tag in tags {
        if !is_tag(&tag) {
            return Err(StateError::BadTag);
        }
        if checked.contains(&tag) {
            continue;
        }
        if checked.len() == MAX_TAGS {
            return Err(StateError::TooManyTags);
        }
        checked.push(tag);
    }
    Ok(checked)
}

impl State {
    /// Facts of a connection, which state cannot hide.
    pub const BUILT_IN: [&str; 7] = FACTS;

    /// A value.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.values.iter().find(|(other, _)| other == name).map(|(_, value)| value)
    }

    /// Names and values in the order in which they were first set.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.values.iter().map(|(name, value)| (name.as_str(), value))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Values that state may hold, as [`State::into_values`] gives them.
    pub(super) fn from_values(values: Vec<(String, Value)>) -> Self {
        Self { values }
    }

    pub(super) fn into_values(self) -> Vec<(String, Value)> {
        self.values
    }

    /// Sets a value; `null` removes it.
    pub(super) fn set(&mut self, name: &str, value: Value) -> Result<(), StateError> {
        if Self::BUILT_IN.contains(&name) {
            return Err(StateError::BuiltIn(name.to_owned()));
        }
        match value {
            Value::Null => {
                self.values.retain(|(other, _)| other != name);
                return Ok(());
            }
            Value::Array(_) | Value::Object(_) => return Err(StateError::NotScalar(name.to_owned())),
            Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
        let others = self.values.iter().filter(|(other, _)| other != name);
        let (count, bytes) =
            others.fold((0, 0), |(count, bytes), (name, value)| (count + 1, bytes + state_bytes(name, value)));
        if count >= MAX_STATE_VALUES || bytes + state_bytes(name, &value) > MAX_STATE_BYTES {
            return Err(StateError::Full);
        }
        match self.values.iter_mut().find(|(other, _)| other == name) {
            Some((_, old)) => *old = value,
            None => self.values.push((name.to_owned(), value)),
        }
        Ok(())
    }
}
