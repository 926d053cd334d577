//! From the control plane to a worker: a socket that was set up here belongs to a worker from then on.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rustls::ServerConnection;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::server::TlsStream;

use crate::hub::mail::{Adopted, Mail, Socket};
use crate::hub::mailbox::Mailbox;
use crate::worker::Loads;

/// A connection that the runtime drives, and that can be taken from it.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static {
    /// The socket, not blocking, and its TLS state, if it has any.
    ///
    /// # Errors
    ///
    /// Those of the system. The connection is lost then.
    fn take_apart(self) -> io::Result<(Socket, Option<Box<ServerConnection>>)>;
}

impl Stream for TcpStream {
    fn take_apart(self) -> io::Result<(Socket, Option<Box<ServerConnection>>)> {
        Ok((Socket::Tcp(self.into_std()?), None))
    }
}

impl Stream for UnixStream {
    fn take_apart(self) -> io::Result<(Socket, Option<Box<ServerConnection>>)> {
        Ok((Socket::Unix(self.into_std()?), None))
    }
}

impl<S: Stream> Stream for TlsStream<S> {
    fn take_apart(self) -> io::Result<(Socket, Option<Box<ServerConnection>>)> {
        let (stream, session) = self.into_inner();
        let (socket, _) = stream.take_apart()?;
        Ok((socket, Some(Box::new(session))))
    }
}

/// The way to the workers.
#[derive(Clone, Debug)]
pub(crate) struct HandOver {
    pub(crate) workers: Vec<Mailbox>,
    pub(crate) loads: Arc<Loads>,
}

impl HandOver {
    /// Gives a connection to the worker that has the fewest.
    pub(crate) async fn give(&self, adopted: Adopted) {
        let (worker, _) = self.loads.least();
        // Counted where it goes, or all that come before the worker looks would go there.
        self.loads.of(worker).fetch_add(1, Ordering::Relaxed);
        self.workers[worker].push(Mail::Adopt(Box::new(adopted))).await;
    }
}
