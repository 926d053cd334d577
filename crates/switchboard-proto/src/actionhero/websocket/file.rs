//! A file as one JSON message.
//!
//! The message is sent in fragments, one for each piece that was read, so that no file is ever held whole. Bytes that are not
//! UTF-8 become replacement characters, as JSON has no place for them.

use std::io;
use std::sync::Arc;

use crate::call::{Content, Piece};
use crate::frame::ws::write_text_fragment;
use crate::json::{escape_separators, write_text_inside};

/// A file on its way into a JSON message.
#[derive(Debug)]
pub(super) struct FileMessage {
    pub(super) file: Arc<dyn Content>,
    /// What stands in front of the content, up to the quote that opens it.
    pub(super) head: Box<[u8]>,
    /// What stands behind it, from the quote that closes it.
    pub(super) tail: Box<[u8]>,
}

impl Content for FileMessage {
    fn length(&self) -> u64 {
        // At least one piece, also of an empty file.
        self.file.length().max(1)
    }

    fn read_at(&self, offset: u64, piece: &mut [u8]) -> io::Result<usize> {
        self.file.read_at(offset, piece)
    }

    fn piece(&self, offset: u64, most_bytes: usize) -> io::Result<Piece> {
        let length = self.file.length();
        let mut read = vec![0; most_bytes.min(usize::try_from(length - offset.min(length)).unwrap_or(usize::MAX))];
        let count = self.file.read_at(offset, &mut read)?;
        read.truncate(count);
        let is_last = offset + count as u64 >= length;
        if count == 0 && !is_last {
            return Ok(Piece { consumed: 0, bytes: Vec::new() });
        }
        if !is_last {
            // A character that is cut here comes whole with the next piece.
            read.truncate(count - cut_character_bytes(&read));
        }
        let mut payload = Vec::with_capacity(read.len() + self.head.len() + self.tail.len());
        if offset == 0 {
            payload.extend_from_slice(&self.head);
        }
        write_text_inside(&mut payload, &String::from_utf8_lossy(&read));
        if is_last {
            payload.extend_from_slice(&self.tail);
        }
        escape_separators(&mut payload, 0);
        let mut bytes = Vec::with_capacity(payload.len() + 10);
        write_text_fragment(&mut bytes, offset == 0, is_last, &payload);
        let consumed = if is_last { self.length() - offset } else { read.len() as u64 };
        Ok(Piece { consumed, bytes })
    }
}

/// How many bytes at the end are the beginning of a character whose rest is missing.
fn cut_character_bytes(bytes: &[u8]) -> usize {
    let lead = bytes.iter().rev().take(3).position(|byte| byte & 0xc0 != 0x80);
    let Some(back) = lead.map(|at| at + 1) else { return 0 };
    match std::str::from_utf8(&bytes[bytes.len() - back..]) {
        Err(error) if error.error_len().is_none() && back < bytes.len() => back,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Debug)]
    struct Bytes(Vec<u8>);

    impl Content for Bytes {
        fn length(&self) -> u64 {
            self.0.len() as u64
        }

        fn read_at(&self, offset: u64, piece: &mut [u8]) -> io::Result<usize> {
            let rest = &self.0[offset as usize..];
            let count = rest.len().min(piece.len());
            piece[..count].copy_from_slice(&rest[..count]);
            Ok(count)
        }
    }

    /// The payloads of all frames, joined; also how many frames there were.
    fn sent(content: Vec<u8>, piece_bytes: usize) -> (String, usize) {
        let file = Arc::new(Bytes(content));
        let message = FileMessage { file, head: (*b"{\"content\":\"").into(), tail: (*b"\"}").into() };
        let (mut offset, mut text, mut frames) = (0, Vec::new(), 0);
        while offset < message.length() {
            let piece = message.piece(offset, piece_bytes).unwrap();
            assert!(piece.consumed > 0);
            let opcode = if frames == 0 { 0x01 } else { 0x00 };
            offset += piece.consumed;
            let last = if offset >= message.length() { 0x80 } else { 0x00 };
            assert_eq!(piece.bytes[0], opcode | last);
            let header = match piece.bytes[1] {
                126 => 4,
                127 => 10,
                _ => 2,
            };
            text.extend_from_slice(&piece.bytes[header..]);
            frames += 1;
        }
        (String::from_utf8(text).unwrap(), frames)
    }

    fn content(json: &str) -> String {
        let value: serde_json::Value = serde_json::from_str(json).unwrap();
        value["content"].as_str().unwrap().to_owned()
    }

    #[test]
    fn an_empty_file_is_one_frame() {
        assert_eq!(sent(Vec::new(), 8), ("{\"content\":\"\"}".to_owned(), 1));
    }

    proptest! {
        #[test]
        fn a_text_arrives_as_it_is_however_it_is_cut(text in any::<String>(), piece_bytes in 4..32usize) {
            let (json, _) = sent(text.clone().into_bytes(), piece_bytes);
            prop_assert_eq!(content(&json), text);
        }

        #[test]
        fn bytes_that_are_no_text_arrive_as_replacements(bytes in any::<Vec<u8>>(), piece_bytes in 4..32usize) {
            let (json, _) = sent(bytes.clone(), piece_bytes);
            prop_assert_eq!(content(&json), String::from_utf8_lossy(&bytes));
        }
    }
}
