//! Routes of client commands: sending one and waiting for its outcome, looking at those that are pending or were settled,
//! taking one back.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::HeaderMap;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::command::{
    ClientCommand, CommandOptions, CommandRefusal, Counts, Mode, Outcome, PendingCommand, Report, Row, SentCommand,
    SettledCommand, Target, TargetKind, TargetName,
};
use crate::proto::command::CommandId;
use crate::proto::json::RawJson;

use super::Shared;
use super::answer::{Answered, ApiError, AsItIs, Code, ErrorBody, ok};
use super::input::{FromJsonText, FromPath, FromQuery, Part, connection_id, cursor};

pub(super) fn routes() -> OpenApiRouter<Arc<Shared>> {
    OpenApiRouter::new().routes(routes!(list, send)).routes(routes!(cancel))
}

/// Who is asked: exactly one of these.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum CommandTarget {
    /// `true`: whoever takes commands.
    All(bool),
    /// The id of one connection.
    Connection(String),
    /// The members of a room that take commands.
    Room(String),
    /// Connections with a tag, or of users who have it as a tag or a role.
    Tag(String),
    /// A user, by id or name; ids win.
    User(String),
}

impl CommandTarget {
    fn read(self) -> Result<Target, ApiError> {
        Ok(match self {
            Self::All(true) => Target::All,
            Self::All(false) => return Err(Code::InvalidRequest.with("the target all can only be true")),
            Self::Connection(id) => Target::Connection(connection_id(&id)?),
            Self::Room(room) => Target::Room(room),
            Self::Tag(tag) => Target::Tag(tag),
            Self::User(user) => Target::User(user),
        })
    }
}

impl From<&TargetName> for CommandTarget {
    fn from(TargetName { kind, name }: &TargetName) -> Self {
        let name = name.to_string();
        match kind {
            TargetKind::All => Self::All(true),
            TargetKind::Connection => Self::Connection(name),
            TargetKind::Room => Self::Room(name),
            TargetKind::Tag => Self::Tag(name),
            TargetKind::User => Self::User(name),
        }
    }
}

/// Whose reply counts.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum CommandMode {
    /// All are asked, and the reply of each is collected.
    All,
    /// All are asked, and the first reply counts.
    First,
    /// One is asked: the session that was active last, and the next one if that one is gone.
    One,
}

impl From<CommandMode> for Mode {
    fn from(mode: CommandMode) -> Self {
        match mode {
            CommandMode::All => Self::All,
            CommandMode::First => Self::First,
            CommandMode::One => Self::One,
        }
    }
}

impl From<Mode> for CommandMode {
    fn from(mode: Mode) -> Self {
        match mode {
            Mode::All => Self::All,
            Mode::First => Self::First,
            Mode::One => Self::One,
        }
    }
}

/// A command to send.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({
    "target": {"user": "bot"},
    "command": {"key": "clearCache", "scope": "users"},
    "timeout_ms": 5000,
    "mode": "first",
    "fail_fast": true,
    "sender": "alice"
}))]
struct NewCommand {
    /// Who is asked.
    target: CommandTarget,
    /// What: an object with a `key` of 1 to 128 bytes. Everything else in it is yours and reaches the client as it is.
    #[schema(value_type = Object)]
    command: Box<RawValue>,
    /// Its limit: more than 0, at most `commands.max_timeout`; without it `commands.timeout`.
    #[schema(minimum = 1)]
    timeout_ms: Option<u64>,
    /// Whose reply counts; without it `first` for a user and a connection, `all` for the rest.
    mode: Option<CommandMode>,
    /// Whether absent, vanished and full clients end it at once; else they are waited for.
    #[serde(default)]
    fail_fast: bool,
    /// In mode `all`: so many replies are enough.
    #[schema(minimum = 1)]
    min_replies: Option<usize>,
    /// Whether only clients are asked that announced the key.
    #[serde(default)]
    require_capability: bool,
    /// Who sends it, for lists and beside a pause: 1 to 128 bytes.
    sender: Option<String>,
}

/// What became of a command.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({
    "id": "bycAiK7YabTfCGqBQ",
    "outcome": "replied",
    "latency_ms": 12,
    "counts": {"sessions": 1, "delivered": 1, "replied": 1},
    "reply": {"success": true}
}))]
struct CommandResult {
    /// Its id.
    id: String,
    /// `replied`; in mode `all` also `timeout`, `no_recipient`, `disconnected`, `overflow` when nobody did.
    outcome: &'static str,
    /// From acceptance to the outcome.
    latency_ms: u64,
    /// How far it came.
    counts: CommandCounts,
    /// The reply as it came, `success: false` too; not in mode `all`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Object, required = false)]
    reply: Option<AsItIs>,
    /// In mode `all` what became of each session, in the order of asking.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    rows: Option<Vec<CommandRow>>,
}

/// How far a command came.
#[derive(Serialize, ToSchema)]
struct CommandCounts {
    /// Sessions that were addressed.
    sessions: usize,
    /// To how many of them it was handed over.
    delivered: usize,
    /// Replies that counted.
    replied: usize,
}

/// What became of a command with one session.
#[derive(Serialize, ToSchema)]
struct CommandRow {
    /// The id of whose session it was; null: nobody's.
    user: Option<String>,
    /// The session. The reply may have come over another one of the same user.
    connection: String,
    /// The node that it is connected to.
    node: String,
    /// `replied`, `timeout`, `disconnected` or `overflow`, or what ended the whole command before.
    outcome: &'static str,
    /// From handing over to the reply; null: there is none.
    latency_ms: Option<u64>,
    /// The reply as it came; null: there is none.
    #[schema(value_type = Option<serde_json::Map<String, serde_json::Value>>)]
    reply: Option<AsItIs>,
}

/// Part of the list of commands.
#[derive(Serialize, ToSchema)]
struct CommandList {
    /// Pending ones in the order of acceptance; settled ones the oldest first.
    items: Vec<ListedCommand>,
    /// For the next part; null: this is the last.
    cursor: Option<String>,
}

/// A command in a list.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({
    "id": "bycAiK7YabTfCGqBQ",
    "state": "settled",
    "key": "heartbeat",
    "target": {"user": "bot"},
    "mode": "first",
    "sender": null,
    "accepted_at": 1764000000000u64,
    "counts": {"sessions": 1, "delivered": 1, "replied": 1},
    "outcome": "replied",
    "latency_ms": 12,
    "client_errors": 0
}))]
struct ListedCommand {
    /// Its id.
    id: String,
    /// Whether it is pending or settled.
    state: CommandState,
    /// What is asked.
    key: String,
    /// Who is asked, as the sender named it.
    target: CommandTarget,
    /// Whose reply counts.
    mode: CommandMode,
    /// Who sent it, if that was said.
    sender: Option<String>,
    /// When it was accepted, in milliseconds since 1970.
    accepted_at: u64,
    /// How far it came.
    counts: CommandCounts,
    /// Pending: what is left of its limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    left_ms: Option<u64>,
    /// Pending: whether it waits for somebody to whom it can be sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    is_held: Option<bool>,
    /// Settled: `replied`, `timeout`, `no_recipient`, `disconnected`, `overflow`, `cancelled` or `shutdown`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    outcome: Option<&'static str>,
    /// Settled: from acceptance to the outcome.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    latency_ms: Option<u64>,
    /// Settled: replies that said `success: false`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    client_errors: Option<usize>,
}

/// Which commands.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum CommandState {
    /// Those that wait for their outcome.
    #[default]
    Pending,
    /// Those that came to it lately: the last `commands.history_max`.
    Settled,
}

/// Which part of which list.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct CommandPart {
    /// Which commands.
    #[serde(default)]
    #[param(inline, default = "pending")]
    state: CommandState,
    /// Most items of the answer.
    #[serde(default = "Part::default_limit")]
    #[param(default = 100, minimum = 1, maximum = 1000)]
    limit: usize,
    /// `cursor` of the answer before; without it the list begins.
    #[param(example = "37")]
    cursor: Option<String>,
    /// Of settled commands: how long to wait for the next one if there is none behind the cursor. The answer has a cursor
    /// then in any case, so that whoever asks again with it follows the list as it grows.
    #[param(maximum = 60000)]
    wait_ms: Option<u64>,
}

/// A command that was taken back.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({"id": "bycAiK7YabTfCGqBQ"}))]
struct CommandTakenBack {
    /// Its id.
    id: String,
}

/// Send a client command
///
/// The answer is its outcome, so it comes after the limit at the latest. Whoever hangs up takes the command back, unless the
/// request has an `Idempotency-Key`: then it goes on, and the same request finds its outcome for ten minutes.
#[utoipa::path(post, path = "/v1/commands", tag = "commands", operation_id = "sendCommand", request_body = NewCommand,
    params(("Idempotency-Key" = Option<String>, Header,
        description = "1 to 255 bytes. The same key with the same request sends nothing and has the first outcome.")),
    responses(
        (status = 200, description = "Somebody replied; in mode `all` also if nobody did.", body = CommandResult),
        (status = 403, description = "`error-not-allowed`: the embedding program does not allow it.", body = ErrorBody),
        (status = 404, description = "`error-invalid-user`, `connection_not_found`, `room_not_found`.", body = ErrorBody),
        (status = 409, description = "`error-client-command-cancelled`; `idempotency-conflict`; `not_supported`: a request \
            over HTTP.", body = ErrorBody),
        (status = 429, description = "`too-many-requests`: too many commands are pending. `rate_limited`: too many \
            requests with a wrong token, or none.", body = ErrorBody),
        (status = 503, description = "`error-server-shutdown`; `error-client-command-overflow`; `unavailable`.",
            body = ErrorBody),
        (status = 504, description = "`error-client-command-response-timeout`: nobody replied in time; with `fail_fast` also \
            `error-client-command-no-recipient` and `error-client-command-disconnected`.", body = ErrorBody)))]
async fn send(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    FromJsonText(body): FromJsonText<NewCommand>,
) -> Answered {
    let command = ClientCommand::from_json(RawJson::from_parsed(body.command.get()))?;
    let target = body.target.read()?;
    let options = CommandOptions {
        timeout: body.timeout_ms.map(Duration::from_millis),
        mode: body.mode.map(Mode::from),
        fail_fast: body.fail_fast,
        min_replies: body.min_replies,
        require_capability: body.require_capability,
        idempotency_key: idempotency_key(&headers)?,
        sender: body.sender,
        id: None,
    };
    let goes_on = options.idempotency_key.is_some();
    let node = shared.node.clone();
    let sending = async move { node.send_client_command(target, command, options).await };
    let sent = match goes_on {
        true => tokio::spawn(sending).await.unwrap_or(Err(CommandRefusal::Unavailable))?,
        // Dropped when the client hangs up, which takes the command back.
        false => sending.await?,
    };
    result(&shared, &sent)
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, ApiError> {
    let mut keys = headers.get_all("idempotency-key").iter();
    let (first, None) = (keys.next(), keys.next()) else {
        return Err(Code::InvalidRequest.with("there is more than one Idempotency-Key"));
    };
    let text = first.map(|key| key.to_str().map(str::to_owned)).transpose();
    text.map_err(|_| Code::InvalidRequest.with("an Idempotency-Key is visible ASCII"))
}

fn result(shared: &Shared, sent: &SentCommand) -> Answered {
    let Report { id, outcome, latency_ms, counts, reply, rows, .. } = sent.report();
    // A collection is a result however few answered, but not if it was ended from outside before anybody did.
    let is_collected = rows.is_some() && !matches!(outcome, Outcome::Cancelled | Outcome::Shutdown);
    if *outcome != Outcome::Replied && !is_collected {
        let failure = sent.failure();
        return Err(code_of(sent).with(failure.reason).detailed(failure.details));
    }
    ok(&CommandResult {
        id: id.to_string(),
        outcome: outcome.as_str(),
        latency_ms: *latency_ms,
        counts: (*counts).into(),
        reply: reply.clone().map(AsItIs),
        rows: rows.as_ref().map(|rows| rows.iter().map(|row| CommandRow::new(shared, row)).collect()),
    })
}

/// As [`CommandFailure::code`](crate::command::CommandFailure::code).
fn code_of(sent: &SentCommand) -> Code {
    match sent.report().outcome {
        Outcome::Cancelled => Code::CommandCancelled,
        Outcome::Disconnected => Code::CommandDisconnected,
        Outcome::NoRecipient if sent.ended_at_once() => Code::CommandNoRecipient,
        Outcome::NoRecipient | Outcome::Replied | Outcome::Timeout => Code::CommandTimeout,
        Outcome::Overflow => Code::CommandOverflow,
        Outcome::Shutdown => Code::ServerShutdown,
    }
}

impl From<Counts> for CommandCounts {
    fn from(Counts { sessions, delivered, replied }: Counts) -> Self {
        Self { sessions, delivered, replied }
    }
}

impl CommandRow {
    fn new(shared: &Shared, row: &Row) -> Self {
        Self {
            user: row.user.as_ref().map(|user| user.id().to_owned()),
            connection: row.connection.to_string(),
            node: shared.node.node_of(row.connection),
            outcome: row.outcome.as_str(),
            latency_ms: row.latency_ms,
            reply: row.reply.clone().map(AsItIs),
        }
    }
}

impl From<PendingCommand> for ListedCommand {
    fn from(command: PendingCommand) -> Self {
        Self {
            id: command.id.to_string(),
            state: CommandState::Pending,
            key: command.key.into(),
            target: (&command.target).into(),
            mode: command.mode.into(),
            sender: command.sender.map(String::from),
            accepted_at: command.accepted_unix_ms,
            counts: command.counts.into(),
            left_ms: Some(command.left_ms),
            is_held: Some(command.is_held),
            outcome: None,
            latency_ms: None,
            client_errors: None,
        }
    }
}

impl From<&SettledCommand> for ListedCommand {
    fn from(command: &SettledCommand) -> Self {
        Self {
            id: command.id.to_string(),
            state: CommandState::Settled,
            key: command.key.to_string(),
            target: (&command.target).into(),
            mode: command.mode.into(),
            sender: command.sender.as_deref().map(str::to_owned),
            accepted_at: command.accepted_unix_ms,
            counts: command.counts.into(),
            left_ms: None,
            is_held: None,
            outcome: Some(command.outcome.as_str()),
            latency_ms: Some(command.latency_ms),
            client_errors: Some(command.client_errors),
        }
    }
}

/// The longest that a request waits for the next command, in milliseconds.
const LONGEST_WAIT_MS: u64 = 60_000;

/// List client commands
///
/// What settles, or is forgotten, while the parts are read may be missing.
#[utoipa::path(get, path = "/v1/commands", tag = "commands", operation_id = "listCommands", params(CommandPart),
    responses((status = 200, description = "Part of the list.", body = CommandList)))]
async fn list(State(shared): State<Arc<Shared>>, FromQuery(asked): FromQuery<CommandPart>) -> Answered {
    let part = Part::new(asked.limit, asked.cursor)?;
    let after = match part.after()? {
        Some(number) => number.parse().map_err(|_| Part::odd_cursor())?,
        None => 0,
    };
    // One more than asked for tells whether there is more.
    let most = part.limit + 1;
    let mut numbered: Vec<(u64, ListedCommand)> = match asked.state {
        CommandState::Pending => {
            let pending = shared.node.pending_client_commands(after, most);
            pending.into_iter().map(|command| (command.number, command.into())).collect()
        }
        CommandState::Settled => {
            if let Some(wait_ms) = asked.wait_ms {
                let mut tail = shared.node.follow_client_commands(Some(after));
                // The history below has what came, if anything did.
                let _ = tokio::time::timeout(Duration::from_millis(wait_ms.min(LONGEST_WAIT_MS)), tail.next()).await;
            }
            let settled = shared.node.client_command_history(after, most);
            settled.iter().map(|command| (command.number, (&**command).into())).collect()
        }
    };
    let has_more = numbered.len() > part.limit;
    numbered.truncate(part.limit);
    let last = numbered.last().map(|(number, _)| *number);
    let is_followed = asked.wait_ms.is_some();
    let next = last.filter(|_| has_more || is_followed).or(is_followed.then_some(after));
    let next = next.map(|number| cursor(&number.to_string()));
    ok(&CommandList { items: numbered.into_iter().map(|(_, command)| command).collect(), cursor: next })
}

/// Take a client command back
///
/// Whoever waits for it is answered `error-client-command-cancelled`. What was delivered stays delivered.
#[utoipa::path(delete, path = "/v1/commands/{id}", tag = "commands", operation_id = "cancelCommand",
    params(("id" = String, Path, description = "The command's id.")),
    responses(
        (status = 200, description = "It was pending, and is not any more.", body = CommandTakenBack),
        (status = 404, description = "`command_not_found`: no such command is pending.", body = ErrorBody)))]
async fn cancel(State(shared): State<Arc<Shared>>, FromPath(id): FromPath<String>) -> Answered {
    match CommandId::parse(&id) {
        Some(id) if shared.node.cancel_client_command(id) => ok(&CommandTakenBack { id: id.to_string() }),
        _ => Err(Code::CommandNotFound.with("no such command is pending")),
    }
}
