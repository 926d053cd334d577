//! The named values that travel with an action.

use std::borrow::Cow;
use std::fmt;

use serde_json::{Map, Value};
use thiserror::Error;

use crate::json::{write_text, write_value};

/// How much the sticky params of one connection may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParamLimits {
    /// How many (`limits.max_params`).
    pub count: usize,
    /// Names and values together, in bytes (`limits.max_params_bytes`).
    pub bytes: usize,
}

impl Default for ParamLimits {
    fn default() -> Self {
        Self { count: 64, bytes: 64 * 1024 }
    }
}

/// One more param would exceed [`ParamLimits`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("too many params")]
pub struct TooManyParams;

/// Named values in the order in which they were first set. Values keep their JSON types.
///
/// A handful is typical and `limits.max_params` the ceiling, so a list beats a map.
#[derive(Clone, Default, PartialEq)]
pub struct Params {
    entries: Vec<(Box<str>, Value)>,
    bytes: usize,
    has_secrets: bool,
}

/// Prints the names only: a value may be a password, and debug output ends in logs.
impl fmt::Debug for Params {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.entries.iter().map(|(name, _)| name)).finish()
    }
}

/// Names of params whose values are secrets, such as `password`.
///
/// Upper and lower case, `_` and `-` make no difference: `api_key` covers `apiKey`. Members inside of a value count like
/// params. A param that is or has a secret does not stick to its connection, and answers show [`SecretParams::MASK`] instead of its value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SecretParams {
    /// In lower case, without `_` and `-`.
    names: Vec<Box<str>>,
}

impl SecretParams {
    /// Stands for the value of a secret wherever params are shown.
    pub const MASK: &'static str = "***";

    /// Covers these names.
    pub fn new<N: AsRef<str>>(names: impl IntoIterator<Item = N>) -> Self {
        let mut names: Vec<Box<str>> =
            names.into_iter().map(|name| plain(name.as_ref()).map(char::from).collect::<String>().into()).collect();
        names.sort_unstable();
        names.dedup();
        Self { names }
    }

    /// Returns whether the param `name` is a secret.
    pub fn contains(&self, name: &str) -> bool {
        self.names.iter().any(|secret| plain(name).eq(secret.bytes()))
    }

    /// Returns whether the param is a secret or has a member that is: `password` in `{"user":{"password":"x"}}`.
    fn covers(&self, name: &str, value: &Value) -> bool {
        self.contains(name) || self.is_within(value)
    }

    fn is_within(&self, value: &Value) -> bool {
        match value {
            Value::Array(values) => values.iter().any(|value| self.is_within(value)),
            Value::Object(members) => members.iter().any(|(name, value)| self.covers(name, value)),
            _ => false,
        }
    }

    fn mask(&self, value: &mut Value) {
        match value {
            Value::Array(values) => values.iter_mut().for_each(|value| self.mask(value)),
            Value::Object(members) => {
                for (name, value) in members {
                    if self.contains(name) {
                        *value = Self::MASK.into();
                    } else {
                        self.mask(value);
                    }
                }
            }
            _ => {}
        }
    }

    /// The value of the param `name` with [`Self::MASK`] in place of secrets.
    pub fn shown<'a>(&self, name: &str, value: &'a Value) -> Cow<'a, Value> {
        if self.contains(name) {
            return Cow::Owned(Self::MASK.into());
        }
        if !self.is_within(value) {
            return Cow::Borrowed(value);
        }
        let mut shown = value.clone();
        self.mask(&mut shown);
        Cow::Owned(shown)
    }
}

/// The bytes of a name that count in a comparison. Names that are not ASCII compare by their UTF-8 bytes.
fn plain(name: &str) -> impl Iterator<Item = u8> + '_ {
    name.bytes().filter(|byte| !matches!(byte, b'_' | b'-')).map(|byte| byte.to_ascii_lowercase())
}

impl Params {
    /// The value of `name`.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.entries.iter().find(|(entry, _)| **entry == *name).map(|(_, value)| value)
    }

    /// The value of `name` if it is text.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.get(name).and_then(Value::as_str)
    }

    /// Sets `name`, in its old place if it was set before. Nothing changes when the limits would be exceeded.
    pub fn set(&mut self, name: &str, value: Value, limits: ParamLimits) -> Result<(), TooManyParams> {
        let added = size(name, &value);
        match self.entries.iter().position(|(entry, _)| **entry == *name) {
            Some(at) => {
                let removed = size(name, &self.entries[at].1);
                let bytes = self.bytes - removed + added;
                if bytes > limits.bytes {
                    return Err(TooManyParams);
                }
                self.bytes = bytes;
                self.entries[at].1 = value;
            }
            None => {
                if self.entries.len() >= limits.count || self.bytes + added > limits.bytes {
                    return Err(TooManyParams);
                }
                self.bytes += added;
                self.entries.push((name.into(), value));
            }
        }
        Ok(())
    }

    /// Removes `name`, if it is there.
    pub fn remove(&mut self, name: &str) {
        if let Some(at) = self.entries.iter().position(|(entry, _)| **entry == *name) {
            let (name, value) = self.entries.remove(at);
            self.bytes -= size(&name, &value);
        }
    }

    /// Keeps only what `keep` says.
    pub fn retain(&mut self, mut keep: impl FnMut(&str) -> bool) {
        self.entries.retain(|(name, _)| keep(name));
        self.recount();
    }

    fn recount(&mut self) {
        self.bytes = self.entries.iter().map(|(name, value)| size(name, value)).sum();
    }

    /// Looks for secrets once, after params were set: a client sets params rarely and sends actions often.
    pub fn note_secrets(&mut self, secrets: &SecretParams) {
        self.has_secrets = self.entries.iter().any(|(name, value)| secrets.covers(name, value));
    }

    /// Whether [`Self::note_secrets`] found a secret.
    pub fn has_secrets(&self) -> bool {
        self.has_secrets
    }

    /// Removes all secrets.
    pub fn remove_secrets(&mut self, secrets: &SecretParams) {
        self.entries.retain(|(name, value)| !secrets.covers(name, value));
        self.recount();
        self.has_secrets = false;
    }

    /// Makes params of a JSON object's members.
    pub fn from_members(members: Map<String, Value>, limits: ParamLimits) -> Result<Self, TooManyParams> {
        let mut params = Self::default();
        for (name, value) in members {
            params.set(&name, value, limits)?;
        }
        Ok(params)
    }

    /// Names and values in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.entries.iter().map(|(name, value)| (&**name, value))
    }

    /// Writes the params as a JSON object, with [`SecretParams::MASK`] for the values of secrets.
    pub fn write_json(&self, out: &mut Vec<u8>, secrets: &SecretParams) {
        out.push(b'{');
        for (index, (name, value)) in self.iter().enumerate() {
            if index > 0 {
                out.push(b',');
            }
            write_text(out, name);
            out.push(b':');
            write_value(out, &secrets.shown(name, value));
        }
        out.push(b'}');
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

/// What one param counts against [`ParamLimits::bytes`]: the length of its name and of the texts inside its value, and
/// 16 bytes for each value, since an array of a thousand nulls occupies memory too.
fn size(name: &str, value: &Value) -> usize {
    fn value_size(value: &Value) -> usize {
        16 + match value {
            Value::String(text) => text.len(),
            Value::Array(values) => values.iter().map(value_size).sum(),
            Value::Object(members) => members.iter().map(|(name, value)| name.len() + value_size(value)).sum(),
            Value::Null | Value::Bool(_) | Value::Number(_) => 0,
        }
    }
    name.len() + value_size(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn params_keep_the_order_of_their_first_setting() {
        let mut params = Params::default();
        for (name, value) in [("b", 1), ("a", 2), ("b", 3)] {
            params.set(name, json!(value), ParamLimits::default()).unwrap();
        }
        let seen: Vec<_> = params.iter().map(|(name, value)| (name.to_owned(), value.clone())).collect();
        assert_eq!(seen, [("b".to_owned(), json!(3)), ("a".to_owned(), json!(2))]);
    }

    #[test]
    fn one_param_too_many_changes_nothing() {
        let limits = ParamLimits { count: 2, bytes: 60 };
        let mut params = Params::default();
        params.set("a", json!("1"), limits).unwrap();
        params.set("b", json!("2"), limits).unwrap();
        let before = params.clone();
        assert_eq!(params.set("c", json!(3), limits), Err(TooManyParams));
        assert_eq!(params.set("a", json!("x".repeat(60)), limits), Err(TooManyParams));
        assert_eq!(params, before);
    }

    #[test]
    fn a_secret_is_found_in_every_spelling_and_not_printed() {
        let secrets = SecretParams::new(["password", "api_key"]);
        for name in ["password", "Password", "PASS_WORD", "apiKey", "api-key", "API_KEY"] {
            assert!(secrets.contains(name), "{name}");
        }
        for name in ["", "pass", "passwords", "key", "apikeys", "action"] {
            assert!(!secrets.contains(name), "{name}");
        }
        let mut params = Params::default();
        params.set("user", json!("ada"), ParamLimits::default()).unwrap();
        params.set("password", json!("open sesame"), ParamLimits::default()).unwrap();
        let mut shown = Vec::new();
        params.write_json(&mut shown, &secrets);
        assert_eq!(String::from_utf8(shown).unwrap(), r#"{"user":"ada","password":"***"}"#);
        assert!(!format!("{params:?}").contains("sesame"));
    }

    #[test]
    fn a_secret_inside_of_a_value_is_masked() {
        let secrets = SecretParams::new(["password"]);
        let login = json!({"user": "ada", "Password": {"text": "sesame"}, "old": [{"password": "sesame"}, 1]});
        let shown = secrets.shown("login", &login);
        assert_eq!(*shown, json!({"user": "ada", "Password": "***", "old": [{"password": "***"}, 1]}));
        let mut params = Params::default();
        for (name, value) in [("a", json!(["password", 1])), ("login", login)] {
            params.set(name, value, ParamLimits::default()).unwrap();
        }
        params.note_secrets(&secrets);
        assert!(params.has_secrets());
        params.remove_secrets(&secrets);
        assert!(!params.has_secrets());
        assert_eq!(params.iter().map(|(name, _)| name).collect::<Vec<_>>(), ["a"]);
    }

    #[test]
    fn removing_gives_the_room_back() {
        let limits = ParamLimits { count: 1, bytes: 40 };
        let mut params = Params::default();
        for _ in 0..3 {
            params.set("a", json!("0123456789"), limits).unwrap();
            params.remove("a");
        }
        assert_eq!(params, Params::default());
    }
}
