//! What an action is called and what it takes.

use std::fmt;
use std::sync::Arc;

use serde_json::{Map, Value, json};
use switchboard_proto::call::ConnectionType;

/// What an action is called and what it takes.
#[derive(Clone, Debug)]
pub struct ActionSpec {
    pub(crate) name: String,
    pub(crate) version: u32,
    pub(crate) description: String,
    pub(crate) inputs: Vec<Input>,
    pub(crate) output_example: Value,
    pub(crate) connection_types: Option<Vec<ConnectionType>>,
    pub(crate) is_long_running: bool,
    pub(crate) takes_raw_body: bool,
    pub(crate) requires_post: bool,
}

impl ActionSpec {
    /// An action of this name, version 1, without inputs, for every connection type. Names are case sensitive.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            version: 1,
            description: String::new(),
            inputs: Vec::new(),
            output_example: Value::Object(Map::new()),
            connection_types: None,
            is_long_running: false,
            takes_raw_body: false,
            requires_post: false,
        }
    }

    /// Sets the version. Several versions of one name may be registered; the highest answers unless `apiVersion` says
    /// otherwise.
    #[must_use]
    pub fn version(mut self, version: u32) -> Self {
        self.version = version;
        self
    }

    /// Describes it in one sentence, for `documentation`.
    #[must_use]
    pub fn describe(mut self, description: impl Into<String>) -> Self {
        self.description = description.into();
        self
    }

    /// Declares an input. Inputs are checked in the order of declaration; the first that fails is told.
    #[must_use]
    pub fn input(mut self, input: Input) -> Self {
        self.inputs.push(input);
        self
    }

    /// Shows what an answer looks like, for `documentation`.
    #[must_use]
    pub fn output_example(mut self, example: Value) -> Self {
        self.output_example = example;
        self
    }

    /// Offers it to these connection types only.
    #[must_use]
    pub fn only_for(mut self, types: impl Into<Vec<ConnectionType>>) -> Self {
        self.connection_types = Some(types.into());
        self
    }

    /// Says that a run computes for long (more than some 100 µs) before it first waits: it is never run on a worker.
    #[must_use]
    pub fn long_running(mut self) -> Self {
        self.is_long_running = true;
        self
    }

    /// Takes bodies of any media type at `/api/NAME`, as a signed webhook needs: the body is not read into params, and
    /// [`HttpRequest::body`](super::HttpRequest::body) has its bytes. `servers.web.max_body_bytes` limits them.
    #[must_use]
    pub fn raw_body(mut self) -> Self {
        self.takes_raw_body = true;
        self
    }

    /// Refuses it over HTTP with GET and HEAD, with status 405: a link on any page can have a browser send those. Meant for
    /// actions that change something.
    #[must_use]
    pub fn require_post(mut self) -> Self {
        self.requires_post = true;
        self
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its version.
    pub fn version_number(&self) -> u32 {
        self.version
    }

    /// Its description in ActionHero's shape.
    pub(crate) fn documentation(&self) -> Value {
        let names = |required| -> Vec<&str> {
            self.inputs.iter().filter(|input| input.is_required == required).map(|input| input.name.as_str()).collect()
        };
        json!({
            "name": self.name,
            "version": self.version,
            "description": self.description,
            "inputs": {"required": names(true), "optional": names(false)},
            "outputExample": self.output_example,
        })
    }
}

type Formatter = dyn Fn(Value) -> Value + Send + Sync;
type Validator = dyn Fn(&Value) -> Result<(), String> + Send + Sync;

/// A named value that an action takes.
///
/// For each request, in this order: an absent input gets its default; its formatter rewrites it; a required one that is
/// still missing is refused; its validator may refuse it.
#[derive(Clone)]
pub struct Input {
    pub(crate) name: String,
    pub(crate) is_required: bool,
    pub(crate) default: Option<Value>,
    pub(crate) formatter: Option<Arc<Formatter>>,
    pub(crate) validator: Option<Arc<Validator>>,
    pub(crate) is_secret: bool,
}

impl Input {
    fn new(name: impl Into<String>, is_required: bool) -> Self {
        Self { name: name.into(), is_required, default: None, formatter: None, validator: None, is_secret: false }
    }

    /// An input without which the action is refused.
    pub fn required(name: impl Into<String>) -> Self {
        Self::new(name, true)
    }

    /// An input that may be absent.
    pub fn optional(name: impl Into<String>) -> Self {
        Self::new(name, false)
    }

    /// Marks the value as a secret, such as a password: on no connection does a param of this name stick or show its value,
    /// whichever action it is given to. `actions.secret_params` lists names that are secrets without a declaration.
    #[must_use]
    pub fn secret(mut self) -> Self {
        self.is_secret = true;
        self
    }

    /// The value when it is absent.
    #[must_use]
    pub fn default(mut self, value: impl Into<Value>) -> Self {
        self.default = Some(value.into());
        self
    }

    /// Rewrites the value, when there is one.
    #[must_use]
    pub fn formatter(mut self, formatter: impl Fn(Value) -> Value + Send + Sync + 'static) -> Self {
        self.formatter = Some(Arc::new(formatter));
        self
    }

    /// Refuses the value, when there is one, with the text that the client reads.
    #[must_use]
    pub fn validator(mut self, validator: impl Fn(&Value) -> Result<(), String> + Send + Sync + 'static) -> Self {
        self.validator = Some(Arc::new(validator));
        self
    }

    /// Whether it leaves values as they are.
    pub(crate) fn is_plain(&self) -> bool {
        self.default.is_none() && self.formatter.is_none()
    }
}

impl fmt::Debug for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Input").field("name", &self.name).field("required", &self.is_required).finish_non_exhaustive()
    }
}
