//! How far a step is, while it runs: one line that is rewritten on a terminal, a line now and then in a log file.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use super::seconds;

/// Progress of one program.
pub(super) struct Progress<W> {
    out: W,
    is_terminal: bool,
    started: Instant,
    /// When something was printed last.
    printed: Instant,
}

/// The longest silence in a log file. Continuous integration systems take longer silence for a hang.
const LONGEST_SILENCE: Duration = Duration::from_secs(20);

/// What fits into a line of a small terminal. A longer status would wrap and could not be rewritten.
const STATUS_CHARS: usize = 78;

impl Progress<io::Stdout> {
    /// On standard output. Only a terminal gets control characters.
    pub(super) fn stdout() -> Self {
        let out = io::stdout();
        let is_terminal = out.is_terminal() && std::env::var_os("TERM").is_some_and(|kind| kind != "dumb");
        Self::new(out, is_terminal, Instant::now())
    }
}

impl<W: Write> Progress<W> {
    fn new(out: W, is_terminal: bool, now: Instant) -> Self {
        Self { out, is_terminal, started: now, printed: now }
    }

    /// Prints a line that stays.
    pub(super) fn line(&mut self, line: &str) {
        self.clear();
        self.print(&format!("   {line}\n"), Instant::now());
    }

    /// Shows what runs now.
    pub(super) fn status(&mut self, status: &str, now: Instant) {
        let status: String = format!("   {} {status}", seconds(now - self.started));
        if self.is_terminal {
            let status: String = status.chars().take(STATUS_CHARS).collect();
            self.print(&format!("\r\x1b[K{status}"), now);
        } else if now - self.printed >= LONGEST_SILENCE {
            self.print(&format!("{status}\n"), now);
        }
    }

    /// Removes the status from a terminal.
    pub(super) fn clear(&mut self) {
        if self.is_terminal {
            self.print("\r\x1b[K", Instant::now());
        }
    }

    fn print(&mut self, text: &str, now: Instant) {
        self.printed = now;
        // Without a reader there is no progress to show, but the tests go on.
        let _ = self.out.write_all(text.as_bytes()).and_then(|()| self.out.flush());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(is_terminal: bool) -> String {
        let mut out = Vec::new();
        let begun = Instant::now();
        let mut progress = Progress::new(&mut out, is_terminal, begun);
        progress.status("building", begun + Duration::from_millis(200));
        progress.line("it: 3 passed");
        progress.status("testing", begun + Duration::from_secs(3600));
        progress.status("testing still", begun + Duration::from_secs(3601));
        progress.clear();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_terminal_shows_one_status_that_is_rewritten() {
        assert_eq!(
            shown(true),
            "\r\x1b[K   0.2 s building\r\x1b[K   it: 3 passed\n\r\x1b[K   60 min 00 s testing\
             \r\x1b[K   60 min 01 s testing still\r\x1b[K"
        );
    }

    #[test]
    fn a_log_file_gets_lines_without_control_characters_and_no_long_silence() {
        assert_eq!(shown(false), "   it: 3 passed\n   60 min 00 s testing\n");
    }
}
