//! How the API answers: JSON, and one shape for whatever went wrong.

use std::borrow::Cow;

use axum::http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::ser::Error as _;
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use utoipa::ToSchema;

use crate::command::{CommandRefusal, Refusal};
use crate::node::StateError;
use crate::proto::call::CallError;
use crate::proto::json::RawJson;

/// A result of a handler.
pub(super) type Answered = Result<Response, ApiError>;

/// An answer with this body.
pub(super) fn json(status: StatusCode, body: &impl Serialize) -> Response {
    match serde_json::to_vec(body) {
        Ok(body) => (status, [(CONTENT_TYPE, HeaderValue::from_static("application/json"))], body).into_response(),
        Err(error) => {
            tracing::error!(%error, "an answer of the admin API could not be written");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

/// An answer that says that it went well.
pub(super) fn ok(body: &impl Serialize) -> Answered {
    Ok(json(StatusCode::OK, body))
}

/// What went wrong: a word for programs, a sentence for people.
#[derive(Debug)]
pub(super) struct ApiError {
    code: Code,
    message: Cow<'static, str>,
    details: Option<Value>,
}

impl ApiError {
    /// The same with details for programs.
    pub(super) fn detailed(self, details: Value) -> Self {
        Self { details: Some(details), ..self }
    }
}

/// JSON that is written into an answer as it is.
#[derive(Clone, Debug)]
pub(super) struct AsItIs(pub(super) RawJson);

impl Serialize for AsItIs {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serde_json::from_str::<&RawValue>(self.0.as_str()).map_err(S::Error::custom)?.serialize(serializer)
    }
}

/// What went wrong, in a word that does not change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Code {
    /// 409: the command was taken back.
    #[serde(rename = "error-client-command-cancelled")]
    CommandCancelled,
    /// 504: whoever was asked left.
    #[serde(rename = "error-client-command-disconnected")]
    CommandDisconnected,
    /// 404: no such command is pending.
    CommandNotFound,
    /// 504, with `fail_fast`: nobody was there who takes commands.
    #[serde(rename = "error-client-command-no-recipient")]
    CommandNoRecipient,
    /// 403: the program that embeds the server does not allow the command.
    #[serde(rename = "error-not-allowed")]
    CommandNotAllowed,
    /// 503: the output queue of whoever was asked was full.
    #[serde(rename = "error-client-command-overflow")]
    CommandOverflow,
    /// 504: no reply came within the limit.
    #[serde(rename = "error-client-command-response-timeout")]
    CommandTimeout,
    /// 404: no such connection.
    ConnectionNotFound,
    /// 409: the `Idempotency-Key` was used for another command.
    #[serde(rename = "idempotency-conflict")]
    IdempotencyConflict,
    /// 400: the request is not what the route takes; the message says what.
    InvalidRequest,
    /// 404: no user of this id or name is configured or connected.
    #[serde(rename = "error-invalid-user")]
    InvalidUser,
    /// 405: the path exists, with other methods.
    MethodNotAllowed,
    /// 403: the room's pattern does not match the connection.
    NotAuthorized,
    /// 404: no such path.
    NotFound,
    /// 404: the connection is not in that room.
    NotMember,
    /// 409: this kind of connection cannot do that: a request over HTTP cannot be told anything but its answer, and who
    /// speaks DDP or to the gateway follows from the log-in.
    NotSupported,
    /// 403: the request comes from a page of another host.
    OriginNotAllowed,
    /// 429: too many requests with a wrong token.
    RateLimited,
    /// 403: middleware of the server refused the message.
    Refused,
    /// 404: no such room.
    RoomNotFound,
    /// 404: no such gateway session.
    SessionNotFound,
    /// 503: the server is stopping.
    #[serde(rename = "error-server-shutdown")]
    ServerShutdown,
    /// 408: the body did not come in time.
    TimedOut,
    /// 413: the body is larger than `admin.max_body_bytes`, or a message larger than the log of a gateway session.
    TooLarge,
    /// 429: too many commands are pending.
    #[serde(rename = "too-many-requests")]
    TooManyCommands,
    /// 409: `limits.max_rooms` or `limits.max_rooms_per_connection` is reached.
    TooManyRooms,
    /// 401: no token, or a wrong one.
    Unauthenticated,
    /// 503: something behind the server failed, or it is not ready.
    Unavailable,
    /// 415: the body is not `application/json`.
    UnsupportedMediaType,
    /// 404: no such user is configured.
    UserNotFound,
}

impl Code {
    /// The error with this sentence.
    pub(super) fn with(self, message: impl Into<Cow<'static, str>>) -> ApiError {
        ApiError { code: self, message: message.into(), details: None }
    }

    fn status(self) -> StatusCode {
        match self {
            Self::InvalidRequest => StatusCode::BAD_REQUEST,
            Self::Unauthenticated => StatusCode::UNAUTHORIZED,
            Self::CommandNotAllowed | Self::NotAuthorized | Self::OriginNotAllowed | Self::Refused => {
                StatusCode::FORBIDDEN
            }
            Self::CommandNotFound
            | Self::ConnectionNotFound
            | Self::InvalidUser
            | Self::NotFound
            | Self::NotMember
            | Self::RoomNotFound
            | Self::SessionNotFound
            | Self::UserNotFound => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::TimedOut => StatusCode::REQUEST_TIMEOUT,
            Self::CommandCancelled | Self::IdempotencyConflict | Self::NotSupported | Self::TooManyRooms => {
                StatusCode::CONFLICT
            }
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::RateLimited | Self::TooManyCommands => StatusCode::TOO_MANY_REQUESTS,
            Self::CommandOverflow | Self::ServerShutdown | Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Self::CommandDisconnected | Self::CommandNoRecipient | Self::CommandTimeout => StatusCode::GATEWAY_TIMEOUT,
        }
    }
}

/// The body of every answer that is not 2xx.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({"error": {"code": "room_not_found", "message": "room does not exist"}}))]
pub(super) struct ErrorBody {
    error: ErrorDetail,
}

/// What went wrong.
#[derive(Serialize, ToSchema)]
struct ErrorDetail {
    /// For programs.
    code: Code,
    /// For people; its words may change.
    message: String,
    /// Of a command: what was asked of whom.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Object, required = false)]
    details: Option<Value>,
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let error = ErrorDetail { code: self.code, message: self.message.into_owned(), details: self.details };
        let mut response = json(self.code.status(), &ErrorBody { error });
        let header = match self.code {
            Code::Unauthenticated => Some((WWW_AUTHENTICATE, "Bearer")),
            Code::RateLimited | Code::TooManyCommands => Some((RETRY_AFTER, "1")),
            _ => None,
        };
        if let Some((name, value)) = header {
            response.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        response
    }
}

impl From<CallError> for ApiError {
    fn from(error: CallError) -> Self {
        let code = match &error {
            CallError::AlreadyMember(_)
            | CallError::BadRoomName(_)
            | CallError::BadClientData
            | CallError::MessageIdTaken
            | CallError::MessageRequired
            | CallError::NoSuchUser
            | CallError::OutOfSync
            | CallError::ReplyTooLarge => Code::InvalidRequest,
            CallError::MessageTooLarge => Code::TooLarge,
            CallError::NoSuchConnection => Code::ConnectionNotFound,
            CallError::NoSuchRoom => Code::RoomNotFound,
            CallError::NotAuthorized => Code::NotAuthorized,
            CallError::NotMember(_) => Code::NotMember,
            CallError::LoginRefused(_) | CallError::NotLoggedIn | CallError::NotSupported => Code::NotSupported,
            CallError::TooManyRequests { .. } => Code::RateLimited,
            CallError::Refused(_) => Code::Refused,
            CallError::TooManyRooms | CallError::TooManyRoomsOfConnection => Code::TooManyRooms,
            // Those of actions, files and shards do not come this way.
            CallError::Action(_) | CallError::FileNotFound | CallError::Shard(_) | CallError::Unavailable => {
                Code::Unavailable
            }
        };
        code.with(error.to_string())
    }
}

impl From<StateError> for ApiError {
    fn from(error: StateError) -> Self {
        let code = match &error {
            StateError::NoSuchConnection => Code::ConnectionNotFound,
            StateError::FixedUser => Code::NotSupported,
            StateError::Unavailable => Code::Unavailable,
            _ => Code::InvalidRequest,
        };
        code.with(error.to_string())
    }
}

impl From<CommandRefusal> for ApiError {
    fn from(refusal: CommandRefusal) -> Self {
        let code = match &refusal {
            CommandRefusal::BadCommand | CommandRefusal::BadOption(_) => Code::InvalidRequest,
            CommandRefusal::KeyConflict => Code::IdempotencyConflict,
            CommandRefusal::NoSuchConnection => Code::ConnectionNotFound,
            CommandRefusal::NoSuchRoom => Code::RoomNotFound,
            CommandRefusal::NoSuchUser => Code::InvalidUser,
            CommandRefusal::NotAllowed => Code::CommandNotAllowed,
            CommandRefusal::NotSupported => Code::NotSupported,
            CommandRefusal::Refused(Refusal::Draining) => Code::ServerShutdown,
            CommandRefusal::Refused(_) => Code::TooManyCommands,
            CommandRefusal::Unavailable => Code::Unavailable,
        };
        let error = code.with(refusal.to_string());
        match refusal {
            CommandRefusal::NoSuchUser => error.detailed(json!({"function": "sendClientCommand"})),
            _ => error,
        }
    }
}
