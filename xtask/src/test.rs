//! `xtask test`: everything that must hold, by one command.
//!
//! Tools first: what is missing is installed by its name or asked for, never skipped. Then the steps, all of them even if
//! one fails; at the end one line for each, and one that says whether all is well.
//!
//! - `steps`: what is run.
//! - `tools`: what that needs.
//! - `run`: running a program and keeping what it says.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use self::steps::Step;

mod run;
mod steps;
mod tools;

/// Runs the steps that the words ask for.
pub(crate) fn run(words: &[String]) -> ExitCode {
    let (chosen, is_long) = match parse(words) {
        Ok(Some(parsed)) => parsed,
        Ok(None) => return ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("{problem}; see cargo xtask test --help");
            return ExitCode::from(2);
        }
    };
    if let Err(problem) = tools::provide(&chosen) {
        eprintln!("{problem}\n\nFAILED: tools");
        return ExitCode::FAILURE;
    }
    let mut done = Vec::with_capacity(chosen.len());
    for step in chosen {
        println!("== {}: {}", step.name(), step.what());
        let started = Instant::now();
        let outcome = step.run(is_long);
        let took = started.elapsed();
        match &outcome.result {
            Ok(()) => println!("{}", tail(&outcome.output)),
            Err(reason) => println!("{}\n{reason}", outcome.output.trim_end()),
        }
        println!("-- {}: {}, {}\n", step.name(), word(outcome.result.is_ok()), seconds(took));
        done.push(Done {
            name: step.name(),
            has_passed: outcome.result.is_ok(),
            took,
            counted: count(&outcome.output),
        });
    }
    print!("{}", summary(&done));
    if done.iter().all(|done| done.has_passed) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// What came of a step.
struct Outcome {
    /// All that it said.
    output: String,
    /// Why it failed.
    result: Result<(), String>,
}

/// A step that was run.
struct Done {
    name: &'static str,
    has_passed: bool,
    took: Duration,
    counted: Counted,
}

/// Tests that a step's programs have counted by themselves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counted {
    passed: usize,
    failed: usize,
}

/// Understands the words: which steps, and whether at length; `None` if they asked for something that has been printed.
fn parse(words: &[String]) -> Result<Option<(Vec<Step>, bool)>, String> {
    let (mut chosen, mut is_long) = (Step::ALL.to_vec(), false);
    let mut words = words.iter();
    while let Some(word) = words.next() {
        match word.as_str() {
            "-h" | "--help" => {
                println!("{HELP}");
                return Ok(None);
            }
            "--list" => {
                for step in Step::ALL {
                    println!("{:12} {}", step.name(), step.what());
                }
                return Ok(None);
            }
            "--long" => is_long = true,
            "--only" => {
                let names = words.next().ok_or("--only needs the name of a step")?;
                let named: Vec<Step> = names.split(',').map(Step::named).collect::<Result<_, _>>()?;
                chosen.retain(|step| named.contains(step));
            }
            word => return Err(format!("there is no option {word:?}")),
        }
    }
    Ok(Some((chosen, is_long)))
}

fn summary(done: &[Done]) -> String {
    let mut text = String::new();
    for done in done {
        text.push_str(&format!("{:12} {:8} {:>12}\n", done.name, word(done.has_passed), seconds(done.took)));
    }
    let (mut passed, mut failed) = (0, 0);
    for Counted { passed: p, failed: f } in done.iter().map(|done| done.counted) {
        passed += p;
        failed += f;
    }
    if passed + failed > 0 {
        text.push_str(&format!("tests: {passed} passed, {failed} failed\n"));
    }
    let failures: Vec<&str> = done.iter().filter(|done| !done.has_passed).map(|done| done.name).collect();
    if failures.is_empty() {
        text.push_str(&format!("all {} steps passed\n", done.len()));
    } else {
        text.push_str(&format!("FAILED: {}\n", failures.join(", ")));
    }
    text
}

fn word(has_passed: bool) -> &'static str {
    if has_passed { "passed" } else { "FAILED" }
}

fn seconds(took: Duration) -> String {
    let secs = took.as_secs();
    if secs >= 60 { format!("{} min {:02} s", secs / 60, secs % 60) } else { format!("{:.1} s", took.as_secs_f64()) }
}

/// The last lines of what a step said.
fn tail(output: &str) -> String {
    let lines: Vec<&str> = output.trim_end().lines().collect();
    let from = lines.len().saturating_sub(LINES_OF_TAIL);
    let mark = if from > 0 { format!("   … {from} lines before\n") } else { String::new() };
    format!("{mark}{}", lines[from..].join("\n"))
}

/// Adds up the closing lines of Rust's and node's test runners.
fn count(output: &str) -> Counted {
    let mut counted = Counted::default();
    for line in output.lines().map(str::trim_start) {
        if let Some(result) = line.strip_prefix("test result: ") {
            let number = |what: &str| {
                let before = result.split(what).next().filter(|before| before.len() < result.len());
                before.and_then(|before| before.split_whitespace().next_back()).and_then(|number| number.parse().ok())
            };
            counted.passed += number(" passed;").unwrap_or(0);
            counted.failed += number(" failed;").unwrap_or(0);
        } else if let Some(figure) = line.strip_prefix("ℹ ").or_else(|| line.strip_prefix("# ")) {
            let number = |what: &str| figure.strip_prefix(what).and_then(|number| number.trim().parse().ok());
            counted.passed += number("pass ").unwrap_or(0);
            counted.failed += number("fail ").unwrap_or(0);
        }
    }
    counted
}

/// How much of a step that passed is shown.
const LINES_OF_TAIL: usize = 12;

const HELP: &str = "\
Usage: cargo xtask test [--only STEP[,STEP]] [--long] [--list]

Runs everything that must hold before a change is done, and installs what that needs (Debian packages as root or
with sudo, npm packages into conformance/). The exit code is 0 if all steps passed.

  --only STEP[,STEP]  only these steps
  --long              what is killed a few times is killed a hundred times, which takes minutes more
  --list              name the steps";

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Option<(Vec<Step>, bool)>, String> {
        parse(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn steps_are_run_in_their_order_whatever_the_order_of_the_words() {
        let names = |line: &str| parsed(line).unwrap().unwrap().0.iter().map(|step| step.name()).collect::<Vec<_>>();
        assert_eq!(names(""), Step::ALL.map(Step::name));
        assert_eq!(names("--only lint,format"), ["format", "lint"]);
        assert_eq!(parsed("--list"), Ok(None));
        assert_eq!(
            parsed("--only tset").unwrap_err(),
            "there is no step \"tset\"; there are format, lint, tidy, test, doc, conformance"
        );
        assert!(parsed("--only").is_err() && parsed("--quick").is_err());
    }

    #[test]
    fn only_who_asks_for_it_waits_for_the_long_tests() {
        let is_long = |line: &str| parsed(line).unwrap().unwrap().1;
        assert!(!is_long("") && !is_long("--only test"));
        assert!(is_long("--long") && is_long("--long --only test"));
    }

    #[test]
    fn the_last_line_says_whether_all_is_well() {
        let done = |name, has_passed, took, passed, failed| Done {
            name,
            has_passed,
            took: Duration::from_millis(took),
            counted: Counted { passed, failed },
        };
        assert_eq!(
            summary(&[done("format", true, 340, 0, 0), done("test", true, 125_900, 40, 0)]),
            "format       passed          0.3 s\ntest         passed     2 min 05 s\ntests: 40 passed, 0 failed\nall 2 steps passed\n"
        );
        let summary =
            summary(&[done("lint", false, 1000, 0, 0), done("tidy", true, 1, 0, 0), done("doc", false, 1, 0, 0)]);
        assert!(summary.ends_with("\nFAILED: lint, doc\n"), "{summary}");
        assert!(!summary.contains("tests:"), "{summary}");
    }

    #[test]
    fn tests_are_counted_from_closing_lines() {
        for (output, passed, failed) in [
            (
                "test result: ok. 26 passed; 0 failed; 0 ignored; 0 measured\n x\ntest result: FAILED. 1 passed; 2 failed;",
                27,
                2,
            ),
            ("ℹ tests 134\nℹ pass 133\nℹ fail 1\n", 133, 1),
            ("# tests 3\n# pass 3\n# fail 0\n# pass the salt", 3, 0),
            ("nothing of the kind\n", 0, 0),
        ] {
            assert_eq!(count(output), Counted { passed, failed }, "{output}");
        }
    }

    #[test]
    fn of_what_passed_the_end_is_shown() {
        let lines = |count: usize| (1..=count).map(|line| line.to_string()).collect::<Vec<_>>().join("\n");
        assert_eq!(tail(&lines(12)), lines(12));
        assert!(tail(&lines(15)).starts_with("   … 3 lines before\n4\n"));
    }
}
