//! Rows 1 to 5 of the table of faults, as far as one case cannot show them.

use super::compression::deflated;
use super::*;

/// Bytes that a framer holds in buffers that grow.
fn held(framer: &WsFramer) -> usize {
    framer.partial.as_ref().map_or(0, |partial| size_of::<Partial>() + partial.buffered_bytes())
}

/// Feeds a framer the same bytes again and again; what it holds at most, and what ended it after how many times.
fn flood(framer: &mut WsFramer, limits: &WsLimits, bytes: &[u8], times: usize) -> (usize, Option<(usize, WsError)>) {
    let mut scratch = Vec::new();
    let mut most = 0;
    for time in 0..times {
        let mut input = bytes;
        while !input.is_empty() {
            if let Err(error) = framer.next(&mut input, &mut scratch, limits, 0) {
                return (most, Some((time, error)));
            }
            most = most.max(held(framer) + scratch.capacity());
        }
    }
    (most, None)
}

#[test]
fn fault_row_1_random_bytes_end_with_one_refusal_and_no_more_than_the_limit() {
    let limits = WsLimits { max_message_bytes: 4096, max_fragments: 16, control_per_second: 8 };
    let mut seed = 1u64;
    let mut random = || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) as u32
    };
    for round in 0..2000 {
        let mut bytes: Vec<u8> = (0..random() % 300).map(|_| random() as u8).collect();
        if round % 2 == 0 && bytes.len() > 2 {
            // A head that is accepted more often.
            bytes[0] = [0x81, 0x02, 0xc1, 0x89, 0x88, 0x41][round / 2 % 6];
            bytes[1] |= 0x80;
        }
        let mut framer = WsFramer::with_deflate();
        let mut scratch = Vec::new();
        let mut errors = 0;
        for piece in bytes.chunks(1 + random() as usize % 20) {
            let mut input = piece;
            while !input.is_empty() {
                errors += usize::from(framer.next(&mut input, &mut scratch, &limits, 0).is_err());
            }
            assert!(held(&framer) <= 4096 + 1024);
        }
        assert!(errors <= 1, "{bytes:02x?}");
    }
}

#[test]
fn fault_row_2_nothing_is_allocated_for_what_a_head_announces() {
    let mut scratch = Vec::new();
    for len in [1u64 << 20, 1 << 40, i64::MAX as u64, 1 << 63, u64::MAX] {
        for first in [0x81, 0x02, 0xc2] {
            let head = [&[first, 0xff][..], &len.to_be_bytes(), &[0; 4]].concat();
            let mut framer = WsFramer::with_deflate();
            let error = framer.next(&mut &head[..], &mut scratch, &WsLimits::default(), 0).unwrap_err();
            assert!(matches!(error, WsError::TooLarge | WsError::MalformedLength), "{error:?}");
            assert_eq!(held(&framer) + scratch.capacity(), 0);
        }
    }
    // Where it is allowed, memory comes with the bytes.
    let limits = WsLimits { max_message_bytes: usize::MAX, ..WsLimits::default() };
    let head = [&[0x82, 0xff][..], &(1u64 << 40).to_be_bytes(), &[0; 4]].concat();
    let mut framer = WsFramer::default();
    assert_eq!(framer.next(&mut &head[..], &mut scratch, &limits, 0), Ok(None));
    assert!(held(&framer) <= 512, "{}", held(&framer));
    assert_eq!(framer.next(&mut &[0; 1000][..], &mut scratch, &limits, 0), Ok(None));
    assert!(held(&framer) <= 2512, "{}", held(&framer));
}

#[test]
fn fault_row_3_a_bomb_stops_at_the_limit() {
    let bomb = deflated(vec![b' '; 16 << 20], 9, 15);
    assert!(bomb.len() < (16 << 20) / 1000);
    for max_message_bytes in [0, 1, 4 * 1024, 64 * 1024, 1 << 20] {
        let limits = WsLimits { max_message_bytes, ..WsLimits::default() };
        // All at once it is refused by its size where it has more bytes than the longest message; in small frames never.
        for size in [bomb.len(), 64] {
            for piece in [1 << 20, 100] {
                let bytes = compression::fragmented(0x41, &bomb, size);
                let mut framer = WsFramer::with_deflate();
                let mut scratch = Vec::new();
                let mut most = 0;
                let refused = bytes.chunks(piece).any(|mut input| {
                    let refused = framer.next(&mut input, &mut scratch, &limits, 0) == Err(WsError::TooLarge);
                    most = most.max(held(&framer) + scratch.capacity());
                    refused
                });
                assert!(refused);
                // With the inflater's 48 KiB, and what the client has sent, that is no more than 64 KiB beyond.
                assert!(most <= max_message_bytes + 2 * bomb.len() + 512, "{most} of {max_message_bytes}");
            }
        }
    }
}

#[test]
fn fault_row_4_a_million_small_frames_are_refused_and_cost_nothing() {
    const MILLION: usize = 1_000_000;
    let limits = WsLimits::default();
    for bytes in [part("a"), part(""), ping(""), ping("a"), pong("a")] {
        let mut framer = WsFramer::default();
        let (most, _) = flood(&mut framer, &limits, &text_part(""), 1);
        assert!(most < 1024);
        let (most, ended) = flood(&mut framer, &limits, &bytes, MILLION);
        let (times, error) = ended.unwrap();
        assert_eq!(error.close_code(), 1008);
        assert!(times <= 1024 && most <= 4096, "{times} times, {most} bytes");
    }
}

#[test]
fn fault_row_4_without_limits_small_frames_cost_no_more_than_their_payload() {
    const MILLION: usize = 1_000_000;
    let limits = WsLimits { max_message_bytes: 1000, max_fragments: 0, control_per_second: 0 };
    for (bytes, refused) in
        [(part("a"), Some((1000, WsError::TooLarge))), (part(""), None), (ping(""), None), (pong("a"), None)]
    {
        let mut framer = WsFramer::default();
        flood(&mut framer, &limits, &text_part(""), 1);
        let (most, ended) = flood(&mut framer, &limits, &bytes, MILLION);
        assert_eq!(ended, refused);
        assert!(most <= 2048, "{most}");
    }
}
