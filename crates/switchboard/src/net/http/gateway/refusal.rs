//! Why a request about the gateway is not answered with what it asked for.

use std::borrow::Cow;

use hyper::header::{self, HeaderValue};
use hyper::{Response, StatusCode};
use switchboard_proto::json::write_text;

use crate::http_connection::body::BodyError;
use crate::node::gateway::InteractionError;
use crate::node::gateway::events::PublishError;

use super::super::answer::{Answer, JSON, respond};
use super::super::retry_seconds;
use super::Companion;

/// The rule that a refused interaction breaks.
const MALFORMED_INTERACTION: &str = "an interaction is a JSON object with a type from 1 to 5, and from type 2 on with an id and, where there is one, the digits of \
     guild_id as strings";

/// Why a request is not answered with what it asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The request, or its body, is not what it should be; in words for the client.
    Invalid(Cow<'static, str>),
    /// Nothing proves who asks. What is wrong is not told.
    Unauthenticated,
    /// The application has no secret, and whoever asks is on another machine.
    NotAuthorized,
    /// There is no gateway.
    NotFound,
    /// No shard has a session.
    NoSession,
    /// The body did not come in time.
    TooSlow,
    TooLarge,
    /// Too many events; when it may be tried again, in milliseconds.
    RateLimited(u64),
    Unavailable,
}

impl Refusal {
    const fn status_and_code(&self) -> (StatusCode, &'static str) {
        match self {
            Self::Invalid(_) => (StatusCode::BAD_REQUEST, "invalid_request"),
            Self::Unauthenticated => (StatusCode::UNAUTHORIZED, "unauthenticated"),
            Self::NotAuthorized => (StatusCode::FORBIDDEN, "not_authorized"),
            Self::NotFound => (StatusCode::NOT_FOUND, "not_found"),
            Self::NoSession => (StatusCode::NOT_FOUND, "no_session"),
            Self::TooSlow => (StatusCode::REQUEST_TIMEOUT, "too_slow"),
            Self::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "too_large"),
            Self::RateLimited(_) => (StatusCode::TOO_MANY_REQUESTS, "rate_limited"),
            Self::Unavailable => (StatusCode::SERVICE_UNAVAILABLE, "unavailable"),
        }
    }

    /// The answer; `accepted` is among what a publication is told.
    pub(super) fn response(self, companion: Companion) -> Response<Answer> {
        let (status, code) = self.status_and_code();
        let accepted = if companion == Companion::Events { r#""accepted":false,"# } else { "" };
        let mut body = format!(r#"{{{accepted}"error":"{code}""#).into_bytes();
        if let Self::Invalid(message) = &self {
            body.extend_from_slice(br#","message":"#);
            write_text(&mut body, message);
        }
        body.push(b'}');
        let mut response = respond(status, JSON, body);
        let headers = response.headers_mut();
        match self {
            Self::Unauthenticated if companion != Companion::Interaction => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            Self::RateLimited(retry_ms) => {
                headers.insert(header::RETRY_AFTER, retry_ms.div_ceil(1000).max(1).into());
            }
            Self::Unavailable => {
                headers.insert(header::RETRY_AFTER, u16::from(retry_seconds()).into());
            }
            _ => {}
        }
        response
    }
}

impl From<BodyError> for Refusal {
    fn from(error: BodyError) -> Self {
        match error {
            BodyError::TooLarge => Self::TooLarge,
            BodyError::TooSlow => Self::TooSlow,
            BodyError::Malformed => Self::Invalid("the body broke off, or is not framed as HTTP wants it".into()),
        }
    }
}

impl From<PublishError> for Refusal {
    fn from(error: PublishError) -> Self {
        match error {
            PublishError::BadName | PublishError::BadId => Self::Invalid(error.to_string().into()),
            PublishError::TooLarge => Self::TooLarge,
            PublishError::NoSession => Self::NoSession,
            PublishError::TooMany { retry_ms } => Self::RateLimited(retry_ms),
            PublishError::NoSuchApplication | PublishError::Unavailable => Self::Unavailable,
        }
    }
}

impl From<InteractionError> for Refusal {
    fn from(error: InteractionError) -> Self {
        match error {
            InteractionError::Unsigned => Self::Unauthenticated,
            InteractionError::Malformed => Self::Invalid(MALFORMED_INTERACTION.into()),
            InteractionError::TooLarge => Self::TooLarge,
            InteractionError::TooMany | InteractionError::Unavailable => Self::Unavailable,
        }
    }
}
