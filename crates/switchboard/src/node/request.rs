//! Requests over HTTP: each is a connection for as long as it takes.

use switchboard_proto::call::{ActionCall, Outcome};
use switchboard_proto::close::CloseReason;
use switchboard_proto::face::ConnFacts;

use crate::hub::mail::Admission;
use crate::op::Op;

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
    /// Takes a request in that was admitted.
    pub(crate) fn open_request(&self, facts: ConnFacts, admission: Admission) -> WebRequest {
        self.enter(&facts, Place::Request(Box::new(facts.clone())), admission);
        WebRequest { node: self.clone(), facts }
    }
}

impl WebRequest {
    /// Runs the action that the params name.
    pub(crate) fn run(&self, call: ActionCall) -> Op<Outcome> {
        let handle = ConnectionHandle { facts: self.facts.clone(), address: None, node: self.node.clone() };
        self.node.0.actions.run(call, handle)
    }

    /// What was fixed when it came.
    pub(crate) fn facts(&self) -> &ConnFacts {
        &self.facts
    }
}

impl Drop for WebRequest {
    fn drop(&mut self) {
        self.node.leave_for_good(&self.facts, CloseReason::ClientLeft);
    }
}
