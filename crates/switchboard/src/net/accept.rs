//! Accepting on the control plane: wherever there is a handshake to wait for, or HTTP to speak.

use std::fs::File;
use std::future::Future;
use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use switchboard_proto::face::Remote;
use switchboard_proto::peer::PeerKind;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_rustls::TlsAcceptor;

use crate::http_connection::linger;
use crate::hub::mail::Adopted;
use crate::worker::{AcceptRate, Loads};

use super::certificates::Certificates;
use super::hand_over::{HandOver, Stream};
use super::http::{Front, overloaded};
use super::listen::Bound;

/// What all listeners of the control plane share.
#[derive(Debug)]
pub(crate) struct Entrance {
    /// `limits.max_connections`.
    pub(crate) max_connections: usize,
    pub(crate) accept_rate: Arc<AcceptRate>,
    pub(crate) started: Instant,
    /// `limits.tls_handshake_timeout`; zero for none.
    pub(crate) handshake_timeout: Duration,
    /// Connections that are told why they are refused, at the same time.
    pub(crate) refusals: Semaphore,
    pub(crate) hand_over: HandOver,
}

impl Entrance {
    /// Most connections that are told why they are refused, at the same time; more are closed without a word.
    pub(crate) const REFUSALS: usize = 256;
    /// How long a refused client is given to read why.
    const REFUSAL_TIME: Duration = Duration::from_secs(1);

    fn loads(&self) -> &Loads {
        &self.hand_over.loads
    }

    fn is_full(&self, remote: Remote) -> bool {
        let is_full = self.loads().total() >= self.max_connections;
        if is_full {
            tracing::debug!(%remote, limit = self.max_connections, "too many connections");
        }
        is_full
    }

    fn may_come(&self, remote: Remote) -> bool {
        let elapsed_ms = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        let may_come = self.accept_rate.allows(remote, elapsed_ms);
        if !may_come {
            tracing::debug!(%remote, "too many connections from one address in a second");
        }
        may_come
    }

    /// Says why, if there is time for it.
    async fn refuse(&self, mut stream: impl Stream, why: &[u8]) {
        let Ok(_permit) = self.refusals.try_acquire() else { return };
        let told = async {
            if stream.write_all(why).await.is_ok() {
                Box::pin(linger(stream)).await;
            }
        };
        // Whoever floods us is not waited for.
        let _ = tokio::time::timeout(Self::REFUSAL_TIME, told).await;
    }
}

/// One of the connections that speak HTTP; it counts until it is dropped.
#[derive(Debug)]
pub(super) struct Seat(Arc<Loads>);

impl Seat {
    fn take(loads: &Arc<Loads>) -> Self {
        loads.http().fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(loads))
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.http().fetch_sub(1, Ordering::Relaxed);
    }
}

/// What an accepted connection becomes.
#[derive(Clone, Debug)]
pub(crate) enum Becomes {
    /// A worker's, at once.
    Peer(PeerKind),
    /// One that speaks HTTP.
    Http(Arc<Front>),
}

/// How far the end of the server is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    /// It is not in sight.
    Running,
    /// Nobody is accepted any more; what is under way goes on.
    Stopping,
    /// Whatever is left ends at once.
    Ended,
}

/// How far the end of the server is, for those who wait for something else. Whoever holds one is waited for.
#[derive(Clone, Debug)]
pub(crate) struct Stopping(pub(crate) watch::Receiver<Stage>);

impl Stopping {
    /// Whether it has begun.
    pub(super) fn has_begun(&self) -> bool {
        *self.0.borrow() >= Stage::Stopping
    }

    /// Waits until it begins. A server that is gone is stopping too.
    pub(super) async fn begins(&mut self) {
        drop(self.0.wait_for(|stage| *stage >= Stage::Stopping).await);
    }

    /// Runs `future` until it is done, or the server is.
    async fn at_most_until_the_end(mut self, future: impl Future<Output = ()>) {
        tokio::select! {
            () = future => {}
            _ = self.0.wait_for(|stage| *stage == Stage::Ended) => {}
        }
    }
}

/// Accepts connections, shakes hands where there is TLS, and passes on.
#[derive(Debug)]
pub(crate) struct Acceptor {
    pub(crate) entrance: Arc<Entrance>,
    pub(crate) certificates: Option<Arc<Certificates>>,
    /// `limits.tls_handshakes_max`: of this listener, because one place is taken while it waits.
    pub(crate) handshakes: Arc<Semaphore>,
    pub(crate) becomes: Becomes,
    pub(crate) stopping: Stopping,
}

enum Listening {
    Tcp(TcpListener),
    Unix(UnixListener),
}

enum Accepted {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Listening {
    async fn accept(&self) -> io::Result<(Accepted, Remote)> {
        match self {
            Self::Tcp(listener) => {
                listener.accept().await.map(|(stream, address)| (Accepted::Tcp(stream), address.into()))
            }
            Self::Unix(listener) => listener.accept().await.map(|(stream, _)| (Accepted::Unix(stream), Remote::Unix)),
        }
    }
}

impl Acceptor {
    /// How long accepting pauses when the process is out of file descriptors or memory.
    const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

    /// Runs until the server stops. What was accepted here has tasks of its own, which end with the server at the latest.
    ///
    /// # Errors
    ///
    /// When the listener cannot be used by the runtime.
    pub(crate) async fn run(self, bound: Bound) -> io::Result<()> {
        let listening = match bound {
            Bound::Tcp(listener) => Listening::Tcp(TcpListener::from_std(listener)?),
            Bound::Unix(listener) => Listening::Unix(UnixListener::from_std(listener)?),
        };
        let mut stopping = self.stopping.clone();
        let this = Arc::new(self);
        tokio::select! {
            () = this.accept_all(&listening) => {}
            () = stopping.begins() => {}
        }
        Ok(())
    }

    async fn accept_all(self: &Arc<Self>, listening: &Listening) {
        let mut spare = Spare::default();
        let mut told = false;
        loop {
            // Taken before accepting: who has to wait waits in the kernel.
            let permit = match self.certificates {
                Some(_) => Arc::clone(&self.handshakes).acquire_owned().await.ok(),
                None => None,
            };
            match listening.accept().await {
                Ok((Accepted::Tcp(stream), remote)) => {
                    told = false;
                    let admitted = Arc::clone(self).admit(stream, remote, permit);
                    tokio::spawn(self.stopping.clone().at_most_until_the_end(admitted));
                }
                Ok((Accepted::Unix(stream), remote)) => {
                    told = false;
                    let admitted = Arc::clone(self).admit(stream, remote, permit);
                    tokio::spawn(self.stopping.clone().at_most_until_the_end(admitted));
                }
                // The client went away while it waited.
                Err(error) if matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::Interrupted) => {}
                Err(error) => {
                    if !std::mem::replace(&mut told, true) {
                        tracing::warn!(
                            %error, retry_ms = Self::ACCEPT_PAUSE.as_millis(),
                            "accepting failed; new connections wait in the kernel, existing ones go on"
                        );
                    }
                    if let (Listening::Tcp(listener), Becomes::Http(_), None) = (listening, &self.becomes, &permit) {
                        spare.tell_one(listener);
                    }
                    tokio::time::sleep(Self::ACCEPT_PAUSE).await;
                }
            }
        }
    }

    async fn admit<S: Stream>(self: Arc<Self>, stream: S, remote: Remote, permit: Option<OwnedSemaphorePermit>) {
        if !self.entrance.may_come(remote) {
            return;
        }
        match &self.certificates {
            None => self.pass_on(stream, remote).await,
            // On the heap, so that a connection without TLS has no place for it.
            Some(certificates) => Box::pin(self.shake_hands(certificates, stream, remote, permit)).await,
        }
    }

    async fn shake_hands(
        &self,
        certificates: &Certificates,
        stream: impl Stream,
        remote: Remote,
        permit: Option<OwnedSemaphorePermit>,
    ) {
        let mut stopping = self.stopping.clone();
        let handshake = TlsAcceptor::from(certificates.current()).accept(stream);
        let shaken = tokio::select! {
            shaken = within(self.entrance.handshake_timeout, handshake) => shaken,
            () = stopping.begins() => return,
        };
        drop(permit);
        match shaken {
            Some(Ok(stream)) => self.pass_on(stream, remote).await,
            Some(Err(error)) => tracing::debug!(%remote, %error, "a TLS handshake failed"),
            None => tracing::debug!(%remote, "a TLS handshake took too long"),
        }
    }

    /// Looked at only now, because others may have been quicker during the handshake, and because without one nothing can be
    /// said inside TLS.
    async fn pass_on<S: Stream>(&self, stream: S, remote: Remote) {
        let entrance = &self.entrance;
        match &self.becomes {
            Becomes::Peer(_) if entrance.is_full(remote) => {
                let why = b"{\"error\":\"too many connections, try again later\",\"context\":\"api\"}\r\n";
                Box::pin(entrance.refuse(stream, why)).await;
            }
            Becomes::Peer(kind) => match stream.take_apart() {
                Ok((socket, tls)) => {
                    let (kind, received) = (kind.clone(), Vec::new());
                    let (id, fingerprint, admission) = (entrance.loads().new_id(), None, None);
                    let adopted = Adopted { socket, tls, received, kind, id, fingerprint, remote, admission };
                    entrance.hand_over.give(adopted).await;
                }
                Err(error) => tracing::warn!(%error, "a socket could not be handed over"),
            },
            Becomes::Http(front) => {
                let is_full = entrance.is_full(remote)
                    || entrance.loads().http().load(Ordering::Relaxed) >= front.max_connections();
                if is_full {
                    return Box::pin(entrance.refuse(stream, overloaded().as_bytes())).await;
                }
                let seat = Seat::take(&entrance.hand_over.loads);
                front.serve(stream, remote, self.certificates.is_some(), self.stopping.clone(), seat).await;
            }
        }
    }
}

/// `None` when it took longer than `time`; zero is no limit.
pub(super) async fn within<T>(time: Duration, future: impl Future<Output = T>) -> Option<T> {
    if time.is_zero() { Some(future.await) } else { tokio::time::timeout(time, future).await.ok() }
}

/// A file descriptor that is kept for the moment when there is no other.
#[derive(Debug)]
struct Spare(Option<File>);

impl Default for Spare {
    fn default() -> Self {
        Self(File::open("/dev/null").ok())
    }
}

impl Spare {
    /// Accepts one more connection in place of the spare file, tells it that there is no room, and closes it.
    fn tell_one(&mut self, listener: &TcpListener) {
        self.0 = None;
        // Nobody is woken by this: whoever waits for the listener asks it again.
        if let Poll::Ready(Ok((stream, _))) = listener.poll_accept(&mut Context::from_waker(Waker::noop())) {
            // One attempt, which a new socket's empty buffer takes.
            let _ = stream.try_write(overloaded().as_bytes());
        }
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn future_bytes<A, B, C, D, F>(_: impl FnOnce(A, B, C, D) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn what_a_connection_occupies_while_it_is_let_in_is_known() {
        let bytes = future_bytes(Acceptor::admit::<TcpStream>);
        assert!(bytes <= 2048, "{bytes}");
    }
}
