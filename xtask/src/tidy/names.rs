//! Names in Markdown: settings, metrics and files that a page mentions exist.

use std::collections::BTreeSet;

use super::links::prose_with_code;
use super::tree::Tree;
use super::{Problem, Report};

/// Pages that tests hold complete, so that a name is right when the page has it.
const SETTINGS: &str = "docs/reference/configuration.md";
const METRICS: &str = "docs/reference/metrics.md";

/// Crates whose names begin like a metric.
const CRATES: [&str; 2] = ["switchboard_proto", "switchboard_testkit"];

pub(super) fn check(tree: &Tree, report: &mut Report) {
    let text_of = |path| tree.get(path).map_or("", |file| file.text.as_str());
    let settings: BTreeSet<&str> = text_of(SETTINGS)
        .lines()
        .filter(|line| line.starts_with('#'))
        .filter_map(|line| line.split('`').nth(1))
        .collect();
    let metrics: BTreeSet<&str> = metrics_in(text_of(METRICS)).collect();
    for file in tree.with_extension("md") {
        for (line, text) in prose_with_code(&file.text) {
            for span in text.split('`').skip(1).step_by(2) {
                let word = span.split([' ', '=']).next().unwrap_or_default().trim_matches(['[', ']']);
                let mut complain = |name: &str, what: String| {
                    report.problems.push(Problem::at(&file.path, line, format!("{name} {what}: correct it")));
                };
                if is_unknown_setting(&settings, word) {
                    complain(word, format!("is no setting or section of {SETTINGS}"));
                }
                if is_missing_file(tree, word) {
                    complain(word, "is no file of the repository".to_owned());
                }
                for metric in metrics_in(span).filter(|metric| !metrics.contains(metric)) {
                    complain(metric, format!("is no metric of {METRICS}"));
                }
            }
        }
    }
}

/// Returns whether the word is written like a setting, begins like one, and is neither a setting nor a section.
fn is_unknown_setting(settings: &BTreeSet<&str>, word: &str) -> bool {
    let is_part = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    let Some((section, _)) = word.split_once('.') else { return false };
    let begins_with =
        |start: &str| settings.iter().any(|key| key.strip_prefix(start).is_some_and(|rest| rest.starts_with('.')));
    word.split('.').all(is_part) && begins_with(section) && !settings.contains(word) && !begins_with(word)
}

/// Returns whether the word is written like a path of this repository, whole or its end, and there is no such file.
fn is_missing_file(tree: &Tree, word: &str) -> bool {
    const EXTENSIONS: [&str; 8] = ["rs", "lua", "js", "sh", "py", "toml", "md", "yml"];
    let is_path = word.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-./".contains(&byte))
        && word.contains('/')
        && word.rsplit_once('.').is_some_and(|(_, extension)| EXTENSIONS.contains(&extension));
    // A path of a URL, of a user's machine, or of build output.
    let is_elsewhere = word.starts_with(['/', '.']) || word.starts_with("target/");
    let is_there = || {
        let end = format!("/{word}");
        tree.get(word).is_some() || tree.files().any(|file| file.path.ends_with(&end))
    };
    is_path && !is_elsewhere && !is_there()
}

/// Names of metrics in a text.
fn metrics_in(text: &str) -> impl Iterator<Item = &str> {
    text.match_indices("switchboard_")
        .filter(|(at, _)| !text[..*at].ends_with(|before: char| before.is_ascii_alphanumeric() || before == '_'))
        .map(|(at, _)| {
            let end = text[at..].find(|c: char| !c.is_ascii_lowercase() && c != '_').map_or(text.len(), |end| at + end);
            &text[at..end]
        })
        .filter(|name| !CRATES.contains(name))
}

#[cfg(test)]
mod tests {
    use super::super::tests::problems;

    fn problems_of(readme: &str) -> Vec<String> {
        problems(&[
            ("README.md", readme),
            ("docs/README.md", "[c](reference/configuration.md) [m](reference/metrics.md)\n"),
            (super::SETTINGS, "## `node`\n### `node.name`\n### `servers.web.port`\n"),
            (super::METRICS, "| `switchboard_rooms` | gauge | rooms |\n"),
            ("crates/a/src/hub/mod.rs", ""),
        ])
    }

    #[test]
    fn names_that_exist_are_right() {
        let text = "`node.name` `node.name = 1` `servers.web` `[servers.web]` `servers.web.port` `other.thing` `node.name()`\n\
            `switchboard_rooms{kind=\"a\"}` `switchboard_proto::id` `crates/a/src/hub/mod.rs` `hub/mod.rs` `mod.rs`\n\
            `/javascript/x.js` `./x.toml` `target/x.md`\n\n```sh\nnode.nmae\n```\n";
        assert_eq!(problems_of(text), [""; 0]);
    }

    #[test]
    fn names_that_do_not_exist_are_found() {
        for (text, expected) in [
            (
                "`node.nmae`",
                "README.md:1: node.nmae is no setting or section of docs/reference/configuration.md: correct it",
            ),
            (
                "a `servers.web.ping = 1`",
                "README.md:1: servers.web.ping is no setting or section of docs/reference/configuration.md: correct it",
            ),
            (
                "`switchboard_room`",
                "README.md:1: switchboard_room is no metric of docs/reference/metrics.md: correct it",
            ),
            ("`ub/mod.rs`", "README.md:1: ub/mod.rs is no file of the repository: correct it"),
        ] {
            assert_eq!(problems_of(&format!("{text}\n")), [expected]);
        }
    }
}
