//! The actions of a server and how one of them is run.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::sync::Arc;

use serde_json::{Map, Value};
use switchboard_proto::call::{ActionCall, ActionError, ConnectionType, Missing};
use switchboard_proto::json::RawJson;
use switchboard_proto::params::{ParamLimits, Params};
use thiserror::Error;

use super::{Action, ActionResult, ActionSpec, DynAction, DynMiddleware, Failure, Middleware, Request};
use crate::node::connection::ConnectionHandle;

/// The actions of a server, and what runs around them. Fixed when the server starts.
#[derive(Default)]
pub struct Actions {
    /// By name, then by version, the highest last.
    actions: HashMap<String, BTreeMap<u32, Registered>>,
    /// Sorted by priority.
    middleware: Vec<(i32, Arc<dyn DynMiddleware>)>,
}

#[derive(Clone)]
struct Registered {
    spec: Arc<ActionSpec>,
    action: Arc<dyn DynAction>,
}

/// There is an action of that name and version already.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("action {name} version {version} is registered twice")]
pub struct ActionExists {
    name: String,
    version: u32,
}

impl fmt::Debug for Actions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.actions.keys()).finish()
    }
}

impl Actions {
    /// Adds an action.
    ///
    /// # Errors
    ///
    /// When there is one of its name and version.
    pub fn register(&mut self, action: impl Action) -> Result<(), ActionExists> {
        let spec = Arc::new(action.spec());
        let versions = self.actions.entry(spec.name.clone()).or_default();
        if versions.contains_key(&spec.version) {
            return Err(ActionExists { name: spec.name.clone(), version: spec.version });
        }
        versions.insert(spec.version, Registered { spec, action: Arc::new(action) });
        Ok(())
    }

    /// Adds middleware. Lower priorities come first; equal ones in the order of adding.
    pub fn add_middleware(&mut self, priority: i32, middleware: impl Middleware) {
        let at = self.middleware.partition_point(|(other, _)| *other <= priority);
        self.middleware.insert(at, (priority, Arc::new(middleware)));
    }

    /// Every name that some action declares as an input.
    pub fn declared_inputs(&self) -> HashSet<String> {
        let specs = self.actions.values().flat_map(BTreeMap::values);
        specs.flat_map(|registered| registered.spec.inputs.iter().map(|input| input.name.clone())).collect()
    }

    /// The description of every action in ActionHero's shape: name to version to description.
    pub fn documentation(&self) -> RawJson {
        let mut names: Vec<_> = self.actions.iter().collect();
        names.sort_unstable_by_key(|(name, _)| name.as_str());
        let names = names.into_iter().map(|(name, versions)| {
            let versions =
                versions.iter().map(|(version, registered)| (version.to_string(), registered.spec.documentation()));
            (name.clone(), Value::Object(versions.collect()))
        });
        RawJson::from_value(&Value::Object(names.collect::<Map<_, _>>()))
    }

    /// The action that a call asks for.
    fn find(&self, params: &Params) -> Option<&Registered> {
        let versions = self.actions.get(params.text("action")?)?;
        match params.get("apiVersion") {
            None | Some(Value::Null) => versions.values().next_back(),
            Some(Value::String(text)) if text.is_empty() => versions.values().next_back(),
            Some(Value::String(text)) => versions.get(&text.parse().ok()?),
            Some(version) => versions.get(&u32::try_from(version.as_u64()?).ok()?),
        }
    }

    /// Finds the action and checks that it may run: everything that needs no waiting.
    pub(crate) fn prepare(&self, call: ActionCall, kind: ConnectionType) -> Result<Prepared, ActionError> {
        let Registered { spec, action } = self.find(&call.params).ok_or(ActionError::Unknown)?.clone();
        if spec.connection_types.as_ref().is_some_and(|types| !types.contains(&kind)) {
            return Err(ActionError::WrongType(kind));
        }
        let mut params = call.params;
        for input in &spec.inputs {
            check_input(input, &mut params, call.missing)?;
        }
        Ok(Prepared { spec, action, params, middleware: self.middleware.clone() })
    }
}

/// Applies default, formatter and validator of one input, then asks whether it is missing.
fn check_input(input: &Input, params: &mut Arc<Params>, missing: Missing) -> Result<(), ActionError> {
    // Limits guard what clients make stick; this copy lives as long as the request.
    const NO_LIMITS: ParamLimits = ParamLimits { count: usize::MAX, bytes: usize::MAX };
    if !input.is_plain() {
        let given = params.get(&input.name).cloned();
        let value = given.or_else(|| input.default.clone());
        if let Some(value) = value {
            let value = match &input.formatter {
                Some(formatter) => formatter(value),
                None => value,
            };
            if params.get(&input.name) != Some(&value) {
                // Without limits it cannot fail.
                let _ = Arc::make_mut(params).set(&input.name, value, NO_LIMITS);
            }
        }
    }
    let value = params.get(&input.name);
    if let (Some(validator), Some(value)) = (&input.validator, value) {
        validator(value).map_err(ActionError::Invalid)?;
    }
    if input.is_required && missing.includes(value) {
        return Err(ActionError::Missing(input.name.clone()));
    }
    Ok(())
}

use super::Input;

/// An action that may run.
pub(crate) struct Prepared {
    spec: Arc<ActionSpec>,
    action: Arc<dyn DynAction>,
    params: Arc<Params>,
    middleware: Vec<(i32, Arc<dyn DynMiddleware>)>,
}

impl Prepared {
    /// Whether it must not run on a worker.
    pub(crate) fn is_long_running(&self) -> bool {
        self.spec.is_long_running
    }

    /// Runs middleware, the action, and middleware in reverse.
    pub(crate) async fn run(self, connection: ConnectionHandle) -> ActionResult {
        let Self { spec, action, params, middleware } = self;
        let mut request = Request { spec, params, connection };
        if middleware.is_empty() {
            return action.run(&mut request).await;
        }
        let mut entered = 0;
        let mut result = Ok(());
        for (_, middleware) in &middleware {
            entered += 1;
            result = middleware.before(&mut request).await;
            if result.is_err() {
                break;
            }
        }
        let mut result = match result {
            Ok(()) => action.run(&mut request).await,
            Err(failure) => Err(failure),
        };
        for (_, middleware) in middleware[..entered].iter().rev() {
            middleware.after(&mut request, &mut result).await;
        }
        result
    }
}

impl From<Failure> for ActionError {
    fn from(failure: Failure) -> Self {
        Self::Failed { text: failure.text, reply: failure.reply }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    struct Sum(u32);

    impl Action for Sum {
        fn spec(&self) -> ActionSpec {
            ActionSpec::new("sum")
                .version(self.0)
                .input(Input::required("a").formatter(|value| match value.as_str().map(str::parse::<i64>) {
                    Some(Ok(number)) => json!(number),
                    _ => value,
                }))
                .input(
                    Input::optional("b").default(5).validator(|value| {
                        if value.is_number() { Ok(()) } else { Err("b must be a number".to_owned()) }
                    }),
                )
        }

        async fn run(&self, _: &mut Request) -> ActionResult {
            Err("not run here".into())
        }
    }

    fn actions() -> Actions {
        let mut actions = Actions::default();
        actions.register(Sum(1)).unwrap();
        actions.register(Sum(3)).unwrap();
        actions
    }

    fn prepare(params: Value) -> Result<Prepared, ActionError> {
        let Value::Object(members) = params else { panic!("an object is needed") };
        let params = Arc::new(Params::from_members(members, ParamLimits::default()).unwrap());
        actions().prepare(ActionCall { params, missing: Missing::Empty }, ConnectionType::Socket)
    }

    #[track_caller]
    fn refused(params: Value) -> String {
        prepare(params).err().map(|error| error.to_string()).unwrap()
    }

    #[test]
    fn the_highest_version_answers_unless_one_is_named() {
        let version = |params| prepare(params).unwrap().spec.version;
        assert_eq!(version(json!({"action": "sum", "a": 1})), 3);
        assert_eq!(version(json!({"action": "sum", "a": 1, "apiVersion": 1})), 1);
        assert_eq!(version(json!({"action": "sum", "a": 1, "apiVersion": "1"})), 1);
        for api_version in [json!(2), json!("x"), json!(-1), json!(1.5), json!({})] {
            let told = refused(json!({"action": "sum", "a": 1, "apiVersion": api_version}));
            assert_eq!(told, "unknown action or invalid apiVersion");
        }
        assert_eq!(refused(json!({"action": "Sum"})), "unknown action or invalid apiVersion");
        assert_eq!(refused(json!({"action": 5})), "unknown action or invalid apiVersion");
        assert_eq!(refused(json!({})), "unknown action or invalid apiVersion");
    }

    #[test]
    fn inputs_get_defaults_and_formats_and_are_refused_in_the_order_of_declaration() {
        let prepared = prepare(json!({"action": "sum", "a": "7"})).unwrap();
        assert_eq!(prepared.params.get("a"), Some(&json!(7)));
        assert_eq!(prepared.params.get("b"), Some(&json!(5)));
        assert_eq!(refused(json!({"action": "sum", "b": "x"})), "a is a required parameter for this action");
        assert_eq!(refused(json!({"action": "sum", "a": 1, "b": "x"})), "b must be a number");
    }

    #[test]
    fn an_action_is_registered_once_per_version() {
        assert_eq!(actions().register(Sum(3)).unwrap_err().to_string(), "action sum version 3 is registered twice");
    }

    #[test]
    fn documentation_has_the_shape_of_the_real_server() {
        let documentation: Value = serde_json::from_str(actions().documentation().as_str()).unwrap();
        assert_eq!(
            documentation["sum"]["3"],
            json!({
                "name": "sum", "version": 3, "description": "",
                "inputs": {"required": ["a"], "optional": ["b"]}, "outputExample": {},
            })
        );
    }
}
