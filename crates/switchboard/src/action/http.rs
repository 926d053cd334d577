//! HTTP as an action sees it.

use std::fmt;

use bytes::Bytes;
use hyper::Uri;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};

/// The HTTP request that asked for an action.
///
/// Its answer is shaped by the reply: [`Reply::with_status`], [`Reply::with_header`] and [`Reply::with_body`].
///
/// [`Reply::with_status`]: super::Reply::with_status
/// [`Reply::with_header`]: super::Reply::with_header
/// [`Reply::with_body`]: super::Reply::with_body
pub struct HttpRequest {
    pub(crate) method: hyper::Method,
    pub(crate) uri: Uri,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl HttpRequest {
    /// The method, in capital letters.
    pub fn method(&self) -> &str {
        self.method.as_str()
    }

    /// The path, percent-encoded as it arrived.
    pub fn path(&self) -> &str {
        self.uri.path()
    }

    /// The query without its question mark, percent-encoded as it arrived.
    pub fn query(&self) -> Option<&str> {
        self.uri.query()
    }

    /// The first header of this name, in any case. `None` when there is none, or when it is not visible ASCII.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// Every header in the order of arrival by name, names in lower case.
    pub fn headers(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes()))
    }

    /// The body, byte for byte as it arrived.
    pub fn body(&self) -> &Bytes {
        &self.body
    }
}

/// Prints no query, value or body: they may hold passwords, and debug output ends in logs.
impl fmt::Debug for HttpRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpRequest")
            .field("method", &self.method)
            .field("path", &self.path())
            .field("headers", &self.headers.keys().collect::<Vec<_>>())
            .field("body_bytes", &self.body.len())
            .finish()
    }
}

/// Reads a header that an action or a backend sets. Returns `None` when it is not well-formed, or when it frames the
/// message or controls the connection, which only the server may do.
pub(crate) fn response_header(name: &str, value: &str) -> Option<(HeaderName, HeaderValue)> {
    const OF_THE_SERVER: [&str; 8] = [
        "connection",
        "content-length",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    ];
    let name = HeaderName::try_from(name).ok()?;
    let value = HeaderValue::from_str(value).ok()?;
    (!OF_THE_SERVER.contains(&name.as_str())).then_some((name, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_that_frame_a_message_are_not_for_actions() {
        assert!(response_header("X-Id", "7").is_some());
        assert!(response_header("Content-Type", "text/plain").is_some());
        for (name, value) in [
            ("Content-Length", "0"),
            ("transfer-encoding", "chunked"),
            ("Connection", "close"),
            ("x y", "1"),
            ("", "1"),
            ("x", "a\r\nset-cookie: b"),
        ] {
            assert!(response_header(name, value).is_none(), "{name}");
        }
    }

    #[test]
    fn debug_output_shows_no_secret() {
        let mut headers = HeaderMap::new();
        headers.insert("authorization", HeaderValue::from_static("Bearer sesame"));
        let request = HttpRequest {
            method: hyper::Method::POST,
            uri: Uri::from_static("/api/hook?key=sesame"),
            headers,
            body: Bytes::from_static(b"sesame"),
        };
        let shown = format!("{request:?}");
        assert!(shown.contains("authorization") && !shown.contains("sesame"), "{shown}");
    }
}
