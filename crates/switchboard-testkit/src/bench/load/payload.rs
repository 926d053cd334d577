//! The text that speakers say, and what a member of a room may hear.

/// What a member of a room may hear.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// `say` was answered with success.
    Answer,
    /// A message that the generator has said.
    Message { speaker: u8, sequence: u32 },
}

impl Heard {
    pub(super) fn parse(text: &[u8]) -> Option<Self> {
        // As all known servers write it; the search is for those that order the members in another way.
        if let Some(said) = text.strip_prefix(br#"{"message":""#) {
            return parse_said(said);
        }
        if text.starts_with(br#"{"status":"OK""#) {
            return Some(Self::Answer);
        }
        if let Some(start) = find(text, br#""message":""#) {
            return parse_said(&text[start + br#""message":""#.len()..]);
        }
        find(text, br#""status":"OK""#).map(|_| Self::Answer)
    }
}

/// How a speaker's message with this number begins; [`FILLER`] is the rest of its text.
pub(super) fn head(speaker: u8, sequence: u32) -> [u8; HEAD_BYTES] {
    let mut head = [b'@'; HEAD_BYTES];
    head[1] = b'0' + speaker;
    let mut rest = sequence;
    for digit in head[2..].iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    head
}

/// The whole text is compared, so a server that damages messages is found out.
fn parse_said(said: &[u8]) -> Option<Heard> {
    let (head, rest) = said.split_at_checked(HEAD_BYTES)?;
    let is_digits = head[1..].iter().all(u8::is_ascii_digit);
    if head[0] != b'@' || !is_digits || !rest.starts_with(&FILLER) || rest.get(FILLER.len()) != Some(&b'"') {
        return None;
    }
    let sequence = head[2..].iter().fold(0, |number, digit| number * 10 + u32::from(digit - b'0'));
    Some(Heard::Message { speaker: head[1] - b'0', sequence })
}

pub(super) fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

/// The same in every message.
pub(super) const FILLER: [u8; PAYLOAD_BYTES - HEAD_BYTES] = [b'x'; PAYLOAD_BYTES - HEAD_BYTES];

const PAYLOAD_BYTES: usize = 128;
/// A sign, the speaker, the number in eight digits.
const HEAD_BYTES: usize = 2 + 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_is_recognised_when_heard() {
        let text = String::from_utf8([&head(3, 1_234_567)[..], &FILLER].concat()).unwrap();
        assert!(text.starts_with("@301234567x"), "{text}");
        assert_eq!(text.len(), PAYLOAD_BYTES);
        let heard = Some(Heard::Message { speaker: 3, sequence: 1_234_567 });
        let usual = format!(r#"{{"message":"{text}","room":"bench","from":"1","context":"user","sentAt":1}}"#);
        assert_eq!(Heard::parse(usual.as_bytes()), heard);
        let other = format!(r#"{{"room":"bench","message":"{text}"}}"#);
        assert_eq!(Heard::parse(other.as_bytes()), heard);
        assert_eq!(Heard::parse(usual.replace("xx\"", "x?\"").as_bytes()), None);
        assert_eq!(Heard::parse(usual.replace("xx\"", "x\"").as_bytes()), None);
    }

    #[test]
    fn only_success_is_taken_for_an_answer() {
        assert_eq!(Heard::parse(br#"{"status":"OK","context":"response","messageCount":2}"#), Some(Heard::Answer));
        assert_eq!(Heard::parse(br#"{"context":"response","status":"OK"}"#), Some(Heard::Answer));
        assert_eq!(Heard::parse(br#"{"status":"connection not in this room","context":"response"}"#), None);
        assert_eq!(Heard::parse(br#"{"message":"short"}"#), None);
        assert_eq!(Heard::parse(b""), None);
    }
}
