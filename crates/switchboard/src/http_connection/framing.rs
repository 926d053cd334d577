//! Where requests begin and end, under the strict reading of RFC 9112.
//!
//! The parser behind this is lenient where the RFC lets it be: a bare LF ends a line, a length beside chunks is passed over, a
//! length may be said twice. A proxy in front may read such a request differently and take a part of it for another one, so
//! here it is refused before the parser sees it. What is not looked at here (tokens, methods, characters) the parser refuses.

/// Follows one connection's requests, however their bytes are cut.
#[derive(Debug)]
pub(crate) struct Framing {
    state: State,
    /// The beginning of a line that is not at its end yet.
    line: Line,
    head: Head,
    messages: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing of the next request has come. An empty line may stand in front of it.
    Start {
        skipped: bool,
    },
    RequestLine,
    Headers,
    /// So much of a body is to come.
    Body(u64),
    ChunkSize,
    /// So much of a chunk, then its CR LF.
    Chunk(u64),
    ChunkEnd,
    Trailers,
    /// Behind a request for another protocol: no longer HTTP.
    Other,
    /// Behind the last request.
    Over,
}

/// What a head said about what follows.
#[derive(Debug, Default)]
struct Head {
    length: Option<u64>,
    is_chunked: bool,
    asks_for_upgrade: bool,
}

/// How far a connection is, for its deadlines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Between requests.
    Idle,
    /// In the head of a request.
    Head,
    /// In the body of a request.
    Body,
    /// Behind the last one.
    Over,
}

/// The bytes of a line so far: as many as are needed for the headers that matter here.
#[derive(Debug)]
struct Line {
    start: [u8; Line::KEPT],
    kept: usize,
    length: usize,
    /// The last byte was CR, which only LF may follow.
    cr: bool,
}

/// The byte in front of which the connection must end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RejectedAt(pub(crate) usize);

impl Default for Framing {
    fn default() -> Self {
        Self { state: State::Start { skipped: false }, line: Line::new(), head: Head::default(), messages: 0 }
    }
}

impl Framing {
    /// Looks at what came next.
    ///
    /// # Errors
    ///
    /// Which byte is the first that must not be passed on. To be asked no more then.
    pub(crate) fn check(&mut self, input: &[u8]) -> Result<(), RejectedAt> {
        let mut at = 0;
        while at < input.len() {
            at += self.step(&input[at..]).map_err(|RejectedAt(inside)| RejectedAt(at + inside))?;
        }
        Ok(())
    }

    /// Whether what came is one whole request for another protocol, and perhaps what follows it.
    pub(crate) fn is_upgrade(&self) -> bool {
        self.state == State::Other
    }

    /// How far the connection is.
    pub(crate) fn phase(&self) -> Phase {
        match self.state {
            State::Start { .. } => Phase::Idle,
            State::RequestLine | State::Headers => Phase::Head,
            State::Body(_) | State::ChunkSize | State::Chunk(_) | State::ChunkEnd | State::Trailers => Phase::Body,
            State::Other | State::Over => Phase::Over,
        }
    }

    /// How many times a phase has ended.
    pub(crate) fn progress(&self) -> u64 {
        self.messages
    }

    /// Takes some bytes from the front of `input`, which is not empty, and returns how many.
    fn step(&mut self, input: &[u8]) -> Result<usize, RejectedAt> {
        match self.state {
            State::Other => Ok(input.len()),
            State::Over => Err(RejectedAt(0)),
            State::Body(left) => Ok(self.take(input, left, State::Body)),
            State::Chunk(left) => Ok(self.take(input, left, State::Chunk)),
            State::Start { .. }
            | State::RequestLine
            | State::Headers
            | State::ChunkSize
            | State::ChunkEnd
            | State::Trailers => {
                if matches!(self.state, State::Start { .. }) && !matches!(input[0], b'\r' | b'\n') {
                    self.state = State::RequestLine;
                }
                let (taken, whole) = self.line.take(input)?;
                if whole {
                    self.on_line().map_err(|()| RejectedAt(taken - 1))?;
                    self.line = Line::new();
                }
                Ok(taken)
            }
        }
    }

    /// Takes from a body or a chunk of which `left` bytes are to come.
    fn take(&mut self, input: &[u8], left: u64, more: fn(u64) -> State) -> usize {
        let taken = usize::try_from(left).unwrap_or(usize::MAX).min(input.len());
        match (left - taken as u64, self.state) {
            (0, State::Chunk(_)) => self.state = State::ChunkEnd,
            (0, _) => self.end_message(),
            (left, _) => self.state = more(left),
        }
        taken
    }

    fn on_line(&mut self) -> Result<(), ()> {
        let is_empty = self.line.length == 0;
        match self.state {
            State::Start { skipped: false } => self.state = State::Start { skipped: true },
            State::RequestLine => self.state = State::Headers,
            State::Headers if is_empty => self.end_head()?,
            State::Headers => self.head.on_header(&self.line)?,
            State::ChunkSize => match chunk_size(&self.line)? {
                0 => self.state = State::Trailers,
                size => self.state = State::Chunk(size),
            },
            State::ChunkEnd if is_empty => self.state = State::ChunkSize,
            State::Trailers if is_empty => self.end_message(),
            State::Trailers if self.line.is_folded() => return Err(()),
            State::Trailers => {}
            _ => return Err(()),
        }
        Ok(())
    }

    fn end_head(&mut self) -> Result<(), ()> {
        self.messages += 1;
        match (self.head.is_chunked, self.head.length) {
            (true, Some(_)) => return Err(()),
            (true, None) => self.state = State::ChunkSize,
            (false, None | Some(0)) => self.end_message(),
            (false, Some(length)) => self.state = State::Body(length),
        }
        Ok(())
    }

    fn end_message(&mut self) {
        self.messages += 1;
        let has_body = self.head.is_chunked || self.head.length.is_some_and(|length| length > 0);
        self.state = match (self.head.asks_for_upgrade, has_body) {
            (false, _) => State::Start { skipped: false },
            (true, false) => State::Other,
            // Whether what follows is HTTP or not depends on an answer that is not given yet.
            (true, true) => State::Over,
        };
        self.head = Head::default();
    }
}

impl Head {
    fn on_header(&mut self, line: &Line) -> Result<(), ()> {
        if line.is_folded() {
            return Err(());
        }
        let start = &line.start[..line.kept];
        let Some(colon) = start.iter().position(|&byte| byte == b':') else {
            // A name as long as that is none of ours; one without a colon is refused by the parser.
            return Ok(());
        };
        let (name, value) = (&start[..colon], start[colon + 1..].trim_ascii());
        // As the parser does, which refuses names with spaces around them.
        let is = |known: &str| name.trim_ascii().eq_ignore_ascii_case(known.as_bytes());
        if is("content-length") {
            if self.length.is_some() || line.is_cut() || value.len() > 18 {
                return Err(());
            }
            self.length = Some(decimal(value).ok_or(())?);
        } else if is("transfer-encoding") {
            if self.is_chunked || line.is_cut() || !value.eq_ignore_ascii_case(b"chunked") {
                return Err(());
            }
            self.is_chunked = true;
        } else if is("upgrade") {
            self.asks_for_upgrade = true;
        }
        Ok(())
    }
}

impl Line {
    /// Long enough for the headers that matter, with spaces around their values.
    const KEPT: usize = 80;

    const fn new() -> Self {
        Self { start: [0; Self::KEPT], kept: 0, length: 0, cr: false }
    }

    /// Takes bytes up to the end of the line, and says whether that was there.
    fn take(&mut self, input: &[u8]) -> Result<(usize, bool), RejectedAt> {
        let mut at = 0;
        if self.cr {
            return if input[0] == b'\n' { Ok((1, true)) } else { Err(RejectedAt(0)) };
        }
        match memchr::memchr2(b'\r', b'\n', input) {
            None => at = input.len(),
            Some(end) if input[end] == b'\n' => return Err(RejectedAt(end)),
            Some(end) => at += end,
        }
        let text = &input[..at];
        let room = (Self::KEPT - self.kept).min(text.len());
        self.start[self.kept..self.kept + room].copy_from_slice(&text[..room]);
        self.kept += room;
        self.length += text.len();
        match input.get(at..) {
            Some([b'\r', b'\n', ..]) => Ok((at + 2, true)),
            Some([b'\r']) => {
                self.cr = true;
                Ok((at + 1, false))
            }
            Some([b'\r', ..]) => Err(RejectedAt(at + 1)),
            _ => Ok((at, false)),
        }
    }

    /// Whether it goes on with the line before it (obs-fold).
    fn is_folded(&self) -> bool {
        matches!(self.start[..self.kept].first(), Some(b' ' | b'\t'))
    }

    /// Whether there is more of it than was kept.
    fn is_cut(&self) -> bool {
        self.length > self.kept
    }
}

/// The size in front of a chunk. What follows a semicolon means nothing to anybody here.
fn chunk_size(line: &Line) -> Result<u64, ()> {
    let start = &line.start[..line.kept];
    let digits = start.iter().position(|&byte| byte == b';').map_or(start, |end| &start[..end]);
    if digits.is_empty() || digits.len() > 15 || !digits.iter().all(u8::is_ascii_hexdigit) {
        return Err(());
    }
    let digits = std::str::from_utf8(digits).map_err(|_| ())?;
    u64::from_str_radix(digits, 16).map_err(|_| ())
}

fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// How much of it is sound, in one piece and byte by byte.
    #[track_caller]
    fn sound(input: &[u8]) -> (usize, Phase) {
        let mut whole = Framing::default();
        let bytes = whole.check(input).err().map_or(input.len(), |RejectedAt(at)| at);
        let mut cut = Framing::default();
        let found = input.iter().position(|byte| cut.check(&[*byte]).is_err()).unwrap_or(input.len());
        assert_eq!(bytes, found, "{}", input.escape_ascii());
        (bytes, whole.phase())
    }

    #[test]
    fn sound_requests_pass_and_their_ends_are_known() {
        for (input, phase) in [
            ("", Phase::Idle),
            ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", Phase::Idle),
            ("\r\nGET / HTTP/1.1\r\n\r\n", Phase::Idle),
            ("GET / HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\n", Phase::Head),
            ("G", Phase::Head),
            ("POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nab", Phase::Body),
            ("POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\n\r\n\n", Phase::Idle),
            ("POST / HTTP/1.1\r\ncontent-LENGTH:\t 3 \r\n\r\nabcGET / HTTP/1.1\r\n\r\n", Phase::Idle),
            ("POST / HTTP/1.1\r\nContent-Length: 0\r\n\r\n", Phase::Idle),
            ("POST / HTTP/1.1\r\nTransfer-Encoding: Chunked\r\n\r\n3\r\nabc\r\n", Phase::Body),
            ("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nA;x=y\r\n0123456789\r\n0\r\n\r\n", Phase::Idle),
            ("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nTrailer: x\r\n\r\nG", Phase::Head),
            ("GET / HTTP/1.1\r\nUpgrade: websocket\r\n\r\n\x01\x02\r\r\n\n", Phase::Over),
            ("GET / HTTP/1.1\r\nUpgrade: websocket\r\nContent-Length: 0\r\n\r\n\x01", Phase::Over),
        ] {
            assert_eq!(sound(input.as_bytes()), (input.len(), phase), "{input:?}");
        }
    }

    #[test]
    fn fault_row_10_what_two_readers_may_read_differently_does_not_pass() {
        // `!` marks the first byte that is refused; it is not part of the request.
        for case in [
            "GET / HTTP/1.1!\nHost: a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a!\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\n!\n",
            "GET / HTTP/1.1\r\nHost: a\r!\r\n\r\n",
            "GET / HTTP/1.1\r\nX: a\r!b\r\n\r\n",
            "\r\n\r!\nGET / HTTP/1.1\r\n\r\n",
            "!\nGET / HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.1\r\nX: a\r\n folded\r!\n\r\n",
            "GET / HTTP/1.1\r\nX: a\r\n\tfolded\r!\n\r\n",
            "POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1\r!\n\r\n",
            "POST / HTTP/1.1\r\nContent-Length: 1, 1\r!\n\r\n",
            "POST / HTTP/1.1\r\nContent-Length: +1\r!\n\r\n",
            "POST / HTTP/1.1\r\nContent-Length: -1\r!\n\r\n",
            "POST / HTTP/1.1\r\nContent-Length: 0x1\r!\n\r\n",
            "POST / HTTP/1.1\r\nContent-Length: 1 1\r!\n\r\n",
            "POST / HTTP/1.1\r\nContent-Length:\r!\n\r\n",
            "POST / HTTP/1.1\r\nContent-Length: 99999999999999999999\r!\n\r\n",
            "POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r!\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r!\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r!\n\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: identity\r!\n\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r!\n\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked, identity\r!\n\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: xchunked\r!\n\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: \"chunked\"\r!\n\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding:\r!\n\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding : identity\r!\n\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\ng\r!\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0x1\r!\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n-1\r!\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n 1\r!\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n\r!\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1!\na\r\n0\r\n\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1;a!\nb\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na!\n0\r\n\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabc\r!\n0\r\n\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n10000000000000000\r!\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n x: y\r!\n\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n!\n",
            "GET / HTTP/1.1\r\nUpgrade: x\r\nContent-Length: 1\r\n\r\na!GET / HTTP/1.1\r\n\r\n",
        ] {
            let (before, after) = case.split_once('!').unwrap();
            assert_eq!(sound([before, after].concat().as_bytes()).0, before.len(), "{case:?}");
        }
        let long = format!("POST / HTTP/1.1\r\nContent-Length:{}1\r", " ".repeat(100));
        assert_eq!(sound(format!("{long}\n\r\n").as_bytes()).0, long.len());
    }

    proptest! {
        #[test]
        fn any_bytes_in_any_pieces_are_judged_alike(
            input in prop::collection::vec(prop::sample::select(b"\r\n :0a;,GETchunked/1.".to_vec()), 0..200),
            headed in any::<bool>(),
        ) {
            let head = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
            sound(&if headed { [&head[..], &input].concat() } else { input });
        }
    }
}
