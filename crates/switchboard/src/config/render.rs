//! The table of keys as text: reference, example file, effective values.

use std::fmt::Write as _;

use super::load::Loaded;
use super::section::Section;
use super::settings::Config;

/// One key as the reference describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyInfo {
    /// The whole name, as in `servers.socket.port`.
    pub path: String,
    /// The type with its unit and range.
    pub type_name: String,
    /// The default as TOML.
    pub default: String,
    /// What it is.
    pub meaning: &'static str,
    /// What happens when the limit is reached; empty for what is not a limit.
    pub reached: &'static str,
    section_about: &'static str,
}

/// Every key of the configuration, in the order of the reference.
pub fn keys() -> Vec<KeyInfo> {
    let mut keys = Vec::new();
    Config::default().visit("", &mut |key, slot| {
        keys.push(KeyInfo {
            path: key.path.to_owned(),
            type_name: slot.type_name(),
            default: slot.write_default(),
            meaning: key.meaning,
            reached: key.reached,
            section_about: key.section_about,
        });
    });
    keys
}

/// The reference of all keys, as Markdown: the text of `config reference` and of `docs/reference/configuration.md`.
pub fn reference() -> String {
    let mut page = REFERENCE_HEAD.to_owned();
    let mut last_header = String::new();
    for key in keys() {
        let (header, _) = header_and_name(&key.path);
        if header != last_header {
            push(&mut page, format_args!("\n## `[{header}]`\n\n{}\n", key.section_about));
            last_header = header.to_owned();
        }
        push(&mut page, format_args!("\n### `{}`\n\n{}\n\n", key.path, key.meaning));
        push(&mut page, format_args!("- Type: {}\n- Default: `{}`\n", key.type_name, key.default));
        if !key.reached.is_empty() {
            push(&mut page, format_args!("- When reached: {}\n", key.reached));
        }
    }
    page
}

/// A configuration file that sets nothing: every key with its default, commented out.
pub fn example() -> String {
    let mut file = EXAMPLE_HEAD.to_owned();
    let mut last_header = String::new();
    for key in keys() {
        let (header, name) = header_and_name(&key.path);
        if header != last_header {
            push(&mut file, format_args!("\n[{header}]\n"));
            last_header = header.to_owned();
        }
        push(&mut file, format_args!("\n{}{}", comment(key.meaning), comment(&format!("Type: {}", key.type_name))));
        if !key.reached.is_empty() {
            file.push_str(&comment(&format!("When reached: {}", key.reached)));
        }
        push(&mut file, format_args!("#{name} = {}\n", key.default));
    }
    file
}

/// The effective values as TOML, each with its origin: the text of `config show`. Loading it gives the same values,
/// but for secrets, which are not shown.
pub fn show(loaded: &Loaded) -> String {
    let mut file = String::new();
    let mut last_header = String::new();
    // Writing needs no mutable access; visiting asks for it because loading does.
    loaded.config.clone().visit("", &mut |key, slot| {
        let (header, name) = header_and_name(key.path);
        if header != last_header {
            let space = if file.is_empty() { "" } else { "\n" };
            push(&mut file, format_args!("{space}[{header}]\n"));
            last_header = header.to_owned();
        }
        // Beside a path a port is refused, so the one that is there by default must not look like a setting.
        let unused = key.path == "servers.socket.port" && loaded.config.servers.socket.path.is_some();
        let value = slot.write();
        // What stands in a secret's place is no value.
        let mark = if unused || slot.hides() { "#" } else { "" };
        push(&mut file, format_args!("{mark}{name} = {value} # {}\n", loaded.origins.of(key.path)));
    });
    file
}

/// Splits a key into a section header of at most two names and the rest, as in `servers.socket` and `tls.cert`.
fn header_and_name(path: &str) -> (&str, &str) {
    let dots: Vec<usize> = path.match_indices('.').map(|(dot, _)| dot).collect();
    match dots.get(1).or(dots.first()) {
        Some(dot) => (&path[..*dot], &path[dot + 1..]),
        None => ("", path),
    }
}

/// A text as comment lines of bearable length.
fn comment(text: &str) -> String {
    let mut lines = String::new();
    let mut line = String::new();
    for word in text.split_whitespace() {
        if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > 98 {
            push(&mut lines, format_args!("# {line}\n"));
            line.clear();
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    push(&mut lines, format_args!("# {line}\n"));
    lines
}

fn push(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail; there is nothing to report.
    let _ = text.write_fmt(arguments);
}

const REFERENCE_HEAD: &str = include_str!("reference_head.md");

const EXAMPLE_HEAD: &str = "\
# Switchboard: every setting with its default, commented out. Copy to switchboard.toml and change what you need.
#
# Durations: \"300ms\", \"5s\", \"2m\", \"1h\", \"90d\". Sizes: \"64KiB\", \"1MiB\" or a number of bytes.
# 0 turns a limit off where nothing else is said. Check with: switchboard check-config --config switchboard.toml
";
