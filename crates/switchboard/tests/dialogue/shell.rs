//! Plays what documentation shows of a shell: `$ command`, and below it what the command says.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use crate::dialogue::is_as_written;

/// A shell that keeps its variables from one block to the next.
pub(crate) struct Shell {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
    /// Words of the page, and what stands for them here.
    instead: Vec<(String, String)>,
}

impl Shell {
    /// A shell in which these words mean others.
    pub(crate) fn new(instead: &[(&str, &str)]) -> Self {
        let mut command = Command::new("sh");
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let stdin = child.stdin.take().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let instead = instead.iter().map(|(word, here)| ((*word).to_owned(), (*here).to_owned())).collect();
        Self { child, stdin, stdout, instead }
    }

    /// Runs lines whose output nobody looks at.
    pub(crate) fn run(&mut self, lines: &str) {
        self.output(lines);
    }

    /// Types what the block says and compares what comes back.
    #[track_caller]
    pub(crate) fn play(&mut self, block: &str) {
        let mut lines = block.lines().peekable();
        while let Some(line) = lines.next() {
            let command = line.strip_prefix("$ ").expect("a command comes first");
            let mut expected = Vec::new();
            while let Some(line) = lines.next_if(|line| !line.starts_with("$ ")) {
                expected.push(line);
            }
            let said = self.output(command);
            let is_same = said.len() == expected.len()
                && said.iter().zip(&expected).all(|(said, written)| is_as_written(said, written));
            assert!(is_same, "{command}\n  written: {expected:#?}\n  said:    {said:#?}");
        }
    }

    fn output(&mut self, command: &str) -> Vec<String> {
        const END: &str = "(the end of what the command says)";
        let mut command = command.to_owned();
        for (word, here) in &self.instead {
            command = command.replace(word, here);
        }
        writeln!(self.stdin, "{command}\necho '{END}'").unwrap();
        let lines = self.stdout.by_ref().lines().map(Result::unwrap);
        lines.take_while(|line| line != END).collect()
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
