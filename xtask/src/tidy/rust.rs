//! As much of Rust as the checks need: tokens, without comments and texts, and the paths they form.

/// A token of code and its line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Token<'a> {
    pub(super) line: usize,
    /// A word, `::`, or one character of punctuation.
    pub(super) text: &'a str,
}

/// A path such as `std::time::Instant` and the line it begins in. In `use` trees every branch is a path of its own; a glob
/// ends with `*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RustPath<'a> {
    pub(super) line: usize,
    pub(super) segments: Vec<&'a str>,
}

/// What a file's text is made of.
pub(super) struct Code<'a> {
    pub(super) tokens: Vec<Token<'a>>,
    /// Lines that end within a text, whose last characters are therefore content.
    pub(super) lines_ending_in_text: Vec<usize>,
}

impl<'a> Code<'a> {
    pub(super) fn parse(source: &'a str) -> Self {
        let mut lexer = Lexer { source, at: 0, line: 1, lines_ending_in_text: Vec::new() };
        let mut tokens = Vec::new();
        while let Some(token) = lexer.next() {
            tokens.push(token);
        }
        Self { tokens, lines_ending_in_text: lexer.lines_ending_in_text }
    }

    /// The code without what is compiled for tests only.
    pub(super) fn without_tests(mut self) -> Self {
        const MARK: [&str; 7] = ["#", "[", "cfg", "(", "test", ")", "]"];
        let mut kept = Vec::with_capacity(self.tokens.len());
        let mut at = 0;
        while at < self.tokens.len() {
            let is_mark = self.tokens[at..].iter().map(|token| token.text).take(MARK.len()).eq(MARK);
            if is_mark {
                at = end_of_item(&self.tokens, at + MARK.len());
            } else {
                kept.push(self.tokens[at].clone());
                at += 1;
            }
        }
        self.tokens = kept;
        self
    }

    /// Every path, those of one word included.
    pub(super) fn paths(&self) -> Vec<RustPath<'a>> {
        let mut paths = Vec::new();
        let mut at = 0;
        while at < self.tokens.len() {
            let token = &self.tokens[at];
            if token.text == "use" {
                at = use_tree(&self.tokens, at + 1, &[], &mut paths);
            } else if is_word(token.text) {
                let mut segments = vec![token.text];
                while self.text(at + 1) == "::" && is_word(self.text(at + 2)) {
                    segments.push(self.text(at + 2));
                    at += 2;
                }
                paths.push(RustPath { line: token.line, segments });
                at += 1;
            } else {
                at += 1;
            }
        }
        paths
    }

    /// The text of a token; empty behind the last one.
    pub(super) fn text(&self, at: usize) -> &'a str {
        self.tokens.get(at).map_or("", |token| token.text)
    }
}

/// Reads one branch of a `use` tree from `at`, returns where it ends.
fn use_tree<'a>(tokens: &[Token<'a>], mut at: usize, prefix: &[&'a str], paths: &mut Vec<RustPath<'a>>) -> usize {
    let mut segments = prefix.to_vec();
    let line = tokens.get(at).map_or(0, |token| token.line);
    let mut was_group = false;
    while let Some(token) = tokens.get(at) {
        match token.text {
            "::" => at += 1,
            "{" => {
                was_group = true;
                at += 1;
                while let Some(token) = tokens.get(at) {
                    match token.text {
                        "}" => break,
                        "," => at += 1,
                        _ => at = use_tree(tokens, at, &segments, paths),
                    }
                }
                at += 1;
            }
            // The new name says nothing about what is named.
            "as" => at += 2,
            "*" => {
                segments.push("*");
                at += 1;
            }
            // `self` in a group names the module itself.
            "self" if !segments.is_empty() => at += 1,
            word if is_word(word) => {
                segments.push(word);
                at += 1;
            }
            _ => break,
        }
    }
    if !was_group && !segments.is_empty() {
        paths.push(RustPath { line, segments });
    }
    // A token that is no part of a tree must not hold up the caller.
    match tokens.get(at).map(|token| token.text) {
        Some("," | "}") if !prefix.is_empty() => at,
        _ => at + 1,
    }
}

/// The end of the item that begins at `at`: its `;` or its closing brace.
fn end_of_item(tokens: &[Token<'_>], mut at: usize) -> usize {
    let mut depth = 0usize;
    while let Some(token) = tokens.get(at) {
        at += 1;
        match token.text {
            "{" | "(" | "[" => depth += 1,
            ")" | "]" => depth = depth.saturating_sub(1),
            "}" => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    // That of a `use` tree is followed by one more.
                    at += usize::from(tokens.get(at).is_some_and(|token| token.text == ";"));
                    break;
                }
            }
            ";" if depth == 0 => break,
            _ => {}
        }
    }
    at
}

fn is_word(text: &str) -> bool {
    text.starts_with(|first: char| first.is_alphabetic() || first == '_')
}

struct Lexer<'a> {
    source: &'a str,
    at: usize,
    line: usize,
    lines_ending_in_text: Vec<usize>,
}

impl<'a> Lexer<'a> {
    fn next(&mut self) -> Option<Token<'a>> {
        loop {
            let rest = self.rest();
            let first = rest.chars().next()?;
            if first.is_whitespace() {
                self.skip(first.len_utf8(), false);
            } else if rest.starts_with("//") {
                self.skip(rest.find('\n').unwrap_or(rest.len()), false);
            } else if rest.starts_with("/*") {
                self.skip(block_comment(rest), false);
            } else if let Some(length) = text_literal(rest) {
                self.skip(length, true);
            } else {
                let length = match first {
                    ':' if rest.starts_with("::") => 2,
                    '\'' => lifetime(rest),
                    _ if first.is_alphanumeric() || first == '_' => word(rest),
                    _ => first.len_utf8(),
                };
                let token = Token { line: self.line, text: &rest[..length] };
                self.skip(length, false);
                return Some(token);
            }
        }
    }

    fn rest(&self) -> &'a str {
        &self.source[self.at..]
    }

    fn skip(&mut self, length: usize, is_text: bool) {
        for _ in self.rest()[..length].matches('\n') {
            if is_text {
                self.lines_ending_in_text.push(self.line);
            }
            self.line += 1;
        }
        self.at += length;
    }
}

fn word(rest: &str) -> usize {
    rest.find(|next: char| !next.is_alphanumeric() && next != '_').unwrap_or(rest.len())
}

fn lifetime(rest: &str) -> usize {
    1 + word(&rest[1..])
}

/// The length of a comment that may contain others.
fn block_comment(rest: &str) -> usize {
    let (mut depth, mut at) = (0usize, 0);
    while at < rest.len() {
        if rest[at..].starts_with("/*") {
            depth += 1;
            at += 2;
        } else if rest[at..].starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                break;
            }
        } else {
            at += rest[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    at
}

/// The length of the text or character that `rest` begins with, prefix and quotes included.
fn text_literal(rest: &str) -> Option<usize> {
    let prefix = ["br", "cr", "b", "c", "r", ""].into_iter().find(|prefix| {
        let behind = rest.strip_prefix(prefix).unwrap_or_default();
        let is_raw = prefix.ends_with('r');
        behind.starts_with('"')
            || (is_raw && behind.trim_start_matches('#').starts_with('"') && behind.starts_with('#'))
    });
    if let Some(prefix) = prefix {
        let behind = &rest[prefix.len()..];
        let length = if prefix.ends_with('r') { raw_text(behind) } else { quoted(behind, '"') };
        return Some(prefix.len() + length);
    }
    let prefix = usize::from(rest.starts_with("b'"));
    let behind = &rest[prefix..];
    // `'a'` is a character, `'a` is a lifetime.
    let mut characters = behind.strip_prefix('\'')?.chars();
    let is_character = match characters.next()? {
        '\\' => true,
        _ => characters.next() == Some('\''),
    };
    is_character.then(|| prefix + quoted(behind, '\''))
}

fn raw_text(rest: &str) -> usize {
    let marks = rest.len() - rest.trim_start_matches('#').len();
    let end = format!("\"{}", "#".repeat(marks));
    let from = marks + 1;
    rest[from..].find(&end).map_or(rest.len(), |at| from + at + end.len())
}

fn quoted(rest: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, character) in rest.char_indices().skip(1) {
        match character {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            character if character == quote => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(source: &str) -> String {
        Code::parse(source).tokens.iter().map(|token| token.text).collect::<Vec<_>>().join(" ")
    }

    fn paths(source: &str) -> Vec<String> {
        Code::parse(source).paths().iter().map(|path| path.segments.join("::")).collect()
    }

    #[test]
    fn comments_and_texts_are_no_code() {
        for (source, expected) in [
            ("a // b\nc /* d /* e */ f */ g", "a c g"),
            (r#"a("b \" c", 'd', '\'', b'e', b"f") g"#, "a ( , , , , ) g"),
            (r####"a(r"b\", r#"c " d"#, br##"e "# f"##) g"####, "a ( , , ) g"),
            ("fn a<'b>(c: &'b str) {}", "fn a < 'b > ( c : & 'b str ) { }"),
            ("'label: loop { break 'label }", "'label : loop { break 'label }"),
            ("r#type == radius + b", "r # type = = radius + b"),
            ("1.5e3 + 0xff_u8", "1 . 5e3 + 0xff_u8"),
            ("\"unfinished", ""),
            ("/* unfinished", ""),
        ] {
            assert_eq!(words(source), expected, "{source}");
        }
    }

    #[test]
    fn tokens_know_their_line_and_texts_the_lines_they_go_on_in() {
        let code = Code::parse("a\n/*\n*/ b \"c \nd\n\" e");
        let lines: Vec<_> = code.tokens.iter().map(|token| (token.text, token.line)).collect();
        assert_eq!(lines, [("a", 1), ("b", 3), ("e", 5)]);
        assert_eq!(code.lines_ending_in_text, [3, 4]);
    }

    #[test]
    fn every_branch_of_a_use_tree_is_a_path() {
        for (source, expected) in [
            ("use a::b;", vec!["a::b"]),
            ("use a::{b, c::{self, d as e}, f::*}; g", vec!["a::b", "a::c", "a::c::d", "a::f::*", "g"]),
            ("use {a, b::c}; d", vec!["a", "b::c", "d"]),
            ("use ::a::b as _; c", vec!["a::b", "c"]),
            ("use super::super::a;", vec!["super::super::a"]),
            ("use self::a;", vec!["self::a"]),
            ("pub(crate) use crate::a; b", vec!["pub", "crate", "crate::a", "b"]),
            ("let x = a::b::<C::D>(e);", vec!["let", "x", "a::b", "C::D", "e"]),
            ("use", vec![]),
            ("use a::{b", vec!["a::b"]),
        ] {
            assert_eq!(paths(source), expected, "{source}");
        }
    }

    #[test]
    fn what_is_for_tests_only_can_be_left_out() {
        let source = "a; #[cfg(test)] mod tests { b { c } } d #[cfg(test)] use e::{f}; g #[cfg(test)] #[x(y)] fn h(i: [u8; 2]) {} j";
        let code = Code::parse(source).without_tests();
        let kept: Vec<_> = code.tokens.iter().map(|token| token.text).collect();
        assert_eq!(kept, ["a", ";", "d", "g", "j"], "{source}");
    }
}
