//! What the settings of hooks over HTTP are made of: URLs, policies, and the actions that a backend answers.

use std::fmt;
use std::time::Duration;

use hyper::Uri;
use hyper::header::HeaderName;
use hyper::http::uri::Authority;
use toml::Spanned;
use toml::de::DeValue;

use super::fields::{Fields, texts, write_texts};
use super::kind::{Span, Word, quote, refuse};
use super::section::{Kind, Mismatch};

/// The address of a backend: `http` or `https`, a host, perhaps a port, a path and a query; nobody's name or password.
#[derive(Clone, PartialEq, Eq)]
pub struct HttpUrl(Uri);

impl HttpUrl {
    const EXPECTED: &str = "an http:// or https:// URL without user, password and fragment";

    /// Reads a URL.
    pub fn parse(text: &str) -> Option<Self> {
        let uri: Uri = text.parse().ok()?;
        let authority = uri.authority()?;
        let is_ours = matches!(uri.scheme_str(), Some("http" | "https"))
            && !authority.host().is_empty()
            // Nobody's name or password, and no port that is none.
            && (authority.as_str() == authority.host() || is_host_and_port(authority))
            && !text.contains('#');
        is_ours.then_some(Self(uri))
    }

    /// Whether it is asked over TLS.
    pub fn is_secure(&self) -> bool {
        self.0.scheme_str() == Some("https")
    }

    pub(crate) fn uri(&self) -> &Uri {
        &self.0
    }
}

fn is_host_and_port(authority: &Authority) -> bool {
    let port = authority.as_str().strip_prefix(authority.host()).and_then(|rest| rest.strip_prefix(':'));
    port.and_then(|port| port.parse::<u16>().ok()).is_some_and(|port| port != 0)
}

/// Without the query, which may hold what the log must not: for people.
impl fmt::Debug for HttpUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let authority = self.0.authority().map_or("", |authority| authority.as_str());
        write!(f, "{}://{authority}{}", self.0.scheme_str().unwrap_or_default(), self.0.path())
    }
}

/// A URL that may be absent: TOML has no null, so the empty text says "none".
pub(super) struct Url;

impl Kind<Option<HttpUrl>> for Url {
    fn type_name(&self) -> String {
        "http:// or https:// URL, or empty for none".into()
    }

    fn read(&self, value: &Spanned<DeValue<'_>>) -> Result<Option<HttpUrl>, Vec<Mismatch>> {
        match value.get_ref() {
            DeValue::String(text) if text.is_empty() => Ok(None),
            other => match other.as_str().and_then(HttpUrl::parse) {
                Some(url) => Ok(Some(url)),
                None => Err(refuse(HttpUrl::EXPECTED, value)),
            },
        }
    }

    fn write(&self, value: &Option<HttpUrl>) -> String {
        value.as_ref().map_or_else(|| quote(""), |url| quote(&url.0.to_string()))
    }

    fn check(&self, _: &Option<HttpUrl>) -> Vec<Mismatch> {
        Vec::new()
    }
}

/// What a hook that brought no answer means for whoever waits for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnFailure {
    /// It goes on, as if there were no hook: fail-open.
    Allow,
    /// It is refused: fail-closed.
    Refuse,
}

impl Word for OnFailure {
    const WORDS: &'static [(Self, &'static str)] = &[(Self::Refuse, "refuse"), (Self::Allow, "allow")];
}

/// An action that a backend answers over HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteAction {
    /// What it is called.
    pub name: String,
    /// Where it is asked for.
    pub url: HttpUrl,
    /// Its version; the highest answers unless a client names one.
    pub version: u32,
    /// One sentence, for `documentation`.
    pub description: String,
    /// Inputs without which it is refused before anybody is asked.
    pub required: Vec<String>,
    /// Inputs that may be absent.
    pub optional: Vec<String>,
    /// How long an answer may take; zero: `hooks.timeout`.
    pub timeout: Duration,
    /// Whether it is refused over HTTP with GET, which a page of another host can send.
    pub require_post: bool,
    /// Whether the backend gets method, path, query and raw body of an HTTP request, and may set status, content type and
    /// body of its answer.
    pub http: bool,
    /// Headers of the HTTP request that the backend gets, in lower case.
    pub http_headers: Vec<String>,
    /// Headers that the backend may set, `content-type` apart, in lower case.
    pub http_answer_headers: Vec<String>,
}

impl RemoteAction {
    /// Version 1, without inputs.
    pub fn new(name: impl Into<String>, url: HttpUrl) -> Self {
        Self {
            name: name.into(),
            url,
            version: 1,
            description: String::new(),
            required: Vec::new(),
            optional: Vec::new(),
            timeout: Duration::ZERO,
            require_post: false,
            http: false,
            http_headers: Vec::new(),
            http_answer_headers: Vec::new(),
        }
    }
}

/// How long a backend may take for anything.
pub(super) const LONGEST_ANSWER: Duration = Duration::from_secs(600);
const TIMEOUT: Span = Span::off_or(Duration::from_millis(1), LONGEST_ANSWER);

/// The list of actions that backends answer.
pub(super) struct RemoteActions;

impl Kind<Vec<RemoteAction>> for RemoteActions {
    fn type_name(&self) -> String {
        "list of actions, each with name (text), url and, if wanted, version (number), description (text), required and \
         optional (lists of texts: names of inputs), timeout (duration), require_post and http (true or false), http_headers and \
         http_answer_headers (lists of texts: names of headers)"
            .into()
    }

    fn read(&self, value: &Spanned<DeValue<'_>>) -> Result<Vec<RemoteAction>, Vec<Mismatch>> {
        let DeValue::Array(items) = value.get_ref() else {
            return Err(refuse(
                "a list of actions such as [{ name = \"score\", url = \"http://127.0.0.1:8000/\" }]",
                value,
            ));
        };
        let mut actions: Vec<RemoteAction> = Vec::with_capacity(items.len());
        let mut wrong = Vec::new();
        for (index, item) in items.iter().enumerate() {
            let mut complaints = Vec::new();
            if let Some(action) = read_action(item, &mut complaints) {
                complaints.extend(check_action(&action, &actions).map(|mismatch| mismatch.at(item)));
                actions.push(action);
            }
            wrong.extend(complaints.into_iter().map(|mismatch| mismatch.of_item(index)));
        }
        if wrong.is_empty() { Ok(actions) } else { Err(wrong) }
    }

    fn write(&self, value: &Vec<RemoteAction>) -> String {
        let actions: Vec<String> = value.iter().map(write_action).collect();
        format!("[{}]", actions.join(", "))
    }

    fn check(&self, value: &Vec<RemoteAction>) -> Vec<Mismatch> {
        let actions = value.iter().enumerate();
        actions.filter_map(|(i, action)| check_action(action, &value[..i]).map(|wrong| wrong.of_item(i))).collect()
    }
}

/// What is wrong with an action that follows others in the list.
fn check_action(action: &RemoteAction, before: &[RemoteAction]) -> Option<Mismatch> {
    let is_same = |other: &RemoteAction| other.name == action.name && other.version == action.version;
    let name = || quote(&action.name);
    if action.name.is_empty() || action.name.chars().any(char::is_control) {
        Some(Mismatch::new("a text without control characters", name()).of_part("name"))
    } else if before.iter().any(is_same) {
        Some(Mismatch::new("an action that is not in the list yet in this version", name()).of_part("name"))
    } else if !action.http && !action.http_headers.is_empty() {
        Some(
            Mismatch::new("no headers, since `http` is not true", write_texts(&action.http_headers))
                .of_part("http_headers"),
        )
    } else if !action.http && !action.http_answer_headers.is_empty() {
        let found = write_texts(&action.http_answer_headers);
        Some(Mismatch::new("no headers, since `http` is not true", found).of_part("http_answer_headers"))
    } else {
        TIMEOUT.check(&action.timeout).pop().map(|mismatch| mismatch.of_part("timeout"))
    }
}

fn read_action(item: &Spanned<DeValue<'_>>, complaints: &mut Vec<Mismatch>) -> Option<RemoteAction> {
    let DeValue::Table(table) = item.get_ref() else {
        let expected = "a table such as { name = \"score\", url = \"http://127.0.0.1:8000/\" }";
        complaints.extend(refuse(expected, item).into_iter().map(|mismatch| mismatch.at(item)));
        return None;
    };
    let mut fields = Fields { table, complaints };
    let name = fields.take("name", "a text", |value| value.get_ref().as_str().map(str::to_owned));
    let url = fields.take("url", HttpUrl::EXPECTED, |value| value.get_ref().as_str().and_then(HttpUrl::parse));
    let version = fields.take("version", "a whole number from 0 to 4294967295", |value| {
        let number = value.get_ref().as_integer()?;
        u32::from_str_radix(number.as_str(), number.radix()).ok()
    });
    let description = fields.take("description", "a text", |value| value.get_ref().as_str().map(str::to_owned));
    let required = fields.take("required", "a list of texts", texts);
    let optional = fields.take("optional", "a list of texts", texts);
    let timeout = fields.take("timeout", "0 or a duration from 1ms to 10m", |value| TIMEOUT.read(value).ok());
    let require_post = fields.take("require_post", "true or false", |value| value.get_ref().as_bool());
    let http = fields.take("http", "true or false", |value| value.get_ref().as_bool());
    let http_headers = fields.take("http_headers", "a list of header names", header_names);
    let http_answer_headers = fields.take("http_answer_headers", "a list of header names", header_names);
    fields.refuse_others("an action", &KEYS);
    for (name, what) in [("name", "an action needs a name"), ("url", "an action needs a url")] {
        if !table.contains_key(name) {
            fields.complain(item, what);
        }
    }
    Some(RemoteAction {
        version: version.unwrap_or(1),
        description: description.unwrap_or_default(),
        required: required.unwrap_or_default(),
        optional: optional.unwrap_or_default(),
        timeout: timeout.unwrap_or_default(),
        require_post: require_post.unwrap_or_default(),
        http: http.unwrap_or_default(),
        http_headers: http_headers.unwrap_or_default(),
        http_answer_headers: http_answer_headers.unwrap_or_default(),
        ..RemoteAction::new(name?, url?)
    })
}

const KEYS: [&str; 11] = [
    "name",
    "url",
    "version",
    "description",
    "required",
    "optional",
    "timeout",
    "require_post",
    "http",
    "http_headers",
    "http_answer_headers",
];

/// Names of headers, in lower case.
fn header_names(value: &Spanned<DeValue<'_>>) -> Option<Vec<String>> {
    let name = |text: String| HeaderName::try_from(text).ok().map(|name| name.as_str().to_owned());
    texts(value)?.into_iter().map(name).collect()
}

fn write_action(action: &RemoteAction) -> String {
    let mut text = format!("{{ name = {}, url = {}", quote(&action.name), quote(&action.url.0.to_string()));
    let usual = RemoteAction::new("", action.url.clone());
    let mut add = |name: &str, is_usual: bool, value: String| {
        if !is_usual {
            text.push_str(&format!(", {name} = {value}"));
        }
    };
    add("version", action.version == usual.version, action.version.to_string());
    add("description", action.description == usual.description, quote(&action.description));
    add("required", action.required == usual.required, write_texts(&action.required));
    add("optional", action.optional == usual.optional, write_texts(&action.optional));
    add("timeout", action.timeout == usual.timeout, TIMEOUT.write(&action.timeout));
    add("require_post", action.require_post == usual.require_post, action.require_post.to_string());
    add("http", action.http == usual.http, action.http.to_string());
    add("http_headers", action.http_headers.is_empty(), write_texts(&action.http_headers));
    add("http_answer_headers", action.http_answer_headers.is_empty(), write_texts(&action.http_answer_headers));
    text.push_str(" }");
    text
}
