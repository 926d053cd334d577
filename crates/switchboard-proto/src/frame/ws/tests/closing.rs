//! Group 7: closing.

use super::*;
use WsError::{FragmentedControl, LongControl, MalformedClose, NotUtf8};
use WsFrame::{Ping, Text};

pub(super) fn rows() -> Vec<Row> {
    let long = many(123);
    let mut rows = vec![
        row("7.1.1", "a text, then a close", [text("a"), close(1000, "")], [Ok(Text("a")), saw_close(1000, "")]),
        row("7.1.2", "two closes", [close(1000, ""), close(1000, "")], [saw_close(1000, "")]),
        row("7.1.3", "a ping behind a close", [close(1000, ""), ping("a")], [saw_close(1000, "")]),
        row("7.1.4", "a text behind a close", [close(1000, ""), text("a")], [saw_close(1000, "")]),
        row("7.1.5", "a message that a close cuts off", [text_part("a"), close(1000, ""), end("b")], {
            [saw_close(1000, "")]
        }),
        row("7.1.6", "64 KiB, a close, a ping", [text(many(65_536)), close(1000, ""), ping("")], {
            [Ok(Text(many(65_536))), saw_close(1000, "")]
        }),
        row("7.1.7", "a ping, then a close", [ping("a"), close(1000, "")], [Ok(Ping(b"a")), saw_close(1000, "")]),
        row("7.1.8", "garbage behind a close", [close(1000, ""), vec![0xff; 64]], [saw_close(1000, "")]),
        row("7.3.1", "nothing said", [frame(0x88, "")], [Ok(WsFrame::Close { code: None, reason: "" })]),
        row("7.3.2", "half a code", [frame(0x88, "\x03")], [Err(MalformedClose)]),
        row("7.3.3", "a code alone", [close(1000, "")], [saw_close(1000, "")]),
        row("7.3.4", "a code and a reason", [close(1000, "Hello World!")], [saw_close(1000, "Hello World!")]),
        row("7.3.5", "the longest reason", [close(1000, long)], [saw_close(1000, long)]),
        row("7.3.6", "a longer one", [close(1000, many(124))], [Err(LongControl)]),
        row("7.3.7", "in two fragments", [frame(0x08, "\x03"), end("\u{68}")], [Err(FragmentedControl)]),
        row("7.5.1", "a reason that is not UTF-8", [close(1000, b"\xce\xba\xe1\xbd\xb9\xed\xa0\x80")], [Err(NotUtf8)]),
        row("7.5.2", "a reason that ends in a character", [close(1000, b"abc\xce")], [Err(NotUtf8)]),
        row("7.5.3", "a reason in many letters", [close(1001, "κόσμε 🙂")], [saw_close(1001, "κόσμε 🙂")]),
        row("7.5.4", "wrong code and wrong reason", [close(1005, b"\xff")], [Err(MalformedClose)]),
        row("7.13.1", "a code beyond all ranges", [close(5000, "")], [Err(MalformedClose)]),
        row("7.13.2", "the greatest of codes", [close(65_535, "")], [Err(MalformedClose)]),
    ];
    let valid =
        [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3001, 3999, 4000, 4001, 4999];
    for code in valid {
        rows.push(row(format!("7.7.{code}"), "a code to be sent", [close(code, "a")], [saw_close(code, "a")]));
    }
    let refused = [0, 1, 255, 999, 1004, 1005, 1006, 1015, 1016, 1099, 1100, 2000, 2999, 5000, 10_000, 65_535];
    for code in refused {
        rows.push(row(format!("7.9.{code}"), "a code not to be sent", [close(code, "a")], [Err(MalformedClose)]));
    }
    rows
}

#[test]
fn every_refusal_has_a_code_that_may_be_sent_and_a_text_that_fits() {
    use WsError::*;
    for (error, code) in [
        (Unmasked, 1002),
        (ReservedBit, 1002),
        (ReservedOpcode, 1002),
        (FragmentedControl, 1002),
        (LongControl, 1002),
        (MalformedLength, 1002),
        (NothingToContinue, 1002),
        (MessageNotEnded, 1002),
        (MalformedClose, 1002),
        (NotUtf8, 1007),
        (MalformedDeflate, 1007),
        (TooManyFragments, 1008),
        (TooManyControls, 1008),
        (TooLarge, 1009),
    ] {
        assert_eq!(error.close_code(), code, "{error:?}");
        assert!(super::super::close::is_valid_code(code));
        assert!(error.to_string().len() <= 123);
    }
}
