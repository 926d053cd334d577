//! Who listens to replies: the seed's event `client-command-response-<id>`.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use switchboard_proto::command::CommandId;
use switchboard_proto::json::RawJson;

use crate::op::catch;

type Listener = Box<dyn FnOnce(&RawJson) + Send>;

/// Listeners by command. Bounded: `commands.listeners_max`.
pub(super) struct Responses {
    most: usize,
    listeners: Mutex<HashMap<CommandId, Vec<Listener>>>,
}

impl Responses {
    pub(super) fn new(most: usize) -> Self {
        Self { most, listeners: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<CommandId, Vec<Listener>>> {
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a listener. `false`: there are too many.
    pub(super) fn add(&self, id: CommandId, listener: Listener) -> bool {
        let mut listeners = self.lock();
        if listeners.values().map(Vec::len).sum::<usize>() >= self.most {
            return false;
        }
        listeners.entry(id).or_default().push(listener);
        true
    }

    /// Tells those who listen to this command; nothing else is told to them.
    pub(super) fn tell(&self, id: CommandId, reply: &RawJson) {
        let listeners = self.lock().remove(&id).unwrap_or_default();
        for listener in listeners {
            if let Err(panic) = catch(|| listener(reply)) {
                tracing::error!(panic = panic.0, "a listener to the reply to a client command panicked");
            }
        }
    }

    /// Drops those who listen to a command that has ended.
    pub(super) fn forget(&self, id: CommandId) {
        self.lock().remove(&id);
    }
}
