//! Compressed messages of clients.

use flate2::{Decompress, FlushDecompress, Status};

/// What output begins with.
const STEP_BYTES: usize = 1024;

/// Why a message could not be inflated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum InflateError {
    /// It is not what its first bytes say, or is cut short, or something follows it.
    Malformed,
    /// It has more bytes than are kept, and not more than any message may have.
    NotKept,
    /// It has more bytes than any message may have.
    TooLarge,
}

/// How a binary message is packed, by its first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Packing {
    Gzip,
    Zlib,
}

impl Packing {
    /// `None`: it is not.
    pub(super) fn of(message: &[u8]) -> Option<Self> {
        match message {
            [0x1f, 0x8b, ..] => Some(Self::Gzip),
            [0x78, 0x01 | 0x5e | 0x9c | 0xda, ..] => Some(Self::Zlib),
            _ => None,
        }
    }

    /// Inflates a whole message. What goes beyond `keep_bytes` is counted and forgotten, and nothing is inflated beyond
    /// `max_bytes`: so a client makes the server hold no more than `keep_bytes`, for the time of this call.
    ///
    /// # Errors
    ///
    /// As soon as the message cannot be taken.
    pub(super) fn inflate(self, message: &[u8], keep_bytes: usize, max_bytes: usize) -> Result<Vec<u8>, InflateError> {
        let mut stream = match self {
            Self::Gzip => Decompress::new_gzip(15),
            Self::Zlib => Decompress::new(true),
        };
        let mut out = Vec::new();
        let mut forgotten = 0;
        loop {
            if out.len() == out.capacity() {
                if out.len() > keep_bytes {
                    forgotten += out.len();
                    out.clear();
                } else {
                    // One byte more than is kept: whoever stays below it has not gone beyond.
                    let next = out.capacity().saturating_mul(4).max(STEP_BYTES);
                    out.reserve_exact(next.min(keep_bytes.saturating_add(1)).max(out.len() + 1) - out.len());
                }
            }
            let used = stream.total_in();
            let written = out.len();
            let rest = message.get(used as usize..).unwrap_or_default();
            let status = stream.decompress_vec(rest, &mut out, FlushDecompress::None);
            if forgotten + out.len() > max_bytes {
                return Err(InflateError::TooLarge);
            }
            match status {
                Ok(Status::StreamEnd) => break,
                Ok(_) if stream.total_in() > used || out.len() > written => {}
                _ => return Err(InflateError::Malformed),
            }
        }
        if stream.total_in() != message.len() as u64 {
            return Err(InflateError::Malformed);
        }
        if forgotten > 0 || out.len() > keep_bytes { Err(InflateError::NotKept) } else { Ok(out) }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::Compression;
    use flate2::write::{GzEncoder, ZlibEncoder};
    use proptest::prelude::*;

    use super::*;

    fn packed(packing: Packing, data: &[u8]) -> Vec<u8> {
        match packing {
            Packing::Gzip => {
                let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
                encoder.write_all(data).unwrap();
                encoder.finish().unwrap()
            }
            Packing::Zlib => {
                let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
                encoder.write_all(data).unwrap();
                encoder.finish().unwrap()
            }
        }
    }

    #[test]
    fn fault_row_3_inflating_stops_at_the_limit_and_keeps_no_more_than_it_should() {
        for packing in [Packing::Gzip, Packing::Zlib] {
            let inflate = |len| {
                let data = vec![b'x'; len];
                packing.inflate(&packed(packing, &data), 4096, 65_536).map(|out| {
                    assert!(out.capacity() <= 4097, "{}", out.capacity());
                    out.len()
                })
            };
            assert_eq!(inflate(0), Ok(0));
            assert_eq!(inflate(4096), Ok(4096));
            assert_eq!(inflate(4097), Err(InflateError::NotKept));
            assert_eq!(inflate(65_536), Err(InflateError::NotKept));
            assert_eq!(inflate(65_537), Err(InflateError::TooLarge));
            assert_eq!(inflate(50_000_000), Err(InflateError::TooLarge));
        }
    }

    #[test]
    fn what_is_cut_short_or_goes_on_or_is_damaged_is_refused() {
        for packing in [Packing::Gzip, Packing::Zlib] {
            let whole = packed(packing, br#"{"type":3}"#);
            assert_eq!(Packing::of(&whole), Some(packing));
            for end in 0..whole.len() {
                assert_eq!(packing.inflate(&whole[..end], 4096, 4096), Err(InflateError::Malformed), "{end}");
            }
            let mut longer = whole.clone();
            longer.push(0);
            assert_eq!(packing.inflate(&longer, 4096, 4096), Err(InflateError::Malformed));
            let mut damaged = whole;
            // Its checksum.
            let at = damaged.len() - 5;
            damaged[at] ^= 1;
            assert_eq!(packing.inflate(&damaged, 4096, 4096), Err(InflateError::Malformed));
        }
        assert_eq!(Packing::of(b"{}"), None);
        assert_eq!(Packing::of(b"x"), None);
    }

    proptest! {
        #[test]
        fn what_was_packed_comes_back(data in proptest::collection::vec(any::<u8>(), 0..10_000), gzip in any::<bool>()) {
            let packing = if gzip { Packing::Gzip } else { Packing::Zlib };
            prop_assert_eq!(packing.inflate(&packed(packing, &data), 10_000, 10_000), Ok(data));
        }

        #[test]
        fn anything_may_come(data in proptest::collection::vec(any::<u8>(), 0..200)) {
            for (packing, head) in [(Packing::Gzip, &[0x1f, 0x8b, 8, 0][..]), (Packing::Zlib, &[0x78, 0x9c])] {
                let _ = packing.inflate(&[head, &data].concat(), 100, 1000);
            }
        }
    }
}
