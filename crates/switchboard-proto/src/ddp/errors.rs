//! The words a client reads when something is refused.

use std::borrow::Cow;

use crate::call::{CallError, LoginRefusal};
use crate::json::{JsonRefusal, write_number, write_text};

use super::methods::Method;

/// Why a frame is wrong in itself; the connection goes on.
pub(super) const ALREADY_CONNECTED: &str = "Already connected";
pub(super) const BAD_REQUEST: &str = "Bad request";
pub(super) const MALFORMED_METHOD: &str = "Malformed method invocation";
pub(super) const MALFORMED_SUBSCRIPTION: &str = "Malformed subscription";
pub(super) const MUST_CONNECT_FIRST: &str = "Must connect first";
pub(super) const PARSE_ERROR: &str = "Parse error";

/// Why a method or a subscription is refused.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    code: Code,
    reason: Option<Cow<'static, str>>,
    details: Option<Details>,
}

#[derive(Debug, PartialEq, Eq)]
enum Code {
    Number(u64),
    Text(&'static str),
}

#[derive(Debug, PartialEq, Eq)]
enum Details {
    Method(&'static str),
    TimeToReset(u64),
}

impl Refusal {
    fn number(code: u64, reason: impl Into<Cow<'static, str>>) -> Self {
        Self { code: Code::Number(code), reason: Some(reason.into()), details: None }
    }

    fn text(code: &'static str, reason: impl Into<Cow<'static, str>>) -> Self {
        Self { code: Code::Text(code), reason: Some(reason.into()), details: None }
    }

    fn bare(code: &'static str) -> Self {
        Self { code: Code::Text(code), reason: None, details: None }
    }

    /// An argument has the wrong type, or is missing.
    pub(super) fn match_failed() -> Self {
        Self::number(400, "Match failed")
    }

    /// The JSON of the call or subscription is refused.
    pub(super) fn json(refusal: JsonRefusal) -> Self {
        Self::number(400, refusal.to_string())
    }

    /// There is no such method; `name` as the client wrote it.
    pub(super) fn unknown_method(name: &str) -> Self {
        Self::number(404, format!("Method '{name}' not found"))
    }

    /// There is no such publication; `name` as the client wrote it.
    pub(super) fn unknown_publication(name: &str) -> Self {
        Self::number(404, format!("Subscription '{name}' not found"))
    }

    /// The event of a stream is the empty text.
    pub(super) fn invalid_event_name() -> Self {
        Self::bare("invalid-event-name")
    }

    /// This stream is somebody else's.
    pub(super) fn stream_not_allowed() -> Self {
        Self::bare("not-allowed")
    }

    /// The session has as many subscriptions as it may have.
    pub(super) fn too_many_subscriptions() -> Self {
        Self::bare("too-many-subscriptions")
    }

    /// No form of log-in that is known.
    pub(super) fn unrecognized_login() -> Self {
        Self::number(400, "Unrecognized options for login request")
    }

    /// Only users may, or there is no such user.
    pub(super) fn invalid_user(method: Method) -> Self {
        Self { details: Some(Details::Method(method.name())), ..Self::text("error-invalid-user", "Invalid user") }
    }

    /// Not for this user, or not there: the two are not told apart.
    pub(super) fn not_allowed() -> Self {
        Self::text("error-not-allowed", "Not allowed")
    }

    /// No such room, for methods that say so.
    pub(super) fn invalid_room() -> Self {
        Self::text("error-invalid-room", "Invalid room")
    }

    /// The text of a message is too long.
    pub(super) fn message_too_large() -> Self {
        Self::text("error-message-size-exceeded", "Message size exceeds the limit")
    }

    /// Another user's message, or one of the server's, has the id.
    fn message_id_taken() -> Self {
        Self::number(400, "The message id is taken, choose another one")
    }

    /// What failed is no concern of the client's; the log has the cause.
    fn internal() -> Self {
        Self::number(500, "Internal server error")
    }

    /// What a failed call means to the client of this method.
    pub(super) fn of_method(method: Method, error: &CallError) -> Self {
        match error {
            CallError::BadClientData | CallError::MessageRequired => Self::match_failed(),
            CallError::MessageIdTaken => Self::message_id_taken(),
            CallError::BadRoomName(_) | CallError::NoSuchRoom => match method {
                Method::JoinRoom | Method::LeaveRoom => Self::invalid_room(),
                _ => Self::not_allowed(),
            },
            CallError::LoginRefused(refusal) => Self::of_login(*refusal),
            CallError::MessageTooLarge => Self::message_too_large(),
            CallError::NoSuchUser | CallError::NotLoggedIn => Self::invalid_user(method),
            // A room that one may not see is a room that is not there.
            CallError::NotAuthorized if method == Method::JoinRoom => Self::invalid_room(),
            CallError::NotMember(_) if method == Method::LeaveRoom => {
                Self::text("error-user-not-in-room", "You are not in this room")
            }
            CallError::AlreadyMember(_)
            | CallError::NotAuthorized
            | CallError::NotMember(_)
            | CallError::TooManyRooms
            | CallError::TooManyRoomsOfConnection => Self::not_allowed(),
            CallError::OutOfSync => Self::text("error-message-ts-out-of-sync", "Message timestamp is out of sync"),
            CallError::Refused(reason) => Self::text("error-not-allowed", reason.clone()),
            CallError::ReplyTooLarge => Self::text("error-response-too-large", "Response is too large"),
            CallError::TooManyRequests { retry_ms } => Self::too_many_requests(*retry_ms),
            CallError::Action(_)
            | CallError::FileNotFound
            | CallError::NoSuchConnection
            | CallError::NotSupported
            | CallError::Shard(_)
            | CallError::Unavailable => Self::internal(),
        }
    }

    /// What a failed search for its room means to a subscription.
    pub(super) fn of_subscription(error: &CallError) -> Self {
        match error {
            CallError::Unavailable => Self::internal(),
            CallError::TooManyRequests { retry_ms } => Self::too_many_requests(*retry_ms),
            _ => Self::stream_not_allowed(),
        }
    }

    fn too_many_requests(retry_ms: u64) -> Self {
        Self {
            details: Some(Details::TimeToReset(retry_ms)),
            ..Self::text("too-many-requests", "Too many requests, try again later")
        }
    }

    fn of_login(refusal: LoginRefusal) -> Self {
        match refusal {
            LoginRefusal::NoSuchUser => Self::number(403, "User not found"),
            LoginRefusal::WrongPassword => Self::number(403, "Incorrect password"),
            LoginRefusal::Unclear => Self::number(403, "Something went wrong. Please check your credentials."),
            LoginRefusal::UnknownToken => {
                Self::number(403, "You've been logged out by the server. Please log in again.")
            }
            LoginRefusal::ExpiredToken => Self::number(403, "Your session has expired. Please log in again."),
            LoginRefusal::Inactive => Self::text("error-user-is-not-activated", "User is not activated"),
            LoginRefusal::TooManyAtOnce { retry_ms } => Self::too_many_requests(retry_ms),
        }
    }

    /// Writes it as the member `error` has it.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        let mut message = String::new();
        out.extend_from_slice(b"{\"isClientSafe\":true,\"error\":");
        match self.code {
            Code::Number(code) => write_number(out, code),
            Code::Text(code) => write_text(out, code),
        }
        if let Some(reason) = &self.reason {
            out.extend_from_slice(b",\"reason\":");
            write_text(out, reason);
            message.push_str(reason);
            message.push(' ');
        }
        message.push('[');
        match self.code {
            Code::Number(code) => message.push_str(&code.to_string()),
            Code::Text(code) => message.push_str(code),
        }
        message.push(']');
        out.extend_from_slice(b",\"message\":");
        write_text(out, &message);
        out.extend_from_slice(b",\"errorType\":\"Meteor.Error\"");
        match self.details {
            None => {}
            Some(Details::Method(method)) => {
                out.extend_from_slice(b",\"details\":{\"method\":");
                write_text(out, method);
                out.push(b'}');
            }
            Some(Details::TimeToReset(ms)) => {
                out.extend_from_slice(b",\"details\":{\"timeToReset\":");
                write_number(out, ms);
                out.push(b'}');
            }
        }
        out.push(b'}');
    }
}
