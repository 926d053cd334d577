//! The public folder over HTTP.

use std::io::{self, ErrorKind};
use std::ops::Range;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::header::{self, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use switchboard_proto::actionhero::file_not_found;
use switchboard_proto::call::Content;

use crate::node::Node;
use crate::op::BoxFuture;

use super::Front;
use super::answer::{Answer, POWERED_BY, empty, insert, respond};
use super::assets;
use super::conditions::{Version, Wanted, wanted};
use super::params::decode;
use super::session::Session;
use super::visit::{Page, Visit};

const METHODS: &str = "GET, HEAD, OPTIONS";
/// The request headers that matter here, for pages of other hosts.
const READ: &str = "Content-Type, If-Modified-Since, If-None-Match, If-Range, Range";

impl Visit {
    /// Answers a request for a file.
    pub(super) async fn file(self: Arc<Self>, request: Request<Incoming>, page: Page) -> Response<Answer> {
        match *request.method() {
            Method::GET | Method::HEAD => {}
            Method::OPTIONS => return self.options(METHODS, READ, &page),
            _ => return self.not_allowed(METHODS),
        }
        let mut response = match public_name(request.uri().path()) {
            Some(name) => self.send(name, &request).await,
            None => self.not_found(),
        };
        let headers = response.headers_mut();
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        headers.insert(POWERED_BY, HeaderValue::from_static(Front::NAME));
        if Session::of(request.headers()).keep(headers, self.secure) && headers.contains_key(header::CACHE_CONTROL) {
            // A store that many share would give one browser's cookie to all.
            headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("max-age=60, private"));
        }
        self.allow_origin(&mut response, &page);
        response
    }

    async fn send(&self, name: String, request: &Request<Incoming>) -> Response<Answer> {
        let node = &self.front.node;
        let asset = assets::find(&name);
        if let Some(content) = node.open_public(if name.is_empty() { "/".to_owned() } else { name }).await {
            let length = content.length();
            let version = Version::of_file(length, content.modified_ms());
            let content_type = content_type(content.media_type());
            return answer(request, &version, content_type, length, |range| {
                Answer::File(Box::new(FileBody { node: node.clone(), content, range, reading: None }))
            });
        }
        let Some(asset) = asset else { return self.not_found() };
        if asset.is_page && !node.has_no_public_folder().await {
            return self.not_found();
        }
        let length = asset.content.len() as u64;
        answer(request, &asset.version, asset.content_type.clone(), length, |range| {
            // A range of what is in memory.
            Answer::Bytes(Bytes::from_static(&asset.content[range.start as usize..range.end as usize]))
        })
    }

    fn not_found(&self) -> Response<Answer> {
        let html = HeaderValue::from_static("text/html; charset=utf-8");
        respond(StatusCode::NOT_FOUND, html, file_not_found(self.front.settings.compat))
    }
}

/// The name below the public folder that a path stands for.
///
/// A path that two servers may resolve differently stands for none: with dots for a folder, empty parts, or parts that hold what
/// separates parts. A proxy in front may have rules for paths.
fn public_name(path: &str) -> Option<String> {
    let path = path.strip_prefix('/')?;
    let mut name = String::with_capacity(path.len());
    let mut parts = path.split('/').peekable();
    while let Some(part) = parts.next() {
        let part = decode(part, false)?;
        let is_last = parts.peek().is_none();
        if matches!(part.as_str(), "." | "..") || part.contains(['/', '\\', '\0']) || (part.is_empty() && !is_last) {
            return None;
        }
        name.push_str(&part);
        if !is_last {
            name.push('/');
        }
    }
    Some(name.strip_prefix("public/").map(str::to_owned).unwrap_or(name))
}

/// Texts are UTF-8 here.
fn content_type(media_type: &str) -> HeaderValue {
    let is_text = media_type.starts_with("text/") && !media_type.contains(';');
    let value = if is_text { format!("{media_type}; charset=utf-8") } else { media_type.to_owned() };
    HeaderValue::try_from(value).unwrap_or(HeaderValue::from_static("application/octet-stream"))
}

/// The response for a file or an asset: all of it, a part, or nothing.
fn answer(
    request: &Request<Incoming>,
    version: &Version,
    content_type: HeaderValue,
    length: u64,
    body: impl FnOnce(Range<u64>) -> Answer,
) -> Response<Answer> {
    let mut response = match wanted(request.method(), request.headers(), version, length) {
        Wanted::NotModified => empty(StatusCode::NOT_MODIFIED),
        Wanted::Unsatisfiable => {
            let mut response = empty(StatusCode::RANGE_NOT_SATISFIABLE);
            insert(response.headers_mut(), header::CONTENT_RANGE, format!("bytes */{length}"));
            return response;
        }
        Wanted::Whole => {
            let mut response = Response::new(body(0..length));
            response.headers_mut().insert(header::CONTENT_TYPE, content_type);
            response
        }
        Wanted::Part(range) => {
            let shown = format!("bytes {}-{}/{length}", range.start, range.end - 1);
            let mut response = Response::new(body(range));
            *response.status_mut() = StatusCode::PARTIAL_CONTENT;
            response.headers_mut().insert(header::CONTENT_TYPE, content_type);
            insert(response.headers_mut(), header::CONTENT_RANGE, shown);
            response
        }
    };
    let headers = response.headers_mut();
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("max-age=60"));
    insert(headers, header::ETAG, version.tag.clone());
    if let Some(modified) = version.modified {
        insert(headers, header::LAST_MODIFIED, httpdate::fmt_http_date(modified));
    }
    response
}

/// A part of a file that is read while it is sent, one piece at a time.
pub(super) struct FileBody {
    node: Node,
    content: Arc<dyn Content>,
    /// What is still to be read.
    range: Range<u64>,
    reading: Option<BoxFuture<'static, io::Result<Vec<u8>>>>,
}

impl std::fmt::Debug for FileBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FileBody").field("range", &self.range).finish_non_exhaustive()
    }
}

impl FileBody {
    /// How many bytes are still to come.
    pub(super) fn left(&self) -> u64 {
        self.range.end - self.range.start
    }

    /// The next piece. An error cuts the connection: its client was promised more.
    pub(super) fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        if self.left() == 0 {
            return Poll::Ready(None);
        }
        let (node, content, range) = (&self.node, &self.content, &self.range);
        let reading = self.reading.get_or_insert_with(|| node.read_public(Arc::clone(content), range.start, range.end));
        let piece = ready!(reading.as_mut().poll(cx));
        self.reading = None;
        Poll::Ready(Some(match piece {
            Ok(piece) if piece.is_empty() => Err(ErrorKind::UnexpectedEof.into()),
            Ok(piece) => {
                self.range.start += piece.len() as u64;
                Ok(piece.into())
            }
            Err(error) => Err(error),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fault_row_9_a_path_stands_for_one_name_or_for_none() {
        for (path, expected) in [
            ("/", Some("")),
            ("/a.txt", Some("a.txt")),
            ("/sub/", Some("sub/")),
            ("/public/a.txt", Some("a.txt")),
            ("/public/", Some("")),
            ("/public", Some("public")),
            ("/a%20b%C3%A9", Some("a bé")),
            ("/a+b", Some("a+b")),
            ("/...", Some("...")),
            ("a", None),
            ("*", None),
            ("//a", None),
            ("/public//a", None),
            ("/a//b", None),
            ("/..", None),
            ("/a/../b", None),
            ("/./a", None),
            ("/%2e%2e/a", None),
            ("/.%2E/a", None),
            ("/a%2fb", None),
            ("/a%5cb", None),
            ("/..%2f..%2fetc%2fpasswd", None),
            ("/a%00", None),
            ("/a%", None),
            ("/a%zz", None),
            ("/%ff", None),
            ("/%c0%ae%c0%ae/a", None),
        ] {
            assert_eq!(public_name(path).as_deref(), expected, "{path}");
        }
    }
}
