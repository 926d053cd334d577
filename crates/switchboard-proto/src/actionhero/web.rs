//! Answers to actions that were asked for over HTTP: one JSON object, and a status that says how it went.

use crate::call::{ActionCall, ActionError, Answer, CallError, Outcome, Reply};
use crate::face::ConnFacts;
use crate::json::{write_number, write_text, write_value};
use crate::params::{Params, SecretParams};

use std::sync::Arc;

use super::errors;
use super::settings::Compat;

/// Why a request was not made, or brought nothing: what no other wire has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WebRefusal {
    /// The body is not a JSON object, or its JSON is refused; in words for the client.
    BadJson(String),
    /// The query, or a form, is not encoded as it must be, or names a param twice.
    BadParams,
    /// The body is neither JSON nor a form.
    MediaType,
    /// The action does not run with GET or HEAD.
    NeedsPost,
    /// A hook has not let it in, for this reason.
    NotLetIn(String),
    /// The server stops.
    Stopping,
    /// The action took longer than `servers.web.request_timeout`.
    TimedOut,
    /// The body is longer than `servers.web.max_body_bytes`.
    TooLarge,
    /// There are more params than `limits.max_params` and `limits.max_params_bytes` allow.
    TooManyParams,
    /// The body did not come in time.
    TooSlow,
    /// Something behind us failed; the log has the cause.
    Unavailable,
}

impl WebRefusal {
    /// HTTP's word for it.
    pub const fn status(&self) -> u16 {
        match self {
            Self::BadJson(_) | Self::BadParams | Self::TooManyParams => 400,
            Self::NotLetIn(_) => 403,
            Self::NeedsPost => 405,
            Self::TooSlow => 408,
            Self::TooLarge => 413,
            Self::MediaType => 415,
            Self::Stopping | Self::TimedOut | Self::Unavailable => 503,
        }
    }

    fn text(&self) -> &str {
        match self {
            Self::BadJson(words) => words,
            Self::BadParams => "the params are not well-formed",
            Self::MediaType => "the body must be application/json or application/x-www-form-urlencoded",
            Self::NeedsPost => "this action needs POST",
            Self::NotLetIn(reason) => reason,
            Self::Stopping => errors::SHUTTING_DOWN,
            Self::TimedOut => "the action took too long",
            Self::TooLarge => "the body is too large",
            Self::TooManyParams => errors::TOO_MANY_PARAMS,
            Self::TooSlow => "the body did not come in time",
            Self::Unavailable => errors::UNAVAILABLE,
        }
    }
}

/// What every answer tells beside what the action says.
#[derive(Debug)]
pub struct WebAnswers<'a> {
    /// Generation (`servers.web.compat`).
    pub compat: Compat,
    /// The program's name.
    pub server_name: &'a str,
    /// The program's version.
    pub version: &'a str,
    /// The request as a connection.
    pub conn: &'a ConnFacts,
    /// The params that it came with.
    pub params: &'a Params,
    /// Params whose values are masked.
    pub secret_params: &'a SecretParams,
    /// How long it took, in milliseconds.
    pub duration_ms: u64,
    /// The time, in milliseconds since 1970.
    pub now_ms: u64,
}

impl WebAnswers<'_> {
    /// The members that are ours; an action's own of these names are left out.
    const ENVELOPE: [&'static str; 2] = ["serverInformation", "requesterInformation"];

    /// The call that these params make.
    pub fn call(compat: Compat, params: Arc<Params>) -> ActionCall {
        ActionCall { params, missing: compat.missing() }
    }

    /// Writes the answer that an outcome makes, and returns its status.
    pub fn outcome(&self, out: &mut Vec<u8>, outcome: &Outcome) -> u16 {
        const NOTHING: &Reply = &Reply::new();
        match outcome {
            Ok(Answer::Action(reply)) => {
                out.push(b'{');
                self.members(out, reply, false);
                self.end(out);
                200
            }
            Err(CallError::Action(error)) => {
                let reply = if let ActionError::Failed { reply, .. } = error { reply } else { NOTHING };
                self.error(out, &errors::failed_action(self.compat, error), reply);
                match error {
                    ActionError::Busy => 503,
                    ActionError::Crashed => 500,
                    ActionError::Failed { .. } | ActionError::WrongType(_) => 400,
                    ActionError::Invalid(_) | ActionError::Missing(_) => 422,
                    ActionError::Unknown => 404,
                }
            }
            // An action has no other outcomes; whatever this is, it is ours.
            Ok(_) | Err(_) => {
                self.error(out, &errors::prefixed(self.compat, errors::UNAVAILABLE), NOTHING);
                500
            }
        }
    }

    /// Writes the answer to a request that was not made, and returns its status.
    pub fn refused(&self, out: &mut Vec<u8>, refusal: &WebRefusal) -> u16 {
        self.error(out, &errors::prefixed(self.compat, refusal.text()), &Reply::new());
        refusal.status()
    }

    fn error(&self, out: &mut Vec<u8>, reason: &str, reply: &Reply) {
        out.extend_from_slice(b"{\"error\":");
        write_text(out, reason);
        out.push(b',');
        self.members(out, reply, true);
        self.end(out);
    }

    fn members(&self, out: &mut Vec<u8>, reply: &Reply, is_error: bool) {
        for (name, value) in reply.iter() {
            if Self::ENVELOPE.contains(&name) || (is_error && name == "error") {
                continue;
            }
            write_text(out, name);
            out.push(b':');
            write_value(out, value);
            out.push(b',');
        }
    }

    fn end(&self, out: &mut Vec<u8>) {
        let member = |out: &mut Vec<u8>, before: &str, text: &str| {
            out.extend_from_slice(before.as_bytes());
            write_text(out, text);
        };
        member(out, "\"serverInformation\":{\"serverName\":", self.server_name);
        member(out, ",\"apiVersion\":", self.version);
        out.extend_from_slice(b",\"requestDuration\":");
        write_number(out, self.duration_ms);
        out.extend_from_slice(b",\"currentTime\":");
        write_number(out, self.now_ms);
        member(out, "},\"requesterInformation\":{\"id\":", self.conn.id.text().as_str());
        match self.conn.fingerprint() {
            Some(fingerprint) => member(out, ",\"fingerprint\":", fingerprint),
            None => out.extend_from_slice(b",\"fingerprint\":null"),
        }
        member(out, ",\"remoteIP\":", &self.conn.remote.to_string());
        out.extend_from_slice(b",\"receivedParams\":");
        self.params.write_json(out, self.secret_params);
        out.extend_from_slice(b"}}");
    }
}

/// The text of a file that cannot be had.
pub const fn file_not_found(compat: Compat) -> &'static str {
    match compat {
        Compat::Auto | Compat::Classic => errors::FILE_NOT_FOUND_CLASSIC,
        Compat::Modern => errors::FILE_NOT_FOUND_MODERN,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::ConnectionType;
    use crate::face::Remote;
    use crate::id::ConnId;
    use crate::params::ParamLimits;
    use serde_json::{Value, json};

    fn answer(compat: Compat, write: impl FnOnce(&WebAnswers<'_>, &mut Vec<u8>) -> u16) -> (u16, Value) {
        let conn = ConnFacts {
            id: ConnId::from_random(7),
            kind: ConnectionType::Web,
            remote: Remote::Ip([127, 0, 0, 1].into(), 1),
            connected_at: 5,
            fingerprint: None,
        };
        let mut params = Params::default();
        params.set("action", json!("a"), ParamLimits::default()).unwrap();
        params.set("password", json!("open sesame"), ParamLimits::default()).unwrap();
        let answers = WebAnswers {
            compat,
            server_name: "Name",
            version: "1.2.3",
            conn: &conn,
            params: &params,
            secret_params: &SecretParams::new(["password"]),
            duration_ms: 4,
            now_ms: 9,
        };
        let mut out = Vec::new();
        let status = write(&answers, &mut out);
        (status, serde_json::from_slice(&out).unwrap())
    }

    #[test]
    fn an_answer_has_what_the_action_said_and_who_asked_whom() {
        let reply = Reply::new().with("x", 1).with("serverInformation", "mine");
        let (status, body) = answer(Compat::Auto, |answers, out| answers.outcome(out, &Ok(Answer::Action(reply))));
        assert_eq!(status, 200);
        assert_eq!(
            body,
            json!({
                "x": 1,
                "serverInformation":
                    {"serverName": "Name", "apiVersion": "1.2.3", "requestDuration": 4, "currentTime": 9},
                "requesterInformation": {
                    "id": "00000000-0000-4000-8000-000000000007",
                    "fingerprint": null,
                    "remoteIP": "127.0.0.1",
                    "receivedParams": {"action": "a", "password": "***"},
                },
            })
        );
    }

    #[test]
    fn a_failure_has_its_text_its_members_and_a_status_by_its_cause() {
        let failed = ActionError::Failed { text: "no".into(), reply: Reply::new().with("a", 1).with("error", 2) };
        for (error, expected, text) in [
            (failed, 400, "no"),
            (ActionError::Busy, 503, "the server is busy, try again later"),
            (ActionError::Crashed, 500, "The server experienced an internal error"),
            (ActionError::Invalid("b is bad".into()), 422, "b is bad"),
            (ActionError::Missing("key".into()), 422, "key is a required parameter for this action"),
            (ActionError::Unknown, 404, "unknown action or invalid apiVersion"),
            (ActionError::WrongType(ConnectionType::Web), 400, "this action does not support the web connection type"),
        ] {
            let outcome = Err(CallError::Action(error));
            let (status, body) = answer(Compat::Auto, |answers, out| answers.outcome(out, &outcome));
            assert_eq!((status, &body["error"]), (expected, &json!(format!("Error: {text}"))));
            let (_, body) = answer(Compat::Modern, |answers, out| answers.outcome(out, &outcome));
            assert_eq!((&body["error"], body.get("a").is_some()), (&json!(text), text == "no"));
        }
        let (status, body) = answer(Compat::Auto, |answers, out| answers.refused(out, &WebRefusal::Stopping));
        assert_eq!((status, &body["error"]), (503, &json!("Error: the server is shutting down")));
    }
}
