//! The usual request for a WebSocket, answered in front of all that speaks HTTP.
//!
//! Most connections that stay begin with one request that comes in one piece. For such a one nothing of an HTTP connection
//! (its buffers, its state, its timers) is made. What is decided is decided in one place: see [`Visit`](super::visit::Visit).
//! Whatever is not that request goes the long way, with what was read of it.

use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Poll, ready};

use bytes::Bytes;
use http_body_util::Empty;
use hyper::header::{HeaderName, HeaderValue};
use hyper::{Method, Request, Response, StatusCode, Uri, Version};
use tokio::io::{AsyncWriteExt, ReadBuf};

use crate::http_connection::framing::Framing;
use crate::net::hand_over::Stream;

use super::answer::Answer;

/// Most bytes of a request that are looked at here.
const MOST_BYTES: usize = 4096;
/// Most headers of it.
const MOST_HEADERS: usize = 48;

/// What the first read brings. Nothing is kept of the place that it is read into.
pub(super) async fn first_bytes(stream: &mut impl Stream) -> io::Result<Vec<u8>> {
    poll_fn(|cx| {
        let mut place = [MaybeUninit::uninit(); MOST_BYTES];
        let mut buf = ReadBuf::uninit(&mut place);
        ready!(Pin::new(&mut *stream).poll_read(cx, &mut buf))?;
        Poll::Ready(Ok(buf.filled().to_vec()))
    })
    .await
}

/// A whole, sound request for another protocol at the front of `received`, and where it ends.
pub(super) fn whole_upgrade(received: &[u8]) -> Option<(Request<Empty<Bytes>>, usize)> {
    let mut framing = Framing::default();
    framing.check(received).ok()?;
    if !framing.is_upgrade() {
        return None;
    }
    let mut headers = [httparse::EMPTY_HEADER; MOST_HEADERS];
    let mut head = httparse::Request::new(&mut headers);
    let Ok(httparse::Status::Complete(end)) = head.parse(received) else { return None };
    if head.version != Some(1) {
        return None;
    }
    let mut request = Request::new(Empty::new());
    *request.method_mut() = Method::from_bytes(head.method?.as_bytes()).ok()?;
    *request.uri_mut() = Uri::try_from(head.path?).ok()?;
    *request.version_mut() = Version::HTTP_11;
    request.headers_mut().reserve(head.headers.len());
    for header in head.headers.iter() {
        let name = HeaderName::from_bytes(header.name.as_bytes()).ok()?;
        request.headers_mut().append(name, HeaderValue::from_bytes(header.value).ok()?);
    }
    Some((request, end))
}

/// Writes a response: a 101, or the last of a connection that closes behind it.
pub(super) async fn send(stream: &mut impl Stream, response: Response<Answer>) -> io::Result<()> {
    let bytes = written(response);
    stream.write_all(&bytes).await?;
    stream.flush().await
}

fn written(response: Response<Answer>) -> Vec<u8> {
    let (head, body) = response.into_parts();
    let mut bytes = Vec::with_capacity(256);
    let reason = head.status.canonical_reason().unwrap_or_default();
    bytes.extend_from_slice(format!("HTTP/1.1 {} {reason}\r\n", head.status.as_str()).as_bytes());
    let mut line = |name: &[u8], value: &[u8]| {
        for part in [name, b": ", value, b"\r\n"] {
            bytes.extend_from_slice(part);
        }
    };
    for (name, value) in &head.headers {
        line(name.as_str().as_bytes(), value.as_bytes());
    }
    if head.status != StatusCode::SWITCHING_PROTOCOLS {
        // What is answered here is text that is there already.
        let Answer::Bytes(body) = body else { return Vec::new() };
        line(b"content-length", body.len().to_string().as_bytes());
        bytes.extend_from_slice(b"\r\n");
        bytes.extend_from_slice(&body);
    } else {
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}
