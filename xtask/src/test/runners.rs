//! Output of test programs, read line by line: what runs, how many tests passed, which failed, and how to run those
//! again.

use std::path::PathBuf;

/// The tests of one step.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Tests {
    pub(super) passed: usize,
    pub(super) failed: usize,
    pub(super) failures: Vec<Failure>,
}

/// A failed test and the command that runs it alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) name: String,
    pub(super) command: String,
}

/// Reads what one kind of program prints.
pub(super) trait Runner {
    /// Takes the next line. Returns a line of progress if this one finished something.
    fn line(&mut self, line: &str) -> Option<String>;

    /// Says what runs now.
    fn status(&self) -> String;

    /// Gives the tests that were run, after the last line.
    fn tests(&mut self) -> Tests;
}

/// Reads `cargo`: packages that are built and the output of Rust's test runner.
#[derive(Debug, Default)]
pub(super) struct Cargo {
    packages: usize,
    /// The test program that runs, by its name and source.
    program: Option<(String, String)>,
    done: usize,
    failed: usize,
    /// Names in the last list of failures, which a test program prints just before its result.
    listed: Option<Vec<String>>,
    /// Failures of a program that has printed its result. cargo says afterwards how to run that program again.
    ended: Vec<String>,
    tests: Tests,
}

impl Cargo {
    fn begin(&mut self, name: &str, source: &str) {
        self.program = Some((name.to_owned(), source.to_owned()));
        (self.done, self.failed, self.listed) = (0, 0, None);
    }

    /// Takes the line of one test: `test NAME ... ok`.
    fn test(&mut self, test: &str) -> Option<String> {
        let Some((name, result)) = test.split_once(" ... ") else {
            return test.contains(" has been running for over ").then(|| format!("slow: {test}"));
        };
        self.done += 1;
        if result != "FAILED" {
            return None;
        }
        self.failed += 1;
        Some(format!("FAILED {}", self.full_name(name)))
    }

    /// Takes the closing line of a test program.
    fn result(&mut self, result: &str) -> String {
        let number = |what: &str| {
            let part = result.split([';', '.']).find_map(|part| part.strip_suffix(what));
            part.and_then(|number| number.trim().parse().ok()).unwrap_or(0)
        };
        let (passed, failed, ignored) = (number(" passed"), number(" failed"), number(" ignored"));
        self.tests.passed += passed;
        self.tests.failed += failed;
        let listed = self.listed.take().unwrap_or_default();
        if failed > 0 {
            self.ended.extend(listed);
        }
        let program = self.program.as_ref().map_or_else(String::new, |(name, source)| format!("{name} ({source})"));
        let took = result.rsplit_once("finished in ").map_or("", |(_, took)| took);
        let ignored = if ignored > 0 { format!(", {ignored} ignored") } else { String::new() };
        format!("{program}: {passed} passed, {failed} failed{ignored}; {took}")
    }

    /// Takes the options that run the last test program again.
    fn rerun(&mut self, options: &str) {
        let names = std::mem::take(&mut self.ended);
        if names.is_empty() {
            // It was killed, say, so that no test is to blame by name.
            let name = self.program.as_ref().map_or(options, |(name, _)| name);
            let name = format!("{name} ended without a result");
            return self.tests.failures.push(Failure { name, command: format!("cargo test {options}") });
        }
        for name in names {
            let command = format!("cargo test {options} -- --exact {}", quoted(&name));
            let name = self.full_name(&name);
            self.tests.failures.push(Failure { name, command });
        }
    }

    /// The name of a test with that of its program. Names of documentation tests begin with a file and need no program.
    fn full_name(&self, name: &str) -> String {
        match &self.program {
            Some((program, _)) if !name.contains(' ') => format!("{program}::{name}"),
            _ => name.to_owned(),
        }
    }
}

impl Runner for Cargo {
    fn line(&mut self, line: &str) -> Option<String> {
        // cargo puts its own words into the first twelve columns.
        if let Some(program) = line.strip_prefix("     Running ") {
            let (source, path) = program.split_once(" (").unwrap_or((program, program));
            let file = path.trim_end_matches(')').rsplit('/').next().unwrap_or_default();
            let name = file.rsplit_once('-').map_or(file, |(name, _)| name);
            self.begin(name, source.trim_start_matches("unittests "));
        } else if let Some(package) = line.strip_prefix("   Doc-tests ") {
            self.begin(package, "documentation");
        } else if ["   Compiling ", "    Checking ", " Documenting "].iter().any(|verb| line.starts_with(verb)) {
            self.packages += 1;
        } else if let Some(test) = line.strip_prefix("test result: ") {
            return Some(self.result(test));
        } else if let Some(test) = line.strip_prefix("test ") {
            return self.test(test);
        } else if line == "failures:" {
            self.listed = Some(Vec::new());
        } else if let (Some(listed), Some(name)) = (&mut self.listed, line.strip_prefix("    ")) {
            listed.push(name.to_owned());
        } else if let Some((_, options)) =
            line.strip_prefix("error: ").and_then(|error| error.split_once("test failed, to rerun pass `"))
        {
            self.rerun(options.trim_end_matches('`'));
        }
        None
    }

    fn status(&self) -> String {
        match &self.program {
            Some((name, source)) => format!("{name} ({source}): {} tests done, {} failed", self.done, self.failed),
            None => format!("building, {} packages", self.packages),
        }
    }

    fn tests(&mut self) -> Tests {
        std::mem::take(&mut self.tests)
    }
}

/// Reads `node --test` with the reporter `spec`.
#[derive(Debug)]
pub(super) struct Node {
    /// The server under test, which a single test needs too.
    server: PathBuf,
    suites: Vec<String>,
    passed: usize,
    failed: usize,
    /// The file of the next entry in the closing list of failures, once that list has begun.
    failing: Option<String>,
    tests: Tests,
}

impl Node {
    pub(super) fn new(server: PathBuf) -> Self {
        Self { server, suites: Vec::new(), passed: 0, failed: 0, failing: None, tests: Tests::default() }
    }

    /// Takes the line that ends a test or a suite. Suites are not counted.
    fn ended(&mut self, name: &str, has_passed: bool) -> Option<String> {
        if self.suites.last().is_some_and(|suite| suite == name) {
            self.suites.pop();
            return None;
        }
        if has_passed {
            self.passed += 1;
            return None;
        }
        self.failed += 1;
        Some(format!("FAILED {}", self.suites.iter().map(|suite| format!("{suite}: ")).collect::<String>() + name))
    }

    fn failure(&mut self, file: &str, name: &str) {
        // The whole file fails under its own name when it cannot be loaded.
        let is_file = name.ends_with(file);
        let pattern = if is_file { String::new() } else { format!("--test-name-pattern={} ", quoted(&exactly(name))) };
        let server = quoted(&self.server.display().to_string());
        let command = format!("cd conformance && SWITCHBOARD_BIN={server} node --test {pattern}{file}");
        let name = if is_file { file.to_owned() } else { format!("{file}: {name}") };
        self.tests.failures.push(Failure { name, command });
    }
}

impl Runner for Node {
    fn line(&mut self, line: &str) -> Option<String> {
        if line == "✖ failing tests:" {
            self.failing = Some(String::new());
        } else if let Some(file) = &mut self.failing {
            if let Some(place) = line.strip_prefix("test at ") {
                let path = place.split(':').next().unwrap_or_default();
                *file = path.rsplit('/').next().unwrap_or_default().to_owned();
            } else if let Some(name) = line.strip_prefix("✖ ").and_then(name_of)
                && !file.is_empty()
            {
                // One entry a place: what a failed test has printed may look like another.
                let file = std::mem::take(file);
                self.failure(&file, name);
            }
        } else if let Some(figure) = line.strip_prefix("ℹ ") {
            let number = |what: &str| figure.strip_prefix(what).and_then(|number| number.parse().ok());
            self.tests.passed += number("pass ").unwrap_or(0);
            self.tests.failed += number("fail ").unwrap_or(0);
        } else if let Some(suite) = line.trim_start().strip_prefix("▶ ") {
            self.suites.push(suite.to_owned());
        } else if let Some(name) = line.trim_start().strip_prefix("✔ ").and_then(name_of) {
            return self.ended(name, true);
        } else if let Some(name) = line.trim_start().strip_prefix("✖ ").and_then(name_of) {
            return self.ended(name, false);
        }
        None
    }

    fn status(&self) -> String {
        let suite = self.suites.first().map_or_else(String::new, |suite| format!("; {suite}"));
        format!("{} tests done, {} failed{suite}", self.passed + self.failed, self.failed)
    }

    fn tests(&mut self) -> Tests {
        std::mem::take(&mut self.tests)
    }
}

/// The name in `NAME (12.3ms)`; `None` if there is no time, as in lines that tests print themselves.
fn name_of(ended: &str) -> Option<&str> {
    let (name, time) = ended.rsplit_once(" (")?;
    time.split_once("ms)").map(|_| name)
}

/// A regular expression for just this text.
fn exactly(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        if r"\^$.*+?()[]{}|/".contains(c) {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    format!("^{escaped}$")
}

/// A text as one word of a shell.
fn quoted(text: &str) -> String {
    if text.chars().all(|c| c.is_ascii_alphanumeric() || "_-./:=".contains(c)) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads all of it. Returns the lines of progress.
    fn read(runner: &mut dyn Runner, output: &str) -> Vec<String> {
        output.lines().filter_map(|line| runner.line(line)).collect()
    }

    fn failures(runner: &mut dyn Runner) -> Vec<(String, String)> {
        runner.tests().failures.into_iter().map(|failure| (failure.name, failure.command)).collect()
    }

    fn pair(name: &str, command: &str) -> (String, String) {
        (name.to_owned(), command.to_owned())
    }

    /// As cargo 1.94 prints it, shortened.
    const CARGO: &str = "\
   Compiling switchboard v0.1.0 (/r/crates/switchboard)
    Finished `test` profile [unoptimized + debuginfo] target(s) in 42.06s
     Running unittests src/lib.rs (target/debug/deps/switchboard_proto-4c4a35fb3e3a2a3e)

running 2 tests
test json::tests::deep ... ok
test json::tests::slow has been running for over 60 seconds
test json::tests::slow ... ok

test result: ok. 2 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 61.03s

     Running tests/it/main.rs (target/debug/deps/it-88c2fd8f6b0bd11b)

running 4 tests
test rooms::odd - should panic ... ok
test rooms::one ... FAILED
test rooms::kept ... ignored, needs a disk
test web::two ... FAILED

failures:

---- rooms::one stdout ----
thread 'rooms::one' panicked at crates/switchboard/tests/it/rooms.rs:7:5:
failures:
    of::another::kind

---- web::two stdout ----
    at some place

failures:
    rooms::one
    web::two

test result: FAILED. 1 passed; 2 failed; 1 ignored; 0 measured; 0 filtered out; finished in 3.10s

error: test failed, to rerun pass `-p switchboard --test it`
     Running unittests src/main.rs (target/debug/deps/xtask-2e6a3c2d6d0f3e6c)

running 1 test
error: test failed, to rerun pass `-p xtask --bin xtask`

Caused by:
  process didn't exit successfully: `target/debug/deps/xtask-2e6a3c2d6d0f3e6c` (signal: 6, SIGABRT: process abort signal)
   Doc-tests switchboard

running 1 test
test crates/switchboard/src/lib.rs - (line 9) - compile ... FAILED

failures:

---- crates/switchboard/src/lib.rs - (line 9) stdout ----
error[E0425]: cannot find value `x`

failures:
    crates/switchboard/src/lib.rs - (line 9)

test result: FAILED. 0 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.61s

error: doctest failed, to rerun pass `-p switchboard --doc`
error: 3 targets failed:
    `-p switchboard --test it`
";

    #[test]
    fn each_test_program_gets_a_line_and_failed_tests_are_named_at_once() {
        assert_eq!(
            read(&mut Cargo::default(), CARGO),
            [
                "slow: json::tests::slow has been running for over 60 seconds",
                "switchboard_proto (src/lib.rs): 2 passed, 0 failed; 61.03s",
                "FAILED it::rooms::one",
                "FAILED it::web::two",
                "it (tests/it/main.rs): 1 passed, 2 failed, 1 ignored; 3.10s",
                "FAILED crates/switchboard/src/lib.rs - (line 9) - compile",
                "switchboard (documentation): 0 passed, 1 failed; 0.61s",
            ]
        );
    }

    #[test]
    fn failed_rust_tests_are_listed_with_the_command_for_each() {
        let mut cargo = Cargo::default();
        read(&mut cargo, CARGO);
        let tests = cargo.tests();
        assert_eq!((tests.passed, tests.failed), (3, 3));
        cargo.tests = tests;
        assert_eq!(
            failures(&mut cargo),
            [
                pair("it::rooms::one", "cargo test -p switchboard --test it -- --exact rooms::one"),
                pair("it::web::two", "cargo test -p switchboard --test it -- --exact web::two"),
                pair("xtask ended without a result", "cargo test -p xtask --bin xtask"),
                pair(
                    "crates/switchboard/src/lib.rs - (line 9)",
                    "cargo test -p switchboard --doc -- --exact 'crates/switchboard/src/lib.rs - (line 9)'"
                ),
            ]
        );
    }

    #[test]
    fn the_status_names_what_is_built_or_tested() {
        let mut cargo = Cargo::default();
        cargo.line("   Compiling memchr v2.7.4");
        assert_eq!(cargo.status(), "building, 1 packages");
        read(&mut cargo, "     Running tests/it/main.rs (target/debug/deps/it-88c2fd8f6b0bd11b)\ntest a ... ok\n");
        assert_eq!(cargo.status(), "it (tests/it/main.rs): 1 tests done, 0 failed");
    }

    /// As node 20 prints it, shortened.
    const NODE: &str = "\
▶ the chat page
  ✔ shows messages (5.04049ms)
  ▶ in a small window
    ✖ it's small (really) (1.099178ms)
      AssertionError [ERR_ASSERTION]: 1 == 2

  ✖ in a small window (3.2ms)
✖ the chat page (7.345595ms)
✔ alone (0.1ms)
﹣ skipped (0.104912ms) # SKIP
✖ /r/conformance/broken.test.js (612.546086ms)
  'test failed'

ℹ tests 5
ℹ suites 2
ℹ pass 2
ℹ fail 2
ℹ cancelled 0

✖ failing tests:

test at chat.test.js:3:53
✖ it's small (really) (1.099178ms)
  AssertionError [ERR_ASSERTION]: 1 == 2
✖ printed by the test (1ms)

test at broken.test.js:1:1
✖ /r/conformance/broken.test.js (612.546086ms)
  'test failed'
";

    #[test]
    fn failed_node_tests_are_listed_with_the_command_for_each() {
        let mut node = Node::new("/t/switchboard".into());
        assert_eq!(
            read(&mut node, NODE),
            ["FAILED the chat page: in a small window: it's small (really)", "FAILED /r/conformance/broken.test.js",]
        );
        assert_eq!(node.status(), "4 tests done, 2 failed");
        assert_eq!((node.tests.passed, node.tests.failed), (2, 2));
        let start = "cd conformance && SWITCHBOARD_BIN=/t/switchboard node --test ";
        assert_eq!(
            failures(&mut node),
            [
                pair(
                    "chat.test.js: it's small (really)",
                    &format!(r"{start}--test-name-pattern='^it'\''s small \(really\)$' chat.test.js")
                ),
                pair("broken.test.js", &format!("{start}broken.test.js")),
            ]
        );
    }

    #[test]
    fn output_of_neither_kind_counts_nothing() {
        for runner in [&mut Cargo::default() as &mut dyn Runner, &mut Node::new(PathBuf::new())] {
            assert_eq!(read(runner, "nothing\n\ntest\n✔ no time\nfailures\n"), [""; 0]);
            assert_eq!(runner.tests(), Tests::default());
        }
    }
}
