//! Bytes as hexadecimal digits.

/// The bytes that exactly these digits are; upper and lower case are the same.
pub(crate) fn bytes<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits = text.as_bytes();
    if digits.len() != 2 * N {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let digit = |digit: u8| char::from(digit).to_digit(16);
        *byte = (digit(pair[0])? * 16 + digit(pair[1])?) as u8;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exactly_so_many_digits_are_bytes() {
        assert_eq!(bytes("00fF1a"), Some([0, 255, 26]));
        assert_eq!(bytes(""), Some([]));
        for text in ["00", "000", "0g00", "+100", " 000", "00ä", "000000"] {
            assert_eq!(bytes::<2>(text), None, "{text}");
        }
    }
}
