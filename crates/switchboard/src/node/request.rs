//! Requests over HTTP: each is a connection for as long as it takes.

use std::io;
use std::sync::Arc;

use switchboard_proto::call::{ActionCall, Answer, CallError, Content, Outcome};
use switchboard_proto::close::CloseReason;
use switchboard_proto::face::ConnFacts;
use switchboard_proto::params::{Params, SecretParams};

use crate::action::HttpRequest;
use crate::hub::mail::Admission;
use crate::op::{BoxFuture, Op};

use super::Node;
use super::connection::ConnectionHandle;
use super::registry::Place;

/// A request over HTTP as a connection of its own: it has an id, facts and server-only state, and it counts among the
/// connections of the node until this is dropped. It is in no room and cannot be told anything but its answer.
#[derive(Debug)]
pub(crate) struct WebRequest {
    node: Node,
    facts: ConnFacts,
}

impl Node {
    /// Opens a file of the public folder, if there is one of that name.
    pub(crate) async fn open_public(&self, name: String) -> Option<Arc<dyn Content>> {
        match self.open_file(name).await {
            Ok(Answer::File(content)) => Some(content),
            _ => None,
        }
    }

    /// Returns `true` if the server has no public folder, so that a page of the program can take its place.
    pub(crate) async fn has_no_public_folder(&self) -> bool {
        let files = self.0.files.clone();
        self.0.runtime.spawn_blocking(move || files.is_absent()).await.unwrap_or(false)
    }

    /// Reads the next piece of a file, from `offset` on and not beyond `end`.
    pub(crate) fn read_public(
        &self,
        content: Arc<dyn Content>,
        offset: u64,
        end: u64,
    ) -> BoxFuture<'static, io::Result<Vec<u8>>> {
        let left = usize::try_from(end.saturating_sub(offset)).unwrap_or(usize::MAX);
        let length = left.min(self.0.settings.chunk_bytes);
        let reading = self.runtime().spawn_blocking(move || {
            let mut piece = vec![0; length];
            let read = content.read_at(offset, &mut piece)?;
            piece.truncate(read);
            Ok(piece)
        });
        Box::pin(async move { reading.await.unwrap_or_else(|error| Err(io::Error::other(error))) })
    }

    /// Whether a request may be made, or a WebSocket opened. Who may not is counted.
    pub(crate) fn let_in(&self, facts: &ConnFacts) -> Op<Result<Admission, CallError>> {
        match self.admit(facts) {
            Op::Ready(Ok(admission)) => Op::Ready(Ok(admission)),
            asking => {
                let (node, facts) = (self.clone(), facts.clone());
                asking.map(move |admission| {
                    admission.inspect_err(|_| node.count_turned_away(&facts, CloseReason::Refused))
                })
            }
        }
    }

    /// Returns whether the action that these params name reads the body of an HTTP request itself.
    pub(crate) fn takes_raw_body(&self, params: &Params) -> bool {
        self.0.actions.takes_raw_body(params)
    }

    /// Returns whether the action that these params name is refused over HTTP with GET and HEAD.
    pub(crate) fn requires_post(&self, params: &Params) -> bool {
        self.0.actions.requires_post(params)
    }

    /// Params that answers show without their values.
    pub(crate) fn secret_params(&self) -> &SecretParams {
        self.0.actions.secret_params()
    }

    /// Takes a request in that was admitted.
    pub(crate) fn open_request(&self, facts: ConnFacts, admission: Admission) -> WebRequest {
        self.enter(&facts, Place::Request(Box::new(facts.clone())), admission);
        WebRequest { node: self.clone(), facts }
    }
}

impl WebRequest {
    /// Runs the action that the params name.
    pub(crate) fn run(&self, call: ActionCall, http: Arc<HttpRequest>) -> Op<Outcome> {
        let handle = ConnectionHandle { facts: self.facts.clone(), address: None, node: self.node.clone(), far: None };
        self.node.0.actions.run(call, handle, Some(http))
    }
}

impl Drop for WebRequest {
    fn drop(&mut self) {
        self.node.leave_for_good(&self.facts, CloseReason::ClientLeft);
    }
}
