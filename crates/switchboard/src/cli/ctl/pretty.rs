//! JSON for people to read, and for a terminal to show.
//!
//! Only white space is added: numbers and the order of members stay as they were sent, which a parsed value would not keep.
//! Control characters that JSON lets stand in texts are escaped, because a terminal may obey them, and clients wrote them.

use std::fmt::Write as _;

use serde::de::IgnoredAny;

const STEP: usize = 2;

/// The same JSON, a member or an element on each line; `None`: it is no JSON.
pub(super) fn indented(json: &str) -> Option<String> {
    serde_json::from_str::<IgnoredAny>(json).ok()?;
    let mut out = String::with_capacity(json.len() * 2);
    let mut depth = 0;
    let mut rest = json.trim_start();
    while let Some(char) = rest.chars().next() {
        rest = match char {
            '"' => {
                let (text, behind) = rest.split_at(text_bytes(rest));
                text.chars().for_each(|char| push_shown(&mut out, char));
                behind
            }
            '{' | '[' => {
                let behind = rest[1..].trim_start();
                out.push(char);
                if let Some(behind) = behind.strip_prefix(['}', ']']) {
                    out.push(closing(char));
                    behind
                } else {
                    depth += 1;
                    line(&mut out, depth);
                    behind
                }
            }
            '}' | ']' => {
                depth -= 1;
                line(&mut out, depth);
                out.push(char);
                &rest[1..]
            }
            ',' => {
                out.push(char);
                line(&mut out, depth);
                &rest[1..]
            }
            ':' => {
                out.push_str(": ");
                &rest[1..]
            }
            other => {
                out.push(other);
                &rest[1..]
            }
        }
        .trim_start();
    }
    Some(out)
}

/// Length of the text at the beginning, with its quotes.
fn text_bytes(json: &str) -> usize {
    let mut is_escaped = false;
    let end = json.char_indices().skip(1).find(|&(_, char)| {
        let is_end = char == '"' && !is_escaped;
        is_escaped = char == '\\' && !is_escaped;
        is_end
    });
    end.map_or(json.len(), |(at, _)| at + 1)
}

fn closing(opening: char) -> char {
    if opening == '{' { '}' } else { ']' }
}

fn line(out: &mut String, depth: usize) {
    out.push('\n');
    out.extend(std::iter::repeat_n(' ', depth * STEP));
}

fn push_shown(out: &mut String, char: char) {
    if char.is_control() {
        // All of them are in the first plane; writing to a String cannot fail.
        let _ = write!(out, "\\u{:04x}", u32::from(char));
    } else {
        out.push(char);
    }
}

#[cfg(test)]
mod tests {
    use super::indented;

    #[test]
    fn a_member_or_an_element_stands_on_a_line() {
        let json = r#"{"a":[1.50,{},[ ],"x"],"b":{"c":12345678901234567890123,"d":null},"e":""}"#;
        let expected = r#"{
  "a": [
    1.50,
    {},
    [],
    "x"
  ],
  "b": {
    "c": 12345678901234567890123,
    "d": null
  },
  "e": ""
}"#;
        assert_eq!(indented(json).unwrap(), expected);
        assert_eq!(indented(expected).unwrap(), expected);
        assert_eq!(indented(" true ").unwrap(), "true");
    }

    #[test]
    fn texts_stay_but_for_control_characters() {
        let json = "{\"a \\\" {,\\\\\":\"\\\\\\\"é\u{9b}31m\u{7f}, [:]\"}";
        let shown = indented(json).unwrap();
        assert_eq!(shown, "{\n  \"a \\\" {,\\\\\": \"\\\\\\\"é\\u009b31m\\u007f, [:]\"\n}");
        let value = |json: &str| serde_json::from_str::<serde_json::Value>(json).unwrap();
        assert_eq!(value(&shown), value(json));
    }

    #[test]
    fn what_is_no_json_is_not_shown() {
        for odd in ["", "{", "{\"a\":1,}", "\u{1b}[31m", "<html>", "1 2", "\"\u{1b}\""] {
            assert_eq!(indented(odd), None, "{odd:?}");
        }
    }
}
