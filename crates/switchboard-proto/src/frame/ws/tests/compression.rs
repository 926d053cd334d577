//! Group 12: compressed messages.

use flate2::{Compress, Compression, FlushCompress};

use super::*;
use WsError::{MalformedDeflate, NotUtf8, NothingToContinue, ReservedBit, TooLarge};
use WsFrame::{Binary, Ping, Text};

/// `payload` as a client compresses it that keeps no window between messages.
pub(super) fn deflated(payload: impl AsRef<[u8]>, level: u32, window_bits: u8) -> Vec<u8> {
    let mut compress = Compress::new_with_window_bits(Compression::new(level), false, window_bits);
    let payload = payload.as_ref();
    let mut out = Vec::with_capacity(payload.len() * 2 + 64);
    compress.compress_vec(payload, &mut out, FlushCompress::Sync).unwrap();
    assert_eq!(compress.total_in() as usize, payload.len());
    assert!(out.len() < out.capacity() && out.ends_with(&[0, 0, 0xff, 0xff]));
    out.truncate(out.len() - 4);
    out
}

fn hex(digits: &str) -> Vec<u8> {
    let digits: Vec<u8> = digits.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

/// A whole compressed text.
fn text_z(payload: impl AsRef<[u8]>) -> Vec<u8> {
    frame(0xc1, payload)
}

/// A message in frames of `size` bytes, the first of which begins with `first`.
pub(super) fn fragmented(first: u8, payload: &[u8], size: usize) -> Vec<u8> {
    let mut frames: Vec<Vec<u8>> = payload.chunks(size).map(part).collect();
    frames[0][0] = first;
    frames.last_mut().unwrap()[0] |= 0x80;
    frames.concat()
}

pub(super) fn rows() -> Vec<Row> {
    let mut rows = [of_the_rfc(), of_other_compressors(), of_every_size(), refused(), sizes()];
    let rows = rows.iter_mut().flat_map(std::mem::take);
    rows.map(Row::deflate)
        .chain([row("12.6.1", "nothing was negotiated", [text_z("\0")], [Err(ReservedBit)])])
        .collect()
}

/// Section 7.2.3.
fn of_the_rfc() -> Vec<Row> {
    let hello = hex("f2 48 cd c9 c9 07 00");
    let hello_twice = [hello.clone(), hello.clone()];
    vec![
        row("12.1.1", "one block", [text_z(&hello)], [Ok(Text("Hello"))]),
        row("12.1.2", "in two fragments", [frame(0x41, &hello[..3]), end(&hello[3..])], [Ok(Text("Hello"))]),
        row("12.1.3", "twice, each on its own", hello_twice.map(text_z), [Ok(Text("Hello")), Ok(Text("Hello"))]),
        row("12.1.4", "not compressed", [text_z(hex("00 05 00 fa ff 48 65 6c 6c 6f 00"))], [Ok(Text("Hello"))]),
        row("12.1.5", "the last block", [text_z(hex("f3 48 cd c9 c9 07 00 00"))], [Ok(Text("Hello"))]),
        row("12.1.6", "two blocks", [text_z(hex("f2 48 05 00 00 00 ff ff ca c9 c9 07 00"))], [Ok(Text("Hello"))]),
        row("12.1.7", "an empty message", [text_z(hex("00"))], [Ok(Text(""))]),
        row("12.1.8", "in the window of the message before", [text_z(&hello), text_z(hex("f2 00 11 00 00"))], {
            [Ok(Text("Hello")), Err(MalformedDeflate)]
        }),
        row("12.1.9", "a ping inside", [frame(0x41, &hello[..3]), ping("a"), end(&hello[3..])], {
            [Ok(Ping(b"a")), Ok(Text("Hello"))]
        }),
        row("12.1.10", "one that is not compressed", [text_z(&hello), text("a"), text_z(&hello)], {
            [Ok(Text("Hello")), Ok(Text("a")), Ok(Text("Hello"))]
        }),
        row("12.1.11", "empty fragments", [frame(0x41, ""), part(""), part(&hello), part(""), end("")], {
            [Ok(Text("Hello"))]
        }),
        row("12.1.12", "bytes", [frame(0xc2, &hello)], [Ok(Binary(b"Hello"))]),
    ]
}

/// What zlib 1.3 makes of one text under several strategies.
fn of_other_compressors() -> Vec<Row> {
    const TEXT: &str = r#"{"room":"lobby","message":"hi hi hi 🙂","n":[1,1,1,1,1,1,1]}"#;
    let fixed = "aa562acacfcf55b252cac94f4aaa54d251ca4d2d2e4e4c4f058a64642a40d087f9339b8032794a56d1863a4830b61600";
    let stored = hex(&format!("003e00c1ff {} 00", TEXT.bytes().map(|byte| format!("{byte:02x}")).collect::<String>()));
    vec![
        row("12.2.1", "stored", [text_z(stored)], [Ok(Text(TEXT))]),
        row("12.2.2", "fixed codes", [text_z(hex(fixed))], [Ok(Text(TEXT))]),
        row(
            "12.2.3",
            "codes without distances",
            {
                [text_z(hex(
                    "aa562acacfcf55b252cac94f4aaa54d251ca4d2d2e4e4c4f55b252cac854c8c854c8c854f8307f6693928e529e9255b4a18ea18e\
                 a18ea18ea18ea18e616c2d00",
                ))]
            },
            [Ok(Text(TEXT))],
        ),
        row(
            "12.2.4",
            "filtered",
            {
                [text_z(hex(
                    "aa562acacfcf55b252cac94f4aaa54d251ca4d2d2e4e4c4f55b252cac85480a00ff3673629e928e52959451bea20c1d85a0000",
                ))]
            },
            [Ok(Text(TEXT))],
        ),
        row(
            "12.2.5",
            "flushed in the middle",
            {
                [text_z(hex(
                    "aa562acacfcf55b252cac94f4aaa54d251ca4d2d2e06000000ffff4a4c4f058a64642a40d087f9339b947400000000ffff52ca53\
                 b28a36d44182b1b50000",
                ))]
            },
            [Ok(Text(TEXT))],
        ),
        row(
            "12.2.6",
            "begun anew in the middle",
            {
                [text_z(hex(
                    "aa562acacfcf55b252cac94f4aaa54d251ca4d2d2e06000000ffff4a4c4f55b252cac85480a00ff3673629e900000000ffff52ca\
                 53b28a36d44182b1b50000",
                ))]
            },
            [Ok(Text(TEXT))],
        ),
    ]
}

/// Something like JSON, which compresses well and needs codes of its own.
pub(super) fn prose(len: usize) -> &'static str {
    let mut text = String::new();
    for number in 0u32.. {
        if text.len() >= len {
            break;
        }
        text += &format!("{{\"from\":\"{:08x}\",\"n\":{number}}} ", number.wrapping_mul(2_654_435_761));
    }
    text.truncate(len);
    text.leak()
}

fn of_every_size() -> Vec<Row> {
    let mut rows = Vec::new();
    for (at, len) in [1, 16, 64, 256, 1024, 4096, 8192, 16_384, 32_768, 65_536, 131_072].into_iter().enumerate() {
        let text = prose(len);
        for level in [0, 1, 6, 9] {
            let id = format!("12.3.{at}.{level}");
            let whole = text_z(deflated(text, level, 15));
            rows.push(row(id, format!("{len} bytes, level {level}"), [whole], [Ok(Text(text))]));
        }
        for (window_bits, size) in [(9, 64), (12, 256), (15, 1024)] {
            let id = format!("12.4.{at}.{window_bits}");
            let what = format!("{len} bytes, window of {window_bits} bits, in fragments of {size}");
            let frames = fragmented(0x42, &deflated(text, 6, window_bits), size);
            rows.push(row(id, what, [frames], [Ok(Binary(text.as_bytes()))]));
        }
    }
    rows
}

fn refused() -> Vec<Row> {
    let hello = hex("f2 48 cd c9 c9 07 00");
    let last = hex("f3 48 cd c9 c9 07 00");
    let long = deflated(prose(10_000), 6, 15);
    let not_text = deflated(b"a\xff", 6, 15);
    vec![
        row("12.5.1", "on a continuation", [frame(0x41, &hello[..3]), frame(0xc0, &hello[3..])], [Err(ReservedBit)]),
        row("12.5.2", "on a ping", [frame(0xc9, "a")], [Err(ReservedBit)]),
        row("12.5.3", "on a pong", [frame(0xca, "a")], [Err(ReservedBit)]),
        row("12.5.4", "on a close", [frame(0xc8, "")], [Err(ReservedBit)]),
        row("12.5.5", "with another bit", [frame(0xe1, &hello)], [Err(ReservedBit)]),
        row("12.5.6", "another bit alone", [frame(0xa1, &hello)], [Err(ReservedBit)]),
        row("12.5.7", "on the middle of what is not compressed", [text_part("a"), frame(0xc0, &hello)], {
            [Err(ReservedBit)]
        }),
        row("12.5.8", "a compressed end without beginning", [end(&hello)], [Err(NothingToContinue)]),
        row("12.5.9", "a kind of block that does not exist", [text_z("\x06")], [Err(MalformedDeflate)]),
        row("12.5.10", "lengths that disagree", [text_z(hex("00 05 00 fa fe 48 65 6c 6c 6f 00"))], {
            [Err(MalformedDeflate)]
        }),
        row("12.5.11", "back beyond the beginning", [text_z(hex("f2 00 11 00 00"))], [Err(MalformedDeflate)]),
        row("12.5.12", "cut short", [text_z(&hello[..4])], [Err(MalformedDeflate)]),
        row("12.5.13", "cut short by a byte", [text_z(&long[..long.len() - 1])], [Err(MalformedDeflate)]),
        row("12.5.14", "cut in half", [text_z(&long[..long.len() / 2])], [Err(MalformedDeflate)]),
        row("12.5.15", "a stored block cut short", [text_z(hex("00 05 00 fa ff 48 65"))], [Err(MalformedDeflate)]),
        row("12.5.16", "what is not compressed at all", [text_z("Hello, world")], [Err(MalformedDeflate)]),
        row("12.5.17", "with the tail that is to be cut", [text_z([&hello[..], &[0, 0, 0xff, 0xff]].concat())], {
            [Err(MalformedDeflate)]
        }),
        row("12.5.18", "nothing at all", [text_z("")], [Ok(Text(""))]),
        row("12.5.19", "nothing behind the last block", [text_z(&last)], [Ok(Text("Hello"))]),
        row("12.5.20", "two last blocks", [text_z([&last[..], &last, &[0]].concat())], [Ok(Text("HelloHello"))]),
        row("12.5.21", "garbage behind the last block", [text_z([&last[..], &[0xff]].concat())], {
            [Err(MalformedDeflate)]
        }),
        row("12.5.22", "not UTF-8 inside", [text_z(&not_text)], [Err(NotUtf8)]),
        row("12.5.23", "bytes need not be", [frame(0xc2, &not_text)], [Ok(Binary(b"a\xff"))]),
        row("12.5.24", "a character that is cut short", [text_z(deflated(b"a\xce", 6, 15))], [Err(NotUtf8)]),
        row(
            "12.5.25",
            "a character over two fragments",
            [frame(0x41, hex("00 01 00 fe ff ce")), { end(hex("00 01 00 fe ff ba 00")) }],
            [Ok(Text("κ"))],
        ),
    ]
}

/// What is too long is refused as that, whatever else is wrong.
fn sizes() -> Vec<Row> {
    let zeros = |len: usize| "\0".repeat(len).leak() as &'static str;
    let limits = |max_message_bytes| WsLimits { max_message_bytes, ..OFF };
    let z = |payload: &str| text_z(deflated(payload, 6, 15));
    let stored = |payload: &str| text_z(deflated(payload, 0, 15));
    let wrong_then_long = [&b"\xff"[..], &[b'a'; 5000]].concat();
    let long_then_wrong = [&[b'a'; 5000][..], b"\xff"].concat();
    vec![
        row("12.7.1", "just as long as allowed", [z(zeros(5000))], [Ok(Text(zeros(5000)))]).limits(limits(5000)),
        row("12.7.2", "a byte longer", [z(zeros(5001))], [Err(TooLarge)]).limits(limits(5000)),
        row("12.7.3", "much longer", [z(zeros(1 << 20)), ping("")], [Err(TooLarge)]).limits(limits(5000)),
        row("12.7.4", "stored, as long as allowed", [stored(many(5000))], [Ok(Text(many(5000)))]).limits(limits(5000)),
        row("12.7.5", "stored, a byte longer", [stored(many(5001))], [Err(TooLarge)]).limits(limits(5000)),
        row("12.7.6", "longer when compressed than any message may be", [frame(0x41, many(6000))], [Err(TooLarge)])
            .limits(limits(5000)),
        row(
            "12.7.7",
            "that, in fragments",
            {
                let empty: Vec<u8> = hex("00 00 00 ff ff").repeat(1400);
                [fragmented(0x41, &empty, 100)]
            },
            [Err(TooLarge)],
        )
        .limits(limits(5000)),
        row("12.7.8", "wrong, then too long", [text_z(deflated(wrong_then_long, 6, 15))], [Err(TooLarge)])
            .limits(limits(5000)),
        row("12.7.9", "too long, then wrong", [text_z(deflated(long_then_wrong, 6, 15))], [Err(TooLarge)])
            .limits(limits(5000)),
        row("12.7.10", "nothing is allowed", [z("a")], [Err(TooLarge)]).limits(limits(0)),
        row("12.7.11", "nothing is allowed, and nothing comes", [z("")], [Ok(Text(""))]).limits(limits(0)),
        row("12.7.12", "no limit at all", [z(zeros(100_000))], [Ok(Text(zeros(100_000)))]).limits(limits(usize::MAX)),
    ]
}

/// A frame of the server's as a client would send it.
pub(super) fn as_clients(frame: &[u8]) -> Vec<u8> {
    let head_len = match frame[1] {
        126 => 4,
        127 => 10,
        _ => 2,
    };
    let mut bytes = frame[..head_len].to_vec();
    bytes[1] |= 0x80;
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(&frame[head_len..]);
    bytes
}

#[test]
fn what_the_server_compresses_is_read_back() {
    let mut deflater = deflate::Deflater::default();
    let mut scratch = Vec::new();
    for len in [0, 1, 5, 100, 125, 126, 1000, 1024, 4096, 65_535, 65_536, 200_000] {
        for text in [prose(len), many(len)] {
            let mut shared = b"before".to_vec();
            deflater.write_message(&mut shared, MessageKind::Text, text.as_bytes());
            let mut alone = Vec::new();
            deflate::compress(&mut alone, MessageKind::Text, text.as_bytes());
            assert_eq!(shared[6..], alone, "what came before leaves no trace");
            assert!(len < 100 || alone.len() < len, "{len}: {}", alone.len());
            let bytes = as_clients(&alone);
            let got = WsFramer::with_deflate().next(&mut &bytes[..], &mut scratch, &OFF, 0);
            assert_eq!(got, Ok(Some(Text(text))));
        }
    }
}

#[test]
fn bytes_that_cannot_be_compressed_grow_by_little() {
    let mut seed = 7u64;
    let noise: Vec<u8> = std::iter::repeat_with(|| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (seed >> 56) as u8
    })
    .take(100_000)
    .collect();
    let mut out = Vec::new();
    deflate::compress(&mut out, MessageKind::Binary, &noise);
    assert!(out.len() < noise.len() + 200, "{}", out.len());
    let mut scratch = Vec::new();
    let got = WsFramer::with_deflate().next(&mut &as_clients(&out)[..], &mut scratch, &OFF, 0);
    assert_eq!(got, Ok(Some(Binary(&noise))));
}
