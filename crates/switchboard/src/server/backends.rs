//! What a server keeps, and where: the backend that the configuration names.

use std::sync::Arc;

use crate::backend::file::FileSessions;
use crate::backend::memory::{MemoryBroker, MemoryDirectory};
use crate::backend::redis::cluster::{Redis, RoomListener};
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
        let broker = Box::new(MemoryBroker::new(hearing, log_limits(config)));
        let directory = Box::new(MemoryDirectory::default());
        let cluster = match redis {
            None => None,
            Some(redis) => {
                let (cluster, events) = redis.begin(Arc::new(Nobody)).await.map_err(StartError::Redis)?;
                Some(ClusterParts { cluster, events })
            }
        };
        Ok(Backends { broker, directory, sessions, cluster })
    }
}

#[derive(Debug)]
struct Nobody;

impl RoomListener for Nobody {
    fn said(&self, _: &str, _: Vec<u8>) -> crate::op::BoxFuture<'_, ()> {
        Box::pin(std::future::ready(()))
    }

    fn hears_again(&self) -> crate::op::BoxFuture<'_, ()> {
        Box::pin(std::future::ready(()))
    }
}
