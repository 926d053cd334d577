//! Handing commands to connections: in the order of acceptance, each at a time later than all before to the same user.

use std::sync::Arc;
use std::time::Duration;

use smallvec::SmallVec;
use switchboard_proto::command::CommandId;
use tokio::sync::Semaphore;

use crate::backend::BackendError;
use crate::command::{Clock, Home};
use crate::hub::mail::{Address, Ask, Mail};
use crate::hub::mailbox::Wake;
use crate::op::{BoxFuture, Op};

use super::super::Node;
use super::Desk;

/// Workers to be woken once the desk is free: the first thing that they do with a command is to come to it.
pub(super) type Wakes = SmallVec<[Wake; 2]>;

/// What the next command waits for.
enum Obstacle {
    /// A time for it: for which command, and of whose clock.
    Clock((CommandId, Clock), BoxFuture<'static, Result<u64, BackendError>>),
    /// The backend gives no time.
    Backend,
    /// Space with a worker.
    Space(usize),
    /// That one of those that are on their way to other nodes has left.
    Sending(Arc<Semaphore>),
}

impl Node {
    /// Hands over whatever may leave. What has to wait does so in a task of its own, and everything behind it lines up.
    pub(super) fn deliver_commands(&self, desk: &mut Desk) -> Wakes {
        let mut wakes = Wakes::new();
        if desk.courier_waits {
            return wakes;
        }
        if let Some(obstacle) = self.deliver_until_obstacle(desk, None, &mut wakes) {
            desk.courier_waits = true;
            let node = self.clone();
            self.spawn(Box::pin(async move { node.overcome(obstacle).await }));
        }
        wakes
    }

    /// Waits until nothing is in the way of what may leave.
    async fn overcome(&self, mut obstacle: Obstacle) {
        loop {
            let time = match obstacle {
                Obstacle::Clock(whose, time) => match time.await {
                    Ok(time) => Some((whose, time)),
                    Err(error) => {
                        tracing::warn!(%error, "client commands wait for the backend");
                        tokio::time::sleep(Self::BACKEND_PAUSE).await;
                        None
                    }
                },
                Obstacle::Backend => {
                    tokio::time::sleep(Self::BACKEND_PAUSE).await;
                    None
                }
                Obstacle::Space(worker) => {
                    self.wait_for_space(worker).await;
                    None
                }
                Obstacle::Sending(places) => {
                    // It is asked for again; nothing is closed.
                    drop(places.acquire().await);
                    None
                }
            };
            let mut wakes = Wakes::new();
            let mut desk = self.0.commands.desk();
            match self.deliver_until_obstacle(&mut desk, time, &mut wakes) {
                Some(next) => obstacle = next,
                None => {
                    desk.courier_waits = false;
                    return;
                }
            }
        }
    }

    /// Pause after the backend gave no time.
    const BACKEND_PAUSE: Duration = Duration::from_millis(100);

    /// Hands over until something is in the way. `drawn` is a time that was waited for: it is for the first that leaves, if that is still
    /// what it was drawn for. Nobody else draws times of this node meanwhile.
    fn deliver_until_obstacle(
        &self,
        desk: &mut Desk,
        mut drawn: Option<((CommandId, Clock), u64)>,
        wakes: &mut Wakes,
    ) -> Option<Obstacle> {
        let commands = &self.0.commands;
        let Desk { engine, elsewhere, .. } = desk;
        while let Some(next) = engine.next_outgoing() {
            let mut permits = SmallVec::<[_; 4]>::new();
            let mut place = None;
            for home in &next.to {
                match home {
                    Home::Here(Address { worker, .. }) => {
                        let worker = usize::from(*worker);
                        match self.0.workers[worker].try_reserve(Mail::ASK_BYTES) {
                            Some(permit) => permits.push(permit),
                            None => return Some(Obstacle::Space(worker)),
                        }
                    }
                    Home::Elsewhere(_) if place.is_some() => {}
                    Home::Elsewhere(_) => {
                        let sending = elsewhere.as_ref().map(|elsewhere| &elsewhere.sending)?;
                        match Arc::clone(sending).try_acquire_owned() {
                            Ok(free) => place = Some(Arc::new(free)),
                            Err(_) => return Some(Obstacle::Sending(Arc::clone(sending))),
                        }
                    }
                }
            }
            let now = self.command_now();
            let at_ms = now.unix_ms + commands.settings.ts_offset_ms;
            let whose = (next.id, next.clock);
            let drawn = drawn.take().filter(|(other, _)| *other == whose).map(|(_, time)| time);
            let time = match drawn {
                Some(time) => Op::Ready(Ok(time)),
                None => self.0.sessions.next_command_time(&whose.1.to_string(), at_ms),
            };
            let ts = match time {
                Op::Ready(Ok(ts)) => ts,
                Op::Ready(Err(error)) => {
                    tracing::warn!(%error, "client commands wait for the backend");
                    return Some(Obstacle::Backend);
                }
                Op::Wait(time) => return Some(Obstacle::Clock(whose, time)),
            };
            let mut permits = permits.into_iter();
            for dispatch in engine.send_next(ts, now) {
                match (dispatch.home, &place) {
                    (Home::Here(Address { key, .. }), _) => wakes.extend(permits.next().and_then(|permit| {
                        permit.push_and_wake_later(Mail::Ask(Ask::Command(key, dispatch.delivery)))
                    })),
                    (Home::Elsewhere(node), Some(place)) => self.send_elsewhere(node, dispatch, place),
                    // There is a place for whatever is for another node.
                    (Home::Elsewhere(_), None) => {}
                }
            }
        }
        None
    }

    pub(super) async fn wait_for_space(&self, worker: usize) {
        // It is asked for again by the commands that need it.
        drop(self.0.workers[worker].reserve(Mail::ASK_BYTES).await);
    }

    /// Withholds room messages from connections, or no longer.
    pub(super) fn mute(&self, desk: &mut Desk, paused: Vec<(Address, bool)>) {
        for (Address { worker, key }, is_muted) in paused {
            if desk.untold_pauses.tell(&self.0.workers[usize::from(worker)], worker, key, is_muted) {
                let node = self.clone();
                self.spawn(Box::pin(async move { node.tell_pauses_later(worker).await }));
            }
        }
    }

    async fn tell_pauses_later(&self, worker: u16) {
        let mailbox = &self.0.workers[usize::from(worker)];
        loop {
            self.wait_for_space(usize::from(worker)).await;
            if self.0.commands.desk().untold_pauses.tell_waiting(mailbox, worker) {
                return;
            }
        }
    }
}
