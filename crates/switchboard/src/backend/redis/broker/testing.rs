//! Nodes of tests that hear rooms over a real Redis.

use std::sync::Arc;

use tokio::sync::mpsc;

use crate::backend::cluster::{Cluster, ClusterEvent};
use crate::config::{Config, RedisServers};
use crate::hub::ids::Ids;
use crate::hub::mailbox::Mailbox;

use super::super::cluster::Redis;
use super::super::testing::runtime;
use super::{BrokerSettings, RedisBroker};

/// A node that takes part in a cluster, as far as rooms are concerned.
pub(crate) struct RoomNode {
    pub(crate) broker: RedisBroker,
    pub(crate) cluster: Arc<dyn Cluster>,
    pub(crate) events: mpsc::Receiver<ClusterEvent>,
}

impl RoomNode {
    /// Joins the cluster that is kept under this prefix, with these workers.
    pub(crate) fn join(config: &Config, settings: BrokerSettings, workers: Vec<Mailbox>) -> Self {
        runtime().block_on(async {
            let redis = Redis::open(config, Ids::default(), 1).await.unwrap();
            let broker = RedisBroker::new(&redis, workers, settings);
            let (cluster, events) = redis.begin(Arc::new(broker.clone())).await.unwrap();
            Self { broker, cluster, events }
        })
    }
}

/// The configuration of a node on this server.
pub(crate) fn config(url: &str, prefix: &str, name: usize) -> Config {
    let mut config = Config::default();
    config.node.name = format!("node-{name}");
    config.backend.redis.url = RedisServers::parse(url).unwrap();
    config.backend.redis.prefix = prefix.to_owned();
    config
}
