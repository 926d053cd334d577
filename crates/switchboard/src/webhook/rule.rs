//! A hook that decides: what is asked, and what no answer means.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};

use crate::config::{HttpUrl, OnFailure};

use super::answer::Decision;
use super::{Failure, Hook, Question, Reading, Webhooks};

/// A hook that decides.
#[derive(Clone, Debug)]
pub(crate) struct Rule {
    webhooks: Arc<Webhooks>,
    question: Question,
    on_failure: OnFailure,
}

/// It is not to happen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The backend says so, perhaps with a reason for the client.
    Said(Option<String>),
    /// There is no decision, and nothing happens without a yes.
    Unknown,
}

impl Rule {
    /// The rule of a hook, if it asks anybody.
    pub(crate) fn new(
        webhooks: &Arc<Webhooks>,
        hook: Hook,
        url: Option<&HttpUrl>,
        on_failure: OnFailure,
    ) -> Option<Self> {
        let question = webhooks.question(hook, url?, Duration::ZERO);
        Some(Self { webhooks: Arc::clone(webhooks), question, on_failure })
    }

    /// Asks. `read` takes from a yes what the hook may change; what it refuses counts as a failure of the question. Without an
    /// answer nothing is changed.
    pub(crate) async fn ask<T: Default>(
        &self,
        body: Vec<u8>,
        read: impl FnOnce(Map<String, Value>) -> Result<T, Failure>,
    ) -> Result<T, Refusal> {
        let read = |reading: Reading| match reading.decide()? {
            Decision::Allow(members) => read(members).map(Ok),
            Decision::Refuse(reason) => Ok(Err(Refusal::Said(reason))),
        };
        match (self.webhooks.ask(&self.question, body, read).await, self.on_failure) {
            (Ok(decision), _) => decision,
            // Else a client could get past the hook with content that the backend fails at.
            (Err(failure), OnFailure::Allow) if !failure.is_of_question() => Ok(T::default()),
            (Err(_), _) => Err(Refusal::Unknown),
        }
    }
}
