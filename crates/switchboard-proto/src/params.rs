//! The named values that travel with an action.

use serde_json::{Map, Value};
use thiserror::Error;

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
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Params {
    entries: Vec<(Box<str>, Value)>,
    bytes: usize,
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
        self.bytes = self.entries.iter().map(|(name, value)| size(name, value)).sum();
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
