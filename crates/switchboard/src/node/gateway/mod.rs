//! The gateway: bots whose shards register, resume and are sent events.
//!
//! - [`applications`]: whose they are.
//! - [`events`]: what is published to them, and what is told about them.

pub mod applications;
pub mod events;

use std::time::Duration;

use switchboard_proto::call::{CallError, Outcome};
use switchboard_proto::shard::ShardCall;

use crate::backend::sessions::shards::StartLimits;
use crate::op::Op;
use crate::worker::calls::Caller;

use super::Node;
use applications::{Application, Applications};

/// What a node takes for the gateway.
#[derive(Clone, Debug)]
pub(crate) struct GatewayOptions {
    /// `gateway.applications`.
    pub(crate) applications: Vec<Application>,
    /// `servers.gateway.max_shards`.
    pub(crate) max_shards: u32,
    /// `servers.gateway.start_total` and `start_concurrency`.
    pub(crate) starts: StartLimits,
    /// `servers.gateway.duplicate_shard` is `reject`.
    pub(crate) yields: bool,
    /// `servers.gateway.publish_rate`: events of one application in a second; 0 for any number.
    pub(crate) publish_rate: u32,
    /// `servers.gateway.publish_wait`: how long a publication waits for a client that reads, but slowly.
    pub(crate) publish_wait: Duration,
    /// `servers.gateway.replay_max_events`.
    pub(crate) log_events: usize,
    /// `servers.gateway.interaction_wait`: how long an interaction waits for its shard's answer.
    pub(crate) interaction_wait: Duration,
    /// `servers.gateway.interactions_max`: how many may wait.
    pub(crate) interactions_max: usize,
}

/// The gateway of a node.
#[derive(Debug)]
pub(super) struct Gateway {
    pub(super) applications: Applications,
    pub(super) options: GatewayOptions,
}

impl Gateway {
    pub(super) fn new(mut options: GatewayOptions) -> Self {
        Self { applications: Applications::new(std::mem::take(&mut options.applications)), options }
    }
}

impl Node {
    /// What a shard asks.
    pub(super) fn start_shard_call(&self, _: Caller, _: ShardCall) -> Op<Outcome> {
        Op::Ready(Err(CallError::Unavailable))
    }
}
