//! Which pages may talk to this server: the `Origin` that a browser sends, and the `Host` that it asked for.
//!
//! A browser attaches its user's cookies to whatever a page asks for, so a foreign page could act in the user's name. It
//! cannot hide where it comes from, though. Programs that are no browsers send no `Origin` and have no such cookies.

use std::net::Ipv6Addr;

/// Where a request comes from, and whether that may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// No `Origin`: not a page of another host.
    NoOrigin,
    /// A page of the host that was asked for.
    SameHost,
    /// A page that the operator has listed.
    Listed,
    /// Any other page, or something that no browser sends.
    Refused,
}

impl Verdict {
    /// Whether the request may be served.
    pub const fn is_allowed(self) -> bool {
        !matches!(self, Self::Refused)
    }
}

/// The origins that may ask although they are not of the same host (`servers.web.allowed_origins`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AllowedOrigins {
    any: bool,
    origins: Vec<Box<str>>,
}

impl AllowedOrigins {
    /// Origins that passed [`is_origin`], or `*` for any.
    pub fn new<'a>(origins: impl IntoIterator<Item = &'a str>) -> Self {
        let mut allowed = Self::default();
        for origin in origins {
            match origin {
                "*" => allowed.any = true,
                origin => allowed.origins.push(origin.into()),
            }
        }
        allowed
    }

    /// Whether there are none, so that only pages of the same host may ask.
    pub fn is_empty(&self) -> bool {
        !self.any && self.origins.is_empty()
    }

    /// Judges a request by its only `Origin`, `None` for none, and its `Host`. A request with several of either is to be
    /// refused before.
    ///
    /// A page that came in the clear is not the same host for a server that is `secure`: whoever sits on the wire could
    /// have written it. The other way round there may be a proxy in front that ends TLS.
    pub fn judge(&self, origin: Option<&[u8]>, host: &[u8], secure: bool) -> Verdict {
        let Some(origin) = origin else { return Verdict::NoOrigin };
        if self.lists(origin) {
            return Verdict::Listed;
        }
        let same = Origin::parse(origin).is_some_and(|origin| {
            (origin.is_https || !secure)
                && Authority::parse(host).is_some_and(|host| origin.authority.is_same(&host, origin.default_port()))
        });
        if same { Verdict::SameHost } else { Verdict::Refused }
    }

    /// `*` stands for pages, and a page without an address (`null`) is none that an operator could mean.
    fn lists(&self, origin: &[u8]) -> bool {
        let named = |listed: &str| listed.as_bytes().eq_ignore_ascii_case(origin);
        (self.any && Origin::parse(origin).is_some()) || self.origins.iter().any(|listed| named(listed))
    }
}

/// The origin in front of the path of a URL, as `Referer` has it. Without a path it is all of it.
pub fn of_url(url: &[u8]) -> &[u8] {
    let after_scheme = url.windows(3).position(|window| window == b"://").map_or(url.len(), |at| at + 3);
    let length = url[after_scheme..].iter().position(|byte| *byte == b'/').unwrap_or(url.len() - after_scheme);
    &url[..after_scheme + length]
}

/// Whether `text` is an origin as browsers write it, such as `https://chat.example.org` or `http://localhost:3000`:
/// without a path, in lower case, without the port that its scheme has anyway.
pub fn is_origin(text: &str) -> bool {
    if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return false;
    }
    match Origin::parse(text.as_bytes()) {
        Some(origin) => origin.authority.port != Some(origin.default_port()),
        // Of applications, such as `capacitor://localhost`.
        None => text.split_once("://").is_some_and(|(scheme, rest)| {
            !matches!(scheme, "" | "file" | "http" | "https")
                && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.'))
                && Authority::parse(rest.as_bytes()).is_some()
        }),
    }
}

/// Why a request is refused for its host (RFC 9112, section 3.2). Its words are fit for the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HostError {
    /// There is no `Host`, which HTTP/1.1 needs.
    #[error("Host is missing")]
    Missing,
    /// There is more than one.
    #[error("Host is there twice")]
    Repeated,
    /// It is not a host with or without a port.
    #[error("Host is not a host name or address with an optional port")]
    Invalid,
    /// The target of the request names another one.
    #[error("Host and the address are not the same")]
    Contradictory,
}

/// The one valid host that a request names. `hosts` are the values of its `Host`, `target` is the authority in its
/// target where that has one. Returns an empty host for an HTTP/1.0 request without `Host`.
///
/// # Errors
///
/// See [`HostError`].
pub fn requested_host<'a>(
    hosts: impl IntoIterator<Item = &'a [u8]>,
    target: Option<&str>,
    is_http_1_0: bool,
) -> Result<&'a [u8], HostError> {
    let mut hosts = hosts.into_iter();
    let host = match (hosts.next(), hosts.next()) {
        (Some(host), None) => host,
        (None, _) if is_http_1_0 => b"",
        (None, _) => return Err(HostError::Missing),
        (Some(_), Some(_)) => return Err(HostError::Repeated),
    };
    if !is_host(host) {
        return Err(HostError::Invalid);
    }
    if target.is_some_and(|target| !target.as_bytes().eq_ignore_ascii_case(host)) {
        return Err(HostError::Contradictory);
    }
    Ok(host)
}

/// Whether `text` is `uri-host [ ":" port ]` (RFC 9110, section 7.2). A target without an authority has an empty host.
fn is_host(text: &[u8]) -> bool {
    let (host, port) = match (text.first(), text.iter().rposition(|byte| *byte == b':')) {
        (Some(b'['), _) if text.ends_with(b"]") => (text, None),
        (_, Some(colon)) => (&text[..colon], Some(&text[colon + 1..])),
        (_, None) => (text, None),
    };
    let is_port = |digits: &[u8]| {
        let is_number = digits.iter().all(u8::is_ascii_digit);
        digits.is_empty() || is_number && std::str::from_utf8(digits).is_ok_and(|port| port.parse::<u16>().is_ok())
    };
    let is_host = match host {
        [b'[', address @ .., b']'] => {
            std::str::from_utf8(address).is_ok_and(|address| address.parse::<Ipv6Addr>().is_ok())
        }
        name => is_reg_name(name),
    };
    is_host && port.is_none_or(is_port)
}

/// Whether `name` is a `reg-name` of RFC 3986, section 3.2.2, as IPv4 addresses are too.
fn is_reg_name(name: &[u8]) -> bool {
    let mut rest = name;
    while let Some((byte, after)) = rest.split_first() {
        rest = match (byte, after) {
            (b'%', [high, low, after @ ..]) if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => after,
            (b'-' | b'.' | b'_' | b'~' | b'!' | b'$' | b'&'..=b',' | b';' | b'=', _) => after,
            (byte, _) if byte.is_ascii_alphanumeric() => after,
            _ => return false,
        };
    }
    true
}

/// The origin of a page: scheme, host, port.
struct Origin<'a> {
    is_https: bool,
    authority: Authority<'a>,
}

/// Host and port, as in `Host`.
struct Authority<'a> {
    host: &'a [u8],
    port: Option<u16>,
}

impl<'a> Origin<'a> {
    fn parse(text: &'a [u8]) -> Option<Self> {
        let (is_https, rest) = match (strip_prefix(text, b"https://"), strip_prefix(text, b"http://")) {
            (Some(rest), _) => (true, rest),
            (None, rest) => (false, rest?),
        };
        Some(Self { is_https, authority: Authority::parse(rest)? })
    }

    fn default_port(&self) -> u16 {
        if self.is_https { 443 } else { 80 }
    }
}

impl<'a> Authority<'a> {
    /// Names, IPv4 addresses and IPv6 addresses in brackets. Browsers write names of other alphabets in ASCII.
    fn parse(text: &'a [u8]) -> Option<Self> {
        let host_bytes = match text.first()? {
            b'[' => {
                let end = text.iter().position(|&byte| byte == b']')? + 1;
                let address = std::str::from_utf8(&text[1..end - 1]).ok()?;
                address.parse::<Ipv6Addr>().ok()?;
                end
            }
            _ => text.iter().position(|&byte| byte == b':').unwrap_or(text.len()),
        };
        let (host, port) = text.split_at(host_bytes);
        let is_name = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
        if host.is_empty() || (host[0] != b'[' && !host.iter().all(is_name)) {
            return None;
        }
        let port = match port.split_first() {
            None => None,
            Some((b':', digits)) => Some(parse_port(digits)?),
            Some(_) => return None,
        };
        Some(Self { host, port })
    }

    /// Whether both are the same place, where no port means `default_port`.
    fn is_same(&self, other: &Authority<'_>, default_port: u16) -> bool {
        self.host.eq_ignore_ascii_case(other.host)
            && self.port.unwrap_or(default_port) == other.port.unwrap_or(default_port)
    }
}

fn strip_prefix<'a>(text: &'a [u8], prefix: &[u8]) -> Option<&'a [u8]> {
    let (start, rest) = text.split_at_checked(prefix.len())?;
    start.eq_ignore_ascii_case(prefix).then_some(rest)
}

fn parse_port(digits: &[u8]) -> Option<u16> {
    if !(1..=5).contains(&digits.len()) || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok().filter(|port| *port != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAME: Verdict = Verdict::SameHost;
    const REFUSED: Verdict = Verdict::Refused;

    #[test]
    fn fault_row_10_a_request_names_one_valid_host() {
        for good in [
            "",
            "a",
            "A.Example.org",
            "a_b.local",
            "10.0.0.1:8080",
            "a:",
            "a:0080",
            "[::1]",
            "[2001:DB8::A]:443",
            "a%20b",
            "~a!$&'()*+,;=",
        ] {
            assert_eq!(requested_host([good.as_bytes()], None, false), Ok(good.as_bytes()), "{good}");
        }
        for odd in [
            "a b",
            "a/b",
            "user@a",
            "a:b",
            "a:80:80",
            "a:65536",
            "a:+1",
            "::1",
            "[::1",
            "[::1]x",
            "[::1]:x",
            "[a]",
            "a%2",
            "a%zz",
            "a?b",
            "a#b",
            "a\\b",
            "a\tb",
            "<a>",
            "h\u{f6}st",
            "http://a",
            "\"a\"",
            "[]",
            "[::1%25eth0]",
        ] {
            assert_eq!(requested_host([odd.as_bytes()], None, false), Err(HostError::Invalid), "{odd}");
            assert_eq!(requested_host([odd.as_bytes()], Some(odd), true), Err(HostError::Invalid), "{odd}");
        }
        let a = || std::iter::once(&b"a"[..]);
        assert_eq!(requested_host([], None, false), Err(HostError::Missing));
        assert_eq!(requested_host([], None, true), Ok(&b""[..]));
        assert_eq!(requested_host(a().chain(a()), None, true), Err(HostError::Repeated));
        assert_eq!(requested_host(a(), Some("A"), false), Ok(&b"a"[..]));
        for other in ["b", "a:80", "user@a"] {
            assert_eq!(requested_host(a(), Some(other), false), Err(HostError::Contradictory), "{other}");
        }
    }

    /// Each with the `Host` that was asked for and whether the listener speaks TLS.
    #[test]
    fn fault_row_14_only_pages_of_the_same_host_may_ask() {
        let table: &[(&str, &str, bool, Verdict)] = &[
            ("http://example.org", "example.org", false, SAME),
            ("http://example.org:80", "example.org", false, SAME),
            ("http://example.org", "example.org:80", false, SAME),
            ("http://example.org:8080", "example.org:8080", false, SAME),
            ("HTTP://Example.ORG", "eXample.org", false, SAME),
            ("http://127.0.0.1:8080", "127.0.0.1:8080", false, SAME),
            ("http://localhost:8080", "localhost:8080", false, SAME),
            ("http://[::1]:8080", "[::1]:8080", false, SAME),
            ("http://[2001:db8::A]", "[2001:DB8::a]", false, SAME),
            ("https://example.org", "example.org", true, SAME),
            ("https://example.org:443", "example.org", true, SAME),
            ("https://example.org:8443", "example.org:8443", true, SAME),
            // A proxy in front ends TLS.
            ("https://example.org", "example.org", false, SAME),
            ("https://example.org", "example.org:443", false, SAME),
            // The same name under another roof.
            ("http://example.org", "example.org", true, REFUSED),
            ("https://example.org", "example.org:80", false, REFUSED),
            ("http://example.org", "example.org:443", false, REFUSED),
            ("http://example.org:8081", "example.org:8080", false, REFUSED),
            ("http://example.org", "example.org:8080", false, REFUSED),
            ("http://localhost:8080", "127.0.0.1:8080", false, REFUSED),
            ("http://[::1]:8080", "[::2]:8080", false, REFUSED),
            // Names that look alike.
            ("http://example.org.evil.net", "example.org", false, REFUSED),
            ("http://evil-example.org", "example.org", false, REFUSED),
            ("http://example.org.", "example.org", false, REFUSED),
            ("http://example.org", "example.org.", false, REFUSED),
            ("http://www.example.org", "example.org", false, REFUSED),
            ("http://example.or", "example.org", false, REFUSED),
            ("http://exampleXorg", "example.org", false, REFUSED),
            ("http://ex\u{e4}mple.org", "ex\u{e4}mple.org", false, REFUSED),
            // What no browser sends as an origin.
            ("", "example.org", false, REFUSED),
            ("null", "null", false, REFUSED),
            ("null", "example.org", false, REFUSED),
            ("example.org", "example.org", false, REFUSED),
            ("//example.org", "example.org", false, REFUSED),
            ("file://", "example.org", false, REFUSED),
            ("file://example.org", "example.org", false, REFUSED),
            ("ftp://example.org", "example.org", false, REFUSED),
            ("ws://example.org", "example.org", false, REFUSED),
            ("javascript://example.org", "example.org", false, REFUSED),
            ("chrome-extension://example.org", "example.org", false, REFUSED),
            ("http://user@example.org", "example.org", false, REFUSED),
            ("http://user:word@example.org", "example.org", false, REFUSED),
            ("http://evil.net@example.org", "example.org", false, REFUSED),
            ("http://example.org@evil.net", "example.org", false, REFUSED),
            ("http://example.org/", "example.org", false, REFUSED),
            ("http://example.org/page", "example.org", false, REFUSED),
            ("http://example.org?", "example.org", false, REFUSED),
            ("http://example.org#", "example.org", false, REFUSED),
            ("http://example.org\\", "example.org", false, REFUSED),
            ("http://example.org ", "example.org", false, REFUSED),
            (" http://example.org", "example.org", false, REFUSED),
            ("http://example.org http://evil.net", "example.org", false, REFUSED),
            ("http://example.org,http://evil.net", "example.org", false, REFUSED),
            ("http://evil.net, http://example.org", "example.org", false, REFUSED),
            ("http:/example.org", "example.org", false, REFUSED),
            ("http:///example.org", "example.org", false, REFUSED),
            ("http://", "", false, REFUSED),
            ("http://:80", ":80", false, REFUSED),
            ("http://example.org:", "example.org", false, REFUSED),
            ("http://example.org:0", "example.org:0", false, REFUSED),
            ("http://example.org:65616", "example.org:80", false, REFUSED),
            ("http://example.org:+80", "example.org", false, REFUSED),
            ("http://example.org:80:80", "example.org", false, REFUSED),
            ("http://%65xample.org", "example.org", false, REFUSED),
            ("http://[::1", "[::1", false, REFUSED),
            ("http://[::1]evil.net", "[::1]evil.net", false, REFUSED),
            ("http://::1", "::1", false, REFUSED),
            ("http://*", "*", false, REFUSED),
            ("*", "example.org", false, REFUSED),
            ("http://example.org\0", "example.org", false, REFUSED),
            ("http://example.org", "", false, REFUSED),
            ("http://example.org", "user@example.org", false, REFUSED),
            ("http://example.org", "example.org/", false, REFUSED),
        ];
        assert!(table.len() >= 40);
        for (origin, host, secure, expected) in table {
            let found = AllowedOrigins::default().judge(Some(origin.as_bytes()), host.as_bytes(), *secure);
            assert_eq!(found, *expected, "{origin:?} asks {host:?}, TLS {secure}");
        }
        let without = AllowedOrigins::default().judge(None, b"example.org", true);
        assert_eq!((without, without.is_allowed()), (Verdict::NoOrigin, true));
    }

    #[test]
    fn fault_row_14_listed_origins_are_compared_whole() {
        let allowed =
            AllowedOrigins::new(["https://app.example.org", "http://localhost:3000", "capacitor://localhost"]);
        let judge = |origin: &str| allowed.judge(Some(origin.as_bytes()), b"api.example.org", true);
        for origin in
            ["https://app.example.org", "HTTPS://APP.example.org", "http://localhost:3000", "capacitor://localhost"]
        {
            assert_eq!(judge(origin), Verdict::Listed, "{origin}");
        }
        for origin in [
            "http://app.example.org",
            "https://app.example.org:444",
            "https://app.example.org.evil.net",
            "https://evil.app.example.org",
            "http://localhost",
            "http://localhost:30000",
            "null",
            "",
        ] {
            assert_eq!(judge(origin), Verdict::Refused, "{origin}");
        }
        assert_eq!(judge("https://api.example.org"), Verdict::SameHost);
    }

    #[test]
    fn fault_row_14_a_star_lists_every_page_and_nothing_else() {
        let allowed = AllowedOrigins::new(["*"]);
        assert!(!allowed.is_empty() && AllowedOrigins::default().is_empty());
        let judge = |origin: &str| allowed.judge(Some(origin.as_bytes()), b"example.org", true);
        assert_eq!(judge("http://anything.example.net:81"), Verdict::Listed);
        for origin in ["null", "file://", "", "http://a@b"] {
            assert_eq!(judge(origin), Verdict::Refused, "{origin}");
        }
    }

    #[test]
    fn an_origin_is_written_as_browsers_write_it() {
        for good in ["http://a", "https://a.b:444", "http://[::1]:8080", "capacitor://localhost"] {
            assert!(is_origin(good), "{good}");
        }
        for bad in [
            "",
            "null",
            "a.b",
            "http://a/",
            "http://a:80",
            "https://a:443",
            "https://A",
            "file://a",
            "http://",
            "://a",
            "*",
        ] {
            assert!(!is_origin(bad), "{bad}");
        }
    }
}
