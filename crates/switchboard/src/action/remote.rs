//! Actions that a backend answers over HTTP, and the hook that asks one before any action runs.

use std::sync::Arc;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Map, Value};
use switchboard_proto::params::{ParamLimits, Params};

use crate::config::{Config, RemoteAction};
use crate::webhook::{self, Document, Hook, Question, Reading, Refusal, Rule, Webhooks};

use super::{
    Action, ActionExists, ActionResult, ActionSpec, Actions, Failure, HttpRequest, Input, Middleware, Reply, Request,
};

/// What a client reads when nobody could say. The log has the cause.
const UNAVAILABLE: &str = "unavailable";
const REFUSED: &str = "refused";

/// Registers the actions of `actions.remote`, and the hook `hooks.action` behind all other middleware.
///
/// # Errors
///
/// When an action of that name and version is registered already.
pub(crate) fn register(actions: &mut Actions, config: &Config, webhooks: &Arc<Webhooks>) -> Result<(), ActionExists> {
    for action in &config.actions.remote {
        let question = webhooks.question(Hook::Remote, &action.url, action.timeout);
        actions.register(Remote { action: action.clone(), webhooks: Arc::clone(webhooks), question })?;
    }
    let hook = &config.hooks.action;
    if let Some(rule) = Rule::new(webhooks, Hook::Action, hook.url.as_ref(), hook.on_failure) {
        actions.add_middleware(i32::MAX, ActionHook(rule));
    }
    Ok(())
}

/// An action that a backend answers.
struct Remote {
    action: RemoteAction,
    webhooks: Arc<Webhooks>,
    question: Question,
}

impl Action for Remote {
    fn spec(&self) -> ActionSpec {
        let RemoteAction { name, version, description, required, optional, .. } = &self.action;
        let spec = ActionSpec::new(name).version(*version).describe(description);
        let spec = if self.action.http { spec.raw_body() } else { spec };
        let spec = if self.action.require_post { spec.require_post() } else { spec };
        let inputs = required.iter().map(Input::required).chain(optional.iter().map(Input::optional));
        inputs.fold(spec, ActionSpec::input)
    }

    async fn run(&self, request: &mut Request) -> ActionResult {
        let mut question = question(Hook::Remote, request);
        if let (true, Some(http)) = (self.action.http, request.http()) {
            question = question.object("http", describe_http(http, &self.action.http_headers));
        }
        let read = |reading| reply(reading, &self.action);
        self.webhooks.ask(&self.question, question.finish(), read).await.unwrap_or_else(|_| Err(UNAVAILABLE.into()))
    }
}

/// The HTTP request for the backend: of its headers only those that the operator lists, since others may be passwords.
fn describe_http(http: &HttpRequest, listed: &[String]) -> Document {
    let mut headers = Document::new();
    for name in listed {
        if let Some(value) = http.header(name) {
            headers = headers.text(name, value);
        }
    }
    Document::new()
        .text("method", http.method())
        .text("path", http.path())
        .text("query", http.query().unwrap_or_default())
        .object("headers", headers)
        // A body need not be text, and a signature is over its very bytes.
        .text("bodyBase64", &BASE64_STANDARD.encode(http.body()))
}

/// The member `http` of an answer: how the HTTP answer differs from the usual one.
fn shape_http(mut reply: Reply, http: Option<Value>, action: &RemoteAction) -> Result<Reply, webhook::Failure> {
    let wrong = |what| Err(webhook::Failure::Answer(what));
    let Some(http) = http else { return Ok(reply) };
    let Value::Object(http) = http else { return wrong("http is not an object") };
    for (name, value) in http {
        reply = match (name.as_str(), value) {
            ("status", Value::Number(status)) => match status.as_u64().and_then(|status| u16::try_from(status).ok()) {
                Some(status @ 200..=599) => reply.with_status(status),
                _ => return wrong("http.status is not from 200 to 599"),
            },
            ("headers", Value::Object(headers)) => {
                for (name, value) in headers {
                    let is_listed = |listed: &String| listed.eq_ignore_ascii_case(&name);
                    let Value::String(value) = value else { return wrong("a value in http.headers is not a text") };
                    if !name.eq_ignore_ascii_case("content-type") && !action.http_answer_headers.iter().any(is_listed) {
                        return wrong("http.headers has a header that http_answer_headers does not list");
                    }
                    reply = reply.with_header(name, value);
                }
                reply
            }
            ("body", Value::String(body)) => reply.with_body(body),
            ("bodyBase64", Value::String(body)) => match BASE64_STANDARD.decode(body) {
                Ok(body) => reply.with_body(body),
                Err(_) => return wrong("http.bodyBase64 is not base64"),
            },
            _ => return wrong("http has a member that is unknown, or of another type than it must be"),
        };
    }
    Ok(reply)
}

/// Reads an answer: its members are the reply, `error` makes it a failure, and `http` shapes the HTTP answer where the
/// action has `http = true`.
fn reply(Reading { is_yes, mut members }: Reading, action: &RemoteAction) -> Result<ActionResult, webhook::Failure> {
    let http = if action.http { members.remove("http") } else { None };
    let mut text = |name| match members.remove(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(webhook::Failure::Answer("error or reason is not a text")),
    };
    let failure = match (is_yes, text("error")?) {
        (true, error) => error,
        (false, Some(error)) => Some(error),
        (false, None) => Some(text("reason")?.unwrap_or_else(|| REFUSED.to_owned())),
    };
    let mut reply = shape_http(Reply::new(), http, action)?;
    members.into_iter().for_each(|(name, value)| reply.set(name, value));
    Ok(match failure {
        None => Ok(reply),
        Some(text) => Err(Failure { text, reply }),
    })
}

/// Asks a backend before any action runs.
struct ActionHook(Rule);

impl Middleware for ActionHook {
    async fn before(&self, request: &mut Request) -> Result<(), Failure> {
        let question = question(Hook::Action, request).finish();
        let changed = self.0.ask(question, changed_params).await.map_err(|refusal| match refusal {
            Refusal::Said(reason) => Failure::new(reason.unwrap_or_else(|| REFUSED.to_owned())),
            Refusal::Unknown => UNAVAILABLE.into(),
        })?;
        if !changed.is_empty() {
            let params = Arc::make_mut(&mut request.params);
            changed.into_iter().for_each(|(name, value)| change(params, &name, value));
        }
        Ok(())
    }
}

/// The params to change, from the answer to `action`.
fn changed_params(mut answer: Map<String, Value>) -> Result<Map<String, Value>, webhook::Failure> {
    match answer.remove("params") {
        None | Some(Value::Null) => Ok(Map::new()),
        Some(Value::Object(params)) => Ok(params),
        Some(_) => Err(webhook::Failure::Answer("params is not an object")),
    }
}

/// Sets a param; `null` removes it.
fn change(params: &mut Params, name: &str, value: Value) {
    // Limits guard what clients make stick; this copy lives as long as the request, and an answer is limited.
    const NO_LIMITS: ParamLimits = ParamLimits { count: usize::MAX, bytes: usize::MAX };
    if value.is_null() {
        params.remove(name);
    } else {
        // Without limits it cannot fail.
        let _ = params.set(name, value, NO_LIMITS);
    }
}

fn question(hook: Hook, request: &Request) -> Document {
    let node = request.node();
    let mut params = Document::new();
    for (name, value) in request.params().iter() {
        params = params.value(name, value);
    }
    node.document(hook)
        .object("connection", node.describe(&request.connection().facts))
        .text("action", request.action().name())
        .number("version", request.action().version_number().into())
        .object("params", params)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn action() -> RemoteAction {
        RemoteAction::new("hook", crate::config::HttpUrl::parse("http://a/").unwrap())
    }

    #[track_caller]
    fn reply_of(action: &RemoteAction, is_yes: bool, body: Value) -> Result<ActionResult, webhook::Failure> {
        let Value::Object(members) = body else { panic!("an object is needed") };
        reply(Reading { is_yes, members }, action)
    }

    #[track_caller]
    fn reply_to(is_yes: bool, body: Value) -> Result<ActionResult, webhook::Failure> {
        reply_of(&action(), is_yes, body)
    }

    #[test]
    fn a_backend_shapes_the_http_answer_only_as_far_as_it_may() {
        let plain = json!({"http": {"status": 202}, "x": 1});
        let expected = Reply::new().with("http", json!({"status": 202})).with("x", 1);
        assert_eq!(reply_to(true, plain), Ok(Ok(expected)));

        let action = RemoteAction { http: true, http_answer_headers: vec!["location".into()], ..action() };
        let shaped = json!({
            "x": 1,
            "http": {"status": 201, "headers": {"Location": "/7", "Content-Type": "text/plain"}, "body": "made"},
        });
        let expected = Reply::new().with("x", 1).with_status(201);
        let expected =
            expected.with_header("Location", "/7").with_header("Content-Type", "text/plain").with_body("made");
        assert_eq!(reply_of(&action, true, shaped), Ok(Ok(expected)));
        let bytes = reply_of(&action, true, json!({"http": {"bodyBase64": "AP8="}}));
        assert_eq!(bytes, Ok(Ok(Reply::new().with_body(vec![0, 255]))));
        let failed = reply_of(&action, true, json!({"error": "forged", "http": {"status": 401}}));
        assert_eq!(failed, Ok(Err(Failure { text: "forged".into(), reply: Reply::new().with_status(401) })));

        for wrong in [
            json!(5),
            json!({"status": 199}),
            json!({"status": 600}),
            json!({"status": "200"}),
            json!({"headers": {"set-cookie": "a=b"}}),
            json!({"headers": {"location": 5}}),
            json!({"body": 5}),
            json!({"bodyBase64": "?"}),
            json!({"stauts": 200}),
        ] {
            assert!(reply_of(&action, true, json!({"http": wrong})).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_members_of_an_answer_are_the_reply() {
        let expected = Reply::new().with("score", 7).with("allow", false);
        assert_eq!(reply_to(true, json!({"score": 7, "allow": false})), Ok(Ok(expected)));
        assert_eq!(reply_to(true, json!({"error": null})), Ok(Ok(Reply::new())));
    }

    #[test]
    fn error_or_403_makes_it_a_failure() {
        let failed = |text: &str, reply| Ok(Err(Failure { text: text.to_owned(), reply }));
        let rest = Reply::new().with("left", 3);
        assert_eq!(reply_to(true, json!({"left": 3, "error": "too soon"})), failed("too soon", rest));
        assert_eq!(reply_to(false, json!({})), failed("refused", Reply::new()));
        assert_eq!(reply_to(false, json!({"reason": "banned"})), failed("banned", Reply::new()));
        assert_eq!(reply_to(false, json!({"error": "no"})), failed("no", Reply::new()));
        assert!(reply_to(true, json!({"error": 5})).is_err());
    }
}
