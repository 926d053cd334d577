//! What a server keeps, and where: the backend that the configuration names.

use std::sync::Arc;

use crate::backend::file::FileSessions;
use crate::backend::memory::{MemoryBroker, MemoryDirectory};
use crate::backend::redis::broker::{BrokerSettings, RedisBroker};
use crate::backend::redis::cluster::Redis;
use crate::backend::sessions::SessionStore;
use crate::backend::sessions::memory::MemorySessions;
use crate::backend::{Broker, Directory};
use crate::clock;
use crate::config::{BackendKind, Config};
use crate::hub::ids::Ids;
use crate::hub::mailbox::Mailbox;
use crate::node::ClusterParts;

use super::StartError;
use super::settings::{log_limits, off_is_max, shard_limits};

/// A backend before the node is made.
pub(super) struct Opened {
    pub(super) sessions: Arc<dyn SessionStore>,
    /// The connection to Redis, if several nodes share everything.
    redis: Option<Redis>,
}

/// All of a backend.
pub(super) struct Backends {
    pub(super) broker: Box<dyn Broker>,
    pub(super) directory: Box<dyn Directory>,
    pub(super) sessions: Arc<dyn SessionStore>,
    pub(super) cluster: Option<ClusterParts>,
}

impl Opened {
    /// Opens what the configuration names.
    pub(super) async fn open(config: &Config, ids: Ids) -> Result<Self, StartError> {
        let max_user_rooms = off_is_max(config.limits.max_rooms_per_connection);
        let memory = || Arc::new(MemorySessions::new(max_user_rooms, shard_limits(config)));
        Ok(match config.backend.kind {
            BackendKind::Memory => Self { sessions: memory(), redis: None },
            BackendKind::File => {
                let sessions = FileSessions::open(&config.node.data_dir, max_user_rooms, shard_limits(config))?;
                Self { sessions: Arc::new(sessions), redis: None }
            }
            BackendKind::Redis => {
                let redis = Redis::open(config, ids, clock::unix_ms()).await.map_err(StartError::Redis)?;
                let applications = config.gateway.applications.iter().map(|application| application.id.as_str().into());
                let sessions = redis.sessions(max_user_rooms, shard_limits(config), applications.collect());
                Self { sessions: Arc::new(sessions), redis: Some(redis) }
            }
        })
    }

    /// The rest of it, for those who hear what rooms say.
    pub(super) async fn begin(self, config: &Config, hearing: Vec<Mailbox>) -> Result<Backends, StartError> {
        let Self { sessions, redis } = self;
        let limits = log_limits(config);
        let directory: Box<dyn Directory> = match &redis {
            None => Box::new(MemoryDirectory::default()),
            Some(redis) => Box::new(redis.directory()),
        };
        let (broker, cluster): (Box<dyn Broker>, _) = match redis {
            None => (Box::new(MemoryBroker::new(hearing, limits)), None),
            Some(redis) => {
                let settings = BrokerSettings {
                    limits,
                    degraded: config.backend.degraded,
                    audit_interval: config.backend.redis.audit_interval,
                };
                let broker = RedisBroker::new(&redis, hearing, settings);
                let (cluster, events) = redis.begin(Arc::new(broker.clone())).await.map_err(StartError::Redis)?;
                (Box::new(broker), Some(ClusterParts { cluster, events }))
            }
        };
        Ok(Backends { broker, directory, sessions, cluster })
    }
}
