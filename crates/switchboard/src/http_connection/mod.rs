//! Connections that speak HTTP/1: shared by the web listener and the admin listener.
//!
//! [`framing`] passes only requests that two readers cannot read differently, [`guard`] puts every wait for a client
//! under a deadline, and [`body`] reads a body up to its limit. hyper does the rest.

pub(crate) mod body;
pub(crate) mod framing;
pub(crate) mod guard;

use std::error::Error;
use std::future::poll_fn;
use std::io::{self, ErrorKind};
use std::time::Duration;

use hyper::body::{Body, Incoming};
use hyper::header::{self, HeaderValue};
use hyper::server::conn::http1::{Builder, Parts};
use hyper::service::HttpService;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use guard::Guarded;

/// hyper's settings for connections with these limits.
pub(crate) fn builder(max_headers: usize, max_header_bytes: usize) -> Builder {
    /// hyper accepts no smaller buffer.
    const SMALLEST_BUFFER: usize = 8 * 1024;
    let mut builder = Builder::new();
    builder
        .max_headers(max_headers)
        .max_header_size(max_header_bytes)
        .max_buf_size(max_header_bytes.max(SMALLEST_BUFFER));
    builder
}

/// Answers requests until the connection ends. After `stop` only the request under way is answered.
///
/// Returns the parts without closing the socket, so that the caller can hand it over or end it with [`close`].
pub(crate) async fn serve<S, V>(
    builder: &Builder,
    stream: Guarded<S>,
    service: V,
    stop: impl Future,
) -> (hyper::Result<()>, Parts<TokioIo<Guarded<S>>, V>)
where
    S: AsyncRead + AsyncWrite + Unpin,
    V: HttpService<Incoming, Future: Unpin> + Unpin,
    V::Error: Into<Box<dyn Error + Send + Sync>>,
    V::ResBody: 'static,
    <V::ResBody as Body>::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let mut connection = builder.serve_connection(TokioIo::new(stream), service);
    let ended = tokio::select! {
        ended = poll_fn(|cx| connection.poll_without_shutdown(cx)) => ended,
        _ = stop => {
            std::pin::Pin::new(&mut connection).graceful_shutdown();
            poll_fn(|cx| connection.poll_without_shutdown(cx)).await
        }
    };
    (ended, connection.into_parts())
}

/// Closes a connection on which [`serve`] has ended. A client that missed a deadline is cut; any other has time to read
/// the last answer.
pub(crate) async fn close(stream: impl AsyncRead + AsyncWrite + Unpin, ended: &hyper::Result<()>) {
    if !ended.as_ref().is_err_and(|error| is_late(error)) {
        linger(stream).await;
    }
}

/// Closes the server's side, then reads until the client closes its own side, for a limited time. The kernel drops
/// answers that the client has not read when a socket is closed with unread bytes.
pub(crate) async fn linger(mut stream: impl AsyncRead + AsyncWrite + Unpin) {
    /// Enough for a client that stops when it sees the end.
    const LONGEST: Duration = Duration::from_secs(1);
    /// A client that sends more is not about to stop.
    const MOST_BYTES: usize = 256 * 1024;
    let closing = async {
        stream.shutdown().await?;
        let mut unread = [0; 4096];
        let mut left = MOST_BYTES;
        loop {
            match stream.read(&mut unread).await? {
                0 => return io::Result::Ok(()),
                count => left = left.checked_sub(count).ok_or(ErrorKind::InvalidData)?,
            }
        }
    };
    let _ = tokio::time::timeout(LONGEST, closing).await;
}

/// Returns `true` if bytes after this request need not be HTTP, and are not checked by [`framing`]: its answer must be
/// the [`last`] one.
pub(crate) fn is_last<B>(request: &Request<B>) -> bool {
    request.headers().contains_key(header::UPGRADE) || request.method() == Method::CONNECT
}

/// Ends the connection after this response.
pub(crate) fn last<B>(mut response: Response<B>) -> Response<B> {
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

/// Returns whether a client missed a deadline: the cause of the error is a timeout of [`guard`] or of hyper.
fn is_late(error: &(dyn Error + 'static)) -> bool {
    std::iter::successors(Some(error), |&error| error.source()).any(|cause| {
        cause.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == ErrorKind::TimedOut)
            || cause.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_timeout)
    })
}
