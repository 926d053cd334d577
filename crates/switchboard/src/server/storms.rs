//! Notices when many connections have ended, so that the program can give the memory that they used back to the system.

use std::sync::{Arc, Weak};
use std::time::Duration;

use crate::worker::Loads;

/// Time between two checks of the number of connections, and so the shortest time between two trims.
const LOOK: Duration = Duration::from_secs(5);

/// The most connections since memory was given back last.
#[derive(Debug, Default)]
struct Peak(usize);

impl Peak {
    /// Fewer connections than these are not worth the work: they take about 7 MiB together.
    const FEWEST: usize = 256;

    /// Returns whether at least half of the connections of the peak have ended, and at least [`Peak::FEWEST`]. Then a new
    /// peak begins.
    ///
    /// `highest` is the most that there were since the last call: a storm may begin and end between two calls.
    fn is_over(&mut self, highest: usize, connections: usize) -> bool {
        self.0 = self.0.max(highest).max(connections);
        let is_over = self.0 - connections >= Self::FEWEST && connections <= self.0 / 2;
        if is_over {
            self.0 = connections;
        }
        is_over
    }
}

/// Runs `free` on a thread that may block whenever a peak of connections is over, for as long as there is a server.
pub(super) fn watch(loads: &Arc<Loads>, free: fn(), runtime: &tokio::runtime::Handle) {
    let loads = Arc::downgrade(loads);
    let mut peak = Peak::default();
    drop(runtime.spawn(async move {
        loop {
            tokio::time::sleep(LOOK).await;
            let Some(loads) = Weak::upgrade(&loads) else { return };
            let is_over = peak.is_over(loads.take_peak(), loads.total());
            drop(loads);
            if is_over && tokio::task::spawn_blocking(free).await.is_err() {
                tracing::error!("freeing memory after many connections have ended panicked");
            }
        }
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answers(counts: &[usize]) -> Vec<bool> {
        let mut peak = Peak::default();
        counts.iter().map(|&count| peak.is_over(count, count)).collect()
    }

    #[test]
    fn a_peak_is_over_when_half_of_its_connections_have_ended() {
        assert_eq!(answers(&[10, 500, 300, 251, 250, 0]), [false, false, false, false, false, true]);
        assert_eq!(answers(&[0, 1000, 501, 500, 400, 250, 244]), [false, false, false, true, false, false, true]);
    }

    #[test]
    fn a_peak_between_two_calls_is_over_at_the_second() {
        let mut peak = Peak::default();
        assert_eq!(
            [(10, 10), (500, 10), (10, 10)].map(|(highest, now)| peak.is_over(highest, now)),
            [false, true, false]
        );
    }

    #[test]
    fn a_few_connections_are_no_peak_and_many_that_stay_are_none_that_is_over() {
        assert_eq!(answers(&[255, 0, 255, 0]), [false; 4]);
        assert_eq!(answers(&[100_000, 99_000, 60_000, 100_000]), [false; 4]);
    }
}
