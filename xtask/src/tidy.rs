//! `xtask tidy`: rules of structure that no compiler checks.
//!
//! Every check looks at the whole [`Tree`] and says what is wrong, where, and what to do about it. They read text: a rule
//! that would need types is no rule for here.
//!
//! - `tree`: the files.
//! - `rust`: as much of the language as the checks need: code without comments and texts, and the paths in it.
//! - `layers`: who may name whom.
//! - `text`: sizes, white space, words.
//! - `links`: links in Markdown lead somewhere.
//! - `names`: settings, metrics and files that Markdown mentions exist.

use std::fmt;
use std::process::ExitCode;

use crate::repository::repository;

use self::tree::Tree;

mod layers;
mod links;
mod names;
mod rust;
mod text;
mod tree;

/// Runs the chore.
pub(crate) fn run(words: &[String]) -> ExitCode {
    if !words.is_empty() {
        eprintln!("tidy takes no words");
        return ExitCode::from(2);
    }
    let report = check_repository();
    print!("{report}");
    if report.problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Checks this repository.
pub(crate) fn check_repository() -> Report {
    match Tree::read(repository()) {
        Ok(tree) => check(&tree),
        Err(error) => {
            Report { problems: vec![Problem::of_file(".", format!("cannot be read: {error}"))], notes: vec![] }
        }
    }
}

/// What the checks found.
#[derive(Debug, Default)]
pub(crate) struct Report {
    /// What must be changed.
    pub(crate) problems: Vec<Problem>,
    /// What should be looked at some time.
    pub(crate) notes: Vec<Problem>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for note in &self.notes {
            writeln!(f, "note: {note}")?;
        }
        for problem in &self.problems {
            writeln!(f, "{problem}")?;
        }
        match self.problems.len() {
            0 => writeln!(f, "tidy"),
            1 => writeln!(f, "1 problem"),
            count => writeln!(f, "{count} problems"),
        }
    }
}

/// Something that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Problem {
    path: String,
    line: Option<usize>,
    what: String,
}

impl Problem {
    fn of_file(path: &str, what: impl Into<String>) -> Self {
        Self { path: path.to_owned(), line: None, what: what.into() }
    }

    fn at(path: &str, line: usize, what: impl Into<String>) -> Self {
        Self { path: path.to_owned(), line: Some(line), what: what.into() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}:{line}: {}", self.path, self.what),
            None => write!(f, "{}: {}", self.path, self.what),
        }
    }
}

fn check(tree: &Tree) -> Report {
    let mut report = Report::default();
    layers::check(tree, &mut report);
    text::check(tree, &mut report);
    links::check(tree, &mut report);
    names::check(tree, &mut report);
    report.problems.sort();
    report.notes.sort();
    report
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the checks say about these files, one line each, beside files that every repository must have.
    pub(super) fn problems(files: &[(&str, &str)]) -> Vec<String> {
        let tree = Tree::of(files);
        let report = check(&tree);
        report
            .problems
            .iter()
            .filter(|problem| !problem.what.ends_with("is missing"))
            .map(ToString::to_string)
            .collect()
    }

    #[test]
    fn this_repository_is_tidy() {
        let report = check_repository();
        assert!(report.problems.is_empty(), "\n{report}");
    }

    #[test]
    fn a_report_says_where_and_how_many() {
        let at = Problem::at("a.rs", 3, "is odd");
        let mut report = Report { problems: vec![at], notes: vec![Problem::of_file("b.rs", "is long")] };
        assert_eq!(report.to_string(), "note: b.rs: is long\na.rs:3: is odd\n1 problem\n");
        report.problems.push(Problem::of_file("c", "is missing"));
        assert!(report.to_string().ends_with("c: is missing\n2 problems\n"));
        assert_eq!(Report::default().to_string(), "tidy\n");
    }
}
