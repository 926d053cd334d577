//! The cookie that ties the requests and connections of one browser together.
//!
//! It labels, and proves nothing: whoever wants can send any.

use hyper::header::{self, HeaderMap, HeaderValue};

/// The name that ActionHero's clients know.
const NAME: &[u8] = b"sessionID";
/// Longer than any that we make, or ActionHero.
const MOST_BYTES: usize = 64;

/// The fingerprint of a browser.
#[derive(Clone, Debug)]
pub(super) struct Session {
    pub(super) fingerprint: Box<str>,
    is_new: bool,
}

impl Session {
    /// What the cookie says, or a new one.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        match presented(headers) {
            Some(fingerprint) => Self { fingerprint: fingerprint.into(), is_new: false },
            None => Self { fingerprint: uuid::Uuid::new_v4().simple().to_string().into(), is_new: true },
        }
    }

    /// Gives the browser its cookie, if it has none. Whether it had none.
    pub(super) fn keep(&self, headers: &mut HeaderMap, secure: bool) -> bool {
        if !self.is_new {
            return false;
        }
        let secure = if secure { "; Secure" } else { "" };
        let cookie = format!("sessionID={}; Path=/; HttpOnly; SameSite=Lax{secure}", self.fingerprint);
        // Hexadecimal digits and our own words are always a header's value.
        if let Ok(cookie) = HeaderValue::try_from(cookie) {
            headers.append(header::SET_COOKIE, cookie);
        }
        true
    }
}

/// The fingerprint in a request's cookies, if there is a sound one.
pub(super) fn presented(headers: &HeaderMap) -> Option<&str> {
    let cookies =
        headers.get_all(header::COOKIE).iter().flat_map(|header| header.as_bytes().split(|byte| *byte == b';'));
    let mut values = cookies.filter_map(|cookie| {
        let at = cookie.iter().position(|&byte| byte == b'=')?;
        (cookie[..at].trim_ascii() == NAME).then(|| cookie[at + 1..].trim_ascii())
    });
    let value = values.next().filter(|value| (1..=MOST_BYTES).contains(&value.len()))?;
    let is_sound = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    value.iter().all(is_sound).then(|| std::str::from_utf8(value).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_is_a_short_word_in_a_cookie_of_that_name() {
        for (cookie, expected) in [
            ("sessionID=abc-D_1", Some("abc-D_1")),
            ("a=b; sessionID=abc; c=d", Some("abc")),
            ("a=b;sessionID = abc ", Some("abc")),
            ("sessionID=one; sessionID=two", Some("one")),
            ("sessionid=abc", None),
            ("xsessionID=abc", None),
            ("sessionID", None),
            ("sessionID=", None),
            ("sessionID=a b", None),
            ("sessionID=\"abc\"", None),
            ("sessionID=<script>", None),
        ] {
            let headers = HeaderMap::from_iter([(header::COOKIE, HeaderValue::from_static(cookie))]);
            assert_eq!(presented(&headers), expected, "{cookie}");
        }
        let long = format!("sessionID={}", "a".repeat(65));
        let headers = HeaderMap::from_iter([(header::COOKIE, HeaderValue::try_from(long).unwrap())]);
        assert_eq!(presented(&headers), None);
        assert_eq!(presented(&HeaderMap::new()), None);
    }

    #[test]
    fn a_browser_without_a_fingerprint_gets_one_that_scripts_cannot_read() {
        let mut headers = HeaderMap::new();
        let session = Session::of(&headers);
        assert!(session.keep(&mut headers, true));
        let cookie = headers[header::SET_COOKIE].to_str().unwrap();
        let expected = format!("sessionID={}; Path=/; HttpOnly; SameSite=Lax; Secure", session.fingerprint);
        assert_eq!((cookie, session.fingerprint.len()), (expected.as_str(), 32));
        let headers = HeaderMap::from_iter([(header::COOKIE, HeaderValue::try_from(cookie).unwrap())]);
        let mut later = HeaderMap::new();
        assert!(!Session::of(&headers).keep(&mut later, true) && later.is_empty());
    }
}
