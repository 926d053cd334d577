//! When connections that began to take commands have had their time to listen.

use std::collections::{BTreeSet, HashMap};

use switchboard_proto::id::ConnId;

/// At most one time for each connection, however often it subscribes: clients must not be able to make the node keep
/// more.
#[derive(Debug, Default)]
pub(super) struct SettlingTimes {
    by_connection: HashMap<ConnId, Wait>,
    by_time: BTreeSet<(u64, ConnId)>,
}

#[derive(Debug)]
struct Wait {
    due_ms: u64,
    generation: u64,
}

impl SettlingTimes {
    /// Notes when this generation of a connection's session has had its time, on the monotonic clock. Replaces an earlier
    /// note.
    pub(super) fn start(&mut self, connection: ConnId, generation: u64, due_ms: u64) {
        self.stop(connection);
        self.by_connection.insert(connection, Wait { due_ms, generation });
        self.by_time.insert((due_ms, connection));
    }

    /// Forgets a connection that takes no more commands.
    pub(super) fn stop(&mut self, connection: ConnId) {
        if let Some(wait) = self.by_connection.remove(&connection) {
            self.by_time.remove(&(wait.due_ms, connection));
        }
    }

    /// The earliest time.
    pub(super) fn next_ms(&self) -> Option<u64> {
        self.by_time.first().map(|(due_ms, _)| *due_ms)
    }

    /// Removes a connection whose time is over, and returns it with its generation.
    pub(super) fn take_due(&mut self, now_ms: u64) -> Option<(ConnId, u64)> {
        let (due_ms, connection) = *self.by_time.first()?;
        if due_ms > now_ms {
            return None;
        }
        self.by_time.pop_first();
        self.by_connection.remove(&connection).map(|wait| (connection, wait.generation))
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        assert_eq!(self.by_connection.len(), self.by_time.len());
        self.by_time.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_has_one_time_however_often_it_subscribes_and_none_when_it_stops() {
        let [one, other] = [1, 2].map(ConnId::from_random);
        let mut times = SettlingTimes::default();
        for generation in 0..1000 {
            times.start(one, generation, 500 + generation);
        }
        times.start(other, 7, 600);
        assert_eq!((times.len(), times.next_ms()), (2, Some(600)));
        assert_eq!([599, 600, 600].map(|now_ms| times.take_due(now_ms)), [None, Some((other, 7)), None]);
        assert_eq!(times.take_due(1499), Some((one, 999)));
        times.start(one, 1000, 2000);
        times.stop(one);
        times.stop(one);
        assert_eq!((times.len(), times.take_due(u64::MAX)), (0, None));
    }
}
