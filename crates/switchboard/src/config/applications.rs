//! The applications whose shards the gateway serves, and what a setting may say about them.

use std::collections::{BTreeMap, HashSet};

use ring::digest::{SHA256, digest};
use switchboard_proto::user;
use toml::Spanned;
use toml::de::DeValue;

use crate::hex;

use super::fields::{Fields, texts, write_texts};
use super::kind::{integer, quote};
use super::rooms::{AuthValue, write_values};
use super::secret::{Secret, SecretText};
use super::section::{Kind, Mismatch};
use super::users::{check_profile, read_state, secretly};

/// A bot with its shards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Application {
    /// What never changes: 1 to 128 bytes without slash and control characters; neither the id nor the name of a user.
    pub id: String,
    /// The Ed25519 key that the platform publishes for the application: 64 hexadecimal digits. Any other text of 1 to 256
    /// visible ASCII characters serves for tests; interactions cannot be checked against it.
    pub public_key: String,
    /// What the application and the server share: the secret itself, or `sha256:` and the 64 hexadecimal digits of its
    /// SHA-256. Empty: whoever knows the public key speaks for the application.
    pub secret: Secret,
    /// How many shards it has; 0: as many as its shard 0 says, or as register.
    pub shards: u32,
    /// Whether it has development shards.
    pub allow_development: bool,
    /// What commands can aim at.
    pub tags: Vec<String>,
    /// Server-only state of its shards.
    pub state: BTreeMap<String, AuthValue>,
}

impl Application {
    /// An application with this id and public key, and without a secret.
    pub fn new(id: impl Into<String>, public_key: impl Into<String>) -> Self {
        Self {
            id: id.into(),
            public_key: public_key.into(),
            secret: Secret::default(),
            shards: 0,
            allow_development: true,
            tags: Vec::new(),
            state: BTreeMap::new(),
        }
    }

    /// The SHA-256 of its secret, if there is one.
    pub fn secret_digest(&self) -> Option<[u8; 32]> {
        match Shared::of(&self.secret)? {
            Shared::Digest(digits) => hex::bytes::<32>(digits),
            Shared::Plain(text) => digest(&SHA256, text.as_bytes()).as_ref().try_into().ok(),
        }
    }

    /// Whether the secret can be guessed: it has less than 16 bytes. A digest does not show that.
    pub fn has_short_secret(&self) -> bool {
        matches!(Shared::of(&self.secret), Some(Shared::Plain(text)) if text.len() < Secret::SHORT_BYTES)
    }

    /// Its public key, if that is one: 64 hexadecimal digits.
    pub fn key_bytes(&self) -> Option<[u8; 32]> {
        hex::bytes(&self.public_key)
    }
}

/// How a secret is written.
enum Shared<'a> {
    Plain(&'a str),
    /// The hexadecimal digits of its SHA-256.
    Digest(&'a str),
}

impl<'a> Shared<'a> {
    const MARK: &'static str = "sha256:";

    fn of(secret: &'a Secret) -> Option<Self> {
        let text = secret.reveal();
        match text.strip_prefix(Self::MARK) {
            Some(digits) => Some(Self::Digest(digits)),
            None => (!text.is_empty()).then_some(Self::Plain(text)),
        }
    }
}

/// Whether somebody without the private key can make signatures that fit: a point of small order, in whatever encoding. What
/// encodes no number below the field's prime is refused with them.
fn is_worthless(mut key: [u8; 32]) -> bool {
    const OF_ORDER_8: [[u8; 32]; 2] = [
        [
            0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98, 0xf0, 0xd5, 0xdf,
            0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53, 0xfc, 0x05,
        ],
        [
            0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67, 0x0f, 0x2a, 0x20,
            0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac, 0x03, 0x7a,
        ],
    ];
    // The sign of the other coordinate changes nothing about the order.
    key[31] &= 0x7f;
    let [first, middle @ .., last] = key;
    let is_zero_or_one = first <= 1 && last == 0 && middle == [0; 30];
    // From one below the prime, 2^255 - 19, which is the point of order 2.
    let is_at_the_top = first >= 0xec && last == 0x7f && middle == [0xff; 30];
    is_zero_or_one || is_at_the_top || OF_ORDER_8.contains(&key)
}

/// The list of applications.
pub(super) struct Applications;

const KEYS: [&str; 7] = ["id", "public_key", "secret", "shards", "allow_development", "tags", "state"];

const MOST_SHARDS: u32 = 65_536;
const LONGEST_KEY: usize = 256;

impl Kind<Vec<Application>> for Applications {
    fn type_name(&self) -> String {
        "list of applications, each with id, public_key (texts) and, if wanted, secret (a text, or `sha256:` and the \
         hexadecimal SHA-256 of one), shards (whole number), allow_development (true or false), tags (a list of texts), \
         state (a table of texts, numbers, true or false)"
            .into()
    }

    fn read(&self, value: &Spanned<DeValue<'_>>) -> Result<Vec<Application>, Vec<Mismatch>> {
        let DeValue::Array(items) = value.get_ref() else {
            // What was found instead may be a list with a misspelt bracket, secrets and all.
            let text =
                "expected a list of applications such as [{ id = \"1\", public_key = \"3f0c…\", secret = \"…\" }]";
            return Err(vec![secretly(text)]);
        };
        let (mut applications, mut places, mut wrong) = (Vec::with_capacity(items.len()), Vec::new(), Vec::new());
        for (index, item) in items.iter().enumerate() {
            let mut complaints = Vec::new();
            if let Some(application) = read_application(item, &mut complaints) {
                applications.push(application);
                places.push((index, item));
            }
            wrong.extend(complaints.into_iter().map(|mismatch| mismatch.of_item(index)));
        }
        for ((index, item), mismatch) in places.into_iter().zip(check_applications(&applications)) {
            wrong.extend(mismatch.map(|mismatch| mismatch.at(item).of_item(index)));
        }
        if wrong.is_empty() { Ok(applications) } else { Err(wrong) }
    }

    fn write(&self, value: &Vec<Application>) -> String {
        let applications: Vec<String> = value.iter().map(write_application).collect();
        format!("[{}]", applications.join(", "))
    }

    fn hides(&self, value: &Vec<Application>) -> bool {
        value.iter().any(|application| application.secret.is_set())
    }

    fn check(&self, value: &Vec<Application>) -> Vec<Mismatch> {
        let mismatches = check_applications(value).enumerate();
        mismatches.filter_map(|(index, mismatch)| Some(mismatch?.of_item(index))).collect()
    }
}

/// What is wrong with each application, if anything is.
fn check_applications(applications: &[Application]) -> impl Iterator<Item = Option<Mismatch>> {
    let (mut ids, mut keys) = (HashSet::new(), HashSet::new());
    applications.iter().map(move |application| {
        let is_new_id = ids.insert(application.id.as_str());
        // A signature would fit both, however the digits are written.
        let is_new_key = keys.insert(match application.key_bytes() {
            Some(_) => application.public_key.to_ascii_lowercase(),
            None => application.public_key.clone(),
        });
        check_names(application, is_new_id, is_new_key).or_else(|| check_rest(application))
    })
}

fn check_names(application: &Application, is_new_id: bool, is_new_key: bool) -> Option<Mismatch> {
    let Application { id, public_key, .. } = application;
    let refuse = |part: &str, expected: &str, found: &str| Some(Mismatch::new(expected, quote(found)).of_part(part));
    let is_key =
        (1..=LONGEST_KEY).contains(&public_key.len()) && public_key.bytes().all(|byte| byte.is_ascii_graphic());
    if user::User::new(id).is_err() {
        refuse("id", "an id of 1 to 128 bytes without / and control characters", id)
    } else if !is_new_id {
        refuse("id", "an id that no other application has", id)
    } else if !is_key {
        refuse("public_key", "a key of 1 to 256 visible ASCII characters, 64 hexadecimal digits best", public_key)
    } else if !is_new_key {
        refuse("public_key", "a key that no other application has", public_key)
    } else if application.key_bytes().is_some_and(is_worthless) {
        refuse("public_key", "a key whose signatures only its owner can make", public_key)
    } else {
        None
    }
}

fn check_rest(application: &Application) -> Option<Mismatch> {
    let Application { secret, shards, tags, state, .. } = application;
    let is_secret = match Shared::of(secret) {
        None => true,
        Some(Shared::Digest(digits)) => hex::bytes::<32>(digits).is_some(),
        Some(Shared::Plain(_)) => SecretText::Token.allows(secret.reveal()),
    };
    if !is_secret {
        return Some(secretly(SECRET).of_part("secret"));
    }
    if *shards > MOST_SHARDS {
        return Some(Mismatch::new(SHARDS, shards.to_string()).of_part("shards"));
    }
    check_profile(&[], tags, state)
}

const SECRET: &str =
    "expected 1 to 1024 visible ASCII characters without spaces, or `sha256:` and 64 hexadecimal digits";
const SHARDS: &str = "a whole number from 0 to 65536";

fn read_application(item: &Spanned<DeValue<'_>>, complaints: &mut Vec<Mismatch>) -> Option<Application> {
    let DeValue::Table(table) = item.get_ref() else {
        let text = "expected a table such as { id = \"1\", public_key = \"3f0c…\", secret = \"…\" }";
        complaints.push(secretly(text).at(item));
        return None;
    };
    let text = |value: &Spanned<DeValue<'_>>| value.get_ref().as_str().map(str::to_owned);
    let mut fields = Fields { table, complaints };
    let id = fields.take("id", "a text", text);
    let public_key = fields.take("public_key", "a text", text);
    let shards = fields.take("shards", SHARDS, |value| integer(value.get_ref())?.try_into().ok());
    let allow_development = fields.take("allow_development", "true or false", |value| value.get_ref().as_bool());
    let tags = fields.take("tags", "a list of texts", texts);
    fields.refuse_others("an application", &KEYS);
    for (name, what) in [("id", "an application needs an id"), ("public_key", "an application needs a public_key")] {
        if !table.contains_key(name) {
            fields.complain(item, what);
        }
    }
    let secret = read_secret(&mut fields);
    let state = read_state(&mut fields);
    Some(Application {
        secret: secret?,
        shards: shards.unwrap_or_default(),
        allow_development: allow_development.unwrap_or(true),
        tags: tags.unwrap_or_default(),
        state,
        ..Application::new(id?, public_key?)
    })
}

/// The secret, empty if there is none, and shown nowhere.
fn read_secret(fields: &mut Fields<'_, '_>) -> Option<Secret> {
    let Some(value) = fields.table.get("secret") else { return Some(Secret::default()) };
    let refused = match value.get_ref().as_str() {
        // A secret that somebody forgot to fill in must not make the application open to all.
        Some("") => "is empty; remove the key if the application has no secret",
        Some(text) => return Some(Secret::new(text)),
        None => SECRET,
    };
    fields.complaints.push(secretly(refused).at(value).of_part("secret"));
    None
}

fn write_application(application: &Application) -> String {
    let Application { id, public_key, secret, shards, allow_development, tags, state } = application;
    let mut text = format!("{{ id = {}, public_key = {}", quote(id), quote(public_key));
    if secret.is_set() {
        text.push_str(&format!(", secret = {}", Secret::HIDDEN));
    }
    if *shards != 0 {
        text.push_str(&format!(", shards = {shards}"));
    }
    if !allow_development {
        text.push_str(", allow_development = false");
    }
    if !tags.is_empty() {
        text.push_str(&format!(", tags = {}", write_texts(tags)));
    }
    if !state.is_empty() {
        text.push_str(&format!(", state = {}", write_values(state)));
    }
    text.push_str(" }");
    text
}
