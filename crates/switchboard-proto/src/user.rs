//! Who somebody is.

use std::fmt;
use std::sync::Arc;

use thiserror::Error;

/// Somebody: an id that never changes, and a name that people use. Cloning shares both.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct User {
    id: Arc<str>,
    name: Arc<str>,
}

/// A text that cannot be the id or the name of a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the id of a user has 1 to 128 bytes, no slash and no control characters")]
pub struct BadUser;

/// Longest id and longest name, in bytes.
const MAX_BYTES: usize = 128;

impl User {
    /// Somebody who is not configured, and is therefore called by his id.
    ///
    /// # Errors
    ///
    /// [`BadUser`] unless the id has 1 to 128 bytes, no slash and no control characters.
    pub fn new(id: impl AsRef<str>) -> Result<Self, BadUser> {
        Self::named(id.as_ref(), id.as_ref())
    }

    /// Somebody with a name of his own.
    ///
    /// # Errors
    ///
    /// [`BadUser`] as with [`User::new`], and for a name that is empty, longer than 128 bytes or has control characters.
    pub fn named(id: impl AsRef<str>, name: impl AsRef<str>) -> Result<Self, BadUser> {
        let (id, name) = (id.as_ref(), name.as_ref());
        if !is_name(id) || id.contains('/') || !is_name(name) {
            return Err(BadUser);
        }
        let id: Arc<str> = id.into();
        let name = if *id == *name { Arc::clone(&id) } else { name.into() };
        Ok(Self { id, name })
    }

    /// The id, which authentication patterns look at as `user`.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The id, shared.
    pub fn shared_id(&self) -> Arc<str> {
        Arc::clone(&self.id)
    }

    /// What people call him.
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// The name.
impl fmt::Display for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.name)
    }
}

fn is_name(text: &str) -> bool {
    (1..=MAX_BYTES).contains(&text.len()) && !text.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_has_1_to_128_bytes_no_slash_and_no_control_characters() {
        for bad in ["", "a\nb", "a/b", &"x".repeat(129)] {
            assert_eq!(User::new(bad), Err(BadUser), "{bad:?}");
        }
        assert_eq!(User::new("é".repeat(64)).map(|user| user.name().len()), Ok(128));
        assert_eq!(User::named("u1", "a/b").map(|user| user.to_string()), Ok("a/b".to_owned()));
        assert_eq!(User::named("u1", ""), Err(BadUser));
    }
}
