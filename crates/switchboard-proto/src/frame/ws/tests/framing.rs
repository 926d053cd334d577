//! Groups 1 to 4 and 8: framing, pings and pongs, reserved bits, opcodes, heads.

use super::*;
use WsError::{FragmentedControl, LongControl, MalformedLength, ReservedBit, ReservedOpcode, Unmasked};
use WsFrame::{Binary, Ping, Pong, Text};

pub(super) fn rows() -> Vec<Row> {
    [sizes(), pings(), reserved_bits(), opcodes(), heads()].into_iter().flatten().collect()
}

fn sizes() -> Vec<Row> {
    let mut rows = Vec::new();
    for (at, len) in [0, 1, 124, 125, 126, 127, 128, 65_534, 65_535, 65_536, 65_537].into_iter().enumerate() {
        let payload = many(len);
        rows.push(row(format!("1.1.{at}"), format!("a text of {len} bytes"), [text(payload)], [Ok(Text(payload))]));
        let expected = [Ok(Binary(payload.as_bytes()))];
        rows.push(row(format!("1.2.{at}"), format!("{len} bytes"), [binary(payload)], expected));
    }
    rows
}

fn pings() -> Vec<Row> {
    const BYTES: &[u8] = b"\x00\xff\xfe\xfd\xfc\xfb\x00\xff";
    let long = many(125);
    let ten = || (0..10).map(|_| ping("payload"));
    vec![
        row("2.1", "a ping without payload", [ping("")], [Ok(Ping(b""))]),
        row("2.2", "a ping with text", [ping("Hello, world!")], [Ok(Ping(b"Hello, world!"))]),
        row("2.3", "a ping with bytes that are no text", [ping(BYTES)], [Ok(Ping(BYTES))]),
        row("2.4", "a ping of 125 bytes", [ping(long)], [Ok(Ping(long.as_bytes()))]),
        row("2.5", "a ping of 126 bytes", [ping(many(126)), ping("")], [Err(LongControl)]),
        row("2.6", "a ping of 65,536 bytes", [ping(many(65_536))], [Err(LongControl)]),
        row("2.7", "a pong that nobody asked for", [pong("")], [Ok(Pong(b""))]),
        row("2.8", "the same with payload", [pong("unsolicited")], [Ok(Pong(b"unsolicited"))]),
        row("2.9", "a pong, then a ping", [pong("one"), ping("two")], [Ok(Pong(b"one")), Ok(Ping(b"two"))]),
        row("2.10", "ten pings", ten(), (0..10).map(|_| Ok(Ping(b"payload")))),
        row("2.11", "a pong of 126 bytes", [pong(many(126))], [Err(LongControl)]),
        row("2.12", "a pong of 125 bytes", [pong(long)], [Ok(Pong(long.as_bytes()))]),
        row("2.13", "a ping in a fragment", [frame(0x09, "a"), end("b")], [Err(FragmentedControl)]),
        row("2.14", "a pong in a fragment", [frame(0x0a, "a"), end("b")], [Err(FragmentedControl)]),
        row("2.15", "a ping between texts", [text("a"), ping("b"), text("c")], {
            [Ok(Text("a")), Ok(Ping(b"b")), Ok(Text("c"))]
        }),
    ]
}

fn reserved_bits() -> Vec<Row> {
    let mut rows = vec![
        row("3.1", "what was complete before counts", [text("a"), frame(0x91, "b"), ping("c")], {
            [Ok(Text("a")), Err(ReservedBit)]
        }),
        row("3.2", "in the middle of a message", [text_part("a"), frame(0xa0, "b")], [Err(ReservedBit)]),
        row("3.3", "behind a ping", [ping("a"), frame(0xc9, "b")], [Ok(Ping(b"a")), Err(ReservedBit)]),
    ];
    for bits in 1..=7u8 {
        for (opcode, name) in [(1, "text"), (2, "binary"), (8, "close"), (9, "ping"), (10, "pong")] {
            let frames = [frame(0x80 | bits << 4 | opcode, ""), text("never seen")];
            rows.push(row(format!("3.{bits}.{opcode}"), format!("bits {bits:03b} on {name}"), frames, {
                [Err(ReservedBit)]
            }));
        }
        let frames = [text_part("a"), frame(0x80 | bits << 4, "b")];
        rows.push(row(format!("3.{bits}.0"), format!("bits {bits:03b} on a continuation"), frames, [Err(ReservedBit)]));
    }
    rows
}

fn opcodes() -> Vec<Row> {
    let mut rows = Vec::new();
    for opcode in [3, 4, 5, 6, 7, 11, 12, 13, 14, 15] {
        let refused = frame(0x80 | opcode, "a");
        rows.push(row(format!("4.1.{opcode}"), "alone", [refused.clone()], [Err(ReservedOpcode)]));
        rows.push(row(format!("4.2.{opcode}"), "between texts", [text("a"), refused.clone(), text("b")], {
            [Ok(Text("a")), Err(ReservedOpcode)]
        }));
        rows.push(row(format!("4.3.{opcode}"), "in a message", [text_part("a"), refused], [Err(ReservedOpcode)]));
    }
    rows
}

/// What Autobahn cannot send: heads that no client writes.
fn heads() -> Vec<Row> {
    let masked = |first: u8, len: &[u8]| [&[first], len, &[0; 4]].concat();
    vec![
        row("8.1.1", "a text without mask", [vec![0x81, 0x01, b'a']], [Err(Unmasked)]),
        row("8.1.2", "no bytes, no mask", [vec![0x81, 0x00]], [Err(Unmasked)]),
        row("8.1.3", "a ping without mask", [vec![0x89, 0x00]], [Err(Unmasked)]),
        row("8.1.4", "a close without mask", [vec![0x88, 0x02, 0x03, 0xe8]], [Err(Unmasked)]),
        row("8.1.5", "a second fragment without mask", [text_part("a"), vec![0x80, 0x01, b'b']], [Err(Unmasked)]),
        row("8.1.6", "126 bytes without mask", [vec![0x82, 126, 0, 126]], [Err(Unmasked)]),
        row("8.1.7", "a mask of zeros", [masked_frame(0x81, b"abc", [0; 4])], [Ok(Text("abc"))]),
        row("8.1.8", "a mask of ones", [masked_frame(0x81, b"abc", [0xff; 4])], [Ok(Text("abc"))]),
        row("8.1.9", "masks that differ", [1, 2, 3].map(|mask| masked_frame(0x82, b"12345", [mask, 0, 1, mask])), {
            [Ok(Binary(b"12345")); 3]
        }),
        row("8.2.1", "0 in two bytes", [masked(0x82, &[0xfe, 0, 0])], [Err(MalformedLength)]),
        row("8.2.2", "125 in two bytes", [masked(0x82, &[0xfe, 0, 125])], [Err(MalformedLength)]),
        row("8.2.3", "0 in eight bytes", [masked(0x82, &[0xff, 0, 0, 0, 0, 0, 0, 0, 0])], [Err(MalformedLength)]),
        row("8.2.4", "126 in eight bytes", [masked(0x82, &[0xff, 0, 0, 0, 0, 0, 0, 0, 126])], [Err(MalformedLength)]),
        row("8.2.5", "65,535 in eight bytes", [masked(0x82, &[0xff, 0, 0, 0, 0, 0, 0, 0xff, 0xff])], {
            [Err(MalformedLength)]
        }),
        row("8.2.6", "2^63", [masked(0x82, &[0xff, 0x80, 0, 0, 0, 0, 0, 0, 0])], [Err(MalformedLength)]),
        row("8.2.7", "2^64 - 1", [masked(0x82, &[0xff; 9])], [Err(MalformedLength)]),
        row("8.2.8", "a ping whose length takes two bytes", [masked(0x89, &[0xfe, 0, 5])], [Err(LongControl)]),
        row("8.2.9", "a ping whose length takes eight", [masked(0x89, &[0xff, 0, 0, 0, 0, 0, 0, 0, 5])], {
            [Err(LongControl)]
        }),
        row("8.3.1", "half a head", [vec![0x81]], []),
        row("8.3.2", "a head without payload", [frame(0x81, "abc")[..6].to_vec()], []),
        row("8.3.3", "a payload that does not end", [frame(0x81, "abc")[..8].to_vec()], []),
        row("8.3.4", "a complete one and half of another", [text("a"), frame(0x82, "b")[..3].to_vec()], {
            [Ok(Text("a"))]
        }),
    ]
}

#[test]
fn a_head_is_refused_as_soon_as_its_first_two_bytes_are_there() {
    for (head, error) in [
        ([0x91, 0x80], ReservedBit),
        ([0x83, 0x80], ReservedOpcode),
        ([0x09, 0x80], FragmentedControl),
        ([0x89, 0xfe], LongControl),
        ([0x82, 0x7f], Unmasked),
    ] {
        let mut scratch = Vec::new();
        assert_eq!(WsFramer::default().next(&mut &head[..], &mut scratch, &OFF, 0), Err(error));
    }
}

#[test]
fn after_an_end_everything_is_swallowed() {
    for end in [close(1000, ""), frame(0x83, "")] {
        let mut framer = WsFramer::default();
        let mut scratch = Vec::new();
        _ = framer.next(&mut &end[..], &mut scratch, &OFF, 0);
        for more in [text("a"), vec![0x81], ping("b"), vec![0xff; 100]] {
            let mut input = &more[..];
            assert_eq!(framer.next(&mut input, &mut scratch, &OFF, 0), Ok(None));
            assert!(input.is_empty() && !framer.is_partial());
        }
    }
}
