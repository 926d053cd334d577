//! Values that nobody may read again: not in logs, not in `config show`, not in an error.

use std::fmt;

use toml::Spanned;
use toml::de::DeValue;

use super::section::{Kind, Mismatch};

/// A value that is used and never shown. Printing one for debugging tells only whether it is set.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
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
        f.write_str(if self.is_set() { SecretText::HIDDEN } else { "(not set)" })
    }
}

/// A secret text, long enough not to be guessed, or empty.
pub(super) struct SecretText;

impl SecretText {
    /// What stands in a secret's place; not TOML, so that nobody takes it for the value.
    pub(super) const HIDDEN: &str = "(hidden)";
    const SHORTEST: usize = 16;
    const EXPECTED: &str = "a text of at least 16 bytes";

    /// What was found is not shown: it may be the secret, misspelt.
    fn refuse() -> Vec<Mismatch> {
        let text = format!("expected {}", Self::EXPECTED);
        vec![Mismatch { inside: String::new(), span: None, text, found: None }]
    }

    fn allows(text: &str) -> bool {
        text.is_empty() || text.len() >= Self::SHORTEST
    }
}

impl Kind<Secret> for SecretText {
    fn type_name(&self) -> String {
        "secret of at least 16 bytes, or empty for none".into()
    }

    fn read(&self, value: &Spanned<DeValue<'_>>) -> Result<Secret, Vec<Mismatch>> {
        match value.get_ref() {
            DeValue::String(text) if Self::allows(text) => Ok(Secret::new(text.as_ref())),
            _ => Err(Self::refuse()),
        }
    }

    fn write(&self, value: &Secret) -> String {
        if value.is_set() { Self::HIDDEN.into() } else { "\"\"".into() }
    }

    fn check(&self, value: &Secret) -> Vec<Mismatch> {
        if Self::allows(value.reveal()) { Vec::new() } else { Self::refuse() }
    }
}
