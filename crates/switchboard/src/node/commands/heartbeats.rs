//! The command `heartbeat`, sent from time to time to whoever said that it answers it.

use std::time::Duration;

use crate::command::{ClientCommand, CommandOptions, HEARTBEAT, Outcome, Target};

use super::super::Node;

impl Node {
    /// Asks every session that answers heartbeats once in `commands.heartbeat_interval`, for as long as there is a node.
    pub(in crate::node) fn keep_hearts(&self) {
        let interval = self.0.commands.settings.heartbeat_interval;
        let Ok(command) = ClientCommand::new(HEARTBEAT) else { return };
        if interval.is_zero() {
            return;
        }
        let inner = std::sync::Arc::downgrade(&self.0);
        self.spawn(Box::pin(async move {
            // One connection at a time, so that the lock is held for a moment however many there are.
            let mut last = None;
            loop {
                let Some(node) = inner.upgrade().map(Node) else { return };
                let (next, count) = {
                    let state = node.0.commands.desk();
                    (state.engine.next_heartbeat(last), state.engine.heartbeats())
                };
                if next.is_none() && last.take().is_some() {
                    // Every one was asked: begin again.
                    continue;
                }
                let mut pause = interval.min(Self::LOOK);
                if let Some(connection) = next {
                    // Spread over the interval, so that replies do not come all at once.
                    pause = interval / u32::try_from(count.max(1)).unwrap_or(u32::MAX);
                    let (beating, command) = (node.clone(), command.clone());
                    node.spawn(Box::pin(async move { beating.beat(connection, command).await }));
                    last = next;
                }
                drop(node);
                tokio::time::sleep(pause).await;
            }
        }));
    }

    /// Longest pause before the node checks again whether a connection is to be asked.
    const LOOK: Duration = Duration::from_secs(1);

    async fn beat(&self, connection: crate::proto::id::ConnId, command: ClientCommand) {
        let options =
            CommandOptions { fail_fast: true, sender: Some(HEARTBEAT.to_owned()), ..CommandOptions::default() };
        let Ok(sent) = self.send_client_command(Target::Connection(connection), command, options).await else { return };
        let ping_ms = match sent.report().outcome {
            Outcome::Replied => Some(sent.report().latency_ms),
            Outcome::Timeout | Outcome::Overflow => None,
            // It is not there any more; there is nobody to be unresponsive.
            Outcome::Cancelled | Outcome::Disconnected | Outcome::NoRecipient | Outcome::Shutdown => return,
        };
        let now = self.command_now();
        self.with_engine(|engine, out| engine.note_heartbeat(connection, ping_ms, now, out));
    }
}
