//! Sizes, white space and words.

use super::rust::Code;
use super::tree::{File, Tree};
use super::{Problem, Report};

/// Nobody reads a file to its end beyond this; longer ones fail.
const LINES_MAX: usize = 800;
/// From here on it is time to look for the second subject in a file.
const LINES_WORTH_SAYING: usize = 600;

/// What people write; white space matters in nothing else.
const WRITTEN: [&str; 12] = ["css", "html", "js", "json", "lock", "md", "mjs", "rs", "sh", "toml", "ts", "yml"];

/// Files that a server under test serves: each of their bytes is on purpose.
const SERVED: &[&str] = &["crates/switchboard/tests/it/public/"];

/// Words that must not appear, and why. The one place where they are kept, and so the one file that may have them.
const WORDS: [(&str, &str); 7] = [
    ("/Users/", "is a path of somebody's machine: use a relative one"),
    ("/home/", "is a path of somebody's machine: use a relative one"),
    ("://deb.", "is a package host: name the package, the reader's tools know from where"),
    ("://index.", "is a registry host: name the package, the reader's tools know from where"),
    ("://registry.", "is a registry host: name the package, the reader's tools know from where"),
    ("://static.", "is a registry host: name the package, the reader's tools know from where"),
    (
        "\"resolved\": \"http",
        "names a registry host: conformance/.npmrc leaves it out, so let npm write the file again",
    ),
];
const PLACE_OF_WORDS: &str = "xtask/src/tidy/text.rs";

/// Marks of unfinished work. Written in two pieces, so that they are not found here.
const MARKS: [&str; 2] = [concat!("TO", "DO"), concat!("FIX", "ME")];

pub(super) fn check(tree: &Tree, report: &mut Report) {
    for file in tree.files() {
        check_words(file, report);
        if WRITTEN.contains(&file.extension()) && !file.is_under(SERVED) {
            check_white_space(file, report);
        }
        if matches!(file.extension(), "js" | "rs") {
            check_length(file, report);
        }
    }
    check_changelog(tree, report);
}

fn check_length(file: &File, report: &mut Report) {
    let lines = file.lines().count();
    if lines > LINES_MAX {
        let what =
            format!("has {lines} lines, more than {LINES_MAX}: find the second subject in it and give it a file");
        report.problems.push(Problem::of_file(&file.path, what));
    } else if lines > LINES_WORTH_SAYING {
        report
            .notes
            .push(Problem::of_file(&file.path, format!("has {lines} lines; at {LINES_MAX} it must be divided")));
    }
}

fn check_white_space(file: &File, report: &mut Report) {
    let in_text = match file.extension() {
        "rs" => Code::parse(&file.text).lines_ending_in_text,
        _ => Vec::new(),
    };
    for (number, line) in file.lines() {
        if line.ends_with([' ', '\t', '\r']) && !in_text.contains(&number) {
            report.problems.push(Problem::at(&file.path, number, "ends with white space: remove it"));
        }
    }
    if !file.text.is_empty() && !file.text.ends_with('\n') {
        report.problems.push(Problem::of_file(&file.path, "does not end with a line end: add one"));
    }
}

fn check_words(file: &File, report: &mut Report) {
    for (number, line) in file.lines() {
        for mark in MARKS.into_iter().filter(|mark| has_word(line, mark)) {
            let what = format!("says {mark}: do it, or open an issue");
            report.problems.push(Problem::at(&file.path, number, what));
        }
        if file.path == PLACE_OF_WORDS {
            continue;
        }
        for (word, why) in WORDS.into_iter().filter(|(word, _)| line.contains(word)) {
            report.problems.push(Problem::at(&file.path, number, format!("{word} {why}")));
        }
    }
}

/// Whether `word` stands alone in `line`, as no part of a longer word.
fn has_word(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let is_letter = |character: Option<char>| character.is_some_and(char::is_alphanumeric);
        !is_letter(line[..at].chars().next_back()) && !is_letter(line[at + word.len()..].chars().next())
    })
}

fn check_changelog(tree: &Tree, report: &mut Report) {
    const NAME: &str = "CHANGELOG.md";
    let Some(file) = tree.get(NAME) else {
        report.problems.push(Problem::of_file(NAME, "is missing"));
        return;
    };
    let is_unreleased = |line: &str| {
        let title = line.strip_prefix("## ").unwrap_or_default().trim_start_matches('[');
        title.starts_with("Unreleased")
    };
    if !file.lines().any(|(_, line)| is_unreleased(line)) {
        report.problems.push(Problem::of_file(NAME, "has no section `## Unreleased`: changes need a place"));
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::problems;
    use super::super::{Tree, check};
    use super::*;

    #[test]
    fn a_long_file_is_noted_and_a_very_long_one_fails() {
        let lines = |count: usize| "a\n".repeat(count);
        for (count, problems, notes) in [(600, 0, 0), (601, 0, 1), (800, 0, 1), (801, 1, 0)] {
            let tree = Tree::of(&[
                ("a.rs", &lines(count)),
                ("a.md", &lines(count)),
                ("CHANGELOG.md", "## Unreleased\n"),
                ("README.md", ""),
            ]);
            let report = check(&tree);
            assert_eq!((report.problems.len(), report.notes.len()), (problems, notes), "{count} lines: {report}");
        }
    }

    #[test]
    fn lines_end_with_something_that_can_be_seen() {
        for (path, text, expected) in [
            ("a.md", "a \nb\t\nc\r\nd", "a.md:1 a.md:2 a.md:3 a.md"),
            ("a.toml", "a\n\nb\n", ""),
            ("a.txt", "a \nb", ""),
            (concat!("crates/switchboard/tests/it/public/", "a.html"), "a \nb", ""),
            // Within a text it is content.
            ("a.rs", "a(\"b \n  c \");\nd(); \n", "a.rs:3"),
        ] {
            let places: Vec<String> = problems(&[(path, text)])
                .iter()
                .map(|problem| problem.split_once(": ").map_or("", |(place, _)| place).to_owned())
                .collect();
            let mut expected: Vec<&str> = expected.split_whitespace().collect();
            expected.sort_unstable();
            let mut places: Vec<&str> = places.iter().map(String::as_str).collect();
            places.sort_unstable();
            assert_eq!(places, expected, "{path}: {text:?}");
        }
    }

    #[test]
    fn some_words_must_not_appear() {
        for word in WORDS.map(|(word, _)| word) {
            let text = format!("a\nsee {word}b\n");
            assert_eq!(
                problems(&[("docs/README.md", text.as_str()), ("README.md", "[a](docs/README.md)\n")]).len(),
                1,
                "{word}"
            );
            assert_eq!(problems(&[(PLACE_OF_WORDS, text.as_str())]), [""; 0]);
        }
        assert_eq!(problems(&[("a.toml", "network and roots, homework\n")]), [""; 0]);
    }

    #[test]
    fn nothing_is_marked_for_later() {
        for mark in MARKS {
            assert_eq!(
                problems(&[("a.toml", &format!("# {mark}: more\n"))]),
                [format!("a.toml:1: says {mark}: do it, or open an issue")]
            );
            assert_eq!(problems(&[("a.toml", &format!("# {mark}S{mark}\n"))]), [""; 0]);
        }
    }

    #[test]
    fn the_changelog_has_a_place_for_what_comes_next() {
        let changelog = |text: &str| problems(&[("CHANGELOG.md", text)]).len();
        assert_eq!(changelog("# Changes\n\n## [Unreleased]\n\n- a\n"), 0);
        assert_eq!(changelog("# Changes\n\n## Unreleased\n"), 0);
        assert_eq!(changelog("# Changes\n\n## 0.1.0\n"), 1);
        let report = check(&Tree::of(&[]));
        assert!(report.to_string().contains("CHANGELOG.md: is missing\n"), "{report}");
    }
}
