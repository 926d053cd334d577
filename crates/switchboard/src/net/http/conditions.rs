//! Whether a client has a file already, and which part of it it wants: RFC 9110, sections 8.8, 13 and 14.

use std::ops::Range;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hyper::Method;
use hyper::header::{self, HeaderMap, HeaderName};

/// What tells one state of a file from another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Version {
    /// The `ETag`, with its quotes. Two states of a file with the same one have the same bytes.
    pub(super) tag: String,
    /// When it was last changed, in whole seconds.
    pub(super) modified: Option<SystemTime>,
}

impl Version {
    /// In seconds since 1970.
    const YEAR_10_000: u64 = 253_402_300_800;

    /// Of a file on the disk.
    pub(super) fn of_file(length: u64, modified_ms: Option<u64>) -> Self {
        // HTTP has dates for four digits of a year; a file from beyond goes without.
        let seconds = modified_ms.map(|ms| ms / 1000).filter(|seconds| *seconds < Self::YEAR_10_000);
        let modified = seconds.map(|seconds| UNIX_EPOCH + Duration::from_secs(seconds));
        Self { tag: format!("\"{:x}-{length:x}\"", modified_ms.unwrap_or(0)), modified }
    }
}

/// What is sent of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// Nothing: the client has it.
    NotModified,
    /// All of it.
    Whole,
    /// These bytes.
    Part(Range<u64>),
    /// Nothing: there are no such bytes.
    Unsatisfiable,
}

/// Decides what a request for a file of this version and length is answered with.
pub(super) fn wanted(method: &Method, headers: &HeaderMap, version: &Version, length: u64) -> Wanted {
    if has_it(headers, version) {
        return Wanted::NotModified;
    }
    let range = text(headers, &header::RANGE).filter(|_| method == Method::GET && may_be_part(headers, version));
    match range.and_then(|range| part(range, length)) {
        None => Wanted::Whole,
        Some(Some(range)) => Wanted::Part(range),
        Some(None) => Wanted::Unsatisfiable,
    }
}

/// Tags decide where there are any; dates are for those who have none.
fn has_it(headers: &HeaderMap, version: &Version) -> bool {
    let mut tags = headers.get_all(header::IF_NONE_MATCH).iter().peekable();
    if tags.peek().is_some() {
        return tags.any(|tags| tags.to_str().is_ok_and(|tags| matches_any(tags, &version.tag)));
    }
    let since = text(headers, &header::IF_MODIFIED_SINCE).and_then(|date| httpdate::parse_http_date(date).ok());
    since.zip(version.modified).is_some_and(|(since, modified)| modified <= since)
}

/// Compared weakly, as it must be for this.
fn matches_any(tags: &str, tag: &str) -> bool {
    tags.split(',').map(str::trim).any(|other| other == "*" || other.strip_prefix("W/").unwrap_or(other) == tag)
}

/// Whether a part fits to the parts that the client has (`If-Range`); if not, it needs the whole.
fn may_be_part(headers: &HeaderMap, version: &Version) -> bool {
    match headers.get(header::IF_RANGE).map(|value| value.to_str().unwrap_or_default()) {
        None => true,
        Some(condition) if condition.ends_with('"') => condition == version.tag,
        Some(date) => httpdate::parse_http_date(date).ok().is_some_and(|date| Some(date) == version.modified),
    }
}

/// One range of bytes. `None`: not understood, or several, and then the whole is the answer; `Some(None)`: there are no such
/// bytes.
fn part(range: &str, length: u64) -> Option<Option<Range<u64>>> {
    let (unit, range) = range.split_once('=')?;
    let (first, last) = range.trim().split_once('-')?;
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return None;
    }
    let found = match (first, last) {
        ("", last) => {
            let count = number(last)?;
            (count > 0 && length > 0).then(|| length.saturating_sub(count)..length)
        }
        (first, "") => Some(number(first)?..length),
        (first, last) => {
            let (first, last) = (number(first)?, number(last)?);
            if last < first {
                return None;
            }
            Some(first..last.saturating_add(1).min(length))
        }
    };
    Some(found.filter(|range| range.start < length))
}

fn number(digits: &str) -> Option<u64> {
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    // More digits than a number has are more bytes than any file has.
    Some(digits.parse().unwrap_or(u64::MAX))
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::HeaderValue;

    const DATE: &str = "Sun, 06 Nov 1994 08:49:37 GMT";

    fn decided(method: Method, pairs: &[(HeaderName, &str)]) -> Wanted {
        let version = Version { tag: "\"a-1\"".to_owned(), modified: Some(httpdate::parse_http_date(DATE).unwrap()) };
        let pairs = pairs.iter().map(|(name, value)| (name.clone(), HeaderValue::from_str(value).unwrap()));
        let mut headers = HeaderMap::new();
        pairs.for_each(|(name, value)| {
            headers.append(name, value);
        });
        wanted(&method, &headers, &version, 10)
    }

    #[test]
    fn what_a_client_has_is_not_sent_again() {
        use header::{IF_MODIFIED_SINCE, IF_NONE_MATCH};
        let later = "Mon, 07 Nov 1994 08:49:37 GMT";
        let earlier = "Sat, 05 Nov 1994 08:49:37 GMT";
        for (pairs, has_it) in [
            (&[][..], false),
            (&[(IF_NONE_MATCH, "\"a-1\"")], true),
            (&[(IF_NONE_MATCH, "W/\"a-1\"")], true),
            (&[(IF_NONE_MATCH, "\"b\", \"a-1\"")], true),
            (&[(IF_NONE_MATCH, "\"b\""), (IF_NONE_MATCH, "\"a-1\"")], true),
            (&[(IF_NONE_MATCH, "*")], true),
            (&[(IF_NONE_MATCH, "\"b\"")], false),
            (&[(IF_NONE_MATCH, "a-1")], false),
            (&[(IF_MODIFIED_SINCE, DATE)], true),
            (&[(IF_MODIFIED_SINCE, later)], true),
            (&[(IF_MODIFIED_SINCE, earlier)], false),
            (&[(IF_MODIFIED_SINCE, "yesterday")], false),
            (&[(IF_NONE_MATCH, "\"b\""), (IF_MODIFIED_SINCE, later)], false),
        ] {
            let expected = if has_it { Wanted::NotModified } else { Wanted::Whole };
            assert_eq!(decided(Method::GET, pairs), expected, "{pairs:?}");
            assert_eq!(decided(Method::HEAD, pairs), expected, "{pairs:?}");
        }
    }

    #[test]
    fn a_file_from_a_year_that_http_cannot_write_has_no_date() {
        let last = Version::of_file(1, Some(253_402_300_799_999)).modified.unwrap();
        assert_eq!(httpdate::fmt_http_date(last), "Fri, 31 Dec 9999 23:59:59 GMT");
        for ms in [253_402_300_800_000, u64::MAX] {
            assert_eq!(Version::of_file(1, Some(ms)).modified, None);
        }
    }

    #[test]
    fn one_range_is_a_part_and_anything_else_the_whole() {
        use Wanted::{Part, Unsatisfiable, Whole};
        for (range, expected) in [
            ("bytes=0-0", Part(0..1)),
            ("bytes=2-5", Part(2..6)),
            ("bytes=2-", Part(2..10)),
            ("bytes=9-100", Part(9..10)),
            ("bytes=-3", Part(7..10)),
            ("bytes=-100", Part(0..10)),
            ("Bytes = 1-2", Part(1..3)),
            ("bytes=0-99999999999999999999999", Part(0..10)),
            ("bytes=10-", Unsatisfiable),
            ("bytes=10-11", Unsatisfiable),
            ("bytes=99999999999999999999999-", Unsatisfiable),
            ("bytes=-0", Unsatisfiable),
            ("bytes=5-2", Whole),
            ("bytes=0-1,3-4", Whole),
            ("bytes=", Whole),
            ("bytes=-", Whole),
            ("bytes=a-b", Whole),
            ("bytes=+1-2", Whole),
            ("lines=0-1", Whole),
            ("0-1", Whole),
        ] {
            assert_eq!(decided(Method::GET, &[(header::RANGE, range)]), expected, "{range}");
            assert_eq!(decided(Method::HEAD, &[(header::RANGE, range)]), Whole, "{range}");
        }
        assert_eq!(part("bytes=0-", 0), Some(None));
        assert_eq!(part("bytes=-1", 0), Some(None));
    }

    #[test]
    fn a_part_is_sent_only_of_the_file_that_the_client_has_parts_of() {
        use header::{IF_NONE_MATCH, IF_RANGE, RANGE};
        for (condition, fits) in [
            ("\"a-1\"", true),
            (DATE, true),
            ("W/\"a-1\"", false),
            ("\"b\"", false),
            ("Mon, 07 Nov 1994 08:49:37 GMT", false),
            ("", false),
        ] {
            let expected = if fits { Wanted::Part(1..2) } else { Wanted::Whole };
            assert_eq!(decided(Method::GET, &[(RANGE, "bytes=1-1"), (IF_RANGE, condition)]), expected, "{condition}");
        }
        let both = [(RANGE, "bytes=1-1"), (IF_NONE_MATCH, "\"a-1\"")];
        assert_eq!(decided(Method::GET, &both), Wanted::NotModified);
    }
}
