//! What a server may say about a connection, or about whoever logs in on it: the rules of tags and of state.

use serde_json::Value;

/// Names of facts of every connection, which no state can hide.
pub const FACTS: [&str; 7] = ["connectedAt", "fingerprint", "id", "remoteIP", "remotePort", "type", "user"];

/// Most tags of one connection.
pub const MAX_TAGS: usize = 64;

/// Most values in the state of one connection.
pub const MAX_STATE_VALUES: usize = 64;

/// Most bytes of the state of one connection, as [`state_bytes`] counts them.
pub const MAX_STATE_BYTES: usize = 16 * 1024;

/// Whether a text can be a tag: 1 to 128 bytes without control characters.
pub fn is_tag(text: &str) -> bool {
    (1..=128).contains(&text.len()) && !text.chars().any(char::is_control)
}

/// What one value counts for in the size of a state: its name and its text; 8 for numbers and booleans.
pub fn state_bytes(name: &str, value: &Value) -> usize {
    name.len() + value.as_str().map_or(8, str::len)
}
