//! Unmasking: RFC 6455, section 5.3.

/// Appends `payload` to `out`, unmasked. The mask begins with its byte `phase % 4`.
pub(super) fn unmask_onto(out: &mut Vec<u8>, payload: &[u8], mask: [u8; 4], phase: usize) {
    let start = out.len();
    out.extend_from_slice(payload);
    apply(&mut out[start..], mask, phase);
}

/// Masks or unmasks `bytes` in place. The mask begins with its byte `phase % 4`.
pub(super) fn apply(bytes: &mut [u8], mut mask: [u8; 4], phase: usize) {
    mask.rotate_left(phase % 4);
    let [a, b, c, d] = mask;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    // Whole words at a time: the compiler makes vector instructions of this.
    let (words, rest) = bytes.as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ wide).to_ne_bytes();
    }
    for (byte, mask) in rest.iter_mut().zip([a, b, c, d, a, b, c]) {
        *byte ^= mask;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_meets_its_byte_of_the_mask() {
        let mask = [0x11, 0x22, 0x44, 0x88];
        for len in 0..70 {
            for phase in 0..9 {
                let payload: Vec<u8> = (0..len).collect();
                let mut out = vec![7];
                unmask_onto(&mut out, &payload, mask, phase);
                let expected: Vec<u8> =
                    payload.iter().enumerate().map(|(at, byte)| byte ^ mask[(at + phase) % 4]).collect();
                assert_eq!(out[1..], expected, "{len} bytes from {phase}");
                apply(&mut out[1..], mask, phase);
                assert_eq!(out[1..], payload);
            }
        }
    }
}
