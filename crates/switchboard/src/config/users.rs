//! The people and bots that may log in, and what a setting may say about them.

use std::collections::{BTreeMap, HashSet};

use serde_json::Value;
use switchboard_proto::profile::{FACTS, MAX_STATE_BYTES, MAX_STATE_VALUES, MAX_TAGS, is_tag, state_bytes};
use switchboard_proto::user;
use toml::Spanned;
use toml::de::DeValue;

use crate::password::{BadHash, PasswordHash};

use super::fields::{Fields, texts, write_texts};
use super::kind::{describe, quote};
use super::rooms::{AuthValue, read_values, write_values};
use super::secret::Secret;
use super::section::{Kind, Mismatch};

/// Somebody who may log in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// What never changes: 1 to 128 bytes without slash and control characters, and neither the id nor the name of
    /// anybody else.
    pub id: String,
    /// What people call him: 1 to 128 bytes without control characters, and neither the name nor the id of anybody else.
    pub username: String,
    /// What he proves himself with.
    pub password: Password,
    /// What he is. A role counts as a tag too; who has the role `bot` is a program.
    pub roles: Vec<String>,
    /// What commands can aim at.
    pub tags: Vec<String>,
    /// Server-only state that his connections have once he has logged in.
    pub state: BTreeMap<String, AuthValue>,
    /// Whether he may log in.
    pub active: bool,
}

impl User {
    /// Somebody without roles, tags and state, who may log in.
    pub fn new(id: impl Into<String>, username: impl Into<String>, password: Password) -> Self {
        let (id, username) = (id.into(), username.into());
        let (roles, tags, state) = (Vec::new(), Vec::new(), BTreeMap::new());
        Self { id, username, password, roles, tags, state, active: true }
    }
}

/// A password, or what it can be checked by. Printing one shows neither.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Password {
    /// The PHC string of Argon2 over the lower-case hexadecimal SHA-256 of the password.
    Hash(Secret),
    /// The password itself.
    Plain(Secret),
}

/// The list of users.
pub(super) struct Users;

const KEYS: [&str; 8] = ["id", "username", "password", "password_hash", "roles", "tags", "state", "active"];

impl Kind<Vec<User>> for Users {
    fn type_name(&self) -> String {
        "list of users, each with id, username (texts), password or password_hash (PHC string of Argon2) and, if wanted, \
         roles, tags (lists of texts), state (a table of texts, numbers, true or false), active (true or false)"
            .into()
    }

    fn read(&self, value: &Spanned<DeValue<'_>>) -> Result<Vec<User>, Vec<Mismatch>> {
        let DeValue::Array(items) = value.get_ref() else {
            // What was found instead may be a list with a misspelt bracket, passwords and all.
            let text = "expected a list of users such as [{ id = \"u1\", username = \"ann\", password_hash = \"$argon2id$…\" }]";
            return Err(vec![secretly(text)]);
        };
        let (mut users, mut places, mut wrong) = (Vec::with_capacity(items.len()), Vec::new(), Vec::new());
        for (index, item) in items.iter().enumerate() {
            let mut complaints = Vec::new();
            if let Some(user) = read_user(item, &mut complaints) {
                users.push(user);
                places.push((index, item));
            }
            wrong.extend(complaints.into_iter().map(|mismatch| mismatch.of_item(index)));
        }
        for ((index, item), mismatch) in places.into_iter().zip(check_users(&users)) {
            wrong.extend(mismatch.map(|mismatch| mismatch.at(item).of_item(index)));
        }
        if wrong.is_empty() { Ok(users) } else { Err(wrong) }
    }

    fn write(&self, value: &Vec<User>) -> String {
        let users: Vec<String> = value.iter().map(write_user).collect();
        format!("[{}]", users.join(", "))
    }

    fn hides(&self, value: &Vec<User>) -> bool {
        !value.is_empty()
    }

    fn check(&self, value: &Vec<User>) -> Vec<Mismatch> {
        let mismatches = check_users(value).enumerate();
        mismatches.filter_map(|(index, mismatch)| Some(mismatch?.of_item(index))).collect()
    }
}

/// What is wrong, without what was found.
pub(super) fn secretly(text: impl Into<String>) -> Mismatch {
    Mismatch { inside: String::new(), span: None, text: text.into(), found: None }
}

/// What is wrong with each user, if anything is.
fn check_users(users: &[User]) -> impl Iterator<Item = Option<Mismatch>> {
    let (mut ids, mut names) = (HashSet::new(), HashSet::new());
    users.iter().map(move |user| {
        let (id, name) = (user.id.as_str(), user.username.as_str());
        let checked = check_names(id, name, &ids, &names).or_else(|| check_user(user));
        ids.insert(id);
        names.insert(name);
        checked
    })
}

fn check_names(id: &str, name: &str, ids: &HashSet<&str>, names: &HashSet<&str>) -> Option<Mismatch> {
    let refuse = |part: &str, expected: &str, found: &str| Some(Mismatch::new(expected, quote(found)).of_part(part));
    if user::User::new(id).is_err() {
        refuse("id", "an id of 1 to 128 bytes without / and control characters", id)
    } else if user::User::named(id, name).is_err() {
        refuse("username", "a name of 1 to 128 bytes without control characters", name)
    } else if ids.contains(id) {
        refuse("id", "an id that no other user has", id)
    } else if names.contains(name) {
        refuse("username", "a name that no other user has", name)
    } else if names.contains(id) {
        // Whoever is looked up by a text is looked up by id and name.
        refuse("id", "an id that is not the name of another user", id)
    } else if ids.contains(name) {
        refuse("username", "a name that is not the id of another user", name)
    } else {
        None
    }
}

fn check_user(user: &User) -> Option<Mismatch> {
    check_password(&user.password).or_else(|| check_profile(&user.roles, &user.tags, &user.state))
}

/// What is wrong with what is said about somebody who has, or is, a connection.
pub(super) fn check_profile(
    roles: &[String],
    tags: &[String],
    state: &BTreeMap<String, AuthValue>,
) -> Option<Mismatch> {
    check_tags("roles", roles)
        .or_else(|| check_tags("tags", tags))
        .or_else(|| {
            let tags: HashSet<&String> = roles.iter().chain(tags).collect();
            let expected = format!("at most {MAX_TAGS} roles and tags together");
            (tags.len() > MAX_TAGS).then(|| Mismatch::new(&expected, tags.len().to_string()).of_part("tags"))
        })
        .or_else(|| check_state(state).map(|mismatch| mismatch.of_part("state")))
}

fn check_password(password: &Password) -> Option<Mismatch> {
    let (part, text) = match password {
        Password::Plain(secret) if secret.is_set() => return None,
        Password::Plain(_) => ("password", "expected a password that is not empty"),
        Password::Hash(hash) => match PasswordHash::parse(hash.reveal()) {
            Ok(_) => return None,
            Err(BadHash::NotArgon2) => (
                "password_hash",
                "expected a PHC string of Argon2 with version 19, as `switchboard hash-password` prints it",
            ),
            Err(BadHash::TooCostly) => (
                "password_hash",
                "expected a hash that costs at most m=262144 (256 MiB), t=16 and p=16; \
                 `switchboard hash-password` makes a cheaper one",
            ),
        },
    };
    Some(secretly(text).of_part(part))
}

fn check_tags(part: &str, tags: &[String]) -> Option<Mismatch> {
    let bad = tags.iter().find(|tag| !is_tag(tag))?;
    Some(Mismatch::new("texts of 1 to 128 bytes without control characters", quote(bad)).of_part(part))
}

fn check_state(state: &BTreeMap<String, AuthValue>) -> Option<Mismatch> {
    if let Some(fact) = state.keys().find(|name| FACTS.contains(&name.as_str())) {
        return Some(secretly("is a fact of every connection and cannot be set; choose another name").of_part(fact));
    }
    let bytes: usize = state.iter().map(|(name, value)| state_bytes(name, &Value::from(value.clone()))).sum();
    let is_over = state.len() > MAX_STATE_VALUES || bytes > MAX_STATE_BYTES;
    is_over.then(|| {
        let found = format!("{} values and {bytes} bytes", state.len());
        Mismatch::new(&format!("at most {MAX_STATE_VALUES} values and {} KiB", MAX_STATE_BYTES >> 10), found)
    })
}

fn read_user(item: &Spanned<DeValue<'_>>, complaints: &mut Vec<Mismatch>) -> Option<User> {
    let DeValue::Table(table) = item.get_ref() else {
        let text = "expected a table such as { id = \"u1\", username = \"ann\", password_hash = \"$argon2id$…\" }";
        complaints.push(secretly(text).at(item));
        return None;
    };
    let text = |value: &Spanned<DeValue<'_>>| value.get_ref().as_str().map(str::to_owned);
    let mut fields = Fields { table, complaints };
    let id = fields.take("id", "a text", text);
    let username = fields.take("username", "a text", text);
    let roles = fields.take("roles", "a list of texts", texts);
    let tags = fields.take("tags", "a list of texts", texts);
    let active = fields.take("active", "true or false", |value| value.get_ref().as_bool());
    fields.refuse_others("a user", &KEYS);
    for (name, what) in [("id", "a user needs an id"), ("username", "a user needs a username")] {
        if !table.contains_key(name) {
            fields.complain(item, what);
        }
    }
    let password = read_password(item, &mut fields);
    let state = read_state(&mut fields);
    Some(User {
        roles: roles.unwrap_or_default(),
        tags: tags.unwrap_or_default(),
        state,
        active: active.unwrap_or(true),
        ..User::new(id?, username?, password?)
    })
}

/// The part `state`, empty if it is not there.
pub(super) fn read_state(fields: &mut Fields<'_, '_>) -> BTreeMap<String, AuthValue> {
    let Some(value) = fields.table.get("state") else { return BTreeMap::new() };
    let DeValue::Table(pairs) = value.get_ref() else {
        let mismatch = Mismatch::new("a table such as { authorized = true }", describe(value.get_ref()));
        fields.complaints.push(mismatch.at(value).of_part("state"));
        return BTreeMap::new();
    };
    read_values("state", pairs, fields.complaints)
}

/// Reads one of the two, and shows neither.
fn read_password(item: &Spanned<DeValue<'_>>, fields: &mut Fields<'_, '_>) -> Option<Password> {
    let (name, value) = match (fields.table.get("password"), fields.table.get("password_hash")) {
        (Some(plain), None) => ("password", plain),
        (None, Some(hash)) => ("password_hash", hash),
        (None, None) => {
            fields.complain(
                item,
                "a user needs a password or a password_hash; `switchboard hash-password` makes the latter",
            );
            return None;
        }
        (Some(_), Some(_)) => {
            fields.complain(item, "a user has a password or a password_hash, not both; remove one of them");
            return None;
        }
    };
    let Some(text) = value.get_ref().as_str() else {
        fields.complaints.push(secretly("expected a text").at(value).of_part(name));
        return None;
    };
    let secret = Secret::new(text);
    Some(if name == "password" { Password::Plain(secret) } else { Password::Hash(secret) })
}

fn write_user(user: &User) -> String {
    let password = match user.password {
        Password::Plain(_) => "password",
        Password::Hash(_) => "password_hash",
    };
    let (id, username) = (quote(&user.id), quote(&user.username));
    let mut text = format!("{{ id = {id}, username = {username}, {password} = {}", Secret::HIDDEN);
    for (name, list) in [("roles", &user.roles), ("tags", &user.tags)] {
        if !list.is_empty() {
            text.push_str(&format!(", {name} = {}", write_texts(list)));
        }
    }
    if !user.state.is_empty() {
        text.push_str(&format!(", state = {}", write_values(&user.state)));
    }
    if !user.active {
        text.push_str(", active = false");
    }
    text.push_str(" }");
    text
}
