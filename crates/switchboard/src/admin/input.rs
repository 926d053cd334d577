//! How the API reads requests: everything is checked here, and what is not understood is refused by name.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::header::CONTENT_TYPE;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use utoipa::IntoParams;

use crate::http_connection::body::{self, BodyError};
use crate::proto::id::ConnId;
use crate::proto::json;

use super::Shared;
use super::answer::{ApiError, Code};

/// A request's body as JSON, within the limits of `[admin]` and of `limits.max_json_*`.
pub(super) struct FromJson<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequest<Arc<Shared>> for FromJson<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, shared: &Arc<Shared>) -> Result<Self, ApiError> {
        let (_, value) = read_object(request, shared).await?;
        serde_json::from_value(value).map(Self).map_err(odd_body)
    }
}

/// The same, read from the text: what is a `RawValue` keeps its numbers and the order of its members.
pub(super) struct FromJsonText<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequest<Arc<Shared>> for FromJsonText<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, shared: &Arc<Shared>) -> Result<Self, ApiError> {
        let (text, _) = read_object(request, shared).await?;
        serde_json::from_str(&text).map(Self).map_err(odd_body)
    }
}

fn odd_body(error: serde_json::Error) -> ApiError {
    Code::InvalidRequest.with(format!("the body does not fit this route (GET /v1/openapi.json describes it): {error}"))
}

/// A body that is a JSON object within the limits: its text and its value.
async fn read_object(request: Request, shared: &Shared) -> Result<(String, Value), ApiError> {
    if !is_json(request.headers()) {
        return Err(Code::UnsupportedMediaType.with("the body must be JSON, with Content-Type: application/json"));
    }
    let text = json::to_well_formed(&read(request.into_body(), shared).await?).into_owned();
    let value = json::parse(&text, shared.json)
        .map_err(|error| Code::InvalidRequest.with(format!("the body is refused: {error}")))?;
    // A list would do for a struct too, member by member.
    if !value.is_object() {
        return Err(Code::InvalidRequest.with("the body must be a JSON object"));
    }
    Ok((text, value))
}

async fn read(body: Body, shared: &Shared) -> Result<String, ApiError> {
    let bytes = body::read(body, shared.max_body_bytes).await.map_err(|error| match error {
        BodyError::TooLarge => {
            let limit = shared.max_body_bytes;
            Code::TooLarge.with(format!("the body is larger than admin.max_body_bytes, {limit} bytes"))
        }
        BodyError::TooSlow => Code::TimedOut.with("the body did not arrive within admin.body_timeout"),
        BodyError::Malformed => Code::InvalidRequest.with("the body is incomplete or wrongly framed"),
    })?;
    String::from_utf8(bytes).map_err(|_| Code::InvalidRequest.with("the body is not UTF-8"))
}

fn is_json(headers: &HeaderMap) -> bool {
    let mut types = headers.get_all(CONTENT_TYPE).iter().map(HeaderValue::as_bytes);
    let (Some(only), None) = (types.next(), types.next()) else { return false };
    let essence = only.split(|byte| *byte == b';').next().unwrap_or_default();
    essence.trim_ascii().eq_ignore_ascii_case(b"application/json")
}

/// What a path names.
pub(super) struct FromPath<T>(pub(super) T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for FromPath<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let named = Path::from_request_parts(parts, state).await;
        named.map(|Path(named)| Self(named)).map_err(|error| Code::InvalidRequest.with(error.body_text()))
    }
}

/// A connection's id as text, or a shard hash. What is none names no connection.
pub(super) fn connection_id(text: &str) -> Result<ConnId, ApiError> {
    ConnId::parse(text)
        .ok_or_else(|| Code::ConnectionNotFound.with("no such connection: neither a UUID nor a shard hash"))
}

/// Which part of a list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Part {
    /// Most items of the answer.
    #[serde(default = "Part::default_limit")]
    #[param(default = 100, minimum = 1, maximum = 1000)]
    pub(super) limit: usize,
    /// `cursor` of the answer before; without it the list begins.
    #[param(example = "6c6f626279")]
    cursor: Option<String>,
}

impl Part {
    const MAX: usize = 1000;

    pub(super) fn default_limit() -> usize {
        100
    }

    pub(super) fn new(limit: usize, cursor: Option<String>) -> Result<Self, ApiError> {
        Self { limit, cursor }.checked()
    }

    fn checked(self) -> Result<Self, ApiError> {
        if !(1..=Self::MAX).contains(&self.limit) {
            return Err(Code::InvalidRequest.with(format!("limit must be from 1 to {}", Self::MAX)));
        }
        Ok(self)
    }

    /// The refusal of a cursor.
    pub(super) fn odd_cursor() -> ApiError {
        Code::InvalidRequest.with("cursor is none that this list gave")
    }

    /// The text behind which the part begins.
    pub(super) fn after(&self) -> Result<Option<String>, ApiError> {
        let Some(cursor) = &self.cursor else { return Ok(None) };
        match from_hex(cursor) {
            Some(key) => Ok(Some(key)),
            None => Err(Self::odd_cursor()),
        }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Part {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let FromQuery(part) = FromQuery::<Self>::from_request_parts(parts, state).await?;
        part.checked()
    }
}

/// What the query of a URL says.
pub(super) struct FromQuery<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for FromQuery<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let asked = Query::from_request_parts(parts, state).await;
        asked.map(|Query(asked)| Self(asked)).map_err(|error| Code::InvalidRequest.with(error.body_text()))
    }
}

/// A cursor for what begins behind `key`. It is opaque to clients and needs no encoding in a URL.
pub(super) fn cursor(key: &str) -> String {
    key.bytes().map(|byte| format!("{byte:02x}")).collect()
}

fn from_hex(text: &str) -> Option<String> {
    let digits: Vec<u8> =
        text.chars().map(|digit| digit.to_digit(16).map(|digit| digit as u8)).collect::<Option<_>>()?;
    let (pairs, rest) = digits.as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    String::from_utf8(pairs.iter().map(|[high, low]| high << 4 | low).collect()).ok()
}

/// For members that may be absent, but if they are there must be of their type: `null` is not "absent".
pub(super) fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(from: D) -> Result<Option<T>, D::Error> {
    T::deserialize(from).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_read_back_and_anything_else_is_refused() {
        for key in ["", "lobby", "zwei Wörter %/?&"] {
            assert!(cursor(key).bytes().all(|byte| byte.is_ascii_alphanumeric()));
            assert_eq!(from_hex(&cursor(key)).as_deref(), Some(key));
        }
        for odd in ["6", "6g", "ff", "lobby", "é9"] {
            assert_eq!(from_hex(odd), None, "{odd}");
        }
    }

    #[test]
    fn only_one_content_type_that_is_json_is_json() {
        let is = |types: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in types {
                headers.append(CONTENT_TYPE, HeaderValue::from_static(value));
            }
            is_json(&headers)
        };
        assert!(is(&["application/json"]) && is(&["Application/JSON; charset=utf-8"]));
        for odd in [&[][..], &["text/plain"], &["application/jsonp"], &["application/json", "text/plain"], &[""]] {
            assert!(!is(odd), "{odd:?}");
        }
    }
}
