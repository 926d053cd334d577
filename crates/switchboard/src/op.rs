//! An operation that is usually ready at once.
//!
//! Whatever may wait is a future. Most never do: an action computes, a join on the memory backend looks up. So a future
//! is polled once where it was made; only if it really waits does it move to the runtime. One code path serves both.

use std::any::Any;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use tokio::runtime::Handle;
use tokio::task::{JoinError, JoinHandle};

/// A future on the heap.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// An operation: ready, or to be waited for.
#[must_use = "an operation that waits does nothing until it is awaited"]
pub enum Op<T> {
    /// Its result.
    Ready(T),
    /// It waits for something.
    Wait(BoxFuture<'static, T>),
}

impl<T> std::fmt::Debug for Op<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Ready(_) => "Ready",
            Self::Wait(_) => "Wait",
        })
    }
}

impl<T: Send + 'static> Op<T> {
    /// Polls `future` once, here. A panic inside, now or later, is caught and becomes `on_panic()`.
    ///
    /// To be called in the context of a runtime, or a timer that the future makes would panic.
    pub fn start(future: impl Future<Output = T> + Send + 'static, on_panic: fn(Panic) -> T) -> Self {
        let mut future: BoxFuture<'static, T> = Box::pin(future);
        match catch(|| future.as_mut().poll(&mut Context::from_waker(Waker::noop()))) {
            Ok(Poll::Ready(value)) => Self::Ready(value),
            // Polled again with a real waker, it registers that one.
            Ok(Poll::Pending) => Self::Wait(Box::pin(Caught { future, on_panic })),
            Err(panic) => Self::Ready(on_panic(panic)),
        }
    }

    /// Waits for `future` without polling it here. Its panics become `on_panic()` too.
    pub fn later(future: impl Future<Output = T> + Send + 'static, on_panic: fn(Panic) -> T) -> Self {
        Self::Wait(Box::pin(Caught { future: Box::pin(future), on_panic }))
    }
}

/// A future whose panics become results.
struct Caught<T> {
    future: BoxFuture<'static, T>,
    on_panic: fn(Panic) -> T,
}

impl<T> Future for Caught<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        let on_panic = self.on_panic;
        catch(|| self.future.as_mut().poll(cx)).unwrap_or_else(|panic| Poll::Ready(on_panic(panic)))
    }
}

impl<T: 'static> Op<T> {
    /// Changes the result, now or when it comes.
    pub fn map<U>(self, change: impl FnOnce(T) -> U + Send + 'static) -> Op<U> {
        match self {
            Self::Ready(value) => Op::Ready(change(value)),
            Self::Wait(future) => Op::Wait(Box::pin(async move { change(future.await) })),
        }
    }
}

impl<T> IntoFuture for Op<T> {
    type Output = T;
    type IntoFuture = Finish<T>;

    fn into_future(self) -> Finish<T> {
        Finish(Some(self))
    }
}

/// An [`Op`] being awaited. It gives its result once; after that it stays pending, and [`Finish::is_terminated`] says
/// so.
#[derive(Debug)]
pub struct Finish<T>(Option<Op<T>>);

impl<T> Finish<T> {
    /// Returns whether the result was taken, so that polling again is useless.
    pub fn is_terminated(&self) -> bool {
        self.0.is_none()
    }
}

impl<T> Unpin for Finish<T> {}

impl<T> Future for Finish<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        match self.0.take() {
            Some(Op::Ready(value)) => Poll::Ready(value),
            Some(Op::Wait(mut future)) => {
                let poll = future.as_mut().poll(cx);
                if poll.is_pending() {
                    self.0 = Some(Op::Wait(future));
                }
                poll
            }
            // The result was moved out, and `T` has no value that could stand for an error.
            None => Poll::Pending,
        }
    }
}

/// Work that runs, or waits to run, on a thread for blocking work. Dropped before it has begun, it never runs, so
/// that work without a waiter does not queue up for threads.
#[derive(Debug)]
pub(crate) struct OnThread<T>(JoinHandle<T>);

impl<T: Send + 'static> OnThread<T> {
    /// Has `body` run on a thread of `runtime` for whatever may block.
    pub(crate) fn new(runtime: &Handle, body: impl FnOnce() -> T + Send + 'static) -> Self {
        Self(runtime.spawn_blocking(body))
    }
}

impl<T> Future for OnThread<T> {
    type Output = Result<T, JoinError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(cx)
    }
}

impl<T> Drop for OnThread<T> {
    fn drop(&mut self) {
        // What has begun is not stopped by this.
        self.0.abort();
    }
}

/// Waits for all of some futures at once.
pub(crate) async fn all<T>(futures: impl IntoIterator<Item = impl Future<Output = T>>) -> Vec<T> {
    let mut waiting: Vec<_> = futures.into_iter().map(|future| (Box::pin(future), None)).collect();
    std::future::poll_fn(|cx| {
        let mut is_ready = true;
        for (future, result) in &mut waiting {
            if result.is_none() {
                match future.as_mut().poll(cx) {
                    Poll::Ready(value) => *result = Some(value),
                    Poll::Pending => is_ready = false,
                }
            }
        }
        if is_ready { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    waiting.into_iter().filter_map(|(_, result)| result).collect()
}

/// What a panic said.
#[derive(Debug)]
pub struct Panic(pub String);

impl Panic {
    /// Reads a panic's payload.
    pub fn from_payload(payload: &(dyn Any + Send)) -> Self {
        let text = payload
            .downcast_ref::<&str>()
            .map(|text| (*text).to_owned())
            .or_else(|| payload.downcast_ref::<String>().cloned());
        Self(text.unwrap_or_else(|| "a panic without a text".to_owned()))
    }
}

/// Runs `body`; a panic inside is caught.
pub fn catch<T>(body: impl FnOnce() -> T) -> Result<T, Panic> {
    // What the body shares with others is behind locks, whose poisoning is looked at there, or is dropped with it.
    catch_unwind(AssertUnwindSafe(body)).map_err(|payload| Panic::from_payload(&*payload))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(panic: Panic) -> String {
        panic.0
    }

    #[test]
    fn what_is_ready_at_once_never_waits() {
        assert!(matches!(Op::start(async { "now".to_owned() }, text), Op::Ready(now) if now == "now"));
    }

    #[test]
    fn fault_row_35_a_panic_becomes_a_result_now_and_later() {
        let op = Op::start(async { panic!("at {}", "once") }, text);
        assert!(matches!(op, Op::Ready(said) if said == "at once"));

        let mut polls = 0;
        let later = std::future::poll_fn(move |_| -> Poll<String> {
            polls += 1;
            if polls == 2 { panic!("later") } else { Poll::Pending }
        });
        let mut finish = Op::start(later, text).into_future();
        let cx = &mut Context::from_waker(Waker::noop());
        assert_eq!(Pin::new(&mut finish).poll(cx), Poll::Ready("later".to_owned()));
    }

    #[test]
    fn an_awaited_operation_knows_when_its_result_was_taken() {
        let cx = &mut Context::from_waker(Waker::noop());
        let mut finish = Op::Ready(7).into_future();
        assert!(!finish.is_terminated());
        assert_eq!(Pin::new(&mut finish).poll(cx), Poll::Ready(7));
        assert!(finish.is_terminated() && Pin::new(&mut finish).poll(cx).is_pending());
        // A dropped sender ends the future below, and that ends this one.
        let (sender, receiver) = tokio::sync::oneshot::channel::<()>();
        let mut finish = Op::start(async { receiver.await.is_err() }, |_| false).into_future();
        assert!(Pin::new(&mut finish).poll(cx).is_pending() && !finish.is_terminated());
        drop(sender);
        assert_eq!(Pin::new(&mut finish).poll(cx), Poll::Ready(true));
    }

    #[test]
    fn all_are_waited_for_at_once_and_come_in_their_order() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let (one, first) = tokio::sync::oneshot::channel();
            let waiting = async move { first.await.unwrap() };
            let waking = async move {
                one.send(1).unwrap();
                2
            };
            let both: Vec<BoxFuture<'_, u32>> = vec![Box::pin(waiting), Box::pin(waking)];
            assert_eq!(all(both).await, [1, 2]);
        });
    }

    #[test]
    fn what_nobody_waits_for_does_not_queue_up_for_a_thread() {
        let runtime = tokio::runtime::Builder::new_current_thread().max_blocking_threads(1).build().unwrap();
        let (release, released) = std::sync::mpsc::sync_channel::<()>(0);
        let (note, ran) = std::sync::mpsc::sync_channel(3);
        let noting = |name| {
            let note = note.clone();
            move || note.send(name).unwrap()
        };
        let first = noting("first");
        let occupied = OnThread::new(runtime.handle(), move || {
            first();
            released.recv().unwrap();
        });
        assert_eq!(ran.recv(), Ok("first"));
        drop(OnThread::new(runtime.handle(), noting("dropped")));
        let last = OnThread::new(runtime.handle(), noting("last"));
        release.send(()).unwrap();
        runtime.block_on(async { (occupied.await.unwrap(), last.await.unwrap()) });
        assert_eq!((ran.recv(), ran.try_recv().is_err()), (Ok("last"), true));
    }
}
