//! Actions that a backend answers over HTTP, and the hook that asks one before any action runs.

use std::sync::Arc;

use serde_json::{Map, Value};
use switchboard_proto::params::{ParamLimits, Params};

use crate::config::{Config, RemoteAction};
use crate::webhook::{self, Document, Hook, Question, Reading, Refusal, Rule, Webhooks};

use super::{Action, ActionExists, ActionResult, ActionSpec, Actions, Failure, Input, Middleware, Reply, Request};

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
        let inputs = required.iter().map(Input::required).chain(optional.iter().map(Input::optional));
        inputs.fold(spec, ActionSpec::input)
    }

    async fn run(&self, request: &mut Request) -> ActionResult {
        let question = question(Hook::Remote, request);
        self.webhooks.ask(&self.question, question, reply).await.unwrap_or_else(|_| Err(UNAVAILABLE.into()))
    }
}

/// The members of the answer are the reply; `error` makes it a failure.
fn reply(Reading { is_yes, mut members }: Reading) -> Result<ActionResult, webhook::Failure> {
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
    let mut reply = Reply::new();
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
        let question = question(Hook::Action, request);
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

fn question(hook: Hook, request: &Request) -> Vec<u8> {
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
        .finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[track_caller]
    fn reply_to(is_yes: bool, body: Value) -> Result<ActionResult, webhook::Failure> {
        let Value::Object(members) = body else { panic!("an object is needed") };
        reply(Reading { is_yes, members })
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
