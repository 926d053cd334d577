//! The rooms that exist from the start, and what a setting may say about them.

use std::collections::BTreeMap;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::kind::{describe, quote, refuse};
use super::section::{Kind, Mismatch};

/// A room that the server makes when it starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StartingRoom {
    /// The name: 1 to 128 bytes without control characters.
    pub name: String,
    /// What a connection's server-only state must contain before it may enter; every pair must match. Empty: no
    /// condition.
    pub auth: BTreeMap<String, AuthValue>,
}

impl StartingRoom {
    /// A room that everybody may enter.
    pub fn open(name: impl Into<String>) -> Self {
        Self { name: name.into(), auth: BTreeMap::new() }
    }
}

/// A value of a connection's server-only state, which authentication patterns compare with it.
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
        "list of rooms, each with name (text) and, if wanted, auth (a table of texts, numbers, true or false)".into()
    }

    fn read(&self, value: &Spanned<DeValue<'_>>) -> Result<Vec<StartingRoom>, Vec<Mismatch>> {
        let DeValue::Array(items) = value.get_ref() else {
            return Err(refuse("a list of rooms such as [{ name = \"lobby\" }]", value));
        };
        let mut rooms = Vec::with_capacity(items.len());
        let mut wrong = Vec::new();
        for (index, item) in items.iter().enumerate() {
            let mut complaints = Vec::new();
            if let Some(room) = read_room(item, &mut complaints) {
                complaints.extend(check_room(&room, &rooms).map(|mismatch| mismatch.at(item)));
                rooms.push(room);
            }
            wrong.extend(complaints.into_iter().map(|mismatch| mismatch.of_item(index)));
        }
        if wrong.is_empty() { Ok(rooms) } else { Err(wrong) }
    }

    fn write(&self, value: &Vec<StartingRoom>) -> String {
        let rooms: Vec<String> = value.iter().map(write_room).collect();
        format!("[{}]", rooms.join(", "))
    }

    fn check(&self, value: &Vec<StartingRoom>) -> Vec<Mismatch> {
        let rooms = value.iter().enumerate();
        rooms.filter_map(|(i, room)| check_room(room, &value[..i]).map(|mismatch| mismatch.of_item(i))).collect()
    }
}

/// What is wrong with a room that follows others in the list.
fn check_room(room: &StartingRoom, before: &[StartingRoom]) -> Option<Mismatch> {
    let expected = if !(1..=128).contains(&room.name.len()) || room.name.chars().any(char::is_control) {
        "a room name of 1 to 128 bytes without control characters"
    } else if before.iter().any(|other| other.name == room.name) {
        "a room that is not in the list yet"
    } else {
        return None;
    };
    Some(Mismatch::new(expected, quote(&room.name)).of_part("name"))
}

fn read_room(item: &Spanned<DeValue<'_>>, complaints: &mut Vec<Mismatch>) -> Option<StartingRoom> {
    let DeValue::Table(table) = item.get_ref() else {
        let expected = "a table such as { name = \"lobby\" }";
        complaints.extend(refuse(expected, item).into_iter().map(|mismatch| mismatch.at(item)));
        return None;
    };
    let mut name = None;
    let mut auth = BTreeMap::new();
    for (key, value) in table {
        let mut refuse = |expected: &str| {
            let mismatch = Mismatch::new(expected, describe(value.get_ref()));
            complaints.push(mismatch.at(value).of_part(key.get_ref()));
        };
        match (key.get_ref().as_ref(), value.get_ref()) {
            ("name", DeValue::String(text)) => name = Some(text.to_string()),
            ("name", _) => refuse("a text"),
            ("auth", DeValue::Table(pairs)) => auth = read_values("auth", pairs, complaints),
            ("auth", _) => refuse("a table such as { authorized = true }"),
            (unknown, _) => complaints.push(Mismatch {
                inside: format!(".{unknown}"),
                span: Some(key.span()),
                text: "unknown key; a room has name and auth".into(),
                found: None,
            }),
        }
    }
    if !table.contains_key("name") {
        let text = "a room needs a name".into();
        complaints.push(Mismatch { inside: String::new(), span: Some(item.span()), text, found: None });
    }
    Some(StartingRoom { name: name?, auth })
}

/// The values of the part `name`, which is a table.
pub(super) fn read_values(
    name: &str,
    pairs: &DeTable<'_>,
    complaints: &mut Vec<Mismatch>,
) -> BTreeMap<String, AuthValue> {
    let mut values = BTreeMap::new();
    for (key, value) in pairs {
        if let Some(read) = auth_value(value.get_ref()) {
            values.insert(key.get_ref().to_string(), read);
        } else {
            let mismatch = Mismatch::new("a text, a number, true or false", describe(value.get_ref()));
            complaints.push(mismatch.at(value).of_part(key.get_ref()).of_part(name));
        }
    }
    values
}

fn auth_value(value: &DeValue<'_>) -> Option<AuthValue> {
    match value {
        DeValue::Boolean(flag) => Some(AuthValue::Bool(*flag)),
        DeValue::String(text) => Some(AuthValue::Text(text.to_string())),
        DeValue::Integer(number) => {
            let number = i64::from_str_radix(number.as_str(), number.radix()).ok()?;
            Some(AuthValue::Number(number.into()))
        }
        DeValue::Float(number) => {
            let number = number.as_str().parse().ok()?;
            serde_json::Number::from_f64(number).map(AuthValue::Number)
        }
        DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => None,
    }
}

fn write_room(room: &StartingRoom) -> String {
    let name = quote(&room.name);
    if room.auth.is_empty() {
        return format!("{{ name = {name} }}");
    }
    format!("{{ name = {name}, auth = {} }}", write_values(&room.auth))
}

/// The values as a table of TOML.
pub(super) fn write_values(values: &BTreeMap<String, AuthValue>) -> String {
    let pairs: Vec<String> = values.iter().map(|(key, value)| write_pair(key, value)).collect();
    format!("{{ {} }}", pairs.join(", "))
}

fn write_pair(key: &str, value: &AuthValue) -> String {
    let is_bare = !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
    let key = if is_bare { key.to_owned() } else { quote(key) };
    match value {
        AuthValue::Bool(flag) => format!("{key} = {flag}"),
        AuthValue::Number(number) => format!("{key} = {number}"),
        AuthValue::Text(text) => format!("{key} = {}", quote(text)),
    }
}
