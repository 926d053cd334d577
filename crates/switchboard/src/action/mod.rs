//! Actions: requests that the application answers.
//!
//! An [`Action`] says what it is called and what it takes ([`ActionSpec`]), and runs. [`Middleware`] runs before and
//! after every action. What comes with every server is in [`builtin`], and [`cache`] is what `cacheTest` shows.

pub mod builtin;
pub mod cache;
pub(crate) mod http;
mod registry;
pub(crate) mod remote;
mod spec;

use std::future::Future;
use std::sync::Arc;

use serde_json::Value;
use switchboard_proto::call::{ActionError, Answer, CallError, Outcome};
pub use switchboard_proto::call::{ConnectionType, Reply};
use switchboard_proto::params::Params;

pub use http::HttpRequest;
pub use registry::{ActionExists, Actions};
pub use spec::{ActionSpec, Input};

use crate::node::connection::ConnectionHandle;
use crate::node::{Node, StateError};
use crate::op::{BoxFuture, Op, Panic};

use cache::CacheFull;

/// A request that the application answers.
///
/// ```
/// use switchboard::action::{Action, ActionResult, ActionSpec, Input, Reply, Request};
///
/// struct Greet;
///
/// impl Action for Greet {
///     fn spec(&self) -> ActionSpec {
///         ActionSpec::new("greet").describe("Says hello").input(Input::required("name"))
///     }
///
///     async fn run(&self, request: &mut Request) -> ActionResult {
///         Ok(Reply::new().with("greeting", format!("Hello, {}!", request.text("name")?)))
///     }
/// }
/// ```
///
/// Runs of one action overlap, for one connection too (`actions.pending_max`). A run that is ready at once answers in the
/// same turn of its worker; one that waits moves to the runtime by itself. Whatever computes for long must say so with
/// [`ActionSpec::long_running`], because a worker has nobody to take over for it. A panic fails that request only.
pub trait Action: Send + Sync + 'static {
    /// What it is called and what it takes. Asked for once, when it is registered.
    fn spec(&self) -> ActionSpec;

    /// Answers one request. Its inputs have been checked against the spec.
    fn run(&self, request: &mut Request) -> impl Future<Output = ActionResult> + Send;
}

/// What an action brings.
pub type ActionResult = Result<Reply, Failure>;

/// An action's own "no": `{"error": …}` on every wire.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Failure {
    /// The reason, for the client.
    pub text: String,
    /// Members that the answer has beside `error`.
    pub reply: Reply,
}

impl Failure {
    /// A failure with this reason.
    pub fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), reply: Reply::new() }
    }
}

/// Makes a failure of whatever has a text for the client, for `?`.
macro_rules! failure_from {
    ($($from:ty),+) => {$(
        impl From<$from> for Failure {
            fn from(reason: $from) -> Self {
                Self::new(reason.to_string())
            }
        }
    )+};
}

failure_from!(&str, String, CacheFull, CallError, StateError);

/// Runs before and after every action, in the order of priorities.
///
/// Both have defaults that do nothing. `before` of a lower priority number runs earlier, and its `after` later.
pub trait Middleware: Send + Sync + 'static {
    /// Runs before the action, when its inputs have been checked. An error is the answer; the action does not run.
    fn before(&self, request: &mut Request) -> impl Future<Output = Result<(), Failure>> + Send {
        let _ = request;
        async { Ok(()) }
    }

    /// Runs behind the action and may change its result.
    fn after(&self, request: &mut Request, result: &mut ActionResult) -> impl Future<Output = ()> + Send {
        let _ = (request, result);
        async {}
    }
}

/// One request to an action.
#[derive(Debug)]
pub struct Request {
    pub(crate) spec: Arc<ActionSpec>,
    pub(crate) params: Arc<Params>,
    pub(crate) connection: ConnectionHandle,
    pub(crate) http: Option<Arc<HttpRequest>>,
}

impl Request {
    /// What is being run.
    pub fn action(&self) -> &ActionSpec {
        &self.spec
    }

    /// All params, as they were when the request arrived, with defaults and formatters applied.
    pub fn params(&self) -> &Params {
        &self.params
    }

    /// A param.
    pub fn param(&self, name: &str) -> Option<&Value> {
        self.params.get(name)
    }

    /// A param that must be text.
    ///
    /// # Errors
    ///
    /// A [`Failure`] that names the param, ready for `?`.
    pub fn text(&self, name: &str) -> Result<&str, Failure> {
        self.params.text(name).ok_or_else(|| Failure::from(format!("{name} must be text")))
    }

    /// The connection that asks: its facts, and its server-only state.
    pub fn connection(&self) -> &ConnectionHandle {
        &self.connection
    }

    /// The HTTP request: method, headers and raw body. `None` when the action was asked for on another protocol.
    pub fn http(&self) -> Option<&HttpRequest> {
        self.http.as_deref()
    }

    /// The node: rooms, members, other connections, the cache.
    pub fn node(&self) -> &Node {
        self.connection.node()
    }
}

/// [`Action`] behind a pointer.
pub(crate) trait DynAction: Send + Sync {
    /// Runs it alone.
    fn start(self: Arc<Self>, request: Request) -> Op<Outcome>;
    /// Runs it between middleware.
    fn run<'a>(&'a self, request: &'a mut Request) -> BoxFuture<'a, ActionResult>;
}

impl<A: Action> DynAction for A {
    fn start(self: Arc<Self>, mut request: Request) -> Op<Outcome> {
        Op::start(async move { outcome(Action::run(&*self, &mut request).await) }, crashed)
    }

    fn run<'a>(&'a self, request: &'a mut Request) -> BoxFuture<'a, ActionResult> {
        Box::pin(Action::run(self, request))
    }
}

fn outcome(result: ActionResult) -> Outcome {
    match result {
        Ok(reply) => Ok(Answer::Action(reply)),
        Err(Failure { text, reply }) => Err(CallError::Action(ActionError::Failed { text, reply })),
    }
}

/// What a request becomes when its action, or what runs around it, panics.
pub(crate) fn crashed(panic: Panic) -> Outcome {
    tracing::error!(panic = panic.0, "an action panicked");
    Err(CallError::Action(ActionError::Crashed))
}

/// [`Middleware`] behind a pointer.
pub(crate) trait DynMiddleware: Send + Sync {
    fn before<'a>(&'a self, request: &'a mut Request) -> BoxFuture<'a, Result<(), Failure>>;
    fn after<'a>(&'a self, request: &'a mut Request, result: &'a mut ActionResult) -> BoxFuture<'a, ()>;
}

impl<M: Middleware> DynMiddleware for M {
    fn before<'a>(&'a self, request: &'a mut Request) -> BoxFuture<'a, Result<(), Failure>> {
        Box::pin(Middleware::before(self, request))
    }

    fn after<'a>(&'a self, request: &'a mut Request, result: &'a mut ActionResult) -> BoxFuture<'a, ()> {
        Box::pin(Middleware::after(self, request, result))
    }
}
