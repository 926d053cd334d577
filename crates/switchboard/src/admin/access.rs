//! Who may use the API: the token, wrong attempts, and pages in browsers.
//!
//! A token counts in the header `Authorization` and nowhere else. There are no cookies and no CORS headers, and a request
//! that a page of another host makes a browser send is refused, so a browser cannot be turned against the API.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, CACHE_CONTROL, HOST, ORIGIN, X_CONTENT_TYPE_OPTIONS};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderValue, Method, Version};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};

use crate::config::Secret;
use crate::http_connection::last;
use crate::proto::origin;

use super::answer::{ApiError, Code};
use super::{Remote, Shared};

/// Compares tokens in constant time, and keeps none: only its keyed hash, under a key that this start has drawn.
pub(super) struct TokenCheck {
    key: hmac::Key,
    expected: hmac::Tag,
}

impl TokenCheck {
    /// Bytes of a token that is made here.
    const RANDOM_BYTES: usize = 32;

    /// Checks for this token; without one, for a random one that is written to the log here and nowhere else.
    pub(super) fn new(token: &Secret) -> io::Result<Self> {
        let random = SystemRandom::new();
        let no_random = |_| io::Error::other("the system gives no random bytes");
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &random).map_err(no_random)?;
        if !token.is_set() {
            let mut bytes = [0; Self::RANDOM_BYTES];
            random.fill(&mut bytes).map_err(no_random)?;
            let token: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            tracing::warn!(token, "admin.token is not set: the admin API takes this one until the server ends");
            return Ok(Self { expected: hmac::sign(&key, token.as_bytes()), key });
        }
        Ok(Self { expected: hmac::sign(&key, token.reveal().as_bytes()), key })
    }

    fn is(&self, presented: &[u8]) -> bool {
        hmac::verify(&self.key, presented, self.expected.as_ref()).is_ok()
    }

    /// Whether the headers present the token: exactly one `Authorization` of the scheme `Bearer`.
    fn is_presented(&self, headers: &HeaderMap) -> bool {
        let mut all = headers.get_all(AUTHORIZATION).iter();
        let (Some(only), None) = (all.next(), all.next()) else { return false };
        let Some((scheme, token)) = only.as_bytes().split_at_checked(SCHEME.len()) else { return false };
        scheme.eq_ignore_ascii_case(SCHEME) && self.is(token.trim_ascii_start())
    }
}

const SCHEME: &[u8] = b"Bearer ";

/// What probes may ask without a token.
const OPEN: [&str; 2] = ["/livez", "/readyz"];

/// Whether a request presented the token; without one only probes come as far as their handler.
#[derive(Clone, Copy, Debug)]
pub(super) struct IsOperator(pub(super) bool);

/// Stands around all routes, those that do not exist included: nobody finds out without the token what there is.
pub(super) async fn guard(State(shared): State<Arc<Shared>>, mut request: Request, next: Next) -> Response {
    let remote = request.extensions().get::<Remote>().copied();
    let (method, uri) = (request.method().clone(), request.uri().clone());
    let mut response = match admit(&shared, &mut request, remote) {
        Ok(()) => next.run(request).await,
        Err(error) => last(error.into_response()),
    };
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));

    let status = response.status().as_u16();
    let class = usize::from(status / 100).saturating_sub(2).min(shared.counters.requests.len() - 1);
    shared.counters.requests[class].fetch_add(1, Ordering::Relaxed);
    let remote = remote.map(|Remote(address)| address.to_string()).unwrap_or_default();
    let path = shown(uri.path());
    if matches!(method, Method::GET | Method::HEAD) || status >= 400 {
        tracing::debug!(%remote, %method, %path, status, "admin API asked");
    } else {
        tracing::info!(%remote, %method, %path, status, "admin API used");
    }
    response
}

/// A path as the log shows it: cut, and without control characters, which may stand in it as they are.
fn shown(path: &str) -> String {
    const MOST_CHARS: usize = 256;
    path.chars().take(MOST_CHARS).flat_map(char::escape_debug).collect()
}

fn admit(shared: &Shared, request: &mut Request, remote: Option<Remote>) -> Result<(), ApiError> {
    let hosts = request.headers().get_all(HOST).iter().map(HeaderValue::as_bytes);
    let target = request.uri().authority().map(Authority::as_str);
    origin::requested_host(hosts, target, request.version() != Version::HTTP_11)
        .map_err(|error| Code::InvalidRequest.with(error.to_string()))?;
    if !is_same_origin(request.headers()) {
        return Err(Code::OriginNotAllowed.with("requests of a page of another host are refused"));
    }
    let address = remote.map(|Remote(address)| address.ip().to_canonical());
    let now_ms = u64::try_from(shared.started.elapsed().as_millis()).unwrap_or(u64::MAX);
    let is_over = address.is_some_and(|address| shared.failures.retry_ms(address, now_ms).is_some());
    // A token is cheap to check, so the right one is never refused for wrong ones before it.
    let is_operator = shared.token.is_presented(request.headers());
    // A probe whose token is out of date still learns what anybody may know.
    let is_open = OPEN.contains(&request.uri().path());
    // A request without a token guesses nothing, and pages in the operator's own browser can send such requests.
    let is_attempt = request.headers().contains_key(AUTHORIZATION);
    let is_limited = is_over && is_attempt;
    if (is_attempt || !is_open) && !is_operator && !is_limited {
        shared.counters.unauthenticated.fetch_add(1, Ordering::Relaxed);
        if let Some(address) = address.filter(|address| is_attempt && shared.failures.note(*address, now_ms)) {
            tracing::warn!(%address, "admin API: many requests with a wrong token");
        }
    }
    if is_operator || is_open {
        request.extensions_mut().insert(IsOperator(is_operator));
        Ok(())
    } else if is_limited {
        Err(Code::RateLimited.with("too many requests with a wrong token: wait a second"))
    } else {
        // One text for whatever was wrong: it tells nothing to who tries.
        Err(Code::Unauthenticated.with("the header Authorization: Bearer TOKEN with the right token is needed"))
    }
}

/// Whether the request comes from no page of a browser, or from one of this very host.
fn is_same_origin(headers: &HeaderMap) -> bool {
    // Browsers send no `Origin` with an image or a link.
    if headers.get_all("sec-fetch-site").iter().any(|site| site == "cross-site" || site == "same-site") {
        return false;
    }
    let host = headers.get(HOST).map(HeaderValue::as_bytes);
    headers.get_all(ORIGIN).iter().all(|origin| {
        let origin = origin.as_bytes();
        let authority = [&b"http://"[..], b"https://"].into_iter().find_map(|scheme| origin.strip_prefix(scheme));
        authority.is_some_and(|authority| host.is_some_and(|host| authority.eq_ignore_ascii_case(host)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn fault_row_21_only_the_whole_token_in_one_bearer_header_counts() {
        let check = TokenCheck::new(&Secret::new("correct-horse-battery")).unwrap();
        for good in ["Bearer correct-horse-battery", "bearer correct-horse-battery", "BEARER   correct-horse-battery"] {
            assert!(check.is_presented(&headers(&[("authorization", good)])), "{good}");
        }
        for bad in [
            "",
            "Bearer",
            "Bearer ",
            "correct-horse-battery",
            "Basic correct-horse-battery",
            "Bearercorrect-horse-battery",
            "Bearer correct-horse-batter",
            "Bearer correct-horse-battery2",
            "Bearer Correct-horse-battery",
            "Bearer \"correct-horse-battery\"",
        ] {
            assert!(!check.is_presented(&headers(&[("authorization", bad)])), "{bad}");
        }
        let right = ("authorization", "Bearer correct-horse-battery");
        assert!(!check.is_presented(&headers(&[right, right])));
        assert!(
            !check.is_presented(&headers(&[("x-authorization", right.1), ("cookie", "token=correct-horse-battery")]))
        );
    }

    #[test]
    fn without_a_token_a_random_one_is_made_and_the_empty_one_is_not_it() {
        let check = TokenCheck::new(&Secret::default()).unwrap();
        assert!(!check.is(b""));
        assert!(!check.is_presented(&headers(&[("authorization", "Bearer ")])));
    }

    #[test]
    fn fault_row_21_pages_of_other_hosts_are_refused() {
        let check = |origin: &'static str| is_same_origin(&headers(&[("host", "localhost:9090"), ("origin", origin)]));
        assert!(is_same_origin(&headers(&[("host", "localhost:9090")])));
        assert!(check("http://localhost:9090") && check("https://LOCALHOST:9090"));
        for foreign in [
            "",
            "null",
            "http://localhost",
            "http://localhost:9091",
            "http://evil.example",
            "http://localhost:9090.evil.example",
            "http://localhost:9090/",
            "file://localhost:9090",
            "localhost:9090",
        ] {
            assert!(!check(foreign), "{foreign}");
        }
        assert!(!is_same_origin(&headers(&[("origin", "http://localhost:9090")])), "without a host");
        let two = [("host", "a"), ("origin", "http://a"), ("origin", "http://b")];
        assert!(!is_same_origin(&headers(&two)));
    }
}
