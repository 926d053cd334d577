//! JSON at the edge: parsed once under limits, opaque from there.

use std::borrow::Cow;
use std::cell::Cell;
use std::fmt;
use std::sync::Arc;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Map, Number, Value};
use thiserror::Error;

/// How deep and wide a JSON text from a client may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JsonLimits {
    /// Objects and arrays inside each other (`limits.max_json_depth`).
    pub depth: usize,
    /// Members of one object (`limits.max_json_keys`).
    pub keys: usize,
    /// Values in all, lists and objects among them (`limits.max_json_values`).
    pub values: usize,
}

impl Default for JsonLimits {
    fn default() -> Self {
        Self { depth: 32, keys: 1000, values: 10_000 }
    }
}

/// Why a text is refused. Its words are fit for the client.
#[derive(Debug, Error)]
pub enum JsonError {
    /// It is not JSON.
    #[error("not JSON: {0}")]
    NotJson(serde_json::Error),
    /// It is JSON, and refused.
    #[error(transparent)]
    Refused(#[from] JsonRefusal),
}

/// Why JSON is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum JsonRefusal {
    /// More objects and arrays inside each other than [`JsonLimits::depth`].
    #[error("JSON is nested deeper than {0} levels")]
    TooDeep(usize),
    /// More members in an object than [`JsonLimits::keys`].
    #[error("a JSON object has more than {0} members")]
    TooManyMembers(usize),
    /// More values than [`JsonLimits::values`].
    #[error("JSON has more than {0} values")]
    TooManyValues(usize),
    /// An object names a member twice. Another parser may take the other one, and read another request.
    #[error("a JSON object names a member twice")]
    RepeatedMember,
    /// A number is beyond the range of a 64-bit float.
    #[error("a number in JSON is out of range")]
    NumberOutOfRange,
}

/// Longer texts that are refused are not read to their end.
const LONG_BYTES: usize = 64 * 1024;

/// Parses `text` under `limits`. Members keep the order in which they were written. An escape of half a surrogate pair
/// is read as U+FFFD: see [`to_well_formed`].
///
/// # Errors
///
/// See [`JsonError`].
pub fn parse(text: &str, limits: JsonLimits) -> Result<Value, JsonError> {
    let text = to_well_formed(text);
    let (refusal, count) = (Cell::new(None), Cell::new(0));
    let mut deserializer = serde_json::Deserializer::from_str(&text);
    // `limits.depth` is checked first; the parser's own limit (128) protects the stack above it.
    let value =
        Bounded { limits, refusal: &refusal, count: &count, depth: limits.depth }.deserialize(&mut deserializer);
    let error = match value.and_then(|value| deserializer.end().map(|()| value)) {
        Ok(value) => return Ok(value),
        Err(error) => error,
    };
    // The rest of a long text is not read: that takes some milliseconds for a megabyte.
    let is_out_of_range = || error.to_string().starts_with("number out of range");
    match refusal.get() {
        Some(refusal) if text.len() > LONG_BYTES || matches!(refusal, JsonRefusal::TooManyValues(_)) => {
            return Err(refusal.into());
        }
        None if text.len() > LONG_BYTES && is_out_of_range() => return Err(JsonRefusal::NumberOutOfRange.into()),
        None if text.len() > LONG_BYTES => return Err(JsonError::NotJson(error)),
        _ => {}
    }
    // A refused value may be followed by anything. This check takes any depth, and any number.
    Err(match serde_json::from_str::<IgnoredAny>(&text) {
        Ok(_) => JsonError::Refused(refusal.get().unwrap_or(JsonRefusal::NumberOutOfRange)),
        Err(_) => JsonError::NotJson(error),
    })
}

/// The members `names` of an object, each as it is written; the last one of a name that comes twice, as in JavaScript.
///
/// A request that [`parse`] refuses is answered under the id that is found here: depth and number of members do not
/// matter, and nothing is kept of the rest. Returns `None` if `text` is not an object, or not well-formed.
pub fn members<'a, const N: usize>(text: &'a str, names: [&str; N]) -> Option<[Option<&'a str>; N]> {
    struct Members<'n, const N: usize>([&'n str; N]);

    impl<'de, const N: usize> Visitor<'de> for Members<'_, N> {
        type Value = [Option<&'de str>; N];

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a JSON object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut found = [None; N];
            while let Some(name) = map.next_key::<String>()? {
                match self.0.iter().position(|known| *known == name) {
                    Some(index) => found[index] = Some(map.next_value::<&RawValue>()?.get()),
                    None => drop(map.next_value::<IgnoredAny>()?),
                }
            }
            Ok(found)
        }
    }

    let mut deserializer = serde_json::Deserializer::from_str(text);
    let found = deserializer.deserialize_map(Members(names)).ok()?;
    deserializer.end().ok().map(|()| found)
}

/// The members `names` that end within the first `max_bytes` of an object. The rest is not read, so the text need not be
/// well-formed. For a long text that is refused.
pub fn leading_members<'a, const N: usize>(text: &'a str, names: [&str; N], max_bytes: usize) -> [Option<&'a str>; N] {
    struct Leading<'n, 'f, 'a, const N: usize>([&'n str; N], &'f Cell<[Option<&'a str>; N]>);

    impl<'de, const N: usize> Visitor<'de> for Leading<'_, '_, 'de, N> {
        type Value = ();

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a JSON object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
            while let Some(name) = map.next_key::<String>()? {
                let value = map.next_value::<&RawValue>()?.get();
                if let Some(index) = self.0.iter().position(|known| *known == name) {
                    let mut found = self.1.get();
                    found[index] = Some(value);
                    self.1.set(found);
                }
            }
            Ok(())
        }
    }

    let mut end = text.len().min(max_bytes);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let found = Cell::new([None; N]);
    // It ends with an error where the text is cut.
    let _ = serde_json::Deserializer::from_str(&text[..end]).deserialize_map(Leading(names, &found));
    found.get()
}

/// `text` with U+FFFD in place of each escape of half a surrogate pair, such as `\ud83d` without its other half. Length
/// and all other bytes stay.
///
/// JavaScript writes such an escape where a script cut a text inside a pair. It is JSON, but a Rust text cannot hold
/// it. JavaScript's `toWellFormed` does the same.
pub fn to_well_formed(text: &str) -> Cow<'_, str> {
    let bytes = text.as_bytes();
    let mut repaired = String::new();
    let (mut copied, mut at) = (0, 0);
    while let Some(escape) = memchr::memchr(b'\\', bytes.get(at..).unwrap_or_default()) {
        at += escape;
        match utf_16_escape(&bytes[at..]) {
            None => at += 2,
            Some(0xd800..=0xdbff) if matches!(utf_16_escape(&bytes[at + 6..]), Some(0xdc00..=0xdfff)) => at += 12,
            Some(0xd800..=0xdfff) => {
                repaired.push_str(&text[copied..at]);
                repaired.push_str("\\ufffd");
                at += 6;
                copied = at;
            }
            Some(_) => at += 6,
        }
    }
    if copied == 0 {
        return Cow::Borrowed(text);
    }
    repaired.push_str(&text[copied..]);
    Cow::Owned(repaired)
}

/// The number of an escape such as `\u00e9` at the front of `bytes`.
fn utf_16_escape(bytes: &[u8]) -> Option<u32> {
    let digits = bytes.strip_prefix(b"\\u")?.get(..4)?;
    digits.iter().try_fold(0, |number, digit| Some(number << 4 | char::from(*digit).to_digit(16)?))
}

/// A value being read, `depth` more levels allowed. The refusal is kept here because the parser's error has only words.
#[derive(Clone, Copy)]
struct Bounded<'r> {
    limits: JsonLimits,
    refusal: &'r Cell<Option<JsonRefusal>>,
    /// Values so far.
    count: &'r Cell<usize>,
    depth: usize,
}

impl Bounded<'_> {
    fn inside<E: serde::de::Error>(self) -> Result<Self, E> {
        match self.depth.checked_sub(1) {
            Some(depth) => Ok(Self { depth, ..self }),
            None => Err(self.refuse(JsonRefusal::TooDeep(self.limits.depth))),
        }
    }

    fn refuse<E: serde::de::Error>(self, refusal: JsonRefusal) -> E {
        self.refusal.set(Some(refusal));
        E::custom(refusal)
    }
}

impl<'de> DeserializeSeed<'de> for Bounded<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        let count = self.count.get() + 1;
        self.count.set(count);
        if count > self.limits.values {
            return Err(self.refuse(JsonRefusal::TooManyValues(self.limits.values)));
        }
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Bounded<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let inside = self.inside()?;
        let mut values = Vec::new();
        while let Some(value) = seq.next_element_seed(inside)? {
            values.push(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let inside = self.inside()?;
        let mut members = Map::new();
        while let Some(name) = map.next_key::<String>()? {
            if members.len() == self.limits.keys {
                return Err(self.refuse(JsonRefusal::TooManyMembers(self.limits.keys)));
            }
            if members.contains_key(&name) {
                return Err(self.refuse(JsonRefusal::RepeatedMember));
            }
            let value = map.next_value_seed(inside)?;
            members.insert(name, value);
        }
        Ok(Value::Object(members))
    }
}

/// JSON text that was checked once and is passed on as it is, without a line break wherever it came from. Cloning shares it.
#[derive(Clone, PartialEq, Eq)]
pub struct RawJson(Arc<str>);

impl RawJson {
    /// The JSON text of a string.
    pub fn from_text(text: &str) -> Self {
        let mut json = Vec::with_capacity(text.len() + 2);
        write_text(&mut json, text);
        Self::from_written(json)
    }

    /// The JSON text of a value.
    pub fn from_value(value: &Value) -> Self {
        Self(value.to_string().into())
    }

    /// Text that [`parse`] has read, or the part of such a text that is a value. Numbers and the order of members stay
    /// as they were written; white space between tokens is dropped, so that one line holds it, and halves of surrogate
    /// pairs are replaced.
    pub fn from_parsed(text: &str) -> Self {
        let text = to_well_formed(text);
        let mut is_inside_text = false;
        let mut is_escaped = false;
        let kept: String = text
            .chars()
            .filter(|char| {
                let is_kept = is_inside_text || !matches!(char, ' ' | '\t' | '\n' | '\r');
                match char {
                    _ if is_escaped => is_escaped = false,
                    '\\' => is_escaped = true,
                    '"' => is_inside_text = !is_inside_text,
                    _ => {}
                }
                is_kept
            })
            .collect();
        Self(kept.into())
    }

    /// Text that another node has checked, looked at again on its way here: `None` unless it is JSON without a line break.
    pub fn from_stored(text: &str) -> Option<Self> {
        let has_breaks = memchr::memchr2(b'\n', b'\r', text.as_bytes()).is_some();
        let is_json = serde_json::from_str::<IgnoredAny>(text).is_ok();
        (is_json && !has_breaks).then(|| Self(text.into()))
    }

    fn from_written(json: Vec<u8>) -> Self {
        // The writers of this module write UTF-8 only.
        Self(String::from_utf8(json).unwrap_or_default().into())
    }

    /// The JSON text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The value.
    pub fn to_value(&self) -> Value {
        // It was checked when it was made.
        serde_json::from_str(&self.0).unwrap_or_default()
    }

    /// The text, if the value is one.
    pub fn to_text(&self) -> Option<String> {
        serde_json::from_str(&self.0).ok()
    }

    /// `null` and `""`, which no room message may be.
    pub fn is_blank(&self) -> bool {
        matches!(&*self.0, "null" | "\"\"")
    }
}

impl fmt::Debug for RawJson {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<&str> for RawJson {
    fn from(text: &str) -> Self {
        Self::from_text(text)
    }
}

impl From<String> for RawJson {
    fn from(text: String) -> Self {
        Self::from_text(&text)
    }
}

impl From<Value> for RawJson {
    fn from(value: Value) -> Self {
        Self::from_value(&value)
    }
}

/// Writes `text` as a JSON string: quotes and control characters escaped, everything else as it is.
pub fn write_text(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    write_text_inside(out, text);
    out.push(b'"');
}

/// Writes what stands between the quotes of a JSON string.
pub fn write_text_inside(out: &mut Vec<u8>, text: &str) {
    let mut rest = text.as_bytes();
    loop {
        let (clean, dirty) = rest.split_at(clean_prefix(rest));
        out.extend_from_slice(clean);
        let Some((&byte, behind)) = dirty.split_first() else { break };
        write_escaped(out, byte);
        rest = behind;
    }
}

/// Escapes U+2028 and U+2029 in the JSON text behind `from`: JSON allows them in strings, scripts once did not.
pub fn escape_separators(json: &mut Vec<u8>, from: usize) {
    let is_separator = |at: usize, json: &[u8]| matches!(json.get(at + 1..at + 3), Some([0x80, 0xa8 | 0xa9]));
    let Some(first) = memchr::memchr_iter(0xe2, &json[from..]).find(|at| is_separator(from + at, json)) else { return };
    let rest = json.split_off(from + first);
    let mut at = 0;
    while at < rest.len() {
        if rest[at] == 0xe2 && is_separator(at, &rest) {
            json.extend_from_slice(if rest[at + 2] == 0xa8 { b"\\u2028" } else { b"\\u2029" });
            at += 3;
        } else {
            json.push(rest[at]);
            at += 1;
        }
    }
}

/// How many bytes at the front need no escape. Eight at a time, because nearly all of nearly every text is clean.
fn clean_prefix(bytes: &[u8]) -> usize {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    const HIGH: u64 = ONES << 7;
    let has_zero = |word: u64| word.wrapping_sub(ONES) & !word;
    let mut clean = 0;
    for word in bytes.chunks_exact(8) {
        let word = u64::from_ne_bytes(word.try_into().unwrap_or_default());
        let control = word.wrapping_sub(ONES * 0x20) & !word;
        let quote = has_zero(word ^ (ONES * u64::from(b'"')));
        let backslash = has_zero(word ^ (ONES * u64::from(b'\\')));
        if (control | quote | backslash) & HIGH != 0 {
            break;
        }
        clean += 8;
    }
    let needs_escape = |byte: &u8| *byte < 0x20 || matches!(byte, b'"' | b'\\');
    bytes[clean..].iter().position(needs_escape).map_or(bytes.len(), |at| clean + at)
}

fn write_escaped(out: &mut Vec<u8>, byte: u8) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let short = match byte {
        b'\n' => b'n',
        b'\r' => b'r',
        b'\t' => b't',
        0x08 => b'b',
        0x0c => b'f',
        b'"' | b'\\' => byte,
        _ => {
            let digits = [HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 0x0f)]];
            out.extend_from_slice(b"\\u00");
            return out.extend_from_slice(&digits);
        }
    };
    out.extend_from_slice(&[b'\\', short]);
}

/// Writes a whole number in decimal.
pub fn write_number(out: &mut Vec<u8>, mut number: u64) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

/// Writes the number of a room message, `null` for 0: it has none.
pub fn write_number_or_null(out: &mut Vec<u8>, number: u64) {
    match number {
        0 => out.extend_from_slice(b"null"),
        number => write_number(out, number),
    }
}

/// Writes any value.
pub fn write_value(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::String(text) => write_text(out, text),
        // Writing to memory cannot fail, and a `Value` has no keys that are not texts.
        other => drop(serde_json::to_writer(out, other)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn limits() -> JsonLimits {
        JsonLimits { depth: 3, keys: 2, values: 100 }
    }

    #[test]
    fn depth_counts_objects_and_arrays_inside_each_other() {
        assert!(parse("[[[1]]]", limits()).is_ok());
        assert!(parse("[[[[1]]]]", limits()).is_err());
        assert!(parse(r#"{"a":[{"b":1}]}"#, limits()).is_ok());
        assert!(parse(r#"{"a":[{"b":[]}]}"#, limits()).is_err());
    }

    #[test]
    fn fault_row_6_nesting_of_100_000_levels_is_refused_without_touching_the_stack() {
        let text = "[".repeat(100_000);
        assert!(parse(&text, JsonLimits { depth: 1000, ..limits() }).is_err());
        assert!(parse(&text, JsonLimits::default()).is_err());
    }

    #[test]
    fn fault_row_6_too_many_members_and_doubled_members_are_refused() {
        assert!(parse(r#"{"a":1,"b":2}"#, limits()).is_ok());
        assert!(parse(r#"{"a":1,"b":2,"c":3}"#, limits()).is_err());
        assert!(parse(r#"{"a":1,"a":1}"#, limits()).is_err());
        assert!(parse(r#"{"a":1,"\u0061":1}"#, limits()).is_err());
    }

    fn refusal(text: &str) -> Option<JsonRefusal> {
        match parse(text, limits()) {
            Err(JsonError::Refused(refusal)) => Some(refusal),
            Ok(_) | Err(JsonError::NotJson(_)) => None,
        }
    }

    #[test]
    fn json_that_is_refused_is_told_from_text_that_is_not_json() {
        for (text, reason) in [
            ("[[[[]]]]", JsonRefusal::TooDeep(3)),
            (r#"{"a":1,"b":2,"c":3}"#, JsonRefusal::TooManyMembers(2)),
            (r#"{"a":1,"a":2}"#, JsonRefusal::RepeatedMember),
            (r#"{"\ud800":1,"\udfff":2}"#, JsonRefusal::RepeatedMember),
            ("1e999", JsonRefusal::NumberOutOfRange),
        ] {
            assert_eq!(refusal(text), Some(reason), "{text}");
            for broken in [&text[..text.len() - 1], &format!("{text}]"), &format!("{text} {text}")] {
                // A number without its last digit is still one.
                assert!(refusal(broken).is_none() || broken == "1e99", "{broken}");
            }
        }
    }

    #[test]
    fn half_a_surrogate_pair_is_read_as_the_replacement_character() {
        for (text, repaired) in [
            (r#""x\ud83d""#, r#""x\ufffd""#),
            (r#""\uDE00x""#, r#""\ufffdx""#),
            (r#""\ud83d\ud83d\ude00""#, r#""\ufffd\ud83d\ude00""#),
            (r#""\ude00\ud83d""#, r#""\ufffd\ufffd""#),
            (r#""\ud83dé\ude00""#, r#""\ufffdé\ufffd""#),
        ] {
            assert_eq!(to_well_formed(text), repaired);
            let value: Value = serde_json::from_str(repaired).unwrap();
            assert_eq!(parse(text, limits()).unwrap(), value);
            assert_eq!(RawJson::from_parsed(text).to_value(), value);
        }
        for whole in
            [r#""\ud83d\ude00""#, r#""\\ud83d""#, r#""\u00e9\n\"""#, r#""\\\\ud83d""#, r"\", r"\u", r"\ud8", r"\é\ud83"]
        {
            assert_eq!(to_well_formed(whole), whole);
        }
    }

    #[test]
    fn members_are_found_whatever_the_limits_say_of_the_rest() {
        let deep = format!(r#"{{"x":{}{},"id":"1","n":2}}"#, "[".repeat(100_000), "]".repeat(100_000));
        assert_eq!(members(&deep, ["id", "no", "n"]), Some([Some("\"1\""), None, Some("2")]));
        assert_eq!(members(r#"{"id":1,"\u0069d":[ 2 ]}"#, ["id"]), Some([Some("[ 2 ]")]));
        for text in ["", "[]", "5", "null", r#"{"id":1"#, r#"{"id":1}}"#, r#"{"id":1} {"id":1}"#] {
            assert_eq!(members(text, ["id"]), None, "{text}");
        }
    }

    #[test]
    fn fault_row_68_json_of_very_many_values_is_refused_before_they_are_read() {
        let limits = JsonLimits { values: 1000, ..JsonLimits::default() };
        let list = |count: usize, value: &str| format!("[{}{value}]", format!("{value},").repeat(count - 1));
        for value in ["[]", "{}", "1", "\"\"", "null"] {
            assert!(parse(&list(999, value), limits).is_ok(), "{value}");
            let error = parse(&list(1000, value), limits).unwrap_err();
            assert!(matches!(error, JsonError::Refused(JsonRefusal::TooManyValues(1000))), "{value}: {error}");
        }
        let members: String = (0..998).map(|number| format!("\"{number}\":{{}},")).collect();
        assert!(parse(&format!("{{{members}\"x\":1}}"), limits).is_ok());
        assert!(parse(&format!("{{{members}\"x\":[1]}}"), limits).is_err());
        // It is not read to its end, so it need not be JSON.
        let error = parse(&format!("[{}", "[],".repeat(100_000)), limits).unwrap_err();
        assert!(matches!(error, JsonError::Refused(JsonRefusal::TooManyValues(_))), "{error}");
    }

    #[test]
    fn fault_row_68_the_rest_of_a_long_text_that_is_refused_is_not_read() {
        let rest = format!("{}x", "[],".repeat(40_000));
        let refused = |begin: &str| match parse(&format!("{begin}{rest}"), limits()) {
            Err(JsonError::Refused(refusal)) => Some(refusal),
            Err(JsonError::NotJson(_)) => None,
            Ok(_) => panic!("{begin} was accepted"),
        };
        assert_eq!(refused(r#"{"a":1,"a":["#), Some(JsonRefusal::RepeatedMember));
        assert_eq!(refused("[1e999,"), Some(JsonRefusal::NumberOutOfRange));
        assert_eq!(refused("[x,"), None);
    }

    #[test]
    fn leading_members_are_found_without_the_rest() {
        let text = format!(r#"{{"msg":"method","id":"é1","params":[{}"#, "[],".repeat(10_000));
        let found = |max| leading_members(&text, ["id", "msg", "params"], max);
        assert_eq!(found(4096), [Some("\"é1\""), Some("\"method\""), None]);
        assert_eq!((found(25), found(23)), ([None, Some("\"method\""), None], [None, Some("\"method\""), None]));
        assert_eq!(leading_members("[1]", ["id"], 99), [None]);
    }

    #[test]
    fn what_follows_the_value_is_refused() {
        assert!(parse("1 2", limits()).is_err());
        assert!(parse(" 1 ", limits()).is_ok());
    }

    #[test]
    fn what_was_parsed_is_passed_on_as_it_came_without_white_space_between_tokens() {
        let text = "{ \"b\" : 1.0e2 ,\r\n\t\"a b\":[ 1.50, \"\\\" \\\\\" , \" \\\\ \" ] }";
        assert!(parse(text, JsonLimits::default()).is_ok());
        let raw = RawJson::from_parsed(text);
        assert_eq!(raw.as_str(), "{\"b\":1.0e2,\"a b\":[1.50,\"\\\" \\\\\",\" \\\\ \"]}");
    }

    #[test]
    fn huge_numbers_are_read_or_refused_but_never_wrap() {
        assert_eq!(parse("18446744073709551615", limits()).unwrap(), Value::from(u64::MAX));
        assert!(parse("1e999", limits()).is_err());
        assert!(parse(&"9".repeat(400), limits()).is_err());
    }

    #[test]
    fn every_byte_that_needs_an_escape_gets_one_wherever_it_stands() {
        for byte in 0..0x80u8 {
            for at in 0..17 {
                let mut text = "abcdefgh\u{e9}ijklmnop".to_owned();
                let at = if text.is_char_boundary(at) { at } else { at + 1 };
                text.insert(at, char::from(byte));
                let mut json = Vec::new();
                write_text(&mut json, &text);
                assert_eq!(String::from_utf8(json).unwrap(), serde_json::to_string(&text).unwrap());
            }
        }
    }

    proptest! {
        #[test]
        fn a_text_cut_inside_a_pair_is_repaired_as_utf_16_is(units in prop::collection::vec(0xd7fe..0xe002u16, 0..12)) {
            let escaped: String = units.iter().map(|unit| format!("\\u{unit:04x}")).collect();
            let value = parse(&format!("\"{escaped}\""), JsonLimits::default()).unwrap();
            prop_assert_eq!(value, Value::from(String::from_utf16_lossy(&units)));
        }

        #[test]
        fn a_written_text_reads_back(text in any::<String>()) {
            let mut json = Vec::new();
            write_text(&mut json, &text);
            prop_assert_eq!(serde_json::from_slice::<String>(&json).unwrap(), text);
        }

        #[test]
        fn a_written_number_reads_back(number in any::<u64>()) {
            let mut json = Vec::new();
            write_number(&mut json, number);
            prop_assert_eq!(String::from_utf8(json).unwrap(), number.to_string());
        }
    }
}
