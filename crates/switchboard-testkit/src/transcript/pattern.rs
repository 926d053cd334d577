//! JSON with placeholders, compared by structure.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value};

/// In front of a placeholder that stands for a value, not inside a text.
const BARE: char = '\u{1}';
/// Placeholders that stand for a value.
const BARE_NAMES: [&str; 6] = ["json", "ms", "n", "port", "random", "uuid"];
/// What still counts as near now.
const NEAR_MS: u64 = 60 * 60 * 1000;
/// What still counts as small.
const SMALL: u64 = 1_000_000;

/// Connection ids by client.
#[derive(Debug, Default)]
pub(super) struct Names(BTreeMap<String, String>);

impl Names {
    pub(super) fn knows(&self, client: &str) -> bool {
        self.0.contains_key(client)
    }

    pub(super) fn learn(&mut self, client: &str, id: String) {
        self.0.insert(client.to_owned(), id);
    }

    /// Puts ids where placeholders stand.
    pub(super) fn fill(&self, text: &str) -> String {
        self.0.iter().fold(text.to_owned(), |text, (client, id)| text.replace(&format!("{{uuid:{client}}}"), id))
    }

    /// Puts placeholders where ids stand.
    pub(super) fn hide(&self, text: &str) -> String {
        self.0.iter().fold(text.to_owned(), |text, (client, id)| text.replace(id, &format!("{{uuid:{client}}}")))
    }
}

/// JSON with placeholders.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Pattern(Value);

impl Pattern {
    /// Reads JSON in which placeholders may stand for values and inside texts.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut json = String::with_capacity(text.len() + 32);
        let mut rest = text;
        let mut in_text = false;
        while let Some(char) = rest.chars().next() {
            let length = match char {
                '"' => {
                    in_text = !in_text;
                    1
                }
                '\\' if in_text => 1 + rest[1..].chars().next().map_or(0, char::len_utf8),
                '{' if !in_text => match bare_placeholder(rest) {
                    Some(name) => {
                        json.push_str(&format!("\"\\u0001{name}\""));
                        rest = &rest[name.len() + 2..];
                        continue;
                    }
                    None => 1,
                },
                char => char.len_utf8(),
            };
            json.push_str(&rest[..length]);
            rest = &rest[length..];
        }
        serde_json::from_str(&json).map(Self).map_err(|error| format!("what is expected is not JSON: {error}"))
    }

    /// Whether `value` is what is expected; if not, where not.
    pub(super) fn check(&self, value: &Value, names: &Names, port: u16) -> Result<(), String> {
        check(&self.0, value, names, port).map_err(|(path, reason)| format!("at {path}/: {reason}"))
    }

    /// What would have to be expected for `value`: with the placeholders of an older expectation where they hold, and
    /// with those that can be told.
    pub(super) fn of(value: &Value, older: Option<&Self>, names: &Names, port: u16) -> Self {
        Self(describe(value, older.map(|older| &older.0), "", names, port))
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let json = BARE_NAMES
            .iter()
            .fold(self.0.to_string(), |json, name| json.replace(&format!("\"\\u0001{name}\""), &format!("{{{name}}}")));
        f.write_str(&json)
    }
}

/// Reads a received line: JSON, no member twice, and nothing escaped that need not be.
pub(super) fn parse_line(line: &str) -> Result<Value, String> {
    let value: Value =
        serde_json::from_str(line).map_err(|error| format!("received what is not JSON: {error}: {line}"))?;
    let mut in_text = false;
    let mut colons = 0;
    let mut chars = line.char_indices();
    while let Some((at, char)) = chars.next() {
        match char {
            '"' => in_text = !in_text,
            ':' if !in_text => colons += 1,
            '\\' if in_text => {
                let escaped = chars.next().map(|(_, escaped)| escaped);
                let code = line.get(at + 2..at + 6).and_then(|digits| u32::from_str_radix(digits, 16).ok());
                if escaped == Some('u') && code.is_none_or(|code| code >= 0x80) {
                    return Err(format!("a character beyond ASCII is escaped: {line}"));
                }
            }
            _ => {}
        }
    }
    if colons == members(&value) { Ok(value) } else { Err(format!("a member is there twice: {line}")) }
}

fn members(value: &Value) -> usize {
    match value {
        Value::Array(values) => values.iter().map(members).sum(),
        Value::Object(object) => object.values().map(|value| 1 + members(value)).sum(),
        _ => 0,
    }
}

/// The name of the placeholder that `text` begins with, if it stands for a value.
fn bare_placeholder(text: &str) -> Option<&'static str> {
    let inside = text.strip_prefix('{')?.split_once('}')?.0;
    BARE_NAMES.into_iter().find(|name| *name == inside)
}

fn check(expected: &Value, value: &Value, names: &Names, port: u16) -> Result<(), (String, String)> {
    match (expected, value) {
        (Value::String(text), value) if text.starts_with(BARE) => match holds(&text[1..], value, port) {
            true => Ok(()),
            false => Err((String::new(), format!("{value} is no {{{}}}", &text[1..]))),
        },
        (Value::String(text), Value::String(value)) => match text.as_str() {
            "{uuid}" if is_uuid(value) => Ok(()),
            text if names.fill(text) == *value => Ok(()),
            text => Err((String::new(), format!("expected {text:?}, received {value:?}"))),
        },
        (Value::Array(expected), Value::Array(values)) if expected.len() == values.len() => {
            let mut pairs = expected.iter().zip(values).enumerate();
            pairs.try_for_each(|(index, (expected, value))| within(index, check(expected, value, names, port)))
        }
        (Value::Object(expected), Value::Object(object)) => {
            let filled: Map<String, Value> =
                expected.iter().map(|(name, value)| (names.fill(name), value.clone())).collect();
            if let Some(name) = object.keys().find(|name| !filled.contains_key(*name)) {
                return Err((String::new(), format!("{name:?} was not expected")));
            }
            filled.iter().try_for_each(|(name, expected)| match object.get(name) {
                Some(value) => within(name, check(expected, value, names, port)),
                None => Err((String::new(), format!("{name:?} is missing"))),
            })
        }
        (expected, value) if expected == value => Ok(()),
        (expected, value) => Err((String::new(), format!("expected {expected}, received {value}"))),
    }
}

fn within(place: impl fmt::Display, checked: Result<(), (String, String)>) -> Result<(), (String, String)> {
    checked.map_err(|(path, reason)| (format!("/{place}{path}"), reason))
}

/// Whether a value is what a placeholder stands for.
fn holds(placeholder: &str, value: &Value, port: u16) -> bool {
    match placeholder {
        "json" => true,
        "ms" => value.as_u64().is_some_and(|ms| ms.abs_diff(now_ms()) < NEAR_MS),
        "n" => value.as_u64().is_some_and(|number| number < SMALL),
        "port" => value.as_u64() == Some(port.into()),
        "random" => value.as_f64().is_some_and(|number| (0.0..1.0).contains(&number)),
        "uuid" => value.as_str().is_some_and(is_uuid),
        _ => false,
    }
}

fn describe(value: &Value, older: Option<&Value>, member: &str, names: &Names, port: u16) -> Value {
    if let Some(Value::String(text)) = older
        && (text.starts_with(BARE) || text == "{uuid}")
        && check(&Value::String(text.clone()), value, names, port).is_ok()
    {
        return Value::String(text.clone());
    }
    let bare = |name: &str| Value::String(format!("{BARE}{name}"));
    match value {
        Value::String(text) => match names.hide(text) {
            text if is_uuid(&text) => "{uuid}".into(),
            text => text.into(),
        },
        Value::Number(_) if member == "remotePort" && holds("port", value, port) => bare("port"),
        Value::Number(number) if holds("ms", value, port) && number.is_u64() => bare("ms"),
        Value::Number(number) if number.is_f64() && holds("random", value, port) => bare("random"),
        Value::Array(values) => {
            let older = |index| older.and_then(Value::as_array).and_then(|older| older.get(index));
            let values = values.iter().enumerate();
            values.map(|(index, value)| describe(value, older(index), member, names, port)).collect()
        }
        Value::Object(object) => {
            let older = |name: &str| older.and_then(Value::as_object).and_then(|older| older.get(name));
            let members = object.iter().map(|(name, value)| {
                let name = names.hide(name);
                let described = describe(value, older(&name), &name, names, port);
                (name, described)
            });
            Value::Object(members.collect())
        }
        value => value.clone(),
    }
}

fn is_uuid(text: &str) -> bool {
    let hyphens = [8, 13, 18, 23];
    text.len() == 36
        && text.bytes().enumerate().all(|(at, byte)| match byte {
            b'-' => hyphens.contains(&at),
            b'4' if at == 14 => true,
            _ if at == 14 => false,
            b'8' | b'9' | b'a' | b'b' if at == 19 => true,
            _ if at == 19 => false,
            byte => matches!(byte, b'0'..=b'9' | b'a'..=b'f') && !hyphens.contains(&at),
        })
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
