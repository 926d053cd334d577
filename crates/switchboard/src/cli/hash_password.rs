//! `switchboard hash-password`: a password comes in, its hash for the configuration goes out.

use std::io::{self, BufRead, Write as _};
use std::os::fd::{AsFd, BorrowedFd};

use rustix::termios::{LocalModes, OptionalActions, Termios, isatty, tcgetattr, tcsetattr};

use crate::password::{PasswordDigest, PasswordHash};

use super::{EXIT_FAILURE, EXIT_USAGE, Output};

/// Longest password, in bytes. A line of a file that was meant for something else is longer.
const LONGEST: usize = 1024;

/// Reads a password from standard input and hashes it. A terminal is told what to type, and does not show it.
pub fn hash_password() -> Output {
    let stdin = io::stdin();
    let _hidden = isatty(stdin.as_fd()).then(|| {
        // Standard error, so that the hash alone goes to a file.
        let _ = write!(io::stderr(), "Password: ");
        Hidden::on(stdin.as_fd())
    });
    hash_password_of(stdin.lock())
}

/// Hashes the first line.
pub(super) fn hash_password_of(input: impl BufRead) -> Output {
    let refusal = |code, text: &str| Output { stderr: format!("switchboard: {text}\n"), code, ..Output::default() };
    let mut line = Vec::new();
    // A line of the greatest length and both bytes of its end; one more byte shows that it is longer.
    if let Err(error) = input.take(LONGEST as u64 + 3).read_until(b'\n', &mut line) {
        return refusal(EXIT_FAILURE, &format!("standard input cannot be read: {error}"));
    }
    let line = line.strip_suffix(b"\n").map_or(&*line, |line| line.strip_suffix(b"\r").unwrap_or(line));
    match std::str::from_utf8(line) {
        _ if line.len() > LONGEST => refusal(EXIT_USAGE, "a password has at most 1024 bytes"),
        Err(_) => refusal(EXIT_USAGE, "the password is not UTF-8"),
        Ok("") => refusal(EXIT_USAGE, "no password: write it to standard input, as one line"),
        Ok(password) => match PasswordHash::make(&PasswordDigest::of(password)) {
            Ok(hash) => Output::success(format!("{hash}\n")),
            Err(error) => refusal(EXIT_FAILURE, &format!("the password cannot be hashed: {error}")),
        },
    }
}

/// A terminal that does not show what is typed, until this is dropped.
struct Hidden<'a> {
    terminal: BorrowedFd<'a>,
    before: Termios,
}

impl<'a> Hidden<'a> {
    fn on(terminal: BorrowedFd<'a>) -> Option<Self> {
        let before = tcgetattr(terminal).ok()?;
        let mut modes = before.clone();
        modes.local_modes.remove(LocalModes::ECHO);
        // The end of the line still shows.
        modes.local_modes.insert(LocalModes::ECHONL);
        tcsetattr(terminal, OptionalActions::Flush, &modes).ok()?;
        Some(Self { terminal, before })
    }
}

impl Drop for Hidden<'_> {
    fn drop(&mut self) {
        // If the terminal is gone there is nothing to put back.
        let _ = tcsetattr(self.terminal, OptionalActions::Now, &self.before);
    }
}
