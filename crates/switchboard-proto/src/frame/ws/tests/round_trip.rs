//! What one side writes the other reads.

use proptest::collection::vec;
use proptest::prelude::*;

use super::compression::{as_clients, deflated, fragmented, prose};
use super::*;

#[test]
fn a_text_of_unknown_length_is_written_as_one_of_known_length() {
    for len in [0, 1, 2, 124, 125, 126, 127, 128, 4095, 65_534, 65_535, 65_536, 65_537, 200_000] {
        let payload = prose(len);
        let mut known = b"before".to_vec();
        write_message(&mut known, MessageKind::Text, payload.as_bytes());
        let mut unknown = b"before".to_vec();
        let mark = begin_text(&mut unknown);
        for piece in payload.as_bytes().chunks(1000) {
            unknown.extend_from_slice(piece);
        }
        finish_text(&mut unknown, mark);
        assert!(known == unknown, "{len}");
    }
}

#[test]
fn messages_are_written_in_the_fewest_bytes_and_without_a_mask() {
    for (len, head) in [
        (0, &[0x82, 0][..]),
        (125, &[0x82, 125]),
        (126, &[0x82, 126, 0, 126]),
        (65_535, &[0x82, 126, 0xff, 0xff]),
        (65_536, &[0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0]),
    ] {
        let mut out = Vec::new();
        write_message(&mut out, MessageKind::Binary, &vec![7; len]);
        assert_eq!(out[..head.len()], *head);
        assert_eq!(out.len(), head.len() + len);
    }
}

#[test]
fn a_text_may_be_written_in_fragments() {
    let mut bytes = Vec::new();
    for (at, piece) in ["one ", "", "two ", "three"].into_iter().enumerate() {
        let mut out = Vec::new();
        write_text_fragment(&mut out, at == 0, at == 3, piece.as_bytes());
        bytes.extend(as_clients(&out));
    }
    let mut scratch = Vec::new();
    let got = WsFramer::default().next(&mut &bytes[..], &mut scratch, &OFF, 0);
    assert_eq!(got, Ok(Some(WsFrame::Text("one two three"))));
}

#[test]
fn control_frames_keep_to_their_125_bytes() {
    let mut out = Vec::new();
    write_ping(&mut out, &[7; 126]);
    assert_eq!((out[0], out[1], out.len()), (0x89, 125, 127));
    out.clear();
    write_pong(&mut out, &[7; 1000]);
    assert_eq!((out[0], out[1], out.len()), (0x8a, 125, 127));
    out.clear();
    write_close(&mut out, None, "left out");
    assert_eq!(out, [0x88, 0]);
    out.clear();
    write_close(&mut out, Some(1001), "bye");
    assert_eq!(out, *b"\x88\x05\x03\xe9bye");
}

#[test]
fn a_reason_is_cut_at_a_character() {
    for (reason, len) in [
        ("a".repeat(123), 123),
        ("a".repeat(124), 123),
        (format!("{}ä", "a".repeat(121)), 123),
        (format!("{}ä", "a".repeat(122)), 122),
        (format!("{}🙂", "a".repeat(122)), 122),
        (format!("{}🙂", "a".repeat(119)), 123),
        ("日".repeat(50), 123),
    ] {
        let mut out = Vec::new();
        write_close(&mut out, Some(1000), &reason);
        let mut scratch = Vec::new();
        let got = WsFramer::default().next(&mut &as_clients(&out)[..], &mut scratch, &OFF, 0);
        assert_eq!(got, Ok(Some(WsFrame::Close { code: Some(1000), reason: &reason[..len] })));
    }
}

/// What a client may send.
#[derive(Clone, Debug)]
enum Said {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
}

impl Said {
    fn is(&self, frame: &WsFrame<'_>) -> bool {
        match (self, frame) {
            (Self::Text(said), WsFrame::Text(seen)) => said == seen,
            (Self::Binary(said), WsFrame::Binary(seen))
            | (Self::Ping(said), WsFrame::Ping(seen))
            | (Self::Pong(said), WsFrame::Pong(seen)) => said == seen,
            _ => false,
        }
    }
}

fn said() -> impl Strategy<Value = Said> {
    let length = prop_oneof![4 => 0usize..40, 2 => 120usize..130, 1 => 0usize..3000];
    prop_oneof![
        4 => (any::<Vec<char>>(), 1usize..40)
            .prop_map(|(text, times)| Said::Text(text.into_iter().collect::<String>().repeat(times))),
        2 => length.prop_flat_map(|len| vec(any::<u8>(), len)).prop_map(Said::Binary),
        1 => vec(any::<u8>(), 0..=125).prop_map(Said::Ping),
        1 => vec(any::<u8>(), 0..=125).prop_map(Said::Pong),
    ]
}

/// Plays pieces and compares.
fn check(bytes: &[u8], cuts: &[usize], said: &[Said]) -> Result<(), TestCaseError> {
    let mut at: Vec<usize> = cuts.iter().map(|cut| cut % (bytes.len() + 1)).chain([0, bytes.len()]).collect();
    at.sort_unstable();
    let mut framer = WsFramer::with_deflate();
    let mut scratch = Vec::new();
    let mut said = said.iter();
    for pair in at.windows(2) {
        let mut input = &bytes[pair[0]..pair[1]];
        while let Some(frame) = framer.next(&mut input, &mut scratch, &OFF, 0)? {
            prop_assert!(said.next().is_some_and(|said| said.is(&frame)), "{frame:?}");
        }
    }
    prop_assert!(said.next().is_none() && !framer.is_partial());
    Ok(())
}

proptest! {
    #[test]
    fn whatever_a_client_says_in_whatever_pieces_is_what_is_heard(
        said in vec((said(), any::<[u8; 4]>(), 1usize..200, any::<bool>()), 0..8),
        cuts in vec(any::<usize>(), 0..12),
    ) {
        let mut bytes = Vec::new();
        for (said, mask, size, compressed) in &said {
            let (first, payload) = match said {
                Said::Text(text) => (0x01, text.as_bytes()),
                Said::Binary(bytes) => (0x02, bytes.as_slice()),
                Said::Ping(payload) => {
                    bytes.extend(masked_frame(0x89, payload, *mask));
                    continue;
                }
                Said::Pong(payload) => {
                    bytes.extend(masked_frame(0x8a, payload, *mask));
                    continue;
                }
            };
            if *compressed {
                bytes.extend(fragmented(0x40 | first, &deflated(payload, *size as u32 % 10, 15), *size));
            } else if payload.is_empty() {
                bytes.extend(masked_frame(0x80 | first, payload, *mask));
            } else {
                bytes.extend(fragmented(first, payload, *size));
            }
        }
        let said: Vec<Said> = said.into_iter().map(|(said, ..)| said).collect();
        check(&bytes, &cuts, &said)?;
    }

    #[test]
    fn whatever_the_server_writes_is_read_back(
        said in vec((said(), any::<bool>()), 0..8),
        cuts in vec(any::<usize>(), 0..12),
    ) {
        let mut deflater = deflate::Deflater::default();
        let mut bytes = Vec::new();
        for (said, other_way) in &said {
            let mut out = Vec::new();
            match said {
                Said::Text(text) if *other_way => {
                    let mark = begin_text(&mut out);
                    out.extend_from_slice(text.as_bytes());
                    finish_text(&mut out, mark);
                }
                Said::Text(text) => write_message(&mut out, MessageKind::Text, text.as_bytes()),
                Said::Binary(payload) if *other_way => deflater.write_message(&mut out, MessageKind::Binary, payload),
                Said::Binary(payload) => write_message(&mut out, MessageKind::Binary, payload),
                Said::Ping(payload) => write_ping(&mut out, payload),
                Said::Pong(payload) => write_pong(&mut out, payload),
            }
            bytes.extend(as_clients(&out));
        }
        let said: Vec<Said> = said.into_iter().map(|(said, _)| said).collect();
        check(&bytes, &cuts, &said)?;
    }
}
