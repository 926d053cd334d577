//! Groups 5 and 10: fragmentation.

use super::*;
use WsError::{FragmentedControl, MessageNotEnded, NothingToContinue};
use WsFrame::{Binary, Ping, Pong, Text};

pub(super) fn rows() -> Vec<Row> {
    let letters = || "abcdefgh".split("").filter(|letter| !letter.is_empty());
    let long = many(65_536);
    let mut rows = vec![
        row("5.1", "a ping in two fragments", [frame(0x09, "a"), end("b")], [Err(FragmentedControl)]),
        row("5.2", "a pong in two fragments", [frame(0x0a, "a"), end("b")], [Err(FragmentedControl)]),
        row("5.3", "a text in two", [text_part("a"), end("b")], [Ok(Text("ab"))]),
        row("5.4", "a text in three", [text_part("a"), part("b"), end("c")], [Ok(Text("abc"))]),
        row("5.5", "bytes in two", [binary_part("a"), end("b")], [Ok(Binary(b"ab"))]),
        row("5.6", "a ping inside", [text_part("a"), ping("p"), end("b")], [Ok(Ping(b"p")), Ok(Text("ab"))]),
        row("5.7", "a pong inside", [text_part("a"), pong("p"), end("b")], [Ok(Pong(b"p")), Ok(Text("ab"))]),
        row("5.8", "pings everywhere", [text_part("a"), ping("1"), part("b"), ping("2"), pong("3"), end("c")], {
            [Ok(Ping(b"1")), Ok(Ping(b"2")), Ok(Pong(b"3")), Ok(Text("abc"))]
        }),
        row("5.9", "an end without beginning", [end("a"), text("b")], [Err(NothingToContinue)]),
        row("5.10", "a middle without beginning", [part("a"), end("b")], [Err(NothingToContinue)]),
        row("5.11", "an end behind a whole text", [text("a"), end("b"), text("c")], {
            [Ok(Text("a")), Err(NothingToContinue)]
        }),
        row("5.12", "a middle behind a whole text", [text("a"), part("b")], [Ok(Text("a")), Err(NothingToContinue)]),
        row("5.13", "an end behind an end", [text_part("a"), end("b"), end("c")], {
            [Ok(Text("ab")), Err(NothingToContinue)]
        }),
        row("5.14", "an end behind a ping", [ping("a"), end("b")], [Ok(Ping(b"a")), Err(NothingToContinue)]),
        row("5.15", "a text inside a text", [text_part("a"), text("b")], [Err(MessageNotEnded)]),
        row("5.16", "bytes inside a text", [text_part("a"), binary("b")], [Err(MessageNotEnded)]),
        row("5.17", "a text inside bytes", [binary_part("a"), text("b")], [Err(MessageNotEnded)]),
        row("5.18", "a text that begins inside a text", [text_part("a"), text_part("b"), end("c")], {
            [Err(MessageNotEnded)]
        }),
        row("5.19", "a text behind the middle of another", [text_part("a"), part("b"), text("c")], {
            [Err(MessageNotEnded)]
        }),
        row("5.20", "a ping, then a text inside a text", [text_part("a"), ping("p"), text("b")], {
            [Ok(Ping(b"p")), Err(MessageNotEnded)]
        }),
        row("5.21", "a message that never ends", [text_part("a"), part("b"), part("c")], []),
        row("5.22", "two messages in fragments", [text_part("a"), end("b"), binary_part("c"), end("d")], {
            [Ok(Text("ab")), Ok(Binary(b"cd"))]
        }),
        row("5.23", "all fragments empty", [text_part(""), part(""), end("")], [Ok(Text(""))]),
        row("5.24", "empty around a letter", [text_part(""), part("a"), end("")], [Ok(Text("a"))]),
        row("5.25", "empty bytes", [binary_part(""), end("")], [Ok(Binary(b""))]),
        row("5.26", "an empty beginning", [binary_part(""), end("abc")], [Ok(Binary(b"abc"))]),
        row("5.27", "an empty end", [binary_part("abc"), end("")], [Ok(Binary(b"abc"))]),
        row(
            "5.28",
            "eight letters in eight fragments",
            {
                letters().enumerate().map(|(at, letter)| match at {
                    0 => text_part(letter),
                    7 => end(letter),
                    _ => part(letter),
                })
            },
            [Ok(Text("abcdefgh"))],
        ),
        row("5.29", "a close inside a message", [text_part("a"), close(1000, "bye"), end("b")], {
            [saw_close(1000, "bye")]
        }),
        row("5.30", "an empty ping inside", [binary_part("a"), ping(""), end("b")], [Ok(Ping(b"")), Ok(Binary(b"ab"))]),
        row("5.31", "a long ping inside", [text_part("a"), ping(many(125)), end("b")], {
            [Ok(Ping(many(125).as_bytes())), Ok(Text("ab"))]
        }),
        row(
            "5.32",
            "masks that differ",
            [masked_frame(0x01, b"one ", [1, 2, 3, 4]), masked_frame(0x80, b"two", [9, 8, 7, 6])],
            [Ok(Text("one two"))],
        ),
    ];
    for (at, size) in [1000, 1300, 4095, 16_384, 65_535].into_iter().enumerate() {
        let mut pieces: Vec<Vec<u8>> = long.as_bytes().chunks(size).map(part).collect();
        pieces[0][0] = 0x01;
        pieces.push(end(""));
        rows.push(row(format!("10.1.{at}"), format!("64 KiB in fragments of {size}"), pieces, [Ok(Text(long))]));
    }
    rows
}

#[test]
fn a_message_begins_with_its_first_byte_and_ends_with_its_last() {
    let mut framer = WsFramer::default();
    let mut scratch = Vec::new();
    for (bytes, is_partial) in [
        (vec![], false),
        (text_part("a"), true),
        (ping("b"), true),
        (part("c"), true),
        (end("d"), false),
        (text("e"), false),
        (vec![0x89], true),
        (vec![0x80, 1, 2, 3, 4], false),
    ] {
        _ = framer.next(&mut &bytes[..], &mut scratch, &OFF, 0).unwrap();
        assert_eq!(framer.is_partial(), is_partial, "{bytes:02x?}");
    }
}
