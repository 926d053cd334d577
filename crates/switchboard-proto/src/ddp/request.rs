//! What a frame asks for.

use std::borrow::Cow;

use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::json::{self, JsonError, JsonRefusal};

use super::errors;
use super::settings::DdpSettings;

/// A frame, read.
#[derive(Debug, PartialEq)]
pub(super) enum Request {
    Connect {
        /// The version that the client proposes; `None` when what it says is not well-formed.
        versions: Option<Versions>,
    },
    Ping {
        /// The JSON text of its id, if it has one.
        id: Option<String>,
    },
    Pong,
    Method {
        id: String,
        name: String,
        params: Vec<Value>,
    },
    Sub {
        id: String,
        name: String,
        params: Vec<Value>,
    },
    Unsub {
        id: String,
    },
    /// A call or a subscription whose JSON is refused.
    Refused {
        id: String,
        is_method: bool,
        refusal: JsonRefusal,
    },
}

/// Which versions of the protocol a client speaks.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Versions {
    /// The one that it proposes.
    pub(super) proposed: String,
    /// All of them, the one it likes best first.
    pub(super) support: Vec<String>,
}

/// Why a frame is wrong in itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wrong {
    NotJson,
    /// JSON that is refused, without an id to answer it under.
    Refused(JsonRefusal),
    /// Not an object, or without `msg`.
    NoMessage,
    /// `msg` is none of those that are known, or what belongs to it is not as it must be.
    BadRequest,
    Method,
    Subscription,
}

impl Wrong {
    /// What the client is told.
    pub(super) fn reason(self) -> Cow<'static, str> {
        match self {
            Self::NotJson => errors::PARSE_ERROR.into(),
            Self::Refused(refusal) => refusal.to_string().into(),
            Self::NoMessage | Self::BadRequest => errors::BAD_REQUEST.into(),
            Self::Method => errors::MALFORMED_METHOD.into(),
            Self::Subscription => errors::MALFORMED_SUBSCRIPTION.into(),
        }
    }
}

impl Request {
    /// Reads a frame.
    pub(super) fn parse(text: &str, settings: &DdpSettings) -> Result<Self, Wrong> {
        let value = match json::parse(text, settings.json) {
            Ok(value) => value,
            Err(JsonError::NotJson(_)) => return Err(Wrong::NotJson),
            Err(JsonError::Refused(refusal)) => {
                return refused(text, refusal, settings).ok_or(Wrong::Refused(refusal));
            }
        };
        let Value::Object(mut members) = value else { return Err(Wrong::NoMessage) };
        let msg = members.remove("msg").ok_or(Wrong::NoMessage)?;
        let max_id_bytes = settings.max_id_bytes;
        match msg.as_str() {
            Some("connect") => Ok(Self::Connect { versions: versions(&members) }),
            Some("method") => method(members, max_id_bytes).ok_or(Wrong::Method),
            Some("ping") => match members.get("id").map(Value::to_string) {
                Some(id) if id.len() > max_id_bytes.saturating_add(2) => Err(Wrong::BadRequest),
                id => Ok(Self::Ping { id }),
            },
            Some("pong") => Ok(Self::Pong),
            Some("sub") => sub(members, max_id_bytes).ok_or(Wrong::Subscription),
            Some("unsub") => match id(&mut members, max_id_bytes) {
                Some(id) => Ok(Self::Unsub { id }),
                None => Err(Wrong::BadRequest),
            },
            _ => Err(Wrong::BadRequest),
        }
    }

    /// Whether it need not wait for what came before it.
    pub(super) fn jumps_the_queue(&self) -> bool {
        matches!(self, Self::Ping { .. } | Self::Pong)
    }
}

/// Part of a refused message in which its id is looked for: to read all of a long one takes some milliseconds.
const LEADING_BYTES: usize = 64 * 1024;

/// The request in a frame whose JSON is refused, if it has an id. An `unsub` and a `ping` need nothing but their id.
fn refused(text: &str, refusal: JsonRefusal, settings: &DdpSettings) -> Option<Request> {
    let [msg, id] = match text.len() > LEADING_BYTES {
        true => json::leading_members(text, ["msg", "id"], LEADING_BYTES),
        false => json::members(text, ["msg", "id"])?,
    };
    let text_of = |member: Option<&str>| serde_json::from_str::<String>(member?).ok();
    let msg = text_of(msg)?;
    let id = text_of(id).filter(|id| id.len() <= settings.max_id_bytes)?;
    match msg.as_str() {
        "method" => Some(Request::Refused { id, is_method: true, refusal }),
        "sub" => Some(Request::Refused { id, is_method: false, refusal }),
        "unsub" => Some(Request::Unsub { id }),
        "ping" => Some(Request::Ping { id: Some(Value::from(id).to_string()) }),
        _ => None,
    }
}

fn versions(members: &Map<String, Value>) -> Option<Versions> {
    let proposed = members.get("version")?.as_str()?;
    let support = members.get("support")?.as_array()?;
    let support: Option<Vec<_>> = support.iter().map(|version| version.as_str().map(str::to_owned)).collect();
    let support = support.filter(|support| support.iter().any(|version| version == proposed))?;
    Some(Versions { proposed: proposed.to_owned(), support })
}

fn method(mut members: Map<String, Value>, max_id_bytes: usize) -> Option<Request> {
    if members.get("randomSeed").is_some_and(|seed| !seed.is_string()) {
        return None;
    }
    let id = id(&mut members, max_id_bytes)?;
    Some(Request::Method { id, name: text(members.remove("method"))?, params: params(&mut members)? })
}

fn sub(mut members: Map<String, Value>, max_id_bytes: usize) -> Option<Request> {
    let id = id(&mut members, max_id_bytes)?;
    Some(Request::Sub { id, name: text(members.remove("name"))?, params: params(&mut members)? })
}

fn id(members: &mut Map<String, Value>, max_bytes: usize) -> Option<String> {
    text(members.remove("id")).filter(|id| id.len() <= max_bytes)
}

fn text(value: Option<Value>) -> Option<String> {
    match value {
        Some(Value::String(text)) => Some(text),
        _ => None,
    }
}

/// The parameters; none where they are left out.
fn params(members: &mut Map<String, Value>) -> Option<Vec<Value>> {
    match members.remove("params") {
        None => Some(Vec::new()),
        Some(Value::Array(params)) => Some(params),
        Some(_) => None,
    }
}

/// The text of one parameter as the client wrote it, of a frame that [`Request::parse`] accepted: numbers and the order of
/// members are not ours to change.
pub(super) fn raw_param(text: &str, index: usize) -> Option<&str> {
    let [params] = json::members(text, ["params"])?;
    let params: Vec<&RawValue> = serde_json::from_str(params?).ok()?;
    params.get(index).map(|param| param.get())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Request, Wrong> {
        Request::parse(text, &DdpSettings::default())
    }

    #[test]
    fn what_is_wrong_in_itself_is_told_apart() {
        for (text, wrong) in [
            ("{not json", Wrong::NotJson),
            (r#"{"msg":"ping","msg":"ping"}"#, Wrong::Refused(JsonRefusal::RepeatedMember)),
            (r#"{"msg":"method","id":1,"id":1}"#, Wrong::Refused(JsonRefusal::RepeatedMember)),
            ("[]", Wrong::NoMessage),
            (r#"{"hello":1}"#, Wrong::NoMessage),
            (r#"{"msg":1}"#, Wrong::BadRequest),
            (r#"{"msg":"fly","id":"2"}"#, Wrong::BadRequest),
            (r#"{"msg":"unsub","id":2}"#, Wrong::BadRequest),
            (r#"{"msg":"method","id":7,"method":"x"}"#, Wrong::Method),
            (r#"{"msg":"method","id":"7"}"#, Wrong::Method),
            (r#"{"msg":"method","id":"7","method":"x","params":null}"#, Wrong::Method),
            (r#"{"msg":"method","id":"7","method":"x","randomSeed":1}"#, Wrong::Method),
            (r#"{"msg":"sub","id":"3"}"#, Wrong::Subscription),
            (r#"{"msg":"sub","id":"3","name":"x","params":{}}"#, Wrong::Subscription),
        ] {
            assert_eq!(read(text), Err(wrong), "{text}");
        }
    }

    #[test]
    fn fault_row_6_ids_and_nesting_have_their_limits() {
        let long = "x".repeat(257);
        assert_eq!(read(&format!(r#"{{"msg":"sub","id":"{long}","name":"x"}}"#)), Err(Wrong::Subscription));
        assert_eq!(read(&format!(r#"{{"msg":"method","id":"{long}","method":"x"}}"#)), Err(Wrong::Method));
        assert_eq!(read(&format!(r#"{{"msg":"unsub","id":"{long}"}}"#)), Err(Wrong::BadRequest));
        assert_eq!(read(&format!(r#"{{"msg":"ping","id":"{long}"}}"#)), Err(Wrong::BadRequest));
        let nested = |levels| format!(r#"{{"msg":"ping","x":{}{}}}"#, "[".repeat(levels), "]".repeat(levels));
        assert_eq!(read(&nested(63)), Ok(Request::Ping { id: None }));
        assert_eq!(read(&nested(64)), Err(Wrong::Refused(JsonRefusal::TooDeep(64))));
    }

    #[test]
    fn a_version_that_is_not_among_the_supported_ones_is_not_well_formed() {
        for text in [
            r#"{"msg":"connect"}"#,
            r#"{"msg":"connect","version":1,"support":["1"]}"#,
            r#"{"msg":"connect","version":"1","support":"1"}"#,
            r#"{"msg":"connect","version":"1","support":["1",2]}"#,
            r#"{"msg":"connect","version":"1","support":["pre2"]}"#,
        ] {
            assert_eq!(read(text), Ok(Request::Connect { versions: None }), "{text}");
        }
    }

    #[test]
    fn parameters_are_taken_as_they_were_written() {
        let text = r#"{"params":["x", {"z":1.0,"a":1e2, "n":12345678901234567890123}],"msg":"method"}"#;
        assert_eq!(raw_param(text, 1), Some(r#"{"z":1.0,"a":1e2, "n":12345678901234567890123}"#));
        assert_eq!(raw_param(text, 2), None);
        assert_eq!(raw_param(r#"{"p\u0061rams":[ 1 ]}"#, 0), Some("1"));
    }
}
