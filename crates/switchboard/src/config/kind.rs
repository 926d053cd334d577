//! The types of settings: how numbers, sizes, durations, switches, choices, texts and paths are written.

use std::borrow::Cow;
use std::path::PathBuf;
use std::time::Duration;

use toml::Spanned;
use toml::de::DeValue;

use super::section::{Kind, Mismatch};

/// `true` or `false`.
pub(super) struct Switch;

impl Kind<bool> for Switch {
    fn type_name(&self) -> String {
        "true or false".into()
    }

    fn read(&self, value: &Spanned<DeValue<'_>>) -> Result<bool, Vec<Mismatch>> {
        value.get_ref().as_bool().ok_or_else(|| refuse("true or false", value))
    }

    fn write(&self, value: &bool) -> String {
        value.to_string()
    }

    fn check(&self, _: &bool) -> Vec<Mismatch> {
        Vec::new()
    }
}

/// A whole number in a range, without a unit.
#[derive(PartialEq)]
pub(super) struct Whole {
    min: u64,
    max: u64,
}

impl Whole {
    pub(super) const fn range(min: u64, max: u64) -> Self {
        Self { min, max }
    }

    /// A count whose only bound is that of the machine's arithmetic.
    pub(super) const fn any() -> Self {
        Self { min: 0, max: u32::MAX as u64 }
    }

    fn range_name(&self) -> String {
        format!("whole number from {} to {}", self.min, self.max)
    }
}

impl<T> Kind<T> for Whole
where
    T: Copy + TryFrom<u64>,
    u64: TryFrom<T>,
{
    fn type_name(&self) -> String {
        if *self == Self::any() { "whole number".into() } else { self.range_name() }
    }

    fn read(&self, value: &Spanned<DeValue<'_>>) -> Result<T, Vec<Mismatch>> {
        integer(value.get_ref())
            .filter(|number| (self.min..=self.max).contains(number))
            .and_then(|number| T::try_from(number).ok())
            .ok_or_else(|| refuse(&with_article(&self.range_name()), value))
    }

    fn write(&self, value: &T) -> String {
        u64::try_from(*value).unwrap_or(u64::MAX).to_string()
    }

    fn check(&self, value: &T) -> Vec<Mismatch> {
        match u64::try_from(*value) {
            Ok(number) if (self.min..=self.max).contains(&number) => Vec::new(),
            _ => vec![Mismatch::new(&with_article(&self.range_name()), self.write(value))],
        }
    }
}

/// A number of bytes, written `"64KiB"` or as a plain number.
pub(super) struct Size {
    min: usize,
    max: usize,
}

impl Size {
    /// 0, which turns the limit off, or any size.
    pub(super) const fn any() -> Self {
        Self { min: 0, max: usize::MAX >> 1 }
    }

    pub(super) const fn range(min: usize, max: usize) -> Self {
        Self { min, max }
    }

    fn expected(&self) -> String {
        if self.min == 0 && self.max == Self::any().max {
            "a size such as \"64KiB\", \"1MiB\" or a number of bytes".into()
        } else {
            format!("a size from {} to {}", write_size(self.min), write_size(self.max))
        }
    }
}

impl Kind<usize> for Size {
    fn type_name(&self) -> String {
        if self.min == 0 && self.max == Self::any().max {
            "size".into()
        } else {
            format!("size from {} to {}", write_size(self.min), write_size(self.max))
        }
    }

    fn read(&self, value: &Spanned<DeValue<'_>>) -> Result<usize, Vec<Mismatch>> {
        let bytes = match value.get_ref() {
            DeValue::String(text) => parse_size(text),
            other => integer(other).and_then(|number| usize::try_from(number).ok()),
        };
        bytes.filter(|bytes| (self.min..=self.max).contains(bytes)).ok_or_else(|| refuse(&self.expected(), value))
    }

    fn write(&self, value: &usize) -> String {
        quote_unless_zero(write_size(*value))
    }

    fn check(&self, value: &usize) -> Vec<Mismatch> {
        if (self.min..=self.max).contains(value) {
            Vec::new()
        } else {
            vec![Mismatch::new(&self.expected(), write_size(*value))]
        }
    }
}

/// A length of time, written `"300ms"`, `"5s"`, `"2m"`, `"1h"` or `"90d"`; a plain 0 needs no unit.
pub(super) struct Span {
    min: Duration,
    max: Duration,
    zero_allowed: bool,
}

impl Span {
    /// Longer waits are typing errors, and adding them to a clock could overflow it.
    const LONGEST: Duration = Duration::from_secs(3650 * 24 * 3600);

    pub(super) const fn any() -> Self {
        Self { min: Duration::ZERO, max: Self::LONGEST, zero_allowed: true }
    }

    pub(super) const fn range(min: Duration, max: Duration) -> Self {
        Self { min, max, zero_allowed: false }
    }

    /// 0 for "off", or a time in the range.
    pub(super) const fn off_or(min: Duration, max: Duration) -> Self {
        Self { min, max, zero_allowed: true }
    }

    fn allows(&self, value: Duration) -> bool {
        (value.is_zero() && self.zero_allowed) || (self.min..=self.max).contains(&value)
    }

    fn range_name(&self) -> Option<String> {
        (self.max != Self::LONGEST).then(|| {
            let off = if self.zero_allowed && !self.min.is_zero() { "0 or " } else { "" };
            let (min, max) = (write_duration(self.min), write_duration(self.max));
            format!("{off}a duration from {min} to {max}")
        })
    }

    fn expected(&self) -> String {
        self.range_name().unwrap_or_else(|| "a duration such as \"300ms\", \"5s\", \"2m\", \"1h\" or \"90d\"".into())
    }
}

impl Kind<Duration> for Span {
    fn type_name(&self) -> String {
        self.range_name().unwrap_or_else(|| "duration".into())
    }

    fn read(&self, value: &Spanned<DeValue<'_>>) -> Result<Duration, Vec<Mismatch>> {
        let duration = match value.get_ref() {
            DeValue::String(text) => parse_duration(text),
            other => integer(other).filter(|number| *number == 0).map(Duration::from_secs),
        };
        duration.filter(|duration| self.allows(*duration)).ok_or_else(|| refuse(&self.expected(), value))
    }

    fn write(&self, value: &Duration) -> String {
        quote_unless_zero(write_duration(*value))
    }

    fn check(&self, value: &Duration) -> Vec<Mismatch> {
        if self.allows(*value) { Vec::new() } else { vec![Mismatch::new(&self.expected(), write_duration(*value))] }
    }
}

/// A length of time that may be absent: TOML has no null, so the empty text says "none".
impl Kind<Option<Duration>> for Span {
    fn type_name(&self) -> String {
        format!("{}, or empty for none", Kind::<Duration>::type_name(self))
    }

    fn read(&self, value: &Spanned<DeValue<'_>>) -> Result<Option<Duration>, Vec<Mismatch>> {
        match value.get_ref() {
            DeValue::String(text) if text.is_empty() => Ok(None),
            _ => Kind::<Duration>::read(self, value).map(Some),
        }
    }

    fn write(&self, value: &Option<Duration>) -> String {
        value.as_ref().map_or_else(|| quote(""), |duration| Kind::<Duration>::write(self, duration))
    }

    fn check(&self, value: &Option<Duration>) -> Vec<Mismatch> {
        value.as_ref().map_or_else(Vec::new, |duration| Kind::<Duration>::check(self, duration))
    }
}

/// A text of any content, or of a content that a rule describes.
pub(super) struct Text {
    name: &'static str,
    allows: fn(&str) -> bool,
}

impl Text {
    pub(super) const fn any() -> Self {
        Self { name: "text", allows: |_| true }
    }

    /// A text for which `allows` holds; `name` completes the sentence "expected a …".
    pub(super) const fn such_that(name: &'static str, allows: fn(&str) -> bool) -> Self {
        Self { name, allows }
    }
}

impl Kind<String> for Text {
    fn type_name(&self) -> String {
        self.name.into()
    }

    fn read(&self, value: &Spanned<DeValue<'_>>) -> Result<String, Vec<Mismatch>> {
        match value.get_ref() {
            DeValue::String(text) if (self.allows)(text) => Ok(text.to_string()),
            _ => Err(refuse(&with_article(self.name), value)),
        }
    }

    fn write(&self, value: &String) -> String {
        quote(value)
    }

    fn check(&self, value: &String) -> Vec<Mismatch> {
        if (self.allows)(value) { Vec::new() } else { vec![Mismatch::new(&with_article(self.name), quote(value))] }
    }
}

/// A path of the file system; relative ones start at the working directory of the process.
pub(super) struct FilePath;

impl Kind<PathBuf> for FilePath {
    fn type_name(&self) -> String {
        "path".into()
    }

    fn read(&self, value: &Spanned<DeValue<'_>>) -> Result<PathBuf, Vec<Mismatch>> {
        match value.get_ref() {
            DeValue::String(text) if is_path(text) => Ok(PathBuf::from(text.as_ref())),
            _ => Err(refuse("a path", value)),
        }
    }

    fn write(&self, value: &PathBuf) -> String {
        quote(&value.to_string_lossy())
    }

    fn check(&self, value: &PathBuf) -> Vec<Mismatch> {
        if is_path(&value.to_string_lossy()) { Vec::new() } else { vec![Mismatch::new("a path", self.write(value))] }
    }
}

/// A path that may be absent: TOML has no null, so the empty text says "none".
impl Kind<Option<PathBuf>> for FilePath {
    fn type_name(&self) -> String {
        "path, or empty for none".into()
    }

    fn read(&self, value: &Spanned<DeValue<'_>>) -> Result<Option<PathBuf>, Vec<Mismatch>> {
        match value.get_ref() {
            DeValue::String(text) if text.is_empty() => Ok(None),
            _ => Kind::<PathBuf>::read(self, value).map(Some),
        }
    }

    fn write(&self, value: &Option<PathBuf>) -> String {
        value.as_ref().map_or_else(|| quote(""), |path| Kind::<PathBuf>::write(self, path))
    }

    fn check(&self, value: &Option<PathBuf>) -> Vec<Mismatch> {
        value.as_ref().map_or_else(Vec::new, |path| Kind::<PathBuf>::check(self, path))
    }
}

/// An enum that is written as one of a few words.
pub(super) trait Word: Copy + PartialEq + 'static {
    /// Every value with its word, in the order of the reference.
    const WORDS: &'static [(Self, &'static str)];
}

/// One of the words of a [`Word`] enum.
pub(super) struct OneOf;

impl<T: Word> Kind<T> for OneOf {
    fn type_name(&self) -> String {
        let words: Vec<String> = T::WORDS.iter().map(|(_, word)| quote(word)).collect();
        match words.split_last() {
            Some((last, others)) if !others.is_empty() => format!("{} or {last}", others.join(", ")),
            _ => words.concat(),
        }
    }

    fn read(&self, value: &Spanned<DeValue<'_>>) -> Result<T, Vec<Mismatch>> {
        let word = value.get_ref().as_str();
        let found = T::WORDS.iter().find(|(_, candidate)| Some(*candidate) == word);
        found.map(|(choice, _)| *choice).ok_or_else(|| refuse(&Kind::<T>::type_name(self), value))
    }

    fn write(&self, value: &T) -> String {
        let word = T::WORDS.iter().find(|(choice, _)| choice == value);
        quote(word.map_or("", |(_, word)| word))
    }

    fn check(&self, _: &T) -> Vec<Mismatch> {
        Vec::new()
    }
}

/// The refusal of a value that is quoted as it was written.
pub(super) fn refuse(expected: &str, value: &Spanned<DeValue<'_>>) -> Vec<Mismatch> {
    vec![Mismatch::new(expected, describe(value.get_ref()))]
}

/// A value as an error shows it: short, on one line.
pub(super) fn describe(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => {
            let text = without_secrets(text);
            let short: String = text.chars().take(60).collect();
            let more = if short.len() < text.len() { "…" } else { "" };
            format!("{}{more}", quote(&short))
        }
        DeValue::Integer(number) => number.to_string(),
        DeValue::Float(number) => number.to_string(),
        DeValue::Boolean(flag) => flag.to_string(),
        DeValue::Datetime(when) => when.to_string(),
        DeValue::Array(_) => "a list".into(),
        DeValue::Table(_) => "a table".into(),
    }
}

/// Removes from a URL the parts that may be secret: user, password, query and fragment. Everything before
/// the last `@` is removed, in other texts too, since a password may have an `@` or `/` that is not escaped.
fn without_secrets(text: &str) -> Cow<'_, str> {
    let Some((scheme, rest)) = text.split_once("://") else {
        return match text.rsplit_once('@') {
            Some((_, host)) => format!("***@{}", host.split(['?', '#']).next().unwrap_or_default()).into(),
            None => text.into(),
        };
    };
    let (user, rest) = rest.rsplit_once('@').map_or(("", rest), |(_, rest)| ("***@", rest));
    let (rest, query) = match rest.find(['?', '#']) {
        Some(at) => (&rest[..at], "?***"),
        None => (rest, ""),
    };
    format!("{scheme}://{user}{rest}{query}").into()
}

/// A text as a TOML basic string.
pub(super) fn quote(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for character in text.chars() {
        match character {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            control if control.is_control() => quoted.push_str(&format!("\\u{:04X}", u32::from(control))),
            other => quoted.push(other),
        }
    }
    quoted.push('"');
    quoted
}

fn with_article(noun: &str) -> String {
    let article = if noun.starts_with(['A', 'E', 'I', 'O', 'U', 'a', 'e', 'i', 'o', 'u']) { "an" } else { "a" };
    format!("{article} {noun}")
}

fn quote_unless_zero(text: String) -> String {
    if text == "0" { text } else { quote(&text) }
}

fn is_path(text: &str) -> bool {
    !text.is_empty() && !text.contains('\0')
}

/// A whole number that is not negative.
pub(super) fn integer(value: &DeValue<'_>) -> Option<u64> {
    let number = value.as_integer()?;
    u64::from_str_radix(number.as_str(), number.radix()).ok()
}

/// The units of a kind, the largest first, so that writing finds the shortest form.
const SIZE_UNITS: [(&str, u64); 4] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];
const DURATION_UNITS: [(&str, u64); 5] =
    [("d", 24 * 3_600_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

fn parse_size(text: &str) -> Option<usize> {
    parse_units(text, &SIZE_UNITS).and_then(|bytes| usize::try_from(bytes).ok())
}

/// A duration as the configuration writes it, such as `"300ms"`, `"5s"`, `"2m"`, or `"0"`.
pub(crate) fn parse_duration(text: &str) -> Option<Duration> {
    parse_units(text, &DURATION_UNITS).map(Duration::from_millis)
}

/// `0`, or digits followed by exactly one of the units.
fn parse_units(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let number: u64 = text[..digits].parse().ok()?;
    match text[digits..].trim_start() {
        "" => (number == 0).then_some(0),
        unit => units.iter().find(|(name, _)| *name == unit).and_then(|(_, factor)| number.checked_mul(*factor)),
    }
}

fn write_size(bytes: usize) -> String {
    write_units(bytes as u64, &SIZE_UNITS)
}

/// Part of a millisecond counts as a whole one: rounding down could turn a limit off.
fn write_duration(duration: Duration) -> String {
    let millis = duration.as_nanos().div_ceil(1_000_000);
    write_units(u64::try_from(millis).unwrap_or(u64::MAX), &DURATION_UNITS)
}

fn write_units(number: u64, units: &[(&str, u64)]) -> String {
    let unit = units.iter().find(|(_, factor)| number != 0 && number.is_multiple_of(*factor));
    unit.map_or_else(|| number.to_string(), |(name, factor)| format!("{}{name}", number / factor))
}
