//! Channels of a connection to pub/sub: wanted, requested and confirmed. Pure, without a clock, a lock or a
//! runtime.

use std::collections::{BTreeMap, HashMap};

use tokio::sync::oneshot;

/// All channels, and the requests that are due.
#[derive(Debug, Default)]
pub(super) struct Channels {
    /// Channels that are wanted, known to Redis or in a request in flight.
    all: HashMap<String, Channel>,
    due: DueQueue,
    /// Number of the connection whose confirmations count.
    serial: u64,
    /// Raised when all channels are lost: answers to earlier requests no longer count.
    round: u64,
    /// Not every channel has been confirmed since the connection was lost.
    is_catching_up: bool,
}

#[derive(Debug, Default)]
struct Channel {
    is_wanted: bool,
    state: ChannelState,
    /// Channels of nodes are requested before those of rooms: the beacon must not wait for ten thousand rooms.
    is_first: bool,
    /// Key in [`DueQueue::names`] while a request is due.
    due: Option<(bool, u64)>,
    waiting: Vec<oneshot::Sender<()>>,
}

/// What Redis knows of a channel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum ChannelState {
    #[default]
    Absent,
    /// SUBSCRIBE is in flight.
    Subscribing,
    Confirmed,
    /// UNSUBSCRIBE is in flight: messages that are published now may not arrive.
    Unsubscribing,
}

/// Channels that are not as wanted and have no request in flight, in the order of their requests.
#[derive(Debug, Default)]
struct DueQueue {
    /// By a flag that is `false` for channels that go first, and by a number that rises.
    names: BTreeMap<(bool, u64), String>,
    /// How many channels were added so far.
    added: u64,
}

impl DueQueue {
    fn add(&mut self, name: &str, channel: &mut Channel) {
        self.added += 1;
        let key = (!channel.is_first, self.added);
        channel.due = Some(key);
        self.names.insert(key, name.to_owned());
    }
}

/// ChannelState of a channel that is wanted.
#[derive(Debug)]
pub(super) enum Subscription {
    /// It is confirmed.
    Confirmed,
    /// It is requested; the receiver gets the confirmation.
    Requested(oneshot::Receiver<()>),
}

/// Requests to make. Each name must be passed to [`Channels::confirm`] or [`Channels::retry`] with the same round.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Requests {
    pub(super) round: u64,
    pub(super) subscribe: Vec<String>,
    pub(super) unsubscribe: Vec<String>,
}

impl Channels {
    /// Wants a channel.
    pub(super) fn want(&mut self, name: &str, is_first: bool) -> Subscription {
        let channel = self.all.entry(name.to_owned()).or_default();
        channel.is_wanted = true;
        channel.is_first = is_first;
        let subscription = if channel.state == ChannelState::Confirmed {
            Subscription::Confirmed
        } else {
            let (sender, confirmed) = oneshot::channel();
            // Callers that stopped waiting are forgotten here, or a request that is repeated would add one each time.
            channel.waiting.retain(|waiting| !waiting.is_closed());
            channel.waiting.push(sender);
            Subscription::Requested(confirmed)
        };
        self.update(name);
        subscription
    }

    /// Wants a channel no longer. Returns whether there is a request to make.
    pub(super) fn unwant(&mut self, name: &str) -> bool {
        let Some(channel) = self.all.get_mut(name) else { return false };
        channel.is_wanted = false;
        channel.waiting.clear();
        self.update(name);
        self.all.get(name).is_some_and(|channel| channel.due.is_some())
    }

    /// Queues a channel that is not as wanted unless a request for it is in flight, and takes any other channel out of
    /// the queue. Removes a channel that is neither wanted nor known to Redis.
    fn update(&mut self, name: &str) {
        let Some(channel) = self.all.get_mut(name) else { return };
        let is_due = matches!(
            (channel.is_wanted, channel.state),
            (true, ChannelState::Absent) | (false, ChannelState::Confirmed)
        );
        match channel.due {
            None if is_due => self.due.add(name, channel),
            Some(key) if !is_due => {
                channel.due = None;
                self.due.names.remove(&key);
            }
            _ => {}
        }
        if !channel.is_wanted && channel.state == ChannelState::Absent {
            self.all.remove(name);
        }
    }

    /// Takes up to `max` channels to subscribe to and to unsubscribe from.
    pub(super) fn next(&mut self, max: usize) -> Requests {
        let mut requests = Requests { round: self.round, subscribe: Vec::new(), unsubscribe: Vec::new() };
        while requests.subscribe.len() < max && requests.unsubscribe.len() < max {
            let Some((_, name)) = self.due.names.pop_first() else { break };
            let Some(channel) = self.all.get_mut(&name) else { continue };
            channel.due = None;
            if channel.is_wanted {
                channel.state = ChannelState::Subscribing;
                requests.subscribe.push(name);
            } else {
                channel.state = ChannelState::Unsubscribing;
                requests.unsubscribe.push(name);
            }
        }
        requests
    }

    /// Notes that Redis has confirmed a request. Returns `false`, and notes nothing, if all channels were lost since
    /// the request was taken.
    pub(super) fn confirm(&mut self, round: u64, names: &[String], is_subscribed: bool) -> bool {
        if round != self.round {
            return false;
        }
        for name in names {
            let Some(channel) = self.all.get_mut(name) else { continue };
            channel.state = if is_subscribed { ChannelState::Confirmed } else { ChannelState::Absent };
            if is_subscribed {
                for waiting in channel.waiting.drain(..) {
                    // The caller may have stopped waiting.
                    let _ = waiting.send(());
                }
            }
            // It may have been changed during the request.
            self.update(name);
        }
        true
    }

    /// Makes requests due again that were not confirmed, unless all channels were lost since they were taken.
    pub(super) fn retry(&mut self, round: u64, names: impl IntoIterator<Item = String>) {
        if round != self.round {
            return;
        }
        for name in names {
            let Some(channel) = self.all.get_mut(&name) else { continue };
            // Redis may have done it or not. Requests that are made twice do no harm, so the channel counts as not
            // being as wanted.
            channel.state = if channel.is_wanted { ChannelState::Absent } else { ChannelState::Confirmed };
            self.update(&name);
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
        self.round += 1;
        self.due.names.clear();
        self.all.retain(|_, channel| channel.is_wanted);
        for (name, channel) in &mut self.all {
            channel.state = ChannelState::Absent;
            self.due.add(name, channel);
        }
    }

    /// Whether no request is due.
    pub(super) fn is_settled(&self) -> bool {
        self.due.names.is_empty()
    }

    /// Whether not every channel has been confirmed since the connection was lost.
    pub(super) fn is_catching_up(&self) -> bool {
        self.is_catching_up
    }

    /// Returns `true` once after every channel has been confirmed again.
    pub(super) fn take_caught_up(&mut self) -> bool {
        self.is_settled() && std::mem::take(&mut self.is_catching_up)
    }

    /// Number of confirmed channels, and a number that every later request changes; `None` while a request is due or
    /// in flight.
    pub(super) fn confirmed(&self) -> Option<(usize, u64)> {
        let is_settled = self.all.values().all(|channel| channel.is_wanted && channel.state == ChannelState::Confirmed);
        is_settled.then_some((self.all.len(), self.due.added))
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

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    /// Takes all requests that are due: they must be these. Returns their round.
    fn take(channels: &mut Channels, subscribe: &[&str], unsubscribe: &[&str]) -> u64 {
        let requests = channels.next(9);
        assert_eq!((requests.subscribe, requests.unsubscribe), (names(subscribe), names(unsubscribe)));
        requests.round
    }

    /// Returns channels with a confirmed one, "a".
    fn with_a() -> Channels {
        let mut channels = Channels::default();
        let _requested = channels.want("a", false);
        let round = take(&mut channels, &["a"], &[]);
        assert!(channels.confirm(round, &names(&["a"]), true));
        channels
    }

    #[test]
    fn requests_follow_what_is_wanted_even_if_that_changes_before_the_confirmation() {
        let mut channels = Channels::default();
        let a = names(&["a"]);
        let _first = channels.want("a", false);
        let _second = channels.want("a", false);
        let round = take(&mut channels, &["a"], &[]);
        assert!(!channels.unwant("a"), "the request in flight must be answered first");
        channels.confirm(round, &a, true);
        take(&mut channels, &[], &["a"]);
        let _third = channels.want("a", false);
        channels.confirm(round, &a, false);
        take(&mut channels, &["a"], &[]);
        channels.confirm(round, &a, true);
        take(&mut channels, &[], &[]);
        assert_eq!(channels.confirmed().map(|(count, _)| count), Some(1));
        channels.lose_all();
        assert_eq!((channels.confirmed(), channels.is_catching_up()), (None, true));
        assert!(!channels.unwant("a"), "Redis does not know it");
        take(&mut channels, &[], &[]);
        assert!(channels.all.is_empty());
    }

    #[test]
    fn a_channel_that_is_being_unsubscribed_is_confirmed_only_by_another_subscription() {
        for is_carried_out in [true, false] {
            let mut channels = with_a();
            assert!(channels.unwant("a"));
            let round = take(&mut channels, &[], &["a"]);
            let Subscription::Requested(mut confirmed) = channels.want("a", false) else {
                panic!("confirmed although UNSUBSCRIBE is in flight");
            };
            if is_carried_out {
                channels.confirm(round, &names(&["a"]), false);
            } else {
                // No answer in time: Redis may do it later.
                channels.retry(round, names(&["a"]));
            }
            assert!(confirmed.try_recv().is_err());
            let round = take(&mut channels, &["a"], &[]);
            channels.confirm(round, &names(&["a"]), true);
            assert_eq!(confirmed.try_recv(), Ok(()));
            assert!(matches!(channels.want("a", false), Subscription::Confirmed));
        }
    }

    #[test]
    fn channels_are_not_counted_while_a_request_is_in_flight_nor_compared_after_one() {
        let mut channels = with_a();
        let before = channels.confirmed();
        assert!(before.is_some());
        let _requested = channels.want("b", false);
        let round = take(&mut channels, &["b"], &[]);
        assert_eq!(channels.confirmed(), None, "SUBSCRIBE is in flight");
        channels.confirm(round, &names(&["b"]), true);
        assert!(channels.unwant("a"));
        take(&mut channels, &[], &["a"]);
        assert_eq!(channels.confirmed(), None, "UNSUBSCRIBE is in flight");
        channels.confirm(round, &names(&["a"]), false);
        let after = channels.confirmed();
        assert_eq!(after.map(|(count, _)| count), Some(1));
        assert_ne!(after, before, "Redis had two channels for a while");
    }

    #[test]
    fn answers_to_requests_from_before_a_loss_change_nothing() {
        let mut channels = with_a();
        let _requested = channels.want("b", false);
        let lost = take(&mut channels, &["b"], &[]);
        channels.lose_all();
        assert!(!channels.confirm(lost, &names(&["b"]), true));
        let round = channels.next(9).round;
        assert!(!channels.confirm(lost, &names(&["a", "b"]), true));
        channels.retry(lost, names(&["a", "b"]));
        assert_eq!(channels.confirmed(), None);
        take(&mut channels, &[], &[]);
        assert!(channels.confirm(round, &names(&["a", "b"]), true));
        assert_eq!(channels.confirmed().map(|(count, _)| count), Some(2));
    }

    #[test]
    fn joins_that_fail_while_redis_is_away_leave_nothing() {
        let mut channels = with_a();
        channels.lose_all();
        for join in 0..1000 {
            for name in ["a", "b", &format!("room {join}")] {
                drop(channels.want(name, false));
                drop(channels.want(name, false));
            }
            assert!(!channels.unwant("b") && !channels.unwant(&format!("room {join}")));
        }
        assert_eq!((channels.all.len(), channels.due.names.len()), (1, 1));
    }

    #[test]
    fn channels_of_nodes_are_requested_before_those_of_rooms() {
        let mut channels = Channels::default();
        for room in 0..2000 {
            let _requested = channels.want(&format!("room {room}"), false);
        }
        let _requested = channels.want("beacon", true);
        let requests = channels.next(512);
        assert_eq!(requests.subscribe[0], "beacon");
        channels.confirm(requests.round, &names(&["beacon"]), true);
        channels.set_connection(2);
        let requests = channels.next(512);
        assert_eq!(requests.subscribe[0], "beacon");
        channels.retry(requests.round, names(&["beacon"]));
        assert_eq!(channels.next(512).subscribe[0], "beacon", "after a request that failed");
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
