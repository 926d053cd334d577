//! Lines, as telnet users and ActionHero's clients send them.
//!
//! CR LF, LF and CR each end a line; empty lines do not exist; telnet sequences are dropped. Cutting the bytes
//! anywhere changes nothing. A line that arrived whole is lent from the caller's buffer; only a line that is still
//! incomplete is kept, never more of it than [`Framing::max_line_bytes`].
//!
//! Source: the protocol page's section on bytes and lines, docs/protocols/actionhero.md.

use memchr::memchr3;

/// How lines are cut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Framing {
    /// The longest line without its end, in bytes as received; `usize::MAX` for no limit.
    pub max_line_bytes: usize,
    /// What ends a line. With LF, CR and CR LF do too; with anything else CR is turned into LF and both are text.
    pub delimiter: Box<[u8]>,
}

impl Default for Framing {
    fn default() -> Self {
        Self { max_line_bytes: 64 * 1024, delimiter: (*b"\n").into() }
    }
}

impl Framing {
    /// A line longer than this many times the limit is answered while it still arrives, and the connection closed.
    pub const FLOOD_FACTOR: usize = 16;

    fn flood_bytes(&self) -> usize {
        self.max_line_bytes.saturating_mul(Self::FLOOD_FACTOR)
    }

    fn is_plain(&self) -> bool {
        *self.delimiter == *b"\n"
    }
}

/// What a framer found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineFrame<'a> {
    /// A line without its end, not empty.
    Line(&'a [u8]),
    /// A line that was longer than the limit and has ended; it was skipped.
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// A line so long that its end is not waited for. No frame follows.
    Flood {
        /// Its length so far.
        bytes: usize,
    },
}

/// Telnet's "interpret as command".
const IAC: u8 = 0xff;
const SUBNEGOTIATION: u8 = 0xfa;
const SUBNEGOTIATION_END: u8 = 0xf0;
const WILL: u8 = 0xfb;
const DONT: u8 = 0xfe;

/// Whether all that one read returned is a break: control-D, or telnet's interrupt with a timing mark.
pub fn is_break(segment: &[u8]) -> bool {
    matches!(segment, [0x04] | [IAC, 0xf4, IAC, 0xfd, 0x06])
}

/// Cuts a stream into lines.
#[derive(Debug, Default)]
pub struct LineFramer {
    /// The beginning of a line that has not ended, if any.
    partial: Option<Box<Partial>>,
    /// The last byte was a CR that ended a line: a NUL behind it is telnet's way of writing a bare CR.
    after_cr: bool,
    /// The caller was lent the finished `partial`; it goes with the next call.
    lent: bool,
}

#[derive(Debug, Default)]
struct Partial {
    /// The line so far, telnet sequences left out. Empty when it has become too long.
    text: Vec<u8>,
    /// Bytes received for it.
    received: usize,
    telnet: Telnet,
}

/// Where in a telnet sequence the stream stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Telnet {
    #[default]
    Outside,
    Command,
    Option,
    Inside,
    InsideCommand,
}

impl Telnet {
    fn after(self, byte: u8) -> Self {
        match (self, byte) {
            (Self::Outside, _) => Self::Command,
            (Self::Command, SUBNEGOTIATION) => Self::Inside,
            (Self::Command, WILL..=DONT) => Self::Option,
            (Self::Command | Self::Option, _) | (Self::InsideCommand, SUBNEGOTIATION_END) => Self::Outside,
            (Self::Inside, IAC) => Self::InsideCommand,
            (Self::Inside | Self::InsideCommand, _) => Self::Inside,
        }
    }
}

impl LineFramer {
    /// Whether no line has begun.
    pub fn is_between_lines(&self) -> bool {
        self.partial.is_none() || self.lent
    }

    /// Takes the next line from the front of `input`, and moves `input` behind what was used. `None` means that all of
    /// it was used and no line has ended.
    pub fn next<'s, 'i: 's>(&'s mut self, input: &mut &'i [u8], framing: &Framing) -> Option<LineFrame<'s>> {
        if self.lent {
            self.lent = false;
            self.partial = None;
        }
        if self.partial.is_none() && framing.is_plain() {
            // The common case: whole lines, nothing to keep and nothing to copy.
            self.skip_line_ends(input);
            if input.is_empty() {
                return None;
            }
            if let Some(end) = memchr3(b'\n', b'\r', IAC, input)
                && input[end] != IAC
            {
                let (line, rest) = input.split_at(end);
                let after = rest.strip_prefix(b"\r\n");
                self.after_cr = rest[0] == b'\r' && after.is_none();
                *input = after.unwrap_or(&rest[1..]);
                return Some(if line.len() > framing.max_line_bytes {
                    if line.len() > framing.flood_bytes() {
                        LineFrame::Flood { bytes: line.len() }
                    } else {
                        LineFrame::TooLong { bytes: line.len() }
                    }
                } else {
                    LineFrame::Line(line)
                });
            }
        }
        self.next_kept(input, framing)
    }

    /// Skips what may stand between lines: line ends, and a NUL that belongs to a CR.
    fn skip_line_ends(&mut self, input: &mut &[u8]) {
        while let [byte, rest @ ..] = *input {
            match byte {
                b'\r' => self.after_cr = true,
                b'\n' => self.after_cr = false,
                0 if self.after_cr => self.after_cr = false,
                _ => {
                    self.after_cr = false;
                    return;
                }
            }
            *input = rest;
        }
    }

    /// Goes on with a line that arrives in pieces, or that holds telnet sequences, or whose end is not the usual one.
    fn next_kept<'s>(&'s mut self, input: &mut &[u8], framing: &Framing) -> Option<LineFrame<'s>> {
        enum Ended {
            Line,
            TooLong(usize),
            Flood(usize),
        }
        let ended = loop {
            if self.partial.is_none() && framing.is_plain() {
                self.skip_line_ends(input);
            }
            let &first = input.first()?;
            let partial = self.partial.get_or_insert_default();
            if partial.telnet != Telnet::Outside || first == IAC {
                partial.telnet = partial.telnet.after(first);
                partial.received += 1;
                *input = &input[1..];
            } else if framing.is_plain() {
                if matches!(first, b'\n' | b'\r') {
                    *input = &input[1..];
                    self.after_cr = first == b'\r';
                    if partial.text.is_empty() && partial.received <= framing.max_line_bytes {
                        // Nothing but telnet sequences: an empty line after all.
                        self.partial = None;
                        continue;
                    }
                    break if partial.received > framing.max_line_bytes {
                        Ended::TooLong(partial.received)
                    } else {
                        Ended::Line
                    };
                }
                let run = memchr3(b'\n', b'\r', IAC, input).unwrap_or(input.len());
                partial.keep(&input[..run], framing);
                *input = &input[run..];
            } else {
                partial.keep(&[if first == b'\r' { b'\n' } else { first }], framing);
                *input = &input[1..];
                let delimiter = &framing.delimiter;
                if partial.text.ends_with(delimiter) {
                    let length = partial.text.len() - delimiter.len();
                    if length == 0 && partial.received <= framing.max_line_bytes.saturating_add(delimiter.len()) {
                        self.partial = None;
                        continue;
                    }
                    let received = partial.received - delimiter.len();
                    partial.text.truncate(length);
                    break if received > framing.max_line_bytes { Ended::TooLong(received) } else { Ended::Line };
                }
            }
            if partial.received > framing.flood_bytes() {
                break Ended::Flood(partial.received);
            }
        };
        match ended {
            Ended::Line => {
                self.lent = true;
                self.partial.as_deref().map(|partial| LineFrame::Line(&partial.text))
            }
            Ended::TooLong(bytes) => {
                self.partial = None;
                Some(LineFrame::TooLong { bytes })
            }
            Ended::Flood(bytes) => {
                self.partial = None;
                *input = &[];
                Some(LineFrame::Flood { bytes })
            }
        }
    }
}

impl Partial {
    /// Keeps `run` as long as the line is within its limit; beyond, only what could be the beginning of its end.
    fn keep(&mut self, run: &[u8], framing: &Framing) {
        self.received += run.len();
        let tail = if framing.is_plain() { 0 } else { framing.delimiter.len() };
        if self.received <= framing.max_line_bytes.saturating_add(tail) {
            self.text.extend_from_slice(run);
        } else if tail == 0 {
            self.text = Vec::new();
        } else {
            self.text.extend_from_slice(run);
            let excess = self.text.len().saturating_sub(tail);
            self.text.drain(..excess);
            if self.text.capacity() > 64 {
                self.text.shrink_to(tail);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn plain(max_line_bytes: usize) -> Framing {
        Framing { max_line_bytes, ..Framing::default() }
    }

    /// Feeds the pieces one after the other and shows what came out.
    fn cut(pieces: &[&[u8]], framing: &Framing) -> Vec<String> {
        let mut framer = LineFramer::default();
        let mut seen = Vec::new();
        for piece in pieces {
            let mut input = *piece;
            while let Some(frame) = framer.next(&mut input, framing) {
                let flood = matches!(frame, LineFrame::Flood { .. });
                seen.push(match frame {
                    LineFrame::Line(line) => String::from_utf8_lossy(line).escape_debug().to_string(),
                    LineFrame::TooLong { bytes } => format!("too long {bytes}"),
                    LineFrame::Flood { .. } => "flood".to_owned(),
                });
                if flood {
                    return seen;
                }
            }
            assert!(input.is_empty());
        }
        seen
    }

    #[track_caller]
    fn check(bytes: &[u8], framing: &Framing, expected: &[&str]) {
        assert_eq!(cut(&[bytes], framing), expected, "in one piece");
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        assert_eq!(cut(&single, framing), expected, "byte by byte");
    }

    #[test]
    fn cr_lf_lf_and_cr_each_end_a_line_and_empty_lines_do_not_exist() {
        check(b"a\r\nb\nc\rd\r\n\r\n\n\n\re\n", &plain(99), &["a", "b", "c", "d", "e"]);
    }

    #[test]
    fn a_line_without_an_end_is_not_a_line() {
        check(b"a\nb", &plain(99), &["a"]);
    }

    #[test]
    fn a_nul_belongs_to_the_cr_before_it_and_is_text_elsewhere() {
        check(b"a\r\0b\r\n\0c\n", &plain(99), &["a", "b", "\\0c"]);
        check(b"a\0b\n", &plain(99), &["a\\0b"]);
    }

    #[test]
    fn a_line_over_the_limit_is_skipped_and_told_with_its_length() {
        check(b"1234\n12345\n123456789\n1\n", &plain(4), &["1234", "too long 5", "too long 9", "1"]);
    }

    #[test]
    fn fault_row_7_a_line_of_16_times_the_limit_is_not_waited_for() {
        let mut bytes = vec![b'x'; 64];
        check(&bytes, &plain(4), &[]);
        bytes.push(b'x');
        check(&bytes, &plain(4), &["flood"]);
        bytes.extend_from_slice(b"xxxx\nnever seen\n");
        check(&bytes, &plain(4), &["flood"]);
    }

    #[test]
    fn fault_row_7_of_an_endless_line_no_more_than_the_limit_is_kept() {
        for delimiter in ["\n", "||"] {
            let framing = Framing { max_line_bytes: 1024, delimiter: delimiter.as_bytes().into() };
            let mut framer = LineFramer::default();
            for _ in 0..15 * 1024 {
                assert_eq!(framer.next(&mut &b"y"[..], &framing), None);
                let kept = framer.partial.as_ref().map_or(0, |partial| partial.text.capacity());
                assert!(kept <= 2 * 1024, "{kept}");
            }
        }
    }

    #[test]
    fn fault_row_7_telnet_sequences_are_dropped_wherever_they_stand() {
        check(b"\xff\xfd\x03a\xff\xfb\x0ab\xff\xf1c\n", &plain(99), &["abc"]);
        check(b"a\xff\xfa\x18\r\n\xff\xff\xff\xf0b\n", &plain(99), &["ab"]);
        check(b"\xff\xfd\x03\r\na\n", &plain(99), &["a"]);
        check(b"a\xff\xffb\n", &plain(99), &["ab"]);
    }

    #[test]
    fn a_telnet_sequence_that_never_ends_is_a_flood() {
        let mut bytes = b"\xff\xfa".to_vec();
        bytes.extend_from_slice(&[0; 63]);
        check(&bytes, &plain(4), &["flood"]);
    }

    #[test]
    fn with_another_delimiter_cr_becomes_lf_and_both_are_text() {
        let framing = Framing { max_line_bytes: 8, delimiter: (*b"||").into() };
        check(b"a\rb||||\n||123456789||12345678||", &framing, &["a\\nb", "\\n", "too long 9", "12345678"]);
    }

    #[test]
    fn only_a_segment_that_is_nothing_else_is_a_break() {
        assert!(is_break(b"\x04"));
        assert!(is_break(b"\xff\xf4\xff\xfd\x06"));
        assert!(!is_break(b"\x04\r\n"));
        assert!(!is_break(b"\xff\xf4"));
        assert!(!is_break(b""));
    }

    proptest! {
        #[test]
        fn every_cut_of_the_bytes_gives_the_same_lines(
            bytes in proptest::collection::vec(
                prop_oneof![
                    4 => Just(b'a'), 2 => Just(b'\r'), 2 => Just(b'\n'), 1 => Just(0), 1 => Just(IAC),
                    1 => Just(0xfa), 1 => Just(0xf0), 1 => Just(0xfd), 1 => Just(b'|'), 1 => any::<u8>(),
                ],
                0..200,
            ),
            cuts in proptest::collection::vec(0usize..200, 0..8),
            max_line_bytes in 1usize..12,
            delimiter in prop_oneof![Just("\n"), Just("|"), Just("||"), Just("a|")],
        ) {
            let framing = Framing { max_line_bytes, delimiter: delimiter.as_bytes().into() };
            let whole = cut(&[&bytes], &framing);
            let mut at: Vec<usize> = cuts.iter().map(|cut| cut % (bytes.len() + 1)).collect();
            at.extend([0, bytes.len()]);
            at.sort_unstable();
            let pieces: Vec<&[u8]> = at.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect();
            prop_assert_eq!(cut(&pieces, &framing), whole);
        }
    }
}
