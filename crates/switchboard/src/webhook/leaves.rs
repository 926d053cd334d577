//! Reports of who left which room: gathered, bounded, one at a time. Nobody waits for them.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::AbortHandle;

use crate::clock;
use crate::config::LeaveHook;

use super::{Document, Hook, Question, Webhooks, lock};

/// Leaves on their way to the backend. Dropping it drops those that wait.
#[derive(Debug)]
pub(crate) struct LeaveReports {
    shared: Arc<Shared>,
    reporter: AbortHandle,
}

#[derive(Debug)]
struct Shared {
    webhooks: Arc<Webhooks>,
    queue: Mutex<Queue>,
    /// Something was put into an empty queue.
    filled: Notify,
    /// A report has come to its end.
    reported: Notify,
    max_queue_bytes: usize,
    max_report_bytes: usize,
    interval: Duration,
}

#[derive(Debug, Default)]
struct Queue {
    /// Each a JSON object.
    leaves: VecDeque<Vec<u8>>,
    bytes: usize,
    /// Leaves that were not reported since the last report that arrived.
    dropped: u64,
    /// How many a report under way has.
    under_way: usize,
}

impl LeaveReports {
    /// Begins to report, if the hook has a URL.
    pub(crate) fn start(
        webhooks: &Arc<Webhooks>,
        hook: &LeaveHook,
        node: &str,
        runtime: &tokio::runtime::Handle,
    ) -> Option<Self> {
        let question = webhooks.question(Hook::Leave, hook.url.as_ref()?, Duration::ZERO);
        let shared = Arc::new(Shared {
            webhooks: Arc::clone(webhooks),
            queue: Mutex::default(),
            filled: Notify::new(),
            reported: Notify::new(),
            max_queue_bytes: hook.max_queue_bytes,
            max_report_bytes: hook.max_report_bytes,
            interval: hook.interval,
        });
        let reporting = Arc::clone(&shared).run(question, node.to_owned());
        let reporter = runtime.spawn(reporting).abort_handle();
        Some(Self { shared, reporter })
    }

    /// Has a leave reported, unless too many wait: then it is counted.
    pub(crate) fn push(&self, leave: Document) {
        self.shared.push(leave.finish());
    }

    /// Waits until nothing is left to report.
    pub(crate) async fn emptied(&self) {
        loop {
            let reported = self.shared.reported.notified();
            tokio::pin!(reported);
            // From here on a report that ends is not missed.
            reported.as_mut().enable();
            if lock(&self.shared.queue).is_idle() {
                return;
            }
            reported.await;
        }
    }
}

impl Drop for LeaveReports {
    fn drop(&mut self) {
        self.reporter.abort();
    }
}

impl Shared {
    fn push(&self, leave: Vec<u8>) {
        let mut queue = lock(&self.queue);
        if queue.bytes + leave.len() > self.max_queue_bytes {
            queue.dropped += 1;
            drop(queue);
            return self.webhooks.counters().drop_leaves(1);
        }
        queue.bytes += leave.len();
        queue.leaves.push_back(leave);
        let is_first = queue.leaves.len() == 1;
        drop(queue);
        if is_first {
            self.filled.notify_one();
        }
    }

    async fn run(self: Arc<Self>, question: Question, node: String) {
        loop {
            if self.webhooks.is_paused(&question) {
                // What waits is kept rather than thrown at a backend that is left alone.
                tokio::time::sleep(self.interval).await;
                continue;
            }
            let (leaves, dropped) = lock(&self.queue).take(self.max_report_bytes);
            if leaves.is_empty() {
                self.filled.notified().await;
                continue;
            }
            let count = leaves.len() as u64;
            let report = Document::new()
                .text("hook", Hook::Leave.as_str())
                .text("node", &node)
                .number("sentAt", clock::unix_ms())
                .number("dropped", dropped)
                .list("leaves", leaves.iter().map(Vec::as_slice))
                .finish();
            drop(leaves);
            let arrived = self.webhooks.ask(&question, report, |_| Ok(())).await.is_ok();
            lock(&self.queue).settle(arrived, dropped);
            if !arrived {
                self.webhooks.counters().drop_leaves(count);
            }
            self.reported.notify_waiters();
            tokio::time::sleep(self.interval).await;
        }
    }
}

impl Queue {
    fn is_idle(&self) -> bool {
        self.leaves.is_empty() && self.under_way == 0
    }

    /// Takes the next report's leaves, at least one if there is any, and how many were dropped before.
    fn take(&mut self, max_bytes: usize) -> (Vec<Vec<u8>>, u64) {
        let mut leaves = Vec::new();
        let mut bytes = 0;
        while self.leaves.front().is_some_and(|leave| bytes == 0 || bytes + leave.len() <= max_bytes) {
            leaves.extend(self.leaves.pop_front().inspect(|leave| bytes += leave.len()));
        }
        self.bytes -= bytes;
        self.under_way = leaves.len();
        (leaves, self.dropped)
    }

    /// The report under way arrived, and told of `dropped` leaves, or was lost.
    fn settle(&mut self, arrived: bool, dropped: u64) {
        let count = std::mem::take(&mut self.under_way);
        if arrived {
            self.dropped -= dropped;
        } else {
            self.dropped += count as u64;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_takes_what_fits_and_at_least_one() {
        let mut queue = Queue::default();
        for bytes in [50, 30, 30, 40] {
            queue.leaves.push_back(vec![b'x'; bytes]);
            queue.bytes += bytes;
        }
        let take = |queue: &mut Queue| queue.take(60).0.iter().map(Vec::len).collect::<Vec<_>>();
        assert_eq!([take(&mut queue), take(&mut queue), take(&mut queue)], [vec![50], vec![30, 30], vec![40]]);
        assert_eq!((queue.bytes, take(&mut queue)), (0, vec![]));
    }

    #[test]
    fn a_report_that_is_lost_counts_as_dropped_until_one_arrives() {
        let mut queue = Queue::default();
        queue.leaves.extend([vec![b'x'], vec![b'y']]);
        queue.bytes = 2;
        let (_, dropped) = queue.take(1);
        queue.settle(false, dropped);
        let (_, dropped) = queue.take(1);
        assert_eq!((dropped, queue.is_idle()), (1, false));
        // Dropped while the report was under way: the next one tells it.
        queue.dropped += 3;
        queue.settle(true, dropped);
        assert_eq!((queue.dropped, queue.is_idle()), (3, true));
    }
}
