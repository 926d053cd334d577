//! A connection's bytes on their way to and from the HTTP parser: judged, and under deadlines.

use std::future::Future;
use std::io::{self, ErrorKind, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

use super::framing::{Framing, Phase, RejectedAt};

/// Longest waits for a client; zero: no limit.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadlines {
    /// For the rest of a head.
    pub(crate) head: Duration,
    /// For the rest of a body.
    pub(crate) body: Duration,
    /// For the first byte of the next request.
    pub(crate) idle: Duration,
    /// For room for more bytes of an answer.
    pub(crate) write: Duration,
}

/// A stream from which only sound requests can be read, each part of them in time.
///
/// Reading ends with [`ErrorKind::TimedOut`] when it takes too long, and with [`ErrorKind::InvalidData`] inside a body that is
/// not sound. In place of a head that is not sound comes something that every parser refuses, so that it answers with 400.
#[derive(Debug)]
pub(crate) struct Guarded<S> {
    stream: S,
    /// What was read before, and not yet passed on.
    received: Vec<u8>,
    taken: Duration,
    framing: Framing,
    deadlines: Deadlines,
    reading: Timer,
    writing: Timer,
    /// What the read deadline is for: a phase, and how many had ended when it began.
    awaited: Option<(Phase, u64)>,
    unsound: Option<Remains>,
    /// The peer takes no more at the moment.
    is_blocked: bool,
}

/// What is still to be read where a request is not sound.
#[derive(Clone, Copy, Debug)]
enum Remains {
    /// In a body: an error.
    Error,
    /// In a head: so much of [`REFUSED`].
    Head(&'static [u8]),
}

/// No token begins with NUL, and an empty line ends whatever head this stands in.
const REFUSED: &[u8] = b"\0\r\n\r\n";

impl<S> Guarded<S> {
    /// Zero would be for ever.
    const SOON: Duration = Duration::from_millis(1);

    /// `received` was read from the stream and has not been judged. The first head has had `taken` of its time.
    pub(crate) fn new(stream: S, received: Vec<u8>, taken: Duration, deadlines: Deadlines) -> Self {
        Self {
            stream,
            received,
            taken,
            framing: Framing::default(),
            deadlines,
            reading: Timer::default(),
            writing: Timer::default(),
            awaited: None,
            unsound: None,
            is_blocked: false,
        }
    }

    /// Whether something waits to be written.
    pub(crate) fn is_blocked(&self) -> bool {
        self.is_blocked
    }

    /// The stream, judged no more.
    pub(crate) fn into_inner(self) -> S {
        self.stream
    }

    /// Waits for the client, not for ever.
    fn wait(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The first request is awaited from the beginning, as if it had begun.
        let phase = match self.framing.phase() {
            Phase::Idle if self.framing.progress() == 0 => Phase::Head,
            phase => phase,
        };
        let time = match phase {
            Phase::Idle => self.deadlines.idle,
            Phase::Head if self.framing.progress() == 0 && !self.deadlines.head.is_zero() => {
                self.deadlines.head.saturating_sub(self.taken).max(Self::SOON)
            }
            Phase::Head => self.deadlines.head,
            Phase::Body => self.deadlines.body,
            // What comes next is read elsewhere, or nowhere.
            Phase::Over => Duration::ZERO,
        };
        let awaited = Some((phase, self.framing.progress()));
        if self.awaited != awaited {
            self.awaited = awaited;
            self.reading.set(time);
        }
        self.reading.poll(cx)
    }

    /// What is read in place of the part that is not sound.
    fn read_remains(remains: &mut Remains, buf: &mut ReadBuf<'_>) -> io::Result<()> {
        match remains {
            Remains::Error => Err(ErrorKind::InvalidData.into()),
            Remains::Head(rest) => {
                let (now, later) = rest.split_at(rest.len().min(buf.remaining()));
                buf.put_slice(now);
                *rest = later;
                Ok(())
            }
        }
    }

    fn wrote<T>(&mut self, cx: &mut Context<'_>, result: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        self.is_blocked = result.is_pending();
        if !self.is_blocked {
            self.writing = Timer::default();
            return result;
        }
        if !self.writing.is_set() {
            self.writing.set(self.deadlines.write);
        }
        ready!(self.writing.poll(cx))?;
        Poll::Pending
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Guarded<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if let Some(remains) = &mut this.unsound {
            return Poll::Ready(Self::read_remains(remains, buf));
        }
        let before = buf.filled().len();
        if !this.received.is_empty() {
            let now = this.received.len().min(buf.remaining());
            buf.put_slice(&this.received[..now]);
            this.received.drain(..now);
        } else if Pin::new(&mut this.stream).poll_read(cx, buf)?.is_pending() {
            return this.wait(cx);
        }
        if let Err(RejectedAt(sound)) = this.framing.check(&buf.filled()[before..]) {
            buf.set_filled(before + sound);
            let remains = match this.framing.phase() {
                Phase::Idle | Phase::Head => Remains::Head(REFUSED),
                Phase::Body | Phase::Over => Remains::Error,
            };
            let remains = this.unsound.insert(remains);
            if sound == 0 {
                return Poll::Ready(Self::read_remains(remains, buf));
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Guarded<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write(cx, bytes);
        this.wrote(cx, written)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write_vectored(cx, slices);
        this.wrote(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let flushed = Pin::new(&mut this.stream).poll_flush(cx);
        this.wrote(cx, flushed)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

/// A deadline that costs nothing until somebody waits.
#[derive(Debug, Default)]
struct Timer(Option<Pin<Box<Sleep>>>);

impl Timer {
    fn is_set(&self) -> bool {
        self.0.is_some()
    }

    fn set(&mut self, time: Duration) {
        match &mut self.0 {
            _ if time.is_zero() => self.0 = None,
            Some(sleep) => sleep.as_mut().reset(Instant::now() + time),
            None => self.0 = Some(Box::pin(sleep(time))),
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.0 {
            Some(sleep) => sleep.as_mut().poll(cx).map(|()| Err(ErrorKind::TimedOut.into())),
            None => Poll::Pending,
        }
    }
}
