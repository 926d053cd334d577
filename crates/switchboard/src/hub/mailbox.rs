//! How anything reaches a worker: a bounded queue and a wake-up.
//!
//! The bound is in bytes. Space is reserved before anything is pushed, and nobody ever blocks: a task waits for space,
//! a worker gives up and lets the request become a task. Two full workers can therefore never wait for each other.

use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

use super::mail::Mail;

/// The sending half of a worker's inbox. Cloning shares it.
#[derive(Clone)]
pub struct Mailbox(Arc<Shared>);

/// The receiving half.
#[derive(Debug)]
pub struct Inbox(Mailbox);

struct Shared {
    queue: Mutex<Queue>,
    used_bytes: AtomicUsize,
    capacity_bytes: usize,
    wake: Box<dyn Fn() + Send + Sync>,
}

#[derive(Default)]
struct Queue {
    mail: VecDeque<Mail>,
    /// The worker sleeps, or is about to: whoever pushes next wakes it.
    sleeping: bool,
    closed: bool,
    /// Tasks that wait for space.
    waiting: Vec<Waker>,
}

/// Reserved space in an inbox; given back when dropped.
pub struct Permit<'a> {
    mailbox: &'a Mailbox,
    bytes: usize,
}

/// Makes an inbox that holds `capacity_bytes` and calls `wake` when its worker sleeps and something arrives.
pub fn inbox(capacity_bytes: usize, wake: impl Fn() + Send + Sync + 'static) -> (Mailbox, Inbox) {
    let mailbox = Mailbox(Arc::new(Shared {
        queue: Mutex::default(),
        used_bytes: AtomicUsize::new(0),
        capacity_bytes,
        wake: Box::new(wake),
    }));
    (mailbox.clone(), Inbox(mailbox))
}

impl fmt::Debug for Mailbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mailbox").field("used_bytes", &self.0.used_bytes).finish_non_exhaustive()
    }
}

impl Mailbox {
    /// Reserves space, if there is any. A single mail larger than the whole inbox fits when the inbox is empty.
    pub fn try_reserve(&self, bytes: usize) -> Option<Permit<'_>> {
        let shared = &self.0;
        // An attempt that fails leaves no trace, not even for a moment: others would see a full inbox and wait for
        // somebody to take mail that does not exist.
        let fits = |used: usize| match used.checked_add(bytes) {
            Some(sum) if used == 0 || sum <= shared.capacity_bytes => Some(sum),
            _ => None,
        };
        let reserved = shared.used_bytes.fetch_update(Ordering::AcqRel, Ordering::Acquire, fits);
        reserved.ok().map(|_| Permit { mailbox: self, bytes })
    }

    /// Queues `mail` as soon as there is space. A worker that has ended takes nothing: its mail is dropped, and with it
    /// the replies inside.
    pub async fn push(&self, mail: Mail) {
        self.reserve(mail.weight()).await.push(mail);
    }

    /// Waits until `bytes` would fit. Reserves nothing.
    pub async fn wait_for_space(&self, bytes: usize) {
        drop(self.reserve(bytes).await);
    }

    /// Returns whether tasks wait for space.
    pub fn is_waited_for(&self) -> bool {
        !self.lock().waiting.is_empty()
    }

    /// Reserves space as soon as there is any.
    pub async fn reserve(&self, bytes: usize) -> Permit<'_> {
        poll_fn(|cx| {
            if let Some(permit) = self.try_reserve(bytes) {
                return Poll::Ready(permit);
            }
            self.wake_on_space(cx.waker());
            // Tried again after registering, or space given back in between would go unnoticed.
            self.try_reserve(bytes).map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }

    /// Calls `waker` once space has been given back.
    pub fn wake_on_space(&self, waker: &Waker) {
        let mut queue = self.lock();
        if !queue.waiting.iter().any(|waiting| waiting.will_wake(waker)) {
            queue.waiting.push(waker.clone());
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        // Nothing under this lock can panic half way.
        self.0.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn release(&self, bytes: usize) {
        self.0.used_bytes.fetch_sub(bytes, Ordering::AcqRel);
    }
}

impl Permit<'_> {
    /// Queues `mail` in the space reserved, which is what it weighs, and wakes the worker if it sleeps.
    pub fn push(self, mail: Mail) {
        drop(self.push_and_wake_later(mail));
    }

    /// Queues `mail` as [`Permit::push`] does; the worker, if it sleeps, is woken when the result is dropped. For those who push under a
    /// lock that the worker asks for as soon as it is awake: it would have to wait for it.
    pub fn push_and_wake_later(self, mail: Mail) -> Option<Wake> {
        debug_assert_eq!(self.bytes, mail.weight());
        let mut queue = self.mailbox.lock();
        if queue.closed {
            drop(queue);
            return None;
        }
        queue.mail.push_back(mail);
        let is_asleep = std::mem::take(&mut queue.sleeping);
        drop(queue);
        let wake = is_asleep.then(|| Wake(self.mailbox.clone()));
        std::mem::forget(self);
        wake
    }
}

/// Wakes a worker when it is dropped.
#[derive(Debug)]
#[must_use = "the worker is woken when this is dropped"]
pub struct Wake(Mailbox);

impl Drop for Wake {
    fn drop(&mut self) {
        (self.0.0.wake)();
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        self.mailbox.release(self.bytes);
        // The worker may have nothing to take, so that nobody else would wake those who found no space meanwhile.
        let waiting = std::mem::take(&mut self.mailbox.lock().waiting);
        waiting.into_iter().for_each(Waker::wake);
    }
}

impl Inbox {
    /// Most mail taken at once.
    const TAKEN: usize = 256;

    /// Moves mail into `into`, in order, and gives its space back. Returns whether more is left. Whoever takes is awake.
    pub fn take(&self, into: &mut VecDeque<Mail>) -> bool {
        let mut queue = self.0.lock();
        queue.sleeping = false;
        let count = queue.mail.len().min(Self::TAKEN);
        if count == 0 {
            return false;
        }
        let bytes = queue.mail.iter().take(count).map(Mail::weight).sum();
        into.extend(queue.mail.drain(..count));
        let more = !queue.mail.is_empty();
        self.0.release(bytes);
        let waiting = std::mem::take(&mut queue.waiting);
        drop(queue);
        waiting.into_iter().for_each(Waker::wake);
        more
    }

    /// Says that the worker is about to sleep. `false` when there is mail, and it must not.
    pub fn may_sleep(&self) -> bool {
        let mut queue = self.0.lock();
        queue.sleeping = queue.mail.is_empty();
        queue.sleeping
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        let mut queue = self.0.lock();
        queue.closed = true;
        let mail = std::mem::take(&mut queue.mail);
        let waiting = std::mem::take(&mut queue.waiting);
        drop(queue);
        // What is dropped here may hold replies whose receivers push again.
        self.0.release(mail.iter().map(Mail::weight).sum());
        drop(mail);
        waiting.into_iter().for_each(Waker::wake);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::mail::{Ask, ConnKey};
    use std::future::Future;
    use std::pin::pin;
    use std::sync::atomic::AtomicU32;
    use std::task::Context;

    fn ask() -> Mail {
        Mail::Ask(Ask::Drain)
    }

    #[test]
    fn only_a_sleeping_worker_is_woken_and_only_once() {
        let woken = Arc::new(AtomicU32::new(0));
        let counter = Arc::clone(&woken);
        let (mailbox, inbox) = inbox(10_000, move || {
            counter.fetch_add(1, Ordering::Relaxed);
        });
        let push = || mailbox.try_reserve(ask().weight()).unwrap().push(ask());
        push();
        assert_eq!(woken.load(Ordering::Relaxed), 0);
        assert!(!inbox.may_sleep());
        let mut taken = VecDeque::new();
        assert!(!inbox.take(&mut taken));
        assert!(inbox.may_sleep());
        push();
        push();
        assert_eq!(woken.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn a_full_inbox_refuses_until_mail_is_taken_and_then_wakes_who_waits() {
        let (mailbox, inbox) = inbox(ask().weight() * 2, || {});
        let mut waiting = pin!(mailbox.push(ask()));
        for _ in 0..2 {
            mailbox.try_reserve(ask().weight()).unwrap().push(ask());
        }
        assert!(mailbox.try_reserve(1).is_none());
        let cx = &mut Context::from_waker(Waker::noop());
        assert!(waiting.as_mut().poll(cx).is_pending());
        let mut taken = VecDeque::new();
        inbox.take(&mut taken);
        assert!(waiting.as_mut().poll(cx).is_ready());
        inbox.take(&mut taken);
        assert_eq!(taken.len(), 3);
    }

    #[test]
    fn space_that_was_reserved_and_not_used_is_given_back() {
        let (mailbox, _inbox) = inbox(1000, || {});
        drop(mailbox.try_reserve(1000));
        assert!(mailbox.try_reserve(1000).is_some());
    }

    #[test]
    fn space_that_is_given_back_unused_wakes_who_waits_for_it() {
        let (mailbox, _inbox) = inbox(ask().weight(), || {});
        let reserved = mailbox.try_reserve(ask().weight());
        let mut waiting = pin!(mailbox.push(ask()));
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(Arc::clone(&woken));
        let cx = &mut Context::from_waker(&waker);
        assert!(waiting.as_mut().poll(cx).is_pending());
        assert!(!woken.0.load(Ordering::Relaxed), "a failed attempt wakes nobody, itself least of all");
        drop(reserved);
        assert!(woken.0.load(Ordering::Relaxed));
        assert!(waiting.as_mut().poll(cx).is_ready());
    }

    #[derive(Default)]
    struct Woken(std::sync::atomic::AtomicBool);

    impl std::task::Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    #[test]
    fn mail_for_a_worker_that_has_ended_is_dropped_with_its_replies() {
        let (mailbox, inbox) = inbox(1000, || {});
        drop(inbox);
        let dropped = Arc::new(());
        let held = Arc::clone(&dropped);
        let key = ConnKey { slot: 0, generation: 0 };
        let mail = Mail::Ask(Ask::Remove(key, Box::new(move |()| drop(held))));
        mailbox.try_reserve(mail.weight()).unwrap().push(mail);
        assert_eq!(Arc::strong_count(&dropped), 1);
    }

    #[test]
    fn many_senders_and_a_sleeping_worker_lose_nothing() {
        let thread = std::thread::current();
        let (mailbox, inbox) = inbox(ask().weight() * 8, move || thread.unpark());
        std::thread::scope(|scope| {
            for _ in 0..4 {
                let mailbox = mailbox.clone();
                scope.spawn(move || {
                    for _ in 0..2000 {
                        while mailbox.try_reserve(ask().weight()).map(|permit| permit.push(ask())).is_none() {
                            std::thread::yield_now();
                        }
                    }
                });
            }
            let mut taken = VecDeque::new();
            while taken.len() < 8000 {
                inbox.take(&mut taken);
                if inbox.may_sleep() && taken.len() < 8000 {
                    std::thread::park();
                }
            }
        });
    }
}
