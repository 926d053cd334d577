//! Group 9: sizes, counts and rates.

use super::*;
use WsError::{TooLarge, TooManyControls, TooManyFragments};
use WsFrame::{Binary, Ping, Pong, Text};

pub(super) fn rows() -> Vec<Row> {
    let bytes = |max_message_bytes| WsLimits { max_message_bytes, ..OFF };
    let fragments = |max_fragments| WsLimits { max_fragments, ..OFF };
    let rate = |control_per_second| WsLimits { control_per_second, ..OFF };
    let announced = |len: u64| [&[0x82, 0xff][..], &len.to_be_bytes(), &[0; 4]].concat();
    let three = || [text_part("a"), part("b"), end("c")];
    let mut rows = vec![
        row("9.1.1", "as long as allowed", [text("12345")], [Ok(Text("12345"))]).limits(bytes(5)),
        row("9.1.2", "a byte longer", [text("123456"), ping("")], [Err(TooLarge)]).limits(bytes(5)),
        row("9.1.3", "in fragments, as long as allowed", [text_part("123"), end("45")], [Ok(Text("12345"))])
            .limits(bytes(5)),
        row("9.1.4", "in fragments, a byte longer", [text_part("123"), end("456")], [Err(TooLarge)]).limits(bytes(5)),
        row(
            "9.1.5",
            "each on its own",
            [binary("12345"), binary("67890")],
            [Ok(Binary(b"12345")), Ok(Binary(b"67890"))],
        )
        .limits(bytes(5)),
        row("9.1.6", "a ping may be longer than a message", [ping("123456")], [Ok(Ping(b"123456"))]).limits(bytes(5)),
        row("9.1.7", "nothing but empty messages", [text(""), text("a")], [Ok(Text("")), Err(TooLarge)])
            .limits(bytes(0)),
        row("9.1.8", "no limit", [text(many(70_000))], [Ok(Text(many(70_000)))]).limits(bytes(usize::MAX)),
        row("9.1.9", "refused before its payload", [announced(1 << 40)], [Err(TooLarge)]),
        row("9.1.10", "the longest of lengths", [announced(i64::MAX as u64)], [Err(TooLarge)]),
        row("9.1.11", "refused within a message", [binary_part("a"), frame(0x80, many(126))[..8].to_vec()], {
            [Err(TooLarge)]
        })
        .limits(bytes(126)),
        row("9.2.1", "as many as allowed", three(), [Ok(Text("abc"))]).limits(fragments(3)),
        row("9.2.2", "one more", three(), [Err(TooManyFragments)]).limits(fragments(2)),
        row("9.2.3", "empty ones count", [text_part(""), part(""), part("")], [Err(TooManyFragments)])
            .limits(fragments(2)),
        row("9.2.4", "the last one counts", [text_part(""), end("")], [Err(TooManyFragments)]).limits(fragments(1)),
        row("9.2.5", "pings do not", [text_part("a"), ping(""), ping(""), end("b")], {
            [Ok(Ping(b"")), Ok(Ping(b"")), Ok(Text("ab"))]
        })
        .limits(fragments(2)),
        row("9.2.6", "each message on its own", [three(), three()].concat(), [Ok(Text("abc")), Ok(Text("abc"))])
            .limits(fragments(3)),
        row("9.3.1", "as many pings as allowed", [ping("1"), ping("2")], [Ok(Ping(b"1")), Ok(Ping(b"2"))])
            .limits(rate(2)),
        row("9.3.2", "one more", [ping("1"), ping("2"), ping("3")], {
            [Ok(Ping(b"1")), Ok(Ping(b"2")), Err(TooManyControls)]
        })
        .limits(rate(2)),
        row("9.3.3", "pongs count", [pong("1"), ping("2"), pong("3")], {
            [Ok(Pong(b"1")), Ok(Ping(b"2")), Err(TooManyControls)]
        })
        .limits(rate(2)),
        row("9.3.4", "messages do not", [ping("1"), text("2"), text("3"), ping("4")], {
            [Ok(Ping(b"1")), Ok(Text("2")), Ok(Text("3")), Ok(Ping(b"4"))]
        })
        .limits(rate(2)),
        row("9.3.5", "a close does not", [ping("1"), close(1000, "")], [Ok(Ping(b"1")), saw_close(1000, "")])
            .limits(rate(1)),
    ];
    for (at, len) in [1 << 16, 1 << 17, 1 << 18].into_iter().enumerate() {
        let payload = many(len);
        rows.push(row(format!("9.4.{at}"), format!("{len} bytes"), [text(payload)], [Ok(Text(payload))]));
        let in_fragments = compression::fragmented(0x02, payload.as_bytes(), 4096);
        let expected = [Ok(Binary(payload.as_bytes()))];
        rows.push(row(format!("9.5.{at}"), format!("{len} bytes in fragments"), [in_fragments], expected));
        rows.push(
            row(format!("9.6.{at}"), "and one byte more", [text_part(payload), end("a")], [Err(TooLarge)])
                .limits(bytes(len)),
        );
    }
    rows
}

#[test]
fn pings_come_back_with_time() {
    let limits = WsLimits { control_per_second: 4, ..OFF };
    let mut framer = WsFramer::default();
    let mut scratch = Vec::new();
    let ping = ping("a");
    let mut refused_at = |start: u64, step: u64, upto: u64| {
        let mut moments = (0..upto).map(|at| start + at * step);
        moments.find(|now| framer.next(&mut &ping[..], &mut scratch, &limits, *now).is_err())
    };
    // At their rate they may come for ever, and a burst of a second's worth once it has been quiet for a second.
    assert_eq!(refused_at(1000, 250, 1000), None);
    assert_eq!(refused_at(260_000, 0, 4), None);
    assert_eq!(refused_at(260_250, 250, 1000), None);
    assert_eq!(refused_at(520_000, 0, 4), None);
    assert_eq!(refused_at(520_249, 0, 1), Some(520_249));
}

#[test]
fn a_rate_of_any_size_is_kept() {
    for rate in [1, 2, 3, 7, 60, 999, 1000, 1_000_000] {
        let mut controls = ControlRate::default();
        let admitted = (0..rate + 10).filter(|_| controls.admit(rate, 5)).count();
        assert_eq!(admitted, rate as usize);
        assert!(controls.admit(rate, 1005));
    }
    assert!(ControlRate::default().admit(u32::MAX, u64::MAX));
}
