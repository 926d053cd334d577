//! Compression of what a client is sent.

use std::io::Read as _;

use flate2::{Decompress, FlushDecompress};

use super::*;
use crate::talk::server_frames;

/// The messages of a conversation with events, registration first.
fn conversation(opening: Opening) -> Vec<(u8, Vec<u8>)> {
    let mut talk = open_with(opening, |_| {});
    talk.send(&client_frame(0x81, br#"{"type":1,"d":{"public_key":"k"}}"#));
    talk.outcome(outcome("began 0 of 1").unwrap());
    talk.outcome(events(1..=20, false));
    talk.send(&client_frame(0x81, br#"{"type":3}"#));
    talk.send(&client_frame(0x81, b"nonsense"));
    let bytes = std::mem::take(&mut talk.fx.bytes);
    server_frames(&bytes)
}

fn in_plain() -> Vec<Vec<u8>> {
    let messages = conversation(Opening::default());
    assert!(messages.iter().all(|(first, _)| *first == 0x81));
    assert_eq!(messages.len(), 23);
    messages.into_iter().map(|(_, json)| json).collect()
}

#[test]
fn what_the_handshake_agreed_on_is_used_where_it_helps() {
    let frames = conversation(Opening { deflate: true, ..Opening::default() });
    let unpacked: Vec<_> = frames
        .iter()
        .zip(in_plain())
        .map(|((first, payload), plain)| match first {
            0x81 => {
                assert!(plain.len() < 100, "{}", plain.len());
                payload.clone()
            }
            first => {
                assert!(*first == 0xc1 && payload.len() < plain.len());
                let mut text = Vec::with_capacity(10_000);
                let tail = [payload, &[0, 0, 0xff, 0xff][..]].concat();
                Decompress::new(false).decompress_vec(&tail, &mut text, FlushDecompress::Sync).unwrap();
                text
            }
        })
        .collect();
    assert_eq!(unpacked, in_plain());
    assert_eq!(frames[0].0, 0xc1);
}

#[test]
fn each_message_may_be_a_zlib_stream() {
    let packed = conversation(plain(Compress::Zlib));
    let unpacked: Vec<_> = packed
        .iter()
        .map(|(first, packed)| {
            assert_eq!((*first, &packed[..2]), (0x82, &[0x78, 0x9c][..]));
            let mut json = Vec::new();
            flate2::read::ZlibDecoder::new(&packed[..]).read_to_end(&mut json).unwrap();
            json
        })
        .collect();
    assert_eq!(unpacked, in_plain());
}

#[test]
fn all_messages_may_be_one_zlib_stream() {
    let packed = conversation(plain(Compress::ZlibStream));
    let mut stream = Decompress::new(true);
    let unpacked: Vec<_> = packed
        .iter()
        .map(|(first, packed)| {
            assert!(*first == 0x82 && packed.ends_with(&[0, 0, 0xff, 0xff]));
            let mut json = Vec::with_capacity(10_000);
            stream.decompress_vec(packed, &mut json, FlushDecompress::Sync).unwrap();
            json
        })
        .collect();
    assert_eq!(unpacked, in_plain());
    let bytes = |messages: &[(u8, Vec<u8>)]| messages.iter().map(|(_, message)| message.len()).sum::<usize>();
    assert!(bytes(&packed) * 2 < bytes(&conversation(plain(Compress::Zlib))), "what was said before helps");
}

#[test]
fn all_messages_may_be_one_zstd_frame() {
    let packed = conversation(plain(Compress::ZstdStream));
    let mut all = Vec::new();
    let mut decoder = zstd::stream::write::Decoder::new(Vec::new()).unwrap();
    for ((first, packed), json) in packed.iter().zip(in_plain()) {
        assert_eq!(*first, 0x82);
        std::io::Write::write_all(&mut decoder, packed).unwrap();
        std::io::Write::flush(&mut decoder).unwrap();
        all.extend_from_slice(&json);
        // Each can be read as soon as it is there.
        assert_eq!(decoder.get_ref(), &all);
    }
}

#[test]
fn large_messages_are_packed_whole() {
    let mut state = 1_u64;
    let text: String = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        char::from(b' ' + (state >> 33) as u8 % 0x5a)
    })
    .take(200_000)
    .collect();
    for compress in [Compress::Zlib, Compress::ZlibStream, Compress::ZstdStream] {
        let mut coding = Coding::new(compress, false, &Streams::new(1)).unwrap();
        let mut out = b"before".to_vec();
        for _ in 0..3 {
            coding.message(&mut out, |out| out.extend_from_slice(text.as_bytes()));
        }
        let mut stream = Decompress::new(true);
        let mut zstd = zstd::stream::write::Decoder::new(Vec::new()).unwrap();
        for (_, packed) in server_frames(&out[6..]) {
            let mut json = Vec::with_capacity(text.len() + 1);
            match compress {
                Compress::ZstdStream => {
                    std::io::Write::write_all(&mut zstd, &packed).unwrap();
                    std::io::Write::flush(&mut zstd).unwrap();
                    json = std::mem::take(zstd.get_mut());
                }
                Compress::Zlib => {
                    flate2::read::ZlibDecoder::new(&packed[..]).read_to_end(&mut json).unwrap();
                }
                _ => drop(stream.decompress_vec(&packed, &mut json, FlushDecompress::Sync).unwrap()),
            }
            assert!(json == text.as_bytes(), "{compress:?}");
        }
    }
}

#[test]
fn who_asks_for_it_with_his_registration_has_zlib_from_the_answer_on() {
    let mut talk = open();
    talk.send(&client_frame(0x81, br#"{"type":1,"d":{"public_key":"k","encode":true}}"#));
    talk.outcome(outcome("taken").unwrap());
    assert!(talk.received().starts_with("{\"type\":2"), "there is no session");
    talk.send(&client_frame(0x81, br#"{"type":1,"d":{"public_key":"k","encode":true}}"#));
    talk.outcome(outcome("began 0 of 1").unwrap());
    talk.outcome(events(1..=1, false));
    talk.send(&client_frame(0x81, br#"{"type":3}"#));
    let received = talk.received();
    assert!(received.lines().all(|line| line.starts_with("(zlib) {")), "{received}");
    // One who has chosen already keeps what he chose.
    let mut talk = open_with(plain(Compress::ZlibStream), |_| {});
    talk.send(&client_frame(0x81, br#"{"type":1,"d":{"public_key":"k","encode":true}}"#));
    talk.outcome(outcome("began 0 of 1").unwrap());
    let bytes = std::mem::take(&mut talk.fx.bytes);
    assert!(server_frames(&bytes)[0].1.ends_with(&[0, 0, 0xff, 0xff]));
}

#[test]
fn the_query_outweighs_the_mode() {
    let mut talk = open_with(Opening { compress: Some(Compress::None), ..header_mode() }, |_| {});
    talk.outcome(outcome("checked").unwrap());
    assert!(talk.received().starts_with("{\"type\":1"));
}

#[test]
fn messages_may_come_packed_in_any_mix() {
    use std::io::Write as _;
    let ping = br#"{"type":3}"#;
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gzip.write_all(ping).unwrap();
    let mut zlib = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
    zlib.write_all(ping).unwrap();
    let mut talk = registered();
    for (first, message) in
        [(0x82, gzip.finish().unwrap()), (0x81, ping.to_vec()), (0x82, zlib.finish().unwrap()), (0x82, ping.to_vec())]
    {
        talk.send(&client_frame(first, &message));
        assert_eq!(talk.received(), format!("{}\n", answer::PING));
    }
}
