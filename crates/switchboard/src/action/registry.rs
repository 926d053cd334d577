//! The actions of a server and how one of them is run.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::sync::Arc;

use serde_json::{Map, Value};
use switchboard_proto::call::{ActionCall, ActionError, CallError, Missing, Outcome};
use switchboard_proto::json::RawJson;
use switchboard_proto::params::{ParamLimits, Params, SecretParams};
use thiserror::Error;

use super::{Action, ActionSpec, DynAction, DynMiddleware, HttpRequest, Input, Middleware, Request, crashed, outcome};
use tokio::sync::Semaphore;

use crate::node::connection::ConnectionHandle;
use crate::op::{OnThread, Op, Panic, catch};

/// The actions of a server, and what runs around them. Fixed when the server starts.
#[derive(Default)]
pub struct Actions {
    /// Sorted by name, for a search that is shorter than a hash; then by version, the highest last.
    actions: Vec<(String, BTreeMap<u32, Registered>)>,
    middleware: Arc<MiddlewareList>,
    secret_params: SecretParams,
    /// Permits of long-running actions; `None` where there is no limit.
    long_running: Option<Arc<Semaphore>>,
}

/// Sorted by priority.
type MiddlewareList = Vec<(i32, Arc<dyn DynMiddleware>)>;

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
        f.debug_set().entries(self.actions.iter().map(|(name, _)| name)).finish()
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
        let at = match self.position(&spec.name) {
            Ok(at) => at,
            Err(at) => {
                self.actions.insert(at, (spec.name.clone(), BTreeMap::new()));
                at
            }
        };
        let versions = &mut self.actions[at].1;
        if versions.contains_key(&spec.version) {
            return Err(ActionExists { name: spec.name.clone(), version: spec.version });
        }
        versions.insert(spec.version, Registered { spec, action: Arc::new(action) });
        Ok(())
    }

    fn position(&self, name: &str) -> Result<usize, usize> {
        self.actions.binary_search_by(|(other, _)| other.as_str().cmp(name))
    }

    /// Limits how many long-running actions run or wait for a thread; 0 for no limit. To be called before any runs.
    pub(crate) fn limit_long_running(&mut self, most: usize) {
        self.long_running = (most > 0).then(|| Arc::new(Semaphore::new(most.min(Semaphore::MAX_PERMITS))));
    }

    /// Sets which params are secrets: `configured`, and the inputs that actions declare secret. To be called when every
    /// action is registered, and before any runs.
    pub(crate) fn set_secret_params(&mut self, configured: &[String]) {
        let inputs = self.specs().flat_map(|spec| &spec.inputs).filter(|input| input.is_secret);
        let names = inputs.map(|input| &input.name).chain(configured);
        self.secret_params = SecretParams::new(names);
    }

    /// Params that neither stick nor are shown.
    pub(crate) fn secret_params(&self) -> &SecretParams {
        &self.secret_params
    }

    fn specs(&self) -> impl Iterator<Item = &ActionSpec> {
        self.actions.iter().flat_map(|(_, versions)| versions.values()).map(|registered| &*registered.spec)
    }

    /// Adds middleware. Lower priorities come first; equal ones in the order of adding.
    pub fn add_middleware(&mut self, priority: i32, middleware: impl Middleware) {
        let list = Arc::make_mut(&mut self.middleware);
        let at = list.partition_point(|(other, _)| *other <= priority);
        list.insert(at, (priority, Arc::new(middleware)));
    }

    /// Every name that some action declares as an input.
    pub fn declared_inputs(&self) -> HashSet<String> {
        self.specs().flat_map(|spec| &spec.inputs).map(|input| input.name.clone()).collect()
    }

    /// The description of every action in ActionHero's shape: name to version to description.
    pub fn documentation(&self) -> RawJson {
        let names = self.actions.iter().map(|(name, versions)| {
            let versions =
                versions.iter().map(|(version, registered)| (version.to_string(), registered.spec.documentation()));
            (name.clone(), Value::Object(versions.collect()))
        });
        RawJson::from_value(&Value::Object(names.collect::<Map<_, _>>()))
    }

    /// The action that a call asks for.
    fn find(&self, params: &Params) -> Option<&Registered> {
        let versions = &self.actions[self.position(params.text("action")?).ok()?].1;
        let highest = || versions.last_key_value().map(|(_, registered)| registered);
        match params.get("apiVersion") {
            None | Some(Value::Null) => highest(),
            Some(Value::String(text)) if text.is_empty() => highest(),
            Some(Value::String(text)) => versions.get(&text.parse().ok()?),
            Some(version) => versions.get(&u32::try_from(version.as_u64()?).ok()?),
        }
    }

    /// Returns whether the action that these params name reads the body of an HTTP request itself.
    pub(crate) fn takes_raw_body(&self, params: &Params) -> bool {
        self.find(params).is_some_and(|registered| registered.spec.takes_raw_body)
    }

    /// Returns whether the action that these params name is refused over HTTP with GET and HEAD.
    pub(crate) fn requires_post(&self, params: &Params) -> bool {
        self.find(params).is_some_and(|registered| registered.spec.requires_post)
    }

    /// Finds the action, checks that it may run, and runs it.
    pub(crate) fn run(
        &self,
        call: ActionCall,
        connection: ConnectionHandle,
        http: Option<Arc<HttpRequest>>,
    ) -> Op<Outcome> {
        let (action, request) = match self.prepare(call, connection, http) {
            Ok(prepared) => prepared,
            Err(refusal) => return Op::Ready(refusal),
        };
        if request.spec.is_long_running {
            let permit = match self.long_running.clone().map(Semaphore::try_acquire_owned) {
                Some(Err(_)) => return Op::Ready(Err(CallError::Action(ActionError::Busy))),
                Some(Ok(permit)) => Some(permit),
                None => None,
            };
            // On a thread where it holds up nobody.
            let middleware = Arc::clone(&self.middleware);
            let runtime = request.node().runtime().clone();
            let running = OnThread::new(&runtime.clone(), move || {
                // Free again when it has run, or when it is taken back before it began.
                let _permit = permit;
                runtime.block_on(run(action, request, middleware))
            });
            let joined = async move { running.await.unwrap_or_else(|error| crashed(Panic(error.to_string()))) };
            return Op::later(joined, crashed);
        }
        if self.middleware.is_empty() {
            return action.start(request);
        }
        Op::start(run(action, request, Arc::clone(&self.middleware)), crashed)
    }

    fn prepare(
        &self,
        call: ActionCall,
        connection: ConnectionHandle,
        http: Option<Arc<HttpRequest>>,
    ) -> Result<(Arc<dyn DynAction>, Request), Outcome> {
        let refused = |error| Err(CallError::Action(error));
        let Registered { spec, action } = self.find(&call.params).ok_or_else(|| refused(ActionError::Unknown))?.clone();
        let kind = connection.connection_type();
        if spec.connection_types.as_ref().is_some_and(|types| !types.contains(&kind)) {
            return Err(refused(ActionError::WrongType(kind)));
        }
        let mut params = call.params;
        if !spec.inputs.is_empty() {
            // Formatters and validators are user code too.
            let checked =
                catch(|| spec.inputs.iter().try_for_each(|input| check_input(input, &mut params, call.missing)));
            checked.map_err(crashed)?.map_err(refused)?;
        }
        Ok((action, Request { spec, params, connection, http }))
    }
}

/// Applies default and formatter of one input, asks whether it is missing, then its validator.
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
    if input.is_required && missing.includes(value) {
        return Err(ActionError::Missing(input.name.clone()));
    }
    match (&input.validator, value) {
        (Some(validator), Some(value)) => validator(value).map_err(ActionError::Invalid),
        _ => Ok(()),
    }
}

/// Runs middleware, the action, and middleware in reverse.
async fn run(action: Arc<dyn DynAction>, mut request: Request, middleware: Arc<MiddlewareList>) -> Outcome {
    let mut entered = 0;
    let mut allowed = Ok(());
    for (_, middleware) in middleware.iter() {
        entered += 1;
        allowed = middleware.before(&mut request).await;
        if allowed.is_err() {
            break;
        }
    }
    let mut result = match allowed {
        Ok(()) => action.run(&mut request).await,
        Err(failure) => Err(failure),
    };
    for (_, middleware) in middleware[..entered].iter().rev() {
        middleware.after(&mut request, &mut result).await;
    }
    outcome(result)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    struct Sum(u32);

    fn is_number(value: &Value) -> Result<(), String> {
        if value.is_number() { Ok(()) } else { Err("b must be a number".to_owned()) }
    }

    impl Action for Sum {
        fn spec(&self) -> ActionSpec {
            ActionSpec::new("sum")
                .version(self.0)
                .input(Input::required("a").validator(is_number).formatter(|value| {
                    match value.as_str().map(str::parse::<i64>) {
                        Some(Ok(number)) => json!(number),
                        _ => value,
                    }
                }))
                .input(Input::optional("b").default(5).validator(is_number))
        }

        async fn run(&self, _: &mut Request) -> crate::action::ActionResult {
            Err("not run here".into())
        }
    }

    fn actions() -> Actions {
        let mut actions = Actions::default();
        actions.register(Sum(1)).unwrap();
        actions.register(Sum(3)).unwrap();
        actions
    }

    /// The version that would run, and its params.
    fn prepare(params: Value) -> Result<(u32, Arc<Params>), ActionError> {
        let Value::Object(members) = params else { panic!("an object is needed") };
        let mut params = Arc::new(Params::from_members(members, ParamLimits::default()).unwrap());
        let actions = actions();
        let spec = &actions.find(&params).ok_or(ActionError::Unknown)?.spec;
        spec.inputs.iter().try_for_each(|input| check_input(input, &mut params, Missing::Empty))?;
        Ok((spec.version, params))
    }

    #[track_caller]
    fn refused(params: Value) -> String {
        prepare(params).err().map(|error| error.to_string()).unwrap()
    }

    #[test]
    fn the_highest_version_answers_unless_one_is_named() {
        let version = |params| prepare(params).unwrap().0;
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
        let (_, params) = prepare(json!({"action": "sum", "a": "7"})).unwrap();
        assert_eq!(params.get("a"), Some(&json!(7)));
        assert_eq!(params.get("b"), Some(&json!(5)));
        assert_eq!(refused(json!({"action": "sum", "b": "x"})), "a is a required parameter for this action");
        assert_eq!(refused(json!({"action": "sum", "a": 1, "b": "x"})), "b must be a number");
        assert_eq!(refused(json!({"action": "sum", "a": "", "b": "x"})), "a is a required parameter for this action");
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
