//! How the API answers: JSON, and one shape for whatever went wrong.

use std::borrow::Cow;

use axum::http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::node::StateError;
use crate::proto::call::CallError;

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
}

/// What went wrong, in a word that does not change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Code {
    /// 404: no such connection.
    ConnectionNotFound,
    /// 400: the request is not what the route takes; the message says what.
    InvalidRequest,
    /// 405: the path exists, with other methods.
    MethodNotAllowed,
    /// 403: the room's pattern does not match the connection.
    NotAuthorized,
    /// 404: no such path.
    NotFound,
    /// 404: the connection is not in that room.
    NotMember,
    /// 409: the connection is a request over HTTP, which cannot be told anything but its answer.
    NotSupported,
    /// 403: the request comes from a page of another host.
    OriginNotAllowed,
    /// 429: too many requests with a wrong token.
    RateLimited,
    /// 403: middleware of the server refused the message.
    Refused,
    /// 404: no such room.
    RoomNotFound,
    /// 408: the body did not come in time.
    TimedOut,
    /// 413: the body is larger than `admin.max_body_bytes`.
    TooLarge,
    /// 409: `limits.max_rooms` or `limits.max_rooms_per_connection` is reached.
    TooManyRooms,
    /// 401: no token, or a wrong one.
    Unauthenticated,
    /// 503: something behind the server failed, or it is not ready.
    Unavailable,
    /// 415: the body is not `application/json`.
    UnsupportedMediaType,
}

impl Code {
    /// The error with this sentence.
    pub(super) fn with(self, message: impl Into<Cow<'static, str>>) -> ApiError {
        ApiError { code: self, message: message.into() }
    }

    fn status(self) -> StatusCode {
        match self {
            Self::InvalidRequest => StatusCode::BAD_REQUEST,
            Self::Unauthenticated => StatusCode::UNAUTHORIZED,
            Self::NotAuthorized | Self::OriginNotAllowed | Self::Refused => StatusCode::FORBIDDEN,
            Self::ConnectionNotFound | Self::NotFound | Self::NotMember | Self::RoomNotFound => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::TimedOut => StatusCode::REQUEST_TIMEOUT,
            Self::NotSupported | Self::TooManyRooms => StatusCode::CONFLICT,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::RateLimited => StatusCode::TOO_MANY_REQUESTS,
            Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
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
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let error = ErrorDetail { code: self.code, message: self.message.into_owned() };
        let mut response = json(self.code.status(), &ErrorBody { error });
        let header = match self.code {
            Code::Unauthenticated => Some((WWW_AUTHENTICATE, "Bearer")),
            Code::RateLimited => Some((RETRY_AFTER, "1")),
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
            | CallError::MessageTooLarge
            | CallError::NoSuchUser
            | CallError::OutOfSync
            | CallError::ReplyTooLarge => Code::InvalidRequest,
            CallError::NoSuchConnection => Code::ConnectionNotFound,
            CallError::NoSuchRoom => Code::RoomNotFound,
            CallError::NotAuthorized => Code::NotAuthorized,
            CallError::NotMember(_) => Code::NotMember,
            CallError::LoginRefused(_) | CallError::NotLoggedIn | CallError::NotSupported => Code::NotSupported,
            CallError::TooManyRequests { .. } => Code::RateLimited,
            CallError::Refused(_) => Code::Refused,
            CallError::TooManyRooms | CallError::TooManyRoomsOfConnection => Code::TooManyRooms,
            // Those of actions and files do not come this way.
            CallError::Action(_) | CallError::FileNotFound | CallError::Unavailable => Code::Unavailable,
        };
        code.with(error.to_string())
    }
}

impl From<StateError> for ApiError {
    fn from(error: StateError) -> Self {
        let code = match &error {
            StateError::NoSuchConnection => Code::ConnectionNotFound,
            _ => Code::InvalidRequest,
        };
        code.with(error.to_string())
    }
}
