//! Telling workers which connections are paused: in order, although a worker may be full.

use std::collections::{HashMap, VecDeque};

use crate::hub::mail::{Ask, ConnKey, Mail};
use crate::hub::mailbox::Mailbox;

/// Pauses that wait for space with a worker. A task waits for each worker that has an entry.
#[derive(Default)]
pub(super) struct UntoldPauses(HashMap<u16, Untold>);

/// Pauses that wait for one worker: each connection once, with its latest state, in the order of their first change.
#[derive(Default)]
struct Untold {
    order: VecDeque<ConnKey>,
    is_muted: HashMap<ConnKey, bool>,
}

impl Untold {
    fn set(&mut self, key: ConnKey, is_muted: bool) {
        if self.is_muted.insert(key, is_muted).is_none() {
            self.order.push_back(key);
        }
    }
}

impl UntoldPauses {
    /// Tells a worker whether a connection is muted: at once, or after everything that waits for this worker.
    /// Returns `true` if the worker is full and no task waits for it: then a task has to wait for space, and call
    /// [`UntoldPauses::tell_waiting`].
    #[must_use]
    pub(super) fn tell(&mut self, mailbox: &Mailbox, worker: u16, key: ConnKey, is_muted: bool) -> bool {
        if let Some(waiting) = self.0.get_mut(&worker) {
            waiting.set(key, is_muted);
            return false;
        }
        if push(mailbox, key, is_muted) {
            return false;
        }
        self.0.entry(worker).or_default().set(key, is_muted);
        true
    }

    /// Tells a worker what waits. Returns `false` if the worker is full again.
    pub(super) fn tell_waiting(&mut self, mailbox: &Mailbox, worker: u16) -> bool {
        if let Some(waiting) = self.0.get_mut(&worker) {
            while let Some(&key) = waiting.order.front() {
                if !push(mailbox, key, waiting.is_muted.get(&key).copied().unwrap_or_default()) {
                    return false;
                }
                waiting.order.pop_front();
                waiting.is_muted.remove(&key);
            }
        }
        self.0.remove(&worker);
        true
    }
}

/// Returns `false` if there is no space.
fn push(mailbox: &Mailbox, key: ConnKey, is_muted: bool) -> bool {
    let Some(permit) = mailbox.try_reserve(Mail::ASK_BYTES) else { return false };
    permit.push(Mail::Ask(Ask::Mute(key, is_muted)));
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::mailbox::{Inbox, inbox};

    const A: ConnKey = ConnKey { slot: 0, generation: 0 };
    const B: ConnKey = ConnKey { slot: 1, generation: 0 };

    fn taken(inbox: &Inbox) -> Vec<(ConnKey, bool)> {
        let mut mail = VecDeque::new();
        inbox.take(&mut mail);
        let told = mail.into_iter().filter_map(|mail| match mail {
            Mail::Ask(Ask::Mute(key, is_muted)) => Some((key, is_muted)),
            _ => None,
        });
        told.collect()
    }

    #[test]
    fn a_resume_does_not_pass_the_pause_that_waits_for_space() {
        let (mailbox, inbox) = inbox(Mail::ASK_BYTES, || {});
        let mut untold = UntoldPauses::default();
        assert!(!untold.tell(&mailbox, 0, B, true), "there is space");
        assert!(untold.tell(&mailbox, 0, A, true), "a task has to wait");
        assert_eq!(taken(&inbox), [(B, true)]);
        // There is space again, and the task has not seen it yet.
        assert!(!untold.tell(&mailbox, 0, A, false));
        assert!(!untold.tell(&mailbox, 0, B, false));
        assert_eq!(taken(&inbox), []);
        assert!(!untold.tell_waiting(&mailbox, 0), "there is space for one");
        assert_eq!(taken(&inbox), [(A, false)], "the latest state, once");
        assert!(untold.tell_waiting(&mailbox, 0));
        assert_eq!(taken(&inbox), [(B, false)]);
        assert!(!untold.tell(&mailbox, 0, A, true), "nothing waits");
        assert_eq!(taken(&inbox), [(A, true)]);
    }

    #[test]
    fn a_full_worker_delays_pauses_of_its_own_connections_only() {
        let (full, _inbox) = inbox(1, || {});
        assert!(full.try_reserve(1).map(std::mem::forget).is_some());
        let (free, inbox) = inbox(Mail::ASK_BYTES, || {});
        let mut untold = UntoldPauses::default();
        assert!(untold.tell(&full, 0, A, true));
        assert!(!untold.tell(&free, 1, A, true));
        assert_eq!(taken(&inbox), [(A, true)]);
    }
}
