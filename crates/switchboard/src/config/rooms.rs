//! The rooms that exist from the start, and what a setting may say about them.

use std::collections::BTreeMap;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::kind::{describe, quote};
use super::section::{Kind, Mismatch};

/// A room that the server makes when it starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StartingRoom {
    /// The name: 1 to 128 bytes without control characters.
    pub name: String,
    /// What a connection's server-only state must contain before it may enter; every pair must match. Empty: no condition.
    pub auth: BTreeMap<String, AuthValue>,
}

impl StartingRoom {
    /// A room that everybody may enter.
    pub fn open(name: impl Into<String>) -> Self {
        Self { name: name.into(), auth: BTreeMap::new() }
    }
}

/// A value that an authentication pattern compares with a connection's server-only state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AuthValue {
    /// `true` or `false`.
    Bool(bool),
    /// A whole or a finite fractional number.
    Number(serde_json::Number),
    /// A text.
    Text(String),
}

impl From<AuthValue> for serde_json::Value {
    fn from(value: AuthValue) -> Self {
        match value {
            AuthValue::Bool(flag) => Self::Bool(flag),
            AuthValue::Number(number) => Self::Number(number),
            AuthValue::Text(text) => Self::String(text),
        }
    }
}

/// The list of starting rooms.
pub(super) struct StartingRooms;

impl Kind<Vec<StartingRoom>> for StartingRooms {
    fn type_name(&self) -> String {
        "list of rooms: name (text) and, if wanted, auth (table of text to text, number, true or false)".into()
    }

    fn read(&self, value: &Spanned<DeValue<'_>>) -> Result<Vec<StartingRoom>, Vec<Mismatch>> {
        let DeValue::Array(items) = value.get_ref() else {
            return Err(vec![Mismatch::new("a list of rooms", Some(describe(value.get_ref())))]);
        };
        let mut wrong = Vec::new();
        let mut rooms: Vec<StartingRoom> = Vec::new();
        for (index, item) in items.iter().enumerate() {
            let room = read_room(item, &mut |inside, span, expected, found| {
                wrong.push(Mismatch { inside: format!("[{index}]{inside}"), span: Some(span), expected, found });
            });
            rooms.extend(room);
        }
        if wrong.is_empty() {
            wrong = self.check(&rooms);
            for mismatch in &mut wrong {
                // The index is that of the source: nothing was left out, or there would be a complaint already.
                let index = mismatch.inside.trim_start_matches('[').split(']').next().and_then(|i| i.parse().ok());
                mismatch.span = index.and_then(|index: usize| items.get(index)).map(Spanned::span);
            }
        }
        if wrong.is_empty() { Ok(rooms) } else { Err(wrong) }
    }

    fn write(&self, value: &Vec<StartingRoom>) -> String {
        let rooms: Vec<String> = value.iter().map(write_room).collect();
        format!("[{}]", rooms.join(", "))
    }

    fn check(&self, value: &Vec<StartingRoom>) -> Vec<Mismatch> {
        let mut wrong = Vec::new();
        for (index, room) in value.iter().enumerate() {
            let mut refuse = |expected: &str| {
                let inside = format!("[{index}].name");
                wrong.push(Mismatch { inside, ..Mismatch::new(expected, Some(quote(&room.name))) });
            };
            if !is_room_name(&room.name) {
                refuse("a room name of 1 to 128 bytes without control characters");
            }
            if value[..index].iter().any(|other| other.name == room.name) {
                refuse("a room that is not in the list already");
            }
        }
        wrong
    }
}

type Complain<'a> = &'a mut dyn FnMut(&str, std::ops::Range<usize>, String, Option<String>);

fn read_room(item: &Spanned<DeValue<'_>>, complain: Complain<'_>) -> Option<StartingRoom> {
    let DeValue::Table(table) = item.get_ref() else {
        complain("", item.span(), "a table such as { name = \"lobby\" }".into(), Some(describe(item.get_ref())));
        return None;
    };
    let mut name = None;
    let mut auth = BTreeMap::new();
    for (key, value) in table {
        match (key.get_ref().as_ref(), value.get_ref()) {
            ("name", DeValue::String(text)) => name = Some(text.to_string()),
            ("name", other) => complain(".name", value.span(), "a text".into(), Some(describe(other))),
            ("auth", DeValue::Table(pairs)) => auth = read_auth(pairs, complain),
            ("auth", other) => {
                let expected = "a table such as { authorized = true }".into();
                complain(".auth", value.span(), expected, Some(describe(other)));
            }
            (unknown, _) => {
                complain(&format!(".{unknown}"), key.span(), "only the keys name and auth".into(), None);
            }
        }
    }
    if name.is_none() && !table.contains_key("name") {
        complain("", item.span(), "a room with a name".into(), None);
    }
    Some(StartingRoom { name: name?, auth })
}

fn read_auth(pairs: &DeTable<'_>, complain: Complain<'_>) -> BTreeMap<String, AuthValue> {
    let mut auth = BTreeMap::new();
    for (key, value) in pairs {
        match auth_value(value.get_ref()) {
            Some(read) => drop(auth.insert(key.get_ref().to_string(), read)),
            None => {
                let expected = "a text, a number, true or false".into();
                complain(&format!(".auth.{}", key.get_ref()), value.span(), expected, Some(describe(value.get_ref())));
            }
        }
    }
    auth
}

fn auth_value(value: &DeValue<'_>) -> Option<AuthValue> {
    match value {
        DeValue::Boolean(flag) => Some(AuthValue::Bool(*flag)),
        DeValue::String(text) => Some(AuthValue::Text(text.to_string())),
        DeValue::Integer(number) => {
            i64::from_str_radix(number.as_str(), number.radix()).ok().map(|number| AuthValue::Number(number.into()))
        }
        DeValue::Float(number) => {
            number.as_str().parse().ok().and_then(serde_json::Number::from_f64).map(AuthValue::Number)
        }
        DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => None,
    }
}

fn write_room(room: &StartingRoom) -> String {
    let name = quote(&room.name);
    if room.auth.is_empty() {
        return format!("{{ name = {name} }}");
    }
    let pairs: Vec<String> = room
        .auth
        .iter()
        .map(|(key, value)| {
            let value = match value {
                AuthValue::Bool(flag) => flag.to_string(),
                AuthValue::Number(number) => number.to_string(),
                AuthValue::Text(text) => quote(text),
            };
            format!("{} = {value}", quote(key))
        })
        .collect();
    format!("{{ name = {name}, auth = {{ {} }} }}", pairs.join(", "))
}

fn is_room_name(name: &str) -> bool {
    (1..=128).contains(&name.len()) && !name.chars().any(char::is_control)
}
