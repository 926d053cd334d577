//! What the application does when somebody joins, leaves or speaks.

use std::fmt;
use std::future::Future;
use std::sync::{Arc, PoisonError, RwLock};

use switchboard_proto::document;
use switchboard_proto::event::{MessageExtra, Sender};
use switchboard_proto::id::RoomName;
use switchboard_proto::json::RawJson;

use crate::op::{BoxFuture, catch};

use super::connection::ConnectionHandle;
use super::{Node, User};

/// Somebody joined or leaves a room.
#[derive(Clone, Debug)]
pub struct MembershipChange {
    pub(super) connection: ConnectionHandle,
    pub(super) room: RoomName,
}

impl MembershipChange {
    /// Who.
    pub fn connection(&self) -> &ConnectionHandle {
        &self.connection
    }

    /// Where.
    pub fn room(&self) -> &RoomName {
        &self.room
    }

    /// The node, for whatever a callback wants to start.
    pub fn node(&self) -> &Node {
        self.connection.node()
    }

    /// Tells the room's other members something on behalf of the connection. It is on its way when this returns, or, if
    /// a worker has no space for it now, later; a callback has nobody to wait for it.
    pub fn broadcast(&self, message: impl Into<RawJson>) {
        self.connection.node.broadcast_later(&self.connection, self.room.clone(), message.into());
    }
}

/// A message about to be said.
#[derive(Clone, Debug)]
pub struct Saying {
    pub(super) room: RoomName,
    pub(super) sender: Sender,
    pub(super) connection: Option<ConnectionHandle>,
    pub(super) body: RawJson,
    pub(super) user: Option<User>,
    pub(super) extra: Option<Box<MessageExtra>>,
}

impl Saying {
    /// Where.
    pub fn room(&self) -> &RoomName {
        &self.room
    }

    /// By whom, as members will see it.
    pub fn sender(&self) -> &Sender {
        &self.sender
    }

    /// The connection that says it, when it is one of this node.
    pub fn connection(&self) -> Option<&ConnectionHandle> {
        self.connection.as_ref()
    }

    /// The user who says it, if the connection has one.
    pub fn user(&self) -> Option<&User> {
        self.user.as_ref()
    }

    /// What.
    pub fn body(&self) -> &RawJson {
        &self.body
    }

    /// The message as the sender's protocol has it. Recipients of that protocol get every member: over DDP the document
    /// with attachments and all other members that a client put beside the text.
    pub fn document(&self) -> Option<&RawJson> {
        self.extra.as_ref()?.attachment.as_ref()
    }

    /// The id that the sender chose, which recipients read too.
    pub fn message_id(&self) -> Option<&str> {
        self.extra.as_ref()?.id.as_deref()
    }

    /// Rewrites it for all recipients. Neither `null` nor `""`: those are ignored. Of the [document](Self::document) only
    /// the place in a thread stays, since other members could repeat what was rewritten.
    pub fn set_body(&mut self, body: impl Into<RawJson>) {
        let body = body.into();
        if body.is_blank() {
            return;
        }
        self.body = body;
        if let Some(attachment) = self.extra.as_mut().and_then(|extra| extra.attachment.as_mut()) {
            *attachment = document::after_rewrite(attachment);
        }
    }
}

/// Looks at every message before it gets its number; may rewrite or refuse it.
///
/// Runs once, on the sender's node, in the order of priorities. An error is what the sender reads; nobody else hears of
/// it. A panic refuses the message.
pub trait SayMiddleware: Send + Sync + 'static {
    /// Looks at one message.
    fn say(&self, saying: &mut Saying) -> impl Future<Output = Result<(), String>> + Send;
}

pub(super) trait DynSayMiddleware: Send + Sync {
    fn say<'a>(&'a self, saying: &'a mut Saying) -> BoxFuture<'a, Result<(), String>>;
}

impl<M: SayMiddleware> DynSayMiddleware for M {
    fn say<'a>(&'a self, saying: &'a mut Saying) -> BoxFuture<'a, Result<(), String>> {
        Box::pin(SayMiddleware::say(self, saying))
    }
}

type Callback = Arc<dyn Fn(&MembershipChange) + Send + Sync>;

/// Every callback and middleware, each list sorted by priority.
#[derive(Clone, Default)]
pub(super) struct HookLists {
    join: Vec<(i32, Callback)>,
    leave: Vec<(i32, Callback)>,
    pub(super) say: Vec<(i32, Arc<dyn DynSayMiddleware>)>,
}

/// The lists, read often and changed seldom.
#[derive(Default)]
pub(super) struct Hooks(RwLock<Arc<HookLists>>);

impl fmt::Debug for Hooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hooks")
    }
}

/// Which of two lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Join,
    Leave,
}

impl Hooks {
    pub(super) fn lists(&self) -> Arc<HookLists> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn change(&self, change: impl FnOnce(&mut HookLists)) {
        change(Arc::make_mut(&mut self.0.write().unwrap_or_else(PoisonError::into_inner)));
    }

    pub(super) fn add_callback(&self, which: Change, priority: i32, callback: Callback) {
        self.change(|lists| {
            insert(if which == Change::Join { &mut lists.join } else { &mut lists.leave }, priority, callback);
        });
    }

    pub(super) fn add_say(&self, priority: i32, middleware: Arc<dyn DynSayMiddleware>) {
        self.change(|lists| insert(&mut lists.say, priority, middleware));
    }

    /// Runs the callbacks, one after the other. One that panics does not keep the others from running.
    pub(super) fn run(&self, which: Change, change: impl FnOnce() -> MembershipChange) {
        let lists = self.lists();
        let callbacks = if which == Change::Join { &lists.join } else { &lists.leave };
        if callbacks.is_empty() {
            return;
        }
        let change = change();
        for (_, callback) in callbacks {
            if let Err(panic) = catch(|| callback(&change)) {
                tracing::error!(
                    connection = %change.connection.id(), room = %change.room.as_str().escape_debug(), panic = panic.0,
                    "a {} callback panicked", if which == Change::Join { "join" } else { "leave" }
                );
            }
        }
    }
}

/// Lower priorities first, equal ones in the order of adding.
fn insert<T>(list: &mut Vec<(i32, T)>, priority: i32, entry: T) {
    let at = list.partition_point(|(other, _)| *other <= priority);
    list.insert(at, (priority, entry));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lower_priorities_come_first_and_equal_ones_in_the_order_of_adding() {
        let mut list = Vec::new();
        for (priority, label) in [(1000, "p1000"), (100, "none"), (10, "p10"), (99, "p99"), (100, "again"), (2, "p2")] {
            insert(&mut list, priority, label);
        }
        let labels: Vec<_> = list.into_iter().map(|(_, label)| label).collect();
        assert_eq!(labels, ["p2", "p10", "p99", "none", "again", "p1000"]);
    }
}
