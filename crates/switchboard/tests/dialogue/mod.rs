//! Plays dialogues that stand in documentation against a server, so that a page that promises what does not happen
//! fails.
//!
//! A dialogue is what a telnet window shows, in a block marked `text`:
//!
//! - `$ telnet …` opens a connection; what telnet itself prints is passed over
//! - `> words` is typed
//! - `…` in what is typed is the `_id` of the command that came last in that window
//! - any other line is what comes back; `…` stands for one number, id or name that differs each time
//! - `Connection closed by foreign host.` is the end of the connection
//!
//! With several windows each line begins with the number of its own, and what comes back is marked: `1$ telnet …`,
//! `1> words`, `1| {"status":…}`.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// The blocks of a page that are marked `text`, in order, without those that begin with a command of the shell.
pub(crate) fn blocks(page: &str) -> Vec<String> {
    let mut blocks = all_blocks(page);
    blocks.retain(|block| !is_of_shell(block));
    blocks
}

/// Whether a block begins with a command of the shell.
pub(crate) fn is_of_shell(block: &str) -> bool {
    block.starts_with("$ ") && !block.starts_with("$ telnet")
}

/// All blocks of a page that are marked `text`, in order.
pub(crate) fn all_blocks(page: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        if line == "```text" {
            blocks.push(lines.by_ref().take_while(|line| *line != "```").map(|line| format!("{line}\n")).collect());
        } else if line.starts_with("```") {
            lines.by_ref().find(|line| *line == "```");
        }
    }
    blocks
}

/// The windows of a dialogue.
pub(crate) struct Windows {
    server: SocketAddr,
    open: BTreeMap<String, BufReader<TcpStream>>,
    /// The id of the command that came last, by window.
    commands: BTreeMap<String, String>,
}

impl Windows {
    pub(crate) fn new(server: SocketAddr) -> Self {
        Self { server, open: BTreeMap::new(), commands: BTreeMap::new() }
    }

    /// Types what the block says and compares what comes back.
    #[track_caller]
    pub(crate) fn play(&mut self, block: &str) {
        for line in block.lines() {
            let (window, mark, rest) = split(line);
            match mark {
                '$' => self.open(window),
                '>' => match self.commands.get(window) {
                    Some(id) => self.write(window, &rest.replace('…', id)),
                    None => self.write(window, rest),
                },
                _ if OF_TELNET.iter().any(|words| rest.starts_with(words)) => {}
                _ if rest == "Connection closed by foreign host." => {
                    assert_eq!(self.read(window), None, "window {window:?} is still open");
                    self.open.remove(window);
                }
                _ => {
                    let said = self.read(window);
                    let said = said.as_deref().unwrap_or("(end)");
                    if let Some((_, rest)) = said.split_once(r#""_id":""#) {
                        let id = rest.split('"').next().unwrap_or_default();
                        self.commands.insert(window.to_owned(), id.to_owned());
                    }
                    assert!(is_as_written(said, rest), "window {window:?}\n  written: {rest}\n  said:    {said}");
                }
            }
        }
    }

    /// Ends every window that is open, and finds out whether one was told more than the dialogue shows.
    #[track_caller]
    pub(crate) fn quit(mut self) {
        for window in self.open.keys().cloned().collect::<Vec<_>>() {
            self.write(&window, "quit");
            assert_eq!(self.read(&window).as_deref(), Some(r#"{"status":"Bye!","context":"api"}"#));
            assert_eq!(self.read(&window), None);
        }
    }

    fn open(&mut self, window: &str) {
        let stream = TcpStream::connect(self.server).unwrap();
        // Long enough for a busy machine; nothing waits for it unless something is missing.
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        self.open.insert(window.to_owned(), BufReader::new(stream));
    }

    fn write(&mut self, window: &str, line: &str) {
        self.open.get_mut(window).unwrap().get_mut().write_all(format!("{line}\r\n").as_bytes()).unwrap();
    }

    /// The next line, or `None` at the end.
    #[track_caller]
    fn read(&mut self, window: &str) -> Option<String> {
        let mut line = String::new();
        match self.open.get_mut(window).unwrap().read_line(&mut line) {
            Ok(0) => None,
            Ok(_) => Some(line.strip_suffix("\r\n").expect("a line ends with CR LF").to_owned()),
            Err(error) => panic!("window {window:?}: nothing came: {error}"),
        }
    }
}

const OF_TELNET: [&str; 3] = ["Trying ", "Connected to ", "Escape character is "];

/// Window, mark and text of a line; what comes back has no mark where there is only one window.
fn split(line: &str) -> (&str, char, &str) {
    let digits = line.bytes().take_while(u8::is_ascii_digit).count();
    let (window, rest) = line.split_at(digits);
    match rest.split_once(' ') {
        Some((mark @ ("$" | ">" | "|"), text)) => (window, mark.chars().next().unwrap_or(' '), text),
        _ => ("", ' ', line),
    }
}

/// Whether `said` is `written`, with something short in place of each `…`.
pub(crate) fn is_as_written(said: &str, written: &str) -> bool {
    match written.split_once('…') {
        None => said == written,
        Some((before, after)) => said.strip_prefix(before).is_some_and(|rest| {
            let end = rest.find(['"', ',', '{', '}', '[', ']']).unwrap_or(rest.len());
            end > 0 && is_as_written(&rest[end..], after)
        }),
    }
}
