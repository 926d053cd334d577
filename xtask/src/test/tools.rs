//! The tools that the steps need: found, installed by name, or asked for.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::npm;

use super::run::{Program, cargo};
use super::steps::Step;

/// Provides what these steps need.
///
/// # Errors
///
/// With what is missing and how to get it.
pub(super) fn provide(steps: &[Step]) -> Result<(), String> {
    for (step, subcommand, component) in [(Step::Format, "fmt", "rustfmt"), (Step::Lint, "clippy", "clippy")] {
        if steps.contains(&step) && cargo().words(&[subcommand, "--version"]).run().result.is_err() {
            return Err(format!("`cargo {subcommand}` is missing: rustup component add {component}"));
        }
    }
    provide_packages(steps)?;
    if steps.contains(&Step::Conformance) {
        check_node()?;
        npm::install("conformance")?;
    }
    Ok(())
}

/// Commands, or files by their paths; the Debian packages that bring them; and the step that needs them.
const NEEDED: [(&str, &str, Step); 8] = [
    ("chromium", "chromium", Step::Conformance),
    ("curl", "curl", Step::Test),
    ("node", "nodejs", Step::Conformance),
    ("npm", "npm", Step::Conformance),
    ("openssl", "openssl", Step::Conformance),
    ("python3", "python3", Step::Test),
    // Brings redis-cli and redis-benchmark too. A server that the package starts by itself, on port 6379, is not used.
    ("redis-server", "redis-server", Step::Test),
    ("/usr/lib/python3/dist-packages/websockets", "python3-websockets", Step::Conformance),
];

fn provide_packages(steps: &[Step]) -> Result<(), String> {
    let missing = missing_packages(steps, |what| !is_there(what));
    if missing.is_empty() {
        return Ok(());
    }
    let command = format!("apt-get install -y --no-install-recommends {}", missing.join(" "));
    let please = format!("these packages are missing: {}", missing.join(" "));
    if !is_there("apt-get") {
        return Err(format!("{please}; there is no apt-get here, so install them in your system's way"));
    }
    let rights: &[&str] = match fs::metadata("/proc/self") {
        Ok(process) if process.uid() == 0 => &[],
        _ if Program::new("sudo").words(&["-n", "true"]).run().result.is_ok() => &["sudo", "-n"],
        _ => return Err(format!("{please}; run: sudo {command}")),
    };
    println!("== tools: {command}");
    for words in [vec!["apt-get", "update"], command.split(' ').collect()] {
        let words: Vec<&str> = rights.iter().copied().chain(words).collect();
        let outcome = Program::new(words[0]).words(&words[1..]).variable("DEBIAN_FRONTEND", "noninteractive").run();
        if let Err(reason) = outcome.result {
            return Err(format!("{}{reason}; {please}", outcome.output));
        }
    }
    match missing_packages(steps, |what| !is_there(what)) {
        missing if missing.is_empty() => Ok(()),
        missing => Err(format!("{} did not bring what it should have", missing.join(" and "))),
    }
}

fn missing_packages(steps: &[Step], is_missing: impl Fn(&str) -> bool) -> Vec<&'static str> {
    let needed = NEEDED.into_iter().filter(|(what, _, step)| steps.contains(step) && is_missing(what));
    needed.map(|(_, package, _)| package).collect()
}

fn is_there(what: &str) -> bool {
    if what.starts_with('/') {
        return Path::new(what).exists();
    }
    let paths = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&paths).any(|folder| is_program(&folder.join(what)))
}

fn is_program(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|file| file.is_file() && file.mode() & 0o111 != 0)
}

/// The oldest node that the conformance tests run on.
const OLDEST_NODE: (u32, u32) = (18, 19);

fn check_node() -> Result<(), String> {
    let outcome = Program::new("node").words(&["--version"]).run();
    outcome.result?;
    let version = outcome.output.trim();
    match node_version(version) {
        Some(found) if found >= OLDEST_NODE => Ok(()),
        _ => Err(format!("node is {version:?}, and {}.{} or later is needed: update it", OLDEST_NODE.0, OLDEST_NODE.1)),
    }
}

/// Major and minor number of a version such as `v20.20.2`.
fn node_version(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.strip_prefix('v')?.split('.').map(|number| number.parse().ok());
    Some((numbers.next()??, numbers.next()??))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_are_named_for_what_is_missing() {
        assert_eq!(missing_packages(&Step::ALL, |_| false), [""; 0]);
        assert_eq!(missing_packages(&Step::ALL, |what| what == "node"), ["nodejs"]);
        assert_eq!(
            missing_packages(&Step::ALL, |_| true),
            ["chromium", "curl", "nodejs", "npm", "openssl", "python3", "redis-server", "python3-websockets"]
        );
        assert_eq!(missing_packages(&[Step::Test], |_| true), ["curl", "python3", "redis-server"]);
        assert!(is_there("sh") && !is_there("no-such-command"));
        assert!(is_there("/proc/self") && !is_there("/proc/no-such-file"));
    }

    #[test]
    fn versions_of_node_are_compared_as_numbers() {
        assert!(node_version("v18.19.0") >= Some(OLDEST_NODE) && node_version("v20.2.2") >= Some(OLDEST_NODE));
        assert!(node_version("v18.3.0") < Some(OLDEST_NODE));
        for odd in ["", "20.1.0", "vx.1", "v20"] {
            assert_eq!(node_version(odd), None, "{odd}");
        }
    }
}
