//! Group 6: UTF-8.

use super::*;
use WsError::NotUtf8;
use WsFrame::{Binary, Ping, Text};

/// Text that is UTF-8. Numbers follow Autobahn's, where it has the same.
const VALID: &[(&str, &[&str])] = &[
    ("6.2", &["Hello-µ@ßöäüàá-UTF-8!!", "κόσμε", "日本語", "🙂 🏳️‍🌈"]),
    ("6.7", &["\0", "\u{80}", "\u{800}", "\u{10000}"]),
    ("6.9", &["\u{7f}", "\u{7ff}", "\u{ffff}", "\u{10ffff}"]),
    ("6.11", &["\u{d7ff}", "\u{e000}", "\u{fffd}", "\u{10ffff}"]),
    (
        "6.22",
        &[
            "\u{fffe}",
            "\u{ffff}",
            "\u{1fffe}",
            "\u{1ffff}",
            "\u{2fffe}",
            "\u{2ffff}",
            "\u{3fffe}",
            "\u{3ffff}",
            "\u{4fffe}",
            "\u{4ffff}",
            "\u{5fffe}",
            "\u{5ffff}",
            "\u{6fffe}",
            "\u{6ffff}",
            "\u{7fffe}",
            "\u{7ffff}",
            "\u{8fffe}",
            "\u{8ffff}",
            "\u{9fffe}",
            "\u{9ffff}",
            "\u{afffe}",
            "\u{affff}",
            "\u{bfffe}",
            "\u{bffff}",
            "\u{cfffe}",
            "\u{cffff}",
            "\u{dfffe}",
            "\u{dffff}",
            "\u{efffe}",
            "\u{effff}",
            "\u{ffffe}",
            "\u{fffff}",
            "\u{10fffe}",
            "\u{10ffff}",
        ],
    ),
    ("6.23", &["\u{fff9}", "\u{fffa}", "\u{fffb}", "\u{fffc}", "\u{fffd}", "\u{feff}", "a\u{feff}b"]),
];

/// Text that is not UTF-8, and is known not to be only with its end: a character is incomplete.
const CUT_SHORT: &[(&str, &[&[u8]])] = &[
    (
        "6.6",
        &[
            b"\xce",
            b"\xce\xba\xe1",
            b"\xce\xba\xe1\xbd",
            b"\xce\xba\xe1\xbd\xb9\xcf",
            b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce",
            b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce",
        ],
    ),
    ("6.14", &[b"\xdf", b"\xef\xbf", b"\xef", b"\xf3\xbf\xbf", b"\xf3\xbf", b"\xf3", b"ab\xe2\x82"]),
];

type Wrong = (&'static [u8], usize);

/// Text that is not UTF-8. The number is that of the byte from which it is known.
const INVALID: &[(&str, &[Wrong])] = &[
    (
        "6.3",
        &[
            (b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80edited", 13),
            (b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xf4\x90\x80\x80edited", 13),
        ],
    ),
    ("6.8", &[(b"\xf8\x88\x80\x80\x80", 1), (b"\xfc\x84\x80\x80\x80\x80", 1)]),
    ("6.10", &[(b"\xf7\xbf\xbf\xbf", 1), (b"\xfb\xbf\xbf\xbf\xbf", 1), (b"\xfd\xbf\xbf\xbf\xbf\xbf", 1)]),
    ("6.11.5", &[(b"\xf4\x90\x80\x80", 2), (b"\xf5\x80\x80\x80", 1)]),
    (
        "6.12",
        &[
            (b"\x80", 1),
            (b"\xbf", 1),
            (b"\x80\xbf", 1),
            (b"\x80\xbf\x80", 1),
            (b"\x80\xbf\x80\xbf", 1),
            (b"\x80\xbf\x80\xbf\x80", 1),
            (b"\x80\xbf\x80\xbf\x80\xbf", 1),
            (b"a\x9f", 2),
            (b"\xc3\xa4\xa4", 3),
        ],
    ),
    (
        "6.13",
        &[
            (b"\xc0 \xc1 \xc2 ", 1),
            (b"\xc2 ", 2),
            (b"\xe0 ", 2),
            (b"\xef ", 2),
            (b"\xf0 ", 2),
            (b"\xf4 ", 2),
            (b"\xf8 \xf9 \xfa \xfb ", 1),
            (b"\xfc \xfd ", 1),
        ],
    ),
    (
        "6.14.8",
        &[
            (b"\xc0", 1),
            (b"\xe0\x80", 2),
            (b"\xf0\x80\x80", 2),
            (b"\xf8\x80\x80\x80", 1),
            (b"\xfc\x80\x80\x80\x80", 1),
            (b"\xf7\xbf\xbf", 1),
            (b"\xfb\xbf\xbf\xbf", 1),
            (b"\xfd\xbf\xbf\xbf\xbf", 1),
        ],
    ),
    ("6.15", &[(b"\xdf\xef\xbf\xf3\xbf\xbf", 2), (b"\xe2\x82\xe2\x82\xac", 3)]),
    ("6.16", &[(b"\xfe", 1), (b"\xff", 1), (b"\xfe\xfe\xff\xff", 1)]),
    (
        "6.17",
        &[
            (b"\xc0\xaf", 1),
            (b"\xe0\x80\xaf", 2),
            (b"\xf0\x80\x80\xaf", 2),
            (b"\xf8\x80\x80\x80\xaf", 1),
            (b"\xfc\x80\x80\x80\x80\xaf", 1),
        ],
    ),
    (
        "6.18",
        &[
            (b"\xc1\xbf", 1),
            (b"\xe0\x9f\xbf", 2),
            (b"\xf0\x8f\xbf\xbf", 2),
            (b"\xf8\x87\xbf\xbf\xbf", 1),
            (b"\xfc\x83\xbf\xbf\xbf\xbf", 1),
        ],
    ),
    (
        "6.19",
        &[
            (b"\xc0\x80", 1),
            (b"\xe0\x80\x80", 2),
            (b"\xf0\x80\x80\x80", 2),
            (b"\xf8\x80\x80\x80\x80", 1),
            (b"\xfc\x80\x80\x80\x80\x80", 1),
        ],
    ),
    (
        "6.20",
        &[
            (b"\xed\xa0\x80", 2),
            (b"\xed\xad\xbf", 2),
            (b"\xed\xae\x80", 2),
            (b"\xed\xaf\xbf", 2),
            (b"\xed\xb0\x80", 2),
            (b"\xed\xbe\x80", 2),
            (b"\xed\xbf\xbf", 2),
        ],
    ),
    (
        "6.21",
        &[
            (b"\xed\xa0\x80\xed\xb0\x80", 2),
            (b"\xed\xa0\x80\xed\xbf\xbf", 2),
            (b"\xed\xad\xbf\xed\xb0\x80", 2),
            (b"\xed\xad\xbf\xed\xbf\xbf", 2),
            (b"\xed\xae\x80\xed\xb0\x80", 2),
            (b"\xed\xae\x80\xed\xbf\xbf", 2),
            (b"\xed\xaf\xbf\xed\xb0\x80", 2),
            (b"\xed\xaf\xbf\xed\xbf\xbf", 2),
        ],
    ),
];

pub(super) fn rows() -> Vec<Row> {
    let mut rows = vec![
        row("6.1.1", "an empty text", [text("")], [Ok(Text(""))]),
        row("6.1.2", "empty fragments", [text_part(""), part(""), end("")], [Ok(Text(""))]),
        row("6.1.3", "one of them not empty", [text_part(""), part("middle"), end("")], [Ok(Text("middle"))]),
        row("6.4.1", "wrong in the first of two fragments", [text_part(b"a\xff"), end("b")], [Err(NotUtf8)]),
        row("6.4.2", "wrong in the second", [text_part("a"), end(b"b\xff")], [Err(NotUtf8)]),
        row("6.4.3", "a character over two fragments", [text_part(b"\xce"), end(b"\xba")], [Ok(Text("κ"))]),
        row(
            "6.4.4",
            "over four, with a ping inside",
            [text_part(b"\xf0"), part(b"\x9f"), ping("p"), part(b"\x99"), end(b"\x82")],
            [Ok(Ping(b"p")), Ok(Text("🙂"))],
        ),
        row("6.4.5", "over an empty fragment", [text_part(b"\xce"), part(""), end(b"\xba")], [Ok(Text("κ"))]),
        row("6.4.6", "a character that the next fragment does not end", [text_part(b"\xce"), end("a")], {
            [Err(NotUtf8)]
        }),
        row("6.4.7", "a character that no fragment ends", [text_part(b"a\xe1\xbd"), end("")], [Err(NotUtf8)]),
        row("6.4.8", "a surrogate over two fragments", [text_part(b"\xed"), end(b"\xa0\x80")], [Err(NotUtf8)]),
        row("6.4.9", "a wrong text, then a ping inside", [text_part(b"\xff"), ping("p"), end("")], [Err(NotUtf8)]),
        row("6.5.1", "bytes need not be text", [binary(b"\xff\xfe\xed\xa0\x80")], {
            [Ok(Binary(b"\xff\xfe\xed\xa0\x80"))]
        }),
        row("6.5.2", "nor in fragments", [binary_part(b"\xff"), end(b"\xce")], [Ok(Binary(b"\xff\xce"))]),
        row("6.5.3", "nor in a ping", [ping(b"\xff")], [Ok(Ping(b"\xff"))]),
    ];
    for (group, texts) in VALID {
        for (at, payload) in texts.iter().enumerate() {
            let what = format!("{payload:?}");
            rows.push(row(format!("{group}.v{at}"), what, [text(payload)], [Ok(Text(payload))]));
        }
    }
    let cut_short = CUT_SHORT.iter().flat_map(|(group, texts)| texts.iter().map(move |text| (group, *text)));
    let invalid = INVALID.iter().flat_map(|(group, texts)| texts.iter().map(move |(text, _)| (group, *text)));
    for (at, (group, payload)) in cut_short.chain(invalid).enumerate() {
        let what = format!("{payload:02x?}");
        rows.push(row(format!("{group}.i{at}"), what, [text(payload), ping("never seen")], [Err(NotUtf8)]));
    }
    rows
}

/// Feeds a frame's bytes one by one; how many of the payload it took until the text was refused.
fn refused_after(frame: &[u8], head_len: usize) -> Option<usize> {
    let mut framer = WsFramer::default();
    let mut scratch = Vec::new();
    frame.iter().enumerate().find_map(|(at, byte)| {
        let refused = framer.next(&mut &[*byte][..], &mut scratch, &OFF, 0) == Err(NotUtf8);
        refused.then(|| at + 1 - head_len)
    })
}

#[test]
fn fault_row_5_a_wrong_byte_is_refused_when_it_comes_and_not_at_the_end() {
    for (payload, at) in INVALID.iter().flat_map(|(_, texts)| texts.iter()) {
        let long = [payload, many(200).as_bytes()].concat();
        assert_eq!(refused_after(&text(&long), 8), Some(*at), "{payload:02x?}");
    }
    for payload in CUT_SHORT.iter().flat_map(|(_, texts)| texts.iter()) {
        assert_eq!(refused_after(&text(payload), 6), Some(payload.len()), "{payload:02x?}");
        let long = [payload, many(200).as_bytes()].concat();
        assert_eq!(refused_after(&text(&long), 8), Some(payload.len() + 1), "{payload:02x?}");
    }
}

#[test]
fn fault_row_5_text_that_is_not_utf8_is_refused_wherever_it_is_fragmented() {
    for (payload, _) in INVALID.iter().flat_map(|(_, texts)| texts.iter()) {
        for cut in 0..=payload.len() {
            let (one, two) = payload.split_at(cut);
            let row = row("6", format!("{one:02x?} {two:02x?}"), [text_part(one), end(two)], [Err(NotUtf8)]);
            row.play([&row.input[..]], "in one piece");
            row.play(row.input.chunks(1), "byte by byte");
        }
    }
}

#[test]
fn text_is_the_same_wherever_it_is_fragmented() {
    for payload in VALID.iter().flat_map(|(_, texts)| texts.iter()) {
        for cut in 0..=payload.len() {
            let (one, two) = payload.as_bytes().split_at(cut);
            let row = row("6", *payload, [text_part(one), end(two)], [Ok(Text(payload))]);
            row.play([&row.input[..]], "in one piece");
            row.play(row.input.chunks(1), "byte by byte");
        }
    }
}
