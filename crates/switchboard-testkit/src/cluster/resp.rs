//! As much of Redis's protocol (RESP2) as tests need to ask a server something.

use std::fmt;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// What Redis answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// A simple or bulk text. What is no UTF-8 is shown with replacement characters.
    Text(String),
    /// A number.
    Number(i64),
    /// Nothing.
    Nil,
    /// Several.
    List(Vec<Reply>),
    /// A refusal, such as `MOVED 866 127.0.0.1:7001`.
    Refused(String),
}

impl fmt::Display for Reply {
    /// As `redis-cli` shows it in a pipe: each part on a line of its own.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) | Self::Refused(text) => f.write_str(text),
            Self::Number(number) => write!(f, "{number}"),
            Self::Nil => Ok(()),
            Self::List(parts) => {
                for (index, part) in parts.iter().enumerate() {
                    write!(f, "{}{part}", if index > 0 { "\n" } else { "" })?;
                }
                Ok(())
            }
        }
    }
}

/// One connection to Redis.
#[derive(Debug)]
pub struct RespClient {
    wire: BufReader<TcpStream>,
}

impl RespClient {
    /// Connects; every wait of it ends after `patience`.
    ///
    /// # Errors
    ///
    /// Those of the system.
    pub fn connect(address: SocketAddr, patience: Duration) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, patience)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(patience))?;
        stream.set_write_timeout(Some(patience))?;
        Ok(Self { wire: BufReader::new(stream) })
    }

    /// Sends a command, each word as it is, and waits for the answer.
    ///
    /// # Errors
    ///
    /// Those of the system; `InvalidData` for what is no RESP2.
    pub fn ask(&mut self, words: &[&str]) -> io::Result<Reply> {
        self.wire.get_mut().write_all(&request(words))?;
        self.read()
    }

    /// The next answer, or what a subscription brings.
    ///
    /// # Errors
    ///
    /// As [`RespClient::ask`].
    pub fn read(&mut self) -> io::Result<Reply> {
        read(&mut self.wire)
    }
}

fn request(words: &[&str]) -> Vec<u8> {
    let mut request = format!("*{}\r\n", words.len());
    for word in words {
        request.push_str(&format!("${}\r\n{word}\r\n", word.len()));
    }
    request.into_bytes()
}

fn read(wire: &mut impl BufRead) -> io::Result<Reply> {
    let mut line = String::new();
    wire.read_line(&mut line)?;
    let odd = || io::Error::new(io::ErrorKind::InvalidData, format!("no RESP2: {line:?}"));
    if line.is_empty() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let (kind, rest) = line.trim_end().split_at_checked(1).ok_or_else(odd)?;
    let number = || rest.parse::<i64>().map_err(|_| odd());
    Ok(match kind {
        "+" => Reply::Text(rest.to_owned()),
        "-" => Reply::Refused(rest.to_owned()),
        ":" => Reply::Number(number()?),
        "$" => match usize::try_from(number()?) {
            Ok(length) => {
                let mut text = vec![0; length + 2];
                wire.read_exact(&mut text)?;
                text.truncate(length);
                Reply::Text(String::from_utf8_lossy(&text).into_owned())
            }
            Err(_) => Reply::Nil,
        },
        "*" => match usize::try_from(number()?) {
            Ok(count) => Reply::List((0..count).map(|_| read(wire)).collect::<io::Result<_>>()?),
            Err(_) => Reply::Nil,
        },
        _ => return Err(odd()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_arrays_of_counted_words() {
        assert_eq!(request(&["SET", "é", ""]), "*3\r\n$3\r\nSET\r\n$2\r\né\r\n$0\r\n\r\n".as_bytes());
    }

    #[test]
    fn replies_of_every_kind_are_read_and_shown_as_redis_cli_does() {
        let mut wire = &b"*6\r\n+OK\r\n:-2\r\n$4\r\na\r\nb\r\n$-1\r\n*-1\r\n*1\r\n-ERR no\r\n+next\r\n"[..];
        let reply = read(&mut wire).unwrap();
        let expected = [
            Reply::Text("OK".to_owned()),
            Reply::Number(-2),
            Reply::Text("a\r\nb".to_owned()),
            Reply::Nil,
            Reply::Nil,
            Reply::List(vec![Reply::Refused("ERR no".to_owned())]),
        ];
        assert_eq!(reply, Reply::List(expected.to_vec()));
        assert_eq!(reply.to_string(), "OK\n-2\na\r\nb\n\n\nERR no");
        assert_eq!(read(&mut wire).unwrap(), Reply::Text("next".to_owned()));
        assert_eq!(read(&mut wire).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn what_is_no_resp_is_an_error() {
        for odd in ["\r\n", "?\r\n", ":x\r\n", "$x\r\n", "*1\r\nx\r\n"] {
            assert_eq!(read(&mut odd.as_bytes()).unwrap_err().kind(), io::ErrorKind::InvalidData, "{odd:?}");
        }
    }
}
