//! `switchboard ctl`: a client of the admin API.
//!
//! What is asked is put together from the command line and the configuration, here and without touching anything; [`Ctl::run`]
//! asks it. The token comes from the configuration, where it may be in a file or in the environment: there is no argument for
//! it, because others can read the command line.

use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZero;
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgGroup, Args, Subcommand};
use hyper::{Method, Uri};
use serde::Serialize;
use serde_json::value::RawValue;

use crate::config::{self, Config, LoadOptions, Secret, parse_duration};
use crate::proto::command::CommandId;
use crate::proto::id::ConnId;

use super::{Command, EXIT_FAILURE, EXIT_OK, EXIT_USAGE, Output};

mod http;
mod pretty;

/// Something to ask of a server.
#[derive(Debug, Clone, PartialEq)]
pub struct Ctl {
    /// Host and port of the admin API.
    authority: String,
    token: Secret,
    method: Method,
    path: String,
    idempotency_key: Option<String>,
    body: Option<String>,
    /// How long the answer may take.
    patience: Duration,
}

impl Ctl {
    /// Asks, and waits for the answer. Standard output is its JSON, indented, whatever it says; [`EXIT_FAILURE`] when it says
    /// that it was not done, or when there was no answer.
    ///
    /// Ending the process while a command is pending takes the command back, unless it has an idempotency key.
    pub fn run(&self) -> Output {
        match http::ask(self) {
            Ok(answer) => report(&answer),
            Err(reason) => Output::complaint(EXIT_FAILURE, &reason),
        }
    }
}

/// What a server answered.
struct Answer {
    status: u16,
    body: String,
}

fn report(answer: &Answer) -> Output {
    #[derive(serde::Deserialize)]
    struct Refused {
        error: Reason,
    }
    #[derive(serde::Deserialize)]
    struct Reason {
        message: String,
    }

    let Some(text) = pretty::indented(&answer.body) else {
        let reason = format!("what answers there is no admin API: status {}, and no JSON", answer.status);
        return Output::complaint(EXIT_FAILURE, &reason);
    };
    let stdout = text + "\n";
    if (200..300).contains(&answer.status) {
        return Output { stdout, code: EXIT_OK, ..Output::default() };
    }
    let refused = serde_json::from_str::<Refused>(&answer.body).ok();
    let mut reason = refused.map_or_else(|| format!("status {}", answer.status), |refused| refused.error.message);
    if answer.status == 401 {
        reason =
            "the server has another admin.token: set SWITCHBOARD__ADMIN__TOKEN_FILE to the file with it, or use its \
                  configuration with --config"
                .to_owned();
    }
    let reason: String = reason.chars().flat_map(shown).collect();
    Output { stdout, ..Output::complaint(EXIT_FAILURE, &reason) }
}

/// A character for a terminal: names that clients chose may be in texts.
fn shown(char: char) -> impl Iterator<Item = char> {
    let (escaped, plain) = if char.is_control() { (Some(char.escape_unicode()), None) } else { (None, Some(char)) };
    escaped.into_iter().flatten().chain(plain)
}

#[derive(Debug, Args)]
pub(super) struct CtlArgs {
    /// Where the admin API listens [default: http://, admin.bind and admin.port]
    #[arg(long, global = true, value_name = "URL")]
    admin: Option<String>,
    /// Configuration file, of which the section `[admin]` counts [default: ./switchboard.toml if it exists]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    verb: CtlVerb,
}

#[derive(Debug, Subcommand)]
enum CtlVerb {
    /// Send a client command, wait for the outcome and print it
    Command(CommandArgs),
    /// List client commands that are pending, or those that were settled lately
    Commands(ListArgs),
    /// Take a pending client command back
    Cancel {
        /// Its id
        #[arg(value_parser = command_id)]
        id: CommandId,
    },
    /// List gateway sessions
    Sessions(PartArgs),
    /// End a gateway session: its client has to register again
    EndSession {
        /// Its shard hash
        #[arg(value_name = "HASH", value_parser = shard_hash)]
        session: ConnId,
    },
}

#[derive(Debug, Args)]
#[command(group(ArgGroup::new("target").required(true).args(["user", "connection", "room", "tag", "all"])))]
struct CommandArgs {
    /// Ask a user, by id or name
    #[arg(long, value_name = "USER")]
    user: Option<String>,
    /// Ask one connection, by its id
    #[arg(long, value_name = "ID")]
    connection: Option<String>,
    /// Ask the members of a room
    #[arg(long, value_name = "ROOM")]
    room: Option<String>,
    /// Ask the connections with a tag, or of users with it as a tag or a role
    #[arg(long, value_name = "TAG")]
    tag: Option<String>,
    /// Ask everybody
    #[arg(long)]
    all: bool,
    /// The key of the command, or the whole command as a JSON object
    #[arg(value_name = "KEY")]
    command: String,
    /// Its member `data`; with a key only
    #[arg(long, value_name = "JSON", value_parser = json)]
    data: Option<Box<RawValue>>,
    /// Its limit, such as 500ms or 5s [default: the server's commands.timeout]
    #[arg(long, value_name = "TIME", value_parser = limit)]
    timeout: Option<Duration>,
    /// Whose reply counts [default: first for a user and a connection, all for the rest]
    #[arg(long, value_parser = ["all", "first", "one"])]
    mode: Option<String>,
    /// Do not wait for clients that are absent, leave, or do not read
    #[arg(long)]
    fail_fast: bool,
    /// With mode all: end after so many replies
    #[arg(long, value_name = "COUNT")]
    min_replies: Option<NonZero<usize>>,
    /// Ask only clients that announced the key
    #[arg(long)]
    require_capability: bool,
    /// The same key with the same command sends nothing again, and has the first outcome
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
    /// Who sends it, for lists
    #[arg(long, value_name = "NAME")]
    sender: Option<String>,
}

#[derive(Debug, Args)]
struct ListArgs {
    /// Those that were settled lately
    #[arg(long)]
    settled: bool,
    #[command(flatten)]
    part: PartArgs,
}

#[derive(Debug, Args)]
struct PartArgs {
    /// At most so many
    #[arg(long, value_name = "COUNT", default_value_t = 100)]
    limit: usize,
    /// The `cursor` of the part before
    #[arg(long, value_parser = cursor)]
    cursor: Option<String>,
}

impl CtlArgs {
    /// What is to be asked; or what is wrong with the command line or the configuration.
    pub(super) fn into_command(self, env: Vec<(OsString, OsString)>, cwd: PathBuf) -> Command {
        let loaded = Config::load_for_admin(&LoadOptions { file: self.config, env, set: Vec::new(), cwd });
        let config = match loaded {
            Ok(config) => config,
            Err(error) => return Command::Exit(Output::refusal(&error)),
        };
        let asked = authority(self.admin.as_deref(), &config.admin).and_then(|authority| {
            let token = config.admin.token.clone();
            if !token.is_set() {
                return Err("there is no token: set SWITCHBOARD__ADMIN__TOKEN_FILE to the file with the server's \
                            admin.token, or use its configuration with --config"
                    .to_owned());
            }
            let call = Ctl {
                authority,
                token,
                method: Method::GET,
                path: String::new(),
                idempotency_key: None,
                body: None,
                patience: PATIENCE,
            };
            self.verb.fill(call, config.commands.max_timeout)
        });
        match asked {
            Ok(ctl) => Command::Ctl(Box::new(ctl)),
            Err(reason) => Command::Exit(Output::complaint(EXIT_USAGE, &reason)),
        }
    }
}

/// How long an answer may take, and for how long after its limit the outcome of a command is waited for.
const PATIENCE: Duration = Duration::from_secs(10);

impl CtlVerb {
    fn fill(self, call: Ctl, max_timeout: Duration) -> Result<Ctl, String> {
        match self {
            Self::Command(asked) => {
                let patience = asked.timeout.unwrap_or(max_timeout).saturating_add(PATIENCE);
                let idempotency_key = asked.idempotency_key.clone();
                let body = Some(asked.body()?);
                Ok(Ctl { method: Method::POST, path: COMMANDS.to_owned(), idempotency_key, body, patience, ..call })
            }
            Self::Commands(ListArgs { settled, part }) => {
                let state = if settled { "settled" } else { "pending" };
                Ok(Ctl { path: format!("{COMMANDS}?state={state}&{}", part.query()), ..call })
            }
            Self::Sessions(part) => Ok(Ctl { path: format!("{SESSIONS}?{}", part.query()), ..call }),
            Self::EndSession { session } => {
                Ok(Ctl { method: Method::DELETE, path: format!("{SESSIONS}/{session}"), ..call })
            }
            Self::Cancel { id } => Ok(Ctl { method: Method::DELETE, path: format!("{COMMANDS}/{id}"), ..call }),
        }
    }
}

const COMMANDS: &str = "/v1/commands";
const SESSIONS: &str = "/v1/gateway/sessions";

impl PartArgs {
    fn query(self) -> String {
        let cursor = self.cursor.map(|cursor| format!("&cursor={cursor}")).unwrap_or_default();
        format!("limit={}{cursor}", self.limit)
    }
}

/// What the API takes.
#[derive(Serialize)]
struct Body {
    target: Target,
    command: Box<RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timeout_ms: Option<u128>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mode: Option<String>,
    fail_fast: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    min_replies: Option<NonZero<usize>>,
    require_capability: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    sender: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum Target {
    All(bool),
    Connection(String),
    Room(String),
    Tag(String),
    User(String),
}

/// A command that consists of its key, and data.
#[derive(Serialize)]
struct KeyCommand<'a> {
    key: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Box<RawValue>>,
}

impl CommandArgs {
    fn body(self) -> Result<String, String> {
        let target = match (self.user, self.connection, self.room, self.tag) {
            (Some(user), ..) => Target::User(user),
            (_, Some(id), ..) => Target::Connection(id),
            (_, _, Some(room), _) => Target::Room(room),
            (_, _, _, Some(tag)) => Target::Tag(tag),
            // One of them has to be there.
            _ => Target::All(self.all),
        };
        let command = match self.command.trim_start().starts_with('{') {
            true if self.data.is_some() => {
                return Err("--data goes with a key: a whole command has its data inside".to_owned());
            }
            true => json(&self.command).map_err(|error| format!("the command is no JSON: {error}"))?,
            false => {
                let command = KeyCommand { key: &self.command, data: self.data };
                serde_json::value::to_raw_value(&command).map_err(|error| error.to_string())?
            }
        };
        let body = Body {
            target,
            command,
            timeout_ms: self.timeout.map(|limit| limit.as_millis()),
            mode: self.mode,
            fail_fast: self.fail_fast,
            min_replies: self.min_replies,
            require_capability: self.require_capability,
            sender: self.sender,
        };
        serde_json::to_string(&body).map_err(|error| error.to_string())
    }
}

/// Host and port of the URL; without one those at which the configuration lets the server listen.
fn authority(url: Option<&str>, admin: &config::Admin) -> Result<String, String> {
    let Some(url) = url else {
        let ip = admin.bind.parse::<IpAddr>().map_err(|_| "admin.bind is no IP address".to_owned())?;
        let ip = match ip {
            IpAddr::V4(Ipv4Addr::UNSPECIFIED) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Ipv6Addr::LOCALHOST.into(),
            ip => ip,
        };
        return match admin.port {
            0 => Err("admin.port is 0: say with --admin http://HOST:PORT where the server listens".to_owned()),
            port => Ok(SocketAddr::new(ip, port).to_string()),
        };
    };
    let wrong = || format!("--admin {url}: expected a URL such as http://127.0.0.1:9090, without a path");
    let uri: Uri = url.parse().map_err(|_| wrong())?;
    if uri.scheme_str() == Some("https") {
        return Err(format!("--admin {url}: ctl does not speak TLS; ssh -L 9090:localhost:9090 HOST is one way there"));
    }
    let is_root = matches!(uri.path(), "" | "/") && uri.query().is_none();
    match (uri.scheme_str(), uri.authority()) {
        (Some("http"), Some(authority)) if is_root && !authority.as_str().contains('@') => Ok(match authority.port() {
            Some(_) => authority.to_string(),
            None => format!("{authority}:80"),
        }),
        _ => Err(wrong()),
    }
}

fn command_id(text: &str) -> Result<CommandId, &'static str> {
    CommandId::parse(text).ok_or("the id of a command has 17 letters and digits")
}

fn shard_hash(text: &str) -> Result<ConnId, &'static str> {
    ConnId::parse(text).filter(ConnId::is_session).ok_or("a shard hash has 35 letters and digits, and this is none")
}

fn json(text: &str) -> Result<Box<RawValue>, serde_json::Error> {
    serde_json::from_str(text)
}

fn limit(text: &str) -> Result<Duration, &'static str> {
    let limit = parse_duration(text).filter(|limit| !limit.is_zero());
    limit.ok_or("expected a time of more than 0, such as 500ms, 5s or 2m")
}

fn cursor(text: &str) -> Result<String, &'static str> {
    let is_one = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric());
    is_one.then(|| text.to_owned()).ok_or("a cursor has letters and digits only")
}

#[cfg(test)]
mod tests;
