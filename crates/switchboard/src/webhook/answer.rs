//! What a backend's answer means.

use serde_json::{Map, Value};
use switchboard_proto::json::{self, JsonLimits};

use super::Failure;

/// What a backend decided.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Decision {
    /// It goes on; what the backend said beside that.
    Allow(Map<String, Value>),
    /// It is refused, for a reason that the client may read if there is one.
    Refuse(Option<String>),
}

/// A backend is trusted with many members; its answer is limited as a whole. Depth costs stack.
const LIMITS: JsonLimits = JsonLimits { depth: 64, keys: usize::MAX, values: 1_000_000 };

/// The members that an answer has: those of its JSON object, or none of an empty body.
///
/// # Errors
///
/// When it is neither, or the status is none that says yes or no.
pub(super) fn members(status: u16, body: &[u8]) -> Result<Reading, Failure> {
    let is_yes = match status {
        200 | 204 => true,
        403 => false,
        status => return Err(Failure::Status(status)),
    };
    let parsed = match body {
        [] => Some(Value::Object(Map::new())),
        body => std::str::from_utf8(body).ok().and_then(|text| json::parse(text, LIMITS).ok()),
    };
    match parsed {
        Some(Value::Object(members)) => Ok(Reading { is_yes, members }),
        // A page that some proxy puts around its no is still a no.
        _ if !is_yes => Ok(Reading { is_yes, members: Map::new() }),
        _ => Err(Failure::Answer("the body is not a JSON object")),
    }
}

/// Status and members of an answer.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Reading {
    /// The status was one that lets it go on.
    pub(crate) is_yes: bool,
    pub(crate) members: Map<String, Value>,
}

impl Reading {
    /// Looks at `allow` and `reason`, which say no under any status.
    ///
    /// # Errors
    ///
    /// When one of them is not what it should be: a backend that means no must not be taken to mean yes.
    pub(crate) fn decide(mut self) -> Result<Decision, Failure> {
        let is_allowed = match self.members.remove("allow") {
            None => self.is_yes,
            Some(Value::Bool(allow)) => allow && self.is_yes,
            Some(_) => return Err(Failure::Answer("allow is neither true nor false")),
        };
        match (is_allowed, self.members.remove("reason")) {
            (true, _) => Ok(Decision::Allow(self.members)),
            (false, None | Some(Value::Null)) => Ok(Decision::Refuse(None)),
            (false, Some(Value::String(reason))) => Ok(Decision::Refuse(Some(reason))),
            (false, Some(_)) => Err(Failure::Answer("reason is not a text")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[track_caller]
    fn answer(status: u16, body: &str) -> Result<Decision, String> {
        members(status, body.as_bytes()).and_then(Reading::decide).map_err(|failure| failure.to_string())
    }

    fn allow(members: Value) -> Result<Decision, String> {
        let Value::Object(members) = members else { panic!("an object is needed") };
        Ok(Decision::Allow(members))
    }

    fn refuse(reason: &str) -> Result<Decision, String> {
        Ok(Decision::Refuse(Some(reason.to_owned())))
    }

    #[test]
    fn yes_is_200_or_204_unless_the_body_says_no() {
        assert_eq!(answer(200, ""), allow(json!({})));
        assert_eq!(answer(204, ""), allow(json!({})));
        assert_eq!(answer(200, r#"{"allow":true,"reason":5,"message":"x"}"#), allow(json!({"message": "x"})));
        assert_eq!(answer(200, r#"{"allow":false,"reason":"too loud"}"#), refuse("too loud"));
        assert_eq!(answer(200, r#"{"allow":false}"#), Ok(Decision::Refuse(None)));
    }

    #[test]
    fn no_is_403_whatever_the_body_says() {
        for body in ["", "<html>", "[]", r#"{"allow":true}"#] {
            assert_eq!(answer(403, body), Ok(Decision::Refuse(None)), "{body}");
        }
        assert_eq!(answer(403, r#"{"reason":"banned"}"#), refuse("banned"));
    }

    #[test]
    fn fault_row_22_everything_else_is_a_failure_and_neither_yes_nor_no() {
        for status in [100, 201, 301, 302, 307, 400, 401, 404, 500, 503] {
            assert_eq!(answer(status, r#"{"allow":true}"#), Err(format!("the backend answered with status {status}")));
        }
        let not_json = Err("the body is not a JSON object".to_owned());
        for body in ["yes", "true", "[]", "{", "\"x\"", r#"{"a":1,"a":2}"#, &"[".repeat(100_000)] {
            assert_eq!(answer(200, body), not_json, "{body:.20}");
        }
        assert_eq!(members(200, b"\xff{}"), Err(Failure::Answer("the body is not a JSON object")));
        assert_eq!(answer(200, r#"{"allow":"no"}"#), Err("allow is neither true nor false".to_owned()));
        assert_eq!(answer(200, r#"{"allow":false,"reason":{}}"#), Err("reason is not a text".to_owned()));
    }
}
