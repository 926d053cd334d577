//! Handing commands to connections: in the order of acceptance, each at a time later than all before to the same user.

use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use smallvec::SmallVec;

use crate::backend::BackendError;
use crate::command::Engine;
use crate::hub::mail::{Address, Ask, Mail};
use crate::hub::mailbox::Wake;
use crate::op::{BoxFuture, Op};

use super::super::Node;
use super::{Desk, Waiter};

/// Workers to be woken once the desk is free: the first thing that they do with a command is to come to it.
pub(super) type Wakes = SmallVec<[Wake; 2]>;

/// What the next command waits for.
enum Obstacle {
    /// A time for it.
    Clock(BoxFuture<'static, Result<u64, BackendError>>),
    /// The backend gives no time.
    Backend,
    /// Space with a worker.
    Space(usize),
}

impl Node {
    /// Hands over whatever may leave. What has to wait does so in a task of its own, and everything behind it lines up.
    pub(super) fn deliver_commands(&self, desk: &mut Desk) -> Wakes {
        let mut wakes = Wakes::new();
        if desk.courier_waits {
            return wakes;
        }
        if let Some(obstacle) = self.deliver_until_obstacle(&mut desk.engine, None, &mut wakes) {
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
                Obstacle::Clock(time) => match time.await {
                    Ok(time) => Some(time),
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
            };
            let mut wakes = Wakes::new();
            let mut desk = self.0.commands.desk();
            match self.deliver_until_obstacle(&mut desk.engine, time, &mut wakes) {
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

    /// Hands over until something is in the way. `time` is one that was waited for: it is for the first who leaves, if that
    /// is still who it was drawn for; any later time of any clock would do as well, so at worst it is one that skips ahead.
    fn deliver_until_obstacle(
        &self,
        engine: &mut Engine<Waiter>,
        mut time: Option<u64>,
        wakes: &mut Wakes,
    ) -> Option<Obstacle> {
        let commands = &self.0.commands;
        while let Some(next) = engine.next_outgoing() {
            let mut permits = SmallVec::<[_; 4]>::new();
            for Address { worker, .. } in &next.to {
                let worker = usize::from(*worker);
                match self.0.workers[worker].try_reserve(Mail::ASK_BYTES) {
                    Some(permit) => permits.push(permit),
                    None => return Some(Obstacle::Space(worker)),
                }
            }
            let now = self.command_now();
            let at_ms = now.unix_ms + commands.settings.ts_offset_ms;
            let ts =
                match self.0.sessions.next_command_time(&next.clock.to_string(), at_ms.max(time.take().unwrap_or(0))) {
                    Op::Ready(Ok(ts)) => ts,
                    Op::Ready(Err(error)) => {
                        tracing::warn!(%error, "client commands wait for the backend");
                        return Some(Obstacle::Backend);
                    }
                    Op::Wait(time) => return Some(Obstacle::Clock(time)),
                };
            for (dispatch, permit) in engine.send_next(ts, now).into_iter().zip(permits) {
                wakes.extend(
                    permit.push_and_wake_later(Mail::Ask(Ask::Command(dispatch.address.key, dispatch.delivery))),
                );
            }
        }
        None
    }

    async fn wait_for_space(&self, worker: usize) {
        let mailbox = &self.0.workers[worker];
        poll_fn(|cx| {
            if mailbox.try_reserve(Mail::ASK_BYTES).is_some() {
                return Poll::Ready(());
            }
            mailbox.wake_on_space(cx.waker());
            // It may have had space again before it was asked to wake.
            if mailbox.try_reserve(Mail::ASK_BYTES).is_some() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    /// Withholds room messages from connections, or no more. What a connection is to be told last is told last, also when its
    /// worker has no space.
    pub(super) fn mute(&self, desk: &mut Desk, paused: Vec<(Address, bool)>) {
        for (address, muted) in paused {
            match desk.untold_pauses.iter_mut().find(|(other, _)| *other == address) {
                Some((_, waiting)) => *waiting = muted,
                None => desk.untold_pauses.push_back((address, muted)),
            }
        }
        if !desk.pauses_wait
            && let Some(worker) = self.tell_pauses(desk)
        {
            desk.pauses_wait = true;
            let node = self.clone();
            self.spawn(Box::pin(async move { node.tell_pauses_later(worker).await }));
        }
    }

    /// Tells pauses until a worker has no space, and which one that is.
    fn tell_pauses(&self, desk: &mut Desk) -> Option<usize> {
        while let Some(&(Address { worker, key }, muted)) = desk.untold_pauses.front() {
            let worker = usize::from(worker);
            let Some(permit) = self.0.workers[worker].try_reserve(Mail::ASK_BYTES) else { return Some(worker) };
            permit.push(Mail::Ask(Ask::Mute(key, muted)));
            desk.untold_pauses.pop_front();
        }
        None
    }

    async fn tell_pauses_later(&self, mut full: usize) {
        loop {
            self.wait_for_space(full).await;
            let mut desk = self.0.commands.desk();
            match self.tell_pauses(&mut desk) {
                Some(worker) => full = worker,
                None => {
                    desk.pauses_wait = false;
                    return;
                }
            }
        }
    }
}
