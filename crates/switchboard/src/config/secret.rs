//! Values that nobody may read again: not in logs, not in `config show`, not in an error.

use std::fmt;

use toml::Spanned;
use toml::de::DeValue;

use super::section::{Kind, Mismatch};

/// A value that is used and never shown. Printing one for debugging tells only whether it is set.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// What stands in a secret's place; not TOML, so that nobody takes it for the value.
    pub(super) const HIDDEN: &str = "(hidden)";

    /// Texts with less than this may be guessed.
    pub(super) const SHORT_BYTES: usize = 16;

    /// Keeps a text secret; empty: not set.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Whether there is one.
    pub fn is_set(&self) -> bool {
        !self.0.is_empty()
    }

    /// The text itself, for the place that uses it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_set() { Self::HIDDEN } else { "(not set)" })
    }
}

/// A secret text, or empty for none.
#[derive(Clone, Copy)]
pub(super) enum SecretText {
    /// Long enough not to be guessed.
    Key,
    /// Fits into an HTTP header.
    Token,
}

impl SecretText {
    const SHORTEST_KEY: usize = 16;
    const LONGEST_TOKEN: usize = 1024;

    const fn expected(self) -> &'static str {
        match self {
            Self::Key => "at least 16 bytes",
            Self::Token => "at most 1024 visible ASCII characters without spaces",
        }
    }

    /// What was found is not shown: it may be the secret, misspelt.
    fn refuse(self) -> Vec<Mismatch> {
        let text = format!("expected a text of {}", self.expected());
        vec![Mismatch { inside: String::new(), span: None, text, found: None }]
    }

    /// Whether a text is such a secret, or empty.
    pub(super) fn allows(self, text: &str) -> bool {
        text.is_empty()
            || match self {
                Self::Key => text.len() >= Self::SHORTEST_KEY,
                Self::Token => text.len() <= Self::LONGEST_TOKEN && text.bytes().all(|byte| byte.is_ascii_graphic()),
            }
    }
}

impl Kind<Secret> for SecretText {
    fn type_name(&self) -> String {
        format!("secret of {}, or empty for none", self.expected())
    }

    fn read(&self, value: &Spanned<DeValue<'_>>) -> Result<Secret, Vec<Mismatch>> {
        match value.get_ref() {
            DeValue::String(text) if self.allows(text) => Ok(Secret::new(text.as_ref())),
            _ => Err(self.refuse()),
        }
    }

    fn write(&self, value: &Secret) -> String {
        if value.is_set() { Secret::HIDDEN.into() } else { "\"\"".into() }
    }

    fn hides(&self, value: &Secret) -> bool {
        value.is_set()
    }

    fn check(&self, value: &Secret) -> Vec<Mismatch> {
        if self.allows(value.reveal()) { Vec::new() } else { self.refuse() }
    }
}
