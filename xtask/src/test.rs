//! `xtask test`: everything that must hold, by one command.
//!
//! Tools first: what is missing is installed by its name or asked for, never skipped. Then the steps, all of them even if
//! one fails; at the end one line for each, and one that says whether all is well.
//!
//! - `steps`: what is run.
//! - `tools`: what that needs.
//! - `run`: running a program and keeping its output.
//! - `progress`: what is shown until a program ends.
//! - `runners`: which tests the output names.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use self::runners::{Failure, Tests};
use self::steps::Step;

mod progress;
mod run;
mod runners;
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
        if let Err(reason) = &outcome.result {
            println!("{}\n{reason}", outcome.output.trim_end());
        }
        println!("-- {}: {}, {}\n", step.name(), word(outcome.result.is_ok()), seconds(took));
        done.push(Done { name: step.name(), has_passed: outcome.result.is_ok(), took, tests: outcome.tests });
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
    tests: Tests,
}

/// A step that was run.
struct Done {
    name: &'static str,
    has_passed: bool,
    took: Duration,
    tests: Tests,
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
    let sum = |count: fn(&Tests) -> usize| done.iter().map(|done| count(&done.tests)).sum::<usize>();
    let (passed, failed) = (sum(|tests| tests.passed), sum(|tests| tests.failed));
    if passed + failed > 0 {
        text.push_str(&format!("tests: {passed} passed, {failed} failed\n"));
    }
    let failures: Vec<&Done> = done.iter().filter(|done| !done.has_passed).collect();
    if failures.is_empty() {
        text.push_str(&format!("all {} steps passed\n", done.len()));
        return text;
    }
    for done in &failures {
        for Failure { name, command } in &done.tests.failures {
            text.push_str(&format!("\nFAILED {name}\n  {command}\n"));
        }
        if done.tests.failures.is_empty() {
            text.push_str(&format!("\nFAILED {0}\n  cargo xtask test --only {0}\n", done.name));
        }
    }
    let names: Vec<&str> = failures.iter().map(|done| done.name).collect();
    text.push_str(&format!("\nFAILED: {}\n", names.join(", ")));
    text
}

fn word(has_passed: bool) -> &'static str {
    if has_passed { "passed" } else { "FAILED" }
}

fn seconds(took: Duration) -> String {
    let secs = took.as_secs();
    if secs >= 60 { format!("{} min {:02} s", secs / 60, secs % 60) } else { format!("{:.1} s", took.as_secs_f64()) }
}

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
    fn the_last_lines_name_each_failed_test_with_its_command() {
        let done = |name, has_passed, took, passed, failures: &[&str]| Done {
            name,
            has_passed,
            took: Duration::from_millis(took),
            tests: Tests {
                passed,
                failed: failures.len(),
                failures: failures
                    .iter()
                    .map(|name| Failure { name: (*name).to_owned(), command: format!("cargo test {name}") })
                    .collect(),
            },
        };
        assert_eq!(
            summary(&[done("format", true, 340, 0, &[]), done("test", true, 125_900, 40, &[])]),
            "format       passed          0.3 s\ntest         passed     2 min 05 s\ntests: 40 passed, 0 failed\nall 2 steps passed\n"
        );
        assert_eq!(
            summary(&[
                done("lint", false, 1000, 0, &[]),
                done("tidy", true, 1, 0, &[]),
                done("test", false, 1, 7, &["a", "b"])
            ]),
            "\
lint         FAILED          1.0 s
tidy         passed          0.0 s
test         FAILED          0.0 s
tests: 7 passed, 2 failed

FAILED lint
  cargo xtask test --only lint

FAILED a
  cargo test a

FAILED b
  cargo test b

FAILED: lint, test
"
        );
    }
}
