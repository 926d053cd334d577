//! Channels of a connection to pub/sub: wanted, requested and confirmed. Pure, without a clock, a lock or a
//! runtime.

use std::collections::{HashMap, VecDeque};

use tokio::sync::oneshot;

/// All channels, and the requests that are due.
#[derive(Debug, Default)]
pub(super) struct Channels {
    all: HashMap<String, Channel>,
    /// Channels whose state is not as wanted.
    due: VecDeque<String>,
    /// Number of the connection whose confirmations count.
    serial: u64,
    /// Not every channel has been confirmed since the connection was lost.
    is_catching_up: bool,
}

#[derive(Debug, Default)]
struct Channel {
    is_wanted: bool,
    is_confirmed: bool,
    /// Channels of nodes are requested before those of rooms: the beacon must not wait for ten thousand rooms.
    is_first: bool,
    waiting: Vec<oneshot::Sender<()>>,
}

/// State of a channel that is wanted.
#[derive(Debug)]
pub(super) enum Subscription {
    /// It is confirmed.
    Confirmed,
    /// It is requested; the receiver gets the confirmation.
    Requested(oneshot::Receiver<()>),
}

impl Channels {
    /// Wants a channel.
    pub(super) fn want(&mut self, name: &str, is_first: bool) -> Subscription {
        let channel = self.all.entry(name.to_owned()).or_default();
        channel.is_wanted = true;
        channel.is_first = is_first;
        if channel.is_confirmed {
            return Subscription::Confirmed;
        }
        let (sender, confirmed) = oneshot::channel();
        // Callers that stopped waiting are forgotten here, or a request that is repeated would add one each time.
        channel.waiting.retain(|waiting| !waiting.is_closed());
        channel.waiting.push(sender);
        self.add_due(name.to_owned(), is_first);
        Subscription::Requested(confirmed)
    }

    /// Wants a channel no longer. Returns whether there is a request to make.
    pub(super) fn unwant(&mut self, name: &str) -> bool {
        let Some(channel) = self.all.get_mut(name) else { return false };
        channel.is_wanted = false;
        channel.waiting.clear();
        self.due.push_back(name.to_owned());
        true
    }

    /// Takes up to `max` channels to subscribe to and to unsubscribe from.
    pub(super) fn next(&mut self, max: usize) -> (Vec<String>, Vec<String>) {
        let (mut subscribe, mut unsubscribe) = (Vec::new(), Vec::new());
        while subscribe.len() < max && unsubscribe.len() < max {
            let Some(name) = self.due.pop_front() else { break };
            let (is_wanted, is_confirmed) = match self.all.get(&name) {
                Some(channel) => (channel.is_wanted, channel.is_confirmed),
                None => continue,
            };
            match (is_wanted, is_confirmed) {
                (true, false) if !subscribe.contains(&name) => subscribe.push(name),
                (false, true) if !unsubscribe.contains(&name) => unsubscribe.push(name),
                (false, false) => drop(self.all.remove(&name)),
                _ => {}
            }
        }
        (subscribe, unsubscribe)
    }

    /// Notes that Redis has confirmed a request.
    pub(super) fn confirm(&mut self, names: &[String], is_subscribed: bool) {
        for name in names {
            let Some(channel) = self.all.get_mut(name) else { continue };
            channel.is_confirmed = is_subscribed;
            if is_subscribed {
                for waiting in channel.waiting.drain(..) {
                    // The caller may have stopped waiting.
                    let _ = waiting.send(());
                }
            }
            if channel.is_wanted != is_subscribed {
                // It was changed during the request.
                self.due.push_back(name.clone());
            } else if !is_subscribed {
                self.all.remove(name);
            }
        }
    }

    /// Makes requests due again that were not confirmed.
    pub(super) fn retry(&mut self, names: impl IntoIterator<Item = String>) {
        for name in names {
            let is_first = self.all.get(&name).is_some_and(|channel| channel.is_first);
            self.add_due(name, is_first);
        }
    }

    fn add_due(&mut self, name: String, is_first: bool) {
        if is_first {
            self.due.push_front(name);
        } else {
            self.due.push_back(name);
        }
    }

    /// Notes that the connection with this number is used from now on.
    pub(super) fn set_connection(&mut self, serial: u64) {
        if self.serial != serial {
            self.serial = serial;
            self.lose_all();
        }
    }

    /// Makes all requests due again: no channel is certain.
    pub(super) fn lose_all(&mut self) {
        self.is_catching_up = true;
        self.due.clear();
        for (name, channel) in &mut self.all {
            channel.is_confirmed = false;
            if channel.is_first {
                self.due.push_front(name.clone());
            } else {
                self.due.push_back(name.clone());
            }
        }
    }

    /// Whether no request is due.
    pub(super) fn is_settled(&self) -> bool {
        self.due.is_empty()
    }

    /// Whether not every channel has been confirmed since the connection was lost.
    pub(super) fn is_catching_up(&self) -> bool {
        self.is_catching_up
    }

    /// Returns `true` once after every channel has been confirmed again.
    pub(super) fn take_caught_up(&mut self) -> bool {
        self.due.is_empty() && std::mem::take(&mut self.is_catching_up)
    }

    /// Number of confirmed channels, and of the connection that has confirmed them; `None` while requests are due.
    pub(super) fn confirmed(&self) -> Option<(usize, u64)> {
        let confirmed = || self.all.values().filter(|channel| channel.is_confirmed).count();
        self.due.is_empty().then(|| (confirmed(), self.serial))
    }
}

/// Decides whether the beacon is overdue.
#[derive(Debug, Default)]
pub(super) struct BeaconWatch {
    /// Number of the connection, and when it was seen first.
    connection: Option<(u64, u64)>,
}

impl BeaconWatch {
    /// Returns whether the beacon, which came back last at `heard_ms`, is overdue on the connection with this
    /// number. Each connection has the whole time, or a node whose subscriptions take long would close one after
    /// the other.
    pub(super) fn is_overdue(&mut self, connection: u64, now_ms: u64, heard_ms: u64, limit_ms: u64) -> bool {
        let (_, since_ms) = *match &mut self.connection {
            Some(seen) if seen.0 == connection => seen,
            other => other.insert((connection, now_ms)),
        };
        now_ms.saturating_sub(heard_ms.max(since_ms)) > limit_ms
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_follow_what_is_wanted_even_if_that_changes_before_the_confirmation() {
        let mut channels = Channels::default();
        let (none, a) = (Vec::<String>::new(), vec!["a".to_owned()]);
        let _first = channels.want("a", false);
        let _second = channels.want("a", false);
        assert_eq!(channels.next(9), (a.clone(), none.clone()));
        assert!(channels.unwant("a"), "before it was confirmed");
        channels.confirm(&a, true);
        assert_eq!(channels.next(9), (none.clone(), a.clone()));
        let _third = channels.want("a", false);
        channels.confirm(&a, false);
        assert_eq!(channels.next(9), (a.clone(), none.clone()));
        channels.confirm(&a, true);
        assert_eq!((channels.next(9), channels.confirmed()), ((none.clone(), none.clone()), Some((1, 0))));
        channels.lose_all();
        assert_eq!((channels.confirmed(), channels.is_catching_up()), (None, true));
        assert!(channels.unwant("a"));
        assert_eq!(channels.next(9), (none.clone(), none));
        assert!(channels.all.is_empty());
    }

    #[test]
    fn channels_of_nodes_are_requested_before_those_of_rooms() {
        let mut channels = Channels::default();
        for room in 0..2000 {
            let _requested = channels.want(&format!("room {room}"), false);
        }
        let _requested = channels.want("beacon", true);
        assert_eq!(channels.next(512).0[0], "beacon");
        channels.confirm(&["beacon".to_owned()], true);
        channels.set_connection(2);
        assert_eq!(channels.next(512).0[0], "beacon");
        channels.retry(["beacon".to_owned()]);
        assert_eq!(channels.next(512).0[0], "beacon", "after a request that failed");
    }

    #[test]
    fn a_caller_that_stopped_waiting_is_forgotten() {
        let mut channels = Channels::default();
        for _ in 0..100 {
            drop(channels.want("a", true));
        }
        assert!(channels.all["a"].waiting.len() <= 1);
    }

    #[test]
    fn the_beacon_is_overdue_after_its_limit_counted_from_the_connection() {
        let mut watch = BeaconWatch::default();
        assert!(!watch.is_overdue(1, 5000, 0, 2000));
        assert!(!watch.is_overdue(1, 7000, 0, 2000) && watch.is_overdue(1, 7001, 0, 2000));
        assert!(!watch.is_overdue(1, 7001, 6000, 2000));
        assert!(!watch.is_overdue(2, 9000, 0, 2000) && watch.is_overdue(2, 11_001, 0, 2000));
    }
}
