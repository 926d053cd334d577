//! Conversations as text files, played against a server.
//!
//! ```text
//! # a remark
//! SET> limits.max_rooms = 3           a setting of the server, in TOML; only at the head
//! C1> (connects)                      client 1 connects
//! C1> (opens /primus/)                client 1 opens a WebSocket; its lines are messages
//! S1< {"welcome":"hello","context":"api"}
//! C1> roomAdd lobby                   a line; CR LF is added
//! C1>> roomAdd lobby                  the same, held back and sent in one write with client 1's next line
//! C1> (raw) "a\r" "b" * 3             bytes: texts with \r \n \t \\ \" \xNN, repeated
//! C1> (half-closes)                   its side is closed, it goes on reading
//! C1> (closes)                        the socket is closed
//! S1< {"from":"{uuid:C1}","at":{ms}}  the next line of client 1 is this JSON
//! S1~ {"a":1}                         lines of a run of these may come in any order
//! S1< (bytes) "raw"                   exactly these bytes come next, without a line's end
//! S1< (silence)                       nothing has come
//! S1< {"closed":1000}                 a close frame, over a WebSocket
//! S1< (end)                           the server has closed its side
//! API> roomStatus lobby               a call made inside the server: see [`Stage::call`]
//! API< {"membersCount":0}             its result: JSON, `done`, or `refused: ` and a reason
//! ```
//!
//! Lines of one client are expected in order, lines of different clients are independent. At the end of the file nothing
//! may be left over for any client. JSON is compared by structure; the order of members is not significant.
//!
//! Placeholders: `{uuid:C1}` the id of client 1's connection, `{uuid}` any id, `{ms}` a time near now in milliseconds since
//! 1970, `{n}` a small whole number, `{port}` that client's own port, `{random}` a number from 0 to below 1, `{json}`
//! anything. `{uuid:C1}` stands inside texts and calls too.
//!
//! With `UPDATE_TRANSCRIPTS=1` what was expected and did not come is rewritten to what came, with placeholders where the
//! expectation had them or where a value can be told to be one. An expectation yet to be found is written `S1< ?`.

mod bytes;
mod pattern;

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use crate::client::{LineClient, Missed};
use pattern::{Names, Pattern};

/// The server that a transcript is played against.
pub trait Stage {
    /// Where it listens.
    fn address(&self) -> SocketAddr;

    /// Where it listens for browsers.
    fn web_address(&self) -> SocketAddr {
        self.address()
    }

    /// The id of the connection that came from this address, if there is one.
    fn connection_id(&mut self, client: SocketAddr) -> Option<String>;

    /// Makes a call inside the server and waits for its result. Ids stand where the transcript has `{uuid:C1}`. A result of
    /// `null` is written `done`.
    ///
    /// # Errors
    ///
    /// The reason, when the call is refused.
    fn call(&mut self, call: &str) -> Result<Value, String>;
}

/// The settings at the head of a transcript, as TOML.
pub fn settings(transcript: &str) -> String {
    transcript.lines().filter_map(|line| line.strip_prefix("SET> ")).map(|line| format!("{line}\n")).collect()
}

/// Plays the transcript in `file`; rewrites it if the environment asks for that.
///
/// # Errors
///
/// Which line was not met, and what came instead.
pub fn play_file(file: &Path, stage: impl FnOnce(&str) -> Box<dyn Stage>) -> Result<(), String> {
    let name = file.display();
    let text = std::fs::read_to_string(file).map_err(|error| format!("{name}: {error}"))?;
    let mut stage = stage(&settings(&text));
    if std::env::var_os("UPDATE_TRANSCRIPTS").is_some_and(|value| value == "1") {
        let updated = Player::new(&mut *stage, true).play(&text).map_err(|reason| format!("{name}:{reason}"))?;
        if updated != text {
            std::fs::write(file, updated).map_err(|error| format!("{name}: {error}"))?;
        }
        return Ok(());
    }
    play(&text, &mut *stage).map_err(|reason| format!("{name}:{reason}"))
}

/// Plays a transcript.
///
/// # Errors
///
/// Which line was not met, and what came instead.
pub fn play(transcript: &str, stage: &mut dyn Stage) -> Result<(), String> {
    Player::new(stage, false).play(transcript).map(drop)
}

struct Player<'a> {
    stage: &'a mut dyn Stage,
    is_updating: bool,
    clients: BTreeMap<String, Client>,
    /// Connection ids by client.
    names: Names,
    result: Option<Result<Value, String>>,
}

struct Client {
    line: LineClient,
    local: SocketAddr,
    held: String,
    has_ended: bool,
}

/// What an expectation of one line leads to: what is to stand in the file instead, if it was not met.
type Met = Result<Option<String>, String>;

impl<'a> Player<'a> {
    fn new(stage: &'a mut dyn Stage, is_updating: bool) -> Self {
        Self { stage, is_updating, clients: BTreeMap::new(), names: Names::default(), result: None }
    }

    fn play(mut self, transcript: &str) -> Result<String, String> {
        let lines: Vec<&str> = transcript.lines().collect();
        let mut updated = Vec::with_capacity(lines.len());
        let mut at = 0;
        while let Some(&line) = lines.get(at) {
            let number = at + 1;
            let located = |reason: String| format!("{number}: {line}\n    {reason}");
            at += 1;
            let (mark, rest) = line.split_once(' ').unwrap_or((line, ""));
            if line.is_empty() || line.starts_with('#') || mark == "SET>" {
                updated.push(line.to_owned());
            } else if mark == "API>" {
                let call = self.names.fill(rest);
                self.result = Some(self.stage.call(&call));
                updated.push(line.to_owned());
            } else if mark == "API<" {
                updated.push(self.expect_result(rest).map_err(located)?.unwrap_or_else(|| line.to_owned()));
            } else if let Some(client) = mark.strip_suffix(">>") {
                self.hold(client, rest).map_err(located)?;
                updated.push(line.to_owned());
            } else if let Some(client) = mark.strip_suffix('>') {
                self.act(client, rest).map_err(located)?;
                updated.push(line.to_owned());
            } else if let Some(server) = mark.strip_suffix('<') {
                let client = format!("C{}", server.trim_start_matches('S'));
                let met = self.expect(&client, rest).map_err(located)?;
                match met {
                    None => updated.push(line.to_owned()),
                    Some(instead) if instead.is_empty() => {}
                    Some(instead) => updated.push(format!("{mark} {instead}")),
                }
            } else if mark.ends_with('~') {
                let run = lines[at - 1..].iter().take_while(|line| line.split(' ').next() == Some(mark)).count();
                let expected: Vec<&str> =
                    lines[at - 1..at - 1 + run].iter().map(|line| line[mark.len()..].trim_start()).collect();
                let client = format!("C{}", mark.trim_start_matches('S').trim_end_matches('~'));
                let found = self.expect_in_any_order(&client, &expected).map_err(located)?;
                updated.extend(found.into_iter().map(|line| format!("{mark} {line}")));
                at += run - 1;
            } else {
                return Err(located("no such notation".to_owned()));
            }
        }
        let names: Vec<String> = self.clients.keys().cloned().collect();
        for name in names {
            let left = self.expect_nothing_left(&name);
            match left {
                Ok(()) => {}
                Err(left) if self.is_updating => updated.extend(left),
                Err(left) => {
                    return Err(format!("{}: at the end, {name} is left with {}", lines.len(), left.join("\n")));
                }
            }
        }
        Ok(updated.into_iter().map(|line| line + "\n").collect())
    }

    fn client(&mut self, name: &str) -> Result<&mut Client, String> {
        self.clients.get_mut(name).ok_or_else(|| format!("{name} is not connected"))
    }

    fn hold(&mut self, name: &str, line: &str) -> Result<(), String> {
        let client = self.client(name)?;
        client.held.push_str(line);
        client.held.push_str("\r\n");
        Ok(())
    }

    fn act(&mut self, name: &str, what: &str) -> Result<(), String> {
        match what {
            "(connects)" => {
                let line = LineClient::tcp(self.stage.address());
                self.connect(name, line)
            }
            what if what.starts_with("(opens ") => {
                let path = what.trim_start_matches("(opens ").trim_end_matches(')');
                let line = LineClient::web(self.stage.web_address(), path);
                self.connect(name, line)
            }
            "(half-closes)" => self.client(name)?.line.half_close().map_err(|error| error.to_string()),
            "(closes)" => match self.clients.remove(name) {
                Some(_) => Ok(()),
                None => Err(format!("{name} is not connected")),
            },
            what => {
                let client = self.client(name)?;
                let mut bytes = std::mem::take(&mut client.held).into_bytes();
                match what.strip_prefix("(raw) ") {
                    Some(raw) => bytes.extend(bytes::parse(raw)?),
                    None if what.starts_with('(') => return Err("a client cannot do that".to_owned()),
                    None => bytes.extend_from_slice(format!("{what}\r\n").as_bytes()),
                }
                client.line.try_send_raw(&bytes).map_err(|error| error.to_string())
            }
        }
    }

    fn connect(&mut self, name: &str, line: io::Result<LineClient>) -> Result<(), String> {
        let mut line = line.map_err(|error| error.to_string())?;
        if self.is_updating {
            line.set_patience(Duration::from_secs(3));
        }
        let local = line.local_address().ok_or("a client needs an address")?;
        let client = Client { line, local, held: String::new(), has_ended: false };
        match self.clients.insert(name.to_owned(), client) {
            Some(_) => Err(format!("{name} connects twice")),
            None => Ok(()),
        }
    }

    fn expect_result(&mut self, expected: &str) -> Met {
        let result = self.result.take().ok_or("no call was made")?;
        let met = match (&result, expected.strip_prefix("refused: ")) {
            (Err(reason), Some(expected)) if *reason == self.names.fill(expected) => Ok(()),
            (Ok(Value::Null), _) if expected == "done" => Ok(()),
            (Ok(value), None) if !value.is_null() => {
                Pattern::parse(expected).and_then(|pattern| pattern.check(value, &self.names, 0))
            }
            _ => Err(String::new()),
        };
        let Err(reason) = met else { return Ok(None) };
        let came = match &result {
            Ok(Value::Null) => "done".to_owned(),
            Ok(value) => Pattern::of(value, Pattern::parse(expected).ok().as_ref(), &self.names, 0).to_string(),
            Err(reason) => format!("refused: {}", self.names.hide(reason)),
        };
        if self.is_updating { Ok(Some(format!("API< {came}"))) } else { Err(format!("the result is {came} {reason}")) }
    }

    fn expect(&mut self, name: &str, expected: &str) -> Met {
        match expected {
            "(silence)" => self.client(name)?.line.try_expect_silence().map(|()| None),
            "(end)" => {
                let client = self.client(name)?;
                match client.line.try_expect_fin() {
                    Ok(()) => {
                        client.has_ended = true;
                        Ok(None)
                    }
                    Err(reason) => match client.line.try_read_line() {
                        Ok(line) if self.is_updating => self.shown(name, &line, None).map(Some),
                        _ => Err(reason),
                    },
                }
            }
            expected => match expected.strip_prefix("(bytes) ") {
                Some(raw) => self.expect_bytes(name, &bytes::parse(raw)?),
                None => self.expect_line(name, expected),
            },
        }
    }

    fn expect_bytes(&mut self, name: &str, expected: &[u8]) -> Met {
        let came = self.client(name)?.line.try_read_exact(expected.len()).map_err(|missed| missed.to_string())?;
        if came == expected { Ok(None) } else { Err(format!("received \"{}\"", came.escape_ascii())) }
    }

    fn expect_line(&mut self, name: &str, expected: &str) -> Met {
        let line = match self.read_line(name) {
            Ok(line) => line,
            Err(Missed::Closed { rest }) if self.is_updating && rest.is_empty() => {
                self.client(name)?.has_ended = true;
                return Ok(Some("(end)".to_owned()));
            }
            Err(Missed::Late { rest }) if self.is_updating && rest.is_empty() => return Ok(Some(String::new())),
            Err(missed) => return Err(missed.to_string()),
        };
        let pattern = Pattern::parse(expected);
        let port = self.client(name)?.local.port();
        let checked = pattern::parse_line(&line)
            .and_then(|value| pattern.as_ref().map_err(String::clone)?.check(&value, &self.names, port));
        match checked {
            Ok(()) => Ok(None),
            Err(_) if self.is_updating => self.shown(name, &line, pattern.ok().as_ref()).map(Some),
            Err(reason) => Err(format!("received {line}\n    {reason}")),
        }
    }

    /// Reads as many lines as are expected and looks for a place for each.
    fn expect_in_any_order(&mut self, name: &str, expected: &[&str]) -> Result<Vec<String>, String> {
        let mut open: Vec<&str> = expected.to_vec();
        let mut found = Vec::with_capacity(expected.len());
        for _ in expected {
            let line = self.read_line(name).map_err(|missed| missed.to_string())?;
            let port = self.client(name)?.local.port();
            let value = pattern::parse_line(&line)?;
            let place = open.iter().position(|expected| {
                Pattern::parse(expected).is_ok_and(|pattern| pattern.check(&value, &self.names, port).is_ok())
            });
            match place {
                Some(place) => drop(open.remove(place)),
                None if self.is_updating => {}
                None => return Err(format!("none of these lines is {line}; left are\n    {}", open.join("\n    "))),
            }
            found.push(self.shown(name, &line, None)?);
        }
        Ok(if open.is_empty() { expected.iter().map(|&line| line.to_owned()).collect() } else { found })
    }

    /// The next line of a client. With its first, its connection is known to the server.
    fn read_line(&mut self, name: &str) -> Result<String, Missed> {
        let Some(client) = self.clients.get_mut(name) else { return Err(Missed::Closed { rest: Vec::new() }) };
        let line = client.line.try_read_line()?;
        if !self.names.knows(name)
            && let Some(id) = self.stage.connection_id(client.local)
        {
            self.names.learn(name, id);
        }
        Ok(line)
    }

    /// A received line as it would be expected.
    fn shown(&mut self, name: &str, line: &str, expected: Option<&Pattern>) -> Result<String, String> {
        let port = self.client(name)?.local.port();
        Ok(Pattern::of(&pattern::parse_line(line)?, expected, &self.names, port).to_string())
    }

    /// Whatever a client is left with at the end, as expectations.
    fn expect_nothing_left(&mut self, name: &str) -> Result<(), Vec<String>> {
        let server = format!("S{}<", name.trim_start_matches('C'));
        let mut left = Vec::new();
        let Ok(client) = self.client(name) else { return Ok(()) };
        if client.has_ended {
            return Ok(());
        }
        // Two sentinels, as when silence is expected; what comes before their answers is left over.
        let mut answered = 0;
        let marks = ["at-the-end-1", "at-the-end-2"];
        while answered < marks.len() {
            let mark = marks[answered];
            let sent = self.client(name).map(|client| client.line.try_send_view(mark));
            if !matches!(sent, Ok(Ok(()))) {
                left.push(format!("{server} (end)"));
                break;
            }
            loop {
                match self.read_line(name) {
                    Ok(line) if line.contains(mark) => break,
                    Ok(line) => left.push(format!("{server} {}", self.shown(name, &line, None).unwrap_or(line))),
                    Err(missed) => {
                        left.push(match missed {
                            Missed::Closed { rest } if rest.is_empty() => format!("{server} (end)"),
                            missed => format!("# {name}: {missed}"),
                        });
                        return Err(left);
                    }
                }
            }
            answered += 1;
        }
        if left.is_empty() { Ok(()) } else { Err(left) }
    }
}

#[cfg(test)]
mod tests;
